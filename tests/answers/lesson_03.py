"""Answers to the exercises of lesson 03."""

from tests.answers import Answers

DEPTHWISE_CONV2D = Answers(
    wrong={
        "you add up the channels": """
def depthwise_conv2d(x, w, stride=1):
    k = len(w)
    rows, columns = ((side - k) // stride + 1 for side in x.shape[:2])
    y = np.zeros((rows, columns))
    for r in range(rows):
        for c in range(columns):
            window = x[r * stride : r * stride + k, c * stride : c * stride + k]
            y[r, c] = (window * w).sum()
    return y
""",
        "turn the filter by 180°": """
def depthwise_conv2d(x, w, stride=1):
    k, w = len(w), w[::-1, ::-1]
    rows, columns = ((side - k) // stride + 1 for side in x.shape[:2])
    y = np.zeros((rows, columns, x.shape[2]))
    for r in range(rows):
        for c in range(columns):
            window = x[r * stride : r * stride + k, c * stride : c * stride + k]
            y[r, c] = (window * w).sum(axis=(0, 1))
    return y
""",
        "rows and columns of the filter are swapped": """
def depthwise_conv2d(x, w, stride=1):
    k = len(w)
    rows, columns = ((side - k) // stride + 1 for side in x.shape[:2])
    y = np.zeros((rows, columns, x.shape[2]))
    for i in range(k):
        for j in range(k):
            y += x[i:, j:][::stride, ::stride][:rows, :columns] * w[j, i]
    return y
""",
        "all channels get the first filter": """
def depthwise_conv2d(x, w, stride=1):
    k = len(w)
    rows, columns = ((side - k) // stride + 1 for side in x.shape[:2])
    y = np.zeros((rows, columns, x.shape[2]))
    for i in range(k):
        for j in range(k):
            y += x[i:, j:][::stride, ::stride][:rows, :columns] * w[i, j, 0]
    return y
""",
        "you pad the image": """
def depthwise_conv2d(x, w, stride=1):
    k = len(w)
    x = np.pad(x, ((k // 2, (k - 1) // 2), (k // 2, (k - 1) // 2), (0, 0)))
    rows, columns = ((side - k) // stride + 1 for side in x.shape[:2])
    y = np.zeros((rows, columns, x.shape[2]))
    for i in range(k):
        for j in range(k):
            y += x[i:, j:][::stride, ::stride][:rows, :columns] * w[i, j]
    return y
""",
        "that is a mean": """
def depthwise_conv2d(x, w, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], axis=(0, 1))
    return (windows[::stride, ::stride] * w.transpose(2, 0, 1)).mean(axis=(-1, -2))
""",
        "pixels at a time": """
def depthwise_conv2d(x, w, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijc->hwc", windows, w)
""",
        "expected shape": """
def depthwise_conv2d(x, w, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijc->hwc", windows[:-1:stride, ::stride], w)
""",
        "without keras": """
def depthwise_conv2d(x, w, stride=1):
    return keras.ops.depthwise_conv(x[None], w[..., None], stride, "valid")[0]
""",
    },
    right={
        "windows": """
def depthwise_conv2d(x, w, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijc->hwc", windows[::stride, ::stride], w)
""",
        "channel by channel, in lists": """
def depthwise_conv2d(x, w, stride=1):
    k = w.shape[0]
    channels = []
    for c in range(x.shape[-1]):
        rows = []
        for top in range(0, x.shape[0] - k + 1, stride):
            starts = range(0, x.shape[1] - k + 1, stride)
            rows.append([np.vdot(x[top : top + k, left : left + k, c], w[:, :, c]) for left in starts])
        channels.append(rows)
    return np.moveaxis(np.array(channels), 0, -1)
""",
        "float32": """
def depthwise_conv2d(x, w, stride=1):
    k = len(w)
    rows, columns = ((side - k) // stride + 1 for side in x.shape[:2])
    y = 0
    for i in range(k):
        for j in range(k):
            y = y + x[i : i + rows * stride : stride, j : j + columns * stride : stride][:rows, :columns] * w[i, j]
    return y.astype("float32")
""",
    },
    half={
        "stride 1 and 3×3 only": (
            1.0,
            """
def depthwise_conv2d(x, w, stride=1):
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    y = np.zeros((rows, columns, x.shape[2]))
    for r in range(rows):
        for c in range(columns):
            y[r, c] = (x[r : r + 3, c : c + 3] * w).sum(axis=(0, 1))
    return y
""",
        ),
    },
)

