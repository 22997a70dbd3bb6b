"""``serving``: workers and a client, in memory as users' tests have them, and with everything real."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus import Bus
from controller.app import Controller
from controller.settings import ControllerSettings
from crank import Client, Worker, testing
from crank.natsd import NatsServer
from subjects.names import DEFAULT_PREFIX
from workers.runtime import Running

Serving = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(params=["memory", "real"])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Serving:
    """``crank.testing.serving``, and the same over a real nats-server."""
    if request.param == "memory":
        return testing.serving

    @asynccontextmanager
    async def real(
        *workers: Worker, overrides: Any = None, drain_timeout_s: float = 1.0, **settings: Any
    ) -> AsyncIterator[Client]:
        server = NatsServer(tmp_path / "nats")
        names: Counter[str] = Counter()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(server.stop)
            await server.start()
            caller = await Bus.connect(server.url, name="caller")
            client = await stack.enter_async_context(await Client.on(caller))
            stack.push_async_callback(caller.flush)
            controller = Controller(ControllerSettings(nats_url=server.url, http_port=0, slos=None, **settings))
            stack.push_async_callback(controller.stop)
            await controller.start()
            for worker in workers:
                names[worker.name] += 1
                running = Running(worker, f"{worker.name}-{names[worker.name]}", DEFAULT_PREFIX, overrides)
                bus = await Bus.connect(server.url, name=running.worker_id, on_reconnect=running.reconnected)
                await stack.enter_async_context(_served(running, bus, drain_timeout_s))
            yield client

    return real


@asynccontextmanager
async def _served(running: Running, bus: Bus, drain_timeout_s: float) -> AsyncIterator[None]:
    stop = asyncio.Event()
    serve = asyncio.create_task(running.serve(bus, stop, drain_timeout_s))
    registered = asyncio.create_task(running.registered.wait())
    await asyncio.wait((serve, registered), return_when=asyncio.FIRST_COMPLETED)
    registered.cancel()
    try:
        if not serve.done():
            yield
    finally:
        stop.set()
        await serve


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as ``condition`` holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def until_idle(client: Client) -> None:
    """Return once no worker has anything in hand."""
    async with asyncio.timeout(5):
        while any(worker["in_flight"] for worker in await client.listed("workers")):
            await asyncio.sleep(0.01)
