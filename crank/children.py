"""Owns one child process: starting it, its log, noticing its end, telling how it ended, stopping it.

A child gets a pipe as its standard input that closes when this process ends in any way, kill -9 included; the
commands that are started here stop on that. Knows nothing of what a child does; ``crank.local`` calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

_LAST_LINES = 8


class Child:
    """A process with a name, and a log that starts anew with it."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process id once started."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: the log cannot be written, or there is no such program.

        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
            )

    async def ended(self) -> None:
        """Return when it is gone."""
        if self._process is not None:
            await self._process.wait()

    def told(self) -> str:
        """How it ended, and its last words."""
        code = self._process.returncode if self._process is not None else None
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        except OSError:
            lines = []
        said = "\n".join(f"  | {line}" for line in lines) if lines else "  | (it said nothing)"
        return f"{self.name} {how}; the end of {self.log}:\n{said}"

    async def stop(self, timeout_s: float) -> None:
        """Ask it to stop; after ``timeout_s`` seconds kill it. Returns when it is gone."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        await end(process, timeout_s)


async def end(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    """Ask it to stop; after ``timeout_s`` seconds kill it. Returns when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), timeout_s)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
