"""Who is to be annotated: the people of keypoint files and of pictures, each with keypoints and a camera.

Shape letters: T poses, P people of a picture, J joints.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float

from noise2pose import cameras, skeletons
from noise2pose.annotation.layout import SKELETON
from noise2pose.errors import InputError
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph, focal_of_diagonal
from noise2pose.keypoints.files import Keypoints

Skipped = list[tuple[str, str]]  # file name, or name of a pose, and the reason


@dataclass(frozen=True)
class Person:
    """Somebody to annotate.

    Attributes:
        name: unlike anybody else's.
        file_name: of the picture, as annotations call it.
        keypoints: (17, 3) h36m_17, pixels of the picture and confidence.
        size: width and height of the picture that the camera takes; of `cameras.virtual_image` where nobody knows.
        focal: pixels.
        corner: (2,) upper left corner of that virtual image in the pixels of the keypoints; None for a real picture.
        photograph: None for keypoints without their picture.
    """

    name: str
    file_name: str
    keypoints: Float[torch.Tensor, "17 3"]
    size: tuple[float, float]
    focal: float
    corner: Float[torch.Tensor, "2"] | None
    photograph: Photograph | None


def people_of_keypoints(read: Keypoints, focal: float | None = None) -> tuple[list[Person], Skipped]:
    """The people of a keypoint file without pictures.

    Where the file does not say how large the pictures are, everybody gets the camera of `cameras.virtual_image`.

    Args:
        read: the file.
        focal: in pixels; None for the diagonal of the pictures.

    Raises:
        InputError: if there is a focal length and no picture size.
    """
    if focal is not None and read.image_sizes is None:
        raise InputError("a focal length says nothing without the size of the pictures, which the keypoints lack")
    keypoints = _to_skeleton(read.points, read.skeleton)
    people, skipped = [], []
    for row, name in enumerate(read.names):
        points, corner = keypoints[row], None
        reason = _useless(points)
        if reason is not None:
            skipped.append((name, reason))
            continue
        if read.image_sizes is not None:
            width, height = read.image_sizes[row].tolist()
            size, person_focal = (width, height), focal or focal_of_diagonal((width, height))
        else:
            corner, side = cameras.virtual_image(points[:, :2])
            size, person_focal = (float(side), float(side)), cameras.VIRTUAL_FOCAL * float(side)
        people.append(Person(name, _image_of(name, read.names), points, size, person_focal, corner, None))
    return people, skipped


def match(
    photographs: Sequence[Photograph], read: Keypoints, source: str
) -> tuple[dict[str, Float[torch.Tensor, "P J 3"]], Skipped]:
    """The keypoints of each picture, from a file whose names are those of the pictures without folder and ending.

    Args:
        photographs: whose keypoints are wanted.
        read: the file.
        source: what messages call it.

    Returns:
        The people of each picture by file name, and those whose picture has another size than the file says.

    Raises:
        InputError: if two pictures have the same name but for their folder or ending, or no keypoints fit any picture.
    """
    keys = [_key(photograph.path.stem) for photograph in photographs]
    for i, photograph in enumerate(photographs):
        if keys[i] in keys[:i]:
            raise InputError(
                f"{photograph.file_name} has the name of another picture, and {source} knows pictures by name only"
            )
    rows: dict[str, list[int]] = {key: [] for key in keys}
    for row, name in enumerate(read.names):
        rows.get(_key(_image_of(name, read.names)), []).append(row)
    if photographs and not any(rows.values()):
        raise InputError(f"{source} has keypoints of {read.names[0]}, but of none of the pictures")
    found, skipped = {}, []
    for photograph, key in zip(photographs, keys, strict=True):
        fitting = []
        for row in rows[key]:
            stated = photograph.size if read.image_sizes is None else tuple(map(int, read.image_sizes[row].tolist()))
            if stated == photograph.size:
                fitting.append(row)
            else:
                reason = "{} x {} pixels, but {} x {} in {}".format(*photograph.size, *stated, source)
                skipped.append((photograph.file_name, reason))
        if fitting or not rows[key]:
            found[photograph.file_name] = read.points[fitting]
    return found, list(dict.fromkeys(skipped))


def people_of_pictures(
    photographs: Sequence[Photograph],
    keypoints: Mapping[str, Float[torch.Tensor, "P J 3"]],
    skeleton: str,
    focal: float | None = None,
) -> tuple[list[Person], Skipped]:
    """Everybody in pictures, in the order of the pictures.

    Args:
        photographs: the pictures.
        keypoints: of the people of each picture, by file name; a picture that has none here is left out silently.
        skeleton: of the keypoints.
        focal: in pixels; None for what the EXIF data of each picture say, else its diagonal.
    """
    people, skipped = [], []
    for photograph, name in zip(photographs, _names(photographs), strict=True):
        if photograph.file_name not in keypoints:
            continue
        points = _to_skeleton(keypoints[photograph.file_name], skeleton)
        if not len(points):
            skipped.append((photograph.file_name, "nobody found in it"))
        person_focal = focal or photograph.focal or focal_of_diagonal(photograph.size)
        for number, pose in enumerate(points, start=1):
            title = name if number == 1 else f"{name}#{number}"
            reason = _useless(pose)
            if reason is not None:
                skipped.append((photograph.file_name, f"{title}: {reason}"))
                continue
            people.append(Person(title, photograph.file_name, pose, photograph.size, person_focal, None, photograph))
    return people, skipped


def _to_skeleton(points: Float[torch.Tensor, "T J 3"], skeleton: str) -> Float[torch.Tensor, "T 17 3"]:
    return skeletons.convert(skeletons.place_hidden(points, skeleton), skeleton, SKELETON, has_confidence=True)


def _useless(keypoints: Float[torch.Tensor, "17 3"]) -> str | None:
    """Why nothing can be said of a person, or None."""
    if float(crops.box_of_keypoints(keypoints)[2]) > 0.0:
        return None
    return "no two visible joints lie apart"


def _key(image: str) -> str:
    """COCO's results have the number of a picture whose file is called by the same number with zeros before it."""
    return str(int(image)) if image.isascii() and image.isdecimal() else image


def _image_of(name: str, names: Sequence[str]) -> str:
    """The image of a person: `name` without the number that the second person of an image has."""
    image, _, number = name.rpartition("#")
    return image if number.isdecimal() and image in names else name


def _names(photographs: Sequence[Photograph]) -> list[str]:
    """The file names, without their endings where that leaves them different."""
    short = [photograph.file_name.removesuffix(photograph.path.suffix) for photograph in photographs]
    count = Counter(short)
    return [
        photograph.file_name if count[name] > 1 else name for photograph, name in zip(photographs, short, strict=True)
    ]
