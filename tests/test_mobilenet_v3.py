import functools
import math
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
from utils import blocks, mobilenet_v3
from utils.cost import count
from utils.mobilenet_v3 import (
    LARGE,
    SMALL,
    MobileNetV3Block,
    MobileNetV3Large,
    MobileNetV3Small,
    SqueezeExcite,
    hard_swish,
)
from utils.weights import copy_applications

BUILDERS = {"Large": MobileNetV3Large, "Small": MobileNetV3Small}


@functools.cache
def cost(kind, size=224, **options):
    """What a whole network costs; several tests ask for the same one."""
    return counted(BUILDERS[kind], (size, size, 3), **options)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


def test_hard_swish():
    x = np.linspace(-6, 6, 1201, dtype="float32")
    y = hard_swish(keras.ops.convert_to_tensor(x)).numpy()
    np.testing.assert_allclose(y, x * np.clip(x + 3, 0, 6) / 6, atol=1e-6)
    assert not y[x <= -3].any()
    np.testing.assert_allclose(y[x >= 3], x[x >= 3], 1e-6)
    swish = x / (1 + np.exp(-x))
    assert 0.1422 < np.abs(y - swish).max() < 0.1423
    assert abs(x[np.abs(y - swish).argmax()]) == pytest.approx(3, abs=0.01)


def test_hard_swish_is_registered(tmp_path):
    name = keras.activations.serialize(hard_swish)
    assert keras.activations.deserialize(name) is hard_swish
    model = keras.Sequential([keras.Input((4, 4, 3)), blocks.ConvBlock(5, activation=hard_swish)])
    assert_same_after_loading(model, tmp_path)


def test_squeeze_excite_is_the_shared_one():
    assert SqueezeExcite is blocks.SqueezeExcite


