"""The exercises of lesson 01: 1×1 convolutions, bottlenecks, an Inception module, mlpconv."""

import inspect

import numpy as np

from utils.course.activations import relu
from utils.course.exercise import Case, Exercise, Part, mismatch, part, same

LESSON = "01_pointwise_convolutions"


def _draw_sizes(rng, count, low, high):
    """Draw different sizes, so that swapped axes and confused arguments show."""
    return [int(size) for size in rng.choice(np.arange(low, high), count, replace=False)]


# What exercises about layers share ----------------------------------------------------------


def _randomise(weights, seed):
    """Give every weight random values, equal ones where shapes are equal; return them as arrays.

    So a judge that knows weights by their shape need not know in which order they were made.
    """
    for weight in weights:
        rng = np.random.default_rng([seed, *weight.shape])
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        weight.assign(rng.normal(0, fan_in**-0.5, weight.shape).astype("float32"))
    return [weight.numpy() for weight in weights]


def _trainable(box, layer):
    """Return the shapes of a layer's trainable weights and whether a kernel starts constant."""

    def look():
        values = [weight.numpy() for weight in layer.trainable_weights]
        return {
            "shapes": [tuple(value.shape) for value in values],
            "fixed": [tuple(weight.shape) for weight in layer.non_trainable_weights],
            "constant": any(v.size > 1 and v.ndim > 1 and np.ptp(v) == 0 for v in values),
        }

    return box.call(look)


def _probe_block(box, answer, x, arguments, seed):
    """Make a model of what `answer(inputs, *arguments)` returns and run it with random weights."""
    import keras

    def build():
        inputs = keras.Input(x.shape[1:])
        # A layer class, or a function that returns a layer, is as good as a function of x.
        layer_class = inspect.isclass(answer)
        outputs = answer(*arguments)(inputs) if layer_class else answer(inputs, *arguments)
        if isinstance(outputs, keras.layers.Layer):
            outputs = outputs(inputs)
        return keras.Model(inputs, outputs)

    made = box.run(build)
    if "error" in made:
        return made
    model = made["value"]
    weights = box.call(_randomise, model.trainable_weights, seed)
    if "error" in weights:
        return weights
    return {"weights": weights["value"], "output": box.call(model, x)}


def _split(weights):
    """Split a block's weights into kernels (k, k, C, F) and biases (F,).

    A kernel (C, F), that of a dense layer, counts as (1, 1, C, F).
    """
    kernels = [w.reshape((1, 1, *w.shape)) if w.ndim == 2 else w for w in weights if w.ndim > 1]
    return kernels, [w for w in weights if w.ndim == 1]


def _conv(x, kernel):
    """Convolve with stride 1 and padding "same": (B, H, W, C) → (B, H, W, F)."""
    size = kernel.shape[0]
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return np.einsum("bhwcij,ijcf->bhwf", windows, kernel)


