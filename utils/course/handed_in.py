"""Reads what learners hand in: which files are meant, what became of them, what is to be run.

`files` finds the notebooks that a command names, `read` reads one, whatever a download, a service
or a merge made of it, and `plan` turns its cells into steps: texts to run, and places at which
an answer is to be judged.
"""

import ast
import functools
import glob
import itertools
import json
import os
import re
import shlex
import stat
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from utils.course.source import answer_expression

LARGEST = 64 * 2**20
# Lists and dictionaries in a file: each takes a hundred bytes of memory, and two in the file.
_MANY = 2_000_000
_LONGEST_CELL = 2**20
_WORDS_IN_A_NAME = 40
# Cell magics whose text is Python in the notebook's own namespace.
_PYTHON_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
_CONFLICT = re.compile(r"(?m)^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\|)( .*)?$")
# How other kinds of files begin.
_KINDS = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a compressed archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"version https://git-lfs": "a pointer of Git LFS",
}
_IMPORTS = ast.Import | ast.ImportFrom
_HARMLESS = _IMPORTS | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class NotGraded(Exception):
    """A file that cannot be graded: its name and why, in one sentence."""


# Which files -----------------------------------------------------------------------------------


def files(arguments: list[str]) -> list[Path]:
    """Find the notebooks that a command names.

    Args:
        arguments: each a file, a folder (all notebooks in it are meant), a pattern with `*`, or
            several of these with spaces or line ends between them, as make passes them on.

    Returns:
        The files, in order. What does not exist is among them, for the one who reads it to say so.

    Raises:
        ValueError: nothing is named, a folder or pattern has no notebook, or a text can be read
            as different files.

    >>> files(["anna.ipynb Copy of ben.ipynb"])
    [PosixPath('anna.ipynb'), PosixPath('Copy of ben.ipynb')]
    """
    names = [name for argument in arguments for name in _names(argument)]
    if not names:
        raise ValueError('Name the notebooks: make grade FILES="anna.ipynb ben.ipynb".')
    return [path for name in names for path in _meant(name)]


def _names(text):
    """Split a text into names of files, folders and patterns."""
    text = text.strip("\n")
    if not text.strip():
        return []
    if _exists(text):
        return [text]
    if "\n" in text:
        return [name for line in text.splitlines() for name in _names(line)]
    try:
        quoted = shlex.split(text)
    except ValueError:  # an apostrophe in a name is no quotation mark
        quoted = []
    if quoted and any(mark in text for mark in "'\"") and all(map(_exists, quoted)):
        return quoted
    return _split(text.strip())


def _split(text):
    """Split a text at spaces so that as few words as possible name nothing that exists."""
    marks = [0, *(match.end() for match in re.finditer(r"\s+", text)), len(text)]
    words = len(marks) - 1
    # From each word on: (words that name nothing, names that name nothing), two ways to get there.
    best = [((0, 0), [None])] * (words + 1)
    for start in reversed(range(words)):
        found = []
        missing = True
        for end in range(start + 1, min(words, start + _WORDS_IN_A_NAME) + 1):
            name = text[marks[start] : marks[end]].rstrip()
            (lost, number), ways = best[end]
            ways = [(name, way) for way in ways]
            if _exists(name):
                found.append(((lost, number), ways))
            elif missing:
                found.append(((lost + end - start, number + 1), ways))
            # One missing name does not reach beyond another's ending.
            missing = missing and not name.endswith(".ipynb")
        least = min(cost for cost, _ in found)
        best[start] = least, [way for cost, ways in found if cost == least for way in ways][:2]
    cost, ways = best[0]
    if cost == (0, 0) and len(ways) > 1:
        one, other = (" and ".join(map(repr, _listed(way))) for way in ways)
        raise ValueError(
            f"This can be read as {one}, or as {other}; put each name into quotation marks of its "
            "own, or name one a call."
        )
    return _listed(ways[0])


def _listed(way):
    names = []
    while way:
        name, way = way
        names.append(name)
    return names


def _exists(name):
    try:
        return bool(name) and (os.path.lexists(name) or bool(_matches(name)))
    except ValueError:  # a name with a zero byte
        return False


def _matches(name):
    return sorted(glob.glob(name)) if any(mark in name for mark in "*?[") else []


