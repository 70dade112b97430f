"""Answers to the exercises of lesson 06."""

from tests.answers import Answers, changed

HARD_SWISH = Answers(
    wrong={
        "swish itself": """
def hard_swish(x):
    return x / (1 + np.exp(-x))
""",
        "multiply x by it": """
def hard_swish(x):
    return np.clip(x + 3, 0, 6) / 6
""",
        "the 3 is missing": """
def hard_swish(x):
    return x * np.clip(x, 0, 6) / 6
""",
        "divide ReLU6 by 6": """
def hard_swish(x):
    return x * np.clip(x + 3, 0, 6)
""",
        "grows beyond 1": """
def hard_swish(x):
    return x * np.maximum(x + 3, 0) / 6
""",
        "the gate ends at 0 and at 1": """
def hard_swish(x):
    return x * (x + 3) / 6
""",
        "the slope 1/5": """
def hard_swish(x):
    return x * np.clip(0.2 * x + 0.5, 0, 1)
""",
        "that is ReLU6;": """
def hard_swish(x):
    return ops.relu6(x)
""",
        "without activations": """
def hard_swish(x):
    return keras.activations.hard_swish(x)
""",
        "without hard_swish": """
def hard_swish(x):
    return ops.hard_swish(x)
""",
        "without hard_silu": """
from keras.activations import hard_swish as h

def hard_swish(x):
    return h(x)
""",
        "without Activation": """
def hard_swish(x):
    return keras.layers.Activation("hard_swish")(x)
""",
        "truth value": """
def hard_swish(x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[i] = x[i] * min(max(x[i] + 3, 0), 6) / 6
    return y
""",
    },
    right={
        "keras.ops": """
def hard_swish(x):
    return x * ops.relu6(x + 3.0) / 6.0
""",
        "piece by piece": """
def hard_swish(x):
    y = np.array(x, dtype="float64")
    inside = np.abs(y) < 3
    y[x <= -3] = 0
    y[inside] = y[inside] * (y[inside] + 3) / 6
    return y
""",
        "hard sigmoid": """
def hard_swish(x):
    return ops.multiply(x, ops.hard_sigmoid(x))
""",
        "number by number": """
@np.vectorize
def hard_swish(x):
    if x <= -3:
        return 0.0
    return x * min(x + 3, 6) / 6
""",
    },
    half={
        "right in the middle": (
            0.5,
            """
def hard_swish(x):
    return x * np.maximum(x + 3, 0) / 6
""",
        ),
        "right at the ends": (
            0.5,
            """
def hard_swish(x):
    return x * np.clip(0.2 * x + 0.5, 0, 1)
""",
        ),
    },
)

# The layer that most answers share; each answer says what differs.
_EXCITE = """
class SqueezeExcite(keras.layers.Layer):
    def __init__(self, squeezed):
        super().__init__()
        self.squeezed = squeezed

    def build(self, input_shape):
        self.reduce = keras.layers.Conv2D(self.squeezed, 1, activation="relu")
        self.restore = keras.layers.Conv2D(input_shape[-1], 1)

    def call(self, x):
        means = ops.mean(x, axis=(1, 2), keepdims=True)
        gates = ops.hard_sigmoid(self.restore(self.reduce(means)))
        return x * gates
"""


def _excite(*changes):
    return changed(_EXCITE, *changes)


