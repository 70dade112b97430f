"""Builds both notebooks of a lesson from its source, and tells what is stale.

    python -m utils.course.build             build what changed
    python -m utils.course.build 01 02       build these lessons alone, changed or not
    python -m utils.course.build --check     exit 1 and name what is stale

`solutions/NN_name.ipynb` is executed here and committed with its outputs;
`lessons/NN_name.ipynb` has stubs for solutions, and no outputs. A lesson is executed again if its
code or an exercise's points changed: an edit of text or of a comment leaves the outputs as they
are. A notebook that somebody changed by hand is set aside (`utils.course.mine`) and not lost.
"""

import argparse
import base64
import hashlib
import html
import io
import json
import os
import re
import sys
import time
import tokenize
import warnings
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from utils import _isolation
from utils.course.mine import MARK, changed_by_hand, digest, set_aside
from utils.course.settings import PLACEHOLDER, ROOT, Settings, SettingsError, load
from utils.course.setup_cell import setup_cell
from utils.course.source import Lesson, SourceError, read, solved, sources, stub
from utils.exercises import find, of_lesson

# JupyterLab folds the code of such a cell: the reader sees the figure, and opens the code at will.
_FOLDED = {"jupyter": {"source_hidden": True}}
_SECONDS = 600
# A check cell's last words, for whom comes back to a kernel that knows nothing any more.
_RESTARTED = "  # NameError? Run all cells above first."
# What JupyterLab itself would write. Where these differ it wants to save a lesson on opening it.
_METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        # The Python that the notebooks are executed with.
        "version": "3.11.7",
    },
}
# Run in a lesson's kernel at the end: its processor seconds and its peak gigabytes. On Linux
# `ru_maxrss` begins at what the process that started the kernel held; VmHWM is the kernel's own.
_PROBE = r"""
import pathlib, re, resource
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 2**20
else:
    peak = usage[0].ru_maxrss / 2**30  # macOS counts bytes
[sum(each.ru_utime + each.ru_stime for each in usage), peak]"""
_BADGE = "data/images/open-in-colab.png"
_BEGIN_TABLE, _END_TABLE = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"


def notebook(lesson: Lesson, settings: Settings, measured: dict, *, solutions: bool):
    """Assemble one notebook of a lesson, without outputs.

    Args:
        lesson: the lesson as `source.read` gives it.
        settings: repository and branch for badge and setup cell.
        measured: `{"seconds": …, "gigabytes": …}` of the last execution.
        solutions: True for the solutions' notebook, False for the learners'.

    Returns:
        An `nbformat` notebook whose cell ids depend on the cells' own text alone.
    """
    first, *rest = lesson.cells
    title, _, body = first.text.partition("\n")
    opening = [title, f"[![Open in Colab](attachment:colab.png)]({settings.colab(lesson.name)})"]
    opening += [body.strip(), _needs(lesson, measured)]
    head = new_markdown_cell("\n\n".join(opening), id=_id(first.text, set()))
    # JupyterLab does not render an attached SVG.
    badge = base64.b64encode((lesson.root / _BADGE).read_bytes()).decode()
    head["attachments"] = {"colab.png": {"image/png": badge}}
    setup = new_code_cell(
        setup_cell(settings),
        id="setup",
        metadata={"course": {"setup": True}} | _FOLDED,
    )
    cells, used = [head, setup], {head["id"], "setup"}
    points = lesson.exercises
    for cell in rest:
        text = solved(cell.text) if solutions else stub(cell.text)
        metadata = dict(cell.metadata)
        exercise, check = metadata.pop("exercise", None), metadata.pop("check", None)
        metadata.pop("points", None)
        if cell.kind == "markdown":
            cells.append(new_markdown_cell(text, id=_id(text, used), metadata=metadata))
        elif exercise or check:
            name = exercise or check
            metadata["course"] = {"exercise" if exercise else "check": name}
            metadata["nbgrader"] = {
                "schema_version": 3,
                "grade_id": name if exercise else f"check-{name}",
                "grade": bool(check),
                "solution": bool(exercise),
                "locked": bool(check),
                "task": False,
            }
            if check:
                metadata["nbgrader"]["points"] = points[name]
                text += _RESTARTED
            identity = ("exercise-" if exercise else "check-") + name.replace("_", "-")
            cells.append(new_code_cell(text, id=identity, metadata=metadata))
        else:
            if "plots.show(" in text:
                metadata |= _FOLDED
            cells.append(new_code_cell(text, id=_id(text, used), metadata=metadata))
        used.add(cells[-1]["id"])
    course = {"lesson": lesson.name, "digest": digest(cells)}
    if solutions:
        course["measured"] = measured
    book = new_notebook(cells=cells)
    book.metadata = nbformat.from_dict(_METADATA | {"course": course})
    return book


