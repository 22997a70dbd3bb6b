"""Owns what other controllers tell: their counts, and which of them live.

What a process says of a time replaces what it said of it before. It writes a minute until the next one begins, so that
only the last two may still change. An earlier life of this controller is somebody else, too. ``counting`` calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from controller.core.windows import MINUTES_A_DAY, Windows
from subjects.slo_counts import CountsMessage, Period, Totals
from subjects.tokens import CapabilityId

# A controller writes every five seconds, and may miss one time.
LIVES_S = 12.5
# A minute may be written again after the next one was begun, where an acknowledgement was lost; no earlier one is.
_KEPT = 2
# Processes of the last month: far more than anybody starts.
_MOST_SOURCES = 5000
# Clocks that differ more than this are wrong, and what they say is of no known time.
_AHEAD_MIN = 5
_HOUR_MIN = 60

Name = tuple[str, str]
"""Controller and boot."""
Placed = dict[CapabilityId, tuple[int, Totals]]
"""What was added to which minute or day."""
WindowsOf = Callable[[CapabilityId], Windows | None]


class _Source:
    """One process. What it said of its last minutes and days may be replaced."""

    __slots__ = ("newest", "said")

    def __init__(self) -> None:
        self.newest = {True: -1, False: -1}
        self.said: dict[tuple[bool, int], Placed] = {}


class Peers:
    """Everybody but this process, which is ``own``."""

    def __init__(self, own: Name, windows_of: WindowsOf) -> None:
        self._own = own
        self._windows_of = windows_of
        self._sources: dict[Name, _Source] = {}
        self._heard: dict[Name, float] = {}

    def read(self, period: Period, message: CountsMessage, present: int, now: float, age_s: float) -> None:
        """Take in a message that was written ``age_s`` ago; ``present`` is the minute that it is."""
        name = (period.controller, period.boot)
        if name == self._own:
            return
        self._hear(name, message, now, age_s)
        source = self._sources.pop(name, None) or _Source()
        self._sources[name] = source  # the last to be forgotten
        if len(self._sources) > _MOST_SOURCES:
            del self._sources[next(iter(self._sources))]
        time = present // MINUTES_A_DAY if period.is_day else present
        if period.number <= source.newest[period.is_day] - _KEPT or period.number > time + _AHEAD_MIN:
            return
        source.newest[period.is_day] = max(source.newest[period.is_day], period.number)
        self._replace(source, period, message, time)
        for key in sorted(key for key in source.said if key[0] is period.is_day)[:-_KEPT]:
            del source.said[key]

    def _replace(self, source: _Source, period: Period, message: CountsMessage, time: int) -> None:
        key = (period.is_day, period.number)
        add = Windows.add_day if period.is_day else Windows.add_minute
        for capability, (at, totals) in source.said.pop(key, {}).items():
            windows = self._windows_of(capability)
            if windows is not None:
                add(windows, at, totals, -1)
        said = source.said[key] = Placed()
        at = min(period.number, time)  # where its clock is ahead, its minute has not come here
        old = not period.is_day and at <= time - _HOUR_MIN
        for capability, totals in message.counts.items():
            windows = self._windows_of(capability)
            if windows is not None:
                add(windows, at, totals)
                said[capability] = (at, msgspec.structs.replace(totals, ms={}) if old else totals)

    def start_again(self, present: int) -> None:
        """The clock was ahead: it is the minute ``present``, and what was said of a later time has not come here."""
        for source in self._sources.values():
            for is_day, time in ((False, present), (True, present // MINUTES_A_DAY)):
                source.newest[is_day] = min(source.newest[is_day], time)
                for key in [key for key in source.said if key[0] is is_day and key[1] > time]:
                    del source.said[key]

    def forget(self, capabilities: Collection[CapabilityId]) -> None:
        """Nothing is kept of these any more."""
        gone = set(capabilities)
        for source in self._sources.values():
            for said in source.said.values():
                for capability in said.keys() & gone:
                    del said[capability]

    def _hear(self, name: Name, message: CountsMessage, now: float, age_s: float) -> None:
        if message.left:
            self._heard.pop(name, None)
        elif age_s < LIVES_S:
            self._heard[name] = max(now - age_s, self._heard.get(name, 0.0))

    def alive(self, now: float) -> list[Name]:
        """Those that were heard of late."""
        for name in [name for name, heard in self._heard.items() if now - heard >= LIVES_S]:
            del self._heard[name]
        return list(self._heard)