def _pool(x, reduce):
    """Reduce 3×3 neighbourhoods with stride 1 and padding "same"."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return reduce(windows, axis=(-2, -1))


# pointwise_conv -----------------------------------------------------------------------------


def _conv_inputs(rng):
    def draw(height, width, channels, filters, sample, bias):
        x, kernel = sample((height, width, channels)), sample((channels, filters))
        return x, kernel, bias((filters,))

    def positive(shape):
        return rng.uniform(0.5, 1.5, shape)

    def normal(shape):
        return rng.normal(size=shape)

    return {
        # Positive numbers and no bias: here ReLU and bias change nothing.
        "sums": [draw(*_draw_sizes(rng, 4, 2, 9), positive, np.zeros) for _ in range(2)],
        "neurons": [draw(*_draw_sizes(rng, 4, 3, 9), normal, normal) for _ in range(2)]
        + [draw(4, 5, 3, 1, normal, normal)],
    }


def _probe_conv(box, answer, inputs):
    return {
        name: [box.call(answer, *[array.copy() for array in case]) for case in cases]
        for name, cases in inputs.items()
    }


def _judge_conv(inputs, seen):
    def call(x, kernel):
        return f"pointwise_conv(x, kernel, bias) with x {x.shape} and kernel {kernel.shape}"

    def sums():
        for (x, kernel, _), got in zip(inputs["sums"], seen["sums"], strict=True):
            right = x @ kernel
            mistakes = (
                (right.transpose(1, 0, 2), "rows and columns are swapped."),
                (right.transpose(2, 0, 1), "the filters belong on the last axis: (H, W, F)."),
                (right.reshape(-1, right.shape[-1]), "give the positions back their two axes."),
                (right.sum((0, 1)), "the sum runs over the channels; every position stays."),
                (right.mean((0, 1)), "the mean over all positions is taken; each one stays."),
                (right / len(kernel), "the channels are averaged: a neuron adds them up."),
            )
            yield Case(call(x, kernel), got, right, mistakes)

    def neurons():
        for (x, kernel, bias), got in zip(inputs["neurons"], seen["neurons"], strict=True):
            mistakes = (
                (x @ kernel + bias, "the ReLU is missing: negative sums become 0."),
                (relu(x @ kernel), "the bias is missing: add `bias[f]` to the sum of filter f."),
                (x @ kernel, "the bias and the ReLU are missing."),
                (relu(x @ kernel) + bias, "the bias comes before the ReLU, not after it."),
                (relu(x) @ kernel + bias, "the ReLU acts on the sum, not on the input."),
                (np.abs(x @ kernel + bias), "ReLU sets negative sums to 0, it keeps no size."),
                (relu(x @ kernel - bias), "the bias is subtracted: add it."),
                (np.minimum(x @ kernel + bias, 0), "ReLU keeps the positive sums, not the others."),
                (
                    np.clip(x @ kernel + bias, 0, 1),
                    "ReLU has no upper end: only negatives are cut.",
                ),
                (1 / (1 + np.exp(-x @ kernel - bias)), "that is a sigmoid; ReLU is max(z, 0)."),
            )
            yield Case(call(x, kernel), got, relu(x @ kernel + bias), mistakes)

    return [
        part("weighted sum over the channels", 0.5, sums()),
        part("bias, then ReLU", 0.5, neurons()),
    ]


# pointwise_layer ----------------------------------------------------------------------------


def _pointwise_inputs(rng):
    height, width, channels, filters = _draw_sizes(rng, 4, 4, 11)
    return {
        "x": rng.normal(size=(2, height, width, channels)).astype("float32"),
        "larger": rng.normal(size=(1, height + 3, width + 1, channels)).astype("float32"),
        "filters": filters,
        "kernel": rng.normal(size=(channels, filters)).astype("float32"),
        "bias": rng.normal(size=filters).astype("float32"),
    }


def _probe_pointwise(box, answer, inputs):
    import keras

    x, kernel, bias = inputs["x"], inputs["kernel"], inputs["bias"]

    def assign(layer):
        # In whatever order and shape the kernel and the bias were made.
        for weight in layer.trainable_weights:
            plain = tuple(size for size in weight.shape if size > 1)
            for value in (kernel, kernel.T, bias):
                if plain == value.shape:
                    weight.assign(value.reshape(weight.shape))

    made = box.run(answer, inputs["filters"])
    if "error" in made or not isinstance(made["value"], keras.layers.Layer):
        return {"made": made if "error" in made else {"error": "no Keras layer"}}
    layer = made["value"]
    fresh = box.call(layer, x)
    if "error" in fresh:
        return {"made": fresh}
    seen = {"made": {"value": True}, "weights": _trainable(box, layer)}
    box.run(assign, layer)
    seen["linear"] = box.call(layer, x)
    seen["larger"] = box.call(layer, inputs["larger"])

    def with_relu():
        other = answer(inputs["filters"], activation="relu")
        other(x)
        assign(other)
        return other(x)

    seen["relu"] = box.call(with_relu)
    return seen


def _judge_pointwise(inputs, seen):
    names = ("kernel and bias", "one dense layer at every position", "activation")
    points = (0.5, 1.0, 0.5)
    filters = inputs["filters"]
    if "error" in seen["made"]:
        problem = seen["made"]["error"]
        message = f"PointwiseConv2D({filters})(x) stopped with {problem}"
        if problem == "no Keras layer":
            message = (
                "PointwiseConv2D must be a class: `class PointwiseConv2D(keras.layers.Layer)`."
            )
        return [Part(n, p, 0, message) for n, p in zip(names, points, strict=True)]
    message, has_bias = _pointwise_weights(inputs, seen["weights"]["value"])
    weights = Part(names[0], points[0], 0 if message else points[0], message)
    kernel = inputs["kernel"]
    # A missing bias costs its points above, and only there.
    bias = inputs["bias"] if has_bias else 0 * inputs["bias"]

    def linear():
        for name in ("linear", "larger"):
            x = inputs["x" if name == "linear" else "larger"]
            right = x @ kernel + bias
            mistakes = (
                (x @ kernel, "the bias is made and never added: add it in `call`."),
                (x @ kernel - bias, "the bias is subtracted: add it."),
                (relu(right), "with `activation=None` there is no ReLU: negative sums stay."),
                (right.transpose(0, 2, 1, 3), "rows and columns are swapped."),
                (right.mean((1, 2)), "the mean over all positions is taken; each one stays."),
            )
            call = f"PointwiseConv2D({filters})(x) with x {x.shape} and the weights set"
            yield Case(call, seen[name], right, mistakes)

    x = inputs["x"]
    mistakes = (
        (x @ kernel + bias, "the activation is not applied: `self.activation(…)` in `call`."),
        (relu(x @ kernel) + bias, "the activation comes last, after the bias."),
        (relu(x) @ kernel + bias, "the activation acts on the sum, not on the input."),
    )
    call = f'PointwiseConv2D({filters}, activation="relu")(x) with the weights set'
    activated = Case(call, seen["relu"], relu(x @ kernel + bias), mistakes)
    return [weights, part(names[1], points[1], linear()), part(names[2], points[2], [activated])]


def _pointwise_weights(inputs, weights):
    """Return what is wrong with a pointwise layer's weights, and whether there is a bias."""
    _, height, width, channels = inputs["x"].shape
    filters = inputs["filters"]
    shapes = weights["shapes"]
    plain = [tuple(size for size in shape if size > 1) for shape in shapes]
    kernels = [shape for shape in plain if shape in ((channels, filters), (filters, channels))]
    has_bias = (filters,) in plain
    here = f"for {channels} channels and {filters} filters"
    if not shapes:
        return "No trainable weights: call `self.add_weight` in `build`, twice.", has_bias
    if any(height in shape or width in shape for shape in plain):
        return (
            "A weight has the picture's height or width: one neuron serves all positions.",
            has_bias,
        )
    if not kernels:
        fixed = [tuple(size for size in shape if size > 1) for shape in weights["fixed"]]
        if (channels, filters) in fixed:
            return "The kernel does not train: make it without `trainable=False`.", has_bias
        got = " and ".join(map(str, shapes))
        return f"Expected a kernel of shape ({channels}, {filters}) {here}, got {got}.", has_bias
    if not has_bias and (channels,) in plain:
        return (
            f"The bias has one number a channel; each of the {filters} filters needs one.",
            has_bias,
        )
    if not has_bias:
        got = [s for s, bare in zip(shapes, plain, strict=True) if bare not in kernels]
        if got:
            return f"Expected a bias of shape ({filters},) {here}, got {got[0]}.", has_bias
        return f"The bias is missing {here}: one number a filter, shape ({filters},).", has_bias
    if len(shapes) > 2:
        return f"{len(shapes)} weights; a kernel and a bias are enough.", has_bias
    if weights["constant"]:
        return "All filters start with the same numbers, and would learn the same.", has_bias
    return "", has_bias


