"""When a request is tried again: always when nothing ran, and otherwise only where running twice is safe."""

from __future__ import annotations

import pytest
from harness import BUSY, DONE, DRAINING, TOO_LATE, Call, House, controls, spec

from controller.core.fleet import State
from controller.core.retries import MAX_SAVED, MINIMUM_PER_S, RetryBudget
from controller.core.world import Limits
from subjects.answers import NO_RESPONDERS, Answer, Fault, Garbage
from subjects.errors import ErrorKind

RETRYABLE = Fault(503, "try again", retryable=True, retry_after_ms=700)
FINAL = Fault(422, "no")


def two_workers(house: House, **fields: object) -> None:
    """Two workers with room for many."""
    for worker_id in ("w-1", "w-2"):
        house.register(worker_id, spec(max_concurrency=9, **fields))


def asked_of(call: Call) -> list[str]:
    """Workers in order; there are two, and the first is drawn."""
    assert set(call.workers) <= {"w-1", "w-2"}
    return call.workers


@pytest.mark.parametrize("answer", [NO_RESPONDERS, DRAINING, TOO_LATE, BUSY])
def test_when_nothing_ran_another_worker_is_tried(answer: Answer) -> None:
    """Also where running twice is not safe: nothing ran once."""
    house = House()
    two_workers(house, idempotent=False)
    call = house.request()
    house.answers(call, answer)
    assert len(set(asked_of(call))) == 2
    assert [dispatch.attempt for dispatch in call.dispatches] == [1, 2]
    house.answers(call)
    assert call.answer.meta.attempts == 2
    assert call.answer.meta.worker == call.workers[1]
    assert [attempt.end for attempt in call.record.attempts] == [type(answer).__name__, "Result"]


def test_nobody_who_does_not_listen_is_asked_until_it_is_heard_again() -> None:
    """*No responders* shuts a worker out; a heartbeat lets it in."""
    house = House()
    house.register("w-1")
    call = house.request()
    house.answers(call, NO_RESPONDERS)
    assert call.kind is ErrorKind.NO_WORKER
    assert call.refusal.candidates[0].reason == "does not listen on its subject"
    assert house.request().kind is ErrorKind.NO_WORKER
    house.beat("w-1")
    assert house.request().dispatches


def test_a_worker_that_drains_gets_nothing_more() -> None:
    """Its own word counts before its heartbeat does, and until its heartbeat says otherwise."""
    house = House()
    house.register("w-1")
    call = house.request()
    house.answers(call, DRAINING)
    assert house.worker("w-1").state is State.DRAINING
    assert call.kind is ErrorKind.NO_WORKER
    assert call.refusal.maybe_executed is None
    house.beat("w-1", draining=True)
    assert house.request().kind is ErrorKind.NO_WORKER
    house.beat("w-1")
    assert house.request().dispatches


def test_a_worker_for_which_it_is_too_late_is_not_asked_again() -> None:
    """With nobody else to ask the request is refused, and nothing ran."""
    house = House()
    house.register("w-1")
    call = house.request()
    house.answers(call, TOO_LATE)
    assert call.kind is ErrorKind.NO_WORKER
    assert "was tried" in call.refusal.detail
    assert house.request().dispatches, "others may ask it"


@pytest.mark.parametrize("answer", [RETRYABLE, FINAL, Garbage("nonsense")])
def test_what_may_have_run_is_not_run_again_where_that_is_not_safe(answer: Answer) -> None:
    """A capability that is not idempotent is given to one worker."""
    house = House()
    two_workers(house, idempotent=False)
    call = house.request()
    house.answers(call, answer)
    assert len(call.dispatches) == 1
    assert call.refusal.maybe_executed is True


def test_an_idempotent_capability_is_tried_at_another_worker() -> None:
    """A retryable error goes to another worker, and the first success wins."""
    house = House()
    two_workers(house, idempotent=True)
    call = house.request()
    house.answers(call, RETRYABLE)
    assert len(set(asked_of(call))) == 2
    house.answers(call)
    assert call.answer.body == b'"done"'


@pytest.mark.parametrize("answer", [FINAL, Garbage("nonsense")])
def test_an_error_that_is_not_retryable_is_the_answer(answer: Answer) -> None:
    """The worker knows that trying again does not help."""
    house = House()
    two_workers(house, idempotent=True)
    call = house.request()
    house.answers(call, answer)
    assert len(call.dispatches) == 1
    assert call.kind is (ErrorKind.WORKER_ERROR if isinstance(answer, Fault) else ErrorKind.WORKER_PROTOCOL)


def test_when_none_succeeds_the_last_error_is_the_answer() -> None:
    """With the worker's own code, words and patience inside, and paid for."""
    house = House()
    two_workers(house, idempotent=True, cost_tokens_per_invocation=2.5)
    call = house.request()
    house.answers(call, RETRYABLE)
    house.answers(call, Fault(500, "broken too", retryable=True))
    refusal = call.refusal
    assert refusal.kind is ErrorKind.WORKER_ERROR
    assert (refusal.worker_code, refusal.worker_message) == (500, "broken too")
    assert call.replies[0].meta.cost_tokens == 2.5
    assert call.record.status == "error"


def test_the_last_error_is_the_answer_when_everybody_else_is_away() -> None:
    """What may have run is not called unavailable."""
    house = House()
    two_workers(house, idempotent=True)
    call = house.request()
    other = next(w for w in ("w-1", "w-2") if w != call.workers[0])
    house.deregister(other)
    house.answers(call, RETRYABLE)
    assert call.kind is ErrorKind.WORKER_ERROR
    assert call.refusal.retry_after_ms == 700


