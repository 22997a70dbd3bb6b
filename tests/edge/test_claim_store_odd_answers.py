"""Answers that JetStream gives in moments no test can bring about: a peer on a server without JetStream gives them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bus.questions
import controller.edge.claim_writes
import controller.edge.claims
from bus import Bus, Handler, Message, Streams, StreamSpec, Subscription
from controller.core.stored import ClaimFailed, ClaimRead, ClaimRefused, ClaimStored, ClaimUnread, ReleaseClaim
from crank.natsd import NatsServer
from subjects.claims import encode_claim
from tests.edge.claim_probe import Probe, key, record
from tests.edge.peers import until

NOTHING = b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'
AWAY = b'{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}'
FULL = b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}'
WRONG = b'{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"S","seq":0}'
DONE = b'{"stream":"KV_crank_idempotency","seq":7}'
SILENCE = b""


class _Made(Streams):
    async def ensure(self, spec: StreamSpec) -> list[str]:
        return []


class Peer:
    """Gives the answers it is told to, one a question, and then none."""

    def __init__(self, connection: Bus) -> None:
        self.bus = connection
        self.writes: list[bytes] = []
        self.reads: list[bytes] = []
        self.asked: list[Message] = []
        self._subscriptions: list[Subscription] = []

    async def come(self) -> None:
        """Be there."""
        for subject, answers in (("$KV.crank_idempotency.>", self.writes), ("$JS.API.STREAM.MSG.GET.>", self.reads)):
            self._subscriptions.append(await self.bus.subscribe(subject, self._answering(answers)))
        await self.bus.flush()

    async def go(self) -> None:
        """Be there no more."""
        while self._subscriptions:
            await self.bus.unsubscribe(self._subscriptions.pop())
        await self.bus.flush()

    def _answering(self, answers: list[bytes]) -> Handler:
        def answer(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
            self.asked.append(Message(subject, reply, headers, body))
            if answers and (given := answers.pop(0)) != SILENCE:
                self.bus.publish(reply, given)

        return answer

    def stands(self, body: bytes, seq: int) -> bytes:
        """The answer to a read that finds ``body``."""
        return json.dumps({"message": {"subject": "s", "seq": seq, "data": base64.b64encode(body).decode()}}).encode()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """Without JetStream."""
    server = NatsServer(tmp_path, extra="jetstream: false")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def peer(server: NatsServer) -> AsyncIterator[Peer]:
    """In JetStream's place."""
    peer = Peer(await Bus.connect(server.url, name="peer"))
    await peer.come()
    yield peer
    await peer.bus.close()


@pytest.fixture
async def probe(server: NatsServer, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Probe]:
    """A store with little patience."""
    for module in (bus.questions, controller.edge.claim_writes):
        monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    monkeypatch.setattr(controller.edge.claims, "_SWEEP_S", 0.05)
    monkeypatch.setattr(controller.edge.claims, "_STOP_S", 0.3)
    probe = Probe(await Bus.connect(server.url, name="probe"), 1000, 1, _Made)
    await probe.store.start()
    yield probe
    await probe.close()


@pytest.mark.parametrize(
    "junk",
    [b"{", b"null", b"[]", b'{"seq":0}', b'{"seq":-1}', b'{"seq":"1"}', b"\xff", b"[" * 100_000, b'{"error":null}'],
    ids=range(9),
)
async def test_what_cannot_be_read_as_an_acknowledgement_is_none(probe: Probe, peer: Peer, junk: bytes) -> None:
    """The write is sent again, and the real one counts."""
    peer.writes[:] = [junk, DONE]
    written = record()
    assert await probe.written("a", written) == ClaimStored(key("a"), written.nonce, 7)
    assert [message.body for message in peer.asked] == [encode_claim(written)] * 2


async def test_a_refusal_while_the_expected_stands_is_not_believed(probe: Probe, peer: Peer) -> None:
    """On replicas a write is refused for another one that is not stored yet, and may be one's own: it is sent again."""
    peer.writes[:] = [WRONG, WRONG, DONE]
    peer.reads[:] = [NOTHING, NOTHING]
    written = record()
    assert await probe.written("a", written) == ClaimStored(key("a"), written.nonce, 7)
    assert len(probe.outcomes(written.nonce)) == 1


