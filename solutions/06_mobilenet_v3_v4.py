# ---
# title: MobileNet V3 and V4
# summary: hard-swish, squeeze-and-excite, networks found by search, and one block that is four
# minutes: 90
# ---

# %% [markdown]
# # 06 · MobileNet V3 and V4
#
# People drew the networks of the last lessons, and each had an idea: split the convolution, widen
# the middle, shuffle the channels. The next networks were *found*: a search tried thousands of
# combinations and kept what was accurate and fast on a telephone. What did it choose, and how do
# you tell which of two networks is better if one is more accurate and the other one faster?
#
# After this lesson you can
#
# - write hard-swish, and say where it saves something and where it does not,
# - let a block weigh its channels by squeeze-and-excite,
# - read the tables of MobileNetV3, and turn a row into a block,
# - build the universal inverted bottleneck of MobileNetV4 in its four forms,
# - find the Pareto set of measured networks, and choose from it with MnasNet's objective.

# %%
import functools

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import experiments, mobilenet_v3, mobilenet_v4, plots, published, tables
from utils.blocks import make_divisible
from utils.cost import count
from utils.experiments import pareto, solar
from utils.latency import compare, predictor

# %% [markdown]
# `mobilenet_v3` and `mobilenet_v4` are the course's own modules of this lesson's networks;
# `make_divisible` rounds a number of channels to a multiple of 8, as in lesson 04.
#
# ## Swish, drawn with a ruler
#
# ReLU is simple, and a little too simple: left of 0 its slope is 0, so a channel that lands there
# learns nothing. *Swish* is smooth. It multiplies $x$ by a gate between 0 and 1, the sigmoid:
#
# $$\text{swish}(x) = x \cdot \sigma(x), \qquad \sigma(x) = \frac{1}{1 + e^{-x}} .$$
#
# Its authors found networks with swish a little more accurate. But $e^{-x}$ is expensive on a small processor, and
# a processor that calculates with integers does not have it at all. So MobileNetV3 draws the gate
# with a ruler: 0 up to $-3$, 1 from 3 on, a straight line between them.
#
# $$\text{h-swish}(x) = x \cdot \frac{\text{ReLU6}(x + 3)}{6}, \qquad
#   \text{ReLU6}(z) = \min(\max(z, 0), 6) .$$
#
# How much is lost by that?

# %%
# Figure: swish and h-swish beside ReLU, and how far they are from it
x = np.linspace(-6, 6, 1201).astype("float32")
swish = x / (1 + np.exp(-x))
h_swish = ops.convert_to_numpy(mobilenet_v3.hard_swish(x))
error = h_swish - swish

figure, (left, right) = plots.canvas(1, 2, size=(9, 3.7))
left.plot(x, np.maximum(x, 0), color=plots.GREY, ls="--", label="ReLU")
left.plot(x, swish, color=plots.ORANGE, label="swish")
left.plot(x, h_swish, color=plots.BLUE, label="h-swish")
left.set(xlabel="x", title="Three activations", ylim=(-0.8, 4), xlim=(-5, 4))
left.legend(loc="upper left", fontsize=11)
right.plot(x, np.maximum(x, 0) - swish, color=plots.GREY, ls="--", label="ReLU − swish")
right.plot(x, error, color=plots.BLUE, label="h-swish − swish")
right.axhline(0, color="black", lw=0.8)
right.set(xlabel="x", title="Distance from swish", xticks=[-6, -3, 0, 3, 6], ylim=(-0.2, 0.42))
right.legend(loc="upper right", fontsize=11)
plots.show(
    figure,
    alt="Left: swish dips below zero on the left of the origin and approaches x on the right; "
    "h-swish follows it closely, ReLU has a corner at zero. Right: the distance of h-swish from "
    "swish is largest, 0.14, at minus three and three; that of ReLU is twice as large, at plus and "
    "minus 1.3.",
)

# %%
for name, values in (("h-swish", h_swish), ("ReLU", np.maximum(x, 0))):
    off = np.abs(values - swish)
    print(f"{name:8} at most {off.max():.3f} from swish, at x = ±{abs(x[off.argmax()]):.1f}")
print(
    f"h-swish is never below {h_swish.min():.3f}, which it reaches at x = {x[h_swish.argmin()]:.1f}"
)

# %% [markdown]
# At its worst, h-swish is half as far from swish as ReLU is. Now the cost. It has no exponential; is
# it faster, then? Here each activation runs alone on a large tensor and
# on a small one, in turns, on your machine:

# %% tags=["nbval-ignore-output"]
functions = {
    "ReLU": ops.relu,
    "ReLU6": ops.relu6,
    "h-swish": mobilenet_v3.hard_swish,
    "swish": ops.silu,
}
shapes = ((112, 112, 16), (14, 14, 240))
print(f"{'milliseconds':14}{'112×112×16':>12}{'14×14×240':>12}")
times = [
    compare(
        {name: predictor(keras.layers.Activation(f), shape) for name, f in functions.items()},
        rounds=200,
    )
    for shape in shapes
]
for name in functions:
    print(f"{name:14}" + "".join(f"{each[name]['median']:>12.3f}" for each in times))

# %%
dearer = times[0]["h-swish"]["median"] / times[0]["ReLU"]["median"]
assert dearer > 1
print("on the large tensor h-swish takes longer than ReLU:", dearer > 1)

# %% [markdown]
# On the machine on which this lesson was made, h-swish was faster than swish on the small tensor
# and *slower* on the large one. There is no exponential, but there are four operations in place of
# one: add, clip, multiply, divide, and each reads and writes the whole tensor. Libraries for
# telephones fuse the four, and a processor that calculates with integers can do them exactly: that
# is where h-swish is meant to win. Multiply-adds are not milliseconds, and neither are exponentials.
#
# MobileNetV3 draws a conclusion that holds either way: h-swish costs most where tensors are large,
# so it stands only in the first convolution and in the deeper half, where they are small. How
# many numbers go through which activation?