SEPARABLE_COST_RATIO = Answers(
    wrong={
        "the ratio is separable ÷ full": """
def separable_cost_ratio(kernel_size, channels, filters):
    k2 = kernel_size**2
    return k2 * channels * filters / (k2 * channels + channels * filters)
""",
        "not on the input's channels": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / channels + 1 / kernel_size**2
""",
        "k·k elements in each channel": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / filters + 1 / kernel_size
""",
        "that is the pointwise step alone": """
def separable_cost_ratio(kernel_size, channels, filters):
    return channels * filters / (kernel_size**2 * channels * filters)
""",
        "that is the depthwise step alone": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / filters
""",
        "the two steps' costs add up": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / filters * 1 / kernel_size**2
""",
        "add the two fractions": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / (filters + kernel_size**2)
""",
        "the filter is not always 3×3": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / filters + 1 / 9
""",
        "not a percentage": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 100 / filters + 100 / kernel_size**2
""",
        "that is what is saved": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 - 1 / filters - 1 / kernel_size**2
""",
        "ZeroDivisionError": """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / filters + 1 // 3 / (kernel_size // 9)
""",
    },
    right={
        "fractions": """
def separable_cost_ratio(kernel_size, channels, filters):
    from fractions import Fraction

    return Fraction(1, filters) + Fraction(1, kernel_size**2)
""",
        "by counting": """
def separable_cost_ratio(kernel_size, channels, filters):
    full = kernel_size * kernel_size * channels * filters
    depthwise, pointwise = kernel_size * kernel_size * channels, channels * filters
    return np.float64(depthwise + pointwise) / full
""",
        "with positions": """
def separable_cost_ratio(kernel_size, channels, filters):
    n = 56 * 56
    return (n * kernel_size**2 * channels + n * channels * filters) / (
        n * kernel_size**2 * channels * filters
    )
""",
    },
    half={
        "3×3 alone": (
            0.5,
            """
def separable_cost_ratio(kernel_size, channels, filters):
    return 1 / filters + 1 / 9
""",
        ),
    },
)

# The parts of a layer that most answers share; each answer says what differs.
_LAYER = """
class DepthwiseSeparableConv(keras.layers.Layer):
    def __init__(self, filters, strides=1):
        super().__init__()
        self.depthwise = keras.layers.DepthwiseConv2D(3, strides, padding="same")
        self.pointwise = keras.layers.Conv2D(filters, 1)
        self.norm1 = keras.layers.BatchNormalization()
        self.norm2 = keras.layers.BatchNormalization()

    def call(self, x):
        x = ops.relu(self.norm1(self.depthwise(x)))
        return ops.relu(self.norm2(self.pointwise(x)))
"""


def _layer(*changes):
    text = _LAYER
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


_ONE = "ops.relu(self.norm1(self.depthwise(x)))"
_TWO = "ops.relu(self.norm2(self.pointwise(x)))"

