"""The exercises of lesson 03: depthwise convolution, its cost, its layer, and the two multipliers."""

import itertools

import numpy as np

from utils.course.activations import relu, relu6
from utils.course.exercise import Case, Exercise, Part, first_problem, graded, mismatch, part, same
from utils.course.plain import plain
from utils.course.watch import made_anew, no_tensor, randomise, watch

LESSON = "03_mobilenet_v1"


def _probe_cases(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _depthwise(x, kernel, strides=1):
    """Slide one filter over each channel, without padding: (…, H, W, C) and (k, k, C)."""
    size = len(kernel)
    rows, columns = ((side - size) // strides + 1 for side in x.shape[-3:-1])
    total = 0
    for row, column in itertools.product(range(size), repeat=2):
        part_of_x = x[..., row:, column:, :][..., ::strides, ::strides, :]
        total = total + part_of_x[..., :rows, :columns, :] * kernel[row, column]
    return total


# depthwise_conv2d ---------------------------------------------------------------------------


def _depthwise_inputs(rng):
    def case(size, stride):
        # The sides differ, so that swapped axes show, and not every stride comes out even.
        sides = rng.permutation([7, 8, 9, 10])[:2] + size - 3
        channels = int(rng.integers(2, 6))
        return [
            rng.normal(size=(*sides, channels)),
            rng.normal(size=(size, size, channels)),
            stride,
        ]

    return {"plain": [case(3, 1), case(3, 1)], "strided": [case(3, 2), case(5, 1), case(2, 3)]}


def _judge_depthwise(inputs, seen):
    def cases(kind):
        for (x, w, stride), got in zip(inputs[kind], seen[kind], strict=True):
            right = _depthwise(x, w, stride)
            size = len(w)
            padded = np.pad(x, ((size // 2, (size - 1) // 2),) * 2 + ((0, 0),))
            mixed = "you add up the channels; a depthwise filter keeps them apart."
            mistakes = [
                (right.sum(axis=-1), mixed),
                (right.sum(axis=-1, keepdims=True), mixed),
                (np.broadcast_to(right.sum(axis=-1, keepdims=True), right.shape), mixed),
                (
                    _depthwise(x, w[::-1, ::-1], stride),
                    "you turn the filter by 180°; slide it as it is.",
                ),
                (
                    _depthwise(x, w.transpose(1, 0, 2), stride),
                    "rows and columns of the filter are swapped.",
                ),
                (
                    _depthwise(x, np.broadcast_to(w[..., :1], w.shape), stride),
                    "all channels get the first filter; channel c has its own, w[:, :, c].",
                ),
                (
                    _depthwise(padded, w, stride),
                    "you pad the image; here the filter stays inside it.",
                ),
                (right / w[..., 0].size, "that is a mean; add the products up."),
            ]
            if stride > 1:
                mistakes.append((_depthwise(x, w), "the filter moves `stride` pixels at a time."))
            height, width, channels = x.shape
            k = f"{size}×{size}"
            call = f"an image ({height}, {width}, {channels}), filters {k}, stride {stride}"
            yield Case(call, got, right, tuple(mistakes))

    return [
        part("3×3 filters, stride 1", 1, cases("plain")),
        part("other filters and strides", 1, cases("strided")),
    ]


# separable_cost_ratio -----------------------------------------------------------------------


def _ratio_inputs(rng):
    def case(size):
        channels, filters = (int(v) for v in rng.choice([8, 12, 24, 48, 96, 200, 500], 2, False))
        return [size, channels, filters]

    return {"three": [case(3), case(3)], "other": [case(5), case(7)]}


def _judge_ratio(inputs, seen):
    def cases(kind):
        for (k, channels, filters), got in zip(inputs[kind], seen[kind], strict=True):
            right = 1 / filters + 1 / k**2
            mistakes = (
                (1 / right, "that is full ÷ separable; the ratio is separable ÷ full."),
                (
                    1 / channels + 1 / k**2,
                    "the ratio depends on the number of filters, not on the input's channels.",
                ),
                (1 / filters + 1 / k, "a filter has k·k elements in each channel, not k."),
                (1 / k**2, "that is the pointwise step alone."),
                (1 / filters, "that is the depthwise step alone."),
                (1 / (filters * k**2), "the two steps' costs add up; you multiply."),
                (1 / (filters + k**2), "add the two fractions, 1/n_c' and 1/k²."),
                (1 / 9 + 1 / filters, "the filter is not always 3×3: use kernel_size."),
                (100 * right, "return a ratio, not a percentage."),
                (1 - right, "that is what is saved; return separable ÷ full."),
            )
            yield Case(f"separable_cost_ratio({k}, {channels}, {filters})", got, right, mistakes)

    return [
        part("3×3 filters", 0.5, cases("three")),
        part("other filters", 0.5, cases("other")),
    ]


# depthwise_separable_conv -------------------------------------------------------------------


def _layer_inputs(rng):
    def case(strides, sides):
        # Never as many filters as channels: then each weight's place is known by its size.
        channels, filters = (int(v) for v in rng.permutation([4, 5, 6, 7])[:2])
        return {
            "x": rng.normal(size=(3, *sides, channels)).astype("float32"),
            "filters": filters,
            "strides": strides,
            "seed": int(rng.integers(1_000_000)),
        }

    return [case(1, (7, 6)), case(2, (8, 6)), case(2, (7, 9))]


def _probe_layer(box, answer, inputs):
    return [_probe_layer_case(box, answer, **case) for case in inputs]


def _probe_layer_case(box, answer, x, filters, strides, seed):
    import keras

    from utils._keras_private import layers_of

    made = box.run(answer, filters, strides=strides)
    if "error" in made:
        return made
    layer = made["value"]
    built = box.run(layer, x)
    if "error" in built:
        return built
    randomised = box.run(randomise, layer, seed, gain=2)
    if "error" in randomised:
        return {"error": "an object that is no Keras layer: is your class one?"}
    norms = [each for each in layers_of(layer) if isinstance(each, keras.layers.BatchNormalization)]
    called, steps = watch(lambda: box.call(layer, x))
    return {
        **called,
        "alone": box.call(layer, x[:1]),
        "anew": made_anew(layer, steps),
        # A convolution with a group for each channel is a depthwise one.
        "depthwise": any(step.get("groups", 1) > 1 for step in steps),
        "weights": [(w.path.split("/")[-1], plain(w.numpy())) for w in layer.weights],
        "epsilons": [(norm.moving_variance.shape[0], norm.epsilon) for norm in norms if norm.built],
    }


def _judge_layer(inputs, seen):
    kernels, shapes, values = [], [], []
    for case, got in zip(inputs, seen, strict=True):
        height, width, channels = case["x"].shape[1:]
        call = f"DepthwiseSeparableConv({case['filters']}, strides={case['strides']}) on "
        call += f"({height}, {width}, {channels}): "
        if "error" in got:
            return [
                Part("the two kernels", 1, 0, f"{call}stopped with {got['error']}"),
                Part("the output's shape", 0.5, 0, "Not looked at: see above."),
                Part("the output", 1.5, 0, "Not looked at: see above."),
            ]
        problem, found = _find_kernels(case, got)
        kernels.append(problem and call + problem)
        problem = _shape_problem(case, got)
        shapes.append(problem and call + problem)
        problem = _value_problem(case, got, found)
        values.append(problem and call + problem)
    return [
        graded("the two kernels", 1, first_problem(*kernels)),
        graded("the output's shape", 0.5, first_problem(*shapes)),
        graded("the output", 1.5, first_problem(*values)),
    ]


_ANEW = "the layers are made anew at each call; make them in __init__ or build."


def _find_kernels(case, got):
    """What is wrong with the kernels, and the two of them as (3, 3, C) and (C, F)."""
    channels, filters = case["x"].shape[-1], case["filters"]
    # A dense layer on the last axis is a pointwise convolution, too.
    kernels = [value for _, value in got["weights"] if value.ndim in (2, 4)]
    shapes = [kernel.shape for kernel in kernels]
    if not kernels:
        return "it has no kernels; make the layers in __init__ or build, not in `call`.", None
    depthwise = [
        kernel.reshape(3, 3, channels)
        for kernel in kernels
        if kernel.shape in ((3, 3, channels, 1), (3, 3, 1, channels))
    ]
    pointwise = [
        kernel.reshape(channels, filters)
        for kernel in kernels
        if kernel.shape in ((1, 1, channels, filters), (channels, filters))
    ]
    if not (depthwise and pointwise) and got["anew"]:
        return _ANEW, None
    if (3, 3, channels, filters) in shapes and depthwise:
        return (
            f"the pointwise kernel is 1×1, of shape {(1, 1, channels, filters)}; "
            f"yours is {(3, 3, channels, filters)}.",
            None,
        )
    if (3, 3, channels, filters) in shapes:
        return (
            f"a kernel of shape {(3, 3, channels, filters)} is that of a full convolution; "
            f"a depthwise one has the shape {(3, 3, channels, 1)}.",
            None,
        )
    if (3, 3, filters, 1) in shapes:
        return "the depthwise convolution comes first, on the input's channels.", None
    if not depthwise:
        use = "." if got["depthwise"] else ": use keras.layers.DepthwiseConv2D."
        return (
            f"no depthwise kernel of shape {(3, 3, channels, 1)}, but {_listed(shapes)}{use}",
            None,
        )
    if not pointwise:
        return (
            f"no pointwise kernel of shape {(1, 1, channels, filters)}, but {_listed(shapes)}.",
            None,
        )
    if len(kernels) > 2:
        return f"two kernels are enough; yours are {_listed(shapes)}.", None
    return "", (depthwise[0], pointwise[0])


def _listed(shapes):
    return ", ".join(map(str, shapes))


def _output_shape(case):
    (batch, height, width, _), strides = case["x"].shape, case["strides"]
    return (batch, -(-height // strides), -(-width // strides), case["filters"])


def _shape_problem(case, got):
    y, expected = got["value"], _output_shape(case)
    if not isinstance(y, np.ndarray) or y.shape == expected:
        return no_tensor(y, "layer")
    said = f"expected shape {expected}, got {y.shape}"
    if y.shape[:3] == expected[:3]:
        return f"{said}: the pointwise convolution has `filters` filters."
    if y.shape[1:3] == case["x"].shape[1:3]:
        return f"{said}: the stride is missing."
    return f"{said}: padding 'same', and one stride?"


def _value_problem(case, got, found):
    """What is wrong with the output, given the kernels that produce it."""
    y = got["value"]
    if found is None or not isinstance(y, np.ndarray) or y.shape != _output_shape(case):
        return "The values can be compared once kernels and shape are right."
    x, strides = case["x"], case["strides"]
    channels, filters = x.shape[-1], case["filters"]
    depthwise, pointwise = found
    if got["anew"]:
        return _ANEW
    norms = [len(value) for role, value in got["weights"] if role == "moving_variance"]
    if channels not in norms:
        return "no batch norm follows the depthwise convolution."
    if filters not in norms:
        return "no batch norm follows the pointwise convolution."
    alone = got["alone"].get("value")
    if isinstance(alone, np.ndarray) and not same(alone, y[:1], 1e-3):
        return (
            "an image's output depends on the other images of its batch: "
            "leave batch norm's `training` to Keras."
        )

    def filtered(strides):
        return _depthwise(_padded(x, strides), depthwise, strides) + _bias(got, channels)

    def mixed(values):
        return values @ pointwise + _bias(got, filters)

    def first(values):
        return _norm(got, channels, values)

    def second(values):
        return _norm(got, filters, values)

    def nothing(values):
        return values

    spatial = filtered(strides)
    activations = (relu, relu6)
    for one, two in itertools.product(activations, repeat=2):
        if same(y, two(second(mixed(one(first(spatial))))), 1e-3):
            return ""
    for active in activations:
        mistakes = (
            (
                active(second(mixed(first(spatial)))),
                "the ReLU between the two convolutions is missing.",
            ),
            (second(mixed(active(first(spatial)))), "the last ReLU is missing."),
            (second(mixed(nothing(first(spatial)))), "there is no ReLU after either batch norm."),
            (
                active(second(mixed(first(active(spatial))))),
                "ReLU comes after batch norm, not before it.",
            ),
            (
                second(active(mixed(first(active(spatial))))),
                "ReLU comes after batch norm, not before it.",
            ),
            (
                second(active(mixed(active(first(spatial))))),
                "the last ReLU stands before its batch norm.",
            ),
            (
                active(second(mixed(active(first(filtered(1)))[:, ::strides, ::strides]))),
                'the 3×3 windows start elsewhere: is the padding "same", and the stride in the '
                "depthwise convolution?",
            ),
        )
        for wrong, message in mistakes:
            if same(y, wrong, 1e-3):
                return message
    return (
        "the values are not those of depthwise, norm, ReLU, pointwise, norm, ReLU, in this order."
    )


def _padded(x, strides):
    """Pad as "same" does: what does not split evenly goes to the bottom right."""
    widths = [(0, 0)]
    for side in x.shape[1:3]:
        missing = max(0, (-(-side // strides) - 1) * strides + 3 - side)
        widths.append((missing // 2, missing - missing // 2))
    return np.pad(x, (*widths, (0, 0)))


def _bias(got, size):
    return sum(value for role, value in got["weights"] if role == "bias" and value.shape == (size,))


def _norm(got, size, values):
    found = {role: value for role, value in got["weights"] if value.shape == (size,)}
    epsilon = dict(got["epsilons"]).get(size, 1e-3)
    # A norm may have been made without scale or shift.
    scale = found.get("gamma", 1) / np.sqrt(found["moving_variance"] + epsilon)
    return (values - found["moving_mean"]) * scale + found.get("beta", 0)


# scaled_block_macs --------------------------------------------------------------------------


def _scaled_inputs(rng):
    def case(alpha, rho):
        channels, filters = (32 * int(v) for v in rng.choice(np.arange(1, 9), 2, False))
        return [4 * int(rng.integers(2, 15)), channels, filters, alpha, rho]

    def factor(*of):
        return float(rng.choice(of))

    # Never ρ = ½, where a forgotten square is twice too much, as two for a multiply-add is.
    both = [case(factor(0.5, 0.75), 0.25), case(factor(0.25, 0.5), 0.75)]
    return {
        "width": [case(factor(0.25, 0.5, 0.75), 1.0) for _ in range(2)],
        "resolution": [case(1.0, factor(0.25, 0.75)) for _ in range(2)],
        "both": [both[place] for place in rng.permutation(2)],
    }


def _judge_scaled(inputs, seen):
    def cases(kind):
        for (side, m, n, alpha, rho), got in zip(inputs[kind], seen[kind], strict=True):

            def macs(a_depthwise, a_pointwise, area, side=side, m=m, n=n):
                return side**2 * area * (9 * m * a_depthwise + m * n * a_pointwise)

            square = "ρ shrinks height and width: the area shrinks by ρ²."
            mistakes = [
                (macs(1, 1, 1), "that is the block before any scaling."),
                (macs(2 * alpha, 2 * alpha**2, rho**2), "a multiply-add is one, not two."),
                (
                    macs(alpha**2, alpha**2, rho**2),
                    "the depthwise step has α·M filters and no others: it shrinks by α, not by α².",
                ),
                (
                    macs(alpha, alpha, rho**2),
                    "the pointwise kernel has αM · αN elements: it shrinks by α².",
                ),
                (macs(alpha, alpha**2, rho), square),
                (macs(alpha, alpha**2, 1), square),
                (
                    side**2 * rho**2 * 9 * m * n * alpha**2,
                    "that is a full convolution, 9·αM·αN·(ρD)².",
                ),
                (
                    side**2 * rho**2 * alpha * 9 * m,
                    "the pointwise step is missing.",
                ),
                (
                    side**2 * rho**2 * alpha**2 * m * n,
                    "the depthwise step is missing.",
                ),
                (
                    macs(1, 1, rho**2),
                    "α is missing: it multiplies the channels before and after.",
                ),
            ]
            right = int(macs(alpha, alpha**2, rho**2))
            call = f"scaled_block_macs({side}, {m}, {n}, {alpha}, {rho})"
            yield Case(call, got, right, tuple(each for each in mistakes if each[0] != right))

    return [
        part("width alone", 0.75, cases("width")),
        part("resolution alone", 0.75, cases("resolution")),
        part("both", 0.5, cases("both")),
    ]


# pick_network -------------------------------------------------------------------------------

_WIDTHS = {
    1.0: (569, 4_231_976),
    0.75: (325, 2_585_560),
    0.5: (149, 1_331_592),
    0.25: (41, 470_072),
}


def _pick_rows(rng):
    rows = []
    for (alpha, (millions, params)), side in itertools.product(
        _WIDTHS.items(), (224, 192, 160, 128)
    ):
        macs = int(1e6 * millions * (side / 224) ** 2) + int(rng.integers(100_000))
        # Accuracy follows cost only roughly, so that the largest network is not the best.
        top1 = 70 + 8 * np.log10(macs / 569e6) + 6 * np.log10(side / 224) + rng.normal(0, 1.5)
        rows.append(
            {
                "alpha": alpha,
                "resolution": side,
                "macs": macs,
                "params": params,
                "top1": round(float(top1), 3),
            }
        )
    return [rows[place] for place in rng.permutation(len(rows))]


def _best(rows, fits=lambda row: True, score=lambda row: row["top1"]):
    chosen = [row for row in rows if fits(row)]
    row = max(chosen, key=score, default=None)
    return None if row is None else (row["alpha"], row["resolution"])


def _within(max_macs, max_params):
    return lambda row: row["macs"] <= max_macs and row["params"] <= max_params


def _below(macs, params):
    return lambda row: row["macs"] < macs and row["params"] < params


def _pick_mistakes(rows, max_macs, max_params):
    """Plausible wrong choices, and what to say about them."""
    both = _within(max_macs, max_params)
    return (
        (_best(rows), "that is the best of all, but it does not keep to the budgets."),
        (
            _best(rows, lambda row: row["macs"] <= max_macs),
            "it has more than `max_params` parameters.",
        ),
        (
            _best(rows, lambda row: row["params"] <= max_params),
            "it takes more than `max_macs` multiply-adds.",
        ),
        (
            _best(rows, both, lambda row: row["macs"]),
            "that is the costliest that fits; another one that fits is more accurate.",
        ),
        (
            _best(rows, both, lambda row: -row["top1"]),
            "that is the least accurate of those that fit.",
        ),
        (
            _best(rows, both, lambda row: (row["alpha"], row["resolution"])),
            "that is the widest that fits; another one that fits is more accurate.",
        ),
        (
            _best(rows, both, lambda row: (row["resolution"], row["alpha"])),
            "that is the sharpest that fits; another one that fits is more accurate.",
        ),
        *(
            (
                _best(rows, _below(macs, params)),
                "a network that uses up a budget exactly still keeps to it: ≤, not <.",
            )
            # Both budgets, or one of them.
            for macs, params in (
                (max_macs, max_params),
                (max_macs, max_params + 1),
                (max_macs + 1, max_params),
            )
        ),
    )


def _pick_inputs(rng):
    taken = []

    def case(exact=False, itself=False):
        while True:
            rows = _pick_rows(rng)
            max_params = int(rng.choice([600_000, 1_400_000, 2_600_000]))
            max_macs = int(rng.uniform(20e6, 200e6))
            if exact:
                max_macs, max_params = (rows[0][name] for name in ("macs", "params"))
            right = _best(rows, _within(max_macs, max_params))
            # No constant answer may be right twice.
            if right in (None, *taken):
                continue
            if itself and right != (rows[0]["alpha"], rows[0]["resolution"]):
                continue
            *wrong, strict, _, _ = (m for m, _ in _pick_mistakes(rows, max_macs, max_params))
            # Each mistake must show, and be told from the others.
            told = len(set(wrong[:5])) == 5
            if exact:
                told = strict not in (None, right, *wrong) and (told or itself)
            elif right in wrong:
                told = False
            if told:
                taken.append(right)
                return [rows, max_macs, max_params]

    def impossible():
        while True:
            rows = _pick_rows(rng)
            least = min(row["macs"] for row in rows)
            budgets = [least - int(rng.integers(1, 1000)), 1_400_000]
            if _best(rows) != _best(rows, _within(1e12, budgets[1])):
                return [rows, *budgets]

    return {
        "best": [case(), case()],
        # The second time the network that uses up both budgets is the right one.
        "exact": [case(exact=True), case(exact=True, itself=True)],
        "none": [impossible()],
    }


def _judge_pick(inputs, seen):
    def cases(kind):
        for (rows, max_macs, max_params), got in zip(inputs[kind], seen[kind], strict=True):
            right = _best(rows, _within(max_macs, max_params))
            mistakes = [
                each
                for each in _pick_mistakes(rows, max_macs, max_params)
                if each[0] not in (right, None)
            ]
            mistakes += [
                (row, "return the pair (alpha, resolution), not the whole row.") for row in rows
            ]
            if right:
                mistakes.append((right[::-1], "the pair is (alpha, resolution), in this order."))
                mistakes.append((None, "it returns None, but there is a network that fits."))
            call = f"pick_network({len(rows)} rows, {max_macs:,}, {max_params:,})"
            yield Case(call, got, right, tuple(mistakes))

    nothing = mismatch(next(cases("none")))
    # None is an answer only from a function that also returns a pair where there is one.
    pairs = [got.get("value") for kind in ("best", "exact") for got in seen[kind]]
    if not nothing and not any(_is_pair(pair) for pair in pairs):
        nothing = "it returns None here, and no pair (alpha, resolution) elsewhere."
    return [
        part("the most accurate that fits", 1, cases("best")),
        part("budgets used up exactly", 0.5, cases("exact")),
        graded("nothing fits", 0.5, nothing),
    ]


def _is_pair(value):
    return isinstance(value, tuple | list | np.ndarray) and len(value) == 2


EXERCISES = [
    Exercise(
        "depthwise_conv2d",
        LESSON,
        2,
        _depthwise_inputs,
        _probe_cases,
        _judge_depthwise,
        forbids=("keras", "tensorflow", "tf", "ops", "scipy"),
    ),
    Exercise("separable_cost_ratio", LESSON, 1, _ratio_inputs, _probe_cases, _judge_ratio),
    Exercise(
        "depthwise_separable_conv",
        LESSON,
        3,
        _layer_inputs,
        _probe_layer,
        _judge_layer,
        given=("__init__",),
        twin="utils.mobilenet_v1:DepthwiseSeparableConv",
    ),
    Exercise("scaled_block_macs", LESSON, 2, _scaled_inputs, _probe_cases, _judge_scaled),
    Exercise("pick_network", LESSON, 2, _pick_inputs, _probe_cases, _judge_pick),
]
