"""Layers, models, data and measurements of the course on efficient convolutional networks."""

from utils import _quiet

_quiet.install()
