"""Reading, cropping and augmenting images for training, against one sample after the other with OpenCV.

The images are made here and look like photographs to a JPEG coder: soft shapes, with texture in parts. In each row both
sides read the same files and give normalised 224 x 224 crops and 2-D joints, turned, mirrored, resized and coloured
with the same numbers.

Shape letters: B samples, J joints, S side of the crops.
"""

import collections
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset

from datamodules.base import move, select
from datamodules.prepared.data import AUGMENTATIONS
from datamodules.prepared.images import ImageReader, Request
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Variation
from noise2pose.errors import InputError
from noise2pose.images.augmentation import draw
from scripts.benchmarks.measure import Comparison, Prepared, Side

SIZE = 224
NUM_WORKERS = 2
_SKELETON = "h36m_17"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_SAME = 0.02  # of [0, 1]: mean difference of the crops of both sides, decoded in full size
_QUALITY = 92

Style = Literal["published", "lean"]
_STYLES: dict[Style, str] = {
    "published": "imread, channels reversed and copied, float32, as SPIN reads; then warpAffine, as 3DCrowdNet crops",
    "lean": "imread, cvtColor, warpAffine of bytes, as MMPose does it",
}


class Kind(NamedTuple):
    """A kind of image."""

    size: tuple[int, int]  # width and height
    heights: tuple[int, int]  # least and greatest of the people, pixels
    texture: float  # grey levels of the finest structure; it decides how large the files are


