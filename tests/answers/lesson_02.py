"""Answers to the exercises of lesson 02."""

from tests.answers import Answers

RESIDUAL_FORWARD = Answers(
    wrong={
        "the paths are multiplied": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    z = np.maximum(a @ W1 + b1, 0) @ W2 + b2
    shortcut = a if Ws is None else a @ Ws
    return np.maximum(z * shortcut, 0)
""",
        "the shortcut is subtracted": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    z = np.maximum(a @ W1 + b1, 0) @ W2 + b2
    shortcut = a if Ws is None else a @ Ws
    return np.maximum(z - shortcut, 0)
""",
        "is the shortcut a @ Ws here?": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    return np.maximum(np.maximum(a @ W1 + b1, 0) @ W2 + b2 + a, 0)
""",
        "the shortcut is missing": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    return np.maximum(hidden @ W2 + b2, 0)
""",
        "passes a ReLU before the addition": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    return np.maximum(hidden @ W2 + b2, 0) + (a if Ws is None else a @ Ws)
""",
        "the last ReLU is missing": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    return hidden @ W2 + b2 + (a if Ws is None else a @ Ws)
""",
        "the ReLU between the two layers": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    z = (a @ W1 + b1) @ W2 + b2
    return np.maximum(z + (a if Ws is None else a @ Ws), 0)
""",
        "b2 is missing": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    return np.maximum(hidden @ W2 + (a if Ws is None else a @ Ws), 0)
""",
        "b1 is missing": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1, 0)
    return np.maximum(hidden @ W2 + b2 + (a if Ws is None else a @ Ws), 0)
""",
        "not at a[l+1]": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    return np.maximum(hidden @ W2 + b2 + (hidden if Ws is None else a @ Ws), 0)
""",
        "a[l] @ Ws is added as it is": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    shortcut = a if Ws is None else np.maximum(a @ Ws, 0)
    return np.maximum(hidden @ W2 + b2 + shortcut, 0)
""",
        "you pad with zeros": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    z = hidden @ W2 + b2
    return np.maximum(z + np.pad(a, ((0, 0), (0, z.shape[1] - a.shape[1]))), 0)
""",
        "ValueError": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(W1 @ a + b1, 0)
    return np.maximum(W2 @ hidden + b2 + a, 0)
""",
        "without keras": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    relu = keras.activations.relu
    return relu(relu(a @ W1 + b1) @ W2 + b2 + (a if Ws is None else a @ Ws))
""",
    },
    right={
        "einsum": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    def g(z):
        return z * (z > 0)

    z1 = np.einsum("bi,ij->bj", a, W1) + b1
    z2 = np.einsum("bi,ij->bj", g(z1), W2) + b2
    return g(z2 + (a if Ws is None else np.dot(a, Ws)))
""",
        "in place": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    x = a @ W1
    x += b1
    x[x < 0] = 0
    x = x @ W2
    x += b2
    if Ws is not None:
        a = a @ Ws
    a += x
    a[a < 0] = 0
    return a
""",
        "row by row": """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    if Ws is None:
        Ws = np.eye(len(W1))
    rows = []
    for row in a:
        hidden = np.clip(W1.T @ row + b1, 0, None)
        rows.append(np.clip(W2.T @ hidden + b2 + Ws.T @ row, 0, None))
    return np.stack(rows)
""",
    },
    half={
        "the shortcut is the identity only": (
            1.5,
            """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    hidden = np.maximum(a @ W1 + b1, 0)
    return np.maximum(hidden @ W2 + b2 + a, 0)
""",
        ),
        "a ReLU in each layer": (
            0.5,
            """
def residual_forward(a, W1, b1, W2, b2, Ws=None):
    x = a
    for W, b in ((W1, b1), (W2, b2)):
        x = np.maximum(x @ W + b, 0)
    return np.maximum(x + (a if Ws is None else a @ Ws), 0)
""",
        ),
    },
)

