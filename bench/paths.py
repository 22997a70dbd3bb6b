"""Owns the three ways from the client to the worker: which subject a request goes to, and where the worker listens."""

from __future__ import annotations

VERB, NAME = "echo", "bench"
WORKER_ID = "bench-1"

FLOOR = "floor.echo.bench"
PASS_THROUGH = f"pt.request.{VERB}.{NAME}"
BEHIND_PASS_THROUGH = f"pt.worker.{VERB}.{NAME}"
CRANK = f"crank.request.{VERB}.{NAME}"
BEHIND_CRANK = f"crank.worker.{WORKER_ID}.{VERB}.{NAME}"

SUBJECTS = {"floor": FLOOR, "pass-through": PASS_THROUGH, "crank": CRANK}
MEASURE = "bench.measure"
"""Where the client is told what to measure."""
