import collections
import io
import os
import pickle
import sys
import tracemalloc
import types

import numpy as np
import pytest

from utils.torch_file import MAGIC, VERSION, RefusedPickle, read_torch


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values


class View:
    """Pickled as torch pickles a tensor."""

    def __init__(self, storage, offset, shape, steps):
        self.parts = storage, offset, shape, steps

    def __reduce__(self):
        hooks = collections.OrderedDict()
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (*self.parts, False, hooks)


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Writes files in torch's legacy format, without torch."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("only named in the file, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)

    def write(content, head=(MAGIC, VERSION, {"little_endian": True}), tail=b""):
        storages = {}

        class Pickler(pickle.Pickler):
            def persistent_id(self, item):
                if not isinstance(item, Storage):
                    return None
                key = str(id(item))
                storages[key] = item
                kind = getattr(torch, item.kind)
                return ("storage", kind, key, "cpu", len(item.values), None)

        file = io.BytesIO()
        for part in head:
            pickle.dump(part, file, protocol=2)
        Pickler(file, protocol=2).dump(content)
        pickle.dump(sorted(storages), file, protocol=2)
        for key in sorted(storages):
            values = storages[key].values
            file.write(len(values).to_bytes(8, "little") + values.tobytes())
        path = tmp_path / "weights.pth"
        path.write_bytes(file.getvalue() + tail)
        return path

    # Nothing may be imported for a file that is read: the stand-ins are for writing alone.
    def write_and_forget(*args, **options):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            path = write(*args, **options)
        return path

    return write_and_forget


def floats(*values):
    return Storage("FloatStorage", np.array(values, "<f4"))


def weights():
    storage = floats(*range(12))
    steps = Storage("LongStorage", np.array([7], "<i8"))
    return collections.OrderedDict(
        [
            ("whole", View(storage, 0, (3, 4), (4, 1))),
            ("turned", View(storage, 0, (4, 3), (1, 4))),
            ("part", View(storage, 5, (2, 2), (4, 1))),
            ("none", View(storage, 12, (0, 4), (4, 1))),
            ("steps", View(steps, 0, (), ())),
        ]
    )


def test_views_of_one_storage(save):
    arrays = read_torch(save(weights()))
    whole = np.arange(12, dtype="float32").reshape(3, 4)
    assert list(arrays) == ["whole", "turned", "part", "none", "steps"]
    np.testing.assert_array_equal(arrays["whole"], whole)
    np.testing.assert_array_equal(arrays["turned"], whole.T)
    np.testing.assert_array_equal(arrays["part"], whole[1:, 1:3])
    assert arrays["none"].shape == (0, 4)
    assert arrays["steps"] == 7
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        **dict.fromkeys(("whole", "turned", "part", "none"), "float32"),
        "steps": "int64",
    }
    arrays["whole"][:] = 0  # each is a copy, which can be written to
    assert arrays["turned"].any()


class Call:
    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("place", ["head", "content", "inside", "state"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, f"{os.name}.mkdir"), (eval, "__builtin__.eval"), (getattr, "__builtin__.getattr")],
)
def test_other_functions_are_refused_by_name_and_not_run(save, tmp_path, place, function, name):
    target = tmp_path / "made"
    args = {
        os.mkdir: (str(target),),
        eval: (f"__import__('os').mkdir({str(target)!r})",),
        getattr: ("text", "upper"),
    }[function]
    content, head = weights(), [MAGIC, VERSION, {}]
    call = Call(function, *args)
    if place == "head":
        head[2] = call
    elif place == "content":
        content = call
    elif place == "inside":
        content["whole"] = call
    else:
        content._metadata = call
    path = save(content, head)
    with pytest.raises(RefusedPickle, match=rf"weights.pth: refused, because it asks for {name}"):
        read_torch(path)
    assert not target.exists()
    # The same bytes are harmful where nothing holds them back.
    if function is not getattr and place == "head":
        with path.open("rb") as file:
            for _ in range(3):
                pickle.load(file)
        assert target.exists()


def test_other_names_of_known_modules_are_refused(save):
    for function in (collections.ChainMap, collections.OrderedDict.fromkeys):
        with pytest.raises(RefusedPickle, match=r"asks for (collections|__builtin__)\."):
            read_torch(save({"a": Call(function)}))
    with pytest.raises(RefusedPickle, match=r"asks for torch\.HalfStorage"):
        read_torch(save({"a": View(Storage("HalfStorage", np.zeros(2, "<f2")), 0, (2,), (1,))}))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ((0, (13,), (1,)), "larger than its storage"),
        ((1, (3, 4), (4, 1)), "larger than its storage"),
        ((0, (2,), (12,)), "larger than its storage"),
        ((0, (10**15,), (0,)), "larger than its storage"),
        ((-1, (2,), (1,)), "negative or broken sizes"),
        ((5, (2,), (-1,)), "negative or broken sizes"),
        ((0, (2.0,), (1,)), "negative or broken sizes"),
        ((0, (2, 2), (1,)), "without a storage or a shape"),
    ],
)
def test_views_outside_of_their_storage_are_refused(save, view, message):
    with pytest.raises(ValueError, match=message):
        read_torch(save({"a": View(floats(*range(12)), *view)}))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ([1, 2], {}, "something other than a dictionary of tensors"),
        ({"a": 1}, {}, "something other than a dictionary of tensors"),
        ({1: View(floats(1), 0, (1,), (1,))}, {}, "something other than a dictionary"),
        ({}, {"head": (MAGIC + 1, VERSION, {})}, "does not begin as such files do"),
        ({}, {"head": (MAGIC, 1000, {})}, "does not begin as such files do"),
        ({}, {"tail": b"more"}, "something follows after its end"),
    ],
)
def test_other_contents_get_a_sentence(save, content, options, message):
    with pytest.raises(ValueError, match=rf"weights.pth: truncated, damaged, .*\(.*{message}"):
        read_torch(save(content, **options))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; expected one that torch.save wrote"),
        (b"PK\x03\x04" + bytes(100), "a zip file, as torch.save writes them since torch 1.6"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "truncated, damaged, or not a file of weights"),
        (b"<html>404</html>", "truncated, damaged, or not a file of weights"),
        (bytes(1000), "truncated, damaged, or not a file of weights"),
        (pickle.dumps({"a": 1}), "it does not begin as such files do"),
    ],
)
def test_foreign_files_get_a_sentence(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_torch(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_few_bytes_cannot_ask_for_gigabytes(save):
    """Remembering at place n makes the unpickler reserve room for n things."""
    path = save(weights())
    content = path.read_bytes()
    place = content.index(b"]q\x00")  # the list of keys, remembered at place 0
    far = b"r" + (2**31).to_bytes(4, "little")
    path.write_bytes(content[: place + 1] + far + content[place + 3 :])
    tracemalloc.start()
    with pytest.raises(ValueError, match="remembers something at a place out of order"):
        read_torch(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_file_cut_anywhere_gets_a_sentence(save):
    path = save(weights())
    content = path.read_bytes()
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="truncated, damaged"):
            read_torch(path)


def test_a_damaged_file_is_read_or_refused(save):
    """Whatever byte is wrong: arrays or a ValueError, and never another error."""
    path = save(weights())
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            arrays = read_torch(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert refused > len(content) / 2


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        read_torch(tmp_path / "nowhere.pth")
