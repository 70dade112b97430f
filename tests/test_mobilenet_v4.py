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
    set_epsilon,
)
from utils import mobilenet_v4
from utils.cost import count
from utils.mobilenet_v4 import (
    CONV_LARGE,
    CONV_MEDIUM,
    CONV_SMALL,
    FusedInvertedBottleneck,
    MobileNetV4ConvLarge,
    MobileNetV4ConvMedium,
    MobileNetV4ConvSmall,
    UniversalInvertedBottleneck,
)

BUILDERS = {
    "S": (MobileNetV4ConvSmall, CONV_SMALL),
    "M": (MobileNetV4ConvMedium, CONV_MEDIUM),
    "L": (MobileNetV4ConvLarge, CONV_LARGE),
}
FORMS = {
    "inverted bottleneck": {"first_kernel": None, "middle_kernel": 3},
    "ConvNeXt": {"first_kernel": 5, "middle_kernel": None},
    "extra depthwise": {"first_kernel": 3, "middle_kernel": 5},
    "feed-forward network": {"first_kernel": None, "middle_kernel": None},
}


@functools.cache
def cost(kind, size, alpha=1.0):
    """What a whole network costs; several tests ask for the same one."""
    return counted(BUILDERS[kind][0], (size, size, 3), alpha=alpha)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    layer = built(UniversalInvertedBottleneck(8, **FORMS[form]), 7, 6, 8)
    assert layer.form == form
    assert set(FORMS) == set(mobilenet_v4.FORMS.values())
    names = [step.name for step in layer.body]
    first, middle = (FORMS[form][name] is not None for name in ("first_kernel", "middle_kernel"))
    assert names == [
        *["first_depthwise"] * first,
        "expand",
        *["middle_depthwise"] * middle,
        "project",
    ]
    outputs = inputs = images(2, 7, 6, 8)
    for step in layer.body:
        outputs = step(outputs).numpy()
        linear = step.name in ("first_depthwise", "project")
        assert (outputs.min() < -0.1) if linear else (outputs.min() == 0)
    np.testing.assert_allclose(layer(inputs).numpy(), inputs + outputs, 1e-5, 1e-5)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "feed-forward network"])
