"""``python -m bench.selection``: what deciding costs among ten workers and among ten thousand, and a worker's memory.

It drives the core alone, without NATS: the same events that the edge would make.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import msgspec
from rich.console import Console

from bench import report
from bench.figures import Ratio, ratio
from bench.machine import this_machine
from controller.core.admission import admit
from controller.core.commands import Authorize, Command, Dispatch
from controller.core.events import (
    Answered,
    EntrySeen,
    HeartbeatSeen,
    RequestArrived,
    RulesChanged,
    StoredManifest,
    VerdictReached,
)
from controller.core.model import Request, Verdict
from controller.core.objectives import Objective, Rules
from controller.core.registry import Registry
from controller.core.router import Router
from controller.core.selection import choose
from controller.core.world import Life, World
from controller.edge.inbound import digest_of
from subjects.answers import Result
from subjects.manifests import Manifest, parse_manifest
from subjects.messages import Heartbeat
from subjects.requests import NO_HEADERS, RequestHeaders
from subjects.tokens import CapabilityId, DispatchId, RequestId, WorkerId

FEW, FLEET = 10, 10_000
RATIO_GOAL, MEMORY_GOAL_B = 2.0, 4096
DECISION_GOAL_US, FLEET_DECISION_GOAL_US = 15.0, 30.0
_HELLO = CapabilityId("greet:hello_world")
_ALLOWED = Verdict(allow=True, reason="", valid_for_s=1e9)
# Every group of metadata, as the reference worker declares it.
_CAPABILITY: dict[str, Any] = {
    "verb": "greet", "name": "hello_world", "version": "1.0.0", "max_concurrency": 8, "idempotent": True,
    "input_schema": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 100}}},
    "output_schema": {"type": "object", "properties": {"greeting": {"type": "string"}}, "required": ["greeting"]},
    "runtime": "python3.11", "env_profile": "python-core",
    "constraints": {"min_memory_mb": 64, "max_memory_mb": 128, "cpu_shares": 128, "timeout_s": 5},
    "slo": {"latency_p50_ms": 50, "latency_p95_ms": 100, "latency_p99_ms": 200, "availability_pct": 99.5},
    "required_capabilities": ["convert:text_to_stream"], "cost_tokens_per_invocation": 0.1, "slo_bid": 1.0,
    "controller_affinity": ["controller-a"],
}  # fmt: skip


# Of five offers in the fleet that is ruled, each is another kind; the two that are left are as they should be.
_UNKNOWN, _TOO_SLOW, _FAILING = 0, 1, 2
_ANSWERS = 10
# No worker is as quick as that.
_HURRY_MS = 5


class _Patience:
    def timeout_ms(self, capability: CapabilityId) -> int:
        return 30_000


class Fleet:
    """A router's core with so many workers of one capability, all alive."""

    def __init__(self, size: int) -> None:
        self.now = 1.0
        self.dice = random.Random(1)
        self.registry = Registry(interval_s=60.0)
        self.router = Router(World("bench", self.registry, _Patience(), lambda schema, body: None, self.dice))
        self._serial = 0
        self.hurry(None)
        for number in range(size):
            self._join(number)

    def _join(self, number: int) -> None:
        # As it comes out of the registry stream: one JSON text a worker, nothing shared that the core does not share.
        worker_id = f"hello-{number}"
        body = json.dumps(
            {"worker_id": worker_id, "instance": f"{number:032x}", "capabilities": [_CAPABILITY],
             "spiffe_id": "spiffe://crank.local/worker/hello-world"}
        ).encode()  # fmt: skip
        manifest = parse_manifest(body, worker_id)
        assert isinstance(manifest, Manifest)
        self._handle(EntrySeen(StoredManifest(WorkerId(worker_id), number + 1, manifest, digest_of(body))))
        self._handle(HeartbeatSeen(WorkerId(worker_id), Heartbeat(1, manifest.instance, 0, 8)))

    def _handle(self, event: Any) -> list[Command]:
        return self.router.handle(event, self.now)

    def request(self) -> None:
        """A request's whole way through the core: arrival, choice, dispatch, answer, record."""
        self._serial += 1
        self.now += 1e-6
        request = Request(_HELLO, "anonymous", RequestId(str(self._serial)), "reply", NO_HEADERS, b"{}")
        commands = self._handle(RequestArrived(request))
        first = commands[0]
        if isinstance(first, Authorize):
            commands = self._handle(VerdictReached(first.life, _ALLOWED))
            first = commands[0]
        assert isinstance(first, Dispatch), first
        self._handle(Answered(DispatchId(first.dispatch_id), Result(b"{}")))

    def rule(self) -> None:
        """Ask something of all, and have them differ: ten prices, some too slow, failing, unknown, or with a peak."""
        rules = Rules({_HELLO: Objective(_HELLO, p99_ms=200.0, availability=0.995, budget=0.005)})
        self._handle(RulesChanged(rules))
        health, group = self.router.health, self.registry.groups[_HELLO]
        group.pool(None, None)
        for number, offer in enumerate(list(group.offers)):
            of_ten, kind = number % 10, number // 10 % 5 if len(group.offers) > FEW else number % 5
            health.renew_bids(offer.worker, {_HELLO: 1.0 + of_ten}, self.now)
            if kind == _UNKNOWN:
                continue
            for turn in range(_ANSWERS):
                health.answered(offer, 500.0 if kind == _TOO_SLOW else 20.0 + number % 7 + turn % 3, self.now)
            for _ in range(3 if kind == _FAILING else 0):
                health.failed(offer, 20.0, self.now)

    def hurry(self, latency_ms: int | None) -> None:
        """From now on ``decision`` is about a request that asks for this."""
        headers = RequestHeaders(latency_ms=latency_ms)
        request = Request(_HELLO, "anonymous", RequestId("decision"), "reply", headers, b"{}")
        self._life = Life(request, self.now, self.now + 30.0, "", "")

    def decision(self) -> None:
        """What to do with one request: somebody who is to show what they can do, the cheapest in time, or the line."""
        group = self.registry.groups[_HELLO]
        admit(self._life, group, group.pool(None, None), self.router.world)

    def choice(self) -> None:
        """The choice of a worker alone."""
        pool = self.registry.groups[_HELLO].pool(None, None)
        assert choose(pool, 30_000.0, (), self.now, self.dice) is not None


