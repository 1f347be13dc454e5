"""3DPW and 3DOH50K from the publisher's files to the numbers of a method that is trained on them."""

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.occluded_people import ThreeDOH, ThreeDPW
from methods.hmr import HMR
from noise2pose.metrics.protocols import MESH_JOINTS
from scripts.prepare import main
from tests.datamodules import gendered_bodies, threedoh_tree, threedpw_tree
from tests.datamodules.gendered_bodies import load


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Both data sets, prepared, and their bodies."""
    home = tmp_path_factory.mktemp("home")
    bodies = gendered_bodies.write(home / "bodies")
    videos = ("courtyard_backpack_00", "courtyard_dancing_00", "downtown_bar_00", "downtown_stairs_00")
    threedpw_tree.write(home / "3DPW", bodies, videos=videos)
    threedoh_tree.write(home / "3DOH", bodies)
    for name, source in (("threedpw", "3DPW"), ("threedoh", "3DOH")):
        assert main([name, "--source", str(home / source), "--output", str(home / name), "--num_workers", "0"]) == 0
    return home


def method(home):
    L.seed_everything(3, verbose=False)
    body = str(home / "bodies" / "smpl_neutral.npz")
    return HMR(input="keypoints", width=16, hidden=16, vertex_weight=0.0, warmup_steps=1, body=body)


def trainer(home, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return L.Trainer(default_root_dir=home, accelerator="cpu", enable_checkpointing=False, **quiet, **options)


def procrustes(pred, target):
    """The similarity that brings (J, 3) closest to the target, in NumPy."""
    a, b = pred - pred.mean(axis=0), target - target.mean(axis=0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation, scale = (u * sign) @ vt, (s * sign).sum() / (a**2).sum()
    return scale * a @ rotation + target.mean(axis=0)


def naive(answer, batch, bodies, genders, vertex_root):
    """MPJPE, PA-MPJPE and vertex error in mm: gendered meshes against neutral ones, one person after the other."""
    known = {gender: load(bodies, gender) for gender in ("neutral", "male", "female")}
    neutral, regressor = known["neutral"]
    pelvis = neutral.joint_regressor[0].double().numpy()
    errors = []
    for i, gender in enumerate(genders):
        body, own = known[gender]
        turned = {key: value[i] for key, value in batch["smpl"].items()}
        truth = body(**turned).vertices.double().numpy()
        mesh = neutral(**{key: value[i] for key, value in answer["smpl"].items()}).vertices.double().numpy()
        target, pred = own @ truth, regressor @ mesh
        roots = (target[0], pred[0]) if vertex_root == "skeleton" else (pelvis @ truth, pelvis @ mesh)
        vertices = np.linalg.norm((mesh - roots[1]) - (truth - roots[0]), axis=1).mean()
        target, pred = (target - target[0])[list(MESH_JOINTS)], (pred - pred[0])[list(MESH_JOINTS)]
        joints = np.linalg.norm(pred - target, axis=1).mean()
        errors.append((joints, np.linalg.norm(procrustes(pred, target) - target, axis=1).mean(), vertices))
    return 1000.0 * np.mean(errors, axis=0)


@pytest.mark.parametrize("subset", ["all", "oc", "crowd"])
def test_numbers_on_3dpw_compare_a_neutral_answer_with_gendered_truth(home, subset):
    model = method(home)
    options = {"root": str(home / "threedpw"), "bodies": str(home / "bodies"), "batch_size": 4, "eval_batch_size": 16}
    trainer(home, fast_dev_run=True).fit(model, datamodule=ThreeDPW(**options))
    data = ThreeDPW(subset=subset, **options, protocol="threedpw_24")
    measured = trainer(home).test(model, datamodule=data, verbose=False)[0]
    batch = data.load("test")
    with torch.no_grad():
        answer = model.eval()(batch)
    genders = [("neutral", "male", "female")[g] for g in batch["gender"].tolist()]
    assert len(set(genders)) == 2
    root = "skeleton" if subset == "all" else "smpl"
    expected = naive(answer, batch, home / "bodies", genders, root)
    name = "threedpw" if subset == "all" else f"threedpw_{subset}"
    found = [measured[f"test/{name}/{metric}"] for metric in ("mpjpe", "pa_mpjpe", "pve")]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert ("test/threedpw/mpjpe_24" in measured) == (subset == "all")
    wrong = naive(answer, batch, home / "bodies", ["neutral"] * len(genders), root)
    assert abs(wrong[0] - expected[0]) > 0.2  # millimetres that the gender is worth here


def test_numbers_on_3doh(home):
    model = method(home)
    data = ThreeDOH(root=str(home / "threedoh"), bodies=str(home / "bodies"), keypoints_2d="detected")
    measured = trainer(home).test(model, datamodule=data, verbose=False)[0]
    batch = data.load("test")
    with torch.no_grad():
        answer = model.eval()(batch)
    expected = naive(answer, batch, home / "bodies", ["neutral"] * len(batch["gender"]), "smpl")
    found = [measured[f"test/threedoh/{metric}"] for metric in ("mpjpe", "pa_mpjpe", "pve")]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
