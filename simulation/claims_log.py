"""Owns one controller's way to the bucket of claims, over a network that loses, delays and doubles.

Stands where ``controller.edge.claims`` stands. A write is repeated until it is known what came of it, and is answered
once; what was sent arrives also when whoever sent it is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controller.core.claim_states import HELD
from controller.core.events import Event
from controller.core.stored import (
    ClaimFailed,
    ClaimNoticed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ClaimUnread,
    ReadClaim,
    ReleaseClaim,
    StoreLevel,
    UnwatchClaim,
    WatchClaim,
    WriteClaim,
)
from simulation.bucket import Entry
from simulation.dice import Dice
from simulation.network import LEAST_S, MOST_S

if TYPE_CHECKING:
    from simulation.controllers import Controller
    from simulation.world import Simulation

# As the edge: nobody knows after so long, and the same bytes are sent again that often.
UNANSWERED_S = 2.0
_AGAIN_S = 0.7
_READ_S = 2.0
_RELEASES = 3
# Of messages to the bucket and back.
_NOISE = 0.02
_NOISES = ("lost", "late", "doubled", "unanswered", "unanswered")
_LATE_S = (0.02, 6.0)


class _Write:
    """One that nobody knows the end of yet."""

    __slots__ = ("command", "failed", "known", "sent")

    def __init__(self, command: WriteClaim) -> None:
        self.command = command
        self.known = False
        self.sent = 0
        self.failed: set[int] = set()
        """Tries that certainly stored nothing."""


class ClaimsLog:
    """That of one boot."""

    def __init__(self, controller: Controller, simulation: Simulation, dice: Dice) -> None:
        self._controller = controller
        self._boot = controller.boot
        self._simulation = simulation
        self._clock = simulation.clock
        self._bucket = simulation.bucket
        self._dice = dice
        self._asked: set[str] = set()
        """Keys of which the other controllers were asked to say when nobody holds them."""
        self.handlers: dict[type[Any], Callable[[Any], Event | None]] = {
            WriteClaim: self._write,
            ReleaseClaim: self._release,
            ReadClaim: self._read,
            WatchClaim: lambda command: None,  # it is with each reading that the others are asked
            UnwatchClaim: lambda command: None,
        }

    # Writing --------------------------------------------------------------------------

    def _write(self, command: WriteClaim) -> Event | None:
        self._controller.watch.writes(command)
        if self._controller.cut_at is not None:
            return ClaimFailed(command.key, command.record.nonce, "not connected")
        write = _Write(command)
        self._controller.later(UNANSWERED_S, self._unanswered, write)
        self._try(write)
        return None

    def _try(self, write: _Write) -> None:
        if write.known:
            return
        if self._controller.cut_at is None:
            write.sent += 1
            self._send(self._arrives, write, write.sent)
        self._controller.later(_AGAIN_S * self._dice.between(0.5, 1.5), self._try, write)

    def _arrives(self, write: _Write, number: int, answered: bool) -> None:
        bucket, command = self._bucket, write.command
        if bucket.away:
            return
        if bucket.full:
            if answered:
                self._comes(self._failed, write, number, bucket.full)
            return
        seq = bucket.write(command.key, command.record, command.expected_seq, command.ttl_s)
        if answered and seq is not None:
            self._comes(self._stored, write, seq)
        elif answered:
            self._comes(self._refused, write)

    def _stored(self, write: _Write, seq: int) -> None:
        if not write.known:
            write.known = True
            self._is_stored(write, seq)

    def _is_stored(self, write: _Write, seq: int) -> None:
        key, record = write.command.key, write.command.record
        self._feed(ClaimStored(key, record.nonce, seq))
        if record.state not in HELD:
            self._tell(key)

    def _failed(self, write: _Write, number: int, reason: str) -> None:
        write.failed.add(number)
        if not write.known and len(write.failed) == write.sent:  # else one of the others may still be stored
            write.known = True
            self._feed(ClaimFailed(write.command.key, write.command.record.nonce, reason))

    def _refused(self, write: _Write) -> None:
        """Somebody wrote before, or an earlier try of this one did: only reading tells."""
        if not write.known:
            self._fetch(write.command.key, self._told, write)

    def _told(self, write: _Write, entry: Entry) -> None:
        if write.known:
            return
        key, nonce = write.command.key, write.command.record.nonce
        write.known = True
        if entry.record is not None and entry.record.nonce == nonce:
            self._is_stored(write, entry.seq)
        else:
            self._feed(ClaimRefused(key, nonce, entry.record, entry.seq))

    def _unanswered(self, write: _Write) -> None:
        if not write.known:
            self._feed(ClaimUnanswered(write.command.key, write.command.record.nonce))

    def _release(self, command: ReleaseClaim) -> None:
        self._controller.watch.releases(command)
        self._try_release(command, _RELEASES)

    def _try_release(self, command: ReleaseClaim, tries: int) -> None:
        # Nobody says whether it is done, so it is said more than once.
        if self._controller.cut_at is None:
            self._send(self._released, command)
        if tries > 1:
            self._controller.later(_AGAIN_S, self._try_release, command, tries - 1)

    def _released(self, command: ReleaseClaim, answered: bool) -> None:
        bucket = self._bucket
        if bucket.away or bucket.write(command.key, None, command.expected_seq, None) is None:
            return
        if answered:
            self._comes(self._tell, command.key)

    def _tell(self, key: str) -> None:
        if self._controller.cut_at is None:
            self._simulation.noticed(key, self._controller)

    # Reading --------------------------------------------------------------------------

    def _read(self, command: ReadClaim) -> Event | None:
        if self._controller.cut_at is not None:
            return ClaimUnread(command.key, "not connected")
        if command.key in self._controller.router.claims.watched:
            self._asked.add(command.key)
        reading = [command]
        self._controller.later(_READ_S, self._unread, reading)
        self._fetch(command.key, self._was_read, reading)
        return None

    def _was_read(self, reading: list[ReadClaim], entry: Entry) -> None:
        if reading:
            command = reading.pop()
            record, seq = entry.record, entry.seq
            if record is None and command.kept:
                kept = self._simulation.jobs.result(command.key)
                if kept is not None:
                    record, seq = kept, 0
            self._feed(ClaimRead(command.key, record, seq))

    def _unread(self, reading: list[ReadClaim]) -> None:
        if reading:
            self._feed(ClaimUnread(reading.pop().key, "no answer in time"))

    def _fetch(self, key: str, then: Callable[[Any, Entry], None], on_behalf: object) -> None:
        self._send(self._looks_up, key, then, on_behalf)

    def _looks_up(self, key: str, then: Callable[[Any, Entry], None], on_behalf: object, answered: bool) -> None:
        if answered and not self._bucket.away:
            self._comes(then, on_behalf, self._bucket.get(key))

    # The network ----------------------------------------------------------------------

    def _send(self, arrives: Callable[..., None], *args: Any) -> None:
        """Something goes to the bucket, which is told last whether its answer will come back."""
        dice, network = self._dice, self._simulation.network
        mishap = dice.choice(_NOISES) if network.noise and dice.random() < _NOISE else None
        if mishap is not None:
            network.faults[f"claims {mishap}"] += 1
        delay_s = dice.between(LEAST_S, MOST_S)
        if mishap == "late":
            delay_s += dice.between(*_LATE_S)
        if mishap != "lost":
            self._clock.after(delay_s, arrives, *args, mishap != "unanswered")
        if mishap == "doubled":
            self._clock.after(delay_s + dice.between(*_LATE_S), arrives, *args, True)

    def _comes(self, act: Callable[..., None], *args: Any) -> None:
        """And back, to this boot alone."""
        self._clock.after(self._dice.between(LEAST_S, MOST_S), self._controller.receive_as, self._boot, act, *args)

    def _feed(self, event: Event) -> None:
        self._controller.feed(event)

    # What is said by itself -----------------------------------------------------

    def noticed(self, key: str) -> None:
        """Somebody says that it is nobody's any more, if asked: that comes now and then late, twice or not at all."""
        if key in self._asked:
            self._asked.discard(key)
            controller = self._controller
            carry, act = self._simulation.network.carry_noisily, controller.receive_as
            carry("notice", self._dice, act, self._boot, controller.feed, ClaimNoticed(key))

    def level(self, refuses: str) -> None:
        """It is nearly full, or is not any more; whoever looks sees it in their own time."""
        self._controller.later(self._dice.between(0.0, 1.0), self._feed, StoreLevel(refuses))
