"""Owns what controllers tell each other of objectives: the totals of a minute or a day, as JSON, in ``CRANK_SLO``.

A message holds everything that one process counted in that time, so that the newest one replaces those before it.
Whoever may publish there may write anything: what is read is bounded, or nothing.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from subjects.names import Subjects
from subjects.tokens import CapabilityId, is_capability, is_token

# A double holds these exactly, and so does every JSON reader.
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Share = Annotated[float, Meta(gt=0, le=1)]
# Objectives come from files, one each.
MAX_CAPABILITIES = 10_000
MAX_BINS = 1024
# nats-server itself takes no larger messages.
_MOST_BYTES = 64 * 1024 * 1024


class Totals(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was counted of one capability in a minute or a day.

    ``requests`` may have been ``bad``; of those that were ``served`` some were ``slow``. ``ms``, of a minute alone, is
    the histogram of their latencies by the number of the bin; ``told``, of a day alone, which shares of the month's
    budget alerts were sent for. ``would`` is how many requests enforcement would have refused.
    """

    requests: _Count = 0
    bad: _Count = 0
    served: _Count = 0
    slow: _Count = 0
    ms: dict[int, _Count] = {}
    told: tuple[_Share, ...] = ()
    would: _Count = 0


class CountsMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body. ``at`` is the writer's wall clock, seconds since 1970; ``left`` says that it stops now."""

    at: float
    counts: dict[CapabilityId, Totals] = {}
    left: bool = False


class Period(NamedTuple):
    """Whose counts, and of which minute or which day since 1970, UTC."""

    controller: str
    boot: str
    number: int
    is_day: bool = False


def subject_of(subjects: Subjects, period: Period) -> str:
    """``crank.slo.<controller>.<boot>.<minute>``, or ``….d<day>``."""
    return subjects.slo(period.controller, period.boot, period.number, day=period.is_day)


def parse_subject(subjects: Subjects, subject: str) -> Period | None:
    """The period of such a subject, or None."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[:2] != [subjects.prefix, "slo"] or not all(map(is_token, parts[2:])):
        return None
    is_day = parts[4].startswith("d")
    number = parts[4][is_day:]
    # Minutes have eight digits for a few hundred years.
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        return None
    return Period(parts[2], parts[3], int(number), is_day)


_decode = msgspec.json.Decoder(CountsMessage).decode


def parse_counts(body: bytes) -> CountsMessage | None:
    """A message that was stored, or None when it is none of ours."""
    if len(body) > _MOST_BYTES:
        return None
    try:
        message = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    counts = message.counts
    if len(counts) > MAX_CAPABILITIES or not all(is_capability(name) and _adds_up(counts[name]) for name in counts):
        return None
    return message


def _adds_up(totals: Totals) -> bool:
    return (
        totals.bad + totals.served <= totals.requests
        and totals.slow <= totals.served
        and totals.would <= totals.requests
        and len(totals.ms) <= MAX_BINS
        and len(totals.told) <= 100
        and (not totals.ms or (min(totals.ms) >= 0 and max(totals.ms) < MAX_BINS))
    )
