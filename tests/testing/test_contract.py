"""What a caller and a handler can rely on, held by the SDK over a real server and by the harness in memory alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from callers import Answer
from crank import Client, Context, CrankError, PermanentError, Response, RetryableError, Worker
from tests.testing.conftest import Serving, until_idle


class Order(msgspec.Struct):
    item: str
    count: int = 1


def _shop() -> Worker:
    worker = Worker("shop", runtime="python3.11", max_concurrency=4)

    @worker.capability("shop:order", idempotent=True, cost_tokens_per_invocation=0.5)
    async def order(wanted: Order) -> Order:
        if wanted.item == "gone":
            raise PermanentError("We have none; ask for bread", code=410)
        if wanted.item == "later":
            raise RetryableError("The baker sleeps", retry_after_s=2)
        if wanted.item == "bug":
            raise RuntimeError("a secret")
        return wanted

    @worker.capability("shop:order", version="2.1.0")
    async def newer(wanted: Order) -> Response[dict[str, str]]:
        return Response({"ordered": wanted.item}, headers={"X-Shelf": "7"})

    @worker.capability("shop:wrong", output_schema={"type": "integer"}, content_type="application/json")
    def wrong() -> str:
        return '"text"'

    @worker.capability("shop:size")
    def size(body: bytes, ctx: Context) -> str:
        return f"{len(body)} {ctx.content_type} {ctx.headers.get('x-tenant')}"

    @worker.capability("shop:count")
    async def count(upto: int, ctx: Context) -> AsyncIterator[str]:
        for number in range(upto):
            await ctx.progress({"at": number})
            yield f"{number} "
        if upto > 3:
            raise PermanentError("that is enough")

    @worker.capability("shop:wait")
    async def wait(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    return worker


async def _refused(client: Client, capability: str, data: object = b"", **options: Any) -> CrankError:
    with pytest.raises(CrankError) as caught:
        await client.request(capability, data, **options)
    return caught.value


async def test_an_answer_comes_typed_with_who_did_it(serving: Serving) -> None:
    """JSON, bytes, content types and headers in both directions; every version is answered by its own handler."""
    async with serving(_shop()) as client:
        answer = await client.request("shop:order", Order("bread", 2), version="^1", request_id="r-1")
        assert answer.decode(Order) == Order("bread", 2)
        meta = {key: answer.meta[f"crank-{key}"] for key in ("worker", "version", "attempts", "request-id")}
        assert meta == {"worker": "shop-1", "version": "1.0.0", "attempts": "1", "request-id": "r-1"}
        assert float(answer.meta["crank-cost-tokens"]) == 0.5
        newest = await client.request("shop:order", {"item": "jam"}, version=">=2")
        assert (newest.json(), newest.headers, newest.meta["crank-version"]) == (
            {"ordered": "jam"}, {"x-shelf": "7"}, "2.1.0",
        )  # fmt: skip
        raw = await client.request(
            "shop:size", b"\xff" * 9, content_type="application/x-odd", headers={"X-Tenant": "blue"}
        )
        assert (raw.body, raw.content_type) == (b"9 application/x-odd blue", "text/plain; charset=utf-8")


async def test_every_refusal_has_its_code_and_says_why(serving: Serving) -> None:
    """From the headers to the answer: 400, 404, 412, 422, 500, 502, 503 and 504, as the contract's table has them."""
    async with serving(_shop()) as client:
        for expected, part, capability, data, options in (
            ("malformed", "Crank-Priority", "shop:order", {"item": "x"}, {"priority": "urgent"}),
            ("malformed", "JSON", "shop:order", "{nonsense", {}),
            ("no_such_capability", "shop:order", "shop:ordr", {}, {}),
            ("no_match", "Crank-Version", "shop:order", {"item": "x"}, {"version": "^3"}),
            ("over_budget", "0.5", "shop:order", {"item": "x"}, {"version": "^1", "budget_tokens": 0.1}),
            ("invalid_input", "item", "shop:order", {"item": 3}, {}),
            ("worker_error", "ask for bread", "shop:order", {"item": "gone"}, {"version": "^1"}),
            ("worker_error", "its log has the details", "shop:order", {"item": "bug"}, {"version": "^1"}),
            ("worker_protocol", "schema", "shop:wrong", {}, {}),
            ("deadline", "", "shop:wait", 30, {"timeout_ms": 60}),
        ):
            error = await _refused(client, capability, data, **options)
            assert error.kind == expected, error
            assert part in error.detail, error
            assert error.capability == capability
        later = (await _refused(client, "shop:order", {"item": "later"}, version="^1")).problem
        assert (later.worker_code, later.worker_message, later.retry_after_ms) == (503, "The baker sleeps", 2000)
        assert "a secret" not in str(error)
        await until_idle(client)


