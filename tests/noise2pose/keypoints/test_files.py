import json

import numpy as np
import pytest
import torch

from noise2pose import cameras, skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.files import as_keypoints, read_keypoints
from tests.noise2pose.keypoints.walker import coco_walker

COCO = skeletons.get("coco_17")


def person(joints=17, third=0.9, shift=0.0):
    """Numbers of one pose as files have them."""
    return [number for joint in range(joints) for number in (10.0 * joint + 5.0 + shift, 7.0 * joint % 40 + 3.0, third)]


def save(path, content):
    path.write_text(json.dumps(content))
    return path


def result(image, **more):
    return {"image_id": image, "category_id": 1, "keypoints": person(), "score": 2.5, **more}


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("ending", ["npz", "json"])
def test_plain_arrays(tmp_path, columns, single, ending):
    points = np.random.default_rng(0).uniform(1.0, 300.0, (4, 17, 3))
    points[..., 2] = 0.25
    values = points[0, :, :columns] if single else points[..., :columns]
    path = tmp_path / f"walk.{ending}"
    np.savez(path, keypoints=values) if ending == "npz" else save(path, values.tolist())
    read = read_keypoints(path)
    assert read.points.shape == (1 if single else 4, 17, 3) and read.points.dtype == torch.float32
    assert np.allclose(read.points[0, :, :2], points[0, :, :2]) and read.skeleton == "coco_17"
    assert (read.points[..., 2] == (1.0 if columns == 2 else 0.25)).all()
    assert read.names[0] == "walk_00000" and len(read.names) == len(read.points) and read.image_sizes is None


def test_an_npz_says_its_skeleton_and_image_size(tmp_path):
    path = tmp_path / "walk.npz"
    points = np.random.default_rng(0).uniform(1.0, 300.0, (3, 17, 2))
    np.savez(path, keypoints=points, skeleton="h36m_17", image_size=[640, 480])
    read = read_keypoints(path)
    assert read.skeleton == "h36m_17" and read.image_sizes is not None and read.image_sizes.tolist() == [[640, 480]] * 3
    with pytest.raises(InputError, match="walk.npz: skeleton is coco_17, but the file says h36m_17"):
        read_keypoints(path, "coco_17")
    np.savez(path, keypoints=points, skeleton="mine")
    with pytest.raises(InputError, match="walk.npz: skeleton: unknown skeleton mine"):
        read_keypoints(path)


def test_a_coco_annotation_file(tmp_path):
    visibility = person(third=2)
    visibility[2::3] = [0, 1, *[2] * 15]
    nobody = {"image_id": 7, "keypoints": [0] * 51, "num_keypoints": 0}
    content = {
        "images": [
            {"id": 785, "file_name": "val/000000000785.jpg", "width": 640, "height": 425},
            {"id": 9, "file_name": "000000000009.jpg", "width": 300, "height": 200},
        ],
        "annotations": [
            {"image_id": 785, "keypoints": visibility},
            {"image_id": 9, "keypoints": person(third=2)},
            nobody,
            {"image_id": 785, "keypoints": person(third=2)},
        ],
    }
    read = read_keypoints(save(tmp_path / "a.json", content))
    assert read.names == ["000000000009", "000000000785", "000000000785#2"]
    assert read.points[1, :3, 2].tolist() == [0.0, 0.5, 1.0]
    assert read.image_sizes is not None and read.image_sizes.tolist() == [[300, 200], [640, 425], [640, 425]]


def test_categories_say_the_skeleton(tmp_path):
    def read(joints, skeleton=None, **more):
        category = {"id": 1, "name": "runner", "keypoints": joints}
        content = {"annotations": [result(1, **more)], "categories": [category]}
        return read_keypoints(save(tmp_path / "a.json", content), skeleton)

    h36m = list(skeletons.get("h36m_17").joints)
    assert read(h36m).skeleton == "h36m_17"
    turned = read(h36m[::-1])
    assert turned.skeleton == "h36m_17" and torch.equal(turned.points, read(h36m).points.flip(1))
    with pytest.raises(InputError, match="skeleton is coco_17, but the file names the joints of h36m_17"):
        read(h36m, "coco_17")
    with pytest.raises(InputError, match="a person's keypoints .1 entry skipped of category runner .*left_hip missing"):
        read(["left_eye", "left_hand", *[joint for joint in h36m if joint != "left_hip"]])
    stated = [round(0.05 * number, 2) for number in (0, *range(2, 18))]
    assert read(h36m, confidence=stated).points[0, :, 2].tolist() == pytest.approx(stated)
    assert (read(h36m, confidence=0.2).points[..., 2] == 0.9).all(), "one number is that of the whole person"
    for wrong, message in ((stated[1:], "16 confidences, expected 17"), ([None] * 17, "confidence is not a list of")):
        with pytest.raises(InputError, match=rf"a.json: entry 0 \(image 1\).*{message}"):
            read(h36m, confidence=wrong)


