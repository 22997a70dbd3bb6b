"""The caller's side of the contract, against a scripted peer over a real nats-server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import msgspec
import pydantic
import pytest

from callers import Client, CrankError, Unreachable
from crank.natsd import NatsServer
from subjects.claims import StoredError
from subjects.errors import PROBLEM_CONTENT_TYPE, ErrorKind, Offence, Refusal, problem_body
from subjects.replies import ReplyMeta, build_refusal, build_reply
from tests.cli.conftest import clean_environment
from tests.cli.peer import Asked, Peer, Script

META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", worker="w-1", version="1.0.0", attempts=2)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client of a server on which nobody listens yet."""
    async with await Client.connect(nats_server.url) as client:
        yield client


async def _peer(nats_server: NatsServer, *answers: tuple[bytes | None, bytes]) -> Peer:
    return await Peer.start(nats_server.url, lambda asked: iter(() if "cancel" in asked.subject else answers))


def _frame(kind: str, seq: int, body: bytes) -> tuple[bytes, bytes]:
    return build_reply(META, "text/plain", "", kind, seq), body


async def test_an_answer_comes_with_who_did_it(nats_server: NatsServer, client: Client) -> None:
    """Body, content type and the contract's headers arrive; ours reached the other side."""
    peer = await _peer(nats_server, (build_reply(META, "application/json", "X-Own: 1\r\n"), b'{"a":1}'))
    answer = await client.request("greet:hello_world", b"{}", timeout_ms=500, headers={"crank-priority": "high"})
    assert answer.json() == {"a": 1}
    assert (answer.meta["crank-worker"], answer.meta["crank-attempts"]) == ("w-1", "2")
    assert answer.passed == "X-Own: 1\r\n"
    asked = peer.asked[0]
    assert asked.subject == "crank.request.greet.hello_world"
    assert "Crank-Timeout-Ms: 500\r\n" in asked.headers
    assert "crank-priority: high\r\n" in asked.headers
    await peer.stop()


