"""The exercises of lesson 07: the compound rule, its roundings, MBConv, B3 by hand, a device."""

import functools
import itertools
import math

import numpy as np

from utils.course.activations import hard_sigmoid, relu, relu6, sigmoid
from utils.course.branch import (
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

LESSON = "07_efficientnet_scaling"


# compound_coefficients ----------------------------------------------------------------------


def _compound_inputs(rng):
    def case(phi):
        # Apart from each other, so that an exchange is seen.
        factors = 1.08 + np.cumsum(rng.uniform(0.05, 0.12, 3))
        alpha, beta, gamma = (round(float(value), 3) for value in rng.permutation(factors))
        return {"phi": phi, "alpha": alpha, "beta": beta, "gamma": gamma}

    return {
        "whole": [case(int(phi)) for phi in rng.permutation([2, 3, 4])[:2]],
        "any": [
            case(round(float(rng.uniform(2.2, 2.8)), 2)),
            case(round(float(rng.uniform(0.3, 0.7)), 2)),
            case(-round(float(rng.uniform(1.05, 1.8)), 2)),
            case(0),
        ],
    }


def _probe_compound(box, answer, inputs):
    return {kind: [box.call(answer, **case) for case in cases] for kind, cases in inputs.items()}


def _judge_compound(inputs, seen):
    def judge(case, got):
        phi, factors = case["phi"], (case["alpha"], case["beta"], case["gamma"])
        depth, width, resolution = right = tuple(float(value**phi) for value in factors)
        mistakes = [
            ((width, depth, resolution), "depth comes first, then width."),
            ((depth, resolution, width), "width comes second, resolution last."),
            ((resolution, width, depth), "depth comes first, resolution last."),
            (tuple(1 + phi * (value - 1) for value in factors), "that grows by equal steps; α^φ."),
            (
                tuple(float(value ** int(phi)) for value in factors),
                "φ need not be a whole number; do not round it.",
            ),
            (tuple(float(value ** abs(phi)) for value in factors), "a negative φ shrinks."),
            (factors, "that is φ = 1, whatever φ is."),
            ((depth, factors[1], factors[2]), "all three grow with φ, not only the depth."),
            (depth * width**2 * resolution**2, "that is the cost; return the three factors."),
        ]
        if phi:
            product = tuple(value * phi for value in factors)
            mistakes.append((product, "take the power α^φ, not the product α·φ."))
        if phi > 0:
            mistakes.append((tuple(float(phi**value) for value in factors), "that is φ^α; α^φ."))
        if phi < 0:
            mistakes.append(((1, 1, 1), "a negative φ shrinks."))
        call = "compound_coefficients(" + ", ".join(f"{k}={v}" for k, v in case.items()) + ")"
        return Case(call, got, right, tuple(mistakes))

    def cases(kind):
        return [judge(case, got) for case, got in zip(inputs[kind], seen[kind], strict=True)]

    return [
        part("whole φ", 0.5, cases("whole")),
        part("any φ", 0.5, cases("any")),
    ]


# round_filters ------------------------------------------------------------------------------


def _nearest(value):
    return int(value + 4) // 8 * 8


def _rounded(value):
    nearest = max(8, _nearest(value))
    return nearest + 8 if nearest < 0.9 * value else nearest


# (filters, width): the first kind keeps the nearest multiple, the second loses too much by it.
_PAIRS = list(itertools.product((16, 24, 32, 40, 80, 112, 192, 320), range(3, 21)))
_NEAR = [(c, w / 10) for c, w in _PAIRS if _rounded(c * w / 10) == _nearest(c * w / 10)]
_FAR = [(c, w / 10) for c, w in _PAIRS if c != _nearest(c * w / 10) != _rounded(c * w / 10)]
# Halfway between two multiples: Python's `round` goes to the even one.
_TIES = [(40, 1.3), (80, 0.85), (160, 0.525)]
# Where a tenth of the product, a tenth of the multiple, a twentieth and a product that was rounded
# before give another number each; and where an eighth does.
_CLOSE = [(16, 1.1), (24, 1.105), (112, 0.39)]
_CLOSE_FAR = [(16, 1.7)]


def _filters_inputs(rng):
    def some(pairs, number):
        return [pairs[place] for place in rng.choice(len(pairs), number, replace=False)]

    def apart(pairs):
        """Pairs whose product, cut, rounded and as it is are three numbers."""
        return [pair for pair in pairs if 0.55 < pair[0] * pair[1] % 1 < 0.95]

    down = [pair for pair in _NEAR if _rounded(pair[0] * pair[1]) < pair[0] * pair[1] - 1]
    up = [pair for pair in _NEAR if _rounded(pair[0] * pair[1]) > pair[0] * pair[1] + 1]
    # The multiple below is near enough to stay, but the one above is nearer.
    far = [
        (filters, width)
        for filters, width in up
        if filters * width % 8 > 4.1 and int(filters * width) // 8 * 8 >= 0.9 * filters * width
    ]
    return {
        "nearest": [
            *some(apart(down), 1),
            *some(down, 2),
            *some(far, 1),
            *some(up, 2),
            *some(_TIES, 1),
            *_CLOSE,
        ],
        "tenth": [*some(apart(_FAR), 1), *some(_FAR, 2), *_CLOSE_FAR],
    }


def _probe_pairs(box, answer, inputs):
    return {kind: [box.call(answer, *pair) for pair in pairs] for kind, pairs in inputs.items()}


def _judge_filters(inputs, seen):
    def judge(pair, got):
        filters, width = pair
        value, right = filters * width, _rounded(filters * width)
        say_value = f"{filters} · {width} = {value:g}; "
        even = max(8, 8 * round(value / 8))
        below = max(8, int(value) // 8 * 8)
        mistakes = (
            (
                _nearest(value),
                f"{_nearest(value)} has lost more than a tenth of {value:g}: take the next one.",
            ),
            (
                even + 8 if even < 0.9 * value else even,
                say_value + "halfway between two multiples of 8 goes up.",
            ),
            (math.ceil(value / 8) * 8, say_value + "take the nearest multiple of 8, not the next."),
            (
                below + 8 if below < 0.9 * value else below,
                say_value + "take the nearest multiple of 8, not the one below.",
            ),
            (filters, "the width is not in it; the channels are multiplied by it."),
            (value, say_value + "it is not a multiple of 8 yet."),
            (int(value), say_value + "cut to a whole number, but not a multiple of 8."),
            (round(value), say_value + "a whole number, but not a multiple of 8."),
        )
        return Case(f"round_filters({filters}, {width})", got, right, mistakes)

    def cases(kind):
        return [judge(pair, got) for pair, got in zip(inputs[kind], seen[kind], strict=True)]

    return [
        part("the nearest multiple of 8", 0.75, cases("nearest")),
        part("no more than a tenth lost", 0.75, cases("tenth")),
    ]


# round_repeats ------------------------------------------------------------------------------


def _repeats_inputs(rng):
    # First a pair whose product is rounded up by `round`, too, but not by `int`.
    first = [(2, 1.8), (1, 2.6), (4, 1.4)][rng.integers(3)]
    depths = [float(depth) for depth in rng.permutation([1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1])[:4]]
    pairs = [(int(rng.integers(1, 5)), depth) for depth in depths]
    return {"all": [first, *pairs, (2, 1.1), (1, 1.4), (3, 1.0), (1, 0.5)]}


def _judge_repeats(inputs, seen):
    def judge(pair, got):
        repeats, depth = pair
        value = repeats * depth
        mistakes = (
            (round(value), f"{repeats} · {depth} = {value:g} goes up, not to the nearest number."),
            (int(value), f"{repeats} · {depth} = {value:g} goes up, not down."),
            (value, f"{value:g} blocks: no block comes in parts, so round up."),
            (repeats, "the depth is not in it; the blocks are multiplied by it."),
        )
        return Case(f"round_repeats({repeats}, {depth})", got, math.ceil(value), mistakes)

    pairs = zip(inputs["all"], seen["all"], strict=True)
    return [part("rounded up", 0.5, [judge(pair, got) for pair, got in pairs])]


# mbconv -------------------------------------------------------------------------------------


def _swish(x):
    return x * sigmoid(x)


def _mbconv_inputs(rng):
    def case(channels, filters, strides, expansion, kernel_size):
        return {
            "x": rng.normal(size=(2, 9, 6, channels)).astype("float32"),
            "settings": {
                "filters": filters,
                "strides": strides,
                "expansion": expansion,
                "kernel_size": kernel_size,
            },
            "seed": int(rng.integers(1_000_000)),
        }

    # Of each two of these a quarter is a fraction that rounds up.
    one, two = (int(n) for n in rng.permutation([8, 11, 15])[:2])
    more, less = (int(n) for n in rng.permutation([4, 6]))
    return [
        case(one, one, 1, more, 5),
        case(one, two, 1, less, 3),
        case(two, two, 2, more, 3),
        case(two, two, 1, 1, 3),
        case(3, one, 2, more, 5),  # a quarter of 3 channels is none
    ]


def _probe_mbconv(box, answer, inputs):
    import keras

    def make(case):
        x = keras.Input(case["x"].shape[1:])
        y = answer(x, **case["settings"])
        return None if y is None else keras.Model(x, y)

    return [look(box, lambda case=case: make(case), case) for case in inputs]


def _judge_mbconv(inputs, seen):
    order, values, shortcuts = [], [], []
    for case, got in zip(inputs, seen, strict=True):
        settings = ", ".join(f"{key}={value}" for key, value in case["settings"].items())
        call = f"mbconv(x, {settings}) with {case['x'].shape[-1]} channels: "
        if "error" in got:
            problems = 3 * [f"stopped with {got['error']}"]
        else:
            problems = _mbconv_problems(case, got)
        for collected, problem in zip((order, values, shortcuts), problems, strict=True):
            collected.append(problem and call + problem)
    return [
        graded("layers and their sizes", 1, first_problem(*order)),
        graded("activations and gates", 1.25, first_problem(*values)),
        graded("the shortcut", 0.75, first_problem(*shortcuts)),
    ]


def _mbconv_problems(case, got):
    """One sentence for each part, empty where all is well."""
    x, settings = case["x"], case["settings"]
    channels, filters, strides = x.shape[-1], settings["filters"], settings["strides"]
    wide, squeezed = channels * settings["expansion"], max(1, channels // 4)
    groups = with_norms(got["steps"])
    wanted = [("expand", 1, 1, wide)] * (settings["expansion"] > 1)
    wanted += [
        ("depthwise", settings["kernel_size"], strides, wide),
        ("reduce", 1, 1, squeezed),
        ("restore", 1, 1, wide),
        ("project", 1, 1, filters),
    ]
    problem = order_problem(groups, wanted)
    later = "cannot be followed; get the layers right first."
    if problem:
        return [_mbconv_order(groups, wanted, channels) or problem, later, later]
    roles = [role for role, *_ in wanted]
    problem = gates_problem(groups, roles)
    if problem:
        return [problem, later, later]
    problem = batch_problem(got)
    if problem:
        return ["", problem, problem]

    def branch(activation=_swish, gate=sigmoid, inner=_swish, **others):
        chosen = {**dict.fromkeys(("expand", "depthwise"), activation), **others}
        early = chosen.pop("early", False)
        return forward(x, groups, roles, chosen, gate=gate, inner=inner, early=early)

    variants = [
        (branch(), ""),
        (branch(relu), "the activation is a ReLU; EfficientNet takes swish."),
        (branch(relu6), "the activation is ReLU6; EfficientNet takes swish."),
        (branch(relu, inner=relu), "the activation is a ReLU everywhere; take swish."),
        (branch(lambda z: z * hard_sigmoid(z)), "that is h-swish; EfficientNet takes swish."),
        (branch(gate=hard_sigmoid), "the gate is the hard sigmoid; here it is the sigmoid."),
        (branch(gate=lambda z: z), "nothing bounds the gates; end with a sigmoid."),
        (branch(gate=_swish), "the gates end in swish; end with a sigmoid."),
        # Where all of the few channels are positive, the two are one.
        (branch(inner=relu), _INNER),
        (branch(inner=lambda z: z), _INNER),
        (branch(early=True), "the activation comes first, then squeeze-and-excite."),
        (branch(project=_swish), "no activation follows the projection."),
        (branch(depthwise=None), "no activation follows the depthwise convolution."),
        (branch(expand=None), "no activation follows the expansion."),
        (branch(None), "there is no activation between the convolutions."),
    ]
    return ["", *value_problems(x, got["value"], variants, strides == 1 and channels == filters)]


_INNER = "between the two layers of squeeze-and-excite stands swish, not a ReLU and not nothing."


def _mbconv_order(groups, wanted, channels):
    """Say what usual mistake the layers show, or return ""."""
    seen = roles_of(groups)
    widths = {role: width for role, _, _, width in seen}
    kinds, right = [role for role, *_ in seen], {role: width for role, _, _, width in wanted}
    wide, squeezed = right["restore"], right["reduce"]
    if "reduce" in kinds and widths["reduce"] != squeezed:
        if widths["reduce"] == wide // 4 and wide > channels:
            return (
                f"squeeze to a quarter of the block's {channels} input channels, {squeezed}, not of "
                f"the {wide} wide ones."
            )
        if widths["reduce"] == round(channels / 4):
            return f"a quarter of {channels} channels is cut to {squeezed}; do not round it."
        return (
            f"squeeze to {squeezed} channels, max(1, {channels} // 4), not to {widths['reduce']}."
        )
    if wide == channels and kinds.count("conv") == 2:
        return "with expansion 1 there is no first 1×1 convolution."
    if wide > channels and kinds.count("conv") == 1:
        return f"the first 1×1 convolution, to {wide} channels, is missing."
    if "reduce" in kinds and "depthwise" in kinds:
        if kinds.index("reduce") < kinds.index("depthwise"):
            return "squeeze-and-excite comes after the depthwise convolution."
        if kinds[-1] == "restore":
            return "squeeze-and-excite comes before the projection, on the wide tensor."
    return ""


# scaled_blocks ------------------------------------------------------------------------------


def _blocks_inputs(rng):
    def table(depth):
        # One, two and four blocks tell ways of rounding apart, and 5 · 1.4 = 7 tells what is one
        # block short; the channels stay apart as well.
        more = [5] if depth == 1.4 else [3][: rng.integers(2)]
        repeats = [int(n) for n in (*rng.permutation([1, 2, 4]), *more)]
        stages = [
            (int(rng.choice([3, 5])), int(rng.integers(1, 7)), channels, n, int(rng.integers(1, 3)))
            for channels, n in zip((16, 40, 96, 192), repeats, strict=False)
        ]
        return [*stages, (3, 6, 448, 2, 2)]

    widths = [float(w) for w in rng.permutation([1.2, 1.3, 1.4])]
    depths = [1.4, *(float(d) for d in rng.permutation([1.2, 1.3]))]
    return [
        {"stages": table(depth), "width": width, "depth": depth}
        for width, depth in zip(widths, depths, strict=True)
    ]


def _probe_blocks(box, answer, inputs):
    def rows(case):
        value = answer(case["stages"], case["width"], case["depth"])
        return value if value is None or isinstance(value, str) else list(value)

    return [box.call(rows, case) for case in inputs]


def _judge_blocks(inputs, seen):
    numbers, channels, rest = [], [], []
    for case, got in zip(inputs, seen, strict=True):
        call = f"scaled_blocks({case['stages']}, {case['width']}, {case['depth']}): "
        problems = _blocks_problems(case, got)
        for collected, problem in zip((numbers, channels, rest), problems, strict=True):
            collected.append(problem and call + problem)
    return [
        graded("number of blocks", 0.75, first_problem(*numbers)),
        graded("channels", 0.5, first_problem(*channels)),
        graded("kernels, expansions and strides", 0.75, first_problem(*rest)),
    ]


def _blocks_problems(case, got):
    if "error" in got:
        return 3 * [f"stopped with {got['error']}"]
    rows = got["value"]
    if not isinstance(rows, list) or not rows:
        return 3 * [f"expected a list of rows, got {say(rows)}."]
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]
    if not all(isinstance(row, tuple | list) and len(row) == 4 for row in rows):
        return 3 * [f"a row is {say(rows[0])}; expected (kernel, expansion, filters, stride)."]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for row in rows for n in row):
        return 3 * [f"a row is {say(rows[0])}; expected four numbers."]
    stages, width, depth = case["stages"], case["width"], case["depth"]
    # The channels of the stages differ, so blocks that follow each other with the same are one.
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row[2])]
    if len(groups) != len(stages):
        problem = (
            f"{len(groups)} runs of blocks with the same channels; expected {len(stages)}, one for "
            "each stage."
        )
        return 3 * [problem]
    return [
        _number_problem(groups, stages, depth),
        _channels_problem(groups, stages, width),
        _rest_problem(groups, stages),
    ]


