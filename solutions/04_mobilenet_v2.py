# ---
# title: MobileNet V2
# summary: blocks that are narrow outside and wide inside; why the narrow ends stay linear; memory that fits a cache
# minutes: 90
# ---

# %% [markdown]
# # 04 · MobileNet V2
#
# MobileNet V1 made convolutions cheap. But what lies *between* its layers is wide, and a drone's
# processor has to put it somewhere. V2 keeps narrow tensors between its blocks and becomes wide only
# inside them. It needs half of V1's multiply-adds, and one of its ideas looks like a mistake at
# first: it leaves an activation out.
#
# After this lesson you can
#
# - build an inverted residual: expand, filter, project,
# - show what ReLU destroys in few dimensions, and why the narrow ends of a block stay linear,
# - round channel counts as the papers do, and reproduce the published table to the last digit,
# - say how much memory a block needs at once, and build a network that keeps to a budget,
# - judge an ablation whose differences may be chance.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import experiments, mobilenet_v1, mobilenet_v2, plots, published, tables
from utils.blocks import make_divisible as reference_make_divisible
from utils.cost import count
from utils.experiments import bottlenecks, solar

# %% [markdown]
# `mobilenet_v2` is the course's own module of this lesson. The text uses it from the start; in the
# exercises you write the same things yourself.
#
# ## Narrow, wide, narrow
#
# Here is the block with the smallest numbers. An image n×n×3 comes in.
#
# 1. **Expand**: a 1×1 convolution makes six times the channels, n×n×18.
# 2. **Filter**: a depthwise 3×3 convolution filters each of the 18 on its own, n×n×18.
# 3. **Project**: a 1×1 convolution brings them back to three, n×n×3.
#
# Batch norm follows each of the three. ReLU6, which is ReLU cut off at 6, follows the first two.
# Input and output have one shape, so a shortcut adds them. Which of the three costs most?

# %%
n = 28
cost = count(mobilenet_v2.InvertedResidual(3, expansion=6), (n, n, 3))
print(f"{'step':12}{'output':>14}{'weights':>9}{'multiply-adds':>15}")
for row in cost.layers:
    if row.macs:
        shape = "×".join(map(str, row.output_shape))
        print(f"{row.name.split('/')[0]:12}{shape:>14}{row.params:>9}{row.macs:>15,}")
assert cost.macs == n * n * (3 * 18 + 9 * 18 + 18 * 3)
print(f"full 3×3 convolution on 18 channels: {n * n * 9 * 18 * 18:,}")

# %% [markdown]
# While the tensor is wide, only a depthwise convolution works on it. That is why the block can
# afford to be wide: a full convolution on 18 channels would cost many times as much.
#
# You know a block of three convolutions already, ResNet's bottleneck. It is the other way round:


# %% jupyter={"source_hidden": true}
# Figure: two bottlenecks, wide at the ends or wide inside
def draw_block(axis, widths, steps, title, most):
    """Draw tensors as bars as high as they have channels, and a shortcut between the ends."""
    axis.axis("off")
    axis.set(xlim=(-0.4, 10.4), ylim=(-1.35, 2.0), title=title)
    places = np.linspace(0.2, 8.0, len(widths))
    for x, width in zip(places, widths, strict=True):
        half = width / most
        axis.add_patch(plt.Rectangle((x - 0.28, -half), 0.56, 2 * half, fc="#BFDBFE", ec="black"))
        axis.text(x, 0, str(width), ha="center", va="center", fontsize=12)
    for index, text in enumerate(steps):
        start, end = places[index] + 0.33, places[index + 1] - 0.33
        arrow = {"arrowstyle": "-|>", "lw": 1.6, "color": "black", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (end, 0), (start, 0), arrowprops=arrow)
        axis.text((start + end) / 2, 0.1, text, ha="center", va="bottom", fontsize=11)
    axis.annotate("", (8.95, 0), (8.33, 0), arrowprops=arrow)
    axis.plot([9.2], [0], "o", markersize=24, color="#FDE68A", markeredgecolor="black")
    axis.text(9.2, 0, "+", ha="center", va="center", fontsize=18)
    axis.annotate("", (10.2, 0), (9.45, 0), arrowprops=arrow)
    axis.plot([0.2, 0.2, 9.2], [widths[0] / most, 1.5, 1.5], color=plots.RED, lw=2.6)
    axis.annotate("", (9.2, 0.3), (9.2, 1.53), arrowprops={**arrow, "color": plots.RED, "lw": 2.6})
    axis.text(
        4.7, 1.56, f"shortcut: {widths[0]} channels", color=plots.RED, ha="center", va="bottom"
    )


