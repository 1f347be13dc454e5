"""Human3.6M as its publisher ships it: CDF files, masks, videos, metadata.xml."""

import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.common import video_frames
from datamodules.sources.human36m.cameras import CAMERAS
from noise2pose.errors import InputError
from tests.datamodules import human36m_tree as tree
from tests.datamodules.human36m_tree import MASK, columns_of, prepare_folder, rows_of, seen

SUBJECTS, ACTIONS = ("S1", "S11"), ("Directions", "TakingPhoto 1")
CDF = "S1/MyPoseFeatures/D3_Positions_mono/TakingPhoto 1.55011271.cdf"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official") / "h36m"
    tree.write_official(folder, SUBJECTS, ACTIONS)
    return folder


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "out"
    return output, prepare_folder(source.parent, output)  # one level deeper than the source


@pytest.fixture
def copy(source, tmp_path):
    shutil.copytree(source, tmp_path / "s")
    return tmp_path / "s"


def said(manifest):
    return " | ".join(f"{file}: {reason}" for file, reason in manifest["skipped"])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_fifth_frame_with_its_image(prepared):
    output, manifest = prepared
    joints, exact, frame, image, size = columns_of(
        output, "keypoints_3d", "keypoints_2d_gt", "frame", "picture", "image_size"
    )
    for camera in CAMERAS:
        rows = rows_of(manifest, f"S1_Photo_1_{camera}")
        metres, pixels = seen("S1", "TakingPhoto 1", camera)
        assert frame[rows].tolist() == [0, 5]
        np.testing.assert_allclose(joints[rows, :, :3], metres[[0, 5]], atol=1e-5)
        np.testing.assert_allclose(exact[rows, :, :2], pixels[[0, 5]], atol=1e-3)
    names = PreparedFolder(output, "human36m").images()
    assert [names[p] for p in image[rows]] == [f"S1_Photo_1_{camera}/000000.jpg", f"S1_Photo_1_{camera}/000005.jpg"]
    with Image.open(output / "images" / names[image[rows][1]]) as image:
        assert abs(np.asarray(image).mean() - tree.brightness(5)) < 4
    assert (size == tree.VIDEO).all() and manifest["picture_root"] == "images"  # of the video that was given
    assert not manifest["skipped"] and manifest["facts"]["stride"] == 5


def test_boxes_are_those_of_the_masks(prepared):
    output, manifest = prepared
    (bounds,) = columns_of(output, "bounds")
    x0, y0, x1, y1 = MASK
    for camera in CAMERAS:
        expected = [[x0, y0, x1, y1], [x0 + 5, y0, x1 + 5, y1]]
        assert bounds[rows_of(manifest, f"S1_Directions_{camera}")].tolist() == expected
    assert manifest["facts"]["box_rule"] == "mask" and manifest["counts"]["boxes of joints"] == 0
    assert manifest["counts"]["boxes of masks"] == manifest["rows"] == 3 * 4 * 2  # S11 Directions is left out


def test_same_joints_as_the_community_files(source, tmp_path):
    official = prepare_folder(source, tmp_path / "o", "--no_images")
    tree.write_videopose3d(tmp_path / "npz", SUBJECTS, ACTIONS)
    community = prepare_folder(tmp_path / "npz", tmp_path / "v")
    names = [sequence["name"] for sequence in official["sequences"]]
    assert names == [sequence["name"] for sequence in community["sequences"]]
    for column in ("keypoints_3d", "keypoints_2d_gt", "focal"):
        one, other = columns_of(tmp_path / "o", column)[0], columns_of(tmp_path / "v", column)[0]
        np.testing.assert_allclose(one, other, atol=2e-3 if "2d" in column else 2e-6)
    assert official["picture_root"] is None and "picture" not in official["columns"]
    assert official["facts"]["stride"] == 1 and official["counts"]["train: frames"] == 2 * 4 * tree.FRAMES


