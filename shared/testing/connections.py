"""A server on the loopback address that leaves nothing behind."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """Attend to connections while the block runs, at a free port unless one is given, which is yielded.

    A peer that goes in the middle ends its conversation and nothing else.
    """
    conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations[task] = writer
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
                await serve(reader, writer)
        finally:
            del conversations[task]
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(attend, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        remaining = dict(conversations)
        for writer in remaining.values():
            writer.close()
        if remaining:
            await asyncio.wait(remaining)
        await server.wait_closed()
