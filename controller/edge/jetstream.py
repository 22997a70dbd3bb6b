"""Owns asking JetStream's API in its own JSON, and appending a message once however often it has to be sent.

For what is rare, and may take a task: jobs being stored, an operator's questions. It refuses to know what is stored.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec

from bus import Bus, NoResponder
from bus.answers import NOBODY_STORES, Failure, refusal, said
from bus.connection import BusError

T = TypeVar("T", bound=msgspec.Struct)

# Codes of nats-server's errors.json.
CONSUMER_EXISTS = 10148
_TIMEOUT_S = 2.0
# How long a message is sent again, and after which pauses; whoever submits waits for five seconds.
_PATIENCE_S = 4.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
# Time does not help: meant for another stream, too large a message, a sealed stream. Else the same message is sent
# again: "store failed", say, is a full stream, and one that is just being closed.
_FINAL = frozenset({10060, 10054, 10109})


class _Answer(msgspec.Struct):
    error: Failure | None = None


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


async def append_once(bus: Bus, stream: str, subject: str, body: bytes, block: bytes) -> str | None:
    """Append under the block's ``Nats-Msg-Id``; None when it is stored, else why it is not, for all that is known.

    Without an acknowledgement nobody knows, so the same message is sent again: one that JetStream has already counts
    as stored.
    """
    size = len(body) + len(block)
    if size > bus.max_payload_bytes:
        return f"{size} bytes are more than the NATS server takes; raise its max_payload"
    loop = asyncio.get_running_loop()
    give_up_at, pause_s = loop.time() + _PATIENCE_S, _PAUSE_S
    while True:
        try:
            answer = (await bus.request(subject, body, block, timeout_s=_TIMEOUT_S)).body
            error = msgspec.json.decode(answer, type=_Answer).error
        except NoResponder:
            reason = NOBODY_STORES
        except BusError as failure:
            reason = str(failure)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            reason = "the acknowledgement cannot be read; does something else answer there?"
        else:
            if error is None:
                return None
            reason = said(error, stream)
            if error.err_code in _FINAL or error.description.startswith("maximum "):
                return reason
        if loop.time() + pause_s > give_up_at:
            return reason
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
