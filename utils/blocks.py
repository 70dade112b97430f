"""Blocks that the course's models share.

`ConvBlock` is convolution → batch norm → activation, the one way in which every model of the
course writes those three. `make_divisible` rounds a scaled channel count as the MobileNets and
EfficientNet do. The `check_…` functions raise the errors that layers and models have in common.
"""

import numbers

import keras

PACKAGE = "efficient_cnn"  # the name under which Keras registers the course's layers


def check_positive(**arguments):
    """Refuse every named argument that is not a positive integer.

    Args:
        **arguments: name and value, as in `check_positive(filters=filters)`.

    Raises:
        ValueError: for the first value that is not an integer of at least 1.

    >>> check_positive(filters=16, strides=0)
    Traceback (most recent call last):
    ...
    ValueError: strides=0: expected a positive integer
    """
    for name, value in arguments.items():
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name}={value!r}: expected a positive integer")


def check_choice(name, value, accepted):
    """Refuse a value that is not one of those accepted.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        accepted: a sequence of the values that would do.

    Raises:
        ValueError: if `value` is not in `accepted`.

    >>> check_choice("padding", "full", ("same", "symmetric"))
    Traceback (most recent call last):
    ...
    ValueError: padding='full': expected one of 'same', 'symmetric'
    """
    if value not in accepted:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, accepted))}")


def check_image_shape(input_shape):
    """Refuse a shape that is not that of a batch of images with a known number of channels.

    Args:
        input_shape: the shape, batch axis included; `(B, H, W, C)` is what passes.

    Raises:
        ValueError: if there are not four axes, or if the last one is None.

    >>> check_image_shape((None, 64))
    Traceback (most recent call last):
    ...
    ValueError: input_shape=(None, 64): expected four axes (B, H, W, C) and a known C
    """
    if len(input_shape) != 4 or input_shape[-1] is None:
        raise ValueError(
            f"input_shape={tuple(input_shape)}: expected four axes (B, H, W, C) and a known C"
        )


def make_divisible(channels, divisor=8, minimum=None):
    """Round a channel count to a multiple of `divisor`, never down by more than a tenth.

    The nearest multiple is taken (ties go up), at least `minimum`; if that loses more than 10 % of
    the channels, the next multiple. MobileNetV2 (arXiv:1801.04381), MobileNetV3 (arXiv:1905.02244)
    and EfficientNet (arXiv:1905.11946) scale their widths this way.

    Args:
        channels: the count to round, usually a product with a width multiplier; a float is fine.
        divisor: what the result is a multiple of.
        minimum: the smallest result; `divisor` if None.

    Returns:
        The rounded count, an int.

    Raises:
        ValueError: if `channels` is not positive, or `divisor` not a positive integer.

    >>> make_divisible(24 * 0.75)  # 18 → 16 would lose 11 %
    24
    >>> make_divisible(32 * 0.35), make_divisible(16 * 0.35)
    (16, 8)
    """
    check_positive(divisor=divisor)
    if not channels > 0:
        raise ValueError(f"channels={channels!r}: expected a positive number")
    nearest = int(channels + divisor / 2) // divisor * divisor
    rounded = max(divisor if minimum is None else minimum, nearest)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@keras.saving.register_keras_serializable(PACKAGE)
