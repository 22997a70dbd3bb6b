"""A worker of the SDK and a controller keep one deadline between them: the controller says when it has passed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from controller.app import Controller
from crank import Context, Worker
from crank.natsd import NatsServer
from tests.edge.peers import Caller, until
from workers.errors import DeclarationError

Serve = Callable[..., Awaitable[None]]


@pytest.fixture
async def serve(nats_server: NatsServer, caller: Caller) -> AsyncIterator[Serve]:
    """Run workers under an id and return when the controller has them; all are stopped at the end."""
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def start(worker: Worker, worker_id: str) -> None:
        tasks.append(asyncio.create_task(worker.serve(nats_server.url, worker_id, stop=stop, drain_timeout_s=0.1)))
        async with asyncio.timeout(5):
            while worker_id not in await _in_flight(caller):
                await asyncio.sleep(0.01)

    yield start
    stop.set()
    await asyncio.gather(*tasks)


async def _in_flight(caller: Caller) -> dict[str, int]:
    """What the controller counts for each worker."""
    _, answer = await caller.tell("crank.admin.workers")
    return {worker["worker_id"]: worker["in_flight"] for worker in answer["workers"]}


async def _until_idle(caller: Caller) -> None:
    # Sooner than the controller stops to believe in a dispatch that nobody waits for.
    async with asyncio.timeout(3):
        while any((await _in_flight(caller)).values()):
            await asyncio.sleep(0.01)


async def test_every_request_that_runs_out_of_time_ends_as_the_deadline(
    controller: Controller, caller: Caller, serve: Serve
) -> None:
    """Forty of forty are 504, their handlers are cancelled, and their places are free for forty more."""
    worker = Worker("slow", max_concurrency=40)
    cancelled: list[str] = []

    @worker.capability("test:slow")
    async def slow(payload: dict, ctx: Context) -> str:
        if not payload:
            return "quick"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(ctx.request_id)
            raise
        return "slow"

    await serve(worker, "w-1")
    ends = await asyncio.gather(
        *(caller.ask("test:slow", b'{"wait":1}', Crank_Timeout_Ms=str(60 + number)) for number in range(40))
    )
    assert [(code, problem["type"]) for code, problem, _ in ends] == [(504, "urn:crank:error:deadline")] * 40
    assert any(problem["maybe_executed"] for _, problem, _ in ends)
    await _until_idle(caller)
    # On a busy machine the time of some is out before they are sent to anybody.
    assert sorted(cancelled) == sorted(problem["request_id"] for _, problem, _ in ends if problem["maybe_executed"])
    again = await asyncio.gather(*(caller.ask("test:slow") for _ in range(40)))
    assert [code for code, _, _ in again] == [0] * 40


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_worker_over_its_declared_time_is_replaced_by_another(
    controller: Controller, caller: Caller, serve: Serve, kind: str
) -> None:
    """``timeout_s`` on an idempotent capability: whoever hangs is given up, and the request goes on elsewhere."""
    ran: list[str] = []
    stopped: list[str] = []

    def hanging(worker_id: str) -> Worker:
        """Hangs on the first dispatch that any of them gets."""
        worker = Worker("t", constraints={"timeout_s": 0.08}, idempotent=True)

        @worker.capability("test:async")
        async def wait() -> str:
            ran.append(worker_id)
            if len(ran) == 1:
                try:
                    await asyncio.sleep(60)
                finally:
                    stopped.append(worker_id)
            return worker_id

        @worker.capability("test:plain")
        def wait_plain(ctx: Context) -> str:
            ran.append(worker_id)
            if len(ran) == 1:
                while not ctx.cancelled:
                    time.sleep(0.002)
                stopped.append(worker_id)
            return worker_id

        return worker

    for worker_id in ("w-1", "w-2"):
        await serve(hanging(worker_id), worker_id)
    code, body, headers = await caller.ask(f"test:{kind}", Crank_Timeout_Ms="4000")
    assert (code, len(ran)) == (0, 2), body
    first, second = ran
    assert {first, second} == {"w-1", "w-2"}
    assert (body.decode(), headers["crank-worker"], headers["crank-attempts"]) == (second, second, "2")
    await until(lambda: stopped == [first])
    await _until_idle(caller)


async def test_a_bid_is_renewed_by_the_next_heartbeat(controller: Controller, caller: Caller, serve: Serve) -> None:
    """The price that it names holds from then on; what it does not offer it cannot bid for."""
    worker = Worker("bidder", cost_tokens_per_invocation=4)

    @worker.capability("test:bid")
    async def bid() -> str:
        return "done"

    await serve(worker, "b-1")
    code, _, _ = await caller.ask("test:bid", Crank_Budget_Tokens="2")
    assert code == 402
    worker.bid("test:bid", {"budget_tokens": 1.5, "valid_s": 60})
    async with asyncio.timeout(5):
        while code == 402:
            code, _, headers = await caller.ask("test:bid", Crank_Budget_Tokens="2")
    assert headers["crank-cost-tokens"] == "1.5"
    for capability, wrong in (("test:other", 1.0), ("test:bid", -1.0), ("test:bid", "much")):
        with pytest.raises(DeclarationError):
            worker.bid(capability, wrong)  # type: ignore[arg-type]
