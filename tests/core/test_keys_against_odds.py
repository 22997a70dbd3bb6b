"""Keys under attack: workers that differ, stores that are full, workers that went, owners that died, late events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import BUSY, DONE, HELLO, House, spec
from stores import Stores

from controller.core.events import Closing, ResolveAsked
from controller.core.model import Request, Verdict
from controller.core.stored import ReleaseClaim, StoreLevel
from controller.core.world import Limits
from subjects.answers import Fault, Result
from subjects.claims import StoredAnswer, claim_key
from subjects.errors import ErrorKind
from subjects.requests import NO_HEADERS
from subjects.tokens import CapabilityId, RequestId

KEY = claim_key("ann", HELLO, "k")


def trio(*specs: dict[str, Any], limits: Limits | None = None, count: int = 2) -> list[House]:
    """Controllers that share a store and workers w-1, w-2, and so on, one for each of ``specs``."""
    stores = Stores()
    houses = [
        House(timeout_ms=100_000, stores=stores, name=f"c-{n}", seed=n, limits=limits) for n in range(1, count + 1)
    ]
    for each in houses:
        for n, fields in enumerate(specs or ({"max_concurrency": 4},), 1):
            each.register(f"w-{n}", spec(**fields))
            each.beating.add(f"w-{n}")
    return houses


# Workers that do not agree whether they may be asked twice ------------------------------


def test_a_claim_says_whether_the_worker_that_has_it_may_be_asked_twice() -> None:
    """The first one chosen may be, and did not begin; the second one may not, and its controller dies."""
    one, two = trio({"idempotent": True, "version": "1.0.0"}, {"idempotent": False, "version": "2.0.0"})
    call = one.request(idempotency_key="k")
    if call.workers == ["w-2"]:
        one.answers(call, BUSY)
        one.answers(call, BUSY)
    else:
        one.answers(call, BUSY)
    assert call.workers[-1] == "w-2"
    assert not one.stores.record(KEY).idempotent
    assert one.stores.record(KEY).worker == "w-2"
    again = two.request(idempotency_key="k")
    two.advance(30.0)
    assert again.kind is ErrorKind.OUTCOME_UNKNOWN
    assert not again.dispatches


# What stands under a key comes before who could do it -------------------------------------


def test_an_answer_is_replayed_though_nobody_could_do_it_any_more() -> None:
    """The key comes before the match and before availability, wherever it was done."""
    one, two = trio()
    one.answers(one.request(idempotency_key="k"))
    two.deregister("w-1")
    again = two.request(idempotency_key="k")
    assert again.answer.body == DONE.body
    assert again.answer.meta.replayed


@pytest.mark.parametrize("headers", [{"version": "^9"}, {"constraints": '{"gpu": true}'}, {"budget_tokens": 0.5}])
def test_an_answer_is_replayed_though_it_would_not_fit_any_more(headers: dict[str, Any]) -> None:
    """412 and 402 come after the key."""
    one, two = trio({"max_concurrency": 4, "cost_tokens_per_invocation": 1.0})
    one.answers(one.request(idempotency_key="k"))
    assert two.request(idempotency_key="k", **headers).answer.body == DONE.body


def test_a_key_with_another_payload_is_refused_before_nobody_is_there() -> None:
    """422 comes before 503."""
    one, two = trio()
    one.answers(one.request(idempotency_key="k"))
    two.deregister("w-1")
    assert two.request(idempotency_key="k", body=b"[]").kind is ErrorKind.KEY_REUSED
    fresh = two.request(idempotency_key="fresh")
    assert fresh.kind is ErrorKind.NO_WORKER
    assert not two.router.claims


def test_an_unknown_outcome_is_told_though_nobody_is_there() -> None:
    """The one worker went away with it: *no worker* would sound as if nothing had run."""
    one, two = trio()
    one.request(idempotency_key="k")
    two.request(idempotency_key="k")
    two.advance(30.0)
    assert one.stores.only().state == "unknown"
    two.deregister("w-1")
    assert two.request(idempotency_key="k").kind is ErrorKind.OUTCOME_UNKNOWN


def test_a_nearly_full_store_still_answers_for_the_keys_that_it_holds() -> None:
    """It takes no new ones; what was done before is replayed, and what runs is waited for."""
    one, two = trio()
    one.answers(one.request(idempotency_key="k"))
    running = one.request(idempotency_key="runs")
    two.feed(StoreLevel("it is 81 % full"))
    assert two.request(idempotency_key="k").answer.body == DONE.body
    assert not two.request(idempotency_key="runs").replies
    assert two.request(idempotency_key="runs", on_duplicate="reject").kind is ErrorKind.IN_PROGRESS
    assert two.request(idempotency_key="new").kind is ErrorKind.STORE_UNAVAILABLE
    one.answers(running)


def test_a_nearly_full_store_still_knows_the_jobs_that_it_accepted() -> None:
    """A submit that is sent again is no new one."""
    one, two = trio()
    one.submit(idempotency_key="k")
    two.feed(StoreLevel("it is 81 % full"))
    again = two.submit(idempotency_key="k")
    assert b'"duplicate":true' in again.answer.body
    assert two.submit(idempotency_key="new").kind is ErrorKind.STORE_UNAVAILABLE


# Honest about what may have run ---------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        lambda house: house.cancel("mine"),
        lambda house: house.advance(1.0),
        lambda house: house.feed(Closing()),
    ],
    ids=["cancel", "deadline", "closing"],
)
def test_who_waits_for_the_first_one_is_told_that_it_may_have_run(end: Callable[[House], object]) -> None:
    """*Nothing ran* would have it sent again under another key."""
    one, two = trio()
    one.request(idempotency_key="k")
    second = two.request(idempotency_key="k", request_id="mine", timeout_ms=500)
    end(two)
    assert second.refusal.maybe_executed
    assert "othing ran" not in second.refusal.detail


def test_who_takes_over_what_may_have_run_says_so() -> None:
    """Its own attempt never began, but a dead owner's did."""
    one, two = trio({"idempotent": True})
    one.request(idempotency_key="k")
    two.request()
    second = two.request(idempotency_key="k", timeout_ms=40_000)
    two.advance(41.0)
    assert not second.dispatches
    assert second.kind is ErrorKind.DEADLINE
    assert second.refusal.maybe_executed