# %%
large = count(mobilenet_v3.MobileNetV3Large)
print(f"{'side':>5}{'through ReLU':>15}{'through h-swish':>17}")
passed = {}
for row in large.layers:
    if row.kind == "Activation" and len(row.output_shape) == 3:
        side, name = row.output_shape[0], row.layer.activation.__name__
        passed[side, name] = passed.get((side, name), 0) + int(np.prod(row.output_shape))
for side in sorted({side for side, _ in passed}, reverse=True):
    relu, hard = (passed.get((side, name), 0) for name in ("relu", "hard_swish"))
    print(f"{side:>5}{relu:>15,}{hard:>17,}")
share = sum(n for (_, name), n in passed.items() if name == "hard_swish") / sum(passed.values())
print(f"{share:.0%} of all activations are h-swish")

# %% [markdown]
# ### Exercise 1 · Hard-swish (1 point)
#
# Write `hard_swish(x)` for an array of any shape, with NumPy or `keras.ops`.
#
# *What is tested:* random arrays, once with values outside $-3 … 3$ and once inside. (Keras'
# own h-swish is not allowed, neither from `keras.activations` nor as `ops.hard_swish`; the rest of `ops` is.)


# %% exercise="hard_swish" points=1
def hard_swish(x):
    """Return x · ReLU6(x + 3) / 6, element by element."""
    ### BEGIN SOLUTION
    return x * np.clip(x + 3, 0, 6) / 6
    ### END SOLUTION


# %% check="hard_swish"
check("hard_swish", hard_swish)

# %% [markdown]
# ## Squeeze-and-excite: channels that are weighed
#
# A convolution sees a small window. But whether a channel matters may depend on the whole picture:
# a filter for cracks is worth more if the cell looks healthy otherwise. **Squeeze-and-excite** lets
# a block decide that from all channels and all positions:
#
# 1. *squeeze*: average each channel over all positions; C numbers are left,
# 2. *excite*: a small layer to Q numbers with ReLU, and one back to C numbers,
# 3. *gate*: a hard sigmoid, ReLU6(z + 3) / 6, makes numbers between 0 and 1 of them,
# 4. multiply every channel by its number.
#
# In MobileNetV3 it sits inside the inverted residual block, on the wide tensor:


# %% jupyter={"source_hidden": true}
# Figure: MobileNetV3's block from left to right
# How this lesson draws blocks: boxes from left to right at given places.
def draw_box(axis, x, y, text, colour, width=1.5, height=0.8):
    """Draw one step as a box, or as a circle if its text is a sign."""
    if text in ("+", "×"):
        axis.plot([x], [y], "o", markersize=24, color=colour, markeredgecolor="black", zorder=3)
    else:
        corner = (x - width / 2, y - height / 2)
        options = {"fc": colour, "ec": "black", "lw": 1.2, "zorder": 3}
        axis.add_patch(plt.Rectangle(corner, width, height, **options))
    size = 17 if text in ("+", "×") else 11
    axis.text(x, y, text, ha="center", va="center", fontsize=size, zorder=4)


def draw_line(axis, *points, colour="black", arrow=True):
    """Draw a path through points, with an arrow at its end."""
    xs, ys = zip(*points, strict=True)
    axis.plot(xs[:-1], ys[:-1], color=colour, lw=1.6, solid_capstyle="butt")
    style = "-|>" if arrow else "-"
    options = {"arrowstyle": style, "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", points[-1], points[-2], arrowprops=options)


CONV, DEPTHWISE, GATE, SIGN = "#BFDBFE", "#BBF7D0", "#FECACA", "#FDE68A"

figure, axis = plots.canvas(size=(9, 3.9))
axis.axis("off")
axis.set(xlim=(-1.5, 13.6), ylim=(-1.7, 3.0))
draw_line(axis, (-1.4, 0), (0.35, 0))
draw_box(axis, 1.2, 0, "1×1\nexpand", CONV, 1.7)
draw_line(axis, (2.05, 0), (2.9, 0))
draw_box(axis, 3.75, 0, "depthwise\nk×k", DEPTHWISE, 1.7)
draw_line(axis, (4.6, 0), (8.42, 0))
draw_box(axis, 8.7, 0, "×", SIGN)
draw_line(axis, (8.98, 0), (9.5, 0))
draw_box(axis, 10.25, 0, "1×1\nproject", CONV, 1.5)
draw_line(axis, (11.0, 0), (12.3, 0))
draw_box(axis, 12.6, 0, "+", SIGN)
draw_line(axis, (12.9, 0), (13.5, 0))
draw_line(axis, (4.95, 0), (4.95, 1.6), (5.2, 1.6))
for x_box, text in ((5.75, "mean"), (7.0, "to Q\nReLU"), (8.25, "to C\ngate")):
    draw_box(axis, x_box, 1.6, text, GATE, 1.0, 0.9)
draw_line(axis, (6.25, 1.6), (6.5, 1.6))
draw_line(axis, (7.5, 1.6), (7.75, 1.6))
draw_line(axis, (8.7, 1.15), (8.7, 0.32))
draw_line(axis, (-1.1, 0), (-1.1, -1.2), (12.6, -1.2), (12.6, -0.34), colour=plots.RED)
axis.text(5.8, -1.1, "shortcut, if the shapes agree", color=plots.RED, ha="center", va="bottom")
axis.text(7.0, 2.25, "squeeze-and-excite", ha="center", va="bottom", fontweight="bold")
for x_text, text in ((2.47, "wide"), (11.62, "narrow"), (-0.35, "narrow")):
    axis.text(x_text, 0.15, text, ha="center", va="bottom", fontsize=10, color=plots.GREY)
plots.show(
    figure,
    alt="MobileNetV3's block from left to right: a 1 by 1 convolution expands, a depthwise "
    "convolution filters, the result is multiplied by gates, a 1 by 1 convolution projects, and the "
    "shortcut is added. The gates come from a side path: mean over the positions, a layer to Q "
    "channels with ReLU, a layer back to C channels with the gate function.",
)

# %% [markdown]
# What does it cost? The small layers have $2CQ + Q + C$ parameters with their biases. But they see
# *one* position. Here is what squeeze-and-excite adds up to in the whole network, with Q a quarter
# of C, rounded to a multiple of 8:

