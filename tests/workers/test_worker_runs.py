"""A dispatch from arrival to its one answer: turned away, cancelled, late, streamed, too large, or garbage."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator

import pytest
from worker_peer import Peer, Serve, until

from crank import Context, PermanentError, RetryableError, Worker
from crank.natsd import NatsServer
from subjects.answers import Fault, Frame, NotRun, Result
from subjects.tokens import CapabilityId, WorkerId
from workers import dispatching
from workers.runs import Run


class Gate:
    """Handlers that wait to be let through, and say how they ended."""

    def __init__(self) -> None:
        self.started = 0
        self.open = asyncio.Event()
        self.open_thread = threading.Event()
        self.ended: list[str] = []

    async def wait(self, ctx: Context) -> str:
        self.started += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return "done"

    def wait_plain(self, ctx: Context) -> str:
        self.started += 1
        while not ctx.cancelled and not self.open_thread.wait(0.005):
            pass
        self.ended.append("cancelled" if ctx.cancelled else "done")
        return "done"


def _gated(max_concurrency: int = 1) -> tuple[Worker, Gate]:
    worker, gate = Worker("t", max_concurrency=max_concurrency), Gate()
    worker.capability("a:async")(gate.wait)
    worker.capability("a:plain")(gate.wait_plain)
    return worker, gate


@pytest.mark.parametrize("capability", ["a:async", "a:plain"])
async def test_over_its_concurrency_a_capability_says_busy_at_once(peer: Peer, serve: Serve, capability: str) -> None:
    """Each capability counts for itself, and a place is free again after the answer."""
    worker, gate = _gated(max_concurrency=2)
    await serve(worker)
    running = [await peer.send(capability) for _ in range(2)]
    assert await peer.ask(capability) == NotRun("busy")
    await until(lambda: gate.started == 2)
    await until(lambda: peer.heartbeats and peer.heartbeats[-1].in_flight == 2)
    assert peer.heartbeats[-1].capacity == 4
    gate.open.set()
    gate.open_thread.set()
    for exchange in running:
        assert await exchange.next() == Result(b"done", "", "text/plain; charset=utf-8")
    assert isinstance(await peer.ask(capability), Result)
    await until(lambda: peer.heartbeats[-1].in_flight == 0)


async def test_without_time_left_nothing_runs(peer: Peer, serve: Serve) -> None:
    """A dispatch whose time is up is turned away as such."""
    worker, gate = _gated()
    await serve(worker)
    assert await peer.ask("a:async", timeout_ms=0) == NotRun("deadline")
    assert gate.started == 0


@pytest.mark.parametrize("capability", ["a:async", "a:plain"])
async def test_a_handler_that_runs_out_of_time_is_stopped(peer: Peer, serve: Serve, capability: str) -> None:
    """Also when no controller cancels it: an async handler is cancelled, a plain one is told, and answers no more."""
    worker, gate = _gated()
    await serve(worker)
    exchange = await peer.send(capability, timeout_ms=40, key=None)
    fault = await exchange.next()
    assert isinstance(fault, Fault)
    assert (fault.code, "40 ms" in fault.message) == (504, True)
    await until(lambda: gate.ended == ["cancelled"])
    gate.open.set()
    gate.open_thread.set()
    assert isinstance(await peer.ask(capability), Result)
    assert exchange.messages.empty()


@pytest.mark.parametrize("capability", ["a:async", "a:plain"])
async def test_work_under_a_key_goes_on_past_its_deadline(peer: Peer, serve: Serve, capability: str) -> None:
    """Its answer is worth having for whoever asks again; the controller follows it for a while, and may cancel it."""
    worker, gate = _gated()
    await serve(worker)
    exchange = await peer.send(capability, timeout_ms=40)
    await until(lambda: gate.started == 1)
    await asyncio.sleep(0.3)
    assert exchange.messages.empty()
    gate.open.set()
    gate.open_thread.set()
    assert isinstance(await exchange.next(), Result)


@pytest.mark.parametrize("capability", ["a:async", "a:plain"])
async def test_work_under_a_key_is_stopped_when_nobody_follows_it_any_more(
    peer: Peer, serve: Serve, monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    """Also when no controller cancels it."""
    monkeypatch.setattr(dispatching, "_FOLLOWED_S", 0.0)
    worker, gate = _gated()
    await serve(worker)
    exchange = await peer.send(capability, timeout_ms=40)
    fault = await exchange.next()
    assert isinstance(fault, Fault)
    assert (fault.code, "80 ms" in fault.message) == (504, True)
    await until(lambda: gate.ended == ["cancelled"])
    gate.open.set()
    gate.open_thread.set()


async def test_a_controller_has_the_first_word_on_the_deadline(
    peer: Peer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cancels at the deadline, with its own clock; a worker that spoke first would make a failure of it.

    The handler is told the deadline itself.
    """
    monkeypatch.setattr(dispatching, "GRACE_S", 60.0)
    worker = Worker("t")
    left_s: list[float] = []

    @worker.capability("a:b")
    async def hang(ctx: Context) -> None:
        left_s.append(ctx.time_left_s())
        try:
            await asyncio.sleep(60)
        finally:
            left_s.append(ctx.time_left_s())

    await serve(worker)
    exchange = await peer.send("a:b", timeout_ms=40, dispatch_id="d")
    await until(lambda: left_s)
    await asyncio.sleep(left_s[0] + 0.02)
    assert exchange.messages.empty()
    peer.control("cancel", "d")
    assert await exchange.next() == Fault(499, "The request was cancelled")
    await until(lambda: len(left_s) == 2)
    assert 0 < left_s[0] <= 0.04
    assert left_s[1] == 0


