"""Reads the one source of a lesson, `solutions/NN_name.py`, and refuses what cannot be built.

The source is a py:percent script. Its header names title, summary and minutes; a cell that a
learner fills carries `exercise="id" points=N` and a solution region, the cell after it
`check="id"`:

    # %% exercise="conv_macs" points=2
    def conv_macs(...):
        ### BEGIN SOLUTION
        return ...
        ### END SOLUTION

    # %% check="conv_macs"
    check("conv_macs", conv_macs)
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from utils.course.settings import ROOT

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_CELL, _LIKE_CELL = re.compile(r"# %%( .*)?$"), re.compile(r"\s*#\s*%%")
_LIKE_MARKER = re.compile(r"\s*#+\s*(BEGIN|END)\b.*SOLUTION", re.IGNORECASE)
_ID = re.compile(r"[a-z][a-z0-9_]*")
_FIELDS = ("title", "summary", "minutes")


class SourceError(ValueError):
    """A source that cannot be built: file, line, what is wrong and what to do."""

    def __init__(self, path: Path, line: int, problem: str):
        super().__init__(f"{path.parent.name}/{path.name}:{line}: {problem}")


@dataclass
class Cell:
    """One cell of a lesson: its kind ("code" or "markdown"), text, metadata and line."""

    kind: str
    text: str
    metadata: dict
    line: int


@dataclass
class Lesson:
    """A lesson as its source says it."""

    path: Path
    title: str
    summary: str
    minutes: int
    cells: list[Cell] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Stem of the lesson's files, for example "00_start_here"."""
        return self.path.stem

    @property
    def root(self) -> Path:
        """The course's folder, with `lessons` beside `solutions`."""
        return self.path.parents[1]

    @property
    def exercises(self) -> dict[str, float]:
        """Points of each exercise."""
        return {
            cell.metadata["exercise"]: float(cell.metadata["points"])
            for cell in self.cells
            if "exercise" in cell.metadata
        }


def sources(root: Path = ROOT) -> list[Path]:
    """Return the sources of all lessons of the course in `root`, in order."""
    return sorted((root / "solutions").glob("[0-9][0-9]_*.py"))


def read(path: Path) -> Lesson:
    """Read and check the source of a lesson.

    Args:
        path: the `.py` file.

    Raises:
        SourceError: if markers are unbalanced, an exercise has no check, no points or an id
            that was used before, or the header is not complete.
    """
    import jupytext

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise SourceError(path, 1, "the file is not in UTF-8; save it in UTF-8") from None
    header, start = _header(path, lines)
    for number, line in enumerate(lines[start:], start + 1):
        if _LIKE_CELL.match(line) and not _CELL.match(line):
            problem = f"{line!r} looks like a new cell; write `# %% …`, or another comment"
            raise SourceError(path, number, problem)
    marks = [i for i in range(start, len(lines)) if _CELL.match(lines[i])]
    before = [i for i in range(start, marks[0] if marks else len(lines)) if lines[i].strip()]
    if before or not marks:
        where = (before or [start])[0] + 1
        raise SourceError(path, where, "text before the first cell; start it with `# %%`")
    # Otherwise jupytext takes comments such as `# Why?` and `# rm old` for commands.
    form = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    notebook = jupytext.reads("\n".join(lines[marks[0] :]) + "\n", fmt=form)
    if len(notebook.cells) != len(marks):
        problem = "a `# %%` line of this cell or a later one stands inside a text; change it"
        cells = zip(marks, notebook.cells, strict=False)
        broken = [mark for mark, cell in cells if "\n# %%" in f"\n{cell.source}"]
        raise SourceError(path, (broken or marks)[0] + 1, problem)
    lesson = Lesson(path, header["title"], header["summary"], int(header["minutes"]))
    for cell, mark in zip(notebook.cells, marks, strict=True):
        # jupytext notes the blank lines between cells; a notebook has none.
        metadata = {k: v for k, v in cell.metadata.items() if k != "lines_to_next_cell"}
        lesson.cells.append(Cell(cell.cell_type, cell.source, metadata, mark + 1))
    _validate(lesson)
    return lesson


def _header(path, lines):
    if not lines or lines[0] != "# ---":
        problem = "no header; start with `# ---`, title, summary, minutes, `# ---`"
        raise SourceError(path, 1, problem)
    if "# ---" not in lines[1:]:
        raise SourceError(path, 1, "the header does not end; close it with `# ---`")
    end = lines.index("# ---", 1)
    header = {}
    for number, line in enumerate(lines[1:end], 2):
        key, colon, value = line.removeprefix("# ").partition(":")
        if not colon or key not in _FIELDS:
            problem = f"{line!r} is no header line; write {', '.join(_FIELDS)} as `# key: …`"
            raise SourceError(path, number, problem)
        header[key] = value.strip()
    missing = [key for key in _FIELDS if not header.get(key)]
    if missing:
        problem = f"the header lacks {', '.join(missing)}; add `# {missing[0]}: …`"
        raise SourceError(path, 1, problem)
    if not header["minutes"].isdecimal():
        raise SourceError(path, 1, f"minutes: {header['minutes']!r}; write a whole number")
    return header, end + 1


