"""The options that several of `tocsin frb`'s commands have."""

from pathlib import Path
from typing import Annotated

import httpx
import typer

from cli.frb.client import FrbClient, credentials, required
from shared.errors import InvalidInputError

Server = Annotated[
    str, typer.Option("--server", envvar="FRB_SERVER", metavar="URL", help="Base URL of the burst intake.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="With a token; else FRB_TOKEN, or FRB_USER and FRB_PASS."),
]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0.1, help="Longest wait for the server's next bytes.")]
Retries = Annotated[int, typer.Option("--retries", min=0, max=100, help="Further tries when the server fails.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
FrbId = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `tocsin frb upload` prints it.")]

SERVER, TIMEOUT_S, RETRIES = "http://127.0.0.1:8000", 30.0, 6
# Six pauses add up to at most half a minute, in which a service is restarted.


def reader(server: str, token_file: Path | None, timeout_s: float, retries: int) -> FrbClient:
    """Return a client that reads, anonymously where there are no credentials."""
    return FrbClient(_base(server), auth=credentials(token_file), timeout_s=timeout_s, retries=retries)


def writer(server: str, token_file: Path | None, timeout_s: float, retries: int) -> FrbClient:
    """Return a client that writes; raise `CredentialsError` where there are no credentials."""
    return FrbClient(_base(server), auth=required(credentials(token_file)), timeout_s=timeout_s, retries=retries)


def _base(server: str) -> str:
    expected = "a URL such as http://127.0.0.1:8000"
    try:
        url = httpx.URL(server.rstrip("/"))
    except httpx.InvalidURL as error:
        raise InvalidInputError("--server", server, expected) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInputError("--server", server, expected)
    return str(url)