def _id(text, used):
    """Name a cell by its text, so that an edit changes the id of that cell alone."""
    base = hashlib.sha256(text.encode()).hexdigest()[:10]
    name, count = base, 1
    while name in used:
        count += 1
        name = f"{base}-{count}"
    return name


def _needs(lesson, measured):
    seconds, gigabytes = measured["seconds"], measured["gigabytes"]
    return (
        f"**You need** about {lesson.minutes} minutes. Running every cell takes about "
        f"{seconds} seconds and {gigabytes:.1f} GB of memory on two CPU cores."
    )


def _coarse(seconds, gigabytes, before):
    """Round what was measured; a figure that rose a little is the old one, seen less well."""
    step = 5 if seconds < 60 else 10
    new = {"seconds": max(step, round(seconds / step) * step), "gigabytes": round(gigabytes, 1)}
    for key, value in (before or {}).items():
        # What else runs can only add to time and memory, so a lower figure is the better one.
        if value <= new[key] <= 1.2 * value:
            new[key] = value
    return new


def stored(path: Path):
    """Read a committed notebook; None if there is none or it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
    except Exception:  # a file can be damaged in many ways, and nbformat has an error for each
        return None
    return book


def _inputs(book):
    """Everything of a notebook that comes from its source."""
    cells = []
    for cell in book["cells"]:
        kept = {key: cell[key] for key in ("id", "cell_type", "source", "metadata")}
        if "attachments" in cell:
            kept["attachments"] = cell["attachments"]
        cells.append(kept)
    return json.dumps([cells, book["metadata"]], sort_keys=True)


def stale(lesson: Lesson, settings: Settings) -> list[Path]:
    """Return the notebooks of a lesson that are not what its source says.

    Args:
        lesson: the lesson.
        settings: repository and branch.
    """
    solution_path, lesson_path = paths(lesson)
    solution, learner = stored(solution_path), stored(lesson_path)
    measured = _measured(solution)
    wrong = []
    if (
        measured is None
        or _inputs(solution) != _inputs(notebook(lesson, settings, measured, solutions=True))
        or any(c["execution_count"] is None for c in solution["cells"] if c["cell_type"] == "code")
    ):
        wrong.append(solution_path)
    if (
        measured is None
        or learner is None
        or _inputs(learner) != _inputs(notebook(lesson, settings, measured, solutions=False))
        or any(
            c["outputs"] or c["execution_count"] is not None
            for c in learner["cells"]
            if c["cell_type"] == "code"
        )
    ):
        wrong.append(lesson_path)
    return wrong


def complaint(path: Path, root: Path) -> str:
    """Say what is wrong with a stale file, and what to do.

    >>> complaint(ROOT / "README.md", ROOT)
    'README.md is stale: run `make notebooks`'
    """
    said = "is stale: run `make notebooks`"
    if path.suffix == ".ipynb" and changed_by_hand(path):
        said = "was changed by hand or run: `make notebooks` sets that version aside"
    return f"{path.relative_to(root)} {said}"


def orphans(root: Path, lessons: list[Lesson]) -> list[Path]:
    """Return the lessons' notebooks whose source is not there any more.

    Args:
        root: the course's folder.
        lessons: the lessons whose source is there.
    """
    expected = {path for lesson in lessons for path in paths(lesson)}
    found = [p for f in ("solutions", "lessons") for p in (root / f).glob("[0-9][0-9]_*.ipynb")]
    return sorted(path for path in set(found) - expected if MARK not in path.name)


def _measured(book):
    """Return what the last execution took; None if the notebook does not say so."""
    course = {} if book is None else book["metadata"].get("course")
    measured = course.get("measured") if isinstance(course, dict) else None
    if not isinstance(measured, dict) or set(measured) != {"seconds", "gigabytes"}:
        return None
    return measured if all(isinstance(v, int | float) for v in measured.values()) else None


def paths(lesson: Lesson) -> tuple[Path, Path]:
    """Return where the two notebooks of a lesson lie: with solutions, and for learners."""
    return lesson.path.with_suffix(".ipynb"), lesson.root / "lessons" / f"{lesson.name}.ipynb"


def build(lesson: Lesson, settings: Settings) -> dict:
    """Execute a lesson's solutions and write both notebooks.

    Args:
        lesson: the lesson.
        settings: repository and branch.

    Returns:
        `{"seconds": …, "gigabytes": …}` as measured, not rounded: the time that passed, or the
        processor seconds if they are less.

    Raises:
        SourceError: if a cell raises, takes too long, writes to stderr, or if a solution does
            not earn all points.
    """
    before = _measured(stored(paths(lesson)[0]))
    book = notebook(lesson, settings, {"seconds": 0, "gigabytes": 0.0}, solutions=True)
    seconds, gigabytes = _execute(lesson, book)
    book["metadata"]["course"]["measured"] = _coarse(seconds, gigabytes, before)
    write(lesson, settings, book)
    return {"seconds": seconds, "gigabytes": gigabytes}


def fitting(lesson: Lesson, settings: Settings):
    """Return the stored notebook with solutions if its outputs still are those of the source.

    They are unless code (not counting comments), an exercise's marks or points changed. The setup
    cell has no output, and none of the others depends on how it finds the course.

    Args:
        lesson: the lesson.
        settings: repository and branch.

    Returns:
        The notebook; None if it has to be executed again.
    """
    book = stored(paths(lesson)[0])
    measured = _measured(book)
    if measured is None:
        return None
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    expected = notebook(lesson, settings, measured, solutions=True)["cells"]
    expected = [cell for cell in expected if cell["cell_type"] == "code"]
    if list(map(_effect, cells)) != list(map(_effect, expected)):
        return None
    return None if any(cell["execution_count"] is None for cell in cells) else book


def _effect(cell):
    """Return what a code cell's outputs depend on."""
    if cell["id"] == "setup":
        return None
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(cell["source"]).readline))
    except (tokenize.TokenError, SyntaxError):  # as a cell with a magic in it
        return cell["source"]
    code = [(t.type, t.string) for t in tokens if t.type not in (tokenize.COMMENT, tokenize.NL)]
    return code, cell["metadata"].get("nbgrader")


