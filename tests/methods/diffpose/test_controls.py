"""The context encoders that DiffPose is compared with: Gaussian head, equal parameters, equal compute."""

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from methods.diffpose import ContextEncoder, DiffPose
from methods.diffpose.context import encoder_loss, likelihood_loss, read_encoder
from methods.lifting import input_joints
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.metrics.calibration import Calibration
from tests.methods.diffpose.contract import SMALL, SMALL_CLIP, SMALL_DIFFPOSE
from tests.methods.test_contract import fit
from tests.places import ROOT
from tests.tiny import TinyPoses


def made(piece):
    content = yaml.safe_load((ROOT / "configs" / "methods" / f"{piece}.yaml").read_text())
    return {"ContextEncoder": ContextEncoder, "DiffPose": DiffPose}[content["class_path"].rpartition(".")[2]](
        **content["init_args"]
    ).eval()


def parameters(method):
    return sum(parameter.numel() for parameter in method.parameters())


@torch.no_grad()
def operations(method):
    """Of the answer alone, without hypotheses."""
    counter = FlopCounterMode(display=False)
    with counter:
        method(TinyPoses().load("val"))
    return counter.get_total_flops()


def test_controls_are_as_large_and_as_expensive_as_diffpose():
    diffpose = made("diffpose_paper_small")
    assert parameters(made("context_parameters_small")) == pytest.approx(parameters(diffpose), rel=0.02)
    diffpose.denoiser_steps += 1
    diffpose.diffusion.timesteps = diffpose.diffusion.timesteps[:1]
    diffpose.diffusion.num_components = 1  # what mixtures cost is no network's
    one_call, encoder = operations(diffpose), operations(made("context_gaussian_small"))
    assert one_call > 3.0 * encoder
    assert operations(made("context_compute_small")) == pytest.approx(one_call, rel=0.05)


def test_the_loss_of_points_is_their_mean_square_or_mean_distance():
    batch = TinyPoses(num_samples=8).load("val")
    batch["keypoints_3d"][2, 5, 3] = 0.0
    network = ContextEncoder(**SMALL).eval().network
    pose = network(input_joints(batch, skeletons.get("h36m_17")))
    error = (pose - pose[:, :1] - batch["keypoints_3d"][..., :3] + batch["keypoints_3d"][:, :1, :3]).detach()
    counted = batch["keypoints_3d"][..., 3].bool()
    squared, distance = (
        encoder_loss(network, batch, skeletons.get("h36m_17"), 1, loss=kind) for kind in ("squared", "distance")
    )
    assert squared.item() == pytest.approx(error[counted].square().mean().item(), rel=1e-5)
    assert distance.item() == pytest.approx(error[counted].norm(dim=-1).mean().item(), rel=1e-2)
    distance.backward()  # also through the root, whose distance is always zero
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_loss_is_the_likelihood_of_independent_gaussians():
    generator = torch.Generator().manual_seed(0)
    pose, deviation = torch.randn(4, 17, 3, generator=generator), 0.1 + torch.rand(4, 17, 3, generator=generator)
    pose[:, 0] = 0.0
    truth = torch.cat((torch.randn(4, 17, 3, generator=generator), torch.ones(4, 17, 1)), dim=-1)
    truth[1, 5, 3] = 0.0
    target = truth[..., :3] - truth[:, :1, :3]
    density = -torch.distributions.Normal(pose, deviation).log_prob(target)
    counted = truth[..., 3].bool()
    counted[:, 0] = False
    expected = density[counted].mean() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    assert torch.allclose(likelihood_loss(pose, deviation, truth, root=0), expected)
    truth[..., 3] = 0.0
    assert likelihood_loss(pose, deviation, truth, root=0) == 0.0


@pytest.mark.parametrize("clip", [{}, SMALL_CLIP])
def test_hypotheses_of_a_gaussian_head_are_calibrated_if_its_deviations_are(clip):
    method = ContextEncoder(head="gaussian", num_hypotheses=8, **SMALL, **clip).eval()
    batch = TinyPoses(num_frames=method.num_frames, num_samples=512).load("val")
    with torch.no_grad():
        answer = method(batch)
    pose, poses = answer["joints_3d"], answer["hypotheses"]
    assert torch.allclose(poses.mean(dim=0), pose, atol=1e-6)
    error = poses[0] - pose
    assert not clip or torch.allclose(error[:, 0], error[:, 1], atol=1e-6)
    deviation = answer["uncertainty"][..., None] / 3**0.5  # equal for x, y and z before training
    noise = torch.randn(pose.shape, generator=torch.Generator().manual_seed(0))
    metric = Calibration(root=0)
    metric.update(poses, pose + deviation * noise)
    coverage = metric.compute()
    assert coverage["coverage_50"].item() == pytest.approx(50.0, abs=2.0)
    assert coverage["coverage_90"].item() == pytest.approx(90.0, abs=2.0)
    assert answer["uncertainty"][..., 0].abs().max() == 0.0


def test_diffpose_takes_an_encoder_with_a_gaussian_head(tmp_path):
    encoder = ContextEncoder(head="gaussian", **SMALL)
    trainer, _ = fit(encoder, tmp_path)
    trainer.save_checkpoint(tmp_path / "encoder.ckpt")
    weights = read_encoder(str(tmp_path / "encoder.ckpt"), DiffPose(**SMALL_DIFFPOSE).encoder)
    assert all(torch.equal(weights[key], value) for key, value in encoder.network.state_dict().items())
    with pytest.raises(InputError, match="num_hypotheses is 0"):
        ContextEncoder(head="gaussian", num_hypotheses=0, **SMALL)
