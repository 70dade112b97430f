"""Degradation: from some depth on, a plain network fits its *training* data worse.

Plain and residual networks of 8, 32 and 56 layers (`utils.residual.ResNetCIFAR`, 16 filters in the
first stage) learn the 1,129 training images of `digits`, 8×8 pixels, with the same budget: the same
epochs, batches and learning rates. Nothing is done for better validation results (no augmentation,
no weight decay), since the question is how well a network can be trained.

The budget of 40 epochs is several times what the networks of 8 layers and the residual ones need,
so that a gap at its end is more than a slow start. The learning rate, .05, suits these networks. It
does not suit the plain 56 layers: with one seed they did best at .01 of .003, .01, .02, .05 and .1.
So these are also trained with .01, as long as all others and 100 epochs long.

Deep Residual Learning for Image Recognition, arXiv:1512.03385, Figures 1 and 6, asks the same of
CIFAR-10 and networks of 20 to 110 layers.
"""

import keras
import numpy as np
import tensorflow as tf

from utils.data import load
from utils.residual import ResNetCIFAR

DEPTHS = (8, 32, 56)
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 40
LEARNING_RATE = 0.05
BATCH_SIZE = 128
MOMENTUM = 0.9

# A second chance for the deepest plain network.
LONG_EPOCHS = 100
LOW_LEARNING_RATE = 0.01


def jobs() -> list:
    """Return the settings of all runs, the longest first.

    >>> len(jobs()), jobs()[0]["epochs"], jobs()[-1]["depth"]
    (36, 100, 8)
    """
    second_chances = [
        settings(max(DEPTHS), False, seed, epochs=epochs, learning_rate=LOW_LEARNING_RATE)
        for epochs in (LONG_EPOCHS, EPOCHS)
        for seed in SEEDS[:3]
    ]
    return second_chances + [
        settings(depth, residual, seed)
        for depth in reversed(DEPTHS)
        for seed in SEEDS
        for residual in (False, True)
    ]


def settings(
    depth: int,
    residual: bool,
    seed: int,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
) -> dict:
    """Return the settings of one run.

    Args:
        depth: layers of the network, 6n + 2.
        residual: False for the plain network.
        seed: decides the first weights and the order of the images.
        epochs: length of the run.
        learning_rate: of the first batch; it falls to 0 along half a cosine.

    >>> settings(8, True, seed=0, epochs=2)["epochs"]
    2
    """
    return {
        "depth": depth,
        "residual": residual,
        "seed": seed,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "momentum": MOMENTUM,
        "batch_size": BATCH_SIZE,
    }


def model(depth: int, residual: bool) -> keras.Model:
    """Build a network for `digits`: `(B, 8, 8, 1) → (B, 10)`.

    >>> model(8, residual=False).name
    'plain8'
    """
    return ResNetCIFAR(depth, input_shape=(8, 8, 1), residual=residual)


def models() -> list:
    """Return all networks of the experiment.

    >>> [network.name for network in models()][:2]
    ['plain8', 'resnet8']
    """
    return [model(depth, residual) for depth in DEPTHS for residual in (False, True)]


def run(settings: dict) -> dict:
    """Measure a network's gradients before training, then train it.

    Args:
        settings: as `settings` returns them.

    Returns:
        `gradient_norms`, one number for each convolution from the input on: the Euclidean norm of
        the gradient of the first batch's loss, in training mode, with respect to the kernel.
        And one number an epoch of `loss` and `accuracy`, means over the epoch's training batches
        as batch norm sees them in training; of `inference_loss`, on all training images after the
        epoch, with batch norm's moving statistics; of `val_loss` and `val_accuracy`.

    >>> seen = run(settings(8, residual=True, seed=0, epochs=1))
    >>> len(seen["gradient_norms"]), len(seen["loss"])
    (7, 1)
    """
    keras.utils.set_random_seed(settings["seed"])
    images, labels = _digits("train")
    network = model(settings["depth"], settings["residual"])
    batches = -(-len(images) // settings["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(
        settings["learning_rate"], settings["epochs"] * batches
    )
    network.compile(
        keras.optimizers.SGD(rate, settings["momentum"]),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # compiling would take longer than the training
    )
    first = slice(settings["batch_size"])
    norms = gradient_norms(network, images[first], labels[first])

    inference = []

    def evaluate(epoch, logs):
        loss, _ = network.evaluate(images, labels, batch_size=512, verbose=0)
        inference.append(loss)

    history = network.fit(
        images,
        labels,
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        validation_data=_digits("validation"),
        validation_batch_size=512,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=evaluate)],
        verbose=0,
    ).history
    curves = {**history, "inference_loss": inference}
    return {"gradient_norms": _short(norms)} | {name: _short(curves[name]) for name in curves}


