"""An intake, consoles before it and a provider, in a thread of this process: doors, and nothing behind them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
import uvicorn

from cli.migrate import migrate
from cli.stack.postgres import PostgresServer
from services.console.service import define as define_console
from services.console.settings import ConsoleSettings
from services.frb_intake.accounts import add_user
from services.frb_intake.service import define as define_intake
from services.frb_intake.settings import FrbIntakeSettings
from shared.blobs.store import open_store
from shared.compute import ComputePool
from shared.db.pool import connect, create_pool
from shared.http.app import create_app
from shared.http.protocol import PatientProtocol
from shared.inbox.state import ConsumerState
from shared.runner import Runtime, ServiceDefinition
from shared.settings import DatabaseSettings, ServiceSettings
from shared.testing.oidc import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, standing_provider
from tests.support.frb_intake import ALL_ROLES, PASSWORD
from tests.support.runtime import query

NOWHERE = "127.0.0.1:1"
DEADLINE_S = 60.0
T = TypeVar("T")


@dataclass
class _Status:
    service: str
    version: str = "0"
    consumers: tuple[ConsumerState, ...] = ()
    relay_waiting: str | None = None

    async def outbox_depth(self) -> int | None:
        return 0

    def sources(self) -> list[dict[str, Any]]:
        return []


@dataclass
class Doors:
    """`closed` is a console for readers alone, `open` one for everybody, `lonely` one whose intake is away.

    Attributes
    ----------
    ports
        Where `intake`, `closed`, `open` and `lonely` listen. They believe what 127.0.0.1, but no other address of
        this machine, says about where a request came from.
    """

    database_url: str
    provider: OpenIdProvider
    loop: asyncio.AbstractEventLoop
    ports: dict[str, int] = field(default_factory=dict)
    opened: list[httpx.Client] = field(default_factory=list)
    users: int = 0

    def client(self, name: str, *, local_address: str | None = None, **headers: str) -> httpx.Client:
        """A client with cookies; a failure of ours ends the test."""

        def no_failure(answer: httpx.Response) -> None:
            assert answer.status_code != 500, answer.request.url

        address = f"http://127.0.0.1:{self.ports[name]}"
        client = httpx.Client(
            base_url=address,
            follow_redirects=False,
            timeout=30,
            headers=headers,
            transport=httpx.HTTPTransport(local_address=local_address),
            event_hooks={"response": [no_failure]},
        )
        self.opened.append(client)
        return client

    def user(self, *roles: str, name: str | None = None, password: str | None = PASSWORD) -> str:
        """Make an account, and return its name."""
        self.users += 1
        name = name or f"user-{self.users}"
        self.on_accounts(
            lambda connection: add_user(connection, name=name, roles=roles or ALL_ROLES, password=password)
        )
        return name

    def on_accounts(self, work: Any) -> Any:
        """Do what the command line does to accounts."""

        async def done() -> Any:
            settings = DatabaseSettings.model_validate({"url": self.database_url})
            async with connect(settings, "frb_intake") as connection:
                return await work(connection)

        return self.run(done())

    def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database."""
        return query(self.database_url, statement, *arguments)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the thread of the doors."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_S)


@contextmanager
def standing_doors(folder: Path, **console: Any) -> Iterator[Doors]:
    """Build the doors; `console` are settings of all consoles."""
    database = PostgresServer(folder / "postgres", durable=False)
    database.start()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    doors, stack = None, AsyncExitStack()
    try:
        migrate({"TOCSIN_DATABASE__URL": database.address})
        opening = _open(stack, loop, database.address, folder, console)
        doors = asyncio.run_coroutine_threadsafe(opening, loop).result(DEADLINE_S)
        yield doors
    finally:
        for client in doors.opened if doors is not None else ():
            client.close()
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(DEADLINE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        database.stop()


async def _open(
    stack: AsyncExitStack, loop: asyncio.AbstractEventLoop, database_url: str, folder: Path, console: dict[str, Any]
) -> Doors:
    provider = await stack.enter_async_context(standing_provider())
    doors = Doors(database_url, provider, loop)
    common = {
        "database": {"url": database_url, "pool_size": 4},
        "blobs": {"url": str(folder / "blobs")},
        "kafka": {"bootstrap_servers": NOWHERE},
    }
    known = {"issuer": provider.issuer, "client_id": CLIENT_ID}
    intake = FrbIntakeSettings.model_validate({**common, "frb_intake": {"oidc": known}})
    doors.ports["intake"] = await _serve(stack, define_intake(intake), intake)
    intake_url = f"http://127.0.0.1:{doors.ports['intake']}"
    away = f"http://{NOWHERE}"
    section = {
        "oidc": known | {"client_secret": CLIENT_SECRET},
        "notifier_url": away,
        "intake_url": intake_url,
        **console,
    }
    for name, changes in (("closed", {"public_reading": False}), ("open", {}), ("lonely", {"intake_url": away})):
        settings = ConsoleSettings.model_validate({**common, "console": section | changes})
        doors.ports[name] = await _serve(stack, define_console(settings), settings)
    return doors


async def _serve(stack: AsyncExitStack, definition: ServiceDefinition, settings: ServiceSettings) -> int:
    """Serve a service's pages as the runner does, and nothing else of it."""
    pool = await create_pool(settings.database, definition.name)
    stack.callback(pool.terminate)
    compute = ComputePool(workers=1, preload=())
    stack.callback(compute.close)
    runtime = Runtime(pool=pool, blobs=open_store(settings.blobs), compute=compute, background=compute)
    service = definition.build(runtime)
    app = create_app(_Status(definition.name), service.routers)
    service.configure(app)
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        access_log=False,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        forwarded_allow_ips="127.0.0.1",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    serving = asyncio.create_task(server.main_loop())

    async def stop() -> None:
        server.should_exit = True
        await serving
        await server.shutdown()

    stack.push_async_callback(stop)
    return int(server.servers[0].sockets[0].getsockname()[1])
