"""The committed notebooks: fresh, executed, fit for learners; and how nbval compares them."""

import ast
import base64
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.untouched import is_touched, untouched
from utils.course import build
from utils.course.settings import ROOT, load
from utils.course.source import read, sources
from utils.exercises import of_lesson
from utils.tables import WIDTH

LESSONS = [read(path) for path in sources()]
IMAGE = re.compile(r"<img\b[^>]*>")
ALT = re.compile(r'\balt="[^"]*\w[^"]*"')
# What makes nbval pass over a cell, or expect an error in it.
PASSED_OVER = ("raises-exception", "nbval-raises-exception", "nbval-skip")


def books(lesson):
    """The notebook with solutions and the learners', as it was before anybody worked in it."""
    solution, learner = build.paths(lesson)
    book = untouched(learner) if is_touched(learner) else nbformat.read(learner, as_version=4)
    return [nbformat.read(solution, as_version=4), book]


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def outputs(book):
    return [output for cell in code(book) for output in cell.outputs]


every = pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])


def test_nothing_is_stale(capsys):
    """But for lessons that somebody has worked in: those are theirs."""
    build.main(["--check"])
    lessons = [build.paths(lesson)[1] for lesson in LESSONS]
    theirs = tuple(f"lessons/{path.name} " for path in lessons if is_touched(path))
    said = capsys.readouterr().err.splitlines()
    assert not [line for line in said if not line.startswith(theirs)]


@every
def test_solutions_ran_through(lesson):
    solution, _ = books(lesson)
    counts = [cell.execution_count for cell in code(solution)]
    assert counts == list(range(1, len(counts) + 1))
    for output in outputs(solution):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"


@every
def test_every_picture_has_alt_text(lesson):
    solution, _ = books(lesson)
    for output in outputs(solution):
        data = output.get("data", {})
        images = IMAGE.findall(data.get("text/html", ""))
        kinds = {kind for kind in data if kind.startswith("image/")}
        # Once with alt text, for browsers, and once for what shows no HTML, such as LaTeX.
        assert kinds == ({"image/png"} if images else set()), (
            "end the cell with `plots.show(figure, alt=…)`"
        )
        assert len(images) <= 1
        for image in images:
            assert ALT.search(image), image[:80]
            assert f"data:image/png;base64,{data['image/png'].strip()}" in image


@every
def test_printed_lines_fit_the_page(lesson):
    solution, _ = books(lesson)
    for output in outputs(solution):
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        for line in text.splitlines():
            assert len(line) <= WIDTH, line


@every
def test_no_sentence_is_cut_off(lesson):
    """A cell does not print a part of a text: its first line, or so many characters of it."""
    for cell in code(books(lesson)[0]):
        assert not re.search(r"splitlines\(\)\[|shorten\(|(?:note|source)\"\]\[", cell.source)


@every
def test_folded_cells_say_what_they_draw(lesson):
    """Of a folded cell, JupyterLab shows the first line."""
    for book in books(lesson):
        folded = [cell for cell in code(book) if cell.metadata.get("jupyter", {})]
        drawn = [cell for cell in code(book) if "plots.show(" in cell.source]
        setup = book.cells[1]
        assert [cell.id for cell in folded] == [cell.id for cell in [setup, *drawn]]
        assert setup.source.startswith("# Setup: ")
        for cell in drawn:
            name = re.match(r"# Figure: (.*\w.*)\n", cell.source)
            assert name, cell.source.splitlines()[0]
            assert len(name[0]) <= WIDTH + 1


@every
def test_headings_of_tables_are_not_empty(lesson):
    for output in outputs(books(lesson)[0]):
        markup = output.get("data", {}).get("text/html", "")
        assert not re.search(r"<th\b[^>]*>\s*</th>", markup)


@every
def test_three_figures_carry_the_argument(lesson):
    solution, _ = books(lesson)
    texts = [output.get("data", {}).get("text/html", "") for output in outputs(solution)]
    assert sum(len(IMAGE.findall(text)) for text in texts) >= 3


def test_pictures_of_the_readme_are_the_notebooks():
    readme = (ROOT / "README.md").read_text()
    names = re.findall(r"!\[\w[^\]]*\]\((data/images/\w+\.png)\)", readme)
    assert names
    marked = {
        f"data/images/{cell.metadata['picture']}.png": cell.outputs[0].data["text/html"]
        for lesson in LESSONS
        for cell in code(books(lesson)[0])
        if "picture" in cell.metadata
    }
    assert set(names) <= set(marked)
    for name, markup in marked.items():
        picture = base64.b64encode((ROOT / name).read_bytes()).decode()
        assert f'src="data:image/png;base64,{picture}"' in markup


@every
def test_no_cell_is_passed_over(lesson):
    for book in books(lesson):
        for cell in code(book):
            assert not set(PASSED_OVER) & set(cell.metadata.get("tags", ()))
            assert not re.search(r"#\s*(NBVAL_|PYTEST_VALIDATE)", cell.source)


