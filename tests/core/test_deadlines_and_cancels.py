"""What ends a request from outside: its time, and its caller."""

from __future__ import annotations

import pytest
from harness import ALLOW, BUSY, Call, House, controls, json_replies, of_kind, refusals, spec

from controller.core import cancels
from controller.core import router as router_module
from controller.core.commands import Authorize
from controller.core.events import TICK, Stalled, VerdictReached
from controller.core.timers import SLOT_S
from subjects.answers import Frame
from subjects.errors import ErrorKind


def cancelled(call: Call, *, maybe_executed: bool) -> None:
    """499, which says whether the work may have been done."""
    assert call.kind is ErrorKind.CANCELLED
    assert call.refusal.maybe_executed is maybe_executed


def test_the_deadline_after_the_dispatch_tells_the_worker() -> None:
    """504 with ``maybe_executed``, where the time went, and a cancel to the worker."""
    house = House()
    house.register("w-1")
    call = house.request(timeout_ms=200)
    assert call.dispatches[0].timeout_ms == 200
    house.advance(0.199)
    assert not call.replies
    house.advance(0.001 + SLOT_S)
    assert call.kind is ErrorKind.DEADLINE
    assert call.refusal.maybe_executed is True
    assert "at worker w-1" in call.refusal.detail
    assert controls(house.log) == [("w-1", "cancel")]
    assert call.record.attempts[0].end == "GivenUp"


def test_a_default_time_out_holds_where_the_caller_names_none() -> None:
    """What the settings say."""
    house = House(timeout_ms=700)
    house.register("w-1")
    call = house.request()
    assert call.dispatches[0].timeout_ms == 700
    house.advance(0.71)
    assert call.kind is ErrorKind.DEADLINE


def test_what_is_left_shrinks_from_dispatch_to_dispatch() -> None:
    """A retry never outlives the deadline."""
    house = House()
    house.register("w-1")
    first, second = house.request(), house.request(timeout_ms=900)
    house.advance(0.3)
    house.answers(first)
    assert 595 <= second.dispatches[0].timeout_ms <= 600


def test_a_worker_s_own_time_out_is_kept_within_the_caller_s() -> None:
    """The tighter of the two is what the worker is given."""
    house = House()
    house.register("w-1", spec(constraints={"timeout_s": 0.25}))
    assert house.request(timeout_ms=5000).dispatches[0].timeout_ms == 250
    house.register("w-2", spec("greet:bye", constraints={"timeout_s": 60}))
    assert house.request("greet:bye", timeout_ms=5000).dispatches[0].timeout_ms == 5000


def test_a_request_that_goes_on_has_its_whole_patience_again() -> None:
    """Also when its worker registered anew, without the time-out, in the meantime."""
    house = House(timeout_ms=5000)
    house.register("w-1", spec(constraints={"timeout_s": 0.5}))
    call = house.request()
    house.register("w-1", spec())
    house.answers(call, BUSY)
    house.advance(1.0)
    assert not call.terminal
    assert len(call.dispatches) == 2


def test_a_worker_that_hangs_is_known_to_be_slow() -> None:
    """What takes longer than anyone waits counts as at least that long."""
    house = House()
    house.register("w-1", spec(max_concurrency=2))
    house.request(timeout_ms=400)
    house.advance(0.41)
    assert house.offer("w-1").latency.expected_ms(house.now) >= 399.999


def test_cancel_before_the_dispatch() -> None:
    """A request that waits ends with 499, and nothing ran."""
    house = House()
    house.register("w-1")
    house.request()
    waiting = house.request(request_id="mine")
    commands = house.cancel("mine")
    cancelled(waiting, maybe_executed=False)
    assert json_replies(commands) == [{"status": "cancelled", "request_id": "mine"}]
    assert controls(commands) == []


def test_cancel_while_the_policy_is_asked() -> None:
    """Its verdict is kept for the next request, and wakes nobody."""
    house = House(policy=lambda request: None)
    house.register("w-1")
    call = house.request(request_id="mine")
    house.cancel("mine")
    cancelled(call, maybe_executed=False)
    (asked,) = of_kind(house.log, Authorize)
    house.feed(VerdictReached(asked.life, ALLOW))
    assert house.request().dispatches
    assert len(call.replies) == 1


def test_cancel_while_the_key_is_claimed() -> None:
    """Whatever the store says afterwards, nothing is dispatched."""
    house = House(answers_claims=False)
    house.register("w-1")
    call = house.request(request_id="mine", idempotency_key="k")
    house.cancel("mine")
    cancelled(call, maybe_executed=False)
    house.store_answers()
    assert not call.dispatches
    assert len(call.replies) == 1


def test_cancel_after_the_dispatch() -> None:
    """The worker is told, and the work may have been done."""
    house = House()
    house.register("w-1")
    call = house.request(request_id="mine")
    commands = house.cancel("mine")
    cancelled(call, maybe_executed=True)
    assert controls(commands) == [("w-1", "cancel")]
    house.answers(call)
    assert len(call.replies) == 1
    assert house.router.late_answers == 1


