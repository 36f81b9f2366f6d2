"""axe-core finds no serious fault on any page, light or dark, wide or on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import PHONE, Visit
from tests.support.console_pages import PAGES, KnownPage, look_at

AXE = Path(__file__).parents[3] / ".local" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}
ALL_RULES = "{resultTypes: ['violations']}"
# The rest does not change with the colours, or with the size.
CONTRAST = "{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}"
ROOM = "{resultTypes: ['violations'], runOnly: ['scrollable-region-focusable', 'target-size', 'meta-viewport']}"

pytestmark = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: `make test` does it where npm is")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_axe_finds_nothing_grave(page: KnownPage, places: dict[str, int], reader: str, visit: Visit) -> None:
    window = visit(None if page.is_for_all else reader, script=AXE.read_text("utf-8"))
    look_at(page, places, window)

    def judged(options: str) -> list[str]:
        verdict = window.evaluate(f"axe.run(document, {options}).then(found => found.violations)")
        return [_told(fault, node) for fault in verdict if fault["impact"] in GRAVE for node in fault["nodes"]]

    assert judged(ALL_RULES) == []
    window.prefer_dark(True)
    assert judged(CONTRAST) == []
    window.prefer_dark(False)
    window.resize(PHONE)
    assert judged(ROOM) == []


def _told(fault: dict[str, Any], node: dict[str, Any]) -> str:
    return f"{fault['id']}: {node['html'][:200]}: {node['failureSummary']}"
