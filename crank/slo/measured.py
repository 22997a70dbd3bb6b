"""Owns measured results: what became of each capability's requests and how long they took, as values and as a file.

It refuses to know who measured and what is asked for. The pytest plugin and ``bench`` write the file,
``crank.slo.prometheus`` makes the same of metrics, ``crank.slo.gate`` judges it. ``docs/operations.md`` describes it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec

from subjects.tokens import CapabilityId, is_capability

# A thousand capabilities, each with all the times that three digits can tell apart between 1 µs and an hour.
_MAX_BYTES = 64 * 1024 * 1024
_FORMAT = "crank-measured/1"


class BadResults(Exception):
    """The file holds no measured results; the message names it, and says what is wrong."""


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What became of one capability's requests. Those that were the caller's own fault are not among them."""

    requests: float
    failed: float
    took_ms: tuple[tuple[float | None, float], ...] = ()
    """How many took how long, in milliseconds of the caller's wait, ascending; None: longer than the last bound."""
    bounds_ms: tuple[float, ...] = ()
    """Where times are known by the bucket of a histogram alone: the buckets' upper ends, which stand for them."""

    @property
    def timed(self) -> float:
        """How many requests' time is known."""
        return sum(count for _, count in self.took_ms)

    def slower_than(self, bound_ms: float) -> float:
        """How many took longer for certain: within a bucket that does not end there nobody knows."""
        if self.bounds_ms:
            at = bisect_left(self.bounds_ms, bound_ms)
            if at == len(self.bounds_ms):
                return 0.0
            bound_ms = self.bounds_ms[at]
        return sum(count for took, count in self.took_ms if took is None or took > bound_ms)

    def quantile(self, share: float) -> float | None:
        """What ``share`` of the requests took at most; within a bucket by proportion; infinite beyond the last one."""
        rank, before = share * self.timed, 0.0
        for took, count in self.took_ms:
            if before + count >= rank > 0:
                return math.inf if took is None else self._within(took, (rank - before) / count)
            before += count
        return None

    def _within(self, took_ms: float, part: float) -> float:
        at = bisect_left(self.bounds_ms, took_ms)
        if at == len(self.bounds_ms):
            return took_ms
        begins = self.bounds_ms[at - 1] if at else 0.0
        return begins + (took_ms - begins) * part

    def plus(self, other: Measured) -> Measured:
        """Both together."""
        took = dict(self.took_ms)
        for value, count in other.took_ms:
            took[value] = took.get(value, 0.0) + count
        bounds = self.bounds_ms if self.bounds_ms == other.bounds_ms else ()
        return Measured(self.requests + other.requests, self.failed + other.failed, ordered(took), bounds)


Results = Mapping[CapabilityId, Measured]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["crank-measured/1"]
    capabilities: dict[str, Measured]


def ordered(took: Mapping[float | None, float]) -> tuple[tuple[float | None, float], ...]:
    """How many took how long, as ``Measured`` holds it."""
    return tuple(sorted(took.items(), key=lambda item: math.inf if item[0] is None else item[0]))


def rounded(took_ms: float) -> float:
    """To three digits: half a percent at most is lost, and however many requests there are, the file stays small."""
    return float(f"{took_ms:.3g}")


def merged(parts: Iterable[Results]) -> dict[CapabilityId, Measured]:
    """All results together."""
    found: dict[CapabilityId, Measured] = {}
    for part in parts:
        for capability, measured in part.items():
            found[capability] = found[capability].plus(measured) if capability in found else measured
    return found


def encode(results: Results) -> bytes:
    """The file's bytes: JSON, a capability a line, so that two versions can be compared."""
    lines = (
        b"%s: %s" % (msgspec.json.encode(capability), msgspec.json.encode(measured))
        for capability, measured in sorted(results.items())
    )
    return b'{"format": "%s", "capabilities": {\n%s\n}}\n' % (_FORMAT.encode(), b",\n".join(lines))


def decode(raw: bytes) -> dict[CapabilityId, Measured]:
    """The results in a file's bytes.

    Raises:
        ValueError: they are none; the message says what is wrong.

    """
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES // 1024 // 1024} MiB")
    try:
        file = msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    for name, measured in file.capabilities.items():
        if not is_capability(name):
            raise ValueError(f"{name!r:.100} is not VERB:NAME")
        if wrong := _wrong(measured):
            raise ValueError(f"{name}: {wrong}")
    return {CapabilityId(name): measured for name, measured in file.capabilities.items()}


def _wrong(measured: Measured) -> str:
    times = [math.inf if took is None else took for took, _ in measured.took_ms]
    if not 0 <= measured.failed <= measured.requests:
        return "of all requests, from 0 to all can have failed"
    if any(count < 0 for _, count in measured.took_ms) or any(took < 0 for took in times):
        return "took_ms holds a number below 0"
    if any(before >= after for before, after in pairwise(times)):
        return "took_ms is not in ascending order"
    if any(before >= after for before, after in pairwise(measured.bounds_ms)):
        return "bounds_ms is not in ascending order"
    return ""


def read(path: Path) -> dict[CapabilityId, Measured]:
    """The results in a file.

    Raises:
        BadResults: it holds none, or cannot be read.

    """
    try:
        with path.open("rb") as file:
            return decode(file.read(_MAX_BYTES + 1))
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadResults(
            f"{path} holds no measured results ({error}); `pytest --metrics-output FILE` writes them"
        ) from None
