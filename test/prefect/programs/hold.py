"""Holds a slot for so long: hold.py NAME SECONDS [LEASE_SECONDS]"""

import asyncio
import sys

from prefect.concurrency.asyncio import concurrency


async def main(name: str, seconds: float, lease: float) -> None:
    async with concurrency(name, lease_duration=lease, strict=True, raise_on_lease_renewal_failure=True):
        print("held", flush=True)
        await asyncio.sleep(seconds)
    print("done", flush=True)
    # A program that ends while its last event is on its way is told by the client that it waits for it.
    await asyncio.sleep(0.5)


asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 300))
