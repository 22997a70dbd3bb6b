"""Owns the end of keys and jobs: when all is quiet, every accepted job is over, and no claim waits for the dead.

``quiet`` calls ``settle`` when nothing goes wrong any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.core.events import RequestArrived
from controller.core.matching import mismatch
from controller.core.model import Request
from simulation.bucket import LEASE_S
from simulation.callers import PAYLOADS
from simulation.dice import Dice
from simulation.exchange import Exchange
from simulation.laws import must
from subjects.claims import ClaimRecord, fingerprint
from subjects.requests import RequestHeaders
from subjects.tokens import CapabilityId, RequestId

if TYPE_CHECKING:
    from simulation.world import Simulation

# Whatever a job waits for is over: acknowledgements, and a pause that is doubled with each attempt.
_REST_S = 120.0
_CANCELS = 3
_STEP_S = 2.0
_PATIENCE_S = 5 * LEASE_S
# Results are asked for of so many jobs.
_ASKED = 200
_HELD = ("waiting", "dispatching")


def settle(simulation: Simulation) -> None:
    """Check the laws that hold then."""
    _wait(simulation, _REST_S, lambda: not simulation.jobs.left())
    for job_id, request in simulation.jobs.left().items():
        must(not _could_do(simulation, request), "job-ends", f"{job_id} is still in its stream, and could be done")
    _cancel_left(simulation)
    ledger = simulation.ledger
    for job_id in ledger.accepted:
        must(job_id in ledger.ended, "job-ends", f"{job_id} was accepted, and is {_stands(simulation, job_id)}")
    _ask_for_results(simulation)
    _ask_again(simulation)


def _wait(simulation: Simulation, for_s: float, enough: Callable[[], bool]) -> None:
    until = simulation.clock.now + for_s
    while simulation.clock.now < until and simulation.unbroken() and not enough():
        simulation.clock.run(simulation.clock.now + _STEP_S, simulation.unbroken)


def _could_do(simulation: Simulation, request: Request) -> bool:
    """Whether a worker that is there offers it."""
    headers = request.headers
    specs = [spec for worker in simulation.workers.values() if worker.up for spec in worker.manifest.capabilities]
    return any(
        spec.id == request.capability
        and mismatch(spec, headers.version, headers.constraints) is None
        and (headers.budget_tokens is None or spec.cost_tokens_per_invocation <= headers.budget_tokens)
        for spec in specs
    )


def _cancel_left(simulation: Simulation) -> None:
    """What nobody can do is cancelled by its caller, who asks again when nobody has it just then."""
    for attempt in range(_CANCELS):
        left = simulation.jobs.left()
        for job_id, request in left.items():
            simulation.callers.cancel(request.caller, RequestId(job_id), f"cancel {job_id} {attempt}", Dice(attempt))
        if left:
            _wait(simulation, _REST_S, lambda: not simulation.jobs.left())


def _ask_for_results(simulation: Simulation) -> None:
    """Whoever asks is told how it ended."""
    asked: list[tuple[str, str, Exchange]] = []
    for job_id in list(simulation.ledger.accepted)[-_ASKED:]:
        record = simulation.jobs.result(job_id)
        if record is not None and simulation.ledger.is_over(job_id):
            request = _request(record, f"result {len(asked)}", job_id)
            asked.append((job_id, record.state, _ask(simulation, request, len(asked))))
    _wait(simulation, _PATIENCE_S + 1.0, lambda: all(exchange.outcome for _, _, exchange in asked))
    for job_id, state, exchange in asked:
        told = f"{job_id} is {state}, and its caller is told {exchange.outcome or 'nothing'}"
        must(exchange.outcome == f"result {state}", "job-ends", told)


def _ask_again(simulation: Simulation) -> None:
    """What was claimed by somebody who is gone is settled when somebody asks for it."""
    asked: dict[str, Exchange] = {}
    for key, record in simulation.bucket.records().items():
        if record.state not in _HELD or record.job:
            continue
        request = _request(record, f"again {len(asked)}", "")
        if _could_do(simulation, request):
            asked[key] = _ask(simulation, request, len(asked))
    _wait(simulation, _PATIENCE_S + 1.0, lambda: all(exchange.outcome for exchange in asked.values()))
    for key in asked:
        stands = simulation.bucket.get(key).record
        waits = stands is not None and stands.state in _HELD
        must(not waits, "no-orphan", f"{key} is {_stands(simulation, key)}, and somebody asked for it")


def _request(record: ClaimRecord, reply: str, job_id: str) -> Request:
    """A question for a job's result, or the same request once more."""
    timeout_ms = int(_PATIENCE_S * 1000)
    name = RequestId(reply.replace(" ", "-"))
    if job_id:
        headers = RequestHeaders(timeout_ms=timeout_ms)
        return Request(CapabilityId(""), record.caller, name, reply, headers, b"", action="result", job_id=job_id)
    headers = RequestHeaders(timeout_ms=timeout_ms, idempotency_key=record.key)
    body = next(p for p in PAYLOADS if fingerprint(headers.content_type, p) == record.fingerprint)
    return Request(CapabilityId(record.capability), record.caller, name, reply, headers, body)


def _ask(simulation: Simulation, request: Request, number: int) -> Exchange:
    exchange = simulation.callers.aside(request.reply, "again")
    controller = simulation.controllers[number % len(simulation.controllers)]
    controller.receive(controller.feed, RequestArrived(request))
    return exchange


def _stands(simulation: Simulation, key: str) -> str:
    record = simulation.bucket.get(key).record
    return "free" if record is None else f"{record.state} of {record.owner}"
