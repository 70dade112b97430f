"""Settings of every pytest run, so that `pytest --nbval` alone tests the whole course.

What is collected below the course's folder, how it is distributed, what is prepared before, and
what is said about it. `pyproject.toml` has the options.
"""

import importlib.util
import os
import subprocess
import sys
import typing
import warnings
from collections import Counter
from pathlib import Path

import pytest

from tests.untouched import is_lesson, is_touched, untouched
from utils import _isolation, _prepared

# Before a test imports Keras or starts a kernel.
_isolation.isolate()

ROOT = Path(__file__).parent
# Where tests, docstring examples and notebooks are; the rest of the folder is passed over.
FOLDERS = ("data", "lessons", "solutions", "tests", "utils")
# What `import` calls the packages of requirements-dev.txt that tests use. (pytest-xdist, which is
# the other one, none needs.)
DEVELOPMENT = ("distributed", "jupytext", "nbgrader", "ruff")
MISSING = {name for name in DEVELOPMENT if importlib.util.find_spec(name) is None}
# What takes seconds to import: `--quick` leaves out the tests that do.
SLOW = {"distributed", "keras", "sklearn", "tensorflow"}
LEFT_OUT = "requirements-dev.txt is not installed"
PATIENCE = 60  # seconds
GIGABYTES = 4  # that a worker may need: its own tests or, in a kernel, the largest lesson
COST = "The whole suite takes 20 to 70 processor minutes: 10 to 35 minutes on two idle cores."


def pytest_addoption(parser):
    """Add what `make answers` and `make quick` ask for."""
    parser.addoption(
        "--every-seed",
        action="store_true",
        help="judge every answer in tests/answers with all ten seeds",
    )
    parser.addoption(
        "--quick",
        action="store_true",
        help="leave out what imports Keras or starts a kernel or another Python",
    )


def pytest_configure(config):
    """Distribute by file, and compare notebooks but for picture data."""
    option = config.option
    # nbval takes a relative path from the current directory, wherever that is.
    option.nbval_sanitize_with = str(ROOT / "tests" / "nbval_sanitize.cfg")
    if getattr(option, "dist", "no") not in ("no", "each"):
        option.dist = "loadfile"  # the cells of a notebook share a kernel
        option.loadscopereorder = False  # `pytest_collection_modifyitems` knows better
    if option.quick:
        sys.meta_path.insert(0, _Quick)
        sys.addaudithook(_Quick.audit)
        # A test that ends in the middle leaves files open and folders behind: here for the tests,
        # and for the end of the session.
        config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
        warnings.simplefilter("ignore", ResourceWarning)


class _Quick:
    """Ends a test, or the collection of a file, when it begins what takes long."""

    running = False  # a test; pytest itself may start another Python
    reason = ""  # why the test that runs was ended; it may have caught what ended it
    ended: typing.ClassVar = {}  # functions whose first parameters were ended, and why

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in SLOW:
            _Quick.end(f"--quick: imports {name}")

    @staticmethod
    def audit(event, arguments):
        # `Popen` wants a name or a list; a kernel is a Python, too.
        if not _Quick.running or event != "subprocess.Popen":
            return
        if Path(os.fsdecode(arguments[0])).name.startswith("python"):
            _Quick.end("--quick: starts another Python")

    @staticmethod
    def end(reason):
        _Quick.reason = reason
        pytest.skip(reason, allow_module_level=True)


def pytest_runtest_setup(item):
    """With `--quick`, leave out the other parameters of a test that took too long with one."""
    _Quick.reason, _Quick.running = "", True
    reason = _Quick.ended.get(_function(item))
    if reason:
        pytest.skip(reason)


def pytest_runtest_teardown():
    """From here on nothing is ended."""
    _Quick.running = False


