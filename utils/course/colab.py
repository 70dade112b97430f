"""Runs every lesson as Colab does: a lone notebook, Colab's packages, an empty folder.

    python -m utils.course.colab           every lesson
    python -m utils.course.colab 00 05     these lessons alone

Where the setup cell clones the course from GitHub, git finds this working tree. No cell may stop or
write to stderr, and TensorFlow, Keras, NumPy and protobuf must stay as they were. Each lesson gets
its own copy of `.cache/colab`, the environment of requirements-colab.txt, so that nothing that one
lesson's setup cell installs is there for the next. Needs a network: the setup cell installs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from utils.course.settings import ROOT, Settings, load
from utils.course.setup_cell import setup_cell
from utils.course.versions import VersionsError, make

LIST = "requirements-colab.txt"
PYTHON = "3.13"  # Colab's
# What Colab's own software relies on: the setup cell may add packages, and must leave these alone.
UNTOUCHED = ("tensorflow-cpu", "keras", "numpy", "protobuf")
_SECONDS = 600
# Settings of whoever runs this that Colab does not have.
_OWN = ("PYTHON", "KERAS", "TF_", "TFDS", "JUPYTER", "IPYTHON", "MPL", "VIRTUAL_ENV", "XLA", "JAX")


def publish(folder: Path, settings: Settings) -> dict[str, str]:
    """Commit the working tree to a new repository, and let git find it at the course's address.

    Args:
        folder: where the repository is made.
        settings: the address and the branch.

    Returns:
        The environment variables that redirect git.
    """
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
    for name in map(os.fsdecode, filter(None, names)):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (
        ["init", "--quiet", f"--initial-branch={settings.branch}"],
        ["add", "--all"],
        ["commit", "--quiet", "--message=All"],
    ):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder}.insteadOf",
        "GIT_CONFIG_VALUE_0": settings.url,
    }


def lone(path: Path, settings: Settings):
    """Read a learners' notebook as it would be if the course were published at this address."""
    book = nbformat.read(path, as_version=4)
    [setup] = [cell for cell in book.cells if cell.metadata.get("course", {}).get("setup")]
    setup.source = setup_cell(settings)
    return book


def run(book, python: Path, folder: Path, environment: dict[str, str]) -> list[float]:
    """Run every cell in an environment's own kernel, each whatever the one before did.

    Args:
        book: the notebook, which gets the outputs.
        python: the environment's Python.
        folder: where the kernel starts.
        environment: its variables.

    Returns:
        The seconds of each cell; 0 for a text.
    """
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    spec |= {"display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as kernels:
        (Path(kernels) / "colab").mkdir()
        (Path(kernels) / "colab" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        specs = KernelSpecManager(kernel_dirs=[kernels])
        manager = AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
        resources = {"metadata": {"path": str(folder)}}
        client = NotebookClient(
            book,
            km=manager,
            timeout=_SECONDS,
            allow_errors=True,
            coalesce_streams=True,
            resources=resources,
        )
        seconds = []
        with client.setup_kernel(env=environment, cleanup_kc=True):
            for index, cell in enumerate(book.cells):
                start = time.perf_counter()
                client.execute_cell(cell, index)
                seconds.append(time.perf_counter() - start)
    return seconds


def faults(book) -> list[str]:
    """Return what no learner should see: errors and stderr, with the cell's place and first line.

    >>> from nbformat.v4 import new_code_cell, new_notebook, new_output
    >>> outputs = [new_output("stream", name="stderr", text="W0000 hot")]
    >>> faults(new_notebook(cells=[new_code_cell("1 / 2", outputs=outputs)]))
    ["cell 0 (1 / 2) wrote to stderr: 'W0000 hot'"]
    """
    found = []
    for index, cell in enumerate(book.cells):
        where = f"cell {index} ({cell.source.partition(chr(10))[0]})"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"{where} stopped: {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr":
                found.append(f"{where} wrote to stderr: {output.text.strip()!r}")
    return found


def state(site: Path) -> dict[str, tuple]:
    """Return version, and size and time of every file, of the packages that stay untouched."""
    found = {}
    for name in UNTOUCHED:
        [package] = metadata.distributions(name=name, path=[str(site)])
        stats = [(Path(package.locate_file(file)), str(file)) for file in package.files]
        stats = [(file, path.stat()) for path, file in stats if path.suffix != ".pyc"]
        found[name] = (package.version, [(file, s.st_size, s.st_mtime_ns) for file, s in stats])
    return found


def _lesson(path, base, settings, redirect):
    """Run a lesson and say how it went; return what was wrong."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(_OWN)}
    # The notebook lies outside the course, or its setup cell would find it in a folder above.
    with (
        tempfile.TemporaryDirectory(dir=base.parent) as copy,
        tempfile.TemporaryDirectory() as empty,
        tempfile.TemporaryDirectory() as home,
    ):
        # Hard links: a copy in seconds. pip replaces files and never writes into one.
        shutil.copytree(base, copy, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
        environment = own | redirect | dict.fromkeys(("IPYTHONDIR", "KERAS_HOME"), home)
        environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else it warns in the terminal
        book, [site] = lone(path, settings), Path(copy).glob("lib/python3*/site-packages")
        before, start = state(site), time.perf_counter()
        try:
            seconds = run(book, Path(copy, "bin", "python"), Path(empty), environment)
        except (CellTimeoutError, DeadKernelError) as error:
            return [f"the kernel ended: {error}"]
        total, after = time.perf_counter() - start, state(site)
        wrong = faults(book)
        wrong += [f"{name} was changed" for name in UNTOUCHED if after[name] != before[name]]
        if not Path(empty, settings.name, "course.toml").exists():
            wrong.append("the setup cell did not fetch the course")
        said = [out.text for out in book.cells[1].outputs if out.output_type == "stream"]
        said = "".join(said).strip().replace("\n", " ")
        print(f"{path.stem}: {total:.0f} s, the setup cell {seconds[1]:.0f} s: {said}", flush=True)
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.course.colab", description=__doc__.split("\n")[0]
    )
    parser.add_argument("lessons", nargs="*", metavar="NN", help="run these lessons alone")
    chosen = parser.parse_args(arguments).lessons
    paths = sorted((ROOT / "lessons").glob("*.ipynb"))
    if unknown := set(chosen) - {path.name[:2] for path in paths}:
        print(f"no lesson {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    try:
        python = make("colab", [LIST], PYTHON, exact=True)
    except VersionsError as error:
        print(error, file=sys.stderr)
        return 1
    version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True)
    print(f"{version.stdout.strip()}, with the packages of {LIST}", flush=True)
    settings = Settings("course/nets", load().branch, "Nets")
    failed = False
    with tempfile.TemporaryDirectory() as origin:
        redirect = publish(Path(origin), settings)
        for path in paths:
            if chosen and path.name[:2] not in chosen:
                continue
            for problem in _lesson(path, python.parent.parent, settings, redirect):
                failed = True
                print(f"{path.stem}: {problem}", file=sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
