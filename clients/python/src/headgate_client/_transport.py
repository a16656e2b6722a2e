"""Requests and their answers: where the service is, what a failure means, and when it is worth another try."""

from __future__ import annotations

import json
import logging
import platform
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from . import __version__
from ._answers import LimitStatus, Problem
from ._engine import Engine
from ._names import checked_text
from ._timers import within
from .errors import HeadgateError, HeadgateUnreachableError, described, quoted

log = logging.getLogger("headgate_client")

#: Where a service that was started on this machine listens.
LOCAL_URL = "http://127.0.0.1:8787"
#: Longest wait for the beginning of an answer; the service answers at once, also when the caller is to wait.
ANSWER_SECONDS = 10.0
#: How long a call is tried again before the service counts as unreachable: a restart takes less.
REACH_SECONDS = 5.0
#: How long a gate asks plainly after it has met a proxy that holds streams back; then it sees whether that is still so.
HELD_BACK_SECONDS = 600.0
#: Names that nobody configured and that were told of; those after them are not.
TOLD_MAX = 1_000
#: Longest answer: a limit with a hundred leases and a hundred waiters has a tenth of it.
ANSWER_BYTES = 1_048_576


class Interruption(Exception):
    """No answer, or none in earnest: worth another try."""

    def __init__(self, message: str, problem: Problem | None = None, retry_after_seconds: float = 0) -> None:
        super().__init__(message)
        #: Of the service's own making, if it answered at all.
        self.problem = problem
        #: When to try again, if it said so.
        self.retry_after_seconds = retry_after_seconds


def backoff_seconds(failures: int, interruption: Interruption | None = None) -> float:
    """The pause before another try: 0.1 s, doubling to 1 s, less a random part; at least what the service asked for."""
    seconds = min(1.0, 0.1 * 2 ** min(failures - 1, 10)) * (1 - random.random() / 2)
    return seconds + (interruption.retry_after_seconds if interruption else 0)


def silence(seconds: float) -> Callable[[], Interruption]:
    return lambda: Interruption(f"silence for {seconds:g} s")


class Transport:
    """One service, and the token for it."""

    def __init__(self, url: str, token: str | None, headers: dict[str, str]) -> None:
        self.url = checked_url(url)
        agent = f"headgate-client/{__version__} (Python {platform.python_version()})"
        self._headers = {"User-Agent": agent, **headers}
        if token:
            if not checked_text(token, "The token").isascii():
                raise ValueError("The token must be ASCII.")
            self._headers["Authorization"] = f"Bearer {token}"
        #: Something on the way holds streams back until then.
        self._held_back_until = float("-inf")
        self._told: set[str] = set()

    @property
    def holds_back(self) -> bool:
        """Whether a proxy on the way is known to hold streams back."""
        return monotonic() < self._held_back_until

    def note_holding_back(self) -> None:
        """A stream was silent, and the service answers all the same."""
        self._held_back_until = monotonic() + HELD_BACK_SECONDS

    def note_unconfigured(self, limits: list[LimitStatus]) -> None:
        """Names that nobody configured hold nobody back, which is most often a mistake: it is said once for each."""
        for limit in limits:
            name = limit.get("name", "")
            if limit.get("configured") is not False or name in self._told or len(self._told) >= TOLD_MAX:
                continue
            self._told.add(name)
            log.warning("nobody configured %s, so it holds nobody back: give it a limit, or a policy", quoted(name))

    @asynccontextmanager
    async def open(
        self, engine: Engine, method: str, path: str, body: object, accept: str, *, waits: bool
    ) -> AsyncGenerator[httpx.Response, None]:
        """One try, without a time limit. Raises `Interruption` if another makes sense, and `HeadgateError` if not.

        `waits`: the answer may take as long as a place in line does.
        """
        headers = {**self._headers, "Accept": accept}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        try:
            with engine.client(waits) as client:
                opening = client.stream(method, self.url + path, headers=headers, content=content)
                async with opening as response:
                    if not response.is_success:
                        problem, ours = _problem_of(response, await body_of(response))
                        raise failure(problem, ours, response.headers.get("Retry-After"))
                    yield response
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            if isinstance(error, HeadgateError):
                raise
            raise Interruption("the connection failed") from error

    async def once(
        self, engine: Engine, method: str, path: str, body: object = None, answer_seconds: float = ANSWER_SECONDS
    ) -> Any:
        """One try of a call. Answers with the body."""
        return await within(self._read(engine, method, path, body), answer_seconds, silence(answer_seconds))

    async def wait(self, engine: Engine, path: str, body: object, answer_seconds: float) -> Any:
        """One try of a call that waits in line. Answers with the body."""
        work = self._read(engine, "POST", path, body, waits=True)
        return await within(work, answer_seconds, silence(answer_seconds))

    async def _read(self, engine: Engine, method: str, path: str, body: object, *, waits: bool = False) -> Any:
        async with self.open(engine, method, path, body, "application/json", waits=waits) as response:
            text = await body_of(response)
            # What was deleted is answered without a body.
            return None if response.status_code == 204 else parsed(text)

    async def call(
        self, engine: Engine, method: str, path: str, body: object = None, answer_seconds: float = ANSWER_SECONDS
    ) -> Any:
        """A call that may be repeated, as all of this service may, for `REACH_SECONDS`. Answers with the body."""
        started_at = monotonic()
        failures = 0
        while True:
            try:
                return await self.once(engine, method, path, body, answer_seconds)
            except Interruption as error:
                failures += 1
                pause_seconds = backoff_seconds(failures, error)
                if engine.leaving or monotonic() + pause_seconds - started_at > REACH_SECONDS:
                    raise self.unreachable(failures, error) from error
                await engine.pause(pause_seconds)

    def unreachable(self, attempts: int, last: Interruption) -> HeadgateUnreachableError:
        return HeadgateUnreachableError(self.url, attempts, last)


