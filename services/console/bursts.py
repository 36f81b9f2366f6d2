"""What the pages about bursts show: the columns of the table, what changed between measurements, the time line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from astropy.coordinates import Angle
from markupsafe import Markup

from services.console import columns
from services.console.columns import Column
from services.console.site import UNKNOWN, age_html, known_html, number_html, time_html

TABLE = "/frb"
FILTERS = (
    "since", "until", "dm_min", "dm_max", "sn_min", "sn_max", "ra", "dec", "radius", "repeater", "status", "rating",
    "tns_name", "is_test",
)  # fmt: skip
ORDER = ("sort", "order")
PAGING = ("limit", "cursor")
# As the intake names them.
MAX_SENT_CHARACTERS = 256
# Of a filter. The intake refuses what is longer than anything it knows; this keeps its log short.
RATINGS = ("confirm", "reject", "unsure")
DM_UNIT = "pc cm⁻³"


COLUMNS = (
    Column("ID", "Number of the burst here", sort="id", is_number=True),
    Column("Name", "At the Transient Name Server; else here"),
    Column("Arrival", "At the telescope, at the reference frequency", sort="time"),
    Column("Status", "Candidate, confirmed, rejected or withdrawn"),
    Column("Confirm", "People whose last vote is confirm", sort="confirm", is_number=True),
    Column("Reject", "People whose last vote is reject", sort="reject", is_number=True),
    Column("Unsure", "People whose last vote is unsure", is_number=True),
    Column("RA", "Right ascension, ICRS, with its error", is_number=True),
    Column("Dec", "Declination, ICRS, with its error", is_number=True),
    Column("DM", "Dispersion measure with its error", sort="dm", is_number=True),
    Column("Excess DM", "Beyond the Milky Way and its halo", sort="dm_excess", is_number=True),
    Column("Redshift from DM", "Mean and range of 90 % by the Macquart relation", is_number=True),
    Column("S/N", "Signal-to-noise ratio", sort="sn", is_number=True),
    Column("Width", "Of the pulse", sort="width", is_number=True),
    Column("z", "Redshift that was measured", is_number=True),
    Column("RM", "Rotation measure with its error", is_number=True),
    Column("Fluence", "With its error", is_number=True),
    Column("Flux density", "With its error", is_number=True),
    Column("Repeater", "Whether the source repeats"),
    Column("Source", "Pipeline of the latest measurement"),
    Column("Version", "Of that pipeline"),
    Column("Measured", "When the latest measurement came in"),
    Column("Measurements", "How many there are", is_number=True),
)


def asked(query: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return what was filled in of a form."""
    found = {name: query[name].strip()[:MAX_SENT_CHARACTERS] for name in names if name in query}
    return {name: value for name, value in found.items() if value}


def address(path: str, *queries: Mapping[str, str]) -> str:
    """Return an address with what it asks for."""
    query = urlencode({name: value for query in queries for name, value in query.items()})
    return f"{path}?{query}" if query else path


def heads(filters: Mapping[str, str], order: Mapping[str, str], limit: Mapping[str, str]) -> list[columns.Head]:
    """Return the heads of the table."""

    def link(sort: str, way: str) -> str:
        return address(TABLE, filters, {"sort": sort, "order": way}, limit)

    return columns.heads(COLUMNS, sort=order.get("sort", "time"), way=order.get("order", "desc"), address=link)


def axis_errors_deg(
    semi_major_deg: float | None, semi_minor_deg: float | None, position_angle_deg: float | None
) -> tuple[float | None, float | None]:
    """Return how far an error ellipse reaches along right ascension (as an angle on the sky) and declination (deg)."""
    if semi_major_deg is None or semi_minor_deg is None or position_angle_deg is None:
        return None, None
    turn = math.radians(position_angle_deg)
    along, across = math.sin(turn), math.cos(turn)
    return (
        math.hypot(semi_major_deg * along, semi_minor_deg * across),
        math.hypot(semi_major_deg * across, semi_minor_deg * along),
    )


