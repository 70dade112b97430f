"""Every exercise, five ways: its solution, its stub, wrong, half-right and differing right answers.

A new exercise joins with its answers in `tests/answers`.
"""

import ast
import functools
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.answers import bank
from utils.course.feedback import evaluate
from utils.course.settings import ROOT
from utils.course.source import answer_expression, read, solved, sources, stub
from utils.exercises import all_exercises

SEEDS = range(10)
KINDS = ("wrong", "half", "right")
BANK = bank()

# Answers that are wrong for every exercise, each with a piece of its feedback. TWIN stands for
# the same thing in `utils`.
AUTOMATIC = {
    "None": ("answer = None", "Not attempted"),
    "ellipsis": ("answer = ...", "Not attempted"),
    "returns None": ("answer = lambda *a, **k: None", "Not attempted"),
    "number": ("answer = 7", "not callable"),
    "twin": ("answer = TWIN", "course's own code"),
    "subclass": (
        "answer = type('Mine', (TWIN,), {}) if isinstance(TWIN, type) else TWIN",
        "course's own code",
    ),
    "partial": ("import functools\nanswer = functools.partial(TWIN)", "course's own code"),
    "lambda": ("answer = lambda *a, **k: TWIN(*a, **k)", "course's own `TWIN`"),
    "helper": (
        "def helper(*a, **k): return TWIN(*a, **k)\ndef answer(*a, **k): return helper(*a, **k)",
        "course's own `TWIN`",
    ),
    "closure": (
        "def wrap(inner):\n    return lambda *a, **k: inner(*a, **k)\nanswer = wrap(TWIN)",
        "course's own `inner`",
    ),
    "default": ("def answer(*a, inner=TWIN, **k): return inner(*a, **k)", "course's own `"),
    "import inside": (
        "def answer(*a, **k):\n    from utils import residual\n    return residual.x(*a, **k)",
        "course's own `utils`",
    ),
    "raises": ("def answer(*a, **k): raise OSError('no way')", "OSError: no way"),
    "string": ("answer = lambda *a, **k: 'text'", ""),
    "endless loop": (
        "def answer(*a, **k):\n    while True:\n        try: pass\n        except: pass",
        "a loop that never ends",
    ),
    "exit": ("import sys\ndef answer(*a, **k): sys.exit('bye')", "SystemExit: bye"),
}


@functools.cache
def lessons():
    return {path.stem: read(path) for path in sources()}


