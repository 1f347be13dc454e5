"""3DOH50K from its files to batches."""

import json

import numpy as np
import pytest
import roma
import torch

from datamodules.occluded_people import ThreeDOH
from noise2pose.errors import InputError
from scripts.prepare import main
from tests.datamodules import gendered_bodies, threedoh_tree


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    return gendered_bodies.write(tmp_path_factory.mktemp("bodies"))


def prepare(source, output, *more):
    return main(["threedoh", "--source", str(source), "--output", str(output), "--num_workers", "0", *more])


def truth(person, bodies):
    body, regressor = gendered_bodies.load(bodies, "neutral")
    known = person["community"]
    turned = roma.rotvec_to_rotmat(torch.tensor(known["pose"]).reshape(24, 3))
    mesh = body(turned[0], turned[1:], torch.tensor(known["shape"]), torch.tensor(known["trans"])).vertices
    return mesh.double().numpy(), regressor @ mesh.double().numpy()


@pytest.mark.parametrize("layout", ["publisher", "community"])
def test_both_layouts_give_the_same_people(tmp_path, bodies, layout):
    people = threedoh_tree.write(tmp_path / "source", bodies)
    assert prepare(tmp_path / "source", tmp_path / "out", "--layout", layout) == 0
    module = ThreeDOH(root=str(tmp_path / "out"), bodies=str(bodies), keypoints_2d="detected")
    batch = module.finish(module.load("test"), training=False)
    assert len(batch["sample_id"]) == threedoh_tree.PEOPLE and not batch["gender"].any()
    assert batch["camera"]["image_size"].tolist() == [list(threedoh_tree.SIZE)] * threedoh_tree.PEOPLE
    for index, person in enumerate(people.values()):
        mesh, joints = truth(person, bodies)
        np.testing.assert_allclose(batch["vertices"][index], mesh, atol=5e-5)
        np.testing.assert_allclose(batch["keypoints_3d"][index, :, :3], joints, atol=5e-5)
    found = np.array(people["00003"]["community"]["hrnet_results"])
    low, high = found[:, :2].min(axis=0), found[:, :2].max(axis=0)
    middle, half = (low + high) / 2, 0.6 * (high - low)  # DPMesh's box: 1.2 of each side, cut, then 1.1 of the longer
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half, threedoh_tree.SIZE)
    np.testing.assert_allclose(batch["box"][3], [*(low + high) / 2, 1.1 * (high - low).max()], rtol=1e-4)
    if layout == "publisher":
        exact = ThreeDOH(root=str(tmp_path / "out"), bodies=str(bodies)).load("test")
        pixels = truth(people["00003"], bodies)[1] @ threedoh_tree.INTRINSICS.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        seen = exact["keypoints_2d"][3, :, 2] > 0
        assert seen.sum() > 8
        np.testing.assert_allclose(exact["keypoints_2d"][3, seen, :2], pixels[seen.numpy()], atol=0.02)
        expected = np.array(people["00003"]["smpl_joints_3d"])
        extrinsics = np.array(people["00003"]["extri"])
        expected = (expected @ extrinsics[:3, :3].T + extrinsics[:3, 3]) / threedoh_tree.SCALE
        np.testing.assert_allclose(exact["smpl_joints"][3], expected, atol=1e-5)
    else:
        with pytest.raises(InputError, match="no cameras to project with: take detected"):
            ThreeDOH(root=str(tmp_path / "out"), bodies=str(bodies)).load("test")


def test_someone_undetected_is_boxed_as_annotated(tmp_path, bodies):
    people = threedoh_tree.write(tmp_path / "source", bodies)
    assert prepare(tmp_path / "source", tmp_path / "out") == 0
    bounds = np.load(tmp_path / "out" / "bounds.npy")[threedoh_tree.UNDETECTED]
    np.testing.assert_allclose(bounds, np.ravel(people[f"{threedoh_tree.UNDETECTED:05d}"]["bbox"]), rtol=1e-5)


def test_training_split_and_bare_folders(tmp_path, bodies):
    threedoh_tree.write(tmp_path / "source", bodies, ("trainset", "testset"), community=False)
    assert prepare(tmp_path / "source", tmp_path / "out") == 0
    module = ThreeDOH(root=str(tmp_path / "out"), bodies=str(bodies))
    assert len(module.load("train")["sample_id"]) == threedoh_tree.PEOPLE
    with pytest.raises(InputError, match="no sequence for val"):
        module.load("val")
    with pytest.raises(InputError, match="has no detections"):
        ThreeDOH(root=str(tmp_path / "out"), bodies=str(bodies), keypoints_2d="detected").load("test")
    assert prepare(tmp_path / "source" / "trainset", tmp_path / "bare") == 0
    manifest = json.loads((tmp_path / "bare" / "dataset.json").read_text())
    assert manifest["counts"]["train: people"] == threedoh_tree.PEOPLE


def test_what_is_wrong_is_named_and_the_rest_is_prepared(tmp_path, bodies, capsys):
    source = tmp_path / "source"
    threedoh_tree.write(source, bodies, community=False)
    path = source / "testset" / "annots.json"
    people = json.loads(path.read_text())
    people["00000"]["pose"][0][3] = float("nan")
    del people["00001"]["intri"]
    (source / "testset" / "images" / "00002.jpg").unlink()
    (source / "testset" / "images" / "00003.jpg").write_bytes(b"no image")
    people["00004"]["smpl_joints_3d"][0] = [0.0, 0.0, 1.0]  # still projects, on the whole
    people["00005"]["smpl_joints_3d"] = (np.array(people["00005"]["smpl_joints_3d"]) * 2).tolist()
    text = json.dumps(people)
    path.write_text(text[:-1] + ', "00004": {"pose": []}}')
    assert prepare(source, tmp_path / "out") == 1
    printed = capsys.readouterr().err
    for line in (
        "person 00000: has a `pose` with NaN or infinity; skipped",
        "person 00001: has no `intri`; skipped",
        "person 00002: has an image that is missing; skipped",
        "person 00003: has an image that cannot be opened",
        "00004: the key comes twice; the first counts",
    ):
        assert line in printed
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert manifest["rows"] == 2
    assert manifest["counts"]["test: people whose 24 joints are missing or do not project on their pixels"] == 1


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"a": 1}', '{"00000": {"pose": [1'])
def test_broken_annotations_stop_with_one_line(tmp_path, capsys, content):
    (tmp_path / "testset").mkdir()
    (tmp_path / "testset" / "annots.json").write_text(content)
    assert prepare(tmp_path, tmp_path / "out") == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1 and "annots.json" in error[0]


def test_another_folder_is_not_3doh(tmp_path, capsys):
    (tmp_path / "some.json").write_text("{}")
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "is not 3DOH50K: found neither testset/annots.json nor" in capsys.readouterr().err
