"""The embedded data sets as TFDS builders, one folder each.

Importing this package registers them, so that plain `tfds.load` finds them, prepares them below
`data/prepared/` the first time, and reads them from there ever after.

    >>> import data
    >>> import tensorflow_datasets as tfds
    >>> digits = tfds.load("digits", split="test")
    >>> int(digits.cardinality())
    445
"""

import contextlib
import io
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from utils import _prepared


class EmbeddedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder that reads an installed package and keeps its files in the repository.

    TFDS writes to a scratch folder and renames it at the end. Added here: files of an older
    builder are thrown away, processes that prepare at once wait for each other, and one bar
    shows the progress. A subclass calls `self.bar.update()` for every example.
    """

    EXAMPLES: int  # in all splits, for the bar

    def __init__(self, *, data_dir=None, **kwargs):
        data_dir = Path(data_dir or _prepared.PREPARED).expanduser()
        _prepared.discard_leftovers(self.name, data_dir)
        super().__init__(data_dir=data_dir, **kwargs)

    def download_and_prepare(self, **kwargs):
        """Prepare the files unless they are there; `kwargs` are those of TFDS."""
        if kwargs or not _prepared.is_prepared(self.name, self.data_dir_root):
            with _prepared.locked(self.data_dir_root):
                # TFDS prints a paragraph about downloads, and there are none.
                with contextlib.redirect_stdout(io.StringIO()):
                    super().download_and_prepare(**kwargs)
                if not _prepared.is_prepared(self.name, self.data_dir_root):
                    _prepared.mark_complete(self.name, Path(self.data_dir))
        if not self.info.splits:  # another process has prepared them since `__init__`
            self.info.read_from_directory(self.data_dir)

    def _download_and_prepare(self, *args, **kwargs):
        tfds.display_progress_bar(False)
        try:
            with tqdm(
                desc=f"Preparing {self.name}", total=self.EXAMPLES, unit=" images", ncols=80
            ) as self.bar:
                super()._download_and_prepare(*args, **kwargs)
        finally:
            tfds.display_progress_bar(True)


# The builders derive from the class above.
from data.digits import digits_dataset_builder  # noqa: E402, F401
from data.solar_cells import solar_cells_dataset_builder  # noqa: E402, F401
