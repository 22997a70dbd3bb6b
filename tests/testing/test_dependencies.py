"""What a worker opens once, and what each dispatch gets: opened, given, closed, failing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest

from crank import Context, CrankError, DeclarationError, Depends, LifespanError, PermanentError, Worker
from tests.testing.conftest import Serving, until, until_idle


class Log(list[str]):
    """What happened, in order."""

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Notes the start, the error if there is one, and the end."""
        self.append(f"open {name}")
        try:
            yield
        except BaseException as error:
            self.append(f"{name} saw {type(error).__name__}")
            raise
        finally:
            self.append(f"close {name}")


def _worker(log: Log) -> tuple[Worker, dict[str, Any]]:
    """Two lifespans, three dependencies of a dispatch that need them and each other, and handlers of every kind."""
    worker = Worker("t")

    @worker.lifespan
    async def pool() -> AsyncIterator[str]:
        with log.around("pool"):
            yield "pool"

    @worker.lifespan
    def model(pool: Annotated[str, Depends(pool)]) -> Iterator[str]:
        assert threading.current_thread() is not threading.main_thread()
        with log.around("model"):
            yield f"model({pool})"

    async def session(pool: Annotated[str, Depends(pool)], ctx: Context) -> AsyncIterator[str]:
        with log.around("session"):
            yield f"session({pool},{ctx.attempt})"

    def cursor(session: Annotated[str, Depends(session)]) -> Iterator[str]:
        with log.around("cursor"):
            yield f"cursor({session})"

    async def user(session: Annotated[str, Depends(session)]) -> str:
        log.append("user")
        return f"user({session})"

    Cursor, User, Model = (  # noqa: N806  # as a module would name them
        Annotated[str, Depends(cursor)], Annotated[str, Depends(user)], Annotated[str, Depends(model)],
    )  # fmt: skip

    def done(name: str, payload: str, *values: str) -> str:
        log.append(name)
        if payload == "fail":
            raise PermanentError("no")
        return " ".join([*values, payload])

    @worker.capability("t:async")
    async def handler(cursor: Cursor, payload: str, user: User, *, model: Model) -> str:
        return done("async", payload, cursor, user, model)

    @worker.capability("t:plain")
    def plain(cursor: Cursor, payload: str, user: User, *, model: Model) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return done("plain", payload, cursor, user, model)

    @worker.capability("t:stream")
    async def stream(cursor: Cursor, payload: str, user: User, *, model: Model) -> AsyncIterator[str]:
        yield done("stream", payload, cursor, user, model)

    @worker.capability("t:model")
    async def only(model: Model) -> str:
        return model

    return worker, {"pool": pool, "model": model, "session": session, "cursor": cursor, "user": user}


_GIVEN = b"cursor(session(pool,1)) user(session(pool,1)) model(pool) hi"
_OPENED = ["open session", "open cursor", "user"]
_CLOSED = ["close cursor", "close session"]


async def test_lifespans_surround_the_worker_and_dependencies_a_dispatch(serving: Serving) -> None:
    """In order, once, and closed in reverse; whatever kinds of function are mixed."""
    log = Log()
    worker, _ = _worker(log)
    async with serving(worker) as client:
        assert log == ["open pool", "open model"]
        for kind in ("async", "plain", "stream"):
            log.clear()
            assert (await client.request(f"t:{kind}", "hi")).body == _GIVEN
            assert log == [*_OPENED, kind, *_CLOSED]
        log.clear()
        assert (await client.request("t:model")).body == b"model(pool)"
        assert log == []
    assert log == ["close model", "close pool"]


@pytest.mark.parametrize("kind", ["async", "plain", "stream"])
async def test_an_error_of_the_handler_is_seen_by_what_it_depends_on(serving: Serving, kind: str) -> None:
    """So that a transaction can be rolled back; the caller hears the handler's own words."""
    log = Log()
    worker, _ = _worker(log)
    async with serving(worker) as client:
        log.clear()
        with pytest.raises(CrankError) as caught:
            await client.request(f"t:{kind}", "fail")
    assert caught.value.problem.worker_message == "no"
    seen = ["cursor saw PermanentError", "close cursor", "session saw PermanentError", "close session"]
    assert log[:-2] == [*_OPENED, kind, *seen]


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("when", ["open", "close", "swallow"])
async def test_a_dependency_that_fails_fails_its_dispatch(
    serving: Serving, caplog: pytest.LogCaptureFixture, kind: str, when: str
) -> None:
    """Before the handler, after it, and by keeping the handler's error to itself; what was open is closed."""
    log = Log()
    worker = Worker("t")

    async def outer() -> AsyncIterator[None]:
        with log.around("outer"):
            yield

    def broken(outer: Annotated[None, Depends(outer)]) -> Iterator[int]:
        if when == "open":
            raise PermanentError("the door is shut")
        try:
            yield 1
        except RuntimeError:
            return
        raise PermanentError("the door does not shut")

    @worker.capability("t:async")
    async def handler(value: Annotated[int, Depends(broken)]) -> int:
        log.append("ran")
        if when == "swallow":
            raise RuntimeError("lost")
        return value

    @worker.capability("t:plain")
    def plain(value: Annotated[int, Depends(broken)]) -> int:
        log.append("ran")
        if when == "swallow":
            raise RuntimeError("lost")
        return value

    async with serving(worker) as client:
        with pytest.raises(CrankError) as caught:
            await client.request(f"t:{kind}")
    words = {"open": "the door is shut", "close": "the door does not shut", "swallow": "The worker failed; its log"}
    assert words[when] in str(caught.value.problem.worker_message)
    assert ("ran" in log) == (when != "open")
    assert log[-1] == "close outer"
    assert ("did not raise it again" in caplog.text) == (when == "swallow")


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_dependency_that_takes_too_long_is_given_up(serving: Serving, kind: str) -> None:
    """The deadline holds for it as for the handler, and what was open is closed."""
    log = Log()
    worker = Worker("t")

    def held() -> Iterator[None]:
        with log.around("held"):
            yield

    async def endless(held: Annotated[None, Depends(held)]) -> None:
        log.append("waiting")
        await asyncio.sleep(60)

    @worker.capability("t:async")
    async def handler(value: Annotated[None, Depends(endless)]) -> None: ...
    @worker.capability("t:plain")
    def plain(value: Annotated[None, Depends(endless)]) -> None: ...

    async with serving(worker) as client:
        asking = asyncio.create_task(client.request(f"t:{kind}", timeout_ms=400))
        await until(lambda: "waiting" in log or asking.done())
        with pytest.raises(CrankError) as caught:
            await asking
        assert caught.value.code == 504
        await until(lambda: "close held" in log)
        await until_idle(client)


