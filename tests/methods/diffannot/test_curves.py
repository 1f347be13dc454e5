"""The error after s steps, beside that of candidates that the ground truth chose."""

import json

import lightning as L
import torch

from methods.diffannot import DiffAnnot
from methods.diffannot.curves import loss_curves
from methods.diffannot.search import denoise_from
from methods.diffannot.states import to_state
from noise2pose.metrics import functional
from noise2pose.metrics.protocols import MESH_JOINTS
from tests.tiny import TinyPeople

FRONT = {"class_path": "methods.hmr.HMR", "arguments": {"input": "keypoints", "width": 32, "hidden": 32}}


def test_the_curve_is_the_mean_error_of_each_number_of_steps():
    L.seed_everything(3, verbose=False)
    method = DiffAnnot(frontend=json.dumps(FRONT), width=32, num_blocks=1, max_steps=5, sampler="ddim").eval()
    torch.nn.init.normal_(method.denoiser.output.weight, std=0.1)
    batch = TinyPeople(image_size=1).load("test")
    curves = loss_curves(method, [batch])
    target = (batch["keypoints_3d"][..., :3] - batch["keypoints_3d"][:, :1, :3])[:, list(MESH_JOINTS)]
    with torch.no_grad():
        theta = to_state(method.frontend(batch)["smpl"])
        evidence = method.evidence(batch, theta)
        joints = method.posed_body.joints(denoise_from(method.refiner._step(method.denoiser, evidence), theta, 3))
    joints = (joints - joints[:, :1])[:, list(MESH_JOINTS)]
    for metric, error in (("pa_mpjpe", functional.pa_mpjpe), ("mpjpe", functional.mpjpe)):
        curve = curves["trained"][metric]
        assert len(curve.fixed) == 6
        assert abs(float(curve.fixed[3]) - 1000.0 * float(error(joints, target).mean())) < 0.01
        for control in curves.values():
            assert float(control[metric].fixed[0]) == float(curve.fixed[0]), "no step is the front end's answer"
            assert (control[metric].best <= control[metric].fixed + 1e-9).all()
            assert (control[metric].best.diff() <= 0.0).all() and control[metric].best[-1] < control[metric].best[0]
