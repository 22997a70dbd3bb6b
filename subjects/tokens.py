"""Owns what a token is: the only text that may ever become part of a subject.

Knows nothing of subjects or messages. Everything that builds or parses a subject asks here first.
"""

from __future__ import annotations

import re
from typing import NewType

WorkerId = NewType("WorkerId", str)
ControllerId = NewType("ControllerId", str)
RequestId = NewType("RequestId", str)
DispatchId = NewType("DispatchId", str)
CapabilityId = NewType("CapabilityId", str)
"""``verb:name``, both tokens."""

TOKEN_PATTERN = r"[A-Za-z0-9_-]{1,64}"
_is_token = re.compile(TOKEN_PATTERN).fullmatch
_is_claim_key = re.compile("[a-z2-7]{52}").fullmatch
_is_capability = re.compile(f"{TOKEN_PATTERN}:{TOKEN_PATTERN}").fullmatch

TOKEN_RULE = "1 to 64 of the characters A-Z a-z 0-9 _ -"


def is_token(text: str) -> bool:
    """Whether ``text`` may stand in a subject: 1 to 64 of ``A-Z a-z 0-9 _ -``."""
    return _is_token(text) is not None


def is_claim_key(text: str) -> bool:
    """Whether ``text`` looks like the name of a claim: 52 characters of lower-case base32."""
    return _is_claim_key(text) is not None


def is_capability(text: str) -> bool:
    """Whether ``text`` is ``verb:name`` with two tokens."""
    return _is_capability(text) is not None


def capability_id(verb: str, name: str) -> CapabilityId:
    """``verb:name`` of two texts that are already known to be tokens."""
    return CapabilityId(f"{verb}:{name}")


def split_capability(capability: CapabilityId) -> tuple[str, str]:
    """``(verb, name)`` of a capability that is already known to be well formed."""
    verb, _, name = capability.partition(":")
    return verb, name
