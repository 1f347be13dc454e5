"""The people of an answer on timelines, as viewers show them.

A timeline holds the moments of one video, or the single poses of all images. All lengths are metres; x is right, y up,
z towards the viewer, levelled as `Motion.level` says.

Shape letters: M moments of a timeline, F frames of a motion, J joints, N hypotheses, V vertices, T triangles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int

from noise2pose.bodies.legs import parts_of_mesh
from noise2pose.errors import InputError
from noise2pose.export.motion import Motion, side_by_side

if TYPE_CHECKING:
    from noise2pose.skeletons import Skeleton

MOST_MOMENTS = 1800  # of a timeline: a minute of video at 30 frames a second; of longer ones every second one or fewer
MOST_HYPOTHESES = 5  # of a person, drawn as ghosts; ellipsoids are of all of them
IMAGES = "images"  # the timeline of poses that are in no video
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#6B7A00")  # Okabe and Ito's


@dataclass(frozen=True)
class Person:
    """Somebody on a timeline.

    Attributes:
        name: identity.
        color: #RRGGBB, different for the first eight people of a timeline.
        joints: (M, J, 3); NaN at moments at which the person is not there.
        confidence: (M, J) of the 2-D joint that was seen, 0 where none was, 1 where this is unknown.
        ellipsoids: (M, J, 3, 3) symmetric matrices that turn the unit sphere into the ellipsoid of one standard
            deviation; None where it is unknown.
        hypotheses: (M, N, J, 3) the first ones; None where there are none.
        points_2d: (M, J, 2) pixels of the image; None where there are none.
        motion: of each moment, the motion that the person has then; None where there is nobody.
        rows: (M,) the frame of that motion.
    """

    name: str
    color: str
    joints: Float[np.ndarray, "M J 3"]
    confidence: Float[np.ndarray, "M J"]
    ellipsoids: Float[np.ndarray, "M J 3 3"] | None
    hypotheses: Float[np.ndarray, "M N J 3"] | None
    points_2d: Float[np.ndarray, "M J 2"] | None
    motion: list[Motion | None]
    rows: Int[np.ndarray, " M"]

    @property
    def faces(self) -> Int[np.ndarray, "T 3"] | None:
        """Triangles of the mesh; None for somebody without a body."""
        body = next((motion.body for motion in self.motion if motion is not None), None)
        return None if body is None else body.model.faces.cpu().numpy()

    @property
    def parts(self) -> Int[np.ndarray, " V"] | None:
        """The part of a leg that each vertex is of (`noise2pose.bodies.legs`); None for somebody without a body."""
        body = next((motion.body for motion in self.motion if motion is not None), None)
        return None if body is None else parts_of_mesh(body.model.skinning_weights.cpu().numpy())

    @torch.no_grad()
    def vertices(self, moment: int) -> Float[np.ndarray, "V 3"] | None:
        """The mesh at a moment; None for nobody, or somebody without a body."""
        motion, row = self.motion[moment], self.rows[moment]
        if motion is None or motion.body is None:
            return None
        body = motion.body
        rotations, betas, translation = (
            torch.from_numpy(values).to(body.model.template)
            for values in (body.rotations[row], body.betas, body.translation[row])
        )
        posed = body.model(rotations[0], rotations[1:], betas, translation).vertices
        return (posed.cpu().numpy() @ motion.to_y_up.T).astype(np.float32)


@dataclass(frozen=True)
class Timeline:
    """A video, or the images of single poses.

    Attributes:
        name: of the video; `IMAGES` for images.
        sources: of each moment, the video or image.
        frames: (M,) positions in the video; 0, 1 and so on for images.
        times: (M,) seconds, ascending; a second apart for images.
        moving: whether it is a video.
        step: every how many of the frames with people are kept.
        people: at least one.
        image_size: width and height of the images of each moment, in pixels; None where they are unknown.
        about: where the vertical comes from, in words.
        origin: where (0, 0, 0) is, in words.
    """

    name: str
    sources: list[str]
    frames: Int[np.ndarray, " M"]
    times: Float[np.ndarray, " M"]
    moving: bool
    step: int
    people: list[Person]
    image_size: list[tuple[int, int] | None]
    about: str
    origin: str

    def __len__(self) -> int:
        return len(self.frames)

    def label(self, moment: int) -> str:
        """The moment in words."""
        if not self.moving:
            return self.sources[moment]
        return f"frame {self.frames[moment]}, {self.times[moment]:.2f} s"


@dataclass(frozen=True)
class Scene:
    """Everything that a viewer shows.

    Attributes:
        skeleton: of all joints.
        timelines: videos in their order, then the images.
    """

    skeleton: "Skeleton"
    timelines: list[Timeline]


def build_scene(motions: Sequence[Motion], most_moments: int = MOST_MOMENTS) -> Scene:
    """The scene of some motions.

    Args:
        motions: people of one or several videos and images. Those without a place are put side by side.
        most_moments: of a timeline; of longer ones every second moment is taken, or every third, and so on.

    Raises:
        InputError: if there is nobody.
    """
    if not motions:
        raise InputError("there is nobody to show")
    videos: dict[str, list[Motion]] = {}
    for motion in motions:
        videos.setdefault(motion.video, []).append(motion)
    groups = {name: side_by_side(people) for name, people in videos.items()}
    moving = {name: people for name, people in groups.items() if any(len(person) > 1 for person in people)}
    timelines = [_of_video(name, people, most_moments) for name, people in moving.items()]
    still = {name: people for name, people in groups.items() if name not in moving}
    if still:
        timelines.append(_of_images(still, most_moments))
    return Scene(motions[0].skeleton, timelines)


def _of_video(name: str, people: Sequence[Motion], most: int) -> Timeline:
    times = dict(pair for motion in people for pair in zip(motion.frames.tolist(), motion.times.tolist(), strict=True))
    frames = sorted(times)
    step = -(-len(frames) // most)
    frames = frames[::step]
    persons = []
    for number, motion in enumerate(people):
        row_of = {frame: row for row, frame in enumerate(motion.frames.tolist())}
        rows = np.array([row_of.get(frame, -1) for frame in frames])
        if (rows >= 0).any():  # somebody may be there between two moments only
            persons.append(_person(motion.name, number, [motion if row >= 0 else None for row in rows], rows))
    seconds = np.array([times[frame] for frame in frames])
    sizes, first = [people[0].image_size] * len(frames), people[0]
    sources = [name] * len(frames)
    return Timeline(
        name, sources, np.array(frames), seconds, True, step, persons, sizes, first.level_about, first.origin
    )


def _of_images(images: dict[str, list[Motion]], most: int) -> Timeline:
    """One moment an image; people of several images are not the same, so they are numbered in each."""
    step = -(-len(images) // most)
    sources = list(images)[::step]
    count = max(len(images[source]) for source in sources)
    persons = []
    for number in range(count):
        motion = [images[source][number] if number < len(images[source]) else None for source in sources]
        rows = np.array([0 if one is not None else -1 for one in motion])
        name = f"person {number + 1}" if len(sources) > 1 else images[sources[0]][number].name
        persons.append(_person(name, number, motion, rows))
    firsts = [images[source][0] for source in sources]
    about = list(dict.fromkeys(first.level_about for first in firsts))
    return Timeline(
        name=IMAGES,
        sources=sources,
        frames=np.arange(len(sources)),
        times=np.arange(len(sources), dtype=np.float64),
        moving=False,
        step=step,
        people=persons,
        image_size=[first.image_size for first in firsts],
        about=about[0] if len(about) == 1 else "each image levelled by itself",
        origin=firsts[0].origin,
    )


def _person(name: str, number: int, motion: list[Motion | None], rows: Int[np.ndarray, " M"]) -> Person:
    first = next(one for one in motion if one is not None)
    num_joints, moments = first.skeleton.num_joints, len(motion)
    there = [moment for moment, one in enumerate(motion) if one is not None]
    joints = np.full((moments, num_joints, 3), np.nan, dtype=np.float32)
    confidence = np.zeros((moments, num_joints), dtype=np.float32)
    points = None if first.keypoints_2d is None else np.zeros((moments, num_joints, 2), dtype=np.float32)
    ellipsoids = None if first.uncertainty is None else np.zeros((moments, num_joints, 3, 3), dtype=np.float32)
    ghosts = None
    if first.hypotheses is not None:
        ghosts = np.full((moments, min(first.hypotheses.shape[1], MOST_HYPOTHESES), num_joints, 3), np.nan, np.float32)
    for moment in there:
        one, row = motion[moment], rows[moment]
        assert one is not None
        world = one.to_y_up.T
        joints[moment] = one.joints[row] @ world
        confidence[moment] = 1.0 if one.keypoints_2d is None else one.keypoints_2d[row, :, 2].clip(0.0, 1.0)
        if points is not None and one.keypoints_2d is not None:
            points[moment] = one.keypoints_2d[row, :, :2]
        if ghosts is not None and one.hypotheses is not None:
            ghosts[moment] = one.hypotheses[row, : ghosts.shape[1]] @ world
        if ellipsoids is not None and one.uncertainty is not None:
            around = None if one.hypotheses is None else one.hypotheses[row] @ world
            ellipsoids[moment] = _ellipsoids(one.uncertainty[row], around)
    color = _COLORS[number % len(_COLORS)]
    return Person(name, color, joints, confidence, ellipsoids, ghosts, points, motion, rows)


def _ellipsoids(
    uncertainty: Float[np.ndarray, " J"], hypotheses: Float[np.ndarray, "N J 3"] | None
) -> Float[np.ndarray, "J 3 3"]:
    """Square roots of the hypotheses' covariances, which with fewer than four are spheres of the same variance.

    The trace is that of `uncertainty`, which is the root of the variances' sum over x, y and z.
    """
    if hypotheses is None or len(hypotheses) < 4:
        return (uncertainty / np.sqrt(3.0))[:, None, None] * np.eye(3)
    offsets = (hypotheses - hypotheses.mean(axis=0)).astype(np.float64)
    values, axes = np.linalg.eigh(np.einsum("njc,njd->jcd", offsets, offsets))
    roots = np.sqrt(values.clip(0.0))
    roots *= (uncertainty / np.linalg.norm(roots, axis=-1).clip(1e-12))[:, None]
    return np.einsum("jck,jk,jdk->jcd", axes, roots, axes)
