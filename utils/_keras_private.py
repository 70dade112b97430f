"""All that the course needs of Keras and TensorFlow beyond their public names, in one place.

`tests/test_keras_private.py` tries each of them and names the version that took it away.
"""

import contextlib
import copy
import functools
import random

import keras
import numpy as np
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.layers.layer import CallContext

# What Keras knows about a call that is under way; `state_kept` starts without it.
_SCOPES = ("name_scope_stack", "stateless_scope", "uninitialized_variables")


@contextlib.contextmanager
def calls_through(handler, operations=False):
    """Let every call of a Keras layer pass through a function.

    Args:
        handler: `handler(call, layer, args, kwargs)` → what the call returns; `call(layer, *args,
            **kwargs)` does what Keras would do.
        operations: Whether the operations of functional models pass through it, too.

    >>> names = []
    >>> def handler(call, layer, args, kwargs):
    ...     names.append(layer.name)
    ...     return call(layer, *args, **kwargs)
    >>> with calls_through(handler):
    ...     _ = keras.layers.ReLU(name="relu")(np.ones(2))
    >>> names
    ['relu']
    """

    def patch(cls, is_wanted):
        original = cls.__call__

        @functools.wraps(original)
        def observed(layer, *args, **kwargs):
            if not is_wanted(layer):
                return original(layer, *args, **kwargs)
            return handler(original, layer, args, kwargs)

        cls.__call__ = observed
        return cls, original

    patched = [patch(keras.Layer, lambda layer: True)]
    if operations:
        # A layer's call goes on to the operation's call, which is not a second one.
        patched.append(patch(keras.Operation, lambda each: not isinstance(each, keras.Layer)))
    try:
        yield
    finally:
        for cls, original in patched:
            cls.__call__ = original


@contextlib.contextmanager
def state_kept():
    """Put back what calling and copying models moves: names, scopes, settings, random states."""
    state = vars(global_state.GLOBAL_STATE_TRACKER)
    kept = dict(state)
    python_random, numpy_random = random.getstate(), np.random.get_state()  # noqa: NPY002
    for name in _SCOPES:
        state.pop(name, None)
    state.update({k: copy.copy(v) for k, v in state.items() if isinstance(v, dict | list)})
    # Inside a call of nobody, a layer does not take its call for a new one and drop its losses.
    state["current_call_ctx"] = CallContext(entry_layer=None)
    # Unfiltered, an error keeps its own type and message.
    state["traceback_filtering"] = False
    try:
        yield
    finally:
        state.clear()
        state.update(kept)
        random.setstate(python_random)
        np.random.set_state(numpy_random)  # noqa: NPY002


def on_symbols(function, inputs):
    """Run a function on symbols instead of numbers, and let go of what it read and returned."""
    graphs = []

    def run(x):
        graphs.extend(t.graph for t in keras.tree.flatten(x)[:1] if hasattr(t, "graph"))
        function(x)

    try:
        backend.compute_output_spec(run, inputs)
    finally:
        for graph in graphs:
            # TensorFlow's graph refers to itself, and so would hold the model's weights for good.
            from tensorflow.python.framework.func_graph import dismantle_func_graph

            dismantle_func_graph(graph)


def stateless_scope():
    """The scope in which the running code reads and writes variables, or None."""
    return backend.get_stateless_scope()


def own_variables(layer):
    """The variables that a layer has made or stored itself, each with whether it is learned."""
    # Freezing leaves a variable in the list of the trainable ones.
    return [(variable, True) for variable in layer._trainable_variables] + [
        (variable, False) for variable in layer._non_trainable_variables
    ]


def layers_of(layer):
    """A layer and all layers in it, parents before children."""
    return list(layer._flatten_layers())


def sublayers(layer):
    """The layers that a layer holds itself."""
    return layer._flatten_layers(include_self=False, recursive=False)


def called(layer):
    """Whether a layer has been called."""
    return layer._called


def set_called(layer, value):
    """Set whether a layer has been called."""
    layer._called = value


def function_graph(graph, name):
    """The graph of a function that an operation of `graph` calls by its name."""
    while graph is not None:
        function = graph._get_function(name)
        if function is not None:
            return function.graph
        graph = getattr(graph, "outer_graph", None)
    return None
