"""Jobs and requests under one key, and jobs whose acceptance or retry was interrupted: nothing accepted is lost."""

from __future__ import annotations

from typing import Any

import msgspec
from harness import ALLOW, DONE, HELLO, Call, House, of_kind, spec
from stores import Stores

from controller.core.commands import Authorize
from controller.core.events import RetryAsked, VerdictReached
from controller.core.model import Request
from controller.core.stored import (
    Appended,
    AppendJob,
    ClaimNoticed,
    ClaimUnanswered,
    NakJob,
    ReadClaim,
    WriteClaim,
)
from subjects.answers import Garbage
from subjects.errors import ErrorKind


def house(stores: Stores | None = None, name: str = "c-1", **fields: Any) -> House:
    """One with a worker."""
    one = House(timeout_ms=30_000, stores=stores, name=name, seed=int(name[-1]))
    one.register("w-1", spec(**fields))
    one.beating = {"w-1"}
    return one


def told(call: Call) -> dict[str, Any]:
    """The router's own words in an answer."""
    return msgspec.json.decode(call.answer.body)  # type: ignore[no-any-return]


def test_a_job_under_the_key_of_a_request_is_what_that_comes_to() -> None:
    """It is accepted when the answer is stored, which is its result."""
    one = house()
    first = one.request(idempotency_key="k")
    job = one.submit(idempotency_key="k")
    assert not job.replies
    one.answers(first)
    assert told(job)["duplicate"]
    assert one.result(told(job)["job_id"]).answer.body == DONE.body
    assert not one.stores.jobs


def test_a_job_under_a_key_that_a_request_frees_is_one_of_its_own() -> None:
    """It is not accepted before."""
    one = house()
    one.request()
    one.request(idempotency_key="k", request_id="waits")
    job = one.submit(idempotency_key="k")
    assert not job.replies
    one.cancel("waits")
    assert told(job) == {"job_id": told(job)["job_id"], "status": "accepted", "duplicate": False}
    assert len(one.stores.jobs) == 1
    assert one.stores.only().job


def test_a_job_takes_over_the_key_of_a_request_whose_controller_died() -> None:
    """And is a job from then on."""
    stores = Stores()
    one, two = house(stores, idempotent=True), house(stores, "c-2", idempotent=True)
    one.request(idempotency_key="k")
    job = two.submit(idempotency_key="k")
    two.advance(22.0)
    assert told(job)["status"] == "accepted"
    assert stores.only().job
    two.answers(two.deliver(next(iter(stores.jobs.values()))))
    assert two.result(told(job)["job_id"]).answer.meta.job_status == "done"


def test_a_job_under_the_key_of_a_request_whose_outcome_is_unknown_is_refused() -> None:
    """An operator settles that first."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    one.request(idempotency_key="k")
    assert_kind = two.submit(idempotency_key="k")
    two.advance(22.0)
    assert assert_kind.kind is ErrorKind.OUTCOME_UNKNOWN
    assert not stores.jobs


def dead(one: House) -> RetryAsked:
    """What an operator asks of a job that died."""
    call = one.submit(idempotency_key="k")
    one.answers(one.deliver(list(one.stores.jobs.values())[-1]), Garbage("nonsense"))
    job_id = told(call)["job_id"]
    assert one.stores.record(job_id).state == "dead"
    request = msgspec.structs.replace(call.request, reply="_INBOX.op", action="retry", job_id=job_id)
    return RetryAsked(request, 1)


def asks(one: House, event: RetryAsked, reply: str) -> Call:
    """The operator's request, and what comes of it."""
    request: Request = msgspec.structs.replace(event.request, reply=reply)
    call = one.calls[reply] = Call(request)
    one.feed(RetryAsked(request, event.dead_seq))
    return call


def test_a_retry_whose_record_cannot_be_read_in_time_writes_nothing() -> None:
    """It would not know over what."""
    one = house()
    event = dead(one)
    one.answers_claims = False
    call = asks(one, event, "op")
    one.advance(31.0)
    assert call.kind is ErrorKind.STORE_UNAVAILABLE
    assert [type(command) for command in one.unanswered] == [ReadClaim]


def test_a_retry_that_came_no_further_than_its_record_can_be_repeated() -> None:
    """The job is in its stream after that, once, as another one than the first."""
    one = house()
    event = dead(one)
    perform = one.stores.perform
    one.stores.perform = lambda c: (  # type: ignore[method-assign]
        Appended(c.life, "full") if isinstance(c, AppendJob) else perform(c)
    )
    assert isinstance(asks(one, event, "op-1").kind, ErrorKind)
    one.stores.perform = perform  # type: ignore[method-assign]
    assert told(asks(one, event, "op-2"))["dead"][0]["status"] == "accepted"
    assert [command.job_id for command in one.stores.jobs.values()] == [event.request.job_id] * 2


