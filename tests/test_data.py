import collections
import csv
import http.server
import io
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import data
import utils.data
from data.digits import digits_dataset_builder
from data.solar_cells import solar_cells_dataset_builder
from utils import _prepared
from utils.data import labels, load, prepare, preprocess

ROOT = Path(__file__).resolve().parent.parent
SOURCE = solar_cells_dataset_builder._source()

# functional mono, functional poly, defective mono, defective poly
CELLS = {
    "train": [440, 687, 231, 282],
    "validation": [89, 137, 46, 56],
    "trainval": [529, 824, 277, 338],
    "test": [176, 274, 92, 114],
}
DIGITS = {
    "train": [112, 114, 111, 115, 114, 114, 114, 113, 109, 113],
    "validation": [22, 23, 22, 23, 22, 23, 22, 22, 22, 22],
    "trainval": [134, 137, 133, 138, 136, 137, 136, 135, 131, 135],
    "test": [44, 45, 44, 45, 45, 45, 45, 44, 43, 45],
}


@pytest.fixture(scope="module", autouse=True)
def _data_are_prepared():
    prepare()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Prepares in an empty folder for the time of a test."""
    monkeypatch.setattr(_prepared, "PREPARED", tmp_path / "prepared")
    yield tmp_path / "prepared"
    _prepared._fingerprint.cache_clear()


def images_of(dataset):
    return np.stack([image.numpy() for image, _ in dataset])


# What the splits hold


@pytest.mark.parametrize("split", CELLS)
def test_number_of_cells_per_split_class_and_type(split):
    defective, poly = labels("solar_cells", split), labels("solar_cells", split, "type")
    assert np.bincount(2 * defective + poly).tolist() == CELLS[split]
    assert abs(defective.mean() - 0.31) < 0.005


@pytest.mark.parametrize("split", DIGITS)
def test_number_of_digits_per_split_and_class(split):
    assert np.bincount(labels("digits", split)).tolist() == DIGITS[split]


def test_cells_are_those_of_the_source_and_none_is_in_two_splits():
    source = {
        Path(name).stem: (float(probability), kind)
        for name, probability, kind in map(
            str.split, (SOURCE / "labels.csv").read_text().splitlines()
        )
    }
    seen = collections.Counter()
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split in ("train", "validation", "test"):
        for cell in tfds.load("solar_cells", split=split, decoders=decoders):
            name = cell["name"].numpy().decode()
            seen[name] += 1
            probability, kind = source[name]
            assert abs(float(cell["probability"]) - probability) < 1e-6
            assert int(cell["label"]) == (probability >= 0.5)
            assert ["mono", "poly"][int(cell["type"])] == kind
            assert cell["image"].numpy() == (SOURCE / f"images/{name}.png").read_bytes()
    assert set(seen) == set(source)
    assert set(seen.values()) == {1}


def test_plain_tfds_gives_the_pixels_of_the_source():
    cell = next(iter(tfds.load("solar_cells", split="test")))
    with Image.open(SOURCE / f"images/{cell['name'].numpy().decode()}.png") as source:
        np.testing.assert_array_equal(cell["image"][..., 0], np.asarray(source))
    image = next(iter(load("solar_cells", "test", channels=1)))[0]
    np.testing.assert_allclose(image * 255, cell["image"], atol=1e-4)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    seen = set()
    for split in ("train", "validation", "test"):
        for digit in tfds.load("digits", split=split):
            number = int(digit["name"].numpy().decode().removeprefix("digit"))
            seen.add(number)
            assert int(digit["label"]) == target[number]
            expected = pixels[number].reshape(8, 8) / 16
            np.testing.assert_allclose(digit["image"][..., 0] / 255, expected, atol=0.002)
    assert seen == set(range(1797))


def test_file_list_follows_the_rule_of_the_readme():
    with solar_cells_dataset_builder.FILES.open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    groups = collections.defaultdict(list)
    for line in (SOURCE / "labels.csv").read_text().splitlines():
        file, *group = line.split()
        groups[tuple(group)].append((rows[file]["sha256"], rows[file]["split"]))
    assert len(groups) == 8
    for cells in groups.values():
        splits = [split for _, split in sorted(cells)]
        assert [split for split, _ in itertools.groupby(splits)] == ["test", "validation", "train"]
        assert abs(splits.count("test") - len(splits) / 4) < 1
        assert abs(splits.count("validation") - len(splits) / 8) < 1


@pytest.mark.parametrize("name", _prepared.EMBEDDED)
def test_builder_tells_licence_citation_and_readme(name):
    info = tfds.builder(name).info
    assert {"solar_cells": "CC BY-NC-SA 4.0", "digits": "CC BY 4.0"}[name] in str(
        info.redistribution_info.license
    )
    assert info.citation.startswith("@") and f"{info.splits['test'].num_examples:,} |" in (
        info.description
    )
    for split, number in {s: i.num_examples for s, i in info.splits.items()}.items():
        assert re.search(rf"`{split}` *\| *{number:,} ", info.description)


# load


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, 64])
def test_shapes_types_and_range(size, channels):
    batches = load("solar_cells", "test", image_size=size, channels=channels, batch_size=30)
    images, target = next(iter(batches))
    assert images.shape == (30, size or 300, size or 300, channels)
    assert (images.dtype, target.dtype, target.shape) == (tf.float32, tf.int64, (30,))
    assert 0 <= images.numpy().min() < 0.1 and 0.9 < images.numpy().max() <= 1
    assert (images.numpy() == images.numpy()[..., :1]).all()
    assert len(batches) == 22 and batches.element_spec[0].shape[1:] == images.shape[1:]


def test_small_images_can_be_enlarged():
    small, large = load("digits", "test", channels=1), load("digits", "test", image_size=32)
    small, large = next(iter(small))[0].numpy(), next(iter(large))[0].numpy()
    assert small.shape == (8, 8, 1) and large.shape == (32, 32, 3)
    blocks = large[..., :1].reshape(8, 4, 8, 4, 1).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), small.ravel())[0, 1] > 0.95


def test_labels_come_in_the_order_of_load():
    for label in ("class", "probability"):
        cells = load("solar_cells", "validation[:60]", label=label)
        in_order = [target.numpy() for _, target in cells]
        np.testing.assert_array_equal(in_order, labels("solar_cells", "validation", label)[:60])
    probability = labels("solar_cells", "trainval", "probability")
    np.testing.assert_allclose(np.unique(probability), [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability >= 0.5, labels("solar_cells", "trainval"))


def test_with_type_gives_label_and_type():
    split = "validation[:60]"
    batches = load("solar_cells", split, label="probability", with_type=True, batch_size=60)
    _, target = next(iter(batches))
    np.testing.assert_array_equal(target["label"], labels("solar_cells", split, "probability"))
    np.testing.assert_array_equal(target["type"], labels("solar_cells", split, "type"))


def test_types_cannot_become_sample_weights():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(loss="mse")
    batches = load("solar_cells", "validation[:8]", image_size=8, with_type=True, batch_size=8)
    with pytest.raises(ValueError, match="structure"):
        model.fit(batches, verbose=0, shuffle=False)


def test_splits_can_be_sliced_and_added():
    np.testing.assert_array_equal(labels("digits", "test[:9]"), labels("digits", "test")[:9])
    assert len(load("digits", "train+test[:9]")) == 1129 + 9


@pytest.mark.parametrize("cache_bytes", [0, utils.data._CACHE_BYTES])
def test_shuffle_differs_by_epoch_and_repeats_with_the_seed(cache_bytes, monkeypatch):
    monkeypatch.setattr(utils.data, "_CACHE_BYTES", cache_bytes)
    plain = images_of(load("digits", "test", channels=1))
    shuffled = load("digits", "test", channels=1, shuffle=True, seed=5)
    first, second = images_of(shuffled), images_of(shuffled)
    assert (first != plain).any() and (first != second).any()
    for epoch in (first, second):
        np.testing.assert_array_equal(
            np.unique(epoch.reshape(445, 64), axis=0), np.unique(plain.reshape(445, 64), axis=0)
        )
    again = load("digits", "test", channels=1, shuffle=True, seed=5)
    np.testing.assert_array_equal(images_of(again), first)
    np.testing.assert_array_equal(images_of(again), second)
    other = load("digits", "test", channels=1, shuffle=True, seed=6)
    assert (images_of(other) != first).any()


def symmetry(image, original):
    return [
        (turns, flip)
        for turns in range(4)
        for flip in (1, -1)
        if np.array_equal(image, np.rot90(original[:, ::flip], turns))
    ]


def test_augment_draws_all_eight_symmetries_anew_in_every_epoch():
    arguments = {"image_size": 16, "channels": 1}
    originals = images_of(load("solar_cells", "test[:100]", **arguments))
    augmented = load("solar_cells", "test[:100]", augment=True, seed=5, **arguments)
    epochs = []
    for _ in range(2):
        drawn = [symmetry(*pair) for pair in zip(images_of(augmented), originals, strict=True)]
        assert all(len(found) == 1 for found in drawn)
        counts = collections.Counter(found[0] for found in drawn)
        assert len(counts) == 8 and max(counts.values()) < 30
        epochs.append(drawn)
    assert epochs[0] != epochs[1]
    again = load("solar_cells", "test[:100]", augment=True, seed=5, **arguments)
    assert [symmetry(*pair) for pair in zip(images_of(again), originals, strict=True)] == epochs[0]
    target = [int(t) for _, t in augmented]
    assert target == labels("solar_cells", "test[:100]").tolist()


def test_later_loads_prepare_nothing_and_labels_decode_nothing(monkeypatch):
    def fail(*_args, **_kwargs):
        raise AssertionError

    monkeypatch.setattr(data.EmbeddedBuilder, "download_and_prepare", fail)
    next(iter(load("solar_cells", "trainval", image_size=160, batch_size=32)))
    monkeypatch.setattr(tfds.features.Image, "decode_example", fail)
    with pytest.raises(AssertionError):
        load("solar_cells", "trainval")
    assert len(labels("solar_cells", "trainval")) == 1968


# Errors are one sentence, and soon there

WRONG = [
    (
        {"name": "solar_cell"},
        "name='solar_cell': expected 'solar_cells' or 'digits', .* did you mean 'solar_cells'",
    ),
    ({"name": "cifar1"}, "name='cifar1': .* did you mean 'cifar10'"),
    ({"name": "qqqqqq"}, r"name='qqqqqq': expected 'solar_cells' or 'digits'.* of TFDS\.$"),
    ({"name": None}, "name=None: expected 'solar_cells'"),
    ({"name": "imdb_reviews"}, "name='imdb_reviews': expected a data set of images"),
    ({"name": "digits/big"}, "name='digits/big': expected a configuration"),
    ({"split": "dev"}, "split='dev': expected 'train', 'validation', 'test', 'trainval'"),
    ({"split": "train[:900%]"}, "split='train.*: expected 'train'"),
    ({"split": "test[3:3]"}, "split='test.*: expected .* not empty"),
    ({"split": None}, "split=None: expected 'train'"),
    *(
        ({"image_size": size}, f"image_size={re.escape(repr(size))}: .* from 8 to 1024")
        for size in (0, -1, 7, 1025, 100_000, 64.0, "64", (64, 64), True)
    ),
    *(
        ({"channels": channels}, f"channels={channels!r}: expected 1 or 3")
        for channels in (2, "3", True)
    ),
    ({"label": "colour"}, "label='colour': expected 'class' or 'probability'"),
    (
        {"name": "digits", "label": "probability"},
        "label='probability': 'digits' has \"class\" only",
    ),
    ({"name": "digits", "with_type": True}, "with_type=True: 'digits' has no types"),
    ({"name": "digits", "augment": True}, "augment=True: a digit .* expected augment=False"),
    *(
        ({"batch_size": size}, f"batch_size={size!r}: expected None or a whole number from 1")
        for size in (0, -2, 2.5, True)
    ),
    *(({"seed": seed}, f"seed={seed!r}: expected a whole number") for seed in (-1, None)),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments(arguments, message, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *names, **_: asked.append(names))
    with pytest.raises(ValueError, match=message) as error:
        load(**{"name": "solar_cells", "split": "train", **arguments})
    assert not asked  # so the error is soon there
    assert str(error.value)[-1] in ".?" and "\n" not in str(error.value)


def test_wrong_arguments_of_labels_and_prepare():
    with pytest.raises(ValueError, match="label='type': 'digits' has"):
        labels("digits", "train", "type")
    with pytest.raises(ValueError, match=r"label='x': expected 'class' or 'prob.* or 'type'"):
        labels("solar_cells", "train", "x")
    with pytest.raises(ValueError, match="names: 'cifar10' is not embedded; expected 'solar_c"):
        prepare(["cifar10"])


# Data sets that are not embedded


def test_without_a_network_the_embedded_choices_are_named(monkeypatch, elsewhere, capfd):
    asked = []

    def fail(host, *_args, **_kwargs):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectionError) as error:
        load("tf_flowers", "train")
    assert len(asked) == 1  # TFDS itself would ask again and again, for minutes
    assert str(error.value) == (
        "name='tf_flowers': it must be downloaded and download.tensorflow.org does not answer; "
        "without a network, use 'solar_cells' or 'digits'."
    )
    assert capfd.readouterr() == ("", "")


def test_a_network_that_swallows_everything_is_given_up_on(monkeypatch, elsewhere):
    over = threading.Event()

    def hang(*_args, **_kwargs):
        over.wait()
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(utils.data, "_NETWORK_SECONDS", 0.2)
    # That this ends at all shows that it does not wait for the look-up, which has no end.
    with pytest.raises(ConnectionError, match="does not answer"):
        load("cifar10", "train")
    over.set()


@pytest.mark.parametrize("status", [200, 403])
def test_any_answer_of_the_host_counts_as_a_network(status, monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "*")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert utils.data._is_reachable(f"http://127.0.0.1:{server.server_port}/file.zip")


class CoursePhotographs(tfds.core.GeneratorBasedBuilder):
    """Stands for a data set of TFDS: colour photographs of several sizes, a single split."""

    VERSION = tfds.core.Version("1.0.0")
    # 20 high: red, a green square brighter to the right, blue.
    SIZES = (30, 40)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "photograph": tfds.features.Image(shape=(None, None, 3)),
                    "species": tfds.features.ClassLabel(num_classes=2),
                }
            ),
            supervised_keys=("photograph", "species"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(24):
            image = np.zeros((20, self.SIZES[number % 2], 3), np.uint8)
            edge = (image.shape[1] - 20) // 2
            image[:, :edge, 0] = image[:, edge + 20 :, 2] = 255
            image[:, edge : edge + 20, 1] = np.linspace(100, 200, 20)
            yield number, {"photograph": image, "species": number % 2}


def test_any_data_set_of_tfds_goes_through_the_same_loader(monkeypatch, elsewhere):
    monkeypatch.setattr(utils.data, "_is_reachable", lambda _: True)
    name = "course_photographs"
    with pytest.raises(ValueError, match="image_size=None: the images of 'course_photographs'"):
        load(name, "train", batch_size=4)
    image, species = next(iter(load(name, "train")))
    assert image.shape == (20, [30, 40][int(species)], 3)

    images, species = next(iter(load(name, "train", image_size=10, batch_size=24)))
    assert sorted(species.numpy()) == [0] * 12 + [1] * 12
    assert images.shape == (24, 10, 10, 3)
    # The central square is green only, and rises to the right.
    assert images.numpy()[..., [0, 2]].max() == 0
    assert (np.diff(images.numpy()[..., 1], axis=2) > 0).all()

    mirrored = images_of(load(name, "train", image_size=10, augment=True, shuffle=True))
    rises = (np.diff(mirrored[..., 1], axis=2) > 0).all(axis=(1, 2))
    falls = (np.diff(mirrored[..., 1], axis=2) < 0).all(axis=(1, 2))
    assert (rises ^ falls).all() and 4 < rises.sum() < 20

    grey = next(iter(load(name, "train", image_size=10, channels=1)))[0]
    assert grey.shape == (10, 10, 1) and 0.2 < grey.numpy().mean() < 0.5
    with pytest.raises(ValueError, match=r"split='trainval': expected 'train', or a part"):
        load(name, "trainval")
    with pytest.raises(ValueError, match="with_type=True: 'course_photographs' has no types"):
        load(name, "train", with_type=True)
    assert (elsewhere / name / "1.0.0").is_dir()


# preprocess

REFERENCES = {
    "symmetric": [
        keras.applications.mobilenet,
        keras.applications.mobilenet_v2,
        keras.applications.xception,
    ],
    "caffe": [keras.applications.resnet],
    "pixels": [keras.applications.efficientnet, keras.applications.mobilenet_v3],
}


@pytest.mark.parametrize("mode", REFERENCES)
def test_preprocess_equals_keras_applications(mode):
    pixels = np.random.default_rng().integers(0, 256, (2, 5, 4, 3)).astype("float32")
    for reference in REFERENCES[mode]:
        expected = reference.preprocess_input(pixels.copy())
        # One rounding of float32 at the size of a pixel value.
        tolerance = 2e-7 if mode == "symmetric" else 2e-5
        for images in (pixels / 255, tf.constant(pixels / 255)):
            result = preprocess(images, mode)
            assert result.dtype == "float32"
            np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)


def test_preprocess_for_lite_networks():
    pixels = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    expected = (pixels - 127) / 128
    np.testing.assert_allclose(preprocess(pixels / 255, "lite"), expected, rtol=0, atol=3e-7)


def test_preprocess_works_in_a_pipeline():
    raw = load("digits", "test[:3]")
    mapped = raw.map(lambda image, target: (preprocess(image, "caffe"), target))
    assert mapped.element_spec == raw.element_spec
    np.testing.assert_allclose(images_of(mapped), preprocess(images_of(raw), "caffe"), atol=1e-4)


def test_preprocess_refuses_what_it_would_spoil():
    images = np.zeros((1, 4, 4, 3), "float32")
    with pytest.raises(ValueError, match='mode=\'imagenet\': expected "symmetric", "caffe"'):
        preprocess(images, "imagenet")
    with pytest.raises(ValueError, match=r"images: expected floats in \[0, 1\], got uint8"):
        preprocess(images.astype("uint8"), "symmetric")
    with pytest.raises(ValueError, match=r"images: .*caffe.* 3 channels, got 1"):
        preprocess(images[..., :1], "caffe")


# Preparation

# Prepares one data set below a folder; waits for a file first, so that two can start together.
PREPARE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from utils import _prepared, data
_prepared.PREPARED = Path(sys.argv[1])
data._tfds()
import tensorflow
Path(sys.argv[3]).touch()
while not (_prepared.PREPARED.parent / "go").exists():
    time.sleep(0.001)
data.prepare([sys.argv[2]])
"""
# Before that: let the 2,600th image, of the third split, wait for ever.
HALT = """
import time, tqdm
class Halting(tqdm.tqdm):
    def update(self, n=1):
        super().update(n)
        while self.n >= 2600:
            time.sleep(1)
tqdm.tqdm = Halting
"""


