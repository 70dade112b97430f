"""Imported by the setup cell of every lesson: sees to it that the packages are there."""

import importlib.util
import re
import subprocess
import sys
from importlib import metadata

from utils import _isolation
from utils.course.settings import ROOT

# What a notebook service brings along, and must keep at its own version.
_KEEP = ("tensorflow", "tensorflow-cpu", "keras", "numpy")
# What runs notebooks and tests; a notebook that is running does not need it.
_TOOLS = ("jupyterlab", "ipykernel", "nbval", "pytest")


class Stop(Exception):
    """Ends a cell with one sentence, in place of a traceback."""

    def _render_traceback_(self):
        return [str(self)]


def missing() -> list[str]:
    """Return the lines of requirements.txt whose package a lesson needs and does not find.

    >>> missing()
    []
    """
    lines = []
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name = re.match(r"[A-Za-z0-9_.-]+", line)
        if name and name[0] not in _TOOLS and not _installed(name[0]):
            lines.append(line)
    return lines


def _installed(name):
    if name in ("tensorflow", "tensorflow-cpu"):  # two packages, one module
        return importlib.util.find_spec("tensorflow") is not None
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def install_missing():
    """Install what is missing, and nothing over what is there of TensorFlow, Keras and NumPy.

    Raises:
        Stop: if pip does not succeed.
    """
    lines = missing()
    if not lines:
        return
    pins = []
    for name in _KEEP:
        try:
            pins.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    constraints = ROOT / ".cache" / "constraints.txt"
    constraints.parent.mkdir(exist_ok=True)
    constraints.write_text("\n".join(pins), encoding="utf-8")
    names = ", ".join(re.match(r"[A-Za-z0-9_.-]+", line)[0] for line in lines)
    print(f"Installing {names}.")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "-c", str(constraints), *lines]
    if subprocess.run(command).returncode:
        raise Stop(f"Installing {names} failed: see the lines above.")
    importlib.invalidate_caches()


install_missing()
try:
    _isolation.isolate_libraries()
except RuntimeError as error:
    raise Stop(str(error)) from None
