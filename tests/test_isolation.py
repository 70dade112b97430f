"""The user's own settings change nothing in the course, and the course writes nothing elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from utils import _isolation
from utils.course.settings import ROOT

# What decides how a command and its kernels run, seen after its first line.
STATE = """
import sys
sys.argv[0] = "-m"  # as it reads while a command starts
import utils
import json, locale, os
from jupyter_core import paths
print(json.dumps({
    "variables": {
        name: value for name, value in sorted(os.environ.items())
        if name.startswith(("PYTHON", "KERAS", "JUPYTER", "IPYTHON", "MPL", "MATPLOTLIB", "TF_"))
    },
    "path": [entry for entry in sys.path if entry],
    "flags": [sys.flags.optimize, sys.flags.no_user_site, sys.warnoptions],
    "encodings": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding()],
    "files": locale.getpreferredencoding().lower(),
    "kernels": paths.jupyter_path("kernels")[:2],
    "configuration": paths.jupyter_config_path()[:2],
    "runtime": paths.jupyter_runtime_dir(),
}))
"""
C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
# {home} stands for a home full of settings, {elsewhere} for a folder full of what misleads.
HOSTILE = {
    "KERAS_BACKEND": {"KERAS_BACKEND": "jax"},
    "KERAS_HOME": {"KERAS_HOME": "{home}/.keras"},
    "limits of Keras": {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"},
    "KERAS_NNX_ENABLED": {"KERAS_NNX_ENABLED": "true"},
    "log of TensorFlow": {"TF_CPP_MIN_LOG_LEVEL": "0"},
    "flags of XLA": {"TF_XLA_FLAGS": "--nonsense", "XLA_FLAGS": "--nonsense"},
    "TF_USE_LEGACY_KERAS": {"TF_USE_LEGACY_KERAS": "1"},
    "JUPYTER_PATH": {"JUPYTER_PATH": "{elsewhere}"},
    "JUPYTER_CONFIG_PATH": {"JUPYTER_CONFIG_PATH": "{elsewhere}"},
    "JUPYTER_CONFIG_DIR": {"JUPYTER_CONFIG_DIR": "{elsewhere}"},
    "JUPYTER_DATA_DIR": {"JUPYTER_DATA_DIR": "{elsewhere}", "JUPYTER_PREFER_ENV_PATH": "0"},
    "JUPYTER_RUNTIME_DIR": {"JUPYTER_RUNTIME_DIR": "/dev/null/runtime"},
    "JUPYTER_NO_CONFIG": {"JUPYTER_NO_CONFIG": "1"},
    "folders of JupyterLab": {"JUPYTERLAB_DIR": "/x", "JUPYTERLAB_SETTINGS_DIR": "/x"},
    "IPYTHONDIR": {"IPYTHONDIR": "{home}/.ipython"},
    "PYTHONPATH": {"PYTHONPATH": "{elsewhere}"},
    "PYTHONSTARTUP": {"PYTHONSTARTUP": "{elsewhere}/json.py"},
    "PYTHONOPTIMIZE": {"PYTHONOPTIMIZE": "2"},
    "PYTHONWARNINGS": {"PYTHONWARNINGS": "error"},
    "PYTHONIOENCODING": {"PYTHONIOENCODING": "latin-1"},
    "PYTHONUTF8": {"PYTHONUTF8": "0"},
    "C locale": {"LC_ALL": "C"},
    "C locale, and nothing else": C_LOCALE,
    "PYTHONUSERBASE": {"PYTHONUSERBASE": "{elsewhere}", "PYTHONNOUSERSITE": ""},
    "MPLBACKEND": {"MPLBACKEND": "tkagg"},
    "MATPLOTLIBRC": {"MATPLOTLIBRC": "{elsewhere}", "MPLCONFIGDIR": "{home}/.config/matplotlib"},
    "VIRTUAL_ENV": {"VIRTUAL_ENV": "{elsewhere}"},
    "conda": {"CONDA_PREFIX": "/opt/conda", "CONDA_DEFAULT_ENV": "base", "CONDA_SHLVL": "1"},
    "pip": {"PIP_TARGET": "/x", "PIP_USER": "1"},
    "CUDA_VISIBLE_DEVICES": {"CUDA_VISIBLE_DEVICES": "7"},
    "home full of settings": {"HOME": "{home}"},
    "home that cannot be written": {"HOME": "/dev/null/home"},
    "home that is empty": {"HOME": ""},
    "XDG": {
        "XDG_CONFIG_HOME": "{home}",
        "XDG_CACHE_HOME": "/dev/null/x",
        "XDG_DATA_HOME": "{home}",
    },
    "TMPDIR that is not there": {"TMPDIR": "/no such folder"},
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A home with the settings of other projects, and a folder of modules and kernels that fail."""
    home, elsewhere = tmp_path_factory.mktemp("my home"), tmp_path_factory.mktemp("elsewhere")
    fails = "raise SystemExit('of another project')\n"
    kernel = json.dumps({"argv": ["false"], "display_name": "Other", "language": "python"})
    keras = {"backend": "torch", "image_data_format": "channels_first", "floatx": "float16"}
    files = {
        home / ".keras" / "keras.json": json.dumps(keras | {"epsilon": 0.5}),
        home / ".ipython" / "profile_default" / "startup" / "a.py": fails,
        home / ".ipython" / "profile_default" / "ipython_config.py": fails,
        home / ".jupyter" / "jupyter_server_config.py": fails,
        home / ".local" / "share" / "jupyter" / "kernels" / "python3" / "kernel.json": kernel,
        home / ".config" / "matplotlib" / "matplotlibrc": "backend: of another project\n",
        elsewhere / "kernels" / "python3" / "kernel.json": kernel,
        elsewhere / "matplotlibrc": "backend: of another project\n",
        **{elsewhere / f"{name}.py": fails for name in ("json", "numpy", "keras", "jupyter_core")},
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"home": home, "elsewhere": elsewhere}


