"""A fixture for pytest, `headgate_server`: a server on this machine for the tests of one session.

It takes a free port and a folder of its own, is ended with the session, and `HEADGATE_URL` names it meanwhile. It is
started with `npx headgate`, or with the words of `HEADGATE_COMMAND`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import pytest


class LocalServer:
    """A server in a process of its own; answers once this is made."""

    def __init__(self, data: Path, port: int = 0, **environment: str) -> None:
        command = shlex.split(os.environ.get("HEADGATE_COMMAND", "npx headgate"))
        self.data = data
        self.process = subprocess.Popen(
            [*command, "start", "--port", str(port), "--data", str(data)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            text=True,
        )
        self._output = cast("IO[str]", self.process.stdout)
        printed: list[str] = []
        for line in self._output:
            printed.append(line)
            if ready := re.search(r"ready on (http\S+)", line):
                self.url = ready[1]
                break
        else:
            self.process.wait()
            self._output.close()
            raise RuntimeError(f"`{shlex.join(command)} start` ended without being ready: {''.join(printed)}")
        # What it prints later is read, so that it is never held up by a full pipe.
        self._reading = threading.Thread(target=self._output.read, daemon=True)
        self._reading.start()

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._reading.join()
        self._output.close()


@pytest.fixture(scope="session")
def headgate_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The url of a server of this session's own, which `HEADGATE_URL` names too."""
    server = LocalServer(tmp_path_factory.mktemp("headgate"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADGATE_URL", server.url)
            patch.delenv("HEADGATE_TOKEN", raising=False)
            yield server.url
    finally:
        server.stop()
