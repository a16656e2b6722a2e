"""What a caller sees of its lease; each face adds how it is released."""

from __future__ import annotations

from ._answers import LimitStatus, Slots
from ._hold import Hold
from .errors import LeaseLostError


class AnyLease:
    """Slots, held until they are released, and renewed in a thread until then."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    @property
    def id(self) -> str:
        """Made by the client; names the lease everywhere."""
        return self._hold.id

    @property
    def names(self) -> Slots:
        """Slots held of each limit. Names that were skipped, because they do not exist, are not in it."""
        return self._hold.names

    @property
    def rate(self) -> Slots:
        """Slots taken by rate in the same request; they come back by themselves."""
        return self._hold.rate

    @property
    def fence(self) -> dict[str, int]:
        """Of each limit a number that rises with every lease of that name and with no renewal.

        Send it with what is written, and a store can refuse the holder of an older one. Empty when nothing is held.
        """
        return self._hold.fence

    @property
    def limits(self) -> list[LimitStatus]:
        """The limits as they were at the grant."""
        return self._hold.limits

    @property
    def waited_seconds(self) -> float:
        """How long the slots took to come."""
        return self._hold.waited_seconds

    @property
    def expires_at(self) -> str | None:
        """When the slots come back unless the lease is renewed (ISO 8601); None when it holds nothing."""
        return self._hold.expires_at

    @property
    def enforced(self) -> bool:
        """Whether every limit that was asked for holds the work back.

        False when one of them is switched off or does not exist, when the service could not be reached
        (`on_error="open"`), when the lease was lost, and without names.
        """
        return self._hold.enforced

    @property
    def lost(self) -> LeaseLostError | None:
        """Why the lease ended while it was held; None as long as it stands."""
        return self._hold.lost

    def check(self) -> None:
        """Raises `LeaseLostError` once the lease is lost: for the loops of long work."""
        if self._hold.lost is not None:
            raise self._hold.lost

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.names} until {self.expires_at}>"
