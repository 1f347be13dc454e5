"""mp4 films of the answer: the source with what was found in it, and the people in space, levelled.

A film has one frame for each frame of the video and shows, from left to right: the image with the 2-D joints, or with
the bodies; where there is no body, the skeletons obliquely from the front, with discs of one standard deviation; the
bodies or skeletons from the side, the camera at the left. Frames are read, drawn and written one by one, so the memory
does not grow with the length.

Shape letters: F frames, J joints, V vertices.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8

from noise2pose.errors import InputError
from noise2pose.export.motion import Motion
from noise2pose.files import replacing
from noise2pose.rendering import meshes
from noise2pose.rendering.people import captioned
from noise2pose.rendering.stick_figures import SIDE, View, draw_people_2d

_HEIGHT = 720  # pixels at most
_PANEL = 0.75  # width of a panel, in heights
_PALE = 3  # the image behind joints keeps this part of its contrast, of 4
_WHITE, _LETTERS = 255, 1 / 45
_OBLIQUE = 35.0  # degrees beside the camera
_MOST_RATE = 1001  # denominator of a frame rate, as of 30000 / 1001
_CLOCK = 90000  # ticks a second of the times in a film


class _Person(NamedTuple):
    """What is drawn of one person in one frame."""

    motion: Motion
    row: int


def write_mp4(
    path: Path,
    motions: Sequence[Motion],
    images: Iterable[tuple[float, UInt8[np.ndarray, "H W 3"] | None]] | None = None,
) -> None:
    """Writes a film, whole or not at all.

    Args:
        path: file.
        motions: people of one video.
        images: the frames of the video, one after the other: seconds from its beginning, and RGB or None for white. The
            film has the same times. None for white frames from the first to the last with anybody.

    Raises:
        InputError: if there is nobody, there are no frames, or the file cannot be written.
    """
    import av

    if not motions:
        raise InputError(f"{path.name}: there is nobody to draw")
    motions = [motion.consecutive() for motion in motions]
    rate = max(motion.rate for motion in motions)
    frames = _frames(motions, _white(motions) if images is None else images)
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4") as film:
        stream: Any = None
        for time, picture in frames:
            if stream is None:
                start, stream = time, film.add_stream("libx264", rate=Fraction(rate).limit_denominator(_MOST_RATE))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, _CLOCK)
                stream.codec_context.time_base = stream.time_base
                stream.options = {"crf": "20", "preset": "veryfast"}
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round((time - start) * _CLOCK), stream.time_base
            film.mux(stream.encode(frame))
        if stream is None:
            raise InputError(f"{path.name}: the video has no frames")
        film.mux(stream.encode(None))


def _white(motions: Sequence[Motion]) -> Iterator[tuple[float, None]]:
    """Frames without an image, from the first to the last with anybody."""
    rate = max(motion.rate for motion in motions)
    first, last = (round(float(limit * rate)) for limit in _limits(motions))
    return ((number / rate, None) for number in range(first, last + 1))


def _limits(motions: Sequence[Motion]) -> tuple[float, float]:
    return min(motion.times[0] for motion in motions), max(motion.times[-1] for motion in motions)


def _frames(
    motions: Sequence[Motion], images: Iterable[tuple[float, np.ndarray | None]]
) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]]:
    """The times and pictures of a film, which have one size."""
    bodies = all(motion.body is not None for motion in motions)
    views = _views(motions)
    size = _size_of_source(motions)
    scale, height, width = 0.0, 0, 0
    for time, image in images:
        if not scale:
            columns, rows = size if image is None else (image.shape[1], image.shape[0])
            scale = min(1.0, _HEIGHT / rows)
            height, width = _even(rows * scale), _even(columns * scale)
        people = list(_at(motions, time))
        source = _resized(image, width, height)
        panels = [_source_panel(source, people, scale, image is not None, bodies)]
        side = (_even(_PANEL * height), height)
        if not bodies:
            panels.append(_space_panel(people, views[0], side, "oblique, pelvis at rest"))
        panels.append(_space_panel(people, views[1], side, f"side, {motions[0].level_about}"))
        yield time, np.concatenate(panels, axis=1)


def _at(motions: Sequence[Motion], time: float) -> Iterator[_Person]:
    """Who is seen at a time, in the nearest of their frames."""
    for motion in motions:
        row = round((time - motion.times[0]) * motion.rate)
        if 0 <= row < len(motion):
            yield _Person(motion, row)


def _views(motions: Sequence[Motion]) -> tuple[View, View]:
    """Oblique and from the side, framed so that everybody stays in sight in all frames."""
    points = np.concatenate([(motion.joints @ motion.level.T).reshape(-1, 3) for motion in motions])
    return View.around(points, _OBLIQUE), View.around(points, SIDE)


def _source_panel(
    source: np.ndarray, people: Sequence[_Person], scale: float, is_image: bool, bodies: bool
) -> np.ndarray:
    """The image with bodies where there are some, and with the 2-D joints."""
    picture = source
    if bodies:
        for person in sorted(people, key=lambda each: -float(each.motion.joints[each.row, :, 2].mean())):
            camera, body = person.motion.camera, person.motion.body
            if camera is None or body is None:
                continue
            focal, centre = scale * camera.focal[person.row], scale * camera.principal_point[person.row]
            picture = meshes.overlay(picture, _vertices(person), body.model.faces.cpu().numpy(), focal, centre)
    elif is_image:
        picture = (_WHITE - (_WHITE - picture.astype(np.uint16)) * _PALE // 4).astype(np.uint8)
    points = [
        (person.motion.name, person.motion.keypoints_2d[person.row] * [scale, scale, 1.0])
        for person in people
        if person.motion.keypoints_2d is not None
    ]
    return draw_people_2d(picture, points, people[0].motion.skeleton) if points else picture


def _space_panel(people: Sequence[_Person], view: View, size: tuple[int, int], title: str) -> np.ndarray:
    """Bodies or skeletons in space; size is W columns and H rows."""
    panel = view.ground(size)
    skeletons = []
    for person in view.far_to_near(people, lambda each: _levelled(each, each.motion.joints[each.row])):
        motion, body = person.motion, person.motion.body
        if body is not None:
            panel = view.draw_mesh(panel, _levelled(person, _vertices(person)), body.model.faces.cpu().numpy())
        else:
            spread = None if motion.uncertainty is None else motion.uncertainty[person.row]
            skeletons.append((_levelled(person, motion.joints[person.row]), spread))
    if skeletons:
        panel = view.draw_skeletons(panel, skeletons, people[0].motion.skeleton)
    return captioned(panel, title, _LETTERS)


def _levelled(person: _Person, points: np.ndarray) -> np.ndarray:
    return points @ person.motion.level.T


@torch.no_grad()
def _vertices(person: _Person) -> Float[np.ndarray, "V 3"]:
    body, row = person.motion.body, person.row
    assert body is not None
    rotations, betas, translation = (
        torch.from_numpy(values).to(body.model.template)
        for values in (body.rotations[row], body.betas, body.translation[row])
    )
    return body.model(rotations[0], rotations[1:], betas, translation).vertices.cpu().numpy()


def _size_of_source(motions: Sequence[Motion]) -> tuple[int, int]:
    """Width and height of the video; where they are unknown, of what its 2-D joints need."""
    for motion in motions:
        if motion.image_size is not None:
            return motion.image_size
    points = [motion.keypoints_2d for motion in motions if motion.keypoints_2d is not None]
    far = [values[values[..., 2] > 0, :2].max(axis=0, initial=2.0) for values in points] or [np.full(2, 2.0)]
    width, height = 1.1 * np.max(far, axis=0)
    return max(int(width), 2), max(int(height), 2)


def _resized(image: np.ndarray | None, width: int, height: int) -> np.ndarray:
    from PIL import Image

    if image is None:
        return np.full((height, width, 3), _WHITE, dtype=np.uint8)
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _even(length: float) -> int:
    """As H.264 needs the sides of its pictures."""
    return max(2 * round(length / 2), 2)