# bottleneck_macs ----------------------------------------------------------------------------


def _macs_inputs(rng):
    def draw(reduce):
        height, width, channels = _draw_sizes(rng, 3, 20, 60)
        kernel = int(rng.choice([3, 5, 7]))
        return height, width, channels, reduce, kernel, int(rng.integers(60, 90))

    return [draw(None) for _ in range(2)] + [draw(int(rng.integers(8, 19))) for _ in range(3)]


def _call_each(box, answer, inputs):
    return [box.call(answer, *arguments) for arguments in inputs]


def _judge_macs(inputs, seen):
    def cases(through):
        for (h, w, c, r, k, f), got in zip(inputs, seen, strict=True):
            if (r is not None) != through:
                continue
            call = f"bottleneck_macs({h}, {w}, {c}, {r}, {k}, {f})"
            area, positions = k * k, h * w
            direct = positions * area * c * f
            if not through:
                mistakes = (
                    (positions * k * c * f, "the kernel is k wide and k high: use k twice."),
                    (area * c * f, "that is the work at one position: use height and width."),
                    (positions * area * f, "without a bottleneck each filter reads all channels."),
                    (h * h * area * c * f, "height and width differ: use both."),
                    (2 * direct, "one multiply-add counts once, not twice."),
                )
                yield Case(call, got, direct, mistakes)
                continue
            squeeze, convolve = c * r, area * r * f
            mistakes = (
                (positions * convolve, "the 1×1 convolution is not free: add its multiply-adds."),
                (positions * squeeze, "that is the 1×1 convolution alone; the k×k one follows it."),
                (direct, "that is the direct way: the k×k filters now read `reduce` channels."),
                (positions * squeeze + direct, "after the 1×1 the filters read `reduce` channels."),
                (positions * (squeeze + k * r * f), "the kernel is k wide and k high."),
                (
                    positions * squeeze * convolve,
                    "two layers, one after the other: add, not multiply.",
                ),
                (squeeze + convolve, "that is the work at one position: use height and width."),
                (
                    squeeze + positions * convolve,
                    "the 1×1 convolution works at every position too.",
                ),
                (h * h * (squeeze + convolve), "height and width differ: use both."),
                (2 * positions * (squeeze + convolve), "one multiply-add counts once, not twice."),
                (positions * area * (c * r + r * f), "the squeezing convolution is 1×1, not k×k."),
                (
                    positions * (area * c * r + r * f),
                    "the 1×1 convolution comes first, and the k×k one reads `reduce` channels.",
                ),
                (
                    positions * (squeeze + convolve + f),
                    "a bias is an addition without a multiplication, so it does not count.",
                ),
            )
            yield Case(call, got, positions * (squeeze + convolve), mistakes)

    return [part("directly", 0.5, cases(False)), part("through a bottleneck", 0.5, cases(True))]


