"""Keys whose store is away, nearly full or slow, and what is left of them in the end."""

from __future__ import annotations

import msgspec
import pytest
from harness import DONE, House, of_kind
from key_houses import KEY, body_of, house, pair
from stores import Stores

from controller.core.commands import Refuse, SendControl
from controller.core.events import Closing, Stalled
from controller.core.stored import ClaimNoticed, ClaimUnanswered, StoreLevel, WriteClaim
from subjects.answers import Fault, Frame, Result
from subjects.errors import ErrorKind


def test_without_a_store_keyed_requests_are_refused_and_others_go_on() -> None:
    """503, and nothing ran."""
    one = house()
    one.stores.away = "no server"
    refused = one.request(idempotency_key="k")
    assert refused.kind is ErrorKind.STORE_UNAVAILABLE
    assert not refused.dispatches
    assert one.request().dispatches


def test_a_store_that_is_nearly_full_takes_no_new_keys() -> None:
    """Those that are claimed are seen through, and answers that are kept are given."""
    one = house()
    first = one.request(idempotency_key="k")
    one.feed(StoreLevel("it is 81 % full"))
    assert one.request(idempotency_key="other").kind is ErrorKind.STORE_UNAVAILABLE
    one.answers(first)
    assert body_of(one.request(idempotency_key="k")) == DONE.body
    one.feed(StoreLevel(""))
    assert one.request(idempotency_key="other").dispatches


def test_a_claim_that_nobody_acknowledges_is_refused_and_released_later() -> None:
    """The caller is not kept waiting for what may never come; what was stored after all is freed."""
    one = House(answers_claims=False)
    one.register("w-1")
    call = one.request(idempotency_key="k")
    (write,) = of_kind(one.log, WriteClaim)
    one.feed(ClaimUnanswered(KEY, write.record.nonce))
    assert call.kind is ErrorKind.STORE_UNAVAILABLE
    one.store_answers()
    assert not call.dispatches
    assert one.stores.states == ["dispatching", ""]
    assert not one.router.claims
    assert one.request().dispatches


def test_an_answer_that_cannot_be_stored_in_time_is_an_unknown_outcome() -> None:
    """Storing goes on, and whoever asks again gets it."""
    one = house()
    call = one.request(idempotency_key="k", timeout_ms=3000)
    one.stores.away = "no space left"
    one.answers(call)
    assert not call.replies
    one.advance(4.0)
    assert call.kind is ErrorKind.OUTCOME_UNKNOWN
    one.stores.away = ""
    one.advance(2.0)
    again = one.request(idempotency_key="k")
    assert body_of(again) == DONE.body
    assert len(call.replies) == 1


def test_while_an_answer_cannot_be_stored_its_lease_is_renewed() -> None:
    """Nobody takes over what was done."""
    one = house()
    one.request(idempotency_key="k", timeout_ms=3000)
    perform = one.stores.perform

    def full(command: object) -> object:
        if isinstance(command, WriteClaim) and command.record.state == "done":
            one.stores.away = "no space left"
        event = perform(command)  # type: ignore[arg-type]
        one.stores.away = ""
        return event

    one.stores.perform = full  # type: ignore[method-assign, assignment]
    one.answers(one.calls["_INBOX.1"])
    one.advance(30.0)
    assert one.stores.states.count("dispatching") >= 4
    one.stores.perform = perform  # type: ignore[method-assign]
    one.advance(2.0)
    assert one.stores.only().state == "done"


def test_a_controller_that_stops_leaves_what_runs_to_its_lease() -> None:
    """The caller is told that it may have run; nothing is freed that may be at work."""
    one, two = pair(idempotent=True)
    call = one.request(idempotency_key="k")
    one.feed(Closing())
    assert call.kind is ErrorKind.OVERLOADED
    assert call.refusal.maybe_executed
    assert one.stores.only().state == "dispatching"
    assert not of_kind(one.log, SendControl)
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    assert second.dispatches


def test_nothing_is_left_of_a_key_that_is_done() -> None:
    """No entry, no watch, no timer of its own."""
    one, two = pair()
    first, second = one.request(idempotency_key="k"), two.request(idempotency_key="k")
    one.answers(first)
    two.feed(ClaimNoticed(KEY))
    assert second.terminal
    for each in (one, two):
        assert not each.router.claims
        assert not each.router.claims.watched


def test_a_refusal_of_a_duplicate_is_no_stream() -> None:
    """Exactly one end, whoever began a stream and lost its claim meanwhile."""
    one, two = pair(streaming=True, idempotent=True)
    first = one.request(idempotency_key="k")
    one.answers(first, Frame("chunk", 0, b"a"))
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    two.answers(second, Frame("end", 0, b"z"))
    one.answers(first, Frame("end", 1, b"b"))
    assert [kind for kind, _, _ in first.frames] == ["chunk", "end"]
    assert not isinstance(first.terminal[0], Refuse)
    assert msgspec.json.encode(first.frames[-1][1]) == b"1"


def test_a_woken_owner_does_not_wait_for_an_answer_that_is_stored_already() -> None:
    """Its own was lost while it stood still; its renewal is refused by what another controller stored."""
    one, two = pair(idempotent=True)
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    two.answers(second, Result(b"second"))
    one.now += 22.0
    one.feed(Stalled(22_000))
    one.advance(2.0)
    assert body_of(first) == b"second"
    assert [c.control.op for c in of_kind(one.log, SendControl)] == ["cancel"]


def test_a_queued_owner_is_told_of_an_answer_that_is_stored_already() -> None:
    """It was called over while it stood still; it waits for no worker any more, and takes nobody's place."""
    stores = Stores()
    one, two = House(timeout_ms=100_000, stores=stores), House(timeout_ms=100_000, stores=stores, name="c-2", seed=2)
    for each in (one, two):
        each.register("w-1")
        each.beating = {"w-1"}
    busy = one.request()
    queued = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    two.answers(second, Result(b"second"))
    one.now += 22.0
    one.feed(Stalled(22_000))
    one.advance(2.0)
    assert body_of(queued) == b"second"
    one.answers(busy)
    assert one.request().dispatches


@pytest.mark.parametrize("code", [499, 504])
def test_a_worker_that_stopped_when_nobody_waited_frees_a_key_that_may_run_again(code: int) -> None:
    """Whoever asks again has it done anew; an error of its own before the deadline is an answer."""
    one = house(idempotent=True)
    call = one.request(idempotency_key="k", timeout_ms=100)
    one.advance(0.2)
    waits = one.request(idempotency_key="k")
    one.answers(call, Fault(code, "stopped"))
    assert call.kind is ErrorKind.DEADLINE
    one.answers(waits)
    assert body_of(waits) == DONE.body


def test_asking_again_and_again_is_no_slower_than_waiting() -> None:
    """A dead owner's key is kept in sight between two callers of little patience."""
    one, two = pair(idempotent=True)
    one.request(idempotency_key="k")
    calls = []
    for _ in range(6):
        calls.append(two.request(idempotency_key="k", timeout_ms=4000))
        two.advance(4.5)
    assert any(call.dispatches for call in calls)