def environment(places, settings):
    """The variables of a plain shell, and these settings."""
    plain = {"PATH": os.environ["PATH"], "HOME": str(places["home"].parent), "LANG": "C.UTF-8"}
    return plain | {name: value.format(**places) for name, value in settings.items()}


def python(*arguments, **options):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, cwd=ROOT, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def without(places):
    code, state, error = python("-c", STATE, env=environment(places, {}))
    assert (code, error) == (0, "")
    return json.loads(state)


@pytest.mark.parametrize("name", HOSTILE)
def test_commands_run_as_without_the_setting(places, without, name):
    code, state, error = python("-c", STATE, env=environment(places, HOSTILE[name]))
    assert (code, error) == (0, "")
    assert json.loads(state) == without


def test_state_without_settings_is_the_courses(without):
    variables = without["variables"]
    assert variables["KERAS_BACKEND"] == "tensorflow"
    assert variables["PYTHONUTF8"] == "1"
    assert without["kernels"][0] == f"{sys.prefix}/share/jupyter/kernels"
    for name in ("KERAS_HOME", "IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_CONFIG_DIR"):
        assert variables[name].startswith(f"{ROOT}/.cache/")


# Each of these settings made a command fail, or end well with another result.
ALL = {name: value for settings in HOSTILE.values() for name, value in settings.items()}
ALL |= {"HOME": "{home}", "TMPDIR": "{elsewhere}"}


def test_commands_with_every_setting_at_once(places):
    """What is prepared is found, and what cannot be graded is refused in one sentence."""
    variables = environment(places, ALL)
    assert python("-m", "utils.data", env=variables) == (0, "", "")
    code, out, error = python("-m", "utils.course.grade", "없는 공책.ipynb", env=variables)
    assert (code, out) == (1, "")
    assert "없는 공책.ipynb" in error and error.count("\n") == 1


