"""MobileNetV2: blocks that expand a narrow tensor, filter it while it is wide, and project it back.

MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381. `MobileNetV2` is the
network of its Table 2; two switches, `linear` and `shortcut`, build what its Figure 6 compares.
"""

import itertools

import keras

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ExpandedBlock,
    check_choice,
    check_positive,
    classifier,
    make_divisible,
)

# arXiv:1801.04381, Table 2, the rows between the first convolution and the last one.
MOBILENET_V2 = (
    # t: expansion, c: output channels, n: repeats, s: stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST, LAST = 32, 1280  # channels of the first and the last convolution

SHORTCUTS = ("bottlenecks", "expansions", "none")


@keras.saving.register_keras_serializable(PACKAGE)
class InvertedResidual(ExpandedBlock):
    """Expand, filter, project, and a shortcut between the narrow ends.

    `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`. A 1×1 convolution widens to t·C channels (none if t is
    1), a depthwise 3×3 one filters them, both with batch norm and ReLU6; a 1×1 convolution with
    batch norm alone projects to F. If s = 1 and C = F, the input is added.

    The kernels have t·C² + 9·t·C + t·C·F elements, the norms 2·(2·t·C + F). MACs =
    H·W·t·C² + ⌈H/s⌉·⌈W/s⌉·(9·t·C + t·C·F).

    Args:
        filters: output channels F.
        strides: s, of the depthwise convolution, in pixels.
        expansion: t, wide channels for each input channel.
        linear: False puts the activation after the projection as well.
        shortcut: False leaves the addition out.
        **kwargs: `activation`, `drop_rate`, `momentum`, `epsilon` and the like as in
            `utils.blocks.ExpandedBlock`. Inside the block the layers are named `expand`,
            `depthwise`, `project` and `add`.

    Raises:
        ValueError: if a number is out of its range; when built on anything but (B, H, W, C).

    Reference: arXiv:1801.04381, Table 1 and Figure 4d.

    >>> block = InvertedResidual(24, strides=2)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 16))).shape)
    (1, 5, 5, 24)
    >>> [layer.name for layer in block.body]
    ['expand', 'depthwise', 'project']
    """

    def __init__(self, filters, strides=1, expansion=6, *, linear=True, shortcut=True, **kwargs):
        super().__init__(filters, strides, expansion, **kwargs)
        self.linear = linear
        self.shortcut = shortcut

    def adds_input(self, channels):
        """Return whether the input is added, which `shortcut=False` forbids."""
        return self.shortcut and super().adds_input(channels)

    def steps(self, channels):
        """Expand unless `expansion` is 1, filter depthwise, project."""
        after = None if self.linear else self.activation
        return self.inverted_steps(channels, project_activation=after)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {**super().get_config(), "linear": self.linear, "shortcut": self.shortcut}


@keras.saving.register_keras_serializable(PACKAGE)
class ExpansionResidual(ExpandedBlock):
    """The same convolutions with the shortcut between wide ends: filter, project, expand.

    `(B, H, W, t·C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`. It has the last two convolutions of an
    `InvertedResidual` and the first of the next one, so that a chain of these blocks has the same
    layers in the same order as a chain of those, and as many shortcuts. Each takes and returns what
    stands before ReLU6, so that nothing lies in the path of the shortcut.

    The kernels have 9·t·C + t·C·N + N·F elements with N for `bottleneck`, each of which costs
    ⌈H/s⌉·⌈W/s⌉ MACs.

    Args:
        filters: output channels F: the wide channels of the next block.
        strides: s, of the depthwise convolution, in pixels.
        bottleneck: N, the narrow channels in the middle.
        linear: False puts the activation after the projection to `bottleneck` channels as well.
        **kwargs: `activation`, `momentum` and the like as in `utils.blocks.ExpandedBlock`. Inside
            the block the layers are named `activation`, `depthwise`, `project`, `expand`, `add`.

    Raises:
        ValueError: if a number is out of its range; when built on anything but (B, H, W, C).

    Reference: arXiv:1801.04381, Figure 3a and Figure 6b, which say where such a shortcut begins
    and ends, but nothing of activations.

    >>> block = ExpansionResidual(96, bottleneck=16)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 96))).shape), block.has_shortcut
    ((1, 9, 9, 96), True)
    """

    def __init__(self, filters, strides=1, *, bottleneck, linear=True, **kwargs):
        super().__init__(filters, strides, **kwargs)
        check_positive(bottleneck=bottleneck)
        self.bottleneck = bottleneck
        self.linear = linear

    def steps(self, channels):
        """Activate, filter depthwise, project, expand."""
        project = {"activation": None} if self.linear else {}
        return [
            keras.layers.Activation(self.activation, name="activation", dtype=self.dtype_policy),
            self.conv("depthwise", None, 3, self.strides, depthwise=True),
            self.conv("project", self.bottleneck, **project),
            self.conv("expand", self.filters, activation=None),
        ]

    def get_config(self):
        """Everything that `__init__` takes."""
        return {**super().get_config(), "bottleneck": self.bottleneck, "linear": self.linear}


def peak_bytes(height, width, channels, filters, strides=1, expansion=6):
    """Return the largest memory that an inverted residual has alive at once, float32, batch 1.

    Each convolution has its input and its output alive, and with a shortcut the block's input as
    well until it is added; batch norm and ReLU6 write in place. `utils.cost.count` finds the same.

    Args:
        height: of the block's input, in pixels.
        width: likewise.
        channels: C, of the block's input.
        filters: F, of its output.
        strides: s, of the depthwise convolution, in pixels.
        expansion: t, wide channels for each input channel.

    Returns:
        Bytes.

    Raises:
        ValueError: if an argument is not a positive integer.

    >>> from utils.cost import count
    >>> peak_bytes(14, 14, 64, 64) == count(InvertedResidual(64), (14, 14, 64)).peak_bytes
    True
    """
    check_positive(height=height, width=width, channels=channels, filters=filters)
    check_positive(strides=strides, expansion=expansion)
    before = height * width
    after = -(-height // strides) * -(-width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and channels == filters else 0
    steps = [after * (wide + filters) + kept]
    if expansion == 1:
        steps.append(before * channels + after * wide)
    else:
        steps += [before * (channels + wide), (before + after) * wide + kept]
    if kept:
        steps.append(3 * kept)  # the addition: both summands and the sum
    return 4 * max(steps)


def widths(alpha=1.0):
    """Return the channels of the first convolution, of the 17 blocks, and of the last convolution.

    Args:
        alpha: width multiplier; every width is rounded to a multiple of 8, and below 1 the last
            convolution keeps its own.

    Returns:
        A list of 19 channel counts.

    Raises:
        ValueError: if `alpha` is not positive.

    Reference: arXiv:1801.04381, Table 2 and section 6.1.

    >>> widths()[:4], widths(0.35)[:4], widths(0.35)[-2:]
    ([32, 16, 24, 24], [16, 8, 8, 8], [112, 1280])
    """
    if not alpha > 0:
        raise ValueError(f"alpha={alpha!r}: expected a positive number")
    channels = [FIRST, *(c for _, c, n, _ in MOBILENET_V2 for _ in range(n))]
    return [*(make_divisible(c * alpha) for c in channels), make_divisible(LAST * max(1, alpha))]


def MobileNetV2(
    input_shape=(224, 224, 3),
    classes=1000,
    alpha=1.0,
    include_top=True,
    *,
    classifier_activation="softmax",
    linear=True,
    shortcut="bottlenecks",
    momentum=0.99,
    name="mobilenet_v2",
):
    """Network of 17 inverted residuals: `(B, H, W, C) → (B, classes)`.

    A 3×3 convolution with stride 2, the blocks of `MOBILENET_V2`, a 1×1 convolution to 1280
    channels, global average pooling and a dense layer. With the weights of the network of
    `keras.applications` it returns the same values at every image size. Inputs are in [−1, 1].

    Args:
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        alpha: width multiplier: every layer but the classifier has `alpha` times the channels,
            rounded to a multiple of 8. Below 1 the last convolution keeps its 1280 channels.
        include_top: False leaves pooling and classifier out; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 1280)`.
        classifier_activation: of the last dense layer; None returns logits.
        linear: False puts ReLU6 after the projections as well.
        shortcut: "bottlenecks" (between the narrow tensors, the paper's choice), "expansions"
            (between the wide ones, with the same layers) or "none".
        momentum: batch norm's momentum. `keras.applications` has 0.999, which needs thousands of
            steps before the moving statistics are right; 0.99 needs hundreds.
        name: the model's name.

    Returns:
        A functional `keras.Model` with layers named `stem`, `stage1_block1` to `stage7_block1`,
        `head`, `avg_pool` and `predictions`.

    Raises:
        ValueError: for classes below 1, `alpha` not above 0, or an unknown `shortcut`.

    Reference: arXiv:1801.04381, Table 2; widths and resolutions: its section 6.1 and Table 4;
    `linear` and `shortcut`: its Figure 6.

    >>> MobileNetV2((96, 96, 3), classes=10, alpha=0.35, include_top=False).output_shape
    (None, 3, 3, 1280)
    """
    check_choice("shortcut", shortcut, SHORTCUTS)
    check_positive(classes=classes)
    first, *narrow, last = widths(alpha)
    rows = [
        (f"stage{stage}_block{position}", t, s if position == 1 else 1)
        for stage, (t, _, n, s) in enumerate(MOBILENET_V2, start=1)
        for position in range(1, n + 1)
    ]
    rows = [(*row, filters) for row, filters in zip(rows, narrow, strict=True)]

    inputs = keras.Input(input_shape)
    x = ConvBlock(first, 3, 2, activation="relu6", momentum=momentum, name="stem")(inputs)
    options = {"linear": linear, "momentum": momentum}
    if shortcut == "expansions":
        x = _expansion_chain(x, rows, options)
    else:
        options["shortcut"] = shortcut == "bottlenecks"
        for block, expansion, strides, filters in rows:
            x = InvertedResidual(filters, strides, expansion, name=block, **options)(x)
    x = ConvBlock(last, 1, activation="relu6", momentum=momentum, name="head")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=name)


def _expansion_chain(x, rows, options):
    """Apply the same layers as the inverted residuals, cut so that blocks begin and end wide."""
    (block, expansion, strides, filters), *rows = rows
    x = InvertedResidual(filters, strides, expansion, name=block, **options)(x)
    # The expansion of each block belongs to the block before it, and the first one to none.
    wide = rows[0][1] * filters
    x = ConvBlock(wide, 1, activation=None, momentum=options["momentum"], name="expand")(x)
    for (block, _, strides, narrow), following in itertools.pairwise(rows):
        wide = following[1] * narrow
        x = ExpansionResidual(wide, strides, bottleneck=narrow, name=block, **options)(x)
    # The last block ends narrow: an inverted residual whose input is wide already.
    block, _, strides, filters = rows[-1]
    x = keras.layers.Activation("relu6", name=f"{block}_activation")(x)
    return InvertedResidual(filters, strides, 1, shortcut=False, name=block, **options)(x)