async def test_a_refused_write_waits_until_it_can_be_read_what_stands(probe: Probe, peer: Peer) -> None:
    """Meanwhile it is told that nobody knows."""
    written, theirs = record(), record()
    peer.writes[:] = [WRONG, WRONG, WRONG, WRONG]
    peer.reads[:] = [AWAY, SILENCE, b"{", peer.stands(encode_claim(theirs), 9)]
    assert await probe.written("a", written) == ClaimRefused(key("a"), written.nonce, theirs, 9)
    assert probe.unanswered(written.nonce) == 1


async def test_an_error_is_certain_for_the_first_try_alone(probe: Probe, peer: Peer) -> None:
    """After it, what stands there is looked at."""
    first, lost = record(), record()
    peer.writes[:] = [FULL]
    failed = await probe.written("a", first)
    assert isinstance(failed, ClaimFailed)
    assert "is full" in failed.reason
    peer.writes[:] = [SILENCE, FULL]
    peer.reads[:] = [peer.stands(encode_claim(lost), 3)]
    assert await probe.written("a", lost) == ClaimStored(key("a"), lost.nonce, 3)


async def test_nobody_being_there_is_certain_for_the_first_try_alone(probe: Probe, peer: Peer) -> None:
    """After it, the write is sent until somebody is there again."""
    written, late = record(), record()
    peer.writes[:] = [SILENCE, DONE]
    probe.put("a", written)
    await until(lambda: len(peer.asked) == 1)
    await peer.go()
    failed = await probe.written("b", late)
    assert isinstance(failed, ClaimFailed)
    assert failed.reason.startswith("JetStream is off, or the stream is missing")
    await asyncio.sleep(0.3)
    assert probe.outcomes(written.nonce) == []
    await peer.come()
    assert await probe.outcome(written.nonce) == ClaimStored(key("a"), written.nonce, 7)


async def test_a_release_is_sent_until_it_is_done_or_refused_for_good(probe: Probe, peer: Peer) -> None:
    """Silence and absence are no refusals; an error is one after five times."""
    peer.writes[:] = [SILENCE, WRONG]
    probe.send(ReleaseClaim(key("a"), 1))
    await until(lambda: len(peer.asked) == 2)
    await peer.go()
    probe.send(ReleaseClaim(key("b"), 1))
    await asyncio.sleep(0.2)
    peer.asked.clear()
    peer.writes[:] = [FULL] * 20
    await peer.come()
    await until(lambda: len(peer.asked) > 0)
    await asyncio.sleep(0.5)
    assert {message.subject for message in peer.asked} == {f"$KV.crank_idempotency.{key('b')}"}
    assert len(peer.asked) <= 5


async def test_a_read_without_jetstream_is_told_as_such(probe: Probe, peer: Peer) -> None:
    """And never as a free key."""
    peer.reads[:] = [NOTHING, AWAY, b"{", b"{}", b'{"message":{"seq":0}}']
    assert await probe.read("a") == ClaimRead(key("a"), None, 0)
    found = [await probe.read("a") for _ in range(5)]
    assert all(isinstance(one, ClaimUnread) for one in found)
    await peer.go()
    assert await probe.read("a") == ClaimUnread(key("a"), "KV_crank_idempotency cannot be read: JetStream is off")


async def test_a_store_that_stops_does_not_wait_for_ever(probe: Probe, peer: Peer) -> None:
    """For a record, or for a body."""
    probe.put("a", record())
    probe.put("b", record("done", b"x" * 1024 * 1024))
    await peer.bus.subscribe("$O.>", lambda *_: None)
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        await probe.store.stop()


async def test_a_jetstream_that_falls_behind_is_given_no_more_than_a_bound(
    probe: Probe, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is more is refused for certain, in words; those that wait are stored when it answers again."""
    monkeypatch.setattr(bus.questions, "_MOST_OPEN", 8)
    written = [record() for _ in range(12)]
    for number, one in enumerate(written):
        probe.put(f"k-{number}", one)
    refused = [event for event in probe.events if isinstance(event, ClaimFailed)]
    assert 4 <= len(refused) < 12
    assert {"JetStream falls behind: 8 questions to it are not answered yet"} == {event.reason for event in refused}
    peer.writes[:] = [DONE] * 12
    nonces = {one.nonce for one in written} - {event.nonce for event in refused}
    assert {type(await probe.outcome(nonce)) for nonce in nonces} == {ClaimStored}
    assert isinstance(await probe.written("k-13", record()), ClaimStored)
