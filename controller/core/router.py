"""Owns the way into the core: ``handle(event, now)`` takes in what happened and returns what to do about it.

It runs the lives, keeps which dispatch belongs to which, and knows when something is due. It never awaits, reads no
clock and rolls no dice of its own. ``controller.driver`` and the simulation call it.
"""

from __future__ import annotations

from collections.abc import Hashable

from controller.core import records, refusals
from controller.core.claims import Claims
from controller.core.commands import (
    Answer,
    Append,
    Ask,
    Attach,
    Authorize,
    Bury,
    Command,
    Dispatch,
    Follow,
    Forward,
    GiveUp,
    Keep,
    Linger,
    Look,
    Observe,
    Pause,
    Put,
    Record,
    Release,
    Reply,
    ReplyJson,
    ReplyRefusal,
    Restart,
    Send,
    SendControl,
    Step,
    Tell,
    Wait,
)
from controller.core.events import (
    CANCELLED,
    DEADLINE_PASSED,
    GIVEN_UP,
    WOKEN,
    WON,
    Answered,
    CancelAsked,
    Closing,
    DeregisterAsked,
    EntrySeen,
    Event,
    HeartbeatSeen,
    LifeEvent,
    RegisterAsked,
    RegistryRestarted,
    RequestArrived,
    ResolveAsked,
    RetryAsked,
    Stalled,
    SubjectRead,
    Tick,
    VerdictReached,
    WorkerLost,
    WriteAnswered,
)
from controller.core.fleet import Offer, Worker
from controller.core.flights import Flights
from controller.core.life import LIVES
from controller.core.membership import Membership
from controller.core.model import Request
from controller.core.presence import Presence
from controller.core.pulls import Pulls
from controller.core.stored import (
    AppendDead,
    Appended,
    AppendJob,
    ClaimFailed,
    ClaimNoticed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ClaimUnread,
    JobDelivered,
    JobsKnown,
    KeepResult,
    PullEnded,
    StoreLevel,
)
from controller.core.timers import Timers
from controller.core.waiting import Waiting
from controller.core.world import Flight, Life, Outcome, World
from subjects.answers import Fault, Frame, NoResponders, NotRun, Result
from subjects.messages import Control, encode
from subjects.requests import NO_HEADERS
from subjects.tokens import CapabilityId, DispatchId, is_claim_key
from subjects.trace import traceparent

# How long one member of the queue group gives the owner of a request to answer its cancel.
CANCEL_WAIT_S = 0.5
MAX_CANCELS = 10_000
SWEEP = "sweep"
"""The one thing that is due again and again: leases to be renewed and looked at, jobs to be pulled."""
# What piled up while the process stood still is read within this time.
CATCH_UP_S = 0.25


_NO_CAPABILITY = CapabilityId("")


def _name_of(request: Request) -> tuple[str, str]:
    """What a caller cancels it by: a job by its id. Questions about jobs are nobody's to cancel."""
    if request.action in ("request", "submit"):
        return request.caller, request.request_id
    return request.caller, request.job_id if request.action == "job" else f"{request.action} {request.request_id}"


