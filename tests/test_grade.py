"""Learners' notebooks, most of them hostile, through the grader."""

import base64
import csv
import io
import json
import os
import select
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from utils.course import grade as grader
from utils.course import kernel
from utils.course.exercise import Part
from utils.course.feedback import Points, evaluate
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
        setup("import math\nopen('early.ran', 'w').close()\nimport utils.course.setup"),
        new_code_cell("import numpy as np\nimport keras"),
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
    # What cells write reaches neither the repository nor the folder of who grades.
    assert [file.name for file in lessons.iterdir()] == [f"{LESSON}.ipynb"]
    note = "Code cells 5, 6 and 7 answer this exercise; cell 6 counts."
    assert report.notes["conv_params"] == [note]
    assert f"{note}\n" in report.text
    assert report.notes["conv_macs"] == ["Code cells 8 and 9 answer this exercise; cell 8 counts."]
    assert report.notes["scale_layer"] == []


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
        ("def conv_macs(:", "The cell stopped with SyntaxError"),
        ("def conv_macs(x=1 / 0): ...", "ZeroDivisionError: division by zero (line 3)."),
        ("exit()", "The cell ended Python itself"),
        ("import os\nos._exit(0)", "The cell ended Python itself"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "The cell ended Python itself"),
        ("while True:\n    pass", "The cell was stopped after 2 s: does a loop never end?"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "The cell was stopped after 2"),
    ],
)
def test_a_fatal_cell_costs_its_own_points_alone(hand_in, monkeypatch, source, message):
    monkeypatch.setattr(kernel, "_GRACE", 1)
    whole = source if "def" in source else source + "\n\n" + RIGHT["conv_macs"]
    answers = RIGHT | {"conv_macs": "x = 1\n\n" + whole}
    del answers["scale_layer"]
    report = grader.grade(hand_in(new_code_cell(IMPORTS), *pairs(answers)), seconds=2)
    assert_only(report, "conv_macs", "scale_layer")
    assert message in summary(report)["conv_macs"][1]
    assert summary(report)["scale_layer"] == (
        0,
        "The exercise's cell was not found in the notebook.",
    )


def test_a_statement_that_fails_costs_itself_alone(hand_in):
    ends = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    answers = {
        # Before, after, twice and in one line with others.
        "conv_params": "unknown\n\n" + RIGHT["conv_params"] + "\n1 / 0; x = 1",
        "conv_macs": "input()\n" + RIGHT["conv_macs"] + "\nimport sys\nsys.exit('enough')",
        "balanced_accuracy": RIGHT["balanced_accuracy"] + "\n" + ends,
    }
    imports = [
        "from google.colab import drive\nimport math\ndrive.mount('/content')\nimport nowhere",
        "%tensorflow_version 2.x\n!echo install\nimport numpy as np",
    ]
    report = grader.grade(hand_in(*map(new_code_cell, imports), *pairs(answers)))
    assert_only(report, "scale_layer")
    assert report.notes["conv_params"] == [
        "Code cell 3 stopped with NameError: name 'unknown' is not defined (line 1). The rest of "
        "it counts.",
        "Code cell 3 stopped with ZeroDivisionError: division by zero (line 5). The rest of it "
        "counts.",
    ]
    assert "ended Python itself" in report.notes["balanced_accuracy"][0]


def test_a_missing_name_is_traced_to_the_cell_that_failed(hand_in):
    answers = {
        "conv_params": RIGHT["conv_params"].replace("return", "return unheard +"),
        "conv_macs": RIGHT["conv_macs"].replace("math", "kaput"),
        "balanced_accuracy": "print(np.pi)\n" + RIGHT["balanced_accuracy"],
        "scale_layer": RIGHT["scale_layer"],
    }
    cells = [
        new_code_cell("import kaput"),
        new_code_cell("%matplotlib inline\nimport numpy as np\nfor (:"),
        new_code_cell("import keras.no_such_part as keras"),
    ]
    report = grader.grade(hand_in(*cells, *pairs(answers)))
    assert report.points["scale_layer"] == report.points["balanced_accuracy"] == 0
    seen = summary(report)
    first = "code cell 1 stopped with ModuleNotFoundError: No module named 'kaput' (line 1)."
    assert f"'kaput' is not defined. `kaput` is missing because {first}" in seen["conv_macs"][1]
    assert f"'unheard' is not defined. Before that, {first}" in seen["conv_params"][1]
    assert "`np` is missing because code cell 2 stopped with SyntaxError" in "".join(
        part.message for part in report.points["balanced_accuracy"].parts
    )
    assert "`keras` is missing because code cell 3 stopped with" in seen["scale_layer"][1]


