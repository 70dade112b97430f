"""What splitting the convolutions costs: MobileNetV1 and its full-convolution twin on solar cells.

The two networks have the same depth and widths, a quarter of the paper's channels. In one of them
each 3×3 convolution is a depthwise and a pointwise one. Both learn the training cells at 64×64
pixels by the recipe of `utils.experiments.solar`, which was not tuned for either of them, with
three budgets, each of twice as many epochs as the one before: a comparison of networks that have
not learned to the end says more about the budget than about the networks.

MobileNets, arXiv:1704.04861, Table 4, asks the same of ImageNet.
"""

import itertools

import keras
import numpy as np

from utils.cost import count
from utils.experiments import solar
from utils.mobilenet_v1 import MobileNetV1

SEEDS = (0, 1, 2)
EPOCHS = (40, 80, 160)
SIZE = 64
ALPHA = 0.25
MOMENTUM = 0.9


def jobs() -> list:
    """Return the settings of all runs, the longest first.

    >>> len(jobs()), jobs()[0]["separable"], jobs()[0]["epochs"]
    (18, False, 160)
    """
    return [
        settings(separable, seed, epochs)
        for epochs in reversed(EPOCHS)
        for separable in (False, True)
        for seed in SEEDS
    ]


def settings(separable: bool, seed: int, epochs: int) -> dict:
    """Return the settings of one run.

    Args:
        separable: False for the twin with full convolutions.
        seed: decides the first weights, the order of the cells and their turns.
        epochs: length of the run.

    >>> settings(True, seed=0, epochs=2)["epochs"]
    2
    """
    return {
        "separable": separable,
        "seed": seed,
        "epochs": epochs,
        "size": SIZE,
        "alpha": ALPHA,
        "momentum": MOMENTUM,
    }


def model(separable: bool) -> keras.Model:
    """Build a network for the cells: `(B, 64, 64, 1) → (B, 2)`, logits.

    >>> model(separable=False).output_shape
    (None, 2)
    """
    return MobileNetV1(
        (SIZE, SIZE, 1), 2, ALPHA, separable, classifier_activation=None, momentum=MOMENTUM
    )


def models() -> list:
    """Return both networks.

    >>> len(models())
    2
    """
    return [model(separable) for separable in (True, False)]


def run(settings: dict) -> dict:
    """Train one network.

    Args:
        settings: as `settings` returns them.

    Returns:
        What `utils.experiments.solar.train` returns.
    """
    keras.utils.set_random_seed(settings["seed"])
    network = model(settings["separable"])
    return solar.train(network, settings["size"], settings["epochs"], settings["seed"])


def summarise(jobs: list) -> list:
    """Return a row for each network and budget, over all seeds.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `separable`, `epochs`, the number of `runs`, the network's `params` and
        `macs`; mean, standard deviation (of these runs), lowest and highest of the training `loss`
        in the last epoch, of `val_accuracy` and `balanced_accuracy`; and of `last_change`, how far
        the mean training loss fell from the last but one tenth of the epochs to the last tenth.

    >>> seen = {"loss": [0.7, 0.5], "val_accuracy": 0.8, "balanced_accuracy": 0.7}
    >>> row, = summarise([{"settings": settings(True, seed=0, epochs=2), "result": seen}])
    >>> row["params"], row["val_accuracy"]["mean"], row["last_change"]["mean"]
    (213442, 0.8, 0.2)
    """
    costs = {separable: count(model(separable)) for separable in (True, False)}
    budgets = sorted({job["settings"]["epochs"] for job in jobs})
    rows = []
    for epochs, separable in itertools.product(budgets, costs):
        wanted = {"separable": separable, "epochs": epochs}
        results = [job["result"] for job in jobs if wanted.items() <= job["settings"].items()]
        if not results:
            continue
        row = wanted | {"runs": len(results)}
        row |= {"params": costs[separable].params, "macs": costs[separable].macs}
        row["loss"] = solar.spread([result["loss"][-1] for result in results])
        row["last_change"] = solar.spread([_last_change(result["loss"]) for result in results])
        for name in ("val_accuracy", "balanced_accuracy"):
            row[name] = solar.spread([result[name] for result in results])
        rows.append(row)
    return rows


def _last_change(losses):
    tenth = max(1, len(losses) // 10)
    # NumPy's mean, since the last digit of `sum` is another one from Python 3.12 on.
    return np.mean(losses[-2 * tenth : -tenth]) - np.mean(losses[-tenth:])
