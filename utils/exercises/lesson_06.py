"""The exercises of lesson 06: hard-swish, squeeze-and-excite, two blocks, and the Pareto set."""

import numpy as np

from utils.course.exercise import Case, Exercise, first_problem, graded, part, same, say
from utils.course.plain import plain
from utils.course.watch import observe

LESSON = "06_mobilenet_v3_v4"


def _relu(x):
    return np.maximum(x, 0)


def _relu6(x):
    return np.clip(x, 0, 6)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _hard_sigmoid(x):
    return _relu6(x + 3) / 6


def _hard_swish(x):
    return x * _hard_sigmoid(x)


# hard_swish ---------------------------------------------------------------------------------


def _swish_inputs(rng):
    outside = np.concatenate([rng.uniform(-9, -3.2, 8), rng.uniform(3.2, 9, 8)])
    return {
        "ends": rng.permutation(outside).reshape(4, 4),
        "middle": rng.uniform(-2.9, 2.9, (3, 5)),
    }


def _probe_swish(box, answer, inputs):
    return {kind: box.call(answer, x) for kind, x in inputs.items()}


def _judge_swish(inputs, seen):
    def case(kind):
        x = inputs[kind]
        mistakes = (
            (x * _sigmoid(x), "that is swish itself, with the exponential that h-swish avoids."),
            (_hard_sigmoid(x), "that is the gate, ReLU6(x + 3) / 6, alone; multiply x by it."),
            (x * _relu6(x) / 6, "the gate is ReLU6(x + 3) / 6: the 3 is missing."),
            (x * _relu6(x + 3), "the gate must end at 1, so divide ReLU6 by 6."),
            (x * _relu(x + 3) / 6, "ReLU6 ends at 6: without that the gate grows beyond 1."),
            (x * (x + 3) / 6, "that is x · (x + 3) / 6 everywhere; the gate ends at 0 and at 1."),
            (
                x * np.clip(0.2 * x + 0.5, 0, 1),
                "the gate rises with the slope 1/5; here it is 1/6, from −3 to 3.",
            ),
            (_relu6(x), "that is ReLU6; h-swish is x · ReLU6(x + 3) / 6."),
            (_relu(x), "that is ReLU; h-swish is x · ReLU6(x + 3) / 6."),
        )
        return [Case("hard_swish(x)", seen[kind], _hard_swish(x), mistakes)]

    return [
        part("below −3 and above 3", 0.5, case("ends")),
        part("between −3 and 3", 0.5, case("middle")),
    ]


# What the exercises with layers share -------------------------------------------------------


def _step(layer, _, outputs):
    """Describe a layer with weights by what its output can be computed again from."""
    import keras

    if not isinstance(outputs, np.ndarray):
        return None
    if isinstance(layer, keras.layers.BatchNormalization):
        named = ("gamma", "beta", "moving_mean", "moving_variance")
        weights = {name: plain(getattr(layer, name)) for name in named}
        return {"kind": "norm", "epsilon": float(layer.epsilon), **weights}
    kind = "conv"
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kind, kernel = "depthwise", plain(layer.kernel)
    elif isinstance(layer, keras.layers.Conv2D):
        kernel = plain(layer.kernel)
        if layer.groups > 1 and kernel.shape[2] == 1:
            kind, kernel = "depthwise", kernel.transpose(0, 1, 3, 2)
    elif isinstance(layer, keras.layers.Dense):
        kernel = plain(layer.kernel)[None, None]
    else:
        return None
    return {
        "kind": kind,
        "kernel": kernel,
        "strides": max(getattr(layer, "strides", (1,))),
        "bias": plain(layer.bias) if layer.use_bias else 0.0,
        # At a single position a layer belongs to squeeze-and-excite.
        "pooled": outputs.ndim == 2 or outputs.shape[1:3] == (1, 1),
    }


def _look(box, make, case):
    return observe(box, make, case["x"], case["seed"], gain=2**0.5, describe=_step)


def _groups(steps):
    """Put each layer with a kernel together with the batch norm that follows it."""
    groups = []
    for step in steps:
        if step["kind"] == "norm":
            if groups and "norm" not in groups[-1]:
                groups[-1]["norm"] = step
        else:
            groups.append(dict(step))
    return groups


