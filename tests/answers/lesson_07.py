"""Answers to the exercises of lesson 07."""

from tests.answers import Answers, changed


def _compound(value):
    return f"def compound_coefficients(phi, alpha, beta, gamma):\n    return {value}\n"


COMPOUND = Answers(
    wrong={
        "not the product α·φ": _compound("alpha * phi, beta * phi, gamma * phi"),
        "depth comes first, then width": _compound("beta**phi, alpha**phi, gamma**phi"),
        "width comes second, resolution last": _compound("alpha**phi, gamma**phi, beta**phi"),
        "depth comes first, resolution last": _compound("gamma**phi, beta**phi, alpha**phi"),
        "that grows by equal steps": _compound(
            "tuple(1 + phi * (factor - 1) for factor in (alpha, beta, gamma))"
        ),
        "do not round it": _compound("alpha ** int(phi), beta ** int(phi), gamma ** int(phi)"),
        "a negative φ shrinks": _compound("[f ** abs(phi) for f in (alpha, beta, gamma)]"),
        "that is φ = 1": _compound("alpha, beta, gamma"),
        "not only the depth": _compound("alpha**phi, beta, gamma"),
        "that is the cost": _compound("(alpha * beta**2 * gamma**2) ** phi"),
        "that is φ^α": _compound("[max(phi, 0.01) ** f for f in (alpha, beta, gamma)]"),
        "unsupported operand": _compound("[alpha, beta, gamma] ** phi"),
    },
    right={
        "an array": _compound("np.array([alpha, beta, gamma]) ** phi"),
        "logarithms": """
import math

def compound_coefficients(phi, alpha, beta, gamma):
    return [math.exp(phi * math.log(factor)) for factor in (alpha, beta, gamma)]
""",
    },
    half={
        "whole φ only": (
            0.5,
            _compound("alpha ** int(phi), beta ** int(phi), gamma ** int(phi)"),
        ),
        "no smaller networks": (
            0.5,
            _compound("[f ** abs(phi) for f in (alpha, beta, gamma)]"),
        ),
        "never below 1": (0.5, _compound("[f ** max(phi, 0) for f in (alpha, beta, gamma)]")),
        "nothing at 0": (
            0.5,
            _compound("[f ** phi if phi else 0 for f in (alpha, beta, gamma)]"),
        ),
    },
)

_FILTERS = """
def round_filters(filters, width):
    value = filters * width
    nearest = max(8, int(value + 4) // 8 * 8)
    if nearest < 0.9 * value:
        nearest += 8
    return nearest
"""


def _filters(*changes):
    return changed(_FILTERS, *changes)


_TENTH = "    if nearest < 0.9 * value:\n        nearest += 8\n"

ROUND_FILTERS = Answers(
    wrong={
        "lost more than a tenth": _filters((_TENTH, "")),
        "halfway between two multiples": _filters(
            ("int(value + 4) // 8 * 8", "round(value / 8) * 8")
        ),
        "not the next.": _filters(("int(value + 4) // 8 * 8", "-int(-value // 8) * 8")),
        "not the one below": _filters(("int(value + 4) // 8 * 8", "int(value) // 8 * 8")),
        "the width is not in it": _filters(("filters * width", "filters")),
        "it is not a multiple of 8 yet": _filters(("return nearest", "return value")),
        "cut to a whole number": _filters(("return nearest", "return int(value)")),
        "; a whole number": _filters(("return nearest", "return round(value)")),
        "returned nothing": _filters(("    return nearest\n", "    nearest\n")),
    },
    right={
        "two candidates": """
def round_filters(filters, width):
    value = filters * width
    below = int(value // 8) * 8
    good = below if below > 0 and value - below < 4 and below >= 0.9 * value else below + 8
    return good
""",
        "NumPy": """
def round_filters(filters, width):
    value = filters * width
    multiples = np.arange(8, 4000, 8)
    allowed = multiples[multiples >= 0.9 * value]
    distance = np.abs(allowed - value)
    return allowed[distance == distance.min()].max()
""",
    },
    half={
        "no tenth rule": (0.75, _filters((_TENTH, ""))),
        "ties go to even": (
            0.75,
            _filters(("int(value + 4) // 8 * 8", "round(value / 8) * 8")),
        ),
        "a tenth of the multiple": (
            0.75,
            _filters(("nearest < 0.9 * value", "value - nearest > 0.1 * nearest")),
        ),
        "a twentieth": (0.75, _filters(("0.9 * value", "0.95 * value"))),
        "three twentieths": (0.75, _filters(("0.9 * value", "0.85 * value"))),
        "a whole number first": (0.75, _filters(("filters * width", "round(filters * width)"))),
    },
)


