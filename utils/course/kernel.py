"""Runs learners' cells in Jupyter kernels, and goes on whatever a cell does.

A statement that fails costs itself only: what stands after it in its cell is run, as is what
stands in later cells. When a cell ends Python, a fresh kernel runs the others again.
"""

import contextlib
import json
import os
import queue
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import zmq
from jupyter_client.manager import KernelManager

from utils import _isolation
from utils.course.handed_in import Run, joined
from utils.course.settings import ROOT

# A notebook may run this many times as long as one of its cells.
_CELLS = 10
_START, _GRACE = 180.0, 5.0
# Of a message from a kernel, which the learner's code may have written: bytes, and values in it.
_LARGEST, _MANY = 64 * 2**20, 2_000_000
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WHERE = re.compile(r" \([^()]*, line \d+\)$")
_WITHOUT_NETWORK = {
    # What a learner's `!pip install` would change is the environment of all others.
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


class NoKernel(Exception):
    """The kernel does not start: why, in a few words."""


class KernelGone(Exception):
    """The kernel's process ended, is about to, or sends what is no message."""


class _OutOfBudget(Exception):
    """The notebook has run for as long as it may."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in a cell.

    Args:
        cell: the code cell, counted from 1.
        problem: what happened, as the end of a sentence about the cell.
        names: the names that have no value because of it; None if that cannot be told.
        text: the text that failed.
    """

    cell: int
    problem: str
    names: frozenset[str] | None
    text: str

    def costs(self, name: str) -> bool:
        """Tell whether a name may have no value because of this."""
        if self.names is None:
            return bool(re.search(rf"\b{re.escape(name)}\b", self.text))
        return name in self.names or "*" in self.names


class Session:
    """Runs a notebook's cells in a kernel, and goes on in a fresh one when a cell ended it.

    The fresh one has an empty folder, too: cells that write files write them again, in their order.

    Args:
        setup: the text that makes the course known to the kernel.
        lessons: the folder in which that text is run.
        seconds: time limit of a cell. All together have ten times as long.
        seed: of Python's hashes.
    """

    def __init__(self, setup: str, lessons: Path, seconds: float, seed: int = 0):
        self.setup, self.lessons, self.seconds, self.seed = setup, lessons, seconds, seed
        self.deadline = time.monotonic() + _CELLS * seconds
        self.done: list[str] = []
        self.failures: list[Failure] = []
        self.bound: dict[int, set[str]] = {}
        self.kernel: Kernel | None = None

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._close()

    def run(self, run: Run):
        """Run a text of the notebook; what goes wrong in it is added to `failures`."""
        bound = self.bound.setdefault(run.cell, set())
        text, waiting = run.text, run.statements
        while True:
            problem, line, keep = self.execute(text, keep=True)
            if not problem:
                bound.update(_names(waiting))
                return
            at = next((s for s in waiting or () if line and s.line <= line <= s.end), None)
            if not keep or waiting is None:
                names = _names(waiting) if waiting is not None else None
                self.failures.append(Failure(run.cell, problem, names, text))
                return
            if at is None:
                # Which statement it was is not known: those that may run twice are run alone.
                rest = tuple(s for s in waiting if s.harmless) if len(waiting) > 1 else ()
                lost = [s for s in waiting if s not in rest]
                if rest == waiting:
                    rest, lost = (), waiting
            else:
                place = waiting.index(at)
                bound.update(_names(waiting[:place]))
                rest, lost = waiting[place + 1 :], [at]
            self.failures.append(Failure(run.cell, problem, _names(lost), text))
            if not rest:
                return
            text, waiting = joined(rest), rest

    def execute(
        self, source: str, more: float = 0, keep: bool = False, wanted: str = ""
    ) -> tuple[str, int | None, bool]:
        """Run a text.

        Args:
            source: the text.
            more: seconds on top of the limit of a cell.
            keep: whether a fresh kernel, if one is needed, has to run it again.
            wanted: an expression whose value is to be kept in the kernel's `answer`.

        Returns:
            "" if it ended well, else what happened to it; the line that stopped it, if that is
            known; and whether the kernel is as it was but for that.
        """
        try:
            while self.kernel is None:
                self._start()
            problem, line, repeatable = self._run(source, more, wanted)
        except _OutOfBudget:
            limit = f"{_CELLS * self.seconds:g} s"
            return f"was not run: the cells above took all of the {limit}.", None, False
        if keep and repeatable:
            self.done.append(source)
        return problem, line, repeatable

    def answer(self, expression: str, more: float) -> tuple[str, str]:
        """Let the kernel compute a text; return what happened, "" if it ended well, and the text.

        Args:
            expression: gives an object whose `repr` is the text.
            more: seconds on top of the limit of a cell.
        """
        problem, _, _ = self.execute(f"_answer = {expression}", more, wanted="_answer")
        return problem, "" if problem else self.kernel.answer

    def _start(self):
        self._left()
        begin = time.monotonic()
        self.kernel = Kernel(self.setup, self.lessons, self.seed)
        # How long that takes on a busy machine is not the cells' doing.
        self.deadline += time.monotonic() - begin
        for source in list(self.done):
            _, _, repeatable = self._run(source)
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

    def _run(self, source, more=0.0, wanted=""):
        limit = min(self.seconds + more, self._left())
        try:
            error, line = self.kernel.run(source, limit, wanted)
        except KernelGone:
            self._close()
            return "ended Python itself: was that an exit, or a crash?", None, False
        except TimeoutError:
            if not self.kernel.interrupt():
                self._close()
            return f"was stopped after {round(limit, 1):g} s: does a loop never end?", None, False
        return error and f"stopped with {error}.", line, True

    def _close(self):
        if self.kernel is not None:
            self.kernel.close()
            self.kernel = None


def _names(statements):
    return frozenset().union(*(statement.binds for statement in statements or ()))


class Kernel:
    """A fresh Jupyter kernel of this environment in an empty folder, with the course in its path.

    Args:
        setup: the text that makes the course known to it.
        lessons: the folder in which that text is run.
        seed: of Python's hashes.

    Raises:
        NoKernel: it does not start.
    """

    def __init__(self, setup: str, lessons: Path, seed: int):
        _isolation.isolate()
        # The cells may leave anything there; what cannot be removed is left behind.
        self.top = tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True)
        folder, home = Path(self.top.name, "notebook"), Path(self.top.name, "ipython")
        folder.mkdir()
        home.mkdir()
        # Encrypted: otherwise every kernel warns in the terminal that others could read along.
        self.manager = KernelManager(kernel_name="python3", transport_encryption="auto")
        # Like every kernel's, its process leads a group of its own: signals stay in there.
        self.manager.start_kernel(
            cwd=str(lessons),
            # The user's own start-up files and history are none of the learner's business.
            env=os.environ
            | _WITHOUT_NETWORK
            | {
                "IPYTHONDIR": str(home),
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                "PYTHONHASHSEED": str(seed),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAXMSGSIZE, _LARGEST)
        self.client = self.manager.blocking_client()
        self.client.context = self.context
        self.client.session.unpack = unpacked
        # Outputs are not graded: without this channel a cell may print as much as it likes.
        self.client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        course = f"__import__('sys').path.insert(0, {str(ROOT)!r})"
        os_ = "__import__('os')"
        there = f"{os_}.chdir({str(folder)!r}); {os_}.environ.update(KERAS_HOME={str(home)!r})"
        for source in (course, "import utils.course.grade", setup, there):
            try:
                problem, _ = self.run(source, _START)
            except (KernelGone, TimeoutError):
                problem = "it ended, or does not answer"
            if problem:
                self.close()
                raise NoKernel(problem)

    def run(self, source: str, seconds: float, wanted: str = "") -> tuple[str, int | None]:
        """Run a cell; return "" if it ended well, else the error, and the line that stopped it.

        Raises:
            TimeoutError: if it has not ended after `seconds`.
            KernelGone: if it will not end, or if no other cell can run after it.
        """
        self.asked = self.client.execute(
            source,
            silent=bool(wanted),
            user_expressions={"answer": wanted} if wanted else {},
            allow_stdin=False,
            stop_on_error=False,
        )
        return self._reply(seconds)

    def interrupt(self) -> bool:
        """Interrupt the cell that runs, and tell whether the kernel is ready for another one."""
        self.manager.interrupt_kernel()
        try:
            self._reply(_GRACE)
        except (KernelGone, TimeoutError):
            return False
        return True

    def _reply(self, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                left = max(0.0, end - time.monotonic())
                reply = self.client.get_shell_msg(timeout=min(0.2, left))
                if reply["parent_header"].get("msg_id") == self.asked:
                    self.answer = _text(reply["content"])
                    return _problem(reply["content"])
            except queue.Empty:
                if not self.manager.is_alive():
                    raise KernelGone from None
            except Exception as error:  # the learner's code can send garbage over the socket
                raise KernelGone from error
            if time.monotonic() >= end:
                raise TimeoutError

    def close(self):
        """End the kernel's process and those that it started."""
        self.client.stop_channels()
        # The learner's code may have removed or replaced the files that belong to a kernel.
        with contextlib.suppress(OSError):
            self.manager.shutdown_kernel(now=True)
        self.context.destroy(linger=0)
        with contextlib.suppress(OSError):
            self.top.cleanup()


def unpacked(content: bytes):
    """Read a part of a message, which may be forged to need a hundred times its own size.

    Raises:
        ValueError: it is too large, or no JSON.

    >>> unpacked(b'{"status": "ok"}')
    {'status': 'ok'}
    """
    content = bytes(content)
    if len(content) > _LARGEST or sum(map(content.count, (b"[", b"{", b","))) > _MANY:
        raise ValueError("a message that is too large")
    return json.loads(content.decode("utf-8", "replace"))


def _text(reply):
    """Return the text that was asked for, "" if there is none."""
    answer = reply.get("user_expressions", {}).get("answer", {})
    text = answer.get("data", {}).get("text/plain", "")
    return text if isinstance(text, str) else ""


def _problem(reply):
    """Put a reply into words: type and message of the error, and where; "" if there was none."""
    if any(part["source"] == "ask_exit" for part in reply.get("payload", ())):
        raise KernelGone
    if reply["status"] == "ok":
        return "", None
    text = line_of(_WHERE.sub("", reply["evalue"]))
    trace = _ANSI.sub("", "\n".join(reply["traceback"]))
    lines = re.findall(rf"Cell In\[{reply['execution_count']}\], line (\d+)", trace)
    where = f" (line {lines[-1]})" if lines else ""
    return f"{reply['ename']}: {text}".removesuffix(": ") + where, int(lines[0]) if lines else None


def line_of(text: str) -> str:
    r"""Put a text that a learner may have written into one harmless line.

    >>> line_of("two\nlines \x1b[31m")
    'two lines [31m'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:5000]).split())
    return text if len(text) <= 500 else text[:500] + " …"