# %%
print(
    f"{'':10}{'parameters':>12}{'in its gates':>14}{'':7}{'multiply-adds':>15}{'in its gates':>14}"
)
for name, build in (
    ("V3-Large", mobilenet_v3.MobileNetV3Large),
    ("V3-Small", mobilenet_v3.MobileNetV3Small),
):
    cost = count(build)
    gates = [row for row in cost.layers if "/squeeze_excite/" in row.name]
    params, macs = sum(row.params for row in gates), sum(row.macs for row in gates)
    left = f"{name:10}{cost.params:>12,}{params:>14,}{params / cost.params:>7.1%}"
    print(f"{left}{cost.macs:>15,}{macs:>14,}{macs / cost.macs:>7.1%}")

# %% [markdown]
# Much of the network's memory, hardly any of its multiply-adds. (Its time is another matter: a mean
# over all positions has to wait until the last position is there. You will see below.)
#
# ### Exercise 2 · A layer that weighs channels (2 points)
#
# Write the layer `SqueezeExcite(squeezed)`: Q = `squeezed`. Use `Dense` layers or 1×1
# convolutions, both with bias. The number of channels is known only when the layer is built or
# called, so make the second layer in `build(input_shape)`. `ops.hard_sigmoid` is the gate.
#
# *What is tested:* that there are two layers of the right sizes, and the output for random weights.


# %% exercise="squeeze_excite" points=2
class SqueezeExcite(keras.layers.Layer):
    """Weigh each channel by a gate that all channels decide: (B, H, W, C) → (B, H, W, C)."""

    def __init__(self, squeezed):
        super().__init__()
        ### BEGIN SOLUTION
        self.squeezed = squeezed
        ### END SOLUTION

    def build(self, input_shape):
        ### BEGIN SOLUTION
        channels = input_shape[-1]
        self.reduce = keras.layers.Dense(self.squeezed, activation="relu")
        self.restore = keras.layers.Dense(channels)
        self.reduce.build((None, channels))
        self.restore.build((None, self.squeezed))
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        means = ops.mean(x, axis=(1, 2))
        gates = ops.hard_sigmoid(self.restore(self.reduce(means)))
        return x * gates[:, None, None, :]
        ### END SOLUTION


# %% check="squeeze_excite"
check("squeeze_excite", SqueezeExcite)

# %% [markdown]
# ## What the search found
#
# Two searches, in fact. One chose the blocks: for each stage kernel, expansion, squeeze-and-excite
# and the number of layers. Another one, NetAdapt, then took away channels, a few at a time,
# wherever that saved most time for the accuracy it cost. The result is a table without a pattern
# that a person would have drawn. Each row is a block: the kernel's side, the width of the middle
# (*exp size*), the output channels, squeeze-and-excite or not, the non-linearity (RE or HS), and
# the stride.

# %%
for name, rows in (("Large", mobilenet_v3.LARGE), ("Small", mobilenet_v3.SMALL)):
    side, channels = 112, mobilenet_v3.STEM_FILTERS
    print(f"{name:6}{'input':>12}{'kernel':>8}{'exp size':>10}{'out':>5}{'SE':>5}{'NL':>4}{'s':>3}")
    for kernel, exp, out, squeeze, non_linearity, strides in rows:
        shape, mark = f"{side}×{side}×{channels}", "yes" if squeeze else "-"
        sizes = f"{f'{kernel}×{kernel}':>8}{exp:>10}{out:>5}"
        print(f"{'':6}{shape:>12}{sizes}{mark:>5}{non_linearity:>4}{strides:>3}")
        side, channels = side // strides, out

# %% jupyter={"source_hidden": true}
# Figure: the blocks of MobileNetV3, Large and Small
figure, axes = plots.canvas(2, 1, size=(9, 5.2), height_ratios=[1, 1])
for axis, (name, rows) in zip(
    axes, (("Large", mobilenet_v3.LARGE), ("Small", mobilenet_v3.SMALL)), strict=True
):
    side = 112
    for place, (kernel, exp, out, squeeze, non_linearity, strides) in enumerate(rows):
        if strides > 1:
            side //= 2
            axis.axvline(place - 0.5, color=plots.GREY, lw=1, ls=":")
        if strides > 1 or place == 0:
            axis.text(place - 0.42, 1090, f"{side} px", fontsize=9, color=plots.GREY)
        colour = plots.BLUE if non_linearity == "HS" else plots.SKY
        axis.bar(place, exp, 0.8, color=colour, ec="black", lw=0.8)
        axis.bar(place, out, 0.8, color=plots.ORANGE, ec="black", lw=0.8)
        mark = f"{kernel}×{kernel}" + ("\nSE" if squeeze else "")
        axis.text(place, exp + 15, mark, ha="center", va="bottom", fontsize=9)
    axis.set(ylabel="channels", title=f"MobileNetV3-{name}", ylim=(0, 1230), xticks=[])
    axis.set(xlim=(-0.6, 14.6))
    axis.grid(axis="x", visible=False)
keys = ((plots.SKY, "wide, ReLU"), (plots.BLUE, "wide, h-swish"), (plots.ORANGE, "out"))
handles = [plt.Rectangle((0, 0), 1, 1, fc=colour, ec="black") for colour, _ in keys]
axes[1].legend(handles, [text for _, text in keys], loc="center right", fontsize=11)
axes[1].set(xlabel="blocks, from the input on")
plots.show(
    figure,
    alt="Bars for the 15 blocks of MobileNetV3-Large and the 11 of Small: their wide channels grow "
    "from 16 to 960 and to 576 as the sides shrink from 112 to 7; the outputs are a small part "
    "of that. ReLU stands in the first blocks, h-swish in the rest; kernels of 3 and 5 and "
    "squeeze-and-excite alternate without a simple rule.",
)

# %% [markdown]
# Two things were then changed by hand. The first convolution has 16 filters in place of V2's 32.
# And the widest layer of all, a 1×1 convolution to 1280 channels, moved *behind* the pooling. What
# does that save?

