"""Workers come, are replaced and leave: what is written to the registry stream, and who is told what."""

from __future__ import annotations

import msgspec
import pytest
from harness import (
    BUSY,
    HELLO,
    House,
    controls,
    json_replies,
    manifest_of,
    of_kind,
    refusals,
    registration,
    spec,
    stored,
    told,
)

from controller.core import membership as membership_module
from controller.core.commands import ReadSubject, ReplyJson, StoreDeparture, StoreManifest
from controller.core.events import (
    EntrySeen,
    HeartbeatSeen,
    RegistryRestarted,
    Stalled,
    StoredDeparture,
    SubjectRead,
    WriteAnswered,
)
from controller.core.fleet import State
from controller.core.router import CATCH_UP_S
from controller.core.world import Limits
from subjects.answers import Fault
from subjects.errors import ErrorKind
from subjects.messages import Departure, Heartbeat
from subjects.tokens import CapabilityId, WorkerId

W1 = WorkerId("w-1")
OURS = manifest_of("w-1", instance="a")
THEIRS = manifest_of("w-1", spec(version="2.0.0"), instance="b")


def silent() -> House:
    """A house whose stream answers only what a test makes it answer."""
    return House(answers_store=False)


def departed(seq: int, *capabilities: str) -> StoredDeparture:
    """An entry that says that w-1 left."""
    return StoredDeparture(W1, seq, Departure("w-1", capabilities or (HELLO,)))


# Coming ---------------------------------------------------------------------------


def test_a_registration_is_answered_when_the_stream_has_it() -> None:
    """Stored as it came, under the sequence that was known, and in force only then."""
    house = silent()
    asked = registration(OURS, "_INBOX.w1")
    (write,) = house.feed(asked)
    assert write == StoreManifest(W1, asked.body, 0)
    assert not house.knows("w-1")
    commands = house.feed(WriteAnswered(W1, 7))
    assert house.worker("w-1").seq == 7
    assert house.worker("w-1").state is State.ALIVE
    assert told(commands) == [("joined", "w-1")]
    (answer,) = of_kind(commands, ReplyJson)
    assert answer.reply == "_INBOX.w1"
    assert msgspec.json.decode(answer.body) == {
        "status": "registered",
        "worker_id": "w-1",
        "controller": "c-1",
        "heartbeat_interval_s": 2.0,
    }


def test_an_identical_manifest_is_not_written_again() -> None:
    """It is answered at once."""
    house = House()
    house.feed(registration(OURS))
    commands = house.feed(registration(OURS))
    assert of_kind(commands, StoreManifest) == []
    assert json_replies(commands)[0]["status"] == "registered"
    assert told(commands) == [], "it was there already"


def test_another_manifest_replaces_the_first_under_its_sequence() -> None:
    """What is not offered any more gets nothing more."""
    house = House()
    house.register("w-1", spec(), spec("greet:bye"))
    (write,) = of_kind(house.register("w-1", spec(version="1.1.0")), StoreManifest)
    assert write.expected_seq == 1
    assert [offer.spec.version for offer in house.worker("w-1").offers] == ["1.1.0"]
    assert house.request("greet:bye").kind is ErrorKind.NO_WORKER
    assert house.request(version="~1.0").kind is ErrorKind.NO_MATCH


def test_a_lost_race_is_read_and_tried_again() -> None:
    """Another controller wrote first: what it wrote is known then, and the next write stands on it."""
    house = silent()
    house.feed(registration(OURS))
    assert house.feed(WriteAnswered(W1, None, conflict=True)) == [ReadSubject(W1)]
    (write,) = house.feed(SubjectRead(W1, departed(4)))
    assert (type(write), write.expected_seq) == (StoreManifest, 4)  # type: ignore[union-attr]
    assert json_replies(house.feed(WriteAnswered(W1, 5)))[0]["status"] == "registered"


def test_a_race_that_is_lost_to_the_same_manifest_is_won() -> None:
    """The worker asked two controllers."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, None, conflict=True))
    commands = house.feed(SubjectRead(W1, stored(OURS, 4)))
    assert of_kind(commands, StoreManifest) == []
    assert json_replies(commands)[0]["status"] == "registered"
    assert house.worker("w-1").seq == 4


def test_a_race_that_is_lost_to_another_process_is_lost() -> None:
    """409 ``worker_id_taken``; the winner is in force."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, None, conflict=True))
    commands = house.feed(SubjectRead(W1, stored(THEIRS, 4)))
    assert refusals(commands) == [ErrorKind.WORKER_ID_TAKEN]
    assert house.worker("w-1").instance == "b"


