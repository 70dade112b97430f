"""MobileNetV3: inverted residual blocks that a search has chosen, each with its own activation.

Searching for MobileNetV3, arXiv:1905.02244. `LARGE` is its Table 1, `SMALL` its Table 2. What they
add to MobileNetV2: squeeze-and-excite, `hard_swish` in place of ReLU6 where it costs least, and an
end that pools before its widest layer.
"""

import keras
from keras import ops

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ExpandedBlock,
    SqueezeExcite,
    check_positive,
    classifier,
    make_divisible,
)

__all__ = [
    "LARGE",
    "SMALL",
    "MobileNetV3Block",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "SqueezeExcite",
    "hard_swish",
]

# arXiv:1905.02244, Table 1. The kernel is that of the depthwise convolution; NL is the
# non-linearity, ReLU or h-swish.
LARGE = (
    # kernel, exp size, out, SE, NL, s
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
)

# arXiv:1905.02244, Table 2.
SMALL = (
    # kernel, exp size, out, SE, NL, s
    (3, 16, 16, True, "RE", 2),
    (3, 72, 24, False, "RE", 2),
    (3, 88, 24, False, "RE", 1),
    (5, 96, 40, True, "HS", 2),
    (5, 240, 40, True, "HS", 1),
    (5, 240, 40, True, "HS", 1),
    (5, 120, 48, True, "HS", 1),
    (5, 144, 48, True, "HS", 1),
    (5, 288, 96, True, "HS", 2),
    (5, 576, 96, True, "HS", 1),
    (5, 576, 96, True, "HS", 1),
)

STEM_FILTERS = 16  # at every width
LARGE_HEAD, SMALL_HEAD = 1280, 1024  # channels after the pooling


@keras.saving.register_keras_serializable(PACKAGE)
def hard_swish(x):
    """Return x · ReLU6(x + 3) / 6, swish with its sigmoid drawn in straight lines.

    0 up to −3, x from 3 on, and in between at most .1423 away from swish, x / (1 + e^−x).

    Args:
        x: a tensor of any shape.

    Returns:
        A tensor of the same shape.

    Reference: arXiv:1905.02244, section 5.2.

    >>> hard_swish(keras.ops.array([-1.5, 0.0, 1.5, 3.0])).numpy().tolist()
    [-0.375, 0.0, 1.125, 3.0]
    """
    return x * ops.relu6(x + 3) / 6


# The functions behind the tables' abbreviations.
NON_LINEARITIES = {"RE": keras.activations.relu, "HS": hard_swish}


