"""Owns guessing which capability a caller meant, at a bounded cost: names are free to make up, guesses are not.

A guess compares texts, which takes more than a hundred requests' worth of time. So few names are compared, what was
guessed is kept, and there are only so many guesses a second; beyond that the refusal has no guess in it.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from subjects.tokens import CapabilityId, split_capability

SHOWN = 3
# Names compared for one guess, about 1.5 ms; those that share the verb or the name come first.
AMONG = 50
GUESSES_PER_S = 20.0
KEPT = 1000
# How alike two names have to be, from 0 to 1; difflib's own default.
_CUTOFF = 0.6


class Nearby:
    """The guesses of one controller."""

    def __init__(self) -> None:
        self._kept: dict[CapabilityId, tuple[str, ...]] = {}
        self._among = 0
        self._left = GUESSES_PER_S
        self._at = 0.0

    def guess(self, wanted: CapabilityId, known: Collection[CapabilityId], now: float) -> tuple[str, ...]:
        """Up to three of ``known`` that look like ``wanted``; none when there were too many guesses lately."""
        if len(known) != self._among:
            self._kept.clear()
            self._among = len(known)
        near = self._kept.get(wanted)
        if near is None:
            self._left = min(GUESSES_PER_S, self._left + (now - self._at) * GUESSES_PER_S)
            self._at = now
            if self._left < 1.0:
                return ()
            self._left -= 1.0
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            near = self._kept[wanted] = _alike(wanted, known)
        return near


def _alike(wanted: CapabilityId, known: Collection[CapabilityId]) -> tuple[str, ...]:
    parts = set(split_capability(wanted))
    kin = [name for name in known if not parts.isdisjoint(split_capability(name))]
    others = (name for name in known if parts.isdisjoint(split_capability(name)))
    among = kin[:AMONG] + [name for name, _ in zip(others, range(AMONG - len(kin)), strict=False)]
    close = get_close_matches(wanted, among, n=SHOWN, cutoff=_CUTOFF)
    return tuple(dict.fromkeys([*close, *kin[:SHOWN]]))[:SHOWN]
