"""`check` and `progress`: what a learner reads, and that `check` never raises."""

import functools
import html.parser
import json
import sys
import types

import keras
import numpy as np
import pytest

import utils.blocks
import utils.pointwise
from utils.cost import count
from utils.course import check, exercise, feedback, progress
from utils.course.exercise import Case, Exercise, Part, mismatch, names_used, part, refuse, same
from utils.course.feedback import Points, evaluate
from utils.exercises import find, of_lesson

TAGS = ("div", "span", "b", "br", "code", "details", "summary", "pre", "table", "tr", "td", "p")


class Checker(html.parser.HTMLParser):
    """Collects the text of an HTML form and sees that tags are known and closed."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.text, self.code = [], "", []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS
        assert {name for name, _ in attributes} <= {"style", "aria-hidden"}
        if tag != "br":
            self.open.append(tag)
            self.code += [""] if tag == "code" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "code" in self.open:
            self.code[-1] += data


def right_macs(height, width, kernel, channels, filters, stride):
    return -(-height // stride) * -(-width // stride) * kernel**2 * channels * filters


def half_macs(height, width, kernel, channels, filters, stride):
    print("<b>half", height)
    return height * width * kernel**2 * channels * filters


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(feedback, "_latest", {})


# check ------------------------------------------------------------------------------------------


def test_points_are_a_number_with_feedback(capsys):
    points = check("conv_macs", half_macs)
    assert points == 1.0
    assert repr(points) == str(points) == "1.0"
    assert json.dumps([points]) == "[1.0]"
    assert sum([points, points]) == 2.0
    assert capsys.readouterr().out == points.text + "\n"
    lines = points.text.splitlines()
    assert lines[:3] == ["1 of 2 points", "  ✓ stride 1 (1/1)", "  ✗ strides 2 and 3 (0/1)"]
    end = lines.index("  Your code printed:")
    message = " ".join(line.strip() for line in lines[3:end])
    assert message == points.parts[1].message
    assert message.endswith("the filter stops at every s-th position: count outputs.")
    assert lines[end + 1].startswith("      <b>half ")


def test_html_says_the_same():
    points = evaluate(find("conv_macs"), half_macs, 0)
    form = Checker(points._repr_html_())
    assert "1 of 2 points" in form.text
    for part_ in points.parts:
        assert part_.name in form.text
        assert part_.message in form.text
    assert "<b>half " in form.text  # escaped, hence text
    assert "#c98a1b" in points._repr_html_()


def test_only_the_bar_has_a_colour_of_its_own():
    """Text and ground are the theme's, so that they are readable on light and on dark."""
    for answer in (right_macs, half_macs, ...):
        markup = evaluate(find("conv_macs"), answer, 0)._repr_html_()
        assert markup.count("#") == 1
        assert "border-left:4px solid #" in markup
        assert "background" not in markup


def test_backticks_become_code_and_nothing_else_becomes_markup():
    points = Points([Part("a `b`", 1, 0, "use `x < y` & `<i>`, then ` alone")])
    form = Checker(points._repr_html_())
    assert form.code == ["b", "x < y", "<i>"]
    assert form.text.endswith("use x < y & <i>, then ` alone")


def test_full_marks_say_nothing_more(capsys):
    points = check("conv_macs", right_macs)
    assert points == points.out_of == 2
    assert points.text == "2 of 2 points\n  ✓ stride 1 (1/1)\n  ✓ strides 2 and 3 (1/1)"


def test_long_prints_are_not_cut_off_in_silence():
    lines = Points([], printed="\n".join(map(str, range(12)))).text.splitlines()
    assert lines[-2:] == ["      9", "      … and 2 lines more"]


def test_sums_are_rounded():
    points = Points([Part(str(i), 0.1, 0.1) for i in range(3)])
    assert points == points.out_of == 0.3
    assert points.text.startswith("0.3 of 0.3 points")


def test_partial_credit_has_a_mark_of_its_own():
    assert "◐ a (0.5/1)" in Points([Part("a", 1, 0.5, "half")]).text


def test_notebook_gets_no_text_beside_the_html(monkeypatch, capsys):
    monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace(kernel=1))
    assert check("conv_macs", right_macs) == 2
    assert capsys.readouterr() == ("", "")


class Hostile:
    """Raises wherever it is touched."""

    def __getattr__(self, name):
        raise ValueError(name)

    def __call__(self, *args):
        raise MemoryError

    def __repr__(self):
        raise ValueError

    def __eq__(self, other):
        raise ValueError

    __hash__ = None


