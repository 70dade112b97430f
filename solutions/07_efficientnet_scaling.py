# ---
# title: EfficientNet, scaling on purpose
# summary: deeper, wider, sharper, measured one at a time, then all at once by one rule
# minutes: 90
# ---

# %% [markdown]
# # 07 · EfficientNet: scaling on purpose
#
# You have a small network, and your device could do four times the work. What do you buy with
# it? More layers, more channels, or more pixels? People used to pick one of the three, by habit.
# EfficientNet takes a little of each, by a rule with a single knob, and became the network that
# others are compared with. Does the rule hold where you can measure it?
#
# After this lesson you can
#
# - say what depth, width and resolution cost, and check it by counting,
# - read a measured sweep, and tell a difference from noise,
# - apply compound scaling, and round channels and blocks as the published networks do,
# - build MBConv, the block of EfficientNet, and turn B0 into B3 by hand,
# - choose a scale for a device with a deadline and a memory.

# %%
import itertools
import math

import keras
import numpy as np

from utils import efficientnet, experiments, plots, published, tables
from utils.cost import count
from utils.experiments import solar, sweep
from utils.latency import compare, predictor

# %% [markdown]
# `efficientnet` is the course's own module of this lesson's networks, `sweep` the experiment whose
# results you will read.
#
# ## Three ways to spend
#
# A convolution over $H \times W$ positions from $C$ to $F$ channels with a $k \times k$ kernel has
# $k^2 \cdot C \cdot F \cdot H \cdot W$ multiply-adds. Scale a whole network, and you can read off
# what happens:
#
# - **depth** $d$: $d$ times the layers, $d$ times the work,
# - **width** $w$: $C$ and $F$ both grow, so the work grows by $w^2$,
# - **resolution** $r$: $H$ and $W$ both grow, so the work grows by $r^2$.
#
# $$\text{multiply-adds} \propto d \cdot w^2 \cdot r^2$$
#
# Is that so for a real network? Its tables say what every kernel sees, so write the multiply-adds of
# EfficientNet-B0 down, scaled as you like (its block comes later in this lesson), and check them once
# by counting:


