"""Answers to the exercises of lesson 00."""

from tests.answers import Answers

BALANCED_ACCURACY = Answers(
    wrong={
        "the geometric mean": """
def balanced_accuracy(labels, predictions):
    recalls = [np.mean(predictions[labels == c] == c) for c in (0, 1)]
    return (recalls[0] * recalls[1]) ** 0.5
""",
        "the F1 score": """
def balanced_accuracy(labels, predictions):
    found = np.sum(labels * predictions)
    return 2 * found / (np.sum(labels) + np.sum(predictions))
""",
        "100 times too large": """
def balanced_accuracy(labels, predictions):
    recalls = [np.mean(predictions[labels == c] == c) for c in (0, 1)]
    return 100 * sum(recalls) / 2
""",
        "plain accuracy": """
def balanced_accuracy(labels, predictions):
    return np.mean(labels == predictions)
""",
        "recall of class 1 alone": """
def balanced_accuracy(labels, predictions):
    return np.mean(predictions[labels == 1] == 1)
""",
        "recall of class 0 alone": """
def balanced_accuracy(labels, predictions):
    return np.mean(predictions[labels == 0] == 0)
""",
        "divides by what was predicted": """
def balanced_accuracy(labels, predictions):
    return (np.mean(labels[predictions == 1] == 1) + np.mean(labels[predictions == 0] == 0)) / 2
""",
        "sum of both recalls": """
def balanced_accuracy(labels, predictions):
    return np.mean(predictions[labels == 1] == 1) + np.mean(predictions[labels == 0] == 0)
""",
        "returned nothing": """
def balanced_accuracy(labels, predictions):
    print((np.mean(predictions[labels == 1]) + np.mean(predictions[labels == 0] == 0)) / 2)
""",
        "ZeroDivisionError": """
def balanced_accuracy(labels, predictions):
    labels[:] = predictions
    return 1 / 0
""",
        "returned 1.0; expected 0.": """
def balanced_accuracy(labels, predictions):
    labels[:] = predictions  # spoils the inputs, not what is right
    return 1.0
""",
    },
    right={
        "counts": """
def balanced_accuracy(labels, predictions):
    hits = [0, 0]
    cells = [0, 0]
    for label, prediction in zip(labels, predictions):
        cells[label] += 1
        hits[label] += label == prediction
    return (hits[0] / cells[0] + hits[1] / cells[1]) / 2
""",
        "products": """
def balanced_accuracy(labels, predictions):
    found = (labels * predictions).sum() / labels.sum()
    passed = ((1 - labels) * (1 - predictions)).sum() / (1 - labels).sum()
    return np.array([found, passed]).mean(keepdims=True)
""",
        "float32 tensor": """
def balanced_accuracy(labels, predictions):
    recalls = [np.mean(predictions[labels == c] == c) for c in (0, 1)]
    return keras.ops.mean(keras.ops.convert_to_tensor(recalls, "float32"))
""",
    },
    half={},
)