def start(root, name, ready, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", before + PREPARE, str(root), name, str(ready)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process):
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_killed_preparation_is_noticed_and_redone(elsewhere):
    ready = elsewhere.parent / "ready"
    process = start(elsewhere, "solar_cells", ready, HALT)
    wait_for(ready.exists, process)
    (elsewhere.parent / "go").touch()
    folder = elsewhere / "solar_cells"
    wait_for(lambda: list(folder.glob("incomplete.*/*")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.glob("incomplete.*"))) == 1
    assert not _prepared.is_prepared("solar_cells", elsewhere)

    assert len(load("solar_cells", "trainval")) == 1968
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    assert _prepared.is_prepared("solar_cells", elsewhere)


def test_two_preparations_at_once_wait_for_each_other(elsewhere, capfd):
    ready = elsewhere.parent / "ready"
    process = start(elsewhere, "digits", ready)
    wait_for(ready.exists, process)
    (elsewhere.parent / "go").touch()
    prepare(["digits"])
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (0, ""), err
    own = capfd.readouterr()
    assert own.out == ""
    # One of the two has drawn a bar; how often it drew which part of it is a matter of speed.
    bars = [text for text in (err, own.err) if "Preparing digits:" in text]
    assert len(bars) == 1 and "100%" in bars[0]
    assert re.sub(r"Preparing digits:[^\r\n]*", "", err + own.err).strip() == ""
    assert [path.name for path in (elsewhere / "digits").iterdir()] == ["1.0.0"]
    assert np.bincount(labels("digits", "test")).tolist() == DIGITS["test"]


def test_builder_that_waited_for_another_process_reads_what_that_one_wrote(elsewhere):
    waiting, working = tfds.builder("digits"), tfds.builder("digits")
    working.download_and_prepare()
    waiting.download_and_prepare()
    assert waiting.info.splits["test"].num_examples == 445


def test_prepared_data_are_read_without_a_lock(elsewhere, monkeypatch):
    prepare(["digits"])
    (elsewhere / ".lock").unlink()
    monkeypatch.setattr(_prepared, "locked", None)
    assert len(tfds.load("digits", split="test")) == len(load("digits", "test")) == 445


def spoil_truncated(folder, _):
    file = folder / "digits-test.tfrecord-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-100])


def spoil_missing(folder, _):
    (folder / "digits-train.tfrecord-00000-of-00001").unlink()


def spoil_unfinished(folder, _):
    (folder / "complete.json").unlink()


def spoil_stamp(folder, _):
    (folder / "complete.json").write_text('{"fingerprint"')


def spoil_version(folder, _):
    folder.rename(folder.with_name("0.9.0"))


def spoil_builder(_, monkeypatch):
    builders = _prepared.PREPARED.parent / "builders"
    shutil.copytree(_prepared.BUILDERS, builders, ignore=shutil.ignore_patterns("prepared"))
    with (builders / "digits" / "digits_dataset_builder.py").open("a") as file:
        file.write("# changed\n")
    monkeypatch.setattr(_prepared, "BUILDERS", builders)
    _prepared._fingerprint.cache_clear()


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_truncated,
        spoil_missing,
        spoil_unfinished,
        spoil_stamp,
        spoil_version,
        spoil_builder,
    ],
)
def test_whatever_is_not_complete_and_current_is_redone(spoil, elsewhere, monkeypatch, capfd):
    prepare(["digits"])
    folder = elsewhere / "digits" / "1.0.0"
    (folder.parent / "notes.txt").write_text("a learner's file stays")
    (folder / ".DS_Store").write_text("as does what a file manager leaves")
    stamp = (folder / "complete.json").stat().st_mtime_ns
    prepare(["digits"])
    assert (folder / "complete.json").stat().st_mtime_ns == stamp
    capfd.readouterr()

    spoil(folder, monkeypatch)
    assert not _prepared.is_prepared("digits", elsewhere)
    assert np.bincount(labels("digits", "test")).tolist() == DIGITS["test"]
    assert _prepared.is_prepared("digits", elsewhere)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1.0.0", "notes.txt"]
    out, err = capfd.readouterr()
    assert out == "" and "Preparing digits: 100%" in err


