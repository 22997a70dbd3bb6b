"""A worker as a process, started and stopped as a person does it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from worker_peer import Peer, until

from crank.natsd import NatsServer
from subjects.answers import Fault, Result

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
import time
from crank import Worker

worker = Worker("t")

@worker.capability("a:sleep", max_concurrency=2)
def sleep(seconds: float) -> str:
    print("started", flush=True)
    time.sleep(seconds)
    return "done"

@worker.capability("a:hang")
def hang() -> None:
    print("started", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    worker.run()
"""


async def _start(tmp_path: Path, url: str, source: str = SOURCE) -> Process:
    script = tmp_path / "worker.py"
    script.write_text(source)
    return await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=PIPE, stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CRANK_NATS_URL": url, "CRANK_WORKER_ID": "t-1"},
    )  # fmt: skip


async def test_sigterm_lets_running_work_finish(peer: Peer, nats_server: NatsServer, tmp_path: Path) -> None:
    """The process answers what it had, says goodbye and ends with code 0."""
    process = await _start(tmp_path, nats_server.url)
    await until(lambda: peer.manifests)
    exchange = await peer.send("a:sleep", b"0.2")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert await exchange.next() == Result(b"done", "", "text/plain; charset=utf-8")
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert [departure.reason for departure in peer.departures] == ["shutdown"]


async def test_a_handler_that_hangs_does_not_keep_the_process(
    peer: Peer, nats_server: NatsServer, tmp_path: Path
) -> None:
    """After the drain time-out the caller hears 503 and the process ends with code 1."""
    source = "import workers.process\nworkers.process.DRAIN_TIMEOUT_S = 0.05\n" + SOURCE
    process = await _start(tmp_path, nats_server.url, source)
    await until(lambda: peer.manifests)
    exchange = await peer.send("a:hang")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    fault = await exchange.next()
    assert isinstance(fault, Fault)
    assert fault.code == 503
    assert await asyncio.wait_for(process.wait(), 5) == 1


async def test_a_second_signal_ends_it_at_once(peer: Peer, nats_server: NatsServer, tmp_path: Path) -> None:
    """Whoever will not wait need not."""
    process = await _start(tmp_path, nats_server.url)
    await until(lambda: peer.manifests)
    await peer.send("a:hang")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    await until(lambda: peer.departures)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == -signal.SIGTERM


async def test_an_error_is_one_plain_message(tmp_path: Path) -> None:
    """No traceback for what a person can put right."""
    process = await _start(
        tmp_path,
        "nats://127.0.0.1:1",
        SOURCE.replace('"t"', '"t", spiffe_id=None').replace("worker.run()", 'worker.run(worker_id="a b")'),
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 1
    assert "'a b'" in stderr.decode()
    assert "Traceback" not in stderr.decode()


async def test_a_module_with_a_worker_imports_no_nats_client(tmp_path: Path) -> None:
    """Who looks at a worker, or tests its functions, does not pay for serving it."""
    source = SOURCE.replace("worker.run()", "import sys; print('nats' in sys.modules)")
    process = await _start(tmp_path, "nats://127.0.0.1:1", source)
    stdout, stderr = await asyncio.wait_for(process.communicate(), 10)
    assert (stdout.decode().strip(), stderr) == ("False", b"")
