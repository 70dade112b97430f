"""The setup cell of a lone notebook: it fetches the course, and installs only what is missing."""

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from utils.course import build, colab, setup
from utils.course.settings import PLACEHOLDER, ROOT, Settings, load

LONE = Settings("ada/nets", load().branch, "Nets")
CELL = build.setup_cell(LONE)
FETCHED = f"The course could not be fetched from {LONE.url}:"
REQUIREMENTS = """\
# Direct dependencies.
tensorflow-cpu>=2.20,<2.22 ; sys_platform == "linux"
tensorflow>=2.20,<2.22 ; sys_platform == "darwin"
keras>=3.12,<3.16
jupyterlab>=4.4,<5
ipykernel>=6.29,<8
nbval==0.11.0
pytest>=9,<10
importlib_resources>=6
elpv-dataset==1.0.0.post1
"""


def run(folder, *sources):
    """Run cells in a kernel that starts in `folder`, each whatever the one before did."""
    book = new_notebook(cells=[new_code_cell(source) for source in sources])
    NotebookClient(
        book,
        timeout=600,
        allow_errors=True,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    nbformat.validate(book)
    return [cell.outputs for cell in book.cells]


@pytest.fixture
def _redirected(tmp_path, monkeypatch):
    """Let git find this working tree, as committed to the course's branch, at GitHub's address."""
    for name, value in colab.publish(tmp_path / "origin", LONE).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_redirected")
def test_lone_notebook_fetches_the_course(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "empty"
    folder.mkdir()
    cell = build.setup_cell(LONE)
    seen = "import os, utils; print(os.path.realpath(utils.__file__), sys.path[0])"
    points = 'check("conv_macs", ...)'
    first, where, checked, again = run(folder, cell, seen, points, cell)
    fetched = os.path.realpath(folder / "nets")
    assert where[0].text == f"{fetched}/utils/__init__.py {fetched}\n"
    assert checked[0].data["text/plain"] == "0.0"
    assert "Not attempted" in checked[0].data["text/html"]
    # Nothing to read when all is well, and a second run does not fetch again.
    assert first == again == []
    head = subprocess.run(
        ["git", "rev-parse", "--abbrev-ref", "HEAD"], cwd=fetched, capture_output=True, text=True
    )
    assert head.stdout.strip() == LONE.branch


def test_stop_in_a_kernel_is_one_sentence_and_ends_run_all(tmp_path):
    [outputs] = run(tmp_path, build.setup_cell(Settings(PLACEHOLDER, "main", "Nets")))
    [error] = [output for output in outputs if output.output_type == "error"]
    assert error.traceback == [error.evalue]
    assert error.evalue == (
        "This copy of the course does not know where it is published, so its files cannot be "
        "fetched; its owner sets that with: make repository NAME=owner/name"
    )


def stopped(folder, before="", **variables):
    """Run the setup cell of a lone notebook in `folder`; return its sentence."""
    code = (
        f"{before}\ntry: exec({CELL!r})\nexcept Exception as e: print(type(e).__name__, e, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ} | variables,
        capture_output=True,
        text=True,
    )
    name, _, sentence = done.stdout.strip().partition("|")
    assert (name, done.stderr) == ("Stop", "")
    return sentence


def git_that(folder, commands):
    """A git that does these commands of a shell; return the variables that let it be found."""
    (folder / "bin").mkdir()
    git = folder / "bin" / "git"
    git.write_text(f"#!/bin/sh\n{commands}\n")
    git.chmod(0o755)
    return {"PATH": f"{git.parent}:{os.environ['PATH']}"}


def redirect(origin):
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": LONE.url,
    }


@pytest.fixture
def empty(tmp_path):
    """The folder of a lone notebook, to be left as it was."""
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder.resolve()
    assert list(folder.iterdir()) == []


def test_repository_that_is_not_there(empty, tmp_path):
    said = stopped(empty, **redirect(tmp_path / "nothing"))
    assert said == f"{FETCHED} is there such a public repository?"


def test_repository_without_the_branch(empty, tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    said = stopped(empty, **redirect(tmp_path / "bare"))
    assert said == f"{FETCHED} it has no branch {LONE.branch}."


@pytest.mark.parametrize(
    "line, cause",
    {
        "fatal: unable to access '…': Could not resolve host: github.com": "is there a network?",
        "fatal: unable to access '…': Failed to connect to github.com port 443": (
            "is there a network?"
        ),
        "fatal: could not read Username for '…': terminal prompts disabled": (
            "is there such a public repository?"
        ),
        "fatal: repository '…' not found": "is there such a public repository?",
        "fatal: write error: No space left on device": "the disk is full.",
        "error: one\nfatal: something new": "fatal: something new",
    }.items(),
)
def test_what_git_says_is_told_in_plain_words(empty, tmp_path, line, cause):
    # Git must not ask for a password: in a notebook nobody can answer.
    commands = f'[ "$GIT_TERMINAL_PROMPT" = 0 ] && echo "{line}" >&2; exit 128'
    assert stopped(empty, **git_that(tmp_path, commands)) == f"{FETCHED} {cause}"


def test_no_git(empty, tmp_path):
    said = stopped(empty, PATH=str(tmp_path))
    assert said == "The course is fetched with git: install git, and run this cell again."


def test_interrupted_download_leaves_nothing(empty, tmp_path):
    # The last argument is where git writes; Python is told to stop while it waits.
    commands = (
        'for last; do :; done; mkdir "$last"; touch "$last/course.toml"; kill -INT $PPID; sleep 60'
    )
    code = f"exec({CELL!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=empty,
        env=os.environ | git_that(tmp_path, commands),
        capture_output=True,
        text=True,
    )
    assert done.stderr.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("make", ["mkdir nets; touch nets/mine", "touch nets", "ln -s no nets"])
def test_something_of_that_name_is_in_the_way(tmp_path, make):
    subprocess.run(make, shell=True, cwd=tmp_path, check=True)
    before = sorted(tmp_path.rglob("*"))
    assert stopped(tmp_path) == (
        f"{tmp_path.resolve()}/nets is in the way of the course: rename it, and run this cell "
        "again."
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_that_cannot_be_written(empty):
    # Who runs the tests may be root, to whom every folder is open.
    refuse = """
import os, tempfile
def mkdir(*_):
    raise PermissionError(13, "Permission denied")
os.mkdir = mkdir"""
    assert stopped(empty, refuse) == (
        f"{empty}/nets cannot be made (Permission denied): run this notebook in a folder that you "
        "can write to."
    )


def test_folder_that_is_gone(tmp_path):
    gone = "import os, pathlib; pathlib.Path('gone').mkdir(); os.chdir('gone'); os.rmdir('../gone')"
    assert stopped(tmp_path, gone) == (
        "The folder of this notebook was deleted: restart the kernel."
    )


@pytest.mark.parametrize(
    "files, seen",
    {
        "utils.py": "{}/utils.py",
        "utils/__init__.py": "{}/utils/__init__.py",
        "utils/other.py": "['{}/utils']",
    }.items(),
)
def test_another_module_named_utils(tmp_path, files, seen):
    file = tmp_path / "mine" / files
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "nets").symlink_to(ROOT)
    before = f"import sys; sys.path.insert(0, '{tmp_path}/mine'); import utils"
    said = stopped(tmp_path, before)
    assert said == (
        f"Another module named utils ({seen.format(tmp_path / 'mine')}) was imported before: "
        "restart the kernel (in Colab: Runtime > Restart session), and run this cell first."
    )


def test_python_too_old(empty):
    old = "import sys; sys.version_info = (3, 10, 13)"
    assert stopped(empty, old) == (
        "The course needs Python 3.11 or newer, and this kernel has 3.10."
    )
    ast.parse(CELL, feature_version=(3, 7))  # an old Python must get as far as that sentence


def test_second_run_from_elsewhere_finds_the_same_course(tmp_path):
    code = f"exec({CELL!r}); first = course; os.chdir({str(tmp_path)!r}); exec({CELL!r}); "
    code += "print(course == first)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "lessons", capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_own_folder_named_utils_does_not_shadow_the_course(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").touch()
    (tmp_path / "nets").symlink_to(ROOT)
    code = f"exec({CELL!r}); print(check.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("utils.course.feedback\n", "")


