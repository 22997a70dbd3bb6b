"""Durable requests: accepted once, done or dead or cancelled once, whatever dies in between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from harness import DONE, HELLO, TOO_LATE, Call, House, of_kind, refusals, spec
from stores import Stores

from controller.core import world
from controller.core.commands import SendControl
from controller.core.events import Closing, RetryAsked
from controller.core.model import Request
from controller.core.stored import (
    ClaimNoticed,
    DropDead,
    ExtendJob,
    JobsKnown,
    PullEnded,
    PullJobs,
)
from controller.core.world import Limits
from subjects.answers import Fault, Garbage, Result
from subjects.errors import ErrorKind, parse_problem


def told(call: Call) -> dict[str, Any]:
    """The router's own words in an answer."""
    return msgspec.json.decode(call.answer.body)  # type: ignore[no-any-return]


def house(stores: Stores | None = None, name: str = "c-1", limits: Limits | None = None, **fields: Any) -> House:
    """One with a worker."""
    one = House(timeout_ms=10_000, stores=stores, name=name, seed=int(name[-1]), limits=limits)
    one.register("w-1", spec(max_concurrency=4, **fields))
    one.beating = {"w-1"}
    return one


def ids(stores: Stores) -> list[str]:
    """Of the jobs in the stream, each once by its message id."""
    return [command.job_id for command in stores.jobs.values()]


def submitted(one: House, **headers: Any) -> tuple[str, Call]:
    """A job that was accepted, and its call."""
    call = one.submit(**headers)
    return told(call)["job_id"], call


def delivered(one: House, nth: int = -1) -> Call:
    """The stream hands the newest job out."""
    return one.deliver(list(one.stores.jobs.values())[nth])


# Accepting ----------------------------------------------------------------------------


def test_a_job_is_recorded_then_streamed_then_marked_then_accepted() -> None:
    """In this order, so that whatever dies in between leaves nothing that was promised."""
    one = house()
    job_id, call = submitted(one)
    assert told(call) == {"job_id": job_id, "status": "accepted", "duplicate": False}
    assert one.stores.states == ["waiting", "waiting"]
    assert one.stores.record(job_id).published
    assert ids(one.stores) == [job_id]
    assert not call.dispatches
    assert call.record.outcome == "accepted"


def test_the_same_key_and_payload_are_the_same_job() -> None:
    """Also after it is done; another payload is refused."""
    one = house()
    job_id, _ = submitted(one, idempotency_key="k")
    assert told(one.submit(idempotency_key="k")) == {"job_id": job_id, "status": "accepted", "duplicate": True}
    one.answers(delivered(one))
    assert told(one.submit(idempotency_key="k"))["duplicate"]
    assert one.submit(body=b"[]", idempotency_key="k").kind is ErrorKind.KEY_REUSED
    assert len(one.stores.jobs) == 1


def test_jobs_without_a_key_are_all_different() -> None:
    """Nothing says that they are the same."""
    one = house()
    assert submitted(one)[0] != submitted(one)[0]


def test_a_retry_that_finds_a_job_unmarked_publishes_it_again() -> None:
    """Its first submitter died in between; the stream knows a message's id."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    stores_away = one.stores.perform

    def dies(command: object) -> object:
        if type(command).__name__ == "AppendJob":
            return None
        return stores_away(command)  # type: ignore[arg-type]

    one.stores.perform = dies  # type: ignore[method-assign, assignment]
    assert not one.submit(idempotency_key="k").replies
    one.stores.perform = stores_away  # type: ignore[method-assign]
    again = told(two.submit(idempotency_key="k"))
    assert again["duplicate"]
    assert ids(stores) == [again["job_id"]]


def test_a_job_is_refused_as_a_request_would_be() -> None:
    """By the same policy, the same schemas, the same registry."""
    one = House()
    assert one.submit("run:nothing").kind is ErrorKind.NO_SUCH_CAPABILITY


def test_without_a_store_nothing_is_accepted() -> None:
    """503, and it says that nothing will run."""
    one = house()
    one.stores.away = "no server"
    refused = one.submit()
    assert refused.kind is ErrorKind.STORE_UNAVAILABLE
    assert not refused.refusal.maybe_executed
    assert not one.stores.jobs


# Doing --------------------------------------------------------------------------------


def test_a_job_is_done_kept_and_acknowledged() -> None:
    """Record, result, acknowledgement, in this order."""
    one = house()
    job_id, _ = submitted(one)
    job = delivered(one)
    one.answers(job, Result(b"x", "", "text/plain"))
    assert one.stores.record(job_id).state == "done"
    assert one.stores.results[job_id].answer is not None
    assert one.stores.acks == [("ack", job.request.reply)]
    kept = one.result(job_id).answer
    assert (kept.body, kept.content_type, kept.meta.job_status) == (b"x", "text/plain", "done")


def test_a_delivery_of_what_is_done_is_acknowledged_and_forgotten() -> None:
    """An acknowledgement may be lost."""
    one = house()
    submitted(one)
    one.answers(delivered(one))
    again = delivered(one)
    assert not again.dispatches
    assert one.stores.acks[-1] == ("ack", again.request.reply)


def test_two_deliveries_of_one_job_run_it_once() -> None:
    """The record decides, and the second delivery finishes with what the first one stored."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    submitted(one)
    first, second = delivered(one), delivered(two)
    assert first.dispatches
    assert not second.dispatches
    one.answers(first)
    two.feed(ClaimNoticed(ids(stores)[0]))
    assert not second.dispatches
    assert [kind for kind, _ in stores.acks] == ["ack", "ack"]


