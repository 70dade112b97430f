"""What the judges of inverted bottlenecks share: a block's layers seen, and computed again.

A probe takes the layers of a learner's block apart (`look`); a judge puts them together by the
rules (`forward`) and by the rules' usual mistakes, and sees which of them the values follow.
"""

import numpy as np

from utils.course.activations import hard_sigmoid, relu
from utils.course.exercise import same, say
from utils.course.plain import plain
from utils.course.watch import observe

# What stands in a sentence for a role in a block.
LAYER = {
    "expand": "expansion",
    "depthwise": "depthwise convolution",
    "first_depthwise": "first depthwise convolution",
    "middle_depthwise": "middle depthwise convolution",
    "project": "projection",
}


def layer(layer, _, outputs) -> dict | None:
    """Describe a layer with weights by what its output can be computed again from.

    Args:
        layer: the layer that was called.
        outputs: what it returned, as plain data.

    Returns:
        `layer`, a number that tells layers apart, and for a batch norm `kind` "norm", `last`,
        whether it works over the last axis, `epsilon` and its four vectors; for a layer with a
        kernel `kind` ("conv" or "depthwise"), `kernel` (k, k, C, F), `strides`, `bias` and
        `pooled`, whether it works on one position. None for any other layer.

    >>> import keras
    >>> conv = keras.layers.Conv2D(4, 3)
    >>> conv.build((None, 8, 8, 6))
    >>> seen = layer(conv, None, np.ones((1, 6, 6, 4)))
    >>> seen["kind"], seen["kernel"].shape, seen["pooled"]
    ('conv', (3, 3, 6, 4), False)
    """
    import keras

    if not isinstance(outputs, np.ndarray):
        return None
    if isinstance(layer, keras.layers.BatchNormalization):
        named = ("gamma", "beta", "moving_mean", "moving_variance")
        weights = {name: plain(getattr(layer, name)) for name in named}
        last = layer.axis in (-1, outputs.ndim - 1)
        seen = {"kind": "norm", "layer": id(layer), "last": last, "epsilon": float(layer.epsilon)}
        return seen | weights
    kind = "conv"
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kind, kernel = "depthwise", plain(layer.kernel)
    elif isinstance(layer, keras.layers.Conv2D):
        kernel = plain(layer.kernel)
        if layer.groups > 1 and kernel.shape[2] == 1:
            kind, kernel = "depthwise", kernel.transpose(0, 1, 3, 2)
    elif isinstance(layer, keras.layers.Dense):
        kernel = plain(layer.kernel)[None, None]
    else:
        return None
    return {
        "kind": kind,
        "layer": id(layer),
        "kernel": kernel,
        "strides": max(getattr(layer, "strides", (1,))),
        "bias": plain(layer.bias) if layer.use_bias else 0.0,
        # At a single position a layer belongs to squeeze-and-excite.
        "pooled": outputs.ndim == 2 or outputs.shape[1:3] == (1, 1),
    }


def look(box, make, case: dict) -> dict:
    """Run a learner's block and take its layers apart, as `utils.course.watch.observe` does.

    Args:
        box: the `Sandbox` that runs the learner's code.
        make: a function without arguments that returns the layer or model.
        case: `x` (B, H, W, C) and the `seed` of the random weights.

    >>> import keras
    >>> from utils.course.sandbox import Sandbox
    >>> seen = look(Sandbox(), lambda: keras.layers.Dense(2), {"x": np.ones((2, 3)), "seed": 0})
    >>> [step["kind"] for step in seen["steps"]]
    ['conv']
    """
    return observe(box, make, case["x"], case["seed"], gain=2**0.5, describe=layer)


def with_norms(steps: list) -> list:
    """Put each layer with a kernel together with the batch norm that follows it, as its `norm`.

    >>> [sorted(each) for each in with_norms([{"kind": "conv"}, {"kind": "norm"}])]
    [['kind', 'norm']]
    """
    groups = []
    for step in steps:
        if step["kind"] == "norm":
            if groups and "norm" not in groups[-1]:
                groups[-1]["norm"] = step
        else:
            groups.append(dict(step))
    return groups


