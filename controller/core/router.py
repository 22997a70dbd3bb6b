"""Owns the way into the core: ``handle(event, now)`` takes in what happened and returns what to do about it.

It knows whom each event is for, and when something is due; ``lives`` below it runs what follows. It never awaits, reads
no clock and rolls no dice of its own. ``controller.driver`` and the simulation call it.
"""

from __future__ import annotations

from controller.core.cancels import Cancels
from controller.core.commands import Ask, Command, Pause, Store, Wait
from controller.core.counting import Counting
from controller.core.events import (
    GIVEN_UP,
    WOKEN,
    Answered,
    CancelAsked,
    ClockSet,
    Closing,
    CountingBegins,
    CountingEnds,
    CountsKnown,
    DeregisterAsked,
    EntrySeen,
    Event,
    HeartbeatSeen,
    PeerCounts,
    RegisterAsked,
    RegistryRestarted,
    RequestArrived,
    ResolveAsked,
    RetryAsked,
    RulesChanged,
    Stalled,
    SubjectRead,
    Tick,
    VerdictReached,
    WriteAnswered,
)
from controller.core.fleet import Offer, Worker
from controller.core.health import Review, judge
from controller.core.lives import Lives
from controller.core.membership import Membership
from controller.core.presence import Presence
from controller.core.stored import (
    Appended,
    ClaimFailed,
    ClaimNoticed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ClaimUnread,
    JobDelivered,
    JobsKnown,
    PullEnded,
    StoreLevel,
)
from controller.core.world import Flight, Life, World
from subjects.answers import Fault, Frame, NoResponders, NotRun, Result

SWEEP = "sweep"
"""The one thing that is due again and again: leases to be renewed and looked at, jobs to be pulled."""
# What piled up while the process stood still is read within this time.
CATCH_UP_S = 0.25


