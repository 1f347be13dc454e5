import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise2pose.errors import InputError
from noise2pose.keypoints.heatmaps import detection_heatmaps, heatmaps, sample_heatmaps
from tests.parity.procedural import read_fixture
from tests.places import PARITY


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heatmaps_of_the_official_code(dtype: torch.dtype) -> None:
    data, meta = read_fixture(PARITY / "dpmesh_heatmap.safetensors")
    grid, sigma = meta["config"]["grid"], meta["config"]["sigma"]
    found = heatmaps(torch.from_numpy(data["input/joints"]).to(dtype), (grid, grid), sigma)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), torch.from_numpy(data["output/heatmap"]), rtol=0, atol=1e-6)


def test_heatmaps_against_a_naive_loop() -> None:
    keypoints = torch.tensor([[3.0, 1.0], [-2.0, 8.5]])
    found = heatmaps(keypoints, (5, 7), 1.5)
    assert found.shape == (2, 5, 7)
    for joint, (x, y) in enumerate(keypoints.tolist()):
        for row in range(5):
            for column in range(7):
                square = torch.tensor((column - x) ** 2 + (row - y) ** 2)
                torch.testing.assert_close(found[joint, row, column], torch.exp(-square / (2 * 1.5**2)))
    assert found[0, 1, 3] == 1.0 == found[0].max()
    assert heatmaps(torch.zeros(2, 3, 4, 2), (5, 7), 1.0).shape == (2, 3, 4, 5, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_follow_the_map(dtype: torch.dtype) -> None:
    maps = torch.tensor([[[0.0, 3.0, 0.0], [1.0, 0.0, 4.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 7e-5]]], dtype=dtype)
    number = 20_000
    samples = sample_heatmaps(maps[None], torch.tensor([5]), number)[0]
    assert samples.shape == (number, 2, 2) and samples.dtype == dtype
    cell = (samples[:, 0] + 0.5).floor().long()
    shares = torch.bincount(cell[:, 1] * 3 + cell[:, 0], minlength=6).double() / number
    expected = maps[0].flatten().double() / 8
    assert ((shares - expected).abs() <= 4 * (expected * (1 - expected) / number).sqrt()).all()
    within = samples[:, 1] - torch.tensor([2.0, 1.0], dtype=dtype)  # the only cell of the second map
    assert (within.abs() <= 0.5).all()
    for axis in range(2):  # uniform within the cell
        counts = torch.histc(within[:, axis], 10, -0.5, 0.5)
        assert ((counts - number / 10) ** 2 / (number / 10)).sum() < 33.7  # chi-square, 9 degrees, p = 1e-4
    assert torch.corrcoef(within.T)[0, 1].abs() < 4 / number**0.5


def test_samples_of_a_gaussian_have_its_mean_and_spread() -> None:
    keypoints = torch.tensor([[20.3, 31.7], [40.0, 12.5]])
    maps = heatmaps(keypoints, (64, 64), 3.0)
    samples = sample_heatmaps(maps[None], torch.tensor([1]), 20_000)[0]
    torch.testing.assert_close(samples.mean(0), keypoints, rtol=0, atol=4 * 3.0 / 20_000**0.5)
    torch.testing.assert_close(samples.std(0), torch.full((2, 2), (9 + 1 / 12) ** 0.5), rtol=0.02, atol=0)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.floats(1e-6, 1e6), st.integers(0, 100))
def test_only_cells_with_a_value_are_sampled_whatever_the_scale(
    height: int, width: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    maps[maps < 0.5] = 0.0
    maps[..., -1, -1] = 1.0
    keys = torch.tensor([seed, 77])
    samples = sample_heatmaps(maps * scale, keys, 40)
    x, y = (samples + 0.5).floor().long().unbind(-1)
    cells = maps.flatten(-2)[:, None].expand(-1, 40, -1, -1).gather(-1, (y * width + x)[..., None])
    assert (cells > 0).all()
    torch.testing.assert_close(samples, sample_heatmaps(maps, keys, 40))


def test_samples_do_not_depend_on_the_batch() -> None:
    maps = torch.rand(4, 2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    keys = torch.arange(4)
    whole = sample_heatmaps(maps, keys, 5)
    assert whole.shape == (4, 2, 5, 3, 2)
    assert torch.equal(sample_heatmaps(maps[2:3], keys[2:3], 5)[0], whole[2])
    assert not torch.equal(sample_heatmaps(maps, keys, 5, seed=1), whole)


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.inf])
def test_maps_that_are_no_maps_are_refused(value: float) -> None:
    maps = torch.ones(2, 3, 4, 4)
    maps[1, 2] = value
    with pytest.raises(InputError, match="heat-maps: 1 of 6 have"):
        sample_heatmaps(maps, torch.arange(2), 3)


def test_a_detector_that_is_not_sure_responds_at_the_true_place_and_at_the_other_side() -> None:
    truth = torch.tensor([[[10.0, 10.0], [40.0, 10.0], [25.0, 50.0]]])  # left, right, and one without a side
    reported, confidence = torch.tensor([[[10.0, 40.0], [40.0, 10.0], [25.0, 50.0]]]), torch.tensor([[0.4, 1.0, 0.0]])
    box = torch.tensor([[31.5, 31.5, 64.0]])
    detections = torch.cat((reported, confidence[..., None]), dim=-1)
    maps = detection_heatmaps(detections, truth, box, (64, 64), 2.0, torch.tensor([1, 0, 2]))[0]
    assert maps[0].argmax() == 40 * 64 + 10 and maps[0].amax() == pytest.approx(1.0, abs=0.1)  # what is reported
    for column in (10, 40):  # the true place and the partner's
        assert maps[0, 10, column] == pytest.approx(0.3, abs=0.03)
    assert torch.allclose(maps[1], heatmaps(truth[:, 1], (64, 64), 2.0)[0])  # sure of itself
    assert maps[2].amax() == pytest.approx(1.5, abs=0.15)  # both peaks are at the same place
