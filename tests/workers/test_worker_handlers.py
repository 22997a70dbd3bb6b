"""Typed handlers of every kind, called over a real server."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, field_validator
from worker_peer import TRACEPARENT, Peer, Serve

from crank import Context, PermanentError, RetryableError, Worker
from subjects.answers import Fault, Result

SECRET = "hunter2 in a connection string"


class Order(msgspec.Struct):
    item: str
    counts: list[int] = []


class Person(BaseModel):
    name: str
    ages: list[int] = []

    @field_validator("name")
    @classmethod
    def _not_empty(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("say who")
        return name


def _both(function: Any) -> list[Any]:
    """``function`` as a plain and as an async handler."""

    async def later(*args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)

    later.__annotations__ = function.__annotations__
    later.__signature__ = __import__("inspect").signature(function)  # type: ignore[attr-defined]
    return [function, later]


def _bytes(payload: bytes) -> bytes:
    return payload[::-1]


def _text(payload: str) -> str:
    return payload.upper()


def _object(payload: dict) -> dict:
    return {"got": payload}


def _struct(payload: Order) -> Order:
    return Order(payload.item, payload.counts[::-1])


def _model(payload: Person) -> Person:
    return Person(name=payload.name, ages=payload.ages[::-1])


def _models(payload: list[Person]) -> list[Person]:
    return payload[::-1]


def _nothing() -> None: ...


def _untold(payload: Any):  # type: ignore[no-untyped-def]
    return {"bytes": b"raw", "text": "text", "none": None}.get(str(payload), payload)


CASES: list[tuple[Any, bytes, bytes, str | None]] = [
    (_bytes, b"\x00\xffa", b"a\xff\x00", None),
    (_text, "grüß".encode(), "GRÜSS".encode(), "text/plain; charset=utf-8"),
    (_object, b'{"a": 1}', b'{"got":{"a":1}}', None),
    (_struct, b'{"item": "x", "counts": [1, 2], "new": 0}', b'{"item":"x","counts":[2,1]}', None),
    (_model, b'{"name": "Ada", "ages": [1, 2]}', b'{"name":"Ada","ages":[2,1]}', None),
    (_models, b'[{"name": "a"}, {"name": "b"}]', b'[{"name":"b","ages":[]},{"name":"a","ages":[]}]', None),
    (_nothing, b"ignored", b"", None),
    (_untold, b'"bytes"', b"raw", None),
    (_untold, b'"text"', b"text", "text/plain; charset=utf-8"),
    (_untold, b'"none"', b"", None),
    (_untold, b"[1, 2]", b"[1,2]", None),
]


async def test_payloads_and_answers_of_every_type_plain_and_async(peer: Peer, serve: Serve) -> None:
    """Bytes and text travel as they are, everything else as JSON, and both kinds of function do the same."""
    worker = Worker("t")
    for number, (function, *_) in enumerate(CASES):
        for kind, handler in zip(("plain", "later"), _both(function), strict=True):
            worker.capability(f"{kind}:c{number}")(handler)
    await serve(worker)
    for number, (_, payload, answer, content_type) in enumerate(CASES):
        for kind in ("plain", "later"):
            assert await peer.ask(f"{kind}:c{number}", payload) == Result(answer, "", content_type), (kind, number)


async def test_a_payload_that_cannot_be_read_is_named_by_its_path(peer: Peer, serve: Serve) -> None:
    """Not JSON is 400, JSON that does not fit is 422 with the path; no handler runs."""
    ran: list[object] = []
    worker = Worker("t")

    def note(function: Any) -> Any:
        def handler(payload: Any) -> None:
            ran.append(payload)

        handler.__annotations__["payload"] = function.__annotations__["payload"]
        return handler

    for name, function in (("struct", _struct), ("model", _model), ("object", _object), ("text", _text)):
        worker.capability(f"a:{name}")(note(function))
    await serve(worker)
    for capability, body, code, part in (
        ("a:struct", b'{"item": 1}', 422, "$.item"),
        ("a:struct", b'{"item": "x", "counts": [1, "two"]}', 422, "$.counts[1]"),
        ("a:struct", b"{}", 422, "item"),
        ("a:struct", b"{nonsense", 400, "not JSON"),
        ("a:struct", b"", 400, "not JSON"),
        ("a:struct", b'{"item": "\xff"}', 400, "not JSON"),
        ("a:struct", b"[" * 100_000, 422, "object"),
        ("a:model", b'{"name": "x", "ages": ["two"]}', 422, "$.ages[0]"),
        ("a:model", b'{"name": " "}', 422, "say who"),
        ("a:model", b"{nonsense", 400, "not JSON"),
        ("a:object", b"[]", 422, "$"),
        ("a:text", b"\xff", 400, "UTF-8"),
    ):
        fault = await peer.ask(capability, body)
        assert isinstance(fault, Fault), fault
        assert (fault.code, fault.retryable) == (code, False), (body, fault)
        assert part in fault.message, (body, fault)
    assert ran == []


async def test_the_context_tells_the_dispatch(peer: Peer, serve: Serve) -> None:
    """Everything the controller said is there, before or after the payload, in async and plain handlers."""
    worker = Worker("t")
    told: list[tuple[Context, float, str]] = []

    @worker.capability("a:first")
    async def first(ctx: Context, payload: bytes) -> bytes:
        told.append((ctx, ctx.time_left_s(), threading.current_thread().name))
        return payload

    @worker.capability("a:last")
    def last(payload: bytes, context: Context) -> bytes:
        told.append((context, context.time_left_s(), threading.current_thread().name))
        return payload

    @worker.capability("a:only")
    async def only(ctx: Context) -> str:
        return ctx.request_id

    await serve(worker)
    assert await peer.ask("a:first", b"1", dispatch_id="one", timeout_ms=4000) == Result(b"1")
    assert await peer.ask("a:last", b"2", dispatch_id="two", timeout_ms=4000) == Result(b"2")
    assert isinstance(await peer.ask("a:only", b""), Result)
    for (ctx, left_s, _), ident in zip(told, ("one", "two"), strict=True):
        assert (ctx.dispatch_id, ctx.request_id, ctx.attempt) == (ident, f"r-{ident}", 1)
        assert (ctx.caller, ctx.version, ctx.priority) == ("spiffe://crank.local/caller/a", "1.0.0", "high")
        assert (ctx.idempotency_key, ctx.content_type, ctx.cancelled) == ("key-1", "application/json", False)
        assert ctx.trace is not None
        assert ctx.trace.trace_id in TRACEPARENT
        assert 3 < left_s <= 4
    assert told[0][2] == "MainThread"
    assert told[1][2].startswith("crank-a:last")


async def test_an_unforeseen_error_never_reaches_the_caller(
    peer: Peer, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets 500 and the request id to ask with; the traceback is in the log, under that id."""
    worker = Worker("t")

    def fail() -> None:
        raise RuntimeError(SECRET)

    def leave() -> None:
        raise SystemExit(SECRET)

    def unsendable(payload: Any):  # type: ignore[no-untyped-def]
        return object()

    def misdeclared() -> bytes:
        return {"secret": SECRET}  # type: ignore[return-value]

    for name, function in (("fail", fail), ("leave", leave), ("unsendable", unsendable), ("wrong", misdeclared)):
        for kind, handler in zip(("plain", "later"), _both(function), strict=True):
            worker.capability(f"{kind}:{name}")(handler)
    await serve(worker)
    for name in ("fail", "leave", "unsendable", "wrong"):
        for kind in ("plain", "later"):
            ident = f"{kind}-{name}"
            caplog.clear()
            fault = await peer.ask(f"{kind}:{name}", b"1", dispatch_id=ident)
            assert fault == Fault(500, f"The worker failed; its log has the details under request id r-{ident}")
            [record] = [r for r in caplog.records if r.name == "crank.worker" and r.levelno == logging.ERROR]
            assert f"r-{ident}" in record.getMessage()
            assert record.exc_info
            if name in ("fail", "leave"):
                assert SECRET in str(record.exc_info[1])


async def test_a_foreseen_error_is_told_as_it_was_raised(peer: Peer, serve: Serve) -> None:
    """Code, message, whether to try again and when; control characters do not become headers."""
    worker = Worker("t")

    @worker.capability("a:permanent")
    async def permanent() -> None:
        raise PermanentError("no such page\r\nCrank-Not-Run: busy", code=404)

    @worker.capability("a:default")
    def default() -> None:
        raise PermanentError("bad \ud800 input")

    @worker.capability("a:retryable")
    def retryable() -> None:
        raise RetryableError("the disk is full", retry_after_s=1.5)

    await serve(worker)
    assert await peer.ask("a:permanent") == Fault(404, "no such page  Crank-Not-Run: busy")
    assert await peer.ask("a:default") == Fault(422, "bad   input")
    assert await peer.ask("a:retryable") == Fault(503, "the disk is full", True, 1500)
