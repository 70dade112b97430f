"""What an exercise is: inputs, a probe that runs the learner's object, a judge that does not.

The probe turns the learner's object into plain data; the judge sees only that data and the
inputs. So the same rules serve the notebook, where both run in one process, and the grader,
where they do not.
"""

import contextlib
import copy
import dis
import functools
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.course.sandbox import SECONDS, Sandbox, describe


@dataclass(frozen=True)
class Part:
    """One graded part of an exercise.

    Args:
        name: what the part looks at, a few words.
        points: what it is worth.
        earned: what the answer gets, between 0 and `points`.
        message: a sentence that helps; empty if all points are earned.
    """

    name: str
    points: float
    earned: float
    message: str = ""

    def __post_init__(self):
        if not 0 <= self.earned <= self.points:
            raise ValueError(f"earned={self.earned}: expected 0 to {self.points} in {self.name!r}")
        if self.earned < self.points and not self.message:
            raise ValueError(f"part {self.name!r} withholds points and says nothing")


@dataclass(frozen=True)
class Exercise:
    """The rules of one exercise.

    Args:
        id: the name that the lesson's cells carry, for example "conv_macs".
        lesson: stem of the lesson's files, for example "00_start_here".
        points: what a right answer gets; the parts of the judge add up to it.
        inputs: draws the inputs of one run from a `numpy.random.Generator`.
        probe: runs the answer on the inputs, `probe(box, answer, inputs)` → plain data.
        judge: compares, `judge(inputs, seen)` → list of `Part`.
        forbids: names that the answer must not use (in code) or call (Keras layers).
        allows: names from `utils` that the answer may use as building material.
        given: methods that the stub already contains, so that they are no attempt.
        twin: "module:name" of the same thing in `utils`, or None.
        seconds: time limit of one call of the learner's code.
    """

    id: str
    lesson: str
    points: float
    inputs: Callable[[np.random.Generator], Any]
    probe: Callable[[Sandbox, Any, Any], Any]
    judge: Callable[[Any, Any], list[Part]]
    forbids: tuple[str, ...] = ()
    allows: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    twin: str | None = None
    seconds: float = SECONDS


def examine(exercise: Exercise, answer, inputs) -> dict[str, Any]:
    """Run the learner's side of an exercise.

    Returns:
        Plain data: `{"refused": sentence}` if the answer is no answer of the learner's own,
        else `{"seen": the probe's data}`; `"printed"` holds what the learner's code printed, and
        `"untouched"` is True if the answer is still the stub.
    """
    box, stub = Sandbox(exercise.seconds), False
    try:
        stub = untouched(answer, exercise.given)
        refusal = refuse(exercise, answer)
        if not refusal:
            # A copy, so that an answer that writes to its inputs does not change the right result.
            given = copy.deepcopy(inputs)
            with _as_at_the_start(), _layers_called() as layers:
                seen = exercise.probe(box, answer, given)
            refusal = _refuse_layers(exercise, layers)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A judge can only be as right as its probe: what escapes it is said, never raised.
        refusal = f"Your answer could not be run ({describe(error)})."
    if refusal:
        return {"refused": refusal, "printed": box.printed, "untouched": stub}
    return {"seen": seen, "printed": box.printed}


def verdict(exercise: Exercise, inputs, examined: dict[str, Any]) -> list[Part]:
    """Judge what `examine` saw.

    Returns:
        The parts; their points add up to the exercise's.
    """
    if "refused" in examined:
        return [Part("answer", exercise.points, 0, examined["refused"])]
    try:
        # A warning about strange data would reach the learner's cell as an error does.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = exercise.judge(inputs, examined["seen"])
    except Exception as error:
        message = (
            "Your answer returned something that cannot be compared with a right one "
            f"({type(error).__name__}). Does it return what the task asks for?"
        )
        return [Part("answer", exercise.points, 0, message)]
    if abs(sum(part.points for part in parts) - exercise.points) > 1e-9:
        raise ValueError(f"the parts of {exercise.id!r} do not add up to {exercise.points} points")
    return parts


def refuse(exercise: Exercise, answer) -> str:
    """Return why an object cannot be an answer at all, or "" if it may be one."""
    if untouched(answer, exercise.given):
        return "Not attempted yet: replace the `...` and run both cells again."
    if _of_course(_unwrapped(answer)):
        return "This is the course's own code from `utils`; write your own in the cell above."
    names, borrowed = names_used(answer)
    borrowed = sorted(borrowed - set(exercise.allows))
    if borrowed:
        return _borrowed(borrowed[0])
    return _without(names & set(exercise.forbids))


def _refuse_layers(exercise, layers):
    """Return why the Keras layers that were called are not allowed, or ""."""
    allowed, names = set(exercise.allows), set()
    for layer in layers:
        kind = type(layer)
        names.add(kind.__name__)
        if _of_course(layer) and not allowed & {kind.__name__, kind.__module__.split(".")[-1]}:
            return _borrowed(kind.__name__)
    return _without(names & set(exercise.forbids))


