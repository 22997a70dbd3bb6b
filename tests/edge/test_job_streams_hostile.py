"""What strangers put among the jobs: nothing of it runs, is handed out for ever, or is lost in silence."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator

import pytest

import controller.edge.jetstream
from bus import Entry, Streams
from controller.core.stored import JobDelivered, JobsKnown, PullEnded, PullJobs
from crank.natsd import NatsServer
from subjects.headers import Block, build_block, parse_block
from subjects.jobs import parse_dead
from tests.edge.job_bench import GREET, Bench, request

GOOD = {"Crank-Job-Id": "j-x", "Crank-Caller": "c", "Crank-Request-Id": "r"}


@pytest.fixture
async def bench(nats_server: NatsServer) -> AsyncIterator[Bench]:
    """One controller's streams, which are small."""
    bench = await Bench.start(nats_server, max_bytes=4 * 1024 * 1024)
    yield bench
    await bench.stop()


async def last_dead(bench: Bench) -> Entry:
    """The newest among the dead of this capability."""
    found = await Streams(bench.bus).read_last("CRANK_DEAD", "crank.dead.greet.hello_world")
    assert found is not None
    return found


HOSTILE = [
    (None, b"no headers at all"),
    (b"NATS/1.0\r\n\r\n", b""),
    (build_block({**GOOD, "Crank-Job-Id": "../../etc"}.items()), b"{}"),
    (build_block({**GOOD, "Crank-Job-Id": "$KV.x"}.items()), b"{}"),
    (build_block({**GOOD, "Crank-Caller": "c" * 3000}.items()), b"{}"),
    (build_block({**GOOD, "Crank-Timeout-Ms": "-1"}.items()), b"{}"),
    (build_block([*GOOD.items(), ("Crank-Job-Id", "j-y")]), b"{}"),
    (b"NATS/1.0\r\nCrank-Job-Id: j\x1b[2J\r\n\r\n", b"\x00" * 10),
    (b"NATS/1.0\r\nX: " + b"x" * 60_000 + b"\r\n\r\n", b"{}"),
    (b"NATS/1.0\r\n\xff\xfe: 1\r\n\r\n", b"{}"),
]


