"""Answers as files that other tools open: what `LiftedPoses` and `Annotations` have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from noise2pose import skeletons
from noise2pose.annotation.layout import SKELETON
from noise2pose.errors import InputError
from noise2pose.export.formats import FORMATS, STEM, Written, write
from noise2pose.export.motion import Motion
from noise2pose.files import check_writable
from noise2pose.images.video import open_video, timed_frames

Images = Iterable[tuple[float, Any]]  # seconds and RGB of each frame, as `noise2pose.export.video.write_mp4` takes them


class Exports(ABC):
    """What writes a result in the formats of `noise2pose.export`; docs/exports.md describes them.

    The methods take the path of a file and return the files that they wrote. Several people, or videos, are added to
    the name where a file holds one: `out.bvh` becomes `out_1.bvh` and `out_2.bvh`. Poses are turned upright as in
    drawings (`levels`), and the file says so where it can.
    """

    skeleton: ClassVar[str] = SKELETON
    unit: ClassVar[str] = "m"

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the 17 joints."""
        return skeletons.get(self.skeleton).joints

    @property
    @abstractmethod
    def valid(self) -> np.ndarray:
        """(T, 17) bool: joints whose keypoint was visible; the others are guessed from the rest of the pose."""

    @property
    def status(self) -> list[str]:
        """Of each pose "seen"; "partly seen", if joints are guessed; "filled", if it was put between two frames."""
        counts = self.valid.sum(axis=1)
        return ["seen" if count == self.valid.shape[1] else "partly seen" if count else "filled" for count in counts]

    @abstractmethod
    def motions(self) -> list[Motion]:
        """The motion of each person in each video; a pose that is in no video is a motion of one frame."""

    @abstractmethod
    def to_coco(self, path: str | Path) -> list[Path]:
        """COCO's JSON with keypoints and, beside them, the answer; one file for all poses."""

    def to_npz(self, path: str | Path) -> list[Path]:
        """Arrays with the keys of AMASS, z up, one file a person (`noise2pose.export.npz`)."""
        return self._written(path, "npz")

    def to_bvh(self, path: str | Path) -> list[Path]:
        """BVH in centimetres, y up, one file a person (`noise2pose.export.bvh`); needs the extra `export`."""
        return self._written(path, "bvh")

    def to_glb(self, path: str | Path) -> list[Path]:
        """Animated skins, with hypotheses as translucent skeletons (`noise2pose.export.glb`); extra `export`."""
        return self._written(path, "glb")

    def to_trc(self, path: str | Path) -> list[Path]:
        """Markers for OpenSim, one file a person (`noise2pose.export.tables`)."""
        return self._written(path, "trc")

    def to_csv(self, path: str | Path) -> list[Path]:
        """A table with a column a coordinate, one file a person (`noise2pose.export.tables`)."""
        return self._written(path, "csv")

    def to_rrd(self, path: str | Path) -> list[Path]:
        """A recording of rerun (`noise2pose.export.rrd`); needs the extra `rerun`."""
        return self._written(path, "rrd")

    def to_mp4(self, path: str | Path, images: str | Path | Images | None = None) -> list[Path]:
        """A film of the people in the images and from the side (`noise2pose.export.video`).

        Args:
            path: of the film.
            images: the video that they were found in, or seconds and RGB of each of its frames; None to draw on white.
        """
        frames = timed_frames(open_video(Path(images))) if isinstance(images, str | Path) else images
        return self._written(path, "mp4", None if frames is None else lambda video: frames)

    def to_html(self, path: str | Path, images: str | Path | Images | None = None) -> list[Path]:
        """One web page with everybody (`noise2pose.viewing.page`).

        Args:
            path: of the page.
            images: as `to_mp4` takes them; None to show people without images.
        """
        frames = timed_frames(open_video(Path(images))) if isinstance(images, str | Path) else images
        return self._written(path, "html", None if frames is None else lambda video: frames)

    def export(
        self,
        folder: str | Path,
        formats: Sequence[str],
        images: Callable[[str], Images | None] | None = None,
        photographs: Callable[[str], Images | None] | None = None,
    ) -> list[Written]:
        """Writes motion.bvh, motion.glb and so on.

        Args:
            folder: made if it is missing.
            formats: names of `noise2pose.export.formats.FORMATS`.
            images: gives the frames of a video by its name, or None to draw it on white.
            photographs: gives those of a video or of an image, for the page, which has them in it; None for `images`.

        Raises:
            InputError: if a format is unknown or needs a package that is missing, or a file cannot be written.
        """
        written: list[Written] = []
        motions = self.motions() if set(formats) - {"coco"} else []
        for name in formats:
            if name not in FORMATS:
                raise InputError(f"unknown format {name}, expected some of {', '.join(FORMATS)}")
            path = Path(folder) / f"{STEM}{FORMATS[name].ending}"
            if name == "mp4" and not _filmed(motions, images):
                written.append(Written(path, "not written: nobody is in motion; single poses have pictures (NAME.png)"))
            elif name == "coco":
                written += [Written(file, FORMATS[name].opens) for file in self.to_coco(path)]
            else:
                written += write(motions, path, name, (photographs or images) if name == "html" else images)
        return written

    def _written(self, path: str | Path, name: str, images: Callable[[str], Images | None] | None = None) -> list[Path]:
        return [file.path for file in write(self.motions(), Path(path), name, images)]


def _filmed(motions: Sequence[Motion], images: Callable[[str], Images | None] | None) -> bool:
    """Whether somebody is in motion, or in a video whose frames are at hand."""
    return any(len(one) > 1 or (images is not None and images(one.video) is not None) for one in motions)


def as_folder(path: str | Path) -> Path:
    """The path of a folder that may be missing yet.

    Raises:
        InputError: as `check_writable`.
    """
    check_writable(Path(path))
    return Path(path)
