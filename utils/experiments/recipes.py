"""Which recipe fine-tunes best: cross-validation on the training cells of the headline.

EfficientNet-Lite0 with the weights of ImageNet learns to tell defective cells from functional ones,
by each of `RECIPES`. The 1,968 cells of the split `trainval` are cut into two halves of the same
mix of probabilities and cell types; each is predicted by a network that learned the other one.
The test cells are not touched. The recipes were written down before the first run; the headline
takes the one with the highest accuracy.
"""

import keras
import numpy as np

from utils import transfer
from utils.data import labels, load, preprocess
from utils.efficientnet import EfficientNetLite0
from utils.experiments import solar
from utils.experiments.runner import CACHE, digest

FOLDS = 2
TURNS = (1, 4)  # how many turns of a cell are averaged at prediction

_BASE = {
    "sizes": {160: 10},  # side in pixels: epochs
    "soft": True,  # learn the annotators' probabilities, not the classes
    "mixup": 0.0,
    "learning_rate": 3e-4,
    "batch_size": 32,
    "warmup": 0.1,
    "weight_decay": 1e-4,
}

# name: what differs from the first one
RECIPES = {
    "160 px": _BASE,
    "160 px, mixup": {**_BASE, "mixup": 0.2},
    "160, then 224 px": {**_BASE, "sizes": {160: 6, 224: 4}},
}


def jobs() -> list:
    """Return the settings of all runs, the longest first.

    >>> len(jobs()), jobs()[0]["recipe"], jobs()[0]["fold"]
    (6, '160, then 224 px', 0)
    """
    ordered = sorted(RECIPES, key=lambda name: -_pixels(RECIPES[name]["sizes"]))
    return [settings(name, fold) for name in ordered for fold in range(FOLDS)]


def settings(recipe: str, fold: int) -> dict:
    """Return the settings of one run.

    Args:
        recipe: one of `RECIPES`.
        fold: which half of the cells is predicted.

    >>> settings("160, then 224 px", fold=1)["sizes"]
    [[160, 6], [224, 4]]
    """
    chosen = RECIPES[recipe]
    sizes = [list(pair) for pair in chosen["sizes"].items()]
    return {"recipe": recipe, "fold": fold, "seed": 0, **chosen, "sizes": sizes}


def folds(number: int = FOLDS) -> list:
    """Return the places of the cells of each half, alike in probabilities and cell types.

    >>> [len(part) for part in folds()]
    [984, 984]
    """
    from sklearn.model_selection import StratifiedKFold

    kinds = [labels("solar_cells", "trainval", label=kind) for kind in ("probability", "type")]
    mix = 2 * np.round(3 * kinds[0]).astype(int) + kinds[1]
    parts = StratifiedKFold(number, shuffle=True, random_state=0).split(mix, mix)
    return [held_out for _, held_out in parts]


def cells(split: str, size: int) -> tuple:
    """Return the cells of a split as Lite0 takes them, and what the annotators said.

    Args:
        split: as for `utils.data.load`.
        size: side in pixels.

    Returns:
        `(N, size, size, 1)` float32, and probabilities `(N,)`.

    >>> images, probabilities = cells("validation[:8]", 32)
    >>> images.shape, probabilities.shape
    ((8, 32, 32, 1), (8,))
    """
    options = {"image_size": size, "channels": 1, "label": "probability", "batch_size": 10_000}
    images, probabilities = next(iter(load("solar_cells", split, **options)))
    return preprocess(images, "lite").numpy(), probabilities.numpy()


def train(settings: dict, split: str = "trainval", chosen=slice(None)) -> tuple:
    """Fine-tune Lite0 by a recipe.

    Args:
        settings: as `settings` returns them; `recipe` and `fold` only name the checkpoint, from
            which a run that was stopped goes on.
        split: what to learn.
        chosen: places of the cells in the split to learn.

    Returns:
        The network, and the training loss of each epoch.
    """
    keras.utils.set_random_seed(settings["seed"])
    network = model()
    images, probabilities = {}, None
    for size, _ in settings["sizes"]:
        seen, probabilities = cells(split, size)
        images[size] = seen[chosen]
    defective = probabilities[chosen] if settings["soft"] else probabilities[chosen] >= 0.5
    targets = np.stack([1 - defective, defective], axis=1).astype("float32")
    first = images[settings["sizes"][0][0]]
    transfer.unfreeze(network, 0)
    transfer.fit_head(network, first, targets, seed=settings["seed"])
    transfer.unfreeze(network)
    losses = transfer.fine_tune(
        network,
        [images[size] for size, epochs in settings["sizes"] for _ in range(epochs)],
        targets,
        epochs=sum(epochs for _, epochs in settings["sizes"]),
        checkpoint=CACHE / f"recipes-{digest([settings, split])}.npz",
        **{name: settings[name] for name in ("learning_rate", "weight_decay", "warmup")},
        **{name: settings[name] for name in ("batch_size", "mixup", "seed")},
    )
    return network, losses


