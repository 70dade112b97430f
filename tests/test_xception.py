import functools
import re

import keras
import numpy as np
import pytest

from tests.helpers import (
    applications,
    assert_published,
    assert_round_trip,
    assert_same_after_loading,
    assert_same_function,
    counted,
    difference,
    images,
    published_rows,
    randomise,
    row_id,
)
from utils.cost import count
from utils.weights import copy_applications
from utils.xception import Xception, XceptionBlock


@functools.cache
def cost():
    return counted(Xception)


@pytest.fixture(scope="module")
def original():
    return randomise(applications("Xception", 72))


def relu(values):
    return np.maximum(values, 0)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


@pytest.mark.parametrize("size", [72, 71])
def test_same_logits_as_keras_applications(original, size):
    theirs = original
    if size != 72:
        theirs = applications("Xception", size)
        theirs.set_weights(original.get_weights())
    ours = Xception((size, size, 3), 10, classifier_activation=None)
    copy_applications(theirs, ours)
    assert_same_function(ours, theirs, images(4, size, size, 3), wrong_epsilon=1e-1)


def test_without_the_classifier(original):
    features = keras.Model(original.input, original.get_layer("block14_sepconv2_act").output)
    ours = Xception((72, 72, 3), include_top=False)
    copy_applications(features, ours)
    assert ours.output_shape == (None, 3, 3, 2048)
    assert difference(ours, features, images(2, 72, 72, 3)) <= 1e-4


def separable(layer, x):
    """A separable convolution and its batch norm, in numpy."""
    conv, norm = layer
    depthwise, pointwise = conv.get_weights()
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    spatial = sum(
        padded[:, i : i + height, j : j + width] * depthwise[i, j, :, 0]
        for i in range(3)
        for j in range(3)
    )
    gamma, beta, mean, variance = norm.get_weights()
    return gamma * (spatial @ pointwise[0, 0] - mean) / np.sqrt(variance + 1e-3) + beta


@pytest.mark.parametrize("relu_first", [True, False])
def test_block_by_hand(relu_first):
    """No ReLU between the halves of a separable convolution, none on the shortcut or at the end."""
    inputs = images(2, 5, 6, 8)
    block = built(XceptionBlock((4, 8), relu_first=relu_first), 5, 6, 8)
    layers = {layer.name: layer for layer in block.body}
    x = separable(
        (layers["sepconv1"], layers["sepconv1_bn"]), relu(inputs) if relu_first else inputs
    )
    x = separable((layers["sepconv2"], layers["sepconv2_bn"]), relu(x))
    assert block.shortcut == []
    np.testing.assert_allclose(block(inputs).numpy(), inputs + x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("strides", "size"), [(1, 6), (2, 6), (2, 7)])
def test_shortcut_where_the_shape_changes(strides, size):
    inputs = images(2, size, size, 4)
    block = built(XceptionBlock((6,), strides), size, size, 4)
    x = separable((block.body[1], block.body[2]), relu(inputs))
    if strides == 2:
        x = keras.ops.convert_to_numpy(keras.ops.max_pool(x, 3, 2, padding="same"))
    conv, norm = block.shortcut
    gamma, beta, mean, variance = norm.get_weights()
    projected = inputs[:, ::strides, ::strides] @ conv.get_weights()[0][0, 0]
    expected = x + gamma * (projected - mean) / np.sqrt(variance + 1e-3) + beta
    assert expected.shape == block.compute_output_shape(inputs.shape)
    np.testing.assert_allclose(block(inputs).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "half"), [(8, 4), (9, 5)])
def test_block_costs(size, half):
    counts = count(XceptionBlock((16, 32), strides=2), (size, size, 8))
    body = 9 * 8 + 8 * 16 + 9 * 16 + 16 * 32
    assert (counts.kernels, counts.biases) == (body + 8 * 32, 0)
    assert counts.norm == 2 * (16 + 32 + 32)
    assert counts.macs == size**2 * body + half**2 * 8 * 32
    middle = count(XceptionBlock((8, 8, 8)), (size, size, 8))
    assert middle.kernels == 3 * (9 * 8 + 8 * 8)


def test_costs():
    counts = cost()
    assert (counts.params, counts.macs) == (22_855_952, 8_357_403_496)
    assert counts.statistics == counts.norm == 54_528
    assert counts.biases == 1000


@pytest.mark.parametrize("row", published_rows("xception"), ids=row_id)
def test_table(row):
    assert_published(row, cost())


def test_stage_shapes():
    shapes = {row.name: row.output_shape for row in cost().layers}
    assert shapes["block1_conv1"] == (149, 149, 32)
    assert shapes["block1_conv2"] == (147, 147, 64)
    added = [shapes[f"block{block}/add"] for block in (2, 3, 4, 5, 12, 13)]
    assert added == [
        (74, 74, 128),
        (37, 37, 256),
        (19, 19, 728),
        (19, 19, 728),
        (19, 19, 728),
        (10, 10, 1024),
    ]
    assert shapes["block14_sepconv2"] == (10, 10, 2048)
    acts = [name for name in shapes if name.endswith("sepconv1_act")]
    assert "block2/sepconv1_act" not in acts
    assert len(acts) == 12


@pytest.mark.parametrize(("size", "side"), [(64, 2), (65, 2), (7, 1)])
def test_small_images(size, side):
    model = Xception((size, size, 1), 2)
    assert model.get_layer("block14_sepconv2_act").output.shape == (None, side, side, 2048)
    np.testing.assert_allclose(model(images(2, size, size, 1)).numpy().sum(axis=1), 1, 1e-5)


def test_size_may_be_open():
    assert Xception((None, None, 3), include_top=False).output_shape == (None, None, None, 2048)


def test_momentum_reaches_every_norm():
    layers = Xception((32, 32, 3), momentum=0.5)._flatten_layers()
    norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {0.5}
    assert len(norms) == 40


@pytest.mark.parametrize(
    "layer",
    [
        XceptionBlock((4, 6), 2, momentum=0.5),
        XceptionBlock((4, 4, 4), relu_first=False, name="middle"),
        XceptionBlock([3], 3, dtype="float64", name="double"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


def test_model_round_trip(tmp_path):
    model = Xception((33, 32, 1), 3, classifier_activation=None, momentum=0.5, name="small")
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("block2").get_config()["momentum"] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: XceptionBlock(()), "filters=(): expected a tuple such as (128, 128)"),
        (lambda: XceptionBlock(128), "filters=128: expected a tuple such as (128, 128)"),
        (lambda: XceptionBlock((8, 0)), "filters[1]=0: expected a positive integer"),
        (lambda: XceptionBlock((8,), strides=0), "strides=0: expected a positive integer"),
        (lambda: XceptionBlock((3,))(np.zeros((2, 3))), "input_shape=(2, 3): expected four axes"),
        (
            lambda: XceptionBlock((3,)).compute_output_shape((2, 3)),
            "input_shape=(2, 3): expected four axes",
        ),
        (lambda: Xception(classes=0), "classes=0: expected a positive integer"),
        (lambda: Xception((224,)), "input_shape=(None, 224): expected four axes"),
        (
            lambda: Xception((6, 32, 3)),
            "input_shape=(6, 32, 3): expected at least 7 pixels a side",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
