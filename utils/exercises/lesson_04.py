"""The exercises of lesson 04: lost information, the inverted residual, its memory, a small V2."""

import math

import numpy as np

from utils.course.activations import relu, relu6
from utils.course.exercise import Case, Exercise, first_problem, graded, part, same, say
from utils.course.plain import plain
from utils.course.watch import convolutions, no_tensor, norm_after, observe, randomise, watch

LESSON = "04_mobilenet_v2"


# relu_information_loss ----------------------------------------------------------------------


def _loss_inputs(rng):
    def case(dimensions):
        x = rng.normal(size=(int(rng.integers(60, 90)), 2)) * rng.uniform(1.5, 4)
        return x, rng.normal(size=(2, dimensions))

    # In many dimensions nearly nothing is lost, so few tell wrong answers apart.
    return [case(dimensions) for dimensions in (2, 3, 4, 6)]


def _probe_loss(box, answer, inputs):
    return [box.call(answer, x, T) for x, T in inputs]


def _back(y, x):
    return y @ np.linalg.lstsq(y, x, rcond=None)[0]


_LOSS_PARTS = ("share of zeros", "information lost")


def _judge_loss(inputs, seen):
    zeros, losses = [], []
    for (x, T), got in zip(inputs, seen, strict=True):
        call = f"relu_information_loss(x, T) with {T.shape[1]} dimensions"
        if "value" in got:
            value = got["value"]
            if isinstance(value, np.ndarray):
                value = value.tolist()
            if not isinstance(value, tuple | list) or len(value) != 2:
                said = "nothing" if value is None else say(value)
                problem = f"{call} returned {said}; expected two numbers."
                return [graded(name, 1, problem) for name in _LOSS_PARTS]
            parts = [{"value": each} for each in value]
        else:
            parts = [got, got]
        z = x @ T
        y = np.maximum(z, 0)
        total = float(np.sum(x**2))

        def share(back, x=x, total=total):
            return float(np.sum((x - back) ** 2)) / total

        loss = share(_back(y, x))
        active = float(np.mean(y > 0))
        lost = float(np.mean(np.all(y == 0, axis=1)))
        zeros.append(
            Case(
                f"{call}, the first number",
                parts[0],
                float(np.mean(y == 0)),
                (
                    (active, "that is the share of numbers that stay; return that of the zeros."),
                    (lost, "that counts points of which nothing is left; count single numbers."),
                    (0.0, "there are zeros after ReLU; did you look at x @ T before it?"),
                    (float(np.sum(y == 0)), "that is a count; divide by how many numbers y has."),
                    (loss, "that is the information lost; the share of zeros comes first."),
                    (100 * float(np.mean(y == 0)), "a share lies between 0 and 1."),
                ),
            )
        )
        losses.append(
            Case(
                f"{call}, the second number",
                parts[1],
                loss,
                (
                    (share(_back(z, x)), "without ReLU nothing is lost; map relu(x @ T) back."),
                    (
                        share(y @ np.linalg.pinv(T)),
                        "you go back by the inverse of T, which knows nothing of the ReLU; solve "
                        "for the A that maps y to x best, `np.linalg.lstsq(y, x)`.",
                    ),
                    (1 - loss, "that is the share that survives; return the share that is lost."),
                    (100 * loss, "a share lies between 0 and 1."),
                    (share(_back(relu6(z), x)), "that is ReLU6; here ReLU cuts at 0 only."),
                    (loss**0.5, "that is a ratio of lengths; take squares, and no root."),
                    (
                        loss * total / x.size,
                        "that depends on the scale of x; divide by the sum of x².",
                    ),
                    (
                        loss * total / len(x),
                        "that depends on the scale of x; divide by the sum of x².",
                    ),
                    (loss * total, "that is a sum of squares; divide it by the sum of x²."),
                    (
                        float(np.sum((y - _back(x, y)) ** 2) / np.sum(y**2)),
                        "that maps x to y; the way back is from y to x.",
                    ),
                ),
            )
        )
    return [part(_LOSS_PARTS[0], 1, zeros), part(_LOSS_PARTS[1], 1, losses, 1e-3)]


