import re

import keras
import numpy as np
import pytest

from tests.helpers import assert_round_trip, images, randomise
from utils.blocks import (
    ConvBlock,
    ExpandedBlock,
    SqueezeExcite,
    check_choice,
    check_image_shape,
    check_positive,
    classifier,
    make_divisible,
)
from utils.cost import count
from utils.course.settings import ROOT


def correlate(inputs, kernel, strides, groups=1):
    """Convolution without padding, written out: (B, H, W, C), (k, k, C/g, F) → (B, H', W', F)."""
    size = kernel.shape[0]
    height = (inputs.shape[1] - size) // strides + 1
    width = (inputs.shape[2] - size) // strides + 1
    outputs = np.zeros((inputs.shape[0], height, width, kernel.shape[-1]))
    for group in range(groups):
        channels = slice(group * kernel.shape[2], (group + 1) * kernel.shape[2])
        each = kernel.shape[-1] // groups
        filters = slice(group * each, (group + 1) * each)
        for y in range(height):
            for x in range(width):
                rows = slice(y * strides, y * strides + size)
                columns = slice(x * strides, x * strides + size)
                patch = inputs[:, rows, columns, channels]
                outputs[:, y, x, filters] = np.tensordot(patch, kernel[..., filters], 3)
    return outputs


def normalise(values, norm, epsilon):
    gamma, beta, mean, variance = norm.get_weights()
    return gamma * (values - mean) / np.sqrt(variance + epsilon) + beta


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, "depthwise"])
def test_block_is_convolution_then_norm_then_relu(groups, strides, padding, size):
    options = {"depthwise": True} if groups == "depthwise" else {"filters": 6, "groups": groups}
    block = ConvBlock(kernel_size=5, strides=strides, padding=padding, epsilon=0.1, **options)
    inputs = images(2, size, size, 4)
    block(inputs)
    randomise(block)

    before, after = 2, 2
    if padding == "same" and strides == 2 and size % 2 == 0:
        before, after = 1, 2
    padded = np.pad(inputs, ((0, 0), (before, after), (before, after), (0, 0)))
    kernel = block.conv.get_weights()[0]
    if groups == "depthwise":
        kernel, groups = np.moveaxis(kernel, 3, 2), 4
    expected = normalise(correlate(padded, kernel, strides, groups), block.norm, 0.1)
    outputs = keras.ops.convert_to_numpy(block(inputs))
    np.testing.assert_allclose(outputs, np.maximum(expected, 0), rtol=1e-4, atol=1e-4)
    assert block.compute_output_shape(inputs.shape) == outputs.shape
    assert block(keras.Input(inputs.shape[1:])).shape[1:] == outputs.shape[1:]


@pytest.mark.parametrize(
    ("options", "kernels", "biases", "norm"),
    [
        ({"filters": 16}, 9 * 4 * 16, 0, 32),
        ({"filters": 16, "norm": False}, 9 * 4 * 16, 16, 0),
        ({"filters": 16, "groups": 2, "kernel_size": 5}, 25 * 2 * 16, 0, 32),
        ({"depthwise": True}, 9 * 4, 0, 8),
        ({"depthwise": True, "norm": False}, 9 * 4, 4, 0),
    ],
)
def test_parameters_and_macs(options, kernels, biases, norm):
    counts = count(ConvBlock(strides=2, **options), (9, 7, 4))
    assert (counts.kernels, counts.biases, counts.norm) == (kernels, biases, norm)
    assert counts.macs == kernels * 5 * 4


def test_names_tell_the_role():
    block = ConvBlock(4, 3, 2, padding="symmetric", activation="relu6")
    block.build((None, 8, 8, 3))
    names = [layer.name for layer in block._flatten_layers(include_self=False)]
    assert sorted(names) == ["activation", "bn", "conv", "pad"]


def test_training_updates_the_statistics_by_the_momentum():
    block = ConvBlock(4, momentum=0.9)
    inputs = images(8, 5, 5, 3) + 2
    block.build(inputs.shape)
    values = block.conv(inputs).numpy()
    block(inputs)
    assert not block.norm.moving_mean.numpy().any()
    block(inputs, training=True)
    np.testing.assert_allclose(
        block.norm.moving_mean.numpy(), 0.1 * values.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        block.norm.moving_variance.numpy(), 0.9 + 0.1 * values.var((0, 1, 2)), rtol=1e-4
    )


@pytest.mark.parametrize("depthwise", [False, True])
def test_kernels_start_at_a_scale_that_keeps_the_signal(depthwise):
    block = ConvBlock(None if depthwise else 256, depthwise=depthwise, norm=False, activation=None)
    inputs = np.maximum(images(2, 8, 8, 256), 0)
    squares = block(inputs).numpy()[:, 1:-1, 1:-1] ** 2
    # He: half of the normal inputs are cut off, and the variance comes out as 1 all the same.
    assert 0.8 < squares.mean() < 1.2


