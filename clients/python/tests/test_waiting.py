"""Callers in line: served in order, taken up again after every interruption, and gone when they go."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Killable, Limit, Program, until

import headgate_client.asyncio as with_asyncio
import headgate_client.sync as with_sync

NewLimit = Callable[..., Limit]
NewProgram = Callable[..., Program]

#: A process that waits for the limit, says so, and holds until it is told to end.
WAITER = """
import sys
from headgate_client.sync import Headgate
url, name, lease_duration = sys.argv[1:]
with Headgate(url).concurrency(name, lease_duration=float(lease_duration)) as lease:
    print(lease.id, flush=True)
    sys.stdin.readline()
"""


def test_promise_3_those_who_wait_are_served_in_their_order(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> None:
        served: list[int] = []

        async def ask(number: int) -> None:
            async with with_asyncio.concurrency(limit.name) as lease:
                served.append(number)
                assert lease.waited_seconds > 0

        held = limit.take()
        tasks: list[asyncio.Task[None]] = []
        for number in range(8):
            tasks.append(asyncio.create_task(ask(number)))
            # The loop runs while the look is on its way in another thread.
            await asyncio.to_thread(limit.wait_for, waiting=number + 1)
        limit.give(held)
        await asyncio.gather(*tasks)
        assert served == list(range(8))

    asyncio.run(main())


def test_promise_4_a_freed_slot_goes_to_a_waiter_without_asking_again(new_limit: NewLimit) -> None:
    limit = new_limit()
    with ThreadPoolExecutor() as pool:
        held = limit.take()
        waiting = pool.submit(with_sync.concurrency(limit.name).acquire)
        limit.wait_for(waiting=1)
        limit.give(held)
        assert limit.active == 1
        waiting.result().release()
    totals = limit.look()["totals"]
    assert (totals["grantedAfterWait"], totals["denied"]) == (1, 0)


def test_promise_10_a_caller_that_is_cancelled_leaves_the_line(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> None:
        held = limit.take()
        task = asyncio.create_task(with_asyncio.concurrency(limit.name).acquire())
        await asyncio.to_thread(limit.wait_for, waiting=1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(limit.wait_for, waiting=0)
        limit.give(held)

    asyncio.run(main())
    assert limit.active == 0


def test_cancelled_at_the_instant_of_the_grant_it_leaks_no_slot(new_limit: NewLimit) -> None:
    limit = new_limit()
    outcomes: list[str] = []

    async def attempt(steps: int) -> None:
        held = limit.take()

        async def work() -> str:
            async with with_asyncio.concurrency(limit.name):
                return "entered"

        task = asyncio.create_task(work())
        await asyncio.to_thread(limit.wait_for, waiting=1)
        giving = asyncio.create_task(asyncio.to_thread(limit.give, held))
        for _ in range(steps):
            await asyncio.sleep(0.0005)
        task.cancel()
        try:
            outcomes.append(await task)
        except asyncio.CancelledError:
            outcomes.append("cancelled")
        await giving
        await asyncio.to_thread(limit.wait_for, active=0, waiting=0)

    async def main() -> None:
        # From before the slot is given until after it was given back again: a step further in each round.
        while outcomes[-5:] != ["entered"] * 5:
            await attempt(len(outcomes))

    asyncio.run(main())
    assert outcomes[0] == "cancelled"
    assert limit.active == 0


def test_cancelled_when_the_grant_is_there_and_not_taken_it_leaks_no_slot(new_limit: NewLimit) -> None:
    limit = new_limit()

    async def main() -> None:
        task = asyncio.create_task(with_asyncio.concurrency(limit.name).acquire())
        await asyncio.sleep(0)
        # This loop stands still until the service has granted, so the task has not seen its grant.
        until(lambda: limit.active == 1, "it was granted")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(5):
        asyncio.run(main())
        limit.wait_for(active=0)


def test_promise_11_a_wait_outlives_kill_9_of_the_server_and_keeps_its_place(killable: Killable) -> None:
    limit = Limit(killable.url)
    gate = with_sync.Headgate(killable.url)
    served: list[int] = []

    def ask(number: int) -> None:
        with gate.concurrency(limit.name):
            served.append(number)

    held = limit.take()
    threads: list[threading.Thread] = []
    for number in range(3):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        limit.wait_for(waiting=number + 1)
    line = [waiter["id"] for waiter in limit.look()["waiting"]]
    for _ in range(2):
        killable.kill()
        killable.start()
        until(lambda: [waiter["id"] for waiter in limit.look()["waiting"]] == line, "all are back in their places")
    limit.give(held)
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2]
    assert limit.active == 0
    limit.http.close()


def test_promise_5_kill_9_of_a_holder_gives_its_slots_back(new_limit: NewLimit, program: NewProgram) -> None:
    limit = new_limit()
    holder = program(WAITER, str(limit.http.base_url), limit.name, "2")
    lease = holder.hear()
    assert [held["id"] for held in limit.leases] == [lease]
    holder.kill()
    limit.wait_for(active=0)
    assert limit.look()["totals"]["expired"] == 1


def test_promise_10_kill_9_of_a_waiter_lets_the_next_one_pass(new_limit: NewLimit, program: NewProgram) -> None:
    limit = new_limit()
    held = limit.take()
    url = str(limit.http.base_url)
    first = program(WAITER, url, limit.name, "600")
    limit.wait_for(waiting=1)
    second = program(WAITER, url, limit.name, "600")
    limit.wait_for(waiting=2)
    first.kill()
    limit.wait_for(waiting=1)
    limit.give(held)
    assert second.hear() == limit.leases[0]["id"]
    second.say()
    assert second.end() == (0, "", "")
    assert limit.active == 0


def test_ctrl_c_ends_a_wait_and_leaves_nothing(new_limit: NewLimit, program: NewProgram) -> None:
    limit = new_limit()
    held = limit.take()
    waiter = program(WAITER, str(limit.http.base_url), limit.name, "600")
    limit.wait_for(waiting=1)
    waiter.process.send_signal(signal.SIGINT)
    code, out, err = waiter.end()
    assert (code, out) == (-signal.SIGINT, "")
    assert err.endswith("KeyboardInterrupt\n")
    assert limit.waiting == 0
    limit.give(held)


def test_ctrl_c_in_the_work_gives_back(new_limit: NewLimit, program: NewProgram) -> None:
    limit = new_limit()
    holder = program(WAITER, str(limit.http.base_url), limit.name, "600")
    holder.hear()
    holder.process.send_signal(signal.SIGINT)
    assert holder.end()[0] == -signal.SIGINT
    assert limit.active == 0


def test_a_thread_that_outlives_the_main_one_still_waits_and_gives_back(
    new_limit: NewLimit, program: NewProgram
) -> None:
    limit = new_limit()
    held = limit.take()
    # A name to look up, at a time when Python's own pool of threads has ended.
    url = str(limit.http.base_url).replace("127.0.0.1", "localhost")
    threaded = program(
        """
