"""`python -m services.skymap_parser`: run the service."""

if __name__ == "__main__":
    # Worker processes that compute import this module as well, under another name, and need none of this.
    from services.skymap_parser.service import define
    from services.skymap_parser.settings import SkymapParserSettings
    from shared.runner import run
    from shared.settings import read_settings

    settings = read_settings(SkymapParserSettings)
    run(define(settings), settings)
