import functools

import keras
import numpy as np
import pytest

from utils import experiments, transfer
from utils.blocks import ConvBlock
from utils.data import labels
from utils.experiments import headline, recipes

pytestmark = pytest.mark.usefixtures("eager")


def noise(split, size=8):
    """The labels of a split with pictures that show nothing."""
    probabilities = labels("solar_cells", split, label="probability")
    images = np.random.default_rng(0).normal(size=(len(probabilities), 8, 8, 1))
    return images.astype("float32"), probabilities


def small(*_):
    inputs = keras.Input((None, None, 3))
    return transfer.attach_head(keras.Model(inputs, ConvBlock(4, 3, 4)(inputs)), 2)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Every experiment with noise of 8 pixels as cells and a network of one convolution."""
    monkeypatch.setattr(recipes, "cells", noise)
    monkeypatch.setattr(recipes, "model", small)
    monkeypatch.setattr(recipes, "CACHE", tmp_path)
    monkeypatch.setattr(transfer, "fit_head", functools.partial(transfer.fit_head, epochs=1))
    return tmp_path


def test_halves_share_no_cell_and_have_the_same_mix():
    parts = recipes.folds()
    assert sorted(np.concatenate(parts)) == list(range(1968))
    for kind in ("probability", "type"):
        values = labels("solar_cells", "trainval", label=kind)
        means = [values[part].mean() for part in parts]
        assert np.ptp(means) < 0.002


def test_cross_validation_learns_one_half_and_judges_the_other(tiny, monkeypatch):
    learned = []
    fine_tune = transfer.fine_tune

    def watched(network, images, targets, **options):
        learned.append((images, targets))
        return fine_tune(network, images, targets, **options)

    monkeypatch.setattr(transfer, "fine_tune", watched)
    seen = recipes.run({**recipes.settings("160 px", 1), "sizes": [[160, 1]]})
    assert len(seen["loss"]) == 1 and set(seen["turns"]) == {"1", "4"}
    probabilities = labels("solar_cells", "trainval", label="probability")
    (images,), targets = learned[0]
    assert len(images) == 984
    np.testing.assert_allclose(targets[:, 1], probabilities[recipes.folds()[0]])


def test_a_size_that_grows_has_its_epochs(tiny, monkeypatch):
    sizes = []
    monkeypatch.setattr(recipes, "cells", lambda split, size: sized(split, size, sizes))
    settings = {**recipes.settings("160, then 224 px", 0), "sizes": [[8, 2], [12, 1]]}
    _, losses = recipes.train(settings, chosen=np.arange(32))
    assert sizes == [8, 12] and len(losses) == 3
    assert not list(tiny.iterdir())


def sized(split, size, seen):
    seen.append(size)
    images = np.random.default_rng(size).normal(size=(40, size, size, 1)).astype("float32")
    return images, np.tile([0, 1 / 3, 2 / 3, 1], 10)


def test_headline_predicts_the_test_cells(tiny):
    seen = headline.run({**headline.settings(3), "sizes": [[160, 1]]})
    expected = labels("solar_cells", "test")
    assert seen["truth"] == expected.tolist()
    said = np.array(seen["probability"]) >= 500
    assert seen["accuracy"] == pytest.approx((said == expected).mean())
    assert seen["megabytes"] > 100


def test_the_frozen_recipe_is_the_first_of_the_cross_validation():
    rows = experiments.result("recipes")["summary"]
    assert rows[0]["recipe"] == headline.RECIPE
    best = max(rows, key=lambda row: max(recipes.accuracy(row, turns) for turns in recipes.TURNS))
    assert best["recipe"] == headline.RECIPE


def test_the_committed_headline_is_what_its_runs_say():
    result = experiments.result("headline")
    ours = result["summary"]
    runs = [job["result"] for job in result["jobs"]]
    assert ours["runs"] == len(runs) >= 5
    expected = labels("solar_cells", "test")
    right = []
    for run in runs:
        assert run["truth"] == expected.tolist()
        right.append((np.array(run["probability"]) >= 500) == expected)
    assert ours["accuracy"]["mean"] == pytest.approx(np.mean(right), abs=1e-4)
    low, high = ours["interval"]
    assert low < np.mean(right) < high
    assert ours["beats"] == (100 * low > headline.TO_BEAT)
    assert ours["params"] <= 4.7e6
    assert max(job["processor_seconds"] for job in result["jobs"]) <= 20 * 60