@keras.saving.register_keras_serializable(PACKAGE)
class MobileNetV3Block(ExpandedBlock):
    """Expand, filter, weigh the channels, project: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    A 1×1 convolution to E = C · `expansion` channels, left out if `expansion` is 1; a k×k depthwise
    convolution with stride s; squeeze-and-excite, if `squeeze_ratio` is not 0, with Q = E ·
    `squeeze_ratio` channels in its middle; a 1×1 convolution to F channels without activation; and
    the input added, if s = 1 and C = F. Kernels: C·E at H·W positions, k²·E + E·F at
    ⌈H/s⌉·⌈W/s⌉ and 2·E·Q at one. Besides, 4·E + 2·F norm parameters and E + Q biases.

    Args:
        filters: F.
        strides: s, of the depthwise convolution, in pixels.
        expansion: E / C, before rounding.
        kernel_size: k, the side of the depthwise kernel in pixels.
        squeeze_ratio: Q / E, before rounding; 0 leaves squeeze-and-excite out.
        activation: after the expansion and the depthwise convolution, as for `ConvBlock`.
        expand_divisor: round E and Q to a multiple of this by `make_divisible`.
        **kwargs: `drop_rate`, `momentum` and `epsilon` as for `ExpandedBlock`; `name`, `dtype` and
            what else `keras.layers.Layer` takes. Inside, the layers are named `expand`,
            `depthwise`, `squeeze_excite`, `project` and `add`.

    Raises:
        ValueError: if a number is out of its range; when built on anything but (B, H, W, C).

    Reference: arXiv:1905.02244, Figure 4.

    >>> block = MobileNetV3Block(24, strides=2, expansion=4, squeeze_ratio=0.25)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 16))).shape), [layer.name for layer in block.body]
    ((1, 5, 5, 24), ['expand', 'depthwise', 'squeeze_excite', 'project'])
    """

    def __init__(
        self,
        filters,
        strides=1,
        expansion=6,
        *,
        kernel_size=3,
        squeeze_ratio=0.0,
        activation=hard_swish,
        expand_divisor=8,
        **kwargs,
    ):
        super().__init__(
            filters,
            strides,
            expansion,
            activation=activation,
            expand_divisor=expand_divisor,
            **kwargs,
        )
        check_positive(kernel_size=kernel_size)
        if not 0 <= squeeze_ratio <= 1:
            raise ValueError(f"squeeze_ratio={squeeze_ratio!r}: expected a number from 0 to 1")
        self.kernel_size = kernel_size
        self.squeeze_ratio = squeeze_ratio

    def steps(self, channels):
        """Return the block's layers for an input of so many channels."""
        squeeze = []
        if self.squeeze_ratio:
            expanded = channels if self.expansion == 1 else self.expanded(channels)
            squeezed = make_divisible(expanded * self.squeeze_ratio, self.expand_divisor)
            squeeze = [SqueezeExcite(squeezed, name="squeeze_excite", dtype=self.dtype_policy)]
        return self.inverted_steps(channels, self.kernel_size, squeeze)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "squeeze_ratio": self.squeeze_ratio,
        }


def _mobilenet_v3(
    rows,
    head_filters,
    input_shape,
    classes,
    alpha,
    *,
    minimalistic,
    include_top,
    classifier_activation,
    include_preprocessing,
    dropout,
    momentum,
    name,
):
    check_positive(classes=classes)
    if not alpha > 0:
        raise ValueError(f"alpha={alpha!r}: expected a positive number")
    last_activation = NON_LINEARITIES["RE" if minimalistic else "HS"]
    inputs = keras.Input(input_shape)
    x = inputs
    if include_preprocessing:
        x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(x)
    x = ConvBlock(
        STEM_FILTERS, 3, strides=2, activation=last_activation, momentum=momentum, name="stem"
    )(x)
    stage, position, before = 1, 0, STEM_FILTERS
    for kernel_size, exp_size, out, squeeze, non_linearity, strides in rows:
        if strides > 1:
            stage, position = stage + 1, 0
        position += 1
        x = MobileNetV3Block(
            make_divisible(out * alpha),
            strides,
            exp_size / before,
            kernel_size=3 if minimalistic else kernel_size,
            squeeze_ratio=0.25 if squeeze and not minimalistic else 0,
            activation=NON_LINEARITIES["RE" if minimalistic else non_linearity],
            momentum=momentum,
            name=f"stage{stage}_block{position}",
        )(x)
        before = out
    x = ConvBlock(
        make_divisible(6 * x.shape[-1]),
        1,
        activation=last_activation,
        momentum=momentum,
        name="last_conv",
    )(x)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
        # After the pooling there is one position: the widest layer costs little here.
        filters = make_divisible(head_filters * max(1, alpha))
        x = ConvBlock(filters, 1, norm=False, activation=last_activation, name="head")(x)
        x = classifier(x, classes, classifier_activation, dropout)
    return keras.Model(inputs, x, name=name)


