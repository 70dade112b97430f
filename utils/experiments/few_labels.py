"""How much labelled data each way of training needs: from scratch, a head alone, fine-tuning.

One network, EfficientNet-Lite0, learns 50, 200 or all 1,640 training cells at 96×96 pixels:
from random weights ("scratch"), as a fixed extractor of ImageNet's features with a head on top
("frozen"), or from ImageNet's weights with every layer but batch norm learning ("tuned"). The 50
cells are among the 200; each seed draws its own. The 328 validation cells are looked at once, at
the end of a run. The number of epochs of each way was set before the first run; training from
scratch gets two to three times those of fine-tuning.
"""

import keras
import numpy as np

from utils import transfer
from utils.efficientnet import EfficientNetLite0
from utils.experiments import recipes, solar

SIZE = 96
SEEDS = (0, 1, 2)
NUMBERS = (50, 200, 1640)
WAYS = ("scratch", "frozen", "tuned")
EPOCHS = {
    "scratch": {50: 100, 200: 40, 1640: 16},
    "frozen": {50: 60, 200: 60, 1640: 60},
    "tuned": {50: 30, 200: 20, 1640: 8},
}
LEARNING_RATE = {"scratch": 2e-3, "frozen": 3e-3, "tuned": 3e-4}


def jobs() -> list:
    """Return the settings of all runs, the longest first.

    >>> len(jobs()), jobs()[0]["way"], jobs()[0]["number"]
    (27, 'scratch', 1640)
    """
    return [
        settings(way, number, seed)
        for way in ("scratch", "tuned", "frozen")
        for number in sorted(NUMBERS, reverse=True)
        for seed in SEEDS
    ]


def settings(way: str, number: int, seed: int) -> dict:
    """Return the settings of one run.

    Args:
        way: one of `WAYS`.
        number: how many cells have labels, one of `NUMBERS`.
        seed: decides which cells, the first weights, the order and the turns.

    >>> settings("tuned", 50, seed=0)["epochs"]
    30
    """
    return {
        "way": way,
        "number": number,
        "seed": seed,
        "epochs": EPOCHS[way][number],
        "learning_rate": LEARNING_RATE[way],
    }


def chosen(targets: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Return the places of some cells, with each class in its share; fewer are among more.

    Args:
        targets: `(N,)`, the class of each cell.
        number: how many to choose.
        seed: of the choice.

    >>> targets = np.array([0, 1, 0, 0, 1, 0])
    >>> np.bincount(targets[chosen(targets, 3, seed=0)]).tolist()
    [2, 1]
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(targets))
    # The k-th of n cells of a class stands at (k + ½)/n, so every beginning has its share of each.
    place = np.empty(len(targets))
    for value in np.unique(targets):
        members = order[targets[order] == value]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:number])


def model(way: str) -> keras.Model:
    """Build the network of a way of training: `(B, 96, 96, 3) → (B, 2)`, logits.

    >>> model("tuned").output_shape
    (None, 2)
    """
    backbone = EfficientNetLite0(
        (SIZE, SIZE, 3),
        weights=None if way == "scratch" else "imagenet",
        include_top=False,
        drop_rate=0.0,
        momentum=0.9,
    )
    return transfer.attach_head(backbone, classes=2)


def models() -> list:
    """Return the network of each way of training.

    >>> len(models())
    3
    """
    return [model(way) for way in WAYS]


def run(settings: dict) -> dict:
    """Train once and look at the validation cells once.

    Args:
        settings: as `settings` returns them.

    Returns:
        `loss` of each epoch, `[]` for "frozen"; `train_accuracy` on the chosen cells; and what
        `utils.transfer.evaluate` says of the validation cells, without the confusion matrix.
    """
    keras.utils.set_random_seed(settings["seed"])
    network = model(settings["way"])
    images, probabilities = recipes.cells("train", SIZE)
    places = chosen(probabilities >= 0.5, settings["number"], settings["seed"])
    images, defective = images[places], probabilities[places] >= 0.5
    targets = np.stack([~defective, defective], axis=1).astype("float32")
    losses = []
    if settings["way"] != "scratch":
        transfer.unfreeze(network, 0)
        transfer.fit_head(network, images, targets, seed=settings["seed"])
    if settings["way"] != "frozen":
        if settings["way"] == "tuned":
            transfer.unfreeze(network)
        losses = transfer.fine_tune(
            network,
            images,
            targets,
            epochs=settings["epochs"],
            learning_rate=settings["learning_rate"],
            seed=settings["seed"],
        )
    said = transfer.predict(network, images)[:, 1] >= 0.5
    validation, probabilities = recipes.cells("validation", SIZE)
    seen = transfer.evaluate(
        (probabilities >= 0.5).astype(int), transfer.predict(network, validation)
    )
    del seen["confusion"]
    return {
        "loss": [_short(loss) for loss in losses],
        "train_accuracy": _short(np.mean(said == defective)),
        **{name: _short(value) for name, value in seen.items()},
    }


def summarise(jobs: list) -> list:
    """Return a row for each way and number of cells, over all seeds.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `way`, `number`, the number of `runs`, the `majority` of the validation
        cells, and mean and spread of `train_accuracy`, `accuracy`, `balanced_accuracy`, `roc_auc`.

    >>> names = ("train_accuracy", "accuracy", "balanced_accuracy", "roc_auc", "majority")
    >>> job = {"settings": settings("tuned", 50, 0), "result": dict.fromkeys(names, 0.75)}
    >>> [(row["way"], row["number"], row["accuracy"]["mean"]) for row in summarise([job])]
    [('tuned', 50, 0.75)]
    """
    rows = []
    for way in WAYS:
        for number in NUMBERS:
            results = [
                job["result"]
                for job in jobs
                if (job["settings"]["way"], job["settings"]["number"]) == (way, number)
            ]
            if results:
                row = {"way": way, "number": number, "runs": len(results)}
                row["majority"] = results[0]["majority"]
                for name in ("train_accuracy", "accuracy", "balanced_accuracy", "roc_auc"):
                    row[name] = solar.spread([result[name] for result in results])
                rows.append(row)
    return rows


def _short(value):
    """Four digits are enough, and keep a result small."""
    return float(f"{value:.4g}")
