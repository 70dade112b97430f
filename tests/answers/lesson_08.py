"""Answers to the exercises of lesson 08."""

from tests.answers import Answers, changed

_PIPELINE = """
import tensorflow as tf

def make_pipeline(images, labels, batch_size, seed):
    def convert(image, label):
        return tf.repeat(tf.cast(image, tf.float32) / 255, 3, axis=-1), label

    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    pairs = pairs.shuffle(len(images), seed=seed)
    pairs = pairs.map(convert)
    return pairs.batch(batch_size).prefetch(1)
"""


_CONVERTED = "tf.repeat(tf.cast(image, tf.float32) / 255, 3, axis=-1)"


def _pipeline(*changes):
    return changed(_PIPELINE, *changes)


MAKE_PIPELINE = Answers(
    wrong={
        "; divide by 255.": _pipeline((" / 255", "")),
        "divide by 255 once": _pipeline((" / 255", " / 255 / 255")),
        "repeat the grey one three times": _pipeline(
            (_CONVERTED, "tf.cast(image, tf.float32) / 255")
        ),
        "pixels are negative": _pipeline((" / 255", " / 127.5 - 1")),
        "cast them to float32": _pipeline(("tf.cast(image, tf.float32) / 255", "image")),
        "expected float32": _pipeline(("tf.float32", "tf.float64")),
        "keep height and width": _pipeline(
            ("/ 255, 3, axis=-1)", "/ 255, 3, axis=-1)[:1]"),
        ),
        "the three channels differ": _pipeline(
            ("/ 255, 3, axis=-1)", "/ 255, 3, axis=-1) * [1.0, 0.5, 0.2]"),
        ),
        "the last batch, a smaller one, is missing": _pipeline(
            ("batch(batch_size)", "batch(batch_size, drop_remainder=True)")
        ),
        "leave out `repeat`": _pipeline((".prefetch(1)", ".repeat()")),
        "is a single image": _pipeline((".batch(batch_size)", "")),
        "shuffle pairs, not halves": _pipeline(
            (
                "tf.data.Dataset.from_tensor_slices((images, labels))",
                "tf.data.Dataset.zip(\n"
                "        tf.data.Dataset.from_tensor_slices(images).shuffle(999, seed=seed),\n"
                "        tf.data.Dataset.from_tensor_slices(labels))",
            )
        ),
        "in which the images were given": _pipeline(
            ("    pairs = pairs.shuffle(len(images), seed=seed)\n", "")
        ),
        "shuffle before you batch": _pipeline(
            ("    pairs = pairs.shuffle(len(images), seed=seed)\n", ""),
            (".prefetch(1)", ".shuffle(99, seed=seed)"),
        ),
        "both epochs have the same order": _pipeline(
            ("seed=seed)", "seed=seed, reshuffle_each_iteration=False)")
        ),
        "let it hold all images": _pipeline(("shuffle(len(images)", "shuffle(4 * batch_size")),
        "expected a pair of tensors": _pipeline((".prefetch(1)", ".map(lambda x, y: x)")),
        "walked through more than once": _pipeline(
            ("return pairs.batch(batch_size).prefetch(1)", "return iter(pairs.batch(batch_size))")
        ),
        "images; expected": _pipeline(("batch(batch_size)", "batch(batch_size + 1)")),
        "not those of the images, each once": _pipeline(
            (".prefetch(1)", ".map(lambda x, y: (x, y * 0))")
        ),
        "by the largest pixel that is there": _pipeline((" / 255", " / float(images.max())")),
        "the brightness differs": _pipeline((" / 255", " / 200")),
        "`//` cuts to whole numbers": _pipeline((" / 255", " // 255")),
        "in whatever scale": _pipeline((_CONVERTED, f"1 - {_CONVERTED}")),
        "the mean of each image is 0": _pipeline(
            (_CONVERTED, "tf.repeat(tf.image.per_image_standardization(image), 3, axis=-1)")
        ),
        "images beside": _pipeline(
            (_CONVERTED, "tf.cast(image, tf.float32) / 255"),
            (".prefetch(1)", ".map(lambda x, y: (tf.repeat(x, 3, axis=0), y))"),
        ),
    },
    right={
        "batches first, then conversion": """
import tensorflow as tf

def make_pipeline(images, labels, batch_size, seed):
    pairs = tf.data.Dataset.from_tensor_slices((images, labels)).cache()
    pairs = pairs.shuffle(10_000, seed=seed).batch(batch_size)
    pairs = pairs.map(
        lambda x, y: (tf.image.grayscale_to_rgb(tf.image.convert_image_dtype(x, "float32")), y),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return pairs.prefetch(tf.data.AUTOTUNE)
""",
        "converted before": """
from tensorflow.data import Dataset

def make_pipeline(images, labels, batch_size, seed):
    pixels = np.concatenate([images] * 3, axis=-1).astype("float32") / 255
    return Dataset.from_tensor_slices((pixels, labels)).shuffle(len(pixels)).batch(batch_size)
""",
        "a class of one's own": """
class Pairs:
    def __init__(self, images, labels, size, seed):
        self.images, self.labels, self.size = images, labels, size
        self.rng = np.random.default_rng(seed)

    def __iter__(self):
        order = self.rng.permutation(len(self.images))
        for start in range(0, len(order), self.size):
            chosen = order[start : start + self.size]
            x = np.repeat(self.images[chosen] / np.float32(255), 3, axis=-1)
            yield x.astype("float32"), self.labels[chosen]

def make_pipeline(images, labels, batch_size, seed):
    return Pairs(images, labels, batch_size, seed)
""",
    },
    half={
        "forgot to divide": (1.25, _pipeline((" / 255", ""))),
        "no shuffle": (
            1.5,
            _pipeline(("    pairs = pairs.shuffle(len(images), seed=seed)\n", "")),
        ),
        "whole numbers": (1.25, _pipeline((" / 255", " // 255"))),
        "turned over": (
            1.25,
            _pipeline((_CONVERTED, f"tf.image.random_flip_left_right({_CONVERTED})")),
        ),
        "halves and too bright": (
            0.5,
            _pipeline(
                (" / 255", " / 200"),
                (
                    "    return pairs.batch",
                    "    x, y = pairs.map(lambda x, y: x), pairs.map(lambda x, y: y)\n"
                    "    pairs = tf.data.Dataset.zip(x.shuffle(999), y)\n"
                    "    return pairs.batch",
                ),
            ),
        ),
        "a small buffer": (1.5, _pipeline(("shuffle(len(images)", "shuffle(32"))),
        "half a buffer": (1.5, _pipeline(("shuffle(len(images)", "shuffle(len(images) // 2"))),
        "last batch missing": (
            1.25,
            _pipeline(("batch(batch_size)", "batch(batch_size, drop_remainder=True)")),
        ),
    },
)

