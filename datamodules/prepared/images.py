"""Images from the disk, ahead of the device: what the crops of a batch need of them, and the crops on the device.

Reading is most of the work, and most of that is decoding JPEG. So an image is decoded once for all people of the batch
who are in it, in threads (Pillow works outside Python's lock), only down to the last row that is needed, and at a half,
a quarter or an eighth of its size where it still has a pixel for every pixel of the crop; the decoder averages while it
shrinks. What the crop needs goes to the device as bytes, which samples it once (`noise2pose.images.crops`).

Images are taken as they are stored: annotations are of the stored pixels, so EXIF's orientation is ignored.

Shape letters: B samples, S side of the crops.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from noise2pose.batch import Camera, Patches, PoseBatch, Variation
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.augmentation import image_matrix, occlude, vary, vary_box
from noise2pose.images.crops import compose, crop_matrix, invert, sample
from noise2pose.images.photographs import eight_bit
from noise2pose.skeletons import Skeleton

SIZE_TOLERANCE = 2.0  # pixels; Human3.6M's frames have 1000 or 1002 rows, depending on who extracted them
_JPEG = ("JPEG", "MPO")
_REDUCTIONS = (8, 4, 2)  # that a JPEG decoder has
_STOPPED = "broken data stream"  # what Pillow says when fewer rows are asked for than there are


class Request(NamedTuple):
    """A batch whose images are to be read.

    Attributes:
        batch: its labels before any variation, on the CPU, with `box` and `camera`.
        paths: of the image of each sample.
        variation: of each sample, or None for crops as they are.
    """

    batch: PoseBatch
    paths: Sequence[Path]
    variation: Variation | None = None


class Patch(NamedTuple):
    """Part of an image.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, at least one pixel.
        corner: x and y of its upper left corner in the image as it was decoded.
        reduction: side of its pixels in pixels of the whole image.
    """

    pixels: np.ndarray
    corner: tuple[int, int]
    reduction: int


class ImageReader:
    """Adds images to batches.

    Batches come in the order of the requests. An image that cannot be read stops the iteration when its batch is due.

    Args:
        num_workers: threads that decode.
        prefetch: batches that are read before they are asked for.
        size: S.
        plain_bilinear: decode whole images in full size, so that crops are what `cv2.warpAffine` makes of them. It
            looks at four pixels for each of the crop and skips those between, which published numbers were made with.
    """

    def __init__(self, num_workers: int = 2, prefetch: int = 3, size: int = 224, plain_bilinear: bool = False) -> None:
        if num_workers < 1 or prefetch < 1:
            raise InputError(f"num_workers is {num_workers} and prefetch {prefetch}, expected at least 1 of both")
        self.num_workers = num_workers
        self.prefetch = prefetch
        self.size = size
        self.plain_bilinear = plain_bilinear

    def read(self, requests: Iterable[Request]) -> Iterator[PoseBatch]:
        """The batches with `patches` and, if they have one, `variation`; `finish` turns these into images.

        Requests are taken from their iterator in the caller's thread, `prefetch` ahead.

        Raises:
            InputError: if an image is missing, broken or of another size than `camera` says, or a box is empty.
        """
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="pictures")
        waiting: deque[_Reading] = deque()
        try:
            for request in requests:
                waiting.append(self._start(pool, request))
                if len(waiting) > self.prefetch:
                    yield waiting.popleft().batch()
            while waiting:
                yield waiting.popleft().batch()
        finally:  # also when the consumer stops early
            pool.shutdown(wait=True, cancel_futures=True)

    def finish(
        self,
        batch: PoseBatch,
        skeleton: Skeleton,
        *,
        rest_root: Float[Tensor, "B 3"] | None = None,
        body: BodyModel | None = None,
    ) -> PoseBatch:
        """The batch with `image` and varied labels; to be called on the device, after the batch was moved there.

        Args:
            batch: of `read`.
            skeleton, rest_root, body: see `noise2pose.images.augmentation.vary`; not needed without `variation`.
        """
        rest: Any = {key: value for key, value in batch.items() if key not in ("patches", "variation")}
        if "variation" not in batch:
            rest["image"] = sample(**batch["patches"], size=self.size)
            return rest
        variation = batch["variation"]
        image = sample(**batch["patches"], size=self.size, gain=variation.gain)
        varied = vary(rest, variation, skeleton, rest_root=rest_root, body=body)
        return {**varied, "image": occlude(image, variation)}

    def _start(self, pool: ThreadPoolExecutor, request: Request) -> "_Reading":
        from_crop = _from_crops(request, self.size)
        corners = _corners(from_crop, self.size)
        of: dict[Path, list[int]] = {}
        for row, path in enumerate(request.paths):
            of.setdefault(path, []).append(row)
        futures = []
        for path, rows in of.items():
            width, height = request.batch["camera"]["image_size"][rows[0]].tolist()
            reduction = 1 if self.plain_bilinear else min(_reduction(from_crop[row]) for row in rows)
            futures.append(
                (rows, pool.submit(read_patches, path, (width, height), [corners[row] for row in rows], reduction))
            )
        return _Reading(request, from_crop, futures)


class _Reading(NamedTuple):
    """A batch that is being read."""

    request: Request
    from_crop: np.ndarray
    futures: list[tuple[list[int], "Future[list[Patch]]"]]

    def batch(self) -> PoseBatch:
        """Waits for the images."""
        patches = {
            row: patch for rows, future in self.futures for row, patch in zip(rows, future.result(), strict=True)
        }
        ordered = [patches[row] for row in range(len(patches))]
        matrix = self.from_crop / np.array([patch.reduction for patch in ordered])[:, None, None]
        matrix[:, :, 2] -= [patch.corner for patch in ordered]
        joined: Patches = {
            "pixels": torch.from_numpy(np.concatenate([patch.pixels.reshape(-1) for patch in ordered])),
            "sizes": [patch.pixels.shape[:2] for patch in ordered],
            "matrix": torch.from_numpy(matrix).float(),
        }
        batch: PoseBatch = {**self.request.batch, "patches": joined}
        return batch if self.request.variation is None else {**batch, "variation": self.request.variation}


def read_patches(
    path: Path, size: tuple[float, float], corners: Sequence[np.ndarray], reduction: int = 1
) -> list[Patch]:
    """Parts of one image.

    Args:
        path: of a JPEG, or of any other image that Pillow reads; grey and CMYK ones become RGB.
        size: width and height that it should have.
        corners: for each part, (N, 2) points between which bilinear samples will be taken, pixels of the whole image.
        reduction: 1, 2, 4 or 8; the most that a pixel may be enlarged to. Only JPEG files can be read so.

    Raises:
        InputError: if the file is missing, cannot be read as an image, or has another size; the message names the file.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if max(abs(width - size[0]), abs(height - size[1])) > SIZE_TOLERANCE:
                raise InputError(f"{path}: {width} x {height} pixels, expected {size[0]:g} x {size[1]:g}")
            is_jpeg = image.format in _JPEG
            reduction = reduction if is_jpeg and min(image.size) >= reduction else 1
            if reduction > 1:  # a reduced pixel is exactly so many pixels wide; the last may reach over the border
                image.draft(None, (width // reduction, height // reduction))  # pyright: ignore[reportArgumentType]
            rectangles = [_rectangle(points / reduction, image.size) for points in corners]
            _decode(image, max(bottom for *_, bottom in rectangles), is_jpeg)
            decoded = eight_bit(image)
            return [_cut(decoded, rectangle, reduction) for rectangle in rectangles]
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist: prepare the data set again without it, or say with data.picture_root where it is"
        ) from error
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    except Exception as error:  # Pillow's readers raise anything on a broken file
        said = str(error).replace(str(path), path.name)
        raise InputError(f"{path}: not a readable image: {said}") from error


def _from_crops(request: Request, size: int) -> np.ndarray:
    """(B, 2, 3) float64: from pixels of the varied crops to those of the images as they are stored."""
    camera: Camera = {key: value.double() for key, value in request.batch["camera"].items()}  # pyright: ignore
    box = request.batch["box"].double()
    bad = ~((box[:, 2] > 0) & box.isfinite().all(dim=-1))
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(f"{request.paths[row]}: a box of side {float(box[row, 2]):g} cannot be cropped")
    if request.variation is None:
        return invert(crop_matrix(box, size)).numpy()
    variation = Variation(*(x.double() if x.is_floating_point() else x for x in request.variation))
    to_varied = image_matrix(camera, variation)
    centre = (to_varied @ torch.cat((box[:, :2], torch.ones_like(box[:, :1])), dim=-1)[..., None])[..., 0]
    varied = vary_box(torch.cat((centre, box[:, 2:]), dim=-1), variation)
    return invert(compose(crop_matrix(varied, size), to_varied)).numpy()


def _corners(from_crop: np.ndarray, size: int) -> np.ndarray:
    """(B, 4, 2): centres of the crop's outermost pixels, in the image."""
    low, high = 0.5, size - 0.5
    points = np.array([(low, low, 1.0), (high, low, 1.0), (low, high, 1.0), (high, high, 1.0)])
    return points @ from_crop.transpose(0, 2, 1)


def _reduction(from_crop: np.ndarray) -> int:
    """The most that the image can be reduced by with a pixel left for every pixel of the crop."""
    pixels = np.linalg.norm(from_crop[:, :2], axis=0).min()  # image pixels for each step in the crop
    return next((reduction for reduction in _REDUCTIONS if pixels >= reduction), 1)


def _rectangle(points: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels between which samples at the points lie; at least one pixel."""
    low, high = points.min(axis=0), points.max(axis=0)
    bounds = []
    for axis, length in enumerate(size):
        first = max(0, min(math.floor(low[axis] - 0.5), length - 1))
        bounds.append((first, max(first + 1, min(math.floor(high[axis] - 0.5) + 2, length))))
    (left, right), (top, bottom) = bounds
    return left, top, right, bottom


def _decode(image: Image.Image, rows: int, is_jpeg: bool) -> None:
    """Decodes the first rows, or more: only of a JPEG can Pillow leave out the rest."""
    tiles: Any = getattr(image, "tile", [])
    if not is_jpeg or rows >= image.size[1] or len(tiles) != 1:
        image.load()
        return
    tile = tiles[0]
    image.tile = [(tile[0], (0, 0, image.size[0], rows), *tile[2:])]  # pyright: ignore[reportAttributeAccessIssue]
    try:
        image.load()
    except OSError as error:  # the decoder is stopped before the end; the rows that it has decoded are there
        if not str(error).startswith(_STOPPED):
            raise


def _cut(image: Image.Image, rectangle: tuple[int, int, int, int], reduction: int) -> Patch:
    part = image.crop(rectangle)
    return Patch(np.asarray(part if part.mode == "RGB" else part.convert("RGB")), rectangle[:2], reduction)
