"""A dry run: everything is decided, nothing is run, and the answer is the decision."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from harness import Call, House, of_kind, spec

from controller.core.commands import Dispatch
from controller.core.model import Verdict
from controller.core.selection import MAX_CANDIDATES
from controller.core.stored import WriteClaim
from subjects.answers import NO_RESPONDERS, NotRun


def decision(call: Call) -> dict[str, Any]:
    """The record in the answer's body."""
    assert call.answer.content_type == "application/json"
    assert call.answer.meta.worker is None
    record: dict[str, Any] = msgspec.json.decode(call.answer.body)
    return record


def test_a_dry_run_names_whom_it_would_choose_and_runs_nothing() -> None:
    """Nor is its key claimed."""
    house = House()
    house.register("w-1")
    call = house.request(dry_run=True, idempotency_key="k")
    told = decision(call)
    assert (told["status"], told["outcome"], told["chosen"]) == ("success", "would_dispatch", "w-1")
    assert told["verdict"]["allow"] is True
    assert of_kind(house.log, Dispatch) == []
    assert of_kind(house.log, WriteClaim) == []
    assert house.router.in_flight == 0
    assert call.record.outcome == "would_dispatch"


def test_every_candidate_has_its_score_or_the_reason_why_not() -> None:
    """The best first."""
    house = House(timeout_ms=60_000)
    house.register("slow", spec(max_concurrency=2))
    house.register("old", spec(version="1.0.0"))
    house.register("full", spec(version="2.0.0"))
    house.register("new", spec(version="2.0.0"))
    house.register("busy", spec(version="2.0.0"))
    house.register("deaf", spec(version="2.0.0"))
    house.register("leaves", spec(version="2.0.0"))
    calls = [house.request(version="^2") for _ in range(5)]
    by_worker = {call.workers[0]: call for call in calls}
    house.answers(by_worker["new"])
    house.answers(by_worker["deaf"], NO_RESPONDERS)
    house.answers(by_worker["busy"], NotRun("busy"))
    house.answers(by_worker["leaves"], NotRun("draining"))
    told = decision(house.request(version="^2", dry_run=True))
    reasons = {c["worker_id"]: c.get("left_out") for c in told["candidates"]}
    assert reasons["old"] == reasons["slow"] == "version 1.0.0 is not in ^2"
    assert reasons["deaf"] == "does not listen on its subject"
    assert reasons["busy"] == "said it is busy"
    assert reasons["leaves"] == "is draining"
    assert reasons["full"] == "is full"


def test_scores_are_in_order_and_in_milliseconds() -> None:
    """Lower is better."""
    house = House()
    for worker_id, seconds in (("slow", 0.2), ("fast", 0.02)):
        house.register(worker_id)
        call = house.request()
        house.advance(seconds)
        house.answers(call)
        house.beat("slow", draining=True)
    house.beat("slow")
    told = decision(house.request(dry_run=True))
    assert [c["worker_id"] for c in told["candidates"]] == ["fast", "slow"]
    assert told["candidates"][0]["score_ms"] == pytest.approx(20, rel=0.05)
    assert told["candidates"][1]["score_ms"] == pytest.approx(200, rel=0.05)


def test_a_refused_dry_run_is_answered_with_the_refusal_s_record() -> None:
    """It is an answer all the same: nothing was to be done, and nothing went wrong."""
    house = House()
    told = decision(house.request(dry_run=True))
    assert (told["status"], told["outcome"]) == ("rejected", "no_such_capability")
    house.register("w-1")
    house.request()
    told = decision(house.request(dry_run=True))
    assert told["outcome"] == "overloaded", "it would wait, and a dry run does not"
    assert told["candidates"] == [
        {"worker_id": "w-1", "version": "1.0.0", "left_out": "is full", "expected_ms": 10.0, "price_tokens": 0.0}
    ]


def test_who_is_denied_sees_no_candidates() -> None:
    """The fleet is none of their business."""
    house = House(policy=lambda request: Verdict(False, "no", 1.0))
    house.register("w-1")
    told = decision(house.request(dry_run=True))
    assert told["outcome"] == "policy_denied"
    assert "candidates" not in told


def test_candidates_are_bounded() -> None:
    """A fleet of hundreds is not listed as a whole."""
    house = House()
    for number in range(MAX_CANDIDATES + 20):
        house.register(f"w-{number}")
        house.register(f"old-{number}", spec(version="0.1.0"))
    told = decision(house.request(dry_run=True, version="^1"))
    assert len(told["candidates"]) == MAX_CANDIDATES