def _meant(name):
    path = Path(name)
    if path.is_dir():
        inside = path.rglob("*.ipynb")
        found = [p for p in sorted(inside) if not any(part[:1] == "." for part in p.parts[1:])]
        if not found:
            raise ValueError(f"{name}: there is no notebook (.ipynb) in this folder.")
        return found
    if not os.path.lexists(name) and _matches(name):
        return [path for match in _matches(name) for path in _meant(match)]
    return [path]


# What became of a file -------------------------------------------------------------------------


def read(path: Path) -> dict:
    """Read a notebook as far as grading needs it.

    Older formats, missing ids and other encodings are no reason to refuse it, so the format is not
    validated.

    Args:
        path: the file.

    Returns:
        The notebook in format 4; each cell is a dictionary whose source is a text.

    Raises:
        NotGraded: the file cannot be read, or is no notebook; the sentence says what it is.
    """
    try:
        data = _bytes(path)
        text = _decoded(data)
        book = json.loads(text)
    except (OSError, ValueError, RecursionError, NotGraded) as error:
        raise NotGraded(f"{path}: {_why(error, locals())}") from None
    if not isinstance(book, dict):
        raise NotGraded(f"{path}: not a notebook; it has no list of cells.")
    if "cells" not in book and isinstance(book.get("worksheets"), list):
        book = _upgraded(path, text)
    if not isinstance(book.get("cells"), list):
        raise NotGraded(f"{path}: not a notebook; it has no list of cells.")
    metadata = book.get("metadata")
    return {
        "metadata": metadata if isinstance(metadata, dict) else {},
        "cells": [_sound(cell) for cell in book["cells"] if isinstance(cell, dict)],
    }


def _bytes(path):
    """Read a file that may be anything: a pipe, a device, or far too large."""
    # Without waiting: to open a pipe that nobody writes to would never end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise NotGraded("a folder, not a notebook; name the file in it.")
        if not stat.S_ISREG(mode):
            raise NotGraded("not a notebook; it is a pipe or a device, not a file.")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(data) > LARGEST or data.count(b"[") + data.count(b"{") > _MANY:
        raise NotGraded(
            f"larger than the {LARGEST >> 20} MB that a notebook may have; clear its outputs, save "
            "it, and hand it in again."
        )
    return data


def _decoded(data):
    try:
        return data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
    except UnicodeDecodeError:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise
        # An editor saved it in an older encoding. Code is the same in all of them.
        return data.decode("latin-1")


def _why(error, known):
    """Say what a file is that cannot be read as JSON."""
    if isinstance(error, NotGraded):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}."
    data, text = known.get("data"), known.get("text")
    if data is None:
        return "no name that a file can have."
    for start, kind in _KINDS.items():
        if data.startswith(start):
            return f"{kind}, not a notebook; hand in the file that ends in .ipynb."
    if not data.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        return "The file is empty; hand it in again."
    if text is None:
        return "not a notebook; it is no text in UTF-8."
    start = text.lstrip()
    if re.match(r"(?i)<(!doctype|html|head|\?xml|!--|body|svg)", start):
        return "a web page, not a notebook; download the notebook itself, as a file .ipynb."
    conflict = _CONFLICT.search(text)
    if conflict:
        line = text.count("\n", 0, conflict.start()) + 1
        return (
            f"has merge conflict markers (line {line}: {conflict[0].strip()}); choose one version "
            "at each of them, and remove the markers."
        )
    if isinstance(error, json.JSONDecodeError) and start.startswith("{"):
        if error.pos >= len(text.rstrip()) or "Unterminated" in error.msg:
            return "ends in the middle: the copy or download was cut off; hand it in again."
        return f"damaged: no JSON from line {error.lineno} on ({error.msg}); hand it in again."
    if re.search(r"(?m)^(import \w|from \w+ import |def \w+\(|# %%)", text):
        return "a Python script, not a notebook; hand in the file that ends in .ipynb."
    return "not a notebook; hand in the file that ends in .ipynb."


def _upgraded(path, text):
    """Bring a notebook of an older format to format 4."""
    import nbformat

    try:
        return dict(nbformat.reads(text, as_version=4))
    except Exception:
        raise NotGraded(
            f"{path}: a notebook of an old format that cannot be converted; open it in JupyterLab, "
            "save it, and hand it in again."
        ) from None


