"""Owns an installation on one machine: nats-server, a controller and workers, each a process, in order up and down.

For ``crank up`` and ``crank demo``. It refuses to know how anything is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from callers import Client, CrankError
from crank.children import Child
from crank.natsd import NatsServer, NatsServerError
from crank.targets import name_of

# A cold start on a slow machine compiles every module once.
_READY_TIMEOUT_S = 30.0
_POLL_S = 0.02
# A worker's own drain ends before this; see workers.
_WORKER_STOP_S = 35.0


class LocalError(Exception):
    """Something did not start or did not stay; the message is for a person."""


class WorkerPlan(NamedTuple):
    """A worker to start: what ``crank worker`` takes, and its id."""

    target: str
    worker_id: str


def plans(targets: Iterable[str]) -> list[WorkerPlan]:
    """A worker each, with the ids ``<name>-1``, ``<name>-2`` and so on."""
    counts: dict[str, int] = {}
    made = []
    for target in targets:
        name = name_of(target)
        counts[name] = counts.get(name, 0) + 1
        made.append(WorkerPlan(target, f"{name}-{counts[name]}"))
    return made


class Local:
    """One installation. ``stop`` is safe at any time, also halfway through ``start``."""

    def __init__(
        self,
        state: Path,
        *,
        nats_port: int,
        http_port: int,
        workers: Sequence[WorkerPlan],
        prefix: str = "crank",
        controller_id: str = "c-1",
        config: Path | None = None,
        drain_timeout_s: float = 30.0,
    ) -> None:
        self.state = state
        self.nats = NatsServer(state / "nats", port=nats_port)
        self.http_url = ""
        self.prefix = prefix
        self._plans = workers
        self._http_port = http_port
        self._controller_id = controller_id
        self._config = config
        self._drain_timeout_s = drain_timeout_s
        self._controller: Child | None = None
        self._workers: list[Child] = []
        self._ready_file = state / "controller.ready"
        self._lock: IO[bytes] | None = None

    @property
    def worker_ids(self) -> set[str]:
        """Of the workers that are started here."""
        return {plan.worker_id for plan in self._plans}

    async def start(self) -> None:
        """Start everything; return when requests can be served.

        Raises:
            LocalError: with what did not start and why.

        """
        self._take_folder()
        try:
            await self.nats.start()
        except NatsServerError as error:
            raise LocalError(str(error)) from None
        await self._start_controller()
        await self._unless_dead(self._controller_ready())
        self._workers = [self._worker(plan) for plan in self._plans]
        for child in self._workers:
            await child.start()
        await self._unless_dead(self._registered())

    def _take_folder(self) -> None:
        """Two servers in one store would destroy it. The lock goes with the process, however that ends."""
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            (self.state / ".gitignore").write_text("*\n")
            lock = (self.state / "lock").open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                raise
            self._lock = lock
        except BlockingIOError:
            raise LocalError(
                f"the state folder {self.state} is in use by another `crank up`; "
                "stop that one, or give this one a folder of its own with --state"
            ) from None
        except OSError as error:
            reason = "it is a file" if self.state.is_file() else error.strerror
            raise LocalError(f"the state folder {self.state} cannot be used: {reason}") from None

    def _command(self, *arguments: str) -> list[str]:
        # -P: a folder named workers/ in the user's project must not hide ours.
        return [sys.executable, "-P", "-m", "crank", *arguments, "--nats", self.nats.url, "--with-parent"]

    async def _start_controller(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        config = ("--config", str(self._config)) if self._config is not None else ()
        self._controller = Child(
            f"controller {self._controller_id}",
            self._command(
                "controller", "--id", self._controller_id, "--http-port", str(self._http_port),
                "--prefix", self.prefix, "--ready-file", str(self._ready_file), *config,
            ),
            self.state / "log" / "controller.log",
        )  # fmt: skip
        await self._controller.start()

    async def _controller_ready(self) -> None:
        while not self._ready_file.exists():  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(_POLL_S)
        self.http_url = json.loads(self._ready_file.read_text())["http"]

    def _worker(self, plan: WorkerPlan) -> Child:
        return Child(
            f"worker {plan.worker_id}",
            self._command("worker", plan.target, "--id", plan.worker_id, "--prefix", self.prefix),
            self.state / "log" / f"{plan.worker_id}.log",
        )

    async def _registered(self) -> None:
        wanted = self.worker_ids
        async with await Client.connect(self.nats.url, prefix=self.prefix) as client:
            while True:
                with contextlib.suppress(CrankError):  # a controller that is just ready may not answer yet
                    seen = {w.get("worker_id") for w in await client.listed("workers") if w.get("state") == "alive"}
                    if wanted <= seen:
                        return
                await asyncio.sleep(_POLL_S)

    async def _unless_dead(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, which waits for something to be ready; end with the reason when a process dies meanwhile."""
        working, dying = asyncio.ensure_future(work), asyncio.ensure_future(self.died())
        try:
            await asyncio.wait((working, dying), timeout=_READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
            elif dying.done():
                raise LocalError(dying.result())
            else:
                logs = self.state / "log"
                raise LocalError(f"not everything was ready within {_READY_TIMEOUT_S:g} s; the logs are in {logs}")
        finally:
            for task in (working, dying):
                task.cancel()
            await asyncio.gather(working, dying, return_exceptions=True)

    async def died(self) -> str:
        """Wait until the first process ends by itself; which one it was, how, and its last words."""
        children = [child for child in (*self._workers, self._controller) if child is not None]
        waits = {asyncio.ensure_future(child.ended()): child for child in children}
        server = asyncio.ensure_future(self.nats.ended())
        try:
            done, _ = await asyncio.wait((*waits, server), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in (*waits, server):
                wait.cancel()
        for wait, child in waits.items():
            # Workers end by themselves when their server is gone, so the server is blamed first.
            if wait in done and server not in done:
                return child.told()
        return f"nats-server ended; its last words: {self.nats.last_words()} (see {self.nats.log})"

    async def stop(self) -> None:
        """Stop workers, then the controller, then the server; each finishes what it has in hand."""
        await asyncio.gather(*(child.stop(_WORKER_STOP_S) for child in self._workers))
        if self._controller is not None:
            await self._controller.stop(self._drain_timeout_s + 5.0)
        await self.nats.stop()
        if self._lock is not None:  # otherwise the folder is another's, or no folder
            self._ready_file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None
