"""The exercises of lesson 08: a pipeline, a head, frozen batch norms, a bug, and how much to tune."""

import contextlib
import itertools
import statistics

import numpy as np

from utils.course.exercise import Case, Exercise, first_problem, graded, part, same, say

LESSON = "08_transfer_learning"


# make_pipeline ------------------------------------------------------------------------------


def _pipeline_inputs(rng):
    # So many images that nearly every order tells a full buffer from a smaller one.
    number, batch = int(rng.integers(400, 430)), int(rng.integers(20, 31))
    number += number % batch == 0  # so that the last batch is a smaller one
    height, width = (int(side) for side in rng.permutation([3, 4, 5, 6])[:2])
    return {
        # No pixel is 255: what divides by the largest one there is shall differ.
        "images": rng.integers(1, 200, (number, height, width, 1), dtype="uint8"),
        # All different, so that the judge knows each image by its label.
        "labels": rng.permutation(np.arange(1, 1001))[:number].astype("int64"),
        "batch_size": batch,
        "seed": int(rng.integers(1000)),
    }


def _probe_pipeline(box, answer, inputs):
    enough = 4 * len(inputs["images"]) // inputs["batch_size"]

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
        shown = [_shown(inputs, *epoch) for epoch in epochs]
        pairs = _pairs_problem(inputs, seen["value"], epochs, shown)
        pixels = _pixels_problem(inputs, *epochs[0], shown[0])
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
    for images, labels in itertools.chain(*seen["value"]):
        if images.ndim != 4 or labels.ndim != 1:
            return (
                f"an element has images of shape {images.shape} and labels of shape "
                f"{labels.shape}; expected (B, H, W, 3) and (B,)."
            )
        if len(images) != len(labels):
            return f"a batch has {len(images)} images beside {len(labels)} labels."
    return ""


def _pairs_problem(inputs, batches, epochs, shown):
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
    for (_, labels), places in zip(epochs, shown, strict=True):
        if sorted(labels.tolist()) != sorted(inputs["labels"].tolist()):
            return "the labels of an epoch are not those of the images, each once."
        own = _places(inputs, labels)
        if any(place not in (-1, mine) for place, mine in zip(places, own, strict=True)):
            return "an image came with the label of another one: shuffle pairs, not halves."
    return ""


def _brightness(images):
    """Return what tells images apart whatever is done to all their pixels: in units of their own."""
    flat = images.astype("float64")[..., :1].reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(flat.std(axis=1, keepdims=True), 1e-9)


def _places(inputs, labels):
    """Return where the images of some labels stand among those given, −1 for an unknown label."""
    place = {label: n for n, label in enumerate(inputs["labels"].tolist())}
    return [place.get(label, -1) for label in labels.tolist()]


def _shown(inputs, images, labels):
    """Return which of the images given each image shows, −1 if it shows none of them."""
    given, seen = _brightness(inputs["images"]), _brightness(images)
    if seen.shape[1:] != given.shape[1:]:
        return [-1] * len(images)
    shown = []
    for image, own in zip(seen, _places(inputs, labels), strict=True):
        alike = np.flatnonzero(np.abs(given - image).max(axis=1) < 0.02)
        shown.append(own if own in alike else int(alike[0]) if len(alike) else -1)
    return shown


def _pixels_problem(inputs, images, labels, places):
    if images.shape[1:3] != inputs["images"].shape[1:3]:
        return f"the images have the shape {images.shape[1:]}; keep height and width."
    if images.dtype.kind in "iu":
        return f"the images are {images.dtype}; cast them to float32, then divide by 255."
    if images.dtype != np.float32:
        return f"the images are {images.dtype}; expected float32."
    if np.abs(images.mean(axis=(1, 2, 3))).max() < 1e-3 < images.max():
        return "the mean of each image is 0, as if standardised; divide by 255 and no more."
    if images.min() < 0:
        return "pixels are negative; expected [0, 1]. What a network wants comes after that."
    if images.max() > 1.5:
        return f"pixels go up to {images.max():.0f}; divide by 255."
    if not images.any():
        return "all pixels are 0: `//` cuts to whole numbers; divide with `/`."
    if images.max() < 0.1:
        return f"pixels go up to {images.max():.4f} only: divide by 255 once."
    if images.shape[-1] != 3:
        return f"the images have {images.shape[-1]} channels; repeat the grey one three times."
    if -1 in places:
        return (
            "pixels are not those of the image, in whatever scale: divide by 255, and do not turn, "
            "flip or invert it."
        )
    right = inputs["images"][places].astype("float32")
    if same(images[..., 0], right[..., 0] / right.max(), 1e-3):
        return "you divide by the largest pixel that is there; divide by 255, the largest possible."
    if not same(images[..., 0], right[..., 0] / 255, 1e-3):
        return "pixels are not those of the image over 255: the brightness differs."
    if not same(images.max(-1), images.min(-1), 1e-3):
        return "the three channels differ; all three are the grey one."
    return ""