def _sound(cell):
    """Return a cell whose metadata and source are what they should be, as far as they are."""
    source, metadata = cell.get("source"), cell.get("metadata")
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str))
    return {
        "code": cell.get("cell_type") == "code",
        "id": str(cell.get("id")),
        "metadata": metadata if isinstance(metadata, dict) else {},
        # JSON can hold half a character, which no message to the kernel can.
        "source": text.encode("utf-8", "replace").decode("utf-8"),
    }


# What is to be run -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What the repository's notebook of a lesson says: setup cell, answers, what may be skipped."""

    name: str
    setup: str
    answers: dict[str, str]
    experiments: frozenset[str]


@functools.cache
def lesson_at(path: Path) -> Lesson:
    """Read the repository's notebook of a lesson."""
    answers, setup, experiments = {}, "", set()
    for cell in read(path)["cells"]:
        marks, source = _inner(cell["metadata"], "course"), cell["source"]
        if "check" in marks:
            answers[marks["check"]] = answer_expression(source, marks["check"])
        elif "setup" in marks:
            setup = source
        elif "experiment" in cell["metadata"].get("tags", []):
            experiments.add(source.strip())
    return Lesson(path.stem, setup, answers, frozenset(experiments))


def lesson_of(path: Path, book: dict, lessons: Path) -> Lesson:
    """Find the lesson of a notebook: by its metadata, or else by its exercises.

    Args:
        path: the notebook's file.
        book: as `read` returns it.
        lessons: the folder of the repository's notebooks.

    Raises:
        NotGraded: it is none of them.
    """
    named = _inner(book["metadata"], "course").get("lesson")
    known = [lesson_at(file) for file in sorted(lessons.glob("*.ipynb"))]
    for lesson in known:
        if lesson.name == named:
            return lesson
    # Of two that fit as well, the one that the file is called after.
    fits = [(_fit(book, lesson), lesson.name in path.name) for lesson in known]
    best = max(fits, default=(0, False))
    if not best[0]:
        raise NotGraded(f"{path}: not a lesson of this course; expected a copy of one in lessons/.")
    return known[fits.index(best)]


def _fit(book, lesson):
    """Count the exercises of a lesson that a notebook has."""
    events = [event for event in _events(book["cells"], lesson) if isinstance(event, _Found)]
    return len({name for event in events for name in event.names})


@dataclass(frozen=True)
class Statement:
    """A statement of a cell, or several on one line.

    Args:
        line: its first line, counted from 1.
        end: its last line.
        text: as it is to be run.
        nodes: its syntax trees; of a cell magic, those of the text under it.
        magic: whether it is a magic or a command of the shell.
    """

    line: int
    end: int
    text: str
    nodes: tuple[ast.AST, ...]
    magic: bool = False

    @functools.cached_property
    def binds(self) -> frozenset[str]:
        """The names that it gives a value."""
        return frozenset().union(*(_bound(node)[0] for node in self.nodes))

    @functools.cached_property
    def answers(self) -> frozenset[str]:
        """The names that it gives a value which is not one of the course's own things."""
        return frozenset().union(*(names - own for names, own in map(_bound, self.nodes)))

    @property
    def harmless(self) -> bool:
        """Whether it may run twice: it imports or defines."""
        return all(isinstance(node, _HARMLESS) for node in self.nodes)


@dataclass(frozen=True)
class Run:
    """A text to run: of which code cell, counted from 1, and its statements, None if it has none.

    A text that is no Python has no statements.
    """

    cell: int
    text: str
    statements: tuple[Statement, ...] | None


@dataclass(frozen=True)
class Judge:
    """An answer to be judged now: exercise, expression, and the code cell that it stands in."""

    name: str
    expression: str
    cell: int


@dataclass(frozen=True)
class _Found:
    """A place where exercises' names get a value, or where a label says that they do."""

    cell: int
    names: frozenset[str]
    label: bool = False


@dataclass(frozen=True)
class _Check:
    """A place where an exercise is checked, with the expression of its answer if it is said."""

    cell: int
    name: str
    expression: str | None


@dataclass(frozen=True)
class _End:
    cell: int


