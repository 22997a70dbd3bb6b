"""Owns the words of what the core refuses: what happened, and what to do next.

Those that keys and jobs bring with them stand in ``claim_refusals``, those of a crowd in ``crowd_refusals``.
"""

from __future__ import annotations

from collections.abc import Collection

from controller.core.events import Cancelled, DeadlinePassed, GivenUp, LifeEvent
from controller.core.fleet import Offer
from controller.core.model import Mismatch, Request, Verdict
from controller.core.pools import Group, Pool
from controller.core.selection import left_out
from controller.core.world import Life, World
from subjects.answers import Fault
from subjects.errors import ErrorKind, Offence, Refusal, Refused, malformed
from subjects.versions import by_precedence

_CANDIDATES_SHOWN = 20
_VERSIONS_SHOWN = 10
# A worker of the contract's short life sends heartbeats every 2 s: waiting a little less than that is no use.
RETRY_AFTER_MS = 2000
BUSY_RETRY_AFTER_MS = 500


def denied(request: Request, verdict: Verdict) -> Refusal:
    """403, or 503 when the engine gave no clear answer."""
    if verdict.unavailable:
        detail = f"The policy could not be asked: {verdict.reason}. Nothing ran; try again, or tell the operator."
        return Refusal(ErrorKind.POLICY_UNAVAILABLE, detail, retry_after_ms=RETRY_AFTER_MS)
    detail = f"{request.caller} may not call {request.capability}: {verdict.reason}. Ask the operator for access."
    return Refusal(ErrorKind.POLICY_DENIED, detail)


def never_offered(request: Request, world: World) -> Refusal:
    """404, with names that look like it."""
    near = world.nearby.guess(request.capability, world.registry.groups, world.now)
    hint = f" Did you mean {' or '.join(near)}?" if near else " See `crank capabilities` for what is offered."
    return Refusal(ErrorKind.NO_SUCH_CAPABILITY, f"No worker has offered {request.capability}.{hint}", near=near)


def bad_input(request: Request, mismatch: Mismatch) -> Refusal:
    """400 for a body that is not JSON, 422 for one that does not fit."""
    if not mismatch.is_json:
        return malformed(
            f"The payload is not JSON: {mismatch.message}. Send JSON, or name another Content-Type.",
            Offence("", mismatch.message),
        )
    where = mismatch.path or "the payload"
    detail = f"{where} does not fit the input schema of {request.capability}: {mismatch.message}."
    return Refusal(ErrorKind.INVALID_INPUT, detail, offences=(Offence(mismatch.path, mismatch.message),))


def nobody(life: Life, group: Group, pool: Pool, world: World) -> Refusal | None:
    """Why no worker will ever take this request as things are, or None when waiting may help."""
    if not pool.members and group.offers:
        return _no_fit(life, group, pool)
    if not pool.eligible:
        detail = f"{group.capability} is known, but every worker that offers it is away; start one, or try again later."
        candidates = left_out_of(group, pool, life)
        return Refusal(ErrorKind.NO_WORKER, detail, retry_after_ms=RETRY_AFTER_MS, candidates=candidates)
    if life.tried and all(o.worker.id in life.tried for o in pool.members if o.eligible):
        detail = f"Every worker that offers {group.capability} was tried and none took the request; try again later."
        return Refusal(ErrorKind.NO_WORKER, detail, retry_after_ms=RETRY_AFTER_MS)
    return None


def _no_fit(life: Life, group: Group, pool: Pool) -> Refusal:
    candidates = left_out_of(group, pool, life)
    if pool.budget_tokens is not None:
        affordable = group.pool(pool.version, pool.constraints).members
        if affordable:
            best = min(offer.price for offer in affordable)
            detail = (
                f"No worker of {group.capability} that fits does it for {life.request.headers.budget_tokens:g} tokens; "
                f"the best offer is {best:g}. Raise Crank-Budget-Tokens, or leave it out."
            )
            return Refusal(ErrorKind.OVER_BUDGET, detail, candidates=candidates)
    offered = by_precedence({offer.spec.version for offer in group.offers})
    versions = ", ".join(offered[:_VERSIONS_SHOWN]) + (", …" if len(offered) > _VERSIONS_SHOWN else "")
    detail = (
        f"{group.capability} is offered (versions {versions}), but by no worker that fits this request; "
        "loosen Crank-Version or Crank-Constraints."
    )
    return Refusal(ErrorKind.NO_MATCH, detail, candidates=candidates)


