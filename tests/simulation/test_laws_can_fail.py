"""Every law of the simulation is seen to fail: a router with one thing wrong breaks the law that forbids it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from planted import DEFECTS, also, breaks, first_broken

from controller.core import dispatching, front
from controller.core.events import (
    CANCELLED,
    CancelAsked,
    EntrySeen,
    Stalled,
    StoredManifest,
    VerdictReached,
)
from controller.core.fleet import Offer, State, Worker
from controller.core.membership import Membership
from controller.core.model import Verdict
from controller.core.presence import Presence
from controller.core.retries import RetryBudget
from controller.core.router import Router
from controller.core.securing import Again
from controller.core.timers import Timers
from controller.core.world import Life, Limits
from simulation.plan import Call, Mishap, Plan, Trouble, Whom
from simulation.world import run
from subjects.tokens import CapabilityId

_finish, _send, _resume = Router._finish, Router._send, Router._resume
_stalled = Router._stalled


@breaks("one-reply")
def replies_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every end is sent twice."""

    def finish(router: Router, *args: Any) -> None:
        _finish(router, *args)
        router._out += router._out[-2:]

    monkeypatch.setattr(Router, "_finish", finish)


@breaks("one-reply")
def tells_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record comes before the reply that it is about."""

    def finish(router: Router, *args: Any) -> None:
        _finish(router, *args)
        router._out.insert(-1, router._out.pop())

    monkeypatch.setattr(Router, "_finish", finish)


@breaks("one-reply")
def keeps_refusals_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never dispatched has no record."""

    def finish(router: Router, life: Any, outcome: Any) -> None:
        _finish(router, life, outcome)
        if not life.flights:
            router._out.pop()

    monkeypatch.setattr(Router, "_finish", finish)


@breaks("must-not-run")
def asks_no_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any payload will do."""
    monkeypatch.setattr(front, "is_json", lambda content_type: False)


@breaks("must-not-run")
def takes_every_verdict_for_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A denied request is run."""
    verdict, allowed = Router._verdict, Verdict(True, "allowed", 1.0)
    monkeypatch.setattr(Router, "_verdict", lambda router, event: verdict(router, VerdictReached(event.life, allowed)))


@breaks("right-answer")
def passes_anything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may be as large as it likes."""
    monkeypatch.setattr(dispatching, "_too_large", lambda answer, offer, world: None)


@breaks("right-answer")
def passes_gaps_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames may be left out."""
    monkeypatch.setattr(dispatching, "_broken_frame", lambda offer, frame, expected, world: None)


@breaks("cancels")
def cancels_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two requests with one id the second goes on."""

    def cancel(router: Router, event: CancelAsked) -> None:
        lives = router._lives.get((event.caller, event.request_id))
        if lives is None:
            router._cancels.asked(event, router.live)
        else:
            router._resume(next(iter(lives)), CANCELLED)

    also(monkeypatch, lambda router: router._on.update({CancelAsked: lambda event: cancel(router, event)}))


@breaks("cancels")
def tells_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker works on for nobody."""
    monkeypatch.setattr(Router, "_give_up", lambda router, life: router._flights.abandon(life.flight, "GivenUp"))


@breaks("in-time")
def forgets_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline ends anything."""
    monkeypatch.setattr(Router, "_time_out", lambda router, life: None)


@breaks("in-time")
def is_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are over a little early."""
    put = Timers.set
    monkeypatch.setattr(Timers, "set", lambda timers, key, due: put(timers, key, due - 0.02 * isinstance(key, Life)))


@breaks("recovery")
def gives_nobody_a_fresh_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could not be heard while the controller stood still was silent."""

    def stalled(router: Router, event: Stalled) -> None:
        seen = {worker: worker.seen_at for worker in router.world.registry.workers.values()}
        _stalled(router, event)
        for worker, at in seen.items():
            worker.seen_at = at

    monkeypatch.setattr(Router, "_stalled", stalled)


@breaks("in-time")
def has_all_the_time_of_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lay unread for long has its whole patience."""

    def stalled(router: Router, event: Stalled) -> None:
        _stalled(router, event)
        router.world.stalled_ms = 0.0

    monkeypatch.setattr(Router, "_stalled", stalled)


@breaks("known-gone")
def believes_in_the_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """That nobody listens is nothing new."""
    monkeypatch.setattr(Presence, "unreachable", lambda presence, offer: None)


@breaks("known-gone")
def waits_for_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is gone may still answer."""

    def wait(router: Router) -> None:
        router.presence.lost = lambda worker, reason: None

    also(monkeypatch, wait)


@breaks("known-gone")
def gives_work_to_who_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is there may be chosen."""
    monkeypatch.setattr(Worker, "eligible", property(lambda worker: worker.state is not State.GONE))


@breaks("known-gone")
def believes_in_the_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is ever taken for gone."""
    monkeypatch.setattr(Presence, "watch", lambda presence, worker: None)


@breaks("time-goes-on")
def looks_at_the_silent_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is due is due again at once."""
    monkeypatch.setattr(Presence, "check", Presence.watch)


@breaks("right-worker")
def chooses_whoever_offers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full worker is as good as a free one."""
    real = dispatching.admit

    def admit(life: Any, group: Any, pool: Any, world: Any) -> Any:
        return next((offer for offer in pool.members if offer.eligible), None) or real(life, group, pool, world)

    monkeypatch.setattr(dispatching, "admit", admit)


@breaks("right-worker")
def believes_in_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who failed may try again."""
    monkeypatch.setattr(Life, "try_not_again", lambda life, offer: None)


