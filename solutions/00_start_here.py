# ---
# title: Start here
# summary: how a lesson works; the solar cells and their baseline; what a layer costs; your first own layer
# minutes: 60
# ---

# %% [markdown]
# # 00 · Start here
#
# A drone flies along a solar farm and photographs the modules. Its processor is as small as a
# phone's, its battery is smaller, and it must decide on the spot which cells are broken. Over
# the next lessons you build the network that fits it.
#
# After this lesson you can
#
# - work with the exercises and read their feedback,
# - say why 69 % accuracy can be worth nothing, and what to report instead,
# - compute the three costs of a convolution: parameters, multiply-adds, activation memory,
# - write a Keras layer of your own.

# %% [markdown]
# ## How a lesson works
#
# You run the cells from top to bottom with <kbd>Shift</kbd> + <kbd>Enter</kbd>. The cell above
# is the setup; it prints nothing when all is well. In an exercise you replace `...` by your own
# code, run the cell, and run the check below it. A check tries your code on fresh random
# inputs, gives points for each part that is right, and says what to look at where one is not.
# Try as often as you like; an unsolved exercise never stops the rest of the notebook. The code
# that draws a figure is folded away: click the bar at the left of the cell to open it.
#
# Came back the next day, or restarted the kernel? *Run > Run All Cells* (on Colab *Runtime > Run
# all*) brings you back to where you were: your answers are in the file, and points are given anew.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

from utils import plots
from utils.cost import count
from utils.data import labels, load

# %% [markdown]
# ## The solar cells
#
# Current through a solar cell makes it glow in the infrared. A camera sees what the eye cannot:
# cracks, cut-off regions, corroded fingers stay dark. The dataset has 2,624 such pictures, cut
# from 44 modules. `load` returns a `tf.data.Dataset` of images in [0, 1] and labels.
#
# Experts rated each cell: certainly functional (0), probably functional (1/3), probably
# defective (2/3), certainly defective (1). What do those ratings look like?

# %%
ratings = labels("solar_cells", "train", label="probability")
cells = load("solar_cells", "train", image_size=120, channels=1, batch_size=len(ratings))
cells = next(iter(cells))[0].numpy()
print("images", cells.shape, " ratings", ratings.shape)

# %%
# Figure: twelve cells in four columns, by their rating
levels = [0, 1 / 3, 2 / 3, 1]
picked = [np.flatnonzero(np.isclose(ratings, level))[[3, 11, 20]] for level in levels]
order = np.array(picked).T.ravel()
figure = plots.pictures(
    cells[order], [f"rated {ratings[i]:.2f}" for i in order], columns=4, cell=1.9
)
plots.show(
    figure,
    alt="Twelve solar cells in four columns, rated 0, 0.33, 0.67 and 1. Functional cells glow "
    "evenly; defective ones have dark cracks and dark regions, and the middle ones are hard to "
    "tell apart.",
)

# %% [markdown]
# The middle columns are hard, for people too. The course calls a cell **defective** if its
# rating is at least 0.5, and leaves the doubtful cells in: an inspection drone meets them as well.
#
# Photographs: B. Doll, S. Deitsch, C. Buerhop-Lutz and others, ELPV dataset, licence
# CC BY-NC-SA 4.0, for non-commercial use.

# %% [markdown]
# ## A baseline before any network
#
# How good is a model that has not looked at a single pixel and always answers with the more
# frequent class?

# %%
defective = (ratings >= 0.5).astype(int)
share = defective.mean()
majority_accuracy = 1 - share
print(f"{len(defective)} training cells, {defective.sum()} of them defective ({share:.0%})")
print(f"always 'functional': accuracy {majority_accuracy:.1%}, broken cells found 0 %")

# %%
# Figure: how many cells have each rating, and what the baseline scores
figure, (left, right) = plots.canvas(1, 2, size=(9, 3.4), width_ratios=[3, 2])
counts = [int(np.isclose(ratings, level).sum()) for level in levels]
colours = [plots.BLUE, plots.SKY, plots.YELLOW, plots.ORANGE]
bars = left.bar(["0", "1/3", "2/3", "1"], counts, color=colours)
left.bar_label(bars)
left.axvline(1.5, color="black", linestyle=":")
left.set(xlabel="experts' rating", ylabel="training cells", title="The ratings")
left.text(1.45, max(counts) * 0.9, "functional ", ha="right")
left.text(1.55, max(counts) * 0.9, " defective")
scores = {"accuracy": majority_accuracy, "recall": 0.0, "balanced\naccuracy": 0.5}
bars = right.bar(scores.keys(), scores.values(), color=plots.GREY)
right.bar_label(bars, fmt="{:.0%}")
right.set(ylim=(0, 1), title="Always 'functional'")
plots.show(
    figure,
    alt="Left: how many training cells have each rating; most are 0, the next largest group is 1. "
    "Right: the baseline that always says functional has 69 percent accuracy, zero recall and "
    "50 percent balanced accuracy.",
)

