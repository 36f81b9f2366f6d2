"""A Transient Name Server that takes bulk reports of radio bursts, names them later, and misbehaves when told to.

It checks what it is sent as strictly as the genuine one is known to, and in one thing more: fields that it does not
know are errors. Source: public material on the TNS 2.0 manuals. `python -m shared.testing.tns --port 8200` starts one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import re
import socket
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

MAX_REPORTS = 100
AT_TYPE_FRB = 5
_MARKER = re.compile(r'tns_marker(\{"tns_id": ?"(\d+)", ?"type": ?"bot", ?"name": ?"([^"]+)"\})')
_UNIT = "_unitid"
_COMMON = {
    "ra", "dec", "internal_name", "at_type", "reporter", "discovery_datetime", "barycentric_event_time",
    "end_prop_period", "transient_redshift", "host_name", "host_redshift", "repeater_of_objid", "public_webpage",
    "region_ellipse", "region_ellipse_unitid", "region_polygon", "region_filename", "dm", "dm_err", "dm_unitid",
    "galactic_max_dm", "galactic_max_dm_model", "remarks", "photometry", "related_files",
}  # fmt: skip
_MEASURED = {
    "obsdate", "flux", "flux_error", "limiting_flux", "snr", "fluence", "fluence_err", "fluence_unitid", "exptime",
    "observer", "burst_width", "burst_width_err", "burst_width_unitid", "burst_bandwidth", "burst_bandwidth_err",
    "burst_bandwidth_unitid", "scattering_time", "scattering_time_err", "scattering_time_unitid", "dm_struct",
    "dm_struct_err", "dm_struct_unitid", "rm", "rm_err", "rm_unitid", "frac_lin_pol", "frac_lin_pol_err",
    "frac_circ_pol", "frac_circ_pol_err", "ref_freq", "ref_freq_unitid", "inst_bandwidth", "inst_bandwidth_unitid",
    "channels_no", "sampling_time", "sampling_time_unitid", "comments",
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """Names of fields in a generation of the interface; of `group` the source of the data is the second."""

    groups: tuple[str, str]
    measured: frozenset[str]
    proprietary: str
    has_photometry_group: bool


DIALECTS = {
    "2.0": Dialect(
        ("reporting_groupid", "data_source_groupid"),
        frozenset({"flux_unitid", "filterid", "instrumentid"}),
        "prop_period_groups",
        has_photometry_group=False,
    ),
    "old": Dialect(
        ("reporting_group_id", "discovery_data_source_id"),
        frozenset({"flux_units", "filter_value", "instrument_value"}),
        "proprietary_period_groups",
        has_photometry_group=True,
    ),
}


class Trouble(StrEnum):
    """What the next request of a kind meets."""

    TOO_MANY = "429"
    ERROR = "500"
    UNAVAILABLE = "503"
    LOST = "504"
    ACCEPTED = "504-but-accepted"
    SILENT_BUT_ACCEPTED = "silent-but-accepted"
    SILENT = "silent"
    SLOW = "slow"
    GARBAGE = "garbage"
    BAD_REQUEST = "400-in-200"


@dataclass
class TnsStandIn:
    """The server's side; `standing_tns` starts one.

    Attributes
    ----------
    delay_replies
        How many times a reply is asked for in vain.
    known
        Objects that are there already: their names, by internal name. A report of one is added to it (101).
    reset_s
        What a 429 says.
    trouble
        What befalls the coming requests to `report`, `reply` and `search`.
    submissions
        Reports as they were accepted, in order, however many came at once.
    requests
        Kinds of all requests, in order; refused ones included.
    """

    api_key: str = "key"
    bot_id: int = 1
    bot_name: str = "bot"
    generation: str = "2.0"
    delay_replies: int = 0
    reset_s: float = 1.0
    slow_s: float = 0.5
    known: dict[str, str] = field(default_factory=dict)
    trouble: dict[str, deque[Trouble]] = field(default_factory=lambda: defaultdict(deque))
    submissions: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    verbose: bool = False
    _replies: list[list[dict[str, Any]]] = field(default_factory=list)
    _asked: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _seen: set[tuple[str, ...]] = field(default_factory=set)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> Starlette:
        """Return the application; both generations of paths."""
        kinds = {"report": self._report, "reply": self._reply, "search": self._search}
        paths = [("set/bulk-report", "report"), ("get/bulk-report-reply", "reply"), ("get/search", "search")]
        paths += [("bulk-report", "report"), ("bulk-report-reply", "reply")]

        def route(path: str, kind: str) -> Route:
            async def answer(request: Request) -> Response:
                return await self._answer(kind, kinds[kind], request)

            return Route(f"/api/{path}", answer, methods=["POST"])

        return Starlette(routes=[route(path, kind) for path, kind in paths])

    def end(self) -> None:
        """Let go of those that wait for an answer."""
        self._end.set()

    async def _answer(self, kind: str, carry_out: Any, request: Request) -> Response:
        self.requests.append(kind)
        form = {name: str(value) for name, value in (await request.form()).items()}
        trouble = self.trouble[kind].popleft() if self.trouble[kind] else None
        match trouble:
            case Trouble.TOO_MANY:
                headers = {"x-rate-limit-limit": "10", "x-rate-limit-remaining": "Exceeded"}
                headers["x-rate-limit-reset"] = f"{self.reset_s:g}"
                return _envelope(429, "Too Many Requests", headers=headers)
            case Trouble.ERROR:
                return _envelope(500, "Internal Server Error")
            case Trouble.UNAVAILABLE:
                return PlainTextResponse("<html>maintenance</html>", 503)
            case Trouble.LOST:
                return PlainTextResponse("<html>gateway time-out</html>", 504)
            case Trouble.SILENT:
                await self._end.wait()
            case Trouble.GARBAGE:
                return PlainTextResponse("<br />\n<b>Warning</b>: Undefined index")
            case Trouble.BAD_REQUEST:
                return JSONResponse({"id_code": 400, "id_message": "Bad request", "data": {}})
            case Trouble.SLOW:
                await asyncio.sleep(self.slow_s)
        refused = self._refused(request, form)
        response: Response = refused or carry_out(form)
        if self.verbose:
            print(kind, response.status_code, form.get("data", form.get("report_id")), flush=True)  # noqa: T201
        if trouble is Trouble.ACCEPTED:
            return PlainTextResponse("<html>gateway time-out</html>", 504)
        if trouble is Trouble.SILENT_BUT_ACCEPTED:
            await self._end.wait()
        return response

    def _refused(self, request: Request, form: Mapping[str, str]) -> Response | None:
        marker = _MARKER.fullmatch(request.headers.get("user-agent", ""))
        if marker is None or (int(marker[2]), marker[3]) != (self.bot_id, self.bot_name):
            return _envelope(403, "Forbidden: the marker is wrong")
        if form.get("api_key") != self.api_key:
            return _envelope(401, "Unauthorized")
        return None

    def _report(self, form: Mapping[str, str]) -> Response:
        try:
            reports = json.loads(form["data"], parse_constant=_refuse)["frb_report"]
            entries = [reports[str(number)] for number in range(len(reports))]
        except (KeyError, TypeError, ValueError) as error:
            return _envelope(400, "Bad request", {"data": f"no frb_report: {error!r}"})
        if not 1 <= len(entries) <= MAX_REPORTS:
            return _envelope(400, "Bad request", {"data": f"{len(entries)} reports"})
        self.submissions += entries
        self._replies.append([self._processed(entry) for entry in entries])
        return _envelope(200, "OK", {"report_id": len(self._replies)})

    def _processed(self, report: dict[str, Any]) -> dict[str, Any]:
        if errors := self.errors_of(report):
            return errors
        guard = tuple(str(report[name]) for name in ("ra", "dec", "discovery_datetime", "internal_name"))
        if guard in self._seen:
            text = "An identical AT report (sender, RA/DEC, discovery date, internal_name) already exists."
            return {"at_rep": [{"message": text, "message_id": 5}]}
        self._seen.add(guard)
        if known := self.known.get(report["internal_name"]):
            return {"101": {"objname": known}, "110": {"message": "Remarks were added."}}
        day = datetime.fromisoformat(report["discovery_datetime"]).strftime("%Y%m%d")
        number = sum(each["objname"].startswith(day) for each in self.objects)
        made = {"objname": day + _letters(number), "prefix": "FRB", "objid": 100_000 + len(self.objects)}
        self.objects.append(made | {"internal_name": report["internal_name"]})
        return {"100": {"objname": made["objname"]}}

    def errors_of(self, report: dict[str, Any]) -> dict[str, Any]:
        """Return what is wrong with a report, field by field."""
        dialect = DIALECTS[self.generation]
        required = {*dialect.groups, "ra", "dec", "internal_name", "at_type", "reporter", "discovery_datetime", "dm"}
        errors = {name: _said("Required field", 3) for name in required - report.keys()}
        allowed = _COMMON | {*dialect.groups, dialect.proprietary}
        measured = report.get("photometry", {})
        if dialect.has_photometry_group:
            measured = measured.get("photometry_group", {}) if isinstance(measured, dict) else {}
        points = list(measured.values()) if isinstance(measured, dict) else []
        if not points:
            errors["photometry"] = _said("At least one Photometry point - that of the discovery - should be filled", 2)
        for point in points:
            for name, value in point.items() if isinstance(point, dict) else [("photometry", point)]:
                if name not in _MEASURED | dialect.measured:
                    errors[name] = _said("Unknown field")
                elif not _is_value(value):
                    errors[name] = _said(f"Invalid value {value!r}")
        for name, value in report.items():
            if name not in allowed:
                errors[name] = _said("Unknown field")
            elif not _is_value(value):
                errors[name] = _said(f"Invalid value {value!r}")
        for name in ("ra", "dec"):
            if isinstance(place := report.get(name), dict) and not {"value", "units"} <= place.keys():
                errors[name] = _said("Required field", 3)
        if report.get("at_type") != AT_TYPE_FRB:
            errors["at_type"] = _said("Invalid value")
        units = {name for name in report if name.endswith(_UNIT)}
        for name in units:
            if name.removesuffix(_UNIT) not in report:
                errors[name] = _said("A unit without its value")
        return errors

    def _reply(self, form: Mapping[str, str]) -> Response:
        number = int(form.get("report_id", "0"))
        if not 1 <= number <= len(self._replies):
            return _envelope(404, "Not found")
        self._asked[number] += 1
        if self._asked[number] <= self.delay_replies:
            return _envelope(404, "Not found")
        feedback = self._replies[number - 1]
        is_wrong = any(isinstance(each, list) for entry in feedback for name, each in entry.items() if name != "at_rep")
        code, message = (400, "Bad request") if is_wrong else (200, "OK")
        return _envelope(code, message, {"feedback": {"frb_report": feedback}})

    def _search(self, form: Mapping[str, str]) -> Response:
        query = json.loads(form["data"])
        names = [name for name in ("internal_name", "objname") if query.get(name)]
        known = [
            {"objname": name, "prefix": "FRB", "objid": 1, "internal_name": own} for own, name in self.known.items()
        ]
        found = [each for each in (*self.objects, *known) if names and all(each[name] == query[name] for name in names)]
        reply = [{name: each[name] for name in ("objname", "prefix", "objid")} for each in found]
        return _envelope(200, "OK", {"reply": reply} if self.generation == "old" else reply)


def _envelope(code: int, message: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    content = {"id_code": code, "id_message": message, "data": {} if data is None else data}
    return JSONResponse(content, code, headers=headers)


def _said(message: str, number: int | None = None) -> list[dict[str, Any]]:
    return [{"message": message} | ({} if number is None else {"message_id": number})]


def _is_value(value: Any) -> bool:
    """Whether a value says something: nothing unknown is written in any of the ways that programs have."""
    match value:
        case None:
            return False
        case str():
            return value.strip().lower() not in ("", "none", "nan", "null")
        case float():
            return math.isfinite(value)
        case dict():
            return all(_is_value(each) for each in value.values())
        case _:
            return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _letters(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


class _Server(uvicorn.Server):
    """Without its signal handlers: who starts the block stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def standing_tns(stand_in: TnsStandIn | None = None, *, port: int = 0) -> AsyncIterator[TnsStandIn]:
    """Return a server on the loopback address, at a free port unless one is given, while the block runs."""
    tns = stand_in or TnsStandIn()
    with socket.create_server(("127.0.0.1", port)) as listening:
        tns.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = _Server(uvicorn.Config(tns.app(), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield tns
        finally:
            tns.end()
            server.should_exit = True
            await serving


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A Transient Name Server to try the notifier with.")
    parser.add_argument("--port", type=int, default=8200)
    parser.add_argument("--api-key", default="key")
    parser.add_argument("--bot-id", type=int, default=1)
    parser.add_argument("--bot-name", default="bot")
    parser.add_argument("--generation", choices=sorted(DIALECTS), default="2.0")
    parser.add_argument("--delay-replies", type=int, default=2, help="how many times a reply is asked for in vain")
    parser.add_argument("--trouble", choices=list(Trouble), action="append", default=[], help="of the first reports")
    given = parser.parse_args()
    tns = TnsStandIn(
        api_key=given.api_key,
        bot_id=given.bot_id,
        bot_name=given.bot_name,
        generation=given.generation,
        delay_replies=given.delay_replies,
        verbose=True,
    )
    tns.trouble["report"].extend(map(Trouble, given.trouble))
    uvicorn.run(tns.app(), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
