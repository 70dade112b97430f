"""Answers to the exercises of lesson 04."""

from tests.answers import Answers

RELU_INFORMATION_LOSS = Answers(
    wrong={
        "that is the share of numbers that stay": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(y > 0), np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "that counts points of which nothing is left": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(np.all(y == 0, axis=1)), np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "that is a count": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.sum(y == 0), np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "without ReLU nothing is lost": """
def relu_information_loss(x, T):
    y = x @ T
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(y <= 0), np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "you go back by the inverse of T": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.pinv(T)
    return np.mean(y == 0), np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "that is the share that survives": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(y == 0), np.sum(back**2) / np.sum(x**2)
""",
        "that is a ratio of lengths": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(y == 0), np.linalg.norm(x - back) / np.linalg.norm(x)
""",
        "that depends on the scale of x": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(y == 0), np.mean((x - back) ** 2)
""",
        "that maps x to y": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    A = np.linalg.lstsq(x, y)[0]
    return np.mean(y == 0), np.sum((y - x @ A) ** 2) / np.sum(y**2)
""",
        "the share of zeros comes first": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.sum((x - back) ** 2) / np.sum(x**2), np.mean(y == 0)
""",
        "that is ReLU6": """
def relu_information_loss(x, T):
    y = np.clip(x @ T, 0, 6)
    back = y @ np.linalg.lstsq(y, x)[0]
    return np.mean(y == 0), np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "a share lies between": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return 100 * np.mean(y == 0), 100 * np.sum((x - back) ** 2) / np.sum(x**2)
""",
        "expected two numbers": """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    return np.mean(y == 0)
""",
    },
    right={
        "by the normal equations": """
def relu_information_loss(x, T):
    y = x.dot(T)
    negative = y < 0
    y[negative] = 0
    A = np.linalg.solve(y.T @ y, y.T @ x)
    rest = x - y @ A
    return [negative.mean(), (rest * rest).sum() / (x * x).sum()]
""",
        "by pinv, as an array": """
def relu_information_loss(x, T):
    y = np.where(x @ T > 0, x @ T, 0)
    back = y @ (np.linalg.pinv(y) @ x)
    lost = 1 - np.sum(back**2) / np.sum(x**2)
    return np.array([1 - np.count_nonzero(y) / y.size, lost])
""",
    },
    half={
        "zeros alone": (
            1.0,
            """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    return np.mean(y == 0), 0.5
""",
        ),
        "loss alone": (
            1.0,
            """
def relu_information_loss(x, T):
    y = np.maximum(x @ T, 0)
    back = y @ np.linalg.lstsq(y, x)[0]
    return 0.5, np.sum((x - back) ** 2) / np.sum(x**2)
""",
        ),
    },
)


def _divisible(nearest, least="0.9 * channels"):
    return f"""
def make_divisible(channels, divisor=8):
    n = max(divisor, {nearest})
    return n + divisor if n < {least} else n
"""


