"""Grades learners' notebooks with the repository's own checks.

    python -m utils.course.grade FILE… [--csv grades.csv] [--seconds 60]

The learner's cells run in a fresh Jupyter kernel, in the folder `lessons`. Of each answer the
kernel returns what the probe saw, as plain data; the judge runs here and never meets the
learner's code. The notebook's own setup and check cells are not run: the setup cell, the answers'
names and the rules are the repository's.
"""

import argparse
import csv
import functools
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import indent

import numpy as np
from jupyter_client.manager import KernelManager

from utils import _isolation
from utils.course.exercise import Exercise, Part, examine, verdict
from utils.course.feedback import Points
from utils.course.plain import dumps, loads
from utils.course.sandbox import describe
from utils.course.settings import ROOT
from utils.course.source import answer_expression
from utils.exercises import find

LESSONS = ROOT / "lessons"
SECONDS = 60.0
# A notebook may run this many times as long as one of its cells.
_CELLS = 10
_START, _GRACE = 180.0, 5.0
_LARGEST = 64 * 2**20
_COLUMNS = ("file", "lesson", "exercise", "points", "of", "message")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WHERE = re.compile(r" \([^()]*, line \d+\)$")


class NotGraded(Exception):
    """A file that cannot be graded: its name and why, in one sentence."""


@dataclass(frozen=True)
class Report:
    """What a notebook got.

    Args:
        file: the notebook, as it was named.
        lesson: stem of the lesson's files, for example "00_start_here".
        points: the points of each exercise of the lesson, in its order, with their messages.
    """

    file: str
    lesson: str
    points: dict[str, Points]

    @property
    def text(self) -> str:
        """Points and messages of each exercise, and the total."""
        lines = [f"{_line(self.file)} · {self.lesson}"]
        lines += [indent(f"{name}: {points.text}", "  ") for name, points in self.points.items()]
        most = sum(points.out_of for points in self.points.values())
        return "\n".join([*lines, f"  Total: {sum(self.points.values()):g} of {most:g} points"])

    @property
    def rows(self) -> list[tuple]:
        """One row of the CSV file for each exercise."""
        return [
            (self.file, self.lesson, name, f"{points:g}", f"{points.out_of:g}", _message(points))
            for name, points in self.points.items()
        ]


def grade(path: Path, seconds: float = SECONDS) -> Report:
    """Run a learner's notebook and judge its answers.

    Args:
        path: the notebook.
        seconds: time limit of a cell. The notebook as a whole has ten times as long.

    Returns:
        The points of every exercise of the lesson, whatever the notebook's cells do.

    Raises:
        NotGraded: if the file cannot be read, or is no lesson of this course.

    >>> grade(Path("missing.ipynb"))
    Traceback (most recent call last):
    utils.course.grade.NotGraded: missing.ipynb: No such file or directory.
    """
    book = _read(path)
    lesson = _lesson_of(path, book)
    cells = book["cells"]
    roles = [_role(cell, lesson) for cell in cells]
    place = {name: index for index, (kind, name) in enumerate(roles) if kind == "exercise"}
    due = defaultdict(list)
    for name, index in place.items():
        # Where the learner ran the check, later cells had not yet given its name to another thing.
        checks = (i for i in range(index, len(cells)) if roles[i] == ("check", name))
        due[next(checks, index)].append(name)
    missing = "The exercise's cell was not found in the notebook."
    points = {name: _none(name, missing) for name in lesson.answers}
    problems = {}
    with _Session(lesson.setup, seconds) as session:
        for index in range(max(due, default=-1) + 1):
            kind, name = roles[index]
            if kind in ("exercise", "other"):
                problem = session.run(_source(cells[index]), keep=True)
                if kind == "exercise":
                    problems[name] = problem and f"The cell {problem}"
            for name in due[index]:
                if problems[name]:
                    points[name] = _none(name, problems[name])
                else:
                    points[name] = _judged(find(name), lesson.answers[name], session)
    return Report(str(path), lesson.name, points)


def _none(name, message):
    return Points([Part("answer", find(name).points, 0, _line(message))])


