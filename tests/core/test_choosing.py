"""Who is chosen: fit by version and constraints, then the better of two by what is known of their latency and load."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest
from harness import HELLO, House, spec
from hypothesis import given
from hypothesis import strategies as st

from controller.core import pools as pools_module
from controller.core.events import RulesChanged
from controller.core.fleet import Offer
from controller.core.latency import ESTIMATE_DECAY_S, UNKNOWN_LATENCY_MS
from controller.core.matching import mismatch
from controller.core.objectives import Objective, Rules
from controller.core.selection import SUSPECT_FACTOR, choose, explain, score_ms
from simulation.books import check_all
from subjects.answers import Fault, NotRun
from subjects.headers import Block
from subjects.manifests import Slo
from subjects.requests import parse_request_headers


def measured(house: House, worker_id: str, latency_ms: float, **fields: object) -> Offer:
    """A worker that has answered once, after this long."""
    house.register(worker_id, spec(max_concurrency=100, **fields))
    offer = house.offer(worker_id)
    offer.latency.observe(latency_ms, house.now)
    return offer


def drawn(house: House, count: int = 400) -> Counter[str]:
    """How often each worker is drawn, with nothing in flight."""
    pool = house.world.registry.groups[HELLO].pool(None, None)
    chance, found = Random(3), Counter()
    for _ in range(count):
        offer = choose(pool, 1e9, (), house.now, chance)
        assert offer is not None
        found[offer.worker.id] += 1
    return found


# Fitting ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"gpu_count": 2}, None),
        ({"gpu_count": 3}, "gpu_count is 2, less than 3"),
        ({"gpu_count": 1.5}, None),
        ({"zone": "eu"}, None),
        ({"zone": "us"}, "zone is 'eu', not 'us'"),
        ({"spot": False}, None),
        ({"spot": True}, "spot is False, not True"),
        ({"spot": 0}, "spot is False, not 0"),
        ({"gpu_count": True}, "gpu_count is 2, not True"),
        ({"gpu_count": "2"}, "gpu_count is 2, not '2'"),
        ({"zone": 1}, "zone is 'eu', which is no number"),
        ({"labels": "x"}, "labels is ['a'], not 'x'"),
        ({"memory_gb": 1}, "memory_gb is not declared"),
        ({"runtime": "python3.11"}, None),
        ({"runtime": "go"}, "runtime is 'python3.11', not 'go'"),
        ({"env_profile": "gpu"}, "env_profile is not declared"),
        ({"gpu_count": 1, "zone": "us"}, "zone is 'eu', not 'us'"),
    ],
)
def test_constraints_mean_at_least_for_numbers_and_equal_for_the_rest(
    wanted: dict[str, object], reason: str | None
) -> None:
    """A key that is not declared does not match."""
    declared = spec(runtime="python3.11", constraints={"gpu_count": 2, "zone": "eu", "spot": False, "labels": ["a"]})
    headers = parse_request_headers(Block({"crank-constraints": msgspec.json.encode(wanted).decode()}, "", 0))
    assert mismatch(declared, None, headers.constraints) == reason  # type: ignore[union-attr]


def test_a_worker_without_constraints_fits_none() -> None:
    """Nothing declared is nothing promised."""
    assert mismatch(spec(), None, '{"gpu":1}') == "gpu is not declared"


def test_versions_in_range_are_chosen_from() -> None:
    """The caller's range decides; pre-releases only where no range is named."""
    house = House()
    for version in ("1.0.0", "1.2.0", "2.0.0", "3.0.0-rc.1"):
        house.register(f"v{version.replace('.', '_')}", spec(version=version, max_concurrency=100))
    found = {wanted: set() for wanted in ("^1", ">=1.2,<3", "3", None)}
    for wanted, versions in found.items():
        for _ in range(40):
            call = house.request(version=wanted)
            versions.update(dispatch.version for dispatch in call.dispatches)
    assert found == {
        "^1": {"1.0.0", "1.2.0"},
        ">=1.2,<3": {"1.2.0", "2.0.0"},
        "3": set(),
        None: {"1.0.0", "1.2.0", "2.0.0", "3.0.0-rc.1"},
    }


# Two choices ------------------------------------------------------------------------


def test_the_faster_of_two_is_preferred() -> None:
    """A worker that is ten times slower is taken only when it is drawn twice: once in four."""
    house = House()
    measured(house, "fast", 10)
    measured(house, "slow", 100)
    assert drawn(house)["slow"] == pytest.approx(100, rel=0.3)


