"""Owns how figures are shown: a table of 80 columns for a person, JSON for a program. It measures nothing."""

from __future__ import annotations

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.figures import Ratio, Row, others, ratios, rows
from bench.machine import Machine
from bench.paths import DISPATCHES, NAME, REQUESTS, VERB
from bench.rounds import ALONE, LOADS, MANY, Plan, Sample
from crank.slo.measured import Measured, encode, merged
from subjects.tokens import capability_id

# What the kernel and the measuring process take anyway.
QUIET = 0.1


def show_machine(console: Console, machine: Machine) -> None:
    """Two lines: the machine, and the versions."""
    _say(console, f"{machine.system}, {machine.cores} × {machine.cpu}, {machine.day}")
    _say(console, ", ".join(f"{name} {version}" for name, version in machine.versions.items()))


def show(console: Console, plan: Plan, samples: list[Sample]) -> None:
    """The tables of medians, and the ratios with their goals."""
    ends = "as it comes" if plan.plain_ends else "leaving headers unparsed"
    _say(
        console,
        f"\nMedians of {plan.rounds} interleaved rounds, 128 B of JSON. The last four columns are µs of CPU a request, "
        f"by process. Sender and worker are nats-py {ends}; nats.micro and FastStream have no router: they answer by "
        "themselves. Keyed requests have a new Idempotency-Key each; again is one key, answered from the controller's "
        "memory. What is kept is on file, with nats-server's default sync_interval (2 minutes).",
    )
    table = _table("request")
    for in_flight in LOADS:
        table.add_section()
        table.add_row(f"[bold]{in_flight} in flight[/]")
        _add(table, rows(samples, REQUESTS, in_flight))
    console.print(table)
    _say(console, f"One worker alone, given what a controller sends, {MANY} in flight:")
    table = _table("worker")
    _add(table, rows(samples, DISPATCHES, MANY))
    console.print(table)
    busy = others(samples)
    if busy is not None and busy > QUIET:
        console.print(f"Others used {busy:.0%} of a core meanwhile; run it when the machine is quiet.", style="yellow")
    for ratio in ratios(samples):
        show_ratio(console, ratio)


def _table(title: str) -> Table:
    table = Table(box=SIMPLE)
    table.add_column(title, min_width=12, no_wrap=True)
    for name in ("p50 ms", "p99 ms", "req/s", "router", "worker", "nats", "sender"):
        table.add_column(name, justify="right")
    return table


def _add(table: Table, found: list[Row]) -> None:
    for row in found:
        cpu = (row.router_us, row.worker_us, row.nats_us, row.sender_us)
        table.add_row(
            row.lane.name,
            _ms(row.p50_ms),
            _ms(row.p99_ms),
            f"{row.per_second:,.0f}",
            *("–" if us is None else f"{us:.0f}" for us in cpu),
        )


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def show_ratio(console: Console, ratio: Ratio) -> None:
    """One line: the ratio, its spread, the goal, and whether it is met."""
    sign, mark = ("≤" if ratio.at_most else "≥"), ("[green]✓[/]" if ratio.met else "[red]✗[/]")
    _say(
        console,
        f"{mark} {ratio.who}, {ratio.what}: {ratio.median:.2f}× "
        f"({ratio.least:.2f} to {ratio.greatest:.2f}; goal {sign} {ratio.goal:.2f}×)",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False)


def as_json(machine: Machine, plan: Plan, samples: list[Sample]) -> bytes:
    """Everything that was measured, each round by itself, but for the times of single requests."""
    samples = [msgspec.structs.replace(sample, took_ms=()) for sample in samples]
    found = [{**msgspec.structs.asdict(ratio), "met": ratio.met} for ratio in ratios(samples)]
    report = {"machine": machine._asdict(), "plan": plan, "ratios": found, "samples": samples}
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def as_results(samples: list[Sample]) -> bytes:
    """What `crank slo gate` reads: Crank's requests, one at a time, so that none waits for another one of ours."""
    took = [sample.took_ms for sample in samples if sample.lane == "crank" and sample.in_flight == ALONE]
    parts = [Measured(sum(count for _, count in times), 0, times) for times in took]
    return encode(merged({capability_id(VERB, NAME): part} for part in parts))
