"""Rows of a prepared folder as batches: columns in the joint order of the methods, with cameras, boxes and 2-D input.

Shape letters: N rows of a split, B rows of a batch, J joints of the publisher, 17 those of h36m_17.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from datamodules.motion.cameras import SKELETON
from datamodules.motion.detections import simulate_detections
from datamodules.prepared.folder import PreparedFolder
from noise2pose import cameras, keyed_random, skeletons
from noise2pose.batch import Camera, PoseBatch
from noise2pose.errors import InputError
from noise2pose.images.crops import BOX_SCALE, bounds_of_keypoints, box_of_keypoints, square_box

Keypoints2D = Literal["gt", "detected", "synthetic"]
RuleName = Literal["keypoints", "mask", "detector", "dpmesh"]
# How a tight box becomes the square that is cropped: `scale` and `margin` of `square_box`. Exactly one is ever applied.
BOX_RULES: dict[RuleName, tuple[float, float | None]] = {
    "keypoints": (BOX_SCALE, None),  # extent of the keypoints; SPIN and MMHuman3D on 3DPW and MPI-INF-3DHP
    "mask": (0.9, None),  # box of the person's mask; SPIN and MMHuman3D on Human3.6M
    "detector": (1.25, None),  # box of a person detector; HRNet, and MMHuman3D's demo
    "dpmesh": (1.1, 1.2),  # extent of the detected keypoints; DPMesh and 3DCrowdNet in tests
}


class PreparedRows:
    """Some rows of a folder, made into batches when they are asked for.

    Args:
        folder: the folder.
        rows: (N,) which of its rows.
        keypoints_2d: `gt` as annotated, else projected; `detected` by the detector that the manifest names; `synthetic`
            for `gt` with simulated detection errors.
        keypoints_3d: column of the ground truth.
        box_rule: how large the box is, see `BOX_RULES`.
        noise_seed: of the simulated detection errors.
        complete: adds what the folder does not hold to a batch, given it and its rows: joints of published bodies.
        counted: (N,) which of `rows` count; the others are there to fill clips. By default all.
        with_images: whether batches say which image each row is in.
        named: whether batches have names, subjects and actions, which cost time and memory; lifters need none to train.

    Raises:
        InputError: if the folder lacks what is chosen.
    """

    def __init__(
        self,
        folder: PreparedFolder,
        rows: np.ndarray,
        keypoints_2d: Keypoints2D,
        keypoints_3d: str,
        box_rule: RuleName,
        noise_seed: int,
        complete: Callable[[PoseBatch, np.ndarray], PoseBatch] | None = None,
        named: bool = True,
        with_images: bool = False,
        counted: np.ndarray | None = None,
    ) -> None:
        self.folder, self.rows, self.complete, self.named = folder, rows, complete, named
        self.keypoints_2d, self.keypoints_3d, self.noise_seed = keypoints_2d, keypoints_3d, noise_seed
        self.box_rule: RuleName = box_rule
        self.image_names = folder.images() if with_images else None
        self.columns = {name: folder.column(name) for name in (*folder.manifest["columns"], "sequence")}
        self.counted = np.ones(folder.num_rows, dtype=bool)
        if counted is not None:
            self.counted[rows] = counted
        if "valid" in self.columns:
            self.counted &= self.columns["valid"]
        if keypoints_2d == "detected" and "keypoints_2d_detected" not in folder:
            raise InputError(
                f"data.keypoints_2d is detected, but {folder.root} has no detections: prepare "
                f"{folder.manifest['dataset']} with a detector's file, or take gt or synthetic"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> PoseBatch:
        """The rows at the positions `index`, on the CPU."""
        rows = self.rows[index.cpu().numpy()]
        return self._with_words(self._numbers(rows), rows)

    def whole(self, chunk: int = 65_536) -> PoseBatch:
        """All rows in memory."""
        batch = concatenate([self._numbers(self.rows[i : i + chunk]) for i in range(0, len(self.rows), chunk)])
        return self._with_words(batch, self.rows)

    def names(self, rows: np.ndarray) -> list[str]:
        """Names of rows of the folder, unique in the data set."""
        of = self.columns["sequence"][rows].tolist()
        frames = self.columns["frame"][rows].tolist() if "frame" in self.columns else rows.tolist()
        names = [f"{self.folder.sequences[s]['name']}/{frame:06d}" for s, frame in zip(of, frames, strict=True)]
        if "person" not in self.columns:
            return names
        return [f"{name}/{p}" for name, p in zip(names, self.columns["person"][rows].tolist(), strict=True)]

    def _with_words(self, batch: PoseBatch, rows: np.ndarray) -> PoseBatch:
        if self.image_names is not None:
            batch["file_name"] = [self.image_names[i] for i in self.columns["picture"][rows].tolist()]
        if not self.named:
            return batch
        of = [self.folder.sequences[s] for s in self.columns["sequence"][rows].tolist()]
        return {
            **batch,
            "sample_id": self.names(rows),
            "subject": [str(facts.get("subject", "")) for facts in of],
            "action": [str(facts.get("action", "")) for facts in of],
            "sequence": [str(facts.get("group", facts["name"])) for facts in of],
        }

    def _numbers(self, rows: np.ndarray) -> PoseBatch:
        batch: PoseBatch = {"camera": self._camera(rows)}
        self._add_joints(batch, rows)
        self._add_body(batch, rows)
        if self.complete is not None:
            batch = self.complete(batch, rows)
        batch["keypoints_2d"] = self._keypoints_2d(batch, rows)
        if self.keypoints_2d != "gt" and "keypoints_2d_gt" in self.columns:
            batch["keypoints_2d_gt"] = self.exact(batch, rows)  # what reprojected joints are compared with
        batch["box"] = self._box(batch, rows)
        # Only now: frames that do not count still have 2-D joints.
        batch["keypoints_3d"][..., 3] *= torch.from_numpy(self.counted[rows])[:, None]
        return batch

    def _gather(self, name: str, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.columns[name][rows]))

    def _camera(self, rows: np.ndarray) -> Camera:
        """Unknown focal lengths are the diagonal of the image, unknown principal points its middle."""

        def known(name: str) -> Tensor:
            missing = torch.full((len(rows), 2), torch.nan)
            return self._gather(name, rows) if name in self.columns else missing

        size, focal, centre = known("image_size"), known("focal"), known("principal_point")
        size = torch.where(size.isnan(), 2.0 * centre, size)
        if size.isnan().any():
            raise InputError(f"{self.folder.root}: neither image_size nor principal_point of some rows is known")
        diagonal = size.norm(dim=-1, keepdim=True).expand(-1, 2)
        return {
            "focal": torch.where(focal.isnan(), diagonal, focal),
            "principal_point": torch.where(centre.isnan(), size / 2.0, centre),
            "image_size": size,
        }

    def _add_joints(self, batch: PoseBatch, rows: np.ndarray) -> None:
        """Ground truth in the camera frame; without any, no joint is valid."""
        if self.keypoints_3d in self.columns:
            batch["keypoints_3d"] = self._joints(self.keypoints_3d, rows)
        else:
            batch["keypoints_3d"] = torch.zeros(len(rows), skeletons.get(SKELETON).num_joints, 4)
        if "smpl_joints" in self.columns:
            batch["smpl_joints"] = self._gather("smpl_joints", rows)[..., :3]

    def _add_body(self, batch: PoseBatch, rows: np.ndarray) -> None:
        if "poses" not in self.columns:
            return
        turned = roma.rotvec_to_rotmat(self._gather("poses", rows))
        betas = self._gather("betas", rows)
        batch["smpl"] = {"global_orient": turned[:, 0], "body_pose": turned[:, 1:], "betas": betas}
        batch["has_smpl"] = (
            self._gather("has_smpl", rows) if "has_smpl" in self.columns else torch.ones(len(rows), dtype=torch.bool)
        )
        if "translation" in self.columns:
            batch["camera_translation"] = self._gather("translation", rows)

    def _joints(self, column: str, rows: np.ndarray) -> Float[Tensor, "B 17 C"]:
        return skeletons.convert_partly(self._gather(column, rows), self.folder.skeleton(column), SKELETON)

    def _keypoints_2d(self, batch: PoseBatch, rows: np.ndarray) -> Float[Tensor, "B 17 3"]:
        if self.keypoints_2d == "detected":
            return self._joints("keypoints_2d_detected", rows)
        exact = self.exact(batch, rows)
        if self.keypoints_2d == "gt":
            return exact
        seen = exact[..., 2] > 0
        sides = box_of_keypoints(exact, scale=1.0)[:, 2].clamp_min(1.0)  # at least 1 where no joint is seen
        area = 0.5 * sides.square()  # a person fills about half of the square around them
        keys = keyed_random.keys_of(self.names(rows))
        return simulate_detections(exact[..., :2], seen, area, keys, SKELETON, self.noise_seed)

    def exact(self, batch: PoseBatch, rows: np.ndarray) -> Float[Tensor, "B 17 3"]:
        """Joints without detection errors: as annotated, or projected where there are no annotations."""
        if "keypoints_2d_gt" in self.columns:
            return self._joints("keypoints_2d_gt", rows)
        joints, camera = batch["keypoints_3d"], batch["camera"]
        pixels = cameras.project(joints[..., :3], camera["focal"], camera["principal_point"])
        inside = ((pixels >= 0) & (pixels <= camera["image_size"][:, None])).all(dim=-1)
        seen = (joints[..., 3] > 0) & (joints[..., 2] > 0) & inside
        return torch.where(seen[..., None], torch.cat((pixels, seen[..., None].float()), dim=-1), 0.0)

    def _box(self, batch: PoseBatch, rows: np.ndarray) -> Float[Tensor, "B 3"]:
        """Boxes of the publisher's bounds, or of the 2-D joints where there are none."""
        bounds = bounds_of_keypoints(batch["keypoints_2d"])
        if "bounds" in self.columns:
            published = self._gather("bounds", rows)
            bounds = torch.where(published.isnan().any(dim=-1, keepdim=True), bounds, published)
        bounds = torch.where(bounds.isfinite().all(dim=-1, keepdim=True), bounds, 0.0)
        return square_box(bounds, *BOX_RULES[self.box_rule], batch["camera"]["image_size"])


def concatenate(batches: Sequence[Any]) -> Any:
    """Nested dictionaries of tensors, one after the other."""
    first = batches[0]
    if isinstance(first, dict):
        return {key: concatenate([batch[key] for batch in batches]) for key in first}
    return torch.cat(list(batches))
