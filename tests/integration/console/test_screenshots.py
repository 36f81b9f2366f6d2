"""Every page is whole, light and dark, wide and on a phone; $TOCSIN_SCREENSHOTS names a folder to keep the pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.browser import PHONE, WIDE, Visit, Window
from tests.support.console_pages import PAGES, KnownPage, look_at

NARROWEST = (360, 740)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = Path(os.environ.get("TOCSIN_SCREENSHOTS") or tmp_path)
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_whole(page: KnownPage, places: dict[str, int], reader: str, visit: Visit, folder: Path) -> None:
    window = visit(None if page.is_for_all else reader)
    look_at(page, places, window)
    window.is_live()
    window.waits_for(':text("being drawn")', count=0)
    for name, size in (("wide", WIDE), ("phone", PHONE)):
        window.resize(size)
        for colours in ("light", "dark"):
            window.prefer_dark(colours == "dark")
            window.picture(folder / f"{page.name}-{name}-{colours}.png")
        assert window.overflow == 0, name
    window.resize(NARROWEST)
    assert window.overflow == 0
    assert broken_images(window) == []
    assert window.count("h1") == 1
    cells = {word for cell in window.texts("main :is(td, dd)") for word in cell.split()}
    assert not cells & {"None", "nan", "NaN", "inf", "undefined", "Undefined"}


def broken_images(window: Window) -> list[str]:
    """The addresses of images that did not load, also of those further down."""
    return list(
        window.evaluate(
            "Promise.all([...document.images].map(image => {"
            " image.loading = 'eager';"
            " return image.decode().then(() => null, () => image.src);"
            "})).then(all => all.filter(Boolean))"
        )
    )