def _judged(exercise: Exercise, answer: str, session: "_Session") -> Points:
    """Let the kernel examine the answer, and judge here what it saw."""
    inputs = exercise.inputs(np.random.default_rng())
    with tempfile.TemporaryDirectory() as folder:
        given, seen = Path(folder, "inputs.json"), Path(folder, "seen.json")
        given.write_text(dumps(inputs), encoding="utf-8")
        arguments = f"{exercise.id!r}, {answer!r}, {str(given)!r}, {str(seen)!r}"
        code = f"__import__('utils.course.grade', fromlist=['_']).answer_in_kernel({arguments})"
        problem = session.run(code, more=exercise.seconds)
        if problem:
            return _none(exercise.id, f"`{answer}`, when it was tried, {problem}")
        examined = _examined(seen)
    if examined is None:
        return _none(exercise.id, f"What came back from `{answer}` is not readable.")
    parts = verdict(exercise, inputs, examined)
    return Points([replace(part, message=_line(part.message)) for part in parts])


def answer_in_kernel(exercise_id: str, answer: str, given: str, seen: str):
    """Examine an answer where the learner's cells ran; the grader calls this in the kernel.

    Args:
        exercise_id: the exercise.
        answer: the expression that gives the answer in the learner's namespace.
        given: file with the inputs, as `plain.dumps` writes them.
        seen: file for what `examine` returns, in the same form.
    """
    from IPython import get_ipython

    try:
        value = eval(answer, get_ipython().user_ns)
    except Exception as error:
        examined = {"refused": f"After this cell, `{answer}` gives {describe(error)}."}
    else:
        inputs = loads(Path(given).read_text(encoding="utf-8"))
        examined = examine(find(exercise_id), value, inputs)
    Path(seen).write_text(dumps(examined), encoding="utf-8")


def _examined(path):
    """Read what came from the kernel; None if it is not what `examine` returns."""
    # The learner's code may have written the file, so its size and form are not to be relied on.
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    try:
        examined = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(examined, dict):
        return None
    return examined if isinstance(examined.get("refused"), str) or "seen" in examined else None


class _OutOfBudget(Exception):
    """The notebook has run for as long as it may."""


class _Session:
    """Runs a notebook's cells in a kernel, and goes on in a fresh one when a cell ended it."""

    def __init__(self, setup: str, seconds: float):
        self.setup, self.seconds = setup, seconds
        self.deadline = time.monotonic() + _CELLS * seconds
        self.done: list[str] = []
        self.kernel: _Kernel | None = None

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._close()

    def run(self, source: str, more: float = 0, keep: bool = False) -> str:
        """Run one cell; return "" if it ended well, else what happened to it.

        Args:
            source: the cell's text.
            more: seconds on top of the limit of a cell.
            keep: whether a fresh kernel, if one is needed, has to run this cell again.
        """
        try:
            while self.kernel is None:
                self._start()
            problem, repeatable = self._run(source, more)
        except _OutOfBudget:
            return f"was not run: the cells above took all of the {_CELLS * self.seconds:g} s."
        if keep and repeatable:
            self.done.append(source)
        return problem

    def _start(self):
        self._left()
        self.kernel = _Kernel(self.setup)
        for source in list(self.done):
            _, repeatable = self._run(source)
            if not repeatable:
                # Each round leaves out one more cell, so the rounds come to an end.
                self.done.remove(source)
            if self.kernel is None:
                return

    def _left(self):
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _OutOfBudget
        return left

    def _run(self, source, more=0.0):
        limit = min(self.seconds + more, self._left())
        try:
            error = self.kernel.run(source, limit)
        except _KernelGone:
            self._close()
            return "ended Python itself: was that an exit, or a crash?", False
        except TimeoutError:
            if not self.kernel.interrupt():
                self._close()
            return f"was stopped after {round(limit, 1):g} s: does a loop never end?", False
        return error and f"stopped with {error}.", True

    def _close(self):
        if self.kernel is not None:
            self.kernel.close()
            self.kernel = None


class _KernelGone(Exception):
    """The kernel's process ended, is about to, or sends what is no message."""