# %%
widest = next(row for row in large.layers if row.name == "head/conv")
before = next(row for row in large.layers if row.name == "last_conv/conv").output_shape
print(f"{before[-1]} → {widest.output_shape[-1]} channels behind the pooling: {widest.macs:,}")
print(
    f"the same layer before it, at {before[0]}×{before[1]}: {widest.macs * before[0] * before[1]:,}"
)
print(f"all of V3-Large: {large.macs:,}")

# %% [markdown]
# ### Exercise 3 · Read a row into a block (3 points)
#
# Write `v3_block(x, row)`: `x` is a Keras tensor, `row` a row of the table as
# `mobilenet_v3.LARGE` has it, `(kernel, exp size, out, SE, NL, s)`, for example
# `(5, 72, 40, True, "RE", 2)`. Return the Keras tensor that comes out of the block:
#
# - a 1×1 convolution to exp size channels, batch norm, activation; left out if `x` has that many
#   channels already,
# - a depthwise convolution with the row's kernel and stride, padding `"same"`, batch norm,
#   activation,
# - squeeze-and-excite, if the row says so, with `make_divisible(exp / 4)` channels in its middle,
# - a 1×1 convolution to out channels and batch norm, *no* activation,
# - plus `x`, if the stride is 1 and the channels are as many as before.
#
# Take your own `hard_swish` and `SqueezeExcite`, or `mobilenet_v3.hard_swish` and
# `mobilenet_v3.SqueezeExcite`. A function becomes a layer by `keras.layers.Activation(function)`.
#
# *What is tested:* the layers and their sizes, the output for random weights, and the shortcut, for
# five rows that are in neither table.


# %% exercise="v3_block" points=3
def v3_block(x, row):
    """Apply one row of MobileNetV3's tables to a Keras tensor (B, H, W, C)."""
    ### BEGIN SOLUTION
    kernel, exp, out, squeeze, non_linearity, strides = row
    function = mobilenet_v3.hard_swish if non_linearity == "HS" else "relu"

    def normed(y):
        return keras.layers.BatchNormalization()(y)

    y = x
    if exp != x.shape[-1]:
        y = normed(keras.layers.Conv2D(exp, 1, use_bias=False)(y))
        y = keras.layers.Activation(function)(y)
    y = keras.layers.DepthwiseConv2D(kernel, strides, padding="same", use_bias=False)(y)
    y = keras.layers.Activation(function)(normed(y))
    if squeeze:
        y = mobilenet_v3.SqueezeExcite(make_divisible(exp / 4))(y)
    y = normed(keras.layers.Conv2D(out, 1, use_bias=False)(y))
    if strides == 1 and out == x.shape[-1]:
        y = keras.layers.Add()([x, y])
    return y
    ### END SOLUTION


# %% check="v3_block"
check("v3_block", v3_block)

# %% [markdown]
# ### The published table
#
# A width multiplier α scales the channels as in V2, and *minimalistic* leaves out what some devices
# do slowly: kernels of 5×5, h-swish, squeeze-and-excite. Do the published numbers come out? "≠"
# marks a number that is off by more than 1 in its last digit.


# %%
@functools.cache
def v3_network(size, alpha, minimalistic):
    """What a network costs; two of the published rows often mean the same one."""
    build = getattr(mobilenet_v3, f"MobileNetV3{size}")
    return count(lambda: build(alpha=alpha, minimalistic=minimalistic))


def v3_cost(row):
    """What the network of a published row costs."""
    _, size, *words = row["variant"].split()
    return v3_network(size, float(words[-1]), "minimalistic" in words)


rows = published.rows("mobilenet_v3")
chosen = [row for row in rows if "v5" in row["source"] or "torchvision" in row["source"]]
chosen = [row for row in chosen if "V2" not in row["source"]]
chosen += [row for row in rows if "keras" in row["source"] and "minimal" in row["variant"]]
published.table(chosen, v3_cost)

# %% [markdown]
# Large and Small come out, at both widths. Two numbers do not. The paper's 219 M is not what its
# authors' own code has, and the last row is the famous trap: when the paper was revised, Small got
# smaller, and the old numbers still stand in Keras' documentation. A table is worth what a count
# confirms.
#
# ## One block that is four
#
# MobileNetV4 (2024) searches with a single kind of block. The **universal inverted bottleneck** is
# V2's block with a second, optional depthwise convolution *before* the expansion, where the tensor
# is narrow. Both depthwise convolutions may be there or not. That makes four blocks of one, and
# three of them are old acquaintances:

# %% jupyter={"source_hidden": true}
# Figure: the four forms of MobileNetV4's block
figure, axes = plots.canvas(2, 2, size=(9, 5.4))
forms = {
    "Inverted bottleneck (MobileNetV2)": (False, True),
    "ConvNeXt": (True, False),
    "Extra depthwise (new)": (True, True),
    "Feed-forward network (transformers)": (False, False),
}
for axis, (title, (first, middle)) in zip(axes.flat, forms.items(), strict=True):
    axis.axis("off")
    axis.set(xlim=(-0.4, 10.6), ylim=(-1.2, 2.0))
    axis.set_title(title, fontsize=12)
    steps = (
        (1.35, "depthwise", DEPTHWISE, 0.7, first),
        (3.55, "1×1", CONV, 1.0, True),
        (5.75, "depthwise", DEPTHWISE, 1.5, middle),
        (7.95, "1×1", CONV, 1.0, True),
    )
    draw_line(axis, (-0.4, 0), (9.1, 0))
    for x_box, text, colour, height, there in steps:
        if there:
            draw_box(axis, x_box, 0, text, colour, 2.05, height)
    draw_box(axis, 9.5, 0, "+", SIGN)
    draw_line(axis, (9.82, 0), (10.5, 0))
    draw_line(axis, (0.0, 0), (0.0, 1.4), (9.5, 1.4), (9.5, 0.42), colour=plots.RED)
    for x_text, text in ((2.3, "narrow"), (5.6, "wide"), (8.7, "narrow")):
        axis.text(x_text, -1.05, text, ha="center", fontsize=10, color=plots.GREY)
