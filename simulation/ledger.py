"""Owns the truth about keys: each of their lives, what ran in it, what was answered, which jobs were accepted.

It sees every change of the bucket, every run at a worker, and every answer that a caller is sent, whoever sends it.
A key's life ends when its record ages out, is released, or is lost with the whole bucket, or when a dead job is tried
again; what was dispatched in it belongs to it, however late it is run.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from controller.core.commands import Answer, Refuse
from controller.core.model import Request
from simulation.bucket import Bucket, Entry
from simulation.clock import Clock
from simulation.laws import must
from subjects.claims import FINAL, ClaimRecord, ClaimState, StoredAnswer, StoredError
from subjects.errors import PROBLEM_CONTENT_TYPE, problem_body

_HELD = frozenset({"waiting", "dispatching"})
# What may follow on what, None being a key that is free: by the guarantees, and not by the core's own table.
_NEXT: dict[str | None, frozenset[str | None]] = {
    None: frozenset({"waiting", "dispatching", "done", "dead"}),
    "waiting": frozenset({"waiting", "dispatching", "cancelled", "dead", None}),
    "dispatching": frozenset({"dispatching", "waiting", "done", "dead", "unknown", "cancelled", None}),
    "unknown": frozenset({"done", "dead", "cancelled", None}),
    "dead": frozenset({"waiting"}),
    "done": frozenset(),
    "cancelled": frozenset(),
}
# As often as a job is delivered, and each time as often as a request is tried; and once more by who does not know yet.
_MOST_RUNS = 4 * 3 + 1
# The fastest clock's measure of a lease, and what a clock may have jumped without anybody's notice.
_FASTEST, _UNNOTICED_S = 1.3, 0.7


class _Accepted(msgspec.Struct):
    job_id: str


_accepted = msgspec.json.Decoder(_Accepted).decode


class Lifetime:
    """One life of a key."""

    __slots__ = ("answer", "asked", "key", "ran", "since", "twice_is_safe", "until")

    def __init__(self, key: str) -> None:
        self.key = key
        self.ran: set[str] = set()
        """The dispatches that some worker began."""
        self.twice_is_safe = True
        """Whether everybody who began with it may do it again."""
        self.answer: StoredAnswer | None = None
        self.asked: tuple[str, bytes] | None = None
        """By whom, and what, as far as it was dispatched."""
        self.since = 0.0
        """When its record was written last, by the world's clock."""
        self.until = float("inf")
        """When its answer was forgotten."""

    @property
    def ran_for_good(self) -> bool:
        """Whether it may have been done by somebody who may not do it again."""
        return bool(self.ran) and not self.twice_is_safe


