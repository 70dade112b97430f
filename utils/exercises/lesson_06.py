"""The exercises of lesson 06: hard-swish, squeeze-and-excite, two blocks, and the Pareto set."""

import numpy as np

from utils.course.activations import hard_sigmoid, relu, relu6, sigmoid
from utils.course.branch import (
    alike,
    apply,
    batch_problem,
    forward,
    gates_problem,
    look,
    order_problem,
    roles_of,
    value_problems,
    with_norms,
)
from utils.course.exercise import Case, Exercise, first_problem, graded, part, say

LESSON = "06_mobilenet_v3_v4"


def _hard_swish(x):
    return x * hard_sigmoid(x)


# hard_swish ---------------------------------------------------------------------------------


def _swish_inputs(rng):
    outside = np.concatenate([rng.uniform(-9, -3.2, 8), rng.uniform(3.2, 9, 8)])
    return {
        "ends": rng.permutation(outside).reshape(2, 2, 4),
        "middle": rng.uniform(-2.9, 2.9, 15),
    }


def _probe_swish(box, answer, inputs):
    return {kind: box.call(answer, x) for kind, x in inputs.items()}


def _judge_swish(inputs, seen):
    def case(kind):
        x = inputs[kind]
        mistakes = (
            (x * sigmoid(x), "that is swish itself, with the exponential that h-swish avoids."),
            (hard_sigmoid(x), "that is the gate, ReLU6(x + 3) / 6, alone; multiply x by it."),
            (x * relu6(x) / 6, "the gate is ReLU6(x + 3) / 6: the 3 is missing."),
            (x * relu6(x + 3), "the gate must end at 1, so divide ReLU6 by 6."),
            (x * relu(x + 3) / 6, "ReLU6 ends at 6: without that the gate grows beyond 1."),
            (x * (x + 3) / 6, "that is x · (x + 3) / 6 everywhere; the gate ends at 0 and at 1."),
            (
                x * np.clip(0.2 * x + 0.5, 0, 1),
                "the gate rises with the slope 1/5; here it is 1/6, from −3 to 3.",
            ),
            (relu6(x), "that is ReLU6; h-swish is x · ReLU6(x + 3) / 6."),
            (relu(x), "that is ReLU; h-swish is x · ReLU6(x + 3) / 6."),
        )
        return [Case("hard_swish(x)", seen[kind], _hard_swish(x), mistakes)]

    return [
        part("below −3 and above 3", 0.5, case("ends")),
        part("between −3 and 3", 0.5, case("middle")),
    ]


# squeeze_excite -----------------------------------------------------------------------------


def _excite_inputs(rng):
    cases = []
    for _ in range(2):
        channels, squeezed = (int(n) for n in rng.permutation([5, 6, 7, 9])[:2])
        # So large that in the last two images ReLU6 would not be ReLU.
        size = np.array([1, 5, 20]).reshape(3, 1, 1, 1)
        x = size * rng.normal(rng.normal(0, 2, (3, 1, 1, channels)), 1, (3, 6, 5, channels))
        cases.append(
            {
                "x": x.astype("float32"),
                "squeezed": squeezed,
                "seed": int(rng.integers(1_000_000)),
            }
        )
    return cases


