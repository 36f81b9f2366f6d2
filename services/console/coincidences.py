"""Pairs of a wave and a burst: searched, sorted and told page by page, and one of them with all that is known of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import asyncpg

from services.console import listing
from services.console.charts.timeline import Window
from services.console.listing import Unknown
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.events.blob import BlobRef
from shared.events.mma import Coincidence, CoincidenceScores, CoincidentBurst

COUNTED_AT_MOST = 10_000
MAX_DECISIONS = 200
SECONDS_PER_YEAR = 365.25 * 86_400
ERRORS_WIDE = 3.0
# An offset is in a window when it is within so many standard errors of it, as the service has it.
CHANGED = 1e-3
# Scores that differ by less, as a part of them, are the same.


class Sort(Enum):
    """What a table can be sorted by: its name in addresses is the member's, its column the value."""

    decided = "decided_at"
    time = "event_time"
    odds = "odds"
    far = "far_space_time_hz"


@dataclass(frozen=True)
class Order(listing.Order):
    """The order of a table: by a column, what is equal by its name."""

    by: Sort = Sort.decided
    ties = ("superevent_id", "frb_id")

    @property
    def is_partial(self) -> bool:
        """Whether pairs are left out: those of which that is not known."""
        return self.by in (Sort.odds, Sort.far)


@dataclass(frozen=True)
class Filters:
    """Which pairs are wanted; None means any.

    Attributes
    ----------
    since, until
        Of the time of the wave; `until` is excluded.
    is_announced
        Whether the pair was announced and that stands.
    """

    since: datetime | None = None
    until: datetime | None = None
    state: str | None = None
    is_announced: bool | None = None
    is_test: bool | None = None
    odds_min: float | None = None
    superevent_id: str | None = None
    frb_id: int | None = None

    def conditions(self) -> Sequence[listing.Condition]:
        """Return what lines must fulfil."""
        conditions = listing.given(
            ("event_time >= {}", self.since),
            ("event_time < {}", self.until),
            ("state = {}", self.state),
            ("is_test = {}", self.is_test),
            ("odds >= {}", self.odds_min),
            ("superevent_id = {}", self.superevent_id),
            ("frb_id = {}", self.frb_id),
        )
        if self.is_announced is not None:
            # As the index of the open ones says it.
            conditions.append(("is_open" if self.is_announced else "NOT is_open",))
        return conditions


EXPORTED = ("superevent_id", "frb_id", "coincidence_id", "internal_name", "tns_name", "is_test", "state", "is_open",
            "revision", "reason", "odds", "time_offset_s", "time_offset_err_s", "window_name", "overlap_sky",
            "overlap_3d", "credible_level", "far_time_hz", "far_space_time_hz", "event_time", "burst_time",
            "decided_at", "method_version", "burst_revision")  # fmt: skip
LISTING = listing.Listing(
    source="coincidence.pair_lines",
    columns=EXPORTED,
    keys={
        "decided_at": listing.Key(listing.MOMENT),
        "event_time": listing.Key(listing.MOMENT, Unknown.LEFT_OUT),
        **dict.fromkeys(("odds", "far_space_time_hz"), listing.Key(listing.NUMBER, Unknown.LEFT_OUT)),
        "superevent_id": listing.Key(listing.TEXT),
        "frb_id": listing.Key(listing.ID),
    },
    counted_at_most=COUNTED_AT_MOST,
)


class PairTable(listing.Table):
    """Reads lines through a pool."""

    listing = LISTING


@dataclass(frozen=True)
class Alert:
    """Which alert went into a decision."""

    sequence: int
    alert_type: str


@dataclass(frozen=True)
class Decision:
    """A decision about a pair, and how it differs from the one before."""

    decided_at: datetime
    state: str
    reason: str
    scores: CoincidenceScores | None
    alert: Alert | None
    map_id: Any
    burst_revision: int
    method_version: str
    told_as: str | None
    revision: int | None
    changes: Sequence[str]


@dataclass(frozen=True)
class Condition:
    """Something that a pair must fulfil to be announced.

    Attributes
    ----------
    holds
        None: not known, or not asked.
    """

    name: str
    value: str | None
    limit: str
    holds: bool | None


