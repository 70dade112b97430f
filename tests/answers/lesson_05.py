"""Answers to the exercises of lesson 05."""

from tests.answers import Answers, changed

# The parts of a layer that most answers share; each answer says what differs.
_FIRE = """
class FireModule(keras.layers.Layer):
    def __init__(self, squeeze, expand_1x1, expand_3x3):
        super().__init__()
        self.squeeze = keras.layers.Conv2D(squeeze, 1, activation="relu")
        self.one = keras.layers.Conv2D(expand_1x1, 1, activation="relu")
        self.three = keras.layers.Conv2D(expand_3x3, 3, padding="same", activation="relu")
        # more layers

    def call(self, x):
        squeezed = self.squeeze(x)
        return ops.concatenate([self.one(squeezed), self.three(squeezed)], axis=-1)
"""
_CAT = "ops.concatenate([self.one(squeezed), self.three(squeezed)], axis=-1)"
_NO_RELU_SQUEEZE = ('Conv2D(squeeze, 1, activation="relu")', "Conv2D(squeeze, 1)")
_NO_RELU_ONE = ('Conv2D(expand_1x1, 1, activation="relu")', "Conv2D(expand_1x1, 1)")
_NO_RELU_THREE = ('padding="same", activation="relu"', 'padding="same"')

FIRE_MODULE = Answers(
    slow=True,
    wrong={
        "the ReLU after the squeeze is missing": changed(_FIRE, _NO_RELU_SQUEEZE),
        "no ReLU follows the 1×1 expansion": changed(_FIRE, _NO_RELU_ONE),
        "no ReLU follows the 3×3 expansion": changed(_FIRE, _NO_RELU_THREE),
        "no ReLU follows the two expansions": changed(_FIRE, _NO_RELU_ONE, _NO_RELU_THREE),
        "there is no ReLU at all": changed(_FIRE, _NO_RELU_SQUEEZE, _NO_RELU_ONE, _NO_RELU_THREE),
        "the 3×3 filters come first": changed(
            _FIRE,
            (
                "[self.one(squeezed), self.three(squeezed)]",
                "[self.three(squeezed), self.one(squeezed)]",
            ),
        ),
        "not the module's input": changed(_FIRE, ("self.three(squeezed)", "self.three(x)")),
        "side by side with the 1×1 filters": changed(
            _FIRE, ("self.three(squeezed)", "self.three(self.one(squeezed))")
        ),
        "you have them the other way": changed(
            _FIRE,
            ("Conv2D(expand_1x1, 1", "Conv2D(expand_3x3, 1"),
            ("Conv2D(expand_3x3, 3", "Conv2D(expand_1x1, 3"),
        ),
        "concatenated, not added": changed(
            _FIRE,
            (
                "ops.concatenate([self.one(squeezed), self.three(squeezed)], axis=-1)",
                "self.one(squeezed) + self.three(squeezed)",
            ),
        ),
        "must keep the picture's size": changed(_FIRE, ('padding="same", ', "")),
        "each of the three convolutions has a bias": changed(
            _FIRE, ("Conv2D(squeeze, 1,", "Conv2D(squeeze, 1, use_bias=False,")
        ),
        "expected three kernels, found 4": changed(
            _FIRE,
            ("# more layers", "self.more = keras.layers.Conv2D(squeeze, 1)"),
            ("self.squeeze(x)", "self.squeeze(x) + 0 * self.more(x)"),
        ),
        "no kernel of shape (3, 3, ": changed(
            _FIRE, ("Conv2D(expand_3x3, 3", "Conv2D(expand_3x3, 5")
        ),
        "join along the channels": changed(
            _FIRE,
            (
                "ops.concatenate([self.one(squeezed), self.three(squeezed)], axis=-1)",
                "(self.one(squeezed), self.three(squeezed))[0]",
            ),
            ("squeezed = self.squeeze(x)", "squeezed = self.squeeze(x); self.three(squeezed)"),
        ),
        "the layer returned no tensor": changed(_FIRE, ("return ops", "ops")),
        "`call` returned 2 tensors; return one": changed(
            _FIRE, (_CAT, "self.one(squeezed), self.three(squeezed)")
        ),
        "that is ReLU6, which also cuts at 6": _FIRE.replace('"relu"', '"relu6"'),
        "expected axis -1 of input shape": changed(
            _FIRE, ("self.squeeze(x)", "self.squeeze(self.squeeze(x))")
        ),
        "of 3×3, side by side": changed(
            _FIRE, ("[self.one(squeezed), ", "[squeezed, self.one(squeezed), ")
        ),
        "the layers are made anew": changed(
            _FIRE,
            (
                "self.one(squeezed),",
                'keras.layers.Conv2D(self.one.filters, 1, activation="relu")(squeezed),',
            ),
        ),
        "no Keras layer but": """
def FireModule(squeeze, expand_1x1, expand_3x3):
    return lambda x: x
""",
    },
    right={
        "layers of activation, and a functional join": """
class FireModule(keras.Layer):
    def __init__(self, s1x1, e1x1, e3x3, **kwargs):
        super().__init__(**kwargs)
        new = keras.layers
        self.squeeze = keras.Sequential([new.Conv2D(s1x1, (1, 1)), new.ReLU()])
        self.left = new.Conv2D(e1x1, (1, 1), kernel_initializer="he_normal")
        self.right = keras.Sequential([new.ZeroPadding2D(1), new.Conv2D(e3x3, 3)])
        self.join = new.Concatenate()

    def call(self, inputs):
        squeezed = self.squeeze(inputs)
        return keras.activations.relu(self.join([self.left(squeezed), self.right(squeezed)]))
""",
        "dense layers are 1×1 convolutions": """
class FireModule(keras.layers.Layer):
    def __init__(self, squeeze, expand_1x1, expand_3x3):
        super().__init__()
        self.three = keras.layers.Conv2D(expand_3x3, 3, 1, "same")
        self.one = keras.layers.Dense(expand_1x1)
        self.squeeze = keras.layers.Dense(squeeze, "relu")

    def call(self, x):
        x = self.squeeze(x)
        return ops.maximum(ops.concatenate((self.one(x), self.three(x)), 3), 0)
""",
        "made in build": """
class FireModule(keras.layers.Layer):
    def __init__(self, *filters):
        super().__init__()
        self.filters = filters

    def build(self, input_shape):
        self.convs = [
            keras.layers.Conv2D(f, k, padding="same", activation="relu")
            for f, k in zip(self.filters, (1, 1, 3))
        ]

    def call(self, x):
        x = self.convs[0](x)
        return ops.concatenate([conv(x) for conv in self.convs[1:]], axis=-1)
""",
    },
    half={
        "no ReLU after the squeeze": (1.0, changed(_FIRE, _NO_RELU_SQUEEZE)),
        "no biases": (
            0.5,
            _FIRE.replace("activation=", "use_bias=False, activation="),
        ),
        "3×3 first": (
            1.0,
            changed(
                _FIRE,
                (
                    "[self.one(squeezed), self.three(squeezed)]",
                    "[self.three(squeezed), self.one(squeezed)]",
                ),
            ),
        ),
    },
)


