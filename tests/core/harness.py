"""The core on a fake clock: a router with the smallest world around it that can answer what it asks.

``House`` registers workers, sends requests, answers dispatches and lets time pass. Whatever the router asks of the
policy, of the claims and of the registry stream is answered at once, unless a test says that it answers by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
from stores import Stores

from controller.core.commands import (
    Answer,
    Authorize,
    Command,
    Dispatch,
    Publish,
    ReadSubject,
    Record,
    Refuse,
    ReplyJson,
    ReplyRefusal,
    SendControl,
    StoreDeparture,
    StoreManifest,
)
from controller.core.events import (
    TICK,
    Answered,
    CancelAsked,
    DeregisterAsked,
    Event,
    HeartbeatSeen,
    RegisterAsked,
    RequestArrived,
    Stalled,
    StoredManifest,
    VerdictReached,
)
from controller.core.fleet import Offer, Worker
from controller.core.model import Action, CheckInput, DecisionRecord, Mismatch, Request, Verdict
from controller.core.registry import Registry
from controller.core.router import Router
from controller.core.stored import AppendJob, JobDelivered, ReadClaim, WriteClaim
from controller.core.world import Limits, World
from simulation.stream import Stream, digest_of
from simulation.stream import stored as in_stream
from subjects import answers
from subjects.errors import ErrorKind, Refusal
from subjects.manifests import Capability, Manifest
from subjects.messages import Deregister, Heartbeat
from subjects.requests import RequestHeaders
from subjects.tokens import CapabilityId, DispatchId, RequestId, WorkerId

HELLO = CapabilityId("greet:hello")
ALLOW = Verdict(allow=True, reason="allowed", valid_for_s=60.0)
DONE = answers.Result(b'"done"')
BUSY, DRAINING, TOO_LATE = answers.NotRun("busy"), answers.NotRun("draining"), answers.NotRun("deadline")
START_S = 1000.0


def manifest_of(worker_id: str, *capabilities: Capability, instance: str | None = None) -> Manifest:
    """A manifest, with ``greet:hello`` in version 1.0.0 when nothing is named."""
    return Manifest(WorkerId(worker_id), capabilities or (spec(),), instance)


def spec(capability: str = HELLO, version: str = "1.0.0", **fields: Any) -> Capability:
    """A capability's declaration."""
    verb, name = capability.split(":")
    return Capability(verb, name, version, **fields)


def registration(manifest: Manifest, reply: str = "_INBOX.register") -> RegisterAsked:
    """The event of a worker that sends ``manifest``."""
    body = msgspec.json.encode(manifest)
    return RegisterAsked(manifest, digest_of(body), body, reply)


def stored(manifest: Manifest, seq: int) -> StoredManifest:
    """``manifest`` as the stream's entry number ``seq``."""
    return in_stream(msgspec.json.encode(manifest), seq)


def fits_all(schema: str, body: bytes) -> Mismatch | None:
    """A check that finds nothing."""
    return None


