"""The binary part of a glTF file: arrays one after the other, each with its view and accessor."""

from typing import Any

import numpy as np

_TYPES = {np.dtype(np.float32): 5126, np.dtype(np.uint32): 5125, np.dtype(np.uint8): 5121}  # of the specification
_STEP = 4  # bytes; every array begins at a multiple


class Buffer:
    """Grows with each array that is added.

    Args:
        gltf: the package pygltflib.
        content: `GLTF2` whose accessors and views are added to.
    """

    def __init__(self, gltf: Any, content: Any) -> None:
        self.gltf, self.content = gltf, content
        self.data = bytearray()

    def add(self, values: np.ndarray, kind: str, limits: bool = False, target: int | None = None) -> int:
        """Appends an array.

        Args:
            values: (rows, numbers of one value); numbers with a fraction are stored in single precision.
            kind: "SCALAR", "VEC3", "VEC4" or "MAT4".
            limits: whether the smallest and largest values are stated, as is required of times and places.
            target: ARRAY_BUFFER or ELEMENT_ARRAY_BUFFER of what is drawn.

        Returns:
            Number of its accessor.
        """
        stored = values.astype(np.float32) if values.dtype.kind == "f" else values
        self.data += bytes(-len(self.data) % _STEP)
        start = len(self.data)
        self.data += np.ascontiguousarray(stored).tobytes()
        length = len(self.data) - start
        view = self.gltf.BufferView(buffer=0, byteOffset=start, byteLength=length, target=target)
        self.content.bufferViews.append(view)
        low, high = (stored.min(axis=0).tolist(), stored.max(axis=0).tolist()) if limits else (None, None)
        accessor = self.gltf.Accessor(
            bufferView=len(self.content.bufferViews) - 1,
            componentType=_TYPES[stored.dtype],
            count=len(stored),
            type=kind,
            min=low,
            max=high,
        )
        self.content.accessors.append(accessor)
        return len(self.content.accessors) - 1
