"""`tocsin demo`: real alerts through the whole system, told step by step."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import demo_bursts, demo_coincidence, demo_people, migrate, topics
from cli.database import fetch
from cli.environment import settings
from cli.errors import told_in_one_line
from cli.replay import publish
from cli.stack.commands import bring_down, bring_up
from cli.stack.paths import local_directory
from cli.stack.services import SERVICES, ServiceProcess
from cli.stack.stack import Stack
from services.gw_listener.alerts import UpstreamAlert, content_id, read_alert
from shared.blobs.store import open_store
from shared.errors import TocsinError
from shared.events.blob import BlobRef
from shared.kafka.readable import decoded
from shared.kafka.reading import read, record_counts

SAMPLES = Path(__file__).parents[1] / "samples" / "igwn"
MOCK = [
    SAMPLES / f"MS181101ab-{alert_type}.avro"
    for alert_type in ("earlywarning", "preliminary", "initial", "update", "ext-update")
]
MOCK_RETRACTION = SAMPLES / "MS181101ab-retraction.avro"
REAL = [SAMPLES / f"S230518h-{alert_type}_alert.json" for alert_type in ("Preliminary", "Initial", "Update")]
DEADLINE_S = 120.0
SHOWN_TOPICS = ("igwn.gwalert", "gw.alerts", "gw.skymaps", "frb.events", "mma.coincidences")
SHOWN_BURSTS = 12

_PRODUCTS = """
SELECT alert.event_id, alert.superevent_id, alert.sequence, alert.alert_type, map.map_kind, map.record, map.picture,
       EXTRACT(epoch FROM map.processed_at - alert.received_at)::float8 AS seconds,
       EXISTS (SELECT FROM skymap_parser.skymap_cells AS cell WHERE cell.event_id = map.event_id) AS searchable
