# ---
# title: Small nets
# summary: Fire modules, grouped convolutions, the channel shuffle; separable convolutions as extreme Inception
# minutes: 80
# ---

# %% [markdown]
# # 05 · Small nets
#
# The drone gets its networks over a slow radio link. A network of hundreds of megabytes is out of
# the question, whatever its accuracy. Around 2016 and 2017 three small networks looked for what a
# convolution can do without, each at another end: SqueezeNet at the *filters*, ShuffleNet at the
# *channels* that a filter sees, and Xception at the idea that space and channels belong together.
#
# After this lesson you can
#
# - say where the parameters of a network sit, and write the Fire module that saves most of them,
# - count what a grouped convolution costs, and show why its groups do not talk,
# - write the channel shuffle and the ShuffleNet unit,
# - lead from an Inception module to a separable convolution by counting towers,
# - measure a layer whose multiply-adds say little about its time.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import ops

from utils import latency, plots, published, shufflenet, squeezenet, tables, xception
from utils.blocks import ConvBlock, classifier
from utils.cost import count
from utils.data import load

# %% [markdown]
# `squeezenet`, `shufflenet` and `xception` are the course's own modules of this lesson's blocks.
#
# ## Where are the parameters?
#
# AlexNet won the ImageNet competition of 2012 and started the field. Here are its layers, those
# with weights. Two of them have `groups=2`: each half of the filters sees half of the channels,
# because one graphics card could not hold them all. In which layers are most parameters?

# %%
ALEXNET = (  # arXiv:1602.07360 compares with this one: kernel, filters, strides, groups, pooling
    (11, 96, 4, 1, True),
    (5, 256, 1, 2, True),
    (3, 384, 1, 1, False),
    (3, 384, 1, 2, False),
    (3, 256, 1, 2, True),
)
alexnet = keras.Sequential([keras.Input((227, 227, 3))], name="alexnet")
for number, (kernel, filters, strides, groups, pooling) in enumerate(ALEXNET, start=1):
    padding = "valid" if number == 1 else "same"
    alexnet.add(
        keras.layers.Conv2D(
            filters,
            kernel,
            strides,
            padding,
            groups=groups,
            activation="relu",
            name=f"conv{number}",
        )
    )
    if pooling:
        alexnet.add(keras.layers.MaxPooling2D(3, strides=2))
alexnet.add(keras.layers.Flatten())
for number, units in ((6, 4096), (7, 4096), (8, 1000)):
    alexnet.add(keras.layers.Dense(units, name=f"dense{number}"))

costs = {"AlexNet": count(alexnet), "SqueezeNet": count(squeezenet.SqueezeNet)}
for name, cost in costs.items():
    size = f"{cost.params * 4 / 1e6:>5.1f} MB"
    print(f"{name:11}{cost.params:>11,} parameters, {size}, {cost.macs:>11,} multiply-adds")
ratio = costs["AlexNet"].params / costs["SqueezeNet"].params
dense = sum(row.params for row in costs["AlexNet"].layers if row.kind == "Dense")
print(f"{ratio:.0f} times fewer; AlexNet's dense layers hold {dense / costs['AlexNet'].params:.1%}")

# %% jupyter={"source_hidden": true}
# Figure: where AlexNet and SqueezeNet keep their parameters
figure, (left, right) = plots.canvas(1, 2, size=(9, 4.2), sharex=True)
for axis, (name, cost) in zip((left, right), costs.items(), strict=True):
    sizes = {}
    for row in cost.layers:
        if row.params:
            top = row.name.split("/")[0]
            sizes[top] = sizes.get(top, 0) + row.params
    colours = [plots.ORANGE if layer.startswith("dense") else plots.BLUE for layer in sizes]
    bars = axis.barh(list(sizes), list(sizes.values()), color=colours)
    axis.bar_label(bars, [f" {value / 1e6:.2f} M" for value in sizes.values()], fontsize=11)
    axis.invert_yaxis()
    axis.set(xscale="log", xlim=(5e3, 4e8), xlabel="parameters", title=name)
    axis.grid(axis="y", visible=False)
plots.show(
    figure,
    alt="Parameters of each layer on a logarithmic scale. AlexNet: five convolutions of 0.03 to 0.89 "
    "million, and three dense layers of 37.75, 16.78 and 4.10 million. SqueezeNet: no layer has "
    "more than 0.51 million, and most have less than 0.2.",
)

# %% [markdown]
# Two lessons. A dense layer on a flattened image is a luxury: lesson 01's global average pooling
# needs none. And the filters themselves can be smaller.

# %%
print(published.rows("squeezenet")[0]["top1"], "% top-1 on ImageNet: SqueezeNet, as published")
print("57.2 % top-1 on ImageNet: AlexNet, in the same table")  # arXiv:1602.07360, Table 2

# %% [markdown]
# So this is "AlexNet-level accuracy" with a fiftieth of the parameters. How?
#
# ## The Fire module
#
# SqueezeNet saves in two steps. Many 3×3 filters are replaced by 1×1 filters, which have a ninth of
# the weights. And before the remaining 3×3 filters, a 1×1 convolution *squeezes* the channels, so
# that there is less for them to see. Both kinds of filters then *expand* side by side:


# %% jupyter={"source_hidden": true}
# Figure: the Fire module
# How this lesson draws blocks: boxes at given places, and arrows between them.
def draw_box(axis, x, y, text, colour, width=1.5, height=0.62):
    """Draw a step as a box around (x, y)."""
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(plt.Rectangle(corner, width, height, fc=colour, ec="black", lw=1.2, zorder=3))
    axis.text(x, y, text, ha="center", va="center", fontsize=11, zorder=4)


def draw_arrow(axis, start, end, colour="black", **options):
    """Draw an arrow between two points."""
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops={**arrow, **options})