def _number_problem(groups, stages, depth):
    found = [len(group) for group in groups]
    repeats = [stage[3] for stage in stages]
    if found == [math.ceil(n * depth) for n in repeats]:
        return ""
    if found == repeats:
        return f"the stages have {found} blocks as without scaling; apply round_repeats."
    if found == [max(1, round(n * depth)) for n in repeats]:
        return f"the stages have {found} blocks, rounded to the nearest number; it goes up."
    if found == [max(1, int(n * depth)) for n in repeats]:
        return f"the stages have {found} blocks, rounded down; it goes up."
    right = [math.ceil(n * depth) for n in repeats]
    return f"the stages have {found} blocks; expected {right}."


def _channels_problem(groups, stages, width):
    found, plain = [group[0][2] for group in groups], [stage[2] for stage in stages]
    right = [_rounded(c * width) for c in plain]
    if found == right:
        return ""
    if found == plain:
        return f"the blocks have {found} channels as without scaling; apply round_filters."
    if found == [c * width for c in plain] or found == [int(c * width) for c in plain]:
        return f"the blocks have {found} channels, not multiples of 8; apply round_filters."
    return f"the blocks have {found} channels; expected {right}."


def _rest_problem(groups, stages):
    for group, (kernel, expansion, _, _, stride) in zip(groups, stages, strict=True):
        for place, name, right in ((0, "kernel", kernel), (1, "expansion", expansion)):
            wrong = next((row for row in group if row[place] != right), None)
            if wrong is not None:
                return f"a block of the stage with {name} {right} has the row {wrong}."
        if group[0][3] != stride:
            return f"the first block of a stage has stride {group[0][3]}; expected {stride}."
    if any(row[3] != 1 for group in groups for row in group[1:]):
        return "only the first block of a stage has its stride; in all others it is 1."
    return ""