def _macs(expression):
    return f"""
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    return {expression}
"""


GROUP_CONV_MACS = Answers(
    wrong={
        "the cost without groups": _macs("height * width * kernel_size**2 * channels * filters"),
        "you divide by the groups twice": _macs(
            "height * width * kernel_size**2 * (channels // groups) * (filters // groups)"
        ),
        "the kernel has kernel_size² positions": _macs(
            "height * width * kernel_size * channels * filters // groups"
        ),
        "those are the weights": _macs("kernel_size**2 * channels * filters // groups"),
        "a multiply-add is one": _macs(
            "2 * height * width * kernel_size**2 * channels * filters // groups"
        ),
        "biases cost no": _macs(
            "height * width * (kernel_size**2 * channels // groups + 1) * filters"
        ),
        "returned nothing": """
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    macs = height * width * kernel_size**2 * channels * filters // groups
""",
        "that is without padding": _macs(
            "(height - kernel_size + 1) * (width - kernel_size + 1)"
            " * kernel_size**2 * channels * filters // groups"
        ),
        "NameError": _macs("height * width * k**2 * channels * filters // groups"),
        "course's own `count`": """
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    conv = keras.layers.Conv2D(filters, kernel_size, padding="same", groups=groups)
    return count(conv, (height, width, channels)).macs
""",
    },
    right={
        "a group at a time": """
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    total = 0
    for group in range(groups):
        for filter in range(filters // groups):
            total += (channels // groups) * kernel_size * kernel_size
    return total * height * width
""",
        "a float": _macs(
            "np.prod([height, width, kernel_size, kernel_size, channels, filters]) / groups"
        ),
        "counted up": """
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    import itertools

    for macs in itertools.count(0, channels // groups):
        if macs == channels // groups * filters:
            return macs * kernel_size**2 * height * width
""",
        "the dense cost divided": """
def group_conv_macs(height, width, channels, filters, kernel_size, groups):
    def dense(c, f):
        return c * f * kernel_size**2 * height * width

    return groups * dense(channels // groups, filters // groups)
""",
    },
    half={
        "k in place of k²": (
            0.5,
            _macs("height * width * kernel_size * channels * filters // groups"),
        ),
    },
)


