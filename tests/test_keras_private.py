"""Each name that the course uses of Keras and TensorFlow without being allowed to.

A version that takes one away fails here first, and the message says which version it is.
"""

import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from keras import layers

import utils
from utils import _keras_private as private

VERSIONS = f"Keras {keras.__version__} with TensorFlow {tf.__version__} has changed: "


def test_a_call_passes_through_the_handler_and_keras_is_put_back():
    before, seen = (layers.Layer.__call__, keras.Operation.__call__), []

    def handler(call, layer, args, kwargs):
        seen.append(layer.name)
        return call(layer, *args, **kwargs)

    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2, name="dense")(x) + 1, name="model")
    with private.calls_through(handler):
        model(tf.ones((1, 4)))
    assert seen == ["model", "dense"], VERSIONS + "Layer.__call__"
    seen.clear()
    with pytest.raises(ZeroDivisionError), private.calls_through(handler, operations=True):
        model(tf.ones((1, 4)))
        1 / 0  # noqa: B018
    assert seen[:-1] == ["model", "dense"], VERSIONS + "Operation.__call__"
    assert seen[-1].startswith("add"), VERSIONS + "Operation.__call__"
    assert (layers.Layer.__call__, keras.Operation.__call__) == before


def test_names_and_scopes_are_put_back():
    layers.Dense(1)
    number = int(layers.Dense(1).name.removeprefix("dense_"))
    with private.state_kept():
        layers.Dense(1)
        assert not keras.config.is_traceback_filtering_enabled(), VERSIONS + "traceback_filtering"
        assert private.stateless_scope() is None
        with keras.StatelessScope() as scope:
            assert private.stateless_scope() is scope, VERSIONS + "get_stateless_scope"
    assert layers.Dense(1).name == f"dense_{number + 1}", VERSIONS + "the global state"


def test_functions_run_on_symbols():
    seen = []
    private.on_symbols(
        lambda x: seen.append((type(x).__name__, x.graph)), keras.KerasTensor((1, 2))
    )
    ((kind, graph),) = seen
    assert "Tensor" in kind and kind != "KerasTensor", VERSIONS + "compute_output_spec"
    assert not graph.get_operations(), VERSIONS + "dismantle_func_graph"


def test_what_a_layer_holds():
    norm = layers.BatchNormalization(trainable=False)
    model = keras.Sequential([keras.Input((4,)), norm], name="model")
    learned = [(variable.name, learned) for variable, learned in private.own_variables(norm)]
    expected = [("gamma", True), ("beta", True), ("moving_mean", False), ("moving_variance", False)]
    assert learned == expected, VERSIONS + "_trainable_variables"
    assert private.layers_of(model)[0] is model, VERSIONS + "_flatten_layers"
    assert norm in private.layers_of(model), VERSIONS + "_flatten_layers"
    around = keras.Sequential([keras.Input((4,)), model])
    assert model in private.sublayers(around), VERSIONS + "_flatten_layers"
    assert norm not in private.sublayers(around), VERSIONS + "_flatten_layers"
    layer = layers.Dense(2)
    layer(tf.ones((1, 4)))
    assert private.called(layer) is True, VERSIONS + "_called"
    private.set_called(layer, False)
    assert private.called(layer) is False, VERSIONS + "_called"


def test_functions_in_a_graph():
    graph = tf.Graph()
    with graph.as_default():
        result = tf.function(lambda x: tf.matmul(x, x))(tf.ones((2, 2)))
        operation = result.op
    name = operation.get_attr("f").name
    inside = [each.type for each in private.function_graph(graph, name).get_operations()]
    assert "MatMul" in inside, VERSIONS + "_get_function"
    assert private.function_graph(graph, "no such function") is None


def test_private_names_stand_in_one_file():
    names = re.compile(
        r"keras\.src|tensorflow\.python|\._flatten_layers|\._called\b|\b_(non_)?trainable_variables"
        r"|__call__ = |\._get_function"
    )
    files = sorted(Path(utils.__file__).parent.rglob("*.py"))
    found = [file.name for file in files if names.search(file.read_text())]
    assert found == ["_keras_private.py"]
