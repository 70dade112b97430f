"""`make check LESSON=NN`: what it runs for a lesson, and where it stops."""

import re
from types import SimpleNamespace

import pytest

from utils.course import single
from utils.course.settings import ROOT
from utils.course.source import read, sources

LESSONS = [read(path) for path in sources()]


def command(number):
    place = next(i for i, lesson in enumerate(LESSONS) if lesson.name.startswith(number))
    return single.command(LESSONS[place], LESSONS[:place])


@pytest.fixture
def ran(monkeypatch):
    """The commands that would run; one that has a word of `ran.failing` fails."""
    seen = SimpleNamespace(commands=[], failing="nothing")

    def run(words, cwd):
        seen.commands.append(words[2:])
        return SimpleNamespace(returncode=int(seen.failing in words))

    monkeypatch.setattr(single.subprocess, "run", run)
    return seen


def test_a_lesson_has_the_tests_of_the_modules_that_it_is_the_first_to_import():
    words = command("03")
    assert {"tests/test_mobilenet_v1.py", "utils/mobilenet_v1.py", "tests/test_latency.py"} <= set(
        words
    )
    assert {"solutions/03_mobilenet_v1.ipynb", "lessons/03_mobilenet_v1.ipynb"} <= set(words)
    assert "tests/test_cost.py" not in words
    assert "tests/test_cost.py" in command("00")
    for lesson in LESSONS:
        files = [word for word in command(lesson.name[:2]) if "/" in word]
        assert all((ROOT / name).is_file() for name in files)
        assert any(name.startswith("tests/test_") for name in files)


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_pytest_selects_the_answers_of_the_lesson(lesson):
    """Its option -k takes tests whose name, or whose file's name, has one of the words."""
    words = command(lesson.name[:2])[-1].split(" or ")
    for name in (name for each in LESSONS for name in each.exercises):
        for test in (f"test_stub_is_not_attempted[{name}]", f"test_no_answer[{name}-number]"):
            assert any(word in test for word in words) == (name in lesson.exercises)
    assert all(re.fullmatch(r"[\w.\-\[\]]+", word) for word in words)


def test_all_of_it_runs(course, ran):
    assert single.main(["90"], course) == 0
    assert [words[0] for words in ran.commands] == ["ruff", "ruff", "pytest"]
    words = ran.commands[-1]
    assert {"solutions/90_small.ipynb", "lessons/90_small.ipynb", "--nbval"} <= set(words)
    assert words[-1] == "90_small.ipynb or [conv_macs] or [conv_macs-"


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("check", "90_small: ruff check is not content.\n"),
        ("--check", "90_small: ruff format --check is not content.\n"),
        ("pytest", ""),
    ],
)
def test_what_fails_is_said(failing, said, course, ran, capsys):
    ran.failing = failing
    assert single.main(["90"], course) == 1
    assert capsys.readouterr().err == said


def test_stale_lesson_is_not_tested(course, ran, capsys):
    path = course / "solutions/90_small.py"
    path.write_text(path.read_text().replace("It has one", "It has an"))
    assert single.main(["90"], course) == 1
    assert capsys.readouterr().err.splitlines() == [
        "solutions/90_small.ipynb is stale: run `make notebooks`",
        "lessons/90_small.ipynb is stale: run `make notebooks`",
    ]
    assert [words[0] for words in ran.commands] == ["ruff", "ruff"]


def test_source_that_cannot_be_read(course, ran, capsys):
    path = course / "solutions/90_small.py"
    path.write_text(path.read_text().replace(" points=2", ""))
    assert single.main(["90"], course) == 1
    assert "has no points" in capsys.readouterr().err
    assert ran.commands == []


@pytest.mark.parametrize("numbers", [[], ["9"], ["03"], ["90", "91"]])
def test_one_lesson_is_needed(numbers, course, ran, capsys):
    assert single.main(numbers, course) == 1
    assert capsys.readouterr().err == "Name one lesson of 90, 91: make check LESSON=90\n"
    assert ran.commands == []
