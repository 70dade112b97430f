"""Transfer learning: a trained network gets a new head, is fine-tuned with care, and is judged.

    backbone = EfficientNetLite0((160, 160, 3), weights="imagenet", include_top=False)
    network = attach_head(backbone, classes=2)     # a head that knows nothing yet
    unfreeze(network, blocks=0)                    # only the head learns
    fit_head(network, images, targets)             # in seconds, on features computed once
    unfreeze(network)                              # all layers learn, but batch norms stay
    fine_tune(network, images, targets, epochs=8)  # warm-up, then half a cosine

`evaluate` and `bootstrap_interval` say how good it is, `grad_cam` where it looked.
"""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np

from utils._keras_private import layers_of
from utils.blocks import check_positive, classifier


def attach_head(backbone, classes, dropout=0.2):
    """Put pooling, dropout and a dense layer on a network without top: `(B, H, W, C) → (B, K)`.

    Args:
        backbone: a functional model `(B, H, W, C) → (B, h, w, F)`; its layers are shared.
        classes: K.
        dropout: share of the pooled channels that training drops.

    Returns:
        A functional model that returns logits; its last layers are `avg_pool`, `dropout` and
        `predictions`, a dense layer of F·K + K new weights.

    Raises:
        ValueError: the backbone ends in anything but feature maps; `classes` is not positive.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((64, 64, 3), include_top=False), classes=2)
    >>> network.output_shape, network.layers[-1].count_params()
    ((None, 2), 2562)
    """
    if len(backbone.output_shape) != 4:
        raise ValueError(
            f"backbone with outputs of shape {backbone.output_shape}: expected (B, H, W, F); "
            "build it with include_top=False"
        )
    logits = classifier(backbone.output, classes, activation=None, dropout=dropout)
    return keras.Model(backbone.input, logits, name=backbone.name)


def freeze_batch_norm(network):
    """Let every batch norm of a network, at any depth, use and keep its moving statistics.

    A batch norm that is not trainable runs as it does at inference, also in training: the batches
    of a small data set would replace what millions of images have measured.

    Args:
        network: a Keras model or layer; compile it afterwards.

    Returns:
        How many batch norms it has.

    >>> from utils.blocks import ConvBlock
    >>> block = ConvBlock(8)
    >>> _ = block(keras.ops.ones((1, 4, 4, 3)))
    >>> freeze_batch_norm(block), len(block.trainable_weights)
    (1, 1)
    """
    layers = [
        layer for layer in layers_of(network) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.trainable = False
    return len(layers)


def unfreeze(network, blocks=None):
    """Let the head of a network learn, and the last blocks before it; batch norms stay frozen.

    Args:
        network: of `attach_head`; compile it afterwards.
        blocks: how many layers with weights before the head learn, counted from the end; 0 for
            none, None for all.

    Returns:
        How many numbers can learn now.

    Raises:
        ValueError: the network has fewer blocks.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((64, 64, 3), include_top=False), classes=2)
    >>> unfreeze(network, blocks=0), unfreeze(network, blocks=1), unfreeze(network)
    (2562, 412162, 3331554)
    """
    *backbone, head = (layer for layer in network.layers if layer.weights)
    if blocks is not None and blocks not in range(len(backbone) + 1):
        raise ValueError(f"blocks={blocks!r}: expected None or a number from 0 to {len(backbone)}")
    first = 0 if blocks is None else len(backbone) - blocks
    for place, layer in enumerate(backbone):
        layer.trainable = place >= first
    head.trainable = True
    freeze_batch_norm(network)
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


def features(network, images, batch_size=64):
    """Return what the head of a network sees: the pooled features of images.

    Args:
        network: of `attach_head`.
        images: `(N, H, W, C)` or `(N, H, W, 1)`, as `fine_tune` takes them.
        batch_size: images a call.

    Returns:
        Numpy array `(N, F)`.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((32, 32, 3), include_top=False), classes=2)
    >>> features(network, np.ones((2, 32, 32, 1), "float32")).shape
    (2, 1280)
    """
    pooled = keras.Model(network.input, network.get_layer("avg_pool").output)
    return _outputs(pooled, images, batch_size)


def fit_head(network, images, targets, *, epochs=60, learning_rate=3e-3, weights=None, seed=0):
    """Train the head alone, on features that are computed once.

    Args:
        network: of `attach_head`; its last layer is changed.
        images: `(N, H, W, C)` or `(N, H, W, 1)`, as `fine_tune` takes them.
        targets: `(N, K)`, the share of each class.
        epochs: how often to go through the features; Adam, batches of 64, half a cosine.
        learning_rate: at the start.
        weights: `(N,)`, how much each image counts; None for all alike.
        seed: decides the order.

    Returns:
        The features, `(N, F)`.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((32, 32, 3), include_top=False), classes=2)
    >>> fit_head(network, np.ones((4, 32, 32, 1), "float32"), np.eye(2)[[0, 1, 0, 1]]).shape
    (4, 1280)
    """
    seen = features(network, images)
    head = network.layers[-1]
    inputs = keras.Input(seen.shape[1:])
    alone = keras.Model(inputs, keras.layers.Dense(head.units)(inputs))
    alone.set_weights(head.get_weights())
    steps = -(-len(seen) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs)
    alone.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps,  # so small a step takes less time than to start it
        jit_compile=False,
    )
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(seen)) for _ in range(epochs)])
    weights = np.ones(len(seen), "float32") if weights is None else np.asarray(weights)
    targets = np.asarray(targets, "float32")
    for rows in np.split(order, range(640 * steps, len(order), 640 * steps)):  # for memory's sake
        alone.fit(
            seen[rows],
            targets[rows],
            sample_weight=weights[rows],
            batch_size=64,
            shuffle=False,
            verbose=0,
        )
    head.set_weights(alone.get_weights())
    return seen


