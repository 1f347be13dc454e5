"""Which image the people of a keypoint file are in.

Shape letters: P people of an image, J joints.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import torch
from jaxtyping import Float

from noise2pose.errors import InputError
from noise2pose.images.photographs import Photograph
from noise2pose.keypoints.arrays import Keypoints, counted
from noise2pose.keypoints.images import image_path, without_ending

Skipped = list[tuple[str, str]]  # file name, or name of a pose, and the reason
_PERSON = re.compile(r"(.+)#[0-9]+")


def match(
    photographs: Sequence[Photograph], read: Keypoints, unopened: Sequence[str] = ()
) -> tuple[dict[str, Float[torch.Tensor, "P J 3"]], Skipped]:
    """The keypoints of each image, found by the path that they name.

    Roots may differ: the image that shares most folders from the file name upwards is meant. File names must be equal,
    or, where no image has the name, equal but for the ending; a number finds the file name with that number, as COCO's
    results give 785 for 000000000785.jpg.

    Args:
        photographs: whose keypoints are wanted.
        read: the keypoints.
        unopened: file names of images that were given and cannot be opened.

    Returns:
        The people of each image by file name, and the images that have another size than the keypoints say; last
        how many poses are of other images.

    Raises:
        InputError: if it is ambiguous which image is meant, or no keypoints fit any image.
    """
    source = "the keypoints" if read.source is None else str(read.source)
    stated = list(dict.fromkeys(read.images))
    meant = images_meant(source, photographs, stated)
    if photographs and not meant:
        raise InputError(f"{source}: the first pose is of {read.images[0]}, and no pose is of any of the images")
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(read.images):
        if image in meant:
            rows.setdefault(meant[image], []).append(row)
    found, skipped = {}, []
    for photograph in photographs:
        of_image = rows.get(photograph.file_name, [])
        fitting = []
        for row in of_image:
            size = None if read.image_sizes is None else tuple(map(int, read.image_sizes[row].tolist()))
            if size in (None, photograph.size):
                fitting.append(row)
            else:
                reason = "{} x {} pixels, but {} x {} in {}".format(*photograph.size, *size, source)
                if photograph.turned and size == photograph.size[::-1]:
                    reason += ", as it is stored: turn its keypoints as its EXIF data say"
                skipped.append((photograph.file_name, reason))
        ids = {read.image_ids[row] for row in fitting} if read.image_ids else set()
        if len(ids) > 1:
            raise InputError(
                f"{source}: images {' and '.join(sorted(ids))} are both called {read.images[fitting[0]]}, and "
                f"{photograph.file_name} can be one of them only: give each image a file name of its own"
            )
        if fitting or not of_image:
            points = read.points[fitting]
            scale = torch.tensor([*photograph.size, 1.0]) if read.relative else 1.0
            found[photograph.file_name] = points * scale
    given = {key for name in unopened for key in _keys(PurePosixPath(name).name)}
    others = [image for image in read.images if image not in meant]
    elsewhere = [image for image in others if not given & set(_keys(PurePosixPath(image).name))]
    if photographs and elsewhere:
        about = f"{counted(len(elsewhere), 'pose')} of other images than these, {elsewhere[0]} the first"
        skipped.append(("keypoints" if read.source is None else read.source.name, about))
    return found, list(dict.fromkeys(skipped))


def images_meant(source: str, photographs: Sequence[Photograph], stated: Sequence[str]) -> dict[str, str]:
    """Which image each stated path means, where it means one.

    Raises:
        InputError: if a path means two images, or two paths mean one image, equally well.
    """
    by_stem: dict[str, list[Photograph]] = {}
    for photograph in photographs:
        for key in _keys(photograph.path.name):
            by_stem.setdefault(key, []).append(photograph)
    claims: dict[str, list[tuple[tuple[int, int], str]]] = {}
    for image in stated:
        name = PurePosixPath(image).name
        likely = {p.file_name: p for key in _keys(name) for p in by_stem.get(key, [])}
        # Names of arrays may number the people of an image.
        if not likely and (person := _PERSON.fullmatch(image)) and person[1] in stated:
            likely = {p.file_name: p for key in _keys(PurePosixPath(person[1]).name) for p in by_stem.get(key, [])}
        scores = {file_name: _similarity(image, photograph) for file_name, photograph in likely.items()}
        best = [file_name for file_name, score in scores.items() if score == max(scores.values())]
        if len(best) > 1:
            raise InputError(
                f"{source}: {image} may be {best[0]} or {best[1]}: give the keypoints the folders of the images too"
            )
        if best:
            claims.setdefault(best[0], []).append((scores[best[0]], image))
    meant = {}
    for file_name, claimed in claims.items():
        highest = max(score for score, _ in claimed)
        images = [image for score, image in claimed if score == highest]
        if len({_PERSON.sub(r"\1", image) for image in images}) > 1:
            raise InputError(
                f"{source}: {images[0]} and {images[1]} may both be {file_name}: give the folders of the images too, "
                "or their keypoints alone"
            )
        meant |= dict.fromkeys(images, file_name)
    return meant


def _keys(name: str) -> list[str]:
    """What the name of an image is looked up by: itself without ending, and as a number."""
    stem = without_ending(image_path(name))
    return [stem, *([f"#{int(stem)}"] if stem.isascii() and stem.isdecimal() else [])]


def _similarity(stated: str, photograph: Photograph) -> tuple[int, int]:
    """How well a stated path fits an image: by its name, then by the number of equal folders above it."""
    *folders, name = stated.split("/")
    *real_folders, real_name = image_path(str(photograph.path.absolute())).split("/")
    shared = 0
    for folder, real in zip(reversed(folders), reversed(real_folders), strict=False):
        if folder != real:
            break
        shared += 1
    return 2 if name == real_name else 1 if without_ending(name) == without_ending(real_name) else 0, shared
