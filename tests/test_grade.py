"""Learners' notebooks, most of them hostile, through the grader."""

import csv
import json
import os
import select
import time
from types import SimpleNamespace

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from utils.course import grade as grader
from utils.course.exercise import Part
from utils.course.feedback import Points
from utils.course.plain import dumps, loads
from utils.exercises import all_exercises, find

LESSON = "00_start_here"
RIGHT = {
    "conv_params": """\
def conv_params(kernel, channels, filters, bias):
    return kernel * kernel * channels * filters + (filters if bias else 0)""",
    "conv_macs": """\
def conv_macs(height, width, kernel, channels, filters, stride):
    positions = math.ceil(height / stride) * math.ceil(width / stride)
    return positions * kernel * kernel * channels * filters""",
    "balanced_accuracy": """\
def balanced_accuracy(labels, predictions):
    return float(np.mean([np.mean(predictions[labels == c] == c) for c in (0, 1)]))""",
    "scale_layer": """\
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")

    def call(self, x):
        return self.scale * x""",
}
STUB = {
    "conv_params": "def conv_params(kernel, channels, filters, bias):\n    ...",
    "conv_macs": "def conv_macs(height, width, kernel, channels, filters, stride):\n    ...",
    "balanced_accuracy": "def balanced_accuracy(labels, predictions):\n    ...",
    "scale_layer": "class Scale(keras.layers.Layer):\n    def call(self, x):\n        ...",
}
ANSWERS = {name: name for name in RIGHT} | {"scale_layer": "Scale"}
IMPORTS = "import math\nimport numpy as np"
# Whatever leaves a file behind was run.
EXPERIMENT = "open('experiment.ran', 'w').close()"


def exercise(name, source):
    return new_code_cell(
        source,
        id="exercise-" + name.replace("_", "-"),
        metadata={
            "course": {"exercise": name},
            "nbgrader": {"grade_id": name, "solution": True, "grade": False},
        },
    )


def check(name, source=None):
    return new_code_cell(
        source or f'check("{name}", {ANSWERS[name]})',
        id="check-" + name.replace("_", "-"),
        metadata={"course": {"check": name}},
    )


def setup(source):
    return new_code_cell(source, id="setup", metadata={"course": {"setup": True}})


