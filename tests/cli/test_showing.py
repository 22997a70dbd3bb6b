"""What people see: refusals with all that is known, decisions, and text from strangers on a terminal."""

from __future__ import annotations

from pathlib import Path

from callers import Answer
from callers.failures import CrankError
from crank.cli import decision, show
from crank.cli.endings import told
from crank.natsd import NatsServer
from subjects.errors import ErrorKind, Offence, Refusal, Refused, problem_of
from subjects.headers import Block, parse_block
from subjects.replies import ReplyMeta, build_reply, read_reply
from tests.cli.peer import Peer
from tests.cli.terminal import on_terminal

META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", worker="w-1", version="1.0.0", attempts=1)


def _told(refusal: Refusal) -> str:
    return told(CrankError(problem_of(refusal, "r-1")))


def test_a_refusal_tells_all_that_a_person_can_use() -> None:
    """Code and title, what to do, each offence, who was left out, what else there is, when to try again."""
    refusal = Refusal(
        ErrorKind.NO_WORKER,
        "Every worker is gone.",
        retry_after_ms=1500,
        maybe_executed=True,
        offences=(Offence("a.b", "is wrong"), Offence("", "is empty")),
        candidates=(Refused("w-1", "is shut"),),
        near=("x:y",),
        worker_code=418,
        worker_message="short and stout",
    )
    assert _told(refusal).splitlines() == [
        "503 no_worker: No worker is there",
        "  Every worker is gone.",
        "  - a.b: is wrong",
        "  - body: is empty",
        "  - w-1: is shut",
        "  The worker said 418: short and stout",
        "  There is: x:y. The work may have run. Try again in 1.5 s.",
    ]


def test_a_refusal_says_nothing_twice() -> None:
    """What stands in the detail is not repeated below it."""
    refusal = Refusal(
        ErrorKind.INVALID_INPUT,
        "name is missing; did you mean x:y?",
        offences=(Offence("name", "is missing"),),
        near=("x:y",),
    )
    assert len(_told(refusal).splitlines()) == 2


def test_what_a_stranger_says_cannot_move_the_cursor() -> None:
    """Control characters from a worker are replaced."""
    assert "\x1b" not in _told(Refusal(ErrorKind.WORKER_ERROR, "\x1b[2Jgone\r\n", worker_message="\x1b]0;x\x07"))


def test_a_decision_names_every_candidate_with_score_or_reason() -> None:
    """And who was chosen, or that nobody was."""
    record = {
        "caller": "anonymous",
        "verdict": {"allow": True, "reason": "open"},
        "candidates": [
            {"worker_id": "a", "version": "1.0.0", "score_ms": 12.34},
            {"worker_id": "bb", "version": "2.0.0", "left_out": "is full"},
        ],
        "chosen": "a",
        "version": "1.0.0",
        "outcome": "would_dispatch",
    }
    assert decision.lines(record)[2:5] == [
        "candidates  a   1.0.0  about 12.3 ms",
        "            bb  2.0.0  left out: is full",
        "chosen      a (version 1.0.0)",
    ]
    assert "chosen      nobody" in decision.lines(
        {"verdict": {"allow": False, "reason": "no"}, "outcome": "policy_denied"}
    )


def test_a_body_as_json_keeps_every_byte() -> None:
    """JSON is decoded, text is text, and the rest is base64."""
    for body, key, value in (
        (b'{"a":1}', "body", {"a": 1}),
        (b"plain", "body", "plain"),
        (b"\xff", "body_base64", "/w=="),
    ):
        assert show.as_object(Answer("end", 0, body, {}, ""), 1.0)[key] == value


def test_an_answer_that_an_operator_gave_is_no_worker_s() -> None:
    """It has no version and no attempts, and says who settled it."""
    meta = ReplyMeta("r-1", "c-1", META.traceparent, worker="ann", version="", replayed=True)
    block = parse_block(build_reply(meta, "application/json", ""))
    assert isinstance(block, Block)
    assert show.who_line(read_reply(block).meta, None) == "settled by ann · by c-1 · replayed"


async def test_on_a_terminal_an_answer_is_readable_and_says_who_gave_it(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """JSON on lines of its own, one dim line about the work, and no control character of the worker's."""
    answers = iter([b'{"greeting":"Hello"}', b"plain \x1b[2J text", b"\xff\xfe"])
    script = build_reply(META, "application/json", "")
    peer = await Peer.start(nats_server.url, lambda asked: iter([(script, next(answers))]))
    seen = [(await on_terminal(tmp_path, "request", "a:b", "--nats", nats_server.url))[1] for _ in range(3)]
    await peer.stop()
    assert '{\r\n  "greeting": "Hello"\r\n}' in seen[0]
    assert "w-1 · version 1.0.0 · 1 attempt · by c-1" in seen[0]
    assert "plain \ufffd[2J text" in seen[1]
    assert "2 bytes of application/json" in seen[2]