def test_cancel_ends_a_stream() -> None:
    """With one end frame."""
    house = House()
    house.register("w-1", spec(streaming=True))
    call = house.request(request_id="mine")
    house.answers(call, Frame("chunk", 0, b"a"))
    house.cancel("mine")
    cancelled(call, maybe_executed=True)
    assert call.frames[-1][:2] == ("end", 1)


def test_cancel_is_scoped_to_the_caller() -> None:
    """Nobody cancels what is not theirs, and is not told that it is there."""
    house = House()
    house.register("w-1")
    call = house.request(request_id="mine", caller="ann")
    house.cancel("mine", caller="bob")
    house.cancel("mine", caller="bob", last=True)
    house.advance(0.51)
    assert refusals(house.log) == [ErrorKind.NO_SUCH_REQUEST]
    assert not call.replies


def test_a_cancel_ends_every_request_of_that_id() -> None:
    """A caller that uses an id twice cancels both."""
    house = House()
    house.register("w-1", spec(max_concurrency=2))
    one, two = house.request(request_id="twin"), house.request(request_id="twin")
    house.cancel("twin")
    cancelled(one, maybe_executed=True)
    cancelled(two, maybe_executed=True)


def test_one_twin_ends_without_the_other() -> None:
    """Ids are the caller's to choose, and the router's bookkeeping does not rest on them."""
    house = House()
    house.register("w-1", spec(max_concurrency=2))
    one, two = house.request(request_id="twin"), house.request(request_id="twin")
    house.answers(one)
    assert one.answer
    assert not two.replies
    house.answers(two)
    assert two.answer


def test_the_last_member_says_that_nobody_owns_the_request() -> None:
    """After 500 ms; all others are silent."""
    house = House()
    house.cancel("no-such")
    house.cancel("no-such", last=True)
    house.advance(0.49)
    assert refusals(house.log) == []
    house.advance(0.02)
    assert refusals(house.log) == [ErrorKind.NO_SUCH_REQUEST]
    house.advance(5)
    assert len(refusals(house.log)) == 1


@pytest.mark.parametrize("last_first", [False, True])
def test_the_last_member_is_silent_about_what_it_just_cancelled_itself(last_first: bool) -> None:
    """The message comes twice, by two subscriptions, in any order; the caller is answered once."""
    house = House()
    house.register("w-1")
    house.request(request_id="mine")
    house.cancel("mine", last=last_first)
    house.cancel("mine", last=not last_first)
    house.advance(1)
    assert refusals(house.log) == []
    assert len(json_replies(house.log)) == 2, "one for the registration, one for the cancel"


def test_cancels_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of made-up ids costs no memory without end: what is too much stays silent."""
    monkeypatch.setattr(cancels, "MAX_CANCELS", 3)
    house = House()
    house.register("w-1", spec(max_concurrency=100))
    for number in range(20):
        house.cancel(f"no-{number}", last=True, reply=f"_INBOX.{number}")
    for number in range(20):
        house.request(request_id=f"yes-{number}")
        house.cancel(f"yes-{number}", reply=f"_INBOX.yes.{number}")
    assert len(house.router._cancels._answered) <= 3
    house.advance(1)
    assert 0 < len(refusals(house.log)) < 10


def test_a_stall_takes_its_time_from_the_patience_of_what_is_read_next() -> None:
    """A request that lay in the socket for 800 ms has 200 of its 1000 left; a little later all is as before."""
    house = House()
    house.register("w-1", spec(max_concurrency=9))
    house.feed(Stalled(800.0))
    assert house.request(timeout_ms=1000).dispatches[0].timeout_ms == 200
    late = house.request(timeout_ms=500)
    assert late.kind is ErrorKind.DEADLINE
    assert late.refusal.maybe_executed is False
    assert not late.dispatches
    house.advance(router_module.CATCH_UP_S)
    assert house.request(timeout_ms=1000).dispatches[0].timeout_ms == 1000


def test_the_deadline_of_a_request_that_waits_for_the_policy() -> None:
    """504, and nothing ran; what the engine says too late is no answer."""
    house = House(policy=lambda request: None)
    house.register("w-1")
    call = house.request()
    house.advance(1.1)
    assert call.kind is ErrorKind.DEADLINE
    assert "policy engine" in call.refusal.detail
    assert call.refusal.maybe_executed is False


def test_the_deadline_of_a_request_that_waits_for_its_claim() -> None:
    """504, and nothing ran."""
    house = House(answers_claims=False)
    house.register("w-1")
    call = house.request(idempotency_key="k")
    house.advance(1.1)
    assert call.kind is ErrorKind.DEADLINE
    assert "claiming the key" in call.refusal.detail


def test_a_claim_that_is_won_too_late_dispatches_nothing() -> None:
    """When less than a millisecond is left, no worker is bothered."""
    house = House(answers_claims=False)
    house.register("w-1")
    call = house.request(idempotency_key="k", timeout_ms=100)
    house.now += 0.0995
    house.store_answers()
    assert call.kind is ErrorKind.DEADLINE
    assert not call.dispatches
    house.feed(TICK)
    assert len(call.replies) == 1