class Router(Lives):
    """One controller's core. Not thread-safe; every method is called from one loop."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.late_answers = 0
        """Answers that came when nobody waited for them any more."""
        self._calm_at = 0.0
        self._sweeps = False
        """Whether the next sweep is among what is due."""
        self._cancels = Cancels(world, self.timers, self._lives, self._out_append, self._resume)
        self.presence = Presence(world, self.timers, self._out_append, self._lose, self._waiting.wake)
        self.membership = Membership(world, self.presence, self._out_append)
        self.counting = Counting(world, self.timers, self._out_append)
        self._on = {
            RequestArrived: self._arrived,
            Answered: self._answered,
            HeartbeatSeen: self.membership.heartbeat,
            VerdictReached: self._verdict,
            ClaimStored: self.claims.stored,
            ClaimRefused: self.claims.refused,
            ClaimFailed: self.claims.failed,
            ClaimUnanswered: self.claims.unanswered,
            ClaimRead: self.claims.read,
            ClaimUnread: self.claims.unread,
            ClaimNoticed: self.claims.notice,
            StoreLevel: self.claims.level,
            Appended: self._appended,
            JobDelivered: self._delivered,
            JobsKnown: lambda event: self.pulls.known(event.capability),
            PullEnded: lambda event: self.pulls.ended(event.capability),
            ResolveAsked: self._resolve,
            RetryAsked: self._retry,
            CancelAsked: lambda event: self._cancels.asked(event, self._live),
            RegisterAsked: self.membership.register,
            DeregisterAsked: self.membership.deregister,
            EntrySeen: lambda event: self.membership.entry(event.entry),
            RegistryRestarted: lambda event: self.membership.restarted(),
            WriteAnswered: self.membership.written,
            SubjectRead: self.membership.read,
            Stalled: self._stalled,
            RulesChanged: self._ruled,
            CountingBegins: self.counting.begins,
            PeerCounts: self.counting.told,
            CountsKnown: self.counting.known,
            CountingEnds: self.counting.ends,
            ClockSet: self.counting.clock_set,
            Closing: self._close,
            Tick: self._tick,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in an event at ``now`` (seconds, never going back); returns the commands to carry out, in order."""
        self.world.now = now
        self._on[type(event)](event)  # type: ignore[operator]  # the table pairs each event with its method
        if not self._sweeps and (self.claims or self.pulls):
            self._sweeps = True
            self.timers.set(SWEEP, now + self.claims.sweep_s)
        out, self._out = self._out, []
        return out

    # Requests -------------------------------------------------------------------

    def _arrived(self, event: RequestArrived) -> None:
        request = event.request
        self.world.retries.request()
        life = self._life(request)
        if request.action in ("result", "cancel"):
            life.claim_key = request.job_id
        self._begin(life)

    def _delivered(self, event: JobDelivered) -> None:
        self.pulls.begins(event.request.capability)
        life = self._life(event.request)
        self._stands_under(life, event.job_id)
        life.delivery = event.delivery
        self._begin(life)

    def _retry(self, event: RetryAsked) -> None:
        life = self._life(event.request)
        self._stands_under(life, event.request.job_id)
        life.dead_seq = event.dead_seq
        self._begin(life)

    def _resolve(self, event: ResolveAsked) -> None:
        life = self._life(event.request)
        life.claim_key, life.given = event.request.job_id, event.answer
        self._begin(life)

    def _close(self, event: Closing) -> None:
        self.pulls.closing = True
        for life in [life for twins in self._lives.values() for life in twins]:
            if life.steps is not None:
                self._resume(life, GIVEN_UP)

    def _verdict(self, event: VerdictReached) -> None:
        life: Life = event.life
        request = life.request
        if request.action != "resolve":
            self.world.verdicts.put(request.caller, request.capability, event.verdict, self.world.now)
        if isinstance(life.asked, Ask):
            self._resume(life, event)

    def _appended(self, event: Appended) -> None:
        life: Life = event.life
        if isinstance(life.asked, Store):
            self._resume(life, event)

    # What comes back ------------------------------------------------------------

    def _answered(self, event: Answered) -> None:
        answer = event.answer
        flight = self._flights.get(event.dispatch_id)
        if flight is None:
            self.late_answers += 1
            return
        offer, life, now = flight.offer, flight.life, self.world.now
        kind = type(answer)
        if kind is NoResponders:
            self.presence.unreachable(offer)
        else:
            self.presence.heard(offer.worker)
        if kind is Frame and answer.kind != "end":  # type: ignore[union-attr]
            if life is not None:
                self._resume(life, answer)
            return
        took_ms = (now - flight.sent_at) * 1000
        fault = answer if kind is Fault else answer.fault if kind is Frame else None  # type: ignore[union-attr]
        if isinstance(fault, Fault):
            self.health.faulted(offer, fault, took_ms, now)
        elif kind is Result or kind is Frame:
            self.health.answered(offer, took_ms, now)
        elif kind is NotRun:
            self._not_run(offer, answer)  # type: ignore[arg-type]
        self._flights.land(flight, kind.__name__)
        if life is None:
            self.late_answers += 1
        else:
            self._resume(life, answer)

    def _not_run(self, offer: Offer, answer: NotRun) -> None:
        if answer.reason == "draining":
            self.presence.draining(offer.worker)
        elif answer.reason == "busy":
            self._flights.pause(offer)

    def _ruled(self, event: RulesChanged) -> None:
        """Everything is judged by these from now on; what waits or works goes on."""
        world, now = self.world, self.world.now
        world.rules = event.rules
        self.counting.ruled()
        objectives = world.registry.objectives = event.rules.objectives
        for capability, group in world.registry.groups.items():
            objective = objectives.get(capability)
            if objective != group.objective:
                group.objective = objective
                for offer in group.offers:
                    judge(offer, objective, now)
                    self.health.replace(offer, now)

    # Time -----------------------------------------------------------------------

    def _stalled(self, event: Stalled) -> None:
        """What is read now lay waiting for as long, and nobody's heartbeat could be heard meanwhile."""
        self.world.stalled_ms = event.ms
        self._calm_at = self.world.now + CATCH_UP_S
        for worker in self.world.registry.workers.values():
            worker.seen_at += event.ms / 1000
        self.claims.stood_still()

    def _tick(self, event: Tick) -> None:
        if self.world.now >= self._calm_at:
            self.world.stalled_ms = 0.0
        all_due = self.timers.pop_due(self.world.now)
        self._sweeps = SWEEP in self.timers  # before anything that may fail
        for due in all_due:
            match due:
                case Life():
                    # Whoever was due in the same moment may have ended it, or given it to another worker.
                    if due.steps is not None and due not in self.timers:
                        self._time_out(due)
                case Flight():
                    if due.dispatch_id in self._flights:
                        self._flights.land(due, "NeverAnswered")
                case Worker():
                    self.presence.check(due)
                case Offer():
                    self._flights.unpause(due)
                case CancelAsked():
                    request = self._cancels.unowned(due)
                    if request is not None:
                        self._arrived(RequestArrived(request))
                case Review():
                    self.health.review(due.offer, self.world.now)
                case (Life() as life, Wait() as step) if life.asked is step:
                    self._waiting.think_again(life, step)
                case (Life() as life, Pause()) if life.steps is not None and life.asked is due[1]:
                    self._resume(life, WOKEN)
                case "counting":
                    self.counting.step()
                case "sweep":
                    self.claims.sweep()
                    self.pulls.sweep()
