"""Reads what requests carry: forms with files, YAML, JSON; always within limits."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from services.frb_intake.images import inspect
from services.frb_intake.intake import Upload
from shared.errors import InvalidInputError

MAX_FIELDS = 100
MAX_FILES = 10
MAX_FIELD_BYTES = 256 * 1024
MAX_FILE_NAME = 255
_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_form(request: Request) -> FormData:
    """Return the parts of an urlencoded or multipart body.

    Raises
    ------
    starlette.exceptions.HTTPException
        400, for one that cannot be read or has too many parts.
    InvalidInputError
        A text holds what is no character: a form may name an encoding that can spell that.
    """
    form = await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    for name, value in form.multi_items():
        if isinstance(value, str) and _SURROGATE.search(value):
            raise InvalidInputError(name, value, "text that UTF-8 can hold")
    return form


async def read_images(
    parts: Mapping[str, object], names: Mapping[str, str], *, max_bytes: int, max_pixels: int
) -> list[Upload]:
    """Return the images among the parts of a form; `names` says what the image in a part is called.

    Raises
    ------
    InvalidInputError
        A part is no PNG or JPEG, or too large.
    """
    found = []
    for field, name in names.items():
        part = parts.get(field)
        if part is None:
            continue
        if not isinstance(part, UploadFile):
            raise InvalidInputError(field, part, "a PNG or JPEG file")
        data = await part.read()
        info = inspect(data, field=field, max_bytes=max_bytes, max_pixels=max_pixels)
        found.append(Upload(name, base_name(part.filename or name), data, info))
    return found


def base_name(file_name: str) -> str:
    """Return the last part of a path, without what a header or a page could take for something else."""
    last = PurePosixPath(file_name.replace("\\", "/")).name
    plain = "".join(c if c.isalnum() or c in "._- " else "_" for c in last)
    return plain[-MAX_FILE_NAME:] or "image"
