"""Jobs under attack: cancelled at every moment, taken over and over, mixed up with an earlier life of their key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from harness import ALLOW, DONE, TOO_LATE, House, json_replies, of_kind, refusals, spec
from stores import Stores

from controller.core.commands import Answer, Authorize
from controller.core.events import RetryAsked, VerdictReached
from controller.core.model import Request
from controller.core.stored import AppendJob, ClaimNoticed, WriteClaim
from controller.core.world import Limits
from subjects.answers import Fault, Result
from subjects.errors import ErrorKind, parse_problem


def house(stores: Stores | None = None, name: str = "c-1", limits: Limits | None = None, **fields: Any) -> House:
    """One with a worker."""
    one = House(timeout_ms=30_000, stores=stores, name=name, seed=int(name[-1]), limits=limits)
    one.register("w-1", spec(**fields))
    one.beating = {"w-1"}
    return one


def accepted(one: House, **headers: Any) -> tuple[str, AppendJob]:
    """A job's id, and its message."""
    answer = one.submit(**headers).answer
    return msgspec.json.decode(answer.body)["job_id"], list(one.stores.jobs.values())[-1]


# Told that it is cancelled, it does not run ------------------------------------------------


@pytest.mark.parametrize("moment", ["record is read", "policy is asked", "claim is written", "put back"])
def test_a_job_whose_caller_was_told_that_it_is_cancelled_is_not_run_later(moment: str) -> None:
    """Whenever in its delivery the cancel comes; and it is told when that is stored, and not before."""
    one = house()
    job_id, job = accepted(one)
    if moment == "put back":
        delivery = one.deliver(job)
        one.answers_claims = False
        one.answers(delivery, TOO_LATE)
        assert isinstance(one.unanswered[0], WriteClaim)
    elif moment == "policy is asked":
        one.world.verdicts._kept.clear()
        one.policy = lambda request: None
        one.deliver(job)
    else:
        one.answers_claims = False
        one.deliver(job)
        if moment == "claim is written":
            one.store_answers()
            assert isinstance(one.unanswered[0], WriteClaim)
    told = json_replies(one.cancel(job_id))
    assert bool(told) == (one.stores.record(job_id).state == "cancelled")
    one.answers_claims = True
    if moment == "policy is asked":
        one.policy = lambda request: ALLOW
        one.feed(VerdictReached([c for c in one.log if isinstance(c, Authorize)][-1].life, ALLOW))
    for _ in range(5):
        one.store_answers()
    one.advance(1.0)
    assert json_replies(one.log)[1:] == [{"status": "cancelled", "request_id": job_id}]
    assert not one.deliver(job).dispatches
    assert one.stores.record(job_id).state == "cancelled"


def test_a_job_that_waits_for_a_dead_owner_is_cancelled_and_not_run_again() -> None:
    """Its second delivery was told of the cancel; running it again would have been safe."""
    stores = Stores()
    one, two = house(stores, idempotent=True), house(stores, "c-2", idempotent=True)
    job_id, job = accepted(one)
    one.deliver(job)
    late = two.deliver(job)
    assert not json_replies(two.cancel(job_id))
    two.advance(30.0)
    assert json_replies(two.log)[-1] == {"status": "cancelled", "request_id": job_id}
    assert not late.dispatches
    assert stores.record(job_id).state == "cancelled"
    problem = parse_problem(stores.record(job_id).answer.body)  # type: ignore[union-attr]
    assert problem is not None
    assert problem.maybe_executed


def test_a_job_that_is_done_all_the_same_is_not_told_to_be_cancelled() -> None:
    """The cancel came while its answer was being stored."""
    one = house()
    job_id, job = accepted(one)
    delivery = one.deliver(job)
    one.answers_claims = False
    one.answers(delivery)
    one.cancel(job_id)
    one.answers_claims = True
    one.store_answers()
    assert one.stores.record(job_id).state == "done"
    assert not json_replies(one.log)[1:]
    assert refusals(one.log) == [ErrorKind.NO_SUCH_REQUEST]


