"""Owns how every part but Crank itself talks to NATS: nats-py on uvloop, used in the plain way.

Each part is one process that ends on SIGTERM, or when the process that started it is gone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from nats.aio.client import Client as Client
from nats.aio.msg import Msg as Msg

from crank.cli.stopping import stop_event, unless_stopped


class Connection(Protocol):
    """Whatever a part talks through."""

    async def close(self) -> None:
        """Say goodbye."""
        ...


C = TypeVar("C", bound=Connection)


class _Unparsed(Client):
    """nats-py that leaves headers alone, but for the server's own *no responders*."""

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        if headers is not None and headers.startswith(b"NATS/1.0 503"):
            return await super()._process_headers(headers)
        return None


async def connect(url: str, name: str, client: Client | None = None) -> Client:
    """A connection with nats-py's defaults."""
    client = client or Client()
    await client.connect(url, name=name)
    return client


async def connect_end(url: str, name: str) -> Client:
    """A connection for client and worker, whose cost shall be the same whatever headers a router adds.

    nats-py takes some 10 µs to parse a reply's or a dispatch's headers, which neither of the two looks at.
    ``--plain`` on the command line keeps nats-py as it is.
    """
    return await connect(url, name, None if "--plain" in sys.argv else _Unparsed())


def run(part: Callable[[C], Coroutine[Any, Any, None]], name: str, connect: Callable[[str, str], Awaitable[C]]) -> None:
    """Run ``part`` on a connection to the server that the command line names, until it is asked to stop."""

    async def main() -> None:
        stop = stop_event(with_parent=True)
        connection = await connect(sys.argv[1], name)
        if await unless_stopped(part(connection), stop):
            await stop.wait()
        await connection.close()

    if sys.platform == "win32":
        asyncio.run(main())
        return
    import uvloop

    uvloop.run(main())