figure, (top, bottom) = plots.canvas(2, 1, size=(9, 5.6))
draw_block(
    top,
    (144, 24, 24, 144),
    ("1×1, ReLU", "3×3, ReLU", "1×1"),
    "ResNet's bottleneck: wide, narrow, wide",
    144,
)
draw_block(
    bottom,
    (24, 144, 144, 24),
    ("1×1, ReLU6", "depthwise 3×3\nReLU6", "1×1"),
    "Inverted residual: narrow, wide, narrow",
    144,
)
plots.show(
    figure,
    alt="Tensors as bars whose height is their number of channels. Top, ResNet's bottleneck: 144, "
    "24, 24, 144 channels with a full 3 by 3 convolution between the narrow ones and a shortcut that "
    "carries 144. Bottom, the inverted residual: 24, 144, 144, 24 channels with a depthwise 3 by 3 "
    "convolution between the wide ones and a shortcut that carries 24.",
)

# %% [markdown]
# Two things are new besides the order. The shortcut carries the *narrow* tensors. And the last 1×1
# convolution has no activation, not even after the addition. The next section is about that.
#
# ## What ReLU destroys
#
# ReLU sets about half of all numbers to zero. What is lost with them? Here is an experiment you can
# see. A spiral in the plane stands for the information: 2 numbers a point. A random matrix $T$
# embeds it in $m$ dimensions, ReLU follows, and then we go back to the plane by the linear map that
# does it best. With $m$ = 2 there are as many numbers as before; with $m$ = 30 there are many more.
# How much of the spiral comes back?

# %%
turns = np.linspace(0.5, 4.5, 300) * np.pi
spiral = np.stack([turns * np.cos(turns), turns * np.sin(turns)], axis=1)
spiral = (spiral - spiral.mean(axis=0)) / 10
DIMENSIONS = (2, 3, 5, 15, 30)


def through_relu(x, dimensions, seed):
    """Embed points, apply ReLU, and map them back by least squares."""
    T = np.random.default_rng(seed).normal(size=(2, dimensions))
    y = np.maximum(x @ T, 0)
    A, *_ = np.linalg.lstsq(y, x, rcond=None)
    return y, y @ A


head = f"{'dimensions':>10}{'zeros':>8}{'points all zero':>17}{'one in 2^m':>19}"
print(f"{head}{'information lost':>19}")
lost = {}
for m in DIMENSIONS:
    runs = [through_relu(spiral, m, seed) for seed in range(100)]
    zeros = np.mean([np.mean(y == 0) for y, _ in runs])
    gone = np.mean([np.mean(np.all(y == 0, axis=1)) for y, _ in runs])
    lost[m] = [np.sum((spiral - back) ** 2) / np.sum(spiral**2) for _, back in runs]
    print(f"{m:>10}{zeros:>8.0%}{gone:>17.2%}{f'1 in {2**m:,}':>19}{np.mean(lost[m]):>19.1%}")