MAKE_DIVISIBLE = Answers(
    wrong={
        "take the next multiple": """
def make_divisible(channels, divisor=8):
    return max(divisor, int(channels + divisor / 2) // divisor * divisor)
""",
        "no layer has 0 channels": """
def make_divisible(channels, divisor=8):
    rounded = int(channels + divisor / 2) // divisor * divisor
    return rounded + divisor if 0 < rounded < 0.9 * channels else rounded
""",
        "you round down": """
def make_divisible(channels, divisor=8):
    rounded = max(divisor, int(channels // divisor) * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
""",
        "you round up": """
def make_divisible(channels, divisor=8):
    return -int(-channels // divisor) * divisor
""",
        "not of 8": """
def make_divisible(channels, divisor=8):
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
""",
        "ties go up": """
def make_divisible(channels, divisor=8):
    rounded = max(divisor, round(channels / divisor) * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
""",
        "that is the count itself": """
def make_divisible(channels, divisor=8):
    return channels
""",
        "TypeError": """
def make_divisible(channels):
    return max(8, int(channels + 4) // 8 * 8)
""",
        "return at least 16": """
def make_divisible(channels, divisor=8):
    if channels < divisor / 2:
        return 8
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
""",
    },
    right={
        "step by step": """
def make_divisible(channels, divisor=8):
    multiple = divisor
    while multiple + divisor / 2 <= channels:
        multiple += divisor
    if multiple < 0.9 * channels:
        multiple += divisor
    return multiple
""",
        "with floats": """
def make_divisible(channels, divisor=8):
    n = max(1, np.floor(channels / divisor + 0.5))
    if n * divisor / channels < 0.9:
        n = n + 1
    return n * divisor
""",
    },
    half={
        "the nearest multiple alone": (
            0.5,
            """
def make_divisible(channels, divisor=8):
    return max(divisor, int(channels + divisor / 2) // divisor * divisor)
""",
        ),
        "half of 8 for every divisor": (
            0.5,
            _divisible("int(channels + 4) // divisor * divisor"),
        ),
        "a little more than half": (
            0.5,
            _divisible("int(channels + divisor / 2 + 1) // divisor * divisor"),
        ),
        "of a whole number": (
            0.5,
            _divisible(
                "(int(channels) + divisor // 2) // divisor * divisor", "0.9 * int(channels)"
            ),
        ),
        "a tenth of the multiple": (
            0.5,
            _divisible("int(channels + divisor / 2) // divisor * divisor", "channels - 0.1 * n"),
        ),
        "up by 8 for every divisor": (
            0.5,
            _divisible("int(channels + divisor / 2) // divisor * divisor").replace(
                "n + divisor", "n + 8"
            ),
        ),
        "never down by more than a twentieth": (
            0.5,
            _divisible("int(channels + divisor / 2) // divisor * divisor", "0.95 * channels"),
        ),
        "no smallest width": (
            0.5,
            """
def make_divisible(channels, divisor=8):
    rounded = round(channels / divisor) * divisor
    return rounded + divisor if rounded and rounded < 0.9 * channels else rounded
""",
        ),
    },
)

# The block that most answers share; each answer says what differs.
_BLOCK = """
class InvertedResidual(keras.layers.Layer):
    def __init__(self, filters, strides=1, expansion=6):
        super().__init__()
        self.filters, self.strides, self.expansion = filters, strides, expansion

    def build(self, input_shape):
        channels = input_shape[-1]
        self.adds = self.strides == 1 and self.filters == channels
        self.expand = keras.layers.Conv2D(self.expansion * channels, 1)
        self.depthwise = keras.layers.DepthwiseConv2D(3, self.strides, padding="same")
        self.project = keras.layers.Conv2D(self.filters, 1)
        self.norm1 = keras.layers.BatchNormalization()
        self.norm2 = keras.layers.BatchNormalization()
        self.norm3 = keras.layers.BatchNormalization()

    def call(self, x):
        y = x
        if self.expansion != 1:
            y = ops.relu6(self.norm1(self.expand(y)))
        y = ops.relu6(self.norm2(self.depthwise(y)))
        y = self.norm3(self.project(y))
        return x + y if self.adds else y
"""


def _block(*changes):
    text = _BLOCK
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


_RETURN = "return x + y if self.adds else y"
_WIDE = "ops.relu6(self.norm1(self.expand(y)))"
_FILTERED = "ops.relu6(self.norm2(self.depthwise(y)))"
_NARROW = "self.norm3(self.project(y))"
_ADDS = "self.strides == 1 and self.filters == channels"
_WIDE_ONLY = f"""        if self.expansion != 1:
            y = {_WIDE}
"""
_NEW = "keras.layers.BatchNormalization()"

