"""What the tests of the layers and of the model families share."""

import inspect
import math
from dataclasses import replace

import keras
import numpy as np

from utils import published
from utils.cost import count


def images(*shape, seed=0):
    """Normal random images of shape (B, H, W, C)."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(model, seed=0):
    """Set every weight so that swapping, scaling or forgetting any of them shows in the output.

    He-scaled kernels, gamma and variance from U(.5, 1.5), all else from N(0, .2).
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        role, shape = weight.path.split("/")[-1], weight.shape
        if role.endswith("kernel"):
            fan_in = math.prod(shape[:2] if role == "depthwise_kernel" else shape[:-1])
            value = rng.standard_normal(shape, "float32") * math.sqrt(2 / fan_in)
        elif role in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, 0.2, shape)
        weight.assign(value)
    return model


def applications(name, size, **options):
    """A model of keras.applications without downloaded weights, small enough to run in a test."""
    options = {"classes": 10, "classifier_activation": None, **options}
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **options)


def counted(build, *arguments, **options):
    """What the network `build(*arguments, **options)` costs, for tests that keep the answer.

    The layers, thousands of objects in a large network, are left out of the count.
    """
    cost = count(lambda: build(*arguments, **options))
    return replace(cost, layers=tuple(replace(row, layer=None) for row in cost.layers))


def set_epsilon(model, epsilon):
    """Give every batch norm in the model this epsilon."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = epsilon


def difference(ours, theirs, inputs):
    """Largest difference between two models' outputs, in standard deviations of the second's."""
    expected = keras.ops.convert_to_numpy(theirs(inputs))
    actual = keras.ops.convert_to_numpy(ours(inputs))
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / expected.std()


def assert_same_function(ours, theirs, inputs, wrong_epsilon=1e-3):
    """Same logits to 1e-4 of their deviation, and a control that shows the bound to be sharp."""
    assert difference(ours, theirs, inputs) <= 1e-4
    set_epsilon(ours, wrong_epsilon)
    assert difference(ours, theirs, inputs) > 1e-2


def assert_round_trip(layer, input_shape, folder):
    """Save and load `layer` in a model of its own: same config, same outputs, all of it built.

    The config must have every argument of `__init__`, and a fresh layer must be built by `build`.
    """
    config = layer.get_config()
    for cls in type(layer).__mro__:
        if cls.__module__.startswith("utils."):
            arguments = inspect.signature(cls.__init__).parameters.values()
            named = {each.name for each in arguments if each.kind != each.VAR_KEYWORD}
            assert named - {"self"} <= set(config)

    twin = type(layer).from_config(config)
    twin.build((None, *input_shape))
    built = [weight.path for weight in twin.weights]
    for part in twin._flatten_layers():
        assert part.built
        assert part.dtype_policy.name == layer.dtype_policy.name
    twin(images(2, *input_shape))
    assert [weight.path for weight in twin.weights] == built

    model = keras.Sequential([keras.Input(input_shape), layer])
    loaded = assert_same_after_loading(model, folder)
    assert loaded.layers[-1].get_config() == config


def assert_same_after_loading(model, folder):
    """Save the model with random weights and load it: the outputs are equal to the last bit."""
    randomise(model)
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    inputs = images(2, *model.input_shape[1:])
    expected = keras.ops.convert_to_numpy(model(inputs))
    assert expected.std() > 0
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(inputs)), expected)
    return loaded


def published_rows(family, model=None):
    """The published rows of a family, or of one of its models, that print parameters or MACs."""
    rows = [row for row in published.rows(family) if model in (None, row["model"])]
    rows = [row for row in rows if row["params"] or row["macs"]]
    assert rows
    return rows


def row_id(row):
    """What pytest calls the test of a published row."""
    return f"{row['variant']}-{row['resolution']}-{row['source'].split(',')[0]}".replace(" ", "_")


def assert_published(row, cost):
    """The counts agree with the row, but for those that the row itself says do not."""
    for column, value in published.computed(row, cost).items():
        expected = column not in row.get("not_reproduced", ())
        assert published.agrees(row[column], value) == expected, (row, column, value)
    assert row.get("note") or not row.get("not_reproduced")