def test_a_retry_that_came_no_further_leaves_the_job_dead() -> None:
    """As it was, for whoever asks for its result."""
    one = house()
    event = dead(one)
    perform = one.stores.perform
    one.stores.perform = lambda c: (  # type: ignore[method-assign]
        Appended(c.life, "full") if isinstance(c, AppendJob) else perform(c)
    )
    asks(one, event, "op-1")
    one.stores.perform = perform  # type: ignore[method-assign]
    assert one.result(event.request.job_id).answer.meta.job_status == "dead"
    assert told(one.submit(idempotency_key="k"))["duplicate"]
    assert len(one.stores.jobs) == 1


def test_a_job_that_is_done_before_it_is_marked_as_accepted_is_accepted_all_the_same() -> None:
    """What it was marked for is over."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    perform, late = stores.perform, []
    stores.perform = lambda c: late.append(c) if isinstance(c, AppendJob) else perform(c)  # type: ignore[func-returns-value, method-assign]
    first = one.submit(idempotency_key="k")
    again = one.submit(idempotency_key="k")
    two.answers(two.deliver(late[0]))
    for command in late:
        one.feed(Appended(command.life, None))
    assert (told(first)["status"], told(again)["status"]) == ("accepted", "accepted")
    assert stores.only().state == "done"


def test_a_claim_that_is_acknowledged_late_is_renewed_before_anything_is_sent() -> None:
    """Its lease runs from when it was handed over, and somebody may have called it over since."""
    one = house()
    one.answers_claims = False
    call = one.request(HELLO, idempotency_key="k")
    one.advance(16.0)
    one.store_answers()
    assert not call.dispatches
    one.store_answers()
    assert len(call.dispatches) == 1


def test_a_job_under_a_key_that_was_forgotten_is_another_message() -> None:
    """Its stream remembers message ids for longer than a short window, and would drop it."""
    one = house()
    one.submit(idempotency_key="k")
    one.answers(one.deliver(list(one.stores.jobs.values())[-1]))
    one.stores.last.clear()
    one.advance(3601.0)
    assert not told(one.submit(idempotency_key="k"))["duplicate"]
    assert len(one.stores.jobs) == 2


def test_a_job_that_is_worked_on_before_it_is_marked_as_accepted_is_left_alone() -> None:
    """Whoever submitted it again meant what stood there then."""
    stores = Stores()
    one, two = house(stores), house(stores, "c-2")
    perform, lives = stores.perform, []

    def late(command: object) -> Any:
        if isinstance(command, AppendJob):
            lives.append(command)
            return None
        return perform(command)  # type: ignore[arg-type]

    stores.perform = late  # type: ignore[method-assign]
    first = one.submit(idempotency_key="k")
    again = one.submit(idempotency_key="k")
    work = two.deliver(lives[0])
    assert len(work.dispatches) == 1
    for command in lives:
        one.feed(Appended(command.life, None))
    assert (told(first)["status"], told(again)["status"]) == ("accepted", "accepted")
    assert stores.only().state == "dispatching"
    two.answers(work)
    assert stores.only().state == "done"


def test_a_job_that_somebody_else_took_while_the_policy_was_asked_is_not_taken_from_them() -> None:
    """Two deliveries of it; the second one's verdict comes late."""
    stores, asked = Stores(), []
    one = House(timeout_ms=30_000, stores=stores, name="c-1", policy=lambda request: asked.append(request))
    two = house(stores, "c-2")
    one.register("w-1")
    one.beating = {"w-1"}
    two.submit(idempotency_key="k")
    job = next(iter(stores.jobs.values()))
    here = one.deliver(job)
    there = two.deliver(job)
    assert len(there.dispatches) == 1
    one.feed(ClaimNoticed(job.job_id))
    one.feed(VerdictReached(next(c for c in one.log if isinstance(c, Authorize)).life, ALLOW))
    assert not here.dispatches
    two.answers(there)
    assert stores.only().state == "done"


