"""Owns the way of a message: how long it takes, and whether it is lost, late, doubled or overtaken.

It knows nothing of what it carries. Messages of one request keep their order, unless one is meant to be overtaken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from simulation.clock import Clock
from simulation.dice import Dice

# A hop on one machine or in one room.
LEAST_S, MOST_S = 0.0002, 0.002
_LATE_S = (0.02, 3.0)
_OVERTAKEN_S = (0.003, 0.05)
# nats-server notices after about so long that a connection is dead; until then it goes on handing messages to it.
PING_S = 2.0
# What share of heartbeats, registrations and the like is harmed, where there is noise at all.
_NOISE = 0.08
# Of what is seldom sent: a notice is an answer to a question that may have been lost as well.
_NOISE_OF = {"notice": 0.4}
_NOISES = ("lost", "lost", "late", "doubled", "overtaken")


class Network:
    """Carries everything. ``faults`` counts what was done to whom."""

    def __init__(self, clock: Clock, *, noise: bool) -> None:
        self.noise = noise
        self.faults: Counter[str] = Counter()
        self._clock = clock

    def carry(self, mishap: str | None, delay_s: float, dice: Dice, act: Callable[..., object], *args: Any) -> None:
        """Call ``act(*args)`` when the message arrives, as often as it does."""
        if mishap is not None:
            if mishap == "lost":
                return
            if mishap == "doubled":
                self._clock.after(delay_s + dice.between(*_OVERTAKEN_S), act, *args)
            elif mishap == "late":
                delay_s += dice.between(*_LATE_S)
            else:
                delay_s += dice.between(*_OVERTAKEN_S)
        self._clock.after(delay_s, act, *args)

    def carry_noisily(self, what: str, dice: Dice, act: Callable[..., object], *args: Any) -> None:
        """As ``carry``, for what no plan names: harmed now and then."""
        mishap = None
        if self.noise and dice.random() < _NOISE_OF.get(what, _NOISE):
            mishap = dice.choice(_NOISES)
            self.faults[f"{what} {mishap}"] += 1
        self.carry(mishap, dice.between(LEAST_S, MOST_S), dice, act, *args)
