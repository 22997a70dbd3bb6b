"""Owns judging JetStream as a whole: whether it is on, and has room for what controllers have still to make.

It is given what the server answered, and asks nothing itself. ``examination`` calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bus import StreamSpec
from bus.connection import BusError
from bus.inspection import Account, NoJetStream, Stream, Tier
from crank.doctoring.findings import Finding, ok, problem, some, warning
from crank.doctoring.rights import NotAllowed

CHECK = "JetStream"
# From here on a burst can use up the rest.
_NEARLY_FULL = 0.8
_MORE_ROOM = "raise the account's JetStream limits, or delete streams that nobody needs"


def judge_account(
    found: Account | BusError, streams: Iterable[Stream | BusError | None], missing: Sequence[StreamSpec], replicas: int
) -> list[Finding]:
    """Whether JetStream is on and has room. Callers and workers may not ask, and do not need it: nothing is found.

    ``streams`` is what was heard of each, ``missing`` those that are to be made, and ``replicas`` the setting.
    """
    asked = [answer for answer in (found, *streams) if not isinstance(answer, NotAllowed)]
    failed = next((answer for answer in asked if isinstance(answer, BusError)), None)
    if isinstance(failed, NoJetStream):
        return [problem(CHECK, str(failed), failed.mend or "nats-server's log says more")]
    if failed is not None:
        mend = "a cluster of which most servers are away looks like this; nats-server's log says more"
        return [problem(CHECK, f"JetStream does not answer: {failed}", mend)]
    if isinstance(found, Account):
        return [_room_for(found, missing, replicas)]
    return [ok(CHECK, "on; this user may not ask how much room there is")] if asked else []


def _room_for(found: Account, missing: Sequence[StreamSpec], replicas: int) -> Finding:
    if not found.tiers:
        return _room(found, missing)
    tier = found.tiers.get(f"R{replicas}")
    if tier is None:
        said = f"the account has room for streams of {some(sorted(found.tiers))}, and for none of R{replicas}"
        return problem(CHECK, said, "raise the account's JetStream limits, or change the setting replicas")
    return _room(tier, missing)


def _room(tier: Tier, missing: Sequence[StreamSpec]) -> Finding:
    limits = tier.limits
    if limits.max_bytes_required and (sizeless := [spec.name for spec in missing if spec.max_bytes <= 0]):
        said = f"the account wants a size for every stream, and controllers make {some(sizeless)} without one"
        return problem(CHECK, said, "set max_bytes to false in the account's JetStream limits")
    stored, reserves = max(tier.storage, tier.reserved_storage), sum(max(0, spec.max_bytes) for spec in missing)
    uses = [
        ("bytes on file", stored, reserves, limits.max_storage),
        ("consumers", tier.consumers, 0, limits.max_consumers),
    ]
    if missing:
        uses.append(("streams", tier.streams, len(missing), limits.max_streams))
    limited = [(what, used, more, limit) for what, used, more, limit in uses if limit >= 0]
    if full := [f"{used} of {limit} {what}" for what, used, _, limit in limited if used >= limit]:
        return problem(CHECK, f"there is no room: the account uses {' and '.join(full)}", _MORE_ROOM)
    if lacking := [
        f"{more} {what} more, of {limit} that are allowed and {used} in use"
        for what, used, more, limit in limited
        if used + more > limit
    ]:
        mend = f"{_MORE_ROOM}; or give the settings claims_max_bytes and jobs_max_bytes less"
        return problem(CHECK, f"there is no room: controllers need {' and '.join(lacking)}", mend)
    if nearly := [f"{used} of {limit} {what}" for what, used, _, limit in limited if used >= _NEARLY_FULL * limit]:
        return warning(CHECK, f"there is little room: the account uses {' and '.join(nearly)}", _MORE_ROOM)
    return ok(CHECK, f"on; streams: {tier.streams}, bytes on file: {tier.storage}")
