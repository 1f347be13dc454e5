"""3DPW from its files to batches: rules of the cameras, gendered ground truth, subsets."""

import shutil

import numpy as np
import pytest
import roma
import torch

from datamodules.occluded_people import ThreeDPW
from datamodules.prepared.folder import PreparedFolder
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import MESH_JOINTS
from scripts.prepare import main
from tests.datamodules import gendered_bodies, threedpw_tree
from tests.datamodules.threedpw_tree import VIDEOS


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The bodies, what the pickles hold, and the folders prepared from pickles, from both, and from JSON alone."""
    home = tmp_path_factory.mktemp("threedpw")
    bodies = gendered_bodies.write(home / "bodies")
    content = threedpw_tree.write(home / "source" / "3DPW", bodies)  # one level deeper than --source
    pickles = prepare(home / "source", home / "pickles")
    threedpw_tree.write_community(home / "source" / "3DPW", content, bodies)
    both = prepare(home / "source", home / "both")
    community = prepare(home / "source", home / "community", "--layout", "community")
    return {"bodies": bodies, "content": content, "pickles": pickles, "both": both, "community": community}


def prepare(source, output, *more):
    assert main(["threedpw", "--source", str(source), "--output", str(output), "--num_workers", "0", *more]) == 0
    return output


def module(tree, folder="pickles", **options):
    return ThreeDPW(root=str(tree[folder]), bodies=str(tree["bodies"]), **options)


def truth(tree, name, person, frame):
    """Mesh, Human3.6M's joints and root rotation in the camera frame, by way of the world and of the whole mesh."""
    data = tree["content"][name]
    gender = {"m": "male", "f": "female"}[data["genders"][person]]
    body, regressor = gendered_bodies.load(tree["bodies"], gender)
    pose = torch.from_numpy(data["poses"][person][frame].reshape(24, 3)).float()
    turned = roma.rotvec_to_rotmat(pose)
    betas = torch.from_numpy(data["betas"][person][:10]).float()
    mesh = body(turned[0], turned[1:], betas, torch.from_numpy(data["trans"][person][frame]).float()).vertices
    camera = data["cam_poses"][frame]
    mesh = mesh.double().numpy() @ camera[:3, :3].T + camera[:3, 3]
    return mesh, regressor @ mesh, camera[:3, :3] @ turned[0].double().numpy()


@pytest.mark.parametrize("folder", ["pickles", "community"])
def test_ground_truth_is_that_of_the_world_seen_by_the_camera(tree, folder):
    data = module(tree, folder)
    batch = data.finish(data.load("test"), training=False)
    names = {name: i for i, name in enumerate(batch["sample_id"])}
    for person, frame in ((0, 0), (0, 6), (1, 4)):
        wanted = f"downtown_bar_00_{person}/{frame:06d}/{person}"
        if folder == "community":
            data = tree["content"]["downtown_bar_00"]
            betas = torch.from_numpy(data["betas"][person][:10]).float()
            rows = [i for n, i in names.items() if n.startswith(f"downtown_bar_00/{frame:06d}")]
            index = next(i for i in rows if torch.allclose(batch["smpl"]["betas"][i], betas))
        else:
            index = names[wanted]
        mesh, joints, root = truth(tree, "downtown_bar_00", person, frame)
        np.testing.assert_allclose(batch["keypoints_3d"][index, :, :3], joints, atol=2e-5)
        np.testing.assert_allclose(batch["vertices"][index], mesh, atol=2e-5)
        np.testing.assert_allclose(batch["smpl"]["global_orient"][index], root, atol=1e-5)
        intrinsics = tree["content"]["downtown_bar_00"]["cam_intrinsics"]
        pixels = joints @ intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        seen = batch["keypoints_2d"][index, :, 2] > 0
        inside = ((pixels >= 0) & (pixels <= np.array(VIDEOS["downtown_bar_00"].size))).all(axis=1)
        assert seen.tolist() == inside.tolist() and inside.any()
        np.testing.assert_allclose(batch["keypoints_2d"][index, seen, :2], pixels[inside], atol=0.01)