class Router:
    """One controller's core. Not thread-safe; every method is called from one loop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.late_answers = 0
        """Answers that came when nobody waited for them any more."""
        self._out: list[Command] = []
        self._lives: dict[tuple[str, str], dict[Life, None]] = {}
        self._live = 0
        self.lingering = 0
        """Requests whose callers have their reply, and whose work is followed for those who ask again."""
        self._calm_at = 0.0
        self._timers: Timers[Hashable] = Timers()
        """Lives, flights, workers, offers and cancels, each with what is due for it."""
        self.next_due = self._timers.next_due
        """When a ``Tick`` is needed next, or None."""
        self._waiting = Waiting(world)
        self._flights = Flights(world, self._timers, self._wake)
        self._cancels: dict[str, None] = {}
        """Reply subjects of cancels that were answered, until the queue group's copy of the message came too."""
        self.presence = Presence(world, self._timers, self._out_append, self._lose, self._wake)
        self.membership = Membership(world, self.presence, self._out_append)
        self.claims = Claims(world, self._out_append, self._resume)
        self.pulls = Pulls(world, self._out_append)
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
            CancelAsked: self._cancel,
            RegisterAsked: self.membership.register,
            DeregisterAsked: self.membership.deregister,
            EntrySeen: lambda event: self.membership.entry(event.entry),
            RegistryRestarted: lambda event: self.membership.restarted(),
            WriteAnswered: self.membership.written,
            SubjectRead: self.membership.read,
            Stalled: self._stalled,
            Closing: self._close,
            Tick: self._tick,
        }

    @property
    def live(self) -> int:
        """Requests that have no terminal reply yet."""
        return self._live

    @property
    def in_flight(self) -> int:
        """Dispatches that have not come back."""
        return len(self._flights)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in an event at ``now`` (seconds, never going back); returns the commands to carry out, in order."""
        self.world.now = now
        self._on[type(event)](event)  # type: ignore[operator]  # the table pairs each event with its method
        if SWEEP not in self._timers and (self.claims or self.pulls):
            self._timers.set(SWEEP, now + self.claims.sweep_s)
        out, self._out = self._out, []
        return out

    def _out_append(self, command: Command) -> None:
        self._out.append(command)

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

    def _life(self, request: Request) -> Life:
        world, trace = self.world, request.headers.trace
        ids = world.chance.randbytes(24).hex()
        trace_id = trace.trace_id if trace is not None else ids[16:]
        return Life(request, world.now, world.now + self._patience_s(request), trace_id, ids[:16])

    def _patience_s(self, request: Request) -> float:
        timeout_ms = request.headers.timeout_ms or self.world.timeouts.timeout_ms(request.capability)
        return (timeout_ms - self.world.stalled_ms) / 1000

    def _stands_under(self, life: Life, job_id: str) -> None:
        key = life.request.headers.idempotency_key
        life.claims(key if key is not None else job_id)
        life.claim_key = job_id

    def _begin(self, life: Life) -> None:
        self._live += 1
        key = _name_of(life.request)
        twins = self._lives.get(key)
        if twins is None:
            self._lives[key] = {life: None}
        else:
            twins[life] = None
        life.steps = LIVES[life.request.action](life, self.world)
        self._timers.set(life, life.deadline)
        self._resume(life, None)

    def _resume(self, life: Life, event: LifeEvent | None) -> None:
        """Run a life until it waits for the world again, or ends."""
        if life.flight is not None and not life.flight.sent and event is not WON:
            self._flights.withdraw(life.flight)
        while True:
            steps = life.steps
            if steps is None:
                return
            life.asked = None
            try:
                step = steps.send(event)
            except StopIteration as stop:
                self._finish(life, stop.value)
                return
            event = self._take(life, step)
            if event is None and life.asked is not step:
                continue
            if event is None:
                return

    def _take(self, life: Life, step: Step) -> LifeEvent | None:
        """Do what a life asks for. It waits where ``life.asked`` is the step; an answer known at once is returned."""
        match step:
            case Send():
                life.asked = step
                self._send(life, step)
            case Forward(frame):
                life.asked = step
                if not life.replied:
                    meta = records.meta_of(life, self.world, cost=False)
                    self._out.append(
                        Answer(
                            life.request.reply,
                            meta,
                            frame.content_type,
                            frame.passed,
                            frame.body,
                            frame.kind,
                            life.frames,
                        )
                    )
                    life.frames += 1
            case Wait(pool):
                life.asked = step
                self._waiting.enter(life, pool)
            case Follow(stop):
                life.asked = step
                if stop and life.flight is not None:
                    self._stop(life.flight)
            case GiveUp():
                self._give_up(life)
            case Ask():
                life.asked = step
                self._out.append(Authorize(life, life.request))
            case Put(_, offer):
                if life.flight is not None and not life.flight.sent:
                    self._flights.withdraw(life.flight)
                if offer is not None:
                    self._flights.launch(life, offer, self._dispatch_id())
                return self._claimed(life, step, self.claims.put(life, step))
            case Attach():
                return self._claimed(life, step, self.claims.attach(life))
            case Look():
                return self._claimed(life, step, self.claims.look(life, step))
            case Linger():
                return self._claimed(life, step, self.claims.linger(life))
            case Release():
                self.claims.release(life)
            case Observe():
                self.claims.observe(life)
            case Reply(outcome):
                self._reply(life, outcome)
            case Restart(for_s):
                life.deadline = self.world.now + (self._patience_s(life.request) if for_s is None else for_s)
                self._timers.set(life, life.deadline)
            case Pause(for_s):
                life.asked = step
                self._timers.set((life, step), self.world.now + for_s)
            case Append(message_id):
                life.asked = step
                self._out.append(AppendJob(life, life.request, life.claim_key, message_id))
            case Bury(record):
                life.asked = step
                message_id = f"{life.claim_key}.dead.{record.retries}"
                self._out.append(AppendDead(life, life.request, life.claim_key, message_id, record))
            case Keep(record):
                life.asked = step
                self._out.append(KeepResult(life, life.claim_key, record))
            case Tell(command):
                self._out.append(command)
        return None

    def _claimed(self, life: Life, step: Step, known: LifeEvent | None) -> LifeEvent | None:
        """A life waits for what comes of its claim, unless that is known at once."""
        if known is None:
            life.asked = step
        elif known is not WON and life.flight is not None and not life.flight.sent:
            self._flights.withdraw(life.flight)
        return known

    def _dispatch_id(self) -> DispatchId:
        return DispatchId(self.world.chance.randbytes(12).hex())

    def _send(self, life: Life, step: Send) -> None:
        world, offer, request = self.world, step.offer, life.request
        flight = life.flight
        if flight is None:
            flight = self._flights.launch(life, offer, self._dispatch_id())
        flight.sent, flight.sent_at = True, world.now
        timeout_ms = step.timeout_ms
        if offer.timeout_s is not None and offer.timeout_s * 1000 < timeout_ms:
            timeout_ms = max(1, int(offer.timeout_s * 1000))
            self._timers.set(life, world.now + timeout_ms / 1000)
            life.hurried = True
        trace = request.headers.trace
        self._out.append(
            Dispatch(
                flight.dispatch_id,
                offer.address,
                offer.spec.version,
                request,
                len(life.flights),
                timeout_ms,
                traceparent(life.trace_id, world.chance.randbytes(8).hex(), trace is not None and trace.sampled),
            )
        )

    def _reply(self, life: Life, outcome: Outcome) -> None:
        """Tell the caller now; what the life does from now on is for those who ask again."""
        if life.replied:
            return
        self._tell(life, outcome)
        self._live -= 1
        self.lingering += 1
        life.replied, life.hurried = True, False
        # Its worker was told how long it may take; an answer that is this late was lost on the way.
        life.deadline = self.world.now + max(self.world.limits.lease_s, life.deadline - life.arrived_at)
        self._timers.set(life, life.deadline)

    def _tell(self, life: Life, outcome: Outcome) -> None:
        """The terminal reply and the record; from now on nobody finds the life to cancel it."""
        world, key = self.world, _name_of(life.request)
        twins = self._lives[key]
        if len(twins) == 1:
            del self._lives[key]
        else:
            del twins[life]
        action = life.request.action
        if action != "job":
            self._out.append(records.reply_of(life, outcome, world))
        if action in ("request", "submit", "job"):
            self._out.append(Record(records.record_of(life, outcome, world)))

    def _finish(self, life: Life, outcome: Outcome) -> None:
        life.steps = None
        self._timers.cancel(life)
        self._waiting.leave(life)
        if life.flight is not None and not life.flight.sent:
            self._flights.withdraw(life.flight)
        if life.replied:
            self.lingering -= 1
        else:
            self._live -= 1
            self._tell(life, outcome)
        if life.claim_key:
            self.claims.leave(life)
        if life.delivery:
            self.pulls.ends(life.request.capability)

    def _stop(self, flight: Flight) -> None:
        control = Control("cancel", dispatch_id=flight.dispatch_id)
        self._out.append(SendControl(flight.offer.worker.id, control))

    def _give_up(self, life: Life) -> None:
        flight = life.flight
        assert flight is not None
        self._stop(flight)
        self._flights.abandon(flight, "GivenUp")

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
        if isinstance(life.asked, Append | Bury | Keep):
            self._resume(life, event)

    def _cancel(self, event: CancelAsked) -> None:
        lives = self._lives.get((event.caller, event.request_id))
        if lives is None:
            if event.last and self._cancels.pop(event.reply, self) is None:
                return  # answered a moment ago, when the same message came to every controller
            if (
                event.last
                and event.reply
                and len(self._timers) < MAX_CANCELS + self._live + len(self.world.registry.workers)
            ):
                self._timers.set(event, self.world.now + CANCEL_WAIT_S)
            return
        for life in list(lives):
            if life.steps is not None:
                self._resume(life, CANCELLED)
        if not event.reply:
            return
        if len(self._cancels) >= MAX_CANCELS:
            del self._cancels[next(iter(self._cancels))]
        self._cancels[event.reply] = None
        self._out.append(ReplyJson(event.reply, encode({"status": "cancelled", "request_id": event.request_id})))

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
        if kind is Fault or (kind is Frame and answer.fault is not None):  # type: ignore[union-attr]
            offer.observe_failure(took_ms, now)
        elif kind is Result or kind is Frame:
            offer.observe(took_ms, now)
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

    def _lose(self, worker: Worker, reason: str) -> None:
        """Everything that a worker had is lost."""
        for flight in self._flights.carried_by(worker):
            life = flight.life
            if not flight.sent:
                self._flights.withdraw(flight)  # whose life chooses again when its claim is acknowledged
                continue
            self._flights.land(flight, "WorkerLost")
            if life is not None:
                self._resume(life, WorkerLost(reason))

    def _wake(self, offers: list[Offer]) -> None:
        """Let those who wait for one of these offers choose again, the longest waiting first."""
        for offer in offers:
            while (life := self._waiting.next_for(offer)) is not None:
                self._resume(life, WOKEN)

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
        for due in self._timers.pop_due(self.world.now):
            match due:
                case Life():
                    # Whoever was due in the same moment may have ended it, or given it to another worker.
                    if due.steps is not None and due not in self._timers:
                        self._time_out(due)
                case Flight():
                    if due.dispatch_id in self._flights:
                        self._flights.land(due, "NeverAnswered")
                case Worker():
                    self.presence.check(due)
                case Offer():
                    self._flights.unpause(due)
                case CancelAsked():
                    self._cancel_unowned(due)
                case (Life() as life, Pause()) if life.steps is not None and life.asked is due[1]:
                    self._resume(life, WOKEN)
                case "sweep":
                    self.claims.sweep()
                    self.pulls.sweep()

    def _cancel_unowned(self, event: CancelAsked) -> None:
        """Nobody has it: a job that waits in its stream, or nothing."""
        if not is_claim_key(event.request_id):
            self._out.append(ReplyRefusal(event.reply, refusals.no_such_request(event.request_id)))
            return
        job_id = str(event.request_id)
        request = Request(
            _NO_CAPABILITY, event.caller, event.request_id, event.reply, NO_HEADERS, b"", action="cancel", job_id=job_id
        )
        self._arrived(RequestArrived(request))

    def _time_out(self, life: Life) -> None:
        if life.flight is not None and life.flight.sent:
            # What takes longer than anyone waits is slow, however long it will take.
            elapsed_ms = (self.world.now - life.flight.sent_at) * 1000
            life.flight.offer.observe(elapsed_ms, self.world.now)
        self._resume(life, DEADLINE_PASSED)
