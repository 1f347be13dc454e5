from collections.abc import Iterator

import numpy as np
import pytest
import torch

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints import noise
from tests.parity.procedural import read_fixture
from tests.places import PARITY

SIMILARITY = {"good": 0.85, "half": 0.5, "far": 0.1}
COCO_SIGMAS = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
H36M_SIGMAS = [107, 107, 87, 89, 107, 87, 89, 107, 79, 26, 35, 79, 72, 62, 79, 72, 62]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors of this size gain nothing from more, and on a busy machine threads wait long for each other."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(number)


def people(number: int, seed: int = 0, joints: int = 17) -> tuple[torch.Tensor, ...]:
    """Random keypoints in a box of 150 by 400 pixels, with keys."""
    generator = torch.Generator().manual_seed(seed)
    keypoints = torch.rand(number, joints, 2, generator=generator) * torch.tensor([150.0, 400.0]) + 100.0
    return keypoints, torch.ones(number, joints), torch.full((number,), 60000.0), torch.arange(number)


def others(number: int) -> torch.Tensor:
    """Three other people for each, some joints of whom are not valid."""
    generator = torch.Generator().manual_seed(9)
    near = people(3 * number, seed=8)[0].reshape(number, 3, 17, 2)
    valid = torch.rand(number, 3, 17, 1, generator=generator) < 0.8
    return torch.cat((near, valid), dim=-1)


def keypoints_of(*arguments: torch.Tensor, **settings) -> torch.Tensor:
    return noise.detect(*arguments, **settings).keypoints


def radius(sigma: int, area: float, similarity: float) -> float:
    return float(np.sqrt(-2.0 * area * (2 * sigma / 1000) ** 2 * np.log(similarity)))


@pytest.mark.parametrize("scene", ["alone", "overlap1", "overlap3_12valid", "sparse8", "sparse4"])
def test_shares_of_the_published_code(scene: str) -> None:
    data, meta = read_fixture(PARITY / "dpmesh_pose_noise.safetensors")
    config = meta["config"]["scenes"][scene]
    number, counted = 10_000, config["valid_joints"]
    keypoints = torch.from_numpy(data["input/joints"][:, :2]).float()
    valid = (torch.arange(17) < counted).expand(number, -1)
    near = torch.from_numpy(data["input/near"][: config["near"]]).float()
    found = keypoints_of(
        keypoints.expand(number, -1, -1),
        valid,
        torch.full((number,), float(data["input/area"])),
        torch.arange(number),
        neighbours=near.expand(number, -1, -1, -1),
        num_overlap=torch.full((number,), config["num_overlap"]),
    )
    distance = (found[..., :2] - keypoints).norm(dim=-1)
    edges = torch.stack([torch.from_numpy(data[f"output/radius_ks{name}"]) for name in (85, 50, 10)])
    band = (distance >= edges[:, None]).sum(dim=0)
    shares = torch.stack([(band == i).double().mean(dim=0) for i in range(4)]).numpy()[:, :counted]
    published = data[f"output/{scene}/fraction_good_jitter_miss_far"][:, :counted]
    variance = np.maximum(shares * (1 - shares), published * (1 - published)) / meta["config"]["draws"]
    assert (np.abs(shares - published) <= 4 * np.sqrt(variance)).all()
    assert (np.abs((shares - published).mean(axis=1)) <= 0.014).all()
    mean_distance = data[f"output/{scene}/mean_distance"][:counted].mean()
    assert distance[:, :counted].mean().item() == pytest.approx(mean_distance, rel=0.06)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("skeleton, sigmas", [("coco_17", COCO_SIGMAS), ("h36m_17", H36M_SIGMAS)])
