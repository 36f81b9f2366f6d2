"""`python -m services.coincidence`: run the service."""

from services.coincidence.service import define
from services.coincidence.settings import CoincidenceSettings
from shared.runner import run
from shared.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(CoincidenceSettings)
    run(define(settings), settings)
