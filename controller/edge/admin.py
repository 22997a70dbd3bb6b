"""Owns the operator's questions: reads the fleet as it is and answers with one list each. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from controller.core import views
from controller.core.router import Router
from controller.edge.record_sink import RecordSink
from subjects.errors import Refusal, describe, malformed
from subjects.fields import convert_fields, decode_object, refuse
from subjects.messages import MAX_CONTROL_BYTES, encode
from subjects.names import Subjects

OPERATIONS = ("workers", "capabilities", "health")


class Admin:
    """Answers ``<prefix>.admin.<op>``."""

    def __init__(
        self,
        subjects: Subjects,
        router: Router,
        records: RecordSink,
        reply_json: Callable[[str, bytes], None],
        refuse: Callable[[str, Refusal, str], None],
    ) -> None:
        self._subjects = subjects
        self._router = router
        self._records = records
        self._reply_json = reply_json
        self._refuse = refuse

    def handle(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        """A message on ``<prefix>.admin.>``."""
        if not reply:
            return
        answer = self._answer(self._subjects.parse_one("admin", subject), body)
        if isinstance(answer, Refusal):
            self._refuse(reply, answer, "")
        else:
            self._reply_json(reply, encode(answer))

    def _answer(self, operation: str | None, body: bytes) -> dict[str, Any] | Refusal:
        if operation not in OPERATIONS:
            return malformed(f"There is no operation {describe(operation)}; there are: {', '.join(OPERATIONS)}.")
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
