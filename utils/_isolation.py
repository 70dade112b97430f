"""Keeps the user's own settings of Python, Keras, Jupyter and Matplotlib out of the course.

A setting that is meant for another project (`KERAS_BACKEND`, a `keras.json`, `JUPYTER_PATH`,
start-up files of IPython, `PYTHONPATH`, …) would change results, or end in an error that names
everything but the cause. So a command of the course runs without them, and what these programs
keep for themselves (settings, caches, histories) goes below `.cache` and not into the home.

`python -m utils.…` calls `start`, pytest calls `isolate`, and the setup cell of a lesson
`isolate_libraries`. A plain `import utils` changes none of these settings: the layers run on
every Keras backend.

Nothing is imported here but the standard library, since this comes before all else.
"""

import contextlib
import locale
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_CACHE = _ROOT / ".cache"

# What may stay of PYTHON…: it decides when something is written, and never what.
_HARMLESS = {
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONFAULTHANDLER",
    "PYTHONHASHSEED",
    "PYTHONPYCACHEPREFIX",
    "PYTHONUNBUFFERED",
}
_JUPYTER = {
    "IPYTHONDIR": _CACHE / "ipython",
    "JUPYTER_CONFIG_DIR": _CACHE / "jupyter" / "config",
    "JUPYTER_DATA_DIR": _CACHE / "jupyter" / "data",
    "JUPYTER_RUNTIME_DIR": _CACHE / "jupyter" / "runtime",
    # A kernel of the same name elsewhere must not stand in for this environment's.
    "JUPYTER_PREFER_ENV_PATH": "1",
    # JupyterLab asks npm for language servers, and npm keeps a cache.
    "npm_config_cache": _CACHE / "npm",
}
_NO_JUPYTER = (
    "JUPYTER_CONFIG_PATH",
    "JUPYTER_NO_CONFIG",
    "JUPYTER_PATH",
    "JUPYTERLAB_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    # A kernel chooses how it shows figures, unless this is set.
    "MPLBACKEND",
)
_LIBRARIES = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": _CACHE / "keras",
    "MPLCONFIGDIR": _CACHE / "matplotlib",
    # Lower levels put lines of TensorFlow's own on stderr, and so into notebooks.
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_NO_LIBRARIES = (
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "MATPLOTLIBRC",
    "TF_USE_LEGACY_KERAS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)


def isolate_libraries():
    """Let Keras, TensorFlow and Matplotlib start with the course's settings.

    For a notebook, in the kernel that the learner chose. What the learner sets in a cell after
    that, as with `keras.config.set_dtype_policy`, is left alone.

    Raises:
        RuntimeError: if Keras was imported before, with other settings; one sentence.
    """
    _set(_LIBRARIES, _NO_LIBRARIES)
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "config"):
        return
    for name, value, expected in (
        ("backend", keras.config.backend(), "tensorflow"),
        ("image_data_format", keras.config.image_data_format(), "channels_last"),
        ("floatx", keras.config.floatx(), "float32"),
    ):
        if value != expected:
            raise RuntimeError(
                f"Keras was imported with {name}={value!r}, and the course needs {expected!r}: "
                "restart the kernel and run the lesson from its first cell."
            )


def isolate():
    """Let this process and those that it starts run without the user's own settings.

    For a command of the course, before it imports Keras or looks for a kernel. The kernel named
    python3 that Jupyter then finds is the one of this environment.

    Raises:
        RuntimeError: as `isolate_libraries`.
    """
    isolate_libraries()
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        if name == "PYTHONPATH" and _only_the_course(os.environ[name]):
            continue
        if name not in _HARMLESS:
            del os.environ[name]
    os.environ["PYTHONUTF8"] = "1"
    _set(_JUPYTER, _NO_JUPYTER)


def start():
    """Isolate a command that is starting, `python -m utils.…`, from its first line on.

    Python has read its own settings by then. If they matter, it starts once more, without them.
    """
    before = _of_python()
    isolate()
    after = _of_python()
    as_if_unset = before in (after, {**after, "PYTHONUTF8": None})
    utf8 = locale.getpreferredencoding(False).lower().replace("-", "") == "utf8"
    if before == after or (as_if_unset and utf8):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _of_python():
    names = {name for name in os.environ if name.startswith("PYTHON")} | {"PYTHONUTF8"}
    return {name: os.environ.get(name) for name in names - _HARMLESS}


def _only_the_course(path):
    return all(Path(entry).resolve() == _ROOT for entry in path.split(os.pathsep))


def _set(values, dropped):
    for name in dropped:
        os.environ.pop(name, None)
    os.environ.update({name: str(value) for name, value in values.items()})
    # IPython makes its folder only where the one above is there.
    with contextlib.suppress(OSError):
        _CACHE.mkdir(exist_ok=True)
