"""SqueezeNet: as right about ImageNet as AlexNet, with a fiftieth of its parameters.

Iandola et al., arXiv:1602.07360. `FireModule` squeezes the channels with a 1×1 convolution and
expands them again with 1×1 and 3×3 filters side by side; `SqueezeNet` stacks eight of them between
two convolutions, and has no dense layer.
"""

import keras

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ImageLayer,
    check_choice,
    check_image_shape,
    check_positive,
)

# arXiv:1602.07360, Table 1, and version 1.1 of the authors, which pools earlier. A fire module has
# as many 1×1 filters after the squeeze as 3×3 filters.
FIRES = {
    # module: s1x1, e1x1 = e3x3
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
VERSIONS = {
    # version: filters and kernel size of conv1, the modules that a pooling follows
    "1.0": (96, 7, (4, 8)),
    "1.1": (64, 3, (3, 5)),
}


@keras.saving.register_keras_serializable(PACKAGE)
class FireModule(ImageLayer):
    """Squeeze with 1×1, expand with 1×1 and 3×3 side by side: `(B, H, W, C) → (B, H, W, F)`.

    Each of the three convolutions has a bias and a ReLU, and F = expand_1x1 + expand_3x3. The
    kernels have C·squeeze + squeeze·(expand_1x1 + 9·expand_3x3) elements, each of which costs H·W
    MACs; there are squeeze + F biases.

    Args:
        squeeze: filters of the 1×1 convolution that both others read.
        expand_1x1: filters of the second 1×1 convolution.
        expand_3x3: filters of the 3×3 convolution.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes. Inside the block the
            layers are named `squeeze`, `expand_1x1`, `expand_3x3` and `concat`.

    Raises:
        ValueError: if a number is not a positive integer; when built on anything but (B, H, W, C).

    Reference: SqueezeNet, arXiv:1602.07360, section 3.2 and Figure 1.

    >>> module = FireModule(16, 64, 64)
    >>> tuple(module(keras.ops.ones((1, 5, 5, 96))).shape), module.count_params()
    ((1, 5, 5, 128), 11920)
    """

    def __init__(self, squeeze, expand_1x1, expand_3x3, **kwargs):
        super().__init__(**kwargs)
        self.filters = {"squeeze": squeeze, "expand_1x1": expand_1x1, "expand_3x3": expand_3x3}
        check_positive(**self.filters)
        self.squeeze, self.expand_1x1, self.expand_3x3 = (
            ConvBlock(
                filters,
                kernel_size=3 if role == "expand_3x3" else 1,
                norm=False,
                name=role,
                dtype=self.dtype_policy,
            )
            for role, filters in self.filters.items()
        )
        self.concat = keras.layers.Concatenate(name="concat", dtype=self.dtype_policy)

    def build(self, input_shape):
        """Create the weights of the three convolutions."""
        check_image_shape(input_shape)
        self.squeeze.build(input_shape)
        squeezed = self.squeeze.compute_output_shape(input_shape)
        expanded = []
        for layer in (self.expand_1x1, self.expand_3x3):
            layer.build(squeezed)
            expanded.append(layer.compute_output_shape(squeezed))
        self.concat.build(expanded)

    def call(self, inputs):
        """Squeeze, expand twice, and join along the channels."""
        squeezed = self.squeeze(inputs)
        return self.concat([self.expand_1x1(squeezed), self.expand_3x3(squeezed)])

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C) → (B, H, W, expand_1x1 + expand_3x3)`."""
        check_image_shape(input_shape)
        return (*input_shape[:-1], self.filters["expand_1x1"] + self.filters["expand_3x3"])

    def get_config(self):
        """Everything that `__init__` takes."""
        return {**super().get_config(), **self.filters}


def _pool(x, name):
    """3×3 max pooling with stride 2 that keeps a last window of two: n pixels give ⌊n/2⌋."""
    # After a ReLU zeros cannot win a maximum, so they serve as padding.
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name=name)(x)


def SqueezeNet(
    input_shape=(224, 224, 3),
    classes=1000,
    *,
    version="1.0",
    include_top=True,
    classifier_activation="softmax",
    dropout=0.5,
    name=None,
):
    """SqueezeNet without batch norm or dense layer: `(B, H, W, C) → (B, classes)`.

    A strided convolution without padding, eight fire modules, three poolings, and a 1×1 convolution
    with one filter for each class, whose ReLU outputs are averaged over all positions. So the
    logits are never negative. Version 1.0 has 1,248,424 parameters and 818,924,576 MACs at
    224×224×3, version 1.1 has 1,235,496 and 349,151,936.

    Args:
        input_shape: `(H, W, C)`; H and W may be None, else at least 21 (version 1.1: 17).
        classes: number of classes.
        version: "1.0", the paper's, or "1.1", which has a smaller first convolution and pools
            earlier.
        include_top: False leaves out what follows the last fire module; the output then has 512
            channels.
        classifier_activation: of the averages; None returns them as logits.
        dropout: share of the last fire module's outputs that training drops.
        name: the model's name; None for "squeezenet1.0" or "squeezenet1.1".

    Returns:
        A functional `keras.Model` with layers named `conv1`, `fire2` to `fire9` and `conv10`.

    Raises:
        ValueError: for an unknown version, an image that is too small, or classes below 1.

    Reference: arXiv:1602.07360, Table 1.

    >>> model = SqueezeNet((64, 64, 1), classes=2, version="1.1")
    >>> model.get_layer("fire9").output.shape, model.output_shape
    ((None, 3, 3, 512), (None, 2))
    """
    check_choice("version", version, VERSIONS)
    check_positive(classes=classes)
    check_image_shape((None, *input_shape))
    filters, kernel_size, pooled = VERSIONS[version]
    # Three poolings halve what conv1 leaves, and halves are rounded down.
    smallest = kernel_size + 2 * (2**3 - 1)
    if any(side is not None and side < smallest for side in input_shape[:2]):
        raise ValueError(
            f"input_shape={tuple(input_shape)}: expected at least {smallest} pixels a side with "
            f"version={version!r}"
        )

    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=2,
        activation="relu",
        kernel_initializer="he_normal",
        name="conv1",
    )(inputs)
    x = _pool(x, "pool1")
    for module, (squeeze, expand) in FIRES.items():
        x = FireModule(squeeze, expand, expand, name=f"fire{module}")(x)
        if module in pooled:
            x = _pool(x, f"pool{module}")
    if include_top:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
        x = ConvBlock(classes, kernel_size=1, norm=False, name="conv10")(x)
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = keras.layers.Activation(classifier_activation, name="predictions")(x)
    return keras.Model(inputs, x, name=name or f"squeezenet{version}")
