import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from methods.base import class_path_of
from methods.diffpose import ContextEncoder, DiffPose
from noise2pose import skeletons
from scripts.predict import main
from tests.noise2pose.keypoints.walker import walker


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    method = DiffPose(
        variant="paper", width=16, num_blocks=1, num_heads=2, context_width=16, context_blocks=1, context_epochs=1
    )
    method.denoiser_steps += 1  # else the answer is the encoder's
    torch.nn.init.normal_(method.diffusion.denoiser.output.linear.weight, std=0.1)  # starts as no correction at all
    return save(tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt", method)


def save(path, method):
    about = {"class_path": class_path_of(type(method)), "hyper_parameters": dict(method.hparams)}
    torch.save({"state_dict": method.state_dict(), **about}, path)
    return str(path)


def people(number, skeleton, seed=0):
    points = np.random.default_rng(seed).uniform(50.0, 350.0, (number, skeletons.get(skeleton).num_joints, 3))
    points[..., 2] = 0.8
    return points


def predict(checkpoint, path, output, *more):
    return main(["--checkpoint", checkpoint, str(path), "--output", str(output), *more])


def read(output) -> dict[str, Any]:
    with np.load(output / "poses.npz") as file:
        return dict(file)


def check(poses, number):
    assert poses["joints_3d"].shape == (number, 17, 3) and not poses["joints_3d"][:, 0].any()
    assert poses["uncertainty"].shape == (number, 17) and (poses["uncertainty"][:, 1:] > 0).all()
    assert poses["hypotheses"].shape == (number, 5, 17, 3)
    assert poses["keypoints_2d"].shape == (number, 17, 3)
    assert str(poses["skeleton"]) == "h36m_17" and len(poses["names"]) == number


def test_coco_annotations(tmp_path, checkpoint, capsys):
    points = people(2, "coco_17")
    points[..., 2] = 2
    points[1, 9] = 0  # left wrist
    annotations = [{"image_id": 785, "keypoints": pose.reshape(-1).tolist()} for pose in points]
    images = [{"id": 785, "file_name": "000000000785.jpg", "width": 640, "height": 425}]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert predict(checkpoint, path, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "2 poses in 1 image, read as COCO (coco_17); the order of the joints is assumed; " in said
    assert "the bones are too long for people" in said and "; 1 joint not seen" in said
    assert "guessed from their neighbours; mean uncertainty" in said
    poses = read(tmp_path / "out")
    check(poses, 2)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "000000000785#2.png", "000000000785.png", "poses.npz",
    ]  # fmt: skip
    h36m = skeletons.get("h36m_17")
    wrist, elbow = h36m.index("left_wrist"), h36m.index("left_elbow")
    assert poses["keypoints_2d"][1, wrist, 2] == 0
    assert np.array_equal(poses["keypoints_2d"][1, wrist, :2], poses["keypoints_2d"][1, elbow, :2])
    assert poses["image_size"].tolist() == [[640, 425]] * 2
    assert str(poses["checkpoint"]) == checkpoint


def test_halpe_results(tmp_path, checkpoint):
    entries = [{"image_id": f"{i}.jpg", "keypoints": pose.reshape(-1).tolist(), "score": 1.0, "idx": 1}
               for i, pose in enumerate(np.repeat(people(1, "halpe_26"), 3, axis=0))]  # fmt: skip
    path = tmp_path / "halpe.json"
    path.write_text(json.dumps(entries))
    assert predict(checkpoint, path, tmp_path / "out", "--max_pictures", "1") == 0
    check(read(tmp_path / "out"), 3)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0.png", "poses.gif", "poses.npz"]


def test_a_clip_is_also_a_gif_and_two_runs_agree(tmp_path, checkpoint):
    np.savez(tmp_path / "walk.npz", keypoints=walker(30)[:3], skeleton="h36m_17")
    for name in ("one", "two"):
        assert predict(checkpoint, tmp_path / "walk.npz", tmp_path / name, "--max_pictures", "0") == 0
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    check(one, 3)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == ["poses.gif", "poses.npz"]
    assert getattr(Image.open(tmp_path / "one" / "poses.gif"), "n_frames", 1) == 3


def test_the_order_of_17_joints_can_be_stated(tmp_path, checkpoint):
    np.savez(tmp_path / "a.npz", keypoints=people(1, "h36m_17"))
    assert predict(checkpoint, tmp_path / "a.npz", tmp_path / "h36m", "--skeleton", "h36m_17") == 0
    assert np.allclose(read(tmp_path / "h36m")["keypoints_2d"], people(1, "h36m_17"))
    assert predict(checkpoint, tmp_path / "a.npz", tmp_path / "coco", "--max_pictures", "0") == 0
    assert not np.allclose(read(tmp_path / "coco")["keypoints_2d"], people(1, "h36m_17"))


def test_the_encoder_alone_has_no_uncertainty(tmp_path, capsys):
    path = save(tmp_path / "encoder.ckpt", ContextEncoder(width=16, num_blocks=1, num_heads=2))
    np.savez(tmp_path / "a.npz", keypoints=people(1, "coco_17"))
    assert predict(path, tmp_path / "a.npz", tmp_path / "out") == 0
    assert (
        "context encoder: 1 pose, read as array (coco_17); the order of the joints is assumed"
        in capsys.readouterr().out
    )
    assert {"uncertainty", "hypotheses"}.isdisjoint(read(tmp_path / "out"))


def test_names_stay_in_the_folder(tmp_path, checkpoint):
    pose = people(1, "coco_17")[0].reshape(-1).tolist()
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"image_id": name, "keypoints": pose} for name in ("../x y.jpg", "x_y", "..")]))
    assert predict(checkpoint, path, tmp_path / "out") == 0
    names = {file.name for file in (tmp_path / "out").glob("*.png")}
    assert names == {"image.png", "x_y.png", "x_y_2.png"} and not list(tmp_path.glob("*.png"))


