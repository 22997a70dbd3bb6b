"""Owns one connection to NATS: synchronous hand-over of messages, synchronous publishing, requests.

nats-py brings each message through a queue and a task, and each publish through a flusher task. On a router's path
that is more than half of the cost, so here a message goes to a plain function straight from the parser, and all that
was published in one turn of the event loop leaves in one write. How nats-py is brought to that is in ``bus.client``.
It refuses to know what a message means; ``controller.edge``, ``workers`` and ``crank`` call it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import nats.errors
from nats.aio.subscription import Subscription as Subscription
from nats.js import JetStreamContext

from bus.addresses import public
from bus.client import DirectClient
from bus.greeting import Greeting, read_greeting
from bus.reading import Handler as Handler

log = logging.getLogger("crank.bus")

# A dead server is noticed within two of these; nats-server itself is told to ping every second.
_PING_INTERVAL_S = 2
_RECONNECT_WAIT_S = 0.2
# What one header block and the protocol line may add to a body, kept free below the server's own limit.
_HEADROOM_BYTES = 1024
# A server that does not read: past this nothing more is buffered, and publishing says so.
_MAX_UNSENT_BYTES = 64 * 1024 * 1024


class BusError(Exception):
    """Root of what a connection can raise.

    BusError
    ├── BusUnavailable   no server to talk to
    │   └── NotAdmitted  it does not let this user in
    └── Unanswered       a request got no answer in time
        └── NoResponder  nobody listens on the subject
    """


class BusUnavailable(BusError):
    """There is no server at this address, or the connection is gone."""


class NotAdmitted(BusUnavailable):
    """There is a server, and it refuses this user or password."""


class Unanswered(BusError):
    """No answer within the time-out."""


class NoResponder(Unanswered):
    """Nobody listens on the subject."""


class Message(NamedTuple):
    """A received message: its subject, reply subject (or ""), raw header block (or None) and body."""

    subject: str
    reply: str
    headers: bytes | None
    body: bytes


def says_not_admitted(said: str) -> bool:
    """Whether a server's or nats-py's word is that this user may not connect."""
    return "authorization violation" in said.lower() or "authentication" in said.lower()


class Bus:
    """One connection. Everything but connecting, subscribing, flushing and requesting is synchronous."""

    def __init__(self, client: DirectClient, inbox: str) -> None:
        self._client = client
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._room = _MAX_UNSENT_BYTES
        self._flush_due = False
        self._loop = asyncio.get_running_loop()
        self._inbox = inbox
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._serial = 0
        self._closing = False

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str,
        timeout_s: float = 5.0,
        inbox_prefix: str = "_INBOX",
        on_reconnect: Callable[[], Awaitable[None]] | None = None,
        on_error: Callable[[str], None] | None = None,
    ) -> Bus:
        """Connect to ``url`` (several may be separated by commas), trying for ``timeout_s``; then reconnect for ever.

        ``on_error`` is told what goes wrong in the server's words or the system's, also while nothing is connected.

        Raises:
            BusUnavailable: nothing answered there in time; the message holds the last error.
            NotAdmitted: something did, and refused.

        """
        client = DirectClient()
        bus = cls(client, f"{inbox_prefix}.{secrets.token_hex(11)}")
        last: list[str] = []

        async def on_failure(error: Exception) -> None:
            said = str(error) or type(error).__name__
            # A server that refuses closes at once, and what is still being sent to it may read as a reset instead.
            if not (last and says_not_admitted(last[0])):
                last[:] = [said]
            log.debug("connection: %s", said)
            if on_error is not None:
                on_error(said)

        async def on_lost() -> None:
            bus._forget_unsent()
            if not bus._closing:
                log.warning("the connection to NATS is lost; trying to get it back")

        async def on_back() -> None:
            if on_reconnect is not None:
                await on_reconnect()

        try:
            await asyncio.wait_for(
                client.connect(
                    servers=[part.strip() for part in url.split(",")],
                    name=name,
                    error_cb=on_failure,
                    disconnected_cb=on_lost,
                    reconnected_cb=on_back,
                    # A full buffer that is sent seconds late would run requests nobody waits for any more.
                    pending_size=0,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # it only sleeps
                    connect_timeout=2,
                    ping_interval=_PING_INTERVAL_S,
                    max_outstanding_pings=2,
                    inbox_prefix=inbox_prefix,
                ),
                timeout_s,
            )
            await bus.subscribe(f"{bus._inbox}.*", bus._on_inbox)
        except (TimeoutError, OSError, nats.errors.Error, ValueError, BusUnavailable) as error:
            why = (last or [str(error) or "it said nothing"])[0]
            bus._closing = True
            await client.leave()  # an attempt that was given up leaves its socket open
            if says_not_admitted(why):
                raise NotAdmitted(f"the NATS server at {public(url)} refuses this user or password: {why}") from None
            raise BusUnavailable(f"no NATS server answers at {public(url)}: {why}") from None
        return bus

    @property
    def connected(self) -> bool:
        """Whether a publish would leave now."""
        return bool(self._client.is_connected)

    @property
    def greeting(self) -> Greeting:
        """What the server said of itself.

        Raises:
            NotGreeted: no NATS server says such things.

        """
        return read_greeting(self._client.greeting)

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that the server takes, headers included."""
        return int(self._client.max_payload)

    @property
    def max_body_bytes(self) -> int:
        """The largest body that the server takes together with a small header block."""
        return self.max_payload_bytes - _HEADROOM_BYTES

    @property
    def url(self) -> str:
        """The server now connected to, without credentials."""
        connected = self._client.connected_url
        return public(connected.geturl()) if connected is not None else ""

    @property
    def jetstream(self) -> JetStreamContext:
        """nats-py's JetStream context, for ``bus.streams``."""
        return self._client.jetstream(timeout=2.0)

    def publish(self, subject: str, body: bytes, headers: bytes | None = None, reply: str = "") -> bool:
        """Hand a message to the server in this turn of the loop; False when it cannot leave, and then it never will.

        The server closes a connection that sends more than it allows, so such a message is refused here.
        """
        size = len(body)
        if headers is None:
            line = f"PUB {subject} {reply} {size}\r\n" if reply else f"PUB {subject} {size}\r\n"
            command = b"".join((line.encode(), body, b"\r\n"))
        else:
            head = len(headers)
            size += head
            line = f"HPUB {subject} {reply} {head} {size}\r\n" if reply else f"HPUB {subject} {head} {size}\r\n"
            command = b"".join((line.encode(), headers, body, b"\r\n"))
        if not self._client.takes(size):
            return False
        if self._out_bytes > self._room and not self._has_room():
            return False
        self._out.append(command)
        self._out_bytes += len(command)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_now)
        return True

    def _flush_now(self) -> None:
        self._flush_due = False
        out = self._out
        if not out:
            return
        self._out = []
        self._out_bytes = 0
        self._client.send(out[0] if len(out) == 1 else b"".join(out))
        self._has_room()

    def _has_room(self) -> bool:
        # Asked once a turn, and by every publish only while there is none.
        self._room = _MAX_UNSENT_BYTES - self._client.unsent_bytes
        return self._out_bytes <= self._room

    def _forget_unsent(self) -> None:
        self._out = []
        self._out_bytes = 0
        self._room = _MAX_UNSENT_BYTES
        self._client.forget_unsent()

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        """Hand every message on ``subject`` to ``handler``; survives reconnects.

        Raises:
            BusUnavailable: the connection is closed, or the server does not read.

        """
        try:
            return await self._client.hand_over(subject, queue, handler)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"{subject} cannot be subscribed: {error or 'the server does not read'}") from None

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop delivery at the server. What it had already sent is still handled until the next ``flush`` returns."""
        await self._client.end(subscription)

    async def flush(self, timeout_s: float = 2.0) -> None:
        """Return when the server has seen all that was published, and all that it had sent was handled.

        Raises:
            BusUnavailable: the server did not answer in time.

        """
        self._flush_now()
        try:
            async with asyncio.timeout(timeout_s + 1):
                await self._client.flush(timeout=max(1, round(timeout_s)))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusUnavailable(f"the NATS server did not answer a flush: {error}") from None

    async def request(self, subject: str, body: bytes, headers: bytes | None = None, timeout_s: float = 5.0) -> Message:
        """Publish and wait for the first answer.

        Raises:
            NoResponder: nobody listens on ``subject``.
            Unanswered: no answer within ``timeout_s``.
            BusUnavailable: not connected, or the message is larger than the server takes.

        """
        self._serial += 1
        inbox = f"{self._inbox}.{self._serial}"
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[inbox] = future
        try:
            if not self.publish(subject, body, headers, inbox):
                raise BusUnavailable("not connected to NATS, or the message is larger than the server takes")
            async with asyncio.timeout(timeout_s):  # wait_for loses a cancel that comes together with the answer
                message = await future
        except TimeoutError:
            raise Unanswered(f"no answer on {subject} within {timeout_s:g} s") from None
        finally:
            del self._waiting[inbox]
        if not message.body and message.headers is not None and message.headers.startswith(b"NATS/1.0 503"):
            raise NoResponder(f"nobody listens on {subject}")
        return message

    def _on_inbox(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        future = self._waiting.get(subject)
        if future is not None and not future.done():
            future.set_result(Message(subject, reply, headers, body))

    def new_inbox(self) -> str:
        """A fresh reply subject that nobody else can guess, outside the one that ``request`` uses."""
        return f"{self._inbox.rpartition('.')[0]}.{secrets.token_hex(11)}"

    async def close(self) -> None:
        """Send what is pending and close; never raises."""
        self._closing = True
        with contextlib.suppress(OSError, RuntimeError):  # a broken one takes nothing more
            self._flush_now()
        await self._client.leave()