def _shuffle(body):
    return f"""
def channel_shuffle(x, groups):
    size = x.shape[-1] // groups
    {body}
"""


CHANNEL_SHUFFLE = Answers(
    wrong={
        "all channels are where they were": _shuffle(
            "return x.reshape(*x.shape[:-1], groups, size).reshape(x.shape)"
        ),
        " rows; each of the ": _shuffle(
            "return np.swapaxes(x.reshape(*x.shape[:-1], size, groups), -1, -2).reshape(x.shape)"
        ),
        "that reverses the channels": _shuffle("return x[..., ::-1]"),
        "you mix pixels": _shuffle("return x.reshape(groups, -1).T.reshape(x.shape)"),
        "`.T` turns all axes": _shuffle(
            "return x.reshape(*x.shape[:-1], groups, size).T.reshape(x.shape)"
        ),
        "expected shape": _shuffle(
            "return np.swapaxes(x.reshape(*x.shape[:-1], groups, size), -1, -2)"
        ),
        "returned nothing": _shuffle("np.swapaxes(x.reshape(*x.shape[:-1], groups, size), -1, -2)"),
        "the values are off": _shuffle("return np.roll(x, size, axis=-1)"),
        "without keras": _shuffle(
            "return keras.ops.reshape(keras.ops.swapaxes(keras.ops.reshape(x, (*x.shape[:-1], groups, size)), -1, -2), x.shape)"
        ),
        "NameError": _shuffle("return np.swapaxes(y, -1, -2)"),
    },
    right={
        "by index": """
def channel_shuffle(x, groups):
    channels = x.shape[-1]
    order = np.arange(channels).reshape(groups, channels // groups).T.ravel()
    return x[..., order]
""",
        "one channel at a time": """
def channel_shuffle(x, groups):
    y, n = np.empty_like(x), x.shape[-1] // groups
    for group in range(groups):
        for place in range(n):
            y[..., place * groups + group] = x[..., group * n + place]
    return y
""",
        "split and stack": """
def channel_shuffle(x, groups):
    return np.stack(np.split(x, groups, axis=-1), axis=-1).reshape(x.shape)
""",
        "einsum and floats": """
def channel_shuffle(x, groups):
    *lead, channels = x.shape
    flat = np.asarray(x, dtype=float).reshape(-1, groups, channels // groups)
    return np.einsum("pgn->png", flat).reshape(*lead, channels)
""",
    },
    half={
        "a row only": (1.0, _shuffle("return x.reshape(groups, -1).T.reshape(x.shape)")),
        "a list of a row": (
            1.0,
            _shuffle("return [x[g * size + p] for p in range(size) for g in range(groups)]"),
        ),
    },
)

_UNIT = """
class ShuffleUnit(keras.layers.Layer):
    def __init__(self, filters, strides=1, groups=3):
        super().__init__()
        self.filters, self.strides, self.groups = filters, strides, groups

    def build(self, input_shape):
        added = self.filters - (input_shape[-1] if self.strides == 2 else 0)
        middle = self.filters // 4
        self.reduce = keras.layers.Conv2D(middle, 1, groups=self.groups)
        self.depthwise = keras.layers.DepthwiseConv2D(3, self.strides, padding="same")
        self.restore = keras.layers.Conv2D(added, 1, groups=self.groups)
        self.norms = [keras.layers.BatchNormalization() for _ in range(3)]
        self.pool = keras.layers.AveragePooling2D(3, 2, padding="same")

    def call(self, x):
        y = ops.relu(self.norms[0](self.reduce(x)))
        y = self.shuffled(y)
        y = self.norms[1](self.depthwise(y))
        y = self.norms[2](self.restore(y))
        if self.strides == 1:
            return ops.relu(x + y)
        return ops.relu(ops.concatenate([self.pool(x), y], axis=-1))

    def shuffled(self, y):
        return shufflenet.channel_shuffle(y, self.groups)
"""
_SHUFFLE = "return shufflenet.channel_shuffle(y, self.groups)"
_ADD = "return ops.relu(x + y)"
_JOIN = "return ops.relu(ops.concatenate([self.pool(x), y], axis=-1))"
_FIRST = "ops.relu(self.norms[0](self.reduce(x)))"
_SECOND = "self.norms[1](self.depthwise(y))"
_NEW = "keras.layers.BatchNormalization()("

