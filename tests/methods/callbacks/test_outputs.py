"""Pictures that a training leaves: which, when, and that nothing else depends on them."""

import random
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from methods.callbacks.outputs import PredictionWriter, ValidationPictures, _lifted
from methods.diffpose import DiffPose
from methods.hmr import HMR
from tests.body_method import BodyMethod
from tests.tiny import TinyPeople, TinyPoses


class Random(L.Callback):
    """Every generator that a training could draw from, after each validation."""

    def __init__(self):
        self.states = []

    def on_validation_end(self, trainer, pl_module):
        self.states.append((torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()))


def fit(method, folder, *callbacks, data=None, **options):
    L.seed_everything(5, verbose=False)
    seen = Random()
    settings = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "accelerator": "cpu", "default_root_dir": folder, "max_epochs": 2, "num_sanity_val_steps": 0,
    }  # fmt: skip
    trainer = L.Trainer(**{**settings, **options}, callbacks=[*callbacks, seen])
    trainer.fit(method, datamodule=data or TinyPeople(num_samples=8, batch_size=4))
    return trainer, seen.states


def names(folder):
    return sorted(path.name for path in (folder / "pictures").glob("*"))


def test_a_picture_of_each_validation_and_the_same_training_as_without(tmp_path):
    def hmr():
        torch.manual_seed(0)
        return HMR(input="keypoints", width=16, hidden=16, keypoint_noise=0.1, warmup_steps=1)

    with_them, without = hmr(), hmr()
    drawn, states = fit(with_them, tmp_path / "with", ValidationPictures(people=3))
    plain, same_states = fit(without, tmp_path / "without")
    assert names(tmp_path / "with") == ["epoch_0000.png", "epoch_0001.png"]
    picture = np.asarray(Image.open(tmp_path / "with" / "pictures" / "epoch_0001.png"))
    assert picture.shape == (3 * 228 - 4, 3 * 228 - 4, 3)
    assert states == same_states
    assert drawn.callback_metrics.keys() == plain.callback_metrics.keys()
    assert all(torch.equal(value, plain.callback_metrics[key]) for key, value in drawn.callback_metrics.items())
    for key, value in with_them.state_dict().items():
        assert torch.equal(value, without.state_dict()[key]), key


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"num_sanity_val_steps": 2, "limit_train_batches": 0}])
def test_no_picture_of_what_is_no_validation(tmp_path, options):
    fit(BodyMethod(input="image"), tmp_path, ValidationPictures(), **options)
    assert names(tmp_path) == []


def test_without_photos_the_pictures_are_skeletons(tmp_path):
    fit(BodyMethod(), tmp_path, ValidationPictures(people=2), data=TinyPoses(16))
    assert names(tmp_path) == ["epoch_0000.png", "epoch_0001.png"]


@pytest.mark.parametrize("num_frames", [1, 3])
def test_skeletons_are_drawn_of_frames_and_of_the_middle_of_clips(num_frames):
    data = TinyPoses(16, num_frames=num_frames)
    batch, method = data.load("val"), SimpleNamespace(protocols=data.protocols("val"))
    picture = _lifted(method, batch, {"joints_3d": batch["keypoints_3d"][..., :3]}, 2)
    panels = np.split(picture, 3, axis=1)
    assert (panels[1][20:] == panels[2][20:]).all() and (picture < 200).any()


def test_no_picture_outside_training_and_where_nobody_wants_one(tmp_path):
    trainer, _ = fit(BodyMethod(input="image"), tmp_path, ValidationPictures(people=0))
    settings = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path, "accelerator": "cpu"}
    trainer = L.Trainer(**settings, callbacks=[ValidationPictures()])
    trainer.validate(BodyMethod(input="image"), datamodule=TinyPeople(), verbose=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_a_training_in_bfloat16_has_pictures_too(tmp_path, precision):
    method = HMR(input="keypoints", width=16, hidden=16, warmup_steps=1)
    settings = {"max_epochs": 1, "limit_train_batches": 1, "precision": precision}
    fit(method, tmp_path, ValidationPictures(people=1), **settings)
    assert names(tmp_path) == ["epoch_0000.png"]


def test_a_body_that_diverged_is_no_reason_to_stop(tmp_path):
    class Diverged(BodyMethod):
        def forward(self, batch):
            answer = super().forward(batch)
            answer["camera_translation"][1] = float("nan")
            return answer

    fit(Diverged(input="image"), tmp_path, ValidationPictures(people=2), max_epochs=1)
    picture = np.asarray(Image.open(tmp_path / "pictures" / "epoch_0000.png"))
    assert picture.shape[0] == 2 * 228 - 4 and (picture[228:, 228:] == 255).all()


class TwoProcesses:
    """What `PredictionWriter` asks of a trainer, as one of two processes that run one after the other."""

    world_size = 2

    def __init__(self, folder, rank, numbers, totals):
        self.default_root_dir, self.global_rank, self.is_global_zero = folder, rank, rank == 0
        self.num_predict_batches, self.strategy = numbers, self
        self.reduce = lambda *_, **__: totals

    def barrier(self):
        pass


def test_predictions_of_two_processes_are_joined_in_the_order_of_the_data(tmp_path):
    writers = []
    for rank, batches in ((1, [["b"]]), (0, [["a", "A"], ["c"]])):
        trainer = TwoProcesses(tmp_path, rank, [len(batches)], [3])
        writer, method = PredictionWriter(), DiffPose(width=16, num_blocks=1, context_width=16, context_blocks=1)
        writer.on_predict_start(trainer, method)
        for number, names in enumerate(batches):
            writer.on_predict_batch_end(
                trainer, method, {"joints_3d": torch.zeros(len(names), 17, 3)}, {"sample_id": names}, number
            )
        writers.append((writer, trainer, method))
    for writer, trainer, method in writers:
        writer.on_predict_end(trainer, method)
    with np.load(tmp_path / "predictions.npz") as found:
        assert found["sample_id"].tolist() == ["a", "A", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]
