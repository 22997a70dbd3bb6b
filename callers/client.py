"""Owns a caller's side of the contract: requests and streams, jobs and their results, cancels, an operator's questions.

It refuses to know how anything is shown. The command line calls it, and so does whoever writes
``from callers import Client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self, Unpack

import msgspec

from bus import Bus, BusUnavailable
from bus.addresses import NATS_URL_RULE, is_nats_url, public
from callers.asking import GRACE_S, IDLE_TIMEOUT_S, Asked, Options, asked, key_of
from callers.exchange import Exchange
from callers.failures import CrankError, Silence, Unreachable, failure, no_server
from callers.frames import Answer, Frame, whole
from callers.jobs import Job, Pending, read_job, read_result, until_done
from callers.once import until_told
from subjects.errors import ErrorKind
from subjects.headers import TIMEOUT_MS, build_block
from subjects.names import DEFAULT_PREFIX, Subjects
from subjects.tokens import TOKEN_RULE, RequestId, is_token

DEFAULT_URL = "nats://127.0.0.1:4222"
# What is only written or looked up is answered at once, or by nobody.
_PROMPT_S = 5.0


class Client:
    """One connection to an installation. Use it as ``async with await Client.connect() as client``."""

    def __init__(self, bus: Bus, prefix: str) -> None:
        self._bus = bus
        self._subjects = Subjects(prefix)
        self._exchange = Exchange(bus, prefix)

    @classmethod
    async def connect(cls, url: str | None = None, *, prefix: str = DEFAULT_PREFIX, timeout_s: float = 2.0) -> Self:
        """Connect to the NATS server at ``url``; without one to ``CRANK_NATS_URL``, else to ``DEFAULT_URL``.

        Raises:
            Unreachable: no NATS server answers at ``url``.
            CrankError: ``url`` is no address of one, or ``prefix`` no token.

        """
        named = "" if url is not None else "CRANK_NATS_URL: "
        url = url if url is not None else os.environ.get("CRANK_NATS_URL") or DEFAULT_URL
        if not is_nats_url(url):
            raise failure(ErrorKind.MALFORMED, f"{named}{public(str(url))!r} is not {NATS_URL_RULE}.")
        if not isinstance(prefix, str) or not is_token(prefix):
            raise failure(ErrorKind.MALFORMED, f"The prefix {prefix!r} is not {TOKEN_RULE}.")
        try:
            bus = await Bus.connect(url, name="crank-client", timeout_s=timeout_s)
        except BusUnavailable as error:
            raise Unreachable(no_server(error)) from None
        return await cls.on(bus, prefix)

    @classmethod
    async def on(cls, bus: Bus, prefix: str = DEFAULT_PREFIX) -> Self:
        """A client on a connection that is there already; closing the client closes it."""
        client = cls(bus, prefix)
        await client._exchange.open()
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is pending and close; whoever still waits for an answer is told."""
        await self._exchange.close()

    @property
    def max_request_bytes(self) -> int:
        """The largest request that the NATS server takes, headers included."""
        return self._bus.max_payload_bytes

    # Requests -------------------------------------------------------------------

    async def request(self, capability: str, data: object = b"", **options: Unpack[Options]) -> Answer:
        """Ask, and wait for the whole answer. ``data`` and ``options`` as for ``stream``.

        Raises:
            CrankError: refused or failed, or larger than memory is to be given for it: 413.
            Unreachable: there is nobody to ask.

        """
        return await whole(self._frames(asked(capability, data, options)), capability)

    async def request_once(self, capability: str, data: object = b"", **options: Unpack[Options]) -> Answer:
        """Ask under one key, again and again, until there is an answer, a lasting failure or ``timeout_ms`` is over.

        ``timeout_ms`` is the patience with all of it, 60,000 without it. Without an ``idempotency_key`` one is made;
        the error has it as ``error.idempotency_key``, to go on with later. ``data`` and ``options`` as for ``stream``.

        It asks again after silence, where nobody listens, and after a failure that may pass: 409 ``in_progress``, 429,
        503 (``no_worker``, ``overloaded``, ``store_unavailable``, ``policy_unavailable``, and ``worker_lost`` where
        nothing ran) and 504; after pauses that double, and never before ``Retry-After``. Everything else is raised at
        once: a refusal that would be repeated, what the worker answered, and ``outcome_unknown`` (but where it comes
        with ``Retry-After``: there the work was done, and its answer is still being stored).

        What that promises: while the controllers remember the key (an hour after the answer, where nothing else is
        set), the work is done at most once, however often it was asked for; only a capability that is declared
        ``idempotent`` may be run again after a crash. Whoever asks again gets the same answer, marked ``replayed``.
        Where nobody knows whether it was done, the error is 409 ``outcome_unknown``, and it is not done again before an
        operator says so. A time-out promises nothing: the work may have been done, may run still, or may never run.

        Raises:
            CrankError: the last failure.
            Unreachable: there was nobody to ask to the end.

        """
        options["idempotency_key"] = key = key_of(options) or secrets.token_hex(16)
        total_s = options.get("timeout_ms", IDLE_TIMEOUT_S * 1000) / 1000
        first = asked(capability, data, options)
        options["request_id"] = first.request_id

        async def once(left_s: float, silence_s: float) -> Answer:
            options["timeout_ms"] = max(1, int(left_s * 1000))
            again = asked(capability, first.body, options)._replace(patience_s=min(silence_s, left_s + GRACE_S))
            return await whole(self._frames(again, stays=True), capability)

        try:
            return await until_told(once, total_s, key, lambda: self._exchange.closed)
        except (Silence, asyncio.CancelledError):  # nobody waits any more for what was asked before, either
            self._give_up(first)
            raise

    def stream(self, capability: str, data: object = b"", **options: Unpack[Options]) -> AsyncGenerator[Frame, None]:
        """Ask, and yield each frame; an answer that is no stream is one frame ``end``.

        ``data`` is sent as it is where it is bytes, as UTF-8 where it is text, and as JSON where it is anything else
        that can become JSON: a dict, a list, a msgspec or pydantic object. ``options`` are those of ``Options``.
        Leaving the loop early, or being cancelled, cancels the request.

        Raises:
            CrankError: refused or failed, perhaps after some frames; 400 for what could not even be sent.
            Unreachable: there is nobody to ask.

        """
        return self._frames(asked(capability, data, options))

    async def _frames(self, request: Asked, *, stays: bool = False) -> AsyncGenerator[Frame, None]:
        """The frames of the answer. With ``stays`` the request stays under way after a silence, to be joined."""
        subject = self._subjects.request(request.capability)
        frames = self._exchange.frames(subject, request.body, request.block, request.patience_s)
        ended = False
        try:
            async with contextlib.aclosing(frames):
                async for frame in frames:
                    ended = frame.kind == "end"
                    yield frame
        except Silence:
            ended = stays
            raise request.about(Silence(request.patience_s, request.request_id, request.key)) from None
        except CrankError as error:
            ended = bool(error.meta) or isinstance(error, Unreachable)  # the other side has ended it
            raise request.about(error) from None
        finally:
            if not ended:
                self._give_up(request)

    def _give_up(self, request: Asked) -> None:
        """Cancel without waiting."""
        self._exchange.tell(self._subjects.cancel(request.request_id))

    # Jobs -----------------------------------------------------------------------

    async def submit(self, capability: str, data: object = b"", **options: Unpack[Options]) -> Job:
        """Have a request accepted durably: once this returns, it will be done even if everything crashes.

        ``data`` and ``options`` as for ``stream``, but ``timeout_ms`` bounds each attempt at the work, and
        ``idle_timeout_s``, 5 without it, the wait for the acceptance. Without an ``idempotency_key`` every call is a
        job of its own.

        Raises:
            CrankError: refused.
            Unreachable: there is nobody to ask.
            Silence: it may have been accepted, or not.

        """
        job = asked(capability, data, options)
        subject, patience_s = self._subjects.submit(job.capability), options.get("idle_timeout_s", _PROMPT_S)
        try:
            return read_job(await self._exchange.ask(subject, job.body, job.block, patience_s))
        except CrankError as error:
            raise job.about(error) from None

    async def submit_once(
        self, capability: str, data: object = b"", *, patience_s: float = IDLE_TIMEOUT_S, **options: Unpack[Options]
    ) -> Job:
        """Submit under one key, again and again, until it is accepted, refused for good or ``patience_s`` is over.

        It asks again when ``request_once`` does. Without an ``idempotency_key`` one is made; the error has it. What
        that promises: of all these tries there comes one job at most, and it ends in exactly one of done, dead and
        cancelled. ``duplicate`` says that it was there before, perhaps by a try whose acceptance was not heard.

        Raises:
            CrankError: the last failure. After ``Silence`` it may have been accepted all the same.

        """
        options["idempotency_key"] = key = key_of(options) or secrets.token_hex(16)

        async def once(left_s: float, silence_s: float) -> Job:
            options["idle_timeout_s"] = min(silence_s, max(left_s, 0.1))
            return await self.submit(capability, data, **options)

        return await until_told(once, patience_s, key, lambda: self._exchange.closed)

    async def result(self, job_id: str, *, timeout_ms: int = 1) -> Answer | Pending:
        """What became of a job: its answer, or that it is ``Pending`` still after ``timeout_ms`` of waiting for it.

        Once something was told of the job, a controller that dies during the wait costs nothing but time: another one
        is asked, and at the end what was heard last is returned.

        Raises:
            CrankError: the job's own failure where ``error.job_status`` is ``dead`` or ``cancelled``; else why nothing
                can be told, as 404 ``no_such_job``.
            Unreachable: there is nobody to ask.

        """
        if not isinstance(job_id, str) or not is_token(job_id):
            raise failure(ErrorKind.MALFORMED, f"The job id {job_id!r:.100} is not {TOKEN_RULE}.")
        subject = self._subjects.result(job_id)

        async def ask(piece_s: float) -> Answer | Pending:
            block = build_block([(TIMEOUT_MS, str(max(1, round(piece_s * 1000))))])
            return read_result(await self._exchange.ask(subject, b"", block, piece_s + GRACE_S), job_id)

        return await until_done(ask, timeout_ms / 1000, lambda: self._exchange.closed)

    # Everything else ------------------------------------------------------------

    async def cancel(self, request_id: str) -> None:
        """Cancel a request of one's own, or a job, by its id.

        Raises:
            CrankError: 404 when nobody knows it.
            Unreachable: there is nobody to ask.

        """
        if not isinstance(request_id, str) or not is_token(request_id):
            raise failure(ErrorKind.MALFORMED, f"The request id {request_id!r} is not {TOKEN_RULE}.")
        await self._ask(self._subjects.cancel(RequestId(request_id)), b"")

    async def admin(self, op: str, question: Mapping[str, object] | None = None) -> dict[str, Any]:
        """An operator's question, such as ``workers``, and its answer.

        Raises:
            CrankError: refused, or the answer is no JSON object.
            Unreachable: there is nobody to ask.

        """
        told = await self._ask(self._subjects.admin(op), msgspec.json.encode(question or {}))
        with contextlib.suppress(CrankError):
            return told.decode(dict[str, Any])
        raise failure(ErrorKind.WORKER_PROTOCOL, f"The answer to admin.{op} is not a JSON object.")

    async def listed(
        self, what: str, *, limit: int = 500, most: int | None = None, **question: object
    ) -> list[dict[str, Any]]:
        """All items of an admin list (``workers``, ``capabilities``, ``jobs``), or the first ``most``, page by page.

        ``question`` holds filters.

        Raises:
            CrankError, Unreachable: as ``admin``.

        """
        items: list[dict[str, Any]] = []
        asked: dict[str, object] = {**question, "limit": limit}
        while True:
            page = await self.admin(what, asked)
            found = page.get(what) or []
            if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
                raise failure(ErrorKind.WORKER_PROTOCOL, f"The answer to admin.{what} holds no list of {what}.")
            items += found
            # A page that leads to itself would be asked for for ever.
            if page.get("next") in (None, asked.get("after")) or (most is not None and len(items) >= most):
                return items[:most]
            asked["after"] = page["next"]

    async def _ask(self, subject: str, body: bytes) -> Frame:
        try:
            return await self._exchange.ask(subject, body, b"", _PROMPT_S)
        except Silence:
            detail = f"a controller listens, but did not answer within {_PROMPT_S:g} s; look at its log"
            raise Unreachable(detail) from None