SHUFFLE_UNIT = Answers(
    slow=True,
    wrong={
        "reach the depthwise convolution unshuffled": changed(_UNIT, (_SHUFFLE, "return y")),
        "the shuffle cuts the channels into 4 groups": changed(
            _UNIT,
            (_SHUFFLE, "return shufflenet.channel_shuffle(y, y.shape[-1] // self.groups)"),
        ),
        "does not read the shuffled output": changed(_UNIT, (_SHUFFLE, "return y[..., ::-1]")),
        "the ReLU after the first batch norm is missing": changed(
            _UNIT, ("ops.relu(self.norms[0](self.reduce(x)))", "self.norms[0](self.reduce(x))")
        ),
        "a ReLU follows the depthwise convolution": changed(
            _UNIT,
            ("self.norms[1](self.depthwise(y))", "ops.relu(self.norms[1](self.depthwise(y)))"),
        ),
        "no batch norm follows the last 1×1": changed(
            _UNIT, ("self.norms[2](self.restore(y))", "self.restore(y)")
        ),
        "the first 1×1 convolution has 1 groups": changed(
            _UNIT, ("Conv2D(middle, 1, groups=self.groups)", "Conv2D(middle, 1)")
        ),
        "the last 1×1 convolution has 1 groups": changed(
            _UNIT, ("Conv2D(added, 1, groups=self.groups)", "Conv2D(added, 1)")
        ),
        "the 3×3 convolution has 1 groups": changed(
            _UNIT,
            (
                'DepthwiseConv2D(3, self.strides, padding="same")',
                'Conv2D(middle, 3, self.strides, padding="same")',
            ),
        ),
        "the first 1×1 convolution has stride 2": changed(
            _UNIT,
            ("Conv2D(middle, 1, groups", "Conv2D(middle, 1, self.strides, groups"),
            ("DepthwiseConv2D(3, self.strides, ", "DepthwiseConv2D(3, "),
        ),
        "filters; expected": changed(
            _UNIT, ("middle = self.filters // 4", "middle = self.filters // 2")
        ),
        "no ReLU follows the addition": changed(_UNIT, (_ADD, "return x + y")),
        "you add after the ReLU": changed(_UNIT, (_ADD, "return x + ops.relu(y)")),
        "the input is not added": changed(_UNIT, (_ADD, "return ops.relu(y)")),
        "no ReLU follows the concatenation": changed(
            _UNIT, (_JOIN, "return ops.concatenate([self.pool(x), y], axis=-1)")
        ),
        "the pooled input comes first": changed(_UNIT, ("[self.pool(x), y]", "[y, self.pool(x)]")),
        "you take the maximum": changed(_UNIT, ("AveragePooling2D", "MaxPooling2D")),
        "you take every second pixel": changed(_UNIT, ("self.pool(x), y]", "x[:, ::2, ::2], y]")),
        "the ReLU covers both parts": changed(
            _UNIT, (_JOIN, "return ops.concatenate([self.pool(x), ops.relu(y)], axis=-1)")
        ),
        "the end is not ReLU(input and branch)": changed(
            _UNIT, ("AveragePooling2D(3, 2", "AveragePooling2D(2, 2")
        ),
        "expected convolutions of 1×1, 3×3 and 1×1": changed(
            _UNIT,
            (
                "y = self.norms[1](self.depthwise(y))",
                'y = self.norms[1](ops.average_pool(y, 3, self.strides, padding="same"))',
            ),
        ),
        "uses the course's own `ShuffleUnit`": """
class ShuffleUnit(keras.layers.Layer):
    def __init__(self, filters, strides=1, groups=3):
        super().__init__()
        self.unit = shufflenet.ShuffleUnit(filters, strides, groups)

    def call(self, x):
        return self.unit(x)
""",
        "must arrive with the same sides": changed(
            _UNIT,
            (
                'DepthwiseConv2D(3, self.strides, padding="same")',
                "DepthwiseConv2D(3, self.strides)",
            ),
        ),
        "not inside the convolution": changed(
            _UNIT,
            ("Conv2D(middle, 1, ", 'Conv2D(middle, 1, activation="relu", '),
            ('self.strides, padding="same")', 'self.strides, padding="same", activation="relu")'),
            ("Conv2D(added, 1, ", 'Conv2D(added, 1, activation="relu", '),
        ),
        "the layers are made anew": changed(
            _UNIT, *((f"self.norms[{n}](", _NEW) for n in range(3))
        ),
        "each convolution has a batch norm of its own": changed(
            _UNIT, (_SECOND, _SECOND.replace("1", "0"))
        ),
        "leave batch norm's `training` to Keras": changed(
            _UNIT, (_SECOND, "self.norms[1](self.depthwise(y), training=True)")
        ),
        "that is ReLU6 after the first batch norm": changed(
            _UNIT, (_FIRST, _FIRST.replace("relu", "relu6"))
        ),
        "that is ReLU6 at the end": changed(
            _UNIT, (_ADD, _ADD.replace("relu", "relu6")), (_JOIN, _JOIN.replace("relu", "relu6"))
        ),
        "has a kernel of 3×1": changed(_UNIT, ("DepthwiseConv2D(3, ", "DepthwiseConv2D((3, 1), ")),
        "no dilation": changed(
            _UNIT,
            (
                'DepthwiseConv2D(3, self.strides, padding="same")',
                'DepthwiseConv2D(3, self.strides, "same", dilation_rate=3 - self.strides)',
            ),
        ),
        "`call` returned 2 tensors; return one": changed(
            _UNIT, (_ADD, "return ops.relu(x + y), y")
        ),
        "expected axis -1 of input shape": changed(
            _UNIT, ("self.norms[1](", "self.norms[0]("), ("self.norms[2](", "self.norms[0](")
        ),
        "Unrecognized keyword": changed(
            _UNIT, ("Conv2D(added, 1, groups=", "Conv2D(added, 1, group=")
        ),
        "the unit returned no tensor": changed(
            _UNIT, (_ADD, "ops.relu(x + y); return"), (_JOIN, "return")
        ),
    },
    right={
        "a shuffle of its own, depthwise by groups": """
class ShuffleUnit(keras.layers.Layer):
    def __init__(self, filters, strides=1, groups=3, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides, self.groups = filters, strides, groups
        m = filters // 4
        self.conv1 = keras.layers.Conv2D(m, 1, groups=groups, use_bias=False)
        self.norm1 = keras.layers.BatchNormalization(momentum=0.9)
        self.conv2 = keras.layers.Conv2D(m, 3, strides, "same", groups=m, use_bias=False)
        self.norm2 = keras.layers.BatchNormalization(momentum=0.9)
        self.norm3 = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)

    def build(self, input_shape):
        added = self.filters
        if self.strides == 2:
            added -= input_shape[-1]
        self.conv3 = keras.layers.Conv2D(added, (1, 1), groups=self.groups, use_bias=False)

    def call(self, inputs):
        x = self.norm1(self.conv1(inputs))
        order = np.arange(x.shape[-1]).reshape(self.groups, -1).T.ravel()
        x = keras.activations.relu(ops.take(x, order, axis=-1))
        x = self.norm3(self.conv3(self.norm2(self.conv2(x))))
        if self.strides == 1:
            return keras.layers.ReLU()(keras.layers.Add()([x, inputs]))
        pooled = ops.average_pool(inputs, 3, 2, padding="same")
        return ops.concatenate([ops.relu(pooled), ops.relu(x)], axis=-1)
""",
        "sequential": """
class ShuffleUnit(keras.Layer):
    def __init__(self, filters, strides=1, groups=3):
        super().__init__()
        self.filters, self.strides, self.groups = filters, strides, groups

    def build(self, shape):
        new, g = keras.layers, self.groups
        outputs = self.filters if self.strides == 1 else self.filters - shape[-1]
        self.one = keras.Sequential(
            [new.Conv2D(self.filters // 4, 1, groups=g), new.BatchNormalization(), new.ReLU()]
        )
        self.two = keras.Sequential(
            [
                new.DepthwiseConv2D(3, strides=self.strides, padding="same"),
                new.BatchNormalization(),
                new.Conv2D(outputs, 1, groups=g),
                new.BatchNormalization(),
            ]
        )
        self.shortcut = new.Identity() if self.strides == 1 else new.AveragePooling2D(3, 2, "same")
        self.merge = new.Add() if self.strides == 1 else new.Concatenate()
        self.relu = new.ReLU()

    def call(self, x, training=None):
        y = self.one(x, training=training)
        _, h, w, c = y.shape
        y = ops.reshape(y, (-1, h, w, self.groups, c // self.groups))
        y = ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, h, w, c))
        return self.relu(self.merge([self.shortcut(x), self.two(y, training=training)]))
""",
    },
    half={
        "no shuffle": (2.5, changed(_UNIT, (_SHUFFLE, "return y"))),
        "a pool without padding": (
            2.25,
            changed(_UNIT, ('AveragePooling2D(3, 2, padding="same")', "AveragePooling2D(3, 2)")),
        ),
        "added at a stride": (2.25, changed(_UNIT, (_JOIN, "return ops.relu(self.pool(x) + y)"))),
        "joined at stride 1": (
            2.25,
            changed(_UNIT, (_ADD, "return ops.relu(ops.concatenate([x, y], axis=-1))")),
        ),
        "three groups always": (
            0.75,
            _UNIT.replace("groups=self.groups", "groups=3").replace("y, self.groups", "y, 3"),
        ),
        "stride 1 alone": (
            2.25,
            changed(_UNIT, (_JOIN, "return ops.concatenate([self.pool(x), y], axis=-1)")),
        ),
        "a ReLU too many": (
            2.0,
            changed(
                _UNIT,
                ("self.norms[1](self.depthwise(y))", "ops.relu(self.norms[1](self.depthwise(y)))"),
            ),
        ),
        "a dense last convolution": (
            2.0,
            changed(_UNIT, ("Conv2D(added, 1, groups=self.groups)", "Conv2D(added, 1)")),
        ),
    },
)


