"""MobileNetV1: each 3×3 convolution split into one that filters and one that mixes channels.

MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications,
arXiv:1704.04861. `MobileNetV1` is the network of its Table 1, at any width; with `separable=False`
it becomes its full-convolution twin, with `shallow=True` the shallow network of its Table 5.
"""

import keras

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ImageLayer,
    check_image_shape,
    check_positive,
    classifier,
)

# arXiv:1704.04861, Table 1, the rows between the first convolution and the average pooling. Each
# block is two rows there: "Conv dw" and "Conv / s1" (1×1). The table prints stride 2 for the very
# last block as well; its own sizes, 7×7 before and after, and its 569 million need stride 1.
MOBILENET_V1 = (
    # c: output channels, n: blocks, s: stride of the first block's depthwise convolution
    (64, 1, 1),
    (128, 2, 2),
    (256, 2, 2),
    (512, 6, 2),
    (1024, 2, 2),
)
FIRST = 32  # channels of the first convolution


@keras.saving.register_keras_serializable(PACKAGE)
class DepthwiseSeparableConv(ImageLayer):
    """A depthwise 3×3 and a pointwise convolution: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    The depthwise convolution filters each channel on its own, the pointwise one mixes the channels;
    batch norm and an activation follow each of them. The kernels have 9·C + C·F elements, each of
    which costs ⌈H/s⌉·⌈W/s⌉ MACs: 1/F + 1/9 of a full 3×3 convolution. The norms have 2·(C + F)
    parameters.

    Args:
        filters: output channels F.
        strides: s, of the depthwise convolution, in pixels.
        activation: after both convolutions: a name known to Keras, a function, or None. The paper
            writes ReLU; its authors' code and `keras.applications` have ReLU6.
        momentum: batch norm's momentum.
        epsilon: what batch norm adds to the variance.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes. Inside the block the
            layers are named `depthwise` and `pointwise`.

    Raises:
        ValueError: if `filters` or `strides` is not a positive integer; when built on anything but
            (B, H, W, C).

    Reference: arXiv:1704.04861, Figure 3 (right) and section 3.1.

    >>> block = DepthwiseSeparableConv(16, strides=2)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 8))).shape)
    (1, 5, 5, 16)
    >>> [weight.path.split("/", 1)[1] for weight in block.trainable_weights][:3]
    ['depthwise/conv/kernel', 'depthwise/bn/gamma', 'depthwise/bn/beta']
    """

    def __init__(
        self,
        filters,
        strides=1,
        *,
        activation="relu6",
        momentum=0.99,
        epsilon=1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(filters=filters, strides=strides)
        self.filters = filters
        self.strides = strides
        self.activation = keras.activations.get(activation)
        self.momentum = momentum
        self.epsilon = epsilon
        options = {
            "activation": self.activation,
            "momentum": momentum,
            "epsilon": epsilon,
            "dtype": self.dtype_policy,
        }
        self.depthwise = ConvBlock(None, 3, strides, depthwise=True, name="depthwise", **options)
        self.pointwise = ConvBlock(filters, 1, name="pointwise", **options)

    def build(self, input_shape):
        """Create the weights of both convolutions and of their norms."""
        check_image_shape(input_shape)
        self.depthwise.build(input_shape)
        self.pointwise.build(self.depthwise.compute_output_shape(input_shape))

    def call(self, inputs):
        """Filter each channel, then mix the channels."""
        return self.pointwise(self.depthwise(inputs))

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`."""
        return self.pointwise.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


def MobileNetV1(
    input_shape=(224, 224, 3),
    classes=1000,
    alpha=1.0,
    separable=True,
    include_top=True,
    *,
    classifier_activation="softmax",
    shallow=False,
    dropout=1e-3,
    momentum=0.99,
    name="mobilenet_v1",
):
    """Network of 13 depthwise separable blocks: `(B, H, W, C) → (B, classes)`.

    A 3×3 convolution with stride 2, the blocks of `MOBILENET_V1`, global average pooling and a
    dense layer. With the weights of the network of `keras.applications` it returns the same values
    where all sides are 32·n or 32·n − 1 pixels; that one pads its inner layers as "same" would for
    even sizes only, and loses a row and a column elsewhere. Inputs are in [−1, 1].

    Args:
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        alpha: width multiplier: every layer but the classifier has `alpha` times the channels,
            rounded down.
        separable: False puts a full 3×3 convolution, batch norm and ReLU6 in place of each block.
        include_top: False leaves pooling and classifier out; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, 1024·alpha)`.
        classifier_activation: of the last dense layer; None returns logits.
        shallow: True leaves out five of the six blocks with 512 channels.
        dropout: share of the pooled channels that training drops.
        momentum: batch norm's momentum.
        name: the model's name.

    Returns:
        A functional `keras.Model` with layers named `stem`, `stage1_block1` to `stage5_block2`,
        `avg_pool`, `dropout` and `predictions`.

    Raises:
        ValueError: for classes below 1, or an `alpha` that leaves the first layer no channel.

    Reference: arXiv:1704.04861, Table 1; `separable` and `shallow`: its Tables 4 and 5; widths and
    resolutions: its sections 3.3 and 3.4, Tables 6 and 7.

    >>> MobileNetV1((96, 96, 3), classes=10, alpha=0.25, include_top=False).output_shape
    (None, 3, 3, 256)
    """
    check_positive(classes=classes)
    if not FIRST * alpha >= 1:
        raise ValueError(f"alpha={alpha!r}: expected at least 1/{FIRST}, one channel of {FIRST}")
    options = {"activation": "relu6", "momentum": momentum}

    inputs = keras.Input(input_shape)
    x = ConvBlock(int(FIRST * alpha), 3, 2, name="stem", **options)(inputs)
    for stage, (channels, repeats, strides) in enumerate(MOBILENET_V1, start=1):
        filters = int(channels * alpha)
        for position in range(1, 2 if shallow and channels == 512 else repeats + 1):
            options["strides"] = strides if position == 1 else 1
            options["name"] = f"stage{stage}_block{position}"
            block = DepthwiseSeparableConv if separable else ConvBlock
            x = block(filters, **options)(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dropout)
    return keras.Model(inputs, x, name=name)
