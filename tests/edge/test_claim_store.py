"""The store of claims against a real nats-server: each rule of how a claim is written, read, noticed and forgotten."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from bus import Bus, Streams
from bus.specs import bucket
from controller.core.stored import (
    ClaimFailed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnread,
    ReleaseClaim,
    UnwatchClaim,
)
from controller.edge import claim_notices
from crank.natsd import NatsServer
from subjects.claims import ClaimState, decode_claim, encode_claim
from subjects.headers import Block, build_block, parse_block
from tests.edge.claim_probe import BUCKET, MB, STREAM, Probe, eventually, key, record
from tests.edge.peers import until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked to ask again does so while that one still starts, and not later within a test."""
    monkeypatch.setattr(claim_notices, "AGAIN_S", 0.0)


@pytest.fixture
async def probe(nats_server: NatsServer) -> AsyncIterator[Probe]:
    """One store."""
    probe = await Probe.on(nats_server.url)
    yield probe
    await probe.close()


@pytest.fixture
async def other(nats_server: NatsServer) -> AsyncIterator[Probe]:
    """Another controller's store."""
    probe = await Probe.on(nats_server.url)
    yield probe
    await probe.close()


async def _message(bus: Bus, name: str) -> tuple[Block, bytes]:
    entry = await Streams(bus).read_last(STREAM, BUCKET + key(name))
    assert entry is not None
    block = parse_block(entry.headers)
    assert isinstance(block, Block)
    return block, entry.body


async def test_a_claim_is_created_once(probe: Probe, other: Probe) -> None:
    """The first of two wins; the second is told whose record stands, and under which sequence."""
    first, second = record(), record(owner="c-2.b2")
    stored = await probe.written("a", first)
    assert stored == ClaimStored(key("a"), first.nonce, stored.seq)  # type: ignore[union-attr]
    assert stored.seq > 0  # type: ignore[union-attr]
    refused = await other.written("a", second)
    assert refused == ClaimRefused(key("a"), second.nonce, first, stored.seq)  # type: ignore[union-attr]
    block, body = await _message(probe.bus, "a")
    assert decode_claim(body) == first
    assert block.ours["crank-claim"] == "dispatching"


async def test_a_claim_is_replaced_only_by_who_knows_its_sequence(probe: Probe, other: Probe) -> None:
    """Of two updates from the same sequence one is stored, and the other one is told of it."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    done, renewed = record("done", b"42"), record()
    stored = await probe.written("a", done, created.seq, 3600)
    assert isinstance(stored, ClaimStored)
    assert await other.written("a", renewed, created.seq) == ClaimRefused(key("a"), renewed.nonce, done, stored.seq)
    assert await other.read("a") == ClaimRead(key("a"), done, stored.seq)


async def test_a_key_that_was_never_used_reads_as_free(probe: Probe) -> None:
    """No record, sequence 0."""
    assert await probe.read("a") == ClaimRead(key("a"), None, 0)


async def test_a_released_key_is_created_under_the_sequence_of_what_is_left_of_it(probe: Probe) -> None:
    """Whoever takes it for never used is refused, and told the sequence that it is free under."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    await probe.released("a", created.seq)
    again, then = record(), record()
    refused = await probe.written("a", again)
    assert refused == ClaimRefused(key("a"), again.nonce, None, created.seq + 1)
    assert await probe.read("a") == ClaimRead(key("a"), None, created.seq + 1)
    assert isinstance(await probe.written("a", then, created.seq + 1), ClaimStored)


