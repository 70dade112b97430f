"""The learners' notebooks as the course has built them, whatever was written into them since."""

import re
from pathlib import Path

import nbformat

from utils.course.source import stub

_EXERCISE = re.compile(r'^# %% exercise="(\w+)".*\n((?:(?!# %%).*\n?)*)', re.MULTILINE)


def is_lesson(path: Path) -> bool:
    """Return whether `path` is a notebook of the course: one whose source is in solutions/."""
    source = path.parent.parent / "solutions" / f"{path.stem}.py"
    return path.suffix == ".ipynb" and source.is_file()


def untouched(path: Path):
    """Return the notebook that the course gives to learners, from its solutions and its source.

    Needs no jupytext, which learners do not have.

    Args:
        path: the learners' notebook, `lessons/NN_name.ipynb`.
    """
    solutions = path.parent.parent / "solutions" / path.name
    source = solutions.with_suffix(".py").read_text(encoding="utf-8")
    stubs = {name: stub(text.rstrip()) for name, text in _EXERCISE.findall(source)}
    book = nbformat.read(solutions, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            name = cell.metadata.get("course", {}).get("exercise")
            cell.source = stubs.get(name, cell.source)
    return book


def is_touched(path: Path) -> bool:
    """Return whether somebody has worked in a notebook: answered, run or added a cell.

    A changed cell of the course's own is no answer: either a stale notebook, or an edit that
    belongs into the source.

    Args:
        path: the learners' notebook, `lessons/NN_name.ipynb`.
    """
    own = {cell.id: cell for cell in untouched(path).cells}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.id not in own or cell.get("outputs") or cell.get("execution_count") is not None:
            return True
        if "exercise" in cell.metadata.get("course", {}) and cell.source != own[cell.id].source:
            return True
    return False
