import dataclasses

import numpy as np
import pytest
import torch

from datamodules.rendered.people import MIN_SEEN, SKELETON
from datamodules.rendered.scenes import covered
from datamodules.rendered_people import RenderedPeople
from noise2pose import cameras, skeletons
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.crops import BOX_SCALE
from noise2pose.keyed_random import keys_of
from tests.datamodules import acclaim, motion_folder

SPLITS = ("train", "val", "test")
PEOPLE = 400


@pytest.fixture(scope="module")
def cmu(tmp_path_factory):
    """Prepared clips of three subjects: four of one to train and validate with, one of another for each split."""
    output = tmp_path_factory.mktemp("cmu") / "prepared"
    source = acclaim.write(tmp_path_factory.mktemp("source"), {"01": 4, "02": 1, "03": 1}, frames=120)
    assert acclaim.prepare(source, output)["counts"]["clips"] == 6
    return str(output)


@pytest.fixture(params=["synthetic", "cmu", "both"])
def motion(request):
    return request.param


def make(cmu, motion="synthetic", **options):
    return RenderedPeople(**{"motion": motion, "root": cmu, "images": False, "num_people": PEOPLE, **options})


def clip_of(sample_id):
    """The clip in the name of a sample: without frame and view, or frame and number."""
    return sample_id.rsplit("_", 2)[0]


def test_labels_agree(cmu, motion):
    people = make(cmu, motion, keypoints_2d="gt").load("train")
    joints, camera = people["keypoints_3d"][..., :3], people["camera"]
    smpl, translation = people["smpl"], people["camera_translation"]
    posed = BodyModel.load("free").joints(**smpl, translation=translation, regressor=SKELETON)
    assert torch.allclose(posed, joints, atol=1e-5)
    pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
    assert torch.allclose(pixels, people["keypoints_2d"][..., :2], atol=1e-3)
    assert joints[..., 2].min() > 0.3, "in front of the camera"
    upright = joints[:, 10, 1] < joints[:, [3, 6], 1].amax(dim=1)  # head above the lower foot; the camera's y is down
    assert upright.float().mean() > 0.8
    assert len(set(people["sample_id"])) == len(people["subject"]) == len(people["action"]) == PEOPLE


def test_enough_joints_are_seen_and_the_box_is_about_them(cmu, motion):
    people = make(cmu, motion, keypoints_2d="gt", truncation=0.5).load("train")
    seen = people["keypoints_2d"][..., 2] > 0
    assert seen.sum(dim=-1).min() >= MIN_SEEN
    pixels, box = people["keypoints_2d"][..., :2], people["box"]
    low = torch.where(seen[..., None], pixels, torch.inf).amin(dim=1)
    high = torch.where(seen[..., None], pixels, -torch.inf).amax(dim=1)
    scale = box[:, 2] / (high - low).amax(dim=-1) / BOX_SCALE
    assert scale.min() > 0.9 - 1e-3 and scale.max() < 1.15 + 1e-3
    shift = (box[:, :2] - (low + high) / 2.0).abs() / box[:, 2:]
    assert shift.max() < 0.05 + 1e-3
    inside = ((pixels - box[:, None, :2]).abs() <= box[:, None, 2:] / 2.0).all(dim=-1)
    assert inside[seen].float().mean() > 0.99


def test_a_person_is_a_function_of_the_seed(cmu, motion):
    first, again = (make(cmu, motion).load("val") for _ in range(2))
    other = make(cmu, motion, noise_seed=1).load("val")
    for key in ("keypoints_2d", "keypoints_3d", "box", "camera_translation"):
        assert torch.equal(first[key], again[key])
        assert not torch.equal(first[key], other[key])
    assert first["sample_id"] == again["sample_id"] == other["sample_id"]
    assert torch.equal(first["smpl"]["body_pose"], other["smpl"]["body_pose"])


