"""Whoever can answer on ``$SRV`` can say anything: it is passed over, bounded, and stops nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus import Bus
from crank.adopting.watch import MAX_INSTANCES, Watch
from crank.natsd import NatsServer
from tests.adopting.conftest import Adopt, StartService, capabilities_of
from tests.edge.peers import Caller, until


class Liar:
    """Answers each question about ``orders`` with what it is told to."""

    def __init__(self, bus: Bus, answers: list[bytes]) -> None:
        self.bus = bus
        self.asked: list[str] = []
        self._answers = answers

    def on_question(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self.asked.append(subject)
        for answer in self._answers:
            self.bus.publish(reply, answer)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection of the liar's own."""
    bus = await Bus.connect(nats_server.url, name="liar")
    yield bus
    await bus.close()


async def _lie(bus: Bus, *answers: bytes | dict[str, Any]) -> Liar:
    liar = Liar(bus, [one if isinstance(one, bytes) else json.dumps(one).encode() for one in answers])
    await bus.subscribe("$SRV.*.orders", liar.on_question)
    await bus.flush()
    return liar


async def test_lies_beside_a_service_change_nothing_for_it(
    bus: Bus, start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """Garbage, other names, subjects that are not theirs to offer, and metadata that cannot be."""
    told = {"name": "orders", "id": "x", "version": "1.2.0"}
    endpoints = [
        {"name": "steal", "subject": "crank.deregister.a-1"},
        {"name": "all", "subject": ">"},
        {"name": "inject", "subject": "a\r\nPUB b 0\r\n"},
        {"name": "long", "subject": "long", "metadata": {"crank.constraints": "[" * 9000}},
        {"name": "deep", "subject": "deep", "metadata": {"crank.constraints": '{"a":' * 160 + "1" + "}" * 160}},
        {"name": "shut", "subject": "shut", "metadata": {"crank.input_schema": '{"pattern": "(?=a)"}'}},
        {"name": "much", "subject": "much", "metadata": {"crank.max_concurrency": "99999999"}},
        {"name": "price", "subject": "price", "metadata": {"crank.cost_tokens_per_invocation": "-1"}},
    ]
    await _lie(bus, b"\xff", b"{}", b"x" * 500_000, {**told, "name": "other"}, {**told, "endpoints": endpoints})
    await start_service()
    await adopting()
    assert await capabilities_of(caller) == ["orders:echo@1.2.0"]
    assert (await caller.ask("orders:echo", b"1"))[:2] == (0, 1)


async def test_more_instances_than_there_can_be_are_passed_over(bus: Bus) -> None:
    """They are neither kept nor asked about more than once between two pings."""
    pings = [{"name": "orders", "id": f"x{n}", "version": "1.0.0"} for n in range(MAX_INSTANCES * 4)]
    endpoints = [{"name": "echo", "subject": "echo"}]
    liar = await _lie(bus, *({**ping, "endpoints": endpoints} for ping in pings))
    watch = Watch(bus, "orders")
    await watch.start()
    await asyncio.wait_for(watch.changed.wait(), 5)
    assert len(watch.there) == MAX_INSTANCES
    asked = len(liar.asked)
    watch.ask()
    await until(lambda: len(liar.asked) >= asked + 2)
    await bus.flush()
    await bus.flush()
    assert sorted(liar.asked[asked:]) == ["$SRV.INFO.orders", "$SRV.PING.orders"]
