"""Settings of every pytest run that re-executes notebooks with `--nbval`."""

import warnings
from collections import Counter
from pathlib import Path

import pytest

from utils import _isolation

# Before a test imports Keras or starts a kernel.
_isolation.isolate()

# Sources of notebooks, not modules: `--doctest-modules` would import them.
collect_ignore_glob = ["solutions/*.py"]
DEFAULTS = {"nbval_cell_timeout": 2000, "nbval_kernel_startup_timeout": 60}


def pytest_addoption(parser):
    """Add what `make answers` asks for."""
    parser.addoption(
        "--every-seed",
        action="store_true",
        help="judge every answer in tests/answers with all ten seeds",
    )


def pytest_configure(config):
    """Run notebooks in this environment, with limits, and compare them but for picture data."""
    option = config.option
    option.nbval_current_env = True
    option.loadscopereorder = False  # `pytest_collection_modifyitems` knows better
    for name, default in DEFAULTS.items():
        if getattr(option, name) == default:
            setattr(option, name, 120)
    # nbval takes a relative path from the current directory, wherever that is.
    option.nbval_sanitize_with = str(Path(__file__).with_name("tests") / "nbval_sanitize.cfg")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no worker has one left at the end.

    A cell of a notebook takes about as long as eight tests.
    """
    weight = Counter()
    for item in items:
        weight[item.path] += 8 if item.path.suffix == ".ipynb" else 1
    items.sort(key=lambda item: -weight[item.path])


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