def test_taking_over_takes_no_attempt_off_the_count() -> None:
    """What a dead owner sent may have run, also where the next one has to wait for a worker."""
    one, two = trio({"idempotent": True})
    one.request(idempotency_key="k")
    assert one.stores.record(KEY).attempts == 1
    two.request()
    two.request(idempotency_key="k")
    two.advance(30.0)
    record = one.stores.record(KEY)
    assert (record.state, record.attempts) == ("waiting", 1)


def test_the_first_claimant_waits_for_who_took_over_though_it_said_reject() -> None:
    """It is no duplicate, and *nothing ran a second time* would be wrong."""
    one, two = trio({"idempotent": True, "max_concurrency": 4})
    first = one.request(idempotency_key="k", on_duplicate="reject")
    second = two.request(idempotency_key="k")
    two.advance(22.0)
    assert second.dispatches
    one.answers(first, Result(b"first"))
    assert not first.replies
    two.answers(second, Result(b"second"))
    one.advance(6.0)
    assert first.answer.body == b"second"


def test_a_late_answer_is_not_stored_over_another_request_s_unknown_outcome() -> None:
    """An operator released the key, and somebody used it for another payload since."""
    (one,) = trio({}, {}, count=1)
    first = one.request(idempotency_key="k")
    _, seq = one.stores.last[KEY]
    one.stores.perform(ReleaseClaim(KEY, seq))
    one.advance(6.0)  # its renewal is refused: the key is free
    other = one.request(idempotency_key="k", body=b"[2]")
    assert other.dispatches
    one.deregister(other.workers[0])
    one.beating.discard(other.workers[0])
    one.advance(10.0)
    assert one.stores.only().state == "unknown"
    one.answers(first, Result(b"first"))
    assert one.stores.only().state == "unknown"
    assert first.kind is ErrorKind.OUTCOME_UNKNOWN
    assert "released meanwhile" in first.refusal.detail


# An operator's word -----------------------------------------------------------------------


def resolve(one: House, answer: bytes | None) -> Request:
    """An operator settles the key."""
    request = Request(
        CapabilityId(""), "op", RequestId(f"op-{len(one.log)}"), f"_INBOX.op{len(one.log)}", NO_HEADERS, b"",
        action="resolve", job_id=KEY,
    )  # fmt: skip
    one.feed(ResolveAsked(request, None if answer is None else StoredAnswer("op", "", 0, answer, "text/plain")))
    return request


