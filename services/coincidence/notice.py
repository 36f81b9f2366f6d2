"""A coincidence as a notice in NASA GCN's unified schema.

The form is `schemas/gcn/coincidence/v1.schema.json`: GCN's core schemas, version 7.2.1, and keys of our own for what
they have no place for.
"""

import base64
import gzip
from typing import Any

from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.gcn import encode_notice, iso_time, position
from shared.events.mma import (
    Coincidence,
    CoincidenceScores,
    CoincidenceType,
    CoincidenceWindow,
    CoincidentBurst,
    CoincidentWave,
)

NOTICE_SCHEMA = "urn:tocsin:gcn:coincidence:v1"
# A notice names its schema; ours is not published by GCN, so that no address of theirs may stand here.
MAX_NOTICE_BYTES = 4_000_000
# GCN's broker takes messages of about 4 MiB; the rest is left to keys, headers and framing.

_WAVE_TOPIC = "igwn.gwalert"
_BURST_TOPICS = {"CHIME": "gcn.notices.chime.frb", "DSA-110": "gcn.notices.dsa110.frb"}
_OWN_BURST_TOPIC = "frb.events"

_ALERT_TYPES = {
    CoincidenceType.INITIAL: "initial",
    CoincidenceType.UPDATE: "update",
    CoincidenceType.RETRACTION: "retraction",
}
_WINDOWS = {CoincidenceWindow.NARROW: "narrow", CoincidenceWindow.WIDE: "wide"}


def gcn_notice(
    record: Coincidence, combined: bytes | None, *, mission: str, max_bytes: int = MAX_NOTICE_BYTES
) -> bytes:
    """Return a record as a notice: JSON in UTF-8, the same bytes for the same record.

    What the record does not know is left out, and so are numbers that are not finite: JSON has no null in GCN's
    schemas and no infinity. A retraction tells what is taken back and why, and nothing of how well it went together.

    Parameters
    ----------
    record
        The coincidence.
    combined
        The combined sky map (FITS), None when there is none. It travels inside of the notice: as it is, or gzipped
        when the notice would be too long. If it is too long even so, the map is named by its address.
    mission
        Who reports.
    max_bytes
        Longest notice.

    Raises
    ------
    InvalidInputError
        For a record of unknown type, and when the notice is too long even without the map.
    """
    notice = _identity(record, mission=mission)
    if record.coincidence_type is not CoincidenceType.RETRACTION:
        notice |= _burst(record.burst)
        if record.scores is not None:
            notice |= _scores(record.wave, record.scores)
            if combined is not None:
                for pack in (bytes, _gzipped):
                    content = encode_notice(notice | {"healpix_file": base64.b64encode(pack(combined)).decode("ascii")})
                    if len(content) <= max_bytes:
                        return content
            if record.scores.combined_skymap is not None:
                notice["healpix_url"] = record.scores.combined_skymap.uri
    content = encode_notice(notice)
    if len(content) > max_bytes:
        raise InvalidInputError("max_bytes", max_bytes, f"at least {len(content)}, the notice without its sky map")
    return content


def _identity(record: Coincidence, *, mission: str) -> dict[str, Any]:
    """Who says when of which pair, and from what."""
    if record.coincidence_type not in _ALERT_TYPES:
        raise InvalidInputError("coincidence_type", record.coincidence_type.value, "INITIAL, UPDATE or RETRACTION")
    wave, burst = record.wave, record.burst
    return {
        "$schema": NOTICE_SCHEMA,
        "mission": mission,
        # One messenger only is allowed: that of the trigger, which is the burst. ref_type names the other.
        "messenger": "EM",
        "record_number": record.revision,
        "alert_datetime": iso_time(record.decided_at),
        "alert_tense": "test" if record.is_test else "current",
        "alert_type": _ALERT_TYPES[record.coincidence_type],
        "event_name": [wave.superevent_id, burst.tns_name or burst.internal_name],
        "id": record.coincidence_id,
        **_wave_reference(wave),
        "reference": _wave_citation(wave) | _burst_citation(burst),
        "trigger_time": iso_time(burst.time),
        "trigger_time_error": burst.time_err_s,
        "additional_info": record.reason,
        "method_version": record.method_version,
        "inputs": {
            "wave": {
                **_wave_reference(wave),
                "reference": _wave_citation(wave),
                "alert_event_id": str(wave.alert_event_id),
                "alert_datetime": iso_time(wave.alert_time_created),
                "trigger_time": iso_time(wave.event_time),
                "group": wave.group,
                "search": wave.search,
                "pipeline": wave.pipeline,
                "significant": wave.significant,
                "far": wave.far_hz,
                "skymap_event_id": None if wave.skymap_event_id is None else str(wave.skymap_event_id),
                "skymap_sha256": _sha256(wave.skymap),
            },
            "burst": {
                "ref_type": "FRB",
                "ref_instrument": mission if burst.origin == "upload" else burst.origin,
                "ref_ID": burst.origin_id or burst.internal_name,
                "reference": _burst_citation(burst),
                "frb_id": burst.frb_id,
                "revision": burst.revision,
                "timing_note": burst.timing_note,
            },
        },
    }


