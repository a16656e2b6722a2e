"""A lease that its holder renews outlives its first end. It takes the shortest lease there is, 60 s, and runs beside."""

import threading
import time

import pytest
from conftest import LONG_SECONDS, WAITS, Limit, program, until

if WAITS:
    pytest.skip("renewing does not depend on how one waits", allow_module_level=True)

HELD_SECONDS = 63
LEASE_SECONDS = 60

limit = Limit()
holder = program("hold", limit.name, str(HELD_SECONDS), str(LEASE_SECONDS))
seen: list[tuple[float, list[str]]] = []


def watch() -> None:
    until(lambda: limit.active == 1 or holder.poll() is not None, "it holds")
    began = time.monotonic()
    while holder.poll() is None and time.monotonic() - began < HELD_SECONDS - 1:
        seen.append((time.monotonic() - began, [lease["id"] for lease in limit.look()["leases"]]))
        time.sleep(0.5)


watcher = threading.Thread(target=watch, daemon=True)
watcher.start()


def test_a_lease_is_renewed_past_its_end():
    watcher.join(300)
    out, err = holder.communicate(timeout=LONG_SECONDS)
    assert (holder.returncode, out, err) == (0, "held\ndone\n", "")
    assert seen[-1][0] > LEASE_SECONDS + 1
    assert {tuple(ids) for _, ids in seen} == {tuple(seen[0][1])} and len(seen[0][1]) == 1
    assert limit.active == 0
