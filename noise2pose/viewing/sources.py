"""The videos and images that an answer is about, found again by their names."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from noise2pose.errors import InputError
from noise2pose.images.photographs import ENDINGS, read_image
from noise2pose.images.video import ENDINGS as VIDEO_ENDINGS
from noise2pose.images.video import open_video, timed_frames


class FoundSources:
    """Gives the images of a video or image by the name that outputs call it, as `page.write_page` takes them.

    Args:
        places: folders in which names are looked up, and files, which are taken if they are called so; in this order.

    Attributes:
        missing: names that were asked for and not found, or cannot be read.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = places
        self.missing: list[str] = []

    def __call__(self, name: str) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]] | None:
        """Seconds and RGB of each frame; a single one of an image."""
        path = self._find(name)
        try:
            if path is not None and path.suffix.lower() in VIDEO_ENDINGS:
                return timed_frames(open_video(path))
            if path is not None:
                return iter([(0.0, read_image(path))])
        except (InputError, OSError, ValueError):
            pass  # people are shown without it
        if name not in self.missing:
            self.missing.append(name)
        return None

    def _find(self, name: str) -> Path | None:
        relative = PurePosixPath(name)
        if not name or relative.is_absolute() or ".." in relative.parts:  # a name in a file leads nowhere else
            return None
        endings = ("",) if relative.suffix.lower() in (*ENDINGS, *VIDEO_ENDINGS) else (*ENDINGS, *VIDEO_ENDINGS)
        for place in self.places:
            if place.is_file() and place.name in (relative.name, *(relative.name + ending for ending in endings)):
                return place
            for ending in endings:
                path = place / (name + ending)
                if path.is_file():
                    return path
        return None
