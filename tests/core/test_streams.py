"""Streamed answers: frames pass in order, one end, and no failover once a frame was passed on."""

from __future__ import annotations

import pytest
from harness import BUSY, DRAINING, TOO_LATE, Call, House, controls, spec

from controller.core.model import Mismatch
from controller.core.world import Limits
from subjects.answers import NO_RESPONDERS, Answer, Fault, Frame, Garbage, Result
from subjects.errors import ErrorKind

CHUNK = Frame("chunk", 0, b"a")
RETRYABLE = Fault(500, "it broke", retryable=True)


def streaming(**fields: object) -> tuple[House, Call]:
    """A request at one of two streaming workers."""
    house = House()
    for worker_id in ("w-1", "w-2"):
        house.register(worker_id, spec(streaming=True, idempotent=True, **fields))
    return house, house.request()


def ended_by_one_error(call: Call, kind: ErrorKind) -> None:
    """The stream's last frame is the error, and there is no second."""
    assert call.kind is kind
    last = call.replies[-1]
    assert (last.frame, last.seq) == ("end", len(call.replies) - 1)
    assert len(call.dispatches) == 1


def test_frames_pass_as_they_come_and_the_end_ends_it() -> None:
    """Numbers, kinds, bodies and header lines are the worker's."""
    house, call = streaming(cost_tokens_per_invocation=3.0)
    house.answers(call, Frame("chunk", 0, b"a", "X-Own: 1\r\n", "text/plain"))
    house.answers(call, Frame("progress", 1, b"50"))
    house.answers(call, Frame("end", 2, b"z"))
    assert call.frames == [("chunk", 0, b"a"), ("progress", 1, b"50"), ("end", 2, b"z")]
    assert (call.replies[0].passed, call.replies[0].content_type) == ("X-Own: 1\r\n", "text/plain")
    assert [reply.meta.cost_tokens for reply in call.replies] == [0.0, 0.0, 3.0]
    assert house.router.in_flight == 0
    assert call.record.outcome == "answered"


def test_a_whole_answer_needs_no_frames() -> None:
    """A streaming worker may answer at once."""
    house, call = streaming()
    house.answers(call, Result(b"all"))
    assert (call.answer.body, call.answer.frame) == (b"all", "")


def test_a_whole_answer_after_frames_breaks_the_contract() -> None:
    """A stream ends with an ``end`` frame; what comes instead of one is nobody's answer."""
    house, call = streaming()
    house.answers(call, CHUNK)
    house.answers(call, Result(b"all"))
    ended_by_one_error(call, ErrorKind.WORKER_PROTOCOL)


def test_every_reply_of_a_request_names_one_span() -> None:
    """The span is the controller's, one for the request, in the caller's trace."""
    house, call = streaming()
    for frame in (CHUNK, Frame("chunk", 1), Frame("end", 2)):
        house.answers(call, frame)
    assert len({reply.meta.traceparent for reply in call.replies}) == 1


@pytest.mark.parametrize("answer", [Result(b"xxxx"), Frame("chunk", 0, b"xxxx"), Result(b"x", "A: bc\r\n")])
def test_what_one_message_does_not_carry_ends_the_request_once(answer: Answer) -> None:
    """An answer or frame that NATS would not take is the worker's fault, and the caller hears of it once."""
    house, call = streaming()
    house.world.max_answer_bytes = 3
    house.answers(call, answer)
    assert call.kind is ErrorKind.WORKER_PROTOCOL
    assert len(call.replies) == 1


@pytest.mark.parametrize("frame", [Frame("chunk", 1, b"b"), Frame("progress", 7), Frame("end", 2)])
def test_a_gap_at_the_beginning_breaks_the_contract(frame: Frame) -> None:
    """502; the worker is told to stop, unless that was its end."""
    house, call = streaming()
    commands = house.answers(call, frame)
    assert call.kind is ErrorKind.WORKER_PROTOCOL
    assert "came where 0 was due" in call.refusal.detail
    assert call.replies[0].frame == "", "nothing was passed on: this is a plain refusal"
    expected = [] if frame.kind == "end" else [(call.workers[0], "cancel")]
    assert controls(commands) == expected
    assert len(call.dispatches) == 1


