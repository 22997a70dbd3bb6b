"""Owns how many jobs this controller takes: of capabilities that have some, as many as free workers could do.

A capability without workers is not pulled from, so that its jobs wait in their stream and stall nobody's.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from controller.core.commands import Command
from controller.core.pools import Group
from controller.core.stored import PullJobs
from controller.core.world import World
from subjects.tokens import CapabilityId

# Of one capability at a time: each is held in memory, and delivered to another controller if this one dies.
MAX_IN_HAND = 64


class _Pull(msgspec.Struct, eq=False):
    asked: int = 0
    in_hand: int = 0


class Pulls:
    """The capabilities that jobs are pulled of."""

    def __init__(self, world: World, emit: Callable[[Command], None]) -> None:
        self._world = world
        self._emit = emit
        self._pulls: dict[CapabilityId, _Pull] = {}
        self.closing = False
        """Whether no more jobs are wanted."""

    def __bool__(self) -> bool:
        return bool(self._pulls)

    def known(self, capability: CapabilityId) -> None:
        """There are jobs of it, or were."""
        if capability not in self._pulls:
            self._pulls[capability] = _Pull()
            self.pull(capability)

    def begins(self, capability: CapabilityId) -> None:
        """A job was delivered."""
        self.known(capability)
        pull = self._pulls[capability]
        pull.in_hand += 1
        pull.asked = max(0, pull.asked - 1)

    def ends(self, capability: CapabilityId) -> None:
        """A delivered job is dealt with, one way or another."""
        self._pulls[capability].in_hand -= 1
        self.pull(capability)

    def ended(self, capability: CapabilityId) -> None:
        """A pull is over; the next one waits for the sweep, so that a store that is away is not asked all the time."""
        pull = self._pulls.get(capability)
        if pull is not None:
            pull.asked = 0

    def sweep(self) -> None:
        """Pull where it may have become possible."""
        for capability in self._pulls:
            self.pull(capability)

    def pull(self, capability: CapabilityId) -> None:
        """Ask for as many as there is room for, unless something is asked for already."""
        pull = self._pulls[capability]
        group = self._world.registry.groups.get(capability)
        if pull.asked or group is None or self.closing:
            return
        count = min(_places(group), MAX_IN_HAND) - pull.in_hand
        if count > 0:
            pull.asked = count
            self._emit(PullJobs(capability, count))


def _places(group: Group) -> int:
    places = 0
    for offer in group.offers:
        if offer.eligible:
            places += offer.spec.max_concurrency
            if places >= MAX_IN_HAND:
                break
    return places
