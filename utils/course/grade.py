"""Grades learners' notebooks with the repository's own checks.

    python -m utils.course.grade FILE… [--csv grades.csv] [--seconds 60] [--seed 7]

The learner's cells run in a fresh Jupyter kernel, in an empty folder. Of each answer the kernel
returns what the probe saw, as plain data; the judge runs here and never meets the learner's code.
Of the notebook's own setup cell only what the learner added is run, and of checks only where they
stand and what they are given: the setup, the answers' names and the rules are the repository's.
"""

import argparse
import base64
import contextlib
import csv
import os
import re
import secrets
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

import numpy as np

from utils.course.exercise import Part, examine, verdict
from utils.course.feedback import Points
from utils.course.handed_in import Judge, NotGraded, Run, files, lesson_of, plan, read
from utils.course.kernel import NoKernel, Session, line_of
from utils.course.plain import dumps, loads
from utils.course.sandbox import Sandbox, describe
from utils.course.settings import ROOT
from utils.exercises import find

LESSONS = ROOT / "lessons"
SECONDS = 60.0
# Of what the kernel returns of an answer: characters.
_LARGEST = 32 * 2**20
_COLUMNS = ("file", "lesson", "exercise", "points", "of", "message", "seed")
_UNKNOWN = re.compile(r"name '(\w+)' is not defined")


@dataclass(frozen=True)
class Report:
    """What a notebook got.

    Args:
        file: the notebook, as it was named.
        lesson: stem of the lesson's files, for example "00_start_here"; "" if it is not known.
        points: the points of each exercise of the lesson, in its order, with their messages.
        seed: of the inputs: the same seed gives each exercise the same inputs again.
        notes: what else is to be said of an exercise, for example that it has two answers.
        problem: why the notebook could not be graded, in one sentence, else "".
    """

    file: str
    lesson: str
    points: dict[str, Points]
    seed: int
    notes: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""

    @property
    def text(self) -> str:
        """Points and messages of each exercise, and the total; or why there are none."""
        if self.problem:
            return line_of(self.problem)
        lines = [f"{line_of(self.file)} · {self.lesson} · seed {self.seed}"]
        for name, points in self.points.items():
            lines.append(indent(f"{name}: {points.text}", "  "))
            lines += [f"      {note}" for note in self.notes.get(name, ())]
        most = sum(points.out_of for points in self.points.values())
        return "\n".join([*lines, f"  Total: {sum(self.points.values()):g} of {most:g} points"])

    @property
    def rows(self) -> list[tuple]:
        """The rows of the CSV file: one for each exercise, or one without exercise and points."""
        # What is no text, a file's name may be all the same.
        file = self.file.encode("utf-8", "backslashreplace").decode()
        if self.problem:
            return [(file, self.lesson, "", "0", "0", line_of(self.problem), str(self.seed))]
        return [
            (
                file,
                self.lesson,
                name,
                f"{points:g}",
                f"{points.out_of:g}",
                " · ".join([*_messages(points), *self.notes.get(name, ())]),
                str(self.seed),
            )
            for name, points in self.points.items()
        ]


def grade(path: Path, seconds: float = SECONDS, seed: int | None = None) -> Report:
    """Run a learner's notebook and judge its answers.

    Args:
        path: the notebook.
        seconds: time limit of a cell. The notebook as a whole has ten times as long.
        seed: decides the inputs; None draws one.

    Returns:
        The points of every exercise of the lesson, whatever the notebook's cells do.

    Raises:
        NotGraded: if the file cannot be read, or is no lesson of this course.

    >>> grade(Path("missing.ipynb"))
    Traceback (most recent call last):
    utils.course.handed_in.NotGraded: missing.ipynb: No such file or directory.
    """
    seed = secrets.randbits(32) if seed is None else seed
    book = read(path)
    lesson = lesson_of(path, book, LESSONS)
    tried: dict[str, list[_Tried]] = {name: [] for name in lesson.answers}
    steps = plan(book, lesson)
    try:
        with Session(lesson.setup, LESSONS, seconds, seed) as session:
            for step in steps:
                if isinstance(step, Run):
                    session.run(step)
                else:
                    tried[step.name].append(_judged(step, session, seed))
    except NoKernel as error:
        problem = f"{path}: the kernel for the learner's cells does not start: {error}."
        raise NotGraded(problem) from None
    points, notes = {}, {}
    for name, answers in tried.items():
        points[name], notes[name] = _best(name, answers, session.failures)
    return Report(str(path), lesson.name, points, seed, notes)


@dataclass(frozen=True)
class _Tried:
    """An answer that was judged: the code cell it stands in, and whether it is more than a stub."""

    cell: int
    points: Points
    attempted: bool


