"""What callers and operators see when a controller is killed with work in hand: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from callers import Answer, Client, CrankError
from crank.natsd import NatsServer
from tests.cli.conftest import Crank, clean_environment

WORKER = """
import asyncio, pathlib
from crank import Worker

worker = Worker("pen", max_concurrency=8)


async def write(text: str) -> str:
    with open("written", "a") as paper:
        paper.write(text + "\\n")
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.02)
    return text


worker.capability("write:once")(write)
worker.capability("write:often", idempotent=True)(write)
"""
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
async def start(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a process of the command; all are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []
    env = clean_environment() | {"CRANK_NATS_URL": nats_server.url, "CRANK_CLAIM_LEASE_S": "0.5"}

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "crank", *arguments]
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
async def client(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client that asks again soon."""
    monkeypatch.setattr("callers.once._FIRST_SILENCE_S", 0.3)
    async with await Client.connect(nats_server.url) as client:
        yield client


async def _until(found: Callable[[], Awaitable[object]] | Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while True:
            seen = found()
            if await seen if isinstance(seen, Awaitable) else seen:
                return
            await asyncio.sleep(0.05)


def _controller(start: Start, ident: str) -> subprocess.Popen[bytes]:
    return start("controller", "--id", ident, "--http-port", "0")


async def _offered(client: Client) -> bool:
    try:
        return all(row["healthy_workers"] for row in await client.listed("capabilities") or [{"healthy_workers": 0}])
    except CrankError:
        return False


async def test_nothing_is_done_twice_behind_anybodys_back(
    nats_server: NatsServer, start: Start, client: Client, crank: Crank, tmp_path: Path
) -> None:
    """The controller dies with three requests and a job at work; whoever asks again gets an answer or the truth."""
    (tmp_path / "pen.py").write_text(WORKER)
    paper = tmp_path / "written"
    first = _controller(start, "c-1")
    start("worker", "pen.py")
    await _until(lambda: _offered(client))
    text = {"content_type": "text/plain", "timeout_ms": 30_000}
    often = asyncio.create_task(client.request_once("write:often", "often", **text))  # type: ignore[arg-type]
    once = asyncio.create_task(client.request_once("write:once", "once", **text))  # type: ignore[arg-type]
    job = await client.submit_once("write:often", "job", **text)  # type: ignore[arg-type]
    await _until(lambda: paper.exists() and len(paper.read_text().split()) == 3)

    first.kill()
    first.wait()
    with pytest.raises(TimeoutError):  # nobody is there, and patience is not over
        await asyncio.wait_for(asyncio.shield(once), 0.5)
    _controller(start, "c-2")
    with pytest.raises(CrankError) as caught:
        await once
    error = caught.value
    assert (error.kind, error.passing) == ("outcome_unknown", False)
    assert error.idempotency_key is not None
    (tmp_path / "go").touch()
    assert (await often).body == b"often"
    found = await client.result(job.job_id, timeout_ms=60_000)
    assert isinstance(found, Answer)
    assert (found.body, found.job_status) == (b"job", "done")
    assert paper.read_text().split().count("once") == 1

    env = {"CRANK_NATS_URL": nats_server.url}
    told = await asyncio.to_thread(crank, "recovery", env=env)
    assert "unknown" in told.stdout
    settle = ["resolve", "--capability", "write:once", "--key", error.idempotency_key, "--yes"]
    settle += ["--done", "it was", "--content-type", "text/plain"]
    done = await asyncio.to_thread(crank, *settle, env=env)
    assert done.returncode == 0, done.stderr
    answer = await client.request_once("write:once", "once", idempotency_key=error.idempotency_key, **text)  # type: ignore[arg-type]
    assert (answer.body, answer.replayed) == (b"it was", True)
    assert paper.read_text().split().count("once") == 1
