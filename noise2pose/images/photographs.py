"""Image files: which there are, their pixels and what their EXIF data say about the camera."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from noise2pose.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Images that are not read; they are named as skipped, so that no photograph is missing without a word.
OTHER_ENDINGS = (
    *(".heic", ".heif", ".hif", ".avif", ".gif", ".jxl", ".jp2", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
_FILM_WIDTH = 36.0  # millimetres, of the film that `FocalLengthIn35mmFilm` refers to
_FILM_FOCALS = (8.0, 2000.0)  # millimetres; no lens is outside, and 65535 means unknown to some cameras
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_BIT_DEPTHS = (8, 10, 12, 14, 16)  # of grey values that are stored in 16 bits


@dataclass(frozen=True)
class Photograph:
    """An image file that can be opened; its pixels may still turn out to be damaged.

    Attributes:
        file_name: its path within the folder that was given.
        path: where it is.
        size: width and height after the rotation that its EXIF data state.
        focal: pixels, as its EXIF data state, or None.
        turned: whether that rotation exchanges width and height.
    """

    file_name: str
    path: Path
    size: tuple[int, int]
    focal: float | None
    turned: bool = False

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; as `read_image`."""
        return read_image(self.path)


def find_images(inputs: Sequence[Path]) -> list[tuple[str, Path]]:
    """The images among files and folders, in the order of the inputs; folders recursively, sorted by name.

    Returns:
        File name and path of each: the path below its folder with `/` between, or the name of a file that was given
        itself. Where two images would have the same name, as those of two cameras may, all names are paths below the
        folder that they share. Files of a folder with one of `OTHER_ENDINGS` are among them; `open_image` says why they
        are not read.

    Raises:
        InputError: if an input is missing or not an image, or a folder holds none that is read.
    """
    found: dict[Path, str] = {}
    for given in inputs:
        if given.is_dir():
            inside = [
                path for path in given.rglob("*") if _ending(path) in (*ENDINGS, *OTHER_ENDINGS) and path.is_file()
            ]
            if not any(_ending(path) in ENDINGS for path in inside):
                about = f"; {inside[0].name} {_not_read(inside[0])}" if inside else ""
                about = about if any(given.iterdir()) else "; it is empty"
                raise InputError(
                    f"{given}: no image in this folder, expected files ending in {', '.join(ENDINGS)}{about}"
                )
            named = sorted((path.relative_to(given).as_posix(), path) for path in inside)
        elif _ending(given) in OTHER_ENDINGS:
            raise InputError(f"{given}: {_not_read(given)}")
        elif _ending(given) not in ENDINGS:
            raise InputError(f"{given}: is not an image, expected a file ending in {', '.join(ENDINGS)} or a folder")
        elif not given.is_file():
            raise InputError(f"{given} does not exist")
        else:
            named = [(given.name, given)]
        found |= {path: name for name, path in named}
    return told_apart(found)


def told_apart(found: Mapping[Path, str]) -> list[tuple[str, Path]]:
    """Name and path of some files; where two have the same name, all names are paths below the folder they share."""
    if len(set(found.values())) < len(found):
        root = Path(os.path.commonpath([path.absolute().parent for path in found]))
        found = {path: path.absolute().relative_to(root).as_posix() for path in found}
    return [(name, path) for path, name in found.items()]


def open_image(file_name: str, path: Path) -> Photograph:
    """Reads size and focal length, not the pixels.

    Raises:
        InputError: if it is not a readable image; the message says only why.
    """
    if _ending(path) in OTHER_ENDINGS:
        raise InputError(_not_read(path))
    try:
        with Image.open(path) as image:
            width, height = image.size
            exif = image.getexif()
            film = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
            turned = exif.get(ExifTags.Base.Orientation) in _TURNED
            if turned:
                width, height = height, width
    except Exception as error:  # Pillow's readers raise many kinds of exceptions for broken files
        raise InputError(_reason(path, error)) from error
    try:
        millimetres = float(film or 0.0)
    except (TypeError, ValueError, ZeroDivisionError):
        millimetres = 0.0
    known = _FILM_FOCALS[0] <= millimetres <= _FILM_FOCALS[1]
    focal = millimetres / _FILM_WIDTH * max(width, height) if known else None
    return Photograph(file_name, path, (width, height), focal, turned)


def open_images(images: Sequence[tuple[str, Path]]) -> tuple[list[Photograph], list[tuple[str, str]]]:
    """The images that can be opened, and name and reason of the others.

    Args:
        images: file name and path of each.
    """
    photographs, skipped = [], []
    for file_name, path in images:
        try:
            photographs.append(open_image(file_name, path))
        except InputError as error:
            skipped.append((file_name, str(error)))
    return photographs, skipped


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF data say.

    Raises:
        InputError: if it is damaged, not an image, or its range is unknown; the message says only why.
    """
    try:
        with Image.open(path) as image:
            return np.array(eight_bit(ImageOps.exif_transpose(image)).convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(_reason(path, error)) from error


def eight_bit(image: Image.Image) -> Image.Image:
    """Grey values of more than 8 bits, or floats, as 8 bits; Pillow would cut them off at 255. Others stay as they are.

    Integers are taken as of the smallest usual bit depth that holds them all, since cameras store 10, 12 or 14 bits in
    files of 16; floats are taken from 0 (black) to 1 (white).

    Raises:
        InputError: if the values are in no known range; the message says only why.
    """
    if image.mode != "F" and image.mode.partition(";")[0] != "I":
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    tops = (1.0,) if image.mode == "F" else tuple(2.0**bits - 1.0 for bits in _BIT_DEPTHS)
    if not (low >= 0.0 and high <= tops[-1]):
        kind = "floats" if image.mode == "F" else "integers"
        raise InputError(
            f"its grey values are {kind} from {low:g} to {high:g}, expected 0 to {tops[-1]:g}: save it with 8 or 16 "
            "bits"
        )
    top = next(top for top in tops if high <= top)
    return Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8))


def focal_of_diagonal(size: tuple[float, float]) -> float:
    """The usual guess for an unknown camera, in pixels: the diagonal, a field of view of 53 degrees along it."""
    return math.hypot(*size)


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _not_read(path: Path) -> str:
    """Why an image of `OTHER_ENDINGS` is left out, and what to do."""
    name = path.name
    return f"{_ending(path)} is not read; convert it: magick '{name}' '{path.stem}.jpg' (ImageMagick)"


def _reason(path: Path, error: Exception) -> str:
    """Why an image cannot be read, without its folder, so that the same files give the same message anywhere."""
    said = str(error).replace(str(path), path.name)
    return "the file is empty" if path.is_file() and not path.stat().st_size else f"not a readable image: {said}"