def test_an_error_kills_a_job_and_is_its_result() -> None:
    """With why, among the dead and for whoever asks."""
    one = house()
    job_id, _ = submitted(one)
    one.answers(delivered(one), Fault(422, "no such mailbox"))
    record = one.stores.record(job_id)
    assert (record.state, record.reason) == ("dead", "worker_error")
    assert [command.job_id for command in one.stores.dead.values()] == [job_id]
    answer = one.result(job_id).answer
    assert answer.meta.job_status == "dead"
    assert answer.error is not None
    assert answer.error.status == 500


def test_a_broken_answer_kills_a_job() -> None:
    """502 is a terminal answer."""
    one = house()
    job_id, _ = submitted(one)
    one.answers(delivered(one), Garbage("nonsense"))
    assert one.stores.record(job_id).reason == "worker_protocol"


def test_a_job_that_nobody_ran_is_put_back() -> None:
    """Its deadline bounds the attempt, and the attempt does not count."""
    one = House(timeout_ms=500)
    one.register("w-1")
    one.beating = {"w-1"}
    one.request(timeout_ms=60_000)
    job_id, _ = submitted(one)
    delivered(one)
    one.advance(1.0)
    record = one.stores.record(job_id)
    assert (record.state, record.attempts) == ("waiting", 0)
    assert [kind for kind, _ in one.stores.acks] == ["nak"]


def test_a_busy_worker_does_not_wear_a_job_out() -> None:
    """However often it says that it has not begun."""
    one = house(limits=Limits(job_attempts=2))
    job_id, _ = submitted(one)
    for _ in range(5):
        one.answers(delivered(one), TOO_LATE)
    assert one.stores.record(job_id).state == "waiting"
    assert one.stores.record(job_id).attempts == 0


def test_a_retryable_error_is_tried_again_until_there_were_enough() -> None:
    """Where that is safe; then it is dead with the last error."""
    one = house(limits=Limits(job_attempts=2, max_attempts=1), idempotent=True)
    job_id, _ = submitted(one)
    one.answers(delivered(one), Fault(500, "later", retryable=True))
    assert one.stores.record(job_id).state == "waiting"
    assert one.stores.acks[-1][0] == "nak"
    one.answers(delivered(one), Fault(500, "later", retryable=True))
    assert one.stores.record(job_id).state == "dead"
    assert one.stores.record(job_id).attempts == 2


def test_a_lost_worker_kills_a_job_that_must_not_run_twice() -> None:
    """With an unknown outcome, and it is never run again by itself."""
    one = House(timeout_ms=60_000)
    one.register("w-1")
    job_id, _ = submitted(one)
    delivered(one)
    one.advance(10.0)
    record = one.stores.record(job_id)
    assert (record.state, record.reason) == ("dead", "outcome_unknown")
    one.register("w-2")
    assert not delivered(one).dispatches


