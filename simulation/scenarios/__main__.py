"""``python -m simulation.scenarios``: every scenario with a few seeds, as a table; 1 when a goal is missed."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from simulation.scenarios.failing import all_but_one, all_fail_a_little, one_fails
from simulation.scenarios.found import Found
from simulation.scenarios.newcomers import newcomers
from simulation.scenarios.overload import overload
from simulation.scenarios.prices import some_in_a_hurry, some_too_slow, too_few_cheap
from simulation.scenarios.rates import shared_rate
from simulation.scenarios.slow import one_slow, slow_for_a_while

Scenario = Callable[[int, int], list[Found]]
SCENARIOS: dict[str, Scenario] = {
    "one of five is ten times slower": one_slow,
    "one becomes ten times slower for a while": slow_for_a_while,
    "cheap ones cannot carry it all": too_few_cheap,
    "half of the cheap ones are too slow": some_too_slow,
    "some are in a hurry": some_in_a_hurry,
    "twice as many as can be done": overload,
    "one fails half of its requests": one_fails,
    "all but one fail always": all_but_one,
    "all fail one in seven": all_fail_a_little,
    "ten that nobody knows": newcomers,
    "three controllers, one rate": shared_rate,
}


@click.command()
@click.option("--requests", default=20_000, show_default=True, type=click.IntRange(2000), help="Of each scenario.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The first one.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="So many of each.")
@click.option("--only", default="", help="Those whose names hold this.")
def main(requests: int, seed: int, seeds: int, only: str) -> None:
    """Put objectives to the test: slow, dear, failing and unknown workers, and too many requests."""
    console = Console()
    table = Table(box=SIMPLE)
    table.add_column("scenario", min_width=30)
    for column in ("least", "most", "goal"):
        table.add_column(column, justify="right", no_wrap=True)
    missed = False
    for name, scenario in SCENARIOS.items():
        if only not in name:
            continue
        with console.status(name):
            runs = [scenario(each, requests) for each in range(seed, seed + seeds)]
        table.add_section()
        table.add_row(f"[bold]{name}[/]")
        for found in zip(*runs, strict=True):
            missed |= not all(each.met for each in found)
            table.add_row(*_row(found))
    console.print(table)
    sys.exit(missed)


def _row(found: tuple[Found, ...]) -> tuple[str, ...]:
    first = found[0]
    goal = ""
    if first.goal is not None:
        mark = "[green]✓[/]" if all(each.met for each in found) else "[red]✗[/]"
        goal = f"{'≤' if first.at_most else '≥'} {first.goal:g} {mark}"
    values = [each.value for each in found]
    return f"  {first.what}, {first.unit}", f"{min(values):.4g}", f"{max(values):.4g}", goal


if __name__ == "__main__":
    main()
