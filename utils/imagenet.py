"""The classes of ImageNet by name, and four photographs to try a network on.

ImageNet Large Scale Visual Recognition Challenge, arXiv:1409.0575. `data/imagenet/README.md` says
where the names and the photographs come from.
"""

import functools
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "data" / "imagenet"
PHOTOGRAPHS = ("cat", "coffee", "camera", "motorcycle")


@functools.cache
def class_names():
    """Return the names of ImageNet's 1,000 classes, in the order of the networks' outputs.

    Returns:
        A tuple of 1,000 different strings.

    >>> class_names()[:2], class_names()[134], class_names()[517]
    (('tench', 'goldfish'), 'crane (bird)', 'crane (machine)')
    """
    lines = (FOLDER / "classes.tsv").read_text(encoding="utf-8").splitlines()
    return tuple(line.split("\t")[1] for line in lines)


def photographs(image_size=224):
    """Return the four photographs of `PHOTOGRAPHS`: their central squares, resized.

    Args:
        image_size: side in pixels.

    Returns:
        Numpy array `(4, image_size, image_size, 3)` of float32 in [0, 1]; `utils.data.preprocess`
        turns it into the input of a network.

    Raises:
        ValueError: if `image_size` is not a positive integer.

    >>> photographs(96).shape, PHOTOGRAPHS
    ((4, 96, 96, 3), ('cat', 'coffee', 'camera', 'motorcycle'))
    """
    from PIL import Image, ImageOps

    from utils.blocks import check_positive

    check_positive(image_size=image_size)
    images = []
    for name in PHOTOGRAPHS:
        with Image.open(FOLDER / "photographs" / f"{name}.jpg") as image:
            square = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
            images.append(np.asarray(square, "float32") / 255)
    return np.stack(images)


def top_classes(scores, k=3):
    """Return the classes that a network finds likeliest, the likeliest first.

    Args:
        scores: `(B, 1000)`, what a network returns: probabilities or logits.
        k: how many classes to return, at most 1000.

    Returns:
        For each image a list of k pairs: the class's name, and its score.

    Raises:
        ValueError: if `scores` has another shape, or k is not from 1 to 1000.

    >>> top_classes([[0.0] * 281 + [0.75, 0.25] + [0.0] * 717], k=2)
    [[('tabby', 0.75), ('tiger cat', 0.25)]]
    """
    scores = np.asarray(scores)
    names = class_names()
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise ValueError(f"scores of shape {scores.shape}: expected (B, {len(names)})")
    if k not in range(1, len(names) + 1):
        raise ValueError(f"k={k!r}: expected a number from 1 to {len(names)}")
    order = np.argsort(-scores, axis=1)[:, :k]
    return [
        [(names[n], float(row[n])) for n in places]
        for row, places in zip(scores, order, strict=True)
    ]