@pytest.mark.parametrize(("headers", "body"), HOSTILE)
async def test_what_is_no_job_is_moved_to_the_dead_as_it_is(
    bench: Bench, headers: bytes | None, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, kept with its body and its headers, and out of the way: the job behind it comes."""
    await bench.bus.request("crank.jobs.greet.hello_world", body, headers)
    await bench.append("j-1")
    with caplog.at_level(logging.WARNING):
        bench.do(PullJobs(GREET, 2))
        await bench.expect(PullEnded)
    assert [event.job_id for event in bench.fed if hasattr(event, "job_id")] == ["j-1"]
    while await bench.messages("CRANK_JOBS") != 1:
        await bench.bus.flush()
    found = await last_dead(bench)
    dead = parse_dead(found.headers)
    assert (found.body, dead.reason, dead.job_id, dead.attempts) == (body, "malformed", "", 0)
    assert dead.detail
    block = parse_block(found.headers)
    assert isinstance(block, Block)
    kept = base64.b64decode(block.ours.get("crank-dead-headers", ""))
    assert kept == (headers or b"")[: 8 * 1024]
    assert any("is no job" in record.getMessage() for record in caplog.records)


async def test_what_is_too_large_to_move_is_cut_and_says_so(bench: Bench) -> None:
    """A message as large as the server takes leaves no room for why it was moved."""
    body = b"x" * (bench.bus.max_payload_bytes - 100)
    await bench.bus.request("crank.jobs.greet.hello_world", body)
    await bench.append("j-1")
    bench.do(PullJobs(GREET, 2))
    await bench.expect(PullEnded)
    while await bench.messages("CRANK_JOBS") != 1:
        await bench.bus.flush()
    found = await last_dead(bench)
    assert body.startswith(found.body)
    assert f"of {len(body)} bytes are kept" in parse_dead(found.headers).detail


async def test_what_cannot_be_moved_stays_where_it_is(bench: Bench) -> None:
    """While there is no room among the dead, it is neither acknowledged nor lost."""
    filling = request(body=b"x" * 1_000_000)
    n = 0
    while await bench.bury(f"d-{n}", filling) is None:
        n += 1
    await bench.bus.request("crank.jobs.greet.hello_world", b"y" * 1_000_000)
    await bench.append("j-1")
    bench.do(PullJobs(GREET, 2))
    await bench.expect(PullEnded)
    assert [job.job_id for job in bench.of(JobDelivered)] == ["j-1"]
    assert await bench.messages("CRANK_JOBS") == 2


async def test_a_forged_job_is_handed_to_the_core_under_its_own_id(bench: Bench) -> None:
    """It is read like any other; that nothing stands behind it is for its record to say."""
    await bench.bus.request("crank.jobs.greet.hello_world", b"{}", build_block(GOOD.items()))
    bench.jobs.check()
    await bench.until(lambda: JobsKnown(GREET) in bench.fed)
    (job,) = await bench.pull()
    assert (job.job_id, job.request.caller, job.request.action, job.request.reply) == ("j-x", "c", "job", "")


async def test_subjects_that_are_no_capability_trouble_nobody(bench: Bench) -> None:
    """They are not stored, or stand there unread; what is a capability goes on."""
    for subject in ("crank.jobs.a", "crank.jobs.a.b.c", "crank.jobs"):
        bench.bus.publish(subject, b"{}")
    await bench.bus.request("crank.jobs.b@d.n\u00e4me", b"{}")
    await bench.append("j-1")
    bench.jobs.check()
    await bench.until(lambda: JobsKnown(GREET) in bench.fed)
    assert {event.capability for event in bench.of(JobsKnown)} == {GREET}
    assert await bench.messages("CRANK_JOBS") == 2
    (job,) = await bench.pull()
    assert job.job_id == "j-1"


@pytest.mark.parametrize(
    "told", [b"{}", b'{"stream": "CRANK_JOBS", "seq": 0}', b'{"stream": "OTHER", "seq": 1}', b"[]"]
)
async def test_a_stranger_s_word_is_no_acknowledgement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, told: bytes
) -> None:
    """A job is accepted when its own stream says so: whoever else answers there may store nothing."""
    monkeypatch.setattr(controller.edge.jetstream, "_PATIENCE_S", 0.3)
    await bench.append("j-1")
    await bench.bus.jetstream.delete_stream("CRANK_JOBS")

    def answer(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        bench.bus.publish(reply, told)

    await bench.bus.subscribe("crank.jobs.>", answer)
    assert "something else" in (await bench.append("j-2") or "")


@pytest.mark.parametrize(
    "told", [b"\xff", b"[]", b"{", b"7", b'{"error":1}', b'{"error":{"code":"x"}}', b'{"config":7}']
)
async def test_a_stranger_s_word_about_streams_ends_no_watch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, told: bytes
) -> None:
    """What answers in JetStream's place and cannot be read is a failure like any other: it is looked again."""
    monkeypatch.setattr("controller.edge.jobs._LOOK_EVERY_S", 0.05)
    asked = asyncio.Event()

    def answer(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        bench.bus.publish(reply, told)
        asked.set()

    await bench.bus.jetstream.delete_stream("CRANK_DEAD")
    subscription = await bench.bus.subscribe("$JS.API.STREAM.CREATE.*", answer)
    bench.jobs.check()
    async with asyncio.timeout(10):
        await asked.wait()
    await asyncio.sleep(0.2)
    await bench.bus.unsubscribe(subscription)
    await bench.bus.jetstream.delete_stream("KV_crank_results")
    async with asyncio.timeout(10):
        while await bench.bury("d-1") is not None:
            await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while await bench.streams.state("KV_crank_results") is None:
            await asyncio.sleep(0.1)