def _best(name, answers, failures):
    """Choose the answer that counts: of those that were attempted, the best, and so the last."""
    if not answers:
        return _none(name, "The exercise's cell was not found in the notebook."), []
    best = max(reversed(answers), key=lambda each: (each.attempted, each.points))
    notes = []
    cells = sorted({each.cell for each in answers})
    if len(cells) > 1:
        *others, last = map(str, cells)
        notes.append(
            f"Code cells {', '.join(others)} and {last} answer this exercise; cell {best.cell} "
            "counts."
        )
    for failure in failures:
        if failure.cell == best.cell and best.attempted and best.points > 0:
            notes.append(f"Code cell {best.cell} {failure.problem} The rest of it counts.")
    return best.points, [line_of(note) for note in notes]


def _none(name, message):
    return Points([Part("answer", find(name).points, 0, line_of(message))])


def _judged(step: Judge, session: Session, seed: int) -> _Tried:
    """Let the kernel examine the answer, and judge here what it saw."""
    exercise, own = find(step.name), [f for f in session.failures if f.cell == step.cell]
    name = re.match(r"\w*", step.expression)[0]
    if own and name not in session.bound[step.cell] and any(f.costs(name) for f in own):
        problem = next(f.problem for f in own if f.costs(name))
        message = _explained(f"The cell {problem}", step.cell - 1, session.failures)
        return _Tried(step.cell, _none(step.name, message), True)
    inputs = exercise.inputs(np.random.default_rng([seed, zlib.crc32(step.name.encode())]))
    given = base64.b64encode(dumps(inputs).encode()).decode()
    arguments = f"{exercise.id!r}, {step.expression!r}, {given!r}, {seed}"
    problem, text = session.answer(
        f"__import__('utils.course.grade', fromlist=['_']).answer_in_kernel({arguments})",
        exercise.seconds,
    )
    if problem:
        message = f"`{step.expression}`, when it was tried, {problem}"
        return _Tried(step.cell, _none(step.name, message), True)
    examined = _examined(text)
    if examined is None:
        message = f"What came back from `{step.expression}` is not readable."
        return _Tried(step.cell, _none(step.name, message), True)
    # In a sandbox, because what the judge gets may be forged.
    judged = Sandbox(SECONDS).run(verdict, exercise, inputs, examined)
    if "error" in judged:
        message = f"What came back from `{step.expression}` cannot be judged: {judged['error']}."
        return _Tried(step.cell, _none(step.name, message), True)
    parts = [
        Part(p.name, p.points, p.earned, _explained(p.message, step.cell, session.failures))
        for p in judged["value"]
    ]
    return _Tried(step.cell, Points(parts), not examined.get("untouched"))


def _explained(message, cell, failures):
    """Add to a message about a missing name which cell failed, and with what."""
    unknown = _UNKNOWN.search(message)
    earlier = [failure for failure in failures if failure.cell <= cell]
    if not unknown or not earlier:
        return line_of(message)
    name = unknown[1]
    cause = next((f for f in earlier if f.names and name in f.names), None)
    cause = cause or next((f for f in earlier if f.costs(name)), None)
    if cause:
        why = f"`{name}` is missing because code cell {cause.cell} {cause.problem}"
    else:
        near = max(
            earlier, key=lambda failure: failure.cell == cell
        )  # the answer's own, or the first
        why = f"Before that, code cell {near.cell} {near.problem}"
    return f"{line_of(message).removesuffix('.')}. {line_of(why)}"


class _Carried(str):
    """A text that a kernel shows as it is."""

    def __repr__(self):
        return str(self)


def answer_in_kernel(exercise_id: str, answer: str, given: str, seed: int) -> str:
    """Examine an answer where the learner's cells ran; the grader calls this in the kernel.

    Args:
        exercise_id: the exercise.
        answer: the expression that gives the answer in the learner's namespace.
        given: the inputs, as `plain.dumps` writes them, in base 64.
        seed: of what the answer itself draws at random.

    Returns:
        What `examine` returns, in the same form.
    """
    from IPython import get_ipython

    _set_seed(seed)
    try:
        value = eval(answer, get_ipython().user_ns)
    except Exception as error:
        examined = {"refused": f"After this cell, `{answer}` gives {describe(error)}."}
    else:
        inputs = loads(base64.b64decode(given).decode())
        examined = examine(find(exercise_id), value, inputs)
    text = dumps(examined)
    if len(text) > _LARGEST:
        problem = f"`{answer}` returns {len(text) >> 20} MB in all, too much to compare."
        text = dumps({"refused": problem})
    return _Carried(base64.b64encode(text.encode()).decode())


def _set_seed(seed):
    """Start the generators that an answer may draw from, so that an appeal can be repeated."""
    import random

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, because learners use it
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)