plots.show(
    figure,
    alt="Four blocks, each with two 1 by 1 convolutions and a shortcut. The inverted bottleneck has "
    "a depthwise convolution between them, on the wide tensor; ConvNeXt has one before them, on the "
    "narrow tensor; extra depthwise has both; the feed-forward network has none.",
)

# %% [markdown]
# The first depthwise convolution stays linear: it works on the narrow tensor, where ReLU would
# destroy information (lesson 04). ReLU follows the expansion and the middle depthwise convolution,
# and the projection is linear again. No h-swish, no squeeze-and-excite: on some of the devices
# that V4 was made for they are slow.
#
# What do the four forms cost on the same tensor, and how far does each of them see?

# %%
print(f"{'28×28×64, expansion 4':24}{'parameters':>11}{'multiply-adds':>15}{'window':>8}")
kernels = {"first_kernel": (None, 5), "middle_kernel": (None, 5)}
for first in kernels["first_kernel"]:
    for middle in kernels["middle_kernel"]:
        block = mobilenet_v4.UniversalInvertedBottleneck(
            64, first_kernel=first, middle_kernel=middle
        )
        cost = count(block, (28, 28, 64))
        window = 1 + sum(kernel - 1 for kernel in (first, middle) if kernel)
        print(f"{block.form:24}{cost.params:>11,}{cost.macs:>15,}{f'{window}×{window}':>8}")

# %% [markdown]
# The 1×1 convolutions are nearly all of the cost, in every form. A depthwise convolution on the
# narrow tensor is almost free, and with both of them a block sees 9×9 pixels. So the search could
# afford to place wide windows wherever they help. Where did it?

# %%
lines = []
for name in ("ConvSmall", "ConvMedium", "ConvLarge"):
    model = getattr(mobilenet_v4, f"MobileNetV4{name}")((64, 64, 3), alpha=0.25)
    kind = mobilenet_v4.UniversalInvertedBottleneck
    found = [layer.form for layer in model.layers if isinstance(layer, kind)]
    counts = [found.count(form) for form in mobilenet_v4.FORMS.values()]
    lines.append((name[4:], len(found), *counts))
tables.Table(("network", "blocks", *mobilenet_v4.FORMS.values()), lines)

# %% [markdown]
# Small is mostly V2's block. Medium and Large take the new form most often.
#
# ### Exercise 4 · The universal inverted bottleneck (2.5 points)
#
# Write the layer `UniversalInvertedBottleneck(filters, strides=1, expansion=4, first_kernel=None,
# middle_kernel=3)`:
#
# - a depthwise convolution with `first_kernel`, batch norm, no activation; left out if None,
# - a 1×1 convolution to `expansion` times the input's channels, batch norm, ReLU,
# - a depthwise convolution with `middle_kernel`, batch norm, ReLU; left out if None,
# - a 1×1 convolution to `filters` channels, batch norm, no activation,
# - plus the input, if the stride is 1 and the channels are as many as before.
#
# The *last* depthwise convolution that is there has the stride. Padding is `"same"`.
#
# *What is tested:* each of the four forms, stride 2, and the shortcut.


# %% exercise="universal_block" points=2.5
class UniversalInvertedBottleneck(keras.layers.Layer):
    """Up to two depthwise convolutions around an expansion: (B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)."""

    def __init__(self, filters, strides=1, expansion=4, first_kernel=None, middle_kernel=3):
        super().__init__()
        ### BEGIN SOLUTION
        self.filters, self.strides, self.expansion = filters, strides, expansion
        self.first_kernel, self.middle_kernel = first_kernel, middle_kernel
        ### END SOLUTION

    def build(self, input_shape):
        ### BEGIN SOLUTION
        channels = input_shape[-1]
        new, relu = keras.layers, keras.layers.ReLU
        self.steps = []
        if self.first_kernel:
            strides = 1 if self.middle_kernel else self.strides
            self.steps += [
                new.DepthwiseConv2D(self.first_kernel, strides, padding="same", use_bias=False),
                new.BatchNormalization(),
            ]
        self.steps += [
            new.Conv2D(channels * self.expansion, 1, use_bias=False),
            new.BatchNormalization(),
            relu(),
        ]
        if self.middle_kernel:
            self.steps += [
                new.DepthwiseConv2D(
                    self.middle_kernel, self.strides, padding="same", use_bias=False
                ),
                new.BatchNormalization(),
                relu(),
            ]
        self.steps += [new.Conv2D(self.filters, 1, use_bias=False), new.BatchNormalization()]
        for step in self.steps:
            step.build(input_shape)
            input_shape = step.compute_output_shape(input_shape)
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        y = x
        for step in self.steps:
            y = step(y)
        return x + y if y.shape[1:] == x.shape[1:] and self.strides == 1 else y
        ### END SOLUTION


# %% check="universal_block"
check("universal_block", UniversalInvertedBottleneck)


# %% [markdown]
# ### The published table
#
# V4 was published with three convolutional networks, Small, Medium and Large, and two that also
# have attention. The library timm has them all, and trained weights for them. Here are the paper's
# rows, then timm's:


# %%
@functools.cache
def v4_network(kind, side, alpha):
    """What a network costs at a size; as above, each one is counted once."""
    name = {"Conv-S": "ConvSmall", "Conv-M": "ConvMedium", "Conv-L": "ConvLarge"}[kind]
    build = getattr(mobilenet_v4, f"MobileNetV4{name}")
    return count(lambda: build((side, side, 3), alpha=alpha))


def v4_cost(row):
    """What the network of a published row costs at its resolution."""
    _, kind, *words = row["variant"].split()
    return v4_network(kind, row["resolution"], float(words[-1]) if words else 1.0)


rows = published.rows("mobilenet_v4")
chosen = [row for row in rows if "arXiv" in row["source"] or "timm 1" in row["source"]]
published.table(chosen, v4_cost)

