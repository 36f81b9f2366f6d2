"""Reference pages that are computed from `schemas/` and from nothing else: `python -m cli.docs`."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.schema.records import SCHEMAS, AvroSchema, named_types, newest_schema, schema_versions
from shared.schema.topics import Topic, dead_letter_topics, load_topics

REFERENCE = SCHEMAS.parent / "docs" / "reference"
NOTICE = "Made from schemas/ by `make docs`; edit there."

MAX_EXAMPLE_CHARACTERS = 160
# Coverage maps in ASCII run to kilobytes; the page shows how they begin, the example file has them whole.


def topics_page() -> str:
    """Every topic with its fields, units and an example, in Markdown."""
    return "\n".join([*_introduction(), *(line for topic in load_topics() for line in _topic_section(topic))]) + "\n"


def asyncapi_page() -> str:
    """The same as an AsyncAPI 3.0 document with Avro payloads, in YAML."""
    # Through JSON: what is used twice is written out twice, where YAML would set anchors.
    document = json.loads(json.dumps(asyncapi_document()))
    return f"# {NOTICE}\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


PAGES: Mapping[str, Callable[[], str]] = {"topics.md": topics_page, "asyncapi.yaml": asyncapi_page}


# --- Markdown


def _introduction() -> Iterator[str]:
    yield f"""# Topics

<!-- {NOTICE} -->

Every message on our topics is one Avro object container with its schema inside: any Avro library reads it alone.

    from io import BytesIO
    from fastavro import reader
    (record,) = reader(BytesIO(message.value()))

With hop-client, `hop subscribe kafka://HOST/gw.skymaps`, or in Python `message.content`, a dict since hop-client 0.11.
Times are UTC to the microsecond. Fields may be added, each with a default; none is removed or changes its meaning.
Enums may grow: a reader that does not know a symbol sees UNKNOWN.

## Headers
"""
    yield from _table(
        ["header", "type", "meaning"],
        [(f"`{name}`", header["type"], header["description"]) for name, header in _headers().items()],
    )
    yield "\n## All topics\n"
    yield from _table(
        ["topic", "key", "producers", "consumers", "partitions", "kept"],
        [
            (
                f"[`{topic.name}`](#{topic.name.replace('.', '')})",
                _code(topic.key),
                ", ".join(topic.producers),
                ", ".join(topic.consumers),
                str(topic.partitions),
                f"{topic.retention_days} d",
            )
            for topic in load_topics()
        ],
    )
    yield "\nWhat a service cannot handle goes to its dead-letter topic, with original bytes, key and headers:\n"
    yield from _table(
        ["dead-letter topic", "kept"],
        [(f"`{topic.name}`", f"{topic.retention_days} d") for topic in dead_letter_topics()],
    )


def _topic_section(topic: Topic) -> Iterator[str]:
    yield f"\n## `{topic.name}`\n\n{topic.description}\n"
    yield from _table(
        ["", ""],
        [
            ("owner", topic.owner),
            ("key", _code(topic.key)),
            ("partitions", str(topic.partitions)),
            ("kept", f"{topic.retention_days} d"),
            ("largest message", f"{topic.max_message_bytes / 2**20:g} MiB"),
            ("compatibility", topic.compatibility),
        ],
    )
    if topic.external:
        folder = f"schemas/external/{topic.external}"
        yield f"\nIts messages are described in [{folder}](../../{folder}/README.md)."
    if topic.record:
        schema = newest_schema(topic.record)
        for named in named_types(schema):
            if named["type"] == "record":
                yield f"\n### {named['name']}\n\n{named['doc']}\n"
                yield from _table(
                    ["field", "type", "meaning"],
                    [(f"`{field['name']}`", _kind(field["type"]), field["doc"]) for field in named["fields"]],
                )
        yield from _examples(topic.record)


def _examples(record: str) -> Iterator[str]:
    version = list(schema_versions(record))[-1]
    folder = f"schemas/examples/{record}/v{version}"
    first, *_ = files = sorted((SCHEMAS.parent / folder).glob("*.json"))
    yield "\n### Examples\n"
    yield (
        ", ".join(f"[{path.stem}](../../{folder}/{path.name})" for path in files) + f". {first.stem}, long texts cut:\n"
    )
    yield f"```json\n{json.dumps(_cut(json.loads(first.read_text('utf-8'))), indent=2, ensure_ascii=False)}\n```"


def _cut(value: Any) -> Any:
    match value:
        case str() if len(value) > MAX_EXAMPLE_CHARACTERS:
            return value[:MAX_EXAMPLE_CHARACTERS] + "…"
        case list():
            return [_cut(item) for item in value]
        case dict():
            return {key: _cut(item) for key, item in value.items()}
    return value


def _kind(schema: Any) -> str:
    """A field's type in a few words."""
    match schema:
        case ["null", other]:
            return f"{_kind(other)} or null"
        case {"logicalType": "timestamp-micros"}:
            return "time"
        case {"logicalType": logical}:
            return str(logical)
        case {"type": "array", "items": items}:
            return f"array of {_kind(items)}"
        case {"type": "map", "values": values}:
            return f"map of {_kind(values)}"
        case {"type": "enum", "symbols": symbols}:
            return "one of " + ", ".join(symbols)
        case {"name": name}:
            return str(name)
    return str(schema)


