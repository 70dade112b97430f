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
from utils import efficientnet
from utils.blocks import SqueezeExcite
from utils.cost import count
from utils.efficientnet import (
    VARIANTS,
    Coefficients,
    EfficientNet,
    MBConv,
    compound_coefficients,
    round_filters,
    round_repeats,
    scale,
    scaled_rows,
)
from utils.mobilenet_v1 import MobileNetV1
from utils.residual import ResNet
from utils.weights import copy_applications, copy_in_order


@functools.cache
def cost(build, *args, **options):
    """What a whole network costs; several tests ask for the same one."""
    return counted(build, *args, **options)


def variant(name, *args, **options):
    return getattr(efficientnet, f"EfficientNet{name}")(*args, **options)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


def calibrate(model, inputs):
    """Set the statistics of every norm to those of its inputs.

    In random ones a picture drowns: after sixteen gates nothing of it would reach the logits, and
    two networks would agree on anything.
    """
    before = model(inputs).numpy()
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0
    model(inputs, training=True)
    outputs = model(inputs).numpy()
    assert np.abs(outputs - outputs[::-1]).max() > 0.1 * outputs.std() > 0
    assert np.abs(outputs - before).max() > 0


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def blocks(model):
    return [layer for layer in model.layers if isinstance(layer, MBConv)]


def test_compound_coefficients_are_powers():
    assert compound_coefficients(0) == (1, 1, 1)
    np.testing.assert_allclose(compound_coefficients(2.5), (1.2**2.5, 1.1**2.5, 1.15**2.5))
    deeper = compound_coefficients(2, alpha=1.5, beta=1, gamma=1)
    assert deeper == Coefficients(depth=2.25, width=1, resolution=1)
    assert Coefficients(2, 3, 5).cost == 2 * 3**2 * 5**2


def test_round_filters():
    by_width = {1.0: 32, 1.1: 32, 1.2: 40, 1.4: 48, 1.6: 48, 1.8: 56, 2.0: 64}
    assert {width: round_filters(32, width) for width in by_width} == by_width
    assert round_filters(16, 1.2) == 24  # 19.2 would lose more than a tenth as 16
    assert round_filters(16, 0.1) == 8
    assert round_filters(10, 1.0, divisor=4) == 12


