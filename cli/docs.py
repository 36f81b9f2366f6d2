"""Reference pages, computed from `schemas/`, the settings and the metrics alone: `python -m cli.docs`."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from cli.stack.paths import DIRECTORY_VARIABLE
from services.coincidence.settings import CoincidenceSettings
from services.console.settings import ConsoleSettings
from services.frb_intake.feeds import sources as frb_sources
from services.frb_intake.settings import FrbIntakeSettings
from services.gw_listener.settings import GwListenerSettings
from services.gw_listener.sources import GcnSource, KafkaSource, ScimmaSource
from services.notifier import dispatcher
from services.notifier.channels import vtp
from services.notifier.rules import Rule
from services.notifier.settings import ChannelSettings, NotifierSettings
from services.skymap_parser.settings import SkymapParserSettings
from shared.inbox.sources import FilesSource
from shared.observability import metrics
from shared.schema.records import SCHEMAS, AvroSchema, named_types, newest_schema
from shared.schema.reference import example_files, example_text, kind_text
from shared.schema.topics import Topic, dead_letter_topics, load_topics
from shared.settings import KafkaSettings, Section, ServiceSettings

REFERENCE = SCHEMAS.parent / "docs" / "reference"
NOTICE = "Made from schemas/ by `make docs`; edit there."
SETTINGS_NOTICE = "Made from the settings' classes by `make docs`; edit there."
METRICS_NOTICE = "Made from the metrics' definitions by `make docs`; edit there."

EXTERNAL_MEDIA_TYPES = {"gcn": "application/json", "voevent": "application/voevent+xml"}
# What upstream describes in other languages than Avro.


def topics_page() -> str:
    """Every topic with its fields, units and an example, in Markdown."""
    return "\n".join([*_introduction(), *(line for topic in load_topics() for line in _topic_section(topic))]) + "\n"


def asyncapi_page() -> str:
    """The same as an AsyncAPI 3.0 document with Avro payloads, in YAML."""
    # Through JSON: what is used twice is written out twice, where YAML would set anchors.
    document = json.loads(json.dumps(asyncapi_document()))
    return f"# {NOTICE}\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def settings_page() -> str:
    """Every setting with its variable, default and meaning, in Markdown."""
    return "\n".join(_settings_lines()) + "\n"


def metrics_page() -> str:
    """Every metric as Prometheus shows it, in Markdown."""
    return "\n".join(_metrics_lines()) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "topics.md": topics_page,
    "asyncapi.yaml": asyncapi_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
}


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
        ["topic", "key", "producers", "consumers", "followers", "partitions", "kept"],
        [
            (
                f"[`{topic.name}`](#{topic.name.replace('.', '')})",
                _code(topic.key),
                ", ".join(topic.producers),
                ", ".join(topic.consumers),
                ", ".join(topic.followers),
                str(topic.partitions),
                f"{topic.retention_days} d",
            )
            for topic in load_topics()
        ],
    )
    yield "\nA follower reads outside of any consumer group: each of its processes hears everything."
    yield "\nWhat a consumer cannot handle goes to its dead-letter topic, with original bytes, key and headers:\n"
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
                    [(f"`{field['name']}`", kind_text(field["type"]), field["doc"]) for field in named["fields"]],
                )
        yield from _examples(topic.record)


def _examples(record: str) -> Iterator[str]:
    first, *_ = files = example_files(record)
    folder = first.parent.relative_to(SCHEMAS.parent)
    yield "\n### Examples\n"
    yield (
        ", ".join(f"[{path.stem}](../../{folder}/{path.name})" for path in files) + f". {first.stem}, long texts cut:\n"
    )
    yield f"```json\n{example_text(first)}\n```"


def _table(heads: list[str], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else "none"


def _headers() -> dict[str, dict[str, Any]]:
    headers: dict[str, dict[str, Any]] = yaml.safe_load((SCHEMAS / "headers.yaml").read_text("utf-8"))
    return headers


# --- Settings

SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "gw_listener": GwListenerSettings,
    "skymap_parser": SkymapParserSettings,
    "frb_intake": FrbIntakeSettings,
    "coincidence": CoincidenceSettings,
    "notifier": NotifierSettings,
    "console": ConsoleSettings,
}
SOURCES: Mapping[str, tuple[type[Section], ...]] = {
    "gw_listener": (ScimmaSource, GcnSource, KafkaSource, FilesSource),
    "frb_intake": (frb_sources.GcnSource, frb_sources.KafkaSource, FilesSource, frb_sources.VoeventSource),
}
CHANNELS: tuple[type[Section], ...] = get_args(get_args(ChannelSettings)[0])
ENVIRONMENT_PREFIX = str(ServiceSettings.model_config["env_prefix"])
ENVIRONMENT_SEPARATOR = str(ServiceSettings.model_config["env_nested_delimiter"])


def _settings_lines() -> Iterator[str]:
    yield f"""# Settings

