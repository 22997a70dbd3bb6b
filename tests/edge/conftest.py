"""Controllers in this process, on a real nats-server, and workers and callers that are nothing but NATS clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bus import Bus
from controller.app import Controller
from controller.settings import ControllerSettings
from crank.natsd import NatsServer
from tests.edge.peers import Caller, RawWorker

StartController = Callable[..., Awaitable[Controller]]
StartWorker = Callable[..., Awaitable[RawWorker]]


@pytest.fixture
async def start_controller(nats_server: NatsServer) -> AsyncIterator[StartController]:
    """Start controllers with settings of one's choice; all are stopped at the end."""
    started: list[Controller] = []

    async def start(**settings: object) -> Controller:
        values = {"nats_url": nats_server.url, "http_port": 0, "drain_timeout_s": 5.0, "heartbeat_interval_s": 0.3}
        # What the folder says that the tests run in must not change what they test.
        values |= {"slos": None, "limits_file": None}
        controller = Controller(ControllerSettings(**{**values, **settings}))
        started.append(controller)
        await controller.start()
        return controller

    yield start
    for controller in started:
        await controller.stop()


@pytest.fixture
async def controller(start_controller: StartController) -> Controller:
    """One controller."""
    return await start_controller(controller_id="c-1")


@pytest.fixture
async def caller(nats_server: NatsServer) -> AsyncIterator[Caller]:
    """A caller."""
    bus = await Bus.connect(nats_server.url, name="caller")
    yield Caller(bus)
    await bus.close()


@pytest.fixture
async def start_worker(nats_server: NatsServer) -> AsyncIterator[StartWorker]:
    """Start raw workers; all are closed at the end."""
    started: list[RawWorker] = []

    async def start(worker_id: str = "w-1", **options: object) -> RawWorker:
        worker = RawWorker(await Bus.connect(nats_server.url, name=worker_id), worker_id, **options)  # type: ignore[arg-type]
        started.append(worker)
        await worker.start()
        return worker

    yield start
    for worker in started:
        await worker.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[dict[str, NatsServer]]:
    """Three servers by name, ready to store."""
    ports = _free_ports(3)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = {
        f"n{at}": NatsServer(
            tmp_path / f"n{at}",
            extra=f'server_name: n{at}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [ {routes} ] }}',
        )
        for at, port in enumerate(ports)
    }
    await asyncio.gather(*(server.start() for server in servers.values()))
    yield servers
    await asyncio.gather(*(server.stop(kill=True) for server in servers.values()))


def _free_ports(count: int) -> list[int]:
    # Below those that the system gives out by itself, to one of the other servers just then.
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)
