"""Each kind of source becomes the librdkafka settings that its broker wants."""

import textwrap
from pathlib import Path
from typing import Any

import certifi
import confluent_kafka
import pytest
from hop.auth import Auth
from pydantic import TypeAdapter, ValidationError

from services.gw_listener.sources import GcnSource, KafkaSource, ScimmaSource, Source
from shared.errors import InvalidInputError, PermanentError
from shared.inbox.sources import FilesSource

SOURCES: TypeAdapter[Any] = TypeAdapter(Source)


def source(**fields: Any) -> Any:
    return SOURCES.validate_python(fields)


def stored(folder: Path, *credentials: dict[str, str]) -> Path:
    """An auth.toml as `hop auth add` writes it."""
    entries = ["[[auth]]\n" + "\n".join(f'{name} = "{value}"' for name, value in one.items()) for one in credentials]
    path = folder / "auth.toml"
    path.write_text("\n".join(entries))
    path.chmod(0o600)
    return path


ANNA = {"username": "anna-1a2b", "password": "secret", "hostname": "kafka.scimma.org"}
BERT = {"username": "bert-3c4d", "password": "other", "hostname": "kafka.scimma.org"}


def test_the_type_tells_the_kind_of_source() -> None:
    kinds = [
        source(type="scimma"),
        source(type="gcn", client_id="id", client_secret="secret"),
        source(type="kafka"),
        source(type="files", paths=["alerts"]),
    ]

    assert [type(one) for one in kinds] == [ScimmaSource, GcnSource, KafkaSource, FilesSource]
    assert [one.name for one in kinds] == ["scimma", "gcn", "kafka", "files"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"type": "carrier pigeon"}, "carrier pigeon"),
        ({"type": "gcn", "client_id": "id"}, "client_secret"),
        ({"type": "gcn", "client_id": "", "client_secret": "x"}, "client_id"),
        ({"type": "files"}, "paths"),
        ({"type": "files", "paths": []}, "paths"),
        ({"type": "kafka", "start_at": "yesterday"}, "start_at"),
        ({"type": "scimma", "pasword": "x"}, "pasword"),
    ],
)
def test_a_source_with_a_mistake_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        source(**fields)


@pytest.mark.parametrize("url", ["https://kafka.scimma.org/igwn.gwalert", "kafka://kafka.scimma.org", "kafka:///topic"])
def test_a_scimma_address_needs_host_and_topic(url: str) -> None:
    with pytest.raises(InvalidInputError, match="kafka://host"):
        source(type="scimma", url=url)


def test_a_password_needs_its_user() -> None:
    with pytest.raises(InvalidInputError, match="username"):
        source(type="scimma", password="secret")


def test_scimma_is_reached_with_a_given_user_and_password() -> None:
    scimma = source(type="scimma", username="anna-1a2b", password="secret")

    config = scimma.client_config(scimma.credential())

    assert config == {
        "bootstrap.servers": "kafka.scimma.org",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": certifi.where(),
        "https.ca.location": certifi.where(),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "anna-1a2b",
        "sasl.password": "secret",
    }
    assert (scimma.topics, scimma.heartbeat_topics) == (["igwn.gwalert"], ("sys.heartbeat",))


def test_scimma_is_reached_with_the_credential_that_hop_stored(tmp_path: Path) -> None:
    scimma = source(type="scimma", auth_file=stored(tmp_path, ANNA))

    config = scimma.client_config(scimma.credential())

    assert (config["sasl.username"], config["sasl.password"]) == ("anna-1a2b", "secret")


def test_of_several_stored_credentials_the_user_name_chooses(tmp_path: Path) -> None:
    path = stored(tmp_path, ANNA, BERT)

    assert source(type="scimma", auth_file=path, username="bert-3c4d").credential().username == "bert-3c4d"
    with pytest.raises(PermanentError, match="Ambiguous"):
        source(type="scimma", auth_file=path).credential()


def test_a_token_credential_is_renewed_by_librdkafka(tmp_path: Path) -> None:
    token = {"username": "anna", "password": "secret", "token_endpoint": "https://auth.example.org/token"}
    scimma = source(type="scimma", auth_file=stored(tmp_path, token))

    config = scimma.client_config(scimma.credential())

    assert config["sasl.mechanism"] == "OAUTHBEARER"
    assert config["sasl.oauthbearer.token.endpoint.url"] == "https://auth.example.org/token"


