"""Owns an object store's bucket: bodies that one message cannot hold, in pieces, each with the same time to live.

The form is NATS's own (ADR-20), so that ``nats object`` lists them; nats-py's store knows no time to live and reads
through a consumer that may be behind, where every reading here is its leader's. ``controller.edge`` calls it.
"""

from __future__ import annotations

import base64
import hashlib

import msgspec

from bus.answers import NOBODY_STORES, Entry, Refused, Stored, ask_last, ask_next, read_ack, read_entry
from bus.connection import Bus, BusError, NoResponder, Unanswered
from subjects.headers import build_block

# As other clients cut them.
_PIECE_BYTES = 128 * 1024
_TIMEOUT_S = 2.0
_TRIES = 3


class _Description(msgspec.Struct):
    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Description).decode


class Objects:
    """One bucket. A name is a token, and is given once: what it holds is never replaced."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, body: bytes, ttl_s: int | None) -> None:
        """Store ``body``, for ``ttl_s`` or for ever; in the same minute the same may be put again.

        Raises:
            BusError: it is not stored, for all that is known; the message says why.

        """
        step = min(_PIECE_BYTES, self._bus.max_body_bytes)
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        for number, piece in enumerate(pieces):
            await self._store(self._pieces(name), piece, f"{name}.{number}", ttl_s)
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
        about = _Description(name, self._bucket, name, len(body), len(pieces), f"SHA-256={digest}")
        # Last, so that what is found is whole.
        await self._store(self._description(name), _encode(about), name, ttl_s)

    async def get(self, name: str, max_bytes: int) -> bytes | None:
        """The body, or None when it is gone, is not whole, or is larger than ``max_bytes``.

        Raises:
            BusError: nothing is known.

        """
        found = await self._read(*ask_last(self._stream, self._description(name)))
        if found is None:
            return None
        try:
            about = _decode(found.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not 0 <= about.size <= max_bytes:
            return None
        body, seq = bytearray(), 0
        while len(body) < about.size:
            piece = await self._read(*ask_next(self._stream, self._pieces(name), seq + 1))
            if piece is None or not piece.body:
                return None
            body += piece.body
            seq = piece.seq
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
        return bytes(body) if about.digest == f"SHA-256={digest}" else None

    def _pieces(self, name: str) -> str:
        return f"$O.{self._bucket}.C.{name}"

    def _description(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _store(self, subject: str, body: bytes, message_id: str, ttl_s: int | None) -> None:
        pairs = [("Nats-Msg-Id", message_id)]
        if ttl_s is not None:
            pairs.append(("Nats-TTL", f"{ttl_s}s"))
        block, why = build_block(pairs), ""
        for _ in range(_TRIES):  # by its id it is stored once
            try:
                answer = await self._bus.request(subject, body, block, _TIMEOUT_S)
            except NoResponder:
                raise BusError(f"{self._stream} takes nothing: {NOBODY_STORES}") from None
            except Unanswered as error:
                why = str(error)
                continue
            match read_ack(answer.body):
                case Stored():
                    return
                case Refused(why):
                    raise BusError(why)
        raise BusError(f"{self._stream} does not answer: {why}")

    async def _read(self, subject: str, which: bytes) -> Entry | None:
        try:
            answer = await self._bus.request(subject, which, timeout_s=_TIMEOUT_S)
        except BusError as error:
            raise BusError(f"{self._stream} cannot be read: {error}") from None
        return read_entry(answer.body, self._stream)
