"""Prepared folders as batches: frames, clips, 2-D sources, boxes, memory maps."""

import numpy as np
import pytest
import torch

from noise2pose import cameras, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from tests.datamodules import toy_folder
from tests.datamodules.toy_folder import CENTRE, FOCAL, Toy


@pytest.fixture
def root(tmp_path):
    return str(toy_folder.write(tmp_path / "toy"))


def test_frames_are_the_valid_rows_in_order(root):
    batch = Toy(root).load("test")
    points = np.concatenate([toy_folder.joints("test", 0), toy_folder.joints("test", 1)])
    points = np.delete(points, 2, axis=0)  # not counted by the publisher
    assert torch.equal(batch["keypoints_3d"], torch.from_numpy(points))
    assert batch["sample_id"][:3] == ["test0/000000", "test0/000001", "test0/000003"] and len(batch["sample_id"]) == 12
    assert batch["subject"][0] == "S0" and batch["subject"][-1] == "S1" and batch["sequence"][-1] == "test1"
    pixels = points[..., :2] / points[..., 2:3] * np.array(FOCAL) + np.array(CENTRE)
    np.testing.assert_allclose(batch["keypoints_2d"][..., :2], pixels, rtol=1e-5)
    assert (batch["keypoints_2d"][..., 2] == 1).all()


def test_strides_count_within_each_sequence(root):
    names = Toy(root, eval_stride=3).load("test")["sample_id"]
    assert names == ["test0/000000", "test0/000003", "test0/000006", "test1/000000", "test1/000003"]
    assert torch.equal(
        Toy(root, train_stride=3).load("train")["keypoints_3d"][3], torch.from_numpy(toy_folder.joints("train", 1)[0])
    )


def test_batches_from_files_and_from_memory_are_equal(root):
    for frames in (1, 4):
        mapped, whole = (
            Toy(root, num_frames=frames, memory_map=flag, keypoints_2d="synthetic") for flag in (True, False)
        )
        for module in (mapped, whole):
            module.setup("fit")
        for one, other in zip(mapped.train_dataloader(), whole.train_dataloader(), strict=True):
            assert one.keys() == other.keys()
            for key in ("keypoints_2d", "keypoints_3d", "box"):
                assert torch.equal(one[key], other[key]), key


def test_clips_count_every_frame_once_and_only_valid_ones(root):
    batch = Toy(root, num_frames=4).load("test")
    assert batch["keypoints_3d"].shape == (4, 4, 17, 4)  # three windows of nine frames, one of four
    counted = batch["keypoints_3d"][..., 0, 3].bool()
    assert int(counted.sum()) == 12  # of 13 frames, one of which the publisher does not count
    assert not counted[0, 2] and counted[0, [0, 1, 3]].all()
    naive = toy_folder.joints("test", 0)[5:9]
    np.testing.assert_array_equal(batch["keypoints_3d"][2, :, :, :3], naive[..., :3])
    assert batch["sample_id"] == ["test0/000000", "test0/000004", "test0/000005", "test1/000000"]


def test_clips_count_only_what_a_data_set_keeps(root):
    class Few(Toy):
        def keeps(self, folder, rows, split):
            return np.isin(folder.column("frame")[rows], (1, 2)) & (folder.column("sequence")[rows] != 4)

    single, clips = Few(root).load("test"), Few(root, num_frames=4).load("test")
    counted = clips["keypoints_3d"][..., 0, 3]
    assert 0 < len(single["keypoints_3d"]) == int(counted.sum()) <= 3
    assert counted.any(dim=1).all()  # no clip is there for nothing


def test_2d_sources(root):
    exact, detected, synthetic = (
        Toy(root, keypoints_2d=s).load("val")["keypoints_2d"] for s in ("gt", "detected", "synthetic")
    )
    torch.testing.assert_close(detected[..., :2], exact[..., :2] + torch.tensor([3.0, -4.0]))
    error = (synthetic - exact)[..., :2].norm(dim=-1)
    assert 0 < float(error.median()) < 20
    assert torch.equal(synthetic, Toy(root, keypoints_2d="synthetic").load("val")["keypoints_2d"])
    assert not torch.equal(synthetic, Toy(root, keypoints_2d="synthetic", noise_seed=1).load("val")["keypoints_2d"])


def test_other_2d_input_at_test_needs_a_flag(root):
    with pytest.raises(InputError, match="data.mixed_keypoints_2d true"):
        Toy(root, keypoints_2d="gt", test_keypoints_2d="detected")
    module = Toy(root, keypoints_2d="gt", test_keypoints_2d="detected", mixed_keypoints_2d=True)
    assert module.protocols("test")[0].keypoints_2d == "detected"
    shift = module.load("test")["keypoints_2d"] - Toy(root).load("test")["keypoints_2d"]
    torch.testing.assert_close(shift[..., 0], torch.full_like(shift[..., 0], 3.0), atol=1e-3, rtol=0)


def test_missing_detections_are_said_before_training(tmp_path):
    root = toy_folder.write(tmp_path / "toy", detected=False)
    with pytest.raises(InputError, match="has no detections: prepare toy with a detector's file"):
        Toy(str(root), keypoints_2d="detected").load("train")


