"""What the tests of Prefect's own client share: a limit of one's own, and a look at it over Headgate's own wire."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest

URL = os.environ["HEADGATE_URL"]
TOKEN = os.environ["HEADGATE_TOKEN"]
#: Whether the client asks to wait in line; otherwise it polls, as Prefect's clients do.
WAITS = "Prefer" in os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS", "")

#: Ends what hangs, on a machine that is busy with other things too.
LONG_SECONDS = 180

http = httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=70)


class Limit:
    """A limit that no other test uses."""

    def __init__(self, limit: int = 1, **settings: object) -> None:
        self.name = f"t-{uuid.uuid4().hex[:12]}"
        answer = http.post("/api/v2/concurrency_limits/", json={"name": self.name, "limit": limit, **settings})
        assert answer.status_code == 201, answer.text

    def look(self) -> dict:
        answer = http.get(f"/v1/limits/{self.name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def active(self) -> int:
        return self.look()["activeSlots"]

    @property
    def waiting(self) -> int:
        return self.look()["waitingCount"]

    def take(self, slots: int = 1) -> str:
        """Takes slots as somebody else."""
        answer = http.post("/v1/acquire", json={"names": self.name, "occupy": slots, "leaseSeconds": 600})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def give(self, lease: str) -> None:
        http.post("/v1/release", json={"id": lease, "names": self.name})


def until(condition, what: str) -> None:
    """Waits until something is so. The bound is there to fail by; nothing is measured with it."""
    ends = time.monotonic() + LONG_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"not so within {LONG_SECONDS} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def limit():
    return Limit


def program(name: str, *arguments: str, **more: str) -> subprocess.Popen:
    """Another process with Prefect's client in it."""
    command = [sys.executable, str(Path(__file__).parent / "programs" / f"{name}.py"), *arguments]
    env = {**os.environ, **more}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
