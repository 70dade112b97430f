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
from utils import experiments, mobilenet_v1
from utils.blocks import ConvBlock
from utils.cost import count
from utils.data import labels
from utils.experiments import separable
from utils.mobilenet_v1 import DepthwiseSeparableConv, MobileNetV1
from utils.published import agrees
from utils.weights import copy_applications


@functools.cache
def cost(size=224, **options):
    """What a whole network costs; several tests ask for the same one."""
    return counted(MobileNetV1, (size, size, 3), **options)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


def normed(conv_block, values):
    """Batch norm at inference and ReLU6, by hand."""
    gamma, beta, mean, variance = conv_block.norm.get_weights()
    return np.clip(gamma * (values - mean) / np.sqrt(variance + 1e-3) + beta, 0, 6)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("strides", [1, 2])
def test_block_is_a_filter_for_each_channel_then_a_matrix(strides, size):
    layer, inputs = (
        built(DepthwiseSeparableConv(5, strides), size, size, 4),
        images(2, size, size, 4),
    )
    out = -(-size // strides)
    # TensorFlow's "same": of the pixels to add, the odd one goes to the bottom right.
    total = (out - 1) * strides + 3 - size
    padded = np.pad(inputs, ((0, 0), *2 * ((total // 2, total - total // 2),), (0, 0)))
    kernel = layer.depthwise.conv.get_weights()[0][..., 0]
    filtered = np.zeros((2, out, out, 4))
    for row in range(out):
        for column in range(out):
            top, left = row * strides, column * strides
            window = padded[:, top : top + 3, left : left + 3]
            filtered[:, row, column] = (window * kernel).sum(axis=(1, 2))
    filtered = normed(layer.depthwise, filtered)
    expected = normed(layer.pointwise, filtered @ layer.pointwise.conv.get_weights()[0][0, 0])
    outputs = layer(inputs).numpy()
    assert outputs.shape == expected.shape == layer.compute_output_shape(inputs.shape)
    np.testing.assert_allclose(outputs, expected, 1e-4, 1e-4)


def test_activation_may_be_another():
    inputs = 10 * images(2, 6, 6, 4)
    layer = built(DepthwiseSeparableConv(5, activation="relu"), 6, 6, 4)
    assert layer(inputs).numpy().max() > 6
    layer = built(DepthwiseSeparableConv(5, activation=None), 6, 6, 4)
    assert layer(inputs).numpy().min() < -6


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("strides", [1, 2])
def test_block_costs(size, strides):
    counts = count(DepthwiseSeparableConv(5, strides), (size, size, 4))
    positions = (-(-size // strides)) ** 2
    assert counts.kernels == 9 * 4 + 4 * 5
    assert counts.params - counts.kernels == counts.norm == 2 * (4 + 5)
    assert counts.macs == positions * counts.kernels
    full = count(ConvBlock(5, 3, strides), (size, size, 4))
    assert counts.macs / full.macs == pytest.approx(1 / 5 + 1 / 9)


def test_network_costs():
    counts = cost()
    assert (counts.params, counts.macs) == (4_231_976, 568_740_352)
    assert (counts.kernels, counts.biases, counts.norm) == (4_209_088, 1000, 21_888)
    assert counts.statistics == counts.norm
    assert counts.activations == 5_042_688
    by_kind = dict.fromkeys(("Conv2D", "DepthwiseConv2D", "Dense"), 0)
    for row in counts.layers:
        if row.macs:
            by_kind[row.kind] += row.macs
    stem = 112 * 112 * 27 * 32
    assert by_kind["DepthwiseConv2D"] == 17_385_984
    assert by_kind["Conv2D"] - stem == 539_492_352
    assert (stem, by_kind["Dense"]) == (10_838_016, 1_024_000)


def test_twins_and_shallow_network_cost():
    full = cost(separable=False)
    assert (full.kernels, full.macs) == (29_281_120, 4_867_293_184)
    assert full.norm == 2 * (32 + 64 + 2 * 128 + 2 * 256 + 6 * 512 + 2 * 1024)
    shallow = cost(shallow=True)
    block = count(DepthwiseSeparableConv(512), (14, 14, 512))
    assert cost().macs - shallow.macs == 5 * block.macs
    assert cost().params - shallow.params == 5 * block.params
    both = cost(shallow=True, separable=False)
    assert full.kernels - both.kernels == 5 * 9 * 512 * 512


def options_of(variant):
    if variant.startswith("alpha="):
        return {"alpha": float(variant.split("=")[1])}
    return {"full convolution": {"separable": False}, "shallow": {"shallow": True}}[variant]


@pytest.mark.parametrize("row", published_rows("mobilenet_v1", "MobileNetV1"), ids=row_id)
def test_published_table(row):
    assert_published(row, cost(row["resolution"], **options_of(row["variant"])))


@functools.cache
def whole():
    """What the network costs, with its layers."""
    return count(MobileNetV1())


def share(kind, attribute):
    """The share that a kind of layers has of the network's kernels or multiply-adds."""
    kinds = {
        "Conv 1x1": lambda row: row.kind == "Conv2D" and row.layer.kernel_size == (1, 1),
        "Conv DW 3x3": lambda row: row.kind == "DepthwiseConv2D",
        "Conv 3x3": lambda row: row.kind == "Conv2D" and row.layer.kernel_size == (3, 3),
        "Fully Connected": lambda row: row.kind == "Dense",
    }
    rows = [row for row in whole().layers if kinds[kind](row)]
    if attribute == "macs":
        return sum(row.macs for row in rows) / whole().macs
    return sum(np.prod(row.layer.kernel.shape) for row in rows) / whole().kernels


@pytest.mark.parametrize("row", published_rows("mobilenet_v1", "MobileNetV1 shares"), ids=row_id)
def test_published_shares(row):
    for column in ("params", "macs"):
        expected = column not in row.get("not_reproduced", ())
        assert agrees(row[column], share(row["variant"], column)) == expected, (row, column)


def test_transposed_digits_of_the_published_shares():
    """With 1.91 % for the first convolution the published column adds up to 100 %."""
    rows = published_rows("mobilenet_v1", "MobileNetV1 shares")
    published = {row["variant"]: float(row["macs"].rstrip("%")) for row in rows}
    assert published["Conv 3x3"] == 1.19
    assert agrees("1.91%", share("Conv 3x3", "macs"))
    assert sum({**published, "Conv 3x3": 1.91}.values()) == pytest.approx(100, abs=0.02)


def test_a_stride_of_two_in_the_last_block_would_not_give_the_published_sum():
    strided = count(DepthwiseSeparableConv(1024, 2), (7, 7, 1024)).macs
    once = count(DepthwiseSeparableConv(1024), (7, 7, 1024)).macs
    assert agrees("569M", cost().macs)
    assert round((cost().macs - once + strided) / 1e6, 1) == 533.8


@pytest.mark.parametrize(("alpha", "size"), [(1.0, 64), (0.5, 96), (0.5, 95), (0.33, 63)])
def test_same_logits_as_keras_applications(alpha, size):
    original = randomise(applications("MobileNet", size, alpha=alpha))
    ours = MobileNetV1((size, size, 3), 10, alpha, classifier_activation=None)
    copy_applications(original, ours)
    assert_same_function(ours, original, images(2, size, size, 3), wrong_epsilon=1e-2)


def test_same_features_as_keras_applications():
    original = randomise(applications("MobileNet", 64, include_top=False, alpha=0.25))
    ours = MobileNetV1((64, 64, 3), alpha=0.25, include_top=False)
    copy_applications(original, ours)
    assert difference(ours, original, images(2, 64, 64, 3)) <= 1e-4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"depth_multiplier": 2}, "they part at layer 'conv_dw_1'"),
        ({"include_top": False, "pooling": "avg"}, "they part at the end"),
    ],
)
def test_other_mobilenets_are_refused(options, reason):
    model = applications("MobileNet", 32, alpha=0.25, **options)
    ours = MobileNetV1((32, 32, 3), 10, 0.25)
    with pytest.raises(ValueError, match=reason):
        copy_applications(model, ours)


def test_sizes_that_keras_applications_pads_otherwise_are_refused():
    original = applications("MobileNet", 72, alpha=0.25)
    twin = MobileNetV1((72, 72, 3), 10, 0.25)
    assert original.get_layer("conv_pw_13").output.shape[1:3] == (2, 2)
    assert twin.get_layer("stage5_block2").output.shape[1:3] == (3, 3)
    with pytest.raises(ValueError, match=r"other values, .* for MobileNet sides of 32·n or"):
        copy_applications(original, twin)


@pytest.mark.parametrize(("size", "sides"), [(64, (32, 16, 8, 4, 2)), (65, (33, 17, 9, 5, 3))])
@pytest.mark.parametrize("separable", [True, False])
def test_stage_shapes(separable, size, sides):
    model = MobileNetV1((size, size, 3), 10, 0.25, separable)
    assert model.get_layer("stem").output.shape == (None, sides[0], sides[0], 8)
    for stage, (channels, repeats, _) in enumerate(mobilenet_v1.MOBILENET_V1, start=1):
        for position in range(1, repeats + 1):
            side = sides[stage - 1]
            layer = model.get_layer(f"stage{stage}_block{position}")
            assert layer.output.shape == (None, side, side, channels // 4)
    outputs = model(images(2, size, size, 3)).numpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert outputs.shape == (2, 10)


def test_size_may_be_open():
    features = randomise(MobileNetV1((None, None, 3), alpha=0.25, include_top=False))
    assert features.output_shape == (None, None, None, 256)
    fixed = MobileNetV1((40, 33, 3), alpha=0.25, include_top=False)
    fixed.set_weights(features.get_weights())
    inputs = images(2, 40, 33, 3)
    assert difference(features, fixed, inputs) < 1e-5
    assert fixed(inputs).shape == (2, 2, 2, 256)


def test_thirteen_blocks_are_named_by_stage():
    model = MobileNetV1((32, 32, 3), 10, 0.25)
    names = [layer.name for layer in model.layers[1:]]
    rows = enumerate((1, 2, 2, 6, 2), start=1)
    expected = [f"stage{stage}_block{n}" for stage, count in rows for n in range(1, count + 1)]
    assert len(expected) == 13
    assert names == ["stem", *expected, "avg_pool", "dropout", "predictions"]
    assert model.name == "mobilenet_v1"
    shallow = MobileNetV1((32, 32, 3), 10, 0.25, shallow=True, dropout=0, name="shallow")
    names = [layer.name for layer in shallow.layers[1:]]
    left = [name for name in expected if not re.match("stage4_block[2-6]", name)]
    assert names == ["stem", *left, "avg_pool", "predictions"]
    assert shallow.name == "shallow"


def test_full_convolutions_take_the_place_of_the_blocks():
    model = MobileNetV1((32, 32, 3), 10, 0.25, separable=False)
    blocks = [layer for layer in model.layers if "_block" in layer.name]
    assert len(blocks) == 13
    for block in blocks:
        assert isinstance(block, ConvBlock)
        assert (block.kernel_size, block.depthwise) == (3, False)
        assert block.activation.activation is keras.activations.relu6


def test_widths_are_rounded_down():
    model = MobileNetV1((32, 32, 3), 10, alpha=0.33, include_top=False)
    assert model.get_layer("stem").filters == 10
    assert model.get_layer("stage1_block1").filters == 21
    assert model.output_shape == (None, 1, 1, 337)


@pytest.mark.parametrize(("separable", "norms"), [(True, 27), (False, 14)])
def test_momentum_reaches_every_norm(separable, norms):
    model = MobileNetV1((32, 32, 3), 10, 0.25, separable, momentum=0.5)
    layers = model._flatten_layers()
    found = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    assert [norm.momentum for norm in found] == norms * [0.5]


@pytest.mark.parametrize(
    "layer",
    [
        DepthwiseSeparableConv(6, 2, momentum=0.5, epsilon=0.1, name="strided"),
        DepthwiseSeparableConv(4, activation="relu", dtype="float64", name="double"),
        DepthwiseSeparableConv(4, activation=None, name="linear"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


@pytest.mark.parametrize("separable", [True, False])
def test_model_round_trip(separable, tmp_path):
    model = MobileNetV1(
        (33, 32, 1),
        3,
        0.25,
        separable,
        classifier_activation=None,
        shallow=True,
        dropout=0.2,
        momentum=0.5,
        name="small",
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("dropout").rate == 0.2
    assert loaded.get_layer("stage2_block1").get_config()["momentum"] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DepthwiseSeparableConv(0), "filters=0: expected a positive integer"),
        (lambda: DepthwiseSeparableConv(8, strides=0), "strides=0: expected a positive integer"),
        (lambda: MobileNetV1(alpha=0), "alpha=0: expected at least 1/32"),
        (lambda: MobileNetV1(alpha=0.03), "alpha=0.03: expected at least 1/32"),
        (lambda: MobileNetV1(alpha=float("nan")), "alpha=nan: expected at least 1/32"),
        (lambda: MobileNetV1(classes=0), "classes=0: expected a positive integer"),
        (lambda: MobileNetV1((224,)), "input_shape=(None, 224): expected four axes (B, H, W, C)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_two_dimensional_input():
    message = r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    with pytest.raises(ValueError, match=message):
        DepthwiseSeparableConv(3)(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=message):
        DepthwiseSeparableConv(3).compute_output_shape((2, 3))


def test_experiment_trains_the_network_of_its_settings(monkeypatch):
    monkeypatch.setattr(separable.solar, "train", lambda *given: given)
    for split in (True, False):
        network, *rest = separable.run(separable.settings(split, seed=3, epochs=2))
        assert rest == [64, 2, 3]
        blocks = [layer for layer in network.layers if isinstance(layer, DepthwiseSeparableConv)]
        assert len(blocks) == (13 if split else 0)
    first, again = (separable.run(separable.settings(True, seed, epochs=2))[0] for seed in (1, 1))
    np.testing.assert_array_equal(first.get_weights()[0], again.get_weights()[0])


def test_committed_experiment_bears_out_the_lesson():
    found = experiments.result("separable")
    assert found["summary"] == separable.summarise(found["jobs"])
    assert [job["settings"] for job in found["jobs"]] == separable.jobs()
    majority = 1 - labels("solar_cells", "validation").mean()
    pairs = list(zip(found["summary"][::2], found["summary"][1::2], strict=True))
    assert [row["epochs"] for row, _ in pairs] == list(separable.EPOCHS)
    for split, full in pairs:
        assert (split["runs"], full["runs"]) == (3, 3)
        assert full["macs"] > 7 * split["macs"]
        assert split["val_accuracy"]["min"] > majority + 0.03
        assert full["val_accuracy"]["min"] > split["val_accuracy"]["max"]
        assert full["loss"]["max"] < split["loss"]["min"] / 2
        for row in (split, full):
            assert abs(row["last_change"]["mean"]) < 0.03
            assert row["balanced_accuracy"]["min"] > 0.6
    # Neither network gains from the last doubling.
    for before, after in zip(*(pair for pair in pairs[1:]), strict=True):
        assert after["loss"]["max"] < before["loss"]["min"]
        assert after["val_accuracy"]["mean"] < before["val_accuracy"]["mean"]
