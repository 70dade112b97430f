"""Accuracy against latency: eight small networks learn the solar cells by one recipe.

Every network takes the same pictures of 48×48 pixels and is trained from scratch by the recipe of
`utils.experiments.solar`, three seeds each. A job of its own then times all of them in turns, one
thread, one image a call.

The widths are such that a network trains in about a minute on one thread. Each network's batch
norms have the momentum .9, as fits runs of a few thousand steps; SqueezeNet has none.
"""

import keras

from utils.cost import count
from utils.experiments import solar
from utils.latency import compare, predictor
from utils.mobilenet_v1 import MobileNetV1
from utils.mobilenet_v2 import MobileNetV2
from utils.mobilenet_v3 import MobileNetV3Small
from utils.mobilenet_v4 import MobileNetV4ConvSmall
from utils.residual import ResNetCIFAR
from utils.shufflenet import ShuffleNetV1
from utils.squeezenet import SqueezeNet

SIZE = 48
EPOCHS = 40
SEEDS = (0, 1, 2)
ROUNDS = 100

_OPTIONS = {"input_shape": (SIZE, SIZE, 1), "classes": 2, "classifier_activation": None}
_NORMED = {**_OPTIONS, "momentum": 0.9}

# name: how to build it
NETWORKS = {
    "ResNet-8, 8 filters": lambda: ResNetCIFAR(8, filters=8, **_NORMED),
    "MobileNet V1 × .25": lambda: MobileNetV1(alpha=0.25, **_NORMED),
    "MobileNet V2 × .35": lambda: MobileNetV2(alpha=0.35, **_NORMED),
    "MobileNet V3-S × .5": lambda: MobileNetV3Small(alpha=0.5, **_NORMED),
    "V3-S × .5 minimal": lambda: MobileNetV3Small(alpha=0.5, minimalistic=True, **_NORMED),
    "MobileNet V4-S × .35": lambda: MobileNetV4ConvSmall(alpha=0.35, **_NORMED),
    "SqueezeNet 1.1": lambda: SqueezeNet(version="1.1", **_OPTIONS),
    "ShuffleNet V1 × .25": lambda: ShuffleNetV1(groups=3, scale=0.25, **_NORMED),
}


def jobs() -> list:
    """Return the settings of all runs, and of the job that times the networks.

    >>> len(jobs()), jobs()[0]["network"], jobs()[-1]["rounds"]
    (25, 'ResNet-8, 8 filters', 100)
    """
    trainings = [settings(network, seed) for seed in SEEDS for network in NETWORKS]
    return [*trainings, {"rounds": ROUNDS, "networks": list(NETWORKS)}]


def settings(network: str, seed: int, *, epochs: int = EPOCHS) -> dict:
    """Return the settings of one training run.

    Args:
        network: one of `NETWORKS`.
        seed: decides the first weights, the order of the cells and their turns.
        epochs: length of the run.

    >>> settings("SqueezeNet 1.1", seed=0, epochs=2)["epochs"]
    2
    """
    return {"network": network, "seed": seed, "size": SIZE, "epochs": epochs}


def models() -> list:
    """Return all networks of the experiment.

    >>> [network.output_shape for network in models()][:2]
    [(None, 2), (None, 2)]
    """
    return [build() for build in NETWORKS.values()]


def run(settings: dict) -> dict:
    """Train one network, or time them all.

    Args:
        settings: as `settings` returns them; or `{"rounds": …, "networks": […]}`.

    Returns:
        What `solar.train` returns, or what `timed` does.

    >>> seen = run({"rounds": 2, "networks": ["SqueezeNet 1.1"]})
    >>> sorted(seen["SqueezeNet 1.1"])
    ['high', 'low', 'macs', 'median', 'params']
    """
    if "rounds" in settings:
        return timed(settings["networks"], settings["rounds"])
    keras.utils.set_random_seed(settings["seed"])
    network = NETWORKS[settings["network"]]()
    return solar.train(network, settings["size"], settings["epochs"], settings["seed"])


def timed(names, rounds: int) -> dict:
    """Count and time networks, one image a call, in turns.

    Args:
        names: some of `NETWORKS`.
        rounds: how often each is timed.

    Returns:
        name → `params`, `macs` and, in milliseconds, `median`, `low` and `high`, as
        `utils.latency.compare` returns them.

    >>> timed(["SqueezeNet 1.1"], rounds=2)["SqueezeNet 1.1"]["params"]
    722370
    """
    networks = {name: NETWORKS[name]() for name in names}
    times = compare({name: predictor(network) for name, network in networks.items()}, rounds)
    costs = {name: count(network) for name, network in networks.items()}
    return {
        name: {
            "params": costs[name].params,
            "macs": costs[name].macs,
            **{key: float(f"{value:.4g}") for key, value in times[name].items()},
        }
        for name in networks
    }


def summarise(jobs: list) -> list:
    """Return a row for each network, the fastest first.

    Args:
        jobs: finished jobs, dictionaries with `settings` and `result`.

    Returns:
        Dictionaries with `network`, `params`, `macs`, `latency` (`median`, `low` and `high`, in
        milliseconds), the number of `runs`, mean, deviation and range over them of the
        `val_accuracy`, the `balanced_accuracy` and the last epoch's `loss`, and `on_front`: whether
        no other network is at least as fast and, on average, at least as accurate.

    >>> ran = {"val_accuracy": 0.8, "balanced_accuracy": 0.7, "loss": [0.6, 0.4]}
    >>> cost = {"params": 1, "macs": 2, "median": 3.0, "low": 2.0, "high": 4.0}
    >>> row, = summarise([{"settings": settings("SqueezeNet 1.1", 0), "result": ran},
    ...                   {"settings": {"rounds": 1}, "result": {"SqueezeNet 1.1": cost}}])
    >>> row["loss"]["mean"], row["latency"], row["on_front"]
    (0.4, {'median': 3.0, 'low': 2.0, 'high': 4.0}, True)
    """
    times = next(job["result"] for job in jobs if "rounds" in job["settings"])
    runs = {}
    for job in jobs:
        if "network" in job["settings"]:
            runs.setdefault(job["settings"]["network"], []).append(job["result"])
    rows = []
    for network, results in runs.items():
        cost = times[network]
        rows.append(
            {
                "network": network,
                "params": cost["params"],
                "macs": cost["macs"],
                "latency": {key: cost[key] for key in ("median", "low", "high")},
                "runs": len(results),
                "val_accuracy": solar.spread([each["val_accuracy"] for each in results]),
                "balanced_accuracy": solar.spread([each["balanced_accuracy"] for each in results]),
                "loss": solar.spread([each["loss"][-1] for each in results]),
            }
        )
    rows.sort(key=lambda row: row["latency"]["median"])
    best = 0.0
    for row in rows:
        row["on_front"] = row["val_accuracy"]["mean"] > best
        best = max(best, row["val_accuracy"]["mean"])
    return rows
