"""Jobs end to end: a real JetStream, two controllers, and workers that are nothing but NATS clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subjects.errors import ErrorKind
from subjects.headers import build_block
from tests.edge.claim_probe import eventually
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until

FAULT = build_block([("Nats-Service-Error-Code", "422"), ("Nats-Service-Error", "no such mailbox")])
BUSY = build_block([("Crank-Not-Run", "busy")]), b""


@pytest.fixture
async def pair(start_controller: StartController) -> None:
    """Two controllers with short leases."""
    for controller_id in ("c-1", "c-2"):
        await start_controller(controller_id=controller_id, claim_lease_s=0.6)


async def job_of(caller: Caller, body: bytes = b"{}", **headers: str) -> str:
    """A job that was accepted."""
    code, answer, _ = await caller.submit("test:echo", body, **headers)
    assert (code, answer["status"]) == (0, "accepted"), answer
    return str(answer["job_id"])


async def test_jobs_are_done_once_each_and_their_results_are_the_answers(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """Whichever controller accepts, delivers and is asked."""
    worker = await start_worker(max_concurrency=4)
    jobs = [await job_of(caller, b"[%d]" % number) for number in range(12)]
    results = await asyncio.gather(*(caller.result(job) for job in jobs))
    assert [(code, body) for code, body, _ in results] == [(0, [number]) for number in range(12)]
    assert {headers["crank-job-status"] for _, _, headers in results} == {"done"}
    assert len(worker.dispatches) == 12


async def test_what_a_job_says_reaches_its_worker(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """Its key, its media type, its own headers and its caller; nothing that is ours."""
    worker = await start_worker()
    job = await job_of(caller, b"\x00", Idempotency_Key="k", Content_Type="text/x", X_Own="mine", Crank_Caller="root")
    await caller.result(job)
    block, body = worker.dispatches[0]
    assert (body, block.ours["idempotency-key"], block.ours["content-type"]) == (b"\x00", "k", "text/x")
    assert (block.passed, block.ours["crank-caller"]) == ("X-Own: mine\r\n", "anonymous")
    assert "crank-job-id" not in block.ours


async def test_the_same_key_is_the_same_job(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """From either controller, before and after it is done; and a request with that key gets its answer."""
    worker = await start_worker()
    first = await job_of(caller, Idempotency_Key="k")
    for _ in range(3):
        code, answer, _ = await caller.submit("test:echo", Idempotency_Key="k")
        assert (code, answer["job_id"], answer["duplicate"]) == (0, first, True)
    await caller.result(first)
    assert (await caller.submit("test:echo", Idempotency_Key="k"))[1]["duplicate"]
    code, problem, _ = await caller.submit("test:echo", b"[]", Idempotency_Key="k")
    assert (code, problem["type"]) == (422, ErrorKind.KEY_REUSED.urn)
    code, _, headers = await caller.ask("test:echo", Idempotency_Key="k")
    assert (code, headers["crank-replayed"]) == (0, "true")
    assert len(worker.dispatches) == 1


async def test_a_job_waits_for_its_worker_and_holds_nobody_up(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """A capability that is known and offline is queued; another one's jobs are done meanwhile."""
    gone = await start_worker("w-1")
    await start_worker("w-2", capabilities=[{"verb": "test", "name": "other", "version": "1.0.0"}])
    await gone.die()
    job = await job_of(caller)
    code, answer, headers = await caller.result(job, wait_ms=300)
    assert (code, answer["status"], headers["crank-job-status"]) == (0, "queued", "queued")
    code, other, _ = await caller.submit("test:other")
    assert (await caller.result(other["job_id"]))[0] == 0
    await start_worker("w-1")
    assert (await caller.result(job, wait_ms=10_000))[2]["crank-job-status"] == "done"


