# ---
# title: MobileNet V1
# summary: a 3×3 convolution split in two at a ninth of the cost; thinner and smaller networks; what MACs do not tell
# minutes: 90
# ---

# %% [markdown]
# # 03 · MobileNet V1
#
# Residual networks can be as deep as you like. The drone's processor cannot: a ResNet-18 takes
# billions of multiplications for each picture of a cell. Where do they all go? Nearly all of them
# into 3×3 convolutions, and these do two jobs at once: they look at a neighbourhood, and they mix
# channels. This lesson does the two jobs one after the other. That turns out to be about nine
# times cheaper, and it is the idea behind every network in the rest of this course.
#
# After this lesson you can
#
# - write a depthwise convolution, and say what it costs beside a full one,
# - build a depthwise separable block and a MobileNet from 13 of them,
# - scale a network by its width and by its resolution, and choose both under a budget,
# - explain why a network with a ninth of the multiply-adds is not nine times as fast.

# %%
import functools

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import experiments, mobilenet_v1, plots, published
from utils.blocks import ConvBlock
from utils.cost import count
from utils.data import labels
from utils.experiments import separable, solar
from utils.latency import compare, predictor

# %% [markdown]
# ## Two jobs, one after the other
#
# Take an image of 6×6 pixels and 3 channels, and five 3×3 filters, without padding. How many
# multiplications is that? A filter that works on 3 channels has 3·3·3 elements. It fits into 4×4
# positions. Let the computer count, one multiplication at a time:

# %%
rng = np.random.default_rng(0)
image = rng.normal(size=(6, 6, 3))
filters = rng.normal(size=(3, 3, 3, 5))  # height, width, channels of the image, filters

full, multiplications = np.zeros((4, 4, 5)), 0
for row in range(4):
    for column in range(4):
        window = image[row : row + 3, column : column + 3]
        for f in range(5):
            products = window * filters[..., f]
            full[row, column, f] = products.sum()
            multiplications += products.size
print(f"full convolution: {image.shape} → {full.shape}, {multiplications} multiplications")

# %% [markdown]
# Now the same in two steps.
#
# 1. **Depthwise**: one 3×3 filter for each channel. It looks at its channel's neighbourhood and
#    nothing else. Three channels go in, three come out.
# 2. **Pointwise**: five 1×1 filters, the ones of lesson 01. They mix the channels at each position
#    and look at no neighbour.
#
# The result has the same shape. What does it cost?

# %%
depth_filters = rng.normal(size=(3, 3, 3))  # one 3×3 filter for each of 3 channels
mix = rng.normal(size=(3, 5))  # five filters of 1×1×3

filtered, depthwise_count = np.zeros((4, 4, 3)), 0
for row in range(4):
    for column in range(4):
        products = image[row : row + 3, column : column + 3] * depth_filters
        filtered[row, column] = products.sum(axis=(0, 1))  # the channels stay apart
        depthwise_count += products.size

mixed, pointwise_count = np.zeros((4, 4, 5)), 0
for row in range(4):
    for column in range(4):
        products = filtered[row, column, :, None] * mix
        mixed[row, column] = products.sum(axis=0)
        pointwise_count += products.size

total = depthwise_count + pointwise_count
print(f"depthwise: {image.shape} → {filtered.shape}, {depthwise_count} multiplications")
print(f"pointwise: {filtered.shape} → {mixed.shape}, {pointwise_count} multiplications")
print(f"together {total} instead of {multiplications}: {total / multiplications:.2f} of it")

# %% [markdown]
# Here is where the numbers come from, step by step. Blue is what a filter looks at, orange what it
# has written so far. Below each frame stands the number of multiplications up to there.

# %% jupyter={"source_hidden": true}
# Figure: how the two steps move over the image
STEPS = (1, 2, 5, 11, 16)  # positions done


def draw_stack(axis, left, side, channels, fill):
    """Draw channels behind each other as grids; `fill(row, column)` gives a pixel's colour."""
    for channel in reversed(range(channels)):
        x0, y0 = left + 0.45 * channel, 0.45 * channel
        for row in range(side):
            for column in range(side):
                corner = (x0 + column, y0 + side - 1 - row)
                colour = fill(row, column)
                axis.add_patch(plt.Rectangle(corner, 1, 1, fc=colour, ec="#4B5563", lw=0.5))


def draw_frame(axis, step, shapes, window, count_each):
    """Draw one frame: what the filter sees, what it has written, and the count."""
    (side, channels), out_channels = shapes
    row, column = divmod(step - 1, 4)

    def seen(r, c):
        inside = row <= r < row + window and column <= c < column + window
        return plots.SKY if inside else "white"

    def written(r, c):
        return plots.ORANGE if 4 * r + c < step else "white"

    draw_stack(axis, 0, side, channels, seen)
    draw_stack(axis, 9.0, 4, out_channels, written)
    axis.text((side + 9.9) / 2, 2.2, "→", ha="center", va="center", fontsize=13)
    axis.text(7.6, -1.3, f"{step * count_each:,}", ha="center", va="center", fontsize=12)
    axis.set(xlim=(-0.4, 15.6), ylim=(-1.9, 7.0), aspect="equal")
    axis.axis("off")


figure, axes = plots.canvas(3, 5, size=(9, 4.9))
kinds = {
    "Full: five filters of 3×3×3": (((6, 3), 5), 3, 3 * 3 * 3 * 5),
    "Depthwise: three filters of 3×3": (((6, 3), 3), 3, 3 * 3 * 3),
    "Pointwise: five filters of 1×1×3": (((4, 3), 5), 1, 3 * 5),
}
for line, (title, (shapes, window, count_each)) in zip(axes, kinds.items(), strict=True):
    line[0].set_title(title, fontsize=12)
    for axis, step in zip(line, STEPS, strict=True):
        draw_frame(axis, step, shapes, window, count_each)
