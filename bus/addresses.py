"""Owns what a NATS URL looks like, so that a typing mistake is told before anything is connected to, and no secret is.

``callers``, ``controller.settings``, ``crank`` and ``workers.process`` ask it; ``bus.connection`` takes what passed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

NATS_URL_RULE = "a NATS URL, such as nats://127.0.0.1:4222"
_SCHEMES = ("nats", "tls", "ws", "wss")
# A comma or a slash may stand in a password.
_between = re.compile(r",(?=\s*\w+://)")
_secret = re.compile(r"^(\s*\w+://)?.*@", re.DOTALL)


def is_nats_url(text: object) -> bool:
    """Whether ``text`` is a NATS URL, or several, separated by commas."""
    return isinstance(text, str) and all(_is_one(part.strip()) for part in text.split(","))


def _is_one(text: str) -> bool:
    try:
        url = urlsplit(text)
        (url.hostname or "").encode("idna")
        return url.scheme in _SCHEMES and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:  # a port that is no number, a bracket that is not closed, a host that is no name
        return False


def public(url: str) -> str:
    """``url``, or several, without user names, passwords and tokens, for messages and logs; also of what is no URL."""
    return ",".join(_secret.sub(r"\1", part) for part in _between.split(url))
