# ---
# title: Pointwise convolutions
# summary: what a 1×1 filter is good for; network in network; the Inception bottleneck; a mean instead of a dense layer
# minutes: 75
# ---

# %% [markdown]
# # 01 · Pointwise convolutions
#
# The drone's network has to become small, and the first tool for it looks like a mistake: a
# convolution whose filter covers a single pixel. It sees no edge, no line, no texture. Yet the
# networks of this course spend most of their multiply-adds in it.
#
# After this lesson you can
#
# - say what a 1×1 filter computes, and write it in NumPy and as a Keras layer,
# - make a tensor narrower, wider or more non-linear without touching its height and width,
# - cut the multiply-adds of a convolution to a tenth with a bottleneck, and build an Inception
#   module from it,
# - replace the heaviest layer of a classifier by a mean, and say what that saves and what not.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

from utils import plots
from utils.cost import count
from utils.data import load

# %% [markdown]
# ## A filter of one pixel
#
# The filters of lesson 00 covered 3×3 pixels or more. Shrink one until it covers a single pixel:
# what is left of the convolution? Here is a picture of 6×6 pixels with one channel, shape
# 6×6×1, and one 1×1 filter whose only weight is 2.

# %%
rng = np.random.default_rng(1)
picture = rng.integers(0, 10, (6, 6, 1))

one_pixel = keras.layers.Conv2D(1, 1, use_bias=False)
one_pixel.build((None, 6, 6, 1))
one_pixel.set_weights([np.full((1, 1, 1, 1), 2.0)])
filtered = one_pixel(picture[None].astype("float32")).numpy()[0]

for row, row_filtered in zip(picture[..., 0], filtered[..., 0].astype(int), strict=True):
    print(row, " → ", row_filtered)
assert np.array_equal(filtered, 2 * picture)

# %% [markdown]
# Every number is doubled. That is a brightness knob, and nobody needs a convolution for it. So
# what is a 1×1 filter good for?
#
# The answer lies along the one axis that this picture lacks.

# %% [markdown]
# ## One neuron, 36 positions
#
# Inside a network a tensor has many channels. Take 6×6×32: 36 positions, and at each of them a
# *column* of 32 numbers $x_1, …, x_{32}$, one for each channel. A filter spans all channels of its
# input, so a 1×1 filter has 32 weights $w_1, …, w_{32}$ here, and a bias $b$. At each position it
# computes
#
# $$a = \mathrm{ReLU}(w_1 x_1 + w_2 x_2 + … + w_{32} x_{32} + b), \qquad \mathrm{ReLU}(z) = \max(z, 0).$$
#
# Where have you seen this formula before? (The code of drawings is folded; a click on the bar shows
# it.)

# %% jupyter={"source_hidden": true} cellView="form"
# Figure: one neuron at every position
figure, axis = plots.canvas(size=(10, 3.7))
axis.set(xlim=(-0.2, 19.4), ylim=(-1.75, 5.6), aspect="equal")
axis.axis("off")


def grid(left, bottom, face, zorder=1):
    """Draw a map of 6×6 positions, the one in row 2 and column 5 in orange."""
    for row in range(6):
        for column in range(6):
            corner, here = (left + 0.6 * column, bottom + 0.6 * (5 - row)), (row, column) == (2, 5)
            look = {"fc": plots.ORANGE if here else face, "ec": "#6B7280", "lw": 0.8}
            axis.add_patch(plt.Rectangle(corner, 0.6, 0.6, zorder=zorder, **look))


def arrow(start, end):
    """Draw an arrow."""
    style = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=style)


neuron, depths = (11.4, 2.4), range(6, -1, -1)
for depth in depths:
    grid(0.5 * depth, 0.3 * depth, "#F3F8FF" if depth else "#DBEAFE", zorder=10 - depth)
for depth in depths:
    start = (0.5 * depth + 3.5, 0.3 * depth + 2.1)
    axis.plot(*zip(start, neuron, strict=True), "-", color=plots.ORANGE, lw=1.4, zorder=20)
    axis.plot(*start, "o", color="black", ms=3.5, zorder=21)
axis.add_patch(plt.Circle(neuron, 0.85, fc="white", ec="black", lw=1.8, zorder=22))
axis.text(*neuron, "Σ + b", ha="center", va="center", fontsize=13, zorder=23)
arrow((12.25, 2.4), (13.2, 2.4))
axis.add_patch(plt.Rectangle((13.2, 1.8), 1.2, 1.2, fc="white", ec="black", lw=1.5))
axis.plot([13.35, 13.8, 14.25], [2.05, 2.05, 2.75], color=plots.BLUE, lw=2.5)
axis.text(13.8, 1.3, "ReLU", ha="center", va="center", fontsize=12)
grid(15.6, 0.6, "#DBEAFE")
arrow((14.4, 2.4), (18.6, 2.7))
axis.text(9.1, 3.9, "32 weights", ha="center", fontsize=12, color="#8A5A00")
for left, name, more in (
    (2.6, "input 6×6×32", "7 of the 32 maps are drawn"),
    (11.4, "one neuron", "the same at all positions"),
    (17.4, "output 6×6×1", ""),
):
    axis.text(left, -0.75, name, ha="center", fontsize=13, weight="bold")
    axis.text(left, -1.45, more, ha="center", fontsize=11.5)
plots.show(
    figure,
    alt="A stack of 32 maps of 6 by 6 positions. The 32 numbers at one position run through 32 "
    "weights into one neuron, a sum plus a bias, then through a ReLU into the same position of "
    "a single output map.",
)

# %% [markdown]
# It is one neuron of a dense layer. The column is its input, and the same neuron visits all 36
# positions. First at the orange position by hand, then everywhere: `@` multiplies along the last axis.

# %%
x = rng.normal(size=(6, 6, 32))
w, b = rng.normal(size=32), 0.5

column = x[2, 5]
by_hand = max(sum(w[c] * column[c] for c in range(32)) + b, 0)
everywhere = np.maximum(x @ w + b, 0)

