"""What a trained method answers, as NumPy arrays that know their unit, frame and joint names, and how it is saved.

Shape letters: T poses, P people, J joints, N hypotheses, V vertices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import roma
import torch

from methods.inference.exports import Exports, as_folder
from methods.inference.motions import motions_of_annotations, motions_of_poses, write_annotations_json, write_poses_json
from noise2pose.annotation.layout import levels_of, vertices_of
from noise2pose.annotation.people import Skipped
from noise2pose.annotation.pictures import write_body_pictures
from noise2pose.annotation.writer import AnnotationWriter
from noise2pose.batch import JointMaps, PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.export.motion import Motion
from noise2pose.files import write_npz
from noise2pose.images.photographs import Photograph
from noise2pose.keypoints.arrays import counted
from noise2pose.keypoints.detectors.finder import left_out_for
from noise2pose.rendering.figures import drawn_rows, write_pose_gif, write_pose_pictures
from noise2pose.rendering.levelling import Levels, summarise


@dataclass(frozen=True, repr=False)
class LiftedPoses(Exports):
    """3-D poses of a `Lifter`, in the order of the keypoints.

    The camera is that of a virtual image which shows the person whole and in the middle, so the poses are turned
    against the camera of the original image by the angle to the person.

    Attributes:
        joints_3d: (T, 17, 3) metres.
        uncertainty: (T, 17) metres, one standard deviation; None where the method has no hypotheses.
        hypotheses: (T, N, 17, 3) metres, whose mean is the answer; None where the method has none.
        keypoints_2d: (T, 17, 3) what was lifted: pixels of the original image and confidence.
        image_size: (T, 2) width and height in pixels; None where it is unknown.
        names: of the T poses.
        images: of each pose, as the source names it.
        people: identity of each pose that a tracker gave; None where there is none.
        frames: position of each pose in its video, as the source counts them; None where it does not.
        method: title of the method.
        checkpoint: name or path that the method was loaded from.
        input_skeleton: of the keypoints as they were given.
        num_hidden: joints of those keypoints without confidence, which were put at their visible neighbours.
        about: what the keypoints were read as, and what was left out or assumed.
        is_clip: whether the poses may be consecutive frames.
        levels: how drawings turn the poses so that people who stand are upright, and why; `joints_3d` is not turned.
        fps: frames of the video in a second; None where it is unknown.
        times: seconds of each pose from the first frame of its video; empty where only `frames` and `fps` are known.
        clips: number of the clip of each pose, the unbroken motion of one person; -1 where it is in none.
        frame: of reference, in words.
        from_camera: (T, 3, 3) rotations that were applied to level the poses; None for poses in the camera frame.
    """

    joints_3d: np.ndarray
    uncertainty: np.ndarray | None
    hypotheses: np.ndarray | None
    keypoints_2d: np.ndarray
    image_size: np.ndarray | None
    names: list[str]
    images: list[str]
    people: list[str | None]
    frames: list[int | None]
    method: str
    checkpoint: str
    input_skeleton: str
    num_hidden: int
    about: str
    is_clip: bool
    levels: Levels
    fps: float | None = None
    times: list[float] = field(default_factory=list)
    clips: list[int] = field(default_factory=list)
    frame: str = "camera: x right, y down, z forward; relative to the pelvis"
    from_camera: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"LiftedPoses(joints_3d {self.joints_3d.shape} in {self.unit}, {self.frame})"

    @property
    def valid(self) -> np.ndarray:
        """(T, 17) bool: joints whose keypoint was visible; the others are guessed from the rest of the pose.

        A pose without any was put between two frames in which the person was seen.
        """
        return self.keypoints_2d[..., 2] > 0

    def summary(self) -> str:
        """One line about the method, the number of poses and their uncertainty."""
        spread = (
            "no uncertainty (it takes a method with several hypotheses)"
            if self.uncertainty is None
            else f"mean uncertainty {100.0 * self.uncertainty.mean():.1f} cm"
        )
        guessed = (
            f"; {counted(self.num_hidden, 'joint')} not seen, guessed from their neighbours" if self.num_hidden else ""
        )
        return f"{self.method}: {self.about}{guessed}; {spread}; {summarise(self.levels.about)}"

    def motions(self) -> list[Motion]:
        """The motion of each person in each video, relative to the pelvis."""
        return motions_of_poses(self)

    def to_coco(self, path: str | Path) -> list[Path]:
        """COCO's JSON with keypoints and the lifted joints (`noise2pose.export.coco`)."""
        return write_poses_json(self, Path(path))

    def save(self, folder: str | Path, pictures: int = 20, gif: bool = True, command: str = "") -> list[Path]:
        """Writes poses.npz and drawings, as `scripts/predict.py` does.

        Args:
            folder: made if it is missing; files of the same name are replaced.
            pictures: at most, NAME.png: of the first poses, or spread over a video; 0 for none.
            gif: whether to draw poses.gif, where the poses may be consecutive frames.
            command: what poses.npz says made it, by which `saved.check_same` knows it again; empty for nothing.

        Returns:
            The files.

        Raises:
            InputError: if the folder is a file.
        """
        folder = as_folder(folder)
        known = {"joints_3d": self.joints_3d, "uncertainty": self.uncertainty, "hypotheses": self.hypotheses}
        known |= {"keypoints_2d": self.keypoints_2d, "image_size": self.image_size}
        known |= {"times": np.array(self.times) if self.times else None}
        known |= {"fps": self.fps and np.array(self.fps), "command": np.array(command) if command else None}
        known |= {"from_camera": self.from_camera, "frame": np.array(self.frame)}
        known |= {"level_rotation": self.levels.rotation, "level": np.array(self.levels.about)}
        arrays = {key: value for key, value in known.items() if value is not None}
        written = [folder / "poses.npz"]
        write_npz(
            written[0],
            **arrays,
            observed=self.valid,
            names=np.array(self.names),
            images=np.array(self.images),
            people=np.array([person or "" for person in self.people]),
            frames=np.array([-1 if frame is None else frame for frame in self.frames]),
            clips=np.array(self.clips),
            skeleton=np.array(self.skeleton),
            checkpoint=np.array(self.checkpoint),
        )
        rows = drawn_rows(len(self), pictures, spread=bool(self.times))
        written += write_pose_pictures(folder, arrays, self.names, rows)
        if gif and self.is_clip and len(self) > 1:
            written.append(write_pose_gif(folder, arrays, self.names))
        return written


