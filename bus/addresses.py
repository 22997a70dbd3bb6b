"""Owns what a NATS URL looks like, so that a typing mistake is told before anything is connected to.

``controller.settings``, ``crank`` and ``workers.process`` ask it; ``bus.connection`` takes what passed.
"""

from __future__ import annotations

from urllib.parse import urlsplit

NATS_URL_RULE = "a NATS URL, such as nats://127.0.0.1:4222"
_SCHEMES = ("nats", "tls", "ws", "wss")


def is_nats_url(text: object) -> bool:
    """Whether ``text`` is a NATS URL, or several, separated by commas."""
    return isinstance(text, str) and all(_is_one(part.strip()) for part in text.split(","))


def _is_one(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in _SCHEMES and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False


def public(url: str) -> str:
    """``url`` without user name, password or token: it goes into messages and logs."""
    scheme, sep, rest = url.rpartition("://")
    return f"{scheme}{sep}{rest.rpartition('@')[2]}"
