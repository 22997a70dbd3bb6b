"""JetStream goes away while NATS stays: what needs it is refused in so many words, and everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from bus.connection import BusError
from callers import Client
from callers.frames import Answer
from crank import natsd
from crank.natsd import NatsServer
from subjects.errors import ErrorKind
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller


async def _restarted(server: NatsServer, monkeypatch: pytest.MonkeyPatch, *, jetstream: bool) -> None:
    """The same server on the same port and store, with JetStream or without."""
    whole = natsd._config
    await server.stop()
    with monkeypatch.context() as patch:
        if not jetstream:
            patch.setattr(natsd, "_config", lambda *args: whole(*args).replace("jetstream {", "# {"))
        await server.start()


async def _serves(caller: Caller) -> None:
    """Ask until there is an answer: everybody connects again first."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(BusError):
                code, _, _ = await caller.ask("test:echo", b'"x"', 2.0)
                if code == 0:
                    return
            await asyncio.sleep(0.05)


def _kind(code: int, problem: Any) -> tuple[int, str]:
    return code, problem["type"]


REFUSED = (503, ErrorKind.STORE_UNAVAILABLE.urn)


async def test_without_jetstream_what_needs_it_is_refused_and_plain_requests_go_on(
    nats_server: NatsServer,
    start_controller: StartController,
    start_worker: StartWorker,
    caller: Caller,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503 `store_unavailable` for keys, jobs and results, nothing of which runs; all of it works again afterwards."""
    await start_controller(controller_id="c-1")
    worker = await start_worker()
    before = await client.request_once("test:echo", b'"before"', idempotency_key="before")
    job = await client.submit_once("test:echo", b'"job"')
    assert isinstance(await client.result(job.job_id, timeout_ms=10_000), Answer)
    await _restarted(nats_server, monkeypatch, jetstream=False)
    await _serves(caller)
    ran = len(worker.dispatches)
    for key in ("before", "after"):
        code, problem, _ = await caller.ask("test:echo", f'"{key}"'.encode(), 10.0, Idempotency_Key=key)
        if key == "after" or code:  # what is in the controller's memory is known without the store
            assert _kind(code, problem) == REFUSED
    assert _kind(*await caller.tell("crank.submit.test.echo", b'"x"', 10.0)) == REFUSED
    assert _kind(*await caller.tell(f"crank.result.{job.job_id}", b"", 10.0)) == REFUSED
    assert len(worker.dispatches) == ran
    await _serves(caller)
    await _restarted(nats_server, monkeypatch, jetstream=True)
    after = await client.request_once("test:echo", b'"before"', idempotency_key="before", timeout_ms=30_000)
    assert (after.body, after.meta["crank-replayed"]) == (before.body, "true")
    assert (await client.request_once("test:echo", b'"after"', idempotency_key="after", timeout_ms=30_000)).body
    told = await client.result(job.job_id, timeout_ms=10_000)
    assert isinstance(told, Answer)
    assert told.body == b'"job"'
    assert [json.loads(body) for _, body in worker.dispatches].count("before") == 1