@every
def test_what_is_not_compared_is_asserted(lesson):
    """A measured value differs between machines: soon after it, its margin is asserted."""
    cells = code(books(lesson)[0])
    for index, cell in enumerate(cells):
        figures = [IMAGE.search(o.get("data", {}).get("text/html", "")) for o in cell.outputs]
        if "nbval-ignore-output" in cell.metadata.get("tags", ()) and not all(figures):
            assert any("assert " in near.source for near in cells[index : index + 4]), cell.source


@every
def test_files_are_small(lesson):
    for path in build.paths(lesson):
        assert path.stat().st_size < 1_500_000


def test_all_notebooks_together_are_small():
    assert sum(path.stat().st_size for each in LESSONS for path in build.paths(each)) < 12_000_000


@every
def test_first_and_last_cell(lesson):
    for book in books(lesson):
        links = re.findall(r"\]\((https://colab[^)]*)\)", book.cells[0].source)
        settings = load()
        path = build.paths(lesson)[1].relative_to(ROOT).as_posix()
        where = f"{settings.repository}/blob/{settings.branch}/{path}"
        assert links == [f"https://colab.research.google.com/github/{where}"]
        assert "attachment:colab.png" in book.cells[0].source
        assert "colab.png" in book.cells[0].attachments
        assert book.cells[1].source == build.setup_cell(settings)
        assert code(book)[-1].source == "progress()"
        assert book.cells[-1].cell_type == "code"
    assert (ROOT / path).is_file()


@every
def test_reflection_questions_have_folded_answers(lesson):
    text = "\n".join(cell.source for cell in books(lesson)[1].cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", text, re.DOTALL)
    assert text.count("<details>") == text.count("</details>") == len(folded) == 3
    for question, answer in folded:
        assert question.rstrip().endswith("?")
        # Markdown inside HTML needs an empty line before it.
        assert answer.startswith("\n\n")
        assert answer.strip()


@every
def test_points(lesson):
    total = 20 if lesson.name.startswith("10_") else 10
    assert sum(lesson.exercises.values()) == total
    assert list(lesson.exercises) == [exercise.id for exercise in of_lesson(lesson.name)]


@every
def test_lesson_never_uses_a_learners_result(lesson):
    """Whatever a learner writes in an exercise, the other cells do not read it."""
    theirs = {}
    for cell in lesson.cells:
        if cell.kind != "code" or "check" in cell.metadata:
            continue
        tree = ast.parse(cell.text)
        if "exercise" in cell.metadata:
            theirs |= dict.fromkeys(_defined(tree), cell.metadata["exercise"])
            continue
        read_names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - _defined(tree)
        assert not read_names & set(theirs), f"line {cell.line} uses {read_names & set(theirs)}"
        for name in _defined(tree):
            theirs.pop(name, None)


def _defined(tree):
    """Names that a cell's top level gives a value."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            found = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            names |= {n.id for n in found if isinstance(n.ctx, ast.Store)}
    return names


# nbval -----------------------------------------------------------------------------------------


def _figure(alt, data):
    return f'<img src="data:image/png;base64,{data}" alt="{alt}">'


def _cell(number, source, output):
    return new_code_cell(source, execution_count=number, outputs=[output])


def test_nbval_compares_what_counts(tmp_path, built):
    """A changed number, shape or alt text is red; changed pixels and an unsolved lesson are not."""
    stream = {"output_type": "stream", "name": "stdout"}
    shown = "from IPython.display import HTML\nHTML('''{}''')".format
    cells = [
        _cell(1, "print(6 * 7)", new_output(**stream, text="42\n")),
        _cell(2, "print(6 * 7)", new_output(**stream, text="43\n")),
    ]
    for number, (alt, data) in enumerate([("a", "iVBO/+8="), ("b", "iVBO")], 3):
        saved = {
            "text/html": _figure("a", "AAAA"),
            "text/plain": "<IPython.core.display.HTML object>",
        }
        output = new_output("execute_result", data=saved, execution_count=number)
        cells.append(_cell(number, shown(_figure(alt, data)), output))
    cells.append(
        _cell(
            5, "print(1); import sys; print(2, file=sys.stderr)", new_output(**stream, text="1\n")
        )
    )
    nbformat.write(new_notebook(cells=cells), tmp_path / "changed.ipynb")
    unsolved = built / "lessons" / "90_small.ipynb"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "-p",
        "conftest",
        "-vv",
    ]
    done = subprocess.run(
        [*command, "--nbval", "changed.ipynb", unsolved],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    results = re.findall(r"::Cell \d+ (PASSED|FAILED)", done.stdout)
    expected = ["PASSED", "FAILED", "PASSED", "FAILED", "FAILED", *4 * ["PASSED"]]
    assert results == expected, done.stdout + done.stderr
    assert done.returncode == 1
