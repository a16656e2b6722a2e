"""From the wish for slots to the verdict.

A request has one id, made here, from the first ask to the verdict, so that a connection may break at any point: the
same id again is the same place in line, or the same lease. When its caller stops waiting, that id is withdrawn.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, cast
from urllib.parse import quote

from ._answers import Problem, Slots
from ._engine import Engine
from ._giveback import give_back
from ._names import checked_number, checked_text, checked_whole
from ._timers import FOREVER, within
from ._transport import (
    ANSWER_SECONDS,
    REACH_SECONDS,
    Interruption,
    Transport,
    backoff_seconds,
    failure,
    log,
    parsed,
    silence,
)
from .errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    HeadgateError,
    HeadgateUnreachableError,
    listed,
)

#: Silence that means the connection is dead; far back in line a heartbeat comes every 15 s.
SILENCE_SECONDS = 35.0
#: The first places in line, where a heartbeat comes every second: slots must not be offered to the dead for long.
NEAR = 16
NEAR_SILENCE_SECONDS = 10.0
#: How long a request that the service has answered before is taken up again, one failure after the other.
RESUME_SECONDS = 30.0
#: How long one that does not wait for slots tries to reach a service that it has not heard of.
REACH_AT_ONCE_SECONDS = 1.0
#: A connection that lasted so long was sound, and its end is no reason to slow down.
SOUND_SECONDS = 1.0
#: How long the end of a stream may take after the verdict.
DRAIN_SECONDS = 5.0
#: Waiting in one plain answer: proxies that cut what is quiet do so after 30 s or more.
PLAIN_WAIT_SECONDS = 25.0
#: After so long the next one is asked for, under the same id, so that the place in line is never given up.
PLAIN_STEP_SECONDS = 20.0
#: How long the one before is kept beside the next, which stands in its place by then.
HANDOVER_SECONDS = 2.0
#: The default of a lease: how long a holder may be unheard before its slots come back.
LEASE_SECONDS = 60.0
#: The shortest wait in line of a retry.
RETRY_SECONDS = 0.1
#: Longest bounded wait that the service takes.
WAIT_MAX_SECONDS = 31_536_000
#: Longest line of an answer; a lease of sixteen long names has a tenth of it.
LINE_BYTES = 262_144

Mode = Literal["concurrency", "rate_limit"]
OnError = Literal["raise", "open"]


@dataclass(frozen=True)
class Wish:
    """What a caller wants, and for how long."""

    slots: Slots
    mode: Mode
    rate: Slots | None = None
    timeout_seconds: float | None = None
    max_retries: int | None = None
    lease_seconds: float = LEASE_SECONDS
    create_if_missing: bool = True
    strict: bool = False
    holder: str | None = None
    settle_seconds: float | None = None
    at_most: bool = False
    priority: int | None = None
    key: str | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        checked_number(self.timeout_seconds or 0, "timeout_seconds")
        checked_number(self.max_retries or 0, "max_retries")
        checked_number(self.lease_seconds, "lease_duration")
        checked_number(self.settle_seconds or 0, "settle_seconds")
        if self.holder is not None:
            checked_text(self.holder, "The holder")
        if self.key is not None:
            checked_text(self.key, "The key")
        if self.priority is not None:
            checked_whole(self.priority, 0, "The priority")
        if self.on_error not in ("raise", "open"):
            raise ValueError(f'`on_error` must be "raise" or "open", not {self.on_error!r}.')

    def to_request(self) -> dict[str, Any]:
        request: dict[str, Any] = {"id": str(uuid.uuid4()), "names": self.slots, "mode": self.mode}
        if self.mode == "concurrency":
            request["leaseSeconds"] = self.lease_seconds
        options = {
            "rate": self.rate,
            "createIfMissing": None if self.create_if_missing else False,
            "strict": self.strict or None,
            "holder": self.holder,
            "settleSeconds": self.settle_seconds,
            "atMost": self.at_most or None,
            "priority": self.priority,
            "key": self.key,
        }
        return request | {name: value for name, value in options.items() if value is not None}


@dataclass
class Grant:
    record: dict[str, Any]
    #: Whether the grant stands as it was heard. False when it may be older than it seems, because it answers a second
    #: ask, or undone already, because its connection broke so soon that the service took its caller for gone.
    sound: asyncio.Task[bool] | bool


@dataclass
class Denial:
    problem: Problem

    @property
    def is_denied(self) -> bool:
        """Whether asking again can help."""
        return self.problem.get("code") == "denied"


async def obtain(engine: Engine, transport: Transport, wish: Wish) -> Grant | None:
    """Gets the slots, or raises why not. None: the service cannot be reached, and `on_error` says to go on."""
    ask = _Ask(engine, transport, wish)
    timeout = FOREVER if wish.timeout_seconds is None else wish.timeout_seconds

    def timed_out() -> AcquireConcurrencySlotTimeoutError:
        return AcquireConcurrencySlotTimeoutError(wish.slots, timeout, ask.position)

    try:
        # 0 asks once, and has the time that an answer takes.
        verdict = await within(_asked(ask, wish, timeout), timeout or FOREVER, timed_out)
        if isinstance(verdict, Grant):
            transport.note_unconfigured(verdict.record.get("limits", []))
            return verdict
        if verdict.is_denied and wish.max_retries is None and timeout < FOREVER:
            raise timed_out()
        raise ConcurrencySlotAcquisitionError(wish.slots, verdict.problem)
    except (AcquireConcurrencySlotTimeoutError, HeadgateUnreachableError, asyncio.CancelledError) as error:
        unreached = isinstance(error, HeadgateUnreachableError) or not ask.heard
        # Sent before anybody learns of the end, so that it is on its way even if the caller goes at once.
        engine.errand(ask.withdraw())
        if isinstance(error, HeadgateUnreachableError):
            error.names = wish.slots
        if wish.on_error == "open" and unreached and not isinstance(error, asyncio.CancelledError):
            log.warning("work goes on without a limit on %s: %s", listed(wish.slots), error)
            return None
        raise


async def _asked(ask: _Ask, wish: Wish, timeout: float) -> Grant | Denial:
    verdict = await ask.verdict(timeout if wish.max_retries is None else 0)
    left = (wish.max_retries or 0) if timeout > 0 else 0
    while left > 0 and isinstance(verdict, Denial) and verdict.is_denied:
        left -= 1
        verdict = await ask.verdict(max(RETRY_SECONDS, verdict.problem.get("retryAfterSeconds", 0)))
    return verdict


class _Ask:
    """One request, asked as often as it takes."""

    def __init__(self, engine: Engine, transport: Transport, wish: Wish) -> None:
        self._engine = engine
        self._transport = transport
        self._wish = wish
        self._request = wish.to_request()
        #: The service has answered this request.
        self.heard = False
        #: The last known place in line.
        self.position: int | None = None
        #: The request was sent, so it may have been granted, whether or not an answer came.
        self._sent = False
        self._heard_at = -1.0

    async def verdict(self, wait_seconds: float) -> Grant | Denial:
        """Asks until there is a verdict, resuming after every interruption. 0: without waiting in line."""
        wait_until = monotonic() + wait_seconds
        asks = failures = 0
        failing_since = 0.0
        while True:
            started_at = monotonic()
            asks += 1
            try:
                grant = await self._ask(wait_until if wait_seconds > 0 else None)
            except HeadgateError as error:
                if error.code != "id_in_use" or failures == 0:
                    return Denial(cast("Problem", error.problem))
                # It was granted while nobody listened, and has ended since: this is a new request.
                self._request["id"] = str(uuid.uuid4())
                failures = 0
                continue
            except Interruption as error:
                self.heard = self.heard or error.problem is not None
                # A service that knows us was there until now; of another even the first silence counts.
                if failures == 0 or self._heard_at > started_at:
                    failing_since = monotonic() if self.heard else started_at
                failures = 1 if self._heard_at > started_at + SOUND_SECONDS else failures + 1
                pause_seconds = backoff_seconds(failures, error)
                reach_seconds = REACH_SECONDS if wait_seconds > 0 else REACH_AT_ONCE_SECONDS
                bound = RESUME_SECONDS if self.heard else reach_seconds
                if monotonic() + pause_seconds - failing_since > bound:
                    # The limit's own line is full: that is a refusal, not a failure of the service.
                    if error.problem is not None and error.problem.get("code") == "queue_full":
                        return Denial(error.problem)
                    raise self._transport.unreachable(asks, error) from error
                await asyncio.sleep(pause_seconds)
                continue
            if asks > 1:
                grant.sound = False
            return grant

    async def withdraw(self) -> None:
        """Takes the request back: it leaves the line, or gives back what it was granted, whichever is true by then."""
        # What was taken by rate goes back too: nothing was made of it.
        names = {**self._wish.slots, **(self._wish.rate or {})}
        # A service that never answered most likely never heard of it.
        ends_at = monotonic() + (self._wish.lease_seconds if self.heard else REACH_SECONDS)
        failed = await give_back(self._engine, self._transport, {"id": self._request["id"], "names": names}, ends_at)
        # That a service never answered is told by another error.
        if failed is not None and self.heard:
            log.warning("a request could not be withdrawn, and may hold slots until its lease ends: %s", failed)

    async def _ask(self, wait_until: float | None) -> Grant:
        """Asks once, in the way that this transport has. None: without waiting in line."""
        if wait_until is None:
            record = await self._transport.once(self._engine, "POST", "/v1/acquire", self._here())
            self.heard = True
            return Grant(record, True)
        if self._transport.holds_back:
            return await self._wait_plainly(wait_until, None)
        return await self._wait(wait_until)

    def _here(self) -> dict[str, Any]:
        """The request for an answer here and now. One that was never sent may be denied without asking the limit."""
        request = {**self._request, "waitSeconds": 0}
        if not self._sent:
            request["firstAttempt"] = True
        self._sent = True
        return request

    def _waiting(self, wait_seconds: float) -> dict[str, Any]:
        self._sent = True
        if wait_seconds > WAIT_MAX_SECONDS:
            return self._request
        return {**self._request, "waitSeconds": math.ceil(max(0.0, wait_seconds) * 1_000) / 1_000}

    async def _wait_once(self, request: dict[str, Any], answer_seconds: float) -> Grant:
        record = await self._transport.wait(self._engine, "/v1/acquire", request, answer_seconds)
        self.heard = True
        return Grant(record, True)

    async def _wait(self, wait_until: float) -> Grant:
        """Asks once for a stream, and follows it to the verdict. One that is silent may be held back on its way."""
        asked_at = monotonic()
        stream = _Stream(self._engine, self._transport, self._waiting(wait_until - asked_at))
        patience_seconds = ANSWER_SECONDS
        kept = False
        try:
            while True:
                try:
                    event = await stream.next(patience_seconds)
                except _Silence:
                    if self._heard_at >= asked_at or not await self._is_there():
                        raise
                    self._transport.note_holding_back()
                    kept = True
                    return await self._wait_plainly(wait_until, stream)
                self.heard = True
                self._heard_at = monotonic()
                kind = event.get("event")
                if kind == "queued":
                    self.position = event.get("position")
                near = self.position is not None and self.position <= NEAR
                patience_seconds = NEAR_SILENCE_SECONDS if near else SILENCE_SECONDS
                if kind == "granted":
                    kept = True
                    return Grant(event["lease"], self._engine.spawn(stream.drained()))
                if kind == "denied":
                    raise failure(event["problem"])
        finally:
            # To end it at a grant would tell the service that its caller has gone, just when it was given the slots.
            if not kept:
                stream.cancel()

    async def _is_there(self) -> bool:
        """Whether the first of the limits answers a plain question, whatever it says."""
        name = quote(next(iter(self._wish.slots)), safe="")
        try:
            await self._transport.once(self._engine, "GET", f"/v1/limits/{name}/leases?count=1")
        except HeadgateError:
            pass
        except Interruption:
            return False
        self.heard = True
        self._heard_at = monotonic()
        return True

    async def _wait_plainly(self, wait_until: float, stream: _Stream | None) -> Grant:
        """Waits by plain answers, each asked for before the one before ends, under one id.

        `stream` is what stands in line already.
        """
        before: asyncio.Task[Grant] | None = None
        while True:
            left_seconds = max(0.0, wait_until - monotonic())
            following = self._stand_in_line(min(left_seconds, PLAIN_WAIT_SECONDS))
            last = left_seconds <= PLAIN_WAIT_SECONDS
            standing = [each for each in (stream, before, following) if each is not None]
            try:
                grant = await _first(following, before, HANDOVER_SECONDS)
                if grant is None:
                    for each in standing[:-1]:
                        each.cancel()
                    grant = await _first(following, None, FOREVER if last else PLAIN_STEP_SECONDS - HANDOVER_SECONDS)
                if grant is not None:
                    # More than one call may hear of the grant.
                    grant.sound = False
                    return grant
                if not await self._is_there():
                    raise silence(PLAIN_STEP_SECONDS)()
                stream, before = None, following
            except BaseException as error:
                for each in standing:
                    each.cancel()
                denied = isinstance(error, HeadgateError) and error.code == "denied"
                if not denied or monotonic() >= wait_until:
                    raise
                # This program slept for longer than it said that it would wait: it stands in line anew.
                stream, before = None, None

    def _stand_in_line(self, wait_seconds: float) -> asyncio.Task[Grant]:
        request = self._waiting(wait_seconds)
        return self._engine.spawn(self._wait_once(request, wait_seconds + ANSWER_SECONDS))


async def _first(following: asyncio.Task[Grant], before: asyncio.Task[Grant] | None, seconds: float) -> Grant | None:
    """The grant of either, or the failure of the next one; None when neither comes in time.

    A denial of the one before is none: the next stands on in its place.
    """
    until = monotonic() + seconds
    pending = {following} if before is None else {following, before}
    while pending:
        timeout = None if seconds == FOREVER else max(0.0, until - monotonic())
        done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for each in done - {following}:
            if not each.cancelled() and each.exception() is None:
                return each.result()
        if following in done:
            return following.result()
        if not done:
            return None
    return None


class _Silence(Interruption):
    """Nothing came for so long; what is asked for may still come."""


class _Stream:
    """The lines of one answer, read by a task of its own, so that silence can be noticed without ending it."""

    def __init__(self, engine: Engine, transport: Transport, request: dict[str, Any]) -> None:
        self._engine = engine
        self._lines: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self._reading = engine.spawn(self._read(transport, request))

    async def next(self, patience_seconds: float) -> dict[str, Any]:
        """The next event; raises why there is none."""
        loop = asyncio.get_running_loop()
        late = _Silence(f"silence for {patience_seconds:g} s")
        timer = loop.call_later(patience_seconds, self._lines.put_nowait, late)
        try:
            item = await self._lines.get()
        finally:
            timer.cancel()
        if isinstance(item, Exception):
            raise item
        return item

    async def drained(self) -> bool:
        """Whether it came to its end as it should, within `DRAIN_SECONDS`."""
        await asyncio.wait({self._reading}, timeout=DRAIN_SECONDS)
        if not self._reading.done():
            self._reading.cancel()
            return False
        return not self._reading.cancelled() and self._reading.result()

    def cancel(self) -> None:
        self._reading.cancel()

    async def _read(self, transport: Transport, request: dict[str, Any]) -> bool:
        """Answers whether it was read to its end."""
        try:
            opening = transport.open(self._engine, "POST", "/v1/acquire", request, "application/x-ndjson", waits=True)
            async with opening as response:
                async for line in _lines_of(response.aiter_bytes()):
                    if line.strip():
                        self._lines.put_nowait(parsed(line))
            self._lines.put_nowait(Interruption("the answer ended without a verdict"))
        except Exception as error:
            self._lines.put_nowait(error)
            return False
        return True


async def _lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        if len(rest) > LINE_BYTES:
            raise Interruption(f"a line of more than {LINE_BYTES} bytes")


def names_in(record: dict[str, Any], field: str) -> Slots:
    """The slots that an answer tells of."""
    return cast("Slots", record.get(field) or {})
