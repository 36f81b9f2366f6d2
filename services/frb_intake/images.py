"""Tells by content and header whether something is an image that may be kept; decodes it in full, for later."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

from PIL import Image

from shared.errors import InvalidInputError

EXPECTED = "a PNG or JPEG file"

_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_PNG_HEADER_BYTES = 33
_JPEG_START = b"\xff\xd8\xff"
_JPEG_SIZES = {0xC0, 0xC1, 0xC2}
# Baseline, extended and progressive frames: what browsers show.
_JPEG_END_OF_HEADER = {0xD9, 0xDA}
_MAX_SEGMENTS = 1000
_KNOWN_STARTS = (
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<", "HTML"),
    (b"gif8", "GIF"),
    (b"%pdf", "PDF"),
    (b"riff", "WebP or another RIFF file"),
    (b"ii*\x00", "TIFF"),
    (b"mm\x00*", "TIFF"),
    (b"bm", "BMP"),
)
_DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombWarning,
    Image.DecompressionBombError,
)
# What Pillow's readers raise when they meet something unforeseen.


@dataclass(frozen=True)
class ImageInfo:
    """What an image's header says."""

    media_type: str
    width_px: int
    height_px: int


def inspect(data: bytes, *, field: str, max_bytes: int, max_pixels: int) -> ImageInfo:
    """Return what an image is, whatever its name says.

    Only the few bytes with its size are read: a library that opens an image reads all that stands before the pixels,
    which can be megabytes of compressed comments.

    Raises
    ------
    InvalidInputError
        It is no PNG (W3C PNG 3rd ed., 11.2.1) or JPEG (ITU T.81, B.2.2), or larger than allowed.
    """
    if not data:
        raise InvalidInputError(field, "empty", EXPECTED)
    if len(data) > max_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"an image of at most {max_bytes} bytes")
    if data.startswith(_PNG_START):
        media_type, size = "image/png", _png_size(data)
    elif data.startswith(_JPEG_START):
        media_type, size = "image/jpeg", _jpeg_size(data)
    else:
        raise InvalidInputError(field, _looks_like(data), EXPECTED)
    if size is None:
        raise InvalidInputError(field, f"an {media_type} whose header is damaged or cut off", EXPECTED)
    width_px, height_px = size
    if not 0 < width_px * height_px <= max_pixels:
        raise InvalidInputError(field, f"{width_px} x {height_px} pixels", f"an image of 1 to {max_pixels} pixels")
    return ImageInfo(media_type, width_px, height_px)


def decode(data: bytes) -> None:
    """Decode an image in full. For a worker process: it takes its time, and looks at warnings of the whole process.

    Raises
    ------
    InvalidInputError
        Its data are damaged or end too early, or it is so large that it may be meant to fill the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                image.verify()  # the checksums, which decoding does not look at
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                image.load()
    except _DAMAGE as error:
        raise InvalidInputError("image", str(error), "an image that can be decoded") from error


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < _PNG_HEADER_BYTES:
        return None
    width_px, height_px, checksum = struct.unpack_from(">II5xI", data, len(_PNG_START))
    # The checksum covers the chunk from its type on.
    return (width_px, height_px) if zlib.crc32(data[12:29]) == checksum else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the first frame header; None when there is none."""
    at = 2
    try:
        for _ in range(_MAX_SEGMENTS):
            filler, marker = data[at], data[at + 1]
            if filler != 0xFF or marker in _JPEG_END_OF_HEADER:
                return None
            if marker == 0xFF:
                at += 1
                continue
            if marker in _JPEG_SIZES:
                height_px, width_px = struct.unpack_from(">HH", data, at + 5)
                return width_px, height_px
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    except (IndexError, struct.error):
        pass
    return None


def _looks_like(data: bytes) -> str:
    start = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for known, name in _KNOWN_STARTS:
        if start.startswith(known):
            return name
    return f"a file that begins with {data[:16]!r}"