def _validate(lesson):
    path, exercises, checks = lesson.path, {}, {}
    first = lesson.cells[0]
    if first.kind != "markdown" or not first.text.startswith("# "):
        problem = "the first cell must be Markdown with the lesson's `# title`"
        raise SourceError(path, first.line, problem)
    for cell, after in zip(lesson.cells, [*lesson.cells[1:], None], strict=True):
        _plain_cell(path, cell)
        if "exercise" in cell.metadata:
            _exercise(path, cell, after, exercises)
        elif "check" in cell.metadata:
            name = cell.metadata["check"]
            if name not in exercises:
                problem = f"check {name!r} has no exercise before it; add one"
                raise SourceError(path, cell.line, problem)
            if name in checks:
                problem = f"check {name!r} is already at line {checks[name]}; remove this one"
                raise SourceError(path, cell.line, problem)
            checks[name] = cell.line
        elif BEGIN in cell.text:
            problem = 'a solution outside an exercise; add exercise="id" points=N'
            raise SourceError(path, cell.line, problem)


def _plain_cell(path, cell):
    _markers(path, cell)
    unreadable = cell.metadata.get("incorrectly_encoded_metadata")
    if unreadable:
        problem = f'`{unreadable}` is not readable; write key="text" or key=number'
        raise SourceError(path, cell.line, problem)
    if cell.kind not in ("code", "markdown"):
        raise SourceError(path, cell.line, f"a {cell.kind} cell; use code or [markdown]")
    if cell.kind == "code" and not cell.text.strip():
        raise SourceError(path, cell.line, "an empty code cell; remove it")
    if cell.kind == "markdown" and {"exercise", "check"} & set(cell.metadata):
        raise SourceError(path, cell.line, "a Markdown cell is no exercise; remove [markdown]")


def _exercise(path, cell, after, exercises):
    name, points = cell.metadata["exercise"], cell.metadata.get("points")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        problem = f"exercise {name!r}: an id has small letters, digits and `_`; rename it"
        raise SourceError(path, cell.line, problem)
    if name in exercises:
        problem = f"exercise {name!r} is already at line {exercises[name]}; choose another id"
        raise SourceError(path, cell.line, problem)
    exercises[name] = cell.line
    if not isinstance(points, int | float) or isinstance(points, bool) or points <= 0:
        raise SourceError(path, cell.line, f"exercise {name!r} has no points; add points=N")
    if BEGIN not in cell.text:
        problem = f"exercise {name!r} has no solution; mark it with `{BEGIN}` and `{END}`"
        raise SourceError(path, cell.line, problem)
    if after is None or after.metadata.get("check") != name:
        problem = f'exercise {name!r} has no check; let the next cell be `# %% check="{name}"`'
        raise SourceError(path, cell.line, problem)
    if answer_expression(after.text, name) is None:
        problem = f'the check of {name!r} must be the one line `check("{name}", answer)`'
        raise SourceError(path, after.line, problem)


def _markers(path, cell):
    opened = None
    for where, line in enumerate(cell.text.splitlines(), cell.line + 1):
        if line.strip() == BEGIN:
            if opened is not None:
                problem = f"`{BEGIN}` inside a solution; close it with `{END}`"
                raise SourceError(path, where, problem)
            opened = where
        elif line.strip() == END:
            if opened is None:
                raise SourceError(path, where, f"`{END}` without `{BEGIN}`; open it first")
            opened = None
        elif _LIKE_MARKER.match(line):
            # Unnoticed, it would leave the solution in the learners' notebook.
            problem = f"`{line.strip()}` is no marker; write `{BEGIN}` or `{END}`"
            raise SourceError(path, where, problem)
    if opened is not None:
        raise SourceError(path, opened, f"`{BEGIN}` is never closed; add `{END}`")


def stub(text: str) -> str:
    r"""Replace each solution region by `...`, at its own indentation.

    >>> print(stub("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"))
    def f():
        ...
    """
    kept, inside = [], False
    for line in text.splitlines():
        if line.strip() == BEGIN:
            kept.append(line[: len(line) - len(line.lstrip())] + "...")
            inside = True
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def solved(text: str) -> str:
    r"""Remove the markers and keep the solution.

    >>> solved("### BEGIN SOLUTION\nx = 1\n### END SOLUTION")
    'x = 1'
    """
    return "\n".join(line for line in text.splitlines() if line.strip() not in (BEGIN, END))


def answer_expression(text: str, name: str) -> str | None:
    """Return the answer's expression in a check cell, None if it is no plain check.

    >>> answer_expression('check("conv_macs", conv_macs)', "conv_macs")
    'conv_macs'
    """
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return None
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        return None
    call = body[0].value
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "check"
        and len(call.args) == 2
        and not call.keywords
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value == name
    ):
        return ast.unparse(call.args[1])
    return None
