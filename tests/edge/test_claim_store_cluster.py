"""Claims on three servers whose leader is killed or moves: each write is known once, and nothing stored is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from bus import Bus, Streams
from bus.connection import BusError
from controller.core.stored import ClaimFailed, ClaimRead, ClaimRefused, ClaimStored
from crank.natsd import NatsServer
from subjects.claims import decode_claim
from tests.edge.claim_probe import BUCKET, STREAM, Probe, eventually, key, record
from tests.edge.peers import until


@pytest.fixture
async def probes(cluster: dict[str, NatsServer]) -> AsyncIterator[list[Probe]]:
    """Two stores on the cluster."""
    url = ",".join(server.url for server in cluster.values())
    made: list[Probe] = []
    async with asyncio.timeout(60):
        while len(made) < 2:
            with contextlib.suppress(BusError):  # the servers have not found each other yet
                made.append(await Probe.on(url, replicas=3))
    yield made
    for probe in made:
        await probe.close()


async def _leader(bus: Bus) -> str:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(BusError):
                info = json.loads((await bus.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout_s=1.0)).body)
                if leader := info.get("cluster", {}).get("leader"):
                    return str(leader)
            await asyncio.sleep(0.1)


async def test_a_leader_that_is_killed_under_load_costs_no_write_its_answer(
    cluster: dict[str, NatsServer], probes: list[Probe]
) -> None:
    """What was told stored is there, what was told failed is not; and afterwards claims are taken again."""
    probe = probes[0]
    leader = await _leader(probe.bus)
    records = [record() for _ in range(3000)]
    for number, written in enumerate(records):
        probe.put(str(number), written)
        if number == 1000:
            await cluster[leader].stop(kill=True)
        if number % 10 == 0:
            await asyncio.sleep(0.005)
    told: Counter[str] = Counter()

    def known() -> bool:
        told.clear()
        told.update(
            event.nonce for event in probe.events if isinstance(event, ClaimStored | ClaimRefused | ClaimFailed)
        )
        return len(told) == len(records)

    await until(known, 60)
    assert set(told.values()) == {1}
    assert not [event for event in probe.events if isinstance(event, ClaimRefused)]

    async def taken() -> bool:
        return isinstance(await probe.written("after", record()), ClaimStored | ClaimRefused)

    await eventually(taken, 30)
    await cluster[leader].start()
    stored = {event.nonce for event in probe.events if isinstance(event, ClaimStored) and event.key != key("after")}
    streams = Streams(probe.bus)
    there = set()
    for number, written in enumerate(records):
        entry = await streams.read_last(STREAM, BUCKET + key(str(number)))
        if entry is not None:
            assert decode_claim(entry.body) == written
            there.add(written.nonce)
    assert there == stored
    assert len(stored) > 1000


async def test_two_that_race_over_three_servers_never_both_win(probes: list[Probe]) -> None:
    """Each key has one winner, and the loser is told of it, also while the leader moves."""
    probe, other = probes
    pairs = [(str(number), record(), record(owner="c-2.b2")) for number in range(500)]
    for number, (name, ours, theirs) in enumerate(pairs):
        probe.put(name, ours)
        other.put(name, theirs)
        if number in (100, 300):
            await probe.bus.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}", b"")
        if number % 5 == 0:
            await asyncio.sleep(0.005)
    await until(lambda: all(probe.outcomes(a.nonce) and other.outcomes(b.nonce) for _, a, b in pairs), 60)
    for name, ours, theirs in pairs:
        outcomes = [*probe.outcomes(ours.nonce), *other.outcomes(theirs.nonce)]
        assert len(outcomes) == 2
        winners = [event.nonce for event in outcomes if isinstance(event, ClaimStored)]
        assert len(winners) <= 1
        losers = [event for event in outcomes if isinstance(event, ClaimRefused)]
        assert all(event.record is not None and [event.record.nonce] == winners for event in losers)
        found = await probe.read(name)
        assert isinstance(found, ClaimRead)
        assert [found.record.nonce] == winners if found.record is not None else not winners