def test_a_lost_controller_kills_a_job_that_must_not_run_twice() -> None:
    """Its next delivery sees the lease lapse."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    job_id, _ = submitted(one)
    delivered(one)
    late = delivered(two)
    two.advance(22.0)
    assert not late.dispatches
    assert stores.record(job_id).reason == "outcome_unknown"
    assert two.stores.acks == [("ack", late.request.reply)]


def test_a_lost_controller_s_job_is_run_again_where_that_is_safe() -> None:
    """By whoever gets it next."""
    stores = Stores()
    one, two = house(stores, idempotent=True), house(stores, "c-2", idempotent=True)
    job_id, _ = submitted(one)
    first, late = delivered(one), delivered(two)
    two.advance(22.0)
    two.answers(late, Result(b"second"))
    one.answers(first, Result(b"first"))
    assert stores.record(job_id).answer.body == b"second"  # type: ignore[union-attr]
    assert stores.record(job_id).attempts == 2


def test_a_job_that_kills_every_controller_dies_itself() -> None:
    """After as many attempts as are allowed."""
    stores = Stores()
    houses = [house(stores, f"c-{n}", Limits(job_attempts=2), idempotent=True) for n in (1, 2, 3)]
    job_id, _ = submitted(houses[0])
    for each in houses:
        delivered(each)
        each.advance(22.0)
    assert stores.record(job_id).state == "dead"


def test_a_job_without_a_record_is_not_run() -> None:
    """Nobody can say whether it was done: it is buried, and nothing is lost in silence."""
    one = house()
    job_id, _ = submitted(one)
    del one.stores.last[job_id]
    job = delivered(one)
    assert not job.dispatches
    assert one.stores.record(job_id).reason == "outcome_unknown"
    assert one.stores.dead


def test_a_job_that_is_worked_on_is_not_handed_to_others() -> None:
    """With each renewal that is acknowledged, the delivery is extended."""
    one = house(limits=Limits(lease_s=6.0))
    submitted(one, timeout_ms=60_000)
    job = delivered(one)
    one.advance(9.0)
    extended = of_kind(one.log, ExtendJob)
    assert len(extended) >= 3
    assert {command.delivery for command in extended} == {job.request.reply}


def test_a_job_of_a_controller_that_stops_is_left_to_its_next_delivery() -> None:
    """No acknowledgement of any kind."""
    one = house()
    submitted(one)
    delivered(one)
    one.feed(Closing())
    assert not one.stores.acks
    assert one.router.live == 0


# Asking and cancelling ----------------------------------------------------------------


def test_a_result_that_is_not_there_yet_is_waited_for() -> None:
    """And when the wait runs out, it is told how far it is."""
    one = house()
    job_id, _ = submitted(one)
    queued = one.result(job_id, timeout_ms=500)
    one.advance(1.0)
    assert told(queued) == {"job_id": job_id, "status": "queued"}
    assert queued.answer.meta.job_status == "queued"
    job = delivered(one)
    running, waiting = one.result(job_id, timeout_ms=500), one.result(job_id, timeout_ms=9000)
    one.advance(1.0)
    assert told(running)["status"] == "running"
    one.answers(job)
    assert waiting.answer.body == DONE.body


def test_where_too_many_wait_a_result_is_told_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks learns how far it is, at once."""
    monkeypatch.setattr(world, "MAX_ATTACHED", 1)
    one = house()
    job_id, _ = submitted(one)
    waiting, told_at_once = one.result(job_id, timeout_ms=9000), one.result(job_id, timeout_ms=9000)
    assert told(told_at_once)["status"] == "queued"
    assert not waiting.replies


def test_a_result_is_for_its_own_caller() -> None:
    """Whoever guesses a job's id learns nothing."""
    one = house()
    job_id, _ = submitted(one)
    assert one.result(job_id, caller="eve").kind is ErrorKind.NO_SUCH_JOB
    assert one.result("a" * 52).kind is ErrorKind.NO_SUCH_JOB


def test_a_result_is_kept_longer_than_its_claim() -> None:
    """When the record is gone, it is found among the results."""
    one = house()
    job_id, _ = submitted(one)
    one.answers(delivered(one))
    del one.stores.last[job_id]
    assert one.result(job_id).answer.body == DONE.body


def test_a_queued_job_is_cancelled_by_whoever_is_last() -> None:
    """Its next delivery finds it so, and runs nothing."""
    one = house()
    job_id, _ = submitted(one)
    one.cancel(job_id, last=True)
    one.advance(0.6)
    assert one.stores.record(job_id).state == "cancelled"
    assert not delivered(one).dispatches
    answer = one.result(job_id).answer
    assert answer.meta.job_status == "cancelled"
    problem = parse_problem(answer.body)
    assert problem is not None
    assert problem.status == 499


def test_another_caller_cannot_cancel_a_job() -> None:
    """404, as if it were not there."""
    one = house()
    job_id, _ = submitted(one)
    one.cancel(job_id, caller="eve", last=True)
    one.advance(0.6)
    assert one.stores.record(job_id).state == "waiting"


def test_a_running_job_is_cancelled_at_its_worker() -> None:
    """Its end is *cancelled*, once, whatever the worker says later."""
    one = house()
    job_id, _ = submitted(one)
    job = delivered(one)
    one.cancel(job_id)
    assert of_kind(one.log, SendControl)
    assert one.stores.record(job_id).state == "cancelled"
    one.answers(job)
    assert one.stores.record(job_id).state == "cancelled"
    assert one.stores.acks == [("ack", job.request.reply)]


