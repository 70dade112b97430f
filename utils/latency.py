"""How long a network takes: measured side by side, because machines are noisy.

A single time says little: the first calls compile, other programs run, the processor changes its
clock. So everything that is to be compared runs in turns, round after round, and what counts is
the median, best as a ratio within one run.
"""

import statistics
import time

import numpy as np

from utils.blocks import check_positive


def predictor(model, input_shape=None, batch_size: int = 1):
    """Return a function without arguments that runs a model once and waits for its result.

    The model is traced into one graph for this one shape, as for a device, and fed the same random
    images each time.

    Args:
        model: a Keras model or layer with one input.
        input_shape: `(H, W, C)`; None takes the model's own.
        batch_size: images a call.

    Raises:
        ValueError: if no input shape is known, or `batch_size` is not a positive integer.

    >>> import keras
    >>> run = predictor(keras.layers.Conv2D(4, 3), input_shape=(8, 8, 3))
    >>> run().shape
    (1, 6, 6, 4)
    """
    import tensorflow as tf

    check_positive(batch_size=batch_size)
    shape = input_shape or tuple(getattr(model, "input_shape", (None,))[1:])
    if not shape or None in shape:
        raise ValueError(f"input_shape={input_shape!r}: expected (H, W, C), all of them known")
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(batch_size, *shape)).astype("float32"))
    if hasattr(model, "build") and not model.built:
        model.build(images.shape)
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(images)
    return lambda: traced(images).numpy()


def compare(functions: dict, rounds: int = 30, warmup: int = 3) -> dict:
    """Time functions in turns and return what each takes in milliseconds.

    Args:
        functions: name → function without arguments, such as a `predictor`.
        rounds: how often each is timed.
        warmup: untimed calls of each before that.

    Returns:
        name → `{"median": …, "low": …, "high": …}`, milliseconds; half of the calls took from
        `low` to `high`.

    Raises:
        ValueError: if `functions` is empty or `rounds` is below 1.

    >>> times = compare({"short": lambda: sum(range(10)), "long": lambda: sum(range(100_000))})
    >>> times["long"]["median"] > times["short"]["median"]
    True
    """
    check_positive(rounds=rounds)
    if not functions:
        raise ValueError("functions={}: expected at least one")
    for function in functions.values():
        for _ in range(warmup):
            function()
    taken = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: _quartiles(times) for name, times in taken.items()}


def _quartiles(times):
    low, median, high = (
        statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else 3 * times
    )
    return {"median": median, "low": low, "high": high}
