"""Keys whose store is away, nearly full or slow, and what is left of them in the end."""

from __future__ import annotations

from harness import DONE, House, of_kind
from key_houses import KEY, body_of, house, pair

from controller.core.commands import SendControl
from controller.core.events import Closing
from controller.core.stored import ClaimNoticed, ClaimUnanswered, StoreLevel, WriteClaim
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
