"""Pointwise (1×1) convolutions, and the two networks that made them famous.

Network in Network (arXiv:1312.4400) follows every k×k convolution with two pointwise ones and ends
in global average pooling. GoogLeNet's Inception module (arXiv:1409.4842, Table 1) puts pointwise
bottlenecks before its expensive convolutions.
"""

import keras
from keras import ops

from utils.blocks import PACKAGE, ConvBlock, ImageLayer, check_image_shape, check_positive

# The CIFAR-10 network of the NiN authors; None stands for the number of classes.
NIN_CIFAR = (
    # kernel size, filters of the convolution and of the two pointwise layers
    (5, (192, 160, 96)),
    (5, (192, 192, 192)),
    (3, (192, 192, None)),
)

# GoogLeNet, arXiv:1409.4842, Table 1: the nine modules.
GOOGLENET = {
    # module: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@keras.saving.register_keras_serializable(PACKAGE)
class PointwiseConv2D(ImageLayer):
    """1×1 convolution, one dense layer applied at every position: `(B, H, W, C) → (B, H, W, F)`.

    It has C·F + F parameters and costs H·W·C·F MACs. The kernel's shape is (C, F): that of a
    `keras.layers.Dense`, and that of a `keras.layers.Conv2D(F, 1)` without its two leading ones.

    Args:
        filters: output channels F.
        activation: a name known to Keras, a function, or None.
        use_bias: whether to add one number for each filter.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: if `filters` is not a positive integer; when built on anything but (B, H, W, C).

    Reference: Network in Network, arXiv:1312.4400, section 3.1.

    >>> layer = PointwiseConv2D(32)
    >>> tuple(layer(keras.ops.ones((1, 6, 6, 192))).shape), layer.count_params()
    ((1, 6, 6, 32), 6176)
    """

    def __init__(self, filters, activation=None, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        check_positive(filters=filters)
        self.filters = filters
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape):
        """Create kernel (C, F) and bias (F,)."""
        check_image_shape(input_shape)
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], self.filters), initializer="he_normal"
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs):
        """Multiply the channels at every position by the kernel."""
        outputs = ops.matmul(inputs, self.kernel)
        if self.use_bias:
            outputs = outputs + self.bias
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, H, W, F)`."""
        check_image_shape(input_shape)
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class MLPConv(ImageLayer):
    """A k×k convolution and pointwise ones, ReLU after each: `(B, H, W, C) → (B, H, W, F)`.

    What slides over the image is so a small network instead of one linear filter. With filters
    (f, g, F) it has k²·C·f + f·g + g·F weights and f + g + F biases, and H·W MACs for each weight.

    Args:
        filters: output channels of the convolution and of each pointwise layer after it; the last
            one is F. The paper uses two pointwise layers.
        kernel_size: k, the side of the convolution's kernel in pixels.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: if a number is not a positive integer, or if `filters` has fewer than two; when
            built on anything but (B, H, W, C).

    Reference: Network in Network, arXiv:1312.4400, section 3.1.

    >>> block = MLPConv((192, 160, 96), kernel_size=5)
    >>> block.compute_output_shape((None, 32, 32, 3))
    (None, 32, 32, 96)
    """

    def __init__(self, filters, kernel_size=3, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(filters, (tuple, list)) or len(filters) < 2:
            raise ValueError(
                f"filters={filters!r}: expected a tuple of two or more, such as (192, 160, 96)"
            )
        for position, count in enumerate(filters):
            check_positive(**{f"filters[{position}]": count})
        self.filters = tuple(filters)
        self.kernel_size = kernel_size
        self.conv = ConvBlock(
            filters[0], kernel_size, norm=False, name="conv", dtype=self.dtype_policy
        )
        self.pointwise = [
            PointwiseConv2D(count, "relu", name=f"pointwise{position}", dtype=self.dtype_policy)
            for position, count in enumerate(filters[1:], start=1)
        ]

    def build(self, input_shape):
        """Create the weights of the convolution and of the pointwise layers."""
        for layer in (self.conv, *self.pointwise):
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs):
        """Apply the convolution, then the pointwise layers."""
        outputs = self.conv(inputs)
        for layer in self.pointwise:
            outputs = layer(outputs)
        return outputs

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, H, W, F)`."""
        check_image_shape(input_shape)
        return (*input_shape[:-1], self.filters[-1])

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class InceptionModule(ImageLayer):
    """Four branches side by side, joined along the channels: `(B, H, W, C) → (B, H, W, F)`.

    The branches are 1×1; 1×1 then 3×3; 1×1 then 5×5; 3×3 max pooling then 1×1. Each convolution has
    a bias and a ReLU. F = filters_1x1 + filters_3x3 + filters_5x5 + pool_proj.

    The arguments are the columns of the paper's table, in its order. None in a reduce column or in
    `pool_proj` leaves that 1×1 convolution out; with all three left out it is the paper's naive
    module, whose pooling branch keeps the C channels. The kernels have C·(filters_1x1 + reduce_3x3
    + reduce_5x5 + pool_proj) + 9·reduce_3x3·filters_3x3 + 25·reduce_5x5·filters_5x5 elements (an
    absent reduce column counts as C in its product), and each costs H·W MACs.

    Args:
        filters_1x1: filters of the 1×1 branch.
        reduce_3x3: filters of the 1×1 bottleneck before the 3×3 convolution, or None.
        filters_3x3: filters of the 3×3 convolution.
        reduce_5x5: filters of the 1×1 bottleneck before the 5×5 convolution, or None.
        filters_5x5: filters of the 5×5 convolution.
        pool_proj: filters of the 1×1 convolution after the pooling, or None.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: if a number is not a positive integer; when built on anything but (B, H, W, C).

    Reference: Going Deeper with Convolutions, arXiv:1409.4842, Figure 2 and Table 1.

    >>> module = InceptionModule(*GOOGLENET["3a"])
    >>> tuple(module(keras.ops.ones((1, 28, 28, 192))).shape), module.count_params()
    ((1, 28, 28, 256), 163696)
    """

    def __init__(
        self,
        filters_1x1,
        reduce_3x3,
        filters_3x3,
        reduce_5x5,
        filters_5x5,
        pool_proj,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(filters_1x1=filters_1x1, filters_3x3=filters_3x3, filters_5x5=filters_5x5)
        optional = {"reduce_3x3": reduce_3x3, "reduce_5x5": reduce_5x5, "pool_proj": pool_proj}
        check_positive(**{name: count for name, count in optional.items() if count is not None})
        self.filters_1x1 = filters_1x1
        self.reduce_3x3 = reduce_3x3
        self.filters_3x3 = filters_3x3
        self.reduce_5x5 = reduce_5x5
        self.filters_5x5 = filters_5x5
        self.pool_proj = pool_proj

        def options(role):
            return {"name": role, "dtype": self.dtype_policy}

        def pointwise(filters, role):
            return filters and PointwiseConv2D(filters, "relu", **options(role))

        self.conv_1x1 = pointwise(filters_1x1, "1x1")
        self.bottleneck_3x3 = pointwise(reduce_3x3, "3x3_reduce")
        self.conv_3x3 = ConvBlock(filters_3x3, 3, norm=False, **options("3x3"))
        self.bottleneck_5x5 = pointwise(reduce_5x5, "5x5_reduce")
        self.conv_5x5 = ConvBlock(filters_5x5, 5, norm=False, **options("5x5"))
        self.pool = keras.layers.MaxPooling2D(3, strides=1, padding="same", **options("pool"))
        self.projection = pointwise(pool_proj, "pool_proj")
        self.concat = keras.layers.Concatenate(**options("concat"))

    def _branches(self):
        branches = (
            (self.conv_1x1,),
            (self.bottleneck_3x3, self.conv_3x3),
            (self.bottleneck_5x5, self.conv_5x5),
            (self.pool, self.projection),
        )
        return [[layer for layer in branch if layer is not None] for branch in branches]

    def build(self, input_shape):
        """Create the weights of every branch."""
        check_image_shape(input_shape)
        shapes = []
        for branch in self._branches():
            shape = input_shape
            for layer in branch:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
            shapes.append(shape)
        self.concat.build(shapes)

    def call(self, inputs):
        """Run the branches on the same input and join what they return."""
        results = []
        for branch in self._branches():
            outputs = inputs
            for layer in branch:
                outputs = layer(outputs)
            results.append(outputs)
        return self.concat(results)

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, H, W, F)`."""
        check_image_shape(input_shape)
        pooled = input_shape[-1] if self.pool_proj is None else self.pool_proj
        filters = self.filters_1x1 + self.filters_3x3 + self.filters_5x5 + pooled
        return (*input_shape[:-1], filters)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters_1x1": self.filters_1x1,
            "reduce_3x3": self.reduce_3x3,
            "filters_3x3": self.filters_3x3,
            "reduce_5x5": self.reduce_5x5,
            "filters_5x5": self.filters_5x5,
            "pool_proj": self.pool_proj,
        }


