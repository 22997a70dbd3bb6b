"""``serving``: workers and a client, over a real nats-server and a real controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from controller.app import Controller
from controller.settings import ControllerSettings
from crank import Client, Worker
from crank.natsd import NatsServer

Serving = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def serving(nats_server: NatsServer) -> Serving:
    """Use it as ``async with serving(worker, *more, **settings) as client``."""

    @asynccontextmanager
    async def real(*workers: Worker, **settings: Any) -> AsyncIterator[Client]:
        controller = Controller(
            ControllerSettings(nats_url=nats_server.url, http_port=0, heartbeat_interval_s=0.2, **settings)
        )
        await controller.start()
        stop, tasks = asyncio.Event(), []
        client = await Client.connect(nats_server.url)
        try:
            ids = {f"{worker.name}-{number}": worker for number, worker in enumerate(workers, 1)}
            for ident, worker in ids.items():
                tasks.append(asyncio.create_task(worker.serve(nats_server.url, ident, stop=stop, drain_timeout_s=1)))
            async with asyncio.timeout(5):
                while not ids.keys() <= {found["worker_id"] for found in await client.listed("workers")}:
                    await asyncio.sleep(0.005)
            yield client
        finally:
            stop.set()
            await asyncio.gather(*tasks)
            await client.close()
            await controller.stop()

    return real
