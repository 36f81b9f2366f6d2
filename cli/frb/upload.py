"""`tocsin frb upload`: a burst, or a further measurement of one, from YAML files and pictures."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cli.frb import options
from cli.frb.client import API, Body, FrbClient, document
from cli.frb.errors import InvalidInputsError, UnknownAnswerError, printable, told_line_by_line
from cli.frb.progress import tell, transfer_bar
from cli.frb.yaml_file import read_mapping, read_text
from services.frb_intake.models import BurstIn, MeasurementIn, ObservationIn, Sent
from shared.errors import InvalidInputError

BURST_KEYS = ("time_of_arrival", "repeater", "repeater_of")
# What the radio YAML says of the burst itself, beside what was measured.
IMAGES: Mapping[str, str] = {"search_path": "search", "image_path": "image", "histogram_path": "histogram"}
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
MAX_IMAGE_BYTES = 32 * 1024 * 1024
# As much as the server reads of a request. Plots have some 100 kB.


def upload(
    radio_yaml: Annotated[
        Path, typer.Option("--radio-yaml", "-r", metavar="FILE", help="The radio measurement.")
    ],
    observation_yaml: Annotated[
        Path | None,
        typer.Option(
            "--observation-yaml", "-o", metavar="FILE",
            help="How the telescope was set up; needed for a new burst.",
        ),
    ] = None,
    first: Annotated[bool, typer.Option("--first", "-f", help="A new burst; so without --update anyway.")] = False,
    update: Annotated[
        int | None, typer.Option("--update", "-u", metavar="ID", min=1, help="Add a measurement to this burst.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Mark a new burst as a test: nobody is alarmed.")] = False,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
    as_json: Annotated[bool, typer.Option("--json", help="Print the server's answer instead of the id.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all files and say what would be sent.")] = False,
) -> None:  # fmt: skip
    """Send a burst to the intake; its id, and nothing else, is printed on standard output.

    The paths of pictures in the radio YAML are relative to that file, or to the working directory.

    The same files are the same burst: whatever breaks off, the same command once more makes no second one.

    Options may be written with underscores too, as in --radio_yaml.
    """
    with told_line_by_line():
        if update is None:
            parcel = _new_burst(radio_yaml, observation_yaml, test=test)
        elif first or test:
            raise InvalidInputError("--update", f"given with {'--first' if first else '--test'}", "one of the two")
        else:
            parcel = _further_measurement(update, radio_yaml, observation_yaml)
        for line in parcel.contents:
            tell(line)
        if dry_run:
            size, address = len(parcel.body.content), f"{server.rstrip('/')}{API}{parcel.path}"
            tell(f"nothing is sent; would be {size} bytes to {address}")
            return
        answer = _send(parcel, options.writer(server, token_file, timeout_s, retries))
    typer.echo(json.dumps(answer, indent=2) if as_json else answer["id"])


@dataclass(frozen=True)
class Parcel:
    """A request, ready to be sent as often as it takes.

    Attributes
    ----------
    contents
        A line for people about each part.
    """

    path: str
    body: Body
    contents: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    name: str
    content: bytes
    media_type: str
    file_name: str | None = None


def _new_burst(radio_yaml: Path, observation_yaml: Path | None, *, test: bool) -> Parcel:
    if observation_yaml is None:
        raise InvalidInputError("--observation-yaml", "missing", "a file for a new burst, or --update ID")
    complaints: list[str] = []
    radio_text, radio = _described(radio_yaml, MeasurementIn, complaints)
    of_burst = {key: radio[key] for key in BURST_KEYS if radio.get(key) is not None}
    complaints += [f"{radio_yaml}: {complaint}" for complaint in _complaints(BurstIn, of_burst)]
    observation_text, _ = _described(observation_yaml, ObservationIn, complaints)
    images, contents = _images(radio, radio_yaml, complaints)
    if complaints:
        raise InvalidInputsError(complaints)
    parts = [
        _Part("radio_measurement", radio_text.encode(), "application/yaml"),
        _Part("observation", observation_text.encode(), "application/yaml"),
        _Part("is_test", b"true" if test else b"false", "text/plain"),
        *images,
    ]
    told = (f"radio measurement: {radio_yaml}", f"observation: {observation_yaml}", *contents)
    return Parcel("/events", _multipart(parts), (*told, "a test") if test else told)


def _further_measurement(frb_id: int, radio_yaml: Path, observation_yaml: Path | None) -> Parcel:
    complaints: list[str] = []
    text, _ = _described(radio_yaml, MeasurementIn, complaints)
    if complaints:
        raise InvalidInputsError(complaints)
    path, content = f"/events/{frb_id}/measurements", text.encode()
    contents = [f"radio measurement of burst {frb_id}: {radio_yaml}"]
    if observation_yaml is not None:
        contents.append(f"not sent: {observation_yaml}; the observation came with the first measurement")
    key = _idempotency_key([_Part(path, content, "application/yaml")])
    return Parcel(path, Body(content, "application/yaml", {"Idempotency-Key": key}), tuple(contents))


def _described(path: Path, model: type[Sent], complaints: list[str]) -> tuple[str, dict[str, Any]]:
    """Return a YAML file's text and what it says; add to `complaints` what is wrong with it."""
    try:
        text = read_text(path)
        found = read_mapping(text, name=str(path))
    except InvalidInputError as error:
        complaints.append(str(error))
        return "", {}
    complaints += [f"{path}: {complaint}" for complaint in _complaints(model, found)]
    if unread := sorted(found.keys() - model.model_fields.keys() - {*BURST_KEYS, *IMAGES}):
        tell(f"{path}: the server does not read {', '.join(map(printable, unread))}")
    return text, found


