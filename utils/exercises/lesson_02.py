"""The exercises of lesson 02: the residual block, its shortcuts, its start, and a 20-layer ResNet."""

import math

import numpy as np

from utils.course.activations import relu
from utils.course.exercise import Case, Exercise, first_problem, graded, mismatch, part, same, say
from utils.course.plain import plain
from utils.course.watch import norm_after, observe, watch

LESSON = "02_residual_blocks"


# residual_forward ---------------------------------------------------------------------------


def _forward_inputs(rng):
    def case(scale=1.0, square=False, wider=0):
        width, hidden = (int(v) for v in rng.permutation([5, 6, 7, 8])[:2])
        hidden = width if square else hidden
        shapes = [(width, hidden), (hidden,), (hidden, width + wider), (width + wider,)]
        weights = [scale * rng.normal(size=shape) for shape in shapes]
        if wider:
            weights.append(rng.normal(size=(width, width + wider)))
        # What enters a block has passed a ReLU, so nothing of it is negative.
        return [np.abs(rng.normal(size=(32, width))) + 0.1, *weights]

    return {
        "zero": [case(scale=0, square=True)],
        "same": [case(square=True), case()],
        "wider": [case(wider=2)],
    }


def _probe_forward(box, answer, inputs):
    return {kind: [box.call(answer, *case) for case in cases] for kind, cases in inputs.items()}


def _judge_forward(inputs, seen):
    def cases(kind, call):
        for (a, W1, b1, W2, b2, *Ws), got in zip(inputs[kind], seen[kind], strict=True):
            a1 = relu(a @ W1 + b1)
            z2 = a1 @ W2 + b2
            s = a @ Ws[0] if Ws else a
            early = "z[l+2] passes a ReLU before the addition; it comes after: g(z[l+2] + a[l])."
            still = "with zero weights a block returns its input; yours returns 0."
            mistakes = [
                (0 * a, still),
                (relu(z2 * s), "the paths are multiplied; add them."),
                (relu(z2 - s), "the shortcut is subtracted; add it."),
                (relu(z2), "the shortcut is missing: add it to z[l+2] before the last ReLU."),
                (relu(z2) + s, early),
                (relu(relu(z2) + s), early),
                (z2 + s, "the last ReLU is missing: it follows the addition."),
                (
                    relu((a @ W1 + b1) @ W2 + b2 + s),
                    "the ReLU between the two layers is missing.",
                ),
                (relu(a1 @ W2 + s), "b2 is missing: z[l+2] = a[l+1] @ W2 + b2."),
                (relu(relu(a @ W1) @ W2 + b2 + s), "b1 is missing: z[l+1] = a[l] @ W1 + b1."),
                (
                    relu(z2 + relu(s)),
                    "the shortcut has a ReLU of its own; a[l] @ Ws is added as it is.",
                ),
            ]
            if Ws:
                padded = np.pad(a, ((0, 0), (0, z2.shape[1] - a.shape[1])))
                mistakes.append((relu(z2 + padded), "you pad with zeros; with Ws, use a[l] @ Ws."))
            elif a1.shape == a.shape:
                mistakes.append(
                    (
                        relu(z2 + a1),
                        "the shortcut starts at the block's input a[l], not at a[l+1].",
                    )
                )
            if Ws and "broadcast" in got.get("error", ""):
                got = {"error": "shapes that do not fit: is the shortcut a @ Ws here?"}
            yield Case(call, got, relu(z2 + s), tuple(mistakes))

    return [
        part("zero weights: the identity", 0.5, cases("zero", "a block whose W and b are 0")),
        part("random weights", 1, cases("same", "residual_forward(a, W1, b1, W2, b2)")),
        part("another width: Ws", 0.5, cases("wider", "residual_forward(a, W1, b1, W2, b2, Ws)")),
    ]


# residual_block -----------------------------------------------------------------------------


def _block_inputs(rng):
    def case(shortcut, channels, filters, strides):
        # One side is odd, so that rounding shows; the sides differ, so that swapped axes do.
        shape = (2, 9, 6, channels)
        return {
            "shortcut": shortcut,
            "x": rng.normal(size=shape).astype("float32"),
            "filters": filters,
            "strides": strides,
            "seed": int(rng.integers(1_000_000)),
        }

    few, more = int(rng.integers(3, 6)), 2 * int(rng.integers(4, 6))
    return [
        case("identity", more, more, 1),
        case("projection", few, more, 2),
        case("projection", few, more + 1, 1),
        case("zero_pad", few, few + 4, 2),
    ]