# The parts of a block that most answers share; each answer says what differs.
_BLOCK = """
class ResidualBlock(keras.layers.Layer):
    def __init__(self, filters, strides=1, shortcut="identity"):
        super().__init__()
        self.filters, self.strides, self.shortcut = filters, strides, shortcut
        self.conv1 = keras.layers.Conv2D(filters, 3, strides, padding="same")
        self.conv2 = keras.layers.Conv2D(filters, 3, padding="same")
        self.norm1 = keras.layers.BatchNormalization()
        self.norm2 = keras.layers.BatchNormalization()
        self.project = keras.layers.Conv2D(filters, 1, strides)
        # more layers

    def two_layers(self, x):
        return self.norm2(self.conv2(ops.relu(self.norm1(self.conv1(x)))))

    def around(self, x):
        if self.shortcut == "projection":
            return self.project(x)
        if self.shortcut == "zero_pad":
            return self.padded(x[:, :: self.strides, :: self.strides])
        return x

    def padded(self, x):
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.filters - x.shape[-1])))

    def call(self, x):
        return ops.relu(self.two_layers(x) + self.around(x))
"""


def _block(*changes):
    text = _BLOCK
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


_ADDITION = "ops.relu(self.two_layers(x) + self.around(x))"
_LAYERS = "self.norm2(self.conv2(ops.relu(self.norm1(self.conv1(x)))))"
_FIRST = "keras.layers.Conv2D(filters, 3, strides, padding"
_SECOND = "keras.layers.Conv2D(filters, 3, padding"

