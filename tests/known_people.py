"""A few people of the free body in front of cameras, with all that can be known of them."""

import roma
import torch

from datamodules.rendered.people import Poses, photograph
from noise2pose import keyed_random
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel

ASYMMETRY = 0.03  # metres between a joint of the free body and the mirror image of its partner


def people(count: int = 4) -> tuple[PoseBatch, BodyModel]:
    """Labels with principal points off the middle and focal lengths that differ in x and y; and their body."""
    body = BodyModel.load("free")
    generator = torch.Generator().manual_seed(0)
    turns = 0.4 * torch.randn(count, 24, 3, generator=generator)
    names = [f"person_{number}" for number in range(count)]
    betas = torch.randn(count, 10, generator=generator)
    poses = Poses(roma.rotvec_to_rotmat(turns), betas, names, names, names)
    batch = photograph(poses, body, keyed_random.keys_of(names), seed=0, truncation=0.0)
    camera, pixels = batch["camera"], batch["keypoints_2d"]
    shift, stretch = torch.tensor([20.0, -35.0]), torch.tensor([1.0, 1.02])
    centre = camera["principal_point"] + shift
    moved = (pixels[..., :2] - camera["principal_point"][:, None]) * stretch + centre[:, None]
    batch["keypoints_2d"] = torch.cat((moved, torch.ones_like(pixels[..., 2:])), dim=-1)
    batch["camera"] = {**camera, "focal": camera["focal"] * stretch, "principal_point": centre}
    posed = body(**batch["smpl"], translation=batch["camera_translation"])
    batch["vertices"], batch["smpl_joints"] = posed
    return batch, body
