"""What is over is freed at once: nothing of it waits for Python's collector, which would stop every request to look."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from harness import BUSY, DONE, HELLO, House, spec

from controller.core.events import Closing
from subjects.answers import Fault, Frame, NoResponders


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Whatever is not freed by itself is still there at the end."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _answered(house: House) -> None:
    house.answers(house.request(), DONE)


def _streamed(house: House) -> None:
    call = house.request()
    house.answers(call, Frame("chunk", 0, b"1"))
    house.answers(call, Frame("end", 1))


def _failed_over(house: House) -> None:
    call = house.request()
    house.answers(call, BUSY)
    house.answers(call, Fault(503, "no", retryable=True))
    house.answers(call, DONE)
    house.answers(house.request(), NoResponders())
    house.advance(20)


def _timed_out(house: House) -> None:
    call = house.request()
    house.advance(1.1)
    house.answers(call, DONE)
    house.request()
    house.advance(20)


def _cancelled(house: House) -> None:
    house.request(request_id="mine")
    house.cancel("mine")
    house.advance(20)


def _waited(house: House) -> None:
    calls = [house.request() for _ in range(8)]
    for call in calls:
        if call.dispatches:
            house.answers(call, DONE)
    house.advance(20)


def _closed(house: House) -> None:
    house.request()
    house.feed(Closing())
    house.advance(20)


def _left(house: House) -> None:
    house.register("w-9")
    house.answers(house.request(), DONE)
    house.deregister("w-9")
    house.advance(10)


@pytest.mark.parametrize(
    "happens", [_answered, _streamed, _failed_over, _timed_out, _cancelled, _waited, _closed, _left]
)
@pytest.mark.usefixtures("no_collector")
def test_a_request_leaves_nothing_to_collect(happens: Callable[[House], None]) -> None:
    """Request, life, dispatches and frames are gone when it has ended, however it ended; so is a worker that left."""
    house = House()
    house.beating = {"w-1", "w-2", "w-3"}
    for worker_id in sorted(house.beating):
        house.register(worker_id, spec(HELLO, streaming=True, idempotent=True))
    _answered(house)
    gc.collect()
    happens(house)
    assert house.router.live == 0
    assert house.router.in_flight == 0
    house.calls.clear()
    house.log.clear()
    house._replied = None
    assert gc.collect() == 0
