"""The caller's side: ask, stream, cancel; what comes back; what can go wrong."""

from callers.client import Client
from callers.failures import CrankError, Unreachable
from callers.frames import Answer, Frame

__all__ = ["Answer", "Client", "CrankError", "Frame", "Unreachable"]
