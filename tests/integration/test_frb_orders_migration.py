"""Bursts that were there before lists had an order are sorted as those that came later."""

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.migrate import history
from services.frb_intake import domain
from services.frb_intake.domain import Measured, NewBurst
from shared.db import migrations
from shared.db.pool import connect
from shared.events.frb import FrbEvent
from shared.settings import DatabaseSettings
from shared.sky.localisation import Ellipse

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
NEW = {
    "redshift_low", "redshift_high", "flux_err", "fluence_err", "rm_err", "source", "version", "measured_at",
}  # fmt: skip


def a_record(frb_id: int, measured: Measured | None) -> FrbEvent:
    new = NewBurst(submitted_by="ada", origin="upload")
    return domain.create(new, frb_id=frb_id, observatory='{"A} \\', now=NOW, measured=measured)


RECORDS = [
    a_record(1, None),
    a_record(2, Measured("MB", "v {1}", dm_pc_cm3=411.0, ellipse=Ellipse(77, 26, 0.05, 0.05, 0, 0.68), width_ms=5.0,
                         flux_jy=3.0, flux_err_jy=0.5)),
    a_record(3, Measured("HT", "v2")),
]  # fmt: skip


@pytest.mark.parametrize("before", ["0003"])
def test_old_lines_become_as_new_ones(database_url: str, tmp_path: Path, before: str) -> None:
    metadata, versions = history("frb_intake")
    for path in sorted(versions.glob("*.py")):
        if path.name[:4] <= before:
            shutil.copy(path, tmp_path)

    async def moved() -> list[dict[str, object]]:
        await migrations.upgrade(database_url, metadata=metadata, versions=tmp_path)
        async with connect(DatabaseSettings(url=database_url), "frb_intake") as connection:
            for record in RECORDS:
                line = {name: value for name, value in domain.summary(record).items() if name not in NEW}
                await connection.execute(
                    "INSERT INTO bursts (id, internal_name, origin, submitted_by, is_test, received_at, event_time,"
                    " status, repeater, votes_confirm, votes_reject, votes_unsure, summary, record)"
                    " VALUES ($1, $2, 'upload', 'ada', false, $3, $3, 'CANDIDATE', false, 0, 0, 0, $4, $5)",
                    record.frb_id, record.internal_name, NOW, json.dumps(line), record.model_dump_json(),
                )  # fmt: skip
        await migrations.upgrade(database_url, metadata=metadata, versions=versions)
        async with connect(DatabaseSettings(url=database_url), "frb_intake") as connection:
            rows = await connection.fetch("SELECT dm_excess_pc_cm3, width_ms, summary FROM bursts ORDER BY id")
        return [{**row, "summary": json.loads(row["summary"])} for row in rows]

    for row, record in zip(asyncio.run(moved()), RECORDS, strict=True):
        line = domain.summary(record)
        assert row == {"dm_excess_pc_cm3": line["dm_excess"], "width_ms": line["width"], "summary": line}
