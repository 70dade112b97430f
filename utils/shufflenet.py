"""ShuffleNet: cheap grouped 1×1 convolutions, and a shuffle that lets the groups talk.

Zhang et al., arXiv:1707.01083 (version 1). `channel_shuffle` hands each group channels of all
others, `ShuffleUnit` is the block around it, and `ShuffleNetV1` the network of the paper's Table 1.
"""

import keras
from keras import ops

from utils.blocks import (
    PACKAGE,
    ConvBlock,
    ImageLayer,
    check_choice,
    check_data_format,
    check_image_shape,
    check_positive,
    classifier,
)

# arXiv:1707.01083, Table 1: output channels of stage 2 at scale 1; each later stage has twice as
# many. (The channels for three groups are those of the authors' code, from which the table's
# multiply-adds follow.)
STAGE2 = {
    # groups: channels
    1: 144,
    2: 200,
    3: 240,
    4: 272,
    8: 384,
}
REPEATS = (4, 8, 4)  # units in stage 2, 3 and 4; the first has stride 2
STEMS = {
    # scale: channels of the first convolution
    0.25: 12,
    0.5: 12,
    1.0: 24,
    1.5: 24,
    2.0: 48,
}


def channel_shuffle(x, groups):
    """Deal the channels of each group out to all groups: `(…, C) → (…, C)`.

    The C channels are read as a table of `groups` rows, one a group, and written column by column:
    output channel j·groups + i is input channel i·C/groups + j. It has no parameters and no MACs.

    Args:
        x: a tensor with a known number of channels in its last axis.
        groups: in how many groups the channels come.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: if `groups` is not a positive integer that divides the channels; as
            `check_data_format`.

    Reference: arXiv:1707.01083, Figure 1 and section 3.1.

    >>> channel_shuffle(keras.ops.arange(12), groups=3).numpy().tolist()
    [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    """
    check_data_format()
    _check_groups(groups, x.shape[-1])
    by_group = ops.reshape(x, (-1, groups, x.shape[-1] // groups))
    return ops.reshape(ops.swapaxes(by_group, 1, 2), ops.shape(x))


def _check_groups(groups, channels):
    check_positive(groups=groups)
    if channels % groups:
        raise ValueError(f"groups={groups}: expected a divisor of the {channels} channels")


@keras.saving.register_keras_serializable(PACKAGE)
class ShuffleUnit(ImageLayer):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1: `(B, H, W, C) → (B, ⌈H/s⌉, ⌈W/s⌉, F)`.

    At stride 1 the input is added to the result, so C = F. At stride 2 the result has only F − C
    channels, and the input, averaged over 3×3 windows with stride 2, is put before them. A ReLU
    follows either; another one follows the first convolution. With m = F/4 channels in the middle
    (rounded up to a multiple of g groups) and D = F or F − C, the kernels have C·m/g + 9·m + m·D/g
    elements. Those of the first cost H·W MACs each, all others ⌈H/s⌉·⌈W/s⌉. Each convolution has a
    batch norm, 2·(m + m + D) parameters, and no bias.

    Args:
        filters: output channels F.
        strides: s, 1 or 2 pixels.
        groups: g, the groups of both 1×1 convolutions.
        group_first: False lets the first 1×1 convolution see all channels; the paper does so where
            the input has few.
        shuffle: False leaves the shuffle out, to see what it is good for.
        momentum: batch norm's momentum.
        **kwargs: `name`, `dtype` and what else `keras.layers.Layer` takes. Inside the block the
            layers are named `reduce`, `depthwise`, `restore`, `pool`, `merge` and `relu`.

    Raises:
        ValueError: if a number is not a positive integer or `strides` above 2; when built on
            anything but (B, H, W, C), or where the channels do not fit `filters` or `groups`.

    Reference: arXiv:1707.01083, Figure 2 (b) and (c).

    >>> unit = ShuffleUnit(240, strides=2, groups=3)
    >>> tuple(unit(keras.ops.ones((1, 9, 9, 24))).shape)
    (1, 5, 5, 240)
    """

    def __init__(
        self,
        filters,
        strides=1,
        groups=3,
        *,
        group_first=True,
        shuffle=True,
        momentum=0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(filters=filters, groups=groups)
        check_choice("strides", strides, (1, 2))
        self.filters = filters
        self.strides = strides
        self.groups = groups
        self.group_first = group_first
        self.shuffle = shuffle
        self.momentum = momentum

        middle = -(-max(filters // 4, 1) // groups) * groups
        self.reduce = self._conv(
            "reduce", middle, groups=groups if group_first else 1, activation="relu"
        )
        self.depthwise = self._conv("depthwise", kernel_size=3, strides=strides, depthwise=True)
        dtype = self.dtype_policy
        if strides == 1:
            self.pool = None
            self.merge = keras.layers.Add(name="merge", dtype=dtype)
        else:
            self.pool = keras.layers.AveragePooling2D(
                3, strides=2, padding="same", name="pool", dtype=dtype
            )
            self.merge = keras.layers.Concatenate(name="merge", dtype=dtype)
        self.relu = keras.layers.ReLU(name="relu", dtype=dtype)

    def _conv(self, name, filters=None, kernel_size=1, activation=None, **options):
        return ConvBlock(
            filters,
            kernel_size,
            momentum=self.momentum,
            activation=activation,
            name=name,
            dtype=self.dtype_policy,
            **options,
        )

    def build(self, input_shape):
        """Create the weights; how many channels the branch adds depends on the input."""
        check_image_shape(input_shape)
        channels = input_shape[-1]
        if self.group_first:
            _check_groups(self.groups, channels)
        if self.strides == 1 and channels != self.filters:
            raise ValueError(
                f"filters={self.filters}: expected the input's {channels} channels at stride 1"
            )
        if self.strides == 2 and channels >= self.filters:
            raise ValueError(
                f"filters={self.filters}: expected more than the input's {channels} channels at "
                "stride 2"
            )
        added = self.filters - channels if self.strides == 2 else self.filters
        _check_groups(self.groups, added)
        self.restore = self._conv("restore", added, groups=self.groups)

        shape = input_shape
        for conv in (self.reduce, self.depthwise, self.restore):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
        shortcut = input_shape
        if self.pool is not None:
            self.pool.build(input_shape)
            shortcut = self.pool.compute_output_shape(input_shape)
        self.merge.build([shortcut, shape])
        self.relu.build(self.compute_output_shape(input_shape))

    def call(self, inputs):
        """Three convolutions with a shuffle after the first, the shortcut, then ReLU."""
        outputs = self.reduce(inputs)
        if self.shuffle:
            outputs = channel_shuffle(outputs, self.groups)
        outputs = self.restore(self.depthwise(outputs))
        shortcut = inputs if self.pool is None else self.pool(inputs)
        return self.relu(self.merge([shortcut, outputs]))

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
            "groups": self.groups,
            "group_first": self.group_first,
            "shuffle": self.shuffle,
            "momentum": self.momentum,
        }


def ShuffleNetV1(
    input_shape=(224, 224, 3),
    classes=1000,
    *,
    groups=3,
    scale=1.0,
    include_top=True,
    classifier_activation="softmax",
    shuffle=True,
    momentum=0.9,
    name=None,
):
    """ShuffleNet, version 1: `(B, H, W, C) → (B, classes)`.

    A 3×3 convolution and a 3×3 max pooling, both with stride 2, three stages of `ShuffleUnit`s that
    start with stride 2, global average pooling, and a dense layer. More groups make a layer
    cheaper, and the stages are wider for it: all group counts cost about the same. With three
    groups at 224×224×3 it has 1,865,728 parameters and 137,460,672 MACs.

    Args:
        input_shape: `(H, W, C)`; H and W may be None.
        classes: number of classes.
        groups: 1, 2, 3, 4 or 8, of the 1×1 convolutions; the very first of them is not grouped.
        scale: 0.25, 0.5, 1.0, 1.5 or 2.0 times the channels in all stages. The first convolution
            has 12 channels below scale 1 (16 with eight groups), then 24, and 48 at scale 2.
        include_top: False leaves pooling and classifier out; the output is then
            `(B, ⌈H/32⌉, ⌈W/32⌉, channels of stage 4)`.
        classifier_activation: of the dense layer; None returns logits.
        shuffle: False leaves all shuffles out.
        momentum: batch norm's momentum; .9 suits runs of a few hundred steps.
        name: the model's name; None for "shufflenet_v1".

    Returns:
        A functional `keras.Model` with layers named `stem`, `stage2_unit1` to `stage4_unit4`.

    Raises:
        ValueError: for an unknown number of groups or scale, or classes below 1.

    Reference: arXiv:1707.01083, Table 1; scales in Tables 2 and 5.

    >>> model = ShuffleNetV1((64, 64, 1), classes=2, groups=8, scale=0.25)
    >>> model.get_layer("stage4_unit4").output.shape, model.output_shape
    ((None, 2, 2, 384), (None, 2))
    """
    check_choice("groups", groups, STAGE2)
    check_choice("scale", scale, STEMS)
    check_positive(classes=classes)
    # 192 − 12 channels do not make eight groups, 192 − 16 do.
    stem = 16 if groups == 8 and scale < 1 else STEMS[scale]

    inputs = keras.Input(input_shape)
    x = ConvBlock(stem, 3, strides=2, momentum=momentum, name="stem")(inputs)
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, repeats in enumerate(REPEATS, start=2):
        filters = int(STAGE2[groups] * scale) * 2 ** (stage - 2)
        for unit in range(1, repeats + 1):
            x = ShuffleUnit(
                filters,
                strides=2 if unit == 1 else 1,
                groups=groups,
                group_first=(stage, unit) != (2, 1),
                shuffle=shuffle,
                momentum=momentum,
                name=f"stage{stage}_unit{unit}",
            )(x)
    if include_top:
        x = classifier(x, classes, classifier_activation)
    return keras.Model(inputs, x, name=name or "shufflenet_v1")
