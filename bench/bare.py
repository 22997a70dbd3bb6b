"""A worker as someone writes it who has nats-py and no SDK: it answers dispatches. ``python -m bench.bare URL``."""

from __future__ import annotations

from bench.paths import BARE_WORKER
from bench.plain import Client, Msg, connect, run


async def serve(connection: Client) -> None:
    """Send back what came."""

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe(BARE_WORKER, queue="w", cb=answer)


if __name__ == "__main__":
    run(serve, "bench bare worker", connect)