# make_divisible -----------------------------------------------------------------------------


def _divisible(channels, divisor):
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def _divisible_inputs(rng):
    plain_cases, tenth, least = [], [], []
    while len(plain_cases) < 6 or len(tenth) < 4:
        divisor = int(rng.choice([4, 8, 16]))
        channels = float(np.round(rng.uniform(1, 200), 2))
        rest = channels % divisor
        nearest = int(channels + divisor / 2) // divisor * divisor
        if nearest < divisor:
            continue
        if nearest < 0.9 * channels:
            tenth.append((channels, divisor))
        elif rest not in (0, divisor / 2):
            plain_cases.append((channels, divisor))
    for divisor in (8, 16):
        least.append((float(np.round(rng.uniform(0.1, 0.45) * divisor, 2)), divisor))
    # First multiples of 8, so that an answer with the wrong rule is told from one that knows 8 only.
    multiple = 8 * int(rng.integers(20, 30))
    off = [float(np.round(rng.uniform(1, 3.5), 2)) for _ in range(2)]
    # Two ties in a row, since Python's `round` takes every other one down. 16 is less than 17.7 by
    # a little less than a tenth of 17.7, and by more than a tenth of 16.
    eights = [multiple - off[0], multiple + off[1], multiple + 4, multiple + 12, multiple, 17.7]
    # On both sides of a tie, so that another number than half the divisor shows.
    near = [
        (divisor * int(rng.integers(10, 13)) + divisor / 2 + side, divisor)
        for divisor in (4, 16)
        for side in (-0.25, 0.25)
    ]
    return {
        "nearest": [*((channels, 8) for channels in eights), *near, *plain_cases[:6]],
        # 8 is less than 8.95 by more than a tenth, and no less than `int(8.95)`.
        "tenth": [(18.0, 8), (36.0, 16), (8.95, 8), *tenth[:4]],
        "least": least,
    }