SQUEEZE_EXCITE = Answers(
    slow=True,
    wrong={
        "the gate is a sigmoid": _excite(("ops.hard_sigmoid", "ops.sigmoid")),
        "ReLU between the two layers is missing": _excite((', activation="relu"', "")),
        "you squeeze by the maximum": _excite(("ops.mean(x", "ops.max(x")),
        "multiply x by them": _excite(("return x * gates", "return x + gates")),
        "multiply x by the gates": _excite(("return x * gates", "return gates")),
        "no shortcut around": _excite(("return x * gates", "return x + x * gates")),
        "nothing bounds the gates": _excite(
            (
                "ops.hard_sigmoid(self.restore(self.reduce(means)))",
                "self.restore(self.reduce(means))",
            )
        ),
        "squeeze first": _excite(("self.reduce(means)", "self.reduce(x)")),
        "not ReLU6": _excite(('activation="relu"', 'activation="relu6"')),
        "expected a tensor, got (": _excite(("return x * gates", "return x * gates, gates")),
        "both layers of squeeze-and-excite have a bias": _excite(
            ("Conv2D(input_shape[-1], 1)", "Conv2D(input_shape[-1], 1, use_bias=False)")
        ),
        "expected two layers with kernels": _excite(
            ("Conv2D(self.squeezed, 1,", "Conv2D(input_shape[-1] // self.squeezed + 3, 1,")
        ),
        "average over the positions only": _excite(("axis=(1, 2)", "axis=(0, 1, 2)")),
        "made anew at each call": _excite(
            (
                "self.restore(self.reduce(means))",
                "keras.layers.Dense(x.shape[-1])(\n"
                '            keras.layers.Dense(self.squeezed, activation="relu")(means)\n        )',
            )
        ),
        "unexpected keyword": _excite(("keepdims=True", "keep=True")),
        "end in `return`": _excite(("return x * gates", "x * gates")),
    },
    right={
        "dense": """
class SqueezeExcite(keras.Layer):
    def __init__(self, squeezed, **kwargs):
        super().__init__(**kwargs)
        self.squeezed = squeezed
        self.pool = keras.layers.GlobalAveragePooling2D()

    def build(self, input_shape):
        channels = input_shape[-1]
        self.gate = keras.Sequential(
            [
                keras.layers.Dense(self.squeezed, kernel_initializer="he_normal"),
                keras.layers.ReLU(),
                keras.layers.Dense(channels, activation="hard_sigmoid"),
                keras.layers.Reshape((1, 1, channels)),
            ]
        )

    def call(self, inputs):
        return keras.layers.Multiply()([inputs, self.gate(self.pool(inputs))])
""",
        "by hand": _excite(
            (
                "ops.hard_sigmoid(self.restore(self.reduce(means)))",
                "self.restore(self.reduce(means))",
            ),
            ("return x * gates", "return x * ops.clip(gates + 3, 0, 6) / 6"),
        ),
        "built at the first call": """
class SqueezeExcite(keras.layers.Layer):
    def __init__(self, squeezed):
        super().__init__()
        self.first = keras.layers.Dense(squeezed)
        self.second = None

    def call(self, x):
        if self.second is None:
            self.second = keras.layers.Dense(x.shape[3])
        z = ops.sum(ops.sum(x, 1), 1) / (x.shape[1] * x.shape[2])
        z = self.second(ops.maximum(self.first(z), 0))
        return ops.einsum("bhwc,bc->bhwc", x, ops.relu6(z + 3) / 6)
""",
    },
    half={
        "another gate": (1.0, _excite(("ops.hard_sigmoid", "ops.sigmoid"))),
        "no bias": (
            1.0,
            _excite(("Conv2D(input_shape[-1], 1)", "Conv2D(input_shape[-1], 1, use_bias=False)")),
        ),
    },
)

_ROW = """
def v3_block(x, row):
    kernel, exp, out, squeeze, name, strides = row
    function = mobilenet_v3.hard_swish if name == "HS" else ops.relu
    new = keras.layers

    def finish(y, active=True):
        y = new.BatchNormalization()(y)
        return new.Activation(function)(y) if active else y

    y = x
    if exp != x.shape[-1]:
        y = finish(new.Conv2D(exp, 1)(y))
    y = finish(new.DepthwiseConv2D(kernel, strides, padding="same")(y))
    if squeeze:
        y = mobilenet_v3.SqueezeExcite(make_divisible(exp / 4))(y)
    y = finish(new.Conv2D(out, 1)(y), False)
    if strides == 1 and out == x.shape[-1]:
        y = y + x
    return y
"""


def _row(*changes):
    return changed(_ROW, *changes)


_SE = "        y = mobilenet_v3.SqueezeExcite(make_divisible(exp / 4))(y)\n"


def _own(reduce="new.Conv2D(make_divisible(exp / 4), 1)", inner="relu"):
    """The block with squeeze-and-excite of its own."""
    return _row(
        (
            _SE,
            "        z = new.GlobalAveragePooling2D(keepdims=True)(y)\n"
            f"        z = new.Activation('{inner}')({reduce}(z))\n"
            "        y = y * new.Conv2D(exp, 1, activation='hard_sigmoid')(z)\n",
        )
    )


