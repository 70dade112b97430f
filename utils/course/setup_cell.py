"""The first cell of every lesson: it finds the course, or fetches it, and prepares the kernel."""

from string import Template

from utils.course.settings import Settings

_CELL = Template("""\
# Setup: find the course, or fetch it where this notebook stands alone (for example in Colab).
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


class Stop(Exception):
    def _render_traceback_(self):
        return [str(self)]  # the sentence, without a traceback


def fetch(folder):
$fetch


if sys.version_info < (3, 11):
    python = ".".join(map(str, sys.version_info[:2]))
    raise Stop("The course needs Python 3.11 or newer, and this kernel has " + python + ".")
try:
    here = Path.cwd()
except FileNotFoundError:
    raise Stop("The folder of this notebook was deleted: restart the kernel.") from None
places = [here, *here.parents, here / "$name", *map(Path, sys.path)]
found = (place for place in places if os.path.exists(place / "utils/course/setup.py"))
course = (next(found, None) or fetch(here / "$name")).resolve()
utils = sys.modules.get("utils")
paths = [os.path.realpath(path) for path in getattr(utils, "__path__", [])]
if utils and str(course / "utils") not in paths:
    raise Stop(
        f"Another module named utils ({getattr(utils, '__file__', None) or paths}) was imported "
        "before: restart the kernel (in Colab: Runtime > Restart session), and run this cell first."
    )
sys.path.insert(0, str(course))
import utils.course.setup

from utils.course import check, progress""")
_FETCH = """\
    if os.path.lexists(folder):
        raise Stop(f"{folder} is in the way of the course: rename it, and run this cell again.")
    if not shutil.which("git"):
        raise Stop("The course is fetched with git: install git, and run this cell again.")
    url, branch = "$url", "$branch"
    environment = os.environ | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        # An interrupted download leaves nothing behind: the folder gets its name at the end.
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            clone = ["git", "clone", "-q", "--depth=1", "-b", branch, url, f"{scratch}/course"]
            done = subprocess.run(
                clone, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if done.returncode == 0:
                os.rename(f"{scratch}/course", folder)
                return folder
    except OSError as error:
        raise Stop(
            f"{folder} cannot be made ({error.strerror}): run this notebook in a folder that you "
            "can write to."
        ) from None
    causes = {
        "No space left": "the disk is full.",
        "resolve host|[Cc]onnect|timed out|unreachable|hung up": "is there a network?",
        "Remote branch": f"it has no branch {branch}.",
        "not found|not appear|Username|Authentication": "is there such a public repository?",
    }
    said = done.stderr.strip()
    cause = next((causes[key] for key in causes if re.search(key, said)), said.split("\\n")[-1])
    raise Stop(f"The course could not be fetched from {url}: {cause}")"""
_NOWHERE = """\
    raise Stop(
        "This copy of the course does not know where it is published, so its files cannot be "
        "fetched; its owner sets that with: make repository NAME=owner/name"
    )"""


def setup_cell(settings: Settings) -> str:
    """Return the first cell of every lesson, which finds the course or fetches it.

    >>> print(setup_cell(Settings("ada/nets", "main", "Networks")).splitlines()[0])
    # Setup: find the course, or fetch it where this notebook stands alone (for example in Colab).
    """
    fetch = Template(_FETCH if settings.published else _NOWHERE)
    fetch = fetch.substitute(url=settings.url, branch=settings.branch)
    return _CELL.substitute(name=settings.name, fetch=fetch)
