"""The streams of jobs on a real nats-server: kept once, handed out again until they are acknowledged, never lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from bus.specs import config_of
from controller.core.stored import (
    AckJob,
    Appended,
    DropDead,
    ExtendJob,
    JobDelivered,
    JobsKnown,
    KeepResult,
    NakJob,
    PullEnded,
    PullJobs,
)
from controller.edge.job_consumers import capability_of, consumer_name
from controller.edge.kept_answers import KeptAnswers, answers_spec
from crank.natsd import NatsServer
from subjects.claims import StoredAnswer, decode_claim
from subjects.requests import RequestHeaders
from subjects.tokens import CapabilityId
from subjects.trace import TraceContext
from tests.edge.job_bench import GREET, SUBJECTS, Bench, dead_record, request

StartBench = Callable[..., Awaitable[Bench]]
OTHER = CapabilityId("greet:other")
LONGEST = CapabilityId(f"{'v' * 64}:{'n' * 64}")


@pytest.fixture
async def start_bench(nats_server: NatsServer) -> AsyncIterator[StartBench]:
    """Start the streams of as many controllers as are wanted."""
    started: list[Bench] = []

    async def start(**options: int) -> Bench:
        bench = await Bench.start(nats_server, **options)
        started.append(bench)
        return bench

    yield start
    for bench in started:
        await bench.stop()


@pytest.fixture
async def bench(start_bench: StartBench) -> Bench:
    """One controller's."""
    return await start_bench()


async def consumer_pending(bench: Bench, capability: CapabilityId = GREET) -> int:
    """Deliveries that are not acknowledged yet."""
    info = await bench.bus.jetstream.consumer_info("CRANK_JOBS", consumer_name(capability))
    return int(info.num_ack_pending or 0)


async def hurry(bench: Bench, ack_wait_s: float, capability: CapabilityId = GREET) -> None:
    """Have what is not acknowledged delivered again sooner than in half a minute."""
    name = consumer_name(capability)
    info = await bench.bus.jetstream.consumer_info("CRANK_JOBS", name)
    info.config.ack_wait = ack_wait_s
    await bench.bus.jetstream.add_consumer("CRANK_JOBS", info.config)


async def test_a_job_comes_out_as_it_went_in_and_is_forgotten_when_acknowledged(bench: Bench) -> None:
    """Body, headers and the caller's own lines arrive; an acknowledgement empties the stream."""
    headers = RequestHeaders(
        timeout_ms=1000, version="^1", idempotency_key="k", trace=TraceContext("a" * 32, "b" * 16, True)
    )
    sent = request(body=b"\x00\xff", passed="X-Own: 1\r\n", headers=headers)
    assert await bench.append("j-1", sent) is None
    (job,) = await bench.pull()
    headers = msgspec.structs.replace(headers, request_id="r-1")
    assert job.request == msgspec.structs.replace(sent, headers=headers, action="job", job_id="j-1")
    assert job.job_id == "j-1"
    bench.do(AckJob(job.delivery))
    await bench.bus.flush()
    assert await bench.messages("CRANK_JOBS") == 0
    await bench.expect(PullEnded)


async def test_a_job_is_stored_once_under_its_message_id(bench: Bench) -> None:
    """An append that is repeated counts as stored and adds nothing, also after the job is done."""
    assert [await bench.append("j-1") for _ in range(3)] == [None] * 3
    assert await bench.messages("CRANK_JOBS") == 1
    (job,) = await bench.pull()
    bench.do(AckJob(job.delivery))
    assert await bench.append("j-1") is None
    assert await bench.messages("CRANK_JOBS") == 0
    assert await bench.append("j-1", message_id="j-1.2") is None
    assert await bench.messages("CRANK_JOBS") == 1


async def test_a_job_that_nobody_acknowledges_is_handed_out_again(start_bench: StartBench) -> None:
    """To another controller too, when the first one is silent."""
    first, second = await start_bench(), await start_bench()
    await first.append("j-1")
    await hurry(first, 0.5)
    await first.pull()
    await first.jobs.leave()
    (job,) = await second.pull()
    second.do(AckJob(job.delivery))
    await second.bus.flush()
    assert await second.messages("CRANK_JOBS") == 0