def test_zero_init_gamma_silences_the_block():
    inputs = images(2, 5, 5, 3)
    assert not ConvBlock(4, zero_init_gamma=True)(inputs).numpy().any()
    assert ConvBlock(4)(inputs).numpy().any()


@keras.saving.register_keras_serializable("tests")
def halve(values):
    return values / 2


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (None, lambda values: values),
        ("relu6", lambda values: np.clip(values, 0, 6)),
        ("hard_swish", lambda values: values * np.clip(values + 3, 0, 6) / 6),
        (halve, lambda values: values / 2),
    ],
)
def test_activation_by_name_or_function(activation, function):
    inputs = 5 * images(2, 5, 5, 3)
    block = ConvBlock(4, activation=activation, norm=False)
    np.testing.assert_allclose(
        block(inputs).numpy(), function(block.conv(inputs).numpy()), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "options",
    [
        {"filters": 6, "kernel_size": 5, "strides": 2, "groups": 2, "activation": "swish"},
        {"depthwise": True, "padding": "symmetric", "strides": 2, "activation": None},
        {"filters": 3, "kernel_size": 1, "norm": False, "activation": halve, "dtype": "float64"},
        {"filters": 3, "momentum": 0.7, "epsilon": 0.1, "zero_init_gamma": True},
    ],
)
def test_round_trip(options, tmp_path):
    assert_round_trip(ConvBlock(**options), (7, 8, 4), tmp_path)


def test_dtype_reaches_the_sublayers():
    block = ConvBlock(4, dtype="mixed_float16")
    assert block(images(1, 4, 4, 3)).dtype == "float16"
    assert {weight.dtype for weight in block.weights} == {"float32"}
    assert {part.compute_dtype for part in block._flatten_layers()} == {"float16"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters=0: expected a positive integer"),
        ({}, "filters=None: expected a positive integer"),
        ({"filters": 8, "strides": 1.5}, "strides=1.5: expected a positive integer"),
        ({"filters": 8, "kernel_size": 0}, "kernel_size=0: expected a positive integer"),
        ({"filters": 8, "groups": 0}, "groups=0: expected a positive integer"),
        ({"filters": 8, "padding": "full"}, "padding='full': expected one of 'same', 'symmetric'"),
        ({"filters": 8, "depthwise": True}, "filters=8, groups=1: expected None and 1 with"),
        ({"groups": 2, "depthwise": True}, "filters=None, groups=2: expected None and 1 with"),
        (
            {"filters": 8, "kernel_size": 2, "padding": "symmetric"},
            "kernel_size=2: expected an odd number with padding='symmetric'",
        ),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ConvBlock(**options)


def test_two_dimensional_input():
    with pytest.raises(
        ValueError, match=r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    ):
        ConvBlock(8)(np.zeros((2, 3)))


def test_checks_accept_what_is_right():
    check_positive(filters=1, strides=np.int64(2))
    check_choice("padding", "same", ("same", "valid"))
    check_image_shape((None, None, None, 3))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (0.35 * 32, 16),  # 8 would lose more than a tenth of 11.2
        (0.75 * 24, 24),  # and 16 of 18
        (1.2 * 16, 24),  # and 16 of 19.2: the stem of EfficientNet-B3's first stage
        (0.75 * 32, 24),
        (1.4 * 24, 32),
        (1.3 * 32, 40),
        (1.4 * 320, 448),
        (12, 16),
        (60, 64),
        (59.9, 56),
        (3, 8),
        (4, 8),
    ],
)
def test_make_divisible(channels, expected):
    assert make_divisible(channels) == expected


def test_make_divisible_is_near_and_never_much_lower():
    for tenths in range(1, 5000):
        channels = tenths / 10
        rounded = make_divisible(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert rounded > channels - 4
        below = rounded - 8
        # Nothing smaller would do: it is too small, or more than a tenth lower, or farther away.
        assert below < 8 or below < 0.9 * channels or channels - below >= rounded - channels


def test_make_divisible_with_other_divisor_and_minimum():
    assert make_divisible(10, divisor=4) == 12
    assert make_divisible(9.9, divisor=4) == 12
    assert make_divisible(17, divisor=4) == 16
    assert make_divisible(3, minimum=16) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "channels=0: expected a positive number"),
        ((8, 0), "divisor=0: expected a positive integer"),
    ],
)
def test_make_divisible_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_divisible(*arguments)


def test_layers_use_no_tensorflow():
    sources = {path.stem: path.read_text() for path in (ROOT / "utils").glob("*.py")}
    layers = [
        name
        for name, text in sources.items()
        if re.search(r"\((keras\.layers\.|Image)Layer\)", text)
    ]
    assert {"blocks", "pointwise", "residual"} <= set(layers)
    for name in layers:
        assert not re.search(r"\btensorflow\b|\btf\.", sources[name]), name