def write(lesson: Lesson, settings: Settings, executed):
    """Write both notebooks of a lesson, and its pictures for the README.

    A notebook that somebody changed by hand is set aside before, and it is said where.

    Args:
        lesson: the lesson.
        settings: repository and branch.
        executed: the notebook with solutions whose code cells have the outputs, and whose metadata
            say what was measured.
    """
    measured = _measured(executed)
    solution = notebook(lesson, settings, measured, solutions=True)
    done = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    code = [cell for cell in solution["cells"] if cell["cell_type"] == "code"]
    for old, cell in zip(done, code, strict=True):
        cell["outputs"], cell["execution_count"] = old["outputs"], old["execution_count"]
    learner = notebook(lesson, settings, measured, solutions=False)
    for path, content in zip(paths(lesson), (solution, learner), strict=True):
        nbformat.validate(content)
        path.parent.mkdir(exist_ok=True)
        scratch = path.with_suffix(".tmp")
        nbformat.write(content, scratch)
        if changed_by_hand(path):
            name, copy = path.relative_to(lesson.root), set_aside(path).relative_to(lesson.root)
            print(f"{name} was changed by hand or run; that version is now {copy}", flush=True)
        os.replace(scratch, path)
    _write_pictures(lesson, solution)


def _write_pictures(lesson, book):
    """Write the figures of cells tagged `picture=name` to data/images, for the README."""
    for cell in book["cells"]:
        name = cell["metadata"].get("picture")
        if name:
            figures = [_png(output.get("data", {})) for output in cell["outputs"]]
            picture = base64.b64decode(next(filter(None, figures)))
            (lesson.root / "data/images" / f"{name}.png").write_bytes(picture)


