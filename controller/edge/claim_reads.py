"""Owns reading records from their leader: claims, results that outlived them, and the bodies that are kept apart.

An empty message is what is left of a key that was forgotten. ``claims`` and ``claim_writes`` ask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bus.answers import ask_last, read_entry
from bus.connection import BusError
from bus.questions import Question, Questions
from controller.core.stored import ClaimRead, ClaimUnread, ReadClaim, StoreEvent
from controller.edge.background import Background
from controller.edge.kept_answers import KeptAnswers
from subjects.claims import ClaimRecord, decode_claim
from subjects.names import Subjects


class Found(NamedTuple):
    """What stands there, None when the key is free; ``seq`` is that of its last message, or 0."""

    record: ClaimRecord | None
    seq: int


class Unread(NamedTuple):
    """Why nothing is known; when something ``stands`` there that is no record, asking again does not help."""

    reason: str
    stands: bool = False


class ClaimReads:
    """One controller's readings."""

    def __init__(
        self,
        questions: Questions,
        kept: KeptAnswers,
        background: Background,
        subjects: Subjects,
        feed: Callable[[StoreEvent], None],
    ) -> None:
        self._questions = questions
        self._kept = kept
        self._background = background
        self._claims, self._results = subjects.bucket_idempotency, subjects.bucket_results
        self._feed = feed

    def ask(self, key: str, then: Callable[[Found | Unread], None]) -> None:
        """Read a claim, an answer's body left where it is."""
        self._ask(self._claims, key, then)

    def read(self, command: ReadClaim) -> None:
        """Read for the core, which gets ``ClaimRead`` or ``ClaimUnread``."""
        self._ask(self._claims, command.key, partial(self._claim, command))

    def whole(
        self, record: ClaimRecord | None, then: Callable[[ClaimRecord | None], None], failed: Callable[[str], None]
    ) -> None:
        """Give ``then`` the record with its answer's body, or ``failed`` the reason why there is none."""
        if record is None or record.answer is None or not record.answer.blob:
            then(record)
        else:
            self._background.spawn(self._fetch(record, then, failed))

    def _ask(self, bucket: str, key: str, then: Callable[[Found | Unread], None]) -> None:
        read = _Read(bucket, key, then)
        if not self._questions.ask(read):
            then(Unread(self._questions.why_not(read)))

    def _claim(self, command: ReadClaim, found: Found | Unread) -> None:
        if command.kept and isinstance(found, Found) and found.record is None:
            self._ask(self._results, command.key, partial(self._result, command.key, found))
        else:
            self._tell(command.key, found)

    def _result(self, key: str, free: Found, found: Found | Unread) -> None:
        if isinstance(found, Found):
            found = free if found.record is None else Found(found.record, 0)
        self._tell(key, found)

    def _tell(self, key: str, found: Found | Unread) -> None:
        def failed(why: str) -> None:
            self._feed(ClaimUnread(key, why))

        if isinstance(found, Unread):
            failed(found.reason)
        else:
            seq = found.seq
            self.whole(found.record, lambda record: self._feed(ClaimRead(key, record, seq)), failed)

    async def _fetch(
        self, record: ClaimRecord, then: Callable[[ClaimRecord], None], failed: Callable[[str], None]
    ) -> None:
        try:
            whole = await self._kept.whole(record)
        except BusError as error:
            failed(str(error))
        else:
            then(whole)


class _Read(Question):
    """The last record of a key, asked for once."""

    __slots__ = ("_stream", "_then")

    def __init__(self, bucket: str, key: str, then: Callable[[Found | Unread], None]) -> None:
        self._stream = f"KV_{bucket}"
        self._then = then
        super().__init__(*ask_last(self._stream, f"$KV.{bucket}.{key}"))

    def answered(self, body: bytes) -> None:
        try:
            entry = read_entry(body, self._stream)
        except BusError as error:
            self._then(Unread(str(error)))
            return
        if entry is None or not entry.body:
            self._then(Found(None, 0 if entry is None else entry.seq))
        elif (record := decode_claim(entry.body)) is None:
            why = f"what {self._stream} holds under this key is no record that this version can read"
            self._then(Unread(why, stands=True))
        else:
            self._then(Found(record, entry.seq))

    def unheard(self) -> None:
        self._then(Unread(f"{self._stream} cannot be read: JetStream is off"))

    def overdue(self) -> bool:
        self._then(Unread(f"{self._stream} cannot be read: JetStream does not answer"))
        return False
