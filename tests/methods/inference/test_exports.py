"""Answers as files of other tools: who is in which file, and that the numbers are those of the result."""

import json
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import torch

import tests.body_method
from methods.inference import Annotator, Lifter
from noise2pose.errors import InputError
from noise2pose.export.formats import FORMATS
from noise2pose.keypoints.files import read_keypoints
from scripts.predict import main
from tests.body_method import save
from tests.noise2pose.keypoints.walker import coco_walker

OF_LIFTER = "npz,coco,glb,bvh,trc,csv,html"


def clip(people=1, frames=6, fps=25.0):
    """A file of people who walk through an image, with identities."""
    entries = [
        {"image_id": frame + 1, "keypoints": coco_walker(frames, seed)[frame].ravel().tolist(), "track_id": 7 + seed}
        for frame in range(frames)
        for seed in range(people)
    ]
    images = [
        {"id": frame + 1, "file_name": f"clip/{frame:04d}.jpg", "width": 1000, "height": 1000, "frame_id": frame}
        for frame in range(frames)
    ]
    return {"images": images, "annotations": entries, "info": {"fps": fps}}


@pytest.fixture(scope="module")
def lifter():
    return Lifter("diffpose-people")


def test_each_identity_is_a_motion(tmp_path, lifter):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2)))
    poses = lifter.predict(tmp_path / "two.json", fps=25.0)
    motions = poses.motions()
    assert [motion.name for motion in motions] == ["7", "8"]
    for number, motion in enumerate(motions):
        rows = [row for row, person in enumerate(poses.people) if person == motion.name]
        assert np.array_equal(motion.joints, poses.joints_3d[rows]) and motion.fps == 25.0
        assert motion.frames.tolist() == list(range(6)) and motion.video == "clip"
        assert motion.uncertainty is not None and motion.hypotheses is not None and motion.image_size == (1000, 1000)
        assert motion.name == str(7 + number) and motion.origin == "the pelvis of each frame"
    written = poses.export(tmp_path / "out", OF_LIFTER.split(","))
    names = {str(file.path.name) for file in written}
    alone = {f"motion_{person}{ending}" for person in (7, 8) for ending in (".npz", ".bvh", ".trc", ".csv")}
    assert (
        names
        == alone | {"motion.json", "motion.glb", "motion.html"}
        == {file.name for file in (tmp_path / "out").iterdir()}
    )
    assert all(file.opens == FORMATS[file.path.suffix[1:].replace("json", "coco")].opens for file in written)
    assert poses.to_csv(tmp_path / "a.csv") == [tmp_path / "a_7.csv", tmp_path / "a_8.csv"]
    annotations = json.loads((tmp_path / "out" / "motion.json").read_text())["annotations"]
    assert [entry["track_id"] for entry in annotations] == poses.people
    again = read_keypoints(tmp_path / "out" / "motion.json")  # as any file of keypoints
    assert again.skeleton == "h36m_17" and again.people == poses.people and again.frames == poses.frames
    assert np.allclose(again.points[..., :2], poses.keypoints_2d[..., :2], atol=1e-3)
    with pytest.raises(InputError, match="unknown format fbx"):
        poses.export(tmp_path, ["fbx"])


def test_without_identities_a_video_is_one_person_and_photographs_stand_alone(lifter):
    poses = lifter.predict(coco_walker(5), fps=20.0)
    (motion,) = poses.motions()
    assert motion.name == "person" and motion.fps == 20.0 and len(motion) == 5
    names = ["IMG_0231.jpg", "IMG_0240.jpg"]
    alone = lifter.predict(coco_walker(2), names=names).motions()
    assert [(motion.name, len(motion), motion.fps) for motion in alone] == [
        ("IMG_0231", 1, None), ("IMG_0240", 1, None),
    ]  # fmt: skip


def test_the_status_says_what_was_seen(lifter):
    points = coco_walker(4)
    points[1, 9] = 0.0  # a wrist
    poses = lifter.predict(points, fps=20.0)
    assert poses.status == ["seen", "partly seen", "seen", "seen"] and poses.unit == "m"
    unseen = replace(poses, keypoints_2d=poses.keypoints_2d * np.array([1, 1, 0, 1]).reshape(4, 1, 1))
    assert unseen.status[2] == "filled"
    (motion,) = unseen.motions()
    assert motion.measured is not None and motion.measured.tolist() == [True, True, False, True]


