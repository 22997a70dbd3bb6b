"""The worker of a direct request and behind both routers: a bare nats-py responder. ``python -m bench.worker URL``.

It sends back what it got. One process serves the three subjects with one handler, so that its cost is the same in
all. It registers itself with Crank as the wire contract says, without the worker SDK.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import nats.errors

from bench import paths
from bench.plain import Client, Msg, connect_end, run

_REGISTER_PAUSE_S = 0.1
_MANIFEST: dict[str, Any] = {
    "worker_id": paths.WORKER_ID,
    "instance": "bench",
    "capabilities": [{"verb": paths.VERB, "name": paths.NAME, "version": "1.0.0", "max_concurrency": 1000}],
}


async def serve(connection: Client) -> None:
    """Answer on every path, and stay registered."""
    again = asyncio.Event()

    async def answer(message: Msg) -> None:
        await connection.publish(message.reply, message.data)

    async def control(message: Msg) -> None:
        if json.loads(message.data).get("op") == "reregister":
            again.set()

    for subject in (paths.DIRECT, paths.BEHIND_PASS_THROUGH, paths.BEHIND_CRANK):
        await connection.subscribe(subject, cb=answer)
    await connection.subscribe(f"crank.control.{paths.WORKER_ID}", cb=control)
    interval_s = await _register(connection)
    seq = 0
    while True:
        seq += 1
        beat = json.dumps({"seq": seq, "instance": "bench"})
        await connection.publish(f"crank.heartbeat.{paths.WORKER_ID}", beat.encode())
        await asyncio.sleep(interval_s)
        if again.is_set():
            again.clear()
            await _register(connection)


async def _register(connection: Client) -> float:
    """Register as soon as a controller is there; returns the seconds between heartbeats."""
    manifest = json.dumps(_MANIFEST).encode()
    while True:
        try:
            answer = await connection.request(f"crank.register.{paths.WORKER_ID}", manifest, timeout=2)
        except nats.errors.Error:
            await asyncio.sleep(_REGISTER_PAUSE_S)
            continue
        said = json.loads(answer.data)
        if said.get("status") == "registered":
            return float(said["heartbeat_interval_s"])
        await asyncio.sleep(_REGISTER_PAUSE_S)


if __name__ == "__main__":
    run(serve, "bench worker", connect_end)