async def test_a_job_that_is_worked_on_is_not_handed_out_again(bench: Bench) -> None:
    """For as long as the delivery is extended; then it is."""
    await bench.append("j-1")
    await hurry(bench, 1.0)
    (job,) = await bench.pull()
    bench.do(PullJobs(GREET, 1))
    for _ in range(8):
        with pytest.raises(TimeoutError):
            await bench.expect(JobDelivered, timeout_s=0.3)
        bench.do(ExtendJob(job.delivery))
    (again,) = await bench.expect(JobDelivered)
    assert again.job_id == "j-1"


async def test_a_job_that_is_put_back_comes_again_after_its_delay_and_not_before(bench: Bench) -> None:
    """The delay is JetStream's to keep: other jobs pass meanwhile."""
    await bench.append("j-1")
    (job,) = await bench.pull()
    bench.do(NakJob(job.delivery, 1.5))
    await bench.append("j-2")
    (other,) = await bench.pull()
    assert other.job_id == "j-2"
    bench.do(NakJob(other.delivery, 0))
    (again,) = await bench.pull()
    assert again.job_id == "j-2"
    bench.do(AckJob(again.delivery))
    (late,) = await bench.pull()
    assert late.job_id == "j-1"


async def test_two_controllers_share_the_jobs_of_a_capability(start_bench: StartBench) -> None:
    """Each job goes to one of them, and both get some."""
    first, second = await start_bench(), await start_bench()
    for n in range(20):
        assert await (first, second)[n % 2].append(f"j-{n}") is None
    jobs = [await bench.pull(10) for bench in (first, second)]
    assert [len(got) for got in jobs] == [10, 10]
    assert len({job.job_id for got in jobs for job in got}) == 20


async def test_the_other_controller_hears_of_a_capability_that_has_jobs(start_bench: StartBench) -> None:
    """Who accepts a job says so, and all others find its consumer when they look."""
    first, second = await start_bench(), await start_bench()
    await first.append("j-1")
    assert JobsKnown(GREET) in first.fed
    assert JobsKnown(GREET) not in second.fed
    second.jobs.check()
    await second.until(lambda: JobsKnown(GREET) in second.fed)
    third = await start_bench()
    assert JobsKnown(GREET) in third.fed


async def test_a_capability_that_is_offline_stalls_no_other(bench: Bench) -> None:
    """Hundreds of jobs that nobody pulls, and the one beside them comes at once."""
    for n in range(300):
        await bench.append(f"off-{n}", request(OTHER))
    await bench.append("j-1")
    (job,) = await bench.pull()
    assert job.job_id == "j-1"
    assert await consumer_pending(bench, OTHER) == 0


async def test_a_pull_ends_once_whatever_it_brought(bench: Bench) -> None:
    """All that was asked for, some of it, or nothing: one end each, and no job after the end of a full one."""
    for n in range(5):
        await bench.append(f"j-{n}")
    await bench.pull(3)
    await bench.expect(PullEnded)
    bench.do(PullJobs(GREET, 10))
    await bench.expect(JobDelivered, 2)
    await bench.expect(PullEnded)
    assert not bench.of(PullEnded)
    assert not bench.of(JobDelivered)


async def test_a_pull_where_nothing_can_come_ends_and_not_at_once(bench: Bench) -> None:
    """Without a consumer, or a connection, pulls follow one another without haste."""
    for _ in range(3):
        bench.do(PullJobs(OTHER, 1))
    with pytest.raises(TimeoutError):
        await bench.expect(PullEnded, timeout_s=0.3)
    await bench.expect(PullEnded, 3)
    await bench.jobs.leave()
    bench.do(PullJobs(GREET, 1))
    assert not bench.of(PullEnded)
    await bench.expect(PullEnded)


async def test_jobs_survive_a_restart_of_the_server(bench: Bench, nats_server: NatsServer) -> None:
    """With the same store: what was accepted, what was handed out and not acknowledged, and who is to be asked."""
    for n in range(3):
        await bench.append(f"j-{n}")
    (done,) = await bench.pull()
    bench.do(AckJob(done.delivery))
    (held,) = await bench.pull()
    await bench.bus.flush()
    bench.do(PullJobs(OTHER, 1))
    await bench.expect(PullEnded, 2)
    await nats_server.stop()
    await nats_server.start()
    await bench.until(lambda: bench.bus.connected)
    await bench.expect(PullEnded)
    await bench.expect(JobsKnown)
    bench.do(NakJob(held.delivery, 0))
    jobs = await bench.pull(2)
    assert {job.job_id for job in jobs} == {"j-1", "j-2"}