class HostileError(Exception):
    def __str__(self):
        raise RuntimeError


def raises_hostile(*args):
    raise HostileError


def returns_hostile(*args):
    return Hostile()


def returns_itself(*args):
    values = []
    values.append(values)
    return values


# Made when they are used, because pytest looks into what it parametrises.
ODD = {
    "hostile object": Hostile,
    "hostile class": lambda: Hostile,
    "hostile error": lambda: raises_hostile,
    "hostile value": lambda: returns_hostile,
    "list in itself": lambda: returns_itself,
    "module": lambda: keras,
    "built-in": lambda: sys.exit,
    "type": lambda: type,
    "layer": lambda: keras.layers.Dense(2),
    "array": lambda: np.ones(3),
    "dictionary": lambda: {"a": 1},
    "points": lambda: Points([]),
    "arrays of nan": lambda: lambda *a: np.full((2, 2), np.nan),
    "ragged list": lambda: lambda *a: [[1, 2], [3]],
    "huge number": lambda: lambda *a: 10**400,
    "generator": lambda: lambda *a: (x for x in a),
    "symbolic tensor": lambda: lambda *a: keras.Input((3,)),
    "layer, not its output": lambda: lambda *a: keras.layers.Dense(2),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["conv_macs", "scale_layer", "first_layer"])
def test_check_never_raises(name, kind, capsys):
    points = check(name, ODD[kind]())
    assert points == 0
    assert points.out_of == 2
    assert all(part.message for part in points.parts)
    assert capsys.readouterr().out == points.text + "\n"
    Checker(points._repr_html_())


@pytest.mark.parametrize("name", ["conv", "", 3, None, ["conv_macs"], right_macs, Hostile])
def test_unknown_exercise_is_a_sentence(name):
    points = check(name() if name is Hostile else name, right_macs)
    assert points == points.out_of == 0
    assert "✗" in points.text
    assert "`check` takes an exercise's name and the answer." in points.parts[0].message
    Checker(points._repr_html_())
    assert progress().rows == []


def test_interrupting_the_kernel_still_works():
    def interrupt(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("conv_macs", interrupt)


def test_answer_that_spoils_its_inputs_does_not_become_right():
    def judge(inputs, seen):
        return [part("doubled", 1, [Case("answer(x)", seen, 2 * inputs)])]

    def probe(box, answer, inputs):
        return box.call(answer, inputs)

    def spoil(x):
        x[:] = 0
        return x

    double = Exercise("double", "00", 1, lambda rng: rng.normal(size=3), probe, judge)
    assert evaluate(double, spoil) == 0
    assert evaluate(double, lambda x: x + x) == 1


def test_inputs_are_fresh_at_every_run():
    def seen(height, *others):
        heights.append(height)
        return 0

    heights = []
    for _ in range(5):
        check("conv_macs", seen)
    assert len(set(heights)) > 5


# progress ---------------------------------------------------------------------------------------


def test_progress_before_any_check():
    assert repr(progress()) == "No exercise was checked yet: run the cells above first."
    Checker(progress()._repr_html_())


def test_progress_adds_up(capsys):
    check("conv_macs", right_macs)
    check("conv_macs", half_macs)
    check("conv_params", lambda k, c, f, bias: k * k * c * f + f * bias)
    shown = progress()
    assert shown.total == (2.0, 10.0)
    lines = repr(shown).splitlines()
    names = [exercise.id for exercise in of_lesson("00_start_here")]
    assert [line.split()[0] for line in lines] == [*names, "Total"]
    assert lines[names.index("conv_macs")].split() == ["conv_macs", "1", "of", "2"]
    assert lines[names.index("scale_layer")].endswith("0 of 2  not run yet")
    assert lines[-1].split() == ["Total", "2", "of", "10"]
    form = Checker(shown._repr_html_())
    assert form.code == names
    assert "2 of 10" in form.text
    assert "■■■■■□□□□□" in form.text


# what an answer may be ----------------------------------------------------------------------------

CONV_MACS = find("conv_macs")


def in_notebook(source):
    """Run a cell as a notebook does; return what it calls `answer`."""
    space = {
        "__name__": "__main__",
        "count": count,
        "keras": keras,
        "utils": utils,
        "functools": functools,
        "Twin": utils.pointwise.PointwiseConv2D,
    }
    exec(source, space)
    return space["answer"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def answer(x): return count(x)", "count"),
        ("def answer(x):\n    def inner(): return count(x)\n    return inner()", "count"),
        ("def answer(x): return utils.pointwise.PointwiseConv2D(x)", "utils"),
        ("def answer(x):\n    from utils.pointwise import NiN\n    return NiN(x)", "pointwise"),
        ("def answer(x):\n    import utils.pointwise as p\n    return p.NiN(x)", "pointwise"),
        ("mine = Twin\ndef answer(x): return mine(x)", "mine"),
        ("def helper(x): return Twin(x)\ndef answer(x): return helper(x)", "Twin"),
        ("class answer:\n    def __call__(self, x): return Twin(x)", "Twin"),
        ("class answer:\n    inner = Twin", "inner"),
        ("class answer:\n    @staticmethod\n    def f(x): return Twin(x)", "Twin"),
        ("class A:\n    def __call__(self, x): return Twin(x)\nanswer = A()", "Twin"),
        ("class A:\n    def f(self, x): return Twin(x)\nanswer = A().f", "Twin"),
        ("def f(x): return Twin(x)\nanswer = functools.partial(functools.partial(f), 2)", "Twin"),
        ("@functools.cache\ndef answer(x): return Twin(x)", "Twin"),
        ("def answer(x):\n    class A(Twin): pass\n    return A(x)", "Twin"),
        ("class B(Twin): pass\ndef answer(x): return B(x)", "B"),
        ("def answer(x, *, inner=Twin): return inner(x)", "PointwiseConv2D"),
    ],
)
def test_course_code_is_recognised(source, name):
    said = refuse(CONV_MACS, in_notebook(source))
    assert said == f"Your code uses the course's own `{name}`; write this part yourself."