async def test_a_release_under_an_old_sequence_forgets_nothing(probe: Probe) -> None:
    """What somebody else stored meanwhile stands."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    done = record("done", b"42")
    assert isinstance(await probe.written("a", done, created.seq), ClaimStored)
    probe.send(ReleaseClaim(key("a"), created.seq))
    assert isinstance(await probe.written("b", record()), ClaimStored)  # which JetStream sees to after it
    found = await probe.read("a")
    assert isinstance(found, ClaimRead)
    assert found.record == done


async def test_what_is_left_of_a_released_key_has_a_short_life(probe: Probe) -> None:
    """A minute."""
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    await probe.released("a", created.seq)
    block, body = await _message(probe.bus, "a")
    assert (block.ours["nats-ttl"], body) == ("60s", b"")


async def test_an_answer_is_forgotten_when_its_time_is_over_and_a_claim_is_not(probe: Probe) -> None:
    """Only what nothing changes any more has a time to live; after it the key is as if never used."""
    held, final = await probe.written("held", record()), await probe.written("final", record("done", b"42"), 0, 1)
    assert isinstance(held, ClaimStored)
    assert isinstance(final, ClaimStored)
    blocks = [(await _message(probe.bus, name))[0].ours.get("nats-ttl") for name in ("held", "final")]
    assert blocks == [None, "1s"]

    async def forgotten() -> bool:
        return await probe.read("final") == ClaimRead(key("final"), None, 0)

    await eventually(forgotten)
    assert isinstance(await probe.written("final", record()), ClaimStored)
    found = await probe.read("held")
    assert isinstance(found, ClaimRead)
    assert found.seq == held.seq


async def test_whoever_watches_a_key_is_told_after_it_is_stored_that_nobody_holds_it_any_more(
    probe: Probe, other: Probe
) -> None:
    """A notice carries no record; whoever reads on it finds what was stored, and of other keys nobody is told."""
    await other.watch("a", probe)
    created = await probe.written("a", record())
    assert isinstance(created, ClaimStored)
    assert isinstance(await probe.written("b", record("done", b"1")), ClaimStored)
    done = await probe.written("a", record("done", b"1"), created.seq)
    assert isinstance(done, ClaimStored)
    await until(lambda: other.noticed("a") == 1)
    found = await other.read("a")  # by which it asks again
    assert isinstance(found, ClaimRead)
    assert found.seq == done.seq
    await probe.bus.flush()
    await probe.released("a", done.seq)
    await until(lambda: other.noticed("a") == 2)
    assert await other.read("a") == ClaimRead(key("a"), None, done.seq + 1)
    assert other.noticed("b") == 0


@pytest.mark.parametrize("state", ["done", "dead", "unknown", "cancelled"])
async def test_every_state_that_nobody_holds_is_told_of(probe: Probe, other: Probe, state: ClaimState) -> None:
    """Whoever waits has its answer, or may act."""
    await other.watch("a", probe)
    assert isinstance(await probe.written("a", record(state, b"1")), ClaimStored)
    await until(lambda: other.noticed("a") == 1)


@pytest.mark.parametrize("state", ["waiting", "dispatching"])
async def test_a_lease_that_is_taken_or_renewed_is_nobodys_news(probe: Probe, other: Probe, state: ClaimState) -> None:
    """There is nothing to do about it."""
    await other.watch("a", probe)
    taken = await probe.written("a", record(state))
    assert isinstance(taken, ClaimStored)
    assert isinstance(await probe.written("a", record(state), taken.seq), ClaimStored)
    await probe.bus.flush()
    await other.bus.flush()
    assert other.noticed("a") == 0


async def test_where_nobody_waits_nothing_is_sent(probe: Probe, other: Probe) -> None:
    """Nor to whoever waits for another key, or no more."""
    sent: list[str] = []
    await other.bus.subscribe(">", lambda subject, *message: sent.append(subject))
    await other.watch("b", probe)
    await other.watch("a", probe)
    other.send(UnwatchClaim(key("a")))
    assert isinstance(await probe.written("a", record("done", b"1")), ClaimStored)
    await probe.bus.flush()
    await other.bus.flush()
    assert (other.noticed("a"), other.noticed("b")) == (0, 0)
    del sent[:]
    assert isinstance(await probe.written("c", record("done", b"1")), ClaimStored)
    await probe.bus.flush()
    await other.bus.flush()
    assert [subject for subject in sent if not subject.startswith(("$", "_INBOX."))] == []
    assert len(sent) == 2, "the write and its acknowledgement"


async def test_all_who_asked_are_told(nats_server: NatsServer, probe: Probe, other: Probe) -> None:
    """Each once for each time that it asked."""
    third = await Probe.on(nats_server.url)
    for waiting in (other, third):
        await waiting.watch("a", probe)
    taken = await probe.written("a", record("done", b"1"))
    assert isinstance(taken, ClaimStored)
    await until(lambda: other.noticed("a") == third.noticed("a") == 1)
    assert isinstance(await probe.written("a", record("done", b"2"), taken.seq), ClaimStored)
    await probe.bus.flush()
    await other.read("a")
    assert (other.noticed("a"), third.noticed("a")) == (1, 1)
    await third.close()


async def test_a_stranger_who_asks_oddly_is_told_nothing(probe: Probe, other: Probe) -> None:
    """On our own subjects an answer would be taken for something else; what is no key is nobody's."""
    heard: list[str] = []
    for subject in ("crank.registry.w-1", "$SRV.PING", "strange.inbox"):
        await other.bus.subscribe(subject, lambda subject, *message: heard.append(subject))
    for asked, reply in (
        (key("a"), "crank.registry.w-1"),
        (key("a"), "$SRV.PING"),
        (key("a"), ""),
        ("not-a-key", "strange.inbox"),
        (key("a"), "strange.inbox" + "x" * 300),
        (key("a"), "strange.inbox"),
    ):
        other.bus.publish(f"crank.claims.asked.{asked}", b"nonsense", reply=reply)
    await other.bus.flush()
    await probe.bus.flush()
    assert isinstance(await probe.written("a", record("done", b"1")), ClaimStored)
    await until(lambda: bool(heard))
    assert heard == ["strange.inbox"]


