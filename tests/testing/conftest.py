"""``serving``: workers and a client, over a real nats-server and a real controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from bus import Bus
from controller.app import Controller
from controller.settings import ControllerSettings
from crank import Client, Worker
from crank.natsd import NatsServer
from subjects.names import DEFAULT_PREFIX
from workers.runtime import Running

Serving = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def serving(nats_server: NatsServer) -> Serving:
    """What ``crank.testing.serving`` does, with everything real."""

    @asynccontextmanager
    async def real(*workers: Worker, overrides: Any = None, **settings: Any) -> AsyncIterator[Client]:
        values = {"nats_url": nats_server.url, "http_port": 0, "heartbeat_interval_s": 0.2, **settings}
        controller = Controller(ControllerSettings(**values))
        await controller.start()
        stop, tasks = asyncio.Event(), []
        client = await Client.connect(nats_server.url)
        try:
            for number, worker in enumerate(workers, 1):
                running = Running(worker, f"{worker.name}-{number}", DEFAULT_PREFIX, overrides)
                bus = await Bus.connect(nats_server.url, name=running.worker_id, on_reconnect=running.reconnected)
                tasks.append(asyncio.create_task(running.serve(bus, stop, 1.0)))
                registered = asyncio.create_task(running.registered.wait())
                await asyncio.wait((tasks[-1], registered), timeout=5, return_when=asyncio.FIRST_COMPLETED)
                registered.cancel()
                if tasks[-1].done():
                    tasks.pop().result()
            yield client
        finally:
            stop.set()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()
            await controller.stop()
            for end in ends:
                if isinstance(end, BaseException):
                    raise end

    return real


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