LESSON = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd().parent))
import utils.course.setup
import keras, matplotlib.pyplot as plt, numpy
from utils.mobilenet_v2 import MobileNetV2
print([
    keras.config.backend(), keras.config.floatx(), keras.config.image_data_format(),
    keras.config.epsilon(), MobileNetV2((96, 96, 3), 5, 0.35).count_params(),
    "inline" in plt.get_backend(), sys.flags.optimize,
])
"""
KERNEL = f"""
import sys
sys.argv[0] = "-m"
import utils
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(cwd="lessons", transport_encryption="auto")
client.execute_interactive({LESSON!r}, store_history=True)
client.stop_channels()
manager.shutdown_kernel()
"""


def test_lesson_in_a_kernel_with_every_setting_at_once(places):
    """A kernel as JupyterLab starts it: the course's results, and nothing written to the home."""
    before = sorted(places["home"].rglob("*"))
    code, out, error = python("-c", KERNEL, env=environment(places, ALL))
    expected = ["tensorflow", "float32", "channels_last", 1e-7, 416_613, True, 0]
    assert (code, out.strip(), error) == (0, str(expected), "")
    assert sorted(places["home"].rglob("*")) == before


def test_import_of_the_library_changes_no_setting(places):
    seen = "import utils, os; print(os.environ['KERAS_BACKEND'], os.environ.get('IPYTHONDIR'))"
    variables = environment(places, {"KERAS_BACKEND": "jax"})
    assert python("-c", seen, env=variables) == (0, "jax None\n", "")


def fake_keras(**settings):
    values = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}
    values |= settings
    config = SimpleNamespace(**{name: (lambda v=value: v) for name, value in values.items()})
    return SimpleNamespace(config=config)


@pytest.mark.parametrize(
    "settings",
    [{"backend": "jax"}, {"image_data_format": "channels_first"}, {"floatx": "float16"}],
)
def test_keras_that_was_imported_otherwise_is_named(monkeypatch, settings):
    monkeypatch.setitem(sys.modules, "keras", fake_keras(**settings))
    ((name, value),) = settings.items()
    sentence = f"Keras was imported with {name}='{value}', and the course needs .*: restart the"
    with pytest.raises(RuntimeError, match=sentence):
        _isolation.isolate_libraries()
    monkeypatch.setitem(sys.modules, "keras", fake_keras())
    _isolation.isolate_libraries()


def make(folder, *arguments, **variables):
    done = subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_make_starts_python_without_the_settings_that_would_stop_it(tmp_path):
    probe = tmp_path / "Makefile"
    probe.write_text(f"include {ROOT}/Makefile\nprobe:\n\t@env\n")
    hostile = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONOPTIMIZE")
    seen = make(tmp_path, "probe", PYTHONUTF8="0", **dict.fromkeys(hostile, "1"))
    names = dict(line.partition("=")[::2] for line in seen.splitlines())
    assert not names.keys() & set(hostile)
    assert names["PYTHONUTF8"] == "1"


def test_make_passes_the_path_of_a_python_as_one_word():
    shown = make(ROOT, "-n", "environment", "PYTHON=/a b/python")
    assert shown.strip() == 'sh utils/course/environment.sh lab "/a b/python"'


def test_clean_removes_what_the_course_made_and_nothing_of_the_learners(tmp_path):
    for name in ("Makefile", "course.toml", "utils/course/environment.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    made = [
        ".venv/bin/python",
        ".cache/keras/keras.json",
        "data/prepared/digits/a",
        "utils/__pycache__/a",
    ]
    kept = [
        ".cache/jupyter/config/lab/user-settings/theme",
        "lessons/.ipynb_checkpoints/00_start_here-checkpoint.ipynb",
        "lessons/00_start_here.ipynb",
    ]
    for name in made + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    make(tmp_path, "clean")
    assert not [name for name in made if (tmp_path / name).exists()]
    assert [name for name in kept if (tmp_path / name).exists()] == kept
