import math

import numpy as np
import pytest
import torch

from datamodules.base import BatchLoader, EpochOrder
from datamodules.cmu_mocap import CMUMocap
from datamodules.motion.sampled_cameras import EVALUATION, IMAGE_SIDE, CameraRanges, draw, see
from noise2pose import cameras
from noise2pose.errors import InputError
from tests.datamodules import motion_folder
from tests.datamodules.motion_folder import SKELETON, STANDING

NAME = SKELETON.name
KEYS = torch.arange(2000)


def people(number, frames=1):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(number, frames, 17, 3, generator=generator)
    return torch.tensor(STANDING, dtype=torch.float32) + 0.05 * noise


def reference(world, views, row):
    """One sample, joint by joint, in float64."""
    frames = [[np.array(joint, dtype=float) for joint in frame] for frame in world[row].tolist()]
    factors = views.limbs[row].tolist()
    resized = []
    for frame in frames:
        new = {0: frame[0]}
        while len(new) < 17:
            for joint, parent in enumerate(SKELETON.parents):
                if joint not in new and parent in new:
                    new[joint] = new[parent] + factors[joint] * (frame[joint] - frame[parent])
        resized.append([new[joint] for joint in range(17)])
    if views.mirrored[row]:
        resized = [[frame[SKELETON.flip_order[joint]] * [-1.0, 1.0, 1.0] for joint in range(17)] for frame in resized]
    points = np.array(resized)
    points -= (points.min(axis=(0, 1)) + points.max(axis=(0, 1))) / 2
    depth = max(float(views.distance[row]), np.linalg.norm(points, axis=-1).max() + 0.6)
    x, y = views.axis[row].tolist()
    rotation = views.rotation[row].double().numpy()
    points = np.array([[rotation @ joint + depth * np.array([x, y, 1.0]) for joint in frame] for frame in points])
    plane = points[..., :2] / points[..., 2:]
    low, high = plane.min(axis=(0, 1)), plane.max(axis=(0, 1))
    focal = IMAGE_SIDE * float(views.filled[row]) / (high - low).max()
    side = focal * (high - low)
    corner = IMAGE_SIDE / 2 + views.place[row].numpy() * (IMAGE_SIDE - side) / 2 - side / 2
    cut = float(views.cut[row])
    pixels = focal * (plane - low) + corner
    inside = np.ones(pixels.shape[:-1], dtype=bool)
    if cut > 0:
        axis, at_end = ((1, True), (1, False), (0, False), (0, True))[int(views.side[row])]
        moved = pixels.copy()
        edge = IMAGE_SIDE - (1 - cut) * side[axis] if at_end else -cut * side[axis]
        moved[..., axis] += edge - corner[axis]
        shown = ((moved >= 0) & (moved <= IMAGE_SIDE)).all(axis=-1)
        if shown.sum(axis=-1).min() >= 6:
            pixels, inside = moved, shown
    return points, pixels, inside, focal


def test_views_equal_those_worked_out_joint_by_joint():
    ranges = CameraRanges(truncated=0.5)
    world = people(40, frames=3)
    views = draw(KEYS[:40], ranges, NAME, seed=3)
    seen = see(world, views, NAME)
    assert views.mirrored.any() and (~seen.inside).any()
    for row in range(40):
        joints, pixels, inside, focal = reference(world, views, row)
        assert np.allclose(seen.joints[row], joints, atol=1e-5)
        assert np.allclose(seen.pixels[row], pixels, atol=0.02)
        assert (seen.inside[row].numpy() == inside).all() and abs(float(seen.focal[row]) / focal - 1.0) < 1e-5
    projected = cameras.project(seen.joints, seen.focal[:, None, None].expand(-1, 3, 2), seen.principal_point[:, None])
    assert torch.allclose(projected, seen.pixels, atol=0.02)


