"""``python -m simulation``: one run or many, told as a table; a law that is broken is shrunk and can be replayed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace
from rich.console import Console

from simulation import report
from simulation.draw import draw_plan
from simulation.plan import Plan, as_json, from_json
from simulation.shrink import shrink
from simulation.world import Result, run

# Smaller is nicer, and nobody waits for ever.
_SHRINK_S = 120.0


@click.command()
@click.option("--requests", default=100_000, show_default=True, type=click.IntRange(1), help="How many are made.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Everything is drawn from it.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="So many seeds, one after another.")
@click.option(
    "--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run the plan in this file."
)
def main(requests: int, seed: int, seeds: int, replay: Path | None) -> None:
    """Run the core in a simulated world, with every fault there is, and see that no law is ever broken."""
    console = Console()
    if replay is not None:
        command = f"python -m simulation --replay {replay}"
        sys.exit(_run(console, _read(replay), command, known=True))
    broken = 0
    for number in range(seed, seed + seeds):
        command = f"python -m simulation --requests {requests} --seed {number}"
        broken |= _run(console, draw_plan(number, requests), command, known=False)
    sys.exit(broken)


def _read(path: Path) -> Plan:
    try:
        return from_json(path.read_bytes())
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{path} is no plan of the simulation: {error}") from None


def _run(console: Console, plan: Plan, command: str, *, known: bool) -> int:
    """Run a plan and tell; 1 when a law was broken. One that is ``known`` to break it is not shrunk again."""
    calls, begun = plan.calls, time.perf_counter()
    with console.status("") as status:
        result = run(plan, tell=lambda done: status.update(f"{done:,} of {calls:,} requests"))
    report.show(console, plan, result, time.perf_counter() - begun)
    if not result.law:
        return 0
    report.show_broken(console, result, story=known)
    console.print(f"It happens again with: {command}", soft_wrap=True, highlight=False)
    if not known:
        _shrink(console, plan, result)
    return 1


def _shrink(console: Console, plan: Plan, result: Result) -> None:
    until = time.perf_counter() + _SHRINK_S
    with console.status("") as status:

        def fails(smaller: Plan) -> bool:
            status.update(f"shrinking: {len(smaller.happenings):,} requests and troubles")
            return run(smaller).law == result.law

        cut = replace(plan, happenings=tuple(h for h in plan.happenings if h.at <= result.broken_at_s))
        smallest = shrink(cut if fails(cut) else plan, fails, lambda: time.perf_counter() < until)
    path = Path(f"simulation-{result.law}-{plan.seed}.json")
    path.write_bytes(as_json(smallest))
    console.print(
        f"Shrunk to {smallest.calls} requests, {len(smallest.happenings) - smallest.calls} troubles, "
        f"{len(smallest.controllers)} controllers and {len(smallest.workers)} workers: "
        f"python -m simulation --replay {path}",
        soft_wrap=True,
        highlight=False,
    )


if __name__ == "__main__":
    main()
