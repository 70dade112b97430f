"""An installation is judged by what the environment contains, whatever pip was told elsewhere."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils.course import packages
from utils.course.settings import ROOT

LOCKS = [str(ROOT / "requirements.lock"), str(ROOT / "requirements-dev.lock")]


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages; call it with name and version to install one."""
    folder = tmp_path / "site-packages"

    def install(name, version, *files):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        for file in files or ("METADATA", "INSTALLER", "RECORD"):
            (info / file).touch()
        return folder

    install("packaging", "26.0")
    return install


@pytest.fixture
def lock(tmp_path):
    def write(*lines):
        (tmp_path / "some.lock").write_text("\n".join(lines))
        return [str(tmp_path / "some.lock")]

    return write


def test_this_environment_has_all_that_its_locks_name():
    assert packages.lacking(LOCKS) == []


def test_what_is_missing_is_named(site, lock):
    site("Typing_Extensions", "4.1")
    site("numpy", "2.0.1")
    site("by_hand", "1.0")
    names = lock(
        "typing-extensions==4.1 \\",
        "    --hash=sha256:00 \\",
        "    --hash=sha256:01",
        "    # via numpy",
        "numpy==2.0.0 ; sys_platform != 'win32'",
        "pywin==1.0 ; sys_platform == 'win32'",
        "absent==3",
    )
    folder = site("zope.interface", "5")
    assert packages.lacking(names, [folder]) == ["numpy==2.0.0", "absent==3"]


@pytest.mark.parametrize("left", [["METADATA"], ["METADATA", "INSTALLER"], ["METADATA", "RECORD"]])
def test_package_whose_installation_was_interrupted_is_none(site, lock, left):
    folder = site("numpy", "2.0.0", *left)
    names = lock("numpy==2.0.0", "packaging==26.0")
    assert packages.lacking(names, [folder]) == ["numpy==2.0.0"]
    # pip takes such a package for installed, until this is gone.
    packages.forget_broken(names, [folder])
    assert [path.name for path in folder.iterdir()] == ["packaging-26.0.dist-info"]


def test_package_that_is_there_twice_is_installed_again(site, lock):
    site("numpy", "2.0.0")
    folder = site("numpy", "1.9")
    names = lock("numpy==2.0.0")
    assert packages.lacking(names, [folder]) == ["numpy==2.0.0"]
    packages.forget_broken(names, [folder])
    assert [path.name for path in folder.iterdir()] == ["packaging-26.0.dist-info"]


def test_packages_that_nobody_asked_for_are_left_alone(site, lock):
    folder = site("by_hand", "1.0", "METADATA")
    packages.forget_broken(lock("numpy==2.0.0"), [folder])
    assert (folder / "by_hand-1.0.dist-info").exists()


def test_settings_that_say_where_packages_come_from_are_heeded():
    listed = "\n".join(
        [
            ":env:.user='0'",
            "global.cert='/my certificates.pem'",
            "global.find-links='/first\\n/second'",
            "global.index-url='https://a.example.org'",
            "global.user='true'",
            "install.constraint='mine.txt'",
            "install.index-url='https://b.example.org'",
        ]
    )
    environment = {"PIP_TARGET": "/elsewhere", "PIP_PROXY": "proxy:1", "PIP_TIMEOUT": "9"}
    assert packages.settings_of_pip(listed, environment) == {
        "PIP_CERT": "/my certificates.pem",
        "PIP_FIND_LINKS": "/first\n/second",
        "PIP_INDEX_URL": "https://b.example.org",
        "PIP_PROXY": "proxy:1",
        "PIP_TIMEOUT": "9",
    }


@pytest.fixture
def environment(tmp_path):
    """A virtual environment with the pip of this one, and a folder with one wheel."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True)
    folder = Path(found.stdout.strip())
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.split("-")[0] in ("pip", "packaging"):
            (folder / path.name).symlink_to(path)
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        info = "tiny-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    (tmp_path / "tiny.txt").write_text("tiny==1.0\n")
    return SimpleNamespace(python=python, folder=folder)


def test_no_setting_of_pip_leads_elsewhere(environment, tmp_path):
    """What pip.conf and PIP_… say about where packages go is not heeded; where from, it is."""
    away = {name: tmp_path / name for name in ("target", "prefix", "root", "src")}
    config = tmp_path / "pip.conf"
    options = {"user": "true", "dry-run": "true", "constraint": "no.txt", "platform": "any"}
    options |= {name: str(path) for name, path in away.items()}
    lines = [f"{name} = {value}" for name, value in options.items()]
    source = f"no-index = true\nfind-links = {tmp_path / 'wheels'}\n"
    config.write_text("[global]\n" + source + "\n".join(lines))
    hostile = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in options.items()}
    done = subprocess.run(
        [environment.python, ROOT / "utils/course/packages.py", "install", "tiny.txt"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(config), **hostile},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (environment.folder / "tiny.py").exists()
    assert not [path for path in away.values() if path.exists()]


def test_success_that_is_none_is_refused(monkeypatch, lock):
    monkeypatch.setattr(
        packages.subprocess,
        "run",
        lambda *_, **__: SimpleNamespace(returncode=0, stdout="", stderr=""),
    )
    (name,) = lock("absent==1", "missing==2", "away==3", "gone==4")
    assert packages.install(name) == (
        f"Installing {name} ended well, but absent==1, missing==2, away==3 and others did not "
        f"arrive in {sys.prefix}: look for a setting of pip or Python that leads elsewhere, and "
        "run make again."
    )


def test_failure_of_pip_is_shown(monkeypatch, lock, capsys):
    def fail(command, **_):
        failed = "install" in command
        return SimpleNamespace(returncode=failed, stdout="", stderr="This is ignored\nNo space.\n")

    monkeypatch.setattr(packages.subprocess, "run", fail)
    (name,) = lock("absent==1")
    assert packages.install(name).startswith(f"Installing {name} failed: see the lines above")
    assert capsys.readouterr().err == "No space.\n"