class _Kernel:
    """A fresh Jupyter kernel of this environment with the course in its path."""

    def __init__(self, setup: str):
        _isolation.isolate()
        self.folder = tempfile.TemporaryDirectory()
        # Encrypted: otherwise every kernel warns in the terminal that others could read along.
        self.manager = KernelManager(kernel_name="python3", transport_encryption="auto")
        self.manager.start_kernel(
            cwd=str(LESSONS),
            # The user's own start-up files and history are none of the learner's business.
            env=os.environ
            | {
                "IPYTHONDIR": self.folder.name,
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client = self.manager.blocking_client()
        # Outputs are not graded: without this channel a cell may print as much as it likes.
        self.client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        course = f"__import__('sys').path.insert(0, {str(ROOT)!r})"
        for source in (course, "import utils.course.grade", setup):
            try:
                problem = self.run(source, _START)
            except (_KernelGone, TimeoutError):
                problem = "it ended, or does not answer"
            if problem:
                self.close()
                raise NotGraded(f"The kernel for the learner's cells does not start: {problem}.")

    def run(self, source: str, seconds: float) -> str:
        """Run a cell; return "" if it ended well, else the error that stopped it.

        Raises:
            TimeoutError: if it has not ended after `seconds`.
            _KernelGone: if it will not end, or if no other cell can run after it.
        """
        self.asked = self.client.execute(source, allow_stdin=False, stop_on_error=False)
        return self._reply(seconds)

    def interrupt(self) -> bool:
        """Interrupt the cell that runs, and tell whether the kernel is ready for another one."""
        self.manager.interrupt_kernel()
        try:
            self._reply(_GRACE)
        except (_KernelGone, TimeoutError):
            return False
        return True

    def _reply(self, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                left = max(0.0, end - time.monotonic())
                reply = self.client.get_shell_msg(timeout=min(0.2, left))
                if reply["parent_header"].get("msg_id") == self.asked:
                    return _problem(reply["content"])
            except queue.Empty:
                if not self.manager.is_alive():
                    raise _KernelGone from None
            except Exception as error:  # the learner's code can send garbage over the socket
                raise _KernelGone from error
            if time.monotonic() >= end:
                raise TimeoutError

    def close(self):
        """End the kernel's process and those that it started."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.folder.cleanup()


def _problem(reply):
    """Put a reply into words: type, message and line of the error, "" if there was none."""
    if any(part["source"] == "ask_exit" for part in reply.get("payload", ())):
        raise _KernelGone
    if reply["status"] == "ok":
        return ""
    text = _line(_WHERE.sub("", reply["evalue"]))
    trace = _ANSI.sub("", "\n".join(reply["traceback"]))
    lines = re.findall(rf"Cell In\[{reply['execution_count']}\], line (\d+)", trace)
    where = f" (line {lines[-1]})" if lines else ""
    return f"{reply['ename']}: {text}".removesuffix(": ") + where


# Learners' files and the repository's ----------------------------------------------------------


@dataclass(frozen=True)
class _Lesson:
    """What the repository's notebook of a lesson says: setup cell, answers, what may be skipped."""

    name: str
    setup: str
    answers: dict[str, str]
    experiments: frozenset[str]


@functools.cache
def _lesson(path):
    cells = _read(path)["cells"]
    answers, setup, experiments = {}, "", set()
    for cell in cells:
        marks, source = cell["metadata"].get("course", {}), _source(cell)
        if "check" in marks:
            answers[marks["check"]] = answer_expression(source, marks["check"])
        elif "setup" in marks:
            setup = source
        elif "experiment" in cell["metadata"].get("tags", []):
            experiments.add(source.strip())
    return _Lesson(path.stem, setup, answers, frozenset(experiments))


def _read(path):
    """Read a notebook as far as grading needs it.

    Older versions and missing ids are no reason to refuse it, so the format is not validated.
    """
    try:
        book = json.loads(path.read_bytes())
    except OSError as error:
        raise NotGraded(f"{path}: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        raise NotGraded(
            f"{path}: not a notebook; expected a file with the ending .ipynb."
        ) from None
    cells = book.get("cells") if isinstance(book, dict) else None
    if not isinstance(cells, list) or not all(_is_cell(cell) for cell in cells):
        raise NotGraded(f"{path}: not a notebook; it has no list of cells.")
    return book


def _is_cell(cell):
    if not isinstance(cell, dict) or not isinstance(cell.get("metadata", {}), dict):
        return False
    source = cell.get("source", "")
    return isinstance(source, str) or (
        isinstance(source, list) and all(isinstance(line, str) for line in source)
    )


def _source(cell):
    text = "".join(cell.get("source", ""))
    # JSON can hold half a character, which no message to the kernel can.
    return text.encode("utf-8", "replace").decode("utf-8")


def _lesson_of(path, book):
    """Find the lesson by the notebook's metadata, or else by its exercises."""
    metadata = book.get("metadata", {})
    named = _inner(metadata, "course").get("lesson") if isinstance(metadata, dict) else None
    known = sorted(LESSONS.glob("*.ipynb"))
    for file in known:
        if file.stem == named:
            return _lesson(file)
    for file in known:
        lesson = _lesson(file)
        if any(_role(cell, lesson)[0] == "exercise" for cell in book["cells"]):
            return lesson
    raise NotGraded(f"{path}: not a lesson of this course; expected a copy of one in lessons/.")


def _role(cell, lesson):
    """Tell what a cell is: ("exercise" or "check", name), else ("other" or "", None).

    A service may drop the metadata of a cell, so nbgrader's name and the cell's id count as well.
    """
    if cell.get("cell_type") != "code":
        return "", None
    metadata = cell.get("metadata", {})
    marks, source = _inner(metadata, "course"), _source(cell).strip()
    labels = {str(_inner(metadata, "nbgrader").get("grade_id")), str(cell.get("id"))}
    for name in lesson.answers:
        dashed = name.replace("_", "-")
        if marks.get("check") == name or {f"check-{name}", f"check-{dashed}"} & labels:
            return "check", name
        if marks.get("exercise") == name or {name, f"exercise-{dashed}"} & labels:
            return "exercise", name
    if "setup" in marks or cell.get("id") == "setup" or "import utils.course.setup" in source:
        return "", None
    return ("", None) if source in lesson.experiments or not source else ("other", None)


def _inner(metadata, key):
    value = metadata.get(key)
    return value if isinstance(value, dict) else {}


# What the instructor reads ---------------------------------------------------------------------


def _line(text: str) -> str:
    r"""Put a text that a learner may have written into one harmless line.

    >>> _line("two\nlines \x1b[31m")
    'two lines [31m'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= 500 else text[:500] + " …"


def _message(points):
    return " · ".join(f"{part.name}: {part.message}" for part in points.parts if part.message)


def _cell(text):
    """Keep a spreadsheet from taking a text for a formula: it gets an apostrophe in front.

    >>> _cell("=1+1"), _cell("two")
    ("'=1+1", 'two')
    """
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


def write_csv(path: Path, reports: list[Report]):
    """Write one row for each exercise of each notebook, or leave the file as it was.

    Args:
        path: the file. Columns: file, lesson, exercise, points, of, message.
        reports: the graded notebooks.

    Raises:
        OSError: if the file cannot be written.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "w", encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(_COLUMNS)
            rows.writerows([_cell(text) for text in row] for r in reports for row in r.rows)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if a file could not be graded."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.course.grade", description="Grade learners' notebooks."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a learner's notebook")
    parser.add_argument("--csv", type=Path, help="also write one row an exercise to this file")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="time limit of a cell (%(default)g)"
    )
    options = parser.parse_args(arguments)
    if not 0 < options.seconds < float("inf"):
        parser.error(f"--seconds {options.seconds:g}: expected a number above 0")
    if options.csv and not options.csv.absolute().parent.is_dir():
        print(f"{options.csv}: the folder {options.csv.parent} does not exist.", file=sys.stderr)
        return 1
    reports, code = [], 0
    for number, path in enumerate(options.files, 1):
        if len(options.files) > 1:
            print(f"grading {number} of {len(options.files)}: {_line(path.name)}", file=sys.stderr)
        try:
            reports.append(grade(path, options.seconds))
            print(reports[-1].text, flush=True)
        except NotGraded as error:
            print(_line(str(error)), file=sys.stderr)
            code = 1
        if options.csv:
            try:
                # After each notebook, so that an interrupted run of a class keeps what it has.
                write_csv(options.csv, reports)
            except OSError as error:
                print(f"{options.csv}: {error.strerror or error}.", file=sys.stderr)
                return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