INVERTED_RESIDUAL = Answers(
    slow=True,
    wrong={
        "the bottleneck is linear": _block((_NARROW, "ops.relu6(self.norm3(self.project(y)))")),
        "an activation follows the addition": _block(
            (_RETURN, "return ops.relu6(x + y) if self.adds else y")
        ),
        "so the input is added": _block((_RETURN, "return y")),
        "ReLU6 is missing after the batch norm of the expansion": _block(
            (_WIDE, "self.norm1(self.expand(y))")
        ),
        "ReLU6 is missing after the batch norm of the depthwise": _block(
            (_FILTERED, "self.norm2(self.depthwise(y))")
        ),
        "that is ReLU after": _block(
            (_WIDE, "ops.relu(self.norm1(self.expand(y)))"),
            (_FILTERED, "ops.relu(self.norm2(self.depthwise(y)))"),
        ),
        "no batch norm follows the projection": _block((_NARROW, "self.project(y)")),
        "leave that convolution out": _block(("if self.expansion != 1:", "if True:")),
        "channels after the expansion": _block(
            ("Conv2D(self.expansion * channels, 1)", "Conv2D(self.expansion * self.filters, 1)")
        ),
        "not to the expansion": _block(
            ("(self.expansion * channels, 1)", "(self.expansion * channels, 1, self.strides)"),
            ("DepthwiseConv2D(3, self.strides, ", "DepthwiseConv2D(3, "),
        ),
        "positions after the depthwise convolution": _block((', padding="same"', "")),
        "found 0 DepthwiseConv2D": _block(
            (
                'DepthwiseConv2D(3, self.strides, padding="same")',
                'Conv2D(self.expansion * channels, 3, self.strides, padding="same")',
            )
        ),
        "there is no shortcut at strides=2": _block(
            (_ADDS, "self.filters == channels"),
        ),
        "no shortcut here": _block(
            (_ADDS, "self.strides == 1"),
        ),
        "leave batch norm's `training`": _block(
            (_NARROW, "self.norm3(self.project(y), training=True)")
        ),
        "returned no tensor": _block((_RETURN, "x + y if self.adds else y")),
        "`call` returned 2 tensors; return one": _block(
            (_RETURN, "return (x + y if self.adds else y), x")
        ),
        "reads the block's input as it is": _block(
            (
                _WIDE_ONLY,
                "        if self.expansion != 1:\n            y = self.expand(y)\n"
                "        y = ops.relu6(self.norm1(y))\n",
            )
        ),
        "not inside the convolution": _block(
            ("channels, 1)", 'channels, 1, activation="relu")'),
            ('padding="same")', 'padding="same", activation="relu6")'),
        ),
        "the projection is linear; yours has relu": _block(
            ("Conv2D(self.filters, 1)", 'Conv2D(self.filters, 1, activation="relu")')
        ),
        "the layers are made anew": _block(
            (_WIDE, f"ops.relu6({_NEW}(self.expand(y)))"),
            (_FILTERED, f"ops.relu6({_NEW}(self.depthwise(y)))"),
            (_NARROW, f"{_NEW}(self.project(y))"),
        ),
        "each convolution has a batch norm of its own": _block(
            ("self.norm2(self.depthwise(y))", "self.norm1(self.depthwise(y))")
        ),
        "the depthwise kernel is 3×3, got 3×1": _block(
            ("DepthwiseConv2D(3, ", "DepthwiseConv2D((3, 1), ")
        ),
        "no dilation": _block(
            (
                "        self.project =",
                "        if self.strides == 1:\n            self.depthwise = keras.layers."
                'DepthwiseConv2D(3, padding="same", dilation_rate=2)\n        self.project =',
            ),
        ),
        "depth_multiplier at 1": _block(('padding="same")', 'padding="same", depth_multiplier=2)')),
        "unexpected keyword argument": _block((", expansion=6)", ")"), (", expansion\n", ", 6\n")),
    },
    right={
        "sequential": """
class InvertedResidual(keras.Layer):
    def __init__(self, filters, strides=1, expansion=6, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides, self.expansion = filters, strides, expansion

    def build(self, input_shape):
        new, channels = keras.layers, input_shape[-1]
        steps = []
        if self.expansion > 1:
            steps += [
                new.Conv2D(self.expansion * channels, (1, 1), use_bias=False),
                new.BatchNormalization(momentum=0.9, epsilon=1e-5),
                new.ReLU(6.0),
            ]
        steps += [
            new.DepthwiseConv2D((3, 3), (self.strides, self.strides), "same", use_bias=False),
            new.BatchNormalization(momentum=0.9, epsilon=1e-5),
            new.ReLU(max_value=6),
            new.Conv2D(self.filters, 1, padding="same", use_bias=False),
            new.BatchNormalization(gamma_initializer="zeros"),
        ]
        self.main = keras.Sequential(steps)
        self.main.build(input_shape)
        self.add = new.Add()
        self.built = True

    def call(self, inputs, training=None):
        y = self.main(inputs, training=training)
        if self.strides == 1 and inputs.shape[-1] == self.filters:
            y = self.add([inputs, y])
        return y
""",
        "layers made before their sizes": """
class InvertedResidual(keras.layers.Layer):
    def __init__(self, filters, strides=1, expansion=6):
        super().__init__()
        self.depthwise = keras.layers.DepthwiseConv2D(3, strides=strides, padding="same")
        self.project = keras.layers.Conv2D(filters, 1)
        self.norms = [keras.layers.BatchNormalization() for _ in range(3)]
        self.relu6 = keras.layers.Activation("relu6")
        self.same, self.expansion = strides == 1, expansion

    def build(self, input_shape):
        self.widen = None
        if self.expansion != 1:
            self.widen = keras.layers.Conv2D(input_shape[-1] * self.expansion, 1)

    def call(self, x):
        y = x
        if self.widen:
            y = self.relu6(self.norms[0](self.widen(y)))
        y = self.relu6(self.norms[1](self.depthwise(y)))
        y = self.norms[2](self.project(y))
        return y + x if self.same and y.shape == x.shape else y
""",
        "with an unused layer": _BLOCK,
        "biases and clip": _block(
            (_WIDE, "ops.clip(self.norm1(self.expand(y)), 0, 6)"),
            (_FILTERED, "ops.minimum(ops.relu(self.norm2(self.depthwise(y))), 6)"),
        ),
    },
    half={
        "not linear": (2.25, _block((_NARROW, "ops.relu6(self.norm3(self.project(y)))"))),
        "no shortcut": (2.25, _block((_RETURN, "return y"))),
        "always expanded": (2.25, _block(("if self.expansion != 1:", "if True:"))),
        "a norm in place of the expansion": (
            2.25,
            _block(
                (
                    _WIDE_ONLY,
                    "        if self.expansion != 1:\n            y = self.expand(y)\n"
                    "        y = self.norm1(y)\n"
                    "        if self.expansion != 1:\n            y = ops.relu6(y)\n",
                )
            ),
        ),
        "a shortcut between unlike channels": (
            2.25,
            _block((_ADDS, "self.strides != 2 or self.filters == channels")),
        ),
        "a shortcut at a stride": (2.25, _block((_ADDS, "self.filters == channels"))),
        "an activation inside the expansion": (
            2.25,
            _block(("channels, 1)", 'channels, 1, activation="relu6")')),
        ),
        "no ReLU6 in the middle": (
            1.5,
            _block(
                (_WIDE, "self.norm1(self.expand(y))"),
                (_FILTERED, "self.norm2(self.depthwise(y))"),
            ),
        ),
    },
)