def test_a_film_shows_the_frames_of_the_video(tmp_path, lifter):
    poses = lifter.predict(coco_walker(4), fps=25.0, image_size=(64, 48))
    with av.open(str(tmp_path / "clip.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for brightness in (40, 80, 120, 160, 200):
            picture = np.full((48, 64, 3), brightness, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        video.mux(stream.encode(None))
    (film,) = poses.to_mp4(tmp_path / "film.mp4", tmp_path / "clip.mp4")
    with av.open(str(film)) as read:
        shown = [frame.to_ndarray(format="rgb24")[:4, :4].mean() for frame in read.decode(video=0)]
    pale = [255 - (255 - brightness) * 3 / 4 for brightness in (40, 80, 120, 160, 200)]
    assert shown[:4] == pytest.approx(pale[:4], abs=6) and len(shown) == 5
    assert read_times(film) == pytest.approx([number / 25.0 for number in range(5)], abs=1e-3)


def read_times(film):
    with av.open(str(film)) as read:
        return [float(frame.pts * frame.time_base) for frame in read.decode(video=0)]


def test_bodies_are_motions_with_their_parameters(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "methods.fake", tests.body_method)
    annotator = Annotator(save(tmp_path / "fake.ckpt"))
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2, frames=3)))
    found = annotator.predict(tmp_path / "two.json", output=tmp_path / "set")
    motions = found.motions()
    assert [motion.name for motion in motions] == ["7", "8"] and all(len(motion) == 3 for motion in motions)
    for motion in motions:
        same = (found.joints_3d[:, None] == motion.joints).all(axis=(2, 3))
        rows = np.flatnonzero(same.any(axis=1))
        body = motion.body
        assert len(rows) == 3 and body is not None and motion.camera is not None
        rotations, betas = torch.from_numpy(body.rotations), torch.from_numpy(body.betas).expand(3, -1)
        translation = torch.from_numpy(body.translation)
        joints = body.model.joints(rotations[:, 0], rotations[:, 1:], betas, translation, regressor="h36m_17")
        assert np.abs(joints.numpy() - motion.joints).max() < 1e-4
        assert np.array_equal(motion.camera.focal, found.arrays["camera_focal"][rows])
    for name, method in (("npz", found.to_npz), ("glb", found.to_glb), ("trc", found.to_trc), ("bvh", found.to_bvh)):
        paths = method(tmp_path / f"a.{name}")
        assert len(paths) == (1 if name == "glb" else 2) and all(path.stat().st_size for path in paths)
    (listed,) = found.to_coco(tmp_path / "a.json")
    written = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert json.loads(listed.read_text())["annotations"] == written["annotations"] and len(written["annotations"]) == 6
    assert set(found.status) <= {"seen", "partly seen", "suspect"}
    assert [status == "suspect" for status in found.status] == found.suspect.tolist()
    (film,) = found.to_mp4(tmp_path / "a.mp4")
    assert film.stat().st_size > 1000


def test_the_command_writes_what_it_is_told_and_says_what_opens_it(tmp_path, capsys):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=4, frames=2)))
    command = ["--checkpoint", "diffpose-people", str(tmp_path / "two.json"), "--max_pictures", "0", "--fps", "25"]
    assert main([*command, "--output", str(tmp_path / "out"), "--format", "bvh,glb"]) == 0
    summary, *lines = capsys.readouterr().out.splitlines()
    assert "8 poses of 4 tracked people" in summary and len(lines) == 5
    assert lines[0].startswith(f"{tmp_path / 'out' / 'motion_7.bvh'}: {FORMATS['bvh'].opens}; bones of constant length")
    assert lines[3] == "and 1 more .bvh files" and lines[4].startswith(f"{tmp_path / 'out' / 'motion.glb'}: Blender")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"poses.npz", "motion.glb", *(f"motion_{person}.bvh" for person in range(7, 11))}
    assert main([*command, "--output", str(tmp_path / "no"), "--format", "openpose"]) == 2
    assert "--keypoint_format openpose" in capsys.readouterr().err and not (tmp_path / "no").exists()
    assert main([*command, "--output", str(tmp_path / "no"), "--keypoint_format", "openpose"]) == 2
    assert "two.json" in capsys.readouterr().err


def test_single_poses_have_no_film_and_a_wrong_rate_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "one.json").write_text(json.dumps(clip(people=1, frames=1)))
    command = ["--checkpoint", "diffpose-people", str(tmp_path / "one.json"), "--max_pictures", "0"]
    assert main([*command, "--output", str(tmp_path / "out"), "--format", "mp4,csv"]) == 0
    out = capsys.readouterr().out
    assert "motion.mp4: not written: nobody is in motion" in out and not (tmp_path / "out" / "motion.mp4").exists()
    assert list((tmp_path / "out").glob("motion*.csv"))
    for rate in ("0", "-5", "nan"):
        assert main([*command, "--output", str(tmp_path / "no"), "--fps", rate]) == 2
        assert "fps is" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_files_of_an_earlier_command_are_named(tmp_path, capsys):
    (tmp_path / "one.json").write_text(json.dumps(clip(people=1, frames=2)))
    command = ["--checkpoint", "diffpose-people", str(tmp_path / "one.json"), "--output", str(tmp_path / "out")]
    command += ["--fps", "25"]
    assert main([*command, "--max_pictures", "1", "--format", "csv,bvh"]) == 0
    assert "left from before" not in capsys.readouterr().out
    assert main([*command, "--max_pictures", "0", "--format", "csv"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "left from before, not of this command: " in said and ".bvh" in said and ".csv" not in said
