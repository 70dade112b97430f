"""Experiments whose results the lessons plot: what takes minutes, several seeds, or both.

Each module beside this one is an experiment, save `runner`, which runs them, `cluster`, which lets
other machines do so, and `solar`, a training recipe that some share. It has

- `jobs()`, a list of settings, dictionaries of plain data, the longest job first;
- `run(settings)`, which does one job and returns plain data;
- `summarise(jobs)`, which turns the finished jobs (`{"settings": …, "result": …}`) into plain data;
- `models()`, the Keras models of its jobs, so that a change in them makes the result stale.

    python -m utils.experiments            runs what is stale and writes data/results/NAME.json
    python -m utils.experiments --list     says what is stale and how long it takes
    python -m utils.experiments --check    the same, and fails if anything is stale
    python -m utils.experiments sweep --scheduler tcp://…    runs its jobs on a Dask cluster
"""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
SHARED = {
    "__main__",
    "cluster",
    "runner",
    "solar",
}  # modules beside this one that are no experiment


def result(name: str, folder: Path = RESULTS) -> dict:
    """Read the committed result of an experiment.

    Args:
        name: the experiment, such as `"degradation"`.
        folder: where the results are.

    Returns:
        `jobs` (a list of `settings`, `result`, `seconds`), the experiment's `summary` of them, its
        `seeds`, and how it was run: `versions`, `processors`, `workers`, `seconds` and
        `fingerprint`.

    Raises:
        ValueError: there is no such result.

    >>> result("degradation")["experiment"]
    'degradation'
    """
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(repr(path.stem) for path in sorted(folder.glob("*.json"))) or "none yet"
        raise ValueError(
            f"name={name!r}: expected an experiment with a result ({there}); "
            "`make experiments` runs those that have none"
        ) from None