def turned(image, turn):
    """Return one of the eight flips and quarter turns of an image.

    Args:
        image: `(H, H, C)`.
        turn: 0 to 7; 0 is the image itself, from 4 on it is mirrored first.

    >>> turned(np.array([[[1], [2]], [[3], [4]]]), 4)[..., 0].tolist()
    [[2, 1], [4, 3]]
    """
    return np.rot90(image[:, ::-1] if turn >= 4 else image, turn % 4)


class Batches(keras.utils.PyDataset):
    """One epoch of shuffled, turned batches, which depend on nothing but the seed and the epoch.

    Args:
        images: `(N, H, W, C)` or `(N, H, W, 1)`; a single channel is repeated `channels` times.
        targets: `(N, K)`, the share of each class.
        weights: `(N,)`, how much each image counts; None for all alike.
        batch_size: images in a batch; the last one may have fewer.
        seed: with `epoch`, decides the order, the turns and what is mixed.
        epoch: number of the epoch, from 0.
        turn: draw one of the eight flips and quarter turns for each image.
        mixup: if positive, each batch is mixed with itself in another order (arXiv:1710.09412),
            with a share drawn from Beta(`mixup`, `mixup`).
        channels: of the batches.

    >>> batches = Batches(np.ones((5, 8, 8, 1)), np.eye(2)[[0, 1, 0, 1, 1]], batch_size=4)
    >>> len(batches), [part.shape for part in batches[1]]
    (2, [(1, 8, 8, 3), (1, 2), (1,)])
    """

    def __init__(
        self,
        images,
        targets,
        weights=None,
        *,
        batch_size=32,
        seed=0,
        epoch=0,
        turn=True,
        mixup=0.0,
        channels=3,
    ):
        super().__init__()
        self.images, self.targets = images, np.asarray(targets, "float32")
        self.weights = np.ones(len(images), "float32") if weights is None else np.asarray(weights)
        self.batch_size, self.mixup, self.channels = batch_size, mixup, channels
        rng = np.random.default_rng((seed, epoch))
        self.order = rng.permutation(len(images))
        self.turns = rng.integers(8, size=len(images)) * turn
        self.mixes = rng.beta(mixup, mixup, size=len(self)) if mixup else None
        self.seeds = rng.integers(2**32, size=len(self))

    def __len__(self):
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images = np.stack([turned(self.images[place], self.turns[place]) for place in chosen])
        images = images.astype("float32", copy=False)
        targets, weights = self.targets[chosen], self.weights[chosen]
        if self.mixup:
            share = np.float32(self.mixes[index])
            other = np.random.default_rng(self.seeds[index]).permutation(len(chosen))
            images = share * images + (1 - share) * images[other]
            targets = share * targets + (1 - share) * targets[other]
        return _with_channels(images, self.channels), targets, weights


