"""Owns what a NATS server says of itself before anybody signs in, and asking for it without signing in.

``bus.connection`` keeps what the server said to it; ``crank.doctoring`` asks where no connection comes about.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

_PORT = 4222
# nats-server's own limit for a line of the protocol is 4 KB; a long list of a cluster's addresses makes INFO longer.
_MAX_LINE_BYTES = 64 * 1024
_NO_SERVER = "what listens there is no NATS server"


class Greeting(msgspec.Struct, frozen=True):
    """The fields of INFO that somebody here reads."""

    version: Annotated[str, Meta(max_length=64)] = ""
    max_payload: Annotated[int, Meta(ge=1, le=2**31)] = 1024 * 1024
    tls_required: bool = False
    tls_verify: bool = False
    nonce: str = ""
    cluster: Annotated[str, Meta(max_length=256)] = ""

    @property
    def series(self) -> tuple[int, int] | None:
        """Major and minor version, or None where it is not a number."""
        major, _, rest = self.version.partition(".")
        try:
            return int(major), int(rest.partition(".")[0])
        except ValueError:
            return None


class NotGreeted(Exception):
    """Nobody there, or nobody who speaks as a NATS server does; the message says which."""


def read_greeting(fields: Any) -> Greeting:
    """INFO as it was sent.

    Raises:
        NotGreeted: it holds something that no NATS server says.

    """
    try:
        return msgspec.convert(fields, Greeting)
    except msgspec.ValidationError:
        raise NotGreeted(_NO_SERVER) from None


async def greet(url: str, timeout_s: float) -> Greeting:
    """What the one server at ``url`` says to whoever connects; nothing is sent.

    Raises:
        NotGreeted: with the reason, for a person.

    """
    parts = urlsplit(url)
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORT, limit=_MAX_LINE_BYTES)
            line = await reader.readline()
    except TimeoutError:
        said = "nothing answers" if writer is None else "something listens there, but says nothing"
        raise NotGreeted(f"{said} within {timeout_s:g} s") from None
    except socket.gaierror as error:
        raise NotGreeted(f"{parts.hostname} is no known host: {error.strerror}") from None
    except OSError as error:
        raise NotGreeted(os.strerror(error.errno) if error.errno else str(error)) from None
    except ValueError:  # a line without an end
        raise NotGreeted(_NO_SERVER) from None
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    if not line.startswith(b"INFO "):
        raise NotGreeted(_NO_SERVER if line else "the connection is closed at once")
    try:
        return read_greeting(msgspec.json.decode(line[5:]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotGreeted(_NO_SERVER) from None
