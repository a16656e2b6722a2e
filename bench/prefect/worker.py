"""One of several processes that share limits through Prefect's public client, or through Headgate's (`BENCH_CLIENT`).

worker.py NAMES TASKS START SECONDS WORK: so many tasks for each of the names, with commas between them, from a moment on
for so many seconds. Each holds a slot for WORK seconds again and again; without WORK they ask for slots by rate.
"""

import asyncio
import json
import os
import random
import sys
import time

import httpx

if os.environ.get("BENCH_CLIENT") == "headgate":
    from headgate_client.asyncio import concurrency, rate_limit
else:
    from prefect.concurrency.asyncio import concurrency, rate_limit

names, tasks = sys.argv[1].split(","), int(sys.argv[2])
start, seconds = float(sys.argv[3]), float(sys.argv[4])
work_seconds = float(sys.argv[5]) if len(sys.argv) > 5 else None
rows: list[list[object]] = []
failed: list[str] = []

#: When each task, or lease, sent the request that gives its slot back. What the client does before that is its own time.
sent: dict[object, float] = {}
send = httpx.AsyncClient.send


async def noting(self: httpx.AsyncClient, request: httpx.Request, **more: object) -> httpx.Response:
    if request.url.path.endswith("/decrement-with-lease"):
        sent[asyncio.current_task()] = time.time()
    elif request.url.path.endswith("/v1/release"):
        sent[json.loads(request.content)["id"]] = time.time()
    return await send(self, request, **more)


httpx.AsyncClient.send = noting


async def hold(name: str, work: float, ends: float) -> None:
    while time.time() < ends:
        left = ends - time.time()
        async with concurrency(name, timeout_seconds=max(0.1, left)) as lease:
            began = time.time()
            # A fifth more or less, so that not all of them end at once.
            await asyncio.sleep(work * random.uniform(0.8, 1.2))
        rows.append([name, began, sent.pop(lease.id if lease else asyncio.current_task(), time.time())])


async def rate(name: str, ends: float) -> None:
    while time.time() < ends:
        await rate_limit(name, timeout_seconds=max(0.1, ends - time.time()))
        rows.append([name, time.time()])


async def guarded(name: str, ends: float) -> None:
    """Jobs until the end; notes those that failed for another reason than that the time was over."""
    while time.time() < ends:
        try:
            await (rate(name, ends) if work_seconds is None else hold(name, work_seconds, ends))
        except TimeoutError:
            pass
        except Exception as error:
            failed.append(repr(error))


async def main() -> None:
    await asyncio.sleep(max(0, start - time.time()))
    ends = start + seconds
    jobs = [asyncio.create_task(guarded(name, ends)) for name in names for _ in range(tasks)]
    # Whoever began in time may end its job. The client goes on waiting for those that gave up, one after the other.
    await asyncio.wait(jobs, timeout=ends + 1.3 * (work_seconds or 0) + 2 - time.time())
    print(json.dumps({"rows": rows, "failed": len(failed)}), flush=True)
    os._exit(0)


asyncio.run(main())
