"""`python -m services.notifier`: run the service."""

from services.notifier.service import define
from services.notifier.settings import NotifierSettings
from shared.runner import run
from shared.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(NotifierSettings)
    run(define(settings), settings)
