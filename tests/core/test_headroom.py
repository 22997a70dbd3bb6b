"""The cheapest worker that is expected to be in time: prices, bids, budgets, and who has to prove itself."""

from __future__ import annotations

from random import Random

import pytest
from harness import HELLO, House, manifest_of, registration, spec
from hypothesis import given
from hypothesis import strategies as st
from objective_houses import proven, rule, served, went_to

from controller.core.compliance import Standing
from controller.core.fleet import LAST
from controller.core.latency import ESTIMATE_DECAY_S
from controller.core.selection import SLOW_SHARE, UNPROVEN_SHARE, choose
from subjects.answers import NotRun
from subjects.errors import ErrorKind
from subjects.manifests import Bid, Slo


def test_the_cheapest_that_is_expected_to_be_in_time_is_taken() -> None:
    """Quicker ones that cost more are not."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "dear", 5, cost_tokens_per_invocation=10)
    proven(house, "cheap", 60, cost_tokens_per_invocation=1)
    proven(house, "too-slow", 200, cost_tokens_per_invocation=0)
    calls = served(house, 50, 0.06)
    assert went_to(calls) == {"cheap"}
    assert {call.answer.meta.cost_tokens for call in calls} == {1.0}


def test_a_full_cheap_worker_leaves_the_rest_to_the_dear() -> None:
    """Cost is weighed, and then the objective is met."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "dear", 5, cost_tokens_per_invocation=10)
    proven(house, "cheap", 60, cost_tokens_per_invocation=1, max_concurrency=2)
    assert [house.request().workers for _ in range(3)] == [["cheap"], ["cheap"], ["dear"]]


def test_a_request_s_own_objective_is_tighter_than_the_capability_s() -> None:
    """``Crank-Latency-Ms`` narrows the choice, and is not widened by it."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "dear", 5, cost_tokens_per_invocation=10)
    proven(house, "cheap", 60, cost_tokens_per_invocation=1)
    assert house.request(latency_ms=20).workers == ["dear"]
    assert house.request(latency_ms=5000).workers == ["cheap"]
    rule(house)
    assert house.request(latency_ms=20).workers == ["dear"], "without a file it holds as well"


def test_without_an_objective_the_deadline_is_what_has_to_be_met() -> None:
    """The cheapest that makes it."""
    house = House()
    proven(house, "dear", 5, cost_tokens_per_invocation=10)
    proven(house, "cheap", 600, cost_tokens_per_invocation=1)
    assert house.request(timeout_ms=500).workers == ["dear"]
    assert house.request(timeout_ms=900).workers == ["cheap"]


@pytest.mark.parametrize("asked", [{"p99_ms": 100}, {"p95_ms": 100}, {"p50_ms": 100}, {"p50_ms": 100, "p99_ms": 900}])
def test_every_bound_on_latency_counts(asked: dict[str, float]) -> None:
    """A worker that breaks one of them is passed over, however cheap it is."""
    house = House()
    rule(house, **asked)
    proven(house, "dear", 50, cost_tokens_per_invocation=10)
    proven(house, "cheap", 150, cost_tokens_per_invocation=1)
    assert house.request().workers == ["dear"]


def test_an_objective_for_other_versions_judges_nobody() -> None:
    """It speaks of a range; who is outside competes by price alone."""
    house = House()
    rule(house, p99_ms=100, version="^2")
    proven(house, "old", 500, cost_tokens_per_invocation=1)
    proven(house, "new", 50, cost_tokens_per_invocation=10, version="2.0.0")
    assert house.offer("old").objective is None
    assert house.offer("new").objective is not None


def test_two_slow_answers_in_a_row_count_at_once_and_one_may_be_chance() -> None:
    """A worker that has just become slow is out, until that is old."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "dear", 50, cost_tokens_per_invocation=10)
    cheap = proven(house, "cheap", 50, cost_tokens_per_invocation=1, times=50)
    house.beating |= {"dear", "cheap"}
    house.world.health.answered(cheap, 110, house.now)
    assert house.request().workers == ["cheap"]
    house.world.health.answered(cheap, 110, house.now)
    assert house.request().workers == ["dear"]
    house.advance(11)
    assert house.request().workers == ["cheap"], "it is tried again"


