"""Names of images as keypoint files write them: on any system, with folders or without, or as numbers."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

KEYPOINT_ENDINGS = (".npz", ".npy", ".json", ".jsonl", ".txt")
_OTHER = {  # what to do with files of other endings
    (".csv", ".tsv", ".xlsx", ".mat", ".pkl", ".pickle", ".h5"): "save (poses, joints, 3) with numpy.savez(path, "
    "keypoints=..., skeleton=...)",
    (".gz", ".zip", ".bz2", ".xz", ".tar"): "unpack it first",
}
_ENDING = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?|gif|heic|heif|avif)$", re.IGNORECASE)
_NUMBER = re.compile(r"([0-9]+)")


def image_path(file_name: str) -> str:
    """The path of an image with `/` between folders and composed characters (`é` is one, as most systems write it)."""
    path = unicodedata.normalize("NFC", file_name.replace("\\", "/"))
    return str(PurePosixPath(path)) if path.strip("./") else "image"


def instead(path: Path) -> str:
    """What to do with a file that is not read, to be added to a message; empty where nothing is known."""
    return next((f"; {advice}" for endings, advice in _OTHER.items() if path.suffix.lower() in endings), "")


def without_ending(path: str) -> str:
    """The path without the ending of an image file; other endings belong to the name."""
    return _ENDING.sub("", path)


def natural(name: str) -> list[str | int]:
    """A sort key by which `frame_10` follows `frame_9`."""
    return [int(part) if position % 2 else part for position, part in enumerate(_NUMBER.split(name))]


def person_names(images: Sequence[str]) -> list[str]:
    """A different name for each pose: that of its image, with a number from the second person on.

    Images are called by their file name without ending, by their path where file names repeat, and with their ending
    where this alone tells them apart.

    Args:
        images: the image of each pose.
    """
    distinct = dict.fromkeys(images)
    shortened = [
        {image: PurePosixPath(without_ending(image)).name or image for image in distinct},
        {image: without_ending(image).strip("/") for image in distinct},
        {image: image for image in distinct},
    ]
    short = next(names for names in shortened if len(set(names.values())) == len(distinct))
    taken, people, names = set(short.values()), Counter[str](), []
    for image in images:
        people[image] += 1
        name, number = short[image], people[image]
        while number > 1 and (name := f"{short[image]}#{number}") in taken:  # an image may be called walk#2
            number += 1
        taken.add(name)
        people[image] = number
        names.append(name)
    return names


def frame_number(image: str) -> tuple[str, int | None]:
    """What surrounds the last number in the name of an image, and that number if there is one."""
    *around, name = without_ending(image).rsplit("/", 1)
    parts = _NUMBER.split(name)
    if len(parts) < 3:
        return image, None
    return "\0".join([*around, *parts[:-2], parts[-1]]), int(parts[-2])
