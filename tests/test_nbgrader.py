"""What nbgrader reads in an executed notebook is what `check` gave."""

import pytest
from nbclient import NotebookClient
from nbgrader.utils import determine_grade
from traitlets.config import Config

from utils.course.build import notebook
from utils.course.settings import ROOT, load
from utils.course.source import Cell, Lesson
from utils.exercises import find

LOUD = """\
import logging
import os
import sys
import warnings

import numpy as np

logger = logging.getLogger("learner")
logger.addHandler(logging.StreamHandler())

def balanced_accuracy(labels, predictions):
    warnings.warn("labels")
    print("labels", file=sys.stderr)
    logger.warning("labels")
    os.system("echo labels >&2")
    print(1.0)
    return float(np.mean([np.mean(predictions[labels == c] == c) for c in (0, 1)]))"""
# name: what the learner's cell says (None: left as it was), points
ANSWERS = {
    "conv_params": ("def conv_params(k, c, f, b):\n    return k * k * c * f + b * f", 1),
    "conv_macs": (None, 0),
    "balanced_accuracy": (LOUD, 1),
    "conv_output_size": ("def conv_output_size(n, k, s, padding):\n    return -(-n // s)", 1),
    "first_layer": ("def first_layer(*budgets):\n    return 1 / 0", 0),
}


@pytest.fixture(scope="module")
def graded():
    """The check cells of a notebook as the build makes it, answered and executed."""
    cells = [Cell("markdown", "# A lesson", {}, 1)]
    for name in ANSWERS:
        stub = f"def {name}(*arguments):\n    ### BEGIN SOLUTION\n    ### END SOLUTION"
        marks = {"exercise": name, "points": find(name).points}
        cells.append(Cell("code", stub, marks, 1))
        cells.append(Cell("code", f'check("{name}", {name})', {"check": name}, 1))
    lesson = Lesson(ROOT / "solutions" / "00_lesson.py", "A lesson", "a lesson", 1, cells)
    book = notebook(lesson, load(), {"seconds": 1, "gigabytes": 1.0}, solutions=False)
    for cell in book.cells:
        answer, _ = ANSWERS.get(cell.metadata.get("course", {}).get("exercise"), (None, 0))
        cell.source = answer or cell.source
    client = NotebookClient(
        book,
        kernel_name="python3",
        timeout=600,
        # Otherwise the kernel warns on stderr that others could read along.
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        resources={"metadata": {"path": str(ROOT / "lessons")}},
    )
    with pytest.MonkeyPatch.context() as patch:
        # A kernel of the same name in the user's home must not stand in for this environment's.
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        # Under this name a kernel does not show what is written to the file descriptors.
        patch.delenv("PYTEST_CURRENT_TEST")
        client.execute()
    checks = {cell.metadata.get("course", {}).get("check"): cell for cell in book.cells}
    return {name: checks[name] for name in ANSWERS}


@pytest.mark.parametrize("name", ANSWERS)
def test_nbgrader_gives_what_check_gave(graded, name):
    given = [o for o in graded[name].outputs if o.output_type == "execute_result"]
    assert float(given[0].data["text/plain"]) == ANSWERS[name][1]
    assert determine_grade(graded[name]) == (ANSWERS[name][1], find(name).points)


def test_a_line_on_stderr_would_have_cost_the_points(graded):
    cell = graded["conv_params"].copy()
    loud = {"output_type": "stream", "name": "stderr", "text": "labels"}
    cell.outputs = [type(cell)(loud), *cell.outputs]
    assert determine_grade(cell) == (0, 1)