plots.show(
    figure,
    alt="Three rows of five frames each, after 1, 2, 5, 11 and 16 positions. Top: a 3 by 3 window moves "
    "over all channels of a 6 by 6 image and writes five channels; the count grows from 135 to "
    "2160. Middle: depthwise, the window writes three channels, from 27 to 432. Bottom: "
    "pointwise, a single position is read and five channels are written, from 15 to 240.",
)

# %% [markdown]
# At each of the 16 positions the full convolution multiplies 27 numbers for each of its five
# filters. The depthwise one multiplies 27 numbers *once*, and the pointwise one 3 numbers for each
# of five filters. The expensive part, looking at neighbours, no longer depends on how many filters
# there are.
#
# ### Exercise 1 · Depthwise convolution (2 points)
#
# Write `depthwise_conv2d(x, w, stride=1)` in NumPy. `x` is an image (H, W, C), `w` holds one k×k
# filter for each channel, (k, k, C). There is no padding, the filter moves `stride` pixels at a
# time, and as in all of deep learning it is not turned around. The result has the shape
# (⌊(H − k)/stride⌋ + 1, ⌊(W − k)/stride⌋ + 1, C).
#
# *What is tested:* 3×3 filters with stride 1; other filters and strides.


# %% exercise="depthwise_conv2d" points=2
def depthwise_conv2d(x, w, stride=1):
    """Filter each channel with its own filter: (H, W, C), (k, k, C) → (H', W', C)."""
    ### BEGIN SOLUTION
    k, _, channels = w.shape
    height = (x.shape[0] - k) // stride + 1
    width = (x.shape[1] - k) // stride + 1
    y = np.zeros((height, width, channels))
    for row in range(height):
        for column in range(width):
            top, left = row * stride, column * stride
            y[row, column] = (x[top : top + k, left : left + k] * w).sum(axis=(0, 1))
    return y
    ### END SOLUTION


# %% check="depthwise_conv2d"
check("depthwise_conv2d", depthwise_conv2d)

# %% [markdown]
# ## A ninth of the work
#
# In general: an image with $n_c$ channels, filters of $f×f$, $n_c'$ of them, and an output of
# $n×n$ positions. The full convolution takes $n^2 \cdot f^2 n_c \cdot n_c'$ multiplications. The
# two steps take $n^2 \cdot f^2 n_c$ and $n^2 \cdot n_c \cdot n_c'$. Divide:
#
# $$\frac{n^2 f^2 n_c + n^2 n_c n_c'}{n^2 f^2 n_c n_c'} = \frac{1}{n_c'} + \frac{1}{f^2} .$$
#
# The number of positions is gone, and so are the input's channels. A filter of a full convolution
# is $3×3×n_c$ *whatever* $n_c$ is, so both sides grow with it alike. Does counting agree?

# %%
print(f"{'input channels':>14}{'one full filter':>18}{'full':>12}{'separable':>12}{'ratio':>8}")
for channels in (3, 6, 48):
    conv = keras.layers.Conv2D(5, 3, use_bias=False)
    pair = keras.Sequential(
        [
            keras.Input((6, 6, channels)),
            keras.layers.DepthwiseConv2D(3, use_bias=False),
            keras.layers.Conv2D(5, 1, use_bias=False),
        ]
    )
    one, two = count(conv, (6, 6, channels)).macs, count(pair).macs
    print(f"{channels:>14}{f'3×3×{channels}':>18}{one:>12,}{two:>12,}{two / one:>8.2f}")
print(f"1/5 + 1/9 = {1 / 5 + 1 / 9:.2f}")

# %%
# Figure: the ratio of the costs over the number of filters
widths = np.geomspace(4, 1024, 100)
figure, axis = plots.canvas(size=(8, 3.7))
for f, colour in ((3, plots.BLUE), (5, plots.ORANGE)):
    axis.plot(widths, 1 / widths + 1 / f**2, color=colour)
    axis.axhline(1 / f**2, color=colour, lw=1, ls=":")
    axis.text(1024, 1 / f**2 - 0.008, f"{f}×{f} filters", color=colour, ha="right", va="top")
for n in (5, 512):
    ratio = 1 / n + 1 / 9
    axis.plot([n], [ratio], "o", color=plots.RED)
    label = f"$n_c'$ = {n}: {ratio:.3f}"
    side = "left" if n == 5 else "center"
    axis.annotate(label, (n, ratio), (0, 10), textcoords="offset points", ha=side)
axis.set(xscale="log", xlim=(4, 1200), ylim=(0, 0.4), xlabel="filters $n_c'$")
axis.set_xticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1024"])
axis.set(ylabel="separable ÷ full", title="What is left of the cost")
axis.minorticks_off()
plots.show(
    figure,
    alt="The ratio of separable to full cost falls with the number of filters and soon levels out at "
    "one over f squared: for 3 by 3 filters it is 0.311 at 5 filters and 0.113 at 512; for 5 by 5 "
    "filters it ends at 0.04.",
)

# %%
ratio = 1 / 512 + 1 / 9
print(f"512 filters of 3×3: {ratio:.3f} of the cost, {1 / ratio:.1f} times fewer multiplications")