def test_nobody_is_ever_taken_who_is_full_or_away() -> None:
    """Whatever it costs: waiting is what is left."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "w-1", 10, max_concurrency=1)
    assert house.request().workers == ["w-1"]
    assert not house.request().dispatches


def test_who_stays_too_slow_is_not_looked_at_for_ever() -> None:
    """When its last answers are old, its usual ones still count."""
    house = House()
    rule(house, p99_ms=100)
    slow = proven(house, "slow", 90)
    for latency_ms in (500, 500, 500):
        house.world.health.answered(slow, latency_ms, house.now)
    house.beating.add("slow")
    house.advance(60)
    assert slow.latency.slowest_ms(house.now) > 100


# Prices -----------------------------------------------------------------------------


def test_a_higher_bid_makes_a_price_count_for_less() -> None:
    """Whoever bids for work gets it before one that is as dear; what is paid is the price."""
    house = House()
    proven(house, "eager", 10, cost_tokens_per_invocation=10, slo_bid=5.0)
    proven(house, "calm", 10, cost_tokens_per_invocation=3)
    call = house.request()
    house.answers(call)
    assert call.workers == ["eager"]
    assert call.answer.meta.cost_tokens == 10.0
    assert call.record.aim is not None
    assert call.record.aim.price_tokens == 10.0


def test_a_heartbeat_renews_a_bid() -> None:
    """From the next choice on."""
    house = House()
    proven(house, "a", 10, cost_tokens_per_invocation=4)
    proven(house, "b", 10, cost_tokens_per_invocation=4, slo_bid=0.5)
    assert house.request().workers == ["a"]
    house.beat("b", seq=2, bids={HELLO: 2.0, "no:such": 9.0})
    assert house.request().workers == ["b"]
    house.beat("b", seq=3)
    assert house.request().workers == ["b"], "a heartbeat that says nothing takes nothing back"


def test_a_bid_with_terms_is_a_price_for_a_while() -> None:
    """Then what the manifest declares holds again; who could not pay it may meanwhile."""
    house = House()
    proven(house, "w-1", 10, cost_tokens_per_invocation=4)
    assert house.request(budget_tokens=2.0).kind is ErrorKind.OVER_BUDGET
    house.beat("w-1", seq=2, bids={HELLO: Bid(budget_tokens=1.5, valid_s=3.0)})
    house.beating.add("w-1")
    call = house.request(budget_tokens=2.0)
    house.answers(call)
    assert call.answer.meta.cost_tokens == 1.5
    house.advance(3.1)
    assert house.request(budget_tokens=2.0).kind is ErrorKind.OVER_BUDGET


def test_a_manifest_s_bid_for_a_while_ends_too() -> None:
    """Unless a heartbeat renews it: the same terms then hold for longer."""
    house = House()
    bid = Bid(budget_tokens=1.0, valid_s=5.0)
    house.register("w-1", spec(cost_tokens_per_invocation=4, slo_bid=bid))
    house.beating.add("w-1")
    house.advance(4)
    house.beat("w-1", seq=2, bids={HELLO: bid})
    house.advance(4)
    assert house.offer("w-1").price == 1.0
    house.advance(1.1)
    assert house.offer("w-1").price == 4.0


def test_a_bid_that_outlasts_everything_never_ends() -> None:
    """However long it says: the worker is served and watched, and nothing is due for its bid."""
    house = House()
    house.register("w-1", spec(cost_tokens_per_invocation=4, slo_bid=Bid(budget_tokens=1.0, valid_s=1.7e308)))
    house.beat("w-1", seq=2, bids={HELLO: Bid(budget_tokens=2.0, valid_s=1e300)})
    assert house.offer("w-1").price == 2.0
    assert house.request().workers == ["w-1"]
    house.advance(60)
    assert not house.worker("w-1").eligible, "it was silent"


def test_over_budget_names_the_best_offer_as_it_is_now() -> None:
    """The price that would be paid."""
    house = House()
    proven(house, "w-1", 10, cost_tokens_per_invocation=4, slo_bid=Bid(budget_tokens=3.0))
    refused = house.request(budget_tokens=2.0).refusal
    assert refused.kind is ErrorKind.OVER_BUDGET
    assert "the best offer is 3" in refused.detail


# Ties and shares --------------------------------------------------------------------


def test_a_worker_that_prefers_this_controller_wins_ties() -> None:
    """And nothing but ties: it is a preference, and no wall."""
    house = House(name="c-1")
    for number in range(4):
        proven(house, f"w-{number}", 10, controller_affinity=("c-1",) if number == 3 else ("c-2",))
    pool, dice = house.world.registry.groups[HELLO].pool(None, None), Random(1)
    drawn = [choose(pool, 1e9, (), house.now, dice) for _ in range(400)]
    mine = sum(offer is house.offer("w-3") for offer in drawn)
    assert mine > 150, "once in four and more: whenever it is one of the two"
    proven(house, "w-3", 30, controller_affinity=("c-1",))
    drawn = [choose(pool, 1e9, (), house.now, dice) for _ in range(400)]
    assert sum(offer is house.offer("w-3") for offer in drawn) < 50


def test_who_has_not_shown_what_it_can_do_gets_a_bounded_share_until_it_has() -> None:
    """However cheap it is, and whatever it declares."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "known", 50, cost_tokens_per_invocation=10, max_concurrency=10_000)
    house.register("new", spec(max_concurrency=100, slo=Slo(latency_p99_ms=40)))
    calls = [house.request() for _ in range(1000)]
    assert sum(call.workers == ["new"] for call in calls) == 1, "one at a time, while nobody knows"
    for _ in range(4):
        new = next(call for call in calls if call.workers == ["new"] and not call.replies)
        house.answers(new)
        calls += [house.request(priority="low") for _ in range(300)]
    trials = [call for call in calls if call.workers == ["new"]]
    assert len(trials) < UNPROVEN_SHARE * len(calls)
    new = next(call for call in trials if not call.replies)
    house.answers(new)
    assert went_to([house.request() for _ in range(20)]) == {"new"}, "now it is known to be in time, and cheaper"