def stripped(cells):
    """The cells as a service leaves them that knows no metadata and gives ids of its own."""
    for number, cell in enumerate(cells):
        cell.metadata.clear()
        cell.id = f"cell-{number}"
    return cells


def test_cells_without_labels_are_known_by_what_they_define(hand_in):
    answers = RIGHT | {"conv_params": "mine = lambda k, c, f, b: k * k * c * f + b * f"}
    half, rest = answers["scale_layer"].split("\n\n")
    cells = stripped(
        [
            setup("import utils.course.setup\nimport math"),
            # A helper that speaks of the setup cell is none.
            new_code_cell("# as after import utils.course.setup\nimport numpy as np\nimport keras"),
            new_code_cell(answers["conv_params"] + '\nprint(1)\ncheck("conv_params", mine)'),
            # Two exercises in a cell, with their checks; the second in a cell magic.
            new_code_cell(
                STUB["conv_macs"]
                + '\ncheck("conv_macs", conv_macs)\n'
                + RIGHT["conv_macs"]
                + '\npoints = check("conv_macs", conv_macs)\nconv_macs = None'
            ),
            new_code_cell("%%time\n" + RIGHT["balanced_accuracy"]),
            # A class in two cells.
            new_code_cell(half),
            new_code_cell("def call(self, x):\n    return self.scale * x\n\nScale.call = call"),
            check("scale_layer"),
            # An untouched copy at the end.
            new_code_cell(STUB["balanced_accuracy"]),
        ]
    )
    report = grader.grade(hand_in(*cells, lesson=None))
    assert rest
    assert_only(report)
    assert report.notes["balanced_accuracy"] == [
        "Code cells 5 and 9 answer this exercise; cell 5 counts."
    ]


def test_a_number_type_of_the_whole_notebook_costs_nothing_and_stays():
    space = {"keras": keras, "np": np}
    for name in ("scale_layer", "balanced_accuracy"):
        exec(RIGHT[name].replace("float(", "np.longdouble("), space)
    config = keras.config
    before = config.dtype_policy(), config.floatx(), config.image_data_format()
    try:
        config.set_floatx("float16")
        config.set_dtype_policy("mixed_bfloat16")
        config.set_image_data_format("channels_first")
        with np.errstate(all="raise"):
            for name in ("scale_layer", "balanced_accuracy"):
                points = evaluate(find(name), space[ANSWERS[name]])
                assert points == points.out_of, points.text
            assert np.geterr()["under"] == "raise"
        assert config.dtype_policy().name == "mixed_bfloat16"
        assert (config.floatx(), config.image_data_format()) == ("float16", "channels_first")
    finally:
        config.set_floatx(before[1])
        config.set_dtype_policy(before[0])
        config.set_image_data_format(before[2])


def test_each_notebook_has_an_empty_folder_which_is_gone_afterwards(hand_in, tmp_path):
    seen = str(tmp_path / "seen")
    leaves = (
        "import os, pathlib, sys\nhere = pathlib.Path.cwd()\n"
        f"print(here, os.listdir(), file=open({seen!r}, 'a'))\n"
        # As `%%writefile` would. IPython's own folder becomes a link to one that stays.
        "pathlib.Path('math.py').write_text('')\n"
        "home = os.environ['IPYTHONDIR']\nos.rename(home, home + '-moved')\nos.symlink('/', home)\n"
        "pathlib.Path('locked').mkdir(mode=0)\n"
    )
    moves = "os.rename(here, str(here) + '-moved')\nopen(here, 'w').close()\nos._exit(0)"
    first = hand_in(
        new_code_cell(leaves), new_code_cell(moves), *pairs({"conv_params": RIGHT["conv_params"]})
    )
    assert grader.grade(first).points["conv_params"] == 1
    grader.grade(first)
    lines = Path(seen).read_text().splitlines()
    folders, lists = zip(*(line.split(maxsplit=1) for line in lines), strict=True)
    # Twice in each run, because the kernel was started again where another folder was needed.
    assert lists == ("[]",) * 4
    assert len(set(folders)) == 4
    assert not any(os.path.exists(folder) for folder in folders)
    assert not any(os.path.exists(os.path.dirname(folder)) for folder in folders)