def test_what_is_nobodys_pose_is_skipped_and_counted(tmp_path):
    nobody = {"image_id": 7, "keypoints": [0] * 51}
    others = [{"image_id": 7, "bbox": [0, 0, 9, 9]}, result(7, iscrowd=1), result(7, keypoints=[])]
    collapsed = result(8, keypoints=[30.0, 40.0, 0.9] * 17)
    few = result(9, keypoints=[5, 5, 1, 60, 80, 1, *[0] * 45])
    read = read_keypoints(save(tmp_path / "a.json", [nobody, *others, result(1), collapsed, few]))
    assert read.names == ["1"] and len(read.points) == 1
    assert "2 entries skipped without keypoints" in read.about() and "1 entry skipped of crowds" in read.about()
    assert "3 of 4 poses skipped, 7 the first" in read.about()
    with pytest.raises(InputError, match="a.json: no pose has three joints"):
        read_keypoints(save(tmp_path / "a.json", nobody))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"keypoints": person(third=2)}, 1.0),
        ({"keypoints": person(third=1), "num_keypoints": 17}, 0.5),
        ({"keypoints": person(third=1)}, 1.0),
        ({"keypoints": person(third=0.5), "area": 10.0}, 0.5),
        ({"keypoints": person(third=1.0), "score": 0.9}, 1.0),
    ],
)
def test_visibility_is_told_from_confidence(tmp_path, entry, expected):
    read = read_keypoints(save(tmp_path / "a.json", entry))
    assert read.points.shape == (1, 17, 3) and (read.points[..., 2] == expected).all()


def test_results_are_sorted_by_image_then_by_person(tmp_path):
    results = [result("frame_10.jpg", idx=2), result("frame_9.jpg"), result("frame_10.jpg", idx=1)]
    results[0]["keypoints"] = person(shift=100.0)
    read = read_keypoints(save(tmp_path / "alphapose.json", results))
    assert read.names == ["frame_9", "frame_10", "frame_10#2"]
    assert read.points[2, 0, 0] == 105.0 and read.points[1, 0, 0] == 5.0


def test_halpe_has_26_joints(tmp_path):
    read = read_keypoints(save(tmp_path / "a.json", [{"image_id": 1, "keypoints": person(26)}]))
    assert read.skeleton == "halpe_26" and read.points.shape == (1, 26, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no poses"),
        ({}, "holds no poses"),
        ({"version": 1}, "holds an object with version, which is no known format"),
        (3, "holds int"),
        ({"images": 3, "annotations": [{}]}, "images must be a list"),
        ({"annotations": []}, "holds no poses"),
        ([result(1), 5], "entry 1 is int"),
        ([result(1, keypoints=person()[:-2])], r"entry 0 \(image 1\): keypoints have 49 numbers"),
        ([result(1, keypoints=person(14))], "has 14 joints, which may be crowdpose_14 or aic_14"),
        (
            [result(1, keypoints=[*person()[:-3], float("inf"), 1, 1])],
            "1: right_ankle is .inf, 1.0, 1.0., expected pixels",
        ),
        ([result(1, keypoints="none")], "not a regular array"),
        ([result(1, keypoints={"nose": 1})], r"entry 0 \(image 1\): keypoints have shape"),
        ([result("x", keypoints=[1, 1, 1, 2, 1, 1, *[0] * 45])], "no pose has three joints that are seen"),
        (
            [result(1, keypoints=[*person()[:-1], 140.0])],
            "third numbers .* between 0.9 and 140, which are no",
        ),
        ([[[1, 2], [3]]], "not a regular array"),
        ([[[1.0] * 4] * 17], r"shape \(1, 17, 4\)"),
        ([[[1.0] * 3] * 5], "has 5 joints"),
        ([[]], r"shape \(1, 1, 0\)"),
    ],
)
def test_wrong_json_is_refused_with_the_file_and_the_entry(tmp_path, content, message):
    with pytest.raises(InputError, match=f"poses.json.*{message}"):
        read_keypoints(save(tmp_path / "poses.json", content))