def test_who_cancels_again_is_told_the_same() -> None:
    """It is cancelled, and was before."""
    one = house()
    job_id, _ = accepted(one)
    for reply in ("_INBOX.first", "_INBOX.again"):
        one.cancel(job_id, last=True, reply=reply)
        one.advance(0.6)
    told = [
        msgspec.json.decode(c.body) for c in of_kind(one.log, Answer) if c.reply in ("_INBOX.first", "_INBOX.again")
    ]
    assert told == [{"status": "cancelled", "request_id": job_id}] * 2


def test_a_cancelled_job_that_ran_before_does_not_say_that_nothing_ran() -> None:
    """An earlier attempt failed, and it waited for its next one."""
    one = house(limits=Limits(max_attempts=1), idempotent=True)
    job_id, job = accepted(one)
    one.answers(one.deliver(job), Fault(500, "later", retryable=True))
    assert one.stores.record(job_id).state == "waiting"
    one.cancel(job_id, last=True)
    one.advance(0.6)
    record = one.stores.record(job_id)
    assert record.state == "cancelled"
    problem = parse_problem(record.answer.body)  # type: ignore[union-attr]
    assert problem is not None
    assert problem.maybe_executed


# A job's time is its attempt's ---------------------------------------------------------------


def test_the_time_of_a_submit_bounds_no_acceptance() -> None:
    """It is each attempt's: a store that takes a moment longer accepts it all the same."""
    one = house()
    one.answers_claims = False
    call = one.submit(timeout_ms=10)
    one.advance(0.5)
    assert not call.replies
    one.answers_claims = True
    one.store_answers()
    assert msgspec.json.decode(call.answer.body)["status"] == "accepted"


def test_the_time_of_a_dead_job_bounds_no_retry() -> None:
    """An operator's word is no attempt."""
    one = house()
    call = one.submit(timeout_ms=10)
    job_id = msgspec.json.decode(call.answer.body)["job_id"]
    one.answers(one.deliver(next(iter(one.stores.jobs.values()))), Fault(422, "no"))
    one.answers_claims = False
    asked = msgspec.structs.replace(call.request, action="retry", job_id=job_id, reply="_INBOX.op", request_id="op")
    one.feed(RetryAsked(asked, 7))
    one.advance(0.5)
    one.answers_claims = True
    one.store_answers()
    assert one.stores.record(job_id).state == "waiting"


# Counting what may have run -------------------------------------------------------------------


def test_a_job_that_kills_every_controller_dies_though_each_had_to_wait_for_a_worker() -> None:
    """What a dead owner sent stays counted when the next one queues."""
    stores = Stores()
    houses = [house(stores, f"c-{n}", Limits(job_attempts=2), idempotent=True) for n in (1, 2, 3, 4, 5)]
    job_id, job = accepted(houses[0])
    runs = 0
    for each in houses:
        busy = each.request()
        work = each.deliver(job)
        each.advance(22.0)
        if not busy.terminal:
            each.answers(busy)
        runs += len(work.dispatches)
    assert stores.record(job_id).state == "dead"
    assert runs == 2


def test_a_job_that_may_have_run_is_not_given_to_workers_that_must_not_run_it_twice() -> None:
    """Its capability may be asked again no more: nobody knows what the attempt before came to."""
    one = house(limits=Limits(max_attempts=1), idempotent=True)
    job_id, job = accepted(one)
    one.answers(one.deliver(job), Fault(500, "later", retryable=True))
    assert one.stores.record(job_id).state == "waiting"
    one.register("w-1", spec(version="2.0.0"))
    assert not one.deliver(job).dispatches
    record = one.stores.record(job_id)
    assert (record.state, record.reason) == ("dead", "outcome_unknown")


# Earlier lives of a key -------------------------------------------------------------------------