def _apply(group, x):
    """Return what a layer and its batch norm make of `x` at inference."""
    from keras import ops

    kernel, strides = group["kernel"].astype("float32"), group["strides"]
    x = np.asarray(x, "float32")
    if group["kind"] == "depthwise":
        y = ops.depthwise_conv(x, kernel, strides, padding="same")
    else:
        y = ops.conv(x, kernel, strides, padding="same")
    y = ops.convert_to_numpy(y) + group["bias"]
    norm = group.get("norm")
    if norm is None:
        return y
    scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + norm["epsilon"])
    return (y - norm["moving_mean"]) * scale + norm["beta"]


def _describe(wanted):
    """Say a list of (role, kernel side, strides, channels) in words."""
    words = []
    for role, side, strides, channels in wanted:
        stride = f" with stride {strides}" if strides > 1 else ""
        if "depthwise" in role:
            words.append(f"depthwise {side}×{side}{stride}")
        elif role in ("reduce", "restore"):
            words.append(f"{'squeeze' if role == 'reduce' else 'back'} to {channels}")
        else:
            words.append(f"{side}×{side}{stride} to {channels}")
    return ", ".join(words) or "nothing"


def _found(groups):
    """Name the layers that were called as `_describe` wants them."""
    found, pooled = [], 0
    for group in groups:
        side, channels = len(group["kernel"]), group["kernel"].shape[3]
        if group["kind"] == "depthwise":
            role, channels = "depthwise", group["kernel"].shape[2]
        elif group["pooled"]:
            role, pooled = ("reduce", "restore")[pooled % 2], pooled + 1
        else:
            role = "conv"
        found.append((role, side, group["strides"], channels))
    return found


def _order_problem(groups, wanted):
    """Return what is wrong with the layers and their sizes, or ""."""
    found = _found(groups)

    def plainly(layers):
        kinds = {"expand": "conv", "project": "conv"}
        kinds |= {"first_depthwise": "depthwise", "middle_depthwise": "depthwise"}
        return [(kinds.get(role, role), *sizes) for role, *sizes in layers]

    if plainly(found) == plainly(wanted):
        missing = next(
            (
                _LAYER[role]
                for group, (role, *_) in zip(groups, wanted, strict=True)
                if role in _LAYER and "norm" not in group
            ),
            "",
        )
        return missing and f"no batch norm follows the {missing}."
    if not found:
        return "found no convolution from keras.layers."
    kinds, right = ([kind for kind, *_ in plainly(layers)] for layers in (found, wanted))
    if kinds == right:
        for (_, side, strides, channels), (role, *sizes) in zip(found, wanted, strict=True):
            name = _LAYER.get(role, "squeeze-and-excite")
            if strides != sizes[1]:
                where = "; the last depthwise convolution has the stride" * ("first" in role)
                return f"the {name} has stride {strides}; expected {sizes[1]}{where}."
            if (side, channels) != (sizes[0], sizes[2]) and role not in ("reduce", "restore"):
                return (
                    f"the {name} is {side}×{side} and writes {channels} channels; expected "
                    f"{sizes[0]}×{sizes[0]} and {sizes[2]}."
                )
    if "reduce" in right and "reduce" not in kinds:
        return "squeeze-and-excite is missing, or it does not pool."
    if "reduce" in kinds and "reduce" not in right:
        return "the row has no squeeze-and-excite."
    return f"expected {_describe(wanted)}; found {_describe(found)}."


_LAYER = {
    "expand": "expansion",
    "depthwise": "depthwise convolution",
    "first_depthwise": "first depthwise convolution",
    "middle_depthwise": "middle depthwise convolution",
    "project": "projection",
}


def _forward(x, groups, roles, activations, *, gate=_hard_sigmoid, inner=_relu, early=False):
    """Return what the branch of a block makes of `x`.

    Args:
        x: (B, H, W, C).
        groups: layers with their batch norms.
        roles: what each of them is.
        activations: role → function; the others are linear.
        gate: of squeeze-and-excite.
        inner: between its two layers.
        early: weigh the channels before the depthwise convolution's activation.
    """
    y, waiting, squeezed = x, None, None
    for group, role in zip(groups, roles, strict=True):
        if role == "reduce":
            squeezed = inner(_apply(group, y.mean(axis=(1, 2), keepdims=True)))
        elif role == "restore":
            y = y * gate(_apply(group, squeezed))
        else:
            if waiting is not None:
                y, waiting = waiting(y), None
            y = _apply(group, y)
            activation = activations.get(role)
            if activation is not None and early and role == "depthwise":
                waiting = activation
            elif activation is not None:
                y = activation(y)
    return y


