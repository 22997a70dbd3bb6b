"""Owns the picture of one run: latency, throughput and CPU of every lane, side by side for each load.

The one module that needs matplotlib; it is imported when a picture is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.figures import Row, rows
from bench.machine import Machine
from bench.paths import REQUESTS
from bench.rounds import LOADS, Plan, Sample

_OURS, _OTHERS, _SECOND = "#c2410c", "#64748b", "#cbd5e1"


def draw(path: Path, machine: Machine, plan: Plan, samples: list[Sample]) -> None:
    """Write the picture, a PNG."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(LOADS), sharey=True)
    for column, in_flight in enumerate(LOADS):
        found = rows(samples, REQUESTS, in_flight)[::-1]
        axes[0][column].set_title(f"{in_flight} in flight")
        _latency(axes[0][column], found)
        _throughput(axes[1][column], found)
        _cpu(axes[2][column], found)
        for row in axes:
            row[column].spines[["top", "right"]].set_visible(False)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    figure.suptitle(
        f"{machine.cores} × {machine.cpu}, {machine.system}, {machine.day}\n{versions}\n"
        f"medians of {plan.rounds} interleaved rounds, 128 B of JSON",
        fontsize=9,
    )
    figure.savefig(path, format="png", dpi=120)


def _bars(axis: Any, found: list[Row], values: list[float], **more: Any) -> None:
    colours = [_OURS if row.lane.router == "crank" else _OTHERS for row in found]
    axis.barh([row.lane.name for row in found], values, **{"color": colours, **more})


def _latency(axis: Any, found: list[Row]) -> None:
    _bars(axis, found, [row.p99_ms for row in found], color=_SECOND)
    _bars(axis, found, [row.p50_ms for row in found], height=0.5)
    axis.set_xlabel("latency, ms: p50, and p99 behind it")


def _throughput(axis: Any, found: list[Row]) -> None:
    _bars(axis, found, [row.per_second for row in found])
    axis.set_xlabel("requests a second")


def _cpu(axis: Any, found: list[Row]) -> None:
    router = [row.router_us or 0.0 for row in found]
    _bars(axis, found, router)
    _bars(axis, found, [row.worker_us or 0.0 for row in found], left=router, color=_SECOND)
    axis.set_xlabel("CPU, µs a request: router, then who answers")
