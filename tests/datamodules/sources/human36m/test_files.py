"""Human3.6M in the files of VideoPose3D, and which layout is taken."""

import shutil

import numpy as np
import pytest

from datamodules.sources.human36m.cameras import CAMERAS, INTRINSICS
from noise2pose import skeletons
from noise2pose.errors import InputError
from tests.datamodules import human36m_tree as tree
from tests.datamodules.human36m_tree import columns_of, prepare_folder, rows_of, seen


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videopose3d")
    tree.write_videopose3d(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "out"
    return output, prepare_folder(source, output)


def test_camera_frame_and_pixels_of_each_view(prepared):
    output, manifest = prepared
    joints, exact, found = columns_of(output, "keypoints_3d", "keypoints_2d_gt", "keypoints_2d_detected")
    for name, action in (("S1_Photo_1", "TakingPhoto 1"), ("S11_SittingDown_2", "SittingDown 2")):
        for camera in CAMERAS:
            rows = rows_of(manifest, f"{name}_{camera}")
            metres, pixels = seen(name.split("_")[0], action, camera)
            np.testing.assert_allclose(joints[rows, :, :3], metres, atol=1e-5)
            np.testing.assert_allclose(exact[rows, :, :2], pixels, atol=1e-3)
            np.testing.assert_allclose(found[rows, :, :2], pixels + 3.0, atol=1e-3)
            assert (joints[rows, :, 3] == 1).all() and (exact[rows, :, 2] == 1).all() and (found[rows, :, 2] == 1).all()


def test_rows_have_cameras_frames_and_tight_boxes(prepared):
    output, manifest = prepared
    frame, focal, centre, size, bounds = columns_of(output, "frame", "focal", "principal_point", "image_size", "bounds")
    rows = rows_of(manifest, "S9_Sitting_54138969")
    camera = INTRINSICS["54138969"]
    assert frame[rows].tolist() == list(range(tree.FRAMES))
    np.testing.assert_allclose([focal[rows][0], centre[rows][0], size[rows][0]],
                               [camera.focal, camera.principal_point, (1000, 1002)], rtol=1e-6)  # fmt: skip
    pixels = seen("S9", "Sitting", "54138969")[1]
    np.testing.assert_allclose(bounds[rows], np.concatenate((pixels.min(1), pixels.max(1)), axis=1), atol=1e-3)


def test_splits_names_and_what_papers_leave_out(prepared):
    _, manifest = prepared
    sequences = manifest["sequences"]
    takes = {(s["subject"], s["take"]) for s in sequences}
    assert ("S9", "Directions") in takes and ("S11", "Directions 1") in takes and ("S11", "Directions") not in takes
    assert {s["action"] for s in sequences} == {"Directions", "Photo", "WalkDog", "Sitting", "SittingDown"}
    assert {s["subject"]: s["split"] for s in sequences} == {"S1": "train", "S6": "train", "S9": "test", "S11": "test"}
    assert len(sequences) == (4 * 6 - 1) * 4 == len({s["name"] for s in sequences})
    frames = tree.FRAMES * 4
    assert manifest["counts"]["train: frames"] == 2 * 6 * frames and manifest["counts"]["test: frames"] == 11 * frames
    assert {(e["expected"], e["found"]) for e in manifest["expected"]} == {
        (1_559_752, 12 * frames),
        (543_344, 11 * frames),
    }
    facts = manifest["facts"]
    assert facts["detector"] == "cpn_ft_h36m_dbb" and facts["box_rule"] == "keypoints" and facts["fps"] == 50
    assert facts["keypoints_2d_gt"] == "as in data_2d_h36m_gt.npz" and not manifest["skipped"]
    assert facts["skeletons"] == dict.fromkeys(("keypoints_3d", "keypoints_2d_gt", "keypoints_2d_detected"), "h36m_17")


def test_without_the_gt_file_joints_are_projected_with_distortion(prepared, tmp_path):
    tree.write_videopose3d(tmp_path / "source", gt=False, cpn=False)
    manifest = prepare_folder(tmp_path / "source", tmp_path / "out")
    assert manifest["facts"]["keypoints_2d_gt"].startswith("projected") and manifest["facts"]["detector"] is None
    (given,), (projected,) = columns_of(prepared[0], "keypoints_2d_gt"), columns_of(tmp_path / "out", "keypoints_2d_gt")
    np.testing.assert_allclose(projected, given, atol=2e-3)
    assert "keypoints_2d_detected" not in manifest["columns"] and not manifest["skipped"]


def test_other_detectors_by_name_and_in_their_own_order(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    coco = {"S1": {"Sitting": [np.full((9, 17, 2), float(c)) for c in range(4)]}}
    metadata = {"layout_name": "coco", "num_joints": 17,
                "keypoints_symmetry": [list(range(1, 16, 2)), list(range(2, 17, 2))]}  # fmt: skip
    tree.write_npz_objects(
        tmp_path / "source" / "data_2d_h36m_detectron_pt_coco.npz", positions_2d=coco, metadata=metadata
    )
    manifest = prepare_folder(tmp_path / "source", tmp_path / "out", "--detector", "detectron_pt_coco")
    assert manifest["facts"]["skeletons"]["keypoints_2d_detected"] == "coco_17"
    assert manifest["facts"]["other_detectors"] == ["cpn_ft_h36m_dbb"]
    (found,) = columns_of(tmp_path / "out", "keypoints_2d_detected")
    assert (found[rows_of(manifest, "S1_Sitting_58860488")] == [2, 2, 1]).all()
    assert not found[rows_of(manifest, "S1_WalkDog_58860488")].any()
    assert any("S1/WalkDog" in file and "2-D joints are missing" in reason for file, reason in manifest["skipped"])
    with pytest.raises(InputError, match="--detector hrnet: .* it has cpn_ft_h36m_dbb, detectron_pt_coco"):
        prepare_folder(tmp_path / "source", tmp_path / "out", "--detector", "hrnet")


def test_the_order_of_joints_is_checked_against_the_motion(source, tmp_path, capsys):
    """Without metadata the order that fits is taken, wrong metadata are refused, and what fits nothing is named."""
    shutil.copytree(source, tmp_path / "source")
    nearest = [skeletons.get("h36m_17").joints.index(name) if name in skeletons.get("h36m_17").joints else 10
               for name in skeletons.get("coco_17").joints]  # fmt: skip
    views = {a: [tree.seen("S1", a, c)[1][:, nearest] for c in tree.CAMERAS] for a in tree.ACTIONS}
    h36m = {"layout_name": "h36m", "keypoints_symmetry": tree.SYMMETRY}
    for name, scale, more in (("plain", 1.0, {}), ("wrong", 1.0, {"metadata": h36m}), ("screen", 1e-3, {})):
        content = {"S1": {a: [scale * view for view in of] for a, of in views.items()}}
        tree.write_npz_objects(tmp_path / "source" / f"data_2d_h36m_{name}.npz", positions_2d=content, **more)
    manifest = prepare_folder(tmp_path / "source", tmp_path / "plain", "--detector", "plain")
    assert manifest["facts"]["skeletons"]["keypoints_2d_detected"] == "coco_17"
    assert "warning" not in capsys.readouterr().err
    manifest = prepare_folder(tmp_path / "source", tmp_path / "wrong", "--detector", "wrong")
    assert "but its metadata say h36m_17: correct its metadata" in dict(manifest["skipped"])["data_2d_h36m_wrong.npz"]
    assert manifest["facts"]["detector"] is None
    prepare_folder(tmp_path / "source", tmp_path / "screen", "--detector", "screen")
    assert "data_2d_h36m_screen.npz: its joints are off the projected ones by" in capsys.readouterr().err


def test_mixtures_give_the_mean_at_the_place_of_the_heaviest_component(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    mixtures = np.zeros((9, 17, 4, 5))
    mixtures[:, :, 1] = [0.4, 38.0, 46.0, 0.01, 0.01]
    mixtures[:, :, 2] = [0.4, 60.0, 70.0, 0.01, 0.01]
    mixtures[:, :, 3] = [0.2, 44.0, 58.0, 0.01, 0.01]  # at the place of the first
    content = {s: {a: [mixtures] * 4 for a in tree.ACTIONS} for s in tree.SUBJECTS}
    tree.write_npz_objects(tmp_path / "source" / "data_2d_h36m_cpn_ft_h36m_dbb_gmm.npz", positions_2d=content)
    assert prepare_folder(tmp_path / "source", tmp_path / "out")["facts"]["detector"] == "cpn_ft_h36m_dbb"
    manifest = prepare_folder(tmp_path / "source", tmp_path / "gmm", "--detector", "cpn_ft_h36m_dbb_gmm")
    (found,) = columns_of(tmp_path / "gmm", "keypoints_2d_detected")
    assert np.allclose(found, [40, 50, 1]) and not manifest["skipped"]


def test_joints_that_are_not_finite_count_nowhere(tmp_path):
    world = {a: tree.motion("S1", a) for a in ("Sitting", "WalkingDog")}
    world["Sitting"][2, 17] = np.nan  # left shoulder, number 11 of the 17
    world["WalkingDog"][3] = np.inf
    tree.write_npz_objects(tmp_path / "s" / "data_3d_h36m.npz", positions_3d={"S1": world})
    manifest = prepare_folder(tmp_path / "s", tmp_path / "out")
    joints, exact, frame = columns_of(tmp_path / "out", "keypoints_3d", "keypoints_2d_gt", "frame")
    rows = rows_of(manifest, "S1_Sitting_55011271")
    assert not joints[rows][2, 11].any() and not exact[rows][2, 11].any() and joints[rows][:, :, 3].sum() == 7 * 17 - 1
    assert frame[rows_of(manifest, "S1_WalkDog_55011271")].tolist() == [0, 1, 2, 4, 5, 6]
    assert np.isfinite(joints).all() and np.isfinite(exact).all()
    assert manifest["counts"]["joints that are not finite"] == 4 * (1 + 17)
    assert len(manifest["skipped"]) == 3  # once, not once for each camera
    reasons = dict(map(tuple, manifest["skipped"]))
    assert "1 joints are not finite, the first in frame 2" in reasons["data_3d_h36m.npz: S1/Sitting"]
    assert "1 frames without any joint, the first is 3: left out" in reasons["data_3d_h36m.npz: S1/WalkDog"]


def test_faults_are_named_and_the_rest_is_prepared(source, tmp_path):
    shutil.copytree(source, tmp_path / "s")
    detections = tmp_path / "s" / "data_2d_h36m_cpn_ft_h36m_dbb.npz"
    detections.write_bytes(detections.read_bytes()[:-400])
    world = {"Sitting": tree.motion("S1", "Sitting"), "Photo": np.zeros((4, 5, 3)), "TakingPhoto": np.ones((4, 32, 3))}
    tree.write_npz_objects(
        tmp_path / "s" / "data_3d_h36m.npz",
        positions_3d={"S1": world, "S2": world, "S9": {"Sitting": world["Sitting"]}},
    )
    manifest = prepare_folder(tmp_path / "s", tmp_path / "out")
    assert {s["name"][:10] for s in manifest["sequences"]} == {"S1_Sitting", "S9_Sitting"}
    said = " | ".join(f"{file}: {reason}" for file, reason in manifest["skipped"])
    assert "cpn_ft_h36m_dbb.npz" in said and "cannot be read as an npz file" in said
    assert "data_3d_h36m.npz: S2: no pose of its cameras is published" in said
    assert "S1/Photo: found float64 (4, 5, 3), expected (T, 32, 3)" in said and "a second Photo" in said
    assert manifest["facts"]["detector"] is None


def test_short_and_missing_cameras_of_2d_files(tmp_path):
    tree.write_videopose3d(tmp_path, subjects=["S1"], actions=["Sitting", "WalkingDog"], cpn=False)
    good = [seen("S1", "Sitting", camera)[1] for camera in CAMERAS]
    found = {"S1": {"Sitting": [good[0][:4], *good[1:]], "WalkDog": good[:3]}}
    tree.write_npz_objects(tmp_path / "data_2d_h36m_hrnet.npz", positions_2d=found)
    manifest = prepare_folder(tmp_path, tmp_path / "out")
    (detected,) = columns_of(tmp_path / "out", "keypoints_2d_detected")
    assert detected[rows_of(manifest, "S1_Sitting_54138969"), 0, 2].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert not detected[rows_of(manifest, "S1_WalkDog_54138969")].any()
    said = " | ".join(f"{file}: {reason}" for file, reason in manifest["skipped"])
    assert "S1/Sitting: camera 54138969: 4 frames of 7" in said and "S1/WalkDog: found 3 cameras, expected 4" in said


def test_detections_that_are_not_finite_are_named(tmp_path):
    tree.write_videopose3d(tmp_path, subjects=["S1"], actions=["Sitting"], cpn=False)
    found = [seen("S1", "Sitting", camera)[1].copy() for camera in CAMERAS]
    found[1][3, 5] = np.nan
    found[2] = found[2].astype(np.int32)  # whole pixels do as well
    tree.write_npz_objects(tmp_path / "data_2d_h36m_hrnet.npz", positions_2d={"S1": {"Sitting": found}})
    manifest = prepare_folder(tmp_path, tmp_path / "out")
    (detected,) = columns_of(tmp_path / "out", "keypoints_2d_detected")
    assert not detected[rows_of(manifest, "S1_Sitting_55011271")][3, 5].any()
    assert detected[rows_of(manifest, "S1_Sitting_58860488"), :, 2].all()
    where = "data_2d_h36m_hrnet.npz: S1/Sitting"
    reason = "camera 55011271: 1 joints are not finite, the first in frame 3: not seen there"
    assert manifest["skipped"] == [[where, reason]]


def test_what_is_no_human36m(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        prepare_folder(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(InputError, match="is not Human3.6M; looked in it and one level deeper for data_3d_h36m.npz"):
        prepare_folder(tmp_path, tmp_path / "out")
    (tmp_path / "data_3d_h36m.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="data_3d_h36m.npz cannot be read as an npz file"):
        prepare_folder(tmp_path, tmp_path / "out")


def test_layouts_are_found_one_level_deeper_and_chosen(source, tmp_path, capsys):
    shutil.copytree(source, tmp_path / "deeper" / "npz")
    tree.write_json(tmp_path / "deeper", ["S1"], ["Sitting"])
    manifest = prepare_folder(tmp_path / "deeper", tmp_path / "a")
    assert manifest["facts"]["layout"] == "videopose3d"
    assert "taking the files of videopose3d; --layout json takes the others" in capsys.readouterr().err
    assert prepare_folder(tmp_path / "deeper", tmp_path / "b", "--layout", "json")["facts"]["layout"] == "json"
    with pytest.raises(InputError, match="--layout official: .* it has videopose3d, json"):
        prepare_folder(tmp_path / "deeper", tmp_path / "c", "--layout", "official")
    with pytest.raises(InputError, match="--stride 5: the files of videopose3d are kept whole"):
        prepare_folder(source, tmp_path / "c", "--stride", "5")
    with pytest.raises(InputError, match="--stride is 0"):
        prepare_folder(source, tmp_path / "c", "--stride", "0")


def test_millimetres_are_not_taken_for_metres(tmp_path, monkeypatch):
    metres = tree.motion
    monkeypatch.setattr(tree, "motion", lambda *arguments: 1000.0 * metres(*arguments))
    tree.write_videopose3d(tmp_path / "in", gt=False, cpn=False)
    with pytest.raises(InputError, match="these look like millimetres"):
        prepare_folder(tmp_path / "in", tmp_path / "out")
