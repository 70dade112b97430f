import re

import keras
import numpy as np
import pytest

from tests.helpers import (
    assert_published,
    assert_round_trip,
    assert_same_after_loading,
    images,
    published_rows,
    randomise,
    row_id,
)
from utils.blocks import ConvBlock
from utils.cost import count
from utils.pointwise import GOOGLENET, InceptionModule, MLPConv, NiN, PointwiseConv2D

CHANNELS_IN = dict(zip(GOOGLENET, (192, 256, 480, 512, 512, 512, 528, 832, 832), strict=True))


def relu(values):
    return np.maximum(values, 0)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("size", [6, 7])
def test_pointwise_is_conv2d_and_dense(size, use_bias):
    inputs = images(2, size, size, 32)
    layer = built(PointwiseConv2D(5, "relu", use_bias), size, size, 32)
    kernel, *bias = layer.get_weights()
    conv = keras.layers.Conv2D(5, 1, activation="relu", use_bias=use_bias)
    dense = keras.layers.Dense(5, activation="relu", use_bias=use_bias)
    outputs = layer(inputs).numpy()
    for other, kernel_shape in ((conv, (1, 1, 32, 5)), (dense, (32, 5))):
        other.build(inputs.shape)
        other.set_weights([kernel.reshape(kernel_shape), *bias])
        np.testing.assert_allclose(outputs, other(inputs).numpy(), rtol=1e-5, atol=1e-5)
    assert (outputs == 0).any()
    assert layer.compute_output_shape(inputs.shape) == outputs.shape


def test_one_filter_of_value_two_doubles_the_image():
    image = images(1, 6, 6, 1)
    layer = PointwiseConv2D(1)
    layer.build(image.shape)
    layer.kernel.assign([[2.0]])
    np.testing.assert_array_equal(layer(image).numpy(), 2 * image)


def test_pointwise_costs():
    counts = count(PointwiseConv2D(32), (28, 28, 192))
    assert (counts.kernels, counts.biases) == (192 * 32, 32)
    assert counts.macs == 28 * 28 * 192 * 32
    assert counts.activations == 28 * 28 * 32


def test_mlpconv_is_its_layers_with_relu_after_each():
    inputs = images(2, 7, 8, 3)
    block = built(MLPConv((6, 5, 4), kernel_size=5), 7, 8, 3)
    kernel, bias, *pointwise = block.get_weights()
    values = keras.ops.convert_to_numpy(keras.ops.conv(inputs, kernel, padding="same"))
    values = relu(values + bias)
    for kernel, bias in zip(pointwise[::2], pointwise[1::2], strict=True):
        values = relu(values @ kernel + bias)
    np.testing.assert_allclose(block(inputs).numpy(), values, rtol=1e-4, atol=1e-5)
    assert block.compute_output_shape(inputs.shape) == values.shape


def test_mlpconv_costs():
    counts = count(MLPConv((192, 160, 96), kernel_size=5), (32, 32, 3))
    assert counts.kernels == 25 * 3 * 192 + 192 * 160 + 160 * 96
    assert counts.biases == 192 + 160 + 96
    assert counts.macs == 32 * 32 * counts.kernels