async def test_a_stream_comes_piece_by_piece_and_can_end_in_an_error(serving: Serving) -> None:
    """Progress, chunks, end; after some frames an error ends it."""
    async with serving(_shop()) as client:
        frames = [(frame.kind, frame.seq, frame.body) async for frame in client.stream("shop:count", 2)]
        assert frames == [
            ("progress", 0, b'{"at":0}'), ("chunk", 1, b"0 "), ("progress", 2, b'{"at":1}'), ("chunk", 3, b"1 "),
            ("end", 4, b""),
        ]  # fmt: skip
        assert (await client.request("shop:count", 3)).body == b"0 1 2 "
        kinds: list[str] = []

        async def follow() -> None:
            kinds.extend([frame.kind async for frame in client.stream("shop:count", 3)])
            async for frame in client.stream("shop:count", 4):
                kinds.append(frame.kind)  # noqa: PERF401  # until it fails

        with pytest.raises(CrankError, match="that is enough"):
            await follow()
        assert kinds.count("chunk") == 3 + 4


async def test_a_dry_run_decides_and_runs_nothing(serving: Serving) -> None:
    """Its answer is the decision record."""
    ran: list[int] = []
    worker = Worker("t")

    @worker.capability("a:b")
    async def do() -> None:
        ran.append(1)

    async with serving(worker) as client:
        record = (await client.request("a:b", dry_run=True)).json()
        assert [candidate["worker_id"] for candidate in record["candidates"]] == ["t-1"]
        assert record["chosen"] == "t-1"
        assert ran == []


async def test_an_operator_sees_workers_and_capabilities(serving: Serving) -> None:
    """With every version and all that was declared."""
    async with serving(_shop(), _worker("other")) as client:
        workers = {row["worker_id"]: row for row in await client.listed("workers")}
        assert workers.keys() == {"shop-1", "other-1"}
        assert workers["shop-1"]["state"] == "alive"
        capabilities = {f"{row['verb']}:{row['name']}": row for row in await client.listed("capabilities")}
        order = capabilities["shop:order"]
        assert (order["versions"], order["workers"], order["runtime"]) == (["1.0.0", "2.1.0"], 1, "python3.11")
        assert order["input_schema"]["$defs"]["Order"]["required"] == ["item"]
        [health] = (await client.admin("health"))["health"]
        assert health["workers"] == 2


def _worker(name: str) -> Worker:
    worker = Worker(name)

    @worker.capability("own:thing")
    async def thing() -> None: ...

    return worker


async def test_the_same_key_runs_once_and_gets_the_same_answer(serving: Serving) -> None:
    """Under another payload it is refused, and a refusal by the worker is kept as well."""
    worker, runs = Worker("once"), []

    @worker.capability("shop:buy")
    def buy(body: bytes) -> bytes:
        runs.append(body)
        if body == b"none":
            raise PermanentError("We have none", code=410)
        return b"%d" % len(runs)

    async with serving(worker) as client:
        first, again = [await client.request("shop:buy", b"x", idempotency_key="k") for _ in range(2)]
        assert (first.body, again.body) == (b"1", b"1")
        assert (first.replayed, again.replayed) == (False, True)
        reused = await _refused(client, "shop:buy", b"y", idempotency_key="k")
        assert reused.kind == "key_reused"
        for _ in range(2):
            refused = await _refused(client, "shop:buy", b"none", idempotency_key="l")
            assert "We have none" in str(refused)
        large = await client.request("shop:buy", b"z" * 1_000_000, idempotency_key="m")
        assert large.body == b"3"
    assert runs == [b"x", b"none", b"z" * 1_000_000]


async def test_two_at_once_under_one_key_run_once(serving: Serving) -> None:
    """The second waits for the first one's answer."""
    worker, runs = Worker("slow"), []

    @worker.capability("shop:bake", max_concurrency=2)
    async def bake() -> str:
        runs.append(1)
        await asyncio.sleep(0.1)
        return "bread"

    async with serving(worker) as client:
        answers = await asyncio.gather(*(client.request("shop:bake", idempotency_key="k") for _ in range(2)))
        assert sorted(answer.replayed for answer in answers) == [False, True]
        assert {answer.body for answer in answers} == {b"bread"}
    assert runs == [1]


async def test_a_job_is_done_and_its_result_is_there_to_be_asked_for(serving: Serving) -> None:
    """Submitted twice it is the same one; a large result comes back whole."""
    worker, runs = Worker("jobs"), []

    @worker.capability("shop:order_later")
    def later(body: bytes) -> bytes:
        runs.append(body)
        return body * 700_000

    async with serving(worker) as client:
        jobs = [await client.submit("shop:order_later", b"x", idempotency_key="k") for _ in range(2)]
        assert (jobs[0].job_id, jobs[0].duplicate) == (jobs[1].job_id, False)
        assert jobs[1].duplicate
        result = await client.result(jobs[0].job_id, timeout_ms=5000)
        assert isinstance(result, Answer)
        assert result.body == b"x" * 700_000
        assert runs == [b"x"]
        assert (await _refused_result(client, "0" * 52)).kind == "no_such_job"


async def _refused_result(client: Client, job_id: str) -> CrankError:
    with pytest.raises(CrankError) as caught:
        await client.result(job_id, timeout_ms=1000)
    return caught.value


async def test_nats_services_are_answered(serving: Serving) -> None:
    """``$SRV.INFO`` lists the capabilities, in memory too: the edges are the real ones."""
    async with serving(_shop()) as client:
        message = await client._bus.request("$SRV.INFO.crank-controller", b"")
        names = {endpoint["name"] for endpoint in json.loads(message.body)["endpoints"]}
        assert {"shop-order", "shop-count"} <= {name.replace(":", "-").replace(".", "-") for name in names}
