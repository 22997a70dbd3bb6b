"""What is said of a key whose work nobody saw end, and who may act on it then."""

from __future__ import annotations

import msgspec
from harness import BUSY, DONE, House, of_kind, spec
from key_houses import KEY, body_of, house, pair
from stores import Stores

from controller.core.commands import Refuse, SendControl
from controller.core.events import Stalled
from controller.core.stored import ClaimNoticed, ReleaseClaim
from subjects.answers import Fault, Frame, Result
from subjects.errors import ErrorKind


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
    one.stand_still(22.0)
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
    one.stand_still(22.0)
    one.advance(2.0)
    assert body_of(first) == b"second"
    assert [c.control.op for c in of_kind(one.log, SendControl)] == ["cancel"]


def test_a_queued_owner_is_told_of_an_answer_that_is_stored_already() -> None:
    """It was called over while it stood still; it waits for no worker any more, and takes nobody's place."""
    one, two = pair(max_concurrency=1)
    busy = one.request()
    queued = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    two.answers(second, Result(b"second"))
    one.stand_still(22.0)
    one.advance(2.0)
    assert body_of(queued) == b"second"
    one.answers(busy)
    assert one.request().dispatches


def test_asking_again_and_again_is_no_slower_than_waiting() -> None:
    """A dead owner's key is kept in sight between two callers of little patience."""
    one, two = pair(idempotent=True)
    one.request(idempotency_key="k")
    calls = []
    for _ in range(6):
        calls.append(two.request(idempotency_key="k", timeout_ms=4000))
        two.advance(4.5)
    assert any(call.dispatches for call in calls)
