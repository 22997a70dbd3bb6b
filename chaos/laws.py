"""Owns what must hold of a run, whatever was done to whom: each law has a name, one sentence, and who looks.

Pure: a story in, what broke out. The documentation's page on guarantees says the same in other words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from chaos.executions import Execution
from chaos.plan import CONTROLLERS, FAILS_WITH, SERVER
from chaos.story import ANSWERED, SILENT, Attempt, Happened, Story

# What was done to a process is felt a while longer: it starts, everybody connects again.
_FELT_S = 5.0
_CONTROLLER_WHO = frozenset({*CONTROLLERS, SERVER})
# Errors that a caller may meet when processes die, and that say what to think of it.
_HONEST = frozenset(
    {"worker_lost", "deadline", "outcome_unknown", "in_progress", "no_worker", "overloaded", "store_unavailable",
     "cancelled"}
)  # fmt: skip
# These say by themselves that nothing ran, unless they say that something may have.
_NOT_RUN = frozenset({"store_unavailable", "in_progress"})
# In the calm, whoever asks again hears one of these.
_DEFINITE = ANSWERED | {"outcome_unknown"}


class Law(NamedTuple):
    """``broken(story)`` yields a sentence for each thing that breaks it."""

    name: str
    says: str
    broken: Callable[[Story], Iterator[str]]


def _executed_twice(story: Story) -> Iterator[str]:
    by_operation: dict[str, list[Execution]] = defaultdict(list)
    for execution in story.executions:
        by_operation[execution.operation].append(execution)
    for ident, executions in by_operation.items():
        if len(executions) > 1 and story.operations[ident].once:
            yield _twice(story, executions)


def _twice(story: Story, executions: list[Execution]) -> str:
    """Who was in trouble between the two is told: a claimant that is frozen between its claim and its publish."""
    first, last = executions[0], executions[-1]
    between = [
        f"{trouble.who} {trouble.what}"
        for trouble in story.troubles
        if trouble.since < last.began and trouble.until > first.began - _FELT_S
    ]
    runs = ", ".join(
        f"execution {execution.id} of request {execution.request_id} by process {execution.pid} "
        f"{execution.began - first.began:.3f} s later"
        for execution in executions[1:]
    )
    return (
        f"{first.operation} of {first.capability}: execution {first.id} of request {first.request_id} by process "
        f"{first.pid}; then {runs}; meanwhile: {', '.join(between) or 'nothing'}"
    )


def _two_answers(story: Story) -> Iterator[str]:
    for ident, attempts in _answers(story).items():
        # Without a key nobody promises that two requests are one.
        if story.operations[ident].keyed and len({attempt.body for attempt in attempts}) > 1:
            each = " / ".join(f"{attempt.request_id}: {attempt.body[:200]!r}" for attempt in attempts)
            yield f"{ident}: {each}"
    for ident, job in story.jobs.items():
        if len(job.results) > 1:
            yield f"job of {ident}: {' / '.join(f'{status} {body[:200]!r}' for status, _, body in job.results)}"


def _answers(story: Story) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in story.attempts:
        if attempt.what == "request" and attempt.outcome in ANSWERED and not attempt.lack:
            found[attempt.operation].append(attempt)
    return found


def _wrong_answers(story: Story) -> Iterator[str]:
    ran = {execution.id: execution for execution in story.executions}
    ids: dict[str, list[str]] = defaultdict(list)
    for execution in story.executions:
        ids[execution.operation].append(execution.id)
    for attempt in story.attempts:
        # What is under way on a connection that breaks is lost; that it can be seen is what numbers are for.
        if attempt.misnumbered and not (attempt.lack and _server_felt(story, attempt)):
            yield f"{attempt.request_id}: {attempt.misnumbered}"
        if attempt.outcome == "answer" and attempt.what == "request" and not attempt.lack:
            did = ran.get(attempt.execution)
            if did is None or did.operation != attempt.operation or did.id not in story.ended:
                yield f"{attempt.request_id}: nobody did what its answer says: {attempt.body[:200]!r}"
        if attempt.worker_code == FAILS_WITH and not any(one in attempt.detail for one in ids[attempt.operation]):
            yield f"{attempt.request_id}: nobody failed as its error says: {attempt.detail}"
    for ident, job in story.jobs.items():
        for status, _, body in job.results:
            if status == "done" and not any(one.encode() in body for one in ids[ident]):
                yield f"job of {ident}: nobody did what its result says: {body[:200]!r}"


def _lost_jobs(story: Story) -> Iterator[str]:
    for ident, job in story.jobs.items():
        if not job.results:
            yield f"job {job.job_id} of {ident} was accepted, and has no end: {job.last_heard or 'nobody asked'}"
        if len(job.ids) > 1:
            yield f"{ident} was accepted as several jobs: {', '.join(sorted(job.ids))}"


def _unanswered(story: Story) -> Iterator[str]:
    troubles = [trouble for trouble in story.troubles if trouble.who in _CONTROLLER_WHO]
    for attempt in story.attempts:
        outcome = attempt.outcome
        if outcome in SILENT:
            if not any(_felt(trouble, attempt) for trouble in troubles):
                yield f"{attempt.request_id}: {outcome}, and no controller and no server was in trouble"
        elif outcome == "worker_protocol" and (attempt.replayed or _server_felt(story, attempt)):
            continue  # the controller lacks a frame of the worker's, or did when it kept that as the answer
        elif outcome not in ANSWERED and outcome not in _HONEST:
            yield f"{attempt.request_id}: {outcome}: {attempt.detail or attempt.body[:200]!r}"


def _server_felt(story: Story, attempt: Attempt) -> bool:
    return any(trouble.who == SERVER and _felt(trouble, attempt) for trouble in story.troubles)


def _felt(trouble: Happened, attempt: Attempt) -> bool:
    return trouble.since <= attempt.ended and trouble.until + _FELT_S >= attempt.sent


def _dishonest(story: Story) -> Iterator[str]:
    ran: dict[str, Execution] = {execution.request_id: execution for execution in story.executions}
    for attempt in story.attempts:
        says_not_run = not attempt.maybe_executed and (attempt.maybe_executed is False or attempt.outcome in _NOT_RUN)
        execution = ran.get(attempt.request_id)
        if says_not_run and execution is not None and attempt.what == "request":
            yield f"{attempt.request_id}: told that nothing ran ({attempt.outcome}), and {execution.id} did"


def _restless(story: Story) -> Iterator[str]:
    last: dict[str, Attempt] = {}
    for attempt in story.attempts:
        if attempt.calm and attempt.what == "request":
            last[attempt.operation] = attempt
    for ident, attempt in last.items():
        kept = attempt.outcome == "worker_protocol" and attempt.replayed
        if attempt.outcome not in _DEFINITE and not kept:
            yield f"{ident}: asked again when all was well: {attempt.outcome} {attempt.detail}"


LAWS = (
    Law("once", "Nothing that must not be done twice is done twice.", _executed_twice),
    Law("no-job-lost", "An accepted job has one id, and ends as done, dead or cancelled.", _lost_jobs),
    Law("one-outcome", "All answers for one key, and all results of a job, are the same, byte for byte.", _two_answers),
    Law("true-answers", "What an answer or a result says was done.", _wrong_answers),
    Law("honest", "Where a caller is told that nothing ran, nothing did.", _dishonest),
    Law("answered", "Every caller has an answer, an honest error, or silence that has a cause.", _unanswered),
    Law("calm", "When all is well again, whoever asks has an answer, or hears that nobody knows.", _restless),
    Law("one-reply", "Nothing comes after an answer's end.", lambda story: iter(story.too_many_replies)),
    Law("no-crash", "No process ends by itself, or tells of an error that nobody foresaw.", lambda s: iter(s.faults)),
    Law("nothing-left", "At the end no job waits in the stream, and no process runs.", lambda story: iter(story.left)),
)


def judge(story: Story) -> dict[str, list[str]]:
    """What breaks each law, by its name; nothing for those that hold."""
    found = {law.name: list(law.broken(story)) for law in LAWS}
    return {name: broken for name, broken in found.items() if broken}


def outcomes(story: Story) -> Counter[tuple[str, str]]:
    """How often each outcome came, by ``(what was asked, outcome)``."""
    return Counter(
        (attempt.what if attempt.what != "request" else _kind(story, attempt), attempt.outcome)
        for attempt in story.attempts
    )


def _kind(story: Story, attempt: Attempt) -> str:
    operation = story.operations[attempt.operation]
    if operation.kind == "stream":
        return "stream, keyed" if operation.keyed else "stream"
    return ("keyed" if operation.keyed else "unkeyed") + ("" if operation.once else ", idempotent")
