"""A streamed answer is kept whole, for whoever asks again and for whoever asks for a job's result."""

from __future__ import annotations

import pytest
from harness import Call, House, spec

from controller.core.world import Limits
from subjects.answers import Fault, Frame

PROGRESS, A, B = Frame("progress", 0, b"50"), Frame("chunk", 1, b"a"), Frame("chunk", 2, b"b")
END = Frame("end", 3, b"z")


def house(**limits: int) -> House:
    """One whose only worker streams, and may be asked again."""
    one = House(timeout_ms=10_000, limits=Limits(**limits))  # type: ignore[arg-type]  # all are numbers
    one.register("w-1", spec(streaming=True, idempotent=True))
    one.register("w-2", spec(streaming=True, idempotent=True))
    one.beating = {"w-1", "w-2"}
    return one


def streamed(one: House, call: Call, *frames: Frame) -> None:
    """The worker sends these."""
    for frame in frames:
        one.answers(call, frame)


@pytest.mark.parametrize(
    ("frames", "whole"),
    [
        ((PROGRESS, Frame("end", 1, b"z")), b"z"),
        ((PROGRESS, A, B, END), b"abz"),
        ((Frame("end", 0, b"z"),), b"z"),
    ],
)
def test_progress_is_no_part_of_what_is_kept(frames: tuple[Frame, ...], whole: bytes) -> None:
    """However much of it there was, and whenever."""
    one = house()
    streamed(one, one.request(idempotency_key="k"), *frames)
    again = one.request(idempotency_key="k").answer
    assert (again.body, again.error) == (whole, None)


def test_a_job_that_streams_is_forwarded_to_nobody() -> None:
    """Its result is the whole of it."""
    one = house()
    one.submit(idempotency_key="k")
    call = one.deliver(next(iter(one.stores.jobs.values())))
    streamed(one, call, PROGRESS, A, B, END)
    assert not call.replies
    result = one.result(next(iter(one.stores.last)))
    assert (result.answer.body, result.answer.meta.job_status) == (b"abz", "done")


def test_of_an_attempt_that_failed_nothing_is_kept() -> None:
    """Of a job nobody saw a piece yet, so that it is tried again, from the start."""
    one = house()
    one.submit(idempotency_key="k")
    call = one.deliver(next(iter(one.stores.jobs.values())))
    streamed(one, call, PROGRESS, A, Frame("end", 2, fault=Fault(503, "not now", retryable=True)))
    assert len(call.dispatches) == 2
    streamed(one, call, Frame("chunk", 0, b"x"), Frame("end", 1, b"y"))
    assert one.result(next(iter(one.stores.last))).answer.body == b"xy"


def test_a_job_whose_stream_grows_too_long_says_so() -> None:
    """And keeps no part of it: half an answer is none."""
    one = house(max_kept_bytes=1)
    one.submit(idempotency_key="k")
    call = one.deliver(next(iter(one.stores.jobs.values())))
    streamed(one, call, PROGRESS, A, B, Frame("chunk", 3, b"c"), Frame("end", 4))
    answer = one.result(next(iter(one.stores.last))).answer
    assert answer.error is not None
    assert answer.error.status == 413