# %% [markdown]
# With hundreds of filters the first fraction hardly counts, and what is left is about a ninth.
#
# Nothing is free. A depthwise and a pointwise convolution with nothing between them *are* a full
# convolution, with the filters $K_{ij c c'} = D_{ijc} P_{c c'}$. But it is a special one: all its
# filters look at channel $c$ through the same 3×3 pattern, and differ only in how much they take of
# it. A full convolution may give each filter patterns of its own. Check the first claim:

# %%
kernel = depth_filters[..., None] * mix  # D[i, j, c] · P[c, c']
by_product = ops.convert_to_numpy(ops.conv(image[None], kernel, padding="valid"))[0]
print("two steps equal one full convolution with the product:", np.allclose(by_product, mixed))
print(
    f"free numbers: {kernel.size} in a full convolution, {depth_filters.size + mix.size} in the two steps"
)

# %% [markdown]
# So the question is whether networks *need* that freedom. The experiment below asks.
#
# ### Exercise 2 · The ratio (1 point)
#
# Write `separable_cost_ratio(kernel_size, channels, filters)`: the multiplications of a depthwise
# separable convolution divided by those of a full one. The filters are kernel_size × kernel_size,
# the image has `channels` channels, and `filters` channels come out.
#
# *What is tested:* 3×3 filters, and other sizes.


# %% exercise="separable_cost_ratio" points=1
def separable_cost_ratio(kernel_size, channels, filters):
    """Return the cost of a separable convolution as a share of a full one's."""
    ### BEGIN SOLUTION
    return 1 / filters + 1 / kernel_size**2
    ### END SOLUTION


# %% check="separable_cost_ratio"
check("separable_cost_ratio", separable_cost_ratio)

# %% [markdown]
# ## The block
#
# MobileNet's block puts batch norm and a ReLU after *each* of the two steps. Now they are no longer a
# full convolution in disguise: the ReLU between them makes the pair richer. A stride, if there is one, belongs
# to the depthwise step, so that the pointwise step only works on pixels that are kept.

# %% jupyter={"source_hidden": true}
# Figure: a full block and a depthwise separable block
figure, (top, bottom) = plots.canvas(2, 1, size=(9, 3.6))
full_block = [
    ("conv\n3×3", 3.0, plots.SKY),
    ("batch\nnorm", 5.0, "#E5E7EB"),
    ("ReLU", 6.6, "#BBF7D0"),
]
split_block = [
    ("depthwise\n3×3", 1.9, plots.SKY),
    ("batch\nnorm", 3.5, "#E5E7EB"),
    ("ReLU", 4.9, "#BBF7D0"),
    ("pointwise\n1×1", 6.4, "#FDE68A"),
    ("batch\nnorm", 8.0, "#E5E7EB"),
    ("ReLU", 9.4, "#BBF7D0"),
]
for axis, title, steps in (
    (top, "A full convolution", full_block),
    (bottom, "Depthwise separable", split_block),
):
    axis.axis("off")
    axis.set(xlim=(0, 10.8), ylim=(-0.9, 0.9), title=title)
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    end = 0.2
    for text, x, colour in steps:
        half = 0.68 if "conv" in text or "wise" in text else 0.46
        axis.annotate("", (x - half, 0), (end, 0), arrowprops=arrow)
        axis.add_patch(
            plt.Rectangle((x - half, -0.6), 2 * half, 1.2, fc=colour, ec="black", lw=1.2)
        )
        axis.text(x, 0, text, ha="center", va="center", fontsize=12)
        end = x + half
    axis.annotate("", (10.6, 0), (end, 0), arrowprops=arrow)
plots.show(
    figure,
    alt="Top: a full block, 3 by 3 convolution, batch norm, ReLU. Bottom: a depthwise separable block, "
    "depthwise 3 by 3, batch norm, ReLU, pointwise 1 by 1, batch norm, ReLU.",
)

# %%
block = mobilenet_v1.DepthwiseSeparableConv(64, strides=2, name="block")
x = rng.normal(size=(1, 9, 9, 32)).astype("float32")
assert block(x).shape == (1, 5, 5, 64)
for weight in block.trainable_weights:
    print(f"{weight.path:32}{tuple(weight.shape)}")
cost, conv = count(block, (9, 9, 32)), count(ConvBlock(64, 3, 2), (9, 9, 32))
print(f"multiply-adds: {cost.macs:,}, with one full convolution {conv.macs:,}")

# %% [markdown]
# A depthwise kernel has the shape (3, 3, C, 1): one filter for each of C channels. The course's block
# uses ReLU6, $\min(\max(x, 0), 6)$, as the authors' own code does; the paper says ReLU. A value that
# never exceeds 6 is easier to store in eight bits, which lesson 09 needs.
#
# ### Exercise 3 · A depthwise separable layer (3 points)
#
# Write `DepthwiseSeparableConv(filters, strides=1)` as a Keras layer, with `DepthwiseConv2D`,
# `Conv2D` and `BatchNormalization` from `keras.layers`. Make the layers in `__init__`, use them in
# `call`: a depthwise 3×3 convolution with the stride, batch norm, ReLU; a pointwise convolution
# with `filters` filters, batch norm, ReLU. All paddings are `"same"`. ReLU6 in place of ReLU is
# fine, too, and a bias before a batch norm is superfluous but costs no points.
#
# *What is tested:* the shapes of the two kernels; the output's shape; its values with random
# weights, on images of even and odd sides.