def _probe_divisible(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _judge_divisible(inputs, seen):
    def cases(*kinds):
        for kind in kinds:
            for (channels, divisor), got in zip(inputs[kind], seen[kind], strict=True):
                down = int(channels // divisor) * divisor
                up = math.ceil(channels / divisor) * divisor
                nearest = int(channels + divisor / 2) // divisor * divisor
                ratio = f"{nearest} is {1 - nearest / channels:.0%} less than {channels}"
                expected = _divisible(channels, divisor)
                mistakes = [(channels, "that is the count itself; round it.")]
                if kind == "tenth":
                    mistakes.append((nearest, f"{ratio}; take the next multiple."))
                if kind == "least":
                    mistakes.append((0, f"no layer has 0 channels; return at least {divisor}."))
                tie = channels % divisor == divisor / 2
                mistakes += [
                    (
                        down,
                        "this is a tie, and ties go up."
                        if tie
                        else "you round down; take the nearest multiple.",
                    ),
                    (up, "you round up; take the nearest multiple."),
                ]
                if divisor != 8:
                    only = f"round to multiples of {divisor}, not of 8."
                    if kind == "least":
                        only = f"return at least {divisor}."
                    mistakes.insert(0, (_divisible(channels, 8), only))
                yield Case(f"make_divisible({channels}, {divisor})", got, expected, tuple(mistakes))

    return [
        part("the nearest multiple", 0.5, cases("nearest", "least")),
        part("never down by more than a tenth", 0.5, cases("tenth")),
    ]


# inverted_residual --------------------------------------------------------------------------


def _block_inputs(rng):
    def case(channels, filters, strides, expansion):
        # One side is odd, so that rounding shows; the sides differ, so that swapped axes do.
        return {
            "x": rng.normal(size=(2, 9, 6, channels)).astype("float32"),
            "filters": filters,
            "strides": strides,
            "expansion": expansion,
            "seed": int(rng.integers(1_000_000)),
        }

    few, more = int(rng.integers(3, 6)), int(rng.integers(7, 10))
    factor = int(rng.integers(3, 6))
    return [
        case(few, few, 1, factor),
        case(few, more, 1, 6),
        case(few, few, 2, factor),
        case(more, few, 1, 1),
        case(more, more, 1, 1),
    ]


def _probe_block(box, answer, inputs):
    return [_probe_case(box, answer, **case) for case in inputs]


def _probe_case(box, answer, x, filters, strides, expansion, seed):
    # Large enough that many numbers pass 6, so that ReLU and ReLU6 differ.
    return observe(
        box, lambda: answer(filters, strides=strides, expansion=expansion), x, seed, gain=3
    )


_PARTS = ("expand", "depthwise", "linear projection", "shortcut")


def _judge_block(inputs, seen):
    problems = {name: [] for name in _PARTS}
    # What a call did until it stopped says enough only where others ran to their end.
    ran = any("error" not in got for got in seen)
    for case, got in zip(inputs, seen, strict=True):
        height, width, channels = case["x"].shape[1:]
        arguments = f"{case['filters']}, strides={case['strides']}, expansion={case['expansion']}"
        call = f"InvertedResidual({arguments}) on ({height}, {width}, {channels}): "
        for name, problem in _block_problems(case, got, ran).items():
            problems[name].append(problem and call + problem)
    return [graded(name, 0.75, first_problem(*problems[name])) for name in _PARTS]


def _block_problems(case, got, ran):
    """One sentence for each part that is wrong in a case; parts that the case lacks are left out."""
    if "error" in got:
        why = _why_it_stopped(case, got)
        if ran and _reached_the_end(got["steps"]):
            return _steps_problems(case, got["steps"])[0] | {"shortcut": why}
        return dict.fromkeys(_PARTS, why)
    nothing = no_tensor(got["value"], "block")
    if nothing:
        return dict.fromkeys(_PARTS, nothing)
    if got["anew"]:
        return dict.fromkeys(_PARTS, "the layers are made anew at each call; make them in `build`.")
    problems, z = _steps_problems(case, got["steps"])
    if "shortcut" not in problems:
        problems["shortcut"] = _shortcut_problem(case, got, z)
    return problems


def _reached_the_end(steps):
    """Tell whether a call got past the projection's norm, so that it stopped at the shortcut."""
    convs = convolutions(steps)
    kinds = [step["kind"] for step in convs]
    if kinds.count("depthwise") != 1 or kinds[-1] != "conv":
        return False
    return all(norm_after(steps, step["outputs"]) for step in convs)


def _steps_problems(case, steps):
    """What is wrong with the three steps, and what the last one hands to the addition."""
    x = case["x"]
    channels, wide = x.shape[-1], case["expansion"] * x.shape[-1]
    convs = [step for step in steps if step["kind"] == "conv"]
    depthwise = [step for step in steps if step["kind"] == "depthwise"]
    if len(depthwise) != 1 or any(step["kernel"] != 1 for step in convs):
        spatial = [step for step in convs if step["kernel"] != 1]
        found = f"{len(depthwise)} DepthwiseConv2D"
        found += f" and {len(spatial)} Conv2D larger than 1×1" if spatial else ""
        said = f"expected one DepthwiseConv2D and else 1×1 Conv2D layers, found {found}."
        return dict.fromkeys(_PARTS, said), None
    place = next(n for n, step in enumerate(convolutions(steps)) if step["kind"] == "depthwise")
    before, after = convs[:place], convs[place:]
    problems = {}
    if case["expansion"] == 1:
        problems["expand"] = (
            "an expansion by 1 would change nothing; leave that convolution out." if before else ""
        )
    else:
        problems["expand"] = _expand_problem(x, before, wide, channels)
    problems["depthwise"] = _depthwise_problem(case, steps, before, depthwise[0])
    problems["linear projection"], z = _project_problem(case, steps, depthwise[0], after)
    return problems, z


def _why_it_stopped(case, got):
    """What the convolutions say about a call that stopped, or else the error."""
    depthwise = [step for step in got["steps"] if step["kind"] == "depthwise"]
    arrays = [step["outputs"] for step in depthwise if isinstance(step["outputs"], np.ndarray)]
    if arrays:
        problem = _positions_problem(case, arrays[0])
        if problem:
            return problem
    # Of all that can stop a call, the addition of unlike shapes comes last.
    projected = depthwise and convolutions(got["steps"])[-1]["kind"] == "conv"
    added = projected and "ncompatible" in got["error"]
    if added and case["strides"] > 1:
        return (
            f"stopped, since the shapes differ; there is no shortcut at strides={case['strides']}."
        )
    if added and case["filters"] != case["x"].shape[-1]:
        channels = case["x"].shape[-1]
        return (
            f"stopped; {channels} channels cannot be added to {case['filters']}: no shortcut here."
        )
    return f"stopped with {got['error']}"


_INSIDE = "ReLU comes after batch norm, not inside the convolution."
_TWICE = "each convolution has a batch norm of its own; one of yours serves two."


def _expand_problem(x, before, wide, channels):
    if len(before) != 1:
        return f"expected one 1×1 convolution before the depthwise one, found {len(before)}."
    expand = before[0]
    if expand["outputs"].shape[-1] != wide:
        got = expand["outputs"].shape[-1]
        factor = wide // channels
        return f"expected {factor}·{channels} = {wide} channels after the expansion, got {got}."
    if expand["strides"] != 1:
        return "the stride belongs to the depthwise convolution, not to the expansion."
    if not same(expand["inputs"], x):
        return "the expansion reads the block's input; something stands before it."
    return ""


def _depthwise_problem(case, steps, before, depthwise):
    x, strides = case["x"], case["strides"]
    if depthwise["kernel_size"] != (3, 3):
        return f"the depthwise kernel is 3×3, got {'×'.join(map(str, depthwise['kernel_size']))}."
    if depthwise["dilation_rate"] != 1:
        return "the depthwise kernel covers 3×3 positions side by side: no dilation."
    if depthwise["filters"] != depthwise["groups"]:
        return "one filter a channel: leave the depthwise convolution's depth_multiplier at 1."
    if depthwise["strides"] != strides:
        return f"the depthwise convolution has stride {strides}, got {depthwise['strides']}."
    problem = _positions_problem(case, depthwise["outputs"])
    if problem:
        return problem
    if before:
        if before[-1]["activation"] != "linear":
            return _INSIDE
        norm, own = (norm_after(steps, step["outputs"]) for step in (before[-1], depthwise))
        if norm is None:
            return "no batch norm follows the expansion directly."
        if own is not None and own["layer"] == norm["layer"]:
            return _TWICE
        normed = norm["outputs"]
        return _activated(depthwise["inputs"], normed, "batch norm of the expansion", "depthwise")
    if not same(depthwise["inputs"], x):
        return "without an expansion the depthwise convolution reads the block's input as it is."
    return ""


def _positions_problem(case, outputs):
    x, strides = case["x"], case["strides"]
    expected, got = tuple(-(-side // strides) for side in x.shape[1:3]), outputs.shape[1:3]
    if got == expected:
        return ""
    return f"expected {expected} positions after the depthwise convolution, got {got}."


def _activated(inputs, normed, after, reader):
    """What is wrong with the ReLU6 between a batch norm and the next convolution."""
    if same(inputs, relu6(normed)):
        return ""
    if same(inputs, normed):
        return f"ReLU6 is missing after the {after}."
    if same(inputs, np.maximum(normed, 0)):
        return f"that is ReLU after the {after}; ReLU6 also cuts at 6, `ops.relu6`."
    return f"the {reader} convolution should read the ReLU6 of the {after}."


def _project_problem(case, steps, depthwise, after):
    """What is wrong with the projection, and z, what it hands to the addition."""
    if len(after) != 1:
        return f"expected one 1×1 convolution after the depthwise one, found {len(after)}.", None
    project = after[0]
    last = norm_after(steps, project["outputs"])
    z = last and last["outputs"]
    if project["outputs"].shape[-1] != case["filters"]:
        got = project["outputs"].shape[-1]
        return f"the projection has {case['filters']} filters, got {got}.", z
    if project["strides"] != 1:
        return "the stride belongs to the depthwise convolution, not to the projection.", z
    if project["activation"] != "linear":
        return f"the projection is linear; yours has {project['activation']}.", z
    if depthwise["activation"] != "linear":
        return _INSIDE, z
    norm = norm_after(steps, depthwise["outputs"])
    if norm is None:
        return "no batch norm follows the depthwise convolution directly.", z
    problem = _activated(
        project["inputs"], norm["outputs"], "batch norm of the depthwise convolution", "projecting"
    )
    if not problem and z is None:
        problem = "no batch norm follows the projection directly."
    others = [
        norm_after(steps, step["outputs"]) for step in convolutions(steps) if step is not project
    ]
    if not problem and last["layer"] in [other["layer"] for other in others if other]:
        problem = _TWICE
    return problem, z


def _shortcut_problem(case, got, z):
    x, y = case["x"], got["value"]
    strides, filters = case["strides"], case["filters"]
    expected = (2, -(-x.shape[1] // strides), -(-x.shape[2] // strides), filters)
    if y.shape != expected:
        return f"expected shape {expected}, got {y.shape}."
    if z is None or z.shape != y.shape:
        return "the output of the projection cannot be found; get that part right first."
    alone = got["alone"]
    if isinstance(alone, np.ndarray) and not same(alone, y[:1], 1e-3):
        return (
            "an image's output depends on the other images of its batch: "
            "leave batch norm's `training` to Keras."
        )
    adds = strides == 1 and filters == x.shape[-1]
    if same(y, z + x if adds else z, 1e-3):
        return ""
    if adds and same(y, z):
        return "input and output have the same shape, so the input is added; yours is not."
    cut = (relu6, relu)
    for g in cut:
        if adds and same(y, g(z + x), 1e-3):
            return "an activation follows the addition; the narrow ends stay linear."
        if same(y, g(z) + x if adds else g(z), 1e-3):
            return "an activation follows the last batch norm; the bottleneck is linear."
    return (
        "the output is not the projection plus the input."
        if adds
        else ("without a shortcut the output is that of the last batch norm.")
    )


# block_peak_memory --------------------------------------------------------------------------


def _live(height, width, channels, filters, strides, expansion):
    """Elements that live at each step, with the name of the step."""
    before, after = height * width, -(-height // strides) * -(-width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and channels == filters else 0
    steps = {}
    if expansion == 1:
        steps["depthwise"] = before * channels + after * wide
    else:
        steps["expand"] = before * (channels + wide)
        steps["depthwise"] = (before + after) * wide + kept
    steps["project"] = after * (wide + filters) + kept
    return steps, kept, before * wide, after * wide


def _memory_inputs(rng):
    def case(strides, same_channels, expansion, every=1):
        height, width = (int(v) for v in rng.choice(np.arange(7, 33, every), 2, replace=False))
        channels = int(rng.integers(8, 33))
        other = channels + int(rng.integers(1, 9)) * int(rng.choice([-1, 1]))
        return (
            height,
            width,
            channels,
            channels if same_channels else max(4, other),
            strides,
            expansion,
        )

    return {
        # Two odd sides, so that rounding shows.
        "strided": [
            case(2, False, 6, every=2),
            case(2, True, int(rng.integers(3, 6))),
            case(3, False, 4),
        ],
        "added": [case(1, True, 6), case(1, True, int(rng.integers(3, 6))), case(1, False, 6)],
    }


def _probe_memory(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _judge_memory(inputs, seen):
    def cases(kind):
        for case, got in zip(inputs[kind], seen[kind], strict=True):
            steps, kept, wide_in, wide_out = _live(*case)
            peak = max(steps.values())
            mistakes = [
                (peak, "that counts numbers; a float32 has 4 bytes."),
                (
                    4 * sum(steps.values()),
                    "that is the sum over the steps; only the largest of them counts.",
                ),
                (4 * wide_in, "that is the wide tensor alone; its neighbours live as well."),
                (4 * max(wide_in, wide_out), "that is one tensor; count all that live at once."),
                (
                    4 * steps["expand"],
                    "that is the expansion; while the depthwise convolution runs, more lives.",
                ),
            ]
            if steps["expand"] == peak:
                less = "here the expansion needs more: its input and its output live."
                mistakes = [(4 * steps["depthwise"], less)]
            elif kept:
                mistakes.append(
                    (
                        4 * (peak - kept),
                        "with a shortcut the block's input lives until it is added.",
                    )
                )
            else:
                height, width, channels, _, strides, _ = case
                if strides > 1:
                    fewer = "behind the stride the wide tensor has fewer positions."
                    mistakes += [
                        (8 * wide_in, fewer),
                        (4 * (2 * wide_in + height * width * channels), fewer),
                    ]
                    floor = (height // strides) * (width // strides)
                    ceiling = -(-height // strides) * -(-width // strides)
                    if floor != ceiling:
                        rounded = wide_in + wide_out // ceiling * floor
                        mistakes.append(
                            (4 * rounded, 'padding "same" rounds up: ⌈H/s⌉ by ⌈W/s⌉ positions.')
                        )
                mistakes.append(
                    (
                        4 * (peak + height * width * channels),
                        "there is no shortcut here, so the input is free after the expansion.",
                    )
                )
            call = f"block_peak_memory({', '.join(map(str, case))})"
            yield Case(call, got, 4 * peak, tuple(mistakes))

    return [
        part("a block with a stride", 1, cases("strided")),
        part("a block with stride 1", 1, cases("added")),
    ]


# drone_mobilenet ----------------------------------------------------------------------------

# arXiv:1801.04381, Table 2: t, c, n, s.
_TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_ALPHAS = [step / 20 for step in range(4, 29)]  # 0.2 to 1.4


def _plan(shape, alpha):
    """The convolutions of the network in order: kind, output shape; and its peak in bytes."""
    height, width, channels = shape

    def halved(side, strides):
        return -(-side // strides)

    out = _divisible(32 * alpha, 8)
    peak = height * width * channels
    height, width = halved(height, 2), halved(width, 2)
    convs, blocks, peaks = [("conv", (height, width, out))], [], []
    peaks.append(peak + height * width * out)
    channels = out
    for t, c, n, s in _TABLE:
        for position in range(n):
            strides, filters = (s if position == 0 else 1), _divisible(c * alpha, 8)
            steps, kept, _, _ = _live(height, width, channels, filters, strides, t)
            peaks += [*steps.values(), 3 * kept]
            if t != 1:
                convs.append(("conv", (height, width, t * channels)))
            blocks.append((len(convs), bool(kept)))
            height, width = halved(height, strides), halved(width, strides)
            convs += [
                ("depthwise", (height, width, t * channels)),
                ("conv", (height, width, filters)),
            ]
            channels = filters
    last = _divisible(1280 * max(1, alpha), 8)
    convs.append(("conv", (height, width, last)))
    peaks.append(height * width * (channels + last))
    return {"convs": convs, "blocks": blocks, "peak": 4 * max(peaks)}


def _design_inputs(rng):
    # The peak of a block of 8 or 16 channels before its expansion; one width cannot serve both.
    cases = []
    # Square as the drone's 96×96, but not both of that size.
    sides = sorted(int(side) for side in rng.choice([96, 80, 112], 2, replace=False))
    for least, side in zip([0.8, 0.4], sides, strict=True):
        shape = (side, side, int(rng.choice([1, 3])))
        peaks = {alpha: _plan(shape, alpha)["peak"] for alpha in _ALPHAS}
        alpha = max(alpha for alpha in _ALPHAS if peaks[alpha] == peaks[least])
        above = min(peak for peak in peaks.values() if peak > peaks[alpha])
        cases.append(
            {
                "shape": shape,
                "classes": int(rng.integers(2, 12)),
                # The small one uses up its budget (and a narrower one would keep to it), the large
                # one has nearly room for more: so the memory at another size than its own shows.
                "max_bytes": above - int(rng.integers(1, 1000)) if cases else peaks[alpha],
                "alpha": alpha,
                "seed": int(rng.integers(1_000_000)),
                "images": rng.normal(size=(2, *shape)).astype("float32"),
            }
        )
    return [cases[place] for place in rng.permutation(2)]


def _probe_design(box, answer, inputs):
    return [_probe_network(box, answer, case) for case in inputs]


def _probe_network(box, answer, inputs):
    import keras

    made = box.run(answer, inputs["shape"], inputs["classes"], inputs["max_bytes"])
    if "error" in made:
        return made
    model = made["value"]
    if not isinstance(model, keras.Model):
        return {"no_model": say(plain(model))}
    kinds = {
        keras.layers.Conv2D: "conv",
        keras.layers.DepthwiseConv2D: "depthwise",
        keras.layers.Dense: "dense",
    }

    def describe(layer, _, outputs):
        kind = next((name for kind, name in kinds.items() if isinstance(layer, kind)), None)
        return kind and (kind, layer, outputs)

    # Weights that keep the signal's size: with those of a new layer it fades from block to block.
    randomised = box.run(randomise, model, inputs["seed"], gain=2)
    if "error" in randomised:
        return randomised
    called, layers = watch(lambda: box.call(model, inputs["images"][:1]), describe)
    if "error" in called:
        return {"outputs": called}
    # Without the kernels of the blocks that keep their shape, an image gets past these blocks
    # through shortcuts alone.
    plan = _plan(inputs["shape"], inputs["alpha"])
    depthwise = [layer for kind, layer, _ in layers if kind == "depthwise"]
    if len(depthwise) == len(plan["blocks"]):
        for layer, (_, kept) in zip(depthwise, plan["blocks"], strict=True):
            if kept:
                layer.kernel.assign(np.zeros(layer.kernel.shape))
    return {
        "convs": [
            (kind, outputs.shape[1:], max(layer.kernel_size))
            for kind, layer, outputs in layers
            if kind != "dense"
        ],
        "dense": [
            {
                "reads": layer.kernel.shape[0],
                "writes": outputs.shape[1:],
                "activation": getattr(layer.activation, "__name__", "a layer"),
                "last": same(outputs, called["value"]) or isinstance(called["value"], list | dict),
            }
            for kind, layer, outputs in layers
            if kind == "dense"
        ],
        "outputs": box.call(model, inputs["images"]),
    }


_DESIGN = ("17 blocks", "shortcuts", "within the budget", "as wide as it allows")


def _judge_design(inputs, seen):
    problems = [_network_problems(case, got) for case, got in zip(inputs, seen, strict=True)]
    return [
        graded(name, 0.5, first_problem(*of_part))
        for name, of_part in zip(_DESIGN, zip(*problems, strict=True), strict=True)
    ]


def _network_problems(inputs, seen):
    if "error" in seen:
        stopped = f"drone_mobilenet(…) stopped with {seen['error']}"
    elif "no_model" in seen:
        stopped = f"drone_mobilenet(…) returned {seen['no_model']}; expected a keras.Model."
    elif "error" in seen["outputs"]:
        stopped = f"the model, called on two images, stopped with {seen['outputs']['error']}"
    else:
        return _design_problems(inputs, seen)
    return [stopped] + ["Not looked at: see above."] * 3


def _design_problems(inputs, seen):
    """One sentence for each part, empty where all is well."""
    convs, outputs = seen["convs"], seen["outputs"]["value"]
    blocks = _blocks_problem(inputs, seen)
    alpha = _alpha_of(inputs["shape"], convs)
    shortcuts = ""
    if not alpha:
        shortcuts = "Not looked at: the layers must be those of the table first."
    elif not isinstance(outputs, np.ndarray) or len(outputs) != 2:
        shortcuts = "called on two images, the model does not return two answers."
    elif same(outputs[0], outputs[1]):
        shortcuts = (
            "with the depthwise kernels at 0 in all blocks that keep their shape, two images get "
            "the same answer: one of these blocks has no shortcut."
        )
    if not alpha:
        return [blocks, shortcuts, shortcuts, shortcuts]
    peak, most = _plan(inputs["shape"], alpha)["peak"], inputs["max_bytes"]
    if peak > most:
        problem = f"α = {alpha} has {peak:,} bytes alive at once, more than {most:,}."
        return [blocks, shortcuts, problem, problem]
    wider = ""
    if alpha < inputs["alpha"]:
        best = _plan(inputs["shape"], inputs["alpha"])["peak"]
        wider = f"α = {alpha} fits, and so would α = {inputs['alpha']} ({best:,} bytes)."
    return [blocks, shortcuts, "", wider]


def _alpha_of(shape, convs):
    """The width multiplier that the layers follow from, or None."""
    for alpha in _ALPHAS:
        if _plan(shape, alpha)["convs"] == [tuple(each[:2]) for each in convs]:
            return alpha
    return None


def _blocks_problem(inputs, seen):
    convs, classes = seen["convs"], inputs["classes"]
    kinds = [kind for kind, *_ in convs]
    if kinds.count("depthwise") != 17:
        return f"expected 17 depthwise convolutions, one a block, found {kinds.count('depthwise')}."
    if len(convs) != 52:
        return (
            f"expected 35 Conv2D layers beside them (first, 16 expansions, 17 projections, last), "
            f"found {kinds.count('conv')}."
        )
    wanted = [
        "depthwise" if n in {b for b, _ in _plan(inputs["shape"], 1)["blocks"]} else "conv"
        for n in range(52)
    ]
    if kinds != wanted or any(kernel != 3 for kind, _, kernel in convs if kind == "depthwise"):
        return "the blocks are expand 1×1, depthwise 3×3, project 1×1; the first has no expansion."
    if _alpha_of(inputs["shape"], convs) is None:
        nearest = min(_ALPHAS, key=lambda a: abs(_divisible(32 * a, 8) - convs[0][1][-1]))
        plans = [
            _plan(inputs["shape"], a)["convs"]
            for a in _ALPHAS
            if _divisible(32 * a, 8) == _divisible(32 * nearest, 8)
        ]
        got = [tuple(each[:2]) for each in convs]
        # Where the best plan parts from the network is where the mistake is.
        at = max(next(n for n in range(52) if plan[n] != got[n]) for plan in plans)
        wanted = sorted({plan[at][1] for plan in plans if plan[:at] == got[:at]})
        return (
            f"convolution {at + 1} of 52 writes {got[at][1]}; the table gives "
            f"{' or '.join(map(str, wanted))} for a multiple of 0.05."
        )
    dense = seen["dense"]
    if len(dense) != 1 or dense[0]["writes"] != (classes,):
        return f"expected one dense layer with {classes} outputs after global average pooling."
    channels = convs[-1][1][-1]
    if dense[0]["reads"] != channels:
        return (
            f"the dense layer reads {dense[0]['reads']} numbers; global average pooling leaves one "
            f"for each of {channels} channels."
        )
    if dense[0]["activation"] != "linear":
        return f"the dense layer has the activation {dense[0]['activation']!r}; expected none."
    if not dense[0]["last"]:
        return "something follows the dense layer; what it writes is the answer."
    return ""


EXERCISES = [
    Exercise(
        "relu_information_loss",
        LESSON,
        2,
        _loss_inputs,
        _probe_loss,
        _judge_loss,
        forbids=("keras", "tensorflow", "tf"),
    ),
    Exercise(
        "inverted_residual",
        LESSON,
        3,
        _block_inputs,
        _probe_block,
        _judge_block,
        given=("__init__",),
        twin="utils.mobilenet_v2:InvertedResidual",
    ),
    Exercise(
        "make_divisible",
        LESSON,
        1,
        _divisible_inputs,
        _probe_divisible,
        _judge_divisible,
        twin="utils.blocks:make_divisible",
    ),
    Exercise(
        "block_peak_memory",
        LESSON,
        2,
        _memory_inputs,
        _probe_memory,
        _judge_memory,
        twin="utils.mobilenet_v2:peak_bytes",
    ),
    Exercise(
        "drone_mobilenet",
        LESSON,
        2,
        _design_inputs,
        _probe_design,
        _judge_design,
        forbids=("MobileNetV2",),
        allows=("mobilenet_v2", "count"),
        twin="utils.mobilenet_v2:MobileNetV2",
        seconds=30,
    ),
]
