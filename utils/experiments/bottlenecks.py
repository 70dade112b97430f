"""Two choices of MobileNetV2, undone one at a time: linear bottlenecks, and shortcuts between them.

Four networks with the same layers, parameters and multiply-adds learn the solar cells by the recipe
of `utils.experiments.solar`: the paper's; one with ReLU6 after its projections as well; one whose
shortcuts run between the wide tensors; one without shortcuts.

MobileNetV2, arXiv:1801.04381, Figure 6, asks the same of ImageNet.
"""

import keras

from utils.experiments import solar
from utils.mobilenet_v2 import MobileNetV2

# name: linear bottlenecks, where the shortcut sits
VARIANTS = {
    "paper": (True, "bottlenecks"),
    "non-linear": (False, "bottlenecks"),
    "between expansions": (True, "expansions"),
    "no shortcut": (True, "none"),
}
SEEDS = (0, 1, 2)
EPOCHS = 30
SIZE = 48
ALPHA = 0.35
MOMENTUM = 0.9


def jobs() -> list:
    """Return the settings of all runs.

    >>> len(jobs()), jobs()[0]["variant"]
    (12, 'paper')
    """
    return [settings(variant, seed) for seed in SEEDS for variant in VARIANTS]


def settings(variant: str, seed: int, *, epochs: int = EPOCHS, split: str = "train") -> dict:
    """Return the settings of one run.

    Args:
        variant: a key of `VARIANTS`.
        seed: decides the first weights, the order of the cells and their turns.
        epochs: length of the run.
        split: what to train on; a part, such as "train[:640]", for a short look.

    >>> settings("paper", seed=0, epochs=2)["epochs"]
    2
    """
    return {
        "variant": variant,
        "seed": seed,
        "epochs": epochs,
        "split": split,
        "size": SIZE,
        "alpha": ALPHA,
    }


def model(variant: str) -> keras.Model:
    """Build a network for the cells: `(B, 48, 48, 1) → (B, 2)`, logits.

    >>> model("paper").output_shape
    (None, 2)
    """
    linear, shortcut = VARIANTS[variant]
    return MobileNetV2(
        (SIZE, SIZE, 1),
        2,
        ALPHA,
        classifier_activation=None,
        linear=linear,
        shortcut=shortcut,
        momentum=MOMENTUM,
    )


def models() -> list:
    """Return all networks of the experiment.

    >>> len(models())
    4
    """
    return [model(variant) for variant in VARIANTS]


def run(settings: dict) -> dict:
    """Train one network.

    Args:
        settings: as `settings` returns them.

    Returns:
        What `utils.experiments.solar.train` returns.

    >>> list(run(settings("paper", seed=0, epochs=1, split="train[:32]")))[:2]
    ['loss', 'accuracy']
    """
    keras.utils.set_random_seed(settings["seed"])
    return solar.train(
        model(settings["variant"]),
        settings["size"],
        settings["epochs"],
        settings["seed"],
        settings["split"],
    )


def summarise(jobs: list) -> list:
    """Return a row for each variant, over all seeds.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `variant`, the number of `runs`, and of training `loss` and `accuracy` in
        the last epoch, `val_loss`, `val_accuracy` and `balanced_accuracy` the `mean`, `std` (of
        these runs), `min` and `max`.

    >>> result = {"loss": [2.0, 1.0], "accuracy": [0.5, 0.7], "val_loss": 1.0,
    ...           "val_accuracy": 0.6, "balanced_accuracy": 0.5}
    >>> rows = summarise([{"settings": settings("paper", seed=0), "result": result}])
    >>> rows[0]["loss"]["mean"], rows[0]["balanced_accuracy"]["max"]
    (1.0, 0.5)
    """
    rows = []
    for variant in VARIANTS:
        results = [job["result"] for job in jobs if job["settings"]["variant"] == variant]
        if not results:
            continue
        last = {name: [result[name][-1] for result in results] for name in ("loss", "accuracy")}
        scores = ("val_loss", "val_accuracy", "balanced_accuracy")
        last |= {name: [result[name] for result in results] for name in scores}
        spreads = {name: solar.spread(values) for name, values in last.items()}
        rows.append({"variant": variant, "runs": len(results), **spreads})
    return rows