def test_a_race_that_is_lost_again_and_again_is_given_up() -> None:
    """503 after three tries."""
    house = silent()
    house.feed(registration(OURS))
    tries = 0
    while not refusals(house.log):
        house.feed(WriteAnswered(W1, None, conflict=True))
        house.feed(SubjectRead(W1, departed(4 + tries)))
        tries += 1
    assert tries == 3
    assert refusals(house.log) == [ErrorKind.STORE_UNAVAILABLE]


def test_a_subject_that_turns_out_to_be_empty_is_written_from_the_beginning() -> None:
    """A departure is forgotten after an hour, and its sequence with it."""
    house = silent()
    house.feed(EntrySeen(departed(9)))
    (write,) = house.feed(registration(OURS))
    assert write.expected_seq == 9  # type: ignore[union-attr]
    house.feed(WriteAnswered(W1, None, conflict=True))
    (write,) = house.feed(SubjectRead(W1, None))
    assert write.expected_seq == 0  # type: ignore[union-attr]


def test_a_stream_that_does_not_answer_refuses_the_registration() -> None:
    """503, with the reason, whether the write or the read failed; nothing is in force."""
    house = silent()
    house.feed(registration(OURS))
    commands = house.feed(WriteAnswered(W1, None, reason="no answer from JetStream"))
    assert refusals(commands) == [ErrorKind.STORE_UNAVAILABLE]
    assert "no answer from JetStream" in commands[0].refusal.detail  # type: ignore[union-attr]
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, None, conflict=True))
    assert refusals(house.feed(SubjectRead(W1, None, failed=True))) == [ErrorKind.STORE_UNAVAILABLE]
    assert not house.knows("w-1")


def test_a_second_process_with_the_id_of_a_live_one_is_refused() -> None:
    """409, and it may come again when the first one is gone or leaves."""
    house = House()
    house.feed(registration(OURS))
    commands = house.feed(registration(THEIRS))
    assert refusals(commands) == [ErrorKind.WORKER_ID_TAKEN]
    assert house.worker("w-1").instance == "a"
    house.advance(7)
    assert house.worker("w-1").state is State.GONE
    assert json_replies(house.feed(registration(THEIRS)))[0]["status"] == "registered"


def test_a_process_that_is_known_from_the_stream_alone_has_one_interval_to_be_heard() -> None:
    """After a restart of the controller nobody's place is taken too soon, and nobody's kept for long."""
    house = House()
    house.stream.seq = 3
    house.stream[W1] = stored(OURS, 3)
    house.feed(EntrySeen(house.stream[W1]))
    assert refusals(house.feed(registration(THEIRS))) == [ErrorKind.WORKER_ID_TAKEN]
    house.advance(2.01)
    assert json_replies(house.feed(registration(THEIRS)))[0]["status"] == "registered"


def test_an_absent_instance_means_the_same_process() -> None:
    """It takes nobody's place, loses nobody's work, and the instance that was named stays."""
    house = House()
    house.feed(registration(OURS))
    call = house.request()
    house.register("w-1", spec(max_concurrency=2))
    assert not call.replies
    assert house.worker("w-1").instance == "a"
    assert refusals(house.feed(registration(THEIRS))) == [ErrorKind.WORKER_ID_TAKEN]
    house.answers(call)
    assert call.answer


def test_a_process_that_restarted_has_lost_what_it_had() -> None:
    """503 ``worker_lost``, and the new one gets only what it offers itself."""
    house = House()
    house.register("w-1", instance="a")
    running, waiting = house.request(timeout_ms=60_000), house.request(timeout_ms=60_000)
    house.beat("w-1", draining=True, capacity=1)
    house.register("w-1", spec("greet:bye"), instance="b")
    assert running.kind is ErrorKind.WORKER_LOST
    assert "restarted" in running.refusal.detail
    assert not waiting.dispatches
    assert house.worker("w-1").capacity is None, "what the old one said of itself"
    house.register("w-1", spec(), instance="b")
    assert waiting.dispatches


def test_two_registrations_of_one_id_at_a_time() -> None:
    """The second one is told to come again, and the first one is answered all the same."""
    house = silent()
    house.feed(registration(OURS, "_INBOX.first"))
    commands = house.feed(registration(THEIRS, "_INBOX.second"))
    assert refusals(commands) == [ErrorKind.STORE_UNAVAILABLE]
    assert of_kind(commands, StoreManifest) == []
    (answer,) = of_kind(house.feed(WriteAnswered(W1, 1)), ReplyJson)
    assert answer.reply == "_INBOX.first"