def test_round_repeats_is_a_ceiling():
    assert [round_repeats(n, 3.1) for n in (1, 2, 3, 4)] == [4, 7, 10, 13]  # B7
    assert [round_repeats(n, 1.0) for n in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert round_repeats(4, 0.1) == 1


def test_mbconv_by_hand():
    """Expand, filter, weigh with a sigmoid of all channels' means, project, add."""
    layer, inputs = built(MBConv(8, expansion=3), 6, 5, 8), images(2, 6, 5, 8)
    expand, depthwise, squeeze_excite, project = layer.body
    wide = expand.norm(expand.conv(inputs)).numpy()
    wide *= sigmoid(wide)
    np.testing.assert_allclose(expand(inputs).numpy(), wide, 1e-4, 1e-4)
    assert wide.shape == (2, 6, 5, 24)
    filtered = depthwise(wide).numpy()
    assert filtered.shape == wide.shape
    reduced = squeeze_excite.reduce.kernel.numpy()[0, 0]
    assert reduced.shape == (24, 2)  # a quarter of the 8 channels that come in
    middle = filtered.mean((1, 2)) @ reduced + squeeze_excite.reduce.bias.numpy()
    middle *= sigmoid(middle)
    restored = middle @ squeeze_excite.restore.kernel.numpy()[0, 0]
    gate = sigmoid(restored + squeeze_excite.restore.bias.numpy())
    narrow = project(filtered * gate[:, None, None]).numpy()
    assert narrow.min() < -0.1  # no activation follows
    np.testing.assert_allclose(layer(inputs).numpy(), narrow + inputs, 1e-4, 1e-4)


def test_squeezed_channels_of_b0():
    model = EfficientNet(input_shape=(32, 32, 3))
    squeezed = [layer.squeezed for layer in layers_of(model, SqueezeExcite)]
    assert squeezed == [8, 4, 6, 6, 10, 10, 20, 20, 20, 28, 28, 28, 48, 48, 48, 48]
    assert built(MBConv(4), 5, 5, 3).body[2].squeezed == 1  # never none


def layers_of(model, kind):
    # Blocks come in order; the layers in each have no other of their kind.
    return [
        each for block in model.layers for each in block._flatten_layers() if type(each) is kind
    ]


@pytest.mark.parametrize(("filters", "strides", "expected"), [(4, 1, 1), (5, 1, 0), (4, 2, 0)])
def test_shortcut_only_where_shapes_agree(filters, strides, expected):
    layer, inputs = built(MBConv(filters, strides), 7, 6, 4), images(2, 7, 6, 4)
    outputs = inputs
    for step in layer.body:
        outputs = step(outputs)
    assert layer.has_shortcut == expected
    np.testing.assert_allclose(
        layer(inputs), outputs + inputs if expected else outputs, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("size", "positions"), [(8, 16), (9, 25)])
def test_block_costs(size, positions):
    counts = count(MBConv(5, 2, kernel_size=5), (size, size, 8))
    wide, squeezed = 48, 2
    assert counts.kernels == 8 * wide + 25 * wide + 2 * wide * squeezed + wide * 5
    assert counts.norm == 4 * wide + 2 * 5
    assert counts.biases == wide + squeezed
    macs = size**2 * 8 * wide + positions * (25 * wide + wide * 5) + 2 * wide * squeezed
    assert counts.macs == macs
    without = count(MBConv(5, 2, 1, squeeze_ratio=0), (size, size, 8))
    assert without.kernels == 9 * 8 + 8 * 5
    assert without.biases == 0


@pytest.mark.parametrize(
    ("depth", "lite", "repeats"),
    [
        (1.0, False, [1, 2, 2, 3, 3, 4, 1]),
        (1.1, False, [2, 3, 3, 4, 4, 5, 2]),
        (1.1, True, [1, 3, 3, 4, 4, 5, 1]),
        (1.8, True, [1, 4, 4, 6, 6, 8, 1]),
    ],
)
def test_scaled_rows(depth, lite, repeats):
    names = [f"stage{s}_block{n}" for s, r in enumerate(repeats, 1) for n in range(1, r + 1)]
    rows = scaled_rows(1.2, depth, lite)
    assert [row[0] for row in rows] == names
    assert {row[0]: row[1:] for row in rows}["stage1_block1"] == (3, 1, 24, 1)
    assert [row[4] for row in rows if row[0].endswith("block1")] == [1, 2, 2, 2, 1, 2, 1]
    assert {row[4] for row in rows if not row[0].endswith("block1")} == {1}


@pytest.mark.parametrize("depth", [1.0, 1.8])
def test_stochastic_depth_rises_over_the_scaled_depth(depth):
    model = EfficientNet(0.5, depth, 32, drop_rate=0.3)
    rates = [block.drop_rate for block in blocks(model)]
    total = {1.0: 16, 1.8: 32}[depth]
    np.testing.assert_allclose(rates, [0.3 * n / total for n in range(total)])
    assert rates[0] == 0
    for block in blocks(model):
        assert (block.drop is not None) == (block.has_shortcut and block.drop_rate > 0)


def test_stochastic_depth_skips_whole_images():
    layer = built(MBConv(4, drop_rate=0.5), 5, 5, 4)
    inputs = images(64, 5, 5, 4)
    for part in layer.body:
        part.trainable = False  # batch norm as in inference
    branch = layer(inputs, training=False).numpy() - inputs
    change = layer(inputs, training=True).numpy() - inputs
    skipped = np.abs(change).max((1, 2, 3)) < 1e-6
    assert 10 < skipped.sum() < 54
    np.testing.assert_allclose(change[~skipped], 2 * branch[~skipped], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["B0", "B4"])
def test_dropout_rates_are_those_of_the_authors(name):
    model = variant(name, (32, 32, 3))
    assert model.get_layer("dropout").rate == {"B0": 0.2, "B4": 0.4}[name]
    last = {"B0": 15 / 16, "B4": 31 / 32}[name]
    assert blocks(model)[-1].drop_rate == pytest.approx(0.2 * last)


def sized(name):
    width, depth, resolution, _ = VARIANTS[name]
    return cost(EfficientNet, width, depth, resolution, lite=name.startswith("Lite"))


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("B0", 5_288_548, 385_814_752),
        ("B1", 7_794_184, 686_802_832),
        ("B2", 9_109_994, 993_561_872),
        ("B3", 12_233_232, 1_827_141_392),
        ("B4", 19_341_616, 4_393_771_024),
        ("B5", 30_389_784, 10_266_384_752),
        ("B6", 43_040_704, 19_067_593_536),
        ("B7", 66_347_960, 37_745_884_192),
        ("Lite0", 4_652_008, 385_187_552),
        ("Lite1", 5_416_680, 600_185_232),
        ("Lite2", 6_092_072, 859_736_272),
        ("Lite3", 8_197_096, 1_383_321_872),
        ("Lite4", 13_006_568, 2_553_034_336),
    ],
)
def test_exact_costs_are_those_of_the_docstrings(name, params, macs):
    counts = sized(name)
    assert (counts.params, counts.macs) == (params, macs)
    resolution = VARIANTS[name][2]
    text = getattr(efficientnet, f"EfficientNet{name}").__doc__.splitlines()[0]
    assert text.endswith(f"{params:,} parameters, {macs:,} MACs at {resolution} px.")