async def test_a_server_that_is_gone_ends_pulls_and_refuses_jobs_in_words(
    bench: Bench, nats_server: NatsServer
) -> None:
    """Nothing hangs: a pull ends by itself, and an append says that nothing was acknowledged."""
    await bench.append("j-1")
    await bench.pull()
    bench.fed.clear()
    bench.do(PullJobs(GREET, 1))
    await bench.bus.flush()
    await nats_server.stop()
    reason = await bench.append("j-2")
    assert reason is not None
    assert "NATS" in reason
    assert await bench.expect(PullEnded) == [PullEnded(GREET)]


async def test_a_full_stream_refuses_in_words_and_keeps_what_it_has(start_bench: StartBench) -> None:
    """Nothing is dropped to make room; the refusal says which stream is full and what to do."""
    bench = await start_bench(max_bytes=1024 * 1024)
    body = b"x" * 200_000
    reasons = [await bench.append(f"j-{n}", request(body=body)) for n in range(7)]
    refused = [reason for reason in reasons if reason is not None]
    assert 2 <= len(refused) <= 4
    assert all("CRANK_JOBS is full" in reason and "max" in reason for reason in refused)
    assert await bench.messages("CRANK_JOBS") == 7 - len(refused)
    assert [await bench.bury(f"j-{n}", request(body=body)) for n in range(7)].count(None) == 7 - len(refused)
    assert reasons.index(refused[0]) == 7 - len(refused)


async def test_a_body_that_the_server_does_not_take_is_refused_in_words(bench: Bench) -> None:
    """It is known before it is sent, and said."""
    reason = await bench.append("j-1", request(body=b"x" * bench.bus.max_payload_bytes))
    assert reason is not None
    assert "max_payload" in reason


async def test_dead_jobs_are_kept_once_and_can_be_removed(bench: Bench) -> None:
    """Each once under its message id, until somebody drops it."""
    assert [await bench.bury("j-1"), await bench.bury("j-1"), await bench.bury("j-2")] == [None] * 3
    assert await bench.messages("CRANK_DEAD") == 2
    bench.do(DropDead(1))
    bench.do(DropDead(77))
    while await bench.messages("CRANK_DEAD") != 1:
        await bench.bus.flush()


async def test_a_result_is_kept_and_read_and_forgotten_in_time(start_bench: StartBench) -> None:
    """The last one stands, as a record."""
    bench = await start_bench(results_ttl_s=1)
    record = dead_record("j-1")
    bench.do(KeepResult(1, "j-1", record))
    bench.do(KeepResult(2, "j-1", record))
    assert [event.reason for event in await bench.expect(Appended, 2)] == [None, None]
    found = await bench.streams.read_last("KV_crank_results", "$KV.crank_results.j-1")
    assert found is not None
    assert decode_claim(found.body) == record
    assert await bench.messages("KV_crank_results") == 1
    while await bench.messages("KV_crank_results"):
        await bench.bus.flush()


async def test_a_hundred_and_thirty_capabilities(bench: Bench, start_bench: StartBench) -> None:
    """Each has its consumer, also those with the longest names, and every controller finds them all."""
    many = [CapabilityId(f"v{n}:{'n' * 64}") for n in range(128)]
    many += [LONGEST, CapabilityId(f"{'v' * 63}:v{'n' * 63}")]
    for capability in many:
        assert await bench.append(f"j-{many.index(capability)}", request(capability)) is None
    other = await start_bench()
    assert {event.capability for event in other.of(JobsKnown)} == set(many)
    for capability in many:
        other.do(PullJobs(capability, 1))
    jobs = await other.expect(JobDelivered, len(many))
    assert {(job.request.capability, job.job_id) for job in jobs} == {(c, f"j-{n}") for n, c in enumerate(many)}


@pytest.mark.parametrize(
    "capability", [GREET, LONGEST, CapabilityId("a-b:c"), CapabilityId("a:b-c"), CapabilityId("_:-")]
)
def test_a_consumer_s_name_says_which_capability_it_serves(capability: CapabilityId) -> None:
    """Hyphens in tokens confuse nothing."""
    assert capability_of(consumer_name(capability)) == capability


