"""A peer that stands for the controllers, and workers that are stopped with the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from worker_peer import Peer, Serve, Served, until

from crank import Worker
from crank.natsd import NatsServer


@pytest.fixture
async def peer(nats_server: NatsServer) -> AsyncIterator[Peer]:
    """A controllers' peer on the test's server."""
    peer = await Peer.connect(nats_server.url)
    yield peer
    await peer.bus.close()


@pytest.fixture
async def serve(nats_server: NatsServer, peer: Peer) -> AsyncIterator[Serve]:
    """A function that runs a worker as ``t-1`` and returns when it is registered, unless ``ready=False``."""
    all_served: list[Served] = []

    async def start(worker: Worker, *, ready: bool = True, **more: Any) -> Served:
        stop = asyncio.Event()
        known = len(peer.manifests)
        task = asyncio.create_task(
            worker.serve(nats_server.url, **{"worker_id": "t-1", "drain_timeout_s": 5.0, **more}, stop=stop)
        )
        served = Served(task, stop)
        all_served.append(served)
        if ready:
            await until(lambda: len(peer.manifests) > known or task.done())
        return served

    yield start
    for served in all_served:
        served.task.cancel()
        await asyncio.gather(served.task, return_exceptions=True)
