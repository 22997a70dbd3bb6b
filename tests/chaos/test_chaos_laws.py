"""The laws of a chaos run, on stories that somebody made up: each can be broken, and none is broken by a good one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chaos.executions import Execution
from chaos.laws import LAWS, judge
from chaos.plan import AGAIN, ONCE, Operation
from chaos.story import Attempt, Happened, Job, Story

_OPERATION = Operation("o1", 0.0, "request", ONCE, True, 10, False, "", False, False)
_RAN = Execution("x1", "o1", ONCE, "o1-0", "d1", "o1", 1, 10.0)
_BODY = b'{"operation":"o1","execution":"x1"}'
_ANSWER = Attempt("o1", "request", "o1-0", 9.0, 11.0, "answer", _BODY, execution="x1")
_ASIDE = {"request_id": "o1-1", "body": b"", "execution": ""}


def _story(**changes: Any) -> Story:
    good = Story(operations={"o1": _OPERATION}, attempts=[_ANSWER], executions=[_RAN], ended={"x1"})
    return msgspec.structs.replace(good, **changes)


def _attempt(**changes: Any) -> Attempt:
    return msgspec.structs.replace(_ANSWER, **changes)


def _job(**changes: Any) -> Story:
    job = Job("j1", 1, {"j1"}, {("done", "answer", _BODY)}, "done")
    return _story(
        operations={"o1": _OPERATION._replace(kind="job")},
        jobs={"o1": msgspec.structs.replace(job, **changes)},
        attempts=[_attempt(what="submit", body=b"{}", execution="")],
    )


_SERVER_KILLED = Happened("nats-server", "kill", 9.5, 10.0)
_TWICE = [_RAN, msgspec.structs.replace(_RAN, id="x2", request_id="o1-1", began=12.0)]

BROKEN = [
    ("once", _story(executions=_TWICE, ended={"x1", "x2"})),
    ("no-job-lost", _job(results=set(), last_heard="queued")),
    ("no-job-lost", _job(ids={"j1", "j2"})),
    ("one-outcome", _story(attempts=[_ANSWER, _attempt(body=_BODY + b" ")])),
    ("one-outcome", _job(results={("done", "answer", _BODY), ("dead", "outcome_unknown", _BODY)})),
    ("true-answers", _story(executions=[], ended=set())),
    ("true-answers", _story(ended=set())),
    ("true-answers", _story(attempts=[_attempt(misnumbered="frames 0, 2", lack=True)])),
    ("true-answers", _story(attempts=[_attempt(misnumbered="frames 1, 0")], troubles=[_SERVER_KILLED])),
    ("true-answers", _story(attempts=[_attempt(outcome="worker_error", worker_code=422, detail="x3 failed")])),
    ("true-answers", _job(results={("done", "answer", b"{}")})),
    ("honest", _story(attempts=[_attempt(outcome="deadline", maybe_executed=False)])),
    ("honest", _story(attempts=[_attempt(outcome="store_unavailable")])),
    ("answered", _story(attempts=[_ANSWER, _attempt(outcome="silence", **_ASIDE)])),
    ("answered", _story(attempts=[_ANSWER, _attempt(outcome="no_such_capability", **_ASIDE)])),
    ("calm", _story(attempts=[_ANSWER, _attempt(outcome="worker_lost", calm=True, **_ASIDE)])),
    ("answered", _story(attempts=[_ANSWER, _attempt(outcome="worker_protocol", **_ASIDE)])),
    ("one-reply", _story(too_many_replies=["crank.request.chaos.once"])),
    ("no-crash", _story(faults=["c-1 exited with 1"])),
    ("nothing-left", _story(left=["1 jobs in the stream"])),
]

GOOD = [
    _story(),
    _job(),
    _job(results={("dead", "outcome_unknown", b"{}")}),
    # What may be done twice is.
    _story(
        operations={"o1": _OPERATION._replace(capability=AGAIN)},
        executions=[msgspec.structs.replace(one, capability=AGAIN) for one in _TWICE],
        ended={"x1"},
    ),
    # A controller that was killed a moment ago says nothing.
    _story(
        attempts=[_attempt(outcome="silence", **_ASIDE), _ANSWER],
        troubles=[Happened("c-1", "kill", 8.0, 8.5)],
    ),
    # A frame went down with the server, on its way to the caller or to the controller.
    _story(attempts=[_attempt(misnumbered="frames 0, 2", lack=True)], troubles=[_SERVER_KILLED]),
    _story(attempts=[_attempt(outcome="worker_protocol", **_ASIDE), _ANSWER], troubles=[_SERVER_KILLED]),
    # … and that is what is kept of it.
    _story(attempts=[_attempt(outcome="worker_protocol", calm=True, replayed=True, **_ASIDE)]),
    # Nobody knows whether it was done; it was.
    _story(attempts=[_attempt(outcome="outcome_unknown", maybe_executed=True), _attempt(outcome="worker_lost")]),
]


@pytest.mark.parametrize(("law", "story"), BROKEN)
def test_each_law_is_broken_by_what_it_forbids_and_no_other_is(law: str, story: Story) -> None:
    """The law is named, with a sentence that names the operation, the job or the process."""
    broken = judge(story)
    assert list(broken) == [law]
    assert all(broken[law])


def test_every_law_was_broken_once() -> None:
    """A law that no story breaks might be blind."""
    assert {law for law, _ in BROKEN} == {law.name for law in LAWS}


@pytest.mark.parametrize("story", GOOD)
def test_what_is_allowed_breaks_no_law(story: Story) -> None:
    """Second executions where they are safe, silence with a cause, and an honest `nobody knows` are no offence."""
    assert judge(story) == {}


def test_the_death_of_a_worker_is_no_cause_for_a_controllers_silence() -> None:
    """Only a controller or a server in trouble excuses that nobody answers."""
    story = _story(
        attempts=[_attempt(outcome="silence", **_ASIDE), _ANSWER], troubles=[Happened("w-1", "kill", 8.0, 8.5)]
    )
    assert list(judge(story)) == ["answered"]
