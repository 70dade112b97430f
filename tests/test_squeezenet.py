import functools
import re

import numpy as np
import pytest

from tests.helpers import (
    assert_published,
    assert_round_trip,
    assert_same_after_loading,
    counted,
    images,
    published_rows,
    randomise,
    row_id,
)
from utils.cost import count
from utils.published import agrees, computed
from utils.squeezenet import FIRES, FireModule, SqueezeNet


@functools.cache
def cost(version, size=224):
    return counted(SqueezeNet, (size, size, 3), version=version)


def relu(values):
    return np.maximum(values, 0)


def test_fire_module_by_hand():
    """Both expansions read what the squeeze writes; the 1×1 filters come first."""
    module = FireModule(3, 4, 5)
    inputs = images(2, 5, 6, 7)
    module.build(inputs.shape)
    randomise(module)
    kernels = [weight.numpy() for weight in module.weights]
    squeezed = relu(inputs @ kernels[0][0, 0] + kernels[1])
    padded = np.pad(squeezed, ((0, 0), (1, 1), (1, 1), (0, 0)))
    wide = kernels[5] + sum(
        padded[:, i : i + 5, j : j + 6] @ kernels[4][i, j] for i in range(3) for j in range(3)
    )
    expected = np.concatenate([relu(squeezed @ kernels[2][0, 0] + kernels[3]), relu(wide)], axis=-1)
    outputs = module(inputs).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    assert (outputs[..., :4] > 0).any()
    assert (outputs[..., 4:] > 0).any()


@pytest.mark.parametrize("sides", [(8, 8), (7, 9)])
def test_fire_module_costs(sides):
    counts = count(FireModule(16, 64, 48), (*sides, 96))
    assert counts.kernels == 96 * 16 + 16 * 64 + 9 * 16 * 48
    assert (counts.biases, counts.norm) == (16 + 64 + 48, 0)
    assert counts.macs == sides[0] * sides[1] * counts.kernels
    assert FireModule(16, 64, 48).compute_output_shape((2, *sides, 96)) == (2, *sides, 112)


@pytest.mark.parametrize(
    ("version", "params", "macs"),
    [("1.0", 1_248_424, 818_924_576), ("1.1", 1_235_496, 349_151_936)],
)
def test_costs(version, params, macs):
    counts = cost(version)
    assert (counts.params, counts.macs) == (params, macs)
    assert counts.norm == counts.statistics == 0


@pytest.mark.parametrize("row", published_rows("squeezenet"), ids=row_id)
def test_table(row):
    assert_published(row, cost(row["variant"], row["resolution"]))


def test_padded_last_convolution_explains_the_authors_flops():
    (row,) = [row for row in published_rows("squeezenet") if row["macs"] == "0.86G"]
    ours = cost("1.0", 227)
    assert agrees(row["macs"], ours.macs + (15**2 - 13**2) * 512 * 1000)
    # And their count of operations, two a multiply-add, is what MobileNet's table prints.
    (copied,) = [row for row in published_rows("squeezenet") if row["macs"] == "1700M"]
    assert abs(2 * computed(row, ours)["macs"] / 1e6 - float(copied["macs"][:-1])) < 100


@pytest.mark.parametrize(
    ("version", "size", "sides"),
    [
        ("1.0", 224, [109, 54, 27, 13]),
        ("1.0", 227, [111, 55, 27, 13]),
        ("1.0", 64, [29, 14, 7, 3]),
        ("1.1", 224, [111, 55, 27, 13]),
        ("1.1", 227, [113, 56, 28, 14]),
        ("1.1", 65, [32, 16, 8, 4]),
    ],
)
def test_poolings_keep_a_window_of_two(version, size, sides):
    model = SqueezeNet((size, size, 1), classes=2, version=version)
    layers = [layer for layer in model.layers if re.fullmatch(r"conv1|pool\d", layer.name)]
    assert [layer.output.shape[1] for layer in layers] == sides
    first, second = {"1.0": (4, 8), "1.1": (3, 5)}[version]
    assert [layer.name for layer in layers] == ["conv1", "pool1", f"pool{first}", f"pool{second}"]
    assert model(images(2, size, size, 1)).shape == (2, 2)


