"""Condition maps of training batches, drawn from their true bodies as the stage `render` draws those of a data set.

Shape letters: B batch, S side of the image.
"""

import hashlib

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from methods.mesh_batches import box_of, camera_of
from methods.posepp.images.diffusion import Maps
from methods.posepp.people.body import Body
from methods.posepp.people.conditions import see
from methods.posepp.people.drawing import draw_depth, draw_keypoints
from noise2pose.batch import PoseBatch


class BatchMaps:
    """Draws both maps of the crops of a batch; each person's are drawn once and kept, 4 S^2 bytes.

    Args:
        body: `free`, or a body file.
        size: S, pixels.
        floor: brightness of the farthest point of a person.
        hide_occluded: `face`, `all` or `none`.
        stroke_scale: width of the drawn limbs.
    """

    def __init__(self, body: str, size: int, floor: float, hide_occluded: str, stroke_scale: float) -> None:
        self.body = Body(body)
        self.size, self.floor = size, floor
        self.hide_occluded, self.stroke_scale = hide_occluded, stroke_scale
        self._drawn: dict[bytes, np.ndarray] = {}

    @torch.no_grad()
    def __call__(self, batch: PoseBatch, chosen: Tensor) -> Maps:
        """The maps of some samples of a batch, on its device.

        Args:
            batch: `smpl`, `camera_translation`, `camera` and `box`.
            chosen: numbers of the samples.
        """
        parts = self._parts(batch, chosen)
        rows = np.concatenate([part.flatten(1).numpy() for part in parts], axis=1)
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
        new = [number for number, key in enumerate(keys) if key not in self._drawn]
        if new:
            for number, maps in zip(new, self._draw(*(part[new] for part in parts)), strict=True):
                self._drawn[keys[number]] = maps
        maps = torch.from_numpy(np.stack([self._drawn[key] for key in keys])).to(chosen.device).float() / 255.0
        return Maps(maps[:, :1], maps[:, 1:])

    def _parts(self, batch: PoseBatch, chosen: Tensor) -> list[Tensor]:
        """What maps are drawn from: orientation, pose, shape and place of the bodies, and the cameras of the crops."""
        smpl, camera, box = batch["smpl"], camera_of(batch), box_of(batch)
        scale = self.size / box[:, 2:]
        corner = box[:, :2] - box[:, 2:] / 2.0
        intrinsics = torch.cat((camera.focal * scale, (camera.principal_point - corner) * scale), dim=1)
        parts = (smpl["global_orient"], smpl["body_pose"], smpl["betas"], batch["camera_translation"], intrinsics)
        return [part[chosen].detach().double().cpu() for part in parts]

    def _draw(
        self, orient: Tensor, pose: Tensor, betas: Tensor, translation: Tensor, intrinsics: Tensor
    ) -> list[UInt8[np.ndarray, "4 S S"]]:
        posed = self.body.model(orient, pose, betas, translation)
        people = zip(posed.vertices.numpy(), posed.joints.numpy(), intrinsics.numpy(), strict=True)
        return [self._draw_person(*person) for person in people]

    def _draw_person(self, vertices: np.ndarray, joints: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
        focal_x, focal_y, x, y = intrinsics
        matrix = np.array([[focal_x, 0.0, x], [0.0, focal_y, y], [0.0, 0.0, 1.0]])
        seen = see(vertices, joints, self.body, matrix, self.size)
        drawn = seen.drawn(self.hide_occluded)
        depth = draw_depth(seen.sight.depth, self.floor)
        strokes = draw_keypoints(seen.openpose[:, :2], drawn, (self.size, self.size), self.stroke_scale)
        return np.concatenate((depth[None], strokes.transpose(2, 0, 1)))
