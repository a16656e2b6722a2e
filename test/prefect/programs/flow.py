"""A flow whose orchestration runs on Prefect's own server, and whose tasks are limited elsewhere: flow.py NAME URL"""

import sys
import time

from prefect import flow, task
from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness

name, url = sys.argv[1], sys.argv[2]


@task
def work(number: int) -> tuple[float, float]:
    with temporary_settings({PREFECT_API_URL: url}):
        with concurrency(name, strict=True):
            began = time.time()
            time.sleep(0.1)
            return began, time.time()


@flow
def many() -> list[tuple[float, float]]:
    return [future.result() for future in work.map(range(6))]


with prefect_test_harness(server_startup_timeout=90):
    for began, ended in many():
        print(began, ended, flush=True)