# inception_module ---------------------------------------------------------------------------


def _inception_inputs(rng):
    # All counts differ, so that the shape of a weight tells where it belongs.
    channels, *row = _draw_sizes(rng, 7, 2, 12)
    x = rng.normal(size=(2, 7, 6, channels)).astype("float32")
    return {"x": x, "row": tuple(row), "seed": int(rng.integers(1 << 30))}


def _probe_inception(box, answer, inputs):
    return _probe_block(box, answer, inputs["x"], inputs["row"], inputs["seed"])


def _judge_inception(inputs, seen):
    points = {
        "joined along the channels, in order": 0.5,
        "1×1 branch": 0.5,
        "3×3 branch": 0.75,
        "5×5 branch": 0.75,
        "pooling branch": 0.5,
    }
    x, row = inputs["x"], inputs["row"]
    f1, _, f3, _, f5, pooled = row
    call = f"inception_module(x, {', '.join(map(str, row))})"
    failed = seen.get("error") or seen["output"].get("error")
    if failed:
        message = f"{call} stopped with {failed}"
        if "concat" in failed.lower():
            message += (
                " Branches can only be joined along the last axis, and if all keep H and W: "
                "padding 'same' everywhere, stride 1 in the pooling too."
            )
        return [Part(name, worth, 0, message) for name, worth in points.items()]
    output = seen["output"]["value"]
    shape = (*x.shape[:3], f1 + f3 + f5 + pooled)
    starts = dict(zip(list(points)[1:], (0, f1, f1 + f3, f1 + f3 + f5), strict=True))
    found, parts = {}, []
    for name, branch in _branches(x, row, seen["weights"]).items():
        found[name], message = _find_branch(output, *branch)
        parts.append(Part(name, points[name], 0 if message else points[name], message))
    join = ""
    if not isinstance(output, np.ndarray) or output.shape != shape:
        got = output.shape if isinstance(output, np.ndarray) else type(output).__name__
        join = f"{call} with x {x.shape}: expected shape {shape}, got {got}."
    elif any(place not in (None, starts[name]) for name, place in found.items()):
        join = "The branches stand in another order than 1×1, 3×3, 5×5, pooling."
    name, worth = next(iter(points.items()))
    return [Part(name, worth, 0 if join else worth, join), *parts]