def _png(data):
    """Return the PNG of an output, which may stand in its HTML alone; None if there is none."""
    if "image/png" in data:
        return data["image/png"]
    embedded = re.search(r"data:image/png;base64,([^\"]+)", data.get("text/html", ""))
    return embedded and embedded[1]


def _execute(lesson, book):
    """Run every cell in a fresh kernel; return the seconds it needs, and its peak gigabytes."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from traitlets.config import Config

    _isolation.isolate()
    client = NotebookClient(
        book,
        timeout=_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        # Otherwise every kernel warns in the terminal that others could read along.
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        resources={"metadata": {"path": str(lesson.path.parent)}},
    )
    probe = new_code_cell(_PROBE)
    start = time.perf_counter()
    with client.setup_kernel():
        for index, cell in enumerate(book["cells"]):
            if cell["cell_type"] != "code":
                continue
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                raise SourceError(lesson.path, _line(lesson, index), _last(error)) from None
            except CellTimeoutError:
                problem = f"a cell took more than {_SECONDS} s; make it faster"
                raise SourceError(lesson.path, _line(lesson, index), problem) from None
            except DeadKernelError:
                problem = "a cell ended its Python process; is the memory enough?"
                raise SourceError(lesson.path, _line(lesson, index), problem) from None
            _accept(lesson, index, cell)
        seconds = time.perf_counter() - start
        book["cells"].append(probe)
        client.execute_cell(probe, len(book["cells"]) - 1)
        book["cells"].pop()
    processor, gigabytes = json.loads(probe["outputs"][0]["data"]["text/plain"])
    # On a busy machine a lesson waits for its turn; its processor seconds do not.
    return min(seconds, processor), gigabytes


def _line(lesson, index):
    # The setup cell, second in the notebook, has no line of its own in the source.
    return lesson.cells[max(index - 1, 0)].line


def _last(error):
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "a cell stopped: " + re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])


def _accept(lesson, index, cell):
    """Refuse outputs that no learner should see, and solutions that do not earn all points."""
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stderr":
            text = output["text"].strip().partition("\n")[0]
            raise SourceError(lesson.path, _line(lesson, index), f"a cell wrote to stderr: {text}")
    name = cell["metadata"].get("course", {}).get("check")
    if name is not None:
        data = [o["data"] for o in cell["outputs"] if o["output_type"] == "execute_result"]
        data = data[0] if data else {}
        if data.get("text/plain") != repr(lesson.exercises[name]):
            text = re.sub(r"<[^>]*>", " ", data.get("text/html", "nothing that counts"))
            problem = f"the solution of {name!r} gets {' '.join(html.unescape(text).split())}"
            raise SourceError(lesson.path, _line(lesson, index), problem)


def registered(lesson: Lesson):
    """Compare a lesson's exercises with the rules in `utils.exercises`.

    Raises:
        SourceError: if an exercise has no rules, other points than its rules give, or if there
            are rules for an exercise that the lesson lacks.
    """
    for cell in lesson.cells:
        name = cell.metadata.get("exercise")
        if name is None:
            continue
        rules = find(name)
        if rules is None or rules.lesson != lesson.name:
            problem = f"exercise {name!r} has no rules; add them in utils/exercises"
            raise SourceError(lesson.path, cell.line, problem)
        if rules.points != cell.metadata["points"]:
            problem = (
                f"exercise {name!r} has {rules.points} points in utils/exercises; make both equal"
            )
            raise SourceError(lesson.path, cell.line, problem)
    unused = [rules.id for rules in of_lesson(lesson.name) if rules.id not in lesson.exercises]
    if unused:
        problem = f"utils/exercises has rules for {unused[0]!r}; add that exercise, or remove them"
        raise SourceError(lesson.path, lesson.cells[-1].line, problem)


def table(lessons: list[Lesson], settings: Settings) -> str:
    """Return the README's table of lessons as Markdown."""
    columns = ("", "lesson", "what you learn", "minutes", "read", "work", "work in Colab")
    rows = [_row(columns), _row(["---"] * len(columns))]
    for lesson in lessons:
        read_it = f"[read](solutions/{lesson.name}.ipynb)"
        work = f"[work](lessons/{lesson.name}.ipynb)"
        # Twice as many pixels as it is wide, for sharp screens.
        badge = f'<img src="{_BADGE}" alt="Open in Colab" width="117">'
        colab = f"[{badge}]({settings.colab(lesson.name)})"
        cells = (lesson.name[:2], lesson.title, lesson.summary, lesson.minutes)
        rows.append(_row([*cells, read_it, work, colab]))
    rows += [
        "",
        "*Read* shows a lesson with its solutions and outputs, and nothing runs. *Work* is the "
        "lesson that you open in",
        "JupyterLab (`make lab`). The badges open it in Colab, where its first cell fetches the "
        "rest.",
    ]
    if not settings.published:
        rows += [
            "This copy of the course does not know its own address yet (`course.toml` says "
            f"`{PLACEHOLDER}`): the badges work",
            "once its owner has run `make repository NAME=owner/name`, or has pushed it to "
            "GitHub, where a workflow does that.",
        ]
    return "\n".join(rows)


