"""Joints without the mesh against the whole mesh; the error after alignment against one pose at a time.

Shape letters: B poses, J joints, V vertices, P pose features.
"""

from dataclasses import replace

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose.bodies import BodyModel
from noise2pose.bodies import files as body_files
from noise2pose.metrics import functional
from scripts.benchmarks.measure import Comparison, Prepared, Side

_SKELETON = "h36m_17"
_SAME_JOINTS = 1e-5  # metres: float32 results of two orders of summation
_SAME_ERROR = 1e-6  # metres
_POSE_DIRECTION = 1e-3  # metres per feature: muscles and elbows move by a centimetre or two


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of the body, of which both sides run on the device, and of PA-MPJPE, of which ours does."""
    batch, mesh_batch = (8, 2) if quick else (1024, 64)
    poses, their_poses = (16, 4) if quick else (8192, 256)
    against = f"the whole mesh and the regressor as a matrix, {mesh_batch} poses at a time"
    body, free = (lambda: with_pose_directions(_POSE_DIRECTION)), (lambda: body_files.read(body_files.FREE_BODY))
    rows = [
        Comparison(
            name=f"joints without the mesh{name}",
            setting=f"17 joints, 6,890 vertices, 10 betas, {features} pose features, batch {batch}, float32 both",
            against=against,
            at_least=at_least,
            unit="pose",
            prepare=lambda make=make: _joints(make(), batch, mesh_batch, device),
        )
        for name, features, at_least, make in (("", "207", 20.0, body), (", free body", "no", None, free))
    ]
    naive = (
        ("", "the same in PyTorch on the CPU, one pose at a time", 50.0),
        (" against NumPy", "the textbook in NumPy, one pose at a time", None),
    )
    return rows + [
        Comparison(
            name=f"PA-MPJPE{name}",
            setting=f"14 joints, batch {poses}, float32 both",
            against=against,
            at_least=at_least,
            unit="pose",
            prepare=lambda name=name: _aligned_errors(poses, their_poses, device, in_numpy=bool(name)),
        )
        for name, against, at_least in naive
    ]


def with_pose_directions(scale: float) -> body_files.BodyArrays:
    """The free body with random pose directions, of which it has none: so both sides do all of SMPL's work.

    Args:
        scale: metres per pose feature.
    """
    arrays = body_files.read(body_files.FREE_BODY)
    generator = torch.Generator().manual_seed(0)
    size = (*arrays.template.shape, 9 * (len(arrays.parents) - 1))
    return replace(arrays, pose_directions=scale * torch.randn(size, generator=generator, dtype=torch.float64))


def _joints(arrays: body_files.BodyArrays, batch: int, mesh_batch: int, device: torch.device) -> Prepared:
    """`BodyModel.joints` against a regressor applied to `BodyModel.forward`."""
    body = BodyModel(**vars(arrays)).to(device)
    regressor = arrays.regressors[_SKELETON].float().to(device)
    generator = torch.Generator().manual_seed(0)
    rotations = roma.unitquat_to_rotmat(
        torch.nn.functional.normalize(torch.randn(batch, len(arrays.parents), 4, generator=generator), dim=-1)
    ).to(device)
    betas = torch.randn(batch, body_files.NUM_BETAS, generator=generator).to(device)
    few = rotations[:mesh_batch], betas[:mesh_batch]

    @torch.inference_mode()
    def without_mesh() -> Float[Tensor, "B J 3"]:
        return body.joints(rotations[:, 0], rotations[:, 1:], betas, regressor=_SKELETON)

    @torch.inference_mode()
    def with_mesh() -> Float[Tensor, "B J 3"]:
        return regressor @ body(few[0][:, 0], few[0][:, 1:], few[1]).vertices

    difference = float((without_mesh()[:mesh_batch] - with_mesh()).abs().max())
    complaint = "" if difference < _SAME_JOINTS else f"joints differ by {difference:.1e} m"
    checks = {"joint_difference_m": difference}
    return Prepared(Side(without_mesh, batch), Side(with_mesh, mesh_batch), checks, complaint)


def _aligned_errors(poses: int, their_poses: int, device: torch.device, in_numpy: bool) -> Prepared:
    """`functional.pa_mpjpe` of a batch against one pose after the other."""
    generator = torch.Generator().manual_seed(0)
    target = 0.4 * torch.randn(poses, 14, 3, generator=generator)
    pred = target + 0.05 * torch.randn(poses, 14, 3, generator=generator)
    on_device = pred.to(device), target.to(device)
    arrays = pred.numpy(), target.numpy()

    batched = torch.inference_mode()(lambda: functional.pa_mpjpe(*on_device))

    @torch.inference_mode()
    def one_by_one() -> list[float]:
        if in_numpy:
            return [textbook_pa_mpjpe(arrays[0][pose], arrays[1][pose]) for pose in range(their_poses)]
        return [float(functional.pa_mpjpe(pred[pose], target[pose])) for pose in range(their_poses)]

    expected = torch.tensor([textbook_pa_mpjpe(*pair) for pair in zip(*arrays, strict=True)])
    difference = float((batched().cpu() - expected).abs().max())
    complaint = "" if difference < _SAME_ERROR else f"errors differ by {difference:.1e} m"
    return Prepared(Side(batched, poses), Side(one_by_one, their_poses), {"error_difference_m": difference}, complaint)


def textbook_pa_mpjpe(pred: np.ndarray, target: np.ndarray) -> float:
    """PA-MPJPE of one pose, as evaluation code usually has it (Umeyama, PAMI 1991).

    Args:
        pred: (J, 3).
        target: (J, 3).

    Returns:
        The mean distance after alignment, in the units of the input.
    """
    x, y = pred - pred.mean(axis=0), target - target.mean(axis=0)
    u, s, vh = np.linalg.svd(x.T @ y)
    sign = np.sign(np.linalg.det(u @ vh))
    rotation = (vh.T * np.array([1.0, 1.0, sign])) @ u.T
    scale = (s[0] + s[1] + sign * s[2]) / np.square(x).sum()
    return float(np.linalg.norm(scale * x @ rotation.T - y, axis=-1).mean())
