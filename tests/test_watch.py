"""Probes see what a learner's layers do, and leave Keras as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from utils.course.sandbox import Sandbox
from utils.course.watch import (
    convolutions,
    no_tensor,
    norm_after,
    observe,
    randomise,
    step,
    watch,
)

X = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype("float32")


def network():
    inputs = keras.Input(X.shape[1:])
    y = layers.Conv2D(6, (1, 3), strides=2, groups=2, activation="relu")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y)
    y = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(y))
    return keras.Model(inputs, layers.Dense(3)(y))


def test_steps_in_order():
    model = network()
    value, (conv, depthwise, norm, dense) = watch(lambda: model(X))
    assert [each["kind"] for each in (conv, depthwise, norm, dense)] == [
        "conv",
        "depthwise",
        "norm",
        "dense",
    ]
    assert np.array_equal(conv["inputs"], X)
    assert np.array_equal(depthwise["inputs"], conv["outputs"])
    assert np.array_equal(dense["outputs"], value)
    told = {"kernel": 3, "strides": 2, "filters": 6, "groups": 2, "weights": 3 * 2 * 6}
    told |= {"kernel_size": (1, 3), "dilation_rate": 1}
    assert told.items() <= conv.items()
    assert conv["activation"] == "relu"
    told = {"kernel": 3, "strides": 1, "filters": 12, "groups": 6, "weights": 9 * 6 * 2}
    assert told.items() <= depthwise.items()
    assert dense["weights"] == 12 * 3
    assert "weights" not in norm
    assert step(layers.ReLU(), X, X) is None


def test_an_activation_may_be_a_layer():
    conv = layers.Conv2D(2, 1, activation=layers.ReLU())
    _, (seen, *_) = watch(lambda: layers.Activation("linear")(conv(X)))
    assert seen["activation"] == "ReLU"


def test_a_shared_layer_is_told_from_two():
    one, two = layers.BatchNormalization(), layers.BatchNormalization()
    _, steps = watch(lambda: two(one(one(X))))
    first, again, other = (each["layer"] for each in steps)
    assert first == again != other


def test_keras_is_left_as_it_was():
    original = layers.Layer.__call__
    with pytest.raises(ValueError, match="no"):
        watch(lambda: (_ for _ in ()).throw(ValueError("no")))
    assert layers.Layer.__call__ is original


def test_random_weights_keep_the_size_of_a_signal():
    model = keras.Sequential([keras.Input((32, 32, 16)), layers.DepthwiseConv2D(5)])
    model.add(layers.Conv2D(64, 3, use_bias=False))
    randomise(model, seed=0, gain=2.0)
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 16)).astype("float32")
    _, steps = watch(lambda: model(x))
    for each in steps:
        size = each["outputs"].std() / each["inputs"].std()
        assert 1.6 < size < 2.4, each["kind"]
    before = model.get_weights()
    randomise(model, seed=0, gain=2.0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_statistics_stay_possible():
    norm = layers.BatchNormalization()
    norm.build((None, 500))
    randomise(norm, seed=0)
    for weight in (norm.gamma, norm.moving_variance):
        assert 0.5 <= float(np.min(weight)) < float(np.max(weight)) <= 1.5
    assert np.min(norm.beta) < 0 < np.max(norm.beta)


def test_an_observed_layer():
    seen = observe(Sandbox(), network, X, seed=3)
    assert seen["value"].shape == (2, 3)
    assert np.allclose(seen["alone"], seen["value"][:1], atol=1e-5)
    assert len(seen["steps"]) == 4
    assert sum(weight.size for weight in seen["weights"]) == 3 * 2 * 6 + 6 + 108 + 12 + 24 + 39
    assert not seen["anew"]


@pytest.mark.parametrize("anew", [False, True])
def test_layers_made_anew_at_each_call(anew):
    class Norm(layers.Layer):
        def build(self, shape):
            self.norm = layers.BatchNormalization()

        def call(self, x):
            norm = layers.BatchNormalization() if anew else self.norm
            return layers.ReLU()(norm(x))

    seen = observe(Sandbox(), Norm, X, seed=0)
    assert seen["anew"] is anew
    # A judge may describe steps of its own, without the layer.
    assert not observe(Sandbox(), Norm, X, seed=0, describe=lambda *_: {"kind": "any"})["anew"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (X, ""),
        (None, "the unit returned no tensor"),
        ((X, X), "`call` returned 2 tensors; return one."),
        ([X, X, X], "`call` returned 3 tensors; return one."),
        ((X,), "`call` returned a tuple; return the tensor in it."),
        (7, "the unit returned 7; expected a tensor."),
        ([X, 7], "expected a tensor"),
    ],
)
def test_what_is_no_tensor(value, said):
    assert said in no_tensor(value, "unit")
    assert bool(no_tensor(value, "unit")) is bool(said)


@pytest.mark.parametrize(
    ("make", "said", "steps"),
    [
        (lambda: 1 / 0, "ZeroDivisionError", 0),
        (lambda: None, "nothing returned", 0),
        (lambda: 7, "no Keras layer but 7", 0),
        (lambda: layers.Conv2D(4, 9), "negative", 0),
        (lambda: _Stops(), "ValueError: too wide", 1),
    ],
)
def test_what_stops_is_said(make, said, steps):
    seen = observe(Sandbox(), make, X, seed=0)
    assert said in seen["error"]
    assert len(seen["steps"]) == steps


class _Stops(layers.Layer):
    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x):
        self.norm(x)
        raise ValueError("too wide")


def test_steps_are_found_by_kind_and_by_what_they_read():
    array = np.arange(3.0)
    norms = [{"kind": "norm", "inputs": shift + array} for shift in (1, 0)]
    steps = [{"kind": "depthwise"}, norms[0], {"kind": "dense"}, {"kind": "conv"}, norms[1]]
    assert convolutions(steps) == [{"kind": "depthwise"}, {"kind": "conv"}]
    assert norm_after(steps, array) is norms[1]
    assert norm_after(steps, array - 1) is None
