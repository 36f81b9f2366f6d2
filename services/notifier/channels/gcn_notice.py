"""Bursts and coincidences as notices in NASA GCN's unified schema.

The form of a burst is `schemas/gcn/frb/v1.schema.json`: GCN's core schemas, version 7.2.1, the keys that CHIME and
DSA-110 use for bursts, and keys of our own for what they have no place for. Coincidences come ready made.
"""

import json
from typing import Any

from services.notifier.channels.records import measured
from shared.events.frb import FrbChange, FrbEvent, FrbObservation
from shared.events.gcn import encode_notice, iso_time, position
from shared.events.notices import DeliveryAction

NOTICE_SCHEMA = "urn:tocsin:gcn:frb:v1"
# A notice names its schema; ours is not published by GCN, so that no address of theirs may stand here.

_TOPICS = {"CHIME": "gcn.notices.chime.frb", "DSA-110": "gcn.notices.dsa110.frb"}


def burst_notice(record: FrbEvent, *, action: DeliveryAction, number: int, mission: str, is_test: bool) -> bytes:
    """Return a burst as a notice: JSON in UTF-8, the same bytes for the same record.

    A burst of a source known to repeat is announced as `subsequent`, which is what CHIME does. A retraction tells
    what is taken back and why, and nothing of what was measured. What is not known is left out.

    Parameters
    ----------
    number
        Place among the notices of this burst, counted from 1.
    mission
        Who reports.
    is_test
        Whether the notice says that it is a test.
    """
    notice = {
        "$schema": NOTICE_SCHEMA,
        "mission": mission,
        "messenger": "EM",
        "record_number": number,
        "alert_datetime": iso_time(record.changed_at),
        "alert_tense": "test" if is_test else "current",
        "alert_type": _alert_type(record, action),
        "id": record.internal_name,
        "event_name": record.tns_name,
        **_reference(record),
        "trigger_time": None if record.time_of_arrival is None else iso_time(record.time_of_arrival),
        "trigger_time_error": record.time_of_arrival_err_s,
        "trigger_frequency": record.reference_frequency_mhz,
        "status": record.status.lower(),
        "update_message": None if action is DeliveryAction.NEW else _message(record),
        "additional_info": record.note,
    }
    if action is not DeliveryAction.RETRACTION:
        notice |= _observed(record.observation) if record.observation else {}
        notice |= _measured(record)
    return encode_notice(notice)


def coincidence_notice(content: bytes, *, is_test: bool, blobs_url: str | None) -> bytes:
    """Return the notice that came with a coincidence as it is sent.

    Its bytes stay as they are, unless it is to be called a test or its sky map is named by an address in the blob
    store, which nobody outside can read: `blobs_url` is where those blobs are served, and without it the map is
    not named.
    """
    notice = json.loads(content)
    changed = dict(notice)
    if is_test:
        changed["alert_tense"] = "test"
    address = str(notice.get("healpix_url", ""))
    if address and not address.startswith(("https://", "http://")):
        del changed["healpix_url"]
        if blobs_url is not None:
            # Below its root a blob store names a blob by its sha256, in two levels of folders.
            changed["healpix_url"] = "/".join([blobs_url.rstrip("/"), *address.rsplit("/", 3)[1:]])
    return content if changed == notice else encode_notice(changed)


def _alert_type(record: FrbEvent, action: DeliveryAction) -> str:
    match action:
        case DeliveryAction.RETRACTION:
            return "retraction"
        case DeliveryAction.UPDATE:
            return "update"
        case _:
            return "subsequent" if record.repeater else "initial"


def _reference(record: FrbEvent) -> dict[str, Any]:
    """Name the observatory whose notice brought the burst."""
    if record.origin == "upload":
        return {}
    topic = _TOPICS.get(record.origin)
    return {
        "ref_type": "FRB",
        "ref_instrument": record.origin,
        "ref_ID": record.origin_id,
        "reference": {topic: record.origin_id} if topic and record.origin_id else None,
    }


def _message(record: FrbEvent) -> str | None:
    """Say in prose what this record changes."""
    match record.change:
        case FrbChange.STATUS_CHANGED:
            return f"The burst is now {record.status.lower()}: {record.status_reason or 'no reason is given'}"
        case FrbChange.MEASURED:
            return "The burst was measured again."
        case FrbChange.CORRECTED:
            return "What was said of the burst is corrected."
        case FrbChange.NAMED:
            return f"The burst is called {record.tns_name} at the Transient Name Server."
        case _:
            return record.status_reason


def _observed(observation: FrbObservation) -> dict[str, Any]:
    band = None
    if observation.centre_frequency_mhz is not None and observation.bandwidth_mhz is not None:
        half = observation.bandwidth_mhz / 2
        band = [observation.centre_frequency_mhz - half, observation.centre_frequency_mhz + half]
    return {
        "instrument": observation.backend,
        "sampling_time": observation.sampling_time_ms,
        "spectral_band": band,
        # The schema's default is keV.
        "spectral_band_units": None if band is None else "MHz",
        "npol": observation.npol,
        "tsys": observation.tsys_k,
    }


def _measured(record: FrbEvent) -> dict[str, Any]:
    arrival, arrival_err_s = measured(record, "time_of_arrival_inf", "time_of_arrival_inf_err_s")
    dm, dm_err = measured(record, "dm_pc_cm3", "dm_err_pc_cm3")
    flux, flux_err = measured(record, "flux_jy", "flux_err_jy")
    fluence, fluence_err = measured(record, "fluence_jy_ms", "fluence_err_jy_ms")
    rm, rm_err = measured(record, "rm_rad_m2", "rm_err_rad_m2")
    (localisation,) = measured(record, "localisation")
    (budget,) = measured(record, "dm_budget")
    told = {
        **position(localisation),
        "known_source": record.repeater_of if record.repeater else None,
        "importance": record.importance,
        "trigger_time_inf_freq": None if arrival is None else iso_time(arrival),
        "trigger_time_inf_freq_error": arrival_err_s,
        "snr": measured(record, "snr")[0],
        "event_duration": measured(record, "width_ms")[0],
        "dm": dm,
        "dm_error": dm_err,
        "flux": flux,
        "flux_error": flux_err,
        "fluence": fluence,
        "fluence_error": fluence_err,
        "rm": rm,
        "rm_error": rm_err,
        "redshift": measured(record, "redshift")[0],
    }
    if budget is not None:
        is_ne2001 = budget.dm_mw_ism_model == "NE2001"
        told |= {
            "dm_gal_ne_2001_max": budget.dm_mw_ism_pc_cm3 if is_ne2001 else None,
            "dm_gal": budget.dm_mw_ism_pc_cm3,
            "dm_gal_model": budget.dm_mw_ism_model,
            "dm_halo": budget.dm_mw_halo_pc_cm3,
            "dm_excess": budget.dm_excess_pc_cm3,
            "redshift_range": [budget.redshift_low, budget.redshift_high],
        }
    return told
