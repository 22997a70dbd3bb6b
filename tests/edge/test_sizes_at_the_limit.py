"""Requests and answers as large as the server takes: each is answered, with what it is or with why not."""

from __future__ import annotations

import asyncio

import pytest

from subjects.headers import build_block
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller

LINES = "".join(f"X-{n}: {'y' * 900}\r\n" for n in range(16))


@pytest.mark.parametrize("passed", ["", LINES])
async def test_answers_near_the_limit_come_whole_or_are_refused_and_so_do_replays(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, passed: str
) -> None:
    """From whichever store, and as a job's result."""
    await start_controller(claims_cache_bytes=0)
    most = caller.bus.max_payload_bytes
    await start_worker(behave=lambda _, __, body: [(build_block([], passed), b"x" * int(body))])
    codes = []
    for short in (*range(800, 4000, 400), *range(16_000, 21_000, 600)):
        size, body = most - short, b"%d" % (most - short)
        if size + len(build_block([], passed)) > most:
            continue
        for _ in range(2):
            code, got, _ = await caller.ask("test:echo", body, Idempotency_Key=f"k{short}")
            assert (code, len(got)) == (0, size) if code == 0 else code in (502, 413), (code, got)
            codes.append(code)
        assert codes[-1] == codes[-2]
        _, job, _ = await caller.submit("test:echo", body)
        code, got, headers = await caller.result(job["job_id"])
        assert headers["crank-job-status"] == ("dead" if code else "done")
        assert code == codes[-1]
    assert 0 in codes


async def test_a_job_as_large_as_can_be_is_accepted_done_and_buried(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """With its headers, and why it died, in one message."""
    await start_controller(max_body_bytes=8 * 1024 * 1024)
    fault = build_block([("Nats-Service-Error-Code", "500"), ("Nats-Service-Error", "\u00e4" * 5000)])
    worker = await start_worker(behave=lambda *_: [(fault, b"")])
    block = {f"X-{n}": "y" * 900 for n in range(15)}
    code, problem, _ = await caller.submit("test:echo", b"x" * (caller.bus.max_payload_bytes - 20_000), **block)
    assert code == 413, problem
    most = int(problem["detail"].split("limit of ")[1].split(";")[0])
    code, job, _ = await caller.submit("test:echo", b"x" * most, Content_Type="text/plain", **block)
    assert code == 0, job
    code, _, headers = await caller.result(job["job_id"])
    assert (code, headers["crank-job-status"], len(worker.dispatches)) == (500, "dead", 1)
    async with asyncio.timeout(10):
        while not (dead := (await caller.tell("crank.admin.dead", {"op": "list"}))[1]["dead"]):
            await asyncio.sleep(0.05)
    assert dead[0]["job_id"] == job["job_id"]
    code, shown = await caller.tell("crank.admin.dead", {"op": "show", "job_id": job["job_id"]})
    assert (code, len(shown["dead"][0].get("body", "")) or shown["dead"][0]["size"]) == (0, most)