def test_a_submit_that_was_acknowledged_late_takes_nobody_s_job_away() -> None:
    """Its record may have been published by whoever sent it again: it is left, and not released."""
    one = House(timeout_ms=1000, answers_claims=False)
    one.register("w-1")
    first = one.submit(idempotency_key="k")
    (write,) = [command for command in one.unanswered if isinstance(command, WriteClaim)]
    one.feed(ClaimUnanswered(write.key, write.record.nonce))
    assert first.kind is ErrorKind.STORE_UNAVAILABLE
    one.store_answers()
    assert one.stores.states == ["waiting"]
    one.answers_claims = True
    again = one.submit(idempotency_key="k")
    assert told(again)["duplicate"]
    one.answers(one.deliver(list(one.stores.jobs.values())[-1]))
    assert one.stores.only().state == "done"


def test_a_job_that_never_came_to_its_stream_holds_up_no_request_for_ever() -> None:
    """Its submitter died in between: after a lease the key is whoever's asks for it."""
    stores = Stores()
    one, two = House(stores=stores), House(stores=stores, name="c-2", seed=2, timeout_ms=100_000)
    for each in (one, two):
        each.register("w-1", spec(max_concurrency=4))
        each.beating = {"w-1"}
    perform = stores.perform
    stores.perform = lambda command: None if isinstance(command, AppendJob) else perform(command)  # type: ignore[method-assign]
    one.submit(idempotency_key="k")
    stores.perform = perform  # type: ignore[method-assign]
    call = two.request(idempotency_key="k")
    two.advance(22.0)
    two.answers(call)
    assert call.answer.body == DONE.body


def test_a_job_that_is_marked_while_it_is_taken_is_taken_all_the_same() -> None:
    """It waits for no lease that nobody has."""
    stores = Stores()
    one, two = House(stores=stores), House(stores=stores, name="c-2", seed=2)
    for each in (one, two):
        each.register("w-1", spec(max_concurrency=4))
        each.beating = {"w-1"}
    one.answers_claims = True
    perform, late = stores.perform, []

    def mark_is_late(command: object) -> object:
        if isinstance(command, WriteClaim) and command.record.published:
            late.append(command)
            return None
        return perform(command)  # type: ignore[arg-type]

    stores.perform = mark_is_late  # type: ignore[method-assign, assignment]
    one.submit(idempotency_key="k")
    two.answers_claims = False
    job = two.deliver(next(iter(stores.jobs.values())))
    two.store_answers()  # it is read as it was before the mark
    stores.perform = perform  # type: ignore[method-assign]
    one.feed(perform(late[0]))  # type: ignore[arg-type]
    two.store_answers()
    two.answers_claims = True
    two.store_answers()
    assert job.dispatches


def test_a_job_that_nobody_can_do_is_not_handed_out_every_second() -> None:
    """It waits for half a minute."""
    one = House()
    one.register("w-1")
    one.beating = {"w-1"}
    one.submit(version="^1")
    job = next(iter(one.stores.jobs.values()))
    one.deregister("w-1")
    one.register("w-1", spec(version="2.0.0"))
    one.deliver(job)
    (nak,) = [command for command in one.log if isinstance(command, NakJob)]
    assert nak.delay_s == 30.0


def test_a_waiting_job_is_read_no_more_often_than_its_lease_says() -> None:
    """However many wait for its result, and though nobody renews it while it waits in its stream."""
    one = house()
    job_id = told(one.submit(idempotency_key="k"))["job_id"]
    asked = one.result(job_id, timeout_ms=60_000)
    one.advance(59.0)
    assert not asked.replies
    assert len(of_kind(one.log, ReadClaim)) < 20


def test_an_outcome_that_nobody_knows_of_a_key_that_was_released_is_not_written() -> None:
    """Nothing stands there any more, and its next request is its own."""
    one = house()
    first = one.request(idempotency_key="k")
    (key,) = one.stores.last
    one.stores._store(key, None)
    one.beating = set()
    one.advance(20.0)
    assert first.kind is ErrorKind.WORKER_LOST
    assert one.stores.states == ["dispatching", ""]


def test_a_job_whose_first_submit_lost_its_key_to_another_payload_is_not_accepted() -> None:
    """It was submitted a second time before the first one was refused."""
    one, other = house(), house(Stores(), "c-2")
    one.answers_claims = False
    first, again = one.submit(idempotency_key="k"), one.submit(idempotency_key="k")
    other.answers(other.request(body=b"[1]", idempotency_key="k"))
    one.stores.last, one.stores.seq = other.stores.last, other.stores.seq
    one.store_answers()
    one.store_answers()
    assert (first.kind, again.kind) == (ErrorKind.KEY_REUSED, ErrorKind.KEY_REUSED)
