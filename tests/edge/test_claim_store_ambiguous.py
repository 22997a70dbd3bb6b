"""Writes whose acknowledgement is lost: each is told of once, and as what it was, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bus import Bus, Streams
from controller.core.stored import ClaimFailed, ClaimRead, ClaimRefused, ClaimStored, ReleaseClaim
from crank.natsd import NatsServer
from subjects.claims import decode_claim
from tests.edge.claim_probe import BUCKET, STREAM, Probe, Proxy, eventually, key, record
from tests.edge.peers import until


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[Proxy]:
    """A way to the server that can be disturbed."""
    async with Proxy(nats_server.port) as proxy:
        yield proxy


@pytest.fixture
async def probe(proxy: Proxy) -> AsyncIterator[Probe]:
    """A store behind the proxy."""
    probe = await Probe.on(proxy.url)
    yield probe
    await probe.close()


@pytest.fixture
async def other(nats_server: NatsServer) -> AsyncIterator[Probe]:
    """Another controller's store, which nothing disturbs."""
    probe = await Probe.on(nats_server.url)
    yield probe
    await probe.close()


async def _stored_unheard(probe: Probe, proxy: Proxy, other: Probe, name: str = "a") -> str:
    """Write; the record is stored, and its acknowledgement lost. Returns the nonce."""
    written = record()
    proxy.deaf = True
    probe.put(name, written)

    async def there() -> bool:
        found = await other.read(name)
        return isinstance(found, ClaimRead) and found.record == written

    await eventually(there)
    assert probe.outcomes(written.nonce) == []
    return written.nonce


async def test_a_write_whose_acknowledgement_was_lost_is_found_stored(probe: Probe, proxy: Proxy, other: Probe) -> None:
    """It is sent again, refused, and known by its nonce; meanwhile it is told once that nobody knows."""
    nonce = await _stored_unheard(probe, proxy, other)
    proxy.deaf = False
    outcome = await probe.outcome(nonce)
    found = await other.read("a")
    assert isinstance(found, ClaimRead)
    assert outcome == ClaimStored(key("a"), nonce, found.seq)
    assert probe.unanswered(nonce) == 1
    await asyncio.sleep(0.3)
    assert len(probe.outcomes(nonce)) == 1


async def test_a_write_that_was_lost_itself_is_stored_by_its_repetition(
    probe: Probe, proxy: Proxy, other: Probe
) -> None:
    """Once."""
    written = record()
    proxy.mute = True
    probe.put("a", written)
    await asyncio.sleep(0.1)
    proxy.mute = False
    assert isinstance(await probe.outcome(written.nonce), ClaimStored)
    assert probe.unanswered(written.nonce) == 1


async def test_after_a_reconnect_it_is_sent_again_at_once(probe: Probe, proxy: Proxy, other: Probe) -> None:
    """And not only when its time is over: nobody is told that nobody knows."""
    nonce = await _stored_unheard(probe, proxy, other)
    proxy.deaf = False
    proxy.cut()
    assert isinstance(await probe.outcome(nonce), ClaimStored)
    assert probe.unanswered(nonce) == 0


async def test_it_is_found_stored_after_a_restart_of_the_server(
    nats_server: NatsServer, probe: Probe, proxy: Proxy, other: Probe
) -> None:
    """With the same store; one event."""
    nonce = await _stored_unheard(probe, proxy, other)
    await nats_server.stop(kill=True)
    proxy.deaf = False
    await nats_server.start()
    assert isinstance(await probe.outcome(nonce), ClaimStored)
    await until(lambda: other.bus.connected)
    found = await other.read("a")
    assert isinstance(found, ClaimRead)
    assert found.record is not None
    assert found.record.nonce == nonce
    await asyncio.sleep(0.3)
    assert len(probe.outcomes(nonce)) == 1


async def test_it_is_told_what_somebody_else_stored_over_it(probe: Probe, proxy: Proxy, other: Probe) -> None:
    """Whose it was before does not matter any more."""
    nonce = await _stored_unheard(probe, proxy, other)
    found = await other.read("a")
    assert isinstance(found, ClaimRead)
    theirs = record(owner="c-2.b2")
    taken = await other.written("a", theirs, found.seq)
    assert isinstance(taken, ClaimStored)
    proxy.deaf = False
    assert await probe.outcome(nonce) == ClaimRefused(key("a"), nonce, theirs, taken.seq)


