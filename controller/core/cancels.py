"""Owns cancels: which life of this controller they end, and when it may be said that nobody has such a request.

Each comes to every controller, and once more to one of the queue group: the owner answers, and where there is none,
that one. ``router`` brings them; what a cancelled life does stands in its own room.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from controller.core import refusals
from controller.core.by_name import ByName
from controller.core.commands import Command, ReplyRefusal
from controller.core.events import CANCELLED, CancelAsked, LifeEvent
from controller.core.lives import cancelled
from controller.core.model import Request
from controller.core.timers import Timers
from controller.core.world import Life, World
from subjects.requests import NO_HEADERS
from subjects.tokens import CapabilityId, is_claim_key

# How long one member of the queue group gives the owner of a request to answer its cancel.
CANCEL_WAIT_S = 0.5
MAX_CANCELS = 10_000
_NO_CAPABILITY = CapabilityId("")


class Cancels:
    """The cancels of one controller."""

    def __init__(
        self,
        world: World,
        timers: Timers[Hashable],
        lives: ByName,
        emit: Callable[[Command], None],
        resume: Callable[[Life, LifeEvent], None],
    ) -> None:
        self._world = world
        self._timers = timers
        self._lives = lives
        self._emit = emit
        self._resume = resume
        self._answered: dict[str, None] = {}
        """Reply subjects of cancels that were answered, until the queue group's copy of the message came too."""

    def asked(self, event: CancelAsked, live: int) -> None:
        """A caller cancels; ``live`` requests have no terminal reply yet."""
        lives = self._lives.get((event.caller, event.request_id))
        if lives is None:
            if event.last and self._answered.pop(event.reply, self) is None:
                return  # answered a moment ago, when the same message came to every controller
            room = len(self._timers) < MAX_CANCELS + live + len(self._world.registry.workers)
            if event.last and event.reply and room:
                self._timers.set(event, self._world.now + CANCEL_WAIT_S)
            return
        if event.reply:
            if len(self._answered) >= MAX_CANCELS:
                del self._answered[next(iter(self._answered))]
            self._answered[event.reply] = None
            job = next(iter(lives))
            if job.delivery:
                job.cancels += (event.reply,)  # only what is stored outlives this process
            else:
                self._emit(cancelled(event.reply, event.request_id))
        for life in list(lives):
            if life.steps is not None:
                life.cancelled = True
                self._resume(life, CANCELLED)

    def unowned(self, event: CancelAsked) -> Request | None:
        """Nobody has it: a job that waits in its stream, which is asked for, or nothing."""
        if not is_claim_key(event.request_id):
            self._emit(ReplyRefusal(event.reply, refusals.no_such_request(event.request_id)))
            return None
        job_id = str(event.request_id)
        return Request(
            _NO_CAPABILITY, event.caller, event.request_id, event.reply, NO_HEADERS, b"", action="cancel", job_id=job_id
        )