@functools.cache
def imports(lesson):
    """The import statements of a lesson, done once."""
    found = []
    for cell in lessons()[lesson].cells:
        if cell.kind == "code" and "exercise" not in cell.metadata:
            body = ast.parse(cell.text).body
            found += [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    space = {"__name__": "__main__"}
    exec(compile(ast.Module(found, []), lesson, "exec"), space)
    return space


def cells(exercise):
    """The texts of an exercise's cell and of its check."""
    both = zip(lessons()[exercise.lesson].cells, lessons()[exercise.lesson].cells[1:], strict=False)
    return next((c.text, n.text) for c, n in both if c.metadata.get("exercise") == exercise.id)


def answer_of(exercise, source, expression=None):
    """Run an answer's text in a fresh namespace and return what the check takes."""
    space = dict(imports(exercise.lesson))
    exec(compile(source, exercise.id, "exec"), space)
    expression = expression or answer_expression(cells(exercise)[1], exercise.id)
    return eval(expression, space)


@functools.cache
def judged(name, source, seed=0):
    """The points for an answer's text, which are the same wherever it stands in the bank."""
    exercise = all_exercises()[name]
    return evaluate(exercise, answer_of(exercise, source), seed)


def texts(name, kind):
    """The answers of a kind in the bank: key → text."""
    answers = getattr(BANK[name], kind)
    return {key: text for key, (_, text) in answers.items()} if kind == "half" else answers


def seeds(name, source):
    """Some of the ten seeds for an answer of the bank, so that an exercise's answers meet all."""
    # A wrong answer is often half right as well, and its text then stands there twice.
    sources = list(dict.fromkeys(text for kind in KINDS for text in texts(name, kind).values()))
    # Judging that builds networks is slow. A few answers share the ten among them.
    number = max(1 if BANK[name].slow else 3, -(-len(SEEDS) // len(sources)))
    first = number * sources.index(source)
    return [SEEDS[(first + step) % len(SEEDS)] for step in range(number)]


@pytest.fixture
def seeds_of(request):
    """The seeds that an answer of the bank meets: all ten with `--every-seed`."""
    return (lambda *_: SEEDS) if request.config.getoption("--every-seed") else seeds


def messages(points):
    return "\n".join(part.message for part in points.parts if part.message)


def each(kind):
    """Parametrise over all answers of a kind in the bank."""
    pairs = [(name, key) for name in all_exercises() for key in getattr(BANK.get(name), kind, ())]
    return pytest.mark.parametrize(
        ("name", "key"), pairs, ids=[f"{name}-{key}".replace(" ", "_") for name, key in pairs]
    )


every = pytest.mark.parametrize("name", all_exercises())


@every
def test_bank_is_large_enough(name):
    exercise = all_exercises()[name]
    assert name in BANK, f"add right and wrong answers to {name!r} in tests/answers"
    answers = BANK[name]
    assert len(answers.wrong) >= 3
    assert answers.right
    parts = judged(name, solved(cells(exercise)[0])).parts
    assert answers.half or len(parts) == 1


@every
def test_answers_share_all_seeds(name):
    met = [seeds(name, text) for kind in KINDS for text in texts(name, kind).values()]
    assert {seed for some in met for seed in some} == set(SEEDS)


def test_rules_come_without_keras():
    """Every kernel that grades reads them all, and Keras takes seconds to import."""
    code = "import sys, utils.exercises as e; e.all_exercises(); print('keras' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_bank_names_exercises_only():
    assert set(BANK) <= set(all_exercises())


@every
def test_solution_earns_all(name):
    exercise = all_exercises()[name]
    source = solved(cells(exercise)[0])
    for seed in SEEDS:
        points = judged(name, source, seed)
        assert points == points.out_of == exercise.points, points.text
        assert not messages(points)


@every
def test_stub_is_not_attempted(name):
    exercise = all_exercises()[name]
    points = judged(name, stub(cells(exercise)[0]))
    assert points == 0
    assert points.out_of == exercise.points
    assert messages(points).startswith("Not attempted")


@each("wrong")
def test_wrong_answer_reads_why(name, key, seeds_of):
    exercise, source = all_exercises()[name], BANK[name].wrong[key]
    for seed in seeds_of(name, source):
        points = judged(name, source, seed)
        assert points < exercise.points
        assert points.out_of == exercise.points
        assert [p for p in points.parts if key in p.message and p.earned == 0], points.text
        others = [other for other in BANK[name].wrong if other != key]
        assert not [other for other in others if other in messages(points)], points.text


@each("half")
def test_half_right_answer_earns_a_part(name, key, seeds_of):
    exercise = all_exercises()[name]
    expected, source = BANK[name].half[key]
    assert 0 < expected < exercise.points
    for seed in seeds_of(name, source):
        assert judged(name, source, seed) == expected


@each("right")
def test_right_answer_may_look_different(name, key, seeds_of):
    source = BANK[name].right[key]
    for seed in seeds_of(name, source):
        points = judged(name, source, seed)
        assert points == points.out_of, points.text


@pytest.mark.parametrize("kind", AUTOMATIC)
@every
def test_no_answer_earns_nothing(name, kind):
    exercise = all_exercises()[name]
    if kind == "endless loop":
        exercise = replace(exercise, seconds=0.1)
    module, _, twin = (exercise.twin or "utils.pointwise:PointwiseConv2D").partition(":")
    source, said = AUTOMATIC[kind]
    answer = answer_of(exercise, f"from {module} import {twin} as TWIN\n{source}", "answer")
    points = evaluate(exercise, answer, 0)
    assert points == 0
    assert points.out_of == exercise.points
    assert all(part.message for part in points.parts)
    assert said in messages(points)
