"""Runs every layer of the course under another Keras backend: `make test-backends`.

    python -m tests.backends write FOLDER    saves layers and models, random weights, and outputs
    python -m tests.backends check FOLDER    loads them, compares outputs, trains the layers a step

The first runs under TensorFlow, the second wherever `KERAS_BACKEND` says, in an environment that
has no TensorFlow.
"""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

import utils  # isort: skip (before Keras: it keeps TensorFlow's start-up lines back)

import keras
import numpy as np

from tests.helpers import images, randomise
from utils.blocks import PACKAGE

# One example of each registered layer: its arguments, and the shape of its input.
LAYERS = {
    "ConvBlock": [
        ({"filters": 4, "strides": 2, "padding": "symmetric"}, (7, 8, 3)),
        ({"filters": 6, "groups": 3}, (7, 8, 3)),
        ({"depthwise": True, "kernel_size": 5, "strides": 2, "activation": "relu6"}, (7, 8, 3)),
    ],
    "SqueezeExcite": [({"squeezed": 2}, (5, 6, 8))],
    "PointwiseConv2D": [({"filters": 4}, (5, 6, 3))],
    "MLPConv": [({"filters": (4, 5)}, (5, 6, 3))],
    "InceptionModule": [
        (
            {
                "filters_1x1": 2,
                "reduce_3x3": 3,
                "filters_3x3": 4,
                "reduce_5x5": 2,
                "filters_5x5": 3,
                "pool_proj": 2,
            },
            (5, 6, 3),
        )
    ],
    "ZeroPadShortcut": [({"filters": 5, "strides": 2}, (5, 6, 3))],
    "ResidualBlock": [({"filters": 4, "strides": 2, "shortcut": "zero_pad"}, (7, 8, 3))],
    "BottleneckBlock": [({"filters": 2, "strides": 2, "shortcut": "projection"}, (7, 8, 3))],
    "DepthwiseSeparableConv": [({"filters": 5, "strides": 2}, (7, 8, 4))],
    "InvertedResidual": [({"filters": 4}, (7, 8, 4)), ({"filters": 6, "strides": 2}, (7, 8, 4))],
    "ExpansionResidual": [({"filters": 8, "bottleneck": 3}, (7, 8, 8))],
    "FireModule": [({"squeeze": 2, "expand_1x1": 3, "expand_3x3": 4}, (5, 6, 3))],
    "ShuffleUnit": [
        ({"filters": 12, "strides": 1}, (7, 8, 12)),
        ({"filters": 12, "strides": 2}, (7, 8, 6)),
    ],
    "XceptionBlock": [({"filters": (4, 5), "strides": 2}, (7, 8, 3))],
    "MobileNetV3Block": [
        ({"filters": 8, "kernel_size": 5, "squeeze_ratio": 0.25, "drop_rate": 0.1}, (7, 8, 8))
    ],
    "MBConv": [({"filters": 6, "strides": 2, "kernel_size": 5}, (7, 8, 4))],
    "UniversalInvertedBottleneck": [
        ({"filters": 6, "strides": 2, "first_kernel": 3, "middle_kernel": 5}, (7, 8, 4))
    ],
    "FusedInvertedBottleneck": [({"filters": 6, "strides": 2}, (7, 8, 4))],
}

# Small members of the families: module, builder, its arguments.
MODELS = [
    ("residual", "ResNetCIFAR", {"depth": 8, "input_shape": (16, 16, 3)}),
    ("mobilenet_v1", "MobileNetV1", {"alpha": 0.25, "input_shape": (33, 32, 3)}),
    ("mobilenet_v2", "MobileNetV2", {"alpha": 0.35, "input_shape": (33, 32, 3)}),
    ("mobilenet_v3", "MobileNetV3Small", {"alpha": 0.25, "input_shape": (33, 32, 3)}),
    ("mobilenet_v4", "MobileNetV4ConvSmall", {"alpha": 0.25, "input_shape": (33, 32, 3)}),
    ("efficientnet", "EfficientNetB0", {"input_shape": (33, 32, 3)}),
    ("squeezenet", "SqueezeNet", {"version": "1.1", "input_shape": (33, 32, 3)}),
    ("shufflenet", "ShuffleNetV1", {"scale": 0.25, "input_shape": (33, 32, 3)}),
]


def registered():
    """The layers of the course by name."""
    for info in pkgutil.iter_modules(utils.__path__):
        if not info.ispkg and not info.name.startswith("_"):
            source = Path(info.module_finder.path, f"{info.name}.py").read_text()
            # Modules with layers need nothing but Keras; the others may need what is not here.
            if "register_keras_serializable(PACKAGE)" in source:
                importlib.import_module(f"utils.{info.name}")
    found = keras.saving.get_custom_objects().items()
    return {
        name.removeprefix(f"{PACKAGE}>"): value
        for name, value in found
        if name.startswith(f"{PACKAGE}>") and isinstance(value, type)
    }


def networks():
    """Yield name and network of every case."""
    layers = registered()
    if set(layers) != set(LAYERS):
        sys.exit(f"error: LAYERS lacks or has too many of {sorted(set(layers) ^ set(LAYERS))}")
    for name, examples in LAYERS.items():
        for number, (options, shape) in enumerate(examples):
            network = keras.Sequential([keras.Input(shape), layers[name](**options)])
            yield f"{name}{number}", network
    for module, builder, options in MODELS:
        build = getattr(importlib.import_module(f"utils.{module}"), builder)
        yield f"model-{builder}", build(classes=5, classifier_activation=None, **options)


def write(folder):
    """Save every case with random weights, and what it returns for random images."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, network in networks():
        randomise(network)
        inputs = images(4, *network.input_shape[1:])
        network.save(folder / f"{name}.keras")
        outputs = keras.ops.convert_to_numpy(network(inputs))
        np.savez(folder / f"{name}.npz", inputs=inputs, outputs=outputs)
        names.append(name)
    (folder / "names.json").write_text(json.dumps([keras.backend.backend(), names]))
    print(f"{len(names)} layers and models saved under {keras.backend.backend()}")


def check(folder):
    """Load every case under this backend: same outputs, and a training step changes a layer."""
    registered()
    origin, names = json.loads((folder / "names.json").read_text())
    assert keras.backend.backend() != origin
    worst = 0.0
    for name in names:
        network = keras.saving.load_model(folder / f"{name}.keras")
        arrays = np.load(folder / f"{name}.npz")
        expected = arrays["outputs"]
        network.compile("sgd", "mse")
        got = network.predict(arrays["inputs"], verbose=0)  # one program, where a call has many
        off = float(np.abs(got - expected).max() / expected.std())
        assert got.shape == expected.shape, name
        assert off <= 1e-4, (name, off)
        worst = max(worst, off)
        before = [keras.ops.convert_to_numpy(weight) for weight in network.trainable_weights]
        if before and not name.startswith("model-"):
            loss = network.train_on_batch(arrays["inputs"], np.zeros_like(expected))
            after = [keras.ops.convert_to_numpy(weight) for weight in network.trainable_weights]
            assert np.isfinite(loss), name
            assert any((a != b).any() for a, b in zip(before, after, strict=True)), name
    print(
        f"{len(names)} layers and models agree under {keras.backend.backend()} "
        f"to {worst:.1e} of their standard deviation, and the layers train"
    )


if __name__ == "__main__":
    command, folder = sys.argv[1:]
    {"write": write, "check": check}[command](Path(folder))
