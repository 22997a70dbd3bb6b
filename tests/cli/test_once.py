"""Keys, and asking again under one key: against a scripted peer over a real nats-server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callers import Client, CrankError, Silence, Unreachable
from callers.once import pause_s
from crank.natsd import NatsServer
from subjects.errors import ErrorKind, Refusal
from subjects.replies import ReplyMeta, build_refusal, build_reply
from tests.cli.peer import Peer, Reply, in_turn

META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", worker="w-1", version="1.0.0", attempts=1)
ANSWER = build_reply(META, "application/json", ""), b'{"done":1}'


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client of a server on which nobody listens yet."""
    async with await Client.connect(nats_server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callers.once._FIRST_SILENCE_S", 0.1)
    monkeypatch.setattr("callers.once._FIRST_PAUSE_S", 0.01)


def _refused(kind: ErrorKind, *, after_ms: int | None = None, maybe: bool | None = None) -> Reply:
    return build_refusal(Refusal(kind, "Because.", retry_after_ms=after_ms, maybe_executed=maybe), META)


def _said(peer: Peer, header: str) -> list[str]:
    blocks = [asked.headers for asked in peer.asked if "cancel" not in asked.subject]
    return [found[1] for block in blocks if (found := re.search(f"{header}: (.*)\r\n", block))]


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\r\nX: 1", 7])
async def test_a_key_that_is_none_is_refused_before_anything_is_sent(
    nats_server: NatsServer, client: Client, key: str
) -> None:
    """Without it the request would run unprotected, whichever way the key was said."""
    peer = await in_turn(nats_server.url, ANSWER)
    for ask in (client.request, client.request_once, client.submit, client.submit_once):
        with pytest.raises(CrankError, match=r"idempotency key .* is not 1 to 255 visible ASCII") as caught:
            await ask("a:b", idempotency_key=key)  # type: ignore[operator]
        assert caught.value.kind == "malformed"
    with pytest.raises(CrankError, match="idempotency key"):
        await client.request("a:b", headers={"idempotency-key": key})
    assert peer.asked == []
    await peer.stop()


async def test_a_replayed_answer_says_so(nats_server: NatsServer, client: Client) -> None:
    """The key and what to do with a duplicate are headers, and so is what came of it."""
    replay = ANSWER[0].replace(b"NATS/1.0\r\n", b"NATS/1.0\r\nCrank-Replayed: true\r\n"), b"1"
    peer = await in_turn(nats_server.url, ANSWER, replay)
    assert not (await client.request("a:b", idempotency_key="k-1", on_duplicate="reject")).replayed
    assert (await client.request("a:b", idempotency_key="k-1")).replayed
    assert _said(peer, "Idempotency-Key") == ["k-1", "k-1"]
    assert _said(peer, "Crank-On-Duplicate") == ["reject"]
    await peer.stop()


PASSING = [
    _refused(ErrorKind.IN_PROGRESS), _refused(ErrorKind.NO_WORKER), _refused(ErrorKind.OVERLOADED),
    _refused(ErrorKind.STORE_UNAVAILABLE), _refused(ErrorKind.WORKER_LOST, maybe=False),
    _refused(ErrorKind.DEADLINE, maybe=True), _refused(ErrorKind.RATE_LIMITED, after_ms=10), None,
    _refused(ErrorKind.OUTCOME_UNKNOWN, after_ms=10, maybe=True),
]  # fmt: skip


async def test_what_may_pass_is_asked_again_under_the_same_key(nats_server: NatsServer, client: Client) -> None:
    """Refusals that time mends, silence, an answer that is still being stored; nothing is cancelled in between."""
    peer = await in_turn(nats_server.url, *PASSING, ANSWER)
    answer = await client.request_once("a:b", {"n": 1}, timeout_ms=60_000, priority="high")
    assert answer.json() == {"done": 1}
    assert len(peer.asked) == len(PASSING) + 1
    assert len(set(_said(peer, "Idempotency-Key"))) == len(set(_said(peer, "Crank-Request-Id"))) == 1
    assert {asked.body for asked in peer.asked} == {b'{"n":1}'}
    left = [int(ms) for ms in _said(peer, "Crank-Timeout-Ms")]
    assert left[0] > left[-1] > 0
    assert left == sorted(left, reverse=True)
    await peer.stop()


@pytest.mark.parametrize(
    "reply",
    [
        _refused(ErrorKind.OUTCOME_UNKNOWN), _refused(ErrorKind.KEY_REUSED), _refused(ErrorKind.INVALID_INPUT),
        _refused(ErrorKind.NO_SUCH_CAPABILITY), _refused(ErrorKind.WORKER_ERROR), _refused(ErrorKind.WORKER_PROTOCOL),
        _refused(ErrorKind.WORKER_LOST, maybe=True), _refused(ErrorKind.WORKER_LOST), _refused(ErrorKind.CANCELLED),
        (b"NATS/1.0\r\nNats-Service-Error-Code: 503\r\nNats-Service-Error: ?\r\n\r\n", b"x"),
    ],
)  # fmt: skip
async def test_what_will_not_pass_is_raised_at_once_with_the_key(
    nats_server: NatsServer, client: Client, reply: Reply
) -> None:
    """Above all an unknown outcome: asking again cannot make it known, unless there is a time to do so."""
    peer = await in_turn(nats_server.url, reply)
    for ask in (client.request_once, client.submit_once):
        peer.asked.clear()
        with pytest.raises(CrankError) as caught:
            await ask("a:b", idempotency_key="k-2")
        assert (len(peer.asked), caught.value.idempotency_key, caught.value.capability) == (1, "k-2", "a:b")
        assert "safe" not in caught.value.hint
    await peer.stop()


async def test_patience_ends_with_the_last_failure_and_the_key_to_go_on_with(
    nats_server: NatsServer, client: Client
) -> None:
    """The key that was made is in the error and in what a person reads."""
    peer = await in_turn(nats_server.url, _refused(ErrorKind.OVERLOADED))
    with pytest.raises(CrankError) as caught:
        await client.request_once("a:b", timeout_ms=100)
    (key,) = set(_said(peer, "Idempotency-Key"))
    assert (caught.value.kind, caught.value.idempotency_key) == ("overloaded", key)
    assert caught.value.hint == f"Asking again with the same key is safe: {key}"
    assert len(peer.asked) > 1
    await peer.stop()


async def test_nobody_is_asked_before_the_time_that_was_asked_for(nats_server: NatsServer, client: Client) -> None:
    """Where Retry-After is longer than the patience, the wait is over at once."""
    peer = await in_turn(nats_server.url, _refused(ErrorKind.OVERLOADED, after_ms=3_600_000))
    with pytest.raises(CrankError, match="Because"):
        await asyncio.wait_for(client.request_once("a:b", timeout_ms=60_000), 10)
    assert len(peer.asked) == 1
    await peer.stop()


async def test_silence_to_the_end_is_told_whole_and_cancelled(nats_server: NatsServer, client: Client) -> None:
    """Nobody waits any more; with the key, what was done can still be had."""
    peer = await in_turn(nats_server.url, None)
    with pytest.raises(Silence, match=r"within 0\.2 s.* with the same key") as caught:
        await client.request_once("a:b", timeout_ms=200, request_id="r-7", idempotency_key="k-3")
    assert (caught.value.kind, caught.value.idempotency_key) == ("deadline", "k-3")
    assert caught.value.problem.maybe_executed
    async with asyncio.timeout(5):
        while "crank.cancel.r-7" not in [asked.subject for asked in peer.asked]:
            await asyncio.sleep(0.01)
    assert [asked.subject for asked in peer.asked].count("crank.cancel.r-7") == 1
    await peer.stop()


async def test_a_controller_that_comes_late_is_waited_for(nats_server: NatsServer, client: Client) -> None:
    """Also one whose server is started again meanwhile."""
    asking = asyncio.create_task(client.request_once("a:b", timeout_ms=30_000))
    await asyncio.sleep(0.1)
    await nats_server.stop()
    await asyncio.sleep(0.1)
    await nats_server.start()
    peer = await in_turn(nats_server.url, ANSWER)
    assert (await asyncio.wait_for(asking, 20)).json() == {"done": 1}
    await peer.stop()


async def test_a_closed_client_asks_nobody_again(nats_server: NatsServer, client: Client) -> None:
    """Who closed it did not mean to wait."""
    asking = asyncio.create_task(client.request_once("a:b", timeout_ms=60_000))
    await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises(Unreachable, match="closed"):
        await asyncio.wait_for(asking, 10)


async def test_leaving_cancels_what_was_asked_also_between_two_tries(nats_server: NatsServer, client: Client) -> None:
    """Whoever stops waiting wants nothing done for them."""
    peer = await in_turn(nats_server.url, None, _refused(ErrorKind.OVERLOADED, after_ms=50_000))
    asking = asyncio.create_task(client.request_once("a:b", timeout_ms=60_000, request_id="r-8"))
    async with asyncio.timeout(5):
        while len(peer.asked) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while peer.asked[-1].subject != "crank.cancel.r-8":
            await asyncio.sleep(0.01)
    await peer.stop()


@given(st.integers(0, 10_000), st.none() | st.integers(0, 86_400_000), st.floats(0, 1))
def test_a_pause_is_as_long_as_asked_for_and_not_much_longer(tries: int, after_ms: int | None, chance: float) -> None:
    """Whatever number of tries went before."""
    asked_s = (after_ms or 0) / 1000
    assert pause_s(tries, after_ms, chance) > 0
    assert asked_s <= pause_s(tries, after_ms, chance) <= max(5.0, asked_s * 1.1)
