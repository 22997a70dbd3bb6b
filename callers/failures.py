"""Owns what a caller can catch: one exception for every refusal and failure, with the problem inside.

CrankError           refused or failed; ``code``, ``kind``, ``detail``, ``hint`` and the whole ``problem``
├── Unreachable      nobody to talk to: no NATS server, or no controller behind it
└── Silence          somebody was asked, and nothing came in time
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from subjects.errors import ErrorKind, Problem, Refusal, kind_of, problem_of
from subjects.replies import is_replayed

if TYPE_CHECKING:
    from bus import BusUnavailable

# What may be over when the same is asked again; refusals that name a mistake and what a worker answered never are.
_PASSING = frozenset({
    ErrorKind.IN_PROGRESS, ErrorKind.RATE_LIMITED, ErrorKind.NO_WORKER, ErrorKind.OVERLOADED,
    ErrorKind.STORE_UNAVAILABLE, ErrorKind.POLICY_UNAVAILABLE, ErrorKind.DEADLINE,
})  # fmt: skip
# How a detail says so itself.
_MAY_HAVE_RUN = ("may have run", "may have been done", "was done")


class CrankError(Exception):
    """A request was refused or failed.

    ``meta`` holds the contract's reply headers by lower-case name; it is empty when nothing came back.
    """

    capability: str | None = None
    """``verb:name`` of what was asked for, where a capability was."""
    idempotency_key: str | None = None
    """The key that it was asked for under. Asked for with it again, what was done is not done again."""

    def __init__(self, problem: Problem, meta: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.meta = dict(meta or {})

    @property
    def code(self) -> int:
        """The code of the contract's error table, such as 404."""
        return self.problem.status

    @property
    def kind(self) -> str:
        """The word of the contract's error table, such as ``no_such_capability``; "" for one not known here."""
        known = kind_of(self.problem)
        return known.suffix if known is not None else ""

    @property
    def detail(self) -> str:
        """What went wrong, for a person, and what to do where that follows from it."""
        return self.problem.detail

    @property
    def job_status(self) -> str:
        """``dead`` or ``cancelled`` where this is what became of a job, and no refusal to tell."""
        return self.meta.get("crank-job-status", "")

    @property
    def passing(self) -> bool:
        """Whether the same, asked for again, may be answered: nothing ran, or it may run still."""
        if self.job_status:
            return False
        known, problem = kind_of(self.problem), self.problem
        if known is ErrorKind.OUTCOME_UNKNOWN:  # with a time to wait, it is known and not stored yet
            return problem.retry_after_ms is not None
        return known in _PASSING or (known is ErrorKind.WORKER_LOST and problem.maybe_executed is False)

    @property
    def hint(self) -> str:
        """What else to know before asking again: what there is instead, whether the work may have run, when to try.

        Empty where ``detail`` says it all.
        """
        problem, hints = self.problem, []
        if problem.near and not all(name in problem.detail for name in problem.near):
            hints.append(f"There is: {', '.join(problem.near)}.")
        if is_replayed(self.meta) and not self.job_status:
            hints.append("The first request with this key was answered so; nothing ran again.")
        elif problem.maybe_executed and not any(said in problem.detail for said in _MAY_HAVE_RUN):
            hints.append("The work may have run.")
        if problem.retry_after_ms is not None:
            hints.append(f"Try again in {problem.retry_after_ms / 1000:g} s.")
        if self.idempotency_key is not None and self.idempotency_key not in problem.detail:
            known = kind_of(problem)
            if self.passing:
                hints.append(f"Asking again with the same key is safe: {self.idempotency_key}")
            elif known in (ErrorKind.OUTCOME_UNKNOWN, ErrorKind.WORKER_LOST):
                hints.append(f"Its key is {self.idempotency_key}")
        return " ".join(hints)


class Unreachable(CrankError):
    """Nobody to talk to. Nothing ran, unless the connection broke while a request was under way."""

    def __init__(self, detail: str) -> None:
        super().__init__(Problem(type="about:blank", title="Nothing to talk to", status=503, detail=detail))

    @property
    def passing(self) -> bool:
        """Somebody may be there later."""
        return True


class Silence(CrankError):
    """Nothing came for ``patience_s``: perhaps the controller died in the middle."""

    def __init__(self, patience_s: float, request_id: str | None = None, key: str | None = None) -> None:
        advice = "look for its effect before asking again" if key is None else "ask again with the same key"
        refusal = Refusal(
            ErrorKind.DEADLINE,
            f"No answer came within {patience_s:g} s: the controller may have died. The work may have run; {advice}.",
            maybe_executed=True,
        )
        super().__init__(problem_of(refusal, request_id))
        self.idempotency_key = key


def failure(kind: ErrorKind, detail: str) -> CrankError:
    """A failure that the caller's own side found."""
    return CrankError(problem_of(Refusal(kind, detail), None))


def no_server(error: BusUnavailable) -> str:
    """Why there is no connection, and what to do."""
    from bus import NotAdmitted  # who meets such an error has loaded NATS

    if isinstance(error, NotAdmitted):
        return f"{error}. Put the right ones into the address: nats://USER:PASSWORD@HOST, best by CRANK_NATS_URL."
    return f"{error}. Start one with `crank up`, or name yours with --nats or CRANK_NATS_URL."


def no_controller(prefix: str) -> Unreachable:
    """The NATS server is there, and no controller listens on it."""
    return Unreachable(
        f"the NATS server is there, but no controller listens under the prefix {prefix!r}; "
        "start one with `crank controller`, or everything with `crank up`"
    )
