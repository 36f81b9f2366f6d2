"""Where the real alerts and sky maps are that only some checkouts have beside them."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "samples"

_BESIDE = REPOSITORY.parent / "shared" / "data"
SHARED_DATA: Path | None = _BESIDE if _BESIDE.is_dir() else None

needs_shared_data = pytest.mark.skipif(
    SHARED_DATA is None, reason="the collection of real alerts and sky maps is not beside this checkout"
)
