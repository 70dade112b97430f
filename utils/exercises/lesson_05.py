"""The exercises of lesson 05: Fire module, grouped MACs, channel shuffle, its unit, and towers."""

import itertools
import re

import numpy as np

from utils.course.activations import relu, relu6
from utils.course.exercise import Case, Exercise, first_problem, graded, mismatch, part, same
from utils.course.watch import convolutions, no_tensor, norm_after, observe, step

LESSON = "05_small_nets"


def _shuffled(x, groups):
    cut = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return np.swapaxes(cut, -1, -2).reshape(x.shape)


def _step(layer, inputs, outputs):
    if type(layer).__module__.startswith("utils."):
        return {"kind": "borrowed", "name": type(layer).__name__}
    return step(layer, inputs, outputs)


def _look(box, answer, case):
    """Observe the learner's layer, which must not be the course's own inside."""
    # Large enough that many numbers pass 6, so that ReLU and ReLU6 differ.
    seen = observe(
        box,
        lambda: answer(*case["arguments"]),
        case["x"],
        case["seed"],
        gain=3,
        describe=_step,
    )
    borrowed = [each["name"] for each in seen["steps"] if each["kind"] == "borrowed"]
    if borrowed:
        said = f"uses the course's own `{borrowed[-1]}`; write this part yourself."
        return {"problem": said, "steps": []}
    return seen | {"problem": f"stopped with {seen['error']}"} if "error" in seen else seen


# fire_module --------------------------------------------------------------------------------


def _fire_inputs(rng):
    # All widths differ, so that each kernel is known by its shape.
    channels, squeeze, one, three = (int(v) for v in rng.permutation(np.arange(3, 10))[:4])
    return {
        "arguments": (squeeze, one, three),
        # One side is odd and the sides differ, so that swapped axes show.
        "x": rng.normal(size=(2, 5, 6, channels)).astype("float32"),
        "seed": int(rng.integers(1_000_000)),
    }


def _probe_fire(box, answer, inputs):
    return _look(box, answer, inputs)


def _judge_fire(inputs, seen):
    (squeeze, one, three), x = inputs["arguments"], inputs["x"]
    call = f"FireModule({squeeze}, {one}, {three}) on {x.shape[1:]}"
    names, points = ("the weights", "the shape", "the values"), (0.5, 0.5, 1.0)
    if "problem" in seen:
        problems = [
            f"{call} {seen['problem']}{_fire_hint(inputs, seen)}",
            *2 * ["Not looked at: see above."],
        ]
    else:
        weights = "the layers are made anew at each call; make them in __init__ or build."
        if not seen["anew"]:
            weights = _fire_weights(inputs, seen["weights"])
        y, expected = seen["value"], (*x.shape[:-1], one + three)
        problems = [weights if isinstance(weights, str) else "", "", ""]
        problems[1] = no_tensor(y, "layer")
        if not problems[1] and y.shape != expected:
            along = y.shape[:-1] == x.shape[:-1] and y.shape[-1] not in (one, three)
            why = f"{one} filters of 1×1 and {three} of 3×3, side by side."
            why = why if along else "join along the channels."
            problems[1] = f"expected shape {expected}, got {y.shape}: {why}"
        problems[2] = "Not looked at: see above."
        if not any(problems[:2]):
            problems[2] = _fire_values(x, y, weights)
        problems = [
            f"{call}: {problem}" if problem and not problem.startswith("Not") else problem
            for problem in problems
        ]
    return [graded(*each) for each in zip(names, points, problems, strict=True)]


def _shapes(problem):
    """The shapes of pictures that the message of an error names."""
    found = re.findall(r"[\[(]((?:\d+, ?){2,}\d+)[\])]", problem)
    return [tuple(int(side) for side in each.split(",")) for each in found]


def _fire_hint(inputs, seen):
    """What helps where two shapes do not fit, or ""."""
    _, one, three = inputs["arguments"]
    if "oncat" in seen["problem"]:
        return (
            " Both expansions must keep the picture's size (which padding, which stride?), and "
            "they are joined along the channels, the last axis."
        )
    added = {shape[-1] for shape in _shapes(seen["problem"])} == {one, three}
    if added and "ncompatible" in seen["problem"]:
        return " The expansions are concatenated, not added."
    return ""


