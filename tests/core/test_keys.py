"""Requests with an idempotency key: done once, answered alike, and honest about what nobody knows."""

from __future__ import annotations

import msgspec
import pytest
from harness import BUSY, DONE, HELLO, Call, House, of_kind, spec
from stores import Stores

from controller.core.commands import Answer, Dispatch, Refuse, SendControl
from controller.core.events import Closing, Stalled
from controller.core.stored import ClaimNoticed, ClaimUnanswered, ReleaseClaim, StoreLevel, WriteClaim
from controller.core.world import Limits
from subjects.answers import Fault, Frame, Result
from subjects.claims import claim_key
from subjects.errors import ErrorKind, parse_problem

KEY = claim_key("ann", HELLO, "k")


def house(**fields: object) -> House:
    """One with a worker that takes four at a time and is not safe to ask twice."""
    made = House(timeout_ms=100_000)
    made.register("w-1", spec(max_concurrency=4, **fields))
    made.beating = {"w-1"}
    return made


def pair(**fields: object) -> tuple[House, House]:
    """Two controllers that share a store and a worker."""
    stores = Stores()
    houses = House(timeout_ms=100_000, stores=stores), House(timeout_ms=100_000, stores=stores, name="c-2", seed=2)
    for one in houses:
        one.register("w-1", spec(max_concurrency=4, **fields))
        one.beating = {"w-1"}
    return houses


def body_of(call: Call) -> bytes:
    """What the caller got, of an answer or a kept one."""
    return call.answer.body


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


# What nobody knows --------------------------------------------------------------------


def test_a_lost_worker_leaves_the_outcome_unknown() -> None:
    """The caller is told that it may have run; whoever asks again that nobody knows, and nothing runs."""
    one = House(timeout_ms=100_000)
    one.register("w-1")
    call = one.request(idempotency_key="k")
    one.advance(10.0)
    assert call.kind is ErrorKind.WORKER_LOST
    assert one.stores.only().state == "unknown"
    one.register("w-2")
    again = one.request(idempotency_key="k")
    assert again.kind is ErrorKind.OUTCOME_UNKNOWN
    assert again.refusal.maybe_executed
    assert "crank resolve" in again.refusal.detail
    assert not again.dispatches


def test_a_deadline_after_the_dispatch_answers_that_caller_only() -> None:
    """The work is followed, and its answer kept for whoever asks again; its worker is not told to stop."""
    one = house()
    call = one.request(idempotency_key="k", timeout_ms=100)
    one.advance(0.2)
    assert call.kind is ErrorKind.DEADLINE
    assert call.refusal.maybe_executed
    assert not of_kind(one.log, SendControl)
    again = one.request(idempotency_key="k")
    assert not again.replies
    one.answers(call)
    assert body_of(again) == DONE.body
    assert len(call.replies) == 1
    assert (one.router.live, one.router.lingering) == (0, 0)


def test_an_answer_that_never_comes_ends_as_unknown() -> None:
    """Its worker lives, and had its time: what it sent was lost on the way."""
    one = house()
    call = one.request(idempotency_key="k", timeout_ms=100)
    one.advance(14.0)
    assert call.kind is ErrorKind.DEADLINE
    assert one.stores.only().state == "dispatching"
    one.advance(3.0)
    assert one.stores.only().state == "unknown"
    assert one.router.lingering == 0
    assert one.request(idempotency_key="k").kind is ErrorKind.OUTCOME_UNKNOWN


def test_what_ran_once_is_not_called_untouched_when_the_store_fails_later() -> None:
    """A second attempt that cannot be protected may follow one that ran."""
    one = House(timeout_ms=100_000, answers_claims=False)
    for worker_id in ("w-1", "w-2"):
        one.register(worker_id, spec(idempotent=True))
    call = one.request(idempotency_key="k")
    one.store_answers()
    one.now += 8.0
    one.answers(call, Fault(500, "later", retryable=True))
    assert not call.replies
    one.stores.away = "no server"
    one.store_answers()
    assert call.kind is ErrorKind.STORE_UNAVAILABLE
    assert call.refusal.maybe_executed
    assert "Nothing ran" not in call.refusal.detail


def test_a_cancel_after_the_dispatch_stops_the_worker_which_answers_nobody() -> None:
    """499 to the caller; a worker that stopped has not done what was asked, and how far it came nobody knows."""
    one = house()
    call = one.request(idempotency_key="k", request_id="mine")
    one.cancel("mine")
    assert call.kind is ErrorKind.CANCELLED
    assert [c.control.op for c in of_kind(one.log, SendControl)] == ["cancel"]
    one.answers(call, Fault(499, "The request was cancelled"))
    assert one.stores.only().state == "unknown"
    assert len(call.replies) == 1


