"""Tells by content and header whether something is an image that may be kept; decodes it in full, for later."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from shared.errors import InvalidInputError

_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
_KNOWN_STARTS = (
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<!doctype", "HTML"),
    (b"<html", "HTML"),
    (b"gif8", "GIF"),
    (b"%pdf", "PDF"),
    (b"riff", "WebP or another RIFF file"),
)


@dataclass(frozen=True)
class ImageInfo:
    """What an image's header says."""

    media_type: str
    width_px: int
    height_px: int


def inspect(data: bytes, *, field: str, max_bytes: int, max_pixels: int) -> ImageInfo:
    """Return what an image is, whatever its name says; only its header is read.

    Raises
    ------
    InvalidInputError
        It is no PNG or JPEG, or larger than allowed.
    """
    if not data:
        raise InvalidInputError(field, "empty", "a PNG or JPEG file")
    if len(data) > max_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"an image of at most {max_bytes} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the area is looked at here
            with Image.open(io.BytesIO(data), formats=tuple(_MEDIA_TYPES)) as image:
                media_type, (width_px, height_px) = _MEDIA_TYPES[str(image.format)], image.size
    except Image.DecompressionBombError as error:
        raise InvalidInputError(field, "a huge area", f"an image of at most {max_pixels} pixels") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InvalidInputError(field, _looks_like(data), "a PNG or JPEG file") from error
    if width_px * height_px > max_pixels or not width_px * height_px:
        raise InvalidInputError(field, f"{width_px} x {height_px} pixels", f"an image of at most {max_pixels} pixels")
    return ImageInfo(media_type, width_px, height_px)


def decode(data: bytes) -> None:
    """Decode an image in full.

    Raises
    ------
    InvalidInputError
        Its data are damaged or end too early.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=tuple(_MEDIA_TYPES)) as image:
                image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInputError("image", str(error), "an image that can be decoded") from error


def _looks_like(data: bytes) -> str:
    start = data[:256].lstrip().lower()
    for known, name in _KNOWN_STARTS:
        if start.startswith(known):
            return name
    return f"a file that begins with {data[:16]!r}"
