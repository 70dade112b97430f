"""Installs the packages of a lock file into the environment of this Python, and tells if they are.

    .venv/bin/python utils/course/packages.py install FILE
    .venv/bin/python utils/course/packages.py check FILE…      exit code 1 if any is missing

`environment.sh` runs it by its path, since nothing of the course can be imported before. Of the
user's settings of pip, those that say where packages come from are heeded (index, proxy,
certificates, cache), those that say where they go, or what else to install, are not. That pip
ended well is no proof, so an installation is judged by what the environment has after it.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_NAME = re.compile(r"(.+)-([^-]+)\.dist-info")
_HEEDED = {
    "cache-dir",
    "cert",
    "client-cert",
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "keyring-provider",
    "no-cache-dir",
    "no-index",
    "proxy",
    "retries",
    "timeout",
    "trusted-host",
    "use-deprecated",
    "use-feature",
}


def lacking(lists, folders=None) -> list[str]:
    """Return the requirements of this platform that are not installed at a version they allow.

    Args:
        lists: files such as requirements.lock.
        folders: where packages are installed; None for those of this Python's environment.
    """
    installed = _installed(folders)
    if "packaging" not in installed:
        return ["packaging"]
    from packaging.requirements import Requirement

    missing = []
    for line in _lines(lists):
        required = Requirement(line)
        if required.marker is None or required.marker.evaluate():
            found = installed.get(_normal(required.name), [])
            versions = [_NAME.fullmatch(path.name)[2] for path in found]
            if not _sound(found) or not required.specifier.contains(versions[0], prereleases=True):
                missing.append(f"{required.name}{required.specifier}")
    return missing


def forget_broken(lists, folders=None):
    """Make pip install again what was interrupted half-way, or is there twice.

    Args:
        lists: files such as requirements.lock; other packages are left alone.
        folders: as for `lacking`.
    """
    wanted = {_normal(re.match(r"[A-Za-z0-9_.-]+", line)[0]) for line in _lines(lists)}
    for name, found in _installed(folders).items():
        if name in wanted and not _sound(found):
            for path in found:
                shutil.rmtree(path)


def _installed(folders):
    """Return name → the folders that pip keeps about the package, of which there should be one."""
    # `importlib.metadata` would read each package's description, and that takes half a second.
    found = {}
    for folder in folders or {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(folder).iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                found.setdefault(_normal(match[1]), []).append(path)
    return found


def _sound(found):
    # The last that pip writes of a package are these two; if it was interrupted, one is missing.
    return len(found) == 1 and all((found[0] / name).exists() for name in ("INSTALLER", "RECORD"))


def _lines(lists):
    for path in lists:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            line = line.partition("#")[0].rstrip(" \\").strip()
            if line and not line.startswith("--hash"):
                yield line


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def settings_of_pip(listed: str, environment: dict) -> dict[str, str]:
    r"""Return the environment variables for the settings of pip that are heeded.

    Args:
        listed: what `pip config list` prints about files.
        environment: the user's environment variables, which count more.

    >>> settings_of_pip("global.index-url='https://pypi.example.org'\nglobal.user='true'\n", {})
    {'PIP_INDEX_URL': 'https://pypi.example.org'}
    """
    found = {}
    for section in ("global.", "install."):  # the later one counts
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section) and name.removeprefix(section) in _HEEDED:
                found[_variable(name.removeprefix(section))] = ast.literal_eval(value)
    return found | {
        name: environment[name] for name in map(_variable, sorted(_HEEDED)) if name in environment
    }


def _variable(option):
    return "PIP_" + option.upper().replace("-", "_")


def install(path) -> str:
    """Install the packages of one file; return "" or one sentence about what went wrong.

    Args:
        path: a lock file (`.lock`), which names every package with its hashes, or a list of
            requirements.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    # `pip config` has options of these names, too, and would list some of the files only.
    every = clean | {"PIP_GLOBAL": "0", "PIP_USER": "0", "PIP_SITE": "0"}
    if "PIP_CONFIG_FILE" in os.environ:
        every["PIP_CONFIG_FILE"] = os.environ["PIP_CONFIG_FILE"]
    listed = subprocess.run([*pip, "config", "list"], env=every, capture_output=True, text=True)
    if listed.returncode:
        _show(listed.stderr)
        return "pip cannot read its own settings: see the lines above."
    environment = clean | settings_of_pip(listed.stdout, os.environ)
    environment["PIP_CONFIG_FILE"] = os.devnull
    forget_broken([path])
    command = [*pip, "install", "--quiet", "-r", path]
    if path.endswith(".lock"):  # it lists every package, so pip has nothing to resolve
        command += ["--no-deps", "--require-hashes"]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        _show(done.stderr)
        return f"Installing {path} failed: see the lines above, mend it and run make again."
    missing = lacking([path])
    if missing:
        names = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        return (
            f"Installing {path} ended well, but {names} did not arrive in {sys.prefix}: "
            "look for a setting of pip or Python that leads elsewhere, and run make again."
        )
    return ""


def _show(errors):
    for line in errors.splitlines():
        if "is ignored" not in line:
            print(line, file=sys.stderr)


if __name__ == "__main__":
    action, *files = sys.argv[1:]
    if action == "check":
        sys.exit(bool(lacking(files)))
    sys.exit(install(*files) or 0)
