"""A lazy HDF5 array with its axes in another order, or with a frame axis it does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from operando.hdf5 import LazyArray


class AxesView(LazyArray):
    """A lazy array seen through another order of axes.

    Parameters
    ----------
    base
        The array as the file has it.
    order
        For each axis of the view the axis of `base`, or None for a new axis of size 1. Axes of `base` that are left out have size 1.
    """

    __slots__ = ("base", "order")

    def __init__(self, base: LazyArray, order: Sequence[int | None]) -> None:
        self.base, self.order = base, tuple(order)
        self.shape = tuple(1 if i is None else base.shape[i] for i in self.order)
        self.dtype = base.dtype

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read the selection from the base and turn it."""
        inner: list[Any] = [0] * len(self.base.shape)
        for k, i in zip(key, self.order, strict=True):
            if i is not None:
                inner[i] = k
        values = np.asarray(self.base.read(tuple(inner)))
        kept = [i for i in range(len(inner)) if i in self.order and not isinstance(inner[i], int | np.integer)]
        wanted = [i for k, i in zip(key, self.order, strict=True) if i is not None and not isinstance(k, int | np.integer)]
        values = values.transpose([kept.index(i) for i in wanted])
        axis = 0
        for k, i in zip(key, self.order, strict=True):
            if isinstance(k, int | np.integer):
                continue
            if i is None:
                count = len(range(*k.indices(1))) if isinstance(k, slice) else len(k)
                values = np.repeat(np.expand_dims(values, axis), count, axis=axis)
            axis += 1
        return values
