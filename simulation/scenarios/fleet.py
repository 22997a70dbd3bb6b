"""Owns pretended workers: how long they take, what they cost, how they fail. They know no router and no clock.

``stage`` and ``bench.objectives`` put them to work; ``at_random`` does as well, without a router.
"""

from __future__ import annotations

import math

import msgspec

from simulation.dice import Dice
from subjects.answers import Answer, Fault, NotRun, Result
from subjects.manifests import Capability, Manifest
from subjects.tokens import CapabilityId, WorkerId

CAPABILITY = CapabilityId("render:page")
# Of the logarithm: one answer in a hundred takes more than twice the mean, as of services that do one thing.
_SPREAD = 0.35
_BUSY, _DONE = NotRun("busy"), Result(b"{}")
_FAILED = Fault(500, "it broke", retryable=True)


class Kind(msgspec.Struct, frozen=True):
    """Workers of one kind. ``takes_ms`` is the mean of a log-normal distribution; ``price`` is tokens a request."""

    takes_ms: float
    price: float = 1.0
    places: int = 4

    @property
    def per_s(self) -> float:
        """Requests a second that one of them can do."""
        return self.places / self.takes_ms * 1000

    def declares(self, capability: CapabilityId) -> Capability:
        """What it says of itself: nothing about how quick it is."""
        verb, _, name = capability.partition(":")
        return Capability(
            verb,
            name,
            "1.0.0",
            max_concurrency=self.places,
            idempotent=True,
            cost_tokens_per_invocation=self.price,
        )


class Worker:
    """One of them. ``slower`` and ``fails`` may change at any time, and hold for what begins from then on."""

    def __init__(self, name: str, kind: Kind, seed: int, capability: CapabilityId = CAPABILITY) -> None:
        self.id = WorkerId(name)
        self.kind = kind
        self.manifest = Manifest(self.id, (kind.declares(capability),), "first")
        self.slower = 1.0
        """Takes so many times as long."""
        self.fails = 0.0
        """The share of its requests that it fails, just as slowly."""
        self.running = 0
        self._dice = Dice(seed, *name.encode())

    def begins(self) -> tuple[float, Answer]:
        """Take one more: how many seconds it takes, and what it says then."""
        if self.running >= self.kind.places:
            return 0.0, _BUSY
        self.running += 1
        takes_s = self.takes_s()
        return takes_s, _FAILED if self._dice.random() < self.fails else _DONE

    def takes_s(self) -> float:
        """How long one request takes."""
        # Two numbers of [0, 1) make one that is normally distributed (Box and Muller, 1958).
        radius = math.sqrt(-2.0 * math.log(1.0 - self._dice.random()))
        normal = radius * math.cos(2.0 * math.pi * self._dice.random())
        mean_s = self.kind.takes_ms * self.slower / 1000
        return mean_s * math.exp(_SPREAD * normal - _SPREAD**2 / 2)


def fleet(seed: int, **counts: tuple[int, Kind]) -> list[Worker]:
    """So many workers of each kind, named after it."""
    return [Worker(f"{name}-{n}", kind, seed) for name, (count, kind) in counts.items() for n in range(1, count + 1)]


def capacity_per_s(workers: list[Worker]) -> float:
    """Requests a second that all of them together can do."""
    return sum(worker.kind.per_s for worker in workers)
