"""`make repository NAME=owner/name` on copies: nothing runs, outputs stay, nothing is stale."""

import re
import shutil
import subprocess

import nbformat
import pytest
import yaml

from utils.course import build, repository
from utils.course.settings import PLACEHOLDER, ROOT, load
from utils.course.source import sources

WORKFLOWS = ROOT / ".github" / "workflows"


@pytest.fixture
def _no_kernel(monkeypatch):
    def refuse(lesson, book):
        raise AssertionError("a notebook was executed")

    monkeypatch.setattr(build, "_execute", refuse)


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()}


def outputs(root):
    books = [nbformat.read(path, as_version=4) for path in sorted(root.glob("*/*.ipynb"))]
    return [(c.outputs, c.execution_count) for b in books for c in b.cells if "outputs" in c]


@pytest.mark.usefixtures("_no_kernel")
def test_course_moves_and_outputs_stay(course, capsys):
    before = outputs(course)
    assert repository.main(["ada/nets-2.0"], course) == 0
    out, error = capsys.readouterr()
    assert (out, error) == ("The course is at https://github.com/ada/nets-2.0, in 2 lessons.\n", "")
    assert outputs(course) == before
    assert load(course).repository == "ada/nets-2.0"
    assert (
        (course / "course.toml").read_text().startswith('# Where.\nrepository = "ada/nets-2.0"\n')
    )
    for path in [*course.glob("*/*.ipynb"), course / "README.md", course / "course.toml"]:
        text = path.read_text()
        assert "ada/nets-2.0" in text
        assert PLACEHOLDER not in text
    book = nbformat.read(course / "lessons/90_small.ipynb", as_version=4)
    address = "colab.research.google.com/github/ada/nets-2.0/blob/main/lessons/90_small.ipynb)"
    assert address in book.cells[0].source
    assert '"https://github.com/ada/nets-2.0.git"' in book.cells[1].source
    assert build.main(["--check"], course) == 0


@pytest.mark.usefixtures("_no_kernel")
def test_it_may_be_run_again_and_be_taken_back(course):
    at_first = files(course)
    assert repository.main(["ada/nets"], course) == 0
    once = files(course)
    assert once != at_first
    assert repository.main(["ada/nets"], course) == 0
    assert files(course) == once
    assert repository.main([PLACEHOLDER], course) == 0
    assert files(course) == at_first


@pytest.mark.parametrize(
    "name",
    [
        "nets",
        "",
        "/nets",
        "ada/",
        "ada/nets/more",
        "ada nets/x",
        "https://github.com/ada/nets",
        "-ada/nets",
        'ada/nets"',
        "ada/..",
        "ada/nets\n",
        "åda/nets",
        "ada/nets;ls",
    ],
)
def test_bad_name_is_one_sentence_and_changes_nothing(name, course, capsys):
    before = files(course)
    assert repository.main([name], course) == 1
    said = f"repository={name!r}: expected owner/name, as in github.com/owner/name\n"
    assert capsys.readouterr() == ("", said)
    assert files(course) == before


@pytest.mark.parametrize("names", [[], ["a/b", "c/d"]])
def test_one_name_is_needed(names, course, capsys):
    assert repository.main(names, course) == 1
    assert capsys.readouterr() == ("", "Name the repository: make repository NAME=owner/name\n")


def test_stale_course_is_left_alone(course, capsys):
    path = course / "solutions/91_other.py"
    path.write_text(path.read_text().replace('("second")', '("third")'))
    before = files(course)
    assert repository.main(["ada/nets"], course) == 1
    said = "solutions/91_other.ipynb is stale, so nothing was changed: run `make notebooks` first\n"
    assert capsys.readouterr() == ("", said)
    assert files(course) == before


def test_a_learners_answers_are_left_alone(course, capsys):
    path = course / "lessons/90_small.ipynb"
    path.write_text(path.read_text().replace("    ...", "    return 7"))
    before = files(course)
    assert repository.main(["ada/nets"], course) == 1
    said = "lessons/90_small.ipynb was changed by hand or run, so nothing was changed: run"
    assert capsys.readouterr().err.startswith(said)
    assert files(course) == before


@pytest.mark.usefixtures("_no_kernel")
def test_the_real_course_moves(tmp_path, capsys):
    for folder in ("solutions", "lessons", "data/images"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.mine-*"))
    for name in ("course.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    before = outputs(tmp_path)
    assert repository.main(["ada/nets"], tmp_path) == 0, capsys.readouterr().err
    assert outputs(tmp_path) == before
    assert build.main(["--check"], tmp_path) == 0
    old = load().repository
    books = [p for f in ("lessons", "solutions") for p in (tmp_path / f).glob("[0-9]*.ipynb")]
    assert len(books) == 2 * len(sources())
    for path in [*books, tmp_path / "README.md", tmp_path / "course.toml"]:
        assert old not in path.read_text()


def workflow(name):
    return yaml.safe_load((WORKFLOWS / name).read_text())


def test_workflow_tests_what_the_environment_supports():
    job = workflow("test.yml")["jobs"]["test"]
    script = (ROOT / "utils/course/environment.sh").read_text()
    limits = re.search(r"\(3, (\d+)\) <= sys.version_info\[:2\] <= \(3, (\d+)\)", script)
    lowest, highest = map(int, limits.groups())
    assert job["strategy"]["matrix"]["python"] == [f"3.{n}" for n in range(lowest, highest + 1)]
    assert job["steps"][-1]["run"] == "make test PYTHON=python"


@pytest.mark.parametrize("owner", ["ada", "bob"])
def test_workflow_moves_a_copy_once(owner, course, tmp_path):
    assert repository.main(["ada/nets"], course) == 0
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "git"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (programs / name).chmod(0o755)
    move = workflow("repository.yml")
    assert move["jobs"]["repository"]["permissions"] == {"contents": "write"}
    done = subprocess.run(
        ["bash", "-e", "-c", move["jobs"]["repository"]["steps"][-1]["run"]],
        cwd=course,
        env={"PATH": f"{programs}:/usr/bin:/bin", "GITHUB_REPOSITORY": f"{owner}/nets"},
        capture_output=True,
        text=True,
        check=True,
    )
    calls = done.stdout.splitlines()
    if owner == "ada":
        assert calls == []
    else:
        assert calls[0] == "make repository NAME=bob/nets"
        assert calls[-2:] == ["git commit --all --message Point the course at bob/nets", "git push"]
