"""``python -m bench.recovery``: how soon a killed controller's successor serves, with a thousand workers registered.

The controller is killed with SIGKILL; its successor is started at once. What is measured is the time from the start of
that process to the first answer, less the time that a process needs to import the same modules and do nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import msgspec
from rich.console import Console

from bench import report
from bench.machine import this_machine
from bus import Bus, NoResponder, Unanswered
from bus.connection import BusError
from crank.children import Child
from crank.natsd import NatsServer, NatsServerError

WORKERS = 1000
GOAL_S = 0.5
_HEARTBEAT_S = 2.0
_PATIENCE_S = 30.0
_ASK_EVERY_S = 0.002
# Much longer than any answer takes: a request that nats-server hands to a controller which was killed a moment ago is
# lost, and whoever asks again is served.
_LOST_S = 3.0
# What a controller has imported when it serves; its HTTP port comes after that.
_IMPORTS = "import uvloop, crank.cli.entry, crank.cli.run, crank.cli.stopping, crank.ready, controller.app"
_SUBJECT = "crank.request.echo.recovery"


class Succession(msgspec.Struct, frozen=True):
    """One round, in seconds: ``first_answer_s`` from the successor's start, ``imports_s`` of an idle process."""

    first_answer_s: float
    imports_s: float

    @property
    def own_s(self) -> float:
        """What the successor took for itself."""
        return self.first_answer_s - self.imports_s


class RecoveryError(Exception):
    """There is no figure; the message says why."""


class Fleet:
    """Many workers on one connection: they register, heartbeat and answer, and that is all."""

    def __init__(self, bus: Bus, size: int) -> None:
        self._bus = bus
        self._names = [f"fleet-{number}" for number in range(size)]
        self._beating: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Register all of them, a few at a time."""
        await self._bus.subscribe("crank.worker.>", lambda s, reply, h, body: self._answer(reply, body), "w")
        rest = iter(self._names)

        async def register() -> None:
            for name in rest:
                capability = {"verb": "echo", "name": "recovery", "version": "1.0.0", "max_concurrency": 8}
                manifest = json.dumps({"worker_id": name, "capabilities": [capability]}).encode()
                answer = await self._bus.request(f"crank.register.{name}", manifest)
                if json.loads(answer.body).get("status") != "registered":
                    raise RecoveryError(f"{name} was not registered: {answer.body[:200]!r}")

        await asyncio.gather(*(register() for _ in range(16)))
        self._beating = asyncio.create_task(self._beat())

    def _answer(self, reply: str, body: bytes) -> None:
        self._bus.publish(reply, body)

    async def _beat(self) -> None:
        seq = 0
        while True:
            seq += 1
            for name in self._names:
                self._bus.publish(f"crank.heartbeat.{name}", b'{"seq": %d}' % seq)
                await asyncio.sleep(_HEARTBEAT_S / len(self._names))

    def leave(self) -> None:
        """Fall silent."""
        if self._beating is not None:
            self._beating.cancel()


async def _first_answer(bus: Bus) -> None:
    """Ask until somebody answers.

    Raises:
        RecoveryError: nobody does.

    """
    until = time.monotonic() + _PATIENCE_S
    said: object = "nothing"
    while time.monotonic() < until:
        try:
            answer = await bus.request(_SUBJECT, b"{}", timeout_s=_LOST_S)
        except NoResponder:
            await asyncio.sleep(_ASK_EVERY_S)
            continue
        except Unanswered as error:
            said = error
            continue
        if answer.body == b"{}":
            return
        said = answer.body[:200]
        await asyncio.sleep(_ASK_EVERY_S)
    raise RecoveryError(f"no request was answered within {_PATIENCE_S:g} s; the last answer was {said!r}")


async def _imports_s() -> float:
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", f"{_IMPORTS}; import os; os.write(1, b'.'); os._exit(0)",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    if await process.stdout.read(1) != b".":
        raise RecoveryError("the modules of a controller cannot be imported")
    took_s = time.perf_counter() - start
    await process.wait()
    return took_s


async def measure(folder: Path, rounds: int) -> list[Succession]:
    """So many controllers killed, one after another.

    Raises:
        RecoveryError: a successor did not serve.
        NatsServerError: there is no server.

    """
    server = NatsServer(folder / "nats")
    controllers: list[Child] = []

    async def start() -> None:
        name = f"recovery-{len(controllers)}"
        command = [
            sys.executable, "-P", "-m", "crank", "controller", "--id", name, "--http-port", "0", "--prefix", "crank",
            "--nats", server.url, "--with-parent",
        ]  # fmt: skip
        controllers.append(Child(name, command, folder / f"{name}.log"))
        await controllers[-1].start()

    bus: Bus | None = None
    await server.start()
    try:
        bus = await Bus.connect(server.url, name="bench-recovery")
        fleet = Fleet(bus, WORKERS)
        await start()
        await _serves(bus)
        await fleet.join()
        await _first_answer(bus)
        found = []
        for _ in range(rounds):
            imports_s = await _imports_s()
            await _kill(controllers[-1])
            begun = time.perf_counter()
            await start()
            await _first_answer(bus)
            found.append(Succession(time.perf_counter() - begun, imports_s))
        fleet.leave()
        return found
    finally:
        if bus is not None:
            await bus.close()
        await asyncio.gather(*(controller.stop(5.0) for controller in controllers))
        await server.stop()


async def _serves(bus: Bus) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            await bus.request("crank.admin.health", b"{}")
            return
        except BusError as error:
            if time.monotonic() > until:
                raise RecoveryError(f"the controller does not answer: {error}") from None
            await asyncio.sleep(_ASK_EVERY_S)


async def _kill(controller: Child) -> None:
    assert controller.pid is not None
    os.kill(controller.pid, signal.SIGKILL)
    await controller.ended()


def show(console: Console, found: Sequence[Succession]) -> bool:
    """Tell the figures; whether the goal is met."""
    own_s = median(one.own_s for one in found)
    met = round(own_s, 2) <= GOAL_S
    mark = "[green]✓[/]" if met else "[red]✗[/]"
    console.print(
        f"\nA killed controller's successor, {WORKERS:,} workers registered, medians of {len(found)}: "
        f"first answer {median(one.first_answer_s for one in found):.2f} s after its start, "
        f"imports alone {median(one.imports_s for one in found):.2f} s.",
        highlight=False,
    )
    console.print(
        f"{mark} its own time: {own_s:.2f} s ({min(one.own_s for one in found):.2f} to "
        f"{max(one.own_s for one in found):.2f}; goal ≤ {GOAL_S:.2f} s)",
        highlight=False,
    )
    return met


@click.command()
@click.option("--quick", is_flag=True, help="Two rounds instead of seven.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
def main(quick: bool, json_file: Path | None) -> None:
    """How soon a killed controller's successor answers, with a thousand workers registered."""
    console = Console()
    machine = this_machine()
    report.show_machine(console, machine)
    with tempfile.TemporaryDirectory(prefix="crank-recovery-") as folder:
        try:
            with console.status("measuring"):
                found = asyncio.run(measure(Path(folder), 2 if quick else 7))
        except (RecoveryError, BusError, NatsServerError) as error:
            click.echo(f"bench: {error}", err=True)
            sys.exit(1)
    show(console, found)
    if json_file is not None:
        told = {"machine": machine._asdict(), "workers": WORKERS, "goal_s": GOAL_S, "rounds": found}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")


if __name__ == "__main__":
    main()
