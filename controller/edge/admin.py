"""Owns the operator's questions: what can be told of the fleet at once is told here, with one list each.

What JetStream must be asked for first goes to the ``desk``, and a claim that is to be resolved to the core.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from controller.core import views
from controller.core.events import Event, ResolveAsked
from controller.core.model import Request
from controller.core.router import Router
from controller.edge.identity import ANONYMOUS, caller_of
from controller.edge.inbound import new_request_id
from controller.edge.record_sink import RecordSink
from subjects.claims import StoredAnswer, claim_key, is_key
from subjects.errors import Refusal, describe, malformed
from subjects.fields import convert_fields, decode_object, refuse
from subjects.headers import DEFAULT_CONTENT_TYPE, MAX_CONTENT_TYPE_CHARS, is_header_value, parse_block
from subjects.messages import MAX_CONTROL_BYTES, encode
from subjects.names import Subjects
from subjects.requests import NO_HEADERS
from subjects.tokens import CapabilityId, is_capability, is_claim_key

OPERATIONS = ("workers", "capabilities", "slo", "health", "resolve")
# Beside the answer that an operator gives, which may be as large as any.
_RESOLVE_EXTRA_BYTES = 4096

# Of the files of objectives; whoever mends these sees the next.
_MISTAKES_SHOWN = 20


class _Resolve(msgspec.Struct, frozen=True):
    """Which claim, and what became of it."""

    outcome: Literal["done", "released"]
    job_id: str = ""
    capability: str = ""
    key: str = ""
    caller: str = ANONYMOUS
    answer: msgspec.Raw = msgspec.Raw()
    answer_base64: str | None = None
    content_type: Annotated[str, msgspec.Meta(max_length=MAX_CONTENT_TYPE_CHARS)] = DEFAULT_CONTENT_TYPE


class Admin:
    """Answers ``<prefix>.admin.<op>``."""

    def __init__(
        self,
        subjects: Subjects,
        router: Router,
        records: RecordSink,
        feed: Callable[[Event], None],
        reply_json: Callable[[str, bytes], None],
        refuse: Callable[[str, Refusal, str], None],
        later: Mapping[str, Callable[[str, bytes], None]],
        mistakes: Callable[[], Sequence[str]],
    ) -> None:
        self._subjects = subjects
        self._router = router
        self._records = records
        self._feed = feed
        self._reply_json = reply_json
        self._refuse = refuse
        self._later = later
        """Operations that answer by themselves, later; each is given the reply subject and the question."""
        self._mistakes = mistakes
        """What is wrong in the files of objectives and limits, a line each."""

    def handle(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.admin.>``."""
        if not reply or not self._subjects.may_reply(reply):
            return
        operation = self._subjects.parse_one("admin", subject)
        block = parse_block(raw)
        if isinstance(block, Refusal):
            self._refuse(reply, block, "")
            return
        later = self._later.get(operation or "")
        if later is not None:
            later(reply, body)
            return
        if operation == "resolve":
            refusal = self._resolve(caller_of(block), reply, body)
            if refusal is not None:
                self._refuse(reply, refusal, "")
            return
        answer = self._answer(operation, body)
        if isinstance(answer, Refusal):
            self._refuse(reply, answer, "")
        else:
            self._reply_json(reply, encode(answer))

    def _resolve(self, operator: str, reply: str, body: bytes) -> Refusal | None:
        """Hand the core what an operator says of a claim; a question that cannot be read is refused."""
        raw = decode_object(body, self._router.world.max_answer_bytes + _RESOLVE_EXTRA_BYTES, "question")
        if isinstance(raw, Refusal):
            return raw
        try:
            asked = msgspec.json.decode(body, type=_Resolve)
        except (msgspec.DecodeError, RecursionError) as error:
            return malformed(f"The question cannot be read: {error}.")
        if not asked.content_type or not is_header_value(asked.content_type):
            return malformed("content_type must be a media type, such as text/plain: plain text without control codes.")
        job_id = asked.job_id
        if not job_id and is_capability(asked.capability) and is_key(asked.key):
            job_id = claim_key(asked.caller, asked.capability, asked.key)
        if not is_claim_key(job_id):
            return malformed(
                "Name the claim: either job_id, its 52 characters, or capability (verb:name), key and, if there are "
                "identities, caller."
            )
        given = None
        if asked.outcome == "done":
            content = _content(asked)
            if content is None:
                return malformed("To call it done, send the answer: answer (any JSON) or answer_base64.")
            given = StoredAnswer(operator, "", 0, content, asked.content_type)
        request = Request(
            CapabilityId(asked.capability),
            operator,
            new_request_id(),
            reply,
            NO_HEADERS,
            b"",
            action="resolve",
            job_id=job_id,
        )
        self._feed(ResolveAsked(request, given))
        return None

    def _answer(self, operation: str | None, body: bytes) -> dict[str, Any] | Refusal:
        if operation not in OPERATIONS:
            known = ", ".join((*OPERATIONS, *self._later))
            return malformed(f"There is no operation {describe(operation)}; there are: {known}.")
        raw = decode_object(body or b"{}", MAX_CONTROL_BYTES, "question")
        if isinstance(raw, Refusal):
            return raw
        query, offences = convert_fields(raw, views.Query)
        if query is None:
            return refuse("question", offences)
        registry, room = self._router.world.registry, self._router.world.max_answer_bytes
        if operation == "workers":
            return views.workers(registry, query, time.monotonic(), room)
        if operation == "capabilities":
            return views.capabilities(registry, query, room)
        if operation == "slo":
            about = {
                "mistakes": self._mistakes()[:_MISTAKES_SHOWN],
                "controller": self._router.world.controller_id,
            }
            return {**self._router.counting.shown(query, room - len(encode(about))), **about}
        return self._health()

    def _health(self) -> dict[str, Any]:
        router = self._router
        status = {name: self._records.by_status[name] for name in ("success", "error", "rejected")}
        controller = {
            "controller": router.world.controller_id,
            "live_requests": router.live,
            "in_flight": router.in_flight,
            "late_answers": router.late_answers,
            "workers": len(router.world.registry.workers),
            "requests": {**status, "by_outcome": dict(self._records.by_outcome)},
        }
        return {"health": [controller]}


def _content(asked: _Resolve) -> bytes | None:
    if asked.answer_base64 is not None:
        try:
            return base64.b64decode(asked.answer_base64, validate=True)
        except ValueError:  # what is not ASCII is none of binascii's
            return None
    return bytes(asked.answer) or None
