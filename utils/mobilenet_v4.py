"""MobileNetV4: one block, the universal inverted bottleneck, that contains four others.

MobileNetV4, arXiv:2404.10518. `CONV_SMALL`, `CONV_MEDIUM` and `CONV_LARGE` are the convolutional
networks of its Table 6, row by row as timm 1.0.31 builds them (timm/models/mobilenetv3.py), whose
counts ours equal layer by layer. Those of the paper's table part from them for Medium and Large.
"""

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

# A kernel of None stands for a depthwise convolution that is not there. A "conv" has one kernel
# and expands nothing.
CONV_SMALL = (
    # block, first kernel, middle kernel, expanded, out, s
    ("conv", 3, None, None, 32, 2),
    ("conv", 1, None, None, 32, 1),
    ("conv", 3, None, None, 96, 2),
    ("conv", 1, None, None, 64, 1),
    ("uib", 5, 5, 192, 96, 2),
    ("uib", None, 3, 192, 96, 1),
    ("uib", None, 3, 192, 96, 1),
    ("uib", None, 3, 192, 96, 1),
    ("uib", None, 3, 192, 96, 1),
    ("uib", 3, None, 384, 96, 1),
    ("uib", 3, 3, 576, 128, 2),
    ("uib", 5, 5, 512, 128, 1),
    ("uib", None, 5, 512, 128, 1),
    ("uib", None, 5, 384, 128, 1),
    ("uib", None, 3, 512, 128, 1),
    ("uib", None, 3, 512, 128, 1),
    ("conv", 1, None, None, 960, 1),
)

CONV_MEDIUM = (
    # block, first kernel, middle kernel, expanded, out, s
    ("fused", 3, None, 128, 48, 2),
    ("uib", 3, 5, 192, 80, 2),
    ("uib", 3, 3, 160, 80, 1),
    ("uib", 3, 5, 480, 160, 2),
    ("uib", 3, 3, 640, 160, 1),
    ("uib", 3, 3, 640, 160, 1),
    ("uib", 3, 5, 640, 160, 1),
    ("uib", 3, 3, 640, 160, 1),
    ("uib", 3, None, 640, 160, 1),
    ("uib", None, None, 320, 160, 1),
    ("uib", 3, None, 640, 160, 1),
    ("uib", 5, 5, 960, 256, 2),
    ("uib", 5, 5, 1024, 256, 1),
    ("uib", 3, 5, 1024, 256, 1),
    ("uib", 3, 5, 1024, 256, 1),
    ("uib", None, None, 1024, 256, 1),
    ("uib", 3, None, 1024, 256, 1),
    ("uib", 3, 5, 512, 256, 1),
    ("uib", 5, 5, 1024, 256, 1),
    ("uib", None, None, 1024, 256, 1),
    ("uib", None, None, 1024, 256, 1),
    ("uib", 5, None, 512, 256, 1),
    ("conv", 1, None, None, 960, 1),
)

CONV_LARGE = (
    # block, first kernel, middle kernel, expanded, out, s
    ("fused", 3, None, 96, 48, 2),
    ("uib", 3, 5, 192, 96, 2),
    ("uib", 3, 3, 384, 96, 1),
    ("uib", 3, 5, 384, 192, 2),
    ("uib", 3, 3, 768, 192, 1),
    ("uib", 3, 3, 768, 192, 1),
    ("uib", 3, 3, 768, 192, 1),
    ("uib", 3, 5, 768, 192, 1),
    ("uib", 5, 3, 768, 192, 1),
    ("uib", 5, 3, 768, 192, 1),
    ("uib", 5, 3, 768, 192, 1),
    ("uib", 5, 3, 768, 192, 1),
    ("uib", 5, 3, 768, 192, 1),
    ("uib", 3, None, 768, 192, 1),
    ("uib", 5, 5, 768, 512, 2),
    ("uib", 5, 5, 2048, 512, 1),
    ("uib", 5, 5, 2048, 512, 1),
    ("uib", 5, 5, 2048, 512, 1),
    ("uib", 5, None, 2048, 512, 1),
    ("uib", 5, 3, 2048, 512, 1),
    ("uib", 5, None, 2048, 512, 1),
    ("uib", 5, None, 2048, 512, 1),
    ("uib", 5, 3, 2048, 512, 1),
    ("uib", 5, 5, 2048, 512, 1),
    ("uib", 5, None, 2048, 512, 1),
    ("uib", 5, None, 2048, 512, 1),
    ("uib", 5, None, 2048, 512, 1),
    ("conv", 1, None, None, 960, 1),
)

