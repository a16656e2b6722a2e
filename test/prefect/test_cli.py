"""`prefect gcl`, unchanged, against Headgate."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from conftest import LONG_SECONDS, WAITS, http

if WAITS:
    pytest.skip("operators do not wait in line", allow_module_level=True)

PREFECT = str(Path(sys.executable).parent / "prefect")


def gcl(*arguments: str) -> tuple[int, str]:
    env = {**os.environ, "COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run([PREFECT, "gcl", *arguments], env=env, capture_output=True, text=True, timeout=LONG_SECONDS)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done.returncode, done.stdout + done.stderr


def test_create_ls_inspect_update_disable_enable_delete():
    name = f"cli-{uuid.uuid4().hex[:8]}"
    code, said = gcl("create", name, "--limit", "3", "--slot-decay-per-second", "0.5")
    assert code == 0 and f"Created global concurrency limit with name '{name}'" in said
    code, said = gcl("create", name, "--limit", "3")
    assert code == 1 and "already exists" in said

    code, said = gcl("ls", "--output", "json")
    [row] = [each for each in json.loads(said) if each["name"] == name]
    assert (row["limit"], row["active"], row["slot_decay_per_second"]) == (3, True, 0.5)
    code, said = gcl("ls")
    assert code == 0 and name in said

    code, said = gcl("update", name, "--limit", "5", "--active-slots", "2")
    assert code == 0 and "Updated" in said
    assert gcl("disable", name)[0] == 0
    code, said = gcl("disable", name)
    assert code == 1 and "already disabled" in said
    code, said = gcl("inspect", name, "--output", "json")
    assert code == 0
    shown = json.loads(said)
    assert (shown["limit"], shown["active"]) == (5, False)
    assert gcl("enable", name)[0] == 0
    assert http.get(f"/v1/limits/{name}").json()["active"] is True

    code, said = gcl("delete", name)
    assert code == 0 and "Deleted" in said
    code, said = gcl("inspect", name)
    assert code == 1 and "not found" in said


def test_f40_an_update_that_is_refused_says_so():
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert gcl("create", name, "--limit", "1")[0] == 0
    code, said = gcl("update", name, "--limit", "99999999999")
    assert code == 1 and "less than or equal to 2147483647" in said
    code, said = gcl("create", f"{name}x", "--limit", "1", "--active-slots", "2")
    assert code == 1 and "less than or equal to the limit" in said


def test_f30_a_limit_that_is_called_like_an_id_is_found_by_its_name():
    name = uuid.uuid4().hex
    assert gcl("create", name, "--limit", "1")[0] == 0
    assert name in gcl("inspect", name)[1]
    assert gcl("delete", name)[0] == 0


def test_f31_a_name_that_the_client_does_not_quote_hits_no_other_limit():
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert gcl("create", name, "--limit", "1")[0] == 0
    code, said = gcl("delete", f"{name}?b")
    assert code == 1 and "not found" in said
    assert http.get(f"/v1/limits/{name}").status_code == 200
