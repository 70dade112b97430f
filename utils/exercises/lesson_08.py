"""The exercises of lesson 08: a pipeline, a head, frozen batch norms, a bug, and how much to tune."""

import contextlib
import itertools

import numpy as np

from utils.course.exercise import Case, Exercise, first_problem, graded, part, same, say

LESSON = "08_transfer_learning"


# make_pipeline ------------------------------------------------------------------------------


def _pipeline_inputs(rng):
    number, batch = int(rng.integers(40, 48)), int(rng.integers(6, 9))
    number += number % batch == 0  # so that the last batch is a smaller one
    height, width = (int(side) for side in rng.permutation([2, 3, 4, 5])[:2])
    return {
        "images": rng.integers(1, 256, (number, height, width, 1), dtype="uint8"),
        # All different, so that the judge knows each image by its label.
        "labels": rng.permutation(1000)[:number].astype("int64"),
        "batch_size": batch,
        "seed": int(rng.integers(1000)),
    }


def _probe_pipeline(box, answer, inputs):
    enough = 2 * len(inputs["images"]) + 1

    def epochs():
        batches = answer(**inputs)
        return [list(itertools.islice(batches, enough)) for _ in range(2)]

    return box.call(epochs)


def _judge_pipeline(inputs, seen):
    broken = _pipeline_problem(inputs, seen)
    pairs = pixels = order = broken
    if not broken:
        epochs = [
            tuple(np.concatenate(each) for each in zip(*epoch, strict=True))
            for epoch in seen["value"]
        ]
        pairs = _pairs_problem(inputs, seen["value"], epochs)
        pixels = _pixels_problem(inputs, *epochs[0])
        order = _order_problem(inputs, seen["value"], epochs)
    return [
        graded("every image once, with its label", 0.75, pairs),
        graded("pixels", 0.75, pixels),
        graded("a new order in each epoch", 0.5, order),
    ]


def _pipeline_problem(inputs, seen):
    """Return why what came out of the pipeline are no batches of pairs, or ""."""
    if "error" in seen:
        return (
            f"make_pipeline(…), or walking through what it returned, stopped with {seen['error']}"
        )
    first = seen["value"][0]
    if not first or not seen["value"][1]:
        return "an epoch has no batch; can what you return be walked through more than once?"
    pairs = all(
        isinstance(batch, tuple | list)
        and len(batch) == 2
        and all(isinstance(each, np.ndarray) for each in batch)
        for epoch in seen["value"]
        for batch in epoch
    )
    if not pairs:
        return f"an element is {say(first[0])}; expected a pair of tensors, images and labels."
    images, labels = first[0]
    if images.ndim == 3:
        return "an element is a single image; `.batch(batch_size)` puts them together."
    if images.ndim != 4 or labels.ndim != 1:
        return (
            f"an element has images of shape {images.shape} and labels of shape {labels.shape}; "
            "expected (B, H, W, 3) and (B,)."
        )
    return ""