def model(size: int | None = None) -> keras.Model:
    """Build Lite0 with the weights of ImageNet and a head of two classes.

    Args:
        size: side of the images in pixels; None for any.

    >>> model().output_shape
    (None, 2)
    """
    backbone = EfficientNetLite0(
        (size, size, 3), weights="imagenet", include_top=False, drop_rate=0.0
    )
    return transfer.attach_head(backbone, classes=2)


def models() -> list:
    """Return the network of all runs.

    >>> len(models())
    1
    """
    return [model(160)]


def run(settings: dict) -> dict:
    """Fine-tune on one half of the cells and predict the other.

    Args:
        settings: as `settings` returns them.

    Returns:
        `loss` of each epoch, and the share of `right` answers, `balanced_accuracy` and `roc_auc`
        for each number of `TURNS`.
    """
    held_out = folds()[settings["fold"]]
    chosen = np.setdiff1d(np.arange(len(labels("solar_cells", "trainval"))), held_out)
    network, losses = train(settings, chosen=chosen)
    images, probabilities = cells("trainval", settings["sizes"][-1][0])
    truth = (probabilities[held_out] >= 0.5).astype(int)
    result = {"loss": [_short(loss) for loss in losses], "turns": {}}
    for turns in TURNS:
        said = transfer.predict(network, images[held_out], turns=turns)
        seen = transfer.evaluate(truth, said)
        result["turns"][str(turns)] = {
            name: _short(seen[name]) for name in ("accuracy", "balanced_accuracy", "roc_auc")
        }
    return result


def summarise(jobs: list) -> list:
    """Return a row for each recipe, the most accurate first.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `recipe`, `runs`, `loss` (mean of the last epoch), and, for each number of
        turns, mean and spread over the halves of `accuracy`, and the means of `balanced_accuracy`
        and `roc_auc`; `seconds`, the mean processor time of a run.

    >>> seen = {"accuracy": 0.5, "balanced_accuracy": 0.5, "roc_auc": 0.5}
    >>> result = {"loss": [0.7], "turns": {"1": seen, "4": {**seen, "accuracy": 0.75}}}
    >>> job = {"settings": settings("160 px", 0), "result": result, "processor_seconds": 2.0}
    >>> summarise([job])[0]["turns"]["4"]["accuracy"]["mean"]
    0.75
    """
    rows = []
    for name in RECIPES:
        chosen = [job for job in jobs if job["settings"]["recipe"] == name]
        if not chosen:
            continue
        results = [job["result"] for job in chosen]
        row = {"recipe": name, "runs": len(chosen)}
        row["loss"] = _short(np.mean([result["loss"][-1] for result in results]))
        row["seconds"] = round(float(np.mean([job["processor_seconds"] for job in chosen])))
        row["turns"] = {}
        for turns in map(str, TURNS):
            seen = [result["turns"][turns] for result in results]
            row["turns"][turns] = {"accuracy": solar.spread([each["accuracy"] for each in seen])}
            for key in ("balanced_accuracy", "roc_auc"):
                row["turns"][turns][key] = _short(np.mean([each[key] for each in seen]))
        rows.append(row)
    return sorted(rows, key=lambda row: -max(accuracy(row, turns) for turns in TURNS))


def accuracy(row: dict, turns: int) -> float:
    """Return the mean accuracy of a row of the summary.

    >>> accuracy({"turns": {"4": {"accuracy": {"mean": 0.75}}}}, 4)
    0.75
    """
    return row["turns"][str(turns)]["accuracy"]["mean"]


def _pixels(sizes):
    return sum(size * size * epochs for size, epochs in sizes.items())


def _short(value):
    """Four digits are enough, and keep a result small."""
    return float(f"{value:.4g}")