def _branches(x, row, weights):
    """Return for each branch what it should give, what mistakes give, and what may be absent."""
    f1, r3, f3, r5, f5, pooled = row
    channels = x.shape[-1]
    kernels, biases = _split(weights)
    kernel_of = {kernel.shape: kernel for kernel in kernels}
    bias_of = {bias.shape[0]: bias for bias in biases}

    def conv(values, size, filters):
        kernel, bias = kernel_of.get((size, size, values.shape[-1], filters)), bias_of.get(filters)
        return None if kernel is None or bias is None else _conv(values, kernel) + bias

    def chain(*steps):
        """Apply (function or (size, filters)) one after the other; None if a weight is absent."""
        values = x
        for step in steps:
            values = step(values) if callable(step) else conv(values, *step)
            if values is None:
                return None
        return values

    def bottlenecked(size, reduce, filters):
        right = chain((1, reduce), relu, (size, filters), relu)
        mistakes = [
            (chain((1, reduce), (size, filters), relu), "the bottleneck lacks its ReLU."),
            (chain((1, reduce), relu, (size, filters)), "the last convolution lacks its ReLU."),
            (chain((1, reduce), (size, filters)), "both convolutions lack their ReLU."),
        ]
        absent = (
            f"expected kernels (1, 1, {channels}, {reduce}) and ({size}, {size}, {reduce}, {filters}), "
            "each with a bias."
        )
        if (size, size, channels, filters) in kernel_of:
            absent = f"no bottleneck: the {size}×{size} filters read all channels."
        return right, mistakes, absent

    def largest(values):
        return _pool(values, np.nanmax)

    def mean(values):
        return _pool(values, np.nanmean)

    pooling = chain(largest, (1, pooled), relu)
    pool_mistakes = [
        (chain(largest, (1, pooled)), "the projection lacks its ReLU."),
        (chain((1, pooled), relu, largest), "the projection comes after the pooling."),
        (chain(mean, (1, pooled), relu), "max pooling, not the mean."),
        (chain((1, pooled), relu), "the 3×3 max pooling before the projection is missing."),
        (largest(x), f"no projection: all {channels} channels are handed on, not {pooled}."),
    ]
    absent = "expected a kernel (1, 1, {}, {}) and a bias."
    return {
        "1×1 branch": (
            chain((1, f1), relu),
            [(chain((1, f1)), "the ReLU is missing.")],
            absent.format(channels, f1),
        ),
        "3×3 branch": bottlenecked(3, r3, f3),
        "5×5 branch": bottlenecked(5, r5, f5),
        "pooling branch": (pooling, pool_mistakes, absent.format(channels, pooled)),
    }


def _find_branch(output, right, mistakes, absent):
    """Return where a branch starts among the output's channels (or None) and what is wrong."""

    def place(values):
        if values is None or not isinstance(output, np.ndarray) or output.ndim != 4:
            return None
        size = values.shape[-1]
        starts = range(output.shape[-1] - size + 1)
        return next((s for s in starts if same(output[..., s : s + size], values)), None)

    start = place(right)
    if start is not None:
        return start, ""
    for wrong, message in mistakes:
        start = place(wrong)
        if start is not None:
            return start, message[0].upper() + message[1:]
    if right is None:
        return None, absent[0].upper() + absent[1:]
    return None, "Its numbers are nowhere in the output: compare its layers with the picture."


# mlpconv ------------------------------------------------------------------------------------


def _mlpconv_macs(height, width, channels, filters, inner):
    return height * width * (9 * channels * inner + inner * inner + inner * filters)


def _mlpconv_inputs(rng):
    cases = []
    for exact in (False, True, False):
        height, width = _draw_sizes(rng, 2, 8, 16)
        channels, filters = int(rng.integers(3, 20)), int(rng.choice([5, 10, 12, 20, 30]))
        inner = 8 * int(rng.integers(2, 9))
        fits, breaks = (
            _mlpconv_macs(height, width, channels, filters, size) for size in (inner, inner + 8)
        )
        # One budget is met exactly: "at most" includes it.
        budget = fits if exact else int(rng.integers(fits + 1, breaks))
        x = rng.normal(size=(1, height, width, channels)).astype("float32")
        cases.append(
            {"x": x, "filters": filters, "max_macs": budget, "seed": int(rng.integers(1 << 30))}
        )
    return cases


def _probe_mlpconv(box, answer, inputs):
    return [
        _probe_block(box, answer, case["x"], (case["filters"], case["max_macs"]), case["seed"])
        for case in inputs
    ]


def _judge_mlpconv(inputs, seen):
    names = (
        "3×3, 1×1 and 1×1 convolution",
        "ReLU after each",
        "within the budget",
        "budget used up",
    )
    points = (1.0, 1.0, 0.5, 0.5)
    problems = [""] * 4
    for case, got in zip(inputs, seen, strict=True):
        new = _mlpconv_problems(case, got)
        problems = [old or text for old, text in zip(problems, new, strict=True)]
    return [
        Part(name, worth, 0 if problem else worth, problem)
        for name, worth, problem in zip(names, points, problems, strict=True)
    ]


