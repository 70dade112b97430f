"""Layers, models, data and measurements of the course on efficient convolutional networks."""

import sys

from utils import _isolation, _quiet

_quiet.install()
# So it reads while Python looks for the module that it is to run: a command of the course starts.
if sys.argv[:1] == ["-m"]:
    _isolation.start()