def test_block_is_expand_filter_weigh_project_and_add():
    layer = built(MobileNetV3Block(8, expansion=4, squeeze_ratio=0.25), 6, 5, 8)
    inputs = images(2, 6, 5, 8)
    expand, depthwise, excite, project = layer.body
    wide = depthwise(expand(inputs)).numpy()
    assert wide.shape == (2, 6, 5, 32)
    assert -0.376 < wide.min() < -0.3  # the lowest value of h-swish is −3/8
    pooled = wide.mean(axis=(1, 2))
    (w1, b1), (w2, b2) = excite.reduce.get_weights(), excite.restore.get_weights()
    gates = np.clip(np.maximum(pooled @ w1[0, 0] + b1, 0) @ w2[0, 0] + b2 + 3, 0, 6) / 6
    np.testing.assert_allclose(excite(wide).numpy(), wide * gates[:, None, None], 1e-4, 1e-4)
    narrow = project(excite(wide)).numpy()
    np.testing.assert_allclose(layer(inputs).numpy(), narrow + inputs, 1e-4, 1e-4)
    assert np.abs(layer(inputs).numpy() - (project(wide).numpy() + inputs)).max() > 0.1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"expansion": 1}, ["depthwise", "project"]),
        ({"expansion": 1, "squeeze_ratio": 0.25}, ["depthwise", "squeeze_excite", "project"]),
        ({"expansion": 3}, ["expand", "depthwise", "project"]),
    ],
)
def test_parts_that_a_block_may_lack(options, names):
    layer = built(MobileNetV3Block(16, **options), 6, 6, 16)
    assert [step.name for step in layer.body] == names


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("strides", [1, 2])
def test_block_costs(size, strides):
    block = MobileNetV3Block(24, strides, 4, kernel_size=5, squeeze_ratio=0.25)
    counts = count(block, (size, size, 16))
    positions = (-(-size // strides)) ** 2
    assert counts.kernels == 16 * 64 + 25 * 64 + 2 * 64 * 16 + 64 * 24
    assert counts.biases == 64 + 16
    assert counts.norm == 4 * 64 + 2 * 24
    macs = size**2 * 16 * 64 + positions * (25 * 64 + 64 * 24) + 2 * 64 * 16
    assert counts.macs == macs
    shape = block.compute_output_shape((2, size, size, 16))
    assert shape == (2, math.isqrt(positions), math.isqrt(positions), 24)


@pytest.mark.parametrize(
    ("kind", "options", "params", "macs"),
    [
        ("Large", {}, 5_483_032, 216_589_760),
        ("Large", {"alpha": 0.75}, 3_993_528, 154_560_624),
        ("Large", {"minimalistic": True}, 3_924_288, 209_136_704),
        ("Small", {}, 2_542_856, 56_510_400),
        ("Small", {"alpha": 0.75}, 2_041_872, 43_399_344),
        ("Small", {"minimalistic": True}, 2_044_736, 52_288_448),
    ],
)
def test_network_costs(kind, options, params, macs):
    counts = cost(kind, **options)
    assert (counts.params, counts.macs) == (params, macs)


@pytest.mark.parametrize("kind", BUILDERS)
def test_biases_are_those_of_squeeze_excite_and_of_the_two_last_layers(kind):
    rows, head = (LARGE, 1280) if kind == "Large" else (SMALL, 1024)
    gates = sum(
        exp + blocks.make_divisible(exp / 4) for _, exp, _, squeeze, _, _ in rows if squeeze
    )
    assert cost(kind).biases == gates + head + 1000
    assert cost(kind, minimalistic=True).biases == head + 1000


@pytest.mark.parametrize("row", published_rows("mobilenet_v3"), ids=row_id)
def test_published_table(row):
    _, kind, *words = row["variant"].split()
    options = {"alpha": float(words[-1])}
    if "minimalistic" in words:
        options["minimalistic"] = True
    assert_published(row, cost(kind, row["resolution"], **options))


@pytest.mark.parametrize("kind", BUILDERS)
def test_blocks_follow_the_table(kind):
    rows = LARGE if kind == "Large" else SMALL
    model = BUILDERS[kind]((224, 224, 3))
    layers = [layer for layer in model.layers if isinstance(layer, MobileNetV3Block)]
    channels = mobilenet_v3.STEM_FILTERS
    for layer, (kernel, exp, out, squeeze, non_linearity, strides) in zip(
        layers, rows, strict=True
    ):
        named = {step.name: step for step in layer.body}
        assert ("expand" in named) == (exp != channels)
        assert named["depthwise"].conv.kernel.shape == (kernel, kernel, exp, 1)
        assert ("squeeze_excite" in named) == squeeze
        activation = named["depthwise"].activation.activation
        assert activation is mobilenet_v3.NON_LINEARITIES[non_linearity]
        assert named["project"].activation is None
        assert (layer.filters, layer.strides) == (out, strides)
        assert layer.has_shortcut == (strides == 1 and channels == out)
        channels = out


def test_minimalistic_has_no_slow_parts():
    layers = MobileNetV3Large((64, 64, 3), minimalistic=True)._flatten_layers()
    layers = list(layers)
    assert not any(isinstance(layer, SqueezeExcite) for layer in layers)
    activations = [x.activation for x in layers if isinstance(x, keras.layers.Activation)]
    assert set(activations) == {keras.activations.relu}
    depthwise = [x for x in layers if isinstance(x, keras.layers.DepthwiseConv2D)]
    assert {layer.kernel_size for layer in depthwise} == {(3, 3)}
    assert len(depthwise) == 15


@pytest.mark.parametrize(
    ("alpha", "stem", "last", "head"),
    [(0.35, 16, 336, 1280), (0.75, 16, 720, 1280), (1.25, 16, 1200, 1600)],
)
def test_width_multiplier(alpha, stem, last, head):
    model = MobileNetV3Large((64, 64, 3), alpha=alpha)
    widths = [model.get_layer(name).filters for name in ("stem", "last_conv", "head")]
    assert widths == [stem, last, head]


@pytest.mark.parametrize("size", [64, 65])
def test_stage_shapes(size):
    names = [f"stage{stage}_block1" for stage in (2, 3, 4, 5)]
    model = MobileNetV3Small((size, size, 1), classes=3)
    shapes = [model.get_layer(name).output.shape[1:] for name in ("stem", *names, "last_conv")]
    sides = [32, 16, 8, 4, 2, 2] if size == 64 else [33, 17, 9, 5, 3, 3]
    channels = [16, 16, 24, 40, 96, 576]
    assert shapes == [(side, side, n) for side, n in zip(sides, channels, strict=True)]
    outputs = model(images(2, size, size, 1)).numpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert outputs.shape == (2, 3)


def test_layers_are_named_by_stage_and_block():
    model = MobileNetV3Large((64, 64, 3))
    stages = {1: 1, 2: 2, 3: 3, 4: 6, 5: 3}
    names = [f"stage{stage}_block{n}" for stage in stages for n in range(1, stages[stage] + 1)]
    ends = ["last_conv", "pool", "head", "avg_pool", "dropout", "predictions"]
    assert [layer.name for layer in model.layers[1:]] == ["stem", *names, *ends]
    assert model.name == "mobilenet_v3_large"
    assert MobileNetV3Small((64, 64, 3), name="mine", dropout=0).name == "mine"


def test_size_may_be_open():
    model = randomise(MobileNetV3Small((None, None, 3), 5, classifier_activation=None))
    fixed = MobileNetV3Small((40, 33, 3), 5, classifier_activation=None)
    fixed.set_weights(model.get_weights())
    assert difference(model, fixed, images(2, 40, 33, 3)) < 1e-4
    assert MobileNetV3Small((None, None, 3), include_top=False).output_shape[1:] == (
        None,
        None,
        576,
    )


def test_momentum_and_dropout_reach_the_layers():
    model = MobileNetV3Small((64, 64, 3), momentum=0.7, dropout=0.4)
    layers = list(model._flatten_layers())
    norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {0.7}
    assert len(norms) == 2 + 1 * 2 + 10 * 3
    assert model.get_layer("dropout").rate == 0.4


@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [
        ("Small", 64, {"alpha": 0.5}),
        ("Small", 65, {"alpha": 1.25}),
        ("Small", 65, {"alpha": 0.75, "minimalistic": True}),
        ("Large", 65, {"alpha": 0.5}),
        ("Large", 64, {"alpha": 1.25}),
        ("Large", 64, {"alpha": 0.75, "minimalistic": True}),
    ],
    ids=str,
)
def test_same_logits_as_keras_applications(kind, size, options):
    original = randomise(
        applications(f"MobileNetV3{kind}", size, include_preprocessing=False, **options)
    )
    build = {"Small": MobileNetV3Small, "Large": MobileNetV3Large}[kind]
    ours = build((size, size, 3), 10, classifier_activation=None, **options)
    copy_applications(original, ours)
    assert count(ours).params == count(original).params
    assert_same_function(ours, original, 30 * images(4, size, size, 3), wrong_epsilon=0.1)


def test_preprocessing_is_that_of_keras():
    original = randomise(applications("MobileNetV3Small", 64))
    ours = MobileNetV3Small((64, 64, 3), 10, classifier_activation=None, include_preprocessing=True)
    copy_applications(original, ours)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    assert difference(ours, original, pixels) <= 1e-4
    rescaled = ours.get_layer("rescaling")(pixels).numpy()
    np.testing.assert_allclose(rescaled, pixels / 127.5 - 1, atol=1e-5)
    without = MobileNetV3Small((64, 64, 3), 10, classifier_activation=None)
    assert "rescaling" not in [layer.name for layer in without.layers]
    with pytest.raises(ValueError, match=r"returns other values, .* preprocessing"):
        copy_applications(applications("MobileNetV3Small", 64), without)


def test_same_features_as_keras_applications():
    original = randomise(applications("MobileNetV3Large", 64, include_top=False, alpha=0.5))
    ours = MobileNetV3Large((64, 64, 3), alpha=0.5, include_top=False, include_preprocessing=True)
    copy_applications(original, ours)
    assert ours.output_shape == (None, 2, 2, 480)
    assert difference(ours, original, images(2, 64, 64, 3)) <= 1e-4


@pytest.mark.parametrize(
    "layer",
    [
        MobileNetV3Block(8, 2, 3, kernel_size=5, squeeze_ratio=0.5, expand_divisor=4, momentum=0.5),
        MobileNetV3Block(4, 1, 1, activation="relu", drop_rate=0.1, epsilon=0.01, name="narrow"),
        MobileNetV3Block(4, 1, 2.5, squeeze_ratio=0.25, dtype="float64", name="double"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


def test_model_round_trip(tmp_path):
    model = MobileNetV3Small(
        (33, 40, 1),
        3,
        0.5,
        include_preprocessing=True,
        classifier_activation=None,
        dropout=0.5,
        momentum=0.5,
        name="small",
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("stage4_block1").get_config()["momentum"] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MobileNetV3Block(0), "filters=0: expected a positive integer"),
        (lambda: MobileNetV3Block(8, 0), "strides=0: expected a positive integer"),
        (lambda: MobileNetV3Block(8, kernel_size=0), "kernel_size=0: expected a positive integer"),
        (lambda: MobileNetV3Block(8, expansion=0), "expansion=0: expected a positive number"),
        (
            lambda: MobileNetV3Block(8, squeeze_ratio=2),
            "squeeze_ratio=2: expected a number from 0 to 1",
        ),
        (lambda: MobileNetV3Small(alpha=0), "alpha=0: expected a positive number"),
        (lambda: MobileNetV3Large(classes=0), "classes=0: expected a positive integer"),
        (
            lambda: MobileNetV3Large((224,)),
            "input_shape=(None, 224): expected four axes (B, H, W, C)",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_two_dimensional_input():
    message = r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    with pytest.raises(ValueError, match=message):
        MobileNetV3Block(3)(np.zeros((2, 3)))
