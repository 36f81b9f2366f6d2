"""VOEvents: packets to brokers, and to subscribers of our own.

Told are bursts of our own (others' observatories tell theirs themselves) and coincidences; gravitational waves are not
told again. A burst's first packet is a detection, or a subsequent one if its source is known to repeat. A further
measurement, a correction, a confirmation and a change of mind are updates, which replace what was told. A burst that is
withdrawn or rejected is retracted. Votes, names and images alone change nothing that a packet has.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import Field

from services.notifier.channels.channel import Answer, Job, Prepared
from services.notifier.channels.common import CommonSettings
from services.notifier.channels.records import event_url
from services.notifier.channels.tools import Tools
from services.notifier.channels.voevent_packet import (
    Heading,
    Packet,
    PacketType,
    Station,
    burst_packet,
    can_be_told,
    coincidence_packet,
)
from services.notifier.channels.vtp import BrokerAnswer, Verdict, VtpPublisher, submit
from services.notifier.happenings import Happening
from shared.errors import PermanentError, TransientError
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.mma import Coincidence
from shared.events.notices import ChannelMode
from shared.settings import Section

RETRY_S, MAX_RETRY_S = 10.0, 600.0
# Of a packet that some brokers have and others not yet; doubled with each try.
MAX_SUBJECTS = 10_000
# Whose newest packet is remembered.
_SILENT = frozenset({FrbChange.RATED, FrbChange.NAMED, FrbChange.IMAGE_DROPPED})
_OVER = frozenset({FrbStatus.WITHDRAWN, FrbStatus.REJECTED})


class VoeventBroker(Section):
    """Where a broker receives packets from authors."""

    host: str = Field(min_length=1, description="Name or address of the broker.")
    port: int = Field(8098, ge=1, le=65535, description="Where it receives packets.")

    @property
    def address(self) -> str:
        """The broker's name in answers."""
        return f"{self.host}:{self.port}"


class VoeventSettings(CommonSettings):
    """VOEvent packets, sent to brokers and served to subscribers."""

    kind: Literal["voevent"] = "voevent"
    institute: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.~-]{2,}$",
        description="First part of ivo://institute/instrument#FRB...: a domain.",
    )
    instrument: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.~-]*$",
        description="Second part, of bursts.",
    )
    title: str | None = Field(None, description="Who speaks, in full; notifier.observatory unless given.")
    contact_name: str | None = Field(None, description="Whom to ask about a packet; published.")
    contact_email: str | None = Field(None, description="And their address; published.")
    contact_phone: str | None = Field(None, description="And their telephone; published.")
    longitude_deg: float | None = Field(None, ge=-180, le=360, description="Longitude of the telescope (deg, east).")
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="Latitude of the telescope (deg).")
    altitude_m: float | None = Field(None, description="Its height (m).")
    origins: tuple[str, ...] = Field(("upload",), description="Origins of bursts that are our own; no others are told.")
    candidate_importance: float = Field(
        0.5, ge=0, le=1, description="Importance of a burst whose origin states none and that nobody has confirmed."
    )
    confirmed_importance: float = Field(
        0.99,
        ge=0,
        le=1,
        description="Least importance of a confirmed burst; above 0.95 catalogues show it as verified.",
    )
    sandbox_brokers: tuple[VoeventBroker, ...] = Field((), description="Brokers that packets go to in mode SANDBOX.")
    production_brokers: tuple[VoeventBroker, ...] = Field((), description="Brokers that packets go to in PRODUCTION.")
    serve_host: str = Field("127.0.0.1", description="Address on which subscribers are served.")
    serve_port: int | None = Field(None, ge=0, le=65535, description="And port; null: nobody is served. Often 8099.")
    replay: int = Field(0, ge=0, le=32, description="So many of the newest packets are sent to who subscribes.")
    max_subscribers: int = Field(100, ge=1, description="At once.")


