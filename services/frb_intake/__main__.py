"""`python -m services.frb_intake`: run the service."""

from services.frb_intake.service import define
from services.frb_intake.settings import FrbIntakeSettings
from shared.runner import run
from shared.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(FrbIntakeSettings)
    run(define(settings), settings)