# choose_phi ---------------------------------------------------------------------------------


def _choice(networks, deadline, flash, time=max):
    fit = [
        network["phi"]
        for network in networks
        if time(network["milliseconds"]) <= deadline and network["megabytes"] <= flash
    ]
    return max(fit, default=None)


def _first_misfit(networks, deadline, flash):
    """The largest φ before the first network that does not fit, from small to large."""
    best = None
    for network in sorted(networks, key=lambda each: each["phi"]):
        if _choice([network], deadline, flash) is None:
            return best
        best = network["phi"]
    return best


_MISTAKES = {
    "slowest": functools.partial(_choice, time=np.mean),
    "median": functools.partial(_choice, time=np.median),
    "fastest": functools.partial(_choice, time=min),
    "strict": lambda networks, deadline, flash: _choice(networks, deadline - 1e-6, flash - 1e-6),
    "stops": _first_misfit,
    "flash": lambda networks, deadline, flash: _choice(networks, deadline, math.inf),
    "deadline": lambda networks, deadline, flash: _choice(networks, math.inf, flash),
    "all": lambda networks, deadline, flash: max(each["phi"] for each in networks),
}
_TEXTS = {
    "slowest": "its mean time meets the deadline, but not its slowest run.",
    "median": "half of its runs meet the deadline, but not its slowest one.",
    "fastest": "its fastest run meets the deadline, but not all of them.",
    "strict": "a network that meets a limit exactly is within it: take ≤.",
    "stops": "a network with a larger φ fits again, though one before it does not.",
    "flash": "it meets the deadline, but it does not fit into the memory.",
    "deadline": "it fits into the memory, but it misses the deadline.",
    "all": "that is the largest φ of all, whether it fits or not.",
}


