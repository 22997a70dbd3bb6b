"""Answers that are too large for a record: kept apart, given back whole, and never as an empty one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus import Streams
from bus.connection import BusError
from controller.core.stored import ClaimFailed, ClaimRead, ClaimRefused, ClaimStored, ClaimUnread
from crank.natsd import NatsServer
from subjects.claims import ClaimRecord, decode_claim
from tests.edge.claim_probe import BUCKET, STREAM, Probe, Proxy, key, record

LARGE = bytes(range(256)) * 4096


@pytest.fixture
async def probe(nats_server: NatsServer) -> AsyncIterator[Probe]:
    """One store."""
    probe = await Probe.on(nats_server.url)
    yield probe
    await probe.close()


async def _stands(probe: Probe, name: str) -> ClaimRecord:
    entry = await Streams(probe.bus).read_last(STREAM, BUCKET + key(name))
    assert entry is not None
    stands = decode_claim(entry.body)
    assert stands is not None
    return stands


async def test_a_large_answer_is_read_as_it_was_written(probe: Probe) -> None:
    """The bucket of claims itself holds its name only."""
    written = record("done", LARGE)
    stored = await probe.written("a", written, 0, 3600)
    assert isinstance(stored, ClaimStored)
    assert await probe.read("a") == ClaimRead(key("a"), written, stored.seq)
    stands = await _stands(probe, "a")
    assert stands.answer is not None
    assert written.answer is not None
    assert stands.answer == msgspec.structs.replace(written.answer, body=b"", blob=f"{key('a')}-{written.nonce}")


async def test_whoever_is_refused_gets_a_large_answer_whole(probe: Probe) -> None:
    """It may be sent as it stands."""
    written, late = record("done", LARGE), record()
    stored = await probe.written("a", written)
    assert isinstance(stored, ClaimStored)
    assert await probe.written("a", late) == ClaimRefused(key("a"), late.nonce, written, stored.seq)


async def test_a_large_answer_lives_longer_than_the_record_that_names_it(probe: Probe) -> None:
    """Whatever time lies between storing the two."""
    assert isinstance(await probe.written("a", record("done", LARGE), 0, 60), ClaimStored)
    last = await probe.bus.jetstream.get_msg("OBJ_crank_answers", 1)
    assert last.headers is not None
    assert last.headers["Nats-TTL"] == "180s"


async def test_an_answer_whose_body_is_gone_is_no_empty_answer(probe: Probe) -> None:
    """A reader is told that it cannot be read, and a late writer that nothing of its own was stored."""
    assert isinstance(await probe.written("a", record("done", LARGE)), ClaimStored)
    await probe.bus.jetstream.purge_stream("OBJ_crank_answers")
    found, late = await probe.read("a"), await probe.written("a", record())
    assert isinstance(found, ClaimUnread)
    assert isinstance(late, ClaimFailed)
    assert found.reason == late.reason == "the stored answer's body is gone from the object store, or damaged"


async def test_a_body_that_cannot_be_stored_is_told_and_no_record_names_it(probe: Probe) -> None:
    """The claim stands as before."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    config = (await probe.bus.jetstream.stream_info("OBJ_crank_answers")).config
    await probe.bus.jetstream.update_stream(config.evolve(max_bytes=1000))
    failed = await probe.written("a", record("done", LARGE), created.seq)
    assert isinstance(failed, ClaimFailed)
    assert failed.reason.startswith("the answer's body is not stored: OBJ_crank_answers is full; give it more")
    found = await probe.read("a")
    assert isinstance(found, ClaimRead)
    assert found.seq == created.seq


async def test_a_large_answer_survives_lost_acknowledgements(nats_server: NatsServer) -> None:
    """Its pieces are stored once each, and the record once."""
    async with Proxy(nats_server.port) as proxy:
        probe, other = await Probe.on(proxy.url), await Probe.on(nats_server.url)
        written = record("done", LARGE)
        proxy.deaf = True
        probe.put("a", written)
        await asyncio.sleep(0.2)
        proxy.deaf = False
        assert isinstance(await probe.outcome(written.nonce), ClaimStored)
        found = await other.read("a")
        assert isinstance(found, ClaimRead)
        assert found.record == written
        await other.close()
        await probe.close()


@pytest.mark.parametrize("size", [16 * 1024, 40 * 1024, 60 * 1024])
async def test_the_least_server_keeps_every_answer_that_it_can_carry(tmp_path: Path, size: int) -> None:
    """Where a message is 64 KB, what does not fit into a record beside all that a record may hold is kept apart."""
    server = NatsServer(tmp_path, max_payload=65536)
    await server.start()
    probe = await Probe.on(server.url)
    written = record("done", b"x" * size, caller="c" * 255, key="k" * 255, reason="r" * 512)
    assert written.answer is not None
    written = msgspec.structs.replace(
        written, answer=msgspec.structs.replace(written.answer, passed="X-A: b\r\n" * 2048)
    )
    stored = await probe.written("a", written)
    assert isinstance(stored, ClaimStored)
    assert await probe.read("a") == ClaimRead(key("a"), written, stored.seq)
    await probe.close()
    await server.stop()


async def test_results_keep_large_answers_the_same_way(probe: Probe) -> None:
    """Under names of their own, and for as long as results live."""
    written = record("done", LARGE, job=True)
    apart = await probe.store.kept.keep(written, f"{key('a')}-result", 1)
    assert apart.answer is not None
    assert apart.answer.body == b""
    assert await probe.store.kept.whole(apart) == written
    await probe.bus.jetstream.purge_stream("OBJ_crank_answers")
    with pytest.raises(BusError, match="gone"):
        await probe.store.kept.whole(apart)
