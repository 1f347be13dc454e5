import contextlib
import io
import pickle

import numpy as np
import pytest
import roma
import smplx
import torch

from noise2pose.bodies import BodyModel
from noise2pose.bodies.conversion import convert
from noise2pose.errors import InputError
from tests.noise2pose.published_bodies import COUNTS, PARENTS, Chumpy, h36m_regressor, published

LEGS_EXCHANGED = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of each model, and the regressor of Human3.6M's joints for two of them."""
    folder = tmp_path_factory.mktemp("published")
    for kind, name, betas in (
        ("smpl", "SMPL_MALE.pkl", 10),
        ("smplh", "SMPLH_FEMALE.pkl", 16),
        ("smplx", "SMPLX_NEUTRAL.npz", 400),
    ):
        entries = published(kind, betas)
        if name.endswith("pkl"):
            (folder / name).write_bytes(pickle.dumps(entries, 2))
        else:
            np.savez(folder / name, **entries)
        np.save(folder / f"h36m_{kind}.npy", h36m_regressor(entries["v_template"]))
    return folder


def parameters(joints, count=3):
    torch.manual_seed(0)
    rotations = roma.random_rotvec((count, joints))
    return rotations, torch.randn(count, 10), torch.randn(count, 3)


def run_smplx(folder, kind, rotvecs, betas, translation):
    pose = rotvecs.flatten(1)
    given = {"betas": betas, "transl": translation, "global_orient": pose[:, :3]}
    flat = {"use_pca": False, "flat_hand_mean": True, "batch_size": len(betas)}
    with contextlib.redirect_stdout(io.StringIO()):
        if kind == "smpl":
            model = smplx.SMPL(str(folder / "SMPL_MALE.pkl"), batch_size=len(betas))
            return model(**given, body_pose=pose[:, 3:])
        given["body_pose"] = pose[:, 3:66]
        if kind == "smplh":
            model = smplx.SMPLH(str(folder / "SMPLH_FEMALE.pkl"), ext="pkl", **flat)
            return model(**given, left_hand_pose=pose[:, 66:111], right_hand_pose=pose[:, 111:])
        model = smplx.SMPLX(str(folder / "SMPLX_NEUTRAL.npz"), **flat)
        face = {"jaw_pose": pose[:, 66:69], "leye_pose": pose[:, 69:72], "reye_pose": pose[:, 72:75]}
        return model(**given, **face, left_hand_pose=pose[:, 75:120], right_hand_pose=pose[:, 120:])


@pytest.mark.parametrize(
    "kind, name, gender",
    [
        ("smpl", "SMPL_MALE.pkl", "male"),
        ("smplh", "SMPLH_FEMALE.pkl", "female"),
        ("smplx", "SMPLX_NEUTRAL.npz", "neutral"),
    ],
)
def test_a_converted_body_equals_smplx(folder, tmp_path, kind, name, gender):
    regressor = folder / f"h36m_{kind}.npy"
    converted = convert(folder / name, tmp_path / "body.npz", {"h36m_17": regressor})
    assert converted.model.key == kind and "legs exchanged" in converted.notes[0]
    body = BodyModel.load(tmp_path / "body.npz")
    vertices, joints = COUNTS[kind]
    assert (body.model_type, body.gender) == (kind, gender) and body.parents == tuple(PARENTS[kind])
    assert len(body.joint_names) == joints and body.joint_names[:2] == ("pelvis", "left_hip")
    assert body.vertex_ids["nose"] == (9120 if kind == "smplx" else 332) and "rindex" in body.vertex_ids

    rotvecs, betas, translation = parameters(joints)
    rotations = roma.rotvec_to_rotmat(rotvecs)
    given = rotations[:, 0], rotations[:, 1:], betas, translation
    posed = body(*given)
    theirs = run_smplx(folder, kind, rotvecs, betas, translation)
    assert posed.vertices.shape[1] == vertices
    assert (posed.vertices - theirs.vertices).abs().max() < 1e-5
    assert (posed.joints - theirs.joints[:, :joints]).abs().max() < 1e-5
    # the joint-only path
    matrix = torch.from_numpy(np.load(regressor)[LEGS_EXCHANGED]).float()
    assert (body.joints(*given) - matrix @ posed.vertices).abs().max() < 1e-5
    assert torch.equal(body.joints(*given, regressor=body.regressors[0]), posed.joints)
    tree = {"smpl": "smpl_24", "smplh": "smplh_52", "smplx": "smplx_55"}[kind]
    face = ("face_51",) if kind == "smplx" else ()
    assert body.regressors == (tree, "h36m_17", *face, "coco_face")