def _probe_block(box, answer, inputs):
    return [_probe_case(box, answer, **case) for case in inputs]


def _probe_case(box, answer, shortcut, x, filters, strides, seed):
    return observe(box, lambda: answer(filters, strides=strides, shortcut=shortcut), x, seed)


def _judge_block(inputs, seen):
    problems = {"identity": [], "projection": [], "zero_pad": []}
    main = []
    for case, got in zip(inputs, seen, strict=True):
        shortcut, (height, width, channels) = case["shortcut"], case["x"].shape[1:]
        arguments = f"{case['filters']}, strides={case['strides']}, shortcut={shortcut!r}"
        call = f"ResidualBlock({arguments}) on ({height}, {width}, {channels}): "
        if "error" in got:
            problems[shortcut].append(call + _why_it_stopped(case, got))
            continue
        problem, z = _main_path(case, got)
        main.append(problem and call + problem)
        problem = _shortcut(case, got, z)
        problems[shortcut].append(problem and call + problem)
    if not main:
        main = problems["identity"]
    return [
        graded("the two layers", 1, first_problem(*main)),
        graded("shortcut 'identity'", 0.75, first_problem(*problems["identity"])),
        graded("shortcut 'projection'", 0.75, first_problem(*problems["projection"])),
        graded("shortcut 'zero_pad'", 0.5, first_problem(*problems["zero_pad"])),
    ]


def _kernels(got):
    return sum(weight.ndim == 4 for weight in got["weights"])


def _convolutions(steps):
    convs = [step for step in steps if step["kind"] == "conv"]
    return [c for c in convs if c["kernel"] != 1], [c for c in convs if c["kernel"] == 1]


def _why_it_stopped(case, got):
    """What the convolutions say about a call that stopped, or else the error."""
    main, pointwise = _convolutions(got["steps"])
    strides, filters = case["strides"], case["filters"]
    if case["shortcut"] == "projection" and main and not pointwise:
        return "there is no 1×1 convolution in the shortcut, so the shapes differ."
    if pointwise and pointwise[0]["strides"] != strides:
        return f"the shortcut's 1×1 convolution needs the block's stride, {strides}."
    if pointwise and pointwise[0]["filters"] != filters:
        return f"the shortcut's 1×1 convolution needs {filters} filters."
    # Keras may call the layers twice to learn their shapes: look at the first time.
    if len(main) > 1 and main[0]["strides"] * main[1]["strides"] != strides:
        return f"the two 3×3 convolutions together must have the block's stride, {strides}."
    if len(main) > 1 and "ncompatible" in got["error"]:
        shape = _output_shape(case)[1:]
        return f"the addition stopped; both paths must arrive there with the shape {shape}."
    return f"stopped with {got['error']}"