class VoeventChannel:
    """Packets to any number of brokers. Those that do not answer are tried again, without the others."""

    kind = "voevent"
    replaces = True
    # A packet says all that is known.
    gathers = False

    def __init__(self, settings: VoeventSettings, *, site_url: str, observatory: str) -> None:
        self.name = settings.name
        self._settings = settings
        self._site_url = site_url
        self._newest: dict[str, str] = {}
        self._station = Station(
            institute=settings.institute,
            instrument=settings.instrument,
            observatory=observatory,
            title=settings.title,
            contact_name=settings.contact_name,
            contact_email=settings.contact_email,
            contact_phone=settings.contact_phone,
            longitude_deg=settings.longitude_deg,
            latitude_deg=settings.latitude_deg,
            altitude_m=settings.altitude_m,
        )
        sends = settings.mode in (ChannelMode.SANDBOX, ChannelMode.PRODUCTION)
        self.publisher = (
            VtpPublisher(
                name=settings.name,
                host=settings.serve_host,
                port=settings.serve_port,
                ivorn=f"ivo://{settings.institute}/{settings.instrument}",
                replay=settings.replay,
                max_subscribers=settings.max_subscribers,
            )
            if settings.serve_port is not None and sends
            else None
        )

    def wants(self, happening: Happening, *, told_before: bool) -> bool:
        """Whether a packet would say something else than the one before it."""
        record = happening.record
        if isinstance(record, Coincidence):
            return told_before or not happening.is_over
        if not isinstance(record, FrbEvent) or record.origin not in self._settings.origins:
            return False
        if told_before:
            return record.change not in _SILENT
        return record.status not in _OVER and can_be_told(record)

    def prepare(self, job: Job) -> Prepared | None:
        """Return the packet and where it goes; None for a retraction of what nobody has heard of."""
        packet = self._packet(job)
        if packet is None:
            return None
        brokers = self._settings.sandbox_brokers
        if job.mode is ChannelMode.PRODUCTION:
            brokers = self._settings.production_brokers
        return Prepared(
            {
                "subject": job.happening.subject,
                "ivorn": packet.ivorn,
                "type": packet.type,
                "role": _role(job),
                "brokers": [broker.address for broker in brokers],
                "xml": packet.xml,
            }
        )

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        """Give the packet to all brokers and subscribers.

        Raises
        ------
        TransientError
            No broker has answered. The same bytes may be sent again.
        PermanentError
            All brokers refuse it.
        """
        request = prepared.request
        if mode is ChannelMode.PRODUCTION and request["role"] != "observation":
            raise PermanentError("a test packet never goes to production")
        self._remember(request)
        data = request["xml"].encode()
        if self.publisher is not None:
            self.publisher.publish(request["ivorn"], data)
        brokers = await self._submit(data, request["brokers"])
        if brokers and all(each.verdict is Verdict.NONE for each in brokers.values()):
            raise TransientError(_listed(brokers))
        return self._answer(request, brokers, tries=1)

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:  # noqa: ARG002
        """Give the packet to the brokers that have not answered yet, unless they are to have a newer one."""
        request = prepared.request
        brokers = {
            address: BrokerAnswer(Verdict(each["answer"]), each.get("reason"))
            for address, each in answer.answer["brokers"].items()
        }
        pending = [address for address, each in brokers.items() if each.verdict is Verdict.NONE]
        if self._newest.get(request["subject"], request["ivorn"]) != request["ivorn"]:
            late = BrokerAnswer(Verdict.NONE, "something newer was told instead")
            return self._answer(request, brokers | dict.fromkeys(pending, late), tries=None)
        brokers |= await self._submit(request["xml"].encode(), pending)
        return self._answer(request, brokers, tries=answer.answer["tries"] + 1)

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:  # noqa: ARG002
        """Return None: brokers drop a packet that they have had, so that it may always be sent again."""
        return None

    async def run(self) -> None:
        """Serve subscribers."""
        if self.publisher is not None:
            await self.publisher.run()

    def _packet(self, job: Job) -> Packet | None:
        record, role = job.happening.record, _role(job)
        # What was told in another mode was told to others, or was a test.
        told = [said for each in job.earlier if (said := each.answer or each.request).get("role") == role]
        was_told = bool(told)
        is_taken_back = was_told and told[-1]["type"] == PacketType.RETRACTION
        is_over = job.happening.is_over or (isinstance(record, FrbEvent) and record.status in _OVER)
        if is_over and (is_taken_back or not was_told):
            return None
        heading = Heading(
            role=role,
            made_at=job.decided_at,
            number=job.delivery_id,
            cites=[said["ivorn"] for said in told],
            url=event_url(job.happening, site_url=self._site_url),
        )
        if isinstance(record, Coincidence):
            return coincidence_packet(record, station=self._station, heading=heading)
        if not isinstance(record, FrbEvent) or not (was_told or can_be_told(record)):
            return None
        repeats = record.repeater or record.repeater_of is not None
        first = PacketType.SUBSEQUENT if repeats else PacketType.DETECTION
        packet_type = PacketType.RETRACTION if is_over else PacketType.UPDATE if was_told else first
        return burst_packet(
            record, packet_type=packet_type, station=self._station, heading=heading, importance=self._importance(record)
        )

    def _importance(self, record: FrbEvent) -> float:
        stated = self._settings.candidate_importance if record.importance is None else record.importance
        return max(stated, self._settings.confirmed_importance) if record.status is FrbStatus.CONFIRMED else stated

    async def _submit(self, data: bytes, addresses: list[str]) -> dict[str, BrokerAnswer]:
        # The dispatcher waits as long as `timeout_s` for all of it.
        timeout_s = 0.8 * self._settings.timeout_s
        places = [address.rpartition(":") for address in addresses]
        answers = await asyncio.gather(
            *(submit(data, host=host, port=int(port), timeout_s=timeout_s) for host, _, port in places)
        )
        return dict(zip(addresses, answers, strict=True))

    def _answer(self, request: dict[str, Any], brokers: dict[str, BrokerAnswer], *, tries: int | None) -> Answer:
        """Return what is recorded; `tries`: how many there were, None when there are to be no more.

        Raises
        ------
        PermanentError
            All brokers refuse the packet.
        """
        verdicts = [each.verdict for each in brokers.values()]
        if verdicts and all(verdict is Verdict.NAK for verdict in verdicts):
            raise PermanentError(_listed(brokers))
        told: dict[str, Any] = {name: request[name] for name in ("ivorn", "type", "role")}
        told["brokers"] = {
            address: {"answer": each.verdict} | ({"reason": each.reason} if each.reason else {})
            for address, each in brokers.items()
        }
        told["tries"] = tries
        is_complete = Verdict.NONE not in verdicts
        again = not is_complete and tries is not None and tries < self._settings.max_attempts
        return Answer(
            reference=request["ivorn"],
            answer=told,
            is_confirmed=is_complete,
            ask_again_s=min(RETRY_S * 2.0 ** min((tries or 1) - 1, 10), MAX_RETRY_S) if again else None,
        )

    def _remember(self, request: dict[str, Any]) -> None:
        self._newest.pop(request["subject"], None)
        self._newest[request["subject"]] = request["ivorn"]
        if len(self._newest) > MAX_SUBJECTS:
            del self._newest[next(iter(self._newest))]


def open_voevent(settings: VoeventSettings, tools: Tools) -> VoeventChannel:
    """Return the channel that settings describe."""
    return VoeventChannel(settings, site_url=tools.site_url, observatory=tools.observatory)


def _role(job: Job) -> str:
    """Return `observation` for what is told to the world; everything else is a test."""
    is_real = job.mode is ChannelMode.PRODUCTION and not job.happening.is_test
    return "observation" if is_real else "test"


def _listed(brokers: dict[str, BrokerAnswer]) -> str:
    return "; ".join(f"{address}: {each.reason or each.verdict}" for address, each in brokers.items())
