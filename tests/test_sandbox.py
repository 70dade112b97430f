"""A learner's code can neither hang, nor crash, nor drown the feedback."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import keras
import numpy as np
import pytest

from utils.course import sandbox
from utils.course.sandbox import Sandbox, describe


def plainly():
    while True:
        pass


def swallows_everything():
    while True:
        try:
            time.sleep(60)
        except:  # noqa: E722
            continue


def suppresses_everything():
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def tidies_up():
    try:
        while True:
            sum(range(100))
    finally:
        time.sleep(0.05)


def computes():
    square = np.ones((50, 50))
    while True:
        try:
            square = square @ square * 0
        except BaseException:
            continue


def prints():
    while True:
        print("x" * 1000)


def recurses():
    with contextlib.suppress(BaseException):
        time.sleep(60)
    return recurses()


LOOPS = [
    plainly,
    swallows_everything,
    suppresses_everything,
    tidies_up,
    computes,
    prints,
    recurses,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_endless_loop_is_stopped(loop):
    box = Sandbox(0.2)
    seen = box.run(loop)  # returns, which the loop never would
    problem = "no answer after 0.2 s, so the call was stopped: is there a loop that never ends?"
    assert seen == {"error": problem}
    assert len(box.printed) <= 2000
    assert box.exhausted
    assert box.run(int) == {"error": "not tried, because an earlier call ran out of time"}


def test_time_limit_leaves_no_trace():
    handler, tracer = signal.getsignal(signal.SIGALRM), sys.gettrace()
    for loop in (suppresses_everything, swallows_everything, plainly):
        assert Sandbox(0.1).run(loop)["error"]
    assert sys.exc_info() == (None, None, None)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert sys.gettrace() is tracer
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    # Whatever was about to be raised would be raised here.
    time.sleep(0.1)


def test_each_call_has_the_whole_time(monkeypatch):
    limits = []

    def setitimer(kind, seconds, *again):
        limits.append(seconds)
        return timer(kind, seconds, *again)

    timer = signal.setitimer
    monkeypatch.setattr(signal, "setitimer", setitimer)
    box = Sandbox(60)
    for _ in range(3):
        assert box.run(lambda: time.sleep(0.01)) == {"value": None}
    assert limits == 3 * [60, 0]


def test_call_in_a_thread_works_without_a_limit():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(Sandbox().call(lambda: 3)))
    thread.start()
    thread.join()
    assert seen == [{"value": 3}]


class Unfinished(Exception):
    def __str__(self):
        return self.message


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("bad value"), "ValueError: bad value"),
        (ValueError("one\n\n two\nthree"), "ValueError: one two"),
        (ValueError(), "ValueError"),
        (SystemExit(2), "SystemExit: 2"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration("end"), "StopIteration: end"),
        (RecursionError("deep"), "RecursionError: deep"),
        (Unfinished(), "Unfinished"),
        (ValueError(400 * "x"), "ValueError: " + 300 * "x" + " …"),
    ],
)
def test_errors_become_sentences(error, sentence):
    def fail():
        raise error

    assert Sandbox().run(fail) == {"error": sentence}
    assert describe(error) == sentence


def call_layer(inside, x):
    """What a learner reads whose layer does `inside` to `x`."""

    class Mine(keras.layers.Layer):
        def call(self, x):
            return inside(x)

    return Sandbox().run(lambda: Mine()(x))["error"]


@pytest.mark.parametrize(
    ("inside", "cause"),
    [
        (lambda x: x + missing, "NameError: name 'missing' is not defined"),  # noqa: F821
        (lambda x: x[..., :2] + x, "Incompatible shapes: [2,4,4,2] vs. [2,4,4,3]"),
        (lambda x: keras.ops.reshape(x, (7,)), "a tensor with 96 values, but the requested"),
        (lambda x: x @ x[..., 0], "InvalidArgumentError: "),
    ],
)
def test_error_inside_a_layer_says_its_cause(inside, cause):
    wrapping = "\x1b", "Exception encountered", "Arguments received", "function_node", "[Op:"
    said = call_layer(inside, np.zeros((2, 4, 4, 3), "float32"))
    assert cause in said
    assert not [text for text in wrapping if text in said]
    assert "\n" not in said


@pytest.mark.parametrize(
    ("inside", "cause"),
    [
        (lambda x: x + missing, "NameError: name 'missing' is not defined"),  # noqa: F821
        (lambda x: x[..., :2] + x, "ValueError: Dimensions must be equal, but are 2 and 3"),
    ],
)
def test_error_while_a_model_is_assembled_says_its_cause(inside, cause):
    said = call_layer(inside, keras.Input((4, 4, 3)))
    assert said.startswith(cause)
    assert "{{" not in said and "automatically infer" not in said


def test_wrapping_is_kept_where_nothing_else_is_said():
    only = "Exception encountered when calling Mine.call()."
    assert describe(ValueError(only)) == f"ValueError: {only}"


def test_interrupt_gets_through():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sandbox().run(interrupt)


def test_what_is_returned_becomes_plain_within_the_limits():
    class Hostile:
        def __array__(self, dtype=None, copy=None):
            print("array")
            while True:
                pass

    box = Sandbox(0.2)
    assert "a loop that never ends" in box.call(Hostile)["error"]
    assert box.printed == "array\n"


def test_whatever_is_printed_is_kept_apart(capfd):
    logger = logging.getLogger("learner")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)

    def noisy():
        print("on stdout")
        print("on stderr", file=sys.stderr)
        warnings.warn("a warning", stacklevel=1)
        logger.warning("a log line")
        os.write(2, b"from C\n")
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('child')"], check=True)
        return 1

    box = Sandbox()
    assert box.call(noisy) == {"value": 1}
    assert box.printed == "on stdout\non stderr\nfrom C\nchild"
    assert capfd.readouterr() == ("", "")
    # Afterwards, everything is where it was.
    logger.warning("still heard")
    logger.removeHandler(handler)
    os.write(2, b"and this\n")
    assert capfd.readouterr().err.splitlines() == ["still heard", "and this"]
    assert logging.root.manager.disable == 0


def test_prints_of_several_calls_add_up_to_a_limit():
    box = Sandbox()
    for letter in "ab":
        box.run(print, 1500 * letter)
    assert box.printed == 1500 * "a" + "\n" + 499 * "b"


def test_a_message_as_long_as_the_data_is_shortened_before_it_is_searched(monkeypatch):
    searched = []

    class Counts:
        def sub(self, new, text):
            searched.append(len(text))
            return text

    monkeypatch.setattr(sandbox, "_WRAPPING", Counts())
    assert describe(ValueError("x" * 10**7)) == f"ValueError: {300 * 'x'} …"
    assert searched == [20_000]