async def test_a_declared_timeout_is_kept_where_it_is_shorter(peer: Peer, serve: Serve) -> None:
    """``timeout_s`` among the constraints bounds every run."""
    worker, gate = Worker("t"), Gate()
    worker.capability("a:b", constraints={"timeout_s": 0.03})(gate.wait)
    await serve(worker)
    fault = await peer.ask("a:b", timeout_ms=60_000)
    assert isinstance(fault, Fault)
    assert fault.code == 504


@pytest.mark.parametrize("capability", ["a:async", "a:plain"])
async def test_a_cancel_stops_the_handler(peer: Peer, serve: Serve, capability: str) -> None:
    """The named dispatch ends with 499, others go on; a cancel of an unknown or malformed id does nothing."""
    worker, gate = _gated(max_concurrency=2)
    await serve(worker)
    doomed = await peer.send(capability, dispatch_id="doomed")
    other = await peer.send(capability, dispatch_id="other")
    await until(lambda: gate.started == 2)
    peer.control("cancel", "unknown")
    peer.control("cancel", None)
    peer.control("cancel", "doomed")
    assert await doomed.next() == Fault(499, "The request was cancelled")
    await until(lambda: gate.ended == ["cancelled"])
    gate.open.set()
    gate.open_thread.set()
    assert isinstance(await other.next(), Result)


async def test_a_handler_that_will_not_be_cancelled_keeps_its_place_and_answers_once(peer: Peer, serve: Serve) -> None:
    """The caller does not wait for it, and its late answer is dropped."""
    worker = Worker("t")
    release = asyncio.Event()

    @worker.capability("a:b")
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await release.wait()
        return "too late"

    await serve(worker)
    exchange = await peer.send("a:b", dispatch_id="d")
    await until(lambda: peer.heartbeats and peer.heartbeats[-1].in_flight == 1)
    peer.control("cancel", "d")
    assert await exchange.next() == Fault(499, "The request was cancelled")
    assert await peer.ask("a:b") == NotRun("busy")
    release.set()
    await until(lambda: peer.heartbeats[-1].in_flight == 0)
    assert exchange.messages.empty()


async def test_a_second_cancel_does_not_disturb_the_cleaning_up_after_the_first(peer: Peer, serve: Serve) -> None:
    """What a handler closes when it is cancelled may take its time."""
    worker, gate = Worker("t"), asyncio.Event()
    ended: list[str] = []

    @worker.capability("a:b")
    async def tidy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleaning")
            await gate.wait()
            ended.append("clean")

    await serve(worker)
    exchange = await peer.send("a:b", dispatch_id="d")
    await until(lambda: peer.heartbeats and peer.heartbeats[-1].in_flight == 1)
    peer.control("cancel", "d")
    await until(lambda: ended == ["cleaning"])
    peer.control("cancel", "d")
    assert await exchange.next() == Fault(499, "The request was cancelled")
    assert await peer.ask("a:b") == NotRun("busy")
    gate.set()
    await until(lambda: peer.heartbeats[-1].in_flight == 0)
    assert ended == ["cleaning", "clean"]


