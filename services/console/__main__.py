"""`python -m services.console`: run the service."""

from services.console.service import define
from services.console.settings import ConsoleSettings
from shared.runner import run
from shared.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(ConsoleSettings)
    run(define(settings), settings)
