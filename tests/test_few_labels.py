"""Three ways of training with few labels: who is chosen, what learns, what the result says."""

import functools

import numpy as np
import pytest

from utils import experiments, transfer
from utils.data import labels
from utils.efficientnet import EfficientNet
from utils.experiments import few_labels

TARGETS = np.array([0] * 70 + [1] * 30)


def test_fewer_cells_are_among_more_and_keep_the_shares():
    for seed in range(3):
        few, more = (few_labels.chosen(TARGETS, number, seed) for number in (20, 50))
        assert set(few) <= set(more)
        assert len(set(more)) == 50
        assert TARGETS[few].sum() == 6
        assert TARGETS[more].sum() == 15
    assert not np.array_equal(
        few_labels.chosen(TARGETS, 20, seed=0), few_labels.chosen(TARGETS, 20, seed=1)
    )
    np.testing.assert_array_equal(few_labels.chosen(TARGETS, 100, seed=0), np.arange(100))


def test_scratch_starts_elsewhere_and_the_others_with_imagenet():
    scratch, frozen, tuned = few_labels.models()
    stems = [model.get_layer("stem").get_weights()[0] for model in (scratch, frozen, tuned)]
    np.testing.assert_array_equal(stems[1], stems[2])
    assert np.abs(stems[0] - stems[1]).max() > 0.1


def thin(input_shape, weights, **options):
    """A network in place of Lite0; what that one begins with is tested above."""
    return EfficientNet(0.25, 0.25, input_shape[0], lite=True, **options)


@pytest.mark.parametrize("way", few_labels.WAYS)
def test_run(way, monkeypatch, eager):
    monkeypatch.setattr(few_labels, "SIZE", 32)
    monkeypatch.setattr(few_labels, "EfficientNetLite0", thin)
    monkeypatch.setattr(transfer, "fit_head", functools.partial(transfer.fit_head, epochs=1))
    settings = {**few_labels.settings(way, 50, seed=0), "epochs": 1, "number": 16}
    seen = few_labels.run(settings)
    assert len(seen["loss"]) == (0 if way == "frozen" else 1)
    share = np.mean(labels("solar_cells", "validation") == 0)
    assert seen["majority"] == pytest.approx(share, abs=1e-3)
    for name in ("train_accuracy", "accuracy", "balanced_accuracy", "roc_auc"):
        assert 0 <= seen[name] <= 1
    assert "confusion" not in seen


def test_committed_result_bears_out_the_lesson():
    found = experiments.result("few_labels")
    assert found["summary"] == few_labels.summarise(found["jobs"])
    assert [job["settings"] for job in found["jobs"]] == few_labels.jobs()
    rows = {(row["way"], row["number"]): row for row in found["summary"]}
    assert len(rows) == 9
    for row in rows.values():
        assert row["runs"] == len(found["seeds"]) >= 3
    for number in few_labels.NUMBERS:
        scratch, frozen, tuned = (rows[way, number]["roc_auc"]["mean"] for way in few_labels.WAYS)
        assert scratch < frozen < tuned
        # What is trained from scratch has learnt something of its own cells.
        assert rows["scratch", number]["train_accuracy"]["mean"] > 0.85
    assert rows["tuned", 200]["accuracy"]["min"] > rows["scratch", 1640]["accuracy"]["max"]