@pytest.mark.parametrize("seq", [0, 2])
def test_a_gap_or_a_repetition_later_ends_the_stream_with_an_error(seq: int) -> None:
    """Exactly one end frame, and nothing after it."""
    house, call = streaming()
    house.answers(call, CHUNK)
    house.answers(call, Frame("chunk", seq, b"b"))
    ended_by_one_error(call, ErrorKind.WORKER_PROTOCOL)
    house.answers(call, Frame("chunk", 1, b"b"))
    house.answers(call, Frame("end", 2, b"b"))
    assert len(call.replies) == 2
    assert house.router.in_flight == 0, "its end frees the worker, though nobody waits for it"
    assert house.router.late_answers == 1


def test_frames_of_a_capability_that_does_not_stream_break_the_contract() -> None:
    """502."""
    house = House()
    house.register("w-1")
    call = house.request()
    house.answers(call, CHUNK)
    assert call.kind is ErrorKind.WORKER_PROTOCOL
    assert "did not declare streaming" in call.refusal.detail


def test_a_frame_over_the_worker_s_own_limit_breaks_the_contract() -> None:
    """``max_output_bytes`` bounds each frame."""
    house, call = streaming(constraints={"max_output_bytes": 4})
    house.answers(call, Frame("chunk", 0, b"1234"))
    house.answers(call, Frame("chunk", 1, b"12345"))
    ended_by_one_error(call, ErrorKind.WORKER_PROTOCOL)


@pytest.mark.parametrize(
    "answer",
    [RETRYABLE, Frame("end", 1, fault=RETRYABLE), Garbage("nonsense"), NO_RESPONDERS, BUSY, DRAINING, TOO_LATE],
)
def test_after_a_forwarded_frame_an_error_ends_the_stream_and_nobody_else_is_asked(answer: Answer) -> None:
    """Work that sent a frame has run, whatever its worker says afterwards."""
    house, call = streaming()
    house.answers(call, CHUNK)
    house.answers(call, answer)
    fault = isinstance(answer, Fault | Frame)
    ended_by_one_error(call, ErrorKind.WORKER_ERROR if fault else ErrorKind.WORKER_PROTOCOL)
    assert call.refusal.maybe_executed is True


def test_after_a_forwarded_frame_a_lost_worker_ends_the_stream() -> None:
    """503 as the one end frame."""
    house = House(timeout_ms=60_000)
    house.register("w-1", spec(streaming=True, idempotent=True))
    call = house.request()
    house.answers(call, CHUNK)
    house.register("w-2", spec(streaming=True, idempotent=True))
    house.beating = {"w-2"}
    house.advance(8)
    ended_by_one_error(call, ErrorKind.WORKER_LOST)


def test_after_a_forwarded_frame_the_deadline_ends_the_stream() -> None:
    """504 as the one end frame, and the worker is told."""
    house, call = streaming()
    house.answers(call, CHUNK)
    house.advance(1.1)
    ended_by_one_error(call, ErrorKind.DEADLINE)
    assert (call.workers[0], "cancel") in controls(house.log)


def test_before_the_first_frame_an_error_is_tried_elsewhere() -> None:
    """An ``end`` with an error that comes first is an error like any other."""
    house, call = streaming()
    house.answers(call, Frame("end", 0, fault=RETRYABLE))
    assert len(set(call.workers)) == 2
    house.answers(call, Frame("end", 0, b"all"))
    assert (call.answer.frame, call.answer.seq, call.answer.body) == ("end", 0, b"all")


def test_an_end_with_an_error_counts_as_one_attempt() -> None:
    """As many workers are tried as with a plain error."""
    house = House(limits=Limits(max_attempts=3))
    for number in range(5):
        house.register(f"w-{number}", spec(streaming=True, idempotent=True))
    call = house.request()
    while not call.terminal:
        house.answers(call, Frame("end", 0, fault=RETRYABLE))
    assert len(call.dispatches) == 3


def test_the_final_body_of_a_stream_has_to_fit_the_output_schema_too() -> None:
    """What ends a stream is checked like a whole answer; an empty end has nothing to check."""
    house, call = streaming(output_schema={"type": "object"})
    house.world.check = lambda schema, body: None if body == b"{}" else Mismatch(True, "", "it is no object")
    house.answers(call, CHUNK)
    house.answers(call, Frame("end", 1, b"[]"))
    ended_by_one_error(call, ErrorKind.WORKER_PROTOCOL)
    for final in (b"", b"{}"):
        other = house.request()
        house.answers(other, Frame("end", 0, final))
        assert other.answer.body == final
