"""Owns how much of a NATS message is left for a payload: a request goes on to a worker with headers added, in one.

``controller.app`` starts on no server where that is too little; ``crank doctor`` tells beforehand.
"""

from __future__ import annotations

from bus import Bus
from subjects.headers import MAX_BLOCK_BYTES

# Below this much for a payload a controller is of no use: together with the headers, 64 KB in one message.
_LEAST_ROOM_BYTES = 31 * 1024


def payload_room(bus: Bus) -> int:
    """Bytes for the payload of a request; below 0 where not even the headers fit."""
    return bus.max_body_bytes - 2 * MAX_BLOCK_BYTES


def too_small(bus: Bus) -> tuple[str, str] | None:
    """What is wrong with the server's limit and what to do about it, or None when it will do."""
    room = payload_room(bus)
    if room >= _LEAST_ROOM_BYTES:
        return None
    least = bus.max_payload_bytes - room + _LEAST_ROOM_BYTES
    return (
        f"the NATS server at {bus.url} takes messages of {bus.max_payload_bytes} bytes, too few for a payload beside "
        "the headers",
        f"set max_payload in its configuration to {least} or more, better to 2MB",
    )