def test_boxes_are_scaled_once(tmp_path):
    root = str(toy_folder.write(tmp_path / "toy", bounds=True))
    sides = {
        rule: float(Toy(root, box_rule=rule).load("val")["box"][0, 2]) for rule in ("keypoints", "mask", "detector")
    }
    assert sides == pytest.approx({"keypoints": 1.2 * 400, "mask": 0.9 * 400, "detector": 1.25 * 400})
    box = Toy(root, box_rule="dpmesh").load("val")["box"][0]
    torch.testing.assert_close(box, torch.tensor([200.0, 400.0, 1.1 * 1.2 * 400]))


def test_unknown_cameras_are_the_diagonal_and_2d_sets_have_no_valid_3d(tmp_path):
    batch = Toy(str(toy_folder.write(tmp_path / "toy", only_2d=True))).load("val")
    torch.testing.assert_close(batch["camera"]["focal"][0], torch.full((2,), float(np.hypot(1000, 960))))
    assert batch["camera"]["principal_point"][0].tolist() == [500.0, 480.0]
    assert not batch["keypoints_3d"].any()


def test_settings_that_make_no_sense(root, tmp_path):
    with pytest.raises(InputError, match="data.num_frames is 0"):
        Toy(root, num_frames=0)
    with pytest.raises(InputError, match="noise2pose prepare toy"):
        Toy(str(tmp_path / "nothing")).prepare_data()


def in_training(module: Toy) -> list[PoseBatch]:
    """Training batches as a method gets them."""
    module.setup("fit")
    return [module.finish(batch, training=True) for batch in module.train_dataloader()]


def marked_pixels(batch: PoseBatch) -> torch.Tensor:
    """Where the red disc is in each crop, in pixels of the varied image."""
    image = batch["image"]
    red = (image[:, 0] - image[:, 1] > 0.4).float()
    size = image.shape[-1]
    places = torch.arange(size) + 0.5
    x = (red.sum(dim=1) * places).sum(dim=-1) / red.sum(dim=(1, 2))
    y = (red.sum(dim=2) * places).sum(dim=-1) / red.sum(dim=(1, 2))
    box = batch["box"]
    return box[:, :2] + (torch.stack((x, y), dim=-1) / size - 0.5) * box[:, 2:]


@pytest.mark.parametrize("augment", ["none", "hmr"])
def test_images_show_what_labels_say(tmp_path, augment):
    root = str(toy_folder.write(tmp_path / "toy", images=True))
    batches = in_training(Toy(root, images=True, augment=augment, image_size=128, batch_size=4))
    assert sum(len(batch["image"]) for batch in batches) == 8
    skeleton = skeletons.get("h36m_17")
    for batch in batches:
        assert batch["image"].shape[1:] == (3, 128, 128) and 0 <= batch["image"].min() <= batch["image"].max() <= 1
        assert not {"patches", "variation"} & set(batch)
        joint = batch["keypoints_2d"][:, toy_folder.MARKED]
        assert skeleton.flip_order[toy_folder.MARKED] == toy_folder.MARKED  # the head, which a mirror does not rename
        inside = ((joint[:, :2] - batch["box"][:, :2]).abs() < 0.5 * batch["box"][:, 2:] - 30).all(dim=-1)
        assert inside.sum() >= 2
        torch.testing.assert_close(marked_pixels(batch)[inside], joint[inside, :2], atol=3.0, rtol=0)
        # Labels stay consistent with each other whatever happened to them.
        camera, joints = batch["camera"], batch["keypoints_3d"]
        pixels = cameras.project(joints[..., :3], camera["focal"], camera["principal_point"])
        torch.testing.assert_close(pixels, batch["keypoints_2d"][..., :2], atol=0.05, rtol=0)


def test_augmentation_is_the_same_in_the_same_epoch(tmp_path):
    root = str(toy_folder.write(tmp_path / "toy", images=True))

    def labels(epoch: int, **options) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        module = Toy(root, augment="hmr", **options)
        module.setup("fit")
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        batches = [module.finish(batch, training=True) for batch in loader]
        return {
            name: row for batch in batches for name, row in zip(batch["sample_id"], batch["keypoints_2d"], strict=True)
        }

    one, other = labels(1, batch_size=11), labels(1, batch_size=11, images=True, num_workers=1)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    again = labels(2, batch_size=11)
    assert not all(torch.equal(one[name], again[name]) for name in one.keys() & again.keys())


def test_missing_images_are_named(tmp_path):
    root = toy_folder.write(tmp_path / "toy", images=True)
    (tmp_path / "pictures" / "val" / "003.jpg").unlink()
    module = Toy(str(root), images=True)
    module.setup("validate")
    with pytest.raises(InputError, match="val/003.jpg does not exist"):
        list(module.val_dataloader())
    with pytest.raises(InputError, match="no such folder; say with data.picture_root"):
        Toy(str(root), images=True, picture_root=str(tmp_path / "moved")).prepare_data()
    with pytest.raises(InputError, match="was prepared without images"):
        Toy(str(toy_folder.write(tmp_path / "without")), images=True).prepare_data()
