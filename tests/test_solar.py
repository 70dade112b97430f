import keras
import numpy as np
import pytest

from utils.blocks import classifier
from utils.data import labels
from utils.experiments import solar


def linear(size=16):
    keras.utils.set_random_seed(1)
    image = keras.Input((size, size, 1))
    x = keras.layers.Flatten()(image)
    return keras.Model(image, keras.layers.Dense(2)(x))


def test_cells_are_in_the_range_of_the_networks_and_in_order():
    images, classes = solar.cells("validation", 16)
    assert -1 <= images.min() < -0.5
    assert 0 < images.max() <= 1
    np.testing.assert_array_equal(classes, labels("solar_cells", "validation"))


def test_an_epoch_sees_each_cell_once_in_one_of_eight_turns():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 3, 3, 1)).astype("float32")
    batches = solar._Turned(images, np.arange(64), seed=3)
    seen = [batches[index] for index in range(len(batches))]
    order = np.concatenate([classes for _, classes in seen])
    np.testing.assert_array_equal(np.sort(order), np.arange(64))
    turns = set()
    for image, index in zip(np.concatenate([x for x, _ in seen]), order, strict=True):
        squares = [
            np.rot90(flip, k) for flip in (images[index], images[index][:, ::-1]) for k in range(4)
        ]
        matches = [place for place, square in enumerate(squares) if (square == image).all()]
        assert len(matches) == 1
        turns.update(matches)
    assert turns == set(range(8))
    batches.on_epoch_begin()
    assert (batches[0][1] != seen[0][1]).any()


def test_training_is_repeatable_and_learns():
    first, second = (solar.train(linear(), 16, 3, seed=0, split="train[:256]") for _ in range(2))
    assert first == second
    assert len(first["loss"]) == 3
    assert first["loss"][-1] < first["loss"][0]
    other = solar.train(linear(), 16, 3, seed=1, split="train[:256]")
    assert other["loss"] != first["loss"]


def test_scores_are_those_of_the_validation_cells():
    image = keras.Input((16, 16, 1))
    x = keras.layers.BatchNormalization()(image)  # something to train that changes nothing
    network = keras.Model(image, classifier(x, 2, activation=None))
    network.layers[-1].trainable = False
    network.layers[-1].bias.assign([1.0, 0.0])
    network.layers[-1].kernel.assign([[0.0, 0.0]])
    seen = solar.train(network, 16, 1, seed=0, split="train[:32]")
    share = labels("solar_cells", "validation").mean()
    assert seen["val_accuracy"] == pytest.approx(1 - share, abs=1e-3)
    assert (seen["recall"], seen["specificity"], seen["balanced_accuracy"]) == (0, 1, 0.5)
