"""Sequences of 3DPW as their authors ship them: pickles of Python 2 with body parameters, cameras and 2-D joints.

A file holds, for P people and F frames at 30 fps: `poses` (P of (F, 72)), `trans` (P of (F, 3)) and `jointPositions`
(P of (F, 72), SMPL's 24 joints) in the world, `betas` (P of at least 10), `genders` (P of m or f), `poses2d` (P of
(F, 3, 18): x, y and confidence of OpenPose's 18 joints, all 0 where none was detected), `campose_valid` (P of (F,)),
`cam_poses` (F, 4, 4) from the world to the camera and `cam_intrinsics` (3, 3). Nothing else is needed.

Shape letters: P people, F frames, N rows: a person in a frame, all frames of the first person first.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.preparation import Rows
from datamodules.sources.common.joints import extent, seen_joints
from datamodules.sources.threedpw.community import members
from noise2pose import safe_pickle
from noise2pose.errors import InputError
from noise2pose.images.photographs import open_image

_ROTATION_ERROR = 0.05  # of its determinant
_GENDERS = {"n": 0, "m": 1, "f": 2}


def read(path: Path, root: Path, split: str, has_images: bool, subsets: tuple[str, ...]) -> Rows:
    """Reads one sequence.

    Args:
        path: the pickle.
        root: folder that `imageFiles` is in.
        split: that the sequence belongs to.
        has_images: whether images are wanted; people whose image is missing are then skipped.
        subsets: to count the members of.

    Raises:
        InputError: if the file cannot be read, or something that is needed is missing in it.
    """
    video = path.stem
    skipped: list[tuple[str, str]] = []
    sequence = _Sequence(path, skipped)
    people, frames = sequence.people, sequence.frames
    names = [f"imageFiles/{video}/image_{frame:05d}.jpg" for frame in range(frames)] if has_images else []
    size, seen = sequence.size, np.ones(frames, bool)
    if has_images:
        size, seen = _look_at(root, names, size, skipped)
    columns = {name: values.reshape(people * frames, *values.shape[2:]) for name, values in sequence.columns().items()}
    frame = np.tile(np.arange(frames, dtype=np.int32), people)
    columns |= {
        "frame": frame,
        "person": np.repeat(np.arange(people), frames),
        "image_size": np.tile(np.array(size, np.float32), (people * frames, 1)),
    }
    if has_images:
        columns["picture"] = frame
    finite = np.all([np.isfinite(columns[key]).reshape(len(frame), -1).all(axis=1) for key in _NEEDED], axis=0)
    boxed, valid = np.isfinite(columns["bounds"]).all(axis=1), columns["valid"]
    broken = "are not finite numbers, or the camera is no rotation,"
    _tell(skipped, path, "poses, trans, betas or cam_poses", columns, valid & ~finite, broken)
    _tell(skipped, path, "poses2d and jointPositions", columns, valid & finite & ~boxed, "give no joints for a box")
    keep = finite & boxed & np.tile(seen, people)
    columns = {key: value[keep] for key, value in columns.items()}
    valid = columns["valid"]
    counts = {
        f"{split}: sequences": 1,
        f"{split}: frames": frames,
        f"{split}: people": int(valid.sum()),
        f"{split}: people where the camera's pose is not valid": int((~valid).sum()),
        "boxes around projected joints, since no joint was detected": sequence.boxes_of_projections,
    }
    detected = columns["keypoints_2d_detected"][..., 2].max(axis=1, initial=0.0) > 0
    for subset in subsets:
        counts[f"{subset}: people"] = int((valid & members(subset, video, columns["frame"], detected)).sum())
    sequences = [
        {"name": f"{video}_{person}", "split": split, "video": video, "subject": f"{video}_{person}", "action": video}
        for person in range(people)
    ]
    return Rows(columns, sequences, columns["person"].astype(np.int32), names, counts, skipped)


_NEEDED = ("poses", "betas", "translation_world", "extrinsics")


class _Sequence:
    """The content of a file, checked; all arrays are (P, F, ...)."""

    def __init__(self, path: Path, skipped: list[tuple[str, str]]) -> None:
        self.path = path
        self.skipped = skipped
        self.boxes_of_projections = 0
        self.data = safe_pickle.load(path)
        if not isinstance(self.data, dict):
            raise InputError(f"{path} holds a {type(self.data).__name__}, expected a dictionary with `poses`")
        poses = self._list("poses")
        self.people, self.frames = len(poses), len(np.asarray(poses[0])) if poses else 0
        if not self.people or not self.frames:
            raise InputError(f"{path}: `poses` holds no person")
        self.poses = self._per_frame("poses", (72,)).reshape(self.people, self.frames, 24, 3)
        self.trans = self._per_frame("trans", (3,))
        self.camera = self._array("cam_poses", self._get("cam_poses"), (self.frames, 4, 4))[:, :3]
        whole = np.abs(np.linalg.det(np.nan_to_num(self.camera[:, :, :3])) - 1.0) < _ROTATION_ERROR
        self.camera = np.where(whole[:, None, None], self.camera, np.nan)  # frames without a camera may hold anything
        self.intrinsics = self._array("cam_intrinsics", self._get("cam_intrinsics"), (3, 3))
        if not np.isfinite(self.intrinsics).all() or min(self.intrinsics[0, 0], self.intrinsics[1, 1]) <= 0:
            raise InputError(f"{path}: `cam_intrinsics` is {self.intrinsics.tolist()}, expected focal lengths above 0")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height if the principal point is in the middle of the image, as it is in 3DPW."""
        return round(2 * self.intrinsics[0, 2]), round(2 * self.intrinsics[1, 2])

    def columns(self) -> dict[str, np.ndarray]:
        rotation = self.camera[:, :, :3]
        poses = self.poses.copy()
        usable = np.asarray(np.isfinite(poses[:, :, 0]).all(axis=-1) & np.isfinite(rotation).all(axis=(1, 2)))
        for person, person_usable in enumerate(usable):
            turned = Rotation.from_matrix(rotation[person_usable]) * Rotation.from_rotvec(
                poses[person, person_usable, 0]
            )
            poses[person, person_usable, 0] = turned.as_rotvec()
        both = (self.people, self.frames)
        keypoints, joints = self._keypoints(), self._joints()
        focal, centre = self.intrinsics[[0, 1], [0, 1]], self.intrinsics[:2, 2]
        return {
            "poses": poses,
            "betas": np.broadcast_to(self._betas()[:, None], (*both, 10)),
            "translation_world": self.trans,
            "extrinsics": np.broadcast_to(self.camera, (*both, 3, 4)),
            "gender": np.broadcast_to(self._genders()[:, None], both),
            "has_smpl": np.ones(both, bool),
            "smpl_joints": joints,
            "keypoints_2d_detected": keypoints,
            "focal": np.broadcast_to(focal, (*both, 2)),
            "principal_point": np.broadcast_to(centre, (*both, 2)),
            "bounds": self._bounds(keypoints, joints),
            "valid": self._valid(),
        }

    def _keypoints(self) -> np.ndarray:
        """(P, F, 18, 3); joints that were not detected are 0."""
        if "poses2d" not in self.data:
            self._without("poses2d", "no 2-D joints; boxes are those of the projected joints")
            return np.zeros((self.people, self.frames, 18, 3))
        keypoints = self._per_frame("poses2d", (3, 18)).swapaxes(-1, -2)
        broken = ~np.isfinite(keypoints).all(axis=-1)
        if broken.any():
            self._without("poses2d", f"{broken.sum()} joints are not finite numbers and count as not detected")
        return seen_joints(keypoints)

    def _joints(self) -> np.ndarray:
        """(P, F, 24, 4) in the camera frame."""
        if "jointPositions" not in self.data:
            self._without("jointPositions", "no 24 joints")
            return np.zeros((self.people, self.frames, 24, 4))
        world = self._per_frame("jointPositions", (72,)).reshape(self.people, self.frames, 24, 3)
        joints = np.einsum("fab,pfjb->pfja", self.camera[..., :3], world) + self.camera[:, None, :, 3]
        finite = np.isfinite(joints).all(axis=-1, keepdims=True)
        return np.concatenate((np.where(finite, joints, 0.0), finite), axis=-1)

    def _bounds(self, keypoints: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """(P, F, 4) around the detected joints, or else around the 24 joints; NaN without either."""
        detected = extent(keypoints[..., :2], keypoints[..., 2] > 0)
        missing = np.isnan(detected[..., 0])
        inside = (joints[..., 3] > 0) & (joints[..., 2] > 0.1)
        depth = np.where(inside, joints[..., 2], 1.0)[..., None]
        pixels = joints[..., :2] / depth * self.intrinsics[[0, 1], [0, 1]] + self.intrinsics[:2, 2]
        projected = extent(pixels, inside)
        self.boxes_of_projections = int((missing & np.isfinite(projected[..., 0])).sum())
        return np.where(missing[..., None], projected, detected)

    def _betas(self) -> np.ndarray:
        betas = self._list("betas")
        rows = [np.asarray(values, dtype=np.float64).ravel()[:10] for values in betas]
        if len(rows) != self.people or any(len(row) != 10 for row in rows):
            found = [len(row) for row in rows]
            raise InputError(f"{self.path}: `betas` has {found} numbers, expected 10 for each of {self.people} people")
        return np.stack(rows)

    def _genders(self) -> np.ndarray:
        given = list(self.data.get("genders", ()))
        letters = [(g.decode("latin1") if isinstance(g, bytes) else str(g)).lower()[:1] for g in given]
        if len(letters) != self.people or any(letter not in _GENDERS for letter in letters):
            self._without("genders", f"found {given or 'nothing'}; the neutral body is taken")
            return np.zeros(self.people, np.uint8)
        return np.array([_GENDERS[letter] for letter in letters], np.uint8)

    def _valid(self) -> np.ndarray:
        if "campose_valid" not in self.data:
            self._without("campose_valid", "every frame is taken as valid")
            return np.ones((self.people, self.frames), bool)
        return self._per_frame("campose_valid", ()) > 0

    def _per_frame(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        values = self._list(key)
        if len(values) != self.people:
            raise InputError(f"{self.path}: `{key}` is of {len(values)} people, expected {self.people}")
        return np.stack([self._array(key, value, (self.frames, *shape)) for value in values])

    def _list(self, key: str) -> list[Any]:
        value = self._get(key)
        if not isinstance(value, list | tuple | np.ndarray):
            raise InputError(f"{self.path}: `{key}` is a {type(value).__name__}, expected a list of people")
        return list(value)

    def _get(self, key: str) -> Any:
        if key not in self.data:
            raise InputError(f"{self.path}: key `{key}` is missing, found {', '.join(map(str, self.data))}")
        return self.data[key]

    def _array(self, key: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: `{key}` does not hold numbers ({error})") from error
        if array.size != np.prod(shape) or len(array) != shape[0]:
            raise InputError(f"{self.path}: `{key}` has shape {array.shape}, expected {shape}")
        return array.reshape(shape)

    def _without(self, key: str, reason: str) -> None:
        self.skipped.append((f"{self.path.name}: {key}", reason))


def _look_at(
    root: Path, names: list[str], size: tuple[int, int], skipped: list[tuple[str, str]]
) -> tuple[tuple[int, int], np.ndarray]:
    """Width and height as the first readable image says, and which of the images there are."""
    folder = root / Path(names[0]).parent
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    seen = np.array([Path(name).name in there for name in names])
    if not seen.any():
        raise InputError(f"{folder}: none of its {len(names)} images is there")
    if not seen.all():
        first = names[int(np.flatnonzero(~seen)[0])]
        skipped.append((first, f"is missing, in all {(~seen).sum()} of {len(names)} images; their people are skipped"))
    for frame in np.flatnonzero(seen):
        try:
            return open_image(names[frame], root / names[frame]).size, seen
        except InputError as error:
            skipped.append((names[frame], f"{error}; its people are skipped"))
            seen[frame] = False
    return size, seen


def _tell(
    skipped: list[tuple[str, str]], path: Path, keys: str, columns: dict[str, np.ndarray], wrong: np.ndarray, what: str
) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        where = f"first frame {columns['frame'][first]} of person {columns['person'][first]}"
        skipped.append((f"{path.name}: {keys}", f"{what} for {wrong.sum()} people, who are skipped; {where}"))
