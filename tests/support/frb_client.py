"""A server that plays the burst intake's part, inside the process."""

from collections import deque
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from cli.main import build
from tests.support.data import SAMPLES

UPLOAD = SAMPLES / "frb" / "upload"
RADIO, OBSERVATION = UPLOAD / "radio_example.yaml", UPLOAD / "observation_example.yaml"
TOKEN = "tocsin_secret"

Answer = httpx.Response | Exception


@dataclass
class FakeIntake:
    """Answers as it is told, the last answer again and again; remembers what it was asked and the pauses between."""

    answers: deque[Answer] = field(default_factory=deque)
    requests: list[httpx.Request] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)

    def will(self, *answers: Answer) -> None:
        self.answers = deque(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, *arguments: str | Path, **environment: str) -> Result:
        """Run `tocsin frb` against this server."""
        plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        credentials = {"FRB_TOKEN": TOKEN, "FRB_USER": "", "FRB_PASS": "", "FRB_SERVER": ""}
        return CliRunner().invoke(
            build(["frb"]), ["frb", *map(str, arguments)], env={**plain, **credentials, **environment}
        )

    def upload(self, *arguments: str | Path, radio: Path = RADIO) -> Result:
        return self.run("upload", "--radio-yaml", radio, "--observation-yaml", OBSERVATION, *arguments)


def a_problem(status: int, *errors: tuple[str, Any, str], **members: Any) -> httpx.Response:
    """An answer as RFC 9457 has it."""
    named = [{"field": name, "value": value, "expected": expected} for name, value, expected in errors]
    return httpx.Response(
        status,
        json={"type": "about:blank", "title": "No", "status": status, **members, "errors": named},
        headers={"Content-Type": "application/problem+json"},
    )


def parts(request: httpx.Request) -> dict[str, tuple[dict[str, str], bytes]]:
    """The parts of a multipart body by name, each with its headers; read by Python's own parser of mail."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.content, policy=HTTP)
    found = {}
    for part in message.iter_parts():
        content: Any = part.get_payload(decode=True)
        found[str(part.get_param("name", header="content-disposition"))] = dict(part.items()), content
    return found
