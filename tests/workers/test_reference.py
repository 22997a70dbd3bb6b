"""The reference workers on real input, called as functions and over NATS."""

from __future__ import annotations

import asyncio
import hashlib
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker_peer import Peer, Serve

from crank import PermanentError, Worker
from subjects.answers import Fault, Frame, Result
from subjects.errors import Refusal
from subjects.manifests import parse_manifest
from subjects.messages import encode
from workers.catalogue import REFERENCE, find, load
from workers.errors import UnknownWorker
from workers.reference.email_parser import email_message

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 20


def _mail() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ada Lovelace <ada@example.org>"
    mail["To"] = "Grace <grace@example.org>, bob@example.org"
    mail["Cc"] = "Jürgen <juergen@example.org>"
    mail["Subject"] = "Grüße: the plan ✓"
    mail["Date"] = "Fri, 02 Jan 2026 03:04:05 +0100"
    mail["Message-ID"] = "<m-1@example.org>"
    mail["X-Tag"] = "one"
    mail["X-Tag"] = "two"
    mail.set_content("Hello,\nhere is the plan — Ada\n")
    mail.add_alternative("<p>Hello, <b>here</b> is the plan</p>", subtype="html")
    mail.add_attachment(PDF, maintype="application", subtype="pdf", filename="plän.pdf")
    mail.add_attachment("a,b\n1,2\n", subtype="csv", filename="table.csv")
    return mail


def test_every_reference_worker_is_found_by_name_and_declares_a_manifest() -> None:
    """Each is one that a controller accepts."""
    for name in REFERENCE:
        worker = find(name.replace("_", "-"))
        assert worker is find(name)
        assert worker.name == name
        manifest = parse_manifest(encode(worker.manifest()), worker.default_id)
        assert not isinstance(manifest, Refusal), manifest
        assert all(c.runtime and c.env_profile and c.constraints and c.slo for c in manifest.capabilities)


def test_the_first_reference_worker_declares_everything() -> None:
    """All five groups of metadata: what it runs on, promises, is, costs and prefers."""
    manifest = find("hello_world").manifest()
    [capability] = manifest.capabilities
    slo = capability.slo
    assert manifest.spiffe_id == "spiffe://crank.local/worker/hello-world"
    assert slo is not None
    assert (slo.latency_p50_ms, slo.latency_p95_ms, slo.latency_p99_ms, slo.availability_pct) == (50, 100, 200, 99.5)
    assert (capability.cost_tokens_per_invocation, capability.slo_bid) == (0.1, 1.0)
    assert (capability.controller_affinity, capability.idempotent) == (("controller-a",), True)


def test_a_worker_that_is_not_there_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what was looked for, and what there is instead."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_ok.py").write_text("from crank import Worker\nshout = Worker('shout')\n")
    (tmp_path / "mine_broken.py").write_text("1 / 0\n")
    (tmp_path / "mine_needy.py").write_text("import no_such_library\n")
    assert isinstance(find("mine_ok:shout"), Worker)
    for place, says in (
        ("hello_wrld", "did you mean hello_world"),
        ("mine_ok:worker", "workers there: shout"),
        ("mine_ok", "there is no reference worker"),
        ("mine_gone:worker", "no module 'mine_gone'"),
        ("mine_gone.deeper:worker", "no module 'mine_gone.deeper'"),
        ("mine_broken:worker", "ZeroDivisionError"),
        ("mine_needy:worker", "needs 'no_such_library'"),
        ("mine-ok:worker", "not module:attribute"),
        ("os:path", "there is none"),
    ):
        with pytest.raises(UnknownWorker) as caught:
            find(place)
        assert says in str(caught.value), place
    with pytest.raises(UnknownWorker):
        load("../etc/passwd")


async def test_hello_world(peer: Peer, serve: Serve) -> None:
    """A name is greeted; an empty one is refused with its path."""
    await serve(find("hello_world"))
    assert await peer.ask("greet:hello_world", {"name": "Ada"}) == Result(b'{"greeting":"Hello, Ada!"}')
    for name in ("", "  ", None, "x" * 201):
        fault = await peer.ask("greet:hello_world", {"name": name})
        assert isinstance(fault, Fault)
        assert (fault.code, "$.name" in fault.message) == (422, True)


async def test_streaming(peer: Peer, serve: Serve) -> None:
    """The words joined are the text; events follow the format of server-sent events."""
    await serve(find("streaming"))
    text = "  The quick\n\nbrown  fox "
    began = asyncio.get_running_loop().time()
    frames = await peer.stream("stream:text_events", {"text": text, "delay_ms": 10})
    assert asyncio.get_running_loop().time() - began >= 0.03
    assert b"".join(frame.body for frame in frames).decode() == text
    assert [frame.seq for frame in frames] == [0, 1, 2, 3, 4]
    frames = await peer.stream("stream:sse_events", {"text": text})
    assert {frame.content_type for frame in frames[:-1]} == {"text/event-stream"}
    assert b"".join(frame.body for frame in frames).decode() == (
        "id: 0\ndata: The\n\nid: 1\ndata: quick\n\nid: 2\ndata: brown\n\nid: 3\ndata: fox\n\nevent: done\ndata: 4\n\n"
    )
    assert await peer.stream("stream:text_events", {"text": ""}) == [Frame("end", 0)]