@pytest.mark.parametrize("columns", [(2, 3, 4, 5, 6, 7), (2, None, 4, None, 6, None)])
@pytest.mark.parametrize("size", [8, 9])
def test_inception_joins_its_branches_in_the_order_of_the_table(columns, size):
    inputs = images(2, size, size, 4)
    module = built(InceptionModule(*columns), size, size, 4)
    weights = iter(module.get_weights())

    def conv(values, size):
        kernel, bias = next(weights), next(weights)
        if kernel.ndim == 2:
            kernel = kernel[None, None]
        assert kernel.shape[0] == size
        values = keras.ops.conv(values, kernel, padding="same")
        return relu(keras.ops.convert_to_numpy(values) + bias)

    _, reduce_3x3, _, reduce_5x5, _, pool_proj = columns
    branches = [conv(inputs, 1)]
    branches.append(conv(conv(inputs, 1) if reduce_3x3 else inputs, 3))
    branches.append(conv(conv(inputs, 1) if reduce_5x5 else inputs, 5))
    pooled = keras.ops.max_pool(inputs, 3, strides=1, padding="same")
    branches.append(conv(pooled, 1) if pool_proj else keras.ops.convert_to_numpy(pooled))
    expected = np.concatenate(branches, axis=-1)

    np.testing.assert_allclose(module(inputs).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert module.compute_output_shape(inputs.shape) == expected.shape


def test_inception_5x5_branch_directly_and_through_a_bottleneck():
    shape = (28, 28, 192)
    directly = count(ConvBlock(32, 5, norm=False), shape)
    bottleneck = keras.Sequential([PointwiseConv2D(16, "relu"), ConvBlock(32, 5, norm=False)])
    assert directly.macs == 120_422_400
    assert count(bottleneck, shape).macs == 12_443_648


def test_inception_costs():
    counts = count(InceptionModule(64, 96, 128, 16, 32, 32), (28, 28, 192))
    assert counts.params == 163_696
    assert counts.macs == 28 * 28 * 163_328
    naive = count(InceptionModule(64, None, 128, None, 32, None), (28, 28, 192))
    assert naive.macs == 28 * 28 * 192 * (64 + 9 * 128 + 25 * 32)


@pytest.mark.parametrize("row", published_rows("pointwise"), ids=row_id)
def test_inception_modules_of_googlenet(row):
    shape = (row["resolution"], row["resolution"], CHANNELS_IN[row["variant"]])
    assert_published(row, count(InceptionModule(*GOOGLENET[row["variant"]]), shape))


def test_googlenet_modules_fit_together():
    channels = 192
    for name, columns in GOOGLENET.items():
        assert CHANNELS_IN[name] == channels
        channels = InceptionModule(*columns).compute_output_shape((1, 7, 7, channels))[-1]
    assert channels == 1024


def test_nin_costs():
    counts = count(NiN())
    kernels = (
        (25 * 3 * 192 + 192 * 160 + 160 * 96) * 32 * 32,
        (25 * 96 * 192 + 192 * 192 + 192 * 192) * 16 * 16,
        (9 * 192 * 192 + 192 * 192 + 192 * 10) * 8 * 8,
    )
    assert counts.params == 966_986
    assert counts.macs == sum(kernels)


@pytest.mark.parametrize(("size", "last"), [(32, 8), (33, 9), (8, 2)])
def test_nin_shapes(size, last):
    model = NiN((size, size, 3), classes=7)
    assert model.get_layer("mlpconv3").output.shape == (None, last, last, 7)
    outputs = model(images(2, size, size, 3)).numpy()
    assert outputs.shape == (2, 7)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


def test_nin_needs_no_fixed_size():
    model = randomise(NiN((None, None, 3), classifier_activation=None))
    assert count(model, (32, 32, 3)).params == 966_986
    scores = model(images(2, 20, 24, 3)).numpy()
    assert scores.shape == (2, 10)
    assert (scores >= 0).all()


def test_nin_drops_in_training_only():
    model = NiN((16, 16, 3), dropout=0.9, classifier_activation=None)
    inputs = images(2, 16, 16, 3)
    np.testing.assert_array_equal(model(inputs).numpy(), model(inputs, training=False).numpy())
    assert (model(inputs, training=True).numpy() != model(inputs).numpy()).any()


@pytest.mark.parametrize(
    "layer",
    [
        PointwiseConv2D(5, activation="relu6", use_bias=False),
        PointwiseConv2D(5, activation="swish", dtype="float64", name="mix"),
        MLPConv((6, 5, 4, 3), kernel_size=5, dtype="float64"),
        InceptionModule(2, 3, 4, 5, 6, 7),
        InceptionModule(2, None, 4, None, 6, None, name="naive", dtype="float64"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


def test_nin_round_trip(tmp_path):
    model = NiN((9, 8, 1), classes=3, classifier_activation=None, dropout=0.2, name="small")
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("dropout2").rate == 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PointwiseConv2D(0), "filters=0: expected a positive integer"),
        (lambda: PointwiseConv2D(2.5), "filters=2.5: expected a positive integer"),
        (lambda: MLPConv(16), "filters=16: expected a tuple of two or more"),
        (lambda: MLPConv((16,)), "filters=(16,): expected a tuple of two or more"),
        (lambda: MLPConv((16, 0)), "filters[1]=0: expected a positive integer"),
        (lambda: MLPConv((16, 8), kernel_size=-1), "kernel_size=-1: expected a positive integer"),
        (
            lambda: InceptionModule(64, 0, 128, 16, 32, 32),
            "reduce_3x3=0: expected a positive integer",
        ),
        (
            lambda: InceptionModule(64, 96, None, 16, 32, 32),
            "filters_3x3=None: expected a positive integer",
        ),
        (lambda: NiN(classes=0), "classes=0: expected a positive integer"),
        (lambda: NiN((32,)), "input_shape=(None, 32): expected four axes (B, H, W, C)"),
        (lambda: NiN((32, 32, None)), "input_shape=(None, 32, 32, None): expected four axes"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "layer",
    [PointwiseConv2D(8), MLPConv((8, 8)), InceptionModule(2, 3, 4, 5, 6, 7)],
    ids=lambda layer: type(layer).__name__,
)
def test_two_dimensional_input(layer):
    message = r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=message):
        layer.compute_output_shape((2, 3))
