"""A controller that is frozen longer than its leases, and wakes late: what it does then is refused where it matters."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from callers import Client, CrankError
from callers.frames import Answer as Told
from subjects.errors import ErrorKind
from subjects.headers import Block
from tests.edge.conftest import StartWorker
from tests.edge.peers import Answer, Caller, RawWorker, until
from tests.recovery.conftest import StartProcess

Asked = asyncio.Task[tuple[int, Any, dict[str, str]]]


async def _holding(start_worker: StartWorker, **declared: object) -> RawWorker:
    """A worker that keeps the first dispatch to itself, and answers later ones with `second`."""

    def behave(subject: str, headers: Block, body: bytes) -> list[Answer]:
        return [(None, b'"second"')] if len(worker.dispatches) > 1 else []

    worker = await start_worker(behave=behave, **declared)
    return worker


def _ask(caller: Caller) -> Asked:
    return asyncio.create_task(caller.ask("test:echo", b'"x"', 30.0, Idempotency_Key="k", Crank_Timeout_Ms="25000"))


async def _answer_first(worker: RawWorker) -> None:
    """It is in the frozen controller's socket from now on."""
    worker.bus.publish(worker.replies[0], b'"first"')
    await worker.bus.flush()


async def _first_told(caller: Caller) -> tuple[int, Any, dict[str, str]]:
    """Ask under the same key, so often that not only the frozen controller is handed it: what is heard first."""
    asked = [_ask(caller) for _ in range(12)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()


async def _left_alone(caller: Caller) -> None:
    """The server has given the frozen controller up, and hands it nothing more."""
    async with asyncio.timeout(30):
        while True:
            asked = (caller.tell("crank.admin.health", timeout_s=0.5) for _ in range(12))
            if not any(
                isinstance(told, BaseException) for told in await asyncio.gather(*asked, return_exceptions=True)
            ):
                return


async def _replayed(caller: Caller, answer: str) -> None:
    """Whoever is asked now has the same answer; in so many tries each controller is."""
    for _ in range(8):
        code, again, headers = await caller.ask("test:echo", b'"x"', Idempotency_Key="k")
        assert (code, again, headers["crank-replayed"]) == (0, answer, "true")


async def test_a_late_answer_does_not_replace_what_was_answered_meanwhile(
    start_process: StartProcess, start_worker: StartWorker, caller: Caller
) -> None:
    """An idempotent request is taken over and done again; both callers, and all later ones, get the same answer."""
    frozen = await start_process("c-1", claim_lease_s=0.5)
    worker = await _holding(start_worker, idempotent=True)
    asked = _ask(caller)
    await until(lambda: bool(worker.dispatches))
    await start_process("c-2", claim_lease_s=0.5)
    with frozen.frozen():
        await _answer_first(worker)
        assert (await _first_told(caller))[:2] == (0, "second")
    assert (await asked)[:2] == (0, "second")
    await _replayed(caller, "second")
    assert len(worker.dispatches) == 2


async def test_who_wakes_without_a_connection_gives_the_answer_that_he_finds(
    start_process: StartProcess, start_worker: StartWorker, caller: Caller
) -> None:
    """The worker's answer went down with the connection; another controller's, which is stored, is as good."""
    frozen = await start_process("c-1", claim_lease_s=0.5)
    worker = await _holding(start_worker, idempotent=True)
    asked = _ask(caller)
    await until(lambda: bool(worker.dispatches))
    await start_process("c-2", claim_lease_s=0.5)
    with frozen.frozen():
        await _answer_first(worker)
        await _left_alone(caller)
        assert (await _first_told(caller))[:2] == (0, "second")
    assert (await asked)[:2] == (0, "second")
    assert len(worker.dispatches) == 2


async def test_a_late_answer_is_the_answer_where_nobody_else_could_know(
    start_process: StartProcess, start_worker: StartWorker, caller: Caller
) -> None:
    """What must not run twice is called unknown meanwhile, is not run again, and is done when its controller wakes."""
    frozen = await start_process("c-1", claim_lease_s=0.5)
    worker = await _holding(start_worker)
    asked = _ask(caller)
    await until(lambda: bool(worker.dispatches))
    await start_process("c-2", claim_lease_s=0.5)
    with frozen.frozen():
        await _answer_first(worker)
        code, problem, _ = await _first_told(caller)
        assert (code, problem["type"]) == (409, ErrorKind.OUTCOME_UNKNOWN.urn)
    assert (await asked)[:2] == (0, "first")
    await _replayed(caller, "first")
    assert len(worker.dispatches) == 1


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_job_that_ended_elsewhere_stays_as_it_ended(
    start_process: StartProcess, start_worker: StartWorker, client: Client, idempotent: bool
) -> None:
    """A job whose controller is silent is delivered again: done again, or dead; the late answer changes nothing."""
    frozen = await start_process("c-1")
    worker = await _holding(start_worker, idempotent=idempotent)
    job = await client.submit("test:echo", b'"x"', timeout_ms=20_000)
    await until(lambda: bool(worker.dispatches))
    with frozen.frozen():
        await _answer_first(worker)
        await start_process("c-2")
        ended = await _end(client, job.job_id)
        assert ended == ((True, b'"second"') if idempotent else (False, b"outcome_unknown"))
    await _is_idle(client, "c-1")
    assert await _end(client, job.job_id) == ended
    assert len(worker.dispatches) == (2 if idempotent else 1)
    state = (await client.admin("recovery"))["counts"]
    assert state.get("dispatching", 0) == state.get("waiting", 0) == 0


async def _end(client: Client, job_id: str) -> tuple[bool, bytes]:
    """Whether the job is done, with its answer or the kind of its error, asked for until somebody awake tells."""
    async with asyncio.timeout(40):
        while True:
            try:
                told = await client.result(job_id, timeout_ms=1000)
            except CrankError as error:
                if error.job_status == "dead":
                    return False, error.kind.encode()
                continue
            if isinstance(told, Told):
                return True, told.body


async def _is_idle(client: Client, name: str) -> None:
    """The controller answers again, and has nothing in hand any more."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(CrankError):
                (health,) = (await client.admin("health"))["health"]
                if health["controller"] == name and not health["live_requests"] + health["in_flight"]:
                    return
            await asyncio.sleep(0.05)