def _us(step: Callable[[], None], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        step()
    return (perf_counter() - start) / times * 1e6


class Row(msgspec.Struct, frozen=True):
    """What one step costs in a small and in a large fleet: medians of the rounds, microseconds, and their ratio."""

    few_us: float
    fleet_us: float
    ratio: Ratio


def compare(few: Fleet, fleet: Fleet, what: str, rounds: int, times: int, name: str = "") -> Row:
    """Interleaved rounds of the step that ``what`` names, in both fleets; ``name`` says more of it."""
    pairs = []
    for _ in range(rounds):
        small, large = (_us(getattr(each, what), times) for each in (few, fleet))
        pairs.append((small, large))
    each = [large / small for small, large in pairs]
    compared = ratio(f"{FLEET:,} / {FEW} workers", name or what, each, RATIO_GOAL, at_most=True)
    return Row(median(small for small, _ in pairs), median(large for _, large in pairs), compared)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def worker_bytes(resident: bool) -> float:
    """Memory a registered worker takes, over ``FLEET`` of them: of the process, or as Python counts it."""
    Fleet(FEW)  # what is made once is made before
    gc.collect()
    if not resident:
        tracemalloc.start()
    before = _resident_bytes() if resident else tracemalloc.get_traced_memory()[0]
    fleet = Fleet(FLEET)
    fleet.request()  # the first one makes the pool that every later one draws from
    gc.collect()
    after = _resident_bytes() if resident else tracemalloc.get_traced_memory()[0]
    assert len(fleet.registry.workers) == FLEET
    return (after - before) / FLEET


def _in_a_fresh_process(resident: bool) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(worker_bytes, resident).result()


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds; the figures are rougher.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here.")
def main(quick: bool, json_file: Path | None) -> None:
    """What deciding costs as the fleet grows, and what a registered worker weighs, in the core alone."""
    console = Console()
    machine = this_machine()
    report.show_machine(console, machine)
    few, fleet = Fleet(FEW), Fleet(FLEET)
    ruled = Fleet(FEW), Fleet(FLEET)
    for each in ruled:
        each.rule()
    gc.collect()
    gc.freeze()  # the fleets' own objects; what requests leave behind is still collected
    rounds, times = (3, 5_000) if quick else (9, 20_000)
    rows = [compare(few, fleet, what, rounds, times) for what in ("choice", "request")]
    rows.append(compare(*ruled, "decision", rounds, times))
    for each in ruled:
        each.hurry(_HURRY_MS)
    rows.append(compare(*ruled, "decision", rounds, times // 10, "decision when nobody is in time"))
    console.print()
    for row in rows:
        say = f"{row.ratio.what}: {row.few_us:.2f} µs among {FEW}, {row.fleet_us:.2f} µs among {FLEET:,}"
        console.print(say, highlight=False, soft_wrap=True)
    for row in rows[:2]:
        report.show_ratio(console, row.ratio)
    decision = rows[2]
    for us, goal, size in (
        (decision.few_us, DECISION_GOAL_US, FEW),
        (decision.fleet_us, FLEET_DECISION_GOAL_US, FLEET),
    ):
        mark = "[green]✓[/]" if us <= goal else "[red]✗[/]"
        say = f"decision with an objective, prices and tiers, {size:,} workers: {us:.2f} µs (goal ≤ {goal:g} µs)"
        console.print(f"{mark} {say}", highlight=False, soft_wrap=True)
    by_python = _in_a_fresh_process(resident=False)
    resident = _in_a_fresh_process(resident=True) if sys.platform == "linux" else by_python
    heaviest = max(by_python, resident)
    mark = "[green]✓[/]" if heaviest <= MEMORY_GOAL_B else "[red]✗[/]"
    console.print(
        f"{mark} memory of a registered worker: {resident:,.0f} B of the process, {by_python:,.0f} B by Python's count "
        f"(goal ≤ {MEMORY_GOAL_B:,} B)",
        highlight=False,
        soft_wrap=True,
    )
    if json_file is not None:
        figures = {"machine": machine._asdict(), "rows": rows, "resident_b": resident, "python_b": by_python}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


if __name__ == "__main__":
    main()