def _repeats(value):
    return f"import math\n\ndef round_repeats(repeats, depth):\n    return {value}\n"


ROUND_REPEATS = Answers(
    wrong={
        "not to the nearest number": _repeats("round(repeats * depth)"),
        "goes up, not down": _repeats("int(repeats * depth)"),
        "no block comes in parts": _repeats("repeats * depth"),
        "the depth is not in it": _repeats("repeats"),
        "returned": _repeats("math.ceil(repeats * depth) + 1"),
    },
    right={
        "floor division": _repeats("-int(-repeats * depth // 1)"),
        "NumPy": _repeats("np.ceil(depth * repeats)"),
        "step by step": """
def round_repeats(repeats, depth):
    blocks = 0
    while blocks < repeats * depth:
        blocks += 1
    return blocks
""",
    },
    half={},
)

_MBCONV = """
def mbconv(x, filters, strides, expansion, kernel_size):
    channels = x.shape[-1]
    y = x
    if expansion > 1:
        y = keras.layers.Conv2D(channels * expansion, 1, use_bias=False)(y)
        y = keras.layers.BatchNormalization()(y)
        y = keras.layers.Activation("swish")(y)
    y = keras.layers.DepthwiseConv2D(kernel_size, strides, padding="same", use_bias=False)(y)
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.Activation("silu")(y)
    gates = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    gates = keras.layers.Conv2D(max(1, channels // 4), 1, activation="swish")(gates)
    gates = keras.layers.Conv2D(channels * expansion, 1, activation="sigmoid")(gates)
    y = keras.layers.Multiply()([y, gates])
    y = keras.layers.Conv2D(filters, 1, use_bias=False)(y)
    y = keras.layers.BatchNormalization()(y)
    if strides == 1 and channels == filters:
        y = keras.layers.Add()([x, y])
    return y
"""
_SQUEEZE = """    gates = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    gates = keras.layers.Conv2D(max(1, channels // 4), 1, activation="swish")(gates)
    gates = keras.layers.Conv2D(channels * expansion, 1, activation="sigmoid")(gates)
    y = keras.layers.Multiply()([y, gates])
"""
_ACTIVE = '    y = keras.layers.Activation("silu")(y)\n'
_EXPANDED = '        y = keras.layers.Activation("swish")(y)\n'


def _mbconv(*changes):
    return changed(_MBCONV, *changes)