# %% [markdown]
# A drone that never reports a defect is right for more than two thirds of the cells. So three
# numbers stand side by side in this course, from the first result on:
#
# | measure | question | formula |
# | --- | --- | --- |
# | accuracy | how many answers are right? | right answers / all cells |
# | recall of a class | how many cells of this class were found? | found / cells of that class |
# | balanced accuracy | the same, with both classes weighing equally | mean of both recalls |
#
# Any constant answer has a balanced accuracy of 50 %, whatever the share of defects.

# %% [markdown]
# ### Exercise 1 · Balanced accuracy (1 point)
#
# Write `balanced_accuracy(labels, predictions)` for two NumPy arrays of zeros and ones, with
# NumPy alone: the mean of the recall of class 1 and the recall of class 0.
#
# *What is tested:* random labels with few and with many defects, and the constant answer.


# %% exercise="balanced_accuracy" points=1
def balanced_accuracy(labels, predictions):
    """Return the mean of the recalls of class 1 and class 0, between 0 and 1."""
    ### BEGIN SOLUTION
    recall_defective = np.mean(predictions[labels == 1] == 1)
    recall_functional = np.mean(predictions[labels == 0] == 0)
    return (recall_defective + recall_functional) / 2
    ### END SOLUTION


# %% check="balanced_accuracy"
check("balanced_accuracy", balanced_accuracy)

# %% [markdown]
# ## What a convolution does
#
# A convolution slides a small filter over an image. At each position it multiplies the numbers
# under the filter with the filter's weights and adds them up: one number of the output. How
# many positions are there?
#
# - Padding `"valid"`: the filter stays inside the image. In a row of $n$ pixels a filter of
#   width $k$ that moves by $s$ pixels (the *stride*) fits $\lfloor (n - k) / s \rfloor + 1$ times.
# - Padding `"same"`: zeros are added around the image so that only the stride shrinks it:
#   $\lceil n / s \rceil$ positions.

# %%
# Figure: where a filter fits, with and without padding
figure, axes = plots.canvas(1, 2, size=(9, 3.7))
for axis, (padding, first) in zip(axes, (("valid", 0), ("same", -1)), strict=True):
    axis.set(xlim=(-1.6, 7.6), ylim=(7.6, -1.6), aspect="equal", xticks=[], yticks=[])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for row in range(-1, 8):
        for column in range(-1, 8):
            inside = 0 <= row < 7 and 0 <= column < 7
            if inside or padding == "same":
                axis.add_patch(
                    plt.Rectangle(
                        (column - 0.5, row - 0.5),
                        1,
                        1,
                        ec="#9CA3AF",
                        fc="#DBEAFE" if inside else "white",
                    )
                )
    for index, column in enumerate(range(first, 7 - 2 + (padding == "same"), 2)):
        colour = [plots.RED, plots.GREEN, plots.PURPLE, plots.ORANGE][index]
        shift = 0.07 * index - 0.1
        axis.add_patch(
            plt.Rectangle(
                (column - 0.5 + shift, first - 0.5 + shift), 3, 3, fill=False, ec=colour, lw=2.5
            )
        )
        axis.plot(column + 1, first + 1, "o", color=colour)
    positions = index + 1
    axis.set_title(f"'{padding}': {positions} positions a row")
plots.show(
    figure,
    alt="A 3 by 3 filter with stride 2 on an image of 7 by 7 pixels. With padding valid it fits "
    "three times in a row; with padding same, where a border of zeros surrounds the image, "
    "four times.",
)

# %% [markdown]
# ### Exercise 2 · Output size (2 points)
#
# Write `conv_output_size(size, kernel, stride, padding)`: the number of positions in one
# direction, as a whole number. Python's `//` rounds down; $\lceil a / b \rceil$ is `-(-a // b)`.
#
# *Example:* 7 pixels, width 3, stride 2: 3 positions with `"valid"`, 4 with `"same"`.


