"""Motions with known joints, for tests of what is written."""

from functools import cache

import numpy as np
import roma
import torch

from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.export.motion import Camera, Motion, one_shape
from noise2pose.rendering.levelling import pitch_rotation

H36M = skeletons.get("h36m_17")
FPS = 29.97


@cache
def free_body() -> BodyModel:
    return BodyModel.load("free")


def body_motion(count: int = 5, seed: int = 0, **changed) -> Motion:
    """Somebody in front of the camera who bends the right knee more and more and turns at random."""
    generator = torch.Generator().manual_seed(seed)
    body = free_body()
    vectors = 0.3 * torch.randn(count, 24, 3, generator=generator)
    vectors[:, 0] = torch.tensor([torch.pi, 0.0, 0.0]) + 0.1 * vectors[:, 0]  # upright in the camera's frame
    vectors[:, 5] = torch.linspace(0.2, 1.2, count)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    rotations = roma.rotvec_to_rotmat(vectors)
    betas = torch.randn(10, generator=generator).expand(count, 10)
    place = torch.tensor([0.2, 0.1, 4.0]) + torch.linspace(0.0, 1.0, count)[:, None] * torch.tensor([0.5, 0.0, 0.3])
    joints = body.joints(rotations[:, 0], rotations[:, 1:], betas, place, regressor="h36m_17")
    focal, centre = np.full((count, 2), 300.0), np.tile([120.0, 160.0], (count, 1))
    about = {
        "name": "anna",
        "joints": joints.numpy(),
        "skeleton": H36M,
        "frames": np.arange(count),
        "fps": FPS,
        "video": "clip.mp4",
        "body": one_shape(body, rotations.numpy(), betas.numpy(), place.numpy()),
        "camera": Camera(focal, centre),
        "keypoints_2d": seen_by(joints.numpy(), focal, centre),
        "image_size": (240, 320),
        "level": pitch_rotation(15.0).astype(np.float64),
        "level_about": "camera 15 degrees down, as given",
    }
    return Motion(**{**about, **changed})


def joint_motion(count: int = 5, seed: int = 1, **changed) -> Motion:
    """Joints with bones of constant lengths, relative to the pelvis, with hypotheses around them."""
    from noise2pose.export.rig import skeleton_rig

    whole = body_motion(count, seed)
    joints = whole.joints - whole.joints[:, :1]
    rig = skeleton_rig(joints @ whole.to_y_up.T, H36M)
    joints = (rig.places()[:, [rig.names.index(name) for name in H36M.joints]] @ whole.to_y_up).astype(np.float32)
    noise = np.random.default_rng(seed).normal(scale=0.03, size=(count, 3, 17, 3)).astype(np.float32)
    about = {
        "name": "berta",
        "joints": joints,
        "skeleton": H36M,
        "frames": np.arange(count),
        "fps": FPS,
        "video": "clip.mp4",
        "origin": "the pelvis of each frame",
        "uncertainty": np.full((count, 17), 0.03, dtype=np.float32),
        "hypotheses": joints[:, None] + noise,
        "keypoints_2d": whole.keypoints_2d,
        "image_size": (240, 320),
        "level": whole.level,
    }
    return Motion(**{**about, **changed})


def seen_by(joints: np.ndarray, focal: np.ndarray, centre: np.ndarray) -> np.ndarray:
    pixels = joints[..., :2] / joints[..., 2:] * focal[:, None] + centre[:, None]
    return np.concatenate((pixels, np.full((*pixels.shape[:2], 1), 0.9)), axis=-1).astype(np.float32)


def body_places(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (F, V, 3) and kinematic joints (F, K, 3) of the body model itself, in the axes of y up."""
    body = motion.body
    assert body is not None
    rotations, betas, translation = (torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in body[1:])
    posed = body.model(rotations[:, 0], rotations[:, 1:], betas.expand(len(motion), -1), translation)
    return tuple(values.numpy() @ motion.to_y_up.T for values in posed)


def places(motion: Motion) -> np.ndarray:
    """(F, J, 3) joints in the axes of y up."""
    return motion.joints @ motion.to_y_up.T