# %% exercise="depthwise_separable_conv" points=3
class DepthwiseSeparableConv(keras.layers.Layer):
    """Depthwise 3×3, then pointwise: (B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, filters)."""

    def __init__(self, filters, strides=1):
        super().__init__()
        ### BEGIN SOLUTION
        self.depthwise = keras.layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)
        self.norm1 = keras.layers.BatchNormalization()
        self.pointwise = keras.layers.Conv2D(filters, 1, use_bias=False)
        self.norm2 = keras.layers.BatchNormalization()
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        x = ops.relu(self.norm1(self.depthwise(x)))
        return ops.relu(self.norm2(self.pointwise(x)))
        ### END SOLUTION


# %% check="depthwise_separable_conv"
check("depthwise_separable_conv", DepthwiseSeparableConv)

# %% [markdown]
# ## The whole network
#
# MobileNet V1 is one full convolution on the image and then 13 of these blocks. Whenever the image
# halves, the channels double. At the end global average pooling, a dense layer and softmax:

# %%
network = mobilenet_v1.MobileNetV1()
print(f"{'layer':16}{'output':>18}")
for layer in network.layers[1:]:
    print(f"{layer.name:16}{layer.output.shape[1:]!s:>18}")
blocks = [x for x in network.layers if isinstance(x, mobilenet_v1.DepthwiseSeparableConv)]
print(len(blocks), "separable blocks")

# %% [markdown]
# Where do the multiply-adds and the weights sit now? Sort the layers by what they do:

# %%
KINDS = {
    "1×1 convolutions": lambda row: row.kind == "Conv2D" and row.layer.kernel_size == (1, 1),
    "depthwise 3×3": lambda row: row.kind == "DepthwiseConv2D",
    "first 3×3": lambda row: row.kind == "Conv2D" and row.layer.kernel_size == (3, 3),
    "dense": lambda row: row.kind == "Dense",
}
v1 = count(network)
shares = {}
print(f"{'':18}{'multiply-adds':>16}{'share':>10}{'kernel elements':>18}{'share':>10}")
for name, belongs in KINDS.items():
    rows = [row for row in v1.layers if belongs(row)]
    macs, kernels = sum(r.macs for r in rows), sum(r.layer.kernel.numpy().size for r in rows)
    shares[name] = (100 * macs / v1.macs, 100 * kernels / v1.kernels)
    parts = [f"{value:.2f} %" for value in shares[name]]
    print(f"{name:18}{macs:>16,}{parts[0]:>10}{kernels:>18,}{parts[1]:>10}")
print(f"{'all':18}{v1.macs:>16,}{'':>10}{v1.kernels:>18,}")

# %% jupyter={"source_hidden": true}
# Figure: where MobileNetV1 spends its multiply-adds and kernels
figure, axis = plots.canvas(size=(8, 2.9))
left = np.zeros(2)
for (name, values), colour in zip(
    shares.items(), (plots.BLUE, plots.ORANGE, plots.GREY, plots.GREEN), strict=True
):
    axis.barh([1, 0], values, left=left, color=colour, label=name, height=0.6)
    for y, value, start in zip((1, 0), values, left, strict=True):
        if value > 10:
            text = f"{value:.1f} %"
            axis.text(start + value / 2, y, text, ha="center", va="center", color="white")
    left += values
axis.set_yticks([1, 0], ["multiply-adds", "kernel elements"])
axis.set(xlim=(0, 100), ylim=(-0.5, 2.1), xlabel="share in %")
axis.legend(loc="upper center", ncols=4, fontsize=11, columnspacing=1.2)
axis.grid(axis="y", visible=False)
plots.show(
    figure,
    alt="Two stacked bars. Of the multiply-adds 94.9 percent are in 1 by 1 convolutions and 3 percent in "
    "depthwise ones. Of the kernel elements 74.6 percent are in 1 by 1 convolutions and a quarter "
    "in the dense layer.",
)

# %% [markdown]
# The neighbourhoods, which used to cost nearly everything, now cost three percent. What is left is
# lesson 01: matrix products at each pixel. (The paper's Table 2 prints the same shares, except
# that the first convolution's 1.91 % reads 1.19 % there. The digits were swapped: only with 1.91
# does the column add up to 100.)

# %% [markdown]
# ## Thinner and smaller: α and ρ
#
# One network is one point. The drone needs a choice. MobileNet has two knobs:
#
# - the **width multiplier** α: every layer has α times the channels (1, 0.75, 0.5 or 0.25),
# - the **resolution multiplier** ρ: height and width of the image, and with them of everything that
#   follows, shrink by ρ (224, 192, 160 or 128 pixels).
#
# A block with $D_K×D_K$ filters, $M$ channels in, $N$ out, on $D_F×D_F$ positions then costs
#
# $$D_K^2 \cdot \alpha M \cdot (\rho D_F)^2 + \alpha M \cdot \alpha N \cdot (\rho D_F)^2 .$$
#
# Which of the two saves more? Take the block that MobileNet has five times, 512 channels at
# 14×14 pixels:

# %%
variants = {
    "full convolution": (ConvBlock(512, 3), (14, 14, 512)),
    "separable": (mobilenet_v1.DepthwiseSeparableConv(512), (14, 14, 512)),
    "α = 0.75": (mobilenet_v1.DepthwiseSeparableConv(384), (14, 14, 384)),
    "α = 0.75, ρ = 0.714": (mobilenet_v1.DepthwiseSeparableConv(384), (10, 10, 384)),
}
published_block = {"full convolution": (462, 2.36), "separable": (52.3, 0.27)}
published_block |= {"α = 0.75": (29.6, 0.15), "α = 0.75, ρ = 0.714": (15.1, 0.15)}
print(f"{'':22}{'multiply-adds':>16}{'published':>11}{'kernel elements':>18}{'published':>11}")
for name, (layer, shape) in variants.items():
    cost, (macs, kernels) = count(layer, shape), published_block[name]
    ours = f"{cost.macs / 1e6:>14.1f} M{macs:>9} M"
    print(f"{name:22}{ours}{cost.kernels / 1e6:>16.2f} M{kernels:>9} M")

