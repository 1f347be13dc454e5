"""A z-buffer in NumPy: which triangle each pixel of a small picture shows.

Pixel (row r, column c) is the square [c, c + 1] x [r, r + 1], and shows what is at its centre (c + 0.5, r + 0.5).

Shape letters: V vertices, T triangles, H rows, W columns, P pixels that show a triangle.
"""

import numpy as np
from jaxtyping import Float, Float32, Int

NEAR = 0.05  # metres; closer triangles are not drawn
_CHUNK = 1 << 18  # candidates that are tested at once, which bounds the memory


def rasterise(
    vertices_px: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    size: tuple[int, int],
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"], Float32[np.ndarray, "P 3"]]:
    """Finds the nearest triangle at the centre of each pixel.

    A pixel centre on an edge belongs to both triangles; of two at the same depth the one with the lower number is
    shown. All triangles are handled together: each lists the pixels of its bounding box, those inside it send their
    depth and the triangle's number in one integer, and each pixel keeps the largest.

    Args:
        vertices_px: x and y in pixels, y down, and depth z along the camera's axis in metres. Single precision is used.
        faces: corners, counter-clockwise where the outside is seen, as in every watertight mesh with outward normals;
            triangles that turn their back, or have a corner at a depth of `NEAR` or closer, are left out.
        size: H rows and W columns.

    Returns:
        The pixels that show a triangle, as ascending numbers in the flattened picture; the number of that triangle; and
        how much each of its corners counts at the pixel's centre, corrected for perspective, with a sum of one.
    """
    rows, columns = size
    # Differences of single-precision pixels and their products are exact in double precision, so an edge has one sign
    # for both of its triangles and no pixel falls between them.
    x, y, z = vertices_px.astype(np.float32).astype(np.float64).T
    with np.errstate(all="ignore"):  # vertices near the camera's plane have no pixel; their triangles are left out
        numbers, corners, boxes = _visible(x, y, z, faces, size)
    keys = np.zeros(rows * columns, dtype=np.int64)
    counts = (boxes[2] * boxes[3]).astype(np.int64)
    ends = counts.cumsum()
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        chunk = slice(start, stop)
        _draw(keys, columns, corners[:, chunk], boxes[:, chunk], counts[chunk], numbers[chunk])
        start = stop
    return _resolve(keys, x, y, z, faces, columns)


def _visible(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers (T,), corners (9, T) as rows x, y, 1 / z of each corner, and boxes (4, T) of pixels: left, top, size."""
    x0, x1, x2 = x[faces.T]
    y0, y1, y2 = y[faces.T]
    area = (x2 - x0) * (y1 - y0) - (x1 - x0) * (y2 - y0)  # positive where the outside is seen, since y is down
    left = np.ceil(np.minimum(np.minimum(x0, x1), x2).clip(0) - 0.5)
    top = np.ceil(np.minimum(np.minimum(y0, y1), y2).clip(0) - 0.5)
    width = np.floor(np.maximum(np.maximum(x0, x1), x2).clip(None, size[1]) - 0.5) - left + 1
    height = np.floor(np.maximum(np.maximum(y0, y1), y2).clip(None, size[0]) - 0.5) - top + 1
    kept = (area > 0) & (width > 0) & (height > 0) & np.isfinite(area) & (z > NEAR)[faces].all(axis=1)
    numbers = np.flatnonzero(kept)
    corners = np.stack([a[v] for v in faces[numbers].T for a in (x, y, 1.0 / z)])
    boxes = np.stack([a[numbers] for a in (left, top, width, height)]).clip(0).astype(np.int32)
    return numbers, corners, boxes


def _draw(
    keys: np.ndarray, columns: int, corners: np.ndarray, boxes: np.ndarray, counts: np.ndarray, numbers: np.ndarray
) -> None:
    """Lets the pixels (H * W,) keep the larger of their key and those of some triangles."""
    which = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    left, top, width, _ = boxes[:, which]
    within = np.arange(len(which), dtype=np.int32) - np.repeat((counts.cumsum() - counts).astype(np.int32), counts)
    row = within // width
    column = within - row * width + left
    row += top
    x0, y0, w0, x1, y1, w1, x2, y2, w2 = corners[:, which]
    x0 -= column + 0.5
    x1 -= column + 0.5
    x2 -= column + 0.5
    y0 -= row + 0.5
    y1 -= row + 0.5
    y2 -= row + 0.5
    b0 = x2 * y1 - x1 * y2
    b1 = x0 * y2 - x2 * y0
    b2 = x1 * y0 - x0 * y1
    inside = np.flatnonzero((b0 >= 0) & (b1 >= 0) & (b2 >= 0))
    b0, b1, b2 = b0[inside], b1[inside], b2[inside]
    closeness = ((b0 * w0[inside] + b1 * w1[inside] + b2 * w2[inside]) / (b0 + b1 + b2)).astype(np.float32)
    # Positive floats are ordered as their bits are. 1 / z is linear over the picture, z is not.
    key = (closeness.view(np.int32).astype(np.int64) << 32) | (0x7FFFFFFF - numbers[which[inside]])
    np.maximum.at(keys, row[inside].astype(np.int64) * columns + column[inside], key)


def _resolve(
    keys: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, faces: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that kept a triangle, its number, and the weights of its corners."""
    pixel = np.flatnonzero(keys)
    face = 0x7FFFFFFF - (keys[pixel] & 0x7FFFFFFF)
    corners = faces[face].T
    row, column = np.divmod(pixel, columns)
    (x0, x1, x2), (y0, y1, y2) = x[corners] - (column + 0.5), y[corners] - (row + 0.5)
    shares = np.stack((x2 * y1 - x1 * y2, x0 * y2 - x2 * y0, x1 * y0 - x0 * y1))
    shares /= shares.sum(axis=0)
    shares /= z[corners]
    return pixel, face, (shares / shares.sum(axis=0)).T.astype(np.float32)
