"""Who is to be annotated: the people of keypoint files and of images, each with keypoints and a camera.

Shape letters: T poses, P people of an image, J joints.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float

from noise2pose import cameras, skeletons
from noise2pose.annotation import detections
from noise2pose.annotation.layout import SKELETON
from noise2pose.annotation.matching import Skipped, images_meant, match
from noise2pose.annotation.writer import fingerprint
from noise2pose.errors import InputError
from noise2pose.files import sha256
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph, focal_of_diagonal, open_images
from noise2pose.images.sources import fingerprints
from noise2pose.images.video import FramesByNumber, Video, frame_of
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.detectors.finder import DetectorFiles
from noise2pose.keypoints.files import in_pixels
from noise2pose.keypoints.videos import FOLDER, detect_in_videos
from noise2pose.timing import stage
from noise2pose.tracking.gaps import with_identities
from noise2pose.tracking.identities import check_installed


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
        identity: that a tracker gave; None where there is none.
        frame: position in a video; None where it is unknown.
        time: seconds from the first frame of the video; None where they are unknown.
        filled: whether nobody saw this pose: it lies between two that were seen.
    """

    name: str
    file_name: str
    keypoints: Float[torch.Tensor, "17 3"]
    size: tuple[float, float]
    focal: float
    corner: Float[torch.Tensor, "2"] | None
    photograph: Photograph | None
    identity: str | None = None
    frame: int | None = None
    time: float | None = None
    filled: bool = False


class Tracking(NamedTuple):
    """How people are followed over the frames of a video.

    Attributes:
        max_gap: seconds without detection that are filled.
        fps: frames in a second where the source does not say it.
    """

    max_gap: float
    fps: float


