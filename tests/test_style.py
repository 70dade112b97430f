"""Lint and format, as tests, so that `make test` ends in one summary."""

import subprocess

import pytest
from ruff import find_ruff_bin

from utils.course.settings import ROOT


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(command):
    ruff = [find_ruff_bin(), *command, "--no-cache", "."]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