V3_BLOCK = Answers(
    slow=True,
    wrong={
        "you take h-swish": _row(
            ('mobilenet_v3.hard_swish if name == "HS" else ops.relu', "mobilenet_v3.hard_swish")
        ),
        "you take ReLU.": _row(
            ('mobilenet_v3.hard_swish if name == "HS" else ops.relu', "ops.relu")
        ),
        "you take swish": _row(("mobilenet_v3.hard_swish if", "ops.silu if")),
        "the projection stays linear": _row(("(y), False)", "(y))")),
        "add the input": _row(("        y = y + x\n", "        pass\n")),
        "no ReLU follows the addition": _row(
            ("        y = y + x\n", "        y = ops.relu(y + x)\n")
        ),
        "squeeze to": _row(("make_divisible(exp / 4)", "exp // 4")),
        "the expansion is left out": _row(("if exp != x.shape[-1]:", "if exp:")),
        "the activation comes first, then": _row(
            (
                '    y = finish(new.DepthwiseConv2D(kernel, strides, padding="same")(y))\n',
                '    y = new.DepthwiseConv2D(kernel, strides, padding="same")(y)\n'
                "    y = finish(y, False)\n",
            ),
            (_SE, _SE + "    y = new.Activation(function)(y)\n"),
        ),
        "no batch norm follows the projection": _row(
            ("y = finish(new.Conv2D(out, 1)(y), False)", "y = new.Conv2D(out, 1)(y)")
        ),
        "squeeze-and-excite is missing": _row(("    if squeeze:\n" + _SE, "")),
        "the expansion is missing": _row(
            ("    if exp != x.shape[-1]:\n        y = finish(new.Conv2D(exp, 1)(y))\n", "")
        ),
        "has stride": _row(("DepthwiseConv2D(kernel, strides,", "DepthwiseConv2D(kernel, 1,")),
        "False, 'HS', 1)": _row(("if strides == 1 and out == x.shape[-1]", "if strides == 1")),
        "False, 'HS', 2)": _row(
            ("if strides == 1 and out == x.shape[-1]", "if out == x.shape[-1]")
        ),
        "have a bias": _own("new.Conv2D(make_divisible(exp / 4), 1, use_bias=False)"),
        "no batch norm in squeeze-and-excite": _own(
            "(lambda z: new.BatchNormalization()(new.Conv2D(make_divisible(exp / 4), 1)(z)))"
        ),
        "not ReLU6": _own(inner="relu6"),
        "the last axis": _row(("BatchNormalization()", "BatchNormalization(axis=1)")),
        "nothing returned": _row(("    return y\n", "    keras.Model(x, y)\n")),
        "without MobileNetV3Block": """
def v3_block(x, row):
    kernel, exp, out, squeeze, name, strides = row
    return mobilenet_v3.MobileNetV3Block(
        out, strides, exp / x.shape[-1], kernel_size=kernel, squeeze_ratio=squeeze / 4
    )(x)
""",
    },
    right={
        "grouped and functional": """
def v3_block(x, row):
    k, exp, out, se, nl, s = row
    layers = keras.layers
    act = {"RE": "relu", "HS": "hard_swish"}[nl]
    channels = int(x.shape[-1])
    y = x
    if channels != exp:
        y = layers.Conv2D(exp, (1, 1), padding="same", use_bias=False)(y)
        y = layers.BatchNormalization(momentum=0.9)(y)
        y = layers.Activation(act)(y)
    y = layers.Conv2D(exp, (k, k), (s, s), padding="same", groups=exp, use_bias=False)(y)
    y = layers.BatchNormalization(epsilon=1e-2)(y)
    y = layers.Activation(act)(y)
    if se:
        z = layers.GlobalAveragePooling2D()(y)
        z = layers.Dense(make_divisible(exp * 0.25), "relu")(z)
        z = layers.Dense(exp, "hard_sigmoid")(z)
        y = layers.Multiply()([y, layers.Reshape((1, 1, exp))(z)])
    y = layers.BatchNormalization()(layers.Conv2D(out, 1, use_bias=False)(y))
    return layers.Add()([y, x]) if s == 1 and channels == out else y
""",
        "biased": _ROW,
        "its own squeeze-and-excite": _own(),
    },
    half={
        "no shortcut": (2.25, _row(("        y = y + x\n", "        pass\n"))),
        "always added": (
            2.25,
            _row(("if strides == 1 and out == x.shape[-1]", "if False")),
        ),
        "ReLU throughout": (
            1.75,
            _row(('mobilenet_v3.hard_swish if name == "HS" else ops.relu', "ops.relu")),
        ),
    },
)

