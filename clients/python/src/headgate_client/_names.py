"""What a caller names: checked before anything is asked, for a mistake here would run work without a limit."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, cast

from ._answers import Actual, Slots
from .errors import quoted

#: The limits to take slots of: one name, several, or slots per name. Repeated names count once; none: nothing is asked.
Names = str | list[str] | tuple[str, ...] | AbstractSet[str] | Mapping[str, int]
#: Slots of each name, or slots per name (names left out: 1).
Occupy = int | Mapping[str, int]


def slots_of(names: Names, occupy: Occupy = 1, option: str = "names") -> Slots:
    """Slots per name, whichever way they were said. A name that appears in `occupy` alone is a mistake."""
    every = names_of(names, option)
    own: Mapping[str, int] = names if isinstance(names, Mapping) else {}
    each: Mapping[str, int] = occupy if isinstance(occupy, Mapping) else {}
    rest = 1 if isinstance(occupy, Mapping) else occupy
    for name in each:
        if name not in every:
            raise ValueError(f"`occupy` speaks of {quoted(str(name))}, which is not among the names.")
    slots = {name: own.get(name, each.get(name, rest)) for name in every}
    for given in [*slots.values(), rest]:
        checked_whole(given, 1, "The slots of a name")
    return slots


def names_of(names: Any, option: str = "names") -> list[str]:
    """The names in whichever form, each once."""
    if isinstance(names, str):
        every: list[Any] = [names]
    elif isinstance(names, (list, tuple, Mapping, AbstractSet)):
        every = list(cast("list[Any]", names))
    else:
        raise TypeError(f"`{option}` must be a name, a list of names, or a mapping of names to slots, not {names!r}.")
    for name in every:
        checked_text(name, "A name")
    return list(dict.fromkeys(every))


def checked_whole(value: Any, least: int, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, not {value!r}.")
    if value < least:
        raise ValueError(f"{what} must be {least} or more, not {value}.")


def actual_of(taken: Slots, actual: Actual) -> Slots:
    """What estimates came to, per name: whole slots, from 0."""
    each = dict(actual) if isinstance(actual, Mapping) else dict.fromkeys(taken, actual)
    for slots in [*each.values(), 0 if isinstance(actual, Mapping) else actual]:
        checked_whole(slots, 0, "What an estimate came to")
    return each


def checked_text(text: Any, what: str) -> str:
    """Text of whole characters: half of a surrogate pair has no bytes, so it cannot be sent."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a string, not {text!r}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be Unicode without half of a surrogate pair, not {text!r}.") from None
    return text


def checked_number(value: Any, what: str) -> None:
    """A number from 0, and not NaN."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number, not {value!r}.")
    if not value >= 0:
        raise ValueError(f"{what} must be 0 or more, not {value}.")


def holder_of(holder: Any) -> str | None:
    """Who asks, as text: a kind and an id, which Prefect's client takes, become what its own wire makes of them."""
    if holder is None or isinstance(holder, str):
        return holder
    if isinstance(holder, Mapping):
        told = cast("Mapping[str, Any]", holder)
        kind, key = told.get("type"), told.get("id")
    else:
        kind, key = getattr(holder, "type", None), getattr(holder, "id", None)
    if kind is None or key is None:
        raise TypeError(f"`holder` must be a string, or have a `type` and an `id`, not {holder!r}.")
    return f"{kind}:{key}"