MBCONV = Answers(
    slow=True,
    wrong={
        "not of the": _mbconv(("max(1, channels // 4)", "max(1, channels * expansion // 4)")),
        "squeeze to 1 channels, max(1": _mbconv(("max(1, channels // 4)", "max(2, channels // 4)")),
        "do not round it": _mbconv(("channels // 4", "round(channels / 4)")),
        "have a bias": _mbconv(
            ('1, activation="sigmoid"', '1, use_bias=False, activation="sigmoid"')
        ),
        "the last axis": _MBCONV.replace("BatchNormalization()", "BatchNormalization(axis=2)"),
        "there is no first 1×1 convolution": _mbconv(("expansion > 1", "expansion > 0")),
        "is missing.": _mbconv(("expansion > 1", "expansion > 99")).replace(
            "Conv2D(channels * expansion, 1, activation", "Conv2D(channels, 1, activation"
        ),
        "squeeze-and-excite is missing": _mbconv((_SQUEEZE, "")),
        "comes before the projection": _mbconv((_SQUEEZE, "")).replace(
            "    if strides == 1",
            _SQUEEZE.replace("channels * expansion", "filters") + "    if strides == 1",
        ),
        "no batch norm in squeeze-and-excite": _mbconv(
            (
                "    y = keras.layers.Multiply()([y, gates])\n",
                "    gates = keras.layers.BatchNormalization()(gates)\n"
                "    y = keras.layers.Multiply()([y, gates])\n",
            )
        ),
        "no batch norm follows the depthwise": _mbconv(
            ("    y = keras.layers.BatchNormalization()(y)\n" + _ACTIVE, _ACTIVE)
        ),
        "the activation is a ReLU; EfficientNet": _mbconv(
            ('Activation("swish")', 'Activation("relu")'),
            ('Activation("silu")', 'Activation("relu")'),
        ),
        "the activation is ReLU6": _mbconv(
            ('Activation("swish")', "ReLU(6.0)"), ('Activation("silu")', "ReLU(6.0)")
        ),
        "a ReLU everywhere": _mbconv(
            ('Activation("swish")', 'Activation("relu")'),
            ('Activation("silu")', 'Activation("relu")'),
            ('activation="swish"', 'activation="relu"'),
        ),
        "here it is the sigmoid": _mbconv(('activation="sigmoid"', 'activation="hard_sigmoid"')),
        "nothing bounds the gates": _mbconv((', activation="sigmoid"', "")),
        "the gates end in swish": _mbconv(('activation="sigmoid"', 'activation="swish"')),
        "between the two layers": _mbconv(('activation="swish"', 'activation="relu"')),
        "the activation comes first": _mbconv((_ACTIVE, "")).replace(
            "    y = keras.layers.Multiply()([y, gates])\n",
            "    y = keras.layers.Multiply()([y, gates])\n" + _ACTIVE,
        ),
        "no activation follows the depthwise": _mbconv((_ACTIVE, "")),
        "no activation follows the expansion": _mbconv((_EXPANDED, "")),
        "no activation follows the projection": _mbconv(
            ("    if strides == 1", _ACTIVE + "    if strides == 1")
        ),
        "add the input": _mbconv(("strides == 1 and channels == filters", "False")),
        "no ReLU follows the addition": _mbconv(("return y", "return keras.layers.ReLU()(y)")),
        "the depthwise convolution has stride 1": _mbconv(
            ("kernel_size, strides,", "kernel_size, 1,")
        ),
        "and writes": _mbconv(("DepthwiseConv2D(kernel_size,", "DepthwiseConv2D(3,")),
    },
    right={
        "ops and dense layers": """
from keras import ops

def mbconv(x, filters, strides, expansion, kernel_size):
    wide = expansion * x.shape[-1]

    def norm(y):
        return keras.layers.BatchNormalization(momentum=0.9)(y)

    y = x
    if wide != x.shape[-1]:
        y = ops.silu(norm(keras.layers.Dense(wide, use_bias=False)(x)))
    y = keras.layers.Conv2D(wide, kernel_size, strides, "same", groups=wide, use_bias=False)(y)
    y = ops.silu(norm(y))
    means = ops.mean(y, axis=[1, 2])
    squeezed = max(1, int(0.25 * x.shape[-1]))
    gates = ops.sigmoid(keras.layers.Dense(wide)(ops.silu(keras.layers.Dense(squeezed)(means))))
    y = norm(keras.layers.Conv2D(filters, 1, use_bias=False)(y * gates[:, None, None]))
    return y + x if y.shape == x.shape else y
""",
    },
    half={
        "no shortcut": (2.25, _mbconv(("strides == 1 and channels == filters", "False"))),
        "a ReLU inside": (1.75, _mbconv(('activation="swish"', 'activation="relu"'))),
    },
)

_BLOCKS = """
def scaled_blocks(stages, width, depth):
    rows = []
    for kernel, expansion, filters, repeats, stride in stages:
        filters = efficientnet.round_filters(filters, width)
        repeats = efficientnet.round_repeats(repeats, depth)
        for position in range(repeats):
            rows.append((kernel, expansion, filters, stride if position == 0 else 1))
    return rows
"""
_WIDER = "        filters = efficientnet.round_filters(filters, width)\n"
_DEEPER = "        repeats = efficientnet.round_repeats(repeats, depth)\n"


def _blocks(*changes):
    return changed(_BLOCKS, *changes)


SCALED_BLOCKS = Answers(
    wrong={
        "apply round_repeats": _blocks((_DEEPER, "")),
        "rounded to the nearest number": _blocks(
            ("efficientnet.round_repeats(repeats, depth)", "max(1, round(repeats * depth))")
        ),
        "rounded down": _blocks(
            ("efficientnet.round_repeats(repeats, depth)", "int(repeats * depth)")
        ),
        "blocks; expected": _blocks(("range(repeats)", "range(repeats - 1)")),
        "channels as without scaling": _blocks((_WIDER, "")),
        "not multiples of 8": _blocks(
            ("efficientnet.round_filters(filters, width)", "int(filters * width)")
        ),
        "has its stride": _blocks(("stride if position == 0 else 1", "stride")),
        "the first block of a stage has stride": _blocks(
            ("stride if position == 0 else 1", "3 - stride if position == 0 else 1")
        ),
        "expected (kernel, expansion": _blocks(
            ("(kernel, expansion, filters,", "(expansion, filters,")
        ),
        "with kernel": _blocks(("(kernel, expansion, filters,", "(7, expansion, filters,")),
        "with expansion": _blocks(("(kernel, expansion, filters,", "(kernel, 9, filters,")),
        "one for each stage": _blocks(("    return rows", "    return rows[:1]")),
        "expected a list of rows": _blocks(("return rows", "return []")),
        "without scaled_rows": "def scaled_blocks(stages, width, depth):\n"
        "    return [row[1:] for row in efficientnet.scaled_rows(width, depth)]\n",
    },
    right={
        "by hand": """
import math

def scaled_blocks(stages, width, depth):
    found = []
    for kernel, t, c, n, s in stages:
        channels = int(c * width + 4) // 8 * 8
        channels += 8 * (channels < 0.9 * c * width)
        found += [[kernel, t, channels, s]]
        found += [[kernel, t, channels, 1]] * (math.ceil(n * depth) - 1)
    return found
""",
        "an array": """
def scaled_blocks(stages, width, depth):
    def blocks():
        for kernel, t, c, n, s in stages:
            for b in range(efficientnet.round_repeats(n, depth)):
                yield kernel, t, efficientnet.round_filters(c, width), 1 if b else s
    return np.array(list(blocks()))
""",
    },
    half={
        "stride in each block": (1.25, _blocks(("stride if position == 0 else 1", "stride"))),
        "not deeper": (1.25, _blocks((_DEEPER, ""))),
        "expansion in the first block only": (
            1.25,
            _blocks(
                ("expansion, filters, stride", "6 if position else expansion, filters, stride")
            ),
        ),
    },
)