def _pairs_problem(inputs, batches, epochs):
    number, size = len(inputs["images"]), inputs["batch_size"]
    came = [len(labels) for _, labels in batches[0]]
    if sum(came) > number:
        return f"an epoch has more than the {number} images; leave out `repeat`."
    if max(came) != size:
        return f"a batch has {max(came)} images; expected {size}."
    if sum(came) == number - number % size:
        return f"an epoch has {sum(came)} of {number} images: the last batch, a smaller one, is missing."
    right = [size] * (number // size) + [number % size]
    if sorted(came, reverse=True) == right != came:
        return "the smaller batch is not the last one: shuffle before you batch."
    if came != right:
        return f"the batches have {came} images; expected {size} each and the rest in the last one."
    for images, labels in epochs:
        if sorted(labels.tolist()) != sorted(inputs["labels"].tolist()):
            return "the labels of an epoch are not those of the images, each once."
        if _mismatched(inputs, images, labels):
            return "an image came with the label of another one: shuffle pairs, not halves."
    return ""


def _brightness(images):
    """Return what tells images apart whatever is done to all their pixels: in units of their own."""
    flat = images.astype("float64")[..., :1].reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(flat.std(axis=1, keepdims=True), 1e-9)


def _mismatched(inputs, images, labels):
    place = {label: n for n, label in enumerate(inputs["labels"].tolist())}
    right = _brightness(inputs["images"])[[place.get(label, 0) for label in labels.tolist()]]
    seen = _brightness(images)
    return seen.shape == right.shape and not np.allclose(seen, right, atol=0.02)


def _pixels_problem(inputs, images, labels):
    if images.shape[1:3] != inputs["images"].shape[1:3]:
        return f"the images have the shape {images.shape[1:]}; keep height and width."
    if images.dtype.kind in "iu":
        return f"the images are {images.dtype}; cast them to float32, then divide by 255."
    if images.dtype != np.float32:
        return f"the images are {images.dtype}; expected float32."
    if images.max() > 1.5:
        return f"pixels go up to {images.max():.0f}; divide by 255."
    if images.max() < 0.1:
        return f"pixels go up to {images.max():.4f} only: divide by 255 once."
    if images.min() < 0:
        return "pixels are negative; expected [0, 1]. What a network wants comes after that."
    if images.shape[-1] != 3:
        return f"the images have {images.shape[-1]} channels; repeat the grey one three times."
    place = {label: n for n, label in enumerate(inputs["labels"].tolist())}
    if set(labels.tolist()) - set(place):
        return "no image can be looked up, since the labels are others than those given."
    right = inputs["images"][[place[label] for label in labels.tolist()]].astype("float32") / 255
    if not same(images[..., 0], right[..., 0], 1e-3) and not _mismatched(inputs, images, labels):
        return "pixels are not those of the image over 255: the brightness differs."
    if not same(images.max(-1), images.min(-1), 1e-3):
        return "the three channels differ; all three are the grey one."
    return ""


def _order_problem(inputs, batches, epochs):
    place = {label: n for n, label in enumerate(inputs["labels"].tolist())}
    orders = [[place.get(label, -1) for label in labels.tolist()] for _, labels in epochs]
    number = len(place)
    if -1 in orders[0] + orders[1]:
        return "no order can be seen, since the labels are others than those given."
    if orders[0] == orders[1] == sorted(orders[0]):
        return "both epochs have the order in which the images were given; shuffle them."
    runs = [
        sorted(place[label] for label in labels.tolist())
        for _, labels in [*batches[0], *batches[1]]
    ]
    if all(run == list(range(run[0], run[0] + len(run))) for run in runs):
        return (
            "whole batches change places, with the same images in each: shuffle before you batch."
        )
    if orders[0] == orders[1]:
        return "both epochs have the same order; shuffle anew in each (and behind a `cache`)."
    # An image that stands at place n came out of a buffer of at most its position + n.
    reach = max(n - position for order in orders for position, n in enumerate(order))
    if reach <= number // 2:
        return (
            f"no image came more than {reach} places early: `shuffle` draws from a buffer, so let "
            "it hold all images."
        )
    return ""


# What the exercises with a network share ----------------------------------------------------


def _backbone(case):
    """Build a small backbone whose batch norms have seen other data: `(B, H, W, 3) → (B, h, w, F)`.

    The first one stands in the network, the second one in a block.
    """
    import keras

    from utils.blocks import ConvBlock

    inputs = keras.Input(case["shape"])
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = ConvBlock(case["filters"], 3)(x)
    network = keras.Model(inputs, x)
    rng = np.random.default_rng(case["seed"])
    for weight in network.weights:
        low, high = (0.5, 1.5) if weight.path.split("/")[-1] != "kernel" else (-0.6, 0.6)
        weight.assign(rng.uniform(low, high, weight.shape))
    return network


def _norms(network):
    import keras

    return [
        layer
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def _arrays(weights):
    """Return weights in the order of their names: that of the layers depends on the nesting."""
    return [np.array(weight) for weight in sorted(weights, key=lambda weight: weight.path)]


def _statistics(network):
    norms = _norms(network)
    return _arrays(w for norm in norms for w in (norm.moving_mean, norm.moving_variance))


def _kernels(network):
    return _arrays(w for w in network.weights if w.path.endswith("kernel") and len(w.shape) == 4)


def _equal(before, after):
    return len(before) == len(after) and all(
        a.shape == b.shape and np.allclose(a, b, atol=1e-6)
        for a, b in zip(before, after, strict=True)
    )


# build_head ---------------------------------------------------------------------------------


def _head_inputs(rng):
    cases = []
    for classes in rng.permutation([3, 4, 5, 6])[:2]:
        height, width = (int(side) for side in rng.permutation([5, 6, 7, 8])[:2])
        shape = (height, width, 3)
        cases.append(
            {
                "shape": shape,
                "filters": int(rng.integers(7, 12)),
                "classes": int(classes),
                "seed": int(rng.integers(1_000_000)),
                "x": rng.normal(0, 1, (4, *shape)).astype("float32"),
            }
        )
    return cases


def _look_at_head(answer, case):
    import keras

    backbone = _backbone(case)
    maps = np.array(backbone(case["x"], training=False))
    network = answer(backbone, case["classes"])
    if not isinstance(network, keras.Model):
        return {"network": type(network).__name__}
    learning = [tuple(weight.shape) for weight in network.trainable_weights]
    head = [weight for weight in network.trainable_weights if len(weight.shape) <= 2][-2:]
    rng = np.random.default_rng(case["seed"])
    for weight in head:
        weight.assign(rng.normal(0, 1, weight.shape))
    before = _statistics(network)
    outputs = np.array(network(case["x"], training=False))
    network(case["x"], training=True)
    return {
        "maps": maps,
        "learning": learning,
        "head": [np.array(weight) for weight in head],
        "outputs": outputs,
        "norms": len(before),
        "kept": _equal(before, _statistics(network)),
    }


def _probe_head(box, answer, inputs):
    return [box.call(_look_at_head, answer, case) for case in inputs]


def _judge_head(inputs, seen):
    logits, learning, norms = [], [], []
    for case, got in zip(inputs, seen, strict=True):
        call = f"build_head(backbone, {case['classes']}): "
        problem = _network_problem(got)
        logits.append(call + problem if problem else _logits_problem(case, got["value"], call))
        learning.append(call + problem if problem else _learning_problem(case, got["value"], call))
        moved = not problem and not got["value"]["kept"]
        kept = (
            f"{call}a call in training changes the statistics of batch norms: freeze the backbone. "
            "(In a functional model `fit` overrides a training=False inside.)"
        )
        norms.append(call + problem if problem else kept * moved)
        if not norms[-1] and logits[-1]:
            norms[-1] = f"{call}first make the network return the right logits."
    return [
        graded("logits", 1, first_problem(*logits)),
        graded("only the head learns", 0.5, first_problem(*learning)),
        graded("batch norms stay", 0.5, first_problem(*norms)),
    ]


def _network_problem(got):
    if "error" in got:
        return f"stopped with {got['error']}"
    if "network" in got["value"]:
        return f"returned an object of type {got['value']['network']}; expected a keras.Model."
    if not got["value"]["norms"]:
        return "the network does not contain the backbone that was given."
    return ""


def _logits_problem(case, got, call):
    outputs, shapes = got["outputs"], [weight.shape for weight in got["head"]]
    filters, classes = case["filters"], case["classes"]
    positions = got["maps"].shape[1] * got["maps"].shape[2]
    if outputs.shape != (len(case["x"]), classes):
        return (
            f"{call}four images give outputs of shape {outputs.shape}; expected {(4, classes)}: "
            "average over the positions, then a dense layer."
        )
    if (positions * filters, classes) in shapes:
        return (
            f"{call}the dense layer sees each of {positions} positions on its own: "
            f"{positions * filters} numbers; average over the positions first."
        )
    if (filters, classes) in shapes and (classes,) not in shapes:
        return f"{call}the dense layer has no bias; give it one."
    if (filters, classes) not in shapes or (classes,) not in shapes:
        return (
            f"{call}expected a dense layer of {filters} × {classes} weights and {classes} biases "
            "that can learn, and no other layer behind the pooling."
        )
    kernel, bias = (next(w for w in got["head"] if w.ndim == rank) for rank in (2, 1))
    mean, largest = got["maps"].mean(axis=(1, 2)), got["maps"].max(axis=(1, 2))
    right = mean @ kernel + bias
    if same(outputs, right, 1e-3):
        return ""
    odds = np.exp(right - right.max(axis=1, keepdims=True))
    if same(outputs, odds / odds.sum(axis=1, keepdims=True), 1e-3):
        return f"{call}that are probabilities; return logits, without softmax."
    if same(outputs, 1 / (1 + np.exp(-right)), 1e-3):
        return f"{call}these are sigmoids; return logits, without an activation."
    if same(outputs, np.maximum(right, 0), 1e-3):
        return f"{call}ReLU cuts the negative logits off; leave the activation out."
    if same(outputs, largest @ kernel + bias, 1e-3):
        return f"{call}you take the maximum over the positions; take the mean."
    return f"{call}the outputs are not the dense layer of the pooled features of the backbone."


def _learning_problem(case, got, call):
    wanted = [(case["filters"], case["classes"]), (case["classes"],)]
    if sorted(got["learning"], key=len, reverse=True) == wanted:
        return ""
    if len(got["learning"]) > 2:
        return (
            f"{call}{len(got['learning'])} arrays of weights can learn; expected two, those of the "
            "dense layer. Is the backbone frozen?"
        )
    return f"{call}what can learn has the shapes {got['learning']}; expected {wanted}."


# freeze_batch_norm --------------------------------------------------------------------------


def _freeze_inputs(rng):
    return {
        "shape": (6, 5, 3),
        "filters": int(rng.integers(5, 9)),
        "seed": int(rng.integers(1_000_000)),
        "x": rng.normal(0, 1, (4, 6, 5, 3)).astype("float32"),
    }


def _look_at_frozen(answer, case):
    import keras

    inner = _backbone(case)
    tail = [
        keras.layers.Conv2D(4, 1, name="frozen_before"),
        keras.layers.BatchNormalization(name="top"),
        keras.layers.Conv2D(3, 1, name="learning"),
    ]
    x = inner(inner.input)
    for layer in tail:
        x = layer(x)
    network = keras.Model(inner.input, x)
    tail[0].trainable = False
    answer(network)
    top = [layer for layer in _norms(network) if layer.name == "top"]
    inside = [layer for layer in _norms(network) if layer.name != "top"]
    others = [
        layer.trainable
        for layer in network._flatten_layers(include_self=False)
        if layer.weights and layer.name != "frozen_before" and layer not in top + inside
    ]
    before = _statistics(network)
    network(case["x"], training=True)
    return {
        "top": [bool(layer.trainable) for layer in top],
        "inside": [bool(layer.trainable) for layer in inside],
        "others": [bool(flag) for flag in others],
        "network": bool(network.trainable),
        "before": bool(tail[0].trainable),
        "moved": not _equal(before, _statistics(network)),
    }


def _probe_freeze(box, answer, inputs):
    return box.call(_look_at_frozen, answer, inputs)


def _judge_freeze(inputs, seen):
    if "error" in seen:
        problem = f"freeze_batch_norm(network) stopped with {seen['error']}"
        return [
            graded("in the network itself", 0.5, problem),
            graded("inside other layers", 1.5, problem),
        ]
    got = seen["value"]
    rest = ""
    if not got["network"] or not all(got["others"]):
        rest = (
            "other layers are frozen, too, at least one that holds a batch norm: freeze the batch "
            "norms alone."
        )
    elif got["before"]:
        rest = "a convolution that was frozen before can learn now; change batch norms only."
    top = "a batch norm among `network.layers` can still learn." * any(got["top"])
    inside = ""
    if any(got["inside"]) and any(got["top"]):
        inside = (
            "nor are all of those in blocks and models inside frozen; begin with the outermost."
        )
    elif any(got["inside"]):
        number = sum(got["inside"])
        inside = (
            f"{number} of {len(got['inside'])} batch norms inside other layers can still learn; "
            "`network.layers` lists the outermost layers only, and a block or a model has layers "
            "of its own."
        )
    elif got["moved"]:
        inside = "a call in training still changes the statistics of a batch norm."
    return [
        graded("in the network itself", 0.5, first_problem(top, rest)),
        graded("inside other layers", 1.5, first_problem(inside, rest)),
    ]


# repaired -----------------------------------------------------------------------------------


def _bug_inputs(rng):
    shape = (6, 6, 3)
    labels = rng.permutation(np.arange(16) % 2)
    images = rng.normal(0, 0.5, (16, *shape)) + labels[:, None, None, None]
    return {
        "shape": shape,
        "filters": 6,
        "seed": int(rng.integers(1_000_000)),
        "images": images.astype("float32"),
        "targets": np.eye(2, dtype="float32")[labels],
    }


@contextlib.contextmanager
def _eagerly():
    """Train without a compiled step: for a handful of steps that takes a quarter of the time."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def _look_at_trained(answer, case):
    import keras

    backbone = _backbone(case)
    kernels = _kernels(backbone)
    statistics = _statistics(backbone)
    with _eagerly():
        network = answer(backbone, case["images"], case["targets"])
    if not isinstance(network, keras.Model):
        return {"network": type(network).__name__}
    after = _kernels(network)
    return {
        "norms": len(_norms(network)),
        "kernels": len(kernels) == len(after)
        and [not np.allclose(a, b, atol=1e-7) for a, b in zip(kernels, after, strict=True)],
        "kept": _equal(statistics, _statistics(network)),
        "outputs": np.array(network(case["images"], training=False)),
    }


def _probe_bug(box, answer, inputs):
    return box.call(_look_at_trained, answer, inputs)


def _judge_bug(inputs, seen):
    problem = _network_problem(seen)
    learned = statistics = outputs = problem and f"repaired(…): {problem}"
    if not problem:
        got = seen["value"]
        if got["kernels"] is False:
            learned = "the network that you return has other convolutions than the backbone."
        elif not any(got["kernels"]):
            learned = (
                "no convolution of the returned network has changed: what you unfreeze must be part "
                "of the network that you train, before you compile it."
            )
        elif not all(got["kernels"]):
            learned = "only some convolutions have changed; let the whole backbone learn."
        if not got["kept"]:
            statistics = (
                "the statistics of batch norms are no longer those of the backbone: freeze the "
                "batch norms again, at any depth, behind `backbone.trainable = True`."
            )
        elif learned:
            statistics = (
                "the statistics are kept, but so is everything: first let the backbone learn."
            )
        values = got["outputs"]
        if values.shape != inputs["targets"].shape:
            outputs = f"16 images give outputs of shape {values.shape}; expected (16, 2)."
        elif same(values.sum(axis=1), np.ones(16), 1e-4):
            outputs = (
                "the outputs are probabilities, and the loss with from_logits=True expects logits."
            )
        elif learned:
            outputs = "the outputs are logits; they count when the backbone learns, too."
    return [
        graded("the backbone learns", 1, learned),
        graded("batch norms stay", 0.5, statistics),
        graded("the outputs are logits", 0.5, outputs),
    ]


# choose_blocks ------------------------------------------------------------------------------


def _limit(results, errors=1, root=True):
    """Return the best mean less some standard errors of it."""
    best = max(results.values(), key=np.mean)
    return np.mean(best) - errors * np.std(best, ddof=1) / (len(best) ** 0.5 if root else 1)


def _rule(results, **options):
    """Return the fewest blocks whose mean is not below the limit."""
    limit = _limit(results, **options) - 1e-12
    return min(blocks for blocks, runs in results.items() if np.mean(runs) >= limit)


def _slips(results):
    """Return where plausible wrong rules end."""
    means = {blocks: np.mean(runs) for blocks, runs in results.items()}
    best = max(means, key=means.get)
    limit = _limit(results)
    inside = [blocks for blocks, mean in means.items() if mean >= limit]
    return (
        best,
        max(results, key=lambda blocks: max(results[blocks])),
        max(inside),
        inside[0],
        _rule(results, root=False),
        _rule(results, errors=2),
        min(results),
    )


def _block_results(rng, clear):
    """Draw results in which plausible slips end elsewhere than the rule."""
    while True:
        numbers = [int(n) for n in rng.permutation([0, 1, 2, 4, 8, 12, 16])[:5]]
        runs = int(rng.integers(3, 6))
        means = 0.8 + (0.04 if clear else 0.006) * rng.permutation(5)
        spread = 0.008 if clear else rng.uniform(0.008, 0.02)
        results = {
            blocks: [round(float(value), 4) for value in rng.normal(mean, spread, runs)]
            for blocks, mean in zip(numbers, means, strict=True)
        }
        right, slips = _rule(results), _slips(results)
        if right in slips[:1] and right != min(results) if clear else right not in slips:
            return results


def _block_inputs(rng):
    # As pairs: plain data has no dictionaries whose keys are numbers.
    clear = [list(_block_results(rng, clear=True).items()) for _ in range(2)]
    close = [list(_block_results(rng, clear=False).items()) for _ in range(3)]
    return {"clear": clear, "close": close}


def _probe_blocks(box, answer, inputs):
    return {
        kind: [box.call(answer, dict(pairs)) for pairs in cases] for kind, cases in inputs.items()
    }


def _judge_blocks(inputs, seen):
    def case(results, got):
        right, limit = _rule(results), _limit(results)
        mistakes = []
        for blocks, runs in results.items():
            mean = np.mean(runs)
            if mean >= limit:
                text = (
                    f"with {blocks} blocks the mean reaches the limit, {limit:.4f}, but with "
                    f"{right}, which are fewer, it does, too."
                )
            else:
                text = (
                    f"with {blocks} blocks the mean is {mean:.4f}, below the limit {limit:.4f}: the "
                    "best mean less one standard error, the deviation (with n − 1) over √n."
                )
            mistakes.append((blocks, text))
        return Case(f"choose_blocks({results})", got, right, tuple(mistakes))

    def cases(kind):
        return [case(dict(pairs), got) for pairs, got in zip(inputs[kind], seen[kind], strict=True)]

    return [
        part("one number of blocks is clearly best", 0.5, cases("clear")),
        part("fewer blocks are as good", 1.5, cases("close")),
    ]


EXERCISES = [
    Exercise(
        "make_pipeline",
        LESSON,
        2,
        _pipeline_inputs,
        _probe_pipeline,
        _judge_pipeline,
        twin="utils.data:load",
    ),
    Exercise(
        "build_head",
        LESSON,
        2,
        _head_inputs,
        _probe_head,
        _judge_head,
        allows=("ConvBlock",),  # the backbone that is given has one
        twin="utils.transfer:attach_head",
    ),
    Exercise(
        "freeze_batch_norm",
        LESSON,
        2,
        _freeze_inputs,
        _probe_freeze,
        _judge_freeze,
        allows=("ConvBlock",),  # the backbone that is given has one
        twin="utils.transfer:freeze_batch_norm",
    ),
    Exercise(
        "repaired",
        LESSON,
        2,
        _bug_inputs,
        _probe_bug,
        _judge_bug,
        allows=("ConvBlock",),  # the backbone that is given has one
        twin="utils.transfer:fine_tune",
        seconds=30,
    ),
    Exercise("choose_blocks", LESSON, 2, _block_inputs, _probe_blocks, _judge_blocks),
]
