"""What is refused before a worker is asked: in the contract's order, with words that say what to do next."""

from __future__ import annotations

import pytest
from harness import ALLOW, Call, House, of_kind, spec

from controller.core import verdicts as verdicts_module
from controller.core.commands import Authorize, Dispatch
from controller.core.events import VerdictReached
from controller.core.model import Mismatch, Request, Verdict
from controller.core.stored import ClaimStored, WriteClaim
from controller.core.world import Limits
from subjects.answers import Fault, Result
from subjects.errors import ErrorKind

DENY = Verdict(allow=False, reason="not yours", valid_for_s=30.0)
UNAVAILABLE = Verdict(allow=False, reason="the engine does not answer", valid_for_s=0.0, unavailable=True)
TAKES_NAMES = {"type": "object"}


def check(schema: str, body: bytes) -> Mismatch | None:
    """Bodies say themselves what is wrong with them."""
    if body == b"{":
        return Mismatch(False, "", "unexpected end")
    return Mismatch(True, "/name", "is too short") if body == b'{"name":""}' else None


# The order ------------------------------------------------------------------------


def test_refusals_come_in_the_order_of_the_contract() -> None:
    """Policy, offered, input, match, availability: what comes first is told, whatever else is wrong."""
    verdicts = {"eve": DENY, "ann": ALLOW}
    house = House(check=check, policy=lambda request: verdicts[request.caller], limits=Limits(queue_limit=0))
    house.register("w-1", spec(input_schema=TAKES_NAMES, constraints={"gpu": 1}))
    house.request()
    bad, unmet = b'{"name":""}', '{"gpu":4}'
    order: list[Call] = [
        house.request("greet:nobody", bad, caller="eve", constraints=unmet),
        house.request("greet:nobody", bad, constraints=unmet),
        house.request(body=b"{", constraints=unmet),
        house.request(body=bad, constraints=unmet),
        house.request(constraints=unmet),
        house.request(),
    ]
    assert [call.kind for call in order] == [
        ErrorKind.POLICY_DENIED,
        ErrorKind.NO_SUCH_CAPABILITY,
        ErrorKind.MALFORMED,
        ErrorKind.INVALID_INPUT,
        ErrorKind.NO_MATCH,
        ErrorKind.OVERLOADED,
    ]
    assert all(call.record.status == "rejected" for call in order)
    assert all(not call.dispatches for call in order)


# Policy ---------------------------------------------------------------------------


def test_a_denial_names_caller_capability_and_reason() -> None:
    """403."""
    house = House(policy=lambda request: DENY)
    house.register("w-1")
    call = house.request()
    assert call.kind is ErrorKind.POLICY_DENIED
    assert "ann may not call greet:hello: not yours" in call.refusal.detail
    assert call.record.verdict == DENY


def test_an_engine_that_gives_no_clear_answer_is_a_denial_of_its_own_kind() -> None:
    """503 ``policy_unavailable``: fail closed."""
    house = House(policy=lambda request: UNAVAILABLE)
    house.register("w-1")
    call = house.request()
    assert call.kind is ErrorKind.POLICY_UNAVAILABLE
    assert call.refusal.retry_after_ms
    assert not call.dispatches


def test_a_verdict_holds_for_as_long_as_it_says() -> None:
    """By caller and capability; then the engine is asked again."""
    house = House(policy=lambda request: Verdict(True, "for a moment", 0.5))
    house.register("w-1", spec(max_concurrency=99), spec("greet:bye", max_concurrency=99))

    def asked() -> int:
        return len(of_kind(house.log, Authorize))

    house.request()
    house.request()
    assert asked() == 1
    house.request(caller="bob")
    house.request("greet:bye")
    assert asked() == 3
    house.advance(0.49)
    house.request()
    assert asked() == 3
    house.advance(0.02)
    house.request()
    assert asked() == 4


