"""Runs a learner's code so that it can neither hang, nor crash, nor drown the feedback."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import warnings
from typing import Any

from utils.course.plain import LARGEST, TooLarge, plain, size

SECONDS = 10.0
_PRINTED = 2000
# Of an exception's message, which may be as long as the data that it prints.
_MESSAGE = 20_000
# What Keras and TensorFlow put before, after and into the message of an exception.
_WRAPPING = re.compile(
    r"\x1b\[[0-9;]*m"  # bold and colours of a terminal
    r"|^Exception encountered when calling .*$"
    r"|Could not automatically infer the output shape .*Error encountered:$"
    r"|^Arguments received by [\s\S]*\Z"
    r"|\{\{function_node [^}]*\}\} ?"
    r"| for '\{\{node [^}]*\}\}[^']*'"
    r"| \[Op:\w+\](?: name: ?\S*)?",
    re.MULTILINE,
)


class OutOfTime(BaseException):
    """Raised inside code that runs too long. Not an Exception, so `except Exception` lets it by."""


class _Printed(io.StringIO):
    """Keeps the first characters only: a loop that prints must not fill the memory."""

    def write(self, text):
        super().write(text[: max(0, _PRINTED - self.tell())])
        return len(text)


class Sandbox:
    """Calls a learner's code under a time limit and collects what it prints.

    Args:
        seconds: time limit of one call. After the first call that exceeds it, later calls
            are not made.

    >>> box = Sandbox()
    >>> box.call(lambda x: 2 * x, 4)
    {'value': 8}
    >>> box.call(lambda: 1 / 0)
    {'error': 'ZeroDivisionError: division by zero'}
    """

    def __init__(self, seconds: float = SECONDS):
        self.seconds = seconds
        self.exhausted = False
        self.printed = ""
        self.returned = 0

    def call(self, function, *args, **kwargs) -> dict[str, Any]:
        """Call `function` and return `{"value": plain data}` or `{"error": one sentence}`."""

        def value():
            # What is returned may run code of its own when it is turned into plain data.
            data = plain(function(*args, **kwargs))
            self.returned += size(data)
            if self.returned > LARGEST:
                raise TooLarge(self.returned)
            return data

        return self.run(value)

    def run(self, function, *args, **kwargs) -> dict[str, Any]:
        """Like `call`, but the value stays the object that `function` returned."""
        if self.exhausted:
            return {"error": "not tried, because an earlier call ran out of time"}
        out = _Printed()
        try:
            with (
                contextlib.redirect_stdout(out),
                _stderr_to(out),
                warnings.catch_warnings(),
                _without_logging(),
                _time_limit(self.seconds),
            ):
                warnings.simplefilter("ignore")
                return {"value": next(_limited(function, args, kwargs))}
        except OutOfTime:
            self.exhausted = True
            return {
                "error": f"no answer after {self.seconds:g} s, so the call was stopped: "
                "is there a loop that never ends?"
            }
        except KeyboardInterrupt:
            raise
        except TooLarge as error:
            return {"error": str(error)}
        except BaseException as error:
            # A generator, which `_limited` is, must not end in a StopIteration of the learner's.
            ended = isinstance(error.__cause__, StopIteration)
            return {"error": describe(error.__cause__ if ended else error)}
        finally:
            self.printed = (self.printed + out.getvalue())[:_PRINTED]


def describe(error: BaseException) -> str:
    r"""Put an exception into one line: its type and its cause, without what Keras puts around it.

    >>> describe(KeyError("x"))
    "KeyError: 'x'"
    >>> describe(ValueError("Exception encountered when calling Mine.call().\n\n\x1b[1mbad\x1b[0m"))
    'ValueError: bad'
    """
    try:
        message = str(error)[:_MESSAGE]
    except Exception:  # the learner's own class of exception may be unfinished
        message = ""
    # If nothing but wrapping is left, the wrapping is all there is to say.
    lines = _lines(_WRAPPING.sub("", message)) or _lines(message)
    text = " ".join(lines[:2])
    text = text if len(text) <= 300 else text[:300] + " …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


@contextlib.contextmanager
def _without_logging():
    # TensorFlow's logger holds on to the real stderr, which `redirect_stderr` does not reach.
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _limited(function, args, kwargs):
    # A generator has an exception state of its own: otherwise an `except` that is left by an
    # alarm would stay behind as the context of every later exception.
    yield function(*args, **kwargs)


def _inside(frame):
    while frame is not None and frame.f_code is not _limited.__code__:
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def _stderr_to(out):
    # C code and child processes write to the file descriptor, which `redirect_stderr` does not
    # reach; and nbgrader gives nothing to a cell with a line on stderr.
    descriptor = os.dup(2)
    with tempfile.TemporaryFile() as scratch, contextlib.redirect_stderr(out):
        os.dup2(scratch.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(descriptor, 2)
            os.close(descriptor)
            scratch.seek(0)
            out.write(scratch.read(_PRINTED).decode(errors="replace"))


@contextlib.contextmanager
def _time_limit(seconds):
    # Only the main thread of a POSIX process gets signals; notebooks and tests run there.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum, frame):
        # Only inside the learner's call: an alarm after it must not hit the code that ends it.
        if not _inside(frame):
            return
        # A bare `except:` around this line would go on, so the line that follows is stopped, too.
        while frame.f_code is not _limited.__code__:
            frame.f_trace = stop_line
            frame = frame.f_back
        sys.settrace(stop_line)
        raise OutOfTime

    def stop_line(frame, event, argument):
        if event in ("line", "call") and _inside(frame):
            raise OutOfTime
        return stop_line

    tracer = sys.gettrace()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(tracer)
        signal.signal(signal.SIGALRM, before)
