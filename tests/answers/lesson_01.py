"""Answers to the exercises of lesson 01."""

from tests.answers import Answers

POINTWISE_CONV = Answers(
    wrong={
        "the bias is subtracted": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x @ kernel - bias, 0)
""",
        "keeps the positive sums": """
def pointwise_conv(x, kernel, bias):
    return np.minimum(x @ kernel + bias, 0)
""",
        "ReLU has no upper end": """
def pointwise_conv(x, kernel, bias):
    return np.clip(x @ kernel + bias, 0, 1)
""",
        "that is a sigmoid": """
def pointwise_conv(x, kernel, bias):
    return 1 / (1 + np.exp(-(x @ kernel + bias)))
""",
        "the ReLU is missing": """
def pointwise_conv(x, kernel, bias):
    return x @ kernel + bias
""",
        "the bias is missing": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x @ kernel, 0)
""",
        "the bias and the ReLU are missing": """
def pointwise_conv(x, kernel, bias):
    return np.einsum("hwc,cf->hwf", x, kernel)
""",
        "the bias comes before the ReLU": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x @ kernel, 0) + bias
""",
        "acts on the sum, not on the input": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x, 0) @ kernel + bias
""",
        "keeps no size": """
def pointwise_conv(x, kernel, bias):
    return np.abs(x @ kernel + bias)
""",
        "rows and columns are swapped": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x.transpose(1, 0, 2) @ kernel + bias, 0)
""",
        "the filters belong on the last axis": """
def pointwise_conv(x, kernel, bias):
    planes = [np.maximum(x @ kernel[:, f] + bias[f], 0) for f in range(len(bias))]
    return np.stack(planes)
""",
        "give the positions back their two axes": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x.reshape(-1, x.shape[-1]) @ kernel + bias, 0)
""",
        "every position stays": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(np.einsum("hwc,cf->f", x, kernel) + bias, 0)
""",
        "each one stays": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x.mean((0, 1)) @ kernel + bias, 0)
""",
        "a neuron adds them up": """
def pointwise_conv(x, kernel, bias):
    return np.maximum((x[..., None] * kernel).mean(-2) + bias, 0)
""",
        "matmul: Input operand 1 has a mismatch": """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x @ kernel.T + bias, 0)
""",
        "without keras": """
def pointwise_conv(x, kernel, bias):
    return keras.ops.relu(keras.ops.matmul(x, kernel) + bias)
""",
    },
    right={
        "tensordot": """
def pointwise_conv(x, kernel, bias):
    z = np.tensordot(x, kernel, axes=([2], [0])) + bias
    return z * (z > 0)
""",
        "loops": """
def pointwise_conv(x, kernel, bias):
    height, width, channels = x.shape
    out = np.zeros((height, width, kernel.shape[1]))
    for i in range(height):
        for j in range(width):
            for f in range(kernel.shape[1]):
                total = bias[f]
                for c in range(channels):
                    total += x[i, j, c] * kernel[c, f]
                out[i, j, f] = max(total, 0)
    return out
""",
        "einsum in float32": """
def pointwise_conv(x, kernel, bias):
    z = np.einsum("hwc,cf->hwf", x.astype("float32"), kernel.astype("float32"))
    return np.clip(z + bias, 0, None)
""",
        "flattened positions": """
def pointwise_conv(x, kernel, bias):
    z = x.reshape(-1, x.shape[-1]) @ kernel + bias
    z[z < 0] = 0
    return z.reshape(*x.shape[:2], -1)
""",
    },
    half={
        "linear": (
            0.5,
            """
def pointwise_conv(x, kernel, bias):
    return x @ kernel
""",
        ),
        "without bias": (
            0.5,
            """
def pointwise_conv(x, kernel, bias):
    return np.maximum(x @ kernel, 0)
""",
        ),
    },
)

# The class that the exercise asks for; each answer says what its `build` and `call` do.
_LAYER = """
class PointwiseConv2D(keras.layers.Layer):
    def __init__(self, filters, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        channels = input_shape[-1]
        {build}

    def call(self, x):
        {call}
"""
_KERNEL = 'self.kernel = self.add_weight(name="kernel", shape=(channels, self.filters))'
_BIAS = 'self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")'
_WEIGHTS = f"{_KERNEL}\n        {_BIAS}"


def _layer(build=_WEIGHTS, call="return self.activation(x @ self.kernel + self.bias)"):
    return _LAYER.format(build=build, call=call)


