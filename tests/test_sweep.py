"""The sweep: what each network changes, what it costs, and what its result must bear out."""

import numpy as np
import pytest

from utils import experiments
from utils.cost import count
from utils.efficientnet import scale
from utils.experiments import solar, sweep

MACS = {name: count(model).macs for name, model in zip(sweep.NETWORKS, sweep.models(), strict=True)}


def shape(network):
    """Blocks, channels of the last one, side of the input."""
    blocks = [layer for layer in network.layers if "_block" in layer.name]
    return len(blocks), blocks[-1].output.shape[-1], network.input_shape[1]


def test_base_is_a_small_mobilenet():
    base = sweep.model("base")
    assert shape(base) == (7, 128, 32)
    whole = scale("mobilenet_v1", classes=2)
    assert shape(whole) == (13, 1024, 224)
    assert base.output_shape == (None, 2)


def test_single_ways_change_one_thing_only():
    base = shape(sweep.model("base"))
    for name, network in zip(sweep.NETWORKS, sweep.models(), strict=True):
        same = [one == other for one, other in zip(shape(network), base, strict=True)]
        changed = [
            way
            for way, kept in zip(("depth", "width", "resolution"), same, strict=True)
            if not kept
        ]
        expected = {"base": [], "compound": ["depth", "width", "resolution"]}
        way = name.split(" ")[0]
        assert changed == expected.get(way, [way])


def test_ways_cost_about_the_same():
    ratios = {name: macs / MACS["base"] for name, macs in MACS.items()}
    for way in ("depth", "width", "resolution"):
        costs = sorted(ratio for name, ratio in ratios.items() if name.startswith(way))
        np.testing.assert_allclose(costs, [2, 4, 8], rtol=0.07)
    compound = sorted(ratio for name, ratio in ratios.items() if name.startswith("compound"))
    # Never more than what the single ways may spend.
    assert 3.5 < compound[0] < 4 and 6.5 < compound[1] < 8


def test_grad_cam_is_of_the_first_defective_cells(monkeypatch):
    images, labels = solar.cells("validation", 64)
    defective = np.flatnonzero(labels == 1)[: sweep.PICTURES]
    np.testing.assert_array_equal(sweep.pictured(64), images[defective])
    seen = {}

    def grad_cam(network, images, target, layer):
        seen.update(target=target, layer=layer)
        return images

    monkeypatch.setattr(sweep, "grad_cam", grad_cam)
    sweep.looked_at(sweep.model("depth × 2"))
    assert seen == {"target": 1, "layer": "stage3_block2"}


@pytest.mark.parametrize("seed", [0, 1])
def test_run(seed, monkeypatch, eager):
    whole = solar.cells
    monkeypatch.setattr(solar, "cells", lambda *args: tuple(part[:64] for part in whole(*args)))
    first, again = (sweep.run(sweep.settings("base", seed, epochs=1)) for _ in range(2))
    assert first == again
    # One seed leaves its maps.
    assert ("maps" in first) == (seed == 0)
    assert np.shape(first.get("maps", np.zeros((6, 4, 4)))) == (6, 4, 4)
    assert (first["macs"], first["size"]) == (MACS["base"], 32)


def test_committed_result_is_complete_and_converged():
    found = experiments.result("sweep")
    assert found["summary"] == sweep.summarise(found["jobs"])
    assert [job["settings"] for job in found["jobs"]] == sweep.jobs()
    assert len(found["seeds"]) >= 3
    for job in found["jobs"]:
        result = job["result"]
        assert result["macs"] == MACS[job["settings"]["network"]]
        assert ("maps" in result) == (job["settings"]["seed"] == 0)
        if "maps" in result:
            side = -(-result["size"] // 8)
            assert np.shape(result["maps"]) == (sweep.PICTURES, side, side)
            assert np.max(result["maps"]) > 0
    ways = [row["way"] for row in found["summary"]]
    assert ways == ["base", *3 * ["depth"], *3 * ["width"], *3 * ["resolution"], *2 * ["compound"]]
    for row in found["summary"]:
        assert row["runs"] == len(found["seeds"])
        # The last five epochs are hardly better than the five before.
        assert row["last_change"]["max"] < 0.05