@pytest.mark.parametrize(
    "name", ["", "jobs", "jobs-", "jobs-x-a-b", "jobs-1-a", "jobs-1-a-", "jobs-01-a-b", "jobs-0--b", "jobs-²-a-b", "a"]
)
def test_other_consumers_are_not_ours(name: str) -> None:
    """Only a name that we would give is one that we gave."""
    assert capability_of(name) is None


def test_no_two_capabilities_share_a_consumer() -> None:
    """What differs in where the verb ends differs in its consumer."""
    assert consumer_name(CapabilityId("a-b:c")) != consumer_name(CapabilityId("a:b-c"))


async def test_a_consumer_that_somebody_deleted_is_made_again(bench: Bench) -> None:
    """No job waits unseen: it is found by its subject."""
    await bench.append("j-1")
    await bench.bus.jetstream.delete_consumer("CRANK_JOBS", consumer_name(GREET))
    bench.fed.clear()
    bench.jobs.check()
    await bench.expect(JobsKnown)
    (job,) = await bench.pull()
    assert job.job_id == "j-1"


async def test_streams_that_somebody_deleted_are_made_again(bench: Bench) -> None:
    """A refusal first, since nothing could be stored, and then it works again."""
    await bench.append("j-1")
    for name in ("CRANK_JOBS", "CRANK_DEAD", "KV_crank_results"):
        await bench.bus.jetstream.delete_stream(name)
    assert "JetStream is off, or the stream is missing" in str(await bench.append("j-2"))
    bench.jobs.check()
    while await bench.append("j-2") is not None:
        pass
    assert await bench.bury("j-1") is None
    (job,) = await bench.pull()
    assert job.job_id == "j-2"


async def test_a_consumer_that_an_operator_changed_stays_as_it_is(bench: Bench, start_bench: StartBench) -> None:
    """A controller makes what is missing, and corrects nobody."""
    await bench.append("j-1")
    await hurry(bench, 7)
    other = await start_bench()
    assert await other.append("j-2") is None
    await other.jobs._consumers._make(GREET)
    info = await other.bus.jetstream.consumer_info("CRANK_JOBS", consumer_name(GREET))
    assert info.config.ack_wait == 7


async def test_a_result_that_no_message_can_hold_is_kept_apart(bench: Bench) -> None:
    """Its body is among the large answers, under a name of its own, for as long as the result."""
    kept = KeptAnswers(bench.bus, SUBJECTS)
    await bench.streams.ensure(answers_spec(SUBJECTS, 1, 64 * 1024 * 1024))
    answer = StoredAnswer("w-1", "1.0.0", 1, b"x" * bench.bus.max_payload_bytes)
    record = msgspec.structs.replace(dead_record("j-1"), state="done", nonce="0123456789abcdef", answer=answer)
    bench.do(KeepResult(1, "j" * 52, record))
    assert await bench.expect(Appended) == [Appended(1, None)]
    found = await bench.streams.read_last("KV_crank_results", f"$KV.crank_results.{'j' * 52}")
    assert found is not None
    stored = decode_claim(found.body)
    assert stored is not None
    assert len(found.body) < 1000
    assert await kept.whole(stored) == record


async def test_a_result_that_was_kept_by_halves_is_kept_whole_later(bench: Bench) -> None:
    """There was no room for all of its pieces; when there is, those that were stored are not read with the new ones."""
    spec = answers_spec(SUBJECTS, 1, 300_000)
    small = config_of(spec).evolve(duplicate_window=0.1)
    await bench.bus.jetstream.add_stream(small)
    answer = StoredAnswer("w-1", "1.0.0", 1, bytes(range(256)) * 4000)
    record = msgspec.structs.replace(dead_record("j-1"), state="done", nonce="0123456789abcdef", answer=answer)
    bench.do(KeepResult(1, "j" * 52, record))
    (refused,) = await bench.expect(Appended)
    assert "is full" in (refused.reason or "")
    assert await bench.messages(spec.name) > 0
    await bench.bus.jetstream.update_stream(small.evolve(max_bytes=64 * 1024 * 1024))
    await asyncio.sleep(0.3)  # until JetStream has forgotten the ids
    bench.do(KeepResult(2, "j" * 52, record))
    assert await bench.expect(Appended) == [Appended(2, None)]
    found = await bench.streams.read_last("KV_crank_results", f"$KV.crank_results.{'j' * 52}")
    assert found is not None
    stored = decode_claim(found.body)
    assert stored is not None
    assert await KeptAnswers(bench.bus, SUBJECTS).whole(stored) == record


