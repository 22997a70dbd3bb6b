"""Requests with an idempotency key: done once, answered alike, and freed by what never ran."""

from __future__ import annotations

import pytest
from harness import BUSY, DONE, House, of_kind, spec
from key_houses import KEY, body_of, house, pair

from controller.core import world
from controller.core.commands import Answer, Dispatch, SendControl
from controller.core.stored import ClaimNoticed, WriteClaim
from controller.core.world import Limits
from subjects.answers import Fault, Frame, Result
from subjects.claims import claim_key
from subjects.errors import ErrorKind, parse_problem

# Two writes ---------------------------------------------------------------------------


def test_two_writes_and_the_answer_is_stored_before_it_is_sent() -> None:
    """Dispatching, then done, which alone has a time to live; nothing else is written."""
    one = house()
    call = one.request(idempotency_key="k")
    assert one.stores.states == ["dispatching"]
    one.answers(call)
    assert one.stores.states == ["dispatching", "done"]
    kinds = [type(c) for c in one.log if isinstance(c, WriteClaim | Dispatch | Answer)]
    assert kinds == [WriteClaim, Dispatch, WriteClaim, Answer]
    assert one.stores.ttl_s[KEY] == 3600
    assert body_of(call) == DONE.body


def test_a_request_that_must_queue_is_stored_as_waiting_first() -> None:
    """And dispatched only after the store knows that it may run."""
    one = House(timeout_ms=100_000)
    one.register("w-1")
    busy = one.request()
    call = one.request(idempotency_key="k")
    assert one.stores.states == ["waiting"]
    assert one.stores.ttl_s[KEY] is None
    one.answers(busy)
    assert one.stores.states == ["waiting", "dispatching"]
    assert call.dispatches


def test_the_same_key_again_is_answered_from_memory() -> None:
    """Byte for byte, at no cost, and without a word to store or worker."""
    one = house(cost_tokens_per_invocation=2.0)
    first = one.request(idempotency_key="k")
    one.answers(first, Result(b"x", "X-Own: 1\r\n", "text/plain"))
    before = len(one.log)
    again = one.request(idempotency_key="k")
    assert not [c for c in one.log[before:] if isinstance(c, WriteClaim | Dispatch)]
    assert (again.answer.body, again.answer.passed, again.answer.content_type) == (b"x", "X-Own: 1\r\n", "text/plain")
    assert again.answer.meta.replayed
    assert not first.answer.meta.replayed
    assert (again.answer.meta.cost_tokens, first.answer.meta.cost_tokens) == (0.0, 2.0)
    assert again.record.outcome == "replayed"


def test_an_answer_is_kept_for_its_window() -> None:
    """Afterwards the store is asked, and says the same until it has forgotten."""
    one = House(timeout_ms=1000, limits=Limits(window_s=10.0))
    one.register("w-1")
    one.beating = {"w-1"}
    one.answers(one.request(idempotency_key="k"))
    one.advance(10.5)
    before = len(one.log)
    again = one.request(idempotency_key="k")
    assert of_kind(one.log[before:], WriteClaim)
    assert body_of(again) == DONE.body


def test_callers_and_capabilities_have_keys_of_their_own() -> None:
    """The same key of somebody else, or for something else, is another one."""
    one = House()
    one.register("w-1", spec(max_concurrency=9), spec("run:other", max_concurrency=9))
    calls = [
        one.request(idempotency_key="k"),
        one.request(idempotency_key="k", caller="bob"),
        one.request("run:other", idempotency_key="k"),
    ]
    assert all(len(call.dispatches) == 1 for call in calls)


def test_parts_of_a_key_never_read_alike() -> None:
    """Each is preceded by its length."""
    assert claim_key("a", "b:c", "dk") != claim_key("a", "b:cd", "k")
    assert claim_key("an", "n:c", "k") != claim_key("a", "nn:c", "k")


# Duplicates ---------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"body": b"[1]"}, {"content_type": "text/plain"}])
def test_a_key_with_another_payload_is_refused(headers: dict[str, object]) -> None:
    """422 at once, while the first one runs and after it."""
    one = house()
    first = one.request(idempotency_key="k")
    assert one.request(idempotency_key="k", **headers).kind is ErrorKind.KEY_REUSED  # type: ignore[arg-type]
    one.answers(first)
    assert one.request(idempotency_key="k", **headers).kind is ErrorKind.KEY_REUSED  # type: ignore[arg-type]


def test_a_duplicate_waits_for_the_first_one_here() -> None:
    """It is attached, and gets the same answer when it is stored."""
    one = house()
    first = one.request(idempotency_key="k")
    second = one.request(idempotency_key="k")
    assert not second.replies
    assert not second.dispatches
    one.answers(first)
    assert body_of(second) == body_of(first)
    assert second.answer.meta.replayed


def test_a_duplicate_waits_for_the_first_one_elsewhere() -> None:
    """A notice is a nudge to read what is stored."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    assert not second.replies
    assert KEY in two.router.claims.watched
    one.answers(first)
    two.feed(ClaimNoticed(KEY))
    assert body_of(second) == body_of(first)
    assert KEY not in two.router.claims.watched


def test_without_a_notice_what_is_stored_is_read_every_third_of_a_lease() -> None:
    """Notices may be lost."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    one.answers(first)
    two.advance(7.0)
    assert body_of(second) == body_of(first)


