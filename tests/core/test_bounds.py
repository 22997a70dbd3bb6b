"""What strangers send costs nobody else anything: guesses, made-up capabilities, budgets, and a controller's end."""

from __future__ import annotations

import pytest
from harness import HELLO, House, controls, of_kind, spec

from controller.core import nearby as nearby_module
from controller.core import registry as registry_module
from controller.core.commands import ReplyJson, ReplyRefusal
from controller.core.events import Closing
from controller.core.nearby import GUESSES_PER_S, Nearby
from subjects.answers import NO_RESPONDERS, Answer, Frame, Result
from subjects.errors import ErrorKind
from subjects.tokens import CapabilityId


def test_only_so_many_guesses_are_made_a_second() -> None:
    """Beyond them a 404 has no guess in it; a second later there are guesses again, and kept ones are free."""
    nearby, known = Nearby(), [CapabilityId("greet:hello")]
    wanted = [CapabilityId(f"greet:hallo{number}") for number in range(60)]
    made = [nearby.guess(name, known, 100.0) for name in wanted]
    assert made.count(("greet:hello",)) == int(GUESSES_PER_S)
    assert nearby.guess(wanted[0], known, 100.0) == ("greet:hello",)
    assert nearby.guess(wanted[-1], known, 100.0) == ()
    assert nearby.guess(wanted[-1], known, 101.0) == ("greet:hello",)


def test_a_guess_compares_a_bounded_number_of_names(monkeypatch: object) -> None:
    """Names that share the verb or the name come first, whatever the size of the fleet."""
    seen: list[int] = []
    real = nearby_module.get_close_matches

    def counting(word: str, among: list[str], **options: float) -> list[str]:
        seen.append(len(among))
        return real(word, among, **options)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(nearby_module, "get_close_matches", counting)  # type: ignore[attr-defined]
    known = [CapabilityId(f"other:thing{number}") for number in range(1000)] + [CapabilityId("greet:hello")]
    assert Nearby().guess(CapabilityId("greet:helo"), known, 1.0)[0] == "greet:hello"
    assert seen == [nearby_module.AMONG]


def test_a_new_capability_changes_what_is_guessed() -> None:
    """A kept guess does not outlive what it was made from."""
    nearby = Nearby()
    assert nearby.guess(CapabilityId("a:helo"), [], 1.0) == ()
    assert nearby.guess(CapabilityId("a:helo"), [CapabilityId("a:hello")], 1.0) == ("a:hello",)


def test_kept_guesses_are_bounded(monkeypatch: object) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(nearby_module, "KEPT", 2)  # type: ignore[attr-defined]
    nearby = Nearby()
    for number in range(5):
        nearby.guess(CapabilityId(f"a:b{number}"), [], 1.0)
    assert list(nearby._kept) == ["a:b3", "a:b4"]


def test_capabilities_that_nobody_offers_are_forgotten_when_there_are_too_many(monkeypatch: object) -> None:
    """The oldest first, and never one that is offered or waited for."""
    monkeypatch.setattr(registry_module, "MAX_CAPABILITIES", 3)  # type: ignore[attr-defined]
    house = House()
    house.register("w-1", spec("stays:here"))
    for number in range(6):
        house.register("w-2", spec(f"made:up{number}"))
    assert list(house.world.registry.groups) == ["stays:here", "made:up4", "made:up5"]
    assert house.request("made:up0").kind is ErrorKind.NO_SUCH_CAPABILITY
    assert house.request("stays:here").dispatches


@pytest.mark.parametrize("load", [{}, {"capacity": 8}])
@pytest.mark.parametrize("answer", [Result(b"done"), NO_RESPONDERS])
def test_an_answer_for_a_forgotten_capability_still_reaches_its_caller(
    monkeypatch: object, load: dict[str, int], answer: Answer
) -> None:
    """Its worker left and its name was pushed out, and what becomes of the work is told all the same."""
    monkeypatch.setattr(registry_module, "MAX_CAPABILITIES", 1)  # type: ignore[attr-defined]
    house = House()
    house.register("w-1", spec("made:up"))
    house.beat("w-1", **load)
    call = house.request("made:up")
    house.deregister("w-1")
    house.register("w-2", spec("other:thing"))
    assert "made:up" not in house.world.registry.groups
    house.answers(call, answer)
    if isinstance(answer, Result):
        assert call.answer.body == b"done"
    else:
        assert call.kind is ErrorKind.NO_WORKER
    assert house.router.in_flight == 0


def test_a_budget_buys_the_workers_it_can_pay_and_else_the_best_offer_is_named() -> None:
    """Never a dearer worker; 402 names the price that would have been enough."""
    house = House()
    house.register("dear", spec(cost_tokens_per_invocation=10.0, max_concurrency=50))
    house.register("cheap", spec(cost_tokens_per_invocation=2.5, max_concurrency=50))
    assert {house.request(budget_tokens=5.0).workers[0] for _ in range(20)} == {"cheap"}
    call = house.request(budget_tokens=0.5)
    assert call.kind is ErrorKind.OVER_BUDGET
    assert "2.5" in call.refusal.detail
    assert {refused.reason for refused in call.refusal.candidates} == {
        "costs 10 tokens, more than may be spent",
        "costs 2.5 tokens, more than may be spent",
    }
    assert house.request(budget_tokens=0.5, version="^9").kind is ErrorKind.NO_MATCH