def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, checkpoint, capsys):
    np.savez(tmp_path / "a.npz", keypoints=people(2, "coco_17"))
    points = people(1, "coco_17")
    points[..., :2] = 7.0
    np.savez(tmp_path / "point.npz", keypoints=points)
    np.savez(tmp_path / "smpl.npz", keypoints=np.ones((1, 14, 2)), skeleton="smpl_24")
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    for arguments, message in (
        ((checkpoint, tmp_path / "none.npz", out), "none.npz does not exist"),
        ((checkpoint, tmp_path / "a.npz", out, "--skeleton", "halpe_26"), "has 17 joints, but halpe_26 has 26"),
        ((checkpoint, tmp_path / "point.npz", out), "point.npz: no pose has three joints that are seen at different"),
        ((checkpoint, tmp_path / "smpl.npz", out), "has 14 joints, but smpl_24 has 24"),
        (("no-such-name", tmp_path / "a.npz", out), "no model named no-such-name"),
        ((checkpoint, tmp_path / "a.npz", tmp_path / "file"), "file is a file"),
        ((checkpoint, tmp_path / "a.npz", out, "--device", "nonsense"), "device nonsense cannot be used"),
    ):
        assert predict(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: ")
    assert not out.exists()


def test_poses_of_another_command_are_not_replaced(tmp_path, checkpoint, capsys):
    for name, scale in (("a", 1.0), ("b", 0.5)):
        np.savez(tmp_path / f"{name}.npz", keypoints=scale * people(2, "coco_17"))
    out = tmp_path / "out"
    assert predict(checkpoint, tmp_path / "a.npz", out) == 0
    before = (out / "poses.npz").read_bytes()
    capsys.readouterr()
    assert predict(checkpoint, tmp_path / "b.npz", out) == 2
    said = capsys.readouterr().err
    assert "holds poses that another command made" in said and "a.npz" in said and said.count("\n") == 1
    assert predict(checkpoint, tmp_path / "a.npz", out, "--camera_pitch", "10") == 2
    assert (out / "poses.npz").read_bytes() == before
    assert predict(checkpoint, tmp_path / "a.npz", out, "--format", "csv", "--max_pictures", "1", "--profile") == 0
    assert (out / "poses.npz").read_bytes() == before, "what is written beside it changes nothing in it"


def test_text_files_that_are_no_keypoints_and_folders_that_cannot_be_written_say_what_to_do(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("these are my photos")
    assert main([str(tmp_path / "notes"), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "readme.txt is no keypoint file: a .txt is read as YOLO-pose" in said and said.count("\n") == 1
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "notes"), "--output", str(tmp_path / "file")]) == 2
    assert "is a file, expected a folder: name another one" in capsys.readouterr().err
