"""A running ``crank up`` for tests: started as a person would, on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.cli.conftest import clean_environment


class Up:
    """One ``crank up`` process."""

    def __init__(self, folder: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.ready_file = folder / "ready.json"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "crank", "up", "--nats-port", "0", "--http-port", "0",
             "--ready-file", str(self.ready_file), *flags],
            cwd=folder, env=clean_environment() | (env or {}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def ready(self, timeout_s: float = 30) -> dict[str, Any]:
        """The ready file, once it is there."""
        until = time.monotonic() + timeout_s
        while not self.ready_file.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"crank up ended with {self.process.returncode}: {self.process.stderr.read()}")  # type: ignore[union-attr]
            assert time.monotonic() < until, "crank up was not ready in time"
            time.sleep(0.02)
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found

    def children(self) -> dict[int, str]:
        """The processes below it: id and command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self.process.pid in _ancestors(int(entry.name)):
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to ``crank up`` alone."""
        self.process.send_signal(number)

    def ended(self, timeout_s: float = 60) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, once it has ended."""
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err

    def close(self) -> None:
        """End it however the test left it, with all below."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        with self.process:  # waits, and closes the pipes
            pass


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_gone(pids: list[int], timeout_s: float = 15) -> list[int]:
    """Those of ``pids`` that are still there after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return [pid for pid in pids if alive(pid)]


def _ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            break
        found.append(pid)
    return found


def kill(pid: int) -> None:
    """``kill -9``."""
    os.kill(pid, signal.SIGKILL)
