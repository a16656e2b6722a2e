"""What the tests share: a real server, limits of one's own, and a look at them past the client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from headgate_client.testing import LocalServer

#: Ends a test that hangs; nothing is measured with it.
PATIENCE_SECONDS = 180.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits until something is so, and answers with it."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends, f"not so within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.01)
    return found


class Limit:
    """A limit that no other test uses, and a look at it past the client."""

    def __init__(self, url: str, name: str | None = None, limit: int = 1, **settings: object) -> None:
        self.name = name or f"t-{uuid.uuid4().hex[:12]}"
        self.http = httpx.Client(base_url=url, timeout=70)
        answer = self.http.put(self._path, json={"limit": limit, **settings})
        assert answer.is_success, answer.text

    @property
    def _path(self) -> str:
        return f"/v1/limits/{quote(self.name, safe='')}"

    def look(self) -> dict[str, Any]:
        answer = self.http.get(self._path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def active(self) -> int:
        return self.look()["activeSlots"]

    @property
    def waiting(self) -> int:
        return self.look()["waitingCount"]

    @property
    def leases(self) -> list[dict[str, Any]]:
        return self.look()["leases"]

    def take(self, slots: int = 1) -> str:
        """Takes slots as another caller."""
        answer = self.http.post("/v1/acquire", json={"names": self.name, "occupy": slots, "leaseSeconds": 600})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def give(self, lease: str) -> None:
        answer = self.http.post("/v1/release", json={"id": lease, "names": self.name})
        assert answer.status_code == 200, answer.text

    def take_back(self) -> None:
        """Takes every lease away, as an operator does."""
        for lease in self.leases:
            assert self.http.delete(f"{self._path}/leases/{lease['id']}").is_success

    def wait_for(self, active: int | None = None, waiting: int | None = None) -> None:
        """Waits until the limit has so many slots in use, or so many in line."""

        def is_so() -> bool:
            now = self.look()
            return (active is None or now["activeSlots"] == active) and (
                waiting is None or now["waitingCount"] == waiting
            )

        until(is_so, f"{active} in use, {waiting} waiting")


@pytest.fixture(autouse=True)
def _environment(headgate_server: str) -> None:  # pyright: ignore[reportUnusedFunction]
    """Every test has the server of the session in its environment."""


@pytest.fixture
def new_limit(headgate_server: str) -> Iterator[Callable[..., Limit]]:
    made: list[Limit] = []

    def new(name: str | None = None, limit: int = 1, **settings: object) -> Limit:
        made.append(Limit(headgate_server, name, limit, **settings))
        return made[-1]

    yield new
    for each in made:
        each.http.close()


class Killable:
    """A server that a test kills, and starts again on the same port and data."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.server = LocalServer(data)
        self.url = self.server.url

    def kill(self) -> None:
        """`kill -9`; done when all of its processes have ended."""
        self.server.process.kill()
        self.server.stop()
        until(lambda: not self._processes(), "its runtime has ended")

    def start(self) -> None:
        self.server = LocalServer(self.data, self.server.port)

    def _processes(self) -> list[str]:
        table = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
        return [line for line in table.splitlines() if str(self.data) in line]


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Killable]:
    own = Killable(tmp_path / "data")
    yield own
    own.server.stop()


class Program:
    """Another process with the client in it."""

    def __init__(self, source: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            # From 3.12 on Python warns of every fork of a process that has threads.
            [sys.executable, "-W", "error", "-W", "ignore:This process", "-c", source, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def say(self, line: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> tuple[int, str, str]:
        """How it ended, and what it printed that was not heard."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out, err

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(source: str, *arguments: str) -> Program:
        started.append(Program(source, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()
        for pipe in (each.process.stdin, each.process.stdout, each.process.stderr):
            if pipe is not None:
                pipe.close()