def test_a_token_command_of_hop_is_called_back() -> None:
    credential = Auth("anna", "", token_command="make-token")

    assert callable(source(type="scimma").client_config(credential)["oauth_cb"])


def test_an_absent_or_unsafe_store_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="hop auth add"):
        source(type="scimma", auth_file=tmp_path / "auth.toml").credential()

    path = stored(tmp_path, ANNA)
    path.chmod(0o644)
    with pytest.raises(PermanentError, match="unsafe permissions"):
        source(type="scimma", auth_file=path).credential()


def test_a_store_without_a_credential_for_the_host_is_told(tmp_path: Path) -> None:
    elsewhere = ANNA | {"hostname": "kafka.example.org"}

    with pytest.raises(PermanentError, match="No matching credential"):
        source(type="scimma", auth_file=stored(tmp_path, elsewhere)).credential()


def test_the_scimma_group_begins_with_the_user_name() -> None:
    credential = Auth("anna-1a2b", "secret")

    assert source(type="scimma").group(credential) == "anna-1a2b-tocsin"
    assert source(type="scimma", group_id="anna-1a2b-site").group(credential) == "anna-1a2b-site"


def test_several_brokers_and_topics_may_stand_in_the_address() -> None:
    scimma = source(type="scimma", url="kafka://one:9093,two/igwn.gwalert,igwn.gwalert-test")

    assert scimma.client_config(Auth("anna", "x"))["bootstrap.servers"] == "one:9093,two"
    assert scimma.topics == ["igwn.gwalert", "igwn.gwalert-test"]


def test_gcn_is_reached_with_a_token_that_librdkafka_fetches() -> None:
    gcn = source(type="gcn", client_id="id", client_secret="secret")

    assert gcn.client_config() == {
        "bootstrap.servers": "kafka.gcn.nasa.gov",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": certifi.where(),
        "https.ca.location": certifi.where(),
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "id",
        "sasl.oauthbearer.client.secret": "secret",
        "sasl.oauthbearer.token.endpoint.url": "https://auth.gcn.nasa.gov/oauth2/token",
    }
    assert (gcn.topics, gcn.heartbeat_topics) == (("igwn.gwalert",), ("gcn.heartbeat",))


def test_the_gcn_test_domain_moves_broker_and_token_endpoint() -> None:
    config = source(type="gcn", client_id="id", client_secret="s", domain="test.gcn.nasa.gov").client_config()

    assert config["bootstrap.servers"] == "kafka.test.gcn.nasa.gov"
    assert config["sasl.oauthbearer.token.endpoint.url"] == "https://auth.test.gcn.nasa.gov/oauth2/token"


def test_a_plain_kafka_needs_nothing_but_its_address() -> None:
    kafka = source(type="kafka", broker={"bootstrap_servers": "127.0.0.1:9092"})

    assert kafka.client_config() == {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"}


def test_a_plain_kafka_may_have_tls_and_sasl() -> None:
    broker = {
        "bootstrap_servers": "kafka.example.org:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "anna",
        "sasl_password": "secret",
    }

    config = source(type="kafka", broker=broker, topics=["a", "b"]).client_config()

    assert (config["sasl.mechanism"], config["sasl.password"]) == ("PLAIN", "secret")


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    shown = textwrap.dedent(
        repr(source(type="gcn", client_id="id", client_secret="hush"))
        + repr(source(type="scimma", username="anna", password="hush"))
    )

    assert "hush" not in shown


@pytest.mark.parametrize(
    "config",
    [
        source(type="scimma").client_config(Auth("anna", "secret")),
        source(type="scimma").client_config(Auth("anna", "x", token_endpoint="https://127.0.0.1:1/token")),
        source(type="gcn", client_id="id", client_secret="s").client_config(),
        source(type="kafka").client_config(),
    ],
    ids=["scimma", "scimma with tokens", "gcn", "kafka"],
)
def test_librdkafka_accepts_the_settings(config: dict[str, Any]) -> None:
    """Constructing a client checks every name and value; with this address it reaches nothing."""
    nowhere = config | {"bootstrap.servers": "127.0.0.1:1", "group.id": "test", "log_level": 0}
    if "sasl.oauthbearer.token.endpoint.url" in config:
        nowhere["sasl.oauthbearer.token.endpoint.url"] = "https://127.0.0.1:1/token"

    confluent_kafka.Consumer(nowhere).close()
