"""CMU Panoptic from the downloads of its toolbox: every rule against a naive reference, and faults."""

import argparse
import json
import pickle
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.preparation import prepare
from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.common import video_frames
from datamodules.sources.panoptic import files as panoptic_files
from noise2pose import skeletons
from noise2pose.errors import InputError
from scripts import prepare as command
from tests.datamodules import panoptic_tree

SEQUENCE = "160422_haggling1"


def run(source: Path, output: Path, *options: str) -> PreparedFolder:
    parser = argparse.ArgumentParser()
    panoptic_files.add_options(parser)
    prepare(panoptic_files.plan(source, output, parser.parse_args(options)), output, 0)
    return PreparedFolder(output, "panoptic")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def skipped(folder: PreparedFolder) -> str:
    return "\n".join(f"{file}: {reason}" for file, reason in folder.manifest["skipped"])


def scene_path(source: Path, frame: int) -> Path:
    return source / SEQUENCE / "hdPose3d_stage1_coco19" / f"body3DScene_{frame:08d}.json"


def camera_of(source: Path, name: str, sequence: str = SEQUENCE) -> dict:
    calibration = json.loads((source / sequence / f"calibration_{sequence}.json").read_text())
    return next(camera for camera in calibration["cameras"] if camera["name"] == name)


@pytest.mark.parametrize("joints, archive", [(19, False), (15, True), (19, True)])
def test_joints_are_where_opencv_sees_them(tmp_path, joints, archive):
    bodies = panoptic_tree.write(tmp_path / "a", joints=joints, archive=archive)[SEQUENCE]
    folder = run(tmp_path / "a", tmp_path / "out")
    row = 0
    for name in ("00_16", "00_30"):
        camera = {
            key: np.array(camera_of(tmp_path / "a", name)[key], dtype=float) for key in ("K", "distCoef", "R", "t")
        }
        for frame in (5, 6, 8):
            for entry in bodies[frame]:
                points = np.array(entry[f"joints{joints}"]).reshape(-1, 4)
                turned = cv2.Rodrigues(camera["R"])[0]
                pixels = cv2.projectPoints(points[:, :3].copy(), turned, camera["t"], camera["K"], camera["distCoef"])[
                    0
                ][:, 0]
                for joint in range(joints):
                    if joints == 15 and joint == 1:
                        continue  # the top of the head
                    placed = (camera["R"] @ points[joint, :3] + camera["t"][:, 0]) / 100.0
                    np.testing.assert_allclose(folder.column("keypoints_3d")[row, joint], [*placed, 1.0], atol=1e-5)
                    expected = [*pixels[joint], 1.0]
                    np.testing.assert_allclose(folder.column("keypoints_2d_gt")[row, joint], expected, atol=1e-3)
                known = pixels if joints == 19 else np.delete(pixels, 1, axis=0)
                bounds = [*known.min(axis=0), *known.max(axis=0)]
                np.testing.assert_allclose(folder.column("bounds")[row], bounds, atol=1e-3)
                if joints == 15:
                    absent = [1, 15, 16, 17, 18]
                    assert not folder.column("keypoints_3d")[row, absent].any()
                    assert not folder.column("keypoints_2d_gt")[row, absent].any()
                assert folder.column("frame")[row] == frame and folder.column("person")[row] == entry["id"]
                image = folder.images()[folder.column("picture")[row]]
                assert image == f"{SEQUENCE}/hdImgs/{name}/{name}_{frame:08d}.jpg"
                assert (folder.image_root() / image).is_file()
                row += 1
    assert row == folder.num_rows
    assert folder.column("valid").all()
    np.testing.assert_array_equal(folder.column("focal")[0], [70.0, 71.0])
    np.testing.assert_array_equal(folder.column("principal_point")[0], [47.5, 26.0])
    np.testing.assert_array_equal(folder.column("image_size")[0], panoptic_tree.SIZE)
    assert [s["group"] for s in folder.sequences] == ["haggling", "haggling"]
    assert folder.skeleton("keypoints_3d") == "panoptic_19"


def test_names_of_the_joints_are_the_publishers(tmp_path):
    published = "Neck Nose BodyCenter lShoulder lElbow lWrist lHip lKnee lAnkle rShoulder rElbow rWrist rHip rKnee "
    published += "rAnkle lEye lEar rEye rEar"
    names = {"Neck": "neck", "Nose": "nose", "BodyCenter": "pelvis"}
    sides = {"l": "left_", "r": "right_"}
    expected = [names.get(name) or sides[name[0]] + name[1:].lower() for name in published.split()]
    assert list(skeletons.get("panoptic_19").joints) == expected


