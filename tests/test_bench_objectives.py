"""The benchmark of objectives: one short run whose figures are looked at for their shape, never for their size."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench import objectives
from bench.machine import this_machine
from bench.objectives import Run, Seconds, measure, show
from simulation.scenarios.arrivals import Asked
from tests.conftest import missing

SHORT = Seconds(slow=1.0, prices=1.0, crowd=1.0, warm_up=0.5, failing=2.0)


def test_a_short_run_has_every_scenario_and_every_goal(tmp_path: Path) -> None:
    """On real processes: all is answered, and table and picture can be made of it."""
    run = asyncio.run(measure(SHORT))
    lengths = {len(asked) for asked in run.slow.values()}
    assert len(lengths) == 1, "the same requests for all"
    for asked in (*run.slow.values(), run.prices, run.failing):
        assert asked
        assert {each.outcome for each in asked} == {"answered"}
    assert {each.outcome for each in run.crowd} == {"answered", "503"}
    assert 0 < sum(each.tokens for each in run.prices) < 5 * len(run.prices)
    assert run.given_s
    goals = [found.what for numbers in run.found().values() for found in numbers if found.goal is not None]
    assert len(goals) == 7
    told = StringIO()
    show(Console(file=told, width=80), run)
    assert max(map(len, told.getvalue().splitlines())) <= 80
    assert all(what in told.getvalue() for what in goals)
    if find_spec("matplotlib") is None:
        missing("what the benchmark draws with is not here; `make .venv/.peers` installs it")
    from bench.objective_plot import draw

    draw(tmp_path / "it.png", this_machine(), run)
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def _run(given_s: list[float]) -> Run:
    """Requests of ten seconds, a hundred each; one worker is given something at these times."""
    failing = [Asked(at=7.0 + number / 100, outcome="answered") for number in range(1000)]
    return Run({}, [], [], failing, given_s)


@pytest.mark.parametrize(
    ("given_s", "after"),
    [
        ([-0.2, 0.1, 0.2, 0.405], 41),
        ([-0.2, 0.1, 0.405, 5.0], 41),
        ([0.5 * number for number in range(20)], 1000),
    ],
)
def test_who_is_asked_no_more_for_a_second_is_demoted(given_s: list[float], after: int) -> None:
    """It is told in requests of the whole fleet; who is asked to the end was never demoted."""
    assert _run(given_s).demoted_after == after


def test_what_runs_for_long_is_the_default() -> None:
    """A p99 is of thousands of requests, and the whole of it takes a minute and a half at most."""
    seconds = Seconds()
    assert objectives._SLOW_PER_S * seconds.slow > 5000
    assert sum(getattr(seconds, name) for name in seconds.__struct_fields__) < 75
