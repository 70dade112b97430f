"""The build: what it writes, what it rebuilds, what it refuses, and what `--check` names."""

import base64
import datetime
import json
import re
import sys
import time
from pathlib import Path

import nbclient
import nbformat
import pytest
from ipykernel.ipkernel import IPythonKernel

from tests.small_course import LESSON, README
from utils.course import build, mine
from utils.course.settings import PLACEHOLDER, Settings, SettingsError, load
from utils.course.source import answer_expression, read, sources

NOTEBOOKS = [f"{f}/{n}.ipynb" for n in ("90_small", "91_other") for f in ("solutions", "lessons")]
UNFINISHED = LESSON.replace("# %%\nprint(6 * 7)\n", "# %%\n{}\n").partition("# %% exercise")[0]


def contents(root):
    return {name: (root / name).read_bytes() for name in [*NOTEBOOKS, "README.md"]}


def edit(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def changed(path, change):
    """Change a notebook by hand."""
    book = nbformat.read(path, as_version=4)
    change(book)
    nbformat.write(book, path)


def checked(root, capsys):
    """The exit code and the lines of `--check`, which must write nothing."""
    before = {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()}
    capsys.readouterr()
    code = build.main(["--check"], root)
    assert {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()} == before
    out, error = capsys.readouterr()
    assert out == ""
    return code, error.splitlines()


@pytest.fixture
def executed(monkeypatch):
    """Names of the lessons that a build would execute; their kernels do not run."""
    names = []

    def record(lesson, settings):
        names.append(lesson.name)
        return {"seconds": 1.0, "gigabytes": 0.1}

    monkeypatch.setattr(build, "build", record)
    return names


def test_what_is_built(built):
    solution, lesson = (nbformat.read(built / name, as_version=4) for name in NOTEBOOKS[:2])
    for book in (solution, lesson):
        nbformat.validate(book)
        assert [c.id for c in book.cells[1:2] + book.cells[3:]] == [
            "setup",
            "exercise-conv-macs",
            "check-conv-macs",
        ]
        assert book.cells[0].source.startswith("# 90 · A small lesson\n\n[![Open in Colab]")
        assert re.search(r"about \d+\s+seconds and \d\.\d GB", book.cells[0].source)
        _, setup, _, exercise, check = (cell.metadata for cell in book.cells)
        assert setup["course"] == {"setup": True}
        common = {"schema_version": 3, "task": False}
        assert exercise["nbgrader"] == common | {
            "grade_id": "conv_macs",
            "grade": False,
            "solution": True,
            "locked": False,
        }
        assert check["nbgrader"] == common | {
            "grade_id": "check-conv_macs",
            "grade": True,
            "solution": False,
            "locked": True,
            "points": 2.0,
        }
        assert book.metadata["course"]["lesson"] == "90_small"
        assert book.cells[4].source.startswith('check("conv_macs", conv_macs)  # NameError? ')
        assert answer_expression(book.cells[4].source, "conv_macs") == "conv_macs"
        assert book.metadata.course.digest == mine.digest(book.cells)
    assert "rows, columns = " in solution.cells[3].source
    assert "SOLUTION" not in solution.cells[3].source
    assert lesson.cells[3].source.endswith('"""Return the multiply-adds."""\n    ...')
    assert [c.execution_count for c in solution.cells[1:]] == [1, 2, 3, 4]
    assert solution.cells[2].outputs[0].text == "42\n"
    assert solution.cells[4].outputs[0].data["text/plain"] == "2.0"
    assert "2 of 2 points" in solution.cells[4].outputs[0].data["text/html"]
    for cell in lesson.cells[1:]:
        assert (cell.outputs, cell.execution_count) == ([], None)


def test_fresh_build_is_not_stale(course, capsys):
    assert checked(course, capsys) == (0, [])


def test_two_builds_are_equal(course, capsys):
    before = contents(course)
    assert build.main(["90", "91"], course) == 0
    assert contents(course) == before
    out, error = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == 2 * ["90_small"] + 2 * ["91_other"]
    assert error == ""


def test_nothing_is_built_again(course, executed, capsys):
    before = contents(course)
    assert build.main([], course) == 0
    assert executed == []
    assert contents(course) == before
    assert capsys.readouterr() == ("", "")


def test_only_changed_lessons_are_built(course, executed):
    edit(course / "solutions/91_other.py", ('("second")', '("third")'))
    assert build.main([], course) == 0
    assert executed == ["91_other"]


def test_named_lessons_are_built_alone(course, executed, capsys):
    edit(course / "solutions/91_other.py", ('("second")', '("third")'))
    assert build.main(["90"], course) == 0
    assert executed == ["90_small"]
    assert build.main(["07", "90"], course) == 1
    assert capsys.readouterr().err == "no lesson 07; there are 90, 91\n"
    assert executed == ["90_small"]


def test_an_edit_changes_the_id_of_its_cell_alone(course):
    path, settings = course / "solutions/90_small.py", load(course)
    before = build.notebook(read(path), settings, {"seconds": 5, "gigabytes": 0.1}, solutions=True)
    edit(path, ("print(6 * 7)", "print(6 * 8)\n\n# %%\nprint(6 * 8)"))
    after = build.notebook(read(path), settings, {"seconds": 9, "gigabytes": 0.2}, solutions=True)
    ids = [[cell.id for cell in book.cells] for book in (before, after)]
    assert ids[1][:2] + ids[1][4:] == ids[0][:2] + ids[0][3:]
    assert ids[1][3] == f"{ids[1][2]}-2"
    assert ids[0][2] != ids[1][2]


def drop_outputs(book):
    for cell in book.cells[1:]:
        cell.outputs, cell.execution_count = [], None


STALE = {
    "source": (
        lambda root: edit(root / "solutions/90_small.py", ("6 * 7", "7 * 6")),
        NOTEBOOKS[:2],
    ),
    "header of the source": (
        lambda root: edit(root / "solutions/90_small.py", ("minutes: 5", "minutes: 6")),
        [*NOTEBOOKS[:2], "README.md"],
    ),
    "solution's text in the source": (
        lambda root: edit(root / "solutions/90_small.py", ("kernel * kernel", "kernel**2")),
        NOTEBOOKS[:1],
    ),
    "lesson by hand": (
        lambda root: changed(root / NOTEBOOKS[1], lambda b: b.cells[2].update(source="1")),
        NOTEBOOKS[1:2],
    ),
    "solution by hand": (
        lambda root: changed(root / NOTEBOOKS[2], lambda b: b.cells[2].update(source="1")),
        NOTEBOOKS[2:3],
    ),
    "text cell by hand": (
        lambda root: edit(root / NOTEBOOKS[1], ("It has one", "It has no")),
        NOTEBOOKS[1:2],
    ),
    "cell's metadata by hand": (
        lambda root: edit(root / NOTEBOOKS[1], ('"points": 2.0', '"points": 3.0')),
        NOTEBOOKS[1:2],
    ),
    "notebook's metadata by hand": (
        lambda root: edit(
            root / NOTEBOOKS[1], ('"display_name": "Python 3 (ipykernel)"', '"display_name": "R"')
        ),
        NOTEBOOKS[1:2],
    ),
    "lesson that was run": (
        lambda root: changed(root / NOTEBOOKS[1], lambda b: b.cells[2].update(execution_count=1)),
        NOTEBOOKS[1:2],
    ),
    "lesson with an output": (
        lambda root: changed(
            root / NOTEBOOKS[1],
            lambda b: b.cells[2].outputs.append(nbformat.v4.new_output("stream", text="42\n")),
        ),
        NOTEBOOKS[1:2],
    ),
    "solution without outputs": (
        lambda root: changed(root / NOTEBOOKS[0], drop_outputs),
        NOTEBOOKS[:1],
    ),
    "solution with a cell that was not run": (
        lambda root: changed(
            root / NOTEBOOKS[0], lambda b: b.cells[2].update(execution_count=None)
        ),
        NOTEBOOKS[:1],
    ),
    "lesson is gone": (lambda root: (root / NOTEBOOKS[1]).unlink(), NOTEBOOKS[1:2]),
    "solution is gone": (lambda root: (root / NOTEBOOKS[0]).unlink(), NOTEBOOKS[:2]),
    "half a lesson": (
        lambda root: edit(root / NOTEBOOKS[1], ('"cells"', '"call"')),
        NOTEBOOKS[1:2],
    ),
    "no JSON": (lambda root: (root / NOTEBOOKS[0]).write_text("{"), NOTEBOOKS[:2]),
    "no notebook": (lambda root: (root / NOTEBOOKS[1]).write_text("[1]"), NOTEBOOKS[1:2]),
    "cell without an id": (
        lambda root: edit(root / NOTEBOOKS[1], ('"id": "setup",', "")),
        NOTEBOOKS[1:2],
    ),
    "nothing measured": (
        lambda root: edit(root / NOTEBOOKS[0], ('"seconds": 5', '"hours": 5')),
        NOTEBOOKS[:2],
    ),
    "setting": (
        lambda root: edit(root / "course.toml", (PLACEHOLDER, "ada/nets")),
        [*NOTEBOOKS, "README.md"],
    ),
    "title": (lambda root: edit(root / "course.toml", ("Small", "Large")), ["README.md"]),
    "table": (lambda root: edit(root / "README.md", ("| 5 |", "| 4 |")), ["README.md"]),
    "clone address": (
        lambda root: edit(root / "README.md", (".com/OWNER", ".com/X")),
        ["README.md"],
    ),
}


# In these, the first file is somebody's work, or may be.
BY_HAND = {
    "lesson by hand",
    "solution by hand",
    "text cell by hand",
    "cell's metadata by hand",
    "lesson that was run",
    "lesson with an output",
    "half a lesson",
    "no JSON",
    "no notebook",
}
SAID = {
    False: "{} is stale: run `make notebooks`",
    True: "{} was changed by hand or run: `make notebooks` sets that version aside",
}


@pytest.mark.parametrize("kind", STALE)
def test_check_names_what_is_stale(kind, course, capsys):
    change, names = STALE[kind]
    change(course)
    by_hand = [kind in BY_HAND and name == names[0] for name in names]
    expected = [SAID[own].format(name) for own, name in zip(by_hand, names, strict=True)]
    assert checked(course, capsys) == (1, expected)
    for own, name in zip(by_hand, names, strict=True):
        assert name == "README.md" or mine.changed_by_hand(course / name) == own


@pytest.mark.parametrize("kind", sorted(BY_HAND - {"no JSON"}))
def test_what_somebody_changed_is_set_aside(kind, course, executed, capsys):
    change, (name, *_) = STALE[kind]
    fresh = contents(course)
    for number in ("", "-2"):
        change(course)
        changed = (course / name).read_bytes()
        assert build.main([], course) == 0
        copy = name.replace(".ipynb", f".mine-{datetime.date.today()}{number}.ipynb")
        said = f"{name} was changed by hand or run; that version is now {copy}"
        lesson = name.partition("/")[2].removesuffix(".ipynb")
        if kind == "solution by hand":  # its outputs are not those of the source
            assert executed == ["91_other"]
            return
        assert capsys.readouterr().out.splitlines() == [
            said,
            f"{lesson}: text written, outputs kept",
        ]
        assert (course / copy).read_bytes() == changed
        assert contents(course) == fresh
    assert checked(course, capsys) == (0, [])
    assert len(list(course.glob("*/*.mine-*"))) == 2
    assert executed == []


def test_damaged_solutions_are_executed_again_and_set_aside(course, capsys):
    (course / NOTEBOOKS[2]).write_text("{")
    assert build.main([], course) == 0
    out, error = capsys.readouterr()
    copy = f"solutions/91_other.mine-{datetime.date.today()}.ipynb"
    assert (course / copy).read_text() == "{"
    assert copy in out
    assert error == ""
    assert checked(course, capsys) == (0, [])


def test_what_a_program_notes_about_a_notebook_is_nobodys_work(course):
    path = course / NOTEBOOKS[1]
    book = json.loads(path.read_bytes())
    book["metadata"]["language_info"]["version"] = "3.13.0"
    book["metadata"]["colab"] = {"provenance": []}
    for cell in book["cells"]:
        cell["source"] = "".join(cell["source"])
        del cell["id"]
    path.write_text(json.dumps(book))
    assert not mine.changed_by_hand(path)
    book["cells"].append(book["cells"][-1])
    path.write_text(json.dumps(book))
    assert mine.changed_by_hand(path)


# Edits after which the outputs still are the code's, and such after which they may not be.
TEXT = {  # old, new, and what both notebooks then have
    "prose": ("It has one exercise.", "It has an exercise.", "It has an exercise."),
    "new cell": ("# %% exercise", "# %% [markdown]\n# New.\n\n# %% exercise", "\n\nNew.\n\n"),
    "comment": ("print(6 * 7)", "# The answer.\nprint(6 * 7)", "# The answer.\nprint(6 * 7)"),
    "comment behind": ("print(6 * 7)", "print(6 * 7)  # 42", "print(6 * 7)  # 42"),
    "lines": ("print(6 * 7)", "print(\n    6 * 7\n)", "print(\n    6 * 7\n)"),
    "tag": ("# %%\nprint", '# %% tags=["nbval-ignore-output"]\nprint', "nbval-ignore-output"),
    "minutes": ("minutes: 5", "minutes: 7", "about 7 minutes"),
}
CODE = {
    "code": ("6 * 7", "7 * 6"),
    "quiet": ("print(6 * 7)", "print(6 * 7);"),
    "string": ("6 * 7", '"# 42"'),
    "solution": ("kernel * kernel", "kernel**2"),
    "new cell": ("# %%\nprint", "# %%\nx = 1\n\n# %%\nprint"),
    "order": ("# %%\nprint(6 * 7)\n", "# %%\nx = 1\n"),
    "points": ("points=2", "points=3"),
    "magic": ("print(6 * 7)", "%time"),
}


@pytest.mark.parametrize("kind", TEXT)
def test_an_edit_of_text_executes_nothing(kind, course, executed, capsys):
    old, new, said = TEXT[kind]
    before = nbformat.read(course / NOTEBOOKS[0], as_version=4)
    edit(course / "solutions/90_small.py", (old, new))
    assert build.main([], course) == 0
    assert capsys.readouterr().out == "90_small: text written, outputs kept\n"
    assert executed == []
    after, lesson = (nbformat.read(course / name, as_version=4) for name in NOTEBOOKS[:2])
    outputs = [
        [(cell.outputs, cell.execution_count) for cell in book.cells if cell.cell_type == "code"]
        for book in (before, after)
    ]
    assert outputs[0] == outputs[1]
    assert before.metadata.course.measured == after.metadata.course.measured
    assert checked(course, capsys) == (0, [])
    for book in (after, lesson):
        texts = "\n\n".join(cell.source for cell in book.cells)
        assert said in texts or said in str(book.cells[2].metadata)


@pytest.mark.parametrize("kind", CODE)
def test_an_edit_of_code_executes_the_lesson(kind, course, executed, monkeypatch):
    monkeypatch.setattr(build, "registered", lambda lesson: None)
    edit(course / "solutions/90_small.py", CODE[kind])
    assert build.main([], course) == 0
    assert executed == ["90_small"]


@pytest.mark.parametrize("kind", ["badge", "kernel", "repository"])
def test_what_surrounds_the_code_executes_nothing(kind, course, executed, monkeypatch, capsys):
    if kind == "badge":
        (course / build._BADGE).write_bytes(b"another")
    elif kind == "kernel":
        monkeypatch.setitem(build._METADATA, "kernelspec", {"name": "python3", "display_name": "P"})
    else:
        edit(course / "course.toml", (PLACEHOLDER, "ada/nets"))
    assert build.main([], course) == 0
    assert executed == []
    assert checked(course, capsys) == (0, [])


def test_lessons_name_the_kernel_as_jupyterlab_does(built):
    """Otherwise JupyterLab would want to save a lesson that was only opened."""
    kernel = json.loads(
        (Path(sys.prefix) / "share/jupyter/kernels/python3/kernel.json").read_text()
    )
    for name in NOTEBOOKS:
        metadata = nbformat.read(built / name, as_version=4).metadata
        assert metadata.kernelspec == {
            "name": "python3",
            "display_name": kernel["display_name"],
            "language": kernel["language"],
        }
        assert metadata.language_info | {"version": ""} == {
            **IPythonKernel.language_info,
            "version": "",
        }
        assert re.fullmatch(r"3\.1[123]\.\d+", metadata.language_info.version)


@pytest.mark.parametrize("kind", ["image/png", "text/html"])
def test_picture_for_the_readme(kind, course):
    edit(course / "solutions/90_small.py", ("# %%\nprint", '# %% picture="six"\nprint'))
    lesson, settings = read(course / "solutions/90_small.py"), load(course)
    executed = build.stored(course / NOTEBOOKS[0])
    picture = base64.b64encode(b"a picture").decode()
    data = {
        "text/html": f'<img src="data:image/png;base64,{picture}" alt="six">',
        "image/png": picture,
    }
    if kind == "image/png":
        data["text/html"] = "nothing"
    else:
        del data["image/png"]
    executed.cells[2].outputs.append(nbformat.v4.new_output("display_data", data=data))
    build.write(lesson, settings, executed)
    assert (course / "data/images/six.png").read_bytes() == b"a picture"


def test_check_names_notebooks_without_a_source(course, capsys):
    (course / "solutions/91_other.py").rename(course / "solutions/92_other.py")
    assert checked(course, capsys) == (
        1,
        [
            "solutions/92_other.ipynb is stale: run `make notebooks`",
            "lessons/92_other.ipynb is stale: run `make notebooks`",
            "README.md is stale: run `make notebooks`",
            "lessons/91_other.ipynb has no source: delete it",
            "solutions/91_other.ipynb has no source: delete it",
        ],
    )


# Each: a cell, and what is said about it.
REFUSED = {
    "raises": ("x = 1\n1 / 0", "a cell stopped: ZeroDivisionError: division by zero"),
    "writes to stderr": (
        "import sys\nprint('odd\\nthing', file=sys.stderr)",
        "a cell wrote to stderr: odd",
    ),
    "warns": ("import warnings\nwarnings.warn('old')", "a cell wrote to stderr: "),
    "exits": ("import sys\nsys.exit('no')", "a cell stopped: SystemExit: no"),
    "ends Python": (
        "import os\nos._exit(1)",
        "a cell ended its Python process; is the memory enough?",
    ),
    "takes long": ("import time\ntime.sleep(600)", "a cell took more than 600 s; make it faster"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_cell_that_no_learner_should_see_is_refused(kind, course, capsys, monkeypatch):
    if kind == "takes long":
        # The cells before it may take their time on a busy machine.
        execute = nbclient.NotebookClient.async_execute_cell

        async def impatient(client, cell, *arguments, **options):
            client.timeout = 1 if "sleep(600)" in cell["source"] else 600
            return await execute(client, cell, *arguments, **options)

        execute_cell = nbclient.util.run_sync(impatient)
        monkeypatch.setattr(nbclient.NotebookClient, "execute_cell", execute_cell)
    monkeypatch.setattr(build, "registered", lambda lesson: None)
    cell, problem = REFUSED[kind]
    (course / "solutions/90_small.py").write_text(UNFINISHED.format(cell))
    before = contents(course)
    assert build.main(["90"], course) == 1
    out, error = capsys.readouterr()
    assert out == "90_small: executing\n"
    assert error.startswith(f"solutions/90_small.py:12: {problem}")
    assert error.count("\n") == 1
    assert contents(course) == before


def test_solution_that_loses_points_is_refused(course, capsys):
    edit(course / "solutions/90_small.py", ("-(-height // stride)", "height"))
    before = contents(course)
    assert build.main([], course) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "solutions/90_small.py:23: the solution of 'conv_macs' gets 1 of 2 points"
    )
    assert "✗ strides 2 and 3" in error
    assert contents(course) == before


def test_source_error_is_said_once(course, capsys):
    edit(course / "solutions/90_small.py", (" points=2", ""))
    said = "solutions/90_small.py:15: exercise 'conv_macs' has no points; add points=N"
    assert checked(course, capsys) == (1, [said])
    assert build.main([], course) == 1
    assert capsys.readouterr() == ("", f"{said}\n")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ("points=2", "points=3"),
            "15: exercise 'conv_macs' has 2 points in utils/exercises; make both equal",
        ),
        (
            ("conv_macs", "other"),
            "15: exercise 'other' has no rules; add them in utils/exercises",
        ),
    ],
)
def test_exercise_without_its_rules_is_refused(course, capsys, change, problem):
    path = course / "solutions/90_small.py"
    path.write_text(path.read_text().replace(*change))
    assert checked(course, capsys) == (1, [f"solutions/90_small.py:{problem}"])


