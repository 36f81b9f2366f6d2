"""`python -m services.gw_listener`: run the service."""

from services.gw_listener.service import define
from services.gw_listener.settings import GwListenerSettings
from shared.runner import run
from shared.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(GwListenerSettings)
    run(define(settings), settings)