@dataclass(frozen=True, repr=False)
class Annotations(Exports):
    """Bodies of people, answered by an `Annotator`, in the order of the images.

    Attributes:
        arrays: everything about the P people, as `noise2pose.annotation.layout.ARRAYS` describes it; the properties
            below are the most useful of them.
        skipped: file name and reason of each image, or person, without an annotation.
        body: whose parameters these are.
        photographs: the images that could be opened.
        focal: pixels, where one focal length was given for all images.
        info: what annotations.json says about their making.
        made_from: hashes of what they depend on; a folder that holds other annotations is not overwritten.
        joint_maps: `PoseMethod.joint_maps`, for the pictures.
        fps: frames of the video in a second; None where it is unknown.
    """

    arrays: Mapping[str, np.ndarray]
    skipped: Skipped
    body: BodyModel
    photographs: list[Photograph]
    focal: float | None
    info: dict[str, Any]
    made_from: dict[str, str]
    joint_maps: Callable[[PoseBatch], JointMaps | None]
    fps: float | None = None
    frame: ClassVar[str] = "camera: x right, y down, z forward"

    def __len__(self) -> int:
        return len(self.arrays["names"])

    def __repr__(self) -> str:
        about = f"{len(self)} people, {int(self.suspect.sum())} suspect, {len(self.skipped)} skipped"
        return f"Annotations({about}; joints_3d {self.joints_3d.shape} in {self.unit}, {self.frame})"

    @property
    def names(self) -> list[str]:
        """Names of the people, each different."""
        return self.arrays["names"].tolist()

    @property
    def file_names(self) -> list[str]:
        """The image of each person, as a path below the folder that was given."""
        return self.arrays["file_names"].tolist()

    @property
    def poses(self) -> np.ndarray:
        """(P, 72) axis-angle rotations in radians and AMASS's order: the root first, in the camera frame."""
        return self.arrays["poses"]

    @property
    def rotations(self) -> np.ndarray:
        """(P, 24, 3, 3) the same as rotation matrices, which act on column vectors."""
        return roma.rotvec_to_rotmat(torch.from_numpy(self.poses).unflatten(-1, (24, 3))).numpy()

    @property
    def betas(self) -> np.ndarray:
        """(P, 10) shape coefficients of the body."""
        return self.arrays["betas"]

    @property
    def translation(self) -> np.ndarray:
        """(P, 3) metres, added to the posed body, as AMASS's `trans`."""
        return self.arrays["trans"]

    @property
    def joints_3d(self) -> np.ndarray:
        """(P, 17, 3) metres in the camera frame of the image."""
        return self.arrays["joints_3d"]

    @property
    def keypoints_2d(self) -> np.ndarray:
        """(P, 17, 3) what was given or detected: pixels and confidence."""
        return self.arrays["keypoints_2d"]

    @property
    def valid(self) -> np.ndarray:
        """(P, 17) bool: joints whose keypoint was visible."""
        return self.keypoints_2d[..., 2] > 0

    @property
    def reprojection_errors(self) -> np.ndarray:
        """(P,) pixels, mean distance of the projected joints from their keypoints; NaN without keypoints."""
        return self.arrays["reprojection_after"]

    @property
    def levels(self) -> Levels:
        """How drawings turn the bodies so that people who stand are upright, and why; the arrays are not turned."""
        return levels_of(self.arrays, self.info["camera_pitch"])

    @property
    def suspect(self) -> np.ndarray:
        """(P,) bool: worth a look before it is used."""
        return self.arrays["suspect"]

    @property
    def status(self) -> list[str]:
        """As of `Exports`, or "suspect"."""
        return ["suspect" if doubt else seen for doubt, seen in zip(self.suspect, super().status, strict=True)]

    @property
    def suspect_reasons(self) -> list[str]:
        """Why each person is suspect; empty for those who are not."""
        return self.arrays["suspect_reasons"].tolist()

    def vertices(self, rows: Any = slice(None)) -> np.ndarray:
        """(P, V, 3) metres in the camera frame: the mesh of all people, or of some; `body.faces` are its triangles.

        Args:
            rows: which people, as NumPy indexes: a number, a slice, a list or a mask.
        """
        return (
            vertices_of({key: self.arrays[key][rows] for key in ("poses", "betas", "trans")}, self.body).cpu().numpy()
        )

    def motions(self) -> list[Motion]:
        """The motion of each person in each video, in the frame of the camera, with one shape."""
        return motions_of_annotations(self)

    def to_coco(self, path: str | Path) -> list[Path]:
        """COCO's JSON, the same as annotations.json (`noise2pose.annotation.layout`)."""
        return write_annotations_json(self, Path(path))

    def summary(self) -> str:
        """One line about the method, the number of people and the focal lengths."""
        seen = set(self.file_names)
        images = [photograph for photograph in self.photographs if photograph.file_name in seen]
        stated = sum(photograph.focal is not None for photograph in images)
        about = f"; focal length of {stated} images from their EXIF data, of {len(images) - stated} their diagonal"
        if self.focal is not None:
            about = f"; focal length {self.focal:g} pixels as given"
        left_out = left_out_for([reason for _, reason in self.skipped])
        skipped = f"{len(self.skipped)} skipped{f' ({left_out})' if left_out else ''}"
        return (
            f"{self.info['method']}: people annotated: {len(self)}, {int(self.suspect.sum())} of them suspect, "
            f"{skipped}{about if images else ''}; keypoints: {self.info['keypoints_about']}"
            f"{f'; {summarise(self.levels.about)}' if len(self) else ''}"
            f"{f'; {said}' if (said := self.info.get('motion')) else ''}"
        )

    def save(self, folder: str | Path, pictures: int = 20) -> list[Path]:
        """Writes annotations.npz, annotations.json and drawings, as `scripts/predict.py` does.

        Args:
            folder: made if it is missing. Where it holds these annotations already, only missing pictures are drawn.
            pictures: at most, NAME.png: of the first people, or spread over a video; 0 for none.

        Returns:
            The files.

        Raises:
            InputError: if the folder is a file, or holds other annotations.
        """
        folder = as_folder(folder)
        AnnotationWriter(folder, self.info, self.made_from).save(self.arrays, self.skipped)
        drawn = write_body_pictures(
            folder, self.arrays, self.levels, self.body, self.photographs, pictures, self.joint_maps
        )
        return [folder / "annotations.npz", folder / "annotations.json", *drawn]
