"""Owns the desk where dispatches arrive: reads them, turns them away at once or starts a run, counts what runs.

A synchronous handler of the bus: an async handler costs one task, a plain one a place in its capability's threads.
``workers.runtime`` subscribes it. How a run goes on is told in ``workers.runs``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from subjects.answers import Fault, NotRun
from subjects.dispatches import DispatchHeaders, parse_dispatch
from subjects.errors import Refusal
from subjects.headers import parse_block
from subjects.names import Subjects
from subjects.tokens import WorkerId
from subjects.versions import by_precedence
from workers.calling import Calls
from workers.declarations import Offer
from workers.injection import Injection
from workers.outbox import Outbox
from workers.runs import Equipment, Run
from workers.writing import Terminal

_BUSY, _DRAINING, _TOO_LATE = NotRun("busy"), NotRun("draining"), NotRun("deadline")
_CANCELLED = Fault(499, "The request was cancelled")
_STOPPED = Fault(503, "The worker was stopped before the work was done", retryable=True)
# The controller says when the time is over, by its own clock, and cancels; a fault of ours that came first would make
# the worker's failure of it. After this much longer no cancel will come, and the place is wanted.
GRACE_S = 0.1
# An answer under a key is worth having for whoever asks again: work goes on past its deadline as long as the controller
# follows it, which is a lease, or the request's own time once more.
_FOLLOWED_S = 15.0
# Interrupted handlers get this long to clean up before the loop goes away under them.
_CLEANUP_S = 1.0


class _Place:
    """One capability's places: how many there are, how many are taken, and the threads of a plain handler."""

    __slots__ = ("equipment", "limit", "threads", "timeout_s", "used")

    def __init__(self) -> None:
        self.used = 0

    def equip(self, equipment: Equipment) -> None:
        """Serve with ``equipment`` from now on; what runs goes on, and keeps its place."""
        self.equipment = equipment
        offer = equipment.offer
        self.limit = offer.capability.max_concurrency
        declared = (offer.capability.constraints or {}).get("timeout_s")
        self.timeout_s = float(declared) if isinstance(declared, int | float) and declared > 0 else float("inf")
        plain = offer.handler.kind == "plain"
        self.threads = ThreadPoolExecutor(self.limit, f"crank-{offer.capability.id}") if plain else None


class Dispatching:
    """The desk of one running worker. ``draining`` turns all new work away."""

    def __init__(
        self,
        subjects: Subjects,
        worker_id: WorkerId,
        offers: Iterable[Offer],
        outbox: Outbox,
        calls: Calls,
        resources: Mapping[Any, Any] | None = None,
    ) -> None:
        self.draining = False
        self._subjects = subjects
        self._worker_id = worker_id
        self._outbox = outbox
        self._calls = calls
        self._resources = resources or {}
        self._runs: dict[str, tuple[Run, _Place]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._places: dict[tuple[str, str], _Place] = {}
        self.replace(offers)

    def replace(self, offers: Iterable[Offer]) -> None:
        """Take dispatches of ``offers``, and no more of those before. What runs goes on, and keeps its place."""
        before, self._places = self._places, {}
        versions: dict[str, list[str]] = {}
        for offer in offers:
            subject = self._subjects.worker(self._worker_id, offer.capability.id)
            needs = offer.handler.needs
            injection = Injection(offer.plan, needs, self._resources) if needs else None
            key = subject, offer.capability.version
            place = self._places[key] = before.get(key) or _Place()
            place.equip(Equipment(offer, injection, self._outbox, self._calls, self._loop))
            versions.setdefault(subject, []).append(offer.capability.version)
        self.capacity = sum(place.limit for place in self._places.values())
        for subject, offered in versions.items():  # a dispatch that names no version means the newest
            self._places[subject, ""] = self._places[subject, by_precedence(offered)[0]]

    @property
    def in_flight(self) -> int:
        """How many handlers run now."""
        return len(self._runs)

    def on_dispatch(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """The bus's handler. What nobody waits for is not done, nor what would be answered with a forged message."""
        if not reply or not self._subjects.may_reply(reply):
            return
        refused = self._start(subject, reply, raw, body)
        if refused is not None:
            self._outbox.refuse(reply, refused)

    def _start(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> Fault | NotRun | None:
        block = parse_block(raw)
        headers = block if isinstance(block, Refusal) else parse_dispatch(block)
        if isinstance(headers, Refusal):
            return Fault(headers.kind.status, headers.detail)
        place = self._places.get((subject, headers.version))
        if place is None:
            what = f"{'.'.join(subject.split('.')[3:])} {headers.version}"
            return Fault(404, f"This worker does not offer {what}; it may have been replaced by another version", True)
        if self.draining:
            return _DRAINING
        if headers.timeout_ms <= 0:
            return _TOO_LATE
        if place.used >= place.limit:
            return _BUSY
        if headers.dispatch_id in self._runs:
            return Fault(400, f"The dispatch {headers.dispatch_id} is running already")
        assert not isinstance(block, Refusal)
        self._run(place, headers, block.passed, reply, body)
        return None

    def _run(self, place: _Place, headers: DispatchHeaders, passed: str, reply: str, body: bytes) -> None:
        timeout_s = min(headers.timeout_ms / 1000, place.timeout_s)
        stop_s = timeout_s if headers.idempotency_key is None else min(_followed_s(timeout_s), place.timeout_s)
        run = Run(place.equipment, headers, passed, reply, timeout_s, stop_s)
        place.used += 1
        self._runs[headers.dispatch_id] = (run, place)
        self._idle.clear()
        run.timer = self._loop.call_later(stop_s + GRACE_S, self._out_of_time, run, stop_s)
        if place.threads is not None:
            place.threads.submit(self._in_thread, run, body)
        else:
            run.task = self._loop.create_task(run.work(body))
            # A task that is cancelled before its first step runs none of its code, so its end is told from outside.
            run.task.add_done_callback(lambda _: self._over(run))

    def _in_thread(self, run: Run, body: bytes) -> None:
        answer = run.work_plain(body)
        with contextlib.suppress(RuntimeError):  # the loop is gone, and everybody who waited with it
            self._loop.call_soon_threadsafe(self._plain_over, run, answer)

    def _plain_over(self, run: Run, answer: Terminal) -> None:
        try:
            run.answer(answer)
        finally:  # whatever is wrong with an answer, the place is free
            self._over(run)

    def _over(self, run: Run) -> None:
        _, place = self._runs.pop(run.headers.dispatch_id)
        place.used -= 1
        run.context = None  # it holds the run in turn; so both are freed now, and wait for no collector
        if not self._runs:
            self._idle.set()

    @staticmethod
    def _out_of_time(run: Run, timeout_s: float) -> None:
        run.stop(Fault(504, f"The worker ran out of time: the work was not done within {timeout_s * 1000:.0f} ms"))

    def cancel(self, dispatch_id: str) -> None:
        """Stop one run; an unknown id is one that has just ended. One that was answered may be cleaning up."""
        found = self._runs.get(dispatch_id)
        if found is not None and not found[0].answered:
            found[0].stop(_CANCELLED)

    async def drain(self, timeout_s: float) -> int:
        """Take no more, and wait for what runs; after ``timeout_s`` stop it. How many handlers would not end."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        for run, _ in list(self._runs.values()):
            run.stop(_STOPPED)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _CLEANUP_S)
        for place in self._places.values():
            if place.threads is not None:
                place.threads.shutdown(wait=False, cancel_futures=True)
        return len(self._runs)


def _followed_s(timeout_s: float) -> float:
    return timeout_s + max(timeout_s, _FOLLOWED_S)
