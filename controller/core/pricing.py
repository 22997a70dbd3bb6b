"""Owns what an offer costs: the price that is paid, and the one that is compared, from manifest and bids.

A plain bid weighs the declared price: twice the bid, half the price in comparison. A bid with terms replaces price and
promised latency while it is valid. Heartbeats renew bids.
"""

from __future__ import annotations

from controller.core.fleet import INFINITE, Offer
from controller.core.latency import UNKNOWN_LATENCY_MS
from subjects.manifests import Bid, Capability, Slo

# Below every tier that is no price, and above every price that anyone would pay.
_MOST = 1e200
# Thirty years: a bid that is to last longer never ends, and no clock has to count that far.
_FOREVER_S = 1e9


def promised_ms(spec: Capability) -> tuple[float, float]:
    """What it says of a usual answer and of its slowest ones, in milliseconds."""
    slo = spec.slo or Slo()
    usual = slo.latency_p50_ms or UNKNOWN_LATENCY_MS
    return usual, slo.latency_p99_ms or slo.latency_p95_ms or usual


def ends(bid: float | Bid | None, now: float) -> float:
    """When a bid that is made now is over."""
    lasting_s = bid.valid_s if isinstance(bid, Bid) else None
    return INFINITE if lasting_s is None or lasting_s > _FOREVER_S else now + lasting_s


def declared_bid(offer: Offer) -> float | Bid | None:
    """The bid of the manifest, unless it was one for a while."""
    declared = offer.spec.slo_bid
    return None if isinstance(declared, Bid) and declared.valid_s is not None else declared


def take_bid(offer: Offer, bid: float | Bid | None, now: float) -> None:
    """Have ``bid`` hold from now on, and until it ends."""
    offer.bid, offer.bid_ends = bid, ends(bid, now)
    offer.price = compared = offer.spec.cost_tokens_per_invocation
    slowest_ms = promised_ms(offer.spec)[1]
    if isinstance(bid, Bid):
        if bid.budget_tokens is not None:
            offer.price = bid.budget_tokens
        if bid.latency_ms is not None:
            slowest_ms = bid.latency_ms
        compared = offer.price
    elif bid is not None:
        compared = compared / bid if bid else _MOST  # who bids nothing wants no work
    offer.latency.promise(slowest_ms)
    # Equal offers are equal, whatever the last digits of a division say.
    offer.rank = min(float(f"{compared:.6g}"), _MOST)