async def test_a_real_mail_is_parsed(peer: Peer, serve: Serve) -> None:
    """Subject, people, date, both bodies and every attachment with its size and hash."""
    await serve(find("email_parser"))
    answer = await peer.ask("parse:email_message", _mail().as_bytes())
    assert isinstance(answer, Result)
    mail: dict[str, Any] = msgspec.json.decode(answer.body)
    assert mail["subject"] == "Grüße: the plan ✓"
    assert mail["from"] == [{"name": "Ada Lovelace", "address": "ada@example.org"}]
    assert [one["address"] for one in mail["to"]] == ["grace@example.org", "bob@example.org"]
    assert mail["cc"] == [{"name": "Jürgen", "address": "juergen@example.org"}]
    assert (mail["date"], mail["message_id"]) == ("2026-01-02T02:04:05Z", "<m-1@example.org>")
    assert mail["text"].strip() == "Hello,\nhere is the plan — Ada"
    assert "<b>here</b>" in mail["html"]
    assert mail["attachments"] == [
        {
            "filename": "plän.pdf",
            "content_type": "application/pdf",
            "size_bytes": len(PDF),
            "sha256": hashlib.sha256(PDF).hexdigest(),
        },
        {
            "filename": "table.csv",
            "content_type": "text/csv",
            "size_bytes": 8,
            "sha256": hashlib.sha256(b"a,b\n1,2\n").hexdigest(),
        },
    ]
    assert mail["headers"]["X-Tag"] == ["one", "two"]
    assert mail["headers"]["To"] == ["Grace <grace@example.org>", "<bob@example.org>"]
    assert mail["truncated"] is False


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x00\xff\xfe" * 100, b"hello, this is no mail", b"X-Only: mine\r\n\r\nbody", b"\x89PNG\r\n\x1a\n" + PDF],
)
def test_what_is_no_mail_is_refused(raw: bytes) -> None:
    """Nonsense is the sender's mistake: 422, and no traceback."""
    with pytest.raises(PermanentError) as caught:
        email_message(raw)
    assert caught.value.code == 422


def _nested(depth: int) -> bytes:
    lines = [b"Subject: deep"]
    for level in range(depth):
        lines += [b"Content-Type: multipart/mixed; boundary=b%d" % level, b"", b"--b%d" % level]
    return b"\r\n".join(lines)


HOSTILE = {
    "nested": _nested(3000),
    "nested and long": _nested(50) + b"\r\n\r\n" + b"x\r\n" * 200_000,
    "headers": b"Subject: x\r\n" + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(15_000)),
    "one long header": b"Subject: " + b"=?utf-8?q?a?= " * 4_900,
    "a longer header": b"Subject: " + b"=?utf-8?q?a?= " * 50_000,
    "a long header of a part": b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b'Content-Disposition: attachment; filename="' + b"=?utf-8?q?a?= " * 4_900,
    "too many bytes": b"Subject: x\r\n\r\n" + b"x" * 2 * 1024 * 1024,
    "recipients": b"Subject: x\r\nTo: " + b"a <a@example.org>, " * 13_000,
    "parts": b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 10_000,
    "attachments": b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\nContent-Disposition: attachment; filename=a\r\n\r\nx\r\n" * 2_000,
    "bad base64": b"Subject: x\r\nContent-Type: application/x; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n!a*b",
    "bad bytes": b"Subject: \xff\xfe\r\nFrom: \xff <a@example.org>\r\n\r\n\xff\x00\xfe",
    "bad charset": b"Subject: =?nonsense?q?x?=\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n\xe4",
    "bad date": b"Subject: x\r\nDate: the day before yesterday\r\n\r\nbody",
    "odd names": b"Subject: x\r\nheaders: 1\r\nattachments_json: 2\r\nparse: 3\r\n\r\nbody",
    "long": b"Subject: x\r\n\r\n" + b"\x01" * 1_500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mail_is_bounded(name: str) -> None:
    """It is parsed or refused within seconds of computing, into an answer that can be sent."""
    began = time.thread_time()
    try:
        answer = msgspec.json.encode(email_message(HOSTILE[name]))
    except PermanentError:
        answer = b""
    assert len(answer) < 1_000_000
    assert time.thread_time() - began < 3


def test_parsing_the_same_mail_twice_gives_the_same_answer() -> None:
    """An attachment without a name has none: a name that the parser made up would differ each time."""
    raw = b"Subject: x\r\nContent-Type: application/rtf\r\nContent-Disposition: attachment\r\n\r\nx"
    assert email_message(raw) == email_message(raw)
    assert email_message(raw).attachments[0].filename is None
