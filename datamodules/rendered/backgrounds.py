"""What is behind rendered people: made up, or crops of a user's photographs.

Shape letters: S side of the image.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from noise2pose.errors import InputError
from noise2pose.images.photographs import eight_bit

_SUFFIXES = {".jpg", ".jpeg", ".png"}
_PHOTO_SHARE = 0.8  # of the backgrounds, where there are photographs
_PHOTO_SIDE = 512  # pixels of the shorter side that photographs are kept with
_SCALES = (2, 3, 5, 9, 17, 40)  # cells of smooth noise across the image


def find_photos(folder: str | Path) -> list[Path]:
    """The photographs of a folder and its subfolders, in order of their names.

    Raises:
        InputError: if there is no such folder or none in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected one with photographs")
    photos = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not photos:
        raise InputError(f"{root}: found no photographs, expected jpg or png files")
    return photos


def background(size: int, generator: np.random.Generator, photos: list[Path]) -> UInt8[np.ndarray, "S S 3"]:
    """Draws a background.

    Args:
        size: S.
        generator: of the image.
        photos: of `find_photos`, or none.

    Raises:
        InputError: if a photograph cannot be read.
    """
    if photos and generator.uniform() < _PHOTO_SHARE:
        return _crop(photos[int(generator.integers(len(photos)))], size, generator)
    image = _base(size, generator)
    if generator.uniform() < 0.7:
        _draw_shapes(image, generator)
    if generator.uniform() < 0.3:
        image = image.filter(ImageFilter.BoxBlur(float(generator.uniform(0.5, 4.0))))
    return np.array(_mute(image, generator))


def texture(size: int, generator: np.random.Generator) -> Image.Image:
    """A surface without shapes on it."""
    return _mute(_base(size, generator), generator)


def _crop(path: Path, size: int, generator: np.random.Generator) -> np.ndarray:
    photo = _photo(str(path))
    side = generator.uniform(0.35, 1.0) * min(photo.size)
    left, top = (generator.uniform(0, extent - side) for extent in photo.size)
    image = photo.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = np.asarray(image)
    return np.array(pixels[:, ::-1] if generator.uniform() < 0.5 else pixels)


@lru_cache(maxsize=128)
def _photo(path: str) -> Image.Image:
    try:
        with Image.open(path) as file:
            # Decodes large JPEG files at a fraction of their size.
            file.draft("RGB", (2 * _PHOTO_SIDE, 2 * _PHOTO_SIDE))
            photo = eight_bit(file).convert("RGB")
    except (InputError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: found no readable photograph ({error})") from error
    scale = _PHOTO_SIDE / min(photo.size)
    if scale >= 1.0:
        return photo
    width, height = (max(_PHOTO_SIDE, round(scale * extent)) for extent in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR)


def _base(size: int, generator: np.random.Generator) -> Image.Image:
    """A gradient, smooth noise at several scales, a pattern, or a wall and a floor."""
    kind = generator.choice(4, p=(0.2, 0.35, 0.15, 0.3))
    if kind == 0:
        return _gradient(size, generator)
    if kind == 1:
        return _noise(size, generator)
    if kind == 2:
        return Image.blend(_pattern(size, generator), _noise(size, generator), float(generator.uniform(0.1, 0.6)))
    image = Image.blend(_gradient(size, generator), _noise(size, generator), float(generator.uniform(0.0, 0.35)))
    horizon = int(size * generator.uniform(0.45, 0.95))
    floor = _gradient(size, generator) if generator.uniform() < 0.5 else _pattern(size, generator)
    floor = Image.blend(floor, _noise(size, generator), float(generator.uniform(0.1, 0.5)))
    image.paste(floor.crop((0, 0, size, size - horizon)), (0, horizon))
    return image


def _gradient(size: int, generator: np.random.Generator) -> Image.Image:
    """Between four corners of similar colours."""
    middle, spread = generator.uniform(20, 235, 3), generator.uniform(5, 70)
    return _enlarge((middle + spread * generator.normal(size=(2, 2, 3))).clip(0, 255), size)


def _noise(size: int, generator: np.random.Generator) -> Image.Image:
    """Smooth noise at several scales, with one spectrum for the image."""
    half = size // 2
    middle, strength = generator.uniform(30, 225, 3), generator.uniform(15, 55)
    fall, grey = generator.uniform(0.45, 1.0), generator.uniform(0.0, 1.0)
    total = np.broadcast_to(middle.astype(np.float32), (half, half, 3)).copy()
    for octave, cells in enumerate(_SCALES):
        waves = (
            generator.normal(size=(cells, cells, 3)) * (1.0 - grey) + generator.normal(size=(cells, cells, 1)) * grey
        )
        layer = _enlarge((128.0 + 42.0 * waves).clip(0, 255), half)
        total += (np.asarray(layer, dtype=np.float32) - 128.0) * np.float32(strength / 42.0 * fall**octave)
    return _enlarge(total.clip(0, 255), size)


def _pattern(size: int, generator: np.random.Generator) -> Image.Image:
    """Stripes, checks or bricks at an angle, in two similar colours."""
    angle, period = generator.uniform(0, np.pi), generator.uniform(0.06, 0.4) * size
    first = generator.uniform(20, 235, 3)
    second = first + generator.normal(scale=45, size=3)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    across = (x * np.cos(angle) + y * np.sin(angle)) / period
    along = (y * np.cos(angle) - x * np.sin(angle)) / period
    kind, share = int(generator.integers(3)), generator.uniform(0.1, 0.6)
    if kind == 0:
        chosen = across % 1.0 < share
    elif kind == 1:
        chosen = (across % 1.0 < 0.5) ^ (along % 1.0 < 0.5)
    else:
        chosen = ((across + 0.5 * (np.floor(along * 2.0) % 2.0)) % 1.0 < 0.06) | (along * 2.0 % 1.0 < 0.12)
    colours = np.stack((first, second)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(colours[chosen.astype(np.int8)])


def _draw_shapes(image: Image.Image, generator: np.random.Generator) -> None:
    """Polygons, ellipses, rectangles and bars, large ones first."""
    size = image.width
    draw = ImageDraw.Draw(image)
    count = int(generator.integers(2, 22))
    reach = np.sort(generator.uniform(0.02, 0.35, count))[::-1] * size
    # Furniture and windows stand upright, so most shapes do.
    for extent, kind in zip(reach, generator.choice(4, count, p=(0.25, 0.15, 0.4, 0.2)), strict=True):
        fill = tuple(generator.integers(0, 256, 3).tolist())
        centre = generator.uniform(0, size, 2)
        if kind == 0:
            corners = centre + extent * generator.normal(size=(int(generator.integers(3, 7)), 2))
            draw.polygon([tuple(corner) for corner in corners.tolist()], fill=fill)
        elif kind == 3:
            ends = centre + 2.0 * extent * generator.normal(size=(2, 2))
            draw.line([tuple(end) for end in ends.tolist()], fill=fill, width=int(generator.integers(1, 9)))
        else:
            half = extent * generator.uniform(0.3, 1.0, 2)
            box = (*(centre - half).tolist(), *(centre + half).tolist())
            (draw.ellipse if kind == 1 else draw.rectangle)(box, fill=fill)


def _mute(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Takes colour out of most images: the world is mostly grey and brown."""
    saturation = float(generator.uniform(0.1, 1.0)) ** 1.5
    return Image.blend(image.convert("L").convert("RGB"), image, saturation)


def _enlarge(pixels: np.ndarray, size: int) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