# %% [markdown]
# Both knobs save multiply-adds about with their square. Only α saves parameters: a kernel does not
# know how large the image is. ρ saves activation memory instead. (The published numbers are the
# paper's Table 3.)
#
# ### Exercise 4 · Apply α and ρ (2 points)
#
# Write `scaled_block_macs(side, channels, filters, alpha, rho)`: the multiply-adds of a depthwise
# separable block with 3×3 filters and stride 1. Before scaling, its input is side × side ×
# channels and its output has `filters` channels. Then α scales the channels of both, and ρ the
# side. (All scaled numbers will be whole.)
#
# *What is tested:* α alone, ρ alone, both.


# %% exercise="scaled_block_macs" points=2
def scaled_block_macs(side, channels, filters, alpha, rho):
    """Return the multiply-adds of a separable 3×3 block after scaling by α and ρ."""
    ### BEGIN SOLUTION
    positions = (rho * side) ** 2
    inner, outer = alpha * channels, alpha * filters
    return round(positions * (9 * inner + inner * outer))
    ### END SOLUTION


# %% check="scaled_block_macs"
check("scaled_block_macs", scaled_block_macs)

# %% [markdown]
# ## Does it all come out?
#
# Here are all networks that the paper's Tables 4 to 7 and 9 print, built and counted. "Parameters"
# are elements of kernels there; `≠` would mark a number that is off by more than one in its last digit.


# %%
def build(variant, side):
    """Build the network of a row of the published table."""
    options = {"full convolution": {"separable": False}, "shallow": {"shallow": True}}
    if variant.startswith("alpha"):
        return mobilenet_v1.MobileNetV1((side, side, 3), alpha=float(variant.split("=")[1]))
    return mobilenet_v1.MobileNetV1((side, side, 3), **options[variant])


rows = {}
for row in published.rows("mobilenet_v1"):
    if row["model"] == "MobileNetV1" and row["source"].startswith("arXiv:1704.04861"):
        rows.setdefault((row["variant"], row["resolution"]), row)
# Given a function that makes a network, `count` leaves the weights empty, which saves time.
costs = {key: count(functools.partial(build, *key)) for key in rows}
published.table(list(rows.values()), lambda row: costs[row["variant"], row["resolution"]])

# %% [markdown]
# None is off. "Full convolution" is MobileNet's twin with a full 3×3 convolution in place of each
# block. (Its published number leaves the dense layer's million out, the others have it in.)
# "Shallow" lacks five of the 512-channel blocks: at about the cost of α = 0.75, is it better to be
# thin or shallow? And what do the savings cost in accuracy? On ImageNet the paper measured:

# %%
print(f"{'':20}{'pixels':>8}{'million MACs':>14}{'top-1':>9}")
for (variant, side), row in rows.items():
    print(f"{variant:20}{side:>8}{costs[variant, side].macs / 1e6:>14.0f}{row['top1']:>8} %")

# %% [markdown]
# Splitting the convolutions takes about one point of accuracy and saves nearly nine tenths of the
# work. Thin beats shallow by three points. And the two knobs? The authors published all 16
# combinations of α and resolution. Their accuracies over their multiply-adds:

# %%
# Figure: accuracy over multiply-adds, one curve for each width
by_width = {}
for row in published.rows("mobilenet_v1"):
    if "slim" in row["source"]:
        cost = costs[row["variant"], 224]
        dense = cost.layers[-1].macs
        # All sides are multiples of 32, so the convolutions' cost follows the area exactly.
        macs = (cost.macs - dense) * (row["resolution"] / 224) ** 2 + dense
        alpha = float(row["variant"].split("=")[1])
        by_width.setdefault(alpha, []).append((row["resolution"], macs / 1e6, row["top1"]))
assert np.isclose(by_width[1.0][2][1] * 1e6, costs["alpha=1.0", 160].macs)

figure, axis = plots.canvas(size=(8, 4.4))
for (alpha, points), colour in zip(
    by_width.items(), (plots.BLUE, plots.GREEN, plots.ORANGE, plots.RED), strict=True
):
    sides, macs, top1 = zip(*points, strict=True)
    axis.plot(macs, top1, "o-", color=colour)
    axis.text(macs[0] * 1.06, top1[0], f"α = {alpha}", color=colour, va="center")
    if alpha == 0.25:
        for side, x, y in points:
            axis.annotate(
                f"{side}", (x, y), (0, -15), textcoords="offset points", ha="center", fontsize=10
            )
axis.set(xscale="log", xlim=(11, 1000), ylim=(38, 74), xlabel="multiply-adds in millions")
axis.set_xticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
axis.minorticks_off()
axis.set(ylabel="ImageNet top-1 in %", title="16 MobileNets: four widths at four resolutions")
plots.show(
    figure,
    alt="Top-1 accuracy over multiply-adds on a logarithmic axis, one curve for each width with four "
    "resolutions. The curves of the two widest networks overlap; that of 0.5 lies a little lower, and "
    "that of 0.25 far below where the others point.",
)

# %%
for thin, wide in (((0.75, 224), (1.0, 160)), ((0.5, 224), (0.75, 160)), ((0.25, 224), (0.5, 128))):
    pair = []
    for alpha, side in (thin, wide):
        macs, top1 = next((m, t) for s, m, t in by_width[alpha] if s == side)
        pair.append(f"α = {alpha:<5}{side} px{macs:>5.0f} million{top1:>6.1f} %")
    print("    ".join(pair))