def test_an_old_message_is_not_run_under_a_later_life_s_record() -> None:
    """Its acknowledgement was lost, its record aged out, and its key was used for another payload since."""
    one = house(max_concurrency=4)
    _, old = accepted(one, idempotency_key="k", body=b"1")
    one.answers(one.deliver(old))
    one.stores.last.clear()
    one.stores.results.clear()
    one.advance(3601.0)
    job_id, new = accepted(one, idempotency_key="k", body=b"2")
    again = one.deliver(old)
    assert not again.dispatches
    work = one.deliver(new)
    one.answers(work, Result(b"of 2"))
    assert not again.dispatches
    assert {kind for kind, _ in one.stores.acks} == {"ack"}
    assert again.request.reply in [delivery for _, delivery in one.stores.acks]
    answer = one.stores.record(job_id).answer
    assert answer is not None
    assert answer.body == b"of 2"


def test_an_old_dead_message_is_not_tried_again_under_a_later_life_s_record() -> None:
    """Its key was used for another payload since, which died too."""
    one = house(max_concurrency=4)
    call = one.submit(idempotency_key="k", body=b"1")
    one.answers(one.deliver(list(one.stores.jobs.values())[-1]), Fault(422, "no"))
    one.stores.last.clear()
    one.advance(3601.0)
    job_id, new = accepted(one, idempotency_key="k", body=b"2")
    one.answers(one.deliver(new), Fault(422, "no"))
    asked: Request = msgspec.structs.replace(call.request, action="retry", job_id=job_id, reply="_INBOX.op")
    one.feed(RetryAsked(asked, 7))
    refused = [c for c in one.log if getattr(c, "reply", "") == "_INBOX.op"][-1]
    assert refused.refusal.kind is ErrorKind.NO_SUCH_JOB
    assert one.stores.record(job_id).state == "dead"


# A request among jobs ---------------------------------------------------------------------------


def test_a_request_that_took_an_unmarked_job_over_leaves_it_its_record() -> None:
    """It is in its stream, and only its mark was lost: when the request gives up, the job is still to be done."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    perform = stores.perform

    def loses_marks(command: object) -> Any:
        if isinstance(command, WriteClaim) and command.record.published:
            return None
        return perform(command)  # type: ignore[arg-type]

    stores.perform = loses_marks  # type: ignore[method-assign]
    one.submit(idempotency_key="k")
    stores.perform = perform  # type: ignore[method-assign]
    job = next(iter(stores.jobs.values()))
    two.request()
    call = two.request(idempotency_key="k", timeout_ms=40_000)
    two.advance(41.0)
    assert call.kind is ErrorKind.DEADLINE
    three = house(stores, "c-3")
    work = three.deliver(job)
    three.advance(22.0)
    assert work.dispatches
    three.answers(work)
    assert stores.record(job.job_id).state == "done"


def test_two_deliveries_here_end_as_one() -> None:
    """The second is acknowledged with the first."""
    one = house()
    job_id, job = accepted(one)
    first, second = one.deliver(job), one.deliver(job)
    one.answers(first)
    one.feed(ClaimNoticed(job_id))
    assert not second.dispatches
    assert [kind for kind, _ in one.stores.acks] == ["ack", "ack"]
    assert one.stores.record(job_id).answer.body == DONE.body  # type: ignore[union-attr]
    assert not one.router.claims


def test_a_claim_that_is_not_acknowledged_makes_no_job_an_old_one() -> None:
    """A request with its key and another payload is being claimed here, and will be refused."""
    stores = Stores()
    one, two = house(stores, max_concurrency=4), house(stores, "c-2", max_concurrency=4)
    job_id, job = accepted(one, idempotency_key="k", body=b"1")
    two.answers_claims = False
    other = two.request(idempotency_key="k", body=b"2")
    work = two.deliver(job)
    assert not stores.acks
    two.answers_claims = True
    two.store_answers()
    assert other.kind is ErrorKind.KEY_REUSED
    assert work.dispatches
    two.answers(work)
    assert stores.record(job_id).state == "done"
