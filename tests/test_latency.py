import time

import keras
import numpy as np
import pytest

from utils.latency import compare, predictor


def test_predictor_runs_the_model():
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.BatchNormalization()])
    model.layers[-1].moving_mean.assign([1.0, 2.0])
    inputs = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype("float32")
    got = predictor(model, batch_size=3)()
    np.testing.assert_allclose(got, model(inputs), rtol=1e-4, atol=1e-5)


def test_predictor_builds_a_layer():
    layer = keras.layers.Conv2D(3, 1)
    assert predictor(layer, (5, 6, 2))().shape == (1, 5, 6, 3)
    assert layer.built


@pytest.mark.parametrize("shape", [None, (None, 5, 2)])
def test_predictor_needs_a_shape(shape):
    with pytest.raises(ValueError, match=r"input_shape=.*: expected"):
        predictor(keras.layers.Conv2D(3, 1), shape)


def test_predictor_needs_a_batch():
    with pytest.raises(ValueError, match="batch_size=0: expected a positive integer"):
        predictor(keras.layers.Conv2D(3, 1), (5, 5, 1), batch_size=0)


def test_compare_takes_turns_and_gives_milliseconds():
    calls = []

    def function(name, seconds):
        def run():
            calls.append(name)
            time.sleep(seconds)

        return run

    times = compare({"a": function("a", 0.002), "b": function("b", 0.01)}, rounds=5, warmup=1)
    assert "".join(calls) == "ab" * 6
    for name, least in (("a", 2), ("b", 10)):
        assert least <= times[name]["low"] <= times[name]["median"] <= times[name]["high"]


def test_one_round_is_enough():
    assert compare({"a": int}, rounds=1)["a"].keys() == {"median", "low", "high"}


@pytest.mark.parametrize("options", [{"functions": {}}, {"functions": {"a": int}, "rounds": 0}])
def test_compare_refuses(options):
    with pytest.raises(ValueError, match="expected"):
        compare(**options)
