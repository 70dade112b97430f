"""Files as learners, services and merges leave them; names as make passes them on; cells' plans."""

import json
import os
import re
import shutil
import subprocess

import nbformat.v3 as v3
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from utils.course import handed_in
from utils.course.handed_in import Judge, Lesson, NotGraded, Run, files, lesson_of, plan, read
from utils.course.settings import ROOT

SOLVED = ROOT / "solutions" / "00_start_here.ipynb"


# Which files -----------------------------------------------------------------------------------

NAMES = [
    "anna.ipynb",
    "ben.ipynb",
    "Copy of 00_start_here.ipynb",
    "00_start_here (1).ipynb",
    "00_start_here[2].ipynb",
    "김 민수.ipynb",
    "it's mine.ipynb",
    "two  spaces.ipynb",
    "class/cleo.ipynb",
    "class/dora/b.ipynb",
    "class/.ipynb_checkpoints/cleo.ipynb",
    "class/notes.txt",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES[:-2])
def test_a_name_is_a_name_whatever_is_in_it(folder, name):
    assert [str(path) for path in files([name])] == [name]


@pytest.mark.parametrize("gap", [" ", "\n", "  ", "\n\n"])
def test_several_names_in_one_text_are_told_apart(folder, gap):
    assert [str(path) for path in files([gap.join(NAMES[:8])])] == NAMES[:8]
    assert [str(path) for path in files([gap.join(reversed(NAMES[:8])) + gap])] == NAMES[7::-1]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("'Copy of 00_start_here.ipynb' \"ben.ipynb\"", [NAMES[2], NAMES[1]]),
        ("*.ipynb", sorted(NAMES[:8])),
        ("Copy of *.ipynb anna.ipynb", [NAMES[2], NAMES[0]]),
        ("class", ["class/cleo.ipynb", "class/dora/b.ipynb"]),
        ("class/ ben.ipynb", ["class/cleo.ipynb", "class/dora/b.ipynb", "ben.ipynb"]),
        # What is missing is named as a whole, beside what is there.
        ("anna.ipynb gone.ipynb ben.ipynb", ["anna.ipynb", "gone.ipynb", "ben.ipynb"]),
        ("Copy of gone.ipynb anna.ipynb", ["Copy of gone.ipynb", "anna.ipynb"]),
        ("gone.ipynb also gone.ipynb", ["gone.ipynb", "also gone.ipynb"]),
        ("no*thing.ipynb", ["no*thing.ipynb"]),
        ("gone", ["gone"]),
    ],
)
def test_patterns_folders_quotes_and_missing_names(folder, text, names):
    assert [str(path) for path in files([text])] == names


def test_a_class_of_files_is_split_at_once(folder):
    names = [f"Copy of {number} (1).ipynb" for number in range(300)]
    for name in names:
        (folder / name).touch()
    assert [str(path) for path in files([" ".join(names)])] == names


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([], "Name the notebooks"),
        (["", " \n"], "Name the notebooks"),
        (["empty"], "empty: there is no notebook"),
        (["a b.ipynb anna.ipynb"], "This can be read as 'a' and 'b.ipynb' and 'anna.ipynb', or as"),
    ],
)
def test_what_names_no_file_or_two_gets_a_sentence(folder, texts, problem):
    (folder / "empty").mkdir()
    for name in ("a", "b.ipynb", "a b.ipynb"):
        (folder / name).touch()
    with pytest.raises(ValueError, match=re.escape(problem)) as error:
        files(texts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "Copy of 00_start_here.ipynb",
        "00_start_here (1).ipynb",
        "anna.ipynb ben.ipynb",
        "class/*.ipynb",
        "'it''s' \"quoted\" `id` ; 김 민수.ipynb",
        "one.ipynb\ntwo.ipynb",
        "$HOME $(shell touch made) $x.ipynb",
        "",
    ],
)
def test_make_passes_names_on_as_they_were_typed(tmp_path, name):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "utils/course").mkdir(parents=True)
    (tmp_path / "utils/course/environment.sh").touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    python.chmod(0o755)
    command = ["make", "-s", "grade", "PY=./python", f"FILES={name}"]
    expected = ["-m", "utils.data", "-m", "utils.course.grade"]
    for more, csv in (([], []), (["CSV=my grades.csv"], ["--csv", "my grades.csv"])):
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout.decode().split("\0")[:-1] == [*expected, *csv, "--", name]
    assert not (tmp_path / "made").exists()