def test_a_killed_run_goes_on_with_the_same_bytes(source, prepared, tmp_path, monkeypatch):
    write, written = video_frames._write_jpeg, []

    def killed(path, pixels):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        write(path, pixels)

    monkeypatch.setattr(video_frames, "_write_jpeg", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_folder(source.parent, tmp_path / "out")
    monkeypatch.setattr(video_frames, "_write_jpeg", write)
    prepare_folder(source.parent, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(prepared[0])


def test_videos_that_are_shorter_leave_rows_without_an_image(copy, tmp_path):
    tree.write_video(copy / "S1" / "Videos" / "Directions.54138969.mp4", 4)
    (copy / "S1" / "Videos" / "Directions.55011271.mp4").unlink()
    (copy / "S1" / "Videos" / "Directions.58860488.mp4").write_bytes(b"no video")
    manifest = prepare_folder(copy, tmp_path / "out")
    (image,) = columns_of(tmp_path / "out", "picture")
    have = {c: (image[rows_of(manifest, f"S1_Directions_{c}")] >= 0).tolist() for c in CAMERAS}
    assert list(have.values()) == [[True, False], [False, False], [False, False], [True, True]]
    assert manifest["counts"]["frames without an image"] == 5
    assert "S1/Directions.54138969.mp4: ends before frame 5: 1 of 2 frames have no image" in said(manifest)
    assert "S1: Directions.55011271: no file in videos" in said(manifest)
    assert "S1/Directions.58860488.mp4: cannot be decoded" in said(manifest)


def test_masks_written_rows_first_and_silhouettes(copy, tmp_path):
    for path in (copy / "S1" / "MySegmentsMat" / "ground_truth_bb").iterdir():
        camera = path.name.split(".")[1]
        box = seen("S1", path.name.split(".")[0], camera)[1][0]
        _write_box(path, np.concatenate((box.min(0), box.max(0))).round().astype(int), transposed=True)
    for subject in SUBJECTS:
        segments = copy / subject / "MySegmentsMat"
        (segments / "ground_truth_bb").rename(segments / "ground_truth_bs")
    manifest = prepare_folder(copy, tmp_path / "out", "--no_images")
    (bounds,) = columns_of(tmp_path / "out", "bounds")
    row = rows_of(manifest, "S1_Directions_60457274").start
    box = seen("S1", "Directions", "60457274")[1][0]
    np.testing.assert_allclose(bounds[row], np.concatenate((box.min(0), box.max(0))), atol=1.0)
    assert manifest["facts"]["boxes"] == "of MySegmentsMat/ground_truth_bs"


def _write_box(path, box, transposed):
    with h5py.File(path, "w") as file:
        references = file.create_dataset("Masks", (1, tree.FRAMES), dtype=h5py.ref_dtype)  # a row instead of a column
        image = np.zeros((1002, 1000), np.uint8)
        image[box[1] : box[3], box[0] : box[2]] = 1
        one = file.create_dataset("one", data=image if transposed else image.T, compression="gzip")
        for frame in range(tree.FRAMES):
            references[0, frame] = one.ref


def test_missing_masks_are_boxes_of_joints(copy, tmp_path):
    masks = copy / "S1" / "MySegmentsMat" / "ground_truth_bb"
    (masks / "Directions.54138969.mat").unlink()
    broken = masks / "Directions.55011271.mat"
    broken.write_bytes(broken.read_bytes()[:3000])
    manifest = prepare_folder(copy, tmp_path / "out", "--no_images", "--stride", "5")
    (bounds,) = columns_of(tmp_path / "out", "bounds")
    assert manifest["counts"]["boxes of joints"] == 4
    assert "S1: Directions.54138969: no file in masks" in said(manifest)
    assert "Directions.55011271.mat" in said(manifest) and "cannot be read as masks" in said(manifest)
    pixels = seen("S1", "Directions", "54138969")[1][0]
    row = bounds[rows_of(manifest, "S1_Directions_54138969").start]
    # 0.9 times this box, as the rule of masks has it, is 1.2 times that of the joints
    np.testing.assert_allclose(0.9 * (row[2:] - row[:2]), 1.2 * np.ptp(pixels, axis=0), rtol=1e-4)
    for subject in SUBJECTS:
        shutil.rmtree(copy / subject / "MySegmentsMat")
    manifest = prepare_folder(copy, tmp_path / "none", "--no_images", "--stride", "5")
    assert manifest["facts"]["box_rule"] == "keypoints" and "there are no masks" in manifest["facts"]["boxes"]
    (bounds,) = columns_of(tmp_path / "none", "bounds")
    row = bounds[rows_of(manifest, "S1_Directions_54138969").start]
    np.testing.assert_allclose(row, np.concatenate((pixels.min(0), pixels.max(0))), atol=1e-3)
    assert not manifest["skipped"]


def test_broken_and_missing_files_are_named_and_the_rest_is_prepared(copy, tmp_path):
    whole = (copy / CDF).read_bytes()
    (copy / CDF).write_bytes(whole[: len(whole) // 2])
    (copy / CDF.replace("55011271", "58860488")).unlink()
    tree.write_cdf(copy / CDF.replace("55011271", "60457274"), np.zeros((7, 31, 3)))
    pixels = copy / "S11/MyPoseFeatures/D2_Positions/TakingPhoto 1.54138969.cdf"
    pixels.write_bytes(b"not CDF")
    nan = tree._all_joints("S11", "TakingPhoto 1", "55011271", 7)[0] * 1000.0
    nan[5, 17] = np.nan
    tree.write_cdf(copy / "S11/MyPoseFeatures/D3_Positions_mono/TakingPhoto 1.55011271.cdf", nan)
    manifest = prepare_folder(copy, tmp_path / "out", "--no_images")
    names = {sequence["name"] for sequence in manifest["sequences"]}
    assert "S1_Photo_1_54138969" in names and not {n for n in names if "S1_Photo" in n and "54138969" not in n}
    assert "cannot be read as a CDF file" in said(manifest) and CDF.split("/")[-1] in said(manifest)
    assert "S1: Photo 1.58860488: no D3_Positions_mono of this camera" in said(manifest)
    assert "Pose is float64 (1, 7, 93), expected (1, F, 96)" in said(manifest)
    assert "TakingPhoto 1.54138969.cdf" in said(manifest) and "projected instead" in said(manifest)
    assert "1 joints are not finite, the first in frame 5" in said(manifest)
    joints, exact = columns_of(tmp_path / "out", "keypoints_3d", "keypoints_2d_gt")
    assert joints[rows_of(manifest, "S11_Photo_1_55011271")][5, 11, 3] == 0
    expected = seen("S11", "TakingPhoto 1", "54138969")[1]
    np.testing.assert_allclose(exact[rows_of(manifest, "S11_Photo_1_54138969"), :, :2], expected, atol=1e-2)


def test_cameras_of_metadata(copy, tmp_path):
    (copy / "metadata.xml").write_text(tree.metadata_xml(shift=10.0))
    manifest = prepare_folder(copy, tmp_path / "a", "--no_images")
    assert manifest["facts"]["intrinsics"] == "metadata.xml"
    np.testing.assert_allclose(columns_of(tmp_path / "a", "principal_point")[0][0], [522.5415, 525.45148], rtol=1e-6)
    (copy / "metadata.xml").write_text("<broken")
    manifest = prepare_folder(copy, tmp_path / "b", "--no_images")
    assert "the published table is used" in said(manifest)
    (copy / "metadata.xml").unlink()
    manifest = prepare_folder(copy, tmp_path / "c", "--no_images")
    assert manifest["facts"]["intrinsics"] == "published table: metadata.xml is not there" and not manifest["skipped"]


def test_a_disk_that_is_too_small_is_said_before(source, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(InputError, match="24 images need about .* leave them out with --no_images"):
        prepare_folder(source, tmp_path / "out")
    assert "24 images to extract, every 5 frames" in capsys.readouterr().err


def test_joints_in_the_world_are_not_taken_for_those_of_cameras(tmp_path):
    tree.write_cdf(tmp_path / "S1" / "MyPoseFeatures" / "D3_Positions" / "Sitting.cdf", np.zeros((3, 32, 3)))
    with pytest.raises(InputError, match="only D3_Positions, which are in the world"):
        prepare_folder(tmp_path, tmp_path / "out")


def test_half_extracted_subjects_and_resized_videos_are_named(copy, tmp_path, capsys):
    shutil.rmtree(copy / "S11" / "MyPoseFeatures")
    for camera in CAMERAS:
        (copy / "S1" / "MyPoseFeatures" / "D3_Positions_mono" / f"Directions.{camera}.cdf").unlink()
    manifest = prepare_folder(copy, tmp_path / "out")
    found = said(manifest)
    assert "S11/MyPoseFeatures/D3_Positions_mono: is missing: 4 sequences are left out" in found
    assert f"S1: Directions.{CAMERAS[3]}: no D3_Positions_mono of this camera: left out" in found
    assert "4 videos are of another size than their cameras" in capsys.readouterr().err  # the tree's are small