_CHOOSE = """
def choose_phi(networks, deadline, flash):
    best = None
    for network in networks:
        slow = max(network["milliseconds"]) > deadline
        large = network["megabytes"] > flash
        if slow or large:
            continue
        if best is None or network["phi"] > best:
            best = network["phi"]
    return best
"""


def _choose(*changes):
    return changed(_CHOOSE, *changes)


CHOOSE_PHI = Answers(
    wrong={
        "its mean time meets": _choose(("max(network", "np.mean(network")),
        "half of its runs": _choose(("max(network", "np.median(network")),
        "its fastest run meets": _choose(("max(network", "min(network")),
        "it meets the deadline, but": _choose(("slow or large", "slow")),
        "it fits into the memory, but": _choose(("slow or large", "large")),
        "fits, but a larger one does": _choose(('["phi"] > best', '["phi"] < best')),
        "that is the largest φ of all": _choose(("slow or large", "False")),
        "a network with a larger φ fits again": _choose(
            ("in networks:", 'in sorted(networks, key=lambda network: network["phi"]):'),
            ("continue", "break"),
        ),
        "is within it: take ≤": _choose(("> deadline", ">= deadline"), ("> flash", ">= flash")),
        "return None, not 0": _choose(("return best", "return best or 0")),
        "that is the whole network": _choose(
            (
                '            best = network["phi"]',
                '            best, found = network["phi"], network',
            ),
            ("return best", "return best if best is None else found"),
        ),
        "place in the list": _choose(
            ("return best", 'return [network["phi"] for network in networks].index(best)')
        ),
        "stopped with": _choose(("return best", "return best + 0.0")),
    },
    right={
        "one expression": """
def choose_phi(networks, deadline, flash):
    return max(
        (
            network["phi"]
            for network in networks
            if all(time <= deadline for time in network["milliseconds"])
            and network["megabytes"] <= flash
        ),
        default=None,
    )
""",
        "from the largest down": """
def choose_phi(networks, deadline, flash):
    for network in sorted(networks, key=lambda n: -n["phi"]):
        if np.max(network["milliseconds"]) <= deadline and network["megabytes"] <= flash:
            return np.float64(network["phi"])
""",
    },
    half={
        "the mean": (1.0, _choose(("max(network", "np.mean(network"))),
        "the first run": (
            1.0,
            _choose(('max(network["milliseconds"])', 'network["milliseconds"][0]')),
        ),
        "without the first run": (1.0, _choose(('"milliseconds"])', '"milliseconds"][1:])'))),
        "without the last run": (1.0, _choose(('"milliseconds"])', '"milliseconds"][:-1])'))),
        "all but one": (
            1.0,
            _choose(('max(network["milliseconds"])', 'sorted(network["milliseconds"])[-2]')),
        ),
        "stops early": (
            1.0,
            _choose(
                ("in networks:", 'in sorted(networks, key=lambda network: network["phi"]):'),
                ("continue", "break"),
            ),
        ),
    },
)

ANSWERS = {
    "compound_coefficients": COMPOUND,
    "round_filters": ROUND_FILTERS,
    "round_repeats": ROUND_REPEATS,
    "mbconv": MBCONV,
    "scaled_blocks": SCALED_BLOCKS,
    "choose_phi": CHOOSE_PHI,
}