def NiN(
    input_shape=(32, 32, 3),
    classes=10,
    *,
    classifier_activation="softmax",
    dropout=0.5,
    name="nin",
):
    """Network in Network for small images: `(B, H, W, C) → (B, classes)`.

    Three mlpconv blocks with max pooling and dropout between them. The last block has one map for
    each class, and global average pooling turns each map into that class's score: no dense layer at
    the end, so no weight depends on the image's size. As in the paper a ReLU follows every
    convolution, so the scores are not negative.

    Args:
        input_shape: `(H, W, C)`.
        classes: number of classes.
        classifier_activation: applied to the scores; None returns them as they are.
        dropout: share of the inputs that the second and the third block lose in training.
        name: the model's name.

    Returns:
        A functional `keras.Model`; at 32×32×3 with 10 classes it has 966,986 parameters.

    Raises:
        ValueError: if `classes` is not a positive integer or `input_shape` not `(H, W, C)`.

    Reference: arXiv:1312.4400, section 4.2; kernels and filters are those of the authors' CIFAR-10
    network.

    >>> NiN(classes=100).count_params()
    984356
    """
    check_positive(classes=classes)
    x = inputs = keras.Input(input_shape)
    for position, (kernel_size, filters) in enumerate(NIN_CIFAR, start=1):
        if position > 1:
            x = keras.layers.MaxPooling2D(3, 2, padding="same", name=f"pool{position - 1}")(x)
            x = keras.layers.Dropout(dropout, name=f"dropout{position - 1}")(x)
        filters = [count or classes for count in filters]
        x = MLPConv(filters, kernel_size, name=f"mlpconv{position}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = keras.layers.Activation(classifier_activation, name="predictions")(x)
    return keras.Model(inputs, x, name=name)
