"""Completes the OpenAPI document that FastAPI makes, so that every reference in it leads somewhere."""

from collections.abc import Iterator
from typing import Any

_DEFINITIONS = "#/$defs/"
COMPONENTS = "#/components/schemas/"

_VALIDATION = {"HTTPValidationError", "ValidationError"}
# What FastAPI would answer to an invalid request; a service with problems answers 400.


def complete(document: dict[str, Any], **schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the document after its references were put right, in place.

    Definitions inside a schema, as pydantic makes them, become components of the document; FastAPI's own 422, which no
    route answers, is left out.

    Parameters
    ----------
    schemas
        Further components.
    """
    components: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _VALIDATION:
        components.pop(name, None)
    components |= schemas
    for part in list(_objects(document)):
        for name, schema in part.pop("$defs", {}).items():
            components.setdefault(name, schema)
        for status, answer in list(part.get("responses", {}).items()):
            if f"{COMPONENTS}HTTPValidationError" in _references(answer):
                del part["responses"][status]
    for part in _objects(document):
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
            part["$ref"] = COMPONENTS + reference.removeprefix(_DEFINITIONS)
    return document


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(child)


def _references(value: Any) -> set[Any]:
    return {part.get("$ref") for part in _objects(value)}
