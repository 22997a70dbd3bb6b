"""Owns the witness of one controller: what it was told and what it sends, judged without looking at what it thinks.

``watched`` shows it every event before the core sees it; ``simulation.controllers`` every command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from controller.core.commands import Answer, Dispatch, Refuse
from controller.core.events import (
    Answered,
    CancelAsked,
    Event,
    RequestArrived,
    ResolveAsked,
    RetryAsked,
    Stalled,
    Tick,
    VerdictReached,
)
from controller.core.model import DecisionRecord, Request
from controller.core.retries import MINIMUM_PER_S, SHARE
from controller.core.stored import AckJob, ExtendJob, JobDelivered, NakJob, ReleaseClaim, WriteClaim
from controller.core.timers import SLOT_S
from controller.driver import PULSE_S, STALL_S
from simulation.books import AuditedRouter
from simulation.claim_watch import ClaimWatch
from simulation.history import History
from simulation.laws import Broken, must
from simulation.news import News
from simulation.obligation import BAD, Obligation
from subjects.errors import ErrorKind

# So long after it stood still a controller may still take it from the patience of what it reads.
_CATCHING_UP_S = 1.0


class Watch:
    """What one boot of one controller owes, knows and did."""

    def __init__(
        self,
        name: str,
        history: History,
        now: float,
        default_timeout_ms: int,
        max_attempts: int,
        claims: ClaimWatch,
    ) -> None:
        self.owed: dict[str, Obligation] = {}
        self.jobs: dict[str, Obligation] = {}
        """Deliveries that it works on, which nobody waits for; the same for all else."""
        self.news = News()
        self.claims = claims
        self._name = name
        self._history = history
        self._since = self._now = now
        self._default_timeout_ms = default_timeout_ms
        self._max_attempts = max_attempts
        self._by_dispatch: dict[str, Obligation] = {}
        self.events = self._requests = self._retries = 0
        self._thawed_at = self._stood_s = self._slack_s = 0.0
        self._cancelled: tuple[str, str] | None = None
        self._replied = ""
        self._jobs_told: Counter[str] = Counter()
        """By request id, until its record is seen."""
        self._on: dict[type, Callable[[Any], str]] = {
            RequestArrived: self._arrived,
            ResolveAsked: self._operated,
            RetryAsked: self._operated,
            JobDelivered: self._delivered,
            Answered: self._answered,
            VerdictReached: self._judged,
            CancelAsked: self._cancel,
            Stalled: self._stalled,
            **self.news.handlers,
            **self.claims.handlers,
        }

    # What it is told --------------------------------------------------------------

    def event(self, event: Event, now: float) -> None:
        """The core is about to be told this; all that it did about the event before was seen."""
        self._now = self.news.now = self.claims.now = now
        if self._cancelled is not None:
            left = [reply for reply, owed in self.owed.items() if owed.of == self._cancelled]
            must(not left, "cancels", f"{left} were cancelled, and have no terminal reply")
            self._cancelled = None
        self.claims.check()
        kind = type(event)
        if kind is Tick:
            return
        self.events += 1
        note = self._on.get(kind)
        said = note(event) if note is not None else ""
        self._history.tell(self._name, f"< {kind.__name__} {said}")

    def stood_still(self, now: float, for_s: float) -> None:
        """It was frozen until now."""
        if for_s > STALL_S - PULSE_S:  # else it cannot know
            recent = now - self._thawed_at - for_s < _CATCHING_UP_S
            self._slack_s = max(for_s, self._slack_s) if recent else for_s
            self._thawed_at, self._stood_s = now, for_s
        if for_s > STALL_S:
            self.news.stood_still(for_s)

    @property
    def hindered_at(self) -> float:
        """When it could not do something in time, last: it stood still, or was told that a write failed."""
        return max(self._thawed_at, self.claims.failed_at)

    def _stalled(self, event: Stalled) -> str:
        must(self._thawed_at == self._now, "in-time", f"it takes itself to have stood still for {event.ms:.0f} ms")
        return f"{event.ms:.0f} ms"

    def _arrived(self, event: RequestArrived) -> str:
        self._requests += 1
        return self._owes(event.request)

    def _operated(self, event: ResolveAsked | RetryAsked) -> str:
        return self._owes(event.request)

    def _owes(self, request: Request) -> str:
        self.owed[request.reply] = owed = Obligation(request, self._now, self._default_timeout_ms)
        if self._now - self._thawed_at < _CATCHING_UP_S:
            owed.earliest -= self._slack_s + PULSE_S
        if self._now == self._thawed_at and self._stood_s > STALL_S:  # it lay unread for as long
            owed.deadline -= self._stood_s
        return f"{request.reply} {request.action} {request.capability} {owed.key[:8]}"

    def _delivered(self, event: JobDelivered) -> str:
        self.jobs[event.request.reply] = Obligation(event.request, self._now, self._default_timeout_ms)
        return self.claims.delivered(event)

    def job_ends(self, reply: str) -> None:
        """It is done with a delivery."""
        owed = self.jobs.pop(reply)
        self._by_dispatch.pop(owed.out, None)

    def job_tells(self, request_id: str) -> None:
        """What was decided about a delivery is told."""
        self._jobs_told[request_id] += 1

    def _answered(self, event: Answered) -> str:
        owed = self._by_dispatch.get(event.dispatch_id)
        if owed is not None and owed.hear(event.answer, self._now):
            self.news.nobody_listens(owed.address, owed.version, owed.sent_at)
        return f"{event.dispatch_id} {type(event.answer).__name__}"

    def _judged(self, event: VerdictReached) -> str:
        reply = event.life.request.reply
        if reply in self.owed and not event.verdict.allow:
            self.owed[reply].must_not_run = "a policy forbids it"
        return f"{reply} {event.verdict.reason}"

    def _cancel(self, event: CancelAsked) -> str:
        self._cancelled = (event.caller, event.request_id)
        self.claims.cancel(event)
        return f"{event.caller} {event.request_id}"

    # What it does -----------------------------------------------------------------

    def dispatched(self, command: Dispatch) -> None:
        """It sends a dispatch."""
        reply = command.request.reply
        self._history.tell(self._name, f"> {reply} to {command.address} as {command.dispatch_id}")
        owed = self.owed.get(reply) or self.jobs.get(reply)
        if owed is None:
            raise Broken("one-reply", f"{reply} is dispatched to {command.address}, and has its terminal reply")
        must(not owed.must_not_run, "must-not-run", f"{reply} is dispatched to {command.address}: {owed.must_not_run}")
        self._by_dispatch.pop(owed.out, None)
        self._retries += owed.leaves(command, self._now)
        must(command.attempt == owed.attempts, "attempts", f"{reply}: attempt {owed.attempts} says {command.attempt}")
        must(command.timeout_ms >= 1, "in-time", f"{reply} is dispatched with no time left")
        if owed.ran:
            self._runs_again(owed, reply)
        if owed.key:
            self.claims.dispatched(command, owed.key)
        self._by_dispatch[command.dispatch_id] = owed

    def _runs_again(self, owed: Obligation, reply: str) -> None:
        what = f"{reply} is dispatched again, and may have run {owed.ran} times"
        must(owed.promise.idempotent, "no-second-run", what)
        must(not owed.frames, "no-second-run", f"{what}: {owed.frames} frames were forwarded")
        must(owed.worker not in owed.tried, "right-worker", f"{what}, also at {owed.worker}")
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
        self._history.tell(self._name, f"> {reply} {what} {seq}")
        if reply.startswith("cancel"):  # whoever has the request, or nobody, says so
            if isinstance(command, Answer):
                self.claims.cancelled(reply)
            return
        owed = self.owed.get(reply)
        if owed is None:
            raise Broken("one-reply", f"{reply} is sent {what}, and has its terminal reply")
        if frame:
            must(seq == owed.frames, "frames", f"{reply} is sent frame {seq} where {owed.frames} was due")
            owed.frames += 1
            if isinstance(command, Answer) and frame == "chunk":
                owed.pieces += command.body
        else:
            must(not owed.frames, "frames", f"{reply} is sent {what} after {owed.frames} frames, and no end")
        if isinstance(command, Answer):
            self._fits(owed, command)
        elif command.refusal.kind is ErrorKind.DEADLINE:
            early = self._now < owed.earliest and not owed.hangs(self._now)
            must(not early, "in-time", f"{reply} is refused {owed.earliest - self._now:.3f} s before its deadline")
        if frame in ("", "end"):
            must(not self._replied, "one-reply", f"no record tells of {self._replied}")
            if owed.key or owed.request.action == "submit":
                self.claims.replied(command, owed)
            del self.owed[reply]
            self._by_dispatch.pop(owed.out, None)
            self._replied = owed.of[1]

    def _fits(self, owed: Obligation, command: Answer) -> None:
        what, promise = f"{command.reply} is sent", owed.promise
        must(not owed.broke, "right-answer", f"{what} {command.frame or 'an answer'}, and its worker {owed.broke}")
        if owed.attempts:
            most = promise.max_output_bytes
            must(most is None or len(command.body) <= most, "right-answer", f"{what} {len(command.body)} bytes")
            must(not promise.schemas or command.body != BAD, "right-answer", f"{what} what does not fit its schema")

    def recorded(self, record: DecisionRecord) -> None:
        """It tells of a decision."""
        told = record.request_id
        if not self._replied and self._jobs_told[told]:
            self._jobs_told[told] -= 1
            return
        must(told == self._replied, "one-reply", f"a record of {told} where one of {self._replied or 'none'} was due")
        self._replied = ""

    def confirmed(self, reply: str) -> None:
        """It confirms something that was asked for: a cancel, if it is one."""
        if reply.startswith("cancel"):
            self.claims.cancelled(reply)

    # What it does with the stores -------------------------------------------------------

    def writes(self, command: WriteClaim) -> None:
        """It has a claim stored."""
        self._does("writes", self.claims.writes(command))

    def releases(self, command: ReleaseClaim) -> None:
        """It has a key forgotten."""
        self._does("releases", self.claims.releases(command))

    def says(self, command: AckJob | NakJob | ExtendJob) -> None:
        """It says something of a job's delivery."""
        self._does(type(command).__name__, self.claims.says(command))

    def _does(self, what: str, note: str) -> None:
        self._history.tell(self._name, f"> {what} {note}")

    def check(self, router: AuditedRouter, now: float) -> None:
        """Whoever's deadline is over has a reply, and what the stream told is known."""
        must(not self._replied, "one-reply", f"no record tells of {self._replied}")
        for reply, owed in self.owed.items():
            over_s = now - owed.due(self._thawed_at) - 2 * SLOT_S
            must(over_s <= 0, "in-time", f"{reply} has no terminal reply {over_s:.3f} s after its deadline")
        self.news.check(router.world.registry)