_HEAD = """
def build_head(backbone, classes):
    backbone.trainable = False
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(classes)(x))
"""


def _head(*changes):
    return changed(_HEAD, *changes)


BUILD_HEAD = Answers(
    slow=True,
    wrong={
        "return logits, without softmax": _head(
            ("Dense(classes)", "Dense(classes, activation='softmax')")
        ),
        "these are sigmoids": _head(("Dense(classes)", "Dense(classes, activation='sigmoid')")),
        "ReLU cuts the negative logits": _head(
            ("Dense(classes)", "Dense(classes, activation='relu')")
        ),
        "take the mean": _head(("GlobalAveragePooling2D", "GlobalMaxPooling2D")),
        "average over the positions first": _head(("GlobalAveragePooling2D", "Flatten")),
        "average over the positions, then": _head(
            ("keras.layers.GlobalAveragePooling2D()(backbone.output)", "backbone.output")
        ),
        "the dense layer has no bias": _head(("Dense(classes)", "Dense(classes, use_bias=False)")),
        "that can learn, and no other layer": _head(
            ("Dense(classes)(x)", "Dense(classes)(keras.layers.Dense(5)(x))")
        ),
        "a call in training changes the statistics": _head(
            ("    backbone.trainable = False\n", "")
        ),
        "are not the dense layer of the pooled features": _head(
            ("Dense(classes)(x)", "Dense(classes)(2 * x)")
        ),
        "expected a keras.Model": _head(
            ("return keras.Model(backbone.input, ", "return ("),
        ),
        "a batch norm in the head": _head(
            ("Dense(classes)(x)", "Dense(classes)(keras.layers.BatchNormalization()(x))")
        ),
        "does not contain the backbone": """
def build_head(backbone, classes):
    inputs = keras.Input(backbone.input_shape[1:])
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
""",
    },
    right={
        "as a layer": """
def build_head(backbone, classes):
    backbone.trainable = False
    inputs = keras.Input(backbone.input_shape[1:])
    x = backbone(inputs, training=False)
    x = ops.mean(x, axis=(1, 2))
    x = keras.layers.Dropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="head")(x))
""",
        "sequential": """
def build_head(backbone, classes):
    for layer in backbone.layers:
        layer.trainable = False
    return keras.Sequential(
        [
            keras.Input(backbone.input_shape[1:]),
            backbone,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes),
        ]
    )
""",
        "sequential, not built": """
def build_head(backbone, classes):
    backbone.trainable = False
    pool = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([backbone, pool, keras.layers.Dense(classes)])
""",
        "a class, not built": """
class Network(keras.Model):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(classes)

    def call(self, x):
        return self.dense(self.pool(self.backbone(x, training=False)))

def build_head(backbone, classes):
    backbone.trainable = False
    return Network(backbone, classes)
""",
    },
    half={
        "not frozen": (1.0, _head(("    backbone.trainable = False\n", ""))),
        "called at inference, which fit overrides": (
            1.0,
            """
def build_head(backbone, classes):
    inputs = keras.Input(backbone.input_shape[1:])
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
""",
        ),
        "softmax": (0.5, _head(("Dense(classes)", "Dense(classes, activation='softmax')"))),
    },
)