POINTWISE_LAYER = Answers(
    wrong={
        "the bias is subtracted": _layer(
            call="return self.activation(x @ self.kernel - self.bias)"
        ),
        "The kernel does not train": _layer(
            _KERNEL.replace("self.filters)", "self.filters), trainable=False") + "; " + _BIAS
        ),
        "Expected a bias of shape": _layer(
            _KERNEL + "; " + _BIAS.replace("(self.filters,)", "(1,)")
        ),
        "No trainable weights": _layer("pass", "return self.activation(x)"),
        "Expected a kernel of shape": _layer(
            'self.kernel = self.add_weight(name="kernel", shape=(3, 3, channels, self.filters))\n'
            f"        {_BIAS}",
            "return self.activation(x @ self.kernel[1, 1] + self.bias)",
        ),
        "one neuron serves all positions": _layer(
            "shape = (*input_shape[1:3], self.filters)\n"
            f"        {_KERNEL}\n"
            '        self.bias = self.add_weight(name="bias", shape=shape)'
        ),
        "The bias is missing": _layer(_KERNEL, "return self.activation(x @ self.kernel)"),
        "The bias has one number a channel": _layer(
            f'{_KERNEL}\n        self.bias = self.add_weight(name="bias", shape=(channels,))',
            "return self.activation((x + self.bias) @ self.kernel)",
        ),
        "a kernel and a bias are enough": _layer(
            f'{_WEIGHTS}\n        self.extra = self.add_weight(name="extra", shape=())'
        ),
        "start with the same numbers": _layer(
            _WEIGHTS.replace("self.filters))", 'self.filters), initializer="zeros")')
        ),
        "the bias is made and never added": _layer(call="return self.activation(x @ self.kernel)"),
        "there is no ReLU": _layer(call="return keras.ops.relu(x @ self.kernel + self.bias)"),
        "rows and columns are swapped": _layer(
            call="z = keras.ops.transpose(x, (0, 2, 1, 3)) @ self.kernel + self.bias\n"
            "        return self.activation(z)"
        ),
        "each one stays": _layer(
            call="z = keras.ops.mean(x, (1, 2)) @ self.kernel + self.bias\n"
            "        return self.activation(z)"
        ),
        "the activation is not applied": _layer(call="return x @ self.kernel + self.bias"),
        "the activation comes last": _layer(
            call="return self.activation(x @ self.kernel) + self.bias"
        ),
        "acts on the sum, not on the input": _layer(
            call="return self.activation(x) @ self.kernel + self.bias"
        ),
        "`class PointwiseConv2D(keras.layers.Layer)`": """
class PointwiseConv2D:
    def __init__(self, filters, activation=None):
        self.kernel = np.ones((4, filters))

    def __call__(self, x):
        return x @ self.kernel
""",
        "without Dense": _layer(
            "self.dense = keras.layers.Dense(self.filters)",
            "return self.activation(self.dense(x))",
        ),
        "without Conv2D": """
def PointwiseConv2D(filters, activation=None):
    return keras.layers.Conv2D(filters, 1, activation=activation)
""",
    },
    right={
        "kernel of Conv2D, bias first": _layer(
            f"{_BIAS}\n        shape = (1, 1, channels, self.filters)\n"
            '        self.kernel = self.add_weight(name="kernel", shape=shape)',
            "return self.activation(keras.ops.matmul(x, self.kernel) + self.bias)",
        ),
        "einsum": _layer(
            call='z = keras.ops.einsum("bhwc,cf->bhwf", x, self.kernel)\n'
            "        return self.activation(keras.ops.add(z, self.bias))"
        ),
        "a row for each filter": _layer(
            'self.rows = self.add_weight(name="rows", shape=(self.filters, channels))\n'
            f"        {_BIAS}",
            "z = keras.ops.tensordot(x, keras.ops.transpose(self.rows), 1)\n"
            "        return self.activation(z + self.bias)",
        ),
        "flattened positions": _layer(
            _WEIGHTS + "\n        super().build(input_shape)",
            "shape = keras.ops.shape(x)\n"
            "        z = keras.ops.reshape(x, (-1, shape[-1])) @ self.kernel + self.bias\n"
            "        z = keras.ops.reshape(z, (*shape[:-1], self.filters))\n"
            "        return self.activation(z)",
        ),
    },
    half={
        "no bias": (1.5, _layer(_KERNEL, "return self.activation(x @ self.kernel)")),
        "no activation": (1.5, _layer(call="return x @ self.kernel + self.bias")),
        "weights only": (0.5, _layer(call="return x")),
    },
)

