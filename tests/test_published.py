import json

import pytest

from utils import published
from utils.cost import count
from utils.residual import ResNet


@pytest.mark.parametrize("path", sorted(published.FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_rows_are_complete(path):
    for row in published.rows(path.stem):
        assert set(row) <= {
            *("model", "variant", "resolution", "params", "macs", "top1", "source"),
            *("params_count", "macs_count", "not_reproduced", "note"),
        }
        assert row["source"]
        assert row.get("params_count", "params") in published.PARAMS_COUNTS
        assert row.get("macs_count", "macs") in published.MACS_COUNTS
        assert all(row[column] for column in row.get("not_reproduced", ()))


def test_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"family='vgg': expected one of .*'residual'"):
        published.rows("vgg")


@pytest.mark.parametrize(
    ("printed", "value", "expected"),
    [
        ("569M", 568_000_001, True),
        ("569M", 570_000_000, True),
        ("569M", 570_100_000, False),
        ("0.1M", 200_000, True),
        ("159Ki", 158 * 1024, True),
        ("11689512", 11_689_513, True),
        ("11689512", 11_689_514, False),
        ("94.86%", 0.94864, True),
        ("94.86%", 0.9490, False),
    ],
)
def test_agreement_is_one_in_the_last_digit(printed, value, expected):
    assert published.agrees(printed, value) == expected


def test_conventions_differ_as_their_names_say():
    cost = count(ResNet(18))
    row = {"params": "1M", "macs": "1M"}
    by_params = {
        name: published.computed({**row, "params_count": name}, cost)["params"]
        for name in published.PARAMS_COUNTS
    }
    assert by_params == {
        "params": 11_689_512,
        "kernels": 11_689_512 - 9_600 - 1_000,
        "kernels and biases": 11_689_512 - 9_600,
        "params and statistics": 11_689_512 + 9_600,
        "three vectors a norm": 11_689_512 + 4_800,
    }
    headless = published.computed({**row, "macs_count": "macs without dense layers"}, cost)
    assert cost.macs - headless["macs"] == 512 * 1000


def test_table_marks_what_is_off(tmp_path):
    row = {"variant": "ResNet-18", "resolution": 224, "params": "11689512", "macs": "2.8G"}
    (tmp_path / "x.json").write_text(json.dumps([row, {**row, "macs": None}]))
    table = published.table(
        published.rows("x", tmp_path), lambda _: count(ResNet(18)), notes=["≠ A note."]
    )
    assert table.headers == [
        *("network", "input", "parameters", "published", "ratio"),
        *("multiply-adds", "published", "ratio"),
    ]
    assert table.rows[0][2:5] == ["11,689,512", "11,689,512", "1.000"]
    assert table.rows[0][5:] == ["1.81 G", "2.8 G", "≠ 0.648"]
    assert table.rows[1][4:] == ["1.000", "–", "–", "–"]
    assert table.notes == ["≠ A note."]


def test_table_leaves_out_what_no_row_gives():
    table = published.table(published.rows("residual")[:1], lambda _: count(ResNet(18)))
    assert table.headers == ["network", "input", "multiply-adds", "published", "ratio"]
