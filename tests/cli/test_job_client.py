"""Submitting, and asking for results, from Python: against a scripted peer over a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callers import Answer, Client, CrankError, Job, Pending, Silence, Unreachable
from crank.natsd import NatsServer
from subjects.errors import ErrorKind, Refusal
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal, build_reply
from tests.cli.peer import Reply, in_turn

META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", worker="w-1", version="1.0.0", attempts=1)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client of a server on which nobody listens yet."""
    async with await Client.connect(nats_server.url) as client:
        yield client


def _status(reply: Reply, status: str) -> Reply:
    return (reply[0] or b"").replace(b"NATS/1.0\r\n", f"NATS/1.0\r\nCrank-Job-Status: {status}\r\n".encode()), reply[1]


DONE = _status((build_reply(META, "application/json", ""), b'{"n":1}'), "done")
RUNNING = _status((JSON_BLOCK, b'{"job_id":"j-1","status":"running"}'), "running")
QUEUED = _status((JSON_BLOCK, b'{"status":"queued"}'), "queued")


async def test_a_job_is_what_was_accepted(nats_server: NatsServer, client: Client) -> None:
    """Its id, whether it was there before; the options went along."""
    peer = await in_turn(nats_server.url, (JSON_BLOCK, b'{"job_id":"j-1","status":"accepted","duplicate":false}'))
    job = await client.submit("a:b", {"n": 1}, idempotency_key="k", timeout_ms=500)
    assert job == Job("j-1", duplicate=False)
    asked = peer.asked[0]
    assert (asked.subject, asked.body) == ("crank.submit.a.b", b'{"n":1}')
    assert "Idempotency-Key: k\r\n" in asked.headers
    assert "Crank-Timeout-Ms: 500\r\n" in asked.headers
    await peer.stop()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"job_id":7}', b'{"job_id":"a.b>"}', b'{"duplicate":true}', b"\xff", b"[" * 5000]
)
async def test_an_acceptance_that_is_none_is_a_failure(nats_server: NatsServer, client: Client, body: bytes) -> None:
    """It names no job that could be asked for."""
    peer = await in_turn(nats_server.url, (JSON_BLOCK, body))
    with pytest.raises(CrankError) as caught:
        await client.submit("a:b")
    assert caught.value.kind == "worker_protocol"
    await peer.stop()


async def test_silence_says_that_it_may_have_been_accepted(nats_server: NatsServer, client: Client) -> None:
    """And submitting again under the same key makes one job of both."""
    peer = await in_turn(nats_server.url, None)
    with pytest.raises(Silence, match="may have run") as caught:
        await client.submit("a:b", idempotency_key="k", idle_timeout_s=0.05)
    assert caught.value.idempotency_key == "k"
    await peer.stop()


async def test_a_submission_goes_on_under_its_key(
    nats_server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through silence and through a store that is away, until there is a job."""
    monkeypatch.setattr("callers.once._FIRST_SILENCE_S", 0.1)
    away = build_refusal(Refusal(ErrorKind.STORE_UNAVAILABLE, "It is away."), META)
    peer = await in_turn(nats_server.url, None, away, (JSON_BLOCK, b'{"job_id":"j-1","duplicate":true}'))
    assert await client.submit_once("a:b", b"{}") == Job("j-1", duplicate=True)
    keys = {line for asked in peer.asked for line in asked.headers.split("\r\n") if line.startswith("Idempotency-Key")}
    assert (len(peer.asked), len(keys)) == (3, 1)
    await peer.stop()


async def test_a_result_is_the_answer_or_that_there_is_none_yet(nats_server: NatsServer, client: Client) -> None:
    """Two types, so that nobody takes the one for the other."""
    peer = await in_turn(nats_server.url, QUEUED)
    assert await client.result("j-1") == Pending("j-1", "queued")
    await peer.stop()
    peer = await in_turn(nats_server.url, DONE)
    answer = await client.result("j-1")
    assert isinstance(answer, Answer)
    assert (answer.json(), answer.job_status) == ({"n": 1}, "done")
    assert peer.asked[0].subject == "crank.result.j-1"
    await peer.stop()


@pytest.mark.parametrize(("kind", "status"), [(ErrorKind.OUTCOME_UNKNOWN, "dead"), (ErrorKind.CANCELLED, "cancelled")])
async def test_a_job_that_failed_raises_its_own_failure(
    nats_server: NatsServer, client: Client, kind: ErrorKind, status: str
) -> None:
    """Which is told apart from a failure to ask, and is not asked about again."""
    peer = await in_turn(nats_server.url, _status(build_refusal(Refusal(kind, "It was so."), META), status))
    with pytest.raises(CrankError, match="It was so") as caught:
        await client.result("j-1", timeout_ms=5000)
    assert (caught.value.job_status, caught.value.passing, len(peer.asked)) == (status, False, 1)
    await peer.stop()


@pytest.mark.parametrize("reply", [(JSON_BLOCK, b'{"status":"running"}'), _status(QUEUED, "done"), (None, b"")])
async def test_a_result_that_says_nothing_is_a_failure(nats_server: NatsServer, client: Client, reply: Reply) -> None:
    """It is neither an answer nor none."""
    peer = await in_turn(nats_server.url, reply)
    with pytest.raises(CrankError) as caught:
        await client.result("j-1")
    assert caught.value.kind == "worker_protocol"
    await peer.stop()


async def test_a_wait_outlives_controllers(nats_server: NatsServer, client: Client) -> None:
    """One that answers too soon, one that says it cannot tell, and one that goes and comes back."""
    away = build_refusal(Refusal(ErrorKind.STORE_UNAVAILABLE, "It is away."), META)
    peer = await in_turn(nats_server.url, RUNNING, away, QUEUED)
    waiting = asyncio.create_task(client.result("j-1", timeout_ms=30_000))
    async with asyncio.timeout(10):
        while len(peer.asked) < 3:
            await asyncio.sleep(0.01)
    await peer.stop()
    await asyncio.sleep(0.3)
    peer = await in_turn(nats_server.url, DONE)
    answer = await asyncio.wait_for(waiting, 20)
    assert isinstance(answer, Answer)
    await peer.stop()


async def test_a_wait_ends_with_what_was_heard_last(nats_server: NatsServer, client: Client) -> None:
    """But for somebody who was never there."""
    with pytest.raises(Unreachable):
        await client.result("j-1", timeout_ms=5000)
    peer = await in_turn(nats_server.url, RUNNING)
    assert await client.result("j-1", timeout_ms=300) == Pending("j-1", "running")
    for wrong in ("", "a.b", "*", 7):
        with pytest.raises(CrankError, match="job id"):
            await client.result(wrong)  # type: ignore[arg-type]
    await peer.stop()


async def test_a_list_that_is_none_is_a_failure(nats_server: NatsServer, client: Client) -> None:
    """Whatever stands where the list should."""
    for body in (b'{"jobs":7}', b'{"jobs":["a"]}', b'{"jobs":{"a":1}}', b"7"):
        peer = await in_turn(nats_server.url, (JSON_BLOCK, body))
        with pytest.raises(CrankError) as caught:
            await client.listed("jobs")
        assert caught.value.kind == "worker_protocol"
        await peer.stop()