def test_the_same_registration_asked_again_is_written_once() -> None:
    """A worker that grew impatient is answered wherever it may listen."""
    house = silent()
    house.feed(registration(OURS, "_INBOX.first"))
    assert house.feed(registration(OURS, "_INBOX.again")) == []
    answers = of_kind(house.feed(WriteAnswered(W1, 1)), ReplyJson)
    assert [answer.reply for answer in answers] == ["_INBOX.first", "_INBOX.again"]


def test_what_lay_unread_until_its_worker_gave_up_is_no_registration() -> None:
    """The worker asked elsewhere meanwhile, and may have left again: what it wants is asked anew."""
    house = House()
    house.feed(EntrySeen(stored(OURS, 1)))
    house.feed(EntrySeen(departed(2)))
    house.stream.seq = 2
    house.stream[W1] = departed(2)
    house.feed(Stalled(2500.0))
    assert refusals(house.feed(registration(OURS))) == [ErrorKind.STORE_UNAVAILABLE]
    assert house.stream[W1] == departed(2)
    house.advance(CATCH_UP_S)
    assert json_replies(house.feed(registration(OURS)))[0]["status"] == "registered"


@pytest.mark.parametrize("known", [True, False])
def test_a_worker_that_drains_while_it_is_registered_drains(known: bool) -> None:
    """It registered before it said so; its next heartbeat decides, and not an answer of the stream."""
    house = silent()
    if known:
        house.feed(EntrySeen(stored(OURS, 1)))
    house.feed(registration(manifest_of("w-1", spec(max_concurrency=2), instance="a")))
    house.beat("w-1", seq=2, instance="a", draining=True)
    house.feed(WriteAnswered(W1, 2))
    assert house.worker("w-1").state is State.DRAINING
    assert house.request().kind is ErrorKind.NO_WORKER
    house.beat("w-1", seq=3, instance="a")
    assert house.request().dispatches


def test_a_worker_that_registers_while_its_predecessor_drains_does_not() -> None:
    """What one process says is nothing against the next."""
    house = silent()
    house.feed(EntrySeen(stored(OURS, 1)))
    house.beat("w-1", instance="a", draining=True)
    house.feed(registration(THEIRS))
    house.beat("w-1", seq=2, instance="a", draining=True)
    house.feed(WriteAnswered(W1, 2))
    assert house.worker("w-1").state is State.ALIVE


def test_a_gone_worker_that_leaves_is_not_brought_back_by_what_it_sent_before() -> None:
    """Its departure is not stored yet, and it gets nothing more."""
    house = silent()
    house.feed(EntrySeen(stored(OURS, 1)))
    house.advance(8.0)
    house.deregister("w-1", "a")
    house.beat("w-1", instance="a")
    assert house.worker("w-1").state is State.DRAINING


def test_a_short_stall_turns_no_registration_away() -> None:
    """Its worker still waits for the answer."""
    house = House()
    house.feed(Stalled(1500.0))
    assert json_replies(house.feed(registration(OURS)))[0]["status"] == "registered"


def test_an_installation_takes_only_so_many_workers() -> None:
    """503; those that are there may register again."""
    house = House(limits=Limits(max_workers=1))
    house.register("w-1")
    assert refusals(house.register("w-2")) == [ErrorKind.OVERLOADED]
    assert json_replies(house.register("w-1", spec(version="2.0.0")))[0]["status"] == "registered"


def test_a_write_that_nobody_asked_for_changes_nothing() -> None:
    """An answer of the stream that comes twice, or too late."""
    house = silent()
    assert house.feed(WriteAnswered(W1, 3)) == []
    assert house.feed(SubjectRead(W1, None)) == []
    assert not house.knows("w-1")


# Leaving --------------------------------------------------------------------------