# %% [markdown]
# Between the two widest the choice hardly matters. Further down, the wider network on the smaller
# image is ahead, and at α = 0.25 by more than its slightly higher cost explains. So turning one
# knob all the way down is not the best way to save; lesson 07 makes a rule of that. And mind what
# each costs besides: width is paid in parameters, resolution in activation memory.
#
# ### Exercise 5 · Which MobileNet? (2 points)
#
# The drone has a budget of multiply-adds (time) and one of parameters (flash memory). Write
# `pick_network(rows, max_macs, max_params)`. Each row is a dictionary such as
# `{"alpha": 0.5, "resolution": 160, "macs": 76480768, "params": 1331592, "top1": 59.1}`.
# Return `(alpha, resolution)` of the most accurate network that keeps to both budgets, or `None`
# if none does. A budget may be used up exactly.
#
# *What is tested:* shuffled tables with accuracies unlike the published ones, two budgets; a budget
# used up exactly; budgets that nothing fits.


# %% exercise="pick_network" points=2
def pick_network(rows, max_macs, max_params):
    """Return (alpha, resolution) of the most accurate network within both budgets, or None."""
    ### BEGIN SOLUTION
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["alpha"], best["resolution"])
    ### END SOLUTION


# %% check="pick_network"
check("pick_network", pick_network)

# %% [markdown]
# ## On the solar cells: does the saving cost anything?
#
# ImageNet has over a million images. We have 1,640 cells to train on (ELPV dataset, CC BY-NC-SA 4.0).
# Two networks of α = 0.25 learn them at 64×64 pixels: MobileNet, and its twin with full
# convolutions. Same depth, same widths, same recipe, three seeds each. The results come from a
# file that `make experiments` writes anew, `data/results/separable.json`. How long should they
# train? A comparison of half-trained networks teaches nothing, and one budget could flatter one of
# them. So there are three: 40, 80 and 160 epochs, each with a learning rate that falls to zero at its end.

# %%
# Figure: full against separable: training loss and accuracy
data = experiments.result("separable")
NAMES = {True: "separable", False: "full convolutions"}
COLOURS = {True: plots.BLUE, False: plots.ORANGE}
BUDGETS = sorted({row["epochs"] for row in data["summary"]})
runs = {(row["separable"], row["epochs"]): [] for row in data["summary"]}
for job in data["jobs"]:
    runs[job["settings"]["separable"], job["settings"]["epochs"]].append(job["result"])
majority = 100 * (1 - labels("solar_cells", "validation").mean())
print(f"{len(data['jobs'])} runs, {data['processor_seconds'] / 60:.0f} minutes of processor time")
figure, (left, right) = plots.canvas(1, 2, size=(9.6, 3.8), width_ratios=[1.4, 1])
for kind, colour in COLOURS.items():
    means = []
    for place, epochs in enumerate(BUDGETS):
        losses = np.array([result["loss"] for result in runs[kind, epochs]])
        last = epochs == BUDGETS[-1]
        label = NAMES[kind] if last else None
        steps = np.arange(1, epochs + 1)
        left.plot(steps, losses.mean(axis=0), color=colour, lw=2.5 if last else 1.2, label=label)
        left.plot(epochs, losses.mean(axis=0)[-1], "o", color=colour)
        scores = [100 * result["val_accuracy"] for result in runs[kind, epochs]]
        right.plot([place] * len(scores), scores, "o", color=colour, mfc="white", mew=2)
        means.append(np.mean(scores))
    right.plot(range(len(BUDGETS)), means, color=colour, label=NAMES[kind])
right.axhline(majority, color=plots.GREY, ls="--", lw=1.5)
right.text(-0.25, majority + 0.3, "majority", color=plots.GREY)
right.set(xlim=(-0.3, 2.3), ylim=(67, 84), xlabel="epochs", ylabel="validation accuracy in %")
right.set_xticks(range(len(BUDGETS)), BUDGETS)
left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
left.legend(fontsize=11)
plots.show(
    figure,
    alt="Left: training loss over the epochs for runs of 40, 80 and 160 epochs, means of three seeds. "
    "With each budget both networks end lower, and full convolutions end at less than half the loss "
    "of separable ones. Right: validation accuracy over the budget, each seed a circle. Full "
    "convolutions are ahead of separable ones with each of the three budgets, and neither network is "
    "better after 160 epochs than after 80.",
)

# %%
print(f"{'':18}{'epochs':>7}{'training loss':>17}{'accuracy':>16}{'balanced':>16}")
for row in data["summary"]:
    loss = f"{row['loss']['mean']:.3f} ± {row['loss']['std']:.3f}"
    line = f"{NAMES[row['separable']]:18}{row['epochs']:>7}{loss:>17}"
    for column in ("val_accuracy", "balanced_accuracy"):
        line += f"{100 * row[column]['mean']:>9.1f} ± {100 * row[column]['std']:.1f} %"
    print(line)
print(f"{'always functional':42}{majority:>9.1f} %{50:>14.1f} %")
pairs = list(zip(data["summary"][::2], data["summary"][1::2], strict=True))
for separate, whole in pairs:
    more = 100 * (whole["val_accuracy"]["mean"] - separate["val_accuracy"]["mean"])
    print(f"{whole['epochs']:>3} epochs: full convolutions are {more:.1f} points ahead")
    assert whole["val_accuracy"]["min"] > separate["val_accuracy"]["max"]
    assert separate["val_accuracy"]["min"] > majority / 100 + 0.03
    assert whole["loss"]["mean"] < separate["loss"]["mean"] / 2
