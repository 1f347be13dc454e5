import pytest
import torch

from noise2pose import keyed_random


def test_known_answer_of_splitmix64():
    assert keyed_random._mix(torch.zeros(1, dtype=torch.int64)).item() % 2**64 == 0xE220A8397B1DCDAF


def test_numbers_belong_to_the_sample():
    keys = keyed_random.keys_of([f"sample {i}" for i in range(50)])
    together = keyed_random.normal(keys, (17, 3), stream=4, seed=2)
    chosen = torch.tensor([30, 7, 7])
    assert torch.equal(together[chosen], keyed_random.normal(keys[chosen], (17, 3), stream=4, seed=2))


@pytest.mark.parametrize("change", [{"seed": 1}, {"stream": 1}, {"seed": -3}, {"seed": 2**63 + 5}])
def test_seeds_and_streams_are_independent(change):
    keys = torch.arange(2000)
    left, right = keyed_random.normal(keys, (10,)), keyed_random.normal(keys, (10,), **change)
    assert abs((left * right).mean().item()) < 0.03


def test_moments():
    uniform = keyed_random.uniform(torch.arange(20_000), (20,))
    assert uniform.min() > 0 and uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=2e-3)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=1e-3)
    correlation = torch.corrcoef(uniform.T).fill_diagonal_(0).abs().max()
    assert correlation < 0.04
    normal = keyed_random.normal(torch.arange(20_000), (20,))
    assert normal.isfinite().all()
    assert normal.mean().item() == pytest.approx(0.0, abs=5e-3)
    assert normal.std().item() == pytest.approx(1.0, abs=5e-3)
    assert (normal**4).mean().item() == pytest.approx(3.0, abs=0.06)


def test_extremes_stay_inside_the_interval():
    top = (torch.tensor(2.0**23 - 1) + 0.5) * 2.0**-23
    assert top < 1 and torch.special.ndtri(top).isfinite()


def test_empty():
    assert keyed_random.normal(torch.zeros(0, dtype=torch.int64), (3,)).shape == (0, 3)
    assert keyed_random.keys_of([]).shape == (0,)