async def test_whatever_a_handler_raises_is_answered(peer: Peer, serve: Serve) -> None:
    """What a test's own tools raise is no ``Exception``, and the caller would wait for its deadline."""
    worker = Worker("t")

    @worker.capability("a:b")
    async def unwanted() -> None:
        pytest.fail("it should not be called")

    await serve(worker)
    fault = await peer.ask("a:b")
    assert isinstance(fault, Fault)
    assert fault.code == 500


async def test_a_failure_may_be_made_of_the_error_behind_it(peer: Peer, serve: Serve) -> None:
    """Its text is the message, and the handler's place is free again."""
    worker = Worker("t")

    @worker.capability("a:async")
    async def handler() -> None:
        raise PermanentError(KeyError("a key"))  # type: ignore[arg-type]

    @worker.capability("a:plain")
    def plain() -> None:
        raise PermanentError(KeyError("a key"))  # type: ignore[arg-type]

    await serve(worker)
    for capability in ("a:async", "a:plain", "a:plain"):
        assert await peer.ask(capability) == Fault(422, "'a key'")


async def test_what_a_handler_waited_for_was_cancelled(peer: Peer, serve: Serve) -> None:
    """A cancellation of the handler's own is a failure like any other."""
    worker = Worker("t")

    @worker.capability("a:b")
    async def careless() -> None:
        task = asyncio.create_task(asyncio.sleep(1))
        task.cancel()
        await task

    await serve(worker)
    fault = await peer.ask("a:b")
    assert isinstance(fault, Fault)
    assert fault.code == 500


async def test_a_stream_is_chunks_without_gaps_and_one_end(peer: Peer, serve: Serve) -> None:
    """Sequence numbers run from 0 over chunks and progress alike; an empty stream is its end."""
    worker = Worker("t")

    @worker.capability("a:count", content_type="text/event-stream")
    async def count(n: int, ctx: Context) -> AsyncIterator[str]:
        for number in range(n):
            if number == 1:
                await ctx.progress({"half": True})
            yield f"{number}"

    @worker.capability("a:objects")
    async def objects() -> AsyncIterator[dict]:
        yield {"a": 1}

    await serve(worker)
    sse = "text/event-stream"
    assert await peer.stream("a:count", b"2") == [
        Frame("chunk", 0, b"0", content_type=sse),
        Frame("progress", 1, b'{"half":true}'),
        Frame("chunk", 2, b"1", content_type=sse),
        Frame("end", 3, content_type=None),
    ]
    assert await peer.stream("a:count", b"0") == [Frame("end", 0)]
    assert await peer.stream("a:objects") == [Frame("chunk", 0, b'{"a":1}'), Frame("end", 1)]


async def test_progress_before_a_whole_answer(peer: Peer, serve: Serve) -> None:
    """A streaming capability that returns its answer sends it as the end, or alone when there was no progress."""
    worker = Worker("t")

    @worker.capability("a:b", streaming=True)
    async def work(steps: int, ctx: Context) -> str:
        for step in range(steps):
            await ctx.progress(str(step))
        return "done"

    @worker.capability("a:c")
    async def silent(ctx: Context) -> None:
        await ctx.progress(b"")

    await serve(worker)
    text = "text/plain; charset=utf-8"
    assert await peer.stream("a:b", b"1") == [
        Frame("progress", 0, b"0", content_type=text),
        Frame("end", 1, b"done", content_type=text),
    ]
    assert await peer.ask("a:b", b"0") == Result(b"done", "", text)
    fault = await peer.ask("a:c")
    assert isinstance(fault, Fault)
    assert fault.code == 500