# What became of a file -------------------------------------------------------------------------


def cells_of(book):
    return [cell["source"] for cell in book["cells"] if cell["code"]]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-32"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
)
def test_other_encodings_are_read(tmp_path, encode):
    path = tmp_path / "learner.ipynb"
    path.write_bytes(encode(SOLVED.read_text(encoding="utf-8")))
    assert read(path) == read(SOLVED)


def test_a_text_in_an_old_encoding_keeps_its_code(tmp_path):
    path = tmp_path / "learner.ipynb"
    book = {"cells": [{"cell_type": "code", "source": "x = 1  # für"}]}
    path.write_bytes(json.dumps(book, ensure_ascii=False).encode("latin-1"))
    assert cells_of(read(path)) == ["x = 1  # für"]


def test_an_old_format_is_brought_up_to_date(tmp_path):
    sheet = v3.new_worksheet(cells=[v3.new_code_cell("x = 1"), v3.new_text_cell("markdown", "x")])
    path = tmp_path / "learner.ipynb"
    path.write_text(v3.writes_json(v3.new_notebook(worksheets=[sheet])))
    assert cells_of(read(path)) == ["x = 1"]
    path.write_text('{"worksheets": [1], "nbformat": 3, "nbformat_minor": 0}')
    with pytest.raises(NotGraded, match="old format that cannot be converted"):
        read(path)


def test_a_damaged_cell_costs_no_other(tmp_path):
    good = {"cell_type": "code", "source": ["x\n", None, "= 1"], "metadata": None}
    cells = [1, None, {"cell_type": "code", "source": None}, {"source": 3}, good]
    path = tmp_path / "learner.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": []}))
    assert cells_of(read(path)) == ["", "x\n= 1"]


CONFLICT = b'{\n "cells": [\n<<<<<<< HEAD\n  1\n=======\n  2\n>>>>>>> theirs\n ]}'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "The file is empty"),
        (b"\0" * 1000, "The file is empty"),
        (b"\xef\xbb\xbf \n", "The file is empty"),
        (b"\xff\xfe\x00 rubbish", "not a notebook; it is no text"),
        (b"[" * 100_000, "not a notebook"),
        (b"rubbish", "not a notebook; hand in the file that ends in .ipynb"),
        (b"\n<!DOCTYPE html><html>", "a web page, not a notebook; download the notebook itself"),
        ("\ufeff<HTML>".encode("utf-16"), "a web page"),
        (CONFLICT, "merge conflict markers (line 3: <<<<<<< HEAD); choose one version"),
        (CONFLICT.replace(b"\n", b"\r\n"), "merge conflict markers (line 3: <<<<<<< HEAD)"),
        (b'{"cells": [{"cell_type": "co', "ends in the middle"),
        (b'{"cells": [], ', "ends in the middle"),
        (b'{"cells": []}}', "damaged: no JSON from line 1 on"),
        (b'{"cells":\n oops}', "damaged: no JSON from line 2 on"),
        (b"import keras\n\nx = 1\n", "a Python script, not a notebook"),
        (b"PK\x03\x04\x00", "a zip archive, not a notebook"),
        (b"%PDF-1.4", "a PDF, not a notebook"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"[]", "no list of cells"),
        (b"1" * 10_000, "not a notebook"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"cells": [1]}', "not a lesson of this course"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}]}', "not a lesson of this course"),
        (b'{"cells": [], "metadata": []}', "not a lesson of this course"),
        (b'{"cells": [], "metadata": {"course": {"lesson": []}}}', "not a lesson of this course"),
        (b'{"cells": [], "metadata": {"course": {"lesson": "../x"}}}', "not a lesson of this"),
        (
            b'{"cells": [{"cell_type": "code", "id": [], "metadata": {"nbgrader": 1}}]}',
            "not a lesson of this course",
        ),
    ],
)
def test_a_file_that_cannot_be_graded_gets_one_true_sentence(tmp_path, content, why):
    path = tmp_path / "learner.ipynb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotGraded) as error:
        lesson_of(path, read(path), ROOT / "lessons")
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert why in said
    assert "\n" not in said
    assert said.endswith(".")


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "zero.ipynb").symlink_to("/dev/zero")
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "circle.ipynb").symlink_to(tmp_path / "circle.ipynb")
    for name, why in {
        "pipe": "it is a pipe or a device, not a file.",
        "zero": "it is a pipe or a device, not a file.",
        "folder": "a folder, not a notebook; name the file in it.",
        "circle": "symbolic links",
        "nul\0": "no name that a file can have.",
    }.items():
        with pytest.raises(NotGraded, match="ipynb: ") as error:
            read(tmp_path / f"{name}.ipynb")
        assert why in str(error.value)