# %% [markdown]
# Small agrees with the paper. Medium and Large have more than the paper prints, in timm and here
# alike; nobody has said why. That is what a reproduction may end with: an open question, marked as
# one.
#
# ## Accuracy against time
#
# You now know six families of small networks. Which one is best? The question has no answer before
# you say what you pay. Here are eight networks that learned the solar cells (ELPV dataset,
# CC BY-NC-SA 4.0), all on the same small pictures by the same recipe, three seeds each. Then all
# were timed in turns, one picture at a time, on one thread. That takes a while, so the numbers come
# from a file, `data/results/pareto.json`, which `make experiments` writes anew.

# %%
data = experiments.result("pareto")
minutes = data["processor_seconds"] / 60
print(f"{len(data['jobs'])} jobs, {minutes:.0f} minutes of processor time; pictures of")
print(f"{pareto.SIZE}×{pareto.SIZE} pixels, {pareto.EPOCHS} epochs, seeds {data['seeds']}")
summary = data["summary"]
layers = np.array(
    [
        sum(weight.name == "kernel" for weight in pareto.NETWORKS[row["network"]]().weights)
        for row in summary
    ]
)
lines = []
for row, depth in zip(summary, layers, strict=True):
    seen, balanced = row["val_accuracy"], row["balanced_accuracy"]["mean"]
    costs = (
        f"{row['params']:,}",
        depth,
        f"{row['macs'] / 1e6:.2f}",
        f"{row['latency']['median']:.2f}",
    )
    spread = f"{seen['min']:.1%}–{seen['max']:.1%}"
    learned = (f"{seen['mean']:.1%}", spread, f"{balanced:.1%}", f"{row['loss']['mean']:.3f}")
    lines.append((row["network"], *costs, *learned))

labels = solar.cells("validation", pareto.SIZE)[1]
majority = float(np.mean(labels == 0))
accuracy = np.array([row["val_accuracy"]["mean"] for row in summary])
error = np.sqrt(accuracy.max() * (1 - accuracy.max()) / len(labels))
print(f"always 'functional': accuracy {majority:.1%}, balanced 50.0%")
print(f"standard error of {accuracy.max():.0%} on {len(labels)} validation cells: {error:.1%}")
names = ("network", "parameters", "layers", "M MACs", "ms")
tables.Table((*names, "accuracy", "range", "balanced", "training loss"), lines)

# %% [markdown]
# Before you compare, ask two questions of such a table. *Are they trained?* A run that was too short
# says how fast a network learns, not how well. And *what sets the time?* Here are the training loss
# near the end, and how well two costs that you can count agree with the milliseconds: a rank
# correlation of 1 means the same order, 0 none, $-1$ the reverse.

# %%
runs = [job for job in data["jobs"] if "network" in job["settings"]]
print(f"{'mean training loss at epoch':28}{'20':>7}{'30':>7}{'35':>7}{'40':>7}")
for row in summary:
    losses = [job["result"]["loss"] for job in runs if job["settings"]["network"] == row["network"]]
    means = np.mean(losses, axis=0)[[19, 29, 34, 39]]
    print(f"{row['network']:28}" + "".join(f"{loss:>7.3f}" for loss in means))

milliseconds = np.array([row["latency"]["median"] for row in summary])
macs = np.array([row["macs"] for row in summary])


def rank_correlation(one, other):
    """Return Spearman's rank correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return np.corrcoef(*ranks)[0, 1]


for text, costs in (("multiply-adds", macs), ("number of layers", layers)):
    print(f"rank correlation of {text:16} and ms: {rank_correlation(costs, milliseconds):+.2f}")

# %% [markdown]
# Over the last five epochs the loss falls by less than three hundredths, so the runs are over. (The
# learning rate has come down to 0 by then: a longer recipe might still bring something.) They are
# not equally *good*: V1 and V2 end with the highest loss, so they fit even the training cells less
# well; V3-Small ends with the lowest and does not turn that into accuracy on new cells. A recipe
# that suited each of them might change the picture.
#
# And the multiply-adds? They order the networks rather backwards than forwards. The fewest belong to
# ShuffleNet, the slowest network; ResNet-8 has more than ten times as many and is the fastest. What
# goes with the time, though not strictly, is the number of layers. One picture of this size is little
# work, and starting a layer takes its time, too. On larger pictures and on other processors that
# changes, so measure where you will run.
#
# One network *beats* another if it is at least as fast and at least as accurate, and better in one
# of the two. Those that nothing beats are the **Pareto set**; on a map of time and accuracy they
# form the *Pareto front*. A network off the front is a bad bargain: another one gives you as much
# of both, and more of one. Between two networks *on* the front nobody can choose for you.
#
# Below, the same networks twice: over their multiply-adds, and over the time that they take. Is it
# the same front?

# %% jupyter={"source_hidden": true}
# Figure: accuracy over multiply-adds and over time
SHORT = dict(
    zip(
        pareto.NETWORKS,
        ("ResNet-8", "V1", "V2", "V3-S", "V3-S min.", "V4-S", "SqueezeNet", "ShuffleNet"),
        strict=True,
    )
)
HEIGHTS = 100 * np.array([majority, *(row["val_accuracy"]["max"] for row in summary)])


def front_of(costs):
    """Return the places of the networks that nothing beats, the cheapest first."""
    order = sorted(range(len(costs)), key=lambda n: (costs[n], -accuracy[n]))
    return [n for k, n in enumerate(order) if all(accuracy[n] > accuracy[m] for m in order[:k])]


def draw_labels(axis, places, texts):
    """Write each text beside its place, where it covers the fewest other texts and places."""
    pixels = axis.transData.transform(places)
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels]
    for (x, y), text in zip(pixels, texts, strict=True):
        width, height = 7.2 * len(text), 15
        options = []
        for dx in (9, -9 - width):
            for dy in (4, -height - 4, 18, -height - 18, -height / 2):
                box = (x + dx, y + dy, x + dx + width, y + dy + height)
                covered = sum(
                    max(0, min(box[2], other[2]) - max(box[0], other[0]))
                    * max(0, min(box[3], other[3]) - max(box[1], other[1]))
                    for other in taken
                )
                outside = max(0, box[2] - axis.bbox.x1) + max(0, axis.bbox.x0 - box[0])
                options.append((covered + 50 * outside, len(options), box))
        box = min(options)[2]
        taken.append(box)
        corner = axis.transData.inverted().transform(box[:2])
        axis.text(*corner, text, fontsize=10, va="bottom")


def draw_networks(axis, costs):
    """Draw mean and range of each network's accuracy over a cost, and the front."""
    front = front_of(costs)
    right = 1.8 * costs.max()
    heights = [100 * accuracy[n] for n in front]
    axis.step([*costs[front], right], [*heights, heights[-1]], where="post", color=plots.ORANGE)
    for n, row in enumerate(summary):
        seen, colour = row["val_accuracy"], plots.ORANGE if n in front else plots.GREY
        axis.plot([costs[n]] * 2, [100 * seen["min"], 100 * seen["max"]], color=colour, lw=1.4)
        axis.plot(costs[n], 100 * seen["mean"], "o", color=colour, markeredgecolor="black")
    axis.axhline(100 * majority, color="black", lw=1, ls=":")
    low, high = 0.6 * costs.min(), right
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 50) if low < tick < high]
    axis.set(xscale="log", xlim=(low, high), ylim=(HEIGHTS.min() - 1, HEIGHTS.max() + 1))
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.figure.canvas.draw()  # so that the places of the points are known
    places = [(cost, 100 * share) for cost, share in zip(costs, accuracy, strict=True)]
    draw_labels(axis, places, [SHORT[row["network"]] for row in summary])