def plan(book: dict, lesson: Lesson) -> list[Run | Judge]:
    """Turn a notebook's cells into what is to be run and judged, in order.

    An exercise may have several answers: each is judged where the learner checked it, before a
    later one takes its place.
    """
    events = _events(book["cells"], lesson)
    due = defaultdict(list)
    for name, answer in lesson.answers.items():
        checks = [i for i, e in enumerate(events) if isinstance(e, _Check) and e.name == name]
        other = [i for i in checks if events[i].expression not in (None, answer)]
        places = _places(events, name, labels=False)
        # A label alone counts where nothing else tells what the answer is.
        places = places or (not other and _places(events, name, labels=True)) or []
        for place, following in itertools.pairwise([*places, len(events)]):
            cell = events[place].cell
            end = next(i for i in range(place, len(events)) if events[i] == _End(cell))
            # Where the learner ran the check, later cells had not yet given the name to another.
            check = next((i for i in checks if place < i < following), None)
            if check is None and following < end:
                continue  # the same cell goes on with it, as in `f = faster(f)`
            due[end if check is None else check].append(Judge(name, answer, cell))
        for place in other:
            due[place].append(Judge(name, events[place].expression, events[place].cell))
    steps = []
    for place in range(max(due, default=-1) + 1):
        if isinstance(events[place], Run):
            steps.append(events[place])
        steps += due[place]
    return steps


def _places(events, name, labels):
    found = [i for i, e in enumerate(events) if isinstance(e, _Found) and name in e.names]
    return [i for i in found if events[i].label == labels]


def _events(cells, lesson):
    """List what is in the cells, in order: texts to run, answers, checks, the ends of cells."""
    roots = {name: _root(answer) for name, answer in lesson.answers.items()}
    events, number = [], 0
    for cell in cells:
        if not cell["code"] or not cell["source"].strip():
            continue
        number += 1
        if cell["source"].strip() in lesson.experiments:
            continue
        events += _of_cell(number, cell, lesson, roots)
        events.append(_End(number))
    return events


def _of_cell(number, cell, lesson, roots):
    kind, label = _label(cell, lesson)
    source = cell["source"]
    statements = _statements(source)
    events = []
    if statements is None:
        # It will not run, or holds another language; its label says what it was to answer.
        names = {name for name, root in roots.items() if _mentions(source, root)}
        run = [] if kind in ("setup", "check") else [Run(number, source, None)]
        answers = [_Found(number, frozenset(names))] if names and kind != "check" else []
        labels = [_Found(number, frozenset({label}), True)] if kind == "exercise" else []
        return run + answers + labels + ([_Check(number, label, None)] if kind == "check" else [])
    setup = kind == "setup" or _is_setup(statements)
    kept = _without_setup(statements) if setup else statements
    calls = [_checks(statement, lesson) for statement in kept]
    if kind == "check" and not any(name == label for found in calls for name, _ in found):
        events.append(_Check(number, label, None))
    waiting = []

    def flush():
        if waiting:
            whole = len(waiting) == len(statements)
            events.append(Run(number, source if whole else joined(waiting), tuple(waiting)))
            waiting.clear()

    for statement, checks in zip(kept, calls, strict=True):
        if statement.magic:
            flush()
        if not _only_checks(statement):
            waiting.append(statement)
        names = frozenset(name for name, root in roots.items() if root in statement.answers)
        # Apart from what follows, which may end Python or never end.
        if names or checks or statement.magic:
            flush()
        if names:
            events.append(_Found(number, names))
        events += [_Check(number, name, expression) for name, expression in checks]
    flush()
    if kind == "exercise":
        events.append(_Found(number, frozenset({label}), True))
    return events


def joined(statements) -> str:
    """Put statements of a cell into a text of their own that keeps the numbers of their lines."""
    lines = []
    for statement in statements:
        # Comments, because empty lines at the start of a cell are dropped.
        lines += ["#"] * (statement.line - 1 - len(lines))
        lines += statement.text.split("\n")
    return "\n".join(lines)


def _label(cell, lesson):
    """Tell what a cell's labels say: ("exercise" or "check", name), ("setup", None) or ("", None).

    A service may drop the metadata of a cell, so nbgrader's name and the cell's id count as well.
    """
    marks = _inner(cell["metadata"], "course")
    labels = {str(_inner(cell["metadata"], "nbgrader").get("grade_id")), cell["id"]}
    for name in lesson.answers:
        dashed = name.replace("_", "-")
        if marks.get("check") == name or {f"check-{name}", f"check-{dashed}"} & labels:
            return "check", name
        if marks.get("exercise") == name or {name, f"exercise-{dashed}"} & labels:
            return "exercise", name
    return ("setup", None) if "setup" in marks or cell["id"] == "setup" else ("", None)


