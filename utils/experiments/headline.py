"""The headline: ImageNet's Lite0, fine-tuned on the solar cells by the frozen recipe, tested once.

`RECIPE` is the one that the cross-validation of `utils.experiments.recipes` put first, and was
frozen before the first look at the test cells. Five seeds learn the split `trainval`, 1,968 cells,
and predict the split `test`, 656 cells.

Beside it stand published accuracies on this data set. Deitsch et al. (arXiv:1807.02894) used a
split of the same sizes, not the same cells; the ResNet-152 (PMC12391306) another protocol.
"""

import resource
import sys

import numpy as np

from utils import transfer
from utils.cost import count
from utils.experiments import recipes, solar

SEEDS = (0, 1, 2, 3, 4)
RECIPE = "160, then 224 px"
TURNS = 4

# who: accuracy in percent, and on what
PUBLISHED = {
    "SVM on hand-crafted features, arXiv:1807.02894": (82.44, "a split of the same sizes"),
    "convolutional network, end to end, arXiv:1807.02894": (88.42, "a split of the same sizes"),
    "ResNet-152, PMC12391306": (90.13, "another protocol"),
}
TO_BEAT = 88.42


def jobs() -> list:
    """Return the settings of all runs.

    >>> len(jobs()), jobs()[0]["turns"]
    (5, 4)
    """
    return [settings(seed) for seed in SEEDS]


def settings(seed: int) -> dict:
    """Return the settings of one run.

    Args:
        seed: decides the head's first weights, the order of the cells, their turns and dropout.

    >>> settings(3)["seed"]
    3
    """
    recipe = recipes.settings(RECIPE, fold=0)
    del recipe["fold"]
    return {**recipe, "seed": seed, "turns": TURNS}


def models() -> list:
    """Return the network of all runs.

    >>> models()[0].output_shape
    (None, 2)
    """
    return recipes.models()


def run(settings: dict) -> dict:
    """Fine-tune by the frozen recipe and predict the test cells once.

    Args:
        settings: as `settings` returns them.

    Returns:
        `loss` of each epoch; `truth` and `probability` of each test cell, the latter in whole
        thousandths; what `utils.transfer.evaluate` says of them, `accuracy` to `majority`; and
        `megabytes`, the peak memory of the process.
    """
    size = settings["sizes"][-1][0]
    network, losses = recipes.train(settings)
    images, probabilities = recipes.cells("test", size)
    truth = (probabilities >= 0.5).astype(int)
    said = transfer.predict(network, images, turns=settings["turns"])[:, 1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "loss": [float(f"{loss:.4g}") for loss in losses],
        **transfer.evaluate(truth, said),
        "megabytes": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
        "truth": truth.tolist(),
        "probability": np.floor(1000 * said).astype(int).tolist(),
    }


def summarise(jobs: list) -> dict:
    """Return what the runs say together.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        `recipe`; `params` and `macs` of the network at the last epochs' size; `published` and
        `to_beat`, in percent; the number of `runs`; the spreads of `accuracy`, `balanced_accuracy`
        and `roc_auc`; a 95 % `interval` of the accuracy over seeds and cells, and whether its lower
        end `beats` the published one; the `majority`; the longest `seconds` and most `megabytes` of
        a run.

    >>> result = {"accuracy": 0.75, "balanced_accuracy": 0.8, "roc_auc": 0.9, "majority": 0.5,
    ...           "megabytes": 9, "truth": [0, 0, 1, 1], "probability": [1, 600, 700, 900]}
    >>> summary = summarise([{"settings": settings(0), "result": result, "seconds": 2.0}])
    >>> summary["interval"], summary["params"]
    ([0.25, 1.0], 3415586)
    """
    network = recipes.model(jobs[0]["settings"]["sizes"][-1][0])
    results = [job["result"] for job in jobs]
    said = np.array([result["probability"] for result in results]) >= 500
    right = said == np.array([result["truth"] for result in results])
    low, high = transfer.bootstrap_interval(right)
    return {
        "recipe": RECIPE,
        "params": network.count_params(),
        "macs": count(network).macs,
        "published": {who: list(value) for who, value in PUBLISHED.items()},
        "to_beat": TO_BEAT,
        "runs": len(results),
        "majority": results[0]["majority"],
        **{
            name: solar.spread([result[name] for result in results])
            for name in ("accuracy", "balanced_accuracy", "roc_auc")
        },
        "interval": [round(low, 4), round(high, 4)],
        "beats": bool(100 * low > TO_BEAT),
        "seconds": max(job["seconds"] for job in jobs),
        "megabytes": max(result["megabytes"] for result in results),
    }