figure, (left, right) = plots.canvas(1, 2, size=(9, 4.6), sharey=True)
left.set(xlabel="million multiply-adds", ylabel="validation accuracy in %", title="Over work")
right.set(xlabel="milliseconds a picture", title="Over time")
draw_networks(left, macs / 1e6)
draw_networks(right, milliseconds)
plots.show(
    figure,
    alt="Eight networks as points with the ranges of their seeds, by their validation accuracy: left "
    "over their multiply-adds, right over the milliseconds that they take, both on a logarithmic "
    "scale. A stepped line joins the networks that nothing beats. A dotted line shows the accuracy "
    "of always answering functional.",
)

# %%
for text, costs in (("multiply-adds", macs), ("milliseconds", milliseconds)):
    found = [SHORT[summary[n]["network"]] for n in front_of(costs)]
    print(f"front over {text + ':':15} {', '.join(found)}")
pairs = len(accuracy) * (len(accuracy) - 1) // 2
close = sum(abs(a - b) < error for n, a in enumerate(accuracy) for b in accuracy[n + 1 :])
print(f"pairs of networks closer than one standard error: {close} of {pairs}")
print(f"from the least to the most accurate: {np.ptp(accuracy) / error:.1f} standard errors")

# %% [markdown]
# The vertical lines are the ranges of the seeds. The two fronts share SqueezeNet only: whoever chose
# by multiply-adds would take ShuffleNet, which on this processor is beaten by SqueezeNet in time and
# accuracy. And the networks that a search made for telephones are not on the front at all: this is
# no telephone, the pictures are tiny, and these are their smallest versions.
#
# Mind the lines above the table, too. All eight networks lie within two standard errors of each
# other. Two that are closer than one may change places with the next 328 cells, so the front is a band, not a line.
#
# ### Exercise 5 · Pick the Pareto set (1.5 points)
#
# Write `pareto_set(points)`: `points` is a dictionary from a network's name to
# `(milliseconds, accuracy)`. Return the names of those that no other network beats, in any order.
# Two networks that are equal in both do not beat each other.
#
# *What is tested:* random networks, and networks that are equal in one number or in both.


# %% exercise="pareto_set" points=1.5
def pareto_set(points):
    """Return the names of the networks that no other one beats."""
    ### BEGIN SOLUTION

    def beats(one, other):
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    return [
        name
        for name, point in points.items()
        if not any(beats(other, point) for other in points.values())
    ]
    ### END SOLUTION


# %% check="pareto_set"
check("pareto_set", pareto_set)

# %% [markdown]
# ## One number for both: MnasNet's objective
#
# A search cannot return a front and ask; it needs one number to climb. MnasNet, the search behind
# MobileNetV3, multiplies the accuracy with a power of the latency. $T$ is the time you aim at:
#
# $$\text{ACC} \cdot \left( \frac{\text{LAT}}{T} \right)^{w}, \qquad w = -0.07 .$$
#
# What does $w$ say? How much accuracy must a network gain to be allowed twice the time? The search
# for MobileNetV3-Small took $w = -0.15$. And there is a stricter version: nothing is gained by being
# faster than $T$ ($w = 0$ there), and being slower costs dearly ($w = -1$).


# %%
def objective(accuracy, latency, target, w=-0.07, faster=None):
    """Return MnasNet's objective; `faster` takes the place of w up to the target."""
    power = np.where(latency <= target, w if faster is None else faster, w)
    return accuracy * (latency / target) ** power


for w in (-0.07, -0.15):
    print(f"w = {w}: twice the time is worth {2**-w - 1:.1%} more accuracy")
targets = (milliseconds.min(), np.median(milliseconds), milliseconds.max())
print(f"{'chosen at a target of':22}" + "".join(f"{target:>14.1f} ms" for target in targets))
for text, options in (
    ("w = -0.07", {}),
    ("w = -0.15", {"w": -0.15}),
    ("w = 0 up to T, then -1", {"w": -1.0, "faster": 0.0}),
):
    best = [np.argmax(objective(accuracy, milliseconds, target, **options)) for target in targets]
    print(f"{text:22}" + "".join(f"{SHORT[summary[n]['network']]:>17}" for n in best))

# %% [markdown]
# In the first two lines the target makes no difference, and it cannot: $T^{-w}$ is the same factor
# for every network. With one $w$ on both sides, $T$ is decoration; the *slope* decides. Only a $w$
# that changes at $T$ knows the target.
#
# A curve on which the objective is constant has the form $\text{ACC} = c \cdot \text{LAT}^{-w}$.
# The best network lies on the highest of them:

# %%
# Figure: the networks over time, with the front and two rewards
figure, axis = plots.canvas(size=(8, 4.4))
axis.set(xlabel="milliseconds a picture", ylabel="validation accuracy in %")
draw_networks(axis, milliseconds)
reach = np.geomspace(*axis.get_xlim(), 100)
for w, colour in ((-0.07, plots.BLUE), (-0.15, plots.GREEN)):
    level = (accuracy * milliseconds**w).max()
    axis.plot(reach, 100 * level * reach**-w, color=colour, lw=1.8, ls="--", label=f"w = {w}")
axis.legend(loc="best")
plots.show(
    figure,
    alt="The networks over milliseconds again, with the front, and two dashed curves that rise to "
    "the right, the steeper one for w = −0.15. Each touches the network that the objective "
    "chooses, and all others lie below it.",
)

# %% [markdown]
# Each curve touches the front at one network: the one that the objective picks. A steeper curve
# touches further to the left, or at the same place, never further to the right.
#
# You need not take the file's word for it. Here are three of the networks on your machine (the file
# allows them one thread, here they take what there is), and a short run of one of them, with a fifth
# of the experiment's cells and a tenth of its epochs:

# %% tags=["experiment", "nbval-ignore-output"]
chosen = [name for name, text in SHORT.items() if text in ("ResNet-8", "SqueezeNet", "V3-S min.")]
measured = pareto.timed(chosen, rounds=30)
print(f"{'':20}{'here, ms':>10}{'in the file':>13}")
for row in summary:
    if row["network"] in measured:
        here = measured[row["network"]]["median"]
        print(f"{row['network']:20}{here:>10.2f}{row['latency']['median']:>13.2f}")
few_cells, few_labels = solar.cells("train[:320]", pareto.SIZE)
keras.utils.set_random_seed(0)
short = pareto.NETWORKS["ResNet-8, 8 filters"]()
short.compile(
    keras.optimizers.AdamW(solar.LEARNING_RATE, solar.WEIGHT_DECAY),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
)
short.optimizer.build(short.trainable_variables)  # prepares the step once, not twice
losses = short.fit(few_cells, few_labels, batch_size=32, epochs=4, verbose=0).history["loss"]
print(f"ResNet-8's training loss: {', '.join(f'{loss:.2f}' for loss in losses)}")

# %% tags=["experiment"]
assert losses[-1] < losses[0]
print("the training loss falls:", losses[-1] < losses[0])

# %% [markdown]
# ## Where V5 went
#
# There is no paper on a MobileNetV5. The name stands for the eye of Gemma 3n, a language model for
# telephones that was published in 2025: a network of V4's blocks, far larger than any in this
# lesson, whose output is not a class but a grid of features for the language model to read. In
# timm, `models/mobilenetv5.py` has it: universal inverted bottlenecks in the early stages, attention
# blocks in the late ones, and at the end a layer that merges features of two resolutions. The blocks that
# you built here went on; the classifier on top did not.
#
# ## What to take away
#
# - h-swish is swish with a gate of straight lines. What it saves depends on the machine, so it
#   stands where tensors are small.
# - Squeeze-and-excite weighs channels by what the whole picture says: many parameters, hardly any
#   multiply-adds, and a step that waits.
# - The tables of V3 come from a search. A row is kernel, width, output, gate, activation, stride.
# - V4's universal inverted bottleneck is four blocks in one; the depthwise convolution on the
#   narrow side is nearly free.
# - There is no best network. There is a Pareto set, and a choice that you make: a target, or a
#   price in accuracy for time.
#
# **Where this is used.** MobileNetV3 is the standard small backbone of detection and segmentation
# libraries: SSDLite and DeepLab have versions on V3-Large, and on-device vision kits use it. V4 runs on
# telephones' accelerators. Squeeze-and-excite is part of EfficientNet (lesson 07), and the Pareto
# front is how lesson 09 compares versions of one network.
#
# ## Think about it
#
# <details><summary>1. Squeeze-and-excite has almost no multiply-adds. Why can it take time
# nevertheless?</summary>
#
# The mean needs every position of the wide tensor, so the tensor is read once more; then come two
# tiny layers, which cannot start before the mean is there; then the tensor is read again and written
# to be multiplied. Work that is small and in sequence, and two more walks through memory.
# </details>
#
# <details><summary>2. MnasNet's objective with w = −0.07 ranks networks alike for every target T. How
# would you tell the search that your drone must answer within 5 ms, and that 4 ms are no better?
# </summary>
#
# Let $w$ change at $T$: 0 below it, a large negative number above. Then accuracy alone counts
# among the networks that are fast enough, and slower ones fall off steeply. A soft $w$ explores more:
# the front around $T$ is found, too, and you may still change your mind.
# </details>
#
# <details><summary>3. Two networks on the front are half a percent apart in accuracy. Which
# measurements would you want to see before you call one of them better?</summary>
#
# More seeds, since each run ends elsewhere; and more validation cells, since the standard error
# printed above is larger than the difference. The same cells for both help: count the cells on
# which only one of them is right. And time both in turns, on the device that will run them.
# </details>
#
# ## References
#
# - A. Howard and others, *Searching for MobileNetV3*, arXiv:1905.02244: Tables 1 and 2 (the networks),
#   Table 3 (accuracy and cost), sections 5.2 (h-swish) and 4.1 (w = −0.15).
# - D. Qin and others, *MobileNetV4: universal models for the mobile ecosystem*, arXiv:2404.10518:
#   Figure 4 (the block), Table 6 (accuracy and cost).
# - M. Tan and others, *MnasNet*, arXiv:1807.11626: section 3.1 (the objective).
# - J. Hu and others, *Squeeze-and-excitation networks*, arXiv:1709.01507: section 3.
# - P. Ramachandran and others, *Searching for activation functions*, arXiv:1710.05941: swish.
# - T.-J. Yang and others, *NetAdapt*, arXiv:1804.03230: Algorithm 1.

# %% [markdown]
# ## Your points

# %%
progress()
