"""Owns what a simulated worker does with its dispatches: takes them or not, takes its time, answers well or badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from controller.core.commands import Dispatch
from simulation.exchange import Exchange
from simulation.obligation import BAD
from subjects.answers import Answer, Fault, Frame, Garbage, NotRun, Result
from subjects.manifests import Capability

if TYPE_CHECKING:
    from simulation.workers import Worker

_MEAN_S, _CALM_S = 0.03, 0.005
_SLOW_S = (0.3, 3.0)
_SLOWNESS = 10.0
# A handler that never answers keeps its place until somebody restarts it; here, somebody does.
_NEVER_S = 10.0
# As in the SDK: the controller says when the time is over, and the worker a little later.
_GRACE_S = 0.1

_BUSY, _DRAINING, _TOO_LATE = NotRun("busy"), NotRun("draining"), NotRun("deadline")
_NOT_TAKEN = {"busy": _BUSY, "draining": _DRAINING, "deadline": _TOO_LATE}
_BROKE, _TRY_AGAIN = Fault(500, "it broke"), Fault(503, "not now", retryable=True)
_CANCELLED, _OUT_OF_TIME = Fault(499, "cancelled"), Fault(504, "out of time")
_UNKNOWN, _TWICE = Fault(404, "not offered here", retryable=True), Fault(400, "running already")
_PLAIN: dict[str | None, Answer] = {
    "error": _BROKE,
    "retryable": _TRY_AGAIN,
    "garbage": Garbage("nonsense"),
    "large": Result(b"x" * 100),
    "bad": Result(BAD),
    "frames": Frame("chunk", 0, b"piece"),
}
# How a stream's frames are numbered on.
_STEP: dict[str | None, int] = {"gap": 2, "repeated": 0}


class Run:
    """One dispatch that was taken."""

    __slots__ = ("answer", "at", "kind", "name", "seq", "streaming")

    def __init__(
        self, name: str, at: tuple[str, str], kind: str | None, answer: Callable[[Answer], None], *, streaming: bool
    ) -> None:
        self.name = name
        """Of this dispatch alone, and so in its answer."""
        self.at = at
        self.kind = kind
        self.answer = answer
        self.streaming = streaming
        self.seq = 0


class Desk:
    """Where the dispatches of one worker arrive. It keeps to what its worker declares."""

    def __init__(self, worker: Worker) -> None:
        self.draining = False
        self.runs: dict[str, Run] = {}
        self.capacity = 0
        self._seen: set[str] = set()
        self._worker = worker
        self._specs: dict[tuple[str, str], Capability] = {}
        self._used: Counter[tuple[str, str]] = Counter()
        self._hangs_until = self._slow_until = 0.0

    def open(self, offers: Iterable[Capability], share: float) -> None:
        """Begin anew, with these, and room for a share of all that they promise together."""
        self.draining = False
        self.runs.clear()
        self._seen.clear()
        self._used.clear()
        self._hangs_until = self._slow_until = 0.0
        self._specs = {(f"{self._worker.id}.{spec.verb}.{spec.name}", spec.version): spec for spec in offers}
        self.capacity = max(1, int(share * sum(spec.max_concurrency for spec in self._specs.values())))

    def hang(self, for_s: float) -> bool:
        """Nothing comes to its end for so long, and heartbeats go on."""
        self._hangs_until = self._worker.clock.now + for_s
        return True

    def slow_down(self, for_s: float) -> bool:
        """What is begun from now on takes longer."""
        self._slow_until = self._worker.clock.now + for_s
        return True

    def take(self, dispatch: Dispatch, exchange: Exchange, answered: Callable[[Answer], None]) -> None:
        """A dispatch arrives: turn it away, or start on it."""

        def answer(given: Answer) -> None:
            if self._worker.cut_at is None:
                exchange.carry("answer", answered, given)

        if dispatch.dispatch_id in self._seen:  # doubled on its way; it is decided already
            answer(_TWICE)
            return
        self._seen.add(dispatch.dispatch_id)
        kind = exchange.mishap("work")
        at = (dispatch.address, dispatch.version)
        spec = self._specs.get(at)
        if spec is None:
            answer(_UNKNOWN)
        elif self.draining:
            answer(_DRAINING)
        elif kind in _NOT_TAKEN:
            answer(_NOT_TAKEN[kind])
        elif self._used[at] >= spec.max_concurrency or len(self.runs) >= self.capacity:
            answer(_BUSY)
        else:
            self._used[at] += 1
            name = dispatch.dispatch_id
            run = self.runs[name] = Run(name, at, kind, answer, streaming=spec.streaming)
            self._worker.begins(name, twice_is_safe=spec.idempotent)
            self._start(run, dispatch, exchange)

    def _start(self, run: Run, dispatch: Dispatch, exchange: Exchange) -> None:
        worker, dice = self._worker, exchange.dice
        if run.kind == "never":
            worker.later(_NEVER_S, self._over, dispatch.dispatch_id)
            return
        took_s = _CALM_S if exchange.calm else dice.spread(_MEAN_S)
        if worker.clock.now < self._slow_until:
            took_s *= _SLOWNESS
        if run.kind == "slow":
            took_s += dice.between(*_SLOW_S)
        patience_s = dispatch.timeout_ms / 1000 + _GRACE_S
        if took_s > patience_s:
            worker.later(patience_s, self._end, dispatch.dispatch_id, _OUT_OF_TIME)
        pieces = 1 + int(dice.random() * 3) if run.streaming and run.kind not in _PLAIN else 0
        worker.later(took_s / (pieces + 1), self._go_on, dispatch.dispatch_id, pieces, took_s / (pieces + 1))

    def _go_on(self, dispatch_id: str, pieces: int, every_s: float) -> None:
        """Send the next piece, or the end."""
        run = self.runs.get(dispatch_id)
        if run is None:
            return
        hangs_s = self._hangs_until - self._worker.clock.now
        if hangs_s > 0:
            self._worker.later(hangs_s, self._go_on, dispatch_id, pieces, every_s)
        elif pieces:
            piece = f"{run.seq} of {run.name}".encode()
            run.answer(Frame("chunk" if pieces > 1 else "progress", run.seq, piece))
            run.seq += _STEP.get(run.kind, 1)
            self._worker.later(every_s, self._go_on, dispatch_id, pieces - 1, every_s)
        else:
            self._end(dispatch_id, _last_word(run))

    def _end(self, dispatch_id: str, answer: Answer) -> None:
        run = self._over(dispatch_id)
        if run is not None:
            if isinstance(answer, NotRun):
                self._worker.takes_back(dispatch_id)
            run.answer(answer)

    def _over(self, dispatch_id: str) -> Run | None:
        run = self.runs.pop(dispatch_id, None)
        if run is not None:
            self._used[run.at] -= 1
        return run

    def cancel(self, dispatch_id: str) -> None:
        """Nobody waits any more."""
        self._end(dispatch_id, _CANCELLED)


def _last_word(run: Run) -> Answer:
    done = Result(f'"{run.name}"'.encode())
    if not run.streaming or run.kind in _PLAIN:
        return _PLAIN.get(run.kind, done)
    if run.kind == "whole":
        return done
    if run.kind == "taken-back":
        return _BUSY
    return Frame("end", run.seq, fault=_TRY_AGAIN if run.kind == "broken-off" else None)