async def test_it_is_told_when_somebody_else_released_it(probe: Probe, proxy: Proxy, other: Probe) -> None:
    """The key is free, under the sequence of what is left of it."""
    nonce = await _stored_unheard(probe, proxy, other)
    found = await other.read("a")
    assert isinstance(found, ClaimRead)
    await other.released("a", found.seq)
    proxy.deaf = False
    assert await probe.outcome(nonce) == ClaimRefused(key("a"), nonce, None, found.seq + 1)


async def test_a_repetition_that_finds_the_store_full_tells_that_nothing_was_stored(
    probe: Probe, proxy: Proxy, other: Probe
) -> None:
    """Only after it was seen that the first one was not."""
    written = record()
    proxy.mute = True
    probe.put("a", written)
    await asyncio.sleep(0.1)
    await _resize(other.bus, 1000)
    assert isinstance(await other.written("b", record(reason="x" * 600)), ClaimStored)
    proxy.mute = False
    outcome = await probe.outcome(written.nonce)
    assert isinstance(outcome, ClaimFailed)
    assert "is full" in outcome.reason
    assert await other.read("a") == ClaimRead(key("a"), None, 0)


async def test_a_repetition_that_finds_the_store_full_finds_what_it_stored_before(
    probe: Probe, proxy: Proxy, other: Probe
) -> None:
    """A full store is no reason to call a stored claim lost."""
    nonce = await _stored_unheard(probe, proxy, other)
    await _resize(other.bus, 1)
    proxy.deaf = False
    assert isinstance(await probe.outcome(nonce), ClaimStored)


async def _resize(bus: Bus, size: int) -> None:
    config = (await bus.jetstream.stream_info(STREAM)).config
    await bus.jetstream.update_stream(config.evolve(max_bytes=size))


async def test_a_release_that_was_lost_is_sent_again(probe: Probe, proxy: Proxy, other: Probe) -> None:
    """A claim of what never ran must not lapse into one whose outcome nobody knows."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    proxy.mute = True
    probe.send(ReleaseClaim(key("a"), created.seq))
    await asyncio.sleep(0.1)
    proxy.mute = False
    await eventually(lambda: _free(other, "a"))


async def test_a_release_without_a_connection_is_sent_when_there_is_one(
    probe: Probe, proxy: Proxy, other: Probe
) -> None:
    """Forgetting a claim that nobody holds can do no harm late."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    proxy.cut()
    await until(lambda: not probe.bus.connected)
    probe.send(ReleaseClaim(key("a"), created.seq))
    await eventually(lambda: _free(other, "a"))


async def _free(probe: Probe, name: str) -> bool:
    found = await probe.read(name)
    return isinstance(found, ClaimRead) and found.record is None


async def test_a_read_that_is_not_answered_is_told_as_such(probe: Probe, proxy: Proxy) -> None:
    """Once, within seconds."""
    proxy.mute = True
    found = await probe.read("a")
    proxy.mute = False
    assert "JetStream does not answer" in found.reason  # type: ignore[union-attr]


async def test_every_write_is_known_once_though_the_server_is_killed_under_load(nats_server: NatsServer) -> None:
    """What was told stored is there, what was told failed is not, and nothing is told twice."""
    probe = await Probe.on(nats_server.url)
    records = [record() for _ in range(6000)]
    killed = asyncio.create_task(_killed_and_back(nats_server))
    for number, written in enumerate(records):
        probe.put(str(number), written)
        if number % 10 == 0:
            await asyncio.sleep(0.002)
    await killed
    await until(lambda: all(probe.outcomes(one.nonce) for one in records[-1:]), 20)
    known: dict[str, list[str]] = {}
    async with asyncio.timeout(20):
        while len(known) < len(records):
            await asyncio.sleep(0.1)
            known = {}
            for event in probe.events:
                if isinstance(event, ClaimStored | ClaimRefused | ClaimFailed):
                    known.setdefault(event.nonce, []).append(type(event).__name__)
    assert {tuple(told) for told in known.values()} == {("ClaimStored",), ("ClaimFailed",)}, "both happened"
    await until(lambda: probe.bus.connected)
    there = {one.nonce async for one in _all(probe.bus, len(records))}
    assert there == {nonce for nonce, told in known.items() if told == ["ClaimStored"]}
    await probe.close()


async def _killed_and_back(server: NatsServer) -> None:
    await asyncio.sleep(0.4)
    await server.stop(kill=True)
    await asyncio.sleep(0.3)
    await server.start()


async def _all(bus: Bus, count: int) -> AsyncIterator[object]:
    streams = Streams(bus)
    for number in range(count):
        entry = await streams.read_last(STREAM, BUCKET + key(str(number)))
        if entry is not None:
            yield decode_claim(entry.body)
