"""Inert stand-ins for the objects of SciPy and chumpy in the files of body models; `safe_pickle` makes them."""

from typing import Any

import numpy as np

_LARGEST_DENSE = 1 << 27  # entries of a sparse matrix written out, 1 GiB; a joint regressor has half a million


class SparseMatrix:
    """Stand-in for a matrix of `scipy.sparse`; `numpy.asarray` gives the dense matrix."""

    layout = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        fields: dict[str, Any] = vars(self)
        rows, columns = (int(size) for size in fields["_shape"])
        if not 0 <= rows * columns <= _LARGEST_DENSE:
            raise TypeError(f"a sparse matrix of {rows} x {columns} is too large")
        values = np.asarray(fields["data"])
        layout = type(self).layout
        if layout == "coo":
            where = fields["coords"] if "coords" in fields else (fields["row"], fields["col"])
            first, second = (np.asarray(index) for index in where)
        else:
            second = np.asarray(fields["indices"])
            starts = np.asarray(fields["indptr"])
            first = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            if layout == "csc":
                first, second = second, first
        if not len(first) == len(second) == len(values) or min(first.min(initial=0), second.min(initial=0)) < 0:
            raise TypeError("a sparse matrix has indices that do not fit its values")
        dense = np.zeros((rows, columns), values.dtype)
        np.add.at(dense, (first, second), values)
        return dense if dtype is None else dense.astype(dtype)


class ChumpyObject:
    """Stand-in for an object of chumpy, which the published body models of 2015 consist of."""

    kind = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        fields: dict[str, Any] = vars(self)
        kind = type(self).kind
        if kind == "Ch":
            array = np.asarray(fields["x"])
        elif kind == "Select":
            array = np.asarray(fields["a"]).ravel()[np.asarray(fields["idxs"])]
            if "preferred_shape" in fields:
                array = array.reshape(fields["preferred_shape"])
        elif kind == "Reshape":
            array = np.asarray(fields["a"]).reshape(fields["newshape"])
        else:
            raise TypeError(f"an expression of chumpy ({kind}) is not evaluated")
        return array if dtype is None else array.astype(dtype)
