"""What both faces of the client share: a service, the wishes that callers have of it, and what they ask besides."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Literal
from urllib.parse import quote

from ._answers import CheckAnswer, LimitInfo, LimitSummary, Policy, Region, Settled, Window
from ._engine import engine
from ._names import Names, Occupy, actual_of, checked_text, names_of, slots_of
from ._transport import LOCAL_URL, Transport
from ._wait import Mode
from .errors import HeadgateError


class Gate:
    """A service, and what may be asked of it; the faces wait for the futures, each in its way."""

    def __init__(
        self, url: str | None = None, token: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self._headers = dict(headers or {})
        self._fixed = None if url is None else Transport(url, token, self._headers)
        if url is None and token is not None:
            raise ValueError("A token is for one service: give its url too, or set HEADGATE_URL and HEADGATE_TOKEN.")
        self._read: tuple[tuple[str, str | None], Transport] | None = None

    @property
    def transport(self) -> Transport:
        """To the url that was given, or to the one that the environment names now."""
        if self._fixed is not None:
            return self._fixed
        named = (os.environ.get("HEADGATE_URL") or LOCAL_URL, os.environ.get("HEADGATE_TOKEN") or None)
        # Without a lock, which a fork could find held for ever: two that are made at once are as good as one.
        read = self._read
        if read is None or read[0] != named:
            read = self._read = (named, Transport(*named, self._headers))
        return read[1]

    def _renewing(self, lease_id: str, names: Names, lease_duration: float | None) -> Future[Any]:
        body: dict[str, Any] = {"id": checked_text(lease_id, "The id of a lease"), "names": _by_name(names)}
        if lease_duration is not None:
            body["leaseSeconds"] = lease_duration
        return self._call("POST", "/v1/renew", body)

    def _releasing(self, lease_id: str, names: Names, actual: Mapping[str, int] | None) -> Future[Any]:
        body: dict[str, Any] = {"id": checked_text(lease_id, "The id of a lease"), "names": _by_name(names)}
        if actual is not None:
            body["actual"] = actual_of({}, actual)
        return self._call("POST", "/v1/release", body)

    def _settling(self, request_id: str, actual: Mapping[str, int]) -> Future[Settled]:
        body = {"id": checked_text(request_id, "The id of a request"), "actual": actual_of({}, actual)}
        return self._call("POST", "/v1/settle", body)

    def _checking(
        self, names: Names, occupy: Occupy, mode: Mode, rate: Names | None, create_if_missing: bool, strict: bool
    ) -> Future[CheckAnswer]:
        body: dict[str, Any] = {"names": slots_of(names, occupy), "mode": mode}
        if rate is not None:
            body["rate"] = slots_of(rate, 1, "rate")
        return self._call("POST", "/v1/check", {**body, "createIfMissing": create_if_missing, "strict": strict})

    def _pausing(self, name: str, seconds: float) -> Future[LimitSummary]:
        return self._call("POST", f"{path_of(name)}/pause", {"seconds": seconds})

    def _configuring(
        self,
        path: str,
        limit: int,
        slot_decay_per_second: float,
        window: Window | None,
        active: bool,
        enforce: bool,
        lend_seconds: float,
        weights: Mapping[str, int] | None,
        starve_after_seconds: float | None,
        region: Region | None,
        idle_seconds: float | None = None,
    ) -> Future[Any]:
        body: dict[str, Any] = {"limit": limit, "slotDecayPerSecond": slot_decay_per_second, "window": window}
        body |= {"active": active, "enforce": enforce, "lendSeconds": lend_seconds, "region": region}
        if weights is not None:
            body["weights"] = dict(weights)
        if starve_after_seconds is not None:
            body["starveAfterSeconds"] = starve_after_seconds
        if idle_seconds is not None:
            body["idleSeconds"] = idle_seconds
        return self._call("PUT", path, body)

    def _deleting(self, path: str, missing: str) -> Future[bool]:
        own, transport = engine(), self.transport

        async def delete() -> bool:
            try:
                await transport.call(own, "DELETE", path, None)
            except HeadgateError as error:
                if error.code != missing:
                    raise
                return False
            return True

        return own.run(delete)

    def _listing_policies(self) -> Future[list[Policy]]:
        own, transport = engine(), self.transport

        async def listing() -> list[Policy]:
            return (await transport.call(own, "GET", "/v1/policies", None))["policies"]

        return own.run(listing)

    def _inspecting(self, name: str) -> Future[LimitInfo]:
        return self._call("GET", path_of(name))

    def _call(self, method: str, path: str, body: object = None) -> Future[Any]:
        own, transport = engine(), self.transport
        return own.run(lambda: transport.call(own, method, path, body))


def _by_name(names: Names) -> Any:
    return dict(names) if isinstance(names, Mapping) else names_of(names)


def path_of(name: str, kind: Literal["limits", "policies"] = "limits") -> str:
    """A URL has no place for `.` and `..`: they would be read as a folder, even when escaped."""
    if checked_text(name, "A name" if kind == "limits" else "A pattern") in ("", ".", ".."):
        raise ValueError(f'A {"limit" if kind == "limits" else "policy"} cannot be called "{name}" here.')
    return f"/v1/{kind}/{quote(name, safe='')}"


def checked_work(work: Any, is_async: bool) -> None:
    """What a decorator can hold slots around: it must have ended when its call does."""
    right = "an `async def` function" if is_async else "a plain function"
    other = "headgate_client.sync" if is_async else "headgate_client.asyncio"
    generates = inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work)
    if not callable(work) or generates or inspect.iscoroutinefunction(work) is not is_async:
        raise TypeError(
            f"`concurrency` decorates {right} here, not {work!r}; see {other}, or use it in a `with` block."
        )