@dataclass(frozen=True)
class Pair:
    """Everything known of a pair.

    Attributes
    ----------
    scores
        The last that were counted; `is_counted_now` says whether they are of the last decision.
    rules
        The settings that the last decision went by, None where nothing is known of them.
    """

    line: Mapping[str, Any]
    wave: Mapping[str, Any]
    burst: CoincidentBurst | None
    burst_state: Mapping[str, Any]
    scores: CoincidenceScores | None
    is_counted_now: bool
    record: Coincidence | None
    decisions: Sequence[Decision]
    rules: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Superevent and burst, joined."""
        return str(self.line["coincidence_id"])

    @property
    def alert(self) -> Mapping[str, Any]:
        """What the wave's alert says."""
        return self.wave.get("alert") or {}

    @property
    def skymap(self) -> BlobRef | None:
        """The wave's newest canonical map."""
        known = self.wave.get("skymap")
        return BlobRef.model_validate(known["canonical"]) if known else None

    @property
    def was_retracted(self) -> bool:
        """Whether it was announced, and taken back."""
        return self.line["revision"] > 0 and not self.line["is_open"]

    @property
    def offset_s(self) -> float | None:
        """Burst less wave, as both are known now (s)."""
        if self.burst is None or self.line["event_time"] is None:
            return None
        return float((self.burst.time - self.line["event_time"]).total_seconds())

    @property
    def of_class(self) -> Mapping[str, Any] | None:
        """The rules for waves of this class."""
        if self.rules is None:
            return None
        found: Mapping[str, Any] = self.rules["cbc" if self.alert.get("group", "").upper() == "CBC" else "burst"]
        return found

    def windows(self) -> list[Window]:
        """The windows in which pairs of this class are compared, as burst less wave; the narrow one first."""
        offset = self.offset_s
        if offset is None or self.burst is None:
            return []
        margin = ERRORS_WIDE * self.burst.time_err_s
        known = self.of_class
        if known is not None:
            bounds = [("narrow", known["narrow_s"]), ("wide", known["wide_s"])]
        elif self.scores is not None:
            bounds = [(self.scores.window.lower(), [self.scores.window_low_s, self.scores.window_high_s])]
        else:
            bounds = []
        # Rules and records count from the burst.
        return [Window(name, -high, -low, low - margin <= -offset <= high + margin) for name, (low, high) in bounds]

    def tests(self) -> list[Condition]:
        """What a pair must fulfil to be announced, by the rules."""
        rules, own = self.rules, self.of_class
        if rules is None or own is None or self.burst is None:
            return []
        scores = self.scores
        far = background = None
        if scores is not None:
            n = scores.trials_factor
            if scores.far_space_time_hz is not None:
                far = n * (n - 1) * scores.far_space_time_hz * SECONDS_PER_YEAR
            background = scores.background.rate_per_year if scores.background else None
        importance = self.burst_state.get("importance")
        repeater = bool(self.burst_state.get("repeater"))
        taken_back = bool(self.line["is_retracted"]) or self.burst_state.get("status") in ("WITHDRAWN", "REJECTED")
        least = rules["min_overlap"]
        sky, volume = (scores.overlap_sky, scores.overlap_3d) if scores else (None, None)
        most = own["max_far_per_year"]
        allowed = rules["announce_repeaters"]
        windows = self.windows()
        positions = self.burst.localisation is not None and self.skymap is not None
        return [
            Condition("Wave and burst stand", "one was taken back" if taken_back else "both", "both", not taken_back),
            Condition("Offset in a window", None if self.offset_s is None else f"{self.offset_s:.4g} s",
                 "; ".join(f"{each.name}: {_plus(each.low_s)} to {_plus(each.high_s)} s" for each in windows),
                 any(each.holds for each in windows)),
            Condition("Positions known", "both" if positions else "not both", "both", positions),
            Condition("Overlap of the positions", _short(sky), f"at least {least:g}", _at_least(sky, least)),
            Condition("Overlap with distances", _short(volume), f"at least {least:g}, where known",
                 None if volume is None else volume >= least),
            Condition("Joint false-alarm rate, with trials", _short(far, "per yr"), f"at most {most:.3g} per yr",
                 None if far is None else far <= most),
            Condition("Measured background", _short(background, "per yr"), f"at most {most:.3g} per yr, where measured",
                 None if background is None else background <= most),
            Condition("Real, says origin", _short(importance), f"at least {rules['min_importance']:g}, where stated",
                 _at_least(importance, rules["min_importance"])),
            Condition("Burst of no known repeater", "a repeater" if repeater else "none known",
                 "repeaters are announced" if allowed else "none", allowed or not repeater),
        ]  # fmt: skip


def _short(value: float | None, unit: str = "") -> str | None:
    return None if value is None or not math.isfinite(value) else f"{value:.3g} {unit}".strip()


def _plus(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}")


def _at_least(value: float | None, least: float) -> bool | None:
    return None if value is None else value >= least


