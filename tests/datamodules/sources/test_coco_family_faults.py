"""Faults in COCO, Halpe, CrowdPose and MuCo as they are published: each is named in a line, the rest is prepared."""

import shutil

import numpy as np
import pytest

from tests.datamodules import coco_family_tree as tree
from tests.datamodules.sources.test_coco_family_files import edit, run


def damage(source):
    """Every fault of single annotations and images that the family knows, in COCO's train."""

    def change(content):
        first, second, third = content["annotations"][:3]
        first["keypoints"][0:3] = [None, 5.0, 2]  # the nose
        second["keypoints"][3] = float("nan")  # the left eye
        third["bbox"] = [1, 2, 0, None]
        content["images"].append(dict(content["images"][0]))
        content["images"].append({"id": 300})
        content["images"].append({"id": 301, "file_name": "missing.jpg", "width": 320, "height": 240})
        content["images"].append({"id": 302, "file_name": "text.jpg", "width": 320, "height": 240})
        content["images"].append({"id": 303, "file_name": "other.jpg", "width": 320, "height": 240})
        good = tree.person(30, 101, tree.places(30, 17), 2)
        content["annotations"] += [
            {**good, "id": 11},
            {**good, "id": 31, "image_id": 999},
            {**good, "id": 32, "keypoints": "none"},
            {**good, "id": 33, "keypoints": good["keypoints"][:50]},
            {**good, "id": 34, "keypoints": [[1, 2, 2], [1, 2]]},
            {key: value for key, value in {**good, "id": 35}.items() if key != "keypoints"},
            {**good, "id": 36, "keypoints": [float("nan"), float("nan"), 2] + [0, 0, 0] * 16},
            {**good, "id": 37, "image_id": 301},
            {**good, "id": 38, "image_id": 302},
            {**good, "id": 39, "image_id": 303},
            {**good, "id": 40, "bbox": [], "keypoints": [5, 6, 2] + [0, 0, 0] * 16},
            "no annotation",
            {**good, "id": 2**63},
            {key: value for key, value in good.items() if key != "id"},
            good,
        ]

    edit(source / "annotations" / "person_keypoints_train2017.json", change)
    (source / "train2017" / "text.jpg").write_text("<html>404</html>")
    tree.write_image(source / "train2017" / "other.jpg", 160, 120)


def test_every_fault_is_one_line_and_the_rest_is_prepared(tmp_path, capsys):
    folder = run("coco", tmp_path, change=damage, status=1)
    np.testing.assert_array_equal(folder.column("person"), [11, 12, 13, 30, 21, 22])
    keypoints = folder.column("keypoints_2d_gt")
    assert np.isfinite(keypoints).all() and (keypoints[0, 0] == 0).all() and (keypoints[1, 1] == 0).all()
    seen = tree.places(13, 17)[1::2]  # its box is none
    np.testing.assert_array_equal(folder.column("bounds")[2], [*seen.min(axis=0), *seen.max(axis=0)])
    assert folder.manifest["counts"]["train: boxes taken from the joints"] == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    start = "skipped: person_keypoints_train2017.json: "
    assert all(line.startswith(start) for line in lines)
    assert {line.removeprefix(start) for line in lines} == {
        "image 101: an image of this id was there before",
        "entry 5 of images: it has no id or no file_name",
        "annotation 11: an annotation of this id was there before",
        "annotation 31: its image_id is not among the images",
        "annotation 32: its keypoints are no list of numbers, and 1 more like it",
        "annotation 33: its list of keypoints has the wrong length, expected 51",
        "annotation 35: it has no keypoints",
        "annotation 36: none of its joints is a number",
        "image train2017/missing.jpg: the image is missing; its people are left out",
        "image train2017/text.jpg: it is no image that can be read; its people are left out",
        "image train2017/other.jpg: it has another size than is annotated; its people are left out",
        "annotation 40: it has no box and only one joint",
        "entry 16 of annotations: it has no id that is a number, and 2 more like it",
        "nose of annotation 11: the joint is no number, and 1 more like it",
    }


