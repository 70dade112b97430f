"""Deeper, wider, sharper, or all at once: twelve networks, eight times the work at most.

A small MobileNet, half its depth and an eighth of its width at 32×32 pixels, is scaled in one
direction to about two, four and eight times its multiply-adds, and by the compound recipe to about
four and seven times. Every network learns the solar cells from scratch by the recipe of
`utils.experiments.solar`, three seeds each. All factors were chosen by their multiply-adds, before
the first run. Seed 0 also leaves its Grad-CAM on the first defective validation cells.

The compound recipe has no network at twice the work: its first step gives every stage with one
block a second one.
"""

import functools

import keras
import numpy as np

from utils.cost import count
from utils.efficientnet import compound_coefficients, scale
from utils.experiments import solar
from utils.transfer import grad_cam

BASE_SIZE = 32
BASE_DEPTH, BASE_WIDTH = 0.5, 0.125
EPOCHS = 40
SEEDS = (0, 1, 2)
PICTURES = 6  # defective validation cells whose Grad-CAM is kept
WAYS = ("depth", "width", "resolution", "compound")

# name: depth, width and resolution, each times that of the base
NETWORKS = {
    "depth × 8": (8.0, 1.0, 1.0),
    "depth × 4": (4.0, 1.0, 1.0),
    "depth × 2": (2.0, 1.0, 1.0),
    "resolution × 2.75": (1.0, 1.0, 2.75),
    "resolution × 2": (1.0, 1.0, 2.0),
    "resolution × 1.25": (1.0, 1.0, 1.25),
    "compound φ = 2.8": tuple(compound_coefficients(2.8)),
    "compound φ = 1": tuple(compound_coefficients(1)),
    "width × 3.45": (1.0, 3.45, 1.0),
    "width × 2.25": (1.0, 2.25, 1.0),
    "width × 1.6": (1.0, 1.6, 1.0),
    "base": (1.0, 1.0, 1.0),
}


def jobs() -> list:
    """Return the settings of all runs, the longest first.

    >>> len(jobs()), jobs()[0]["network"], jobs()[-1]["network"]
    (36, 'depth × 8', 'base')
    """
    return [settings(network, seed) for network in NETWORKS for seed in SEEDS]


def settings(network: str, seed: int, *, epochs: int = EPOCHS) -> dict:
    """Return the settings of one run.

    Args:
        network: one of `NETWORKS`.
        seed: decides the first weights, the order of the cells and their turns.
        epochs: length of the run.

    >>> settings("base", seed=0, epochs=2)["epochs"]
    2
    """
    return {"network": network, "seed": seed, "epochs": epochs}


def model(network: str) -> keras.Model:
    """Build a network for the cells: `(B, S, S, 1) → (B, 2)`, logits.

    Args:
        network: one of `NETWORKS`.

    >>> model("resolution × 2").input_shape, model("base").output_shape
    ((None, 64, 64, 1), (None, 2))
    """
    depth, width, resolution = NETWORKS[network]
    return scale(
        "mobilenet_v1",
        BASE_DEPTH * depth,
        BASE_WIDTH * width,
        resolution,
        base_size=BASE_SIZE,
        channels=1,
        classes=2,
        classifier_activation=None,
        momentum=0.9,
    )


@functools.cache
def models() -> list:
    """Return all networks of the experiment.

    >>> len(models())
    12
    """
    return [model(network) for network in NETWORKS]


def pictured(size: int) -> np.ndarray:
    """Return the cells whose Grad-CAM is kept: `(6, size, size, 1)`, in [−1, 1].

    They are the first defective ones of the validation cells.

    >>> pictured(32).shape
    (6, 32, 32, 1)
    """
    images, labels = solar.cells("validation", size)
    return images[labels == 1][:PICTURES]


def looked_at(network: keras.Model) -> np.ndarray:
    """Return where a network sees a defect in the pictured cells: `(6, ⌈S/8⌉, ⌈S/8⌉)`, from 0.

    Grad-CAM of the third stage's last block. The maps before the pooling would be clearer in what
    they mean, but of 32×32 pixels they have one left.

    >>> looked_at(model("base")).shape
    (6, 4, 4)
    """
    last = [layer.name for layer in network.layers if layer.name.startswith("stage3_")][-1]
    return grad_cam(network, pictured(network.input_shape[1]), target=1, layer=last)


def run(settings: dict) -> dict:
    """Train one network.

    Args:
        settings: as `settings` returns them.

    Returns:
        What `solar.train` returns, the network's `params`, `macs` and `size` in pixels, and with
        seed 0 its `maps`, as `looked_at` returns them.

    >>> from utils.experiments import result
    >>> found = {job["settings"]["network"]: job["result"] for job in result("sweep")["jobs"]}
    >>> seen = found["base"]  # the last one that `run` returned
    >>> seen["size"], seen["macs"], len(seen["loss"])
    (32, 132288, 40)
    """
    keras.utils.set_random_seed(settings["seed"])
    network = model(settings["network"])
    size, cost = network.input_shape[1], count(network)
    seen = solar.train(network, size, settings["epochs"], settings["seed"])
    seen |= {"params": cost.params, "macs": cost.macs, "size": size}
    if settings["seed"] == 0:
        maps = looked_at(network)
        seen["maps"] = [[[float(f"{v:.3g}") for v in row] for row in each] for each in maps]
    return seen


def summarise(jobs: list) -> list:
    """Return a row for each network: the base, then each way of scaling from cheap to dear.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `network`, its `way` ("base" or one of `WAYS`), `params`, `macs`, `size`
        in pixels, the number of `runs`, and mean, deviation and range over them of the
        `val_accuracy`, the `balanced_accuracy`, the `val_loss`, the last epoch's `loss`, and
        `last_change`: by how much the loss fell between the last five epochs and the five before.

    >>> seen = {"params": 1, "macs": 2, "size": 32, "loss": [0.6] * 5 + [0.5] * 5, "val_loss": 0.6,
    ...         "val_accuracy": 0.8, "balanced_accuracy": 0.7}
    >>> row, = summarise([{"settings": settings("depth × 2", 0), "result": seen}])
    >>> row["way"], row["loss"]["mean"], row["last_change"]["mean"]
    ('depth', 0.5, 0.1)
    """
    runs = {}
    for job in jobs:
        runs.setdefault(job["settings"]["network"], []).append(job["result"])
    rows = []
    for network, results in runs.items():
        row = {"network": network, "way": network.split(" ")[0]}
        row |= {key: results[0][key] for key in ("params", "macs", "size")} | {"runs": len(results)}
        for key in ("val_accuracy", "balanced_accuracy", "val_loss"):
            row[key] = solar.spread([result[key] for result in results])
        row["loss"] = solar.spread([result["loss"][-1] for result in results])
        row["last_change"] = solar.spread(
            [np.mean(r["loss"][-10:-5]) - np.mean(r["loss"][-5:]) for r in results]
        )
        rows.append(row)
    return sorted(rows, key=lambda row: (("base", *WAYS).index(row["way"]), row["macs"]))