def apply(group: dict, x: np.ndarray) -> np.ndarray:
    """Return what a layer and its batch norm make of `x` at inference.

    Args:
        group: one of `with_norms`.
        x: (B, H, W, C).

    >>> twice = {"kind": "conv", "kernel": 2 * np.ones((1, 1, 1, 1)), "strides": 1, "bias": 1.0}
    >>> apply(twice, np.ones((1, 1, 1, 1))).tolist()
    [[[[3.0]]]]
    """
    from keras import ops

    kernel, strides = group["kernel"].astype("float32"), group["strides"]
    x = np.asarray(x, "float32")
    if group["kind"] == "depthwise":
        y = ops.depthwise_conv(x, kernel, strides, padding="same")
    else:
        y = ops.conv(x, kernel, strides, padding="same")
    y = ops.convert_to_numpy(y) + group["bias"]
    norm = group.get("norm")
    if norm is None:
        return y
    scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + norm["epsilon"])
    return (y - norm["moving_mean"]) * scale + norm["beta"]


def roles_of(groups: list) -> list:
    """Return role, kernel side, stride and channels of each layer that was called.

    The roles are "conv", "depthwise", and "reduce" and "restore" for those of squeeze-and-excite.

    >>> conv = {"kind": "conv", "kernel": np.ones((3, 3, 4, 8)), "strides": 2, "pooled": False}
    >>> roles_of([conv])
    [('conv', 3, 2, 8)]
    """
    seen, pooled = [], 0
    for group in groups:
        side, channels = len(group["kernel"]), group["kernel"].shape[3]
        if group["kind"] == "depthwise":
            role, channels = "depthwise", group["kernel"].shape[2]
        elif group["pooled"]:
            role, pooled = ("reduce", "restore")[pooled % 2], pooled + 1
        else:
            role = "conv"
        seen.append((role, side, group["strides"], channels))
    return seen


def _describe(wanted):
    """Say a list of (role, kernel side, strides, channels) in words."""
    words = []
    for role, side, strides, channels in wanted:
        stride = f" with stride {strides}" if strides > 1 else ""
        if "depthwise" in role:
            words.append(f"depthwise {side}×{side}{stride}")
        elif role in ("reduce", "restore"):
            words.append(f"{'squeeze' if role == 'reduce' else 'back'} to {channels}")
        else:
            words.append(f"{side}×{side}{stride} to {channels}")
    return ", ".join(words) or "nothing"


def order_problem(groups: list, wanted: list) -> str:
    """Return what is wrong with the layers of a block and their sizes, or "".

    Args:
        groups: as `with_norms` returns them.
        wanted: (role, kernel side, stride, channels) of each layer that belongs there; the roles
            are the keys of `LAYER`, "reduce" and "restore".

    >>> order_problem([], [("project", 1, 1, 8)])
    'found no convolution from keras.layers.'
    """
    seen = roles_of(groups)

    def plainly(layers):
        kinds = {"expand": "conv", "project": "conv"}
        kinds |= {"first_depthwise": "depthwise", "middle_depthwise": "depthwise"}
        return [(kinds.get(role, role), *sizes) for role, *sizes in layers]

    if plainly(seen) == plainly(wanted):
        missing = next(
            (
                LAYER[role]
                for group, (role, *_) in zip(groups, wanted, strict=True)
                if role in LAYER and "norm" not in group
            ),
            "",
        )
        norms = [group["norm"] for group in groups if "norm" in group]
        if missing:
            return f"no batch norm follows the {missing}."
        if not all(norm["last"] for norm in norms):
            return "batch norm goes over the channels, the last axis; leave its `axis` as it is."
        if len({norm["layer"] for norm in norms}) < len(norms):
            return "one batch norm serves two convolutions; each has its own."
        return ""
    if not seen:
        return "found no convolution from keras.layers."
    kinds, right = ([kind for kind, *_ in plainly(layers)] for layers in (seen, wanted))
    if kinds == right:
        for (_, side, strides, channels), (role, *sizes) in zip(seen, wanted, strict=True):
            name = LAYER.get(role, "squeeze-and-excite")
            if strides != sizes[1]:
                where = "; the last depthwise convolution has the stride" * ("first" in role)
                return f"the {name} has stride {strides}; expected {sizes[1]}{where}."
            if (side, channels) != (sizes[0], sizes[2]) and role not in ("reduce", "restore"):
                return (
                    f"the {name} is {side}×{side} and writes {channels} channels; expected "
                    f"{sizes[0]}×{sizes[0]} and {sizes[2]}."
                )
    if "reduce" in right and "reduce" not in kinds:
        return "squeeze-and-excite is missing, or it does not pool."
    if "reduce" in kinds and "reduce" not in right:
        return "the row has no squeeze-and-excite."
    return f"expected {_describe(wanted)}; found {_describe(seen)}."