def test_a_file_without_permission_is_said_to_be_one(tmp_path, monkeypatch):
    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(NotGraded, match=r"learner\.ipynb: Permission denied\.$"):
        read(tmp_path / "learner.ipynb")


def test_a_file_that_is_too_large_is_not_parsed(tmp_path, monkeypatch):
    path = tmp_path / "learner.ipynb"
    with open(path, "wb") as file:
        file.truncate(2**40)  # of which nothing is on the disk
    with pytest.raises(NotGraded, match=r"larger than the 64 MB .* clear its outputs"):
        read(path)
    monkeypatch.setattr(handed_in, "_MANY", 100)
    path.write_text('{"cells": [' + "[]," * 100 + "[]]}")
    with pytest.raises(NotGraded, match="clear its outputs"):
        read(path)


def test_every_lesson_is_found_without_any_label(tmp_path):
    for original in sorted((ROOT / "lessons").glob("*.ipynb")):
        book = json.loads(original.read_text(encoding="utf-8"))
        book["metadata"] = {}
        for number, cell in enumerate(book["cells"]):
            cell.update(metadata={}, id=f"cell-{number}")
        path = tmp_path / "notebook.ipynb"
        path.write_text(json.dumps(book))
        lesson = lesson_of(path, read(path), ROOT / "lessons")
        assert lesson.name == original.stem
        # Each exercise has its one answer, judged where its check stands.
        judged = [step for step in plan(read(path), lesson) if isinstance(step, Judge)]
        assert [(j.name, j.expression) for j in judged] == list(lesson.answers.items())
        assert plan(read(path), lesson) == plan(read(original), lesson)


# What is to be run -----------------------------------------------------------------------------

LESSON = Lesson("00", "", {"one": "one", "two": "Two"}, frozenset(["slow()"]))


def steps(*cells):
    """The plan of some cells: texts to run, and (exercise, expression, cell) to be judged."""
    sound = [handed_in._sound(c if isinstance(c, dict) else new_code_cell(c)) for c in cells]
    return [
        step.text if isinstance(step, Run) else (step.name, step.expression, step.cell)
        for step in plan({"cells": sound}, LESSON)
    ]


def test_an_answer_is_judged_where_it_is_checked():
    assert steps("def one(): ...", "helper = 1", 'check("one", one)', "after = 1") == [
        "def one(): ...",
        "helper = 1",
        ("one", "one", 1),
    ]
    # Without a check, and where another answer comes first, behind its own cell.
    assert steps("def one(): ...", "x = 1") == ["def one(): ...", ("one", "one", 1)]
    assert steps("one = 1", "one = 2", "x = 1", 'check("one", one)') == [
        "one = 1",
        ("one", "one", 1),
        "one = 2",
        "x = 1",
        ("one", "one", 2),
    ]


