"""The worker of examples/javascript, which readers copy: run as they run it, behind a real controller."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bus.connection import BusError
from crank.natsd import NatsServer
from subjects.headers import build_block
from tests.edge.conftest import StartController
from tests.edge.peers import Caller, header_of, until
from tests.interop.conftest import JAVASCRIPT, plain_environment

Process = asyncio.subprocess.Process
Start = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start(node: str, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Start]:
    """Start ``node worker.mjs``; whatever still runs at the end is killed."""
    started: list[Process] = []

    async def spawn() -> Process:
        process = await asyncio.create_subprocess_exec(
            node,
            "worker.mjs",
            cwd=JAVASCRIPT,
            env=plain_environment(tmp_path, CRANK_NATS_URL=nats_server.url, CRANK_WORKER_ID="js-1"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _ask(caller: Caller, ms: float, **headers: str) -> tuple[int, Any]:
    code, body, _ = await caller.ask("timer:wait", json.dumps({"ms": ms}).encode(), **headers)
    return code, body


async def _until_served(caller: Caller) -> None:
    """Until a request is answered; the worker and the controller may both be on their way."""
    async with asyncio.timeout(20):
        while True:
            try:
                if (await _ask(caller, 1))[0] == 0:
                    return
            except BusError:
                pass
            await asyncio.sleep(0.05)


def _beats(caller: Caller) -> tuple[list[dict[str, Any]], Callable[..., None]]:
    beats: list[dict[str, Any]] = []
    return beats, lambda subject, reply, headers, body: beats.append(json.loads(body))


async def test_it_answers_and_its_errors_reach_the_caller_with_their_code(
    start_controller: StartController, start: Start, caller: Caller
) -> None:
    """An answer, an error of its own, what its schema keeps away, and one that it did not foresee and only logs."""
    await start_controller()
    worker = await start()
    await _until_served(caller)
    assert await _ask(caller, 5) == (0, {"waited_ms": 5})
    code, problem = await _ask(caller, 60_001)
    assert (code, problem["worker_code"]) == (500, 422)
    assert problem["worker_message"] == "A minute is the most; ask for less"
    assert (await _ask(caller, -1))[0] == 422
    code, problem, _ = await caller.ask("timer:wait", b"no JSON", Content_Type="text/plain")
    assert (code, problem["worker_code"], problem["worker_message"]) == (500, 500, "The worker failed")
    assert worker.stdout is not None
    assert worker.stderr is not None
    assert await worker.stdout.readline() == b"js-1 is registered\n"
    assert b"JSON" in await worker.stderr.readline()
    assert worker.returncode is None


async def test_it_takes_no_more_than_it_has_places_for(
    start_controller: StartController, start: Start, caller: Caller
) -> None:
    """Asked for nine at once, past the controller: eight wait, the ninth is not run."""
    await start_controller()
    await start()
    await _until_served(caller)
    subject, asked = "crank.worker.js-1.timer.wait", []
    for number in range(9):
        head = build_block([("Crank-Dispatch-Id", f"d-{number}")])
        asked.append(asyncio.create_task(caller.bus.request(subject, b'{"ms": 500}', head, timeout_s=10)))
    answers = await asyncio.gather(*asked)
    assert [header_of(answer).get("crank-not-run") for answer in answers] == [None] * 8 + ["busy"]
    assert {answer.body for answer in answers} == {b'{"waited_ms":500}', b""}


async def test_what_nobody_waits_for_is_stopped(
    start_controller: StartController, start: Start, caller: Caller
) -> None:
    """The deadline passes, the controller cancels, and the worker has room again at once, and says nothing of it."""
    await start_controller()
    worker = await start()
    await _until_served(caller)
    beats, note = _beats(caller)
    await caller.bus.subscribe("crank.heartbeat.js-1", note)
    asked = asyncio.create_task(_ask(caller, 60_000, Crank_Timeout_Ms="1500"))
    await until(lambda: any(beat["in_flight"] == 1 for beat in beats))
    assert (await asked)[0] == 504
    beats.clear()
    await until(lambda: any(beat["in_flight"] == 0 for beat in beats))
    head = build_block([("Crank-Dispatch-Id", "d-1")])
    subject = "crank.worker.js-1.timer.wait"
    direct = asyncio.create_task(caller.bus.request(subject, b'{"ms": 60000}', head, timeout_s=10))
    await until(lambda: any(beat["in_flight"] == 1 for beat in beats))
    caller.bus.publish("crank.control.js-1", b'{"op": "cancel", "dispatch_id": "d-1"}')
    assert header_of(await direct)["nats-service-error-code"] == "499"
    worker.terminate()
    assert await worker.communicate() == (b"js-1 is registered\n", b"")


async def test_it_registers_whenever_it_is_told(
    start_controller: StartController, start: Start, caller: Caller, nats_server: NatsServer
) -> None:
    """Started before any controller, and later met by a controller that knows nothing: it is served by both."""
    await start()
    first = await start_controller(controller_id="c-1")
    await _until_served(caller)
    await first.stop()
    await nats_server.stop()
    shutil.rmtree(nats_server.state / "jetstream")
    await nats_server.start()
    await until(lambda: caller.bus.connected)
    await start_controller(controller_id="c-2")
    await _until_served(caller)


async def test_it_leaves_gracefully(start_controller: StartController, start: Start, caller: Caller) -> None:
    """On SIGTERM it finishes what it has, is gone from the registry, and ends well."""
    await start_controller()
    worker = await start()
    await _until_served(caller)
    beats, note = _beats(caller)
    await caller.bus.subscribe("crank.heartbeat.js-1", note)
    asked = asyncio.create_task(_ask(caller, 1000))
    await until(lambda: any(beat["in_flight"] == 1 for beat in beats))
    worker.terminate()
    async with asyncio.timeout(10):
        while (await caller.tell("crank.admin.workers", {"state": "alive"}))[1]["workers"]:
            await asyncio.sleep(0.01)
    assert not asked.done()
    assert await asked == (0, {"waited_ms": 1000})
    assert await asyncio.wait_for(worker.wait(), 10) == 0
    assert (await _ask(caller, 1))[0] == 503


async def test_a_second_one_with_its_id_is_told_why_not(
    start_controller: StartController, start: Start, caller: Caller
) -> None:
    """The id is taken: one line, and it ends."""
    await start_controller()
    await start()
    await _until_served(caller)
    second = await start()
    out, err = await asyncio.wait_for(second.communicate(), 10)
    assert (second.returncode, out) == (1, b"")
    assert re.fullmatch(rb"js-1 is registered by another live process.*\n", err)


async def test_without_a_server_it_ends_with_a_line(start: Start, nats_server: NatsServer) -> None:
    """Which says what to do."""
    await nats_server.stop()
    worker = await start()
    out, err = await asyncio.wait_for(worker.communicate(), 10)
    assert (worker.returncode, out) == (1, b"")
    assert re.fullmatch(rb"No NATS server: .*refused.*; start one with `crank up`, or set CRANK_NATS_URL\n", err)


def test_the_lock_file_names_no_registry() -> None:
    """What is installed is told by version and checksum; from where is for whoever installs it to say."""
    lock = json.loads((JAVASCRIPT / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