DEPTHWISE_SEPARABLE_CONV = Answers(
    slow=True,
    wrong={
        "the ReLU between the two convolutions is missing": _layer(
            (_ONE, "self.norm1(self.depthwise(x))")
        ),
        "the last ReLU is missing": _layer((_TWO, "self.norm2(self.pointwise(x))")),
        "no ReLU after either": _layer(
            (_ONE, "self.norm1(self.depthwise(x))"), (_TWO, "self.norm2(self.pointwise(x))")
        ),
        "not before it": _layer(
            (_ONE, "self.norm1(ops.relu(self.depthwise(x)))"),
            (_TWO, "self.norm2(ops.relu(self.pointwise(x)))"),
        ),
        "the last ReLU stands before its batch norm": _layer(
            (_TWO, "self.norm2(ops.relu(self.pointwise(x)))")
        ),
        "no batch norm follows the depthwise": _layer((_ONE, "ops.relu(self.depthwise(x))")),
        "no batch norm follows the pointwise": _layer((_TWO, "ops.relu(self.pointwise(x))")),
        "leave batch norm's `training` to Keras": _layer(
            ("self.norm1(self.depthwise(x))", "self.norm1(self.depthwise(x), training=True)")
        ),
        "the 3×3 windows start elsewhere": _layer(
            ("DepthwiseConv2D(3, strides, ", "DepthwiseConv2D(3, "),
            ("Conv2D(filters, 1)", "Conv2D(filters, 1, strides)"),
        ),
        "the stride is missing": _layer(("DepthwiseConv2D(3, strides, ", "DepthwiseConv2D(3, ")),
        "padding 'same', and one stride?": _layer((', padding="same"', "")),
        "that of a full convolution": _layer(
            ("keras.layers.DepthwiseConv2D(3,", "keras.layers.Conv2D(filters, 3,"),
        ),
        "the depthwise convolution comes first": _layer(
            (_ONE, "ops.relu(self.norm1(self.pointwise(x)))"),
            (_TWO, "ops.relu(self.norm2(self.depthwise(x)))"),
        ),
        "but (5, 5, ": _layer(("DepthwiseConv2D(3,", "DepthwiseConv2D(5,")),
        ": use keras.layers.DepthwiseConv2D": _layer(
            ("DepthwiseConv2D(3,", "Conv2D(filters + 1, 3,")
        ),
        "the pointwise kernel is 1×1": _layer(
            ("Conv2D(filters, 1)", 'Conv2D(filters, 3, padding="same")')
        ),
        "the layers are made anew": _layer(
            (_ONE, "ops.relu(keras.layers.BatchNormalization()(self.depthwise(x)))")
        ),
        "`call` returned 2 tensors; return one": _layer(("return " + _TWO, f"return {_TWO}, x")),
        "no pointwise kernel of shape": _layer(
            ("Conv2D(filters, 1)", 'Conv2D(filters, (1, 3), padding="same")')
        ),
        "two kernels are enough": _layer(
            (_TWO, _TWO + " + 0 * self.extra(x)"),
            (
                "        self.norm1 =",
                "        self.extra = keras.layers.Dense(filters)\n        self.norm1 =",
            ),
        ),
        "it has no kernels": """
class DepthwiseSeparableConv(keras.layers.Layer):
    def __init__(self, filters, strides=1):
        super().__init__()
        self.filters, self.strides = filters, strides

    def call(self, x):
        w = ops.ones((3, 3, x.shape[-1], 1))
        x = ops.relu(ops.depthwise_conv(x, w, self.strides, "same"))
        return ops.relu(ops.conv(x, ops.ones((1, 1, x.shape[-1], self.filters))))
""",
        "unexpected keyword argument": _layer((", strides=1", ""), ("(3, strides, ", "(3, 1, ")),
        "no tensor": _layer(("return " + _TWO, _TWO)),
    },
    right={
        "ReLU6, sequential": """
class DepthwiseSeparableConv(keras.Layer):
    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        new = keras.layers
        self.steps = keras.Sequential(
            [
                new.DepthwiseConv2D((3, 3), (strides, strides), "same", use_bias=False),
                new.BatchNormalization(momentum=0.9, epsilon=1e-5),
                new.ReLU(6.0),
                new.Conv2D(filters, (1, 1), padding="same", use_bias=False),
                new.BatchNormalization(momentum=0.9, scale=False),
                new.Activation("relu6"),
            ]
        )

    def call(self, inputs):
        return self.steps(inputs)
""",
        "a group for each channel, and a dense layer": """
class DepthwiseSeparableConv(keras.layers.Layer):
    def __init__(self, filters, strides=1):
        super().__init__()
        self.filters, self.strides = filters, strides

    def build(self, input_shape):
        c = input_shape[-1]
        self.filter = keras.layers.Conv2D(c, 3, self.strides, "same", groups=c)
        self.mix = keras.layers.Dense(self.filters, use_bias=False)
        self.norms = [keras.layers.BatchNormalization() for _ in range(2)]

    def call(self, x):
        x = keras.activations.relu(self.norms[0](self.filter(x)))
        return keras.activations.relu(self.norms[1](self.mix(x)))
""",
        "weights of its own": """
class DepthwiseSeparableConv(keras.layers.Layer):
    def __init__(self, filters, strides=1):
        super().__init__()
        self.filters, self.strides = filters, strides
        self.norm1 = keras.layers.BatchNormalization()
        self.norm2 = keras.layers.BatchNormalization()

    def build(self, input_shape):
        self.d = self.add_weight(shape=(3, 3, input_shape[-1], 1))
        self.p = self.add_weight(shape=(1, 1, input_shape[-1], self.filters))

    def call(self, x):
        x = self.norm1(ops.depthwise_conv(x, self.d, self.strides, "same"))
        x = self.norm2(ops.conv(ops.maximum(x, 0), self.p))
        return ops.maximum(x, 0)
""",
    },
    half={
        "right kernels and shape": (1.5, _layer((_TWO, "self.norm2(self.pointwise(x))"))),
        "padded on all sides": (
            1.5,
            _layer(
                (', padding="same"', ""),
                (
                    "self.depthwise(x)",
                    "self.depthwise(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))",
                ),
            ),
        ),
        "norms made anew": (
            1.5,
            _layer((_ONE, "ops.relu(keras.layers.BatchNormalization()(self.depthwise(x)))")),
        ),
        "right kernels alone": (1.0, _layer((', padding="same"', ""))),
        "right shape alone": (
            0.5,
            _layer(("keras.layers.DepthwiseConv2D(3,", "keras.layers.Conv2D(filters, 3,")),
        ),
    },
)

