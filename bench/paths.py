"""Owns the lanes of the comparison: who sends what where, which process answers, and which one stands between."""

from __future__ import annotations

from typing import Literal, NamedTuple

VERB, NAME = "echo", "bench"
WORKER_ID = "bench-1"

DIRECT = "direct.echo.bench"
PASS_THROUGH = f"pt.request.{VERB}.{NAME}"
BEHIND_PASS_THROUGH = f"pt.worker.{VERB}.{NAME}"
MICRO = "micro.echo.bench"
FASTSTREAM = "faststream.echo.bench"
CRANK = f"crank.request.{VERB}.{NAME}"
BEHIND_CRANK = f"crank.worker.{WORKER_ID}.{VERB}.{NAME}"

BARE_ID, SDK_ID = "bench-bare", "bench-sdk"
BARE_WORKER = f"crank.worker.{BARE_ID}.{VERB}.bare"
SDK_BYTES = f"crank.worker.{SDK_ID}.{VERB}.bytes"
SDK_TYPED = f"crank.worker.{SDK_ID}.{VERB}.typed"


Key = Literal["", "new", "same"]
"""The Idempotency-Key of a measurement's requests: none, another one each time, or one for all of them."""


class Lane(NamedTuple):
    """A way from whoever asks (``by``: client or dispatcher) to ``worker``, through ``router`` if there is one.

    ``worker`` None: nobody works, but for the first request of each measurement.
    """

    name: str
    subject: str
    worker: str | None
    router: str | None = None
    by: str = "client"
    key: Key = ""


REQUESTS = (
    Lane("direct", DIRECT, "worker"),
    Lane("pass-through", PASS_THROUGH, "worker", "pass-through"),
    Lane("nats.micro", MICRO, "nats.micro"),
    Lane("FastStream", FASTSTREAM, "FastStream"),
    Lane("crank", CRANK, "worker", "crank"),
    Lane("crank, keyed", CRANK, "worker", "crank", key="new"),
    Lane("crank, again", CRANK, None, "crank", key="same"),
)
"""A caller's request and its answer. A micro service and FastStream answer it themselves; nobody chooses a worker."""

DISPATCHES = (
    Lane("bare nats-py", BARE_WORKER, "bare", by="dispatcher"),
    Lane("SDK, bytes", SDK_BYTES, "sdk", by="dispatcher"),
    Lane("SDK, typed", SDK_TYPED, "sdk", by="dispatcher"),
)
"""What a controller sends, straight to a worker."""


def measure_subject(by: str) -> str:
    """Where the client, or the dispatcher, is told what to measure."""
    return f"bench.measure.{by}"
