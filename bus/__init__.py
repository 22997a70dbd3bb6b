"""The only room that touches NATS: a connection, streams, and the tail of a stream."""

from bus.connection import Bus, BusUnavailable, Handler, Message, NoResponder, NotAdmitted, Subscription, Unanswered
from bus.streams import Conflict, Entry, Stored, Streams, StreamSpec, Unstored
from bus.tail import Tail

__all__ = [
    "Bus",
    "BusUnavailable",
    "Conflict",
    "Entry",
    "Handler",
    "Message",
    "NoResponder",
    "NotAdmitted",
    "Stored",
    "StreamSpec",
    "Streams",
    "Subscription",
    "Tail",
    "Unanswered",
    "Unstored",
]
