"""What the workflows on GitHub must have, since nothing runs them here."""

import re
from itertools import chain

import pytest
import yaml

from utils.course.settings import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path):
    return yaml.safe_load(path.read_text())


def granted(workflow):
    """All permissions of a workflow and its jobs."""
    owners = [workflow, *workflow["jobs"].values()]
    return [value for owner in owners for value in owner.get("permissions", {}).values()]


def commands(workflow):
    """The commands of all steps, once for each value of the matrix."""
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for run in (step["run"] for step in job["steps"] if "run" in step):
            found = re.findall(r"\$\{\{ matrix\.(\w+) \}\}", run)
            filled = [run]
            for name in found:
                hole = f"${{{{ matrix.{name} }}}}"
                filled = [text.replace(hole, value) for text in filled for value in matrix[name]]
            yield from filled


def targets(text):
    """The targets in a command that calls make, each as its first argument."""
    return re.findall(r"\bmake ([a-z-]+)", text)


def test_workflows_are_read():
    assert [path.stem for path in WORKFLOWS] == ["repository", "test", "versions"]
    assert targets("make test-x PYTHON=python; make a && echo make") == ["test-x", "a"]


@each_workflow
def test_actions_are_pinned_by_commit_with_their_version(path):
    lines = re.findall(r"\buses: *(.*)", path.read_text())
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_version():
    lines = chain.from_iterable(re.findall(r"\buses: *(.*)", p.read_text()) for p in WORKFLOWS)
    pins = {tuple(line.split("@")) for line in lines}
    assert len(pins) == len({action for action, _ in pins})


@each_workflow
def test_limits(path):
    workflow = read(path)
    assert set(workflow["permissions"].items()) == {("contents", "read")}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    writes = "write" in granted(workflow)
    assert writes == (path.stem == "repository")
    # What may write is never cut short, all else gives way to the next push.
    assert workflow["concurrency"]["group"]
    assert workflow["concurrency"]["cancel-in-progress"] == (not writes)


@each_workflow
def test_only_what_writes_keeps_credentials_and_pip_has_a_cache(path):
    workflow = read(path)
    for step in (step for job in workflow["jobs"].values() for step in job["steps"]):
        action = step.get("uses", "").partition("@")[0]
        if action == "actions/checkout":
            kept = step.get("with", {}).get("persist-credentials", True)
            assert kept == ("write" in granted(workflow))
        if action == "actions/setup-python":
            assert step["with"]["cache"] == "pip"
            assert list(ROOT.glob(step["with"]["cache-dependency-path"]))


@each_workflow
def test_targets_of_make_exist(path):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    called = [target for command in commands(read(path)) for target in targets(command)]
    assert called
    assert set(called) <= known


def test_the_suite_runs_on_each_python_and_weekly_on_all_other_versions():
    test = read(ROOT / ".github" / "workflows" / "test.yml")
    assert test["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert "push" in test[True]  # YAML reads the key `on` as a truth value
    weekly = read(ROOT / ".github" / "workflows" / "versions.yml")
    assert weekly[True]["schedule"]
    called = {target for command in commands(weekly) for target in targets(command)}
    assert called == {"test-colab", "test-oldest", "test-newest", "test-backends"}
