"""Owns questions whose answers go to a plain function: no task, future or timer for each, one sweep for all.

A question is asked again, in the same bytes, for as long as it says so. JetStream is asked this way by the stores of
``controller.edge``, where a request waits for it; elsewhere ``Bus.request`` is simpler.
"""

from __future__ import annotations

import asyncio

from bus.connection import Bus, Subscription

# How long an answer may take before a question is asked again.
PATIENCE_S = 2.0
_DRAIN_POLL_S = 0.01
# A JetStream that falls behind may not fill the memory with what waits for it; one that works has a few hundred open.
_MOST_OPEN = 20_000
_NO_RESPONDERS = b"NATS/1.0 503"


class Question:
    """One message that wants an answer; it left ``times`` times, for the first time at ``since``."""

    __slots__ = ("body", "due", "headers", "since", "subject", "times")

    def __init__(self, subject: str, body: bytes, headers: bytes | None = None) -> None:
        self.subject = subject
        self.body = body
        self.headers = headers
        self.since = self.due = 0.0
        self.times = 0

    def answered(self, body: bytes) -> float | None:
        """An answer came, which may be anything; returns in how many seconds to ask again, or None: it is settled."""
        raise NotImplementedError

    def unheard(self) -> float | None:
        """Nobody listens on the subject, so that this time nobody got it; returns the same."""
        raise NotImplementedError

    def overdue(self) -> bool:
        """There was no answer in time; returns whether to ask again."""
        raise NotImplementedError


class Questions:
    """The questions that are open, on one bus. ``sweep`` is to be called a few times a second."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._now = asyncio.get_running_loop().time
        self._publish = bus.publish
        self._inbox = bus.new_inbox() + "."
        self._open: dict[str, Question] = {}
        self._serial = 0
        self._subscription: Subscription | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        """Listen for answers.

        Raises:
            BusUnavailable: the connection is closed, or the server does not read.

        """
        self._subscription = await self._bus.subscribe(self._inbox + "*", self._on_answer)

    async def drain(self, patience_s: float) -> None:
        """Return when nothing is open any more, or no longer than ``patience_s``."""
        give_up = self._now() + patience_s
        while self._open and self._now() < give_up:  # noqa: ASYNC110  # an event for each would cost every one
            await asyncio.sleep(_DRAIN_POLL_S)

    async def stop(self) -> None:
        """Forget what is open, and listen no more."""
        self._open.clear()
        if self._subscription is not None:
            await self._bus.unsubscribe(self._subscription)

    def ask(self, question: Question) -> bool:
        """Ask; False when it cannot leave, and then nothing is kept of it."""
        there = self._open
        if len(there) >= _MOST_OPEN:
            return False
        self._serial = serial = self._serial + 1
        reply = f"{self._inbox}{serial}"
        if not self._publish(question.subject, question.body, question.headers, reply):
            return False
        question.times += 1
        question.since = now = self._now()
        question.due = now + PATIENCE_S
        there[reply] = question
        return True

    def why_not(self, question: Question) -> str:
        """Why ``ask`` has just said False."""
        if not self._bus.connected:
            return "not connected to NATS"
        size = len(question.body) + len(question.headers or b"")
        if size > self._bus.max_payload_bytes:
            return f"{size} bytes are more than the NATS server takes; raise its max_payload"
        if len(self._open) >= _MOST_OPEN:
            return f"JetStream falls behind: {_MOST_OPEN} questions to it are not answered yet"
        return "the NATS server does not read what it is sent"

    def ask_later(self, question: Question, after_s: float) -> None:
        """Ask when ``after_s`` have passed, and the connection allows."""
        self._serial += 1
        question.due = self._now() + after_s
        self._open[f"{self._inbox}{self._serial}"] = question

    def ask_again(self) -> None:
        """Ask everything that is open once more: the connection came back."""
        for reply, question in list(self._open.items()):
            self._repeat(reply, question)

    def sweep(self) -> None:
        """See to the questions whose time has come."""
        now = self._now()
        for reply, question in [item for item in self._open.items() if item[1].due <= now]:
            if question.overdue():
                self._repeat(reply, question)
            else:
                self._open.pop(reply, None)

    def _repeat(self, reply: str, question: Question) -> None:
        question.times += self._publish(question.subject, question.body, question.headers, reply)
        question.due = self._now() + PATIENCE_S

    def _on_answer(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        question = self._open.get(subject)
        if question is None:  # settled by an earlier answer
            return
        if body:
            again_s = question.answered(body)
        elif headers is not None and headers.startswith(_NO_RESPONDERS):
            again_s = question.unheard()
        else:
            return
        if again_s is None:
            self._open.pop(subject, None)
        else:
            question.due = self._now() + again_s