import sys, threading
from headgate_client.sync import Headgate

gate = Headgate(sys.argv[1])
gate.inspect(sys.argv[2])  # Python 3.12.1 starts no thread later, and so no client either.

def work():
    threading.main_thread().join()
    with gate.concurrency(sys.argv[2]):
        print("held")

threading.Thread(target=work).start()
""",
        url,
        limit.name,
    )
    limit.wait_for(waiting=1)
    limit.give(held)
    assert threaded.end() == (0, "held\n", "")
    assert limit.active == 0


def test_a_forked_child_leaves_the_lease_of_its_parent_alone(new_limit: NewLimit, program: NewProgram) -> None:
    limit = new_limit(limit=2)
    forking = program(
        """
import os, sys
from headgate_client.sync import concurrency

with concurrency(sys.argv[1]) as lease:
    child = os.fork()
    if child == 0:
        lease.release()
        # Its own lease, by its own connections.
        with concurrency(sys.argv[1]) as own:
            assert own.id != lease.id
            print("child", own.id, flush=True)
            sys.stdin.readline()
    else:
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        print("parent", lease.id, flush=True)
        sys.stdin.readline()
""",
        limit.name,
    )
    child = forking.hear().split()[-1]
    leases = {held["id"] for held in limit.leases}
    assert len(leases) == 2
    assert child in leases
    forking.say()
    parent = forking.hear().split()[-1]
    # The child has left the block of its parent too.
    assert [held["id"] for held in limit.leases] == [parent]
    forking.say()
    assert forking.end() == (0, "", "")
    assert limit.active == 0


def test_a_forked_child_does_not_keep_its_parent_in_line(new_limit: NewLimit, program: NewProgram) -> None:
    limit = new_limit()
    held = limit.take()
    forking = program(
        """
import os, sys, threading
from headgate_client.sync import concurrency

