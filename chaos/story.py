"""Owns what is known of a run when it is over: who asked what and what came of it, what was done to whom, what ran.

Times are ``time.monotonic``'s. ``chaos.laws`` judges it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chaos.executions import Execution
from chaos.plan import Operation

ANSWERED = frozenset({"answer", "worker_error"})
"""The work was done, and this is what came of it; a worker's error is an answer like any other."""
SILENT = frozenset({"silence", "unsent", "nobody"})
"""No controller said anything: the caller's own time ran out, the message did not leave, or nobody listened."""


class Attempt(msgspec.Struct, frozen=True):
    """One message of a caller, and what came back. ``outcome`` is one of the above, or an error's word.

    ``body`` is of the whole answer, or of a stream's frames one after another; ``execution`` is what it says did it.
    """

    operation: str
    what: Literal["request", "submit", "result"]
    request_id: str
    sent: float
    ended: float
    outcome: str
    body: bytes = b""
    detail: str = ""
    execution: str = ""
    replayed: bool = False
    maybe_executed: bool | None = None
    worker_code: int | None = None
    misnumbered: str = ""
    """How a stream's frames are not numbered as they should be."""
    lack: bool = False
    """Only some of them lack."""
    calm: bool = False
    """It was sent when nobody was troubled any more."""


class Job(msgspec.Struct):
    """What callers heard of an accepted job. ``results`` are ``(status, attempt's outcome, body)``."""

    job_id: str
    accepted: int = 0
    ids: set[str] = msgspec.field(default_factory=set)
    """Under which ids it was accepted: one."""
    results: set[tuple[str, str, bytes]] = msgspec.field(default_factory=set)
    last_heard: str = ""


class Happened(msgspec.Struct):
    """A trouble. ``until`` is when the process was up again, or thawed."""

    who: str
    what: str
    since: float
    until: float = float("inf")


class Story(msgspec.Struct):
    """One run."""

    operations: dict[str, Operation] = msgspec.field(default_factory=dict)
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    jobs: dict[str, Job] = msgspec.field(default_factory=dict)
    """By operation; only those that were accepted."""
    troubles: list[Happened] = msgspec.field(default_factory=list)
    executions: list[Execution] = msgspec.field(default_factory=list)
    ended: set[str] = msgspec.field(default_factory=set)
    """Executions that came to their end."""
    too_many_replies: list[str] = msgspec.field(default_factory=list)
    faults: list[str] = msgspec.field(default_factory=list)
    """Processes that ended by themselves for no reason, or wrote of an error that nobody foresaw."""
    left: list[str] = msgspec.field(default_factory=list)
    """What was still there at the end and should not have been."""
