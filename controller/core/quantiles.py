"""Owns the histogram of latencies: bins that grow by 4 %, so that any quantile is off by 2 % at most.

It is DDSketch (Masson, Rim, Lee, VLDB 2019) with plain counts: two histograms add up bin by bin, which is how
controllers share theirs. It knows no clock; ``windows`` keeps one for each minute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

Bins = dict[int, int]
"""How many latencies fell into each bin, by its number."""

# A bin's middle is at most so much off anything in it.
ERROR = 0.02
_GAMMA = (1 + ERROR) / (1 - ERROR)
# Microseconds are below what a clock and a network tell apart; a day is the longest time-out.
FASTEST_MS, SLOWEST_MS = 0.001, 86_400_000.0
_PER_LOG = 1 / math.log(_GAMMA)
_FIRST = math.ceil(math.log(FASTEST_MS) * _PER_LOG)
LAST_BIN = math.ceil(math.log(SLOWEST_MS) * _PER_LOG) - _FIRST


def bin_of(ms: float) -> int:
    """The number of the bin that ``ms`` belongs to, from 0 to ``LAST_BIN``."""
    if ms <= FASTEST_MS:
        return 0
    index = math.ceil(math.log(ms) * _PER_LOG) - _FIRST
    return index if index <= LAST_BIN else LAST_BIN


def middle_ms(index: int) -> float:
    """What is said of everything in a bin: as far from its upper end as from its lower one, in proportion."""
    return 2 * _GAMMA ** (index + _FIRST) / (_GAMMA + 1)


def add(into: Bins, bins: Mapping[int, int], sign: int = 1) -> None:
    """Add ``bins``, or take them away; what comes to nothing leaves nothing."""
    for index, count in bins.items():
        left = into.get(index, 0) + sign * count
        if left > 0:
            into[index] = left
        else:
            into.pop(index, None)


def quantile(bins: Mapping[int, int], share: float) -> float | None:
    """The latency in milliseconds that this share (0 to 1) of all did not exceed; None when nothing was measured."""
    total = sum(bins.values())
    if not total:
        return None
    rank = max(1, math.ceil(share * total))
    for index in sorted(bins):
        rank -= bins[index]
        if rank <= 0:
            return middle_ms(index)
    raise AssertionError("the bins hold fewer than they hold")
