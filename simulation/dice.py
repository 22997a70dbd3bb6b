"""Owns chance: small dice, of which everybody has their own.

Whatever is taken out of a plan changes nobody else's luck, and the same seeds give the same numbers on every machine.

Source: SplitMix64, Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators* (2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

T = TypeVar("T")


class Dice:
    """The part of ``random.Random`` that the core and the simulation use, in eight bytes."""

    __slots__ = ("_state",)

    def __init__(self, *seeds: int) -> None:
        self._state = 0
        self.start_from(*seeds)

    def start_from(self, *seeds: int) -> None:
        """Forget what was drawn, and begin where these seeds begin."""
        self._state = 0
        for seed in seeds:
            self._state = (self._state ^ seed) & _MASK
            self._state = self._next()

    def _next(self) -> int:
        self._state = state = (self._state + _GAMMA) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def random(self) -> float:
        """From [0, 1)."""
        return (self._next() >> 11) * 2.0**-53

    def randbytes(self, n: int, /) -> bytes:
        """``n`` bytes."""
        drawn = b""
        while len(drawn) < n:
            drawn += self._next().to_bytes(8, "big")
        return drawn[:n]

    def choice(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[int(self.random() * len(among))]

    def between(self, least: float, most: float) -> float:
        """Anything in between."""
        return least + self.random() * (most - least)

    def spread(self, mean: float) -> float:
        """Exponentially distributed around ``mean``: mostly less, now and then much more."""
        return -mean * math.log(1.0 - self.random())