def test_a_cell_can_leave_no_process_behind(hand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "_GRACE", 1)
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
        assert select.select([reader], [], [], 600)[0]
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
    monkeypatch.setattr(kernel, "_CELLS", 2)
    loops = [new_code_cell("while True:\n    pass") for _ in range(20)]
    start = time.monotonic()
    cells = [*pairs({"conv_params": RIGHT["conv_params"]}), *loops]
    report = grader.grade(hand_in(*cells, *pairs({"conv_macs": RIGHT["conv_macs"]})), seconds=5)
    assert time.monotonic() - start < 90
    assert_only(report, "conv_macs", "balanced_accuracy", "scale_layer")
    message = "The cell was not run: the cells above took all of the 10 s."
    assert summary(report)["conv_macs"] == (0, message)


def rows_of(table):
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_file_has_its_rows_before_anything_is_printed(hand_in, tmp_path, capsys, monkeypatch):
    bad = tmp_path / "bad.ipynb"
    bad.write_text("rubbish")
    half = "def conv_params(k, c, f, bias):\n    return k * k * c * f"
    good = hand_in(*pairs({"conv_params": half}), name="좋은 (1).ipynb")
    table = tmp_path / "my grades.csv"
    say, had = grader._say, []

    def spy(text, file):
        had.append(len(rows_of(table)))
        say(text, file)

    monkeypatch.setattr(grader, "_say", spy)
    command = [str(bad), str(good), "--csv", str(table), "--seed", "7"]
    assert grader.main(command) == 1
    assert had == [0, 1, 1, 5]
    out, err = capsys.readouterr()
    assert "Total: 0.5 of 6 points" in out
    assert f"· {LESSON} · seed 7\n" in out
    lines = err.splitlines()
    assert lines[0] == "grading 1 of 2: bad.ipynb"
    assert lines[1].startswith(f"{bad}: not a notebook")
    assert lines[2:] == ["grading 2 of 2: 좋은 (1).ipynb"]
    first, *rows = rows_of(table)
    assert first["file"] == str(bad)
    assert (first["lesson"], first["exercise"], first["points"], first["of"]) == ("", "", "0", "0")
    assert "not a notebook" in first["message"]
    assert [row["exercise"] for row in rows] == list(RIGHT)
    assert {(row["file"], row["lesson"], row["seed"]) for row in rows} == {(str(good), LESSON, "7")}
    assert (rows[0]["points"], rows[0]["of"]) == ("0.5", "1")
    assert ": conv_params(" in rows[0]["message"]
    assert rows[1]["message"] == "answer: The exercise's cell was not found in the notebook."

    # Another run adds to the table; one of the same file takes the place of its rows alone.
    monkeypatch.setattr(grader, "_say", say)
    graded = grader.grade
    monkeypatch.setattr(grader, "grade", lambda path, *_: graded(tmp_path / "none.ipynb"))
    assert grader.main([str(bad), "new.ipynb", "--csv", str(table)]) == 1
    again = rows_of(table)
    assert "none.ipynb: No such file" in again[0]["message"]
    assert again[1:5] == rows
    assert [row["file"] for row in again[5:]] == ["new.ipynb"]