def test_a_cancel_of_nothing_is_404() -> None:
    """Also where it looks like a job."""
    one = house()
    log = one.cancel("a" * 52, last=True)
    before = len(one.log)
    one.advance(0.6)
    assert not refusals(log)
    kinds = [c.refusal.kind for c in one.log[before:] if type(c).__name__ == "Refuse"]
    assert kinds == [ErrorKind.NO_SUCH_REQUEST]


# The dead -----------------------------------------------------------------------------


def retried(one: House, job_id: str, request: Request) -> Call:
    """An operator has it tried again."""
    asked = msgspec.structs.replace(request, action="retry", job_id=job_id, reply=f"_INBOX.retry{len(one.calls)}")
    call = one.calls[asked.reply] = Call(asked)
    one.feed(RetryAsked(asked, 7))
    return call


def test_a_dead_job_is_tried_again_when_an_operator_says_so() -> None:
    """Under a message id of its own, with all its attempts before it."""
    one = house()
    job_id, call = submitted(one)
    one.answers(delivered(one), Fault(422, "no"))
    again = retried(one, job_id, call.request)
    assert told(again) == {"dead": [{"job_id": job_id, "status": "accepted"}]}
    assert ids(one.stores) == [job_id, job_id]
    assert [command.seq for command in of_kind(one.log, DropDead)] == [7]
    one.answers(delivered(one))
    assert one.stores.record(job_id).state == "done"
    assert one.result(job_id).answer.body == DONE.body


def test_a_dead_job_that_was_forgotten_can_be_tried_again() -> None:
    """Its message has all that is needed."""
    one = house()
    job_id, call = submitted(one)
    one.answers(delivered(one), Fault(422, "no"))
    del one.stores.last[job_id]
    retried(one, job_id, call.request)
    one.answers(delivered(one))
    assert one.stores.record(job_id).state == "done"


@pytest.mark.parametrize("state", ["waiting", "done"])
def test_only_the_dead_are_tried_again(state: str) -> None:
    """A job that is queued or done is left alone."""
    one = house()
    job_id, call = submitted(one)
    if state == "done":
        one.answers(delivered(one))
    assert retried(one, job_id, call.request).kind is ErrorKind.NO_SUCH_JOB
    assert len(one.stores.jobs) == 1


# Pulling ------------------------------------------------------------------------------


def test_as_many_jobs_are_pulled_as_free_workers_could_do() -> None:
    """Of capabilities that have some; the next when one is done."""
    one = house()
    one.feed(JobsKnown(HELLO))
    assert [(c.capability, c.count) for c in of_kind(one.log, PullJobs)] == [(HELLO, 4)]
    submitted(one)
    job = delivered(one)
    one.feed(PullEnded(HELLO))
    one.advance(2.0)
    assert of_kind(one.log, PullJobs)[-1].count == 3
    one.answers(job)
    one.feed(PullEnded(HELLO))
    one.advance(2.0)
    assert of_kind(one.log, PullJobs)[-1].count == 4


def test_a_capability_without_workers_is_not_pulled_from() -> None:
    """Its jobs wait in their stream until there is one."""
    one = House()
    one.feed(JobsKnown(HELLO))
    one.advance(5.0)
    assert not of_kind(one.log, PullJobs)
    one.register("w-1")
    one.advance(2.0)
    assert of_kind(one.log, PullJobs)


def test_a_controller_that_stops_pulls_no_more() -> None:
    """What it was handed goes back."""
    one = house()
    one.feed(Closing())
    one.feed(JobsKnown(HELLO))
    assert not of_kind(one.log, PullJobs)


def test_a_wait_that_ends_before_the_record_is_read_tells_what_there_is() -> None:
    """As soon as it is read; where the store does not answer, nobody knows whether there is such a job."""
    one = house()
    job_id, _ = submitted(one)
    one.answers_claims = False
    asked = one.result(job_id, timeout_ms=1)
    one.advance(0.1)
    assert not asked.replies
    one.store_answers()
    assert told(asked)["status"] == "queued"


def test_a_wait_for_what_cannot_be_read_ends_all_the_same() -> None:
    """503: nobody knows whether there is such a job."""
    one = house()
    one.answers_claims = False
    asked = one.result("a" * 52, timeout_ms=10)
    one.advance(0.1)
    assert not asked.replies
    one.advance(3.0)
    assert asked.kind is ErrorKind.STORE_UNAVAILABLE
