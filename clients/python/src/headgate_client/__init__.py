"""Named limits of a Headgate server: `headgate_client.asyncio` and `headgate_client.sync` take slots of them.

Most callers want `concurrency`, as a context manager or a decorator, and `rate_limit`:

    from headgate_client.asyncio import concurrency, rate_limit

    async with concurrency("database"):
        ...  # At most as many run here at once, anywhere, as the limit has slots.
    await rate_limit("openai", occupy=3)
"""

from ._answers import (
    CheckAnswer,
    LeaseInfo,
    LimitInfo,
    LimitStatus,
    LimitSummary,
    Policy,
    Problem,
    Receipt,
    Region,
    Settled,
    Slots,
    WaiterInfo,
    Window,
)
from .errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    HeadgateError,
    HeadgateUnreachableError,
    LeaseLostError,
)

#: In step with the server's.
__version__ = "0.1.0"

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "CheckAnswer",
    "ConcurrencySlotAcquisitionError",
    "HeadgateError",
    "HeadgateUnreachableError",
    "LeaseInfo",
    "LeaseLostError",
    "LimitInfo",
    "LimitStatus",
    "LimitSummary",
    "Policy",
    "Problem",
    "Receipt",
    "Region",
    "Settled",
    "Slots",
    "WaiterInfo",
    "Window",
    "__version__",
]
