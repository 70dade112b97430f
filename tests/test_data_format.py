"""Under Keras' setting "channels_first" nothing is built, and the error names the setting."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest

import utils
from tests.backends import LAYERS, registered
from utils.blocks import ImageLayer, classifier
from utils.efficientnet import scale
from utils.shufflenet import channel_shuffle

REQUIRED = {"ResNet": {"depth": 50}, "ResNetCIFAR": {"depth": 8}}
MODULES = [
    importlib.import_module(f"utils.{info.name}")
    for info in pkgutil.iter_modules(utils.__path__)
    if not info.ispkg and not info.name.startswith("_")
]
# As the field does, the course gives builders of models a name in capitals.
BUILDERS = {
    name: function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if name[0].isupper() and function.__module__ == module.__name__
}


@pytest.fixture
def _channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


REFUSED = "image_data_format='channels_first': expected 'channels_last'"


@pytest.mark.usefixtures("_channels_first")
@pytest.mark.parametrize("name", BUILDERS)
def test_no_model_is_built(name):
    with pytest.raises(ValueError, match=REFUSED):
        BUILDERS[name](**REQUIRED.get(name, {}))


def test_builders_are_found():
    assert {"MobileNetV2", "NiN", "ResNet50", "Xception", "SqueezeNet"} <= BUILDERS.keys()


@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_is_made_or_built(name, request):
    layer = registered()[name]
    options, shape = LAYERS[name][0]
    early = layer(**options)
    request.getfixturevalue("_channels_first")
    with pytest.raises(ValueError, match=REFUSED):
        layer(**options)
    # One that was made before the setting changed would build Keras layers under it.
    with pytest.raises(ValueError, match=REFUSED):
        early.build((None, *shape))


def test_every_layer_of_the_course_is_one_for_images():
    assert all(issubclass(layer, ImageLayer) for layer in registered().values())
    assert registered().keys() == LAYERS.keys()


@pytest.mark.usefixtures("_channels_first")
@pytest.mark.parametrize(
    "use",
    [
        lambda: classifier(keras.Input((7, 7, 8)), 3),
        lambda: channel_shuffle(np.ones((1, 4, 4, 6)), 3),
        lambda: scale("resnet50"),
    ],
)
def test_nothing_else_reads_channels_wrongly(use):
    with pytest.raises(ValueError, match=REFUSED):
        use()