@pytest.mark.parametrize("size", [21, 22, 30])
def test_open_size_pools_alike(size):
    logits = randomise(SqueezeNet((None, None, 1), 3, classifier_activation=None, dropout=0))
    fixed = SqueezeNet((size, size, 1), 3, classifier_activation=None)
    fixed.set_weights(logits.get_weights())
    inputs = images(2, size, size, 1)
    expected = fixed(inputs).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(logits(inputs).numpy(), expected, 1e-4, 1e-4)


def test_pooling_takes_the_maximum():
    model = SqueezeNet((21, 22, 1), 2)
    pool = [model.get_layer("pool1_pad"), model.get_layer("pool1")]
    inputs = relu(images(1, 8, 8, 96))
    outputs = inputs
    for layer in pool:
        outputs = layer(outputs)
    expected = [
        [inputs[0, i : i + 3, j : j + 3].max(axis=(0, 1)) for j in range(0, 7, 2)]
        for i in range(0, 7, 2)
    ]
    np.testing.assert_array_equal(outputs.numpy()[0], np.array(expected))


def test_logits_are_averages_of_a_relu():
    model = randomise(SqueezeNet((30, 25, 3), 6, classifier_activation=None))
    inputs = images(2, 30, 25, 3)
    features = SqueezeNet((30, 25, 3), include_top=False)
    features.set_weights(model.get_weights()[:-2])
    kernel, bias = model.get_layer("conv10").get_weights()
    expected = relu(features(inputs).numpy() @ kernel[0, 0] + bias).mean(axis=(1, 2))
    np.testing.assert_allclose(model(inputs).numpy(), expected, 1e-4, 1e-4)
    softmax = SqueezeNet((30, 25, 3), 6)
    softmax.set_weights(model.get_weights())
    np.testing.assert_allclose(softmax(inputs).numpy().sum(axis=1), 1, rtol=1e-5)


def test_names_and_dropout():
    names = [layer.name for layer in SqueezeNet((32, 32, 3), version="1.1").layers]
    assert [name for name in names if name.startswith("fire")] == [f"fire{i}" for i in FIRES]
    assert names[-4:] == ["dropout", "conv10", "avg_pool", "predictions"]
    assert SqueezeNet((32, 32, 3)).name == "squeezenet1.0"
    assert SqueezeNet((32, 32, 3), dropout=0.25).get_layer("dropout").rate == 0.25


@pytest.mark.parametrize(
    "layer",
    [FireModule(2, 3, 4), FireModule(1, 1, 5, dtype="float64", name="double")],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


def test_model_round_trip(tmp_path):
    model = SqueezeNet(
        (33, 28, 1), 3, version="1.1", classifier_activation=None, dropout=0.1, name="small"
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("dropout").rate == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FireModule(0, 1, 1), "squeeze=0: expected a positive integer"),
        (lambda: FireModule(1, 1.5, 1), "expand_1x1=1.5: expected a positive integer"),
        (lambda: FireModule(1, 1, -1), "expand_3x3=-1: expected a positive integer"),
        (lambda: FireModule(1, 1, 1)(np.zeros((2, 3))), "input_shape=(2, 3): expected four axes"),
        (
            lambda: FireModule(1, 1, 1).compute_output_shape((2, 3)),
            "input_shape=(2, 3): expected four axes",
        ),
        (lambda: SqueezeNet(version="2.0"), "version='2.0': expected one of '1.0', '1.1'"),
        (lambda: SqueezeNet(classes=0), "classes=0: expected a positive integer"),
        (lambda: SqueezeNet((224,)), "input_shape=(None, 224): expected four axes"),
        (
            lambda: SqueezeNet((32, 20, 3)),
            "input_shape=(32, 20, 3): expected at least 21 pixels a side with version='1.0'",
        ),
        (
            lambda: SqueezeNet((16, 32, 3), version="1.1"),
            "input_shape=(16, 32, 3): expected at least 17 pixels a side with version='1.1'",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
