"""COCO, Halpe, CrowdPose and MuCo as they are published: every rule against the tree."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from datamodules.preparation import prepare
from datamodules.prepared.folder import PreparedFolder
from datamodules.sources import coco as coco_files
from datamodules.sources import crowdpose as crowdpose_files
from datamodules.sources import halpe
from datamodules.sources import muco as muco_files
from noise2pose.errors import InputError
from scripts.prepare import main
from tests.datamodules import coco_family_tree as tree

FILES = {"coco": coco_files, "halpe": halpe, "crowdpose": crowdpose_files, "muco": muco_files}


def run(name, tmp_path, *options, change=None, status=0, source=None):
    """Writes a tree, changes it, and prepares it by the command line."""
    source = source or tmp_path / "source"
    getattr(tree, f"write_{name}")(source)
    if change is not None:
        change(source)
    arguments = [name, "--source", str(tmp_path / "source"), "--output", str(tmp_path / "out"), "--num_workers", "0"]
    assert main([*arguments, *options]) == status
    return PreparedFolder(tmp_path / "out", name) if status < 2 else None


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rows(folder, number):
    """Position of an annotation."""
    return int(np.flatnonzero(folder.column("person") == number)[0])


def test_coco(tmp_path, capsys):
    folder = run("coco", tmp_path)
    np.testing.assert_array_equal(folder.column("person"), [11, 12, 13, 21, 22])
    np.testing.assert_array_equal(folder.column("frame"), [101, 101, 102, 201, 202])
    assert [(s["name"], s["split"], s["start"], s["stop"]) for s in folder.sequences] == [
        ("train", "train", 0, 3),
        ("val", "val", 3, 5),
    ]
    keypoints = folder.column("keypoints_2d_gt")
    np.testing.assert_array_equal(keypoints[1, :, :2], tree.places(12, 17))
    assert (keypoints[1, :, 2] == 1).all()  # hidden and visible joints alike
    assert folder.column("visibility")[1, 9] == 1 and folder.column("visibility")[1, 8] == 2
    assert (keypoints[2, ::2] == 0).all() and (keypoints[2, 1::2, 2] == 1).all()
    low, high = tree.places(12, 17).min(axis=0), tree.places(12, 17).max(axis=0)
    np.testing.assert_array_equal(folder.column("bounds")[1], [*low, *high])
    np.testing.assert_array_equal(folder.column("image_size"), np.tile([320, 240], (5, 1)))
    names = [folder.images()[number] for number in folder.column("picture")]
    assert names[0] == names[1] == "train2017/000000000101.jpg" and names[4] == "val2017/000000000202.jpg"
    assert all((folder.image_root() / name).is_file() for name in names)
    # Bodies of 11 and 13.
    np.testing.assert_array_equal(folder.column("has_smpl"), [True, False, True, False, False])
    given = tree.body(13)
    np.testing.assert_allclose(folder.column("poses")[2].ravel(), given["pose"], rtol=1e-6)
    np.testing.assert_allclose(folder.column("betas")[2], given["shape"], rtol=1e-6)
    np.testing.assert_allclose(folder.column("translation")[2], given["trans"], rtol=1e-6)
    np.testing.assert_array_equal(folder.column("focal")[2], [1213, 1201])
    np.testing.assert_array_equal(folder.column("principal_point")[2], [160.5, 120.5])
    assert np.isnan(folder.column("focal")[[1, 3, 4]]).all()
    assert folder.skeleton("keypoints_2d_gt") == "coco_17" and "score" not in folder
    counts = folder.manifest["counts"]
    assert counts["train: images listed"] == 4 and counts["train: images with annotations"] == 3
    assert counts["train: people"] == 3 and counts["train: people with a fitted body"] == 2
    assert counts["train: annotations of crowds, left out"] == 1
    assert counts["train: annotations without labelled joints, left out"] == 1
    shown = capsys.readouterr()
    assert "found 4, published 118,287" in shown.err and "skipped" not in shown.err


def test_halpe(tmp_path, capsys):
    folder = run("halpe", tmp_path, status=1)
    np.testing.assert_array_equal(folder.column("person"), [1, 2, 3, 4, 5, 6, 7, 51])
    keypoints = folder.column("keypoints_2d_gt")
    assert keypoints.shape == (8, 26, 3)
    np.testing.assert_array_equal(keypoints[0, 0], np.float32([-3.5, 20.25, 0.8]))  # not clipped
    assert keypoints[0, 1, 2] == 1.0 and folder.column("visibility")[0, 1] == 1.25
    assert folder.manifest["counts"]["train: joints outside the image"] == 1
    names = folder.images()
    assert names[0] == "hico_20160224_det/images/train2015/HICO_train2015_00000001.jpg"
    assert names[len(names) - 1] == "val2017/000000000285.jpg"
    assert "skipped: halpe_train_v1.json: annotation 8: it has no keypoints\n" in capsys.readouterr().err


def test_halpe_cleansed_while_preparing(tmp_path, capsys):
    options = ("--cleanse", "--max_people", "2", "--min_side", "60")
    folder = run("halpe", tmp_path, *options, status=1)
    np.testing.assert_array_equal(folder.column("person"), [1, 51])
    counts = folder.manifest["counts"]
    assert [counts[f"train: cleansing, {reason}"] for reason in (
        "more than 2 people in the image",
        "a box under 60 pixels",
        "fewer than 10 of 14 joints seen",
        "fewer than 2 of 4 limbs seen",
        "kept",
    )] == [3, 1, 1, 1, 1]  # fmt: skip
    assert len(folder.images()) == 2 and folder.column("picture").tolist() == [0, 1]
    assert folder.facts["cleansing"]["max_people"] == 2 and "11,809" not in capsys.readouterr().out


def test_crowdpose(tmp_path):
    folder = run("crowdpose", tmp_path)
    np.testing.assert_array_equal(folder.column("person"), [1, 2, 3, 11, 12, 13, 21, 22, 23])
    np.testing.assert_array_equal(folder.column("image_size"), np.tile([320, 240], (9, 1)))  # whatever is annotated
    counts = folder.manifest["counts"]
    swapped = "images with width and height swapped, put right"
    assert [counts.get(f"{split}: {swapped}", 0) for split in ("train", "val", "test")] == [2, 0, 2]
    np.testing.assert_array_equal(folder.column("crowd_index"), [0.25, 0.25, 0.75] * 3)
    np.testing.assert_array_equal(folder.column("score")[:3], [2.5, 5.0, 7.5])
    assert folder.column("has_smpl")[:3].all() and not folder.column("has_smpl")[3:].any()
    assert counts["train: fitted bodies with fit_err below 5"] == 1
    assert counts["train: fitted bodies with fit_err of 5 and more"] == 2
    np.testing.assert_array_equal(folder.column("keypoints_2d_gt")[4, :, :2], tree.places(12, 14))


def test_ids_that_are_whole_floats(tmp_path):
    def change(source):
        def floats(content):
            for annotation in content["annotations"]:
                annotation |= {"id": float(annotation["id"]), "image_id": float(annotation["image_id"])}

        edit(source / "json" / "crowdpose_val.json", floats)
        edit(source / "json" / "crowdpose_test.json", lambda c: [i.update(id=float(i["id"])) for i in c["images"]])

    folder = run("crowdpose", tmp_path, change=change)
    np.testing.assert_array_equal(folder.column("person"), [1, 2, 3, 11, 12, 13, 21, 22, 23])
    assert (folder.column("frame") > 0).all()


def test_crowdpose_trainval_where_train_is_missing(tmp_path, capsys):
    def change(source):
        (source / "json" / "crowdpose_val.json").unlink()
        (source / "json" / "crowdpose_train.json").rename(source / "json" / "crowdpose_trainval.json")

    folder = run("crowdpose", tmp_path, change=change, status=1)
    assert [sequence["split"] for sequence in folder.sequences] == ["train", "test"]
    assert "crowdpose_trainval.json is taken as train" in capsys.readouterr().err


def test_muco(tmp_path):
    folder = run("muco", tmp_path)
    np.testing.assert_array_equal(folder.column("person"), [1, 2, 4])  # nearest of each image
    given = tree.muco_person(4, 2, 2500.0, np.array([1500.0, 1490.0]), np.array([160.0, 118.0]))
    keypoints = folder.column("keypoints_3d")
    np.testing.assert_allclose(keypoints[2, :, :3], np.array(given["keypoints_cam"]) / 1000, rtol=1e-5)
    assert (keypoints[..., 3] == 1).all() and (folder.column("keypoints_2d_gt")[..., 2] == 1).all()
    np.testing.assert_allclose(folder.column("keypoints_2d_gt")[2, :, :2], given["keypoints_img"], rtol=1e-5)
    np.testing.assert_allclose(keypoints[:, 14, 2], [3.0, 3.5, 2.5], rtol=1e-6)  # pelvis
    np.testing.assert_array_equal(folder.column("visibility")[:, 0], [0, 1, 1])
    np.testing.assert_array_equal(folder.column("focal"), np.tile([1500, 1490], (3, 1)))
    np.testing.assert_array_equal(folder.column("principal_point"), np.tile([160, 118], (3, 1)))
    np.testing.assert_array_equal(folder.column("has_smpl"), [True, False, True])
    np.testing.assert_allclose(folder.column("translation")[2], tree.body(4)["trans"], rtol=1e-6)
    assert "train: joints more than 5 pixels from their projection" not in folder.manifest["counts"]
    assert folder.images()[2] == "unaugmented_set/02/000002.jpg"


def test_muco_everybody_and_translations_in_millimetres(tmp_path):
    def change(source):
        scaled = {n: {**tree.body(n), "trans": [100.0, -200.0, 4000.0 + n]} for n in (0, 1, 4)}
        tree.write_json(source / "smpl_param.json", scaled)

    folder = run("muco", tmp_path, "--people", "all", change=change)
    np.testing.assert_array_equal(folder.column("person"), range(6))
    np.testing.assert_allclose(folder.column("translation")[4], [0.1, -0.2, 4.004], rtol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_files_may_lie_a_folder_deeper_and_images_elsewhere(name, tmp_path):
    def change(source):
        if name == "coco":  # as many keep them
            (tmp_path / "source" / "deep" / "images").mkdir()
            for split in ("train2017", "val2017"):
                shutil.move(source / split, source / "images" / split)

    folder = run(name, tmp_path, change=change, status=int(name == "halpe"), source=tmp_path / "source" / "deep")
    assert all((folder.image_root() / image).is_file() for image in folder.images())


@pytest.mark.parametrize("name", FILES)
def test_a_folder_of_something_else(name, tmp_path, capsys):
    def change(source):
        shutil.rmtree(source)
        source.mkdir()
        (source / "notes.json").write_text("{}")

    run(name, tmp_path, change=change, status=2)
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "not found" in error and str(tmp_path / "source") in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FILES)
def test_same_bytes_after_a_kill_and_with_more_processes(name, tmp_path, monkeypatch):
    source = tmp_path / "source"
    getattr(tree, f"write_{name}")(source)
    arguments = ["--source", str(source), "--num_workers"]
    assert main([name, "--output", str(tmp_path / "one"), *arguments, "0"]) < 2
    monkeypatch.setattr("datamodules.preparation.joining.np.lib.format.open_memmap", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # while the parts are joined
        main([name, "--output", str(tmp_path / "two"), *arguments, "0"])
    monkeypatch.undo()
    assert not (tmp_path / "two" / "dataset.json").exists()
    assert main([name, "--output", str(tmp_path / "two"), *arguments, "2"]) < 2
    content = [
        {path.name: path.read_bytes() for path in sorted((tmp_path / folder).rglob("*")) if path.is_file()}
        for folder in ("one", "two")
    ]
    assert content[0] == content[1] and "dataset.json" in content[0]


def test_a_number_of_processes_below_zero(tmp_path, capsys):
    tree.write_coco(tmp_path / "source")
    arguments = ["--source", str(tmp_path / "source"), "--output", str(tmp_path / "out"), "--num_workers", "-1"]
    assert main(["coco", *arguments]) == 2
    assert capsys.readouterr().err == "error: --num_workers is -1, expected at least 0\n"


def test_a_png_that_is_called_jpg_is_an_image(tmp_path):
    def change(source):
        Image.new("RGB", (320, 240)).save(source / "val2017" / "000000000201.jpg", format="PNG")

    assert run("coco", tmp_path, change=change).num_rows == 5


def test_the_plan_names_what_is_missing(tmp_path):
    tree.write_coco(tmp_path / "source")
    (tmp_path / "source" / "annotations" / "person_keypoints_val2017.json").unlink()
    plan = coco_files.plan(tmp_path / "source", tmp_path / "out", None)
    assert plan.skipped == [("person_keypoints_val2017.json", "not found")] and len(plan.parts) == 1
    assert prepare(plan, tmp_path / "out", 0)["counts"]["train: people"] == 3
    with pytest.raises(InputError, match="holds coco, expected halpe"):
        tree.write_halpe(tmp_path / "halpe")
        main_plan = plan._replace(dataset="halpe")
        prepare(main_plan, tmp_path / "out", 0)
