"""COCO, Halpe, CrowdPose and MuCo from their publishers' layouts to batches, losses and errors known by hand."""

import json

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.annotated_people import COCO, CrowdPose, Halpe, MuCo
from datamodules.mixture import Mixture
from datamodules.sources import halpe
from datamodules.sources.halpe import HalpeCleansing, cleanse
from methods.hmr import HMR
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import LIMB_JOINTS, MESH_JOINTS
from scripts.prepare import main
from tests.datamodules import coco_family_tree as tree

H36M = skeletons.get("h36m_17")
MODULES = {"coco": COCO, "halpe": Halpe, "crowdpose": CrowdPose, "muco": MuCo}
RULES = {"max_people": 2, "min_side": 60.0}  # that the tree was made for


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """All four sets, prepared."""
    folder = tmp_path_factory.mktemp("family")
    for name in MODULES:
        getattr(tree, f"write_{name}")(folder / name)
        prepare(name, folder / name, folder / "data" / name)
    return {name: str(folder / "data" / name) for name in MODULES}


def prepare(name, source, output):
    assert main([name, "--source", str(source), "--output", str(output), "--num_workers", "0"]) < 2


def names(module, split):
    """Of the people of a split; training batches have none."""
    rows = module.rows(split)
    return rows.names(rows.rows)


def joint(batch, row, name):
    return batch["keypoints_2d"][row, H36M.index(name)].tolist()


def hmr(**options):
    small = {"width": 16, "num_blocks": 1, "hidden": 16, "num_iterations": 1, "vertex_weight": 0.0}
    return HMR(input="keypoints", **small, **options)


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def test_coco(roots):
    batch = COCO(root=roots["coco"]).load("train")
    assert names(COCO(root=roots["coco"]), "train") == ["train/000101/11", "train/000101/12", "train/000102/13"]
    places = tree.places(12, 17)
    assert joint(batch, 1, "left_wrist") == [*places[9], 1.0]  # published as hidden
    assert joint(batch, 1, "pelvis") == [*((places[11] + places[12]) / 2), 1.0]
    assert joint(batch, 1, "thorax") == [*((places[5] + places[6]) / 2), 1.0]
    assert joint(batch, 2, "left_hip") == [*tree.places(13, 17)[11], 1.0]
    assert joint(batch, 2, "right_hip") == joint(batch, 2, "pelvis") == [0.0, 0.0, 0.0]  # nobody labelled the right
    assert not batch["keypoints_3d"].any()
    assert batch["has_smpl"].tolist() == [True, False, True]
    angle = torch.tensor(tree.body(13)["pose"][:3]).norm()
    trace = batch["smpl"]["global_orient"][2].trace()
    torch.testing.assert_close(trace, 1 + 2 * torch.cos(angle))
    torch.testing.assert_close(batch["camera_translation"][2], torch.tensor(tree.body(13)["trans"]))
    focal, centre = batch["camera"]["focal"].tolist(), batch["camera"]["principal_point"].tolist()
    assert focal == [[1211.0, 1201.0], [400.0, 400.0], [1213.0, 1201.0]]  # 400 is the diagonal of 320 x 240
    assert centre == [[160.5, 120.5], [160.0, 120.0], [160.5, 120.5]]
    low, high = places.min(axis=0), places.max(axis=0)
    assert batch["box"][1].tolist() == pytest.approx([*((low + high) / 2), 1.2 * (high - low).max()])


def test_splits_of_coco(roots):
    module = COCO(root=roots["coco"])
    assert module.load("test")["sample_id"] == ["val/000201/21", "val/000202/22"]
    # A twentieth of two images is none: validation is on the published split, and says so.
    assert module.load("val")["sample_id"] == module.load("test")["sample_id"]
    assert module.protocols("val")[0].split == "val: people of val2017 with labelled joints"
    half = COCO(root=roots["coco"], held_out=0.5)
    assert names(half, "train") == ["train/000101/11", "train/000101/12"]
    assert half.load("val")["sample_id"] == ["train/000102/13"]
    assert half.protocols("val")[0].split.startswith("val: 1 of 2 images held out of people of train2017")
    assert half.load("test")["sample_id"] == ["val/000201/21", "val/000202/22"]
    with pytest.raises(InputError, match="data.held_out is 1.0"):
        COCO(root=roots["coco"], held_out=1.0)
    with pytest.raises(InputError, match="data.num_frames is 9, but coco has single images"):
        COCO(root=roots["coco"], num_frames=9)


