"""Settings of skymap_parser."""

from shared.settings import ServiceSettings

NAME = "skymap_parser"


class SkymapParserSettings(ServiceSettings):
    """skymap_parser has no settings of its own: what an alert's map must be like is not a matter of taste."""
