"""Owns how a run is told, as a table for a person. It judges nothing."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from simulation.laws import LAWS
from simulation.plan import Plan
from simulation.world import Result

# The lines of the history that a person is shown.
_SHOWN = 30


def show(console: Console, plan: Plan, result: Result, took_s: float) -> None:
    """What was asked, what came of it, what went wrong on purpose, and whether a law was broken."""
    table = Table(box=SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("requests", f"{result.requests:,}")
    table.add_row("controllers, workers", f"{len(plan.controllers)}, {len(plan.workers)}")
    for outcome, count in sorted(result.outcomes.items(), key=lambda item: -item[1]):
        table.add_row(f"  {outcome.replace('_', ' ')}", f"{count:,}")
    table.add_row("faults", f"{sum(result.faults.values()):,}")
    for place, kinds in _by_place(result.faults).items():
        table.add_row(f"  {place}", kinds)
    table.add_row("keys and jobs", "")
    for place, kinds in _by_place(result.keys).items():
        table.add_row(f"  {place}", kinds)
    table.add_row("virtual time", f"{result.virtual_s:,.0f} s")
    table.add_row("real time", f"{took_s:,.1f} s")
    table.add_row("requests a second", f"{result.requests / took_s:,.0f}")
    table.add_row("digest of the history", result.digest)
    console.print(table)
    if not result.law:
        console.print(f"[green]✓[/] all {len(LAWS)} laws hold", highlight=False)


def show_broken(console: Console, result: Result, *, story: bool) -> None:
    """Which law, by what, and with ``story`` what led to it."""
    if story:
        for line in result.last[-_SHOWN:]:
            console.print(line, style="dim", highlight=False, soft_wrap=True, markup=False)
    console.print(f"[red]✗ {result.law}[/] {LAWS[result.law]}", highlight=False, soft_wrap=True)
    console.print(f"At {result.broken_at_s:.3f} s: {result.detail}", highlight=False, soft_wrap=True, markup=False)


def _by_place(faults: dict[str, int]) -> dict[str, str]:
    """``{"worker": "kill 3, drain 1"}``: one line for each place."""
    places: dict[str, list[str]] = {}
    for name, count in faults.items():
        place, _, kind = name.partition(" ")
        places.setdefault(place, []).append(f"{kind} {count:,}")
    return {place: ", ".join(kinds) for place, kinds in places.items()}
