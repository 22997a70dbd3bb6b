"""Owns the witness of one controller: what it was told and what it sends, judged without looking at what it thinks.

``WatchedRouter`` shows it every event before the core sees it; ``simulation.controllers`` every command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.core.commands import Answer, Command, Dispatch, Refuse, ReplyRefusal, Send
from controller.core.events import (
    Answered,
    DeregisterAsked,
    EntrySeen,
    Event,
    HeartbeatSeen,
    RegisterAsked,
    RegistryRestarted,
    RequestArrived,
    StoredManifest,
    SubjectRead,
    Tick,
    WriteAnswered,
)
from controller.core.fleet import Worker
from controller.core.model import DecisionRecord
from controller.core.retries import MINIMUM_PER_S, SHARE
from controller.core.timers import SLOT_S
from controller.core.world import Life, World
from simulation.books import AuditedRouter
from simulation.dice import Dice
from simulation.history import History
from simulation.laws import Broken, must
from simulation.plan import PROMISES, Promise
from subjects.answers import NoResponders, NotRun
from subjects.tokens import WorkerId

_NO_PROMISE = Promise()
# Any time of a run, in seconds, times this is a whole number: two moments are never taken for one.
_EXACT = 2.0**43


class Obligation:
    """A request that arrived, until its terminal reply."""

    __slots__ = ("attempts", "deadline", "frames", "must_not_run", "nothing_ran", "out", "promise", "ran")

    def __init__(self, deadline: float, promise: Promise, must_not_run: str) -> None:
        self.deadline = deadline
        self.promise = promise
        self.must_not_run = must_not_run
        self.attempts = 0
        self.ran = 0
        """Attempts before the present one that may have run."""
        self.out = ""
        """The dispatch that is out, and whether it was heard that nothing ran: None until something is heard."""
        self.nothing_ran: bool | None = None
        self.frames = 0


class Watch:
    """What one boot of one controller owes, knows and did."""

    def __init__(self, name: str, history: History, now: float, default_timeout_ms: int, max_attempts: int) -> None:
        self.owed: dict[str, Obligation] = {}
        self._name = name
        self._history = history
        self._since = self._now = now
        self._default_timeout_ms = default_timeout_ms
        self._max_attempts = max_attempts
        self._by_dispatch: dict[str, Obligation] = {}
        self._leaving: dict[tuple[WorkerId, str | None], str] = {}
        """Processes that said that they drain or leave; who asked to deregister and is refused has not left."""
        self._stored: dict[WorkerId, int] = {}
        self.events = self._requests = self._retries = 0
        self._replied = ""
        self._on: dict[type, Callable[[Any], str]] = {
            RequestArrived: self._arrived,
            Answered: self._answered,
            HeartbeatSeen: self._heartbeat,
            DeregisterAsked: self._deregister,
            RegisterAsked: self._register,
            EntrySeen: self._entry,
            RegistryRestarted: self._restarted,
            SubjectRead: self._entry,
            WriteAnswered: _written,
        }

    # What it is told --------------------------------------------------------------

    def event(self, event: Event, now: float) -> None:
        """The core is about to be told this."""
        self._now = now
        kind = type(event)
        if kind is Tick:
            return
        self.events += 1
        note = self._on.get(kind)
        said = note(event) if note is not None else ""
        self._history.tell(now, self._name, f"< {kind.__name__} {said}")

    def _arrived(self, event: RequestArrived) -> str:
        request = event.request
        headers = request.headers
        why_not = "its key is not protected" if headers.idempotency_key else ""
        if headers.dry_run:
            why_not = "it is a dry run"
        deadline = self._now + (headers.timeout_ms or self._default_timeout_ms) / 1000
        self.owed[request.reply] = Obligation(deadline, PROMISES.get(request.capability, _NO_PROMISE), why_not)
        self._requests += 1
        return f"{request.reply} {request.capability}"

    def _answered(self, event: Answered) -> str:
        owed = self._by_dispatch.get(event.dispatch_id)
        kind = type(event.answer)
        if owed is not None and owed.nothing_ran is None:
            owed.nothing_ran = kind is NotRun or kind is NoResponders
        return f"{event.dispatch_id} {kind.__name__}"

    def _heartbeat(self, event: HeartbeatSeen) -> str:
        beat = event.heartbeat
        if beat.draining:
            self._leaving[event.worker_id, beat.instance] = ""
        return f"{event.worker_id} {beat.seq}{' draining' if beat.draining else ''}"

    def _deregister(self, event: DeregisterAsked) -> str:
        self._leaving.setdefault((event.worker_id, event.message.instance), event.reply)
        return event.worker_id

    def _register(self, event: RegisterAsked) -> str:
        self._leaving.pop((event.manifest.worker_id, event.manifest.instance), None)
        return f"{event.manifest.worker_id} {event.manifest.instance}"

    def _entry(self, event: EntrySeen | SubjectRead) -> str:
        entry = event.entry
        if entry is None:
            return ""
        if entry.seq > self._stored.get(entry.worker_id, 0):
            self._stored[entry.worker_id] = entry.seq
            if isinstance(entry, StoredManifest):
                self._leaving.pop((entry.worker_id, entry.manifest.instance), None)
        return f"{entry.worker_id} {entry.seq} {type(entry).__name__}"

    def _restarted(self, event: RegistryRestarted) -> str:
        self._stored.clear()
        return ""

    # What it does -----------------------------------------------------------------

    def chooses(self, worker: Worker, reply: str) -> None:
        """It is about to dispatch to ``worker``: see whether it may, by all that it was told."""
        # Without an instance nobody can tell it from the process before it.
        leaving = worker.instance is not None and (worker.id, worker.instance) in self._leaving
        must(not leaving, "known-gone", f"{reply} to {worker.id}, which said that it leaves")

    def dispatched(self, command: Dispatch) -> None:
        """It sends a dispatch."""
        reply = command.request.reply
        self._history.tell(self._now, self._name, f"> {reply} to {command.address} as {command.dispatch_id}")
        owed = self.owed.get(reply)
        if owed is None:
            raise Broken("one-reply", f"{reply} is dispatched to {command.address}, and has its terminal reply")
        must(not owed.must_not_run, "must-not-run", f"{reply} is dispatched to {command.address}: {owed.must_not_run}")
        again = owed.out and not owed.nothing_ran
        if owed.out:
            del self._by_dispatch[owed.out]
        owed.attempts += 1
        must(command.attempt == owed.attempts, "attempts", f"{reply}: attempt {owed.attempts} says {command.attempt}")
        must(command.timeout_ms >= 1, "in-time", f"{reply} is dispatched with no time left")
        if again:
            owed.ran += 1
            self._retries += 1
        if owed.ran:
            self._runs_again(owed, reply)
        owed.out, owed.nothing_ran = command.dispatch_id, None
        self._by_dispatch[command.dispatch_id] = owed

    def _runs_again(self, owed: Obligation, reply: str) -> None:
        what = f"{reply} is dispatched again, and may have run {owed.ran} times"
        must(owed.promise.idempotent, "no-second-run", what)
        must(not owed.frames, "no-second-run", f"{what}: {owed.frames} frames were forwarded")
        must(owed.ran < self._max_attempts, "attempts", what)
        allowed = self._requests * SHARE + (self._now - self._since + 1.0) * MINIMUM_PER_S
        must(
            self._retries <= allowed,
            "attempts",
            f"{self._retries} retries of {self._requests} requests in {self._now - self._since:.1f} s",
        )

    def replied(self, command: Answer | Refuse) -> None:
        """It sends a caller something."""
        reply, frame, seq = command.reply, command.frame, command.seq
        what = command.refusal.kind.suffix if isinstance(command, Refuse) else frame or "answer"
        self._history.tell(self._now, self._name, f"> {reply} {what} {seq}")
        owed = self.owed.get(reply)
        if owed is None:
            raise Broken("one-reply", f"{reply} is sent {what}, and has its terminal reply")
        if frame:
            must(seq == owed.frames, "frames", f"{reply} is sent frame {seq} where {owed.frames} was due")
            owed.frames += 1
        else:
            must(not owed.frames, "frames", f"{reply} is sent {what} after {owed.frames} frames, and no end")
        if frame in ("", "end"):
            del self.owed[reply]
            if owed.out:
                del self._by_dispatch[owed.out]
            self._replied = reply

    def refused(self, command: ReplyRefusal) -> None:
        """It refuses a control message."""
        for who in [who for who, reply in self._leaving.items() if reply == command.reply]:
            del self._leaving[who]

    def recorded(self, record: DecisionRecord) -> None:
        """It tells of a decision."""
        must(self._replied, "one-reply", f"a record of {record.request_id} without a terminal reply")
        self._replied = ""

    def check_overdue(self, now: float) -> None:
        """Whoever's deadline is over has a reply."""
        for reply, owed in self.owed.items():
            over_s = now - owed.deadline - 2 * SLOT_S
            must(over_s <= 0, "in-time", f"{reply} has no terminal reply {over_s:.3f} s after its deadline")


