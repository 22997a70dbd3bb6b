"""Greets: the reference for every field that a worker can declare."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from workers import Worker

worker = Worker(
    "hello_world",
    # FaaS: what it runs on, and what it needs.
    runtime="python3.11",
    env_profile="python-core",
    constraints={
        "min_memory_mb": 64,
        "max_memory_mb": 128,
        "cpu_shares": 128,
        "timeout_s": 5,
        "max_output_bytes": 4096,
    },
    # SLO: what it promises.
    slo={
        "latency_p50_ms": 50,
        "latency_p95_ms": 100,
        "latency_p99_ms": 200,
        "availability_pct": 99.5,
        "error_budget_pct": 0.5,
    },
    # Identity: who it is, and what it may call in turn, which is nothing.
    spiffe_id="spiffe://crank.local/worker/hello-world",
    required_capabilities=(),
    # Economics: its price, and what it bids for priority.
    cost_tokens_per_invocation=0.1,
    slo_bid=1.0,
    # Mesh: the controller that it stands next to.
    controller_affinity=("controller-a",),
)


class Greet(Struct):
    """Whom to greet."""

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S", description="whom to greet")]


class Greeting(Struct):
    """The greeting."""

    greeting: str


@worker.capability("greet:hello_world", version="1.0.0", max_concurrency=64, idempotent=True)
async def hello_world(greet: Greet) -> Greeting:
    """Say hello to one name."""
    return Greeting(f"Hello, {greet.name.strip()}!")


if __name__ == "__main__":
    worker.run()
