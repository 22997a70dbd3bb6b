"""Owns bytes → event: every message that callers and workers send is read here, once, or refused with a clear 400.

It decides nothing. ``app`` subscribes its handlers; each hands an event to the driver.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable

from controller.core.events import (
    Answered,
    CancelAsked,
    DeregisterAsked,
    Event,
    HeartbeatSeen,
    RegisterAsked,
    RequestArrived,
)
from controller.core.model import Action, Request
from controller.edge.identity import caller_of
from controller.edge.schemas import Schemas
from subjects.answers import parse_answer
from subjects.errors import ErrorKind, Refusal, describe, malformed
from subjects.fields import refuse
from subjects.headers import EMPTY, Block, parse_block
from subjects.manifests import parse_manifest
from subjects.messages import parse_deregister, parse_heartbeat
from subjects.names import Subjects
from subjects.requests import NO_HEADERS, RequestHeaders, parse_request_headers
from subjects.tokens import TOKEN_RULE, CapabilityId, DispatchId, RequestId, WorkerId

# Subjects in use are few; a caller that makes up names empties this memory, and each name is parsed again.
_SUBJECTS_KEPT = 4096

_bits = random.Random().getrandbits  # seeded by the system; an id tells requests apart and is no secret


def new_request_id() -> RequestId:
    """A UUIDv7 (RFC 9562): ids of one controller sort by time."""
    ms = time.time_ns() // 1_000_000
    fields = (ms >> 16, ms & 0xFFFF, 0x7000 | _bits(12), 0x8000 | _bits(14), _bits(48))
    return RequestId("%08x-%04x-%04x-%04x-%012x" % fields)  # noqa: UP031  # quicker than an f-string, and as readable


def digest_of(body: bytes) -> bytes:
    """What tells two manifests apart: 8 bytes of BLAKE2b over what was sent."""
    return hashlib.blake2b(body, digest_size=8).digest()


class Inbound:
    """Handlers for the bus. ``refuse(reply, refusal, request_id)`` answers what never becomes an event."""

    def __init__(
        self,
        subjects: Subjects,
        schemas: Schemas,
        max_body_bytes: int,
        feed: Callable[[Event], None],
        refuse: Callable[[str, Refusal, str], None],
    ) -> None:
        self._subjects = subjects
        self._schemas = schemas
        self._max_body_bytes = max_body_bytes
        self._feed = feed
        self._refuse = refuse
        self._known: dict[str, CapabilityId] = {}

    def request(self, subject: str, reply: str, raw: bytes | None, body: bytes, *, action: Action = "request") -> None:
        """A message on ``<prefix>.request.>``; with ``action`` "submit", one on ``<prefix>.submit.>``."""
        if not self._subjects.may_reply(reply):
            return
        capability = self._known.get(subject) or self._capability(action, subject)
        read = self._headers(raw, reply)
        if read is None:
            return
        block, headers = read
        request_id = RequestId(headers.request_id) if headers.request_id is not None else new_request_id()
        if capability is None:
            detail = (
                f"The subject {describe(subject)} is not {self._subjects.prefix}.{action}.<verb>.<name> "
                f"with a verb and a name of {TOKEN_RULE}."
            )
            self._refuse(reply, malformed(detail), request_id)
            return
        if len(body) > self._max_body_bytes:
            self._refuse(reply, self._too_large(len(body)), request_id)
            return
        request = Request(capability, caller_of(block), request_id, reply, headers, body, block.passed, action)
        self._feed(RequestArrived(request))

    def submit(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.submit.>``."""
        self.request(subject, reply, raw, body, action="submit")

    def result(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.result.>``."""
        if not self._subjects.may_reply(reply):
            return
        job_id = self._id("result", subject, reply)
        read = self._headers(raw, reply)
        if job_id is None or read is None:
            return
        block, headers = read
        request_id = RequestId(headers.request_id) if headers.request_id is not None else new_request_id()
        request = Request(
            CapabilityId(""), caller_of(block), request_id, reply, headers, b"", action="result", job_id=job_id
        )
        self._feed(RequestArrived(request))

    def _headers(self, raw: bytes | None, reply: str) -> tuple[Block, RequestHeaders] | None:
        """The headers, or None when the caller was told what is wrong with them."""
        if raw is None:
            return EMPTY, NO_HEADERS
        block = parse_block(raw)
        if isinstance(block, Refusal):
            self._refuse(reply, block, "")
            return None
        headers = parse_request_headers(block)
        if isinstance(headers, Refusal):
            self._refuse(reply, headers, "")
            return None
        return block, headers

    def _capability(self, action: Action, subject: str) -> CapabilityId | None:
        capability = self._subjects.parse_capability(action, subject)
        if capability is not None:
            if len(self._known) >= _SUBJECTS_KEPT:
                self._known.clear()
            self._known[subject] = capability
        return capability

    def _too_large(self, size: int) -> Refusal:
        detail = f"The payload is {size} bytes, over the limit of {self._max_body_bytes}; send a reference instead."
        return Refusal(ErrorKind.TOO_LARGE, detail)

    def answer(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on this controller's reply subjects: a worker's answer, or nats-server's *no responders*."""
        self._feed(Answered(DispatchId(subject[subject.rfind(".") + 1 :]), parse_answer(raw, body)))

    def cancel(self, subject: str, reply: str, raw: bytes | None, body: bytes, *, last: bool = False) -> None:
        """A message on ``<prefix>.cancel.>``; ``last`` when it came through the queue group."""
        request_id = self._id("cancel", subject, reply, quiet=not last)
        if request_id is None or not reply:
            return
        block = parse_block(raw)
        if not isinstance(block, Refusal):
            self._feed(CancelAsked(caller_of(block), RequestId(request_id), reply, last))
        elif last:
            self._refuse(reply, block, "")

    def last_cancel(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """As ``cancel``, for the one member of the queue group that says so when nobody owns the request."""
        self.cancel(subject, reply, raw, body, last=True)

    def register(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.register.>``: refused with every offence, or handed on."""
        worker_id = self._id("register", subject, reply)
        if worker_id is None:
            return
        manifest = parse_manifest(body, worker_id)
        if not isinstance(manifest, Refusal):
            offences = self._schemas.offences(manifest)
            if not offences:
                self._feed(RegisterAsked(manifest, digest_of(body), body, reply))
                return
            manifest = refuse("manifest", offences)
        self._refuse(reply, manifest, "")

    def deregister(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.deregister.>``."""
        worker_id = self._id("deregister", subject, reply)
        if worker_id is None:
            return
        message = parse_deregister(body)
        if isinstance(message, Refusal):
            self._refuse(reply, message, "")
        else:
            self._feed(DeregisterAsked(WorkerId(worker_id), message, reply))

    def heartbeat(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.heartbeat.>``; what cannot be read is answered if an answer is asked for."""
        worker_id = self._id("heartbeat", subject, reply)
        if worker_id is None:
            return
        beat = parse_heartbeat(body)
        if isinstance(beat, Refusal):
            self._refuse(reply, beat, "")
        else:
            self._feed(HeartbeatSeen(WorkerId(worker_id), beat))

    def _id(self, kind: str, subject: str, reply: str, *, quiet: bool = False) -> str | None:
        found = self._subjects.parse_one(kind, subject)
        if found is None and not quiet:
            expected = f"{self._subjects.prefix}.{kind}.<id>"
            detail = f"The subject {describe(subject)} is not {expected} with an id of {TOKEN_RULE}."
            self._refuse(reply, malformed(detail), "")
        return found