def _written(event: WriteAnswered) -> str:
    return f"{event.worker_id} {'conflict' if event.conflict else event.seq}"


class WatchedRouter(AuditedRouter):
    """A router whose every event is witnessed. What it raises is a broken law, and ends the run.

    ``dice`` start anew with every event, by the time: what is drawn does not depend on what was drawn before, so that
    a plan can be cut down without changing everything that remains.
    """

    def __init__(self, world: World, watch: Watch, history: History, dice: Dice, seed: int) -> None:
        super().__init__(world)
        self._watch = watch
        self._history = history
        self._dice = dice
        self._seed = seed
        self._turn = 0

    def handle(self, event: Event, now: float) -> list[Command]:
        """As the router does."""
        self._turn = self._turn + 1 if now == self.world.now else 0
        self._dice.start_from(self._seed, int(now * _EXACT), self._turn)
        self._watch.event(event, now)
        try:
            return super().handle(event, now)
        except Broken as broken:
            self._history.breaks(now, broken)
        except Exception as error:  # noqa: BLE001  # whatever it is, it breaks a law
            told = f"{type(event).__name__} makes it raise {type(error).__name__}: {error}"
            self._history.breaks(now, Broken("no-crash", told))
        return []

    def _send(self, life: Life, step: Send) -> None:
        self._watch.chooses(step.offer.worker, life.request.reply)
        super()._send(life, step)
