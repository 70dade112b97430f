"""Keeps TensorFlow's start-up lines out of terminals and notebooks.

`TF_CPP_MIN_LOG_LEVEL=3` silences all but the two lines that the C++ core writes while it is
being loaded, before it reads any setting. Those two go to file descriptor 2, so the descriptor
points at a scratch file while `import tensorflow` runs. If the import fails, what the file
caught is written to stderr, so that no real error is lost. In TensorFlow 2.20, XLA writes to a
second log, Abseil's, which reads no setting: it is told the same level.

Keras warns in every `fit` on a `tf.data.Dataset` that `shuffle=True` is ignored, although True
is its own default and nobody asked for it: that one warning is filtered, too.
"""

import contextlib
import ctypes
import glob
import importlib.abc
import importlib.machinery
import logging
import os
import sys
import tempfile
import warnings

# `absl::SetMinLogLevel`, as C++ names it in the Abseil of TensorFlow 2.20.
_SET_LEVEL = "_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE"


@contextlib.contextmanager
def _stderr_held_back():
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as scratch:
        os.dup2(scratch.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            scratch.seek(0)
            os.write(2, scratch.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _tell_abseil(folder, level):
    """Set the level of Abseil's log in TensorFlow 2.20; other versions have no such function."""
    for library in glob.glob(os.path.join(folder, "libtensorflow_framework.*")):
        set_level = getattr(ctypes.CDLL(library), _SET_LEVEL, None)
        if set_level is not None and level.isdigit():
            set_level(int(level))


class _QuietLoader(importlib.abc.Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        with _stderr_held_back():
            self._loader.exec_module(module)
        _tell_abseil(os.path.dirname(module.__file__), os.environ.get("TF_CPP_MIN_LOG_LEVEL", ""))

    def __getattr__(self, name):
        return getattr(self._loader, name)


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds `tensorflow` as Python would, and loads it without its start-up lines."""

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


def install():
    """Silence every later `import tensorflow`, and Keras' warning about its own default."""
    warnings.filterwarnings("ignore", message="`shuffle=True` was passed, but will be ignored")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The first figure of a new environment would say that the font cache is being built.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())