print(f"at row 2, column 5: {by_hand:.3f} by hand, {everywhere[2, 5]:.3f} in the map")
print(f"the map: {everywhere.shape}, so {everywhere.size} runs of one neuron")
assert np.isclose(by_hand, everywhere[2, 5])

# %% [markdown]
# With $F$ filters, $F$ neurons read the same column: a whole dense layer at every position. A
# small network slides over the picture, inside the large one. Its inventors called it *network
# in network*. The weights of all filters form a kernel of shape $(C, F)$: $C$ input channels,
# $F$ filters.
#
# ### Exercise 1 · A pointwise convolution in NumPy (1 point)
#
# Write `pointwise_conv(x, kernel, bias)` with NumPy alone: `x` has the shape (H, W, C), `kernel`
# (C, F), `bias` (F,), and the result (H, W, F) is $\mathrm{ReLU}$ of the weighted sum plus bias.
#
# *What is tested:* the weighted sum (half a point), then bias and ReLU, at random shapes.


# %% exercise="pointwise_conv" points=1
def pointwise_conv(x, kernel, bias):
    """Return the ReLU of a 1×1 convolution: (H, W, C) → (H, W, F)."""
    ### BEGIN SOLUTION
    return np.maximum(x @ kernel + bias, 0)
    ### END SOLUTION


# %% check="pointwise_conv"
check("pointwise_conv", pointwise_conv)

# %% [markdown]
# ## What mixing channels can see
#
# A neuron that sees one position cannot find a crack. But the channels below it can: each holds
# what *its* filter saw around this position. Let us try it on real cells.
#
# Three filters answer to dark lines in three directions: horizontal, rising, falling. The dark
# *busbars*, which collect the current, are horizontal; cracks mostly run at a slant. (Photographs:
# ELPV dataset, CC BY-NC-SA 4.0, as in lesson 00.)


# %%
def arrays(split):
    """Return all cells of a split, (N, 96, 96, 1), and their classes, as NumPy arrays."""
    options = {"image_size": 96, "channels": 1, "batch_size": 2000}
    cells, classes = next(iter(load("solar_cells", split, **options)))
    return cells.numpy(), classes.numpy()


def dark_line(degrees, width):
    """Return a 7×7 filter that answers to a dark line in this direction."""
    y, x = np.mgrid[-3:4, -3:4]
    angle = np.deg2rad(degrees)
    across = x * np.sin(angle) + y * np.cos(angle)
    along = x * np.cos(angle) - y * np.sin(angle)
    weights = (across**2 / width**2 - 1) * np.exp(-(across**2 + along**2 / 5) / (2 * width**2))
    weights -= weights.mean()
    return 2 * weights / np.abs(weights).sum()


train_cells, train_classes = arrays("train")
validation_cells, validation_classes = arrays("validation")
lines = keras.layers.Conv2D(3, 7, activation="relu", use_bias=False)
lines.build((None, 96, 96, 1))
lines.set_weights(
    [np.stack([dark_line(0, 1.4), dark_line(45, 1), dark_line(135, 1)], -1)[:, :, None]]
)


def line_channels(cells):
    """Return how strongly each position looks like a line of each direction: (N, 90, 90, 3)."""
    bright = cells / np.maximum(cells.mean((1, 2), keepdims=True), 0.05)
    return np.concatenate([lines(part).numpy() for part in np.array_split(bright, 8)])


channels = line_channels(train_cells)
print("cells", train_cells.shape, " channels", channels.shape)

# %% [markdown]
# Now one neuron mixes these three channels at each of the 90×90 positions. It should answer to
# cracks and be silent on busbars. The slanted filters answer to a busbar too, though less than the
# horizontal one. So which signs do its three weights need?

# %%
# Figure: three cells, their line channels and the mixture
w, b = np.array([-0.5, 1.0, 1.0]), -0.02  # horizontal, rising, falling
crack_map = np.maximum(channels @ w + b, 0)