def _fire_weights(inputs, weights):
    """The three kernels and biases, or what is wrong with them."""
    (squeeze, one, three), channels = inputs["arguments"], inputs["x"].shape[-1]
    # A dense layer on the last axis is a 1×1 convolution.
    kernels = [w[None, None] if w.ndim == 2 else w for w in weights if w.ndim > 1]
    shapes = [kernel.shape for kernel in kernels]
    if not shapes:
        return "the layer has no kernels: make the convolutions in __init__ or build."
    wanted = [(1, 1, channels, squeeze), (1, 1, squeeze, one), (3, 3, squeeze, three)]
    if (3, 3, channels, three) in shapes or (1, 1, channels, one) in shapes:
        return "the expansions read what the squeeze wrote, not the module's input."
    if (3, 3, one, three) in shapes:
        return "the 3×3 filters read the squeezed channels, side by side with the 1×1 filters."
    if (1, 1, squeeze, three) in shapes and (3, 3, squeeze, one) in shapes:
        return f"expected {one} filters of 1×1 and {three} of 3×3; you have them the other way."
    for shape in wanted:
        if shape not in shapes:
            return f"no kernel of shape {shape}; yours are {', '.join(map(str, shapes))}."
    if len(shapes) != 3:
        return f"expected three kernels, found {len(shapes)}."
    biases = {len(w): w for w in weights if w.ndim == 1}
    if sorted(biases) != sorted((squeeze, one, three)) or len(weights) != 6:
        return "each of the three convolutions has a bias, and nothing else has weights."
    ordered = [kernels[shapes.index(shape)] for shape in wanted]
    return [(kernel, biases[kernel.shape[-1]]) for kernel in ordered]


def _fire_values(x, y, weights):
    (reduce, b), (one, b1), (three, b3) = weights
    height, width = x.shape[1:3]

    def expanded(squeezed, relu_1x1=relu, relu_3x3=relu, swap=False):
        padded = np.pad(squeezed, ((0, 0), (1, 1), (1, 1), (0, 0)))
        wide = b3 + sum(
            padded[:, i : i + height, j : j + width] @ three[i, j]
            for i in range(3)
            for j in range(3)
        )
        both = [relu_1x1(squeezed @ one[0, 0] + b1), relu_3x3(wide)]
        return np.concatenate(both[::-1] if swap else both, axis=-1)

    def same_as_is(z):
        return z

    z = x @ reduce[0, 0] + b
    if same(y, expanded(relu(z)), 1e-3):
        return ""
    mistakes = (
        (expanded(z), "the ReLU after the squeeze is missing."),
        (expanded(relu(z), same_as_is, same_as_is), "no ReLU follows the two expansions."),
        (expanded(relu(z), same_as_is), "no ReLU follows the 1×1 expansion."),
        (expanded(relu(z), relu, same_as_is), "no ReLU follows the 3×3 expansion."),
        (expanded(relu(z), swap=True), "the 3×3 filters come first; put the 1×1 filters first."),
        *(
            (expanded(a(z), b, c), "that is ReLU6, which also cuts at 6; a Fire module has ReLU.")
            for a, b, c in itertools.product((relu, relu6), repeat=3)
        ),
        (expanded(z, same_as_is, same_as_is), "there is no ReLU at all; each convolution has one."),
    )
    for wrong, message in mistakes:
        if same(y, wrong, 1e-3):
            return message
    return "the values are not those of ReLU after each of the three convolutions."


# group_conv_macs ----------------------------------------------------------------------------


def _macs_inputs(rng):
    def case(kernel_size):
        # Not 2, and neither of the kernels' sides, so that wrong factors are told apart.
        groups = int(rng.choice([4, 6]))
        channels, filters = (groups * int(v) for v in rng.permutation(np.arange(2, 9))[:2])
        height, width = (int(v) for v in rng.permutation(np.arange(5, 15))[:2])
        return height, width, channels, filters, kernel_size, groups

    height, width, channels, filters, *_ = case(1)
    return {
        "pointwise": [case(1), case(1)],
        "larger": [case(3), case(5), (height, width, channels, filters, 3, 1)],
    }