def row(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of the intake's list with the errors of both coordinates."""
    errors = axis_errors_deg(line["error_semi_major"], line["error_semi_minor"], line["error_position_angle"])
    redshift = range_html(line["redshift_mean"], line["redshift_low"], line["redshift_high"])
    return {**line, "ra_err": errors[0], "dec_err": errors[1], "redshift_from_dm": redshift}


OF_MEASUREMENT = {
    "number": "number", "dm": "dm_pc_cm3", "dm_err": "dm_err_pc_cm3", "sn": "snr", "width": "width_ms",
    "flux": "flux_jy", "flux_err": "flux_err_jy", "fluence": "fluence_jy_ms", "fluence_err": "fluence_err_jy_ms",
    "rm": "rm_rad_m2", "rm_err": "rm_err_rad_m2", "z": "redshift", "source": "pipeline", "version": "pipeline_version",
    "measured_at": "made_at",
}  # fmt: skip
OF_PLACE = {"ra": "ra_deg", "dec": "dec_deg", "error_semi_major": "semi_major_deg",
            "error_semi_minor": "semi_minor_deg", "error_position_angle": "position_angle_deg"}  # fmt: skip
OF_BUDGET = {"dm_excess": "dm_excess_pc_cm3", "redshift_mean": "redshift_mean", "redshift_low": "redshift_low",
             "redshift_high": "redshift_high"}  # fmt: skip
# What the list calls things, and what a measurement does.


def version_row(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measurement as a line of the table."""
    place, budget = measurement["localisation"] or {}, measurement["dm_budget"] or {}
    return row(
        {name: measurement[key] for name, key in OF_MEASUREMENT.items()}
        | {name: place.get(key) for name, key in OF_PLACE.items()}
        | {name: budget.get(key) for name, key in OF_BUDGET.items()}
    )


def range_html(mean: float | None, low: float | None, high: float | None) -> Markup:
    """Return a redshift with its range."""
    if mean is None or low is None or high is None:
        return UNKNOWN
    # Numbers alone, and once for every line of a table.
    return Markup(f'<span class="num">{mean:.2f} <span class="unit">({low:.2f} to {high:.2f})</span></span>')  # noqa: S704


# One burst.


@dataclass(frozen=True)
class Fact:
    """A quantity of a measurement: what it is called, what it is compared by, and how it is shown."""

    name: str
    value: object
    html: Markup


def facts(measurement: Mapping[str, Any] | None) -> list[Fact]:
    """Return everything that a measurement says, and what follows from it."""
    known = measurement or {}
    place = known.get("localisation") or {}
    budget = known.get("dm_budget") or {}
    errors = axis_errors_deg(*(place.get(name) for name in ("semi_major_deg", "semi_minor_deg", "position_angle_deg")))

    def number(
        name: str, source: Mapping[str, Any], key: str, unit: str = "", error: str = "", digits: int = 6
    ) -> Fact:
        value, error_value = source.get(key), source.get(error)
        return Fact(name, (value, error_value), number_html(value, unit, error_value, digits))

    def angle(name: str, key: str, error: float | None, sexagesimal: str) -> Fact:
        value = place.get(key)
        shown = number_html(value, "°", error, 8)
        if value is not None:
            shown += Markup('<br><span class="unit">{}</span>').format(sexagesimal)
        return Fact(name, (value, error), shown)

    ra, dec = place.get("ra_deg"), place.get("dec_deg")
    return [
        Fact("Measured", None, time_html(known.get("made_at"))),
        Fact("By", known.get("made_by"), known_html(known.get("made_by"))),
        Fact("Source (pipeline)", known.get("pipeline"), known_html(known.get("pipeline"))),
        Fact("Version", known.get("pipeline_version"), known_html(known.get("pipeline_version"))),
        number("DM", known, "dm_pc_cm3", DM_UNIT, "dm_err_pc_cm3"),
        number("S/N", known, "snr"),
        number("Width", known, "width_ms", "ms"),
        number("Flux density", known, "flux_jy", "Jy", "flux_err_jy"),
        number("Fluence", known, "fluence_jy_ms", "Jy ms", "fluence_err_jy_ms"),
        number("RM", known, "rm_rad_m2", "rad m⁻²", "rm_err_rad_m2"),
        number("Redshift, measured", known, "redshift"),
        Fact(
            "Arrival at infinite frequency",
            known.get("time_of_arrival_inf"),
            instant_html(known.get("time_of_arrival_inf"), known.get("time_of_arrival_inf_err_s")),
        ),
        angle("RA (ICRS)", "ra_deg", errors[0], "" if ra is None else sexagesimal_ra(ra)),
        angle("Dec (ICRS)", "dec_deg", errors[1], "" if dec is None else sexagesimal_dec(dec)),
        Fact("Error ellipse", tuple(place.values()), ellipse_html(place)),
        number("Galactic longitude", known, "gl_deg", "°"),
        number("Galactic latitude", known, "gb_deg", "°"),
        number(f"DM of the Milky Way{_model(budget)}", budget, "dm_mw_ism_pc_cm3", DM_UNIT),
        number("DM of its halo", budget, "dm_mw_halo_pc_cm3", DM_UNIT),
        number("Excess DM", budget, "dm_excess_pc_cm3", DM_UNIT),
        Fact(
            "Redshift from DM",
            tuple(budget.get(name) for name in ("redshift_mean", "redshift_low", "redshift_high")),
            range_html(*(budget.get(name) for name in ("redshift_mean", "redshift_low", "redshift_high"))),
        ),
        Fact("Cosmology", budget.get("cosmology"), known_html(budget.get("cosmology"))),
    ]


@dataclass(frozen=True)
class Compared:
    """A quantity in the first and in the latest measurement."""

    name: str
    first: Markup
    latest: Markup
    is_changed: bool


def compared(first: Mapping[str, Any] | None, latest: Mapping[str, Any] | None) -> list[Compared]:
    """Return the first detection beside the latest measurement."""
    return [
        Compared(now.name if now.value is not None else before.name, before.html, now.html, before.value != now.value)
        for before, now in zip(facts(first), facts(latest), strict=True)
    ]


def instant_html(value: str | None, error_s: float | None) -> Markup:
    """Return when something was, as exactly as it is known, with its error and age."""
    if value is None:
        return UNKNOWN
    text = f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    error = "" if error_s is None else f"± {error_s:.2g} s"
    return Markup('<span class="num">{} UTC</span> <span class="num">{}</span> {}').format(text, error, age_html(value))


def ellipse_html(place: Mapping[str, Any]) -> Markup:
    """Return the size, direction and confidence of an error ellipse."""
    if not place:
        return UNKNOWN
    size = (
        number_html(place["semi_major_deg"])
        + Markup(" \N{MULTIPLICATION SIGN} ")
        + number_html(place["semi_minor_deg"], "°")
    )
    return size + Markup(' <span class="unit">at {:.4g}°, north through east; {:.3g} %</span>').format(
        place["position_angle_deg"], 100 * place["confidence_level"]
    )


def sexagesimal_ra(ra_deg: float) -> str:
    """Return a right ascension in hours."""
    # Rounded to hundredths of a second first: what is all but 24 hours is none.
    hundredths = round(ra_deg * 24_000) % (360 * 24_000)
    return str(
        Angle(hundredths / 24_000, "deg").to_string(unit="hourangle", sep=("h ", "m ", "s"), precision=2, pad=True)
    )


def sexagesimal_dec(dec_deg: float) -> str:
    """Return a declination in degrees, minutes and seconds."""
    text = Angle(dec_deg, "deg").to_string(
        unit="deg", sep=("° ", "\N{PRIME} ", "\N{DOUBLE PRIME}"), precision=1, pad=True, alwayssign=True
    )
    return str(text).replace("-", "\N{MINUS SIGN}")


OBSERVATION = (
    ("beam_semi_major_axis", "Semi-major axis of the beam", "\N{PRIME}"),
    ("beam_semi_minor_axis", "Semi-minor axis of the beam", "\N{PRIME}"),
    ("beam_rotation_angle", "Rotation of the beam, clockwise from north", "°"),
    ("sampling_time", "Sampling time", "ms"),
    ("bandwidth", "Bandwidth", "MHz"),
    ("nchan", "Frequency channels", ""),
    ("centre_frequency", "Centre frequency", "MHz"),
    ("npol", "Polarisations", ""),
    ("bits_per_sample", "Bits of a sample", ""),
    ("gain", "Gain", "K/Jy"),
    ("tsys", "System temperature", "K"),
    ("backend", "Backend", ""),
    ("beam", "Beam", ""),
)
_NOTICE_UNITS = ("_arcmin", "_deg", "_ms", "_mhz", "_k_jy", "_k")
# What a notice of another observatory brought has the names of the record, which carry their units.


def observation_facts(observation: Mapping[str, Any] | None) -> list[tuple[str, Markup]]:
    """Return how the telescope was set up; empty when nothing is known."""
    if not observation:
        return []
    plain = {_without_unit(name): value for name, value in observation.items()}
    return [
        (label, known_html(value) if isinstance(value, str) else number_html(value, unit, digits=6))
        for name, label, unit in OBSERVATION
        if (value := plain.get(name)) is not None
    ]


def _without_unit(name: str) -> str:
    return next((name.removesuffix(unit) for unit in _NOTICE_UNITS if name.endswith(unit)), name)


@dataclass(frozen=True)
class Voter:
    """Somebody's votes; the last one counts."""

    name: str
    last: Mapping[str, Any]
    earlier: Sequence[Mapping[str, Any]]


def voters(ratings: Iterable[Mapping[str, Any]]) -> list[Voter]:
    """Return who voted what, the latest first; `ratings` are in their order."""
    votes: dict[str, list[Mapping[str, Any]]] = {}
    for vote in ratings:
        votes.setdefault(vote["rater"], []).append(vote)
    found = [Voter(name, cast[-1], cast[-2::-1]) for name, cast in votes.items()]
    return sorted(found, key=lambda voter: str(voter.last["rated_at"]), reverse=True)


@dataclass(frozen=True)
class Step:
    """Something that happened to a burst, or because of it."""

    at: datetime
    kind: str
    what: str
    who: str
    detail: str
    address: str | None = None


def timeline(
    history: Iterable[Mapping[str, Any]],
    notices: Iterable[Mapping[str, Any]],
    coincidences: Iterable[Mapping[str, Any]],
) -> list[Step]:
    """Return every change, what was told of it and what it coincides with, the latest first."""
    steps = [
        Step(
            datetime.fromisoformat(change["changed_at"]),
            "change",
            words(change["change"]),
            change["changed_by"],
            told(change["detail"]),
        )
        for change in history
    ]
    for notice in notices:
        what = f"{words(notice['action'])} notice on {notice['channel']}: {words(notice['state'])}"
        steps.append(Step(notice["changed_at"], "notice", what, "notifier", notice["reason"] or ""))
    for pair in coincidences:
        superevent = pair["wave"]["superevent_id"]
        steps.append(
            Step(
                datetime.fromisoformat(pair["decided_at"]),
                "coincidence",
                f"{words(pair['coincidence_type'])} with {superevent}",
                "coincidence",
                pair["reason"],
                pair_address(pair),
            )
        )
    return sorted(steps, key=lambda step: step.at, reverse=True)


def pair_address(pair: Mapping[str, Any]) -> str:
    """Return where the page of a coincidence is."""
    return f"/mma/{pair['coincidence_id']}"


def words(name: str) -> str:
    """Return the name of a state as people say it."""
    return name.lower().replace("_", " ")


def told(detail: Mapping[str, Any]) -> str:
    """Return in a line what a change brought."""
    known = {name: value for name, value in detail.items() if value not in (None, [], {}) and name not in _UNTOLD}
    return "; ".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in known.items())


def survey_address(pattern: str, *, ra_deg: float, dec_deg: float) -> str:
    """Return the address of a page about a position."""
    return pattern.replace("{ra}", f"{ra_deg:.6f}").replace("{dec}", f"{dec_deg:.6f}")


_UNTOLD = {"observation"}
# A number that nobody is called by.


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _model(budget: Mapping[str, Any]) -> str:
    return f" ({budget['dm_mw_ism_model']})" if budget else ""