def test_a_worker_that_leaves_gets_nothing_from_the_moment_it_says_so() -> None:
    """Before the stream has it; its answers still count."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, 1))
    call = house.request()
    (write,) = of_kind(house.deregister("w-1"), StoreDeparture)
    assert (write.expected_seq, write.departure.capabilities, write.departure.reason) == (1, (HELLO,), "shutdown")
    assert house.request().kind is ErrorKind.NO_WORKER
    house.beat("w-1")
    assert house.request().kind is ErrorKind.NO_WORKER, "a heartbeat from before does not bring it back"
    commands = house.feed(WriteAnswered(W1, 2))
    assert json_replies(commands) == [{"status": "deregistered", "worker_id": "w-1"}]
    assert told(commands) == [("left", "w-1")]
    assert not house.knows("w-1")
    late = house.answers(call)
    assert call.answer.body == b'"done"'
    assert told(late) == [], "an answer of one that left does not make it join"
    assert house.router.in_flight == 0


def test_its_capability_stays_known() -> None:
    """Offered, and nobody is there: 503 and not 404."""
    house = House()
    house.register("w-1")
    house.deregister("w-1")
    assert house.request().kind is ErrorKind.NO_WORKER
    house.feed(EntrySeen(StoredDeparture(WorkerId("w-9"), 50, Departure("w-9", ("greet:bye",)))))
    assert house.request("greet:bye").kind is ErrorKind.NO_WORKER


def test_one_that_nobody_knows_may_leave() -> None:
    """It is not there afterwards, which is what it asked for."""
    house = House()
    assert json_replies(house.deregister("w-1")) == [{"status": "deregistered", "worker_id": "w-1"}]


def test_nobody_deregisters_another_process() -> None:
    """409; the one that is registered goes on."""
    house = House()
    house.feed(registration(OURS))
    assert refusals(house.deregister("w-1", instance="b")) == [ErrorKind.WORKER_ID_TAKEN]
    assert house.request().dispatches
    assert json_replies(house.deregister("w-1", instance="a"))[0]["status"] == "deregistered"


def test_a_departure_that_loses_a_race_is_tried_again() -> None:
    """On what is there now."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, 1))
    house.deregister("w-1")
    assert house.feed(WriteAnswered(W1, None, conflict=True)) == [ReadSubject(W1)]
    (write,) = of_kind(house.feed(SubjectRead(W1, stored(OURS, 5))), StoreDeparture)
    assert write.expected_seq == 5
    house.feed(WriteAnswered(W1, 6))
    assert not house.knows("w-1")


def test_a_departure_that_cannot_be_stored_is_refused_and_the_worker_still_gets_nothing() -> None:
    """503; it drains."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, 1))
    house.deregister("w-1")
    commands = house.feed(WriteAnswered(W1, None, reason="no answer"))
    assert refusals(commands) == [ErrorKind.STORE_UNAVAILABLE]
    assert house.worker("w-1").state is State.DRAINING


def test_leaving_twice_is_written_once() -> None:
    """The one who asked last is answered."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, 1))
    house.deregister("w-1", reply="_INBOX.first")
    assert of_kind(house.deregister("w-1", reply="_INBOX.again"), StoreDeparture) == []
    (answer,) = of_kind(house.feed(WriteAnswered(W1, 2)), ReplyJson)
    assert answer.reply == "_INBOX.again"


def test_coming_and_leaving_do_not_cross() -> None:
    """An answer of the stream does not say which write it is for: the second one is told to come again."""
    house = silent()
    house.feed(registration(OURS))
    assert refusals(house.deregister("w-1")) == [ErrorKind.STORE_UNAVAILABLE]
    house.feed(WriteAnswered(W1, 1))
    house.deregister("w-1")
    assert refusals(house.feed(registration(THEIRS))) == [ErrorKind.STORE_UNAVAILABLE]
    commands = house.feed(WriteAnswered(W1, 2))
    assert json_replies(commands) == [{"status": "deregistered", "worker_id": "w-1"}]
    (write,) = house.feed(registration(THEIRS))
    assert write.expected_seq == 2  # type: ignore[union-attr]


# The stream -----------------------------------------------------------------------


def test_what_the_stream_brings_is_in_force() -> None:
    """A worker that registered with another controller gets work here, before it was heard."""
    house = House()
    assert told(house.feed(EntrySeen(stored(OURS, 3)))) == [("joined", "w-1")]
    assert house.worker("w-1").state is State.SUSPECT
    assert house.request().dispatches
    assert told(house.feed(EntrySeen(departed(4)))) == [("left", "w-1")]
    assert not house.knows("w-1")


def test_entries_that_are_older_than_what_is_known_are_no_news() -> None:
    """Whether they are manifests or departures."""
    house = House()
    house.feed(EntrySeen(stored(THEIRS, 5)))
    for old in (stored(OURS, 4), stored(OURS, 5), departed(3)):
        assert house.feed(EntrySeen(old)) == []
    assert house.worker("w-1").instance == "b"
    house.feed(EntrySeen(departed(6)))
    house.feed(EntrySeen(stored(OURS, 5)))
    assert not house.knows("w-1")


