"""The laws of keys and jobs are seen to fail, each by a core with one thing wrong; and so no law was never seen to."""

from __future__ import annotations

from typing import Any

import pytest
import test_laws_can_fail as others
from msgspec.structs import replace
from planted import DEFECTS, breaks, first_broken

from controller.core import accepting, entries
from controller.core import claims as claims_module
from controller.core import jobs as jobs_module
from controller.core import keyed as keyed_module
from controller.core import records as records_module
from controller.core.claim import Claim
from controller.core.claims import Claims
from controller.core.commands import ReplyJson, Tell
from controller.core.events import UNSURE, WON, CancelAsked, Held
from controller.core.kept import KeptRecords
from controller.core.life import LIVES
from controller.core.router import Router
from controller.core.stored import AckJob, ClaimStored, NakJob, ReleaseClaim, StoreLevel
from controller.core.world import Kept, Life, Told
from simulation.laws import LAWS
from simulation.plan import Call, Mishap, Plan, Trouble, Whom
from simulation.world import run
from subjects.tokens import CapabilityId, is_claim_key

BEFORE = dict(DEFECTS)
_put, _stored, _finish = Claims.put, Claims.stored, Router._finish


@breaks("one-claim")
def does_not_wait_for_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written counts as stored."""

    def put(claims: Claims, life: Any, step: Any) -> Any:
        known = _put(claims, life, step)
        return WON if known is None and step.state == "dispatching" else known

    monkeypatch.setattr(Claims, "put", put)


@breaks("one-claim")
def takes_silence_for_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that nobody acknowledged in time is good enough."""
    resume = Router._resume

    def resumes(router: Router, life: Any, event: Any) -> None:
        resume(router, life, WON if event is UNSURE else event)

    monkeypatch.setattr(Router, "_resume", resumes)


@breaks("one-claim")
def forgets_that_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second write does not wait for the first one."""

    def put(claims: Claims, life: Any, step: Any) -> Any:
        claim = claims.get(life.claim_key)
        if claim is not None and claim.holder is life:
            claim.out = None
        return _put(claims, life, step)

    monkeypatch.setattr(Claims, "put", put)


@breaks("at-most-once")
def believes_that_all_may_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of a lost worker's work is free, whatever it does."""
    monkeypatch.setattr(keyed_module, "Put", lambda state, **fields: keyed_module.RELEASE)
    written_for = claims_module.written_for
    monkeypatch.setattr(claims_module, "written_for", lambda *args: replace(written_for(*args), idempotent=True))


@breaks("at-most-once")
def frees_the_key_of_what_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks next has it run again, and nobody is told that it may have run before."""
    monkeypatch.setattr(keyed_module, "Put", lambda state, **fields: keyed_module.RELEASE)


@breaks("table")
def forgets_what_it_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is free as soon as its answer was sent."""

    def stored(claims: Claims, event: ClaimStored) -> None:
        claim = claims.get(event.key)
        done = claim is not None and claim.out is not None and claim.out.state == "done"
        _stored(claims, event)
        if done:
            claims._emit(ReleaseClaim(event.key, event.seq))

    monkeypatch.setattr(Claims, "stored", stored)
    monkeypatch.setattr(Router, "__init__", _with_handlers_of_now)


_make = Router.__init__


def _with_handlers_of_now(router: Router, *args: Any) -> None:
    _make(router, *args)
    router._on[ClaimStored] = router.claims.stored


@breaks("lease")
def has_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else holds a key has let it lapse."""
    monkeypatch.setattr(Claim, "lapsed", lambda claim, now: claim.record is not None and not claim.mine)


@breaks("lease")
def renews_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is as long as it is."""
    monkeypatch.setattr(Claims, "sweep", lambda claims: None)


@breaks("table")
def keeps_answers_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is stored ages out."""
    monkeypatch.setattr(entries, "FINAL", frozenset())


@breaks("right-answer")
def takes_every_payload_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is a key."""
    claims = Life.claims

    def claim(life: Life, key: str) -> None:
        claims(life, key)
        life.fingerprint = b"same"

    monkeypatch.setattr(Life, "claims", claim)
    monkeypatch.setattr(KeptRecords, "get", lambda *args: None)


@breaks("right-answer")
def tells_results_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows a job's id may know what came of it."""

    def result(life: Life, world: Any) -> Any:
        event = yield jobs_module.LOOK_KEPT
        while isinstance(event, Held):
            if event.record.answer is not None:
                return Kept(event.record.answer, event.record.state)
            event = yield jobs_module.ATTACH
        return Told({}, "queued")

    monkeypatch.setitem(LIVES, "result", result)


@breaks("stored-first")
def answers_before_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storing is for later."""

    def settle(life: Any, world: Any, outcome: Any, answer: Any) -> Any:
        yield from ()
        return outcome

    monkeypatch.setattr(keyed_module, "_settle", settle)


@breaks("stored-first")
def sends_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever did the work answers, whatever became of the claim."""

    def settle(life: Any, world: Any, outcome: Any, answer: Any) -> Any:
        yield keyed_module.Put("done", answer=answer)
        return outcome

    monkeypatch.setattr(keyed_module, "_settle", settle)


@breaks("same-answer")
def tells_it_in_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay is nearly what was answered."""
    kept = records_module._kept_answer

    def told(*args: Any) -> Any:
        answer = kept(*args)
        return replace(answer, body=answer.body + b" ")

    monkeypatch.setattr(records_module, "_kept_answer", told)


@breaks("replay-free")
def passes_a_replay_off_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that it ran before."""
    kept = records_module._kept_answer

    def told(*args: Any) -> Any:
        answer = kept(*args)
        return replace(answer, meta=replace(answer.meta, replayed=False))

    monkeypatch.setattr(records_module, "_kept_answer", told)