def _batch_problem(got):
    y = got["value"]
    if not isinstance(y, np.ndarray):
        return f"expected a tensor, got {say(y)}: does your code end in `return`?"
    if got["steps"] and not got["weights"]:
        return "the layers are made anew at each call; make them in __init__ or build."
    alone = got["alone"]
    if isinstance(alone, np.ndarray) and not same(alone, y[:1], 1e-3):
        return (
            "an image's output depends on the other images of its batch: leave batch norm's "
            "`training` to Keras, and average over the positions only."
        )
    return ""


# squeeze_excite -----------------------------------------------------------------------------


def _excite_inputs(rng):
    cases = []
    for _ in range(2):
        channels, squeezed = (int(n) for n in rng.permutation([5, 6, 7, 9])[:2])
        x = rng.normal(rng.normal(0, 2, channels), 1, (3, 6, 5, channels))
        cases.append(
            {
                "x": x.astype("float32"),
                "squeezed": squeezed,
                "seed": int(rng.integers(1_000_000)),
            }
        )
    return cases


def _probe_excite(box, answer, inputs):
    return [_look(box, lambda case=case: answer(case["squeezed"]), case) for case in inputs]


def _judge_excite(inputs, seen):
    layers, gates = [], []
    for case, got in zip(inputs, seen, strict=True):
        x, squeezed = case["x"], case["squeezed"]
        call = f"SqueezeExcite({squeezed}) on {x.shape[1:]}: "
        if "error" in got:
            layers.append(call + f"stopped with {got['error']}")
            gates.append(layers[-1])
            continue
        problem = _excite_layers_problem(case, got)
        layers.append(problem and call + problem)
        problem = _excite_gate_problem(case, got)
        gates.append(problem and call + problem)
    return [
        graded("the two layers", 1, first_problem(*layers)),
        graded("the gates", 1, first_problem(*gates)),
    ]


def _excite_layers_problem(case, got):
    channels, squeezed = case["x"].shape[-1], case["squeezed"]
    groups = _groups(got["steps"])
    sizes = [group["kernel"].shape[2:] for group in groups]
    if [group["kernel"].shape[:2] for group in groups] != [(1, 1)] * len(groups):
        return "all kernels see one position: Dense layers or 1×1 convolutions."
    if any("norm" in group for group in groups):
        return "there is no batch norm in squeeze-and-excite."
    if sizes != [(channels, squeezed), (squeezed, channels)]:
        steps = ", ".join(f"{a} → {b}" for a, b in sizes) or "none"
        wanted = f"{channels} → {squeezed}, {squeezed} → {channels}"
        return f"expected two layers with kernels, {wanted}; found {steps}."
    if not all(group["pooled"] for group in groups):
        return "the layers work on every position; squeeze first: one mean for each channel."
    if any(np.ndim(group["bias"]) == 0 for group in groups):
        return "both layers have a bias; yours have none, or one of them."
    if (
        sum(weight.size for weight in got["weights"])
        != 2 * channels * squeezed + squeezed + channels
    ):
        return (
            "the layers are made anew at each call, or some are never used; make the two that you "
            "need in __init__ or build."
        )
    return ""


def _excite_gate_problem(case, got):
    x, y = case["x"], got["value"]
    problem = _batch_problem(got)
    if problem:
        return problem
    groups = _groups(got["steps"])
    sizes = [group["kernel"].shape[2:] for group in groups]
    if len(groups) != 2 or sizes[0] != sizes[1][::-1] or sizes[0][0] != x.shape[-1]:
        return "the gates cannot be followed; get the two layers right first."
    if y.shape != x.shape:
        return f"expected the input's shape {x.shape}, got {y.shape}: multiply x by the gates."

    def gates(pool=np.mean, inner=_relu, gate=_hard_sigmoid):
        pooled = pool(x, axis=(1, 2), keepdims=True)
        return gate(_apply(groups[1], inner(_apply(groups[0], pooled))))

    right = gates()
    if same(y, x * right, 1e-3):
        return ""
    mistakes = (
        (x * gates(gate=_sigmoid), "the gate is a sigmoid; MobileNetV3 takes the hard one."),
        (x * gates(gate=lambda z: z), "nothing bounds the gates; end with a hard sigmoid."),
        (x * gates(gate=_relu), "the gates end in a ReLU; end with a hard sigmoid."),
        (x * gates(inner=lambda z: z), "the ReLU between the two layers is missing."),
        (
            x * gates(gate=lambda z: np.clip(0.2 * z + 0.5, 0, 1)),
            "your hard sigmoid rises by 1/5; here it is ReLU6(z + 3) / 6.",
        ),
        (x * gates(pool=np.max), "you squeeze by the maximum; take the mean."),
        (x + right, "you add the gates; multiply x by them."),
        (np.broadcast_to(right, x.shape), "these are the gates alone; multiply x by them."),
        (x + x * right, "there is no shortcut around squeeze-and-excite."),
    )
    for wrong, message in mistakes:
        if same(y, wrong, 1e-3):
            return message
    return "the output is not x · hard_sigmoid(second(ReLU(first(mean of x))))."