BLOCK_PEAK_MEMORY = Answers(
    wrong={
        "a float32 has 4 bytes": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, -(-height // strides) * -(-width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and filters == channels else 0
    return max(
        before * (channels + wide), (before + after) * wide + kept, after * (wide + filters) + kept
    )
""",
        "that is the sum over the steps": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, -(-height // strides) * -(-width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and filters == channels else 0
    steps = before * (channels + wide), (before + after) * wide + kept
    return 4 * (sum(steps) + after * (wide + filters) + kept)
""",
        "that is the wide tensor alone": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    return 4 * height * width * channels * expansion
""",
        "that is the expansion": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    return 4 * height * width * channels * (1 + expansion)
""",
        "lives until it is added": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, -(-height // strides) * -(-width // strides)
    wide = expansion * channels
    return 4 * max(before * (channels + wide), (before + after) * wide, after * (wide + filters))
""",
        "the wide tensor has fewer positions": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    wide = height * width * channels * expansion
    kept = height * width * channels if strides == 1 and filters == channels else 0
    return 4 * (2 * wide + kept)
""",
        "the input is free after the expansion": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, -(-height // strides) * -(-width // strides)
    return 4 * ((before + after) * expansion * channels + before * channels)
""",
        "rounds up": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, (height // strides) * (width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and filters == channels else 0
    return 4 * max(before * (channels + wide), (before + after) * wide + kept)
""",
        "the expansion needs more": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, -(-height // strides) * -(-width // strides)
    kept = before * channels if strides == 1 and filters == channels else 0
    return 4 * ((before + after) * expansion * channels + kept)
""",
        "returned nothing": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    print(4 * height * width * channels * expansion)
""",
    },
    right={
        "through the counter's rules": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    def size(rows, columns, depth):
        return rows * columns * depth * 4

    small = (int(np.ceil(height / strides)), int(np.ceil(width / strides)))
    tensors = [
        size(height, width, channels),
        size(height, width, channels * expansion),
        size(*small, channels * expansion),
        size(*small, filters),
    ]
    shortcut = strides == 1 and channels == filters
    live = []
    for step in range(3):
        alive = set((step, step + 1)) | ({0} if shortcut else set())
        live.append(sum(tensors[index] for index in alive))
    return max(live)
""",
        "as a float": """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    rows, columns = (height + strides - 1) // strides, (width + strides - 1) // strides
    peak = (height * width + rows * columns) * channels * expansion
    if strides == 1 and channels == filters:
        peak += height * width * channels
    return max(peak, height * width * channels * (1 + expansion)) * 32 / 8
""",
    },
    half={
        "rounded down": (
            1.0,
            """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, (height // strides) * (width // strides)
    wide = expansion * channels
    kept = before * channels if strides == 1 and filters == channels else 0
    return 4 * max(before * (channels + wide), (before + after) * wide + kept)
""",
        ),
        "shortcut forgotten": (
            1.0,
            """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    before, after = height * width, -(-height // strides) * -(-width // strides)
    return 4 * max((before + after) * expansion * channels, before * channels * (1 + expansion))
""",
        ),
        "stride forgotten": (
            1.0,
            """
def block_peak_memory(height, width, channels, filters, strides, expansion):
    kept = channels if filters == channels and strides == 1 else 0
    return 4 * height * width * (2 * expansion * channels + kept)
""",
        ),
    },
)

_MODEL = """
def peak(input_shape, alpha):
    height, width, channels = input_shape
    first, *narrow = mobilenet_v2.widths(alpha)
    rows, columns = -(-height // 2), -(-width // 2)
    most = 4 * (height * width * channels + rows * columns * first)
    channels, blocks = first, iter(narrow)
    for t, c, n, s in mobilenet_v2.MOBILENET_V2:
        for position in range(n):
            filters, strides = next(blocks), s if position == 0 else 1
            most = max(
                most, mobilenet_v2.peak_bytes(rows, columns, channels, filters, strides, t)
            )
            rows, columns, channels = -(-rows // strides), -(-columns // strides), filters
    return most

def drone_mobilenet(input_shape, classes, max_bytes):
    alphas = [step / 20 for step in range(1, 41)]
    alpha = max(alpha for alpha in alphas if peak(input_shape, alpha) <= max_bytes)
    first, *narrow, last = mobilenet_v2.widths(alpha)
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(first, 3, 2, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU(6)(keras.layers.BatchNormalization()(x))
    for t, c, n, s in mobilenet_v2.MOBILENET_V2:
        for position in range(n):
            strides = s if position == 0 else 1
            x = mobilenet_v2.InvertedResidual(narrow.pop(0), strides, t)(x)
    x = keras.layers.Conv2D(last, 1, use_bias=False)(x)
    x = keras.layers.ReLU(6)(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))
"""


def _model(*changes):
    text = _MODEL
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


_CHOICE = "max(alpha for alpha in alphas if peak(input_shape, alpha) <= max_bytes)"

DRONE_MOBILENET = Answers(
    slow=True,
    wrong={
        "fits, and so would": _model((_CHOICE, "0.35")),
        "bytes alive at once, more than": _model((_CHOICE, "1.4")),
        "expected 17 depthwise": _model(
            (
                "in mobilenet_v2.MOBILENET_V2:\n        for position in range(n):\n            strides",
                "in mobilenet_v2.MOBILENET_V2:\n        for position in range(1):\n            strides",
            ),
        ),
        "one of these blocks has no shortcut": _model(
            (
                "InvertedResidual(narrow.pop(0), strides, t)",
                "InvertedResidual(narrow.pop(0), strides, t, shortcut=False)",
            )
        ),
        "of 52 writes": _model(
            (
                "strides = s if position == 0 else 1\n            x",
                "strides = s if position == n - 1 else 1\n            x",
            )
        ),
        "the first has no expansion": _model(
            (
                "InvertedResidual(narrow.pop(0), strides, t)",
                "InvertedResidual(narrow.pop(0), strides, {16: 6, 320: 1}.get(c, t))",
            )
        ),
        "beside them": _model(
            (
                "InvertedResidual(narrow.pop(0), strides, t)",
                "InvertedResidual(narrow.pop(0), strides, 6)",
            )
        ),
        "something follows the dense layer": _model(
            (
                "keras.layers.Dense(classes)(x))",
                "keras.layers.Softmax()(keras.layers.Dense(classes)(x)))",
            )
        ),
        "numbers; global average pooling leaves": _model(("GlobalAveragePooling2D()", "Flatten()")),
        "has the activation 'softmax'": _model(("Dense(classes)", 'Dense(classes, "softmax")')),
        "returned an object of type KerasTensor": _model(
            ("return keras.Model(image, keras.layers.Dense(classes)(x))", "return x")
        ),
        "without MobileNetV2": """
def drone_mobilenet(input_shape, classes, max_bytes):
    return mobilenet_v2.MobileNetV2(input_shape, classes, 0.5, classifier_activation=None)
""",
    },
    right={
        "by hand, sequential": """
def drone_mobilenet(input_shape, classes, max_bytes):
    def width(channels):
        rounded = max(8, int(channels + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * channels else rounded + 8

    side = -(-input_shape[0] // 2)
    alpha = 0.2
    # The second block has the largest peak: 16 channels become 96 at half the input's side.
    while True:
        wide = 6 * width(16 * (alpha + 0.05))
        if 4 * wide * (side**2 + (-(-side // 2)) ** 2) > max_bytes:
            break
        alpha = round(alpha + 0.05, 2)
    new = keras.layers
    model = keras.Sequential([keras.Input(input_shape)])

    def conv(filters, kernel, strides=1):
        model.add(new.Conv2D(filters, kernel, strides, "same", use_bias=False))
        model.add(new.BatchNormalization())
        model.add(new.Activation("relu6"))

    conv(width(32 * alpha), 3, 2)
    table = "1 16 1 1, 6 24 2 2, 6 32 3 2, 6 64 4 2, 6 96 3 1, 6 160 3 2, 6 320 1 1"
    for row in table.split(", "):
        t, c, n, s = map(int, row.split())
        for strides in [s] + [1] * (n - 1):
            model.add(mobilenet_v2.InvertedResidual(width(c * alpha), strides, t))
    conv(width(1280 * max(1, alpha)), 1)
    model.add(new.GlobalAveragePooling2D())
    model.add(new.Dense(classes, name="logits"))
    return model
""",
        "a block of its own": _BLOCK
        + _MODEL.replace("mobilenet_v2.InvertedResidual", "InvertedResidual"),
    },
    half={
        "a budget never used up": (1.5, _model((_CHOICE, _CHOICE.replace("<=", "<")))),
        "the memory of one size": (
            1.0,
            _model(
                ("height, width, channels = input_shape", "height, width, channels = 80, 80, 3"),
                ("range(1, 41)", "range(4, 29)"),
            ),
        ),
        "a softmax at the end": (
            1.5,
            _model(
                (
                    "keras.layers.Dense(classes)(x))",
                    "keras.layers.Softmax()(keras.layers.Dense(classes)(x)))",
                )
            ),
        ),
        "a shortcut missing in blocks of its own": (
            1.5,
            _block((_ADDS, _ADDS + " and channels != self.filters"))
            + _MODEL.replace("mobilenet_v2.InvertedResidual", "InvertedResidual"),
        ),
        "narrow": (1.5, _model((_CHOICE, "0.35"))),
        "too wide": (1.0, _model((_CHOICE, "1.4"))),
        "no shortcuts": (
            1.5,
            _model(
                (
                    "InvertedResidual(narrow.pop(0), strides, t)",
                    "InvertedResidual(narrow.pop(0), strides, t, shortcut=False)",
                )
            ),
        ),
    },
)

ANSWERS = {
    "relu_information_loss": RELU_INFORMATION_LOSS,
    "make_divisible": MAKE_DIVISIBLE,
    "inverted_residual": INVERTED_RESIDUAL,
    "block_peak_memory": BLOCK_PEAK_MEMORY,
    "drone_mobilenet": DRONE_MOBILENET,
}
