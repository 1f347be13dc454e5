"""What a training of DPMesh may start from."""

from types import SimpleNamespace

import pytest
import torch

from methods.dpmesh import Codebook, DPMesh, Prior
from methods.dpmesh.settings import check_start
from noise2pose.errors import InputError
from tests.methods.dpmesh.training import fit, make


def settings(**options):
    small = {
        **{"backbone": "diffusion", "size": "tiny", "unet_training": "lora", "pose_head": "rot6d"},
        **{"nkr": "off", "teacher_epochs": 0, "teacher_checkpoint": None},
        **{"pretrained": None, "prior_checkpoint": None, "vposer_file": None, "latent": "sd", "skeleton": "h36m_17"},
    }
    return SimpleNamespace(**{**small, **options})


def test_random_weights_are_frozen_only_where_they_are_small():
    with pytest.raises(InputError, match="needs the weights of Stable Diffusion 1.5: for model.pretrained, get unet/"):
        check_start(settings(size="sd15"), 256)
    for options in ({}, {"unet_training": "full"}, {"pretrained": "folder"}, {"backbone": "resnet50"}):
        check_start(settings(**{"size": "sd15" if options else "tiny", **options}), 256)


def test_a_prior_has_the_same_image_size_and_joints(tmp_path):
    path = str(tmp_path / "prior.ckpt")
    with pytest.raises(InputError, match="model.prior_checkpoint: .*does not exist; train a prior first: noise2pose"):
        check_start(settings(prior_checkpoint=path), 128)
    settings_of_prior = {"size": "tiny", "image_size": 64, "skeleton": "h36m_17"}
    torch.save({"hyper_parameters": settings_of_prior}, path)
    with pytest.raises(InputError, match="has no state_dict: it is not .* train a prior first"):
        check_start(settings(prior_checkpoint=path), 128)
    weights = {"backbone.unet.conv_in.bias": torch.zeros(1)}
    torch.save({"hyper_parameters": settings_of_prior, "state_dict": weights}, path)
    check_start(settings(prior_checkpoint=path), 64)
    with pytest.raises(InputError, match="was trained on images of 64 pixels; set model.image_size to 64"):
        check_start(settings(prior_checkpoint=path), 128)
    with pytest.raises(InputError, match="was trained on the joints h36m_17"):
        check_start(settings(prior_checkpoint=path, skeleton="coco_17"), 64)
    with pytest.raises(InputError, match="model.latent is release, and a prior's latents are sd"):
        check_start(settings(prior_checkpoint=path, latent="release"), 64)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Prior, {"autoencoder_epochs": 0}, "model.autoencoder_epochs is 0, expected at least 1"),
        (Prior, {"condition_dropout": 5.0}, "model.condition_dropout is 5.0, expected 0 to 1"),
        (Prior, {"learning_rate": -1.0}, "model.learning_rate is -1.0, expected at least 0"),
        (Codebook, {"num_codes": 0}, "model.num_codes is 0, expected at least 1"),
        (Codebook, {"decay": 2.0}, "model.decay is 2.0, expected 0 to 1"),
        (Codebook, {"commitment_weight": -1.0}, "model.commitment_weight is -1.0, expected at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_weights_in_low_precision_are_refused():
    for trained in (Prior(), DPMesh(pose_head="rot6d")):
        with pytest.raises(InputError, match="trainer.precision is bf16-true: take 32-true, or bf16-mixed"):
            trained.check_training(SimpleNamespace(precision="bf16-true"), resumed=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nkr": "mse"}, "model.nkr mse needs a teacher"),
        ({"nkr": "mse", "teacher_epochs": 2}, r"trainer.max_epochs \(1\) must exceed model.teacher_epochs \(2\)"),
        ({"final_epochs": 1}, r"model.final_epochs \(1\) must be less than the epochs of each stage"),
        ({"heatmap_input": "add"}, "model.heatmap_input add is for the diffusion backbone with model.heatmaps true"),
        ({"teacher_epochs": 1}, "model.teacher_epochs is for noisy keypoint reasoning, and model.nkr is off"),
        ({"nkr": "mse", "teacher_epochs": 1, "teacher_checkpoint": "a"}, "take one of them"),
        ({"pretrained": "a", "prior_checkpoint": "b"}, "take one of them"),
        ({"prior_checkpoint": "b"}, "model.prior_checkpoint is for the diffusion backbone"),
        ({"backbone": "diffusion", "control_pretrained": "a"}, "model.control_pretrained.* need model.pretrained"),
        ({"pose_head": "vq_soft"}, "model.pose_head vq_soft needs a trained codebook"),
        ({"pose_head": "vposer"}, "model.pose_head vposer needs the weights of VPoser"),
        ({"codebook_checkpoint": "a.ckpt"}, "model.codebook_checkpoint is for model.pose_head vq_soft or vq_ce"),
        (
            {"pose_head": "vq_ce", "codebook_checkpoint": "a.ckpt"},
            "model.codebook_checkpoint: checkpoint a.ckpt does not",
        ),
        ({"backbone": "diffusion", "lora_rank": 0}, "model.lora_rank is 0"),
        ({"image_size": 100}, "model.image_size is 100, expected a multiple of 32 with size: tiny"),
        ({"image_size": 0}, "model.image_size is 0"),
        ({"timestep": 1000}, "model.timestep is 1000, expected 0 to 999"),
        ({"teacher_epochs": -1}, "model.teacher_epochs is -1, expected at least 0"),
        ({"joint_dropout": float("nan")}, "model.joint_dropout is nan, expected 0 to 1"),
        ({"nkr_temperature": 0.0}, "model.nkr_temperature is 0.0, expected more than 0"),
        ({"control_pretrained": "a"}, "model.control_pretrained is for the diffusion backbone"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        fit(make(**options), tmp_path)
