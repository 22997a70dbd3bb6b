"""What the store has not said yet is known to nobody: neither that a key is free, nor what was answered under it."""

from __future__ import annotations

from harness import DONE, House, spec

from controller.core.stored import ClaimUnread


def house() -> House:
    """One with a worker that is not safe to ask twice."""
    one = House(timeout_ms=10_000)
    one.register("w-1", spec(max_concurrency=4))
    one.beating = {"w-1"}
    return one


def test_a_job_whose_time_is_over_before_its_record_is_read_is_not_called_missing() -> None:
    """It waits for what is read."""
    one = house()
    one.submit(idempotency_key="k")
    one.answers_claims = False
    call = one.deliver(next(iter(one.stores.jobs.values())))
    one.advance(11.0)
    one.answers_claims = True
    one.store_answers()
    assert "dead" not in one.stores.states
    assert call.dispatches


def test_a_job_whose_record_cannot_be_read_is_not_called_missing() -> None:
    """Not even when its time is over."""
    one = house()
    job_id = one.submit(idempotency_key="k").request.job_id or next(iter(one.stores.last))
    one.answers_claims = False
    one.deliver(next(iter(one.stores.jobs.values())))
    one.advance(11.0)
    one.feed(ClaimUnread(job_id, "no answer in time"))
    one.advance(20.0)
    one.answers_claims = True
    one.store_answers()
    assert "dead" not in one.stores.states


def test_an_answer_that_is_not_acknowledged_yet_is_told_to_nobody() -> None:
    """Also where nothing stood under the key any more: an operator had released it."""
    one = house()
    first = one.request(idempotency_key="k")
    (key,) = one.stores.last
    one.stores._store(key, None)
    one.answers_claims = False
    one.answers(first)
    one.store_answers()  # the first write is refused, and the next one is under way
    again = one.request(idempotency_key="k")
    asked = one.result(key, timeout_ms=5000)
    assert not again.replies
    assert not asked.replies
    one.store_answers()
    assert [call.answer.body for call in (first, again, asked)] == [DONE.body] * 3


def test_a_result_is_looked_up_among_old_ones_also_while_the_key_is_being_read() -> None:
    """Its claim has aged out, and something else reads it at the moment."""
    one = house()
    one.submit(idempotency_key="k")
    job = next(iter(one.stores.jobs.values()))
    one.answers(one.deliver(job))
    del one.stores.last[job.job_id]
    one.answers_claims = False
    one.deliver(job)
    asked = one.result(job.job_id)
    one.answers_claims = True
    one.store_answers()
    assert asked.answer.body == DONE.body


def test_a_job_that_was_done_long_ago_is_not_buried() -> None:
    """Its acknowledgement was lost, and its claim has aged out: its result says what it came to."""
    one = house()
    one.submit(idempotency_key="k")
    job = next(iter(one.stores.jobs.values()))
    one.answers(one.deliver(job))
    del one.stores.last[job.job_id]
    one.deliver(job)
    assert not one.stores.dead
    assert one.result(job.job_id).answer.meta.job_status == "done"
    assert [kind for kind, _ in one.stores.acks] == ["ack", "ack"]


def test_who_waits_for_a_record_that_could_not_be_read_sees_it_as_soon_as_it_can_be() -> None:
    """It is read again, and not only what was read before."""
    one = house()
    one.submit(idempotency_key="k")
    (key,) = one.stores.last
    one.answers_claims = False
    call = one.deliver(next(iter(one.stores.jobs.values())))
    one.advance(11.0)
    one.feed(ClaimUnread(key, "no answer in time"))
    one.unanswered.clear()
    one.answers_claims = True
    one.advance(6.0)
    assert call.dispatches


def test_a_job_that_waits_no_more_takes_no_worker_from_those_who_do() -> None:
    """Its time is over, and that it is put back is not acknowledged yet."""
    one = House(timeout_ms=10_000)
    one.register("w-1", spec())
    one.beating = {"w-1"}
    first = one.request(timeout_ms=60_000)
    one.submit(idempotency_key="k")
    one.deliver(next(iter(one.stores.jobs.values())))
    second = one.request(timeout_ms=60_000)
    one.answers_claims = False
    one.advance(10.5)
    one.answers(first)
    assert second.dispatches
    one.answers_claims = True
    one.store_answers()
    assert [delivery for what, delivery in one.stores.acks if what == "nak"]


def test_a_job_that_is_over_is_not_buried_by_who_waited_for_its_record() -> None:
    """Two deliveries of it: one reads, the other's time was over. Its claim is gone, and how it ended is kept."""
    one = house()
    one.submit(idempotency_key="k")
    job = next(iter(one.stores.jobs.values()))
    one.answers(one.deliver(job))
    del one.stores.last[job.job_id]
    one.answers_claims = False
    one.deliver(job)
    one.advance(11.0)
    one.deliver(job)
    one.answers_claims = True
    one.store_answers()
    assert not one.stores.dead
    assert one.result(job.job_id).answer.meta.job_status == "done"
