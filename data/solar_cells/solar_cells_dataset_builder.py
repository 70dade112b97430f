"""TFDS builder of `solar_cells`: images of solar cells from the package `elpv-dataset`."""

import csv
import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data import EmbeddedBuilder

PACKAGE = "elpv-dataset==1.0.0.post1"
FILES = Path(__file__).with_name("files.tsv")  # split and SHA-256 of every source file


def _source():
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None:
        raise ModuleNotFoundError(
            f"solar_cells: the package elpv-dataset is missing; run `pip install {PACKAGE}`."
        )
    return Path(spec.origin).parent / "data"


def _read(path, sha256):
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(
            f"solar_cells: {path} is missing or damaged; "
            f"run `pip install --force-reinstall --no-deps {PACKAGE}`."
        )
    return content


class Builder(EmbeddedBuilder):
    """2,624 electroluminescence images of solar cells, labelled functional or defective."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    EXAMPLES = 2624

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(300, 300, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=["functional", "defective"]),
                    "probability": np.float32,
                    "type": tfds.features.ClassLabel(names=["mono", "poly"]),
                    "name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/zae-bayern/elpv-dataset",
            license="CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/)",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # the images come with the package
        source = _source()
        with FILES.open(newline="") as file:
            rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
        table = _read(source / "labels.csv", rows.pop("labels.csv")["sha256"]).decode()
        labels = dict(line.split(maxsplit=1) for line in table.splitlines())
        return {
            split: self._generate_examples(
                [
                    (source / file, row["sha256"], *labels[file].split())
                    for file, row in rows.items()
                    if row["split"] == split
                ]
            )
            for split in ("train", "validation", "test")
        }

    def _generate_examples(self, cells):
        for path, sha256, probability, kind in cells:
            self.bar.update()
            yield (
                path.stem,
                {
                    "image": io.BytesIO(_read(path, sha256)),
                    "label": int(float(probability) >= 0.5),
                    "probability": float(probability),
                    "type": kind,
                    "name": path.stem,
                },
            )
