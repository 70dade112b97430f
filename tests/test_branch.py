"""A block's branch, computed again from its layers, is what Keras computed."""

import keras
import numpy as np
import pytest
from keras import layers

from utils.course import branch
from utils.course.activations import hard_sigmoid, relu, relu6, sigmoid
from utils.course.sandbox import Sandbox

X = np.random.default_rng(0).normal(size=(2, 9, 6, 8)).astype("float32")
WANTED = [
    ("expand", 1, 1, 24),
    ("depthwise", 5, 2, 24),
    ("reduce", 1, 1, 3),
    ("restore", 1, 1, 24),
    ("project", 1, 1, 10),
]
ROLES = [role for role, *_ in WANTED]


def network(*, norm=True, gate="sigmoid"):
    x = keras.Input(X.shape[1:])
    y = layers.BatchNormalization()(layers.Conv2D(24, 1)(x))
    y = layers.DepthwiseConv2D(5, 2, padding="same")(layers.ReLU()(y))
    y = layers.BatchNormalization()(y) if norm else y
    y = layers.ReLU()(y)
    gates = layers.Dense(3, "relu")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.Multiply()([y, layers.Conv2D(24, 1, activation=gate)(gates)])
    return keras.Model(x, layers.BatchNormalization()(layers.Conv2D(10, 1)(y)))


def look(make=network):
    return branch.look(Sandbox(), make, {"x": X, "seed": 1})


@pytest.fixture(scope="module")
def seen():
    return look()


def forward(seen, **options):
    active = dict.fromkeys(("expand", "depthwise"), options.pop("activation", relu))
    groups = branch.with_norms(seen["steps"])
    return branch.forward(X, groups, ROLES, active, **options)


def test_layers_and_sizes(seen):
    groups = branch.with_norms(seen["steps"])
    assert branch.roles_of(groups) == [
        ("conv", 1, 1, 24),
        ("depthwise", 5, 2, 24),
        *WANTED[2:4],
        ("conv", 1, 1, 10),
    ]
    assert branch.order_problem(groups, WANTED) == ""
    assert branch.batch_problem(seen) == ""


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [
        (0, ("expand", 1, 1, 25), "the expansion is 1×1 and writes 24 channels; expected 1×1"),
        (1, ("depthwise", 3, 2, 24), "the depthwise convolution is 5×5"),
        (1, ("depthwise", 5, 1, 24), "the depthwise convolution has stride 2; expected 1"),
        (4, ("depthwise", 5, 1, 24), "expected 1×1 to 24, depthwise 5×5 with stride 2, squeeze"),
    ],
)
def test_order_problem(seen, place, change, problem):
    wanted = [*WANTED]
    wanted[place] = change
    assert problem in branch.order_problem(branch.with_norms(seen["steps"]), wanted)


def test_norm_that_is_missing():
    groups = branch.with_norms(look(lambda: network(norm=False))["steps"])
    problem = "no batch norm follows the depthwise convolution."
    assert branch.order_problem(groups, WANTED) == problem


def test_forward_is_what_keras_computes(seen):
    right = forward(seen, gate=sigmoid)
    np.testing.assert_allclose(right, seen["value"], atol=1e-4)
    for options in (
        {"gate": hard_sigmoid},
        {"gate": sigmoid, "activation": relu6},
        {"gate": sigmoid, "inner": lambda z: z - 1},
        {"gate": sigmoid, "early": True, "activation": lambda z: z**2},
    ):
        assert np.abs(forward(seen, **options) - seen["value"]).max() > 1e-3


def test_value_problems_name_the_variant(seen):
    variants = [
        (forward(seen, gate=hard_sigmoid), ""),
        (forward(seen, gate=sigmoid), "a soft gate."),
    ]
    assert branch.value_problems(X, seen["value"], variants, adds=False) == ["a soft gate.", ""]
    assert branch.value_problems(X, relu(seen["value"]), variants, adds=False) == [
        "the projection stays linear: no activation after it.",
        "",
    ]
    cut = branch.value_problems(X, seen["value"][:, :1], variants, adds=False)
    assert cut == 2 * ["expected shape (2, 5, 3, 10), got (2, 1, 3, 10)."]
    unknown = branch.value_problems(X, seen["value"] * 2, variants, adds=False)
    assert unknown == 2 * [
        "the layers have the right sizes, but the values do not follow from them."
    ]


def test_shortcuts():
    y = X * 2
    add = "stride 1 and as many channels as before: add the input."
    for value, adds, problem in (
        (y + X, True, ""),
        (y, True, add),
        (y, False, ""),
        (y + X, False, "here the input is not added."),
        (relu(y + X), True, "no ReLU follows the addition: the narrow ends are linear."),
    ):
        assert branch.value_problems(X, value, [(y, "")], adds) == ["", problem]
