"""`import utils` silences TensorFlow's start-up lines and nothing else."""

import subprocess
import sys

import pytest

from utils.course.settings import ROOT

FAKE = """
import os
os.write(2, b"start-up line. ")
{}
os.write(2, b"another. ")
"""


def python(code, *path):
    """Run code in a fresh process; return its exit code, stdout and stderr."""
    start = f"import sys; sys.path[:0] = {[*map(str, path), str(ROOT)]!r}\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tensorflow(tmp_path):
    """Put a `tensorflow` into a folder that writes to file descriptor 2 while it is imported."""

    def write(middle=""):
        (tmp_path / "tensorflow").mkdir()
        (tmp_path / "tensorflow" / "__init__.py").write_text(FAKE.format(middle))
        (tmp_path / "tensorflow" / "python.py").write_text("ops = 7")
        return tmp_path

    return write


def test_imports_write_nothing():
    code = """
import utils
import keras
import tensorflow as tf
import utils.cost, utils.data, utils.plots
from utils.course import check, progress
keras.layers.Dense(2)(tf.ones((1, 3)))
# TensorFlow's C++ core warns about a cache that is read in part.
for _ in tf.data.Dataset.range(8).cache().take(1):
    pass
# XLA says that it has compiled something.
tf.function(lambda x: x + 1, jit_compile=True)(1)
"""
    assert python(code) == (0, "", "")


def test_lines_of_the_import_are_held_back(tensorflow):
    folder = tensorflow()
    assert python("import tensorflow", folder)[2] == "start-up line. another. "
    code = "import os, utils, tensorflow; os.write(2, b'later')"
    assert python(code, folder) == (0, "", "later")


def test_failing_import_says_everything(tensorflow):
    folder = tensorflow("raise ImportError('no such instruction')")
    code, _, error = python("import utils, tensorflow", folder)
    assert code == 1
    assert error.startswith("start-up line. Traceback")
    assert error.endswith("ImportError: no such instruction\n")


def test_missing_package_is_missing():
    code = """
import utils
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
import tensorflow
"""
    code, _, error = python(code)
    assert code == 1
    assert error.endswith("ModuleNotFoundError: No module named 'tensorflow'\n")


def test_package_is_found_as_ever(tensorflow):
    code = """
import importlib.util, utils
from tensorflow.python import ops
import tensorflow
assert importlib.util.find_spec("tensorflow") is tensorflow.__spec__
assert list(tensorflow.__spec__.submodule_search_locations) == tensorflow.__path__
assert tensorflow.__file__.endswith("__init__.py")
utils._quiet.install()
assert sum(type(finder).__name__ == "_QuietFinder" for finder in sys.meta_path) == 1
"""
    assert python(code, tensorflow()) == (0, "", "")
