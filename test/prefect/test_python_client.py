"""Headgate's own Python client takes what Prefect's takes, so that a program changes one line."""

import inspect
import sys
from pathlib import Path

import prefect.concurrency.asyncio
import prefect.concurrency.sync
import pytest

sys.path.append(str(Path(__file__).parents[2] / "clients/python/src"))

import headgate_client.asyncio
import headgate_client.sync

FACES = [
    (prefect.concurrency.asyncio, headgate_client.asyncio),
    (prefect.concurrency.sync, headgate_client.sync),
]


@pytest.mark.parametrize(("theirs", "ours"), FACES)
@pytest.mark.parametrize("verb", ["concurrency", "rate_limit"])
def test_parameters_have_the_same_names_and_order(theirs, ours, verb):
    parameters = inspect.signature(getattr(ours, verb)).parameters.values()
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == list(inspect.signature(getattr(theirs, verb)).parameters)


def test_errors_have_the_same_names_and_kinds():
    for name in ["ConcurrencySlotAcquisitionError", "AcquireConcurrencySlotTimeoutError"]:
        theirs, ours = (getattr(module, name) for module in FACES[0])
        for kind in (Exception, TimeoutError):
            assert issubclass(ours, kind) == issubclass(theirs, kind)