def test_who_declares_to_be_too_slow_is_believed() -> None:
    """It is for those whom nobody else takes."""
    house = House()
    rule(house, p99_ms=100)
    house.register("quick", spec(max_concurrency=2, slo=Slo(latency_p99_ms=40)))
    house.register("slow", spec(slo=Slo(latency_p99_ms=400)))
    assert [house.request().workers for _ in range(3)] == [["quick"], ["quick"], ["slow"]]


def test_a_fleet_that_nobody_knows_works_at_once() -> None:
    """The share is bounded only where there is somebody else."""
    house = House()
    rule(house, p99_ms=100)
    for number in range(3):
        house.register(f"w-{number}", spec(max_concurrency=2))
    assert all(house.request().dispatches for _ in range(6))


def test_who_was_too_slow_is_tried_so_seldom_that_the_objective_does_not_feel_it() -> None:
    """And comes back when it has become quick."""
    house = House(seed=5)
    rule(house, p99_ms=100)
    proven(house, "dear", 50, cost_tokens_per_invocation=10, max_concurrency=10_000)
    slow = proven(house, "slow", 150, cost_tokens_per_invocation=1)
    calls = [house.request() for _ in range(5000)]
    tried = [call for call in calls if call.workers == ["slow"]]
    assert 0 < len(tried) <= 2 * SLOW_SHARE * len(calls)
    for _ in range(200):
        house.world.health.answered(slow, 20, house.now)
    assert house.request().workers == ["slow"]


def test_a_few_trials_are_enough_to_come_back() -> None:
    """Who was slow a thousand times is tried seldom, and as many trials would take days."""
    house = House()
    rule(house, p99_ms=50)
    offer = proven(house, "w-1", 200, times=1000)
    assert offer.tier == LAST
    house.advance(ESTIMATE_DECAY_S)
    for _ in range(30):
        house.world.health.answered(offer, 10, house.now)
    assert offer.tier == offer.rank


def test_the_urgent_are_nobody_s_trial() -> None:
    """High priority goes to who is known."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "known", 50, max_concurrency=10_000)
    house.register("new", spec())
    assert went_to([house.request(priority="high") for _ in range(500)]) == {"known"}


def test_while_it_burns_nobody_is_tried() -> None:
    """What the unproven might cost is not there to be spent."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "known", 50, max_concurrency=10_000)
    house.register("new", spec())
    house.world.compliance.measured[HELLO].standing = Standing.PAGE
    assert went_to([house.request() for _ in range(500)]) == {"known"}


