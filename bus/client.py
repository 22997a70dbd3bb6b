"""Owns what this project relies on inside nats-py's client: messages straight to a handler, commands straight out.

It is bound to one series of nats-py, together with ``bus.reading``. It refuses to know what is published, and when;
``bus.connection`` alone calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from bus.reading import Handler, Reading

log = logging.getLogger("crank.bus")

# What a connection that works does in a millisecond.
_COMMANDS_LEAVE_S = 2.0
# How long messages that were on their way to a subscription which ended are handed over.
_ON_THEIR_WAY_S = 10.0


class DirectClient(Client):
    """nats-py with the hand-over of one message replaced for the subscriptions that ask for it.

    Every name of nats-py's client that starts with an underscore, and is used by this project, is used in here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[bytes, Handler] = {}
        self._ps = Reading(self, self._direct)

    async def hand_over(self, subject: str, queue: str, handler: Handler) -> Subscription:
        """Subscribe; messages go to ``handler`` straight from the parser."""
        self._direct[sid := b"%d" % (self._sid + 1)] = handler  # by the id that it is about to get
        try:
            async with asyncio.timeout(_COMMANDS_LEAVE_S):
                subscription = await self.subscribe(subject, queue=queue)
            await self._commands_left()
        except BaseException:
            self._remove_sub(int(sid))  # else it would come with the next connection
            del self._direct[sid]
            raise
        return subscription

    async def end(self, subscription: Subscription) -> None:
        """Unsubscribe, and go on handing over what was on its way."""
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # a broken connection delivers nothing anyway
            async with asyncio.timeout(_COMMANDS_LEAVE_S):
                await subscription.unsubscribe()
            await self._commands_left()
        loop = asyncio.get_running_loop()
        loop.call_later(_ON_THEIR_WAY_S, self._direct.pop, b"%d" % subscription._id, None)

    async def _commands_left(self) -> None:
        # nats-py's own commands leave through its flusher task: what is published next must not overtake them.
        flusher, queue = self._flusher_task, self._flush_queue
        if queue is None or flusher is None or flusher.done() or not self.is_connected:
            return
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Not by its own waiting, which swallows a cancel and lasts for ever where the server does not read.
        async with asyncio.timeout(_COMMANDS_LEAVE_S):
            await queue.put(left)
            await left

    def send(self, commands: bytes) -> None:
        """Write at once, past nats-py's own queue; nothing without a connection."""
        transport = self._transport
        if transport is None or not self.is_connected:
            return
        if isinstance(transport, TcpTransport):
            with contextlib.suppress(RuntimeError):  # it is just closing: what leaves in this moment is lost as well
                transport.write(commands)  # type: ignore[no-untyped-call]
            return
        # What is written to a WebSocket leaves when it is drained, and only nats-py's flusher does that.
        self._pending.append(commands)
        self._pending_data_size += len(commands)
        assert self._flush_queue is not None, "made by connect"
        with contextlib.suppress(asyncio.QueueFull):  # the flusher has been told a thousand times
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    def takes(self, size: int) -> bool:
        """Whether a message of ``size`` bytes, headers included, would leave now."""
        return self.is_connected and size <= self._max_payload

    @property
    def greeting(self) -> dict[str, object]:
        """What the server said of itself when it was connected to: the fields of its INFO."""
        return dict(self._server_info)

    @property
    def unsent_bytes(self) -> int:
        """What was written and the system has not taken yet: it grows when the server does not read."""
        transport = self._transport
        if isinstance(transport, TcpTransport) and transport._io_writer is not None:
            return int(transport._io_writer.transport.get_write_buffer_size())
        return int(self._pending_data_size)

    def forget_unsent(self) -> None:
        """Drop what waits for the flusher; it would leave with the next connection, late."""
        self._pending = []
        self._pending_data_size = 0

    async def leave(self) -> None:
        """Close; a connection that the server keeps from closing is dropped."""
        if self._flush_queue is None:  # it never came to that
            return
        try:
            await asyncio.wait_for(self.close(), _COMMANDS_LEAVE_S)
        except (nats.errors.Error, OSError, RuntimeError, TimeoutError) as error:  # a broken one is closed already
            log.debug("closing: %r", error)
            transport = self._transport
            if isinstance(transport, TcpTransport) and transport._io_writer is not None:
                transport._io_writer.transport.abort()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        # A transport that is just closing refuses to be written to, on uvloop. What this connection is not told any
        # more, the next one is: it begins with all subscriptions.
        with contextlib.suppress(RuntimeError):
            return await super()._flush_pending(force_flush)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        # A server that closes in the middle of the greeting reads as an empty line, which nats-py takes for a PONG:
        # it would call itself connecting for ever.
        if not self.is_connected:
            for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
                if task is not None:
                    task.cancel()
            raise nats.errors.UnexpectedEOF

    async def _process_pong(self) -> None:
        # A flush that was cancelled or gave up left its future in the queue: nats-py would set its result, fail, and
        # read nothing more from this connection until the missing pongs broke it.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
