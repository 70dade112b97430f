import html.parser

import pytest

from utils.tables import WIDTH, Table, wrap


class Cells(html.parser.HTMLParser):
    """Collects the cells of a table, row by row, each as (tag, scope, text)."""

    def __init__(self, markup):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append([tag, dict(attributes).get("scope"), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1][2] += data


def wide():
    names = [f"column {n}" for n in range(9)]
    rows = [[f"row {n}", n, *(["1,234,567,890"] * 7)] for n in range(3)]
    return Table(names, rows, foot=["all", *([""] * 8)], notes=["A <note>. " * 12], keys=2)


def test_every_row_and_column_has_a_header():
    head, *body = Cells(wide()._repr_html_()).rows
    assert {(tag, scope) for tag, scope, _ in head} == {("th", "col")}
    for row in body:
        assert row[0][:2] == ["th", "row"]
        assert {(tag, scope) for tag, scope, _ in row[1:]} == {("td", None)}
        # A header cell that is empty says nothing to those who hear it.
        assert row[0][2].strip()
    assert [row[0][2] for row in body] == ["row 0", "row 1", "row 2", "all"]


def test_html_scrolls_and_has_the_themes_colours():
    markup = wide()._repr_html_()
    assert "overflow:auto" in markup and "white-space:nowrap" in markup
    assert "background" not in markup and "#" not in markup
    assert "A &lt;note&gt;." in markup


def test_text_fits_and_repeats_what_names_a_row():
    lines = str(wide()).splitlines()
    assert max(map(len, lines)) <= WIDTH
    heads = [line.split("  ") for line in lines if line.startswith("column 0")]
    assert len(heads) == 2
    for number in range(3):
        assert sum(line.startswith(f"row {number}") for line in lines) == 2
    assert all(" ".join(lines).count(f"column {n}") == 1 for n in range(2, 9))


def test_text_of_a_narrow_table_is_one_part():
    table = Table(("a", "b", "c"), [("x", 1, "y"), ("z", "≠ 20", "–")])
    assert str(table).splitlines() == ["a     b  c", "──────────", "x     1  y", "z  ≠ 20  –"]
    assert table._repr_mimebundle_()["text/plain"] == repr(table) == str(table)


@pytest.mark.parametrize("headers", [("", "b"), ("a", " ")])
def test_column_without_a_header_is_refused(headers):
    with pytest.raises(ValueError, match="expected a name for each column"):
        Table(headers, [])


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"row=\['1'\]: expected 2 values"):
        Table(("a", "b"), [(1,)])


def test_wrapped_text_loses_no_word():
    text = "one two\nthree " + "four-five " * 30
    assert wrap(text, "  ").split() == text.split()
    assert all(
        line.startswith("  ") and len(line) <= WIDTH for line in wrap(text, "  ").split("\n")
    )
