"""Owns measuring the requests that go through ``callers.Client`` in this process: how each ended and how long it took.

The pytest plugin starts it. What counts as failed is what counts against an error budget: whatever was not the caller's
own fault. What was cancelled, left early, replayed or a dry run is not counted at all.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import perf_counter
from typing import Any

from callers.asking import Asked
from callers.client import Client
from callers.failures import CrankError
from callers.frames import Frame
from crank.slo.measured import Measured, ordered, rounded
from subjects.headers import DRY_RUN
from subjects.replies import is_replayed
from subjects.tokens import CapabilityId


class Recorder:
    """Counts, by capability."""

    def __init__(self) -> None:
        self._failed: Counter[CapabilityId] = Counter()
        self._took: dict[CapabilityId, Counter[float | None]] = {}

    def succeeded(self, capability: CapabilityId, took_ms: float) -> None:
        """A request was answered after ``took_ms``."""
        self._took.setdefault(capability, Counter())[rounded(took_ms)] += 1

    def failed(self, capability: CapabilityId) -> None:
        """A request was not answered, or not as it should be."""
        self._failed[capability] += 1

    def results(self) -> dict[CapabilityId, Measured]:
        """Everything so far."""
        found = {}
        for capability in self._failed.keys() | self._took.keys():
            took, failed = self._took.get(capability, Counter()), self._failed[capability]
            found[capability] = Measured(took.total() + failed, failed, ordered(took))
        return found


def record(recorder: Recorder) -> None:
    """From now on, every request of every client in this process is counted."""
    inner = Client._frames

    @functools.wraps(inner)
    async def frames(client: Client, request: Asked, **options: Any) -> AsyncGenerator[Frame, None]:
        began = perf_counter()
        try:
            async with aclosing(inner(client, request, **options)) as answer:
                async for frame in answer:
                    if frame.kind == "end" and not frame.replayed and not _is_dry_run(request):
                        recorder.succeeded(request.capability, (perf_counter() - began) * 1000)
                    yield frame
        except CrankError as error:
            if client._exchange.closed or is_replayed(error.meta) or _is_dry_run(request):
                pass
            elif _is_an_answer(error):
                recorder.succeeded(request.capability, (perf_counter() - began) * 1000)
            elif error.code >= 500:
                recorder.failed(request.capability)
            raise

    Client._frames = frames  # type: ignore[assignment,method-assign]


def _is_an_answer(error: CrankError) -> bool:
    """Whether the worker said what was wrong with the request: it worked as it should."""
    worker_code = error.problem.worker_code
    return error.kind == "worker_error" and worker_code is not None and 400 <= worker_code < 500


def _is_dry_run(request: Asked) -> bool:
    return f"\n{DRY_RUN}: true\r".lower().encode() in request.block.lower()
