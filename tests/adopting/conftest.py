"""Services written with nats-py, and adoptions of them that are stopped with the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from crank.adopting.adoption import adopt
from crank.adopting.plans import Wishes
from crank.natsd import NatsServer
from subjects.tokens import WorkerId
from tests.adopting.service import Service
from tests.edge.conftest import StartController, caller, start_controller, start_worker  # noqa: F401  # as fixtures here
from tests.edge.peers import Caller

# Of heartbeats and pings: short, since what is lost is lost after three of them.
INTERVAL_S = 0.1

StartService = Callable[..., Awaitable[Service]]
Adopt = Callable[..., Awaitable["Adopted"]]


class Adopted:
    """An adoption that runs beside the test."""

    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.task = task
        self.stop = stop


@pytest.fixture(autouse=True)
async def controller(start_controller: StartController) -> None:  # noqa: F811
    """One controller, with quick heartbeats."""
    await start_controller(controller_id="c-1", heartbeat_interval_s=INTERVAL_S)


@pytest.fixture
async def start_service(nats_server: NatsServer) -> AsyncIterator[StartService]:
    """Start instances of the service ``orders``; all are closed at the end."""
    started: list[Service] = []

    async def start(**options: Any) -> Service:
        service = await Service.start(nats_server.url, **options)
        started.append(service)
        return service

    yield start
    for service in started:
        await service.die()


@pytest.fixture
async def adopting(nats_server: NatsServer, caller: Caller) -> AsyncIterator[Adopt]:  # noqa: F811
    """Adopt ``orders`` as the worker ``a-1``, and return when the controller has it."""
    adopted: list[Adopted] = []

    async def start(**wishes: Any) -> Adopted:
        stop = asyncio.Event()
        work = adopt(nats_server.url, "orders", WorkerId("a-1"), "crank", Wishes(**wishes), stop, 5.0)
        one = Adopted(asyncio.create_task(work), stop)
        adopted.append(one)
        while not one.task.done() and not await capabilities_of(caller):
            await asyncio.sleep(0.01)
        if one.task.done():
            one.task.result()
        return one

    yield start
    for one in adopted:
        one.stop.set()
        await asyncio.gather(one.task, return_exceptions=True)


async def capabilities_of(caller: Caller, worker_id: str = "a-1") -> list[str]:  # noqa: F811
    """What the controller has of a worker: ``verb:name@version``; nothing when it has no such worker."""
    _, answer = await caller.tell("crank.admin.workers")
    found = [worker["capabilities"] for worker in answer["workers"] if worker["worker_id"] == worker_id]
    return sorted(found[0]) if found else []


async def until_offered(caller: Caller, *wanted: str) -> None:  # noqa: F811
    """Until the controller has exactly this of the worker."""
    async with asyncio.timeout(8):
        while await capabilities_of(caller) != sorted(wanted):
            await asyncio.sleep(0.01)
