import json

import numpy as np
import pytest
import torch

from noise2pose import cameras, skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from tests.noise2pose.keypoints.entries import person, result, save

COCO = skeletons.get("coco_17")


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
