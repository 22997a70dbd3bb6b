"""Owns a worker's standing with the controllers: registering until it is accepted, heartbeats, leaving.

One task registers, whenever it is due and never twice at once; another one beats. ``workers.runtime`` says when a
registration is due and reads ``refused``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from bus import Bus, BusUnavailable, Message, NoResponder, Unanswered
from subjects.errors import Offence, Refusal, parse_problem
from subjects.headers import one_line, parse_block
from subjects.manifests import Bid, Manifest
from subjects.messages import Deregister, Heartbeat, encode
from subjects.names import Subjects
from subjects.replies import JSON_BLOCK, read_reply
from workers.errors import RegistrationRefused

log = logging.getLogger("crank.worker")

_REQUEST_TIMEOUT_S = 2.0
_FIRST_WAIT_S = 0.1
# A predecessor that was killed is forgotten after three heartbeats, six seconds: ask a few times within that.
_LONGEST_WAIT_S = 2.0
_DEFAULT_INTERVAL_S = 2.0
# A busy machine may be this late with a heartbeat; a handler that blocks is later.
_STALL_S = 1.0
_SHORTEST_INTERVAL_S, _LONGEST_INTERVAL_S = 0.02, 60.0


class Load(NamedTuple):
    """What a heartbeat tells of the worker's work."""

    in_flight: int
    capacity: int
    draining: bool
    bids: Mapping[str, float | Bid]


class _Acknowledgement(msgspec.Struct):
    controller: str = "?"
    heartbeat_interval_s: float = _DEFAULT_INTERVAL_S


class Membership:
    """One worker's standing. ``refused`` fails with ``RegistrationRefused`` when no waiting can help."""

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        manifest: Manifest,
        load: Callable[[], Load],
        on_registered: Callable[[], None],
    ) -> None:
        self.refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bus = bus
        self._manifest = manifest
        self._body = encode(manifest)
        self._register_subject = subjects.register(manifest.worker_id)
        self._deregister_subject = subjects.deregister(manifest.worker_id)
        self._heartbeat_subject = subjects.heartbeat(manifest.worker_id)
        self._load = load
        self._on_registered = on_registered
        self._due = asyncio.Event()
        self._interval_s = _DEFAULT_INTERVAL_S
        self._seq = 0
        self._registering: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._left = False

    def start(self) -> None:
        """Register now, and again whenever ``due`` is called."""
        self._due.set()
        self._registering = asyncio.create_task(self._register_when_due())
        self._registering.add_done_callback(self._tell_end)

    def due(self) -> None:
        """Register at once: a controller asked for it, or the connection is back. Nothing happens after ``leave``."""
        self._due.set()

    def replace(self, manifest: Manifest) -> None:
        """Register ``manifest``, of the same worker and instance, in place of the one before."""
        self._manifest = manifest
        self._body = encode(manifest)
        self.due()

    @property
    def interval_s(self) -> float:
        """Seconds between two heartbeats: the controllers' word, or the default until they are heard."""
        return self._interval_s

    def _tell_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.refused.done():
            self.refused.set_exception(error)

    async def _register_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            wait_s, said = _FIRST_WAIT_S, ""
            while (why := await self._try_once()) is not None:
                if why != said:
                    log.warning("%s waits to be registered: %s", self._manifest.worker_id, why)
                    said = why
                with contextlib.suppress(TimeoutError):
                    # Spread, so that a thousand workers do not ask in step after an outage.
                    await asyncio.wait_for(self._due.wait(), wait_s * random.uniform(0.75, 1.25))
                self._due.clear()
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _try_once(self) -> str | None:
        """None when registered, else why not yet; raises ``RegistrationRefused`` when waiting cannot help."""
        try:
            answer = await self._bus.request(
                self._register_subject, self._body, JSON_BLOCK, timeout_s=_REQUEST_TIMEOUT_S
            )
        except NoResponder:
            return "no controller is there; start one, or check the prefix"
        except Unanswered:
            return f"no controller answered within {_REQUEST_TIMEOUT_S:g} s"
        except BusUnavailable:
            return "the connection to NATS is down"
        accepted = self._read(answer)
        if isinstance(accepted, str):
            return accepted
        self._interval_s = min(max(accepted.heartbeat_interval_s, _SHORTEST_INTERVAL_S), _LONGEST_INTERVAL_S)
        log.info(
            "%s is registered with %s, a heartbeat every %g s",
            self._manifest.worker_id, one_line(accepted.controller), self._interval_s,
        )  # fmt: skip
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat_for_ever())
        self._on_registered()
        return None

    def _read(self, answer: Message) -> _Acknowledgement | str:
        block = parse_block(answer.headers)
        if isinstance(block, Refusal):
            return f"the answer cannot be read: {block.detail}"
        reply = read_reply(block)
        if not reply.code:
            try:
                return msgspec.json.decode(answer.body, type=_Acknowledgement)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return "the answer is not an acknowledgement; does something else listen there?"
        problem = parse_problem(answer.body)
        detail = one_line(problem.detail if problem is not None else reply.error)
        # 409 is worker_id_taken: the old one may stop, or be found dead.
        if 400 <= reply.code < 500 and reply.code not in (409, 429):
            offences: tuple[Offence, ...] = problem.errors if problem is not None else ()
            raise RegistrationRefused(self._manifest.worker_id, reply.code, detail, offences)
        return f"{reply.code}: {detail}"

    async def _beat_for_ever(self) -> None:
        while True:
            self.beat()
            due = time.monotonic() + self._interval_s
            await asyncio.sleep(self._interval_s)
            late_s = time.monotonic() - due
            if late_s > _STALL_S:
                log.warning(
                    "%s stood still for %.1f s, and may have been taken for lost; does an `async def` block? "
                    "As a plain `def` it runs in a thread", self._manifest.worker_id, late_s,
                )  # fmt: skip

    def beat(self) -> None:
        """Publish one heartbeat; without a connection it is simply missed."""
        load = self._load()
        self._seq += 1
        heartbeat = Heartbeat(
            self._seq, self._manifest.instance, load.in_flight, load.capacity, load.draining, dict(load.bids) or None
        )
        self._bus.publish(self._heartbeat_subject, encode(heartbeat))

    async def leave(self, reason: str) -> None:
        """Say goodbye, once; heartbeats go on until ``stop``, since work may. Never raises."""
        if self._left:
            return
        self._left = True
        if self._registering is not None:
            self._registering.cancel()
        if self._beating is not None:
            self.beat()
        body = encode(Deregister(reason, self._manifest.instance))
        try:
            await self._bus.request(self._deregister_subject, body, JSON_BLOCK, timeout_s=_REQUEST_TIMEOUT_S)
        except (BusUnavailable, Unanswered) as error:
            log.info("%s leaves without a goodbye: %s", self._manifest.worker_id, error)

    def stop(self) -> None:
        """End both tasks."""
        for task in (self._registering, self._beating):
            if task is not None:
                task.cancel()
        if self.refused.done():
            self.refused.exception()  # seen, whether or not somebody waited for it