def test_the_same_seed_gives_the_same_inputs(hand_in):
    wrong = hand_in(*pairs({"conv_params": "def conv_params(*a):\n    return a"}))
    reports = [grader.grade(wrong, seed=seed) for seed in (3, 3, 4)]
    texts = [report.text.replace("seed 4", "seed 3") for report in reports]
    assert texts[0] == texts[1] != texts[2]


def report_of(path, *_):
    """What `grade` might do, by the file's name."""
    if path.name == "fails.ipynb":
        raise RuntimeError("unforeseen")
    if path.name == "stops.ipynb":
        raise KeyboardInterrupt
    return grader.Report(str(path), LESSON, {"conv_params": Points([Part("éñ한", 1, 1)])}, 1)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_run_ends_neither_by_an_error_nor_by_a_terminal_and_keeps_what_it_has(
    tmp_path, monkeypatch, encoding
):
    monkeypatch.setattr(grader, "grade", report_of)
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    table = tmp_path / "grades.csv"
    names = ["김.ipynb", "fails.ipynb", "b.ipynb", "stops.ipynb", "c.ipynb"]
    assert grader.main([*names, "--csv", str(table)]) == 130
    assert [row["file"] for row in rows_of(table)] == names[:3]
    assert "grading it failed (RuntimeError: unforeseen)" in rows_of(table)[1]["message"]
    screen.flush()
    shown = screen.buffer.getvalue().decode(encoding)
    assert "grading 1 of 5: \\uae40.ipynb" in shown
    assert f"Stopped at 4 of 5, stops.ipynb; {table} has those before." in shown


def test_a_screen_that_is_gone_ends_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(grader, "grade", report_of)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        table = tmp_path / "grades.csv"
        assert grader.main(["a.ipynb", "b.ipynb", "--csv", str(table)]) == 0
        assert len(rows_of(table)) == 2


def test_the_table_runs_no_formula_and_is_replaced_as_a_whole(tmp_path, monkeypatch):
    parts = [Part("=HYPERLINK()", 1, 0, "-1+1"), Part("more", 1, 1)]
    report = grader.Report("@sum.ipynb", LESSON, {"conv_macs": Points(parts)}, 5)
    path = tmp_path / "grades.csv"
    table = grader.Table(path)
    table.add(report)
    table.write()
    written = path.read_text()
    assert written == (
        "file,lesson,exercise,points,of,message,seed\n"
        f"'@sum.ipynb,{LESSON},conv_macs,1,2,'=HYPERLINK(): -1+1,5\n"
    )
    again = grader.Table(path)
    again.add(report)
    again.write()
    assert path.read_text() == written

    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    table.add(grader.Report("b.ipynb", "", {}, 5, problem="b.ipynb: Permission denied."))
    with pytest.raises(OSError, match="disk full"):
        table.write()
    assert path.read_text() == written
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_of_before_is_taken_up_and_another_file_is_left_alone(tmp_path, capsys):
    old = tmp_path / "old.csv"
    old.write_text("\ufefffile,lesson,exercise,points,of,message\na.ipynb,l,e,1,2,m\n")
    missing = str(tmp_path / "missing.ipynb")
    assert grader.main([missing, "--csv", str(old), "--seed", "1"]) == 1
    assert [tuple(row.values())[-2:] for row in rows_of(old)] == [
        ("m", ""),
        (f"{missing}: No such file or directory.", "1"),
    ]
    capsys.readouterr()
    for name, content in (("other.csv", b"name;points\n"), ("bytes.csv", b"\xff\x00")):
        other = tmp_path / name
        other.write_bytes(content)
        assert grader.main([missing, "--csv", str(other)]) == 1
        said = "it is there and is no table of grades; choose another name."
        assert capsys.readouterr() == ("", f"{other}: {said}\n")
        assert other.read_bytes() == content