def test_another_file_list_is_another_fingerprint(elsewhere, monkeypatch):
    before = _prepared._fingerprint("solar_cells")
    builders = elsewhere.parent / "builders"
    shutil.copytree(_prepared.BUILDERS, builders, ignore=shutil.ignore_patterns("prepared"))
    monkeypatch.setattr(_prepared, "BUILDERS", builders)
    _prepared._fingerprint.cache_clear()
    assert _prepared._fingerprint("solar_cells") == before
    files = builders / "solar_cells" / "files.tsv"
    files.write_text(files.read_text().replace("cell0001.png\ttrain", "cell0001.png\ttest"))
    _prepared._fingerprint.cache_clear()
    assert _prepared._fingerprint("solar_cells") != before


@pytest.fixture
def copied_source(tmp_path, monkeypatch):
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    for image in (SOURCE / "images").iterdir():
        os.link(image, source / "images" / image.name)
    shutil.copy(SOURCE / "labels.csv", source)
    monkeypatch.setattr(solar_cells_dataset_builder, "_source", lambda: source)
    return source


@pytest.mark.parametrize("name", ["images/cell0001.png", "images/cell0005.png", "labels.csv"])
@pytest.mark.parametrize("damage", ["missing", "empty", "one bit"])
def test_damaged_source_is_noticed(name, damage, copied_source, elsewhere):
    file = copied_source / name
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "one bit":
        content[-1] ^= 1
    if damage != "missing":
        file.write_bytes(content if damage == "one bit" else b"")
    with pytest.raises(RuntimeError) as error:
        load("solar_cells", "train")
    assert str(error.value) == (
        f"solar_cells: {file} is missing or damaged; "
        "run `pip install --force-reinstall --no-deps elpv-dataset==1.0.0.post1`."
    )
    assert list((elsewhere / "solar_cells").iterdir()) == []


