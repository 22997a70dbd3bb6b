"""A handler that asks another capability: its trace, its time, its cancelling, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callers import Unreachable
from crank import Context, CrankError, PermanentError, RetryableError, Worker
from tests.testing.conftest import Serving, until, until_idle

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _inner() -> tuple[Worker, list[Context], list[str]]:
    """A worker to be called, what it saw, and how its handlers ended."""
    worker = Worker("inner", max_concurrency=4)
    seen: list[Context] = []
    ended: list[str] = []

    @worker.capability("inner:echo")
    async def echo(text: str, ctx: Context) -> str:
        seen.append(ctx)
        return text

    @worker.capability("inner:slow")
    async def slow(ctx: Context) -> str:
        seen.append(ctx)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "done"

    @worker.capability("inner:fail")
    async def fail(how: str) -> None:
        if how == "permanent":
            raise PermanentError("no such page", code=404)
        if how == "retryable":
            raise RetryableError("the kettle is busy", retry_after_s=2)
        raise RuntimeError(how)

    @worker.capability("inner:count")
    async def count(upto: int, ctx: Context) -> AsyncIterator[str]:
        await ctx.progress("begun")
        for number in range(upto):
            yield str(number)

    return worker, seen, ended


async def test_a_call_belongs_to_the_trace_priority_and_time_of_its_dispatch(serving: Serving) -> None:
    """The dispatch's span is the parent; what is left of the time, never more, is handed on; headers go along."""
    inner, seen, _ = _inner()
    outer = Worker("outer")
    dispatches: list[Context] = []

    @outer.capability("outer:async")
    async def ask(text: str, ctx: Context) -> str:
        dispatches.append(ctx)
        answer = await ctx.call("inner:echo", text, timeout_ms=60_000, headers={"X-Tenant": "blue"})
        return answer.decode(str) + answer.meta["crank-worker"]

    @outer.capability("outer:plain")
    def ask_plain(text: str, ctx: Context) -> str:
        dispatches.append(ctx)
        return ctx.call_sync("inner:echo", text, priority="low").decode(str)

    async with serving(outer, inner) as client:
        tracing = {"traceparent": TRACE, "tracestate": "vendor=1"}
        answer = await client.request("outer:async", "hi", timeout_ms=4000, priority="high", headers=tracing)
        assert answer.body == b"hiinner-1"
        assert (await client.request("outer:plain", "ho", timeout_ms=4000, headers=tracing)).body == b"ho"
    for outside, inside in zip(dispatches, seen, strict=True):
        assert outside.trace is not None
        assert inside.trace is not None
        assert inside.trace.trace_id == outside.trace.trace_id == TRACE.split("-")[1]
        assert inside.trace.span_id != outside.trace.span_id
        assert inside.tracestate == "vendor=1"
        assert 0 < inside._deadline <= outside._deadline
        assert inside.request_id != outside.request_id
    assert [ctx.priority for ctx in seen] == ["high", "low"]
    assert [ctx.headers for ctx in seen] == [{"x-tenant": "blue"}, {}]


async def test_a_streamed_answer_is_passed_on_as_it_comes(serving: Serving) -> None:
    """``ctx.stream`` yields the frames of the other one."""
    inner, *_ = _inner()
    outer = Worker("outer")

    @outer.capability("outer:relay")
    async def relay(upto: int, ctx: Context) -> AsyncIterator[bytes]:
        async for frame in ctx.stream("inner:count", upto):
            if frame.kind == "progress":
                await ctx.progress(frame.body)
            elif frame.kind == "chunk":
                yield frame.body

    async with serving(outer, inner) as client:
        frames = [(frame.kind, frame.body) async for frame in client.stream("outer:relay", 3)]
    assert frames == [("progress", b"begun"), *(("chunk", b"%d" % n) for n in range(3)), ("end", b"")]


@pytest.mark.parametrize("kind", ["async", "plain", "stream"])
@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_what_a_handler_calls_is_cancelled_with_it(serving: Serving, kind: str, how: str) -> None:
    """By its caller's cancel and by its deadline, in every kind of handler."""
    inner, seen, ended = _inner()
    outer = Worker("outer")

    @outer.capability("outer:async")
    async def ask(ctx: Context) -> None:
        await ctx.call("inner:slow")

    @outer.capability("outer:plain")
    def ask_plain(ctx: Context) -> None:
        ctx.call_sync("inner:slow")

    @outer.capability("outer:stream")
    async def ask_stream(ctx: Context) -> AsyncIterator[bytes]:
        async for frame in ctx.stream("inner:slow"):
            yield frame.body

    async with serving(outer, inner) as client:
        timeout_ms = 300 if how == "deadline" else 30_000
        asking = asyncio.create_task(client.request(f"outer:{kind}", request_id="r-1", timeout_ms=timeout_ms))
        await until(lambda: seen)
        if how == "cancel":
            await client.cancel("r-1")
        with pytest.raises(CrankError) as caught:
            await asking
        assert caught.value.kind == "cancelled" if how == "cancel" else caught.value.code in (500, 504)
        await until(lambda: ended == ["cancelled"])
        await until_idle(client)


