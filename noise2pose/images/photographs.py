"""Image files: which there are, their pixels and what their EXIF data say about the camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from noise2pose.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_FILM_WIDTH = 36.0  # millimetres, of the film that `FocalLengthIn35mmFilm` refers to
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Photograph:
    """An image file that can be opened; its pixels may still turn out to be damaged.

    Attributes:
        file_name: its path within the folder that was given.
        path: where it is.
        size: width and height after the rotation that its EXIF data state.
        focal: pixels, as its EXIF data state, or None.
    """

    file_name: str
    path: Path
    size: tuple[int, int]
    focal: float | None


def find_images(inputs: Sequence[Path]) -> list[tuple[str, Path]]:
    """The images among files and folders, in the order of the inputs; folders recursively, sorted by name.

    Returns:
        File name and path of each: the path below its folder with `/` between, or the name of a file that was given
        itself.

    Raises:
        InputError: if an input is missing or not an image, a folder holds none, or two images have the same name.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        if given.is_dir():
            inside = [path for path in given.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
            if not inside:
                raise InputError(f"{given}: no image in this folder, expected files ending in {', '.join(ENDINGS)}")
            named = sorted((path.relative_to(given).as_posix(), path) for path in inside)
        elif given.suffix.lower() not in ENDINGS:
            raise InputError(f"{given}: is not an image, expected a file ending in {', '.join(ENDINGS)} or a folder")
        elif not given.is_file():
            raise InputError(f"{given} does not exist")
        else:
            named = [(given.name, given)]
        for name, path in named:
            if name in found:
                raise InputError(f"{path} and {found[name]} would have the same name {name}: annotate them apart")
            found[name] = path
    return list(found.items())


def open_image(file_name: str, path: Path) -> Photograph:
    """Reads size and focal length, not the pixels.

    Raises:
        InputError: if it is not a readable image; the message says only why.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            exif = image.getexif()
            film = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
            if exif.get(ExifTags.Base.Orientation) in _TURNED:
                width, height = height, width
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for broken files
        raise InputError(_reason(path, error)) from error
    try:
        millimetres = float(film or 0.0)
    except (TypeError, ValueError, ZeroDivisionError):
        millimetres = 0.0
    known = 0.0 < millimetres < math.inf
    return Photograph(
        file_name, path, (width, height), millimetres / _FILM_WIDTH * max(width, height) if known else None
    )


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF data say.

    Raises:
        InputError: if it is damaged or not an image; the message says only why.
    """
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # as above
        raise InputError(_reason(path, error)) from error


def focal_of_diagonal(size: tuple[float, float]) -> float:
    """The usual guess for an unknown camera, in pixels: the diagonal, a field of view of 53 degrees along it."""
    return math.hypot(*size)


def _reason(path: Path, error: Exception) -> str:
    """Why an image cannot be read, without its folder, so that the same files give the same message anywhere."""
    said = str(error).replace(str(path), path.name)
    return "the file is empty" if path.is_file() and not path.stat().st_size else f"not a readable image: {said}"
