"""The recipe by which experiments train a network from scratch on the solar cells.

1,640 training cells, each in one of its eight flips and quarter turns at every epoch, batches of
32, AdamW with a learning rate that rises for two epochs and falls along half a cosine to 0. The 328
validation cells are looked at once, at the end, so no epoch is chosen by them; the test cells are
not touched.
"""

import functools

import keras
import numpy as np

from utils.data import load, preprocess

BATCH_SIZE = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
WARMUP_EPOCHS = 2


@functools.cache
def cells(split: str, size: int) -> tuple:
    """Return the cells of a split in [−1, 1] and their labels, as the networks take them.

    Args:
        split: "train" or "validation".
        size: side in pixels.

    Returns:
        `(N, size, size, 1)` float32 and `(N,)`.

    >>> images, labels = cells("validation", 32)
    >>> images.shape, labels.shape
    ((328, 32, 32, 1), (328,))
    """
    options = {"image_size": size, "channels": 1, "batch_size": 10_000}
    images, labels = next(iter(load("solar_cells", split, **options)))
    return preprocess(images, "symmetric").numpy(), labels.numpy()


class _Turned(keras.utils.PyDataset):
    """Shuffled batches of cells, each flipped and turned at random."""

    def __init__(self, images, labels, seed):
        super().__init__()
        self.images, self.labels = images, labels
        self.rng = np.random.default_rng(seed)
        self.on_epoch_begin()

    def __len__(self):
        return len(self.images) // BATCH_SIZE

    def on_epoch_begin(self):
        self.order = self.rng.permutation(len(self.images))

    def __getitem__(self, index):
        chosen = self.order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        batch = np.empty((BATCH_SIZE, *self.images.shape[1:]), "float32")
        for place, (image, turn) in enumerate(
            zip(self.images[chosen], self.rng.integers(8, size=len(chosen)), strict=True)
        ):
            image = image[:, ::-1] if turn >= 4 else image
            batch[place] = np.rot90(image, turn % 4)
        return batch, self.labels[chosen]


def train(network: keras.Model, size: int, epochs: int, seed: int, split: str = "train") -> dict:
    """Train a network on solar cells and look at the validation cells once.

    Args:
        network: `(B, size, size, 1) → (B, 2)`, logits; set the seed before you build it.
        size: side of the images in pixels.
        epochs: length of the run.
        seed: decides the order of the cells and their turns.
        split: what to train on, a part of the training cells such as "train[:64]" for a short look.

    Returns:
        `loss` and `accuracy` of each epoch in training; `val_loss`, `val_accuracy`, and the shares
        `recall` of the defective and `specificity` of the functional cells that are found at the
        end, whose mean is `balanced_accuracy`.

    >>> from utils.blocks import classifier
    >>> x = keras.Input((16, 16, 1))
    >>> network = keras.Model(x, classifier(x, 2, None))
    >>> seen = train(network, 16, epochs=1, seed=0, split="train[:64]")
    >>> sorted(seen)[:3], len(seen["loss"])
    (['accuracy', 'balanced_accuracy', 'loss'], 1)
    """
    images, labels = cells(split, size)
    steps = len(images) // BATCH_SIZE
    warmup = min(WARMUP_EPOCHS * steps, epochs * steps // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * steps - warmup, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    network.compile(
        keras.optimizers.AdamW(schedule, WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = network.fit(_Turned(images, labels, seed), epochs=epochs, verbose=0).history
    images, labels = cells("validation", size)
    logits = network.predict(images, batch_size=64, verbose=0)
    loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    right = logits.argmax(axis=-1) == labels
    recall, specificity = right[labels == 1].mean(), right[labels == 0].mean()
    return {
        "loss": [_short(value) for value in history["loss"]],
        "accuracy": [_short(value) for value in history["accuracy"]],
        "val_loss": _short(np.mean(loss)),
        "val_accuracy": _short(right.mean()),
        "recall": _short(recall),
        "specificity": _short(specificity),
        "balanced_accuracy": _short((recall + specificity) / 2),
    }


def spread(values) -> dict:
    """Return mean, standard deviation, lowest and highest of some runs.

    >>> spread([0.5, 0.7])
    {'mean': 0.6, 'std': 0.1, 'min': 0.5, 'max': 0.7}
    """
    numbers = (np.mean(values), np.std(values), np.min(values), np.max(values))
    return dict(zip(("mean", "std", "min", "max"), map(_short, numbers), strict=True))


def _short(value):
    """Four digits are enough, and keep a result small."""
    return float(f"{value:.4g}")
