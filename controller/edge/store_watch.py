"""Owns watching the streams that claims stand on: whether they are there, as they should be, and not nearly full.

One question a stream and look. It decides when no new claims are taken; a store that does not answer says nothing of
that, and the writes themselves fail. ``claims`` calls ``look`` about once a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from bus import StreamSpec
from bus.answers import Failure
from bus.questions import Question, Questions
from bus.specs import differences
from controller.edge.jetstream import STREAM_NOT_FOUND
from controller.edge.stream_faults import made_otherwise, nearly_full

log = logging.getLogger("crank.claims")

CLAIMS_FULL = "wait until older keys are forgotten"
"""What to do, but to make more room."""


class _State(msgspec.Struct):
    bytes: int = 0


class _Info(msgspec.Struct):
    config: dict[str, Any] = {}
    state: _State = msgspec.field(default_factory=_State)
    error: Failure | None = None


_decode = msgspec.json.Decoder(_Info).decode


class StoreWatch:
    """``refuses`` is told why no new claims are taken, and "" when they are; ``missing`` which stream is gone."""

    def __init__(
        self,
        questions: Questions,
        specs: tuple[StreamSpec, ...],
        refuses: Callable[[str], None],
        missing: Callable[[StreamSpec], None],
    ) -> None:
        self._questions = questions
        self._specs = specs
        self._refuses = refuses
        self._missing = missing
        self._wrong: dict[str, str] = {}
        self._told = ""

    def look(self) -> None:
        """Ask how each stream is."""
        for spec in self._specs:
            self._questions.ask(_Look(self, spec))

    def answer(self, spec: StreamSpec, body: bytes) -> None:
        """A stream's own word on how it is."""
        try:
            info = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if info.error is None:
            name, config = spec.name, info.config
            fault = made_otherwise(name, differences(config, spec))
            fault = fault or nearly_full(name, config, info.state.bytes, CLAIMS_FULL)
            self.judged(spec, "" if fault is None else str(fault))
        elif info.error.err_code == STREAM_NOT_FOUND:
            self._missing(spec)

    def judged(self, spec: StreamSpec, wrong: str) -> None:
        """Take down what is ``wrong`` with one of them, "" for nothing."""
        self._wrong[spec.name] = wrong
        told = next(filter(None, self._wrong.values()), "")
        if told != self._told:
            self._told = told
            if told:
                log.warning("no new claims are taken: %s", told)
            else:
                log.warning("claims are taken again")
            self._refuses(told)


class _Look(Question):
    __slots__ = ("_spec", "_watch")

    def __init__(self, watch: StoreWatch, spec: StreamSpec) -> None:
        self._watch, self._spec = watch, spec
        super().__init__(f"$JS.API.STREAM.INFO.{spec.name}", b"")

    def answered(self, body: bytes) -> None:
        self._watch.answer(self._spec, body)

    def unheard(self) -> None:
        pass

    def overdue(self) -> bool:
        return False
