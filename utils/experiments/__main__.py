"""Runs the experiments whose committed result is stale: `python -m utils.experiments`."""

import argparse
import contextlib
import os
import pkgutil
import sys
import traceback

from utils import experiments
from utils.experiments.runner import WORKERS, Experiment, ExperimentError


def known() -> dict:
    """Return the experiments of the course: name → module.

    >>> known()["degradation"]
    'utils.experiments.degradation'
    """
    modules = {module.name for module in pkgutil.iter_modules(experiments.__path__)}
    return {name: f"{experiments.__name__}.{name}" for name in sorted(modules - experiments.SHARED)}


def main(arguments: list | None = None, modules: dict | None = None, **folders) -> int:
    """Run the command; returns its exit code.

    Args:
        arguments: of the command line; None for those of this process.
        modules: name → module of the experiments to choose from; None for the course's own.
        **folders: `results` and `cache`, as for `Experiment`.

    >>> main(["--list", "no_such"])  # and a sentence on stderr
    1
    """
    parser = argparse.ArgumentParser(prog="python -m utils.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all experiments if left out")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--list", action="store_true", help="say what is stale, run nothing")
    only.add_argument("--check", action="store_true", help="the same; exit code 1 if any is stale")
    only.add_argument("--force", action="store_true", help="run what is not stale, too")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, default=WORKERS, help="processes (default: 2)")
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="use the Dask cluster at tcp://HOST:PORT instead"
    )
    options = parser.parse_args(arguments)

    modules = known() if modules is None else modules
    for name in options.names:
        if name not in modules:
            return _refuse(f"NAME={name!r}: expected one of {', '.join(map(repr, modules))}")
    if options.workers < 1:
        return _refuse(f"--workers={options.workers}: expected 1 or more")
    stale = False
    try:
        with _executor(options.scheduler, options.workers) as (executor, workers):
            for name in options.names or modules:
                experiment = Experiment(modules[name], **folders)
                reason = experiment.why_stale()
                stale = stale or reason is not None
                print(f"{name}: {_state(experiment, reason, workers)}", flush=True)
                if (reason or options.force) and not (options.list or options.check):
                    experiment.run(executor, workers)
    except ExperimentError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return _refuse(error)
    except KeyboardInterrupt:
        print("stopped; what is finished is kept for the next run", flush=True)
        # The workers end with this process; an orderly exit would wait for their jobs.
        os._exit(130)
    return 1 if options.check and stale else 0


@contextlib.contextmanager
def _executor(scheduler, workers):
    """Yield what runs the jobs, None for processes of this machine, and how many workers it has."""
    if scheduler is None:
        yield None, workers
        return
    try:
        from utils.experiments import cluster
    except ImportError as error:
        raise ExperimentError(
            f"--scheduler={scheduler}: the package {error.name} is missing; "
            f"install it with {sys.executable} -m pip install -r requirements-cluster.txt"
        ) from None
    with cluster.connect(scheduler) as connected:
        yield connected


def _refuse(sentence):
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def _state(experiment, reason, workers):
    jobs, finished = experiment.plan()
    if reason is None:
        finished = {}
    seconds = experiment.seconds([settings for key, settings in jobs if key not in finished])
    time = "an unknown time" if seconds is None else f"about {_readable(seconds / workers)}"
    state = "current" if reason is None else f"stale, {reason}"
    done = f", {len(finished)} of them finished" if finished else ""
    return f"{state}; {len(jobs)} jobs{done}; a run takes {time} with {workers} workers"


def _readable(seconds):
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


if __name__ == "__main__":
    sys.exit(main())
