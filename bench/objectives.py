"""``python -m bench.objectives``: objectives under loads that wait for nobody, on a real server, with goals.

Five workers of which one is slow, beside five fast ones and a queue group at the same time; cheap and dear workers;
twice as many requests as can be done; one worker that begins to fail. Workers sleep instead of working.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench import report
from bench.machine import this_machine
from bench.objective_parts import ObjectiveParts, request_subject
from bench.parts import BenchError
from bench.sleepers import Fleet
from crank.natsd import NatsServerError
from simulation.scenarios.arrivals import Asked, poisson, quantile_ms, share, with_priorities
from simulation.scenarios.fleet import Kind
from simulation.scenarios.found import Found
from subjects.tokens import CapabilityId

FAST, SLOW = Kind(25.0), Kind(250.0)
CHEAP, DEAR = Kind(60.0, price=1.0), Kind(20.0, price=5.0)
BUSY = Kind(50.0)
ALL_FAST, ONE_SLOW, PRICES, CROWD, FAILING = (
    CapabilityId(f"bench:{name}") for name in ("all_fast", "one_slow", "prices", "crowd", "failing")
)
AT_RANDOM = "random.page"
QUANTILES = (0.5, 0.9, 0.99, 0.999)
_TARGETS_MS = {ALL_FAST: 100, ONE_SLOW: 100, PRICES: 200, CROWD: 400, FAILING: 150}
_ENFORCED = {"phase": "enforce", "reject_on_violation": True, "grace_period_days": 0}
_SLOW_PER_S = 0.4 * (4 * FAST.per_s + SLOW.per_s)
_PRICES_PER_S, _FAILING_PER_S = 320.0, 300.0
_CAPACITY_PER_S = 5 * BUSY.per_s
# Whoever is demoted is not asked for a while, and whoever is not is asked sixty times a second.
_SILENCE_S, _NEXT = 1.0, 1000
_file = click.Path(path_type=Path, dir_okay=False)


class Seconds(msgspec.Struct, frozen=True):
    """How long each part takes."""

    slow: float = 24.0
    prices: float = 12.0
    crowd: float = 10.0
    warm_up: float = 4.0
    failing: float = 6.0


QUICK = Seconds(slow=6.0, prices=4.0, crowd=4.0, warm_up=2.0, failing=6.0)


class Run(msgspec.Struct):
    """What came of it."""

    slow: dict[str, list[Asked]]
    prices: list[Asked]
    crowd: list[Asked]
    failing: list[Asked]
    """From when one began to fail."""
    given_s: list[float]
    """When that one was given something, from then on."""

    @property
    def crowd_ms(self) -> float:
        """What is asked where there are too many."""
        return _TARGETS_MS[CROWD]

    @property
    def demoted_after(self) -> int:
        """How many requests of the whole fleet that took: until it is asked no more for a while."""
        given = [at for at in self.given_s if at >= 0.0]
        first_s = self.failing[0].at
        following = [*given[1:], self.failing[-1].at - first_s]
        last_s = next((at for at, then in zip(given, following, strict=True) if then - at >= _SILENCE_S), None)
        return len(self.failing) if last_s is None else sum(each.at - first_s <= last_s for each in self.failing)

    def found(self) -> dict[str, list[Found]]:
        """The numbers that have goals, and some that have none, by scenario."""
        tails = {lane: quantile_ms(asked, 0.99) for lane, asked in self.slow.items()}
        cost = sum(each.tokens for each in self.prices) / (DEAR.price * len(self.prices))
        crowd_ms = self.crowd_ms
        until_s = self.crowd[-1].at
        in_time = sum(e.within(crowd_ms) and e.at + e.took_ms / 1000 <= until_s for e in self.crowd)
        by = {which: [each for each in self.crowd if each.priority == which] for which in ("high", "normal", "low")}
        after = self.failing[self.demoted_after :][:_NEXT]
        return {
            "one of five is ten times slower": [
                Found("p99, one slow / all fast", tails["one slow"] / tails["all fast"], 1.5, unit="×"),
                Found("p99, queue group with one slow / all fast", tails["queue group"] / tails["all fast"], unit="×"),
            ],
            "cheap slow and dear fast workers": [
                Found("objective met", 100 * share(self.prices, _TARGETS_MS[PRICES]), 99.0, at_most=False, unit="%"),
                Found("cost, of all dear", 100 * cost, 60.0, unit="%"),
            ],
            "twice as many requests as can be done": [
                Found("goodput, of capacity", 100 * in_time / until_s / _CAPACITY_PER_S, 90.0, at_most=False, unit="%"),
                Found("high priority in time", 100 * share(by["high"], crowd_ms), 99.0, at_most=False, unit="%"),
                Found("normal priority in time", 100 * share(by["normal"], crowd_ms), unit="%"),
                Found("low priority in time", 100 * share(by["low"], crowd_ms), unit="%"),
            ],
            "one begins to fail half of its requests": [
                Found("demoted after", float(self.demoted_after), 100.0, unit=" requests"),
                Found(
                    f"callers saw fail in the next {_NEXT:,}",
                    100 * sum(each.outcome != "answered" for each in after) / max(1, len(after)),
                    2.0,
                    unit="%",
                ),
            ],
        }


@click.command()
@click.option("--quick", is_flag=True, help="Half a minute instead of one and a half; the figures are rougher.")
@click.option("--json", "json_file", type=_file, help="Write the figures here.")
@click.option("--png", "png_file", type=_file, help="Draw them here.")
def main(quick: bool, json_file: Path | None, png_file: Path | None) -> None:
    """Whether objectives steer, on this machine: slow, dear and failing workers, and too many requests."""
    if png_file is not None and find_spec("matplotlib") is None:
        raise click.UsageError("to draw, the package matplotlib is needed; `make bench` installs it")
    console = Console()
    machine = this_machine()
    report.show_machine(console, machine)
    try:
        with console.status("measuring") as status:
            run = asyncio.run(measure(QUICK if quick else Seconds(), status.update))
    except (BenchError, NatsServerError) as error:
        click.echo(f"bench.objectives: {error}", err=True)
        sys.exit(1)
    show(console, run)
    if json_file is not None:
        quantiles = {lane: [quantile_ms(got, q) for q in QUANTILES] for lane, got in run.slow.items()}
        told = {"machine": machine._asdict(), "quantiles_ms": quantiles, "found": run.found()}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    if png_file is not None:
        from bench.objective_plot import draw

        draw(png_file, machine, run)


async def measure(seconds: Seconds, tell: Any = lambda text: None) -> Run:
    """Every scenario, one after the other; what is compared runs at the same time."""
    with tempfile.TemporaryDirectory(prefix="crank-objectives-") as state:
        parts = ObjectiveParts(Path(state))
        try:
            await parts.start({capability: _asked(capability) for capability in _TARGETS_MS})
            tell("one of five is slow")
            slow = await _one_slow(parts, seconds)
            tell("cheap and dear workers")
            for name, kind in (("cheap", CHEAP), ("dear", DEAR)):
                await parts.be(Fleet(name, 4, kind, PRICES))
            prices = await parts.asks(PRICES, poisson(2, _PRICES_PER_S, int(_PRICES_PER_S * seconds.prices)))
            tell("twice as many as can be done")
            await parts.be(Fleet("busy", 5, BUSY, CROWD))
            count = int(2 * _CAPACITY_PER_S * seconds.crowd)
            crowd = await parts.asks(CROWD, with_priorities(3, poisson(3, 2 * _CAPACITY_PER_S, count)))
            tell("one begins to fail")
            failing, given_s = await _one_fails(parts, seconds)
            return Run(slow, prices, crowd, failing, given_s)
        finally:
            await parts.stop()


def _asked(capability: CapabilityId) -> dict[str, Any]:
    slo = {"latency": {"p99_ms": _TARGETS_MS[capability]}, "availability": {"target": 0.995}, "timeout_ms": 10_000}
    return {"slo": slo, "enforcement": _ENFORCED} if capability == CROWD else {"slo": slo}


async def _one_slow(parts: ObjectiveParts, seconds: Seconds) -> dict[str, list[Asked]]:
    await parts.be(Fleet("all", 5, FAST, ALL_FAST))
    await parts.be(Fleet("fast", 4, FAST, ONE_SLOW))
    await parts.be(Fleet("slow", 1, SLOW, ONE_SLOW))
    await parts.be(Fleet("drawn", 4, FAST, subject=AT_RANDOM))
    await parts.be(Fleet("drawn-slow", 1, SLOW, subject=AT_RANDOM))
    subjects = {
        "all fast": request_subject(ALL_FAST),
        "one slow": request_subject(ONE_SLOW),
        "queue group": AT_RANDOM,
    }
    count = int(_SLOW_PER_S * seconds.slow)
    loads = (parts.load(subject).play(poisson(1, _SLOW_PER_S, count)) for subject in subjects.values())
    return dict(zip(subjects, map(list, await asyncio.gather(*loads)), strict=True))


async def _one_fails(parts: ObjectiveParts, seconds: Seconds) -> tuple[list[Asked], list[float]]:
    await parts.be(Fleet("mixed", 5, FAST, FAILING))
    load = parts.load(request_subject(FAILING))
    count = int(_FAILING_PER_S * (seconds.warm_up + seconds.failing))
    playing = asyncio.ensure_future(load.play(poisson(4, _FAILING_PER_S, count)))
    await asyncio.sleep(seconds.warm_up)
    await parts.change("mixed-3", fails=0.5)
    begun = perf_counter()  # all processes read the one clock of the machine
    got = [each for each in await playing if load.begun + each.at >= begun]
    return got, [at - begun for at in await parts.given_at("mixed-3")]


def show(console: Console, run: Run) -> None:
    """A table of 80 columns, and the goals."""
    say = "Five workers of 25 ms and four places, requests as they come, 40 % of what four and a slow one can do:"
    console.print(f"\n{say}", highlight=False)
    table = Table(box=SIMPLE)
    table.add_column("ms", min_width=24)
    for quantile in QUANTILES:
        table.add_column(f"p{100 * quantile:g}", justify="right")
    for lane, got in run.slow.items():
        table.add_row(lane, *(f"{quantile_ms(got, quantile):,.1f}" for quantile in QUANTILES))
    console.print(table)
    for name, numbers in run.found().items():
        console.print(f"[bold]{name}[/]", highlight=False)
        for found in numbers:
            goal = "" if found.goal is None else f" (goal {'≤' if found.at_most else '≥'} {found.goal:g}{found.unit})"
            mark = " " if found.goal is None else "[green]✓[/]" if found.met else "[red]✗[/]"
            console.print(f"{mark} {found.what}: {found.value:.4g}{found.unit}{goal}", highlight=False)


if __name__ == "__main__":
    main()
