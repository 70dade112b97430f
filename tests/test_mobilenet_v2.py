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
from utils import mobilenet_v2
from utils.blocks import ConvBlock
from utils.cost import count
from utils.exercises import lesson_04
from utils.mobilenet_v2 import ExpansionResidual, InvertedResidual, MobileNetV2, peak_bytes, widths
from utils.weights import copy_applications, copy_in_order

VARIANTS = [(linear, shortcut) for linear in (True, False) for shortcut in mobilenet_v2.SHORTCUTS]


@functools.cache
def cost(size=224, **options):
    """What a whole network costs; several tests ask for the same one."""
    return counted(MobileNetV2, (size, size, 3), **options)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


def through(layers, inputs):
    for layer in layers:
        inputs = layer(inputs)
    return inputs.numpy()


def by_hand(kernel, norm, inputs):
    """A 1×1 convolution and its batch norm in numpy."""
    gamma, beta, mean, variance = norm.get_weights()
    return gamma * (inputs @ kernel[0, 0] - mean) / np.sqrt(variance + 1e-3) + beta


def test_block_is_expand_filter_project_and_add():
    layer, inputs = built(InvertedResidual(4, expansion=3), 6, 5, 4), images(2, 6, 5, 4)
    expand, depthwise, project = layer.body
    wide = by_hand(expand.conv.get_weights()[0], expand.norm, inputs)
    wide = np.clip(wide, 0, 6)
    np.testing.assert_allclose(expand(inputs).numpy(), wide, 1e-4, 1e-4)
    assert wide.shape == (2, 6, 5, 12)
    filtered = depthwise(wide).numpy()
    assert filtered.shape == wide.shape
    assert filtered.min() == 0
    assert filtered.max() <= 6
    narrow = by_hand(project.conv.get_weights()[0], project.norm, filtered)
    assert narrow.min() < -0.1  # nothing cuts off what is negative
    np.testing.assert_allclose(layer(inputs).numpy(), narrow + inputs, 1e-4, 1e-4)


def test_each_depthwise_filter_sees_one_channel():
    layer = built(InvertedResidual(4, expansion=1, shortcut=False), 6, 5, 4)
    inputs = images(2, 6, 5, 4)
    before = layer.body[0](inputs).numpy()
    inputs[..., 1] += 1
    changed = np.abs(layer.body[0](inputs).numpy() - before).max(axis=(0, 1, 2)) > 1e-3
    np.testing.assert_array_equal(changed, [False, True, False, False])


@pytest.mark.parametrize(
    ("filters", "strides", "shortcut", "expected"),
    [(4, 1, True, True), (5, 1, True, False), (4, 2, True, False), (4, 1, False, False)],
)
def test_shortcut_only_where_shapes_agree(filters, strides, shortcut, expected):
    layer = built(InvertedResidual(filters, strides, shortcut=shortcut), 7, 6, 4)
    inputs = images(2, 7, 6, 4)
    outputs, alone = layer(inputs).numpy(), through(layer.body, inputs)
    assert layer.has_shortcut == expected
    np.testing.assert_allclose(outputs, alone + inputs if expected else alone, 1e-5, 1e-5)


def test_without_expansion_two_convolutions_are_left():
    layer = built(InvertedResidual(3, expansion=1), 6, 6, 4)
    assert [step.name for step in layer.body] == ["depthwise", "project"]


def test_activation_after_the_projection_is_optional():
    layer = built(InvertedResidual(4, linear=False), 6, 6, 4)
    branch = through(layer.body, images(2, 6, 6, 4))
    assert branch.min() == 0
    linear = InvertedResidual(4)
    linear.build((None, 6, 6, 4))
    copy_in_order(layer, linear)
    expected = np.clip(through(linear.body, images(2, 6, 6, 4)), 0, 6)
    np.testing.assert_allclose(branch, expected, 1e-5, 1e-5)