# v3_block -----------------------------------------------------------------------------------


def _row_inputs(rng):
    def case(channels, kernel, exp, out, squeeze, non_linearity, strides):
        x = rng.normal(size=(2, 9, 6, channels)).astype("float32")
        row = (kernel, exp, out, squeeze, non_linearity, strides)
        return {"x": x, "row": row, "seed": int(rng.integers(1_000_000))}

    few, more = (int(n) for n in rng.permutation([8, 10, 12])[:2])
    wide = [int(n) for n in rng.permutation([28, 36, 44, 72])]
    return [
        case(few, 5, wide[0], few, True, "HS", 1),
        case(more, 3, wide[1], more, False, "RE", 1),
        case(more, 3, more, few, True, "RE", 2),
        case(few, 5, wide[2], more, False, "HS", 2),
        case(few, 3, wide[3], few + 1, False, "HS", 1),
    ]


def _probe_row(box, answer, inputs):
    import keras

    def make(case):
        x = keras.Input(case["x"].shape[1:])
        y = answer(x, case["row"])
        return None if y is None else keras.Model(x, y)

    return [_look(box, lambda case=case: make(case), case) for case in inputs]


def _judge_row(inputs, seen):
    order, values, shortcuts = [], [], []
    for case, got in zip(inputs, seen, strict=True):
        call = f"v3_block(x, {case['row']}) with {case['x'].shape[-1]} channels: "
        if "error" in got:
            stopped = call + f"stopped with {got['error']}"
            order.append(stopped)
            values.append(stopped)
            shortcuts.append(stopped)
            continue
        for problems, problem in zip(
            (order, values, shortcuts), _row_problems(case, got), strict=True
        ):
            problems.append(problem and call + problem)
    return [
        graded("layers and their sizes", 1, first_problem(*order)),
        graded("activations and gates", 1.25, first_problem(*values)),
        graded("the shortcut", 0.75, first_problem(*shortcuts)),
    ]


