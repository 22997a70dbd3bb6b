"""Everything that can happen to a router, in any order, by a seed: the world of the laws' test.

A step is a name and a seed of its own, so that a failing run can be cut down to the steps that matter. The registry
stream here is shared with another controller, answers late and in any order, fails, and is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from harness import ALLOW, Call, House, manifest_of, registration, spec, stored

from controller.core.commands import Authorize, Command, Dispatch, ReadSubject, StoreDeparture, StoreManifest
from controller.core.events import (
    TICK,
    Answered,
    CancelAsked,
    EntrySeen,
    Event,
    RegistryRestarted,
    StoredDeparture,
    SubjectRead,
    VerdictReached,
    WriteAnswered,
)
from controller.core.model import Mismatch, Request, Verdict
from controller.core.timers import SLOT_S
from controller.core.world import Limits
from simulation.books import AuditedRouter, check_all
from subjects.answers import Answer, Fault, Frame, Garbage, NoResponders, NotRun, Result
from subjects.manifests import Manifest
from subjects.messages import Departure
from subjects.tokens import CapabilityId, DispatchId, RequestId

# What a capability promises never changes here, so that the law can be judged from outside.
ONCE, PURE, STREAM = CapabilityId("run:once"), CapabilityId("run:pure"), CapabilityId("run:stream")
IDEMPOTENT = {ONCE: False, PURE: True, STREAM: True}
WORKERS = [f"w-{n}" for n in range(5)]
CALLERS = ["ann", "bob"]
MAX_ATTEMPTS = 2
# Nothing takes longer than the longest patience of a caller, and what an orphan is counted for.
CALM_S = 20.0


def check_body(schema: str, body: bytes) -> Mismatch | None:
    """A schema of ``true`` takes all but ``bad``."""
    return Mismatch(True, "name", "is wrong") if body == b'"bad"' else None


class Chaos(House):
    """A house where anything happens. ``step`` does one thing and checks every law."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        super().__init__(
            seed=seed,
            timeout_ms=800,
            check=check_body,
            limits=Limits(queue_limit=6, max_attempts=MAX_ATTEMPTS, max_workers=4),
            policy=self._judge,
            answers_claims=False,
            answers_store=False,
            router=AuditedRouter,
        )
        self.asked: list[Authorize] = []
        self.writes: list[Command] = []
        self.answered: list[Event] = []
        self.tail: list[Event] = []
        self.fed: dict[str, list[Answer]] = {}
        self.by_dispatch: dict[str, Call] = {}
        self.stalled_until = 0.0
        self.steps: dict[str, Callable[[], None]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }
        self._begin()

    def _begin(self) -> None:
        """Three workers, so that not everything fails."""
        self.beating = set(WORKERS[:3])
        self.answers_store = True
        for worker_id in WORKERS[:3]:
            offered = (spec(c, idempotent=IDEMPOTENT[c], streaming=c == STREAM) for c in IDEMPOTENT)
            self.register(worker_id, *offered, instance="a")
        self.answers_store = False

    def _judge(self, request: Request) -> Verdict | None:
        chance = self.dice.random()
        if chance < 0.1:
            return None
        if chance < 0.15:
            return Verdict(False, "no", 0.1, unavailable=chance < 0.12)
        return ALLOW if chance < 0.3 else Verdict(True, "for a moment", 0.5)

    def _perform(self, command: Command) -> Event | None:
        match command:
            case Authorize():
                self.asked.append(command)
            case StoreManifest() | StoreDeparture() | ReadSubject():
                self.writes.append(command)
            case Dispatch():
                self._check_dispatch(command)
        return super()._perform(command)

    def _check_dispatch(self, command: Dispatch) -> None:
        call = self.calls[command.request.reply]
        capability = call.request.capability
        assert not call.terminal, "dispatched after the end"
        assert not call.request.headers.dry_run
        assert command.attempt == len(call.dispatches) + 1
        assert command.timeout_ms >= 1
        ran = 0
        for before in call.dispatches:
            flight = self.router._flights.get(DispatchId(before.dispatch_id))
            assert flight is None or flight.life is None, "two are out at a time"
            fed = self.fed[before.dispatch_id]
            nothing_ran = len(fed) == 1 and isinstance(fed[0], NoResponders | NotRun)
            ran += not nothing_ran
            assert not any(isinstance(answer, Frame) and answer.kind != "end" for answer in fed), "after a chunk"
        assert ran < MAX_ATTEMPTS
        assert IDEMPOTENT[capability] or ran == 0, "what may have run is run again"
        self.fed[command.dispatch_id] = []
        self.by_dispatch[command.dispatch_id] = call

    # One step ---------------------------------------------------------------------

    def step(self, name: str, seed: int) -> None:
        """Do one thing, and see that every law holds."""
        self.dice = Random(seed)
        self.steps[name]()
        self.check()

    def check(self) -> None:
        """The laws that hold at any time."""
        check_all(self.router)
        late = self.now - SLOT_S
        for call in self.calls.values():
            assert len(call.terminal) <= 1, "two ends"
            if call.terminal:
                assert call.replies[-1] is call.terminal[0], "something came after the end"
                assert len(call.records) == 1
            assert [number for _, number, _ in call.frames] == list(range(len(call.frames)))
        for twins in self.router._lives.values():
            for life in twins:
                assert life.deadline >= late or self.router.timers.next_due() <= self.now  # type: ignore[operator]

    def calm(self) -> None:
        """Answer what is still asked, let everything run out, and see that nothing is left."""
        self.dice = Random(0)
        self.beating.clear()
        for _ in range(10):
            self._settle()
            while self.asked:
                self.do_edge_answers()
            self.store_answers()
            self.until(self.now + CALM_S / 10)
        self.until(self.now + CALM_S)
        router = self.router
        assert router.live == 0
        assert router.in_flight == 0
        assert not router._lives
        for call in self.calls.values():
            assert len(call.terminal) == 1, call.request
        for worker in self.world.registry.workers.values():
            assert worker.in_flight == 0
            assert all(offer.in_flight == 0 and not offer.paused for offer in worker.offers)
            last = self.stream.get(worker.id)
            assert worker.seq in (0, last.seq if last is not None else 0), "it is not what is stored"
        assert all(group.waiting == 0 for group in self.world.registry.groups.values())
        membership = router.membership
        assert not membership._joining
        assert not membership._leaving
        assert not membership._reading
        assert not membership._known_when_read
        for _ in range(400):  # what lingers may do so for a window, and renews its lease
            self.until(self.now + 10)
            self.store_answers()
        assert not self.world.registry.workers
        assert len(router.timers) == 0
        assert not router.timers._slots
        self.check()

    def _settle(self) -> None:
        while self.writes or self.answered or self.tail:
            self.do_stream_answers()
            self.do_stream_delivers()
            self.do_tail()

    # Requests -----------------------------------------------------------------------

    def do_request(self) -> None:
        dice = self.dice
        headers: dict[str, Any] = {"timeout_ms": dice.choice([None, None, 30, 200, 5000])}
        if dice.random() < 0.2:
            headers["version"] = dice.choice(["^1.0", "^1.0", "^2.0", ">=9"])
        if dice.random() < 0.1:
            headers["constraints"] = dice.choice(['{"gpu":1}', '{"gpu":4}'])
        if dice.random() < 0.15:
            headers["idempotency_key"] = f"k-{dice.randrange(10**9)}"
        if dice.random() < 0.05:
            headers["dry_run"] = True
        self.request(
            CapabilityId("run:never") if dice.random() < 0.03 else dice.choice([ONCE, PURE, PURE, STREAM]),
            b'"bad"' if dice.random() < 0.05 else b"{}",
            caller=dice.choice(CALLERS),
            request_id=dice.choice(["", "", "twin"]),
            **headers,
        )

    def do_edge_answers(self) -> None:
        """The policy or the claims answer, some of them twice."""
        if self.unanswered and self.dice.random() < 0.7:
            self.stores.away = self.dice.choice(["", "", "", "the store is away"])
            self.store_answers()
            self.stores.away = ""
            return
        if not self.asked:
            return
        asked = self.asked[self.dice.randrange(len(self.asked))]
        if self.dice.random() < 0.9:
            self.asked.remove(asked)
        self.feed(VerdictReached(asked.life, ALLOW))

    def do_cancel(self) -> None:
        dice = self.dice
        ids = ["twin", "no-such", *(call.request.request_id for call in list(self.calls.values())[-5:])]
        reply = f"_INBOX.cancel.{dice.randrange(9)}"
        self.feed(CancelAsked(dice.choice(CALLERS), RequestId(dice.choice(ids)), reply, dice.random() < 0.5))

    # Answers ------------------------------------------------------------------------

    def do_answer(self) -> None:
        """A worker answers one of its dispatches: in time, late, twice, or one that never was."""
        dice = self.dice
        out = [dispatch_id for dispatch_id, flight in self.router._flights.items() if flight.sent]
        if dice.random() < 0.9:
            if not out:
                return
            dispatch_id = str(dice.choice(out))
        elif self.by_dispatch and dice.random() < 0.8:
            dispatch_id = dice.choice(list(self.by_dispatch)[-20:])
        else:
            dispatch_id = "made-up"
        answer = self._any_answer(dispatch_id)
        flight = self.router._flights.get(DispatchId(dispatch_id))
        if flight is not None and flight.life is not None:
            self.fed[dispatch_id].append(answer)
        self.feed(Answered(DispatchId(dispatch_id), answer))

    def _any_answer(self, dispatch_id: str) -> Answer:
        dice = self.dice
        frames = sum(isinstance(answer, Frame) for answer in self.fed.get(dispatch_id, ()))
        seq = frames if dice.random() < 0.9 else frames + 1
        fault = Fault(500, "it broke", retryable=dice.random() < 0.7)
        kinds: list[Answer] = [
            Result(dice.choice([b'"ok"', b'"bad"', b"x" * 100])),
            *[Result(b'"ok"')] * 3,
            fault,
            NotRun("busy"),
            NotRun("draining"),
            NotRun("deadline"),
            NoResponders(),
            Frame("chunk", seq, b"piece"),
            Frame("progress", seq, b"half"),
            Frame("end", seq, b"all"),
            Frame("end", seq, fault=fault),
            Garbage("nonsense"),
        ]
        return dice.choice(kinds)

    # Workers ------------------------------------------------------------------------

    def _any_manifest(self) -> Manifest:
        dice = self.dice
        offered = [
            spec(
                capability,
                dice.choice(["1.0.0", "2.1.0"]),
                max_concurrency=dice.choice([1, 1, 2]),
                idempotent=IDEMPOTENT[capability],
                streaming=capability == STREAM,
                input_schema=dice.choice([None, True]),
                output_schema=dice.choice([None, True]),
                constraints=dice.choice([None, {"gpu": 2}, {"timeout_s": 0.1, "max_output_bytes": 50}]),
            )
            for capability in IDEMPOTENT
            if dice.random() < 0.8
        ]
        instance = dice.choice([None, "a", "a", "a", "a", "b"])
        return manifest_of(dice.choice(WORKERS), *(offered or [spec(PURE, idempotent=True)]), instance=instance)

    def do_register(self) -> None:
        self.feed(registration(self._any_manifest(), f"_INBOX.register.{self.dice.randrange(99)}"))

    def do_deregister(self) -> None:
        self.deregister(self.dice.choice(WORKERS), self.dice.choice([None, "a", "b"]))

    def do_heartbeat(self) -> None:
        dice = self.dice
        worker_id, draining = dice.choice(WORKERS), dice.random() < 0.1
        commands = self.beat(
            worker_id,
            instance=dice.choice([None, None, "a", "b"]),
            capacity=dice.choice([None, None, None, 0, 1, 2]),
            in_flight=dice.choice([None, 1]),
            draining=draining,
        )
        if draining:
            dispatched = {c.address.partition(".")[0] for c in commands if isinstance(c, Dispatch)}
            assert worker_id not in dispatched, "it says that it drains"

    def do_beating(self) -> None:
        """A worker begins or ceases to send heartbeats by itself."""
        self.beating ^= {self.dice.choice(WORKERS)}

    # The registry stream --------------------------------------------------------------

    def do_stream_answers(self) -> None:
        """The stream takes in or refuses one of the writes that are under way; its answer is on its way."""
        if not self.writes:
            return
        command = self.writes.pop(self.dice.randrange(len(self.writes)))
        if self.dice.random() < 0.1:
            reading = isinstance(command, ReadSubject)
            worker_id = command.worker_id  # type: ignore[union-attr]
            self.answered.append(
                SubjectRead(worker_id, None, failed=True)
                if reading
                else WriteAnswered(worker_id, None, reason="no answer")
            )
            return
        before = self.stream.seq
        self.answered.append(self.stream.answer(command))
        if self.stream.seq != before:
            self.tail.append(EntrySeen(self.stream[command.worker_id]))  # type: ignore[union-attr]

    def do_stream_delivers(self) -> None:
        if self.answered:
            self.feed(self.answered.pop(self.dice.randrange(len(self.answered))))

    def do_tail(self) -> None:
        """The tail brings the next entries, in order, and sometimes one of them again."""
        for _ in range(self.dice.randrange(1, 4)):
            if self.tail:
                entry = self.tail.pop(0)
                self.feed(entry)
                if self.dice.random() < 0.1:
                    self.feed(entry)

    def do_elsewhere(self) -> None:
        """Another controller wrote: a worker registered or left there."""
        manifest = self._any_manifest()
        self.stream.seq += 1
        last = self.stream.get(manifest.worker_id)
        if last is not None and self.dice.random() < 0.4:
            departure = Departure(manifest.worker_id, (PURE,), "elsewhere")
            self.stream[manifest.worker_id] = StoredDeparture(manifest.worker_id, self.stream.seq, departure)
        else:
            self.stream[manifest.worker_id] = stored(manifest, self.stream.seq)
        self.tail.append(EntrySeen(self.stream[manifest.worker_id]))

    def do_stream_replaced(self) -> None:
        """The stream was recreated, or went back."""
        if self.dice.random() < 0.7:
            return
        self.stream.replace()
        self.tail.clear()
        # What the old stream had answered is gone with its connection.
        self.answered = [
            SubjectRead(answer.worker_id, None, failed=True)
            if isinstance(answer, SubjectRead)
            else WriteAnswered(answer.worker_id, None, reason="the stream is gone")  # type: ignore[union-attr]
            for answer in self.answered
        ]
        self.feed(RegistryRestarted())

    # Time -----------------------------------------------------------------------------

    def do_time(self) -> None:
        self.until(self.now + self.dice.choice([0.001, 0.001, 0.01, 0.06, 0.2]))

    def do_long_time(self) -> None:
        self.until(self.now + self.dice.choice([1.0, 3.0, 7.0]))

    def do_very_long_time(self) -> None:
        if self.dice.random() < 0.1:
            self._settle()  # the stream answers within seconds, or not at all
            self.until(self.now + 3700.0)

    def do_stall(self) -> None:
        """The process stood still: time jumps, and nothing happened meanwhile."""
        seconds = self.dice.choice([0.6, 3.0, 20.0])
        self._beat_due += seconds
        self.stand_still(seconds)
        if self.dice.random() < 0.5:
            self.feed(TICK)


# Requests, answers and time make up most of a life; the rest is spread in between.
OFTEN = ["request"] * 16 + ["answer"] * 24 + ["time"] * 6 + ["heartbeat"] * 4 + ["register"] * 2
SELDOM = [
    *("edge_answers", "edge_answers", "cancel", "beating", "deregister", "elsewhere", "tail", "tail", "long_time"),
    *("stream_answers", "stream_answers", "stream_answers", "stream_delivers", "stream_delivers", "stream_delivers"),
    *("stall", "stream_replaced", "very_long_time"),
]
NAMES = OFTEN + SELDOM


def any_steps(seed: int, count: int) -> list[tuple[str, int]]:
    """``count`` steps by a seed."""
    dice = Random(seed)
    return [(dice.choice(NAMES), dice.getrandbits(32)) for _ in range(count)]