# %% jupyter={"source_hidden": true}
# Figure: a spiral, and what ReLU leaves of it
figure, axes = plots.canvas(1, 6, size=(11, 2.5))
colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(spiral)))
shown = [("input", spiral)]
for m in DIMENSIONS:
    # Of 100 matrices, the one whose loss is the median.
    seed = int(np.argsort(lost[m])[len(lost[m]) // 2])
    shown.append((f"m = {m}", through_relu(spiral, m, seed)[1]))
for axis, (title, points) in zip(axes, shown, strict=True):
    axis.scatter(*points.T, s=9, c=colours)
    axis.set(xlim=(-1.6, 1.6), ylim=(-1.5, 1.7), aspect="equal", xticks=[], yticks=[])
    axis.set_title(title, loc="center")
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
plots.show(
    figure,
    alt="A coloured spiral, and what comes back of it after an embedding in 2, 3, 5, 15 and 30 "
    "dimensions, ReLU, and the best linear way back. With 2 dimensions most of it is flattened "
    "onto two lines; with 3 pieces of it are; with 5 it is torn and bent; with 15 and 30 it is the spiral.",
)

# %% [markdown]
# Half of the activations are zero in every row. What differs is what that does to a point. With two
# dimensions, a quarter of the points have *both* numbers negative. They all become the origin, and
# nothing can tell them apart again. In general a point loses everything with a chance of $2^{-m}$:
# one in a billion with 30 dimensions. There, what one number lost another one still has.
#
# So ReLU is harmless where a tensor has many more channels than information, and harmful where it
# is narrow. The consequence is the *linear bottleneck*: ReLU6 inside the block, where it is wide; no
# activation after the projection, where it is narrow. The expansion gives ReLU the room it needs,
# and with it a richer function; the projection gives small tensors to hand on.

# %% [markdown]
# ### Exercise 1 · Measure the loss (2 points)
#
# Write `relu_information_loss(x, T)` in NumPy. `x` holds points, (N, 2), and `T` embeds them, (2, m).
# With $y = \text{relu}(x T)$ return two numbers:
#
# - the share of all numbers in $y$ that are zero,
# - the share of information lost, $\sum (x - yA)^2 / \sum x^2$, where $A$ is the matrix that maps $y$
#   back to $x$ best. `A, *_ = np.linalg.lstsq(y, x)` finds it.
#
# *What is tested:* both numbers, for random points of any scale in 2 to 6 dimensions.


# %% exercise="relu_information_loss" points=2
def relu_information_loss(x, T):
    """Return the share of zeros after ReLU and the share of x that no linear map brings back."""
    ### BEGIN SOLUTION
    y = np.maximum(x @ T, 0)
    A, *_ = np.linalg.lstsq(y, x, rcond=None)
    return np.mean(y == 0), np.sum((x - y @ A) ** 2) / np.sum(x**2)
    ### END SOLUTION


# %% check="relu_information_loss"
check("relu_information_loss", relu_information_loss)

# %% [markdown]
# ### Exercise 2 · The inverted residual (3 points)
#
# Write `InvertedResidual(filters, strides=1, expansion=6)` as a Keras layer. How wide the middle is
# depends on the input's channels, and `__init__` does not know them. Keras calls `build` with the
# input's shape before the first call: make the layers there, use them in `call`.
#
# - a 1×1 `Conv2D` to `expansion` times the input's channels, batch norm, ReLU6 (`ops.relu6`); leave
#   the three out where `expansion` is 1,
# - a 3×3 `DepthwiseConv2D` with the block's stride and `"same"` padding, batch norm, ReLU6,
# - a 1×1 `Conv2D` to `filters` channels, batch norm, and nothing more,
# - plus the input, where the stride is 1 and input and output have as many channels.
#
# A bias before a batch norm is superfluous, but costs no points.
#
# *What is tested:* the three steps and the shortcut, each on its own, with random weights; blocks with
# and without a stride, with and without an expansion.


# %% exercise="inverted_residual" points=3
class InvertedResidual(keras.layers.Layer):
    """Expand, filter, project: (B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, filters)."""

    def __init__(self, filters, strides=1, expansion=6):
        super().__init__()
        self.filters, self.strides, self.expansion = filters, strides, expansion

    def build(self, input_shape):
        ### BEGIN SOLUTION
        channels = input_shape[-1]
        new = keras.layers
        self.widen = []
        if self.expansion != 1:
            expand = new.Conv2D(self.expansion * channels, 1, use_bias=False)
            self.widen = [expand, new.BatchNormalization(), new.ReLU(6)]
        self.filter = [
            new.DepthwiseConv2D(3, self.strides, padding="same", use_bias=False),
            new.BatchNormalization(),
            new.ReLU(6),
        ]
        self.project = [new.Conv2D(self.filters, 1, use_bias=False), new.BatchNormalization()]
        self.adds = self.strides == 1 and channels == self.filters
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        y = x
        for layer in [*self.widen, *self.filter, *self.project]:
            y = layer(y)
        return x + y if self.adds else y
        ### END SOLUTION


# %% check="inverted_residual"
check("inverted_residual", InvertedResidual)

# %% [markdown]
# ## Seventeen blocks
#
# The network is a table. Each row says: $t$, the expansion; $c$, the output channels; $n$, how many
# such blocks; $s$, the stride of the first of them. A 3×3 convolution stands before the blocks, and a
# 1×1 convolution to 1280 channels, average pooling and a dense layer behind them.

# %%
model = mobilenet_v2.MobileNetV2()
print(f"{'stage':>5}{'t':>4}{'c':>5}{'n':>4}{'s':>4}   output")
for stage, (t, c, n, s) in enumerate(mobilenet_v2.MOBILENET_V2, start=1):
    shape = model.get_layer(f"stage{stage}_block{n}").output.shape[1:]
    print(f"{stage:>5}{t:>4}{c:>5}{n:>4}{s:>4}   {'×'.join(map(str, shape))}")
blocks = [layer for layer in model.layers if isinstance(layer, mobilenet_v2.InvertedResidual)]
print(
    len(blocks), "blocks,", sum(block.has_shortcut for block in blocks), "of them with a shortcut"
)
v2 = count(model)
print(f"{v2.params:,} parameters, {v2.macs:,} multiply-adds")
print(f"with a 1×1 convolution in the first block: {v2.macs + 112 * 112 * 32 * 32:,}")

# %% [markdown]
# The first block has $t$ = 1: it does not expand, and has no 1×1 convolution in front. To give it
# one all the same is a mistake that some ports make; their multiply-adds tell.
#
# ### Rounding
#
# A width multiplier α scales all channels, as in V1. V1 truncates; V2 rounds to multiples of 8, which
# processors like. How do you round 18 = 0.75 · 24 to a multiple of 8? The nearest ones are 16 and 24,
# both 2, and 6, away. 16 would lose 11 % of the channels, and here is the papers' rule: *never round
# down by more than a tenth*.

# %%
print(f"{'alpha':>5}  {'first':>5}   the seven stages{'':22}last")
for alpha in (0.35, 0.5, 0.75, 1.0, 1.4):
    first, *narrow, last = mobilenet_v2.widths(alpha)
    ends = np.cumsum([n for _, _, n, _ in mobilenet_v2.MOBILENET_V2]) - 1
    print(f"{alpha:>5}  {first:>5}   {'  '.join(f'{narrow[end]:>3}' for end in ends)}   {last:>5}")
print("24 · 0.75 = 18 →", reference_make_divisible(18), "   32 · 0.35 = 11.2 →", end=" ")
print(reference_make_divisible(11.2), "   160 · 0.35 = 56 →", reference_make_divisible(56))

# %% [markdown]
# ### Exercise 3 · Round like the papers (1 point)
#
# Write `make_divisible(channels, divisor=8)`, where `channels` may be a float:
#
# - the nearest multiple of `divisor`; ties go up, and the result is at least `divisor`;
# - but if that is below 90 % of `channels`, the next multiple.
#
# *What is tested:* divisors of 4, 8 and 16; both rules, and very small counts.


# %% exercise="make_divisible" points=1
def make_divisible(channels, divisor=8):
    """Round a channel count to a multiple of divisor, never down by more than a tenth."""
    ### BEGIN SOLUTION
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
    ### END SOLUTION


# %% check="make_divisible"
check("make_divisible", make_divisible)

# %% [markdown]
# ### The published numbers
#
# With the right rounding, all published sizes come out. "Parameters" means kernels and biases in
# these rows: their authors leave the batch norms out. Here are some of the rows; the course's tests
# compare all of them.

# %%
rows = [
    row
    for row in published.rows("mobilenet_v2")
    if row.get("params_count") == "kernels and biases"
    and (row["resolution"] == 224 or (row["variant"], row["resolution"]) == ("alpha=1.0", 96))
]
costs = {("alpha=1.0", 224): v2}


def cost_of(row):
    """Count each network once."""
    key = row["variant"], row["resolution"]
    if key not in costs:
        shape = (row["resolution"], row["resolution"], 3)
        alpha = float(row["variant"][6:])
        costs[key] = count(lambda: mobilenet_v2.MobileNetV2(shape, alpha=alpha))
    return costs[key]


published.table(rows, cost_of)

# %% [markdown]
# One row does not come out, and it is not ours that is wrong: a table in a paper can have a slip
# like any other text, and here the paper and its authors' own code disagree.

# %% [markdown]
# ## V1 against V2

# %%
v1 = count(mobilenet_v1.MobileNetV1())
print(f"{'224×224':28}{'V1':>14}{'V2':>14}{'V2 / V1':>9}")
for name, value in (
    ("parameters", lambda cost: cost.params),
    ("multiply-adds", lambda cost: cost.macs),
    ("activations (all written)", lambda cost: cost.activations),
    ("peak of live bytes", lambda cost: cost.peak_bytes),
):
    print(f"{name:28}{value(v1):>14,}{value(v2):>14,}{value(v2) / value(v1):>9.2f}")
print(f"{'layers with a kernel':28}{sum(r.macs > 0 for r in v1.layers):>14}", end="")
print(f"{sum(r.macs > 0 for r in v2.layers):>14}")
accuracy = {1: 70.6, 2: 72.0}  # arXiv:1704.04861, Table 8, and arXiv:1801.04381, Table 4
print(f"{'published accuracy in %':28}{accuracy[1]:>14}{accuracy[2]:>14}")

# %% [markdown]
# V2 is better with half of the multiply-adds. But look at the next two rows: it writes *more*
# activations than V1, and more of them are alive at once. The wide tensors inside the blocks are to
# blame. So is the story of the small memory wrong? It depends on what you count. Look inside.
#
# ## Memory, layer by layer
#
# What lives while a layer runs? Its input, its output, and whatever is kept for later: with a
# shortcut, the input of the block. `count` gives the peak; here is every step. We compare two
# networks with *the same layers*: V2, and the same chain of layers cut at other places, so that
# blocks begin and end wide and the shortcuts run between wide tensors, as in ResNet.


# %%
def live_kib(cost, input_shape):
    """Return name of the block and live memory in KiB for each step of a chain of blocks."""
    current = entering = int(np.prod(input_shape))
    blocks_with_add = {row.name.split("/")[0] for row in cost.layers if row.kind == "Add"}
    block, kept, steps = None, 0, []
    for row in cost.layers:
        name = row.name.split("/")[0]
        if name != block:
            block, entering, kept = name, current, 0
        written = int(np.prod(row.output_shape))
        adds = name in blocks_with_add
        # Batch norm and activations write in place, unless the block's input is still needed.
        copies = row.kind == "Activation" and adds and row.name.count("/") == 1
        if row.kind not in ("Conv2D", "DepthwiseConv2D", "Add") and not copies:
            continue
        steps.append((name, current + written + kept))
        current, kept = written, entering if adds else 0
    assert 4 * max(live for _, live in steps) == cost.peak_bytes
    return [(name, 4 * live / 1024) for name, live in steps]


SHAPE = (96, 96, 3)
inverted = live_kib(count(mobilenet_v2.MobileNetV2(SHAPE)), SHAPE)
wide = live_kib(count(mobilenet_v2.MobileNetV2(SHAPE, shortcut="expansions")), SHAPE)
print(f"{'peak in KiB':24}{'narrow–wide–narrow':>20}{'wide–narrow–wide':>18}{'ratio':>7}")
for name in ("", *(f"stage{stage}_block2" for stage in range(2, 7))):
    peaks = [max(live for block, live in steps if name in block) for steps in (inverted, wide)]
    what = name or "the whole network"
    print(f"{what:24}{peaks[0]:>20,.0f}{peaks[1]:>18,.0f}{peaks[1] / peaks[0]:>7.2f}")

# %% jupyter={"source_hidden": true}
# Figure: live memory, step by step, of two networks
figure, axis = plots.canvas(size=(9.5, 4.0))
stages = ("stem", *(f"stage{n}" for n in range(1, 8)), "head")
for steps, colour, label in (
    (wide, plots.ORANGE, "wide–narrow–wide"),
    (inverted, plots.BLUE, "narrow–wide–narrow (V2)"),
):
    # A stage has as many columns in both networks, so that they stand above each other.
    places, values = [], []
    for number, stage in enumerate(stages):
        of_stage = [live for name, live in steps if name.startswith(stage)]
        places += list(number + (np.arange(len(of_stage)) + 0.5) / len(of_stage))
        values += of_stage
    axis.plot(places, values, drawstyle="steps-mid", color=colour, label=label)
for number in range(1, len(stages)):
    axis.axvline(number, color=plots.GREY, lw=0.6)
axis.set(yscale="log", ylabel="live memory in KiB", xlim=(0, len(stages)))
axis.set_xticks(np.arange(len(stages)) + 0.5, stages)
axis.grid(axis="x", visible=False)
axis.legend(loc="upper right")
plots.show(
    figure,
    alt="Live memory in KiB of each step of two networks with the same layers, at 96 by 96 pixels, "
    "on a logarithmic scale. Both start highest in stage 2 and fall from stage to stage. In the "
    "stages with shortcuts the line of wide-narrow-wide stays high and level, while that of V2 "
    "lies below it and dips at every block's narrow end.",
)

# %% [markdown]
# The same layers, the same multiply-adds. Yet every block with a shortcut needs more memory if its
# ends are wide: a wide tensor has to wait until it is added. V2 lets only a narrow one wait, and
# between its blocks, where the blue line dips, hardly anything lives. At the peak of the whole
# network, where stage 2 begins, there is no shortcut yet, and both are equal.
#
# ### The wide tensor need not exist
#
# There is more in it. Each wide channel is made, filtered and used up on its own: nothing mixes wide
# channels before the projection, and that is a sum. So a device can take the wide channels in
# slices, one after the other, and add up what they contribute. Does the result stay the same?


# %%
def in_slices(block, x, slices):
    """Compute an inverted residual of stride 1 slice by slice of its wide channels."""
    expand, depthwise, project = block.body
    total = 0
    for part in np.split(np.arange(expand.filters), slices):
        y = x
        for layer, axis in ((expand, 3), (depthwise, 2)):
            kernel = np.take(layer.conv.get_weights()[0], part, axis=axis)
            convolve = ops.conv if layer is expand else ops.depthwise_conv
            y = convolve(y, kernel, padding="same")
            gamma, beta, mean, variance = (weight[part] for weight in layer.norm.get_weights())
            y = ops.relu6(gamma * (y - mean) / np.sqrt(variance + layer.epsilon) + beta)
        total = total + ops.conv(y, project.conv.get_weights()[0][:, :, part])
    return x + project.norm(total)


block = mobilenet_v2.InvertedResidual(64)
x = np.random.default_rng(0).normal(size=(1, 14, 14, 64)).astype("float32")
whole = block(x)
print("the same result:", bool(np.allclose(whole, in_slices(block, x, 6), atol=1e-4)))
print(f"{'slices':>6}{'live KiB':>10}")
for slices in (1, 2, 6, 24):
    # The input, a slice before and after its filter, and the sum.
    live = 14 * 14 * (64 + 2 * 384 // slices + (64 if slices > 1 else 0))
    print(f"{slices:>6}{4 * live / 1024:>10.0f}")
assert count(block, (14, 14, 64)).peak_bytes == 4 * 14 * 14 * (64 + 2 * 384)

# %% [markdown]
# What must exist as a whole are the *narrow* tensors, the ones between the blocks. How large do they
# get? The paper counts 16-bit numbers, and so do we here:

# %%
v1_between = [
    int(np.prod(row.output_shape)) for row in v1.layers if row.name.endswith("pointwise/conv")
]
v2_between = [int(np.prod(block.output.shape[1:])) for block in blocks]
print(f"largest tensor between blocks, 16 bits: V1 {2 * max(v1_between) / 1e3:,.0f} kB", end=", ")
print(f"V2 {2 * max(v2_between) / 1e3:,.0f} kB")
assert max(v1_between) == 4 * max(v2_between)

# %% [markdown]
# A quarter of V1's (the paper's Table 3 has 1600K and 400K). Whether a network profits from it depends
# on the program that runs it: one that computes layer after layer, as TensorFlow does, keeps the wide
# tensor whole and pays the peak of the table above. One that works in slices keeps what is between
# the blocks in its cache.

# %% [markdown]
# ### Exercise 4 · The memory of a block (2 points)
#
# Write `block_peak_memory(height, width, channels, filters, strides, expansion)`: the largest number
# of bytes that an inverted residual has alive at once, layer by layer, without slices. Numbers are
# float32, the batch is one image, and `expansion` is at least 3. The rules of `count`:
#
# - while a convolution runs, its input and its output live; batch norm and ReLU6 write in place,
# - where there is a shortcut, the block's input lives until it is added,
# - the depthwise convolution has the stride, with `"same"` padding.
#
# *What is tested:* blocks with a stride and without one, with and without a shortcut.


# %% exercise="block_peak_memory" points=2
def block_peak_memory(height, width, channels, filters, strides, expansion):
    """Return the peak of live bytes of an inverted residual."""
    ### BEGIN SOLUTION
    before = height * width
    after = -(-height // strides) * -(-width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and channels == filters else 0
    expand = before * (channels + wide)
    depthwise = (before + after) * wide + kept
    project = after * (wide + filters) + kept
    return 4 * max(expand, depthwise, project)
    ### END SOLUTION


# %% check="block_peak_memory"
check("block_peak_memory", block_peak_memory)

# %% [markdown]
# The course's own function for it is `mobilenet_v2.peak_bytes`.

# %% [markdown]
# ## Does it matter? Two ablations
#
# An *ablation* takes one idea out of a network, leaves all else as it is, and trains again. The
# paper does it twice with V2 on ImageNet (section 6.4). Its Figure 6 shows curves and prints no
# numbers: ReLU6 after the projections as well makes the network worse; and shortcuts between the
# narrow tensors do better than those between the wide ones, or none.
#
# We ask the same of the solar cells (ELPV dataset, CC BY-NC-SA 4.0). Four networks with the same
# layers train by one recipe. The results come from `data/results/bottlenecks.json`, which `make
# experiments` writes anew. These are small networks on a few small pictures, so read with care: which
# differences can you tell from chance?

# %%
data = experiments.result("bottlenecks")
networks = bottlenecks.models()
macs = {count(network).macs for network in networks}
print(f"{len(data['jobs'])} runs, {data['processor_seconds'] / 60:.0f} minutes of processor time")
print(f"{bottlenecks.SIZE}×{bottlenecks.SIZE} pixels, alpha = {bottlenecks.ALPHA}, ", end="")
print(f"{bottlenecks.EPOCHS} epochs")
print(f"multiply-adds of the four networks: {macs}")


def with_range(spread, form):
    """Write mean, lowest and highest of the seeds."""
    return f"{spread['mean']:{form}} ({spread['min']:{form}} to {spread['max']:{form}})"


lines = []
for row in data["summary"]:
    scores = [with_range(row[name], ".1%") for name in ("balanced_accuracy", "val_accuracy")]
    lines.append((row["variant"], with_range(row["loss"], ".3f"), *scores))
majority = 1 - solar.cells("validation", bottlenecks.SIZE)[1].mean()
lines.append(("always functional", "–", f"{0.5:.1%}", f"{majority:.1%}"))
tables.Table(("network", "training loss", "balanced accuracy", "accuracy"), lines)

# %% jupyter={"source_hidden": true}
# Figure: training loss and accuracy of the four networks
COLOURS = dict(
    zip(bottlenecks.VARIANTS, (plots.BLUE, plots.RED, plots.SKY, plots.ORANGE), strict=True)
)
figure, (left, right) = plots.canvas(1, 2, size=(9.5, 3.8), width_ratios=[1.15, 1])
for place, (variant, colour) in enumerate(reversed(COLOURS.items())):
    results = [job["result"] for job in data["jobs"] if job["settings"]["variant"] == variant]
    losses = np.array([result["loss"] for result in results])
    epochs = np.arange(1, losses.shape[1] + 1)
    left.fill_between(epochs, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.2, lw=0)
    left.plot(epochs, losses.mean(axis=0), color=colour)
    scores = [100 * result["balanced_accuracy"] for result in results]
    right.plot(scores, [place] * len(scores), "o", color=colour)
    right.plot([np.mean(scores)] * 2, [place - 0.25, place + 0.25], color=colour)
left.set(xlabel="epoch", ylabel="training loss")
right.set(xlabel="balanced accuracy in %", ylim=(-0.6, len(COLOURS) - 0.4))
right.set_yticks(range(len(COLOURS)), list(reversed(COLOURS)))
right.grid(axis="y", visible=False)
for tick, colour in zip(right.get_yticklabels(), reversed(COLOURS.values()), strict=True):
    tick.set(color=colour, fontweight="bold")
plots.show(
    figure,
    alt="Left: training loss over 30 epochs, mean and range of three seeds. The curves of the paper's "
    "network and of the one with shortcuts between expansions run together and end lowest; that "
    "without shortcuts ends above them, and the non-linear one highest. Right: balanced accuracy on "
    "the validation cells, a dot for each seed and a bar at their mean: highest and overlapping for "
    "the first two, lower without shortcuts, lowest for the non-linear one.",
)

# %% [markdown]
# Three seeds are few. So call a difference real only if the ranges of the seeds do not overlap.

# %%
paper, *others = data["summary"]
apart, lines = {}, []
for row in others:
    line = [row["variant"]]
    for name, scale, form in (("loss", 1, "+.3f"), ("balanced_accuracy", 100, "+.1f")):
        ours, theirs = row[name], paper[name]
        apart[row["variant"], name] = ours["min"] > theirs["max"] or ours["max"] < theirs["min"]
        verdict = "ranges apart" if apart[row["variant"], name] else "ranges overlap"
        difference = scale * (ours["mean"] - theirs["mean"])
        line.append(f"{difference:{form}}, {verdict}")
    lines.append(line)
for name in ("loss", "balanced_accuracy"):
    assert apart["non-linear", name]
    assert apart["no shortcut", name]
    assert not apart["between expansions", name]
print("against the paper’s network:")
tables.Table(("network", "training loss", "balanced accuracy, points"), lines)

# %% [markdown]
# What does that show, and what not?
#
# - **Linear bottlenecks matter here.** ReLU6 after the projections costs most. Two things go wrong at
#   once, and this experiment cannot part them: the narrow tensors lose information, and each block
#   can only add to its input, as in lesson 02 with the addition after the ReLU.
# - **Shortcuts matter here.** 17 blocks without them fit even the training cells worse.
# - **Where the shortcuts sit makes no difference that we could see.** The ranges overlap. That does
#   not contradict the paper: it trained wider networks on far more images. But one thing you can tell
#   without any training. The layers, parameters and multiply-adds are the same, and the shortcut
#   between wide tensors takes more memory. Where you see no gain, take what is cheaper.
#
# All runs have the same short budget. A network that is slower to train might catch up with more
# epochs, and none of the four is good: lesson 08 shows what weights from ImageNet add.
#
# You need not take the file's word for it. Here is a short look on your machine: can each of the two
# learn 128 cells by heart?

# %% tags=["experiment"]
few_cells, few_labels = solar.cells("train[:128]", bottlenecks.SIZE)
by_heart = {}
for variant in ("paper", "non-linear"):
    keras.utils.set_random_seed(0)
    network = bottlenecks.model(variant)
    network.compile(
        keras.optimizers.AdamW(solar.LEARNING_RATE, solar.WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # so few steps are done before a graph of all layers is made
        jit_compile=False,
    )
    run = network.fit(few_cells, few_labels, batch_size=128, epochs=4, verbose=0)
    by_heart[variant] = run.history["loss"]

# %% tags=["experiment", "nbval-ignore-output"]
for variant, losses in by_heart.items():
    print(f"{variant:12} training loss  {'  '.join(f'{loss:.2f}' for loss in losses)}")

# %% tags=["experiment"]
behind = by_heart["non-linear"][-1] > 2 * by_heart["paper"][-1]
assert behind
print("the non-linear network is far behind:", behind)

# %% [markdown]
# ## Exercise 5 · A network for 96×96 under a memory budget (2 points)
#
# The drone's processor has so many bytes for activations and no more. Pictures have 96×96 pixels, or
# nearly so. Which MobileNetV2 makes the most of it? Write `drone_mobilenet(input_shape, classes,
# max_bytes)`. It returns a functional `keras.Model`:
#
# - a 3×3 convolution with stride 2, batch norm, ReLU6; the 17 blocks of the table; a 1×1 convolution,
#   batch norm, ReLU6; `"same"` padding everywhere,
# - global average pooling, and a dense layer with `classes` outputs and no activation,
# - channels as `mobilenet_v2.widths(alpha)` gives them: the first convolution's, the 17 blocks', the
#   last convolution's,
# - and α is the *largest* multiple of 0.05 with which the live memory never exceeds `max_bytes`
#   (float32, one image, layer by layer). The answer lies between 0.2 and 1.4.
#
# Take `mobilenet_v2.InvertedResidual` or your own block (but not `mobilenet_v2.MobileNetV2`), and
# `mobilenet_v2.MOBILENET_V2` for the table. `count(model).peak_bytes` is the judge. To build and count a
# network for every α takes long, so think first: which of the layers has the peak? The figure above
# shows where it is, and `mobilenet_v2.peak_bytes(height, width, channels, filters, strides,
# expansion)` gives that of one block.
#
# *What is tested:* the blocks and their order, the shortcuts, and α, for two random sizes and budgets.


# %% exercise="drone_mobilenet" points=2
def drone_mobilenet(input_shape, classes, max_bytes):
    """Return the widest MobileNetV2 whose live memory keeps to max_bytes."""
    ### BEGIN SOLUTION
    # The peak is in the second block, where half the input's side meets the first expansion.
    rows, columns = -(-input_shape[0] // 2), -(-input_shape[1] // 2)

    def peak(alpha):
        _, before, filters, *_ = mobilenet_v2.widths(alpha)
        return mobilenet_v2.peak_bytes(rows, columns, before, filters, 2, 6)

    alpha = max(step / 20 for step in range(4, 29) if peak(step / 20) <= max_bytes)
    first, *filters, last = mobilenet_v2.widths(alpha)

    def conv(x, channels, kernel_size, strides=1):
        x = keras.layers.Conv2D(channels, kernel_size, strides, "same", use_bias=False)(x)
        return keras.layers.ReLU(6)(keras.layers.BatchNormalization()(x))

    image = keras.Input(input_shape)
    x = conv(image, first, 3, strides=2)
    filters = iter(filters)
    for t, _, n, s in mobilenet_v2.MOBILENET_V2:
        for position in range(n):
            strides = s if position == 0 else 1
            x = mobilenet_v2.InvertedResidual(next(filters), strides, t)(x)
    x = keras.layers.GlobalAveragePooling2D()(conv(x, last, 1))
    return keras.Model(image, keras.layers.Dense(classes)(x))
    ### END SOLUTION


# %% check="drone_mobilenet"
check("drone_mobilenet", drone_mobilenet)

# %% [markdown]
# A question of design is left. The peak is in the second of 17 blocks; all others have memory to
# spare. What else could you change there, besides α? Here are three ways to halve the peak:

# %%
side, first, second = 48, 16, 24
peak = mobilenet_v2.peak_bytes(side, side, first, second, 2, 6)
print(f"{'block 2 at 96×96':34}{peak / 1024:>8.0f} KiB")
for name, value in (
    ("expansion 3 in place of 6", mobilenet_v2.peak_bytes(side, side, first, second, 2, 3)),
    ("8 channels before it", mobilenet_v2.peak_bytes(side, side, 8, second, 2, 6)),
    ("pictures of 68×68 pixels", mobilenet_v2.peak_bytes(34, 34, first, second, 2, 6)),
):
    print(f"{name:34}{value / 1024:>8.0f} KiB {value / peak:>6.0%}")

# %% [markdown]
# All three halve it, and each takes something else away: channels that ReLU needs, information, or
# sharpness. Later networks (MobileNet V3 and MnasNet) have smaller expansions in their first blocks.
# Which one costs least accuracy is a question that only training answers.
#
# ## What to take away
#
# - An inverted residual is narrow outside and wide inside: expand, filter depthwise, project.
# - ReLU sets half of all numbers to zero. In many dimensions nothing is lost, in few a point may lose
#   everything. So the narrow ends stay linear.
# - Channels are rounded to multiples of 8, never down by more than a tenth; then the published tables
#   come out.
# - V2 halves V1's multiply-adds, and writes more activations. What is small is what lies between its
#   blocks.
# - With the same layers, a shortcut between narrow tensors needs less memory than one between wide
#   ones.
# - On the solar cells, linear bottlenecks and shortcuts both make a difference larger than that
#   between seeds; where the shortcuts sit does not.
#
# **Where this is used.** The inverted residual is the block of MobileNet V3, MnasNet and EfficientNet
# (lessons 06 and 07). V2 is a usual backbone on phones: with SSDLite it detects, with DeepLab it
# segments, and the paper itself does both.
#
# ## Think about it
#
# <details><summary>1. Would a ReLU after the *addition* do as little harm as in a ResNet?</summary>
#
# In a ResNet the tensors that are added are wide, and there are many channels to hold what one of
# them loses. Here they are narrow. Worse, the shortcut would pass through a ReLU in every block: what
# is negative would be cut again and again, on the very path that should carry it on unchanged.
# </details>
#
# <details><summary>2. Our way back from ReLU was linear. Could a clever, non-linear one bring back more
# in two dimensions?</summary>
#
# Some: where one number is left, the spiral's shape tells which points can have it. But a quarter of
# the points became the origin, all the same point, and no function of it can give back different
# ones. The next layer of a network is a linear map, too, so the linear loss is the one that it sees.
# </details>
#
# <details><summary>3. The multiply-adds halve. Why may a processor run V2 no faster than V1 all the
# same?</summary>
#
# It writes and reads more activations, and moving numbers takes time as well. And it has nearly twice
# as many layers, each with a cost of its own to start; depthwise layers do little work for each
# number that they read. Lesson 09 measures this.
# </details>
#
# ## References
#
# - M. Sandler and others, *MobileNetV2: inverted residuals and linear bottlenecks*, arXiv:1801.04381:
#   Table 1 (the block), Table 2 (the network), Table 3 (memory), Table 4 (results), Figure 1 (the
#   spiral), Figure 6 (ablations), section 5.1 (memory in slices).
# - A. G. Howard and others, *MobileNets*, arXiv:1704.04861: Table 8, V1's accuracy.
# - The authors' own sizes: tensorflow/models, research/slim/nets/mobilenet/README.md.

# %% [markdown]
# ## Your points

# %%
progress()