shown = [10, 30, 12]
figure, axes = plots.canvas(len(shown), 5, size=(10, 6.5))
titles = ("cell", "horizontal\nw = −0.5", "rising\nw = 1", "falling\nw = 1", "mixed\nby the neuron")
for row, index in zip(axes, shown, strict=True):
    cell = train_cells[index, 3:-3, 3:-3, 0]
    panels = [cell / cell.max(), *np.moveaxis(4 * channels[index], -1, 0), 6 * crack_map[index]]
    for axis, title, panel in zip(row, titles, panels, strict=True):
        axis.imshow(panel, vmin=0, vmax=1, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_title(title if index == shown[0] else "", loc="center", fontsize=13)
    row[0].set_ylabel("defective" if train_classes[index] else "functional", fontsize=13)
plots.show(
    figure,
    alt="Three solar cells, their three line channels and the mixture. In two cracked cells the "
    "mixture shows the cracks as bright lines while the busbars are gone; in a functional cell "
    "only faint dashes remain.",
)

# %% [markdown]
# No single channel separates cracks from busbars. The mixture does, with four numbers. How far does
# that carry? Take the mean of the map as a cell's score, and choose on the training cells the score
# above which we call a cell defective. Then ask the validation cells, as in lesson 00:


# %%
def balanced(labels, predictions):
    """Return the mean of the recalls of both classes."""
    return np.mean([np.mean(predictions[labels == c] == c) for c in (0, 1)])


def scores(cells):
    """Return the mean of each cell's crack map."""
    return np.maximum(line_channels(cells) @ w + b, 0).mean((1, 2))


train_scores, validation_scores = crack_map.mean((1, 2)), scores(validation_cells)
limits = np.quantile(train_scores, np.linspace(0.02, 0.98, 97))
limit = max(limits, key=lambda value: balanced(train_classes, train_scores > value))
by_cracks = balanced(validation_classes, validation_scores > limit)

# %% tags=["nbval-ignore-output"]
print("balanced accuracy on the validation cells")
print(f"  always 'functional'  {balanced(validation_classes, 0 * validation_classes):.1%}")
print(f"  crack map            {by_cracks:.1%}")

# %%
assert 0.55 < by_cracks < 0.7
print("better than a constant, and far from good:", 0.55 < by_cracks < 0.7)

# %% [markdown]
# A hand-made neuron beats the constant answer, and misses most of what can be wrong with a cell:
# dark regions are no lines, and polycrystalline cells are full of harmless ones. What we chose by
# hand, filters and mixture, a network learns. At the end of the lesson it does.

# %% [markdown]
# ## Height, width, and the third axis
#
# You know a layer that shrinks tensors: pooling. It halves height and width and leaves the
# channels alone. The 1×1 convolution is its counterpart: it leaves height and width alone, and
# the number of its filters decides what becomes of the channels.

# %% jupyter={"source_hidden": true} cellView="form"
# Figure: what pooling and 1×1 convolutions do to a tensor
figure, axis = plots.canvas(size=(10, 3.2))
axis.set(xlim=(-0.1, 20.9), ylim=(-1.8, 4.1), aspect="equal")
axis.axis("off")


def block(left, side, channels, colour, text):
    """Draw a tensor as a box: side by side positions, as thick as it has channels."""
    size, thick = side / 10, channels / 110
    slant = np.array([0.42, 0.36]) * size
    base = np.array([left, 1.4 - size / 2])
    front = base + np.array([[0, 0], [thick, 0], [thick, size], [0, size]])
    top = np.array([front[3], front[2], front[2] + slant, front[3] + slant])
    right = np.array([front[1], front[1] + slant, front[2] + slant, front[2]])
    for face, shade in ((front, 0.75), (top, 0.45), (right, 0.6)):
        axis.add_patch(plt.Polygon(face, fc=colour, ec="white", lw=1.5, alpha=shade))
    middle = left + (thick + slant[0]) / 2
    axis.text(middle, -0.75, f"{side}×{side}×{channels}", ha="center", fontsize=12, weight="bold")
    axis.text(middle, -1.45, text, ha="center", fontsize=11.5)


block(0.2, 28, 192, plots.GREY, "input")
axis.annotate("", (5.0, 1.9), (3.6, 1.9), arrowprops={"arrowstyle": "-|>", "lw": 2})
block(5.5, 14, 192, plots.GREEN, "max pooling")
block(9.0, 28, 32, plots.BLUE, "1×1, F = 32")
block(11.7, 28, 192, plots.BLUE, "1×1, F = 192")
block(15.6, 28, 384, plots.BLUE, "1×1, F = 384")
plots.show(
    figure,
    alt="From an input of 28 by 28 by 192, max pooling makes 14 by 14 by 192: smaller in height "
    "and width. Pointwise convolutions keep 28 by 28 and make 32, 192 or 384 channels: thinner, "
    "equal or thicker.",
)

# %%
tensor = rng.normal(size=(1, 28, 28, 192)).astype("float32")
print(f"{'input':22}", tensor.shape[1:])
print(f"{'max pooling':22}", tuple(keras.layers.MaxPooling2D(2)(tensor).shape[1:]))
for filters in (32, 192, 384):
    name = f"1×1, {filters} filters"
    print(f"{name:22}", tuple(keras.layers.Conv2D(filters, 1)(tensor).shape[1:]))

# %% [markdown]
# Fewer channels make every later layer cheaper, more channels give it more to work with. But 192 to
# 192? What would such a layer be for?
#
# Try two of them in a row, without and with the ReLU in between. A layer without ReLU multiplies
# each column by a matrix, and two matrices in a row are one matrix, their product:

# %%
first, second = rng.normal(size=(2, 192, 192)) / 192**0.5
column = tensor[0, 3, 4].astype("float64")

without = (column @ first) @ second
with_relu = np.maximum(column @ first, 0) @ second
merged = column @ (first @ second)
print("without ReLU, two layers are one:", np.allclose(without, merged))
print("with ReLU, two layers are one:   ", np.allclose(with_relu, merged))
assert np.allclose(without, merged) and not np.allclose(with_relu, merged)

# %% [markdown]
# With its ReLU a 1×1 convolution that keeps the number of channels still adds a non-linearity: the
# network can compute more, at the same size of its tensors.
#
# ### Exercise 2 · A pointwise layer in Keras (2 points)
#
# Complete `PointwiseConv2D`. `build` makes two weights with `self.add_weight`: a kernel of shape
# (C, F), where C is the last entry of `input_shape` and F is `self.filters`, and a bias of shape
# (F,) that starts at 0. `call` multiplies (`keras.ops.matmul`, or `@`), adds, and applies
# `self.activation`. Convolutions and dense layers of Keras are not allowed: you are writing one.
#
# *What is tested:* both weights, the output at two sizes of the picture, and the ReLU.


# %% exercise="pointwise_layer" points=2
class PointwiseConv2D(keras.layers.Layer):
    """1×1 convolution: (B, H, W, C) → (B, H, W, F)."""

    def __init__(self, filters, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = keras.activations.get(activation)  # None: the identity

    def build(self, input_shape):
        ### BEGIN SOLUTION
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.filters))
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        return self.activation(keras.ops.matmul(x, self.kernel) + self.bias)
        ### END SOLUTION


# %% check="pointwise_layer"
check("pointwise_layer", PointwiseConv2D)

# %% [markdown]
# From here on `reference` holds the course's own layers, so that the lesson goes on whatever
# yours does by now.
#
# ## Is it a convolution or a dense layer?
#
# Both. Keras' `Dense` works on the last axis of whatever it gets. Give the same kernel and the same
# bias to three layers: `Conv2D` with a 1×1 kernel, `Dense`, and the pointwise layer. What do you
# expect?

# %%
from utils import pointwise as reference