@pytest.mark.parametrize(
    ("called", "data", "said", "code", "retry_ms"),
    [
        ("inner:fail", "permanent", "Calling inner:fail failed: no such page", 404, None),
        ("inner:fail", "retryable", "Calling inner:fail failed: the kettle is busy", 503, 2000),
        ("inner:fail", "oops", "Calling inner:fail failed: The worker failed", 500, None),
        ("nobody:there", "", "Calling nobody:there failed: 404 no_such_capability: ", 500, None),
        ("inner:count", "x", "Calling inner:count failed: 400 malformed: ", 500, None),
        ("no good", "", "A request of the handler failed: 400 malformed: 'no good' is not", 500, None),
    ],
)
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_an_error_that_a_handler_lets_through_is_its_own_failure(
    serving: Serving, kind: str, called: str, data: str, said: str, code: int, retry_ms: int | None
) -> None:
    """The message names what was called and why; whose fault it is, and whether to try again, follow from the code."""
    inner, *_ = _inner()
    outer = Worker("outer")

    @outer.capability("outer:async")
    async def ask(ctx: Context) -> None:
        await ctx.call(called, data)

    @outer.capability("outer:plain")
    def ask_plain(ctx: Context) -> None:
        ctx.call_sync(called, data)

    async with serving(outer, inner) as client:
        with pytest.raises(CrankError) as caught:
            await client.request(f"outer:{kind}")
    problem = caught.value.problem
    assert problem.worker_message is not None
    assert problem.worker_message.startswith(said)
    assert (problem.status, problem.worker_code, problem.retry_after_ms) == (500, code, retry_ms)
    assert ("change the request" in problem.detail) is (code == 404)


async def test_an_error_can_be_caught(serving: Serving) -> None:
    """It is the one exception that every caller gets."""
    outer = Worker("outer")

    @outer.capability("outer:ask")
    async def ask(ctx: Context) -> str:
        try:
            await ctx.call("nobody:there")
        except CrankError as error:
            return f"{error.code} {error.capability}"
        return ""

    async with serving(outer) as client:
        assert (await client.request("outer:ask")).body == b"404 nobody:there"


async def test_an_error_of_a_client_of_its_own_is_told_alike(serving: Serving) -> None:
    """A handler may ask another installation; that nobody is there may pass."""
    outer = Worker("outer")

    @outer.capability("outer:ask")
    async def ask() -> None:
        raise Unreachable("nobody listens over there")

    async with serving(outer) as client:
        with pytest.raises(CrankError) as caught:
            await client.request("outer:ask")
    problem = caught.value.problem
    assert (problem.worker_code, problem.worker_message) == (
        503, "A request of the handler failed: 503: nobody listens over there",
    )  # fmt: skip


async def test_without_time_nothing_is_called(serving: Serving) -> None:
    """It fails at once, and says so; a time-out among the headers would go past the deadline."""
    inner, seen, _ = _inner()
    outer = Worker("outer")

    @outer.capability("outer:late")
    async def late(ctx: Context) -> str:
        ctx._deadline = 0.0
        with pytest.raises(CrankError) as caught:
            await ctx.call("inner:echo", "x")
        return f"{caught.value.code} {caught.value.detail}"

    @outer.capability("outer:header")
    async def header(ctx: Context) -> str:
        with pytest.raises(ValueError, match="timeout_ms="):
            await ctx.call("inner:echo", "x", headers={"crank-timeout-ms": "90000"})
        return "refused"

    @outer.capability("outer:sync")
    async def sync(ctx: Context) -> str:
        with pytest.raises(TypeError, match=r"await ctx\.call"):
            ctx.call_sync("inner:echo", "x")
        return "refused"

    async with serving(outer, inner) as client:
        assert (await client.request("outer:late")).body == b"504 No time was left to call it."
        assert (await client.request("outer:header")).body == b"refused"
        assert (await client.request("outer:sync")).body == b"refused"
    assert not seen


async def test_a_worker_that_waits_for_itself_ends_by_its_deadline(serving: Serving) -> None:
    """With its only place taken, its own call can never be served; the error says who waited for whom."""
    worker = Worker("mirror")

    @worker.capability("mirror:look")
    async def look(ctx: Context) -> bytes:
        return (await ctx.call("mirror:look")).body

    async with serving(worker) as client:
        with pytest.raises(CrankError) as caught:
            await client.request("mirror:look", timeout_ms=400)
        assert "Calling mirror:look failed: 504 deadline" in caught.value.detail
        await until_idle(client)
