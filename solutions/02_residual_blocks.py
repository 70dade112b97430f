# ---
# title: Residual blocks
# summary: why deep plain networks train badly; the shortcut that repairs it; ResNets from 20 to 152 layers
# minutes: 90
# ---

# %% [markdown]
# # 02 · Residual blocks
#
# The small network of lesson 00 saw something in the solar cells, but far from everything. The
# obvious remedy is depth: more layers, finer distinctions. Stacked naively, more layers make it
# worse, even on the very images the network is trained on. One addition repairs that, and nearly
# every network after 2015 contains it.
#
# After this lesson you can
#
# - say what batch norm computes in training and at inference, and choose its momentum,
# - show that plain networks get harder to train with depth, and why residual ones do not,
# - write a residual block with each of its three shortcuts, and make it start as the identity,
# - count the layers, parameters and multiply-adds of ResNets, and build one that fits a budget.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import experiments, plots, residual, tables
from utils.cost import count
from utils.data import load
from utils.experiments import degradation

# %% [markdown]
# `residual` is the course's own module of this lesson's blocks. The text uses it from the start;
# in the exercises you write the same things yourself.
#
# ## Batch norm in three cells
#
# A deep network multiplies its signals many times over. If each layer makes them a little larger,
# they explode; a little smaller, they vanish. *Batch normalisation* brings every channel back to
# the same scale after each convolution. In training it does, for each channel $c$ on its own,
#
# $$\hat x = \frac{x - \mu_c}{\sqrt{\sigma_c^2 + \varepsilon}}, \qquad y = \gamma_c \hat x + \beta_c .$$
#
# $\mu_c$ and $\sigma_c^2$ are mean and variance of the channel over all images *of the batch* and
# all positions; $\varepsilon$ is a small number that avoids a division by zero. $\gamma_c$ and
# $\beta_c$ are learned, and start at 1 and 0: they are the scaling and the shift of lesson 00.
#
# Here are three channels on very different scales. What is left of that?

# %%
rng = np.random.default_rng(0)
x = rng.normal([-3, 0, 5], [0.5, 1, 10], size=(64, 8, 8, 3)).astype("float32")
mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
y = (x - mean) / np.sqrt(variance + 1e-3)

by_keras = keras.layers.BatchNormalization()(x, training=True)
assert np.allclose(y, by_keras, atol=1e-3)
for name, values in (("before", x), ("after", y)):
    means = [f"{abs(m):.1f}" for m in values.mean(axis=(0, 1, 2))]
    print(f"{name:6}  |mean| {means}  deviation {[f'{s:.1f}' for s in values.std(axis=(0, 1, 2))]}")

# %% [markdown]
# ### Training against inference
#
# In training an image is normalised by the company it happens to keep: the other images of its
# batch. A drone asks about one cell at a time and wants the same answer whatever came before. So
# at inference batch norm uses *moving statistics*, an average that each training step updates,
#
# $$\mu_\text{moving} \leftarrow m\,\mu_\text{moving} + (1 - m)\,\mu_c,$$
#
# and the same for the variance. $m$ is the *momentum*: how much of the old value stays. The moving
# mean starts at 0, the moving variance at 1. What does the layer do at inference when it is new,
# and how many training steps does it take to get it right?

# %%
norm = keras.layers.BatchNormalization(momentum=0.9)
print(f"{'training steps':16}{'moving mean':>12}{'output at inference: mean':>28}{'deviation':>12}")
for step in range(51):
    if step in (0, 1, 10, 50):
        y = ops.convert_to_numpy(norm(x, training=False))[..., 2]
        moving = ops.convert_to_numpy(norm.moving_mean)[2]
        print(f"{step:<16}{moving:>12.2f}{abs(y.mean()):>28.2f}{y.std():>12.2f}")
    norm(x, training=True)
print("Keras' default momentum:", keras.layers.BatchNormalization().momentum)

# %% [markdown]
# A new batch norm does nothing at inference. After $t$ steps its start still weighs $m^t$. That is
# harmless in a run of a million steps. On a small dataset it is a trap: the digits that ship with
# this course make nine batches of 128 images. Below, the same network is trained twice with the
# same seed; only $m$ differs. In training $m$ plays no part, so both learn the same weights. Do
# they give the same answers?