def test_smpl_joints_are_those_of_the_file_and_others_than_the_regressed(tree):
    batch = module(tree).load("test")
    index = batch["sample_id"].index("downtown_stairs_00_0/000002/0")
    data = tree["content"]["downtown_stairs_00"]
    camera = data["cam_poses"][2]
    expected = data["jointPositions"][0][2].reshape(24, 3) @ camera[:3, :3].T + camera[:3, 3]
    np.testing.assert_allclose(batch["smpl_joints"][index], expected, atol=1e-5)
    assert (batch["smpl_joints"][index, 0] - batch["keypoints_3d"][index, 0, :3]).norm() > 1e-3
    community = module(tree, "community").load("test")  # without jointPositions: of the body
    other = [i for i, name in enumerate(community["sample_id"]) if name.startswith("downtown_stairs_00/000002")]
    np.testing.assert_allclose(community["smpl_joints"][other[0]], expected, atol=2e-5)


def test_columns_of_a_sequence(tree):
    folder = PreparedFolder(tree["pickles"], "threedpw")
    sequence = next(s for s in folder.sequences if s["name"] == "downtown_bar_00_0")
    rows = slice(sequence["start"], sequence["stop"])
    data = tree["content"]["downtown_bar_00"]
    assert folder.column("gender")[rows].tolist() == [2] * 7 and folder.column("person")[rows].tolist() == [0] * 7
    assert folder.column("frame")[rows].tolist() == list(range(7))
    images = folder.images()
    assert [images[i] for i in folder.column("picture")[rows]][3] == "imageFiles/downtown_bar_00/image_00003.jpg"
    assert (folder.image_root() / images[folder.column("picture")[rows][3]]).is_file()
    found = data["poses2d"][0][4].T
    np.testing.assert_allclose(folder.column("keypoints_2d_detected")[rows][4], found, rtol=1e-6)
    seen = found[found[:, 2] > 0, :2]
    np.testing.assert_allclose(folder.column("bounds")[rows][4], [*seen.min(axis=0), *seen.max(axis=0)], rtol=1e-5)
    assert np.allclose(folder.column("betas")[rows], data["betas"][0][:10], rtol=1e-6)


def test_where_nobody_was_detected_the_box_is_that_of_the_24_joints(tree):
    name, person, frame = threedpw_tree.UNDETECTED
    folder = PreparedFolder(tree["pickles"], "threedpw")
    row = next(s for s in folder.sequences if s["name"] == f"{name}_{person}")["start"] + frame
    assert not folder.column("keypoints_2d_detected")[row].any()
    joints = folder.column("smpl_joints")[row, :, :3]
    focal, centre = folder.column("focal")[row], folder.column("principal_point")[row]
    pixels = joints[:, :2] / joints[:, 2:] * focal + centre
    np.testing.assert_allclose(folder.column("bounds")[row], [*pixels.min(axis=0), *pixels.max(axis=0)], rtol=1e-5)
    assert folder.manifest["counts"]["boxes around projected joints, since no joint was detected"] == 1


def test_frames_that_do_not_count_are_kept_for_clips_but_not_evaluated(tree):
    names = module(tree).load("test")["sample_id"]
    assert "downtown_bar_00_1/000003/1" not in names and len(names) == 18
    name, frame = threedpw_tree.NO_CAMERA
    assert f"{name}_0/{frame:06d}/0" not in names
    clips = module(tree, num_frames=7).load("test")
    counted = clips["keypoints_3d"][clips["sequence"].index("downtown_bar_00_1"), :, 0, 3]
    assert counted.tolist() == [1, 1, 1, 0, 1, 1, 1]


def test_upright_images_have_their_size(tree):
    batch = module(tree).load("test")
    sizes = {tuple(size) for size in batch["camera"]["image_size"].tolist()}
    assert sizes == {(192.0, 108.0), (1080.0, 1920.0)}


def test_boxes_are_scaled_once_by_the_published_rule(tree):
    batch = module(tree).load("test")
    index = batch["sample_id"].index("downtown_bar_00_0/000004/0")
    found = tree["content"]["downtown_bar_00"]["poses2d"][0][4].T
    seen = found[found[:, 2] > 0, :2]
    low, high = seen.min(axis=0), seen.max(axis=0)
    np.testing.assert_allclose(batch["box"][index], [*(low + high) / 2, 1.2 * (high - low).max()], rtol=1e-5)


