"""Three servers of which the one that leads the claims is killed: keyed requests wait for another, and run once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from bus import Bus
from bus.connection import BusError
from callers import Client, CrankError
from controller.app import Controller
from controller.settings import ControllerSettings
from crank.natsd import NatsServer
from subjects.headers import Block
from tests.edge.peers import Answer, RawWorker

_CLAIMS = "KV_crank_idempotency"


def _url(cluster: dict[str, NatsServer]) -> str:
    return ",".join(server.url for server in cluster.values())


@pytest.fixture
async def controllers(cluster: dict[str, NatsServer]) -> AsyncIterator[list[Controller]]:
    """Two, each on all three servers."""
    started: list[Controller] = []
    async with asyncio.timeout(60):
        while len(started) < 2:
            settings = ControllerSettings(
                nats_url=_url(cluster), http_port=0, slos=None, controller_id=f"c-{len(started)}", replicas=3,
                heartbeat_interval_s=0.3, claim_lease_s=2.0, drain_timeout_s=5.0,
            )  # fmt: skip
            controller = Controller(settings)
            try:
                await controller.start()
            except BusError:  # the servers have not found each other yet
                await controller.stop()
                await asyncio.sleep(0.2)
            else:
                started.append(controller)
    yield started
    for controller in started:
        await controller.stop()


async def _leader(bus: Bus) -> str:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(BusError):
                info = json.loads((await bus.request(f"$JS.API.STREAM.INFO.{_CLAIMS}", b"", timeout_s=1.0)).body)
                if leader := info.get("cluster", {}).get("leader"):
                    return str(leader)
            await asyncio.sleep(0.1)


async def test_the_death_of_the_claims_leader_runs_nothing_twice_and_loses_no_answer(
    cluster: dict[str, NatsServer], controllers: list[Controller]
) -> None:
    """Under load each key is answered, or honestly unknown; nothing runs twice, and asked again it is the same."""
    ran: Counter[bytes] = Counter()

    def behave(subject: str, headers: Block, body: bytes) -> list[Answer]:
        ran[body] += 1
        return [(None, b'{"ran": %s, "time": %d}' % (body, ran[body]))]

    async with contextlib.AsyncExitStack() as stack:
        bus = await Bus.connect(_url(cluster), name="looking")
        stack.push_async_callback(bus.close)
        workers = []
        for number in range(2):
            worker = RawWorker(
                await Bus.connect(_url(cluster), name=f"w-{number}"), f"w-{number}", behave=behave, max_concurrency=64
            )
            stack.push_async_callback(worker.close)
            await worker.start()
            workers.append(worker)
        client = await stack.enter_async_context(await Client.connect(_url(cluster)))

        async def once(number: int, patience_s: int, *, settled: bool = False) -> bytes | None:
            """The answer, or None: nobody knows, or not yet unless it has to be settled."""
            try:
                told = await client.request_once(
                    "test:echo", number, idempotency_key=f"k{number}", timeout_ms=patience_s * 1000
                )
            except CrankError as error:
                if settled and error.kind != "outcome_unknown":
                    raise
                return None
            return told.body

        leader = await _leader(bus)
        asked = []
        for number in range(400):
            asked.append(asyncio.create_task(once(number, 20)))
            if number == 150:
                await cluster[leader].stop(kill=True)
            await asyncio.sleep(0.005)
        first = await asyncio.gather(*asked)
        assert await _leader(bus) != leader
        # What a worker said to the dying server may be lost, and is waited for to the end and once more as long.
        again = await asyncio.gather(*(once(number, 60, settled=True) for number in range(400)))
        await cluster[leader].start()
    # Who was told that nobody knows may be told more later.
    assert [new for old, new in zip(first, again, strict=True) if old] == [old for old in first if old]
    assert set(ran.values()) == {1}
    unknown = {b"%d" % number for number, body in enumerate(again) if body is None}
    assert len(unknown) < 200
    assert {b"%d" % number for number in range(400)} == ran.keys() | unknown