def test_the_less_loaded_of_two_is_preferred() -> None:
    """By what this router gave them, as a share of what they can take."""
    house = House()
    measured(house, "idle", 10).in_flight = 0
    measured(house, "loaded", 10).in_flight = 50
    assert drawn(house)["loaded"] == pytest.approx(100, rel=0.3)


def test_equal_workers_share_the_work() -> None:
    """Chance spreads what nothing else decides."""
    house = House()
    for number in range(4):
        measured(house, f"w-{number}", 10)
    assert min(drawn(house).values()) > 60


def test_one_peak_sets_nobody_back_whom_an_objective_judges() -> None:
    """Else equals would not share the work evenly; without one, the peak is all that is known of what may come."""
    for objective in (None, Objective(HELLO, p99_ms=500)):
        house = House()
        house.feed(RulesChanged(Rules({HELLO: objective} if objective else {})))
        for name in ("w-1", "w-2"):
            house.register(name, spec(max_concurrency=100))
            for _ in range(50):
                house.world.health.answered(house.offer(name), 10, house.now)
        house.world.health.answered(house.offer("w-1"), 11, house.now)
        house.world.health.answered(house.offer("w-2"), 12, house.now)
        house.offer("w-1").in_flight = 4
        assert drawn(house)["w-1"] == pytest.approx(300 if objective is None else 100, rel=0.2)


def test_a_suspect_counts_as_four_times_slower() -> None:
    """It may be about to go."""
    house = House()
    offer = measured(house, "w-1", 10)
    fine = score_ms(offer, house.now)
    house.advance(4.6)
    assert score_ms(offer, house.now) == pytest.approx(SUSPECT_FACTOR * fine)


def test_a_worker_that_nobody_measured_is_judged_by_what_it_declares() -> None:
    """Or as quick, if it declares nothing, so that it is tried soon."""
    house = House()
    house.register("declares", spec(slo=Slo(latency_p50_ms=70)))
    house.register("silent", spec())
    assert house.offer("declares").latency.expected_ms(house.now) == 70
    assert house.offer("silent").latency.expected_ms(house.now) == UNKNOWN_LATENCY_MS


def test_excluded_workers_are_not_drawn() -> None:
    """One that was tried for a request is out for that request, however many draws it takes to find another."""
    house = House()
    for number in range(30):
        measured(house, f"w-{number}", 10)
    pool = house.world.registry.groups[HELLO].pool(None, None)
    tried = {f"w-{number}" for number in range(29)}
    for seed in range(50):
        offer = choose(pool, 1e9, tried, house.now, Random(seed))
        assert offer is not None
        assert offer.worker.id == "w-29"
    assert choose(pool, 1e9, tried | {"w-29"}, house.now, Random(1)) is None


def test_the_explanation_tells_who_was_tried() -> None:
    """For this request; others may still choose it."""
    house = House()
    house.register("w-1")
    house.register("w-2")
    group = house.world.registry.groups[HELLO]
    first, second = explain(group, group.pool(None, None), {"w-1"}, house.now, 1e9)
    assert (first.worker_id, first.left_out) == ("w-2", None)
    assert (second.worker_id, second.left_out) == ("w-1", "was tried for this request")


# The estimate -----------------------------------------------------------------------


def test_a_peak_counts_at_once_and_is_forgotten_by_and_by() -> None:
    """After the decay time two thirds of it are forgotten."""
    house = House()
    offer = measured(house, "w-1", 10)
    offer.latency.observe(1000, house.now)
    assert offer.latency.expected_ms(house.now) == 1000
    settled = offer.latency.mean_ms
    later = offer.latency.expected_ms(house.now + ESTIMATE_DECAY_S)
    assert later == pytest.approx(settled + (1000 - settled) / 2.71828, rel=0.01)
    assert offer.latency.expected_ms(house.now + 100 * ESTIMATE_DECAY_S) == pytest.approx(settled)


def test_answers_that_are_quick_again_bring_a_worker_back() -> None:
    """The more time passes between them the sooner."""
    house = House()
    offer = measured(house, "w-1", 10)
    offer.latency.observe(1000, house.now)
    now = house.now
    for _ in range(30):
        now += 1.0
        offer.latency.observe(10, now)
    assert offer.latency.expected_ms(now) < 100


