"""Workers that are cancelled, full, failing, leaving or gone: who does the work then, for real and in memory."""

from __future__ import annotations

import asyncio
import threading

import pytest

from crank import Context, CrankError, RetryableError, Worker
from tests.testing.conftest import Serving, until, until_idle


async def test_a_cancel_reaches_the_handler(serving: Serving) -> None:
    """By id, and by a caller that stops waiting; a cancel of nothing is 404."""
    worker = Worker("slow", max_concurrency=2)
    ended: list[str] = []
    started = asyncio.Event()

    @worker.capability("slow:wait")
    async def wait(name: str) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    async with serving(worker) as client:
        asking = asyncio.create_task(client.request("slow:wait", "one", request_id="r-1"))
        await started.wait()
        await client.cancel("r-1")
        with pytest.raises(CrankError) as caught:
            await asking
        assert caught.value.kind == "cancelled"
        await until(lambda: ended == ["one"])
        started.clear()
        asking = asyncio.create_task(client.request("slow:wait", "two"))
        await started.wait()
        asking.cancel()
        await until(lambda: ended == ["one", "two"])
        await until_idle(client)
        with pytest.raises(CrankError) as unknown:
            await client.cancel("r-1")
        assert unknown.value.kind == "no_such_request"


async def test_work_that_a_full_worker_turns_away_is_done_by_another(serving: Serving) -> None:
    """A thread that nobody waits for keeps its place; *busy* means that nothing ran, so another worker is asked."""
    gates = {"hang": threading.Event(), "hold": threading.Event()}
    ran: list[str] = []

    def worker() -> Worker:
        worker = Worker("two")

        @worker.capability("two:do")
        def do(what: str) -> str:
            ran.append(what)
            if what in gates:
                gates[what].wait(10)
            return what

        return worker

    try:
        async with serving(worker(), worker()) as client:
            hanging = asyncio.create_task(client.request("two:do", "hang", timeout_ms=300))
            await until(lambda: ran == ["hang"])
            await asyncio.gather(hanging, return_exceptions=True)
            holding = asyncio.create_task(client.request("two:do", "hold"))
            await until(lambda: ran == ["hang", "hold"])
            asking = asyncio.create_task(client.request("two:do", "quick"))
            await asyncio.sleep(0.05)
            assert ran == ["hang", "hold"]
            gates["hold"].set()
            held, answer = await holding, await asking
            assert answer.body == b"quick"
            # The full one was tried by whichever request was given to it first; the other may have waited instead.
            assert max(int(each.meta["crank-attempts"]) for each in (held, answer)) > 1
            assert answer.meta["crank-worker"] == held.meta["crank-worker"]
            gates["hang"].set()
    finally:
        for gate in gates.values():
            gate.set()


async def test_a_retryable_failure_of_an_idempotent_capability_is_tried_elsewhere(serving: Serving) -> None:
    """The caller sees one answer, and that it took two attempts."""
    attempts: list[int] = []

    def worker() -> Worker:
        worker = Worker("two")

        @worker.capability("two:do", idempotent=True)
        async def do(ctx: Context) -> str:
            attempts.append(ctx.attempt)
            if ctx.attempt == 1:
                raise RetryableError("not here")
            return "done"

        return worker

    async with serving(worker(), worker()) as client:
        answer = await client.request("two:do")
    assert (answer.body, answer.meta["crank-attempts"], attempts) == (b"done", "2", [1, 2])


async def test_a_worker_that_leaves_finishes_what_it_has(serving: Serving) -> None:
    """The answer still comes; what does not end in time is answered with 503."""
    worker, gate = Worker("slow", max_concurrency=2), asyncio.Event()
    started: list[str] = []

    @worker.capability("slow:wait")
    async def wait(name: str) -> str:
        started.append(name)
        await (gate.wait() if name == "short" else asyncio.sleep(60))
        return name

    async with serving(worker, drain_timeout_s=0.3) as client:
        short = asyncio.create_task(client.request("slow:wait", "short"))
        long = asyncio.create_task(client.request("slow:wait", "long"))
        await until(lambda: len(started) == 2)
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert (await short).body == b"short"
    with pytest.raises(CrankError) as caught:
        await long
    assert caught.value.problem.worker_message == "The worker was stopped before the work was done"


async def test_a_capability_without_a_worker_is_known_but_not_there(serving: Serving) -> None:
    """A worker that was told to drain has left: 503, for callers and for handlers, who may try again."""
    leaving, staying = Worker("leaving"), Worker("staying")

    @leaving.capability("a:b")
    async def gone() -> None: ...

    @staying.capability("a:c")
    async def ask(ctx: Context) -> None:
        await ctx.call("a:b")

    async with serving(leaving, staying) as client:
        client._bus.publish("crank.control.leaving-1", b'{"op":"drain"}')
        async with asyncio.timeout(5):
            while any(row["healthy_workers"] for row in (await client.listed("capabilities"))[:1]):
                await asyncio.sleep(0.005)
        with pytest.raises(CrankError) as nobody:
            await client.request("a:b")
        assert nobody.value.kind == "no_worker"
        with pytest.raises(CrankError) as called:
            await client.request("a:c")
        problem = called.value.problem
        assert problem.worker_code == 503
        assert str(problem.worker_message).startswith("Calling a:b failed: 503 no_worker: ")
