"""`python -m services.gw_listener`: run the service."""

from services.gw_listener.service import define
from services.gw_listener.settings import GwListenerSettings
from shared.runner import run

if __name__ == "__main__":
    settings = GwListenerSettings()
    run(define(settings), settings)