def test_every_error_is_where_its_kind_says(skeleton: str, sigmas: list[int], dtype: torch.dtype) -> None:
    keypoints, valid, area, keys = people(60)
    valid[::2, 3:9] = 0
    near = others(60)
    result = noise.detect(
        keypoints.to(dtype),
        valid,
        area,
        keys,
        skeleton=skeleton,
        neighbours=near.to(dtype),
        error_rate=1.5,
        good_radius=0.5,
    )
    assert result.keypoints.dtype == dtype
    partner = skeletons.get(skeleton).flip_order
    seen = set()
    for i in range(60):
        for j in range(17):
            at, error = result.keypoints[i, j, :2].float(), result.errors[i, j].item()
            if not valid[i, j]:
                assert (result.keypoints[i, j] == 0).all() and error == noise.GOOD
                continue
            seen.add(error)
            good, half, far = (radius(sigmas[j], 60000.0, similarity) for similarity in SIMILARITY.values())

            def away(point: torch.Tensor, at: torch.Tensor = at) -> float:
                return float((at - point).norm())

            own = away(keypoints[i, j])
            has_partner = partner[j] != j
            inverted = away(keypoints[i, partner[j]]) if has_partner and valid[i, partner[j]] else np.inf
            swapped = [away(near[i, p, k, :2]) for p in range(3) for k in {j, partner[j]} if near[i, p, k, 2]]
            slack = 1e-3
            if error in (noise.GOOD, noise.JITTER):
                low, high = (0.0, 0.5 * good) if error == noise.GOOD else (good, half)
                assert low - slack <= own <= high + slack
                assert own <= min([inverted, *swapped]) + slack
            elif error == noise.MISS:
                every = sorted([own, inverted, *swapped])
                assert half - slack <= every[0] <= far + slack
            elif error == noise.INVERSION:
                assert inverted <= half + slack and inverted <= min([own, *swapped]) + slack
            else:
                assert min(swapped) <= half + slack
                assert any(x <= half + slack and x <= min(own, inverted) + slack for x in swapped)
    assert seen == {noise.GOOD, noise.JITTER, noise.MISS, noise.INVERSION, noise.SWAP}


def test_chances_are_the_published_ones_when_everything_is_possible() -> None:
    """Joints far from each other, so that no error is ever impossible: the priors themselves, without the swap."""
    number = 20_000
    far_apart = 5000.0 * torch.arange(17.0)[None, :, None].expand(number, -1, 2)
    _, valid, area, keys = people(number)
    errors = noise.detect(far_apart, valid, area, keys).errors
    for joint, (jitter, miss, inversion, swap) in {
        0: (0.10, 0.02, 0.0, 0.01),  # the nose has no partner
        9: (0.15, 0.10, 0.03, 0.06),
        11: (0.20, 0.10, 0.06, 0.03),
    }.items():
        good = 1.0 - jitter - miss - swap - (0.01 if joint == 0 else inversion)
        expected = np.array([good, jitter, miss, inversion, 0.0])
        expected /= expected.sum()
        shares = torch.bincount(errors[:, joint], minlength=5).double().numpy() / number
        assert (np.abs(shares - expected) <= 4 * np.sqrt(expected * (1 - expected) / number)).all()


def test_a_crowd_is_swapped_more_often() -> None:
    keypoints, valid, area, keys = people(2000)
    valid[:, 15:] = 0
    near = others(2000)

    def swaps(neighbours: torch.Tensor | None, num_overlap: int | None = None) -> int:
        overlap = None if num_overlap is None else torch.full((2000,), num_overlap)
        drawn = noise.detect(keypoints, valid, area, keys, neighbours=neighbours, num_overlap=overlap)
        return int((drawn.errors == noise.SWAP).sum())

    assert swaps(None, 3) == 0
    assert 0 < 1.5 * swaps(near, 2) < swaps(near, 3)
    assert swaps(near) == swaps(near, 3)  # three people near are three that overlap


def test_a_person_does_not_depend_on_the_batch() -> None:
    keypoints, valid, area, keys = people(100)
    valid[::3, 4:12] = 0
    near = others(100)
    whole = keypoints_of(keypoints, valid, area, keys, neighbours=near)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    shuffled = keypoints_of(keypoints[order], valid[order], area[order], keys[order], neighbours=near[order])
    assert torch.equal(shuffled, whole[order])
    for i in (0, 7, 99):
        row = slice(i, i + 1)
        alone = keypoints_of(keypoints[row], valid[row], area[row], keys[row], neighbours=near[row])
        assert torch.equal(alone[0], whole[i])


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    data = people(50)
    whole = keypoints_of(*data)
    monkeypatch.setattr(noise, "_PLACES_PER_CHUNK", 100)
    assert torch.equal(keypoints_of(*data), whole)
    assert keypoints_of(*(part[:0] for part in data)).shape == (0, 17, 3)