class Ledger:
    """That of one world."""

    def __init__(self, clock: Clock) -> None:
        self.bucket: Bucket
        """Set by who makes both."""
        self.accepted: dict[str, None] = {}
        """Jobs that a caller was told are accepted."""
        self.ended: dict[str, ClaimState] = {}
        """How a key ended last."""
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._lives: dict[str, Lifetime] = {}
        self._before: defaultdict[str, list[Lifetime]] = defaultdict(list)
        self._by_nonce: dict[str, Lifetime] = {}
        self._dispatches: dict[str, Lifetime] = {}

    # The bucket -----------------------------------------------------------------------

    def wrote(self, key: str, before: Entry, after: Entry) -> None:
        """A message was stored."""
        was, now_is = before.record, after.record
        state, following = was.state if was is not None else None, now_is.state if now_is is not None else None
        must(following in _NEXT[state], "table", f"{key}: {following} is stored over {state}")
        self.counts[f"claim {following or 'released'}"] += 1
        life = self._lives.get(key)
        if was is None or (state == "dead" and following == "waiting"):
            self._ends(key)
            life = self._lives[key] = Lifetime(key)
        assert life is not None
        if now_is is None:
            # Whoever asks next would have it run again; an operator alone may want that, of what is unknown.
            released = state in _HELD and life.ran_for_good
            must(not released, "at-most-once", f"{key} is free again, and ran as {' and '.join(life.ran)}")
            self._ends(key)
            return
        if was is not None and state in _HELD and was.owner != now_is.owner:
            self._taken_over(key, was, now_is, life)
        life.since, life.until = self._clock.now, after.until
        if now_is.job and (now_is.published or following == "dispatching"):
            self.ended.pop(key, None)  # a retry that comes so far
        if following in FINAL:
            life.answer = now_is.answer
            self.ended[key] = following
        self._by_nonce[now_is.nonce] = life

    def _taken_over(self, key: str, was: ClaimRecord, by: ClaimRecord, life: Lifetime) -> None:
        self.counts["claim taken over"] += 1
        if was.job and was.state == "waiting":
            return  # nobody renews it while it waits in its stream
        stood_s = (self._clock.now - life.since) * _FASTEST + _UNNOTICED_S
        what = f"{key}: {by.owner} takes it from {was.owner}, who wrote {self._clock.now - life.since:.3f} s ago"
        must(stood_s >= was.lease_s, "lease", what)

    def _ends(self, key: str) -> None:
        life = self._lives.pop(key, None)
        if life is not None and life.answer is not None:
            life.until = min(life.until, self._clock.now)
            self._before[key].append(life)

    def emptied(self) -> None:
        """Everything was lost, and with it what was promised."""
        for key in list(self._lives):
            self._ends(key)
        self.accepted.clear()

    # What is done -----------------------------------------------------------------------

    def dispatched(self, dispatch_id: str, nonce: str, request: Request) -> None:
        """A controller sends a dispatch under the claim that it wrote with this nonce."""
        life = self._dispatches[dispatch_id] = self._by_nonce[nonce]
        life.asked = (request.caller, request.body)

    def ran(self, dispatch_id: str, *, twice_is_safe: bool) -> None:
        """A worker begins to do it."""
        life = self._dispatches.get(dispatch_id)
        if life is None:
            return
        life.ran.add(dispatch_id)
        life.twice_is_safe = life.twice_is_safe and twice_is_safe
        must(twice_is_safe or len(life.ran) == 1, "at-most-once", f"{life.key} runs as {' and '.join(life.ran)}")
        must(len(life.ran) <= _MOST_RUNS, "attempts", f"{life.key} runs for the {len(life.ran)}th time")
        if self._lives.get(life.key) is not life:
            # What remains: frozen, or on its way, between an acknowledged claim and the worker.
            self.counts["ran when its claim was over"] += 1

    def did_not_run(self, dispatch_id: str) -> None:
        """A worker takes it back that it ran."""
        life = self._dispatches.get(dispatch_id)
        if life is not None:
            life.ran.discard(dispatch_id)

    def answered(
        self, request: Request, key: str, command: Answer | Refuse, pieces: bytes, remembered_s: float
    ) -> None:
        """A caller is sent an answer to a key.

        ``pieces`` is what it was sent before, of a stream; an answer may be remembered for so long after it aged out.
        """
        now, what = self._clock.now, f"{request.reply} is answered"
        lives = (self._lives.get(key), *self._before.get(key, ()))
        known = [life for life in lives if life and life.answer and now < life.until + remembered_s]
        must(known, "stored-first", f"{what}: no answer to {key} is stored")
        sent = _as_stored(command)
        same = [life for life in known if life.answer and _same(sent, life.answer, pieces)]
        must(same, "same-answer", f"{what}: it is {sent}, and {[life.answer for life in known]} is stored")
        theirs = any(_is_theirs(request, life) for life in same)
        must(theirs, "right-answer", f"{what} with what {same[0].asked} asked for")
        self.counts["keyed answer"] += 1

    def is_settled(self, key: str) -> bool:
        """Whether a key's record is final."""
        record = self.bucket.get(key).record
        return record is not None and record.state in FINAL

    def is_over(self, job_id: str) -> bool:
        """Whether a job's record is final, or is forgotten."""
        return self.is_settled(job_id) or self.bucket.get(job_id).record is None

    def accepts(self, told: bytes) -> None:
        """A caller is told that a job is accepted."""
        self.accepted[_accepted(told).job_id] = None
        self.counts["job accepted"] += 1


def _is_theirs(request: Request, life: Lifetime) -> bool:
    if life.asked is None:
        return True
    caller, body = life.asked
    return caller == request.caller and (request.action == "result" or body == request.body)


def _as_stored(command: Answer | Refuse) -> tuple[bytes, str | None, str, StoredError | None]:
    if isinstance(command, Answer):
        return command.body, command.content_type, command.passed, command.error
    refusal = command.refusal
    error = StoredError(refusal.kind.status, refusal.detail, refusal.retry_after_ms)
    return problem_body(refusal, command.meta.request_id), PROBLEM_CONTENT_TYPE, "", error


def _same(sent: tuple[bytes, str | None, str, StoredError | None], stored: StoredAnswer, pieces: bytes) -> bool:
    if pieces and pieces + sent[0] == stored.body:
        return True
    return sent == (stored.body, stored.content_type, stored.passed, stored.error)
