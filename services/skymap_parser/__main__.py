"""`python -m services.skymap_parser`: run the service."""

from services.skymap_parser.service import define
from services.skymap_parser.settings import SkymapParserSettings
from shared.runner import run
from shared.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(SkymapParserSettings)
    run(define(settings), settings)