def _function(item):
    return item.path, getattr(item, "originalname", item.name)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers():
    """Let `-n auto` start no more workers than there are processors and memory for."""
    import psutil

    count = yield
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    return max(1, min(count, psutil.virtual_memory().available // (GIGABYTES * 2**30)))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Prepare the data before any worker asks for them, and say how long the whole suite takes."""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    whole = ROOT in [(config.invocation_params.dir / arg).resolve() for arg in config.args]
    if whole and config.option.nbval:
        config.get_terminal_writer().line(COST)
    if all(_prepared.is_prepared(name, _prepared.PREPARED) for name in _prepared.EMBEDDED):
        return
    # In a process of its own: TensorFlow, which it needs, stays out of this one.
    if subprocess.run([sys.executable, "-m", "utils.data"], cwd=ROOT).returncode:
        raise pytest.UsageError("the data sets could not be prepared: see the line above")


# What is collected -----------------------------------------------------------------------------


def pytest_ignore_collect(collection_path):
    """Pass over what is not the course's: other folders, copies of notebooks, sources of lessons.

    What is named on the command line is collected nevertheless.
    """
    if not collection_path.is_relative_to(ROOT) or collection_path == ROOT:
        return None
    folder, *rest = collection_path.relative_to(ROOT).parts
    if folder not in FOLDERS:
        return True
    if collection_path.is_dir():
        return None
    if folder not in ("lessons", "solutions"):
        return True if collection_path.suffix == ".ipynb" else None
    return None if len(rest) == 1 and is_lesson(collection_path) else True


class Source(pytest.File):
    """The source of a lesson has no tests: its notebook, which the build makes, has them."""

    def collect(self):
        """Return nothing, so that `pytest solutions/03*` takes the notebook alone."""
        return []


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Test the course's own notebook in place of one that somebody has worked in."""
    found = yield
    if file_path.parent == ROOT / "solutions" and file_path.suffix == ".py":
        return [Source.from_parent(parent, path=file_path)]
    if found and answered(file_path):
        found = [
            own_version(type(notebook)).from_parent(parent, path=file_path) for notebook in found
        ]
    return found


def answered(path):
    """Return whether `path` is a lesson of the course that somebody has worked in."""
    lesson = path.parent == ROOT / "lessons" and is_lesson(path)
    return lesson and path.exists() and is_touched(path)


def own_version(notebook):
    """Return nbval's class `notebook` such that it reads what the course gives to learners."""

    class OwnVersion(notebook):
        def collect(self):
            import nbformat

            book = untouched(self.path)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(nbformat, "read", lambda *_, **__: book)
                yield from list(super().collect())

    return OwnVersion


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no worker has one left at the end.

    A cell of a notebook takes about as long as eight tests.
    """
    weight = Counter()
    for item in items:
        weight[item.path] += 8 if item.path.suffix == ".ipynb" else 1
        if item.path.suffix == ".ipynb":
            item.output_timeout = PATIENCE  # of nbval, for a cell's outputs to arrive
    items.sort(key=lambda item: -weight[item.path])


# What cannot run, and what is said at the end --------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Leave out a file that needs a package of requirements-dev.txt which is not there."""
    report = yield
    call = getattr(report, "call", None)
    return _leave_out(report, call and call.excinfo, collector.path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Leave out a test that needs a package of requirements-dev.txt, or that `--quick` ended."""
    report = yield
    if _Quick.reason and call.when != "teardown":
        _Quick.ended[_function(item)] = _Quick.reason
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, _Quick.reason)
    return _leave_out(report, call.excinfo, item.path)


def _leave_out(report, excinfo, path):
    error = excinfo.value if report.failed and excinfo else None
    while error is not None and not _is_missing(error):
        error = error.__cause__ or error.__context__
    if error is not None:
        report.outcome = "skipped"
        report.longrepr = (str(path), 0, f"{LEFT_OUT}: {error.name}")
    return report


def _is_missing(error):
    return isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] in MISSING


def pytest_terminal_summary(terminalreporter):
    """Say which notebooks were tested in another version, and what was left out."""
    ran = {
        report.nodeid.partition("::")[0]
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
    }
    for path in sorted((ROOT / "lessons").glob("*.ipynb")):
        name = path.relative_to(ROOT).as_posix()
        if name in ran and answered(path):
            said = "holds somebody's answers; the course's own version was tested in its place."
            terminalreporter.write_line(f"{name} {said}")
    without = Counter(
        report.nodeid.partition("::")[0]
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple) and report.longrepr[2].startswith(LEFT_OUT)
    )
    if without:
        names = ", ".join(sorted(without))
        terminalreporter.write_line(f"left out, because {LEFT_OUT}: {names}")


# How examples train -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def short_examples(request):
    """Let docstring examples that train do it without a compiled step."""
    item = request.node
    trains = any(name in item.name for name in (".experiments.", ".transfer."))
    if isinstance(item, pytest.DoctestItem) and trains:
        request.getfixturevalue("eager")


@pytest.fixture
def eager():
    """Train without a compiled step.

    For a training of a few steps: to trace the step takes four times as long as to run it. What is
    trained for longer, in tests and lessons, is compiled.
    """
    import tensorflow as tf

    # TensorFlow says that tf.data goes on compiling, which is fine.
    warnings.filterwarnings("ignore", message="Even though the `tf.config")
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
