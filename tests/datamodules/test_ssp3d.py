"""SSP-3D from its files to the error of a shape."""

import numpy as np
import pytest
import torch

from datamodules.evaluation_people import SSP3D
from methods.evaluation import EvaluationSet
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from scripts.prepare import main
from tests.datamodules import gendered_bodies, ssp3d_tree

GENDERS = {"m": "male", "f": "female"}


def prepare(source, output):
    return main(["ssp3d", "--source", str(source), "--output", str(output), "--num_workers", "0"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    gendered_bodies.write(folder / "bodies")
    arrays = ssp3d_tree.write(folder / "ssp_3d", folder / "bodies")
    assert prepare(folder / "ssp_3d", folder / "out") == 0
    return folder, arrays


def batch_of(folder):
    module = SSP3D(root=str(folder / "out"), bodies=str(folder / "bodies"))
    return module, module.finish(module.load("test"), training=False)


def test_people_are_those_of_the_file(home):
    folder, arrays = home
    module, batch = batch_of(folder)
    assert batch["gender"].tolist() == [1, 2, 2, 1, 2] and batch["camera"]["image_size"].unique().tolist() == [512.0]
    for index in range(ssp3d_tree.PEOPLE):
        mesh = ssp3d_tree.vertices(arrays, index, folder / "bodies")
        np.testing.assert_allclose(batch["vertices"][index], mesh, atol=2e-4)
        pixels = mesh[:, :2] / mesh[:, 2:] * ssp3d_tree.FOCAL + 256.0
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        np.testing.assert_allclose(batch["box"][index, :2], (low + high) / 2, atol=0.1)  # not row and column exchanged
        np.testing.assert_allclose(batch["box"][index, 2], 1.2 * (high - low).max(), rtol=1e-3)
    with pytest.raises(InputError, match="ssp3d has no train data"):
        module.load("train")


def naive(pred, target, gender, bodies):
    """PVE-T-SC in mm, as SSP-3D's metrics.py computes it, by the mesh of the true gender."""
    body, _ = gendered_bodies.load(bodies, GENDERS[gender])
    rest = torch.eye(3).expand(24, 3, 3)
    meshes = [body(rest[0], rest[1:], betas).vertices.double().numpy() for betas in (pred, target)]
    centred = [mesh - mesh.mean(axis=0) for mesh in meshes]
    sizes = [np.sqrt((mesh**2).sum() / len(mesh)) for mesh in centred]
    moved = centred[0] / sizes[0] * sizes[1] + meshes[1].mean(axis=0)
    return 1000.0 * np.linalg.norm(moved - meshes[1], axis=1).mean()


def measured(batch, betas, body):
    evaluation = EvaluationSet(SSP3D(root="nowhere").protocols("test")[0])
    joints = batch["keypoints_3d"][..., :3]
    evaluation.update(batch, {"joints_3d": joints, "smpl": {**batch["smpl"], "betas": betas}}, body)
    return evaluation.compute(1, False)


def test_the_error_of_a_shape_is_the_publishers(home):
    folder, arrays = home
    _, batch = batch_of(folder)
    body, _ = gendered_bodies.load(folder / "bodies", "neutral")
    true = batch["smpl"]["betas"]
    betas = true + torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    expected = [
        naive(betas[i], true[i], str(arrays["genders"][i]), folder / "bodies") for i in range(ssp3d_tree.PEOPLE)
    ]
    assert float(measured(batch, betas, body)["pve_t_sc"]) == pytest.approx(np.mean(expected), rel=1e-4)
    assert float(measured(batch, true, body)["pve_t_sc"]) < 1e-3
    exchanged = {**batch, "rest_basis": batch["rest_basis"].flip(0)}  # the other gender's mesh for some
    assert float(measured(exchanged, betas, body)["pve_t_sc"]) != pytest.approx(np.mean(expected), rel=1e-3)
    assert "pve_t_sc" not in measured(batch, betas, BodyModel.load("free"))  # whose betas mean something else


def test_what_is_wrong_is_named_and_the_rest_is_prepared(tmp_path, home, capsys):
    folder, arrays = home
    source = tmp_path / "ssp_3d"
    ssp3d_tree.write(source, folder / "bodies")
    (source / "images" / "person_0.png").unlink()
    changed = {key: value.copy() for key, value in arrays.items()}
    changed["genders"][1], changed["shapes"][2, 3], changed["bbox_whs"][3] = "x", np.nan, 0.0
    np.savez(source / "labels.npz", **changed)
    assert prepare(source, tmp_path / "out") == 1
    printed = capsys.readouterr().err
    for line in (
        "row 0 (person_0.png): has an image that is missing or cannot be opened; skipped",
        "row 1 (person_1.png): has a `genders` that is neither m nor f; skipped",
        "row 2 (person_2.png): has a `shapes` with NaN or infinity; skipped",
        "row 3 (person_3.png): has a `bbox_whs` that is not above 0; skipped",
    ):
        assert line in printed
    assert len(np.load(tmp_path / "out" / "betas.npy")) == 1


@pytest.mark.parametrize(
    "change, message",
    [({"shapes": None}, "has no `shapes`"), ({"genders": np.array(["m"])}, "`genders` has another number of rows")],
)
def test_broken_labels_stop_with_one_line(tmp_path, home, capsys, change, message):
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "labels.npz", **{k: v for k, v in {**home[1], **change}.items() if v is not None})
    assert prepare(tmp_path, tmp_path / "out") in (1, 2)
    assert message in capsys.readouterr().err


def test_another_folder_is_refused(tmp_path, capsys):
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "is not SSP-3D: found no labels.npz beside a folder images" in capsys.readouterr().err
