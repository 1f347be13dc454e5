import numpy as np
import pytest
import torch

from datamodules.cmu_mocap import CMUMocap, assign_splits
from datamodules.preparation import Part, Plan, Rows, prepare
from datamodules.sources.human36m.cameras import H36M_INTRINSICS
from datamodules.synthetic_motion import SyntheticMotion
from noise2pose import cameras
from noise2pose.errors import InputError

FRAMES = 40


@pytest.fixture
def root(tmp_path):
    """A prepared folder: eight clips of three subjects, a person walking along y."""
    generator = np.random.default_rng(0)
    person = generator.normal(0, 0.3, (17, 3)) + [0.0, 0.0, 1.0]
    names = [("01", f"01_{n:02d}") for n in range(1, 6)] + [("02", "02_01"), ("02", "02_02"), ("03", "03_01")]
    clips, joints = [], []
    for subject, name in names:
        walk = np.linspace(0, 2, FRAMES)[:, None, None] * [0.0, 1.0, 0.0]
        joints.append(person + walk + generator.normal(0, 0.01, (FRAMES, 17, 3)))
        clips.append({"name": name, "subject": subject, "action": "walk"})
    rows = Rows({"joints_world": np.concatenate(joints)}, clips, np.repeat(np.arange(len(clips)), FRAMES), [], {}, [])
    prepare(Plan("cmu_mocap", "none", {}, None, [Part("all", rows_of, (rows,), ())], [], []), tmp_path / "cmu", 0)
    return tmp_path / "cmu"


def rows_of(rows):
    return rows


def test_no_two_splits_share_a_clip_and_test_subjects_are_unseen(root):
    data = CMUMocap(str(root), eval_stride=1)
    clips = {split: data.clips(split) for split in ("train", "val", "test")}
    names = [clip.name for split in clips.values() for clip in split]
    assert len(names) == len(set(names)) == 8
    assert {clip.subject for clip in clips["test"]} == {"02"}
    assert {clip.subject for clip in clips["train"]} == {"01", "03"} and clips["val"]


def test_adding_a_subject_moves_no_clip_and_pieces_of_a_take_stay_together():
    known = [("01_01", "01"), ("01_02", "01"), ("01_03", "01"), ("01_04#0", "01"), ("01_04#1", "01"), ("02_01", "02")]
    before = assign_splits(known)
    after = assign_splits([("00_01", "00"), *known, ("12_07", "12")])
    assert before.items() <= after.items()
    assert before["01_04#0"] == before["01_04#1"] == "val" and after["12_07"] == "test"


def test_pixels_are_the_projection_of_the_joints(root):
    data = CMUMocap(str(root), keypoints_2d="gt")
    samples = data.load("test")
    assert len(samples["sample_id"]) == len(set(samples["sample_id"])) == 2 * 4 * 4
    for number in range(4):
        rows = [i for i, name in enumerate(samples["sample_id"]) if f"/camera{number}/" in name]
        intrinsics = H36M_INTRINSICS[number]
        joints = samples["keypoints_3d"][rows][..., :3]
        screen = cameras.project_distorted(joints, intrinsics.normalised())
        pixels = cameras.from_screen(screen, torch.tensor(intrinsics.size))
        assert torch.allclose(samples["keypoints_2d"][rows][..., :2], pixels)
        assert torch.allclose(samples["camera"]["focal"][rows], torch.tensor(intrinsics.focal))
        assert (joints[..., 2] > 2.0).all()
        inside = (pixels > 0).all(dim=-1) & (pixels < torch.tensor(intrinsics.size)).all(dim=-1)
        assert inside.all()


def test_the_person_stands_upright_in_every_camera(root):
    joints = torch.from_numpy(np.load(root / "joints_world.npy"))
    highest, lowest = int(joints[0, :, 2].argmax()), int(joints[0, :, 2].argmin())
    seen = CMUMocap(str(root)).load("train")["keypoints_3d"]
    assert (seen[:, highest, 1] < seen[:, lowest, 1]).float().mean() > 0.99  # y points down


def test_detections_are_fixed_by_the_seed_whatever_is_loaded(root):
    options = {"root": str(root), "keypoints_2d": "synthetic"}
    first, again = (CMUMocap(**options).load("test") for _ in range(2))
    assert torch.equal(first["keypoints_2d"], again["keypoints_2d"])
    dense = CMUMocap(**options, eval_stride=5).load("test")
    rows = [dense["sample_id"].index(name) for name in first["sample_id"]]
    assert torch.equal(dense["keypoints_2d"][rows], first["keypoints_2d"])
    other = CMUMocap(**options, noise_seed=1).load("test")
    assert not torch.equal(other["keypoints_2d"], first["keypoints_2d"])
    exact = CMUMocap(root=str(root), keypoints_2d="gt").load("test")
    error = (first["keypoints_2d"] - exact["keypoints_2d"])[..., :2].norm(dim=-1)
    assert 0.5 < error.median() < 20.0
    assert (exact["keypoints_2d"][..., 2] == 1).all() and (first["keypoints_2d"][..., 2] < 1).all()