def test_a_table_that_cannot_be_written_is_said_before_grading(tmp_path, capsys):
    table = tmp_path / "missing" / "grades.csv"
    assert grader.main([str(tmp_path / "learner.ipynb"), "--csv", str(table)]) == 1
    assert capsys.readouterr().err == f"{table}: the folder {table.parent} does not exist.\n"
    assert grader.main([str(tmp_path / "learner.ipynb"), "--csv", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{tmp_path}: Is a directory.\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_limit_is_a_number_above_zero(capsys, seconds):
    with pytest.raises(SystemExit):
        grader.main(["learner.ipynb", "--seconds", seconds])
    assert f"--seconds {seconds}: expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_is_a_number_of_32_bits(capsys, seed):
    with pytest.raises(SystemExit):
        grader.main(["learner.ipynb", "--seed", seed])
    assert f"--seed {seed}: expected a number from 0 to 4294967295" in capsys.readouterr().err


def carried(text):
    return base64.b64encode(text.encode()).decode()


FORGED = [
    "",
    "rubbish",
    "1",
    "[" * 100_000,
    "[[]" + ",[]" * 2_000_000 + "]",
    '{"dict": []}',
    '{"dict": {"points": 10}}',
    '{"dict": {"refused": 3}}',
    '{"seen": 1, "printed": ""}',
    '{"array": ["O", [1], "AAAA"]}',
    '{"array": ["no type", [1], "AAAA"]}',
    '{"array": ["<f8", [1180591620717411303424], "AAAA"]}',
    '{"array": ["<f16", [1], "AAAAAAAAAAAAAAAAAAAAAA=="]}',
]


@pytest.mark.parametrize("text", FORGED, ids=range(len(FORGED)))
def test_forged_data_from_the_kernel_is_refused(text):
    assert grader._examined(carried(text)) is None
    assert grader._examined(text) is None


def test_data_from_the_kernel_must_be_of_a_sound_size(monkeypatch):
    assert grader._examined(carried(dumps({"seen": 1}))) == {"seen": 1}
    monkeypatch.setattr(grader, "_LARGEST", 10)
    assert grader._examined(carried(dumps({"seen": 1}))) is None


@pytest.mark.parametrize("part", [b"[[]" + b",[]" * 1_500_000 + b"]", b" " * (2**26 + 1)])
def test_a_message_of_the_kernel_must_be_of_a_sound_size(part):
    with pytest.raises(ValueError, match="too large"):
        kernel.unpacked(part)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"parent_header": []},
        {"parent_header": {"msg_id": "1"}, "content": []},
        {"parent_header": {"msg_id": "1"}, "content": {"status": "ok", "payload": 1}},
        {"parent_header": {"msg_id": "1"}, "content": {"status": "error", "evalue": 1}},
        {"parent_header": {"msg_id": "1"}, "content": {"status": "ok", "user_expressions": 1}},
    ],
)
def test_a_forged_reply_counts_as_the_end_of_the_kernel(reply):
    forged = object.__new__(kernel.Kernel)
    forged.asked, forged.client = "1", SimpleNamespace(get_shell_msg=lambda timeout: reply)
    with pytest.raises(kernel.KernelGone):
        forged._reply(1)


def test_forged_and_oversized_answers_earn_nothing_and_cost_little(hand_in):
    forge = (
        "import utils.course.grade\n"
        "real = utils.course.grade.answer_in_kernel\n"
        "class Shown(str):\n    def __repr__(self): return str(self)\n"
        "def forge(exercise_id, *arguments):\n"
        "    if exercise_id == 'conv_params':\n"
        "        return Shown('eyJkaWN0IjogeyJzZWVuIjoge319fQ==' * 1000)\n"
        "    return real(exercise_id, *arguments)\n"
        "utils.course.grade.answer_in_kernel = forge"
    )
    answers = {
        "conv_params": "...",
        "conv_macs": "def conv_macs(*a):\n    return np.zeros(2**24)",
        "balanced_accuracy": "def balanced_accuracy(*a):\n    return ['x' * 2**20] * 40",
    }
    report = grader.grade(hand_in(new_code_cell(IMPORTS), new_code_cell(forge), *pairs(answers)))
    assert report.points == dict.fromkeys(RIGHT, 0)
    seen = summary(report)
    assert "is not readable" in seen["conv_params"][1]
    assert "a result of 128 MB, too large to compare" in seen["conv_macs"][1]
    assert "a result of 40 MB, too large to compare" in seen["balanced_accuracy"][1]


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