def test_expansion_residual_adds_between_wide_tensors():
    layer, inputs = built(ExpansionResidual(12, bottleneck=3), 6, 5, 12), images(2, 6, 5, 12)
    branch = through(layer.body, inputs)
    assert branch.min() < -0.1
    np.testing.assert_allclose(layer(inputs).numpy(), inputs + branch, 1e-5, 1e-5)
    np.testing.assert_array_equal(branch, through(layer.body, np.clip(inputs, 0, 6)))
    assert through(layer.body[:3], inputs).shape == (2, 6, 5, 3)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("strides", [1, 2])
def test_block_costs(size, strides):
    counts = count(InvertedResidual(5, strides), (size, size, 4))
    positions = (-(-size // strides)) ** 2
    assert counts.kernels == 24 * 4 + 24 * 9 + 24 * 5
    assert counts.params - counts.kernels == counts.norm == 2 * (24 + 24 + 5)
    assert counts.macs == size**2 * 24 * 4 + positions * (24 * 9 + 24 * 5)
    counts = count(ExpansionResidual(30, strides, bottleneck=5), (size, size, 24))
    assert counts.kernels == 24 * 9 + 24 * 5 + 5 * 30
    assert counts.macs == positions * counts.kernels


def test_a_shortcut_between_expansions_keeps_the_wide_tensor_alive():
    narrow, wide = (4 * 16 * 16 * channels for channels in (4, 24))
    assert count(InvertedResidual(4), (16, 16, 4)).peak_bytes == narrow + 2 * wide
    assert count(InvertedResidual(4, shortcut=False), (16, 16, 4)).peak_bytes == 2 * wide
    assert count(ExpansionResidual(24, bottleneck=4), (16, 16, 24)).peak_bytes == 3 * wide


@pytest.mark.parametrize("expansion", [1, 2, 6])
@pytest.mark.parametrize(
    ("filters", "strides"), [(4, 1), (5, 1), (40, 1), (4, 2), (5, 2), (40, 2), (4, 3)]
)
def test_peak_bytes_is_what_the_counter_finds(filters, strides, expansion):
    for height, width in ((8, 8), (9, 5)):
        layer = InvertedResidual(filters, strides, expansion)
        expected = count(layer, (height, width, 4)).peak_bytes
        assert peak_bytes(height, width, 4, filters, strides, expansion) == expected


@pytest.mark.parametrize("size", [96, 97])
def test_the_peak_of_the_network_is_that_of_a_block(size):
    side, channels, peaks = -(-size // 2), 32, []
    rows = [
        (t, c, s if first else 1)
        for t, c, n, s in mobilenet_v2.MOBILENET_V2
        for first in [True, *(n - 1) * [False]]
    ]
    for expansion, filters, strides in rows:
        peaks.append(peak_bytes(side, side, channels, filters, strides, expansion))
        side, channels = -(-side // strides), filters
    assert max(peaks) == peaks[1] == cost(size).peak_bytes
    # The exercise of lesson 04 need not count a learner's network to know its peak.
    assert lesson_04._plan((size, size, 3), 1.0)["peak"] == cost(size).peak_bytes


def test_network_costs():
    counts = cost()
    assert (counts.params, counts.macs) == (3_504_872, 300_774_272)
    assert (counts.kernels, counts.biases, counts.norm) == (3_469_760, 1000, 34_112)
    assert counts.statistics == counts.norm
    assert counts.activations == 6_678_112


@pytest.mark.parametrize(("linear", "shortcut"), VARIANTS)
def test_ablations_cost_the_same(linear, shortcut):
    counts, paper = cost(64, linear=linear, shortcut=shortcut), cost(64)
    for name in ("kernels", "biases", "norm", "macs", "activations"):
        assert getattr(counts, name) == getattr(paper, name)
    assert len(adds(linear, shortcut)) == (0 if shortcut == "none" else 10)


def adds(linear, shortcut):
    model = MobileNetV2((32, 32, 3), 10, 0.35, linear=linear, shortcut=shortcut)
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.Add)]


@pytest.mark.parametrize("linear", [True, False])
def test_without_shortcuts_all_cuts_are_the_same_network(linear):
    """The chain of wide blocks has the layers of the paper's blocks in the same order."""
    options = {"alpha": 0.35, "classifier_activation": None, "linear": linear}
    chain = randomise(MobileNetV2((32, 32, 3), 10, shortcut="expansions", **options))
    for layer in chain.layers:
        if isinstance(layer, ExpansionResidual):
            layer.add = None
    plain = MobileNetV2((32, 32, 3), 10, shortcut="none", **options)
    copy_in_order(chain, plain)
    inputs = images(2, 32, 32, 3)
    assert difference(chain, plain, inputs) < 1e-5
    residual = MobileNetV2((32, 32, 3), 10, **options)
    copy_in_order(chain, residual)
    assert difference(residual, plain, inputs) > 1e-2


def test_projections_are_linear_unless_told_otherwise():
    for linear, shortcut in VARIANTS:
        model = MobileNetV2((32, 32, 3), 10, 0.35, linear=linear, shortcut=shortcut)
        projections = [layer for layer in model._flatten_layers() if layer.name == "project"]
        assert len(projections) == 17
        assert {layer.activation is None for layer in projections} == {linear}


@pytest.mark.parametrize("row", published_rows("mobilenet_v2"), ids=row_id)
def test_published_table(row):
    assert_published(row, cost(row["resolution"], alpha=float(row["variant"].split("=")[1])))


@pytest.mark.parametrize(("alpha", "size"), [(1.0, 64), (0.35, 65), (1.3, 33)])
def test_same_logits_as_keras_applications(alpha, size):
    original = randomise(applications("MobileNetV2", size, alpha=alpha))
    ours = MobileNetV2((size, size, 3), 10, alpha, classifier_activation=None)
    copy_applications(original, ours)
    assert_same_function(ours, original, images(2, size, size, 3), wrong_epsilon=1e-2)


def test_same_features_as_keras_applications():
    original = randomise(applications("MobileNetV2", 64, include_top=False, alpha=0.5))
    ours = MobileNetV2((64, 64, 3), alpha=0.5, include_top=False)
    copy_applications(original, ours)
    assert difference(ours, original, images(2, 64, 64, 3)) <= 1e-4
    before = ours.get_weights()
    pooled = applications("MobileNetV2", 64, include_top=False, alpha=0.5, pooling="avg")
    with pytest.raises(ValueError, match=r"other values, of shape \(2, 2, 1280\) and \(1280,\)"):
        copy_applications(pooled, ours)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("size", "sides"), [(64, (32, 16, 8, 4, 2)), (65, (33, 17, 9, 5, 3))])
def test_stage_shapes(size, sides):
    model = MobileNetV2((size, size, 3), 10)
    stages = zip((0, 0, 1, 2, 3, 3, 4, 4), (32, 16, 24, 32, 64, 96, 160, 320), strict=True)
    for stage, (place, channels) in enumerate(stages):
        layer = model.get_layer(f"stage{stage}_block1" if stage else "stem")
        assert layer.output.shape == (None, sides[place], sides[place], channels)
    assert model.get_layer("head").output.shape == (None, sides[-1], sides[-1], 1280)
    outputs = model(images(2, size, size, 3)).numpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert outputs.shape == (2, 10)


def test_size_may_be_open():
    features = randomise(MobileNetV2((None, None, 3), alpha=0.35, include_top=False))
    assert features.output_shape == (None, None, None, 1280)
    fixed = MobileNetV2((40, 33, 3), alpha=0.35, include_top=False)
    fixed.set_weights(features.get_weights())
    inputs = images(2, 40, 33, 3)
    assert difference(features, fixed, inputs) < 1e-5
    assert fixed(inputs).shape == (2, 2, 2, 1280)


def test_seventeen_blocks_are_named_by_stage():
    model = MobileNetV2((32, 32, 3), 10, 0.35)
    names = [layer.name for layer in model.layers[1:]]
    rows = enumerate((1, 2, 3, 4, 3, 3, 1), start=1)
    expected = [f"stage{stage}_block{n}" for stage, count in rows for n in range(1, count + 1)]
    assert len(expected) == 17
    assert names == ["stem", *expected, "head", "avg_pool", "predictions"]
    assert model.name == "mobilenet_v2"


def test_widths():
    assert widths(1.4)[-1] == 1792
    assert widths(0.75)[:3] == [24, 16, 24]
    assert len(widths()) == 19
    assert widths() == [32, 16, *2 * [24], *3 * [32], *4 * [64], *3 * [96], *3 * [160], 320, 1280]


@pytest.mark.parametrize("shortcut", mobilenet_v2.SHORTCUTS)
def test_momentum_reaches_every_norm(shortcut):
    model = MobileNetV2((32, 32, 3), 10, 0.35, shortcut=shortcut, momentum=0.5)
    layers = model._flatten_layers()
    norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    assert len(norms) == 52
    assert {norm.momentum for norm in norms} == {0.5}


@pytest.mark.parametrize(
    "layer",
    [
        InvertedResidual(6, 2, 3, linear=False, momentum=0.5, epsilon=0.1, name="nonlinear"),
        InvertedResidual(4, expansion=1, shortcut=False, activation="relu", name="plain"),
        InvertedResidual(4, expand_divisor=8, drop_rate=0.1, dtype="float64", name="double"),
        ExpansionResidual(4, bottleneck=3, linear=False, momentum=0.5, name="wide"),
        ExpansionResidual(6, 2, bottleneck=1, activation="relu", dtype="float64", name="strided"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


@pytest.mark.parametrize("shortcut", mobilenet_v2.SHORTCUTS)
def test_model_round_trip(shortcut, tmp_path):
    model = MobileNetV2(
        (33, 32, 1),
        3,
        0.35,
        classifier_activation=None,
        linear=False,
        shortcut=shortcut,
        momentum=0.5,
        name="small",
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("stage4_block2").get_config()["linear"] is False


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InvertedResidual(0), "filters=0: expected a positive integer"),
        (lambda: InvertedResidual(8, strides=0), "strides=0: expected a positive integer"),
        (lambda: InvertedResidual(8, expansion=0), "expansion=0: expected a positive number"),
        (
            lambda: ExpansionResidual(8, bottleneck=0),
            "bottleneck=0: expected a positive integer",
        ),
        (lambda: MobileNetV2(alpha=0), "alpha=0: expected a positive number"),
        (lambda: MobileNetV2(classes=0), "classes=0: expected a positive integer"),
        (
            lambda: MobileNetV2(shortcut="wide"),
            "shortcut='wide': expected one of 'bottlenecks', 'expansions', 'none'",
        ),
        (lambda: MobileNetV2((224,)), "input_shape=(None, 224): expected four axes (B, H, W, C)"),
        (lambda: peak_bytes(8, 8, 4, 0), "filters=0: expected a positive integer"),
        (lambda: peak_bytes(8, 8, 4, 4, 1, 0.5), "expansion=0.5: expected a positive integer"),
        (lambda: widths(-1), "alpha=-1: expected a positive number"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "layer", [InvertedResidual(3), ExpansionResidual(3, bottleneck=2)], ids=lambda x: x.name
)
def test_two_dimensional_input(layer):
    message = r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=message):
        layer.compute_output_shape((2, 3))


def test_stem_and_head_are_conv_blocks():
    model = MobileNetV2((32, 32, 3), 10, 0.35)
    for name in ("stem", "head"):
        assert isinstance(model.get_layer(name), ConvBlock)
        assert model.get_layer(name).activation.activation is keras.activations.relu6
