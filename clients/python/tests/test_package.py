"""The package as it is installed: its version, its types, and the fixture that it brings for pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import headgate_client

ROOT = Path(__file__).parents[3]


def test_its_version_is_that_of_the_server() -> None:
    manifest = json.loads((ROOT / "package.json").read_text())
    assert headgate_client.__version__ == manifest["version"] == metadata.version("headgate-client")


def test_it_is_typed_and_needs_httpx_alone() -> None:
    assert (Path(headgate_client.__file__).parent / "py.typed").exists()
    assert [need.partition("<")[0] for need in metadata.requires("headgate-client") or []] == ["httpx"]


def test_the_fixture_starts_a_server_and_ends_it(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        """
from headgate_client.sync import Headgate, concurrency

def test_mine(headgate_server):
    Headgate().configure("database", 1)
    with concurrency("database") as lease:
        assert lease.enforced
    assert headgate_server.startswith("http://127.0.0.1:")
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "base")]
    own = {name: value for name, value in os.environ.items() if name != "HEADGATE_URL"}
    ran = subprocess.run([*command, str(tmp_path)], env=own, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
    table = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in table
