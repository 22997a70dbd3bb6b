"""The only room that touches NATS: a connection, streams, and the tail of a stream."""

from bus.answers import Conflict, Entry, Stored, Unstored
from bus.connection import Bus, BusUnavailable, Handler, Message, NoResponder, NotAdmitted, Subscription, Unanswered
from bus.specs import StreamSpec
from bus.streams import Streams
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