def _row_problems(case, got):
    """One sentence for each part, empty where all is well."""
    from utils.blocks import make_divisible  # here, since it imports Keras, which takes seconds

    x, (kernel, exp, out, squeeze, non_linearity, strides) = case["x"], case["row"]
    channels, groups = x.shape[-1], _groups(got["steps"])
    wanted = [("expand", 1, 1, exp)] * (exp != channels)
    wanted.append(("depthwise", kernel, strides, exp))
    if squeeze:
        wanted += [("reduce", 1, 1, make_divisible(exp / 4)), ("restore", 1, 1, exp)]
    wanted.append(("project", 1, 1, out))
    roles = [role for role, *_ in wanted]
    problem = _order_problem(groups, wanted)
    later = "cannot be followed; get the layers right first."
    if problem:
        found, squeezed = _found(groups), make_divisible(exp / 4)
        kinds = [role for role, *_ in found]
        widths = {role: width for role, _, _, width in found}
        if squeeze and "reduce" in kinds and widths["reduce"] != squeezed:
            problem = (
                f"squeeze to {squeezed} channels, make_divisible({exp} / 4), "
                f"not to {widths['reduce']}."
            )
        elif exp != channels and kinds.count("conv") == 1:
            problem = (
                f"the expansion is missing: the row's exp size is {exp}, x has {channels} channels."
            )
        elif exp == channels and kinds.count("conv") == 2:
            problem = "the expansion is left out where the block has exp size channels already."
        return [problem, later, later]
    problem = _batch_problem(got)
    if problem:
        return ["", problem, problem]
    names = {"RE": _relu, "HS": _hard_swish}
    right, other = names[non_linearity], names["HS" if non_linearity == "RE" else "RE"]

    def branch(activation=right, **options):
        return _forward(x, groups, roles, dict.fromkeys(_ACTIVE, activation), **options)

    def given(**activations):
        chosen = {**dict.fromkeys(_ACTIVE, right), **activations}
        return _forward(x, groups, roles, chosen)

    says = f"the row says {non_linearity}, {'ReLU' if right is _relu else 'h-swish'}; "
    variants = [
        (branch(), ""),
        (branch(other), says + f"you take {'h-swish' if right is _relu else 'ReLU'}."),
        (branch(_relu6), says + "you take ReLU6."),
        (branch(lambda z: z * _sigmoid(z)), says + "you take swish."),
        (given(project=right), "the projection stays linear: no activation after it."),
        (given(depthwise=None), "no activation follows the depthwise convolution."),
        (given(expand=None), "no activation follows the expansion."),
        (branch(None), "there is no activation at all."),
    ]
    if squeeze:
        variants += [
            (branch(early=True), "the activation comes first, then squeeze-and-excite."),
            (branch(gate=_sigmoid), "the gate is a sigmoid; MobileNetV3 takes the hard one."),
            (branch(inner=right if right is _hard_swish else (lambda z: z)), _INNER),
        ]
    return ["", *_value_problems(case, got, variants, strides == 1 and channels == out)]


_ACTIVE = ("expand", "depthwise")
_INNER = "inside squeeze-and-excite stands a ReLU, whatever the row says."


def _value_problems(case, got, variants, adds):
    """What is wrong with the values and with the shortcut, given (branch, message) pairs."""
    x, y = case["x"], got["value"]
    right = variants[0][0]
    if y.shape != right.shape:
        problem = f"expected shape {right.shape}, got {y.shape}."
        return [problem, problem]
    for branch, message in variants:
        endings = [(branch, "missing"), (_relu(branch), "relu")]
        if x.shape == branch.shape:
            endings = [(branch + x, "added"), *endings, (_relu(branch + x), "relu after")]
        for value, ending in endings:
            if not same(y, value, 1e-3):
                continue
            if ending == "relu":
                return ["the projection stays linear: no activation after it.", ""]
            if ending == "relu after":
                return [message, "no ReLU follows the addition: the narrow ends are linear."]
            if adds and ending == "missing":
                return [message, "stride 1 and as many channels as before: add the input."]
            if not adds and ending == "added":
                return [message, "here the input is not added."]
            return [message, ""]
    problem = "the layers have the right sizes, but the values do not follow from them."
    return [problem, problem]


# universal_block ----------------------------------------------------------------------------


def _universal_inputs(rng):
    def case(first, middle, strides, channels, filters):
        return {
            "x": rng.normal(size=(2, 9, 6, channels)).astype("float32"),
            "filters": filters,
            "strides": strides,
            "expansion": int(rng.integers(2, 5)),
            "first_kernel": first,
            "middle_kernel": middle,
            "seed": int(rng.integers(1_000_000)),
        }

    one, two = (int(n) for n in rng.permutation([5, 6, 7, 8])[:2])
    sides = [int(n) for n in rng.permutation([3, 5])]
    return [
        case(None, sides[0], 1, one, one),
        case(sides[0], None, 1, two, two),
        case(sides[1], sides[0], 1, one, one),
        case(None, None, 1, two, two),
        case(None, sides[1], 2, one, two),
        case(sides[0], None, 2, two, one),
        case(sides[0], sides[1], 2, one, one),
        case(None, None, 1, one, two),
    ]


def _probe_universal(box, answer, inputs):
    def make(case):
        return answer(
            case["filters"],
            strides=case["strides"],
            expansion=case["expansion"],
            first_kernel=case["first_kernel"],
            middle_kernel=case["middle_kernel"],
        )

    return [_look(box, lambda case=case: make(case), case) for case in inputs]


_UNIVERSAL_FORMS = {
    (False, True): "inverted bottleneck",
    (True, False): "ConvNeXt",
    (True, True): "extra depthwise",
    (False, False): "feed-forward network",
}