def test_changed_digits_are_noticed(monkeypatch, elsewhere):
    monkeypatch.setattr(digits_dataset_builder, "SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="digits: the images in scikit-learn are damaged"):
        prepare(["digits"])


def test_missing_package_is_named(monkeypatch, elsewhere):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="run `pip install elpv-dataset=="):
        prepare(["solar_cells"])


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_prepared_data_are_noticed_without_tensorflow():
    result = run(
        "import runpy, sys; runpy.run_module('utils.data', run_name='__main__');"
        "print({'tensorflow', 'keras', 'tensorflow_datasets', 'numpy'} & set(sys.modules))"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "set()\n", "")


def test_command_reports_an_error_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    result = run(
        "import runpy; from pathlib import Path; from utils import _prepared;"
        f"_prepared.PREPARED = Path({str(tmp_path / 'file' / 'folder')!r});"
        "runpy.run_module('utils.data', run_name='__main__')"
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_plain_tfds_load_after_one_import_says_nothing_and_leaves_home_alone(tmp_path):
    result = run(
        "import data, tensorflow_datasets as tfds;"
        "cells = tfds.load('solar_cells', split='train+validation');"
        "print(len(cells), next(iter(cells))['image'].shape)",
        HOME=str(tmp_path),
    )
    assert (result.returncode, result.stdout) == (0, "1968 (300, 300, 1)\n"), result.stderr
    assert result.stderr == ""
    assert not (tmp_path / "tensorflow_datasets").exists()
    assert not list(tmp_path.rglob("*.tfrecord*"))


@pytest.mark.parametrize("module, where", [("ipykernel.iostream", "out"), ("io", "err")])
def test_bar_of_a_notebook_is_no_warning(monkeypatch, module, where):
    streams = {
        "out": io.StringIO(),
        "err": type("Stream", (io.StringIO,), {"__module__": module})(),
    }
    monkeypatch.setattr(sys, "stdout", streams["out"])
    monkeypatch.setattr(sys, "stderr", streams["err"])
    monkeypatch.setattr(_prepared, "is_prepared", lambda *_: False)
    builder = SimpleNamespace(download_and_prepare=lambda: print("bar", file=sys.stderr))
    builders = SimpleNamespace(builder=lambda _: builder)
    monkeypatch.setattr(utils.data, "_tfds", lambda: builders)
    prepare("digits")
    assert {name: stream.getvalue() for name, stream in streams.items()} == {
        "out": "bar\n" if where == "out" else "",
        "err": "bar\n" if where == "err" else "",
    }