def _phi_case(rng, kind):
    """Draw networks and limits that show a mistake; no two mistakes choose the same φ."""
    deadline, flash = round(float(rng.uniform(20, 90)), 1), round(float(rng.uniform(2, 9)), 2)
    # By φ: megabytes and milliseconds, in units of the limits.
    fits, slow, large = (0.3, 0.9), (1.1, 1.5), (1.1, 1.6)
    networks = [(fits, fits), (fits, fits), (fits, fits)]
    if kind == "stops":
        networks.insert(2, (large, slow))
    if kind == "strict":
        networks[2] = (1.0, (0.6, 0.7, 0.8, 0.9, 1.0))
    if kind == "slowest":
        networks.append((fits, (0.3, 0.5, 1.05, 1.1, 1.3)))
    if kind == "median":
        networks.append((fits, (0.6, 0.7, 0.8, 2.5, 3.0)))
    if kind == "first":
        networks.append((fits, [1.05, 0.3, 0.3, 0.4, 0.4]))
    if kind == "last":
        networks.append((fits, [0.3, 0.4, 0.3, 0.4, 1.05]))
    if kind in ("slowest", "median", "fastest"):
        networks.append((fits, (0.8, 1.1, 1.2, 1.3, 1.4)))
    networks += [(fits, slow), (large, fits), (large, slow)]

    def draw(span, number):
        if isinstance(span, list):  # in this order
            return span
        return rng.uniform(*span, number) if len(span) == 2 else rng.permutation(span)

    phis = np.cumsum(rng.uniform(0.3, 0.9, len(networks)))
    listed = [
        {
            "phi": round(float(phi), 1),
            "megabytes": round(flash * float(size if size == 1.0 else draw(size, 1)[0]), 2),
            "milliseconds": [round(deadline * float(time), 1) for time in draw(times, 5)],
        }
        for phi, (size, times) in zip(phis, networks, strict=True)
    ]
    order = rng.permutation(len(listed))
    return {"networks": [listed[n] for n in order], "deadline": deadline, "flash": flash}


