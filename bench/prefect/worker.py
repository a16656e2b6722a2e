"""One of several processes that share limits through Prefect's public client: worker.py SCENE NAME START SECONDS TASKS"""

import asyncio
import json
import sys
import time

import httpx
from prefect.concurrency.asyncio import concurrency, rate_limit

scene, name, start, seconds, tasks = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
WORK_SECONDS = 0.1
rows: list[list[float]] = []

#: When each task sent the request that gives its slot back. What the client does before that is its own time.
sent: dict[object, float] = {}
send = httpx.AsyncClient.send


async def noting(self: httpx.AsyncClient, request: httpx.Request, **more: object) -> httpx.Response:
    if request.url.path.endswith("/decrement-with-lease"):
        sent[asyncio.current_task()] = time.time()
    return await send(self, request, **more)


httpx.AsyncClient.send = noting


async def hold(ends: float) -> None:
    while time.time() < ends:
        left = ends - time.time()
        async with concurrency(name, timeout_seconds=max(0.1, left)):
            began = time.time()
            await asyncio.sleep(WORK_SECONDS)
        rows.append([began, sent.pop(asyncio.current_task(), time.time())])


async def rate(ends: float) -> None:
    while time.time() < ends:
        await rate_limit(name, timeout_seconds=max(0.1, ends - time.time()))
        rows.append([time.time()])


async def guarded(ends: float) -> int:
    """Jobs until the end; answers how many failed for another reason than that the time was over."""
    failed = 0
    while time.time() < ends:
        try:
            await (hold if scene == "hold" else rate)(ends)
        except TimeoutError:
            pass
        except Exception:
            failed += 1
    return failed


async def main() -> None:
    await asyncio.sleep(max(0, start - time.time()))
    failed = await asyncio.gather(*(guarded(start + seconds) for _ in range(tasks)))
    print(json.dumps({"rows": rows, "failed": sum(failed)}), flush=True)


asyncio.run(main())