def test_costs_of_b0_in_parts():
    counts = sized("B0")
    assert counts.kernels + counts.biases + counts.norm == counts.params
    assert counts.statistics == counts.norm == 42_016
    # Keras counts the statistics, and 7 weights of its normalization layer.
    assert counts.params + counts.statistics + 7 == 5_330_571


@pytest.mark.parametrize("row", published_rows("efficientnet", "EfficientNet"), ids=row_id)
def test_published_table(row):
    width, depth, *_ = VARIANTS[row["variant"]]
    assert_published(row, cost(EfficientNet, width, depth, row["resolution"], lite=False))


@pytest.mark.parametrize("row", published_rows("efficientnet", "EfficientNet-Lite"), ids=row_id)
def test_published_table_of_lite(row):
    assert_published(row, sized(row["variant"]))
    assert row["resolution"] == VARIANTS[row["variant"]][2]


@pytest.mark.parametrize("row", published_rows("efficientnet", "scaled"), ids=row_id)
def test_published_table_of_scaled_networks(row):
    found = {letter: float(x) for letter, x in re.findall(r"([dwr])=([\d.]+)", row["variant"])}
    depth, width, resolution = (found.get(letter, 1) for letter in "dwr")
    if row["variant"].startswith("B0"):
        counts = cost(EfficientNet, width, depth, row["resolution"], lite=False)
    elif row["variant"].startswith("MobileNetV1"):
        counts = cost(scale, "mobilenet_v1", depth, width, resolution)
    else:
        counts = cost(scale, "resnet50", depth, width, resolution, stride_in="3x3")
    assert row["resolution"] == round(224 * resolution)
    assert_published(row, counts)


def test_readme_of_lite_counts_something_for_each_output():
    """Why its multiply-adds are not ours: three more for each element that a convolution makes."""
    for row in published_rows("efficientnet", "EfficientNet-Lite")[1:]:
        counts = sized(row["variant"])
        printed = float(row["macs"].removesuffix("M"))
        assert abs((counts.macs + 3 * counts.activations) / 1e6 - printed) < 1


@pytest.mark.parametrize(
    ("name", "size"), [("EfficientNetB0", 64), ("EfficientNetB0", 65), ("EfficientNetB3", 33)]
)
def test_same_logits_as_keras_applications(name, size):
    original = randomise(applications(name, size))
    normalise(original)
    pixels = 127 + 60 * images(8, size, size, 3)
    calibrate(original, pixels)
    ours = getattr(efficientnet, name)(
        (size, size, 3), 10, classifier_activation=None, include_preprocessing=True
    )
    copy_applications(original, ours)
    assert_same_function(ours, original, pixels, wrong_epsilon=1e-2)


@pytest.mark.parametrize(("name", "size"), [("EfficientNetB1", 64), ("EfficientNetB2", 65)])
def test_same_features_as_keras_applications(name, size):
    original = randomise(applications(name, size, include_top=False))
    normalise(original)
    pixels = 127 + 60 * images(8, size, size, 3)
    calibrate(original, pixels)
    ours = getattr(efficientnet, name)(
        (size, size, 3), include_top=False, include_preprocessing=True
    )
    copy_applications(original, ours)
    assert_same_function(ours, original, pixels, wrong_epsilon=1e-2)


def normalise(model):
    """Give the model's normalization a mean and a variance that no layer begins with."""
    layers = [x for x in model.layers if isinstance(x, keras.layers.Normalization)]
    assert len(layers) == 1
    layers[0].set_weights([np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4]), np.array(0)])
    layers[0].finalize_state()