def test_the_last_error_is_the_answer_when_the_queue_is_full() -> None:
    """A request that failed once, and cannot wait for another worker, tells why it failed."""
    house = House(limits=Limits(queue_limit=1))
    house.register("w-1", spec(idempotent=True))
    failing = house.request()
    house.register("w-2", spec(idempotent=True))
    house.request()
    house.request(version="^1")
    house.register("w-1", spec(idempotent=True, version="3.0.0"))
    assert house.world.registry.groups[failing.request.capability].waiting == 1
    house.answers(failing, RETRYABLE)
    assert failing.kind is ErrorKind.WORKER_ERROR
    assert failing.refusal.maybe_executed is True


def test_attempts_that_may_have_run_are_bounded() -> None:
    """Three by default; attempts where nothing ran do not count."""
    house = House(limits=Limits(max_attempts=3))
    for number in range(8):
        house.register(f"w-{number}", spec(idempotent=True))
    call = house.request()
    house.answers(call, NO_RESPONDERS)
    house.answers(call, RETRYABLE)
    house.answers(call, TOO_LATE)
    house.answers(call, RETRYABLE)
    house.answers(call, RETRYABLE)
    assert call.kind is ErrorKind.WORKER_ERROR
    assert len(call.dispatches) == 5
    assert len(set(call.workers)) == 5


def test_a_lost_worker_is_replaced_only_where_that_is_safe() -> None:
    """503 ``worker_lost`` with ``maybe_executed``, or another worker."""
    for idempotent in (False, True):
        house = House(timeout_ms=60_000)
        house.register("w-1", spec(idempotent=idempotent))
        call = house.request()
        house.register("w-2", spec(idempotent=idempotent))
        house.beating = {"w-2"}
        house.advance(7)
        if idempotent:
            assert call.workers == ["w-1", "w-2"]
            house.answers(call)
            assert call.answer.meta.worker == "w-2"
        else:
            assert call.kind is ErrorKind.WORKER_LOST
            assert call.refusal.maybe_executed is True
            assert "heartbeats stopped" in call.refusal.detail


def test_a_worker_that_hangs_is_replaced_only_where_that_is_safe() -> None:
    """Its own ``timeout_s`` passed, and the caller's patience did not: it is told to stop, and another one is asked."""
    for idempotent in (False, True):
        house = House(timeout_ms=3000)
        hangs = {"timeout_s": 0.5}
        house.register("w-1", spec(idempotent=idempotent, constraints=hangs))
        call = house.request()
        assert call.dispatches[0].timeout_ms == 500
        house.register("w-2", spec(idempotent=idempotent))
        house.advance(0.51)
        assert ("w-1", "cancel") in controls(house.log)
        assert house.worker("w-1").in_flight == 1, "it may be at it still"
        if not idempotent:
            assert call.kind is ErrorKind.DEADLINE
            assert call.refusal.maybe_executed is True
            continue
        assert call.workers == ["w-1", "w-2"]
        house.answers(call, DONE, nth=0)
        assert house.router.late_answers == 1
        assert not call.replies, "nobody waits for the first any more"
        house.advance(2.0)
        assert not call.replies, "the whole patience is the second's"
        house.answers(call, nth=1)
        assert call.answer.meta.worker == "w-2"


def test_a_worker_that_goes_and_hangs_in_one_moment_is_replaced_once() -> None:
    """Its silence gave the request to another worker, whose time has only begun."""
    house = House(timeout_ms=9000)
    house.register("w-1", spec(idempotent=True, constraints={"timeout_s": 1.5}))
    house.advance(5.0)
    call = house.request()
    house.register("w-2", spec(idempotent=True))
    house.advance(1.51)
    assert house.worker("w-1").state is State.GONE
    assert call.workers == ["w-1", "w-2"]
    assert not call.terminal
    house.answers(call)
    assert call.answer.meta.worker == "w-2"


def test_a_late_answer_is_counted_and_dropped() -> None:
    """Nobody is answered twice."""
    house = House()
    house.register("w-1")
    call = house.request(timeout_ms=100)
    house.advance(0.2)
    assert call.kind is ErrorKind.DEADLINE
    house.answers(call)
    house.answers(call)
    assert len(call.replies) == 1
    assert house.router.late_answers == 2
    assert house.router.in_flight == 0


def test_retries_share_a_budget() -> None:
    """When it is used up, the first error is the answer."""
    house = House()
    for number in range(100):  # so many that none fails often enough to be passed over
        house.register(f"w-{number}", spec(idempotent=True))
    tried = 0
    for _ in range(40):
        call = house.request()
        house.answers(call, RETRYABLE)
        tried += len(call.dispatches) - 1
        if not call.terminal:
            house.answers(call)
    assert tried == int(MINIMUM_PER_S + 40 * 0.2)


def test_the_budget_grows_with_requests_and_with_time_and_neither_without_end() -> None:
    """A fifth of the requests up to a hundred retries, and ten a second."""
    budget = RetryBudget()
    for _ in range(10_000):
        budget.request()
    taken = sum(budget.take(1.0) for _ in range(1000))
    assert taken in (int(MAX_SAVED + MINIMUM_PER_S), int(MAX_SAVED + MINIMUM_PER_S) + 1)
    assert not budget.take(1.0)
    assert sum(budget.take(1.5) for _ in range(1000)) == 5
    assert sum(budget.take(100.0) for _ in range(1000)) == 10