@pytest.mark.parametrize("outside", ["../secret.jpg", "train2017/../../secret.jpg", "..\\secret.jpg", "{}/secret.jpg"])
def test_a_file_name_never_leads_out_of_the_source(outside, tmp_path, capsys):
    def change(source):
        def point(content):
            content["images"][0]["file_name"] = outside.format(tmp_path)

        tree.write_image(tmp_path / "secret.jpg", 320, 240)
        tree.write_image(source / "secret.jpg", 320, 240)
        edit(source / "annotations" / "person_keypoints_train2017.json", point)

    folder = run("coco", tmp_path, change=change, status=1)
    assert not any("secret" in name for name in folder.images())
    assert "its file_name leads out of the folder; its people are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, message",
    [('{"images": [', "cannot be read as JSON"), ("[]", "no list of images"), ('{"images": []}', "no list of annotat")],
)
def test_a_broken_annotation_file_leaves_the_other(text, message, tmp_path, capsys):
    def change(source):
        (source / "annotations" / "person_keypoints_train2017.json").write_text(text)

    folder = run("coco", tmp_path, change=change, status=1)
    assert [sequence["split"] for sequence in folder.sequences] == ["val"]
    error = capsys.readouterr().err
    assert message in error and "person_keypoints_train2017.json" in error and "Traceback" not in error


def test_a_half_extracted_archive(tmp_path, capsys):
    def change(source):
        shutil.rmtree(source / "train2017")
        (source / "annotations" / "MSCOCO_train_SMPL_NeuralAnnot.json").write_text('{"11": {"smpl_par')

    folder = run("coco", tmp_path, change=change, status=1)
    assert [sequence["split"] for sequence in folder.sequences] == ["val"]
    assert "looked for a folder train2017" in capsys.readouterr().err


def test_bodies_that_cannot_be_used(tmp_path, capsys):
    def change(source):
        def spoil(content):
            content["11"]["smpl_param"]["pose"][3] = float("nan")
            del content["13"]["cam_param"]
            content["12"] = 5

        edit(source / "annotations" / "MSCOCO_train_SMPL_NeuralAnnot.json", spoil)

    folder = run("coco", tmp_path, change=change, status=1)
    assert not folder.column("has_smpl").any() and "focal" not in folder
    error = capsys.readouterr().err
    assert "annotation 11: its body is not 72, 10 and 3 numbers; left out, and 1 more like it" in error
    assert "annotation 13: the camera of its body is not 2 and 2 numbers; left out" in error


def test_a_truncated_file_of_bodies_leaves_the_people(tmp_path, capsys):
    def change(source):
        (source / "smpl_param.json").write_text('{"1": {"pose": [0.1, ')

    folder = run("muco", tmp_path, change=change, status=1)
    assert folder.num_rows == 3 and "has_smpl" not in folder
    assert "people are prepared without bodies" in capsys.readouterr().err


def test_faults_of_muco(tmp_path, capsys):
    def change(source):
        def spoil(content):
            people, images = content["annotations"], content["images"]
            people[1]["keypoints_cam"][14][2] = None  # the pelvis of the nearest: nobody knows how near
            people[2]["keypoints_cam"] = people[2]["keypoints_cam"][:20]
            people[4]["keypoints_img"][0] = [float("nan"), 1.0]
            del people[5]["keypoints_img"], images[0]["f"]

        edit(source / "MuCo-3DHP.json", spoil)

    folder = run("muco", tmp_path, change=change, status=1)
    np.testing.assert_array_equal(folder.column("person"), [0, 4])
    assert folder.column("keypoints_3d")[1, 0].tolist() == [0, 0, 0, 0]
    assert np.isnan(folder.column("focal")[0]).all() and np.isfinite(folder.column("focal")[1]).all()
    error = capsys.readouterr().err
    for line in (
        "annotation 2: its keypoints_cam are not 21 x 3 numbers",
        "annotation 5: it has no keypoints_img",
        "head_top of annotation 4: the joint is no number",
        "image augmented_set/00/000000.jpg: it has no camera (f and c); its focal length is unknown",
    ):
        assert f"skipped: MuCo-3DHP.json: {line}\n" in error
