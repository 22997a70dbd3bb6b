"""A service written with the official JavaScript client, adopted: another reading of the same protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path

from crank.natsd import NatsServer
from subjects.headers import build_block, parse_block
from tests.adopting.conftest import Adopt
from tests.edge.peers import Caller
from tests.interop.conftest import JAVASCRIPT, node, plain_environment  # noqa: F401  # as a fixture here

SERVICE = """
import { connect } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const nc = await connect({ servers: process.env.CRANK_NATS_URL });
const service = await new Svcm(nc).add({ name: "orders", version: "3.1.0" });
const shop = service.addGroup("shop");
shop.addEndpoint("total", (error, request) => {
  const items = request.json();
  if (items.length === 0) return request.respondError(404, "No such order");
  const headers = request.headers;
  headers.set("X-Shop", "main");
  request.respond(String(items.reduce((a, b) => a + b)), { headers });
});
shop.addEndpoint("slow", {
  metadata: { "crank.idempotent": "true", "crank.max_concurrency": "2" },
  handler: (error, request) => setTimeout(() => request.respond("1"), 10),
});
console.log("ready");
"""


async def test_a_javascript_service_is_adopted_as_it_is(
    node: str,  # noqa: F811
    nats_server: NatsServer,
    adopting: Adopt,
    caller: Caller,
    tmp_path: Path,
) -> None:
    """Answers, errors, headers both ways, metadata, and several requests at once."""
    environment = plain_environment(tmp_path, CRANK_NATS_URL=nats_server.url)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        node, "--input-type=module", "-", cwd=JAVASCRIPT, env=environment, stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(SERVICE.encode())
        process.stdin.close()
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
        await adopting()
        answer = await caller.bus.request("crank.request.orders.total", b"[1,2,3]", build_block([("X-Tenant", "b")]))
        assert answer.body == b"6"
        assert "X-Tenant: b\r\n" in parse_block(answer.headers).passed  # type: ignore[union-attr]
        assert "X-Shop: main\r\n" in parse_block(answer.headers).passed  # type: ignore[union-attr]
        code, problem, _ = await caller.ask("orders:total", b"[]")
        assert (code, problem["worker_code"], problem["worker_message"]) == (500, 404, "No such order")
        assert [one[:2] for one in await asyncio.gather(*(caller.ask("orders:slow") for _ in range(8)))] == [(0, 1)] * 8
        _, listed = await caller.tell("crank.admin.capabilities")
        slow = next(item for item in listed["capabilities"] if item["name"] == "slow")
        assert (slow["versions"], slow["idempotent"], slow["max_concurrency"]) == (["3.1.0"], True, 2)
    finally:
        process.kill()
        await process.wait()
