"""One look for every figure of the course, and alt text for all of them."""

import base64
import html
import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from utils.tables import wrap

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#6B7280",
)

_STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]),
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.8,
    "image.cmap": "gray",
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "legend.frameon": False,
}
# An inch of a figure on the page, in CSS pixels, and in dots: as many as sharp screens show. The
# few figures made of photographs, which would be large, have fewer.
_WIDTH = 90
_DPI = (144, 120, 90)
_LARGE = 150_000  # bytes

# Matplotlib reads most of these when a title or an axis is made, not when a figure is opened, so
# the style is set for the whole session.
plt.rcParams.update(_STYLE)


class Figure:
    """A finished figure as a picture with alt text.

    Args:
        png: the picture.
        alt: what it shows, for readers who do not see it.
        width: width on the page in CSS pixels.
    """

    def __init__(self, png: bytes, alt: str, width: int):
        self.png, self.alt, self.width = png, alt, width

    def __repr__(self):
        return wrap(f"Figure: {self.alt}")

    def _repr_html_(self):
        data = base64.b64encode(self.png).decode()
        return (
            f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}" '
            f'width="{self.width}" style="max-width:100%;border-radius:4px">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        """The picture twice: with alt text for browsers, alone for what shows no HTML (LaTeX)."""
        return {
            "text/html": self._repr_html_(),
            "image/png": base64.b64encode(self.png).decode(),
            "text/plain": repr(self),
        }


def canvas(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (8, 3.6), **options):
    """Open a figure in the course's style.

    Args:
        rows: number of axes below each other.
        columns: number of axes side by side.
        size: width and height in inches.
        **options: passed on to `matplotlib.pyplot.subplots`.

    Returns:
        `(figure, axes)` as `matplotlib.pyplot.subplots` gives them.

    >>> figure, axes = canvas(1, 2)
    >>> len(axes)
    2
    >>> plt.close(figure)
    """
    return plt.subplots(rows, columns, figsize=size, **options)


def show(figure, alt: str) -> Figure:
    """Close a figure and return it as a picture with alt text, to end a cell with.

    Args:
        figure: a Matplotlib figure.
        alt: one or two sentences that say what it shows and what follows.

    Returns:
        What a notebook displays as an image, and a terminal prints as its alt text.

    Raises:
        ValueError: if `alt` is empty.

    >>> show(canvas()[0], alt="Empty axes.")
    Figure: Empty axes.
    """
    if not alt.strip():
        raise ValueError("alt='': expected one or two sentences that say what the figure shows")
    for dots in _DPI:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dots)
        # A palette of 256 colours makes the picture a third of its size, and the notebook too.
        picture = Image.open(buffer).convert("RGB")
        picture = picture.quantize(256, kmeans=2, dither=Image.Dither.NONE)
        small = io.BytesIO()
        picture.save(small, format="png", optimize=True)
        if small.tell() <= _LARGE:
            break
    plt.close(figure)
    return Figure(small.getvalue(), alt, round(figure.get_figwidth() * _WIDTH))


def pictures(images, titles=None, *, columns: int = 6, cell: float = 1.5, ranges=None):
    """Draw images in a grid.

    Args:
        images: `(N, H, W)`, `(N, H, W, 1)` or `(N, H, W, 3)`, in [0, 1].
        titles: N captions, or None.
        columns: images in a row.
        cell: width of an image in inches.
        ranges: `(low, high)` that map to black and white, or None for (0, 1).

    Returns:
        The Matplotlib figure.

    >>> plt.close(pictures(np.zeros((3, 4, 4)), columns=3))
    """
    images = np.asarray(images)
    rows = -(-len(images) // columns)
    height = cell * (1.25 if titles is not None else 1.05)
    figure, axes = canvas(
        rows, columns, size=(cell * columns, height * rows), squeeze=False, layout="constrained"
    )
    low, high = ranges or (0, 1)
    for index, axis in enumerate(axes.flat):
        axis.axis("off")
        if index < len(images):
            axis.imshow(np.squeeze(images[index]), vmin=low, vmax=high, cmap="gray")
            if titles is not None:
                axis.set_title(titles[index], fontsize=10, fontweight="normal", loc="center")
    return figure