BOTTLENECK_MACS = Answers(
    wrong={
        "counts once, not twice": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    positions, area = 2 * height * width, kernel * kernel
    if reduce is None:
        return positions * area * channels * filters
    return positions * (channels * reduce + area * reduce * filters)
""",
        "is 1×1, not k×k": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    positions, area = height * width, kernel * kernel
    if reduce is None:
        return positions * area * channels * filters
    return positions * area * (channels * reduce + reduce * filters)
""",
        "the 1×1 convolution comes first": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    positions, area = height * width, kernel * kernel
    if reduce is None:
        return positions * area * channels * filters
    return positions * (area * channels * reduce + reduce * filters)
""",
        "so it does not count": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    positions, area = height * width, kernel * kernel
    if reduce is None:
        return positions * area * channels * filters
    return positions * (channels * reduce + area * reduce * filters + filters)
""",
        "the 1×1 convolution is not free": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    return height * width * kernel * kernel * (reduce or channels) * filters
""",
        "that is the 1×1 convolution alone": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height * width * kernel**2 * channels * filters
    return height * width * channels * reduce
""",
        "that is the direct way": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    return height * width * kernel**2 * channels * filters
""",
        "after the 1×1 the filters read": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    squeeze = height * width * channels * (reduce or 0)
    return squeeze + height * width * kernel**2 * channels * filters
""",
        "add, not multiply": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height * width * kernel**2 * channels * filters
    return height * width * channels * reduce * kernel**2 * reduce * filters
""",
        "use k twice": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height * width * kernel * channels * filters
    return height * width * (channels * reduce + kernel * kernel * reduce * filters)
""",
        "the kernel is k wide and k high.": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height * width * kernel * kernel * channels * filters
    return height * width * (channels * reduce + kernel * reduce * filters)
""",
        "that is the work at one position": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return kernel**2 * channels * filters
    return channels * reduce + kernel**2 * reduce * filters
""",
        "height and width differ": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height**2 * kernel**2 * channels * filters
    return height**2 * (channels * reduce + kernel**2 * reduce * filters)
""",
        "works at every position too": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height * width * kernel**2 * channels * filters
    return channels * reduce + height * width * kernel**2 * reduce * filters
""",
        "each filter reads all channels": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if reduce is None:
        return height * width * kernel**2 * filters
    return height * width * (channels * reduce + kernel**2 * reduce * filters)
""",
        "TypeError": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    return height * width * (channels * reduce + kernel**2 * reduce * filters)
""",
    },
    right={
        "two layers": """
def conv_macs(height, width, kernel, channels, filters):
    return height * width * kernel**2 * channels * filters

def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    macs = 0
    if reduce is not None:
        macs, channels = conv_macs(height, width, 1, channels, reduce), reduce
    return macs + conv_macs(height, width, kernel, channels, filters)
""",
        "array products": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    layers = [(1, channels, reduce), (kernel, reduce, filters)]
    if reduce is None:
        layers = [(kernel, channels, filters)]
    return np.sum([np.prod([height, width, k, k, c, f]) for k, c, f in layers])
""",
        "float": """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    if not reduce:
        return 1.0 * height * width * kernel**2 * channels * filters
    return 1.0 * height * width * reduce * (channels + kernel**2 * filters)
""",
    },
    half={
        "never a None": (
            0.5,
            """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    return height * width * (channels * reduce + kernel**2 * reduce * filters)
""",
        ),
        "always directly": (
            0.5,
            """
def bottleneck_macs(height, width, channels, reduce, kernel, filters):
    return height * width * kernel**2 * channels * filters
""",
        ),
    },
)

# An Inception module in single lines; each answer replaces some of them.
_MODULE = """
def conv(x, filters, size, activation="relu", padding="same", **options):
    return keras.layers.Conv2D(filters, size, padding=padding, activation=activation, **options)(x)

def pool(x, strides=1, padding="same"):
    return keras.layers.MaxPooling2D(3, strides=strides, padding=padding)(x)

def inception_module(
    x, filters_1x1, reduce_3x3, filters_3x3, reduce_5x5, filters_5x5, pool_proj
):
    a = conv(x, filters_1x1, 1)
    b = conv(conv(x, reduce_3x3, 1), filters_3x3, 3)
    c = conv(conv(x, reduce_5x5, 1), filters_5x5, 5)
    d = conv(pool(x), pool_proj, 1)
    return keras.layers.Concatenate()([a, b, c, d])
"""
_A, _B, _C, _D, _JOIN = (line.strip() for line in _MODULE.splitlines()[-5:])


def _module(**lines):
    named = {"a": _A, "b": _B, "c": _C, "d": _D, "join": _JOIN}
    text = _MODULE
    for name, line in lines.items():
        assert text.count(named[name]) == 1
        text = text.replace(named[name], line)
    return text


_NO_RELU = _MODULE.replace('activation="relu"', "activation=None")

INCEPTION_MODULE = Answers(
    slow=True,
    wrong={
        "The ReLU is missing": _module(a="a = conv(x, filters_1x1, 1, None)"),
        "The bottleneck lacks its ReLU": _module(
            b="b = conv(conv(x, reduce_3x3, 1, None), filters_3x3, 3)"
        ),
        "The last convolution lacks its ReLU": _module(
            c="c = conv(conv(x, reduce_5x5, 1), filters_5x5, 5, None)"
        ),
        "Both convolutions lack their ReLU": _module(
            c="c = conv(conv(x, reduce_5x5, 1, None), filters_5x5, 5, None)"
        ),
        "No bottleneck: the 3×3 filters": _module(b="b = conv(x, filters_3x3, 3)"),
        "No bottleneck: the 5×5 filters": _module(c="c = conv(x, filters_5x5, 5)"),
        "The projection lacks its ReLU": _module(d="d = conv(pool(x), pool_proj, 1, None)"),
        "The projection comes after the pooling": _module(d="d = pool(conv(x, pool_proj, 1))"),
        "the mean": _module(
            d='d = conv(keras.layers.AveragePooling2D(3, 1, "same")(x), pool_proj, 1)'
        ),
        "The 3×3 max pooling before the projection is missing": _module(
            d="d = conv(x, pool_proj, 1)"
        ),
        "No projection": _module(d="d = pool(x)"),
        "in another order": _module(join="return keras.layers.Concatenate()([a, c, b, d])"),
        "stride 1 in the pooling too": _module(d="d = conv(pool(x, None), pool_proj, 1)"),
        "Expected kernels": _module(c="c = conv(conv(x, reduce_5x5, 1), filters_5x5, 3)"),
        "nowhere in the output": _module(
            c="c = conv(conv(x, reduce_5x5, 1), filters_5x5, 5, dilation_rate=2)"
        ),
        "Expected a kernel (1": _module(join="return keras.layers.Concatenate()([a, b, c])"),
    },
    right={
        "a layer": """
class inception_module(keras.layers.Layer):
    def __init__(self, f1, r3, f3, r5, f5, p):
        super().__init__()
        conv = keras.layers.Conv2D
        self.p = conv(p, 1, activation="relu")
        self.b5 = [conv(r5, 1, activation="relu"), conv(f5, 5, 1, "same", activation="relu")]
        self.b3 = [conv(r3, 1, activation="relu"), conv(f3, 3, 1, "same", activation="relu")]
        self.b1 = conv(f1, 1, activation="relu")

    def call(self, x):
        pooled = keras.ops.max_pool(x, 3, 1, "same")
        branches = [self.b1(x), self.b3[1](self.b3[0](x)), self.b5[1](self.b5[0](x))]
        return keras.ops.concatenate([*branches, self.p(pooled)], axis=-1)
""",
        "a function that returns a model": _module(
            join="return keras.Model(x, keras.layers.concatenate([a, b, c, d]))"
        ).replace("    a = conv(", "    x = keras.Input(x.shape[1:])\n    a = conv("),
        "dense layers as 1×1": _MODULE.replace(
            "    return keras.layers.Conv2D(",
            "    if size == 1:\n"
            "        return keras.layers.Dense(filters, activation)(x)\n"
            "    return keras.layers.Conv2D(",
        ),
        "separate ReLUs, other order of work": _module(
            a="d = keras.layers.ReLU()(conv(pool(x), pool_proj, 1, None))",
            d="a = keras.ops.maximum(conv(x, filters_1x1, 1, None), 0)",
        ),
    },
    half={
        "no ReLU at all": (0.5, _NO_RELU),
        "without bottlenecks": (
            1.5,
            _module(b="b = conv(x, filters_3x3, 3)", c="c = conv(x, filters_5x5, 5)"),
        ),
        "no projection": (2.0, _module(d="d = pool(x)")),
        "wrong order": (2.5, _module(join="return keras.layers.Concatenate()([d, c, b, a])")),
    },
)

# An mlpconv block that searches its width; each answer replaces some lines of it.
_MLP = """
def mlpconv(x, filters, max_macs):
    _, height, width, channels = x.shape
    positions = height * width
    w = 8
    while positions * (w + 8) * (9 * channels + (w + 8) + filters) <= max_macs:
        w += 8
    x = keras.layers.Conv2D(w, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(w, 1, activation="relu")(x)
    return keras.layers.Conv2D(filters, 1, activation="relu")(x)
"""
_FIRST, _SECOND, _THIRD = (line.strip() for line in _MLP.splitlines()[-3:])
_SEARCH = "positions * (w + 8) * (9 * channels + (w + 8) + filters)"


def _mlp(search=_SEARCH, first=_FIRST, second=_SECOND, third=_THIRD):
    text = _MLP.replace(_SEARCH, search).replace(_FIRST, first)
    return text.replace(_SECOND, second).replace(_THIRD, third)


def _linear(line):
    return line.replace(', activation="relu"', "")


MLPCONV = Answers(
    slow=True,
    wrong={
        "the last convolution lacks its ReLU": _mlp(third=_linear(_THIRD)),
        "the middle convolution lacks its ReLU": _mlp(second=_linear(_SECOND)),
        "the 3×3 convolution lacks its ReLU": _mlp(first=_linear(_FIRST)),
        "only the first convolution has a ReLU": _mlp(
            second=_linear(_SECOND), third=_linear(_THIRD)
        ),
        "only the last convolution has a ReLU": _mlp(
            first=_linear(_FIRST), second=_linear(_SECOND)
        ),
        "there is no ReLU": _linear(_MLP),
        "2 kernels": _mlp(second=""),
        "with one width w": _mlp(first=_FIRST.replace("(w, 3", "(2 * w, 3")),
        "expected one of 3×3 and two of 1×1": _mlp(
            second=_SECOND.replace("(w, 1", '(w, 3, padding="same"')
        ),
        "has a bias, one number a filter": _mlp(
            second=_SECOND.replace('"relu"', '"relu", use_bias=False')
        ),
        "expected shape": _mlp(first=_FIRST.replace(', padding="same"', "")),
        "too many.": _mlp("positions * (w + 8) * 9 * channels"),
        "would fit too": _mlp("positions * (w + 8) * (9 * channels + (w + 8) + filters) + 1"),
        "is no multiple of 8": _mlp().replace(
            "    x = keras.layers.Conv2D(w, 3", "    w -= 1\n    x = keras.layers.Conv2D(w, 3"
        ),
        "NameError": _mlp(first=_FIRST.replace("(w, 3", "(wide, 3")),
    },
    right={
        "solved": """
def mlpconv(x, filters, max_macs):
    height, width, channels = x.shape[1:]
    p = 9 * channels + filters
    w = (-p + (p * p + 4 * max_macs / (height * width)) ** 0.5) / 2
    w = int((w + 1e-6) // 8 * 8)
    conv = keras.layers.Conv2D
    for n, k in ((w, 3), (w, 1), (filters, 1)):
        x = keras.layers.ReLU()(conv(n, k, padding="same")(x))
    return x
""",
        "counted": """
def block(w, filters):
    conv = keras.layers.Conv2D
    return keras.Sequential([
        conv(w, 3, padding="same", activation="relu"),
        conv(w, 1, activation="relu"),
        conv(filters, 1, activation="relu"),
    ])

def mlpconv(x, filters, max_macs):
    per_position = max_macs / (x.shape[1] * x.shape[2])
    w = int(per_position / (9 * x.shape[3] + filters + 8)) // 8 * 8
    while count(block(w, filters), x.shape[1:]).macs > max_macs:
        w -= 8
    return block(w, filters)
""",
        "dense layers as 1×1": _mlp(
            second='x = keras.layers.Dense(w, activation="relu")(x)',
            third='return keras.layers.Dense(filters, activation="relu")(x)',
        ),
    },
    half={
        "smallest width": (2.5, _mlp(search="float('inf')")),
        "no ReLU": (2.0, _linear(_MLP)),
        "budget of the 3×3 alone": (2.0, _mlp("positions * (w + 8) * 9 * channels")),
        "no ReLU and no budget": (
            1.0,
            _linear(_mlp(search="positions * (w + 8) * 9 * channels")),
        ),
    },
)

ANSWERS = {
    "pointwise_conv": POINTWISE_CONV,
    "pointwise_layer": POINTWISE_LAYER,
    "bottleneck_macs": BOTTLENECK_MACS,
    "inception_module": INCEPTION_MODULE,
    "mlpconv": MLPCONV,
}