FORMS = {
    # (a first depthwise convolution, a middle one): the block that remains
    (False, True): "inverted bottleneck",
    (True, False): "ConvNeXt",
    (True, True): "extra depthwise",
    (False, False): "feed-forward network",
}

HEAD_FILTERS = 1280  # at every width


@keras.saving.register_keras_serializable(PACKAGE)
class UniversalInvertedBottleneck(ExpandedBlock):
    """Two 1×1 convolutions and up to two depthwise: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    A k₁×k₁ depthwise convolution on the C channels, without activation; a 1×1 convolution to
    E = C · `expansion`; a k₂×k₂ depthwise convolution on them; a 1×1 convolution to F channels,
    without activation; and the input added, if s = 1 and C = F. The depthwise convolutions may be
    left out: `form` says what then remains. The last one that is there has the stride. Kernels:
    k₁²·C + C·E + k₂²·E + E·F, each at the positions that its convolution writes; norm parameters:
    2·C (with k₁) + 2·E + 2·E (with k₂) + 2·F; no biases.

    Args:
        filters: F.
        strides: s, in pixels, along both axes.
        expansion: E / C, before rounding.
        first_kernel: k₁, the side of the first depthwise kernel in pixels; None leaves it out.
        middle_kernel: k₂, that of the middle one; None leaves it out.
        padding: "same" or, as timm pads, "symmetric"; see `ConvBlock`.
        activation: after the expansion and the middle convolution, as for `ConvBlock`.
        expand_divisor: round E to a multiple of this by `make_divisible`.
        **kwargs: `drop_rate`, `momentum` and `epsilon` as for `ExpandedBlock`; `name`, `dtype` and
            what else `keras.layers.Layer` takes. Inside, the layers are named `first_depthwise`,
            `expand`, `middle_depthwise`, `project` and `add`.

    Raises:
        ValueError: if a number is out of its range, `padding` is unknown, or there is a stride and
            no depthwise convolution to take it; when built on anything but (B, H, W, C).

    Reference: arXiv:2404.10518, Figure 4.

    >>> block = UniversalInvertedBottleneck(24, 2, first_kernel=3, middle_kernel=5)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 16))).shape), block.form
    ((1, 5, 5, 24), 'extra depthwise')
    >>> UniversalInvertedBottleneck(16, first_kernel=3, middle_kernel=None).form
    'ConvNeXt'
    """

    def __init__(
        self,
        filters,
        strides=1,
        expansion=4,
        *,
        first_kernel=None,
        middle_kernel=3,
        padding="same",
        activation="relu",
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
        if first_kernel is not None:
            check_positive(first_kernel=first_kernel)
        if middle_kernel is not None:
            check_positive(middle_kernel=middle_kernel)
        check_choice("padding", padding, ("same", "symmetric"))
        if strides > 1 and first_kernel is None and middle_kernel is None:
            raise ValueError(
                f"strides={strides}: expected 1 where first_kernel and middle_kernel are None"
            )
        self.first_kernel = first_kernel
        self.middle_kernel = middle_kernel
        self.padding = padding

    @property
    def form(self):
        """What the block is with these depthwise convolutions, one of `FORMS`."""
        return FORMS[self.first_kernel is not None, self.middle_kernel is not None]

    def steps(self, channels):
        """Return the block's layers for an input of so many channels."""
        first_strides = 1 if self.middle_kernel else self.strides
        layers = []
        if self.first_kernel:
            layers.append(
                self._depthwise(
                    "first_depthwise", self.first_kernel, first_strides, activation=None
                )
            )
        layers.append(self.conv("expand", self.expanded(channels)))
        if self.middle_kernel:
            layers.append(self._depthwise("middle_depthwise", self.middle_kernel, self.strides))
        layers.append(self.conv("project", self.filters, activation=None))
        return layers

    def _depthwise(self, name, kernel_size, strides, **options):
        return self.conv(
            name, None, kernel_size, strides, depthwise=True, padding=self.padding, **options
        )

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "first_kernel": self.first_kernel,
            "middle_kernel": self.middle_kernel,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class FusedInvertedBottleneck(ExpandedBlock):
    """A k×k convolution that expands, and a 1×1: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    The full convolution to E = C · `expansion` channels stands for the expansion and the depthwise
    convolution of an inverted bottleneck; then a 1×1 convolution to F channels, without
    activation; and the input added, if s = 1 and C = F. Kernels: k²·C·E + E·F, at ⌈H/s⌉·⌈W/s⌉
    positions each; 2·E + 2·F norm parameters.

    Args:
        filters: F.
        strides: s, of the first convolution, in pixels.
        expansion: E / C, before rounding.
        kernel_size: k, in pixels.
        padding: "same" or, as timm pads, "symmetric"; see `ConvBlock`.
        activation: after the first convolution, as for `ConvBlock`.
        expand_divisor: round E to a multiple of this by `make_divisible`.
        **kwargs: as for `UniversalInvertedBottleneck`. Inside, the layers are named `expand`,
            `project` and `add`.

    Raises:
        ValueError: if a number is out of its range or `padding` unknown; when built on anything but
            (B, H, W, C).

    Reference: arXiv:2404.10518, section 3.

    >>> block = FusedInvertedBottleneck(48, strides=2)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 32))).shape)
    (1, 5, 5, 48)
    """

    def __init__(
        self,
        filters,
        strides=1,
        expansion=4,
        *,
        kernel_size=3,
        padding="same",
        activation="relu",
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
        check_choice("padding", padding, ("same", "symmetric"))
        self.kernel_size = kernel_size
        self.padding = padding

    def steps(self, channels):
        """Return the block's layers for an input of so many channels."""
        expanded = self.expanded(channels)
        return [
            self.conv("expand", expanded, self.kernel_size, self.strides, padding=self.padding),
            self.conv("project", self.filters, activation=None),
        ]

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "padding": self.padding,
        }


def _mobilenet_v4(
    rows,
    stem_filters,
    input_shape,
    classes,
    alpha,
    *,
    include_top,
    classifier_activation,
    padding,
    dropout,
    momentum,
    name,
):
    check_positive(classes=classes)
    if not alpha > 0:
        raise ValueError(f"alpha={alpha!r}: expected a positive number")
    options = {"momentum": momentum, "padding": padding}
    inputs = keras.Input(input_shape)
    filters = stem_filters if alpha < 1 else make_divisible(stem_filters * alpha)
    x = ConvBlock(filters, 3, strides=2, name="stem", **options)(inputs)
    stage, position, before = 1, 0, stem_filters
    for kind, first_kernel, middle_kernel, expanded, out, strides in rows:
        if strides > 1:
            stage, position = stage + 1, 0
        position += 1
        filters = make_divisible(out * alpha)
        block_name = f"stage{stage}_block{position}"
        if kind == "conv":
            block = ConvBlock(filters, first_kernel, strides, name=block_name, **options)
        elif kind == "fused":
            block = FusedInvertedBottleneck(
                filters,
                strides,
                expanded / before,
                kernel_size=first_kernel,
                name=block_name,
                **options,
            )
        else:
            block = UniversalInvertedBottleneck(
                filters,
                strides,
                expanded / before,
                first_kernel=first_kernel,
                middle_kernel=middle_kernel,
                name=block_name,
                **options,
            )
        x = block(x)
        before = out
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
        # After the pooling there is one position: the widest layer costs little here.
        x = ConvBlock(HEAD_FILTERS, 1, momentum=momentum, name="head")(x)
        x = classifier(x, classes, classifier_activation, dropout)
    return keras.Model(inputs, x, name=name)


def MobileNetV4ConvSmall(
    input_shape=(224, 224, 3),
    classes=1000,
    alpha=1.0,
    *,
    include_top=True,
    classifier_activation="softmax",
    padding="same",
    dropout=0.2,
    momentum=0.99,
    name=None,
):
    """MobileNetV4-Conv-Small: `(B, H, W, C) → (B, classes)`.

    A 3×3 convolution with stride 2, the rows of `CONV_SMALL`, pooling, a layer of 1280 channels,
    and a dense layer; each convolution with batch norm. At 224×224×3 with 1000 classes it has
    3,774,024 parameters and 186,005,568 MACs.

    Args:
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        alpha: width multiplier of the rows. Below 1 the first convolution keeps its filters; the
            layer after the pooling always does.
        include_top: False leaves out pooling and what follows it; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 960)` at alpha 1.
        classifier_activation: of the last dense layer; None returns logits.
        padding: "same" or, with weights of timm, "symmetric"; see `ConvBlock`.
        dropout: share of the channels that training drops before the last layer.
        momentum: batch norm's momentum.
        name: the model's name; None for "mobilenet_v4_conv_small".

    Returns:
        A functional `keras.Model`. The rows are named `stage2_block1` to `stage5_block7`; a new
        stage starts where the sides are halved.

    Raises:
        ValueError: if `alpha` is not positive, `classes` not a positive integer, or `padding`
            unknown.

    Reference: arXiv:2404.10518, Table 6.

    >>> MobileNetV4ConvSmall((96, 96, 1), 2, alpha=0.5, include_top=False).output_shape
    (None, 3, 3, 480)
    """
    return _mobilenet_v4(
        CONV_SMALL,
        32,
        input_shape,
        classes,
        alpha,
        include_top=include_top,
        classifier_activation=classifier_activation,
        padding=padding,
        dropout=dropout,
        momentum=momentum,
        name=name or "mobilenet_v4_conv_small",
    )


def MobileNetV4ConvMedium(
    input_shape=(256, 256, 3),
    classes=1000,
    alpha=1.0,
    *,
    include_top=True,
    classifier_activation="softmax",
    padding="same",
    dropout=0.2,
    momentum=0.99,
    name=None,
):
    """MobileNetV4-Conv-Medium: `(B, H, W, C) → (B, classes)`.

    As `MobileNetV4ConvSmall`, with the rows of `CONV_MEDIUM`. At 256×256×3 with 1000 classes it has
    9,715,512 parameters and 1,080,244,224 MACs, as timm's; the paper prints 9.2M and 1.0G.

    Args:
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        alpha: width multiplier, as for `MobileNetV4ConvSmall`.
        include_top: False leaves out pooling and what follows it.
        classifier_activation: of the last dense layer; None returns logits.
        padding: "same" or "symmetric".
        dropout: share of the channels that training drops before the last layer.
        momentum: batch norm's momentum.
        name: the model's name; None for "mobilenet_v4_conv_medium".

    Returns:
        A functional `keras.Model`, its rows named `stage2_block1` to `stage5_block12`.

    Raises:
        ValueError: as for `MobileNetV4ConvSmall`.

    Reference: arXiv:2404.10518, Table 6.

    >>> MobileNetV4ConvMedium((64, 64, 3), 10, alpha=0.25).output_shape
    (None, 10)
    """
    return _mobilenet_v4(
        CONV_MEDIUM,
        32,
        input_shape,
        classes,
        alpha,
        include_top=include_top,
        classifier_activation=classifier_activation,
        padding=padding,
        dropout=dropout,
        momentum=momentum,
        name=name or "mobilenet_v4_conv_medium",
    )


def MobileNetV4ConvLarge(
    input_shape=(384, 384, 3),
    classes=1000,
    alpha=1.0,
    *,
    include_top=True,
    classifier_activation="softmax",
    padding="same",
    dropout=0.2,
    momentum=0.99,
    name=None,
):
    """MobileNetV4-Conv-Large: `(B, H, W, C) → (B, classes)`.

    As `MobileNetV4ConvSmall`, with the rows of `CONV_LARGE`. At 384×384×3 with 1000 classes it has
    32,590,864 parameters and 6,376,220,672 MACs, as timm's; the paper prints 31M and 5.9G.

    Args:
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        alpha: width multiplier, as for `MobileNetV4ConvSmall`.
        include_top: False leaves out pooling and what follows it.
        classifier_activation: of the last dense layer; None returns logits.
        padding: "same" or "symmetric".
        dropout: share of the channels that training drops before the last layer.
        momentum: batch norm's momentum.
        name: the model's name; None for "mobilenet_v4_conv_large".

    Returns:
        A functional `keras.Model`, its rows named `stage2_block1` to `stage5_block14`.

    Raises:
        ValueError: as for `MobileNetV4ConvSmall`.

    Reference: arXiv:2404.10518, Table 6.

    >>> MobileNetV4ConvLarge((64, 64, 3), 10, alpha=0.25).output_shape
    (None, 10)
    """
    return _mobilenet_v4(
        CONV_LARGE,
        24,
        input_shape,
        classes,
        alpha,
        include_top=include_top,
        classifier_activation=classifier_activation,
        padding=padding,
        dropout=dropout,
        momentum=momentum,
        name=name or "mobilenet_v4_conv_large",
    )
