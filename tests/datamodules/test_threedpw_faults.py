"""3DPW's files with faults: each is named in one line, the rest is prepared, and nothing in a pickle is run."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest

from datamodules.occluded_people import ThreeDPW
from datamodules.preparation import engine
from datamodules.prepared.folder import PreparedFolder
from scripts.prepare import main
from tests.datamodules import gendered_bodies, threedpw_tree


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    return gendered_bodies.write(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, bodies):
    """A folder of two sequences, with JSON files, to be copied and broken; and what the pickles hold."""
    folder = tmp_path_factory.mktemp("whole")
    content = threedpw_tree.write(folder, bodies, videos=VIDEOS)
    return folder, content


VIDEOS = ("courtyard_arguing_00", "courtyard_backpack_00", "downtown_bar_00")


@pytest.fixture
def source(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "source")


def prepare(source, output, *more):
    return main(["threedpw", "--source", str(source), "--output", str(output), "--num_workers", "0", *more])


def change(path, **values):
    """Changes keys of a pickle that the tests wrote."""
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    threedpw_tree.write_pickle(path, {**content, **values})
    return content


def lines(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(("skipped", "error"))]


class Smuggled:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_wants_to_run_something_is_refused(source, tmp_path, capsys):
    content = {"poses": [np.zeros((2, 72))], "extra": Smuggled(tmp_path / "ran")}
    (source / "sequenceFiles" / "train" / "courtyard_arguing_00.pkl").write_bytes(pickle.dumps(content, 2))
    assert prepare(source, tmp_path / "out", "--num_workers", "0") == 1
    told = [line for line in lines(capsys) if "courtyard_arguing_00.pkl" in line]
    assert len(told) == 1 and "it wants to call" in told[0]
    assert not (tmp_path / "ran").exists()
    assert {s["video"] for s in PreparedFolder(tmp_path / "out", "threedpw").sequences} == set(VIDEOS[1:])


@pytest.mark.parametrize("fault", ["truncated", "no poses", "short", "empty folder", "text"])
def test_a_broken_sequence_is_named_and_the_others_are_prepared(source, tmp_path, capsys, fault):
    path = source / "sequenceFiles" / "train" / "courtyard_arguing_00.pkl"
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif fault == "no poses":
        threedpw_tree.write_pickle(path, {"sequence": "courtyard_arguing_00", "poses": []})
    elif fault == "short":
        change(path, trans=[np.zeros((3, 3)), np.zeros((4, 3))])
    elif fault == "empty folder":
        shutil.rmtree(source / "imageFiles" / "courtyard_arguing_00")
    else:
        path.write_text("nothing")
    assert prepare(source, tmp_path / "out") == 1
    told = [line for line in lines(capsys) if "courtyard_arguing_00" in line]
    assert len(told) == 1
    assert {s["video"] for s in PreparedFolder(tmp_path / "out", "threedpw").sequences} == set(VIDEOS[1:])


def test_missing_and_broken_images_cost_their_people(source, tmp_path, capsys):
    folder = source / "imageFiles" / "downtown_bar_00"
    (folder / "image_00003.jpg").unlink()
    (folder / "image_00000.jpg").write_bytes(b"no image")
    assert prepare(source, tmp_path / "out") == 1
    told = [line for line in lines(capsys) if "downtown_bar_00" in line]
    assert len(told) == 2
    assert any("image_00003.jpg: is missing, in all 1 of 7 images" in line for line in told)
    assert any("image_00000.jpg" in line and "not a readable image" in line for line in told)
    frames = PreparedFolder(tmp_path / "out", "threedpw")
    sequence = next(s for s in frames.sequences if s["name"] == "downtown_bar_00_1")
    assert frames.column("frame")[sequence["start"] : sequence["stop"]].tolist() == [1, 2, 4, 5, 6]
    assert (frames.column("image_size") == (192, 108)).all()


def test_numbers_that_are_not_finite(source, tmp_path, capsys):
    path = source / "sequenceFiles" / "test" / "downtown_bar_00.pkl"
    content = change(path)
    poses, detections, joints = (content[key] for key in ("poses", "poses2d", "jointPositions"))
    poses[0][1, 7] = np.nan
    detections[1][0, 1, 4] = np.nan
    joints[1][2, 5] = np.inf
    threedpw_tree.write_pickle(path, content)
    assert prepare(source, tmp_path / "out") == 1
    told = [line for line in lines(capsys) if "downtown_bar_00" in line]
    assert len(told) == 2
    assert any(
        "are not finite numbers" in line and "1 people" in line and "frame 1 of person 0" in line for line in told
    )
    assert any("poses2d: 1 joints are not finite numbers" in line for line in told)
    folder = PreparedFolder(tmp_path / "out", "threedpw")
    sequence = next(s for s in folder.sequences if s["name"] == "downtown_bar_00_1")
    keypoints = folder.column("keypoints_2d_detected")[sequence["start"]]
    assert not keypoints[4].any() and keypoints[5].any()
    assert folder.column("smpl_joints")[sequence["start"] + 2, 1, 3] == 0
    for column in ("poses", "bounds", "keypoints_2d_detected", "smpl_joints"):
        assert np.isfinite(folder.column(column)).all()


def test_optional_keys_may_be_missing(tmp_path, bodies, capsys):
    without = ("poses2d", "campose_valid", "genders", "img_frame_ids", "poses_60Hz", "texture_maps", "sequence")
    threedpw_tree.write(tmp_path / "source", bodies, without=without, videos=("downtown_bar_00",))
    assert prepare(tmp_path / "source", tmp_path / "out") == 1
    told = lines(capsys)
    for key in ("poses2d: no 2-D joints", "campose_valid: every frame", "genders: found nothing; the neutral body"):
        assert any(f"downtown_bar_00.pkl: {key}" in line for line in told)
    batch = ThreeDPW(root=str(tmp_path / "out"), bodies=str(bodies)).load("test")
    assert len(batch["sample_id"]) == 14 and not batch["gender"].any()
    assert (batch["box"][:, 2] > 0).all()


def test_without_the_folder_of_images_everything_else_is_prepared(source, tmp_path, capsys, bodies):
    shutil.rmtree(source / "imageFiles")
    assert prepare(source, tmp_path / "out") == 1
    assert any("imageFiles" in line and "prepared without images" in line for line in lines(capsys))
    batch = ThreeDPW(root=str(tmp_path / "out"), bodies=str(bodies)).load("test")
    assert len(batch["sample_id"]) == 13
    assert (batch["camera"]["image_size"] == batch["camera"]["image_size"].new_tensor([192, 108])).all()


def test_another_folder_is_not_3dpw(tmp_path, capsys):
    (tmp_path / "imageFiles").mkdir()
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert lines(capsys)[0].endswith(
        "is not 3DPW: found neither sequenceFiles/{train,validation,test}/*.pkl nor 3DPW_latest_*.json"
    )


def test_faults_of_annotations(source, whole, tmp_path, bodies, capsys):
    content = threedpw_tree.annotations(whole[1], bodies, ["downtown_bar_00"])
    people, images = content["annotations"], content["images"]
    people[0]["smpl_param"]["pose"][4] = float("nan")
    people[1]["id"] = people[2]["id"]
    del people[3]["openpose_result"]
    people[4]["image_id"] = 77
    people[5]["openpose_result"] = [0.0] * 54  # nobody was detected: the annotated box counts
    images[4]["file_name"] = "image_00044.jpg"
    for image in images:  # some tools swap them
        image["width"], image["height"] = image["height"], image["width"]
    (source / "3DPW_latest_test.json").write_text(json.dumps(content))
    assert prepare(source, tmp_path / "out", "--layout", "community") == 1
    told = lines(capsys)
    number = people[2]["id"]
    for line in (
        f"annotation {people[0]['id']}: has a `pose` with NaN or infinity; skipped",
        f"annotation {number}: has the id of another one; skipped",
        f"annotation {people[3]['id']}: has no `openpose_result`; skipped",
        "has an `image_id` that is not among the images; skipped",
        "has an image that is missing; skipped",
        "is 192 x 108, not",
    ):
        assert sum(line in other for other in told) == 1, line
    folder = PreparedFolder(tmp_path / "out", "threedpw")
    assert (folder.column("image_size") == (192, 108)).all()
    row = folder.column("person").tolist().index(people[5]["id"])
    np.testing.assert_allclose(folder.column("bounds")[row], [10, 12, 70, 92])
    assert folder.manifest["counts"]["test: people"] == folder.num_rows == len(people) - 4 - 2


@pytest.mark.parametrize("content", ["", "[]", '{"images": []}', '{"images": [], "annotations": [{"id'])
def test_broken_annotation_files_are_named(source, tmp_path, capsys, content):
    (source / "3DPW_oc.json").write_text(content)
    assert prepare(source, tmp_path / "out") == 1
    told = [line for line in lines(capsys) if "3DPW_oc.json" in line]
    assert len(told) == 1
    assert PreparedFolder(tmp_path / "out", "threedpw").num_rows == 27


def test_a_killed_preparation_is_continued_to_the_same_bytes(source, whole, tmp_path, bodies, monkeypatch):
    threedpw_tree.write_community(source, whole[1], bodies)
    assert prepare(source, tmp_path / "one") == 1  # the validation split is not here
    written = []

    def killed(*arguments):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(arguments)
        return write_part(*arguments)

    write_part = engine.write_part
    monkeypatch.setattr(engine, "write_part", killed)
    assert prepare(source, tmp_path / "two") == 130
    assert not (tmp_path / "two" / "dataset.json").exists()
    monkeypatch.undo()
    assert prepare(source, tmp_path / "two") == 1
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