def test_preprocessing_is_the_callers_choice():
    model = EfficientNet(0.5, 0.5, 32, include_preprocessing=True, include_top=False)
    assert [layer.name for layer in model.layers[1:3]] == ["rescaling", "normalization"]
    normalise(randomise(model))
    pixels = 127 + 60 * images(8, 32, 32, 3)
    calibrate(model, pixels)
    plain = EfficientNet(0.5, 0.5, 32, include_top=False)
    copy_in_order(keras.Model(model.get_layer("stem").input, model.output), plain)
    # In the layers' own precision: the network amplifies a last bit that is rounded otherwise.
    mean, deviation = np.float32([0.5, 0.4, 0.3]), np.sqrt(np.float32([0.2, 0.3, 0.4]))
    by_hand = (pixels * np.float32(1 / 255) - mean) / deviation
    assert difference(plain, lambda _: model(pixels), by_hand) < 1e-4
    assert difference(plain, model, pixels) > 1e-2


@pytest.mark.parametrize(("size", "sides"), [(64, (32, 16, 8, 4, 2)), (65, (33, 17, 9, 5, 3))])
def test_stage_shapes(size, sides):
    model = EfficientNet(1.2, 1.4, size)
    stages = zip((0, 0, 1, 2, 3, 3, 4, 4), (40, 24, 32, 48, 96, 136, 232, 384), strict=True)
    for stage, (place, channels) in enumerate(stages):
        layer = model.get_layer(f"stage{stage}_block1" if stage else "stem")
        assert layer.output.shape == (None, sides[place], sides[place], channels)
    assert model.get_layer("head").output.shape == (None, sides[-1], sides[-1], 1536)
    outputs = model(images(2, size, size, 3)).numpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


def test_lite_leaves_the_ends_alone():
    model = variant("Lite3", (32, 32, 3))
    assert model.get_layer("stem").filters == 32
    assert model.get_layer("head").filters == 1280
    assert blocks(model)[0].filters == 24
    assert not layers_of(model, SqueezeExcite)
    names = {layer.activation.__name__ for layer in blocks(model)}
    assert names == {"relu6"}
    assert model.get_layer("stem").activation.activation is keras.activations.relu6
    assert model.get_layer("head").activation.activation is keras.activations.relu6


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_its_size_and_name(name, monkeypatch):
    """The variants hand the table's numbers on; the networks themselves are tested above."""
    asked = {}

    def remember(*args, **options):
        asked.update(options, args=args)

    monkeypatch.setattr(efficientnet, "EfficientNet", remember)
    variant(name, classes=3, momentum=0.5)
    width, depth, resolution, dropout = VARIANTS[name]
    assert asked.pop("args") == (width, depth, resolution)
    assert asked == {
        "input_shape": None,
        "classes": 3,
        "include_top": True,
        "dropout": dropout,
        "lite": name.startswith("Lite"),
        "name": f"efficientnet_{name.lower()}",
        "momentum": 0.5,
    }


def test_default_input_has_the_resolution():
    assert EfficientNet(0.5, 0.5, 72).input_shape == (None, 72, 72, 3)
    model = EfficientNet(0.5, 0.5, 72, input_shape=(None, 40, 1), include_top=False)
    assert model.input_shape == (None, None, 40, 1)


def test_momentum_reaches_every_norm():
    models = [EfficientNet(0.5, 0.5, 32, momentum=0.5), scale("resnet18", 0.5, 0.25, momentum=0.5)]
    models.append(scale("mobilenet_v1", 0.5, 0.25, momentum=0.5))
    for model in models:
        norms = layers_of(model, keras.layers.BatchNormalization)
        assert len(norms) > 10
        assert {norm.momentum for norm in norms} == {0.5}


@pytest.mark.parametrize(
    ("network", "size"), [("mobilenet_v1", 65), ("resnet18", 64), ("resnet50", 65)]
)
def test_scaled_by_one_is_the_network_itself(network, size):
    options = {"classes": 10, "classifier_activation": None}
    ours = randomise(scale(network, base_size=size, **options))
    if network == "mobilenet_v1":
        theirs = MobileNetV1((size, size, 3), **options)
    else:
        theirs = ResNet(int(network[6:]), (size, size, 3), **options)
    inputs = images(8, size, size, 3)
    calibrate(ours, inputs)
    copy_in_order(ours, theirs)
    assert difference(ours, theirs, inputs) < 1e-5
    assert [x.name for x in ours.layers if "block" in x.name] == [
        x.name for x in theirs.layers if "block" in x.name
    ]