<!-- {SETTINGS_NOTICE} -->

A service reads its settings once, when it starts: from the environment, then from the YAML file that `TOCSIN_CONFIG`
names. The environment wins. In the file the levels are nested and the names are in lower case:

```yaml
kafka:
  bootstrap_servers: 127.0.0.1:9092    # {ENVIRONMENT_PREFIX}KAFKA{ENVIRONMENT_SEPARATOR}BOOTSTRAP_SERVERS
```

Lists and sets are JSON in the environment: `TOCSIN_GW_LISTENER__FILTER__KINDS='["REAL"]'`.
Inside a section an unknown name is an error.

`{DIRECTORY_VARIABLE}` is read by the `tocsin` command alone: the folder of the local stack, `.local/` without it.

## Every service"""
    for name, field in ServiceSettings.model_fields.items():
        yield from _section(name, _model(field.annotation), heading=f"### {name}")
    for service, settings in SETTINGS.items():
        own = {name: field for name, field in settings.model_fields.items() if name not in ServiceSettings.model_fields}
        if not own:
            yield f"\n## {service}\n\nNo settings of its own."
        for name, field in own.items():
            yield from _section(name, _model(field.annotation), heading=f"## {service}")
        if other := list(_other_defaults(settings)):
            yield f"\nOther defaults than every service's: {', '.join(other)}."
    for service, sources in SOURCES.items():
        yield f"\n## Sources of {service}\n"
        yield f"Each entry of `{service}.sources` has a `type` and the fields of that type."
        for source in sources:
            yield from _entry(source, key="type")
    yield "\n## Rules of notifier\n\nEach entry of `notifier.rules`. One rule that fits is enough.\n"
    yield from _fields(Rule)
    yield "\n## Channels of notifier\n"
    yield "Each entry of `notifier.channels` has a `kind` and the fields of that kind."
    for channel in CHANNELS:
        yield from _entry(channel, key="kind")


def _entry(model: type[BaseModel], *, key: str) -> Iterator[str]:
    """The fields of one kind of a list's entries, told apart by the field `key`."""
    yield f"\n### {key}: {model.model_fields[key].default}\n\n{_first_line(model)}\n"
    yield from _fields(model, without=key)


def _fields(model: type[BaseModel], *, without: str | None = None) -> Iterator[str]:
    yield from _table(["field", "type", "default", "meaning"], list(_field_rows(model, without=without)))


def _field_rows(model: type[BaseModel], *, prefix: str = "", without: str | None = None) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if name == without:
            continue
        path = f"{prefix}{name}"
        if (part := _entries(field.annotation)) is not None:
            yield f"`{path}`", "list of the fields below", _default(field), _meaning(field)
            yield from _field_rows(part, prefix=f"{path}[].")
        elif _is_model(field.annotation) and field.annotation is not KafkaSettings:
            yield from _field_rows(_model(field.annotation), prefix=f"{path}.")
        else:
            yield f"`{path}`", _type_text(field.annotation), _default(field), _meaning(field)


def _entries(annotation: Any) -> type[BaseModel] | None:
    """The model of a list's entries, if they are one."""
    first, *_ = (*get_args(annotation), None)
    return _model(first) if get_origin(annotation) is tuple and _is_model(first) else None


def _other_defaults(settings: type[ServiceSettings]) -> Iterator[str]:
    """Shared settings for which a service has a default of its own."""
    for section, field in ServiceSettings.model_fields.items():
        usual, own = field.get_default(), settings.model_fields[section].get_default()
        for name in type(usual).model_fields:
            if getattr(usual, name) != (value := getattr(own, name)):
                variable = f"{ENVIRONMENT_PREFIX}{section}{ENVIRONMENT_SEPARATOR}{name}".upper()
                yield f"`{variable}` is `{value}`"


def _section(name: str, model: type[BaseModel], *, heading: str) -> Iterator[str]:
    yield f"\n{heading}\n\n{_first_line(model)}\n"
    yield from _table(
        ["variable", "type", "default", "meaning"], list(_variables(f"{ENVIRONMENT_PREFIX}{name}", model))
    )


