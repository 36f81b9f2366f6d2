"""`python -m services.frb_intake`: run the service."""

if __name__ == "__main__":
    # Worker processes that compute import this module as well, under another name, and need none of this.
    from services.frb_intake.service import define
    from services.frb_intake.settings import FrbIntakeSettings
    from shared.runner import run
    from shared.settings import read_settings

    settings = read_settings(FrbIntakeSettings)
    run(define(settings), settings)
