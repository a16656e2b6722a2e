"""What a program does that takes slots once and ends: quiet.py CONCURRENCY RATE"""

import asyncio
import sys

from prefect.concurrency.asyncio import concurrency, rate_limit
from prefect.concurrency.sync import concurrency as in_sync


async def main(name: str, rate: str) -> None:
    async with concurrency(name):
        await rate_limit(rate)
    await asyncio.sleep(0.5)


asyncio.run(main(sys.argv[1], sys.argv[2]))
with in_sync(sys.argv[1]):
    pass
