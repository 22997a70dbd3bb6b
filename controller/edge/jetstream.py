"""Owns asking JetStream's API in its own JSON, and appending a message once however often it has to be sent.

For what is rare, and may take a task: jobs being stored, an operator's questions. It refuses to know what is stored.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, TypeVar

import msgspec

from bus import Bus, NoResponder
from bus.answers import NOBODY_STORES, Failure, Refused, Unstored, refusal, said
from bus.connection import BusError, BusUnavailable

T = TypeVar("T", bound=msgspec.Struct)

# Codes of nats-server's errors.json.
STREAM_NOT_FOUND, MESSAGE_NOT_FOUND, CONSUMER_EXISTS = 10059, 10037, 10148
_TIMEOUT_S = 2.0
# How long a message is sent again, and after which pauses; whoever submits waits for five seconds.
_PATIENCE_S = 4.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
# Time does not help: meant for another stream, too large a message, a sealed stream. Else the same message is sent
# again: "store failed", say, is a full stream, and one that is just being closed.
_FINAL = frozenset({10060, 10054, 10109})
_UNREADABLE = "the acknowledgement cannot be read; does something else answer there?"


class _Answer(msgspec.Struct):
    error: Failure | None = None


class _Ack(_Answer):
    stream: str = ""
    seq: int = 0


class Delivery(NamedTuple):
    """What the address of a message's acknowledgement tells of the message. ``pending``: how many follow it."""

    seq: int
    stored_ns: int
    pending: int


def read_delivery(address: str) -> Delivery | None:
    """What the address of an acknowledgement tells, or None when it is none.

    ``$JS.ACK[.<domain>.<account>].<stream>.<consumer>.<deliveries>.<sequence>.<delivery>.<time>.<pending>[.<token>]``
    """
    parts = address.split(".")
    numbers = parts[7:11] if len(parts) >= 11 else parts[5:9]
    if parts[:2] != ["$JS", "ACK"] or len(numbers) < 4 or not all(n.isascii() and n.isdigit() for n in numbers):
        return None
    seq, _, stored_ns, pending = map(int, numbers)
    return Delivery(seq, stored_ns, pending)


async def ask(bus: Bus, operation: str, question: dict[str, Any] | None, kind: type[T]) -> T | Failure:
    """What ``$JS.API.<operation>`` answers.

    Raises:
        BusError: no answer, or none that can be read.

    """
    body = b"" if question is None else msgspec.json.encode(question)
    try:
        answer = (await bus.request(f"$JS.API.{operation}", body, timeout_s=_TIMEOUT_S)).body
        error = msgspec.json.decode(answer, type=_Answer).error
        return error if error is not None else msgspec.json.decode(answer, type=kind)
    except NoResponder:
        raise BusError("; ".join(refusal(0, "", bus.url))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BusError(f"the answer to {operation} cannot be read; does something else answer there?") from None


async def append_once(bus: Bus, stream: str, subject: str, body: bytes, block: bytes) -> Refused | Unstored | None:
    """Append under the block's ``Nats-Msg-Id``; None when it is stored, ``Refused`` when it certainly is not.

    Without an acknowledgement nobody knows, so the same message is sent again: one that JetStream has already counts
    as stored.
    """
    size = len(body) + len(block)
    if size > bus.max_payload_bytes:
        return Refused(f"{size} bytes are more than the NATS server takes; raise its max_payload")
    loop = asyncio.get_running_loop()
    give_up_at, pause_s = loop.time() + _PATIENCE_S, _PAUSE_S
    failed: type[Refused | Unstored] = Refused
    while True:
        try:
            answer = (await bus.request(subject, body, block, timeout_s=_TIMEOUT_S)).body
            ack = msgspec.json.decode(answer, type=_Ack)
        except NoResponder:
            reason = NOBODY_STORES
        except BusUnavailable as failure:
            reason = str(failure)
        except BusError as failure:
            reason, failed = str(failure), Unstored
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            reason, failed = _UNREADABLE, Unstored
        else:
            if ack.error is None and ack.stream == stream and ack.seq > 0:
                return None
            if ack.error is None:
                reason, failed = _UNREADABLE, Unstored
            else:
                reason = said(ack.error, stream)
                if ack.error.err_code in _FINAL or ack.error.description.startswith("maximum "):
                    return failed(reason)
        if loop.time() + pause_s > give_up_at:
            return failed(reason)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
