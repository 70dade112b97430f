import keras
import numpy as np
import pytest

from tests.helpers import applications, assert_same_function, difference, images, randomise
from utils.cost import count
from utils.weights import copy_in_order, from_keras_applications


@pytest.fixture(scope="module")
def resnet50():
    return randomise(applications("ResNet50", 64))


@pytest.mark.parametrize("size", [64, 65])
def test_resnet50_returns_the_same_logits(resnet50, size):
    original = resnet50
    if size != 64:
        original = applications("ResNet50", size)
        original.set_weights(resnet50.get_weights())
    assert_same_function(from_keras_applications(original), original, images(4, size, size, 3))


def test_resnet152_returns_the_same_logits():
    original = randomise(applications("ResNet152", 32))
    ours = from_keras_applications(original)
    assert ours.name == "resnet152"
    assert difference(ours, original, images(2, 32, 32, 3)) <= 1e-4


def test_without_the_classifier(resnet50):
    features = keras.Model(resnet50.input, resnet50.get_layer("conv5_block3_out").output)
    ours = from_keras_applications(features)
    assert ours.output_shape == (None, 2, 2, 2048)
    assert difference(ours, features, images(2, 64, 64, 3)) <= 1e-4


def test_biases_go_into_the_norm_and_weights_are_copied(resnet50):
    ours = from_keras_applications(resnet50)
    assert count(ours).biases == 10
    assert count(resnet50).params - count(ours).params == 26_560
    conv, norm = resnet50.get_layer("conv1_conv"), resnet50.get_layer("conv1_bn")
    mean = norm.moving_mean.numpy() - conv.bias.numpy()
    copied = ours.get_layer("stem").norm.moving_mean
    np.testing.assert_allclose(copied.numpy(), mean, 1e-6)
    norm.moving_mean.assign(norm.moving_mean + 1)
    np.testing.assert_allclose(copied.numpy(), mean, 1e-6)


def test_classifier_keeps_its_activation():
    original = applications("ResNet50", 32, classes=7, classifier_activation="softmax")
    ours = from_keras_applications(original).layers[-1]
    assert ours.get_config()["activation"] == "softmax"
    assert ours.units == 7


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DenseNet121", {}),
        ("ResNet50V2", {}),
        ("ResNet50", {"include_top": False, "pooling": "avg"}),
    ],
)
def test_other_models_are_refused(name, options):
    model = applications(name, 32, **options)
    message = f"model='{model.name}': expected a model of keras.applications without pooling, "
    with pytest.raises(ValueError, match=message + r"one of .*ResNet50, ResNet101, ResNet152"):
        from_keras_applications(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="model='resnet50': expected a model of"):
        from_keras_applications("resnet50")


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
    with pytest.raises(ValueError, match=r"expected the layers of .* they part at layer 'dense"):
        copy_in_order(source, other)
    for old, new in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
