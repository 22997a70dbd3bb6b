"""``python -m chaos``: one run, told as a table; 1 when a law is broken, and then its files are kept."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.status import Status

from chaos import report
from chaos.laws import judge
from chaos.run import Plan, Progress, run
from chaos.settle import NotReady
from chaos.story import Story
from crank.cli.run import run_loop
from crank.cli.stopping import stop_event
from crank.natsd import NatsServerError

_STOPPED = 130
# Without a terminal, a line every so often says that it still runs.
_LINE_EVERY_S = 10.0


@click.command()
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5, 3600), help="So long is the load.")
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(1, 2000), help="Operations a second.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="What is asked and done, and when.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
@click.option("--keep", is_flag=True, help="Keep logs and executions also when all is well.")
def main(seconds: float, rate: float, seed: int, json_file: Path | None, keep: bool) -> None:
    """Run nats-server, two controllers and five workers under load; kill, freeze and restart each; see what broke."""
    for name in [name for name in os.environ if name.startswith("CRANK_") and name != "CRANK_NATS_SERVER"]:
        del os.environ[name]  # an operator's settings are for another installation
    logging.basicConfig(level=logging.ERROR)  # that the server is away is no news here
    console = Console()
    plan = Plan(seconds, rate, seed)
    folder = Path(tempfile.mkdtemp(prefix="crank-chaos-"))
    console.print(f"python -m chaos --seconds {seconds:g} --rate {rate:g} --seed {seed}", highlight=False)
    try:
        with console.status("starting") as status:
            ran = run_loop(_unless_stopped(plan, folder, _Teller(console, status)))
    except* (NatsServerError, NotReady, OSError) as errors:  # a TimeoutError is an OSError
        click.echo(f"chaos: {str(_first(errors)) or 'it did not end in time'} (see {folder})", err=True)
        sys.exit(1)
    if ran is None:
        shutil.rmtree(folder)
        sys.exit(_STOPPED)
    story, late_s = ran
    broken = judge(story)
    report.show(console, plan, story, late_s, broken)
    if json_file is not None:
        json_file.write_bytes(report.as_json(plan, story, late_s, broken))
    if broken or keep:
        (folder / "attempts.jsonl").write_bytes(report.attempts(story))
        console.print(f"Logs, executions and attempts are in {folder}", highlight=False, soft_wrap=True)
    else:
        shutil.rmtree(folder)
    sys.exit(1 if broken else 0)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Teller:
    """Shows progress: on a terminal in place, elsewhere as a line now and then."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._phase = ""
        self._next_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Where the run is."""
        if self._console.is_terminal:
            self._status.update(report.line(progress))
        elif progress.phase != self._phase or time.monotonic() >= self._next_at:
            self._phase, self._next_at = progress.phase, time.monotonic() + _LINE_EVERY_S
            self._console.print(report.line(progress), highlight=False, markup=False)


async def _unless_stopped(plan: Plan, folder: Path, tell: _Teller) -> tuple[Story, float] | None:
    """The run, or None when it was stopped by a signal; its processes are gone then too."""
    stop = stop_event()
    running = asyncio.ensure_future(run(plan, folder, tell))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not running.done():
        running.cancel()
    try:
        return await running
    except asyncio.CancelledError:
        return None


if __name__ == "__main__":
    main()
