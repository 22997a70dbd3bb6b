"""``python -m bench``: floor, pass-through and Crank in one run, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

import click
import msgspec
from rich.console import Console

from bench import report, rounds
from bench.machine import this_machine
from bench.parts import BenchError, Parts
from crank.natsd import NatsServerError


@click.command()
@click.option("--quick", is_flag=True, help="About ten seconds instead of a minute; the figures are rougher.")
@click.option("--plain-ends", is_flag=True, help="Client and worker parse every header, as nats-py does by itself.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every round's figures here.")
def main(quick: bool, plain_ends: bool, json_file: Path | None) -> None:
    """Compare a direct NATS request, a router that decides nothing, and Crank, in one run on this machine."""
    console = Console()
    plan = msgspec.structs.replace(rounds.QUICK if quick else rounds.FULL, plain_ends=plain_ends)
    machine = this_machine()
    report.show_machine(console, machine)
    try:
        samples = asyncio.run(_measured(plan, console))
    except (BenchError, NatsServerError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    report.show(console, plan, samples)
    if json_file is not None:
        json_file.write_bytes(report.as_json(machine, plan, samples))


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