RESIDUAL_BLOCK = Answers(
    slow=True,
    wrong={
        "the two paths are multiplied": _block(
            (_ADDITION, "ops.relu(self.two_layers(x) * self.around(x))")
        ),
        "one path is subtracted": _block(
            (_ADDITION, "ops.relu(self.two_layers(x) - self.around(x))")
        ),
        "the addition comes before it": _block(
            (_ADDITION, "ops.relu(self.two_layers(x)) + self.around(x)")
        ),
        "no ReLU after the addition": _block((_ADDITION, "self.two_layers(x) + self.around(x)")),
        "there is no shortcut": _block((_ADDITION, "ops.relu(self.two_layers(x))")),
        "ReLU between the two convolutions is missing": _block(
            (_LAYERS, "self.norm2(self.conv2(self.norm1(self.conv1(x))))")
        ),
        "no batch norm follows the second": _block(
            (_LAYERS, "self.conv2(ops.relu(self.norm1(self.conv1(x))))")
        ),
        "each needs one of its own": _block(
            (_LAYERS, "self.norm1(self.conv2(ops.relu(self.norm1(self.conv1(x)))))")
        ),
        "leave batch norm's `training`": _block(
            (
                _LAYERS,
                "self.norm2(self.conv2(ops.relu(self.norm1(self.conv1(x), training=True))), "
                "training=True)",
            )
        ),
        "1×1 convolution needs the block's stride": _block(
            ("Conv2D(filters, 1, strides)", "Conv2D(filters, 1)")
        ),
        "the first convolution has stride": _block(
            (_FIRST, "keras.layers.Conv2D(filters, 3, padding"),
            (
                "self.conv2 = " + _SECOND,
                "self.conv2 = keras.layers.Conv2D(filters, 3, strides, padding",
            ),
        ),
        "together must have the block's stride": _block((_FIRST, _SECOND)),
        "there is no 1×1 convolution in the shortcut": _block(
            ("return self.project(x)", "return x")
        ),
        "both paths must arrive there with the shape (5, 3, ": _block(
            ("return self.padded(x[:, :: self.strides, :: self.strides])", "return self.padded(x)")
        ),
        "you pool": _block(
            (
                "x[:, :: self.strides, :: self.strides]",
                "ops.average_pool(x, 2, self.strides, padding='same')",
            )
        ),
        "zero padding learns nothing": _block(
            ("return self.padded(x[", "return 0 * self.project(x) + self.padded(x[")
        ),
        "unexpected keyword argument": _block((', shortcut="identity"', "")),
        "no tensor": _block(("return " + _ADDITION, _ADDITION)),
    },
    right={
        "sequential": """
class ResidualBlock(keras.Layer):
    def __init__(self, filters, strides=1, shortcut="identity", **kwargs):
        super().__init__(**kwargs)
        new = keras.layers
        self.shortcut = {
            "identity": [],
            "projection": [
                new.Conv2D(filters, (1, 1), strides=(strides, strides), use_bias=False),
                new.BatchNormalization(momentum=0.9, epsilon=1e-5),
            ],
            "zero_pad": [new.MaxPooling2D(1, strides)],
        }[shortcut]
        self.filters = filters
        self.main = keras.Sequential(
            [
                new.ZeroPadding2D(1),
                new.Conv2D(filters, 3, strides=strides, use_bias=False),
                new.BatchNormalization(momentum=0.9, epsilon=1e-5),
                new.Activation("relu"),
                new.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal"),
                new.BatchNormalization(gamma_initializer="zeros"),
            ]
        )

    def call(self, inputs, training=None):
        x = inputs
        for layer in self.shortcut:
            x = layer(x)
        missing = self.filters - x.shape[-1]
        if missing:
            zeros = ops.zeros_like(x[..., :1])
            x = ops.concatenate([zeros] * (missing // 2) + [x] + [zeros] * (missing - missing // 2), -1)
        return keras.layers.ReLU()(keras.layers.Add()([x, self.main(inputs)]))
""",
        "made in build": """
class ResidualBlock(keras.layers.Layer):
    def __init__(self, filters, strides=1, shortcut="identity"):
        super().__init__()
        self.filters, self.strides, self.kind = filters, strides, shortcut

    def build(self, input_shape):
        self.skip = keras.layers.Conv2D(self.filters, 1, padding="same")
        self.convs = [
            keras.layers.Conv2D(self.filters, 3, s, "same", use_bias=False)
            for s in (self.strides, 1)
        ]
        self.norms = [keras.layers.BatchNormalization() for _ in range(2)]

    def call(self, x):
        s, missing = self.strides, self.filters - x.shape[-1]
        y = keras.activations.relu(self.norms[0](self.convs[0](x)))
        y = self.norms[1](self.convs[1](y))
        if self.kind == "projection":
            y += self.skip(x[:, ::s, ::s, :])
        elif self.kind == "zero_pad":
            y += ops.pad(x[:, ::s, ::s], [[0, 0], [0, 0], [0, 0], [missing, 0]])
        else:
            y += x
        return keras.activations.relu(y)
""",
        "an unused layer": _BLOCK,
    },
    half={
        "the identity alone": (
            1.75,
            _block(
                ("return self.project(x)", "return self.missing(x)"),
                ("return self.padded(", "return self.missing("),
            ),
        ),
        "pooled": (
            2.5,
            _block(
                (
                    "x[:, :: self.strides, :: self.strides]",
                    "ops.max_pool(x, 2, self.strides, padding='same')",
                )
            ),
        ),
        "no ReLU between": (
            2.0,
            _block((_LAYERS, "self.norm2(self.conv2(self.norm1(self.conv1(x))))")),
        ),
        "added after the ReLU": (
            1.0,
            _block((_ADDITION, "ops.relu(self.two_layers(x)) + self.around(x)")),
        ),
    },
)

