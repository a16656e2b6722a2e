"""Jobs that share one limit, with Prefect's own client and Headgate in the place of its server.

    npm start
    prefect config set PREFECT_API_URL=http://127.0.0.1:8787/api
    prefect gcl create database --limit 2
    prefect gcl create openai --limit 5 --slot-decay-per-second 5
    python examples/prefect/limited.py

To wait in line instead of polling:

    export PREFECT_CLIENT_CUSTOM_HEADERS='{"Prefer": "wait=30"}'
"""

import asyncio
import time

from prefect.concurrency.asyncio import concurrency, rate_limit

started = time.monotonic()


async def job(number: int) -> None:
    await rate_limit("openai")
    async with concurrency("database", strict=True):
        print(f"{time.monotonic() - started:5.2f} s  job {number} begins")
        await asyncio.sleep(0.5)
    print(f"{time.monotonic() - started:5.2f} s  job {number} is done")


async def main() -> None:
    await asyncio.gather(*(job(number) for number in range(6)))


asyncio.run(main())
