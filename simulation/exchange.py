"""Owns one request on its way: its dice, what the plan does to its messages, and what its caller got in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from simulation.dice import Dice
from simulation.network import LEAST_S, MOST_S, Network
from simulation.plan import Call, Hop


class Exchange:
    """One request, its dice, and what the plan does to its messages."""

    __slots__ = ("_network", "_seen", "arrived", "call", "calm", "delay_s", "dice", "outcome", "who")

    def __init__(self, call: Call, seed: int, network: Network, *, who: str = "", calm: bool = False) -> None:
        self.call = call
        self.who = who
        """Whose, where it is no caller's of the plan."""
        self.calm = calm
        """Whether it is quickly done, by whoever does it."""
        self.dice = Dice(seed, 5, call.number)
        self.delay_s = self.dice.between(LEAST_S, MOST_S)
        self.arrived = False
        """Whether it came to a controller already; if it was doubled, it comes again."""
        self.outcome = ""
        """What its caller got, in a word; "" while nothing came."""
        self._network = network
        self._seen: Counter[Hop] = Counter()

    def mishap(self, hop: Hop) -> str | None:
        """What the plan does to the next message, or worker, of this hop."""
        if not self.call.mishaps:
            return None
        self._seen[hop] += 1
        nth = self._seen[hop]
        for mishap in self.call.mishaps:
            if mishap.on == hop and mishap.nth == nth:
                self._network.faults[f"{hop} {mishap.kind}"] += 1
                return mishap.kind
        return None

    def carry(self, hop: Hop, act: Callable[..., object], *args: Any) -> None:
        """Carry the next message of this hop."""
        self._network.carry(self.mishap(hop), self.delay_s, self.dice, act, *args)
