"""Xception: an Inception network whose modules have as many towers as channels.

Chollet, arXiv:1610.02357. A tower for each channel is a depthwise convolution, so the network is a
stack of separable convolutions with shortcuts around every two or three of them: `XceptionBlock`.
"""

import keras

from utils.blocks import PACKAGE, ImageLayer, check_image_shape, check_positive, classifier

# arXiv:1610.02357, Figure 5. Each row is one block, all numbers are filters.
BLOCKS = (
    # separable convolutions, strides, how many such blocks
    ((128, 128), 2, 1),
    ((256, 256), 2, 1),
    ((728, 728), 2, 1),
    ((728, 728, 728), 1, 8),
    ((728, 1024), 2, 1),
)
STEM = ((32, 2), (64, 1))  # filters and strides of the two convolutions before the blocks
EXIT = (1536, 2048)  # the separable convolutions after them


def _separable(filters, name, dtype=None):
    return keras.layers.SeparableConv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        # No activation follows the depthwise half: 1/9 for each of its weights keeps the variance.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=1 / 3),
        pointwise_initializer="he_normal",
        name=name,
        dtype=dtype,
    )


@keras.saving.register_keras_serializable(PACKAGE)
class XceptionBlock(ImageLayer):
    """Separable 3×3 convolutions and a shortcut: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    ReLU, separable convolution and batch norm for each entry of `filters`, then 3×3 max pooling if
    s > 1, then the addition; no ReLU follows it. The shortcut is the identity where the shape
    stays, else a 1×1 convolution with batch norm. A separable convolution from C to D channels has
    9·C + C·D weights, each of which costs H·W MACs, and 2·D norm parameters; the shortcut has C·F
    weights at ⌈H/s⌉·⌈W/s⌉ MACs, and 2·F.

    Args:
        filters: output channels of each separable convolution; the last number is F.
        strides: s, of the pooling and of the shortcut, in pixels.
        relu_first: False leaves out the first ReLU, where the input already comes from one.
        momentum: batch norm's momentum.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes. Inside the block the
            layers are named `sepconv1_act`, `sepconv1`, `sepconv1_bn` and so on, `pool`,
            `shortcut`, `shortcut_bn` and `add`.

    Raises:
        ValueError: if a number is not a positive integer or `filters` empty; when built on anything
            but (B, H, W, C).

    Reference: Xception, arXiv:1610.02357, Figure 5.

    >>> block = XceptionBlock((128, 128), strides=2)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 64))).shape)
    (1, 5, 5, 128)
    """

    def __init__(self, filters, strides=1, relu_first=True, *, momentum=0.99, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(filters, (tuple, list)) or not filters:
            raise ValueError(f"filters={filters!r}: expected a tuple such as (128, 128)")
        check_positive(**{f"filters[{i}]": each for i, each in enumerate(filters)})
        check_positive(strides=strides)
        self.filters = tuple(filters)
        self.strides = strides
        self.relu_first = relu_first
        self.momentum = momentum

        dtype = self.dtype_policy
        self.body = []
        for position, each in enumerate(filters, start=1):
            name = f"sepconv{position}"
            if relu_first or position > 1:
                self.body.append(keras.layers.ReLU(name=f"{name}_act", dtype=dtype))
            self.body += [_separable(each, name, dtype), self._norm(f"{name}_bn")]
        if strides > 1:
            pool = keras.layers.MaxPooling2D(
                3, strides=strides, padding="same", name="pool", dtype=dtype
            )
            self.body.append(pool)
        self.add = keras.layers.Add(name="add", dtype=dtype)

    def _norm(self, name):
        return keras.layers.BatchNormalization(
            momentum=self.momentum, name=name, dtype=self.dtype_policy
        )

    def build(self, input_shape):
        """Create the weights; whether the shortcut has any depends on the input."""
        check_image_shape(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        shape = input_shape
        for layer in self.body:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.shortcut = []
        if self.strides > 1 or input_shape[-1] != self.filters[-1]:
            conv = keras.layers.Conv2D(
                self.filters[-1],
                1,
                strides=self.strides,
                use_bias=False,
                kernel_initializer="he_normal",
                name="shortcut",
                dtype=self.dtype_policy,
            )
            self.shortcut = [conv, self._norm("shortcut_bn")]
            conv.build(input_shape)
            self.shortcut[1].build(output_shape)
        self.add.build([output_shape, output_shape])

    def call(self, inputs):
        """Separable convolutions and pooling, plus the shortcut, which sees no ReLU."""
        outputs = shortcut = inputs
        for layer in self.body:
            outputs = layer(outputs)
        for layer in self.shortcut:
            shortcut = layer(shortcut)
        return self.add([outputs, shortcut])

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`."""
        check_image_shape(input_shape)
        batch, *sides, _ = input_shape
        sides = [None if side is None else -(-side // self.strides) for side in sides]
        return (batch, *sides, self.filters[-1])

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "relu_first": self.relu_first,
            "momentum": self.momentum,
        }


def Xception(
    input_shape=(299, 299, 3),
    classes=1000,
    *,
    include_top=True,
    classifier_activation="softmax",
    momentum=0.99,
    name=None,
):
    """Xception: `(B, H, W, C) → (B, classes)`.

    Two 3×3 convolutions without padding, twelve blocks, two more separable convolutions, global
    average pooling, and a dense layer. The outputs equal those of `keras.applications` with the
    same weights, for inputs in [−1, 1]. At 299×299×3 it has 22,855,952 parameters and
    8,357,403,496 MACs.

    Args:
        input_shape: `(H, W, C)`; H and W may be None, else at least 7.
        classes: number of classes.
        include_top: False leaves pooling and classifier out; the output then has 2048 channels.
        classifier_activation: of the dense layer; None returns logits.
        momentum: batch norm's momentum.
        name: the model's name; None for "xception".

    Returns:
        A functional `keras.Model` with layers named `block1_conv1` to `block14_sepconv2_act`.

    Raises:
        ValueError: for an image that is too small, or classes below 1.

    Reference: arXiv:1610.02357, Figure 5; size in Table 3.

    >>> model = Xception((71, 71, 1), classes=2, include_top=False)
    >>> model.output_shape
    (None, 3, 3, 2048)
    """
    check_positive(classes=classes)
    check_image_shape((None, *input_shape))
    if any(side is not None and side < 7 for side in input_shape[:2]):
        raise ValueError(f"input_shape={tuple(input_shape)}: expected at least 7 pixels a side")

    def norm_relu(x, layer):
        x = keras.layers.BatchNormalization(momentum=momentum, name=f"{layer}_bn")(x)
        return keras.layers.ReLU(name=f"{layer}_act")(x)

    inputs = x = keras.Input(input_shape)
    for position, (filters, strides) in enumerate(STEM, start=1):
        layer = f"block1_conv{position}"
        conv = keras.layers.Conv2D(
            filters, 3, strides, use_bias=False, kernel_initializer="he_normal", name=layer
        )
        x = norm_relu(conv(x), layer)
    block = 1
    for filters, strides, repeats in BLOCKS:
        for _ in range(repeats):
            block += 1
            x = XceptionBlock(
                filters, strides, relu_first=block > 2, momentum=momentum, name=f"block{block}"
            )(x)
    for position, filters in enumerate(EXIT, start=1):
        layer = f"block{block + 1}_sepconv{position}"
        x = norm_relu(_separable(filters, layer)(x), layer)
    if include_top:
        x = classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=name or "xception")
