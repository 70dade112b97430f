"""Right, wrong and half-right answers that the checks must tell apart, one module a lesson.

Each module has a dictionary `ANSWERS` from an exercise's id to its `Answers`. An answer is source
text, run where the lesson's imports are done, that defines what the exercise's check takes.
"""

import importlib
import pkgutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Answers:
    """The answers to one exercise.

    Args:
        wrong: plausible wrong answers, each under a piece of the feedback that it alone gets.
        right: right answers that look unlike the lesson's solution, each under a name.
        half: half-right answers, each under a name, with the points it earns.
        slow: True where judging builds networks: then an answer meets one of the ten seeds, in
            place of three. Together an exercise's answers meet all, and so does its solution. With
            `--every-seed` (`make answers`) each answer meets all ten.
    """

    wrong: dict[str, str]
    right: dict[str, str]
    half: dict[str, tuple[float, str]]
    slow: bool = False


def changed(text: str, *changes: tuple[str, str]) -> str:
    """Return a text with pieces replaced, pairs of old and new; each must stand in it once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def bank() -> dict[str, Answers]:
    """Return the answers to every exercise of the course by its id."""
    modules = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return {
        exercise: answers
        for module in modules
        for exercise, answers in importlib.import_module(f"{__name__}.{module}").ANSWERS.items()
    }