def _order_problem(inputs, batches, epochs):
    orders = [_places(inputs, labels) for _, labels in epochs]
    number = len(inputs["labels"])
    if -1 in orders[0] + orders[1]:
        return "no order can be seen, since the labels are others than those given."
    if orders[0] == orders[1] == sorted(orders[0]):
        return "both epochs have the order in which the images were given; shuffle them."
    runs = [sorted(_places(inputs, labels)) for _, labels in [*batches[0], *batches[1]]]
    if all(run == list(range(run[0], run[0] + len(run))) for run in runs):
        return (
            "whole batches change places, with the same images in each: shuffle before you batch."
        )
    if orders[0] == orders[1]:
        return "both epochs have the same order; shuffle anew in each (and behind a `cache`)."
    # A buffer of k images lets none come k places early. In a random order of 400 some image comes
    # 320 places early in all but one of 10⁴ epochs; both epochs lack one in one of 8 · 10⁷ checks.
    reach = max(n - position for order in orders for position, n in enumerate(order))
    if reach <= 0.8 * number:
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

    from utils._keras_private import layers_of

    return [
        layer for layer in layers_of(network) if isinstance(layer, keras.layers.BatchNormalization)
    ]


def _arrays(weights):
    """Return weights in the order of their names: that of the layers depends on the nesting."""
    return [np.array(weight) for weight in sorted(weights, key=lambda weight: weight.path)]


def _statistics(network):
    norms = _norms(network)
    return _arrays(w for norm in norms for w in (norm.moving_mean, norm.moving_variance))


def _scales(network):
    both = [weight for norm in _norms(network) for weight in (norm.gamma, norm.beta)]
    return _arrays(weight for weight in both if weight is not None)


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
    maps, given = np.array(backbone(case["x"], training=False)), len(_norms(backbone))
    network = answer(backbone, case["classes"])
    if not isinstance(network, keras.Model):
        return {"network": type(network).__name__}
    network(case["x"], training=False)  # a subclassed model has its weights from its first call on
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
        "norms": len(_norms(network)),
        "given": given,
        "kept": _equal(before, _statistics(network)),
    }


def _probe_head(box, answer, inputs):
    return [box.call(_look_at_head, answer, case) for case in inputs]


def _judge_head(inputs, seen):
    logits, learning, norms = [], [], []
    for case, got in zip(inputs, seen, strict=True):
        call = f"build_head(backbone, {case['classes']}): "
        problem = _network_problem(got) or _added_norms(got["value"])
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


def _added_norms(got):
    if got["norms"] <= got["given"]:
        return ""
    return "there is a batch norm in the head, too; leave it out."


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

    from utils._keras_private import layers_of

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
        for layer in layers_of(network)[1:]
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
    kernels, statistics, scales = _kernels(backbone), _statistics(backbone), _scales(backbone)
    with _eagerly():
        network = answer(backbone, case["images"], case["targets"])
    if not isinstance(network, keras.Model):
        return {"network": type(network).__name__}
    after = _kernels(network)
    outputs = np.array(network(case["images"], training=False))
    seen = {
        "norms": len(_norms(network)),
        "kernels": len(kernels) == len(after)
        and [not np.allclose(a, b, atol=1e-7) for a, b in zip(kernels, after, strict=True)],
        "can_learn": any(len(weight.shape) == 4 for weight in network.trainable_weights),
        "kept": _equal(statistics, _statistics(network)),
        "scales_kept": _equal(scales, _scales(network)),
        "outputs": outputs,
    }
    # Logits change with the head's weights in proportion; an activation behind them does not.
    for weight in network.weights:
        if tuple(weight.shape)[-1:] == (2,):
            weight.assign(-100 * weight)
    return {**seen, "scaled": np.array(network(case["images"], training=False)) / -100}


def _probe_bug(box, answer, inputs):
    return box.call(_look_at_trained, answer, inputs)