more = whole["macs"] / separate["macs"], whole["params"] / separate["params"]
print(f"for {more[0]:.1f} times the multiply-adds and {more[1]:.1f} times the parameters")
share, number = whole["val_accuracy"]["mean"], len(labels("solar_cells", "validation"))
error = 100 * np.sqrt(share * (1 - share) / number)
print(f"one standard error of an accuracy on {number} cells: {error:.1f} points")

# %% [markdown]
# Were they trained to the end? It depends on which cells you ask. On the *training* cells each longer
# run ends at a lower loss; after 160 epochs the full convolutions know nearly all of them by heart. On
# *new* cells neither network gains from the last doubling. For a comparison, these count.
#
# There, full convolutions are ahead with every budget, and with every seed. So on these cells the
# saving is *not* free. How dear is it? With 80 epochs one or two points, little more than the one
# point that it took on ImageNet; with the other budgets three to five. None of these differences is much
# more than twice the standard error of a single accuracy, the last line above. Had we shown you one
# budget only, we could have told you whichever story we liked.
#
# Why might it be dearer here? The paper's layers are four times as wide, and it had hundreds of
# times as many images. A narrow separable layer has few patterns to look through. These are guesses
# that the experiment does not test. What it does say: this saving is a trade, so measure both of its
# sides on your own data.
#
# You need not take the file's word for it. Here is a short run on your machine, of the separable
# network, with one seed, a fifth of the cells, always the same way up, and a few epochs. That is far
# too little to compare anything; it shows that the network learns.

# %% tags=["experiment"]
few_cells, few_labels = solar.cells("train[:320]", separable.SIZE)
keras.utils.set_random_seed(0)
short = separable.model(separable=True)
short.compile(
    keras.optimizers.AdamW(solar.LEARNING_RATE, solar.WEIGHT_DECAY),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
)
short.optimizer.build(short.trainable_variables)  # prepares the step once, not twice
losses = short.fit(few_cells, few_labels, batch_size=32, epochs=4, verbose=0).history["loss"]

# %% tags=["experiment", "nbval-ignore-output"]
print("training loss  ", "  ".join(f"{loss:.2f}" for loss in losses))

# %% tags=["experiment"]
assert losses[-1] < losses[0]
print("the training loss falls")

# %% [markdown]
# ## MACs are not milliseconds
#
# A ninth of the multiply-adds: so MobileNet is nine times as fast? Measure it, on the machine that
# runs this notebook, one picture at a time: the paper's network at 224 pixels, and the small one of
# the solar cells at 64, each against its twin. A single time says little, because other programs
# run as well. So the two take turns, and their medians are compared.

# %% tags=["experiment", "nbval-ignore-output"]
pairs = {
    "α = 1, 224 px": (network, mobilenet_v1.MobileNetV1(separable=False), 12),
    "α = 0.25, 64 px": (*separable.models(), 60),
}
fewer, faster = {}, {}
head = f"{'':18}{'million MACs':>24}{'ratio':>8}{'milliseconds':>22}{'ratio':>8}"
print(f"{head}\n{'':18}{'full':>12}{'separable':>12}{'':8}{'full':>11}{'separable':>11}")
for name, (split, whole, rounds) in pairs.items():
    taken = compare({"separable": predictor(split), "full": predictor(whole)}, rounds)
    times = [taken[kind]["median"] for kind in ("full", "separable")]
    macs = [count(each).macs / 1e6 for each in (whole, split)]
    fewer[name], faster[name] = macs[0] / macs[1], times[0] / times[1]
    line = f"{name:18}{macs[0]:>12,.0f}{macs[1]:>12,.0f}{fewer[name]:>8.1f}"
    print(f"{line}{times[0]:>11.1f}{times[1]:>11.1f}{faster[name]:>8.1f}")

# %% tags=["experiment"]
large, small = pairs
assert faster[large] > 1.5
assert faster[small] < fewer[small] / 2
assert faster[small] < faster[large]
print("224 pixels: the separable network is more than 1.5 times as fast:", faster[large] > 1.5)
print("64 pixels: less than half of what the MACs promise:", faster[small] < fewer[small] / 2)

# %% [markdown]
# The ratio of the multiply-adds is nearly the same for both pairs, that of the times is not. At 64
# pixels the separable network gains little, or is even *slower* than its twin: it has twice as
# many layers, and each call of a layer costs a fixed time, however few numbers there are to
# multiply. At 224 pixels the arithmetic counts for more.
#
# But even there it does not pay off alike in all layers. Take the block with 512 channels at 14×14
# apart, and ask each of its convolutions how many multiply-adds it gets done in a millisecond:

# %% tags=["experiment", "nbval-ignore-output"]
parts = {
    "full 3×3": keras.layers.Conv2D(512, 3, padding="same", use_bias=False),
    "pointwise 1×1": keras.layers.Conv2D(512, 1, use_bias=False),
    "depthwise 3×3": keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
}
shape = (14, 14, 512)
part_times = compare({name: predictor(layer, shape) for name, layer in parts.items()}, rounds=50)
part_macs = {name: count(layer, shape).macs / 1e6 for name, layer in parts.items()}
rates = {name: part_macs[name] / part_times[name]["median"] for name in parts}
print(f"{'':16}{'million MACs':>14}{'milliseconds':>14}{'million MACs a millisecond':>28}")
for name in parts:
    print(
        f"{name:16}{part_macs[name]:>14.1f}{part_times[name]['median']:>14.2f}{rates[name]:>28.1f}"
    )

