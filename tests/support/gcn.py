"""Validators of our notices: over GCN's core schemas as we describe them, and as GCN publishes them."""

import json
from functools import cache
from typing import Any

import jsonschema
import referencing
from referencing.jsonschema import DRAFT202012

from shared.schema.records import SCHEMAS
from tests.support.data import SHARED_DATA

CORE = "https://gcn.nasa.gov/schema/v7.2.1/gcn/notices/core/"
DESCRIBED: dict[str, Any] = json.loads((SCHEMAS / "external" / "gcn" / "core.schema.json").read_text("utf-8"))["$defs"]


def validate(kind: str, notice: dict[str, Any]) -> None:
    """Refuse a notice that breaks `schemas/gcn/KIND`, or a core schema in either form that is at hand."""
    validator(kind, published=False).validate(notice)
    if SHARED_DATA is not None:
        validator(kind, published=True).validate(notice)


@cache
def validator(kind: str, *, published: bool) -> Any:
    """Our schema over the core schemas as we describe them, or as GCN publishes them."""
    schema = json.loads((SCHEMAS / "gcn" / kind / "v1.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    parts = {name: published_part(name) for name in DESCRIBED} if published else DESCRIBED
    registry: Any = referencing.Registry().with_resources(
        (f"{CORE}{name}.schema.json", DRAFT202012.create_resource(part)) for name, part in parts.items()
    )
    return jsonschema.Draft202012Validator(schema, registry=registry)


def published_part(name: str) -> Any:
    """One of GCN's core schemas, as published."""
    assert SHARED_DATA is not None
    schema = json.loads((SHARED_DATA / "gcn_schema" / "core" / f"{name}.schema.json").read_text("utf-8"))
    del schema["$id"]  # It names the branch that all tags come from, the reference names the tag.
    return schema
