"""The caller's side: ask, stream, submit, cancel; what comes back; what can go wrong.

A worker's module has codecs and errors from here too, so the client, and NATS with it, is imported when it is used.
"""

from typing import TYPE_CHECKING, Any

from callers.failures import CrankError, Silence, Unreachable
from callers.frames import Answer, Frame
from callers.jobs import Job, Pending

if TYPE_CHECKING:
    from callers.client import Client as Client

__all__ = ["Answer", "Client", "CrankError", "Frame", "Job", "Pending", "Silence", "Unreachable"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from callers.client import Client

        return Client
    raise AttributeError(f"module 'callers' has no attribute {name!r}")
