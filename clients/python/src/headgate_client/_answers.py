"""What the service answers with, as `docs/http.md` has it: JSON as it came, so its keys are the wire's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

#: Slots per name.
Slots = dict[str, int]


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
    nextSlotSeconds: float
    #: Present, and true, when the name does not exist and was skipped.
    missing: bool
    #: Present, and false, when nobody has configured the name, neither itself nor by a policy.
    configured: bool
    #: In a denial: the place in line.
    position: int | None


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


class LimitSummary(TypedDict):
    """A limit as `configure` answers it; `docs/http.md` and the reference at `/docs` tell of further fields."""

    name: str
    id: str
    limit: int
    slotDecayPerSecond: float
    active: bool
    activeSlots: int
    remaining: int
    leaseCount: int
    waitingCount: int
    totals: dict[str, int]


class LimitInfo(LimitSummary):
    """A limit as `inspect` shows it, with the first 100 who hold and the first 100 who wait."""

    leases: list[LeaseInfo]
    waiting: list[WaiterInfo]


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


def is_enforced(limits: list[LimitStatus]) -> bool:
    """Whether all of these limits count."""
    return bool(limits) and all(limit["enforced"] for limit in limits)
