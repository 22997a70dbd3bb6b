"""Owns command → bytes: every message that this controller sends to callers and workers leaves here.

It decides nothing. The driver calls ``perform``; what JetStream must do first goes to ``registry_log``, and what the
stores of claims and jobs do, to those (``stores``: their methods, by command).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bus import Bus
from controller.core.commands import (
    Answer,
    Authorize,
    Command,
    Dispatch,
    Publish,
    ReadSubject,
    Record,
    Refuse,
    ReplyJson,
    ReplyRefusal,
    SendControl,
    StoreDeparture,
    StoreManifest,
)
from controller.core.events import Answered, Event, VerdictReached
from controller.edge.policy import OpenPolicy
from controller.edge.record_sink import RecordSink
from controller.edge.registry_log import RegistryLog
from subjects.answers import NotRun
from subjects.dispatches import build_dispatch
from subjects.errors import Refusal
from subjects.messages import encode
from subjects.names import Subjects
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal, build_reply
from subjects.tokens import DispatchId

_NOT_SENT = NotRun("busy")


class Outbound:
    """Carries out the core's commands on one bus."""

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        controller_id: str,
        reply_prefix: str,
        registry: RegistryLog,
        policy: OpenPolicy,
        stores: Mapping[type[Any], Callable[[Any], Event | None]],
        records: RecordSink,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._controller_id = controller_id
        self._dispatch_prefix = f"{subjects.prefix}.worker."
        self._reply_prefix = reply_prefix
        self._policy = policy
        self._do: dict[type[Any], Callable[[Any], Event | None]] = {
            Dispatch: self._dispatch,
            Answer: self._answer,
            Record: records.take,
            Refuse: self._refuse,
            Authorize: self._authorize,
            SendControl: self._control,
            StoreManifest: registry.store_manifest,
            StoreDeparture: registry.store_departure,
            ReadSubject: registry.read,
            ReplyJson: lambda command: self.reply_json(command.reply, command.body),
            ReplyRefusal: lambda command: self.refuse(command.reply, command.refusal, ""),
            Publish: self._publish,
            **stores,
        }

    def perform(self, command: Command) -> Event | None:
        """Carry ``command`` out; an event when what came of it is known at once."""
        return self._do[type(command)](command)

    def _dispatch(self, command: Dispatch) -> Event | None:
        request = command.request
        headers = request.headers
        block = build_dispatch(
            traceparent=command.traceparent,
            request_id=request.request_id,
            dispatch_id=command.dispatch_id,
            attempt=command.attempt,
            timeout_ms=command.timeout_ms,
            version=command.version,
            caller=request.caller,
            priority=headers.priority,
            content_type=headers.content_type,
            idempotency_key=headers.idempotency_key,
            tracestate=headers.tracestate,
            passed=request.passed,
        )
        subject = self._dispatch_prefix + command.address
        if self._bus.publish(subject, request.body, block, self._reply_prefix + command.dispatch_id):
            return None
        return Answered(DispatchId(command.dispatch_id), _NOT_SENT)

    def _answer(self, command: Answer) -> None:
        if not command.reply:
            return
        block = build_reply(
            command.meta, command.content_type, command.passed, command.frame, command.seq, command.error
        )
        self._bus.publish(command.reply, command.body, block)

    def _refuse(self, command: Refuse) -> None:
        self._send_refusal(command.reply, command.refusal, command.meta, command.frame, command.seq)

    def refuse(self, reply: str, refusal: Refusal, request_id: str) -> None:
        """Refuse what never became a request with a life, or a control message."""
        self._send_refusal(reply, refusal, ReplyMeta(request_id, self._controller_id, ""), "", 0)

    def _send_refusal(self, reply: str, refusal: Refusal, meta: ReplyMeta, frame: str, seq: int) -> None:
        if reply and self._subjects.may_reply(reply):
            block, body = build_refusal(refusal, meta, frame, seq)
            self._bus.publish(reply, body, block)

    def _authorize(self, command: Authorize) -> Event:
        return VerdictReached(command.life, self._policy.decide(command.request))

    def _control(self, command: SendControl) -> None:
        self._bus.publish(self._subjects.control(command.worker_id), encode(command.control), JSON_BLOCK)

    def reply_json(self, reply: str, body: bytes) -> None:
        """Answer a control message."""
        if reply and self._subjects.may_reply(reply):
            self._bus.publish(reply, body, JSON_BLOCK)

    def _publish(self, command: Publish) -> None:
        self._bus.publish(self._subjects.event(command.kind, command.name), encode(command.body), JSON_BLOCK)