async def test_more_keys_than_are_remembered_push_the_oldest_out(
    probe: Probe, other: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for the world takes no more memory than that; a key that was asked about again is not old."""
    monkeypatch.setattr(claim_notices, "MAX_ASKED", 2)
    for name in ("a", "b", "c", "b", "d", "e"):
        await other.watch(name, probe)
    for name in "abcde":
        assert isinstance(await probe.written(name, record("done", b"1")), ClaimStored)
    await until(lambda: other.noticed("e") == 1)
    assert [other.noticed(name) for name in "abcde"] == [0, 1, 1, 1, 1]


async def test_of_very_many_who_ask_about_one_key_the_last_are_told(probe: Probe, other: Probe) -> None:
    """Nobody shuts others out by asking first."""
    heard: list[str] = []
    await other.bus.subscribe("strange.*", lambda subject, *message: heard.append(subject))
    for number in range(100):
        other.bus.publish(f"crank.claims.asked.{key('a')}", b"", reply=f"strange.{number}")
    await other.watch("a", probe)
    assert isinstance(await probe.written("a", record("done", b"1")), ClaimStored)
    await until(lambda: other.noticed("a") == 1)
    assert heard == [f"strange.{number}" for number in range(85, 100)]


async def test_whoever_was_not_there_when_it_was_asked_has_others_ask_again(
    nats_server: NatsServer, other: Probe
) -> None:
    """It starts, or its connection comes back, while others wait; they read, and ask."""
    await other.watch("a")
    late = await Probe.on(nats_server.url)
    await until(lambda: other.noticed("a") == 1)
    await other.read("a")
    await late.bus.flush()
    assert isinstance(await late.written("a", record("done", b"1")), ClaimStored)
    await until(lambda: other.noticed("a") == 2)
    late.store.check()
    await until(lambda: other.noticed("a") == 3)
    await late.close()


async def test_a_job_that_waits_again_is_told_of_and_one_that_is_new_is_not(probe: Probe, other: Probe) -> None:
    """Whoever has its delivery may work on it."""
    await other.watch("a", probe)
    new = await probe.written("a", record("waiting", job=True))
    assert isinstance(new, ClaimStored)
    assert isinstance(await probe.written("a", record("waiting", job=True), new.seq), ClaimStored)
    await until(lambda: other.noticed("a") == 1)


async def test_a_release_that_an_earlier_one_was_told_of_is_told_of_as_well(probe: Probe, other: Probe) -> None:
    """Its acknowledgement was lost, and the second one meets the first."""
    taken = await probe.written("a", record())
    assert isinstance(taken, ClaimStored)
    expected = build_block([("Nats-Expected-Last-Subject-Sequence", str(taken.seq)), ("KV-Operation", "DEL")])
    await probe.bus.request(BUCKET + key("a"), b"", expected)
    await other.watch("a", probe)
    probe.send(ReleaseClaim(key("a"), taken.seq))
    await until(lambda: other.noticed("a") == 1)


async def test_whoever_waits_here_is_told_of_what_ends_here(probe: Probe) -> None:
    """A release that could not leave at once is not known to the core when it is stored."""
    taken = await probe.written("a", record())
    assert isinstance(taken, ClaimStored)
    await probe.watch("a")
    probe.send(ReleaseClaim(key("a"), taken.seq))
    await until(lambda: probe.noticed("a") == 1)


async def test_a_write_whose_acknowledgement_was_lost_is_told_of_as_well(probe: Probe, other: Probe) -> None:
    """It is known by reading, and then it is acknowledged for whoever waits too."""
    await other.watch("a", probe)
    written = record("done", b"1")
    await probe.bus.request(BUCKET + key("a"), encode_claim(written))
    assert isinstance(await probe.written("a", written), ClaimStored)
    await until(lambda: other.noticed("a") == 1)


async def test_a_write_that_is_refused_is_noticed_by_nobody(probe: Probe, other: Probe) -> None:
    """A subscriber of the bucket's own subjects would have seen it."""
    assert isinstance(await probe.written("a", record("done", b"1")), ClaimStored)
    await other.watch("a", probe)
    assert isinstance(await probe.written("a", record("done", b"1")), ClaimRefused)
    await probe.bus.flush()
    await other.read("a")
    assert other.noticed("a") == 0


async def test_a_job_that_is_forgotten_is_looked_up_among_the_results(probe: Probe) -> None:
    """Where its sequence is 0; a claim that stands comes first, and without being asked for nobody looks."""
    await Streams(probe.bus).ensure(bucket("crank_results", 1, MB))
    kept = record("done", b"42", job=True)
    await probe.bus.request(f"$KV.crank_results.{key('a')}", encode_claim(kept))
    assert await probe.read("a", kept=True) == ClaimRead(key("a"), kept, 0)
    assert await probe.read("a") == ClaimRead(key("a"), None, 0)
    assert await probe.read("b", kept=True) == ClaimRead(key("b"), None, 0)
    stands = record("dispatching", job=True)
    stored = await probe.written("a", stands)
    assert isinstance(stored, ClaimStored)
    assert await probe.read("a", kept=True) == ClaimRead(key("a"), stands, stored.seq)
    await probe.released("b", 0)
    assert await probe.read("b", kept=True) == ClaimRead(key("b"), None, stored.seq + 1)


async def test_results_that_cannot_be_read_are_not_taken_for_none(probe: Probe) -> None:
    """Without their bucket nothing is known."""
    found = await probe.read("a", kept=True)
    assert isinstance(found, ClaimUnread)
    assert "KV_crank_results cannot be read: stream not found" in found.reason


async def test_what_is_no_record_is_neither_read_nor_replaced(probe: Probe) -> None:
    """Of a newer version, or somebody else's: it is never taken for a free key."""
    await probe.bus.request(BUCKET + key("a"), b"\xc1 not msgpack")
    found, failed = await probe.read("a"), await probe.written("a", record())
    assert isinstance(found, ClaimUnread)
    assert isinstance(failed, ClaimFailed)
    assert "no record that this version can read" in found.reason
    assert failed.reason == found.reason


async def test_without_a_connection_nothing_is_stored_or_known_and_it_is_told_at_once(
    nats_server: NatsServer, probe: Probe
) -> None:
    """Before the command returns, and nothing leaves when the connection is back."""
    await nats_server.stop()
    await until(lambda: not probe.bus.connected)
    lost = record()
    probe.put("a", lost)
    assert probe.outcomes(lost.nonce) == [ClaimFailed(key("a"), lost.nonce, "not connected to NATS")]
    assert await probe.read("a") == ClaimUnread(key("a"), "not connected to NATS")
    await nats_server.start()
    await until(lambda: probe.bus.connected)
    assert isinstance(await probe.written("b", record()), ClaimStored)
    assert await probe.read("a") == ClaimRead(key("a"), None, 0)
    assert probe.outcomes(lost.nonce) == [ClaimFailed(key("a"), lost.nonce, "not connected to NATS")]


async def test_a_record_that_no_message_can_hold_is_refused_before_it_leaves(nats_server: NatsServer) -> None:
    """The server would close the connection over it, and every request with it."""
    probe = await Probe.on(nats_server.url)
    failed = await probe.written("a", record(reason="x" * 3 * MB))
    assert isinstance(failed, ClaimFailed)
    assert "raise its max_payload" in failed.reason
    assert isinstance(await probe.written("b", record()), ClaimStored)
    await probe.close()


async def test_a_store_that_stops_lets_what_is_under_way_finish(nats_server: NatsServer) -> None:
    """Everything that was handed over is known, also what takes several messages."""
    probe = await Probe.on(nats_server.url)
    records = [record() for _ in range(100)] + [record("done", b"x" * MB)]
    for number, written in enumerate(records):
        probe.put(str(number), written)
    await probe.store.stop()
    assert all(isinstance(probe.outcomes(one.nonce)[0], ClaimStored) for one in records)
    await probe.bus.close()


async def test_the_bucket_is_one_that_other_clients_can_look_into(probe: Probe) -> None:
    """As a key-value bucket, with the state of each claim in a header."""
    await probe.written("a", record())
    bucket = await probe.bus.jetstream.key_value("crank_idempotency")
    assert await bucket.keys() == [key("a")]
    info = json.loads((await probe.bus.request(f"$JS.API.STREAM.INFO.{STREAM}", b"")).body)["config"]
    assert (info["discard"], info["max_age"], info["deny_delete"]) == ("new", 0, True)