def test_a_lease_is_renewed_while_work_runs() -> None:
    """Every third of it, by whoever holds it."""
    one = house()
    call = one.request(idempotency_key="k")
    one.advance(31.0)
    renewals = one.stores.states.count("dispatching") - 1
    assert 4 <= renewals <= 6
    one.answers(call)
    assert body_of(call) == DONE.body


def test_a_live_owner_is_never_called_over() -> None:
    """However long a duplicate waits."""
    one, two = pair()
    call = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    for _ in range(50):
        one.advance(1.0)
        two.advance(1.0)
    assert not second.replies
    assert not second.dispatches
    one.answers(call)
    two.advance(6.0)
    assert body_of(second) == DONE.body


def test_a_dead_owner_s_dispatch_is_called_unknown() -> None:
    """After a whole lease without a renewal, seen by whoever waits."""
    one, two = pair()
    one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(14.0)
    assert not second.replies
    two.advance(8.0)
    assert second.kind is ErrorKind.OUTCOME_UNKNOWN
    assert two.stores.only().state == "unknown"
    assert not second.dispatches


def test_a_dead_owner_s_dispatch_is_run_again_where_that_is_safe() -> None:
    """By compare-and-set: of two that wait, one runs it and both get its answer."""
    stores = Stores()
    houses = [House(timeout_ms=100_000, stores=stores, name=f"c-{n}", seed=n) for n in (1, 2, 3)]
    for each in houses:
        each.register("w-1", spec(idempotent=True, max_concurrency=4))
        each.beating = {"w-1"}
    houses[0].request(idempotency_key="k")
    calls = [each.request(idempotency_key="k") for each in houses[1:]]
    for _ in range(44):
        for each in houses[1:]:
            each.advance(0.5)
    runs = [call for call in calls if call.dispatches]
    assert len(runs) == 1
    winner = houses[1 + calls.index(runs[0])]
    winner.answers(runs[0])
    for each in houses[1:]:
        each.advance(6.0)
    assert [body_of(call) for call in calls] == [DONE.body, DONE.body]


def test_a_dead_owner_s_waiting_request_is_taken_over() -> None:
    """Nothing ran."""
    stores = Stores()
    one, two = House(timeout_ms=100_000, stores=stores), House(timeout_ms=100_000, stores=stores, name="c-2", seed=2)
    for each in (one, two):
        each.register("w-1")
        each.beating = {"w-1"}
    one.request()
    one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    assert second.dispatches
    two.answers(second)
    assert body_of(second) == DONE.body


def test_one_who_rejects_learns_of_a_lapse_by_asking_again() -> None:
    """What it asked for is kept in sight for a while."""
    one, two = pair(idempotent=True)
    one.request(idempotency_key="k")
    assert two.request(idempotency_key="k", on_duplicate="reject").kind is ErrorKind.IN_PROGRESS
    two.advance(22.0)
    again = two.request(idempotency_key="k", on_duplicate="reject")
    assert again.dispatches


def test_an_owner_that_was_frozen_sends_what_is_stored_and_never_its_own() -> None:
    """It was called over meanwhile, and another worker's answer stands."""
    one, two = pair(idempotent=True)
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    two.answers(second, Result(b"second"))
    one.answers(first, Result(b"first"))
    assert body_of(first) == b"second"
    assert first.answer.meta.replayed
    assert two.stores.states.count("done") == 1


def test_a_frozen_owner_s_late_answer_settles_what_was_called_unknown() -> None:
    """Nobody resolved it yet, and it was its own."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    two.request(idempotency_key="k")
    two.advance(22.0)
    assert two.stores.only().state == "unknown"
    one.answers(first)
    assert body_of(first) == DONE.body
    assert two.stores.only().state == "done"


def test_a_late_answer_to_a_key_that_was_released_is_stored() -> None:
    """Whoever asks again gets it, and runs nothing."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    _, seq = one.stores.last[KEY]
    one.stores.perform(ReleaseClaim(KEY, seq))
    one.answers(first)
    assert body_of(first) == DONE.body
    again = two.request(idempotency_key="k")
    assert body_of(again) == DONE.body
    assert not again.dispatches


def test_past_half_its_lease_a_claim_is_renewed_before_anything_is_sent() -> None:
    """Its owner may have been frozen: somebody else may have it."""
    one, two = pair(idempotent=True)
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    assert second.dispatches
    one.now += 22.0
    one.feed(Stalled(22_000))
    one.answers(first, BUSY)
    assert len(first.dispatches) == 1
    two.answers(second)
    one.feed(ClaimNoticed(KEY))
    assert body_of(first) == DONE.body


def test_who_stood_still_starts_to_watch_anew() -> None:
    """What passed meanwhile was nobody's lapse."""
    one, two = pair()
    one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(12.0)
    two.feed(Stalled(20_000))
    two.advance(12.0)
    assert not second.replies


# A store in trouble -------------------------------------------------------------------


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
