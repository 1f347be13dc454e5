import json

import numpy as np
import pytest
import torch

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.files import as_keypoints, read_keypoints
from tests.noise2pose.keypoints.entries import result, save
from tests.noise2pose.keypoints.walker import coco_walker

COCO = skeletons.get("coco_17")


def scored(image, score):
    points = coco_walker(1)[0]
    points[:, 2] = score
    return {"image_id": image, "keypoints": points.ravel().tolist()}


def test_the_numbers_of_a_file_have_one_scale(tmp_path):
    read = read_keypoints(save(tmp_path / "percent.json", [scored("1.jpg", 92.0), scored("2.jpg", 14.0)]))
    assert read.points[:, 0, 2].tolist() == pytest.approx([0.92, 0.14]), "14 % is not a certainty"
    hidden = scored("2.jpg", 1.0)
    read = read_keypoints(save(tmp_path / "visibility.json", [scored("1.jpg", 2.0), hidden]))
    assert read.points[:, 0, 2].tolist() == [1.0, 0.5], "1 is hidden where another is 2"


def test_identities_stay_with_their_poses_where_one_is_left_out(tmp_path):
    points = np.concatenate((coco_walker(3), coco_walker(3, 1)))
    points[1] = 0.0
    order, people = [0, 1, 2, 0, 1, 2], ["a"] * 3 + ["b"] * 3
    np.savez(tmp_path / "two.npz", keypoints=points, people=people, frames=order)
    read = read_keypoints(tmp_path / "two.npz")
    assert read.people == ["a", "a", "b", "b", "b"] and read.frames == [0, 2, 0, 1, 2]
    np.savez(tmp_path / "short.npz", keypoints=points, people=people[1:])
    with pytest.raises(InputError, match=r"short.npz: people has shape \(5,\), expected \(6,\)"):
        read_keypoints(tmp_path / "short.npz")


def test_depths_are_no_confidences():
    points = coco_walker(2)
    points[..., 2] = np.linspace(-80.0, 70.0, 34).reshape(2, 17)
    with pytest.raises(InputError, match="between -80 and 70, which are no confidences: leave them out"):
        as_keypoints(points)


def test_confidences_that_are_never_high_are_told():
    points = coco_walker(2)
    points[..., 2] = np.linspace(0.1, 0.7, 34).reshape(2, 17)
    told = "confidences are 0.70 at most: leave the third numbers out if they are depths"
    assert told in as_keypoints(points).about()
    points[0, 0, 2] = 0.9
    assert "confidences" not in as_keypoints(points).about()


def test_axes_that_are_turned_are_told():
    points = coco_walker(3)
    assert as_keypoints(points).notes == ("the order of the joints is assumed",)
    upside_down, exchanged = points * [1.0, -1.0, 1.0], points[..., [1, 0, 2]]
    assert "most people are upside down: y must point down" in as_keypoints(upside_down).about()
    assert "most people lie: if they do not, x and y are exchanged" in as_keypoints(exchanged).about()


def test_the_order_of_joints_without_names_is_a_guess():
    for number in (15, 25, 26):
        assert "assumed" in as_keypoints(np.tile(coco_walker(2), (1, 2, 1))[:, :number]).about()


def test_an_animal_without_names_of_joints_is_no_person(tmp_path):
    content = {"annotations": [result(1), result(2, category_id=18)], "categories": [{"id": 1, "name": "Person"}]}
    content["categories"].append({"id": 18, "name": "dog"})
    read = read_keypoints(save(tmp_path / "a.json", content))
    assert read.names == ["1"] and "1 entry skipped of category dog (an animal)" in read.about()


def test_images_of_one_name_keep_their_number(tmp_path):
    images = [{"id": identity, "file_name": "000000.jpg"} for identity in (3, 8)]
    content = {"images": images, "annotations": [result(3), result(8)]}
    assert read_keypoints(save(tmp_path / "a.json", content)).names == ["000000_id3", "000000_id8"]


@pytest.mark.parametrize("key", ["keypoint_scores", "scores", "conf", "visibility", "keypoints_visible"])
def test_confidences_may_have_a_list_or_an_array_of_their_own(tmp_path, key):
    points = coco_walker(3)
    seen = np.arange(17) != 9
    entries = [
        {"image_id": t, "keypoints": points[t, :, :2].tolist(), key: seen.astype(int).tolist()} for t in range(3)
    ]
    np.savez(tmp_path / "scores.npz", keypoints=points[..., :2], **{key: np.tile(seen, (3, 1))})
    for file in (save(tmp_path / "scores.json", entries), tmp_path / "scores.npz"):
        assert (read_keypoints(file).points[..., 2].numpy() == seen).all()
    np.savez(tmp_path / "short.npz", keypoints=points[..., :2], **{key: np.ones((3, 16))})
    with pytest.raises(InputError, match=rf"short.npz: {key} has shape \(3, 16\), expected \(3, 17\)"):
        read_keypoints(tmp_path / "short.npz")