LARGE = Kind((1920, 1080), (300, 900), 9.0)  # as in 3DPW, files of about 550 KB
SMALL = Kind((640, 480), (100, 450), 36.0)  # as in COCO, files of about 160 KB
_ROWS: tuple[tuple[Style, int, int, float | None], ...] = (  # workers, people of an image in a batch, bar
    ("published", NUM_WORKERS, 1, 2.0),
    ("published", 0, 1, 2.0),
    ("published", NUM_WORKERS, 2, 2.0),
    ("lean", NUM_WORKERS, 1, None),
    ("lean", NUM_WORKERS, 2, None),
)


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of reading, cropping and augmenting images; ours samples the crops on the device."""
    return [
        _row(kind, style, workers, together, at_least, device, quick)
        for kind in (LARGE, SMALL)
        for style, workers, together, at_least in _ROWS
    ]


def _row(
    kind: Kind, style: Style, workers: int, together: int, at_least: float | None, device: torch.device, quick: bool
) -> Comparison:
    batches, batch_size = (1, 4) if quick else (3 if kind == LARGE else 8, 64)
    people = "one person of an image in a batch" if together == 1 else f"{together} people of each image in a batch"
    where = f"in {workers} workers of a DataLoader" if workers else "in one process"
    name = f"crops of {kind.size[0]} x {kind.size[1]} images, {style} warp {where}"

    def prepare() -> Prepared:
        folder = Path(_folder(kind, batch_size).name)
        requests = [_request(kind, folder, batch_size, together, number) for number in range(batches)]
        samples = Samples(requests, style)
        theirs = DataLoader(
            samples,
            batch_size,
            num_workers=workers,
            worker_init_fn=samples.use_one_thread,
            persistent_workers=workers > 0,
        )
        difference = _difference(requests[0], samples)
        return Prepared(
            Side(_cropped(requests, device), batches * batch_size),
            Side(lambda: collections.deque(theirs, maxlen=0), batches * batch_size),
            {
                "difference": difference,
                "kilobytes": float(np.mean([path.stat().st_size for path in folder.iterdir()])) / 1e3,
            },
            f"crops differ by {difference:.3f}" if difference > _SAME else "",
        )

    return Comparison(
        name=name + (", shared images" if together > 1 else ""),
        setting=f"{SIZE} x {SIZE}, people of {kind.heights[0]} to {kind.heights[1]} pixels, {people}, batch "
        f"{batch_size}, SPIN's augmentation; {NUM_WORKERS} threads read for ours",
        against=f"one sample after the other {where}: {_STYLES[style]}",
        at_least=at_least,
        unit="image",
        prepare=prepare,
    )


def _cropped(requests: list[Request], device: torch.device) -> Callable[[], None]:
    """Reads batches ahead and crops them on the device; one epoch a call."""
    reader = ImageReader(NUM_WORKERS, size=SIZE)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _STD))

    def run() -> None:
        for batch in reader.read(requests):
            # What Lightning does between the loader and `on_after_batch_transfer`.
            variation = Variation(*(part.to(device) for part in batch["variation"]))
            moved: Any = {**move(batch, device), "variation": variation}
            reader.finish(moved, skeletons.get(_SKELETON))["image"].sub_(mean).div_(std)

    return run


class Samples(Dataset):
    """The same samples one by one, as data sets of images are usually written."""

    def __init__(self, requests: list[Request], style: Style) -> None:
        try:
            import cv2
        except ImportError as error:
            raise InputError("the pipeline to compare with needs OpenCV: pip install -e .[dev]") from error
        self.cv2 = cv2
        self.style = style
        self.mean, self.std = np.array(_MEAN, dtype=np.float32), np.array(_STD, dtype=np.float32)
        self.samples = [
            (
                str(request.paths[row]),
                request.batch["box"][row].numpy(),
                request.batch["keypoints_2d"][row].numpy(),
                {key: value[row].numpy() for key, value in request.variation._asdict().items()},  # pyright: ignore
            )
            for request in requests
            for row in range(len(request.paths))
        ]

    def use_one_thread(self, worker: int) -> None:
        self.cv2.setNumThreads(0)  # workers are as many as there are cores

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        cv2: Any = self.cv2
        path, box, keypoints, variation = self.samples[index]
        image = cv2.imread(path)
        if self.style == "published":
            image = image[:, :, ::-1].copy().astype(np.float32)
        else:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        matrix = _warp(box[:2] - 0.5, box[2] * variation["scale"], variation["angle"])
        crop = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        points = (keypoints[:, :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        if variation["flip"]:
            crop = crop[:, ::-1]
            points[:, 0] = SIZE - 1 - points[:, 0]
            points = points[list(skeletons.get(_SKELETON).flip_order)]
        image = np.clip(crop.astype(np.float32) * variation["gain"], 0.0, 255.0) / 255.0
        image = ((image - self.mean) / self.std).transpose(2, 0, 1)
        return np.ascontiguousarray(image, dtype=np.float32), points.astype(np.float32)


def _warp(centre: np.ndarray, side: float, angle: float) -> np.ndarray:
    """(2, 3) from the image to the crop, between pixels whose centres are at whole numbers."""
    linear = SIZE / side * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate((linear, ((SIZE - 1) / 2.0 - linear @ centre)[:, None]), axis=1)


def _difference(request: Request, samples: Samples) -> float:
    """Mean difference of the first crops of both sides, when ours decodes images in full size too."""
    reader = ImageReader(size=SIZE, plain_bilinear=True)
    few = slice(0, 4)
    batch: Any = select(request.batch, torch.arange(4))
    variation = Variation(*(part[few] for part in request.variation))  # pyright: ignore[reportOptionalIterable]
    (read,) = reader.read([Request(batch, request.paths[few], variation)])
    ours = reader.finish(read, skeletons.get(_SKELETON))["image"]
    theirs = torch.stack([torch.from_numpy(samples[row][0]) for row in range(4)])
    theirs = theirs * torch.tensor(_STD)[:, None, None] + torch.tensor(_MEAN)[:, None, None]
    return float((ours - theirs).abs().mean())


def _request(kind: Kind, folder: Path, batch_size: int, together: int, number: int) -> Request:
    """A batch with other people and other variations for each number, of images in random order."""
    names = [f"{number}_{row}" for row in range(batch_size)]
    keys = keyed_random.keys_of(names)
    uniform = keyed_random.uniform(keys, (3,), stream=1)
    width, height = kind.size
    tall = kind.heights[0] + (kind.heights[1] - kind.heights[0]) * uniform[:, 0]
    side = 1.2 * tall
    centre_x = tall / 4.0 + (width - tall / 2.0) * uniform[:, 1]  # people are half as wide as they are tall
    centre_y = tall / 2.0 + (height - tall) * uniform[:, 2]
    order = torch.randperm(batch_size, generator=torch.Generator().manual_seed(number)).tolist()
    paths = [folder / f"{number // together:03d}.jpg" for number in order]
    centre = torch.stack((centre_x, centre_y), dim=-1)
    joints = centre[:, None] + tall[:, None, None] * (keyed_random.uniform(keys, (17, 2), stream=2) - 0.5)
    image_size = torch.tensor([[float(width), float(height)]]).repeat(batch_size, 1)
    batch: PoseBatch = {
        "keypoints_2d": torch.cat((joints, torch.ones(batch_size, 17, 1)), dim=-1),
        "box": torch.cat((centre, side[:, None]), dim=-1),
        "camera": {
            "focal": torch.full((batch_size, 2), float(width)),
            "principal_point": image_size / 2.0,
            "image_size": image_size,
        },
        "sample_id": names,
    }
    return Request(batch, paths, draw(keys, AUGMENTATIONS["spin"]))


@functools.cache
def _folder(kind: Kind, count: int) -> tempfile.TemporaryDirectory:
    """A folder with the images, which is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="noise2pose-")
    for number in range(count):
        Image.fromarray(_photograph(kind, number)).save(Path(folder.name) / f"{number:03d}.jpg", quality=_QUALITY)
    return folder


def _photograph(kind: Kind, number: int) -> np.ndarray:
    """(H, W, 3) uint8: shapes of three sizes, and fine structure that is strong in some places and weak in others."""
    width, height = kind.size
    random = np.random.default_rng(number)

    def soft(cells: int, channels: int) -> np.ndarray:
        small = random.normal(size=(channels, cells * height // width + 2, cells + 2)).astype(np.float32)
        coarse = (width // 4, height // 4)
        layers = [Image.fromarray(layer).resize(coarse, Image.Resampling.BICUBIC) for layer in small]
        return np.stack([np.asarray(layer) for layer in layers], axis=-1)

    shapes = sum(level * (soft(cells, 1) + 0.3 * soft(cells, 3)) for cells, level in ((6, 50), (24, 25), (96, 12)))
    image, strength = (
        np.asarray(Image.fromarray(np.clip(part, 0.0, 255.0).astype(np.uint8)).resize(kind.size), dtype=np.float32)
        for part in (128.0 + shapes, 64.0 * np.abs(soft(12, 1)[..., 0]))
    )
    fine = Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8))
    fine = np.asarray(fine.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32) - 127.5
    fine *= kind.texture / fine.std() * strength / 64.0
    return np.clip(image + fine[..., None], 0.0, 255.0).astype(np.uint8)