def test_a_slow_worker_gets_little_until_its_peak_is_forgotten() -> None:
    """One bad answer sends the work elsewhere, and not for ever."""
    house = House()
    for worker_id in ("w-1", "w-2"):
        house.register(worker_id, spec(max_concurrency=100))
        house.offer(worker_id).latency.observe(10, house.now)
    house.offer("w-1").latency.observe(2000, house.now)
    assert drawn(house)["w-1"] == pytest.approx(100, rel=0.3)
    house.offer("w-2").latency.observe(60, house.now)
    house.now += 60
    assert drawn(house)["w-1"] > 50


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 60)), min_size=1, max_size=50))
def test_the_estimate_stays_within_what_was_seen(observed: list[tuple[float, float]]) -> None:
    """Never below the least, never above the most."""
    house = House()
    house.register("w-1")
    offer, now = house.offer("w-1"), house.now
    for latency_ms, seconds in observed:
        now += seconds
        offer.latency.observe(latency_ms, now)
    latencies = [latency_ms for latency_ms, _ in observed]
    assert min(latencies) - 1e-6 <= offer.latency.expected_ms(now) <= max(latencies) + 1e-6
    assert offer.latency.expected_ms(now + 1e6) <= max(latencies) + 1e-6


def test_what_did_not_run_says_nothing_about_latency() -> None:
    """A worker that is quick to say *busy* is not quick."""
    house = House()
    house.register("w-1", spec(max_concurrency=3))
    call = house.request()
    house.answers(call, NotRun("deadline"))
    assert not house.offer("w-1").latency.answers
    failing = house.request()
    house.advance(0.05)
    house.answers(failing, Fault(500, "x"))
    assert house.offer("w-1").latency.answers


# Pools ------------------------------------------------------------------------------


def test_a_combination_that_is_used_again_is_not_matched_again() -> None:
    """The pool stays, and follows its workers."""
    house = House()
    house.register("w-1", spec(max_concurrency=9))
    house.request(version="^1")
    group = house.world.registry.groups[HELLO]
    pool = group.pool("^1", None)
    house.register("w-2", spec(version="1.5.0"))
    house.register("w-3", spec(version="2.0.0"))
    assert group.pool("^1", None) is pool
    assert {offer.worker.id for offer in pool.members} == {"w-1", "w-2"}
    assert pool.newest().spec.version == "1.5.0"  # type: ignore[union-attr]
    house.deregister("w-2")
    assert pool.newest().spec.version == "1.0.0"  # type: ignore[union-attr]


def test_combinations_are_bounded_and_those_with_waiting_requests_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers choose them freely; the oldest makes room."""
    monkeypatch.setattr(pools_module, "MAX_POOLS", 4)
    house = House(timeout_ms=60_000)
    house.register("w-1")
    first = house.request()
    waiting = house.request(version=">=0.1")
    for minor in range(20):
        house.request(version=f"^7.{minor}")
    group = house.world.registry.groups[HELLO]
    assert len(group.pools) <= 4
    check_all(house.router)
    house.answers(first)
    assert waiting.dispatches


def test_when_everyone_waits_more_combinations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's place in a queue is lost."""
    monkeypatch.setattr(pools_module, "MAX_POOLS", 2)
    house = House(timeout_ms=60_000)
    house.register("w-1")
    running = house.request()
    waiting = [house.request(version=f">=0.{minor}") for minor in range(6)]
    check_all(house.router)
    for _ in range(6):
        house.answers(running)
        running = next(call for call in waiting if call.dispatches and not call.terminal)
    house.answers(running)
    assert all(call.answer for call in waiting)


def test_adding_and_dropping_an_offer_twice_is_adding_and_dropping_it_once() -> None:
    """A pool is a set."""
    house = House()
    house.register("w-1")
    pool = house.world.registry.groups[HELLO].pool(None, None)
    offer = house.offer("w-1")
    pool.add(offer)
    assert (len(pool.members), len(pool.free), pool.eligible) == (1, 1, 1)
    pool.discard(offer)
    pool.discard(offer)
    assert (len(pool.members), len(pool.free), pool.eligible) == (0, 0, 0)
    assert pool.newest() is None


def test_an_error_that_comes_quickly_does_not_make_a_worker_look_fast() -> None:
    """A worker that fails in a millisecond keeps the latency of its work; one that fails slowly is slow."""
    house = House()
    offer = measured(house, "w-1", 100)
    for wait_s, expected in ((0.001, 100), (0.5, 500)):
        call = house.request()
        house.advance(wait_s)
        house.answers(call, Fault(500, "it broke"))
        assert offer.latency.expected_ms(house.now) == pytest.approx(expected, rel=0.05)
