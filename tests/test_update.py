"""`make update` with real git: the newer text and the learner's answers, and nothing lost."""

import datetime
import json
import os
import subprocess

import pytest

from utils.course import build, mine, update

LESSON, OTHER = "lessons/90_small.ipynb", "lessons/91_other.ipynb"
SOURCE = "solutions/90_small.py"
ANSWER = "def conv_macs(*sizes):\n    return 7  # mine"
TODAY = datetime.date.today()
COPY = f"lessons/90_small.mine-{TODAY}.ipynb"


def git(root, *arguments, check=True):
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def commit(root, message="a change"):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


@pytest.fixture
def theirs(course, monkeypatch):
    """The published course: a repository."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (course / ".gitignore").write_text("*.mine-*.ipynb\n")
    git(course, "init", "--quiet", "--initial-branch=main")
    commit(course)
    return course


@pytest.fixture
def ours(theirs, tmp_path):
    """A learner's clone of it."""
    git(tmp_path, "clone", "--quiet", theirs, "ours")
    return tmp_path / "ours"


def book(path):
    return json.loads(path.read_bytes())


def text(cell):
    return "".join(cell["source"])


def texts(path):
    return [text(cell) for cell in book(path)["cells"]]


def edit(path, change):
    """Change a notebook as a program that shows it would."""
    content = book(path)
    change(content["cells"])
    path.write_text(json.dumps(content))


def find(cells, name):
    return next(c for c in cells if c["metadata"].get("course", {}).get("exercise") == name)


def answer(root, source=ANSWER):
    edit(root / LESSON, lambda cells: find(cells, "conv_macs").update(source=source))


def publish(root, *pairs):
    """Change the source of lesson 90, build it, and commit."""
    source = (root / SOURCE).read_text()
    for old, new in pairs or [("It has one exercise.", "It has been rewritten.")]:
        assert old in source
        source = source.replace(old, new)
    (root / SOURCE).write_text(source)
    assert build.main([], root) == 0
    commit(root)


