"""What the service answers with, as `docs/http.md` has it: JSON as it came, so its keys are the wire's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, TypedDict

#: Slots per name.
Slots = dict[str, int]

#: Where a limit can be asked to live: the location hints of Cloudflare.
Region = Literal["wnam", "enam", "sam", "weur", "eeur", "apac", "apac-ne", "apac-se", "oc", "afr", "me"]


class _Window(TypedDict):
    #: A unit of the calendar, or seconds.
    every: Literal["minute", "hour", "day", "week", "month", "year"] | int


class Window(_Window, total=False):
    """When slots come back; what is left out is as by default."""

    #: By its IANA name, from days on. Default `UTC`.
    timeZone: str
    #: The time of day at which periods begin, `HH:MM`, from days on. Default `00:00`.
    at: str
    #: Of a week a weekday (default `monday`), of a month a number (default 1), of a year `MM-DD` (default `01-01`).
    startsOn: str | int | None
    #: Every so long back from each moment, in place of periods. Default false.
    sliding: bool


class _Status(TypedDict):
    name: str
    limit: int
    activeSlots: int
    remaining: int
    #: False when the limit is switched off or does not exist: nothing was counted.
    enforced: bool


class LimitStatus(_Status, total=False):
    """A limit as an answer to an acquire shows it."""

    slotDecayPerSecond: float
    #: With a window: how long it is, or the period that it is in.
    windowSeconds: float
    #: With a window of the calendar: when its period ends.
    resetsAt: str
    nextSlotSeconds: float
    #: Present while the limit is paused: nothing is granted before.
    pausedUntil: str
    #: Present, and true, when the limit is not enforced and would have denied this request.
    wouldDeny: bool
    #: Present, and true, when the name does not exist and was skipped.
    missing: bool
    #: Present, and false, when nobody has configured the name, neither itself nor by a policy.
    configured: bool
    #: In a denial: the place in line.
    position: int | None
    #: In a denial: after so long it is worth asking again. None where nothing stood in the way.
    retryAfterSeconds: float | None


class _Problem(TypedDict):
    type: str
    title: str
    status: int
    detail: str
    #: Why, from the closed list at the end of `docs/http.md`.
    code: str


class Problem(_Problem, total=False):
    """Why a call was refused (RFC 9457)."""

    retryAfterSeconds: float
    limits: list[LimitStatus]
    errors: list[dict[str, str]]


class LeaseInfo(TypedDict):
    """A lease as `inspect` shows it."""

    id: str
    slots: int
    holder: str | None
    #: As its holder has it; None of a lease that is older than fences.
    fence: int | None
    since: str
    expiresAt: str


class WaiterInfo(TypedDict):
    """A waiter as `inspect` shows it."""

    id: str
    slots: int
    holder: str | None
    since: str
    #: 1 is next.
    position: int
    #: 0 to 9; a higher one is served first.
    priority: int
    #: Whose turn it takes; None: the common one.
    key: str | None


class _LimitSummary(TypedDict):
    name: str
    id: str
    limit: int
    slotDecayPerSecond: float
    active: bool
    #: False: it says what it would deny, and denies nothing.
    enforce: bool
    #: Where it was asked to live when it was made.
    region: Region | None
    #: Nothing is granted before.
    pausedUntil: str | None
    activeSlots: int
    remaining: int
    leaseCount: int
    waitingCount: int
    totals: dict[str, int]


class LimitSettings(TypedDict, total=False):
    """What is said only where it is set."""

    #: In place of decay.
    window: Window | None
    #: Where slots may be lent to Workers: for how long.
    lendSeconds: float
    #: What keys are given beside each other while they wait; of others 1.
    weights: dict[str, int]
    #: How long a waiter is patient with a higher priority, where that is not the usual.
    starveAfterSeconds: float


class LimitSummary(_LimitSummary, LimitSettings, total=False):
    """A limit as `configure` answers it; `docs/http.md` and the reference at `/docs` tell of further fields."""

    #: With a window of the calendar: when its period ends.
    resetsAt: str
    #: Slots that are lent and not accounted for yet; they are among the active ones.
    lentSlots: int


class LimitInfo(LimitSummary):
    """A limit as `inspect` shows it, with the first 100 who hold and the first 100 who wait."""

    leases: list[LeaseInfo]
    waiting: list[WaiterInfo]


class Policy(LimitSettings):
    """A policy as `configure_policy` and `policies` answer it."""

    #: A literal prefix and one closing `*`, or one exact name.
    pattern: str
    limit: int
    slotDecayPerSecond: float
    active: bool
    enforce: bool
    region: Region | None
    #: How long a key is kept once it is idle and empty.
    idleSeconds: float
    updatedAt: str
    #: The token that set it, by its name; None: no token was needed.
    updatedBy: str | None


class Settled(TypedDict):
    """What `settle` answers."""

    id: str
    #: What each name is settled with.
    actual: Slots
    limits: list[LimitStatus]


class _CheckAnswer(TypedDict):
    #: Whether every limit would grant its slots at once.
    allowed: bool
    #: Each as a denial shows it.
    limits: list[LimitStatus]


class CheckAnswer(_CheckAnswer, total=False):
    """What `check` answers; when it is not allowed, with what the refusal would say."""

    code: str
    detail: str
    retryAfterSeconds: float


#: What an estimate came to: slots of each name, or one number for each of them.
Actual = int | Mapping[str, int]


@dataclass(frozen=True)
class Receipt:
    """What `rate_limit` answers with. Nothing is held: the slots come back by themselves."""

    id: str
    #: Slots taken of each name. Names that were skipped, because they do not exist, are not in it.
    names: Slots
    waited_seconds: float
    limits: list[LimitStatus]
    #: Whether every limit that was asked for counted the slots.
    enforced: bool
    _settling: Callable[[Actual], Future[Settled]] = field(repr=False, compare=False)


def is_enforced(limits: list[LimitStatus]) -> bool:
    """Whether all of these limits count."""
    return bool(limits) and all(limit["enforced"] for limit in limits)
