"""Blocks that the course's models share.

`ConvBlock` is convolution → batch norm → activation, the one way in which every model of the
course writes those three. `ExpandedBlock` is what the blocks of MobileNet V2, V3, V4 and of
EfficientNet have in common: they widen, filter and narrow, with a shortcut between the narrow ends.
`SqueezeExcite` weighs channels, `classifier` ends a model, and `make_divisible` rounds a scaled
channel count as these families do. The `check_…` functions raise the errors that layers and models
have in common.
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


def check_data_format():
    """Refuse Keras' setting "channels_first", under which its layers read (B, H, W, C) wrongly.

    Raises:
        ValueError: if that is what `keras.config.image_data_format()` says.

    >>> check_data_format()
    """
    value = keras.config.image_data_format()
    if value != "channels_last":
        raise ValueError(
            f"image_data_format={value!r}: expected 'channels_last', since images are "
            "(B, H, W, C); change it in keras.json, or by keras.config.set_image_data_format"
        )


def check_image_shape(input_shape):
    """Refuse a shape that is not that of a batch of images with a known number of channels.

    Args:
        input_shape: the shape, batch axis included; `(B, H, W, C)` is what passes.

    Raises:
        ValueError: if there are not four axes, or if the last one is None; as `check_data_format`.

    >>> check_image_shape((None, 64))
    Traceback (most recent call last):
    ...
    ValueError: input_shape=(None, 64): expected four axes (B, H, W, C) and a known C
    """
    check_data_format()
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


class ImageLayer(keras.layers.Layer):
    """A layer for images `(B, H, W, C)`; the base of all layers of the course.

    Args:
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: as `check_data_format`; the Keras layers inside would keep that setting.

    >>> isinstance(ConvBlock(8), ImageLayer)
    True
    """

    def __init__(self, **kwargs):
        check_data_format()
        super().__init__(**kwargs)


@keras.saving.register_keras_serializable(PACKAGE)
class ConvBlock(ImageLayer):
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


@keras.saving.register_keras_serializable(PACKAGE)
class SqueezeExcite(ImageLayer):
    """Weighs each channel by a gate that all channels decide: `(B, H, W, C) → (B, H, W, C)`.

    The mean of each channel passes a 1×1 convolution to `squeezed` channels, an activation, a 1×1
    convolution back to C and the gate, and the input is multiplied by what comes out. Both
    convolutions have a bias: 2·C·squeezed + squeezed + C parameters, and 2·C·squeezed MACs, since
    they see a single position.

    Args:
        squeezed: channels in the middle.
        activation: after the first convolution, as for `ConvBlock`.
        gate: after the second one: "hard_sigmoid" (MobileNetV3) or "sigmoid" (EfficientNet).
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes. Inside the block the
            layers are named `pool`, `reduce`, `restore` and `scale`.

    Raises:
        ValueError: if `squeezed` is not a positive integer or `gate` unknown; when built on
            anything but (B, H, W, C).

    Reference: arXiv:1709.01507, section 3; its place and gates in MobileNetV3: arXiv:1905.02244,
    sections 5.2 and 5.3.

    >>> layer = SqueezeExcite(4)
    >>> tuple(layer(keras.ops.ones((1, 5, 5, 16))).shape), layer.count_params()
    ((1, 5, 5, 16), 148)
    """

    def __init__(self, squeezed, *, activation="relu", gate="hard_sigmoid", **kwargs):
        super().__init__(**kwargs)
        check_positive(squeezed=squeezed)
        check_choice("gate", gate, ("hard_sigmoid", "sigmoid"))
        self.squeezed = squeezed
        self.gate = gate
        dtype = self.dtype_policy
        self.pool = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool", dtype=dtype)
        self.reduce = keras.layers.Conv2D(
            squeezed,
            1,
            activation=activation,
            kernel_initializer="he_normal",
            name="reduce",
            dtype=dtype,
        )
        self.scale = keras.layers.Multiply(name="scale", dtype=dtype)

    def build(self, input_shape):
        """Create the weights; the second convolution has as many filters as the input channels."""
        check_image_shape(input_shape)
        pooled = self.pool.compute_output_shape(input_shape)
        self.restore = keras.layers.Conv2D(
            input_shape[-1], 1, activation=self.gate, name="restore", dtype=self.dtype_policy
        )
        self.reduce.build(pooled)
        self.restore.build(self.reduce.compute_output_shape(pooled))
        self.scale.build([input_shape, pooled])

    def call(self, inputs):
        """Multiply the input by its channels' gates."""
        return self.scale([inputs, self.restore(self.reduce(self.pool(inputs)))])

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, H, W, C)`."""
        check_image_shape(input_shape)
        return input_shape

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "squeezed": self.squeezed,
            "activation": keras.activations.serialize(self.reduce.activation),
            "gate": self.gate,
        }


class ExpandedBlock(ImageLayer):
    """Narrow, wide, narrow, and a shortcut between the narrow ends where their shapes agree.

    What the blocks of MobileNet V2, V3, V4 and of EfficientNet share: `(B, H, W, C) →
    (B, ⌈H/s⌉, ⌈W/s⌉, F)`. A subclass says in `steps(channels)` which layers come one after the
    other. If s = 1 and C = F, the block's input is added to their output.

    Args:
        filters: output channels F.
        strides: s, in pixels, along both axes.
        expansion: the wide middle has C · `expansion` channels, rounded by `expand_divisor`.
        activation: of every convolution but the last, as for `ConvBlock`.
        expand_divisor: round the wide middle to a multiple of this by `make_divisible`.
        drop_rate: probability with which a training image skips the block and takes the shortcut
            alone (stochastic depth, arXiv:1603.09382); without a shortcut it has no effect.
        momentum: batch norm's momentum.
        epsilon: what batch norm adds to the variance.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes.

    Raises:
        ValueError: if a number is out of its range; when built on anything but (B, H, W, C).

    >>> class Widen(ExpandedBlock):
    ...     def steps(self, channels):
    ...         return [self.conv("expand", self.expanded(channels)),
    ...                 self.conv("project", self.filters, activation=None)]
    >>> block = Widen(16, expansion=6)
    >>> tuple(block(keras.ops.ones((1, 5, 5, 16))).shape), block.has_shortcut
    ((1, 5, 5, 16), True)
    """

    def __init__(
        self,
        filters,
        strides=1,
        expansion=6,
        *,
        activation="relu6",
        expand_divisor=1,
        drop_rate=0.0,
        momentum=0.99,
        epsilon=1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(filters=filters, strides=strides, expand_divisor=expand_divisor)
        if not expansion > 0:
            raise ValueError(f"expansion={expansion!r}: expected a positive number")
        if not 0 <= drop_rate < 1:
            raise ValueError(f"drop_rate={drop_rate!r}: expected a number from 0 to below 1")
        self.filters = filters
        self.strides = strides
        self.expansion = expansion
        self.activation = keras.activations.get(activation)
        self.expand_divisor = expand_divisor
        self.drop_rate = drop_rate
        self.momentum = momentum
        self.epsilon = epsilon

    def steps(self, channels):
        """Return the block's layers in order, not built, for an input of so many channels."""
        raise NotImplementedError

    def adds_input(self, channels):
        """Return whether an input of so many channels is added to the output."""
        return self.strides == 1 and channels == self.filters

    def expanded(self, channels):
        """Return the channels of the wide middle for an input of so many channels."""
        return make_divisible(channels * self.expansion, self.expand_divisor)

    def conv(self, name, filters=None, kernel_size=1, strides=1, **options):
        """Return a `ConvBlock` with the block's activation and batch norm, to be one of `steps`."""
        return ConvBlock(
            filters,
            kernel_size,
            strides,
            name=name,
            dtype=self.dtype_policy,
            **{
                "activation": self.activation,
                "momentum": self.momentum,
                "epsilon": self.epsilon,
                **options,
            },
        )

    def inverted_steps(self, channels, kernel_size=3, between=(), project_activation=None):
        """Return expansion, depthwise filter, what is `between`, and projection, to be `steps`.

        An `expansion` of 1 leaves the first of them out, and the channels as they are.
        """
        expand = [] if self.expansion == 1 else [self.conv("expand", self.expanded(channels))]
        return [
            *expand,
            self.conv("depthwise", None, kernel_size, self.strides, depthwise=True),
            *between,
            self.conv("project", self.filters, activation=project_activation),
        ]

    def build(self, input_shape):
        """Create the layers, whose widths depend on the input, and their weights."""
        check_image_shape(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        self.has_shortcut = self.adds_input(input_shape[-1])
        self.body = self.steps(input_shape[-1])
        shape = input_shape
        for layer in self.body:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.drop = self.add = None
        if self.has_shortcut:
            if self.drop_rate:
                self.drop = keras.layers.Dropout(
                    self.drop_rate, (None, 1, 1, 1), name="drop", dtype=self.dtype_policy
                )
                self.drop.build(output_shape)
            self.add = keras.layers.Add(name="add", dtype=self.dtype_policy)
            self.add.build([output_shape, output_shape])

    def call(self, inputs, training=None):
        """Apply the steps in order, then add the shortcut."""
        outputs = inputs
        for layer in self.body:
            outputs = layer(outputs)
        if self.drop is not None:
            outputs = self.drop(outputs, training=training)
        return outputs if self.add is None else self.add([inputs, outputs])

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`."""
        check_image_shape(input_shape)
        batch, *sides, _ = input_shape
        sides = [None if side is None else -(-side // self.strides) for side in sides]
        return (batch, *sides, self.filters)

    def get_config(self):
        """Everything that `__init__` takes."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "expansion": self.expansion,
            "activation": keras.activations.serialize(self.activation),
            "expand_divisor": self.expand_divisor,
            "drop_rate": self.drop_rate,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


def classifier(x, classes, activation="softmax", dropout=0.0):
    """End a functional model: global average pooling, dropout and a dense layer.

    Args:
        x: a Keras tensor `(B, H, W, C)`.
        classes: number of classes.
        activation: of the dense layer; None returns logits.
        dropout: share of the pooled channels that training drops.

    Returns:
        A Keras tensor `(B, classes)`; the layers are named `avg_pool`, `dropout`, `predictions`.

    Raises:
        ValueError: if `classes` is not a positive integer; as `check_data_format`.

    >>> tuple(classifier(keras.Input((7, 7, 64)), classes=10).shape)
    (None, 10)
    """
    check_data_format()
    check_positive(classes=classes)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.layers.Dense(classes, activation=activation, name="predictions")(x)