_UNIVERSAL = """
class UniversalInvertedBottleneck(keras.layers.Layer):
    def __init__(self, filters, strides=1, expansion=4, first_kernel=None, middle_kernel=3):
        super().__init__()
        self.filters, self.strides, self.expansion = filters, strides, expansion
        self.first_kernel, self.middle_kernel = first_kernel, middle_kernel

    def build(self, input_shape):
        new, channels = keras.layers, input_shape[-1]
        wide = channels * self.expansion
        first_strides = 1 if self.middle_kernel else self.strides
        if self.first_kernel:
            self.first = new.DepthwiseConv2D(self.first_kernel, first_strides, padding="same")
            self.first_norm = new.BatchNormalization()
        self.expand, self.expand_norm = new.Conv2D(wide, 1), new.BatchNormalization()
        if self.middle_kernel:
            self.middle = new.DepthwiseConv2D(self.middle_kernel, self.strides, padding="same")
            self.middle_norm = new.BatchNormalization()
        self.project, self.project_norm = new.Conv2D(self.filters, 1), new.BatchNormalization()

    def call(self, x):
        y = x
        if self.first_kernel:
            y = self.first_norm(self.first(y))
        y = ops.relu(self.expand_norm(self.expand(y)))
        if self.middle_kernel:
            y = ops.relu(self.middle_norm(self.middle(y)))
        y = self.project_norm(self.project(y))
        if self.strides == 1 and self.filters == x.shape[-1]:
            y = y + x
        return y
"""


def _universal(*changes):
    return changed(_UNIVERSAL, *changes)


UNIVERSAL_BLOCK = Answers(
    slow=True,
    wrong={
        "the first depthwise convolution stays linear": _universal(
            ("self.first_norm(self.first(y))", "ops.relu(self.first_norm(self.first(y)))")
        ),
        "the projection stays linear": _universal(
            (
                "y = self.project_norm(self.project(y))",
                "y = ops.relu(self.project_norm(self.project(y)))",
            )
        ),
        "no ReLU follows the middle": _universal(
            ("ops.relu(self.middle_norm(self.middle(y)))", "self.middle_norm(self.middle(y))")
        ),
        "no ReLU follows the expansion": _universal(
            ("ops.relu(self.expand_norm(self.expand(y)))", "self.expand_norm(self.expand(y))")
        ),
        "you take h-swish": _universal(
            (
                "ops.relu(self.expand_norm(self.expand(y)))",
                "ops.hard_silu(self.expand_norm(self.expand(y)))",
            ),
            (
                "ops.relu(self.middle_norm(self.middle(y)))",
                "ops.hard_silu(self.middle_norm(self.middle(y)))",
            ),
        ),
        "you take ReLU6": _universal(
            ("ops.relu(self.expand_norm", "ops.relu6(self.expand_norm"),
            ("ops.relu(self.middle_norm", "ops.relu6(self.middle_norm"),
        ),
        "each has its own": _universal(
            ("self.middle_norm = new.BatchNormalization()", "self.middle_norm = self.expand_norm")
        ),
        "made anew at each call": _universal(
            (
                "self.expand_norm(self.expand(y))",
                "keras.layers.BatchNormalization()(self.expand(y))",
            )
        ),
        "is 5×5 and writes": _universal(("middle_kernel=3)", "middle_kernel=5)")),
        "add the input": _universal(("            y = y + x\n", "            pass\n")),
        "no batch norm follows the expansion": _universal(
            ("self.expand_norm(self.expand(y))", "self.expand(y)")
        ),
        "found 1×1 to": _universal(
            (
                "        if self.first_kernel:\n            y =",
                "        if False:\n            y =",
            ),
        ),
        "the last depthwise convolution has the stride": _universal(
            (
                "first_strides = 1 if self.middle_kernel else self.strides",
                "first_strides = self.strides",
            )
        ),
        "leave batch norm's": _universal(
            (
                "self.expand_norm(self.expand(y))",
                "self.expand_norm(self.expand(y), training=True)",
            )
        ),
        "unexpected keyword argument": _universal(
            ("first_kernel=None, middle_kernel=3)", "kernels=(None, 3))"),
            (
                "self.first_kernel, self.middle_kernel = first_kernel, middle_kernel",
                "self.first_kernel, self.middle_kernel = kernels",
            ),
        ),
        "end in `return`": _universal(("        return y\n", "")),
    },
    right={
        "a list of steps": """
class UniversalInvertedBottleneck(keras.Layer):
    def __init__(
        self, filters, strides=1, expansion=4, first_kernel=None, middle_kernel=3, **kwargs
    ):
        super().__init__(**kwargs)
        self.options = (filters, strides, expansion, first_kernel, middle_kernel)

    def build(self, shape):
        filters, s, expansion, k1, k2 = self.options
        L = keras.layers
        conv = dict(use_bias=False, padding="same")
        steps = []
        if k1:
            steps += [L.DepthwiseConv2D(k1, s if not k2 else 1, **conv), L.BatchNormalization()]
        steps += [L.Conv2D(shape[-1] * expansion, 1, **conv), L.BatchNormalization(), L.ReLU()]
        if k2:
            steps += [L.DepthwiseConv2D((k2, k2), (s, s), **conv), L.BatchNormalization()]
            steps += [L.Activation("relu")]
        steps += [L.Conv2D(filters, 1, **conv), L.BatchNormalization()]
        self.main = keras.Sequential(steps)
        self.add = L.Add()
        self.adds = s == 1 and shape[-1] == filters

    def call(self, inputs):
        outputs = self.main(inputs)
        return self.add([inputs, outputs]) if self.adds else outputs
""",
        "biased": _UNIVERSAL,
    },
    half={
        "no shortcut": (2.0, _universal(("            y = y + x\n", "            pass\n"))),
        "both strides": (
            1.5,
            _universal(
                (
                    "first_strides = 1 if self.middle_kernel else self.strides",
                    "first_strides = self.strides",
                )
            ),
        ),
        "ReLU after the first": (
            1.25,
            _universal(
                ("self.first_norm(self.first(y))", "ops.relu(self.first_norm(self.first(y)))")
            ),
        ),
    },
)

