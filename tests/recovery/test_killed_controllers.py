"""A controller is killed with work in its hands: what its successor finds, and does about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from callers import Client, CrankError
from callers.frames import Answer as Told
from chaos.laws import judge
from chaos.plan import Trouble
from chaos.run import Plan, run
from subjects.headers import Block
from tests.edge.conftest import StartWorker
from tests.edge.peers import Answer, Caller, RawWorker, until
from tests.recovery.conftest import StartProcess


async def _holding(start_worker: StartWorker, **declared: object) -> RawWorker:
    """A worker that never answers the first dispatch, and all later ones at once."""

    def behave(subject: str, headers: Block, body: bytes) -> list[Answer]:
        return [(None, b'"second"')] if len(worker.dispatches) > 1 else []

    worker = await start_worker(behave=behave, **declared)
    return worker


async def _ask_in_vain(caller: Caller, worker: RawWorker) -> asyncio.Task[object]:
    """A request under the key `k` that is at its worker, and whose controller will not live to answer it."""
    asked = asyncio.create_task(caller.ask("test:echo", b'"x"', 60.0, Idempotency_Key="k"))
    await until(lambda: bool(worker.dispatches))
    return asked


async def test_a_key_whose_controller_was_killed_is_run_again_only_where_that_is_safe(
    start_process: StartProcess, start_worker: StartWorker, caller: Caller, client: Client
) -> None:
    """An idempotent capability is asked again once the lease is over, and the same key has one answer from then on."""
    process = await start_process("c-1")
    worker = await _holding(start_worker, idempotent=True)
    asked = await _ask_in_vain(caller, worker)
    await process.kill()
    await process.start()
    for _ in range(2):
        told = await client.request_once("test:echo", b'"x"', idempotency_key="k", timeout_ms=20_000)
        assert told.body == b'"second"'
    assert len(worker.dispatches) == 2
    asked.cancel()


async def test_a_key_that_may_have_run_is_unknown_until_somebody_who_knows_says_so(
    start_process: StartProcess, start_worker: StartWorker, caller: Caller, client: Client
) -> None:
    """409 `outcome_unknown` however often it is asked for, and no second run; an operator's word becomes the answer."""
    process = await start_process("c-1")
    worker = await _holding(start_worker)
    asked = await _ask_in_vain(caller, worker)
    await process.kill()
    await process.start()
    for _ in range(2):
        with pytest.raises(CrankError) as caught:
            await client.request_once("test:echo", b'"x"', idempotency_key="k", timeout_ms=20_000)
        assert caught.value.kind == "outcome_unknown"
    question = {"capability": "test:echo", "key": "k", "outcome": "done", "answer": "so it was"}
    assert (await client.admin("resolve", question))["resolved"][0]["state"] == "done"
    told = await client.request_once("test:echo", b'"x"', idempotency_key="k", timeout_ms=20_000)
    assert told.json() == "so it was"
    assert len(worker.dispatches) == 1
    asked.cancel()


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_job_at_its_worker_is_ended_by_the_successor(
    start_process: StartProcess, start_worker: StartWorker, client: Client, idempotent: bool
) -> None:
    """Done by another try where that is safe, else dead with `outcome_unknown`, among the dead, and run once."""
    process = await start_process("c-1")
    worker = await _holding(start_worker, idempotent=idempotent)
    job = await client.submit("test:echo", b'"x"')
    await until(lambda: bool(worker.dispatches))
    await process.kill()
    await process.start()
    if idempotent:
        told = await client.result(job.job_id, timeout_ms=30_000)
        assert isinstance(told, Told)
        assert told.body == b'"second"'
    else:
        with pytest.raises(CrankError) as caught:
            await client.result(job.job_id, timeout_ms=30_000)
        assert (caught.value.job_status, caught.value.kind) == ("dead", "outcome_unknown")
    assert len(worker.dispatches) == 1 + idempotent
    dead = (await client.admin("dead", {"op": "list"}))["dead"]
    assert [one["job_id"] for one in dead] == ([] if idempotent else [job.job_id])


async def test_jobs_that_nobody_had_begun_wait_for_the_successor(
    start_process: StartProcess, start_worker: StartWorker, client: Client
) -> None:
    """Accepted without a worker to do them, and done once each when there is one."""
    process = await start_process("c-1")
    worker = await start_worker()
    await worker.stop_heartbeat()
    worker.bus.publish("crank.deregister.w-1", b"{}")
    jobs = [await client.submit_once("test:echo", b"%d" % number) for number in range(50)]
    await process.kill()
    await process.start()
    await worker.register()
    worker.heartbeat()
    for number, job in enumerate(jobs):
        told = await client.result(job.job_id, timeout_ms=30_000)
        assert isinstance(told, Told)
        assert told.json() == number
    assert sorted(int(body) for _, body in worker.dispatches) == list(range(50))


async def test_controllers_that_are_killed_under_load_break_no_promise(tmp_path: Path) -> None:
    """One after the other and once both together, while 150 operations a second come; every law of chaos holds."""
    troubles = (
        Trouble(0.7, "c-1", "kill", 0.3),
        Trouble(1.6, "c-2", "kill", 0.3),
        Trouble(2.8, "c-1", "kill", 0.3),
        Trouble(2.8, "c-2", "kill", 0.3),
    )
    story, _ = await run(Plan(5.0, 150.0, 1, troubles, workers=("w-1", "w-2")), tmp_path, lambda progress: None)
    assert judge(story) == {}
    assert len(story.troubles) == 4
    # It went on after the last one.
    back = max(trouble.until for trouble in story.troubles)
    assert {"request", "submit"} <= {a.what for a in story.attempts if a.sent > back and a.outcome == "answer"}
