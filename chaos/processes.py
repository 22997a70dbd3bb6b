"""Owns the processes that are to be killed, frozen and restarted: each under a name, through all of its lives.

Only what was started here is ever touched, by its process id. Whatever ends by itself is started again, as a service
manager would, and told. ``chaos.troubles`` and the tests of recovery call it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from crank.children import Child
from crank.natsd import NatsServer

# A worker or controller drains no longer than this.
_STOP_S = 15.0
# How soon a service manager would start it again.
_AGAIN_S = 0.3
# It freezes and thaws from outside, and thaws also when whoever wanted it frozen is gone.
_FREEZE = 'kill -STOP "$1" && sleep "$2"; kill -CONT "$1"'


class Member(Protocol):
    """One process of an installation."""

    name: str

    async def start(self) -> None:
        """Start it; it may not be ready yet."""

    async def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""

    async def stop(self) -> None:
        """Ask it to stop; returns when it is gone."""

    async def freeze(self, seconds: float) -> None:
        """Stop it with SIGSTOP, and let it go on after so many seconds."""


async def freeze(pid: int, seconds: float) -> None:
    """Stop a process of ours with SIGSTOP, and let it go on after so many seconds, or when this is cancelled."""
    shell = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", _FREEZE, "freeze", str(pid), f"{seconds:.3f}",
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        await shell.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)
        await shell.wait()
        raise


async def _is_gone(child: Child) -> bool:
    try:
        async with asyncio.timeout(0):
            await child.ended()
    except TimeoutError:
        return False
    return True


class CrankProcess:
    """A ``crank`` command as a process; each of its lives has a log of its own in ``folder``."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.logs: list[Path] = []
        self.ended_by_itself: list[tuple[float, str]] = []
        """When on ``time.monotonic``'s clock, how, and its last words."""
        # -P: the folder where this runs must not hide our modules.
        self._command = [sys.executable, "-P", "-m", "crank", *arguments, "--with-parent"]
        self._folder = folder
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of its present life."""
        assert self._child is not None
        assert self._child.pid is not None
        return self._child.pid

    async def start(self) -> None:
        """Start it, and again whenever it ends by itself."""
        child = await self._spawn()
        self._keeper = asyncio.create_task(self._keep(child))

    async def _spawn(self) -> Child:
        log = self._folder / f"{self.name}.{len(self.logs) + 1}.log"
        self.logs.append(log)
        self._child = child = Child(self.name, self._command, log)
        await child.start()
        return child

    async def _keep(self, child: Child) -> None:
        while True:
            await child.ended()
            self.ended_by_itself.append((time.monotonic(), child.told()))
            await asyncio.sleep(_AGAIN_S)
            child = await self._spawn()

    async def _leave(self) -> Child | None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        return self._child

    async def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""
        if (child := await self._leave()) is not None and not await _is_gone(child):
            os.kill(self.pid, signal.SIGKILL)
            await child.ended()

    async def stop(self) -> None:
        """Ask it to stop; returns when it is gone."""
        if (child := await self._leave()) is not None:
            await child.stop(_STOP_S)

    async def freeze(self, seconds: float) -> None:
        """Stop it with SIGSTOP, and let it go on after so many seconds."""
        # The id of one that has just ended may be somebody else's by now.
        if self._child is not None and not await _is_gone(self._child):
            await freeze(self.pid, seconds)


class ServerProcess:
    """A nats-server, with the same store and port in all of its lives."""

    def __init__(self, name: str, server: NatsServer) -> None:
        self.name = name
        self.server = server

    async def start(self) -> None:
        """Start it; returns when it can be connected to."""
        await self.server.start()

    async def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""
        await self.server.stop(kill=True)

    async def stop(self) -> None:
        """Ask it to stop; returns when it is gone."""
        await self.server.stop()

    async def freeze(self, seconds: float) -> None:
        """Stop it with SIGSTOP, and let it go on after so many seconds."""
        process = self.server.process
        if process is not None and process.returncode is None:
            await freeze(process.pid, seconds)
