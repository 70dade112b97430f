"""What the probes of exercises with Keras layers share: they watch a layer while it is called."""

import math

import numpy as np

from utils.course.exercise import same, say
from utils.course.plain import plain


def step(layer, inputs, outputs) -> dict | None:
    """Describe what a convolution, batch norm or dense layer did, as plain data.

    Args:
        layer: the layer that was called.
        inputs: what it was called on, as plain data.
        outputs: what it returned, as plain data.

    Returns:
        `kind` ("conv", "depthwise", "norm" or "dense"), `layer` (a number that tells layers apart),
        `inputs` and `outputs`; `weights` (elements of the kernel) and `activation` if it has a
        kernel; `kernel` (its longer side), `kernel_size`, `dilation_rate`, `strides`, `filters` and
        `groups` if it slides one. None for any other layer.

    >>> import keras
    >>> conv = keras.layers.Conv2D(4, 3, groups=2)
    >>> conv.build((None, 8, 8, 6))
    >>> seen = step(conv, None, None)
    >>> seen["kind"], seen["kernel"], seen["filters"], seen["groups"], seen["weights"]
    ('conv', 3, 4, 2, 108)
    """
    import keras

    kinds = {
        "conv": keras.layers.Conv2D,
        "depthwise": keras.layers.DepthwiseConv2D,
        "norm": keras.layers.BatchNormalization,
        "dense": keras.layers.Dense,
    }
    kind = next((name for name, kind in kinds.items() if isinstance(layer, kind)), None)
    if kind is None:
        return None
    seen = {"kind": kind, "layer": id(layer), "inputs": inputs, "outputs": outputs}
    if kind == "norm":
        return seen
    shape = tuple(layer.kernel.shape)
    # An activation may be a function or a layer.
    activation = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    seen |= {"weights": math.prod(shape), "activation": activation}
    if kind == "dense":
        return seen
    seen |= {"kernel": max(layer.kernel_size), "kernel_size": tuple(layer.kernel_size)}
    seen |= {"dilation_rate": max(layer.dilation_rate), "strides": max(layer.strides)}
    if kind == "depthwise":
        return seen | {"filters": shape[2] * shape[3], "groups": shape[2]}
    return seen | {"filters": shape[3], "groups": layer.groups}


def watch(call, describe=step) -> tuple:
    """Run `call`; return its value and a description of each layer that it called, in order.

    Args:
        call: a function without arguments.
        describe: `describe(layer, inputs, outputs)` → a description, or None to leave it out.

    >>> import keras
    >>> dense = keras.layers.Dense(2)
    >>> value, steps = watch(lambda: dense(np.ones((1, 3))))
    >>> [(step["kind"], step["inputs"].shape, step["outputs"].shape) for step in steps]
    [('dense', (1, 3), (1, 2))]
    """
    from utils._keras_private import calls_through

    seen = []

    def record(call_layer, layer, args, kwargs):
        outputs = call_layer(layer, *args, **kwargs)
        if args:
            seen.append(describe(layer, plain(args[0]), plain(outputs)))
        return outputs

    with calls_through(record):
        value = call()
    return value, [each for each in seen if each is not None]


def randomise(layer, seed: int, gain: float = 1.0):
    """Give each weight of a layer or model random values that keep signals at a moderate size.

    Args:
        layer: a built layer or model.
        seed: fixes the values.
        gain: standard deviation of what a kernel makes of standard normal inputs.

    >>> import keras
    >>> norm = keras.layers.BatchNormalization()
    >>> norm.build((None, 3))
    >>> randomise(norm, seed=0)
    >>> bool(norm.gamma.numpy().min() >= 0.5)
    True
    """
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        role, shape = weight.path.split("/")[-1], tuple(weight.shape)
        if role in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) > 1:
            # A filter of a depthwise convolution reads one channel.
            reads = shape[:2] if shape[-1] == 1 else shape[:-1]
            weight.assign(rng.normal(0, gain / math.sqrt(math.prod(reads)), shape))
        else:
            weight.assign(rng.normal(0, 0.5, shape))


