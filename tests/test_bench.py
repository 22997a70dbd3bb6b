"""The benchmark: one short run whose figures are looked at for their shape, never for their size."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.figures import GOALS, ratios, rows
from bench.paths import DISPATCHES, REQUESTS
from bench.rounds import ALONE, LOADS, MANY, Sample
from crank.slo.measured import read
from tests.conftest import missing

_ROOT = Path(__file__).resolve().parent.parent
_PNG = b"\x89PNG\r\n\x1a\n"


def _sample(lane: str, in_flight: int, number: int, per_second: float, p50_ms: float, router_us: float) -> Sample:
    return Sample(lane, in_flight, number, p50_ms, 2 * p50_ms, per_second, {lane: router_us, "nats": 1.0}, 0.0)


def test_a_quick_run_measures_every_lane_at_every_load_and_judges_every_goal(tmp_path: Path) -> None:
    """`python -m bench --quick` measures all lanes, says machine and versions, and writes table, JSON and picture."""
    if find_spec("faststream") is None or find_spec("matplotlib") is None:
        missing("what the benchmark compares with and draws with is not here; `make .venv/.peers` installs it")
    figures, measured, picture = (tmp_path / name for name in ("bench.json", "measured.json", "bench.png"))
    files = ["--json", str(figures), "--measured", str(measured), "--png", str(picture)]
    command = [sys.executable, "-m", "bench", "--quick", *files]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert max(map(len, ran.stdout.splitlines())) <= 80
    assert picture.read_bytes().startswith(_PNG)
    told = json.loads(figures.read_bytes())
    versions = told["machine"]["versions"]
    assert {"python", "nats-server", "nats-py", "uvloop", "faststream", "crank-router"} <= set(versions)
    for said in (*versions.values(), told["machine"]["cpu"], *(lane.name for lane in REQUESTS + DISPATCHES)):
        assert said in ran.stdout
    asked = {(lane.name, load) for lane in REQUESTS for load in LOADS} | {(lane.name, MANY) for lane in DISPATCHES}
    assert {(sample["lane"], sample["in_flight"]) for sample in told["samples"]} == asked
    assert len(told["samples"]) == told["plan"]["rounds"] * len(asked)
    assert all(0 < s["p50_ms"] <= s["p99_ms"] and s["per_second"] > 0 for s in told["samples"])
    # The same requests, as the gate reads them.
    (alone,) = read(measured).values()
    p50s = [s["p50_ms"] for s in told["samples"] if s["lane"] == "crank" and s["in_flight"] == ALONE]
    assert min(p50s) * 0.99 <= (alone.quantile(0.5) or 0.0) <= max(p50s) * 1.01
    # A process's CPU is seen in /proc.
    judged = [goal.what for goal in GOALS if "CPU" not in goal.what or sys.platform == "linux"]
    assert [ratio["what"] for ratio in told["ratios"]] == judged


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """A round on a busy machine slows both lanes, and their ratio in that round counts like any other."""
    pace = {0: 1.0, 1: 4.0, 2: 1.0}
    samples = [
        sample
        for number, slow in pace.items()
        for load in LOADS
        for sample in (
            _sample("pass-through", load, number, 1000 / slow, 1.0 * slow, 20.0),
            _sample("crank", load, number, (500 + 100 * number) / slow, 1.1 * slow, 30.0 + 20 * number),
            _sample("crank, keyed", load, number, 300 / slow, 1.8 * slow, 60.0),
            _sample("crank, again", load, number, 700 / slow, 1.0 * slow, 20.0),
            _sample("bare nats-py", load, number, 1000 / slow, 1.0, 20.0),
            _sample("SDK, bytes", load, number, 700 / slow, 1.0, 20.0),
        )
    ]
    found = {(ratio.who, ratio.what): ratio for ratio in ratios(samples)}
    assert len(found) == len(GOALS)
    p50 = found["crank / pass-through", "p50 at 1 in flight"]
    assert p50.median == pytest.approx(1.1)
    assert p50.met
    throughput = found["crank / pass-through", "throughput at 64"]
    assert (throughput.least, throughput.median, throughput.greatest) == pytest.approx((0.5, 0.6, 0.7))
    assert throughput.met
    cpu = found["crank / pass-through", "router CPU a request at 64"]
    assert cpu.median == pytest.approx(2.5)
    assert not cpu.met
    assert not found["SDK, bytes / bare nats-py", "throughput at 64"].met
    keyed = found["crank, keyed / pass-through", "p50 at 1 in flight"]
    assert keyed.median == pytest.approx(1.8)
    assert keyed.met
    assert not found["crank, keyed / pass-through", "throughput at 64"].met
    assert not found["crank, again / pass-through", "throughput at 64"].met


def test_a_row_is_the_median_over_the_rounds_and_a_process_that_has_no_part_has_no_cpu() -> None:
    """The table shows medians; a direct request has no router, and its column stays empty."""
    samples = [_sample("crank", MANY, number, per_second, 1.0, 30.0) for number, per_second in enumerate((9, 1, 5))]
    samples.append(_sample("direct", MANY, 0, 3.0, 1.0, 1.0))
    direct, crank = rows(samples, REQUESTS, MANY)
    assert (crank.lane.name, crank.per_second, crank.router_us, crank.nats_us) == ("crank", 5, 30.0, 1.0)
    assert direct.router_us is None
    assert rows(samples, REQUESTS, 1) == []


def test_a_killed_controllers_successor_answers_with_a_thousand_workers_known(tmp_path: Path) -> None:
    """`python -m bench.recovery --quick` kills two controllers and tells what their successors took."""
    figures = tmp_path / "recovery.json"
    command = [sys.executable, "-m", "bench.recovery", "--quick", "--json", str(figures)]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(figures.read_bytes())
    assert told["workers"] == 1000
    assert len(told["rounds"]) == 2
    assert all(one["imports_s"] > 0 for one in told["rounds"])
    assert "its own time" in ran.stdout


def test_to_draw_without_what_draws_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    """Without matplotlib, ``--png`` names what to do and measures nothing."""
    hidden = (
        "import sys; sys.modules['matplotlib'] = None; import runpy; runpy.run_module('bench', run_name='__main__')"
    )
    command = [sys.executable, "-c", hidden, "--png", str(tmp_path / "bench.png")]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "make bench" in ran.stderr
    assert "Traceback" not in ran.stderr
