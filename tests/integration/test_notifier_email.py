"""Mail to a server that keeps it, and that is not always well."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.notifier.channels.channel import Answer, Prepared, UncertainError
from services.notifier.channels.email import EmailChannel, EmailSettings
from shared.errors import PermanentError, TransientError
from shared.events.notices import ChannelMode
from shared.testing.smtp import Fault, SmtpServer, standing_server
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

PRODUCTION = ChannelMode.PRODUCTION
PEOPLE = ("first@observatory.example", "second@observatory.example")


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with standing_server() as standing:
        yield standing


def a_channel(server: SmtpServer, **changes: Any) -> EmailChannel:
    values = {
        "name": "mail",
        "mode": "PRODUCTION",
        "port": server.port,
        "security": "none",
        "sender": "tocsin@observatory.example",
        "recipients": PEOPLE,
        "timeout_s": 5.0,
    }
    settings = EmailSettings.model_validate(values | changes)
    return EmailChannel(settings, site_url="https://tocsin.example", observatory="TOCSIN")


def prepared(mail: EmailChannel, record: Any = "frb_event/chime-notice") -> Prepared:
    made = mail.prepare(a_job(record))
    assert made is not None
    return made


async def send(mail: EmailChannel, record: Any = "frb_event/chime-notice") -> Answer:
    return await mail.send(prepared(mail, record), mode=PRODUCTION)


async def test_every_record_arrives_as_it_was_written(server: SmtpServer) -> None:
    mail = a_channel(server)
    told = [name for name in EXAMPLES if happening_of(an_example(name)) is not None]
    for name in told:
        answer = await send(mail, name)
        assert answer.is_confirmed
        assert answer.reference == prepared(mail, name).request["message_id"]
    assert len(server.delivered) == len(told)
    for name, delivered in zip(told, server.delivered, strict=True):
        request = prepared(mail, name).request
        assert (delivered.sender, delivered.recipients) == ("tocsin@observatory.example", PEOPLE)
        assert delivered.mail["Subject"] == request["subject"]
        assert delivered.mail["Message-ID"] == request["message_id"]
        plain = delivered.mail.get_body(("plain",))
        assert plain is not None
        assert plain.get_content() == request["text"]


async def test_a_line_that_begins_with_a_dot_ends_no_mail(server: SmtpServer) -> None:
    mail = a_channel(server, text_template=".\n..\n.hidden\n$headline\n.\n")
    await send(mail)
    plain = server.delivered[0].mail.get_body(("plain",))
    assert plain is not None
    assert plain.get_content() == ".\n..\n.hidden\nburst TOCSIN-FRB-18 (new)\n.\n"


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault.BUSY, TransientError, "421 too busy"),
        (Fault.LATER, TransientError, "451 try later"),
        (Fault.NOBODY, PermanentError, "550 nobody here"),
        (Fault.FULL, TransientError, "452 no room"),
        (Fault.SPAM, PermanentError, "554 not wanted"),
        (Fault.GARBAGE, TransientError, "is not SMTP"),
        (Fault.GONE_BEFORE_DATA, TransientError, "closed"),
        (Fault.LOST_ANSWER, UncertainError, "the mail left"),
    ],
)
async def test_each_misbehaviour_has_its_meaning(
    server: SmtpServer, fault: Fault, error: type[Exception], words: str
) -> None:
    server.faults.append(fault)
    with pytest.raises(error, match=words) as raised:
        await send(a_channel(server))
    assert raised.type is error
    assert len(server.delivered) == (fault is Fault.LOST_ANSWER)


@pytest.mark.parametrize(("fault", "error"), [(Fault.SILENT_AT_ONCE, TransientError), (Fault.SILENT, UncertainError)])
async def test_silence_before_the_mail_is_certain_and_after_it_is_not(
    server: SmtpServer, fault: Fault, error: type[Exception]
) -> None:
    server.faults.append(fault)
    with pytest.raises(error) as raised:
        await send(a_channel(server, timeout_s=0.5))
    assert raised.type is error


async def test_a_slow_server_is_waited_for_no_longer_than_told_and_gets_nothing_later(server: SmtpServer) -> None:
    server.faults.append(Fault.SLOW)
    with pytest.raises(TransientError) as raised:
        await send(a_channel(server, timeout_s=0.3))
    assert raised.type is TransientError
    assert server.delivered == []


async def test_one_unknown_recipient_keeps_no_mail_from_the_others(server: SmtpServer) -> None:
    server.faults.append(Fault.ONE_UNKNOWN)
    answer = await send(a_channel(server))
    assert server.delivered[0].recipients == PEOPLE[1:]
    assert answer.answer["refused"] == {PEOPLE[0]: "550 nobody here"}


async def test_a_server_that_is_down_has_got_nothing() -> None:
    async with standing_server() as server:
        mail = a_channel(server)
    with pytest.raises(TransientError) as raised:
        await send(mail)
    assert raised.type is TransientError


# Secured connections.


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of 127.0.0.1, its own authority, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    no_password = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
async def secured(certificate: Path) -> AsyncIterator[SmtpServer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with standing_server(tls=tls, passwords={"tocsin": "word"}) as standing:
        yield standing


async def test_a_login_travels_encrypted(secured: SmtpServer, certificate: Path) -> None:
    mail = a_channel(secured, security="starttls", ssl_ca_location=certificate, username="tocsin", password="word")
    await send(mail)
    (delivered,) = secured.delivered
    assert delivered.was_encrypted
    assert delivered.login == "tocsin"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"username": "tocsin", "password": "wrong"}, "535 not you"),
        ({}, "530 log in first"),
        ({"ssl_ca_location": None}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
async def test_nothing_leaves_when_one_side_does_not_trust_the_other(
    secured: SmtpServer, certificate: Path, changes: dict[str, Any], words: str
) -> None:
    mail = a_channel(secured, **{"security": "starttls", "ssl_ca_location": certificate} | changes)
    with pytest.raises((TransientError, PermanentError), match=words):
        await send(mail)
    assert secured.delivered == []


async def test_no_mail_goes_in_the_clear_where_encryption_is_asked_for(server: SmtpServer) -> None:
    with pytest.raises(TransientError, match="STARTTLS"):
        await send(a_channel(server, security="starttls"))
    assert server.delivered == []