def short_run(seed: int = 0, *, depth: int = 32, epochs: int = 4) -> dict:
    """Do two short runs in this process, a plain and a residual network's.

    Args:
        seed: as for `settings`.
        depth: layers of both networks, 6n + 2.
        epochs: length of each run.

    Returns:
        What `run` returns, of `"plain"` and of `"residual"`.

    >>> list(short_run(depth=8, epochs=1))
    ['plain', 'residual']
    """
    return {
        name: run(settings(depth, name == "residual", seed, epochs=epochs))
        for name in ("plain", "residual")
    }


def gradient_norms(network: keras.Model, images, labels) -> list:
    """Return the norm of the loss' gradient for each convolution kernel, from the input on.

    Batch norm works as in training, but its moving statistics stay as they are.

    Args:
        network: a compiled classifier.
        images: one batch `(B, H, W, C)`.
        labels: their classes `(B,)`.

    >>> network = model(8, residual=False)
    >>> network.compile(loss="sparse_categorical_crossentropy")
    >>> len(gradient_norms(network, np.ones((2, 8, 8, 1)), np.array([3, 7])))
    7
    """
    kept = [weight.numpy() for weight in network.non_trainable_variables]
    kernels = [weight for weight in network.trainable_weights if len(weight.shape) == 4]
    with tf.GradientTape() as tape:
        loss = network.compute_loss(
            x=images, y=keras.ops.convert_to_tensor(labels), y_pred=network(images, training=True)
        )
    gradients = tape.gradient(loss, [kernel.value for kernel in kernels])
    for weight, value in zip(network.non_trainable_variables, kept, strict=True):
        weight.assign(value)
    return [float(tf.norm(gradient)) for gradient in gradients]


def summarise(jobs: list) -> list:
    """Return a row for each network, number of epochs and learning rate, over all seeds.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `depth`, `residual`, `epochs`, `learning_rate` and the number of `runs`;
        `mean`, `std` (of these runs), `min` and `max` of `loss`, `inference_loss`, `accuracy` and
        `val_accuracy` after the last epoch; for each run `epochs_to_fit`, the first epoch with a
        `loss` below .1, or None; and of the `gradient_norms` of the first and the last convolution
        the geometric mean.

    >>> curves = dict.fromkeys(("inference_loss", "accuracy", "val_accuracy"), [1.0, 1.0])
    >>> curves["gradient_norms"] = [4.0, 2.0]
    >>> row, = summarise([{"settings": settings(8, True, seed),
    ...                    "result": {"loss": [2.0, last], **curves}}
    ...                   for seed, last in enumerate((0.05, 0.15))])
    >>> row["loss"]
    {'mean': 0.1, 'std': 0.05, 'min': 0.05, 'max': 0.15}
    >>> row["epochs_to_fit"], row["gradient_norms"]
    ([2, None], {'first': 4.0, 'last': 2.0})
    """
    groups = {}
    for job in jobs:
        key = {name: job["settings"][name] for name in _ROW}
        groups.setdefault(tuple(key.values()), []).append(job["result"])
    rows = []
    for key, results in sorted(groups.items()):
        row = {**dict(zip(_ROW, key, strict=True)), "runs": len(results)}
        for name in ("loss", "inference_loss", "accuracy", "val_accuracy"):
            last = [result[name][-1] for result in results]
            spread = _short([np.mean(last), np.std(last), np.min(last), np.max(last)])
            row[name] = dict(zip(("mean", "std", "min", "max"), spread, strict=True))
        row["epochs_to_fit"] = [
            next((n for n, loss in enumerate(result["loss"], 1) if loss < 0.1), None)
            for result in results
        ]
        norms = np.exp(np.mean(np.log([result["gradient_norms"] for result in results]), axis=0))
        row["gradient_norms"] = dict(zip(("first", "last"), _short(norms[[0, -1]]), strict=True))
        rows.append(row)
    return rows


_ROW = ("depth", "residual", "epochs", "learning_rate")


def _digits(split):
    images, labels = next(iter(load("digits", split, channels=1, batch_size=10_000)))
    return images.numpy(), labels.numpy()


def _short(values):
    """Four digits are enough, and keep the result small."""
    return [float(f"{value:.4g}") for value in values]
