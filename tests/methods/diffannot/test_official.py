import pytest
import torch

from methods.diffannot.official import load_denoiser
from noise2pose.errors import InputError
from tests.parity.diffannot import fixture
from tests.parity.tolerances import assert_rows_close


@torch.no_grad()
def test_the_denoiser_predicts_the_released_noise():
    tensors, weights, _ = fixture("mlp_226")
    x, t = tensors["input/x"], tensors["input/t"]
    network = load_denoiser(weights)
    # The embedding takes sines of rounded angles up to t, so the error grows with t: tenfold from 0 to 999.
    for answer, key in ((network, "eps"), (load_denoiser(weights, output_relu=False), "eps_before_relu")):
        expected = tensors[f"output/{key}"]
        assert_rows_close(answer(x, t), expected, (1 + t / 100) * expected.abs().max(), 4e-6)
    assert sum(parameter.numel() for parameter in network.parameters()) == 256_510


def small(size=5, width=7, output_size=6, time_width=5):
    layers = {
        "module.0": (width, size),
        "module.2": (width, width),
        "module.4": (output_size, width),
        "time_embed.0": (time_width, size),
        "time_embed.2": (size, time_width),
    }
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for layer, shape in layers.items():
        weights[f"{layer}.weight"] = torch.randn(shape, generator=generator)
        weights[f"{layer}.bias"] = torch.randn(shape[:1], generator=generator)
    return weights


@pytest.mark.parametrize("sizes", [(5, 7, 6, 5), (5, 7, 10, 7), (4, 4, 4, 4)])
def test_sizes_are_read_off_the_tensors(sizes):
    network = load_denoiser(small(*sizes))
    assert network(torch.randn(3, sizes[0]), torch.arange(3)).shape == (3, sizes[2]) and not network.training


@torch.no_grad()
@pytest.mark.parametrize("times", [1, 2])
def test_the_prefix_of_distributed_training_is_told_from_the_layers_name(times):
    x, t = torch.randn(3, 5), torch.arange(3)
    wrapped = {"module." * times + key: value for key, value in small().items()}
    assert "module.module.0.weight" in wrapped or times == 2
    assert torch.equal(load_denoiser(wrapped)(x, t), load_denoiser(small())(x, t))


def test_wrapped_and_half_precision_weights_are_read():
    x, t = torch.randn(3, 5), torch.arange(3)
    half = {key: value.half() for key, value in small().items()}
    network = load_denoiser({"step": 1, "state_dict": half})
    assert network(x, t).dtype == torch.float32
    assert torch.allclose(network(x, t), load_denoiser(small())(x, t), atol=0.05)


def changed(**changes):
    weights = small()
    for key, value in changes.items():
        name = key.replace("_weight", ".weight").replace("_bias", ".bias").replace("module_", "module.")
        weights[name] = value
    return {key: value for key, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    "weights, message",
    [
        (changed(module_2_bias=None), "module.2.bias is missing"),
        (changed(module_6_weight=torch.zeros(2)), "module.6.weight is not known"),
        (changed(module_2_weight=torch.zeros(7, 8)), r"module.2.weight has shape \(7, 8\), expected \(7, 7\)"),
        (changed(module_0_weight=torch.zeros(7)), r"module.0.weight has shape \(7,\), expected 2 dimensions"),
        (
            {**{f"module.{key}": value for key, value in small().items()}, "extra": torch.zeros(1)},
            "some names begin with module. and some do not: extra",
        ),
        ({"optimizer": {}}, "no state dict of tensors; it has keys optimizer"),
        ({"state_dict": {}}, "no state dict"),
        ([1, 2], "no state dict"),
    ],
)
def test_what_does_not_fit_is_named(weights, message):
    with pytest.raises(InputError, match=message):
        load_denoiser(weights)