def observe(box, make, x, seed: int, *, gain: float = 1.0, describe=step) -> dict:
    """Make a learner's layer, build it on `x`, give it random weights, and watch a call.

    Args:
        box: the `Sandbox` that runs the learner's code.
        make: a function without arguments that returns the layer or model.
        x: (B, …), at least two examples.
        seed: fixes the weights.
        gain: as in `randomise`.
        describe: as in `watch`.

    Returns:
        `value` (the output), `steps` (as `watch` returns them), `alone` (the output for the first
        example alone), `weights` (those that train) and `anew` (whether a step's `layer` is none
        that the built layer owns, so that it is made again at each call); or `error`, a sentence,
        with the `steps` until then.

    >>> import keras
    >>> from utils.course.sandbox import Sandbox
    >>> seen = observe(Sandbox(), lambda: keras.layers.Dense(2), np.ones((4, 3)), seed=0)
    >>> seen["value"].shape, seen["alone"].shape, [w.shape for w in seen["weights"]], seen["anew"]
    ((4, 2), (1, 2), [(3, 2), (2,)], False)
    """
    import keras

    made = box.run(make)
    if "error" in made:
        return {"error": made["error"], "steps": []}
    layer = made["value"]
    if not isinstance(layer, keras.layers.Layer):
        what = "nothing returned" if layer is None else f"no Keras layer but {say(plain(layer))}"
        return {"error": what, "steps": []}
    built, steps = watch(lambda: box.run(layer, x), describe)
    if "error" in built:
        return {"error": built["error"], "steps": steps}
    randomised = box.run(randomise, layer, seed, gain)
    if "error" in randomised:
        return {"error": randomised["error"], "steps": steps}
    seen, steps = watch(lambda: box.call(layer, x), describe)
    if "error" in seen:
        return {"error": seen["error"], "steps": steps}
    weights = [plain(weight) for weight in layer.trainable_weights]
    alone = box.call(layer, x[:1]).get("value")
    seen |= {"steps": steps, "alone": alone, "weights": weights}
    return seen | {"anew": made_anew(layer, steps)}


def convolutions(steps: list) -> list:
    """Return those of the steps that are convolutions, depthwise ones too.

    >>> convolutions([{"kind": "conv"}, {"kind": "norm"}, {"kind": "depthwise"}])
    [{'kind': 'conv'}, {'kind': 'depthwise'}]
    """
    return [each for each in steps if each["kind"] in ("conv", "depthwise")]


def norm_after(steps: list, array: np.ndarray) -> dict | None:
    """Return the step of the batch norm that was called on `array`, or None.

    >>> norm_after([{"kind": "norm", "inputs": np.ones(2), "layer": 7}], np.ones(2))["layer"]
    7
    """
    norms = (each for each in steps if each["kind"] == "norm")
    return next((norm for norm in norms if same(norm["inputs"], array)), None)


def made_anew(layer, steps: list) -> bool:
    """Tell whether one of the steps is of a layer that `layer` does not own.

    Args:
        layer: a built layer or model.
        steps: as `watch` returns them; those without a `layer` are passed over.

    >>> import keras
    >>> made_anew(keras.Sequential(), [{"layer": 0}]), made_anew(keras.Sequential(), [{}])
    (True, False)
    """
    from utils._keras_private import layers_of

    owned = {id(each) for each in layers_of(layer)}
    return any(each["layer"] not in owned for each in steps if "layer" in each)


def no_tensor(value, what: str) -> str:
    """Return why the output of a layer, as plain data, is no tensor, or "" if it is one.

    >>> no_tensor(None, "layer")
    'the layer returned no tensor: does `call` end in `return`?'
    >>> no_tensor((np.ones(2), np.ones(2)), "layer")
    '`call` returned 2 tensors; return one.'
    """
    if isinstance(value, np.ndarray):
        return ""
    if value is None:
        return f"the {what} returned no tensor: does `call` end in `return`?"
    if isinstance(value, tuple | list) and all(isinstance(each, np.ndarray) for each in value):
        if len(value) == 1:
            return f"`call` returned a {type(value).__name__}; return the tensor in it."
        return f"`call` returned {len(value)} tensors; return one."
    return f"the {what} returned {say(value)}; expected a tensor."