def _probe_macs(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _judge_macs(inputs, seen):
    def cases(kind):
        for (h, w, c, f, k, g), got in zip(inputs[kind], seen[kind], strict=True):
            right = h * w * k * k * c * f // g
            mistakes = (
                (right * g, "that is the cost without groups; each filter sees C/groups channels."),
                (
                    right / g,
                    "you divide by the groups twice: a filter sees C/groups channels, but there "
                    "are still F filters in all.",
                ),
                (right / k, "the kernel has kernel_size² positions."),
                (right / k**2, "the kernel has kernel_size² positions."),
                (right / (h * w), "those are the weights; each is used at every position."),
                (2 * right, "a multiply-add is one, not two."),
                (right + h * w * f, "biases cost no multiply-adds here."),
                (
                    right // (h * w) * (h - k + 1) * (w - k + 1),
                    'that is without padding; with "same" all H·W positions remain.',
                ),
            )
            # A mistake may cost nothing here, such as a forgotten k² at k = 1.
            mistakes = tuple((value, why) for value, why in mistakes if value != right)
            yield Case(f"group_conv_macs({h}, {w}, {c}, {f}, {k}, {g})", got, right, mistakes)

    return [
        part("1×1", 0.5, cases("pointwise")),
        part("larger kernels", 0.5, cases("larger")),
    ]


# channel_shuffle ----------------------------------------------------------------------------


def _shuffle_inputs(rng):
    def case(*shape):
        groups, size = (int(v) for v in rng.permutation(np.arange(2, 7))[:2])
        return rng.permutation(int(np.prod(shape)) * groups * size).reshape(*shape, -1), groups

    return {"row": [(np.arange(12), 3), case()], "images": [case(2, 3, 4), case(1, 5, 3)]}


def _probe_shuffle(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _judge_shuffle(inputs, seen):
    def cases(kind):
        for (x, groups), got in zip(inputs[kind], seen[kind], strict=True):
            size = x.shape[-1] // groups
            flat = _shuffled(x.reshape(-1), groups).reshape(x.shape)
            mistakes = [
                (x, "all channels are where they were: a table has to be turned in between."),
                (
                    _shuffled(x, size),
                    f"you wrote {size} rows; each of the {groups} groups is a row, so there are "
                    f"{groups}.",
                ),
                (np.flip(x, -1), "that reverses the channels."),
            ]
            if x.ndim > 1:
                mistakes.append((flat, "you mix pixels; only the last axis is to be cut."))
                cut = x.reshape(*x.shape[:-1], groups, size)
                mistakes.append(
                    (cut.T.reshape(x.shape), "`.T` turns all axes; swap the last two only.")
                )
            call = f"channel_shuffle(x of shape {x.shape}, {groups})"
            # Twelve channels in a row are short enough to be shown.
            yield Case(call, got, _shuffled(x, groups), tuple(mistakes))

    def listed(cases):
        """A right list is right, too."""
        for case in cases:
            seen = case.seen
            if "value" in seen and isinstance(seen["value"], list | tuple):
                seen = {"value": np.asarray(seen["value"])}
            yield Case(case.call, seen, case.expected, case.mistakes)

    return [
        part("channels in a row", 1, listed(cases("row"))),
        part("images", 1, listed(cases("images"))),
    ]


# shuffle_unit -------------------------------------------------------------------------------


def _unit_inputs(rng):
    size = (6, 9) if rng.integers(2) else (7, 8)

    def case(strides, groups):
        # The middle has 4g channels, so that cutting it into 4 is not the same as into g.
        filters = 16 * groups
        channels = filters if strides == 1 else filters - 3 * groups
        return {
            "arguments": (filters, strides, groups),
            "x": rng.normal(size=(2, *size, channels)).astype("float32"),
            "seed": int(rng.integers(1_000_000)),
        }

    return [case(1 + n, int(groups)) for n, groups in enumerate(rng.permutation([2, 3]))]


def _probe_unit(box, answer, inputs):
    return [_look(box, answer, case) for case in inputs]


def _judge_unit(inputs, seen):
    branch, shuffle, ends = [], [], []
    # What a call did until it stopped says enough only where the other one ran to its end.
    ran = any("problem" not in got for got in seen)
    for case, got in zip(inputs, seen, strict=True):
        (filters, strides, groups), x = case["arguments"], case["x"]
        call = f"ShuffleUnit({filters}, strides={strides}, groups={groups}) on {x.shape[1:]}"
        if "problem" in got:
            problems = [f"{call} {got['problem']}{_unit_hint(got['problem'])}"] * 3
            if ran and _reached_the_end(got["steps"]):
                steps = [s and f"{call}: {s}" for s in _steps_problems(case, got["steps"])[:2]]
                problems = [*steps, problems[2]]
        else:
            problems = [problem and f"{call}: {problem}" for problem in _unit_problems(case, got)]
        branch.append(problems[0])
        shuffle.append(problems[1])
        ends.append(problems[2])
    return [
        graded("the three convolutions", 1, first_problem(*branch)),
        graded("the shuffle", 0.5, first_problem(*shuffle)),
        graded("stride 1", 0.75, ends[0]),
        graded("stride 2", 0.75, ends[1]),
    ]


def _unit_hint(problem):
    """What helps where two paths of different sides are added or joined, or ""."""
    joined = any(each in problem for each in ("oncat", "ncompatible"))
    if not joined or len({shape[-3:-1] for shape in _shapes(problem)}) < 2:
        return ""
    return " Both paths must arrive with the same sides: which padding, which stride?"


def _reached_the_end(steps):
    """Tell whether a call got past the last norm, so that it stopped where the paths meet."""
    convs = convolutions(steps)
    return len(convs) == 3 and all(norm_after(steps, conv["outputs"]) for conv in convs)


_LATER = "the three convolutions cannot be found; get that part right first."


def _unit_problems(case, got):
    """What is wrong with the convolutions, with the shuffle, and with the end of the unit."""
    if got["anew"]:
        again = "the layers are made anew at each call; make them in __init__ or build."
        return [again] * 3
    branch, shuffle, z = _steps_problems(case, got["steps"])
    return [branch, shuffle, _LATER if z is None else _end_problem(case, got, z)]


def _steps_problems(case, steps):
    """What is wrong with the convolutions and with the shuffle, and what the path ends in."""
    (filters, strides, groups), x = case["arguments"], case["x"]
    middle, convs = filters // 4, convolutions(steps)
    if [conv["kernel"] for conv in convs] != [1, 3, 1]:
        found = ", ".join("×".join(map(str, conv["kernel_size"])) for conv in convs) or "none"
        said = f"expected convolutions of 1×1, 3×3 and 1×1 from keras.layers, found {found}."
        return said, _LATER, None
    first, depthwise, last = convs
    norms = [norm_after(steps, conv["outputs"]) for conv in convs]
    if None in norms:
        which = ("first 1×1", "3×3", "last 1×1")[norms.index(None)]
        return f"no batch norm follows the {which} convolution directly.", _LATER, None
    own = len({norm["layer"] for norm in norms}) == 3
    norms = [norm["outputs"] for norm in norms]
    added = filters if strides == 1 else filters - x.shape[-1]
    problem = ""
    wanted = ((first, groups, middle, 1), (depthwise, middle, middle, strides))
    wanted += ((last, groups, added, 1),)
    for conv, its_groups, its_filters, its_strides in wanted:
        which = "first 1×1" if conv is first else "last 1×1" if conv is last else "3×3"
        if conv["groups"] != its_groups:
            problem = f"the {which} convolution has {conv['groups']} groups; expected {its_groups}."
        elif conv["filters"] != its_filters:
            more = "" if conv is not last or strides == 1 else f" = {filters} − {x.shape[-1]}"
            problem = (
                f"the {which} convolution has {conv['filters']} filters; "
                f"expected {its_filters}{more}."
            )
        elif conv["strides"] != its_strides:
            problem = f"the {which} convolution has stride {conv['strides']}, not {its_strides}."
        elif min(conv["kernel_size"]) != conv["kernel"]:
            sides = "×".join(map(str, conv["kernel_size"]))
            problem = f"the {which} convolution has a kernel of {sides}."
        elif conv["dilation_rate"] != 1:
            problem = f"the {which} convolution reads positions side by side: no dilation."
        elif conv["activation"] != "linear":
            problem = "ReLU comes after batch norm, not inside the convolution."
        if problem:
            break
    if not problem and not own:
        problem = "each convolution has a batch norm of its own; one of yours serves two."
    if not problem and not same(first["inputs"], x):
        problem = "the first convolution sees the unit's input; something stands before it."
    before, after = norms[0], relu(norms[0])
    found = depthwise["inputs"]
    plains = (after, before, relu6(before))
    orders = [_shuffled(each, groups) for each in plains]
    if not problem and any(same(found, each) for each in (before, orders[1])):
        problem = "the ReLU after the first batch norm is missing."
    right = any(same(found, each) for each in (after, orders[0]))
    if not problem and not right and any(same(found, each[2]) for each in (plains, orders)):
        problem = "that is ReLU6 after the first batch norm; the unit has ReLU."
    if not problem and same(last["inputs"], relu(norms[1])):
        problem = "a ReLU follows the depthwise convolution; there is none."
    if not problem and not same(last["inputs"], norms[1]):
        problem = "the last convolution does not read the batch norm of the depthwise one."
    return problem, _shuffle_problem(found, orders, plains, groups), norms[2]


def _shuffle_problem(found, orders, plains, groups):
    if any(same(found, each) for each in orders):
        return ""
    if any(same(found, each) for each in plains):
        return "the channels reach the depthwise convolution unshuffled."
    size = plains[0].shape[-1] // groups
    if any(same(found, _shuffled(each, size)) for each in plains):
        return f"the shuffle cuts the channels into {size} groups; expected {groups}."
    return "the depthwise convolution does not read the shuffled output of the first one."


def _pooled(x, of):
    """3×3 pooling with stride 2, padded as TensorFlow does with "same"."""
    sides = [-(-side // 2) for side in x.shape[1:3]]
    missing = [
        max(2 * (out - 1) + 3 - side, 0) for out, side in zip(sides, x.shape[1:3], strict=True)
    ]
    border = [(m // 2, m - m // 2) for m in missing]
    padded = np.pad(x, ((0, 0), *border, (0, 0)), constant_values=np.nan)
    rows, columns = (2 * side - 1 for side in sides)
    windows = [padded[:, i : i + rows : 2, j : j + columns : 2] for i in range(3) for j in range(3)]
    return of(np.stack(windows), axis=0)


_CUT = "that is ReLU6 at the end, which also cuts at 6; the unit has ReLU."


def _end_problem(case, got, z):
    (filters, strides, _), x, y = case["arguments"], case["x"], got["value"]
    nothing = no_tensor(y, "unit")
    if nothing:
        return nothing
    shape = (len(x), *(-(-side // strides) for side in x.shape[1:3]), filters)
    if y.shape != shape:
        return f"expected shape {shape}, got {y.shape}."
    if isinstance(got["alone"], np.ndarray) and not same(got["alone"], y[:1], 1e-3):
        return (
            "an image's output depends on the other images of its batch: "
            "leave batch norm's `training` to Keras."
        )
    if strides == 1:
        if z.shape != x.shape:
            return "the branch and the input have different shapes, so they cannot be added."
        mistakes = (
            (x + z, "no ReLU follows the addition."),
            (x + relu(z), "you add after the ReLU; the addition comes before it."),
            (relu(x + relu(z)), "a ReLU before the addition is too many; one follows it."),
            (relu(z), "the input is not added."),
            (z, "the input is not added."),
            (relu6(x + z), _CUT),
        )
        right = relu(x + z)
    else:
        if z.shape[:-1] != shape[:-1]:
            return "the branch does not halve the sides."
        pool, most = _pooled(x, np.nanmean), _pooled(x, np.nanmax)
        if z.shape[-1] + x.shape[-1] != filters:
            return "what the branch writes and the input together must have all channels."

        def both(*parts):
            return np.concatenate(parts, axis=-1)

        mistakes = (
            (both(pool, z), "no ReLU follows the concatenation."),
            (relu(both(z, pool)), "the pooled input comes first, then the branch."),
            (relu(both(most, z)), "you take the maximum; the unit takes the average."),
            (relu(both(x[:, ::2, ::2], z)), "you take every second pixel; average 3×3 of them."),
            (both(pool, relu(z)), "the ReLU covers both parts, the pooled input as well."),
            (relu6(both(pool, z)), _CUT),
        )
        right = relu(both(pool, z))
    if same(y, right, 1e-3):
        return ""
    for wrong, message in mistakes:
        if same(y, wrong, 1e-3):
            return message
    return "the end is not ReLU(input and branch)."


# fewest_towers ------------------------------------------------------------------------------


def _tower_macs(height, width, channels, filters, towers):
    return height * width * (channels * filters + 9 * filters * filters // towers)


def _divisors(filters):
    return [n for n in range(1, filters + 1) if filters % n == 0]


def _tower_inputs(rng):
    def case(kind, exact=False):
        filters = int(rng.choice([24, 30, 36, 42, 60]))
        # Few input channels, so that the 1×1 convolution never decides alone.
        height, width, channels = (int(v) for v in rng.permutation(np.arange(6, 16))[:3])
        divisors = _divisors(filters)
        position = {"one": 0, "all": len(divisors) - 1}.get(kind)
        if position is None:
            # Not a power of two, and with numbers before it that do not divide.
            chosen = [
                p
                for p, n in enumerate(divisors)
                if n & (n - 1) and n < filters / 2 and divisors[p - 1] < n - 1
            ]
            position = int(rng.choice(chosen))
        macs = _tower_macs(height, width, channels, filters, divisors[position])
        if kind == "one":
            room = int(rng.integers(1, 1000))
        else:
            # Of the way to the next divisor below, which costs more.
            more = _tower_macs(height, width, channels, filters, divisors[position - 1]) - macs
            room = int(more * rng.uniform(0.5, 0.9))
        # "Within" a budget includes all of it.
        return height, width, channels, filters, macs + (0 if exact else room)

    return {
        "ends": [case("all"), case("one", exact=True)],
        "between": [case("between"), case("between"), case("between", exact=True)],
    }


def _probe_towers(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _tower_mistake(inputs, seen):
    """The mistake that explains the answers of all cases, or what is wrong with any of them."""

    def without(h, w, c, f, n):
        return h * w * 9 * f * f // n

    def squared(h, w, c, f, n):
        return h * w * (c * f + 9 * f * f // n**2)

    mistakes = (
        (without, "the 1×1 convolution before the towers counts as well, and in full."),
        (squared, "that counts one tower; there are as many as you cut."),
    )
    answers = [
        (case, got.get("value"))
        for kind in inputs
        for case, got in zip(inputs[kind], seen[kind], strict=True)
    ]
    for macs, why in mistakes:
        if all(
            same(value, next((n for n in _divisors(f) if macs(h, w, c, f, n) <= budget), None))
            for (h, w, c, f, budget), value in answers
        ):
            return why
    return "that is over the budget."


def _judge_towers(inputs, seen):
    def problem(case, got):
        h, w, c, f, budget = case
        call = f"fewest_towers({h}, {w}, {c}, {f}, {budget:,})"
        fitting = [n for n in _divisors(f) if _tower_macs(h, w, c, f, n) <= budget]
        value = got.get("value")
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        number = isinstance(value, int | float) and not isinstance(value, bool)
        below = [n for n in fitting if _tower_macs(h, w, c, f, n) < budget]
        if fitting[0] != (below or [None])[0] and value == (below or [None])[0]:
            least = _tower_macs(h, w, c, f, fitting[0])
            return (
                f"{call}: towers={fitting[0]} takes {least:,} multiply-adds, which is the budget and "
                "therefore still within it."
            )
        if "error" in got or not number or value == fitting[0]:
            return mismatch(Case(call, got, fitting[0]))
        if value not in _divisors(f):
            return f"{call}: {value:g} towers do not cut {f} channels into equal parts."
        macs = _tower_macs(h, w, c, f, int(value))
        if value in fitting:
            return (
                f"{call}: {value:g} towers fit, but so do {fitting[0]}: {macs:,} and "
                f"{_tower_macs(h, w, c, f, fitting[0]):,} multiply-adds."
            )
        return f"{call}: {value:g} towers take {macs:,} multiply-adds; {why}"

    why = _tower_mistake(inputs, seen)

    problems = {
        kind: first_problem(
            *(problem(c, got) for c, got in zip(inputs[kind], seen[kind], strict=True))
        )
        for kind in ("ends", "between")
    }
    return [
        graded("one tower, and a tower for each channel", 1, problems["ends"]),
        graded("towers in between", 1, problems["between"]),
    ]


EXERCISES = [
    Exercise(
        "fire_module",
        LESSON,
        2,
        _fire_inputs,
        _probe_fire,
        _judge_fire,
        given=("__init__",),
        twin="utils.squeezenet:FireModule",
    ),
    Exercise(
        "group_conv_macs",
        LESSON,
        1,
        _macs_inputs,
        _probe_macs,
        _judge_macs,
    ),
    Exercise(
        "channel_shuffle",
        LESSON,
        2,
        _shuffle_inputs,
        _probe_shuffle,
        _judge_shuffle,
        forbids=("keras", "tensorflow", "tf"),
        twin="utils.shufflenet:channel_shuffle",
    ),
    Exercise(
        "shuffle_unit",
        LESSON,
        3,
        _unit_inputs,
        _probe_unit,
        _judge_unit,
        given=("__init__",),
        allows=("shufflenet",),  # for its channel_shuffle
        twin="utils.shufflenet:ShuffleUnit",
    ),
    Exercise("fewest_towers", LESSON, 2, _tower_inputs, _probe_towers, _judge_towers),
]