def test_the_protocol_says_what_was_tested(root):
    (protocol,) = CMUMocap(str(root), keypoints_2d="gt").protocols("test")
    assert protocol.dataset == "cmu_mocap" and protocol.keypoints_2d == "gt" and "ends in 2" in protocol.split


def broken(root, what):
    path = root / "joints_world.npy"
    joints = np.load(path)
    if what == "nan":
        joints[5 * FRAMES, 3] = np.nan
    np.save(path, joints[:, :16] if what == "joints" else joints[:100] if what == "short" else joints)
    if what == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if what == "missing":
        (root / "dataset.json").unlink()


@pytest.mark.parametrize(
    "what, message",
    [
        ("nan", "cmu_mocap test: keypoints_.d of sample 0 holds NaN"),
        ("joints", r"joints_world.npy: found \(320, 16, 3\) of float32, expected \(320, 17, 3\)"),
        ("short", r"joints_world.npy: found \(100, 17, 3\)"),
        ("truncated", "joints_world.npy: cannot be read"),
        ("missing", "dataset.json does not exist; prepare it with `noise2pose prepare cmu_mocap"),
    ],
)
def test_a_broken_folder_is_named(root, what, message):
    broken(root, what)
    with pytest.raises(InputError, match=message):
        CMUMocap(str(root)).load("test")


def test_clips_hold_every_test_frame_once(root):
    single = CMUMocap(str(root), eval_stride=1).load("test")
    data = CMUMocap(str(root), num_frames=27)
    clips = data.load("test")
    assert clips["keypoints_2d"].shape == (2 * 4 * 2, 27, 17, 3)  # 40 frames: two windows a view, which overlap
    valid = clips["keypoints_3d"][..., 0, 3] > 0
    assert torch.equal(clips["keypoints_3d"][valid], single["keypoints_3d"])
    assert torch.equal(clips["keypoints_2d"][valid], single["keypoints_2d"])  # the same detection errors
    assert clips["camera"]["focal"].shape == (16, 2)
    assert clips["sample_id"][1] == "02_01/camera0/00013" and len(set(clips["sample_id"])) == 16
    assert data.protocols("test")[0].name == "cmu_mocap_clips"


def test_training_clips_overlap_and_are_valid(root):
    clips = CMUMocap(str(root), num_frames=27, train_stride=5).load("train")
    assert len(clips["keypoints_2d"]) % 4 == 0 and (clips["keypoints_3d"][..., 3] == 1).all()
    assert torch.equal(clips["keypoints_3d"][0, 5:], clips["keypoints_3d"][1, :-5])


@pytest.mark.parametrize(
    "option",
    [
        *("num_frames", "train_stride", "eval_stride", "batch_size", "eval_batch_size"),
        *("clips_per_activity", "frames_per_clip"),
    ],
)
@pytest.mark.parametrize("value", [0, -3])
def test_a_number_that_is_too_small_is_refused_before_anything_is_made(option, value):
    with pytest.raises(InputError, match=f"data.{option} is {value}, expected at least 1"):
        SyntheticMotion(**{option: value})


@pytest.mark.parametrize("kind", ["fixed", "sampled"])
def test_heatmaps_reach_the_batch_with_the_reported_peak_highest(root, kind):
    data = CMUMocap(str(root), heatmaps=True, cameras=kind, eval_stride=20)
    batch = data.on_after_batch_transfer(data.load("val"), 0)
    maps, box, detections = batch["heatmaps"], batch["box"], batch["keypoints_2d"]
    assert maps.shape == (len(detections), 17, 48, 48) and maps.min() >= 0
    cells = ((detections[..., :2] - box[:, None, :2]) / box[:, None, 2:] + 0.5) * 48 - 0.5
    peak = maps.flatten(2).argmax(dim=-1)
    highest = torch.stack((peak % 48, peak // 48), dim=-1)
    near = (highest - cells).norm(dim=-1) < 1.5
    assert near.float().mean() > 0.9  # elsewhere joints lie side by side, and peaks add up
    with pytest.raises(InputError, match="heatmaps is for single frames"):
        CMUMocap(str(root), heatmaps=True, num_frames=9)