BLUE_BOX, YELLOW_BOX, GREEN_BOX = "#BFDBFE", "#FDE68A", "#BBF7D0"
figure, axis = plots.canvas(size=(9, 3.0))
axis.axis("off")
axis.set(xlim=(0, 10), ylim=(-1.6, 1.6))
axis.text(0.5, 0, "96\nchannels", ha="center", va="center", fontsize=12)
draw_arrow(axis, (1.05, 0), (1.7, 0))
draw_box(axis, 2.5, 0, "squeeze\n16 of 1×1", YELLOW_BOX, 1.6, 0.9)
for height, text, colour in (
    (0.85, "expand\n64 of 1×1", BLUE_BOX),
    (-0.85, "expand\n64 of 3×3", GREEN_BOX),
):
    draw_arrow(axis, (3.3, 0), (4.4, height))
    draw_box(axis, 5.2, height, text, colour, 1.6, 0.9)
    draw_arrow(axis, (6.0, height), (7.1, 0.2 * np.sign(height)))
draw_box(axis, 7.9, 0, "concatenate", "white", 1.6, 0.9)
draw_arrow(axis, (8.7, 0), (9.0, 0))
axis.text(9.5, 0, "128\nchannels", ha="center", va="center", fontsize=12)
plots.show(
    figure,
    alt="A Fire module: 96 channels pass a squeeze of 16 filters of 1 by 1. Two expansions read its "
    "16 channels side by side, one with 64 filters of 1 by 1, the other with 64 of 3 by 3. Their "
    "outputs are concatenated to 128 channels.",
)

# %% [markdown]
# A ReLU follows each of the three convolutions. What does it save, against one 3×3 convolution from
# 96 to 128 channels?

# %%
shape = (55, 55, 96)
layers = {
    "3×3 convolution": keras.layers.Conv2D(128, 3, padding="same"),
    "Fire module": squeezenet.FireModule(16, 64, 64),
}
print(f"{'':17}{'parameters':>11}{'multiply-adds':>15}   at {shape[0]}×{shape[1]} pixels")
modules = {}
for name, layer in layers.items():
    modules[name] = count(layer, shape)
    print(f"{name:17}{modules[name].params:>11,}{modules[name].macs:>15,}")
plain, fire = modules.values()
print(f"{plain.params / fire.params:.1f} times fewer parameters")
print("by hand:", 96 * 16 + 16, "+", 16 * 64 + 64, "+", 9 * 16 * 64 + 64, "=", fire.params)

# %% [markdown]
# ### Exercise 1 · A Fire module (2 points)
#
# Write `FireModule(squeeze, expand_1x1, expand_3x3)` as a Keras layer. A 1×1 convolution with
# `squeeze` filters reads the input. Two more convolutions read what it wrote, one with `expand_1x1`
# filters of 1×1, one with `expand_3x3` filters of 3×3 and padding `"same"`. Each of the three has a
# bias and a ReLU. The output is both of them, joined along the channels, 1×1 first. Make the layers
# in `__init__`, use them in `call`.
#
# *What is tested:* kernels and biases, the output's shape, and its values with random weights.


# %% exercise="fire_module" points=2
class FireModule(keras.layers.Layer):
    """Squeeze, then expand twice: (B, H, W, C) → (B, H, W, expand_1x1 + expand_3x3)."""

    def __init__(self, squeeze, expand_1x1, expand_3x3):
        super().__init__()
        ### BEGIN SOLUTION
        self.squeeze = keras.layers.Conv2D(squeeze, 1, activation="relu")
        self.one = keras.layers.Conv2D(expand_1x1, 1, activation="relu")
        self.three = keras.layers.Conv2D(expand_3x3, 3, padding="same", activation="relu")
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        x = self.squeeze(x)
        return ops.concatenate([self.one(x), self.three(x)], axis=-1)
        ### END SOLUTION


# %% check="fire_module"
check("fire_module", FireModule)

# %% [markdown]
# ## SqueezeNet, and what is printed about it
#
# SqueezeNet has a strided convolution, eight Fire modules with three poolings between them, and a
# 1×1 convolution with one filter for each class, whose outputs are averaged: no dense layer at all.
# Version 1.1 has a smaller first convolution and pools earlier. Do the published numbers come out?
# A ratio with "≠" is off by more than 1 in the last printed digit.

# %%
rows = published.rows("squeezenet")
sizes = {}


def squeezenet_cost(row):
    """Return what the row's network costs at the row's resolution."""
    version, side = key = row["variant"], row["resolution"]
    if key not in sizes:
        # Given a function that makes a network, `count` leaves the weights empty: quicker.
        sizes[key] = count(lambda: squeezenet.SqueezeNet((side, side, 3), version=version))
    return sizes[key]


published.table(rows, squeezenet_cost)

# %% [markdown]
# The parameters agree to the last one. The multiply-adds show how a number goes astray. The authors
# count *operations*, two for each multiply-add; a later paper prints these in a column of
# multiply-adds, beside networks that are counted once. One zero-padded 1×1 convolution makes up the
# rest of the difference for version 1.0:

# %%
padded = (15**2 - 13**2) * 512 * 1000
ours = sizes["1.0", 227].macs
print(
    f"{ours:,} + {padded:,} = {ours + padded:,} multiply-adds, {2 * (ours + padded):,} operations"
)

# %% [markdown]
# When you compare networks, ask what was counted, or count yourself.
#
# ## Fewer parameters, and on the solar cells?
#
# Fifty times fewer parameters is a statement about ImageNet. Does the Fire module do on solar cells
# (ELPV dataset, CC BY-NC-SA 4.0)? Here is a small network of four modules with batch norm, and its
# twin, which has a 3×3 convolution with as many filters in place of each module. Both learn the
# same cells, at 32×32 pixels, for the same few epochs, from three seeds.


# %% tags=["experiment"]
def cells(split):
    """Return all cells of a split at 32×32 pixels, and their labels."""
    pictures = load("solar_cells", split, image_size=32, channels=1, batch_size=2000)
    return [tensor.numpy() for tensor in next(iter(pictures))]


