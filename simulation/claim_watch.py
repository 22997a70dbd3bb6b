"""Owns the witness of one controller's dealings with claims and jobs: what the stores told it, and what it does.

It knows of a claim what the controller was told, and asks ``ledger`` only where a law speaks of the truth. ``watch``
shows it everything.
"""

from __future__ import annotations

from typing import Any

from controller.core.commands import Answer, Dispatch, Refuse
from controller.core.events import CancelAsked
from controller.core.stored import (
    AckJob,
    ClaimFailed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ExtendJob,
    JobDelivered,
    NakJob,
    ReleaseClaim,
    StoreLevel,
    WriteClaim,
)
from simulation.bucket import WINDOW_S
from simulation.jobs import ACK_WAIT_S, RESULTS_TTL_S, Jobs
from simulation.laws import must
from simulation.ledger import Ledger
from simulation.obligation import Obligation
from subjects.claims import FINAL, ClaimRecord
from subjects.errors import ErrorKind
from subjects.tokens import is_claim_key

# How long after it aged out an answer may be told: a slow clock keeps it longer than it is stored, and a result is kept
# longer than its claim, also when it is kept a second time.
_REMEMBERED_S = {"request": WINDOW_S / 0.7, "result": 2 * RESULTS_TTL_S}
_HELD = frozenset({"waiting", "dispatching"})
_OF_WORKERS = frozenset({ErrorKind.WORKER_ERROR, ErrorKind.WORKER_PROTOCOL})