async def test_without_an_address_the_environment_says_which_server(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for every command; a wrong one is told by the variable's name, and an address in the program beats it."""
    monkeypatch.setenv("CRANK_NATS_URL", nats_server.url)
    async with await Client.connect() as client:
        with pytest.raises(Unreachable, match="no controller"):
            await client.request("a:b")
    monkeypatch.setenv("CRANK_NATS_URL", "localhost")
    with pytest.raises(CrankError, match="CRANK_NATS_URL: 'localhost' is not"):
        await Client.connect()
    async with await Client.connect(nats_server.url):
        pass


async def test_a_header_given_by_the_caller_replaces_the_clients_own(nats_server: NatsServer, client: Client) -> None:
    """A repeated header would be refused, so the caller's spelling of it is the only one sent."""
    peer = await _peer(nats_server, (None, b""))
    await client.request("a:b", headers={"CRANK-REQUEST-ID": "mine"})
    assert peer.asked[0].headers.lower().count("crank-request-id") == 1
    await peer.stop()


async def test_a_refusal_is_one_exception_with_the_whole_problem(nats_server: NatsServer, client: Client) -> None:
    """Code, kind, detail, offences and headers are all there."""
    refusal = Refusal(ErrorKind.INVALID_INPUT, "name is missing.", offences=(Offence("name", "is missing"),))
    peer = await _peer(nats_server, build_refusal(refusal, META))
    with pytest.raises(CrankError) as caught:
        await client.request("a:b")
    error = caught.value
    assert (error.code, error.kind, error.detail) == (422, "invalid_input", "name is missing.")
    assert error.problem.errors == (Offence("name", "is missing"),)
    assert error.meta["crank-controller"] == "c-1"
    assert len(peer.asked) == 1
    await peer.stop()


async def test_an_error_that_is_no_problem_body_is_still_told(nats_server: NatsServer, client: Client) -> None:
    """A foreign service's code and text are enough."""
    peer = await _peer(
        nats_server, (b"NATS/1.0\r\nNats-Service-Error-Code: 418\r\nNats-Service-Error: teapot\r\n\r\n", b"short")
    )
    with pytest.raises(CrankError, match="teapot") as caught:
        await client.request("a:b")
    assert (caught.value.code, caught.value.kind) == (418, "")
    await peer.stop()


async def test_frames_come_one_by_one_and_a_request_joins_them(nats_server: NatsServer, client: Client) -> None:
    """Progress is no part of the answer."""
    frames = [
        _frame("chunk", 0, b"a"),
        _frame("progress", 1, b"50 %"),
        _frame("chunk", 2, b"b"),
        _frame("end", 3, b"c"),
    ]
    peer = await _peer(nats_server, *frames)
    seen = [(frame.kind, frame.seq, frame.body) async for frame in client.stream("a:b")]
    assert seen == [("chunk", 0, b"a"), ("progress", 1, b"50 %"), ("chunk", 2, b"b"), ("end", 3, b"c")]
    assert (await client.request("a:b")).body == b"abc"
    assert not [asked for asked in peer.asked if "cancel" in asked.subject]
    await peer.stop()


@pytest.mark.parametrize("numbers", [(0, 2), (1,), (0, 0)])
async def test_a_frame_that_is_missing_is_told(
    nats_server: NatsServer, client: Client, numbers: tuple[int, ...]
) -> None:
    """Frames are lost when a connection breaks; an answer with a hole in it is none."""
    peer = await _peer(nats_server, *[_frame("chunk", seq, b"x") for seq in numbers])
    with pytest.raises(Unreachable, match="was lost"):
        await client.request("a:b", b"{}")
    await peer.stop()


async def test_a_stream_may_end_in_a_failure(nats_server: NatsServer, client: Client) -> None:
    """What came before it was yielded."""
    failure = build_refusal(Refusal(ErrorKind.WORKER_LOST, "The worker went away."), META, "end", 1)
    peer = await _peer(nats_server, _frame("chunk", 0, b"a"), failure)
    stream = client.stream("a:b")
    assert (await anext(stream)).body == b"a"
    with pytest.raises(CrankError) as caught:
        await anext(stream)
    assert caught.value.kind == "worker_lost"
    await peer.stop()


async def test_silence_ends_the_wait_and_cancels_the_request(nats_server: NatsServer, client: Client) -> None:
    """A controller that died says nothing; the caller is told that the work may have run."""
    peer = await _peer(nats_server, _frame("chunk", 0, b"a"))
    with pytest.raises(CrankError) as caught:
        await client.request("a:b", request_id="r-7", idle_timeout_s=0.1)
    assert caught.value.kind == "deadline"
    assert caught.value.problem.maybe_executed
    await _until_asked(peer, "crank.cancel.r-7")
    await peer.stop()


async def test_leaving_the_loop_or_being_cancelled_cancels_the_request(nats_server: NatsServer, client: Client) -> None:
    """Nobody computes for a caller who left."""
    peer = await _peer(nats_server, _frame("chunk", 0, b"a"))
    stream = client.stream("a:b", request_id="r-8")
    async for _ in stream:
        break
    await stream.aclose()
    await _until_asked(peer, "crank.cancel.r-8")
    task = asyncio.create_task(client.request("a:b", request_id="r-9"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until_asked(peer, "crank.cancel.r-9")
    await peer.stop()


async def test_an_answer_without_end_fills_no_memory(
    nats_server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies unread is bounded, and so is an answer that is wanted whole; the request is cancelled."""
    for module in ("frames", "unread"):
        monkeypatch.setattr(f"callers.{module}.MAX_BYTES", 5000)
    peer = await _peer(nats_server, *[_frame("chunk", at, b"x" * 1000) for at in range(8)])
    stream = client.stream("a:b", request_id="r-11")
    assert (await anext(stream)).seq == 0
    await asyncio.sleep(0.05)
    seen = []
    with pytest.raises(CrankError, match="lies unread") as caught:
        seen += [frame.seq async for frame in stream]
    assert caught.value.kind == "too_large"
    await _until_asked(peer, "crank.cancel.r-11")
    await peer.stop()
    monkeypatch.setattr("callers.unread.MAX_BYTES", 50_000)
    peer = await _peer(nats_server, *[_frame("chunk", at, b"x" * 1000) for at in range(8)])
    with pytest.raises(CrankError, match="piece by piece with stream") as caught:
        await client.request("a:b", request_id="r-12")
    assert caught.value.capability == "a:b"
    await _until_asked(peer, "crank.cancel.r-12")
    await peer.stop()


async def test_bytes_that_are_no_headers_are_a_failure_and_no_crash(nats_server: NatsServer, client: Client) -> None:
    """A reply that cannot be read is 502."""
    peer = await _peer(nats_server, (b"NATS/1.0\r\n\xff: x\r\n\r\n", b""))
    with pytest.raises(CrankError) as caught:
        await client.request("a:b")
    assert caught.value.kind == "worker_protocol"
    await peer.stop()


async def test_nobody_to_talk_to_is_told_apart_from_a_refusal(nats_server: NatsServer, client: Client) -> None:
    """No server, no controller, and a server that went away."""
    with pytest.raises(Unreachable, match="no controller listens"):
        await client.request("a:b")
    with pytest.raises(Unreachable, match="no controller listens"):
        await client.admin("workers")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        await Client.connect("nats://127.0.0.1:1", timeout_s=0.5)
    await nats_server.stop()
    await asyncio.sleep(0.1)
    with pytest.raises(Unreachable, match="gone"):
        await client.request("a:b")


async def test_what_the_server_does_not_take_is_refused_here(nats_server: NatsServer, client: Client) -> None:
    """413 before a byte left."""
    with pytest.raises(CrankError) as caught:
        await client.request("a:b", b"x" * (3 * 1024 * 1024))
    assert caught.value.kind == "too_large"


async def test_a_list_is_read_page_by_page(nats_server: NatsServer, client: Client) -> None:
    """``next`` is handed back as ``after`` until there is none; a page that leads to itself ends it."""
    pages = {b'{"limit":2}': b'{"workers":[{"worker_id":"a"},{"worker_id":"b"}],"next":"b"}'}
    last = b'{"workers":[{"worker_id":"c"}],"next":"b"}'
    script: Script = lambda asked: _one(pages.get(asked.body, last))  # noqa: E731
    peer = await Peer.start(nats_server.url, script)
    found = await client.listed("workers", limit=2)
    assert [worker["worker_id"] for worker in found] == ["a", "b", "c"]
    assert peer.asked[1] == Asked("crank.admin.workers", "", b'{"limit":2,"after":"b"}')
    await peer.stop()


def _one(body: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    yield None, body


async def test_a_capability_that_is_no_subject_never_leaves(client: Client) -> None:
    """The client refuses what would be an injection, with the exception that all failures are."""
    for wrong in ("a:b.>", "greet", "", 7):
        with pytest.raises(CrankError, match="verb:name") as caught:
            await client.request(wrong)  # type: ignore[arg-type]
        assert caught.value.kind == "malformed"
    for wrong in ("a.b", "*", ""):
        with pytest.raises(CrankError, match="request id"):
            await client.cancel(wrong)


@pytest.mark.parametrize("url", ["4222", "http://127.0.0.1:4222", ""])
async def test_an_address_that_is_none_is_the_same_exception(url: str) -> None:
    """And it says what one looks like."""
    with pytest.raises(CrankError, match="such as nats://127"):
        await Client.connect(url)


class _Name(msgspec.Struct):
    name: str


class _Model(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (b"\xff", b"\xff"),
        ("Grüße", "Grüße".encode()),
        (None, b""),
        ({"name": "A"}, b'{"name":"A"}'),
        ([1, None], b"[1,null]"),
        (_Name("A"), b'{"name":"A"}'),
        (_Model(name="A"), b'{"name":"A"}'),
        ({"who": _Model(name="A")}, b'{"who":{"name":"A"}}'),
    ],
)
async def test_data_goes_out_as_what_it_is(nats_server: NatsServer, client: Client, data: object, sent: bytes) -> None:
    """Bytes as they are, text as UTF-8, everything else as JSON."""
    peer = await _peer(nats_server, (None, b""))
    await client.request("a:b", data)
    assert peer.asked[0].body == sent
    await peer.stop()


@pytest.mark.parametrize("data", [object(), {"a": object()}, {(1, 2): 3}, "\ud800"])
async def test_data_that_cannot_be_sent_is_refused_here(client: Client, data: object) -> None:
    """400, by the one exception that all failures are."""
    with pytest.raises(CrankError, match="cannot be sent") as caught:
        await client.request("a:b", data)
    assert caught.value.kind == "malformed"


async def test_headers_that_are_no_text_are_refused_here(client: Client) -> None:
    """A number is written as text by whoever means one."""
    with pytest.raises(CrankError, match="X-Count"):
        await client.request("a:b", headers={"X-Count": 3})  # type: ignore[dict-item]
    for name in ("X-A: 1\r\nCrank-Priority", "\udc80", "X A", ""):
        with pytest.raises(CrankError, match="is not the name of a header"):
            await client.request("a:b", headers={name: "x"})


async def test_an_id_that_is_none_is_refused_here(nats_server: NatsServer, client: Client) -> None:
    """It could not be cancelled, which whoever stops waiting would hear instead of having stopped."""
    peer = await _peer(nats_server)
    for options in ({"request_id": "a b"}, {"headers": {"Crank-Request-Id": "a.b\r\nPUB"}}):
        asking = asyncio.create_task(client.request("a:b", **options))  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(CrankError, match="The request id 'a") as caught:
            await asking
        assert caught.value.kind == "malformed"
    assert peer.asked == []
    await peer.stop()


async def _until_asked(peer: Peer, subject: str) -> None:
    async with asyncio.timeout(5):
        while subject not in [asked.subject for asked in peer.asked]:
            await asyncio.sleep(0.01)


class Greeting(msgspec.Struct):
    greeting: str


class Model(pydantic.BaseModel):
    greeting: str


async def test_an_answer_becomes_the_type_that_is_asked_for(nats_server: NatsServer, client: Client) -> None:
    """A struct, a model, text and bytes are read from the same body."""
    peer = await _peer(nats_server, (None, b'{"greeting":"Hello"}'))
    answer = await client.request("a:b")
    assert answer.decode(Greeting) == Greeting("Hello")
    assert answer.decode(Model) == Model(greeting="Hello")
    assert answer.decode(str) == '{"greeting":"Hello"}'
    assert answer.decode(bytes) == answer.body
    await peer.stop()


@pytest.mark.parametrize(
    ("body", "why"), [(b'{"greeting":1}', r"at \$\.greeting"), (b"{", "not JSON"), (b"\xff", "502")]
)
async def test_an_answer_of_another_type_is_the_workers_failure(
    nats_server: NatsServer, client: Client, body: bytes, why: str
) -> None:
    """It is a 502 like any other broken answer, with the place and with who sent it."""
    peer = await _peer(nats_server, (build_reply(META, None, ""), body))
    answer = await client.request("a:b")
    for read in (lambda: answer.decode(Greeting), lambda: answer.decode(Model)):
        with pytest.raises(CrankError, match=why) as caught:
            read()
        assert (caught.value.code, caught.value.meta["crank-worker"]) == (502, "w-1")
        assert re.search(r": The answer is no (Greeting|Model): it (does not fit|is not JSON)", str(caught.value))
    with pytest.raises(CrankError, match=r": The answer is no list\[int\]: it "):
        answer.decode(list[int])
    await peer.stop()


async def test_the_hint_says_what_the_detail_leaves_out(nats_server: NatsServer, client: Client) -> None:
    """Near matches, a possible execution and the time to wait, each once."""
    refusal = Refusal(
        ErrorKind.WORKER_LOST, "It went away.", retry_after_ms=1500, maybe_executed=True, near=("a:c", "a:d")
    )
    peer = await _peer(nats_server, build_refusal(refusal, META))
    with pytest.raises(CrankError) as caught:
        await client.request("a:b")
    assert caught.value.hint == "There is: a:c, a:d. The work may have run. Try again in 1.5 s."
    await peer.stop()


async def test_the_hint_says_that_an_error_is_replayed(nats_server: NatsServer, client: Client) -> None:
    """Nothing ran again, so nothing may have run."""
    refusal = Refusal(ErrorKind.WORKER_ERROR, "It is broken.", maybe_executed=True)
    meta = msgspec.structs.replace(META, replayed=True)
    block = build_reply(meta, PROBLEM_CONTENT_TYPE, "", error=StoredError(500, "It is broken."))
    peer = await _peer(nats_server, (block, problem_body(refusal, "r-1")))
    with pytest.raises(CrankError) as caught:
        await client.request("a:b")
    assert caught.value.kind == "worker_error"
    assert caught.value.hint == "The first request with this key was answered so; nothing ran again."
    await peer.stop()


async def test_what_is_said_of_a_request_becomes_the_contracts_headers(nats_server: NatsServer, client: Client) -> None:
    """Each option is one header, what is not given is none, and a misspelled one is told."""
    peer = await _peer(nats_server, (None, b""))
    await client.request(
        "a:b", version="^1", priority="low", budget_tokens=0.5, latency_ms=20, constraints={"gpu_count": 1},
        dry_run=False, content_type="text/plain", headers={"X-Own": "one\r\ntwo"},
    )  # fmt: skip
    lines = set(peer.asked[0].headers.split("\r\n"))
    assert lines >= {
        "Crank-Version: ^1", "Crank-Priority: low", "Crank-Budget-Tokens: 0.5", "Crank-Latency-Ms: 20",
        'Crank-Constraints: {"gpu_count":1}', "Content-Type: text/plain", "X-Own: one  two",
    }  # fmt: skip
    assert "Dry-Run" not in peer.asked[0].headers
    assert "Timeout" not in peer.asked[0].headers
    with pytest.raises(TypeError, match="'versoin'"):
        await client.request("a:b", versoin="^1")  # type: ignore[call-arg]
    await peer.stop()


async def test_an_id_given_as_a_header_is_the_one_that_is_cancelled(nats_server: NatsServer, client: Client) -> None:
    """Whichever way the id was said, leaving cancels the request that was sent."""
    peer = await _peer(nats_server, _frame("chunk", 0, b"a"))
    stream = client.stream("a:b", headers={"crank-request-id": "r-10"})
    async for _ in stream:
        break
    await stream.aclose()
    await _until_asked(peer, "crank.cancel.r-10")
    await peer.stop()


def test_an_answer_is_read_in_a_program_that_has_nothing_but_the_client() -> None:
    """Types that only pydantic reads are not needed for plain JSON."""
    program = "from callers import Answer; import sys; print(Answer('end', 0, b'[1]', {}, '').json(), *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, check=False
    )
    shown, *modules = done.stdout.split()
    assert (shown, done.stderr) == ("[1]", "")
    assert "pydantic" not in modules


async def test_closing_tells_whoever_still_waits(nats_server: NatsServer, client: Client) -> None:
    """No answer can come any more, so the wait ends at once."""
    peer = await _peer(nats_server)
    asking = asyncio.create_task(client.request("a:b"))
    while not peer.asked:
        await asyncio.sleep(0.005)
    await client.close()
    with pytest.raises(Unreachable, match="closed before the answer came"):
        await asyncio.wait_for(asking, 5)
    await peer.stop()


async def test_a_closed_client_says_so(nats_server: NatsServer) -> None:
    """Whoever asks after the end of its ``async with`` looks there, and not at the server."""
    async with await Client.connect(nats_server.url) as client:
        pass
    for ask in (lambda: client.request("a:b"), lambda: client.cancel("r-1"), lambda: client.admin("workers")):
        with pytest.raises(Unreachable, match="this client is closed"):
            await ask()