twins = {
    "Conv2D(32, 1)": keras.layers.Conv2D(32, 1),
    "Dense(32)": keras.layers.Dense(32),
    "PointwiseConv2D(32)": reference.PointwiseConv2D(32),
}
kernel, bias = rng.normal(size=(192, 32)) / 192**0.5, rng.normal(size=32)
outputs = {}
for name, layer in twins.items():
    layer.build((None, 28, 28, 192))
    shape = tuple(layer.kernel.shape)
    layer.set_weights([kernel.reshape(shape), bias])
    outputs[name] = layer(tensor).numpy()
    cost = count(layer, (28, 28, 192))
    print(f"{name:20} kernel {shape!s:16} {cost.params:,} parameters, {cost.macs:,} MACs")
equal = [np.allclose(output, outputs["Dense(32)"], atol=1e-5) for output in outputs.values()]
print("equal outputs:", all(equal))
assert all(equal)

# %% [markdown]
# The three differ in nothing but the shape in which they store their kernel. So a dense layer at
# every position, a 1×1 convolution and a pointwise convolution are one thing. When you read of one
# of them, think of the others.
#
# ## The bottleneck
#
# Now for the saving. At one place inside GoogLeNet, 32 filters of 5×5 look at a tensor of
# 28×28×192. Multiply-adds are kernel elements × output positions (lesson 00). Before you run the
# cell: what does the layer cost, and what if a 1×1 convolution first squeezes the 192 channels into
# 16?


# %%
def five_by_five(reduce=None):
    """Return 32 filters of 5×5, behind a 1×1 bottleneck of `reduce` channels if it is given."""
    squeeze = [] if reduce is None else [reference.PointwiseConv2D(reduce, "relu", name="1x1")]
    convolve = keras.layers.Conv2D(32, 5, padding="same", activation="relu", name="5x5")
    return keras.Sequential([*squeeze, convolve])


directly = count(five_by_five(), (28, 28, 192))
through_16 = count(five_by_five(16), (28, 28, 192))
print(f"directly:   {directly.macs:>11,} MACs")
for row in through_16.layers:
    print(f"  {row.name}:      {row.macs:>11,} MACs")
print(f"through 16: {through_16.macs:>11,} MACs, {directly.macs / through_16.macs:.1f} times fewer")
assert (directly.macs, through_16.macs) == (120_422_400, 12_443_648)

# %% [markdown]
# 120.4 million multiplications become 12.4 million, and what comes out has the same shape. The
# expensive 5×5 filters now read 16 channels instead of 192; the 1×1 convolution that squeezes them
# costs 2.4 million. A layer that is narrower than its neighbours is called a *bottleneck*.
#
# ### Exercise 3 · The cost of a bottleneck (1 point)
#
# Write `bottleneck_macs(height, width, channels, reduce, kernel, filters)`: the multiply-adds of a
# 1×1 convolution from `channels` to `reduce` channels and a `kernel`×`kernel` convolution from
# there to `filters` channels, both with padding `"same"` and stride 1. If `reduce` is `None`,
# there is no bottleneck: the `kernel`×`kernel` convolution reads the input.
#
# *Example:* `bottleneck_macs(28, 28, 192, 16, 5, 32)` is 12443648, with `None` 120422400.
#
# *What is tested:* random sizes, directly (half a point) and through a bottleneck.


# %% exercise="bottleneck_macs" points=1
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    """Return the multiply-adds of a convolution, behind a bottleneck unless `reduce` is None."""
    ### BEGIN SOLUTION
    positions = height * width
    if reduce is None:
        return positions * kernel * kernel * channels * filters
    return positions * (channels * reduce + kernel * kernel * reduce * filters)
    ### END SOLUTION


# %% check="bottleneck_macs"
check("bottleneck_macs", bottleneck_macs)

# %% [markdown]
# How narrow should a bottleneck be? And can one be so wide that it saves nothing?

# %%
# Figure: multiply-adds over the width of the bottleneck
widths = np.arange(1, 193)
squeeze = 28 * 28 * 192 * widths / 1e6
convolve = 28 * 28 * 25 * widths * 32 / 1e6
break_even = 25 * 192 * 32 / (192 + 25 * 32)

figure, axis = plots.canvas(size=(8.4, 4.1))
axis.stackplot(widths, squeeze, convolve, colors=[plots.SKY, plots.BLUE])
axis.text(188, 9, "1×1: 192 → c channels", ha="right", va="center")
axis.text(188, 55, "5×5: c → 32 channels", ha="right", va="center", color="white")
axis.axhline(directly.macs / 1e6, color=plots.RED, linestyle="--")
axis.text(2, directly.macs / 1e6 + 3, "5×5 directly: 120.4 million", color=plots.RED)
axis.plot(16, through_16.macs / 1e6, "o", color="black", zorder=5)
axis.annotate(
    "c = 16 in GoogLeNet:\n12.4 million",
    (16, through_16.macs / 1e6),
    (6, 56),
    arrowprops={"arrowstyle": "-", "color": "black"},
)
axis.plot(break_even, directly.macs / 1e6, "s", color=plots.RED, zorder=5)
axis.text(
    break_even - 3, 126, f"saves nothing\nfrom c = {break_even:.0f}", color=plots.RED, ha="right"
)
axis.set(
    xlabel="channels c of the bottleneck",
    ylabel="multiply-adds in millions",
    xlim=(0, 192),
    ylim=(0, 155),
)
plots.show(
    figure,
    alt="Multiply-adds of a 1 by 1 bottleneck with c channels and the 5 by 5 convolution behind it. "
    "They grow in proportion to c. At c = 16 they are a tenth of the direct convolution's 120.4 "
    "million, and from c = 155 on nothing is saved.",
)

# %%
for c in (8, 16, 64, 155, 192):
    macs = count(five_by_five(c), (28, 28, 192)).macs
    print(
        f"c = {c:3}: {macs / 1e6:6.1f} million MACs, {macs / directly.macs:6.1%} of the direct way"
    )

# %% [markdown]
# The cost is proportional to $c$, so every halving of the bottleneck halves it. Multiply-adds alone
# would drive $c$ down to 1. What stands against it is not in this picture: whatever the 5×5 filters
# can know of a position must fit into $c$ numbers. Lesson 04 measures what a layer that is too
# narrow destroys.