async def test_a_failed_job_is_dead_with_its_error_and_can_be_retried_and_dropped(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """Listed, shown, tried again; and when it fails again, dropped."""
    answers: list[list[tuple[bytes | None, bytes]]] = [[(FAULT, b"")], [(None, b"done")]]
    worker = await start_worker(behave=lambda *_: answers[min(len(worker.dispatches), 2) - 1])
    job = await job_of(caller, b'{"to": "ada"}')
    code, problem, headers = await caller.result(job)
    assert (code, headers["crank-job-status"], problem["worker_code"]) == (500, "dead", 422)
    await eventually(lambda: _lists(caller, [(job, "worker_error")]))  # the record says so first
    _, shown = await caller.tell("crank.admin.dead", {"op": "show", "job_id": job})
    assert shown["dead"][0]["body"] == '{"to": "ada"}'
    code, retried = await caller.tell("crank.admin.dead", {"op": "retry", "job_id": job})
    assert (code, retried["dead"]) == (0, [{"job_id": job, "status": "accepted"}])
    code, body, headers = await caller.result(job)
    assert (code, body, headers["crank-job-status"]) == (0, b"done", "done")
    assert (await caller.tell("crank.admin.dead", {"op": "list"}))[1]["dead"] == []
    assert (await caller.tell("crank.admin.dead", {"op": "retry", "job_id": job}))[0] == 404
    assert (await caller.tell("crank.admin.dead", {"op": "drop", "job_id": job}))[0] == 404


async def _lists(caller: Caller, expected: list[tuple[str, str]]) -> bool:
    _, listed = await caller.tell("crank.admin.dead", {"op": "list"})
    return [(row["job_id"], row["reason"]) for row in listed["dead"]] == expected


async def test_a_lost_worker_s_job_is_dead_and_never_run_again_by_itself(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """Its capability does not say that running it twice is safe."""
    worker = await start_worker(behave=lambda *_: None)
    job = await job_of(caller)
    await until(lambda: bool(worker.dispatches))
    await worker.die()
    other = await start_worker("w-2")
    code, problem, headers = await caller.result(job)
    assert (code, problem["type"]) == (409, ErrorKind.OUTCOME_UNKNOWN.urn)
    assert headers["crank-job-status"] == "dead"
    assert not other.dispatches


async def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """By its id; its worker is told, and its result says so."""
    # The other controller does not know that the worker is full.
    worker = await start_worker(behave=lambda _, __, body: None if body == b"[1]" else [BUSY], max_concurrency=1)
    running = await job_of(caller, b"[1]")
    await until(lambda: bool(worker.dispatches))
    queued = await job_of(caller, b"[2]")
    for job in (queued, running):
        code, answer = await caller.tell(f"crank.cancel.{job}")
        assert (code, answer) == (0, {"status": "cancelled", "request_id": job})
        code, problem, headers = await caller.result(job)
        assert (code, problem["type"]) == (499, ErrorKind.CANCELLED.urn)
        assert headers["crank-job-status"] == "cancelled"
    await until(lambda: any(control["op"] == "cancel" for control in worker.controls))
    assert [body for _, body in worker.dispatches].count(b"[1]") == 1


async def test_a_result_that_never_was_is_404(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """And an id that is none, 400."""
    code, problem, _ = await caller.result("a" * 52)
    assert (code, problem["type"]) == (404, ErrorKind.NO_SUCH_JOB.urn)
    code, problem, _ = await caller.result("a.b")
    assert code == 400
    code, problem, _ = await caller.result("short")
    assert code == 404


@pytest.mark.parametrize(
    ("subject", "body", "headers", "code"),
    [
        ("test:nothing", b"{}", {}, 404),
        ("test:echo", b"{", {}, 400),
        ("test:echo", b'{"name": 3}', {}, 422),
        ("test:echo", b"{}", {"Idempotency_Key": "a b"}, 400),
        ("test", b"{}", {}, 400),
        ("test:echo", b"x" * 5000, {}, 413),
    ],
)
async def test_a_bad_job_is_refused_before_it_is_accepted(
    start_controller: StartController,
    start_worker: StartWorker,
    caller: Caller,
    subject: str,
    body: bytes,
    headers: dict[str, str],
    code: int,
) -> None:
    """As the request would be; nothing is queued."""
    await start_controller(max_body_bytes=4096)
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    worker = await start_worker(input_schema=schema)
    got, problem, _ = await caller.submit(subject, body, **headers)
    assert (got, problem["status"]) == (code, code)
    assert not worker.dispatches
    assert (await caller.tell("crank.admin.jobs"))[1]["jobs"] == []


async def test_a_retryable_error_of_an_idempotent_capability_is_tried_again(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """After a pause, until it works."""
    await start_controller(max_attempts=1)
    later = build_block(
        [("Nats-Service-Error-Code", "503"), ("Nats-Service-Error", "later"), ("Crank-Retryable", "true")]
    )
    answers: list[list[tuple[bytes | None, bytes]]] = [[(later, b"")], [(None, b"done")]]
    worker = await start_worker(behave=lambda *_: answers[len(worker.dispatches) - 1], idempotent=True)
    assert (await caller.result(await job_of(caller), wait_ms=15_000))[1] == b"done"
    assert len(worker.dispatches) == 2


async def test_jobs_survive_a_restart_of_every_controller(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """What was accepted is read from JetStream, and done."""
    first = await start_controller(controller_id="c-1")
    gone = await start_worker()
    await gone.die()
    job = await job_of(caller)
    await first.stop()
    await start_controller(controller_id="c-1")
    await start_worker()
    assert (await caller.result(job, wait_ms=10_000))[2]["crank-job-status"] == "done"


async def test_what_is_unfinished_is_shown(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """What a start would read, and what waits or runs."""
    worker = await start_worker(behave=lambda *_: None)
    job = await job_of(caller)
    await until(lambda: bool(worker.dispatches))
    _, shown = await caller.tell("crank.admin.recovery")
    streams: dict[str, Any] = {row["stream"]: row for row in shown["recovery"]}
    assert streams["CRANK_JOBS"]["messages"] == 1
    assert streams["CRANK_REGISTRY"]["messages"] == 1
    assert [(row["job_id"], row["state"]) for row in shown["unfinished"]] == [(job, "dispatching")]
    _, listed = await caller.tell("crank.admin.jobs")
    assert [(row["job_id"], row["status"]) for row in listed["jobs"]] == [(job, "running")]
