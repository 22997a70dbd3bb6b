"""``python -m bench``: a direct request, a router that decides nothing, peers and Crank in one run, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec
from rich.console import Console

from bench import report, rounds
from bench.machine import this_machine
from bench.parts import BenchError, Parts, has_faststream
from crank.natsd import NatsServerError

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--quick", is_flag=True, help="A third of a minute instead of three; the figures are rougher.")
@click.option("--plain-ends", is_flag=True, help="Client and worker parse every header, as nats-py does by itself.")
@click.option("--json", "json_file", type=_file, help="Write every round's figures here.")
@click.option("--measured", "measured_file", type=_file, help="Write here what `crank slo gate` reads.")
@click.option("--png", "png_file", type=_file, help="Draw them here.")
def main(
    quick: bool, plain_ends: bool, json_file: Path | None, measured_file: Path | None, png_file: Path | None
) -> None:
    """Compare a direct NATS request, a router that decides nothing, peers and Crank, in one run on this machine."""
    if png_file is not None and find_spec("matplotlib") is None:
        raise click.UsageError("to draw, the package matplotlib is needed; `make bench` installs it")
    console = Console()
    plan = msgspec.structs.replace(rounds.QUICK if quick else rounds.FULL, plain_ends=plain_ends)
    machine = this_machine()
    report.show_machine(console, machine)
    if not has_faststream():
        console.print("FastStream is not installed and left out; `make bench` installs it.", style="yellow")
    try:
        samples = asyncio.run(_measured(plan, console))
    except (BenchError, NatsServerError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    report.show(console, plan, samples)
    if json_file is not None:
        json_file.write_bytes(report.as_json(machine, plan, samples))
    if measured_file is not None:
        measured_file.write_bytes(report.as_results(samples))
    if png_file is not None:
        from bench.plot import draw

        draw(png_file, machine, plan, samples)


async def _measured(plan: rounds.Plan, console: Console) -> list[rounds.Sample]:
    with tempfile.TemporaryDirectory(prefix="crank-bench-") as state:
        parts = Parts(Path(state), plain_ends=plan.plain_ends)
        try:
            await parts.start()
            samples = []
            with console.status("starting") as status:
                async with contextlib.aclosing(rounds.measure(parts, plan)) as measured:
                    async for sample in measured:
                        samples.append(sample)
                        status.update(f"round {sample.round + 1} of {plan.rounds}")
            return samples
        finally:
            await parts.stop()


if __name__ == "__main__":
    main()