def test_scaled_stages():
    model = scale("resnet50", 1.5, 0.5, 0.25, channels=1, classes=7)
    assert model.input_shape == (None, 56, 56, 1)
    names = [x.name for x in model.layers if "block" in x.name]
    repeats = [len([x for x in names if x.startswith(f"stage{s}_")]) for s in (2, 3, 4, 5)]
    assert repeats == [5, 6, 9, 5]
    assert model.get_layer("stage5_block5").output.shape == (None, 2, 2, 1024)
    assert model.output_shape == (None, 7)
    model = scale("mobilenet_v1", 1.5, 0.5, 0.25)
    names = [x.name for x in model.layers if "block" in x.name]
    repeats = [len([x for x in names if x.startswith(f"stage{s}_")]) for s in range(1, 6)]
    assert repeats == [2, 3, 3, 9, 3]
    assert model.get_layer("stage5_block3").output.shape == (None, 2, 2, 512)
    assert model.get_layer("stem").filters == 16


def test_costs_grow_as_the_coefficients_say():
    """Depth · width² · resolution², but for rounding and for the ends that do not repeat."""
    base = cost(scale, "mobilenet_v1").macs
    for factors, low, high in [((2, 1, 1), 2, 2.3), ((1, 2, 1), 3.8, 4), ((1, 1, 2), 3.98, 4)]:
        assert low < cost(scale, "mobilenet_v1", *factors).macs / base < high


@pytest.mark.parametrize(
    "layer",
    [
        MBConv(
            6, 2, 3, kernel_size=5, squeeze_ratio=0.5, momentum=0.5, epsilon=0.1, name="strided"
        ),
        MBConv(4, expansion=1, squeeze_ratio=0, activation="relu6", drop_rate=0.1, name="lite"),
        MBConv(4, expansion=2.5, expand_divisor=8, dtype="float64", name="double"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (EfficientNet, {"width": 0.5, "depth": 1.1, "input_shape": (33, 32, 1), "lite": True}),
        (EfficientNet, {"width": 0.5, "depth": 0.5, "resolution": 32, "drop_rate": 0.4}),
        (scale, {"network": "resnet18", "width": 0.5, "base_size": 33, "channels": 2}),
        (scale, {"network": "mobilenet_v1", "width": 0.3, "depth": 0.5, "base_size": 33}),
    ],
)
def test_model_round_trip(build, options, tmp_path):
    model = build(classes=3, classifier_activation=None, momentum=0.5, **options)
    assert assert_same_after_loading(model, tmp_path).name == model.name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MBConv(0), "filters=0: expected a positive integer"),
        (lambda: MBConv(8, kernel_size=0), "kernel_size=0: expected a positive integer"),
        (
            lambda: MBConv(8, squeeze_ratio=1.5),
            "squeeze_ratio=1.5: expected a number from 0 to 1",
        ),
        (lambda: EfficientNet(width=0), "width=0: expected a positive number"),
        (lambda: EfficientNet(depth=-1), "depth=-1: expected a positive number"),
        (lambda: EfficientNet(resolution=0), "resolution=0: expected a positive integer"),
        (lambda: EfficientNet(classes=0), "classes=0: expected a positive integer"),
        (
            lambda: EfficientNet(drop_rate=1),  # the last block would get 15/16 only
            "drop_rate=1: expected a number from 0 to below 1",
        ),
        (lambda: compound_coefficients(1, beta=0), "beta=0: expected a positive number"),
        (lambda: round_filters(32, 0), "width=0: expected a positive number"),
        (lambda: round_repeats(0, 1), "repeats=0: expected a positive integer"),
        (
            lambda: scale("resnet51"),
            "network='resnet51': expected one of 'mobilenet_v1', 'resnet18'",
        ),
        (lambda: scale("resnet18", resolution=0), "resolution=0: expected a positive number"),
        (lambda: scale("resnet18", base_size=0), "base_size=0: expected a positive integer"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_two_dimensional_input():
    with pytest.raises(ValueError, match=r"input_shape=\(2, 3\): expected four axes"):
        MBConv(3)(np.zeros((2, 3)))