PARETO_SET = Answers(
    wrong={
        "the most accurate one alone": """
def pareto_set(points):
    return [max(points, key=lambda name: points[name][1])]
""",
        "the fastest one alone": """
def pareto_set(points):
    return [min(points, key=lambda name: points[name][0])]
""",
        "that another one beats": """
def pareto_set(points):
    return [
        name for name, (ms, acc) in points.items()
        if any(p != (ms, acc) and p[0] <= ms and p[1] >= acc for p in points.values())
    ]
""",
        "you keep slow networks": """
def pareto_set(points):
    return [
        name for name, (ms, acc) in points.items()
        if not any(p != (ms, acc) and p[0] >= ms and p[1] >= acc for p in points.values())
    ]
""",
        "equal in one respect": """
def pareto_set(points):
    return [
        name for name, (ms, acc) in points.items()
        if not any(p[0] < ms and p[1] > acc for p in points.values())
    ]
""",
        "is beaten by": """
def pareto_set(points):
    return list(points)
""",
        "do not beat each other": """
def pareto_set(points):
    return [
        name for name, (ms, acc) in points.items()
        if not any(p[0] <= ms and p[1] >= acc for n, p in points.items() if n != name)
    ]
""",
        "expected a list of their names": """
def pareto_set(points):
    return [points[name] for name in points]
""",
        "a name is there twice": """
def pareto_set(points):
    return 2 * list(points)
""",
        "ValueError": """
def pareto_set(points):
    return [name for name, ms, acc in points.items()]
""",
    },
    right={
        "sorted": """
def pareto_set(points):
    kept, best = [], -1
    ordered = sorted(points, key=lambda name: (points[name][0], -points[name][1]))
    for name in ordered:
        if points[name][1] > best or (kept and points[name] == points[kept[-1]]):
            kept.append(name)
            best = points[name][1]
    return kept
""",
        "a set": """
def pareto_set(points):
    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and (a[0] < b[0] or a[1] > b[1])

    losers = {n for n in points for m in points if beats(points[m], points[n])}
    return set(points) - losers
""",
        "numpy": """
def pareto_set(points):
    names = np.array(list(points))
    ms, acc = np.array([points[name] for name in names]).T
    no_worse = (ms[:, None] <= ms) & (acc[:, None] >= acc)
    better = (ms[:, None] < ms) | (acc[:, None] > acc)
    return names[~(no_worse & better).any(axis=0)]
""",
    },
    half={
        "ties are kept": (
            1.0,
            """
def pareto_set(points):
    return [
        name for name, (ms, acc) in points.items()
        if not any(p[0] < ms and p[1] > acc for p in points.values())
    ]
""",
        ),
        "twins are lost": (
            1.0,
            """
def pareto_set(points):
    return [
        name for name, (ms, acc) in points.items()
        if not any(p[0] <= ms and p[1] >= acc for n, p in points.items() if n != name)
    ]
""",
        ),
    },
)

ANSWERS = {
    "hard_swish": HARD_SWISH,
    "squeeze_excite": SQUEEZE_EXCITE,
    "v3_block": V3_BLOCK,
    "universal_block": UNIVERSAL_BLOCK,
    "pareto_set": PARETO_SET,
}
