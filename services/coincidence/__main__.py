"""`python -m services.coincidence`: run the service."""

if __name__ == "__main__":
    # Worker processes that compute import this module as well, under another name, and need none of this.
    from services.coincidence.service import define
    from services.coincidence.settings import CoincidenceSettings
    from shared.runner import run
    from shared.settings import read_settings

    settings = read_settings(CoincidenceSettings)
    run(define(settings), settings)