def _judge_bug(inputs, seen):
    problem = _network_problem(seen)
    if "Unknown variable" in problem:
        problem = (
            "compile again after you unfreeze, with a new optimizer: the one at hand knows the "
            "head's weights only."
        )
    learned = statistics = outputs = problem and f"repaired(…): {problem}"
    if not problem:
        got = seen["value"]
        if got["kernels"] is False:
            learned = "the network that you return has other convolutions than the backbone."
        elif not any(got["kernels"]) and got["can_learn"]:
            learned = (
                "the convolutions can learn, but no step has changed them: compile and fit again "
                "after you unfreeze."
            )
        elif not any(got["kernels"]):
            learned = (
                "no convolution of the returned network has changed: unfreeze the backbone that is "
                "in the network that you train (`backbone.trainable = True`), then compile again. "
                "(`network.trainable` was true all along; setting it again reaches no layer.)"
            )
        elif not all(got["kernels"]):
            learned = "only some convolutions have changed; let the whole backbone learn."
        if not got["kept"]:
            statistics = (
                "the statistics of batch norms are no longer those of the backbone: freeze the "
                "batch norms again, at any depth, behind `backbone.trainable = True`."
            )
        elif not got["scales_kept"]:
            statistics = (
                "the statistics are kept, but gamma and beta of batch norms have changed: "
                "`trainable = False` holds all four."
            )
        elif learned:
            statistics = (
                "the statistics are kept, but so is everything: first let the backbone learn."
            )
        values = got["outputs"]
        if values.shape != inputs["targets"].shape:
            outputs = f"16 images give outputs of shape {values.shape}; expected (16, 2)."
        elif not np.isfinite(values).all():
            outputs = "outputs are infinite or no numbers; take a smaller learning rate."
        elif same(values.sum(axis=1), np.ones(16), 1e-4):
            outputs = (
                "the outputs are probabilities, and the loss with from_logits=True expects logits."
            )
        elif not same(got["scaled"], values, 1e-3):
            outputs = (
                "an activation follows the head's dense layer, and the loss with from_logits=True "
                "expects what comes before one."
            )
        elif learned:
            outputs = "the outputs are logits; they count when the backbone learns, too."
    return [
        graded("the backbone learns", 1, learned),
        graded("batch norms stay", 0.5, statistics),
        graded("the outputs are logits", 0.5, outputs),
    ]


# choose_blocks ------------------------------------------------------------------------------


def _numbers(results):
    """Return the means, their standard errors, and the number of blocks with the best mean."""
    runs = np.array(list(results.values()))
    means = dict(zip(results, runs.mean(axis=1).tolist(), strict=True))
    errors = runs.std(axis=1, ddof=1) / runs.shape[1] ** 0.5
    return means, dict(zip(results, errors.tolist(), strict=True)), max(means, key=means.get)


def _fewest(means, error):
    """Return the fewest blocks whose mean is not below the best one less an error."""
    limit = max(means.values()) - error - 1e-12
    return min(blocks for blocks, mean in means.items() if mean >= limit)


def _rule(results):
    means, errors, best = _numbers(results)
    return _fewest(means, errors[best])


def _limit(results):
    means, errors, best = _numbers(results)
    return means[best] - errors[best]


# Where plausible wrong rules end, in all close cases and in one at least. The sentence is for
# those who return in all cases what the wrong rule does.
_ALWAYS = {
    "best": "",
    "most": "",
    "first": "",
    "fewest": "",
    "single": "",
    "deviation": "the limit seems too low: it is one standard error below the best mean, s/√n.",
    "two": "the limit seems too low: it is one standard error below the best mean, s/√n.",
}
_ONCE = {
    "ddof": "the squares seem to be divided by n; divide them by n − 1: `ddof=1`.",
    "over n": "the deviation seems to be divided by n; divide it by √n.",
    "n - 1": "the deviation seems to be divided by √(n − 1); divide s, with ddof=1, by √n.",
    "numbers": "n seems to be how many numbers of blocks there are; it is how many runs one has.",
    "largest": "the error seems to be the largest of all; take that of the best mean.",
    "own": "the error seems to be that of each mean itself; take that of the best mean.",
    "pooled": "the deviation seems to be that of all runs together; take the best mean's alone.",
    "median": "you seem to compare medians; compare means.",
    "rounded": "you seem to round the means; compare them as they are.",
    "walk": "you seem to stop at the first mean that is too low; still fewer blocks may do.",
}
_SENTENCES = {**_ALWAYS, **_ONCE}
# Which of them each close case tells from the rule.
_CASES = (
    ("ddof", "over n"),
    ("n - 1",),
    ("largest", "own"),
    ("median", "rounded"),
    ("numbers", "pooled"),
    ("walk",),
)