def _judge_universal(inputs, seen):
    forms = {form: [] for form in _UNIVERSAL_FORMS.values()}
    strided, shortcuts = [], []
    for case, got in zip(inputs, seen, strict=True):
        first, middle = case["first_kernel"], case["middle_kernel"]
        form = _UNIVERSAL_FORMS[first is not None, middle is not None]
        call = (
            f"first_kernel={first}, middle_kernel={middle}, strides={case['strides']}, "
            f"{case['x'].shape[-1]} → {case['filters']} channels: "
        )
        if "error" in got:
            problem, shortcut = f"stopped with {got['error']}", f"stopped with {got['error']}"
        else:
            problem, shortcut = _universal_problems(case, got)
        if case["strides"] > 1:
            strided.append(problem and call + problem)
        elif case["filters"] == case["x"].shape[-1]:
            forms[form].append(problem and call + problem)
        shortcuts.append(shortcut and call + shortcut)
    return [
        *(graded(form, 0.375, first_problem(*problems)) for form, problems in forms.items()),
        graded("stride 2", 0.5, first_problem(*strided)),
        graded("the shortcut", 0.5, first_problem(*shortcuts)),
    ]


def _universal_problems(case, got):
    """What is wrong with the branch, and with the shortcut; empty where all is well."""
    x, filters, strides = case["x"], case["filters"], case["strides"]
    first, middle = case["first_kernel"], case["middle_kernel"]
    channels = x.shape[-1]
    wide = channels * case["expansion"]
    wanted = []
    if first:
        wanted.append(("first_depthwise", first, 1 if middle else strides, channels))
    wanted.append(("expand", 1, 1, wide))
    if middle:
        wanted.append(("middle_depthwise", middle, strides, wide))
    wanted.append(("project", 1, 1, filters))
    groups = _groups(got["steps"])
    problem = _order_problem(groups, wanted)
    if problem:
        return [problem, "cannot be followed; get the layers right first."]
    problem = _batch_problem(got)
    if problem:
        return [problem, problem]
    roles = [role for role, *_ in wanted]
    names = ("first_depthwise", "expand", "middle_depthwise", "project")

    def branch(*active, activation=_relu):
        return _forward(x, groups, roles, dict.fromkeys((names[n] for n in active), activation))

    variants = [
        (branch(1, 2), ""),
        (branch(0, 1, 2), "the first depthwise convolution stays linear: no ReLU after it."),
        (branch(1, 2, 3), "the projection stays linear: no activation after it."),
        (branch(0, 1, 2, 3), "the first depthwise convolution and the projection stay linear."),
        (branch(1), "no ReLU follows the middle depthwise convolution."),
        (branch(2), "no ReLU follows the expansion."),
        (branch(), "there is no ReLU at all; one follows the expansion."),
        (branch(1, 2, activation=_relu6), "you take ReLU6; MobileNetV4 has ReLU."),
        (branch(1, 2, activation=_hard_swish), "you take h-swish; MobileNetV4 has ReLU."),
    ]
    return _value_problems(case, got, variants, strides == 1 and channels == filters)


# pareto_set ---------------------------------------------------------------------------------


def _pareto_inputs(rng):
    def cloud(count):
        names = rng.permutation([f"net{n}" for n in range(count)])
        latency = np.round(rng.uniform(1, 20, count), 2)
        accuracy = np.round(0.6 + 0.01 * latency + rng.uniform(-0.1, 0.1, count), 3)
        pairs = zip(latency, accuracy, strict=True)
        return {
            str(name): (float(ms), float(share))
            for name, (ms, share) in zip(names, pairs, strict=True)
        }

    ms, share = float(rng.integers(2, 9)), float(rng.integers(60, 80)) / 100
    equal_in_one = {
        "good": (ms, share),
        "fast": (ms / 2, round(share - 0.2, 2)),
        "late": (2 * ms, share),
        "weak": (ms, round(share - 0.05, 2)),
        "hopeless": (3 * ms, round(share - 0.1, 2)),
    }
    twins = {
        "fast": (ms - 1, round(share - 0.05, 2)),
        "one": (ms, share),
        "two": (ms, share),
        "worse": (ms + 1, round(share - 0.01, 2)),
        "best": (ms + 2, round(share + 0.1, 2)),
    }
    return {
        "clouds": [cloud(12), cloud(9), {"only": (ms, share)}],
        "ties": [equal_in_one, twins],
    }