def _table(heads: list[str], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else "none"


def _headers() -> dict[str, dict[str, Any]]:
    headers: dict[str, dict[str, Any]] = yaml.safe_load((SCHEMAS / "headers.yaml").read_text("utf-8"))
    return headers


# --- AsyncAPI

AVRO = "application/vnd.apache.avro"


def asyncapi_document() -> dict[str, Any]:
    """Channels, operations and messages of all topics, dead-letter topics among them (AsyncAPI 3.0.0)."""
    topics, dead = load_topics(), dead_letter_topics()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tocsin",
            "version": "1",
            "description": "Multi-messenger alerts and what Tocsin makes of them. Each message is an Avro object "
            "container with its schema inside. Channels within one version stay fully compatible.",
            "license": {"name": "BSD-3-Clause"},
            "tags": [{"name": owner} for owner in sorted({topic.owner for topic in topics})],
        },
        "defaultContentType": AVRO,
        "servers": {
            "local": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The broker that `tocsin up` starts; `tocsin status` tells its real address.",
            }
        },
        "channels": {topic.name: _channel(topic) for topic in (*topics, *dead)},
        "operations": dict(operation for topic in (*topics, *dead) for operation in _operations(topic)),
        "components": {
            "schemas": {"headers": _headers_schema()},
            "messages": {
                **{topic.record: _message(topic) for topic in topics if topic.record},
                **{topic.external: _external_message(topic) for topic in topics if topic.external},
                "dead_letter": {
                    "name": "dead_letter",
                    "title": "Dead letter",
                    "summary": "A message that could not be handled: original bytes, key and headers, and the reason "
                    "in further headers.",
                },
            },
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    message = topic.record or topic.external or "dead_letter"
    return {
        "address": topic.name,
        "description": topic.description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "tags": [{"name": topic.owner, "description": "Owner of the topic"}],
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": topic.max_message_bytes,
                },
                "bindingVersion": "0.5.0",
            }
        },
        "x-compatibility": topic.compatibility,
    }


def _operations(topic: Topic) -> Iterator[tuple[str, dict[str, Any]]]:
    """What our services do; upstream's own sending is not ours to describe."""
    channel = {"$ref": f"#/channels/{topic.name}"}
    for service in () if topic.external else topic.producers:
        yield (
            f"{service}.sends.{topic.name}",
            {"action": "send", "channel": channel, "summary": f"{service} writes {topic.name}."},
        )
    for service in topic.consumers:
        yield (
            f"{service}.receives.{topic.name}",
            {
                "action": "receive",
                "channel": channel,
                "summary": f"{service} reads {topic.name}, in the consumer group of its name.",
                "bindings": {"kafka": {"groupId": {"type": "string", "const": service}, "bindingVersion": "0.5.0"}},
            },
        )


def _message(topic: Topic) -> dict[str, Any]:
    assert topic.record is not None
    schema = newest_schema(topic.record)
    (key,) = (field for field in schema["fields"] if field["name"] == topic.key)
    return {
        "name": topic.record,
        "title": schema["name"],
        "summary": schema["doc"],
        "contentType": AVRO,
        "headers": {"$ref": "#/components/schemas/headers"},
        "payload": _payload(schema),
        "bindings": {"kafka": {"key": {"type": "string", "description": key["doc"]}, "bindingVersion": "0.5.0"}},
    }


def _external_message(topic: Topic) -> dict[str, Any]:
    schema = json.loads((SCHEMAS / "external" / str(topic.external) / "alert.avsc").read_text("utf-8"))
    return {
        "name": topic.external,
        "title": f"{topic.owner} {schema['name']}",
        "summary": schema["doc"],
        "contentType": AVRO,
        "payload": _payload(schema),
    }


def _payload(schema: AvroSchema) -> dict[str, Any]:
    return {"schemaFormat": f"{AVRO};version=1.9.0", "schema": schema}


def _headers_schema() -> dict[str, Any]:
    headers = _headers()
    return {
        "type": "object",
        "properties": {
            # JSON Schema knows no bytes: AsyncAPI describes them as a string in that format.
            name: {"type": "string", "description": header["description"]}
            | ({"format": "binary"} if header["type"] == "bytes" else {})
            for name, header in headers.items()
        },
        "required": [name for name, header in headers.items() if header["required"]],
    }


def write(folder: Path) -> None:
    """Write every page into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    write(REFERENCE)