def test_setup_cell_finds_the_course_it_lies_in(tmp_path):
    folder = tmp_path / "course" / "lessons" / "mine"
    folder.mkdir(parents=True)
    for name in ("course.toml", "utils", "requirements.txt"):
        (tmp_path / "course" / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-c", f"{build.setup_cell(LONE)}\nprint(course)"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'course'}\n", "")


def test_setup_needs_no_package_that_it_may_have_to_install():
    code = (
        "import sys, utils.course.setup; print([m for m in ('numpy', 'keras') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A notebook service with its own packages, and pip, which succeeds unless `code` is set.

    `commands` are what pip was asked for, `pins` what it was told to leave; `loads` answers the
    question whether tensorflow-metadata loads, and pip may change that.
    """
    service = SimpleNamespace(packages={}, commands=[], pins=[], code=0, loads=True, adds=True)

    def version(name):
        name = name.replace("_", "-")
        if name not in service.packages:
            raise metadata.PackageNotFoundError(name)
        return service.packages[name]

    def process(command, **_):
        if command[1:] == ["-c", "import tensorflow_metadata.proto"]:
            return SimpleNamespace(returncode=0 if service.loads else 1)
        head, constraints, lines = command[:6], command[6], command[7:]
        assert head == [sys.executable, "-m", "pip", "install", "--quiet", "-c"]
        with open(constraints) as file:
            service.pins.append(file.read().splitlines())
        service.commands.append(lines)
        if service.code == 0 and service.adds:
            names = [re.match(r"[\w-]+", line)[0].replace("_", "-") for line in lines]
            service.packages.update(dict.fromkeys(names, "1"))
            service.loads |= "tensorflow-metadata" in names
        warning = "ERROR: pip's dependency resolver found conflicts\n"
        return SimpleNamespace(returncode=service.code, stdout="", stderr=warning)

    def find_spec(name):
        return "found" if name in service.packages else None

    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup.metadata, "version", version)
    monkeypatch.setattr(setup.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(setup.subprocess, "run", process)
    monkeypatch.delitem(sys.modules, "tensorflow_datasets", raising=False)
    return service


# Other versions than here, so that what is read is the service's.
COLAB = {
    "tensorflow": "2.19.0",
    "keras": "3.10.0",
    "numpy": "2.0.2",
    "protobuf": "5.29.6",
    "importlib-resources": "6.5.2",
}
PINS = ["tensorflow==2.19.0", "keras==3.10.0", "numpy==2.0.2", "protobuf==5.29.6"]


def test_only_what_is_missing_is_installed(service, capsys):
    service.packages |= COLAB
    setup.install_missing()
    # Whatever the missing packages ask for, these stay as they are; and pip's warnings are not for
    # learners.
    assert (service.commands, service.pins) == ([["elpv-dataset==1.0.0.post1"]], [PINS])
    assert capsys.readouterr() == ("Installing elpv-dataset.\n", "")


def test_nothing_is_installed_where_nothing_is_missing(service, capsys):
    service.packages |= COLAB | {"elpv-dataset": "1.0.0.post1"}
    setup.install_missing()
    setup.mend_metadata()
    assert service.commands == []
    assert capsys.readouterr() == ("", "")


def test_bare_python_gets_what_a_lesson_needs(service):
    setup.install_missing()
    assert [re.match(r"[\w-]+", line)[0] for line in service.commands[0]] == [
        "tensorflow-cpu",
        "tensorflow",
        "keras",
        "importlib_resources",
        "elpv-dataset",
    ]
    assert service.pins == [[]]


def test_failed_installation_is_one_sentence_after_what_pip_said(service, capsys):
    service.packages |= COLAB
    service.code = 1
    with pytest.raises(setup.Stop) as caught:
        setup.install_missing()
    said = "Installing elpv-dataset failed: see the lines above."
    assert str(caught.value) == said
    assert caught.value._render_traceback_() == [said]
    assert capsys.readouterr().err.startswith("ERROR: pip's dependency resolver")


def test_installed_elsewhere_is_one_sentence(service):
    service.packages |= COLAB
    service.adds = False
    with pytest.raises(setup.Stop, match="has put elpv-dataset where this Python does not look"):
        setup.install_missing()


@pytest.mark.parametrize("protobuf", ["4.25.9", "5.29.6", "6.30.2"])
def test_metadata_that_this_protobuf_cannot_load_is_replaced(service, protobuf, capsys):
    service.packages |= COLAB | {"protobuf": protobuf}
    service.loads = False
    setup.mend_metadata()
    pins = [*PINS[:-1], f"protobuf=={protobuf}"]
    assert (service.commands, service.pins) == ([["tensorflow-metadata==1.17.3"]], [pins])
    said = f"Installing tensorflow-metadata==1.17.3 for protobuf {protobuf}.\n"
    assert capsys.readouterr() == (said, "")


def test_metadata_that_cannot_be_mended_is_one_sentence(service):
    service.packages |= COLAB
    service.loads = service.adds = False
    with pytest.raises(setup.Stop) as caught:
        setup.mend_metadata()
    assert str(caught.value) == (
        "tensorflow-datasets cannot be imported here, even with tensorflow-metadata==1.17.3 for "
        "protobuf 5.29.6."
    )


@pytest.mark.parametrize("loads", [False, True])
def test_kernel_that_has_half_of_tfds_must_restart(service, monkeypatch, loads):
    # Also in a second run, when the package on disk is mended already.
    service.packages |= COLAB
    service.loads = loads
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", ModuleType("tensorflow_datasets"))
    with pytest.raises(setup.Stop) as caught:
        setup.mend_metadata()
    assert str(caught.value) == (
        "tensorflow_datasets was imported before it worked: restart the kernel (in Colab: Runtime "
        "> Restart session), and run this cell first."
    )
    assert len(service.commands) == (not loads)


def test_whole_tfds_is_left_alone(service, monkeypatch):
    whole = ModuleType("tensorflow_datasets")
    whole.core = ModuleType("tensorflow_datasets.core")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", whole)
    service.loads = False
    setup.mend_metadata()
    assert service.commands == []


def test_metadata_is_tried_in_a_process_of_its_own(tmp_path, monkeypatch):
    assert setup._metadata_loads()
    # Generated by a newer protobuf than there is.
    package = tmp_path / "tensorflow_metadata" / "proto"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("raise RuntimeError('gencode 99.0.0')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert not setup._metadata_loads()


def test_real_requirements_are_all_known():
    assert setup.missing() == []
