"""Slots that are held: renewed while they are needed, and given back once. All of it on the engine's thread."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any

from ._answers import Actual, LimitStatus, Settled, Slots, is_enforced
from ._engine import Engine, engine, uncancellable
from ._giveback import give_back
from ._names import actual_of
from ._timers import within
from ._transport import ANSWER_SECONDS, Interruption, Transport, backoff_seconds, log, silence
from ._wait import Grant, Wish, names_in, obtain
from .errors import HeadgateError, HeadgateUnreachableError, LeaseLostError

#: Renewed after this part of its length, a lease outlives two renewals that hang, and many that fail.
RENEW_AT = 1 / 3
#: The part of its length after which one try of a renewal is given up.
RENEW_PATIENCE = 1 / 4
#: Longest time for giving back: work that is done does not wait for a service that is gone. It goes on behind its back.
RELEASE_SECONDS = 5.0


class Hold:
    """A lease and what keeps it; without a grant it holds nothing."""

    def __init__(self, own: Engine, transport: Transport, wish: Wish, grant: Grant | None) -> None:
        record = grant.record if grant else {}
        self.id: str = record.get("id") or str(uuid.uuid4())
        self.names: Slots = names_in(record, "names")
        self.rate: Slots = names_in(record, "rate")
        self.fence: dict[str, int] = record.get("fence", {})
        self.limits: list[LimitStatus] = record.get("limits", [])
        self.waited_seconds: float = record.get("waitedSeconds", 0)
        self.expires_at: str | None = None
        self.enforced = is_enforced(self.limits)
        self.lost: LeaseLostError | None = None
        #: Told on the engine's thread when the lease is lost.
        self.on_lost: Callable[[], None] | None = None
        self._engine = own
        self._transport = transport
        self._lease_seconds = wish.lease_seconds
        #: When the slots come back unless renewed, by our own clock, and never later than by the service's.
        self._ends_at = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        #: The giving back that goes on after a release has failed.
        self._later: asyncio.Task[Any] | None = None
        if grant is None or not self.names or wish.mode == "rate_limit":
            return
        self.expires_at = record.get("expiresAt")
        self._ends_at = monotonic() + self._lease_seconds
        self._keeping = own.spawn(self._keep(grant.sound))

    @property
    def is_own(self) -> bool:
        """Whether this process took it. A forked child has a copy, and neither renews nor releases it."""
        return self._engine.pid == os.getpid()

    def settle(self, taken: Slots, actual: Actual) -> Future[Settled]:
        """Says what the estimates among `taken` came to. Without any there is nothing to say."""
        own, transport = engine(), self._transport
        each = actual_of(taken, actual)

        async def said() -> Settled:
            if not taken:
                return {"id": self.id, "actual": {}, "limits": []}
            return await transport.call(own, "POST", "/v1/settle", {"id": self.id, "actual": each})

        return own.run(said)

    def release(self, actual: Actual | None = None) -> Future[None]:
        """Gives the slots back, whatever becomes of the caller; once is enough."""
        each = None if actual is None else actual_of(self.rate, actual)
        return self._engine.run(lambda: self.released(each))

    async def released(self, actual: Slots | None = None) -> None:
        if self._releasing is None:
            self._releasing = self._engine.errand(self._release(actual))
        await self._releasing

    async def _release(self, actual: Slots | None) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        if not self.names:
            return
        if self._later is not None:
            self._later.cancel()
        body: dict[str, Any] = {"id": self.id, "names": self.names}
        if actual:
            body["actual"] = actual
        call = self._transport.call(self._engine, "POST", "/v1/release", body, RELEASE_SECONDS)
        try:
            await within(call, RELEASE_SECONDS, silence(RELEASE_SECONDS))
        except HeadgateUnreachableError:
            self._release_later(body)
            raise
        except HeadgateError:
            self._releasing = None  # It may be tried again.
            raise
        except Interruption as error:
            self._release_later(body)
            raise self._transport.unreachable(1, error) from error

    def _release_later(self, body: dict[str, Any]) -> None:
        self._releasing = None
        again = give_back(self._engine, self._transport, body, self._ends_at)
        self._later = self._engine.errand(again)

    async def _keep(self, sound: asyncio.Task[bool] | bool) -> None:
        """Renews until it is released or lost."""
        try:
            first = self._lease_seconds * RENEW_AT
            if isinstance(sound, asyncio.Task):
                # A stream has its end long before, but for the shortest of leases.
                await asyncio.wait({sound}, timeout=first)
                sound = sound.done() and not sound.cancelled() and sound.result()
            if not sound:
                await self._renew()
            while True:
                renew_at = self._ends_at - self._lease_seconds + first
                await asyncio.sleep(max(0.0, renew_at - monotonic()))
                await self._renew()
        except Exception as error:
            self._lose(error)

    async def _renew(self) -> None:
        """Renews once, trying until the lease ends."""
        patience = min(ANSWER_SECONDS, self._lease_seconds * RENEW_PATIENCE)
        last: HeadgateError | Interruption = Interruption("it was not renewed in time")
        body = {"id": self.id, "names": self.names, "leaseSeconds": self._lease_seconds}
        failures = 0
        while True:
            asked_at = monotonic()
            left_seconds = self._ends_at - asked_at
            if left_seconds <= 0:
                raise last
            try:
                answer = await self._transport.once(
                    self._engine, "POST", "/v1/renew", body, min(patience, left_seconds)
                )
            except (HeadgateError, Interruption) as error:
                # Everything but "gone" may pass, such as a token that is being replaced.
                if isinstance(error, HeadgateError) and error.code == "lease_gone":
                    raise
                last = error
            else:
                self.expires_at = answer["expiresAt"]
                self._ends_at = asked_at + self._lease_seconds  # The service counted from later.
                return
            failures += 1
            pause = backoff_seconds(failures, last if isinstance(last, Interruption) else None)
            await asyncio.sleep(max(0.0, min(pause, self._ends_at - monotonic())))

    def _lose(self, cause: Exception) -> None:
        self.enforced = False
        self.lost = LeaseLostError(self.id, self.names, cause)
        if self.on_lost is not None:
            self.on_lost()


class Acquisition:
    """A wish on its way: its caller takes what comes of it, or abandons it, and then it is given back."""

    def __init__(self, transport: Transport, wish: Wish) -> None:
        #: Its caller cannot cancel it, only `abandon` the whole.
        self.hold: Future[Hold] = uncancellable()
        self._engine = engine()
        self._transport = transport
        self._wish = wish
        self._abandoned = False
        self._asking: asyncio.Task[None] | None = None
        self._engine.call(self._start)

    def abandon(self) -> None:
        """The caller has gone. Both this and the grant happen on the engine's thread, so one of them is first."""
        self._engine.call(self._abandon)

    def _start(self) -> None:
        self._asking = self._engine.spawn(self._ask())

    async def _ask(self) -> None:
        try:
            grant = await obtain(self._engine, self._transport, self._wish) if self._wish.slots else None
            self.hold.set_result(Hold(self._engine, self._transport, self._wish, grant))
        except BaseException as error:
            self.hold.set_exception(error)
            if not isinstance(error, Exception):
                raise

    def _abandon(self) -> None:
        if self._abandoned or self._asking is None:
            return
        self._abandoned = True
        if not self._asking.done():
            self._asking.cancel()
        elif self.hold.exception() is None and self._wish.mode == "concurrency":
            self._engine.errand(quietly(self.hold.result()))


async def quietly(hold: Hold) -> None:
    """Releases it where nobody is left to be told that it failed."""
    try:
        await hold.released()
    except HeadgateError as error:
        warn_unreleased(hold, error)


def warn_unreleased(hold: Hold, error: HeadgateError) -> None:
    log.warning("the lease %s could not be released yet; it ends by itself at the latest: %s", hold.id, error)
