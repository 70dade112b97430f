"""The script behind `make`: where the course cannot run it says so, and installs nothing.

No test installs a package: every Python that the script meets here is a stand-in that notes how it
is called.
"""

import shutil
import subprocess

import pytest

from utils.course.settings import ROOT

SCRIPT = ROOT / "utils" / "course" / "environment.sh"
TOOLS = ("awk", "cat", "cksum", "echo", "grep", "head", "id", "mkdir", "rm", "sh")
LOCKS = ("requirements.lock", "requirements-dev.lock")
PYTHON = """\
#!/bin/sh
echo "python $*" >> {log}
case "$*" in
    *sys.exit*) exit {unsupported} ;;
    *machine*) echo {machine} ;;
    *version_info*) echo "(3, 12)" ;;
    --version) echo "Python {version}" ;;
    *ensurepip*) exit {bare} ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *pip\\ install*) exit {pip} ;;
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
        for name in (*TOOLS, "cp"):
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

    def run(self, *arguments):
        """Run the script; return exit code, stdout, stderr and the calls of a Python."""
        self.log.write_text("")
        done = subprocess.run(
            ["/bin/sh", "utils/course/environment.sh", *arguments],
            cwd=self.course,
            env={"PATH": str(self.bin), "HOME": str(self.course.parent)},
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
        assert not [call for call in calls if "-m pip" in call or "-m venv" in call]
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
    assert "python -m venv .venv" in calls


def test_start_installs_once_and_then_does_nothing(machine):
    machine.python()
    code, out, error, calls = machine.run("lab")
    assert (code, error) == (0, "")
    installs = [call for call in calls if "pip install" in call]
    assert len(installs) == 1
    assert installs[0].endswith("--no-deps --require-hashes -r requirements.lock")
    assert "2.3 GB" in out

    # The second start asks the environment whether it still runs, and no more.
    assert machine.run("lab") == (0, "", "", ["python -c "])

    # Tests need more, and only that is added.
    code, out, error, calls = machine.run("dev")
    installs = [call for call in calls if "pip install" in call]
    assert [call.rsplit(" ", 1)[1] for call in installs] == ["requirements-dev.lock"]
    assert machine.run("dev") == machine.run("lab") == (0, "", "", ["python -c "])


def test_changed_lock_is_installed(machine):
    machine.python()
    machine.run("lab")
    with open(machine.course / "requirements.lock", "a") as lock:
        lock.write("# changed\n")
    calls = machine.run("lab")[3]
    assert [call for call in calls if "pip install" in call]
    assert not [call for call in calls if "-m venv" in call]
    assert machine.run("lab") == (0, "", "", ["python -c "])


def test_failed_installation_is_tried_again(machine):
    machine.python(pip=1)
    code, _, error, _ = machine.run("lab")
    assert code == 1
    assert "Installing requirements.lock failed" in error
    code, _, _, calls = machine.run("lab")
    assert code == 1
    assert [call for call in calls if "pip install" in call]


def test_moved_folder_gets_a_new_environment(machine):
    machine.python()
    machine.run("lab")
    machine.course = machine.course.rename(machine.course.with_name("moved"))
    code, _, _, calls = machine.run("lab")
    assert code == 0
    assert "python -m venv .venv" in calls
    assert [call for call in calls if "pip install" in call]


def test_other_choice_makes_a_new_environment(machine):
    machine.python()
    machine.run("lab")
    machine.python("mine", version="3.11.9")
    code, _, _, calls = machine.run("lab", "mine")
    assert code == 0
    assert calls
    assert machine.run("lab", "mine") == (0, "", "", ["python -c "])
