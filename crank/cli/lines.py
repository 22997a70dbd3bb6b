"""Owns reading a file or pipe line by line, as lines come, without stopping the loop and without holding a huge one.

``crank.cli.batch`` calls it. It refuses to know what a line means.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError
from typing import NamedTuple

# Some editors begin a file with it; it is no part of the first line.
_BOM = b"\xef\xbb\xbf"
_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 4


class Line(NamedTuple):
    """A line without its end, None where it is too long; ``ends`` is how many bytes there are up to its end."""

    number: int
    body: bytes | None
    ends: int


async def lines(source: int, most: int) -> AsyncGenerator[Line, None]:
    """The lines of a file descriptor; of those longer than ``most`` bytes only that they are there.

    Raises:
        OSError: it cannot be read.

    """
    number, before = 0, 0
    begun, too_long = bytearray(), False
    async for chunk in _chunks(source):
        start = len(_BOM) if before == 0 and chunk.startswith(_BOM) else 0
        while (at := chunk.find(b"\n", start)) >= 0:
            number += 1
            too_long = too_long or len(begun) + at - start > most
            yield Line(number, None if too_long else bytes(begun + chunk[start:at]), before + at + 1)
            begun, too_long, start = bytearray(), False, at + 1
        too_long = too_long or len(begun) + len(chunk) - start > most
        begun = bytearray() if too_long else begun + chunk[start:]
        before += len(chunk)
    if begun or too_long:
        yield Line(number + 1, None if too_long else bytes(begun), before)


async def _chunks(source: int) -> AsyncGenerator[bytes, None]:
    """What a thread reads: a pipe can be silent for hours. Nobody waits for the thread when the command ends."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue(_CHUNKS_AHEAD)

    def read() -> None:
        chunk: bytes | OSError = b"?"
        try:
            while chunk and isinstance(chunk, bytes):
                try:
                    chunk = os.read(source, _CHUNK_BYTES)
                except OSError as error:
                    chunk = error
                asyncio.run_coroutine_threadsafe(queue.put(chunk), loop).result()
        except (RuntimeError, CancelledError):  # the command has ended
            return

    threading.Thread(target=read, daemon=True).start()
    while chunk := await queue.get():
        if isinstance(chunk, OSError):
            raise chunk
        yield chunk