train_cells, train_labels = cells("train")
new_cells, new_labels = cells("validation")


def small_network(fire):
    """Return a network for the cells with Fire modules, or its twin with 3×3 convolutions."""
    inputs = keras.Input((32, 32, 1))
    x = ConvBlock(16, 3, strides=2, momentum=0.9)(inputs)
    for filters, pooled in ((32, True), (32, False), (64, True), (64, False)):
        if pooled:
            x = keras.layers.MaxPooling2D(2)(x)
        if fire:
            x = squeezenet.FireModule(filters // 4, filters // 2, filters // 2)(x)
        else:
            x = ConvBlock(filters, 3, norm=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.Model(inputs, classifier(x, 1, None))


def balanced_accuracy(answers):
    """Return the mean of the shares found of each class, on the validation cells."""
    return float(np.mean([np.mean(answers[new_labels == c] == c) for c in (0, 1)]))


def learn(fire, seeds=(0, 1, 2), epochs=4, batch_size=64):
    """Train from several seeds; return the balanced accuracies and the last training losses."""
    share, results, losses, network = train_labels.mean(), [], [], None
    steps = epochs * -(-len(train_cells) // batch_size)
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        fresh = small_network(fire)
        if network is None:
            network = fresh
            schedule = keras.optimizers.schedules.CosineDecay(0.05, steps)
            loss = keras.losses.BinaryCrossentropy(from_logits=True)
            network.compile(keras.optimizers.SGD(schedule, 0.9), loss, jit_compile=False)
            network.optimizer.build(network.trainable_variables)  # prepares the step once
        else:  # the same compiled network, from the start again
            network.set_weights(fresh.get_weights())
            for variable in network.optimizer.variables:
                variable.assign(ops.zeros_like(variable))
        run = network.fit(
            train_cells,
            train_labels,
            batch_size=batch_size,
            epochs=epochs,
            class_weight={0: 0.5 / (1 - share), 1: 0.5 / share},
            verbose=0,
        )
        logits = ops.convert_to_numpy(network(new_cells, training=False))[:, 0]
        results.append(balanced_accuracy((logits > 0).astype(int)))
        losses.append(run.history["loss"][-1])
    return results, losses


learned = {name: learn(name == "Fire modules") for name in ("Fire modules", "3×3 twin")}

# %% tags=["experiment"]
twins = {name: count(small_network(name == "Fire modules")) for name in learned}
print(f"{'':14}{'parameters':>11}{'multiply-adds':>15}")
for name, cost in twins.items():
    print(f"{name:14}{cost.params:>11,}{cost.macs:>15,}")
fewer = twins["3×3 twin"].params / twins["Fire modules"].params
print(f"{fewer:.1f} times fewer parameters")

# %% tags=["experiment", "nbval-ignore-output"]
constant = balanced_accuracy(0 * new_labels)
print(f"balanced accuracy on {len(new_labels)} cells: {constant:.1%} for always 'functional',")
print(f"which is right for {np.mean(new_labels == 0):.1%} of them")
for name, (results, losses) in learned.items():
    each = "  ".join(f"{result:.1%}" for result in results)
    loss = f"training loss {np.mean(losses):.2f}"
    print(f"{name:14}{np.mean(results):>7.1%} mean of  {each}   {loss}")
difference = np.mean(learned["Fire modules"][0]) - np.mean(learned["3×3 twin"][0])
spread = max(np.ptp(results) for results, _ in learned.values())
print(f"difference of the means {difference:+.1%}; the seeds of one network span {spread:.1%}")

# %% tags=["experiment"]
for results, _ in learned.values():
    assert np.mean(results) > 0.6, "better than any constant answer"
print("both networks beat every constant answer:", True)

# %% [markdown]
# Both learn something, and both are far from done after so few epochs. Look at the last line: is the
# difference between the networks larger than that between the seeds of one network? When this
# lesson was written it was not. The twin's larger memory showed in its training loss, which was
# lower, but on new cells we saw no use of the parameters that the Fire modules save. Nor did we see
# that they are never of use: three seeds and four epochs on small pictures are a glance, not a
# verdict.

# %% [markdown]
# ## Group convolution
#
# SqueezeNet gives its filters fewer channels by a layer of its own. A **group convolution** does
# so by decree: cut the C input channels into $g$ groups, cut the F filters into $g$ groups, and let
# each group of filters see its own group of channels only. AlexNet did it for want of memory.
# ShuffleNet does it to save work. Seen as a matrix from C inputs to F outputs, here are the weights
# of a 1×1 convolution:

# %% jupyter={"source_hidden": true}
# Figure: the weights of one, three and twelve groups as matrices
figure, axes = plots.canvas(1, 3, size=(9, 4.2))
for axis, groups in zip(axes, (1, 3, 12), strict=True):
    block = np.kron(np.eye(groups), np.ones((12 // groups, 12 // groups)))
    colours = plt.matplotlib.colors.ListedColormap(["white", plots.BLUE])
    axis.imshow(block, cmap=colours, vmin=0, vmax=1)
    axis.set(xticks=[0, 5, 11], yticks=[0, 5, 11], xlabel="input channel")
    axis.set_xticks(np.arange(-0.5, 12), minor=True)
    axis.set_yticks(np.arange(-0.5, 12), minor=True)
    axis.grid(which="major", visible=False)
    axis.grid(which="minor", color="#E5E7EB", lw=0.8)
    axis.tick_params(which="minor", length=0)
    name = {1: "g = 1: dense", 3: "g = 3", 12: "g = 12: depthwise"}[groups]
    axis.set_title(f"{name}\n{int(block.sum())} weights")
axes[0].set(ylabel="output channel")
plots.show(
    figure,
    alt="Weights of a 1 by 1 convolution from 12 to 12 channels as a matrix. One group: all 144 cells "
    "are filled. Three groups: three blocks of 4 by 4 on the diagonal, 48 weights. Twelve groups: "
    "the diagonal alone, 12 weights.",
)

# %% [markdown]
# Each filter sees C/g channels, and there are still F filters, so with a k×k kernel at H·W positions
#
# $$\text{multiply-adds} = H \cdot W \cdot k^2 \cdot \frac{C}{g} \cdot F .$$
#
# That is the g-th part of the cost without groups. At $g = C$ it is a depthwise convolution. Where
# does that matter most? In MobileNet's separable convolutions of lesson 03 nearly all work is in
# the 1×1 half, so this is the half to cut:

# %%
side, channels = 28, 240
depthwise = count(ConvBlock(kernel_size=3, depthwise=True, norm=False), (side, side, channels))
print(f"{side}×{side}×{channels}: depthwise 3×3 {depthwise.macs:>11,} multiply-adds")
for groups in (1, 2, 3, 4, 8):
    cost = count(keras.layers.Conv2D(channels, 1, groups=groups), (side, side, channels))
    assert cost.macs == side**2 * channels // groups * channels
    print(f"{'':11} 1×1, g = {groups}     {cost.macs:>11,}")

# %% [markdown]
# ### Exercise 2 · What a grouped convolution costs (1 point)
#
# Write `group_conv_macs(height, width, channels, filters, kernel_size, groups)`: the multiply-adds
# of a grouped convolution from `channels` to `filters` channels, with padding `"same"` and stride 1.


# %% exercise="group_conv_macs" points=1
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    """Return the multiply-adds of a k×k convolution with groups."""
    ### BEGIN SOLUTION
    return height * width * kernel_size**2 * (channels // groups) * filters
    ### END SOLUTION


# %% check="group_conv_macs"
check("group_conv_macs", group_conv_macs)

# %% [markdown]
# ## A third of the multiply-adds: a third of the time?
#
# Here is one 1×1 convolution with three groups, measured three ways in one run: as a *dense*
# convolution, which has three times the multiply-adds; as Keras' `Conv2D(groups=3)`; and with the
# same weights through `tf.nn.conv2d`, TensorFlow's own function, which knows groups from the shape
# of the kernel. First: are the last two the same function?


# %%
class LowLevel(keras.layers.Layer):
    """The same convolution as a given Keras layer without bias, through `tf.nn.conv2d`."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def call(self, x):
        return tf.nn.conv2d(x, self.conv.kernel, strides=1, padding="SAME")


def three_ways(side, channels, groups=3):
    """Return the layers, all built."""
    dense = keras.layers.Conv2D(channels, 1, use_bias=False)
    grouped = keras.layers.Conv2D(channels, 1, groups=groups, use_bias=False)
    for layer in (dense, grouped):
        layer.build((None, side, side, channels))
    return {"dense": dense, "Keras groups": grouped, "tf.nn.conv2d": LowLevel(grouped)}


SHAPES = ((28, 240, 1), (28, 240, 8), (14, 480, 1), (14, 480, 8))
for side, channels, _ in SHAPES:
    ways, shape = three_ways(side, channels), (side, side, channels)
    # A predictor runs a layer on random images, the same for all layers of one input shape.
    outputs = [latency.predictor(ways[name], shape)() for name in ("Keras groups", "tf.nn.conv2d")]
    assert np.allclose(*outputs, rtol=1e-4, atol=1e-4)
    costs = [count(ways[name], shape).macs for name in ("dense", "Keras groups")]
    assert costs[0] == 3 * costs[1]
print("same outputs, a third of the multiply-adds:", True)

# %% tags=["nbval-ignore-output"]
print(f"{'':24}{'dense':>9}{'Keras groups':>19}{'tf.nn.conv2d':>19}")
measured = {}
for side, channels, batch in SHAPES:
    ways = three_ways(side, channels)
    shape = (side, side, channels)
    functions = {name: latency.predictor(layer, shape, batch) for name, layer in ways.items()}
    times = {name: time["median"] for name, time in latency.compare(functions, rounds=20).items()}
    measured[side, channels, batch] = times
    text = f"{side}×{side}×{channels}, batch {batch}"
    cells_of_row = [f"{times['dense']:>6.2f} ms"]
    for name in ("Keras groups", "tf.nn.conv2d"):
        cells_of_row.append(f"{times[name]:>8.2f} ms ({times[name] / times['dense']:.2f}×)")
    print(f"{text:24}{'  '.join(cells_of_row)}")

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
# Figure: the time of grouped convolutions beside dense ones
figure, axis = plots.canvas(size=(9, 3.6))
places = np.arange(len(measured))
for offset, name, colour in (
    (-0.2, "Keras groups", plots.ORANGE),
    (0.2, "tf.nn.conv2d", plots.BLUE),
):
    ratios = [times[name] / times["dense"] for times in measured.values()]
    bars = axis.bar(places + offset, ratios, 0.38, color=colour, label=name)
    axis.bar_label(bars, fmt="%.2f", fontsize=10)
axis.axhline(1, color="black", lw=1.4)
axis.axhline(1 / 3, color=plots.GREY, lw=1.4, ls="--")
ground = {"facecolor": "white", "edgecolor": "none", "pad": 2}
axis.text(len(measured) - 0.4, 1, "dense", va="center", bbox=ground)
axis.text(len(measured) - 0.4, 1 / 3, "multiply-adds", va="center", color=plots.GREY, bbox=ground)
labels = [f"{side}×{side}×{channels}\nbatch {batch}" for side, channels, batch in measured]
axis.set_xticks(places, labels, fontsize=10)
axis.set(ylabel="time, dense = 1", xlim=(-0.6, len(measured) + 0.35))
axis.grid(axis="x", visible=False)
axis.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.45, 1.2))
plots.show(
    figure,
    alt="Time of a 1 by 1 convolution with three groups for four inputs, relative to the dense "
    "convolution, as pairs of bars for Keras' groups and for tf.nn.conv2d. A line marks 1, a dashed "
    "line the third that the multiply-adds would suggest. The numbers are those of the table above.",
)

# %%
shares = [
    times[name] / times["dense"]
    for times in measured.values()
    for name in ("Keras groups", "tf.nn.conv2d")
]
assert max(shares) > 1.1 * min(shares)
print("one share of the multiply-adds, one share of the time:", max(shares) <= 1.1 * min(shares))

# %% [markdown]
# Read your own table, not ours: which of the two comes nearer to the dashed line, and does that hold
# for all shapes? Two layers with the same weights, the same outputs and the same multiply-adds take
# different times, because different *kernels*, pieces of machine code, do the work. Keras sends
# a grouped convolution on a CPU through a compiler (XLA); `tf.nn.conv2d` calls a library. On other
# processors and other versions both may change. So:
#
# - multiply-adds tell what a layer has to do, and the kernel how fast that is done;
# - a third of the multiply-adds is not a promise of a third of the time;
# - measure the layer that you are going to ship, in the shape in which you are going to ship it.
#
# ## Why groups do not talk
#
# Groups have a price other than time. Stack two grouped convolutions: group 1 of the second reads
# what group 1 of the first wrote, which saw group 1 of the input. Whatever the depth, no group ever
# learns what the others have seen. We can watch that: change one input channel at a time, and see
# which output channels move. What do you expect for three groups?


# %%
def reach(channels, groups, shuffled, layers=2):
    """Return a matrix: whether output channel i moves when input channel j is changed."""
    draw = np.random.default_rng(1)
    shape = (1, 1, channels // groups, channels)
    kernels = [draw.normal(size=shape).astype("float32") for _ in range(layers)]

    def network(x):
        for position, kernel in enumerate(kernels):
            if shuffled and position:
                x = shufflenet.channel_shuffle(x, groups)
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
        return np.asarray(x)[0, 0, 0]

    rest = network(np.zeros((1, 1, 1, channels), "float32"))
    one_hot = np.eye(channels, dtype="float32")[:, None, None, None]
    return np.array([network(x) != rest for x in one_hot]).T


apart, mixed = reach(12, 3, shuffled=False), reach(12, 3, shuffled=True)
for name, moved in (("without a shuffle", apart), ("with a shuffle", mixed)):
    print(f"{name:18} an output channel depends on {moved.sum(axis=1)[0]} of 12 input channels")

# %% jupyter={"source_hidden": true}
# Figure: which outputs an input reaches, without and with a shuffle
figure, axes = plots.canvas(1, 2, size=(8, 3.9))
colours = plt.matplotlib.colors.ListedColormap(["white", plots.BLUE])
for axis, (title, moved) in zip(
    axes, (("Without shuffle", apart), ("Shuffled in between", mixed)), strict=True
):
    axis.imshow(moved, cmap=colours, vmin=0, vmax=1)
    axis.set(xticks=range(0, 12, 2), yticks=range(0, 12, 2), title=title)
    axis.set(xlabel="input channel that changes", ylabel="output channel that moves")
    axis.set_xticks(np.arange(-0.5, 12), minor=True)
    axis.set_yticks(np.arange(-0.5, 12), minor=True)
    axis.grid(which="major", visible=False)
    axis.grid(which="minor", color="#E5E7EB", lw=0.8)
    axis.tick_params(which="minor", length=0)
plots.show(
    figure,
    alt="Which output channel of two grouped convolutions moves when an input channel changes, as a "
    "12 by 12 matrix. Without a shuffle three blocks of 4 by 4 on the diagonal are filled and all "
    "else is empty. With a shuffle in between every cell is filled.",
)

# %% [markdown]
# On the left there are three separate networks side by side. On the right, each output depends on
# all inputs, at no multiply-add more. What is this shuffle?
#
# ## The channel shuffle
#
# Give each group of the next layer some channels of *every* group before it. Write the channels as a
# table with one row for each group. Read it column by column. That is all:

# %%
table = np.arange(12).reshape(3, 4)
print("a row is a group:")
print(table)
print("read by columns:", " ".join(str(channel) for channel in table.T.ravel()))
print(
    "by the course:  ", " ".join(str(int(c)) for c in shufflenet.channel_shuffle(np.arange(12), 3))
)

# %% jupyter={"source_hidden": true}
# Figure: twelve channels before and after the shuffle
figure, axis = plots.canvas(size=(9, 3.4))
axis.axis("off")
axis.set(xlim=(-3.4, 11.7), ylim=(-0.75, 2.95))
order = [int(channel) for channel in shufflenet.channel_shuffle(np.arange(12), 3)]
tints = (plots.SKY, plots.ORANGE, "#86C5A4")
for place in range(12):
    source = order[place]
    axis.plot([source, place], [1.85, 0.35], color=tints[source // 4], lw=2.2, zorder=1)
    for x, y, channel in ((place, 2.1, place), (place, 0.1, source)):
        box = plt.Rectangle(
            (x - 0.4, y - 0.27), 0.8, 0.54, fc=tints[channel // 4], ec="black", zorder=2
        )
        axis.add_patch(box)
        axis.text(x, y, str(channel), ha="center", va="center", fontsize=12, zorder=3)
for group in range(3):
    middle = 4 * group + 1.5
    axis.text(middle, 2.62, f"written by group {group + 1}", ha="center", fontsize=11)
    axis.text(middle, -0.55, f"read by group {group + 1}", ha="center", fontsize=11)
axis.text(-0.8, 2.1, "before", ha="right", va="center", fontsize=12)
axis.text(-0.8, 0.1, "after", ha="right", va="center", fontsize=12)
plots.show(
    figure,
    alt="Twelve channels in three colours, one a group, before and after the shuffle. Before: 0 to 11 "
    "in order. After: 0 4 8 1, 5 9 2 6, 10 3 7 11. Lines cross from each group to all three groups.",
)

# %% [markdown]
# Each group of the next layer receives channels of all three colours. Nothing is computed, only moved:
# no parameters, no multiply-adds. (Moving takes time, though: memory is read and written.)
#
# ### Exercise 3 · Shuffle channels (2 points)
#
# Write `channel_shuffle(x, groups)` in NumPy for an array whose *last* axis holds the channels, with
# any number of axes before it: a row of channels, or images (B, H, W, C). The shape stays.
#
# *What is tested:* channels in a row, and images; several numbers of groups.


# %% exercise="channel_shuffle" points=2
def channel_shuffle(x, groups):
    """Deal the channels of each group out to all groups: (…, C) → (…, C)."""
    ### BEGIN SOLUTION
    size = x.shape[-1] // groups
    table = x.reshape(*x.shape[:-1], groups, size)
    return np.swapaxes(table, -1, -2).reshape(x.shape)
    ### END SOLUTION


# %% check="channel_shuffle"
check("channel_shuffle", channel_shuffle)

# %% [markdown]
# ## The ShuffleNet unit
#
# Now take lesson 02's bottleneck block and make everything in it cheap. The two 1×1 convolutions
# become grouped, with a shuffle after the first. The 3×3 becomes depthwise. Where the picture is
# halved, the shortcut averages 3×3 pixels with stride 2, and is not added but *concatenated*: that
# makes new channels for free.

# %% jupyter={"source_hidden": true}
# Figure: the two ShuffleNet units
figure, axes = plots.canvas(1, 2, size=(9, 5.4))
for axis, strides in zip(axes, (1, 2), strict=True):
    axis.axis("off")
    axis.set(xlim=(-2.9, 2.6), ylim=(-0.5, 9.3), title=f"Stride {strides}")
    steps = (
        (7.7, "1×1, grouped\nbatch norm, ReLU", BLUE_BOX),
        (6.25, "channel shuffle", YELLOW_BOX),
        (4.8, f"3×3 depthwise, stride {strides}\nbatch norm", GREEN_BOX),
        (3.35, "1×1, grouped\nbatch norm", BLUE_BOX),
    )
    axis.text(0, 9.05, "240 channels" if strides == 1 else "24 channels", ha="center", fontsize=11)
    above = 8.85
    for y, text, colour in steps:
        draw_arrow(axis, (0.6, above), (0.6, y + 0.48))
        draw_box(axis, 0.6, y, text, colour, 3.1, 0.96)
        above = y - 0.48
    end = "add" if strides == 1 else "concatenate"
    draw_arrow(axis, (0.6, above), (0.6, 2.33))
    draw_box(axis, 0.6, 1.9, end, "white", 2.0, 0.86)
    draw_arrow(axis, (0.6, 1.47), (0.6, 1.06))
    draw_box(axis, 0.6, 0.7, "ReLU", "white", 1.3, 0.72)
    axis.text(0.6, -0.25, "240 channels", ha="center", fontsize=11)
    axis.plot([0.6, -1.9, -1.9], [8.6, 8.6, 1.9], color=plots.RED, lw=2.4)
    draw_arrow(axis, (-1.9, 1.9), (-0.4, 1.9), plots.RED, lw=2.4)
    if strides == 2:
        draw_box(axis, -1.9, 4.8, "average\n3×3\nstride 2", "#FECACA", 1.3, 1.5)
        axis.text(1.0, 2.55, "216", fontsize=11, va="center")
        axis.text(-1.75, 2.55, "24", fontsize=11, va="center", color=plots.RED)
plots.show(
    figure,
    alt="The ShuffleNet unit. Stride 1: grouped 1 by 1, batch norm and ReLU; channel shuffle; depthwise "
    "3 by 3 and batch norm; grouped 1 by 1 and batch norm; the shortcut of 240 channels is added, "
    "then ReLU. Stride 2: the same with a depthwise stride of 2; the branch writes 216 channels, a "
    "shortcut of 24 channels is averaged over 3 by 3 pixels, and both are concatenated to 240.",
)

# %% [markdown]
# Two details that are easy to miss: no ReLU follows the depthwise convolution, and the middle has a
# quarter of the channels that the unit *puts out*. How does a unit compare with a bottleneck
# block of the same width?

# %%
x = ops.ones((1, 56, 56, 24))
down = shufflenet.ShuffleUnit(240, strides=2, groups=3)
same = shufflenet.ShuffleUnit(240, groups=3)
y = down(x)
z = same(y)
print("stride 2:", tuple(x.shape), "→", tuple(y.shape))
print("stride 1:", tuple(y.shape), "→", tuple(z.shape))
assert tuple(z.shape) == (1, 28, 28, 240)

# %%
bottleneck = 240 * 60 + 9 * 60 * 60 + 60 * 240
unit = count(shufflenet.ShuffleUnit(240, groups=3), (28, 28, 240))
by_hand = 240 * 60 // 3 + 9 * 60 + 60 * 240 // 3
assert unit.kernels == by_hand
print(f"bottleneck, 240 → 60 → 240: {bottleneck:>7,} weights in kernels")
print(f"ShuffleNet unit, g = 3:     {unit.kernels:>7,}")
print(f"ratio {bottleneck / unit.kernels:.1f}, of parameters and of multiply-adds")

# %% [markdown]
# ### Exercise 4 · A ShuffleNet unit (3 points)
#
# Write `ShuffleUnit(filters, strides=1, groups=3)` as a Keras layer, with layers from
# `keras.layers`. On one path, with $m$ = `filters // 4`:
#
# 1. a 1×1 `Conv2D` with $m$ filters and `groups=groups`, batch norm, ReLU;
# 2. the shuffle, `shufflenet.channel_shuffle(x, groups)`, or your own with `ops`;
# 3. a 3×3 `DepthwiseConv2D` with the unit's stride, batch norm;
# 4. a 1×1 `Conv2D` with `groups=groups`, batch norm. It has `filters` filters at stride 1. At stride
#    2 it has only those that are missing: `filters` minus the channels of the input. You know these
#    in `build(self, input_shape)`; make this layer there.
#
# The end: at stride 1 add the input, then ReLU. At stride 2 concatenate the input, averaged over
# 3×3 pixels with stride 2, and the path, in this order, then ReLU. All paddings are `"same"`. A bias
# before a batch norm is superfluous, but costs no points.
#
# *What is tested:* the three convolutions and their batch norms, what the depthwise convolution
# reads, and the output at both strides, with random weights.


# %% exercise="shuffle_unit" points=3
class ShuffleUnit(keras.layers.Layer):
    """ShuffleNet's unit: (B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, filters)."""

    def __init__(self, filters, strides=1, groups=3):
        super().__init__()
        self.filters, self.strides, self.groups = filters, strides, groups

    ### BEGIN SOLUTION
    def build(self, input_shape):
        added = self.filters - (input_shape[-1] if self.strides == 2 else 0)
        options = {"groups": self.groups, "use_bias": False}
        self.reduce = keras.layers.Conv2D(self.filters // 4, 1, **options)
        self.depthwise = keras.layers.DepthwiseConv2D(
            3, self.strides, padding="same", use_bias=False
        )
        self.restore = keras.layers.Conv2D(added, 1, **options)
        self.norms = [keras.layers.BatchNormalization() for _ in range(3)]
        self.pool = keras.layers.AveragePooling2D(3, 2, padding="same")

    ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        y = ops.relu(self.norms[0](self.reduce(x)))
        y = shufflenet.channel_shuffle(y, self.groups)
        y = self.norms[1](self.depthwise(y))
        y = self.norms[2](self.restore(y))
        if self.strides == 1:
            return ops.relu(x + y)
        return ops.relu(ops.concatenate([self.pool(x), y], axis=-1))
        ### END SOLUTION


# %% check="shuffle_unit"
check("shuffle_unit", ShuffleUnit)

# %% [markdown]
# ## ShuffleNet
#
# ShuffleNet is a 3×3 convolution and a pooling, then three stages of 4, 8 and 4 such units, global
# average pooling and a dense layer. (The very first 1×1 convolution is not grouped: its input has
# few channels.) More groups make a unit cheaper, and the authors spend what they save on *width*.
# What does that buy?

# %%
rows = [row for row in published.rows("shufflenet") if "Tables 1" in row["source"]]
rows += [row for row in published.rows("shufflenet") if "README" in row["source"]]
rows = [row for row in rows if row["variant"].startswith("1x")]
sizes = {}


def shufflenet_cost(row):
    """Return what the row's network costs."""
    scale, groups = row["variant"].split("x g=")
    key = float(scale), int(groups)
    if key not in sizes:
        sizes[key] = count(lambda: shufflenet.ShuffleNetV1(groups=key[1], scale=key[0]))
    return sizes[key]


published.table(rows, shufflenet_cost)

# %%
print(f"{'groups':8}{'channels in stages 2, 3, 4':>28}{'top-1, published':>18}")
for row in rows[:5]:
    groups = int(row["variant"][-1])
    channels = [shufflenet.STAGE2[groups] * 2**stage for stage in range(3)]
    print(f"{groups:<8}{', '.join(map(str, channels)):>28}{row['top1']:>16.1f} %")

# %% [markdown]
# All five cost about the same; with eight groups the stages are more than twice as wide as with one.
# In the paper's training the wider networks are more accurate, if not in strict order. In the table
# of published numbers, the first five rows leave the dense layer out of their multiply-adds and the
# authors' README counts it: each is compared with its own count. Every row that is printed anywhere is in the tests
# of `utils.shufflenet`, with a note for the three that do not come out:

# %%
for row in published.rows("shufflenet"):
    if "note" in row:
        print(f"{row['variant']}, {row['macs']}, {row['source']}:")
        print(tables.wrap(row["note"], "  "))

# %% [markdown]
# ## From Inception to Xception
#
# The third small idea comes from another side. Lesson 01's Inception module looks at the picture
# through several *towers*: a 1×1 convolution each, then a larger filter. Simplify it: only 3×3
# filters. Then all the first 1×1 convolutions are one large one, whose channels are cut into as many
# segments as there are towers. A tower is a group.
#
# So an Inception module is a 1×1 convolution and a *grouped* 3×3 convolution. How many towers should
# there be?

# %% jupyter={"source_hidden": true}
# Figure: one tower, three towers, and a tower for each channel
figure, axes = plots.canvas(1, 3, size=(9, 3.9))
for axis, towers, title in zip(
    axes, (1, 3, 12), ("One tower", "Three: Inception", "A tower a channel"), strict=True
):
    axis.axis("off")
    axis.set(xlim=(-0.3, 12.3), ylim=(-0.9, 8.2), title=title)
    draw_box(axis, 6, 7.2, "input", "white", 5, 0.9)
    draw_arrow(axis, (6, 6.75), (6, 5.95))
    draw_box(axis, 6, 5.4, "1×1 to 12 channels", BLUE_BOX, 12, 1.0)
    width = 12 / towers
    for tower in range(towers):
        x = width * (tower + 0.5)
        draw_arrow(axis, (x, 4.9), (x, 3.75), lw=1.0 if towers == 12 else 1.6)
        text = "3×3" if towers < 12 else ""
        draw_box(axis, x, 3.0, text, GREEN_BOX, width - 0.25, 1.4)
        draw_arrow(axis, (x, 2.3), (x, 1.55), lw=1.0 if towers == 12 else 1.6)
    draw_box(axis, 6, 1.05, "concatenate", "white", 12, 0.9)
    weights = 9 * 12 * 12 // towers
    axis.text(6, -0.5, f"{weights:,} weights in the 3×3", ha="center", fontsize=12)
plots.show(
    figure,
    alt="A 1 by 1 convolution to 12 channels, then 3 by 3 convolutions on segments of them. One tower "
    "sees all 12 channels and has 1,296 weights. Three towers see 4 channels each, 432 weights. "
    "Twelve towers see one channel each, 108 weights: a depthwise convolution.",
)

# %%
side, channels, filters = 19, 728, 728
one_by_one = side**2 * channels * filters
print(f"{side}×{side}×{channels}: the 1×1 convolution takes {one_by_one:,} multiply-adds")
print(f"{'towers':>6}{'multiply-adds of the 3×3':>27}{'of all':>9}")
for towers in (1, 2, 4, 8, 91, 728):
    grouped = keras.layers.Conv2D(filters, 3, padding="same", groups=towers)
    macs = count(grouped, (side, side, filters)).macs
    print(f"{towers:>6}{macs:>27,}{macs / (macs + one_by_one):>9.1%}")

# %% [markdown]
# With more towers the 3×3 part gets cheaper and cheaper. At the extreme, *extreme Inception* or
# Xception, each channel has a tower of its own. That is a depthwise convolution: the 1×1 convolution
# looks at channels only, the 3×3 at space only. It is the separable convolution of lesson 03, found
# from the other end. (There the depthwise half comes first. In a stack of them that hardly matters.
# What does matter to its author: Xception has no ReLU between the halves.)
#
# ### Exercise 5 · How many towers fit? (2 points)
#
# You have a budget. Fewer towers let each filter see more channels, so take as few as the budget
# allows. Write `fewest_towers(height, width, channels, filters, max_macs)`: the smallest number of
# towers with which a 1×1 convolution from `channels` to `filters` channels, and 3×3 convolutions on
# equal segments of these, stay within `max_macs` multiply-adds. Towers need equal segments, so their
# number divides `filters`. The filters add up to `filters` again. The picture keeps its size, and
# there is always a number that fits.


# %% exercise="fewest_towers" points=2
def fewest_towers(height, width, channels, filters, max_macs):
    """Return the smallest number of towers within the budget."""
    ### BEGIN SOLUTION
    for towers in range(1, filters + 1):
        if filters % towers == 0:
            segment = filters // towers
            macs = height * width * (channels * filters + towers * 9 * segment * segment)
            if macs <= max_macs:
                return towers
    ### END SOLUTION


# %% check="fewest_towers"
check("fewest_towers", fewest_towers)

# %% [markdown]
# ### Optional reading: the whole Xception
#
# Xception is two convolutions, twelve blocks of two or three separable convolutions with a shortcut
# around each, two more separable convolutions, global average pooling and a dense layer. It is not
# a small network. It spends what the separable convolutions save on depth and width:

# %%
full = count(xception.Xception)
print(f"{full.macs:,} multiply-adds at 299×299 pixels")
separable = [row for row in full.layers if row.kind == "SeparableConv2D"]
share = sum(row.params for row in separable) / full.params
print(f"{len(separable)} separable convolutions hold {share:.0%} of the parameters")
published.table(published.rows("xception"), lambda row: full)

# %% [markdown]
# Given the same weights, it returns the same logits as the model of `keras.applications`, which the
# tests of `utils.xception` show.
#
# ## What to take away
#
# - Dense layers on flattened images hold most of AlexNet's parameters. Global average pooling and
#   Fire modules do without.
# - A Fire module squeezes with 1×1 and expands with 1×1 and 3×3 side by side.
# - Groups divide the multiply-adds by g. How much time that saves depends on the kernel: measure.
# - Stacked groups never exchange anything. A shuffle between them does it at no multiply-add.
# - More towers lead from Inception to the separable convolution.
#
# **Where this is used.** SqueezeNet is a favourite where a model has to be sent or stored often, and
# on chips with little memory. Grouped convolutions are in ResNeXt and in many detectors; the shuffle
# lives on in ShuffleNet V2. Xception is the backbone of segmentation networks such as DeepLab v3+.
#
# ## Think about it
#
# <details><summary>1. SqueezeNet has fifty times fewer parameters than AlexNet. Why is it not fifty times
# faster?</summary>
#
# A parameter of a dense layer is used once for each image, a parameter of a convolution at every
# position. Most of AlexNet's parameters sit in dense layers, so they make up little of its work.
# SqueezeNet's few parameters work hard: it takes even more multiply-adds, as the first table says.
# </details>
#
# <details><summary>2. You shuffle the output of a unit with g groups, and then shuffle it again, at once. Are
# the channels where they were? When?</summary>
#
# Not in general. The shuffle turns a table of g rows and n columns. Turning it back takes a shuffle
# with n groups. Two shuffles with g groups undo each other if g = n, when the table is square.
# </details>
#
# <details><summary>3. A friend's network has an input of one channel and a first convolution without groups.
# Then come grouped layers without any shuffle. Does each group at least see the whole picture?</summary>
#
# Yes: the first convolution gives every group channels that look at all of the picture. The groups
# are then separate small networks with the same input, whose answers the last dense layer adds up.
# What they cannot do is to combine their findings on the way. Whether a task needs that is for an
# experiment to say.
# </details>
#
# ## References
#
# - F. Iandola and others, *SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB
#   model size*, arXiv:1602.07360: Table 1 (the network), Table 2 (against AlexNet).
# - X. Zhang and others, *ShuffleNet*, arXiv:1707.01083: Figure 2 (the unit), Table 1 (the network),
#   Tables 2 and 5 (scales).
# - F. Chollet, *Xception: deep learning with depthwise separable convolutions*, arXiv:1610.02357:
#   Figures 1 to 4 (from Inception to Xception), Figure 5 (the network), Table 3 (its size).
# - A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural
#   networks*, NeurIPS 2012: Figure 2 (AlexNet, in two groups).

# %% [markdown]
# ## Your points

# %%
progress()