def test_a_denial_is_kept_as_well() -> None:
    """A caller that is turned away costs the engine nothing more."""
    house = House(policy=lambda request: DENY)
    for _ in range(3):
        assert house.request().kind is ErrorKind.POLICY_DENIED
    assert len(of_kind(house.log, Authorize)) == 1


def test_verdicts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest makes room."""
    monkeypatch.setattr(verdicts_module, "MAX_VERDICTS", 2)
    house = House()
    for caller in ("ann", "bob", "cat"):
        house.request(caller=caller)
    before = len(of_kind(house.log, Authorize))
    house.request(caller="cat")
    house.request(caller="bob")
    assert len(of_kind(house.log, Authorize)) == before
    house.request(caller="ann")
    assert len(of_kind(house.log, Authorize)) == before + 1


def test_an_engine_that_answers_later_is_waited_for() -> None:
    """And what it says twice is heard once."""
    house = House(policy=lambda request: None)
    house.register("w-1")
    call = house.request()
    assert not call.dispatches
    (asked,) = of_kind(house.log, Authorize)
    house.feed(VerdictReached(asked.life, ALLOW))
    assert len(call.dispatches) == 1
    house.feed(VerdictReached(asked.life, DENY))
    house.answers(call)
    assert call.answer


# Offered --------------------------------------------------------------------------


def test_what_nobody_ever_offered_is_not_found_and_near_matches_are_named() -> None:
    """404 with what looks like it: a typing error, the same name, the same verb."""
    house = House()
    house.register("w-1", spec("greet:hello_world"), spec("say:hi"), spec("greet:bye"), spec("parse:mail"))
    call = house.request("greet:helo_world")
    assert call.kind is ErrorKind.NO_SUCH_CAPABILITY
    assert call.refusal.near[0] == "greet:hello_world"
    assert "Did you mean greet:hello_world or" in call.refusal.detail
    assert "say:hi" in house.request("shout:hi").refusal.near
    assert house.request("zzz:qqq").refusal.near == ()
    assert "crank capabilities" in house.request("zzz:qqq").refusal.detail


def test_near_matches_are_few() -> None:
    """Three of however many."""
    house = House()
    house.register("w-1", *(spec(f"greet:hello_{number}") for number in range(50)))
    assert len(house.request("greet:hello").refusal.near) == 3


# Input and output -------------------------------------------------------------------


def test_a_body_that_is_not_json_is_malformed_and_one_that_does_not_fit_is_invalid() -> None:
    """400 and 422, each with the place of the offence."""
    house = House(check=check)
    house.register("w-1", spec(input_schema=TAKES_NAMES))
    malformed, invalid = house.request(body=b"{"), house.request(body=b'{"name":""}')
    assert malformed.kind is ErrorKind.MALFORMED
    assert "not JSON: unexpected end" in malformed.refusal.detail
    assert invalid.kind is ErrorKind.INVALID_INPUT
    assert invalid.refusal.offences[0].path == "/name"
    assert "/name does not fit" in invalid.refusal.detail


def test_a_mismatch_of_the_whole_body_is_named_as_such() -> None:
    """There is no path to show."""
    house = House(check=lambda schema, body: Mismatch(True, "", "is no object"))
    house.register("w-1", spec(input_schema=TAKES_NAMES))
    assert "the payload does not fit" in house.request().refusal.detail


@pytest.mark.parametrize(
    ("content_type", "checked"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/merge-patch+json", True),
        ("text/plain", False),
        ("application/octet-stream", False),
    ],
)
def test_only_json_is_checked(content_type: str, checked: bool) -> None:
    """What names another type passes as it is."""
    house = House(check=check)
    house.register("w-1", spec(input_schema=TAKES_NAMES, max_concurrency=9))
    call = house.request(body=b"{", content_type=content_type)
    assert bool(call.dispatches) is not checked


def test_the_newest_version_in_range_checks_the_input() -> None:
    """By semantic precedence, and of those that fit what is asked."""
    seen: list[str] = []

    def check_and_see(schema: str, body: bytes) -> Mismatch | None:
        seen.append(schema)
        return None

    house = House(check=check_and_see)
    for number, version in enumerate(("1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0")):
        house.register(f"w-{number}", spec(version=version, input_schema={"title": version}))
    house.request(version="^1")
    house.request()
    assert [schema for schema in seen if "1.10.0" in schema]
    assert len(seen) == 2
    assert '"2.0.0"' in seen[1]


def test_an_answer_that_does_not_fit_its_schema_breaks_the_contract() -> None:
    """502; the caller never sees it."""
    house = House(check=check)
    house.register("w-1", spec(output_schema={"type": "object"}, max_concurrency=9))
    for body in (b"{", b'{"name":""}'):
        call = house.request()
        house.answers(call, Result(body))
        assert call.kind is ErrorKind.WORKER_PROTOCOL
        assert "output schema" in call.refusal.detail
    fine, text = house.request(), house.request()
    house.answers(fine, Result(b"{}"))
    house.answers(text, Result(b"{", content_type="text/plain"))
    assert fine.answer
    assert text.answer.content_type == "text/plain"


def test_an_answer_over_the_worker_s_own_limit_breaks_the_contract() -> None:
    """``max_output_bytes``, to the byte; what is no positive number is no limit."""
    house = House()
    house.register("w-1", spec(constraints={"max_output_bytes": 4}, max_concurrency=9))
    fits, too_long = house.request(), house.request()
    house.answers(fits, Result(b"1234"))
    house.answers(too_long, Result(b"12345"))
    assert fits.answer
    assert too_long.kind is ErrorKind.WORKER_PROTOCOL
    for number, odd in enumerate((True, "4", -4, 0, None)):
        house.register(f"odd-{number}", spec(f"odd:n{number}", constraints={"max_output_bytes": odd}))
        call = house.request(f"odd:n{number}")
        house.answers(call, Result(b"12345"))
        assert call.answer


# Availability and keys --------------------------------------------------------------


def test_a_version_or_constraint_that_nobody_has_is_no_match() -> None:
    """412, with every worker and what it lacks, up to twenty."""
    house = House()
    for number in range(30):
        house.register(f"w-{number}", spec(version="1.0.0", runtime="python3.11"))
    call = house.request(version="^2")
    assert call.kind is ErrorKind.NO_MATCH
    assert "versions 1.0.0" in call.refusal.detail
    assert len(call.refusal.candidates) == 20
    assert call.refusal.candidates[0].reason == "version 1.0.0 is not in ^2"
    assert house.request(constraints='{"runtime":"go"}').kind is ErrorKind.NO_MATCH


def test_when_all_are_away_the_reasons_are_told() -> None:
    """503, with when to come again."""
    house = House()
    house.register("w-1")
    house.register("w-2")
    house.beat("w-2", draining=True)
    house.advance(6.6)
    house.beat("w-2", draining=True)
    call = house.request()
    assert call.kind is ErrorKind.NO_WORKER
    assert call.refusal.retry_after_ms
    assert {c.worker_id: c.reason for c in call.refusal.candidates} == {"w-1": "is gone", "w-2": "is draining"}


def test_a_key_that_cannot_be_protected_is_refused() -> None:
    """503 ``store_unavailable``, and nothing ran; the same request without a key runs."""
    house = House(claim_lost="the bucket is away")
    house.register("w-1")
    call = house.request(idempotency_key="k")
    assert call.kind is ErrorKind.STORE_UNAVAILABLE
    assert "the bucket is away" in call.refusal.detail
    assert not call.dispatches
    assert house.request().dispatches


def test_a_key_is_claimed_once_before_the_first_dispatch() -> None:
    """A retry needs no second claim."""
    house = House()
    house.register("w-1", spec(idempotent=True))
    house.register("w-2", spec(idempotent=True))
    call = house.request(idempotency_key="k")
    house.answers(call, Fault(500, "x", retryable=True))
    house.answers(call)
    assert len(call.dispatches) == 2
    written = [type(c) for c in house.log if isinstance(c, WriteClaim | Dispatch)]
    assert written == [WriteClaim, Dispatch, Dispatch, WriteClaim]


def test_a_claim_that_is_won_twice_dispatches_once() -> None:
    """Whatever the store repeats."""
    house = House(answers_claims=False)
    house.register("w-1")
    call = house.request(idempotency_key="k")
    (asked,) = of_kind(house.log, WriteClaim)
    for _ in range(2):
        house.feed(ClaimStored(asked.key, asked.record.nonce, 1))
    assert len(call.dispatches) == 1
    house.answers(call)
    last = of_kind(house.log, WriteClaim)[-1]
    for _ in range(2):
        house.feed(ClaimStored(last.key, last.record.nonce, 2))
    assert call.answer


def test_the_place_of_a_request_is_kept_while_its_key_is_claimed() -> None:
    """Who comes meanwhile waits, and gets it when the key turns out to be somebody else's."""
    house = House(answers_claims=False)
    house.register("w-1")
    keyed = house.request(idempotency_key="k")
    quick = house.request()
    assert not quick.dispatches
    house.stores.away = "no space left"
    house.store_answers()
    house.store_answers()  # whether it holds the key already
    assert keyed.kind is ErrorKind.STORE_UNAVAILABLE
    assert quick.dispatches