@pytest.mark.parametrize("kind, name", [("smplh", "SMPLH_FEMALE.pkl"), ("smplx", "SMPLX_NEUTRAL.npz")])
def test_poses_of_smpl_turn_the_body_of_smplh_and_smplx(folder, tmp_path, kind, name):
    convert(folder / name, tmp_path / "body.npz")
    body = BodyModel.load(tmp_path / "body.npz")
    rotvecs, betas, translation = parameters(24)
    rotations = roma.rotvec_to_rotmat(rotvecs)
    full = body.complete(rotations[:, 1:])
    assert torch.equal(body.complete(rotations[:, 1:22]), full)  # the hands of SMPL are no joints here
    posed = body(rotations[:, 0], full, betas, translation)
    padded = torch.cat((rotvecs[:, :22], torch.zeros(len(rotvecs), COUNTS[kind][1] - 22, 3)), dim=1)
    theirs = run_smplx(folder, kind, padded, betas, translation)
    assert (posed.vertices - theirs.vertices).abs().max() < 1e-5
    with pytest.raises(InputError, match="found rotations of 23 joints.*`BodyModel.complete`"):
        body(rotations[:, 0], rotations[:, 1:], betas)
    with pytest.raises(InputError, match="h36m_17.*--regressor h36m_17="):
        body.joints(rotations[:, 0], full, betas)


def test_smpl_takes_poses_with_and_without_hands():
    body = BodyModel.load("free")
    rotations = roma.random_rotmat((2, 5, 23))
    assert body.complete(rotations) is rotations
    full = body.complete(rotations[..., :21, :, :])
    assert torch.equal(full[..., :21, :, :], rotations[..., :21, :, :])
    assert torch.equal(full[..., 21:, :, :], torch.eye(3).expand(2, 5, 2, 3, 3))
    with pytest.raises(InputError, match="found rotations of 22 joints, expected 21, 23 or 23"):
        body.complete(rotations[..., :22, :, :])


def test_a_body_of_chumpys_objects_is_the_same_body(folder, tmp_path):
    entries, chumpy = published("smpl"), Chumpy()
    shape = entries["shapedirs"]
    wide = np.concatenate((np.zeros_like(shape), shape), axis=-1)
    chosen = np.arange(wide.size).reshape(wide.shape)[..., 10:]
    entries["shapedirs"] = chumpy.make(
        "Select", a=chumpy.make("Ch", x=wide), idxs=chosen.ravel(), preferred_shape=chosen.shape
    )
    for key in ("v_template", "posedirs", "weights"):
        entries[key] = chumpy.make("Ch", x=entries[key])
    entries["J_transformed"] = chumpy.make("MatVecMult", mtx=entries["J_regressor"], vec=entries["v_template"])
    (tmp_path / "v1.pkl").write_bytes(chumpy.dumps(entries, 2))
    convert(tmp_path / "v1.pkl", tmp_path / "old.npz", gender="male")
    convert(folder / "SMPL_MALE.pkl", tmp_path / "new.npz")
    assert (tmp_path / "old.npz").read_bytes() == (tmp_path / "new.npz").read_bytes()
    entries["posedirs"] = entries["J_transformed"]
    (tmp_path / "v1.pkl").write_bytes(chumpy.dumps(entries, 2))
    with pytest.raises(InputError, match="v1.pkl: `posedirs` is not an array .*MatVecMult"):
        convert(tmp_path / "v1.pkl", tmp_path / "old.npz")


def test_a_regressor_in_the_order_of_the_project_stays(folder, tmp_path):
    matrix = np.load(folder / "h36m_smpl.npy")[LEGS_EXCHANGED]
    np.save(tmp_path / "mine.npy", matrix)
    converted = convert(folder / "SMPL_MALE.pkl", tmp_path / "b.npz", {"h36m_17": tmp_path / "mine.npy"})
    assert "left as it is" in converted.notes[0]
    assert np.allclose(converted.body.regressors["h36m_17"], matrix)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda it: it[::-1], "do not lie on this body"),
        (lambda it: it[[0, 1, 5, 3, 4, 2, *range(6, 17)]], "do not lie on this body"),
        (lambda it: it[[*range(11), 14, 15, 16, 11, 12, 13]], "do not lie on this body"),
        (lambda it: 2 * it, "rows add up to between 2.000 and 2.000, expected 1"),
        (lambda it: it[:, :100], r"`h36m_17` has shape \(17, 100\), expected \(17, 6890\)"),
        (lambda it: np.where(it > 0, np.nan, it), "not finite"),
    ],
)
def test_a_regressor_of_another_body_is_refused(folder, tmp_path, change, message):
    np.save(tmp_path / "matrix.npy", change(np.load(folder / "h36m_smpl.npy")))
    with pytest.raises(InputError, match=f"matrix.npy.*{message}"):
        convert(folder / "SMPL_MALE.pkl", tmp_path / "b.npz", {"h36m_17": tmp_path / "matrix.npy"})
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda it: it.pop("weights"), "`weights` is missing"),
        (lambda it: it.pop("posedirs"), "`posedirs` is missing"),
        (lambda it: it.update(posedirs=it["posedirs"][..., :9]), r"`posedirs` has shape .*expected \(6890, 3, 207\)"),
        (lambda it: it.update(shapedirs=it["shapedirs"][..., :4]), "`shapedirs` has 4 components"),
        (lambda it: it.update(J_regressor=it["J_regressor"][:, :100]), "`J_regressor` has shape"),
        (lambda it: it.update(kintree_table=it["kintree_table"][:, :5]), "`kintree_table` has shape"),
        (lambda it: it.update(f=it["f"] + 9999), "`f` names vertex"),
        (lambda it: it.update(f=it["f"][:, :2]), "`f` has shape"),
        (lambda it: it.update(v_template="round"), "`v_template` has shape"),
        (
            lambda it: it.update(weights=it["weights"][:, :23]),
            r"found 6890 vertices and 23 joints, expected those of SMPL \(6890 and 24\), SMPL-H \(6890 and 52\)",
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, change, message):
    entries = published("smpl")
    change(entries)
    (tmp_path / "SMPL.pkl").write_bytes(pickle.dumps(entries, 2))
    with pytest.raises(InputError, match=f"SMPL.pkl.*{message}"):
        convert(tmp_path / "SMPL.pkl", tmp_path / "body.npz")
    assert not (tmp_path / "body.npz").exists()


