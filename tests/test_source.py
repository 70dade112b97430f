"""A source that cannot be built is refused with file, line and what to do."""

import pytest

from tests.small_course import LESSON
from utils.course.source import SourceError, answer_expression, read, solved, sources, stub

CHECK = '# %% check="conv_macs"\ncheck("conv_macs", conv_macs)\n'
EXERCISE = LESSON[LESSON.index("# %% exercise") : LESSON.index("# %% check")]


@pytest.fixture
def refused(tmp_path):
    """Return what `read` says about a text."""

    def refused(text):
        path = tmp_path / "solutions" / "90_small.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SourceError) as caught:
            read(path)
        place, line, problem = str(caught.value).split(":", 2)
        assert place == "solutions/90_small.py"
        return int(line), problem.strip()

    return refused


def test_reads_the_lesson(course):
    lesson = read(course / "solutions" / "90_small.py")
    assert (lesson.name, lesson.title, lesson.minutes) == ("90_small", "A small lesson", 5)
    assert lesson.exercises == {"conv_macs": 2.0}
    assert lesson.root == course
    lines = LESSON.splitlines()
    assert [lines[cell.line - 1][:4] for cell in lesson.cells] == 4 * ["# %%"]
    assert [cell.kind for cell in lesson.cells] == ["markdown", "code", "code", "code"]


