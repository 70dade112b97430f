import functools
import re

import keras
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
from utils.published import computed
from utils.shufflenet import STAGE2, STEMS, ShuffleNetV1, ShuffleUnit, channel_shuffle


@functools.cache
def cost(groups=3, scale=1.0):
    return counted(ShuffleNetV1, groups=groups, scale=scale)


def relu(values):
    return np.maximum(values, 0)


def dealt(array, groups):
    """The shuffle, one channel at a time."""
    size = array.shape[-1] // groups
    outputs = np.empty_like(array)
    for group in range(groups):
        for place in range(size):
            outputs[..., place * groups + group] = array[..., group * size + place]
    return outputs


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


@pytest.mark.parametrize(
    ("shape", "groups"), [((12,), 3), ((2, 3, 4, 12), 4), ((1, 5, 24), 2), ((2, 1, 1, 7), 1)]
)
def test_shuffle_deals_channels(shape, groups):
    inputs = images(*shape)
    np.testing.assert_array_equal(channel_shuffle(inputs, groups), dealt(inputs, groups))


def test_shuffle_of_twelve():
    order = channel_shuffle(np.arange(12), 3)
    assert list(order) == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    # Shuffled again with the other factor, all channels are where they were.
    np.testing.assert_array_equal(channel_shuffle(order, 4), np.arange(12))


def groups_reached(unit, channels, groups):
    """For each group of the input, the groups of the output that change with it."""
    inputs = images(2, 6, 6, channels)
    size, reached = channels // groups, []
    for group in range(groups):
        changed = inputs.copy()
        changed[..., group * size : (group + 1) * size] *= -1
        moved = np.abs(unit(changed).numpy() - unit(inputs).numpy()).max(axis=(0, 1, 2))
        reached.append([i for i, part in enumerate(np.split(moved, groups)) if part.max() > 1e-4])
    return reached


