"""The exercises of lesson 00: output sizes, three costs, a first layer, balanced accuracy."""

import math

import numpy as np

from utils.course.exercise import Case, Exercise, Part, mismatch, part

LESSON = "00_start_here"


def _call_each(box, answer, inputs):
    return [box.call(answer, *arguments) for arguments in inputs]


def _typed(name, arguments):
    return f"{name}({', '.join(str(a) for a in arguments)})"


# conv_output_size ---------------------------------------------------------------------------


def _size(n, k, s, padding):
    return math.ceil(n / s) if padding == "same" else (n - k) // s + 1


def _size_inputs(rng):
    plain, strided = [], []
    for padding in ("valid", "same"):
        for kernel in (1, 3, int(rng.choice([5, 7]))):
            size = int(rng.integers(20, 200))
            plain.append((size, kernel, 1, padding))
        for stride in (2, 3):
            # Where rounding matters, and where each mistake gives a number of its own.
            size, kernel = stride * int(rng.integers(10, 60)), 2 * stride + 1
            strided += [(size, kernel, stride, padding), (size + 1, kernel, stride, padding)]
    return plain + strided


def _judge_size(inputs, seen):
    def cases(wanted_padding, strided):
        for (n, k, s, padding), got in zip(inputs, seen, strict=True):
            if padding == wanted_padding and (s > 1) == strided:
                right = _size(n, k, s, padding)
                other = _size(n, k, s, "valid" if padding == "same" else "same")
                mistakes = [
                    (other, f"that is the size for the other padding; here it is {padding!r}."),
                    (right**2, "that is all positions of the image; count those of one row."),
                ]
                if padding == "valid":
                    mistakes += [
                        ((n - k) / s + 1, "a size is whole: the filter cannot stop half-way."),
                        ((n - k) // s, "the first position counts too: add 1 after the division."),
                        (-(-(n - k) // s) + 1, "a last, partial step does not fit: round down."),
                        (n - k + 1, "the filter moves by the stride, not by one pixel."),
                    ]
                else:
                    mistakes += [
                        (n / s, "a size is whole: the filter cannot stop half-way."),
                        (n // s, "with 'same' padding a last, partial step counts: round up."),
                        (n // s + 1, "n // s + 1 is one too many where the stride divides n."),
                        (n, "with 'same' padding the stride still shrinks the output."),
                        (
                            (n + k) // s + 1,
                            "the border is ⌊k/2⌋ pixels wide on each side, not k; or think of "
                            "⌈n / s⌉.",
                        ),
                        (
                            (n - 2 * (k // 2) - k) // s + 1,
                            "padding makes the image larger: add the border, do not subtract it.",
                        ),
                    ]
                yield Case(
                    f'conv_output_size({n}, {k}, {s}, "{padding}")', got, right, tuple(mistakes)
                )

    return [
        part("padding 'valid', stride 1", 0.5, cases("valid", False)),
        part("padding 'valid', larger strides", 0.5, cases("valid", True)),
        part("padding 'same', stride 1", 0.5, cases("same", False)),
        part("padding 'same', larger strides", 0.5, cases("same", True)),
    ]


# conv_params --------------------------------------------------------------------------------


def _params_inputs(rng):
    # A 1×1 filter hides a forgotten k, so the kernels of each pair differ.
    kernels = [int(k) for _ in range(2) for k in rng.permutation([1, 3, 5])[:2]]
    return [
        (kernel, 2 * int(rng.integers(4, 20)), int(rng.integers(41, 90)), bias)
        for kernel, bias in zip(kernels, (True, True, False, False), strict=True)
    ]


def _judge_params(inputs, seen):
    def cases(wanted_bias):
        for (k, c, f, bias), got in zip(inputs, seen, strict=True):
            if bias == wanted_bias:
                mistakes = (
                    (k * c * f + f * bias, "a filter is k wide and k high: use k twice."),
                    (k * k * f + f * bias, "each filter spans all input channels."),
                    (k * k * c + bias, "that is one filter; there are as many as output channels."),
                    ((k * k * c + c) * f, "one bias a filter, not one an input channel."),
                    (k * k * c * f + c, "one bias a filter, not one an input channel."),
                    (k * k * c * f, "with a bias, each filter has one more parameter."),
                    (k * k * c * f + 1, "there is one bias for each filter."),
                    (k * k * c * f + f, "without a bias, only the kernels count."),
                    ((k * k * c + bias) * c * f, "the input channels are multiplied in twice."),
                    (k * k * (c + 1) * f, "a filter has one bias, not one a kernel element."),
                    (k * k + c + f + bias, "multiply the sizes, do not add them."),
                )
                yield Case(
                    f"conv_params({k}, {c}, {f}, {bias})", got, k * k * c * f + f * bias, mistakes
                )

    return [part("kernels", 0.5, cases(False)), part("kernels and biases", 0.5, cases(True))]


# conv_macs ----------------------------------------------------------------------------------


def _macs_inputs(rng):
    kernels = [int(k) for pair in ((3, 5), (5, 7)) for k in rng.permutation(pair)]
    return [
        (
            # One more than a multiple of the stride, so that rounding matters.
            stride * int(rng.integers(10, 13)) + 1,
            stride * int(rng.integers(24, 30)) + 1,
            kernel,
            2 * int(rng.integers(4, 10)),
            int(rng.integers(21, 40)),
            stride,
        )
        for kernel, stride in zip(kernels, (1, 1, 2, 3), strict=True)
    ]


def _judge_macs(inputs, seen):
    def cases(strided):
        for (h, w, k, c, f, s), got in zip(inputs, seen, strict=True):
            if (s > 1) == strided:
                rows, columns = math.ceil(h / s), math.ceil(w / s)
                mistakes = (
                    (
                        h * w * k * k * c * f,
                        "the filter stops at every s-th position: count outputs.",
                    ),
                    (
                        rows * columns * (k * k * c * f + f),
                        "a bias is an addition, not a multiply-add.",
                    ),
                    (rows * columns * k * k * f, "at each position a filter reads all channels."),
                    (
                        rows * columns * k * k * c,
                        "that is one filter; every filter does this work.",
                    ),
                    (rows * rows * k * k * c * f, "height and width differ: use both."),
                    (
                        ((h - k) // s + 1) * ((w - k) // s + 1) * k * k * c * f,
                        "those are the positions with 'valid' padding; here it is 'same'.",
                    ),
                    (rows * columns * k * c * f, "a filter is k wide and k high: use k twice."),
                    (
                        (h // s) * (w // s) * k * k * c * f,
                        "with 'same' padding the output size rounds up.",
                    ),
                    (
                        2 * rows * columns * k * k * c * f,
                        "one multiply-add counts once, not twice.",
                    ),
                    (k * k * c * f, "that is the work at one position; the filter visits many."),
                )
                right = rows * columns * k * k * c * f
                yield Case(_typed("conv_macs", (h, w, k, c, f, s)), got, right, mistakes)

    return [part("stride 1", 1, cases(False)), part("strides 2 and 3", 1, cases(True))]


# scale_layer --------------------------------------------------------------------------------


def _scale_inputs(rng):
    channels = int(rng.integers(3, 9))
    return {
        "x": rng.normal(size=(2, 4, 5, channels)).astype("float32"),
        "scale": rng.uniform(0.5, 2, channels).astype("float32"),
        "vector": rng.normal(size=(3, channels)).astype("float32"),
    }


def _probe_scale(box, answer, inputs):
    made = box.run(answer)
    if "error" in made:
        return {"made": made}
    layer = made["value"]
    fresh = box.call(layer, inputs["x"])
    weights = box.run(lambda: [w.numpy().shape for w in layer.trainable_weights])
    seen = {
        "made": {"value": type(layer).__name__},
        "fresh": fresh,
        "weights": {"value": [tuple(s) for s in weights.get("value", [])]},
        "is_layer": _is_layer(layer),
    }

    def scaled():
        layer.set_weights([inputs["scale"]])
        return layer(inputs["x"])

    seen["scaled"] = box.call(scaled)

    def on_vectors():
        other = answer()
        return other(inputs["vector"])

    seen["vectors"] = box.call(on_vectors)
    return seen


def _is_layer(layer):
    import keras

    return isinstance(layer, keras.layers.Layer)


def _judge_scale(inputs, seen):
    names = ("a trainable weight for each channel", "starts as the identity", "scales each channel")
    points = (1.0, 0.5, 0.5)
    if "error" in seen["made"]:
        return [
            Part(n, p, 0, f"Scale() stopped with {seen['made']['error']}")
            for n, p in zip(names, points, strict=True)
        ]
    channels = inputs["x"].shape[-1]
    x = inputs["x"]
    if not seen["is_layer"]:
        message = "Scale must be a Keras layer: `class Scale(keras.layers.Layer)`."
        return [Part(n, p, 0, message) for n, p in zip(names, points, strict=True)]
    shapes = seen["weights"]["value"]
    if "error" in seen["fresh"]:
        message = f"Scale()(x) with x of shape {x.shape} stopped with {seen['fresh']['error']}"
        return [Part(n, p, 0, message) for n, p in zip(names, points, strict=True)]
    if shapes == [(channels,)]:
        weight = Part(names[0], 1, 1)
    elif not shapes:
        weight = Part(names[0], 1, 0, "No trainable weight: call `self.add_weight` in `build`.")
    elif shapes in ([()], [(1,)]):
        weight = Part(names[0], 1, 0, "One weight for all channels; each channel needs its own.")
    elif len(shapes) > 1:
        weight = Part(names[0], 1, 0, f"{len(shapes)} weights; `Scale` multiplies, so it has one.")
    else:
        weight = Part(
            names[0],
            1,
            0,
            f"Expected one weight of shape ({channels},), got {shapes[0]}: one number a channel.",
        )
    start = part(
        names[1],
        0.5,
        [
            Case(
                "a fresh Scale()(x)",
                seen["fresh"],
                x,
                ((0 * x, "the weight starts at 0 and wipes out x: start at 1 (`ones`)."),),
            ),
            Case("a fresh Scale() on vectors (B, C)", seen["vectors"], inputs["vector"]),
        ],
    )
    if shapes != [(channels,)]:
        message = "Not looked at: get the weight right first."
        return [weight, start, Part(names[2], 0.5, 0, message)]
    scale = inputs["scale"]
    message = mismatch(
        Case(
            "Scale()(x) after its weight was set",
            seen["scaled"],
            x * scale,
            (
                (x, "the output does not depend on the weight: multiply by it in `call`."),
                (x + scale, "the weight is added; a scale multiplies."),
            ),
        )
    )
    return [weight, start, Part(names[2], 0.5, 0 if message else 0.5, message)]


# balanced_accuracy --------------------------------------------------------------------------


def _balanced_inputs(rng):
    cases = []
    for share in (0.1, 0.31, 0.8):
        true = (rng.random(200) < share).astype(int)
        true[:2] = 0, 1
        wrong = rng.random(200) < rng.uniform(0.1, 0.4)
        cases.append((true, np.where(wrong, 1 - true, true)))
    true = cases[1][0]
    cases.append((true, np.zeros_like(true)))
    return cases


def _judge_balanced(inputs, seen):
    def cases():
        for index, ((true, predicted), got) in enumerate(zip(inputs, seen, strict=True)):
            recall = np.mean(predicted[true == 1] == 1)
            specificity = np.mean(predicted[true == 0] == 0)
            call = "balanced_accuracy(labels, predictions)"
            if index == len(inputs) - 1:
                call += " with 'functional' always predicted"
            right = float((recall + specificity) / 2)
            precisions = [
                np.mean(true[predicted == c] == c) for c in (0, 1) if (predicted == c).any()
            ]
            mistakes = (
                (
                    float(np.mean(true == predicted)),
                    "that is plain accuracy: the classes are not weighted.",
                ),
                (float(recall), "that is the recall of class 1 alone; average both classes."),
                (float(specificity), "that is the recall of class 0 alone; average both classes."),
                (
                    float(np.mean(precisions)),
                    "that divides by what was predicted; recall divides by what is true.",
                ),
                (float(recall + specificity), "that is the sum of both recalls; take their mean."),
                (
                    float(np.sqrt(recall * specificity)),
                    "that is the geometric mean: add the recalls and divide by 2.",
                ),
                (
                    float(2 * recall / (1 + np.mean(predicted) / np.mean(true))),
                    "that is the F1 score, which leaves out how many functional cells are found.",
                ),
            )
            yield Case(call, got, right, mistakes)

    return [part("mean of both recalls", 1, cases())]


# first_layer --------------------------------------------------------------------------------


def _layer_inputs(rng):
    # Both budgets bind in turn, and one of the three sides is odd.
    return [
        (96, int(rng.integers(34, 60)) * 10_000, 500_000),
        (161, 9_000_000, int(rng.integers(43, 90)) * 10_000),
        (300, int(rng.integers(30, 60)) * 100_000, int(rng.integers(80, 120)) * 10_000),
    ]


def _judge_layer(inputs, seen):
    names = ("fits both budgets", "uses the budgets up")
    problems = ["", ""]
    for (side, macs, memory), got in zip(inputs, seen, strict=True):
        over, under = _layer_problems(side, macs, memory, got)
        call = f"first_layer({side}, {macs}, {memory}): "
        problems[0] = problems[0] or (over and call + over)
        # What breaks a budget or a rule says nothing about using it up.
        problems[1] = problems[1] or ((over or under) and call + (over or under))
    return [Part(n, 1, 0 if p else 1, p) for n, p in zip(names, problems, strict=True)]


def _layer_problems(side, max_macs, max_bytes, got):
    if "error" in got:
        return f"stopped with {got['error']}", ""
    answer = got["value"]
    if not (
        isinstance(answer, tuple | list)
        and len(answer) == 3
        and all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in answer)
    ):
        return "return three positive whole numbers: filters, kernel size, stride.", ""
    filters, kernel, stride = answer
    if kernel < 3:
        return "a 1×1 or 2×2 filter sees no edges: take a kernel of at least 3.", ""
    if stride >= kernel:
        return f"stride {stride} is too large for a {kernel}×{kernel} filter: stay below it.", ""
    if filters % 8:
        return f"{filters} filters; the task asks for a multiple of 8.", ""
    macs, memory = _layer_cost(side, filters, kernel, stride)
    if macs > max_macs:
        return f"{macs:,} multiply-adds exceed {max_macs:,}: fewer filters or a larger stride.", ""
    if memory > max_bytes:
        return f"an output of {memory:,} bytes exceeds {max_bytes:,}: the stride shrinks it.", ""
    more = _layer_cost(side, filters + 8, kernel, stride)
    if more[0] <= max_macs and more[1] <= max_bytes:
        return "", f"{filters + 8} filters would still fit with this kernel and stride."
    return "", ""


def _layer_cost(side, filters, kernel, stride):
    out = math.ceil(side / stride)
    return out * out * kernel * kernel * filters, out * out * filters * 4


EXERCISES = [
    Exercise("balanced_accuracy", LESSON, 1, _balanced_inputs, _call_each, _judge_balanced),
    Exercise("conv_output_size", LESSON, 2, _size_inputs, _call_each, _judge_size),
    Exercise("conv_params", LESSON, 1, _params_inputs, _call_each, _judge_params),
    Exercise("conv_macs", LESSON, 2, _macs_inputs, _call_each, _judge_macs),
    Exercise("scale_layer", LESSON, 2, _scale_inputs, _probe_scale, _judge_scale),
    Exercise("first_layer", LESSON, 2, _layer_inputs, _call_each, _judge_layer),
]