@pytest.mark.parametrize(
    "source",
    ["one = 1", "async def one(): ...", "if True:\n    one = 1", "one: int = 1", "import x as one"],
)
def test_whatever_gives_the_name_a_value_is_an_answer(source):
    assert steps(source)[-1] == ("one", "one", 1)


@pytest.mark.parametrize(
    "source",
    ["x = [one for one in y]", "def f():\n    one = 1", "x = one", "from utils.cost import one"],
)
def test_what_gives_it_no_value_of_the_learners_is_none(source):
    assert steps(source) == []


def test_cells_that_were_merged_are_taken_apart():
    merged = 'def one(): ...\ncheck("one", one)\none = None; x = 1\nclass Two: ...\nrest()'
    assert steps(merged + '\ncheck("two", Two); progress()\nend()') == [
        "def one(): ...",
        ("one", "one", 1),
        "#\n#\none = None; x = 1",
        "#\n#\n#\nclass Two: ...",
        "#\n#\n#\n#\nrest()",
        ("two", "Two", 1),
        "#\n#\n#\n#\n#\n#\nend()",
        ("one", "one", 1),
    ]


def test_another_name_in_the_check_is_an_answer_too():
    assert steps("mine = 1", 'points = check("one", mine)') == [
        "mine = 1",
        'points = check("one", mine)',
        ("one", "mine", 2),
    ]
    assert steps("one = 1", 'check("one", answer=one)', 'check("two")') == [
        "one = 1",
        ("one", "one", 1),
    ]


def test_commands_and_magics_stand_alone():
    assert steps("import a\n%matplotlib inline\n!pip install b\nimport b\none = 1")[:-1] == [
        "import a",
        "#\nget_ipython().run_line_magic('matplotlib', 'inline')",
        "#\n#\nget_ipython().system('pip install b')",
        "#\n#\n#\nimport b\none = 1",
    ]
    assert steps("%%time\none = 1") == ["%%time\none = 1", ("one", "one", 1)]
    assert steps("%%writefile one.py\none = 1") == []


def test_of_a_setup_cell_what_was_added_is_run():
    setup = (
        "import math\nfolders = [1]\nif not folders:\n    raise SystemExit\n"
        "import utils.course.setup\nfrom utils.course import check\none = math.pi"
    )
    assert steps(setup) == ["import math\n#\n#\n#\n#\n#\none = math.pi", ("one", "one", 1)]


def test_a_label_says_what_a_cell_answers_if_nothing_else_does():
    cell = new_code_cell("exec('one = 1')", metadata={"course": {"exercise": "one"}})
    assert steps(cell, 'check("one", one)') == ["exec('one = 1')", ("one", "one", 1)]
    assert steps(cell, "one = 1") == ["exec('one = 1')", "one = 1", ("one", "one", 2)]
    broken = new_code_cell("def one(:", metadata={"course": {"exercise": "one"}})
    assert steps(broken) == ["def one(:", ("one", "one", 1)]


def test_experiments_texts_and_empty_cells_are_passed_over():
    assert steps("slow()", new_markdown_cell("one = 1"), " \n", "one = 1") == [
        "one = 1",
        ("one", "one", 2),
    ]


@pytest.mark.parametrize(
    "source", ["\0", "(" * 10_000, "-" * 20_000 + "1", "x = '" + "y" * 2**21 + "'", "\ud800"]
)
def test_no_text_is_too_strange_to_be_planned(source):
    assert steps(source, "one = 1")[-1] == ("one", "one", 2)


def test_a_failure_knows_what_it_costs():
    from utils.course.kernel import Failure

    assert Failure(1, "", frozenset({"np"}), "").costs("np")
    assert not Failure(1, "", frozenset({"np"}), "n").costs("n")
    assert Failure(1, "", frozenset({"*"}), "").costs("np")
    assert Failure(1, "", None, "import np").costs("np")
    assert not Failure(1, "", None, "import npy").costs("np")