def _borrowed(name):
    return f"Your code uses the course's own `{name}`; write this part yourself."


def _without(forbidden):
    if not forbidden:
        return ""
    return f"This exercise is about building it yourself, without {', '.join(sorted(forbidden))}."


def _of_course(thing) -> bool:
    """Tell whether an object, or a class it derives from, is defined in `utils`."""
    home = thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", "")
    classes = thing.__mro__ if inspect.isclass(thing) else type(thing).__mro__
    homes = [home, *(each.__module__ for each in classes)]
    return any(str(home).split(".")[0] == "utils" for home in homes)


def untouched(answer, given: Iterable[str] = ()) -> bool:
    """Tell whether an answer is still the stub: `...`, or functions whose body is `...`.

    >>> def stub(x):
    ...     '''What to do.'''
    ...     ...
    >>> untouched(stub), untouched(len), untouched(...)
    (True, False, True)
    """
    if answer is ... or answer is None:
        return True
    if inspect.isfunction(answer):
        return _is_stub(answer)
    if inspect.isclass(answer):
        own = [
            value
            for name, value in vars(answer).items()
            if inspect.isfunction(value) and name not in given
        ]
        return bool(own) and all(_is_stub(value) for value in own)
    return False


def _is_stub(function) -> bool:
    def empty(): ...

    def instructions(code):
        # Each `...` beyond the first leaves a NOP; a docstring only shifts the constant's index.
        return [i.opname for i in dis.get_instructions(code) if i.opname != "NOP"]

    code = function.__code__
    return instructions(code) == instructions(empty.__code__) and code.co_consts[-1] is None


def names_used(answer) -> tuple[set[str], set[str]]:
    """Return the names in an answer's code, and in the learner's own code that it calls.

    Args:
        answer: a function or class; a partial, a method or a decorated function, too.

    Returns:
        All global and attribute names, and those of them that stand for something from `utils`.

    >>> names, borrowed = names_used(lambda x: max(x).real)
    >>> sorted(names), borrowed
    (['max', 'real'], set())
    """
    names, borrowed, seen = set(), set(), []
    home = getattr(_unwrapped(answer), "__module__", None)
    waiting = [("", answer)]
    while waiting:
        name, thing = waiting.pop()
        thing = _unwrapped(thing)
        if name and hasattr(thing, "__name__"):
            names.add(thing.__name__)  # `import keras as k` is keras, whatever it is called here
        if name and _of_course(thing):
            borrowed.add(name)
        elif getattr(thing, "__module__", None) == home and all(thing is not s for s in seen):
            seen.append(thing)
            if inspect.isfunction(thing):
                for code in codes(thing.__code__):
                    names.update(code.co_names)
                waiting += _reached(thing)
            else:
                kind = thing if inspect.isclass(thing) else type(thing)
                waiting += vars(kind).items()
    return names, borrowed


def _unwrapped(thing):
    while isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, types.MethodType | staticmethod | classmethod):
        thing = thing.__func__
    return inspect.unwrap(thing) if callable(thing) and not inspect.isclass(thing) else thing


def codes(code):
    """Yield a code object and all that are defined inside it."""
    yield code
    for const in code.co_consts:
        if inspect.iscode(const):
            yield from codes(const)


def _reached(function):
    """Return, with names, what a function's globals, imports, closure and defaults stand for."""
    code, space = function.__code__, function.__globals__
    reached = []
    for step in (step for each in codes(code) for step in dis.get_instructions(each)):
        # `x.count` reads an attribute, whatever the global name `count` stands for.
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in space:
            reached.append((step.argval, space[step.argval]))
        elif step.opname == "IMPORT_NAME" and step.argval.split(".")[0] == "utils":
            reached.append((step.argval.split(".")[-1], sys.modules["utils"]))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            reached.append((name, cell.cell_contents))
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        reached.append((getattr(value, "__name__", type(value).__name__), value))
    return reached


@contextlib.contextmanager
def _as_at_the_start():
    """Let layers be made as in a fresh session, whatever number type the notebook has set.

    A judge compares to four digits, and bfloat16 has fewer than three.
    """
    config = getattr(sys.modules.get("keras"), "config", None)
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        if config is None:  # Keras was not imported, or its import failed half-way
            yield
            return
        before = config.dtype_policy(), config.floatx(), config.image_data_format()
        _configure(config, "float32", "float32", "channels_last")
        try:
            yield
        finally:
            _configure(config, *before)


def _configure(config, policy, floatx, data_format):
    config.set_floatx(floatx)
    config.set_dtype_policy(policy)
    config.set_image_data_format(data_format)


@contextlib.contextmanager
def _layers_called():
    """Collect the Keras layers that are called, without those inside a layer of the course."""
    called, inside = [], []
    if "keras" not in sys.modules:  # it takes seconds to import, and no layer can be there
        yield called
        return
    from utils._keras_private import calls_through

    def record(call_layer, layer, args, kwargs):
        if not inside:
            called.append(layer)
        if not _of_course(layer):
            return call_layer(layer, *args, **kwargs)
        inside.append(layer)
        try:
            return call_layer(layer, *args, **kwargs)
        finally:
            inside.pop()

    with calls_through(record):
        yield called