def fine_tune(
    network,
    images,
    targets,
    *,
    epochs,
    learning_rate=3e-4,
    weight_decay=1e-4,
    warmup=0.1,
    batch_size=32,
    weights=None,
    turn=True,
    mixup=0.0,
    seed=0,
    checkpoint=None,
    verbose=0,
):
    """Train what is trainable: AdamW, its rate rising at first and falling along half a cosine.

    Args:
        network: of `attach_head`, `(B, H, W, C) → (B, K)` logits; see `unfreeze`.
        images: `(N, H, W, C)` as the network takes them, or `(N, H, W, 1)`, whose channel is
            repeated; or a list with such an array for each epoch, for a size that grows.
        targets: `(N, K)`, the share of each class: rows of 0 and 1, or probabilities.
        epochs: how often to go through the images.
        learning_rate: the highest.
        weight_decay: of AdamW.
        warmup: share of the steps in which the rate rises from 0.
        batch_size: images in a batch.
        weights: `(N,)`, how much each image counts, as `class_weights` returns them.
        turn: as for `Batches`.
        mixup: as for `Batches`.
        seed: as for `Batches`, and of dropout; the head's first weights have a seed of their own,
            that of `keras.utils.set_random_seed`.
        checkpoint: path of a file that keeps the state after each epoch. A run that was stopped
            goes on behind the last whole epoch and ends with the weights that it would have had;
            the file is removed at the end. Call it again with the same settings, data and first
            weights.
        verbose: 1 shows a progress bar for each epoch.

    Returns:
        The mean training loss of each epoch.

    Raises:
        ValueError: nothing is trainable; the shapes do not fit; the checkpoint is of another run
            or of an earlier version, and is left as it is.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((32, 32, 3), include_top=False), classes=2)
    >>> images, targets = np.ones((4, 32, 32, 1), "float32"), np.eye(2)[[0, 1, 0, 1]]
    >>> _ = unfreeze(network, blocks=0)
    >>> len(fine_tune(network, images, targets, epochs=1))
    1
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    every = images if isinstance(images, list) else [images] * epochs
    _check_training(network, every, targets, epochs)
    steps = -(-len(targets) // batch_size) * epochs
    rising = round(warmup * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - rising, warmup_target=learning_rate, warmup_steps=rising
    )
    network.compile(
        keras.optimizers.AdamW(schedule if rising else learning_rate, weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    run, losses = {}, []
    if checkpoint:
        settings = [epochs, learning_rate, weight_decay, warmup, batch_size, turn, mixup, seed]
        run = _run(network, settings, every, targets, weights)
        losses = _restore(network, checkpoint, run)

    def reseed(epoch, logs):
        # What dropout draws depends on seed and epoch only, too.
        generators = _generators(network)
        drawn = np.random.default_rng((seed, epoch)).integers(2**32, size=(len(generators), 2))
        for state, value in zip(generators, drawn, strict=True):
            state.assign(value)

    for epoch in range(len(losses), epochs):
        batches = Batches(
            every[epoch],
            targets,
            weights,
            batch_size=batch_size,
            seed=seed,
            epoch=epoch,
            turn=turn,
            mixup=mixup,
            channels=network.input_shape[-1],
        )
        history = network.fit(
            batches,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=reseed)],
            shuffle=False,  # the order of the batches would come from Python's own generator
            verbose=verbose,
        )
        losses.append(float(history.history["loss"][0]))
        if checkpoint:
            _keep(network, checkpoint, run, losses)
    if checkpoint:
        Path(checkpoint).unlink()
    return losses


def predict(network, images, *, turns=1, batch_size=64):
    """Return the probabilities of the classes, averaged over turns of each image.

    Args:
        network: `(B, H, W, C) → (B, K)`, logits.
        images: `(N, H, W, C)` or `(N, H, W, 1)`, as `fine_tune` takes them.
        turns: how many of the eight flips and quarter turns to average over.
        batch_size: images a call.

    Returns:
        Numpy array `(N, K)`; each row sums to 1.

    Raises:
        ValueError: `turns` is not from 1 to 8.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((32, 32, 3), include_top=False), classes=2)
    >>> predict(network, np.ones((3, 32, 32, 1), "float32"), turns=2).shape
    (3, 2)
    """
    if turns not in range(1, 9):
        raise ValueError(f"turns={turns!r}: expected a number from 1 to 8")
    total = 0
    for turn in range(turns):
        logits = _outputs(network, images, batch_size, turn)
        total = total + keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return total / turns


def class_weights(labels):
    """Return a weight for each example, so that every class counts alike and the mean is 1.

    Args:
        labels: `(N,)`, whole numbers from 0.

    Returns:
        `(N,)` float32: N / (K · number of examples of the class).

    >>> class_weights([0, 1, 1]).tolist()
    [1.5, 0.75, 0.75]
    """
    labels = np.asarray(labels)
    numbers = np.bincount(labels)
    return (len(labels) / (np.count_nonzero(numbers) * numbers[labels])).astype("float32")


def evaluate(labels, probabilities):
    """Compare predictions of two classes with the truth.

    Args:
        labels: `(N,)` of 0 and 1, both of them present.
        probabilities: `(N,)`, that of class 1; `(N, 2)` as `predict` returns them will do.

    Returns:
        A dictionary: `accuracy`; `balanced_accuracy`, the mean of the shares of each class that
        are found; `roc_auc`, the probability that an example of class 1 gets a higher value than
        one of class 0; `confusion`, rows are the truth, columns what was said; and `majority`, the
        accuracy of always saying the more frequent class.

    Raises:
        ValueError: shapes that do not fit; labels of one class only.

    >>> seen = evaluate([0, 0, 0, 1], [0.1, 0.2, 0.7, 0.6])
    >>> seen["accuracy"], round(seen["balanced_accuracy"], 3), seen["majority"], seen["confusion"]
    (0.75, 0.833, 0.75, [[2, 1], [0, 1]])
    """
    from sklearn import metrics

    labels, values = np.asarray(labels), np.asarray(probabilities)
    if values.ndim == 2 and values.shape[1] == 2:
        values = values[:, 1]
    if labels.ndim != 1 or labels.shape != values.shape:
        raise ValueError(
            f"labels of shape {labels.shape} and probabilities of shape "
            f"{np.shape(probabilities)}: expected (N,) and (N,) or (N, 2)"
        )
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError(f"labels of classes {np.unique(labels).tolist()}: expected both 0 and 1")
    said = (values >= 0.5).astype(int)
    return {
        "accuracy": float(metrics.accuracy_score(labels, said)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, said)),
        "roc_auc": float(metrics.roc_auc_score(labels, values)),
        "confusion": metrics.confusion_matrix(labels, said).tolist(),
        "majority": float(max(labels.mean(), 1 - labels.mean())),
    }


def bootstrap_interval(right, *, level=0.95, draws=10_000, seed=0):
    """Return an interval for the mean accuracy, over examples and over runs.

    Each draw takes as many runs, and as many examples, as there are, with replacement: it asks what
    you would have seen with other seeds and with other examples. All runs are judged by the same
    examples in a draw.

    Args:
        right: `(runs, N)`, whether each run is right on each example; `(N,)` for one run.
        level: share of the draws inside.
        draws: how many.
        seed: of the draws.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: `right` has another shape; `level` is not between 0 and 1.

    >>> low, high = bootstrap_interval(np.arange(100) < 80)
    >>> round(low, 2), round(high, 2)
    (0.72, 0.88)
    """
    right = np.atleast_2d(np.asarray(right, float))
    if right.ndim != 2 or not right.size:
        raise ValueError(f"right of shape {right.shape}: expected (runs, N)")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a number between 0 and 1")
    rng = np.random.default_rng(seed)
    runs, examples = right.shape
    # How often a draw takes each run and each example.
    of_runs = rng.multinomial(runs, np.full(runs, 1 / runs), size=draws) / runs
    of_examples = rng.multinomial(examples, np.full(examples, 1 / examples), size=draws) / examples
    means = np.einsum("dr,rn,dn->d", of_runs, right, of_examples, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def grad_cam(network, images, target, layer=None):
    """Return where a network looked: Grad-CAM of feature maps, `(B, H, W, C) → (B, h, w)`.

    Each feature map is weighed by the mean slope of the class's logit in it; what is positive in
    the sum speaks for the class. With pooling and a dense layer behind the maps, the weights are
    the dense layer's own over h·w.

    Args:
        network: `(B, H, W, C) → (B, K)`, logits; TensorFlow must be the backend.
        images: `(B, H, W, C)`, or `(B, H, W, 1)` with a channel to repeat.
        target: class whose logit to explain.
        layer: name of the layer whose maps to take; None for the one before the pooling.

    Returns:
        Numpy array, from 0, in units of the logit.

    Raises:
        ValueError: there is no such class.

    Reference: arXiv:1610.02391, equations 1 and 2.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> network = attach_head(EfficientNetLite0((64, 64, 3), include_top=False), classes=2)
    >>> grad_cam(network, np.ones((1, 64, 64, 1), "float32"), target=1).shape
    (1, 2, 2)
    """
    import tensorflow as tf

    classes = network.output_shape[-1]
    if target not in range(classes):
        raise ValueError(f"target={target!r}: expected a class from 0 to {classes - 1}")
    source = network.get_layer(layer).output if layer else network.get_layer("avg_pool").input
    both = keras.Model(network.input, [source, network.output])
    with tf.GradientTape() as tape:
        maps, logits = both(_with_channels(np.asarray(images), network.input_shape[-1]))
        wanted = tf.reduce_sum(logits[:, target])
    slopes = tf.reduce_mean(tape.gradient(wanted, maps), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(slopes * maps, axis=-1)).numpy()


def _with_channels(images, channels):
    if images.shape[-1] == channels:
        return images
    return np.repeat(images, channels, axis=-1)


def _outputs(network, images, batch_size, turn=0):
    """Run a network over images, batch by batch."""
    outputs = []
    size = min(batch_size, len(images))
    for start in range(0, len(images), size):
        batch = np.stack([turned(image, turn) for image in images[start : start + size]])
        number = len(batch)
        # The last batch is filled up: for another shape Keras would prepare the network anew.
        batch = np.pad(batch, [(0, size - number), (0, 0), (0, 0), (0, 0)], mode="edge")
        batch = _with_channels(batch.astype("float32", copy=False), network.input_shape[-1])
        outputs.append(network.predict_on_batch(batch)[:number])
    return np.concatenate(outputs)


def _check_training(network, every, targets, epochs):
    if not network.trainable_variables:
        raise ValueError(f"network {network.name!r}: nothing is trainable; call `unfreeze` first")
    if len(every) != epochs:
        raise ValueError(f"images: expected an array, or a list of {epochs}, got {len(every)}")
    expected = (len(every[0]), network.output_shape[-1])
    if np.shape(targets) != expected:
        raise ValueError(f"targets of shape {np.shape(targets)}: expected {expected}")


def _generators(network):
    """Return the states of the random number generators of a network's layers."""
    layers = [layer for layer in layers_of(network) if hasattr(layer, "seed_generator")]
    return [layer.seed_generator.state for layer in layers]


