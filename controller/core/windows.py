"""Owns what was counted of one capability over time: rings of minutes, of ten minutes and of days, and the last hour.

Its size is fixed. Time is the number of a minute or a day since 1970, UTC; a time that is over for longer than the ring
reaches back counts no more. ``compliance`` puts in what it counts and what other controllers tell; ``burn`` reads.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.core import quantiles
from controller.core.quantiles import Bins
from subjects.slo_counts import Totals

# The longest window of each, and for minutes the five that a clock which is a little ahead may take.
MINUTES, TENS, DAYS = 125, 3 * 24 * 6, 35
_HOUR = 60
MINUTES_A_DAY = 24 * 60


class Counts(NamedTuple):
    """Requests, and how many of them were bad; those that were served, and how many of them were slow.

    ``would``: of all, those that enforcement would have refused.
    """

    requests: int = 0
    bad: int = 0
    served: int = 0
    slow: int = 0
    would: int = 0


class Ring:
    """The last so many cells; ``newest`` is the number of the one that time has come to."""

    __slots__ = ("_columns", "_length", "newest")

    def __init__(self, length: int) -> None:
        self._length = length
        self._columns = tuple([0] * length for _ in Counts._fields)
        self.newest = -1

    def advance(self, cell: int) -> None:
        """Time has come to ``cell``; it does not go back so."""
        if cell <= self.newest:
            return
        if self.newest >= 0:  # a new ring holds nothing
            for number in range(max(self.newest + 1, cell - self._length + 1), cell + 1):
                for column in self._columns:
                    column[number % self._length] = 0
        self.newest = cell

    def start_again(self, cell: int) -> None:
        """Time had not come to what is after ``cell``: it counts for nothing."""
        for number in range(max(cell, self.newest - self._length) + 1, self.newest + 1):
            for column in self._columns:
                column[number % self._length] = 0
        self.newest = min(cell, self.newest)

    def add(self, cell: int, totals: Totals, sign: int) -> None:
        """Add to a cell; one that is too old, or that time has not come to, counts for nothing."""
        if not 0 <= self.newest - cell < self._length:
            return
        at = cell % self._length
        requests, bad, served, slow, would = self._columns
        requests[at] += sign * totals.requests
        bad[at] += sign * totals.bad
        served[at] += sign * totals.served
        slow[at] += sign * totals.slow
        would[at] += sign * totals.would

    def last(self, cells: int) -> Counts:
        """The sums of the newest so many cells."""
        end = (self.newest + 1) % self._length or self._length
        start = end - cells
        if start >= 0:
            return Counts(*(sum(column[start:end]) for column in self._columns))
        return Counts(*(sum(column[start:]) + sum(column[:end]) for column in self._columns))


class Windows:
    """What was counted of one capability, by everybody."""

    __slots__ = ("_by_minute", "days", "hour", "minutes", "tens")

    def __init__(self) -> None:
        self.minutes, self.tens, self.days = Ring(MINUTES), Ring(TENS), Ring(DAYS)
        self.hour: Bins = {}
        """The latencies of the last sixty minutes."""
        self._by_minute: dict[int, Bins] = {}

    def advance(self, minute: int) -> None:
        """Time has come to ``minute``."""
        if minute <= self.minutes.newest:
            return
        self.minutes.advance(minute)
        self.tens.advance(minute // 10)
        self.days.advance(minute // MINUTES_A_DAY)
        for old in [number for number in self._by_minute if number <= self.minutes.newest - _HOUR]:
            quantiles.add(self.hour, self._by_minute.pop(old), -1)

    def start_again(self, minute: int) -> None:
        """The clock was ahead: it is ``minute``, and what was counted later is forgotten."""
        self.minutes.start_again(minute)
        self.tens.start_again(minute // 10)
        self.days.start_again(minute // MINUTES_A_DAY)
        for ahead in [number for number in self._by_minute if number > minute]:
            quantiles.add(self.hour, self._by_minute.pop(ahead), -1)

    def add_minute(self, minute: int, totals: Totals, sign: int = 1) -> None:
        """Add what was counted in a minute, or take it away again."""
        self.minutes.add(minute, totals, sign)
        self.tens.add(minute // 10, totals, sign)
        if totals.ms and 0 <= self.minutes.newest - minute < _HOUR:
            bins = self._by_minute.setdefault(minute, {})
            quantiles.add(bins, totals.ms, sign)
            quantiles.add(self.hour, totals.ms, sign)

    def add_day(self, day: int, totals: Totals, sign: int = 1) -> None:
        """Add what was counted on a day, or take it away again."""
        self.days.add(day, totals, sign)
