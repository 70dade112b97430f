"""What papers and other code print about the models, beside what the models of the course cost.

`data/published/` has one file a family, named as its module. A row keeps its numbers as they were
printed ("569M"), names its source, and says which count each number is, because sources differ:
some leave batch norm out of the "parameters", some the classifier out of the multiply-adds.
"""

import json
import re
from pathlib import Path

from utils.tables import Table

FOLDER = Path(__file__).resolve().parents[1] / "data" / "published"
UNITS = {"": 1, "K": 1e3, "Ki": 1024, "M": 1e6, "G": 1e9, "%": 0.01}

# What sources mean by "parameters" and by "multiply-adds"; each takes a `utils.cost.Cost`.
PARAMS_COUNTS = {
    "params": lambda cost: cost.params,
    "kernels": lambda cost: cost.kernels,
    "kernels and biases": lambda cost: cost.kernels + cost.biases,
    "params and statistics": lambda cost: cost.params + cost.statistics,
    # Batch norms that learn beta, and no gamma, and keep mean and variance.
    "three vectors a norm": lambda cost: cost.kernels + cost.biases + cost.norm * 3 // 2,
}
MACS_COUNTS = {
    "macs": lambda cost: cost.macs,
    "macs without dense layers": lambda cost: (
        cost.macs - sum(row.macs for row in cost.layers if row.kind == "Dense")
    ),
}


def rows(family: str, folder: Path = FOLDER) -> list:
    """Read the published rows of a family.

    Args:
        family: the name of its module in `utils`, such as `"residual"`.
        folder: where the tables are.

    Returns:
        Dictionaries with `model`, `variant`, `resolution` (the input's side in pixels), `params`
        and `macs` as printed (K, M, G are powers of 1000, Ki is 1024; None if not given), `top1`
        in percent or None, and `source`. Where they differ from the default, `params_count` and
        `macs_count` say what is counted (keys of `PARAMS_COUNTS`, `MACS_COUNTS`);
        `not_reproduced` lists columns that are off by more than 1 in the last digit, and `note`
        says why.

    Raises:
        ValueError: there is no such table.

    >>> rows("residual")[0]["macs"]
    '1.8G'
    """
    path = folder / f"{family}.json"
    if not path.exists():
        there = ", ".join(repr(each.stem) for each in sorted(folder.glob("*.json")))
        raise ValueError(f"family={family!r}: expected one of {there}")
    return json.loads(path.read_text(encoding="utf-8"))


def computed(row: dict, cost) -> dict:
    """Return the counts of a model in the convention of a row, for the columns that it prints.

    Args:
        row: one of `rows`.
        cost: the model's `utils.cost.Cost` at the row's resolution.

    Returns:
        `{"params": …, "macs": …}`, without the columns that the row leaves empty.

    >>> from utils.cost import count
    >>> from utils.residual import ResNet
    >>> computed(rows("residual")[0], count(ResNet(18)))
    {'macs': 1814073344}
    """
    counts = {
        "params": PARAMS_COUNTS[row.get("params_count", "params")],
        "macs": MACS_COUNTS[row.get("macs_count", "macs")],
    }
    return {column: counter(cost) for column, counter in counts.items() if row[column]}


def _parse(printed):
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", printed).groups()
    return float(number), len(number.partition(".")[2]), UNITS[unit], unit


def agrees(printed: str, value: float) -> bool:
    """Tell whether a count is within 1 in the last digit of what was printed.

    >>> agrees("569M", 568_740_352), agrees("569M", 575_000_000), agrees("3.86G", 3.858e9)
    (True, False, True)
    """
    number, decimals, unit, _ = _parse(printed)
    # A hair more than 1, because 0.1 has no exact float.
    return abs(value / unit - number) <= 10**-decimals * (1 + 1e-9)


def table(selected: list, cost_of, notes=()) -> Table:
    """Return a table of ours, published and their ratio, one row each.

    Args:
        selected: some of `rows`.
        cost_of: returns the `utils.cost.Cost` of a row's model at its resolution.
        notes: more sentences below the table.

    Returns:
        The table. A ratio has a "≠" if it is off by more than 1 in the last digit; a
        note below says why, if that is known.

    >>> from utils.cost import count
    >>> from utils.residual import ResNet
    >>> print(table(rows("residual")[:1], lambda row: count(ResNet(18))))
    network    input  multiply-adds  published  ratio
    ─────────────────────────────────────────────────
    ResNet-18    224         1.81 G      1.8 G  1.008
    """
    columns = [
        (column, name)
        for column, name in (("params", "parameters"), ("macs", "multiply-adds"))
        if any(row[column] for row in selected)
    ]
    lines = []
    for row in selected:
        values = computed(row, cost_of(row))
        line = [row["variant"], row["resolution"]]
        for column, _ in columns:
            if column not in values:
                line += ["–"] * 3
                continue
            number, decimals, unit, letter = _parse(row[column])
            ours = values[column] / unit
            # One digit more than printed, so that a rounding can be followed.
            digits = decimals + 1 if unit > 1 else 0
            grouped = "," if unit == 1 else ""
            off = "" if agrees(row[column], values[column]) else "≠ "
            line += [
                f"{ours:{grouped}.{digits}f} {letter}".strip(),
                f"{number:{grouped}.{decimals}f} {letter}".strip(),
                f"{off}{ours / number:.3f}",
            ]
        lines.append(line)
    headers = ["network", "input"]
    for _, name in columns:
        headers += [name, "published", "ratio"]
    reasons = [
        f"≠ {row['variant']}, {' and '.join(row[column] for column in row['not_reproduced'])}, "
        f"{row['source']}: {row['note'].rstrip('.')}."
        for row in selected
        if "not_reproduced" in row and "note" in row
    ]
    return Table(headers, lines, notes=[*reasons, *notes], keys=2)