# %% [markdown]
# ## The Inception module
#
# Which filter size is best: 1×1, 3×3, 5×5, or pooling? GoogLeNet leaves the choice to training: it
# runs all four side by side and joins the results along the channels. It can afford this because
# of bottlenecks. Its first module, "3a", is a row of Table 1 in the paper:
#
# | branch | 1×1 | 3×3 reduce | 3×3 | 5×5 reduce | 5×5 | pool proj |
# | --- | --- | --- | --- | --- | --- | --- |
# | filters in 3a | 64 | 96 | 128 | 16 | 32 | 32 |
#
# "Reduce" are the bottlenecks, "pool proj" is a 1×1 convolution *after* the pooling. Why is it
# there? Look at what the pooling branch would hand on without it.

# %%
row_3a = reference.GOOGLENET["3a"]
module = reference.InceptionModule(*row_3a)
naive = reference.InceptionModule(64, None, 128, None, 32, None)  # None: no 1×1 convolution there
cost, cost_naive = count(module, (28, 28, 192)), count(naive, (28, 28, 192))
for name, found in (("without bottlenecks", cost_naive), ("3a, with them", cost)):
    joined = found.layers[-1].output_shape
    print(f"{name:20} output {joined}  {found.kernels:,} weights  {found.macs:,} MACs")

# %% jupyter={"source_hidden": true} cellView="form"
# Figure: the Inception module and its costs
branches = ["1×1", "3×3", "5×5", "pooling"]
parts = {"1x1": 0, "3x3_reduce": 1, "3x3/conv": 1, "5x5_reduce": 2, "5x5/conv": 2, "pool_proj": 3}
saved, narrow, without = np.zeros((3, 4))
for found, target in ((cost, saved), (cost_naive, without)):
    for layer in found.layers:
        target[parts.get(layer.name, 0)] += layer.macs / 1e6
        if target is saved and layer.name in ("3x3_reduce", "5x5_reduce"):
            narrow[parts[layer.name]] = layer.macs / 1e6

figure, (axis, bars) = plots.canvas(1, 2, size=(10.5, 4.4), width_ratios=[3, 2])
axis.set(xlim=(0, 12), ylim=(3.62, -0.75))
axis.axis("off")
bars.set_ylim(axis.get_ylim())


def box(left, row, text, colour, width=2.2, height=0.56):
    """Draw a layer as a box with its text."""
    corner = (left, row - height / 2)
    axis.add_patch(plt.Rectangle(corner, width, height, fc=colour, ec="black", lw=1.2))
    axis.text(left + width / 2, row, text, ha="center", va="center", fontsize=11)


yellow, blue, green = "#FBEFB3", "#BFE0F5", "#BFE7D6"
box(0.1, 1.5, "input\n28×28\n×192", "white", width=1.5, height=1.3)
chains = (
    (("1×1\n64", yellow),),
    (("1×1\n96", yellow), ("3×3\n128", blue)),
    (("1×1\n16", yellow), ("5×5\n32", blue)),
    (("max pool\n3×3", green), ("1×1\n32", yellow)),
)
for row, chain in enumerate(chains):
    lefts = (3.0, 6.4)[: len(chain)]
    arrow((1.6, 1.5), (lefts[0], row))
    for left, (text, colour) in zip(lefts, chain, strict=True):
        box(left, row, text, colour)
    if len(chain) == 2:
        arrow((5.2, row), (6.4, row))
    arrow((lefts[-1] + 2.2, row), (10.3, row))
box(10.3, 1.5, "join:\n28×28\n×256", "white", width=1.5, height=3.5)
axis.set_title("module 3a and its filters")
rows = np.arange(4)
bars.barh(rows - 0.17, without, 0.3, color=plots.GREY, label="without bottleneck")
bars.barh(rows + 0.17, saved, 0.3, color=plots.BLUE, label="with bottleneck")
bars.barh(rows + 0.17, narrow, 0.3, color=plots.SKY, label="  of it the bottleneck")
for values, shift in ((without, -0.17), (saved, 0.17)):
    for row in rows[values > 0]:
        bars.text(values[row] + 3, row + shift, f"{values[row]:.0f}", va="center", fontsize=11)
bars.set(yticks=rows, yticklabels=branches, xlim=(0, 205), xlabel="multiply-adds in millions")
bars.grid(axis="y", visible=False)
bars.legend(loc="lower right", fontsize=10.5)
bars.set_title("what each branch costs")
plots.show(
    figure,
    alt="Left: the Inception module 3a. The input goes into four branches: 1 by 1; 1 by 1 then 3 by "
    "3; 1 by 1 then 5 by 5; max pooling then 1 by 1; they are joined to 256 channels. Right: "
    "bottlenecks cut the 3 by 3 branch from 173 to 101 million multiply-adds, and the 5 by 5 branch "
    "from 120 to 12.",
)

# %% [markdown]
# Without the projection, the pooling branch would hand on all 192 channels, and the module's output
# would grow from module to module. The paper prints 159K parameters (K for 1024, kernels only) and
# 128M multiply-adds for this row:

# %%
print(f"kernels {cost.kernels / 1024:.1f}K   multiply-adds {cost.macs / 1e6:.1f}M")
assert cost.kernels // 1024 == 159 and round(cost.macs / 1e6) == 128

# %% [markdown]
# ### Exercise 4 · An Inception module (3 points)
#
# Write `inception_module(x, …)`: it takes a tensor (B, H, W, C) and the row of the table, and returns
# the four branches of the picture, joined along the channels in the order 1×1, 3×3, 5×5, pooling.
# Use `keras.layers`: `Conv2D`, also with a 1×1 kernel, `MaxPooling2D`, `Concatenate`. Each of the six
# convolutions has a bias and a ReLU, and every layer keeps height and width: stride 1, padding
# `"same"`. (`MaxPooling2D` has a stride of its own, which equals its size unless you set it.)
#
# *What is tested:* each branch on its own with random weights and numbers of filters, and how they are
# joined.


