"""Settings come from the environment; what is wrong with them is said by the name of the variable."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.gw_listener.settings import GwListenerSettings
from services.gw_listener.sources import KafkaSource
from shared.errors import InvalidInputError
from shared.inbox.sources import FilesSource
from shared.settings import DatabaseSettings, KafkaSettings, ServiceSettings, read_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TOCSIN_"):
            monkeypatch.delenv(name)


def complaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit_:
        read_settings(GwListenerSettings)
    assert exit_.value.code == 2
    return capsys.readouterr().err.strip()


def test_a_section_is_set_one_variable_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_KAFKA__BOOTSTRAP_SERVERS", "broker:9092")
    monkeypatch.setenv("TOCSIN_CONSUMER__TRIES", "5")

    settings = read_settings(ServiceSettings)

    assert settings.kafka.bootstrap_servers == "broker:9092"
    assert settings.kafka.group_protocol == "consumer"
    assert settings.consumer.tries == 5
    assert settings.consumer.batch_size == 200


def test_sources_are_a_list_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = '[{"type": "files", "paths": ["alerts"]}, {"type": "kafka", "broker": {"bootstrap_servers": "b:1"}}]'
    monkeypatch.setenv("TOCSIN_GW_LISTENER__SOURCES", sources)

    files, kafka = read_settings(GwListenerSettings).gw_listener.sources

    assert isinstance(files, FilesSource)
    assert isinstance(kafka, KafkaSource)
    assert kafka.client_config() == {"bootstrap.servers": "b:1", "security.protocol": "PLAINTEXT"}


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yaml"
    path.write_text("kafka: {bootstrap_servers: 'file:1', replication_factor: 3}\nhttp: {port: 8101}\n")
    monkeypatch.setenv("TOCSIN_CONFIG", str(path))
    monkeypatch.setenv("TOCSIN_KAFKA__BOOTSTRAP_SERVERS", "environment:1")

    settings = read_settings(ServiceSettings)

    assert settings.kafka.bootstrap_servers == "environment:1"
    assert settings.kafka.replication_factor == 3
    assert settings.http.port == 8101


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("TOCSIN_HTTP__PORT", "70000", "65535"),
        ("TOCSIN_HTTP__PORT", "eighty", "integer"),
        ("TOCSIN_LOG__LEVEL", "LOUD", "'INFO'"),
        ("TOCSIN_KAFKA__GROUP_PROTOCOL", "modern", "'consumer' or 'classic'"),
        ("TOCSIN_CONSUMER__TRIES", "0", "greater than or equal to 1"),
        ("TOCSIN_KAFKA__BOOTSTRAP_SERVER", "misspelt:1", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, why: str
) -> None:
    told = complaint(monkeypatch, capsys, **{name: value})
    assert told.startswith(f"{name}: ")
    assert why in told
    assert "\n" not in told


def test_every_wrong_setting_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = complaint(monkeypatch, capsys, TOCSIN_HTTP__PORT="-1", TOCSIN_CONSUMER__TRIES="0")
    assert [line.partition(":")[0] for line in told.splitlines()] == ["TOCSIN_HTTP__PORT", "TOCSIN_CONSUMER__TRIES"]


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gw_listener" in complaint(monkeypatch, capsys, TOCSIN_GW_LISTENER__SOURCES="[{").lower()


def test_two_sources_of_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = '[{"type": "files", "paths": ["a"]}, {"type": "files", "paths": ["b"]}]'
    told = complaint(monkeypatch, capsys, TOCSIN_GW_LISTENER__SOURCES=twice)
    assert "gw_listener.sources.name is files" in told


def test_sasl_without_a_name_is_refused_and_the_password_not_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = complaint(
        monkeypatch, capsys, TOCSIN_KAFKA__SECURITY_PROTOCOL="SASL_SSL", TOCSIN_KAFKA__SASL_PASSWORD="hush-hush"
    )
    assert "sasl_username" in told
    assert "hush-hush" not in told


def test_secrets_are_not_told_beside_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://tocsin:hush-hush@db/tocsin"
    told = complaint(monkeypatch, capsys, TOCSIN_DATABASE__URL=url, TOCSIN_DATABASE__POOL_SIZE="one")
    assert told.startswith("TOCSIN_DATABASE__POOL_SIZE: ")
    assert "hush-hush" not in told
    assert "hush-hush" not in repr(DatabaseSettings(url=SecretStr(url)))


def test_a_config_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = complaint(monkeypatch, capsys, TOCSIN_CONFIG=str(tmp_path / "none.yaml"))
    assert told.startswith("TOCSIN_CONFIG is ")


def test_secrets_reach_the_client_only() -> None:
    kafka = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="tocsin",
        sasl_password=SecretStr("hush-hush"),
    )
    assert kafka.client_config()["sasl.password"] == "hush-hush"
    assert "hush-hush" not in repr(kafka)


def test_a_long_value_is_cut_in_a_complaint() -> None:
    error = InvalidInputError("event.skymap", "x" * 1_000_000, "a map")
    assert len(str(error)) < 200