def test_what_is_left_out_is_counted(tmp_path):
    bodies = panoptic_tree.write(tmp_path / "a", frames=(5,), people=5)[SEQUENCE][5]
    for number, (key, value) in enumerate([(3, -1.0), (3, 0.0), (3, 0.1)]):  # of the first body's first joints
        bodies[0]["joints19"][4 * number + key] = value
    bodies[0]["joints19"][4 * 5] = float("nan")
    bodies[1]["id"] = -1
    bodies[2]["joints19"][3::4] = [-1.0] * 19
    bodies[3]["joints19"][0::4] = [x + 5000.0 for x in bodies[3]["joints19"][0::4]]  # fifty metres to the side
    for joint in range(19):  # behind the camera, where it would project into the image
        bodies[4]["joints19"][4 * joint + 2] -= 2000.0
    scene_path(tmp_path / "a", 5).write_bytes(panoptic_tree.scene(bodies))
    folder = run(tmp_path / "a", tmp_path / "out", "--cameras", "00_16")
    assert folder.num_rows == 1
    validity = folder.column("keypoints_3d")[0, :, 3]
    assert validity.tolist() == [0, 0, 0, 1, 1, 0] + [1] * 13
    assert not folder.column("keypoints_3d")[0, [0, 1, 2, 5]].any()
    assert np.isfinite(folder.column("keypoints_3d")).all()
    assert not folder.column("valid").any()  # without the body centre
    assert folder.manifest["counts"] == {
        "frames of a camera": 1,
        "left out: outlier, negative id": 1,
        "left out: outside the image": 2,
        "left out: without a joint that counts": 1,
        "not counted: green image, or no body centre": 1,
        "people": 1,
        "people with joints that are not numbers": 1,
    }


def test_green_images_do_not_count(tmp_path):
    panoptic_tree.write(tmp_path / "a", frames=(2944, 2945, 2954, 2955), images=None, people=1)
    folder = run(tmp_path / "a", tmp_path / "out", "--no_images")
    assert folder.column("valid").tolist() == [True, False, False, True] + [True] * 4
    assert (folder.column("picture") == -1).all()
    assert folder.manifest["picture_root"] is None


@pytest.mark.parametrize("deeper", ["", "panoptic-toolbox"])
def test_images_of_videos_are_written_once(tmp_path, deeper):
    source = tmp_path / "a" / deeper
    panoptic_tree.write(source, images="mp4", seed=3)
    panoptic_tree.write(source, ("160906_pizza1",), images="png", frames=(2,))
    folder = run(tmp_path / "a", tmp_path / "out")
    assert folder.manifest["picture_root"] == "images" and folder.num_rows == 16
    levels = {}
    for name in folder.images():
        with Image.open(tmp_path / "out" / "images" / name) as image:
            assert image.size == panoptic_tree.SIZE
            levels[name] = np.asarray(image).mean()
    # Brightness tells the number of the frame: frame 0 is the first one.
    first, second, third = (levels[f"{SEQUENCE}/00_16/{frame:06d}.jpg"] for frame in (5, 6, 8))
    assert third - second == pytest.approx(2 * (second - first), rel=0.2) and second > first
    assert f"160906_pizza1/00_30/00_30_{2:08d}.png" in levels