@pytest.mark.parametrize("folder", ["pickles", "both"])
def test_subsets(tree, folder):
    oc = module(tree, folder, subset="oc").load("test")
    assert {name.rsplit("_", 1)[0] for name in oc["sequence"]} <= {"courtyard_backpack_00", "downtown_stairs_00"} | {
        "courtyard_backpack",
        "downtown_stairs",
    }
    assert len(oc["sample_id"]) == 10
    pc = module(tree, folder, subset="pc").load("test")
    assert len(pc["sample_id"]) == 7 and all(60 <= int(name.split("/")[1]) < 370 for name in pc["sample_id"])
    crowd = module(tree, folder, subset="crowd", keypoints_2d="detected").load("test")
    assert len(crowd["sample_id"]) == 127
    assert module(tree, folder, subset="crowd").protocols("test")[0].dataset == "threedpw_crowd"


def test_crowd_has_the_joints_of_its_own_detector_where_there_are_any(tree):
    folder = PreparedFolder(tree["both"], "threedpw")
    sequence = next(s for s in folder.sequences if s["split"] == "crowd")
    rows = slice(sequence["start"], sequence["stop"])
    people, keypoints = folder.column("person")[rows], folder.column("keypoints_2d_detected")[rows]
    content = tree["content"]["courtyard_dancing_00"]
    nose, neck = keypoints[:, 0], keypoints[:, 1]
    assert (nose[people < people.max() - 2, 2] >= 20).all()  # HigherHRNet's of the tree are far from a confidence
    assert (neck[people < people.max() - 2, 2] >= 20).all()
    last = keypoints[people == people.max()][0]
    np.testing.assert_allclose(last, content["poses2d"][1][63].T, rtol=1e-6)


def test_subsets_are_not_trained_on_and_need_all_their_splits(tree, tmp_path):
    with pytest.raises(InputError, match="data.subset is oc, which is for tests alone"):
        module(tree, subset="oc").protocols("train")
    bodies = tree["bodies"]
    threedpw_tree.write(tmp_path / "source", bodies, images=False, videos=("downtown_stairs_00",))
    arguments = ["--source", str(tmp_path / "source"), "--output", str(tmp_path / "out"), "--num_workers", "0"]
    assert main(["threedpw", *arguments]) == 1
    with pytest.raises(InputError, match="train and validation are not here"):
        ThreeDPW(root=str(tmp_path / "out"), bodies=str(bodies), subset="oc").load("test")


def test_bodies_that_are_missing_are_named_with_the_command(tree, tmp_path):
    with pytest.raises(InputError, match=r"has no smpl_male.npz and no smpl_female.npz.*prepare body --source"):
        ThreeDPW(root=str(tree["pickles"]), bodies=str(tmp_path)).load("test")
    bare = gendered_bodies.write(tmp_path / "bare", regressor=False)
    with pytest.raises(InputError, match=r"smpl_male.npz has no regressor h36m_17; make it again"):
        ThreeDPW(root=str(tree["pickles"]), bodies=str(bare)).prepare_data()


def test_ground_truth_of_every_gender_is_its_own(tree):
    batch = module(tree).load("train")
    assert "vertices" not in batch and set(batch["gender"].tolist()) == {1, 2}
    data = tree["content"]["courtyard_arguing_00"]
    index = batch["sample_id"].index("courtyard_arguing_00_1/000002/1")
    _, joints, _ = truth(tree, "courtyard_arguing_00", 1, 2)
    np.testing.assert_allclose(batch["keypoints_3d"][index, :, :3], joints, atol=2e-5)
    data["genders"] = ["m", "m"]
    try:
        _, wrong, _ = truth(tree, "courtyard_arguing_00", 1, 2)
    finally:
        data["genders"] = ["m", "f"]
    relative = (joints - joints[0] - (wrong - wrong[0]))[list(MESH_JOINTS)]
    assert np.linalg.norm(relative, axis=1).mean() > 0.01  # metres


def test_annotations_in_a_folder_beside_the_images(tree, tmp_path):
    source = shutil.copytree(tree["pickles"].parent / "source" / "3DPW", tmp_path / "source")
    (source / "data").mkdir()  # as 3DCrowdNet has it
    for path in source.glob("*.json"):
        path.rename(source / "data" / path.name)
    (source / "sequenceFiles" / "test" / "._downtown_bar_00.pkl").write_bytes(b"left by macOS")
    for name, options in (("both", ()), ("community", ("--layout", "community"))):
        folder = PreparedFolder(prepare(source, tmp_path / name, *options), "threedpw")
        expected = PreparedFolder(tree[name], "threedpw")
        assert folder.facts == expected.facts and folder.num_rows == expected.num_rows
        assert all((folder.image_root() / image).is_file() for image in folder.images())