def test_a_write_s_answer_that_is_overtaken_by_the_tail_is_old_news() -> None:
    """What another controller wrote afterwards stays in force, and the worker is answered."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(EntrySeen(stored(OURS, 1)))
    house.feed(EntrySeen(stored(THEIRS, 2)))
    assert json_replies(house.feed(WriteAnswered(W1, 1)))[0]["status"] == "registered"
    assert (house.worker("w-1").instance, house.worker("w-1").seq) == ("b", 2)


def test_a_departure_s_answer_that_is_overtaken_by_the_tail_is_old_news() -> None:
    """Whoever registered with another controller afterwards stays."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, 1))
    house.deregister("w-1")
    house.feed(EntrySeen(departed(2)))
    house.feed(EntrySeen(stored(THEIRS, 3)))
    assert json_replies(house.feed(WriteAnswered(W1, 2))) == [{"status": "deregistered", "worker_id": "w-1"}]
    assert house.worker("w-1").instance == "b"


def test_a_read_that_is_overtaken_by_the_tail_erases_nothing() -> None:
    """The subject was empty when it was read, and is not any more."""
    house = silent()
    house.feed(EntrySeen(departed(3)))
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, None, conflict=True))
    house.feed(EntrySeen(departed(8)))
    (write,) = house.feed(SubjectRead(W1, None))
    assert write.expected_seq == 8  # type: ignore[union-attr]


