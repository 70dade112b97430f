"""Plain data: what it is made of, and that it survives the way through JSON."""

import collections
import json
from fractions import Fraction

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from utils.course import sandbox
from utils.course.plain import TooLarge, dumps, loads, plain, size
from utils.course.sandbox import Sandbox


def equal(a, b):
    if isinstance(a, np.ndarray):
        return (
            type(b) is np.ndarray
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and (a == b or a != a)


Point = collections.namedtuple("Point", "x y")
ONE = np.ones((2, 3), "float32")


class Odd:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("no array")


class Text(str):
    """A text with code of its own."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("text", "text"),
        (np.bool_(True), True),
        (np.int8(3), 3),
        (np.float32(0.5), 0.5),
        (np.array(3), np.array(3)),
        (ONE, ONE),
        ([1, (2, ONE)], [1, (2, ONE)]),
        ({"a": 1, 2: [np.int64(3)]}, {"a": 1, "2": [3]}),
        (tf.constant(ONE), ONE),
        (tf.Variable(ONE), ONE),
        (keras.Variable(ONE), ONE),
        (range(3), np.arange(3)),
        (Point(1, 2), np.array([1, 2])),
        (Fraction(1, 4), 0.25),
        (1 + 2j, {"type": "complex"}),
        (ONE * 1j, {"type": "ndarray of complex numbers"}),
        # Numbers of fewer and of more bits than every machine has.
        (np.longdouble(0.5), 0.5),
        (np.ones(2, "longdouble"), np.ones(2)),
        (np.float16(0.5), 0.5),
        (np.ones(2, "float16"), np.ones(2, "float16")),
        (tf.constant(ONE, "bfloat16"), ONE),
        (keras.Variable(ONE, dtype="bfloat16"), ONE),
        ([tf.constant(2, "bfloat16").numpy()], [2.0]),
        (ONE.astype(ml_dtypes.float8_e4m3fn), ONE),
        (ONE.astype(ml_dtypes.float8_e5m2), ONE),
        (np.ones(2, ml_dtypes.int4), np.ones(2, "float32")),
        ({1, 2}, {"type": "set"}),
        (iter([1]), {"type": "list_iterator"}),
        (..., {"type": "ellipsis"}),
        (np.array(["a"]), {"type": "ndarray"}),
        (np.array([None]), {"type": "ndarray"}),
        (Text("a"), {"type": "Text"}),
        (Odd(), {"type": "Odd"}),
        (Fraction(10**400), {"type": "Fraction"}),
        (int, {"type": "type int"}),
        (len, {"type": "builtin_function_or_method len"}),
        (keras.Input((2,)), {"type": "KerasTensor"}),
        (keras.layers.ReLU(), {"type": "ReLU"}),
    ],
)
def test_objects_become_plain(value, expected):
    got = Sandbox().call(lambda: value)["value"]
    if isinstance(expected, dict) and "type" in expected:
        assert got["type"].startswith(expected["type"])
    else:
        assert equal(expected, got), got
    json.dumps(dumps(got))


def test_a_copy_is_made():
    array = np.zeros(3)
    got = plain(array)
    array += 1
    assert np.array_equal(got, np.zeros(3))


def test_what_is_too_large_is_not_copied(monkeypatch):
    large = np.broadcast_to(np.float32(1), (2**10, 2**10, 2**10))
    with pytest.raises(TooLarge, match="a result of 4096 MB, too large to compare"):
        plain([large])
    box = Sandbox()
    assert box.call(lambda: large) == {"error": "a result of 4096 MB, too large to compare"}
    # Calls of one answer count together, and texts and lists as arrays do.
    monkeypatch.setattr(sandbox, "LARGEST", 2 * 2**20)
    box = Sandbox()
    assert "value" in box.call(lambda: ["x" * 2**20])
    assert box.call(lambda: ("x" * 2**20,)) == {"error": "a result of 2 MB, too large to compare"}
    assert size({"a": [1, (2.5, None)], "b": ONE}) == 8 + 1 + (8 + 8 + 8 + 8 + 8) + 1 + 24


def test_a_forged_text_of_very_many_values_is_not_parsed():
    with pytest.raises(ValueError):
        loads("[" + "[]," * 600_000 + "[]]")


@pytest.mark.parametrize(
    "data",
    [
        {"x": [1, 2.5, "a", None, True], "y": (1, (2,)), "z": {}},
        [float("inf"), float("-inf"), float("nan"), -0.0, 1e-300],
        [np.zeros((0, 3)), np.array(5), np.arange(6).reshape(2, 3)[:, ::2], np.array([True])],
        [np.arange(3, dtype=">i2"), np.float64([np.nan, np.inf]), np.array([2**63], "uint64")],
        {"array": [1], "tuple": 2, "dict": {"float": "inf"}},
        10**30,
    ],
    ids=range(6),
)
def test_plain_data_survives(data):
    assert equal(data, loads(dumps(data)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"array": [1]}',
        '{"array": ["<f4", [2], "AAAA"]}',
        '{"array": ["O", [1], "AAAAAAAAAAA="]}',
        '{"array": ["<U1", [1], "AAAA"]}',
        '{"array": ["<f4", [2, 3], "!"]}',
        '{"array": null}',
        '{"tuple": 3}',
        '{"dict": [1]}',
        '{"float": "high"}',
        '{"float": null}',
        '{"other": 1}',
        '{"dict": {}, "tuple": []}',
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=range(15),
)
def test_forged_text_is_a_value_error(text):
    with pytest.raises(ValueError):
        loads(text)
