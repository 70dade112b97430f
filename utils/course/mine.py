"""Tells a notebook that somebody has worked in from one as the build wrote it, and keeps a copy.

The build notes a digest of a notebook's cells in its metadata. Cells that no longer fit it were
changed since, and a learners' notebook with outputs was run. What a program notes about the
notebook as a whole, such as the kernel's version, and the cells' ids, which Colab moves, count for
nothing.
"""

import datetime
import hashlib
import json
import shutil
from pathlib import Path

# A copy lies beside its notebook; git, pytest and the build pass over it.
MARK = ".mine-"


def digest(cells: list[dict]) -> str:
    """Return what the cells are, in short: types, texts, metadata and attachments, not outputs.

    Args:
        cells: the cells of a notebook, as `json` or `nbformat` reads them.

    >>> cells = [{"cell_type": "code", "source": ["1 +", " 1"], "metadata": {}, "outputs": []}]
    >>> digest(cells) == digest([cells[0] | {"source": "1 + 1", "id": "a"}])
    True
    """
    kept = [
        (cell["cell_type"], text(cell), cell["metadata"], cell.get("attachments") or {})
        for cell in cells
    ]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def text(cell: dict) -> str:
    r"""Return a cell's text, which a notebook's file may hold as a list of lines.

    >>> text({"source": ["a\\n", "b"]}) == text({"source": "a\\nb"})
    True
    """
    return "".join(cell["source"])


def changed_by_hand(path: Path) -> bool:
    """Return whether a notebook of the course holds more than what the build wrote.

    Args:
        path: a file in `lessons` or `solutions`. One that is not there was not changed; one that is
            damaged, or no notebook, was.

    >>> changed_by_hand(Path("lessons/missing.ipynb"))
    False
    """
    if not path.exists():
        return False
    try:
        book = json.loads(path.read_bytes())
        cells, course = book["cells"], book["metadata"]["course"]
        run = any(c.get("outputs") or c.get("execution_count") is not None for c in cells)
        return digest(cells) != course["digest"] or (run and "measured" not in course)
    # A damaged file can lack any of this, or have a thing of another kind in its place.
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return True


def set_aside(path: Path) -> Path:
    """Copy a notebook to a free name beside it, as 00_start_here.mine-2026-11-28.ipynb.

    Args:
        path: the notebook, which stays where it is.

    Returns:
        The copy's path.
    """
    stem, number = f"{path.stem}{MARK}{datetime.date.today()}", 1
    copy = path.with_name(f"{stem}.ipynb")
    while copy.exists():
        number += 1
        copy = path.with_name(f"{stem}-{number}.ipynb")
    scratch = copy.with_suffix(".tmp")
    shutil.copyfile(path, scratch)
    scratch.rename(copy)
    return copy
