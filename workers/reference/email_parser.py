"""Reads mail: raw RFC 5322 bytes in, its parts as JSON out. The parsing is the mail-parser library's.

Mail is written by strangers, so everything that is taken from one is counted and cut.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import mailparser
from mailparser.exceptions import MailParserError
from msgspec import Struct, field

from workers import PermanentError, Worker

worker = Worker(
    "email_parser",
    runtime="python3.11",
    env_profile="python-docs",
    constraints={"min_memory_mb": 128, "max_memory_mb": 512, "timeout_s": 10, "max_output_bytes": 2_000_000},
    slo={"latency_p50_ms": 50, "latency_p95_ms": 200, "latency_p99_ms": 500, "availability_pct": 99.9},
)

# A long letter, and more recipients, attachments and headers than people send.
_MAX_TEXT_CHARS, _MAX_LINE_CHARS, _MAX_ITEMS = 100_000, 2_000, 200
# Parsing takes time that grows with the square of the encoded words, and with the size times the depth of nesting:
# these keep the worst two megabytes within a few seconds.
_MAX_BYTES, _MAX_HEADER_BYTES, _MAX_ENCODED_WORDS, _MAX_MULTIPARTS = 2 * 1024 * 1024, 256 * 1024, 5_000, 50
_end_of_headers = re.compile(rb"\r?\n\r?\n").search
# RFC 5322 asks for From and Date, and real mail lacks either; what has none of these is something else.
_MAIL_HEADERS = ("from", "to", "subject", "date", "message-id", "received", "mime-version", "return-path")
# What the library calls an attachment that has no name of its own; drawn at random, so it may not be part of an answer.
_made_up = re.compile(r"[A-Za-z]{10}\.(txt|rtf)").fullmatch


class Address(Struct):
    """A mailbox; ``name`` may be empty."""

    name: str
    address: str


class Attachment(Struct):
    """An attachment's description; ``sha256`` is of its decoded bytes, in hex."""

    filename: str | None
    content_type: str
    size_bytes: int
    sha256: str


class Mail(Struct):
    """A parsed mail. ``date`` is ISO 8601 in UTC; ``truncated`` when something was longer than this worker reads."""

    subject: str
    sender: list[Address] = field(name="from")
    to: list[Address]
    cc: list[Address]
    date: str | None
    message_id: str | None
    text: str
    html: str
    attachments: list[Attachment]
    headers: dict[str, list[str]]
    truncated: bool


@worker.capability("parse:email_message", version="1.0.0", max_concurrency=4, idempotent=True)
def email_message(raw: bytes) -> Mail:
    """Parse one mail, sent as ``message/rfc822``."""
    _check_bounds(raw)
    try:
        mail = mailparser.parse_from_bytes(raw)  # type: ignore[no-untyped-call]
    except MailParserError as error:
        raise PermanentError(f"The mail cannot be parsed: {error}") from None
    names = {name.lower() for name in mail.message.keys()}  # noqa: SIM118  # a message iterates otherwise
    if not names.intersection(_MAIL_HEADERS):
        raise PermanentError("This is no mail: no From, To, Subject, Date or other header of RFC 5322 is in it")
    texts, htmls = "\n".join(mail.text_plain), "\n".join(mail.text_html)
    counts = (len(mail.to), len(mail.cc), len(mail.attachments), len(names))
    return Mail(
        subject=_line(mail.subject),
        sender=_addresses(mail.from_),
        to=_addresses(mail.to),
        cc=_addresses(mail.cc),
        date=f"{mail.date:%Y-%m-%dT%H:%M:%SZ}" if mail.date else None,
        message_id=_line(mail.message_id) or None,
        text=_clean(texts, _MAX_TEXT_CHARS),
        html=_clean(htmls, _MAX_TEXT_CHARS),
        attachments=[_attachment(one) for one in mail.attachments[:_MAX_ITEMS]],
        headers={_line(name): _lines(value) for name, value in list(mail.headers.items())[:_MAX_ITEMS]},
        truncated=max(counts) > _MAX_ITEMS or max(len(texts), len(htmls)) > _MAX_TEXT_CHARS,
    )


def _check_bounds(raw: bytes) -> None:
    end = _end_of_headers(raw)
    for what, found, most in (
        ("bytes", len(raw), _MAX_BYTES),
        ("bytes of headers", end.start() if end else len(raw), _MAX_HEADER_BYTES),
        ("encoded words", raw.count(b"=?"), _MAX_ENCODED_WORDS),
        ("multiparts", raw.lower().count(b"multipart/"), _MAX_MULTIPARTS),
    ):
        if found > most:
            raise PermanentError(f"The mail has {found} {what}, and at most {most} are read", code=413)


def _clean(text: Any, limit: int) -> str:
    # Lone surrogates are what Python makes of bytes in no known encoding; JSON has no place for them.
    return str(text)[:limit].encode("utf-8", "replace").decode()


def _line(value: Any) -> str:
    return _clean(value[0] if isinstance(value, list) and value else value or "", _MAX_LINE_CHARS)


def _lines(value: Any) -> list[str]:
    many = value if isinstance(value, list) else [value]
    return [_line(f"{one[0]} <{one[1]}>".strip() if isinstance(one, tuple) else one) for one in many[:_MAX_ITEMS]]


def _addresses(pairs: Iterable[tuple[str, str]]) -> list[Address]:
    return [Address(_line(name), _line(address)) for name, address in list(pairs or ())[:_MAX_ITEMS]]


def _attachment(one: dict[str, Any]) -> Attachment:
    content = one["payload"].encode("utf-8", "replace")
    if one["binary"]:
        with contextlib.suppress(binascii.Error):  # broken base64: what was sent is all there is
            content = base64.b64decode(content)
    name = one["filename"]
    own = not (_made_up(name) and "filename" not in one["content-disposition"].lower())
    return Attachment(
        filename=_line(name) if own else None,
        content_type=_line(one["mail_content_type"]),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


if __name__ == "__main__":
    worker.run()
