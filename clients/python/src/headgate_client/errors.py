"""What the client raises. Each error says what happened, with the numbers."""

from __future__ import annotations

import json

from ._answers import Problem, Slots


class HeadgateError(Exception):
    """A call failed: the service refused it, and `problem` is its answer, or it could not be reached."""

    #: The answer as it came (RFC 9457); None when there was none.
    problem: Problem | None
    #: The HTTP status of the answer.
    status: int | None
    #: Why, from the closed list at the end of `docs/http.md`.
    code: str | None

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.status = problem.get("status") if problem else None
        self.code = problem.get("code") if problem else None


class ConcurrencySlotAcquisitionError(HeadgateError):
    """The slots were refused, and asking again is over or would not help.

    All retries were denied (`max_retries`), more slots were asked for than the limit has, a name does not exist
    (`strict`), or the caller may not. `code` and `problem` tell which.
    """

    #: The slots that were asked for.
    names: Slots

    def __init__(self, names: Slots, problem: Problem) -> None:
        super().__init__(f"Unable to acquire slots of {listed(names)}: {described(problem)}", problem)
        self.names = names


class HeadgateUnreachableError(ConcurrencySlotAcquisitionError, ConnectionError):
    """The service could not be reached, or did not answer in earnest. `__cause__` is the last failure.

    It is a `ConcurrencySlotAcquisitionError` because a program that was written for Prefect's client, which raises that
    for every failure, handles it as one.
    """

    #: How often it was tried.
    attempts: int

    def __init__(self, url: str, attempts: int, cause: BaseException) -> None:
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        HeadgateError.__init__(
            self,
            f"Headgate at {url} could not be reached in {times}: {reason(cause)}. Is it running, and is HEADGATE_URL "
            f'right? `curl {url}/health` asks without this client. To go on without a limit: on_error="open".',
        )
        self.names = {}
        self.attempts = attempts
        self.__cause__ = cause


class AcquireConcurrencySlotTimeoutError(TimeoutError):
    """The slots did not come free within `timeout_seconds`."""

    #: The slots that were asked for.
    names: Slots
    timeout_seconds: float
    #: The last known place in line, 1 being next.
    position: int | None

    def __init__(self, names: Slots, timeout_seconds: float, position: int | None) -> None:
        place = "" if position is None else f"; the last place in line was {position}"
        super().__init__(f"No slots of {listed(names)} within {timeout_seconds:g} s{place}.")
        self.names = names
        self.timeout_seconds = timeout_seconds
        self.position = position


class LeaseLostError(Exception):
    """A lease ended while it was still needed: it was taken back, or could not be renewed in time."""

    id: str
    names: Slots

    def __init__(self, lease_id: str, names: Slots, cause: BaseException) -> None:
        super().__init__(f"The lease {lease_id} of {listed(names)} was lost: {reason(cause)}")
        self.id = lease_id
        self.names = names
        self.__cause__ = cause


def listed(names: Slots) -> str:
    """The names as a message shows them, with their slots where it is more than one."""
    return ", ".join(quoted(name) if slots == 1 else f"{quoted(name)} ({slots})" for name, slots in names.items())


def described(problem: Problem) -> str:
    """A refusal in one line."""
    told = problem["detail"] or problem["title"]
    parts = [f"{problem['status']} {problem['code']}", told.rstrip(".")]
    parts += [f"{error.get('field')}: {error.get('message')}" for error in problem.get("errors", [])]
    if "retryAfterSeconds" in problem:
        parts.append(f"retry after {problem['retryAfterSeconds']:g} s")
    return "; ".join(part for part in parts if part)


def quoted(text: str) -> str:
    """Text between quotes, without the control characters that it may have."""
    return json.dumps(text, ensure_ascii=False)


def reason(error: BaseException) -> str:
    """The innermost message: `All connection attempts failed` says nothing, its cause does."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        return reason(inner)
    return (str(error) or type(error).__name__).rstrip(".")