def left_out_of(group: Group, pool: Pool, life: Life) -> tuple[Refused, ...]:
    """The first of the capability's workers, each with why it is out."""
    tried: Collection[str] = life.tried or ()
    refused: list[Refused] = []
    for offer in group.offers:
        if len(refused) == _CANDIDATES_SHOWN:
            break
        refused.append(Refused(offer.worker.id, left_out(offer, pool, tried) or "is free"))
    return tuple(refused)


def worker_error(offer: Offer, fault: Fault) -> Refusal:
    """500: the worker's own code and words inside."""
    words = fault.message.rstrip(" .") or "no message"
    if fault.retryable:
        again = "It may be sent again."
    elif 400 <= fault.code < 500:
        again = "Sending it again will not help; change the request."
    else:
        again = "The fault is the worker's; tell whoever runs it."
    detail = f"Worker {offer.worker.id} reported an error ({fault.code}): {words}. {again}"
    return Refusal(
        ErrorKind.WORKER_ERROR,
        detail,
        retry_after_ms=fault.retry_after_ms,
        maybe_executed=True,
        worker_code=fault.code,
        worker_message=fault.message,
        retryable=fault.retryable,
    )


def protocol(offer: Offer, how: str) -> Refusal:
    """502: what the worker sent cannot be passed on."""
    detail = f"Worker {offer.worker.id} broke the contract: {how}. Tell whoever runs it; the work may have been done."
    return Refusal(ErrorKind.WORKER_PROTOCOL, detail, maybe_executed=True)


def worker_lost(offer: Offer, reason: str) -> Refusal:
    """503: it went away with the work."""
    detail = f"Worker {offer.worker.id} went away ({reason}); the work may have been done: check before sending again."
    return Refusal(ErrorKind.WORKER_LOST, detail, maybe_executed=True)


def hung(offer: Offer) -> Refusal:
    """504 while the caller would still wait: the worker took longer than it says that it ever takes."""
    detail = (
        f"Worker {offer.worker.id} did not answer within the timeout_s that it declares. "
        "The work may have been done: check before sending again, and tell whoever runs the worker."
    )
    return Refusal(ErrorKind.DEADLINE, detail, maybe_executed=True)


def deadline(life: Life, where: str, now: float) -> Refusal:
    """504, with where the time was spent."""
    spent_ms, maybe = round((now - life.arrived_at) * 1000), life.maybe_executed
    done = "The work may have been done." if maybe else "Nothing ran."
    detail = (
        f"The time ran out after {spent_ms} ms, {where}. {done} If that was too short, send a larger Crank-Timeout-Ms."
    )
    return Refusal(ErrorKind.DEADLINE, detail, maybe_executed=maybe)


def cancelled(life: Life) -> Refusal:
    """499."""
    maybe = life.maybe_executed
    done = "the work may have been done" if maybe else "nothing ran"
    return Refusal(ErrorKind.CANCELLED, f"The caller cancelled; {done}.", maybe_executed=maybe)


def closing(life: Life) -> Refusal:
    """503: the controller stops, and its patience with what it accepted is over."""
    maybe = life.maybe_executed
    done = "The work may have been done." if maybe else "Nothing ran; send it again."
    detail = f"The controller is stopping and gave this request up. {done}"
    return Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=BUSY_RETRY_AFTER_MS, maybe_executed=maybe)


def interrupted(event: LifeEvent | None, life: Life, world: World, where: str) -> Refusal:
    """A life is ended from outside: cancelled, too late, or the controller stops."""
    if isinstance(event, Cancelled):
        return cancelled(life)
    if isinstance(event, GivenUp):
        return closing(life)
    assert isinstance(event, DeadlinePassed), event
    return deadline(life, where, world.now)


def no_such_request(request_id: str) -> Refusal:
    """404 to a cancel."""
    detail = f"No request {request_id} of this caller is running; it may be done already."
    return Refusal(ErrorKind.NO_SUCH_REQUEST, detail)