# %% exercise="inception_module" points=3
def inception_module(x, filters_1x1, reduce_3x3, filters_3x3, reduce_5x5, filters_5x5, pool_proj):
    """Return four branches joined along the channels: (B, H, W, C) → (B, H, W, F)."""
    ### BEGIN SOLUTION

    def conv(x, filters, size):
        return keras.layers.Conv2D(filters, size, padding="same", activation="relu")(x)

    pooled = keras.layers.MaxPooling2D(3, strides=1, padding="same")(x)
    branches = [
        conv(x, filters_1x1, 1),
        conv(conv(x, reduce_3x3, 1), filters_3x3, 3),
        conv(conv(x, reduce_5x5, 1), filters_5x5, 5),
        conv(pooled, pool_proj, 1),
    ]
    return keras.layers.Concatenate()(branches)
    ### END SOLUTION


# %% check="inception_module"
check("inception_module", inception_module)

# %% [markdown]
# ## Network in network
#
# The 1×1 convolution came into the world for another reason. A convolution is linear in what lies
# under its filter, followed by one ReLU. What if the thing that slides over the picture were a
# small network of three layers? You know how to build that: a 3×3 convolution is its first layer,
# and its other layers are dense layers at every position, so two 1×1 convolutions follow, each with a
# ReLU. The paper calls this block *mlpconv* (MLP: multi-layer perceptron, a stack of dense layers).

# %%
block = reference.MLPConv((64, 64, 32), kernel_size=3)
print(count(block, (12, 12, 16)))

# %% [markdown]
# ### Exercise 5 · Design an mlpconv block under a budget (3 points)
#
# Write `mlpconv(x, filters, max_macs)`. It takes a tensor (B, H, W, C) and returns a 3×3 convolution
# to $w$ channels, a 1×1 convolution to $w$ channels and a 1×1 convolution to `filters` channels,
# each with bias, ReLU, stride 1 and padding `"same"`.
#
# The width $w$ is your design: the largest multiple of 8 with which the block needs at most
# `max_macs` multiply-adds. `x.shape` is `(None, H, W, C)`. Start with the three costs as functions
# of $w$; one of them grows with its square.
#
# *What is tested:* three random shapes and budgets: the layers, the output with random weights, and
# whether $w$ fits the budget and uses it up.


