"""Owns a caller's side of the contract: a request and its answer, a stream of frames, a cancel, an operator's question.

It refuses to know how anything is shown. The command line calls it, and so does whoever writes
``from callers import Client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self, Unpack

import msgspec

from bus import Bus, BusUnavailable, NoResponder, Unanswered
from bus.addresses import NATS_URL_RULE, is_nats_url, public
from bus.connection import BusError
from callers.asking import Options, block_of, body_of, id_of
from callers.failures import CrankError, Unreachable, failure, no_controller, no_server, unanswered
from callers.frames import Answer, Frame, read_frame
from callers.unread import MAX_BYTES, Unread, too_much
from subjects.errors import ErrorKind
from subjects.names import DEFAULT_PREFIX, Subjects
from subjects.tokens import TOKEN_RULE, CapabilityId, RequestId, is_capability, is_token

DEFAULT_URL = "nats://127.0.0.1:4222"
# A controller that dies sends no end: without a time-out of the caller's own, this much silence ends a wait.
IDLE_TIMEOUT_S = 60.0
# The controller answers a deadline itself; its answer may be this late before silence is called silence.
_GRACE_S = 2.0


class Client:
    """One connection to an installation. Use it as ``async with await Client.connect(url) as client``."""

    def __init__(self, bus: Bus, prefix: str) -> None:
        self._bus = bus
        self._subjects = Subjects(prefix)
        self._inbox = bus.new_inbox()
        self._waiting: dict[str, Unread] = {}
        self._closed = False

    @classmethod
    async def connect(cls, url: str = DEFAULT_URL, *, prefix: str = DEFAULT_PREFIX, timeout_s: float = 2.0) -> Self:
        """Connect.

        Raises:
            Unreachable: no NATS server answers at ``url``.
            CrankError: ``url`` is no address of one, or ``prefix`` no token.

        """
        if not is_nats_url(url):
            raise failure(ErrorKind.MALFORMED, f"{public(str(url))!r} is not {NATS_URL_RULE}.")
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
        await bus.subscribe(f"{client._inbox}.*", client._on_reply)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is pending and close; whoever still waits for an answer is told."""
        self._closed = True
        await self._bus.close()
        for unread in self._waiting.values():
            unread.end(Unreachable("the client was closed before the answer came; the work may have run"))

    async def request(self, capability: str, data: object = b"", **options: Unpack[Options]) -> Answer:
        """Ask, and wait for the whole answer. ``data`` and ``options`` as for ``stream``.

        Raises:
            CrankError: refused or failed, or larger than memory is to be given for it: 413.
            Unreachable: there is nobody to ask.

        """
        chunks: list[bytes] = []
        room = MAX_BYTES
        async with contextlib.aclosing(self.stream(capability, data, **options)) as frames:
            async for frame in frames:
                if frame.kind != "progress":
                    chunks.append(frame.body)
                    room -= len(frame.body)
                if room < 0:
                    raise too_much("came; take them piece by piece with stream(…)", capability)
                last = frame
        return Answer("end", last.seq, b"".join(chunks), last.meta, last.passed)

    async def stream(
        self, capability: str, data: object = b"", **options: Unpack[Options]
    ) -> AsyncGenerator[Frame, None]:
        """Ask, and yield each frame; an answer that is no stream is one frame ``end``.

        ``data`` is sent as it is where it is bytes, as UTF-8 where it is text, and as JSON where it is anything else
        that can become JSON: a dict, a list, a msgspec or pydantic object. ``options`` are those of ``Options``.
        Leaving the loop early, or being cancelled, cancels the request.

        Raises:
            CrankError: refused or failed, perhaps after some frames; 400 for what could not even be sent.
            Unreachable: there is nobody to ask.

        """
        if not isinstance(capability, str) or not is_capability(capability):
            raise failure(ErrorKind.MALFORMED, f"{capability!r} is not verb:name, each {TOKEN_RULE}.")
        body = body_of(data)
        rid = options["request_id"] = RequestId(id_of(options) or secrets.token_hex(16))
        if not isinstance(rid, str) or not is_token(rid):  # it is put into the subject of a cancel
            raise failure(ErrorKind.MALFORMED, f"The request id {rid!r:.100} is not {TOKEN_RULE}.")
        timeout_ms = options.get("timeout_ms")
        idle_s = options.get("idle_timeout_s", IDLE_TIMEOUT_S)
        patience_s = idle_s if timeout_ms is None else timeout_ms / 1000 + _GRACE_S
        block = block_of(options)
        inbox = f"{self._inbox}.{secrets.token_hex(8)}"
        unread = self._waiting[inbox] = Unread()
        ended = False
        try:
            self._send(self._subjects.request(CapabilityId(capability)), body, block, inbox)
            while not ended:
                frame = await self._next(unread, patience_s, rid)
                ended = frame.kind == "end"
                yield frame
        except CrankError as error:
            ended = True
            error.capability = capability
            raise
        finally:
            del self._waiting[inbox]
            if not ended:
                self._give_up(rid)

    def _check_open(self) -> None:
        if self._closed:
            raise Unreachable("this client is closed; ask inside its `async with`, or connect another one")

    def _send(self, subject: str, data: bytes, block: bytes, inbox: str) -> None:
        self._check_open()
        if self._bus.publish(subject, data, block, inbox):
            return
        size, most = len(block) + len(data), self._bus.max_payload_bytes
        if size > most:
            raise failure(
                ErrorKind.TOO_LARGE,
                f"The request is {size} bytes with its headers; the NATS server takes at most {most}.",
            )
        raise Unreachable("the connection to the NATS server is gone, or it reads nothing; is it still running?")

    async def _next(self, unread: Unread, patience_s: float, request_id: RequestId) -> Frame:
        try:
            heard = await asyncio.wait_for(unread.next(), patience_s)
        except TimeoutError:
            self._give_up(request_id)
            raise unanswered(patience_s, request_id) from None
        except CrankError:  # nobody here takes what still comes
            self._give_up(request_id)
            raise
        return read_frame(*heard, self._subjects.prefix)

    def _give_up(self, request_id: RequestId) -> None:
        """Cancel without waiting. Controllers answer a cancel or ignore it, so it has a reply subject: nobody's."""
        self._bus.publish(self._subjects.cancel(request_id), b"", reply=f"{self._inbox}.nobody")

    async def cancel(self, request_id: str) -> None:
        """Cancel a request of one's own by its id.

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
        body = await self._ask(self._subjects.admin(op), msgspec.json.encode(question or {}))
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(body, type=dict[str, Any])
        raise failure(ErrorKind.WORKER_PROTOCOL, f"The answer to admin.{op} is not a JSON object.")

    async def listed(self, what: str, *, limit: int = 500) -> list[dict[str, Any]]:
        """All items of an admin list (``workers``, ``capabilities``), asked for page by page.

        Raises:
            CrankError, Unreachable: as ``admin``.

        """
        items: list[dict[str, Any]] = []
        after: object = None
        while True:
            page = await self.admin(what, {"limit": limit} if after is None else {"limit": limit, "after": after})
            items += page.get(what) or []
            # A page that leads to itself would be asked for for ever.
            if page.get("next") in (None, after):
                return items
            after = page["next"]

    async def _ask(self, subject: str, body: bytes) -> bytes:
        self._check_open()
        try:
            message = await self._bus.request(subject, body, timeout_s=5.0)
        except NoResponder:
            raise no_controller(self._subjects.prefix) from None
        except Unanswered:
            raise Unreachable("a controller listens, but did not answer within 5 s; look at its log") from None
        except BusError as error:
            raise Unreachable(str(error)) from None
        return read_frame(message.headers, message.body, self._subjects.prefix).body

    def _on_reply(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        unread = self._waiting.get(subject)
        if unread is not None:
            unread.put(headers, body)
