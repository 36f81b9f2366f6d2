"""Settings of skymap_parser."""

from pydantic import Field

from shared.settings import Section, ServiceSettings

NAME = "skymap_parser"


class SkymapParserSection(Section):
    """What is made of a map beside its product."""

    pictures: bool = Field(True, description="Draw an all-sky picture of every map (a third of a second of one core).")


class SkymapParserSettings(ServiceSettings):
    """Everything skymap_parser reads from its environment."""

    skymap_parser: SkymapParserSection = SkymapParserSection()