_TOP_ONLY = """
def freeze_batch_norm(network):
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
"""

FREEZE_BATCH_NORM = Answers(
    slow=True,
    wrong={
        "a batch norm among `network.layers`": """
def freeze_batch_norm(network):
    for layer in network.layers:
        layer.momentum = 1.0
""",
        "other layers are frozen, too": """
def freeze_batch_norm(network):
    network.trainable = False
""",
        "inside other layers can still learn": _TOP_ONLY,
        "that was frozen before can learn now": """
def freeze_batch_norm(network):
    for layer in network.layers:
        layer.trainable = True
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
""",
    },
    right={
        "walks down": """
def freeze_batch_norm(network):
    if isinstance(network, keras.layers.BatchNormalization):
        network.trainable = False
    for layer in network._layers:
        freeze_batch_norm(layer)
""",
        "all layers at once": """
def freeze_batch_norm(network):
    norms = [n for n in network._flatten_layers() if type(n).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.trainable = False
    return network
""",
    },
    half={"the outermost layers": (0.5, _TOP_ONLY)},
)

_REPAIRED = """
def repaired(backbone, images, targets):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    backbone.trainable = False
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    network = keras.Model(backbone.input, keras.layers.Dense(2)(pooled))
    network.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=False)
    network.fit(images, targets, verbose=0)
    backbone.trainable = True
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    network.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    network.fit(images, targets, verbose=0)
    return network
"""


def _repaired(*changes):
    return changed(_REPAIRED, *changes)


REPAIRED = Answers(
    slow=True,
    wrong={
        "that is in the network that you train": _repaired(
            (
                "    backbone.trainable = True\n",
                "    backbone = keras.models.clone_model(backbone)\n    backbone.trainable = True\n",
            )
        ),
        "freeze the batch norms again": _repaired(("layer.trainable = False", "pass")),
        "only some convolutions": _repaired(
            ("backbone.trainable = True", "backbone.layers[-1].trainable = True")
        ),
        "expects logits": _repaired(("Dense(2)", "Dense(2, activation='softmax')")),
        "outputs of shape": _repaired(("Dense(2)", "Dense(1)"))
        .replace("network.fit(images, targets,", "network.fit(images, targets[:, :1],")
        .replace("CategoricalCrossentropy", "BinaryCrossentropy"),
        "other convolutions than the backbone": _repaired(
            (
                "GlobalAveragePooling2D()(backbone.output)",
                "GlobalAveragePooling2D()(keras.layers.Conv2D(6, 1)(backbone.output))",
            )
        ),
        "expected a keras.Model": _repaired(("return network", "return network.predict(images)")),
        "an activation follows": _repaired(("Dense(2)", "Dense(2, activation='sigmoid')")),
        "take a smaller learning rate": _repaired(("1e-3", "1e20")),
        "with a new optimizer": _repaired(
            ("    network.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)\n", "")
        ),
        "no step has changed them": _repaired(
            ("    network.fit(images, targets, verbose=0)\n    return", "    return")
        ),
        "gamma and beta of batch norms": _repaired(
            ("layer.trainable = False", "layer.momentum = 1.0")
        ),
    },
    right={
        "layer by layer": _repaired(
            (
                "    backbone.trainable = True\n    for layer in backbone._flatten_layers():\n"
                "        if isinstance(layer, keras.layers.BatchNormalization):\n"
                "            layer.trainable = False\n",
                "    for layer in backbone._flatten_layers():\n"
                "        if not layer._layers:\n"
                "            layer.trainable = not isinstance(\n"
                "                layer, keras.layers.BatchNormalization)\n"
                "        else:\n"
                "            layer._trainable = True\n",
            )
        ),
        "batch norms first": """
def repaired(backbone, images, targets):
    norms = [n for n in backbone._flatten_layers() if "BatchNorm" in type(n).__name__]
    inputs = keras.Input(backbone.input_shape[1:])
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    network = keras.Model(inputs, keras.layers.Dense(2)(x))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    for trainable, rate in ((False, 1e-2), (True, 1e-3)):
        backbone.trainable = trainable
        for norm in norms:
            norm.trainable = False
        network.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
        network.fit(images, targets, epochs=2, verbose=0)
    return network
""",
        "dropout, and no bias": _repaired(
            ("Dense(2)(pooled)", "Dense(2, use_bias=False)(keras.layers.Dropout(0.1)(pooled))")
        ),
    },
    half={
        "batch norms learn": (1.5, _repaired(("layer.trainable = False", "pass"))),
        "statistics kept, gamma and beta not": (
            1.5,
            _repaired(("layer.trainable = False", "layer.momentum = 1.0")),
        ),
        "probabilities": (1.5, _repaired(("Dense(2)", "Dense(2, activation='softmax')"))),
        "sigmoids": (1.5, _repaired(("Dense(2)", "Dense(2, activation='sigmoid')"))),
        "squeezed": (1.5, _repaired(("Dense(2)", "Dense(2, activation='tanh')"))),
        "numbers without bounds": (1.5, _repaired(("1e-3", "1e20"))),
    },
)

