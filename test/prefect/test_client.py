"""Prefect's public functions, unchanged, against Headgate."""

import asyncio
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import LONG_SECONDS, TOKEN, WAITS, Limit, http, program, until
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.asyncio import concurrency, rate_limit
from prefect.concurrency.sync import concurrency as concurrency_sync
from prefect.concurrency.sync import rate_limit as rate_limit_sync

try:
    from prefect.concurrency._asyncio import (
        AcquireConcurrencySlotTimeoutError,
        ConcurrencySlotAcquisitionError,
    )
except ImportError:  # Where they were before.
    from prefect.concurrency.asyncio import (
        AcquireConcurrencySlotTimeoutError,
        ConcurrencySlotAcquisitionError,
    )


class Peak:
    """Counts how many are inside at once. The first who come stay until `full` are inside, so that all of it is used."""

    def __init__(self, full: int) -> None:
        self.full = full
        self.now = self.most = self.all = 0
        self.met = threading.Event()

    def __enter__(self) -> None:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        if self.now == self.full:
            self.met.set()

    def __exit__(self, *_: object) -> None:
        self.now -= 1

    def meet(self) -> None:
        assert self.met.wait(LONG_SECONDS), f"{self.now} of {self.full} came"


def overlaps(spans: list[tuple[float, float]]) -> int:
    """How many spans at most are open at one moment."""
    edges = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def spans(text: str) -> list[tuple[float, float]]:
    return [(float(began), float(ended)) for began, ended in (line.split() for line in text.splitlines())]


async def test_never_more_than_the_limit_are_inside():
    limit, peak = Limit(2), Peak(2)

    async def job() -> None:
        async with concurrency(limit.name):
            with peak:
                await asyncio.to_thread(peak.meet)
                await asyncio.sleep(0.05)

    await asyncio.gather(*(job() for _ in range(6)))
    assert (peak.most, peak.all, limit.active) == (2, 6, 0)


def test_threads_are_limited_like_tasks():
    limit, peak = Limit(2), Peak(2)

    def job(_: int) -> None:
        with concurrency_sync(limit.name):
            with peak:
                peak.meet()
                time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(job, range(4)))
    assert (peak.most, peak.all, limit.active) == (2, 4, 0)


async def test_several_names_are_taken_together_and_given_back_together():
    first, second = Limit(3), Limit(1)
    async with concurrency([second.name, first.name], occupy=1):
        assert (first.active, second.active) == (1, 1)
        with pytest.raises(ConcurrencySlotAcquisitionError, match="423"):
            async with concurrency([first.name, second.name], max_retries=0):
                pass
        assert first.active == 1
    assert (first.active, second.active) == (0, 0)


async def test_a_timeout_is_raised_and_leaves_nothing_behind():
    limit = Limit()
    lease = limit.take()
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        async with concurrency(limit.name, timeout_seconds=0.5):
            pass
    limit.give(lease)
    until(lambda: limit.look()["activeSlots"] == 0 and limit.waiting == 0, "the line is empty")


async def test_max_retries_0_fails_after_one_attempt():
    limit = Limit()
    limit.take()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="423 Locked"):
        async with concurrency(limit.name, max_retries=0):
            pass
    assert limit.active == 1


async def test_more_slots_than_there_are_are_refused_with_the_reason():
    limit = Limit(2)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="Slots requested is greater than the limit"):
        async with concurrency(limit.name, occupy=3):
            pass


async def test_missing_names_are_passed_over_or_with_strict_refused(caplog):
    name = f"nobody-{uuid.uuid4()}"
    async with concurrency(name):
        pass
    with pytest.raises(ConcurrencySlotAcquisitionError):
        async with concurrency(name, strict=True):
            pass


async def test_the_holder_is_shown():
    limit, run = Limit(), uuid.uuid4()
    async with concurrency(limit.name, holder=ConcurrencyLeaseHolder(type="task_run", id=run)):
        [lease] = limit.look()["leases"]
        assert lease["holder"] == f"task_run:{run}"


async def test_a_waiter_that_is_cancelled_leaves_nothing_behind():
    limit = Limit()
    lease = limit.take()

    async def job() -> None:
        async with concurrency(limit.name):
            await asyncio.sleep(60)

    task = asyncio.create_task(job())
    denied = lambda: limit.look()["totals"]["denied"] > 0 or limit.waiting > 0  # noqa: E731
    await asyncio.to_thread(until, denied, "it waits")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limit.give(lease)
    await asyncio.to_thread(until, lambda: limit.active == 0 and limit.waiting == 0, "nothing is held")


async def test_a_waiter_that_is_cancelled_at_the_grant_leaves_nothing_behind():
    limit = Limit()

    async def job() -> None:
        async with concurrency(limit.name):
            await asyncio.sleep(60)

    for step in range(12):
        task = asyncio.create_task(job())
        await asyncio.sleep(step * 0.004)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(until, lambda: limit.active == 0 and limit.waiting == 0, "nothing is held")


