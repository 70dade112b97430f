"""Brings the course up to date and keeps a learner's answers: `make update`.

Fetches the newer version and moves to it. A notebook that the newer version changes and that the
learner has changed, too, is set aside first (`utils.course.mine`). Its answers, known by their
exercise's id, and the cells that the learner added go into the new notebook. If anything is in the
way, one sentence says so and every file is as it was.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from utils.course.mine import changed_by_hand, set_aside, text
from utils.course.settings import ROOT

_BLOCKED = "Nothing was updated; git says: {said}"
_NOTEBOOK = re.compile(r"(lessons|solutions)/\d\d_\w+\.ipynb")


class NotUpdated(Exception):
    """Why the course stays as it is, in one sentence."""


@dataclass
class Work:
    """A learner's notebook: its path, its cells, those of the version it began as, and its copy."""

    path: Path
    cells: list[dict]
    base: list[dict]
    copy: Path
    put_back: set[str] = field(default_factory=set)
    homeless: set[str] = field(default_factory=set)


def _git(root, *arguments, problem=None):
    """Return what git prints; raise NotUpdated(problem) if it fails, or return None without one."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise NotUpdated("git was not found; install it, then run `make update` again.") from None
    if done.returncode == 0:
        return done.stdout.decode(errors="replace")
    if problem is None:
        return None
    raise NotUpdated(problem.format(said=" ".join(done.stderr.decode(errors="replace").split())))


def update(root: Path = ROOT) -> list[str]:
    """Move the course in `root` to the newest version of its branch.

    Returns:
        What there is to say, in lines.

    Raises:
        NotUpdated: if that is not possible; every file is then as it was.
    """
    old, new, base = _versions(root)
    if new == base:
        return ["The course is up to date."]
    coming = _changed(root, base, new)
    dirty = [name for name in _changed(root, old) if name in coming]
    for name in dirty:
        if not _NOTEBOOK.fullmatch(name):
            raise NotUpdated(
                f"Nothing was updated, because the newer version changes {name}, and you did, too: "
                f"put yours away with `git stash push {name}`, then run `make update` again."
            )
    notebooks = [name for name in coming if _NOTEBOOK.fullmatch(name)]
    touched = _changed(root, base)
    before = {name: (root / name).read_bytes() for name in dirty if (root / name).exists()}
    works = []
    try:
        for name in notebooks:
            if name in touched and changed_by_hand(root / name):
                works.append(_work(root, base, name))
        if dirty:
            _git(root, "checkout", old, "--", *dirty, problem=_BLOCKED)
        _move(root, old, new, base, notebooks)
    except BaseException:
        for name, content in before.items():
            (root / name).write_bytes(content)
        for work in works:
            work.copy.unlink()
        raise
    lessons = [root / name for name in notebooks if name.startswith("lessons/")]
    _put_back([work for work in works if work.path in lessons], lessons)
    return ["The course is up to date now.", *(_report(work, root) for work in works)]


def _changed(root, *versions):
    """Return the files that differ between two versions, or between one and the folder."""
    names = _git(root, "diff", "--name-only", "--no-renames", "-z", *versions, problem=_BLOCKED)
    return names.split("\0")[:-1]


def _versions(root):
    """Return the version that is here, the newest one, and the last that both have in common."""
    top = _git(root, "rev-parse", "--show-toplevel", problem="No clone made by git: {said}")
    if Path(top.strip()).resolve() != root.resolve():
        raise NotUpdated("This folder is part of another repository: update that one with git.")
    folder = root / _git(root, "rev-parse", "--git-dir").strip()
    for started, way_back in (
        ("MERGE_HEAD", "git merge --abort"),
        ("rebase-merge", "git rebase --abort"),
        ("rebase-apply", "git rebase --abort"),
    ):
        if (folder / started).exists():
            raise NotUpdated(
                "A `git pull` stopped half-way: `" + way_back + "` takes it back and keeps what "
                "you committed; then run `make update` again."
            )
    if _git(root, "ls-files", "--unmerged"):
        raise NotUpdated(
            "Files with conflicts are left from a git command: see `git status`, settle them, "
            "then run `make update` again."
        )
    no_branch = "This copy follows no branch of another repository, so there is nothing to fetch."
    _git(root, "rev-parse", "@{upstream}", problem=no_branch)
    offline = "The newer version could not be fetched: is there a network? git says: {said}"
    _git(root, "fetch", "--quiet", problem=offline)
    old, new = (_git(root, "rev-parse", name).strip() for name in ("HEAD", "@{upstream}"))
    base = _git(root, "merge-base", old, new)
    if base is None:
        raise NotUpdated("The newer version has no history in common with yours: clone it anew.")
    return old, new, base.strip()


def _move(root, old, new, base, notebooks):
    """Move the branch and all files from the old version to the new one, or not at all."""
    if old == base:
        _git(root, "merge", "--quiet", "--ff-only", new, problem=_BLOCKED)
        return
    # The learner has made commits: merge, and take every notebook from the newer version.
    try:
        try:
            _git(root, "merge", "--quiet", "--no-ff", "--no-commit", new, problem=_BLOCKED)
        except NotUpdated:
            if _git(root, "rev-parse", "--verify", "MERGE_HEAD") is None:
                raise
        for name in notebooks:
            there = _git(root, "cat-file", "-e", f"{new}:{name}") is not None
            how = ("checkout", new) if there else ("rm", "--quiet", "--force", "--ignore-unmatch")
            _git(root, *how, "--", name, problem=_BLOCKED)
        unsettled = _git(root, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")[0]
        if unsettled:
            raise NotUpdated(
                f"Nothing was updated, because your commits and the newer version both change "
                f"{unsettled}: settle that with `git merge`."
            )
        _git(root, "commit", "--quiet", "--no-edit", problem=_BLOCKED)
    except BaseException:
        _git(root, "merge", "--abort")
        raise


def _work(root, base, name):
    before = _git(root, "show", f"{base}:{name}") or ""
    copy = set_aside(root / name)
    return Work(root / name, _cells(copy.read_bytes()), _cells(before), copy)


def _cells(content):
    """Return a notebook's cells; none if it is damaged."""
    try:
        cells = json.loads(content)["cells"]
        for cell in cells:
            text(cell), cell["metadata"].get("id"), cell["cell_type"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
    return cells


def _identity(cell):
    """Return a cell's id, which Colab moves into the metadata."""
    return cell.get("id") or cell["metadata"].get("id")


def _marks(cell):
    course = cell["metadata"].get("course")
    return course if isinstance(course, dict) else {}


def _put_back(works, lessons):
    """Write the learner's answers and own cells into the lessons as they are now."""
    contents = {path: path.read_bytes() for path in lessons if path.exists()}
    books = {path: json.loads(content) for path, content in contents.items() if _cells(content)}
    # Wherever an exercise is now: it may have moved to another lesson.
    place = {
        _marks(cell)["exercise"]: (path, cell, text(cell))
        for path, book in books.items()
        for cell in book["cells"]
        if "exercise" in _marks(cell)
    }
    written = set()
    for work in works:
        asked = {_marks(cell).get("exercise"): text(cell) for cell in work.base}
        for cell in work.cells:
            name, answer = _marks(cell).get("exercise"), text(cell)
            if name is None or answer == asked.get(name):
                continue
            if name not in place:
                work.homeless.add(name)
                continue
            path, target, now_asked = place[name]
            if asked.get(name, now_asked) != now_asked:
                lines = ["This exercise was changed. Its cell is now:", *now_asked.splitlines()]
                answer = "".join(f"# {line}".rstrip() + "\n" for line in lines) + answer
            target["source"] = answer.splitlines(keepends=True)
            work.put_back.add(name)
            written.add(path)
        if work.path in books and _insert_own(work, books[work.path]["cells"]):
            written.add(work.path)
    for path in written:
        scratch = path.with_suffix(".tmp")
        content = json.dumps(books[path], indent=1, ensure_ascii=False, sort_keys=True)
        scratch.write_text(content + "\n", encoding="utf-8")
        scratch.replace(path)


def _insert_own(work, cells):
    """Insert the cells that the learner added, and answers whose exercise is gone, where they were.

    Returns:
        Whether there are any.
    """
    known = {_identity(cell) for cell in work.base} | {text(cell) for cell in work.base}
    here, some = 1, False  # never before the title and the setup cell
    for cell in work.cells:
        places = {text(each): index for index, each in enumerate(cells)}
        places |= {_identity(each): index for index, each in enumerate(cells)}
        own, name = text(cell), _marks(cell).get("exercise")
        if name in work.homeless:
            own = f"# Your answer to {name}, an exercise that this version does not have.\n{own}"
        elif _marks(cell) or {_identity(cell), own} & known or not own.strip():
            here = max(1, places.get(_identity(cell), places.get(own, here)))
            continue
        here, some = here + 1, True
        cells.insert(here, _fresh(cell, own, places))
    return some


def _fresh(cell, source, taken):
    """Return a cell with the source, without outputs and marks, under an id that is free."""
    base = re.sub(r"[^A-Za-z0-9_-]", "-", str(_identity(cell) or "own"))[:50]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    fresh = {"cell_type": cell["cell_type"], "id": name, "metadata": {}}
    fresh["source"] = source.splitlines(keepends=True)
    if cell["cell_type"] == "code":
        fresh |= {"execution_count": None, "outputs": []}
    elif cell.get("attachments"):
        fresh["attachments"] = cell["attachments"]
    return fresh


def _report(work, root):
    copy, name = (path.relative_to(root).as_posix() for path in (work.copy, work.path))
    said = [f"{name}: all of your version is now in {copy}"]
    if work.put_back:
        said.append(f"put back: {', '.join(sorted(work.put_back))}")
    if work.homeless:
        said.append(f"not asked any more: {', '.join(sorted(work.homeless))}")
    return "; ".join(said) + "."


def main(root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    try:
        lines = update(root)
    except NotUpdated as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"The update stopped ({error}); your notebooks are where they were, or beside that "
            "with `.mine-` in the name.",
            file=sys.stderr,
        )
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
