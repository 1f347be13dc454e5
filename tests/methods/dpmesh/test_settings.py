"""What a training of DPMesh may start from."""

from types import SimpleNamespace

import pytest
import torch

from methods.dpmesh.settings import check_start
from noise2pose.errors import InputError


def settings(**options):
    small = {
        **{"backbone": "diffusion", "size": "tiny", "unet_training": "lora", "pose_head": "rot6d"},
        **{"pretrained": None, "prior_checkpoint": None, "vposer_file": None},
    }
    return SimpleNamespace(**{**small, **options})


def test_noise_is_trained_only_where_it_is_small_or_nothing_rests():
    with pytest.raises(InputError, match="needs the weights of Stable Diffusion 1.5: for model.pretrained, get unet/"):
        check_start(settings(size="sd15"), 256)
    for options in ({}, {"unet_training": "full"}, {"pretrained": "folder"}, {"backbone": "resnet50"}):
        check_start(settings(**{"size": "sd15" if options else "tiny", **options}), 256)


def test_a_prior_is_of_the_same_pictures(tmp_path):
    path = str(tmp_path / "prior.ckpt")
    with pytest.raises(InputError, match="model.prior_checkpoint: .*does not exist; train a prior first: python"):
        check_start(settings(prior_checkpoint=path), 128)
    settings_of_prior = {"size": "tiny", "image_size": 64}
    torch.save({"hyper_parameters": settings_of_prior}, path)
    with pytest.raises(InputError, match="is no checkpoint of methods.dpmesh.Prior"):
        check_start(settings(prior_checkpoint=path), 128)
    weights = {"backbone.unet.conv_in.bias": torch.zeros(1)}
    torch.save({"hyper_parameters": settings_of_prior, "state_dict": weights}, path)
    check_start(settings(prior_checkpoint=path), 64)
    with pytest.raises(InputError, match="was trained on pictures of 64 pixels; set model.image_size to 64"):
        check_start(settings(prior_checkpoint=path), 128)
