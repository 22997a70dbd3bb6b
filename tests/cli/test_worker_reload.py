"""``crank worker … --reload``: save, and the next request is answered by what was saved."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callers import Client, CrankError
from crank.cli.endings import NOBODY
from crank.cli.reloading import serve_anew
from tests.cli.conftest import Crank, clean_environment

Env = dict[str, str]
_SOURCE = """
import asyncio

from crank import Worker

worker = Worker("live", max_concurrency=2)


@worker.capability("live:say")
async def say(wait_s: float) -> str:
    await asyncio.sleep(wait_s)
    return "{word}"
"""


class Live:
    """The command, and what it says, line by line."""

    def __init__(self, folder: Path, env: Env, *arguments: str) -> None:
        self.file = folder / "live.py"
        command = [sys.executable, "-P", "-m", "crank", "worker", "live:worker", "--reload", "--id", "live-1"]
        self.process = subprocess.Popen(
            [*command, *arguments], cwd=folder, env=clean_environment() | env, stderr=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)

    def until(self, part: str) -> str:
        """The next line that holds ``part``."""
        until = time.monotonic() + 20
        while part not in (line := self._next(until)):
            pass
        return line

    def _next(self, until: float) -> str:
        try:
            line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise AssertionError("".join(self.said)) from None
        self.said.append(line)
        return line

    def save(self, word: str, broken: str = "") -> None:
        """Write the file as an editor does: beside it, and then in its place."""
        new = self.file.with_suffix(".new")
        new.write_text(_SOURCE.replace("{word}", word) + broken)
        os.replace(new, self.file)


Start = Callable[..., Live]


@pytest.fixture
def start(tmp_path: Path, installation: Env) -> Iterator[Start]:
    """Starts the command on a saved file; it is stopped at the end."""
    started: list[Live] = []
    (tmp_path / "live.py").write_text(_SOURCE.replace("{word}", "one"))

    def start(*arguments: str, **env: str) -> Live:
        started.append(Live(tmp_path, installation | env, *arguments))
        return started[-1]

    yield start
    for live in started:
        if live.process.poll() is None:
            live.process.terminate()
        live.process.wait(timeout=20)
        with live.process:
            pass


async def _say(env: Env, wait_s: float = 0) -> str:
    async with await Client.connect(env["CRANK_NATS_URL"]) as client:
        return (await client.request("live:say", wait_s, timeout_ms=5000)).decode(str)


def test_the_address_with_its_password_is_no_flag_of_the_child(start: Start, installation: Env) -> None:
    """Everybody on the machine can read those."""
    live = start("--nats", installation["CRANK_NATS_URL"].replace("://", "://user:secret@"))
    live.until("live-1 is registered")
    live.save("one", "import sys\nraise SystemExit(f'started as {sys.orig_argv}')")
    assert "secret" not in live.until("started as")


async def test_a_save_is_served_under_the_same_id_without_waiting(start: Start, installation: Env) -> None:
    """The one before has left, so nobody holds the id; what is broken is told with its line, and mended by a save."""
    live = start()
    live.until("live-1 is registered")
    assert await _say(installation) == "one"
    live.save("two")
    live.until("live.py changed")
    live.until("live-1 is registered")
    assert await _say(installation) == "two"
    live.save("three", broken="\ndef (:\n")
    live.until("SyntaxError")
    assert f"live.py:{_SOURCE.count(chr(10)) + 2}" in live.until("  at ")
    live.until("Waiting for the next save")
    with pytest.raises(CrankError) as nobody:
        await _say(installation)
    assert nobody.value.code == 503
    live.save("four")
    live.until("live-1 is registered")
    assert await _say(installation) == "four"
    assert "409" not in "".join(live.said)
    assert "Traceback" not in "".join(live.said)


async def test_what_runs_is_finished_by_what_was_there(start: Start, installation: Env) -> None:
    """A save in the middle of a request costs nobody an answer."""
    live = start()
    live.until("live-1 is registered")
    asking = asyncio.create_task(_say(installation, 1.0))
    await asyncio.sleep(0.3)
    live.save("two")
    assert await asking == "one"
    live.until("live-1 is registered")
    assert await _say(installation) == "two"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_its_child(start: Start, how: signal.Signals) -> None:
    """Asked to stop, it stops the worker in order; nothing is left."""
    live = start()
    live.until("live-1 is registered")
    [child] = Path(f"/proc/{live.process.pid}/task/{live.process.pid}/children").read_text().split()
    live.process.send_signal(how)
    assert live.process.wait(timeout=15) == 0
    assert not Path(f"/proc/{child}").exists()


def test_a_worker_that_does_not_start_waits_for_a_save(start: Start, tmp_path: Path) -> None:
    """A lifespan that fails, say: it is told in a line, and the next save may mend it."""
    broken = '\n\n@worker.lifespan\ndef model() -> None:\n    raise OSError("no model")\n'
    (tmp_path / "live.py").write_text(_SOURCE + broken)
    live = start()
    assert "model did not open: OSError: no model" in live.until("lifespan")
    live.until("Waiting for the next save")
    live.save("mended")
    live.until("live-1 is registered")


def test_a_worker_that_ends_without_a_word_is_told(start: Start, tmp_path: Path) -> None:
    """What it knows how to say it says itself."""
    (tmp_path / "live.py").write_text(_SOURCE + "\n\nimport os\nos._exit(7)\n")
    live = start()
    assert "It ended with code 7." in live.until("Waiting for the next save")


async def test_where_nobody_is_to_be_talked_to_no_save_helps(tmp_path: Path) -> None:
    """The worker's own message says so; the command ends with the same code."""
    said: list[str] = []
    command = [sys.executable, "-c", f"raise SystemExit({NOBODY})"]
    assert await serve_anew(command, [tmp_path], asyncio.Event(), said.append) == NOBODY
    assert said == []


def test_a_target_that_no_save_can_mend_is_wrong_usage(crank: Crank, installation: Env) -> None:
    """A reference worker that there is not, a module that is nowhere."""
    for target, part in (("hello_wrld", "did you mean hello_world?"), ("nowhere:worker", "no module 'nowhere'")):
        done = crank("worker", target, "--reload", env=installation)
        assert (done.returncode, part in done.stderr) == (2, True), done.stderr