def test_files_that_cannot_be_the_source_or_the_target(folder, tmp_path):
    convert(folder / "SMPL_MALE.pkl", tmp_path / "body.npz")
    with pytest.raises(InputError, match="body.npz is a body file already"):
        convert(tmp_path / "body.npz", tmp_path / "again.npz")
    with pytest.raises(InputError, match="is the source"):
        convert(tmp_path / "body.npz", tmp_path / "body.npz")
    with pytest.raises(InputError, match="expected a file name that ends in .npz"):
        convert(folder / "SMPL_MALE.pkl", tmp_path / "body.pkl")
    with pytest.raises(InputError, match="noise2pose prepare body --source .*SMPL_MALE.pkl --output .*SMPL_MALE.npz"):
        BodyModel.load(folder / "SMPL_MALE.pkl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="list.pkl: found a list"):
        convert(tmp_path / "list.pkl", tmp_path / "x.npz")
    assert BodyModel.load("free").model_type == "free"


@pytest.mark.parametrize(
    "name, entry, asked, gender",
    [
        ("basicmodel_f_lbs_10_207_0_v1.1.0.pkl", None, None, "female"),
        ("basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", None, None, "neutral"),
        ("smpl.pkl", None, None, "neutral"),
        ("male/model.pkl", None, None, "male"),
        ("SMPL_MALE.pkl", "female", None, "female"),
        ("SMPL_MALE.pkl", "female", "neutral", "neutral"),
    ],
)
def test_the_gender_is_kept(tmp_path, name, entry, asked, gender):
    entries = published("smpl")
    entries.update({} if entry is None else {"gender": entry})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(pickle.dumps(entries, 2))
    convert(tmp_path / name, tmp_path / "body.npz", gender=asked)
    assert BodyModel.load(tmp_path / "body.npz").gender == gender


def test_expressions_of_smplx_equal_those_of_the_package(folder, tmp_path):
    convert(folder / "SMPLX_NEUTRAL.npz", tmp_path / "smplx.npz")
    body = BodyModel.load(tmp_path / "smplx.npz")
    rotvecs, betas, translation = parameters(55)
    expression = torch.randn(3, 10)
    with contextlib.redirect_stdout(io.StringIO()):
        flat = {"use_pca": False, "flat_hand_mean": True, "batch_size": 3, "num_betas": 10, "num_expression_coeffs": 10}
        model = smplx.SMPLX(str(folder / "SMPLX_NEUTRAL.npz"), **flat)
        pose = rotvecs.flatten(1)
        hands = {"left_hand_pose": pose[:, 75:120], "right_hand_pose": pose[:, 120:]}
        face = {"jaw_pose": pose[:, 66:69], "leye_pose": pose[:, 69:72], "reye_pose": pose[:, 72:75]}
        given = {"betas": betas, "transl": translation, "global_orient": pose[:, :3], "body_pose": pose[:, 3:66]}
        expected = model(**given, **hands, **face, expression=expression)
    rotations = roma.rotvec_to_rotmat(rotvecs)
    found = body(rotations[:, 0], rotations[:, 1:], torch.cat((betas, expression), dim=-1), translation)
    assert (found.vertices - expected.vertices).abs().max() < 1e-4
    landmarks = body.joints(
        rotations[:, 0], rotations[:, 1:], torch.cat((betas, expression), dim=-1), translation, regressor="face_51"
    )
    corners = found.vertices[:, body.faces[0]]  # the stand-in has all of its landmarks there
    assert (landmarks - corners.mean(dim=1, keepdim=True)).abs().max() < 1e-4
    alone = body.joints(rotations[:, 0], rotations[:, 1:], betas, translation, regressor="face_51")
    assert (alone - landmarks).abs().max() > 1e-3
