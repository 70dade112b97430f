"""Activations by their formulas, in NumPy: judges compute a learner's layer again with them."""

import numpy as np


def relu(x):
    """Return max(x, 0).

    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return np.maximum(x, 0)


def relu6(x):
    """Return min(max(x, 0), 6).

    >>> relu6(np.array([-1.0, 2.0, 7.0])).tolist()
    [0.0, 2.0, 6.0]
    """
    return np.clip(x, 0, 6)


def sigmoid(x):
    """Return 1 / (1 + exp(−x)).

    >>> float(sigmoid(0.0))
    0.5
    """
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):
    """Return ReLU6(x + 3) / 6.

    >>> hard_sigmoid(np.array([-3.0, 0.0, 3.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return relu6(x + 3) / 6
