"""A controller that is told to stop: what it took is answered, whatever happens to the server meanwhile."""

from __future__ import annotations

import asyncio

from bus import Bus
from crank.natsd import NatsServer
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until


async def test_under_load_nothing_that_was_taken_is_lost(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """Plain, keyed and durable requests each get their answer, from this controller or the next one."""
    first = await start_controller(controller_id="c-1", claim_lease_s=0.6)
    await start_controller(controller_id="c-2", claim_lease_s=0.6)
    worker = await start_worker(max_concurrency=64, idempotent=False)
    over = asyncio.Event()
    codes: list[int] = []
    jobs: list[str] = []

    async def calls(number: int) -> None:
        serial = 0
        while not over.is_set():
            serial += 1
            codes.append((await caller.ask("test:echo", Idempotency_Key=f"{number}-{serial}"))[0])
            codes.append((await caller.ask("test:echo"))[0])
            code, answer, _ = await caller.submit("test:echo")
            codes.append(code)
            jobs.append(answer["job_id"])

    callers = [asyncio.create_task(calls(number)) for number in range(8)]
    await until(lambda: len(codes) > 100)
    await first.stop()
    await until(lambda: len(codes) > 300, 20)
    over.set()
    await asyncio.gather(*callers)
    assert set(codes) == {0}
    results = await asyncio.gather(*(caller.result(job, wait_ms=10_000) for job in jobs))
    assert {headers["crank-job-status"] for _, _, headers in results} == {"done"}
    assert len(worker.dispatches) == len(codes)


async def test_a_server_that_restarts_while_a_controller_drains_gives_it_nothing_new(
    nats_server: NatsServer, start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """What it had is answered; nobody is in its queue groups any more."""
    first = await start_controller(controller_id="c-1", drain_timeout_s=8.0)
    worker = await start_worker(behave=lambda *_: None)
    waits = asyncio.create_task(caller.ask("test:echo", timeout_s=20))
    await until(lambda: bool(worker.replies))
    await nats_server.stop()
    await until(lambda: not caller.bus.connected)
    stops = asyncio.create_task(first.stop())
    await asyncio.sleep(0)
    await nats_server.start()
    await until(lambda: caller.bus.connected and worker.bus.connected)
    other = await Bus.connect(nats_server.url, name="other")
    heard: list[str] = []
    for _ in range(20):
        try:
            await other.request("crank.admin.health", b"", timeout_s=0.1)
        except Exception as error:
            heard.append(type(error).__name__)
        else:
            heard.append("answered")
        await asyncio.sleep(0.05)
    assert set(heard) == {"NoResponder"}
    worker.bus.publish(worker.replies[0], b"late")
    assert (await waits)[1] == b"late"
    await stops
    await other.close()