@pytest.mark.parametrize("groups", [2, 3])
def test_groups_talk_after_the_shuffle_only(groups):
    channels = 12 * groups
    apart = [[group] for group in range(groups)]
    together = [list(range(groups))] * groups
    for shuffle, expected in ((True, together), (False, apart)):
        unit = ShuffleUnit(channels, groups=groups, shuffle=shuffle)
        assert groups_reached(built(unit, 6, 6, channels), channels, groups) == expected


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("strides", "filters"), [(1, 12), (2, 30)])
def test_unit_by_hand(strides, filters, shuffle, size):
    inputs = images(2, size, size, 12)
    unit = ShuffleUnit(filters, strides, shuffle=shuffle)
    built(unit, size, size, 12)
    middle = unit.reduce(inputs).numpy()
    assert middle.shape[-1] == {12: 3, 30: 9}[filters]
    assert (middle >= 0).all()
    outputs = unit.depthwise(dealt(middle, 3) if shuffle else middle).numpy()
    assert (outputs < 0).any()
    outputs = unit.restore(outputs).numpy()
    assert (outputs < 0).any()
    if strides == 1:
        expected = relu(inputs + outputs)
    else:
        pooled = keras.ops.average_pool(inputs, 3, 2, padding="same")
        expected = relu(np.concatenate([pooled, outputs], axis=-1))
    assert expected.shape == unit.compute_output_shape(inputs.shape)
    assert expected.shape == (2, -(-size // strides), -(-size // strides), filters)
    np.testing.assert_allclose(unit(inputs).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("group_first", [True, False])
@pytest.mark.parametrize(
    ("strides", "groups", "filters", "middle"),
    [(1, 3, 24, 6), (1, 4, 24, 8), (2, 3, 60, 15), (2, 8, 64, 16)],
)
def test_unit_costs(strides, groups, filters, middle, group_first):
    unit = ShuffleUnit(filters, strides, groups, group_first=group_first)
    counts = count(unit, (9, 9, 24))
    small = -(-9 // strides)
    added = filters - 24 if strides == 2 else filters
    first = 24 * middle // (groups if group_first else 1)
    later = 9 * middle + middle * added // groups
    assert counts.kernels == first + later
    assert (counts.norm, counts.biases) == (2 * (2 * middle + added), 0)
    assert counts.macs == 9 * 9 * first + small * small * later


@pytest.mark.parametrize(
    ("groups", "scale", "params", "macs"),
    [
        (1, 1.0, 1_531_936, 143_078_976),
        (2, 0.25, 267_224, 13_386_292),
        (3, 1.0, 1_865_728, 137_460_672),
        (4, 0.5, 778_040, 37_468_832),
        (8, 0.5, 1_011_448, 40_469_760),
        (3, 1.5, 3_442_168, 292_443_552),
        (8, 2.0, 6_522_232, 521_942_016),
    ],
)
def test_costs(groups, scale, params, macs):
    counts = cost(groups, scale)
    assert (counts.params, counts.macs) == (params, macs)
    assert counts.biases == 1000


def test_costs_by_hand():
    """ShuffleNet 1x with three groups, written out."""
    kernels, macs, norm = 27 * 24, 27 * 24 * 112**2, 2 * 24
    before, side = 24, 56
    for stage, repeats in enumerate((4, 8, 4)):
        filters = 240 * 2**stage
        for unit in range(repeats):
            middle, half = filters // 4, side if unit else side // 2
            added = filters if unit else filters - before
            first = before * middle // (1 if (stage, unit) == (0, 0) else 3)
            later = 9 * middle + middle * added // 3
            kernels += first + later
            macs += first * side**2 + later * half**2
            norm += 2 * (2 * middle + added)
            before, side = filters, half
    counts = cost()
    assert counts.kernels == kernels + 960 * 1000
    assert counts.macs == macs + 960 * 1000
    assert counts.norm == norm


def settings(row):
    scale, groups = re.fullmatch(r"([\d.]+)x g=(\d)", row["variant"]).groups()
    return int(groups), float(scale)


@pytest.mark.parametrize("row", published_rows("shufflenet"), ids=row_id)
def test_table(row):
    assert_published(row, cost(*settings(row)))


def test_table_1_rounds_exactly_without_the_classifier():
    rows = [row for row in published_rows("shufflenet") if "Tables 1" in row["source"]]
    for row in rows:
        assert f"{computed(row, cost(*settings(row)))['macs'] / 1e6:.0f}M" == row["macs"]
    assert len(rows) == 5


@pytest.mark.parametrize(("size", "sides"), [(64, (16, 8, 4, 2)), (65, (17, 9, 5, 3))])
@pytest.mark.parametrize("groups", STAGE2)
def test_stage_shapes(groups, size, sides):
    model = ShuffleNetV1((size, size, 1), 2, groups=groups, scale=0.25)
    assert model.get_layer("stem_pool").output.shape[1] == sides[0]
    for stage, units in ((2, 4), (3, 8), (4, 4)):
        filters = STAGE2[groups] // 4 * 2 ** (stage - 2)
        shape = (None, sides[stage - 1], sides[stage - 1], filters)
        for unit in (1, units):
            assert model.get_layer(f"stage{stage}_unit{unit}").output.shape == shape
    np.testing.assert_allclose(model(images(2, size, size, 1)).numpy().sum(axis=1), 1, 1e-5)


def test_size_may_be_open():
    features = randomise(ShuffleNetV1((None, None, 3), scale=0.25, include_top=False))
    assert features.output_shape == (None, None, None, 240)
    fixed = ShuffleNetV1((64, 33, 3), scale=0.25, include_top=False)
    fixed.set_weights(features.get_weights())
    inputs = images(2, 64, 33, 3)
    np.testing.assert_allclose(features(inputs).numpy(), fixed(inputs).numpy(), 1e-4, 1e-4)


@pytest.mark.parametrize("scale", STEMS)
@pytest.mark.parametrize("groups", STAGE2)
def test_channels_of_the_stem(groups, scale):
    stem = {0.25: 12, 0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}[scale]
    if groups == 8 and scale < 1:
        stem = 16
    model = ShuffleNetV1((32, 32, 3), groups=groups, scale=scale, include_top=False)
    assert model.get_layer("stem").output.shape[-1] == stem
    assert model.output_shape[-1] == 4 * scale * STAGE2[groups]


def test_options_reach_the_units():
    for options in ({}, {"shuffle": False, "momentum": 0.5, "groups": 2}):
        model = ShuffleNetV1((32, 32, 1), 2, scale=0.25, **options)
        units = [layer for layer in model.layers if isinstance(layer, ShuffleUnit)]
        assert {unit.shuffle for unit in units} == {options.get("shuffle", True)}
        assert {unit.groups for unit in units} == {options.get("groups", 3)}
        assert [unit.group_first for unit in units] == [False] + 15 * [True]
        norms = [
            each
            for each in model._flatten_layers()
            if isinstance(each, keras.layers.BatchNormalization)
        ]
        assert {norm.momentum for norm in norms} == {options.get("momentum", 0.9)}
        assert len(norms) == 1 + 3 * 16
    assert model.name == "shufflenet_v1"


@pytest.mark.parametrize(
    "layer",
    [
        ShuffleUnit(12, groups=2, momentum=0.5),
        ShuffleUnit(30, 2, 6, shuffle=False, name="unshuffled"),
        ShuffleUnit(15, 2, group_first=False, dtype="float64", name="double"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 12), tmp_path)


def test_model_round_trip(tmp_path):
    model = ShuffleNetV1(
        (33, 32, 1),
        3,
        groups=4,
        scale=0.25,
        classifier_activation=None,
        shuffle=False,
        momentum=0.5,
        name="small",
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("stage3_unit2").get_config()["momentum"] == 0.5
    assert not loaded.get_layer("stage3_unit2").shuffle


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: channel_shuffle(np.zeros(12), 5), "groups=5: expected a divisor of the 12"),
        (lambda: channel_shuffle(np.zeros(12), 0), "groups=0: expected a positive integer"),
        (lambda: ShuffleUnit(0), "filters=0: expected a positive integer"),
        (lambda: ShuffleUnit(12, groups=-1), "groups=-1: expected a positive integer"),
        (lambda: ShuffleUnit(12, strides=3), "strides=3: expected one of 1, 2"),
        (
            lambda: ShuffleUnit(12)(np.zeros((1, 4, 4, 24))),
            "filters=12: expected the input's 24 channels at stride 1",
        ),
        (
            lambda: ShuffleUnit(24, strides=2)(np.zeros((1, 4, 4, 24))),
            "filters=24: expected more than the input's 24 channels at stride 2",
        ),
        (
            lambda: ShuffleUnit(16, groups=3)(np.zeros((1, 4, 4, 16))),
            "groups=3: expected a divisor of the 16 channels",
        ),
        (
            lambda: ShuffleUnit(16, 2, groups=3)(np.zeros((1, 4, 4, 12))),
            "groups=3: expected a divisor of the 4 channels",
        ),
        (lambda: ShuffleUnit(3)(np.zeros((2, 3))), "input_shape=(2, 3): expected four axes"),
        (
            lambda: ShuffleUnit(3).compute_output_shape((2, 3)),
            "input_shape=(2, 3): expected four axes",
        ),
        (lambda: ShuffleNetV1(groups=5), "groups=5: expected one of 1, 2, 3, 4, 8"),
        (lambda: ShuffleNetV1(scale=0.75), "scale=0.75: expected one of 0.25, 0.5, 1.0, 1.5, 2.0"),
        (lambda: ShuffleNetV1(classes=0), "classes=0: expected a positive integer"),
        (lambda: ShuffleNetV1((224,)), "input_shape=(None, 224): expected four axes"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
