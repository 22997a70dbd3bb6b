"""Each of the streams behind keys and jobs, while two controllers run: deleted, emptied, sealed and changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus import Bus
from subjects.errors import ErrorKind
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller

STREAMS = ["KV_crank_idempotency", "OBJ_crank_answers", "CRANK_JOBS", "CRANK_DEAD", "KV_crank_results"]
HONEST = {None, ErrorKind.STORE_UNAVAILABLE.urn}
LARGE = b"x" * 900_000


async def _everything(caller: Caller, serial: int) -> list[str | None]:
    """The errors of a keyed request with a large answer, one with a small one, and a job that is done."""
    told: list[str | None] = []
    for size in ("large", "small"):
        key = f"{size}-{serial}"
        code, body, _ = await caller.ask(
            "test:echo", size.encode(), 15.0, Idempotency_Key=key, Content_Type="text/plain"
        )
        told.append(body["type"] if code else None)
    code, answer, _ = await caller.submit("test:echo", b"small", 15.0, Content_Type="text/plain")
    told.append(answer["type"] if code else None)
    if code == 0:
        _, body, headers = await caller.result(answer["job_id"], wait_ms=20_000)
        told.append(None if headers.get("crank-job-status") == "done" else str(body))
    return told


async def _deleted(bus: Bus, stream: str) -> None:
    await bus.jetstream.delete_stream(stream)


async def _emptied(bus: Bus, stream: str) -> None:
    await bus.jetstream.purge_stream(stream)


async def _recreated(bus: Bus, stream: str) -> None:
    config = (await bus.jetstream.stream_info(stream)).config
    await bus.jetstream.delete_stream(stream)
    await bus.jetstream.add_stream(config)


@pytest.mark.parametrize("what", [_deleted, _emptied, _recreated])
@pytest.mark.parametrize("stream", STREAMS)
async def test_what_is_refused_is_refused_honestly_and_everything_comes_back_by_itself(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, stream: str, what: Any
) -> None:
    """503 at most, while it is away; unkeyed requests go on."""
    for controller_id in ("c-1", "c-2"):
        await start_controller(controller_id=controller_id, claim_lease_s=0.6)
    await start_worker(behave=lambda _, __, body: [(None, LARGE if body == b"large" else body)], max_concurrency=8)
    assert set(await _everything(caller, 0)) == {None}
    await what(caller.bus, stream)
    seen: list[list[str | None]] = []
    async with asyncio.timeout(45):
        while not seen or set(seen[-1]) != {None}:
            assert (await caller.ask("test:echo", b"small"))[0] == 0
            seen.append(await _everything(caller, len(seen) + 1))
            assert set(seen[-1]) <= HONEST, seen