def files(root):
    """What the learner's folder holds, without git's own files."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def updated(root, capsys):
    capsys.readouterr()
    assert update.main(root) == 0, capsys.readouterr().err
    out, error = capsys.readouterr()
    assert error == ""
    assert git(root, "rev-parse", "HEAD:solutions") == git(root, "rev-parse", "@{u}:solutions")
    return out.splitlines()


def refused(root, capsys):
    """The one sentence of an update that is not possible, and leaves every file as it was."""
    before, head = files(root), git(root, "rev-parse", "HEAD", check=False)
    capsys.readouterr()
    assert update.main(root) == 1
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert files(root) == before
    assert git(root, "rev-parse", "HEAD", check=False) == head
    return error


def test_new_text_and_the_answer(theirs, ours, capsys):
    answer(ours)
    edit(ours / LESSON, lambda cells: cells[2].update(execution_count=1))
    before = (ours / LESSON).read_bytes()
    publish(theirs)
    assert updated(ours, capsys) == [
        "The course is up to date now.",
        f"{LESSON}: all of your version is now in {COPY}; put back: conv_macs.",
    ]
    assert (ours / COPY).read_bytes() == before
    expected = book(theirs / LESSON)
    find(expected["cells"], "conv_macs")["source"] = ANSWER.splitlines(keepends=True)
    assert book(ours / LESSON) == expected
    assert "It has been rewritten." in (ours / LESSON).read_text()
    assert git(ours, "status", "--porcelain").split() == ["M", LESSON]
    assert updated(ours, capsys) == ["The course is up to date."]


def test_it_can_be_done_again_on_the_same_day(theirs, ours, capsys):
    answer(ours)
    publish(theirs)
    updated(ours, capsys)
    first = (ours / COPY).read_bytes()
    publish(theirs, ("been rewritten", "been rewritten again"))
    updated(ours, capsys)
    assert (ours / COPY).read_bytes() == first
    assert (ours / COPY.replace(".ipynb", "-2.ipynb")).exists()
    assert "been rewritten again" in (ours / LESSON).read_text()
    assert ANSWER in texts(ours / LESSON)


def test_what_the_newer_version_leaves_alone_is_left_alone(theirs, ours, capsys):
    edit(ours / OTHER, lambda cells: cells[-1].update(source="print('mine')", execution_count=3))
    before = (ours / OTHER).read_bytes()
    publish(theirs)
    assert updated(ours, capsys) == ["The course is up to date now."]
    assert (ours / OTHER).read_bytes() == before
    assert (ours / LESSON).read_bytes() == (theirs / LESSON).read_bytes()
    assert not list(ours.rglob("*.mine-*"))


def test_cells_that_the_learner_added(theirs, ours, capsys):
    def add(cells):
        note = {"cell_type": "markdown", "id": "note", "metadata": {}, "source": ["My\n", "note."]}
        trial = {"cell_type": "code", "id": "trial", "metadata": {"tags": ["x"]}, "source": "1 + 1"}
        cells.insert(0, note | {"id": "top", "source": "Mine first."})
        cells[4:4] = [note, trial | {"outputs": [], "execution_count": 9}]
        cells.append(note | {"id": "end", "source": "Last."})
        cells.append(note | {"id": "empty", "source": ""})

    edit(ours / LESSON, add)
    publish(theirs)
    updated(ours, capsys)
    new, seen = texts(theirs / LESSON), texts(ours / LESSON)
    own = ["Mine first.", "My\nnote.", "1 + 1"]
    assert seen == [*new[:2], own[0], new[2], *own[1:], *new[3:], "Last."]
    assert len({cell["id"] for cell in book(ours / LESSON)["cells"]}) == len(seen)
    assert build.stored(ours / LESSON) is not None


def test_ids_may_be_lost(theirs, ours, capsys):
    """Colab keeps them in the metadata, other programs nowhere."""

    def lose(cells):
        for cell in cells:
            identity = cell.pop("id")
            if identity.startswith("check"):
                cell["metadata"]["id"] = identity
        cells.insert(3, {"cell_type": "markdown", "metadata": {"id": "a b"}, "source": "Mine."})

    answer(ours)
    edit(ours / LESSON, lose)
    publish(theirs)
    updated(ours, capsys)
    new = texts(theirs / LESSON)
    assert texts(ours / LESSON) == [*new[:3], "Mine.", ANSWER, new[4]]


def test_exercise_that_is_asked_differently(theirs, ours, capsys):
    answer(ours)
    publish(theirs, ('"""Return the multiply-adds."""', '"""Return the MACs."""'))
    assert "put back: conv_macs." in updated(ours, capsys)[1]
    asked = text(find(book(theirs / LESSON)["cells"], "conv_macs"))
    mixed = text(find(book(ours / LESSON)["cells"], "conv_macs"))
    comment, answered = mixed[: -len(ANSWER)], mixed[-len(ANSWER) :]
    assert answered == ANSWER
    lines = comment.splitlines()
    assert lines[0] == "# This exercise was changed. Its cell is now:"
    assert [line.removeprefix("# ") for line in lines[1:]] == asked.splitlines()


def test_exercise_without_an_answer_is_as_it_is_asked_now(theirs, ours, capsys):
    edit(ours / LESSON, lambda cells: cells[2].update(execution_count=1))
    publish(theirs, ('"""Return the multiply-adds."""', '"""Return the MACs."""'))
    assert updated(ours, capsys)[1].endswith(f"is now in {COPY}.")
    assert book(ours / LESSON) == book(theirs / LESSON)


def rename(cells):
    for cell in cells:
        for kind in {"exercise", "check"} & set(cell["metadata"].get("course", {})):
            cell["metadata"]["course"][kind] = "other_macs"
            cell["id"] = f"{kind}-other-macs"
    find(cells, "other_macs")["source"] = "def other_macs():\n    ..."


@pytest.mark.parametrize("kind", ["renamed", "removed"])
def test_exercise_that_is_not_asked_any_more(kind, theirs, ours, capsys):
    answer(ours)
    edit(
        theirs / LESSON,
        rename if kind == "renamed" else lambda cells: cells.__delitem__(slice(3, 5)),
    )
    commit(theirs)
    line = f"{LESSON}: all of your version is now in {COPY}; not asked any more: conv_macs."
    assert updated(ours, capsys)[1:] == [line]
    note = "# Your answer to conv_macs, an exercise that this version does not have.\n"
    new = texts(theirs / LESSON)
    assert texts(ours / LESSON) == [*new[:3], note + ANSWER, *new[3:]]
    if kind == "renamed":
        assert "exercise" not in str(book(ours / LESSON)["cells"][3]["metadata"])


def test_lesson_that_is_gone_and_exercise_that_moved(theirs, ours, capsys):
    answer(ours)
    moved = book(theirs / LESSON)["cells"][3:]
    edit(theirs / OTHER, lambda cells: cells.extend(moved))
    (theirs / LESSON).unlink()
    commit(theirs)
    line = f"{LESSON}: all of your version is now in {COPY}; put back: conv_macs."
    assert updated(ours, capsys)[1:] == [line]
    assert not (ours / LESSON).exists()
    assert texts(ours / OTHER)[-2] == ANSWER


@pytest.mark.parametrize("content", ["", "{", "<<<<<<< HEAD\n", '{"cells": [{}]}', "[]"])
def test_damaged_notebook_is_set_aside(content, theirs, ours, capsys):
    (ours / LESSON).write_text(content)
    publish(theirs)
    assert len(updated(ours, capsys)) == 2
    assert (ours / COPY).read_text() == content
    assert (ours / LESSON).read_bytes() == (theirs / LESSON).read_bytes()


def test_solutions_that_were_changed_are_set_aside(theirs, ours, capsys):
    path = ours / "solutions/90_small.ipynb"
    edit(path, lambda cells: cells[2].update(source="print(1)"))
    before = path.read_bytes()
    publish(theirs)
    copy = f"solutions/90_small.mine-{TODAY}.ipynb"
    said = f"solutions/90_small.ipynb: all of your version is now in {copy}."
    assert updated(ours, capsys)[1:] == [said]
    assert (ours / copy).read_bytes() == before
    assert path.read_bytes() == (theirs / "solutions/90_small.ipynb").read_bytes()


def test_after_a_pull_with_a_conflict(theirs, ours, capsys):
    answer(ours)
    (ours / "notes.txt").write_text("mine")
    commit(ours)
    own = git(ours, "rev-parse", "HEAD").strip()
    publish(theirs)
    git(ours, "pull", "--quiet", "--no-rebase", check=False)
    assert "<<<<<<<" in (ours / LESSON).read_text()
    said = refused(ours, capsys)
    assert "`git merge --abort` takes it back" in said
    git(ours, "merge", "--abort")
    assert updated(ours, capsys)[1].endswith("put back: conv_macs.")
    assert ANSWER in texts(ours / LESSON)
    assert "It has been rewritten." in (ours / LESSON).read_text()
    assert (ours / "notes.txt").read_text() == "mine"
    assert own in git(ours, "log", "--format=%H")
    commit(ours)
    publish(theirs, ("been rewritten", "been rewritten again"))
    updated(ours, capsys)
    assert ANSWER in texts(ours / LESSON)
    assert "been rewritten again" in (ours / LESSON).read_text()


def no_network(theirs, ours):
    git(ours, "remote", "set-url", "origin", ours / "nowhere")
    return "The newer version could not be fetched: is there a network?"


def no_branch(theirs, ours):
    git(ours, "checkout", "--quiet", "--detach")
    return "This copy follows no branch of another repository"


def no_clone(theirs, ours):
    (ours / ".git").rename(ours.parent / "git")
    return "No clone made by git: "


def readme_changed(theirs, ours):
    for root in (theirs, ours):
        (root / "README.md").write_text(f"{root}")
    commit(theirs)
    return "Nothing was updated, because the newer version changes README.md, and you did, too"


def file_in_the_way(theirs, ours):
    (theirs / "new.txt").write_text("theirs")
    commit(theirs)
    (ours / "new.txt").write_text("mine")
    return "Nothing was updated; git says: "


def readme_committed(theirs, ours):
    for root in (theirs, ours):
        (root / "README.md").write_text(f"{root}")
        git(root, "commit", "--quiet", "--message", "x", "README.md")
    return "Nothing was updated, because your commits and the newer version both change README.md"


def nobody(theirs, ours):
    """Commits of one's own, and then no name to commit with."""
    (ours / "notes.txt").write_text("mine")
    git(ours, "add", "notes.txt")
    git(ours, "commit", "--quiet", "--message", "x")
    git(ours, "config", "user.useConfigOnly", "true")
    for role in ("AUTHOR", "COMMITTER"):
        del os.environ[f"GIT_{role}_NAME"], os.environ[f"GIT_{role}_EMAIL"]
    return "Nothing was updated; git says: "