def test_nobody_s_deadline_is_staked_on_a_trial() -> None:
    """Whoever is tried is expected to need half of what is left at most."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "known", 50, max_concurrency=10_000)
    house.register("new", spec(slo=Slo(latency_p50_ms=60, latency_p99_ms=90)))
    assert went_to([house.request(timeout_ms=119) for _ in range(300)]) == {"known"}
    assert went_to([house.request(timeout_ms=1000) for _ in range(300)]) == {"known", "new"}


# Properties -------------------------------------------------------------------------

WORKERS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 2.0, 5.0]),  # price
        st.sampled_from([5.0, 40.0, 90.0, 300.0]),  # latency
        st.integers(0, 6),  # answers
        st.integers(0, 2),  # in flight already, of two
        st.booleans(),  # paused
    ),
    min_size=1,
    max_size=12,
)


def fleet(workers: list[tuple[float, float, int, int, bool]], order: list[int], seed: int) -> House:
    """These workers, registered in this order."""
    house = House(seed=seed)
    rule(house, p99_ms=100)
    for number in order:
        price, latency_ms, answers, in_flight, paused = workers[number]
        worker_id = f"w-{number}"
        house.register(worker_id, spec(max_concurrency=2, cost_tokens_per_invocation=price))
        offer = house.offer(worker_id)
        for _ in range(answers):
            house.world.health.answered(offer, latency_ms, house.now)
        offer.in_flight = offer.worker.in_flight = in_flight
        offer.paused = paused
        house.world.registry.refresh(offer.worker)
    return house


@given(WORKERS, st.randoms(use_true_random=False), st.integers(0, 2**32), st.none() | st.sampled_from([0.5, 1.5, 3.0]))
def test_whoever_is_chosen_may_be_and_the_choice_is_the_same_in_any_order(
    workers: list[tuple[float, float, int, int, bool]], shuffle: Random, seed: int, budget: float | None
) -> None:
    """Never one that is shut, full, or dearer than the budget; the same for a seed, whoever came first."""
    there = list(range(len(workers)))
    mixed = there.copy()
    shuffle.shuffle(mixed)
    chosen = []
    for order in (there, mixed):
        house = fleet(workers, order, seed)
        house.world.chance = Random(seed)  # registering rolls dice too
        call = house.request(budget_tokens=budget)
        chosen.append([(worker, call.kind if call.terminal else None) for worker in call.workers or [""]])
        for worker_id in call.workers:
            price, _, _, in_flight, paused = workers[int(worker_id[2:])]
            assert in_flight < 2
            assert not paused
            assert budget is None or price <= budget
    assert chosen[0] == chosen[1]


@given(WORKERS, st.integers(0, 2**32))
def test_nobody_cheaper_would_have_been_in_time(workers: list[tuple[float, float, int, int, bool]], seed: int) -> None:
    """Of those who are known and free; but for the trials, which are counted elsewhere."""
    house = fleet(workers, list(range(len(workers))), seed)
    call = house.request(priority="high")
    known = [
        price
        for price, latency, answers, busy, paused in workers
        if answers >= 5 and latency <= 100 and busy < 2 and not paused
    ]
    if known:
        assert workers[int(call.workers[0][2:])][0] == min(known)


def test_a_worker_that_was_chosen_and_declined_is_not_asked_again_at_once() -> None:
    """Busy is believed for a moment, and the next cheapest is asked."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "cheap", 10, cost_tokens_per_invocation=1)
    proven(house, "dear", 10, cost_tokens_per_invocation=2)
    call = house.request()
    house.answers(call, NotRun("busy"))
    assert call.workers == ["cheap", "dear"]


def test_a_worker_that_registers_again_keeps_what_is_known_of_it() -> None:
    """Another price counts at once."""
    house = House()
    rule(house, p99_ms=100)
    proven(house, "a", 10, cost_tokens_per_invocation=1)
    proven(house, "b", 10, cost_tokens_per_invocation=2)
    house.feed(registration(manifest_of("a", spec(max_concurrency=100, cost_tokens_per_invocation=3))))
    assert house.request().workers == ["b"]
    assert house.offer("a").latency.answers == 5