# %%
def macs_of(depth=1.0, width=1.0, resolution=1.0):
    """Multiply-adds of a scaled EfficientNet-B0, kernel by kernel."""
    side = math.ceil(round(224 * resolution) / 2)
    channels = efficientnet.round_filters(efficientnet.STEM, width)
    total = 3 * 3 * 3 * channels * side**2
    for _, kernel, expansion, filters, stride in efficientnet.scaled_rows(width, depth):
        wide = expansion * channels
        if expansion > 1:
            total += channels * wide * side**2
        side = math.ceil(side / stride)
        total += kernel**2 * wide * side**2  # depthwise
        total += 2 * wide * (channels // 4)  # squeeze-and-excite, at one position
        total += wide * filters * side**2
        channels = filters
    head = efficientnet.round_filters(efficientnet.HEAD, width)
    return total + channels * head * side**2 + head * 1000


b0 = count(efficientnet.EfficientNetB0)
assert macs_of() == b0.macs
print(f"B0: {macs_of():,} multiply-adds by hand, {b0.macs:,} counted")

# %%
factors = (1.0, 1.5, 2.0, 3.0)
directions = {"depth": (1, plots.BLUE), "width": (2, plots.ORANGE), "resolution": (2, plots.GREEN)}
ratios, lines = {}, []
for factor in factors:
    line = [factor]
    for name, (power, _) in directions.items():
        ratios[name, factor] = macs_of(**{name: factor}) / macs_of()
        line += [f"{factor**power:.2f}", f"{ratios[name, factor]:.2f}"]
    lines.append(line)
headers = itertools.chain(*((f"{name} by law", "counted") for name in directions))
tables.Table(("factor", *headers), lines)

# %%
# Figure: multiply-adds over the scaling factor, by law and counted
figure, axis = plots.canvas(size=(7.5, 4))
reach = np.linspace(1, 3, 50)
for (name, (power, colour)), mark in zip(directions.items(), "os^", strict=True):
    axis.plot(reach, reach**power, color=colour, lw=1.2, ls="--")
    counted = [ratios[name, factor] for factor in factors]
    axis.plot(factors, counted, mark, color=colour, markeredgecolor="black", label=name)
axis.plot([], [], color="black", lw=1.2, ls="--", label="the law")
axis.set(xlabel="factor", ylabel="multiply-adds, times those of B0", xticks=factors)
axis.legend(loc="upper left")
plots.show(
    figure,
    alt="Multiply-adds over the factor from 1 to 3. Resolution lies on its square law, width on the "
    "same law at first and a little below it at 3, depth on a straight line, above it at 1.5.",
)

# %% [markdown]
# The law holds, within a tenth or so, and the rest has reasons. Depth is dearer at 1.5, since blocks
# are rounded up, as you will see. Width is cheaper, since a depthwise convolution, whose channels do
# not meet, grows by $w$ and not by $w^2$. And 336 pixels are not a multiple of 32, so the halves are
# rounded up. Good enough to plan with, and not good enough to quote.
#
# ## One direction at a time, measured
#
# What does the work buy? Paper and common sense say that each direction *saturates*: the first
# doubling helps, the next one less. The best-known case is depth. ResNet-1000 is hardly more
# accurate than ResNet-101, says the paper that this lesson is about, although it has ten times the
# layers.
#
# You need not believe it. The experiment `sweep` starts from a small MobileNet V1 (half its depth, an
# eighth of its width, 32 × 32 pixels), and scales it in each direction to two, four and eight
# times the work. Twelve networks, three seeds each, learn the solar cells from scratch by the same
# recipe. V1 has no shortcuts between its blocks, so mind what lesson 02 said about depth.

# %%
found = experiments.result("sweep")
rows = {row["network"]: row for row in found["summary"]}
base = rows["base"]
lines = []
for name, row in rows.items():
    seen, loss = row["val_accuracy"], row["loss"]
    sizes = f"{row['macs'] / base['macs']:.1f}×", f"{row['params']:,}", row["size"]
    accuracy = f"{seen['mean']:.1%} ± {seen['std']:.1%}"
    lines.append((name, *sizes, accuracy, f"{loss['mean']:.3f} ± {loss['std']:.3f}"))
labels = solar.cells("validation", 32)[1]
majority = max(np.mean(labels == 0), np.mean(labels == 1))
# How far an accuracy on so few cells lies from the true one, as one standard error.
error = math.sqrt(base["val_accuracy"]["mean"] * (1 - base["val_accuracy"]["mean"]) / len(labels))
print(
    f"always the majority: {majority:.1%}; one standard error of {len(labels)} cells: {error:.1%}"
)
tables.Table(("network", "work", "parameters", "pixels", "accuracy", "training loss"), lines)

# %% jupyter={"source_hidden": true}
# Figure: twelve scaled networks over their multiply-adds
COLOURS = {
    "depth": plots.BLUE,
    "width": plots.ORANGE,
    "resolution": plots.GREEN,
    "compound": plots.RED,
}


def draw_sweep(axis, key, scale=1.0, ways=("depth", "width", "resolution")):
    """Draw mean and range over the seeds, over the work, a line for each way of scaling."""
    for shift, way in enumerate(ways):
        chosen = [base, *(row for row in rows.values() if row["way"] == way)]
        # A little beside each other, so that ranges do not cover one another.
        works = np.array([row["macs"] / base["macs"] for row in chosen]) * 1.02 ** (shift - 1)
        means = [scale * row[key]["mean"] for row in chosen]
        axis.plot(works, means, "o-", color=COLOURS[way], lw=1.8, label=way)
        for work, row in zip(works, chosen, strict=True):
            ends = [scale * row[key]["min"], scale * row[key]["max"]]
            axis.plot([work, work], ends, color=COLOURS[way], lw=1.4)
    axis.set(xscale="log", xlabel="multiply-adds, times the base")
    axis.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axis.minorticks_off()


figure, (left, right) = plots.canvas(1, 2, size=(9.5, 4.3))
draw_sweep(left, "val_accuracy", 100)
left.axhline(100 * majority, color="black", lw=1, ls=":")
left.text(8, 100 * majority + 0.15, "majority", ha="right", va="bottom", fontsize=10)
left.set(ylabel="validation accuracy in %", title="New cells")
draw_sweep(right, "loss")
right.set(ylabel="loss at the end of training", title="The cells it trained on")
right.legend(loc="lower left")
plots.show(
    figure,
    alt="Twelve networks over their multiply-adds, with ranges over seeds. Left, validation accuracy: "
    "resolution rises most and stays level from four times the work on, width rises and falls again, "
    "depth falls to the majority. Right, training loss: width and resolution fall, depth rises.",
)

# %% [markdown]
# Begin with the right panel, the cells that the networks trained on.
#
# - **Width**: the wider, the better a network fits its own cells. On *new* cells four times the work
#   helps and eight times does not help further: 1,640 cells cannot feed more channels.
# - **Resolution**: the largest gain on new cells, up to four times the work, then it stops. 64 pixels
#   show what 32 do not; 88 show little that 64 do not. That is saturation.
# - **Depth**: no saturation but harm, and on the right just as on the left. It is not overfitting: with
#   26 and 52 blocks in a row the network does not even fit its own cells and ends up calling all of
#   them functional. You have met this in lesson 02, and V1, too, has no shortcuts.
#
# So the sweep does not tell what depth is worth where it can be trained, as in the networks with
# shortcuts of lesson 02, or in B0, whose blocks have them wherever shapes allow. It tells that
# depth is nothing you can buy by the metre. And how sure is the rest?

# %%
lines = []
for way in ("depth", "width", "resolution"):
    best = max(
        (row for row in rows.values() if row["way"] == way),
        key=lambda row: row["val_accuracy"]["mean"],
    )
    gain = best["val_accuracy"]["mean"] - base["val_accuracy"]["mean"]
    loss = f"{base['val_loss']['mean']:.3f} → {best['val_loss']['mean']:.3f}"
    lines.append((way, best["network"], f"{gain:+.1%}", f"{gain / error:.1f}", loss))
assert rows["depth × 8"]["loss"]["min"] > rows["base"]["loss"]["max"]
assert rows["width × 3.45"]["loss"]["max"] < rows["width × 2.25"]["loss"]["min"]
tables.Table(("way", "its best", "gain", "in standard errors", "validation loss"), lines)

# %% [markdown]
# A gain of one or two standard errors is a hint, no proof, although all three seeds point the same
# way: they share the validation cells. The harm of depth is beyond doubt.
#
# ## A little of each
#
# The three are not independent. More pixels show finer cracks, but a filter sees a smaller part of
# the picture, so more layers are needed to see as much of it as before; and finer patterns want
# more channels. So grow all three at once. The **compound rule** has one knob $\varphi$ and three
# constants:
#
# $$d = \alpha^\varphi, \quad w = \beta^\varphi, \quad r = \gamma^\varphi, \qquad
#   \alpha \cdot \beta^2 \cdot \gamma^2 \approx 2 .$$
#
# With the constraint, the work grows by $(\alpha \beta^2 \gamma^2)^\varphi \approx 2^\varphi$: each
# step of $\varphi$ doubles it. The paper looked for the constants by a grid search at $\varphi = 1$,
# on B0, and took $\alpha = 1.2$, $\beta = 1.1$, $\gamma = 1.15$.
#
# How much of that does the constraint decide? Let us search a grid ourselves:

# %%
grid = [1 + n / 20 for n in range(21)]
solutions = [
    point
    for point in itertools.product(grid, repeat=3)
    if abs(point[0] * point[1] ** 2 * point[2] ** 2 - 2) <= 0.1
]
paper = (1.2, 1.1, 1.15)
print(f"{len(solutions)} of {len(grid) ** 3:,} points have a cost within 0.1 of 2")
print("the paper's is one of them:", paper in solutions)
print(f"its cost: {efficientnet.compound_coefficients(1).cost:.3f}")

# %%
# Figure: all α, β and γ that double the work
figure, axis = plots.canvas(size=(7, 4.4))
depths, widths, sharps = np.array(solutions).T
# Several solutions share depth and width: a little beside each other.
beside = 0.012 * (np.array([sum(s[:2] == t[:2] and s < t for s in solutions) for t in solutions]))
points = axis.scatter(
    depths + beside, widths, c=sharps, s=42, cmap="viridis", edgecolor="black", lw=0.5
)
axis.plot(paper[0], paper[1], "*", markersize=24, color=plots.ORANGE, markeredgecolor="black")
axis.annotate("the paper's", paper[:2], (1.5, 1.3), arrowprops={"arrowstyle": "-|>"})
axis.set(xlabel="α, depth", ylabel="β, width")
figure.colorbar(points, label="γ, resolution")
plots.show(
    figure,
    alt="The solutions of the constraint as points over alpha and beta, coloured by gamma. They fill "
    "a band from the corner with all the growth in resolution to those with all of it in depth or "
    "width. The paper's point lies among them, near the corner of little width and depth.",
)

# %% [markdown]
# Every point of the band costs the same, on paper. The constraint does not choose among them; it says
# what you can afford. *Only accuracy picks one*, and that means training B0 once for each point:
# a hundred trainings on ImageNet. Nobody repeats that for a network a hundred times larger, and the
# rule is the trick: search where it is cheap, at $\varphi = 1$, and keep the constants for every
# other $\varphi$. That is a bet, too: that what is balanced at B0 stays balanced at B7.
#
# ### Exercise 1 · The compound rule (1 point)
#
# Write `compound_coefficients(phi, alpha, beta, gamma)`. Return depth, width and resolution, in
# this order.
#
# *What is tested:* whole, fractional and negative φ, with other constants than the paper's.


# %% exercise="compound_coefficients" points=1
def compound_coefficients(phi, alpha, beta, gamma):
    """Return by what depth, width and resolution are multiplied."""
    ### BEGIN SOLUTION
    return alpha**phi, beta**phi, gamma**phi
    ### END SOLUTION


# %% check="compound_coefficients"
check("compound_coefficients", compound_coefficients)

# %% [markdown]
# ## Rounding, where the tables come from
#
# A layer with 35.2 channels does not exist, and neither do 2.2 blocks. So there are two rules,
# and without them no published table comes out.
#
# **Channels** become a multiple of 8, the nearest one; halfway goes up. But if that has lost more
# than a tenth, it is the next multiple. (It is at least 8.)
#
# **Blocks** of a stage are rounded up.

# %%
for filters, width in ((32, 1.1), (16, 1.1), (16, 1.2), (24, 1.4)):
    rounded = efficientnet.round_filters(filters, width)
    print(f"{filters} channels × {width} = {filters * width:4.1f} → {rounded}")
for repeats, depth in ((1, 1.1), (2, 1.1), (4, 1.1), (4, 1.4)):
    rounded = efficientnet.round_repeats(repeats, depth)
    print(f"{repeats} blocks × {depth} = {repeats * depth:3.1f} → {rounded}")

# %% [markdown]
# See the third line: the nearest multiple of 8 to 19.2 is 16, but 16 is less than nine tenths of it.
#
# ### Exercise 2 · Round the channels (1.5 points)
#
# Write `round_filters(filters, width)`.
#
# *What is tested:* pairs for which the nearest multiple is right, some of them halfway between two
# multiples, and pairs for which it loses more than a tenth. (Python's `round` takes halves to the
# even number.)


# %% exercise="round_filters" points=1.5
def round_filters(filters, width):
    """Return filters times width as a multiple of 8."""
    ### BEGIN SOLUTION
    value = filters * width
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * value else nearest
    ### END SOLUTION


# %% check="round_filters"
check("round_filters", round_filters)

# %% [markdown]
# ### Exercise 3 · Round the blocks (0.5 points)
#
# Write `round_repeats(repeats, depth)`.


# %% exercise="round_repeats" points=0.5
def round_repeats(repeats, depth):
    """Return repeats times depth, rounded up."""
    ### BEGIN SOLUTION
    return math.ceil(repeats * depth)
    ### END SOLUTION


# %% check="round_repeats"
check("round_repeats", round_repeats)

# %% [markdown]
# What does rounding do to the promise that a step of $\varphi$ doubles the work? Here is B0 at a dozen
# values of $\varphi$, counted:

# %%
# Figure: multiply-adds over φ, by law and counted
steps = [n / 5 for n in range(11)]
real = [macs_of(*efficientnet.compound_coefficients(phi)) / macs_of() for phi in steps]
figure, axis = plots.canvas(size=(7.5, 4))
axis.plot(steps, [2**phi for phi in steps], color=plots.GREY, ls="--", label="2 to the φ")
law = [efficientnet.compound_coefficients(phi).cost for phi in steps]
axis.plot(steps, law, color=plots.BLUE, ls="--", label="d · w² · r²")
axis.plot(steps, real, "o-", color=plots.ORANGE, label="counted, after rounding")
axis.set(xlabel="φ", ylabel="multiply-adds, times those of B0")
axis.legend(loc="upper left")
plots.show(
    figure,
    alt="Multiply-adds over phi from 0 to 2. The two laws rise smoothly to 3.7 and 4. The counted "
    "ones jump at the first step, since every stage gets another block, and lie above both laws "
    "almost everywhere.",
)

# %%
one = steps.index(1.0)
print(
    f"at φ = 1 the rule says {law[one]:.2f}, the network has {real[one]:.2f} times the work of B0"
)
print(f"at φ = 0.2 the rule says {law[1]:.2f}, the network has {real[1]:.2f}")
stages = [repeats for _, _, _, repeats, _ in efficientnet.EFFICIENTNET_B0]
print("blocks of the stages at φ = 0:  ", stages)
print("blocks of the stages at φ = 0.2:", [efficientnet.round_repeats(n, 1.2**0.2) for n in stages])

# %% [markdown]
# Rounding up is expensive where stages are short: *any* $\varphi$ above 0 gives each stage one more
# block. So you pay for the whole step at once, and later steps of $\varphi$ are cheap until
# the next block is due. Between a rule and a network there is always a table; count before you
# promise.
#
# ## B1 to B7 are a table, not a formula
#
# Now put the published networks beside the rule. For each of them, which $\varphi$ gives its depth,
# which its width, which its resolution?

# %%
print(
    f"{'':4}{'depth':>6}{'width':>7}{'pixels':>8}   {'φ by depth':>11}{'by width':>10}{'by pixels':>11}"
)
implied = {}
for name, (width, depth, pixels, _) in efficientnet.VARIANTS.items():
    if name.startswith("B") and name != "B0":
        scaled = (depth, width, pixels / 224)
        implied[name] = [math.log(s) / math.log(p) for s, p in zip(scaled, paper, strict=True)]
        by = "".join(f"{phi:>11.2f}" for phi in implied[name])
        print(f"{name:4}{depth:>6}{width:>7}{pixels:>8}   {by}")

# %%
# Figure: the φ that each number of B1 to B7 stands for
figure, axis = plots.canvas(size=(7.5, 4))
marks = zip(directions.items(), "os^", strict=True)
for place, ((name, (_, colour)), mark) in enumerate(marks):
    heights = [implied[variant][place] for variant in implied]
    axis.plot(
        list(implied), heights, mark, color=colour, markeredgecolor="black", label=f"by {name}"
    )
axis.plot(list(implied), range(1, 8), color=plots.GREY, ls="--", label="φ = 1, 2, … 7")
axis.set(ylabel="φ", title="Which φ is B1, B2, … B7?")
axis.legend(loc="upper left")
plots.show(
    figure,
    alt="For B1 to B7 the phi that its depth, its width and its resolution stand for. B1 lies near "
    "one half, with width at zero. All three rise, but they part from each other, and from the "
    "dashed line where B1 would be phi 1 and B7 phi 7.",
)

# %% [markdown]
# The number in a name is not $\varphi$. B2 is $\varphi = 1$, near enough; B1 is half a step, and its
# width does not grow at all; and from B3 on the three part from each other: B7 would be 6.2 by its
# depth and 7.3 by its width. The paper prints the rule and not these coefficients; they come from
# the authors' code. So if you build "EfficientNet-B3" from the formula with $\varphi = 3$, you get
# another network. Take the table.
#
# ## MBConv, the block that is scaled
#
# B0 came from a search like those of lesson 06, and its block is a close relative of
# MobileNetV3's: an inverted residual with squeeze-and-excite. Three things differ.
#
# - The activation is swish, $x \cdot \sigma(x)$, everywhere: after the expansion, after the depthwise
#   convolution, and inside squeeze-and-excite.
# - The gate is the sigmoid itself.
# - Squeeze-and-excite narrows to $Q = \max(1, \lfloor C / 4 \rfloor)$ channels, a quarter of the
#   block's *narrow* input $C$, although it weighs the wide tensor of $t \cdot C$ channels. MobileNetV3
#   takes a quarter of the wide one.
#
# Here is one block of B0's sixth stage, layer by layer:

# %%
block = efficientnet.MBConv(192, kernel_size=5, name="block")
cost = count(block, (7, 7, 192))
print(f"{'layer':34}{'output':>16}{'parameters':>12}{'multiply-adds':>15}")
for row in cost.layers:
    if row.macs:
        shape = "×".join(str(n) for n in row.output_shape)
        print(f"{row.name:34}{shape:>16}{row.params:>12,}{row.macs:>15,}")
print(f"{'all':50}{cost.params:>12,}{cost.macs:>15,}")

# %% [markdown]
# How much does it matter whether the quarter is one of the narrow or of the wide tensor?


# %%
def gates_of(narrow):
    """Count the parameters of squeeze-and-excite in B0."""
    total, channels = 0, efficientnet.STEM
    for _, t, c, n, _ in efficientnet.EFFICIENTNET_B0:
        for _ in range(n):
            wide = t * channels
            squeezed = max(1, (channels if narrow else wide) // 4)
            total += 2 * wide * squeezed + squeezed + wide
            channels = c
    return total


gates = sum(row.params for row in b0.layers if "/squeeze_excite/" in row.name)
assert gates == gates_of(narrow=True)
print(f"B0 has {b0.params:,} parameters, {gates:,} of them in squeeze-and-excite")
print(f"with a quarter of the wide tensor it would have {gates_of(narrow=False):,} there")

# %% [markdown]
# ### Exercise 4 · MBConv (3 points)
#
# Write `mbconv(x, filters, strides, expansion, kernel_size)` with Keras layers; return the block's
# output.
#
# 1. 1×1 convolution to `expansion` times the input's channels, batch norm, swish; nothing of that if
#    `expansion` is 1,
# 2. depthwise convolution with the stride, `padding="same"`, batch norm, swish,
# 3. squeeze-and-excite: mean over the positions, a layer to $Q$ channels with swish, a layer back
#    with a sigmoid, both with bias and without batch norm; multiply,
# 4. 1×1 convolution to `filters` channels, batch norm, no activation,
# 5. add `x`, if `strides` is 1 and the channels are as many as before.
#
# *What is tested:* the layers and their sizes (one case has so few channels that a quarter of them is
# none), the values for random weights, and where the shortcut is.


# %% exercise="mbconv" points=3
def mbconv(x, filters, strides, expansion, kernel_size):
    """Apply MBConv: (B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, filters)."""
    ### BEGIN SOLUTION
    channels = x.shape[-1]
    wide = channels * expansion
    y = x
    if expansion > 1:
        y = keras.layers.Conv2D(wide, 1, use_bias=False)(y)
        y = keras.layers.BatchNormalization()(y)
        y = keras.layers.Activation("swish")(y)
    y = keras.layers.DepthwiseConv2D(kernel_size, strides, padding="same", use_bias=False)(y)
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.Activation("swish")(y)
    gates = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    gates = keras.layers.Conv2D(max(1, channels // 4), 1, activation="swish")(gates)
    gates = keras.layers.Conv2D(wide, 1, activation="sigmoid")(gates)
    y = keras.layers.Multiply()([y, gates])
    y = keras.layers.Conv2D(filters, 1, use_bias=False)(y)
    y = keras.layers.BatchNormalization()(y)
    if strides == 1 and channels == filters:
        y = keras.layers.Add()([x, y])
    return y
    ### END SOLUTION


# %% check="mbconv"
check("mbconv", mbconv)

# %% [markdown]
# ## From B0 to B3
#
# B0 is seven stages of this block, between a 3×3 convolution with stride 2 and a 1×1
# convolution to 1280 channels:

# %%
side = 112
print(
    f"{'stage':>5}{'input':>9}{'kernel':>8}{'expansion':>11}{'filters':>9}{'blocks':>8}{'stride':>8}"
)
for stage, (kernel, t, c, n, s) in enumerate(efficientnet.EFFICIENTNET_B0, start=1):
    print(f"{stage:>5}{f'{side}×{side}':>9}{f'{kernel}×{kernel}':>8}{t:>11}{c:>9}{n:>8}{s:>8}")
    side //= s

# %% [markdown]
# ### Exercise 5 · B0 → B3 by hand (2 points)
#
# Write `scaled_blocks(stages, width, depth)`. `stages` has a row for each stage, as in the table
# above: `(kernel, expansion, filters, blocks, stride)`. Return a row for each *block* of the
# scaled network, in order: `(kernel, expansion, filters, stride)`. Only the first block of a stage
# has its stride. You may use `efficientnet.round_filters` and `efficientnet.round_repeats`.
#
# *What is tested:* random tables: the number of blocks, their channels, and the rest.


# %% exercise="scaled_blocks" points=2
def scaled_blocks(stages, width, depth):
    """Return (kernel, expansion, filters, stride) of every block of a scaled network."""
    ### BEGIN SOLUTION
    rows = []
    for kernel, expansion, filters, repeats, stride in stages:
        filters = efficientnet.round_filters(filters, width)
        for position in range(efficientnet.round_repeats(repeats, depth)):
            rows.append((kernel, expansion, filters, 1 if position else stride))
    return rows
    ### END SOLUTION


# %% check="scaled_blocks"
check("scaled_blocks", scaled_blocks)

# %% [markdown]
# B3 has width 1.2 and depth 1.4, hence 26 blocks in place of 16. All that is left is to count the
# family, and to lay the numbers beside the published ones. (Lite are relatives for small devices: no
# squeeze-and-excite, ReLU6, and the ends are not scaled. B4 to B7 and the larger Lite take a while to
# build; the tests of this course count them, too.)


# %%
def family_cost(row):
    """What a network of the family costs at its own resolution."""
    return count(getattr(efficientnet, f"EfficientNet{row['variant']}"))


chosen = [
    row
    for row in published.rows("efficientnet")
    if ("Table 2" in row["source"] or row["variant"].startswith("Lite"))
    and row["variant"] in ("B0", "B1", "B2", "B3", "Lite0", "Lite1", "Lite2")
]
width, depth, pixels, _ = efficientnet.VARIANTS["B7"]
print(f"B7 has {macs_of(depth, width, pixels / 224) / macs_of():.0f} times the work of B0")
published.table(chosen, family_cost)

# %% [markdown]
# All parameters come out. Of the multiply-adds those of B1 are off by more than a rounding, in every
# implementation there is, and Lite's authors count more than the kernels. A paper's table is what
# its authors' tools said then; what your device will do is what you count.
#
# And the line above the table: from B0 to B7, the same rule and the same kind of block, accuracy
# on ImageNet grows from 77.1 to 84.3 %, as published. *That* is saturation, with the compound rule and all.
#
# ## Compound against single, at the same cost
#
# Is a little of each better than all of one? Here is what the paper says of B0 at about four times its
# work (its Table 7), and what our sweep says of the small MobileNet:

# %%
print("EfficientNet-B0 on ImageNet, as published:")
for row in published.rows("efficientnet"):
    if "Table 7" in row["source"]:
        print(f"  {row['variant']:24}{row['macs']:>6}{row['top1']:>8} %")

# %%
groups = {
    "about 4 times the work": ["depth × 4", "width × 2.25", "resolution × 2", "compound φ = 1"],
    "about 8 times the work": [
        "depth × 8",
        "width × 3.45",
        "resolution × 2.75",
        "compound φ = 2.8",
    ],
}
lines = []
for name in itertools.chain(*groups.values()):
    row = rows[name]
    seen, balanced, loss = row["val_accuracy"], row["balanced_accuracy"], row["val_loss"]
    accuracy = f"{seen['mean']:.1%} ({seen['min']:.1%} to {seen['max']:.1%})"
    work = f"{row['macs'] / base['macs']:.1f}×"
    lines.append((name, work, accuracy, f"{balanced['mean']:.1%}", f"{loss['mean']:.3f}"))
print(f"one standard error of {len(labels)} cells: {error:.1%}")
tables.Table(("network", "work", "accuracy", "balanced", "validation loss"), lines)

# %% jupyter={"source_hidden": true}
# Figure: four ways to scale, on the validation cells
figure, (left, right) = plots.canvas(1, 2, size=(9.5, 4.3))
every = ("depth", "width", "resolution", "compound")
draw_sweep(left, "val_accuracy", 100, every)
left.set(ylabel="validation accuracy in %", title="Accuracy")
draw_sweep(right, "val_loss", ways=every)
right.set(ylabel="validation loss", title="Loss")
right.legend(loc="best")
plots.show(
    figure,
    alt="Accuracy and loss on the validation cells over multiply-adds, for all four ways. Resolution is "
    "best in both; compound is level at four times the work and better than the base at seven; depth "
    "is far worse than all others.",
)

# %% [markdown]
# On ImageNet, B0 gains 3.8 points by the compound rule and less than 2 by any single direction. On our
# cells the compound networks beat the deep ones, and that is all. At four times the work wider and
# sharper ones are ahead of them, at eight times the sharper one is. Do not explain that away. Look at
# what differs:
#
# - *The starting point.* B0 starts at 224 pixels. Our base has 32, and is so short of pixels that
#   they are the best buy by far. The rule spends only part of the money on them.
# - *The network.* Each step of $\varphi$ pays for blocks, too, and you have seen what blocks do to
#   this network.
# - *The constants.* 1.2, 1.1 and 1.15 are the best point of a grid for B0 on ImageNet. Another
#   network and other data have another best point. One direction at a time, ours suggests a point
#   with a large $\gamma$ and hardly any depth.
#
# That is the lesson behind the lesson. What carries over is the *method*: balance the three where
# training is cheap, then scale by one knob. The numbers carry over as far as your case resembles theirs.
#
# ## Where do they look?
#
# The paper shows class-activation maps of its scaled networks, and says that those of compound
# scaling cover more of the objects. Here are ours, for the first defective cells of the
# validation split, none picked by hand: Grad-CAM (lesson 08 takes it apart) of the third stage.
# Bright is what speaks for a defect; each map has its own scale.

# %%
# Figure: four cells, and where five networks look
maps = {
    job["settings"]["network"]: job["result"]["maps"]
    for job in found["jobs"]
    if job["settings"]["seed"] == 0
}
shown = ["base", *groups["about 8 times the work"]]
cells = sweep.pictured(128)[:4, ..., 0]
figure, axes = plots.canvas(len(shown) + 1, 4, size=(7.2, 10.2), layout="constrained")
for column, cell in enumerate(cells):
    for axis in axes[:, column]:
        axis.imshow(cell, cmap="gray")
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
    for axis, name in zip(axes[1:, column], shown, strict=True):
        heat = np.array(maps[name][column])
        axis.imshow(heat, cmap="inferno", alpha=0.55, extent=(-0.5, 127.5, 127.5, -0.5))
for axis, name in zip(axes[:, 0], ["the cell", *shown], strict=True):
    axis.set_ylabel(name, fontsize=10)
plots.show(
    figure,
    alt="Four defective cells, and below each the heat maps of five networks: base, depth, width, "
    "resolution, compound. The sharper network has a fine map, the others a coarse one. None of them "
    "follows the cracks closely, and the deep network's map is as bright as the others'.",
)

# %% [markdown]
# Much of what the eye sees here is the size of the maps: 88 pixels leave 11 × 11 positions, 32 leave
# 4 × 4. Some bright places touch a crack, many do not. And look at the third row. This network calls
# every cell functional, it has learnt nothing, and its map is as bright as any. A map
# shows what a logit hangs on, whether the logit is any good or not. Four pictures do not tell
# which way of scaling looks at better places, in a paper either.
#
# ## The same recipe for MobileNet and ResNet
#
# Nothing in the rule is about EfficientNet. `efficientnet.scale` applies it to MobileNet V1 and to
# ResNet: blocks rounded up, channels to multiples of 8, pixels to whole ones. The paper's Table 3
# did the same on ImageNet:


# %%
def scaled_cost(row):
    """What the network of a row of Table 3 costs."""
    factors = dict(part.split("=") for part in row["variant"].split() if "=" in part)
    name = "mobilenet_v1" if row["variant"].startswith("Mobile") else "resnet50"
    d, w, r = (float(factors.get(letter, 1)) for letter in "dwr")
    # In the version 1.5 of ResNet the 3×3 convolution has the stride, not the first 1×1.
    options = {"stride_in": "3x3"} if name == "resnet50" else {}
    return count(lambda: efficientnet.scale(name, d, w, r, **options))


table = [row for row in published.rows("efficientnet") if "Table 3" in row["source"]]
for row in table:
    print(f"{row['top1']} %  {row['variant']}")
published.table(table, scaled_cost)

# %% [markdown]
# At equal work the compound MobileNet is 1.4 points above the wider one and 2.9 above the sharper
# one. Where a line says ≠, the paper did not scale every layer, or not by our rounding: how a stem
# or a short stage is scaled is a choice that no formula makes for you.
#
# ## Which φ for this device?
#
# In practice the question is the other way round. The device is given: a deadline, a memory. Which
# $\varphi$ still fits? By the law it would be $\log_2$ of what you can spend. But rounding makes steps,
# and time is not multiply-adds (lessons 03 and 06). So build the candidates, and time them:

# %% tags=["nbval-ignore-output"]
candidates = {}
for phi in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
    d, w, r = efficientnet.compound_coefficients(phi)
    network = efficientnet.scale(
        "mobilenet_v1", 0.5 * d, 0.25 * w, r, base_size=64, channels=1, classes=2
    )
    candidates[phi] = network
times = compare({phi: predictor(network) for phi, network in candidates.items()}, rounds=60)
print(f"{'φ':>4}{'pixels':>8}{'blocks':>8}{'int8 MB':>9}{'million MACs':>14}{'ms, median':>12}")
for phi, network in candidates.items():
    cost = count(network)
    blocks = sum("block" in layer.name for layer in network.layers)
    sizes = (
        f"{network.input_shape[1]:>8}{blocks:>8}{cost.params / 1e6:>9.2f}{cost.macs / 1e6:>14.2f}"
    )
    print(f"{phi:>4}{sizes}{times[phi]['median']:>12.2f}")

# %%
slower = times[2.5]["median"] / times[0.0]["median"]
dearer = count(candidates[2.5]).macs / count(candidates[0.0]).macs
assert slower > 1
print("φ = 2.5 takes longer than φ = 0:", slower > 1)
print(f"its work is {dearer:.1f} times as much")

# %% [markdown]
# Compare the last two columns: on networks this small the time grows more slowly than the work, since
# starting a layer takes its time whatever is in it. On a larger machine, and on larger networks, it is
# otherwise. So the choice is made from a list of measurements, not from a law.
#
# ### Exercise 6 · Choose φ for a device (2 points)
#
# Write `choose_phi(networks, deadline, flash)`. `networks` is a list of dictionaries, in any order:
#
#     {"phi": 1.0, "megabytes": 2.4, "milliseconds": [9.8, 10.1, 9.9, 12.3, 9.7]}
#
# Return the largest `phi` whose network has at most `flash` megabytes and meets the deadline in
# *every* run: its slowest run takes at most `deadline` milliseconds. Return `None` if no network
# fits.
#
# *What is tested:* networks of which now this limit binds and now that one, whose size and time do not
# always grow with φ, limits that are met exactly, slow runs, and limits that nothing meets.


# %% exercise="choose_phi" points=2
def choose_phi(networks, deadline, flash):
    """Return the largest φ that fits the device, or None."""
    ### BEGIN SOLUTION
    return max(
        (
            network["phi"]
            for network in networks
            if max(network["milliseconds"]) <= deadline and network["megabytes"] <= flash
        ),
        default=None,
    )
    ### END SOLUTION


# %% check="choose_phi"
check("choose_phi", choose_phi)

# %% [markdown]
# You need not take the sweep's word for it, either. Here is a short run of its compound network, with
# a fifth of the cells and a tenth of the epochs. Too short to compare accuracies, long enough to see
# that it learns:

# %% tags=["experiment", "nbval-ignore-output"]
keras.utils.set_random_seed(0)
short = sweep.model("compound φ = 1")
few, their_labels = solar.cells("train[:320]", short.input_shape[1])
short.compile(
    keras.optimizers.AdamW(solar.LEARNING_RATE, solar.WEIGHT_DECAY),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
)
short.optimizer.build(short.trainable_variables)  # prepares the step once, not twice
losses = short.fit(few, their_labels, batch_size=32, epochs=4, verbose=0).history["loss"]
print(f"training loss: {', '.join(f'{loss:.2f}' for loss in losses)}")

# %% tags=["experiment"]
assert losses[-1] < losses[0]
print("the training loss falls:", losses[-1] < losses[0])

# %% [markdown]
# ## What to take away
#
# - Depth costs linearly, width and resolution by their squares; count, because ends and depthwise
#   layers part from the law.
# - On the solar cells, from 32 pixels on, resolution pays most, and then stops; width fits the training
#   cells ever better, and new ones no longer; depth without shortcuts harms. Compound scaling with the
#   paper's constants is in between: constants are answers for one network and one kind of data.
# - The compound rule spends a little on each: $\alpha^\varphi, \beta^\varphi, \gamma^\varphi$. The
#   constraint only says what it costs; accuracy picked the constants, once, at B0.
# - Rounding makes stairs of the curve, and the published B1 to B7 are a table. Take the table.
# - MBConv squeezes to a quarter of its *narrow* input. Of the wide one it would be another
#   network, more than half as large again.
# - For a device, choose from measurements: the largest network of which every run meets the deadline.
#
# **Where this is used.** EfficientNet-B0 to B4 are standard backbones for classification; EfficientDet
# scales a detector by the same rule, backbone, feature pyramid and resolution together. Vision
# transformers and ConvNeXt come in sizes (tiny, small, base) that scale depth and width together. And
# EfficientNet-Lite0, without squeeze-and-excite, is the backbone of the next lesson.
#
# ## Think about it
#
# <details><summary>1. Why does the constraint square β and γ, but not α? And what would it be for a
# network of depthwise convolutions alone?</summary>
#
# A 1×1 convolution reads $w C$ channels and writes $w F$: twice a factor $w$. Pixels have two sides:
# twice a factor $r$. A layer more is a layer more: once $d$. A depthwise convolution reads one channel
# for each that it writes, so its work grows by $w$ only, and the constraint would be
# $\alpha \cdot \beta \cdot \gamma^2 \approx 2$.
# </details>
#
# <details><summary>2. A colleague scales a network to 8 times the work in one direction, and it is no
# better. Which three explanations would you test before you say that the direction saturates?
# </summary>
#
# That the data, not the network, is the limit: look at the training loss, which goes on falling then.
# That the recipe does not fit the larger network: more epochs, another learning rate, more
# regularisation, shortcuts for depth. And that the difference is there, but smaller than the noise:
# more seeds, more validation cells.
# </details>
#
# <details><summary>3. You may spend one grid search of 50 trainings. Would you search at φ = 0.25, 1,
# or 4, and why?</summary>
#
# At φ = 0.25 every grid point rounds to nearly the same network, so you would measure rounding. At
# φ = 4 each training costs 16 times as much. At φ = 1 the points differ and a training is still
# cheap. But the answer is a bet that the balance stays the same further up: check one or two points
# at the size that you will use.
# </details>
#
# ## References
#
# - M. Tan and Q. Le, *EfficientNet: rethinking model scaling for convolutional neural networks*,
#   arXiv:1905.11946: equation 3 (the rule), Table 1 (B0), Table 2 (B0 to B7), Tables 3 and 7
#   (single against compound scaling), Figure 7 (class-activation maps).
# - The coefficients of B1 to B7 and of Lite: tensorflow/tpu, `models/official/efficientnet`.
# - M. Tan and others, *EfficientDet*, arXiv:1911.09070: the rule for a detector.
# - R. Selvaraju and others, *Grad-CAM*, arXiv:1610.02391: equations 1 and 2.

# %% [markdown]
# ## Your points

# %%
progress()
