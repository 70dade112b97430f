"""Residual networks: blocks that add their input to their output, and the ResNets made of them.

Deep Residual Learning for Image Recognition, arXiv:1512.03385. `ResNet18` … `ResNet152` are the
networks of its Table 1, `ResNetCIFAR` those of its section 4.2. With `residual=False` each becomes
its plain twin: the same layers without the shortcuts.
"""

import keras
from keras import ops

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ImageLayer,
    check_choice,
    check_image_shape,
    check_positive,
    classifier,
)

# arXiv:1512.03385, Table 1. Basic blocks have two 3×3 convolutions, bottlenecks 1×1, 3×3, 1×1.
RESNET = {
    # depth: block, how many in conv2_x, conv3_x, conv4_x, conv5_x
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}

SHORTCUTS = ("identity", "projection", "zero_pad")

# What keras.applications adds to the variance; the original code has 1e-5.
EPSILON = 1.001e-5


@keras.saving.register_keras_serializable(PACKAGE)
class ZeroPadShortcut(ImageLayer):
    """Shortcut without parameters: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    It keeps every s-th pixel and appends F − C channels of zeros.

    Args:
        filters: output channels F, at least C.
        strides: s, in pixels, along both axes.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: if a number is not a positive integer; when built on anything but (B, H, W, C),
            or on more than F channels.

    Reference: arXiv:1512.03385, option A of section 4.1.

    >>> x = keras.ops.reshape(keras.ops.arange(1.0, 5.0), (1, 2, 2, 1))
    >>> ZeroPadShortcut(3, strides=2)(x).numpy().tolist()
    [[[[1.0, 0.0, 0.0]]]]
    """

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        check_positive(filters=filters, strides=strides)
        self.filters = filters
        self.strides = strides

    def build(self, input_shape):
        """Check that no channel would have to go; there are no weights."""
        check_image_shape(input_shape)
        if input_shape[-1] > self.filters:
            raise ValueError(
                f"filters={self.filters}: expected at least the input's {input_shape[-1]} channels "
                "where the shortcut pads with zeros"
            )

    def call(self, inputs):
        """Subsample, then pad the channels."""
        inputs = inputs[:, :: self.strides, :: self.strides, :]
        return ops.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, self.filters - inputs.shape[-1])))

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`."""
        check_image_shape(input_shape)
        batch, height, width, _ = input_shape
        return (batch, _strided(height, self.strides), _strided(width, self.strides), self.filters)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def _strided(size, strides):
    return None if size is None else -(-size // strides)


class _ShortcutBlock(ImageLayer):
    """What both blocks share: the shortcut, the addition, and the ReLU that follows it."""

    expansion = 1  # output channels for each of `filters`

    def __init__(
        self,
        filters,
        strides=1,
        shortcut="identity",
        residual=True,
        *,
        momentum=0.99,
        zero_init_gamma=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(filters=filters, strides=strides)
        check_choice("shortcut", shortcut, SHORTCUTS)
        self.filters = filters
        self.strides = strides
        self.shortcut = shortcut
        self.residual = residual
        self.momentum = momentum
        self.zero_init_gamma = zero_init_gamma

        self.resize = None
        if residual and shortcut == "projection":
            self.resize = self._conv_block(
                "shortcut", filters * self.expansion, 1, strides, activation=None
            )
        elif residual and shortcut == "zero_pad":
            self.resize = ZeroPadShortcut(
                filters * self.expansion, strides, name="shortcut", dtype=self.dtype_policy
            )
        self.add = None
        if residual:
            self.add = keras.layers.Add(name="add", dtype=self.dtype_policy)
        self.relu = keras.layers.ReLU(name="relu", dtype=self.dtype_policy)

    def _conv_block(self, name, filters, kernel_size, strides=1, **options):
        return ConvBlock(
            filters,
            kernel_size,
            strides,
            padding="symmetric",
            momentum=self.momentum,
            epsilon=EPSILON,
            name=name,
            dtype=self.dtype_policy,
            **options,
        )

    def build(self, input_shape):
        """Create the weights of the convolutions and of the shortcut."""
        check_image_shape(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        changed = self.strides > 1 or input_shape[-1] != output_shape[-1]
        if self.residual and self.shortcut == "identity" and changed:
            raise ValueError(
                "shortcut='identity': expected 'projection' or 'zero_pad' where the block turns "
                f"{tuple(input_shape[1:])} into {output_shape[1:]}"
            )
        shape = input_shape
        for conv in self.convs:
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
        if self.resize is not None:
            self.resize.build(input_shape)
        if self.residual:
            self.add.build([output_shape, output_shape])
        self.relu.build(output_shape)

    def call(self, inputs):
        """Convolutions, plus the shortcut, then ReLU."""
        outputs = inputs
        for conv in self.convs:
            outputs = conv(outputs)
        if self.residual:
            shortcut = inputs if self.resize is None else self.resize(inputs)
            outputs = self.add([shortcut, outputs])
        return self.relu(outputs)

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, filters · expansion)`."""
        check_image_shape(input_shape)
        batch, height, width, _ = input_shape
        filters = self.filters * self.expansion
        return (batch, _strided(height, self.strides), _strided(width, self.strides), filters)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "shortcut": self.shortcut,
            "residual": self.residual,
            "momentum": self.momentum,
            "zero_init_gamma": self.zero_init_gamma,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class ResidualBlock(_ShortcutBlock):
    """Two 3×3 convolutions and a shortcut past them: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    The output is relu(shortcut(x) + conv2(conv1(x))): the addition comes before the last ReLU. The
    kernels have 9·C·F + 9·F·F elements (and C·F with a projection), each of which costs
    ⌈H/s⌉·⌈W/s⌉ MACs; each convolution has a batch norm of 2·F parameters.

    Args:
        filters: output channels F.
        strides: s, the stride of the first convolution and of the shortcut, in pixels.
        shortcut: "identity" (the shape must not change), "projection" (a learned 1×1 convolution
            with batch norm) or "zero_pad" (`ZeroPadShortcut`, no parameters).
        residual: False leaves shortcut and addition out; what remains is the plain block.
        momentum: batch norm's momentum.
        zero_init_gamma: start the last batch norm's gamma at 0: the block starts as the shortcut.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: if a number is not a positive integer or `shortcut` unknown; when built on
            anything but (B, H, W, C), or on an input that the shortcut cannot be added to.

    Reference: arXiv:1512.03385, Figure 2 and Figure 5 (left).

    >>> block = ResidualBlock(32, strides=2, shortcut="projection")
    >>> tuple(block(keras.ops.ones((1, 9, 9, 16))).shape)
    (1, 5, 5, 32)
    """

    def __init__(self, filters, strides=1, shortcut="identity", residual=True, **kwargs):
        super().__init__(filters, strides, shortcut, residual, **kwargs)
        self.convs = [
            self._conv_block("conv1", filters, 3, strides),
            self._conv_block(
                "conv2", filters, 3, activation=None, zero_init_gamma=self.zero_init_gamma
            ),
        ]


@keras.saving.register_keras_serializable(PACKAGE)
class BottleneckBlock(_ShortcutBlock):
    """1×1, 3×3, 1×1 convolution and a shortcut: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, 4·F)`.

    The first 1×1 reduces the channels to F, the last one restores them to 4·F. The kernels have
    C·F + 9·F·F + 4·F·F elements (and 4·C·F with a projection), each of which costs ⌈H/s⌉·⌈W/s⌉
    MACs; only with `stride_in="3x3"` the first 1×1 still sees all H·W positions.

    Args:
        filters: F, a quarter of the output channels.
        strides: s, the stride of the block, in pixels.
        shortcut: as in `ResidualBlock`.
        residual: as in `ResidualBlock`.
        stride_in: the convolution that has the stride: "1x1", the first one (the paper and
            `keras.applications`), or "3x3" (known as v1.5; more MACs, no pixel unseen).
        **kwargs: `momentum` and `zero_init_gamma` as in `ResidualBlock`; `name`, `dtype` and what
            else `keras.layers.Layer` takes.

    Raises:
        ValueError: as `ResidualBlock`, and for an unknown `stride_in`.

    Reference: arXiv:1512.03385, Figure 5 (right).

    >>> block = BottleneckBlock(64, shortcut="projection")
    >>> tuple(block(keras.ops.ones((1, 8, 8, 64))).shape)
    (1, 8, 8, 256)
    """

    expansion = 4

    def __init__(
        self,
        filters,
        strides=1,
        shortcut="identity",
        residual=True,
        *,
        stride_in="1x1",
        **kwargs,
    ):
        super().__init__(filters, strides, shortcut, residual, **kwargs)
        check_choice("stride_in", stride_in, ("1x1", "3x3"))
        self.stride_in = stride_in
        first, second = (strides, 1) if stride_in == "1x1" else (1, strides)
        self.convs = [
            self._conv_block("conv1", filters, 1, first),
            self._conv_block("conv2", filters, 3, second),
            self._conv_block(
                "conv3", 4 * filters, 1, activation=None, zero_init_gamma=self.zero_init_gamma
            ),
        ]

    def get_config(self):
        """Everything that `__init__` takes."""
        return {**super().get_config(), "stride_in": self.stride_in}


def _stage(x, block, filters, repeats, strides, shortcut, name, **options):
    """`repeats` blocks; the first one changes the shape, and needs `shortcut` if it does."""
    for position in range(1, repeats + 1):
        strides = strides if position == 1 else 1
        same_shape = strides == 1 and x.shape[-1] == filters * block.expansion
        x = block(
            filters,
            strides,
            "identity" if same_shape else shortcut,
            name=f"{name}_block{position}",
            **options,
        )(x)
    return x


def ResNet(
    depth,
    input_shape=(224, 224, 3),
    classes=1000,
    *,
    include_top=True,
    classifier_activation="softmax",
    shortcut="projection",
    residual=True,
    stride_in="1x1",
    zero_init_gamma=False,
    momentum=0.99,
    name=None,
):
    """Residual network for images of about 224 pixels: `(B, H, W, C) → (B, classes)`.

    A 7×7 convolution and a 3×3 max pooling, both with stride 2, four stages of blocks with 64, 128,
    256 and 512 filters, global average pooling, and a dense layer. Paddings are symmetric, so that
    the outputs equal those of `keras.applications` at every image size. The input is what that
    model's `preprocess_input` returns.

    Args:
        depth: 18, 34, 50, 101 or 152, the layers with a kernel from the input to the classes.
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        include_top: False leaves pooling and classifier out; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 512)`, with 2048 channels from depth 50 on.
        classifier_activation: of the last dense layer; None returns logits.
        shortcut: "projection" (the paper's option B) or "zero_pad" (option A) where the shape
            changes; elsewhere the shortcut is the identity.
        residual: False builds the plain twin, without shortcuts.
        stride_in: "1x1" or "3x3", see `BottleneckBlock`; from depth 50 on.
        zero_init_gamma: start each block's last batch norm at 0, so that it starts as its shortcut.
        momentum: batch norm's momentum.
        name: the model's name; None for "resnet50", "plain34" and the like.

    Returns:
        A functional `keras.Model` with layers named `stage2_block1` to `stage5_block3`; the stage's
        number is that of the paper's `conv2_x` to `conv5_x`.

    Raises:
        ValueError: for an unknown depth, shortcut or `stride_in`, or classes below 1.

    Reference: arXiv:1512.03385, Table 1.

    >>> ResNet(18, classes=10, include_top=False).output_shape
    (None, 7, 7, 512)
    """
    check_choice("depth", depth, RESNET)
    check_choice("shortcut", shortcut, SHORTCUTS[1:])
    check_positive(classes=classes)
    kind, stages = RESNET[depth]
    options = {"residual": residual, "zero_init_gamma": zero_init_gamma, "momentum": momentum}
    if kind == "bottleneck":
        block = BottleneckBlock
        options["stride_in"] = stride_in
    else:
        block = ResidualBlock
        if stride_in != "1x1":
            raise ValueError(
                f"stride_in={stride_in!r}: expected it to be left out with depth={depth}, "
                "whose blocks have no 1×1 convolution"
            )

    inputs = keras.Input(input_shape)
    x = ConvBlock(
        64, 7, strides=2, padding="symmetric", momentum=momentum, epsilon=EPSILON, name="stem"
    )(inputs)
    # After a ReLU zeros cannot win a maximum, so they serve as symmetric padding.
    x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for position, repeats in enumerate(stages):
        x = _stage(
            x,
            block,
            filters=64 * 2**position,
            repeats=repeats,
            strides=1 if position == 0 else 2,
            shortcut=shortcut,
            name=f"stage{position + 2}",
            **options,
        )
    if include_top:
        x = classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=name or f"{'resnet' if residual else 'plain'}{depth}")


def ResNet18(input_shape=(224, 224, 3), classes=1000, **options):
    """`ResNet` of depth 18: 11,689,512 parameters, 1,814,073,344 MACs at 224×224.

    >>> ResNet18(shortcut="zero_pad").name
    'resnet18'
    """
    return ResNet(18, input_shape, classes, **options)


def ResNet34(input_shape=(224, 224, 3), classes=1000, **options):
    """`ResNet` of depth 34: 21,797,672 parameters, 3,663,761,408 MACs at 224×224.

    >>> ResNet34(residual=False).name
    'plain34'
    """
    return ResNet(34, input_shape, classes, **options)


def ResNet50(input_shape=(224, 224, 3), classes=1000, **options):
    """`ResNet` of depth 50: 25,557,032 parameters, 3,857,973,248 MACs at 224×224.

    >>> ResNet50(include_top=False).output_shape
    (None, 7, 7, 2048)
    """
    return ResNet(50, input_shape, classes, **options)


def ResNet101(input_shape=(224, 224, 3), classes=1000, **options):
    """`ResNet` of depth 101: 44,549,160 parameters, 7,570,194,432 MACs at 224×224.

    >>> sum("block" in layer.name for layer in ResNet101(stride_in="3x3").layers)  # 3 · 33 + 2
    33
    """
    return ResNet(101, input_shape, classes, **options)


def ResNet152(input_shape=(224, 224, 3), classes=1000, **options):
    """`ResNet` of depth 152: 60,192,808 parameters, 11,282,415,616 MACs at 224×224.

    >>> sum("block" in layer.name for layer in ResNet152().layers)  # 3 · 50 + 2
    50
    """
    return ResNet(152, input_shape, classes, **options)


def ResNetCIFAR(
    depth,
    input_shape=(32, 32, 3),
    classes=10,
    *,
    filters=16,
    include_top=True,
    classifier_activation="softmax",
    shortcut="zero_pad",
    residual=True,
    zero_init_gamma=False,
    momentum=0.9,
    name=None,
):
    """Residual network for small images, 6n + 2 layers deep: `(B, H, W, C) → (B, classes)`.

    One 3×3 convolution, three stages of n basic blocks with `filters`, twice and four times as many
    channels (the second and third stage start with stride 2), global average pooling, and a dense
    layer. At 32×32×3 with 10 classes depth 20 has 269,722 parameters.

    Args:
        depth: 6n + 2 with n ≥ 1: 8, 14, 20, 26, 32, …; the paper has 20, 32, 44, 56, 110, 1202.
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        filters: channels of the first stage.
        include_top: False leaves pooling and classifier out.
        classifier_activation: of the last dense layer; None returns logits.
        shortcut: "zero_pad" (the paper's option A) or "projection" (option B) where the shape
            changes; elsewhere the shortcut is the identity.
        residual: False builds the plain twin, without shortcuts.
        zero_init_gamma: start each block's last batch norm at 0, so that it starts as its shortcut.
        momentum: batch norm's momentum; .9 suits runs of a few hundred steps.
        name: the model's name; None for "resnet20", "plain20" and the like.

    Returns:
        A functional `keras.Model` with layers named `stage1_block1` and so on.

    Raises:
        ValueError: for a depth that is not 6n + 2, counts below 1, or an unknown shortcut.

    Reference: arXiv:1512.03385, section 4.2.

    >>> ResNetCIFAR(20, input_shape=(8, 8, 1)).output_shape
    (None, 10)
    >>> ResNetCIFAR(21)
    Traceback (most recent call last):
    ...
    ValueError: depth=21: expected 6n + 2 with n ≥ 1, such as 8, 14, 20, 32, 56 or 110
    """
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(
            f"depth={depth!r}: expected 6n + 2 with n ≥ 1, such as 8, 14, 20, 32, 56 or 110"
        )
    check_choice("shortcut", shortcut, SHORTCUTS[1:])
    check_positive(classes=classes, filters=filters)
    inputs = keras.Input(input_shape)
    x = ConvBlock(filters, 3, momentum=momentum, epsilon=EPSILON, name="stem")(inputs)
    for position in range(3):
        x = _stage(
            x,
            ResidualBlock,
            filters=filters * 2**position,
            repeats=(depth - 2) // 6,
            strides=1 if position == 0 else 2,
            shortcut=shortcut,
            name=f"stage{position + 1}",
            residual=residual,
            zero_init_gamma=zero_init_gamma,
            momentum=momentum,
        )
    if include_top:
        x = classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=name or f"{'resnet' if residual else 'plain'}{depth}")
