"""Weights of other implementations, moved into the course's models."""

import re

import keras

from utils.mobilenet_v1 import MobileNetV1
from utils.mobilenet_v2 import MobileNetV2, widths
from utils.residual import RESNET, BottleneckBlock, ResNet


def from_keras_applications(model):
    """Build the course's version of a `keras.applications` model, with that model's weights.

    Both then return the same values for the same input. Where the original has a convolution bias
    before a batch norm, the norm's moving mean is lowered by it: at inference that is the same
    function with one vector less.

    Args:
        model: a ResNet50, ResNet101, ResNet152, MobileNet or MobileNetV2 of `keras.applications`,
            built with any `input_shape`, `classes`, `classifier_activation` and `alpha`, with or
            without its top, but without `pooling`.

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
    for layer in model._flatten_layers(include_self=False, recursive=False):
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
    ("MobileNetV2",): _mobilenet_v2,
}