def say(value) -> str:
    """Print a value of the learner's for a message, shortened.

    >>> say(np.zeros((2, 3)))
    'an array of shape (2, 3)'
    >>> say({"type": "Layer"})
    'an object of type Layer'
    """
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, dict) and set(value) == {"type"}:
        return f"an object of type {value['type']}"
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + " …"


def first_problem(*problems: str) -> str:
    """Return the first problem that is not empty, or "".

    >>> first_problem("", "no bias", "no stride")
    'no bias'
    """
    return next((problem for problem in problems if problem), "")


def graded(name: str, points: float, problem: str) -> Part:
    """Give a part its points if there is no problem, else the problem as its message.

    >>> graded("shape", 0.5, "").earned, graded("shape", 0.5, "one too many").earned
    (0.5, 0)
    """
    return Part(name, points, 0 if problem else points, problem)


@dataclass(frozen=True)
class Case:
    """One call of a learner's code beside what it should return.

    Args:
        call: the call as a learner would type it, for the message.
        seen: what the sandbox saw, `{"value": …}` or `{"error": …}`.
        expected: the right value: a number, a tuple or an array.
        mistakes: `(value, message)` pairs; a learner whose value is one of them reads why.
    """

    call: str
    seen: dict
    expected: Any
    mistakes: tuple[tuple[Any, str], ...] = ()


def part(name: str, points: float, cases: Iterable[Case], tolerance: float = 1e-4) -> Part:
    """Give a part its points if all cases are right, else the message of the first wrong one.

    Args:
        name: what the part looks at.
        points: what it is worth.
        cases: calls beside what they should return.
        tolerance: largest difference from an expected array or float, relative to its scale.
    """
    for case in cases:
        message = mismatch(case, tolerance)
        if message:
            return Part(name, points, 0, message)
    return Part(name, points, points)


def mismatch(case: Case, tolerance: float = 1e-4) -> str:
    """Return why a case is wrong, or "" if it is right."""
    if "error" in case.seen:
        return f"{case.call} stopped with {case.seen['error']}"
    value, expected = case.seen["value"], case.expected
    if same(value, expected, tolerance):
        return ""
    for wrong, message in case.mistakes:
        if same(value, wrong, tolerance):
            return f"{case.call}: {message}"
    if value is None:
        return f"{case.call} returned nothing: does every path end in `return`?"
    if isinstance(expected, np.ndarray):
        if not isinstance(value, np.ndarray):
            shape = expected.shape
            return f"{case.call} returned {say(value)}; expected an array of shape {shape}."
        if value.shape != expected.shape:
            return f"{case.call}: expected shape {expected.shape}, got {value.shape}."
        far = float(np.max(np.abs(value.astype("float64") - expected)))
        where = "not a number in places" if np.isnan(far) else f"off by up to {far:.3g}"
        return f"{case.call}: the shape is right, the values are {where}."
    if isinstance(value, str) and isinstance(expected, int | float):
        return f"{case.call} returned the text {say(value)}; return the number itself."
    return f"{case.call} returned {say(value)}; expected {say(expected)}{_times(value, expected)}."


def _times(value, expected):
    """How many times a number is too large or too small, if that is a whole number."""
    numbers = all(isinstance(each, int | float) and each for each in (value, expected))
    if not numbers or isinstance(value, bool):
        return ""
    for ratio, wrong in ((value / expected, "large"), (expected / value, "small")):
        if 2 <= ratio < 1e6 and abs(ratio - round(ratio)) < 1e-9 * ratio:
            return f": yours is {round(ratio)} times too {wrong}"
    return ""


def same(value, expected, tolerance: float = 1e-4) -> bool:
    """Tell whether a learner's value equals the expected one, whatever number type it has.

    >>> same(4.0, 4), same(np.array(4), 4), same(True, 1), same([1, 2], (1, 2)), same("4", 4)
    (True, True, False, True, False)
    """
    if isinstance(expected, np.ndarray):
        if not isinstance(value, np.ndarray) or value.shape != expected.shape:
            return False
        scale = float(np.max(np.abs(expected), initial=1e-6))
        return bool(np.all(np.abs(value.astype("float64") - expected) <= tolerance * scale))
    if isinstance(expected, tuple | list):
        if isinstance(value, np.ndarray):
            value = value.tolist()
        return (
            isinstance(value, tuple | list)
            and len(value) == len(expected)
            and all(same(v, e, tolerance) for v, e in zip(value, expected, strict=True))
        )
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(expected, bool) or isinstance(value, bool):
        return value is expected
    if isinstance(expected, int) and isinstance(value, int | float):
        return value == expected
    if isinstance(expected, float) and isinstance(value, int | float):
        return abs(value - expected) <= tolerance * max(abs(expected), 1e-6)
    return type(value) is type(expected) and value == expected