def test_seed_and_keys_choose_the_numbers() -> None:
    keypoints, valid, area, keys = people(50)
    first = keypoints_of(keypoints, valid, area, keys)
    assert torch.equal(first, keypoints_of(keypoints, valid, area, keys))
    assert not torch.isclose(first, keypoints_of(keypoints, valid, area, keys, seed=1)).any(dim=-1).all(dim=0).any()
    same = keypoints_of(keypoints[:1].expand(50, -1, -1), valid, area, torch.arange(50))
    assert len(same.flatten(1).unique(dim=0)) == 50


def test_the_knobs() -> None:
    data = people(500)
    perfect = noise.detect(*data, error_rate=0.0, good_radius=0.0)
    assert (perfect.errors == noise.GOOD).all()
    torch.testing.assert_close(perfect.keypoints[..., :2], data[0])

    def mean_error(**settings: float) -> float:
        return (keypoints_of(*data, skeleton="h36m_17", **settings)[..., :2] - data[0]).norm(dim=-1).mean().item()

    assert mean_error(error_rate=0.4, good_radius=0.35) < 0.6 * mean_error()
    assert mean_error(error_rate=1.5) > 1.2 * mean_error()


def test_confidence_falls_with_the_error() -> None:
    keypoints, valid, area, keys = people(3000)
    result = noise.detect(keypoints, valid, area, keys, neighbours=others(3000))
    confidence = result.keypoints[..., 2]
    assert ((confidence > 0) & (confidence <= 1)).all()
    mean = [confidence[result.errors == error].mean().item() for error in range(5)]
    assert mean[noise.GOOD] > mean[noise.JITTER] + 0.1 > mean[noise.MISS] + 0.2
    # Found on the wrong joint or person, and sure of it.
    assert mean[noise.INVERSION] > mean[noise.JITTER] and mean[noise.SWAP] > mean[noise.JITTER]
    good, missed = confidence[result.errors == noise.GOOD], confidence[result.errors == noise.MISS]
    assert missed.quantile(0.98) > good.quantile(0.02)  # neither is recognised by its confidence alone


def test_joints_in_one_place_are_still_answered() -> None:
    keypoints, valid, area, keys = people(200)
    same = keypoints[:, :1].expand(-1, 17, -1)
    near = torch.cat((same, torch.ones(200, 17, 1)), dim=-1)[:, None]
    result = noise.detect(same, valid, area, keys, neighbours=near)
    assert result.keypoints.isfinite().all() and (result.keypoints[..., 2] > 0).all()
    assert ((result.keypoints[..., :2] - same).norm(dim=-1) < radius(107, 60000.0, 0.1)).all()
    assert (result.errors == noise.GOOD).float().mean() > 0.5


@pytest.mark.parametrize(
    "spoil, message",
    [
        ({"keypoints": torch.nan}, "keypoints: 1 numbers are NaN"),
        ({"area": torch.inf}, "area: 1 numbers are NaN or infinite"),
        ({"area": 0.0}, "area: 1 of 3 boxes have no area"),
        ({"neighbours": torch.nan}, "neighbours: 1 numbers are NaN"),
        ({"error_rate": 2.0}, "error_rate is 2.0, expected 0 to 1.5"),
        ({"good_radius": -0.1}, "good_radius is -0.1, expected 0 to 1"),
        ({"skeleton": "lamp"}, "unknown skeleton lamp"),
        ({"skeleton": "smpl_24"}, "skeleton smpl_24: no detection errors are known for spine1"),
        ({"skeleton": "lsp_14"}, "keypoints have 17 joints, the skeleton has 14"),
    ],
)
def test_wrong_input_is_named(spoil: dict, message: str) -> None:
    keypoints, valid, area, keys = people(3)
    tensors = {"keypoints": keypoints, "area": area, "neighbours": others(3)}
    settings = {}
    for name, value in spoil.items():
        if name in tensors:
            tensors[name].view(-1)[0] = value
        else:
            settings[name] = value
    with pytest.raises(InputError, match=message):
        noise.detect(valid=valid, keys=keys, **tensors, **settings)