CONV_OUTPUT_SIZE = Answers(
    wrong={
        "count those of one row": """
def conv_output_size(size, kernel, stride, padding):
    side = -(-size // stride) if padding == "same" else (size - kernel) // stride + 1
    return side**2
""",
        "wide on each side, not k": """
def conv_output_size(size, kernel, stride, padding):
    border = kernel if padding == "same" else 0
    return (size + 2 * border - kernel) // stride + 1
""",
        "do not subtract it": """
def conv_output_size(size, kernel, stride, padding):
    border = kernel // 2 if padding == "same" else 0
    return (size - 2 * border - kernel) // stride + 1
""",
        "here it is 'valid'": """
def conv_output_size(size, kernel, stride, padding):
    return -(-size // stride)
""",
        "here it is 'same'": """
def conv_output_size(size, kernel, stride, padding):
    return (size - kernel) // stride + 1
""",
        "the first position counts too": """
def conv_output_size(size, kernel, stride, padding):
    return -(-size // stride) if padding == "same" else (size - kernel) // stride
""",
        "a last, partial step counts: round up": """
def conv_output_size(size, kernel, stride, padding):
    return size // stride if padding == "same" else (size - kernel) // stride + 1
""",
        "the filter cannot stop half-way": """
def conv_output_size(size, kernel, stride, padding):
    return size / stride if padding == "same" else (size - kernel) / stride + 1
""",
        "the stride still shrinks": """
def conv_output_size(size, kernel, stride, padding):
    return size if padding == "same" else (size - kernel) // stride + 1
""",
        "does not fit: round down": """
def conv_output_size(size, kernel, stride, padding):
    return -(-size // stride) if padding == "same" else -(-(size - kernel) // stride) + 1
""",
        "by the stride, not by one pixel": """
def conv_output_size(size, kernel, stride, padding):
    return -(-size // stride) if padding == "same" else size - kernel + 1
""",
        "one too many where the stride divides n": """
def conv_output_size(size, kernel, stride, padding):
    return size // stride + 1 if padding == "same" else (size - kernel) // stride + 1
""",
        "NameError": """
def conv_output_size(size, kernel, stride, padding):
    return math.ceil((size - kernel + 1) / stride)
""",
        "return the number itself": """
def conv_output_size(size, kernel, stride, padding):
    return str((size - kernel) // stride + 1)
""",
    },
    right={
        "numpy": """
def conv_output_size(size, kernel, stride, padding):
    if padding == "valid":
        return np.floor((size - kernel) / stride).astype("int64") + 1
    return np.int32(np.ceil(size / stride))
""",
        "walks along the row": """
def conv_output_size(size, kernel, stride, padding):
    positions, left = 0, 0
    last = size - 1 if padding == "same" else size - kernel
    while left <= last:
        positions, left = positions + 1, left + stride
    return positions
""",
        "asks Keras": """
def conv_output_size(size, kernel, stride, padding):
    layer = keras.layers.Conv2D(1, kernel, strides=stride, padding=padding)
    return layer.compute_output_shape((None, size, size, 1))[1]
""",
        "whole float": """
def conv_output_size(size, kernel, stride, padding):
    return float(len(range(0, size if padding == "same" else size - kernel + 1, stride)))
""",
    },
    half={
        "stride forgotten": (
            1.0,
            """
def conv_output_size(size, kernel, stride, padding):
    return size if padding == "same" else size - kernel + 1
""",
        ),
        "one padding": (
            1.0,
            """
def conv_output_size(size, kernel, stride, padding):
    if padding == "valid":
        return (size - kernel) // stride + 1
""",
        ),
    },
)

CONV_PARAMS = Answers(
    wrong={
        "are multiplied in twice": """
def conv_params(kernel, channels, filters, bias):
    return (kernel**2 * channels + bias) * channels * filters
""",
        "not one a kernel element": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 * (channels + bias) * filters
""",
        "multiply the sizes, do not add": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 + channels + filters + bias
""",
        "return the number itself": """
def conv_params(kernel, channels, filters, bias):
    return f"{kernel**2 * channels * filters + bias * filters}"
""",
        "use k twice": """
def conv_params(kernel, channels, filters, bias):
    return kernel * channels * filters + filters * bias
""",
        "spans all input channels": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 * filters + filters * bias
""",
        "as many as output channels": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 * channels + bias
""",
        "one bias a filter, not one an input channel": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 * channels * filters + channels * bias
""",
        "each filter has one more parameter": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 * channels * filters
""",
        "there is one bias for each filter": """
def conv_params(kernel, channels, filters, bias):
    return kernel**2 * channels * filters + bias
""",
        "only the kernels count": """
def conv_params(kernel, channels, filters, bias):
    return (kernel**2 * channels + 1) * filters
""",
        "returned an object of type": """
def conv_params(kernel, channels, filters, bias):
    return tuple
""",
    },
    right={
        "counts": """
def conv_params(kernel, channels, filters, bias):
    total = 0
    for _ in range(filters):
        total += np.ones((kernel, kernel, channels), "int32").sum() + int(bias)
    return total
""",
        "asks Keras": """
def conv_params(kernel, channels, filters, bias):
    layer = keras.layers.Conv2D(filters, kernel, use_bias=bias)
    layer.build((None, 20, 20, channels))
    return layer.count_params()
""",
    },
    half={
        "bias forgotten": (
            0.5,
            """
def conv_params(kernel, channels, filters, bias):
    return kernel * kernel * channels * filters
""",
        ),
        "always with a bias": (
            0.5,
            """
def conv_params(kernel, channels, filters, bias):
    return kernel * kernel * channels * filters + filters
""",
        ),
    },
)