async def test_a_stream_that_fails_in_the_middle_ends_with_the_error(peer: Peer, serve: Serve) -> None:
    """Foreseen or not, the error stands in the end; before the first frame it is a plain fault."""
    worker = Worker("t")

    @worker.capability("a:b")
    async def failing(payload: dict) -> AsyncIterator[bytes]:
        for _ in range(payload["chunks"]):
            yield b"x"
        raise RetryableError("upstream is gone") if payload["foreseen"] else RuntimeError("secret")

    await serve(worker)
    frames = await peer.stream("a:b", {"chunks": 1, "foreseen": True})
    assert frames == [Frame("chunk", 0, b"x"), Frame("end", 1, fault=Fault(503, "upstream is gone", True))]
    frames = await peer.stream("a:b", {"chunks": 2, "foreseen": False}, dispatch_id="d")
    message = "The worker failed; its log has the details under request id r-d"
    assert frames[2:] == [Frame("end", 2, fault=Fault(500, message))]
    fault = await peer.ask("a:b", {"chunks": 0, "foreseen": True})
    assert fault == Fault(503, "upstream is gone", True)
    assert isinstance(await peer.ask("a:b", b"nonsense"), Fault)


async def test_a_stream_can_be_cancelled_though_it_never_waits(peer: Peer, serve: Serve) -> None:
    """Frames leave while the handler computes, a cancel gets in, and nothing follows the end."""
    worker = Worker("t")
    closed = asyncio.Event()

    @worker.capability("a:b")
    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    await serve(worker)
    exchange = await peer.send("a:b", dispatch_id="d")
    assert await exchange.next() == Frame("chunk", 0, b"x" * 1000)
    peer.control("cancel", "d")
    frames = await exchange.frames()
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[-1].fault == Fault(499, "The request was cancelled")
    await asyncio.wait_for(closed.wait(), 2)
    await until(lambda: peer.heartbeats[-1].in_flight == 0)
    assert exchange.messages.empty()


async def test_a_stream_that_swallows_its_cancellation_ends_at_its_next_value(peer: Peer, serve: Serve) -> None:
    """A handler that goes on for ever does not take the process with it."""
    worker = Worker("t")

    @worker.capability("a:b")
    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        while True:
            yield b"y"

    await serve(worker)
    exchange = await peer.send("a:b", dispatch_id="d")
    await exchange.next()
    peer.control("cancel", "d")
    assert await exchange.frames() == [Frame("end", 1, fault=Fault(499, "The request was cancelled"))]
    await until(lambda: peer.heartbeats[-1].in_flight == 0)


async def test_a_stream_that_is_cancelled_while_it_is_paced_deafens_nobody(peer: Peer, serve: Serve) -> None:
    """Waiting for the server is given up cleanly: the worker still hears what comes next."""
    worker = Worker("t", max_concurrency=50)

    @worker.capability("a:flood")
    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 300_000  # each frame is more than a stream may send without a look at the server

    @worker.capability("a:b")
    async def work() -> bytes:
        return b"heard"

    await serve(worker)
    for number in range(20):
        exchange = await peer.send("a:flood", dispatch_id=f"d-{number}")
        await exchange.next()
        peer.control("cancel", f"d-{number}")
        assert (await exchange.frames())[-1].fault == Fault(499, "The request was cancelled")
        assert await peer.ask("a:b") == Result(b"heard")


async def test_an_answer_that_is_too_large_is_said_so(peer: Peer, serve: Serve, nats_server: NatsServer) -> None:
    """Over the server's limit, or over the declared ``max_output_bytes``: 500, and the connection lives on."""
    worker = Worker("t")

    @worker.capability("a:big")
    async def big(n: int) -> bytes:
        return b"x" * n

    worker.capability("a:small", constraints={"max_output_bytes": 10})(big)

    @worker.capability("a:stream")
    async def stream(n: int) -> AsyncIterator[bytes]:
        yield b"x"
        yield b"x" * n

    await serve(worker)
    limit = peer.bus.max_body_bytes
    answer = await peer.ask("a:big", b"%d" % limit)
    assert isinstance(answer, Result)
    assert len(answer.body) == limit
    for capability, size in (("a:big", limit + 1), ("a:small", 11)):
        fault = await peer.ask(capability, b"%d" % size)
        assert isinstance(fault, Fault)
        assert (fault.code, str(size) in fault.message) == (500, True)
    frames = await peer.stream("a:stream", b"%d" % (limit + 1))
    assert [frame.kind for frame in frames] == ["chunk", "end"]
    assert frames[1].fault is not None
    assert frames[1].fault.code == 500
    assert len(peer.manifests) == 1, "the connection was lost"


