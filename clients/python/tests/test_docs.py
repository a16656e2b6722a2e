"""What the pages show of Python runs, each piece by itself and in its order."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from headgate_client.sync import Headgate

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", "docs/python.md", "clients/python/README.md", "docs/http.md"]


def pieces() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found.append((f"{page}:{text.count(chr(10), 0, match.start()) + 1}", match[1]))
    return found


@pytest.mark.parametrize(("where", "source"), pieces())
def test_a_piece_runs(where: str, source: str, headgate_server: str) -> None:
    Headgate().configure("database", 20)
    source = source.replace("http://127.0.0.1:8787", headgate_server)
    code: CodeType = compile(source, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = FunctionType(code, {"__name__": "piece"})()
    if inspect.iscoroutine(running):
        asyncio.run(running)


def test_there_are_pieces_of_each_page() -> None:
    assert {where.split(":")[0] for where, _ in pieces()} == set(PAGES)
