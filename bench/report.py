"""Owns how figures are shown: a table for a person, JSON for a program. It measures nothing."""

from __future__ import annotations

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.machine import Machine
from bench.paths import SUBJECTS
from bench.rounds import MANY, Plan, Ratio, Sample, middle, middle_cpu_us, others, ratios

# What the kernel and the measuring process take anyway.
QUIET = 0.1


def show_machine(console: Console, machine: Machine) -> None:
    """Two lines: the machine, and the versions."""
    console.print(f"{machine.system}, {machine.cores} × {machine.cpu}", highlight=False, soft_wrap=True)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    console.print(versions, highlight=False, soft_wrap=True)


def show(console: Console, plan: Plan, samples: list[Sample]) -> None:
    """The table of medians, and the ratios with their goals."""
    ends = "as it comes" if plan.plain_ends else "leaving headers unparsed"
    console.print(
        f"\nMedians of {plan.rounds} interleaved rounds; 128 B of JSON; client and worker are nats-py {ends}.\n"
        f"p50 and p99: one in flight. The rest: {MANY} in flight, CPU in µs a request by process.",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=SIMPLE)
    table.add_column("path")
    for name in ("p50 ms", "p99 ms", "a second", "router", "server", "worker", "client"):
        table.add_column(name, justify="right")
    for path in SUBJECTS:
        table.add_row(
            path,
            f"{middle(samples, path, 'p50_ms'):.3f}",
            f"{middle(samples, path, 'p99_ms'):.3f}",
            f"{middle(samples, path, 'per_second'):,.0f}",
            *(_us(middle_cpu_us(samples, path, process)) for process in (path, "server", "worker", "client")),
        )
    console.print(table)
    busy = others(samples)
    if busy is not None and busy > QUIET:
        console.print(f"Others used {busy:.0%} of a core meanwhile; run it when the machine is quiet.", style="yellow")
    for ratio in ratios(samples):
        show_ratio(console, "crank / pass-through", ratio)


def show_ratio(console: Console, who: str, ratio: Ratio) -> None:
    """One line: the ratio, its spread, the goal, and whether it is met."""
    sign, mark = ("≤" if ratio.at_most else "≥"), ("[green]✓[/]" if ratio.met else "[red]✗[/]")
    console.print(
        f"{mark} {who}, {ratio.what}: {ratio.median:.2f}× "
        f"(rounds from {ratio.least:.2f} to {ratio.greatest:.2f}; goal {sign} {ratio.goal:.2f}×)",
        highlight=False,
        soft_wrap=True,
    )


def _us(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def as_json(machine: Machine, plan: Plan, samples: list[Sample]) -> bytes:
    """Everything that was measured, each round by itself."""
    found = [{**msgspec.structs.asdict(ratio), "met": ratio.met} for ratio in ratios(samples)]
    report = {"machine": machine._asdict(), "plan": plan, "samples": samples, "ratios": found}
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
