"""A check says when it judges an object of before, and says nothing where it does not."""

import os
import re
import sys
from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from utils.course import feedback
from utils.course.cells import Cells, definitions
from utils.course.exercise import Part
from utils.course.feedback import Points, check
from utils.course.source import read, sources
from utils.tables import WIDTH

RIGHT = "def conv_macs(h, w, k, c, f, s):\n    return -(-h // s) * -(-w // s) * k * k * c * f"
HELPED = "def conv_macs(h, w, k, c, f, s):\n    return side(h, s) * side(w, s) * k * k * c * f"
CHECK = 'said.append(cells.remark("conv_macs", conv_macs)); check("conv_macs", conv_macs)'


@pytest.fixture
def session(monkeypatch, capsys):
    """Runs cells as a kernel does; returns what the last check remarked."""
    # A shell puts its own module there.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    config = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell(config=config)
    cells, said = Cells(shell.user_ns), []
    shell.events.register("pre_run_cell", cells.begin)
    shell.events.register("post_run_cell", cells.end)
    shell.user_ns.update(cells=cells, said=said, check=lambda *_: None)

    def run(*sources, ids=True):
        for source in sources:
            # The exercise is always the same cell; all others are cells of their own.
            is_exercise = re.search(r"def conv_[mM]|class conv_|conv_macs = |# conv_macs", source)
            options = {"cell_id": "exercise" if is_exercise else source} if ids else {}
            shell.run_cell(source, store_history=True, **options)
        return said[-1]

    return run


both = pytest.mark.parametrize("ids", [True, False], ids=["cell ids", "no cell ids"])


@both
@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (RIGHT.replace(")", "", 1), "stopped with SyntaxError"),
        ("  " + RIGHT, "stopped with IndentationError"),
        ("1 / 0\n" + RIGHT, "stopped with ZeroDivisionError"),
        ("@missing\n" + RIGHT, "stopped with NameError"),
        ("class conv_macs:\n    x = missing", "stopped with NameError"),
        ("conv_macs = missing", "stopped with NameError"),
        (RIGHT.replace("conv_macs", "conv_mac"), "defines `conv_mac`, not `conv_macs`"),
        (RIGHT.replace("conv_macs", "conv_Macs"), "defines `conv_Macs`, not `conv_macs`"),
    ],
)
def test_what_was_judged_is_said(session, broken, what, ids):
    if broken.startswith("  "):  # IPython takes a common indentation away
        broken = "x = 1\n" + broken
    assert session(RIGHT, CHECK, broken, CHECK, ids=ids) == (
        f"Cell [3] {what}, so this judges `conv_macs` as cell [1] defined it."
    )
    # It stays true after other cells, and is gone when the cell works.
    assert session("2 + 2", CHECK, ids=ids).startswith("Cell [3]")
    assert session(RIGHT, CHECK, ids=ids) == ""


def test_emptied_cell_is_noticed_where_cells_have_ids(session):
    assert session(RIGHT, "# conv_macs comes later", CHECK) == (
        "Cell [2] no longer defines `conv_macs`, so this judges `conv_macs` as cell [1] defined it."
    )


@both
def test_helper_that_failed_is_said(session, ids):
    helper = "def side(n, s):\n    return -(-n // s)"
    assert session(helper, HELPED, CHECK, ids=ids) == ""
    assert session(helper.replace(")", "", 1), CHECK, ids=ids) == (
        "Cell [4] stopped with SyntaxError, so this uses `side` as cell [1] defined it."
    )


@both
@pytest.mark.parametrize(
    "between",
    [
        [],
        ["2 + 2"],
        ["1 / 0"],
        ["def other(x:\n    return x"],
        ["x = conv_macs(1, 2, 3, 4, 5, 6)"],
        ["print(conv_macs(1))"],
        ["conv_macs_of_one_row = 3", "def helper(x): return x"],
        ["%%time\n" + RIGHT],
        [RIGHT + "\nconv_macs(1)"],  # defined, and then an error
        [RIGHT.replace(")", "", 1), RIGHT],
        ["!true\n" + RIGHT, "def h(x): return conv_macs"],
    ],
    ids=range(11),
)
def test_no_false_alarm(session, between, ids):
    assert session(RIGHT, CHECK, *between, CHECK, ids=ids) == ""


def test_moving_an_answer_to_another_cell_is_no_alarm(session):
    assert session("conv_macs = 1", "def side(n): return n # for the check(", CHECK) == ""


def _fresh(names):
    return {name: object() for name in names}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.stem)
def test_running_a_lesson_is_no_alarm(path):
    """Also without cell ids, where names that look alike could be taken for slips."""
    space = {}
    cells = Cells(space)
    code = [cell for cell in read(path).cells if cell.kind == "code"]
    checks = [cell for cell in code if "check" in cell.metadata]
    for count, cell in enumerate([*code, *checks], 1):
        info = SimpleNamespace(raw_cell=cell.text)
        cells.begin(info)
        if "check" in cell.metadata:
            assert cells.remark(cell.metadata["check"], None) == ""
        space |= _fresh(definitions(cell.text))
        cells.end(
            SimpleNamespace(
                info=info, execution_count=count, error_before_exec=None, error_in_exec=None
            )
        )
    assert checks


def test_remark_stands_beside_the_points(monkeypatch, capsys):
    remark = "Cell [3] stopped with SyntaxError, so this judges `f` as cell [1] defined it, <b>."
    monkeypatch.setattr(feedback, "_cells", SimpleNamespace(remark=lambda *_: remark))
    points = check("conv_macs", ...)
    assert repr(points) == "0.0"
    assert points.text.splitlines()[1].startswith("  Cell [3] stopped")
    assert max(map(len, points.text.splitlines())) <= WIDTH
    assert "judges <code>f</code> as cell [1]" in points._repr_html_()
    assert "&lt;b&gt;" in points._repr_html_()

    def fails(*_):
        raise ValueError

    monkeypatch.setattr(feedback, "_cells", SimpleNamespace(remark=fails))
    assert check("conv_macs", ...).remark == ""


def test_feedback_fits_a_line():
    points = Points([Part("a", 1, 0, "long words " * 30)], printed="x")
    assert max(map(len, points.text.splitlines())) <= WIDTH


def test_a_real_kernel_says_it(tmp_path):
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    first = "from utils.course import check"
    sources_ = [first, RIGHT, CHECK_ONLY, RIGHT.replace(")", "", 1), CHECK_ONLY]
    book = new_notebook(cells=[new_code_cell(source) for source in sources_])
    client = NotebookClient(
        book,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": os.getcwd()}},
    )
    client.execute()
    before, after = (book.cells[index].outputs[-1].data for index in (2, 4))
    assert before["text/plain"] == after["text/plain"] == "2.0"
    assert "judges" not in before["text/html"]
    assert (
        "Cell [4] stopped with SyntaxError, so this judges <code>conv_macs</code> as cell [2]"
        in after["text/html"]
    )


CHECK_ONLY = 'check("conv_macs", conv_macs)'