def test_so_many_wait_for_others_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with when to come again, whichever key it is; whoever leaves makes room."""
    monkeypatch.setattr(world, "MAX_ATTACHED", 2)
    one = house()
    first = one.request(idempotency_key="k")
    other = one.request(idempotency_key="l")
    waiting = one.request(idempotency_key="k", request_id="mine"), one.request(idempotency_key="l")
    refused = one.request(idempotency_key="k")
    assert refused.kind is ErrorKind.OVERLOADED
    assert refused.refusal.retry_after_ms
    assert refused.refusal.maybe_executed
    one.cancel("mine")
    third = one.request(idempotency_key="k")
    one.answers(first)
    one.answers(other)
    assert body_of(third) == body_of(waiting[1]) == DONE.body
    assert one.router.world.attached == 0


def test_a_duplicate_that_will_not_wait_is_refused() -> None:
    """409 with when to come again; nothing runs."""
    one, two = pair()
    one.request(idempotency_key="k")
    for each in (one, two):
        refused = each.request(idempotency_key="k", on_duplicate="reject")
        assert refused.kind is ErrorKind.IN_PROGRESS
        assert refused.refusal.retry_after_ms
        assert not refused.dispatches


def test_cancelling_a_duplicate_only_detaches_it() -> None:
    """The first one goes on."""
    one = house()
    first = one.request(idempotency_key="k")
    second = one.request(idempotency_key="k", request_id="mine")
    one.cancel("mine")
    assert second.kind is ErrorKind.CANCELLED
    assert not of_kind(one.log, SendControl)
    one.answers(first)
    assert body_of(first) == DONE.body


def test_an_error_of_the_worker_is_an_answer_too() -> None:
    """It is replayed, its problem byte for byte, whoever asks."""
    one = house()
    first = one.request(idempotency_key="k")
    one.answers(first, Fault(422, "no such mailbox"))
    again = one.request(idempotency_key="k")
    assert first.kind is ErrorKind.WORKER_ERROR
    assert again.answer.error is not None
    assert again.answer.error.status == 500
    problem = parse_problem(again.answer.body)
    assert problem is not None
    assert problem.request_id == first.request.request_id


def test_a_streamed_answer_is_replayed_whole() -> None:
    """The pieces come once; whoever asks again gets what they make together."""
    one = house(streaming=True)
    first = one.request(idempotency_key="k")
    for frame in (Frame("chunk", 0, b"a", "", "text/plain"), Frame("progress", 1, b"50"), Frame("chunk", 2, b"b")):
        one.answers(first, frame)
    assert one.stores.states == ["dispatching"]
    one.answers(first, Frame("end", 3, b"c"))
    assert [kind for kind, _, _ in first.frames] == ["chunk", "progress", "chunk", "end"]
    again = one.request(idempotency_key="k")
    assert (again.answer.body, again.answer.frame, again.answer.content_type) == (b"abc", "", "text/plain")


def test_a_streamed_answer_that_is_too_long_is_not_kept() -> None:
    """Whoever asks again is told so, and nothing runs twice."""
    one = House(limits=Limits(max_kept_bytes=2))
    one.register("w-1", spec(streaming=True))
    first = one.request(idempotency_key="k")
    for seq in range(3):
        one.answers(first, Frame("chunk", seq, b"xx"))
    one.answers(first, Frame("end", 3))
    assert len(first.terminal) == 1
    again = one.request(idempotency_key="k")
    assert again.answer.error is not None
    assert again.answer.error.status == 413
    assert not again.dispatches


# What frees a key ---------------------------------------------------------------------


def test_what_is_decided_before_the_dispatch_frees_the_key() -> None:
    """A deadline in the queue leaves nothing behind."""
    one = House()
    one.register("w-1")
    one.request()
    waiting = one.request(idempotency_key="k", timeout_ms=100)
    one.advance(0.2)
    assert waiting.kind is ErrorKind.DEADLINE
    assert one.stores.states == ["waiting", ""]
    assert not one.router.claims


def test_a_key_that_was_freed_can_be_used_at_once() -> None:
    """The tombstone that it left is no obstacle."""
    one = House()
    one.register("w-1")
    busy = one.request()
    waiting = one.request(idempotency_key="k", request_id="mine")
    one.cancel("mine")
    assert waiting.kind is ErrorKind.CANCELLED
    one.answers(busy)
    again = one.request(idempotency_key="k")
    one.answers(again)
    assert body_of(again) == DONE.body


def test_a_worker_that_did_not_run_it_costs_no_write() -> None:
    """The claim stays, and the next worker is asked."""
    one = house()
    one.register("w-2", spec(max_concurrency=4))
    call = one.request(idempotency_key="k")
    one.answers(call, BUSY)
    assert len(call.dispatches) == 2
    one.answers(call)
    assert one.stores.states == ["dispatching", "done"]


def test_a_lost_worker_that_may_be_asked_again_frees_the_key() -> None:
    """When no retry is left: running it again does no harm."""
    one = House(limits=Limits(max_attempts=1), timeout_ms=100_000)
    one.register("w-1", spec(idempotent=True))
    call = one.request(idempotency_key="k")
    one.advance(10.0)
    assert call.kind is ErrorKind.WORKER_LOST
    assert one.stores.states[-2:] == ["dispatching", ""]


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
