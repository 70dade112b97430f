import re

import numpy as np
import pytest
from PIL import Image

from utils.imagenet import FOLDER, PHOTOGRAPHS, class_names, photographs, top_classes


def test_classes_are_in_the_order_of_their_identifiers():
    lines = (FOLDER / "classes.tsv").read_text("utf-8").splitlines()
    identifiers = [line.split("\t")[0] for line in lines]
    assert identifiers == sorted(set(identifiers))
    assert all(re.fullmatch(r"n\d{8}", each) for each in identifiers)
    assert len(set(class_names())) == 1000
    known = {0: "tench", 285: "Egyptian cat", 872: "tripod", 967: "espresso", 999: "toilet tissue"}
    assert {n: class_names()[n] for n in known} == known


@pytest.mark.parametrize("size", [64, 301])
def test_photographs_are_central_squares(size):
    images = photographs(size)
    assert images.shape == (4, size, size, 3)
    assert images.dtype == np.float32
    assert 0 <= images.min() < 0.05
    assert 0.95 < images.max() <= 1
    for image, name in zip(images, PHOTOGRAPHS, strict=True):
        with Image.open(FOLDER / "photographs" / f"{name}.jpg") as file:
            whole = np.asarray(file) / 255
        height, width, _ = whole.shape
        left = (width - height) // 2
        square = whole[:, left : left + height]
        np.testing.assert_allclose(image.mean((0, 1)), square.mean((0, 1)), atol=0.01)
        corner = image[: size // 4, : size // 4].mean()
        assert abs(corner - square[: height // 4, : height // 4].mean()) < 0.02


def test_every_photograph_has_its_credit():
    readme = (FOLDER / "README.md").read_text("utf-8")
    files = sorted(path.name for path in (FOLDER / "photographs").iterdir())
    assert files == sorted(f"{name}.jpg" for name in PHOTOGRAPHS)
    assert all(f"| `{name}` |" in readme for name in files)


def test_top_classes_are_sorted():
    scores = np.zeros((2, 1000))
    scores[0, [5, 7, 3]] = [1, 3, 2]
    scores[1, 999] = -1
    first, second = top_classes(scores)
    assert first == [("cock", 3.0), ("tiger shark", 2.0), ("electric ray", 1.0)]
    assert len(top_classes(scores, k=1000)[1]) == 1000
    assert top_classes(scores, k=1000)[1][-1] == ("toilet tissue", -1.0)
    assert len(second) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_classes(np.zeros((2, 10))), "scores of shape (2, 10): expected (B, 1000)"),
        (lambda: top_classes(np.zeros(1000)), "scores of shape (1000,): expected (B, 1000)"),
        (lambda: top_classes(np.zeros((1, 1000)), k=0), "k=0: expected a number from 1 to 1000"),
        (lambda: photographs(0), "image_size=0: expected a positive integer"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