class ConvBlock(keras.layers.Layer):
    """Convolution, batch norm and activation: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    The convolution has a bias only where no batch norm follows, since the norm's beta is one.
    With a k×k kernel the block has k²·C·F/groups weights (depthwise: k²·C, and F = C), and 2·F norm
    parameters or F biases. MACs = kernel elements · ⌈H/s⌉ · ⌈W/s⌉.

    Args:
        filters: output channels F; None for a depthwise convolution, which keeps the C it gets.
        kernel_size: k, the side of the square kernel in pixels.
        strides: s, in pixels, along both axes.
        depthwise: one k×k filter for each input channel instead of filters that see all of them.
        groups: cut the channels into this many groups, convolved independently of each other.
        padding: "same" pads as TensorFlow does (at stride 2 and even size one pixel more at the
            bottom right), "symmetric" pads (k − 1)/2 pixels on every side, as the ResNets do. The
            two differ only where s > 1; the output has the same size.
        norm: whether batch norm follows the convolution.
        momentum: how much of its moving statistics batch norm keeps at each training step.
        epsilon: what batch norm adds to the variance.
        zero_init_gamma: start batch norm's gamma at 0 instead of 1, so that the block outputs 0.
        activation: a name known to Keras, a function, or None.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes. Inside the block the
            layers are named `pad`, `conv`, `bn` and `activation`.

    Raises:
        ValueError: for counts below 1, `filters` and `depthwise` that contradict each other,
            unknown `padding`, an even kernel with "symmetric"; when built on anything but
            (B, H, W, C).

    >>> block = ConvBlock(16, kernel_size=3, strides=2)
    >>> tuple(block(keras.ops.ones((1, 9, 9, 3))).shape)
    (1, 5, 5, 16)
    >>> [weight.name for weight in block.trainable_weights]
    ['kernel', 'gamma', 'beta']
    >>> ConvBlock(kernel_size=3, depthwise=True, norm=False).compute_output_shape((1, 9, 9, 3))
    (1, 9, 9, 3)
    """

    def __init__(
        self,
        filters=None,
        kernel_size=3,
        strides=1,
        *,
        depthwise=False,
        groups=1,
        padding="same",
        norm=True,
        momentum=0.99,
        epsilon=1e-3,
        zero_init_gamma=False,
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(kernel_size=kernel_size, strides=strides, groups=groups)
        check_choice("padding", padding, ("same", "symmetric"))
        if depthwise and (filters is not None or groups != 1):
            raise ValueError(
                f"filters={filters!r}, groups={groups!r}: expected None and 1 with depthwise=True"
            )
        if not depthwise:
            check_positive(filters=filters)
        if padding == "symmetric" and kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size}: expected an odd number with padding='symmetric'"
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.depthwise = depthwise
        self.groups = groups
        self.padding = padding
        self.momentum = momentum
        self.epsilon = epsilon
        self.zero_init_gamma = zero_init_gamma

        dtype = self.dtype_policy
        # At stride 1 both paddings are the same, and "same" needs no layer of its own.
        explicit = padding == "symmetric" and strides > 1 and kernel_size > 1
        self.pad = None
        if explicit:
            self.pad = keras.layers.ZeroPadding2D(kernel_size // 2, name="pad", dtype=dtype)
        options = {
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": "valid" if explicit else "same",
            "use_bias": not norm,
            "name": "conv",
            "dtype": dtype,
        }
        if depthwise:
            # Keras' "he_normal" would divide by the inputs of all channels; a filter sees one.
            he_normal = keras.initializers.RandomNormal(stddev=(2 / kernel_size**2) ** 0.5)
            self.conv = keras.layers.DepthwiseConv2D(depthwise_initializer=he_normal, **options)
        else:
            self.conv = keras.layers.Conv2D(
                filters, groups=groups, kernel_initializer="he_normal", **options
            )
        self.norm = None
        if norm:
            self.norm = keras.layers.BatchNormalization(
                momentum=momentum,
                epsilon=epsilon,
                gamma_initializer="zeros" if zero_init_gamma else "ones",
                name="bn",
                dtype=dtype,
            )
        self.activation = None
        if activation is not None:
            self.activation = keras.layers.Activation(activation, name="activation", dtype=dtype)

    def _steps(self):
        steps = (self.pad, self.conv, self.norm, self.activation)
        return [layer for layer in steps if layer is not None]

    def build(self, input_shape):
        """Create the weights of every step."""
        check_image_shape(input_shape)
        for layer in self._steps():
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs):
        """Apply the steps in order."""
        for layer in self._steps():
            inputs = layer(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`."""
        check_image_shape(input_shape)
        for layer in self._steps():
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        """Everything that `__init__` takes."""
        activation = self.activation and keras.activations.serialize(self.activation.activation)
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "depthwise": self.depthwise,
            "groups": self.groups,
            "padding": self.padding,
            "norm": self.norm is not None,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "zero_init_gamma": self.zero_init_gamma,
            "activation": activation,
        }
