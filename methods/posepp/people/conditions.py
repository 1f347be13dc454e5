"""What the camera of a sample sees of its body: silhouette, depth, keypoints, and which of them are hidden.

Shape letters: V vertices, K joints of the kinematic tree, T triangles, J points, S side of the image.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from methods.posepp.people.body import COCO, Body, coco_owners
from methods.posepp.people.drawing import Marks, draw_depth, draw_keypoints
from methods.posepp.people.sampling import inside, project
from methods.posepp.records import Record, Result, files_of
from methods.posepp.settings import Conditions, Settings
from noise2pose import skeletons
from noise2pose.images.crops import BOX_SCALE, square_box
from noise2pose.rendering.meshes import project_mesh

OPENPOSE = "openpose_18"
EMPTY = "empty"
_SLACK = 0.05  # metres by which a point may lie behind the surface that is seen at its pixel
_THICKNESS = 0.20  # the same inside a body part of its own: joints lie in the middle of limbs
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


class Sight(NamedTuple):
    """A body as a camera sees it.

    Attributes:
        depth: (S, S) metres; infinite where nothing is.
        part: (S, S) joint that the surface at each pixel follows most; -1 where nothing is.
    """

    depth: Float[np.ndarray, "S S"]
    part: Int[np.ndarray, "S S"]


def look(vertices: Float[np.ndarray, "V 3"], body: Body, matrix: Float[np.ndarray, "3 3"], size: int) -> Sight:
    """Draws the depth of a body.

    Args:
        vertices: metres in the camera frame.
        body: whose they are.
        matrix: K, pixels.
        size: S.
    """
    fragments = project_mesh(vertices, body.faces, (matrix[0, 0], matrix[1, 1]), matrix[:2, 2], (size, size))
    depth = np.full(size * size, np.inf)
    depth[fragments.pixel] = fragments.interpolate(vertices[:, 2:])[:, 0]
    part = np.full(size * size, -1)
    nearest = fragments.corners[np.arange(len(fragments.pixel)), fragments.weights.argmax(axis=1)]
    part[fragments.pixel] = body.part[nearest]
    return Sight(depth.reshape(size, size), part.reshape(size, size))


def visible(
    points: Float[np.ndarray, "J 3"],
    pixels: Float[np.ndarray, "J 2"],
    owners: Sequence[int],
    parents: Sequence[int],
    sight: Sight,
) -> Bool[np.ndarray, " J"]:
    """Which points are in the image with nothing in front of them.

    A point is hidden where the surface at its pixel is more than 5 cm nearer. A joint lies inside its limb, so what it
    joins (its own part, and those of its parent and children) does not hide it unless it is more than 20 cm nearer, as
    the near side of the body is to a joint on the far side.

    Args:
        points: metres in the camera frame.
        pixels: of the points.
        owners: joint of the kinematic tree that each point is; -1 for a point on the skin.
        parents: of the joints of the kinematic tree.
        sight: of the body.
    """
    size = len(sight.depth)
    seen = inside(pixels, size)
    column, row = np.floor(pixels.clip(0, size - 1)).astype(int).T
    gap = points[:, 2] - sight.depth[row, column]  # minus infinity beside the silhouette
    for point, owner in enumerate(owners):
        if not seen[point] or gap[point] <= _SLACK:
            continue
        part = int(sight.part[row[point], column[point]])
        own = owner >= 0 and (part in (owner, parents[owner]) or parents[part] == owner)
        seen[point] = own and gap[point] <= _THICKNESS
    return seen


def drawn_points(
    pixels: Float[np.ndarray, "18 2"], seen: Bool[np.ndarray, " 18"], size: int, hide_occluded: str
) -> Bool[np.ndarray, " 18"]:
    """Which points of `openpose_18` a condition map shows: those in the image, without hidden ones where asked for.

    A hidden nose or eye in the drawing of a person seen from behind asks the generator for a person seen from the
    front, which is a mirror image of the label.

    Args:
        pixels: of the points.
        seen: which are neither hidden nor outside.
        size: pixels of a side.
        hide_occluded: `face`, `all` or `none`.
    """
    drawn = inside(pixels, size)
    if hide_occluded == "all":
        return drawn & seen
    if hide_occluded == "face":
        face = [skeletons.get(OPENPOSE).index(name) for name in _FACE]
        drawn[face] &= seen[face]
    return drawn


class Seen(NamedTuple):
    """What a camera sees of a person.

    Attributes:
        sight: of the body.
        points: (17, 3) COCO's, metres in the camera frame.
        keypoints: (17, 3) their pixels, and 0 for those that are hidden or outside, else 1.
        openpose: (18, 3) the same as points of `openpose_18`.
    """

    sight: Sight
    points: Float[np.ndarray, "17 3"]
    keypoints: Float[np.ndarray, "17 3"]
    openpose: Float[np.ndarray, "18 3"]

    def drawn(self, hide_occluded: str) -> Bool[np.ndarray, " 18"]:
        """Which points of `openpose` a condition map shows, see `drawn_points`."""
        return drawn_points(self.openpose[:, :2], self.openpose[:, 2] > 0, len(self.sight.depth), hide_occluded)


def see(
    vertices: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "K 3"],
    body: Body,
    matrix: Float[np.ndarray, "3 3"],
    size: int,
) -> Seen:
    """Looks at a person.

    Args:
        vertices: metres in the camera frame.
        joints: of the kinematic tree, the same.
        body: whose they are.
        matrix: K, pixels.
        size: S.
    """
    sight = look(vertices, body, matrix, size)
    points = body.coco(vertices, joints)
    pixels = project(points, matrix)
    unhidden = visible(points, pixels, coco_owners(), body.model.parents, sight)
    keypoints = np.concatenate((pixels, unhidden[:, None]), axis=1)
    openpose = skeletons.convert(torch.from_numpy(keypoints), COCO, OPENPOSE, has_confidence=True).numpy()
    return Seen(sight, points, keypoints, openpose)


class RenderStage:
    """Draws the condition maps, and the keypoints and boxes that they stand for.

    Args:
        settings: of the data set.
        body: of its samples.
    """

    batch = 16

    def __init__(self, settings: Settings, body: Body) -> None:
        self.options: Conditions = settings.conditions
        self.body = body

    def process(self, records: Sequence[Record]) -> list[Result]:
        return [self.render(record) for record in records]

    def render(self, record: Record) -> Result:
        """Both maps, the silhouette and the labels of a sample."""
        sample = record.arrays("sample")
        matrix, size = sample["K"], int(sample["image_size"][0])
        vertices, joints = self.body.pose(sample)
        seen = see(vertices, joints, self.body, matrix, size)
        depth = seen.sight.depth
        mask = np.isfinite(depth)
        if not mask.any():
            return Result(record.id, reason=EMPTY)
        drawn = seen.drawn(self.options.hide_occluded)
        details = list(self.details(vertices, joints, sample, seen.sight))
        shown, bounds = depth[mask], bounds_of_mask(mask)
        arrays = {
            "joints_3d": joints.astype(np.float32),
            "keypoints_3d": seen.points.astype(np.float32),
            "keypoints_2d": seen.keypoints.astype(np.float32),
            "openpose_2d": seen.openpose.astype(np.float32),
            "drawn": drawn,
            "bounds": bounds,
            "box": square_box(torch.from_numpy(bounds), BOX_SCALE).numpy(),
            "area": np.float32(mask.sum()),
            **{
                name: np.concatenate((at, unhidden[:, None]), axis=1).astype(np.float32)
                for name, at, unhidden in details
            },
            "depth_range": np.array([shown.min(), shown.max()], dtype=np.float32),
        }
        images = {
            "depth": draw_depth(depth, self.options.depth_floor, self.options.depth_invert),
            "keypoints": draw_keypoints(
                seen.openpose[:, :2], drawn, (size, size), self.options.stroke_scale, **self.marks(details, size)
            ),
            "mask": 255 * mask.astype(np.uint8),
        }
        return Result(record.id, files_of(arrays, **images))

    def details(
        self,
        vertices: Float[np.ndarray, "V 3"],
        joints: Float[np.ndarray, "K 3"],
        sample: Mapping[str, np.ndarray],
        sight: Sight,
    ) -> Iterator[tuple[str, Float[np.ndarray, "J 2"], Bool[np.ndarray, " J"]]]:
        """Name, pixels and visibility of the points of hands (42) and face (51), of a body that has them."""
        found = {"hands_2d": self.body.hands(vertices, joints), "face_2d": self.body.landmarks(sample)}
        for name, points in found.items():
            if points is not None:
                points = points.reshape(-1, 3)
                pixels = project(points, sample["K"])
                yield name, pixels, visible(points, pixels, [-1] * len(points), self.body.model.parents, sight)

    def marks(self, details: Sequence[tuple[str, np.ndarray, np.ndarray]], size: int) -> dict[str, Marks]:
        """The points of hands and face that the settings ask for."""
        wanted, hidden = {"hands": self.options.hands, "face": self.options.face}, self.options.hide_occluded
        marks = {}
        for name, pixels, seen in details:
            part = name.removesuffix("_2d")
            left_out = hidden == "all" or (hidden == "face" and part == "face")
            if wanted[part]:
                marks[part] = Marks(pixels, inside(pixels, size) & (seen if left_out else True))
        return marks


def bounds_of_mask(mask: Bool[np.ndarray, "S S"]) -> Float[np.ndarray, "4"]:
    """Left, top, right and bottom of the tight box around a silhouette, pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
