"""Headers of an answer's own, and the caller's: what passes through a handler beside the payload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from worker_peer import Peer, Serve

from crank import Context, DeclarationError, Response, Worker
from subjects.answers import Fault, Frame, Result
from subjects.headers import MAX_BLOCK_BYTES


class Greeting(msgspec.Struct):
    text: str


async def test_a_response_sets_headers_and_content_type_of_its_answer(peer: Peer, serve: Serve) -> None:
    """Whatever the signature says, in async, plain and streaming handlers; its content type beats the declared one."""
    worker = Worker("t", streaming=True)

    @worker.capability("a:typed", content_type="text/html")
    async def typed() -> Response[Greeting]:
        return Response(Greeting("hi"), headers={"Cache-Control": "max-age=60", "X-Town": "Zürich"})

    @worker.capability("a:plain", content_type="text/html")
    def plain() -> str | Response[str]:
        return Response("a,b", content_type="text/csv")

    @worker.capability("a:untold")
    async def untold():  # type: ignore[no-untyped-def]
        return Response(b"raw", headers={"X-A": "1"})

    @worker.capability("a:stream")
    async def stream(ctx: Context) -> AsyncIterator[str]:
        await ctx.progress(Response("half", headers={"X-Part": "1"}))
        yield Response("x", content_type="text/csv", headers={"X-Part": "2"})  # type: ignore[misc]

    await serve(worker)
    town = "Cache-Control: max-age=60\r\nX-Town: Zürich\r\n"
    assert await peer.ask("a:typed") == Result(b'{"text":"hi"}', town, "text/html")
    assert await peer.ask("a:plain") == Result(b"a,b", "", "text/csv")
    assert await peer.ask("a:untold") == Result(b"raw", "X-A: 1\r\n", None)
    text = "text/plain; charset=utf-8"
    assert await peer.stream("a:stream") == [
        Frame("progress", 0, b"half", "X-Part: 1\r\n", text),
        Frame("chunk", 1, b"x", "X-Part: 2\r\n", "text/csv"),
        Frame("end", 2),
    ]


def test_a_response_declares_the_schema_of_its_value() -> None:
    """The headers around it are none of a caller's types."""
    worker = Worker("t")

    @worker.capability("a:wrapped")
    def wrapped() -> Response[Greeting]: ...

    @worker.capability("a:either")
    def either() -> Greeting | Response[Greeting]: ...

    @worker.capability("a:bare")
    def bare() -> Response: ...  # type: ignore[type-arg]

    first, second, third = (offer.capability.output_schema for offer in worker.offers)
    assert first == second
    assert first["$defs"]["Greeting"]["properties"] == {"text": {"type": "string"}}
    assert third is None
    with pytest.raises(DeclarationError, match="Opaque"):
        worker.capability("a:odd")(_odd)


class Opaque: ...


def _odd() -> Response[Opaque]: ...


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"headers": {"Crank-Worker": "me"}}, "Crank-Worker is not a handler's to set"),
        ({"headers": {"nats-service-error": "x"}}, "nats-service-error is not a handler's to set"),
        ({"headers": {"traceparent": "00-x"}}, "traceparent is not"),
        ({"headers": {"content-TYPE": "text/csv"}}, "content_type="),
        ({"headers": {"A b": "x"}}, "'A b' is not the name"),
        ({"headers": {"A": "x\r\nCrank-Not-Run: busy"}}, "the value of A"),
        ({"headers": {"A": "\ud800"}}, "the value of A"),
        ({"headers": {"A": 1}}, "the value of A"),
        ({"headers": {"A": "x" * MAX_BLOCK_BYTES}}, str(MAX_BLOCK_BYTES)),
        ({"content_type": "a/b\r\nX: y"}, "content_type is a media type"),
        ({"content_type": ""}, "content_type is a media type"),
        ({"content_type": "text/plain; name=né"}, "content_type is a media type"),
    ],
)
def test_what_cannot_be_a_header_is_refused_where_it_is_made(given: dict[str, Any], says: str) -> None:
    """The error stands in the handler's own line, and names what is wrong."""
    with pytest.raises(ValueError) as caught:
        Response("x", **given)
    assert says in str(caught.value)


def test_what_was_checked_is_what_is_sent() -> None:
    """Headers are copied and cannot be changed afterwards; equal responses are equal."""
    mine = {"A": "1"}
    response = Response("x", headers=mine)
    mine["A"] = "2\r\nB: 3"
    assert response.lines() == "A: 1\r\n"
    with pytest.raises(TypeError):
        response.headers["A"] = "2"  # type: ignore[index]
    assert response == Response("x", headers={"A": "1"})


async def test_an_answer_that_its_headers_make_too_large_is_refused(peer: Peer, serve: Serve) -> None:
    """Body and headers leave in one message, so both count."""
    worker = Worker("t")
    room = peer.bus.max_body_bytes

    @worker.capability("a:b")
    async def full(head: str) -> Response[bytes]:
        return Response(b"x" * (room - 3000), headers={"A": head})

    await serve(worker)
    assert isinstance(await peer.ask("a:b", b"x" * 2000), Result)
    for head in (b"x" * 4000, "é".encode() * 2000):
        fault = await peer.ask("a:b", head)
        assert isinstance(fault, Fault)
        assert (fault.code, f"{room - 3000} bytes" in fault.message) == (500, True)


async def test_a_handler_sees_the_callers_own_headers(peer: Peer, serve: Serve) -> None:
    """By lower-case name; those of the contract have a place of their own, and repeated ones are joined."""
    worker = Worker("t")

    @worker.capability("a:b")
    async def echo(ctx: Context) -> Response[dict[str, str]]:
        return Response(ctx.headers, headers=ctx.headers)

    await serve(worker)
    assert await peer.ask("a:b", passed="X-Tenant: blue\r\nAccept: a\r\nX-Empty:\r\naccept:  b\r\n") == Result(
        b'{"x-tenant":"blue","accept":"a, b","x-empty":""}', "x-tenant: blue\r\naccept: a, b\r\nx-empty: \r\n"
    )
    assert await peer.ask("a:b") == Result(b"{}")