def _probe_pareto(box, answer, inputs):
    def names(points):
        found = answer(points)
        # A set, a dictionary or what iterates over names will do; a text is no list of them.
        if found is None or isinstance(found, str):
            return found
        return [str(name) if isinstance(name, str) else name for name in found]

    return {kind: [box.call(names, points) for points in clouds] for kind, clouds in inputs.items()}


def _pareto(points, beats):
    return {
        name
        for name, point in points.items()
        if not any(beats(other, point) for other in points.values())
    }


def _dominates(a, b):
    return a[0] <= b[0] and a[1] >= b[1] and a != b


def _judge_pareto(inputs, seen):
    def problem(points, got):
        call = f"pareto_set of {len(points)} networks"
        if "error" in got:
            return f"{call} stopped with {got['error']}"
        value = got["value"]
        if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
            return f"{call} returned {say(value)}; expected a list of their names."
        right, found = _pareto(points, _dominates), set(value)
        if len(value) != len(found):
            return f"{call}: a name is there twice."
        if found == right:
            return ""
        best = max(point[1] for point in points.values())
        fastest = min(point[0] for point in points.values())
        if found and all(points.get(n, ())[1:] == (best,) for n in found):
            return f"{call}: the most accurate one alone leaves out those that are faster than it."
        if found and all(points.get(n, ())[:1] == (fastest,) for n in found):
            return f"{call}: the fastest one alone leaves out those that are more accurate."
        mistakes = (
            (
                set(points) - right,
                "these are the networks that another one beats; return the others.",
            ),
            (
                _pareto(points, lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a != b),
                "you keep slow networks: a *small* latency is good.",
            ),
            (
                _pareto(points, lambda a, b: a[0] < b[0] and a[1] > b[1]),
                "a network is also beaten by one that is equal in one respect, better in the "
                "other.",
            ),
            (
                {n for n in right if list(points.values()).count(points[n]) == 1},
                "networks that are equal in both numbers do not beat each other; keep them.",
            ),
        )
        for wrong, message in mistakes:
            if found == wrong != set(points):
                return f"{call}: {message}"
        extra, missing = sorted(found - right), sorted(right - found)
        if set(extra) - set(points):
            return f"{call}: {extra[0]!r} is none of the names."
        if extra:
            name = extra[0]
            better = next(n for n, p in points.items() if _dominates(p, points[name]))
            return (
                f"{call}: {name!r} {points[name]} is beaten by {better!r} {points[better]}, "
                "(milliseconds, accuracy)."
            )
        return f"{call}: {missing[0]!r} {points[missing[0]]} is missing; nothing beats it."

    def problems(kind):
        return [problem(p, got) for p, got in zip(inputs[kind], seen[kind], strict=True)]

    return [
        graded("the networks that nothing beats", 1, first_problem(*problems("clouds"))),
        graded("equal times and twins", 0.5, first_problem(*problems("ties"))),
    ]


_SHARED = ("MobileNetV3Block", "UniversalInvertedBottleneck", "ConvBlock")

EXERCISES = [
    Exercise(
        "hard_swish",
        LESSON,
        1,
        _swish_inputs,
        _probe_swish,
        _judge_swish,
        forbids=("hard_silu", "activations"),
        twin="utils.mobilenet_v3:hard_swish",
    ),
    Exercise(
        "squeeze_excite",
        LESSON,
        2,
        _excite_inputs,
        _probe_excite,
        _judge_excite,
        given=("__init__",),
        twin="utils.mobilenet_v3:SqueezeExcite",
    ),
    Exercise(
        "v3_block",
        LESSON,
        3,
        _row_inputs,
        _probe_row,
        _judge_row,
        forbids=_SHARED,
        allows=("mobilenet_v3", "SqueezeExcite", "make_divisible"),
        twin="utils.mobilenet_v3:MobileNetV3Block",
        seconds=30,
    ),
    Exercise(
        "universal_block",
        LESSON,
        2.5,
        _universal_inputs,
        _probe_universal,
        _judge_universal,
        given=("__init__",),
        twin="utils.mobilenet_v4:UniversalInvertedBottleneck",
        seconds=30,
    ),
    Exercise("pareto_set", LESSON, 1.5, _pareto_inputs, _probe_pareto, _judge_pareto),
]