def _mlpconv_problems(case, got):
    """Return what is wrong with layers, output, budget, and the use of the budget."""
    _, height, width, channels = case["x"].shape
    call = f"mlpconv(x, {case['filters']}, {case['max_macs']}) with x {case['x'].shape}"
    failed = got.get("error") or got["output"].get("error")
    if failed:
        return [f"{call} stopped with {failed}"] * 4
    structure, inner, expected, mistakes = _mlpconv_parts(case, got["weights"])
    if structure:
        return [f"{call}: {structure}", *["The layers have to be right first."] * 3]
    output = mismatch(Case(call, got["output"], expected, mistakes))
    macs, more = (
        _mlpconv_macs(height, width, channels, case["filters"], size) for size in (inner, inner + 8)
    )
    over, under = "", ""
    if macs > case["max_macs"]:
        spent = f"{macs:,} multiply-adds, {macs - case['max_macs']:,} too many"
        over = f"{call}: your w = {inner} needs {spent}."
    elif inner % 8:
        under = f"{call}: your w = {inner} is no multiple of 8."
    elif more <= case["max_macs"]:
        under = f"{call}: your w = {inner}, but {inner + 8} would fit too ({more:,} multiply-adds)."
    return ["", output, over, over or under]


def _mlpconv_parts(case, weights):
    """Return what is wrong with the layers, the inner width, the right output, and mistakes."""
    x, filters = case["x"], case["filters"]
    channels = x.shape[-1]
    kernels, biases = _split(weights)
    shapes = [kernel.shape for kernel in kernels]
    none = (None, None, ())
    if len(kernels) != 3:
        return f"{len(kernels)} kernels; an mlpconv block has three convolutions.", *none
    sides = sorted(shape[0] for shape in shapes)
    if sides != [1, 1, 3]:
        sides = ", ".join(map(str, sides))
        return f"kernels of the sides {sides}; expected one of 3×3 and two of 1×1.", *none
    inner = next((shape[-1] for shape in shapes if shape[:3] == (3, 3, channels)), 0)
    wanted = [(3, 3, channels, inner), (1, 1, inner, inner), (1, 1, inner, filters)]
    if sorted(shapes) != sorted(wanted):
        got = ", ".join(map(str, shapes))
        return (
            f"kernels {got}; expected (3, 3, {channels}, w), (1, 1, w, w), (1, 1, w, {filters}) "
            "with one width w.",
            *none,
        )
    if sorted(bias.size for bias in biases) != sorted([inner, inner, filters]):
        return "each of the three convolutions has a bias, one number a filter.", *none
    kernel_of = {kernel.shape: kernel for kernel in kernels}
    bias_of = {bias.size: bias for bias in biases}

    def run(*active):
        values = x
        for shape, activated in zip(wanted, active, strict=True):
            values = _conv(values, kernel_of[shape]) + bias_of[shape[-1]]
            values = relu(values) if activated else values
        return values

    mistakes = (
        (run(1, 1, 0), "the last convolution lacks its ReLU."),
        (run(1, 0, 0), "only the first convolution has a ReLU."),
        (run(1, 0, 1), "the middle convolution lacks its ReLU."),
        (run(0, 1, 1), "the 3×3 convolution lacks its ReLU."),
        (run(0, 0, 1), "only the last convolution has a ReLU."),
        (run(0, 0, 0), "there is no ReLU: three linear layers in a row are one."),
    )
    return "", inner, run(1, 1, 1), mistakes


EXERCISES = [
    Exercise(
        "pointwise_conv",
        LESSON,
        1,
        _conv_inputs,
        _probe_conv,
        _judge_conv,
        forbids=("keras", "tf", "tensorflow", "Conv2D", "Dense"),
    ),
    Exercise(
        "pointwise_layer",
        LESSON,
        2,
        _pointwise_inputs,
        _probe_pointwise,
        _judge_pointwise,
        forbids=("Conv1D", "Conv2D", "Dense", "EinsumDense", "SeparableConv2D", "conv", "conv2d"),
        given=("__init__",),
        twin="utils.pointwise:PointwiseConv2D",
    ),
    Exercise("bottleneck_macs", LESSON, 1, _macs_inputs, _call_each, _judge_macs),
    Exercise(
        "inception_module",
        LESSON,
        3,
        _inception_inputs,
        _probe_inception,
        _judge_inception,
        twin="utils.pointwise:InceptionModule",
    ),
    Exercise(
        "mlpconv",
        LESSON,
        3,
        _mlpconv_inputs,
        _probe_mlpconv,
        _judge_mlpconv,
        allows=("count",),
        twin="utils.pointwise:MLPConv",
    ),
]
