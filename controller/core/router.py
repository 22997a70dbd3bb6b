"""Owns the way into the core: ``handle(event, now)`` takes in what happened and returns what to do about it.

It runs the lives, keeps which dispatch belongs to which, and knows when something is due. It never awaits, reads no
clock and rolls no dice of its own. ``controller.driver`` and the simulation call it.
"""

from __future__ import annotations

from collections.abc import Hashable

from controller.core import records, refusals
from controller.core.commands import (
    Answer,
    Ask,
    Authorize,
    Claim,
    Command,
    Dispatch,
    Forward,
    GiveUp,
    Protect,
    Record,
    ReplyJson,
    ReplyRefusal,
    Send,
    SendControl,
    Wait,
)
from controller.core.events import (
    CANCELLED,
    DEADLINE_PASSED,
    GIVEN_UP,
    WOKEN,
    Answered,
    CancelAsked,
    ClaimAnswered,
    Closing,
    DeregisterAsked,
    EntrySeen,
    Event,
    HeartbeatSeen,
    LifeEvent,
    RegisterAsked,
    RegistryRestarted,
    RequestArrived,
    Stalled,
    SubjectRead,
    Tick,
    VerdictReached,
    WorkerLost,
    WriteAnswered,
)
from controller.core.fleet import Offer, Worker
from controller.core.flights import Flights
from controller.core.life import live
from controller.core.membership import Membership
from controller.core.presence import Presence
from controller.core.timers import Timers
from controller.core.waiting import Waiting
from controller.core.world import Flight, Life, Outcome, World
from subjects.answers import Fault, Frame, NoResponders, NotRun, Result
from subjects.messages import Control, encode
from subjects.tokens import DispatchId
from subjects.trace import traceparent

# How long one member of the queue group gives the owner of a request to answer its cancel.
CANCEL_WAIT_S = 0.5
MAX_CANCELS = 10_000
# What piled up while the process stood still is read within this time.
CATCH_UP_S = 0.25


class Router:
    """One controller's core. Not thread-safe; every method is called from one loop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.late_answers = 0
        """Answers that came when nobody waited for them any more."""
        self._out: list[Command] = []
        self._lives: dict[tuple[str, str], dict[Life, None]] = {}
        self._live = 0
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
        self._on = {
            RequestArrived: self._arrived,
            Answered: self._answered,
            HeartbeatSeen: self.membership.heartbeat,
            VerdictReached: self._verdict,
            ClaimAnswered: self._claimed,
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
        out, self._out = self._out, []
        return out

    def _out_append(self, command: Command) -> None:
        self._out.append(command)

    # Requests -------------------------------------------------------------------

    def _arrived(self, event: RequestArrived) -> None:
        world, request = self.world, event.request
        headers = request.headers
        timeout_ms = headers.timeout_ms or world.timeouts.timeout_ms(request.capability)
        trace = headers.trace
        ids = world.chance.randbytes(24).hex()
        trace_id = trace.trace_id if trace is not None else ids[16:]
        life = Life(request, world.now, world.now + (timeout_ms - world.stalled_ms) / 1000, trace_id, ids[:16])
        self._live += 1
        key = (request.caller, request.request_id)
        twins = self._lives.get(key)
        if twins is None:
            self._lives[key] = {life: None}
        else:
            twins[life] = None
        world.retries.request()
        life.steps = live(life, world)
        self._timers.set(life, life.deadline)
        self._resume(life, None)

    def _resume(self, life: Life, event: LifeEvent | None) -> None:
        """Run a life until it waits for the world again, or ends."""
        assert life.steps is not None
        life.asked = None
        send = life.steps.send
        while True:
            try:
                step = send(event)
            except StopIteration as stop:
                self._finish(life, stop.value)
                return
            event = None
            match step:
                case Send():
                    self._send(life, step)
                    return
                case Forward(frame):
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
                    return
                case Wait(pool):
                    self._waiting.enter(life, pool)
                    return
                case GiveUp():
                    self._give_up(life)
                case Ask():
                    life.asked = step
                    self._out.append(Authorize(life, life.request))
                    return
                case Protect():
                    life.asked = step
                    self._out.append(Claim(life, life.request))
                    return

    def _send(self, life: Life, step: Send) -> None:
        world, offer, request = self.world, step.offer, life.request
        ids = world.chance.randbytes(20).hex()
        flight = self._flights.launch(life, offer, DispatchId(ids[16:]))
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
                step.attempt,
                timeout_ms,
                traceparent(life.trace_id, ids[:16], trace is not None and trace.sampled),
            )
        )

    def _finish(self, life: Life, outcome: Outcome) -> None:
        world, request = self.world, life.request
        self._live -= 1
        self._timers.cancel(life)
        key = (request.caller, request.request_id)
        twins = self._lives[key]
        if len(twins) == 1:
            del self._lives[key]
        else:
            del twins[life]
        life.steps = None
        self._waiting.leave(life)
        self._out.append(records.reply_of(life, outcome, world))
        self._out.append(Record(records.record_of(life, outcome, world)))

    def _give_up(self, life: Life) -> None:
        flight = life.flight
        assert flight is not None
        self._out.append(SendControl(flight.offer.worker.id, Control("cancel", dispatch_id=flight.dispatch_id)))
        self._flights.abandon(flight, "GivenUp")

    def _close(self, event: Closing) -> None:
        for life in [life for twins in self._lives.values() for life in twins]:
            if life.steps is not None:
                self._resume(life, GIVEN_UP)

    def _verdict(self, event: VerdictReached) -> None:
        life: Life = event.life
        request = life.request
        self.world.verdicts.put(request.caller, request.capability, event.verdict, self.world.now)
        if isinstance(life.asked, Ask):
            self._resume(life, event)

    def _claimed(self, event: ClaimAnswered) -> None:
        life: Life = event.life
        if isinstance(life.asked, Protect):
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
                    refusal = refusals.no_such_request(due.request_id)
                    self._out.append(ReplyRefusal(due.reply, refusal))

    def _time_out(self, life: Life) -> None:
        if life.flight is not None:
            # What takes longer than anyone waits is slow, however long it will take.
            elapsed_ms = (self.world.now - life.flight.sent_at) * 1000
            life.flight.offer.observe(elapsed_ms, self.world.now)
        self._resume(life, DEADLINE_PASSED)
