"""Lets the workers of a Dask cluster do the jobs: `python -m utils.experiments --scheduler tcp://…`.

Install `requirements-cluster.txt` on every machine that shall take part. Then, each in the folder
of the course,

    .venv/bin/python -m distributed.cli.dask_scheduler            on one of them
    .venv/bin/python -m distributed.cli.dask_worker tcp://HOST:8786 --nthreads 1 --nworkers 2

A worker that dies costs the job that it was doing, which another one begins anew.
"""

import contextlib
import os
import sys

import distributed

from utils.experiments.runner import ONE_THREAD, ExperimentError

SECONDS = 10  # how long a scheduler may take to answer


class OneThread(distributed.WorkerPlugin):
    """Gives the TensorFlow of each worker one thread, and of each that joins or is started again.

    >>> OneThread().name
    'one-thread'
    """

    name = "one-thread"

    def setup(self, worker):
        """Set what TensorFlow reads when it is imported."""
        os.environ.update(ONE_THREAD)


@contextlib.contextmanager
def connect(scheduler: str):
    """Yield an executor on a cluster's workers, and how many there are.

    Args:
        scheduler: its address, such as "tcp://192.168.0.5:8786".

    Raises:
        ExperimentError: nothing answers there, there is no worker, or one has several threads.

    >>> with connect("somewhere") as (executor, workers):  # doctest: +ELLIPSIS
    ...     executor.submit(max, 1, 2).result()
    Traceback (most recent call last):
    ...
    utils.experiments.runner.ExperimentError: --scheduler=somewhere: no Dask scheduler answers ...
    """
    try:
        client = distributed.Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError):
        raise ExperimentError(
            f"--scheduler={scheduler}: no Dask scheduler answers there; "
            "expected an address such as tcp://192.168.0.5:8786"
        ) from None
    with client:
        workers = client.nthreads()
        if not workers:
            raise ExperimentError(f"--scheduler={scheduler}: it has no workers yet")
        late = client.run(_late)
        for worker, threads in workers.items():
            if threads > 1:
                raise ExperimentError(
                    f"--scheduler={scheduler}: the worker {worker} has {threads} threads for jobs; "
                    "start it with --nthreads 1, and with --nworkers for more jobs at a time"
                )
            if late[worker]:
                raise ExperimentError(
                    f"--scheduler={scheduler}: the worker {worker} has TensorFlow running with "
                    "other numbers of threads; start it again"
                )
        client.register_plugin(OneThread())
        # Each call is a job of its own, even if one with the same settings failed before.
        yield client.get_executor(pure=False), len(workers)


def _late():
    """Tell whether a worker's TensorFlow has read its number of threads, and another one."""
    set_here = {name: os.environ.get(name) for name in ONE_THREAD}
    return "tensorflow" in sys.modules and set_here != ONE_THREAD
