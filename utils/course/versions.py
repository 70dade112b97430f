"""Makes an environment with other versions than `.venv`: `make test-oldest` and its siblings.

    python -m utils.course.versions NAME [--python 3.11] [--lowest] [--exact] LIST…

`.cache/NAME` then holds what the lists ask for, and no package besides but pip. Each call looks at
what is there and changes what is wrong, so a second one takes seconds.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.course.settings import ROOT

CACHE = ROOT / ".cache"


class VersionsError(Exception):
    """An environment that cannot be made: one sentence that says why."""


def make(
    name: str,
    lists: Sequence[str | Path],
    python: str | None = None,
    lowest: bool = False,
    exact: bool = False,
) -> Path:
    """Make the environment `.cache/NAME`, or mend it, and return its Python.

    Args:
        name: the folder's name in `.cache`.
        lists: requirements files; where they leave a choice, the highest version is taken.
        python: the version to look for, such as "3.13"; without it, or where the search path has
            none, the Python that runs this.
        lowest: take the lowest version of each package that the lists name.
        exact: install what the lists name and nothing that it asks for, for a list that was
            taken from a machine as it is.

    Raises:
        VersionsError: no versions fit together, or they could not be installed.
    """
    folder = CACHE / name
    there = folder / "bin" / "python"
    base = _find(python)
    # One that was made with another Python, or whose Python has gone, cannot be mended.
    if _python_of(there) != (_python_of(base)[0], folder):
        _run([base, "-m", "venv", "--clear", folder], f"Making .cache/{name} failed")
    uv = _uv()
    choice = ["--resolution", "lowest-direct" if lowest else "highest"]
    if exact:
        choice.append("--no-deps")
    terse = ["--quiet", "--no-header", "--no-annotate"]
    pins = _run(
        [uv, "pip", "compile", *terse, "--python", there, *choice, *lists],
        f"No versions fit {' and '.join(map(str, lists))}",
    )
    (folder / "packages.txt").write_text(pins, encoding="utf-8")
    _run(
        [uv, "pip", "sync", "--quiet", "--python", there, folder / "packages.txt"],
        f"Installing .cache/{name}/packages.txt failed",
    )
    return there


def chosen(name: str, lists: Sequence[str | Path]) -> list[str]:
    """Return the pins of the environment `.cache/NAME` whose packages the lists name."""
    named = set()
    for path in lists:
        for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
            if found := re.match(r"[\w.-]+", line):
                named.add(_normal(found[0]))
    pins = (CACHE / name / "packages.txt").read_text(encoding="utf-8").splitlines()
    return [pin for pin in pins if _normal(pin.partition("==")[0]) in named]


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _find(python):
    """Return a program that is this version of Python, or the one that runs this."""
    program = shutil.which(f"python{python}") if python else None
    # pyenv has a program for each version that is installed, which may refuse to run.
    if program and (found := _python_of(program)) and found[0].rpartition(".")[0] == python:
        return program
    if python and not sys.version.startswith(f"{python}."):
        print(f"There is no python{python} that runs, so {sys.executable} is taken.")
    return sys.executable


def _python_of(program):
    """Return version and folder of a Python, or None if it does not run."""
    code = "import platform, sys; print(platform.python_version()); print(sys.prefix)"
    try:
        done = subprocess.run([program, "-I", "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    lines = done.stdout.splitlines()
    return (lines[0], Path(lines[1])) if done.returncode == 0 else None


def _uv():
    """Return the program that resolves lowest versions, which pip cannot; it lives in the cache."""
    uv = CACHE / "uv" / "bin" / "uv"
    if not uv.exists():
        _run([sys.executable, "-m", "venv", CACHE / "uv"], "Making .cache/uv failed")
        pip = [CACHE / "uv" / "bin" / "python", "-m", "pip"]
        _run([*pip, "install", "--quiet", "uv"], "Installing uv into .cache/uv failed")
    return uv


def _run(command, failure):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise VersionsError(f"{done.stderr.strip()}\n{failure}: see the lines above.".lstrip())
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.course.versions", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", help="the environment is .cache/NAME")
    parser.add_argument("lists", nargs="+", metavar="LIST", help="requirements files")
    parser.add_argument("--python", help="a version such as 3.11, if there is one")
    parser.add_argument("--lowest", action="store_true", help="lowest versions, not highest")
    parser.add_argument("--exact", action="store_true", help="nothing that the lists do not name")
    given = parser.parse_args(arguments)
    print(f"Installing the packages of {' and '.join(given.lists)} in .cache/{given.name}.")
    try:
        python = make(given.name, given.lists, given.python, given.lowest, given.exact)
    except VersionsError as error:
        print(error, file=sys.stderr)
        return 1
    version, _ = _python_of(python)
    print(f"Python {version},", ", ".join(chosen(given.name, given.lists)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