def MobileNetV3Large(
    input_shape=(224, 224, 3),
    classes=1000,
    alpha=1.0,
    *,
    minimalistic=False,
    include_top=True,
    classifier_activation="softmax",
    include_preprocessing=False,
    dropout=0.2,
    momentum=0.99,
    name=None,
):
    """MobileNetV3-Large: `(B, H, W, C) → (B, classes)`.

    A 3×3 convolution with stride 2, the 15 blocks of Table 1, a 1×1 convolution to six times their
    channels, pooling, a layer of 1280 channels without batch norm, and a dense layer. At
    224×224×3 with 1000 classes it has 5,483,032 parameters and 216,589,760 MACs. The outputs equal
    those of `keras.applications` at every image size.

    Args:
        input_shape: `(H, W, C)`; H and W may be None. Pixels are in [−1, 1].
        classes: number of classes.
        alpha: width multiplier of the blocks' input and output channels. The first convolution
            keeps its 16 filters, and the layer after the pooling grows with alpha above 1 only.
        minimalistic: leave out what some devices do slowly: 3×3 kernels, ReLU, no
            squeeze-and-excite.
        include_top: False leaves out pooling and what follows it; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 960)` at alpha 1.
        classifier_activation: of the last dense layer; None returns logits.
        include_preprocessing: start with the layer that takes pixels from [0, 255] to [−1, 1].
        dropout: share of the channels that training drops before the last layer.
        momentum: batch norm's momentum.
        name: the model's name; None for "mobilenet_v3_large".

    Returns:
        A functional `keras.Model`. The blocks are named `stage1_block1` to `stage5_block3`; a new
        stage starts where the sides are halved.

    Raises:
        ValueError: if `alpha` is not positive, or `classes` not a positive integer.

    Reference: arXiv:1905.02244, Table 1.

    >>> MobileNetV3Large((96, 96, 1), classes=2, alpha=0.5, include_top=False).output_shape
    (None, 3, 3, 480)
    """
    return _mobilenet_v3(
        LARGE,
        LARGE_HEAD,
        input_shape,
        classes,
        alpha,
        minimalistic=minimalistic,
        include_top=include_top,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        dropout=dropout,
        momentum=momentum,
        name=name or "mobilenet_v3_large",
    )


def MobileNetV3Small(
    input_shape=(224, 224, 3),
    classes=1000,
    alpha=1.0,
    *,
    minimalistic=False,
    include_top=True,
    classifier_activation="softmax",
    include_preprocessing=False,
    dropout=0.2,
    momentum=0.99,
    name=None,
):
    """MobileNetV3-Small: `(B, H, W, C) → (B, classes)`.

    As `MobileNetV3Large`, with the 11 blocks of Table 2 and 1024 channels after the pooling. At
    224×224×3 with 1000 classes it has 2,542,856 parameters and 56,510,400 MACs.

    Args:
        input_shape: `(H, W, C)`; H and W may be None. Pixels are in [−1, 1].
        classes: number of classes.
        alpha: width multiplier, as for `MobileNetV3Large`.
        minimalistic: 3×3 kernels, ReLU, no squeeze-and-excite.
        include_top: False leaves out pooling and what follows it; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 576)` at alpha 1.
        classifier_activation: of the last dense layer; None returns logits.
        include_preprocessing: start with the layer that takes pixels from [0, 255] to [−1, 1].
        dropout: share of the channels that training drops before the last layer.
        momentum: batch norm's momentum.
        name: the model's name; None for "mobilenet_v3_small".

    Returns:
        A functional `keras.Model`, its blocks named `stage2_block1` to `stage5_block3`.

    Raises:
        ValueError: if `alpha` is not positive, or `classes` not a positive integer.

    Reference: arXiv:1905.02244, Table 2.

    >>> MobileNetV3Small((96, 96, 1), classes=2, alpha=0.5, minimalistic=True).output_shape
    (None, 2)
    """
    return _mobilenet_v3(
        SMALL,
        SMALL_HEAD,
        input_shape,
        classes,
        alpha,
        minimalistic=minimalistic,
        include_top=include_top,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        dropout=dropout,
        momentum=momentum,
        name=name or "mobilenet_v3_small",
    )