def test_rules_without_their_exercise_are_refused(course, capsys):
    path = course / "solutions/90_small.py"
    path.write_text(path.read_text().partition("# %% exercise")[0])
    problem = "utils/exercises has rules for 'conv_macs'; add that exercise, or remove them"
    assert checked(course, capsys) == (1, [f"solutions/90_small.py:12: {problem}"])


def test_readme(course):
    settings = load(course)
    lessons = [read(path) for path in sources(course)]
    page = (course / "README.md").read_text()
    assert page == build.readme(README, lessons, settings) == build.readme(page, lessons, settings)
    assert page.startswith("# Small\n")
    assert page.endswith("<!-- end of lessons -->\n\nThe end.\n")
    assert (
        "| 90 | A small lesson | what the tests need | 5 | [read](solutions/90_small.ipynb) "
        "| [work](lessons/90_small.ipynb) | [<img" in page
    )
    assert page.count("make repository NAME=owner/name") == 1
    published = build.readme(page, lessons, Settings("ada/nets", "main", "Small"))
    assert PLACEHOLDER not in published
    assert "make repository" not in published
    assert "git clone https://github.com/ada/nets.git course" in published
    assert (
        "https://colab.research.google.com/github/ada/nets/blob/main/lessons/90_small" in published
    )
    assert build.readme(published, lessons, settings) == page