@pytest.mark.parametrize(
    "source",
    [
        "def answer(x): return x.count(1)",  # an attribute, not the course's `count`
        "def answer(x): return keras.utils.set_random_seed(x)",  # Keras has a `utils`, too
        "def answer(x, count=3): return count + x",
        "def answer(x):\n    count = 3\n    return count + x",
        "class answer(keras.layers.Layer):\n    def call(self, x): return super().call(x)",
        "def answer(x): return answer(x - 1) if x else 0",
        "answer = 7",
        "answer = [1, 2]",
        "answer = max",
    ],
)
def test_own_code_is_not_refused(source):
    assert refuse(CONV_MACS, in_notebook(source)) == ""


@pytest.mark.parametrize(
    "source",
    [
        "answer = None",
        "answer = ...",
        "def answer(): ...",
        "def answer(x, y=2):\n    '''What to do.'''\n    ...",
        "def answer(x):\n    # what to do\n    ...\n\n    ...",
        "class answer:\n    '''What.'''\n    def a(self): ...\n    def b(self): ...",
    ],
)
def test_stub_is_not_attempted(source):
    said = refuse(CONV_MACS, in_notebook(source))
    assert said == "Not attempted yet: replace the `...` and run both cells again."


@pytest.mark.parametrize(
    "source",
    [
        "def answer(): return ...",
        "def answer(x): return x",
        "def answer(): return 0",
        "class answer:\n    def a(self): ...\n    def b(self): return 1",
        "class answer: pass",
    ],
)
def test_an_attempt_is_one(source):
    assert refuse(CONV_MACS, in_notebook(source)) == ""


def test_given_methods_are_no_attempt():
    source = "class answer:\n    def given(self): return 1\n    def b(self): ..."
    assert exercise.untouched(in_notebook(source), given=("given",))
    assert not exercise.untouched(in_notebook(source))


def test_names_used_reach_into_helpers():
    source = "def helper(x): return x.real\ndef answer(x):\n    import math\n    return helper(x)"
    assert names_used(in_notebook(source)) == ({"helper", "math", "real"}, set())


# the rules --------------------------------------------------------------------------------------


def rules(probe, **options):
    """An exercise that gives its point if what the probe saw is 6."""

    def judge(inputs, seen):
        return [part("six", 1, [Case("answer()", seen, 6)])]

    return Exercise("six", "00", 1, lambda rng: 6, probe, judge, **options)


def probe(box, answer, inputs):
    return box.call(answer)


LAYERS = """
import numpy as np
x = np.ones((1, 4, 4, 2), "float32")
def answer():
    {}
    return 6
"""


