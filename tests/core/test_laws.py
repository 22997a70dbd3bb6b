"""The laws of the core, under everything that can happen in any order."""

from __future__ import annotations

import pytest
from disorder import NAMES, Chaos, any_steps
from harness import House
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.commands import Authorize
from controller.core.world import Life, Steps, World


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_every_request_ends_once_and_nothing_is_left(seed: int) -> None:
    """One terminal reply a request, one dispatch at a time, never to a worker that may not have it; no leaks."""
    chaos = Chaos(seed)
    for name, step_seed in any_steps(seed, 400):
        chaos.step(name, step_seed)
    chaos.calm()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(set(NAMES))), st.integers(0, 2**20)), max_size=60))
def test_no_order_of_events_breaks_a_law(steps: list[tuple[str, int]]) -> None:
    """As above, in orders that can be cut down to the steps that matter."""
    chaos = Chaos(0)
    for name, seed in steps:
        chaos.step(name, seed)
    chaos.calm()


def _told(house: House) -> list[object]:
    return [(type(c), c.request) if isinstance(c, Authorize) else c for c in house.log]


def test_the_same_seed_and_events_give_the_same_commands() -> None:
    """A run can be repeated from its seed."""
    runs = []
    for _ in range(2):
        chaos = Chaos(7)
        for name, seed in any_steps(7, 300):
            chaos.step(name, seed)
        runs.append(_told(chaos))
    assert runs[0] == runs[1]


def test_a_life_that_goes_round_in_circles_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of that kind is told, and the router serves on."""
    from controller.core import lives
    from controller.core.commands import Release

    def circles(life: Life, world: World) -> Steps:
        while True:
            yield Release()

    house = House()
    house.register("w-1")
    monkeypatch.setitem(lives.LIVES, "result", circles)
    with pytest.raises(RuntimeError, match="goes round in circles"):
        house.result("a" * 52)
    assert house.request().dispatches
