"""Human3.6M's splits, views and protocols, and numbers of methods whose answers are known."""

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.human36m import Human36M
from datamodules.sources.human36m.cameras import CAMERAS, FRONTAL
from methods.base import PoseMethod
from methods.diffpose import DiffPose
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import MESH_JOINTS
from tests.datamodules import human36m_tree as tree
from tests.datamodules.human36m_tree import prepare_folder, seen

ERRORS = {"Directions": 10.0, "Photo": 20.0, "WalkDog": 30.0, "Sitting": 40.0, "SittingDown": 80.0}


class Known(PoseMethod):
    """Answers zeros, or the truth with every joint but the root off by a length that depends on the action."""

    title = "known answers"

    def __init__(self, zeros: bool) -> None:
        super().__init__()
        self.zeros = zeros
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        joints = batch["keypoints_3d"][..., :3]
        joints = joints - joints[..., :1, :]
        if self.zeros:
            return {"joints_3d": torch.zeros_like(joints)}
        off = torch.tensor([ERRORS[action] for action in batch["action"]]) / 1000.0
        shift = torch.zeros_like(joints)
        shift[..., 1:, 2] = off.reshape(-1, *[1] * (joints.ndim - 2))
        return {"joints_3d": joints + shift}

    def training_step(self, batch, batch_idx):
        return self.weight.square().sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six takes of S1 and S6, six of S9 and five of S11, seven frames each."""
    folder = tmp_path_factory.mktemp("human36m")
    tree.write_videopose3d(folder / "source")
    prepare_folder(folder / "source", folder / "out")
    return str(folder / "out")


def errors_of(method, module, tmp_path):
    trainer = L.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False)
    return trainer.test(method, module, verbose=False)[0]


def takes(module, split):
    return {name.rsplit("_", 1)[0] for name in names_of(module, split)}


def names_of(module, split):
    rows = module.rows(split)  # batches for training have no names
    return rows.names(rows.rows)


def test_validation_is_a_part_of_the_training_subjects_and_not_the_test_set(root):
    module = Human36M(root)
    train, val, held_back = (takes(module, split) for split in ("train", "val", "test"))
    # the second by name of S1; of S6, the third subject, it would be the sixth
    assert val == {"S1_Directions_1", "S6_WalkDog"}
    assert not train & val and len(train) == 10 and {name[:3] for name in train} == {"S1_", "S6_"}
    assert len(held_back) == 11 and {name.split("_")[0] for name in held_back} == {"S9", "S11"}
    assert len(module.load("val")["sample_id"]) == 2 * 4 * tree.FRAMES  # all cameras of a take go together


def test_a_folder_that_is_too_small_validates_on_what_it_trains_on(tmp_path):
    tree.write_videopose3d(tmp_path / "s", ["S1", "S9"], ["Sitting"])
    prepare_folder(tmp_path / "s", tmp_path / "out")
    module = Human36M(str(tmp_path / "out"))
    assert takes(module, "train") == takes(module, "val") == {"S1_Sitting"}
    assert "S1, which are trained on," in module.protocols("val")[0].split


def test_frames_and_2d_inputs(root):
    exact, found = (Human36M(root, keypoints_2d=source).load("test") for source in ("gt", "detected"))
    assert exact["sample_id"] == found["sample_id"] and len(exact["sample_id"]) == 11 * 4 * tree.FRAMES
    torch.testing.assert_close(found["keypoints_2d"][..., :2], exact["keypoints_2d"][..., :2] + 3.0)
    first = exact["sample_id"].index(f"S9_Sitting_{FRONTAL}/000002")
    metres, pixels = seen("S9", "Sitting", FRONTAL)
    np.testing.assert_allclose(exact["keypoints_3d"][first, :, :3], metres[2], atol=1e-5)
    np.testing.assert_allclose(exact["keypoints_2d"][first, :, :2], pixels[2], atol=1e-3)
    assert exact["action"][first] == "Sitting" and exact["subject"][first] == "S9"
    assert exact["camera"]["image_size"][first].tolist() == [1000.0, 1002.0]


def test_clips_of_the_same_folder(root):
    batch = Human36M(root, num_frames=3).load("test")
    assert batch["keypoints_3d"].shape == (11 * 4 * 3, 3, 17, 4)
    assert int(batch["keypoints_3d"][..., 0, 3].sum()) == 11 * 4 * tree.FRAMES  # every frame once
    train = Human36M(root, num_frames=3, train_stride=2).load("train")["keypoints_3d"]
    for window, frame in enumerate((0, 2, 4)):
        metres = seen("S1", "Directions", CAMERAS[0])[0][frame : frame + 3]
        np.testing.assert_allclose(train[window, ..., :3], metres, atol=1e-5)


def test_protocols_say_what_is_counted(root):
    lifting = Human36M(root, keypoints_2d="detected").protocols("test")[0]
    assert lifting.name == "human36m_lifting" and lifting.average == "actions" and lifting.joints is None
    assert lifting.split == "test: S9, S11, all frames of 50 Hz, all cameras, detector cpn_ft_h36m_dbb"
    assert lifting.keypoints_2d == "detected"
    frontal = Human36M(root, protocol="hmr_p2", eval_stride=5)
    assert frontal.protocols("test")[0].split == f"test: S9, S11, every 5 frames of 50 Hz, camera {FRONTAL}"
    assert frontal.protocols("test")[0].joints == MESH_JOINTS
    assert all(FRONTAL in name for name in frontal.load("test")["sample_id"])
    assert not all(FRONTAL in name for name in names_of(frontal, "train"))
    with pytest.raises(InputError, match="data.protocol is p1, expected lifting, hmr_p1 or hmr_p2"):
        Human36M(root, protocol="p1")  # pyright: ignore


def test_lifting_errors_are_those_of_the_actions_weighted_alike(root, tmp_path):
    logged = errors_of(Known(zeros=False), Human36M(root), tmp_path)
    # "Sitting" is not "SittingDown", and Directions has one take more of S9: that must not count
    assert logged["test/human36m/mpjpe"] == pytest.approx(np.mean(list(ERRORS.values())) * 16 / 17, rel=1e-5)
    logged = errors_of(Known(zeros=True), Human36M(root), tmp_path)
    assert logged["test/human36m/mpjpe"] == pytest.approx(zero_error(range(17), CAMERAS, by_action=True), rel=1e-5)


def test_hmr_errors_are_those_of_14_joints_of_all_poses(root, tmp_path):
    for protocol, cameras in (("hmr_p1", CAMERAS), ("hmr_p2", [FRONTAL])):
        logged = errors_of(Known(zeros=True), Human36M(root, protocol=protocol), tmp_path)
        expected = zero_error(MESH_JOINTS, cameras, by_action=False)
        assert logged["test/human36m/mpjpe"] == pytest.approx(expected, rel=1e-5)


def zero_error(joints, cameras, by_action):
    """MPJPE in mm of an answer of zeros on S9 and S11, from the motion itself."""
    errors: dict[str, list[float]] = {}
    for subject in ("S9", "S11"):
        for action in tree.ACTIONS:
            if (subject, action) != ("S11", "Directions"):
                for camera in cameras:
                    metres = seen(subject, action, camera)[0]
                    lengths = np.linalg.norm(metres - metres[:, :1], axis=-1)[:, list(joints)].mean(axis=1)
                    errors.setdefault(action.split(" ")[0], []).extend(1000.0 * lengths)
    if by_action:
        return float(np.mean([np.mean(found) for found in errors.values()]))
    return float(np.mean([error for found in errors.values() for error in found]))


def test_diffpose_runs_on_frames_and_clips(root, tmp_path):
    tiny = {"width": 16, "num_blocks": 1, "num_heads": 2, "context_width": 16, "context_blocks": 1}
    for number, choices in (
        (1, {"variant": "release"}),
        (3, {"variant": "paper", "encoder": "mixste", "num_frames": 3}),
    ):
        module = Human36M(root, keypoints_2d="detected", num_frames=number, batch_size=8, eval_batch_size=8)
        trainer = L.Trainer(
            default_root_dir=tmp_path, accelerator="cpu", fast_dev_run=True, enable_progress_bar=False, logger=False
        )
        method = DiffPose(**{**tiny, **choices}, context_epochs=1)
        trainer.fit(method, module)
        assert np.isfinite(trainer.test(method, module, verbose=False)[0]["test/human36m/mpjpe"])