async def read_pair(pool: asyncpg.Pool, superevent_id: str, frb_id: int) -> Pair | None:
    """Return a pair, None for one that was never considered."""
    async with borrowed(pool) as connection:
        with translated_errors():
            line = await connection.fetchrow(
                "SELECT * FROM coincidence.pair_lines WHERE superevent_id = $1 AND frb_id = $2", superevent_id, frb_id
            )
            if line is None:
                return None
            history = await connection.fetch(
                "SELECT * FROM coincidence.history_lines WHERE superevent_id = $1 AND frb_id = $2"
                " ORDER BY id DESC LIMIT $3",
                superevent_id, frb_id, MAX_DECISIONS + 1,
            )  # fmt: skip
            alerts = await connection.fetch(
                "SELECT event_id, sequence, alert_type FROM gw_listener.alert_lines WHERE event_id = ANY($1::uuid[])",
                [row["alert_event_id"] for row in history],
            )
            rules = await connection.fetchrow(
                # Before the first were written down, the first held.
                "SELECT settings FROM coincidence.rule_lines ORDER BY since <= $1 DESC,"
                " CASE WHEN since <= $1 THEN since END DESC, since LIMIT 1",
                line["decided_at"],
            )
    burst = _json(line["burst"])
    scores = [_scores(row["scores"]) for row in history]
    named = {row["event_id"]: Alert(row["sequence"], row["alert_type"]) for row in alerts}
    return Pair(
        line=dict(line),
        wave=_json(line["wave"]),
        burst=CoincidentBurst.model_validate(burst["facts"]) if burst else None,
        burst_state=burst,
        scores=next((counted for counted in scores if counted is not None), None),
        is_counted_now=line["scores"] is not None,
        record=Coincidence.model_validate_json(line["record"]) if line["record"] else None,
        decisions=_decisions([dict(row) for row in history], scores, named)[:MAX_DECISIONS],
        rules=_json(rules["settings"]) if rules else None,
    )


def _json(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}


def _scores(text: str | None) -> CoincidenceScores | None:
    return CoincidenceScores.model_validate_json(text) if text else None


def _decisions(
    history: Sequence[Mapping[str, Any]], scores: Sequence[CoincidenceScores | None], alerts: Mapping[Any, Alert]
) -> list[Decision]:
    decisions = []
    for number, (row, counted) in enumerate(zip(history, scores, strict=True)):
        older = history[number + 1] if number + 1 < len(history) else None
        alert = alerts.get(row["alert_event_id"])
        changes = ["first decision"]
        if older is not None:
            changes = _lineage(older, row, alert) + score_changes(scores[number + 1], counted)
            changes = changes or ["the reason"]
        decisions.append(
            Decision(
                row["decided_at"],
                row["state"],
                row["reason"],
                counted,
                alert,
                row["map_id"],
                row["burst_revision"],
                row["method_version"],
                row["coincidence_type"],
                row["revision"],
                changes,
            )
        )
    return decisions


def _lineage(older: Mapping[str, Any], row: Mapping[str, Any], alert: Alert | None) -> list[str]:
    changes = []
    if row["alert_event_id"] != older["alert_event_id"]:
        what = f": {alert.alert_type.lower().replace('_', ' ')}, number {alert.sequence}" if alert else ""
        changes.append(f"newer alert{what}")
    if row["map_id"] != older["map_id"]:
        changes.append("first sky map" if older["map_id"] is None else "newer sky map")
    if row["burst_revision"] != older["burst_revision"]:
        changes.append(f"burst revision {older['burst_revision']} to {row['burst_revision']}")
    if row["method_version"] != older["method_version"]:
        changes.append(f"method {older['method_version']} to {row['method_version']}")
    if row["state"] != older["state"]:
        changes.append(f"{plain(older['state'])} to {plain(row['state'])}")
    return changes


COMPARED = {
    "time_offset_s": "offset (s)",
    "overlap_sky": "overlap",
    "overlap_3d": "overlap with distances",
    "credible_level": "credible level",
    "far_space_time_hz": "joint rate (Hz)",
    "odds": "odds",
}
# Of the scores, with how they are called.


def score_changes(older: CoincidenceScores | None, newer: CoincidenceScores | None) -> list[str]:
    """Return which scores differ, from what to what."""
    if older is None or newer is None:
        return [] if older is newer else ["scores no longer counted" if newer is None else "scores counted"]
    changes = []
    for field, name in COMPARED.items():
        before, after = getattr(older, field), getattr(newer, field)
        if before is None and after is None:
            continue
        if before is None or after is None or abs(after - before) > CHANGED * max(abs(before), abs(after)):
            changes.append(f"{name} {_short(before) or 'not known'} to {_short(after) or 'not known'}")
    window = (older.window, newer.window)
    return changes + ([f"{window[0].lower()} window to {window[1].lower()}"] if window[0] != window[1] else [])


def plain(state: str) -> str:
    """Return a state in words."""
    return state.lower().replace("_", " ")
