import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.export import extras
from noise2pose.export.coco import write_joints_json
from noise2pose.export.formats import FORMATS, check_formats, files_of, write
from tests import forks
from tests.noise2pose.export.motions import H36M, body_motion, joint_motion


def write_and_die(target: Path, name: str) -> None:
    """A process that is killed when everything is written and nothing has its name yet."""
    os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
    write([body_motion(2)], target, name)


def named(motions, alone, path="out/motion.bvh"):
    return {file.name: [person.name for person in people] for file, people in files_of(motions, Path(path), alone)}


def test_the_names_of_files_say_who_is_in_them_where_there_are_several():
    one, other = joint_motion(2, name="1"), joint_motion(2, name="2")
    assert named([one], True) == {"motion.bvh": ["1"]} == named([one], False)
    assert named([one, other], True) == {"motion_1.bvh": ["1"], "motion_2.bvh": ["2"]}
    assert named([one, other], False) == {"motion.bvh": ["1", "2"]}
    elsewhere = joint_motion(2, name="1", video="folder/other.mp4")
    assert named([one, other, elsewhere], True) == {
        "motion_clip_1.bvh": ["1"],
        "motion_clip_2.bvh": ["2"],
        "motion_folder_other.bvh": ["1"],
    }
    assert named([one, elsewhere], False) == {"motion_clip.bvh": ["1"], "motion_folder_other.bvh": ["1"]}
    photos = [
        joint_motion(1, name=name, video=video) for name, video in (("a", "a.jpg"), ("a#2", "a.jpg"), ("b", "b.jpg"))
    ]
    assert list(named(photos, True)) == ["motion_a.bvh", "motion_a#2.bvh", "motion_b.bvh"]
    alike = [joint_motion(1, name=name) for name in ("Ü/1", "Ü:1", "ü.1")]
    assert len(named(alike, True)) == 3 and all("/" not in name and ":" not in name for name in named(alike, True))


def test_lists_of_formats_are_checked_before_anything_is_computed(monkeypatch):
    assert check_formats("") == [] and check_formats("glb, bvh,,glb") == ["glb", "bvh"]
    with pytest.raises(InputError, match="--format fbx is not known, expected some of npz,coco,bvh,glb"):
        check_formats("fbx")
    with pytest.raises(InputError, match="--keypoint_format openpose"):
        check_formats("openpose", ("openpose", "coco"))
    for package, name, extra in (("pybvh", "bvh", "export"), ("pygltflib", "glb", "export"), ("rerun", "rrd", "rerun")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=rf"^writing {name} needs {package}: pip install -e '\.\[{extra}\]'"):
            check_formats(f"csv,{name}")
    with pytest.raises(InputError, match=r"writing x needs none_such"):
        extras.load("none_such", "export", "writing x")


def test_several_people_are_written_to_several_files_or_one(tmp_path):
    people = [body_motion(2, name="1"), body_motion(2, seed=4, name="2")]
    for name, count in (("csv", 2), ("trc", 2), ("npz", 2), ("mp4", 1)):
        files = write(people, tmp_path / f"motion{FORMATS[name].ending}", name)
        assert len(files) == count and all(file.path.stat().st_size > 1000 for file in files)
        assert str(files[0]).startswith(str(tmp_path)) and FORMATS[name].opens in str(files[0])
    with pytest.raises(InputError, match="there is nobody to write"):
        write([], tmp_path / "a.csv", "csv")
    with pytest.raises(InputError, match="nobody is in motion, so there is no film"):
        write([body_motion(1)], tmp_path / "a.mp4", "mp4")


@pytest.mark.parametrize("name", ["glb", "mp4"])
def test_a_killed_process_leaves_no_file_under_its_final_name(tmp_path, name):
    target = tmp_path / f"motion{FORMATS[name].ending}"
    process = forks.start(write_and_die, target, name)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == [target.name + ".partial"]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"coco", "rrd"}))
def test_a_failed_write_leaves_nothing(tmp_path, name, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="the disk of .* is full"):
        write([body_motion(2)], tmp_path / f"motion{FORMATS[name].ending}", name)
    assert not list(tmp_path.iterdir())


def test_pycocotools_opens_lifted_joints(tmp_path, capsys):
    from pycocotools.coco import COCO

    motion = joint_motion(2)
    keypoints = motion.keypoints_2d.copy()
    keypoints[1, H36M.index("left_wrist")] = 0.0
    write_joints_json(
        tmp_path / "a.json", motion.joints, keypoints, H36M, ["a.jpg", "a.jpg"], ["1", None], [0, None],
        np.full((2, 2), 300.0), motion.uncertainty, {"method": "x"},
    )  # fmt: skip
    coco = COCO(str(tmp_path / "a.json"))
    capsys.readouterr()
    assert len(coco.imgs) == 1 and coco.imgs[1]["width"] == 300
    (person,) = coco.loadCats(1)
    assert person["keypoints"] == list(H36M.joints)
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert np.abs(np.array(first["joints_3d"]) - motion.joints[0]).max() < 0.001
    assert np.allclose(np.array(first["keypoints"]).reshape(17, 3)[:, :2], keypoints[0, :, :2], atol=1e-3)
    assert first["track_id"] == "1" and first["frame_id"] == 0 and "track_id" not in second
    assert second["num_keypoints"] == 16 and second["keypoints"][3 * H36M.index("left_wrist") :][:3] == [0, 0, 0]
    x, y, width, height = first["bbox"]
    assert first["area"] == pytest.approx(width * height, rel=1e-3)
    assert [x, y] == pytest.approx(keypoints[0, :, :2].min(axis=0).tolist(), abs=1e-3)
    assert np.allclose(first["uncertainty"], 0.03) and coco.dataset["info"] == {"method": "x"}
