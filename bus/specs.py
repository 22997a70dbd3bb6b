"""Owns what a stream of this installation is made of, and in what one that is there differs from it.

Key-value buckets and object stores are streams with certain names and subjects (NATS ADR-8 and ADR-20). It asks no
server; ``bus.streams`` makes streams from it, and ``bus.inspection`` compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from nats.js import api

# What a stream that nobody has changed has, in the fields that could lose what is stored.
_UNTOUCHED: dict[str, Any] = {
    "retention": "limits", "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1, "no_ack": False,
    "sealed": False, "allow_msg_ttl": False, "allow_rollup_hdrs": False, "deny_delete": False,
}  # fmt: skip
_FIELDS = (*_UNTOUCHED, "subjects", "storage", "max_msgs_per_subject", "discard")
# What hurts nobody where it was not asked for.
_EXTRAS = frozenset({"allow_rollup_hdrs", "deny_delete"})


class StreamSpec(NamedTuple):
    """A stream this installation needs: on file, messages with a time to live of their own allowed.

    ``max_per_subject`` and ``max_bytes`` -1 is no limit, ``max_age_s`` 0 is for ever. With ``discard_new`` a full
    stream refuses instead of dropping its oldest. ``duplicates_s`` is how long a message id is remembered.
    """

    name: str
    subjects: str
    replicas: int = 1
    max_per_subject: int = 1
    max_bytes: int = -1
    max_age_s: int = 0
    discard_new: bool = False
    work_queue: bool = False
    duplicates_s: int = 0
    rollup: bool = False
    deny_delete: bool = False


def bucket(name: str, replicas: int, max_bytes: int, *, max_age_s: int = 0) -> StreamSpec:
    """The stream of a key-value bucket: the last value of each key, and nothing dropped to make room."""
    return StreamSpec(
        f"KV_{name}",
        f"$KV.{name}.>",
        replicas,
        max_bytes=max_bytes,
        max_age_s=max_age_s,
        discard_new=True,
        rollup=True,
        deny_delete=True,
    )


def object_store(name: str, replicas: int, max_bytes: int) -> StreamSpec:
    """The stream of an object store: pieces and descriptions."""
    return StreamSpec(
        f"OBJ_{name}",
        f"$O.{name}.>",
        replicas,
        max_per_subject=-1,
        max_bytes=max_bytes,
        discard_new=True,
        rollup=True,
    )


def config_of(spec: StreamSpec) -> api.StreamConfig:
    """The stream as ``bus.Streams.ensure`` creates it."""
    return api.StreamConfig(
        name=spec.name,
        subjects=[spec.subjects],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.WORK_QUEUE if spec.work_queue else None,
        max_msgs_per_subject=spec.max_per_subject,
        max_bytes=spec.max_bytes if spec.max_bytes > 0 else None,
        max_age=spec.max_age_s or None,
        discard=api.DiscardPolicy.NEW if spec.discard_new else api.DiscardPolicy.OLD,
        duplicate_window=spec.duplicates_s,
        num_replicas=spec.replicas,
        allow_msg_ttl=True,
        allow_rollup_hdrs=spec.rollup,
        deny_delete=spec.deny_delete,
    )


def differences(config: Mapping[str, Any], spec: StreamSpec) -> list[str]:
    """What is not as ``ensure`` makes it, in a stream's configuration as the server tells it.

    Left out are the number of replicas, and a size where ``spec`` sets one: these are an operator's to change.
    """
    wanted = {**_UNTOUCHED, **config_of(spec).as_dict()}
    told = []
    for field in _FIELDS:
        is_, should = config.get(field, _UNTOUCHED.get(field)), wanted[field]
        operators = (field == "max_bytes" and spec.max_bytes > 0) or (field in _EXTRAS and not should)
        if is_ != should and not operators:
            told.append(f"{field} is {_text(is_)}, not {_text(should)}")
    return told


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