@pytest.mark.parametrize("size", [8, 9])
def test_the_last_depthwise_convolution_has_the_stride(form, size):
    layer = built(UniversalInvertedBottleneck(8, 2, **FORMS[form]), size, size, 8)
    strides = {step.name: step.strides for step in layer.body if step.depthwise}
    assert list(strides.values())[-1] == 2
    assert list(strides.values())[:-1] in ([], [1])
    side = -(-size // 2)
    outputs = layer(images(2, size, size, 8))
    assert outputs.shape == layer.compute_output_shape((2, size, size, 8)) == (2, side, side, 8)
    assert not layer.has_shortcut


@pytest.mark.parametrize("strides", [1, 2])
def test_block_costs(strides):
    options = {"first_kernel": 3, "middle_kernel": 5}
    counts = count(UniversalInvertedBottleneck(24, strides, 4, **options), (9, 9, 16))
    positions = 81 if strides == 1 else 25
    assert counts.kernels == 9 * 16 + 16 * 64 + 25 * 64 + 64 * 24
    assert counts.norm == 2 * (16 + 64 + 64 + 24)
    assert counts.macs == 81 * (9 * 16 + 16 * 64) + positions * (25 * 64 + 64 * 24)
    counts = count(FusedInvertedBottleneck(24, strides), (9, 9, 16))
    assert counts.kernels == 9 * 16 * 64 + 64 * 24
    assert counts.macs == positions * counts.kernels
    assert counts.biases == 0


def test_a_first_depthwise_convolution_without_a_middle_one_strides_before_the_expansion():
    options = {"first_kernel": 3, "middle_kernel": None}
    counts = count(UniversalInvertedBottleneck(24, 2, 4, **options), (9, 9, 16))
    assert counts.macs == 25 * counts.kernels


@pytest.mark.parametrize(
    ("kind", "size", "alpha", "params", "macs"),
    [
        ("S", 224, 1.0, 3_774_024, 186_005_568),
        ("S", 224, 0.5, 2_238_952, 64_741_408),
        ("S", 224, 0.35, 1_905_384, 47_723_040),
        ("M", 256, 1.0, 9_715_512, 1_080_244_224),
        ("L", 384, 1.0, 32_590_864, 6_376_220_672),
    ],
)
def test_network_costs(kind, size, alpha, params, macs):
    counts = cost(kind, size, alpha)
    assert (counts.params, counts.macs) == (params, macs)
    assert counts.biases == 1000


@pytest.mark.parametrize("row", published_rows("mobilenet_v4"), ids=row_id)
def test_published_table(row):
    _, kind, *words = row["variant"].split()
    alpha = float(words[-1]) if words else 1.0
    assert_published(row, cost(kind[-1], row["resolution"], alpha))


# What timm 1.0.31 returns for mobilenetv4_conv_small and _medium with these weights (10 classes,
# batch norm's epsilon 1e-3) and the first of these images.
TIMM_LOGITS = {
    "S": "1.51711 1.13635 1.33973 .3774 -3.96384 -.14166 1.66925 .50535 -2.03232 2.72358",
    "M": "-6.44252 4.83941 -4.84868 -9.03045 -4.68311 12.3525 -31.98021 14.02581 6.83329 -17.74394",
}


@pytest.mark.parametrize("kind", TIMM_LOGITS)
def test_same_logits_as_timm(kind):
    inputs = 100 * images(2, 64, 64, 3)
    expected = np.array(TIMM_LOGITS[kind].split(), float)
    options = {"classes": 10, "classifier_activation": None}
    model = randomise(BUILDERS[kind][0]((64, 64, 3), padding="symmetric", **options))

    def far(model):
        return np.abs(model(inputs).numpy()[0] - expected).max() / expected.std()

    assert far(model) <= 1e-4
    as_tensorflow_pads = BUILDERS[kind][0]((64, 64, 3), **options)
    as_tensorflow_pads.set_weights(model.get_weights())
    set_epsilon(model, 1e-2)
    assert min(far(model), far(as_tensorflow_pads)) > 1e-3


def test_padding_makes_no_difference_at_odd_sizes():
    model = randomise(MobileNetV4ConvSmall((65, 65, 3), 3, classifier_activation=None))
    other = MobileNetV4ConvSmall((65, 65, 3), 3, classifier_activation=None, padding="symmetric")
    other.set_weights(model.get_weights())
    inputs = images(2, 65, 65, 3)
    np.testing.assert_allclose(model(inputs).numpy(), other(inputs).numpy(), 1e-4, 1e-4)


@pytest.mark.parametrize("kind", BUILDERS)
def test_blocks_follow_the_rows(kind):
    build, rows = BUILDERS[kind]
    model = build((64, 64, 3))
    layers = [layer for layer in model.layers if layer.name.startswith("stage")]
    channels = 24 if kind == "L" else 32
    for layer, (block, first, middle, expanded, out, strides) in zip(layers, rows, strict=True):
        assert (layer.filters, layer.strides) == (out, strides)
        if block == "conv":
            assert (layer.kernel_size, expanded) == (first, None)
        elif block == "fused":
            assert layer.body[0].filters == expanded
            assert layer.body[0].kernel_size == first
        else:
            assert (layer.first_kernel, layer.middle_kernel) == (first, middle)
            assert next(x.filters for x in layer.body if x.name == "expand") == expanded
            assert layer.has_shortcut == (strides == 1 and channels == out)
        channels = out


def test_layers_are_named_by_stage_and_block():
    model = MobileNetV4ConvSmall((64, 64, 3))
    stages = {2: 2, 3: 2, 4: 6, 5: 7}
    names = [f"stage{stage}_block{n}" for stage in stages for n in range(1, stages[stage] + 1)]
    ends = ["pool", "head", "avg_pool", "dropout", "predictions"]
    assert [layer.name for layer in model.layers[1:]] == ["stem", *names, *ends]
    assert model.name == "mobilenet_v4_conv_small"
    assert MobileNetV4ConvMedium((64, 64, 3)).name == "mobilenet_v4_conv_medium"
    assert MobileNetV4ConvLarge((64, 64, 3), alpha=0.25).name == "mobilenet_v4_conv_large"


@pytest.mark.parametrize(("alpha", "stem", "last"), [(0.5, 32, 480), (1.5, 48, 1440)])
def test_width_multiplier(alpha, stem, last):
    model = MobileNetV4ConvSmall((64, 64, 3), alpha=alpha)
    widths = [model.get_layer(name).filters for name in ("stem", "stage5_block7", "head")]
    assert widths == [stem, last, 1280]


@pytest.mark.parametrize(("size", "sides"), [(64, (32, 16, 8, 4, 2)), (65, (33, 17, 9, 5, 3))])
def test_stage_shapes(size, sides):
    model = MobileNetV4ConvMedium((size, size, 1), classes=3, alpha=0.5)
    names = ["stem", *(f"stage{stage}_block1" for stage in (2, 3, 4, 5))]
    channels = (32, 24, 40, 80, 128)
    for name, side, filters in zip(names, sides, channels, strict=True):
        assert model.get_layer(name).output.shape == (None, side, side, filters)
    outputs = model(images(2, size, size, 1)).numpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert outputs.shape == (2, 3)


def test_size_may_be_open():
    options = {"alpha": 0.5, "classes": 5, "classifier_activation": None}
    model = randomise(MobileNetV4ConvSmall((None, None, 3), **options))
    fixed = MobileNetV4ConvSmall((40, 33, 3), **options)
    fixed.set_weights(model.get_weights())
    inputs = images(2, 40, 33, 3)
    np.testing.assert_allclose(model(inputs).numpy(), fixed(inputs).numpy(), 1e-4, 1e-4)
    features = MobileNetV4ConvSmall((None, None, 3), include_top=False)
    assert features.output_shape == (None, None, None, 960)


def test_momentum_and_dropout_reach_the_layers():
    model = MobileNetV4ConvMedium((64, 64, 3), momentum=0.7, dropout=0.4)
    layers = list(model._flatten_layers())
    norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    convs = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    assert {norm.momentum for norm in norms} == {0.7}
    assert len(norms) == len([each for each in layers if isinstance(each, convs)])
    assert model.get_layer("dropout").rate == 0.4


@pytest.mark.parametrize(
    "layer",
    [
        UniversalInvertedBottleneck(8, 2, 3, first_kernel=3, middle_kernel=5, padding="symmetric"),
        UniversalInvertedBottleneck(4, first_kernel=5, middle_kernel=None, momentum=0.5, name="cn"),
        UniversalInvertedBottleneck(
            4, middle_kernel=None, expand_divisor=2, activation="swish", drop_rate=0.1, name="ffn"
        ),
        UniversalInvertedBottleneck(4, epsilon=0.01, dtype="float64", name="double"),
        FusedInvertedBottleneck(8, 2, 3, kernel_size=5, padding="symmetric", activation="swish"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


def test_model_round_trip(tmp_path):
    model = MobileNetV4ConvSmall(
        (34, 40, 1),
        3,
        0.5,
        classifier_activation=None,
        padding="symmetric",
        dropout=0.5,
        momentum=0.5,
        name="small",
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("stage4_block1").get_config()["padding"] == "symmetric"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniversalInvertedBottleneck(0), "filters=0: expected a positive integer"),
        (
            lambda: UniversalInvertedBottleneck(8, first_kernel=0),
            "first_kernel=0: expected a positive integer",
        ),
        (
            lambda: UniversalInvertedBottleneck(8, middle_kernel=2.5),
            "middle_kernel=2.5: expected a positive integer",
        ),
        (
            lambda: UniversalInvertedBottleneck(8, 2, middle_kernel=None),
            "strides=2: expected 1 where first_kernel and middle_kernel are None",
        ),
        (
            lambda: UniversalInvertedBottleneck(8, padding="full"),
            "padding='full': expected one of 'same', 'symmetric'",
        ),
        (
            lambda: FusedInvertedBottleneck(8, padding="full"),
            "padding='full': expected one of 'same', 'symmetric'",
        ),
        (
            lambda: FusedInvertedBottleneck(8, kernel_size=0),
            "kernel_size=0: expected a positive integer",
        ),
        (lambda: MobileNetV4ConvSmall(alpha=-1), "alpha=-1: expected a positive number"),
        (lambda: MobileNetV4ConvMedium(classes=0), "classes=0: expected a positive integer"),
        (
            lambda: MobileNetV4ConvLarge(padding="valid"),
            "padding='valid': expected one of 'same', 'symmetric'",
        ),
        (
            lambda: MobileNetV4ConvSmall((224,)),
            "input_shape=(None, 224): expected four axes (B, H, W, C)",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "layer", [UniversalInvertedBottleneck(3), FusedInvertedBottleneck(3)], ids=lambda x: x.name
)
def test_two_dimensional_input(layer):
    message = r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((2, 3)))
