"""Checks a single lesson, from the edit of its source to confidence: `make check LESSON=03`.

Style, staleness, then in one run of pytest: both notebooks by nbval, the answers to its exercises,
and the tests and docstrings of the modules that no earlier lesson imports.
"""

import ast
import subprocess
import sys
from pathlib import Path

from utils.course import build
from utils.course.settings import ROOT, SettingsError, load
from utils.course.source import Lesson, SourceError, read, sources


def modules(lesson: Lesson) -> set[str]:
    """Return the modules below `utils` that a lesson's cells import, by the last part of the name.

    Names that are imported from them are among these: only a file tells a module from a function.

    >>> {"cost", "data"} <= modules(read(sources()[0]))
    True
    """
    names = set()
    for cell in lesson.cells:
        for node in ast.walk(ast.parse(cell.text if cell.kind == "code" else "")):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            names |= {name.split(".")[-1] for name in found if name.startswith("utils.")}
    return names


def command(lesson: Lesson, earlier: list[Lesson]) -> list[str]:
    """Return the arguments for pytest.

    Args:
        lesson: the lesson to be tested.
        earlier: the lessons before it. What they import is theirs.
    """
    new = sorted(modules(lesson).difference(*map(modules, earlier)))
    tests = [f"tests/test_{name}.py" for name in new]
    tests += [f"utils/{name}.py" for name in new]
    tests = [path for path in tests if (lesson.root / path).is_file()]
    books = [path.relative_to(lesson.root).as_posix() for path in build.paths(lesson)]
    # The names that an answer's test has in its brackets begin with the exercise.
    chosen = [f"{lesson.name}.ipynb", *(f"{name}.py" for name in new)]
    chosen += [f"[{name}{end}" for name in lesson.exercises for end in "]-"]
    files = [*books, *tests, "tests/test_exercises.py"]
    options = ["-n", "2", "--dist", "loadfile", "--nbval", "--doctest-modules"]
    return [*options, *files, "-k", " or ".join(chosen)]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    numbers = sys.argv[1:] if arguments is None else arguments
    paths = {path.name[:2]: path for path in sources(root)}
    if len(numbers) != 1 or numbers[0] not in paths:
        print(
            f"Name one lesson of {', '.join(paths)}: make check LESSON={min(paths)}",
            file=sys.stderr,
        )
        return 1
    try:
        lesson, settings = read(paths[numbers[0]]), load(root)
        build.registered(lesson)
        earlier = [read(path) for number, path in paths.items() if number < numbers[0]]
    except (SettingsError, SourceError) as error:
        print(error, file=sys.stderr)
        return 1
    for ruff in (["check"], ["format", "--check"]):
        style = [sys.executable, "-m", "ruff", *ruff, "--quiet", str(lesson.path)]
        if subprocess.run(style, cwd=root).returncode:
            print(f"{lesson.name}: ruff {' '.join(ruff)} is not content.", file=sys.stderr)
            return 1
    stale = build.stale(lesson, settings)
    for path in stale:
        print(build.complaint(path, root), file=sys.stderr)
    if stale:
        return 1
    pytest = [sys.executable, "-m", "pytest", *command(lesson, earlier)]
    return subprocess.run(pytest, cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