def test_broken_files_are_named(tmp_path):
    np.savez(tmp_path / "whole.npz", keypoints=np.ones((50, 17, 2)))
    whole = (tmp_path / "whole.npz").read_bytes()
    text = json.dumps([result(1)])
    for name, content in {
        "half.npz": whole[: len(whole) // 2],
        "empty.npz": b"",
        "text.npz": b"keypoints",
        "half.json": text[: len(text) // 2].encode(),
        "bytes.json": b"\xff\xfe\x00",
        "empty.json": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_keypoints(tmp_path / name)
    with pytest.raises(InputError, match="nothing.json does not exist"):
        read_keypoints(tmp_path / "nothing.json")
    for name in ("poses.csv", "poses.json.gz"):
        (tmp_path / name).write_text("1,2")
    with pytest.raises(InputError, match=r"poses.csv: keypoints are read from .npz, .npy, .json, .*; .*numpy.savez"):
        read_keypoints(tmp_path / "poses.csv")
    with pytest.raises(InputError, match=r"poses.json.gz: .*; unpack it first"):
        read_keypoints(tmp_path / "poses.json.gz")


def test_objects_are_never_unpickled(tmp_path):
    videopose = {"positions_2d": np.array({"S1": {}}, dtype=object), "metadata": np.array({}, dtype=object)}
    np.savez(tmp_path / "data_2d_h36m.npz", **videopose)
    with pytest.raises(InputError, match="data_2d_h36m.npz: holds 0 clips .S1., expected one"):
        read_keypoints(tmp_path / "data_2d_h36m.npz")
    np.savez(tmp_path / "objects.npz", keypoints=np.array([{}, 1], dtype=object))
    with pytest.raises(InputError, match="objects.npz: holds pickled Python objects"):
        read_keypoints(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"poses": np.ones((2, 17, 2))}, "`keypoints`.*found poses"),
        ({"keypoints": np.ones((0, 17, 2))}, "holds no poses"),
        ({"keypoints": np.full((2, 17, 2), np.nan)}, "no pose has three joints that are seen"),
        ({"keypoints": np.random.default_rng(0).uniform(0, 1, (2, 17, 2))}, "expected pixels: undo the normalisation"),
        ({"keypoints": np.ones(17)}, r"shape \(17,\)"),
        ({"keypoints": np.ones((2, 17, 2)), "image_size": np.ones(3)}, "image_size has shape"),
        ({"keypoints": np.zeros((2, 17, 3))}, "no pose has three joints that are seen"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "poses.npz", **arrays)
    with pytest.raises(InputError, match=f"poses.npz.*{message}"):
        read_keypoints(tmp_path / "poses.npz")


def place(hidden, skeleton=COCO):
    points = torch.tensor(person()).reshape(17, 3)
    points[hidden] = 0.0
    return points, skeletons.place_hidden(points[None], skeleton.name)[0]


def test_a_hidden_joint_goes_to_its_visible_neighbours():
    elbow, wrist, shoulder = (COCO.index(f"left_{joint}") for joint in ("elbow", "wrist", "shoulder"))
    points, placed = place([elbow])
    assert torch.allclose(placed[elbow, :2], (points[wrist, :2] + points[shoulder, :2]) / 2)
    assert placed[elbow, 2] == 0
    others = [joint for joint in range(17) if joint != elbow]
    assert torch.equal(placed[others], points[others])


def test_where_neighbours_are_hidden_too_the_nearest_visible_joint_counts():
    elbow, wrist, shoulder = (COCO.index(f"left_{joint}") for joint in ("elbow", "wrist", "shoulder"))
    points, placed = place([elbow, wrist])
    assert torch.equal(placed[[elbow, wrist], :2], points[[shoulder, shoulder], :2])
    assert torch.equal(place(list(range(3, 17)))[1][16, :2], points[2, :2]), "the right ankle goes to the right eye"


def test_the_virtual_image_is_centred_on_the_person():
    points = torch.tensor([[100.0, 50.0], [140.0, 250.0], [120.0, 60.0]])
    corner, side = cameras.virtual_image(torch.stack((points, points + 1000.0, points[:1].expand(3, 2))))
    assert side.tolist() == pytest.approx([440.0, 440.0, 0.0])
    assert (corner[0] + side[0] / 2).tolist() == pytest.approx([120.0, 150.0])
    assert torch.allclose(corner[1], corner[0] + 1000.0)


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
