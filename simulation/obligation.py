"""Owns what a controller owes to one request that arrived, until its terminal reply. ``watch`` keeps it."""

from __future__ import annotations

from functools import lru_cache

from controller.core.commands import Dispatch
from controller.core.model import Request
from simulation.plan import PROMISES, Promise
from subjects.answers import Answer, Frame, NoResponders, NotRun
from subjects.claims import claim_key

# Who asks for a result without patience is told what there is, which has to be read.
_READ_S = 2.0
_claim_key = lru_cache(maxsize=4096)(claim_key)
# What fits no schema: a request's body, or an answer's.
BAD = b'"bad"'
_NO_PROMISE = Promise()


def key_of(request: Request) -> str:
    """The claim that a request is about; "" where it is about none, or under a key that nobody knows yet."""
    if request.job_id:
        return request.job_id
    key = request.headers.idempotency_key
    return "" if key is None or request.headers.dry_run else _claim_key(request.caller, request.capability, key)


class Obligation:
    """One request, and the dispatch of it that is out."""

    def __init__(self, request: Request, now: float, default_timeout_ms: int) -> None:
        headers = request.headers
        self.request = request
        self.key = key_of(request)
        """The claim that it is about."""
        working = request.action in ("request", "job")
        cancellable = working or request.action == "submit"
        self.of = (request.caller, str(request.request_id)) if cancellable else ("", "")
        """Whoever cancels this, cancels it."""
        self.promise = PROMISES.get(request.capability, _NO_PROMISE)
        # A job's own time bounds each attempt, and not its acceptance.
        own_ms = None if request.action in ("submit", "retry") else headers.timeout_ms
        self.deadline = now + (own_ms or default_timeout_ms) / 1000
        self._arrived_at = now
        self.earliest = self.deadline - 0.001
        """Too late for anything, in whole milliseconds."""
        self.must_not_run = "" if working else "it asks for no work"
        if headers.dry_run:
            self.must_not_run = "it is a dry run"
        if self.promise.schemas and request.body == BAD:
            self.must_not_run = "its payload does not fit"
        self.attempts = 0
        self.ran = 0
        """Attempts before the present one that may have run."""
        self.tried: set[str] = set()
        """Their workers."""
        self.frames = 0
        """Sent to the caller."""
        self.out = self.worker = self.address = self.version = ""
        self.pieces = b""
        """What was streamed to the caller."""
        self.broke = ""
        """What of the contract its worker broke."""
        self.sent_at = 0.0
        self._hung = False
        self._pieces = 0
        """Frames that the worker sent."""
        self._nothing_ran: bool | None = None
        """Whether it was heard that nothing ran: None until something is heard."""
        self._over = False

    def leaves(self, command: Dispatch, now: float) -> bool:
        """A dispatch leaves; whether the one before it may have run."""
        again = bool(self.out) and not self._nothing_ran
        if again:
            self.ran += 1
            self.tried.add(self.worker)
            self._hung = self.hangs(now)
        self.attempts += 1
        self.out, self.address, self.version = command.dispatch_id, command.address, command.version
        self.worker = command.address.partition(".")[0]
        self.sent_at, self._nothing_ran, self._over, self._pieces, self.broke = now, None, False, 0, ""
        return again

    def hear(self, answer: Answer, now: float) -> bool:
        """Its worker answers; whether the server says that there is none."""
        if self._over:
            return False
        self._hung = self.hangs(now)
        deaf = isinstance(answer, NoResponders)
        if self._nothing_ran is None:
            self._nothing_ran = deaf or isinstance(answer, NotRun)
        if isinstance(answer, Frame):
            if not self.promise.streaming:
                self.broke = "sent frames, and did not promise to stream"
            elif answer.seq != self._pieces:
                self.broke = f"sent frame {answer.seq} where {self._pieces} was due"
            self._pieces += 1
            self._over = answer.kind == "end"
        else:
            self._over = True
        return deaf

    def due(self, thawed_at: float) -> float:
        """When it has its terminal reply, whatever happens, at a controller that stood still until then."""
        reads = self.request.action == "result"
        return max(self.deadline, self._arrived_at, thawed_at) + _READ_S if reads else self.deadline

    @property
    def may_have_run(self) -> bool:
        """Whether some worker may have begun with it."""
        return self.ran > 0 or (bool(self.out) and not self._nothing_ran)

    def hangs(self, now: float) -> bool:
        """Whether its worker, or one before it, did not answer within the time that it declares."""
        declared_s = self.promise.timeout_s
        hangs = declared_s is not None and bool(self.out) and not self._over and now >= self.sent_at + declared_s
        return hangs or self._hung
