"""The script behind `make`: where the course cannot run it says so, and installs nothing.

No test installs a package: every Python that the script meets here is a stand-in that notes how it
is called.
"""

import shutil
import subprocess

import pytest

from utils.course.settings import ROOT

SCRIPT = ROOT / "utils" / "course" / "environment.sh"
TOOLS = ("cat", "cksum", "cp", "env", "find", "head", "ls", "mkdir", "readlink", "rm", "sed", "sh")
CHECK = "python utils/course/packages.py check requirements.lock"
LOCKS = ("requirements.lock", "requirements-dev.lock")
PYTHON = """\
#!/bin/sh
echo "python $*" >> {log}
[ -z "${{PYTHONHOME-}}" ] || exit 1
case "$*" in
    *sys.exit*) exit {unsupported} ;;
    *machine*) echo {machine} ;;
    *version_info*) echo "(3, 12)" ;;
    --version) echo "Python {version}" ;;
    *ensurepip*) exit {bare} ;;
    *venv\\ --clear*)
        [ ! -L "$4" ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python &&
            echo > .venv/pyvenv.cfg ;;
    *packages.py\\ check*) [ -e .venv/whole ] ;;
    *packages.py\\ install*) [ {pip} = 0 ] && echo > .venv/whole ;;
esac
"""


class Machine:
    """A folder with the course's files, and a PATH with stand-ins alone."""

    def __init__(self, folder):
        self.course, self.bin, self.log = folder / "a course", folder / "bin", folder / "log"
        (self.course / "utils" / "course").mkdir(parents=True)
        self.bin.mkdir()
        self.log.touch()
        shutil.copy(SCRIPT, self.course / "utils" / "course")
        for name in ("course.toml", *LOCKS):
            shutil.copy(ROOT / name, self.course)
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name))
        self.uname("Linux", "x86_64")

    def program(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def uname(self, system, machine):
        self.program("uname", f'#!/bin/sh\n[ "$1" = -s ] && echo {system} || echo {machine}\n')

    def python(self, name="python3", version="3.12.1", machine="x86_64", bare=0, pip=0):
        major, minor = map(int, version.split(".")[:2])
        unsupported = int(not (3, 11) <= (major, minor) <= (3, 13))
        fields = {"log": self.log, "version": version, "machine": machine, "bare": bare, "pip": pip}
        return self.program(name, PYTHON.format(unsupported=unsupported, **fields))

    def run(self, *arguments, **environment):
        """Run the script; return exit code, stdout, stderr and the calls of a Python."""
        self.log.write_text("")
        done = subprocess.run(
            ["/bin/sh", "utils/course/environment.sh", *arguments],
            cwd=self.course,
            env={"PATH": str(self.bin), "HOME": str(self.course.parent), **environment},
            capture_output=True,
            text=True,
        )
        calls = self.log.read_text().splitlines()
        return done.returncode, done.stdout, done.stderr, calls

    def refuses(self, *arguments):
        """Run the script where it must stop, and return its one sentence."""
        code, out, error, calls = self.run(*arguments)
        assert (code, out) == (1, "")
        assert error.count("\n") == 1
        assert not (self.course / ".venv").exists()
        assert not [call for call in calls if " install " in call or "-m venv" in call]
        return error.strip()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_unsupported_python(machine):
    machine.python(version="3.10.4")
    assert machine.refuses("lab") == (
        "The course needs Python 3.11, 3.12 or 3.13 and found Python 3.10.4; install one, or name "
        "it: make lab PYTHON=/path/to/python3.12"
    )


def test_no_python(machine):
    assert "and found none; install one" in machine.refuses("lab")


def test_too_new_python(machine):
    machine.python(version="3.14.0")
    assert "and found Python 3.14.0; install one" in machine.refuses("dev")


@pytest.mark.parametrize(
    ("system", "processor", "sentence"),
    [
        (
            "Darwin",
            "x86_64",
            "TensorFlow has no package for Macs with an Intel processor, so the course cannot run "
            "here; open its lessons in Colab (badges in README.md).",
        ),
        ("Linux", "aarch64", "this is Linux aarch64"),
        ("MINGW64_NT-10.0", "x86_64", "this is MINGW64_NT-10.0 x86_64"),
    ],
)
def test_unsupported_platform(machine, system, processor, sentence):
    machine.python()
    machine.uname(system, processor)
    assert sentence in machine.refuses("lab")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("python9", "PYTHON=python9: there is no such program."),
        ("/no/python3.12", "PYTHON=/no/python3.12: there is no such program."),
        (
            "python3.8",
            "PYTHON=python3.8 is Python 3.8.1; the course needs Python 3.11, 3.12 or 3.13.",
        ),
    ],
)
def test_wrong_choice(machine, name, sentence):
    machine.python()
    machine.python("python3.8", version="3.8.1")
    assert machine.refuses("lab", name) == sentence


def test_python_for_another_processor(machine):
    machine.uname("Darwin", "arm64")
    machine.python(machine="x86_64")
    assert machine.refuses("lab") == (
        "python3 is built for x86_64 but this machine is arm64; use a native Python."
    )


def test_python_without_venv(machine):
    machine.python(bare=1)
    assert "lacks the venv or ensurepip module" in machine.refuses("lab")


def test_elsewhere_than_in_the_course(machine):
    (machine.course / "course.toml").unlink()
    assert machine.refuses("lab") == "Run make in the folder of the course, where course.toml lies."


