"""Human3.6M in the JSON files of 3DCrowdNet."""

import json

import numpy as np
import pytest

from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.human36m.cameras import CAMERAS, extrinsics
from noise2pose.errors import InputError
from tests.datamodules import human36m_tree as tree
from tests.datamodules.human36m_tree import columns_of, pinhole, prepare_folder, rows_of, seen


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    tree.write_json(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "out"
    return output, prepare_folder(source, output)


def change(path, function):
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def said(manifest):
    return " | ".join(f"{file}: {reason}" for file, reason in manifest["skipped"])


def test_joints_pixels_and_boxes_of_each_view(prepared):
    output, manifest = prepared
    joints, exact, bounds, frame = columns_of(output, "keypoints_3d", "keypoints_2d_gt", "bounds", "frame")
    assert len(manifest["sequences"]) == 2 * 3 * 4 and not manifest["skipped"]
    for camera in CAMERAS:
        rows = rows_of(manifest, f"S9_Photo_take1_{camera}")
        pixels = pinhole("S9", "TakingPhoto 1", camera)
        np.testing.assert_allclose(joints[rows, :, :3], seen("S9", "TakingPhoto 1", camera)[0], atol=1e-5)
        np.testing.assert_allclose(exact[rows, :, :2], pixels, atol=1e-3)
        # the files' boxes are 1.2 times as large, and the rule of joints will do that again
        np.testing.assert_allclose(bounds[rows], np.concatenate((pixels.min(1), pixels.max(1)), axis=1), atol=1e-3)
        assert frame[rows].tolist() == list(range(tree.FRAMES))
    actions = {sequence["action"] for sequence in manifest["sequences"]}
    assert actions == {"Directions", "Photo", "WalkDog"}


def test_smpl_is_turned_into_the_camera(prepared):
    output, manifest = prepared
    poses, betas, world, known, matrix = columns_of(
        output, "poses", "betas", "translation_world", "has_smpl", "extrinsics"
    )
    rows = rows_of(manifest, "S1_WalkDog_take1_58860488")
    assert known[rows].tolist() == [True, False] * 3 + [True] and not poses[rows][1].any()
    given = tree.smpl_of("S1", 4)
    np.testing.assert_allclose(poses[rows][4, 1:], np.reshape(given["pose"], (24, 3))[1:], rtol=1e-6)
    np.testing.assert_allclose(poses[rows][4, 0], tree.turned("S1", "58860488", given["pose"][:3]), atol=1e-6)
    np.testing.assert_allclose(betas[rows][4], given["shape"], rtol=1e-6)
    np.testing.assert_allclose(world[rows][4], given["trans"], rtol=1e-6)
    rotation, translation = extrinsics("S1", "58860488")
    np.testing.assert_allclose(matrix[rows][4], np.concatenate((rotation, translation[:, None]), axis=1), atol=1e-6)


def test_images_are_where_they_were(source, prepared):
    output, manifest = prepared
    folder = PreparedFolder(output, "human36m")
    image = folder.column("picture")[rows_of(manifest, "S1_Directions_take1_55011271")]
    name = folder.images()[int(image[3])]
    assert name == "s_01_act_02_subact_01_ca_02/s_01_act_02_subact_01_ca_02_000004.jpg"
    assert (folder.image_root() / name).is_file() and folder.image_root() == source / "images"


def test_stride_and_no_images(source, tmp_path):
    manifest = prepare_folder(source, tmp_path / "out", "--stride", "5", "--no_images")
    assert set(columns_of(tmp_path / "out", "frame")[0].tolist()) == {0, 5}
    assert manifest["picture_root"] is None and not manifest["skipped"]
    assert manifest["counts"]["train: annotated frames"] == 3 * 4 * tree.FRAMES
    assert manifest["counts"]["train: frames"] == 3 * 4 * 2


def test_other_boxes_are_kept(source, tmp_path):
    tree.write_json(tmp_path, ["S1"], ["Sitting"], images=False)
    path = tmp_path / "annotations" / "Human36M_subject1_data.json"
    change(path, lambda data: [a.update(bbox=[10, 20, 300, 500]) for a in data["annotations"]])
    prepare_folder(tmp_path, tmp_path / "out")
    assert (columns_of(tmp_path / "out", "bounds")[0] == [10, 20, 310, 520]).all()


def test_faults_are_named_and_the_rest_is_prepared(tmp_path):
    tree.write_json(tmp_path, ["S1", "S5", "S9"], ["Sitting"])
    folder = tmp_path / "annotations"

    def spoil(data):
        images, annotations = data["images"], data["annotations"]
        images.append(dict(images[3]))
        annotations.append(dict(annotations[3]))
        annotations.append({"id": -1, "image_id": -5})
        del images[5]["frame_idx"]

    change(folder / "Human36M_subject1_data.json", spoil)
    change(folder / "Human36M_subject1_camera.json", lambda cameras: cameras.pop("4"))
    change(folder / "Human36M_subject1_smpl_param.json", lambda smpl: smpl["9"]["1"]["2"].update(pose=[0.0]))

    def spoil_joints(joints):
        joints["9"]["1"].pop("1")
        joints["9"]["1"]["2"][4] = [float("nan")] * 3

    change(folder / "Human36M_subject1_joint_3d.json", spoil_joints)
    place = "s_01_act_09_subact_01_ca_03/s_01_act_09_subact_01_ca_03_000001.jpg"
    (tmp_path / "images" / place).unlink()
    broken = folder / "Human36M_subject5_joint_3d.json"
    broken.write_text(broken.read_text()[:-100])
    (folder / "Human36M_subject9_smpl_param.json").unlink()
    manifest = prepare_folder(tmp_path, tmp_path / "out")
    words = said(manifest)
    for expected in (
        "an image of this id was there before; left out",
        "an annotation of this id was there before; left out",
        "annotation -1: its image_id is not among the images; left out",
        "it has no action, take, camera or frame; left out",
        "it has no 17 joints in joint_3d; left out, and 2 more like it",
        f"image {place}: the file is missing; joints are kept",
        "camera 4 is missing: left out",
        "joints are not finite, the first in frame 2",
        "SMPL parameters are not 72, 10 and 3 numbers; not used, and 2 more like it",
        "Human36M_subject5_joint_3d.json: cannot be read as JSON",
        "Human36M_subject9_smpl_param.json: is not there: no SMPL of this subject",
    ):
        assert expected in words, expected
    image, known = columns_of(tmp_path / "out", "picture", "has_smpl")
    assert image[rows_of(manifest, "S1_Sitting_take1_58860488")][0] == -1
    assert not known[rows_of(manifest, "S9_Sitting_take1_58860488")].any()
    assert {s["subject"] for s in manifest["sequences"]} == {"S1", "S9"}


def test_what_papers_leave_out_and_missing_files(tmp_path):
    tree.write_json(tmp_path, ["S11"], ["Directions 1"], images=False)
    folder = tmp_path / "annotations"

    def second(content):
        content["2"]["2"] = content["2"].pop("1")

    change(folder / "Human36M_subject11_joint_3d.json", second)
    data = folder / "Human36M_subject11_data.json"
    change(data, lambda content: [image.update(subaction_idx=2) for image in content["images"]])
    with pytest.raises(InputError, match="nothing could be prepared"):
        prepare_folder(tmp_path, tmp_path / "out")
    (folder / "Human36M_subject11_camera.json").unlink()
    with pytest.raises(InputError, match="Human36M_subject11_camera.json is not there: left out"):
        prepare_folder(tmp_path, tmp_path / "other")


def test_cameras_that_look_the_other_way_are_reported(tmp_path):
    tree.write_json(tmp_path, ["S1"], ["Sitting"], images=False)
    path = tmp_path / "annotations" / "Human36M_subject1_camera.json"
    change(path, lambda cameras: cameras["1"].update(t=[0.0, 0.0, -6000.0]))
    manifest = prepare_folder(tmp_path, tmp_path / "out")
    assert "the person is behind the camera (is t its position?); left out" in said(manifest)
    assert len(manifest["sequences"]) == 3