@breaks("replay-free")
def charges_for_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran once is paid for twice."""
    kept = records_module._kept_answer

    def told(*args: Any) -> Any:
        answer = kept(*args)
        return replace(answer, meta=replace(answer.meta, cost_tokens=1.0))

    monkeypatch.setattr(records_module, "_kept_answer", told)


@breaks("free-again")
def frees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused request's key runs out with its lease."""
    monkeypatch.setattr(Claims, "release", lambda claims, life: None)


@breaks("must-not-run")
def fills_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is nearly full is somebody else's worry."""

    def make(router: Router, *args: Any) -> None:
        _make(router, *args)
        router._on[StoreLevel] = lambda event: None

    monkeypatch.setattr(Router, "__init__", make)


@breaks("job-ends")
def forgets_a_job_that_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is told that it is dealt with."""

    def put_back(life: Any, tried: int, least_s: float) -> Any:
        yield Tell(AckJob(life.delivery))
        return jobs_module.Silent("put back")

    monkeypatch.setattr(jobs_module, "_put_back", put_back)


@breaks("job-ends")
def tells_nobody_how_a_job_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result is not kept."""

    def close(life: Any, record: Any) -> Any:
        yield Tell(AckJob(life.delivery))
        return jobs_module.Kept(record.answer, record.state)

    monkeypatch.setattr(jobs_module, "_close", close)


@breaks("job-ends")
def accepts_a_job_and_drops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded, and is in no stream."""

    def publish(life: Any, record: Any, *, duplicate: bool) -> Any:
        yield from ()
        return Told({"job_id": life.claim_key, "status": "accepted", "duplicate": duplicate})

    monkeypatch.setattr(accepting, "_publish", publish)


@breaks("job-ends")
def tells_that_every_job_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a result hears the same."""
    kept = records_module._kept_answer

    def told(life: Any, outcome: Any, world: Any) -> Any:
        answer = kept(life, outcome, world)
        return replace(answer, meta=replace(answer.meta, job_status="dead" if outcome.job_status else ""))

    monkeypatch.setattr(records_module, "_kept_answer", told)


@breaks("cancels")
def says_that_a_job_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on with it."""

    def make(router: Router, *args: Any) -> None:
        _make(router, *args)
        router._on[CancelAsked] = lambda event: (
            router._out.append(ReplyJson(event.reply, b"{}"))
            if (event.caller, event.request_id) in router._lives and is_claim_key(event.request_id)
            else router._cancels.asked(event, router.live)
        )

    monkeypatch.setattr(Router, "__init__", make)


@breaks("own-delivery")
def gives_every_delivery_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that it has acknowledged, or that somebody else has by now."""

    def finish(router: Router, life: Any, outcome: Any) -> None:
        _finish(router, life, outcome)
        if life.delivery:
            router._out.append(NakJob(life.delivery, 0.0))

    monkeypatch.setattr(Router, "_finish", finish)


@breaks("no-orphan")
def never_calls_anybody_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease ever lapses."""
    monkeypatch.setattr(Claim, "lapsed", lambda claim, now: False)


HERE = {name: defect for name, defect in DEFECTS.items() if name not in BEFORE}


def few_keys(whom: Whom, kind: str, mishap: str) -> Plan:
    """Many ask under a few keys while something happens to who does it; whoever is first under a key has bad luck."""
    first = (Mishap("work", 1, mishap),)
    calls = [
        Call(4.0 + n / 4, n, CapabilityId("run:once"), key=f"k{n // 4}", timeout_ms=9000, mishaps=first * (n % 4 == 0))
        for n in range(1, 120)
    ]
    troubles = [Trouble(at, whom, 1, kind, 7.0) for at in (5.1, 15.1, 25.1)]
    happenings = sorted((*calls, *troubles), key=lambda happening: happening.at)
    return Plan(1, (1, 2), (1, 2, 3), False, tuple(happenings))


def crowded() -> Plan:
    """A job waits for the only worker, and its caller cancels it."""
    slow = tuple(Mishap("work", nth, "slow") for nth in (1, 2))
    others = tuple(Call(3.0 + n / 50, n, CapabilityId("run:once"), timeout_ms=9000, mishaps=slow) for n in range(1, 8))
    job = Call(3.5, 50, CapabilityId("run:once"), timeout_ms=9000, action="submit")
    return Plan(1, (1,), (1,), False, (*others, job, Call(3.7, 51, CapabilityId(""), action="cancel", about=50)))


PLANS = (
    few_keys("controller", "freeze", "slow"),
    few_keys("controller", "kill", "never"),
    few_keys("worker", "kill", "never"),
    few_keys("claims", "away", "slow"),
    crowded(),
)


@pytest.mark.parametrize("name", HERE)
def test_a_defect_breaks_its_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told by that law's name."""
    laws, plant = HERE[name]
    plant(monkeypatch)
    assert first_broken(*PLANS).law in laws


def test_the_plans_break_nothing_by_themselves() -> None:
    """What is found with a defect is the defect's."""
    assert [run(plan).law for plan in PLANS] == [""] * len(PLANS)


def test_every_law_was_seen_to_fail() -> None:
    """A law that cannot fail says nothing."""
    assert {law for laws, _ in (*others.HERE.values(), *HERE.values()) for law in laws} == set(LAWS)