def _towers(macs, candidates="range(1, filters + 1)", test="filters % n == 0 and "):
    return f"""
def fewest_towers(height, width, channels, filters, max_macs):
    for n in {candidates}:
        if {test}{macs} <= max_macs:
            return n
"""


_COST = "height * width * (channels * filters + 9 * filters**2 // n)"

FEWEST_TOWERS = Answers(
    wrong={
        "the 1×1 convolution before the towers": _towers("height * width * 9 * filters**2 // n"),
        "that counts one tower": _towers(
            "height * width * (channels * filters + 9 * filters**2 // n**2)"
        ),
        "do not cut": _towers(_COST, test=""),
        "towers fit, but so do": _towers(_COST, "range(filters, 0, -1)"),
        "returned nothing": _towers(_COST, "range(2, filters)"),
        "which is the budget": _towers(_COST).replace("<=", "<"),
        "that is over the budget": _towers(
            "height * width * (channels * filters + 3 * filters**2 // n)"
        ),
        "return the number itself": """
def fewest_towers(height, width, channels, filters, max_macs):
    return "one for each channel"
""",
        "TypeError": _towers(_COST, "filters"),
    },
    right={
        "from the most": """
def fewest_towers(height, width, channels, filters, max_macs):
    best = filters
    for towers in range(filters, 0, -1):
        if filters % towers:
            continue
        segment = filters // towers
        macs = height * width * (channels * filters + towers * segment * segment * 9)
        if macs <= max_macs:
            best = towers
    return best
""",
        "solved for the number": """
def fewest_towers(height, width, channels, filters, max_macs):
    room = max_macs - height * width * channels * filters
    least = int(np.ceil(height * width * 9 * filters**2 / room))
    return next(n for n in range(max(least, 1), filters + 1) if filters % n == 0)
""",
        "numpy": """
def fewest_towers(height, width, channels, filters, max_macs):
    n = np.arange(1, filters + 1)
    n = n[filters % n == 0]
    macs = height * width * (channels * filters + 9 * filters * (filters // n))
    return n[np.argmax(macs <= max_macs)]
""",
    },
    half={
        "powers of two, one, and all": (
            1.0,
            """
def fewest_towers(height, width, channels, filters, max_macs):
    for n in (1, 2, filters):
        macs = height * width * (channels * filters + 9 * filters**2 // n)
        if macs <= max_macs:
            return n
""",
        ),
    },
)

ANSWERS = {
    "fire_module": FIRE_MODULE,
    "group_conv_macs": GROUP_CONV_MACS,
    "channel_shuffle": CHANNEL_SHUFFLE,
    "shuffle_unit": SHUFFLE_UNIT,
    "fewest_towers": FEWEST_TOWERS,
}