START_AS_IDENTITY = Answers(
    slow=True,
    wrong={
        "that is the sum": """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(ops.zeros_like(gamma))
    return float(ops.sum(ops.abs(block(x) - x)))
""",
        "subtract x first": """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(ops.zeros_like(gamma))
    return float(ops.max(block(x)))
""",
        "gamma of an earlier batch norm": """
def start_as_identity(block, x):
    gammas = [w for w in block.trainable_weights if w.name == "gamma"]
    gammas[0].assign(0 * gammas[0])
    return ops.max(ops.abs(block(x) - x))
""",
        "more than one gamma": """
def start_as_identity(block, x):
    for weight in block.trainable_weights:
        if weight.name == "gamma":
            weight.assign(ops.zeros_like(weight))
    return ops.max(ops.abs(block(x) - x))
""",
        "you changed a kernel": """
def start_as_identity(block, x):
    kernel = [w for w in block.trainable_weights if w.name == "kernel"][-1]
    kernel.assign(0 * kernel)
    return ops.max(ops.abs(block(x) - x))
""",
        "no gamma is 0": """
def start_as_identity(block, x):
    return 0.0
""",
        "other weights changed": """
def start_as_identity(block, x):
    block.trainable_weights[-2].assign(0 * block.trainable_weights[-2])
    block.trainable_weights[0].assign(0 * block.trainable_weights[0])
    return ops.max(ops.abs(block(x) - x))
""",
        "do not survive the block's ReLU": """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(0 * gamma)
    return 0.0
""",
        "that has a sign": """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(0 * gamma)
    return float(ops.min(x - block(x)))
""",
        "that is the mean": """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(0 * gamma)
    return ops.mean(ops.abs(block(x) - x))
""",
        "object has no attribute": """
def start_as_identity(block, x):
    block.gamma.assign(0)
    return ops.max(ops.abs(block(x) - x))
""",
        "returned nothing": """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(0 * gamma)
    print(ops.max(ops.abs(block(x) - x)))
""",
    },
    right={
        "through the block's layers": """
def start_as_identity(block, x):
    norm = block.convs[-1].norm
    norm.gamma.assign(np.zeros(norm.gamma.shape))
    return np.abs(block(x).numpy() - x).max()
""",
        "by position": """
def start_as_identity(block, x):
    *_, gamma, beta = block.trainable_weights
    gamma.assign([0.0] * gamma.shape[0])
    return max(abs(value) for value in (ops.convert_to_numpy(block(x)) - x).ravel().tolist())
""",
    },
    half={
        "not proved": (
            0.5,
            """
def start_as_identity(block, x):
    gamma = [w for w in block.trainable_weights if w.name == "gamma"][-1]
    gamma.assign(0 * gamma)
    return 0.0
""",
        ),
        "the wrong gamma, well measured": (
            0.5,
            """
def start_as_identity(block, x):
    gammas = [w for w in block.trainable_weights if w.name == "gamma"]
    gammas[0].assign(0 * gammas[0])
    return ops.max(ops.abs(block(x) - x))
""",
        ),
    },
)

RESNET_CIFAR_DEPTH = Answers(
    wrong={
        "not 2": """
def resnet_cifar_depth(n, convs=2):
    return 6 * n + 2
""",
        "the first convolution and the dense layer count": """
def resnet_cifar_depth(n, convs=2):
    return 3 * convs * n
""",
        "count both ends": """
def resnet_cifar_depth(n, convs=2):
    return 3 * convs * n + 1
""",
        "that counts blocks": """
def resnet_cifar_depth(n, convs=2):
    return 3 * n + 2
""",
        "that has four stages": """
def resnet_cifar_depth(n, convs=2):
    return 4 * convs * n + 2
""",
        "do not count as layers": """
def resnet_cifar_depth(n, convs=2):
    return 3 * convs * n + 2 + 2
""",
        "UnboundLocalError": """
def resnet_cifar_depth(n, convs=2):
    for _ in range(3 * n * convs):
        layers += 1
    return layers + 2
""",
    },
    right={
        "counts": """
def resnet_cifar_depth(n, convs=2):
    layers = ["conv"]
    for stage in range(3):
        for block in range(n):
            layers += convs * ["conv"]
    return len([*layers, "dense"])
""",
        "numpy": """
def resnet_cifar_depth(n, convs):
    return np.full(3, n * convs).sum() + np.int64(2)
""",
    },
    half={
        "basic blocks alone": (
            0.5,
            """
def resnet_cifar_depth(n, convs=2):
    return 6 * n + 2
""",
        ),
        "bottlenecks alone": (
            0.5,
            """
def resnet_cifar_depth(n, convs=2):
    return 9 * n + 2
""",
        ),
    },
)