def test_two_processes_share_one_limit():
    limit = Limit(2)
    workers = [program("work", limit.name, "4", "0.05") for _ in range(3)]
    outputs = [worker.communicate(timeout=LONG_SECONDS) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], outputs
    ran = [span for out, _ in outputs for span in spans(out)]
    assert len(ran) == 12
    assert overlaps(ran) <= 2
    assert limit.active == 0


async def test_a_rate_limit_lets_through_what_decays():
    limit = Limit(1, slot_decay_per_second=20)
    began = time.monotonic()
    for _ in range(11):
        await rate_limit(limit.name)
    assert time.monotonic() - began >= 0.5
    rate_limit_sync(limit.name, occupy=1)


async def test_a_rate_limit_with_a_timeout_raises():
    limit = Limit(1, slot_decay_per_second=0.01)
    await rate_limit(limit.name)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        await rate_limit(limit.name, timeout_seconds=0.5)


async def test_a_rate_limit_without_decay_is_refused_with_the_reason():
    with pytest.raises(ConcurrencySlotAcquisitionError, match="slot decay"):
        await rate_limit(Limit().name)


def test_a_program_ends_at_once_and_prints_no_complaint():
    process = program("quiet", Limit().name, Limit(5, slot_decay_per_second=5).name)
    out, err = process.communicate(timeout=LONG_SECONDS)
    # On a slow machine Prefect says that it sends its last events first, which is no complaint.
    complaints = [line for line in err.splitlines() if not line.startswith("Still processing items")]
    assert (process.returncode, out, complaints) == (0, "", [])


@pytest.mark.skipif(not WAITS, reason="only who waits in line can be granted after its death")
def test_a_waiter_that_was_killed_takes_nothing():
    limit = Limit()
    lease = limit.take()
    dead = program("hold", limit.name, "60")
    until(lambda: limit.waiting == 1, "it waits")
    ids = lambda: {waiter["id"] for waiter in limit.look()["waiting"]}  # noqa: E731
    killed = ids()
    dead.kill()
    dead.communicate()
    alive = program("hold", limit.name, "0.2")
    until(lambda: ids() - killed, "the living one waits")
    limit.give(lease)
    out, err = alive.communicate(timeout=LONG_SECONDS)
    assert "done" in out, err
    until(lambda: limit.active == 0, "nothing is held by the dead")


@pytest.mark.skipif(not WAITS, reason="a request that is not held is answered at once")
def test_f25_a_request_that_the_client_gave_up_and_sent_again_takes_one_slot_and_not_two():
    limit = Limit(2)
    lease = limit.take(2)
    process = program("hold", limit.name, "1.5", PREFECT_API_REQUEST_TIMEOUT="1")
    until(lambda: limit.waiting >= 1, "it waits")
    # By now its first request is given up, and the second waits behind it.
    until(lambda: limit.look()["totals"]["denied"] + limit.waiting >= 2, "it has asked again")
    limit.give(lease)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    until(lambda: limit.active == 1, "the first request's slot came back")
    process.communicate(timeout=LONG_SECONDS)
    until(lambda: limit.active == 0, "it has ended")


def test_f28_f29_who_prefers_it_is_told_of_names_that_limit_nothing():
    limit, off = Limit(), Limit(active=False)
    headers = {"PREFECT_CLIENT_CUSTOM_HEADERS": '{"Prefer": "handling=strict"}'}
    for name in (f"nobody-{uuid.uuid4()}", off.name):
        process = program("hold", name, "0", **headers)
        _, err = process.communicate(timeout=LONG_SECONDS)
        assert process.returncode == 1
        assert "No concurrency limit has the name" in err or "Switched off" in err
    assert program("hold", limit.name, "0", **headers).wait(LONG_SECONDS) == 0


@pytest.mark.skipif(WAITS, reason="how tasks are orchestrated does not depend on how they wait")
def test_tasks_of_a_flow_are_limited_here_while_it_is_orchestrated_elsewhere():
    limit = Limit(2)
    own = {key: value for key, value in os.environ.items() if key.startswith("PREFECT_API")}
    env = {**{key: "" for key in own}, "PREFECT_API_KEY": TOKEN, "PREFECT_LOGGING_LEVEL": "ERROR"}
    process = program("flow", limit.name, os.environ["PREFECT_API_URL"], **env)
    out, err = process.communicate(timeout=LONG_SECONDS)
    assert process.returncode == 0, err
    ran = spans(out)
    assert len(ran) == 6 and overlaps(ran) <= 2
    totals = limit.look()["totals"]
    assert totals["grantedAtOnce"] + totals["grantedAfterWait"] == 6
    assert limit.active == 0
