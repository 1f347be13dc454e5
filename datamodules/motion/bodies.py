"""Bodies in recorded poses before sampled cameras: people with known body parameters, drawn afresh for each sample.

Every number is a pure function of the sample's key and a seed, as for `sampled_cameras`.

Shape letters: B samples, J joints.
"""

from typing import Any

import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datamodules.motion.recombined import recombined_rotations
from datamodules.motion.sampled_cameras import CameraRanges, Seen, draw, see
from datamodules.rendered.people import SKELETON, betas_of, boxes
from noise2pose.batch import Smpl
from noise2pose.bodies import BodyModel
from noise2pose.images.mirroring import mirror_smpl

_BETAS, _BOXES = 260, 261  # streams of keyed_random


class MovingBodies:
    """A body of random shape for each sample.

    Proportions are the body's: `CameraRanges.body_scale` and `limb_scale` do not count.

    Args:
        body: as `BodyModel.load` takes it.
    """

    def __init__(self, body: str) -> None:
        self.body = BodyModel.load(body)

    def see(
        self,
        poses: Float[Tensor, "B 1 24 3"],
        others: Float[Tensor, "B 1 24 3"] | None,
        keys: Int[Tensor, " B"],
        ranges: CameraRanges,
        seed: int,
    ) -> tuple[Seen, dict[str, Any]]:
        """Samples of single frames.

        Args:
            poses: axis-angle of SMPL's joints; the first turns the body into a world with z up.
            others: poses that parts are taken from; None for no recombination.
            keys: of the samples.
            ranges: of cameras, and the share of recombined poses.
            seed: which repetition this is.

        Returns:
            The joints of the bodies as their cameras see them, and what a batch has besides: parameters, translations
            and boxes.
        """
        body = self.body.to(poses.device)
        rotations = roma.rotvec_to_rotmat(poses[:, 0])
        if others is not None:
            other = roma.rotvec_to_rotmat(others[:, 0])
            rotations = recombined_rotations(rotations, other, keys, share=ranges.recombined, seed=seed)
        views = draw(keys, ranges, SKELETON, seed)
        smpl: Smpl = {
            "global_orient": rotations[:, 0],
            "body_pose": rotations[:, 1:],
            "betas": betas_of(keys, _BETAS, seed),
        }
        mirror, mirrored = views.mirrored[:, None, None], mirror_smpl(smpl)
        for key in ("global_orient", "body_pose"):
            smpl[key] = torch.where(mirror if key == "global_orient" else mirror[..., None], mirrored[key], smpl[key])
        joints = body.joints(**smpl, regressor=SKELETON)
        as_they_are = views._replace(limbs=torch.ones_like(views.limbs), mirrored=torch.zeros_like(views.mirrored))
        seen = see(joints[:, None], as_they_are, SKELETON)

        root = body.rest_joints(smpl["betas"])[:, 0]  # about which the camera turns the body
        turned = (views.rotation @ (joints[:, 0] - root)[..., None])[..., 0] + root
        smpl["global_orient"] = views.rotation @ smpl["global_orient"]
        return seen, {
            "smpl": smpl,
            "has_smpl": torch.ones(len(keys), dtype=torch.bool, device=keys.device),
            "camera_translation": seen.joints[:, 0, 0] - turned,
            "box": boxes(seen.pixels[:, 0], seen.inside[:, 0], keys, seed, _BOXES),
        }
