"""Owns what is known of how long one offer takes: the mean and its spread, a peak, the last two answers.

It refuses to know what that is good for: ``selection`` compares offers by it, ``health`` sorts them out.
"""

from __future__ import annotations

import math

# How long a peak is remembered: after this many seconds without news two thirds of it are forgotten, so that a worker
# with one bad moment is tried again. The value is Finagle's default for its peak-sensitive moving average.
ESTIMATE_DECAY_S = 10.0
# Mean and spread are those of about the last fifty answers, so an idle night forgets nothing.
MEMORY = 50
# What is assumed of a worker that nobody measured and that declares nothing: low enough to be tried soon.
UNKNOWN_LATENCY_MS = 10.0
# RFC 6298 bounds a round trip by the mean and four mean deviations; of a normal distribution 99.9 % lie below.
TAIL_DEVIATIONS = 4.0
# Likewise for one request in twenty: 2.06 mean deviations of a normal distribution, and of an exponential one 2.7.
P95_DEVIATIONS = 2.5


class Latency:
    """An offer's latency in milliseconds."""

    __slots__ = ("_recent_ms", "answers", "at", "dev_ms", "last_ms", "mean_ms", "peak_ms", "recent_until", "tail_ms")

    def __init__(self, mean_ms: float, promised_ms: float, now: float) -> None:
        self.mean_ms = mean_ms
        """What it declares until it is measured, then the long-run mean."""
        self.tail_ms = promised_ms
        """What its worker says of its slowest answers, until some were measured."""
        self.recent_until = 0.0
        """Until when two slow answers in a row count."""
        self.dev_ms = 0.0
        """The mean deviation from the mean."""
        self.peak_ms = self.last_ms = self._recent_ms = 0.0
        self.answers = 0
        """Answers that were measured, up to ``MEMORY``."""
        self.at = now

    def observe(self, latency_ms: float, now: float) -> None:
        """Take in a measured latency: a peak at once, anything lower by and by (peak-sensitive moving average).

        The first one replaces what was declared or assumed.
        """
        expected = self.expected_ms(now)
        if latency_ms >= expected or not self.answers:
            self.peak_ms = latency_ms
        else:
            weight = math.exp((self.at - now) / ESTIMATE_DECAY_S)
            self.peak_ms = expected * weight + latency_ms * (1.0 - weight)
        if self.answers < MEMORY:
            self.answers += 1
        off = latency_ms - self.mean_ms if self.answers > 1 else 0.0
        self.mean_ms = latency_ms if self.answers == 1 else self.mean_ms + off / self.answers
        self.dev_ms += (abs(off) - self.dev_ms) / self.answers
        self.tail_ms = self.mean_ms + TAIL_DEVIATIONS * self.dev_ms
        recent = self.last_ms if self.last_ms < latency_ms else latency_ms
        if recent > self.tail_ms:
            self._recent_ms, self.recent_until = recent, now + ESTIMATE_DECAY_S
        else:
            self.recent_until = 0.0
        self.last_ms, self.at = latency_ms, now

    def forget(self, answers: int) -> None:
        """Judge by the last few answers, and by those to come: there will be few."""
        self.answers = min(self.answers, answers)

    def promise(self, latency_ms: float) -> None:
        """Its worker says so of its slowest answers; what was measured counts for more."""
        if not self.answers:
            self.tail_ms = latency_ms

    def observe_failure(self, latency_ms: float, now: float) -> None:
        """Take in how long an error took: a slow one counts, a quick one must not make the worker look fast."""
        if latency_ms > self.expected_ms(now):
            self.observe(latency_ms, now)

    def expected_ms(self, now: float) -> float:
        """The estimate at ``now``: a peak, forgotten by and by down to the long-run mean."""
        if self.peak_ms <= self.mean_ms:
            return self.mean_ms
        return self.mean_ms + (self.peak_ms - self.mean_ms) * math.exp((self.at - now) / ESTIMATE_DECAY_S)

    def slowest_ms(self, now: float) -> float:
        """What its slowest answers take: all but about one in a hundred are quicker.

        Two slow answers in a row count at once, and until they are old; one alone may be chance.
        """
        return self.tail_ms if now >= self.recent_until else self._recent_ms
