"""Time limits that lose no cancellation: `asyncio.wait_for` did so before Python 3.12."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

FOREVER = float("inf")


async def within(work: Coroutine[Any, Any, T], seconds: float, late: Callable[[], Exception]) -> T:
    """Ends as the work does, or with `late()` when it takes longer. The work ends with this, however this ends."""
    task = asyncio.ensure_future(work)
    # Also when it comes too late to matter, a failure of the work is seen here.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        done, _ = await asyncio.wait({task}, timeout=None if seconds == FOREVER else max(0.0, seconds))
        if not done:
            raise late()
        return task.result()
    finally:
        task.cancel()
