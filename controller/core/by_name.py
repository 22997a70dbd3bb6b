"""Owns finding lives by what their caller cancels them by. Two of one caller may have one name, and both are meant."""

from __future__ import annotations

from controller.core.world import Life


class ByName(dict[tuple[str, str], dict[Life, None]]):
    """Lives without a terminal reply, by caller and name: the request's id, or the job's that it works on."""

    def add(self, life: Life) -> None:
        """It begins."""
        name = _name(life)
        twins = self.get(name)
        if twins is None:
            self[name] = {life: None}
        else:
            twins[life] = None

    def remove(self, life: Life) -> None:
        """It has its reply, and is cancelled no more."""
        name = _name(life)
        twins = self[name]
        if len(twins) == 1:
            del self[name]
        else:
            del twins[life]


def _name(life: Life) -> tuple[str, str]:
    """A question about a job is nobody's to cancel: no id has a space."""
    request = life.request
    if request.action in ("request", "submit"):
        return request.caller, request.request_id
    return request.caller, request.job_id if request.action == "job" else f"{request.action} {request.request_id}"
