"""One mixture for each detected joint of a file, for `noise2pose fit-gmm`; an interrupted fit continues.

Work in progress is a folder of the suite's own layout, which can be mapped into memory:

    mixtures.npy    (T, J, M, 5) float32: weight, mean x, mean y, deviation x, y, in pixels; view after view
    manifest.json   the frames of each view, settings, the input's checksum, number of frames that are done

Shape letters: T frames of all views, J joints, S samples, M components, R rows and C columns of a heat-map.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from methods.diffpose import gmm
from methods.diffpose.initialisation import detection_blur, sample_boxes
from noise2pose import keyed_random
from noise2pose.errors import InputError
from noise2pose.files import write_text
from noise2pose.safe_pickle import write_object_npz

CHUNK_FRAMES = 1024  # fitted at once; an interruption loses at most these, and memory grows with them
_PIXELS = 33  # stream of keyed_random
_BODY_LENGTH = 1.6  # metres of the longer side of a person's box, for the scale where there is no 3-D pose
_FLOOR = 0.25  # square pixels


@dataclass(frozen=True)
class View:
    """One camera's frames of one action of one subject.

    Attributes:
        subject, action: keys of the file.
        camera: position in the file's list.
        keypoints: (T, J, 2) pixels.
        confidence: (T, J), or None if the file has none.
        heatmaps: (T, J, R, C), or None.
        boxes: (T, 3) centre x, centre y and side of the square that the heat-maps cover, pixels, or None.
    """

    subject: str
    action: str
    camera: int
    keypoints: np.ndarray
    confidence: np.ndarray | None = None
    heatmaps: np.ndarray | None = None
    boxes: np.ndarray | None = None

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.action}/{self.camera}"


@dataclass(frozen=True)
class Settings:
    """Settings of a fit.

    Attributes:
        num_components: M.
        num_samples: S, drawn from each detection.
        confidence: of detections without one.
        seed: of the repetition of the experiment.
    """

    num_components: int = 5
    num_samples: int = 100
    confidence: float = 0.75
    seed: int = 0


def fit_frames(view: View, frames: slice, settings: Settings) -> Float[Tensor, "T J M 5"]:
    """Mixtures of some frames of a view, in the order of `mixtures.npy`."""
    keypoints = torch.from_numpy(np.array(view.keypoints[frames], dtype=np.float32))
    number = torch.arange(len(view.keypoints))[frames]
    keys = (zlib.crc32(view.name.encode("utf-8")) << 24) + number
    if view.heatmaps is not None and view.boxes is not None:
        maps = torch.from_numpy(np.array(view.heatmaps[frames], dtype=np.float32))
        boxes = torch.from_numpy(np.array(view.boxes[frames], dtype=np.float32))
        samples = sample_boxes(maps, boxes, keys, settings.num_samples)
    else:
        confidence = torch.full(keypoints.shape[:2], settings.confidence)
        if view.confidence is not None:
            confidence = torch.from_numpy(np.array(view.confidence[frames], dtype=np.float32))
        longer_side = (keypoints.amax(dim=1) - keypoints.amin(dim=1)).amax(dim=-1)
        blur = detection_blur(confidence, longer_side / _BODY_LENGTH)
        shape = (settings.num_samples, keypoints.shape[1], 2)
        noise = keyed_random.normal(keys, shape, stream=_PIXELS, seed=settings.seed)
        samples = keypoints[:, None] + blur[:, None, :, None] * noise
    joints = keypoints.shape[1]
    joint_keys = (keys[:, None] * joints + torch.arange(joints)).flatten()
    mixture = gmm.fit_mixture(
        samples.transpose(1, 2).flatten(0, 1),
        settings.num_components,
        joint_keys,
        variance_floor=_FLOOR,
        seed=settings.seed,
    )
    packed = torch.cat((mixture.weights[..., None], mixture.means, mixture.scales), dim=-1)
    return packed.unflatten(0, (-1, joints))


class MixtureStore:
    """The folder of this module's docstring, filled chunk by chunk; it continues where it was interrupted.

    Args:
        folder: made if missing.
        views: of the file, in its order; all with the same number of joints.
        checksum: of the file.
        settings: of the fit.

    Raises:
        InputError: if the folder holds the mixtures of another file or other settings, or is broken.
    """

    def __init__(self, folder: Path, views: Sequence[View], checksum: str, settings: Settings) -> None:
        self.views = views
        self.settings = settings
        self.num_frames = sum(len(view.keypoints) for view in views)
        self.manifest_path, self.array_path = folder / "manifest.json", folder / "mixtures.npy"
        joints = views[0].keypoints.shape[1]
        self.row = (joints, settings.num_components, 5)
        self.manifest: dict[str, Any] = {
            "input_sha256": checksum,
            **asdict(settings),
            "views": [{"name": view.name, "frames": len(view.keypoints)} for view in views],
            "done": 0,
        }
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, and the folder of the work in progress needs that name")
        if self.manifest_path.is_file():
            self._continue(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(self.array_path, "w+", np.float32, (self.num_frames, *self.row)).flush()
            self._record(0)

    @property
    def done(self) -> int:
        """Number of frames fitted."""
        return self.manifest["done"]

    def fit(self) -> Iterator[int]:
        """Fits the remaining frames, and yields the number of frames of each chunk when it is on the disk."""
        start = 0
        for view in self.views:
            length = len(view.keypoints)
            # Chunks do not cross views, so they do not depend on where an earlier run was interrupted.
            for first in range(0, length, CHUNK_FRAMES):
                last = min(first + CHUNK_FRAMES, length)
                if start + first < self.done:
                    continue
                # Mapped anew for each chunk, because pages of a memory map count as memory of this process.
                array = np.lib.format.open_memmap(self.array_path, "r+")
                array[start + first : start + last] = fit_frames(view, slice(first, last), self.settings).numpy()
                array.flush()
                self._record(start + last)
                yield last - first
            start += length

    def export(self, path: Path, image_width: float, metadata: Any = None) -> None:
        """Writes the layout of the authors' `_gmm.npz`: subject -> action -> cameras -> (T, J, M, 5).

        Columns are weight, mean x, mean y in pixels, and deviations x, y in screen coordinates (half the image's width
        is 1), since the release normalises columns 1 and 2 only and scales noise in screen coordinates with the others.

        Args:
            path: npz file.
            image_width: pixels.
            metadata: of the file of keypoints, which says the order of the joints; None if it has none.
        """
        tree: dict[str, dict[str, list[Any]]] = {}
        start = 0
        for view in self.views:
            leaf = partial(self._read_official, start, len(view.keypoints), image_width)
            tree.setdefault(view.subject, {}).setdefault(view.action, []).append(leaf)
            start += len(view.keypoints)
        write_object_npz(path, "positions_2d", tree, **({} if metadata is None else {"metadata": metadata}))

    def _continue(self, folder: Path) -> None:
        try:
            found = json.loads(self.manifest_path.read_text())
            array = np.load(self.array_path, mmap_mode="r")
            shape, done = array.shape, int(found.pop("done"))
        except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{folder} is broken ({error}); remove it to start again") from error
        differs = [key for key, value in self.manifest.items() if key != "done" and found.get(key) != value]
        if differs or shape != (self.num_frames, *self.row):
            raise InputError(
                f"{folder} holds mixtures of another input or other settings ({', '.join(differs) or 'shape'}); remove "
                "it, or choose another --output"
            )
        self.manifest["done"] = done

    def _read_official(self, frame: int, length: int, image_width: float) -> np.ndarray:
        values = np.array(np.load(self.array_path, mmap_mode="r")[frame : frame + length])
        values[..., 3:] *= 2.0 / image_width
        return values

    def _record(self, done: int) -> None:
        self.manifest["done"] = done
        write_text(self.manifest_path, json.dumps(self.manifest, indent=1) + "\n")
