"""What `pytest` collects, leaves out, and says, wherever and however it is called."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest

from tests.untouched import is_touched, untouched
from utils.course import build
from utils.course.settings import ROOT
from utils.course.source import read, sources, stub

CONFTEST = runpy.run_path(str(ROOT / "conftest.py"))
TEST = '''
"""A test file with a docstring example.

>>> 1 + 1
2
"""

def test_one():
    pass
'''
LESSONS = ["lessons/90_small.ipynb", "lessons/91_other.ipynb"]
SOLUTIONS = [name.replace("lessons", "solutions") for name in LESSONS]


@pytest.fixture
def suite(course):
    """The small course with pytest's settings, a test, and things that are not the course's."""
    for name in ("conftest.py", "pyproject.toml", "tests/untouched.py", "tests/nbval_sanitize.cfg"):
        (course / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, course / name)
    (course / "tests/test_one.py").write_text(TEST)
    return course


def run(folder, *arguments, before="pass"):
    """Run pytest in a process of its own."""
    code = f"import sys, pytest; {before}; sys.exit(pytest.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("folder", "arguments", "expected"),
    [
        (".", [], [*LESSONS, *SOLUTIONS, "tests/test_one.py"]),
        ("..", ["course"], [*LESSONS, *SOLUTIONS, "tests/test_one.py"]),
        ("lessons", [], LESSONS),
        ("lessons", ["90_small.ipynb"], LESSONS[:1]),
        (
            ".",
            ["solutions/90_small.ipynb", "solutions/90_small.py", "copy.ipynb"],
            ["copy.ipynb", SOLUTIONS[0]],
        ),
    ],
    ids=["the folder", "from elsewhere", "in lessons", "one", "named"],
)
def test_what_is_collected(suite, folder, arguments, expected):
    # Otherwise each call would import every module of the course; `run` lets it be found.
    (suite / "utils").unlink()
    (suite / "lessons/.ipynb_checkpoints").mkdir()
    copies = ["Untitled", "90_small-Copy1", "90_small.mine-2026-01-01", ".ipynb_checkpoints/90-c"]
    for copy in [*(f"lessons/{name}" for name in copies), "copy", "tests/copy"]:
        shutil.copy(suite / LESSONS[0], suite / f"{copy}.ipynb")
    for stray in ("lessons/scratch.py", "mine/test_mine.py", "setup.py"):
        (suite / stray).parent.mkdir(exist_ok=True)
        (suite / stray).write_text("1 / 0")
    done = run(suite / folder, "--nbval", "--collect-only", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict.fromkeys(line.split("::")[0] for line in done.stdout.splitlines() if "::" in line)
    assert sorted(found) == expected
    # The test and the docstring example.
    assert done.stdout.count("tests/test_one.py::") == 2 * expected.count("tests/test_one.py")


def answer(path, *, run=False):
    """Write an answer that fails into a lesson; if `run`, only an output."""
    book = nbformat.read(path, as_version=4)
    cell = next(cell for cell in book.cells if "exercise" in cell.metadata.get("course", {}))
    if run:
        cell.execution_count = 1
    else:
        cell.source = "1 / 0"
    nbformat.write(book, path)


def test_answers_of_a_learner_are_not_judged(suite):
    """And the cells of a notebook stay together, although nobody said how to distribute."""
    answer(suite / LESSONS[0])
    done = run(suite, "--nbval", "-n2", *LESSONS[:1], "tests/test_one.py")
    assert done.returncode == 0, done.stdout + done.stderr
    said = f"{LESSONS[0]} holds somebody's answers; the course's own version was tested in its"
    assert said in done.stdout
    assert "somebody" not in done.stdout.replace(said, "")


def test_files_that_need_missing_packages_are_left_out_and_named(suite):
    (suite / "tests/test_two.py").write_text("import jupytext")
    (suite / "tests/test_three.py").write_text(
        "def test_lazy():\n    import jupytext.cli\n\ndef test_other():\n    pass"
    )
    done = run(suite, "tests", before="sys.modules['jupytext'] = None")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "left out, because requirements-dev.txt is not installed: "
        "tests/test_three.py, tests/test_two.py\n"
    ) in done.stdout
    assert re.search(r"\b3 passed\b", done.stdout)
    (suite / "tests/test_two.py").write_text("import jupytexd")
    assert run(suite, "tests/test_two.py").returncode != 0


def test_packages_of_development_are_those_of_its_requirements():
    text = (ROOT / "requirements-dev.txt").read_text() + "\n"
    text += (ROOT / "requirements-cluster.txt").read_text()
    listed = set(re.findall(r"^([a-z-]+)[=<>]", text, re.MULTILINE))
    providers = metadata.packages_distributions()
    known = {name for module in CONFTEST["DEVELOPMENT"] for name in providers[module]}
    assert known == listed - {"pytest-xdist"}
    assert CONFTEST["MISSING"] == set()


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.stem)
def test_an_untouched_lesson_has_the_stubs_that_the_build_writes(path):
    lesson = read(path)
    stubs = {c.metadata["exercise"]: stub(c.text) for c in lesson.cells if "exercise" in c.metadata}
    cells = untouched(build.paths(lesson)[1]).cells
    exercises = [cell for cell in cells if "exercise" in cell.metadata.get("course", {})]
    assert {cell.metadata["course"]["exercise"]: cell.source for cell in exercises} == stubs
    assert not any(cell.get("execution_count") or cell.get("outputs") for cell in cells)


def test_a_lesson_is_touched_by_an_answer_a_cell_or_a_run_and_not_by_its_source(course):
    path = course / LESSONS[0]
    fresh = path.read_text()
    assert not is_touched(path)
    answer(path)
    assert is_touched(path)
    path.write_text(fresh)
    answer(path, run=True)
    assert is_touched(path)
    book = json.loads(fresh)
    book["cells"].append(book["cells"][-1] | {"id": "mine"})
    path.write_text(json.dumps(book))
    assert is_touched(path)
    book["cells"].pop()
    book["cells"][0]["source"] = "# Of an older source"
    path.write_text(json.dumps(book))
    assert not is_touched(path)


@pytest.mark.parametrize(("gigabytes", "expected"), [(2, 1), (9, 2), (1000, 6)])
def test_workers_have_memory(monkeypatch, gigabytes, expected):
    memory = SimpleNamespace(available=gigabytes * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(6), raising=False)
    hook = CONFTEST["pytest_xdist_auto_num_workers"]()
    next(hook)
    with pytest.raises(StopIteration) as end:
        hook.send(64)
    assert end.value.value == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [("no", "no"), ("each", "each"), *((d, "loadfile") for d in ("load", "worksteal", "loadfile"))],
)
def test_whatever_distributes_keeps_files_together(given, expected):
    option = SimpleNamespace(dist=given, quick=False)
    CONFTEST["pytest_configure"](SimpleNamespace(option=option))
    assert option.dist == expected
    assert option.nbval_sanitize_with == str(ROOT / "tests" / "nbval_sanitize.cfg")


def test_long_files_come_first():
    files = [*4 * ["few.py"], *20 * ["many.py"], *3 * ["lesson.ipynb"], "few.py"]
    items = [SimpleNamespace(path=Path(name), place=n) for n, name in enumerate(files)]
    CONFTEST["pytest_collection_modifyitems"](items)
    order = list(dict.fromkeys(item.path.name for item in items))
    assert order == ["lesson.ipynb", "many.py", "few.py"]
    for name in order:
        places = [item.place for item in items if item.path.name == name]
        assert places == sorted(places)


def test_what_takes_long_is_not_quick(suite):
    text = (
        "import subprocess, sys\n"
        "import pytest\n"
        "def test_network():\n    import keras\n"
        "def test_python():\n    subprocess.run([sys.executable, '-c', ''])\n"
        "def test_shell():\n    subprocess.run(['/bin/sh', '-c', ':'])\n"
        "@pytest.mark.parametrize('number', [0, 1, 2])\n"
        "def test_that_catches_all(number):\n"
        "    assert number == 0, 'its other parameters are not tried'\n"
        "    try:\n        import keras\n    except BaseException:\n        assert False\n"
    )
    (suite / "tests/test_one.py").write_text(text)
    # Skipped twice: as a file of tests, and as one of docstring examples.
    (suite / "tests/test_two.py").write_text("import tensorflow.keras")
    done = run(suite, "--quick", "tests")
    assert re.search(r"\b1 passed, 7 skipped\b", done.stdout), done.stdout + done.stderr