def gates_problem(groups: list, roles: list) -> str:
    """Return what is wrong with the two layers of squeeze-and-excite, or "".

    Args:
        groups: as `with_norms` returns them.
        roles: what each of them is.

    >>> gates_problem([{"bias": np.zeros(2)}, {"bias": 0.0}], ["reduce", "restore"])
    'both layers of squeeze-and-excite have a bias; yours have none, or one of them.'
    """
    gates = [g for g, role in zip(groups, roles, strict=True) if role in ("reduce", "restore")]
    if any("norm" in gate for gate in gates):
        return "there is no batch norm in squeeze-and-excite."
    if any(np.ndim(gate["bias"]) == 0 for gate in gates):
        return "both layers of squeeze-and-excite have a bias; yours have none, or one of them."
    return ""


def forward(x, groups, roles, activations, *, gate=hard_sigmoid, inner=relu, early=False):
    """Return what the branch of a block makes of `x`.

    Args:
        x: (B, H, W, C).
        groups: layers with their batch norms.
        roles: what each of them is.
        activations: role → function; the others are linear.
        gate: of squeeze-and-excite.
        inner: between its two layers.
        early: weigh the channels before the depthwise convolution's activation.

    >>> twice = {"kind": "conv", "kernel": 2 * np.ones((1, 1, 1, 1)), "strides": 1, "bias": 0.0}
    >>> forward(-np.ones((1, 1, 1, 1)), [twice], ["project"], {"project": relu}).item()
    0.0
    """
    y, waiting, squeezed = x, None, None
    for group, role in zip(groups, roles, strict=True):
        if role == "reduce":
            squeezed = inner(apply(group, y.mean(axis=(1, 2), keepdims=True)))
        elif role == "restore":
            y = y * gate(apply(group, squeezed))
        else:
            if waiting is not None:
                y, waiting = waiting(y), None
            y = apply(group, y)
            activation = activations.get(role)
            if activation is not None and early and role == "depthwise":
                waiting = activation
            elif activation is not None:
                y = activation(y)
    return y


def batch_problem(got: dict) -> str:
    """Return what is wrong with an output before its values are looked at, or "".

    Args:
        got: as `look` returns it.

    >>> batch_problem({"value": None})
    'expected a tensor, got None: does your code end in `return`?'
    """
    y = got["value"]
    if not isinstance(y, np.ndarray):
        asks = ": does your code end in `return`?" if y is None else "."
        return f"expected a tensor, got {say(y)}{asks}"
    if got["anew"]:
        return "the layers are made anew at each call; make them in __init__ or build."
    alone = got["alone"]
    if isinstance(alone, np.ndarray) and not same(alone, y[:1], 1e-3):
        return (
            "an image's output depends on the other images of its batch: leave batch norm's "
            "`training` to Keras, and average over the positions only."
        )
    return ""


def alike(y: np.ndarray, right: np.ndarray) -> bool:
    """Tell whether each example of a batch is right, on its own scale.

    >>> alike(np.array([[1.0], [1e6]]), np.array([[2.0], [1e6]]))
    False
    """
    return y.shape == right.shape and all(
        same(one, other, 1e-3) for one, other in zip(y, right, strict=True)
    )


def value_problems(x, y, variants: list, adds: bool) -> list:
    """Return what is wrong with the values of a block, and what with its shortcut.

    Args:
        x: the block's input.
        y: what came out of the learner's block.
        variants: pairs of what the branch makes of `x` and a message; the first one is right.
        adds: whether the block adds its input.

    Returns:
        Two sentences, empty where all is well.

    >>> x = np.ones((1, 1, 1, 2))
    >>> value_problems(x, x + 2, [(x + 1, "")], adds=True)
    ['', '']
    >>> value_problems(x, x + 1, [(x + 1, "")], adds=True)
    ['', 'stride 1 and as many channels as before: add the input.']
    """
    right = variants[0][0]
    if y.shape != right.shape:
        problem = f"expected shape {right.shape}, got {y.shape}."
        return [problem, problem]
    for branch, message in variants:
        endings = [(branch, "missing"), (relu(branch), "relu")]
        if x.shape == branch.shape:
            endings = [(branch + x, "added"), *endings, (relu(branch + x), "relu after")]
        for value, ending in endings:
            if not alike(y, value):
                continue
            if ending == "relu":
                return ["the projection stays linear: no activation after it.", ""]
            if ending == "relu after":
                return [message, "no ReLU follows the addition: the narrow ends are linear."]
            if adds and ending == "missing":
                return [message, "stride 1 and as many channels as before: add the input."]
            if not adds and ending == "added":
                return [message, "here the input is not added."]
            return [message, ""]
    problem = "the layers have the right sizes, but the values do not follow from them."
    return [problem, problem]
