"""Owns running the lives: each step of one is done here, and its next event handed to it; and which life is whose.

It keeps the dispatches that are out and the queues, and asks ``claims`` for keys. What a life does next stands in
``life``; what happens to the core comes to ``router``, which is built on this.
"""

from __future__ import annotations

from collections.abc import Hashable

from controller.core import claim_refusals, records, refusals
from controller.core.admission import asked_of
from controller.core.by_name import ByName
from controller.core.claims import Claims
from controller.core.commands import (
    Ask,
    Attach,
    Authorize,
    Command,
    Dispatch,
    Follow,
    Forward,
    GiveUp,
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
    Store,
    Tell,
    Wait,
)
from controller.core.events import (
    DEADLINE_PASSED,
    WON,
    LifeEvent,
    WorkerLost,
)
from controller.core.fleet import Worker
from controller.core.flights import Flights
from controller.core.health import Health
from controller.core.life import LIVES
from controller.core.model import Request
from controller.core.objectives import Objective
from controller.core.pulls import Pulls
from controller.core.timers import Timers
from controller.core.waiting import Waiting
from controller.core.world import Flight, Life, Outcome, World
from subjects.claims import FINAL
from subjects.messages import Control, encode
from subjects.tokens import RequestId
from subjects.trace import traceparent

# A life that is answered at once so often goes round in circles: that must cost its own caller, and nobody else.
_STEPS = range(1000)


def cancelled(reply: str, request_id: str) -> ReplyJson:
    """To whoever cancels: it is done."""
    return ReplyJson(reply, encode({"status": "cancelled", "request_id": request_id}))