def replied(one: House, request: Request) -> Any:
    """What the operator was told."""
    (reply,) = [c for c in one.log if getattr(c, "reply", None) == request.reply]
    return reply


def test_an_operator_is_not_told_that_there_is_nothing_when_nothing_is_known() -> None:
    """The store did not answer in time."""
    one = House(timeout_ms=1000, answers_claims=False)
    asked = resolve(one, None)
    one.advance(2.0)
    assert replied(one, asked).refusal.kind is ErrorKind.STORE_UNAVAILABLE


def test_what_never_ran_is_released_and_not_called_done() -> None:
    """A request whose controller died while it waited: the operator is told what to do."""
    one, two = trio({})
    one.request()
    one.request(idempotency_key="k")
    asked = resolve(two, b"x")
    two.advance(22.0)
    asked = resolve(two, b"x")
    refusal = replied(two, asked).refusal
    assert refusal.kind is ErrorKind.NO_SUCH_JOB
    assert "nothing ran" in refusal.detail
    assert "release" in refusal.detail


def test_a_release_is_told_though_somebody_uses_the_key_at_once() -> None:
    """Before the operator's next look."""
    one, two, three = trio({"max_concurrency": 4}, count=3)
    one.request(idempotency_key="k")
    two.request(idempotency_key="k")
    two.advance(30.0)
    assert two.stores.only().state == "unknown"
    asked = resolve(two, None)
    assert three.request(idempotency_key="k").dispatches
    two.advance(1.0)
    assert b"released" in replied(two, asked).body


def test_what_may_have_run_is_sent_to_nobody_who_must_not_run_it_twice() -> None:
    """One worker may be asked again, and the other one may not."""
    (one,) = trio({"idempotent": True}, {"idempotent": False, "version": "2.0.0"}, count=1)
    busy = one.request(version="^2")
    call = one.request(idempotency_key="k")
    assert call.workers == ["w-1"]
    one.answers(busy)
    one.answers(call, Fault(500, "later", retryable=True))
    assert call.workers == ["w-1"]
    assert call.kind is ErrorKind.WORKER_ERROR


def test_the_policy_is_asked_about_the_capability_whose_claim_is_resolved() -> None:
    """Whatever the operator says that it is, and nothing when it names the claim alone."""
    one, two = trio()
    one.request(idempotency_key="k")
    two.request(idempotency_key="k")
    two.advance(30.0)
    asked: list[tuple[str, str]] = []
    deny = Verdict(allow=False, reason="not yours", valid_for_s=1.0)
    two.policy = lambda request: asked.append((request.caller, request.capability)) or deny  # type: ignore[func-returns-value]
    assert replied(two, resolve(two, None)).refusal.kind is ErrorKind.POLICY_DENIED
    assert asked == [("op", HELLO)]
    assert one.stores.only().state == "unknown"


def test_an_unknown_outcome_names_the_worker_that_may_have_run_it() -> None:
    """And not the one that said that it is busy."""
    (one,) = trio({}, {}, count=1)
    call = one.request(idempotency_key="k")
    one.answers(call, BUSY)
    busy, ran = call.workers
    one.deregister(ran)
    one.beating.discard(ran)
    one.advance(10.0)
    assert one.stores.only().state == "unknown"
    again = one.request(idempotency_key="k")
    assert ran in again.refusal.detail
    assert busy not in again.refusal.detail


def test_an_answer_that_was_acknowledged_late_is_kept_no_longer_than_the_store_does() -> None:
    """Its window began when it was stored, which nobody here saw."""
    one = House(timeout_ms=100_000, limits=Limits(window_s=40.0))
    one.register("w-1")
    one.beating = {"w-1"}
    call = one.request(idempotency_key="k")
    one.answers_claims = False
    one.answers(call)
    one.advance(30.0)
    one.answers_claims = True
    one.store_answers()
    assert call.answer.body == DONE.body
    one.advance(11.0)
    assert one.world.kept.get("ann", HELLO, "k") is None


def test_what_was_never_asked_for_cannot_be_resolved() -> None:
    """404, which says that there is nothing to resolve."""
    one, _ = trio({})
    refusal = replied(one, resolve(one, b"x")).refusal
    assert refusal.kind is ErrorKind.NO_SUCH_JOB
    assert "there is nothing to resolve" in refusal.detail
