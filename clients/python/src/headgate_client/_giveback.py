"""Slots whose holder is done with them, while the service cannot be reached: a restart shall not cost a whole lease."""

from __future__ import annotations

from time import monotonic
from typing import Any

from ._engine import Engine
from ._transport import Interruption, Transport, backoff_seconds
from .errors import HeadgateError

#: Longest time for the answer to one try: so long a try under way may keep a process alive that has ended otherwise.
TRY_SECONDS = 5.0
#: The pauses grow to this part of the time that has passed, so that a fleet does not fall upon a service that is back.
SLOWER = 0.1


async def give_back(engine: Engine, transport: Transport, body: dict[str, Any], ends_at: float) -> Exception | None:
    """Makes a release, of a lease or of a request, until it is done or `ends_at` is past, when it ends by itself.

    Answers with the last failure, or None when it is given back.
    """
    started_at = monotonic()
    failures = 0
    while True:
        try:
            async with engine.turn:
                await transport.once(engine, "POST", "/v1/release", body, TRY_SECONDS)
            return None
        except HeadgateError as refusal:
            return refusal  # What is refused stays so.
        except Interruption as error:
            failures += 1
            now = monotonic()
            pause_seconds = max(backoff_seconds(failures, error), (now - started_at) * SLOWER)
            if engine.leaving or now + pause_seconds >= ends_at:
                return error
            await engine.pause(pause_seconds)
