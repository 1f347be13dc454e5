"""What a COCO file says of its own entries, and what it says wrong."""

import json

import pytest

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from tests.noise2pose.keypoints.walker import coco_walker

JOINTS = list(skeletons.get("coco_17").joints)
WHOLE = coco_walker(1)[0].ravel().tolist()


def coco(path, entries=(), names=JOINTS, category="person", images=4, categories=True, **more):
    """A file of four poses, of which some entries replace the first."""
    listed = [{"image_id": t, "category_id": 1, "keypoints": WHOLE, **more} for t in range(4)]
    for row, entry in enumerate(entries):
        listed[row] = {**listed[row], **entry}
    content = {"images": [{"id": t, "file_name": f"{t}.jpg"} for t in range(images)], "annotations": listed}
    about = {"id": 1, "name": category, "keypoints": names}
    path.write_text(json.dumps({**content, "categories": [about] if categories else []}))
    return path


@pytest.mark.parametrize("numbers", [48, 50, 3])
def test_a_pose_with_other_joints_than_its_category_is_skipped(tmp_path, numbers):
    read = read_keypoints(coco(tmp_path / "a.json", [{"keypoints": WHOLE[:numbers]}]))
    assert read.names == ["1", "2", "3"] and f"1 entry skipped of {numbers} numbers, where their" in read.about()


def test_a_pose_with_other_joints_than_most_is_skipped(tmp_path):
    read = read_keypoints(coco(tmp_path / "a.json", [{"keypoints": WHOLE[:48]}], categories=False))
    assert read.names == ["1", "2", "3"] and "1 entry skipped of 16 joints, where most have 17" in read.about()


@pytest.mark.parametrize("about", [{"category": "dog"}, {"category": "Horse"}])
def test_animals_with_a_persons_joints_are_skipped(tmp_path, about):
    with pytest.raises(InputError, match="4 entries skipped of category .* .an animal"):
        read_keypoints(coco(tmp_path / "a.json", **about))


def test_what_the_file_does_not_list_is_told(tmp_path):
    unlisted = [{"image_id": 777}, {"category_id": 99}]
    read = read_keypoints(coco(tmp_path / "a.json", unlisted))
    assert len(read.names) == 3 and "1 pose of images that the file does not list" in read.about()
    assert "1 entry skipped of category 99, which the file does not list" in read.about()
    content = json.loads((tmp_path / "a.json").read_text())
    content["images"][1]["id"] = 0
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="images has the id 0 twice"):
        read_keypoints(tmp_path / "a.json")


def test_people_with_a_low_score_are_told(tmp_path):
    assert "1 pose with a score below 0.1" in read_keypoints(coco(tmp_path / "a.json", [{"score": 0.02}])).about()
    assert "score" not in read_keypoints(coco(tmp_path / "a.json", score=2.5)).about()


def test_names_of_joints(tmp_path):
    read = read_keypoints(coco(tmp_path / "a.json", names=["nez", *JOINTS[1:]]))
    assert "unknown names of joints, which are not read: nez" in read.about() and (read.points[:, 0] == 0).all()
    short = {"shoulder": "sho", "elbow": "elb", "wrist": "wri", "knee": "kne", "ankle": "ank"}
    names = [joint.replace("left_", "l").replace("right_", "r") for joint in JOINTS]
    for long, brief in short.items():
        names = [name.replace(long, brief) for name in names]
    read = read_keypoints(coco(tmp_path / "a.json", names=names))
    assert (read.points[..., 2] > 0).all() and read.notes == ()
    numbered = [f"joint{number}" for number in range(17)]
    assert read_keypoints(coco(tmp_path / "a.json", names=numbered)).notes == ("the order of the joints is assumed",)
    with pytest.raises(InputError, match="names are those of nose, left_eye, left_shoulder and so on; or take them"):
        read_keypoints(coco(tmp_path / "a.json", names=["left_paw", *JOINTS[:-1]]))
