"""Owns what an offer costs: the price that is paid, and the one that is compared, from manifest and bids.

A plain bid weighs the declared price: twice the bid, half the price in comparison. A bid with terms replaces price and
promised latency while it is valid. Heartbeats renew bids.
"""

from __future__ import annotations

from controller.core.fleet import INFINITE, Offer
from subjects.manifests import Bid

# Below every tier that is no price, and above every price that anyone would pay.
_MOST = 1e200


def take_bid(offer: Offer, bid: float | Bid | None, now: float) -> None:
    """Have ``bid`` hold from now on, and until it ends."""
    offer.bid = bid
    lasting_s = bid.valid_s if isinstance(bid, Bid) else None
    offer.bid_ends = INFINITE if lasting_s is None else now + lasting_s
    _enter(offer)


def end_bid(offer: Offer) -> None:
    """Its time is over: what the manifest declares holds again, unless that is what has ended."""
    declared = offer.spec.slo_bid
    offer.bid = declared if not isinstance(declared, Bid) or declared.valid_s is None else None
    offer.bid_ends = INFINITE
    _enter(offer)


def _enter(offer: Offer) -> None:
    bid, declared = offer.bid, offer.spec.cost_tokens_per_invocation
    offer.price = declared
    if isinstance(bid, Bid):
        if bid.budget_tokens is not None:
            offer.price = bid.budget_tokens
        if bid.latency_ms is not None:
            offer.latency.promised_ms = bid.latency_ms
        compared = offer.price
    elif bid is None:
        compared = declared
    else:
        compared = declared / bid if bid else _MOST  # who bids nothing wants no work
    # Equal offers are equal, whatever the last digits of a division say.
    offer.rank = min(float(f"{compared:.6g}"), _MOST)