SCALED_BLOCK_MACS = Answers(
    wrong={
        "before any scaling": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return side**2 * (9 * channels + channels * filters)
""",
        "it shrinks by α, not by α²": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return alpha**2 * rho**2 * side**2 * (9 * channels + channels * filters)
""",
        "it shrinks by α².": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return alpha * rho**2 * side**2 * (9 * channels + channels * filters)
""",
        "the area shrinks by ρ²": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    m, n = alpha * channels, alpha * filters
    return rho * side**2 * (9 * m + m * n)
""",
        "that is a full convolution": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return 9 * (alpha * channels) * (alpha * filters) * (rho * side) ** 2
""",
        "the pointwise step is missing": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return 9 * (alpha * channels) * (rho * side) ** 2
""",
        "a multiply-add is one, not two": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    m, n = alpha * channels, alpha * filters
    return 2 * (rho * side) ** 2 * (9 * m + m * n)
""",
        "the depthwise step is missing": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return alpha * channels * alpha * filters * (rho * side) ** 2
""",
    },
    right={
        "whole numbers": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    side, m, n = int(side * rho), int(channels * alpha), int(filters * alpha)
    return side * side * 9 * m + side * side * m * n
""",
        "numpy": """
def scaled_block_macs(side, channels, filters, alpha, rho):
    m, n = np.array([channels, filters]) * alpha
    return np.square(rho * side) * m * (9 + n)
""",
    },
    half={
        "α alone": (
            0.75,
            """
def scaled_block_macs(side, channels, filters, alpha, rho):
    m, n = alpha * channels, alpha * filters
    return side**2 * (9 * m + m * n)
""",
        ),
        "ρ alone": (
            0.75,
            """
def scaled_block_macs(side, channels, filters, alpha, rho):
    return (rho * side) ** 2 * (9 * channels + channels * filters)
""",
        ),
    },
)

PICK_NETWORK = Answers(
    wrong={
        "it does not keep to the budgets": """
def pick_network(rows, max_macs, max_params):
    best = max(rows, key=lambda row: row["top1"])
    return best["alpha"], best["resolution"]
""",
        "more than `max_params` parameters": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["alpha"], best["resolution"])
""",
        "more than `max_macs` multiply-adds": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["params"] <= max_params]
    best = max(fitting, key=lambda row: row["top1"])
    return best["alpha"], best["resolution"]
""",
        "that is the costliest that fits": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = max(fitting, key=lambda row: row["macs"], default=None)
    return best and (best["alpha"], best["resolution"])
""",
        "the least accurate": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = sorted(fitting, key=lambda row: row["top1"])[:1]
    return (best[0]["alpha"], best[0]["resolution"]) if best else None
""",
        "≤, not <": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] < max_macs and row["params"] < max_params]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["alpha"], best["resolution"])
""",
        "expected None": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = max(fitting or [min(rows, key=lambda row: row["macs"])], key=lambda row: row["top1"])
    return best["alpha"], best["resolution"]
""",
        "ValueError: max()": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = max(fitting, key=lambda row: row["top1"])
    return best["alpha"], best["resolution"]
""",
        "it returns None, but there is": """
def pick_network(rows, max_macs, max_params):
    best = max(rows, key=lambda row: row["top1"])
    if best["macs"] <= max_macs and best["params"] <= max_params:
        return best["alpha"], best["resolution"]
    return None
""",
        "in this order": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["resolution"], best["alpha"])