def _wave_reference(wave: CoincidentWave) -> dict[str, Any]:
    return {"ref_type": "GW", "ref_instrument": "LVK", "ref_ID": wave.superevent_id}


def _wave_citation(wave: CoincidentWave) -> dict[str, str]:
    """Cite as GCN's followers do, S230914ak-2-Preliminary, but for the number: the alerts carry none."""
    return {_WAVE_TOPIC: f"{wave.superevent_id}-{wave.alert_type.lower()}"}


def _burst_citation(burst: CoincidentBurst) -> dict[str, str]:
    topic = _BURST_TOPICS.get(burst.origin)
    if topic is None or burst.origin_id is None:
        return {_OWN_BURST_TOPIC: str(burst.frb_id)}
    return {topic: burst.origin_id}


def _burst(burst: CoincidentBurst) -> dict[str, Any]:
    """Where the burst came from, how far it may be."""
    return {
        **position(burst.localisation),
        "snr": burst.snr,
        "dm": burst.dm_pc_cm3,
        "dm_error": burst.dm_err_pc_cm3,
        "dm_excess": burst.dm_excess_pc_cm3,
        "redshift": burst.redshift,
        "redshift_range": [burst.redshift_low, burst.redshift_high],
    }


def _scores(wave: CoincidentWave, scores: CoincidenceScores) -> dict[str, Any]:
    """How well the two go together."""
    # The distance in the burst's direction says more than that of the whole map.
    distance = (scores.wave_distance_mean_mpc, scores.wave_distance_std_mpc)
    if scores.wave_distance_mean_mpc is None:
        distance = (wave.distance_mean_mpc, wave.distance_std_mpc)
    return {
        "far": scores.far_space_time_hz,
        "p_astro": wave.p_astro,
        "luminosity_distance": distance[0],
        "luminosity_distance_error": distance[1],
        "luminosity_distance_range": [scores.burst_distance_low_mpc, scores.burst_distance_high_mpc],
        "time_offset": scores.time_offset_s,
        "time_offset_error": scores.time_offset_err_s,
        "window": _WINDOWS.get(scores.window),
        # Records count from the burst, notices from the wave like their time_offset.
        "window_range": [-scores.window_high_s, -scores.window_low_s],
        "overlap_sky": scores.overlap_sky,
        "overlap_3d": scores.overlap_3d,
        "distance_factor": scores.distance_factor,
        "credible_level": scores.credible_level,
        "far_time": scores.far_time_hz,
        "n_trials": scores.trials_factor,
        "burst_rate_per_year": scores.burst_rate_per_year,
        "odds": scores.odds,
        "prior_odds": scores.prior_odds,
        "background": None if scores.background is None else scores.background.model_dump(),
        "healpix_sha256": _sha256(scores.combined_skymap),
    }


def _gzipped(skymap: bytes) -> bytes:
    # GCN's own example of a localisation is gzipped, but astropy opens that only from a file: the second choice.
    return gzip.compress(skymap, mtime=0)


def _sha256(blob: BlobRef | None) -> str | None:
    return None if blob is None else blob.sha256