def _variables(prefix: str, model: type[BaseModel], default: BaseModel | None = None) -> Iterator[tuple[str, ...]]:
    """Rows of a section; `default`: what it is where nothing is set, if that is not what its fields say."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{ENVIRONMENT_SEPARATOR}{name}"
        usual = field.get_default(call_default_factory=True) if default is None else getattr(default, name)
        text = _default(field) if default is None else _text_of(usual)
        if _is_model(field.annotation):
            yield from _variables(variable, _model(field.annotation), usual if isinstance(usual, BaseModel) else None)
        elif _is_union(field.annotation) and (optional := [p for p in get_args(field.annotation) if _is_model(p)]):
            yield f"`{variable.upper()}`", "the fields below", text, _meaning(field)
            yield from _variables(variable, _model(optional[0]))
        else:
            yield f"`{variable.upper()}`", _type_text(field.annotation), text, _meaning(field)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _model(annotation: Any) -> type[BaseModel]:
    assert _is_model(annotation)
    model: type[BaseModel] = annotation
    return model


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else _text_of(field.get_default(call_default_factory=True))


def _text_of(default: Any) -> str:
    match default:
        case None:
            return "unset"
        case bool() as value:
            return f"`{str(value).lower()}`"
        case SecretStr() as secret:
            return f"`{secret.get_secret_value()}`"
        case frozenset() | tuple() as values:
            return ", ".join(f"`{text}`" for text in _texts(values)) or "none"
        case {}:
            return ", ".join(f"`{name}: {value}`" for name, value in default.items()) or "none"
        case str() if "\n" in default:
            return "its own text"
        case BaseModel():
            return "its own defaults"
    return f"`{default}`"


def _texts(values: Collection[Any]) -> list[str]:
    texts = [str(value.value if isinstance(value, Enum) else value) for value in values]
    # A set has no order of its own, and the page must not change from run to run.
    return sorted(texts) if isinstance(values, frozenset) else texts


def _type_text(annotation: Any) -> str:
    """A setting's type in a few words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return "one of those below" if _is_union(arguments[0]) else _type_text(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (frozenset, tuple):
        return f"{'set' if origin is frozenset else 'list'} of {_type_text(arguments[0])}"
    if origin is dict:
        return f"{_type_text(arguments[1])} by name"
    if _is_union(annotation):
        return " or ".join(_type_text(part) for part in arguments if part is not NoneType)
    if _is_model(annotation):
        return "fields as in section `kafka`" if annotation is KafkaSettings else "those below"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "/".join(str(member.value) for member in annotation)
    names = {str: "text", int: "integer", float: "number", bool: "true or false", SecretStr: "secret", Path: "path"}
    return names[annotation]


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


# --- Metrics


def all_metrics() -> list[MetricWrapperBase]:
    """Every metric: those of the event runtime, and those that notifier alone has; in the order of their modules."""
    return [
        metric
        for module in (metrics, dispatcher, vtp)
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
    ]


def _metrics_lines() -> Iterator[str]:
    yield f"""# Metrics

<!-- {METRICS_NOTICE} -->

Every service serves these at `/metrics`, beside the `process_…` and `python_…` metrics of the Prometheus client.
A histogram NAME appears as `NAME_bucket`, `NAME_sum` and `NAME_count`. Times are in seconds.

`consumer` is the name of a subscription: `gw_listener.SOURCE` and `frb_intake.SOURCE` for each of their sources;
`skymap_parser` for the maps and `skymap_parser.index` for pictures and search; `coincidence.TOPIC`, `notifier.TOPIC`
and `console.TOPIC` for each topic that these read. `channel` is the name of a channel of notifier, the only service
with such metrics.
"""
    rows: list[tuple[str, ...]] = []
    for metric in all_metrics():
        (described,) = metric.describe()
        name = described.name + "_total" if described.type == "counter" else described.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", described.type, labels or "none", described.documentation))
    yield from _table(["name", "kind", "labels", "meaning"], rows)


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
    for service in [producer for producer in topic.producers if producer in SETTINGS]:
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
    for service in topic.followers:
        yield (
            f"{service}.follows.{topic.name}",
            {"action": "receive", "channel": channel, "summary": f"{service} follows {topic.name}, outside any group."},
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
    name = str(topic.external)
    if name in EXTERNAL_MEDIA_TYPES:
        title = f"{name} notice, described in schemas/external/{name}"
        return {"name": name, "title": title, "contentType": EXTERNAL_MEDIA_TYPES[name]}
    schema = json.loads((SCHEMAS / "external" / name / "alert.avsc").read_text("utf-8"))
    return {
        "name": name,
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
