"""Owns asking a policy engine. No policy is configured in the open topology, and the verdict says so."""

from __future__ import annotations

from controller.core.model import Request, Verdict

_OPEN = Verdict(allow=True, reason="open topology: no policy is configured", valid_for_s=60.0)


class OpenPolicy:
    """Allows everything, and says why."""

    def decide(self, request: Request) -> Verdict:
        """The verdict on one request."""
        del request
        return _OPEN