def _row(cells):
    return f"| {' | '.join(map(str, cells))} |"


def readme(text: str, lessons: list[Lesson], settings: Settings) -> str:
    """Return the README with its title, its clone address and its table brought up to date.

    Raises:
        SettingsError: if the README has lost the two comments between which the table stands.
    """
    before, begin, rest = text.partition(_BEGIN_TABLE)
    _, end, after = rest.partition(_END_TABLE)
    if not begin or not end:
        raise SettingsError(f"README.md lacks the lines {_BEGIN_TABLE!r} and {_END_TABLE!r}")
    before = re.sub(r"https://github\.com/[^/\s]+/\S+\.git", settings.url, before)
    before = re.sub(r"\A# .*", f"# {settings.title}", before)
    return f"{before}{begin}\n{table(lessons, settings)}\n{end}{after}"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.course.build", description="Build the notebooks of the course."
    )
    parser.add_argument(
        "lessons", nargs="*", metavar="NN", help="build these alone, changed or not"
    )
    parser.add_argument("--check", action="store_true", help="build nothing, name what is stale")
    options = parser.parse_args(arguments)
    try:
        settings = load(root)
        lessons = [read(path) for path in sources(root)]
        for lesson in lessons:
            registered(lesson)
        page = root / "README.md"
        text = page.read_text(encoding="utf-8")
        updated = readme(text, lessons, settings)
    except (SettingsError, SourceError) as error:
        print(error, file=sys.stderr)
        return 1
    unknown = set(options.lessons) - {lesson.name[:2] for lesson in lessons}
    if unknown:
        known = ", ".join(lesson.name[:2] for lesson in lessons)
        print(f"no lesson {', '.join(sorted(unknown))}; there are {known}", file=sys.stderr)
        return 1
    if options.check:
        wrong = [path for lesson in lessons for path in stale(lesson, settings)]
        wrong += [page] if text != updated else []
        for path in wrong:
            print(complaint(path, root), file=sys.stderr)
        alone = orphans(root, lessons)
        for path in alone:
            print(f"{path.relative_to(root)} has no source: delete it", file=sys.stderr)
        return 1 if wrong or alone else 0
    if text != updated:
        page.write_text(updated, encoding="utf-8")
    for lesson in lessons:
        named = lesson.name[:2] in options.lessons
        if named or (not options.lessons and stale(lesson, settings)):
            executed = None if named else fitting(lesson, settings)
            if executed is not None:
                write(lesson, settings, executed)
                print(f"{lesson.name}: text written, outputs kept")
                continue
            print(f"{lesson.name}: executing", flush=True)
            try:
                measured = build(lesson, settings)
            except SourceError as error:
                print(error, file=sys.stderr)
                return 1
            print(f"{lesson.name}: {measured['seconds']:.0f} s, {measured['gigabytes']:.1f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