threading.Thread(target=concurrency(sys.argv[1]).acquire, daemon=True).start()
sys.stdin.readline()
child = os.fork()
if child == 0:
    # The pipe to the test ends with the child.
    sys.stdin.readline()
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
""",
        limit.name,
    )
    limit.wait_for(waiting=1)
    forking.say()
    child = int(forking.hear())
    assert child > 0
    forking.process.kill()
    forking.process.wait()
    # The child lives, and has let go of the connection by which its parent waited.
    limit.wait_for(waiting=0)
    limit.give(held)
    assert limit.active == 0


class BufferingProxy:
    """Passes an answer on when it is whole, as a proxy does that holds streams back; notes how it was asked."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # To shut it down wakes the thread that accepts; to close it alone does not.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += caller.recv(65_536)
            head, _, body = asked.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            lengths = [line.split(b":")[1] for line in lines if line.lower().startswith(b"content-length:")]
            while len(body) < int((lengths or [b"0"])[0]):
                body += caller.recv(65_536)
            if b"/v1/acquire" in lines[0]:
                self.asked.append("stream" if b"x-ndjson" in head else "plain")
            with socket.create_connection(("127.0.0.1", self._upstream)) as service:
                service.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
                answer = b""
                while chunk := service.recv(65_536):
                    answer += chunk
            try:
                caller.sendall(answer)
            except OSError:
                return  # The caller has gone.


@pytest.fixture
def proxy(headgate_server: str) -> Iterator[BufferingProxy]:
    made = BufferingProxy(int(headgate_server.rsplit(":", 1)[1]))
    yield made
    made.close()


def test_behind_a_proxy_that_holds_streams_back_it_waits_by_plain_answers(
    new_limit: NewLimit, proxy: BufferingProxy
) -> None:
    limit = new_limit()
    gate = with_sync.Headgate(proxy.url)
    with ThreadPoolExecutor() as pool:
        held = limit.take()
        waiting = pool.submit(gate.concurrency(limit.name).acquire)
        until(lambda: "plain" in proxy.asked, "it has noticed that nothing comes by the stream")
        limit.give(held)
        lease = waiting.result()
        assert [shown["id"] for shown in limit.leases] == [lease.id]
        lease.release()
        assert limit.active == 0
        # And it remembers.
        asked = len(proxy.asked)
        gate.concurrency(limit.name).acquire().release()
    assert proxy.asked[asked:] == ["plain"]
    assert limit.active == 0


def test_the_end_of_a_program_waits_for_what_it_takes_back(
    new_limit: NewLimit, program: NewProgram, proxy: BufferingProxy
) -> None:
    limit = new_limit()
    held = limit.take()
    # Behind this proxy the service does not see that its caller has gone. So it has to be told.
    waiter = program(
        """
import asyncio, atexit, socket, sys
# The first to be registered is the last to be called.
atexit.register(print, "is out", flush=True)
from headgate_client.asyncio import Headgate

look_up, cancelled = socket.getaddrinfo, asyncio.Event()

def look_up_late(*args):
    if cancelled.is_set():
        print("looks up", flush=True)
        sys.stdin.readline()
        print("has looked up", flush=True)
    return look_up(*args)

async def main():
    task = asyncio.create_task(Headgate(sys.argv[1]).concurrency(sys.argv[2]).acquire())
    await asyncio.to_thread(sys.stdin.readline)
    socket.getaddrinfo = look_up_late
    cancelled.set()
    task.cancel()

asyncio.run(main())
print("is over", flush=True)
""",
        proxy.url.replace("127.0.0.1", "localhost"),
        limit.name,
    )
    limit.wait_for(waiting=1)
    waiter.say()
    assert {waiter.hear(), waiter.hear()} == {"looks up", "is over"}
    waiter.say()
    assert waiter.end() == (0, "has looked up\nis out\n", "")
    limit.wait_for(waiting=0)
    limit.give(held)


def test_many_wait_at_once(new_limit: NewLimit) -> None:
    limit = new_limit(limit=150)

    async def main() -> None:
        held = limit.take(150)
        tasks = [asyncio.create_task(with_asyncio.concurrency(limit.name).acquire()) for _ in range(150)]
        await asyncio.to_thread(limit.wait_for, waiting=150)
        limit.give(held)
        leases = await asyncio.gather(*tasks)
        assert limit.active == 150
        # On a slow machine a release may go on in the background.
        await asyncio.gather(*(lease.release() for lease in leases), return_exceptions=True)

    asyncio.run(main())
    limit.wait_for(active=0)


def test_loops_one_after_another_and_side_by_side(new_limit: NewLimit) -> None:
    limit = new_limit(limit=4)
    seen: list[float] = []

    async def main() -> None:
        async with with_asyncio.concurrency(limit.name) as lease:
            seen.append(lease.waited_seconds)

    asyncio.run(main())
    asyncio.run(main())
    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    assert limit.active == 0