def _output_shape(case):
    (batch, height, width, _), strides = case["x"].shape, case["strides"]
    return (batch, -(-height // strides), -(-width // strides), case["filters"])


def _after(steps, array):
    """The output of the batch norm that was called on `array`, or None."""
    norm = norm_after(steps, array)
    return None if norm is None else norm["outputs"]


def _share_norm(steps, convs):
    """Whether one batch norm layer follows both convolutions."""
    one, two = (
        {s["layer"] for s in steps if s["kind"] == "norm" and same(s["inputs"], conv["outputs"])}
        for conv in convs
    )
    return bool(one & two)


def _is(inputs, array):
    """Whether a convolution's inputs are `array`, or `array` inside a border of zeros."""
    if not isinstance(inputs, np.ndarray) or inputs.ndim != array.ndim:
        return False
    rows, columns = array.shape[1:3]
    return any(
        same(inputs[:, top : top + rows, left : left + columns], array)
        for top in range(min(3, inputs.shape[1] - rows + 1))
        for left in range(min(3, inputs.shape[2] - columns + 1))
    )


def _main_path(case, got):
    """What is wrong with the two layers, and z, what they hand to the addition."""
    steps, (convs, _) = got["steps"], _convolutions(got["steps"])
    filters, strides, x = case["filters"], case["strides"], case["x"]
    norms = [_after(steps, conv["outputs"]) for conv in convs]
    z = None
    if convs:
        z = convs[-1]["outputs"] if norms[-1] is None else norms[-1]
    if len(convs) != 2 or any(c["kernel"] != 3 for c in convs):
        found = ", ".join(f"{c['kernel']}×{c['kernel']}" for c in convs) or "none"
        return f"expected two 3×3 Conv2D layers from keras.layers, found {found}.", z
    one, two = convs
    if _kernels(got) < 2:
        return "the layers are made anew at each call; make them in __init__ or build.", z
    if [c["filters"] for c in convs] != [filters, filters]:
        counts = " and ".join(str(c["filters"]) for c in convs)
        return f"both convolutions have {filters} filters, got {counts}.", z
    if (one["strides"], two["strides"]) != (strides, 1):
        both = f"{one['strides']} and {two['strides']}"
        return f"the first convolution has stride {strides}, the second 1; got {both}.", z
    if not _is(one["inputs"], x):
        return "the first convolution sees the block's input; something stands before it.", z
    if norms[0] is None:
        return "no batch norm follows the first convolution directly.", z
    if _is(two["inputs"], norms[0]):
        return "the ReLU between the two convolutions is missing.", z
    if not _is(two["inputs"], relu(norms[0])):
        return "the second convolution sees the ReLU of the first batch norm; yours does not.", z
    if norms[1] is None:
        if any(same(s["inputs"], relu(two["outputs"])) for s in steps):
            return "a ReLU stands between the second convolution and its batch norm.", z
        return "no batch norm follows the second convolution, before the addition.", z
    if _share_norm(steps, convs):
        return "one batch norm serves both convolutions; each needs one of its own.", z
    alone, together = got["alone"], got["value"]
    if isinstance(alone, np.ndarray) and not same(alone, together[:1], 1e-3):
        return (
            "an image's output depends on the other images of its batch: "
            "leave batch norm's `training` to Keras.",
            z,
        )
    return "", z


def _shortcut(case, got, z):
    """What is wrong with the shortcut and the addition, given what the two layers hand over."""
    y, expected = got["value"], _output_shape(case)
    if not isinstance(y, np.ndarray):
        return "the block returned no tensor: does `call` end in `return`?"
    if y.shape != expected:
        return f"expected shape {expected}, got {y.shape}."
    if not isinstance(z, np.ndarray) or z.shape != y.shape:
        return "the output of the two layers cannot be found; get that part right first."
    rights, wrongs = _candidates(case, got["steps"])
    if any(same(y, relu(z + right), 1e-3) for right in rights):
        _, pointwise = _convolutions(got["steps"])
        if case["shortcut"] == "zero_pad" and _kernels(got) > 2:
            return "zero padding learns nothing; your shortcut has a kernel."
        if case["shortcut"] == "identity" and pointwise:
            return "the identity needs no 1×1 convolution."
        return ""
    for shortcut in rights:
        mistakes = (
            (relu(z) + shortcut, "you add after the last ReLU; the addition comes before it."),
            (z + shortcut, "no ReLU after the addition."),
            (relu(relu(z) + shortcut), "a ReLU before the addition is too many; one follows it."),
            (relu(z + relu(shortcut)), "the shortcut has a ReLU of its own; add it as it is."),
            (relu(z * shortcut), "the two paths are multiplied; add them."),
            (relu(z - shortcut), "one path is subtracted from the other; add them."),
        )
        for wrong, message in mistakes:
            if same(y, wrong, 1e-3):
                return message
    for shortcut, message in wrongs:
        if same(y, relu(z + shortcut), 1e-3):
            return message
    if same(y, relu(z), 1e-3) or same(y, z, 1e-3):
        return "there is no shortcut: x reaches the output through the two layers only."
    if not rights:
        return "no 1×1 Conv2D with the block's stride reads the input."
    return "the output is not ReLU(two layers + shortcut)."


def _candidates(case, steps):
    """Shortcuts that are right for a case, and wrong ones with what to say about them."""
    x, strides, more = case["x"], case["strides"], case["filters"] - case["x"].shape[-1]
    sampled = x[:, ::strides, ::strides]
    if case["shortcut"] == "identity":
        return [x], []
    if case["shortcut"] == "projection":
        rights = []
        for conv in _convolutions(steps)[1]:
            whole = same(conv["inputs"], x) and conv["strides"] == strides
            if whole or (same(conv["inputs"], sampled) and conv["strides"] == 1):
                rights += [conv["outputs"], _after(steps, conv["outputs"])]
        return [right for right in rights if right is not None], []

    def padded(array, side):
        return np.pad(array, ((0, 0), (0, 0), (0, 0), side))

    rights = [
        padded(sampled, side) for side in ((0, more), (more, 0), (more // 2, more - more // 2))
    ]
    windows = np.stack(
        [
            np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=np.nan)[:, i:, j:][
                :, ::strides, ::strides
            ][:, : sampled.shape[1], : sampled.shape[2]]
            for i in (0, 1)
            for j in (0, 1)
        ]
    )
    pooled = "you pool; keep every s-th pixel as it is, x[:, ::s, ::s]."
    return rights, [
        (padded(np.nanmean(windows, axis=0), (0, more)), pooled),
        (padded(np.nanmax(windows, axis=0), (0, more)), pooled),
    ]


# start_as_identity --------------------------------------------------------------------------


def _start_inputs(rng):
    def case(kind):
        channels = 4 * int(rng.integers(1, 4))
        x = rng.normal(size=(2, 5, 4, channels)).astype("float32")
        return {"kind": kind, "x": x, "seed": int(rng.integers(1_000_000))}

    return [case("basic"), case("bottleneck")]


def _probe_start(box, answer, inputs):
    from utils.residual import BottleneckBlock, ResidualBlock

    seen = []
    for case in inputs:
        channels = case["x"].shape[-1]
        basic = case["kind"] == "basic"
        block = ResidualBlock(channels) if basic else BottleneckBlock(channels // 4)
        block.build(case["x"].shape)
        rng = np.random.default_rng(case["seed"])
        for weight in block.weights:
            # As after some training, but for the betas, which the identity needs at 0.
            if weight.path.split("/")[-1] in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.path.split("/")[-1] == "moving_mean":
                weight.assign(rng.normal(0, 0.5, weight.shape))
        before = {weight.path: weight.numpy() for weight in block.weights}
        results, errors = [], []
        for x in (relu(case["x"]), case["x"]):
            results.append(box.call(answer, block, x))
            errors.append(float(np.max(np.abs(block(x).numpy() - x))))
        after = {weight.path: weight.numpy() for weight in block.weights}
        seen.append(
            {
                "results": results,
                "errors": errors,
                "gammas": [after[path] for path in before if path.endswith("gamma")],
                "changed": [
                    path.split("/")[-1]
                    for path in before
                    if not np.array_equal(before[path], after[path])
                ],
            }
        )
    return seen


def _judge_start(inputs, seen):
    gamma, proof = [], []
    for case, got in zip(inputs, seen, strict=True):
        block = f"start_as_identity({case['kind']} block, x)"
        stopped = next((r["error"] for r in got["results"] if "error" in r), "")
        gamma.append(f"{block} stopped with {stopped}" if stopped else _gamma_problem(got))
        for result, error, x in zip(
            got["results"], got["errors"], (relu(case["x"]), case["x"]), strict=True
        ):
            negative = -float(np.min(x))
            mistakes = (
                ()
                if negative <= 0
                else (
                    (
                        0.0,
                        "negative values do not survive the block's ReLU: the difference is not 0.",
                    ),
                    (-negative, "that has a sign; take the absolute value before the largest."),
                    (
                        float(np.mean(relu(x) - x)),
                        "that is the mean; return the largest difference.",
                    ),
                    (
                        float(np.sum(relu(x) - x)),
                        "that is the sum; return the largest difference.",
                    ),
                )
            )
            mistakes += ((float(np.max(x)), "that is the largest number; subtract x first."),)
            kind = "x ≥ 0" if negative <= 0 else "x with negative values"
            proof.append(mismatch(Case(f"{block}, {kind}", result, error, mistakes)))
    return [
        graded("gamma of the last batch norm", 0.5, first_problem(*gamma)),
        graded("the proof", 0.5, first_problem(*proof)),
    ]


def _gamma_problem(got):
    zero = [not gamma.any() for gamma in got["gammas"]]
    if not any(zero):
        if "kernel" in got["changed"]:
            return "you changed a kernel; the weight to set is a gamma."
        return "no gamma is 0 afterwards: use `gamma.assign(...)`."
    if not zero[-1]:
        return (
            "you zeroed the gamma of an earlier batch norm. The ReLU after it then outputs 0 and "
            "lets no gradient through; take the last one, before the addition."
        )
    if sum(zero) > 1:
        return "more than one gamma is 0: only that of the last batch norm should be."
    if got["changed"] != ["gamma"]:
        return f"other weights changed as well: {', '.join(sorted(set(got['changed'])))}."
    return ""


# resnet_cifar_depth -------------------------------------------------------------------------


def _depth_inputs(rng):
    return [(int(rng.integers(2, 40)), convs) for convs in (2, 2, 2, 3, 3)]


def _probe_depth(box, answer, inputs):
    return [box.call(answer, n, convs) for n, convs in inputs]


def _judge_depth(inputs, seen):
    def cases(wanted):
        for (n, convs), got in zip(inputs, seen, strict=True):
            if convs == wanted:
                mistakes = (
                    (6 * n + 2, f"a block has {convs} convolutions here, not 2."),
                    (3 * convs * n, "the first convolution and the dense layer count, too."),
                    (
                        3 * convs * n + 1,
                        "count both ends, the first convolution and the dense layer.",
                    ),
                    (3 * n + 2, f"that counts blocks; each has {convs} convolutions."),
                    (convs * n + 2, "that is one stage; there are three."),
                    (4 * convs * n + 2, "that has four stages; this family has three."),
                    (3 * convs * n + 4, "the shortcuts' convolutions do not count as layers."),
                    (3 * convs * n + 5, "the shortcuts' convolutions do not count as layers."),
                )
                yield Case(f"resnet_cifar_depth({n}, {convs})", got, 3 * convs * n + 2, mistakes)

    return [
        part("two convolutions a block", 0.5, cases(2)),
        part("three convolutions a block", 0.5, cases(3)),
    ]


# drone_resnet -------------------------------------------------------------------------------


def _macs(shape, classes, filters):
    """Multiply-adds of the 20-layer network whose shortcuts pad with zeros."""
    (height, width, channels), macs = shape, 0
    for stage in range(3):
        out = filters * 2**stage
        before = out // 2 if stage else out
        kernels = 9 * (before * out + 5 * out * out) + (0 if stage else 9 * channels * out)
        macs += height * width * kernels
        height, width = -(-height // 2), -(-width // 2)
    return macs + 4 * filters * classes


def _design_inputs(rng):
    filters, classes = 4 * int(rng.integers(2, 6)), int(rng.integers(2, 10))
    # Sides that differ and are odd, so that rounding and swapped axes show.
    side = 8 * int(rng.integers(2, 5))
    shape = (side + 1, side + 6, int(rng.choice([1, 3])))
    # Room for projections, but not for a wider network.
    room = rng.uniform(1.06, 1.15)
    return {
        "shape": shape,
        "classes": classes,
        "max_macs": int(room * _macs(shape, classes, filters)),
        "images": rng.normal(size=(2, *shape)).astype("float32"),
    }


def _probe_design(box, answer, inputs):
    import keras

    made = box.run(answer, inputs["shape"], inputs["classes"], inputs["max_macs"])
    if "error" in made:
        return made
    model = made["value"]
    if not isinstance(model, keras.Model):
        return {"no_model": say(plain(model))}
    # Without the 3×3 kernels of the blocks an image gets past them through shortcuts alone.
    for weight in model.trainable_weights:
        if weight.shape[:2] == (3, 3) and weight.shape[2] != inputs["shape"][-1]:
            weight.assign(np.zeros(weight.shape))
    outputs, steps = watch(lambda: box.call(model, inputs["images"]))
    return {"outputs": outputs, "steps": steps}


def _judge_design(inputs, seen):
    names = ("20 layers", "three stages", "shortcuts", "within the budget", "as wide as it allows")
    points = (0.5, 0.5, 0.5, 0.5, 1.0)
    if "error" in seen:
        stopped = f"drone_resnet(…) stopped with {seen['error']}"
    elif "no_model" in seen:
        stopped = f"drone_resnet(…) returned {seen['no_model']}; expected a keras.Model."
    elif "error" in seen["outputs"]:
        stopped = f"the model, called on two images, stopped with {seen['outputs']['error']}"
    else:
        stopped = ""
    problems = [stopped] + ["Not looked at: see above."] * 4
    if not stopped:
        problems = _design_problems(inputs, seen)
    return [graded(*part) for part in zip(names, points, problems, strict=True)]


def _design_problems(inputs, seen):
    """One sentence for each part, empty where all is well."""
    outputs, steps = seen["outputs"]["value"], seen["steps"]
    spatial, pointwise = _convolutions(steps)
    dense = [step for step in steps if step["kind"] == "dense"]
    filters = spatial[0]["filters"] if spatial else 0
    layers = ""
    if len(spatial) + len(dense) != 20:
        layers = (
            f"{len(spatial)} convolutions of 3×3 and {len(dense)} dense, "
            f"{len(spatial) + len(dense)} layers; expected 1 + 3·3·2 and 1, 20 layers."
        )
    shortcuts = ""
    if not isinstance(outputs, np.ndarray) or len(outputs) != 2:
        shortcuts = "called on two images, the model does not return two answers."
    elif np.max(np.abs(outputs[0] - outputs[1])) <= 1e-6:
        shortcuts = (
            "with the 3×3 kernels of all blocks at 0, two images get the same answer: some block "
            "has no shortcut around its layers."
        )
    macs = sum(
        step["weights"] * math.prod(step["outputs"].shape[1:-1])
        for step in spatial + pointwise + dense
    )
    return [
        layers,
        _stages_problem(inputs, outputs, spatial, dense, filters),
        shortcuts,
        *_budget_problems(inputs, macs, filters),
    ]


def _stages_problem(inputs, outputs, spatial, dense, filters):
    (height, width, _), classes = inputs["shape"], inputs["classes"]
    expected = []
    for stage in range(3):
        expected.append((height, width, filters * 2**stage))
        height, width = -(-height // 2), -(-width // 2)
    stages = list(dict.fromkeys(step["outputs"].shape[1:] for step in spatial))
    if stages != expected:
        shapes = ", ".join("×".join(map(str, shape)) for shape in stages)
        wanted = ", ".join("×".join(map(str, shape)) for shape in expected)
        return f"the stages of 3×3 convolutions write {shapes or 'nothing'}; expected {wanted}."
    if any(step["kernel"] != 3 for step in spatial):
        return "all convolutions but those of the shortcuts are 3×3."
    if len(dense) != 1 or dense[0]["inputs"].shape != (2, 4 * filters):
        return f"expected one dense layer, on the {4 * filters} means of global average pooling."
    if dense[0]["activation"] != "linear":
        return f"the dense layer has the activation {dense[0]['activation']!r}; expected none."
    if not isinstance(outputs, np.ndarray) or outputs.shape != (2, classes):
        return f"expected an output of shape (2, {classes}) for two images, got {say(outputs)}."
    return ""


def _budget_problems(inputs, macs, filters):
    if macs > inputs["max_macs"]:
        problem = f"F = {filters} takes {macs:,} multiply-adds, more than {inputs['max_macs']:,}."
        return [problem, problem]
    if not filters or filters % 4:
        return ["", f"F = {filters}, which is not a multiple of 4."]
    wider = _macs(inputs["shape"], inputs["classes"], filters + 4)
    if wider <= inputs["max_macs"]:
        return [
            "",
            f"F = {filters} fits, and so would F = {filters + 4} ({wider:,} multiply-adds).",
        ]
    return ["", ""]


EXERCISES = [
    Exercise(
        "residual_forward",
        LESSON,
        2,
        _forward_inputs,
        _probe_forward,
        _judge_forward,
        forbids=("keras", "tensorflow", "tf"),
    ),
    Exercise(
        "residual_block",
        LESSON,
        3,
        _block_inputs,
        _probe_block,
        _judge_block,
        given=("__init__",),
        twin="utils.residual:ResidualBlock",
    ),
    Exercise(
        "start_as_identity",
        LESSON,
        1,
        _start_inputs,
        _probe_start,
        _judge_start,
        allows=("residual",),  # the block that it is given
    ),
    Exercise("resnet_cifar_depth", LESSON, 1, _depth_inputs, _probe_depth, _judge_depth),
    Exercise(
        "drone_resnet",
        LESSON,
        3,
        _design_inputs,
        _probe_design,
        _judge_design,
        forbids=("ResNetCIFAR", "ResNet"),
        allows=("residual", "count"),
        twin="utils.residual:ResNetCIFAR",
        seconds=30,
    ),
]