class Lives:
    """The lives of one controller."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lingering = 0
        """Requests whose callers have their reply, and whose work is followed for those who ask again."""
        self._out: list[Command] = []
        self._lives = ByName()
        self._live = 0
        self.timers: Timers[Hashable] = Timers()
        """Lives, flights, workers, offers and cancels, each with what is due for it."""
        self._waiting = Waiting(world, self.timers, self._resume)
        self.health = world.health = Health(self.timers, self._out_append, world.registry, self._waiting.wake)
        self._flights = Flights(world, self.timers, self._waiting.wake)
        self.claims = Claims(world, self._out_append, self._resume)
        self.pulls = Pulls(world, self._out_append)

    @property
    def live(self) -> int:
        """Requests that have no terminal reply yet."""
        return self._live

    @property
    def in_flight(self) -> int:
        """Dispatches that have not come back."""
        return len(self._flights)

    def _out_append(self, command: Command) -> None:
        self._out.append(command)

    def _life(self, request: Request) -> Life:
        world, trace = self.world, request.headers.trace
        ids = world.chance.randbytes(24).hex()
        trace_id = trace.trace_id if trace is not None else ids[16:]
        return Life(request, world.now, world.now + self._patience_s(request), trace_id, ids[:16])

    def _patience_s(self, request: Request) -> float:
        # A job's own time bounds each attempt, and neither its acceptance nor an operator's word.
        own_ms = None if request.action in ("submit", "retry") else request.headers.timeout_ms
        objective = self.world.rules.objectives.get(request.capability)
        asked_ms = objective.timeout_ms if objective is not None else None
        timeout_ms = own_ms or asked_ms or self.world.timeouts.timeout_ms(request.capability)
        return (timeout_ms - self.world.stalled_ms) / 1000

    def _stands_under(self, life: Life, job_id: str) -> None:
        key = life.request.headers.idempotency_key
        life.claims(key if key is not None else job_id)
        life.claim_key = job_id

    def _begin(self, life: Life) -> None:
        self._live += 1
        self._lives.add(life)
        life.steps = LIVES[life.request.action](life, self.world)
        self.timers.set(life, life.deadline)
        self._resume(life, None)

    def _resume(self, life: Life, event: LifeEvent | None) -> None:
        """Run a life until it waits for the world again, or ends."""
        if event is not WON and life.flight is not None and not life.flight.sent:
            self._flights.withdraw(life.flight)
        if life.waiting is not None:
            self._waiting.leave(life)
        if type(life.asked) is Attach:
            self.world.attached -= 1
        for _ in _STEPS:
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
            if event is None and life.asked is step:
                return
        raise RuntimeError(f"{life.request.action} {life.request.request_id} goes round in circles")

    def _take(self, life: Life, step: Step) -> LifeEvent | None:
        """Do what a life asks for. It waits where ``life.asked`` is the step; an answer known at once is returned."""
        match step:  # the commonest first
            case Put():
                flight = life.flight
                if flight is not None and not flight.sent:
                    self._flights.withdraw(flight)
                if step.offer is not None:
                    self._flights.launch(life, step.offer)
                return self._claimed(life, step, self.claims.put(life, step))
            case Send():
                life.asked = step
                self._send(life, step)
            case Forward(frame):
                life.asked = step
                if not life.replied:
                    self._out.append(records.frame_of(life, frame, self.world))
                    life.frames += 1
            case Wait():
                life.asked = step
                self._waiting.enter(life, step)
            case Follow(stop):
                life.asked = step
                if stop and life.flight is not None:
                    self._stop(life.flight)
            case GiveUp():
                self._give_up(life)
            case Ask():
                life.asked = step
                self._out.append(Authorize(life, life.request))
            case Attach():
                known = self._claimed(life, step, self.claims.attach(life))
                self.world.attached += known is None
                return known
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
                self.timers.set(life, life.deadline)
            case Pause(for_s):
                life.asked = step
                self.timers.set((life, step), self.world.now + for_s)
            case Store(command):
                life.asked = step
                self._out.append(command)
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

    def _send(self, life: Life, step: Send) -> None:
        world, offer, request = self.world, step.offer, life.request
        flight = life.flight
        if flight is None:
            flight = self._flights.launch(life, offer)
        flight.sent, flight.sent_at = True, world.now
        timeout_ms = step.timeout_ms
        if offer.timeout_s is not None and offer.timeout_s * 1000 < timeout_ms:
            timeout_ms = max(1, int(offer.timeout_s * 1000))
            self.timers.set(life, world.now + timeout_ms / 1000)
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
        self.timers.set(life, life.deadline)

    def _tell(self, life: Life, outcome: Outcome) -> None:
        """The terminal reply and the record; from now on nobody finds the life to cancel it."""
        world = self.world
        self._lives.remove(life)
        action = life.request.action
        if action == "request":
            measured = world.compliance.measured.get(life.request.capability)
            if measured is not None and self._is_meant(life, measured.objective):
                measured.count(life, outcome, world.now)
        if action != "job":
            self._out.append(records.reply_of(life, outcome, world))
        if action in ("request", "submit", "job"):
            self._out.append(Record(records.record_of(life, outcome, world)))

    def _is_meant(self, life: Life, objective: Objective) -> bool:
        """Whether its capability's objective speaks of it: of the version that was chosen, or might have been."""
        if life.chosen is not None:
            return objective.speaks_of(life.chosen.spec.version)
        group = self.world.registry.groups.get(life.request.capability)
        return group is None or asked_of(life, group) is not None

    def _finish(self, life: Life, outcome: Outcome) -> None:
        life.steps = None
        self.timers.cancel(life)
        if life.waiting is not None:
            self._waiting.leave(life)
        if life.flight is not None and not life.flight.sent:
            self._flights.withdraw(life.flight)
        if life.replied:
            self.lingering -= 1
        else:
            self._live -= 1
            self._tell(life, outcome)
        for reply in life.cancels:
            self._out.append(self._cancel_ends(life, reply))
        if life.claim_key:
            self.claims.leave(life)
        if life.delivery:
            self.pulls.ends(life.request.capability)

    def _cancel_ends(self, life: Life, reply: str) -> ReplyJson | ReplyRefusal:
        """What whoever cancelled a job that was worked on is told: what its record says by now."""
        claim = self.claims.get(life.claim_key)
        state = claim.record.state if claim is not None and claim.record is not None else ""
        if state == "cancelled":
            return cancelled(reply, life.request.job_id)
        if state in FINAL:
            return ReplyRefusal(reply, refusals.no_such_request(RequestId(life.request.job_id)))
        return ReplyRefusal(reply, claim_refusals.unreadable("the job could not be ended yet"))

    def _stop(self, flight: Flight) -> None:
        control = Control("cancel", dispatch_id=flight.dispatch_id)
        self._out.append(SendControl(flight.offer.worker.id, control))

    def _give_up(self, life: Life) -> None:
        flight = life.flight
        assert flight is not None
        self._stop(flight)
        self._flights.abandon(flight, "GivenUp")

    def _time_out(self, life: Life) -> None:
        if life.flight is not None and life.flight.sent:
            # What takes longer than anyone waits is slow, however long it will take.
            elapsed_ms = (self.world.now - life.flight.sent_at) * 1000
            self.health.timed_out(life.flight.offer, elapsed_ms, self.world.now, own=life.hurried)
        self._resume(life, DEADLINE_PASSED)

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
