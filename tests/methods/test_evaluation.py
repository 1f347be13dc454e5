"""Answers measured by the protocols of the literature, against numbers that are worked out here by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from datamodules.base import select
from datamodules.prepared.protocols import published
from methods.evaluation import EvaluationSet
from noise2pose import cameras, skeletons
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.crops import bounds_of_keypoints
from noise2pose.metrics import functional
from noise2pose.metrics.keys import main_error
from noise2pose.metrics.protocols import LIMB_JOINTS, MESH_JOINTS, Protocol, in_the_image, limb_joints
from noise2pose.metrics.similarity import area_of, average_precision, oks
from tests.parity.procedural import read_fixture
from tests.places import PARITY
from tests.tiny import TinyPeople, TinyPoses

BODY = BodyModel.load("free")
BODIES = Protocol(name="p", dataset="tiny", split="test", skeleton="h36m_17", joints=MESH_JOINTS)


def measured(protocol, batch, prediction, body=None, parts=1):
    """What is logged of one batch, cut in parts."""
    evaluation = EvaluationSet(protocol)
    for index in torch.arange(len(batch["sample_id"])).chunk(parts):
        evaluation.update(select(batch, index), select(prediction, index), body)
    return {name: value.item() for name, value in evaluation.compute(1, False).items()}, evaluation.table()


def answer(batch, seed=0):
    """Bodies that are near those of a batch, as a method answers with them."""
    generator = torch.Generator().manual_seed(seed)
    smpl = {**batch["smpl"], "betas": batch["smpl"]["betas"] + torch.randn(19, 10, generator=generator)}
    joints, vertices = BODY.joints(**smpl), BODY(**smpl).vertices
    translation = torch.tensor([0.05, 0.0, 5.0]).expand(19, 3)
    return {
        "joints_3d": joints - joints[:, :1],
        "vertices": vertices - joints[:, :1],
        "smpl": smpl,
        "camera_translation": translation,
    }


@pytest.fixture
def people():
    return TinyPeople().load("test")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mpi_inf_3dhp_equals_the_matlab_evaluation_of_d3dp_and_p_stmo(dtype):
    """annot3 is published as the mean over sequences (D3DP), univ_annot3 as the mean over frames (P-STMO)."""
    arrays, _ = read_fixture(PARITY / "diffpose_metrics_3dhp.safetensors")
    data = {key: torch.from_numpy(array) for key, array in arrays.items()}
    frames = {f"TS{i + 1}": len(data[f"input/seq{i}/gt_mm"]) for i in range(3)}
    names = [name for name, number in frames.items() for _ in range(number)]
    pred, target = (
        skeletons.convert(
            torch.cat([data[f"input/seq{i}/{name}"].to(dtype) / 1000.0 for i in range(3)]), "mpi_inf_3dhp_17", "h36m_17"
        )
        for name in ("pred_rootrel_mm", "gt_mm")
    )
    spoilt = torch.full_like(pred[:3], torch.nan)  # frames that are not valid do not count
    valid = torch.cat((torch.ones_like(target[..., :1]), torch.zeros_like(spoilt[..., :1])))
    names += ["TS1", "TS2", "TS2"]
    truth = torch.cat((torch.cat((target, spoilt)), valid), dim=-1)
    batch = {"keypoints_3d": truth, "sequence": names, "sample_id": names}
    for convention, mean in (("annot3", "sequences"), ("univ_annot3", "frames")):
        protocol = published(f"mpi_inf_3dhp_{convention}")
        found, table = measured(protocol, batch, {"joints_3d": torch.cat((pred, spoilt))}, parts=5)
        assert table["of"] == "sequence" and table["metrics"]["mpjpe"]["poses"] == frames
        for i, name in enumerate(("mpjpe", "pck", "auc")):
            both = table["metrics"][name]
            assert found[name] == pytest.approx(data[f"output/mean_over_{mean}"][i].item(), rel=1e-6)
            assert both["mean_of_groups"] == pytest.approx(data["output/mean_over_sequences"][i].item(), rel=1e-6)
            assert both["mean_over_poses"] == pytest.approx(data["output/mean_over_frames"][i].item(), rel=1e-6)
            expected = data[f"output/{name}150" if name == "pck" else f"output/{name}"].tolist()
            assert list(both["values"].values()) == pytest.approx(expected, rel=1e-6)


def test_human36m_is_averaged_over_actions_whose_name_is_the_first_word():
    batch = TinyPoses(num_frames=3).load("test")
    names = ["Sitting 1", "SittingDown", "Sitting", "Walking", "SittingDown 2"]
    batch["action"] = [names[i % 5] for i in range(35)]
    pred = batch["keypoints_3d"][..., :3] + 0.1 * torch.randn(35, 3, 17, 3, generator=torch.Generator().manual_seed(0))
    pred = pred - pred[..., :1, :]
    batch["keypoints_3d"][:4, 2, :, 3] = 0  # the end of a sequence that a clip before has counted
    found, table = measured(published("human36m_lifting"), batch, {"joints_3d": pred}, parts=4)
    target = batch["keypoints_3d"][..., :3] - batch["keypoints_3d"][..., :1, :3]
    error = 1000.0 * functional.mpjpe(pred.double(), target.double())
    counted = batch["keypoints_3d"][..., 0, 3] > 0
    means = {}
    for action in ("Sitting", "SittingDown", "Walking"):
        rows = torch.tensor([name.split()[0] == action for name in batch["action"]])
        means[action] = error[rows][counted[rows]].mean().item()
    assert found["mpjpe"] == pytest.approx(sum(means.values()) / 3, rel=1e-6)
    assert table["metrics"]["mpjpe"]["values"] == pytest.approx(means, rel=1e-6)
    assert table["metrics"]["mpjpe"]["mean_over_poses"] == pytest.approx(error[counted].mean().item(), rel=1e-6)
    assert {"pa_mpjpe", "mpjve", "n_mpjpe"} <= set(table["metrics"])
    del batch["action"]
    with pytest.raises(InputError, match="^human36m: protocol human36m_lifting needs the action of each sample"):
        measured(published("human36m_lifting"), batch, {"joints_3d": pred})


@pytest.mark.parametrize("vertex_root", ["skeleton", "smpl"])
@pytest.mark.parametrize("own_mesh", [False, True])
def test_vertices_are_compared_with_the_mesh_of_the_batch_around_the_root_of_the_protocol(
    people, vertex_root, own_mesh
):
    prediction, known = answer(people), people["has_smpl"]
    target = BODY(**people["smpl"]).vertices
    if own_mesh:  # of another gender, in the camera frame
        target = 1.05 * target + torch.tensor([0.3, 0.2, 4.0])
        people["vertices"] = target
        pelvis = BODY.get_buffer("joint_regressor")[:1]
        people["keypoints_3d"][:, 0, :3] = (pelvis @ target)[:, 0] + 0.01  # as a regressor of the skeleton would
        root = people["keypoints_3d"][:, :1, :3]
    else:
        root = BODY.joints(**people["smpl"])[:, :1]
    found, _ = measured(replace(BODIES, vertex_root=vertex_root), people, prediction, BODY, parts=3)
    mine, theirs = prediction["vertices"], target - root
    if vertex_root == "smpl":
        regressor = BODY.get_buffer("joint_regressor")[0].double()
        mine, theirs = (
            mesh.double() - torch.einsum("v,bvc->bc", regressor, mesh.double())[:, None] for mesh in (mine, target)
        )
    expected = 1000.0 * (mine - theirs)[known].norm(dim=-1).mean()
    assert found["pve"] == pytest.approx(expected.item(), rel=1e-5)
    assert 0 < found["pve"] and "mpjpe_24" not in found


def test_meshes_of_other_bodies_are_not_compared(people):
    prediction = answer(people)
    people["vertices"] = torch.zeros(19, 100, 3)
    assert "pve" not in measured(BODIES, people, prediction, BODY)[0]
    people["vertices"] = BODY(**people["smpl"]).vertices  # as many as SMPL has
    assert "pve" not in measured(replace(BODIES, ground_truth="SMPL, gendered"), people, prediction, BODY)[0]
    assert "pve" in measured(BODIES, people, prediction, BODY)[0]


@pytest.mark.parametrize("given", [False, True])
def test_the_24_joints_of_smpl_stand_beside_the_14(people, given):
    prediction, known = answer(people), people["has_smpl"]
    target = BODY.joints(**people["smpl"], regressor="smpl_24")
    if given:
        target = target + 0.1 * torch.randn(19, 24, 3, generator=torch.Generator().manual_seed(3))
        people["smpl_joints"] = target + 4.0
    found, _ = measured(replace(BODIES, smpl_joints=True), people, prediction, BODY)
    pred = BODY.joints(**prediction["smpl"], regressor="smpl_24")
    expected = functional.mpjpe(pred - pred[:, :1], target - target[:, :1])[known].mean()
    assert found["mpjpe_24"] == pytest.approx(1000.0 * expected.item(), rel=1e-4)
    aligned = functional.pa_mpjpe(pred.double(), target.double())[known].mean()
    assert found["pa_mpjpe_24"] == pytest.approx(1000.0 * aligned.item(), rel=1e-4)
    assert found["mpjpe"] != pytest.approx(found["mpjpe_24"], rel=1e-3)


def test_sets_with_2d_annotations_are_measured_in_pixels_of_the_picture(people):
    protocol, prediction = published("halpe"), answer(people)
    del people["keypoints_3d"]
    annotated = people["keypoints_2d"].clone()
    annotated[3, 8:11, 2] = 0.0
    annotated[3, 8:11, :2] = 1e6
    annotated[7, :, 2] = 0.0
    people["keypoints_2d_gt"], people["keypoints_2d"] = annotated, torch.full_like(annotated, torch.nan)
    found, table = measured(protocol, people, prediction, BODY, parts=2)
    assert set(found) == {"mpjpe_2d", "mpjpe_2d_box", "mpjpe_2d_12"} and not table
    joints = BODY.joints(**prediction["smpl"], translation=prediction["camera_translation"])
    pixels = cameras.project(joints, people["camera"]["focal"], people["camera"]["principal_point"])
    sums = {name: [] for name in found}
    for person in range(19):
        for name, counted in (("mpjpe_2d", MESH_JOINTS), ("mpjpe_2d_12", LIMB_JOINTS)):
            seen = [joint for joint in counted if annotated[person, joint, 2] > 0]
            if seen:
                error = (pixels[person, seen] - annotated[person, seen, :2]).norm(dim=-1).mean().item()
                sums[name].append(error)
                if name == "mpjpe_2d":
                    sums["mpjpe_2d_box"].append(100.0 * error / people["box"][person, 2].item())
    for name, values in sums.items():
        assert len(values) == 18 and found[name] == pytest.approx(sum(values) / 18, rel=1e-5), name
    assert measured(protocol, people, {"joints_3d": prediction["joints_3d"]}) == ({}, {})  # no body, nothing to see
    del people["keypoints_2d_gt"]
    with pytest.raises(InputError, match="^halpe: the 2-D input is synthetic, and there are no annotated keypoints"):
        measured(replace(protocol, keypoints_2d="synthetic"), people, prediction, BODY)


def test_without_a_valid_joint_there_is_no_number(people):
    people["keypoints_3d"][..., 3] = 0.0
    people["has_smpl"][:] = False
    assert measured(BODIES, people, answer(people), BODY)[0] == {}


def test_errors_of_people_and_joints_are_the_plain_means():
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(6, 17, 3, generator=generator)
    pred = target + 0.1 * torch.randn(6, 17, 3, generator=generator)
    valid = (torch.rand(6, 17, 1, generator=generator) > 0.3).float()
    valid[:, 0] = 1.0
    valid[5, 0] = 0.0  # without its root, a pose does not count
    people = ["a", "b", "a", "c", "b", "a"]
    evaluation = EvaluationSet(Protocol("p", "toy", "test", "h36m_17", joints=(1, 2, 9)))
    for part in (slice(0, 2), slice(2, 6)):
        batch: Any = {"keypoints_3d": torch.cat((target, valid), -1)[part], "subject": people[part]}
        evaluation.update(batch, {"joints_3d": pred[part]}, None)
    errors = 1000 * ((pred - pred[:, :1]) - (target - target[:, :1])).norm(dim=-1)
    counted = valid[..., 0] * valid[:, :1, 0]
    kept = [1, 2, 9]
    names = skeletons.get("h36m_17").joints
    found = evaluation.per_joint()
    assert list(found) == [names[joint] for joint in kept]
    for joint in kept:
        mean = (errors * counted)[:, joint].sum() / counted[:, joint].sum()
        assert found[names[joint]] == pytest.approx(float(mean), rel=1e-5)
    poses = (errors * counted)[:, kept].sum(1) / counted[:, kept].sum(1)
    for person, error in evaluation.per_person().items():
        own = torch.tensor([name == person for name in people]) & ~poses.isnan()
        assert error == pytest.approx(float(poses[own].mean()), rel=1e-5)
    assert set(evaluation.per_person()) <= {"a", "b", "c"}
    evaluation.reset()
    assert not evaluation.per_person() and not evaluation.per_joint()


@pytest.fixture
def found(people):
    """Keypoints that a method found 6 pixels beside the true ones, and the data set's protocol in the image."""
    protocol = in_the_image(Protocol(name="tiny", dataset="tiny", split="", skeleton="h36m_17"))
    keypoints = people["keypoints_2d"].clone()
    keypoints[..., 0] += 6.0
    return protocol, {"keypoints_2d": keypoints}