async def test_a_stream_that_is_changed_while_jobs_come_takes_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked at again and again: nobody need fail first, or connect anew."""
    monkeypatch.setattr("controller.edge.jobs._LOOK_EVERY_S", 0.1)
    bench.jobs.check()
    info = await bench.bus.jetstream.stream_info("CRANK_JOBS")
    await bench.bus.jetstream.update_stream(info.config.evolve(max_age=3600))
    async with asyncio.timeout(10):
        while (refused := await bench.append("j-1")) is None:
            pass
    assert "CRANK_JOBS is not as controllers make it: max_age is" in refused
    told = [record for record in caplog.records if "max_age" in record.getMessage()]
    await asyncio.sleep(0.5)
    assert told == [record for record in caplog.records if "max_age" in record.getMessage()]


async def test_jobs_that_were_lost_with_their_stream_are_told_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever deleted it, and whoever made it anew."""
    monkeypatch.setattr("controller.edge.jobs._LOOK_EVERY_S", 0.1)
    bench.jobs.check()
    await asyncio.sleep(0.3)
    config = (await bench.bus.jetstream.stream_info("CRANK_JOBS")).config
    await bench.bus.jetstream.delete_stream("CRANK_JOBS")
    await bench.bus.jetstream.add_stream(config)
    async with asyncio.timeout(10):
        while not any("what it held is lost" in record.getMessage() for record in caplog.records):
            await asyncio.sleep(0.05)
    assert await bench.append("j-1") is None


async def test_no_job_is_accepted_whose_result_would_find_no_room(
    start_bench: StartBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not come to its end; what was accepted before still can."""
    monkeypatch.setattr("controller.edge.jobs._LOOK_EVERY_S", 0.1)
    bench = await start_bench(max_bytes=1024 * 1024)
    bench.jobs.check()
    answer = StoredAnswer("w-1", "1.0.0", 1, b"x" * 300_000)
    record = msgspec.structs.replace(dead_record("j-1"), state="done", answer=answer)
    for job in ("a", "b", "c"):
        bench.do(KeepResult(1, job * 52, record))
        assert await bench.expect(Appended) == [Appended(1, None)]
    async with asyncio.timeout(10):
        while (refused := await bench.append(f"j-{len(bench.fed)}")) is None:
            pass
    assert "KV_crank_results is nearly full" in refused
    bench.do(KeepResult(1, "d" * 52, msgspec.structs.replace(record, answer=None)))
    assert await bench.expect(Appended) == [Appended(1, None)]


async def test_a_stream_that_may_lose_jobs_takes_none(start_bench: StartBench) -> None:
    """Somebody made it otherwise, or changed it: the refusal says in what, and it works again when it is mended."""
    bench = await start_bench()
    info = await bench.bus.jetstream.stream_info("CRANK_JOBS")
    await bench.bus.jetstream.update_stream(info.config.evolve(discard="old"))
    other = await start_bench()
    refused = await other.append("j-1")
    assert refused is not None
    assert "CRANK_JOBS is not as controllers make it: discard is" in refused
    await bench.bus.jetstream.update_stream(info.config)
    other.jobs.check()
    while await other.append("j-1") is not None:
        pass


async def test_streams_that_cannot_be_made_stop_nothing_else(start_bench: StartBench) -> None:
    """The disk has no room for what they reserve: jobs are refused in JetStream's words, and the start goes on."""
    bench = await start_bench(max_bytes=2**50)
    refused = await bench.append("j-1")
    assert refused is not None
    assert "stream CRANK_JOBS cannot be created: insufficient storage resources" in refused


async def test_a_pull_at_a_server_that_is_frozen_ends_by_itself(
    bench: Bench, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing, and what it hands out when it wakes is taken all the same."""
    monkeypatch.setattr("controller.edge.job_pulls.EXPIRES_S", 0.5)
    await bench.append("j-1")
    assert nats_server.process is not None
    nats_server.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, nats_server.process.pid, os.WSTOPPED | os.WNOWAIT)  # it may take a moment
    try:
        bench.do(PullJobs(GREET, 2))
        await bench.expect(PullEnded)
        assert not bench.of(JobDelivered)
    finally:
        nats_server.process.send_signal(signal.SIGCONT)
    (job,) = await bench.expect(JobDelivered)
    assert job.job_id == "j-1"