def _variables(network):
    return [*network.weights, *network.optimizer.variables]


def _values(variables):
    # Copies: the first weights must not change with the network's.
    return [np.array(keras.ops.convert_to_numpy(each)) for each in variables]


def _keep(network, path, run, losses):
    """Write the state of a training in one step: a killed run leaves the old file or the new."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    values = _values(_variables(network))
    with scratch.open("wb") as file:
        np.savez(file, *values, losses=losses, **run)
    os.replace(scratch, path)


def _restore(network, path, run):
    """Take up the state that `_keep` wrote; returns the losses of the finished epochs."""
    if not Path(path).exists():
        return []
    variables = _variables(network)
    try:
        # Opened here: numpy would leave a damaged file open.
        with open(path, "rb") as file, np.load(file) as kept:
            values = [kept[f"arr_{place}"] for place in range(len(variables))]
            fits = all(_alike(kept[name], value) for name, value in run.items())
            losses = kept["losses"].tolist()
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile):
        fits = False
    if not fits or any(a.shape != tuple(b.shape) for a, b in zip(values, variables, strict=True)):
        raise ValueError(
            f"checkpoint={str(path)!r}: it is of another run (other settings, data or first "
            "weights) or of an earlier version; remove it or choose another path"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return losses


def _run(network, settings, every, targets, weights):
    """Return what tells a training from another one: its settings, its data, its first weights."""
    data = [np.asarray(targets, "float32")]
    data += [] if weights is None else [np.asarray(weights, "float32")]
    # A list may hold the same array many times.
    data += [np.asarray(each) for each in {id(each): each for each in every}.values()]
    about = [*settings, [list(np.shape(each)) for each in every], weights is None]
    digest = hashlib.blake2b(json.dumps(about).encode())
    for array in data:
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view("uint8"))
    first = {f"first_{place}": weight for place, weight in enumerate(_values(network.weights))}
    return {"run": np.array(digest.hexdigest()), **first}


def _alike(kept, value):
    """Compare a part of what `_run` returns.

    Weights that a short training has made, as that of the head, differ in their last digits when it
    is repeated.
    """
    if kept.dtype.kind != "f":
        return np.array_equal(kept, value)
    largest = np.max(np.abs(value), initial=0)
    return kept.shape == value.shape and np.allclose(kept, value, rtol=0, atol=1e-3 * largest)
