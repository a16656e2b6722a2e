"""What holder.js is, for Prefect's own client. Reads an order a line, as JSON, and answers each with a line."""

import asyncio
import json
import random
import sys
import time

from prefect.concurrency.asyncio import concurrency

#: The shortest that there is: slots of a client that died come back after it.
LEASE_SECONDS = 60

#: Who gave up so long before the end, because the time was over, did not fail.
GIVING_UP_MS = 100

let_go = asyncio.Event()


def now() -> float:
    return time.time() * 1_000


def slot(order: dict, timeout_ms: float):
    return concurrency(order["limit"]["name"], timeout_seconds=timeout_ms / 1_000, lease_duration=LEASE_SECONDS)


async def loop(order: dict) -> dict:
    rows: list[list[float]] = []
    failed = 0
    until = order["startAt"] + order["ms"]

    async def task() -> None:
        nonlocal failed
        await asyncio.sleep(max(0, order["startAt"] - now()) / 1_000)
        while now() < until:
            try:
                async with slot(order, max(100, until - now())):
                    began = now()
                    await asyncio.sleep(order["workMs"] * random.uniform(0.8, 1.2) / 1_000)
                    rows.append([began, now()])
            except Exception:
                if now() < until - GIVING_UP_MS:
                    failed += 1

    await asyncio.gather(*(task() for _ in range(order["tasks"])))
    return {"rows": rows, "failed": failed}


async def join(order: dict) -> dict:
    rows: list[list[float]] = []

    async def waiter(index: int, at: float, hold_ms: float) -> None:
        await asyncio.sleep(max(0, at - now()) / 1_000)
        try:
            async with slot(order, order["timeoutMs"]):
                rows.append([index, now()])
                await asyncio.sleep(hold_ms / 1_000)
        except Exception:
            pass

    await asyncio.gather(*(waiter(each["index"], each["at"], each["holdMs"]) for each in order["plan"]))
    return {"rows": rows}


async def hold(order: dict) -> dict:
    let_go.clear()
    began = [asyncio.get_running_loop().create_future() for _ in range(order["count"])]

    async def one(mine: asyncio.Future) -> None:
        try:
            async with slot(order, 30_000):
                mine.set_result(None)
                await let_go.wait()
        except Exception as error:
            if not mine.done():
                mine.set_exception(error)

    tasks = [asyncio.create_task(one(mine)) for mine in began]
    await asyncio.gather(*began)
    globals()["holding"] = tasks
    return {"held": order["count"]}


async def release(order: dict) -> dict:
    let_go.set()
    return {}


async def take(order: dict) -> dict:
    rows: list[float] = []

    async def one() -> None:
        try:
            async with slot(order, order["timeoutMs"]):
                rows.append(now())
        except Exception:
            pass

    await asyncio.gather(*(one() for _ in range(order["count"])))
    return {"rows": rows}


ORDERS = {"loop": loop, "join": join, "hold": hold, "letGo": release, "take": take}


async def carry_out(order: dict) -> None:
    try:
        answer = await ORDERS[order["do"]](order)
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps({"order": order["order"], **answer}), flush=True)


async def main() -> None:
    print("ready", flush=True)
    tasks = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = asyncio.create_task(carry_out(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
