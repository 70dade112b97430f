"""A small course in a folder of its own, for the tests of the machinery."""

import gc
import itertools
import shutil
import sys

import pytest

from tests.small_course import LESSON, OTHER, README, borrow_rules
from utils.course import build
from utils.course.settings import PLACEHOLDER, ROOT

DONE = itertools.count(1)


@pytest.fixture(autouse=True)
def memory():
    """Let go of the models of earlier tests now and then: they refer to themselves in circles."""
    yield
    if next(DONE) % 50 == 0 and "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
        gc.collect()


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of a small course of two lessons, built once; not to be changed."""
    root = tmp_path_factory.mktemp("course")
    for folder in ("solutions", "lessons", "data/images"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "data/images/open-in-colab.png", root / "data/images")
    (root / "utils").symlink_to(ROOT / "utils")
    (root / "course.toml").write_text(
        f'# Where.\nrepository = "{PLACEHOLDER}"\nbranch = "main"\ntitle = "Small"\n'
    )
    (root / "README.md").write_text(README)
    (root / "solutions/90_small.py").write_text(LESSON)
    (root / "solutions/91_other.py").write_text(OTHER)
    with pytest.MonkeyPatch.context() as patch:
        borrow_rules(patch)
        assert build.main([], root) == 0
    return root


@pytest.fixture
def course(built, tmp_path, monkeypatch):
    """A copy of the small course, to be changed."""
    borrow_rules(monkeypatch)
    return shutil.copytree(built, tmp_path / "course", symlinks=True)
