"""Owns the picture of ``bench.objectives``: how long answers take, what they cost, and what becomes of too many.

It needs matplotlib, and is imported when a picture is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.machine import Machine
from simulation.scenarios.arrivals import share

if TYPE_CHECKING:
    from bench.objectives import Run

_COLOURS = {"all fast": "#94a3b8", "one slow": "#c2410c", "queue group": "#1e293b"}
_OURS, _OTHERS, _LIGHT = "#c2410c", "#64748b", "#cbd5e1"


def draw(path: Path, machine: Machine, run: Run) -> None:
    """Write the picture, a PNG."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _latencies(axes[0][0], run)
    _prices(axes[0][1], run)
    _crowd(axes[1][0], run)
    _failing(axes[1][1], run)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    figure.suptitle(
        f"{machine.cores} × {machine.cpu}, {machine.system}, {machine.day}\n{versions}",
        fontsize=9,
    )
    figure.savefig(path, format="png", dpi=120)


def _latencies(axis: Any, run: Run) -> None:
    for lane, asked in run.slow.items():
        took = sorted(each.took_ms for each in asked)
        slower = [1.0 - at / len(took) for at in range(len(took))]
        axis.plot(took, slower, label=lane, color=_COLOURS[lane], linewidth=1.5)
    axis.axhline(0.01, color=_LIGHT, linewidth=0.8, zorder=0)
    axis.set(xscale="log", yscale="log", xlabel="ms", ylabel="share that takes longer")
    axis.set_title("One of five is ten times slower", fontsize=10)
    axis.legend(frameon=False, fontsize=8)


def _prices(axis: Any, run: Run) -> None:
    met, cost = (found.value for found in run.found()["cheap slow and dear fast workers"])
    axis.barh(["cost", "objective met"], [100.0, 100.0], color=_LIGHT)
    axis.barh(["cost", "objective met"], [cost, met], color=_OURS, height=0.5)
    axis.set_xlabel("% of dear workers alone")
    axis.set_title("Cheap slow and dear fast workers", fontsize=10)


def _crowd(axis: Any, run: Run) -> None:
    names = ["low", "normal", "high"]
    by = [[each for each in run.crowd if each.priority == name] for name in names]
    axis.barh(names, [100.0] * 3, color=_LIGHT)
    axis.barh(names, [100.0 * share(each, run.crowd_ms) for each in by], color=_OURS, height=0.5)
    axis.set_xlabel("% of requests answered within the objective, by priority")
    axis.set_title("Twice as many requests as can be done", fontsize=10)


def _failing(axis: Any, run: Run) -> None:
    given = [at for at in run.given_s if at > -1.0]
    axis.hist(given, bins=[step / 5 for step in range(-5, 26)], color=_OURS)
    axis.axvline(0.0, color=_OTHERS, linewidth=0.8)
    axis.set(xlabel="seconds since it began to fail half of its requests", ylabel="dispatches to it, each 0.2 s")
    axis.set_title("One of five begins to fail", fontsize=10)