def test_images_are_held_out_at_equal_distances(tmp_path):
    tree.write_coco(tmp_path / "source")
    path = tmp_path / "source" / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = []
    for number in range(40):  # two people in each of forty images
        name = f"{number:012d}.jpg"
        content["images"].append({"id": number, "file_name": name, "width": 64, "height": 48})
        tree.write_image(tmp_path / "source" / "train2017" / name, 64, 48)
        joints = tree.places(number, 17)
        content["annotations"] += [tree.person(2 * number + i + 1, number, joints, 2) for i in range(2)]
    path.write_text(json.dumps(content))
    prepare("coco", tmp_path / "source", tmp_path / "data")
    module = COCO(root=str(tmp_path / "data"))
    held_out = [name.split("/")[1] for name in module.load("val")["sample_id"]]
    assert held_out == ["000010", "000010", "000030", "000030"]
    train = {name.split("/")[1] for name in names(module, "train")}
    assert len(train) == 38 and not train & set(held_out)


def test_halpe(roots, capsys):
    module = Halpe(root=roots["halpe"], **RULES)
    module.prepare_data()
    assert capsys.readouterr().out.splitlines() == [
        "halpe train: kept 1 of 7 people; left out 3 with more than 2 people in the image, 1 with a box under "
        "60 pixels, 1 with fewer than 10 of 14 joints seen, 1 with fewer than 2 of 4 limbs seen",
        "halpe val: kept 1 of 1 people; left out 0 with more than 2 people in the image, 0 with a box under "
        "60 pixels, 0 with fewer than 10 of 14 joints seen, 0 with fewer than 2 of 4 limbs seen",
    ]
    batch = module.load("train")
    assert names(module, "train") == ["train/000001/1"] and not batch["keypoints_3d"].any() and "smpl" not in batch
    places = tree.places(1, 136)
    assert joint(batch, 0, "pelvis") == pytest.approx([*places[19], 0.8])
    assert joint(batch, 0, "head_top") == pytest.approx([*places[17], 0.8])
    assert joint(batch, 0, "chin") == pytest.approx([-3.5, 20.25, 0.8])  # the nose, outside the image
    assert "11,809" not in module.protocols("test")[0].split
    assert "max_people 2, min_side 60" in module.protocols("test")[0].split
    everybody = Halpe(root=roots["halpe"], cleanse=False).load("train")
    assert len(everybody["keypoints_2d"]) == 7
    # Joints of a low score are not seen.
    assert joint(everybody, 5, "left_elbow") == [0.0, 0.0, 0.0]
    faint = Halpe(root=roots["halpe"], cleanse=False, min_visibility=0.1).load("train")
    assert joint(faint, 5, "left_elbow") == pytest.approx([*tree.places(6, 136)[7], 0.2])


def test_rules_that_admit_everybody_and_their_order():
    visibility = np.zeros((4, 26), np.float32)
    visibility[0] = 0.5
    visibility[1, list(halpe.CORE_JOINTS)] = 0.35
    bounds = np.array([[0, 0, 10, 64], [0, 0, 64, 10], [0, 0, 1, 1], [0, 0, 100, 100]], np.float32)
    images = np.array([3, 3, 3, 5])
    assert cleanse(HalpeCleansing(0, 0.0, 0, 0, 0.0), visibility, bounds, images).keep.all()
    result = cleanse(HalpeCleansing(3, 64.0, 14, 4, 0.35), visibility, bounds, images)
    assert result.keep.tolist() == [True, True, False, False]
    assert list(result.counts.values()) == [0, 1, 1, 0, 2]  # each under the first reason that applies
    assert cleanse(HalpeCleansing(2, 64.0, 14, 4, 0.35), visibility, bounds, images).counts["kept"] == 0
    assert len(halpe.CORE_JOINTS) == 14


def test_crowdpose(roots):
    batch = CrowdPose(root=roots["crowdpose"]).load("train")
    assert batch["has_smpl"].tolist() == [True, False, False]  # errors of 2.5, 5.0 and 7.5
    for fits, taken in (("above", [False, True, True]), ("all", [True] * 3), ("none", [False] * 3)):
        assert CrowdPose(root=roots["crowdpose"], fits=fits).load("train")["has_smpl"].tolist() == taken
    assert CrowdPose(root=roots["crowdpose"], fit_error=6.0).load("train")["has_smpl"].tolist() == [True, True, False]
    places = tree.places(1, 14)
    assert joint(batch, 0, "head_top") == [*places[12], 1.0] and joint(batch, 0, "thorax") == [*places[13], 1.0]
    assert joint(batch, 0, "chin") == [0.0, 0.0, 0.0]  # there is none
    assert batch["camera"]["image_size"].tolist() == [[320.0, 240.0]] * 3
    assert [len(CrowdPose(root=roots["crowdpose"]).load(split)["sample_id"]) for split in ("val", "test")] == [3, 3]