def _complaints(model: type[Sent], found: Mapping[str, Any]) -> list[str]:
    """Return what the server would say of the values, as it judges them by the same model."""
    try:
        model.model_validate(found)
    except ValidationError as error:
        return [_complaint(problem) for problem in error.errors(include_url=False)]
    return []


def _complaint(problem: ErrorDetails) -> str:
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return str(InvalidInputError(field, "missing", "this key"))
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("expected ")
    return str(InvalidInputError(field, problem["input"], expected))


def _images(radio: Mapping[str, Any], radio_yaml: Path, complaints: list[str]) -> tuple[list[_Part], list[str]]:
    """Return the pictures that a radio YAML names, and a line about each; add to `complaints` what is wrong."""
    parts, lines = [], []
    for key, name in IMAGES.items():
        given = radio.get(key)
        if given is None:
            lines.append(f"{name}: none ({key} is not given)")
            continue
        try:
            part, place = _image(name, given, radio_yaml)
        except InvalidInputError as error:
            complaints.append(f"{radio_yaml}: {key}: {error}")
            continue
        parts.append(part)
        lines.append(f"{name}: {place}, {len(part.content)} bytes")
    return parts, lines


def _image(name: str, given: object, radio_yaml: Path) -> tuple[_Part, str]:
    """Return a picture, sought beside the YAML file and then in the working directory, and where it was found."""
    expected = "a PNG or JPEG file beside the YAML file or in the working directory"
    if not isinstance(given, str):
        raise InvalidInputError("the path", given, "text")
    beside, here = radio_yaml.parent / given, Path(given)
    found = beside if beside.is_file() else here
    if not found.is_file():
        raise InvalidInputError(given, "missing", expected)
    try:
        with found.open("rb") as stream:
            content = stream.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(given, error.strerror or str(error), expected) from error
    if len(content) > MAX_IMAGE_BYTES:
        raise InvalidInputError(given, "too long", f"at most {MAX_IMAGE_BYTES} bytes")
    media_type = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
    if media_type is None:
        raise InvalidInputError(given, "neither PNG nor JPEG", expected)
    where = "beside the YAML file" if found is beside else "in the working directory"
    return _Part(name, content, media_type, found.name), f"{found} ({where})"


def _multipart(parts: Sequence[_Part]) -> Body:
    """Return the parts as multipart/form-data, the same bytes for the same parts."""
    key = _idempotency_key(parts)
    # The key is the boundary too: a hash of the parts stands in none of them.
    media_type = f"multipart/form-data; boundary={key}"
    request = httpx.Request(
        "POST",
        "http://unsent",
        headers={"Content-Type": media_type},
        files=[(part.name, (part.file_name, part.content, part.media_type)) for part in parts],
    )
    return Body(request.read(), media_type, {"Idempotency-Key": key})


def _idempotency_key(parts: Sequence[_Part]) -> str:
    """Return what tells this upload from every other, and not from itself tried again."""
    digest = hashlib.blake2b(digest_size=24)
    # Short enough for a boundary, which has at most 70 characters (RFC 2046, 5.1.1).
    for part in parts:
        digest.update(f"{part.name} {len(part.content)} ".encode())
        digest.update(part.content)
    return f"tocsin-{digest.hexdigest()}"


def _send(parcel: Parcel, client: FrbClient) -> dict[str, Any]:
    with transfer_bar("uploading", len(parcel.body.content)) as on_bytes:
        answer = client.post(parcel.path, parcel.body, on_bytes=on_bytes)
    event = document(answer)
    if type(event.get("id")) is not int:
        raise UnknownAnswerError(f"{answer.request.url} answers {answer.status_code} without an id; expected a burst")
    done = "stored" if answer.status_code == httpx.codes.CREATED else "was stored before"
    tell(f"burst {event['id']}: {done} at {client.server}")
    return event
