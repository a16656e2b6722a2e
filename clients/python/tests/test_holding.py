"""Slots while they are held: given back once, renewed whatever their holder does, and told when they are lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Killable, Limit, until

import headgate_client.asyncio as with_asyncio
import headgate_client.sync as with_sync
from headgate_client import HeadgateUnreachableError, LeaseLostError

NewLimit = Callable[..., Limit]


class Broken(Exception):
    """What the work of a test raises."""


def test_promise_7_work_that_raises_gives_back(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> None:
        async with with_asyncio.concurrency(limit.name):
            assert limit.active == 1
            raise Broken

    for run in (lambda: asyncio.run(main()), lambda: by_sync(limit)):
        with pytest.raises(Broken):
            run()
        assert limit.active == 0


def by_sync(limit: Limit) -> None:
    with with_sync.concurrency(limit.name):
        assert limit.active == 1
        raise Broken


def test_promise_7_a_second_release_gives_back_nothing_of_others(new_limit: NewLimit) -> None:
    limit = new_limit()
    lease = with_sync.concurrency(limit.name).acquire()
    lease.release()
    other = limit.take()
    lease.release()
    assert [held["id"] for held in limit.leases] == [other]


def test_a_decorated_function_holds_slots_for_each_call(new_limit: NewLimit) -> None:
    limit = new_limit(limit=2)

    @with_sync.concurrency(limit.name, occupy=2)
    def plain(value: int) -> tuple[int, int]:
        """Its own words."""
        return value, limit.active

    @with_asyncio.concurrency(limit.name)
    async def with_await(value: int) -> tuple[int, int]:
        return value, limit.active

    async def several() -> None:
        assert sorted(await asyncio.gather(with_await(1), with_await(2), with_await(3)))[0][0] == 1

    assert plain(7) == (7, 2)
    assert plain.__doc__ == "Its own words."
    assert asyncio.run(with_await(8)) == (8, 1)
    asyncio.run(several())
    assert limit.active == 0


def test_what_a_decorator_cannot_hold_slots_around_is_refused() -> None:
    async def with_await() -> None: ...
    def plain() -> None: ...
    def generator() -> Any:
        yield

    refused: list[tuple[Any, Any]] = [
        (with_sync, with_await),
        (with_sync, generator),
        (with_sync, 7),
        (with_asyncio, plain),
    ]
    for face, work in refused:
        with pytest.raises(TypeError, match="decorates"):
            face.concurrency("a")(work)


def test_a_block_that_runs_is_not_entered_again(new_limit: NewLimit) -> None:
    limit = new_limit(limit=2)
    block = with_sync.concurrency(limit.name)
    with block, pytest.raises(RuntimeError, match="running already"), block:
        pass
    with block:
        assert limit.active == 1
    assert limit.active == 0


def test_a_lease_is_renewed_while_it_is_held(new_limit: NewLimit) -> None:
    limit = new_limit()
    with with_sync.concurrency(limit.name, lease_duration=3) as lease:
        ends = {lease.expires_at}
        until(lambda: ends.add(lease.expires_at) or len(ends) > 4, "it was renewed past its first end")
        assert [held["id"] for held in limit.leases] == [lease.id]
        assert lease.enforced
        lease.check()


def test_a_blocked_event_loop_keeps_its_lease(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> None:
        async with with_asyncio.concurrency(limit.name, lease_duration=3) as lease:
            seen: set[str] = set()
            # No `await` in it: the event loop of the caller stands still past the end of the lease.
            until(lambda: seen.update(held["expiresAt"] for held in limit.leases) or len(seen) > 4, "it was renewed")
            lease.check()
            assert [held["id"] for held in limit.leases] == [lease.id]

    asyncio.run(main())
    assert limit.active == 0


def test_a_lost_lease_cancels_the_block(new_limit: NewLimit) -> None:
    limit = new_limit()
    heard: list[str] = []

    async def main() -> None:
        try:
            async with with_asyncio.concurrency(limit.name, lease_duration=3) as lease:
                limit.take_back()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    heard.append("cancelled")
                    assert not lease.enforced
                    raise
        finally:
            # The cancellation was for the block alone.
            await asyncio.sleep(0)

    with pytest.raises(LeaseLostError, match="was lost"):
        asyncio.run(main())
    assert heard == ["cancelled"]


def test_a_lease_that_is_lost_while_the_loop_is_blocked_is_told_at_the_end(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> str:
        with pytest.raises(LeaseLostError):
            async with with_asyncio.concurrency(limit.name, lease_duration=3) as lease:
                limit.take_back()
                until(lambda: lease.lost, "the loss is known")
                with pytest.raises(LeaseLostError):
                    lease.check()
        await asyncio.sleep(0)
        return "went on"

    assert asyncio.run(main()) == "went on"


def test_a_cancellation_by_others_is_not_taken_for_the_loss(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> None:
        entered = asyncio.Event()

        async def block() -> None:
            async with with_asyncio.concurrency(limit.name, lease_duration=3) as lease:
                entered.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    limit.take_back()
                    until(lambda: lease.lost, "the loss is known")
                    raise

        task = asyncio.create_task(block())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_without_asyncio_a_lost_lease_is_seen_and_raised(new_limit: NewLimit) -> None:
    limit = new_limit()
    with (
        pytest.raises(LeaseLostError, match=f'of "{limit.name}" was lost: 410 lease_gone'),
        with_sync.concurrency(limit.name, lease_duration=3) as lease,
    ):
        limit.take_back()
        until(lambda: lease.lost, "the loss is known")
        with pytest.raises(LeaseLostError):
            lease.check()
    # The work's own error comes first.
    with pytest.raises(Broken), with_sync.concurrency(limit.name, lease_duration=3) as lease:
        limit.take_back()
        until(lambda: lease.lost, "the loss is known")
        raise Broken


def test_a_loss_may_be_no_error(new_limit: NewLimit, caplog: pytest.LogCaptureFixture) -> None:
    limit = new_limit()
    options: dict[str, Any] = {"lease_duration": 3, "raise_on_lease_renewal_failure": False}

    async def main() -> None:
        async with with_asyncio.concurrency(limit.name, **options) as lease:
            limit.take_back()
            until(lambda: lease.lost, "the loss is known")

    asyncio.run(main())
    with with_sync.concurrency(limit.name, **options) as lease:
        limit.take_back()
        until(lambda: lease.lost, "the loss is known")
    assert len([record for record in caplog.records if "without its slots" in record.getMessage()]) == 2


def test_a_service_that_stays_away_loses_the_lease_at_its_end(killable: Killable) -> None:
    limit = Limit(killable.url)
    gate = with_sync.Headgate(killable.url)
    with pytest.raises(LeaseLostError), gate.concurrency(limit.name, lease_duration=3) as lease:
        killable.kill()
        until(lambda: lease.lost, "the lease has ended")
    limit.http.close()


def test_a_renewal_waits_for_a_service_that_comes_back(killable: Killable) -> None:
    limit = Limit(killable.url)
    with with_sync.Headgate(killable.url).concurrency(limit.name, lease_duration=30) as lease:
        first = lease.expires_at
        killable.kill()
        killable.start()
        until(lambda: lease.expires_at != first, "it was renewed after the restart")
        assert [held["id"] for held in limit.leases] == [lease.id]
    assert limit.active == 0
    limit.http.close()


def test_slots_come_back_though_the_service_was_away_at_the_release(
    killable: Killable, caplog: pytest.LogCaptureFixture
) -> None:
    limit = Limit(killable.url)
    gate = with_sync.Headgate(killable.url)
    with gate.concurrency(limit.name, lease_duration=600):
        killable.kill()
    assert "could not be released yet" in caplog.text
    killable.start()
    limit.wait_for(active=0)

    async def main() -> None:
        lease = await with_asyncio.Headgate(killable.url).concurrency(limit.name, lease_duration=600).acquire()
        killable.kill()
        with pytest.raises(HeadgateUnreachableError):
            await lease.release()
        killable.start()

    asyncio.run(main())
    limit.wait_for(active=0)
    limit.http.close()


def test_a_release_whose_caller_is_cancelled_happens(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main(turns: int) -> None:
        leaving = asyncio.Event()

        async def block() -> None:
            async with with_asyncio.concurrency(limit.name):
                leaving.set()

        task = asyncio.create_task(block())
        await leaving.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for turns in range(8):
        asyncio.run(main(turns))
        limit.wait_for(active=0)


def test_promise_1_threads_are_never_too_many(new_limit: NewLimit) -> None:
    limit = new_limit(limit=3)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(4):
            with with_sync.concurrency(limit.name, timeout_seconds=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 48
    assert max(most) <= 3
    assert limit.active == 0