def test_next_best_python_is_taken(machine):
    machine.python(version="3.9.2")
    machine.python("python3.13", version="3.13.0")
    code, out, error, calls = machine.run("lab")
    assert (code, error) == (0, "")
    assert out.startswith("Making .venv with Python 3.13.0 (python3.13).\n")
    assert "python -m venv --clear .venv" in calls


def test_start_installs_once_and_then_does_nothing(machine):
    machine.python()
    code, out, error, calls = machine.run("lab")
    assert (code, error) == (0, "")
    installs = [call for call in calls if " install " in call]
    assert installs == ["python utils/course/packages.py install requirements.lock"]
    assert "2.3 GB" in out

    # The second start asks whether the environment still has all of it, and no more.
    assert machine.run("lab") == (0, "", "", [CHECK])

    # Tests need more, and only that is added.
    code, out, error, calls = machine.run("dev")
    installs = [call for call in calls if " install " in call]
    assert [call.rsplit(" ", 1)[1] for call in installs] == ["requirements-dev.lock"]
    assert machine.run("dev") == (0, "", "", [f"{CHECK} requirements-dev.lock"])
    assert machine.run("lab") == (0, "", "", [CHECK])


def test_changed_lock_is_installed(machine):
    machine.python()
    machine.run("lab")
    with open(machine.course / "requirements.lock", "a") as lock:
        lock.write("# changed\n")
    calls = machine.run("lab")[3]
    assert [call for call in calls if " install " in call]
    assert not [call for call in calls if "-m venv" in call]
    assert machine.run("lab") == (0, "", "", [CHECK])


def test_failed_installation_is_tried_again(machine):
    machine.python(pip=1)
    assert machine.run("lab")[0] == 1
    code, _, _, calls = machine.run("lab")
    assert code == 1
    assert [call for call in calls if " install " in call]


def test_moved_folder_gets_a_new_environment(machine):
    machine.python()
    machine.run("lab")
    machine.course = machine.course.rename(machine.course.with_name("moved"))
    code, _, _, calls = machine.run("lab")
    assert code == 0
    assert "python -m venv --clear .venv" in calls
    assert [call for call in calls if " install " in call]


def test_other_choice_makes_a_new_environment(machine):
    machine.python()
    machine.run("lab")
    machine.python("mine", version="3.11.9")
    code, _, _, calls = machine.run("lab", "mine")
    assert code == 0
    assert calls
    assert machine.run("lab", "mine") == (0, "", "", [CHECK])


def test_what_was_removed_is_installed_again(machine):
    machine.python()
    machine.run("dev")
    (machine.course / ".venv" / "whole").unlink()
    code, _, _, calls = machine.run("lab")
    assert code == 0
    assert "python utils/course/packages.py install requirements.lock" in calls
    # Tests do not trust the rest of it, either.
    calls = machine.run("dev")[3]
    assert "python utils/course/packages.py install requirements-dev.lock" in calls


def test_nothing_is_stamped_that_did_not_arrive(machine):
    machine.python(pip=1)
    for _ in range(2):
        assert machine.run("lab")[0] == 1
        assert not (machine.course / ".venv" / "installed").exists()


def test_settings_for_another_python_do_not_matter(machine):
    machine.python()
    assert machine.run("lab", PYTHONHOME="/elsewhere")[0] == 0
    assert machine.run("lab", PYTHONHOME="/elsewhere") == (0, "", "", [CHECK])


def test_empty_choice_is_none(machine):
    machine.python()
    machine.run("lab")
    assert machine.run("lab", "") == (0, "", "", [CHECK])


def test_choice_with_a_space(machine):
    machine.python("my python")
    assert machine.run("lab", str(machine.bin / "my python"))[0] == 0


def test_folder_reached_through_a_link_is_the_same_folder(machine):
    machine.python()
    machine.run("lab")
    link = machine.course.with_name("link")
    link.symlink_to(machine.course)
    machine.course = link
    assert machine.run("lab", PWD=str(link)) == (0, "", "", [CHECK])


@pytest.fixture
def disk(machine):
    """A folder elsewhere, to which .venv is a link."""
    folder = machine.course.parent / "a larger disk"
    folder.mkdir()
    (machine.course / ".venv").symlink_to(folder)
    return folder


def test_link_to_a_larger_disk_stays(machine, disk):
    machine.python()
    assert machine.run("lab")[0] == 0
    assert machine.run("lab") == (0, "", "", [CHECK])
    machine.python("mine", version="3.11.9")
    (disk / "made").write_text("another folder")
    assert machine.run("lab", "mine")[0] == 0
    assert (machine.course / ".venv").readlink() == disk
    assert (disk / "bin" / "python").exists()
    assert machine.run("clean")[:3] == (0, "", "")
    assert (machine.course / ".venv").readlink() == disk
    assert not list(disk.iterdir())


@pytest.mark.parametrize("goal", ["lab", "dev", "clean"])
def test_link_to_anything_else_is_left_alone(machine, disk, goal):
    machine.python()
    (disk / "thesis.txt").touch()
    code, out, error, calls = machine.run(goal)
    assert (code, out, calls) == (1, "", [])
    assert error.startswith(f".venv is a link to {disk}, and something else than an environment")
    assert (disk / "thesis.txt").exists()


def test_link_to_nothing(machine, disk):
    machine.python()
    disk.rmdir()
    code, out, error, calls = machine.run("lab")
    assert (code, out, calls) == (1, "", [])
    assert error == (
        f".venv is a link to {disk}, and there is no such folder: make it, or remove the link.\n"
    )


def test_clean_removes_the_environment(machine):
    machine.python()
    machine.run("lab")
    assert machine.run("clean")[:3] == (0, "", "")
    assert not (machine.course / ".venv").exists()