def test_squeeze_excite_by_hand():
    layer = randomise(keras.Sequential([keras.Input((3, 5, 8)), SqueezeExcite(2)])).layers[-1]
    x = images(2, 3, 5, 8)
    reduce, bias, restore, bias2 = (w.numpy() for w in layer.weights)
    middle = np.maximum(x.mean(axis=(1, 2)) @ reduce[0, 0] + bias, 0) @ restore[0, 0] + bias2
    gate = np.clip(middle + 3, 0, 6) / 6
    np.testing.assert_allclose(layer(x).numpy(), x * gate[:, None, None, :], rtol=1e-4, atol=1e-5)


def test_squeeze_excite_costs():
    cost = count(SqueezeExcite(4), (14, 14, 16))
    assert (cost.kernels, cost.biases, cost.macs) == (128, 20, 128)


def test_squeeze_excite_round_trip(tmp_path):
    layer = SqueezeExcite(3, activation="silu", gate="sigmoid", dtype="float32")
    assert_round_trip(layer, (6, 7, 8), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"squeezed": 0}, "squeezed=0: expected a positive integer"),
        (
            {"squeezed": 4, "gate": "tanh"},
            "gate='tanh': expected one of 'hard_sigmoid', 'sigmoid'",
        ),
    ],
)
def test_squeeze_excite_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        SqueezeExcite(**options)


@keras.saving.register_keras_serializable("tests")
class Narrow(ExpandedBlock):
    def steps(self, channels):
        return [
            self.conv("expand", self.expanded(channels)),
            self.conv("depthwise", None, 3, self.strides, depthwise=True),
            self.conv("project", self.filters, activation=None),
        ]


@pytest.mark.parametrize(
    ("filters", "strides", "shortcut"), [(8, 1, True), (8, 2, False), (16, 1, False)]
)
def test_expanded_block_adds_its_input_where_shapes_agree(filters, strides, shortcut):
    model = keras.Sequential([keras.Input((5, 6, 8)), Narrow(filters, strides)])
    block = randomise(model).layers[-1]
    x = images(2, 5, 6, 8)
    body = x
    for layer in block.body:
        body = layer(body)
    assert block.has_shortcut == shortcut
    assert body.shape == block(x).shape == block.compute_output_shape(x.shape)
    expected = body.numpy() + (x if shortcut else 0)
    np.testing.assert_allclose(block(x).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_expanded_block_rounds_its_middle():
    assert Narrow(8, expansion=2.3, expand_divisor=8).expanded(64) == 144
    assert Narrow(8, expansion=88 / 24).expanded(24) == 88


def test_expanded_block_round_trip(tmp_path):
    options = {"expansion": 3, "activation": "silu", "expand_divisor": 4, "drop_rate": 0.25}
    layer = Narrow(8, momentum=0.9, epsilon=1e-5, **options)
    assert_round_trip(layer, (6, 7, 8), tmp_path)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    keras.utils.set_random_seed(0)
    block = Narrow(4, drop_rate=0.4)
    x = images(1, 3, 3, 4)
    branch = block(x, training=False).numpy() - x
    many = np.repeat(x, 2000, axis=0)
    for layer in block.body:  # the moving statistics, so that all images have the same branch
        layer.norm.trainable = False
    added = block(many, training=True).numpy() - many
    skipped = np.abs(added).max(axis=(1, 2, 3)) < 1e-6
    assert abs(skipped.mean() - 0.4) < 0.05
    np.testing.assert_allclose(added[~skipped], np.repeat(branch / 0.6, (~skipped).sum(), 0), 1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters=0: expected a positive integer"),
        ({"filters": 8, "expansion": 0}, "expansion=0: expected a positive number"),
        ({"filters": 8, "drop_rate": 1}, "drop_rate=1: expected a number from 0 to below 1"),
    ],
)
def test_expanded_block_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Narrow(**options)


def test_expanded_block_needs_images():
    with pytest.raises(ValueError, match="expected four axes"):
        Narrow(8).build((None, 8))


def test_classifier_ends_a_model():
    x = keras.Input((4, 4, 6))
    model = keras.Model(x, classifier(x, 3, activation=None, dropout=0.2))
    assert [layer.name for layer in model.layers[1:]] == ["avg_pool", "dropout", "predictions"]
    inputs = images(2, 4, 4, 6)
    kernel, bias = model.layers[-1].get_weights()
    expected = inputs.mean(axis=(1, 2)) @ kernel + bias
    np.testing.assert_allclose(model(inputs).numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="classes=0: expected a positive integer"):
        classifier(x, 0)
