"""Rings of counts against a list of everything that happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.core.burn import month, window
from controller.core.quantiles import add
from controller.core.windows import DAYS, MINUTES_A_DAY, Counts, Ring, Windows
from subjects.slo_counts import Totals

EVENTS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 50), st.integers(1, 9), st.sampled_from([1, 1, 1, -1])), max_size=60
)
CELLS = {"5m": (1, 5), "30m": (1, 30), "1h": (1, 60), "2h": (1, 120), "6h": (10, 36), "1d": (10, 144), "3d": (10, 432)}


def totals(n: int, *bins: int) -> Totals:
    """Counts that differ in every column."""
    return Totals(4 * n, n, 2 * n, n, dict.fromkeys(bins, n))


@given(EVENTS, st.integers(1, 40))
def test_a_ring_holds_what_was_put_into_its_last_cells(events: list[tuple[int, int, int, int]], cells: int) -> None:
    """Time moves on by any step, counts come late by any number of cells, and the sums are those of a plain list."""
    ring, now, happened = Ring(40), 1000, []
    for step, late, n, sign in events:
        now += step
        ring.advance(now)
        ring.add(now - late, totals(n), sign)
        if late < 40:
            happened.append((now - late, sign * n))
        due = sum(n for cell, n in happened if cell > now - cells)
        assert ring.last(cells) == Counts(4 * due, due, 2 * due, due)


@given(EVENTS)
def test_every_window_is_the_sum_of_its_time(events: list[tuple[int, int, int, int]]) -> None:
    """Windows of minutes, of ten minutes and the month see the same events, each as far back as it reaches."""
    windows, now, happened = Windows(), 29_000_000, []
    for step, late, n, _ in events:
        now += step
        windows.advance(now)
        windows.add_minute(now - late, totals(n))
        windows.add_day((now - late) // MINUTES_A_DAY, totals(n))
        happened.append((now - late, n))
        for name, (per, cells) in CELLS.items():
            due = sum(n for minute, n in happened if minute // per > now // per - cells)
            assert window(windows, name).bad == due, name
    if happened:
        assert windows.days.last(DAYS).bad == sum(n for _, n in happened)


@given(EVENTS, st.integers(-50, 5000))
def test_windows_that_start_again_hold_nothing_of_what_has_not_come(
    events: list[tuple[int, int, int, int]], back: int
) -> None:
    """What was counted until then and is not forgotten stays; the future counts for nothing, now and when it comes."""
    windows, now, happened = Windows(), 29_000_000, []
    for step, late, n, _ in events:
        now += step
        windows.advance(now)
        windows.add_minute(now - late, totals(n, 3))
        happened.append((now - late, n))
    if not happened:
        return
    windows.start_again(now - back)
    newest, now = now, min(now, now - back)
    assert (windows.minutes.newest, windows.tens.newest, windows.days.newest) == (now, now // 10, now // MINUTES_A_DAY)
    assert windows.minutes.last(5).bad == sum(n for minute, n in happened if max(newest - 125, now - 5) < minute <= now)
    hour = sum(n for minute, n in happened if newest - 60 < minute <= now and minute > now - 60)
    assert sum(windows.hour.values()) <= sum(n for minute, n in happened if now - 60 < minute <= now)
    assert sum(windows.hour.values()) >= hour
    windows.advance(newest + 5)
    assert windows.minutes.last(5).bad == 0


@given(EVENTS)
def test_the_last_hours_latencies_are_forgotten_with_their_minute(events: list[tuple[int, int, int, int]]) -> None:
    """The histogram of the hour is that of the minutes within it, also where some were taken away again."""
    windows, now, happened = Windows(), 29_000_000, []
    for step, late, n, _ in events:
        now += step
        windows.advance(now)
        windows.add_minute(now - late, totals(n, late % 7, 9))
        happened.append((now - late, n, late % 7))
        expected: dict[int, int] = {}
        for minute, count, index in happened:
            if minute > now - 60:
                add(expected, {index: count, 9: count})
        assert windows.hour == expected


def test_a_month_begins_with_its_first_day() -> None:
    """What was counted on the last day of the month before is none of this month's, and this month's stays."""
    windows = Windows()
    first = 20_423  # 2025-12-01
    windows.advance(first * MINUTES_A_DAY)
    windows.add_day(first - 1, totals(5))
    windows.add_day(first, totals(2))
    assert month(windows, first * 86_400.0).bad == 2
    windows.advance((first + 30) * MINUTES_A_DAY)
    assert month(windows, (first + 30) * 86_400.0 + 86_399).bad == 2
    windows.advance((first + 31) * MINUTES_A_DAY)
    assert month(windows, (first + 31) * 86_400.0) == Counts()


def test_what_lies_ahead_counts_for_nothing() -> None:
    """A cell that time has not come to is not there yet."""
    windows = Windows()
    windows.advance(29_000_000)
    windows.add_minute(29_000_001, totals(1, 3))
    assert window(windows, "2h") == Counts()
    assert not windows.hour