_CHOOSE = """
def choose_blocks(results):
    means = {blocks: np.mean(runs) for blocks, runs in results.items()}
    best = max(means, key=means.get)
    error = np.std(results[best], ddof=1) / len(results[best]) ** 0.5
    return min(blocks for blocks in results if means[blocks] >= means[best] - error)
"""


def _choose(*changes):
    return changed(_CHOOSE, *changes)


_BEST = """
def choose_blocks(results):
    return max(results, key=lambda blocks: np.mean(results[blocks]))
"""

_MEDIANS = _choose(("np.mean(runs)", "np.median(runs)"))
_ROUNDED = _choose(("np.mean(runs)", "round(np.mean(runs), 2)"))
_OVER_N = _choose((" ** 0.5", ""))
_N_LESS_1 = _choose(("len(results[best])", "(len(results[best]) - 1)"))
_OF_NUMBERS = _choose(("len(results[best])", "len(results)"))
_WITH_N = _choose((", ddof=1", ""))
_POOLED = _choose(("np.std(results[best]", "np.std(list(results.values())"))
_LARGEST = _choose(
    (
        "np.std(results[best], ddof=1) / len(results[best]) ** 0.5",
        "max(np.std(runs, ddof=1) / len(runs) ** 0.5 for runs in results.values())",
    )
)
_OWN = """
def choose_blocks(results):
    top = max(np.mean(runs) for runs in results.values())
    errors = {blocks: np.std(r, ddof=1) / len(r) ** 0.5 for blocks, r in results.items()}
    return min(b for b, runs in results.items() if np.mean(runs) + errors[b] >= top)
"""
_WALK = """
def choose_blocks(results):
    means = {blocks: np.mean(runs) for blocks, runs in results.items()}
    best = max(means, key=means.get)
    limit = means[best] - np.std(results[best], ddof=1) / len(results[best]) ** 0.5
    found = best
    for blocks in sorted((blocks for blocks in results if blocks < best), reverse=True):
        if means[blocks] < limit:
            break
        found = blocks
    return found
"""

CHOOSE_BLOCKS = Answers(
    wrong={
        "which are fewer": _BEST,
        "below the limit": "def choose_blocks(results):\n    return min(results)\n",
        "the limit seems too low": _choose((" / len(results[best]) ** 0.5", "")),
        "every path end in `return`": _choose(("return min(", "min(")),
        "divide them by n − 1": _WITH_N,
        "seems to be divided by n;": _OVER_N,
        "divided by √(n − 1)": _N_LESS_1,
        "how many numbers of blocks": _OF_NUMBERS,
        "the largest of all": _LARGEST,
        "of each mean itself": _OWN,
        "of all runs together": _POOLED,
        "compare medians": _MEDIANS,
        "round the means": _ROUNDED,
        "still fewer blocks may do": _WALK,
    },
    right={
        "sorted": """
def choose_blocks(results):
    table = sorted((n, np.mean(r), np.std(r, ddof=1) / np.sqrt(len(r))) for n, r in results.items())
    _, best, error = max(table, key=lambda row: row[1])
    for n, mean, _ in table:
        if mean >= best - error:
            return n
""",
        "statistics": """
import statistics

def choose_blocks(results):
    def mean(n):
        return statistics.mean(results[n])

    top = max(results, key=mean)
    limit = mean(top) - statistics.stdev(results[top]) / len(results[top]) ** 0.5
    return sorted(n for n in results if mean(n) >= limit)[0]
""",
        "divided by n, then by the root of n - 1": _choose(
            (", ddof=1", ""), ("len(results[best])", "(len(results[best]) - 1)")
        ),
    },
    half={
        "the best mean": (0.5, _BEST),
        "divided by n": (0.5, _WITH_N),
    },
)

ANSWERS = {
    "make_pipeline": MAKE_PIPELINE,
    "build_head": BUILD_HEAD,
    "freeze_batch_norm": FREEZE_BATCH_NORM,
    "repaired": REPAIRED,
    "choose_blocks": CHOOSE_BLOCKS,
}
