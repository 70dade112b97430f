import gc
import random
import resource
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from tensorflow.python.framework.ops import EagerTensor

from utils.cost import count
from utils.efficientnet import MBConv


@keras.saving.register_keras_serializable("test_cost")
class Scale(layers.Layer):
    """Learns one factor a channel, under a name of its own."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(), trainable=False, name="shift")

    def call(self, x):
        return x * self.scale + self.shift


@keras.saving.register_keras_serializable("test_cost")
class Residual(layers.Layer):
    """conv → relu → conv, plus the input; the sum and the ReLU are layers or operations."""

    def __init__(self, filters, use_layers=True, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.use_layers = filters, use_layers
        self.first = layers.Conv2D(filters, 3, padding="same", name="first")
        self.second = layers.Conv2D(filters, 3, padding="same", name="second")
        if use_layers:
            self.relu = layers.ReLU(name="relu")
            self.add = layers.Add(name="add")

    def call(self, x):
        y = self.first(x)
        y = self.second(self.relu(y) if self.use_layers else ops.relu(y))
        return self.add([x, y]) if self.use_layers else x + y

    def get_config(self):
        return super().get_config() | {"filters": self.filters, "use_layers": self.use_layers}


class Net(keras.Model):
    """A subclassed model whose arguments do not fit into a config."""

    def __init__(self, blocks, broken=False):
        super().__init__(name="net")
        self.blocks, self.broken = blocks, broken
        self.drop = layers.Dropout(0.5)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        if self.broken:
            raise TypeError("the learner's own error\nand its second line")
        return self.drop(x)


def functional(call, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], call(*inputs))


# layer, input shape, kernels, biases, MACs, elements written by convolutions
SINGLE_LAYERS = {
    "conv2d": (layers.Conv2D(5, 3), (6, 6, 3), 135, 5, 135 * 16, 80),
    "same, stride 2": (
        layers.Conv2D(5, 3, 2, padding="same"),
        (7, 9, 3),
        135,
        5,
        135 * 4 * 5,
        4 * 5 * 5,
    ),
    "dilated": (layers.Conv2D(5, 3, dilation_rate=2), (6, 6, 3), 135, 5, 135 * 4, 20),
    "pointwise": (layers.Conv2D(32, 1, use_bias=False), (28, 28, 192), 6144, 0, 4816896, 25088),
    "grouped": (layers.Conv2D(12, 3, groups=4), (5, 5, 8), 3 * 3 * 2 * 12, 12, 216 * 9, 108),
    "conv1d": (layers.Conv1D(4, 3), (10, 2), 24, 4, 24 * 8, 32),
    "causal": (layers.Conv1D(4, 3, padding="causal"), (10, 2), 24, 4, 24 * 10, 40),
    "conv3d": (layers.Conv3D(4, 2), (3, 4, 5, 2), 64, 4, 64 * 2 * 3 * 4, 96),
    "depthwise": (layers.DepthwiseConv2D(3), (6, 6, 3), 27, 3, 27 * 16, 48),
    "depthwise, 2 filters a channel": (
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        (6, 6, 3),
        54,
        6,
        54 * 16,
        96,
    ),
    "depthwise1d": (layers.DepthwiseConv1D(3), (10, 2), 6, 2, 6 * 8, 16),
    "separable": (
        layers.SeparableConv2D(5, 3, depth_multiplier=2),
        (6, 6, 3),
        54 + 30,
        5,
        (54 + 30) * 16,
        (6 + 5) * 16,
    ),
    "separable1d": (layers.SeparableConv1D(5, 3), (10, 2), 6 + 10, 5, 16 * 8, (2 + 5) * 8),
    "transposed": (
        layers.Conv2DTranspose(5, 3, 2),
        (4, 4, 3),
        135,
        5,
        135 * 16,
        9 * 9 * 5,
    ),
    "transposed1d": (layers.Conv1DTranspose(5, 3, 2), (4, 3), 45, 5, 45 * 4, 45),
    "transposed3d": (layers.Conv3DTranspose(2, 2, 2), (2, 2, 2, 3), 48, 2, 48 * 8, 128),
    "channels first": (
        layers.Conv2D(5, 3, data_format="channels_first"),
        (3, 6, 8),
        135,
        5,
        135 * 24,
        120,
    ),
    "dense": (layers.Dense(7), (5,), 35, 7, 35, 0),
    "dense on an image": (layers.Dense(7), (4, 4, 5), 35, 7, 35 * 16, 0),
    "einsum": (
        layers.EinsumDense("abc,cde->abde", (6, 2, 5), bias_axes="de"),
        (6, 3),
        30,
        10,
        30 * 6,
        0,
    ),
    "pooling": (layers.MaxPooling2D(), (6, 6, 3), 0, 0, 0, 0),
    "nothing": (layers.Identity(), (6, 6, 3), 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", SINGLE_LAYERS)
@pytest.mark.parametrize("built", [False, True])
def test_single_layers_equal_the_count_by_hand(name, built):
    template, shape, kernels, biases, macs, activations = SINGLE_LAYERS[name]
    layer = type(template).from_config(template.get_config())
    if built:
        layer.build((None, *shape))
    was_built = layer.built
    cost = count(layer, shape)
    assert (cost.kernels, cost.biases, cost.norm, cost.statistics) == (kernels, biases, 0, 0)
    assert (cost.macs, cost.activations) == (macs, activations)
    (row,) = cost.layers
    assert (row.params, row.macs) == (kernels + biases, macs)
    assert (row.name, row.kind) == (layer.name, type(layer).__name__)
    assert layer.built == was_built
    if not was_built:
        layer.build((None, *shape))  # before Keras 3.15, EinsumDense knows its shape then only
    assert row.output_shape == tuple(layer.compute_output_shape((1, *shape))[1:])


APPLICATIONS = {
    # MACs, params, statistics, activations, peak in MiB
    "MobileNet": (568_740_352, 4_231_976, 21_888, 5_043_688, 6.18),
    "MobileNetV2": (300_774_272, 3_504_872, 34_112, 6_678_112, 9.27),
    "MobileNetV3Large": (216_589_760, 5_483_032, 24_400, 4_407_168, 6.18),
    "EfficientNetB0": (385_814_752, 5_288_548, 42_023, 6_747_036, 9.27),
    "ResNet50": (3_857_973_248, 25_583_592, 53_120, 10_587_136, 9.19),
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_known_networks(name):
    macs, params, statistics, activations, peak = APPLICATIONS[name]
    model = getattr(keras.applications, name)(input_shape=(224, 224, 3), weights=None)
    cost = count(model)
    assert (cost.macs, cost.params, cost.statistics) == (macs, params, statistics)
    assert cost.params + cost.statistics == model.count_params()
    assert cost.activations == activations
    assert round(cost.peak_bytes / 2**20, 2) == peak
    assert sum(row.macs for row in cost.layers) == macs
    assert sum(row.params for row in cost.layers) == params
    if name == "MobileNet":
        parts = {"stem": 0, "depthwise": 0, "pointwise": 0, "classifier": 0}
        for row in cost.layers:
            part = "stem" if row.name == "conv1" else "classifier"
            part = "depthwise" if row.name.startswith("conv_dw") else part
            part = "pointwise" if row.name.startswith("conv_pw") else part
            parts[part] += row.macs
        assert parts == {
            "stem": 10_838_016,
            "depthwise": 17_385_984,
            "pointwise": 539_492_352,
            "classifier": 1_024_000,
        }
        assert cost.kernels == 4_209_088


def test_roles_of_weights():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Normalization(),
            layers.Conv2D(5, 1, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.PReLU(shared_axes=[1, 2]),
            Scale(name="scale"),
        ]
    )
    expected = {"kernels": 15, "biases": 5, "norm": 10 + 5 + 5, "statistics": 7 + 10 + 1}
    for trainable in (True, False):
        model.trainable = trainable
        cost = count(model)
        assert {role: getattr(cost, role) for role in expected} == expected
        assert cost.params == 40
        assert cost.params + cost.statistics == model.count_params()


def test_frozen_from_the_start():
    layer = layers.BatchNormalization(trainable=False)
    cost = count(layer, (4, 4, 3))
    assert (cost.norm, cost.statistics) == (6, 6)


def test_shared_layer_counts_weights_once_and_macs_per_call():
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    cost = count(functional(lambda x: layers.Add()([shared(x), shared(shared(x))]), (8, 8, 3)))
    assert (cost.params, cost.macs, cost.activations) == (84, 3 * 81 * 64, 3 * 192)
    calls = [row for row in cost.layers if row.layer is shared]
    assert [row.params for row in calls] == [84, 0, 0]
    assert [row.macs for row in calls] == [81 * 64] * 3


def test_nested_models_and_blocks_are_seen_to_the_bottom():
    inner = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 1, name="c")], name="inner")

    def call(x):
        x = inner(x)
        x = Residual(2, name="block")(x)
        return layers.Dense(3, activation=layers.ReLU(name="act"), name="head")(inner(x))

    cost = count(functional(call, (4, 4, 2)))
    assert [(row.name, row.params, row.macs) for row in cost.layers] == [
        ("inner/c", 6, 4 * 16),
        ("block/first", 38, 36 * 16),
        ("block/relu", 0, 0),
        ("block/second", 38, 36 * 16),
        ("block/add", 0, 0),
        ("inner/c", 0, 4 * 16),
        ("head", 9, 6 * 16),
        ("head/act", 0, 0),
    ]
    assert (cost.params, cost.macs) == (91, 64 + 576 + 576 + 64 + 96)


def test_weights_that_are_never_called_have_a_row():
    block = Net([layers.Conv2D(2, 1)])
    block.spare = layers.Dense(3, name="unused")
    block.spare.build((None, 2))
    cost = count(block, (4, 4, 2))
    assert (cost.layers[-1].name, cost.layers[-1].output_shape) == ("unused", None)
    assert (cost.layers[-1].params, cost.layers[-1].macs) == (9, 0)
    assert cost.params == sum(row.params for row in cost.layers) == block.count_params()
    assert "not called" in str(cost)


def test_own_kernel_in_a_custom_layer():
    class Pointwise(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 5), name="my_kernel")

        def call(self, x):
            return ops.matmul(x, self.kernel)

    cost = count(Pointwise(), (6, 7, 3))
    assert (cost.kernels, cost.macs, cost.activations) == (15, 15 * 42, 5 * 42)


def test_several_inputs_and_outputs():
    add = count(layers.Add(), [(4, 4, 3), (4, 4, 3)])
    assert add.peak_bytes == 4 * 3 * 48

    image, number = keras.Input((4, 4, 3), name="image"), keras.Input((2,), name="a_number")
    outputs = {"y": layers.Conv2D(2, 1)(image), "z": layers.Dense(5)(number)}
    model = keras.Model({"image": image, "a_number": number}, outputs)
    cost = count(model)
    assert cost.macs == 6 * 16 + 10
    assert count(model, {"image": (4, 4, 3), "a_number": (2,)}).macs == cost.macs
    # Both inputs and both outputs live when the second layer runs.
    assert cost.peak_bytes == 4 * max(48 + 2 + 32, 2 + 32 + 5, 48 + 2 + 5, 48 + 5 + 32)


def test_integer_inputs():
    inputs = keras.Input((7,), dtype="int32")
    cost = count(keras.Model(inputs, layers.Embedding(10, 4)(inputs)))
    assert (cost.params, cost.macs, cost.layers[0].output_shape) == (40, 0, (7, 4))
    # Of another type than the model expects, the image would be copied first.
    image = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), layers.Flatten()])
    assert count(image).peak_bytes == count(image, (8, 8, 3)).peak_bytes == 4 * 192


# --- products, whoever asks for them ------------------------------------------------------------


class Own(layers.Layer):
    """Calls a function of itself and of its input."""

    def __init__(self, function, sublayer=None, **kwargs):
        super().__init__(**kwargs)
        self.function, self.sublayer = function, sublayer

    def build(self, input_shape):
        if self.sublayer is not None:
            self.sublayer.build(input_shape)

    def call(self, x):
        return self.function(x) if self.sublayer is None else self.function(x, self.sublayer)


def turned(x):
    return ops.swapaxes(x, -1, -2)


# function, shape of its input, multiply-adds by hand, elements written by convolutions
PRODUCTS = {
    "matmul": (lambda x: ops.matmul(x, turned(x)), (5, 8), 5 * 8 * 5, 0),
    "operator": (lambda x: x @ turned(x), (5, 8), 5 * 8 * 5, 0),
    "einsum": (lambda x: ops.einsum("bij,bkj->bik", x, x), (5, 8), 5 * 8 * 5, 0),
    "einsum of three": (
        lambda x: ops.einsum("bij,bkj,bkl->bil", x, x, x),
        (5, 8),
        2 * 5 * 8 * 5,
        0,
    ),
    "einsum with dots": (
        lambda x: ops.einsum("b...j,jk->b...k", x, ops.ones((8, 3))),
        (5, 2, 8),
        5 * 2 * 8 * 3,
        0,
    ),
    "einsum of one": (lambda x: ops.einsum("bij->bji", x), (5, 8), 0, 0),
    "dot": (lambda x: ops.dot(x, ops.ones((8, 3))), (5, 8), 5 * 8 * 3, 0),
    "tensordot": (
        lambda x: ops.tensordot(x, ops.ones((8, 5, 3)), axes=[[1, 2], [1, 0]]),
        (5, 8),
        5 * 8 * 3,
        0,
    ),
    "attention": (
        lambda x: ops.dot_product_attention(*[ops.reshape(x, (1, 5, 2, 4))] * 3),
        (5, 8),
        2 * 5 * 5 * 8,
        0,
    ),
    "conv": (lambda x: ops.conv(x, ops.ones((3, 3, 3, 5)), 2, "same"), (7, 9, 3), 135 * 20, 100),
    # Neither side is a multiple of the dilation.
    "dilated": (
        lambda x: ops.conv(x, ops.ones((3, 3, 3, 5)), padding="same", dilation_rate=2),
        (7, 9, 3),
        135 * 63,
        5 * 63,
    ),
    "dilated, one axis": (
        lambda x: ops.conv(x, ops.ones((3, 3, 5)), padding="same", dilation_rate=2),
        (9, 3),
        45 * 9,
        45,
    ),
    "grouped": (
        lambda x: ops.conv(x, ops.ones((3, 3, 2, 6)), padding="same"),
        (7, 9, 4),
        108 * 63,
        6 * 63,
    ),
    "depthwise": (
        lambda x: ops.depthwise_conv(x, ops.ones((3, 3, 3, 2)), padding="same", dilation_rate=2),
        (7, 9, 3),
        54 * 63,
        6 * 63,
    ),
    "separable": (
        lambda x: ops.separable_conv(x, ops.ones((3, 3, 3, 2)), ops.ones((1, 1, 6, 4))),
        (7, 9, 3),
        (54 + 24) * 35,
        (6 + 4) * 35,
    ),
    "transposed": (
        lambda x: ops.conv_transpose(x, ops.ones((3, 3, 5, 3)), 2, "same"),
        (7, 9, 3),
        135 * 63,
        5 * 14 * 18,
    ),
    "tensorflow's own": (
        lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 3, 5)), 1, "SAME"),
        (7, 9, 3),
        135 * 63,
        5 * 63,
    ),
    "function": (tf.function(lambda x: x @ tf.ones((8, 3))), (8,), 24, 0),
    "patches": (lambda x: ops.image.extract_patches(x, 3), (9, 9, 3), 0, 0),
    "constants alone": (lambda x: x + ops.ones((4, 4)) @ ops.ones((4, 8)), (4, 8), 0, 0),
    "element by element": (lambda x: ops.sum(x * ops.ones((8,)), axis=-1), (5, 8), 0, 0),
    "scan": (
        lambda x: ops.scan(lambda c, y: (c @ ops.ones((8, 8)), y), x[:, 0], ops.swapaxes(x, 0, 1))[
            0
        ],
        (5, 8),
        5 * 64,
        0,
    ),
    "fori_loop": (
        lambda x: ops.fori_loop(2, 9, lambda i, y: y @ ops.ones((8, 8)), x),
        (8,),
        7 * 64,
        0,
    ),
    "while_loop": (
        lambda x: ops.while_loop(
            lambda i, y: i < 7, lambda i, y: (i + 3, y @ ops.ones((8, 8))), (0, x)
        )[1],
        (8,),
        3 * 64,
        0,
    ),
    "loop in a loop": (
        lambda x: ops.fori_loop(
            0, 3, lambda i, y: ops.fori_loop(0, 4, lambda j, z: z @ ops.ones((8, 8)), y), x
        ),
        (8,),
        3 * 4 * 64,
        0,
    ),
    # Keras calls the function once more, for the shape of its result.
    "map": (lambda x: ops.map(lambda y: y @ ops.ones((8, 3)), x[0]), (5, 4, 8), 5 * 4 * 8 * 3, 0),
    "vectorized_map": (
        lambda x: ops.vectorized_map(lambda y: y @ ops.ones((8, 3)), x[0]),
        (5, 4, 8),
        5 * 4 * 8 * 3,
        0,
    ),
    "branches alike": (
        lambda x: ops.cond(
            ops.sum(x) > 0, lambda: x @ ops.ones((8, 3)), lambda: x @ ops.zeros((8, 3))
        ),
        (8,),
        24,
        0,
    ),
    "branch that is known": (
        lambda x: ops.switch(1, [lambda y: y[:, :3], lambda y: y @ ops.ones((8, 3))], x),
        (8,),
        24,
        0,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_functions_equal_the_count_by_hand(name):
    function, shape, macs, activations = PRODUCTS[name]
    cost = count(Own(function), shape)
    assert (cost.macs, cost.activations, cost.layers[0].macs) == (macs, activations, macs)


def test_products_in_a_lambda_and_between_the_layers_of_a_functional_model():
    both = functional(lambda x: layers.Lambda(lambda y: ops.matmul(y, turned(y)))(x) @ x, (5, 8))
    cost = count(both)
    assert [(row.kind, row.macs) for row in cost.layers] == [("Lambda", 200), ("Matmul", 200)]


REFUSED = {
    "turns": lambda x: ops.while_loop(
        lambda y: ops.sum(y) < 6, lambda y: (y @ ops.ones((8, 8)),), (x,)
    )[0],
    "branches": lambda x: ops.cond(ops.sum(x) > 0, lambda: x @ ops.ones((8, 3)), lambda: x[:, :3]),
    "unknown shape": lambda x: tf.py_function(lambda y: y, [x], tf.float32),
    "PyFunc": lambda x: tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.float32), (1, 8)),
    "FFT": lambda x: ops.fft((x, x))[0],
    "SparseTensorDenseMatMul": lambda x: tf.sparse.sparse_dense_matmul(
        tf.sparse.from_dense(x), tf.ones((8, 3))
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_counted_is_refused_by_name(reason):
    with pytest.raises(ValueError, match=rf'model="odd": .*odd.*{reason}.*\.$') as raised:
        count(Own(REFUSED[reason], name="odd"), (8,))
    assert "\n" not in str(raised.value)


def test_elementwise_kernels_count_in_sight_and_are_refused_out_of_sight():
    class Scaled(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1],), name="kernel")
            self.idle = self.add_weight(shape=(input_shape[-1],), name="idle_kernel")

        def call(self, x):
            return x * self.kernel

    cost = count(Scaled(), (6, 7, 3))
    assert (cost.kernels, cost.macs) == (6, 3 * 42)
    for out_of_sight in (
        layers.TimeDistributed(Scaled(name="scaled")),
        Own(
            lambda x, scaled: ops.fori_loop(0, 3, lambda i, y: scaled(y), x), Scaled(name="scaled")
        ),
    ):
        with pytest.raises(ValueError, match=r"scaled. \(Scaled\) multiplies with its kernel"):
            count(out_of_sight, (6, 7, 3))


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="Keras runs on jax: start again with KERAS_BACKEND"):
        count(layers.Dense(2), (4,))


# layers between two inputs of 5 and 7 steps and 16 channels, their multiply-adds by hand
ATTENTION = {
    "Attention": (lambda q, v: layers.Attention()([q, v]), 2 * 5 * 7 * 16),
    # The scores are a sum, which its scale multiplies element by element.
    "AdditiveAttention": (lambda q, v: layers.AdditiveAttention()([q, v]), 5 * 7 * 16),
    "Dot": (lambda q, v: layers.Dot(axes=-1)([q, v]), 5 * 7 * 16),
    "MultiHeadAttention": (
        lambda q, v: layers.MultiHeadAttention(4, 8, value_dim=6)(q, v),
        5 * 16 * 32 + 7 * 16 * 32 + 7 * 16 * 24 + 5 * 24 * 16 + 4 * 5 * 7 * (8 + 6),
    ),
    "with scores": (
        lambda q, v: layers.MultiHeadAttention(4, 8)(q, v, return_attention_scores=True)[0],
        2 * 5 * 16 * 32 + 2 * 7 * 16 * 32 + 2 * 4 * 5 * 7 * 8,
    ),
    "GroupQueryAttention": (
        lambda q, v: layers.GroupQueryAttention(8, 4, 2)(q, v),
        2 * 5 * 16 * 32 + 2 * 7 * 16 * 16 + 2 * 4 * 5 * 7 * 8,
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    call, macs = ATTENTION[name]
    assert count(functional(call, (5, 16), (7, 16))).macs == macs


def test_attention_has_a_row_beside_its_parts():
    x = keras.Input((300, 448))
    cost = count(keras.Model(x, layers.MultiHeadAttention(4, 112, name="heads")(x, x)))
    dense = 300 * 448 * 448
    assert cost.macs == 4 * dense + 2 * 4 * 300 * 300 * 112 == 321_484_800
    assert [(row.name, row.macs) for row in cost.layers] == [
        ("heads", 2 * 4 * 300 * 300 * 112),
        ("heads/query", dense),
        ("heads/key", dense),
        ("heads/value", dense),
        ("heads/attention_output", dense),
    ]


# layer, input shape, multiply-adds by hand: an LSTM has four gates, a GRU three
REPEATED = {
    "LSTM": (lambda: layers.LSTM(3), (5, 2), 5 * 4 * 3 * (2 + 3)),
    "GRU, unrolled": (lambda: layers.GRU(3, unroll=True), (5, 2), 5 * 3 * 3 * (2 + 3)),
    "cells": (
        lambda: layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(4)]),
        (5, 2),
        5 * (4 * 3 * (2 + 3) + 4 * (3 + 4)),
    ),
    "masked": (
        lambda: keras.Sequential([layers.Masking(), layers.LSTM(3)]),
        (5, 2),
        5 * 4 * 3 * (2 + 3),
    ),
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.LSTM(3)),
        (5, 2),
        2 * 5 * 4 * 3 * (2 + 3),
    ),
    "ConvLSTM2D": (
        lambda: layers.ConvLSTM2D(3, 3, padding="same"),
        (5, 4, 6, 2),
        5 * 24 * 9 * 4 * 3 * (2 + 3),
    ),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(layers.Conv2D(3, 3)),
        (5, 6, 6, 2),
        5 * 16 * 54,
    ),
    "map of a layer": (
        lambda: Own(lambda x, dense: ops.map(dense, ops.swapaxes(x, 0, 1)), layers.Dense(4)),
        (5, 8),
        5 * 8 * 4,
    ),
}


@pytest.mark.parametrize("name", REPEATED)
def test_what_repeats_counts_at_every_turn(name):
    make, shape, macs = REPEATED[name]
    layer = make()
    layer.build((1, *shape))
    cost = count(layer, shape)
    assert cost.macs == sum(row.macs for row in cost.layers) == macs
    assert cost.params == sum(row.params for row in cost.layers) == layer.count_params()


def test_borrowed_and_tied_kernels_count_once():
    class Tied(layers.Layer):
        def __init__(self, tied):
            super().__init__()
            self.tied, self.dense = tied, layers.Dense(4, name="dense")

        def build(self, input_shape):
            self.dense.build(input_shape)
            self.kernel = self.dense.kernel

        def call(self, x):
            return self.dense(x) @ turned(self.kernel) if self.tied else self.dense(x)

    for tied in (False, True):
        cost = count(Tied(tied), (3, 8))
        assert (cost.kernels, cost.biases, cost.macs) == (32, 4, (1 + tied) * 3 * 32)
        assert [(row.params, row.macs) for row in cost.layers] == [(0, tied * 96), (36, 96)]
    spectral = layers.SpectralNormalization(layers.Conv2D(3, 3))
    cost = count(spectral, (6, 6, 2))
    assert (cost.kernels, cost.biases, cost.macs, cost.activations) == (54, 3, 54 * 16, 48)


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_layers_cost_as_many_multiply_adds_as_before(mode):
    einsum = layers.EinsumDense("abc,cde->abde", (6, 3, 5), bias_axes="de")
    model = keras.Sequential(
        [keras.Input((6, 9)), einsum, layers.Flatten(), layers.Dense(7), layers.Dense(2)]
    )
    before = count(model)
    model.quantize(mode)
    after = count(model)
    assert before.macs == 6 * 9 * 15 + 90 * 7 + 7 * 2
    for fact in ("macs", "kernels", "biases", "norm", "params"):
        assert getattr(after, fact) == getattr(before, fact), fact


def transformer(x, heads, width, hidden):
    """Attention and a dense network of one hidden layer, each after a norm and with a shortcut."""
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(heads, width, dropout=0.1)(y, y)])
    y = layers.Dense(hidden, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(x.shape[-1])(y)])


def transformer_macs(tokens, width, heads, key, hidden):
    return tokens * (4 * width * heads * key + 2 * width * hidden) + 2 * heads * key * tokens**2


def test_vision_transformer():
    """Patches of 6 pixels of a 72-pixel image, 64 channels, four heads (arXiv:2010.11929)."""

    class Patches(layers.Layer):
        def call(self, x):
            patches = ops.image.extract_patches(x, size=6)
            return ops.reshape(patches, (-1, 144, 6 * 6 * 3))

    class Encoder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.projection, self.position = layers.Dense(64), layers.Embedding(144, 64)

        def call(self, x):
            return self.projection(x) + self.position(ops.expand_dims(ops.arange(144), 0))

    image = keras.Input((72, 72, 3))
    x = Encoder()(Patches()(image))
    for _ in range(2):
        x = transformer(x, heads=4, width=64, hidden=128)
    model = keras.Model(image, layers.Dense(100)(layers.Flatten()(x)))
    by_hand = 144 * 108 * 64 + 2 * transformer_macs(144, 64, 4, 64, 128) + 144 * 64 * 100
    assert count(model).macs == by_hand == 46_743_552


def test_mobilevit():
    """MobileViT-XXS at 256 pixels (arXiv:2110.02178, Table 4), attention over all positions."""
    macs = []

    def conv(x, filters, kernel=3, strides=1):
        x = layers.Conv2D(filters, kernel, strides, padding="same", activation="swish")(x)
        macs.append(kernel**2 * from_channels[-1] * filters * x.shape[1] * x.shape[2])
        from_channels.append(filters)
        return x

    def inverted_residual(x, filters, strides=1):
        shortcut, wide = x, 2 * x.shape[-1]
        x = conv(x, wide, 1)
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
        macs.append(9 * wide * x.shape[1] * x.shape[2])
        x = conv(layers.BatchNormalization()(x), filters, 1)
        return layers.Add()([shortcut, x]) if shortcut.shape == x.shape else x

    def mobilevit(x, blocks, width):
        channels, positions = x.shape[-1], x.shape[1] * x.shape[2]
        local = x
        x = conv(conv(x, width), width, 1)
        x = shaped = layers.Reshape((4, positions // 4, width))(x)
        for _ in range(blocks):
            x = transformer(x, heads=2, width=width, hidden=2 * width)
            macs.append(transformer_macs(positions, width, 2, width, 2 * width))
        assert x.shape == shaped.shape
        x = conv(layers.Reshape((*local.shape[1:3], width))(x), channels, 1)
        x = layers.Concatenate()([local, x])
        from_channels.append(2 * channels)
        return conv(x, width)

    from_channels = [3]
    image = keras.Input((256, 256, 3))
    x = inverted_residual(conv(image, 16, strides=2), 16)
    x = inverted_residual(inverted_residual(inverted_residual(x, 24, 2), 24), 24)
    x = mobilevit(inverted_residual(x, 48, 2), 2, 64)
    x = mobilevit(inverted_residual(x, 64, 2), 4, 80)
    x = mobilevit(inverted_residual(x, 80, 2), 3, 96)
    x = layers.GlobalAveragePooling2D()(conv(x, 320, 1))
    cost = count(keras.Model(image, layers.Dense(5)(x)))
    assert cost.macs == sum(macs) + 320 * 5
    attention = sum(row.macs for row in cost.layers if row.kind == "MultiHeadAttention")
    assert attention == 4 * (2 * 1024**2 * 64 + 4 * 256**2 * 80 + 3 * 64**2 * 96)


# --- memory: every number is the sum of the tensors that live at the fullest step -------------


def test_peak_in_place_and_views():
    x, y = 6 * 6 * 3, 4 * 4 * 5
    stack = [layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5)]
    stack += [layers.Flatten(), layers.Activation("tanh"), layers.Reshape((4, 4, 5))]
    model = keras.Sequential([keras.Input((6, 6, 3)), *stack])
    assert count(model).peak_bytes == 4 * (x + y)
    # Without layers that need memory, the input is all there is.
    stack = [layers.ReLU(), layers.Dropout(0.5), layers.Identity(), layers.Flatten()]
    assert count(keras.Sequential([keras.Input((6, 6, 3)), *stack])).peak_bytes == 4 * x


def test_peak_not_in_place_while_someone_still_reads_the_input():
    n = 4 * 4 * 2
    kept = functional(lambda x: layers.Add()([x, layers.ReLU()(x)]), (4, 4, 2))
    assert count(kept).peak_bytes == 4 * 3 * n
    # A view does not overwrite; what writes into the view must not either.
    view = functional(lambda x: layers.Concatenate()([x, layers.Reshape((4, 4, 2))(x)]), (4, 4, 2))
    assert count(view).peak_bytes == 4 * (n + 2 * n)
    both = functional(
        lambda x: layers.Concatenate()([x, layers.ReLU()(layers.Reshape((4, 4, 2))(x))]), (4, 4, 2)
    )
    assert count(both).peak_bytes == 4 * (2 * n + 2 * n)


def test_peak_of_an_activation_that_changes_the_size():
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.Activation("glu")])
    assert count(model).peak_bytes == 4 * (32 + 16)


def test_peak_holds_a_shortcut_until_the_sum():
    n = 8 * 8 * 3

    def call(x):
        wide = layers.Conv2D(9, 1)(x)
        return layers.Add()([x, layers.Conv2D(3, 1)(wide)])

    assert count(functional(call, (8, 8, 3))).peak_bytes == 4 * (n + 3 * n + n)
    # Nobody reads x a second time, so it is gone when the second convolution runs.
    plain = functional(lambda x: layers.Conv2D(3, 1)(layers.Conv2D(9, 1)(x)), (8, 8, 3))
    assert count(plain).peak_bytes == 4 * (n + 3 * n)


def test_peak_sees_the_operations_of_a_block():
    n = 8 * 8 * 4
    assert count(Residual(4), (8, 8, 4)).peak_bytes == 4 * 3 * n
    # x waits for the sum, and ops.relu needs new memory: x, first, relu; x, second, sum.
    assert count(Residual(4, use_layers=False), (8, 8, 4)).peak_bytes == 4 * 3 * n

    class Widen(layers.Layer):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 1)
            self.last = layers.Conv2D(1, 1)

        def call(self, x):
            y = self.conv(x)
            return self.last(ops.concatenate([x, y, x], axis=-1))

    assert count(Widen(), (8, 8, 4)).peak_bytes == 4 * (2 * n + 3 * n)


def test_peak_of_an_operation_whose_result_is_read_late():
    n = 8 * 8 * 4

    class Late(layers.Layer):
        def __init__(self):
            super().__init__()
            self.block = Residual(4, use_layers=False)
            self.wide, self.last = layers.Conv2D(8, 1), layers.Conv2D(1, 1)

        def call(self, x):
            y = self.block(x)
            wide = self.wide(x)
            return self.last(y), wide

    # Beside x, y and wide, what the block has added up is gone.
    assert count(Late(), (8, 8, 4)).peak_bytes == 4 * (n + n + 2 * n)


def test_weights_are_not_part_of_the_peak():
    class Table(layers.Layer):
        def __init__(self):
            super().__init__()
            self.add = layers.Add()

        def build(self, input_shape):
            self.table = self.add_weight(shape=(1, *input_shape[1:]))

        def call(self, x):
            return self.add([x, self.table])

    assert count(Table(), (4, 4, 2)).peak_bytes == 4 * 2 * 32


def test_peak_of_operations_between_layers():
    n = 8 * 8 * 4
    model = functional(lambda x: layers.Conv2D(4, 1)(x) + x, (8, 8, 4))
    cost = count(model)
    assert cost.peak_bytes == 4 * 3 * n
    assert [row.kind for row in cost.layers] == ["Conv2D", "Add"]


def test_peak_of_a_separable_convolution_is_that_of_its_halves():
    whole = functional(lambda x: layers.SeparableConv2D(5, 3, depth_multiplier=2)(x), (6, 6, 3))
    halves = functional(
        lambda x: layers.Conv2D(5, 1)(layers.DepthwiseConv2D(3, depth_multiplier=2)(x)), (6, 6, 3)
    )
    assert count(whole).peak_bytes == count(halves).peak_bytes == 4 * (108 + 96)
    assert count(whole).activations == count(halves).activations
    assert count(whole).macs == count(halves).macs


def test_peak_of_custom_layers_is_out_of_place():
    assert count(Scale(), (4, 4, 2)).peak_bytes == 4 * 2 * 32


def test_huge_model_is_counted_without_computing():
    model = keras.Sequential(
        [keras.Input((20_000, 20_000, 64)), layers.Conv2D(64, 3, padding="same"), layers.ReLU()]
    )
    unit = 1024 if sys.platform != "darwin" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = count(model)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    assert cost.macs == 3 * 3 * 64 * 64 * 20_000**2
    assert cost.peak_bytes == 2 * 4 * 64 * 20_000**2 > 2 * 10**11
    assert grown < 200 * 2**20


# --- what must not change ---------------------------------------------------------------------


def snapshot(model):
    from keras.src.backend.common import global_state

    return {
        "calls": (keras.Layer.__call__, keras.Operation.__call__),
        "variables": [v.numpy() for v in model.variables],
        "layers": [(id(x), x.built, x._called) for x in model._flatten_layers()],
        "trainable": [v.trainable for v in model.weights],
        "losses": len(model.losses),
        "python": random.getstate(),
        "numpy": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "keras": {
            k: dict(v) if isinstance(v, dict) else v
            for k, v in vars(global_state.GLOBAL_STATE_TRACKER).items()
        },
        "filtering": keras.config.is_traceback_filtering_enabled(),
    }


def assert_same(before, after):
    for key, value in before.items():
        if key == "variables":
            assert len(value) == len(after[key])
            assert all(np.array_equal(a, b) for a, b in zip(value, after[key], strict=True))
        else:
            assert value == after[key], key


class Noisy(layers.Layer):
    """Draws from every random state there is, also at inference, and adds a loss."""

    def __init__(self, broken=False):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)
        self.broken = broken
        self.calls_seen = self.add_weight(shape=(), trainable=False, name="calls_seen")

    def call(self, x):
        self.add_loss(ops.sum(x))
        self.calls_seen.assign_add(1.0)
        x = x + keras.random.normal(ops.shape(x), seed=self.seed)
        x = x + keras.random.normal(ops.shape(x)) + random.random()
        if self.broken:
            raise RuntimeError("broken")
        return x + np.random.rand()  # noqa: NPY002


@pytest.mark.parametrize("broken", [False, True])
def test_built_model_and_keras_stay_as_they_were(broken):
    noisy = Noisy()
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            noisy,
            layers.Dense(2, activity_regularizer="l2"),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 4, 4, 3)), np.ones((2, 4, 4, 2)), verbose=0)
    noisy.broken = broken
    before = snapshot(model)
    if broken:
        with pytest.raises(ValueError, match="RuntimeError: broken"):
            count(model)
    else:
        count(model)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("make", [lambda: Residual(3), lambda: keras.Sequential([Residual(3)])])
def test_unbuilt_model_with_a_config_stays_unbuilt(make):
    model = make()
    before = snapshot(model)
    assert count(model, (4, 4, 3)).params == 2 * 84
    assert not model.built
    assert_same(before, snapshot(model))


def test_unbuilt_model_without_a_config_is_built():
    model = Net([layers.Conv2D(2, 1), layers.BatchNormalization()])
    cost = count(model, (4, 4, 3))
    assert model.built
    assert (cost.params, cost.statistics, cost.macs) == (8 + 4, 4, 6 * 16)
    assert model(np.ones((1, 4, 4, 3))).shape == (1, 4, 4, 2)
    assert [row.layer for row in cost.layers] == [*model.blocks, model.drop]
    # Now it knows its shape.
    assert count(model).macs == cost.macs


def test_built_layer_that_was_never_called_does_not_become_called():
    layer = layers.Conv2D(2, 1)
    layer.build((None, 4, 4, 3))
    count(layer)
    assert not layer._called


def test_parts_that_stay_unbuilt_do_not_force_a_copy():
    class Spare(layers.Layer):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Conv2D(2, 1), layers.Conv2D(2, 1)

        def build(self, input_shape):
            self.used.build(input_shape)

        def call(self, x):
            return self.used(x)

    layer = Spare()
    layer.build((None, 4, 4, 3))
    cost = count(layer, (4, 4, 3))
    assert cost.layers[0].layer is layer.used
    assert cost.params == 8


def test_a_call_that_catches_errors_does_not_hide_that_a_part_is_unbuilt():
    class Tolerant(layers.Layer):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(2, 1)
            self.built = True

        def call(self, x):
            try:
                return self.conv(x)
            except Exception:
                return x

    assert count(Tolerant(), (4, 4, 3)).macs == 6 * 16


def test_sublayer_shapes_asked_for_in_a_call_are_no_calls():
    class Asks(layers.Layer):
        def __init__(self):
            super().__init__()
            self.block = Residual(3)

        def call(self, x):
            assert self.block.compute_output_spec(keras.KerasTensor(x.shape)).shape == x.shape
            return self.block(x)

    assert count(Asks(), (4, 4, 3)).macs == 2 * 81 * 16


def test_count_inside_a_call_and_beside_another_thread():
    seen = []
    other = layers.Conv2D(7, 1)
    other.build((None, 4, 4, 3))

    class Nosy(layers.Layer):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(2, 1)

        def call(self, x):
            seen.append(count(layers.Conv2D(5, 1), (4, 4, 3)).macs)
            thread = threading.Thread(target=lambda: other(np.ones((1, 4, 4, 3))))
            thread.start()
            thread.join()
            return self.conv(x)

    layer = Nosy()
    layer.conv.build((None, 4, 4, 3))
    layer.built = True
    before = keras.Layer.__call__
    cost = count(layer, (4, 4, 3))
    assert (cost.macs, len(cost.layers)) == (6 * 16, 1)
    assert set(seen) == {15 * 16}
    assert keras.Layer.__call__ is before


def test_count_inside_the_call_that_makes_a_functional_model():
    net = Net([layers.Conv2D(2, 1, name="conv")])

    class Nosy(layers.Layer):
        def build(self, input_shape):
            self.own = self.add_weight(shape=())

        def call(self, x):
            assert count(net, (4, 4, 3)).macs == 6 * 16
            return x * self.own

    class Around(layers.Layer):
        def __init__(self):
            super().__init__()
            self.nosy = Nosy()

        def call(self, x):
            return self.nosy(x)

    around = Around()
    # Keras builds the parts of such a layer while it runs on symbols, and fills them later.
    functional(around, (4, 4, 3))
    assert around.nosy.own._value is not None
    assert net.blocks[0].kernel._value is not None
    assert net.blocks[0].kernel.path == "net/conv/kernel"


def test_a_count_waits_for_that_of_another_thread():
    found, done, before = [], threading.Event(), keras.Layer.__call__

    def count_beside():
        found.append(count(layers.Conv2D(5, 1), (4, 4, 3)).macs)
        done.set()

    class Slow(layers.Layer):
        def build(self, input_shape):
            self.thread = threading.Thread(target=count_beside)

        def call(self, x):
            self.thread.start()
            assert not done.wait(0.5)
            return x

    layer = Slow()
    layer.build((None, 4, 4, 3))
    count(layer, (4, 4, 3))
    layer.thread.join()
    assert found == [15 * 16]
    assert keras.Layer.__call__ is before


# --- functions that make a model ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Conv2D(5, 3), (6, 6, 3)),
        (lambda: Residual(4), (6, 6, 4)),
        (lambda: keras.applications.MobileNetV2(weights=None, alpha=0.35), (224, 224, 3)),
        (lambda: keras.Sequential([keras.Input((9, 9, 2)), MBConv(2), layers.Dropout(0.5)]), None),
    ],
)
def test_what_is_made_costs_as_much_without_values(make, shape, monkeypatch):
    def facts(cost):
        rows = [(row.kind, row.output_shape, row.params, row.macs) for row in cost.layers]
        return rows, str(cost).splitlines()[-5:]

    def number(layer):
        return int(layer.name.rpartition("_")[2].replace("dense", "0"))  # the first has none

    filled = facts(count(make(), shape))
    before, state = number(layers.Dense(1)), random.getstate()

    def fill(*_, **__):
        raise AssertionError("a weight was filled")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Variable, "_initialize_with_initializer", fill)
        assert facts(count(make, shape)) == filled
    assert random.getstate() == state
    later = layers.Dense(1, kernel_initializer="ones")
    assert number(later) == before + 1
    assert later(np.ones((1, 3))) == 3  # what is built afterwards has values


def test_error_of_the_function_is_its_own():
    with pytest.raises(ZeroDivisionError):
        count(lambda: 1 / 0)
    with pytest.raises(ValueError, match=r"model=<function .*> made 3: expected a Keras model"):
        count(lambda: 3)
    assert not keras.src.backend.in_stateless_scope()


# --- wrong arguments --------------------------------------------------------------------------

LAYER_CALL = keras.Layer.__call__
OPEN = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 1)], name="open")
FIXED = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1)], name="fixed")


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (3, (4,), r"model=3: expected a Keras model or layer"),
        (layers.Conv2D, (4, 4, 3), r"model=<class .*Conv2D'>: expected"),
        (layers.Conv2D(2, 1, name="c"), None, r"input_shape=None: pass the shape .* of c "),
        (Net([]), None, r"input_shape=None: pass the shape"),
        (keras.Sequential([layers.Dense(2)]), None, r"input_shape=None"),
        (OPEN, None, r"input_shape=None: .* of open .*it takes \(None, None, 3\)"),
        (OPEN, (None, None, 3), r"input_shape=\(None, None, 3\): .*positive integers"),
        (OPEN, (0, 4, 3), r"input_shape=\(0, 4, 3\)"),
        (OPEN, 224, r"input_shape=224: "),
        (OPEN, (224.0, 224.0, 3), r"input_shape=\(224.0, "),
        (OPEN, (4, 4, 2), r"input_shape=\(4, 4, 2\): open takes \(None, None, 3\)"),
        (FIXED, (4, 4, 3), r"input_shape=\(4, 4, 3\): fixed takes \(8, 8, 3\)"),
        (FIXED, (8, 3), r"input_shape=\(8, 3\): fixed takes \(8, 8, 3\)"),
        (FIXED, [(8, 8, 3), (8, 8, 3)], r"fixed takes \(8, 8, 3\)"),
        (layers.Conv2D(2, 1, name="c"), (5,), r"\(5,\): c takes \(None, None, None\)"),
        (layers.Conv2D(2, 1), (1, 8, 8, 3), r"input_shape=\(1, 8, 8, 3\): "),
        (keras.Sequential([layers.Conv2D(2, 1)]), (1, 8, 8, 3), r"input_shape=\(1, 8, 8, 3\): "),
        (layers.BatchNormalization(axis=4), (5,), r"cannot be called on input_shape=\(5,\): "),
        (
            Net([layers.Conv2D(2, 1)], broken=True),
            (4, 4, 3),
            r'model="net" cannot be called on input_shape=\(4, 4, 3\): TypeError: the .* error$',
        ),
    ],
)
def test_errors_name_the_argument(model, shape, message):
    with pytest.raises(ValueError, match=message) as raised:
        count(model, shape)
    assert "\n" not in str(raised.value)
    assert keras.Layer.__call__ is LAYER_CALL


def test_open_shapes_inside_are_refused():
    class Dynamic(layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.boolean_mask(x, x > 0)

    with pytest.raises(ValueError, match=r'model="dynamic.*open shape \(None,\)'):
        count(Dynamic(), (4,))


# --- tables -----------------------------------------------------------------------------------


def test_text_table():
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            layers.Conv2D(40, 3, name="conv>1"),
            layers.BatchNormalization(),
        ],
    )
    cost = count(model)
    lines = str(cost).splitlines()
    assert lines == str(cost.table()).splitlines()
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[6:8] == ["", "parameters: 1,200 = 1,080 in kernels + 40 in biases + 80 in norm"]
    assert lines[2].split()[-2:] == ["1,120", "4,151,520"]
    assert lines[5].split() == ["total", "1,200", "4,151,520"]
    text = str(cost)
    assert "153,760 elements" in text
    assert "648.6 KiB live at once" in text
    bundle = cost._repr_mimebundle_()
    assert bundle["text/plain"] == text
    page = bundle["text/html"]
    assert "conv&gt;1" in page and "conv>1" not in page
    assert "background" not in page
    assert page.count("<tr") == 1 + 2 + 1
    assert repr(cost) == "Cost(params=1,200, macs=4,151,520, activations=153,760, " + (
        f"peak_bytes={4 * (64 * 64 * 3 + 62 * 62 * 40):,})"
    )


def test_a_counted_model_can_be_let_go_of():
    """Also what TensorFlow's graph holds of its weights when Python has let go of them."""

    def held():
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if isinstance(thing, EagerTensor)]
        return sum(tensor.dtype == tf.resource for tensor in tensors)

    before = held()
    x = keras.Input((8, 8, 4))
    model = keras.Model(x, MBConv(4)(x))
    count(model)
    assert held() > before
    del model, x
    assert held() == before