def test_readme_without_its_place_for_the_table(course, capsys):
    edit(course / "README.md", ("<!-- end of lessons -->", ""))
    code, lines = checked(course, capsys)
    assert code == 1
    assert [line.startswith("README.md lacks the lines '<!-- lessons:") for line in lines] == [True]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'repository = "x"',
            "course.toml: expected repository, branch and title, each with a text",
        ),
        ("repository", "course.toml: "),
        (
            'repository = "x"\nbranch = "main"\ntitle = "t"',
            "repository='x': expected owner/name, as in github.com/owner/name",
        ),
        (
            'repository = "a/b"\nbranch = "-b x"\ntitle = "t"',
            "branch='-b x': expected the name of a branch, as main",
        ),
        (
            'repository = "a/b"\nbranch = 5\ntitle = "t"',
            "course.toml: expected repository, branch and title, each with a text",
        ),
    ],
)
def test_bad_setting_is_one_sentence(course, capsys, text, problem):
    (course / "course.toml").write_text(text)
    with pytest.raises(SettingsError):
        load(course)
    code, lines = checked(course, capsys)
    assert code == 1
    assert [line.startswith(problem) for line in lines] == [True]


def test_measured_figures_rise_only_where_they_really_do():
    before = {"seconds": 25, "gigabytes": 1.0}
    assert build._coarse(30.9, 1.2, before) == before
    assert build._coarse(33.0, 1.0, before) == {"seconds": 35, "gigabytes": 1.0}
    assert build._coarse(25.0, 1.26, before) == {"seconds": 25, "gigabytes": 1.3}
    assert build._coarse(22.0, 0.94, before) == {"seconds": 20, "gigabytes": 0.9}
    assert build._coarse(1.0, 0.26, None) == {"seconds": 5, "gigabytes": 0.3}
    assert build._coarse(118.0, 1.0, None) == {"seconds": 120, "gigabytes": 1.0}


def test_neither_the_time_that_a_lesson_waits_nor_the_memory_of_the_build_is_its_own(course):
    path = course / "solutions/91_other.py"
    held = b"x" * 2**30
    path.write_text(path.read_text() + "\n# %%\nimport time\n\ntime.sleep(3)\n")
    start = time.perf_counter()
    measured = build.build(read(path), load(course))
    assert 0 < measured["seconds"] < time.perf_counter() - start - 3
    assert 0 < measured["gigabytes"] < len(held) / 2**30
