"""Environments with other versions than `.venv`, without a network: uv is played by a script."""

import platform
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from utils.course import versions
from utils.course.settings import ROOT

# Writes down what it is asked for; `broken` is what a resolver says when nothing fits.
UV = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/log"
if [ -e "$here/broken" ]; then echo "No solution found: a needs b>=3" >&2; exit 1; fi
[ "$2" = sync ] || printf 'keras==3.12.0\\nimportlib-resources==6.0.0\\nzipp==1.0\\n'
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder `.cache` with a uv that installs nothing, and lists of packages beside it."""
    cache = tmp_path / ".cache"
    uv = cache / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(UV)
    uv.chmod(0o755)
    (tmp_path / "a.txt").write_text("# Models.\nkeras>=3.12,<3.16 ; sys_platform == 'linux'\n")
    (tmp_path / "b.txt").write_text("-r a.txt\nimportlib_resources>=6\n")
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(versions, "CACHE", cache)

    def run(command, *args, **kwargs):
        # pip comes into a new environment from Python itself, which takes seconds.
        if command[1:3] == ["-m", "venv"]:
            command = [*command, "--without-pip"]
        return real(command, *args, **kwargs)

    real = subprocess.run
    monkeypatch.setattr(versions.subprocess, "run", run)
    return cache


def asked(cache):
    log = cache / "uv" / "bin" / "log"
    lines = log.read_text().splitlines()
    log.unlink()
    return lines


def test_environment_is_made_once_and_looked_at_again(cache, capsys):
    arguments = ["old", "--lowest", "a.txt", "b.txt"]
    assert versions.main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "Installing the packages of a.txt and b.txt in .cache/old.",
        f"Python {platform.python_version()}, keras==3.12.0, importlib-resources==6.0.0",
    ]
    there = cache / "old" / "bin" / "python"
    first = asked(cache)
    assert first == [
        "pip compile --quiet --no-header --no-annotate "
        f"--python {there} --resolution lowest-direct a.txt b.txt",
        f"pip sync --quiet --python {there} {cache}/old/packages.txt",
    ]
    # The folder stays, and what it holds is compared anew.
    (cache / "old" / "mine").touch()
    assert versions.main(arguments) == 0
    assert asked(cache) == first
    assert (cache / "old" / "mine").exists()


def test_highest_versions_and_an_exact_list(cache):
    assert versions.main(["colab", "--exact", "a.txt"]) == 0
    assert asked(cache)[0].endswith(" --resolution highest --no-deps a.txt")


def test_environment_whose_python_has_gone_is_made_anew(cache):
    python = versions.make("old", ["a.txt"])
    python.unlink()
    python.symlink_to("/nowhere/python")
    (cache / "old" / "mine").touch()
    assert versions.make("old", ["a.txt"]) == python
    subprocess.run([python, "-c", ""], check=True)
    assert not (cache / "old" / "mine").exists()


def test_no_versions_that_fit(cache, capsys):
    (cache / "uv" / "bin" / "broken").touch()
    assert versions.main(["old", "a.txt"]) == 1
    assert capsys.readouterr().err == (
        "No solution found: a needs b>=3\nNo versions fit a.txt: see the lines above.\n"
    )


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A search path with programs of these names, each a script."""

    def put(**scripts):
        for name, script in scripts.items():
            program = tmp_path / "bin" / name.replace("_", ".")
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        return tmp_path / "bin"

    return put


def test_python_that_is_asked_for(path, capsys):
    folder = path(
        python9_1="echo 9.1.4; echo /usr",
        python9_2="echo 'pyenv: python9.2: command not found' >&2; exit 127",
        python9_3="echo 9.1.4; echo /usr",
    )
    assert versions._find("9.1") == str(folder / "python9.1")
    assert capsys.readouterr().out == ""
    for other in ("9.2", "9.3", "9.4"):
        assert versions._find(other) == sys.executable
        assert capsys.readouterr().out == (
            f"There is no python{other} that runs, so {sys.executable} is taken.\n"
        )


def test_python_that_runs_this_needs_no_excuse(path, capsys):
    path(python9_1="exit 1")
    assert versions._find(None) == sys.executable
    assert versions._find("{}.{}".format(*sys.version_info)) == sys.executable
    assert capsys.readouterr().out == ""


def test_names_of_packages_are_compared_as_registries_do(cache):
    (cache / "x").mkdir()
    (cache / "x" / "packages.txt").write_text("importlib-resources==6.0.0\nkeras-hub==1.0\n")
    assert versions.chosen("x", ["a.txt", "b.txt"]) == ["importlib-resources==6.0.0"]


def requirements(name):
    """The requirements of a list, and of those that it includes."""
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("-r "):
            yield from requirements(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            yield Requirement(line)


def test_each_locked_version_lies_in_its_range():
    for name in ("requirements.txt", "requirements-dev.txt"):
        lock = name.replace(".txt", ".lock")
        pinned = {}
        for line in (ROOT / lock).read_text().splitlines():
            if found := re.match(r"([\w.-]+)==([\w.+!]+)", line):
                pinned.setdefault(canonicalize_name(found[1]), set()).add(found[2])
        assert pinned
        for requirement in requirements(name):
            versions = pinned.get(canonicalize_name(requirement.name), set())
            assert versions, f"{lock} lacks {requirement.name}"
            assert all(map(requirement.specifier.contains, versions)), (lock, str(requirement))


def test_each_range_has_two_ends():
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-backends.txt"):
        for requirement in requirements(name):
            signs = {part.operator for part in requirement.specifier}
            assert signs in ({"=="}, {">=", "<"}), (name, str(requirement))
