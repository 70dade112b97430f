"""The rules of every exercise: one module a lesson, each with a list `EXERCISES`."""

import functools
import importlib
import pkgutil


@functools.cache
def all_exercises() -> dict:
    """Return every exercise of the course by its id, in the order of the lessons.

    >>> "conv_macs" in all_exercises()
    True
    """
    found = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for exercise in importlib.import_module(f"{__name__}.{module}").EXERCISES:
            if exercise.id in found:
                raise ValueError(f"two exercises have the id {exercise.id!r}")
            found[exercise.id] = exercise
    return found


def find(exercise_id: str):
    """Return the exercise of that id, or None.

    >>> find("conv_macs").lesson
    '00_start_here'
    """
    return all_exercises().get(exercise_id)


def of_lesson(lesson: str) -> list:
    """Return the exercises of a lesson, in order.

    >>> [exercise.id for exercise in of_lesson("no_such_lesson")]
    []
    """
    return [exercise for exercise in all_exercises().values() if exercise.lesson == lesson]