class PatienceOf:
    """One default time-out for every capability."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def timeout_ms(self, capability: CapabilityId) -> int:
        return self.ms


@dataclass(eq=False)
class Call:
    """One request, and everything that came of it."""

    request: Request
    dispatches: list[Dispatch] = field(default_factory=list)
    replies: list[Answer | Refuse] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)

    @property
    def terminal(self) -> list[Answer | Refuse]:
        """The replies that end it; the law allows one."""
        return [reply for reply in self.replies if isinstance(reply, Refuse) or reply.frame in ("", "end")]

    @property
    def frames(self) -> list[tuple[str, int, bytes]]:
        """Kind, number and body of every frame that the caller got."""
        return [
            (reply.frame, reply.seq, b"" if isinstance(reply, Refuse) else reply.body)
            for reply in self.replies
            if reply.frame
        ]

    @property
    def workers(self) -> list[str]:
        """The workers it was dispatched to, in order."""
        return [dispatch.address.partition(".")[0] for dispatch in self.dispatches]

    @property
    def refusal(self) -> Refusal:
        """The refusal that ended it."""
        assert len(self.terminal) == 1
        end = self.terminal[0]
        assert isinstance(end, Refuse), end
        return end.refusal

    @property
    def kind(self) -> ErrorKind:
        """What kind of refusal ended it."""
        return self.refusal.kind

    @property
    def answer(self) -> Answer:
        """The answer that ended it."""
        assert len(self.terminal) == 1, self.replies
        end = self.terminal[0]
        assert isinstance(end, Answer), end
        return end

    @property
    def record(self) -> DecisionRecord:
        """Its one decision record."""
        assert len(self.records) == 1
        return self.records[0]


class House:
    """A router and what surrounds it. ``log`` keeps every command, in order."""

    def __init__(
        self,
        *,
        seed: int = 1,
        interval_s: float = 2.0,
        timeout_ms: int = 1000,
        check: CheckInput = fits_all,
        limits: Limits | None = None,
        policy: Callable[[Request], Verdict | None] = lambda request: ALLOW,
        claim_lost: str | None = None,
        answers_claims: bool = True,
        answers_store: bool = True,
        router: type[Router] = Router,
        stores: Stores | None = None,
        name: str = "c-1",
    ) -> None:
        self.now = START_S
        self.world = World(
            controller_id=name,
            registry=Registry(interval_s),
            timeouts=PatienceOf(timeout_ms),
            check=check,
            chance=Random(seed),
            limits=limits or Limits(),
            now=self.now,
        )
        self.router = router(self.world)
        self.policy = policy
        self.stores = stores if stores is not None else Stores()
        self.stores.away = claim_lost or ""
        self.unanswered: list[ReadClaim | WriteClaim] = []
        self.answers_claims = answers_claims
        self.answers_store = answers_store
        self.log: list[Command] = []
        self.calls: dict[str, Call] = {}
        self.stream = Stream()
        self.beating: set[str] = set()
        """Workers that send a heartbeat every interval while time passes."""
        self._beat_due = self.now
        self._numbers = 0
        self._replied: Call | None = None

    # Events in, commands out ------------------------------------------------------

    def feed(self, event: Event) -> list[Command]:
        """Hand in an event, and what follows from it; returns all commands."""
        queue, given = [event], []
        while queue:
            for command in self.router.handle(queue.pop(0), self.now):
                given.append(command)
                answer = self._perform(command)
                if answer is not None:
                    queue.append(answer)
        return given

    def _perform(self, command: Command) -> Event | None:
        self.log.append(command)
        match command:
            case Dispatch():
                self.calls[command.request.reply].dispatches.append(command)
            case Answer() | Refuse():
                replied = self.calls.get(command.reply)
                if replied is not None:  # else it is a cancel's
                    self._replied = replied
                    replied.replies.append(command)
            case Record(record):
                assert self._replied is not None
                if self._replied.request.request_id != record.request_id:
                    return None  # a job's
                self._replied.records.append(record)
            case Authorize(life, request):
                verdict = self.policy(request)
                return None if verdict is None else VerdictReached(life, verdict)
            case ReadClaim() | WriteClaim() if not self.answers_claims:
                self.unanswered.append(command)
            case StoreManifest() | StoreDeparture() | ReadSubject() if self.answers_store:
                return self.stream.answer(command)
            case _:
                return self.stores.perform(command)
        return None

    def store_answers(self) -> None:
        """What the store was asked while it did not answer is carried out now, in order."""
        asked, self.unanswered = self.unanswered, []
        for command in asked:
            event = self.stores.perform(command)
            assert event is not None
            self.feed(event)

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever is due happens at its time."""
        self.until(self.now + seconds)

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which this process did nothing; what was due meanwhile is late."""
        self.now += seconds
        self.feed(Stalled(seconds * 1000))

    def until(self, target: float) -> None:
        """Let time pass until ``target``."""
        stood = 0
        while True:
            due = self.router.timers.next_due()
            beat = self._beat_due if self.beating else None
            at = min(t for t in (due, beat, target) if t is not None)
            stood = stood + 1 if at <= self.now else 0
            assert stood < 100, "something is due for ever"
            if at >= target:
                break
            self.now = max(self.now, at)
            if at == beat:
                self._beat_due = self.now + self.world.registry.interval_s
                for worker_id in sorted(self.beating):
                    self.beat(worker_id)
            else:
                self.feed(TICK)
        self.now = target
        self.feed(TICK)

    # Workers ----------------------------------------------------------------------

    def register(self, worker_id: str, *capabilities: Capability, instance: str | None = None) -> list[Command]:
        """A worker registers; ``greet:hello`` when no capability is named."""
        return self.feed(registration(manifest_of(worker_id, *capabilities, instance=instance)))

    def deregister(self, worker_id: str, instance: str | None = None, reply: str = "_INBOX.leave") -> list[Command]:
        """A worker leaves."""
        return self.feed(DeregisterAsked(WorkerId(worker_id), Deregister("shutdown", instance), reply))

    def beat(self, worker_id: str, *, seq: int = 1, **fields: Any) -> list[Command]:
        """One heartbeat."""
        return self.feed(HeartbeatSeen(WorkerId(worker_id), Heartbeat(seq, **fields)))

    def worker(self, worker_id: str) -> Worker:
        """The worker as the router knows it."""
        return self.world.registry.workers[WorkerId(worker_id)]

    def offer(self, worker_id: str, capability: str = HELLO) -> Offer:
        """The worker's first offer of a capability."""
        return next(offer for offer in self.worker(worker_id).offers if offer.capability == capability)

    def knows(self, worker_id: str) -> bool:
        """Whether the router has it in its registry."""
        return WorkerId(worker_id) in self.world.registry.workers

    # Requests ---------------------------------------------------------------------

    def request(
        self, capability: str = HELLO, body: bytes = b"{}", *, caller: str = "ann", request_id: str = "", **headers: Any
    ) -> Call:
        """A caller asks; ``headers`` are the fields of ``RequestHeaders``."""
        return self._ask("request", capability, body, caller, request_id, headers)

    def submit(
        self, capability: str = HELLO, body: bytes = b"{}", *, caller: str = "ann", request_id: str = "", **headers: Any
    ) -> Call:
        """A caller hands in a job."""
        return self._ask("submit", capability, body, caller, request_id, headers)

    def result(self, job_id: str, *, caller: str = "ann", timeout_ms: int = 1000) -> Call:
        """A caller asks for a job's outcome."""
        return self._ask("result", "", b"", caller, "", {"timeout_ms": timeout_ms}, job_id)

    def deliver(self, job: AppendJob) -> Call:
        """The stream hands a job out; its dispatches and records are those of the call that is returned."""
        self._numbers += 1
        delivery = f"delivery-{self._numbers}"
        request = msgspec.structs.replace(job.request, action="job", job_id=job.job_id, reply=delivery)
        call = self.calls[delivery] = Call(request)
        self._replied = call
        self.feed(JobDelivered(request, job.job_id, delivery))
        return call

    def _ask(
        self,
        action: Action,
        capability: str,
        body: bytes,
        caller: str,
        request_id: str,
        headers: dict[str, Any],
        job_id: str = "",
    ) -> Call:
        self._numbers += 1
        request = Request(
            CapabilityId(capability),
            caller,
            RequestId(request_id or f"r-{self._numbers}"),
            f"_INBOX.{self._numbers}",
            RequestHeaders(**headers),
            body,
            action=action,
            job_id=job_id,
        )
        call = self.calls[request.reply] = Call(request)
        self.feed(RequestArrived(request))
        return call

    def answers(self, call: Call, answer: answers.Answer = DONE, *, nth: int = -1) -> list[Command]:
        """The worker of this call's last (or ``nth``) dispatch answers."""
        return self.feed(Answered(DispatchId(call.dispatches[nth].dispatch_id), answer))

    def cancel(
        self, request_id: str, *, caller: str = "ann", last: bool = False, reply: str = "_INBOX.cancel"
    ) -> list[Command]:
        """A caller cancels; the queue group's copy of the message is ``last``."""
        return self.feed(CancelAsked(caller, RequestId(request_id), reply, last))


def controls(commands: list[Command]) -> list[tuple[str, str]]:
    """Worker and operation of every control message in ``commands``."""
    return [(c.worker_id, c.control.op) for c in commands if isinstance(c, SendControl)]


def told(commands: list[Command]) -> list[tuple[str, str]]:
    """What was published: name of the event, and the worker."""
    return [(c.name, c.body["worker_id"]) for c in commands if isinstance(c, Publish)]


def json_replies(commands: list[Command]) -> list[dict[str, Any]]:
    """The JSON answers to control requests."""
    return [msgspec.json.decode(c.body) for c in commands if isinstance(c, ReplyJson)]


def refusals(commands: list[Command]) -> list[ErrorKind]:
    """The refusals of control requests."""
    return [c.refusal.kind for c in commands if isinstance(c, ReplyRefusal)]


def of_kind(commands: list[Command], kind: type[Command]) -> list[Any]:
    """Those of one type."""
    return [command for command in commands if type(command) is kind]