# What a caller is told ----------------------------------------------------------------


def test_every_reply_and_dispatch_stays_in_the_caller_s_trace() -> None:
    """The trace id goes through, each hop is a span of its own, and sampling is the caller's."""
    from subjects.trace import TraceContext

    house = House()
    house.register("w-1", spec(max_concurrency=2))
    traced = house.request(trace=TraceContext("a" * 32, "b" * 16, True))
    house.answers(traced)
    hops = [traced.dispatches[0].traceparent, traced.answer.meta.traceparent]
    assert all(hop.startswith(f"00-{'a' * 32}-") and hop.endswith("-01") for hop in hops)
    assert len({hop.split("-")[2] for hop in hops} | {"b" * 16}) == 3
    plain = house.request()
    assert plain.dispatches[0].traceparent.endswith("-00")


def test_an_answer_tells_who_did_it() -> None:
    """Worker, version, attempts, controller and cost."""
    house = House()
    house.register("w-1", spec(version="1.2.3", cost_tokens_per_invocation=0.5))
    call = house.request(request_id="mine")
    house.answers(call, Result(b"x", "X-Own: 1\r\n", "text/plain"))
    answer, meta = call.answer, call.answer.meta
    assert (meta.request_id, meta.controller, meta.worker, meta.version) == ("mine", "c-1", "w-1", "1.2.3")
    assert (meta.attempts, meta.cost_tokens) == (1, 0.5)
    assert (answer.body, answer.passed, answer.content_type) == (b"x", "X-Own: 1\r\n", "text/plain")
    record = call.record
    assert (record.status, record.outcome, record.chosen, record.version) == ("success", "answered", "w-1", "1.2.3")
    assert record.attempts[0].worker_id == "w-1"


def test_a_refusal_names_no_worker_and_costs_nothing() -> None:
    """Nobody did anything."""
    house = House()
    call = house.request()
    meta = call.replies[0].meta
    assert (meta.worker, meta.version, meta.attempts, meta.cost_tokens) == (None, None, 0, 0.0)


def _policy_by(request: Request) -> Verdict | None:
    return DENY if request.caller == "eve" else ALLOW


def test_a_request_without_a_place_for_its_answer_is_run_all_the_same() -> None:
    """Its reply goes nowhere, and is the edge's to drop."""
    house = House(policy=_policy_by)
    house.register("w-1")
    call = house.request()
    house.answers(call, Fault(422, ""))
    assert "no message" in call.refusal.detail
    assert "will not help" in call.refusal.detail
