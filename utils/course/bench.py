"""Measures the speeds and sizes that the documentation speaks of: `make bench`.

Each row is the median of several runs in one process, or of several processes. The limits beside
them are what the course promises on two cores; they are printed, not tested, because a busy
machine would fail them.
"""

import os
import statistics
import subprocess
import sys
import time

from utils.course.settings import ROOT


def median_seconds(action, repeats: int = 5) -> float:
    """Return the median time of an action in seconds, after one run that warms up.

    Args:
        action: a function without arguments.
        repeats: how many runs are measured.

    >>> median_seconds(lambda: None, repeats=1) < 1
    True
    """
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _command(*arguments):
    def run():
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True)

    return run


def _exhaust(name, split, **options):
    from utils.data import load

    for _ in load(name, split, batch_size=64, **options):
        continue


def rows():
    """Yield `(what, seconds, limit)` one after the other; the limit is in seconds, or None."""
    import keras

    from utils.cost import count

    small = keras.applications.MobileNetV2(weights=None)
    yield "count(MobileNetV2), 224 px", median_seconds(lambda: count(small)), 0.5
    large = keras.applications.EfficientNetB7(weights=None, input_shape=(600, 600, 3))
    yield "count(EfficientNetB7), 600 px", median_seconds(lambda: count(large), 3), None
    yield (
        "load solar_cells, all 1,968 trainval cells at 160 px",
        median_seconds(lambda: _exhaust("solar_cells", "trainval", image_size=160), 3),
        2.0,
    )
    yield (
        "load solar_cells, one batch of 64 at 160 px",
        median_seconds(lambda: _exhaust("solar_cells", "train[:64]", image_size=160), 3),
        2.0,
    )
    yield "make environment, nothing to do", median_seconds(_command("make", "environment")), 1.0
    yield (
        "python -m utils.data, nothing to do",
        median_seconds(_command(sys.executable, "-m", "utils.data")),
        1.0,
    )
    yield (
        "python -m utils.course.build --check",
        median_seconds(_command(sys.executable, "-m", "utils.course.build", "--check"), 3),
        None,
    )


def main():
    """Print the table."""
    print(f"{'what':<56}{'median':>9}{'promised':>10}")
    for what, seconds, limit in rows():
        promised = f"< {limit:g} s" if limit else ""
        print(f"{what:<56}{seconds:>7.2f} s{promised:>10}", flush=True)


if __name__ == "__main__":
    main()