def test_splits_share_no_clip_and_no_name(cmu, motion):
    people = {split: make(cmu, motion).load(split) for split in SPLITS}
    assert [len(people[split]["sample_id"]) for split in SPLITS] == [PEOPLE, PEOPLE // 40, PEOPLE // 20]
    names = [name for split in SPLITS for name in people[split]["sample_id"]]
    assert len(set(names)) == len(names)
    clips = {split: {clip_of(name) for name in people[split]["sample_id"]} for split in SPLITS}
    assert not any(clips[a] & clips[b] for a, b in (("train", "val"), ("train", "test"), ("val", "test")))
    if motion == "cmu":
        assert clips == {"train": {"01_01", "01_02", "01_03", "03_01"}, "val": {"01_04"}, "test": {"02_01"}}
        assert not set(people["test"]["subject"]) & {*people["train"]["subject"], *people["val"]["subject"]}
        assert len(make(cmu, motion).load("train")["smpl"]["betas"].unique(dim=0)) == PEOPLE, "a shape of their own"


def test_both_is_half_synthetic_and_half_cmu(cmu):
    for split in SPLITS:
        both = make(cmu, "both", num_people=82).load(split)
        count = len(both["sample_id"])
        for motion, part in (("synthetic", slice(count // 2)), ("cmu", slice(count // 2, None))):
            wanted = make(cmu, motion, num_people=82)
            wanted.sizes[split] = len(both["sample_id"][part])
            alone = wanted.load(split)
            assert alone["sample_id"] == both["sample_id"][part]
            assert torch.equal(alone["smpl"]["body_pose"], both["smpl"]["body_pose"][part])


def test_people_of_several_folders_share_nobody_between_splits(tmp_path):
    """CMU's lists hold out 2 and 11; of a studio without a list the name decides."""
    clips = {
        "a": [{"name": f"{subject}_01", "subject": subject, "action": "walk"} for subject in ("01", "02", "11", "05")],
        "b": [{"name": f"b{subject}", "subject": f"b{subject}", "action": "wave"} for subject in range(12)],
    }
    roots = [
        motion_folder.write(tmp_path / name, f"{dataset}_mocap", clips[name])
        for name, dataset in zip("ab", ("cmu", "other"), strict=True)
    ]
    options = {"motion": "people", "roots": ",".join(map(str, roots)), "weights": "3,1"}
    people = {split: make("", **options).load(split) for split in SPLITS}
    subjects = {split: set(people[split]["subject"]) for split in SPLITS}
    assert not any(subjects[a] & subjects[b] for a, b in (("train", "val"), ("train", "test"), ("val", "test")))
    assert {"cmu_01", "cmu_05"} <= subjects["train"] and "cmu_11" in subjects["val"] and "cmu_02" in subjects["test"]
    from_first = [name.startswith("cmu_") for name in people["train"]["sample_id"]]
    assert sum(from_first) == 3 * PEOPLE // 4
    names = [name for split in SPLITS for name in people[split]["sample_id"]]
    assert len(set(names)) == len(names)
    posed = BodyModel.load("free").joints(**people["train"]["smpl"], regressor=SKELETON)
    upright = posed[:, 10, 1] < posed[:, [3, 6], 1].amax(dim=1)
    assert upright.float().mean() > 0.8
    assert "people of no other split" in make("", **options).protocols("test")[0].split
    with pytest.raises(InputError, match="data.weights is '3', expected 2 numbers"):
        make("", **{**options, "weights": "3"})
    with pytest.raises(InputError, match=r"data.roots: .*dataset.json does not exist; prepare it with"):
        make("", **{**options, "roots": "nothing", "weights": ""}).prepare_data()
    bare = motion_folder.write(tmp_path / "bare", "bare_mocap", clips["b"], columns=("joints_world",))
    with pytest.raises(InputError, match="has no poses here"):
        make("", **{**options, "roots": str(bare), "weights": ""}).load("train")


def test_too_few_people_are_refused(cmu):
    with pytest.raises(InputError, match="num_people is 39, expected at least 40"):
        make(cmu, num_people=39)
    with pytest.raises(InputError, match="num_people is 79, expected at least 80"):
        make(cmu, "both", num_people=79)
    assert len(make(cmu, "both", num_people=80).load("val")["sample_id"]) == 2
    with pytest.raises(InputError, match="data.occlusion is 1.5, expected 0 to 1"):
        make(cmu, occlusion=1.5)
    with pytest.raises(InputError, match="data.num_workers is -1, expected at least 0"):
        make(cmu, num_workers=-1)


@pytest.mark.parametrize("motion", ["cmu", "both"])
def test_without_a_prepared_folder_the_command_is_named(tmp_path, motion):
    data = make(str(tmp_path / "nothing"), motion)
    for load in (data.prepare_data, lambda: data.load("train")):
        with pytest.raises(InputError, match=r"nothing.*does not exist.*noise2pose prepare cmu_mocap"):
            load()
    make(str(tmp_path / "nothing")).prepare_data()  # synthetic motion needs no file


def test_joints_behind_objects_are_not_detected(cmu):
    data = make(cmu, occlusion=1.0, truncation=0.3)
    exact = make(cmu, occlusion=1.0, truncation=0.3, keypoints_2d="gt").load("train")
    detected = data.load("train")["keypoints_2d"]
    box = exact["box"][:, None]
    in_crop = (exact["keypoints_2d"][..., :2] - box[..., :2]) / box[..., 2:] + 0.5
    hidden = covered(in_crop, keys_of(exact["sample_id"]), data.noise_seed, 1.0)
    seen = (exact["keypoints_2d"][..., 2] > 0) & ~hidden
    guessed = seen.sum(dim=-1) < MIN_SEEN
    assert 0.0 < guessed.float().mean() < 0.2
    assert (detected[~guessed][~seen[~guessed]][:, 2] == 0).all(), "hidden, or outside the image"
    assert (detected[..., 2][exact["keypoints_2d"][..., 2] == 0] == 0).all()
    assert ((detected[..., 2] > 0).sum(dim=-1) >= MIN_SEEN).all()
    assert (detected[..., 2][seen] > 0).all() and detected[..., 2].max() <= 1.0
    clear = make(cmu, occlusion=0.0, truncation=0.3).load("train")["keypoints_2d"]
    assert ((clear[..., 2] > 0) == (exact["keypoints_2d"][..., 2] > 0)).all()
    error = (clear[..., :2] - exact["keypoints_2d"][..., :2]).norm(dim=-1) / exact["box"][:, 2:]
    assert 0.005 < error[exact["keypoints_2d"][..., 2] > 0].median() < 0.03


def test_images_lie_on_disk_as_bytes_and_are_loaded_as_numbers(cmu, tmp_path):
    options = {"num_people": 40, "picture_size": 32, "cache": str(tmp_path), "num_workers": 0}
    data = make(cmu, images=True, **options)
    people = data.load("train")
    assert people["image"].shape == (40, 3, 32, 32) and people["image"].dtype == torch.uint8
    (folder,) = tmp_path.iterdir()
    assert (np.load(folder / "pictures.npy") == people["image"].numpy()).all()
    data.batch_size = 40
    (batch,) = data.train_dataloader()
    assert batch["image"].dtype == torch.float32 and batch["image"].min() >= 0.0 and 0.5 < batch["image"].max() <= 1.0
    rows = torch.tensor([people["sample_id"].index(name) for name in batch["sample_id"]])
    assert torch.equal((batch["image"] * 255.0).round().to(torch.uint8), people["image"][rows])
    keypoints_only = make(cmu, **options).load("train")
    assert people.keys() - keypoints_only.keys() == {"image"}
    for key in ("keypoints_2d", "keypoints_3d", "box", "camera_translation"):
        assert torch.equal(people[key], keypoints_only[key])


def test_a_whole_image_shows_the_same_people(cmu, tmp_path):
    crops, whole = make(cmu, occlusion=0.0), make(cmu, occlusion=0.0, whole_images=True)
    ours, theirs = whole.load("val"), crops.load("val")
    assert all(torch.equal(ours[key], theirs[key]) for key in ("keypoints_2d", "keypoints_3d", "camera_translation"))
    assert torch.equal(ours["box"], torch.tensor([500.0, 500.0, 1000.0]).expand(len(ours["box"]), 3))
    assert "whole images" in whole.protocols("val")[0].split and "whole" not in crops.protocols("val")[0].split
    images = make(
        cmu, images=True, picture_size=16, whole_images=True, cache=str(tmp_path), num_workers=0, truncation=0.0
    ).load("val")["image"]
    borders = torch.cat((images[..., 0].flatten(1), images[..., -1].flatten(1)), dim=1)
    assert (borders.float().mean(dim=1) > 2.0).all()  # nothing is beyond the border, where crops are black


def test_the_protocol_says_what_the_numbers_are_of(cmu, motion):
    (protocol,) = make(cmu, motion, keypoints_2d="gt").protocols("test")
    assert protocol.dataset == f"rendered_{motion}" and protocol.keypoints_2d == "gt" and len(protocol.joints) == 14
    assert f"20 rendered people in {motion} poses" in protocol.split
    assert ("CMU subjects" in protocol.split) == (motion != "synthetic")
    assert make(cmu, motion).protocols("test")[0].keypoints_2d == "synthetic"
    images = make(cmu, motion, keypoints_2d="gt", images=True).protocols("test")[0]
    assert dataclasses.asdict(images) == dataclasses.asdict(protocol), "the same people"


def test_coco_keypoints_are_of_the_same_people_before_the_same_cameras():
    ours, theirs = (RenderedPeople(images=False, num_people=80, skeleton=name) for name in ("h36m_17", "coco_17"))
    human, coco = ours.load("test"), theirs.load("test")
    for key in ("global_orient", "body_pose", "betas"):
        assert torch.equal(human["smpl"][key], coco["smpl"][key])
    assert torch.equal(human["box"], coco["box"]) and theirs.protocols("test")[0].dimensions == 2
    names = [skeletons.get(name).joints for name in ("h36m_17", "coco_17")]
    exact, limbs = coco["keypoints_2d_gt"], [n for n in names[1] if n in names[0]]
    assert len(limbs) == 12
    for name in limbs:  # a regressor of Human3.6M is a centimetre from the kinematic joint
        joints = human["keypoints_3d"][:, names[0].index(name), None, :3]
        camera = human["camera"]
        apart = (
            cameras.project(joints, camera["focal"], camera["principal_point"])[:, 0]
            - exact[:, names[1].index(name), :2]
        )
        assert (apart.norm(dim=-1) < 0.03 * coco["box"][:, 2]).all(), name
    camera = coco["camera"]
    projected = cameras.project(coco["keypoints_3d"][..., :3], camera["focal"], camera["principal_point"])
    assert torch.allclose(projected, exact[..., :2], atol=0.01)
    nose, ears = coco["keypoints_3d"][:, 0, :3], coco["keypoints_3d"][:, 3:5, :3]
    assert ((nose - ears.mean(dim=1)).norm(dim=-1) - 0.13).abs().max() < 0.05  # metres: it is the nose of a head


def test_a_share_of_the_training_people_is_part_of_a_larger_share():
    def trained_on(share):
        data = RenderedPeople(images=False, num_people=80, train_share=share, batch_size=4)
        data.setup("fit")
        take, number = data.samples("train")
        batches = list(data.train_dataloader())
        assert data.samples("val")[1] == 2
        return number, take(torch.arange(number))["sample_id"], {name for b in batches for name in b["sample_id"]}

    (all_of, every, _), (tenth, few, seen), (half, some, _) = (trained_on(share) for share in (1.0, 0.1, 0.5))
    assert (all_of, half, tenth) == (80, 40, 8) and set(few) < set(some) < set(every) and seen == set(few)
    assert trained_on(0.001)[0] == 1
    with pytest.raises(InputError, match="data.train_share is 1.5, expected 0 to 1"):
        RenderedPeople(train_share=1.5)
