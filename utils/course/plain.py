"""Plain data: what a probe may hand to a judge, in one process or across two.

Plain data is None, bool, int, float, str, a NumPy array of numbers, and lists, tuples and
dictionaries (with string keys) of these. `plain` turns what a learner's code returns into it,
`dumps` and `loads` carry it between processes as JSON, so that nothing is ever unpickled.
"""

import base64
import json
import math
import numbers

import numpy as np

# What a judge compares is small: an image, or the weights of a small network.
LARGEST = 32 * 2**20
_MANY = 1_000_000


class TooLarge(ValueError):
    """More data than a judge compares."""

    def __init__(self, size: float):
        super().__init__(f"a result of {size / 2**20:.0f} MB, too large to compare")


def plain(value):
    """Turn an object into plain data; what has no plain form becomes `{"type": its name}`.

    Args:
        value: any object. Tensors and array-likes become NumPy arrays, NumPy scalars and fractions
            become Python numbers. Floats that other machines do not have, such as bfloat16, become
            the next wider ones; those that are wider than 64 bits become 64 bits wide.

    Returns:
        Plain data that compares and prints without the object's own code.

    Raises:
        TooLarge: an array takes more than `LARGEST` bytes.

    >>> plain((np.float32(2), None))
    (2.0, None)
    >>> plain(object())
    {'type': 'object'}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    if type(value) is dict:
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, type) or callable(value):
        return {"type": f"{type(value).__name__} {getattr(value, '__name__', '')}".strip()}
    try:
        array = np.asarray(value)
    except Exception:
        array = np.asarray(None)
    if array.nbytes > LARGEST:
        raise TooLarge(array.nbytes)
    if array.dtype.isbuiltin == 2:  # bfloat16 and other small numbers of ml_dtypes
        array = array.astype("float32")
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype("float64")
    if array.dtype.kind == "c" and array.ndim:
        return {"type": f"{type(value).__name__} of complex numbers"}
    if array.dtype.kind not in "biuf":
        return _number(value)
    if array.ndim == 0 and not hasattr(value, "shape"):
        return array.item()
    return array.item() if isinstance(value, np.generic) else np.array(array)


def _number(value):
    try:
        return float(value) if isinstance(value, numbers.Real) else {"type": type(value).__name__}
    except Exception:
        return {"type": type(value).__name__}


def size(data) -> int:
    """Return about how many bytes plain data takes.

    >>> size(np.zeros(10)), size([1, 2])
    (80, 24)
    """
    if isinstance(data, np.ndarray):
        return data.nbytes
    if isinstance(data, str):
        return len(data)
    if isinstance(data, dict):
        return 8 + sum(len(key) + size(value) for key, value in data.items())
    return 8 + (sum(map(size, data)) if isinstance(data, list | tuple) else 0)


def dumps(data) -> str:
    """Write plain data as JSON text.

    >>> loads(dumps({"x": np.arange(2), "y": (1, float("inf"))}))
    {'x': array([0, 1]), 'y': (1, inf)}
    """
    return json.dumps(_encode(data))


def loads(text: str):
    """Read plain data back from the text that `dumps` wrote.

    Raises:
        ValueError: if the text is not what `dumps` writes.
    """
    # A forged text of brackets and commas would take fifty times its size.
    if sum(map(text.count, "[{,")) > _MANY:
        raise ValueError("more values than a probe returns")
    try:
        return _decode(json.loads(text))
    except Exception as error:  # whatever a forged text leads NumPy or the parser into
        raise ValueError("not the plain data of a probe") from error


def _encode(data):
    if isinstance(data, np.ndarray):
        raw = base64.b64encode(np.ascontiguousarray(data).tobytes()).decode()
        return {"array": [data.dtype.str, list(data.shape), raw]}
    if isinstance(data, tuple):
        return {"tuple": [_encode(item) for item in data]}
    if isinstance(data, list):
        return [_encode(item) for item in data]
    if isinstance(data, dict):
        return {"dict": {key: _encode(item) for key, item in data.items()}}
    if isinstance(data, float) and not math.isfinite(data):
        return {"float": str(data)}
    return data


def _decode(data):
    if isinstance(data, list):
        return [_decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise ValueError("not the plain data of a probe")
    kind, body = next(iter(data.items()))
    if kind == "array":
        dtype = np.dtype(body[0])
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ValueError(f"an array of {dtype} is not plain data")
        return np.frombuffer(base64.b64decode(body[2]), dtype).reshape(body[1]).copy()
    if kind == "tuple":
        return tuple(_decode(item) for item in body)
    if kind == "dict":
        return {key: _decode(item) for key, item in body.items()}
    if kind == "float":
        return float(body)
    raise ValueError(f"{kind!r} is not a kind of plain data")