# %% exercise="mlpconv" points=3
def mlpconv(x, filters, max_macs):
    """Return the widest mlpconv block that the budget allows: (B, H, W, C) → (B, H, W, filters)."""
    ### BEGIN SOLUTION
    _, height, width, channels = x.shape

    def macs(w):
        return height * width * (9 * channels * w + w * w + w * filters)

    w = 8
    while macs(w + 8) <= max_macs:
        w += 8
    x = keras.layers.Conv2D(w, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(w, 1, activation="relu")(x)
    return keras.layers.Conv2D(filters, 1, activation="relu")(x)
    ### END SOLUTION


# %% check="mlpconv"
check("mlpconv", mlpconv)

# %% [markdown]
# ## A mean instead of a dense layer
#
# The same paper attacked the other end of the network. A classifier used to end in `Flatten` and a
# dense layer, which has weights for each channel *at each position*. GoogLeNet ends with maps of
# 7×7×1024 and 1,000 classes. What would that dense layer cost? And what if each map is first
# reduced to its mean (*global average pooling*)?

# %%
from keras.layers import Conv2D, Dense, Flatten, GlobalAveragePooling2D

endings = {
    "flatten, dense": [Flatten(), Dense(1000)],
    "1×1, mean": [Conv2D(1000, 1), GlobalAveragePooling2D()],
    "mean, dense": [GlobalAveragePooling2D(), Dense(1000)],
}
costs = {name: count(keras.Sequential(end), (7, 7, 1024)) for name, end in endings.items()}
for name, found in costs.items():
    print(f"{name:16} {found.params:>12,} parameters {found.macs:>12,} MACs")
fewer = costs["flatten, dense"].params / costs["mean, dense"].params
print(f"the mean leaves {fewer:.0f} times fewer parameters")

# %% [markdown]
# With the mean there is one weight for each channel and class, wherever in the picture something is:
# 49 times fewer parameters. Now compare the last two rows. In *network in network* a 1×1 convolution
# makes one map for each class, and the mean of that map is the score of the class. Averaging first and
# applying the same weights in a dense layer needs 49 times fewer multiply-adds. What does it do to
# the scores?

# %%
conv, dense = endings["1×1, mean"][0], endings["mean, dense"][1]
conv.build((None, 7, 7, 1024))
dense.build((None, 1024))
dense.set_weights([conv.kernel.numpy()[0, 0], conv.bias.numpy()])
maps = rng.normal(size=(2, 7, 7, 1024)).astype("float32")
score_maps, scores_of_means = conv(maps).numpy(), dense(maps.mean((1, 2))).numpy()
same_scores = np.allclose(score_maps.mean((1, 2)), scores_of_means, atol=1e-4)
print("mean of the maps = map of the mean:", same_scores)
assert same_scores

# %% [markdown]
# Nothing at all: both are linear, so they may change places. (With a ReLU between them they may not.)
# Deploy the cheap order. Keep the other in mind for its maps: they show *where* the evidence for a
# class comes from.
#
# ## Which head finds broken cells?
#
# Now on real data. Shrink the cells to 48×48 pixels, so that training takes seconds, and scale
# them so that the training pixels have mean 0 and standard deviation 1.

# %% tags=["experiment"]
both = {"train": train_cells, "validation": validation_cells}
shrunk = {k: cells.reshape(-1, 48, 2, 48, 2).mean((2, 4))[..., None] for k, cells in both.items()}
mean, deviation = shrunk["train"].mean(), shrunk["train"].std()
shrunk = {split: (cells - mean) / deviation for split, cells in shrunk.items()}
print({split: cells.shape for split, cells in shrunk.items()})

# %% [markdown]
# Two networks share a trunk of three convolutions with stride 2, which ends in 6×6×32. They differ
# in the head:
#
# - **flatten + dense**: flatten, a dense layer of 64 neurons with ReLU, one output;
# - **mlpconv + mean**: an mlpconv block, a 1×1 convolution to one map, its mean.
#
# Before you run it: which has more parameters, which more multiply-adds?


# %% tags=["experiment"]
def flatten_dense(x):
    """Return one number from a dense head."""
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(64, "relu", kernel_initializer="he_normal", name="hidden")(x)
    return keras.layers.Dense(1, name="evidence")(x)


def mlpconv_mean(x):
    """Return one number from an mlpconv block, one map and its mean."""
    x = reference.MLPConv((32, 32), kernel_size=3, name="mlpconv")(x)
    x = reference.PointwiseConv2D(1, name="evidence_map")(x)
    return keras.layers.GlobalAveragePooling2D(name="mean")(x)


def network(head):
    """Return three convolutions with stride 2 and a head: (B, 48, 48, 1) → (B, 1)."""
    x = inputs = keras.Input((48, 48, 1))
    for stage, filters in enumerate((8, 16, 32), 1):
        options = {"activation": "relu", "kernel_initializer": "he_normal"}
        x = keras.layers.Conv2D(filters, 3, 2, "same", name=f"conv{stage}", **options)(x)
    return keras.Model(inputs, head(x))


trunk = count(network(lambda x: x))
heads, sizes = {"flatten + dense": flatten_dense, "mlpconv + mean": mlpconv_mean}, {}
print(f"{'trunk':16} {trunk.params:>7,} parameters {trunk.macs:>9,} MACs")
for name, head in heads.items():
    found = count(network(head))
    sizes[name] = np.array([found.params - trunk.params, found.macs - trunk.macs])
    print(f"{name:16} {sizes[name][0]:>7,} parameters {sizes[name][1]:>9,} MACs")
params, macs = sizes["mlpconv + mean"] / sizes["flatten + dense"]
print(f"mlpconv + mean has {1 / params:.1f} times fewer parameters, {macs:.1f} times more MACs")

# %% [markdown]
# Seven times fewer parameters, five times more multiply-adds: the mlpconv block works at each of the
# 36 positions, and a dense layer at one. Do not believe that a small network is always a fast one.
#
# We train both with three seeds each, with the same settings and the class weights of lesson 00, and
# look at the balanced accuracy on the cells they were trained on, and on the validation cells.

# %% tags=["experiment"]
share = train_classes.mean()
weights = {0: 0.5 / (1 - share), 1: 0.5 / share}
results, models = {name: [] for name in heads}, []
for name, head in heads.items():
    model = network(head)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(4e-3), loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # prepares the step once, not twice
    start = [variable.numpy() for variable in model.optimizer.variables]
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        fresh = network(head)
        model.set_weights(fresh.get_weights())  # the same compiled network, from the start again
        for variable, value in zip(model.optimizer.variables, start, strict=True):
            variable.assign(value)
        options = {"batch_size": 128, "class_weight": weights, "verbose": 0}
        model.fit(shrunk["train"], train_classes, epochs=10, **options)
        answers = [model(cells).numpy()[:, 0] > 0 for cells in shrunk.values()]
        pairs = zip((train_classes, validation_classes), answers, strict=True)
        results[name].append([balanced(classes, answer) for classes, answer in pairs])
        fresh.set_weights(model.get_weights())
        models.append(fresh)
results = {name: np.array(values) for name, values in results.items()}

# %% tags=["experiment", "nbval-ignore-output"]
print(f"{'balanced accuracy':18}{'training cells':>24}{'validation cells':>24}")
print(f"{'always functional':18}{0.5:>24.1%}{0.5:>24.1%}")
for name, values in results.items():
    columns = ["  ".join(f"{value:.1%}" for value in column) for column in values.T]
    print(f"{name:18}{columns[0]:>24}{columns[1]:>24}")

# %% tags=["experiment", "nbval-ignore-output"]
# Figure: the two heads, their parameters and their accuracy
figure, (left, right) = plots.canvas(1, 2, size=(9.6, 3.6), width_ratios=[2, 3])
rows, colours = np.arange(2), (plots.ORANGE, plots.BLUE)
params = [sizes[name][0] for name in heads]
drawn = left.barh(rows, [value / 1000 for value in params], 0.5, color=colours)
left.bar_label(drawn, [f"{value:,}" for value in params], padding=4)
left.set(
    yticks=rows, yticklabels=heads, xlim=(0, 105), xlabel="thousand", title="parameters of the head"
)
left.grid(axis="y", visible=False)
for row, values in enumerate(results.values()):
    ends = 100 * values.mean(0)
    right.plot(ends, [row, row], color=colours[row], lw=5, alpha=0.3, zorder=1)
    right.plot(100 * values[:, 0], [row] * 3, "o", color=colours[row], mfc="white", mew=2, ms=9)
    right.plot(100 * values[:, 1], [row] * 3, "o", color=colours[row], ms=9)
    right.text(ends.mean(), row - 0.16, f"{ends[0] - ends[1]:.0f} points apart", ha="center")
right.axvline(50, color="black", linestyle=":")
right.text(50.6, 1.42, "always 'functional'", fontsize=10.5)
right.plot([], [], "o", color=plots.GREY, ms=9, label="validation cells")
right.plot([], [], "o", color=plots.GREY, mfc="white", mew=2, ms=9, label="training cells")
right.set(yticks=rows, yticklabels=[], xlim=(48, 101), title="three seeds each")
right.set(xlabel="balanced accuracy in %")
right.legend(loc="lower left", fontsize=10.5, bbox_to_anchor=(0.0, 0.3))
for axis in (left, right):
    axis.set_ylim(1.6, -0.5)
plots.show(
    figure,
    alt="Left: the flatten and dense head has seven times the parameters of the mlpconv and mean "
    "head. Right: on the validation cells both are about equally good; on the training cells "
    "the dense head is far better, so its gap between training and validation is much larger.",
)

# %% tags=["experiment"]
dense, nin = (values.mean(0) for values in results.values())
lead_training, lead_validation = dense - nin
worst = min(values[:, 1].min() for values in results.values())
print("validation: all six better than a constant:", worst > 0.55)
print("training:   the dense head is ahead:       ", lead_training > 0.03)
print("validation: that lead is gone:             ", lead_validation < 0.03)
assert worst > 0.55 and lead_training > 0.03 and lead_validation < 0.03

# %% [markdown]
# Read this with care. On the cells they were trained on, the dense head is far ahead. It has weights
# of its own for each position, and spends them on its 1,640 training cells. On cells that neither
# network has seen, nothing is left of this lead: what it learned beyond the other head is true of the
# training cells only. The mean takes this freedom away, and that is what its inventors claim for it:
# it works against overfitting.
#
# What you may *not* conclude: that the second head finds more defects (look at the spread of three
# seeds), that the mean alone makes the difference (the heads also differ in their block and in their
# parameters), or that either is good enough for a drone.
#
# There is something else that only the second head gives you. Its last map says *where* it sees
# evidence for a defect. Take the mean of the three networks' maps and look at five validation cells:
# the defective ones with the fifth and the tenth most evidence, the functional one with the least,
# and the two worst mistakes. Do the red squares lie where you see the damage?

# %% tags=["experiment", "nbval-ignore-output"]
# Figure: where the networks see a defect
evidence_maps = 0
for model in models[3:]:  # those with the mlpconv head
    mapper = keras.Model(model.input, model.get_layer("evidence_map").output)
    evidence_maps += mapper(shrunk["validation"]).numpy()[..., 0] / 3
evidence = evidence_maps.mean((1, 2))
order = np.argsort(evidence)
defective, functional = (order[validation_classes[order] == c] for c in (1, 0))
titles = ("found", "found", "cleared", "false alarm", "missed")
chosen = (defective[-5], defective[-10], functional[0], functional[-1], defective[0])
figure, axes = plots.canvas(2, 5, size=(10.5, 4.7))
for (above, below), title, index in zip(axes.T, titles, chosen, strict=True):
    look = {"extent": (0, 6, 6, 0), "interpolation": "nearest"}
    for axis in (above, below):
        axis.imshow(validation_cells[index, ..., 0], vmin=0, vmax=1, **look)
        axis.axis("off")
    look |= {"cmap": "RdBu_r", "vmin": -8, "vmax": 8, "alpha": 0.55}
    picture = below.imshow(evidence_maps[index], **look)
    above.set_title(title, loc="center", fontsize=13)
    below.set_title(f"mean {evidence[index]:+.1f}", loc="center", fontsize=12, fontweight="normal")
bar = figure.colorbar(picture, ax=axes[1], ticks=[-8, 0, 8])
bar.set_label("evidence")
plots.show(
    figure,
    alt="Five validation cells, and below them the same cells under their maps of evidence, 6 by 6 "
    "squares that are red where the networks see a defect and blue where they see none: two "
    "defective cells that were found, one that was cleared, a false alarm and a missed defect.",
)

# %% [markdown]
# Nobody told the networks where the defects are. They learned from one label for each cell, and because the
# score is a mean over positions, each position has a score of its own. The maps are coarse, and they
# show what the networks go by, which need not be damage: look at what is red in the false alarm. A
# head that flattens its input hides that from you.
#
# These maps and the one that you mixed by hand at the beginning come from the same layer: a neuron
# that reads the channels of one position.

# %% [markdown]
# ## What to take away
#
# - A 1×1 convolution is a dense layer at every position. It mixes channels; it does not look around.
# - Pooling sets height and width, 1×1 convolutions set the channels. With a ReLU, even a layer that
#   keeps the number of channels adds something.
# - A bottleneck before an expensive convolution costs little and cuts its multiply-adds in proportion
#   to its width.
# - Global average pooling replaces the weights at each position by none at all. It saves parameters
#   and works against learning by heart; whether it saves multiply-adds depends on what stands before
#   it.
#
# **Where this is used.** The bottleneck blocks of ResNet (lesson 02) are 1×1, 3×3, 1×1. MobileNet
# (lesson 03) does nearly all its work in 1×1 convolutions. Detectors predict class and box at every
# position with them, and segmentation networks end in a 1×1 convolution that classifies each pixel.
#
# ## Think about it
#
# <details><summary>1. A 1×1 convolution with stride 2 also shrinks height and width. What does it do with
# three quarters of its input, and what would you do instead?</summary>
#
# It never reads it: at stride 2 it visits every second position in both directions. Pool first, or
# let a 3×3 convolution take the stride. Some published networks do use it, in the shortcuts of ResNet for
# example.
# </details>
#
# <details><summary>2. You put a bottleneck of 16 channels before a 1×1 convolution from 192 to 32 channels.
# What does it save?</summary>
#
# At each position 192·16 + 16·32 = 3,584 multiply-adds remain of 192·32 = 6,144, more than half. Before
# a 5×5 convolution a tenth remained: there, the expensive part had 25 times the weights.
# </details>
#
# <details><summary>3. A network with flatten + dense is trained on 48×48 pixels. What happens if you give it
# 96×96 pixels? And the network with the mean?</summary>
#
# The first refuses: its dense layer has weights for 6×6 positions and meets 12×12. The second runs,
# since no weight of it depends on the number of positions. Whether its answers are any good is
# another question, as everything in the picture is now twice as large.
# </details>
#
# ## References
#
# - M. Lin, Q. Chen, S. Yan, *Network In Network*, arXiv:1312.4400: mlpconv in section 3.1, global
#   average pooling in section 3.2.
# - C. Szegedy et al., *Going Deeper with Convolutions*, arXiv:1409.4842: the Inception module in
#   Figure 2, all its filters and costs in Table 1.
# - B. Zhou et al., *Learning Deep Features for Discriminative Localization*, arXiv:1512.04150: the maps
#   behind a global average, section 2.

# %% [markdown]
# ## Your points

# %%
progress()