def _probe_excite(box, answer, inputs):
    return [look(box, lambda case=case: answer(case["squeezed"]), case) for case in inputs]


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
    groups = with_norms(got["steps"])
    sizes = [group["kernel"].shape[2:] for group in groups]
    if [group["kernel"].shape[:2] for group in groups] != [(1, 1)] * len(groups):
        return "all kernels see one position: Dense layers or 1×1 convolutions."
    if sizes != [(channels, squeezed), (squeezed, channels)]:
        steps = ", ".join(f"{a} → {b}" for a, b in sizes) or "none"
        wanted = f"{channels} → {squeezed}, {squeezed} → {channels}"
        return f"expected two layers with kernels, {wanted}; found {steps}."
    if not all(group["pooled"] for group in groups):
        return "the layers work on every position; squeeze first: one mean for each channel."
    problem = gates_problem(groups, ["reduce", "restore"])
    if problem:
        return problem
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
    problem = batch_problem(got)
    if problem:
        return problem
    groups = with_norms(got["steps"])
    sizes = [group["kernel"].shape[2:] for group in groups]
    if len(groups) != 2 or sizes[0] != sizes[1][::-1] or sizes[0][0] != x.shape[-1]:
        return "the gates cannot be followed; get the two layers right first."
    if y.shape != x.shape:
        return f"expected the input's shape {x.shape}, got {y.shape}: multiply x by the gates."

    def gates(pool=np.mean, inner=relu, gate=hard_sigmoid):
        pooled = pool(x, axis=(1, 2), keepdims=True)
        return gate(apply(groups[1], inner(apply(groups[0], pooled))))

    right = gates()
    if alike(y, x * right):
        return ""
    mistakes = (
        (x * gates(gate=sigmoid), "the gate is a sigmoid; MobileNetV3 takes the hard one."),
        (x * gates(gate=lambda z: z), "nothing bounds the gates; end with a hard sigmoid."),
        (x * gates(gate=relu), "the gates end in a ReLU; end with a hard sigmoid."),
        (x * gates(inner=lambda z: z), "the ReLU between the two layers is missing."),
        (x * gates(inner=relu6), "between the two layers stands ReLU, not ReLU6."),
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
        if alike(y, wrong):
            return message
    return "the output is not x · hard_sigmoid(second(ReLU(first(mean of x))))."


# v3_block -----------------------------------------------------------------------------------


def _row_inputs(rng):
    def case(channels, kernel, exp, out, squeeze, non_linearity, strides):
        x = rng.normal(size=(2, 9, 6, channels)).astype("float32")
        x[1] *= 30 if squeeze else 3  # so large that ReLU6 is not ReLU
        row = (kernel, exp, out, squeeze, non_linearity, strides)
        return {"x": x, "row": row, "seed": int(rng.integers(1_000_000))}

    few, more = (int(n) for n in rng.permutation([8, 10, 12])[:2])
    wide = [int(n) for n in rng.permutation([28, 36, 44, 72])]
    return [
        case(few, 5, wide[0], few, True, "HS", 1),
        case(more, 3, wide[1], more, False, "RE", 1),
        case(more, 3, more, few, True, "RE", 2),
        case(few, 5, wide[2], few, False, "HS", 2),
        case(few, 3, wide[3], few + 1, False, "HS", 1),
    ]


def _probe_row(box, answer, inputs):
    import keras

    def make(case):
        x = keras.Input(case["x"].shape[1:])
        y = answer(x, case["row"])
        return None if y is None else keras.Model(x, y)

    return [look(box, lambda case=case: make(case), case) for case in inputs]


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
    channels, groups = x.shape[-1], with_norms(got["steps"])
    wanted = [("expand", 1, 1, exp)] * (exp != channels)
    wanted.append(("depthwise", kernel, strides, exp))
    if squeeze:
        wanted += [("reduce", 1, 1, make_divisible(exp / 4)), ("restore", 1, 1, exp)]
    wanted.append(("project", 1, 1, out))
    roles = [role for role, *_ in wanted]
    problem = order_problem(groups, wanted)
    later = "cannot be followed; get the layers right first."
    if problem:
        seen, squeezed = roles_of(groups), make_divisible(exp / 4)
        kinds = [role for role, *_ in seen]
        widths = {role: width for role, _, _, width in seen}
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
    problem = gates_problem(groups, roles)
    if problem:
        return [problem, later, later]
    problem = batch_problem(got)
    if problem:
        return ["", problem, problem]
    names = {"RE": relu, "HS": _hard_swish}
    right, other = names[non_linearity], names["HS" if non_linearity == "RE" else "RE"]

    def branch(activation=right, **options):
        return forward(x, groups, roles, dict.fromkeys(_ACTIVE, activation), **options)

    def given(**activations):
        chosen = {**dict.fromkeys(_ACTIVE, right), **activations}
        return forward(x, groups, roles, chosen)

    says = f"the row says {non_linearity}, {'ReLU' if right is relu else 'h-swish'}; "
    variants = [
        (branch(), ""),
        (branch(other), says + f"you take {'h-swish' if right is relu else 'ReLU'}."),
        (branch(relu6), says + "you take ReLU6."),
        (branch(lambda z: z * sigmoid(z)), says + "you take swish."),
        (given(project=right), "the projection stays linear: no activation after it."),
        (given(depthwise=None), "no activation follows the depthwise convolution."),
        (given(expand=None), "no activation follows the expansion."),
        (branch(None), "there is no activation at all."),
    ]
    if squeeze:
        variants += [
            (branch(early=True), "the activation comes first, then squeeze-and-excite."),
            (branch(gate=sigmoid), "the gate is a sigmoid; MobileNetV3 takes the hard one."),
            (branch(inner=right if right is _hard_swish else (lambda z: z)), _INNER),
            (branch(inner=relu6), "inside squeeze-and-excite stands ReLU, not ReLU6."),
        ]
    return ["", *value_problems(x, got["value"], variants, strides == 1 and channels == out)]


_ACTIVE = ("expand", "depthwise")
_INNER = "inside squeeze-and-excite stands a ReLU, whatever the row says."


# universal_block ----------------------------------------------------------------------------


def _universal_inputs(rng):
    def case(first, middle, strides, channels, filters, expansion=None):
        x = rng.normal(size=(2, 9, 6, channels)).astype("float32")
        x[1] *= 3  # so large that ReLU6 is not ReLU
        return {
            "x": x,
            "filters": filters,
            "strides": strides,
            "expansion": expansion or int(rng.integers(2, 7)),
            "first_kernel": first,
            "middle_kernel": middle,
            "seed": int(rng.integers(1_000_000)),
        }

    one, two = (int(n) for n in rng.permutation([5, 6, 7, 8])[:2])
    sides = [int(n) for n in rng.permutation([3, 5])]
    return [
        case(None, 3, 1, one, one, 4),  # nothing but the defaults
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
        if case is inputs[0]:
            return answer(case["filters"])
        return answer(
            case["filters"],
            strides=case["strides"],
            expansion=case["expansion"],
            first_kernel=case["first_kernel"],
            middle_kernel=case["middle_kernel"],
        )

    return [look(box, lambda case=case: make(case), case) for case in inputs]


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
        if case is inputs[0]:
            call = f"UniversalInvertedBottleneck({case['filters']}), all else by default: "
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
    groups = with_norms(got["steps"])
    problem = order_problem(groups, wanted)
    if problem:
        return [problem, "cannot be followed; get the layers right first."]
    problem = batch_problem(got)
    if problem:
        return [problem, problem]
    roles = [role for role, *_ in wanted]
    names = ("first_depthwise", "expand", "middle_depthwise", "project")

    def branch(*active, activation=relu):
        return forward(x, groups, roles, dict.fromkeys((names[n] for n in active), activation))

    variants = [
        (branch(1, 2), ""),
        (branch(0, 1, 2), "the first depthwise convolution stays linear: no ReLU after it."),
        (branch(1, 2, 3), "the projection stays linear: no activation after it."),
        (branch(0, 1, 2, 3), "the first depthwise convolution and the projection stay linear."),
        (branch(1), "no ReLU follows the middle depthwise convolution."),
        (branch(2), "no ReLU follows the expansion."),
        (branch(), "there is no ReLU at all; one follows the expansion."),
        (branch(1, 2, activation=relu6), "you take ReLU6; MobileNetV4 has ReLU."),
        (branch(1, 2, activation=_hard_swish), "you take h-swish; MobileNetV4 has ReLU."),
    ]
    return value_problems(x, got["value"], variants, strides == 1 and channels == filters)


# pareto_set ---------------------------------------------------------------------------------


def _pareto_inputs(rng):
    def cloud(count):
        names = rng.permutation([f"net{n}" for n in range(count)])
        latency = accuracy = np.zeros(count)
        # Ties are another part; and the best network is not the slowest one as well.
        while (
            len(set(latency) | set(accuracy)) < 2 * count or latency.argmax() == accuracy.argmax()
        ):
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
        forbids=("hard_silu", "hard_swish", "activations", "Activation"),
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