def book(*cells, lesson=LESSON):
    # Not by nbformat, which repairs what learners' notebooks really have, such as equal ids.
    return {
        "cells": [new_markdown_cell("# A lesson"), *cells],
        "metadata": {"course": {"lesson": lesson}} if lesson else {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def pairs(answers):
    return [cell for name in answers for cell in (exercise(name, answers[name]), check(name))]


@pytest.fixture(scope="module", autouse=True)
def lessons(tmp_path_factory):
    """A repository whose only lesson has the four exercises above."""
    folder = tmp_path_factory.mktemp("lessons")
    experiment = new_code_cell(EXPERIMENT, metadata={"tags": ["experiment"]})
    lesson = book(
        setup("from utils.course import check, progress"),
        new_code_cell(IMPORTS),
        experiment,
        *pairs(STUB),
    )
    (folder / f"{LESSON}.ipynb").write_text(json.dumps(lesson))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grader, "LESSONS", folder)
        yield folder


@pytest.fixture
def hand_in(tmp_path):
    """Write a learner's notebook and return its path."""

    def write(*cells, name="learner.ipynb", **options):
        (tmp_path / name).write_text(json.dumps(book(*cells, **options)))
        return tmp_path / name

    return write


def summary(report):
    """Points and first message of each exercise."""
    return {
        name: (float(points), points.parts[0].message) for name, points in report.points.items()
    }


def assert_only(report, *costs):
    """Every exercise got all its points, but for those that are named."""
    for name, points in report.points.items():
        assert points == (0 if name in costs else find(name).points), (name, points.text)


def test_right_answers_get_all_points_whatever_else_the_notebook_does(hand_in, lessons):
    bare = exercise("conv_macs", RIGHT["conv_macs"])
    bare.metadata.clear()
    named_by_nbgrader = exercise("balanced_accuracy", RIGHT["balanced_accuracy"])
    del named_by_nbgrader.metadata["course"]
    named_by_nbgrader.id = "else"
    path = hand_in(
        setup("import os\nopen('setup.ran', 'w').close()\nos._exit(1)"),
        new_code_cell(IMPORTS + "\nimport keras"),
        new_code_cell(EXPERIMENT),
        new_code_cell(
            "import utils.course.exercise, utils.course.feedback\n"
            "check = verdict = eval = open = None\n"
            "utils.course.exercise.verdict = utils.course.feedback.check = None\n"
            "for _ in range(2000):\n    print('points: 1000 ' * 100)"
        ),
        exercise("conv_params", "def conv_params(*arguments):\n    return 1"),
        exercise("conv_params", RIGHT["conv_params"]),
        check("conv_params", "__builtins__.open('check.ran', 'w').close()\nconv_params = None"),
        bare,
        new_code_cell("conv_macs = 1"),
        named_by_nbgrader,
        check("balanced_accuracy", "import os\nos._exit(1)"),
        *pairs({"scale_layer": RIGHT["scale_layer"]}),
        new_code_cell("raise SystemExit"),
        lesson=None,
    )
    report = grader.grade(path)
    assert_only(report)
    assert report.lesson == LESSON
    assert "Total: 6 of 6 points" in report.text
    assert [file.name for file in lessons.iterdir()] == [f"{LESSON}.ipynb"]


def test_an_untouched_notebook_gets_nothing(hand_in):
    # Without the Keras layer, because Keras takes seconds to import.
    stubs = {name: STUB[name] for name in STUB if name != "scale_layer"}
    seen = summary(grader.grade(hand_in(new_code_cell(IMPORTS), *pairs(stubs))))
    for name in stubs:
        points, message = seen[name]
        assert points == 0
        assert message.startswith("Not attempted yet")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "x = 1\n\nunknown + x",
            "The cell stopped with NameError: name 'unknown' is not defined (line 3).",
        ),
        ("def f(x):\n    return 1 / x\n\nf(0)", "division by zero (line 2)."),
        ("x = (", "(line 1)."),
        ("import sys\nsys.exit('enough')", "The cell stopped with SystemExit: enough"),
        ("exit()", "The cell ended Python itself"),
        ("import os\nos._exit(0)", "The cell ended Python itself"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "The cell ended Python itself"),
        ("while True:\n    pass", "The cell was stopped after 2 s: does a loop never end?"),
        ("input()", "The cell stopped with"),
    ],
)
def test_a_fatal_cell_costs_its_own_points_alone(hand_in, source, message):
    answers = RIGHT | {"conv_macs": source + "\n\n" + RIGHT["conv_macs"]}
    del answers["scale_layer"]
    report = grader.grade(hand_in(new_code_cell(IMPORTS), *pairs(answers)), seconds=2)
    assert_only(report, "conv_macs", "scale_layer")
    assert message in summary(report)["conv_macs"][1]
    assert summary(report)["scale_layer"] == (
        0,
        "The exercise's cell was not found in the notebook.",
    )