def other_history(theirs, ours):
    git(ours, "checkout", "--quiet", "--orphan", "new")
    commit(ours, "no child of theirs")
    git(ours, "branch", "--quiet", "--set-upstream-to=origin/main")
    return "The newer version has no history in common with yours"


@pytest.mark.parametrize(
    "obstacle",
    [
        no_network,
        no_branch,
        no_clone,
        readme_changed,
        file_in_the_way,
        readme_committed,
        nobody,
        other_history,
    ],
)
def test_nothing_is_lost_where_it_is_not_possible(obstacle, theirs, ours, capsys):
    publish(theirs)
    said = obstacle(theirs, ours)
    answer(ours)
    assert refused(ours, capsys).startswith(said)
    assert ANSWER in texts(ours / LESSON)


def test_interrupted_in_the_middle(theirs, ours, monkeypatch):
    answer(ours)
    publish(theirs)
    before = files(ours)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(update, "_move", stop)
    with pytest.raises(KeyboardInterrupt):
        update.main(ours)
    assert files(ours) == before


def test_part_of_another_repository(theirs, ours, capsys):
    inside = ours / "inside"
    inside.mkdir()
    assert update.main(inside) == 1
    assert capsys.readouterr().err.startswith("This folder is part of another repository")


def test_without_git(ours, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert update.main(ours) == 1
    assert capsys.readouterr().err.startswith("git was not found; install it")


def test_copies_are_nobodys_lessons(theirs, ours, capsys):
    answer(ours)
    copy = mine.set_aside(ours / LESSON)
    assert copy == ours / COPY
    assert git(ours, "status", "--porcelain").split() == ["M", LESSON]
    assert build.orphans(ours, []) == sorted(
        ours / f"{folder}/{name}.ipynb"
        for folder in ("lessons", "solutions")
        for name in ("90_small", "91_other")
    )