def _phi_inputs(rng):
    late, large = _phi_case(rng, "plain"), _phi_case(rng, "plain")
    late["deadline"] = round(late["deadline"] / 4, 1)
    large["flash"] = round(large["flash"] / 4, 2)
    return {
        "limits": [_phi_case(rng, kind) for kind in ("plain", "stops", "strict")],
        "slowest": [
            *(_phi_case(rng, kind) for kind in ("slowest", "median", "fastest", "first", "last")),
            late,
            large,
        ],
    }


def _probe_phi(box, answer, inputs):
    return {kind: [box.call(answer, **case) for case in cases] for kind, cases in inputs.items()}


def _judge_phi(inputs, seen):
    def judge(case, got):
        networks, deadline, flash = case.values()
        called, right = f"choose_phi(networks, {deadline}, {flash})", _choice(**case)
        if right is None:
            return Case(called, got, None, ((0, "no network fits: return None, not 0."),))
        mistakes = [(choose(**case), _TEXTS[name]) for name, choose in _MISTAKES.items()]
        for place, network in enumerate(networks):
            phi, slow = network["phi"], max(network["milliseconds"])
            if slow > deadline:
                mistakes += [(phi, f"with φ = {phi} a run takes {slow} ms.")]
            elif network["megabytes"] > flash:
                mistakes += [(phi, f"with φ = {phi} it has {network['megabytes']} MB.")]
            else:
                mistakes += [(phi, f"φ = {phi} fits, but a larger one does, too.")]
            if phi == right:
                mistakes += [(network, "that is the whole network; return its φ.")]
                mistakes += [(place, "that is the network's place in the list; return its φ.")]
        return Case(called, got, right, tuple(mistakes))

    def cases(kind):
        return [judge(case, got) for case, got in zip(inputs[kind], seen[kind], strict=True)]

    return [
        part("the two limits", 1, cases("limits")),
        part("the slowest run, and no network that fits", 1, cases("slowest")),
    ]