def test_a_412_names_the_versions_that_are_offered_now() -> None:
    """Not those of before an upgrade, and not all of very many."""
    house = House()
    house.register("w-1", spec(version="1.0.0"))
    house.register("w-1", spec(version="2.0.0"))
    detail = house.request(version="^1").refusal.detail
    assert "2.0.0" in detail
    assert "1.0.0" not in detail
    for number in range(30):
        house.register(f"v-{number}", spec(version=f"3.{number}.0"))
    named = house.request(version="^1").refusal.detail.partition("versions ")[2].partition(")")[0].split(", ")
    assert (named[0], named[9:]) == ("3.29.0", ["3.20.0", "…"])


def test_one_deaf_subject_does_not_take_its_workers_other_capabilities_away() -> None:
    """*No responders* closes the offer, and the worker's next heartbeat opens it again."""
    house = House()
    house.register("w-1", spec("t:a", max_concurrency=5), spec("t:b"))
    deaf = house.request("t:b")
    house.answers(deaf, NO_RESPONDERS)
    assert deaf.kind is ErrorKind.NO_WORKER
    heard = house.request("t:a")
    house.answers(heard, Result(b"x"))
    assert heard.answer.body == b"x"
    assert house.request("t:b").kind is ErrorKind.NO_WORKER
    house.beat("w-1")
    assert house.request("t:b").dispatches


def test_a_worker_that_leaves_and_then_falls_silent_does_not_hold_its_requests() -> None:
    """Lost like any other: elsewhere where that is safe. While it heartbeats, its work goes on."""
    house = House(timeout_ms=60_000)
    house.register("w-1", spec(idempotent=True))
    call = house.request()
    house.deregister("w-1")
    for _ in range(10):
        house.advance(1.0)
        house.beat("w-1", draining=True)
    house.register("w-2", spec(idempotent=True))
    house.beating.add("w-2")
    assert call.workers == ["w-1"]
    house.advance(7.0)
    assert call.workers == ["w-1", "w-2"]


def test_a_worker_that_left_is_not_waited_for_because_another_left_under_its_id() -> None:
    """A second process left with work of its own: the first one's silence ends its requests all the same."""
    house = House(timeout_ms=100_000)
    calls = []
    for instance in ("one", "two"):
        house.register("w-1", spec(HELLO), instance=instance)
        calls.append(house.request())
        house.deregister("w-1", instance=instance)
    house.advance(20)
    assert [call.kind for call in calls] == [ErrorKind.WORKER_LOST] * 2
    assert house.router.in_flight == 0


def test_a_worker_that_left_is_not_watched_once_its_work_is_back() -> None:
    """Nothing of it stays."""
    house = House(timeout_ms=60_000)
    house.register("w-1")
    call = house.request()
    house.deregister("w-1")
    house.answers(call)
    house.advance(30)
    assert call.answer
    assert not house.router.presence._departed
    assert len(house.router.timers) == 0


def test_a_closing_controller_ends_everything_it_accepted() -> None:
    """Whoever waits, runs or streams gets the one reply, with what is known, and workers are told to stop."""
    house = House()
    house.register("w-1", spec(streaming=True))
    running = house.request()
    waiting = house.request()
    house.answers(running, Frame("chunk", 0, b"a"))
    given = house.feed(Closing())
    assert (running.kind, running.refusal.maybe_executed) == (ErrorKind.OVERLOADED, True)
    assert (running.replies[-1].frame, running.replies[-1].seq) == ("end", 1)
    assert (waiting.kind, waiting.refusal.maybe_executed) == (ErrorKind.OVERLOADED, False)
    assert controls(given) == [("w-1", "cancel")]
    assert house.router.live == 0


def test_a_cancel_that_wants_no_answer_cancels_all_the_same() -> None:
    """Nobody is answered, and the request is cancelled."""
    house = House()
    house.register("w-1")
    call = house.request(request_id="r")
    given = house.cancel("r", reply="")
    given += house.cancel("r", reply="", last=True)
    house.advance(2)
    assert call.kind is ErrorKind.CANCELLED
    assert of_kind(given, ReplyJson) == []
    assert of_kind(house.log, ReplyRefusal) == []


def test_equal_offers_are_matched_once_when_a_pool_is_made(monkeypatch: object) -> None:
    """A new combination of range and constraints costs one match for each kind of worker, not for each worker."""
    house = House()
    for number in range(30):
        house.register(f"w-{number}", spec(constraints={"gpu_count": number % 2}))
    group, matched = house.world.registry.groups[HELLO], []

    def mismatch(*asked: object) -> None:
        matched.append(asked)

    monkeypatch.setattr("controller.core.pools.mismatch", mismatch)  # type: ignore[attr-defined]
    assert len(group.pool("^1", '{"gpu_count":1}').members) == 30
    assert len(matched) == 2