def test_keypoints_are_measured_in_pixels_in_the_box_and_by_their_similarity(people, found):
    protocol, prediction = found
    values = measured(protocol, people, prediction, parts=3)[0]
    assert values["mpjpe_2d"] == pytest.approx(6.0, abs=1e-3) == values["mpjpe_2d_12"]
    assert values["mpjpe_2d_box"] == pytest.approx(float((600.0 / people["box"][:, 2]).mean()), rel=1e-4)
    area = area_of(bounds_of_keypoints(people["keypoints_2d"]))
    truth = people["keypoints_2d"]
    similarity = oks(prediction["keypoints_2d"][..., :2], truth[..., :2], area, truth[..., 2], "h36m_17")
    assert values["oks"] == pytest.approx(100.0 * float(similarity.mean()), rel=1e-4)
    assert values["oks_ap"] == pytest.approx(100.0 * float(average_precision(similarity).mean()), rel=1e-4)
    assert values["pck_2d"] == 100.0 and "mpjpe" not in values
    assert main_error(protocol.dimensions).name in values


def test_keypoints_of_other_joints_or_of_other_people_are_seen(people, found):
    protocol, prediction = found
    good = measured(protocol, people, prediction)[0]["oks"]
    flip = list(skeletons.get("h36m_17").flip_order)
    for wrong in (prediction["keypoints_2d"][:, flip], prediction["keypoints_2d"].roll(1, dims=0)):
        assert measured(protocol, people, {"keypoints_2d": wrong})[0]["oks"] < good - 10.0


def test_keypoints_are_not_compared_with_simulated_detections(people, found):
    protocol, prediction = found
    detected = replace(protocol, keypoints_2d="synthetic")
    with pytest.raises(InputError, match="no annotated keypoints"):
        measured(detected, people, prediction)
    given = {**people, "keypoints_2d_gt": people["keypoints_2d"], "keypoints_2d": people["keypoints_2d"] + 50.0}
    assert measured(detected, given, prediction)[0]["mpjpe_2d"] == pytest.approx(6.0, abs=1e-3)


def test_limbs_are_found_by_their_names():
    names = [skeletons.get("coco_17").joints[joint] for joint in limb_joints("coco_17")]
    assert [skeletons.get("h36m_17").joints[joint] for joint in LIMB_JOINTS] == names
