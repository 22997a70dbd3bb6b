"""Runs of the simulated world: the laws hold whatever the seed, and the same seed gives the same history."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from simulation.draw import draw_plan
from simulation.plan import MISHAPS, as_json, from_json
from simulation.world import Result, run

SEEDS, REQUESTS = range(1, 9), 2000


@cache
def ran(seed: int) -> Result:
    """A short run."""
    return run(draw_plan(seed, REQUESTS))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_law_is_broken(seed: int) -> None:
    """By any of a few seeds; ``make sim`` tries more."""
    result = ran(seed)
    assert (result.law, result.detail) == ("", "")
    assert result.requests == REQUESTS
    assert sum(result.outcomes.values()) >= REQUESTS, (
        "one that is refused for want of controllers and doubled counts twice"
    )


def test_a_few_seeds_have_every_fault_and_every_outcome() -> None:
    """What never happens proves nothing."""
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    for seed in SEEDS:
        result = ran(seed)
        faults.update(result.faults)
        outcomes.update(result.outcomes)
        keys.update(result.keys)
    assert not {f"{hop} {kind}" for hop, kinds in MISHAPS.items() for kind in kinds} - set(faults)
    for whom, kinds in {
        "worker": ("kill", "drain", "freeze", "hang", "slow", "cut"),
        "controller": ("kill", "stop", "freeze", "cut", "fast", "slow", "jump"),
        "registry": ("away", "replaced", "lost", "unanswered"),
        "claims": ("away", "full", "filling", "replaced", "lost", "late", "doubled", "unanswered"),
        "jobs": ("away", "lost", "unanswered"),
        "notice": ("lost", "late", "doubled"),
        "operator": ("settle", "release", "retry", "drop"),
        "heartbeat": ("lost", "late", "doubled", "overtaken"),
    }.items():
        assert not {f"{whom} {kind}" for kind in kinds} - set(faults)
    assert outcomes["answered"] > outcomes.total() / 2
    for outcome in (
        *("cancelled", "deadline", "invalid_input", "no_match", "no_such_capability", "no_worker", "overloaded"),
        *("store_unavailable", "worker_error", "worker_lost", "worker_protocol"),
        *("replayed", "in_progress", "key_reused", "outcome_unknown"),
        *("accepted", "result done", "result dead", "result queued", "result running", "no_such_job"),
    ):
        assert outcomes[outcome], outcome
    for what in (
        *("claim waiting", "claim dispatching", "claim done", "claim unknown", "claim dead", "claim cancelled"),
        *("claim released", "claim taken over", "job accepted", "job delivered again"),
        *("cancel answered", "operator answered", "again result done"),
    ):
        assert keys[what], what


def test_the_same_plan_gives_the_same_history() -> None:
    """Also when it was a file in between; another seed gives another one."""
    plan = draw_plan(3, 300)
    again = from_json(as_json(plan))
    assert again == plan
    assert run(again) == run(plan)
    assert run(draw_plan(4, 300)).digest != run(plan).digest


def test_another_process_has_the_same_history() -> None:
    """Whatever order its sets and dictionaries of text have."""
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "simulation", "--requests", "300", "--seed", "5"],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        digests.update(line for line in done.stdout.splitlines() if b"digest" in line)
    assert len(digests) == 1


def test_more_requests_begin_with_the_same_ones() -> None:
    """So that a failure far on is found again with fewer."""
    few, many = draw_plan(6, 50), draw_plan(6, 100)
    assert (few.controllers, few.workers) == (many.controllers, many.workers)
    assert many.happenings[: len(few.happenings)] == few.happenings