def test_the_tail_brings_one_s_own_write_back_without_effect() -> None:
    """Before its answer or after it."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(EntrySeen(stored(OURS, 1)))
    commands = house.feed(WriteAnswered(W1, 1))
    assert told(commands) == []
    assert house.worker("w-1").state is State.ALIVE
    assert house.feed(EntrySeen(stored(OURS, 1))) == []


def test_a_manifest_that_is_stored_again_moves_its_sequence() -> None:
    """And changes nothing else."""
    house = House()
    house.feed(EntrySeen(stored(OURS, 3)))
    assert house.feed(EntrySeen(stored(OURS, 8))) == []
    assert house.worker("w-1").seq == 8


def test_one_that_was_gone_and_registered_elsewhere_gets_work_at_once() -> None:
    """It is as new as one that nobody knew."""
    house = House()
    house.register("w-1", instance="a")
    house.advance(7)
    assert house.worker("w-1").state is State.GONE
    assert told(house.feed(EntrySeen(stored(THEIRS, 9)))) == [("joined", "w-1")]
    assert house.worker("w-1").state is State.SUSPECT
    assert house.request().dispatches
    house.advance(6.4)
    assert house.worker("w-1").state is State.SUSPECT
    house.advance(0.2)
    assert house.worker("w-1").state is State.GONE


def test_one_that_drained_and_registered_elsewhere_as_another_process_gets_work() -> None:
    """What the old process said of itself does not hold for the new one."""
    house = House()
    house.register("w-1", instance="a")
    house.beat("w-1", instance="a", draining=True)
    house.feed(EntrySeen(stored(manifest_of("w-1", spec(max_concurrency=2), instance="a"), 8)))
    assert house.request().kind is ErrorKind.NO_WORKER
    house.feed(EntrySeen(stored(THEIRS, 9)))
    assert house.request().dispatches


def test_workers_serve_on_when_the_stream_was_replaced_and_are_asked_to_register_again() -> None:
    """As they are heard; the next registration stands on an empty subject."""
    house = House()
    house.register("w-1")
    house.stream.replace()
    house.feed(RegistryRestarted())
    assert house.request().dispatches
    assert controls(house.beat("w-1")) == [("w-1", "reregister")]
    assert controls(house.beat("w-1")) == [("w-1", "reregister")]
    (write,) = of_kind(house.register("w-1"), StoreManifest)
    assert write.expected_seq == 0
    assert controls(house.beat("w-1")) == []
    assert house.worker("w-1").seq == 1


def test_a_stream_that_went_back_brings_its_entries_again() -> None:
    """What is stored there needs no new registration."""
    house = House()
    house.register("w-1")
    house.feed(RegistryRestarted())
    assert house.feed(EntrySeen(house.stream[W1])) == []
    assert controls(house.beat("w-1")) == []


def test_while_it_registers_again_it_is_not_asked_to() -> None:
    """Its write is under way."""
    house = silent()
    house.feed(registration(OURS))
    house.feed(WriteAnswered(W1, 1))
    house.feed(RegistryRestarted())
    house.feed(registration(OURS))
    assert controls(house.beat("w-1")) == []


# Heartbeats of the unknown ----------------------------------------------------------


def test_a_heartbeat_of_one_that_is_stored_but_not_known_puts_it_in_force() -> None:
    """The subject is read first; the worker is asked for nothing."""
    house = silent()
    assert house.beat("w-1") == [ReadSubject(W1)]
    assert house.beat("w-1") == [], "it is being read"
    commands = house.feed(SubjectRead(W1, stored(OURS, 3)))
    assert controls(commands) == []
    assert house.worker("w-1").state is State.ALIVE


def test_a_heartbeat_of_one_that_is_not_stored_asks_it_to_register() -> None:
    """Whether nothing is stored or a departure."""
    for entry in (None, departed(3)):
        house = silent()
        house.beat("w-1")
        commands = house.feed(SubjectRead(W1, entry))
        assert controls(commands) == [("w-1", "reregister")]
    assert CapabilityId(HELLO) in house.world.registry.groups


def test_a_heartbeat_whose_subject_cannot_be_read_is_tried_with_the_next() -> None:
    """Nobody is told that it is unknown while nothing is known."""
    house = silent()
    house.beat("w-1")
    assert house.feed(SubjectRead(W1, None, failed=True)) == []
    assert house.beat("w-1") == [ReadSubject(W1)]


def test_a_heartbeat_of_one_that_drains_or_registers_is_no_question() -> None:
    """It leaves, or is about to be known."""
    house = silent()
    assert house.beat("w-1", draining=True) == []
    house.feed(registration(OURS))
    assert house.beat("w-1") == []


def test_a_flood_of_unknown_heartbeats_reads_only_so_many_subjects_at_a_time() -> None:
    """The others are read with a later heartbeat."""
    house = silent()
    bound = membership_module._MAX_READING
    for number in range(bound + 10):
        house.feed(HeartbeatSeen(WorkerId(f"w-{number}"), Heartbeat(1)))
    assert len(of_kind(house.log, ReadSubject)) == bound
    house.feed(SubjectRead(WorkerId("w-0"), None))
    assert house.beat(f"w-{bound}") == [ReadSubject(WorkerId(f"w-{bound}"))]


def test_a_heartbeat_of_another_process_does_not_count() -> None:
    """Two processes with one id: the one that registered is the one that is heard."""
    house = House()
    house.register("w-1", instance="a")
    for _ in range(4):
        house.advance(2)
        house.beat("w-1", instance="b")
    assert house.worker("w-1").state is State.GONE
    house.beat("w-1", instance="a", in_flight=3)
    assert house.worker("w-1").state is State.ALIVE
    assert house.worker("w-1").in_flight_reported == 3


# What stays when a manifest is replaced ----------------------------------------------


def test_counts_and_estimates_stay_with_an_offer_that_stays() -> None:
    """A worker that registers again is not measured anew, nor counted as idle."""
    house = House()
    house.register("w-1", spec(max_concurrency=2))
    first = house.request()
    house.advance(0.3)
    house.answers(first)
    running = house.request()
    house.register("w-1", spec(max_concurrency=3))
    offer = house.offer("w-1")
    assert offer.in_flight == 1
    assert offer.latency.answers
    house.answers(running)
    assert offer.in_flight == 0


def test_an_answer_for_an_offer_that_is_gone_is_an_answer() -> None:
    """The worker offers something else by now."""
    house = House()
    house.register("w-1", spec(version="1.0.0"), spec("greet:bye"))
    house.beat("w-1", capacity=1)
    call = house.request()
    waiting = house.request("greet:bye")
    house.register("w-1", spec(version="2.0.0"), spec("greet:bye"))
    house.answers(call)
    assert call.answer.meta.version == "1.0.0"
    assert waiting.dispatches
    assert house.worker("w-1").in_flight == 1


def test_a_pause_that_ends_after_its_worker_left_wakes_nobody() -> None:
    """Nor does an error of one that left."""
    house = House()
    house.register("w-1", spec(max_concurrency=2))
    call, other = house.request(), house.request()
    house.answers(call, BUSY)
    house.deregister("w-1")
    house.advance(0.1)
    assert len(call.dispatches) == 1
    house.answers(other, Fault(500, "x"))
    assert other.kind is ErrorKind.WORKER_ERROR