""",
        "not the whole row": """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    return max(fitting, key=lambda row: row["top1"], default=None)
""",
    },
    right={
        "a loop": """
def pick_network(rows, max_macs, max_params):
    best, chosen = -1.0, None
    for row in rows:
        fits = row["macs"] <= max_macs and row["params"] <= max_params
        if fits and row["top1"] > best:
            best, chosen = row["top1"], [row["alpha"], row["resolution"]]
    return chosen
""",
        "sorted": """
def pick_network(rows, max_macs, max_params):
    for row in sorted(rows, key=lambda row: -row["top1"]):
        if not (row["macs"] > max_macs or row["params"] > max_params):
            return np.array([row["alpha"], row["resolution"]])
""",
    },
    half={
        "strict with the multiply-adds": (
            1.5,
            """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] < max_macs and row["params"] <= max_params]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["alpha"], best["resolution"])
""",
        ),
        "strict with the parameters": (
            1.5,
            """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] < max_params]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["alpha"], best["resolution"])
""",
        ),
        "strict": (
            1.5,
            """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] < max_macs and row["params"] < max_params]
    best = max(fitting, key=lambda row: row["top1"], default=None)
    return best and (best["alpha"], best["resolution"])
""",
        ),
        "something for nothing": (
            1.5,
            """
def pick_network(rows, max_macs, max_params):
    fitting = [row for row in rows if row["macs"] <= max_macs and row["params"] <= max_params]
    best = max(fitting or [min(rows, key=lambda row: row["macs"])], key=lambda row: row["top1"])
    return best["alpha"], best["resolution"]
""",
        ),
    },
)

ANSWERS = {
    "depthwise_conv2d": DEPTHWISE_CONV2D,
    "separable_cost_ratio": SEPARABLE_COST_RATIO,
    "depthwise_separable_conv": DEPTHWISE_SEPARABLE_CONV,
    "scaled_block_macs": SCALED_BLOCK_MACS,
    "pick_network": PICK_NETWORK,
}
