"""The thread that talks to services, one for each process.

All waiting, renewing and giving back runs on an event loop of its own, in a daemon thread: so a caller whose own loop
is blocked keeps its lease, callers without a loop wait like those with one, and a caller that is cancelled leaves
nothing half done. Callers hand work over with `run`, and take its outcome by a future that they cannot cancel.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import queue
import selectors
import socket
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

#: Give-backs at one time in the background; the rest take turns. A thousand tasks that are cancelled together would
#: else be late together, and make those late who release or renew.
TURNS = 16
#: Connections side by side in one pool of `httpx`, which looks at all of them whenever one comes or goes.
LANE = 64
#: Longest time that the end of a process waits for give-backs under way, each in its current try.
LEAVE_SECONDS = 5.0


class _Loop(asyncio.SelectorEventLoop):
    """Looks hosts up in a thread of its own, each once at a time.

    Python's pool for that ends with the main thread, before other threads do, and from then on some versions start no
    new thread either. So this one is there from the beginning.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._asked: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._sought: dict[tuple[Any, ...], Future[list[Any]]] = {}
        threading.Thread(target=self._look_up, name="headgate-lookup", daemon=True).start()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        question = (host, port, family, type, proto, flags)
        if question not in self._sought:
            self._sought[question] = uncancellable()
            self._asked.put(question)
        return await asyncio.wrap_future(self._sought[question], loop=self)

    def _look_up(self) -> None:
        while True:
            question = self._asked.get()
            try:
                found = socket.getaddrinfo(*question)
            except Exception as error:
                self.call_soon_threadsafe(self._answer, question, error)
            else:
                self.call_soon_threadsafe(self._answer, question, found)

    def _answer(self, question: tuple[Any, ...], found: list[Any] | Exception) -> None:
        answer = self._sought.pop(question)
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)


@dataclass
class _Lane:
    """Connections that are kept together, and how many calls have one of them."""

    client: httpx.AsyncClient
    in_use: int = 0


class Engine:
    """An event loop in a daemon thread, and the connections of all gates of this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        #: Set at the end of the process: what can be tried once more is, and nothing is waited for.
        self.leaving = False
        self._selector = selectors.DefaultSelector()
        self._loop = _Loop(self._selector)
        self._waiting: list[_Lane] = []
        self._calling: list[_Lane] = []
        #: Made once, because that takes tens of milliseconds.
        self._tls = functools.cache(httpx.create_ssl_context)
        self.turn = asyncio.Semaphore(TURNS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errands: set[asyncio.Task[Any]] = set()
        self._pauses: set[asyncio.Future[None]] = set()
        threading.Thread(target=self._serve, name="headgate", daemon=True).start()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Runs it to its end, whatever becomes of its caller."""
        outcome: Future[T] = uncancellable()

        def settle(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                outcome.set_exception(asyncio.CancelledError())
            elif error := task.exception():
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        self.call(lambda: self.spawn(work()).add_done_callback(settle))
        return outcome

    def call(self, what: Callable[[], object]) -> None:
        """Calls it on the engine's thread, after all that was handed over before."""
        self._loop.call_soon_threadsafe(what)

    # ------------------------------------------------------------------------------ on the engine's thread

    @contextmanager
    def client(self, waits: bool) -> Generator[httpx.AsyncClient, None, None]:
        """What to call with. There is no bound to the number of those who wait, who are apart from all other calls."""
        lanes = self._waiting if waits else self._calling
        lane = next((lane for lane in lanes if lane.in_use < LANE), None)
        if lane is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=TURNS)
            lane = _Lane(httpx.AsyncClient(limits=limits, timeout=None, follow_redirects=True, verify=self._tls()))
            lanes.append(lane)
        lane.in_use += 1
        try:
            yield lane.client
        finally:
            lane.in_use -= 1

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that is held here until it ends, and whose failure is told to whoever awaits it alone."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def errand(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task for whose current try the end of the process waits a moment."""
        task = self.spawn(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    async def pause(self, seconds: float) -> None:
        """Waits between two tries of an errand, or until the process ends."""
        over = self._loop.create_future()
        timer = self._loop.call_later(seconds, resolve, over)
        self._pauses.add(over)
        try:
            if not self.leaving:
                await over
        finally:
            timer.cancel()
            self._pauses.discard(over)

    async def leave(self) -> None:
        self.leaving = True
        for over in self._pauses:
            resolve(over)
        if self._errands:
            await asyncio.wait(self._errands, timeout=LEAVE_SECONDS)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Seen, so that asyncio does not print it.

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    # ------------------------------------------------------------------------------------- in a forked child

    def disown(self) -> None:
        """Lets go of the parent's connections, which a child would keep open after its parent's end.

        They are overwritten and not closed: objects of the parent that still know their numbers may close those later.
        """
        self._loop.set_exception_handler(lambda _loop, _context: None)
        nothing = os.open(os.devnull, os.O_RDWR)
        shared = [key.fd for key in self._selector.get_map().values()]
        if isinstance(self._selector, (_epoll, _kqueue)):
            shared.append(self._selector.fileno())
        for descriptor in shared:
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)


class _Nothing:
    """In place of a selector that this platform does not have."""


_epoll: Any = getattr(selectors, "EpollSelector", _Nothing)
_kqueue: Any = getattr(selectors, "KqueueSelector", _Nothing)


def uncancellable() -> Future[Any]:
    """A future that a caller cannot cancel: its outcome always has somewhere to go."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_engine: Engine | None = None
_making = threading.Lock()
#: Kept, so that nothing of a parent is ever closed by a child.
_disowned: list[Engine] = []


def engine() -> Engine:
    """The engine of this process, made at the first call."""
    global _engine
    with _making:
        if _engine is None:
            _engine = Engine()
        return _engine


def _after_fork_in_child() -> None:
    global _engine, _making
    _making = threading.Lock()
    if _engine is not None:
        _engine.disown()
        _disowned.append(_engine)
        _engine = None


def _at_exit() -> None:
    if _engine is not None:
        _engine.run(_engine.leave).result()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
