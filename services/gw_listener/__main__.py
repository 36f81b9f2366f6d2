"""`python -m services.gw_listener`: run the service."""

if __name__ == "__main__":
    # Worker processes that compute import this module as well, under another name, and need none of this.
    from services.gw_listener.service import define
    from services.gw_listener.settings import GwListenerSettings
    from shared.runner import run
    from shared.settings import read_settings

    settings = read_settings(GwListenerSettings)
    run(define(settings), settings)
