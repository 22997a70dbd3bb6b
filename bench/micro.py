"""nats-py's own micro service, which answers by itself: an RPC peer, not a router. ``python -m bench.micro URL``."""

from __future__ import annotations

import nats.micro
from nats.micro import Request

from bench.paths import MICRO, NAME
from bench.plain import Client, connect, run


async def serve(connection: Client) -> None:
    """One endpoint that sends back what it got."""

    async def answer(request: Request) -> None:
        await request.respond(request.data)

    service = await nats.micro.add_service(connection, name="bench", version="1.0.0")
    await service.add_endpoint(name=NAME, subject=MICRO, handler=answer)


if __name__ == "__main__":
    run(serve, "bench micro service", connect)