def test_endings_in_capitals(tmp_path):
    panoptic_tree.write(tmp_path / "a", images="mp4", seed=3)
    panoptic_tree.write(tmp_path / "a", ("160906_pizza1",), images="png", frames=(2,))
    for path in [*tmp_path.rglob("*.mp4"), *tmp_path.rglob("*.png")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    folder = run(tmp_path / "a", tmp_path / "out")
    assert (folder.column("picture") >= 0).all() and not folder.manifest["skipped"]


def test_images_of_another_video_are_written_again(tmp_path):
    panoptic_tree.write(tmp_path / "a", images="mp4", seed=3)
    run(tmp_path / "a", tmp_path / "out")
    panoptic_tree.write(tmp_path / "a", images="mp4", seed=4)
    run(tmp_path / "a", tmp_path / "out")
    run(tmp_path / "a", tmp_path / "anew")
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")


def test_interrupted_work_is_continued_and_gives_the_same_bytes(tmp_path, monkeypatch):
    panoptic_tree.write(tmp_path / "a", (SEQUENCE, "160906_pizza1"), images="mp4", archive=True)
    run(tmp_path / "a", tmp_path / "whole")
    write, written = video_frames._write_jpeg, []

    def stop(target, pixels):
        if len(written) % 4 == 3:
            target.with_name(target.name + ".partial").write_bytes(b"half")
            written.append(None)
            raise KeyboardInterrupt
        written.append(target.name)
        write(target, pixels)

    monkeypatch.setattr(video_frames, "_write_jpeg", stop)
    stops = 0
    while True:
        try:
            run(tmp_path / "a", tmp_path / "stopped")
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 3 and len([name for name in written if name]) == 12  # nothing was written twice
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_list_of_frames(tmp_path):
    panoptic_tree.write(tmp_path / "a", frames=(5, 6, 7, 8))
    lists = tmp_path / "lists"
    lists.mkdir()
    names = ["00_16/00_16_00000006.png", "00_30/00_30_00000008.png", "00_30/00_30_00000005.png"]
    published = [{"filename": f"processed/{SEQUENCE}/{name}", "kpts3d": np.zeros((1, 24, 4))} for name in names]
    (lists / f"{SEQUENCE}.pkl").write_bytes(pickle.dumps(published))
    folder = run(tmp_path / "a", tmp_path / "out", "--frames", str(lists))
    assert folder.column("frame").tolist() == [6, 6, 5, 5, 8, 8] and folder.facts["frames"] == "listed"
    (lists / f"{SEQUENCE}.txt").write_text("7.0\n8\n99\n")
    folder = run(tmp_path / "a", tmp_path / "text", "--frames", str(lists))
    assert folder.column("frame").tolist() == [7, 7, 8, 8] * 2
    assert "1 listed frames of camera 00_16 are not annotated" in skipped(folder)
    folder = run(tmp_path / "a", tmp_path / "every", "--every", "3", "--cameras", "00_30,00_03", "--no_images")
    assert [s["name"] for s in folder.sequences] == [f"{SEQUENCE}.00_30", f"{SEQUENCE}.00_03"]
    assert folder.column("frame").tolist() == [5, 5, 8, 8] * 2


def test_a_page_in_the_place_of_an_archive_is_one_line(tmp_path):
    panoptic_tree.write(tmp_path / "a", ("160422_haggling1", "160906_pizza1"), archive=True)
    (tmp_path / "a" / SEQUENCE / "hdPose3d_stage1_coco19.tar").write_text("<html>404</html>")
    folder = run(tmp_path / "a", tmp_path / "out")
    assert all("\n" not in reason for _, reason in folder.manifest["skipped"])
    assert "hdPose3d_stage1_coco19.tar: truncated or no archive (file could not be opened" in skipped(folder)


def test_a_half_extracted_archive_is_completed_from_the_archive(tmp_path):
    panoptic_tree.write(tmp_path / "whole")
    panoptic_tree.write(tmp_path / "half")
    panoptic_tree.write(tmp_path / "half", archive=True)
    scene_path(tmp_path / "half", 6).unlink()
    scene_path(tmp_path / "half", 8).write_text('{"bodies": [{"id"')
    folders = [run(tmp_path / name, tmp_path / f"{name}_out") for name in ("whole", "half")]
    np.testing.assert_array_equal(*[folder.column("keypoints_3d") for folder in folders])
    assert not folders[1].manifest["skipped"]


def truncate(path: Path, number: int = 30) -> None:
    path.write_bytes(path.read_bytes()[:-number])


def edit(source: Path, frame: int, change) -> None:
    text = json.loads(scene_path(source, frame).read_text())
    change(text)
    scene_path(source, frame).write_text(json.dumps(text))


def test_faults_of_a_frame_are_named_and_the_rest_is_prepared(tmp_path):
    source = tmp_path / "a"
    panoptic_tree.write(source, frames=tuple(range(1, 9)))
    truncate(scene_path(source, 1))
    scene_path(source, 2).write_text("[]")
    edit(source, 3, lambda text: text["bodies"].append(text["bodies"][0]))
    edit(source, 4, lambda text: text["bodies"][0].pop("joints19"))
    edit(source, 5, lambda text: text["bodies"][0].update(joints19=[1.0, 2.0]))
    edit(source, 6, lambda text: text.update(bodies=[]))
    (source / SEQUENCE / "hdImgs" / "00_30" / "00_30_00000007.jpg").unlink()
    folder = run(source, tmp_path / "out")
    names = skipped(folder)
    assert "body3DScene_00000001.json: truncated, or no frame of the Panoptic Studio (JSONDecodeError)" in names
    assert "body3DScene_00000002.json: truncated, or no frame of the Panoptic Studio (TypeError)" in names
    assert "body3DScene_00000003.json: id 0 twice; the first one counts" in names
    assert "body3DScene_00000004.json: body 0 without joints19 or joints15; 1 more like it" in names
    assert "00_30: 1 annotated frames are not there, first 00000007" in names
    assert len(names.splitlines()) == 5
    assert folder.column("frame").tolist() == [3, 3, 4, 5, 7, 7, 8, 8] + [3, 3, 4, 5, 8, 8]


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda home: truncate(home / f"calibration_{SEQUENCE}.json"), "not a calibration"),
        (lambda home: (home / f"calibration_{SEQUENCE}.json").unlink(), f"no calibration_{SEQUENCE}.json"),
        (lambda home: (home / f"calibration_{SEQUENCE}.json").write_text('{"cameras": []}'), "has no camera 00_16"),
        (lambda home: (home / "hdPose3d_stage1_coco19.tar").unlink(), "no annotations"),
        (lambda home: (home / "hdPose3d_stage1_coco19.tar").write_bytes(b"no archive"), "truncated or no archive"),
        (lambda home: truncate(home / "hdPose3d_stage1_coco19.tar", 4_240), "frames up to there: 2"),
        (lambda home: (home / "hdVideos" / "hd_00_16.mp4").write_bytes(b"no video"), "cannot be read as a video"),
        (lambda home: (home / "hdVideos" / "hd_00_16.mp4").unlink(), "neither hdImgs/00_16 nor hdVideos/hd_00_16.mp4"),
    ],
)
def test_faults_of_a_sequence_are_named_and_the_rest_is_prepared(tmp_path, capsys, damage, reason):
    source = tmp_path / "a"
    panoptic_tree.write(source, (SEQUENCE, "160906_pizza1"), images="mp4", archive=True)
    damage(source / SEQUENCE)
    assert (
        command.main(["panoptic", "--source", str(source), "--output", str(tmp_path / "out"), "--num_workers", "0"])
        == 1
    )
    names = [line for line in capsys.readouterr().err.splitlines() if reason in line]
    assert len(names) == 1 and SEQUENCE in names[0]
    assert "160906_pizza1.00_16" in {s["name"] for s in PreparedFolder(tmp_path / "out", "panoptic").sequences}


