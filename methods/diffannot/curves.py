"""L'(s), the error after s denoising steps (section III-F of the paper), trained and of the null controls.

The paper draws it for one sample and takes the lowest point for the answer. Beside the error of s steps for everybody
stands here the error of the best number of steps up to s of each sample, chosen with its ground truth: it falls for a
random walk too, since more candidates are tried.

Shape letters: B samples, I candidates.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from methods.diffannot.controls import CONTROLS, Control, untrained
from methods.diffannot.module import DiffAnnot
from methods.diffannot.refinement import SelectBy, truth_score
from methods.diffannot.states import to_state
from noise2pose.batch import PoseBatch
from noise2pose.metrics.protocols import MESH_JOINTS

METRICS: tuple[SelectBy, ...] = ("pa_mpjpe", "mpjpe")


class Curve(NamedTuple):
    """Means over the samples, millimetres; entry s is of s steps.

    Attributes:
        fixed: error of s steps.
        best: error of the best of 0 to s steps, chosen for each sample with its ground truth.
    """

    fixed: Float[Tensor, " I"]
    best: Float[Tensor, " I"]


@torch.no_grad()
def loss_curves(method: DiffAnnot, batches: Iterable[PoseBatch], seed: int = 0) -> dict[Control, dict[SelectBy, Curve]]:
    """Both errors of every candidate up to `max_steps`, without stopping.

    Args:
        method: in evaluation mode.
        batches: samples with ground truth.
        seed: of the untrained network.
    """
    networks = {"none": None, "untrained": untrained(method.denoiser, seed), "trained": method.denoiser}
    losses: dict[tuple[Control, SelectBy], list[Tensor]] = {(c, m): [] for c in CONTROLS for m in METRICS}
    for batch in batches:
        batch, _ = method.facing(batch)
        theta = to_state(method.frontend(batch)["smpl"])
        evidence = method.evidence(batch, theta)
        for control, metric in losses:
            score = truth_score(method.posed_body, batch["keypoints_3d"], MESH_JOINTS, metric)
            found = method.refiner.losses_of_fixed_steps(networks[control], theta, score, evidence)
            losses[control, metric].append(1000.0 * found.double())
    curves: dict[Control, dict[SelectBy, Curve]] = {control: {} for control in CONTROLS}
    for (control, metric), parts in losses.items():
        errors = torch.cat(parts)
        curves[control][metric] = Curve(errors.mean(dim=0), errors.cummin(dim=1).values.mean(dim=0))
    return curves