class ClaimWatch:
    """That of one boot. What takes an event in says what of it is worth a line. ``now`` is set before."""

    now = 0.0

    def __init__(self, ledger: Ledger, jobs: Jobs) -> None:
        self.failed_at = 0.0
        """When a write failed last."""
        self._ledger = ledger
        self._jobs = jobs
        self._writing: dict[str, tuple[WriteClaim, float]] = {}
        self._held: dict[str, tuple[ClaimRecord, float]] = {}
        """What it wrote and was told is stored, as long as it needs an owner; and when the write was handed over."""
        self._final: set[str] = set()
        """Keys that it was told are settled."""
        self._unrun: dict[str, str] = {}
        """Keys of requests that it refused before anything ran, with their ids."""
        self._cancels: dict[str, str] = {}
        """Jobs that are to be cancelled, by whom to tell."""
        self._deliveries: dict[str, tuple[str, float]] = {}
        """Which job each is of, and when it was had or extended last."""
        self._refuses = ""
        self.handlers: dict[type, Any] = {
            ClaimStored: self._stored,
            ClaimRefused: self._refused,
            ClaimFailed: self._failed,
            ClaimRead: self._read,
            StoreLevel: self._level,
        }

    # What it is told ------------------------------------------------------------------

    def _stored(self, event: ClaimStored) -> str:
        command, at = self._writing.pop(event.key)
        record = command.record
        if record.state in _HELD:
            self._held[event.key] = (record, at)
        else:
            self._held.pop(event.key, None)
            self._settled(event.key, record)
        return f"{event.key[:8]} {record.state} {event.seq}"

    def _refused(self, event: ClaimRefused) -> str:
        del self._writing[event.key]
        self._held.pop(event.key, None)
        self._settled(event.key, event.record)
        return f"{event.key[:8]} {_state(event.record)} {event.seq}"

    def _failed(self, event: ClaimFailed) -> str:
        del self._writing[event.key]
        self.failed_at = self.now
        return f"{event.key[:8]} {event.reason}"

    def _read(self, event: ClaimRead) -> str:
        self._settled(event.key, event.record)
        return f"{event.key[:8]} {_state(event.record)} {event.seq}"

    def _settled(self, key: str, record: ClaimRecord | None) -> None:
        if record is not None and record.state in FINAL:
            self._final.add(key)
        else:
            self._final.discard(key)

    def _level(self, event: StoreLevel) -> str:
        self._refuses = event.refuses
        return event.refuses

    def delivered(self, event: JobDelivered) -> str:
        """The stream hands it a job."""
        self._deliveries[event.delivery] = (event.job_id, self.now)
        return f"{event.job_id[:8]} {event.delivery}"

    # What it does ---------------------------------------------------------------------

    def writes(self, command: WriteClaim) -> str:
        """It has a record stored."""
        key, record = command.key, command.record
        must(key not in self._writing, "one-claim", f"{key} is written while a write of it is under way")
        must((command.ttl_s is None) == (record.state not in FINAL), "table", f"{key} is kept for {command.ttl_s} s")
        self._writing[key] = (command, self.now)
        entry = self._ledger.bucket.get(key)
        creates = record.state in _HELD and entry.record is None and entry.seq == command.expected_seq
        must(not (creates and self._refuses), "must-not-run", f"{key} is claimed, and the store is {self._refuses}")
        return f"{key[:8]} {record.state} over {command.expected_seq} for {record.request_id}"

    def releases(self, command: ReleaseClaim) -> str:
        """It has a key forgotten."""
        self._held.pop(command.key, None)
        return f"{command.key[:8]} {command.expected_seq}"

    def dispatched(self, command: Dispatch, key: str) -> None:
        """It sends something under a key."""
        record, at = self._held.get(key, (None, 0.0))
        what = f"{command.request.reply} is dispatched under {key}"
        if record is None or record.state != "dispatching":
            must(False, "one-claim", f"{what}, which it was not told is its own: {_state(record)}")
            return
        must(self.now - at < record.lease_s, "one-claim", f"{what}, claimed {self.now - at:.3f} s ago")
        if key in self._final:
            must(not self._ledger.is_settled(key), "replay-free", f"{what}, and it was told that it is settled")
        self._ledger.dispatched(command.dispatch_id, record.nonce, command.request)

    def replied(self, command: Answer | Refuse, owed: Obligation) -> None:
        """It sends the terminal reply to a request that is about a key, or submits one."""
        request, key = owed.request, owed.key
        if request.action == "submit":
            if isinstance(command, Answer):
                self._ledger.accepts(command.body)
        elif isinstance(command, Answer):
            if request.action == "request" or command.meta.job_status in FINAL:
                self._answers(command, owed)
        elif command.refusal.kind in _OF_WORKERS:
            self._ledger.answered(request, key, command, b"", _REMEMBERED_S[request.action])
        elif request.action == "request" and not owed.may_have_run:
            self._unrun[key] = str(request.request_id)

    def _answers(self, command: Answer, owed: Obligation) -> None:
        what, meta = f"{command.reply} is answered", command.meta
        self._ledger.answered(owed.request, owed.key, command, owed.pieces, _REMEMBERED_S[owed.request.action])
        if meta.replayed:
            must(not meta.cost_tokens, "replay-free", f"{what} again, for {meta.cost_tokens} tokens")
        else:
            must(owed.attempts, "replay-free", f"{what} as if it had run, and it was never dispatched")

    def cancel(self, event: CancelAsked) -> None:
        """Somebody cancels, a job perhaps."""
        if is_claim_key(event.request_id):
            self._cancels[event.reply] = event.request_id

    def cancelled(self, reply: str) -> None:
        """And is told that it is done: so it must be stored."""
        job_id = self._cancels.pop(reply, None)
        if job_id is not None:
            record = self._ledger.bucket.get(job_id).record
            ended = record is None or record.state == "cancelled"
            must(ended, "cancels", f"{job_id} is told to be cancelled, and is {_state(record)}")

    def says(self, command: AckJob | NakJob | ExtendJob) -> str:
        """It says something of a delivery."""
        delivery, kind = command.delivery, type(command).__name__
        must(delivery in self._deliveries, "own-delivery", f"{kind} of {delivery}, which it does not have")
        job_id, had_at = self._deliveries[delivery]
        record, at = self._held.get(job_id, (None, 0.0))
        owns = record is not None and self.now - at < record.lease_s
        fresh = self.now - had_at < ACK_WAIT_S
        if isinstance(command, AckJob):
            what = f"{job_id} is forgotten by its stream"
            must(self._ledger.is_over(job_id), "job-ends", f"{what}, and is not over")
            must(self._jobs.is_told(job_id), "job-ends", f"{what}, and how it ended is not kept")
        else:
            must(owns or fresh, "own-delivery", f"{kind} of {delivery}, which may be somebody else's by now")
        if isinstance(command, ExtendJob):
            self._deliveries[delivery] = (job_id, self.now)
        else:
            del self._deliveries[delivery]
        return f"{delivery} {job_id[:8]}"

    def check(self) -> None:
        """All that follows from what it was told last is done: what nothing ran for is free again."""
        for key, request_id in list(self._unrun.items()):
            if key not in self._writing:
                record, _ = self._held.get(key, (None, 0.0))
                mine = record is not None and record.request_id == request_id
                must(not mine, "free-again", f"{key} is still claimed for {request_id}, which did not run")
                del self._unrun[key]


def _state(record: ClaimRecord | None) -> str:
    return f"{record.state} of {record.owner}" if record is not None else "free"
