"""Data sets as `tf.data` pipelines: solar cells and digits, which need no network, or any of TFDS.

| name          | images                                 | train | validation | trainval | test |
|---------------|----------------------------------------|------:|-----------:|---------:|-----:|
| `solar_cells` | 300×300×1, functional or defective     | 1,640 |        328 |    1,968 |  656 |
| `digits`      | 8×8×1, handwritten digits, ten classes | 1,129 |        223 |    1,352 |  445 |

`solar_cells` is the package `elpv-dataset` (Deitsch et al. 2019, arXiv:1807.02894) under
CC BY-NC-SA 4.0: not for commercial use. `data/solar_cells/README.md` and `data/digits/README.md`
say how the splits were drawn.

    python -m utils.data      prepares both; if they are ready, it returns at once
"""

import contextlib
import difflib
import http.client
import math
import operator
import sys
import threading
import urllib.error
import urllib.request

from utils import _prepared

# TensorFlow, Keras and TFDS are imported where they are used: `make` runs this module at every
# start to see whether the data are prepared, and that must not take seconds.

SMALLEST, LARGEST = 8, 1024  # pixels a side
_SHUFFLE_BUFFER = 10_000  # images; each embedded data set fits
_CACHE_BYTES = 256 * 2**20  # of images as float32, before channels are repeated
_NETWORK_SECONDS = 5