FROM gw_listener.alerts AS alert
LEFT JOIN skymap_parser.skymaps AS map ON map.alert_event_id = alert.event_id AND map.record->'skymap' <> 'null'
WHERE alert.event_id = ANY($1::uuid[])
ORDER BY alert.superevent_id, alert.sequence, map.map_kind DESC
"""


class DemoFailedError(TocsinError):
    """The demonstration did not reach its end."""


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop everything after the summary and exit.")] = False,
) -> None:
    """Start the system, send it the official sample alerts, a real event and bursts, show what comes of them."""
    # However somebody ends it, nothing stays running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stack = Stack()
    was_up = stack.kafka.health().up and stack.postgres.health().up  # InfluxDB is optional
    with told_in_one_line():
        try:
            _run(stack)
            if not once:
                _follow()
        except KeyboardInterrupt:
            _say("\nstopping")
        finally:
            if was_up:
                _say("the stack was up before and stays up; `make down` stops it")
            else:
                bring_down(stack, progress=_say)


def _run(stack: Stack) -> None:
    _heading("1  Bringing the system up (everything below .local/)")
    steps: list[tuple[str, Callable[[Any], object]]] = [("topics", topics.apply), ("migrations", migrate.migrate)]
    tells_examples = demo_people.use_examples(stack.directory)
    bring_up(stack, services=None, steps=steps, progress=_say)
    _heading("2  Sending real alerts, as SCiMMA and GCN send them")
    alerts = {file: read_alert(file.read_bytes()) for file in (*MOCK, *REAL)}
    began = time.monotonic()
    asyncio.run(publish(list(alerts), kafka=settings().kafka))
    _heading("3  Waiting until each has gone through every stage")
    _wait_for(alerts)
    _say(f"all done {time.monotonic() - began:.1f} s after the first was sent")
    _heading("4  Sending a burst, as a telescope sends it, and what a closer look measured")
    intake = ServiceProcess(SERVICES["frb_intake"], stack.directory / "services")
    burst_id = demo_bursts.send_burst(intake.address, _say)
    demo_bursts.measure_again(burst_id, intake.address, _say)
    _heading("5  Sending what CHIME told of bursts, as GCN sends it")
    demo_bursts.send_notices(_say)
    _heading("6  Sending a burst seconds after the mock merger, from where its map says")
    partner_id = demo_coincidence.send_burst(intake.address, _say)
    _heading("7  Taking the mock merger back: what rests on it goes too")
    asyncio.run(publish([MOCK_RETRACTION], kafka=settings().kafka))
    rows = _wait_for({**alerts, MOCK_RETRACTION: read_alert(MOCK_RETRACTION.read_bytes())})
    demo_coincidence.wait_retracted(partner_id)
    _heading("8  Voting on the bursts, as people do")
    password = demo_people.make_account()
    demo_people.vote(intake.address, burst_id, partner_id, _say)
    _heading("9  Sending an alert that breaks off")
    demo_people.send_broken(MOCK[0], _say)
    if tells_examples:
        _heading("10 Waiting until everybody is told; it is a dry run, nothing leaves this machine")
        demo_people.wait_told(f"{demo_coincidence.SUPEREVENT}-{partner_id}")
        for line in demo_people.deliveries():
            _say(f"  {line}")
    _summarise(rows, burst_id, partner_id)
    _show_console(stack, password)


def _wait_for(alerts: dict[Path, UpstreamAlert]) -> list[dict[str, Any]]:
    ids = [content_id(alert) for alert in alerts.values()]
    expected_maps = sum((a.skymap is not None) + (a.combined_skymap is not None) for a in alerts.values())
    told: tuple[int, int, int] | None = None
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        rows = fetch(_PRODUCTS, ids)
        maps = [row for row in rows if row["record"] is not None]
        seen = (len({row["event_id"] for row in rows}), len(maps), sum(row["searchable"] for row in maps))
        if seen != told:
            _say(
                f"{seen[0]}/{len(ids)} alerts accepted, {seen[1]}/{expected_maps} sky maps parsed,"
                f" {seen[2]}/{expected_maps} searchable and drawn"
            )
            told = seen
        if seen == (len(ids), expected_maps, expected_maps):
            return rows
        time.sleep(0.2)
    raise DemoFailedError(
        f"not everything arrived within {DEADLINE_S:.0f} s; look at `tocsin status` and `tocsin dlq list`"
    )


def _summarise(rows: list[dict[str, Any]], burst_id: int, partner_id: int) -> None:
    _heading("What came in, and what was computed")
    _say(
        f"  {'superevent':<11} {'alert':<13} {'map':<9} {'RA, Dec (deg)':<19} {'50 %, 90 % (deg2)':<19}"
        f" {'distance (Mpc)':<15} s"
    )
    for row in rows:
        _say("  " + _line(row))
    _heading("Bursts")
    for line in demo_bursts.table(SHOWN_BURSTS):
        _say(line)
    _heading("What was told of the pair on mma.coincidences")
    for line in demo_coincidence.table(partner_id):
        _say(f"  {line}")
    _heading("Which topics carry it")
    kafka = settings().kafka
    for topic, count in sorted(record_counts(kafka.client_config(), SHOWN_TOPICS).items()):
        _say(f"  {topic:<16} {count} records")
    _heading("Pictures of the sky maps")
    for path in _copy_pictures(rows):
        _say(f"  {os.path.relpath(path)}")
    _heading("How to go on")
    server = kafka.bootstrap_servers
    _say(
        "  Any hop user subscribes without our code (test traffic needs ignoretest=False):\n"
        "    from hop import Stream\n"
        f"    with Stream(auth=False).open('kafka://{server}/gw.skymaps', 'r') as stream:\n"
        "        for message in stream:\n"
        "            print(message.content['superevent_id'], message.content['skymap'])\n\n"
        "  .venv/bin/tocsin tail gw.skymaps --last 1\n"
        f"  .venv/bin/tocsin coincidence show {demo_coincidence.SUPEREVENT}-{partner_id}\n"
        "  .venv/bin/tocsin superevent S230518h\n"
        "  .venv/bin/tocsin skymaps --at 95.7,-11.0\n"
        f"  .venv/bin/tocsin frb show {burst_id}\n"
        "  .venv/bin/tocsin status"
    )


def _show_console(stack: Stack, password: str | None) -> None:
    _heading("All of it on pages, live")
    _say(f"  {ServiceProcess(SERVICES['console'], stack.directory / 'services').address}")
    if password is None:
        _say(f"  log in as {demo_people.OBSERVER}; if nobody knows the password: .venv/bin/tocsin user add NAME …")
    else:
        _say(f"  log in as {demo_people.OBSERVER} with the password {password}")


def _line(row: dict[str, Any]) -> str:
    start = f"{row['superevent_id']:<11} {row['alert_type'].lower():<13}"
    if row["record"] is None:
        return f"{start} no sky map: the superevent's maps are withdrawn"
    skymap = row["record"]["skymap"]
    position = f"{skymap['ra_deg']:.3f}, {skymap['dec_deg']:+.3f}"
    areas = f"{skymap['area_50_deg2']:.1f}, {skymap['area_90_deg2']:.1f}"
    mean, std = skymap["distance_mean_mpc"], skymap["distance_std_mpc"]
    distance = "none" if mean is None else f"{mean:.1f} +/- {std:.1f}"
    return f"{start} {row['map_kind'].lower():<9} {position:<19} {areas:<19} {distance:<15} {row['seconds']:.2f}"


def _copy_pictures(rows: list[dict[str, Any]]) -> list[Path]:
    """Give the pictures names that people can open; return the paths."""
    store = open_store(settings().blobs)
    folder = local_directory() / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for row in rows:
        if row["picture"] is not None:
            # By number: alerts of one type have been created in the same second.
            name = f"{row['superevent_id']}-{row['sequence']}-{row['alert_type']}-{row['map_kind']}.png".lower()
            paths.append(folder / name)
            paths[-1].write_bytes(store.get(BlobRef(**row["picture"])))
    return sorted(paths)


def _follow() -> None:
    _heading("Running; sky maps are shown as they come. Ctrl-C stops everything")
    for message in read(settings().kafka.client_config(), "gw.skymaps", last=0, follow=True):
        for record in decoded(message):
            skymap = record["skymap"]
            what = f"90 % {skymap['area_90_deg2']:.1f} deg2" if skymap else "withdrawn"
            _say(f"  {record['superevent_id']} {record['alert_type'].lower()} {record['map_kind'].lower()}: {what}")


def _heading(text: str) -> None:
    typer.secho(f"\n{text}", bold=True)


def _say(text: str) -> None:
    typer.echo(text)