EXERCISES = [
    Exercise(
        "compound_coefficients",
        LESSON,
        1,
        _compound_inputs,
        _probe_compound,
        _judge_compound,
        twin="utils.efficientnet:compound_coefficients",
    ),
    Exercise(
        "round_filters",
        LESSON,
        1.5,
        _filters_inputs,
        _probe_pairs,
        _judge_filters,
        twin="utils.efficientnet:round_filters",
    ),
    Exercise(
        "round_repeats",
        LESSON,
        0.5,
        _repeats_inputs,
        _probe_pairs,
        _judge_repeats,
        twin="utils.efficientnet:round_repeats",
    ),
    Exercise(
        "mbconv",
        LESSON,
        3,
        _mbconv_inputs,
        _probe_mbconv,
        _judge_mbconv,
        twin="utils.efficientnet:MBConv",
        seconds=30,
    ),
    Exercise(
        "scaled_blocks",
        LESSON,
        2,
        _blocks_inputs,
        _probe_blocks,
        _judge_blocks,
        forbids=("scaled_rows",),
        allows=("efficientnet", "round_filters", "round_repeats"),
        twin="utils.efficientnet:scaled_rows",
    ),
    Exercise("choose_phi", LESSON, 2, _phi_inputs, _probe_phi, _judge_phi),
]