CONV_MACS = Answers(
    wrong={
        "count outputs": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return height * width * kernel**2 * channels * filters
""",
        "a bias is an addition": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return -(-height // stride) * -(-width // stride) * (kernel**2 * channels + 1) * filters
""",
        "a filter reads all channels": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return -(-height // stride) * -(-width // stride) * kernel**2 * filters
""",
        "that is one filter": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return -(-height // stride) * -(-width // stride) * kernel**2 * channels
""",
        "height and width differ": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return (-(-height // stride)) ** 2 * kernel**2 * channels * filters
""",
        "the output size rounds up": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return (height // stride) * (width // stride) * kernel**2 * channels * filters
""",
        "counts once, not twice": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return 2 * -(-height // stride) * -(-width // stride) * kernel**2 * channels * filters
""",
        "the work at one position": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return kernel**2 * channels * filters
""",
        "positions with 'valid' padding": """
def conv_macs(height, width, kernel, channels, filters, stride):
    rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return rows * columns * kernel**2 * channels * filters
""",
        "use k twice": """
def conv_macs(height, width, kernel, channels, filters, stride):
    return -(-height // stride) * -(-width // stride) * kernel * channels * filters
""",
        "course's own `count`": """
def conv_macs(height, width, kernel, channels, filters, stride):
    layer = keras.layers.Conv2D(filters, kernel, stride, "same")
    return count(layer, input_shape=(height, width, channels)).macs
""",
    },
    right={
        "float division": """
def conv_macs(height, width, kernel, channels, filters, stride):
    rows, columns = np.ceil(height / stride), np.ceil(width / stride)
    return rows * columns * kernel**2 * channels * filters
""",
        "counts positions": """
def conv_macs(height, width, kernel, channels, filters, stride):
    positions = [(i, j) for i in range(0, height, stride) for j in range(0, width, stride)]
    return np.int64(len(positions)) * np.prod([kernel, kernel, channels, filters])
""",
        "with an earlier answer": """
def conv_output_size(size, kernel, stride, padding):
    return -(-size // stride)

def conv_macs(height, width, kernel, channels, filters, stride):
    sides = [conv_output_size(side, kernel, stride, "same") for side in (height, width)]
    return sides[0] * sides[1] * kernel**2 * channels * filters
""",
    },
    half={
        "stride forgotten": (
            1.0,
            """
def conv_macs(height, width, kernel, channels, filters, stride):
    return height * width * kernel**2 * channels * filters
""",
        ),
    },
)

SCALE_LAYER = Answers(
    wrong={
        "wipes out x": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        return x * self.scale
""",
        "a scale multiplies": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        return x + self.scale
""",
        "does not depend on the weight": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        return x
""",
        "One weight for all channels": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(1,), initializer="ones")

    def call(self, x):
        return x * self.scale
""",
        "No trainable weight": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer="ones", trainable=False
        )

    def call(self, x):
        return x * self.scale
""",
        "one number a channel": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[1:], initializer="ones")

    def call(self, x):
        return x * self.scale
""",
        "2 weights": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        self.shift = self.add_weight(shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        return x * self.scale + self.shift
""",
        "must be a Keras layer": """
class Scale:
    def __call__(self, x):
        return x
""",
        "object has no attribute": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.scale
""",
        "returned nothing": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        ...
""",
        "expected shape (": """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        return keras.ops.sum(x * self.scale, axis=-1)
""",
    },
    right={
        "operations of Keras": """
class Scale(keras.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.weight = self.add_weight(shape=input_shape[-1:], initializer=keras.initializers.Ones())

    def call(self, inputs, training=None):
        return keras.ops.multiply(inputs, self.weight)
""",
        "built at the first call": """
class Scale(keras.layers.Layer):
    def call(self, x):
        return keras.ops.einsum("...c,c->...c", x, self.factors)

    def build(self, input_shape):
        self.factors = self.add_weight(
            name="factors", shape=[int(input_shape[-1])], initializer="ones", trainable=True
        )
        super().build(input_shape)
""",
    },
    half={
        "starts at zero": (
            1.5,
            """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        return x * self.scale
""",
        ),
        "identity alone": (
            1.5,
            """
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        return x
""",
        ),
    },
)

FIRST_LAYER = Answers(
    wrong={
        "filters would still fit": """
def first_layer(side, max_macs, max_bytes):
    return 8, 3, 2
""",
        "fewer filters or a larger stride": """
def first_layer(side, max_macs, max_bytes):
    return max_bytes // (4 * side * side) // 8 * 8 or 8, 3, 1
""",
        "the stride shrinks it": """
def first_layer(side, max_macs, max_bytes):
    positions = (-(-side // 2)) ** 2
    return max_macs // (9 * positions) // 8 * 8, 3, 2
""",
        "the task asks for a multiple of 8": """
def first_layer(side, max_macs, max_bytes):
    positions = (-(-side // 2)) ** 2
    return min(max_macs // (9 * positions), max_bytes // (4 * positions)) // 8 * 8 + 1, 3, 2
""",
        "sees no edges": """
def first_layer(side, max_macs, max_bytes):
    return 8, 1, 1
""",
        "is too large for a": """
def first_layer(side, max_macs, max_bytes):
    return 64, 3, 4
""",
        "three positive whole numbers": """
def first_layer(side, max_macs, max_bytes):
    positions = (-(-side // 2)) ** 2
    return min(max_macs // (9 * positions), max_bytes // (4 * positions)) / 8 * 8, 3, 2
""",
        "stopped with TypeError": """
def first_layer(side, max_macs):
    return 8, 3, 2
""",
    },
    right={
        "list of numpy numbers": """
def first_layer(side, max_macs, max_bytes):
    positions = np.ceil(side / 2) ** 2
    most = np.minimum(max_macs / (9 * positions), max_bytes / (4 * positions))
    return [np.int64(most // 8 * 8), np.int64(3), np.int64(2)]
""",
        "searches": """
def first_layer(side, max_macs, max_bytes):
    for kernel, stride in ((5, 4), (7, 5), (7, 6)):
        positions = len(range(0, side, stride)) ** 2
        filters = 0
        while True:
            more = filters + 8
            if more * positions * kernel**2 > max_macs or more * positions * 4 > max_bytes:
                break
            filters = more
        if filters:
            return filters, kernel, stride
""",
    },
    half={
        "fits, but small": (
            1.0,
            """
def first_layer(side, max_macs, max_bytes):
    return 8, 3, 2
""",
        ),
    },
)

ANSWERS = {
    "balanced_accuracy": BALANCED_ACCURACY,
    "conv_output_size": CONV_OUTPUT_SIZE,
    "conv_params": CONV_PARAMS,
    "conv_macs": CONV_MACS,
    "scale_layer": SCALE_LAYER,
    "first_layer": FIRST_LAYER,
}