def test_muco(roots):
    module = MuCo(root=roots["muco"])
    batch = module.load("train")
    assert [name.split("/")[-1] for name in names(module, "train")] == ["1", "4"]
    assert [name.split("/")[-1] for name in module.load("val")["sample_id"]] == ["2"]
    given = tree.muco_person(4, 2, 2500.0, np.array([1500.0, 1490.0]), np.array([160.0, 118.0]))
    expected = np.array(given["keypoints_cam"])[[14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]] / 1000
    np.testing.assert_allclose(batch["keypoints_3d"][1, :, :3], expected, rtol=1e-5)
    assert (batch["keypoints_3d"][..., 3] == 1).all() and batch["has_smpl"].tolist() == [True, True]
    pixels = batch["keypoints_3d"][..., :2] / batch["keypoints_3d"][..., 2:3] * batch["camera"]["focal"][:, None]
    torch.testing.assert_close(pixels + batch["camera"]["principal_point"][:, None], batch["keypoints_2d"][..., :2])
    with pytest.raises(InputError, match="muco has no test split"):
        module.load("test")


@pytest.mark.parametrize("name", MODULES)
def test_a_method_trains_on_each(name, roots):
    options = RULES if name == "halpe" else {}
    data = MODULES[name](root=roots[name], batch_size=4, **options)
    model = hmr()
    run = trainer(fast_dev_run=True)
    run.fit(model, data)
    assert torch.isfinite(run.callback_metrics["train/loss"])
    if name != "muco":  # no joint in 3-D
        assert run.callback_metrics["train/loss_joints_3d"] == 0
    assert run.callback_metrics["train/loss_joints_2d"] > 0
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("source", ["gt", "synthetic"])
@pytest.mark.parametrize("name", ["coco", "halpe", "crowdpose"])
def test_errors_in_pixels_are_those_by_hand(name, source, roots):
    """Reprojected joints against annotated ones, also where the input has simulated errors."""
    options = RULES if name == "halpe" else {}
    data = MODULES[name](root=roots[name], keypoints_2d=source, **options)
    torch.manual_seed(1)
    model = hmr().eval()
    (found,) = trainer().test(model, data, verbose=False)
    batch = data.load("test")
    annotated = MODULES[name](root=roots[name], **options).load("test")["keypoints_2d"].double().numpy()
    with torch.no_grad():
        answer = model(batch)
        joints = model.body.joints(**answer["smpl"], regressor="h36m_17") + answer["camera_translation"][:, None]
    joints = joints.double().numpy()
    focal, centre = (batch["camera"][key].double().numpy()[:, None] for key in ("focal", "principal_point"))
    distance = np.linalg.norm(joints[..., :2] / joints[..., 2:] * focal + centre - annotated[..., :2], axis=-1)
    seen = annotated[..., 2] > 0

    def mean(values, chosen):
        chosen = list(chosen)
        return np.mean([v[chosen][s[chosen]].mean() for v, s in zip(values, seen, strict=True)])

    side = batch["box"][:, 2, None].double().numpy()
    assert found[f"test/{name}/mpjpe_2d"] == pytest.approx(mean(distance, MESH_JOINTS), rel=1e-4)
    assert found[f"test/{name}/mpjpe_2d_12"] == pytest.approx(mean(distance, LIMB_JOINTS), rel=1e-4)
    assert found[f"test/{name}/mpjpe_2d_box"] == pytest.approx(100 * mean(distance / side, MESH_JOINTS), rel=1e-4)
    assert f"test/{name}/mpjpe" not in found


def test_mixed_batches_of_3d_and_2d(roots):
    data = Mixture(
        [MuCo(root=roots["muco"]), COCO(root=roots["coco"]), CrowdPose(root=roots["crowdpose"])],
        rule="one_to_one",
        evaluate_on=["coco"],
        batch_size=8,
        epoch_length=8,
    )
    model = hmr()
    run = trainer(fast_dev_run=True)
    run.fit(model, data)
    assert torch.isfinite(run.callback_metrics["train/loss"]) and run.callback_metrics["train/loss_joints_3d"] > 0
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