def test_a_cell_can_leave_no_process_behind(hand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(grader, "_GRACE", 1)
    start = (
        "import os, subprocess\n"
        "pipe = open(%r, 'w')\n"
        "print('up', file=pipe, flush=True)\n"
        "subprocess.Popen(['sleep', '600'], stdout=pipe)\n"
    )
    ignore = "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass"
    pipes = [str(tmp_path / name) for name in ("ends", "ignores")]
    answers = {
        "conv_params": start % pipes[0] + "os._exit(0)",
        "conv_macs": start % pipes[1] + ignore,
        "balanced_accuracy": RIGHT["balanced_accuracy"],
    }
    for pipe in pipes:
        os.mkfifo(pipe)
    readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
    report = grader.grade(hand_in(new_code_cell(IMPORTS), *pairs(answers)), seconds=1)
    assert_only(report, "conv_params", "conv_macs", "scale_layer")
    assert "does a loop never end?" in summary(report)["conv_macs"][1]
    for reader in readers:
        assert os.read(reader, 10) == b"up\n"
        # A pipe ends when the last process that can write to it has ended.
        assert select.select([reader], [], [], 5)[0]
        assert os.read(reader, 10) == b""
        os.close(reader)


def test_an_answer_that_ends_python_costs_its_own_points_alone(hand_in, tmp_path):
    answers = RIGHT | {
        "conv_params": "import os\n\ndef conv_params(*arguments):\n    os._exit(0)",
        "conv_macs": "macs = 1",
    }
    del answers["scale_layer"]
    cells = [new_code_cell(IMPORTS), *pairs(answers)]
    # This one does no harm at first, and ends the fresh kernel when it runs again.
    again = f"import os\nmark = {str(tmp_path / 'mark')!r}\n"
    again += "if os.path.exists(mark):\n    os._exit(0)\nopen(mark, 'w').close()"
    cells.insert(1, new_code_cell(again))
    report = grader.grade(hand_in(*cells))
    assert_only(report, "conv_params", "conv_macs", "scale_layer")
    seen = summary(report)
    assert seen["conv_params"][1].startswith(
        "`conv_params`, when it was tried, ended Python itself"
    )
    assert "NameError: name 'conv_macs' is not defined" in seen["conv_macs"][1]


def test_a_half_right_answer_gets_part_of_the_points(hand_in):
    half = "def conv_params(k, c, f, bias):\n    return k * k * c * f"
    report = grader.grade(hand_in(*pairs({"conv_params": half})))
    assert report.points["conv_params"] == 0.5
    hints = [part.message for part in report.points["conv_params"].parts if part.message]
    assert len(hints) == 1
    assert hints[0] in " ".join(report.text.split())  # lines wrap


def test_the_whole_notebook_has_a_time_limit(hand_in, monkeypatch):
    monkeypatch.setattr(grader, "_CELLS", 2)
    loops = [new_code_cell("while True:\n    pass") for _ in range(20)]
    start = time.monotonic()
    cells = [*pairs({"conv_params": RIGHT["conv_params"]}), *loops]
    report = grader.grade(hand_in(*cells, *pairs({"conv_macs": RIGHT["conv_macs"]})), seconds=5)
    assert time.monotonic() - start < 21
    assert_only(report, "conv_macs", "balanced_accuracy", "scale_layer")
    message = "The cell was not run: the cells above took all of the 10 s."
    assert summary(report)["conv_macs"] == (0, message)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "not a notebook"),
        (b"\xff\xfe\x00 rubbish", "not a notebook"),
        (b"[" * 100_000, "not a notebook"),
        (b"[]", "no list of cells"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"cells": [1]}', "no list of cells"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}]}', "no list of cells"),
        (b'{"cells": [], "metadata": []}', "not a lesson of this course"),
        (b'{"cells": [], "metadata": {"course": {"lesson": []}}}', "not a lesson of this course"),
        (b'{"cells": [], "metadata": {"course": {"lesson": "../x"}}}', "not a lesson of this"),
        (
            b'{"cells": [{"cell_type": "code", "id": [], "metadata": {"nbgrader": 1}}]}',
            "not a lesson of this course",
        ),
    ],
)
def test_a_file_that_cannot_be_graded_gets_one_sentence(tmp_path, capsys, content, why):
    path = tmp_path / "learner.ipynb"
    if content is not None:
        path.write_bytes(content)
    assert grader.main([str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{path}: ")
    assert why in err
    assert err.count("\n") == 1
    assert err.endswith(".\n")


def test_a_folder_is_not_a_notebook(tmp_path, capsys):
    assert grader.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{tmp_path}: Is a directory.\n"


def test_the_other_files_are_graded_and_the_table_has_their_exercises(hand_in, tmp_path, capsys):
    bad = tmp_path / "bad.ipynb"
    bad.write_text("rubbish")
    half = "def conv_params(k, c, f, bias):\n    return k * k * c * f"
    good = hand_in(*pairs({"conv_params": half}), name="good.ipynb")
    table = tmp_path / "grades.csv"
    assert grader.main([str(bad), str(good), "--csv", str(table)]) == 1
    out, err = capsys.readouterr()
    assert "Total: 0.5 of 6 points" in out
    lines = err.splitlines()
    assert lines[0] == "grading 1 of 2: bad.ipynb"
    assert lines[1].startswith(f"{bad}: not a notebook")
    assert lines[2:] == ["grading 2 of 2: good.ipynb"]
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["exercise"] for row in rows] == list(RIGHT)
    assert {(row["file"], row["lesson"]) for row in rows} == {(str(good), LESSON)}
    assert (rows[0]["points"], rows[0]["of"]) == ("0.5", "1")
    assert ": conv_params(" in rows[0]["message"]
    assert rows[1]["message"] == "answer: The exercise's cell was not found in the notebook."


def test_the_table_runs_no_formula_and_is_replaced_as_a_whole(tmp_path, monkeypatch):
    parts = [Part("=HYPERLINK()", 1, 0, "-1+1"), Part("more", 1, 1)]
    report = grader.Report("@sum.ipynb", LESSON, {"conv_macs": Points(parts)})
    table = tmp_path / "grades.csv"
    grader.write_csv(table, [report])
    written = table.read_text()
    assert written == (
        "file,lesson,exercise,points,of,message\n"
        f"'@sum.ipynb,{LESSON},conv_macs,1,2,'=HYPERLINK(): -1+1\n"
    )

    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        grader.write_csv(table, [])
    assert table.read_text() == written
    assert list(tmp_path.iterdir()) == [table]


def test_a_table_that_cannot_be_written_is_said_before_grading(tmp_path, capsys):
    table = tmp_path / "missing" / "grades.csv"
    assert grader.main([str(tmp_path / "learner.ipynb"), "--csv", str(table)]) == 1
    assert capsys.readouterr().err == f"{table}: the folder {table.parent} does not exist.\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_limit_is_a_number_above_zero(capsys, seconds):
    with pytest.raises(SystemExit):
        grader.main(["learner.ipynb", "--seconds", seconds])
    assert f"--seconds {seconds}: expected a number above 0" in capsys.readouterr().err


FORGED = [
    "",
    "rubbish",
    "1",
    "[" * 100_000,
    '{"dict": []}',
    '{"dict": {"points": 10}}',
    '{"dict": {"refused": 3}}',
    '{"seen": 1, "printed": ""}',
    '{"array": ["O", [1], "AAAA"]}',
    '{"array": ["no type", [1], "AAAA"]}',
    '{"array": ["<f8", [1180591620717411303424], "AAAA"]}',
]


@pytest.mark.parametrize("text", FORGED)
def test_forged_data_from_the_kernel_is_refused(tmp_path, text):
    forged = tmp_path / "seen.json"
    forged.write_text(text)
    assert grader._examined(forged) is None


def test_data_from_the_kernel_must_be_a_file_of_a_sound_size(tmp_path, monkeypatch):
    whole = tmp_path / "seen.json"
    whole.write_text(dumps({"seen": 1}))
    assert grader._examined(whole) == {"seen": 1}
    monkeypatch.setattr(grader, "_LARGEST", 10)
    assert grader._examined(whole) is None
    os.mkfifo(tmp_path / "pipe")
    assert grader._examined(tmp_path / "pipe") is None
    assert grader._examined(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"parent_header": []},
        {"parent_header": {"msg_id": "1"}, "content": []},
        {"parent_header": {"msg_id": "1"}, "content": {"status": "ok", "payload": 1}},
        {"parent_header": {"msg_id": "1"}, "content": {"status": "error", "evalue": 1}},
    ],
)
def test_a_forged_reply_counts_as_the_end_of_the_kernel(reply):
    kernel = object.__new__(grader._Kernel)
    kernel.asked, kernel.client = "1", SimpleNamespace(get_shell_msg=lambda timeout: reply)
    with pytest.raises(grader._KernelGone):
        kernel._reply(1)


def test_a_forged_answer_earns_nothing(hand_in):
    forge = (
        "import utils.course.grade\n"
        "def forge(exercise_id, answer, given, seen):\n"
        '    open(seen, \'w\').write(\'{"dict": {"seen": {"dict": {"points": 1000}}}}\')\n'
        "utils.course.grade.answer_in_kernel = forge"
    )
    report = grader.grade(hand_in(new_code_cell(forge), *pairs({"conv_params": "..."})))
    assert report.points["conv_params"] == 0


def equal(one, other):
    """Same values of the same types, arrays with the same dtypes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.parametrize("name", all_exercises())
def test_the_inputs_of_every_exercise_reach_the_kernel(name):
    inputs = find(name).inputs(np.random.default_rng(0))
    assert equal(loads(dumps(inputs)), inputs)
