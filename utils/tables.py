"""One way to make a table: HTML in a notebook, aligned text everywhere else."""

import html
import itertools
import re
import textwrap

# A printed line that is longer breaks on a narrow page, and in a terminal.
WIDTH = 80

_BORDER = "1px solid var(--jp-border-color1, rgba(128, 128, 128, 0.5))"
_BLANK = ("", "–")


class Table:
    """Rows under headers, with notes below.

    A notebook shows it as HTML that scrolls sideways and never wraps a row; text and ground are
    the theme's, light or dark. As text, a table that is too wide for a line comes in parts, one
    below the other, each of which repeats the columns that name a row. The first column is
    aligned to the left, and so are others, unless all their cells begin with a digit.

    Args:
        headers: the name of each column.
        rows: the rows, one value a column; values are shown as `str` shows them.
        foot: a last row for totals, or None.
        notes: sentences below the table.
        keys: how many of the first columns name a row.

    Raises:
        ValueError: if a column has no header, or a row not one value a column.

    >>> Table(("layer", "weights"), [("conv", "1,080"), ("dense", 90)], notes=["No biases."])
    layer  weights
    ──────────────
    conv     1,080
    dense       90
    <BLANKLINE>
    No biases.
    """

    def __init__(self, headers, rows, *, foot=None, notes=(), keys=1):
        self.headers = [str(header) for header in headers]
        if not all(header.strip() for header in self.headers):
            raise ValueError(f"headers={self.headers}: expected a name for each column")
        self.rows = [[str(value) for value in row] for row in rows]
        self.foot = None if foot is None else [str(value) for value in foot]
        self.notes, self.keys = list(notes), keys
        for row in self._body():
            if len(row) != len(self.headers):
                raise ValueError(f"row={row}: expected {len(self.headers)} values")
        self._left = [
            index == 0 or not all(_is_number(row[index]) for row in self.rows)
            for index in range(len(self.headers))
        ]

    def _body(self):
        return [*self.rows, *([] if self.foot is None else [self.foot])]

    def __str__(self):
        parts = [self._part(columns) for columns in self._parts()]
        if self.notes:
            parts.append("\n".join(map(wrap, self.notes)))
        return "\n\n".join(parts)

    def __repr__(self):
        return str(self)

    def _widths(self):
        return [max(map(len, column)) for column in zip(self.headers, *self._body(), strict=True)]

    def _parts(self):
        """Deal the columns out to as few parts as fit a line, as evenly as possible."""
        widths = self._widths()
        keys, values = list(range(self.keys)), list(range(self.keys, len(widths)))
        for count in range(1, len(values) + 1):
            ends = [round(len(values) * n / count) for n in range(count + 1)]
            parts = [keys + values[a:b] for a, b in itertools.pairwise(ends)]
            if all(sum(widths[i] + 2 for i in part) - 2 <= WIDTH for part in parts):
                break
        return parts if values else [keys]

    def _part(self, columns):
        widths = self._widths()

        def line(row):
            cells = (
                row[i].ljust(widths[i]) if self._left[i] else row[i].rjust(widths[i])
                for i in columns
            )
            return "  ".join(cells).rstrip()

        rule = "─" * (sum(widths[i] + 2 for i in columns) - 2)
        lines = [line(self.headers), rule, *map(line, self.rows)]
        return "\n".join(lines if self.foot is None else [*lines, rule, line(self.foot)])

    def _repr_html_(self):
        def cell(tag, text, index, more="", scope=""):
            side = "left" if self._left[index] else "right"
            scope = f' scope="{scope}"' if scope else ""
            return f'<{tag}{scope} style="text-align:{side}{more}">{html.escape(text)}</{tag}>'

        def line(row, more=";font-weight:normal"):
            # A row's name is its header; it looks like the other cells.
            name = cell("th", row[0], 0, more, "row")
            rest = (cell("td", text, index, more) for index, text in enumerate(row[1:], 1))
            return f"<tr>{name}{''.join(rest)}</tr>"

        heads = (cell("th", text, i, scope="col") for i, text in enumerate(self.headers))
        foot = ""
        if self.foot is not None:
            foot = f"<tfoot>{line(self.foot, f';font-weight:bold;border-top:{_BORDER}')}</tfoot>"
        notes = "".join(
            f'<p style="margin:0.4em 0 0;max-width:46em">{html.escape(note)}</p>'
            for note in self.notes
        )
        return (
            # With a tabindex, the arrow keys scroll it, too.
            '<div style="overflow:auto;max-height:32em" tabindex="0">'
            '<table style="color:inherit;white-space:nowrap;margin:0">'
            f"<thead><tr>{''.join(heads)}</tr></thead>"
            f"<tbody>{''.join(map(line, self.rows))}</tbody>{foot}</table></div>{notes}"
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self._repr_html_(), "text/plain": str(self)}


def wrap(text: str, indent: str = "", width: int = WIDTH) -> str:
    """Break a sentence into lines of at most `width` characters.

    Args:
        text: the sentence; its own line breaks stay.
        indent: what each line begins with.
        width: most characters in a line, with the indent.

    >>> print(wrap("a long sentence " * 6))
    a long sentence a long sentence a long sentence a long sentence a long sentence
    a long sentence
    """
    lines = []
    for line in text.splitlines():
        lines += textwrap.wrap(
            line,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)


def _is_number(text):
    return text in _BLANK or re.match(r"(≠ )?[-+−±]?\d", text) is not None