def failure(problem: Problem, ours: bool = True, header: str | None = None) -> Interruption | HeadgateError:
    """What a problem is to its caller: worth another try, or final. `header` is what `Retry-After` says."""
    status = problem.get("status", 500)
    passing = status >= 500 or status == 408 or (status == 429 and not ours)
    if not passing:
        return HeadgateError(described(problem), problem)
    # Retry-After may be a date, which is no number here: it would need a clock that we do not trust.
    header_seconds = float(header) if header and header.isdecimal() else 0.0
    seconds = problem.get("retryAfterSeconds", header_seconds)
    return Interruption(f"it answered {described(problem)}", problem if ours else None, max(0.0, seconds))


def parsed(text: str) -> dict[str, Any]:
    """Reads a JSON object. What is none comes from something between us and the service."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Interruption(f"not an answer of Headgate: {text[:100]}") from error
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise Interruption(f"not an answer of Headgate: {text[:100]}")


async def body_of(response: httpx.Response) -> str:
    """The whole body, if it is no longer than an answer can be."""
    whole = bytearray()
    async for chunk in response.aiter_bytes():
        whole += chunk
        if len(whole) > ANSWER_BYTES:
            raise Interruption(f"an answer of more than {ANSWER_BYTES} bytes")
    return whole.decode(errors="replace")


def _problem_of(response: httpx.Response, text: str) -> tuple[Problem, bool]:
    """The problem in an answer; the second is False when something else answered, such as a proxy."""
    if "json" in response.headers.get("Content-Type", ""):
        problem = cast("Problem", parsed(text))
        if problem.get("code") and problem.get("status"):
            return problem, True
    status = response.status_code
    codes = {401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
    code = codes.get(status, "malformed" if status < 500 else "internal")
    detail = f"Not an answer of Headgate (is the url right?): {text[:200]}"
    return {
        "type": "about:blank",
        "title": response.reason_phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }, False


def checked_url(url: Any) -> str:
    """The address without a slash at its end; its path is kept."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port >= 0)
        httpx.URL(url)
    except (ValueError, TypeError, httpx.InvalidURL):
        right, parts = False, urlsplit("")
    if not right:
        raise ValueError(f'Headgate needs a url such as "https://limits.example.workers.dev", and was given {url!r}.')
    if parts.username is not None or parts.password is not None:
        raise ValueError("Headgate takes no user or password in its url; pass the token as `token`.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
