import numpy as np
import pytest
import torch

from methods.diffpose import diffusion, official
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def fixture(name):
    tensors, meta = read_fixture(PARITY / f"diffpose_{name}.safetensors")
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, weights, meta


@torch.no_grad()
def test_gcndiff_predicts_the_released_noise():
    tensors, weights, _ = fixture("gcndiff")
    network = official.load_gcndiff(weights)
    assert_close(network(tensors["input/x"], tensors["input/t"]), tensors["output/eps"])
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_025_674


@torch.no_grad()
def test_gcnpose_gives_the_released_pose():
    tensors, weights, _ = fixture("gcnpose")
    network = official.load_gcnpose(weights)
    pose = network(tensors["input/uv"])
    assert_close(pose, tensors["output/xyz"])
    assert_close(pose - pose[:, :1], tensors["output/xyz_rootrel"])
    assert sum(parameter.numel() for parameter in network.parameters()) == 654_344


@torch.no_grad()
@pytest.mark.parametrize("case", ["cpn_frame_24_2", "gt_frame_12_2", "cpn_video_6_1", "paper_like_50_5", "uneven_50_4"])
def test_ddim_loop_is_the_released_one(case):
    tensors, weights, meta = fixture("ddim")
    network = official.load_gcndiff(weights)
    alphas = diffusion.linear_alphas_cumprod(51, 1e-4, 1e-3)
    assert torch.equal(alphas, tensors["output/alphas_cumprod"])
    timesteps = diffusion.ddim_timesteps(*meta["config"]["cases"][case])
    assert timesteps[::-1] == tensors[f"output/{case}/seq"].tolist()
    first = {}

    def denoise(state, step):
        noise = network(state, torch.full((len(state),), float(step)))
        clean = diffusion.clean_from_noise(state, noise, alphas[step])
        first.setdefault("clean", clean)
        return clean, noise

    last = diffusion.ddim_sample(denoise, tensors["input/x"], alphas, timesteps)
    assert_close(last, tensors[f"output/{case}/x_last"], 5e-5)  # every step adds its rounding
    assert_close(first["clean"], tensors[f"output/{case}/x0_first"])


def test_sizes_are_read_off_the_tensors():
    _, weights, meta = fixture("gcndiff")
    small = {
        key: tuple(2 * 8 * (n // 96) if n % 96 == 0 else n for n in shape)
        for key, shape in meta["state_dict"].items()
        if not key.startswith(("atten_layers.4", "gconv_layers.4"))
    }
    network = official.load_gcndiff(procedural_state_dict(small), num_heads=2)
    assert len(network.blocks) == 4
    assert network(torch.zeros(2, 17, 5), torch.zeros(2)).shape == (2, 17, 5)


def test_a_wrong_state_dict_is_refused_by_official_key():
    _, weights, _ = fixture("gcnpose")
    del weights["gconv_output.bias"]
    weights["atten_layers.0.feed_forward.gconv1.fc.bias"] = np.zeros(7, np.float32)
    weights["foo"] = np.zeros(3, np.float32)
    with pytest.raises(InputError) as error:
        official.load_gcnpose(weights)
    for part in ("gconv_output.bias is missing", "gconv1.fc.bias has shape (7,)", "foo is not known"):
        assert part in str(error.value)
    with pytest.raises(InputError, match="gconv_input.weight is missing"):
        official.load_gcndiff({"foo": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match=r"gconv_layers.0.gconv1.temb_proj.weight|gconv_layers.0.temb_proj.weight"):
        official.load_gcndiff(fixture("gcnpose")[1])
    one_of_three = "atten_layers.2.self_attn.linears.1.bias"
    with pytest.raises(InputError, match=rf"linears.0.bias is not known.*linears.0.bias \+ {one_of_three}"):
        official.load_gcndiff({key: value for key, value in fixture("gcndiff")[1].items() if key != one_of_three})


@torch.no_grad()
def test_mixste_lifts_a_clip_as_published():
    tensors, weights, meta = fixture("mixste")
    network = official.load_mixste(weights, num_heads=meta["config"]["num_heads"])
    assert_close(network(tensors["input/x"]), tensors["output/xyz"])
    with pytest.raises(InputError, match="clip of 10 frames is longer than the 9"):
        network(torch.zeros(1, 10, 17, 2))


def test_mixste_of_the_published_size_has_its_parameters():
    network = official.MixSTE(243, 512, 8, 8)
    assert sum(parameter.numel() for parameter in network.parameters()) == 33_783_811


def test_wrong_mixste_weights_are_named():
    _, weights, _ = fixture("mixste")
    missing = {key: value for key, value in weights.items() if key != "TTEblocks.1.attn.qkv.bias"}
    with pytest.raises(InputError, match="TTEblocks.1.attn.qkv.bias is missing"):
        official.load_mixste(missing)
    with pytest.raises(InputError, match="extra is not known"):
        official.load_mixste({**weights, "extra": np.zeros(1)})
    with pytest.raises(InputError, match="Temporal_pos_embed is missing"):
        official.load_mixste({key: value for key, value in weights.items() if key != "Temporal_pos_embed"})
    with pytest.raises(InputError, match="takes 5 channels"):
        official.load_mixste({**weights, "Spatial_patch_to_embedding.weight": np.zeros((64, 5), np.float32)})