# %% tags=["experiment"]
images, labels = (
    t.numpy() for t in next(iter(load("digits", "train", channels=1, batch_size=2000)))
)
new_images, new_labels = (
    t.numpy() for t in next(iter(load("digits", "validation", channels=1, batch_size=2000)))
)
steps_per_epoch = -(-len(images) // 128)
print(f"{len(images):,} images, {steps_per_epoch} steps an epoch")


def trained(momentum, epochs=8):
    """Train a small network on the digits; return it and its accuracies on new images."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((8, 8, 1))])
    for filters, strides in ((32, 1), (64, 2)):
        network.add(keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False))
        network.add(keras.layers.BatchNormalization(momentum=momentum))
        network.add(keras.layers.ReLU())
    network.add(keras.layers.GlobalAveragePooling2D())
    network.add(keras.layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.1, 0.9), loss, jit_compile=False)
    network.optimizer.build(network.trainable_variables)  # prepares the step once, not twice
    accuracies = []

    def after_epoch(epoch, logs):
        answers = ops.argmax(network(new_images, training=False), axis=-1)
        accuracies.append(float(np.mean(answers == new_labels)))

    watch = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
    network.fit(images, labels, batch_size=128, epochs=epochs, callbacks=[watch], verbose=0)
    return network, accuracies


networks = {momentum: trained(momentum) for momentum in (0.9, 0.99)}

# %% tags=["experiment", "nbval-ignore-output"]
print(
    f"{'momentum':10}{'start still weighs':>20}{'accuracy, moving statistics':>30}{'batch statistics':>19}"
)
by_batch = {}
for momentum, (network, accuracies) in networks.items():
    answers = ops.argmax(network(new_images, training=True), axis=-1)
    by_batch[momentum] = float(np.mean(answers == new_labels))
    left = momentum ** (len(accuracies) * steps_per_epoch)
    print(f"{momentum:<10}{left:>20.1%}{accuracies[-1]:>30.1%}{by_batch[momentum]:>19.1%}")
print(f"with 0.999 the start would still weigh {0.999 ** (8 * steps_per_epoch):.1%}")

# %% tags=["experiment", "nbval-ignore-output"]
# Figure: how fast batch norm's averages forget, for three momenta
figure, (left, right) = plots.canvas(1, 2, size=(9, 3.6))
steps = np.arange(8 * steps_per_epoch + 1)
for momentum, colour in ((0.9, plots.BLUE), (0.99, plots.ORANGE), (0.999, plots.GREY)):
    left.plot(steps, 100 * momentum**steps, color=colour)
    height = 100 * momentum ** steps[-1]
    left.text(steps[-1] + 2, height, f"m = {momentum}", color=colour, va="center")
    if momentum in networks:
        accuracies = 100 * np.array(networks[momentum][1])
        right.plot(np.arange(1, 9), accuracies, "o-", color=colour)
        right.text(8.3, accuracies[-1], f"m = {momentum}", color=colour, va="center")
left.set(xlabel="training steps", ylabel="weight of the start in %", xlim=(0, 102), ylim=(-3, 103))
left.set(title="What is left of the start", xticks=[0, 18, 36, 54, 72])
right.set(xlabel="epoch", ylabel="accuracy in %", title="Same weights, new images")
right.set(xlim=(0.6, 11), ylim=(-3, 103), xticks=[2, 4, 6, 8])
plots.show(
    figure,
    alt="Left: the weight of batch norm's starting values falls to zero within 72 training steps "
    "for momentum 0.9, to a half for 0.99, and stays above 90 percent for 0.999. Right: accuracy "
    "on new images over eight epochs rises to nearly 100 percent for 0.9 and stays low for 0.99.",
)

# %% tags=["experiment"]
final = {momentum: accuracies[-1] for momentum, (_, accuracies) in networks.items()}
assert min(by_batch.values()) > 0.85, "both learn the digits"
assert final[0.9] > final[0.99] + 0.2
print("right at inference with m = 0.9, not yet with 0.99:", bool(final[0.9] > 0.8))

# %% [markdown]
# Twice the same network. With the statistics of the batch both read the digits; with moving
# statistics the second one fails, because these are still half-way between their start and the
# truth. So a network that looks perfect in training and fails in validation is not always
# overfitted. For runs of a few hundred steps choose a momentum of 0.9 in place of Keras' default, as
# the rest of this lesson does. Networks that train for weeks can afford 0.999.

# %% [markdown]
# ## Deeper should never be worse
#
# Take a network of 8 layers that works. Insert 48 more layers. Is the new network at least as good
# *on the images it is trained on*?
#
# It can be: if each new layer hands its input on unchanged, the deep network answers like the
# shallow one. So among all networks of 56 layers there is one that fits the training images at
# least as well. Whether training *finds* it is another question, and here is the experiment.
# Networks of 8, 32 and 56 layers learn the digits, once plain (3×3 convolutions, batch norm,
# ReLU), once with the residual blocks of this lesson. All see the same images in the same number
# of steps with the same learning rates.
#
# That takes a while, so the results come from a file, `data/results/degradation.json`, which
# `make experiments` writes anew. Where does the *training* loss end?

# %%
data = experiments.result("degradation")
print(f"{len(data['jobs'])} runs, {data['processor_seconds'] / 60:.0f} minutes of processor time")
print(f"training loss after {degradation.EPOCHS} epochs, {len(degradation.SEEDS)} seeds each:")
budget = {"epochs": degradation.EPOCHS, "learning_rate": degradation.LEARNING_RATE}
rows = [row for row in data["summary"] if budget.items() <= row.items()]
lines = []
for row in sorted(rows, key=lambda row: (row["residual"], row["depth"])):
    name = f"{'residual' if row['residual'] else 'plain'} {row['depth']}"
    losses = [f"{row['loss'][which]:.4f}" for which in ("mean", "min", "max")]
    fitted = ", ".join(str(epoch or "never") for epoch in row["epochs_to_fit"])
    lines.append((name, *losses, f"{row['accuracy']['mean']:.1%}", fitted))
tables.Table(("network", "mean", "lowest", "highest", "accuracy", "loss below 0.1 at epoch"), lines)

# %%
# Figure: training loss of plain and residual networks, by depth
COLOURS = dict(zip(degradation.DEPTHS, (plots.SKY, plots.ORANGE, plots.RED), strict=True))
runs = {}
for job in data["jobs"]:
    if budget.items() <= job["settings"].items():
        key = job["settings"]["residual"], job["settings"]["depth"]
        runs.setdefault(key, []).append(job["result"])


def draw_runs(axes, name, average):
    """Draw mean and range over the seeds, plain networks left, residual ones right."""
    for (residual_net, depth), results in sorted(runs.items()):
        axis = axes[int(residual_net)]
        values = np.array([result[name] for result in results])
        steps = np.arange(1, values.shape[1] + 1)
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(steps, low, high, color=COLOURS[depth], alpha=0.25, lw=0)
        axis.plot(steps, average(values, axis=0), color=COLOURS[depth], label=f"{depth} layers")
        axis.set(yscale="log", title="Residual" if residual_net else "Plain")


figure, axes = plots.canvas(1, 2, size=(9, 3.9), sharey=True)
draw_runs(axes, "loss", np.mean)
for axis in axes:
    axis.set(xlabel="epoch")
axes[0].set(ylabel="training loss")
axes[0].legend(loc="lower left", fontsize=11)
plots.show(
    figure,
    alt="Training loss over 40 epochs on a logarithmic scale, mean and range of five seeds. Left, "
    "plain networks: the deeper, the worse; 8 layers fit within a few epochs, 32 fall slowly and "
    "stay above, 56 hardly get below where they start. Right, residual networks: all depths fall "
    "fast, and 32 and 56 layers end ten times lower than 8.",
)

# %% [markdown]
# On the left, depth does harm. 32 plain layers take several times as many epochs as 8 to fit the
# same images and still end above them; 56 layers do not fit them at all. The ranges of the seeds do
# not overlap. And this is no overfitting: an overfitted network has a *low* training loss. It is
# called **degradation**. On the right, the same layers with shortcuts: all three fit fast, and now
# the deeper networks end *lower*.
#
# Is the learning rate to blame? The plain 56 layers get a second chance: the learning rate that
# suited them best of those that were tried, and then more epochs as well.

# %%
deepest = [row for row in data["summary"] if row["depth"] == max(degradation.DEPTHS)]
print(f"{'':12}{'learning rate':>13}{'epochs':>8}{'mean loss':>11}{'lowest':>9}{'accuracy':>10}")
for row in sorted(deepest, key=lambda row: (row["residual"], row["epochs"], -row["learning_rate"])):
    name = f"{'residual' if row['residual'] else 'plain'} {row['depth']}"
    loss = f"{row['loss']['mean']:>11.4f}{row['loss']['min']:>9.4f}"
    settings = f"{row['learning_rate']:>13}{row['epochs']:>8}"
    print(f"{name:12}{settings}{loss}{row['accuracy']['mean']:>10.1%}")

# %% [markdown]
# It helps: with patience and a smaller step, one seed comes close. So deep plain networks are hard to
# train, not impossible. The residual network does not even need the favour.
#
# You need not take the file's word for it. Here are two short runs with 20 layers, on your machine:


# %% tags=["experiment"]
def short_run(residual_net, epochs=4):
    """Train a network of 20 layers on the digits; return its training loss after each epoch."""
    keras.utils.set_random_seed(0)
    network = degradation.model(20, residual_net)
    network.compile(
        keras.optimizers.SGD(degradation.LEARNING_RATE, degradation.MOMENTUM),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    batch_size = degradation.BATCH_SIZE
    run = network.fit(images, labels, batch_size=batch_size, epochs=epochs, verbose=0)
    return run.history["loss"]


short = {"plain": short_run(False), "residual": short_run(True)}

# %% tags=["experiment", "nbval-ignore-output"]
for name, losses in short.items():
    print(f"{name:10} training loss  {'  '.join(f'{loss:.2f}' for loss in losses)}")

# %% tags=["experiment"]
behind = short["plain"][-1] / short["residual"][-1]
assert behind > 2
print("the plain network's loss is more than twice as high:", behind > 2)

# %% [markdown]
# ### What the first step sees
#
# What is different, even before training? Here is, for each convolution from the input on, the size
# of the gradient of the loss with respect to its kernel: the Euclidean norm, at the first batch.

# %%
# Figure: gradient norm of each convolution before training
figure, axes = plots.canvas(1, 2, size=(9, 3.9), sharey=True)
draw_runs(axes, "gradient_norms", lambda norms, axis: np.exp(np.log(norms).mean(axis=axis)))
for axis in axes:
    axis.set(xlabel="convolution, from the input on")
axes[0].set(ylabel="gradient norm")
axes[0].legend(loc="upper right", fontsize=11)
plots.show(
    figure,
    alt="Gradient norm of each convolution before training, on a logarithmic scale. Left, plain "
    "networks: a straight line falls from the second convolution to the last, over more than one "
    "power of ten for 32 layers and three for 56. Right, residual networks: nearly level lines.",
)

# %%
print(f"{'':12}{'second convolution':>20}{'last':>8}{'ratio':>9}{'a layer':>10}")
for (residual_net, depth), results in sorted(runs.items()):
    norms = np.exp(np.mean(np.log([result["gradient_norms"] for result in results]), axis=0))
    ratio = norms[1] / norms[-1]
    name = f"{'residual' if residual_net else 'plain'} {depth}"
    a_layer = ratio ** (1 / (len(norms) - 2))
    print(f"{name:12}{norms[1]:>20.1f}{norms[-1]:>8.1f}{ratio:>9.1f}{a_layer:>10.2f}")

# %% [markdown]
# In the plain networks the gradient grows on its way back to the input, by nearly the same factor at
# each layer. A factor a little above 1 is harmless over 8 layers. Over 56 layers it multiplies to
# more than a thousand, and one learning rate has to serve the first layers and the last. (Without
# batch norm they may vanish as well.) In the residual networks a shortcut carries the gradient past
# each block, and all layers get gradients of a similar size. This fits what we saw, and why a
# smaller learning rate helped; it does not prove that there is no other reason.

# %% [markdown]
# ## The residual block
#
# The argument above says what a deep network needs: layers that can *easily* do nothing. For two
# layers of a plain network, doing nothing is hard, because the weights have to become exactly
# the filters that copy their input. In a **residual block** doing nothing is the starting point:
# the input skips the two layers and is added to what they compute.


# %% jupyter={"source_hidden": true}
# Figure: two plain layers, and the same two as a residual block
# How this course draws blocks: from left to right, at given places.
def draw_step(axis, x, text, colour, half_width, half_height):
    """Draw one step as a box, or as a circle if its text is a plus sign."""
    if text == "+":
        axis.plot([x], [0], "o", markersize=26, color=colour, markeredgecolor="black")
    else:
        corner = (x - half_width, -half_height)
        axis.add_patch(
            plt.Rectangle(corner, 2 * half_width, 2 * half_height, fc=colour, ec="black", lw=1.2)
        )
    axis.text(x, 0, text, ha="center", va="center", fontsize=18 if text == "+" else 12)


def draw_arrow(axis, x, until, text="", colour="black"):
    """Draw an arrow from left to right with a text above it."""
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (until, 0), (x, 0), arrowprops=arrow)
    axis.text((x + until) / 2, 0.12, text, ha="center", va="bottom", fontsize=12)


def draw_shortcut(axis, x, until, height, text):
    """Draw the path around the layers, from `x` to the plus sign at `until`."""
    axis.plot([x, x, until], [0, height, height], color=plots.RED, lw=2.6)
    arrow = {"arrowstyle": "-|>", "color": plots.RED, "lw": 2.6, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (until, 0.28), (until, height + 0.02), arrowprops=arrow)
    axis.text((x + until) / 2, height + 0.1, text, color=plots.RED, ha="center", va="bottom")


figure, (top, bottom) = plots.canvas(2, 1, size=(9, 4.2), height_ratios=[2.1, 2.9])
for axis, title, high in ((top, "Two plain layers", 1.1), (bottom, "A residual block", 1.9)):
    axis.axis("off")
    axis.set(xlim=(0, 10), ylim=(-1.0, high), title=title)
    axis.text(0.35, 0, "$a^{[l]}$", ha="center", va="center", fontsize=16)
    axis.text(9.55, 0, "$a^{[l+2]}$", ha="center", va="center", fontsize=16)
    draw_arrow(axis, 0.65, 1.55)
    draw_step(axis, 2.6, "conv 3×3\nbatch norm\nReLU", "#BFDBFE", 1.05, 0.8)
    draw_arrow(axis, 3.65, 4.25)
draw_step(top, 5.3, "conv 3×3\nbatch norm\nReLU", "#BFDBFE", 1.05, 0.8)
draw_arrow(top, 6.35, 9.1)
draw_step(bottom, 5.3, "conv 3×3\nbatch norm", "#BFDBFE", 1.05, 0.8)
draw_arrow(bottom, 6.35, 6.83)
draw_step(bottom, 7.05, "+", "#FDE68A", 0, 0)
draw_arrow(bottom, 7.27, 7.7)
draw_step(bottom, 8.2, "ReLU", "#BBF7D0", 0.5, 0.35)
draw_arrow(bottom, 8.7, 9.1)
draw_shortcut(bottom, 1.05, 7.05, 1.2, "shortcut")
plots.show(
    figure,
    alt="Top: two plain layers, each convolution, batch norm and ReLU, one after the other. Bottom: "
    "in a residual block a shortcut leads from the input around both layers to an addition, which "
    "stands after the second batch norm and before the last ReLU.",
)

# %% [markdown]
# In symbols: $a^{[l]}$ is the output of layer $l$, and $g$ is ReLU, $g(z) = \max(z, 0)$. Layer
# $l+1$ computes $z^{[l+1]} = W^{[l+1]} a^{[l]} + b^{[l+1]}$ with its weights $W$ and biases $b$,
# and $a^{[l+1]} = g(z^{[l+1]})$. Layer $l+2$ does the same with $a^{[l+1]}$, except at its end:
#
# $$\text{plain: } a^{[l+2]} = g(z^{[l+2]}) \qquad\qquad \text{residual: } a^{[l+2]} = g(z^{[l+2]} + a^{[l]})$$
#
# The two layers learn what to *change* about the input, the residual, and not what to make of it.

# %% [markdown]
# ### Exercise 1 · The forward pass (2 points)
#
# Write `residual_forward(a, W1, b1, W2, b2, Ws=None)` in NumPy, with dense layers: `a` has the
# shape (B, n), one row an example, and a layer computes `a @ W + b`. If `Ws` is given, the shortcut
# is `a @ Ws` in place of `a`; you will see below what for.
#
# *What is tested:* a block whose weights are all zero, random weights, and a block that changes
# the width, with `Ws`.


# %% exercise="residual_forward" points=2
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    """Return the output of a residual block of two dense layers with ReLU: (B, n) → (B, n2)."""
    ### BEGIN SOLUTION
    hidden = np.maximum(a @ W1 + b1, 0)
    z = hidden @ W2 + b2
    shortcut = a if Ws is None else a @ Ws
    return np.maximum(z + shortcut, 0)
    ### END SOLUTION


# %% check="residual_forward"
check("residual_forward", residual_forward)

# %% [markdown]
# ## With zero weights the block is the identity
#
# Set $W^{[l+2]} = 0$ and $b^{[l+2]} = 0$. Then $z^{[l+2]} = 0$, and $a^{[l+2]} = g(a^{[l]})$. Now
# $a^{[l]}$ came out of a ReLU itself, so it is nowhere negative, and ReLU leaves it alone:
# $a^{[l+2]} = a^{[l]}$. Let 24 blocks, 48 layers, try it. In our blocks batch norm's $\beta$,
# which starts at 0, is the bias.

# %%
a = np.maximum(rng.normal(size=(2, 8, 8, 16)), 0).astype("float32")


def through_zero_blocks(blocks, residual_path):
    """Send `a` through blocks whose convolutions are all zero."""
    y = a
    for _ in range(blocks):
        block = residual.ResidualBlock(16, residual=residual_path)
        block.build(a.shape)
        for weight in block.trainable_weights:
            if weight.name == "kernel":
                weight.assign(ops.zeros_like(weight))
        y = block(y)
    return ops.convert_to_numpy(y)


print("24 residual blocks return their input:", np.array_equal(through_zero_blocks(24, True), a))
print("24 plain blocks return                ", np.unique(through_zero_blocks(24, False)))

# %% [markdown]
# So inserting residual blocks takes nothing away: at zero weights the deeper network *is* the
# shallower one, and training goes on from there. In this sense depth cannot hurt. Plain layers at
# zero weights wipe everything out.
#
# ## Why the addition comes before the ReLU
#
# What if you add after the ReLU instead, $a^{[l]} + g(z^{[l+2]})$? It looks cleaner: the shortcut
# is then not even touched by a ReLU. What goes wrong? Think of what one block can do to one
# number, then look at 27 blocks with random weights.


# %% tags=["nbval-ignore-output"]
def activations(add_first, blocks=27):
    """Return the activations after each of `blocks` untrained blocks."""
    draw = np.random.default_rng(1)
    y, seen = ops.convert_to_tensor(a), [a]
    for _ in range(blocks):
        z = y
        for last in (False, True):
            z = ops.conv(z, draw.normal(size=(3, 3, 16, 16)).astype("float32"), padding="same")
            mean, variance = ops.moments(z, axes=(0, 1, 2), keepdims=True)
            z = (z - mean) / ops.sqrt(variance)  # batch norm in training
            z = z if last else ops.relu(z)
        y = ops.relu(y + z) if add_first else y + ops.relu(z)
        seen.append(ops.convert_to_numpy(y))
    return seen


before, after = activations(add_first=True), activations(add_first=False)
print(f"mean activation after 27 blocks: {before[-1].mean():.1f} if added before the ReLU,")
print(f"{after[-1].mean():.1f} if added after it")
assert after[-1].mean() > 2 * before[-1].mean()

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
# Figure: what adding before or after the ReLU does to the activations
figure, (left, right) = plots.canvas(1, 2, size=(9, 3.7))
for offset, seen, colour, name in (
    (-0.2, after, plots.ORANGE, "after"),
    (0.2, before, plots.BLUE, "before"),
):
    sign = np.sign(seen[-1] - seen[-2])
    shares = [100 * np.mean(sign == wanted) for wanted in (-1, 0, 1)]
    bars = left.bar(
        np.arange(3) + offset, shares, 0.4, color=colour, label=f"added {name} the ReLU"
    )
    left.bar_label(bars, fmt="%.0f")
    right.plot([step.mean() for step in seen], color=colour)
    right.text(27.7, seen[-1].mean(), f"{name}", color=colour, va="center")
left.set_xticks(range(3), ["falls", "stays", "rises"])
left.set(ylabel="share of all numbers in %", ylim=(0, 85), title="What one block does to a number")
left.legend(loc="upper left", fontsize=11)
left.grid(axis="x", visible=False)
right.set(xlabel="blocks passed", ylabel="mean activation", title="What 27 blocks do", xlim=(0, 35))
right.set_xticks([0, 9, 18, 27])
plots.show(
    figure,
    alt="Left: added after the ReLU, a block never lowers a number, half of them stay and half "
    "rise; added before it, numbers fall and rise. Right: the mean activation over 27 blocks grows "
    "in a straight line if added after the ReLU, and ever more slowly if added before.",
)

# %%
change = after[-1] - after[-2]
print("added after:  a block makes some number smaller:", bool(change.min() < 0))
change = before[-1] - before[-2]
print("added before: a block makes some number smaller:", bool(change.min() < 0))
print(
    "mean activation more than twice as large after: ",
    bool(after[-1].mean() > 2 * before[-1].mean()),
)

# %% [markdown]
# $g(z)$ is never negative, so a block that adds it can only add. A feature that is switched on
# stays on, and the activations pile up from block to block. With the addition first, a block can
# raise and lower, and the ReLU keeps the result at 0 or above, as the identity argument needs.
#
# ## When the dimensions differ
#
# $z^{[l+2]} + a^{[l]}$ needs two tensors of one shape. In most blocks that holds. But now and then
# a network halves height and width and doubles the channels. Then the shortcut has to change its
# shape as well. Two ways:
#
# - **Projection**: multiply by a *learned* matrix $W_s$. On images that is a 1×1 convolution with
#   the stride of the block, followed by batch norm like every convolution here.
# - **Zero padding**: keep every $s$-th pixel, where $s$ is the stride, and fill the new channels
#   with zeros. $W_s$ is then *fixed*: nothing to learn, nothing to store.

# %% jupyter={"source_hidden": true}
# Figure: three shortcuts: identity, projection, padding with zeros
figure, axes = plots.canvas(1, 3, size=(9, 2.9))
shortcuts = {
    "identity": ("the same tensor", 4, 1.7, plots.BLUE),
    "projection": ("1×1 convolution, stride 2:\nall channels are learned", 2, 0.95, plots.ORANGE),
    "zero_pad": ("every second pixel, then\nchannels of zeros: fixed", 2, 0.95, plots.BLUE),
}
for axis, (title, (text, channels, side, colour)) in zip(axes, shortcuts.items(), strict=True):
    axis.axis("off")
    axis.set(xlim=(-0.2, 6.6), ylim=(-1.3, 3.4), title=f'"{title}"')
    for x, width, drawn, fill in ((0, 1.7, channels, plots.BLUE), (3.8, side, 4, colour)):
        for channel in reversed(range(drawn)):
            zeros = title == "zero_pad" and x > 0 and channel >= channels
            corner = (x + 0.3 * channel, 0.3 + 0.3 * channel)
            axis.add_patch(
                plt.Rectangle(
                    corner, width, width, fc="white" if zeros else fill, ec="black", lw=1.2
                )
            )
    arrow = {"arrowstyle": "-|>", "lw": 2, "color": "black"}
    axis.annotate("", (3.7, 1.2), (2.8 if channels == 4 else 2.2, 1.2), arrowprops=arrow)
    axis.text(3.0, -0.75, text, ha="center", va="center", fontsize=12)
plots.show(
    figure,
    alt="Three shortcuts as stacks of channels. Identity: four channels stay the same four. "
    "Projection: two large channels become four small learned ones. Zero padding: two large "
    "channels become two small ones and two channels of zeros.",
)

# %% [markdown]
# What does each cost? A block from 16 channels at 32×32 pixels to 32 channels at 16×16:

# %%
shape = (32, 32, 16)
print(f"{'shortcut':12}{'parameters':>12}{'multiply-adds':>16}")
for name in ("none", "zero_pad", "projection"):
    options = {"residual": False} if name == "none" else {"shortcut": name}
    cost = count(residual.ResidualBlock(32, strides=2, **options), shape)
    print(f"{name:12}{cost.params:>12,}{cost.macs:>16,}")
print(f"the projection's own: 16·32 + 2·32 = {16 * 32 + 2 * 32}")

# %% [markdown]
# ### Exercise 2 · A residual block (3 points)
#
# Write `ResidualBlock(filters, strides=1, shortcut="identity")` as a Keras layer, with `Conv2D`
# and `BatchNormalization` from `keras.layers`. Make the layers in `__init__`, use them in `call`.
# On one path: a 3×3 convolution with the block's stride, batch norm, ReLU; a 3×3 convolution, batch
# norm. On the other path the shortcut:
#
# - `"identity"`: the input,
# - `"projection"`: a 1×1 convolution of the input with `filters` filters and the block's stride,
#   with or without batch norm,
# - `"zero_pad"`: every s-th pixel of the input, `x[:, ::s, ::s]`, and zeros for the missing
#   channels, before or after the others (`ops.pad`).
#
# Then the addition, then ReLU. All paddings are `"same"`. A bias before a batch norm is superfluous,
# but costs no points.
#
# *What is tested:* the two layers, and the output with each of the three shortcuts, on images of
# even and odd sides, with random weights.


# %% exercise="residual_block" points=3
class ResidualBlock(keras.layers.Layer):
    """Two 3×3 convolutions and a shortcut: (B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, filters)."""

    def __init__(self, filters, strides=1, shortcut="identity"):
        super().__init__()
        ### BEGIN SOLUTION
        self.filters, self.strides, self.shortcut = filters, strides, shortcut
        self.conv1 = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)
        self.norm1 = keras.layers.BatchNormalization()
        self.conv2 = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.norm2 = keras.layers.BatchNormalization()
        if shortcut == "projection":
            self.project = keras.layers.Conv2D(filters, 1, strides, use_bias=False)
            self.project_norm = keras.layers.BatchNormalization()
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        z = ops.relu(self.norm1(self.conv1(x)))
        z = self.norm2(self.conv2(z))
        if self.shortcut == "projection":
            x = self.project_norm(self.project(x))
        elif self.shortcut == "zero_pad":
            x = x[:, :: self.strides, :: self.strides]
            x = ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.filters - x.shape[-1])))
        return ops.relu(z + x)
        ### END SOLUTION


# %% check="residual_block"
check("residual_block", ResidualBlock)

# %% [markdown]
# ## Start as the identity
#
# At zero weights the block is the identity, but training cannot start there: each of the two
# kernels gets its gradient through the other one, and zero times anything is zero. There is a
# gentler way to the same start. The last step before the addition is a batch norm, which
# multiplies by $\gamma$. Start that one $\gamma$ at 0: the block is the identity, and its kernels
# keep their random values. Here are the weights of the course's block:

# %%
block = residual.ResidualBlock(16, name="block")
block.build((None, 8, 8, 16))
for weight in block.trainable_weights:
    print(f"{weight.path:32}{tuple(weight.shape)}")

# %% [markdown]
# ### Exercise 3 · Zero the last gamma, and prove it (1 point)
#
# Write `start_as_identity(block, x)` for a block of the course whose shortcut is the identity. It
# sets the gamma of the *last* batch norm to 0 and changes nothing else. Then it calls the block on
# `x` and returns the largest difference $|\text{block}(x) - x|$ as a number.
#
# A weight has `.name` (such as `"gamma"`), `.shape`, and `.assign(values)`.
#
# *What is tested:* all weights of a block of two and of a block of three convolutions; your number
# for inputs that came out of a ReLU, and for inputs with negative values. Which should be 0?


# %% exercise="start_as_identity" points=1
def start_as_identity(block, x):
    """Zero the last batch norm's gamma; return the largest |block(x) − x|."""
    ### BEGIN SOLUTION
    gammas = [weight for weight in block.trainable_weights if weight.name == "gamma"]
    gammas[-1].assign(ops.zeros_like(gammas[-1]))
    return float(ops.max(ops.abs(block(x) - x)))
    ### END SOLUTION


# %% check="start_as_identity"
check("start_as_identity", start_as_identity)

# %% [markdown]
# The course's models do this with `zero_init_gamma=True`; training ResNet-50 with large batches made
# the trick popular (arXiv:1706.02677).

# %% [markdown]
# ## ResNet-34 and its plain twin
#
# The recipe for a deep network is now short. Take a plain network of 34 layers: one 7×7
# convolution, 32 convolutions of 3×3 in four stages, and a dense layer. From stage to stage the
# image halves and the channels double. Then draw a shortcut around every pair of 3×3 convolutions:

# %% jupyter={"source_hidden": true}
# Figure: ResNet-34 as a row of bars
figure, axis = plots.canvas(size=(9, 3.1))
axis.axis("off")
colours = (plots.SKY, plots.GREEN, plots.YELLOW, plots.ORANGE)
axis.add_patch(plt.Rectangle((-1.6, 0), 0.8, 4.2, fc=plots.GREY, ec="black"))
x = 0
for stage, repeats in enumerate(residual.RESNET[34][1]):
    height, side = 3.2 - 0.7 * stage, 56 // 2**stage
    for line, text in enumerate(
        (f"{repeats} blocks", f"{64 * 2**stage} channels", f"{side}×{side}")
    ):
        axis.text(x + repeats - 0.1, -0.65 - 0.65 * line, text, ha="center", fontsize=11)
    for position in range(repeats):
        for offset in (0, 1):
            axis.add_patch(
                plt.Rectangle((x + offset, 0), 0.8, height, fc=colours[stage], ec="black")
            )
        changes = stage > 0 and position == 0
        arrow = {
            "arrowstyle": "-|>",
            "color": plots.RED,
            "lw": 1.8,
            "ls": (0, (2, 1.5)) if changes else "-",
            "connectionstyle": "arc3,rad=-0.55",
        }
        ends = (x + 1.95, height + 0.05), (x - 0.15, height + 0.05)
        axis.annotate("", *ends, arrowprops=arrow)
        x += 2
axis.add_patch(plt.Rectangle((x + 0.5, 0), 0.8, 1.1, fc=plots.GREY, ec="black"))
axis.text(-1.2, -0.7, "7×7", ha="center", fontsize=11)
axis.text(x + 0.9, -0.7, "dense", ha="center", fontsize=11)
axis.set(xlim=(-2.2, x + 2.2), ylim=(-2.4, 4.6))
plots.show(
    figure,
    alt="ResNet-34 as a row of bars: a 7 by 7 convolution, then stages of 3, 4, 6 and 3 blocks of two "
    "bars with 64, 128, 256 and 512 channels, then a dense layer. An arc jumps over each pair of "
    "bars; three arcs, where a stage begins, are dashed because the shape changes.",
)

# %% [markdown]
# Solid arcs are identities. At the three dashed ones the shape changes: padded with zeros
# (the paper's *option A*) or projected (*option B*). What does the plain network pay for becoming
# residual?

# %%
# `count` also takes a function that makes a network. It then leaves the weights empty: quicker.
plain34 = count(lambda: residual.ResNet34(residual=False))
option_a = count(lambda: residual.ResNet34(shortcut="zero_pad"))
assert (plain34.params, plain34.macs) == (option_a.params, option_a.macs)
projections = sum(c * 2 * c + 2 * 2 * c for c in (64, 128, 256))  # W_s, and its batch norm
print(f"plain               {plain34.params:>11,} parameters {plain34.macs:>14,} multiply-adds")
print(f"residual, option A  {option_a.params:>11,} parameters {option_a.macs:>14,} multiply-adds")
print(f"published, both     {'':>31} 3.6 G")
print(f"option B adds {projections:,} parameters, {projections / option_a.params:.1%}")

# %% [markdown]
# Option A costs nothing, to the last parameter. Any difference in training then comes from the
# shortcuts alone, which makes the comparison fair. Option B costs less than one percent.

# %% [markdown]
# ## A family for small images
#
# ResNet-34 is made for pictures of 224 pixels. For small ones there is a leaner family: one 3×3
# convolution with 16 filters; three stages of $n$ blocks with 16, 32 and 64 filters, the second
# and third starting with stride 2; global average pooling; a dense layer. The paper prints five
# sizes. We count the smallest one, and the three blocks that each step in $n$ adds. Do the
# published numbers come out?

# %%
published = {20: "0.27M", 32: "0.46M", 44: "0.66M", 56: "0.85M", 110: "1.7M"}  # Table 6
smallest = count(residual.ResNetCIFAR(20))
step = [count(residual.ResidualBlock(16 * k), (32 // k, 32 // k, 16 * k)) for k in (1, 2, 4)]
print(f"{'depth':>5}{'n':>4}{'parameters':>13}{'published':>11}{'multiply-adds':>15}")
for depth, printed in published.items():
    n = (depth - 2) // 6
    params = smallest.params + (n - 3) * sum(cost.params for cost in step)
    macs = smallest.macs + (n - 3) * sum(cost.macs for cost in step)
    decimals = len(printed.split(".")[1]) - 1
    assert abs(params / 1e6 - float(printed[:-1])) <= 10**-decimals
    print(f"{depth:>5}{n:>4}{params:>13,}{printed:>11}{macs:>15,}")

# %% [markdown]
# ### Exercise 4 · Counting layers (1 point)
#
# "Depth" counts the convolutions and dense layers on the way from the image to the classes: the
# first convolution, those inside the blocks, and the dense layer. The shortcuts' 1×1 convolutions
# are not counted. Write `resnet_cifar_depth(n, convs=2)`: the depth of the network with $n$ blocks
# in each of its three stages and `convs` convolutions in each block. (Three convolutions a block
# are what the next section is about.)


# %% exercise="resnet_cifar_depth" points=1
def resnet_cifar_depth(n, convs=2):
    """Return how many layers the network with n blocks in each of three stages has."""
    ### BEGIN SOLUTION
    return 3 * n * convs + 2
    ### END SOLUTION


# %% check="resnet_cifar_depth"
check("resnet_cifar_depth", resnet_cifar_depth)

# %% [markdown]
# ## Bottleneck blocks
#
# Wide tensors carry more, and they cost: four times the channels take sixteen times the work of a
# 3×3 convolution. Lesson 01 knows the remedy: 1×1 convolutions shrink the channels, the 3×3 works
# on few, and another 1×1 restores them. Wide, narrow, wide:

# %%
blocks = {
    "basic, 64": (residual.ResidualBlock(64), 64),
    "basic, 256": (residual.ResidualBlock(256), 256),
    "bottleneck, 256": (residual.BottleneckBlock(64), 256),
}
print(f"{'block, channels':18}{'parameters':>12}{'multiply-adds at 56×56':>25}")
block_costs = {}
for name, (layer, channels) in blocks.items():
    block_costs[name] = count(layer, (56, 56, channels))
    print(f"{name:18}{block_costs[name].params:>12,}{block_costs[name].macs:>25,}")
wide, narrow = block_costs["basic, 256"].macs, block_costs["basic, 64"].macs
bottleneck = block_costs["bottleneck, 256"].macs
print(f"four times the channels, {wide / narrow:.0f} times the work")
print(f"the bottleneck carries 256 channels at 1/{wide / bottleneck:.0f} of that")

# %% jupyter={"source_hidden": true}
# Figure: the basic block and the bottleneck, drawn to scale
figure, (top, bottom) = plots.canvas(2, 1, size=(9, 4.8))
drawn = {
    "Basic block: 3×3 on all 256 channels": (top, (256, 256, 256), (3, 3)),
    "Bottleneck block: 3×3 on 64 channels": (bottom, (256, 64, 64, 256), (1, 3, 1)),
}
for title, (axis, widths, kernels) in drawn.items():
    axis.axis("off")
    axis.set(xlim=(0, 10), ylim=(-1.1, 2.0), title=title)
    places = np.linspace(0.5, 7.3, len(widths))
    for x, width in zip(places, widths, strict=True):
        draw_step(axis, x, str(width), "#BFDBFE", 0.3, width / 256)
    for index, kernel in enumerate(kernels):
        weights = kernel**2 * widths[index] * widths[index + 1]
        start, end = places[index] + 0.3, places[index + 1] - 0.3
        draw_arrow(axis, start, end, f"{kernel}×{kernel}\n{weights:,}")
    draw_arrow(axis, 7.6, 8.28)
    draw_step(axis, 8.5, "+", "#FDE68A", 0, 0)
    draw_arrow(axis, 8.72, 9.3)
    draw_step(axis, 9.6, "256", "#BFDBFE", 0.3, 1)
    draw_shortcut(axis, 1.0, 8.5, 1.35, "256 channels")
plots.show(
    figure,
    alt="Tensors as bars whose height is their number of channels. In the basic block three bars of "
    "256 channels are linked by two 3 by 3 convolutions of 589,824 weights each. In the bottleneck "
    "block 256 channels become 64 by 16,384 weights, stay 64 by 36,864, and become 256 again "
    "by 16,384. A shortcut carries 256 channels around both.",
)

# %% [markdown]
# ResNet-50 is ResNet-34 with each basic block replaced by a bottleneck. ResNet-101 and ResNet-152
# have more of these blocks in the two middle stages. One detail has two versions. Where a stage
# begins, which convolution takes the stride? In the paper, *v1*, it is the first 1×1, which then
# never looks at three of four pixels. In *v1.5* it is the 3×3, which sees them all. What does
# that change?

# %%
v1 = count(residual.ResNet50)
print("blocks a stage:", residual.RESNET[34][1], "in ResNet-34,", residual.RESNET[50][1], "in 50")
print(f"ResNet-50 v1: {v1.params:,} parameters, {v1.macs:,} multiply-adds")

more_macs = 0
for filters, side in ((128, 56), (256, 28), (512, 14)):
    first_blocks = [
        count(
            residual.BottleneckBlock(filters, 2, "projection", stride_in=stride_in),
            (side, side, 2 * filters),
        )
        for stride_in in ("1x1", "3x3")
    ]
    assert first_blocks[0].params == first_blocks[1].params
    more_macs += first_blocks[1].macs - first_blocks[0].macs
print(f"v1.5: the same parameters, {v1.macs + more_macs:,} ({more_macs / v1.macs:+.0%})")

# %% [markdown]
# The same parameters, a few percent more work. If two libraries disagree about ResNet-50, ask each
# where it strides. Now the whole family. As before, the larger members are ResNet-50 and some
# more blocks: in the second stage at 28×28 pixels, in the third at 14×14.

# %%
at_28 = count(residual.BottleneckBlock(128), (28, 28, 512))
at_14 = count(residual.BottleneckBlock(256), (14, 14, 1024))
# Published parameters: torchvision 0.29.1. Multiply-adds in G: v1 arXiv:1512.03385, Table 1; v1.5
# torchvision 0.29.1.
rows = (
    ("ResNet-50", 50, 0, 25_557_032, 3.8),
    ("ResNet-101", 101, 0, 44_549_160, 7.6),
    ("ResNet-152", 152, 0, 60_192_808, 11.3),
    ("ResNet-50 v1.5", 50, more_macs, 25_557_032, 4.089),
    ("ResNet-101 v1.5", 101, more_macs, 44_549_160, 7.801),
    ("ResNet-152 v1.5", 152, more_macs, 60_192_808, 11.514),
)
head = (
    f"{'parameters':>12}{'published':>12}{'ratio':>7}{'MACs in G':>12}{'published':>11}{'ratio':>7}"
)
print(f"{'':16}{head}")
for name, depth, extra, params, giga in rows:
    _, at_28_repeats, at_14_repeats, _ = residual.RESNET[depth][1]
    more = [(at_28, at_28_repeats - 4), (at_14, at_14_repeats - 6)]
    ours = v1.params + sum(repeats * cost.params for cost, repeats in more)
    macs = (v1.macs + extra + sum(repeats * cost.macs for cost, repeats in more)) / 1e9
    assert ours == params
    assert abs(macs / giga - 1) < 0.02
    left = f"{name:16}{ours:>12,}{params:>12,}{ours / params:>7.3f}"
    print(f"{left}{macs:>12.2f}{giga:>11}{macs / giga:>7.3f}")

# %% [markdown]
# The parameters agree to the last one. The multiply-adds agree as well as the published ones are
# rounded: the paper gives v1 with one decimal.

# %% [markdown]
# ## On the solar cells: deepen a network that works
#
# Now put the pieces together on real cells (ELPV dataset, CC BY-NC-SA 4.0). We train a residual
# network of 8 layers on small pictures of 32×32 pixels, for a few epochs. Then we make it deeper
# without asking it to learn anything: a network of 20 layers takes over its weights, and the twelve
# new layers sit in blocks whose last gamma is 0. What will the deeper network answer?


# %% tags=["experiment"]
def cells(split):
    """Return all cells of a split at 32×32 pixels, and their labels."""
    pictures = load("solar_cells", split, image_size=32, channels=1, batch_size=2000)
    return [tensor.numpy() for tensor in next(iter(pictures))]


train_cells, train_labels = cells("train")
new_cells, new_cell_labels = cells("validation")
share = train_labels.mean()
print(f"{len(train_cells):,} cells to train on, {len(new_cells)} for validation")
keras.utils.set_random_seed(0)
shallow = residual.ResNetCIFAR(8, (32, 32, 1), 1, filters=8, classifier_activation=None)
epochs, batch_size = 4, 64
steps = epochs * -(-len(train_cells) // batch_size)
shallow.compile(
    keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.05, steps), 0.9),
    keras.losses.BinaryCrossentropy(from_logits=True),
    jit_compile=False,
)
shallow.optimizer.build(shallow.trainable_variables)
_ = shallow.fit(
    train_cells,
    train_labels,
    batch_size=batch_size,
    epochs=epochs,
    class_weight={0: 0.5 / (1 - share), 1: 0.5 / share},
    verbose=0,
)

# %% tags=["experiment"]
deep = residual.ResNetCIFAR(
    20, (32, 32, 1), 1, filters=8, classifier_activation=None, zero_init_gamma=True
)
known = {layer.name: layer.get_weights() for layer in shallow.layers[1:]}
new = [layer.name for layer in deep.layers[1:] if layer.name not in known]
for name, weights in known.items():
    deep.get_layer(name).set_weights(weights)
print(tables.wrap(f"{2 * len(new)} new layers, in {', '.join(new)}"))


# %% tags=["experiment", "nbval-ignore-output"]
def report(name, answers):
    """Print accuracy, recall of the defective cells and balanced accuracy."""
    right = [np.mean(answers[new_cell_labels == c] == c) for c in (0, 1)]
    accuracy = np.mean(answers == new_cell_labels)
    print(f"{name:24}{accuracy:>10.1%}{right[1]:>10.1%}{np.mean(right):>10.1%}")
    return np.mean(right)


logits = {
    net.name: ops.convert_to_numpy(net(new_cells, training=False))[:, 0] for net in (shallow, deep)
}
print(f"{len(new_cells)} validation cells   {'accuracy':>11}{'recall':>10}{'balanced':>10}")
report("always 'functional'", 0 * new_cell_labels)
balanced = [
    report(name, (logits[net.name] > 0).astype(int))
    for name, net in (("8 layers, trained", shallow), ("20 layers, deepened", deep))
]

# %% tags=["experiment"]
assert balanced[0] > 0.55, "better than any constant answer"
print(
    "same answers, twelve layers deeper:",
    bool(np.allclose(logits["resnet8"], logits["resnet20"], atol=1e-4)),
)

# %% [markdown]
# The deeper network gives the same answers as the shallow one, cell by cell, and could go on learning
# from there. New plain layers would have to copy their input exactly to do the same. Whether twelve
# more layers *help* on so few small pictures is another question; lesson 07 measures what depth,
# width and resolution each bring.

# %% [markdown]
# ## Exercise 5 · Build the drone's ResNet (3 points)
#
# The drone's processor allows so many multiply-adds a picture and no more. Which network of 20
# layers makes the most of that? Write `drone_resnet(input_shape, classes, max_macs)`. It returns
# a functional `keras.Model`:
#
# - a 3×3 convolution with F filters, padding `"same"`, no bias; batch norm; ReLU,
# - three stages of three residual blocks with F, 2F and 4F filters; the second and the third
#   stage start with stride 2 and a shortcut of your choice that changes the shape,
# - global average pooling, and a dense layer with `classes` outputs and no activation,
# - and F is the *largest* multiple of 4 with which the network keeps to `max_macs`.
#
# Take `residual.ResidualBlock` or your own block from exercise 2 (but not
# `residual.ResNetCIFAR`). You may compute the multiply-adds from the formula of lesson 00, or try
# widths with `count`.
#
# *What is tested:* the number of layers, the shapes of the stages, a shortcut around each block,
# and the width, for a random input shape and budget.


# %% exercise="drone_resnet" points=3
def drone_resnet(input_shape, classes, max_macs):
    """Return the widest 20-layer residual network that keeps to `max_macs` multiply-adds."""
    ### BEGIN SOLUTION

    def macs(filters):
        height, width, channels = input_shape
        total = height * width * 9 * channels * filters + 4 * filters * classes
        for stage in range(3):
            out = filters * 2**stage
            before = out // 2 if stage else out
            total += height * width * 9 * (before * out + 5 * out * out)
            height, width = -(-height // 2), -(-width // 2)
        return total

    filters = 4
    while macs(filters + 4) <= max_macs:
        filters += 4

    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    for stage in range(3):
        for position in range(3):
            changes = stage > 0 and position == 0
            x = residual.ResidualBlock(
                filters * 2**stage,
                strides=2 if changes else 1,
                shortcut="zero_pad" if changes else "identity",
            )(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))
    ### END SOLUTION


# %% check="drone_resnet"
check("drone_resnet", drone_resnet)

# %% [markdown]
# A question of design is left. You have a budget of multiply-adds: small pictures and a wide
# network, or large pictures and a narrow one? Here is the course's network of 20 layers at about
# the same cost:

# %%
lines = []
for side, filters in ((32, 32), (64, 16), (128, 8)):
    cost = count(residual.ResNetCIFAR(20, (side, side, 1), 2, filters=filters))
    macs, peak = f"{cost.macs / 1e6:.0f} million", f"{cost.peak_bytes / 1024:.0f} KiB"
    lines.append((f"{side}×{side}", filters, macs, f"{cost.params:,}", peak))
tables.Table(("pixels", "filters", "multiply-adds", "parameters", "peak of activations"), lines)

# %% [markdown]
# Twice the side costs as much as twice the width. But width is paid in parameters, and pictures in
# activation memory: the device says which of the two is scarce.
#
# ## What to take away
#
# - Batch norm normalises by the batch in training and by moving statistics at inference. Their
#   start fades as $m^t$: on small data, take a momentum of 0.9.
# - Plain networks get harder to train with depth. The *training* loss shows it, so it is not
#   overfitting.
# - $a^{[l+2]} = g(z^{[l+2]} + a^{[l]})$: add first, then ReLU. With zero weights the block is the
#   identity, so depth costs nothing to begin with.
# - Where shapes change, project (a few parameters) or pad with zeros (none).
# - A bottleneck lets wide tensors travel cheaply: wide, narrow, wide.
#
# **Where this is used.** ResNets are the backbones that detectors and segmentation networks are
# built on and compared with, and their shortcut is in every transformer. In this course MobileNetV2
# turns the bottleneck inside out (lesson 04), and EfficientNet scales what comes of it (lesson 07).
#
# ## Think about it
#
# <details><summary>1. Backpropagation through a residual block multiplies the gradient by the derivative
# of $z^{[l+2]} + a^{[l]}$ with respect to $a^{[l]}$. What is special about it?</summary>
#
# It is the derivative of $z^{[l+2]}$ *plus the identity*. However small the weights make the first
# part, the second passes the gradient on unchanged, but for the ReLU behind the addition, which
# stops it where its input is negative. A plain layer has the first part only, and over many layers
# the product of those shrinks or grows.
# </details>
#
# <details><summary>2. Why is the gamma of the *last* batch norm the one to start at 0, and not that of the
# first?</summary>
#
# Both make the block the identity when it is new. But behind the first one stands a ReLU, which
# then outputs 0 everywhere and, at 0, has the gradient 0. The first convolution would never
# receive a gradient, and the second would see nothing but zeros. Behind the last batch norm comes
# the addition, so its gamma gets a gradient at the first step and leaves 0.
# </details>
#
# <details><summary>3. The drone gets a new camera whose pictures are darker. Its network uses batch norm.
# What may go wrong, and what could you do without a single new label?</summary>
#
# The moving statistics describe the old camera, so every layer normalises the new pictures wrongly.
# Run new pictures through the network in training mode, without learning, until the moving
# statistics have followed.
# </details>
#
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning for image recognition*,
#   arXiv:1512.03385: Table 1 (ResNet-18 to 152), section 4.2 and Table 6 (the family for small images).
# - S. Ioffe, C. Szegedy, *Batch normalization*, arXiv:1502.03167: Algorithms 1 and 2.
# - K. He and others, *Identity mappings in deep residual networks*, arXiv:1603.05027: Table 2 tries where
#   to put batch norm, ReLU and the addition; its "ReLU before addition" is our "added after".
# - P. Goyal and others, *Accurate, large minibatch SGD*, arXiv:1706.02677: section 5.1, the last gamma at 0.

# %% [markdown]
# ## Your points

# %%
progress()
