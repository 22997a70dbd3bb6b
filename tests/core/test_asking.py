"""Whoever waits for a key has asked, after the last thing that may have used the question up, to be told of its end."""

from __future__ import annotations

from typing import Any

import pytest
from harness import DONE, HELLO, Call, House, spec
from msgspec.structs import replace
from stores import Stores

from controller.core.commands import Command
from controller.core.events import TICK, Event
from controller.core.router import SWEEP
from controller.core.stored import ClaimNoticed, ClaimRead, ReadClaim, UnwatchClaim, WatchClaim, WriteClaim
from subjects.claims import StoredAnswer, claim_key
from subjects.errors import ErrorKind

KEY = claim_key("ann", HELLO, "k")


class Wire(House):
    """A controller, and what it sent of keys, with the notices in between."""

    def __init__(self, **fields: Any) -> None:
        self.said: list[object] = []
        super().__init__(**fields)

    def _perform(self, command: Command) -> Event | None:
        self.said.append(command)
        return super()._perform(command)

    @property
    def asked(self) -> bool:
        """Whether the others know that it waits: a reading asks while the key is watched, a notice uses that up."""
        asked = watched = False
        for said in self.said:
            match said:
                case WatchClaim():
                    watched = True
                case UnwatchClaim():
                    asked = watched = False
                case ReadClaim():
                    asked = watched
                case ClaimNoticed():
                    asked = False
        return asked


def pair() -> tuple[House, Wire]:
    """Two controllers that share a store and a worker; the second one is looked at."""
    stores = Stores()
    one, two = House(timeout_ms=100_000, stores=stores), Wire(timeout_ms=100_000, stores=stores, name="c-2", seed=2)
    for each in (one, two):
        each.register("w-1", spec(max_concurrency=4))
        each.beating = {"w-1"}
    return one, two


def notice(two: Wire) -> None:
    """Somebody tells it that nobody holds the key any more."""
    two.said.append(ClaimNoticed(KEY))
    two.feed(ClaimNoticed(KEY))


def ends(one: House, first: Call, two: Wire, second: Call) -> None:
    """The first one's end is told if that was asked for, and then the second one has its answer at once."""
    assert two.asked
    one.answers(first)
    notice(two)
    assert second.answer.body == DONE.body


def test_who_attaches_while_somebody_reads_asks_all_the_same() -> None:
    """That reading was sent before anybody wanted to be told."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    two.answers_claims = False
    stranger = two.result(KEY, caller="bob")
    second = two.request(idempotency_key="k")
    two.unanswered.sort(key=lambda command: isinstance(command, ReadClaim))
    two.answers_claims = True
    two.store_answers()
    assert stranger.kind is ErrorKind.NO_SUCH_JOB
    ends(one, first, two, second)


def test_a_notice_that_comes_while_something_is_written_is_followed_by_another_question() -> None:
    """Somebody let the key go, took it, let it go and took it again, while this one tried."""
    one, two = pair()
    one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    taken = one.stores.record(KEY)
    one.stores._store(KEY, None)
    two.answers_claims = False
    notice(two)
    two.unanswered.clear()
    two.feed(ClaimRead(KEY, None, one.stores.seq))
    one.stores._store(KEY, taken)
    assert [type(command) for command in two.unanswered] == [WriteClaim]
    notice(two)
    two.answers_claims = True
    two.store_answers()
    assert two.asked
    one.stores._store(KEY, replace(taken, state="done", answer=StoredAnswer("w-1", "1.0.0", 1, b"42")))
    notice(two)
    assert second.answer.body == b"42"


def test_a_notice_that_was_wrong_is_followed_by_another_question() -> None:
    """Whoever sent it may be a stranger, or late."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    notice(two)
    assert not second.replies
    ends(one, first, two, second)


def test_the_second_who_waits_needs_no_question_of_its_own() -> None:
    """The first one's still holds."""
    one, two = pair()
    first = one.request(idempotency_key="k")
    second = two.request(idempotency_key="k")
    before = sum(isinstance(command, ReadClaim) for command in two.said)
    third = two.request(idempotency_key="k")
    assert sum(isinstance(command, ReadClaim) for command in two.said) == before
    ends(one, first, two, second)
    assert third.answer.body == DONE.body


def test_leases_are_renewed_also_after_something_that_was_due_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails costs itself, and no other's claim."""
    one = House(timeout_ms=100_000)
    one.register("w-1", spec(max_concurrency=4))
    one.beating = {"w-1"}
    one.request(idempotency_key="k")
    short = one.request(timeout_ms=500)

    def fails(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(one.router, "_time_out", fails)
    one.now += 2.0
    with pytest.raises(RuntimeError):
        one.router.handle(TICK, one.now)
    assert not short.replies
    one.feed(TICK)
    assert SWEEP in one.router.timers
    one.advance(20.0)
    assert one.router.claims[KEY].lapsed(one.now) is False
    assert one.stores.states.count("dispatching") > 1