# %% exercise="conv_output_size" points=2
def conv_output_size(size, kernel, stride, padding):
    """Return how many positions a filter has along one side of the image."""
    ### BEGIN SOLUTION
    if padding == "same":
        return -(-size // stride)
    return (size - kernel) // stride + 1
    ### END SOLUTION


# %% check="conv_output_size"
check("conv_output_size", conv_output_size)

# %% [markdown]
# ## Three costs
#
# An image has channels: one for our grey cells, three for a colour picture, and soon hundreds
# inside a network. A filter spans *all* input channels. A layer with $F$ filters of $k \times k$
# on $C$ channels, with an output of $H \times W$ positions, costs
#
# | cost | what it limits | formula |
# | --- | --- | --- |
# | parameters | storage, download | $k \cdot k \cdot C \cdot F$, and $F$ more with a bias |
# | multiply-adds (MACs) | time, energy | $H \cdot W \cdot k \cdot k \cdot C \cdot F$ |
# | activation memory | working memory | $H \cdot W \cdot F$ numbers of 4 bytes (float32) |
#
# One MAC is one multiplication and the addition that goes with it. A bias is an addition without
# a multiplication, so it counts as a parameter and not as a MAC. `count` does this for any
# Keras model. Ask it about one layer, 16 filters of 3×3 on a picture of 32×32×8:

# %%
layer = keras.layers.Conv2D(16, 3, padding="same")
cost = count(layer, input_shape=(32, 32, 8))
print(f"parameters {cost.params:,} = 3·3·8·16 + 16 = {3 * 3 * 8 * 16 + 16:,}")
print(f"MACs       {cost.macs:,} = 32·32·3·3·8·16 = {32 * 32 * 3 * 3 * 8 * 16:,}")
print(f"output     {cost.activations:,} numbers = 32·32·16 = {32 * 32 * 16:,}")

# %% [markdown]
# ### Exercise 3 · Parameters (1 point)
#
# Write `conv_params(kernel, channels, filters, bias)`, where `bias` is `True` or `False`.


# %% exercise="conv_params" points=1
def conv_params(kernel, channels, filters, bias):
    """Return the number of parameters of a square convolution."""
    ### BEGIN SOLUTION
    return kernel * kernel * channels * filters + (filters if bias else 0)
    ### END SOLUTION


# %% check="conv_params"
check("conv_params", conv_params)

# %% [markdown]
# ### Exercise 4 · Multiply-adds (2 points)
#
# Write `conv_macs(height, width, kernel, channels, filters, stride)` for padding `"same"`.
# `height` and `width` are those of the *input*.


# %% exercise="conv_macs" points=2
def conv_macs(height, width, kernel, channels, filters, stride):
    """Return the multiply-adds of a square convolution with padding "same"."""
    ### BEGIN SOLUTION
    rows, columns = -(-height // stride), -(-width // stride)
    return rows * columns * kernel * kernel * channels * filters
    ### END SOLUTION


# %% check="conv_macs"
check("conv_macs", conv_macs)

# %% [markdown]
# ## Where the costs sit
#
# Here is a small network for the cells: four convolutions, each with stride 2 and twice the
# filters of the one before, then the mean over all positions (*global average pooling*) and one
# number, the evidence for a defect. Which layer would you make smaller?


# %%
def small_network(side=96):
    """Return a network of four convolutions that maps a cell to the evidence for a defect."""
    inputs = keras.Input((side, side, 1))
    x = inputs
    for stage, filters in enumerate((16, 32, 64, 128), 1):
        x = keras.layers.Conv2D(filters, 3, 2, "same", activation="relu", name=f"conv{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(1, name="defect")(x), name="small_network")


cost = count(small_network())
cost

# %% picture="costs"
# Figure: what each layer adds to parameters, multiply-adds and activations
rows = [row for row in cost.layers if row.kind in ("Conv2D", "Dense")]
names = [row.name for row in rows]
shares = {
    "parameters": [row.params for row in rows],
    "multiply-adds": [row.macs for row in rows],
    "activations": [int(np.prod(row.output_shape)) for row in rows],
}
figure, axes = plots.canvas(1, 3, size=(10, 3.2), sharey=True)
for axis, (title, values), colour in zip(
    axes, shares.items(), (plots.BLUE, plots.ORANGE, plots.GREEN), strict=True
):
    percent = [100 * value / sum(values) for value in values]
    bars = axis.barh(names, percent, color=colour)
    axis.bar_label(bars, fmt="{:.0f} %", padding=3)
    axis.set(title=title, xlabel="share of the total in %", xlim=(0, 100))
    axis.invert_yaxis() if title == "parameters" else None
    axis.grid(axis="y", visible=False)
plots.show(
    figure,
    alt="Shares of the network's layers in its parameters, multiply-adds and activations. The "
    "last convolution holds three quarters of the parameters, the first one half of the "
    "activations, and the multiply-adds are spread evenly over the later three.",
)

# %%
last_conv, first_conv = rows[3], rows[0]
assert last_conv.params == max(shares["parameters"])
assert np.prod(first_conv.output_shape) == max(shares["activations"])
print(f"most parameters: {last_conv.name}, {last_conv.params / cost.params:.0%} of all")
print(
    f"most activation: {first_conv.name}, {shares['activations'][0] / sum(shares['activations']):.0%}"
)
print(f"multiply-adds:   {cost.macs / 1e6:.1f} million for one cell")

# %% [markdown]
# There is no single "size" of a network. The last layers hold the parameters, the first layers
# hold the activations, and the multiply-adds lie in between. A change that saves one of the three
# may do nothing for the others; keep this picture in mind for every architecture that follows.

# %% [markdown]
# ## A Keras layer of your own
#
# Most of this course consists of layers that you write. A Keras layer needs three things: what
# it is told (`__init__`), the weights it makes once it knows its input's shape (`build`), and
# what it does (`call`). Here is one that *adds* a learned number to each channel:


# %%
class Shift(keras.layers.Layer):
    """Adds a learned number to each channel: (B, …, C) → (B, …, C)."""

    def build(self, input_shape):
        channels = input_shape[-1]
        self.shift = self.add_weight(name="shift", shape=(channels,), initializer="zeros")

    def call(self, x):
        return x + self.shift


shift = Shift()
y = shift(np.zeros((1, 2, 2, 3), "float32"))
print("output", tuple(y.shape), " weights", [tuple(w.shape) for w in shift.trainable_weights])

# %% [markdown]
# Two habits are worth copying. A layer reads the number of channels from its input, so that it works
# anywhere. And it starts as the *identity*: adding 0 changes nothing, so that a new layer does
# not disturb a network before it has learned.
#
# ### Exercise 5 · A scaling layer (2 points)
#
# Write `Scale`, which *multiplies* each channel by a learned number and starts as the identity.
# Lesson 02 meets it again: batch normalisation is a normalisation, a scale and a shift.
#
# *What is tested:* one trainable weight with an entry for each channel, the start, and the
# output once the weight is set; on images (B, H, W, C) and on vectors (B, C).


# %% exercise="scale_layer" points=2
class Scale(keras.layers.Layer):
    """Multiplies each channel by a learned number: (B, …, C) → (B, …, C)."""

    def build(self, input_shape):
        ### BEGIN SOLUTION
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        return x * self.scale
        ### END SOLUTION


# %% check="scale_layer"
check("scale_layer", Scale)

# %% [markdown]
# ## Does the small network see anything?
#
# We train the small network on the training cells, at 32×32 pixels, and compare it with the
# baseline on the *validation* cells. (The test cells stay untouched until the end of the
# course.) Defective cells get a larger weight, so that both classes weigh equally in the loss,
# as they do in the balanced accuracy.

# %% tags=["experiment"]
options = {"image_size": 32, "channels": 1}
train = load("solar_cells", "train", batch_size=64, shuffle=True, augment=True, **options)
validation = load("solar_cells", "validation", batch_size=512, **options)
validation_cells = next(iter(validation))[0]  # all 328 in one batch
truth = labels("solar_cells", "validation")


def balanced(labels, predictions):
    """Return the mean of both recalls, as in exercise 1."""
    return np.mean([np.mean(predictions[labels == c] == c) for c in (0, 1)])


epochs, found = 6, {}
for seed in range(2):
    keras.utils.set_random_seed(seed)
    model = small_network(side=32)
    # The step size falls to 0 along half a cosine, so that the last steps settle.
    steps = keras.optimizers.schedules.CosineDecay(4e-3, epochs * len(train))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(steps), loss, jit_compile=False)
    # Made beforehand, the optimiser's own variables do not make Keras prepare the step twice.
    model.optimizer.build(model.trainable_variables)
    weights = {0: 0.5 / (1 - share), 1: 0.5 / share}
    model.fit(train, epochs=epochs, class_weight=weights, verbose=0)
    found[seed] = (model(validation_cells).numpy()[:, 0] > 0).astype(int)

# %% tags=["experiment", "nbval-ignore-output"]
print(f"{'on the validation cells':26}{'accuracy':>10}{'recall':>10}{'balanced':>10}")
rows = [("always 'functional'", 0 * truth)]
rows += [(f"small network, seed {seed}", answer) for seed, answer in found.items()]
for name, answer in rows:
    accuracy, recall = np.mean(answer == truth), np.mean(answer[truth == 1])
    print(f"{name:26}{accuracy:>10.1%}{recall:>10.1%}{balanced(truth, answer):>10.1%}")

# %% [markdown]
# Look at the rows side by side. Accuracy says that the network is hardly better than a constant, if
# at all; balanced accuracy says that it has learned to find defects. Look at the two seeds, too:
# same network, same data, another start. Their difference is the least that any comparison of
# two networks has to beat, which is why later experiments report several seeds.

# %% tags=["experiment"]
margins = [balanced(truth, answer) - 0.5 for answer in found.values()]
assert min(margins) > 0.05
print("better than any constant answer, with both seeds:", min(margins) > 0.05)

# %% [markdown]
# ## Exercise 6 · Design the first layer (2 points)
#
# You choose the first convolution of a network for square, one-channel pictures. Write
# `first_layer(side, max_macs, max_bytes)` that returns `(filters, kernel, stride)` so that, with
# padding `"same"`,
#
# - the layer needs at most `max_macs` multiply-adds, and its float32 output at most `max_bytes`,
# - the kernel is at least 3 and larger than the stride, so that the filters see edges and skip
#   no pixel,
# - the number of filters is a multiple of 8, and eight more would break a budget.
#
# Many answers are right. *What is tested:* three sizes with random budgets; in some the
# multiply-adds are scarce, in others the memory.


# %% exercise="first_layer" points=2
def first_layer(side, max_macs, max_bytes):
    """Return (filters, kernel, stride) of a first layer that uses its budgets up."""
    ### BEGIN SOLUTION
    kernel, stride = 3, 2
    positions = (-(-side // stride)) ** 2
    most = min(max_macs // (positions * kernel * kernel), max_bytes // (4 * positions))
    return most // 8 * 8, kernel, stride
    ### END SOLUTION


# %% check="first_layer"
check("first_layer", first_layer)

# %% [markdown]
# ## What to take away
#
# - Report a result beside its baseline, and balanced accuracy beside accuracy.
# - A convolution has three costs, and they live in different layers: activations early,
#   parameters late.
# - Multiply-adds = kernel elements × output positions. Everything else is small change.
# - A Keras layer is `build` and `call`; let it start as the identity where you can.
#
# **Where this is used.** Every published table of efficient networks lists these costs, and every
# deployment starts from them: classifiers on phones, the backbones of detectors in cars, the
# segmentation of fields from the air.
#
# ## Think about it
#
# <details><summary>1. The farm replaces its modules and only 1 % of the cells are defective. What does
# the baseline's accuracy become, and what its balanced accuracy?</summary>
#
# 99 % and still 50 %. Accuracy follows the mix of the data, balanced accuracy does not. Which one
# you optimise depends on what a missed defect costs.
# </details>
#
# <details><summary>2. You double the side of the input picture. What happens to the three costs of a
# convolution?</summary>
#
# Parameters stay the same, since a filter does not know how often it is used. Multiply-adds and activation
# memory become four times as large: twice in each direction.
# </details>
#
# <details><summary>3. Why is the time of a layer not its multiply-adds divided by the speed of the
# processor?</summary>
#
# The numbers have to reach the processor first. A layer with few multiply-adds for each number it
# reads waits for memory. Lessons 03 and 05 measure it.
# </details>
#
# ## References
#
# - S. Deitsch et al., *Automatic classification of defective photovoltaic module cells in
#   electroluminescence images*, arXiv:1807.02894: the dataset and its first results.
# - V. Dumoulin and F. Visin, *A guide to convolution arithmetic for deep learning*,
#   arXiv:1603.07285: output sizes, section 2.

# %% [markdown]
# ## Your points

# %%
progress()