def test_a_view_depends_on_its_key_and_the_seed_alone():
    world = people(9)
    whole = see(world, draw(KEYS[:9], CameraRanges(), NAME, 1), NAME)
    part = see(world[4:7], draw(KEYS[4:7], CameraRanges(), NAME, 1), NAME)
    assert torch.equal(whole.pixels[4:7], part.pixels) and torch.equal(whole.joints[4:7], part.joints)
    other = see(world, draw(KEYS[:9], CameraRanges(), NAME, 2), NAME)
    assert (whole.pixels - other.pixels).abs().amax(dim=(1, 2, 3)).min() > 1.0


def test_how_many_are_seen_together_changes_no_bit():
    world, ranges = people(300), CameraRanges(truncated=0.2)
    keys = KEYS[:300]
    whole = see(world, draw(keys, ranges, NAME, 5), NAME)
    for size in (7, 64, 255):
        parts = [
            see(w, draw(k, ranges, NAME, 5), NAME) for w, k in zip(world.split(size), keys.split(size), strict=True)
        ]
        for name, values in whole._asdict().items():
            assert torch.equal(values, torch.cat([getattr(part, name) for part in parts])), (size, name)


def test_views_fill_their_ranges():
    ranges = CameraRanges(tilt=0.0, any_rotation=0.0, elevation=(-20.0, 50.0), distance=(2.0, 10.0), truncated=0.1)
    views = draw(KEYS, ranges, NAME, 0)
    position = -views.rotation.transpose(1, 2)[..., 2]  # where the camera stands, seen from the person
    elevation = torch.rad2deg(torch.asin(position[:, 2]))
    assert -20.01 < elevation.min() < -18.0 and 48.0 < elevation.max() < 50.01
    yaw = torch.atan2(position[:, 1], position[:, 0])
    assert torch.histc(yaw, 4, -math.pi, math.pi).min() > 400
    assert 2.0 <= views.distance.min() < 2.1 and 9.5 < views.distance.max() <= 10.0
    assert (views.distance < 4.47).float().mean() == pytest.approx(0.5, abs=0.05)
    assert views.limbs.min() > 0.85 * 0.9 - 1e-5 and views.limbs.max() < 1.15 * 1.1 + 1e-5
    for left, right in SKELETON.pairs:
        assert torch.equal(views.limbs[:, left], views.limbs[:, right])
    assert (views.limbs[:, 5] - views.limbs[:, 6]).abs().max() > 0.05  # thigh and shin, each its own
    assert (views.cut > 0).float().mean() == pytest.approx(0.1, abs=0.03)
    assert torch.bincount(views.side[views.cut > 0], minlength=4).min() > 10
    assert views.mirrored.float().mean() == pytest.approx(0.5, abs=0.05)
    identity = views.rotation @ views.rotation.transpose(1, 2)
    assert torch.allclose(identity, torch.eye(3).expand(2000, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(views.rotation), torch.ones(2000), atol=1e-5)


def test_people_are_upright_tilted_or_turned_any_way_as_asked():
    up = torch.tensor([0.0, 0.0, 1.0])

    def leaning(**options):  # degrees between up and the camera's own up
        plain = CameraRanges(elevation=(0.0, 0.0), roll=0.0, **options)
        return torch.rad2deg(torch.acos(-(draw(KEYS, plain, NAME, 0).rotation @ up)[:, 1].clamp(-1.0, 1.0)))

    assert leaning(tilt=0.0, any_rotation=0.0).max() < 0.1
    tilted = leaning(tilt=15.0, any_rotation=0.0)
    assert 12.0 < tilted.max() < 15.1
    turned = leaning(tilt=0.0, any_rotation=0.1)
    assert (turned > 90.0).float().mean() == pytest.approx(0.05, abs=0.02)
    assert torch.deg2rad(leaning(any_rotation=1.0)).cos().mean().abs() < 0.05  # all the way round


def test_everybody_is_in_the_image_but_those_whom_its_border_cuts():
    seen = see(people(2000), draw(KEYS, CameraRanges(truncated=0.0), NAME, 0), NAME)
    assert seen.inside.all() and seen.pixels.min() > -0.1 and seen.pixels.max() < IMAGE_SIDE + 0.1
    assert (seen.joints[..., 2] > 0.4).all()
    seen = see(people(2000), draw(KEYS, CameraRanges(truncated=1.0), NAME, 0), NAME)
    cut = (~seen.inside).any(dim=-1)[:, 0]
    assert cut.float().mean() > 0.9 and seen.inside.sum(dim=-1).min() >= 6


def test_people_of_the_evaluation_are_as_recorded():
    world = people(50)
    seen = see(world, draw(KEYS[:50], EVALUATION, NAME, 0), NAME)
    lengths = torch.cdist(world[:, 0], world[:, 0])
    assert torch.allclose(torch.cdist(seen.joints[:, 0], seen.joints[:, 0]), lengths, atol=1e-4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    clips = [{"name": f"01_{n:02d}", "subject": "01", "action": "walk"} for n in range(1, 7)]
    clips += [{"name": "02_01", "subject": "02", "action": "walk"}]
    return motion_folder.write(tmp_path_factory.mktemp("motion") / "cmu", "cmu_mocap", clips)


def batches(data, epoch, start=0):
    data.setup("fit")
    loader = data.train_dataloader()
    assert isinstance(loader, BatchLoader)
    loader.sampler.set_epoch(epoch)
    return list(loader.batches(start))


def test_every_epoch_sees_other_views_and_a_resumed_one_the_same(root):
    data = CMUMocap(str(root), cameras="sampled", batch_size=8)
    torch.manual_seed(0)
    first, again, rest, other = (batches(data, *which) for which in ((0,), (0,), (0, 2), (1,)))
    assert len(first) == len(CMUMocap(str(root), cameras="sampled").load("train")["keypoints_2d"]) // 8
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one["keypoints_2d"], two["keypoints_2d"])
    for one, two in zip(first[2:], rest, strict=True):
        assert torch.equal(one["keypoints_2d"], two["keypoints_2d"])
    assert not torch.equal(first[0]["keypoints_3d"], other[0]["keypoints_3d"])
    reseeded = batches(CMUMocap(str(root), cameras="sampled", batch_size=8, noise_seed=1), 0)
    assert not torch.equal(first[0]["keypoints_3d"], reseeded[0]["keypoints_3d"])


def test_two_processes_train_on_what_one_does(root):
    data = CMUMocap(str(root), cameras="sampled", batch_size=8)
    take, number = data.samples("train")
    stream = data.streams("train")
    alone, left, right = (
        list(BatchLoader(take, EpochOrder(number, size, shuffle=True, rank=rank, world_size=world), stream))
        for size, rank, world in ((8, 0, 1), (4, 0, 2), (4, 1, 2))
    )
    for whole, one, two in zip(alone, left, right, strict=True):
        for key in ("keypoints_2d", "keypoints_3d"):
            assert torch.equal(whole[key], torch.cat((one[key], two[key])))


def test_detections_have_errors_and_joints_that_are_missed_lie_on_the_person(root):
    options = {"root": str(root), "cameras": "sampled", "train_stride": 1}
    exact = CMUMocap(**options, keypoints_2d="gt").load("train")
    noisy = CMUMocap(**options, missing=0.1).load("train")
    assert torch.equal(exact["keypoints_3d"], noisy["keypoints_3d"])
    assert (exact["keypoints_2d"][..., 2] == 1.0).all()
    joints, camera = exact["keypoints_3d"][..., :3], exact["camera"]
    projected = cameras.project(joints, camera["focal"], camera["principal_point"])
    assert torch.allclose(projected, exact["keypoints_2d"][..., :2], atol=0.05)
    missed = noisy["keypoints_2d"][..., 2] == 0
    assert 0.07 < missed.float().mean() < 0.2
    error = (noisy["keypoints_2d"] - exact["keypoints_2d"])[..., :2].norm(dim=-1)
    assert 0.5 < error[~missed].median() < 20.0 and error[missed].median() < 400.0


def test_some_samples_are_exact_and_say_so(root):
    options = {"root": str(root), "cameras": "sampled", "train_stride": 1}
    truth = CMUMocap(**options, keypoints_2d="gt").load("train")["keypoints_2d"]
    noisy, some = (CMUMocap(**options, exact=share).load("train")["keypoints_2d"] for share in (0.0, 0.3))
    found = some[..., 2] > 0
    sure = ((some[..., 2] == 1.0) | ~found).all(dim=-1)
    assert sure.float().mean() == pytest.approx(0.3, abs=0.12)
    assert torch.equal(some[~sure], noisy[~sure])
    assert torch.equal(some[sure][found[sure]], truth[sure][found[sure]])
    assert torch.equal(found, noisy[..., 2] > 0)  # a joint that is missed or out of the image is so either way
    everybody = CMUMocap(**options, exact=1.0).load("train")["keypoints_2d"]
    assert torch.equal(everybody[everybody[..., 2] > 0], truth[everybody[..., 2] > 0])
    test = CMUMocap(**options, exact=1.0).load("test")["keypoints_2d"]
    assert torch.equal(test, CMUMocap(**options).load("test")["keypoints_2d"])


def test_a_clip_has_one_camera_and_one_person(root):
    options = {"root": str(root), "cameras": "sampled", "num_frames": 9}
    clips = CMUMocap(**options, limb_scale=0.1).load("train")
    joints = clips["keypoints_3d"][..., :3]
    assert joints.shape[1:] == (9, 17, 3) and clips["camera"]["focal"].shape == (len(joints), 2)
    parents = [max(parent, 0) for parent in SKELETON.parents]
    lengths = (joints - joints[:, :, parents]).norm(dim=-1)
    still = [joint for joint in range(17) if joint not in (12, 13, 15, 16)]  # one arm waves
    assert torch.allclose(lengths[:, :1, still].expand(-1, 9, -1), lengths[:, :, still], atol=1e-4)
    exact = CMUMocap(**options, keypoints_2d="gt").load("train")["keypoints_2d"]
    error = (clips["keypoints_2d"] - exact)[..., :2]
    assert (error[:, 0] - error[:, 1]).abs().amax(dim=(1, 2)).min() > 0.5  # frames have their own errors


@pytest.mark.parametrize("num_frames", [1, 9])
def test_the_evaluation_is_the_same_whatever_is_trained_on(root, num_frames):
    options = {"root": str(root), "cameras": "sampled", "num_frames": num_frames}
    first = CMUMocap(**options).load("test")
    again = CMUMocap(**options, nearest=5.0, roll=0.0, missing=0.0, train_stride=1).load("test")
    assert torch.equal(first["keypoints_2d"], again["keypoints_2d"])
    names = first["sample_id"]
    assert len(names) == len(set(names)) and names[1].startswith("02_01/view1/00000")
    assert set(first["subject"]) == {"02"}
    other = CMUMocap(**options, noise_seed=1).load("test")
    assert not torch.equal(first["keypoints_3d"], other["keypoints_3d"])
    (protocol,) = CMUMocap(**options).protocols("test")
    assert protocol.name.endswith("_any_view") and "4 cameras drawn for each" in protocol.split
    if num_frames > 1:  # every frame counts once in each view
        assert first["keypoints_3d"][..., 0, 3].sum() == 4 * motion_folder.FRAMES


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lowest_elevation": 50.0}, "data.lowest_elevation and data.highest_elevation are 50 and 45"),
        ({"nearest": 0.0}, "data.nearest and data.farthest are 0 and 12"),
        ({"missing": 1.5}, "data.missing is 1.5, expected 0 to 1"),
        ({"limb_scale": -0.1}, "data.limb_scale is -0.1"),
    ],
)
def test_impossible_ranges_are_named(root, options, message):
    with pytest.raises(InputError, match=message):
        CMUMocap(str(root), cameras="sampled", **options)