@dataclass(frozen=True)
class Subjects:
    """What is to be annotated, found in the inputs of a call.

    Attributes:
        photographs: the images that can be opened; none where keypoints come alone or of videos.
        videos: in which people are detected; none where there are images or keypoints.
        tracking: how identities are found; None to find none.
        about: what was detected, in words; empty until it was.
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
    videos: Sequence[Video] = ()
    tracking: Tracking | None = None
    about: str = ""
    people: list[Person] | None = None
    skipped: Skipped = field(default_factory=list)
    made_from: dict[str, str] = field(default_factory=dict)


def find_subjects(
    images: Sequence[tuple[str, Path]],
    keypoints: Keypoints | None,
    focal: float | None,
    detector: DetectorFiles | None,
    videos: Sequence[Video] = (),
    tracking: Tracking | None = None,
) -> Subjects:
    """Opens the images and gives everybody whose keypoints are known a camera.

    Args:
        images: file name and path of each; none to annotate keypoints alone, or videos.
        keypoints: of the people in the images; None to detect them.
        focal: in pixels, of all images; None for the EXIF data or the diagonal of each.
        detector: models that find people and joints; None for BlazePose's in its usual folder.
        videos: in which people are detected.
        tracking: how the people of frames get identities; None for none.

    Raises:
        InputError: if the keypoints do not fit the images, or there are none and no detector either.
    """
    if tracking is not None:
        check_installed()
    if keypoints is None:
        detector = detector or detections.detector_files()
        detections.finder_of(detector)  # what is wrong with its files shows before anything is written
        found_by = detector.hashes
    else:
        detector, found_by = None, [_hash(keypoints)]
    photographs, skipped = open_images(images)
    named = [(photograph.file_name, sha256(photograph.path)) for photograph in photographs]
    made_from = {
        "keypoints": fingerprint(found_by),
        "inputs": fingerprint([*named, *fingerprints(videos)], skipped),
    }
    subjects = Subjects(photographs, keypoints, focal, detector, videos, tracking, "", None, skipped, made_from)
    if keypoints is None:
        return subjects
    if tracking is not None:
        keypoints = with_identities(in_pixels(keypoints), *tracking)
        subjects = replace(subjects, keypoints=keypoints)
    if not images:
        people, useless = people_of_keypoints(keypoints, focal)
        return replace(subjects, people=people, skipped=useless)
    if tracking is not None:
        meant = images_meant(str(keypoints.source or "keypoints"), photographs, list(dict.fromkeys(keypoints.images)))
        by_name = {photograph.file_name: photograph for photograph in photographs}
        return _of_frames(subjects, keypoints, {stated: by_name[name] for stated, name in meant.items()})
    points, other_size = match(photographs, keypoints, [file_name for file_name, _ in skipped])
    people, useless = people_of_images(photographs, points, keypoints.skeleton, focal)
    return replace(subjects, people=people, skipped=[*skipped, *other_size, *useless])


def detect_people(subjects: Subjects, folder: Path | None = None) -> Subjects:
    """The same with the people that the detector finds in the images or videos.

    Args:
        subjects: of `find_subjects`; returned as they are if their keypoints were given.
        folder: output folder, for the files that keep what was detected.

    Raises:
        InputError: if a video cannot be read, nobody is found in it, or nobody can be tracked.
    """
    if subjects.detector is None:
        return subjects
    cache = None if folder is None else folder / "detections.json"
    if not subjects.videos and subjects.tracking is None:
        points, unreadable = detections.detect_people(subjects.detector, subjects.photographs, cache)
        people, useless = people_of_images(subjects.photographs, points, detections.SKELETON, subjects.focal)
        return replace(subjects, people=people, skipped=[*subjects.skipped, *unreadable, *useless], about="detected")
    images: dict[str, Photograph] = {photograph.file_name: photograph for photograph in subjects.photographs}
    if subjects.videos:
        detector = detections.video_detector(subjects.detector)
        read = detect_in_videos(subjects.videos, detector, None if folder is None else folder / FOLDER)
    else:
        listed = [(photograph.file_name, photograph.path) for photograph in subjects.photographs]
        read, _ = detections.keypoints_of_images(listed, subjects.detector, cache)
    if subjects.tracking is not None:
        with stage("track"):
            read = with_identities(read, *subjects.tracking)
    for video in subjects.videos:
        frames = FramesByNumber(video)
        of_video = [frame for image, frame in zip(read.images, read.frames, strict=True) if frame is not None]
        images |= {video.frame_name(number): frame_of(frames, number) for number in dict.fromkeys(of_video)}
    return _of_frames(replace(subjects, about=read.about()), read, images)


def _of_frames(subjects: Subjects, read: Keypoints, images: Mapping[str, Photograph]) -> Subjects:
    """The same with the people of a record in the images that it names."""
    people, useless = people_of_keypoints(read, subjects.focal, images)
    elsewhere = [person.name for person in people if person.photograph is None]
    if elsewhere:
        useless = [*useless, (elsewhere[0], f"{len(elsewhere)} poses of other images than these, this one the first")]
    people = [person for person in people if person.photograph is not None]
    shown = {person.file_name: person.photograph for person in people if person.photograph is not None}
    return replace(subjects, photographs=list(shown.values()), people=people, skipped=[*subjects.skipped, *useless])


def people_of_keypoints(
    read: Keypoints, focal: float | None = None, images: Mapping[str, Photograph] | None = None
) -> tuple[list[Person], Skipped]:
    """The people of a record, in its order.

    Where the size of the images is unknown, everybody gets the camera of `cameras.virtual_image`.

    Args:
        read: the keypoints.
        focal: in pixels; None for the diagonal of the images, or for what their EXIF data say.
        images: those that are at hand, as the record names them.

    Raises:
        InputError: if there is a focal length and no image size.
    """
    images = images or {}
    if focal is not None and read.image_sizes is None and not images:
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
        photograph = images.get(read.images[row])
        if photograph is not None:
            size, person_focal = photograph.size, focal or photograph.focal or focal_of_diagonal(photograph.size)
        elif read.image_sizes is not None:
            width, height = read.image_sizes[row].tolist()
            size, person_focal = (width, height), focal or focal_of_diagonal((width, height))
        else:
            corner, side = cameras.virtual_image(points[:, :2])
            size, person_focal = (float(side), float(side)), cameras.VIRTUAL_FOCAL * float(side)
        file_name = read.images[row] if photograph is None else photograph.file_name
        person = Person(name, file_name, points, size, person_focal, corner, photograph)
        about = {"identity": read.people[row], "frame": read.frames[row]}
        about |= {"time": read.times[row]} if read.times else {}
        about |= {"filled": read.filled[row]} if read.filled else {}
        people.append(replace(person, **about))
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


def _hash(keypoints: Keypoints) -> str:
    """A hash of everything that an annotation depends on, whatever file or folder it came from."""
    points = hashlib.sha256(keypoints.points.numpy().tobytes()).hexdigest()
    sizes = None if keypoints.image_sizes is None else keypoints.image_sizes.tolist()
    return fingerprint(points, keypoints.names, keypoints.images, sizes, keypoints.relative)