def test_a_camera_that_sees_nobody_and_a_video_of_another_size(tmp_path):
    source = tmp_path / "a"
    panoptic_tree.write(source, images="mp4")
    path = source / SEQUENCE / f"calibration_{SEQUENCE}.json"
    calibration = json.loads(path.read_text())
    calibration["cameras"][0]["t"][2] = [-9000.0]
    calibration["cameras"][1]["resolution"] = [100, 54]
    path.write_text(json.dumps(calibration))
    with pytest.raises(
        InputError,
        match="camera 00_16 sees no person in 3 annotated frames.*96 x 54 pixels, but its camera has 100 x 54",
    ):
        run(source, tmp_path / "out")
    folder = run(source, tmp_path / "out", "--no_images")
    assert folder.num_rows == 6 and "sees no person" in skipped(folder)


def test_wrong_folders_and_options(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="no sequence of the Panoptic Studio here or one folder deeper, expected SEQ"):
        run(tmp_path / "a", tmp_path / "out")
    with pytest.raises(InputError, match="--source: .*nowhere is no folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    panoptic_tree.write(tmp_path / "a")
    with pytest.raises(InputError, match="--every 0"):
        run(tmp_path / "a", tmp_path / "out", "--every", "0")
    with pytest.raises(InputError, match="--frames: .* is no folder"):
        run(tmp_path / "a", tmp_path / "out", "--frames", str(tmp_path / "b"))
    with pytest.raises(InputError, match="160422_haggling1.pkl does not exist"):
        run(tmp_path / "a", tmp_path / "out", "--frames", str(tmp_path))
    panoptic_tree.write(tmp_path / "a" / "again")
    assert "sequence 160422_haggling1 is in" in skipped(run(tmp_path / "a", tmp_path / "out"))
    with tarfile.open(tmp_path / "a" / SEQUENCE / "hdPose3d_stage1.tar", "w"):
        pass
    assert run(tmp_path / "a" / SEQUENCE, tmp_path / "one").num_rows == 12  # the folder of a sequence itself
