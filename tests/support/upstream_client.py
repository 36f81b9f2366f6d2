"""What the telescope's published upload script sends and reads, written anew from recordings of it.

It opens a connection per request, shows its password at once, looks at no status, and reads nothing of an answer but
the `id` of the first two.
"""

import json
import secrets
import socket
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlencode

import yaml
from astropy.coordinates import SkyCoord

from tests.support.data import SAMPLES

UPLOAD = SAMPLES / "frb" / "upload"
URLENCODED, JSON = "application/x-www-form-urlencoded", "application/json"
TIMEOUT_S = 60.0

OBSERVATION_KEYS = (
    "beam_semi_major_axis", "beam_semi_minor_axis", "beam_rotation_angle", "sampling_time", "bandwidth", "nchan",
    "centre_frequency", "npol", "bits_per_sample", "gain", "tsys", "backend", "beam",
)  # fmt: skip
IMAGES = ("search", "image", "histogram")

# As recorded from the script with its own examples.
OBSERVATION_BODY = (
    b"beam_semi_major_axis=0.2&beam_semi_minor_axis=0.3&beam_rotation_angle=45&sampling_time=0.1&bandwidth=300"
    b"&nchan=3000&centre_frequency=1400&npol=2&bits_per_sample=8&gain=3&tsys=50&backend=Multibeam&beam=1"
)
MEASUREMENT_BODY = (
    b"frb=1&ra=77.01461542&dec=26.06069556&ra_hms=5h08m03.5077008s&dec_dms=26d03m38.504016s&ra_pos_error=0.05"
    b"&dec_pos_error=0.05&source=MB&version=v1.0&dm=411.0&dm_err=1.0&sn=50&width=5&flux=35&flux_err=3"
    b"&gl=177.76768559169042&gb=-8.523065557461571&z=0.0982&rm=-613.0&rm_err=2.0&fluence=45&fluence_err=5"
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request_bytes(
    method: str, path: str, body: bytes = b"", *, content_type: str = "", authorization: str = "", port: int = 8000
) -> bytes:
    """A request with the headers of python-requests, in their order."""
    head = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "User-Agent: python-requests/2.31.0",
        "Accept-Encoding: gzip, deflate",
        "Accept: */*",
        "Connection: keep-alive",
        f"Content-Length: {len(body)}",
    ]
    head += [f"Content-Type: {content_type}"] if content_type else []
    head += [f"Authorization: {authorization}"] if authorization else []
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def multipart(texts: Mapping[str, object], files: Mapping[str, tuple[str, bytes]]) -> tuple[str, bytes]:
    """Content type and body of a form with files: no part says its own type."""
    boundary = secrets.token_hex(16)
    lines: list[bytes] = []
    for name, value in texts.items():
        lines += [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()]
    for name, (file_name, data) in files.items():
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{file_name}"'
        lines += [f"--{boundary}\r\n{disposition}\r\n\r\n".encode(), data, b"\r\n"]
    return f"multipart/form-data; boundary={boundary}", b"".join([*lines, f"--{boundary}--\r\n".encode()])


def example_yamls() -> tuple[dict[str, Any], dict[str, Any]]:
    """The script's own observation and radio measurement, as YAML gives them."""
    return (
        yaml.safe_load((UPLOAD / "observation_example.yaml").read_text()),
        yaml.safe_load((UPLOAD / "radio_example.yaml").read_text()),
    )


def observation_fields(observation: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of request 1; what is null in the YAML is not sent."""
    return {key: observation[key] for key in OBSERVATION_KEYS if observation[key] is not None}


def measurement_fields(radio: Mapping[str, Any], burst_id: int) -> dict[str, Any]:
    """The fields of request 3; `dmism`, `cosmo` and `eellipse` are never sent."""
    place = SkyCoord(radio["ra"], radio["dec"], unit="deg", frame="icrs")
    names = {
        "ra_pos_error": "ra_err", "dec_pos_error": "dec_err", "source": "source", "version": "version", "dm": "dm",
        "dm_err": "dm_err", "sn": "sn", "width": "width", "flux": "flux", "flux_err": "flux_err",
    }  # fmt: skip
    optional = [("z",), ("rm", "rm_err"), ("fluence", "fluence_err")]
    return {
        "frb": burst_id,
        "ra": radio["ra"],
        "dec": radio["dec"],
        "ra_hms": place.ra.to_string(unit="hour"),
        "dec_dms": place.dec.to_string(unit="deg"),
        **{new: radio[old] for new, old in names.items()},
        "gl": place.galactic.l.deg,
        "gb": place.galactic.b.deg,
        **{key: radio[key] for keys in optional if all(key in radio for key in keys) for key in keys},
    }


def example_images() -> dict[str, tuple[str, bytes]]:
    """The script's own plots as the file parts of request 2."""
    names = {name: f"example_{name}.png" for name in IMAGES}
    return {f"{name}_open": (file, (UPLOAD / file).read_bytes()) for name, file in names.items()}


def with_text(png: bytes, text: str) -> bytes:
    """The same picture in other bytes: one more text chunk before the end."""
    chunk = b"tEXtComment\0" + text.encode()
    return png[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]


@dataclass
class UpstreamClient:
    """The script, for one account; `printed` is its standard output."""

    port: int
    user: str
    password: str
    printed: list[str] = field(default_factory=list)

    @property
    def authorization(self) -> str:
        return f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    def post(self, path: str, body: bytes, content_type: str = URLENCODED) -> Answer:
        return self.ask("POST", path, body, content_type=content_type, authorization=self.authorization)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request over a connection of its own."""
        return exchange(self.port, [request_bytes(method, path, body, port=self.port, **headers)], method=method)

    def post_fields(self, path: str, fields: Mapping[str, object]) -> Answer:
        return self.post(path, urlencode(fields).encode())

    def observe(self, observation: Mapping[str, Any]) -> Answer:
        """Request 1."""
        return self.post_fields("/observation_create/", observation_fields(observation))

    def announce(
        self, observation_id: object, radio: Mapping[str, Any], images: Mapping[str, tuple[str, bytes]]
    ) -> Answer:
        """Request 2."""
        texts = {"observation": observation_id, "time_of_arrival": radio["time_of_arrival"]}
        content_type, body = multipart(texts | {"repeater": radio["repeater"]}, images)
        return self.post("/frbevent_create/", body, content_type)

    def measure(self, radio: Mapping[str, Any], burst_id: int) -> Answer:
        """Request 3, and all of `--update`."""
        return self.post_fields("/radio_measurement_create/", measurement_fields(radio, burst_id))

    def first(
        self,
        observation: Mapping[str, Any],
        radio: Mapping[str, Any],
        images: Mapping[str, tuple[str, bytes]],
        *,
        before_third: Callable[[], None] = lambda: None,
    ) -> int:
        """`--first`: the id is printed before the last request, whose answer nobody reads.

        Raises
        ------
        KeyError
            What the script dies of when a request was refused.
        """
        observation_id = self.observe(observation).json()["id"]
        burst_id = self.announce(observation_id, radio, images).json()["id"]
        self.printed.append(f"{burst_id}\n")
        before_third()
        self.measure(radio, burst_id)
        return int(burst_id)


def exchange(port: int, pieces: Iterable[bytes], *, method: str = "POST", timeout_s: float = TIMEOUT_S) -> Answer:
    """Send bytes over a connection of their own; an answer that comes before their end is the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server knows enough; what it said is still there to read
        response = HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