@breaks("counts", "right-worker")
def knows_no_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has room for all that it offers at once."""
    monkeypatch.setattr(Offer, "full", lambda offer: offer.in_flight >= offer.places)


@breaks("no-second-run")
def runs_anything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends badly is tried again."""

    def again(refusal: Any, life: Life, offer: Offer, world: Any, *, retryable: bool) -> Again:
        life.try_not_again(offer)
        return Again()

    monkeypatch.setattr(dispatching, "_again_or", again)
    monkeypatch.setattr(Life, "maybe_executed", False)


@breaks("attempts")
def numbers_every_attempt_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second attempt says that it is the first."""

    def send(router: Router, life: Life, step: Any) -> None:
        _send(router, life, step)
        router._out[-1] = replace(router._out[-1], attempt=1)

    monkeypatch.setattr(Router, "_send", send)


@breaks("frames")
def leaves_out_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are numbered by twos."""

    def resume(router: Router, life: Any, event: Any) -> None:
        _resume(router, life, event)
        life.frames += bool(life.frames)

    monkeypatch.setattr(Router, "_resume", resume)


@breaks("counts")
def counts_what_has_landed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker fills up with what it has done."""

    def miscount(router: Router) -> None:
        land = router._flights.land

        def lands(flight: Any, end: str) -> None:
            flight.offer.worker.in_flight += 1
            land(flight, end)

        router._flights.land = lands  # type: ignore[method-assign]

    also(monkeypatch, miscount)


@breaks("no-idle-wait")
def wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits goes on waiting."""

    def sleepily(router: Router) -> None:
        router._flights._freed = router.presence.freed = lambda offers: None

    also(monkeypatch, sleepily)


@breaks("nothing-left")
def never_gives_an_orphan_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody waits for is counted until its worker answers."""

    def keep(router: Router) -> None:
        abandon = router._flights.abandon

        def abandons(flight: Any, end: str) -> None:
            abandon(flight, end)
            router.timers.cancel(flight)

        router._flights.abandon = abandons  # type: ignore[method-assign]

    also(monkeypatch, keep)


@breaks("agreement")
def reads_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's tail says nothing."""
    also(monkeypatch, lambda router: router._on.update({EntrySeen: lambda event: None}))


@breaks("agreement")
def hears_of_no_departure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever left with another controller is still there."""
    entry = Membership.entry

    def arrivals(membership: Membership, news: Any, *, heard: bool = False) -> None:
        if isinstance(news, StoredManifest):
            entry(membership, news, heard=heard)

    monkeypatch.setattr(Membership, "entry", arrivals)


@breaks("recovery")
def takes_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that did not listen once is never chosen again."""
    heard = Presence.heard

    def half_heard(presence: Presence, worker: Worker, *, draining: bool | None = None) -> None:
        shut = [offer for offer in worker.offers if not offer.reachable]
        heard(presence, worker, draining=draining)
        for offer in shut:
            presence.unreachable(offer)

    monkeypatch.setattr(Presence, "heard", half_heard)


@breaks("no-crash")
def cannot_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a corner."""
    also(monkeypatch, lambda router: router._on.update({CancelAsked: lambda event: event.nonsense}))


def one_worker(whom: Whom, kind: str) -> Plan:
    """Something happens to the only worker while it is busy, or to one of its two controllers."""
    calls = tuple(Call(4.4 + n / 10, n, CapabilityId("run:once")) for n in range(1, 80))
    return Plan(1, (1, 2), (1,), False, (Trouble(2.5, whom, 1, kind, 8.0), *calls))


def twins() -> Plan:
    """Requests that take long under one id, some of which are cancelled."""
    slow = (Mishap("work", 1, "slow"),)
    calls = tuple(
        Call(3.0 + n / 20, n, CapabilityId("run:pure"), twin=True, cancel_after_s=0.1 if n % 3 else None, mishaps=slow)
        for n in range(1, 30)
    )
    return Plan(1, (1,), (1, 2, 3), False, calls)


PLANS = (one_worker("worker", "cut"), one_worker("worker", "kill"), one_worker("controller", "freeze"), twins())
HERE = dict(DEFECTS)


@pytest.mark.parametrize("name", HERE)
def test_a_defect_breaks_its_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told by that law's name."""
    laws, plant = HERE[name]
    plant(monkeypatch)
    assert first_broken(*PLANS).law in laws


def in_vain(requests: int) -> Plan:
    """A fleet that answers everything with an error that may be tried again."""
    mishaps = tuple(Mishap("work", nth, "retryable") for nth in range(1, 6))
    calls = tuple(Call(2.0 + n / 500, n, CapabilityId("run:pure"), mishaps=mishaps) for n in range(1, requests + 1))
    return Plan(1, (1,), tuple(range(1, 9)), False, calls)


def test_a_budget_that_always_says_yes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries are a share of all requests, by the law's own count."""
    assert run(in_vain(600)).law == ""
    monkeypatch.setattr(RetryBudget, "take", lambda budget, now: True)
    result = run(in_vain(600))
    assert result.law == "attempts"
    assert "retries of" in result.detail


def test_a_router_that_goes_on_trying_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that may have run are bounded, by the law's own count."""
    assert run(in_vain(5)).law == ""
    also(monkeypatch, lambda router: setattr(router.world, "limits", Limits(max_attempts=9)))
    result = run(in_vain(5))
    assert result.law == "attempts"
    assert "may have run 3 times" in result.detail
