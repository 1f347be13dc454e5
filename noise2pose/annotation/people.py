"""Who is to be annotated: the people of keypoint files and of images, each with keypoints and a camera.

Shape letters: T poses, P people of an image, J joints.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float

from noise2pose import cameras, skeletons
from noise2pose.annotation import detections
from noise2pose.annotation.layout import SKELETON
from noise2pose.annotation.matching import Skipped, match
from noise2pose.annotation.writer import fingerprint
from noise2pose.errors import InputError
from noise2pose.files import sha256
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph, focal_of_diagonal, open_image
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.detectors.finder import DetectorFiles
from noise2pose.keypoints.files import in_pixels


@dataclass(frozen=True)
class Person:
    """A person to annotate.

    Attributes:
        name: different for each person.
        file_name: of the image, as annotations call it.
        keypoints: (17, 3) h36m_17, pixels of the image and confidence.
        size: width and height of the image; of `cameras.virtual_image` where they are unknown.
        focal: pixels.
        corner: (2,) upper left corner of that virtual image in the pixels of the keypoints; None for a real image.
        photograph: None for keypoints without their image.
    """

    name: str
    file_name: str
    keypoints: Float[torch.Tensor, "17 3"]
    size: tuple[float, float]
    focal: float
    corner: Float[torch.Tensor, "2"] | None
    photograph: Photograph | None


@dataclass(frozen=True)
class Subjects:
    """What is to be annotated, found in the inputs of a call.

    Attributes:
        photographs: the images that can be opened; none where keypoints come alone.
        keypoints: those that were given; None where the detector finds them.
        focal: pixels, of all images; None to take each image's own.
        detector: the models that find people and joints, where they are needed.
        people: who is annotated, in a fixed order; None until `detect_people` has found them.
        skipped: what is left out.
        made_from: hashes of the keypoints and of the images, by which an interrupted set is recognised.
    """

    photographs: list[Photograph]
    keypoints: Keypoints | None
    focal: float | None
    detector: DetectorFiles | None = None
    people: list[Person] | None = None
    skipped: Skipped = field(default_factory=list)
    made_from: dict[str, str] = field(default_factory=dict)


def find_subjects(
    images: Sequence[tuple[str, Path]], keypoints: Keypoints | None, focal: float | None, detector: DetectorFiles | None
) -> Subjects:
    """Opens the images and gives everybody whose keypoints are known a camera.

    Args:
        images: file name and path of each; none to annotate the keypoints alone.
        keypoints: of the people in the images; None to detect them.
        focal: in pixels, of all images; None for the EXIF data or the diagonal of each.
        detector: models that find people and joints; None for BlazePose's in its usual folder.

    Raises:
        InputError: if the keypoints do not fit the images, or there are none and no detector either.
    """
    if keypoints is None:
        detector = detector or detections.detector_files()
        detections.finder_of(detector)  # what is wrong with its files shows before anything is written
        found_by = detector.hashes
    else:
        detector, found_by = None, [_hash(keypoints)]
    photographs, skipped = _open(images)
    made_from = {
        "keypoints": fingerprint(found_by),
        "inputs": fingerprint([(photograph.file_name, sha256(photograph.path)) for photograph in photographs], skipped),
    }
    subjects = Subjects(photographs, keypoints, focal, detector, None, skipped, made_from)
    if keypoints is None:
        return subjects
    if not images:
        people, useless = people_of_keypoints(keypoints, focal)
        return replace(subjects, people=people, skipped=useless)
    points, other_size = match(photographs, keypoints, [file_name for file_name, _ in skipped])
    people, useless = people_of_images(photographs, points, keypoints.skeleton, focal)
    return replace(subjects, people=people, skipped=[*skipped, *other_size, *useless])


def detect_people(subjects: Subjects, cache: Path | None = None) -> Subjects:
    """The same with the people that the detector finds in the images.

    Args:
        subjects: of `find_subjects`; returned as they are if their keypoints were given.
        cache: file that keeps what was detected, see `detections.detect_people`.
    """
    if subjects.detector is None:
        return subjects
    points, unreadable = detections.detect_people(subjects.detector, subjects.photographs, cache)
    people, useless = people_of_images(subjects.photographs, points, detections.SKELETON, subjects.focal)
    return replace(subjects, people=people, skipped=[*subjects.skipped, *unreadable, *useless])


def people_of_keypoints(read: Keypoints, focal: float | None = None) -> tuple[list[Person], Skipped]:
    """The people of keypoints without images.

    Where the size of the images is unknown, everybody gets the camera of `cameras.virtual_image`.

    Args:
        read: the keypoints.
        focal: in pixels; None for the diagonal of the images.

    Raises:
        InputError: if there is a focal length and no image size.
    """
    if focal is not None and read.image_sizes is None:
        raise InputError("a focal length says nothing without the size of the images, which the keypoints lack")
    read = in_pixels(read)
    if read.relative:
        raise InputError(f"{read.source}: coordinates are shares of the image, whose size is unknown: give the images")
    keypoints = skeletons.to_input(read.points, read.skeleton, SKELETON)
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
        people.append(Person(name, read.images[row], points, size, person_focal, corner, None))
    return people, skipped


def people_of_images(
    photographs: Sequence[Photograph],
    keypoints: Mapping[str, Float[torch.Tensor, "P J 3"]],
    skeleton: str,
    focal: float | None = None,
) -> tuple[list[Person], Skipped]:
    """Everybody in some images, in the order of the images.

    Args:
        photographs: the images.
        keypoints: of the people of each image, by file name; an image that has no entry is left out silently.
        skeleton: of the keypoints.
        focal: in pixels; None for what the EXIF data of each image say, else its diagonal.
    """
    people, skipped = [], []
    for photograph, name in zip(photographs, _names(photographs), strict=True):
        if photograph.file_name not in keypoints:
            continue
        points = skeletons.to_input(keypoints[photograph.file_name], skeleton, SKELETON)
        if not len(points):
            skipped.append((photograph.file_name, "no person was found in it"))
        person_focal = focal or photograph.focal or focal_of_diagonal(photograph.size)
        for number, pose in enumerate(points, start=1):
            title = name if number == 1 else f"{name}#{number}"
            reason = _useless(pose)
            if reason is not None:
                skipped.append((photograph.file_name, f"{title}: {reason}"))
                continue
            people.append(Person(title, photograph.file_name, pose, photograph.size, person_focal, None, photograph))
    return people, skipped


def _useless(keypoints: Float[torch.Tensor, "17 3"]) -> str | None:
    """Why a person cannot be annotated, or None."""
    if float(crops.box_of_keypoints(keypoints)[2]) > 0.0:
        return None
    return "no two visible joints lie apart"


def _names(photographs: Sequence[Photograph]) -> list[str]:
    """The file names, without their endings where that leaves them different."""
    short = [photograph.file_name.removesuffix(photograph.path.suffix) for photograph in photographs]
    count = Counter(short)
    return [
        photograph.file_name if count[name] > 1 else name for photograph, name in zip(photographs, short, strict=True)
    ]


def _open(images: Sequence[tuple[str, Path]]) -> tuple[list[Photograph], Skipped]:
    """The images that can be opened, and why others cannot."""
    photographs, skipped = [], []
    for file_name, path in images:
        try:
            photographs.append(open_image(file_name, path))
        except InputError as error:
            skipped.append((file_name, str(error)))
    return photographs, skipped


def _hash(keypoints: Keypoints) -> str:
    """A hash of everything that an annotation depends on, whatever file or folder it came from."""
    points = hashlib.sha256(keypoints.points.numpy().tobytes()).hexdigest()
    sizes = None if keypoints.image_sizes is None else keypoints.image_sizes.tolist()
    return fingerprint(points, keypoints.names, keypoints.images, sizes, keypoints.relative)
