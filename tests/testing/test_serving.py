"""The harness as users' tests call it: options, mistakes, what it leaves behind, and who can run it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from crank import Client, Context, CrankError, DeclarationError, Worker
from crank.testing import serving
from tests.testing.conftest import until
from workers.reference import email_parser, hello_world, streaming

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """As a user's fixture has it."""
    async with serving(hello_world.worker) as client:
        yield client


async def test_it_can_be_a_fixture(client: Client) -> None:
    """Set up and torn down by pytest, perhaps in other tasks than the test's."""
    assert (await client.request("greet:hello_world", {"name": "Ada"})).json() == {"greeting": "Hello, Ada!"}


async def test_nothing_is_left_behind() -> None:
    """No task, and no subscription that hears of the next one."""
    before = asyncio.all_tasks()
    for _ in range(3):
        async with serving(hello_world.worker, streaming.worker, email_parser.worker) as client:
            await client.request("greet:hello_world", {"name": "Ada"})
            workers = {row["worker_id"] for row in await client.listed("workers")}
            assert workers == {"hello_world-1", "streaming-1", "email_parser-1"}
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_an_error_in_the_block_is_the_one_that_is_raised() -> None:
    """What is stopped on the way out does not hide it."""
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with serving(hello_world.worker):
            _ = 1 / 0
    assert asyncio.all_tasks() == before


async def test_a_handler_that_does_not_end_is_told_of() -> None:
    """Its thread keeps Python from ending, after the tests have."""
    worker, gate = Worker("stuck"), threading.Event()

    @worker.capability("t:hang")
    def hang() -> None:
        gate.wait(30)

    async def scenario() -> None:
        async with serving(worker, drain_timeout_s=0) as client:
            with pytest.raises(CrankError):
                await client.request("t:hang", timeout_ms=50)

    try:
        with pytest.warns(RuntimeWarning, match="1 handlers of stuck-1 still run"):
            await scenario()
    finally:
        gate.set()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_it_runs_on_any_loop(run) -> None:  # type: ignore[no-untyped-def]
    """Plain ``asyncio.run``, and uvloop as ``crank worker`` has it."""

    async def ask() -> bytes:
        async with serving(hello_world.worker) as client:
            return (await client.request("greet:hello_world", {"name": "Ada"})).body

    assert run(ask()) == b'{"greeting":"Hello, Ada!"}'


def test_its_cost_is_that_of_a_few_requests() -> None:
    """Starting and stopping take less than a hundred requests do in the same run."""

    async def measure() -> tuple[float, float]:
        async with serving(hello_world.worker) as client:
            for _ in range(20):
                await client.request("greet:hello_world", {"name": "Ada"})
            start = time.perf_counter()
            for _ in range(100):
                await client.request("greet:hello_world", {"name": "Ada"})
            requests = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(5):
            async with serving(hello_world.worker):
                pass
        return (time.perf_counter() - start) / 5, requests

    serving_s, requests_s = asyncio.run(measure())
    assert serving_s < requests_s


async def test_settings_are_the_controllers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are given, and none of whoever runs the tests."""
    monkeypatch.setenv("CRANK_DEFAULT_TIMEOUT_MS", "1")
    monkeypatch.setenv("CRANK_PREFIX", "other")
    worker = Worker("t")

    @worker.capability("t:left")
    async def left(ctx: Context) -> float:
        return ctx.time_left_s()

    async with serving(worker) as client:
        assert 20 < (await client.request("t:left")).json() <= 30
    async with serving(worker, default_timeout_ms=5000, max_body_bytes=10) as client:
        assert 1 < (await client.request("t:left")).json() <= 5
        with pytest.raises(CrankError) as caught:
            await client.request("t:left", b"x" * 11)
        assert caught.value.code == 413


async def test_a_mistake_in_its_options_is_told() -> None:
    """A setting that is not there, a value that cannot be, a replacement for what nothing depends on, no worker."""

    async def enter(*workers: Worker, **options: object) -> None:
        async with serving(*workers, **options):  # type: ignore[arg-type]
            pass

    worker = hello_world.worker
    with pytest.raises(TypeError, match="default_timeout_ms"):
        await enter(worker, default_timeout=3)
    with pytest.raises(ValueError, match="default_timeout_ms"):
        await enter(worker, default_timeout_ms=0)
    with pytest.raises(DeclarationError, match="none of these workers depends on until"):
        await enter(worker, overrides={until: until})
    with pytest.raises(DeclarationError, match="capabilities"):
        await enter(Worker("empty"))


async def test_without_workers_everything_is_unknown() -> None:
    """A test of a caller's own error handling needs no worker."""
    async with serving() as client:
        with pytest.raises(CrankError) as caught:
            await client.request("nobody:there")
        assert caught.value.code == 404


async def test_several_of_one_worker_have_ids_of_their_own() -> None:
    """The same declaration, served twice."""
    async with serving(hello_world.worker, hello_world.worker) as client:
        assert {row["worker_id"] for row in await client.listed("workers")} == {"hello_world-1", "hello_world-2"}


def test_a_test_with_anyio_can_use_it(tmp_path: Path) -> None:
    """``pytest.mark.anyio`` on the asyncio backend, in a process of its own."""
    pytest.importorskip("anyio")
    (tmp_path / "test_own.py").write_text(
        "import pytest\n"
        "from crank.testing import serving\n"
        "from workers.reference.hello_world import worker\n"
        "pytestmark = pytest.mark.anyio\n"
        "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
        "@pytest.fixture\nasync def client():\n    async with serving(worker) as client:\n        yield client\n"
        "async def test_it(client):\n"
        "    answer = await client.request('greet:hello_world', {'name': 'Ada'})\n"
        "    assert answer.json() == {'greeting': 'Hello, Ada!'}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "test_own.py"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