def _slips(results):
    """Return where plausible wrong rules end."""
    means, errors, best = _numbers(results)
    error, n = errors[best], len(results[best])
    inside = [blocks for blocks, mean in means.items() if mean >= means[best] - error]
    pooled = float(np.std(list(results.values()), ddof=1))
    medians = {blocks: statistics.median(runs) for blocks, runs in results.items()}
    fewer = sorted((blocks for blocks in results if blocks < best), reverse=True)
    walk = [best, *itertools.takewhile(inside.__contains__, fewer)]
    rounded = {blocks: round(mean, 2) for blocks, mean in means.items()}
    return {
        "best": best,
        "most": max(inside),
        "first": inside[0],
        "fewest": min(results),
        "single": max(results, key=lambda blocks: max(results[blocks])),
        "deviation": _fewest(means, error * n**0.5),
        "two": _fewest(means, 2 * error),
        "ddof": _fewest(means, error * ((n - 1) / n) ** 0.5),
        "over n": _fewest(means, error / n**0.5),
        "n - 1": _fewest(means, error * (n / (n - 1)) ** 0.5),
        "numbers": _fewest(means, error * (n / len(results)) ** 0.5),
        "largest": _fewest(means, max(errors.values())),
        "own": min(b for b in results if means[b] + errors[b] >= means[best]),
        "pooled": _fewest(means, pooled / n**0.5),
        "median": _fewest(medians, errors[max(medians, key=medians.get)]),
        "rounded": _fewest(rounded, errors[max(rounded, key=rounded.get)]),
        "walk": walk[-1],
    }


def _doubtful(results):
    """Tell whether rounding may decide: two best means, one at the limit, one amid two digits."""
    means, limit = sorted(_numbers(results)[0].values()), _limit(results)
    return means[-1] - means[-2] < 1e-6 or any(
        abs(mean - limit) < 1e-6 or abs(100 * mean % 1 - 0.5) < 1e-6 for mean in means
    )


def _block_results(rng, others=()):
    """Draw results in which slips, those that `others` names, too, end elsewhere than the rule.

    Without `others` one number is clearly best, and the rule ends there.
    """
    while True:
        numbers = [int(n) for n in rng.permutation([0, 1, 2, 4, 8, 12, 16])[:5]]
        # As many runs as numbers of blocks: who takes the one for the other makes no mistake here.
        runs = 5 if "ddof" in others else int(rng.integers(3, 6))
        means = 0.8 + (0.006 if others else 0.04) * rng.permutation(5)
        spread = rng.uniform(0.008, 0.02) if others else 0.008
        values = rng.normal(means[:, None], spread, (5, runs)).round(4).tolist()
        results = dict(zip(numbers, values, strict=True))
        means, errors, best = _numbers(results)
        right = _fewest(means, errors[best])
        if (right == best) == bool(others) or right == min(results) or _doubtful(results):
            continue
        slips = _slips(results)
        if not others or all(slips[name] != right for name in (*_ALWAYS, *others)):
            return results


def _block_inputs(rng):
    while True:
        clear = [_block_results(rng) for _ in range(2)]
        close = [_block_results(rng, others) for others in _CASES]
        told = {}  # what ends at the same numbers in all cases → the sentences for it
        slips = [_slips(results) for results in clear + close]
        for name, sentence in _SENTENCES.items():
            told.setdefault(tuple(ends[name] for ends in slips), set()).add(sentence)
        if all(len(sentences) == 1 for sentences in told.values()):
            break
    # As pairs: plain data has no dictionaries whose keys are numbers.
    pairs = {"clear": clear, "close": close}
    return {kind: [list(results.items()) for results in cases] for kind, cases in pairs.items()}


def _probe_blocks(box, answer, inputs):
    return {
        kind: [box.call(answer, dict(pairs)) for pairs in cases] for kind, cases in inputs.items()
    }


def _slip_made(inputs, seen):
    """Return the sentence for the slip that ends in all cases where the answer does, or ""."""
    results = [dict(pairs) for cases in inputs.values() for pairs in cases]
    values = [got.get("value") for kind in inputs for got in seen[kind]]
    ends = [_slips(each) for each in results]
    for name, sentence in _SENTENCES.items():
        if same(values, [each[name] for each in ends]):
            return sentence
    return ""


def _judge_blocks(inputs, seen):
    slip = _slip_made(inputs, seen)

    def case(results, got):
        right, limit = _rule(results), _limit(results)
        if slip and not same(got["value"], right):
            mistakes = ((got["value"], f"{right} would be right: {slip}"),)
            return Case(f"choose_blocks({results})", got, right, mistakes)
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
