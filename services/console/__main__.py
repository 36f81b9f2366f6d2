"""`python -m services.console`: run the service."""

if __name__ == "__main__":
    # Worker processes that compute import this module as well, under another name, and need none of this.
    from services.console.service import define
    from services.console.settings import ConsoleSettings
    from shared.runner import run
    from shared.settings import read_settings

    settings = read_settings(ConsoleSettings)
    run(define(settings), settings)
