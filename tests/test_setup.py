"""The setup cell of a lone notebook: it fetches the course, and installs only what is missing."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from utils.course import build, setup
from utils.course.settings import PLACEHOLDER, ROOT, Settings, load

LONE = Settings("ada/nets", load().branch, "Nets")
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
        timeout=120,
        allow_errors=True,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    nbformat.validate(book)
    return [cell.outputs for cell in book.cells]


@pytest.fixture
def _redirected(tmp_path, monkeypatch):
    """Let git find this working tree, as committed to the course's branch, at GitHub's address."""
    origin = tmp_path / "origin"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
    for name in map(os.fsdecode, filter(None, names)):
        if (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, origin / name)
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (
        ["init", "--quiet", f"--initial-branch={LONE.branch}"],
        ["add", "--all"],
        ["commit", "--quiet", "--message=All"],
    ):
        subprocess.run([*git, *command], cwd=origin, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{origin}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", LONE.url)


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


def test_course_that_cannot_be_fetched_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/nothing.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", LONE.url)
    placeholder = build.setup_cell(Settings(PLACEHOLDER, "main", "Nets"))
    nowhere, unreachable = run(tmp_path, placeholder, build.setup_cell(LONE))
    sentences = []
    for outputs in (nowhere, unreachable):
        # An error stops "Run all"; its traceback is what is shown.
        [error] = [output for output in outputs if output.output_type == "error"]
        assert error.traceback == [error.evalue]
        sentences.append(error.evalue)
    assert len(nowhere) == 1
    assert sentences == [
        "This copy of the course does not know where it is published, so its files cannot be "
        "fetched; its owner sets that with: make repository NAME=owner/name",
        f"The course could not be fetched from {LONE.url}: is there a network?",
    ]
    assert not (tmp_path / "nets").exists()


def test_setup_cell_finds_the_course_it_lies_in(tmp_path):
    folder = tmp_path / "course" / "lessons" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "course" / "course.toml").touch()
    for name in ("utils", "requirements.txt"):
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
    """A notebook service with its own packages, and pip's commands as they would be run."""
    service = SimpleNamespace(packages={}, commands=[], code=0)

    def version(name):
        name = name.replace("_", "-")
        if name not in service.packages:
            raise metadata.PackageNotFoundError(name)
        return service.packages[name]

    def pip(command):
        service.commands.append(command)
        return SimpleNamespace(returncode=service.code)

    def find_spec(name):
        return "found" if name in service.packages else None

    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup.metadata, "version", version)
    monkeypatch.setattr(setup.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(setup.subprocess, "run", pip)
    return service


COLAB = {
    "tensorflow": "2.19.0",
    "keras": "3.10.0",
    "numpy": "2.0.2",
    "importlib-resources": "6.5.2",
}


def test_only_what_is_missing_is_installed(service, tmp_path, capsys):
    service.packages |= COLAB
    setup.install_missing()
    [command] = service.commands
    constraints = tmp_path / ".cache" / "constraints.txt"
    assert command == [
        *[sys.executable, "-m", "pip", "install", "--quiet", "-c", str(constraints)],
        "elpv-dataset==1.0.0.post1",
    ]
    # Whatever the missing packages ask for, these stay as they are.
    assert constraints.read_text().splitlines() == [
        "tensorflow==2.19.0",
        "keras==3.10.0",
        "numpy==2.0.2",
    ]
    assert capsys.readouterr().out == "Installing elpv-dataset.\n"


def test_nothing_is_installed_where_nothing_is_missing(service, capsys):
    service.packages |= COLAB | {"elpv-dataset": "1.0.0.post1"}
    setup.install_missing()
    assert service.commands == []
    assert capsys.readouterr() == ("", "")


def test_bare_python_gets_what_a_lesson_needs(service):
    setup.install_missing()
    assert [re.match(r"[\w-]+", line)[0] for line in service.commands[0][7:]] == [
        "tensorflow-cpu",
        "tensorflow",
        "keras",
        "importlib_resources",
        "elpv-dataset",
    ]


def test_failed_installation_is_one_sentence(service):
    service.packages |= COLAB
    service.code = 1
    with pytest.raises(setup.Stop) as caught:
        setup.install_missing()
    said = "Installing elpv-dataset failed: see the lines above."
    assert str(caught.value) == said
    assert caught.value._render_traceback_() == [said]


def test_real_requirements_are_all_known():
    assert setup.missing() == []