def _inner(metadata, key):
    value = metadata.get(key)
    return value if isinstance(value, dict) else {}


def _root(expression):
    """Return the first name in an answer's expression."""
    return re.match(r"\w*", expression or "")[0]


def _mentions(source, name):
    return bool(name) and bool(re.search(rf"(?m)^\s*((def|class)\s+{name}\b|{name}\s*=)", source))


@functools.lru_cache(maxsize=1000)
def _statements(source):
    """Split a cell into its statements; None if it is no Python."""
    from IPython.core.inputtransformer2 import TransformerManager

    if len(source) > _LONGEST_CELL:
        return None
    magic, _, rest = source.lstrip().partition("\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            python = TransformerManager().transform_cell(source)
            nodes = ast.parse(python).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if magic.startswith("%%"):
        within = (_statements(rest) or ()) if magic.split()[0] in _PYTHON_MAGICS else ()
        inside = tuple(node for statement in within for node in statement.nodes)
        return (Statement(1, source.count("\n") + 1, source, inside, magic=True),)
    groups = []
    for node in nodes:
        line = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        if groups and line <= groups[-1][1]:  # `a = 1; b = 2`
            groups[-1][1] = node.end_lineno
            groups[-1][2].append(node)
        else:
            groups.append([line, node.end_lineno, [node]])
    lines = python.split("\n")
    return tuple(
        Statement(line, end, "\n".join(lines[line - 1 : end]), tuple(each), any(map(_magic, each)))
        for line, end, each in groups
    )


def _magic(node):
    """Tell whether a statement is a line magic or a command of the shell."""
    call = getattr(node, "value", None)
    called = call.func.value if _is_call(call) and isinstance(call.func, ast.Attribute) else None
    return _is_call(called) and getattr(called.func, "id", None) == "get_ipython"


def _is_call(node):
    return isinstance(node, ast.Call)


def _bound(node):
    """Return the names that a statement gives a value where it stands, and those from `utils`."""
    names, borrowed, waiting = set(), set(), [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, _IMPORTS):
            new = {alias.asname or alias.name.split(".")[0] for alias in node.names}
            names |= new
            borrowed |= new if any(_is_utils(name) for name in _modules(node)) else set()
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, ast.Lambda | _COMPREHENSIONS):
            waiting += ast.iter_child_nodes(node)
    return names, borrowed


def _modules(node):
    """Return the modules that an import statement names."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _is_utils(module):
    return module.split(".")[0] == "utils"


def _checks(statement, lesson):
    """Return the exercises that a statement checks, each with the expression of its answer."""
    if "check" not in statement.text:
        return []
    calls = [node for tree in statement.nodes for node in ast.walk(tree) if _is_call(node)]
    found = []
    for call in calls:
        first = call.args[0] if call.args else None
        if getattr(call.func, "id", None) == "check" and isinstance(first, ast.Constant):
            given = [*call.args[1:], *(word.value for word in call.keywords)][:1]
            if isinstance(first.value, str) and first.value in lesson.answers:
                found.append((first.value, ast.unparse(given[0]) if given else None))
    return found


def _only_checks(statement):
    """Tell whether a statement does nothing but check an answer, or add the points up."""
    return all(
        isinstance(node, ast.Expr)
        and _is_call(node.value)
        and getattr(node.value.func, "id", None) in ("check", "progress")
        for node in statement.nodes
    )


def _is_setup(statements):
    return any("utils.course.setup" in _modules(node) for s in statements for node in s.nodes)


def _without_setup(statements):
    """Leave out of a setup cell what finds the course, which the grader has found already.

    What learners put there stays: imports anywhere, and whatever follows the course's own.
    """
    last = max((i for i, statement in enumerate(statements) if _is_setup([statement])), default=-1)
    return [
        statement
        for place, statement in enumerate(statements)
        if (place > last or all(isinstance(node, _IMPORTS) for node in statement.nodes))
        and not any(
            name.startswith("utils.course") for node in statement.nodes for name in _modules(node)
        )
    ]
