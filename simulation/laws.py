"""Owns what must hold, whatever happens: each law has a name and one sentence. Who sees one broken says which.

``books`` recomputes what a router keeps, ``watch`` and ``claim_watch`` follow what goes in and out, ``ledger`` knows
what really happened to keys, and ``quiet`` looks when all is over.
"""

from __future__ import annotations

LAWS = {
    "one-reply": "A request gets at most one terminal reply, nothing follows it, and one decision record tells of it.",
    "must-not-run": "A request that must not run is never dispatched, and no key is claimed in a full store.",
    "one-claim": "A key has one claim and one write at a time, and is dispatched only under a claim that is stored.",
    "at-most-once": "What must not run twice runs once in the life of its key, whatever happens.",
    "table": "What is stored of a key changes only as the table of states says, and ends ages out, nothing else.",
    "lease": "An owner renews its claim in time, and from one that does, it is not taken.",
    "stored-first": "An answer to a key is sent only when it is stored.",
    "same-answer": "All answers to one key are the same, byte for byte.",
    "replay-free": "A replay runs nothing, costs nothing, and says that it is one.",
    "free-again": "The key of what was refused before it ran is free at once.",
    "job-ends": "An accepted job ends in exactly one of done, dead and cancelled, and its result says so to who asks.",
    "own-delivery": "Nobody acknowledges, gives back or extends a delivery that is not theirs.",
    "no-orphan": "When all is quiet, no claim that somebody asks for waits for an owner that is gone.",
    "in-time": "A request that a living controller took has a reply when its deadline is over, and is not late before.",
    "cancels": "Who cancels has a terminal reply at once, its worker is told, and what is told of a job is stored.",
    "known-gone": "No dispatch goes to a worker that this controller knows to drain or to be gone; none waits for one.",
    "right-worker": "A dispatch goes to one worker at a time: one that fits, has room, and was not tried in vain.",
    "no-second-run": "What may have run is run again only where the capability says that this is safe.",
    "attempts": "Attempts are numbered, bounded, and paid from the retry budget.",
    "frames": "A caller's frames are numbered without gaps and end in exactly one end.",
    "right-answer": "Nothing is passed on that its worker must not send, or that somebody else asked for.",
    "counts": "Every count is what counting gives, and nothing is in flight when all is quiet.",
    "no-idle-wait": "Nobody waits while a worker that fits is free.",
    "nothing-left": "When all is quiet, no life, timer, wait or flight is left.",
    "agreement": "A controller knows workers as the stream told it last, and when all is quiet, all know the same.",
    "recovery": "Nobody is gone who was heard; when all is quiet, every living worker's every offer serves.",
    "time-goes-on": "Nothing is due again and again in the same moment.",
    "no-crash": "Nothing that happens makes the core raise.",
}


class Broken(AssertionError):
    """A law was broken; ``detail`` says by what."""

    def __init__(self, law: str, detail: str) -> None:
        super().__init__(f"{law}: {detail}")
        assert law in LAWS
        self.law = law
        self.detail = detail


def must(holds: object, law: str, detail: str) -> None:
    """Raise ``Broken`` unless it holds."""
    if not holds:
        raise Broken(law, detail)