# Each: what is replaced, by what, the line that is named, and the whole of what is said.
BROKEN = {
    "no header": (
        "# ---\n# title",
        "# title",
        1,
        "no header; start with `# ---`, title, summary, minutes, `# ---`",
    ),
    "open header": (
        "minutes: 5\n# ---",
        "minutes: 5",
        1,
        "the header does not end; close it with `# ---`",
    ),
    "unknown field": (
        "# minutes",
        "# hours",
        4,
        "'# hours: 5' is no header line; write title, summary, minutes as `# key: …`",
    ),
    "no minutes": ("# minutes: 5\n", "", 1, "the header lacks minutes; add `# minutes: …`"),
    "empty title": (
        "A small lesson\n# summary",
        "\n# summary",
        1,
        "the header lacks title; add `# title: …`",
    ),
    "odd minutes": ("minutes: 5", "minutes: five", 1, "minutes: 'five'; write a whole number"),
    "text before": (
        "# ---\n\n# %%",
        "# ---\n\nx = 1\n# %%",
        7,
        "text before the first cell; start it with `# %%`",
    ),
    "no title cell": (
        "# # 90",
        "# 90",
        7,
        "the first cell must be Markdown with the lesson's `# title`",
    ),
    "indented mark": (
        "    rows, columns",
        "    # %% rows\n    rows, columns",
        19,
        "'    # %% rows' looks like a new cell; write `# %% …`, or another comment",
    ),
    "glued mark": (
        "# %%\nprint",
        "#%%\nprint",
        12,
        "'#%%' looks like a new cell; write `# %% …`, or another comment",
    ),
    "mark in a text": (
        "print(6 * 7)",
        "'''\n# %%\n'''",
        12,
        "a `# %%` line of this cell or a later one stands inside a text; change it",
    ),
    "empty cell": ("print(6 * 7)\n", "", 12, "an empty code cell; remove it"),
    "raw cell": ("# %%\nprint", "# %% [raw]\nprint", 12, "a raw cell; use code or [markdown]"),
    "metadata": (
        'exercise="conv_macs"',
        "exercise=conv_macs",
        15,
        '`exercise=conv_macs` is not readable; write key="text" or key=number',
    ),
    "id": (
        'exercise="conv_macs"',
        'exercise="Conv MACs"',
        15,
        "exercise 'Conv MACs': an id has small letters, digits and `_`; rename it",
    ),
    "id as a list": (
        '"conv_macs" points',
        '"conv_macs", points',
        15,
        "exercise ['conv_macs']: an id has small letters, digits and `_`; rename it",
    ),
    "no points": (" points=2", "", 15, "exercise 'conv_macs' has no points; add points=N"),
    "zero points": ("points=2", "points=0", 15, "exercise 'conv_macs' has no points; add points=N"),
    "points as text": (
        "points=2",
        'points="2"',
        15,
        "exercise 'conv_macs' has no points; add points=N",
    ),
    "no solution": (
        "    ### BEGIN SOLUTION\n",
        "    pass\n",
        21,
        "`### END SOLUTION` without `### BEGIN SOLUTION`; open it first",
    ),
    "no markers": (
        EXERCISE,
        '# %% exercise="conv_macs" points=2\nx = 1\n\n',
        15,
        "exercise 'conv_macs' has no solution; "
        "mark it with `### BEGIN SOLUTION` and `### END SOLUTION`",
    ),
    "never closed": (
        "    ### END SOLUTION\n",
        "",
        18,
        "`### BEGIN SOLUTION` is never closed; add `### END SOLUTION`",
    ),
    "opened twice": (
        "    rows, columns",
        "    ### BEGIN SOLUTION\n    rows, columns",
        19,
        "`### BEGIN SOLUTION` inside a solution; close it with `### END SOLUTION`",
    ),
    "almost a marker": (
        "    ### BEGIN SOLUTION",
        "    # begin solution",
        18,
        "`# begin solution` is no marker; write `### BEGIN SOLUTION` or `### END SOLUTION`",
    ),
    "almost an end": (
        "### END SOLUTION",
        "### END of SOLUTION",
        21,
        "`### END of SOLUTION` is no marker; write `### BEGIN SOLUTION` or `### END SOLUTION`",
    ),
    "solution outside": (
        '# %% exercise="conv_macs" points=2',
        "# %%",
        15,
        'a solution outside an exercise; add exercise="id" points=N',
    ),
    "no check": (
        CHECK,
        "",
        15,
        "exercise 'conv_macs' has no check; let the next cell be `# %% check=\"conv_macs\"`",
    ),
    "cell between": (
        CHECK,
        "# %%\nx = 1\n\n" + CHECK,
        15,
        "exercise 'conv_macs' has no check; let the next cell be `# %% check=\"conv_macs\"`",
    ),
    "assigned check": (
        '\ncheck("conv_macs"',
        '\npoints = check("conv_macs"',
        23,
        "the check of 'conv_macs' must be the one line `check(\"conv_macs\", answer)`",
    ),
    "check of another": (
        '\ncheck("conv_macs"',
        '\ncheck("conv_params"',
        23,
        "the check of 'conv_macs' must be the one line `check(\"conv_macs\", answer)`",
    ),
    "second check": (
        CHECK,
        CHECK + "\n" + CHECK,
        26,
        "check 'conv_macs' is already at line 23; remove this one",
    ),
    "check alone": (EXERCISE, "", 15, "check 'conv_macs' has no exercise before it; add one"),
    "duplicate id": (
        CHECK,
        CHECK + "\n" + EXERCISE + CHECK,
        26,
        "exercise 'conv_macs' is already at line 15; choose another id",
    ),
    "Markdown exercise": (
        "# %% exercise",
        "# %% [markdown] exercise",
        15,
        "a Markdown cell is no exercise; remove [markdown]",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_source_is_refused(kind, refused):
    old, new, line, problem = BROKEN[kind]
    assert LESSON.count(old) >= 1
    assert refused(LESSON.replace(old, new, 1)) == (line, problem)


def test_other_encoding_is_refused(refused):
    text = LESSON.replace("small", "kleine Übung").encode("latin-1")
    assert refused(text) == (1, "the file is not in UTF-8; save it in UTF-8")


def test_stub_and_solution_share_all_but_the_region():
    text = (
        "a = 1\nif a:\n    ### BEGIN SOLUTION\n    b = 2\n\n    c = 3\n    ### END SOLUTION\nd = 4"
    )
    assert stub(text) == "a = 1\nif a:\n    ...\nd = 4"
    assert solved(text) == "a = 1\nif a:\n    b = 2\n\n    c = 3\nd = 4"


COMMENTS = """\
# Why?
# ?print
# rm VICTIM
# ls -l
# cat x
# cd data
# %timeit x
#!pip install x
# !ls
#%matplotlib inline
# %load_ext x
# + [markdown]
# -
# region
x = 1  # Why?
"""


@pytest.mark.parametrize("number", range(len(COMMENTS.splitlines())))
def test_comments_stay_comments(number, tmp_path):
    line = COMMENTS.splitlines()[number]
    for text in (line, f"{line}\nx = 2", COMMENTS.strip()):
        path = tmp_path / "90_small.py"
        path.write_text(LESSON.replace("print(6 * 7)", text))
        assert read(path).cells[1].text == text


def test_every_cell_of_the_course_is_as_its_source_has_it():
    for path in sources():
        lines = path.read_text().splitlines()
        for cell in read(path).cells:
            if cell.kind == "code":
                there = lines[cell.line : cell.line + len(cell.text.splitlines())]
                assert cell.text.splitlines() == there


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ('check("a", f)', "f"),
        ('check("a", models[0].call)', "models[0].call"),
        ('check("a", f)  # come back?', "f"),
        ('check("b", f)', None),
        ('x = check("a", f)', None),
        ('check("a", f); 1', None),
        ('check("a", answer=f)', None),
        ('other.check("a", f)', None),
        ('check("a")', None),
        ('check("a", f', None),
    ],
)
def test_answer_expression(text, expression):
    assert answer_expression(text, "a") == expression
