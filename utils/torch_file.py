"""Reads the weights in a file that `torch.save` wrote, without torch and without running it.

Such a file holds pickles, and a pickle is a program: it can name any function and have it called.
`read_torch` lets it name the four things that a dictionary of weights needs, and nothing else.
"""

import collections
import math
import pickle
import pickletools
from pathlib import Path

import numpy as np

# The legacy format: five pickles one after the other (this number, a version, sizes of C types, the
# object, the keys of its storages), then each storage: how many elements, and the elements.
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class RefusedPickle(ValueError):
    """A pickle names something that a dictionary of weights does not need.

    >>> issubclass(RefusedPickle, ValueError)
    True
    """


class _Storage:
    """Room for numbers that stand at the end of the file, and are read last."""

    def __init__(self, dtype, size):
        self.dtype, self.size, self.values = dtype, size, None


class _Tensor:
    """A view of a storage: a place, lengths and steps, in elements."""

    def __init__(self, storage, offset, shape, steps):
        shape, steps = tuple(shape), tuple(steps)
        numbers = (offset, *shape, *steps)
        if not isinstance(storage, _Storage) or len(shape) != len(steps):
            raise ValueError("a tensor without a storage or a shape")
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a tensor of negative or broken sizes")
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        # A view outside of its storage would read foreign memory, and a small storage that is read
        # again and again would fill ours.
        if 0 not in shape and max(last, math.prod(shape) - 1) >= storage.size:
            raise ValueError("a tensor that is larger than its storage")
        self.storage, self.offset, self.shape, self.steps = storage, offset, shape, steps

    def array(self):
        dtype = self.storage.dtype
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        view = np.lib.stride_tricks.as_strided(
            self.storage.values[self.offset :],
            self.shape,
            [step * dtype.itemsize for step in self.steps],
        )
        return view.astype(dtype.newbyteorder("="))  # a copy, of the machine's byte order


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

        # A function of this reader alone, so that nothing a pickle does to it outlives the file.
        def rebuild(storage, offset, shape, steps, *_):
            return _Tensor(storage, offset, shape, steps)

        self.known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): rebuild,
            **{("torch", name): name for name in STORAGES},
        }

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise RefusedPickle(f"{module}.{name}")
        return self.known[module, name]

    def persistent_load(self, pid):
        kind, storage, key, _, size, *_ = pid
        if kind != "storage" or storage not in STORAGES or type(size) is not int:
            raise ValueError("a reference to something that is not a storage")
        return self.storages.setdefault(key, _Storage(STORAGES[storage], size))


def read_torch(path):
    """Return the arrays in a file that `torch.save(model.state_dict(), path)` wrote.

    The file must have torch's legacy format, which was the default before torch 1.6, and hold a
    dictionary of tensors of float32 or int64. If it asks for any function or class that such a
    dictionary does not need, it is refused before anything of that is imported or called.

    Args:
        path: where the file is.

    Returns:
        A dictionary of names and numpy arrays, in the order of the file. Convolution kernels have
        torch's order of axes: output channels, input channels, height, width.

    Raises:
        RefusedPickle: the file asks for anything else; the message names it. It is a ValueError.
        ValueError: the file is truncated, empty, or of another format.
        OSError: the file cannot be read.

    >>> from utils.weights import lite0_file
    >>> arrays = read_torch(lite0_file())
    >>> len(arrays), arrays["_conv_stem.weight"].shape, arrays["_fc.bias"].dtype
    (296, (32, 3, 3, 3), dtype('float32'))
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if not start:
            raise ValueError(f"{path}: the file is empty; expected one that torch.save wrote")
        if start == b"PK\x03\x04":
            raise ValueError(
                f"{path}: a zip file, as torch.save writes them since torch 1.6; expected the "
                "format before, which `_use_new_zipfile_serialization=False` still writes"
            )
        try:
            return _read(file, path.stat().st_size)
        except RefusedPickle as refused:
            raise RefusedPickle(
                f"{path}: refused, because it asks for {refused}, which a file of weights does "
                "not need; nothing of it was run"
            ) from None
        except Exception as error:  # a broken pickle can end in an error of any type
            raise ValueError(
                f"{path}: truncated, damaged, or not a file of weights that torch.save wrote "
                f"({error or type(error).__name__})"
            ) from None


def _load(file, unpickler=None):
    """Load the next pickle of the file, once it is known that it needs no more memory than it has.

    An unpickler makes room for the highest place at which something is remembered, so that a few
    bytes, damaged or meant, could ask for 32 GB. Who writes a pickle counts these places up.
    """
    start, places = file.tell(), 0
    for operation, place, _ in pickletools.genops(file):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            places += 1
            if not 0 <= place <= places:
                raise ValueError("it remembers something at a place out of order")
    file.seek(start)
    return (unpickler or _Unpickler(file)).load()


def _read(file, file_size):
    if _load(file) != MAGIC or _load(file) != VERSION:
        raise ValueError("it does not begin as such files do")
    _load(file)  # sizes of C types, which the storages do not depend on
    unpickler = _Unpickler(file)
    tensors = _load(file, unpickler)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in tensors.items()
    ):
        raise ValueError("it holds something other than a dictionary of tensors")
    for key in _load(file):
        storage = unpickler.storages[key]
        size = int.from_bytes(_exactly(file, 8, file_size), "little")
        if size != storage.size:
            raise ValueError("a storage has another size than announced")
        values = _exactly(file, size * storage.dtype.itemsize, file_size)
        storage.values = np.frombuffer(values, storage.dtype)
    if file.read(1):
        raise ValueError("something follows after its end")
    return {name: tensor.array() for name, tensor in tensors.items()}


def _exactly(file, size, file_size):
    # Asked before reading, since a damaged size may be larger than the memory.
    if size > file_size - file.tell():
        raise ValueError("it ends too early")
    return file.read(size)
