"""Does jobs under a limit and says when each ran: work.py NAME JOBS SECONDS"""

import sys
import time

from prefect.concurrency.sync import concurrency

name, jobs, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
for _ in range(jobs):
    with concurrency(name):
        began = time.time()
        time.sleep(seconds)
        ended = time.time()
    print(began, ended, flush=True)