_MODEL = """
def macs(shape, classes, F):
    (height, width, channels), total = shape, 4 * F * classes
    for stage, before in enumerate((channels, F, 2 * F)):
        out = F * 2**stage
        kernels = 9 * before * out + 9 * out * out * (6 if stage == 0 else 5)
        total += height * width * kernels
        height, width = (height + 1) // 2, (width + 1) // 2
    return total

def drone_resnet(input_shape, classes, max_macs):
    F = max(F for F in range(4, 100, 4) if macs(input_shape, classes, F) <= max_macs)
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(F, 3, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    for stage in range(3):
        for position in range(3):
            if stage > 0 and position == 0:
                x = residual.ResidualBlock(F * 2**stage, strides=2, shortcut="projection")(x)
            else:
                x = residual.ResidualBlock(F * 2**stage)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))
"""


def _model(*changes):
    text = _MODEL
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


DRONE_RESNET = Answers(
    slow=True,
    wrong={
        "and so would F": _model(("F = max(F for F", "F = min(F for F")),
        "more than": _model(("<= max_macs)", "<= 3 * max_macs)")),
        "14 layers": _model(("for position in range(3)", "for position in range(2)")),
        "some block has no shortcut": _model(
            (
                "residual.ResidualBlock(F * 2**stage)",
                "residual.ResidualBlock(F * 2**stage, residual=False)",
            )
        ),
        "the stages of 3×3 convolutions write": _model(
            ("if stage > 0 and position", "if position")
        ),
        "has the activation 'softmax'": _model(("Dense(classes)", 'Dense(classes, "softmax")')),
        "expected a keras.Model": _model(
            ("return keras.Model(image, keras.layers.Dense(classes)(x))", "return x")
        ),
        "without ResNetCIFAR": """
def drone_resnet(input_shape, classes, max_macs):
    return residual.ResNetCIFAR(20, input_shape, classes, classifier_activation=None)
""",
    },
    right={
        "sequential": """
def drone_resnet(input_shape, classes, max_macs):
    rows, columns, channels = input_shape
    positions = [-(-rows // s) * -(-columns // s) for s in (1, 2, 4)]
    # One F is worth this many multiply-adds, and one F * F that many.
    linear = 9 * channels * positions[0] + 4 * classes
    square = 9 * (6 * positions[0] + 22 * positions[1] + 88 * positions[2])
    F = 4
    while square * (F + 4) ** 2 + linear * (F + 4) <= max_macs:
        F += 4
    model = keras.Sequential([keras.Input(input_shape), keras.layers.Conv2D(F, 3, padding="same")])
    model.add(keras.layers.BatchNormalization())
    model.add(keras.layers.Activation("relu"))
    for filters, strides in ((F, 1), (2 * F, 2), (4 * F, 2)):
        shortcut = "identity" if strides == 1 else "zero_pad"
        model.add(residual.ResidualBlock(filters, strides, shortcut))
        model.add(residual.ResidualBlock(filters))
        model.add(residual.ResidualBlock(filters))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(classes))
    return model
""",
    },
    half={
        "narrow": (2.0, _model(("F = max(F for F", "F = min(F for F"))),
        "one block too few a stage": (
            2.5,
            _model(("for position in range(3)", "for position in range(2)")),
        ),
        "plain": (
            2.5,
            _model(
                (
                    "residual.ResidualBlock(F * 2**stage)",
                    "residual.ResidualBlock(F * 2**stage, residual=False)",
                )
            ),
        ),
    },
)

ANSWERS = {
    "residual_forward": RESIDUAL_FORWARD,
    "residual_block": RESIDUAL_BLOCK,
    "start_as_identity": START_AS_IDENTITY,
    "resnet_cifar_depth": RESNET_CIFAR_DEPTH,
    "drone_resnet": DRONE_RESNET,
}