@pytest.mark.parametrize(
    ("line", "options", "said"),
    [
        ("keras.layers.ReLU()(x)", {}, ""),
        ("keras.layers.ReLU()(x)", {"forbids": ("ReLU",)}, "without ReLU."),
        ("getattr(keras.layers, 'Re' + 'LU')()(x)", {"forbids": ("ReLU",)}, "without ReLU."),
        ("globals()['Tw' + 'in'](2)(x)", {}, "the course's own `PointwiseConv2D`"),
        ("Twin(2)(x)", {"allows": ("Twin", "PointwiseConv2D")}, ""),
        ("utils.pointwise.PointwiseConv2D(2)(x)", {"allows": ("utils", "pointwise")}, ""),
        # What a layer of the course calls inside is not the learner's.
        ("utils.blocks.ConvBlock(2)(x)", {"allows": ("utils",), "forbids": ("Conv2D",)}, "own"),
        (
            "utils.blocks.ConvBlock(2)(x)",
            {"allows": ("utils", "blocks"), "forbids": ("Conv2D",)},
            "",
        ),
    ],
)
def test_layers_are_seen_when_they_are_called(line, options, said):
    points = evaluate(rules(probe, **options), in_notebook(LAYERS.format(line)))
    assert points == (0 if said else 1), points.text
    assert said in " ".join(part.message for part in points.parts)
    assert keras.layers.Layer.__call__.__qualname__ == "Layer.__call__"


def test_probe_that_fails_is_a_sentence():
    def broken(box, answer, inputs):
        raise HostileError

    points = evaluate(rules(broken), lambda: 6)
    assert points.parts == [Part("answer", 1, 0, "Your answer could not be run (HostileError).")]


def test_judge_that_fails_is_a_sentence():
    def judge(inputs, seen):
        raise ZeroDivisionError

    points = evaluate(Exercise("x", "00", 1, lambda rng: 1, probe, judge), lambda: 6)
    assert "cannot be compared with a right one (ZeroDivisionError)" in points.parts[0].message


def test_rules_must_add_up():
    def judge(inputs, seen):
        return [Part("a", 0.5, 0.5)]

    with pytest.raises(ValueError, match="do not add up to 1 points"):
        evaluate(Exercise("x", "00", 1, lambda rng: 1, probe, judge), lambda: 6)
    with pytest.raises(ValueError, match="earned=2: expected 0 to 1 in 'a'"):
        Part("a", 1, 2)
    with pytest.raises(ValueError, match="part 'a' withholds points and says nothing"):
        Part("a", 1, 0)


ARRAY = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("value", "expected", "message"),
    [
        (4.0, 4, ""),
        (np.array([4]), 4, ""),
        (4.1, 4, "f() returned 4.1; expected 4."),
        (True, 1, "f() returned True; expected 1."),
        ("4", 4, "f() returned the text '4'; return the number itself."),
        (40, 4, "f() returned 40; expected 4: yours is 10 times too large."),
        (0.02, 0.5, "f() returned 0.02; expected 0.5: yours is 25 times too small."),
        (6, 4, "f() returned 6; expected 4."),
        (None, 4, "f() returned nothing: does every path end in `return`?"),
        (5, 4, "f(): five."),
        (0.3, 0.1 + 0.2, ""),
        (float("nan"), 0.3, "f() returned nan; expected 0.3."),
        ([1, 2], (1, 2), ""),
        (np.array([1, 2]), (1, 2), ""),
        ((1, 2, 3), (1, 2), "f() returned (1, 2, 3); expected (1, 2)."),
        (ARRAY + 1e-6, ARRAY, ""),
        (ARRAY + 1, ARRAY, "f(): the shape is right, the values are off by up to 1."),
        (ARRAY * np.nan, ARRAY, "f(): the shape is right, the values are not a number in places."),
        (ARRAY.T, ARRAY, "f(): expected shape (2, 3), got (3, 2)."),
        (
            ARRAY.tolist(),
            ARRAY,
            "f() returned [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]; expected an array of shape (2, 3).",
        ),
        (
            {"type": "Dense"},
            ARRAY,
            "f() returned an object of type Dense; expected an array of shape (2, 3).",
        ),
        (ARRAY, 4, "f() returned an array of shape (2, 3); expected 4."),
    ],
)
def test_mismatch_teaches(value, expected, message):
    case = Case("f()", {"value": value}, expected, ((5, "five."),))
    assert mismatch(case) == message
    assert same(value, expected) == (message == "")


def test_error_is_passed_on():
    assert mismatch(Case("f()", {"error": "ValueError: x"}, 1)) == "f() stopped with ValueError: x"
