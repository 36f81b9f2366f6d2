"""`python -m services.notifier`: run the service."""

if __name__ == "__main__":
    # Worker processes that compute import this module as well, under another name, and need none of this.
    from services.notifier.service import define
    from services.notifier.settings import NotifierSettings
    from shared.runner import run
    from shared.settings import read_settings

    settings = read_settings(NotifierSettings)
    run(define(settings), settings)
