"""The Transient Name Server (TNS): the first measurement of a burst is reported once, and its name comes back.

The TNS answers a report with a receipt and works on it later, so the name is asked for until it is there. It takes no
report twice that is equal in sender, position, time and internal name; so what may have arrived is looked for by its
internal name, and only sent again when it is not found.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Self

import httpx
from pydantic import Field, SecretStr, field_validator, model_validator

from services.notifier.channels import tns_report
from services.notifier.channels.channel import Answer, Earlier, Job, Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.common import CommonSettings
from services.notifier.channels.records import event_url, is_news
from services.notifier.channels.tns_report import Generation, Sender, Units
from services.notifier.channels.tools import Tools
from services.notifier.happenings import Happening
from shared.errors import InvalidInputError, PermanentError, TransientError
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.notices import ChannelMode, DeliveryAction
from shared.settings import Section

MAX_REPORTS = 100
# Of one submission (TNS bulk-report manual).
MAX_BYTES = 1_000_000
# Of an answer; a reply to 100 reports has some tens of kilobytes.
RESET_HEADERS = ("x-rate-limit-reset", "x-cone-rate-limit-reset", "retry-after")
DEFAULT_RESET_S, MIN_RESET_S, MAX_RESET_S = 60.0, 1.0, 3600.0
# The limits are per minute; whatever a header says, the channel is not silenced for longer.
_EPOCH_S = 1e9
# A larger figure is a time, not a duration.
NO_RETRACTION = "the TNS takes no retraction from a program: write to it about {name} ({internal_name})"


class TnsUnits(Section):
    """Ids of units at the TNS."""

    flux_jy: int = Field(8, description="Jy.")
    fluence_jy_ms: int = Field(22, description="Jy ms.")
    time_ms: int = Field(23, description="ms.")
    frequency_mhz: int = Field(24, description="MHz.")
    dm_pc_cm3: int = Field(25, description="pc cm^-3.")
    rm_rad_m2: int = Field(26, description="rad m^-2.")
    ellipse_deg: int = Field(27, description="deg, of the axes of the error ellipse.")


class TnsSettings(CommonSettings):
    """The Transient Name Server. Ids are the TNS's own; its page of values lists them."""

    kind: Literal["tns"] = "tns"
    per_minute: float = Field(20.0, gt=0, description="Submissions a minute, sustained.")
    at_once: int = Field(10, ge=1, description="And at once.")
    timeout_s: float = Field(60.0, gt=0, description="How long an answer is waited for.")
    url: str = Field("https://www.wis-tns.org", description="The TNS: mode PRODUCTION.")
    sandbox_url: str = Field("https://sandbox.wis-tns.org", description="Its sandbox: mode SANDBOX.")
    api_key: SecretStr | None = Field(None, description="The bot's key.")
    sandbox_api_key: SecretStr | None = Field(None, description="Its key on the sandbox; the same unless given.")
    bot_id: int | None = Field(None, description="The bot's id.")
    bot_name: str | None = Field(None, description="The bot's name.")
    when: Literal["immediately", "confirmed"] = Field(
        "confirmed", description="Whether a burst is reported when it is measured, or once it is confirmed."
    )
    origins: tuple[str, ...] = Field(
        ("upload",), description="Whose bursts are reported; those of others are theirs to report."
    )
    reporter: str | None = Field(None, description="Who reports, as it is to be cited.")
    reporting_group: int | None = Field(None, description="Id of the group that reports.")
    data_source_group: int | None = Field(None, description="Id of the group whose data it is; default: the reporting.")
    instrument: int | None = Field(None, description="Id of the instrument.")
    filter: int | None = Field(None, description="Id of the filter, which stands for the receiver.")
    proprietary_days: int | None = Field(None, ge=1, description="Days for which a report is not public.")
    proprietary_groups: tuple[int, ...] = Field((), description="Ids of groups that see it all the same.")
    redshift_of: Literal["host", "transient"] = Field("host", description="What a measured redshift is of.")
    limiting_flux_jy: float | None = Field(None, ge=0, description="Told (Jy) of bursts whose flux is not known.")
    public_webpage: bool = Field(False, description="Whether the report names the burst's page on this site.")
    remarks: str | None = Field(None, description="Begins the remarks of every report.")
    generation: Generation = Field("2.0", description="Of paths and names of fields: 2.0, or old.")
    paths: dict[str, str] = Field(
        default_factory=dict, description="Other paths than the generation's: of report, reply and search."
    )
    keys: dict[str, str] = Field(
        default_factory=dict,
        description="Other names of fields, by those of 2.0; an empty one leaves the field out.",
    )
    units: TnsUnits = Field(TnsUnits(), description="Ids of units.")
    batch: int = Field(MAX_REPORTS, ge=1, le=MAX_REPORTS, description="Reports in one submission, when several wait.")
    first_reply_s: float = Field(3.0, gt=0, description="When the name is first asked for (s); each pause is doubled.")
    max_reply_pause_s: float = Field(300.0, gt=0, description="Longest pause (s).")
    reply_patience_s: float = Field(6 * 3600.0, gt=0, description="How long it is asked for (s).")
    check_after_s: float = Field(5.0, ge=0, description="Time for the TNS (s) before a lost report is looked for.")

    @field_validator("paths")
    @classmethod
    def _paths_are_known(cls, paths: dict[str, str]) -> dict[str, str]:
        for name in paths:
            if name not in tns_report.PATHS["2.0"]:
                raise InvalidInputError("paths", name, "report, reply or search")
        return paths

    @field_validator("url", "sandbox_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.check_after_s >= self.timeout_s:
            raise InvalidInputError("check_after_s", self.check_after_s, f"less than timeout_s, {self.timeout_s:g}")
        if self.mode in (ChannelMode.SANDBOX, ChannelMode.PRODUCTION):
            for name in ("bot_id", "bot_name", "reporter", "reporting_group"):
                if getattr(self, name) is None:
                    raise InvalidInputError(name, "missing", f"a value, which mode {self.mode} needs")
            if self.key(self.mode) is None:
                raise InvalidInputError("api_key", "missing", f"a key, which mode {self.mode} needs")
        return self

    def key(self, mode: ChannelMode) -> SecretStr | None:
        """The key for a mode."""
        return self.api_key if mode is ChannelMode.PRODUCTION else self.sandbox_api_key or self.api_key


class TnsChannel:
    """Reports bursts."""

    kind = "tns"
    replaces = False
    gathers = False

    def __init__(
        self,
        settings: TnsSettings,
        *,
        http: httpx.AsyncClient,
        site_url: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._http = http
        self._site_url = site_url
        self._now = now
        self.batch = settings.batch
        # Or by a process that died a moment ago.
        self._posted_at = time.monotonic()
        self._last_reply: tuple[tuple[ChannelMode, Any, float] | None, Any] = (None, None)
        self._paths: dict[str, str] = {**tns_report.PATHS[settings.generation], **settings.paths}
        self._keys = {**tns_report.KEYS[settings.generation], **settings.keys}

    def wants(self, happening: Happening, *, told_before: bool) -> bool:
        record = happening.record
        if not isinstance(record, FrbEvent):
            return False
        if told_before:
            # A report that waits must not leave any more; one that left is a person's business.
            return happening.is_over and record.change is FrbChange.STATUS_CHANGED
        return is_news(record) and self._is_to_be_reported(record)

    def _is_to_be_reported(self, record: FrbEvent) -> bool:
        late_enough = self._settings.when == "immediately" or record.status is FrbStatus.CONFIRMED
        return record.origin in self._settings.origins and late_enough and tns_report.is_reportable(record)

    def prepare(self, job: Job) -> Prepared | None:
        """Return the report; None when the burst, as it is now, is not to be reported any more."""
        newest = _newest(job)
        common = {"internal_name": newest.internal_name, "revision": job.revision}
        if job.action is DeliveryAction.RETRACTION:
            reported = [each for each in job.earlier if each.action is not DeliveryAction.RETRACTION]
            return Prepared(common | {"retraction_of": newest.tns_name or _called(reported[-1])}) if reported else None
        is_forbidden = newest.is_test and job.mode is ChannelMode.PRODUCTION
        if is_forbidden or not self._is_to_be_reported(newest):
            return None
        report = tns_report.frb_report(newest, self._sender(job))
        return Prepared(
            common
            | {
                "path": self._paths["report"],
                "report": report,
                "discovered": tns_report.discovered(newest),
                **({"repeater_of": newest.repeater_of} if newest.repeater_of else {}),
            }
        )

    def _sender(self, job: Job) -> Sender:
        settings = self._settings
        until = None
        if settings.proprietary_days is not None:
            until = (job.decided_at + timedelta(days=settings.proprietary_days)).date().isoformat()
        return Sender(
            reporter=settings.reporter,
            reporting_group=settings.reporting_group,
            data_source_group=settings.data_source_group or settings.reporting_group,
            instrument=settings.instrument,
            filter=settings.filter,
            proprietary_until=until,
            proprietary_groups=settings.proprietary_groups,
            redshift_of=settings.redshift_of,
            limiting_flux_jy=settings.limiting_flux_jy,
            public_webpage=event_url(job.happening, site_url=self._site_url) if settings.public_webpage else None,
            remarks=settings.remarks,
            units=Units(**settings.units.model_dump()),
            keys=self._keys,
        )

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        [answer] = await self.send_together([prepared], mode=mode)
        if isinstance(answer, PermanentError):
            raise answer
        return answer

    async def send_together(
        self, prepared: Sequence[Prepared], *, mode: ChannelMode
    ) -> Sequence[Answer | PermanentError]:
        """Submit reports; a retraction, which the TNS does not take, is refused on its own account."""
        refusals = [_refused_retraction(each) for each in prepared]
        reports = [
            await self._with_repeater(each.request, mode)
            for each, refused in zip(prepared, refusals, strict=True)
            if refused is None
        ]
        positions = itertools.count()
        receipt = await self._submit(reports, mode) if reports else {}
        return [refused or self._accepted(receipt, next(positions)) for refused in refusals]

    async def _submit(self, reports: Sequence[Mapping[str, Any]], mode: ChannelMode) -> Mapping[str, Any]:
        self._posted_at = time.monotonic()
        data = await self._post(
            self._paths["report"], {"data": json.dumps(tns_report.bulk_report(reports), allow_nan=False)}, mode
        )
        if not isinstance(data, dict) or data.get("report_id") is None:
            raise UncertainError(f"the TNS took the report without a receipt: {str(data)[:200]}")
        return data

    def _accepted(self, receipt: Mapping[str, Any], position: int) -> Answer:
        report_id, pause_s = receipt["report_id"], self._settings.first_reply_s
        return Answer(
            str(report_id),
            {"report_id": report_id, "position": position, "waited_s": 0.0, "pause_s": pause_s},
            ask_again_s=pause_s,
        )

    async def _with_repeater(self, request: Mapping[str, Any], mode: ChannelMode) -> dict[str, Any]:
        """Return a report with the TNS's id of the burst that it repeats; without when the TNS knows no such burst."""
        report, name = dict(request["report"]), request.get("repeater_of")
        key = self._keys.get("repeater_of_objid", "repeater_of_objid")
        if name is None or not key:
            return report
        try:
            found = await self._search({"objname": name.removeprefix("FRB").strip(), "objname_exact_match": 1}, mode)
        except UncertainError as error:
            raise TransientError(f"what the burst repeats was not found out: {error}") from error
        objid = next((each["objid"] for each in found if each.get("objid")), None)
        return report if objid is None else report | {key: objid}

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:
        """Ask for the reply; not there yet is answered with a longer pause.

        Raises
        ------
        PermanentError
            The TNS refused the report, and says which field is wrong; or its reply never came.
        """
        known = answer.answer
        data = await self._reply(known, mode)
        if data is None:
            return await self._later(prepared, answer, mode)
        feedback = tns_report.read_feedback(data, known["position"])
        if feedback.is_empty:
            return await self._later(prepared, answer, mode)
        if feedback.errors:
            raise PermanentError(f"the TNS refused the report: {'; '.join(feedback.errors)}")
        told = known | {"notes": list(feedback.notes)}
        if feedback.name is None:
            found = await self._find(prepared, mode)
            return found or await self._later(prepared, Answer(answer.reference, told | {"identical": True}), mode)
        return Answer(
            answer.reference,
            told | {"objname": feedback.name},
            is_confirmed=True,
            tns_name=tns_report.frb_name(feedback.name),
        )

    async def _reply(self, known: Mapping[str, Any], mode: ChannelMode) -> Any:
        """Return the reply to a submission; None while there is none.

        What was reported together is asked for together: one answer serves all that waited as long.
        """
        question = mode, known["report_id"], known["waited_s"]
        asked, data = self._last_reply
        if asked == question:
            return data
        try:
            data = await self._post(self._paths["reply"], {"report_id": known["report_id"]}, mode)
        except _NotFoundError:
            data = None
        except _RefusedError as error:
            if not isinstance(error.data, dict) or "feedback" not in error.data:
                raise
            # Refused fields come as 400, too.
            data = error.data
        except (_NotAllowedError, UncertainError) as error:
            # Nothing of this is said of the report itself.
            raise TransientError(str(error)) from error
        self._last_reply = question, data
        return data

    async def _later(self, prepared: Prepared, answer: Answer, mode: ChannelMode) -> Answer:
        known = answer.answer
        waited_s = known["waited_s"] + known["pause_s"]
        if waited_s < self._settings.reply_patience_s:
            pause_s = min(2 * known["pause_s"], self._settings.max_reply_pause_s)
            return Answer(answer.reference, known | {"waited_s": waited_s, "pause_s": pause_s}, ask_again_s=pause_s)
        found = await self._find(prepared, mode)
        if found is not None:
            return found
        if known.get("identical"):
            # It is there, which is what was wanted; its name is not ours to see.
            return Answer(answer.reference, known, is_confirmed=True)
        raise PermanentError(f"no reply to report {known['report_id']} in {waited_s / 3600:.3g} h, nor is it found")

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:
        """Look for the report by its internal name.

        Not found, it is sent again: the TNS itself refuses what is identical, which then is the proof that it has it.
        """
        if (refused := _refused_retraction(prepared)) is not None:
            raise refused
        await asyncio.sleep(self._posted_at + self._settings.check_after_s - time.monotonic())
        return await self._find(prepared, mode)

    async def _find(self, prepared: Prepared, mode: ChannelMode) -> Answer | None:
        request = prepared.request
        query = {"internal_name": request["internal_name"], "internal_name_exact_match": 1}
        try:
            found = await self._search(query, mode)
        except (_NotAllowedError, UncertainError) as error:
            raise TransientError(str(error)) from error
        except PermanentError as error:
            raise UncertainError(f"the TNS does not search for {request['internal_name']}: {error}") from error
        name = tns_report.named_of_day(found, request["discovered"])
        if name is None:
            return None
        told = {"objname": name, "found": [dict(each) for each in found[:3]]}
        return Answer(None, told, is_confirmed=True, tns_name=name)

    async def _search(self, query: Mapping[str, Any], mode: ChannelMode) -> list[Mapping[str, Any]]:
        try:
            return tns_report.objects_of(await self._post(self._paths["search"], {"data": json.dumps(query)}, mode))
        except _NotFoundError:
            return []

    async def run(self) -> None:
        """Nothing beside."""

    async def _post(self, path: str, form: Mapping[str, Any], mode: ChannelMode) -> Any:
        """Return the `data` of an answer.

        Raises
        ------
        UncertainError
            The request left, and no answer that says whether it was carried out came.
        TransientError, PermanentError
            It was not carried out.
        """
        settings = self._settings
        key = settings.key(mode)
        if mode not in (ChannelMode.SANDBOX, ChannelMode.PRODUCTION) or key is None:
            raise PermanentError(f"channel {self.name} has no key for mode {mode}")
        url = settings.url if mode is ChannelMode.PRODUCTION else settings.sandbox_url
        marker = {"tns_id": str(settings.bot_id), "type": "bot", "name": settings.bot_name}
        try:
            response = await self._http.post(
                url + path,
                data={"api_key": key.get_secret_value(), **form},
                headers={"user-agent": f"tns_marker{json.dumps(marker)}"},
                timeout=settings.timeout_s,
                follow_redirects=False,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise TransientError(f"the TNS is not reached: {str(error) or type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise UncertainError(f"the TNS gave no answer: {str(error) or type(error).__name__}") from error
        return _data(response, now_s=self._now())


class _NotFoundError(PermanentError):
    """404: of a reply, that it is not there yet."""


class _NotAllowedError(PermanentError):
    """401 or 403: the key or the marker is wrong, or the bot may not do this."""


class _RefusedError(PermanentError):
    """Another 4xx, with what came in the envelope."""

    def __init__(self, reason: str, data: Any) -> None:
        super().__init__(reason)
        self.data = data


def open_tns(settings: TnsSettings, tools: Tools) -> TnsChannel:
    """Return the channel."""
    return TnsChannel(settings, http=tools.http, site_url=tools.site_url)


def _newest(job: Job) -> FrbEvent:
    """Return the burst as it is now: it may have been withdrawn, rejected or named since the decision."""
    records = [each.record for each in (job.happening, *job.related) if each.subject == job.happening.subject]
    return max((each for each in records if isinstance(each, FrbEvent)), key=lambda record: record.revision)


def _called(report: Earlier) -> str:
    """Return what the TNS calls a burst that was reported: its own name, or that of the report."""
    objname = report.answer.get("objname")
    if objname is not None:
        return tns_report.frb_name(objname) or str(objname)
    return f"report {report.reference}" if report.reference else "a report that may have arrived"


def _refused_retraction(prepared: Prepared) -> PermanentError | None:
    request = prepared.request
    if "retraction_of" not in request:
        return None
    return PermanentError(NO_RETRACTION.format(name=request["retraction_of"], internal_name=request["internal_name"]))


def _data(response: httpx.Response, *, now_s: float) -> Any:
    """Return what is in the envelope of an answer, or raise what it means."""
    envelope = _envelope(response)
    status = response.status_code
    # Some refusals come inside of HTTP 200.
    code = envelope.get("id_code") if response.is_success and envelope else None
    code = code if isinstance(code, int) else status
    message = envelope.get("id_message") if envelope else None
    beginning = _storable(response.text[:200])
    said = f"the TNS answered {code}: {message or beginning}{_detail(envelope)}"
    if code == httpx.codes.TOO_MANY_REQUESTS:
        raise TooManyRequestsError(said, retry_after_s=_reset_s(response.headers, now_s=now_s))
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise _NotAllowedError(said)
    if code == httpx.codes.NOT_FOUND:
        raise _NotFoundError(said)
    if code == httpx.codes.SERVICE_UNAVAILABLE:
        raise TransientError(said)
    if code >= httpx.codes.INTERNAL_SERVER_ERROR:
        # 504 came for reports that were accepted; 500 and 502 say no more than it does.
        raise UncertainError(said)
    if code >= httpx.codes.MULTIPLE_CHOICES:
        raise _RefusedError(said, envelope.get("data") if envelope else None)
    if envelope is None or "data" not in envelope:
        raise UncertainError(f"the TNS answered what is no answer: {beginning}")
    return envelope["data"]


def _envelope(response: httpx.Response) -> dict[str, Any] | None:
    if len(response.content) > MAX_BYTES:
        return None
    try:
        content = response.json()
    except (ValueError, RecursionError):
        return None
    return _storable(content) if isinstance(content, dict) else None


def _storable(value: Any) -> Any:
    """Return what was read without characters that no database keeps."""
    match value:
        case str():
            return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        case list():
            return [_storable(each) for each in value]
        case dict():
            return {_storable(name): _storable(each) for name, each in value.items()}
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _detail(envelope: dict[str, Any] | None) -> str:
    data = envelope.get("data") if envelope else None
    return f" ({json.dumps(data)[:300]})" if data else ""


def _reset_s(headers: httpx.Headers, *, now_s: float) -> float:
    """Return how long to wait (s): the longest of what the headers say, in seconds or as a Unix time."""
    waits = []
    for name in RESET_HEADERS:
        value = headers.get(name, "")
        if value.isdecimal():
            told_s = float(value)
            waits.append(told_s - now_s if told_s > _EPOCH_S else told_s)
    return min(max(*waits, MIN_RESET_S), MAX_RESET_S) if waits else DEFAULT_RESET_S
