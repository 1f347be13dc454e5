import numpy as np
import pytest
import roma
import smplx.lbs
import torch
from torch.utils.flop_counter import FlopCounterMode

from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.bodies import files as body_files
from noise2pose.errors import InputError


def parameters(count, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    rotations = roma.random_rotmat((count, 24), dtype=dtype)
    return rotations[:, 0], rotations[:, 1:], torch.randn(count, 10, dtype=dtype), torch.randn(count, 3, dtype=dtype)


@pytest.fixture(scope="module")
def arrays():
    """The shipped body with pose directions, which the free body has not and official files have."""
    with np.load(body_files.FREE_BODY) as file:
        arrays = dict(file)
    generator = np.random.default_rng(0)
    arrays["posedirs"] = (0.001 * generator.normal(size=(6890, 3, 207))).astype(np.float32)
    return arrays


@pytest.fixture(params=[False, True], ids=["free body", "with pose directions"])
def body(request, arrays, tmp_path):
    if not request.param:
        return BodyModel.load("free")
    np.savez(tmp_path / "body.npz", **arrays)
    return BodyModel.load(tmp_path / "body.npz")


def test_skinning_equals_smplx(body, arrays):
    orient, pose, betas, translation = parameters(3)
    posed = body(orient, pose, betas, translation)
    with_directions = body.pose_directions is not None and bool((body.pose_directions != 0).any())
    directions = torch.from_numpy(arrays["posedirs"]).reshape(-1, 207).T if with_directions else torch.zeros(207, 20670)
    vertices, joints = smplx.lbs.lbs(
        betas,
        torch.cat((orient[:, None], pose), dim=1),
        torch.from_numpy(arrays["v_template"])[None],
        torch.from_numpy(arrays["shapedirs"][..., :10]),
        directions,
        torch.from_numpy(arrays["J_regressor"]),
        torch.from_numpy(arrays["kintree_table"][0].astype(np.int32)).long(),
        torch.from_numpy(arrays["weights"]),
        pose2rot=False,
    )
    assert torch.allclose(posed.vertices, vertices + translation[:, None], atol=1e-5)
    assert torch.allclose(posed.joints, joints + translation[:, None], atol=1e-5)


@pytest.mark.parametrize("regressor", ["h36m_17", "smpl_24"])
def test_the_joint_only_path_equals_the_mesh(body, arrays, regressor):
    orient, pose, betas, translation = parameters(20, seed=1)
    posed = body(orient, pose, betas, translation)
    if regressor == "h36m_17":
        expected = torch.from_numpy(arrays["J_regressor_h36m"]) @ posed.vertices
    else:
        expected = posed.joints
    joints = body.joints(orient, pose, betas, translation, regressor=regressor)
    assert (joints - expected).abs().max() < 1e-5


def test_the_joint_only_path_is_much_less_work():
    body = BodyModel.load("free")
    given = parameters(64)

    def operations(function, **options):
        with FlopCounterMode(display=False) as counter:
            function(*given, **options)
        return counter.get_total_flops()

    # Counted, because seconds depend on what else the machine does.
    assert operations(body) > 100 * operations(body.joints, regressor="h36m_17")


def test_leading_dimensions_dtype_and_gradients():
    body = BodyModel.load("free", dtype=torch.float64)
    orient, pose, betas, translation = (x.unflatten(0, (2, 3)) for x in parameters(6, torch.float64))
    betas.requires_grad_()
    joints = body.joints(orient, pose, betas, translation, regressor="h36m_17")
    assert joints.shape == (2, 3, 17, 3) and joints.dtype == torch.float64
    flat = body.joints(*(x.flatten(0, 1) for x in (orient, pose, betas, translation)), regressor="h36m_17")
    assert torch.allclose(joints.flatten(0, 1), flat)
    joints.sum().backward()
    assert betas.grad is not None and betas.grad.isfinite().all() and (betas.grad != 0).any()
    assert not body.state_dict()  # a body is data, not weights


def test_the_rest_pose_stands_upright_with_the_left_at_plus_x():
    body = BodyModel.load("free")
    rest = body.rest_joints(torch.zeros(10))
    assert rest[15, 1] > rest[0, 1] > rest[7, 1]
    assert rest[16, 0] > 0 > rest[17, 0]
    tall = body.rest_joints(torch.tensor([2.0] + [0.0] * 9))
    assert abs(float(tall[15, 1] - tall[7, 1]) - float(rest[15, 1] - rest[7, 1])) > 0.1  # the first beta is height


def test_regressed_limbs_stay_at_their_joints_in_any_pose():
    """A regressor that takes vertices of other limbs agrees in the rest pose alone."""
    body, angles = BodyModel.load("free"), np.random.default_rng(0).normal(0.0, 0.4, (50, 24, 3))
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(angles).float())
    given = (rotations[:, 0], rotations[:, 1:], torch.randn(50, 10, generator=torch.Generator().manual_seed(0)))
    h36m, smpl = (skeletons.get(name).joints for name in ("h36m_17", "smpl_24"))
    regressed, kinematic = body.joints(*given), body.joints(*given, regressor="smpl_24")
    for joint in h36m:
        if joint in smpl and joint != "pelvis":
            error = (regressed[:, h36m.index(joint)] - kinematic[:, smpl.index(joint)]).norm(dim=-1)
            assert error.mean() < 0.01 and error.max() < 0.03, joint
    hips = (kinematic[:, 1] + kinematic[:, 2]) / 2.0
    assert (regressed[:, 0] - hips).norm(dim=-1).max() < 0.02


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda it: it.pop("weights"), "`weights` is missing"),
        (lambda it: it.update(J_regressor=it["J_regressor"][:, :100]), "`J_regressor` has shape"),
        (lambda it: it.update(shapedirs=it["shapedirs"][..., :4]), "`shapedirs`"),
        (lambda it: it.update(v_template=it["v_template"][:, :2]), "`v_template` has shape"),
        (lambda it: it["v_template"].__setitem__((3, 1), np.nan), "`v_template`"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(arrays, tmp_path, change, message):
    broken = {key: value.copy() for key, value in arrays.items()}
    change(broken)
    np.savez(tmp_path / "broken.npz", **broken)
    with pytest.raises(InputError, match=message) as error:
        BodyModel.load(tmp_path / "broken.npz")
    assert "broken.npz" in str(error.value)


def test_a_truncated_or_missing_file_is_named(arrays, tmp_path):
    np.savez(tmp_path / "half.npz", **arrays)
    whole = (tmp_path / "half.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("half.npz", "nowhere.npz"):
        with pytest.raises(InputError, match=name):
            BodyModel.load(tmp_path / name)
