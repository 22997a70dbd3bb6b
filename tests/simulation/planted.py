"""Planted defects: what each is called, the law that it breaks, and the first of some runs that finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from controller.core.router import Router
from simulation.draw import draw_plan
from simulation.plan import Plan
from simulation.world import Result, run

Plant = Callable[[pytest.MonkeyPatch], None]
DEFECTS: dict[str, tuple[tuple[str, ...], Plant]] = {}
_make = Router.__init__


def breaks(*laws: str) -> Callable[[Plant], Plant]:
    """Plant this, and the law is broken; of several, the one that is looked at first."""

    def note(plant: Plant) -> Plant:
        DEFECTS[plant.__name__] = (laws, plant)
        return plant

    return note


def also(monkeypatch: pytest.MonkeyPatch, do: Callable[[Router], None]) -> None:
    """Do this to every router that is made."""

    def make(router: Router, *args: Any) -> None:
        _make(router, *args)
        do(router)

    monkeypatch.setattr(Router, "__init__", make)


def first_broken(*plans: Plan, seeds: Iterable[int] = range(1, 20)) -> Result:
    """The first of some runs that breaks a law."""
    for plan in (*plans, *(draw_plan(seed, 400) for seed in seeds)):
        result = run(plan)
        if result.law:
            return result
    pytest.fail("no law was broken")