async def test_a_dispatch_names_a_version(peer: Peer, serve: Serve) -> None:
    """Two versions run side by side; one that is not offered is a 404 that may be tried elsewhere."""
    worker = Worker("t")

    @worker.capability("a:b", version="1.9.0")
    async def old() -> str:
        return "old"

    @worker.capability("a:b", version="1.10.0")
    async def new() -> str:
        return "new"

    await serve(worker)
    text = "text/plain; charset=utf-8"
    assert await peer.ask("a:b", version="1.9.0") == Result(b"old", "", text)
    assert await peer.ask("a:b", version="1.10.0") == Result(b"new", "", text)
    assert await peer.ask("a:b", version="") == Result(b"new", "", text)
    for capability, version in (("a:b", "2.0.0"), ("a:c", "1.0.0")):
        fault = await peer.ask(capability, version=version)
        assert isinstance(fault, Fault)
        assert (fault.code, fault.retryable) == (404, True)


async def test_garbage_on_the_worker_subjects_costs_nothing(peer: Peer, serve: Serve) -> None:
    """What is no dispatch gets a 400 if it asks for an answer; the same dispatch twice runs once."""
    worker, gate = _gated(max_concurrency=2)
    await serve(worker)
    subject = peer.subjects.worker(WorkerId("t-1"), CapabilityId("a:async"))
    blocks = [
        None,
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0\r\nCrank-Request-Id: a b\r\n\r\n",
        b"NATS/1.0\r\nX: \xff\r\n\r\n",
        peer.headers("d").replace(b"Crank-Attempt: 1", b"Crank-Attempt: one"),
        peer.headers("d").replace(b"\r\n\r\n", b"\r\nCrank-Dispatch-Id: e\r\n\r\n"),
        peer.headers("d").replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 60_000 + b"\r\n\r\n"),
    ]
    for block in blocks:
        answer = await peer.bus.request(subject, b"\x00garbage", block, timeout_s=2)
        assert answer.headers is not None
        assert b"Nats-Service-Error-Code: 400" in answer.headers, block
        peer.bus.publish(subject, b"\x00garbage", block)
    for deep in ("crank.worker.t-1", "crank.worker.t-1.a", "crank.worker.t-1.a.b.c"):
        peer.bus.publish(deep, b"", peer.headers("d"))
    peer.bus.publish(subject, b"", peer.headers("no-reply"))
    # An answer on a subject of the contract would be a message that the worker never meant to send.
    heard: list[str] = []
    await peer.bus.subscribe("crank.control.t-2", lambda s, r, h, b: heard.append(s))
    peer.bus.publish(subject, b"", None, "crank.control.t-2")
    peer.bus.publish(subject, b"", peer.headers("forged"), "crank.control.t-2")
    peer.bus.publish(subject, b"", peer.headers("own"), subject)
    for garbage in (b"", b"\xff", b"[]", b'{"op":"explode"}', b'{"op":' + b"[" * 50_000):
        peer.bus.publish(peer.subjects.control(WorkerId("t-1")), garbage)
    first = await peer.send("a:async", dispatch_id="same")
    second = await peer.ask("a:async", dispatch_id="same")
    assert isinstance(second, Fault)
    assert second.code == 400
    gate.open.set()
    assert isinstance(await first.next(), Result)
    assert (gate.started, len(peer.manifests), heard) == (1, 1, [])


async def test_many_at_once(peer: Peer, serve: Serve) -> None:
    """Two hundred dispatches in one burst are answered each by its own."""
    worker = Worker("t", max_concurrency=200)

    @worker.capability("a:async")
    async def echo(payload: int) -> int:
        await asyncio.sleep(0)
        return payload

    @worker.capability("a:plain")
    def echo_plain(payload: int) -> int:
        if payload < 0:
            raise PermanentError("negative")
        return payload

    await serve(worker)
    for capability in ("a:async", "a:plain"):
        answers = await asyncio.gather(*(peer.ask(capability, b"%d" % n) for n in range(200)))
        assert answers == [Result(b"%d" % n) for n in range(200)]


async def test_a_run_that_is_over_is_freed_at_once(peer: Peer, serve: Serve) -> None:
    """It does not wait, with payload and context, for Python's collector to look."""
    worker = Worker("t")

    @worker.capability("a:echo")
    async def echo(payload: bytes, ctx: Context) -> bytes:
        return payload

    await serve(worker)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await peer.ask("a:echo", b"x")
        await until(lambda: not [thing for thing in gc.get_objects() if isinstance(thing, Run | Context)])
    finally:
        gc.enable()
