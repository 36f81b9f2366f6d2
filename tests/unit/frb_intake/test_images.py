"""An image is what its content says, and one that would harm is refused."""

import io
import struct
import subprocess
import sys
import time
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.frb_intake.images import ImageInfo, decode, inspect
from shared.errors import InvalidInputError
from tests.support.data import SAMPLES

MAX_BYTES = 8 * 1024 * 1024
MAX_PIXELS = 50_000_000
LIMIT_S = 0.1
# It takes microseconds; what is hostile aims at seconds. A busy machine stays below this.

NOISE = np.random.default_rng(17).integers(0, 255, (19, 23, 3), dtype=np.uint8)


def an_image(kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, kind, **how)
    return file.getvalue()


PNG, JPEG = an_image("PNG"), an_image("JPEG")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_png_of(width_px: int, height_px: int) -> bytes:
    """A tiny file that says it is of any size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0))
    return PNG[:8] + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def seen(data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return inspect(data, field="search", max_bytes=max_bytes, max_pixels=max_pixels)
    finally:
        assert time.perf_counter() - started < LIMIT_S


def refused(data: bytes, **limits: int) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as error:
        seen(data, **limits)
    assert error.value.field == "search"
    return error.value


@pytest.mark.parametrize(
    "data",
    [
        PNG,
        JPEG,
        an_image("JPEG", progressive=True),
        an_image("JPEG", exif=b"Exif\0\0" + b"x" * 60_000, icc_profile=b"p" * 200_000, comment=b"c"),
        JPEG[:2] + b"\xff" * 20 + JPEG[2:],
    ],
)
def test_a_picture_is_known_by_its_content(data: bytes) -> None:
    kind = "image/png" if data is PNG else "image/jpeg"
    assert seen(data) == ImageInfo(kind, 23, 19)
    decode(data)


def test_the_header_says_what_pillow_says_of_the_published_examples() -> None:
    for path in sorted((SAMPLES / "frb" / "upload").glob("*.png")):
        with Image.open(path) as image:
            assert seen(path.read_bytes()) == ImageInfo("image/png", *image.size)
        decode(path.read_bytes())


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["L", "RGB", "CMYK", "RGBA", "P"]), st.data())
@settings(deadline=None)
def test_the_header_says_what_pillow_says(width_px: int, height_px: int, mode: str, data: st.DataObject) -> None:
    kinds = {"CMYK": ["JPEG"], "RGBA": ["PNG"], "P": ["PNG"]}.get(mode, ["PNG", "JPEG"])
    kind = data.draw(st.sampled_from(kinds))
    file = io.BytesIO()
    Image.new(mode, (width_px, height_px)).save(file, kind)
    assert seen(file.getvalue()) == ImageInfo(f"image/{kind.lower()}", width_px, height_px)
    decode(file.getvalue())


def test_a_camera_s_file_of_several_pictures_is_a_jpeg() -> None:
    file = io.BytesIO()
    first = Image.fromarray(NOISE)
    first.save(file, "MPO", save_all=True, append_images=[first])
    assert seen(file.getvalue()).media_type == "image/jpeg"
    decode(file.getvalue())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "XML"),
        (b"\xef\xbb\xbf  <!DOCTYPE html><script>", "HTML"),
        (b"<script>alert(1)</script>", "HTML"),
        (an_image("GIF"), "GIF"),
        (an_image("TIFF"), "TIFF"),
        (an_image("WEBP"), "WebP or another RIFF file"),
        (an_image("BMP"), "BMP"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\1\2", "a file that begins with b'\\x00\\x01\\x02'"),
        (PNG[:20], "an image/png whose header is damaged or cut off"),
        (PNG[:18] + b"\xff" + PNG[19:], "an image/png whose header is damaged or cut off"),
        (PNG[:8] + chunk(b"tEXt", b"k\0v") + PNG[8:], "a file that begins with " + repr(PNG[:8] + b"\0\0\0\x03tEXt")),
        (JPEG[:10], "an image/jpeg whose header is damaged or cut off"),
        (b"\xff\xd8\xff\xd9", "an image/jpeg whose header is damaged or cut off"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 10, "an image/jpeg whose header is damaged or cut off"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, found: str) -> None:
    error = refused(data)
    assert (error.value, error.expected) == (found, "a PNG or JPEG file")


@pytest.mark.parametrize(("width_px", "height_px"), [(0, 10), (10, 0), (2**31 - 1, 2**31 - 1), (10_000, 5_001)])
def test_an_area_that_is_none_or_too_large_is_refused(width_px: int, height_px: int) -> None:
    error = refused(a_png_of(width_px, height_px))
    assert error.value == f"{width_px} x {height_px} pixels"


def test_a_file_over_the_limit_is_refused() -> None:
    assert refused(PNG, max_bytes=len(PNG) - 1).value == f"{len(PNG)} bytes"
    assert seen(PNG, max_bytes=len(PNG))


@pytest.mark.parametrize(
    "data",
    [
        PNG[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 1_000_000)) * 60 + PNG[33:],
        PNG[:33] + chunk(b"tEXt", b"k\0v") * 500_000 + PNG[33:],
        JPEG[:2] + b"\xff\xfe\x00\x02" * 900 + JPEG[2:],
    ],
    ids=["compressed texts", "many texts", "many comments"],
)
def test_what_stands_before_the_pixels_costs_nothing(data: bytes) -> None:
    assert seen(data).width_px == 23


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xfe\x00\x02", b"\xff\xfe\x00\x00"])
def test_a_jpeg_that_never_comes_to_the_point_is_refused(filler: bytes) -> None:
    refused(JPEG[:2] + filler * (8_000_000 // len(filler)) + JPEG[2:])


@given(st.sampled_from([PNG, JPEG]), st.data())
def test_any_damage_to_a_header_is_survived(data: bytes, how: st.DataObject) -> None:
    at = how.draw(st.integers(0, 700))
    damaged = data[:at] + how.draw(st.binary(max_size=8)) + data[at + how.draw(st.integers(0, 8)) :]
    try:
        info = seen(damaged)
    except InvalidInputError:
        return
    assert info.width_px * info.height_px <= MAX_PIXELS


@given(st.sampled_from([PNG, JPEG, an_image("JPEG", progressive=True), an_image("PNG", interlace=1)]), st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_to_pixels_is_a_complaint(data: bytes, how: st.DataObject) -> None:
    at = how.draw(st.integers(0, len(data)))
    damaged = data[:at] + how.draw(st.binary(max_size=8)) + data[at + how.draw(st.integers(0, 8)) :]
    try:
        decode(damaged)
    except InvalidInputError as error:
        assert error.field == "image"


@pytest.mark.parametrize("data", [PNG, JPEG])
def test_a_cut_image_cannot_be_decoded(data: bytes) -> None:
    for length in range(len(data) // 4, len(data) * 3 // 4, 50):
        with pytest.raises(InvalidInputError, match="an image that can be decoded"):
            decode(data[:length])


def test_a_wrong_checksum_is_found() -> None:
    at = PNG.index(b"IDAT") + 4 + struct.unpack_from(">I", PNG, PNG.index(b"IDAT") - 4)[0]
    with pytest.raises(InvalidInputError, match="checksum"):
        decode(PNG[:at] + bytes([PNG[at] ^ 1]) + PNG[at + 1 :])


def test_a_picture_without_pixels_cannot_be_decoded() -> None:
    with pytest.raises(InvalidInputError):
        decode(PNG[:33] + chunk(b"IEND", b""))


@pytest.mark.parametrize("side_px", [10_000, 20_000], ids=["Pillow warns", "Pillow refuses"])
def test_a_bomb_is_not_decoded_and_nobody_is_warned(side_px: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInputError, match="decompression bomb"):
            decode(a_png_of(side_px, side_px))


def test_decoding_needs_no_library_of_formats() -> None:
    """A worker that has imported nothing else can do it."""
    code = "import sys; from services.frb_intake.images import decode; decode(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", code], input=JPEG, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