# %% tags=["experiment", "nbval-ignore-output"]
# Figure: multiply-adds against time, full and separable
figure, (left, right) = plots.canvas(1, 2, size=(9, 3.5), width_ratios=[1.15, 1])
for offset, values, colour, name in (
    (-0.2, fewer, plots.GREY, "multiply-adds"),
    (0.2, faster, plots.BLUE, "time"),
):
    bars = left.bar(np.arange(2) + offset, values.values(), 0.4, color=colour, label=name)
    left.bar_label(bars, fmt="%.1f")
left.set_xticks([0, 1], list(pairs))
left.set(title="Whole networks", ylabel="full ÷ separable")
left.set(ylim=(0, 1.35 * max(*fewer.values(), *faster.values())))
left.legend(fontsize=11, ncols=2, loc="upper left")
left.grid(axis="x", visible=False)
colours = (plots.ORANGE, plots.BLUE, plots.SKY)
bars = right.barh(list(parts)[::-1], [rates[name] for name in parts][::-1], color=colours[::-1])
right.bar_label(bars, fmt="%.1f", padding=3)
right.set(title="One block's convolutions", xlabel="million MACs a millisecond")
right.set(xlim=(0, 1.15 * max(rates.values())))
right.grid(axis="y", visible=False)
plots.show(
    figure,
    alt="Left: full networks have about eight times the multiply-adds of separable ones; in time the "
    "ratio is smaller, and at 64 pixels it is near one. Right: the depthwise convolution gets far fewer multiply-adds "
    "done in a millisecond than the full and the pointwise one.",
)

# %% tags=["experiment"]
assert rates["depthwise 3×3"] < rates["pointwise 1×1"] / 2
print(
    "a depthwise convolution works at less than half of a pointwise one's rate:",
    bool(rates["depthwise 3×3"] < rates["pointwise 1×1"] / 2),
)

# %% [markdown]
# A depthwise convolution does little arithmetic with each number that it fetches: nine
# multiplications, and on to the next. A full or a pointwise convolution uses each number hundreds of
# times, and so keeps the processor busy. MACs tell you what a network *asks for*, not how long it
# takes. Count them to design, and measure on the device before you believe it. Lesson 09 draws the
# picture behind this, the roofline.

# %% [markdown]
# ## What to take away
#
# - A full convolution looks at neighbours and mixes channels at once. Depthwise, then pointwise:
#   the same shapes at $1/n_c' + 1/f^2$ of the cost, about a ninth for 3×3 filters.
# - What is left are 1×1 convolutions: nearly all multiply-adds, three quarters of the weights.
# - α makes every layer thinner and saves multiply-adds and parameters. ρ makes the image smaller
#   and saves multiply-adds and activations.
# - The saving is a trade. On ImageNet it took a point of accuracy; on our few cells, at a quarter of
#   the width and with equal epochs, it took more.
# - MACs are not milliseconds. Measure.
#
# **Where this is used.** MobileNet V1 was made for phones: classification, and as the backbone of
# small detectors (SSD-MobileNet) and segmentation networks. Depthwise separable convolutions are in every later family of this
# course: MobileNet V2 puts them between a wide and two narrow tensors (lesson 04), Xception takes
# the same idea from Inception (lesson 05), EfficientNet scales it (lesson 07). In DeepLab they
# make up the segmentation head as well.
#
# ## Think about it
#
# <details><summary>1. A depthwise convolution costs three percent of MobileNet's multiply-adds. Would 5×5 filters
# be affordable?</summary>
#
# In multiply-adds, yes: 25 in place of 9 elements makes three percent into about eight, and the
# pointwise part stays. A full 5×5 network would cost nearly three times a full 3×3 one. In time it
# depends on the device, since depthwise convolutions run slowly for their multiply-adds. MobileNet
# V3 and EfficientNet do use 5×5 in places (lessons 06 and 07).
# </details>
#
# <details><summary>2. α = 0.5 makes the pointwise layers four times cheaper, but the depthwise ones only twice. Does
# a thin MobileNet therefore spend a larger share of its work in depthwise layers?</summary>
#
# Yes. Depthwise costs grow with α, pointwise ones with α². So the thinner the network, the larger
# the part that runs at a depthwise layer's poor rate, and the further milliseconds lag behind
# multiply-adds.
# </details>
#
# <details><summary>3. Why not leave out the pointwise convolutions, which cost nearly everything?</summary>
#
# Then no channel would ever learn of another. Channel 7 of the output would depend on channel 7 of
# the input alone, through all layers, and the network would be a bundle of thin ones that only meet in the
# dense layer. Mixing is what the work is for. Lesson 05 makes it cheaper by mixing in groups, and
# has to shuffle channels in return.
# </details>
#
# ## References
#
# - A. Howard and others, *MobileNets: efficient convolutional neural networks for mobile vision
#   applications*, arXiv:1704.04861: Table 1 (the network), Table 2 (shares), Table 3 (one block),
#   Tables 4 to 7 and 9 (full, shallow, α, ρ). Table 1 prints stride 2 for the last block, where the
#   sizes beside it need stride 1.
# - The 16 pretrained networks: tensorflow/models, research/slim/nets/mobilenet_v1.md.
# - L. Sifre, S. Mallat, *Rigid-motion scattering for texture classification*, arXiv:1403.1687: where depthwise separable
#   convolutions come from.
# - F. Chollet, *Xception*, arXiv:1610.02357: the same split, seen from Inception.
# - L.-C. Chen and others, *DeepLabv3+*, arXiv:1802.02611: separable convolutions for segmentation.

# %% [markdown]
# ## Your points

# %%
progress()
