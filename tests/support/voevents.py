"""VOEvent packets of a burst, as the standard has them and as CHIME sends them."""

from collections.abc import Mapping

CHIME_IVORN = "ivo://ca.chimenet.frb/FRB-DETECTION-#2022-03-20-10:00:28.960760UTC+0000_996ae14090d1"
STANDARD_IVORN = "ivo://org.example/dish#FRB2203201000/59658.41701389"

PARAMS = {"sampling_time": "0.5", "bandwidth": "300", "centre_frequency": "1400", "dm": "308.1", "dm_error": "0.8"}

CHIME_PARAMS = {
    "sampling_time": "0.983",
    "bandwidth": "400",
    "centre_frequency": "600",
    "npol": "2",
    "bits_per_sample": "8",
    "tsys": "50",
    "backend": "",
    "event_no": "217097677",
    "known_source_name": "",
    "event_type": "EXTRAGALACTIC",
    "pipeline_name": "real-time",
    "dm": "308.1332092285156",
    "dm_error": "0.808748543262481",
    "timestamp_utc_error": "0.007864319719374001",
    "snr": "24.771873474121094",
    "pos_error_semiminor_deg_95": "0.5392466329194251",
    "pos_error_semimajor_deg_95": "0.38229381212162405",
    "dm_gal_ne_2001_max": "26.284419129901345",
    "dm_gal_ymw_2016_max": "20.724408436144515",
    "timestamp_utc_inf_freq": "2022-03-20 10:00:20.969754+00:00",
    "timestamp_utc_inf_freq_error": "0.02239969915578273",
}

PLACE = ("207.13546129702095", "39.68328005638283", "0.5392466329194251")


def a_packet(
    *,
    ivorn: str = STANDARD_IVORN,
    role: str = "observation",
    params: Mapping[str, str] = PARAMS,
    system: str = "UTC-FK5-TOPO",
    time: str | None = "2022-03-20T10:00:28.960760",
    place: tuple[str, str, str] | None = PLACE,
    why: str = '<Why importance="0.99"><Description>A burst</Description></Why>',
    cites: Mapping[str, str] | None = None,
    grouped: bool = True,
    prefix: str = "voe:",
) -> bytes:
    """A packet; `cites` maps ivorns to how they are cited."""
    listed = "".join(f'<Param name="{name}" value="{value}"/>' for name, value in params.items())
    what = f'<What><Group name="event parameters">{listed}</Group></What>' if grouped else f"<What>{listed}</What>"
    when = f'<Time unit="s"><TimeInstant><ISOTime>{time}</ISOTime></TimeInstant></Time>' if time else ""
    where = ""
    if place:
        ra, dec, error = place
        where = (
            '<Position2D unit="deg"><Name1>RA</Name1><Name2>Dec</Name2>'
            f"<Value2><C1>{ra}</C1><C2>{dec}</C2></Value2><Error2Radius>{error}</Error2Radius></Position2D>"
        )
    cited = "".join(f'<EventIVORN cite="{how}">{name}</EventIVORN>' for name, how in (cites or {}).items())
    # The telescope's own place has a coordinate system and coordinates too.
    telescope = (
        '<ObservatoryLocation id="DISH"><AstroCoordSystem id="UTC-GEOD-TOPO"/><AstroCoords><Position3D><Value3>'
        "<C1>148.26</C1><C2>-32.99</C2><C3>415</C3></Value3></Position3D></AstroCoords></ObservatoryLocation>"
    )
    namespace = 'xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" ' if prefix else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{prefix}VOEvent {namespace}version="2.0" role="{role}" ivorn="{ivorn}">'
        f"<Who><Date>2022-03-20T10:01:00</Date></Who>{what}"
        f"<WhereWhen><ObsDataLocation>{telescope}<ObservationLocation>"
        f'<AstroCoordSystem id="{system}"/><AstroCoords coord_system_id="{system}">{when}{where}</AstroCoords>'
        f"</ObservationLocation></ObsDataLocation></WhereWhen>{why}"
        f"{f'<Citations>{cited}</Citations>' if cited else ''}</{prefix}VOEvent>"
    ).encode()


def a_chime_packet(**changes: str) -> bytes:
    """CHIME's detection, some of its parameters changed."""
    return a_packet(ivorn=CHIME_IVORN, params=CHIME_PARAMS | changes)


def a_chime_retraction() -> bytes:
    """As people issue it: no namespace, role utility, nothing in What, zeros for the position."""
    return a_packet(
        ivorn="ivo://ca.chimenet.frb/OBS-RETRACTION-#2022-03-21-09:49:11.821703UTC+0000_65550c2c8d65",
        role="utility",
        params={},
        place=("0", "0", "0"),
        time="2022-03-21T09:49:11.821703",
        why='<Why importance="1"><Inference probability="0" relation=""><Name/></Inference></Why>',
        cites={CHIME_IVORN: "retraction"},
        prefix="",
    )
