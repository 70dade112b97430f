"""Tells whether an embedded data set is prepared, whole, and made by today's builder.

`make` asks at every start, so nothing here imports TensorFlow: the answer takes milliseconds.
A preparation is complete when its folder holds `complete.json`, written last, with the version,
a fingerprint of the builder, and the size of every file. What is not complete (a killed
preparation, the files of an older builder or of another file list, a truncated file) is thrown
away and made again.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

EMBEDDED = ("solar_cells", "digits")
BUILDERS = Path(__file__).resolve().parent.parent / "data"
PREPARED = BUILDERS / "prepared"

_STAMP = "complete.json"
# What TFDS creates below a data set's folder: versions, and scratch folders while it writes.
_OURS = re.compile(r"\d+\.\d+\.\d+|incomplete\.")


@functools.cache
def _fingerprint(name):
    """Hash what decides the prepared files: the builder, its base class and its file list."""
    folder = BUILDERS / name
    digest = hashlib.sha256()
    for path in [BUILDERS / "__init__.py", *sorted([*folder.glob("*.py"), *folder.glob("*.tsv")])]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _stamp(name, folder):
    sizes = {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.name != _STAMP and not path.name.startswith(".")
    }
    return {"version": folder.name, "fingerprint": _fingerprint(name), "bytes": sizes}


def _is_complete(name, folder):
    try:
        return json.loads((folder / _STAMP).read_text()) == _stamp(name, folder)
    except (OSError, ValueError):
        return False


def _versions(name, root):
    folder = Path(root) / name
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if _OURS.match(path.name)]


def is_prepared(name, root):
    """Return whether `root` holds a complete preparation of `name` and no leftovers."""
    return [_is_complete(name, folder) for folder in _versions(name, root)] == [True]


def mark_complete(name, folder):
    """Write the stamp that makes `folder` count as prepared."""
    scratch = folder / ".stamp"
    scratch.write_text(json.dumps(_stamp(name, folder), indent=1))
    os.replace(scratch, folder / _STAMP)


@contextlib.contextmanager
def locked(root):
    """Hold the lock on `root`; the system releases it when the process ends or is killed."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def discard_leftovers(name, root):
    """Delete versions and scratch folders of `name` below `root` that are not complete."""
    if not is_prepared(name, root):
        with locked(root):
            # Whoever held the lock before may just have completed one of them: look again.
            for folder in _versions(name, root):
                if not _is_complete(name, folder):
                    shutil.rmtree(folder)
