"""Lifting with FMPose3D's published network, against the same network and sampling written plainly.

Shape letters: B batch, N hypotheses, J joints.
"""

from typing import Any

import torch
from torch import Tensor

from methods.fmpose import official
from methods.fmpose.flow import euler
from methods.fmpose.networks import adjacency
from noise2pose import skeletons
from scripts.benchmarks.fmpose_textbook import TextbookVelocity
from scripts.benchmarks.measure import Comparison, Prepared, Side

_STEPS = 3  # as published
_SAME = 2e-5  # of the largest value: float32 results of two orders of summation
_SAME_IN_BFLOAT16 = 5e-2


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """Rows of one person in one image, of ten, and of a batch of an evaluation.

    On a processor, a large batch has no bar: nearly all of its time goes into the same products on both sides.
    """
    on_gpu = device.type == "cuda"
    rows = []
    for name, poses, hypotheses, at_least in (
        ("one person", 1, 8, 1.2),
        ("ten people", 10, 8, 1.2),
        ("batch of 256", 256, 1, 1.2 if on_gpu else None),
    ):
        poses = min(poses, 16) if quick else poses
        rows.append(
            Comparison(
                name=name,
                setting=f"{poses} x {hypotheses} hypotheses, width 512, 5 blocks, 8 heads, {_STEPS} steps, "
                + ("ours bfloat16 and compiled" if on_gpu else "float32 both"),
                against="the same network written plainly, one hypothesis after the other, on the CPU",
                at_least=at_least,
                unit="hypothesis",
                prepare=lambda poses=poses, hypotheses=hypotheses: _lifting(poses, hypotheses, device),
                repeats=9 if poses < 256 else 5,
            )
        )
    return rows


def _lifting(poses: int, hypotheses: int, device: torch.device) -> Prepared:
    """Euler's method with the network of `networks` for all hypotheses together, against the textbook's."""
    torch.manual_seed(0)
    textbook = TextbookVelocity(adjacency(skeletons.get(official.SKELETON))).eval()
    fast = official.load_fmpose3d(textbook.state_dict()).to(device)
    pose_2d, noise = torch.randn(poses, 17, 2), torch.randn(hypotheses, poses, 17, 3)
    ours = pose_2d.to(device), noise.to(device)

    @torch.inference_mode()
    def run_theirs() -> Tensor:
        return textbook.sample(pose_2d, noise, _STEPS)

    expected = run_theirs()
    with torch.inference_mode():
        # The noise hides errors of the velocity behind its own size, so the way is compared as well.
        way = euler(fast, *ours, _STEPS).cpu() - noise
    values = {"way_difference": _difference(way, expected - noise)}
    wrong = values["way_difference"] > _SAME
    if device.type == "cuda":
        fast.velocity = torch.compile(fast.velocity)  # pyright: ignore[reportAttributeAccessIssue]

    @torch.inference_mode()
    def run_ours() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return euler(fast, *ours, _STEPS)

    if device.type == "cuda":
        values["way_difference_in_bfloat16"] = _difference(run_ours().cpu() - noise, expected - noise)
        wrong = wrong or values["way_difference_in_bfloat16"] > _SAME_IN_BFLOAT16
    units = poses * hypotheses
    complaint = "the two networks answer differently" if wrong else ""
    return Prepared(Side(run_ours, units), Side(run_theirs, units), values, complaint)


def _difference(ours: Any, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((ours.float() - theirs).abs().max() / theirs.abs().max())
