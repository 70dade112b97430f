"""TFDS builder of `digits`: the handwritten digits that come with scikit-learn."""

import hashlib

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

from data import EmbeddedBuilder

# Of pixels and labels as bytes, so that a changed source is noticed.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"

# The n-th image of a class belongs to SPLITS[n % 8]: no list and no seed are needed, and every
# class is divided 5 : 1 : 2.
SPLITS = ("train", "train", "train", "test", "train", "validation", "train", "test")


class Builder(EmbeddedBuilder):
    """1,797 handwritten digits of 8×8 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    EXAMPLES = 1797

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            license="CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # the images come with scikit-learn
        pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
        pixels, labels = pixels.astype(np.uint8), labels.astype(np.uint8)
        if hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() != SHA256:
            raise RuntimeError(
                "digits: the images in scikit-learn are damaged or have changed; "
                "run `pip install --force-reinstall --no-deps scikit-learn`."
            )
        # The source counts 0 to 16 dark points per pixel; an image has 0 to 255.
        images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        numbers = {split: [] for split in ("train", "validation", "test")}
        for label in range(10):
            for n, number in enumerate(np.flatnonzero(labels == label)):
                numbers[SPLITS[n % 8]].append(number)
        return {
            split: self._generate_examples(chosen, images, labels)
            for split, chosen in numbers.items()
        }

    def _generate_examples(self, numbers, images, labels):
        for number in numbers:
            self.bar.update()
            name = f"digit{number:04d}"
            yield name, {"image": images[number], "label": int(labels[number]), "name": name}