def test_one_object_a_line(tmp_path):
    entries = [result(number) for number in range(3)]
    for name in ("lines.json", "lines.jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps(entry) for entry in entries) + "\n")
    listed = read_keypoints(save(tmp_path / "list.json", entries))
    assert torch.equal(read_keypoints(tmp_path / "lines.jsonl").points, listed.points)
    read = read_keypoints(tmp_path / "lines.json")
    assert read.names == listed.names == ["0", "1", "2"] and torch.equal(read.points, listed.points)
    (tmp_path / "broken.json").write_text(json.dumps(entries[0]) + "\n{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_keypoints(tmp_path / "broken.json")


def test_repeated_entries_are_skipped_and_counted(tmp_path):
    read = read_keypoints(save(tmp_path / "twice.json", [result(1), result(2), result(1)]))
    assert read.names == ["1", "2"] and "1 entry skipped as repeated" in read.about()


def test_frame_rates_and_frames_are_checked(tmp_path):
    about = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [result(1)]}
    for more in ({"info": {"fps": "25"}}, {"videos": [{"id": 1, "fps": 25}, {"id": 2, "fps": 25.0}]}):
        assert read_keypoints(save(tmp_path / "a.json", about | more)).fps == 25.0
    with pytest.raises(InputError, match="videos of 25 and 30 frames a second: make a file for each"):
        read_keypoints(save(tmp_path / "a.json", about | {"videos": [{"fps": 25}, {"fps": 30}]}))
    for key, value, message in (
        ("fps", 0, "fps is 0, expected a number of frames a second above 0"),
        ("fps", [25, 30], r"fps is \[25 30\]"),
        ("frames", [0.0, 0.5, 1.0], "frames has 0.5, expected whole numbers, and fps"),
    ):
        np.savez(tmp_path / "a.npz", keypoints=coco_walker(3), **{key: value})
        with pytest.raises(InputError, match=message):
            read_keypoints(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", keypoints=coco_walker(3), frames=[0.0, np.nan, 2.0], people=[-1, -1, 3])
    read = read_keypoints(tmp_path / "a.npz")
    assert read.frames == [0, None, 2] and read.people == [None, None, "3"]


def test_keys_in_other_spellings_are_read_and_others_told(tmp_path):
    points, order = coco_walker(6), np.arange(6)
    np.savez(
        tmp_path / "a.npz", keypoints=points, Skeleton="coco_17", person_id=order % 2, frame_ids=20 * order, FPS=25
    )
    read = read_keypoints(tmp_path / "a.npz")
    assert read.people == ["0", "1"] * 3 and read.frames == [0, 20, 40, 60, 80, 100] and read.fps == 25.0
    assert read.notes == ()
    np.savez(tmp_path / "a.npz", keypoints=points, skeleton="coco_17", track_ids=order[:3], who=order)
    assert read_keypoints(tmp_path / "a.npz").notes == ("not read: track_ids, who",)


def test_an_object_of_json_like_an_npz_file(tmp_path):
    points = coco_walker(3)
    about = {"keypoints": points.tolist(), "skeleton": "coco_17", "frames": [4, 5, 6], "fps": 25}
    read = read_keypoints(save(tmp_path / "a.json", about))
    assert np.allclose(read.points.numpy(), points) and read.frames == [4, 5, 6] and read.fps == 25.0
    assert read.form == "an object with arrays" and read.notes == ()


def test_tracks_of_cvat_are_attributes(tmp_path):
    entries = [result(1, attributes={"track_id": 4, "occluded": False}), result(2, attributes=[])]
    assert read_keypoints(save(tmp_path / "cvat.json", entries)).people == ["4", None]


def test_joints_in_an_unknown_order_are_told():
    points = coco_walker(4)
    animal = [1, 2, 0, 3, 11, 5, 7, 9, 6, 8, 10, 12, 13, 15, 14, 16, 4]  # as data sets of animals have them
    assert "the bones are too long for people" in as_keypoints(points[:, animal], "coco_17").about()
    assert "too long" not in as_keypoints(points, "coco_17").about()
    arms = points * (np.isin(np.arange(17), (5, 6, 7, 8, 9, 10))[:, None])
    assert "too long" not in as_keypoints(arms, "coco_17").about(), "most joints are not seen"