def _examined(text):
    """Read what came from the kernel; None if it is not what `examine` returns."""
    # The learner's code may have written it, so its form is not to be relied on.
    if len(text) > 2 * _LARGEST:
        return None
    try:
        examined = loads(base64.b64decode(text, validate=True).decode())
    except ValueError:
        return None
    if not isinstance(examined, dict):
        return None
    return examined if isinstance(examined.get("refused"), str) or "seen" in examined else None


# What the instructor reads ---------------------------------------------------------------------


def _messages(points):
    return [f"{part.name}: {part.message}" for part in points.parts if part.message]


def _cell(text):
    """Keep a spreadsheet from taking a text for a formula: it gets an apostrophe in front.

    >>> _cell("=1+1"), _cell("two")
    ("'=1+1", 'two')
    """
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


class Table:
    """The CSV file with the points: what it had before stays, until a notebook is graded again.

    Args:
        path: the file. Columns: file, lesson, exercise, points, of, message, seed. A notebook has a
            row for each exercise; one that could not be graded has a single row with no exercise,
            no points, and the reason as its message.

    Raises:
        ValueError: the file is there and is no such table.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, list] = {}
        if not path.exists():
            return
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                header, *rows = csv.reader(file)
        except (UnicodeDecodeError, csv.Error, ValueError):
            header, rows = [], []
        # Tables of before have no seed.
        if path.stat().st_size and tuple(header) not in (_COLUMNS, _COLUMNS[:-1]):
            raise ValueError("it is there and is no table of grades; choose another name.")
        for row in rows:
            row += [""] * (len(_COLUMNS) - len(row))
            self.rows.setdefault(row[0], []).append(row)

    def add(self, report: Report):
        """Take up a report in place of what is known of the same file."""
        rows = [[_cell(text) for text in row] for row in report.rows]
        self.rows[rows[0][0]] = rows

    def write(self):
        """Write the file as a whole, or leave it as it was.

        Raises:
            OSError: if the file cannot be written.
        """
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with open(scratch, "w", encoding="utf-8", errors="replace", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(_COLUMNS)
                rows.writerows(row for known in self.rows.values() for row in known)
            os.replace(scratch, self.path)
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)


def _say(text, file):
    """Print a text; a terminal or pipe that is gone must not end the run."""
    try:
        print(text, file=file, flush=True)
    except OSError:
        with contextlib.suppress(OSError):
            # Otherwise Python tries again, and fails, when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _graded(path, seconds, seed):
    """Grade a notebook; whatever goes wrong becomes its report."""
    try:
        return grade(path, seconds, seed)
    except NotGraded as error:
        problem = str(error)
    except Exception as error:
        # One notebook must not cost the others their points.
        problem = f"{path}: grading it failed ({describe(error)})."
    return Report(str(path), "", {}, seed, problem=problem)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if a file could not be graded."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.course.grade", description="Grade learners' notebooks."
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="a notebook, a folder of them, or a pattern"
    )
    parser.add_argument("--csv", type=Path, help="also write one row an exercise to this file")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="time limit of a cell (%(default)g)"
    )
    parser.add_argument(
        "--seed", type=int, help="give the exercises the inputs of an earlier run again"
    )
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is shown in part.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds < float("inf"):
        parser.error(f"--seconds {options.seconds:g}: expected a number above 0")
    seed = secrets.randbits(32) if options.seed is None else options.seed
    if not 0 <= seed < 2**32:
        parser.error(f"--seed {seed}: expected a number from 0 to {2**32 - 1}")
    try:
        paths = files(options.files)
    except ValueError as error:
        _say(line_of(str(error)), sys.stderr)
        return 1
    table = None
    if options.csv:
        if not options.csv.absolute().parent.is_dir():
            _say(f"{options.csv}: the folder {options.csv.parent} does not exist.", sys.stderr)
            return 1
        try:
            table = Table(options.csv)
            table.write()
        except (OSError, ValueError) as error:
            _say(f"{options.csv}: {_reason(error)}", sys.stderr)
            return 1
    code = 0
    for number, path in enumerate(paths, 1):
        if len(paths) > 1:
            _say(f"grading {number} of {len(paths)}: {line_of(path.name)}", sys.stderr)
        try:
            report = _graded(path, options.seconds, seed)
            if table:
                table.add(report)
                # After each notebook, so that an interrupted run of a class keeps what it has.
                table.write()
        except KeyboardInterrupt:
            kept = f"; {options.csv} has those before" if table else ""
            _say(f"Stopped at {number} of {len(paths)}, {line_of(str(path))}{kept}.", sys.stderr)
            return 130
        except OSError as error:
            _say(f"{options.csv}: {_reason(error)}", sys.stderr)
            code = 1
        _say(report.text, sys.stderr if report.problem else sys.stdout)
        code = 1 if report.problem else code
    return code


def _reason(error):
    return f"{error.strerror or error}." if isinstance(error, OSError) else str(error)


if __name__ == "__main__":
    sys.exit(main())