async def test_a_payload_that_does_not_fit_opens_nothing(serving: Serving) -> None:
    """A mistake of the caller's costs no session."""
    log = Log()
    worker = Worker("t")

    def session() -> Iterator[None]:
        with log.around("session"):
            yield

    @worker.capability("t:async", input_schema=True)
    async def handler(number: int, session: Annotated[None, Depends(session)]) -> int:
        return number

    @worker.capability("t:plain", input_schema=True)
    def plain(number: int, session: Annotated[None, Depends(session)]) -> int:
        return number

    async with serving(worker) as client:
        for kind in ("async", "plain"):
            with pytest.raises(CrankError) as caught:
                await client.request(f"t:{kind}", '"three"')
            assert caught.value.problem.worker_code == 422
    assert log == []


async def test_a_lifespan_that_does_not_open_stops_the_worker(serving: Serving) -> None:
    """The error names it, its error and the line; what was open is closed, and nothing was registered."""
    log = Log()
    worker = Worker("t")

    @worker.lifespan
    async def first() -> AsyncIterator[None]:
        with log.around("first"):
            yield

    @worker.lifespan
    def weights() -> str:
        raise FileNotFoundError("model.bin")

    @worker.capability("t:t")
    async def handler() -> None: ...

    with pytest.raises(LifespanError) as caught:
        async with serving(worker):
            log.append("served")
    assert "weights did not open: FileNotFoundError: model.bin" in str(caught.value)
    assert f"{__file__}:" in str(caught.value)
    assert log == ["open first", "first saw LifespanError", "close first"]


async def test_a_lifespan_that_does_not_close_is_told_after_the_others_are_closed(serving: Serving) -> None:
    """Work was done, but something may be lost."""
    log = Log()
    worker = Worker("t")

    @worker.lifespan
    async def first() -> AsyncIterator[None]:
        with log.around("first"):
            yield

    @worker.lifespan
    async def second(first: Annotated[None, Depends(first)]) -> AsyncIterator[None]:
        yield
        raise OSError("disk full")

    @worker.capability("t:t")
    async def handler() -> None: ...

    with pytest.raises(LifespanError, match="second did not close: OSError: disk full"):
        async with serving(worker) as client:
            await client.request("t:t")
    assert log[-1] == "close first"


async def test_a_plain_lifespan_is_closed_in_the_thread_that_opened_it(serving: Serving) -> None:
    """As a database's connection demands, however many threads there are meanwhile."""
    worker = Worker("t")
    threads: list[threading.Thread] = []

    @worker.lifespan
    def first() -> Iterator[None]:
        threads.append(threading.current_thread())
        yield
        threads.append(threading.current_thread())

    @worker.lifespan
    def second() -> None:
        threads.append(threading.current_thread())

    @worker.capability("t:t")
    async def handler() -> None:
        together = threading.Barrier(4)
        await asyncio.gather(*(asyncio.to_thread(together.wait, 5) for _ in range(4)))

    async with serving(worker) as client:
        await client.request("t:t")
    assert threads == [threads[0]] * 3
    assert threads[0] is not threading.main_thread()


async def test_dependencies_can_be_replaced_for_a_test(serving: Serving) -> None:
    """Those of a dispatch and lifespans; a replacement may need others itself, and what it replaces is never opened."""
    log = Log()
    worker, names = _worker(log)

    async def fake_session(pool: Annotated[str, Depends(names["pool"])]) -> AsyncIterator[str]:
        yield f"fake({pool})"

    overrides = {names["session"]: fake_session, names["model"]: lambda: "tiny"}
    async with serving(worker, overrides=overrides) as client:
        answer = await client.request("t:async", "hi")
    assert answer.body == b"cursor(fake(pool)) user(fake(pool)) tiny hi"
    assert "open model" not in log
    assert "open session" not in log


async def test_a_replacement_that_cannot_be_filled_is_refused(serving: Serving) -> None:
    """As the declaration itself would be."""
    worker, names = _worker(Log())

    def odd(name: str) -> str: ...

    with pytest.raises(DeclarationError, match="nothing fills `name`"):
        async with serving(worker, overrides={names["session"]: odd}):
            pass
