"""`check("id", answer)` and `progress()`: what a learner sees of the exercises."""

import contextlib
import html
import re

import numpy as np

from utils.course import cells
from utils.course.exercise import Part, examine, verdict
from utils.exercises import find, of_lesson
from utils.tables import wrap

_WIDTH = 78  # the report of the grader indents it by two more

_latest: dict[str, "Points"] = {}
_cells = cells.watch()


class Points(float):
    """Points for an answer: a number to add up, with the feedback as its HTML form.

    `repr` is the bare number, which is what nbgrader reads as partial credit.

    Args:
        parts: the judged parts.
        printed: what the learner's code printed while it was judged.
        remark: a sentence about what was judged, if it is not what one would think.
    """

    parts: list[Part]
    out_of: float
    printed: str
    remark: str

    def __new__(cls, parts: list[Part], printed: str = "", remark: str = ""):
        """Add up the parts."""
        points = super().__new__(cls, round(sum(part.earned for part in parts), 4))
        points.parts = parts
        points.out_of = round(sum(part.points for part in parts), 4)
        points.printed = printed
        points.remark = remark
        return points

    def __repr__(self):
        return float.__repr__(self)

    def __str__(self):
        return float.__repr__(self)

    @property
    def text(self) -> str:
        """The feedback as plain text, for a terminal."""
        lines = [f"{_number(self)} of {_number(self.out_of)} points"]
        if self.remark:
            lines.append(wrap(self.remark, "  ", _WIDTH))
        for part in self.parts:
            lines.append(
                f"  {_mark(part)} {part.name} ({_number(part.earned)}/{_number(part.points)})"
            )
            if part.message:
                lines.append(wrap(part.message, "      ", _WIDTH))
        if self.printed.strip():
            printed = self.printed.strip().splitlines()
            lines.append("  Your code printed:")
            lines.extend("      " + line for line in printed[:10])
            if len(printed) > 10:
                lines.append(f"      … and {len(printed) - 10} lines more")
        return "\n".join(lines)

    def _repr_html_(self):
        rows = [f"<div style='margin:0.3em 0'>{_code(self.remark)}</div>"] if self.remark else []
        for part in self.parts:
            message = f"<br>{_code(part.message)}" if part.message else ""
            rows.append(
                f"<div style='margin:0.3em 0 0 1.4em;text-indent:-1.4em'>{_mark(part)}&ensp;"
                f"<span style='text-indent:0'>{_code(part.name)} <span style='opacity:0.7'>"
                f"({_number(part.earned)} of {_number(part.points)})</span></span>{message}</div>"
            )
        if self.printed.strip():
            rows.append(
                "<details style='margin-top:0.3em'><summary>Your code printed</summary>"
                f"<pre>{html.escape(self.printed.strip())}</pre></details>"
            )
        right = not any(part.message for part in self.parts)
        colour = "#2e9e5b" if right else "#c98a1b" if self > 0 else "#d0605e"
        # Only the bar has a colour of its own: text and ground are the theme's, light or dark.
        return (
            f"<div style='border-left:4px solid {colour};padding:0.2em 0.8em;max-width:46em'>"
            f"<b>{_number(self)} of {_number(self.out_of)} points</b>{''.join(rows)}</div>"
        )


def check(exercise_id: str, answer) -> Points:
    """Judge an answer on fresh random inputs.

    Args:
        exercise_id: the exercise's name, as the cell above says it.
        answer: the function, class, model or number that the task asks for.

    Returns:
        The points, with a sentence for each part that is not right yet, and one if the object
        is not of the cell that ran last to define it. Whatever the answer does, `check` does not
        raise.

    >>> from utils.course import check
    >>> check("conv_macs", ...)
    0 of 2 points
      ✗ answer (0/2)
          Not attempted yet: replace the `...` and run both cells again.
    0.0
    """
    exercise = find(exercise_id) if isinstance(exercise_id, str) else None
    remark = ""
    if exercise is not None and _cells is not None:
        with contextlib.suppress(Exception):  # an answer may raise wherever it is touched
            remark = _cells.remark(exercise_id, answer)
    if exercise is None:
        given = repr(exercise_id[:40]) if isinstance(exercise_id, str) else "of that name"
        problem = f"There is no exercise {given}; `check` takes an exercise's name and the answer."
        points = Points([Part("exercise", 0, 0, problem)])
    else:
        judged = evaluate(exercise, answer)
        points = _latest[exercise_id] = Points(judged.parts, judged.printed, remark)
    if not _in_notebook():
        print(points.text)
    return points


def evaluate(exercise, answer, seed: int | None = None) -> Points:
    """Run probe and judge of an exercise in this process.

    Args:
        exercise: an `Exercise`.
        answer: the learner's object.
        seed: fixes the random inputs; None draws fresh ones.

    Returns:
        The points with their feedback.
    """
    inputs = exercise.inputs(np.random.default_rng(seed))
    examined = examine(exercise, answer, inputs)
    return Points(verdict(exercise, inputs, examined), examined["printed"])


class Progress:
    """The points of each exercise of a lesson so far, as text and as an HTML table."""

    def __init__(self, rows: list[tuple[str, float, float, bool]]):
        self.rows = rows

    @property
    def total(self) -> tuple[float, float]:
        """Points earned and points possible."""
        return sum(row[1] for row in self.rows), sum(row[2] for row in self.rows)

    def __repr__(self):
        if not self.rows:
            return "No exercise was checked yet: run the cells above first."
        width = max(len(row[0]) for row in self.rows)
        lines = [
            f"{name:<{width}}  {_number(got):>4} of {_number(most)}{'' if ran else '  not run yet'}"
            for name, got, most, ran in self.rows
        ]
        got, most = self.total
        return "\n".join([*lines, f"{'Total':<{width}}  {_number(got):>4} of {_number(most)}"])

    def _repr_html_(self):
        if not self.rows:
            return f"<p>{self!r}</p>"
        rows = "".join(
            f"<tr><td style='text-align:left'><code>{html.escape(name)}</code></td>"
            f"<td>{_number(got)} of {_number(most)}</td>"
            "<td style='text-align:left'>"
            f"{_bar(got, most)}{'' if ran else ' not run yet'}</td></tr>"
            for name, got, most, ran in self.rows
        )
        got, most = self.total
        return (
            f"<table>{rows}<tr><td style='text-align:left'><b>Total</b></td>"
            f"<td><b>{_number(got)} of {_number(most)}</b></td><td></td></tr></table>"
        )


def progress() -> Progress:
    """Show the points of each exercise of the lesson whose checks ran in this session."""
    lessons = {find(name).lesson for name in _latest}
    rows = []
    for lesson in sorted(lessons):
        for exercise in of_lesson(lesson):
            points = _latest.get(exercise.id)
            rows.append(
                (exercise.id, float(points or 0), float(exercise.points), points is not None)
            )
    return Progress(rows)


def _bar(got, most):
    filled = round(10 * got / most)
    return f"<span aria-hidden='true'>{'■' * filled}{'□' * (10 - filled)}</span>"


def _mark(part):
    return "✓" if not part.message else "◐" if part.earned else "✗"


def _number(value):
    return f"{float(value):g}"


def _code(text):
    """Escape a message for HTML; `backticks` become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def _in_notebook():
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
