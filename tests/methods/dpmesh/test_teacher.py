"""A teacher that was trained before."""

import pytest
import torch

from methods.dpmesh import DPMesh
from noise2pose.errors import InputError
from tests.methods.dpmesh.training import SMALL, changed, fit, make, weights


def test_a_trained_model_can_be_the_teacher(tmp_path):
    teacher = make(train_keypoints="clean")
    fit(teacher, tmp_path).save_checkpoint(tmp_path / "teacher.ckpt")
    method = make(nkr="mse", teacher_checkpoint=str(tmp_path / "teacher.ckpt"))
    fit(method, tmp_path)
    assert not changed(weights(teacher.network), weights(method.teacher))
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())
    with pytest.raises(
        InputError, match="model.teacher_checkpoint: .* the weights do not fit a DPMesh of these settings"
    ):
        fit(make(backbone="resnet50", nkr="mse", teacher_checkpoint=str(tmp_path / "teacher.ckpt")), tmp_path)


def test_a_teacher_has_the_students_frozen_weights(tmp_path):
    small = {"backbone": "diffusion", "lora_rank": 2}
    path = tmp_path / "teacher.ckpt"
    teacher = make(**small)
    fit(teacher, tmp_path).save_checkpoint(path)
    taught = make(**small, nkr="mse", teacher_checkpoint=str(path))  # the same seed: the same frozen weights
    fit(taught, tmp_path)
    assert not changed(weights(teacher.network), weights(taught.teacher))
    torch.manual_seed(1)
    other = DPMesh(**{**SMALL, **small, "nkr": "mse", "teacher_checkpoint": str(path)})
    with pytest.raises(InputError, match="model.teacher_checkpoint: .* was trained from other frozen weights"):
        fit(other, tmp_path)
