"""Named limits for programs with asyncio; the names of `prefect.concurrency.asyncio`.

from headgate_client.asyncio import concurrency, rate_limit

async with concurrency("database"):
    ...  # At most as many run here at once, anywhere, as the limit has slots.
await rate_limit("openai", occupy=3)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from ._answers import Actual, CheckAnswer, LimitInfo, LimitSummary, Policy, Region, Settled, Window
from ._answers import Receipt as AnyReceipt
from ._gate import Gate, checked_work, path_of
from ._hold import Acquisition, Hold, warn_unreleased
from ._lease import AnyLease
from ._names import Names, Occupy, holder_of, slots_of
from ._transport import log
from ._wait import LEASE_SECONDS, Mode, OnError, Wish
from .errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    HeadgateError,
    HeadgateUnreachableError,
    LeaseLostError,
)

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "Headgate",
    "HeadgateError",
    "HeadgateUnreachableError",
    "Lease",
    "LeaseLostError",
    "Receipt",
    "concurrency",
    "rate_limit",
]

P = ParamSpec("P")
T = TypeVar("T")


class Lease(AnyLease):
    """Slots, held until `release()`, and renewed in a thread until then, also while the event loop is blocked."""

    async def release(self, actual: Actual | None = None) -> None:
        """Gives the slots back. Once is enough: later calls give back nothing more.

        `actual` settles in the same call what was taken by `rate`, as `settle` does.

        A caller that is cancelled meanwhile gives them back all the same. Raises `HeadgateUnreachableError` when the
        service could not be reached within 5 s. It is tried on in the background until `expires_at`, when the slots
        come back by themselves, for as long as this program runs.
        """
        if self._hold.is_own:
            await asyncio.wrap_future(self._hold.release(actual))

    async def settle(self, actual: Actual) -> Settled:
        """Says what the estimates taken by `rate` came to, with `settle_seconds`.

        Below them the rest comes back, above them the difference is taken too. One number is for each of them. Once is
        enough: the same again changes nothing. It may be said before the release and after it.

        Raises `HeadgateError` with the code `receipt_gone` when `settle_seconds` are over, `already_settled` when it
        was settled with another number.
        """
        return await asyncio.wrap_future(self._hold.settle(self.rate, actual))


@dataclass(frozen=True)
class Receipt(AnyReceipt):
    """What `rate_limit` answers with. Nothing is held: the slots come back by themselves."""

    async def settle(self, actual: Actual) -> Settled:
        """Says what an estimate came to, with `settle_seconds`, as `Lease.settle` does."""
        return await asyncio.wrap_future(self._settling(actual))


class Concurrency(AbstractAsyncContextManager[Lease, None]):
    """A block of code that holds slots, or a decorator. It may be entered again when it was left."""

    def __init__(self, gate: Headgate, wish: Wish, raises: bool) -> None:
        self._gate = gate
        self._wish = wish
        #: Whether the loss of the lease cancels the block.
        self._raises = raises
        self._block: _Block | None = None

    async def acquire(self) -> Lease:
        """Takes the slots for work that is not one block: they are held until `await lease.release()`."""
        return Lease(await taken(self._gate, self._wish))

    async def __aenter__(self) -> Lease:
        if self._block is not None:
            raise RuntimeError("This block is running already: call `concurrency` once for each.")
        hold = await taken(self._gate, self._wish)
        self._block = _Block(hold, self._raises)
        return self._block.lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = cast("_Block", self._block), None
        await block.leave(error)

    def __call__(self, work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        checked_work(work, is_async=True)

        @functools.wraps(work)
        async def held(*args: P.args, **kwargs: P.kwargs) -> T:
            async with Concurrency(self._gate, self._wish, self._raises):
                return await work(*args, **kwargs)

        return held


class _Block:
    """One run of a block: its task is cancelled when its lease is lost."""

    def __init__(self, hold: Hold, raises: bool) -> None:
        self.lease = Lease(hold)
        self._hold = hold
        self._raises = raises
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        #: Cancellations by others that were under way before.
        self._before = _cancellations(self._task)
        self._running = True
        #: The task was cancelled here, and not by others.
        self._cancelled = False
        loop = asyncio.get_running_loop()

        def on_lost() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                loop.call_soon_threadsafe(self._lose)

        hold.on_lost = on_lost
        # It may have been lost between the grant and here.
        if hold.lost is not None:
            on_lost()

    def _lose(self) -> None:
        if self._running and self._raises and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    async def leave(self, error: BaseException | None) -> None:
        """Gives back, and raises that the lease was lost in place of the cancellation that it caused."""
        self._running = False
        if self._cancelled and sys.version_info >= (3, 11):
            self._task.uncancel()
        heard = isinstance(error, asyncio.CancelledError)
        try:
            await self._release()
        except asyncio.CancelledError:
            # The work came to its end without a look at our cancellation: it is ours, unless there is another.
            if not self._cancelled or heard or _cancellations(self._task) > self._before:
                raise
            await self._release()
        lost = self._hold.lost
        by_us = heard and self._cancelled and _cancellations(self._task) <= self._before
        if lost is not None and not self._raises:
            log.warning("work went on without its slots: %s", lost)
        elif lost is not None and (error is None or by_us):
            raise lost

    async def _release(self) -> None:
        try:
            await self.lease.release()
        except HeadgateError as error:
            warn_unreleased(self._hold, error)


def _cancellations(task: asyncio.Task[Any]) -> int:
    """How often it was cancelled and not yet asked to forget that; Python 3.10 does not count."""
    return task.cancelling() if sys.version_info >= (3, 11) else 0


async def taken(gate: Headgate, wish: Wish) -> Hold:
    """What is granted. A caller that is cancelled, also at the instant of the grant, leaves nothing behind."""
    acquisition = Acquisition(gate.transport, wish)
    try:
        return await asyncio.wrap_future(acquisition.hold)
    except BaseException:
        acquisition.abandon()
        raise


def _receipt_of(hold: Hold) -> Receipt:
    def settling(actual: Actual) -> Future[Settled]:
        return hold.settle(hold.names, actual)

    return Receipt(hold.id, hold.names, hold.waited_seconds, hold.limits, hold.enforced, settling)


class Headgate(Gate):
    """A Headgate service: named limits, shared by every program that knows them. For any event loop, one or several.

        gate = Headgate("https://limits.example.workers.dev", token="...")
        async with gate.concurrency(["database", "reports"], timeout_seconds=30):
            ...

    Without a `url` it is the service that `HEADGATE_URL` (default `http://127.0.0.1:8787`) and `HEADGATE_TOKEN` name.
    """

    def concurrency(
        self,
        names: Names,
        occupy: Occupy = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = LEASE_SECONDS,
        strict: bool = False,
        holder: Any = None,
        raise_on_lease_renewal_failure: bool | None = None,
        *,
        create_if_missing: bool = True,
        rate: Names | None = None,
        settle_seconds: float | None = None,
        at_most: bool = False,
        priority: int | None = None,
        key: str | None = None,
        on_error: OnError = "raise",
    ) -> Concurrency:
        """Holds slots of all the limits, all or none, while an `async with` block or a decorated function runs.

        Waits in line for them, first come, first served. They are given back when the block ends, whatever it does.

        Args:
            names: A name, several, or a mapping of names to slots. None of them: nothing is asked.
            occupy: Slots of each limit, or a mapping of names to slots (names left out: 1).
            timeout_seconds: How long to wait, counted from the call; 0 asks once. None: for ever.
            max_retries: How often to ask again after a denial; 0 asks once, without waiting. None: waits in line.
            lease_duration: Seconds that the slots stay taken when this program is not heard of any more, 1 to 86,400.
                The lease is renewed at a third of it.
            strict: A name that nobody has configured is an error, and nothing is taken.
            holder: Who asks, for the operator's eyes: a string, or anything with a `type` and an `id`.
            raise_on_lease_renewal_failure: False: a block whose lease was lost goes on, and a warning is logged.
                Otherwise it is cancelled, and `LeaseLostError` is raised in place of the cancellation.
            create_if_missing: Create limits that nobody configured, by policy or inactive. False: they are skipped.
            rate: Limits to take in the same request by rate: a name, several, or a mapping of names to slots.
            settle_seconds: What is taken by rate is an estimate, which `settle` corrects within so long, 1 to 3,600.
            at_most: Take fewer slots where a limit could never grant so many; `names` and `rate` say how many.
            priority: 0 to 9; waiters of a higher one are served first. None: 0.
            key: Whose turn it takes in line, such as a tenant's; keys that wait take turns. None: one key for all.
            on_error: When the service cannot be reached. "raise", or "open": the block runs without a limit.

        Raises:
            AcquireConcurrencySlotTimeoutError: There were no slots within `timeout_seconds`.
            ConcurrencySlotAcquisitionError: The slots were refused.
            HeadgateUnreachableError: The service cannot be reached.
            LeaseLostError: The lease was taken back, or could not be renewed in time.
        """
        wish = Wish(
            slots=slots_of(names, occupy),
            mode="concurrency",
            rate=None if rate is None else slots_of(rate, 1, "rate"),
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            lease_seconds=lease_duration,
            create_if_missing=create_if_missing,
            strict=strict,
            holder=holder_of(holder),
            settle_seconds=settle_seconds,
            at_most=at_most,
            priority=priority,
            key=key,
            on_error=on_error,
        )
        return Concurrency(self, wish, raise_on_lease_renewal_failure is not False)

    async def rate_limit(
        self,
        names: Names,
        occupy: Occupy = 1,
        timeout_seconds: float | None = None,
        strict: bool = False,
        *,
        max_retries: int | None = None,
        create_if_missing: bool = True,
        holder: Any = None,
        settle_seconds: float | None = None,
        at_most: bool = False,
        priority: int | None = None,
        key: str | None = None,
        on_error: OnError = "raise",
    ) -> Receipt:
        """Takes slots that come back by themselves, at the limit's decay; waits in line until they fit.

        Options and errors are those of `concurrency`. A limit without decay is refused.
        """
        wish = Wish(
            slots=slots_of(names, occupy),
            mode="rate_limit",
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            create_if_missing=create_if_missing,
            strict=strict,
            holder=holder_of(holder),
            settle_seconds=settle_seconds,
            at_most=at_most,
            priority=priority,
            key=key,
            on_error=on_error,
        )
        return _receipt_of(await taken(self, wish))

    async def renew(self, lease_id: str, names: Names, lease_duration: float | None = None) -> str:
        """Renews a lease that another program holds, and answers when it ends; a `Lease` renews itself."""
        return (await asyncio.wrap_future(self._renewing(lease_id, names, lease_duration)))["expiresAt"]

    async def release(self, lease_id: str, names: Names, *, actual: Mapping[str, int] | None = None) -> int:
        """Gives back a lease by its id and names. Answers with the slots given back: 0 when there was nothing left.

        `actual` settles in the same call what was taken by rate beside it.
        """
        return (await asyncio.wrap_future(self._releasing(lease_id, names, actual)))["released"]

    async def settle(self, request_id: str, actual: Mapping[str, int]) -> Settled:
        """Says what estimates of another program came to, by the id of the request."""
        return await asyncio.wrap_future(self._settling(request_id, actual))

    async def check(
        self,
        names: Names,
        occupy: Occupy = 1,
        *,
        mode: Mode = "concurrency",
        rate: Names | None = None,
        create_if_missing: bool = True,
        strict: bool = False,
    ) -> CheckAnswer:
        """Asks whether slots would be granted now; a moment later that may have changed.

        Nothing is taken, counted or created.
        """
        return await asyncio.wrap_future(self._checking(names, occupy, mode, rate, create_if_missing, strict))

    async def pause(self, name: str, seconds: float) -> LimitSummary:
        """Lets a limit grant nothing for so long, 0 to 600, or until an earlier pause ends, whichever is later.

        Leases stay, and those who wait keep their places. For an upstream that answered 429 with `Retry-After`.
        0 ends a pause, for tokens of scope `admin`.
        """
        return await asyncio.wrap_future(self._pausing(name, seconds))

    async def configure(
        self,
        name: str,
        limit: int,
        *,
        slot_decay_per_second: float = 0,
        window: Window | None = None,
        active: bool = True,
        enforce: bool = True,
        lend_seconds: float = 0,
        weights: Mapping[str, int] | None = None,
        starve_after_seconds: float | None = None,
        region: Region | None = None,
    ) -> LimitSummary:
        """Creates a limit, or replaces its settings: what is left out is as by default, whatever it was before.

        Args:
            name: The limit.
            limit: Its slots.
            slot_decay_per_second: Slots that come back by themselves each second. 0: only by release.
            window: In place of that: slots come back by the calendar, or each so long after it was taken.
            active: False: switched off, it grants at once and holds nothing.
            enforce: False: it says what it would deny, and denies nothing.
            lend_seconds: How long a Worker may grant slots that it borrowed, 0.1 to 10. 0: not at all.
            weights: What keys are given beside each other while they wait, 1 to 1,000. Of others 1.
            starve_after_seconds: How long a waiter is patient with a higher priority. 0: for ever. None: 60.
            region: Where it shall live, once it is made. A limit never moves.
        """
        asked = self._configuring(
            path_of(name),
            limit,
            slot_decay_per_second,
            window,
            active,
            enforce,
            lend_seconds,
            weights,
            starve_after_seconds,
            region,
        )
        return await asyncio.wrap_future(asked)

    async def delete(self, name: str) -> bool:
        """Deletes a limit with its leases and its line. Answers whether there was one."""
        return await asyncio.wrap_future(self._deleting(path_of(name), "unknown_limit"))

    async def configure_policy(
        self,
        pattern: str,
        limit: int,
        *,
        slot_decay_per_second: float = 0,
        window: Window | None = None,
        active: bool = True,
        enforce: bool = True,
        lend_seconds: float = 0,
        weights: Mapping[str, int] | None = None,
        starve_after_seconds: float | None = None,
        region: Region | None = None,
        idle_seconds: float | None = None,
    ) -> Policy:
        """Creates a policy, or replaces its settings: those of every name that starts like its pattern.

        Args:
            pattern: A literal prefix and one closing `*`, as `login:*`. Or one exact name, which counts before any.
            limit: Slots of each name, and the other settings as `configure` takes them.
            idle_seconds: How long a name is kept once it is idle and empty, 1 to 604,800. None: 300.
        """
        asked = self._configuring(
            path_of(pattern, "policies"),
            limit,
            slot_decay_per_second,
            window,
            active,
            enforce,
            lend_seconds,
            weights,
            starve_after_seconds,
            region,
            idle_seconds,
        )
        return await asyncio.wrap_future(asked)

    async def policies(self) -> list[Policy]:
        """All policies, in the order of their patterns."""
        return await asyncio.wrap_future(self._listing_policies())

    async def delete_policy(self, pattern: str) -> bool:
        """Deletes a policy. Answers whether there was one; its keys go as they are idle."""
        return await asyncio.wrap_future(self._deleting(path_of(pattern, "policies"), "unknown_policy"))

    async def inspect(self, name: str) -> LimitInfo:
        """Shows a limit: settings, slots in use, who holds and who waits."""
        return await asyncio.wrap_future(self._inspecting(name))


_environment = Headgate()
concurrency = _environment.concurrency
rate_limit = _environment.rate_limit
