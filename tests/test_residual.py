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
from utils import residual
from utils.cost import count
from utils.published import agrees
from utils.residual import (
    BottleneckBlock,
    ResidualBlock,
    ResNet,
    ResNetCIFAR,
    ZeroPadShortcut,
)

BLOCKS = (ResidualBlock, BottleneckBlock)


def relu(values):
    return np.maximum(values, 0)


@functools.cache
def cost(model, depth, **options):
    """What a whole network costs; several tests ask for the same one."""
    return counted(model, depth, **options)


def built(layer, *shape):
    layer.build((None, *shape))
    return randomise(layer)


def branch(block, inputs):
    """z, what the convolutions of a block return."""
    for conv in block.convs:
        inputs = conv(inputs)
    return inputs.numpy()


@pytest.mark.parametrize("block", BLOCKS)
def test_addition_comes_before_the_relu(block):
    inputs = images(2, 6, 6, 8)
    layer = built(block(8 // block.expansion), 6, 6, 8)
    z = branch(layer, inputs)
    outputs = layer(inputs).numpy()
    np.testing.assert_allclose(outputs, relu(z + inputs), rtol=1e-5, atol=1e-5)
    assert np.abs(outputs - (relu(z) + inputs)).max() > 0.1
    # The last convolution has no ReLU of its own, all others have.
    assert (z < 0).any()
    for conv in layer.convs[:-1]:
        inputs = conv(inputs).numpy()
        assert (inputs >= 0).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_zero_kernels_leave_the_identity(block):
    layer = block(16 // block.expansion)
    layer.build((None, 6, 6, 16))
    for conv in layer.convs:
        conv.conv.kernel.assign(np.zeros(conv.conv.kernel.shape))
    inputs = images(2, 6, 6, 16)
    np.testing.assert_array_equal(layer(relu(inputs)).numpy(), relu(inputs))
    np.testing.assert_array_equal(layer(inputs).numpy(), relu(inputs))


@pytest.mark.parametrize("block", BLOCKS)
def test_zero_init_gamma_starts_as_the_identity(block):
    inputs = relu(images(2, 6, 6, 16))
    layer = block(16 // block.expansion, zero_init_gamma=True)
    for training in (False, True):
        np.testing.assert_array_equal(layer(inputs, training=training).numpy(), inputs)
    assert (block(16 // block.expansion)(inputs).numpy() != inputs).any()


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("shortcut", ["projection", "zero_pad"])
@pytest.mark.parametrize("block", BLOCKS)
def test_shortcuts_where_the_shape_changes(block, shortcut, strides, size):
    inputs = images(2, size, size, 4)
    layer = built(block(8, strides, shortcut), size, size, 4)
    expected_shape = (2, -(-size // strides), -(-size // strides), 8 * block.expansion)
    if shortcut == "projection":
        kernel = layer.resize.conv.get_weights()[0][0, 0]
        gamma, beta, mean, variance = layer.resize.norm.get_weights()
        values = inputs[:, ::strides, ::strides] @ kernel
        values = gamma * (values - mean) / np.sqrt(variance + 1.001e-5) + beta
    else:
        values = np.zeros(expected_shape)
        values[..., :4] = inputs[:, ::strides, ::strides]
    outputs = layer(inputs).numpy()
    assert outputs.shape == expected_shape == layer.compute_output_shape(inputs.shape)
    np.testing.assert_allclose(outputs, relu(branch(layer, inputs) + values), 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("shortcut", "projection"), [("projection", 16 * 32 + 2 * 32), ("zero_pad", 0)]
)
def test_residual_block_costs(shortcut, projection):
    counts = count(ResidualBlock(32, 2, shortcut), (9, 9, 16))
    assert counts.params == 9 * 16 * 32 + 9 * 32 * 32 + 2 * 2 * 32 + projection
    assert counts.biases == 0
    assert counts.macs == 5 * 5 * counts.kernels


@pytest.mark.parametrize(("stride_in", "positions"), [("1x1", 5 * 5), ("3x3", 9 * 9)])
def test_bottleneck_block_costs(stride_in, positions):
    counts = count(BottleneckBlock(8, 2, "projection", stride_in=stride_in), (9, 9, 16))
    assert counts.kernels == 16 * 8 + 9 * 8 * 8 + 8 * 32 + 16 * 32
    assert counts.norm == 2 * (8 + 8 + 32 + 32)
    assert counts.macs == positions * 16 * 8 + 5 * 5 * (9 * 8 * 8 + 8 * 32 + 16 * 32)


@pytest.mark.parametrize("block", BLOCKS)
def test_plain_block_has_no_shortcut(block):
    inputs = images(2, 8, 8, 4)
    layer = built(block(8, 2, "projection", residual=False), 8, 8, 4)
    np.testing.assert_array_equal(layer(inputs).numpy(), relu(branch(layer, inputs)))
    rows = count(layer, (8, 8, 4)).layers
    assert len([row for row in rows if row.kind == "Conv2D"]) == len(layer.convs)


def test_merge_is_seen_by_the_counter():
    """The shortcut lives while the convolutions run, the plain block frees its input earlier."""
    shape = (16, 16, 8)
    one = 4 * 16 * 16 * 8
    assert count(ResidualBlock(8), shape).peak_bytes == 3 * one
    assert count(ResidualBlock(8, residual=False), shape).peak_bytes == 2 * one


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", [7, 8])
def test_stride_two_pads_symmetrically(block, size):
    """The first output sees the pixels around the first input, at even and odd size alike."""
    layer = block(1, 2, residual=False, **({"stride_in": "3x3"} if block.expansion == 4 else {}))
    conv = layer.convs[block.expansion // 4]
    conv.build((None, size, size, 1))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    conv.conv.kernel.assign(kernel)
    inputs = np.arange(size * size, dtype="float32").reshape(1, size, size, 1)
    np.testing.assert_allclose(conv(inputs).numpy(), inputs[:, ::2, ::2], rtol=1e-3)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_reaches_every_norm(momentum):
    models = (
        ResNetCIFAR(8, (8, 8, 1), shortcut="projection", momentum=momentum),
        ResNet(18, (32, 32, 3), momentum=momentum),
    )
    for model in models:
        layers = model._flatten_layers()
        norms = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
        assert {norm.momentum for norm in norms} == {momentum}
        assert len(norms) >= 9


@pytest.mark.parametrize(
    ("depth", "options", "params", "macs"),
    [
        (18, {}, 11_689_512, 1_814_073_344),
        (34, {}, 21_797_672, 3_663_761_408),
        (50, {}, 25_557_032, 3_857_973_248),
        (50, {"stride_in": "3x3"}, 25_557_032, 4_089_184_256),
        (101, {}, 44_549_160, 7_570_194_432),
        (152, {}, 60_192_808, 11_282_415_616),
    ],
)
def test_resnet_costs(depth, options, params, macs):
    counts = cost(ResNet, depth, **options)
    assert (counts.params, counts.macs) == (params, macs)
    assert counts.biases == 1000


@pytest.mark.parametrize("options", [{"shortcut": "zero_pad"}, {"residual": False}])
def test_plain_and_padded_resnet34_lack_the_three_projections(options):
    counts, projected = cost(ResNet, 34, **options), cost(ResNet, 34)
    kernels = (64 * 128, 128 * 256, 256 * 512)
    macs = sum(kernel * side**2 for kernel, side in zip(kernels, (28, 14, 7), strict=True))
    assert projected.macs - counts.macs == macs
    assert projected.params - counts.params == sum(kernels) + 2 * (128 + 256 + 512)


@pytest.mark.parametrize("row", published_rows("residual", "ResNet"), ids=row_id)
def test_resnet_table(row):
    kind, depth, *version = re.split("[- ]", row["variant"])
    options = {"stride_in": "3x3"} if version else {}
    if kind == "plain":
        options["residual"] = False
    assert_published(row, cost(ResNet, int(depth), **options))


@pytest.mark.parametrize("row", published_rows("residual", "ResNet-CIFAR"), ids=row_id)
def test_resnet_cifar_table(row):
    depth = int(row["variant"].split("-")[1])
    if depth <= 110:
        assert_published(row, cost(ResNetCIFAR, depth))
    else:
        # Every six layers more add the same parameters, so small networks tell of large ones.
        small, large = cost(ResNetCIFAR, 20).params, cost(ResNetCIFAR, 56).params
        params = small + (depth - 20) * (large - small) // 36
        assert params == 19_421_274
        assert agrees(row["params"], params)


def test_resnet_cifar_costs():
    def blocks(filters, side, count, first):
        kernels = 9 * first * filters + (2 * count - 1) * 9 * filters * filters
        return kernels, kernels * side * side, 2 * count * 2 * filters

    n = 3
    stages = [blocks(16, 32, n, 16), blocks(32, 16, n, 16), blocks(64, 8, n, 32)]
    kernels = 9 * 3 * 16 + sum(stage[0] for stage in stages) + 64 * 10
    macs = 9 * 3 * 16 * 32 * 32 + sum(stage[1] for stage in stages) + 64 * 10
    norm = 2 * 16 + sum(stage[2] for stage in stages)
    for options in ({}, {"residual": False}, {"residual": False, "shortcut": "projection"}):
        counts = count(ResNetCIFAR(6 * n + 2, **options))
        assert (counts.kernels, counts.macs, counts.norm) == (kernels, macs, norm)
        assert counts.params == 269_722
    projected = count(ResNetCIFAR(6 * n + 2, shortcut="projection"))
    assert projected.params == 269_722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_resnet_feature_shapes():
    model = ResNet(50, (None, None, 3), include_top=False)
    assert model.output_shape == (None, None, None, 2048)
    assert model(images(1, 64, 97, 3)).shape == (1, 2, 4, 2048)
    assert model(images(1, 65, 32, 3)).shape == (1, 3, 1, 2048)


def test_resnet_stage_shapes():
    shapes = {row.name: row.output_shape for row in cost(ResNet, 50).layers}
    assert shapes["stem/conv"] == (112, 112, 64)
    last = [shapes[f"stage{stage}_block1/conv3/bn"] for stage in (2, 3, 4, 5)]
    assert last == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


@pytest.mark.parametrize(("size", "sides"), [(8, (8, 4, 2)), (33, (33, 17, 9))])
def test_resnet_cifar_shapes(size, sides):
    model = ResNetCIFAR(8, (size, size, 1), classes=3, filters=4)
    for stage, side in enumerate(sides, start=1):
        shape = (None, side, side, 2 * 2**stage)
        assert model.get_layer(f"stage{stage}_block1").output.shape == shape
    outputs = model(images(2, size, size, 1)).numpy()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert outputs.shape == (2, 3)
    features = ResNetCIFAR(8, (size, size, 1), filters=4, include_top=False)
    assert features.output_shape == (None, sides[-1], sides[-1], 16)


def test_size_may_be_open():
    logits = randomise(ResNetCIFAR(8, (None, None, 3), 5, classifier_activation=None))
    fixed = ResNetCIFAR(8, (40, 33, 3), 5, classifier_activation=None)
    fixed.set_weights(logits.get_weights())
    inputs = images(2, 40, 33, 3)
    np.testing.assert_allclose(logits(inputs).numpy(), fixed(inputs).numpy(), 1e-4, 1e-4)


@pytest.mark.parametrize("depth", residual.RESNET)
def test_depth_is_the_number_of_layers_with_a_kernel(depth):
    rows = [row for row in cost(ResNet, depth).layers if row.macs]
    projections = [row for row in rows if "/shortcut/" in row.name]
    assert len(rows) - len(projections) == depth
    assert len(projections) == (3 if depth < 50 else 4)


@pytest.mark.parametrize("depth", residual.RESNET)
def test_each_depth_has_its_function(depth, monkeypatch):
    monkeypatch.setattr(residual, "ResNet", lambda *given, **options: (given, options))
    build = getattr(residual, f"ResNet{depth}")
    assert build() == ((depth, (224, 224, 3), 1000), {})
    assert build((32, 32, 1), 7, momentum=0.5) == ((depth, (32, 32, 1), 7), {"momentum": 0.5})


def test_layers_are_named_by_stage_and_block():
    names = [row.name for row in cost(ResNet, 50).layers]
    assert [name for name in names if name.endswith("/conv3/conv")] == [
        f"stage{stage}_block{block}/conv3/conv"
        for stage, repeats in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True)
        for block in range(1, repeats + 1)
    ]
    assert names[-1] == "predictions"
    model = ResNetCIFAR(8, shortcut="projection")
    names = [layer.name for layer in model.layers[1:]]
    stages = ["stage1_block1", "stage2_block1", "stage3_block1"]
    assert names == ["stem", *stages, "avg_pool", "predictions"]
    assert model.name == "resnet8"
    assert ResNetCIFAR(8, residual=False).name == "plain8"


def test_zero_init_gamma_reaches_every_block():
    model = ResNet(18, (32, 32, 3), zero_init_gamma=True)
    last = [layer.convs[-1].norm for layer in model.layers if "block" in layer.name]
    assert len(last) == 8
    assert not any(norm.gamma.numpy().any() for norm in last)
    model = ResNetCIFAR(8, zero_init_gamma=True, residual=True)
    assert not model.get_layer("stage3_block1").convs[-1].norm.gamma.numpy().any()


@pytest.mark.parametrize(
    "layer",
    [
        ZeroPadShortcut(9, strides=2),
        ResidualBlock(6, 2, "projection", momentum=0.5, zero_init_gamma=True),
        ResidualBlock(6, 2, "zero_pad", residual=False, name="plain"),
        ResidualBlock(6, 3, "zero_pad", dtype="float64", name="double"),
        BottleneckBlock(2, 2, "projection", stride_in="3x3", momentum=0.5),
        BottleneckBlock(1, name="identity"),
    ],
    ids=lambda layer: layer.name,
)
def test_round_trip(layer, tmp_path):
    assert_round_trip(layer, (7, 8, 4), tmp_path)


def test_model_round_trip(tmp_path):
    model = ResNetCIFAR(
        14,
        (9, 8, 1),
        3,
        filters=4,
        classifier_activation=None,
        shortcut="projection",
        zero_init_gamma=True,
        momentum=0.5,
        name="small",
    )
    loaded = assert_same_after_loading(model, tmp_path)
    assert loaded.name == "small"
    assert loaded.get_layer("stage1_block1").get_config()["momentum"] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualBlock(0), "filters=0: expected a positive integer"),
        (lambda: ResidualBlock(8, strides=0), "strides=0: expected a positive integer"),
        (
            lambda: ResidualBlock(8, shortcut="none"),
            "shortcut='none': expected one of 'identity', 'projection', 'zero_pad'",
        ),
        (
            lambda: BottleneckBlock(8, stride_in="5x5"),
            "stride_in='5x5': expected one of '1x1', '3x3'",
        ),
        (
            lambda: ResidualBlock(32, strides=2)(np.zeros((1, 8, 8, 16))),
            "shortcut='identity': expected 'projection' or 'zero_pad' where the block turns "
            "(8, 8, 16) into (4, 4, 32)",
        ),
        (
            lambda: ResidualBlock(32)(keras.Input((8, 8, 16))),
            "shortcut='identity': expected 'projection' or 'zero_pad' where the block turns "
            "(8, 8, 16) into (8, 8, 32)",
        ),
        (
            lambda: ResidualBlock(16, strides=2)(keras.Input((None, None, 16))),
            "shortcut='identity': expected 'projection' or 'zero_pad' where the block turns "
            "(None, None, 16) into (None, None, 16)",
        ),
        (
            lambda: ResidualBlock(8, shortcut="zero_pad")(np.zeros((1, 8, 8, 16))),
            "filters=8: expected at least the input's 16 channels",
        ),
        (lambda: ZeroPadShortcut(0), "filters=0: expected a positive integer"),
        (lambda: ResNet(21), "depth=21: expected one of 18, 34, 50, 101, 152"),
        (
            lambda: ResNet(18, shortcut="identity"),
            "shortcut='identity': expected one of 'projection', 'zero_pad'",
        ),
        (lambda: ResNet(18, stride_in="3x3"), "stride_in='3x3': expected it to be left out with"),
        (lambda: ResNet(50, stride_in="5x5"), "stride_in='5x5': expected one of '1x1', '3x3'"),
        (lambda: ResNet(18, classes=0), "classes=0: expected a positive integer"),
        (lambda: ResNet(18, (224,)), "input_shape=(None, 224): expected four axes (B, H, W, C)"),
        (lambda: ResNetCIFAR(21), "depth=21: expected 6n + 2 with n ≥ 1"),
        (lambda: ResNetCIFAR(2), "depth=2: expected 6n + 2 with n ≥ 1"),
        (lambda: ResNetCIFAR(20.0), "depth=20.0: expected 6n + 2 with n ≥ 1"),
        (lambda: ResNetCIFAR(8, filters=0), "filters=0: expected a positive integer"),
        (lambda: ResNetCIFAR(8, classes=-1), "classes=-1: expected a positive integer"),
        (
            lambda: ResNetCIFAR(8, shortcut="pad"),
            "shortcut='pad': expected one of 'projection', 'zero_pad'",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "layer", [ResidualBlock(3), BottleneckBlock(3), ZeroPadShortcut(3)], ids=lambda x: x.name
)
def test_two_dimensional_input(layer):
    message = r"input_shape=\(2, 3\): expected four axes \(B, H, W, C\)"
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=message):
        layer.compute_output_shape((2, 3))