def load(
    name,
    split,
    *,
    image_size=None,
    channels=3,
    label="class",
    with_type=False,
    batch_size=None,
    shuffle=False,
    augment=False,
    seed=0,
):
    """Return a split of a data set as a prefetched `tf.data.Dataset` of images and labels.

    The first call prepares the data set below `data/prepared/`. Without `shuffle` the order is
    the same on every machine, and that of `labels`.

    Args:
        name: `"solar_cells"`, `"digits"`, or, with a network, an image classification data set
            of TFDS such as `"tf_flowers"`.
        split: `"train"`, `"validation"`, `"trainval"` (the two together), `"test"`, or a TFDS
            expression such as `"train[:20%]"`.
        image_size: Side in pixels, 8 to 1024; the central square of an image is resized
            (bilinear, anti-aliased). None keeps the size.
        channels: 1 or 3; grey images are repeated, colour images turned to grey.
        label: `"class"`, an integer; for `solar_cells` also `"probability"`, the annotators'
            value 0, 1/3, 2/3 or 1. A cell of 0.5 or more has class 1, defective.
        with_type: For `solar_cells`: labels are dictionaries `{"label": …, "type": …}`; type 0
            is a monocrystalline cell, 1 a polycrystalline one.
        batch_size: Images per batch; None gives single images.
        shuffle: New order in every epoch. For training: the resized images stay in memory after
            the first epoch, if a split needs no more than 256 MB of it.
        augment: For `solar_cells`: one of the eight flips and quarter turns, drawn anew in every
            epoch; a cell has no up or down. For data sets of TFDS: mirrored left to right half
            of the time. `digits` has none: a digit that is turned or mirrored is no digit.
        seed: Decides `shuffle` and `augment`, together with TensorFlow's global seed.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: float32 `(H, W, channels)` in [0, 1] and a
        scalar (int64; float32 for `"probability"`), or `(B, H, W, channels)` and `(B,)`.

    Raises:
        ValueError: An argument is not one of the above.
        ConnectionError: A data set of TFDS must be downloaded and there is no network.

    Example:
        >>> images, labels = next(iter(load("digits", "train", channels=1, batch_size=32)))
        >>> images.shape, labels.shape
        (TensorShape([32, 8, 8, 1]), TensorShape([32]))
    """
    _check_loading(name, image_size, channels, label, with_type, batch_size, augment, seed)
    builder, split = _open(name, split)

    import tensorflow as tf

    image_key, _ = builder.info.supervised_keys
    feature = builder.info.features[image_key]
    if batch_size and image_size is None and None in feature.shape:
        raise ValueError(
            f"image_size=None: the images of {name!r} differ in size, "
            f"so a batch needs a number of pixels from {SMALLEST} to {LARGEST}."
        )

    def decode(encoded, target):
        image = tf.image.convert_image_dtype(feature.decode_example(encoded), tf.float32)
        return (image if image_size is None else _resize(image, image_size)), target

    def finish(image, target):
        return _set_channels(image, channels), target

    examples = _read(builder, split, label, with_type, shuffle, seed)
    shape = feature.shape if image_size is None else (image_size, image_size, feature.shape[-1])
    # Shuffled means trained on, epoch after epoch: decode and resize only in the first.
    cached = shuffle and None not in shape and 4 * math.prod(shape) * len(examples) <= _CACHE_BYTES
    if shuffle and not cached:
        examples = examples.shuffle(_SHUFFLE_BUFFER, seed=seed)
    examples = examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    if cached:
        examples = examples.cache().shuffle(_SHUFFLE_BUFFER, seed=seed)
    if augment:
        draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        examples = tf.data.Dataset.zip(examples, draws)
        examples = examples.map(
            lambda example, draw: (_augment(name, example[0], draw), example[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    if batch_size:
        examples = examples.batch(batch_size)
    # Last, since a batch of grey images is a third of the memory to copy together.
    examples = examples.map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.prefetch(tf.data.AUTOTUNE)


def labels(name, split, label="class"):
    """Return all labels of a split at once, without decoding an image.

    Args:
        name: As for `load`.
        split: As for `load`.
        label: `"class"`; for `solar_cells` also `"probability"` or `"type"`.

    Returns:
        Numpy array `(N,)` in the order of `load` without `shuffle`.

    Raises:
        ValueError: An argument is not one of the above.
        ConnectionError: As for `load`.

    Example:
        >>> defective = labels("solar_cells", "trainval")
        >>> defective.shape, round(float(defective.mean()), 2)
        ((1968,), 0.31)
    """
    _check_label(name, label, ("class", "probability", "type"))
    builder, split = _open(name, split)
    examples = _read(builder, split, label).map(lambda _, target: target)
    return examples.batch(len(examples)).get_single_element().numpy()


def preprocess(images, mode):
    """Convert images in [0, 1] to the input that a family of networks was trained on.

    | mode          | result                                  | networks                       |
    |---------------|-----------------------------------------|--------------------------------|
    | `"symmetric"` | 2x − 1, in [−1, 1]                      | MobileNet V1 and V2, Xception  |
    | `"caffe"`     | 255x, blue-green-red, minus their means | ResNet                         |
    | `"pixels"`    | 255x                                    | EfficientNet B0–B7, MobileNet V3 |
    | `"lite"`      | (255x − 127) / 128                      | EfficientNet-Lite              |

    Args:
        images: Float array or tensor `(…, H, W, C)` in [0, 1]; `"caffe"` needs C = 3.
        mode: One of the table.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: Unknown mode, integer images, or not three channels for `"caffe"`.

    Example:
        >>> preprocess([[[0.0, 0.5, 1.0]]], "symmetric").numpy().tolist()
        [[[-1.0, 0.0, 1.0]]]
    """
    import keras
    from keras import ops

    images = ops.convert_to_tensor(images)
    dtype = keras.backend.standardize_dtype(images.dtype)
    if "float" not in dtype:
        raise ValueError(f"images: expected floats in [0, 1], got {dtype}; divide pixels by 255.")
    if mode == "symmetric":
        return images * 2 - 1
    if mode == "pixels":
        return images * 255
    if mode == "lite":
        return (images * 255 - 127) / 128
    if mode == "caffe":
        if images.shape[-1] != 3:
            raise ValueError(f'images: mode "caffe" expects 3 channels, got {images.shape[-1]}.')
        # The means of ImageNet's blue, green and red.
        return ops.flip(images, axis=-1) * 255 - ops.cast([103.939, 116.779, 123.68], dtype)
    raise ValueError(f'mode={mode!r}: expected "symmetric", "caffe", "pixels" or "lite".')


def prepare(names=_prepared.EMBEDDED):
    """Write the embedded data sets to `data/prepared/`, with a progress bar, unless they are there.

    Args:
        names: Data sets to prepare.

    Raises:
        ValueError: A name is not that of an embedded data set.
        RuntimeError: A source file is missing or damaged.

    Example:
        >>> prepare(["digits"])
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in _prepared.EMBEDDED:
            raise ValueError(f"names: {name!r} is not embedded; expected {_EMBEDDED}.")
    for name in names:
        if not _prepared.is_prepared(name, _prepared.PREPARED):
            # A notebook marks what comes on stderr as a warning, and the bar is none.
            in_notebook = type(sys.stderr).__module__ == "ipykernel.iostream"
            with contextlib.redirect_stderr(sys.stdout if in_notebook else sys.stderr):
                _tfds().builder(name).download_and_prepare()


_EMBEDDED = " or ".join(repr(name) for name in _prepared.EMBEDDED)


def _tfds():
    import tensorflow_datasets as tfds

    import data  # noqa: F401  registers the embedded builders

    return tfds


def _is_whole(value):
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _check_label(name, label, choices):
    if label not in choices:
        raise ValueError(f"label={label!r}: expected {' or '.join(map(repr, choices))}.")
    if label != "class" and name != "solar_cells":
        raise ValueError(f"label={label!r}: {name!r} has \"class\" only, unlike 'solar_cells'.")


def _check_loading(name, image_size, channels, label, with_type, batch_size, augment, seed):
    if image_size is not None and not (_is_whole(image_size) and SMALLEST <= image_size <= LARGEST):
        raise ValueError(
            f"image_size={image_size!r}: expected None or a whole number of pixels "
            f"from {SMALLEST} to {LARGEST}."
        )
    if not (_is_whole(channels) and channels in (1, 3)):
        raise ValueError(f"channels={channels!r}: expected 1 or 3.")
    _check_label(name, label, ("class", "probability"))
    if with_type and name != "solar_cells":
        raise ValueError(f"with_type=True: {name!r} has no types; only 'solar_cells' has.")
    if batch_size is not None and not (_is_whole(batch_size) and batch_size >= 1):
        raise ValueError(f"batch_size={batch_size!r}: expected None or a whole number from 1.")
    if augment and name == "digits":
        raise ValueError(
            "augment=True: a digit that is turned or mirrored is no digit; "
            "expected augment=False for 'digits'."
        )
    if not (_is_whole(seed) and seed >= 0):
        raise ValueError(f"seed={seed!r}: expected a whole number from 0.")


def _open(name, split):
    """Return the prepared builder of a data set and the split as TFDS writes it."""
    if name in _prepared.EMBEDDED:
        prepare([name])
        builder = _tfds().builder(name)
    else:
        builder = _open_other(name)
    splits = builder.info.splits
    known = [*splits, *(["trainval"] if "train" in splits and "validation" in splits else [])]
    chosen = "train+validation" if split == "trainval" in known else split
    try:
        number = splits[chosen].num_examples if isinstance(split, str) else 0
    except (AssertionError, KeyError, ValueError):  # what TFDS raises, and too long to show
        number = 0
    if not number:
        raise ValueError(
            f"split={split!r}: expected {', '.join(map(repr, known))}, "
            f"or a part that is not empty, such as 'train[:20%]'."
        )
    return builder, chosen


def _open_other(name):
    """Return the builder of a data set of TFDS, downloaded and prepared."""
    tfds = _tfds()
    catalogue = tfds.list_builders(with_community_datasets=False)
    if not isinstance(name, str) or name.split("/")[0].split(":")[0] not in catalogue:
        # A slip in an embedded name is likelier than one in any of TFDS's hundreds.
        close = difflib.get_close_matches(str(name), _prepared.EMBEDDED, n=1, cutoff=0.7)
        close = close or difflib.get_close_matches(str(name), catalogue, n=1, cutoff=0.7)
        raise ValueError(
            f"name={name!r}: expected {_EMBEDDED}, or the name of a data set of TFDS"
            + (f"; did you mean {close[0]!r}?" if close else ".")
        )
    try:
        builder = tfds.builder(name, data_dir=_prepared.PREPARED)
    except (AssertionError, ValueError):
        raise ValueError(f"name={name!r}: expected a configuration and version of TFDS.") from None
    features = dict(builder.info.features.items())
    kinds = [type(features.get(key)) for key in builder.info.supervised_keys or ()]
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(f"name={name!r}: expected a data set of images with one class each.")
    if not builder.info.splits:
        url = next(iter(builder.url_infos or ()), "https://storage.googleapis.com")
        if not _is_reachable(url):
            raise ConnectionError(
                f"name={name!r}: it must be downloaded and {url.split('/')[2]} does not answer; "
                f"without a network, use {_EMBEDDED}."
            )
        builder.download_and_prepare()
    return builder


def _is_reachable(url):
    """Return whether the host of a URL answers soon; TFDS itself would try for minutes."""
    answers = []

    def ask():
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method="HEAD"), timeout=_NETWORK_SECONDS
            ).close()
        except urllib.error.HTTPError as error:  # an answer nevertheless
            error.close()
        except (OSError, http.client.HTTPException):
            return
        answers.append(True)

    # A thread, because the timeout does not cover the look-up of the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_NETWORK_SECONDS)
    return bool(answers)


def _read(builder, split, label, with_type=False, shuffle=False, seed=0):
    """Return the examples of a split as pairs of encoded image and target."""
    tfds = _tfds()
    image_key, class_key = builder.info.supervised_keys
    key = class_key if label == "class" else label
    examples = builder.as_dataset(
        split=split,
        shuffle_files=shuffle,
        # A shuffle buffer of encoded images is small; decoding comes later, in parallel.
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False, shuffle_seed=seed),
    )
    if with_type:
        return examples.map(lambda e: (e[image_key], {"label": e[key], "type": e["type"]}))
    return examples.map(lambda e: (e[image_key], e[key]))


def _resize(image, size):
    import tensorflow as tf

    if image.shape[0] is None or image.shape[0] != image.shape[1]:
        shape = tf.shape(image)
        side = tf.minimum(shape[0], shape[1])
        top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
        image = image[top : top + side, left : left + side]
    # Sums of float weights can end a little above 1.
    return tf.clip_by_value(tf.image.resize(image, (size, size), antialias=True), 0.0, 1.0)


def _set_channels(image, channels):
    import tensorflow as tf

    if image.shape[-1] == channels:
        return image
    return tf.image.grayscale_to_rgb(image) if channels == 3 else tf.image.rgb_to_grayscale(image)


def _augment(name, image, draw):
    import tensorflow as tf

    def mirrored():
        return tf.image.flip_left_right(image)

    if name != "solar_cells":
        return tf.cond(draw % 2 == 0, lambda: image, mirrored)
    # The eight symmetries of a square: four quarter turns, with and without a flip.
    flipped = tf.cond(draw % 2 == 0, lambda: image, mirrored)
    return tf.ensure_shape(tf.image.rot90(flipped, tf.cast(draw // 2 % 4, tf.int32)), image.shape)


def _main():
    try:
        prepare()
    except (ImportError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()
