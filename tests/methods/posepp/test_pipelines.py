"""Stable Diffusion (XL) with two ControlNets from local folders: what an image depends on, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from methods.posepp.images.network_folders import folder_hash
from methods.posepp.images.pipelines import ControlNetGenerator, Prompt, load_generator
from methods.posepp.settings import Generation
from noise2pose.errors import InputError
from tests.methods.posepp.tiny_pipelines import make_folders

PROMPTS = [Prompt("a man walking in a park", "ugly"), Prompt("a woman sitting", "blurred"), Prompt("a man", "ugly")]
SEEDS = [11, 12, 13]
STEPS, SIDE = 2, 16


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {xl: make_folders(tmp_path_factory.mktemp("xl" if xl else "sd"), xl) for xl in (False, True)}


def settings(folders, kind, **changes):
    made = folders[kind != "sd"]
    nets = {"union_dir": made["union"]} if kind == "union" else {
        "depth_controlnet_dir": made["depth"], "keypoint_controlnet_dir": made["keypoints"]
    }  # fmt: skip
    options = {"base_dir": made["base"], "dtype": "float32", "device": "cpu", "steps": STEPS, **nets}
    return Generation(**{**options, **changes})


@pytest.fixture(scope="module", params=["sd", "sdxl", "union"])
def generator(request, folders):
    return load_generator(settings(folders, request.param))


@pytest.fixture(scope="module")
def maps():
    random = torch.Generator().manual_seed(3)
    depth = torch.rand(3, 1, SIDE, SIDE, generator=random).expand(-1, 3, -1, -1).contiguous()
    return depth, torch.rand(3, 3, SIDE, SIDE, generator=random)


@pytest.fixture(scope="module")
def drawn(generator, maps):
    return generator.generate(PROMPTS, *maps, SEEDS)


def differ(first, second):
    return float((first - second).abs().mean()) > 1e-4


def changed(generator, **options):
    """The same networks with other settings."""
    other = object.__new__(ControlNetGenerator)
    other.__dict__.update(generator.__dict__)
    other.settings = replace(generator.settings, **options)
    return other


def test_the_same_seeds_give_the_same_images(generator, maps, drawn):
    assert drawn.shape == (3, 3, SIDE, SIDE) and 0.0 <= drawn.min() and drawn.max() <= 1.0
    assert torch.equal(drawn, generator.generate(PROMPTS, *maps, SEEDS))


def test_an_image_does_not_depend_on_its_batch(generator, maps, drawn):
    """Neither on the others in it, nor on the order: two prompts of two conditions are where lists go wrong."""
    depth, keypoints = maps
    for row in (0, 2):
        one = generator.generate(PROMPTS[row : row + 1], depth[row, None], keypoints[row, None], SEEDS[row : row + 1])
        assert torch.allclose(one[0], drawn[row], atol=1e-5)
    order = [2, 0]
    two = generator.generate([PROMPTS[i] for i in order], depth[order], keypoints[order], [SEEDS[i] for i in order])
    assert torch.allclose(two, drawn[order], atol=1e-5)


def test_everything_that_is_given_changes_the_image(generator, maps, drawn):
    depth, keypoints = maps
    assert differ(drawn, generator.generate(PROMPTS, depth, keypoints, [21, 22, 23]))
    assert differ(drawn, generator.generate(PROMPTS, keypoints, depth, SEEDS))  # swapped
    assert differ(drawn, generator.generate(PROMPTS, depth.roll(1, 0), keypoints, SEEDS))
    assert differ(drawn, generator.generate(PROMPTS, depth, keypoints.roll(1, 0), SEEDS))
    others = [Prompt(prompt.text, "nothing else") for prompt in PROMPTS]
    assert differ(drawn, generator.generate(others, depth, keypoints, SEEDS))
    assert differ(drawn, generator.generate(PROMPTS[::-1], depth, keypoints, SEEDS))
    without = changed(generator, scales=[0.0, 0.0]).generate(PROMPTS, depth, keypoints, SEEDS)
    assert differ(drawn, without)
    assert differ(drawn, changed(generator, scales=[0.5, 0.8]).generate(PROMPTS, depth, keypoints, SEEDS))
    assert differ(drawn, changed(generator, guidance=2.0).generate(PROMPTS, depth, keypoints, SEEDS))


def test_a_scale_of_zero_leaves_a_map_out(generator, maps):
    depth, keypoints = maps
    for scales, kept in (([1.0, 0.0], 0), ([0.0, 1.0], 1)):
        one = changed(generator, scales=scales)
        before = one.generate(PROMPTS, depth, keypoints, SEEDS)
        swapped = [depth, keypoints]
        swapped[1 - kept] = swapped[1 - kept].flip(0)
        if not generator.union:  # where one network reads both maps, scales weigh what it takes from each
            assert torch.equal(before, one.generate(PROMPTS, *swapped, SEEDS))
        swapped[kept] = swapped[kept].flip(0)
        assert differ(before, one.generate(PROMPTS, *swapped, SEEDS))


def test_a_size_that_the_autoencoder_cannot_draw_is_refused(generator):
    odd = torch.zeros(1, 3, SIDE + 1, SIDE + 1)
    with pytest.raises(InputError, match=f"image_size is {SIDE + 1}, expected a multiple of 2 for these networks"):
        generator.generate(PROMPTS[:1], odd, odd, SEEDS[:1])


def test_embeddings_that_are_kept_are_those_of_the_pipeline(generator, maps, drawn):
    """Drawn again by the library's own call with texts."""
    depth, keypoints = maps
    shown = {"control_image": [depth, keypoints], "control_mode": [1, 0]} if generator.union else {"image": list(maps)}
    with torch.inference_mode():
        again = generator.pipeline(
            [prompt.text for prompt in PROMPTS],
            **shown,
            negative_prompt=[prompt.negative for prompt in PROMPTS],
            num_inference_steps=STEPS,
            guidance_scale=7.5,
            controlnet_conditioning_scale=[0.8, 0.5],
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in SEEDS],
            output_type="pt",
        ).images
    assert torch.allclose(drawn, again, atol=1e-5)
    calls = []
    hook = generator.pipeline.text_encoder.register_forward_pre_hook(lambda *given: calls.append(1))
    assert torch.equal(generator.generate(PROMPTS, depth, keypoints, SEEDS), drawn) and not calls
    hook.remove()


def test_it_says_what_drew_the_images(generator, folders):
    facts = generator.facts
    assert facts["steps"] == STEPS and facts["scales"] == {"depth": 0.8, "keypoints": 0.5}
    assert facts["scheduler"] == "euler" and len(set(facts["networks"].values())) == len(facts["networks"]) >= 2
    assert json.loads(json.dumps(facts)) == facts


def test_the_hash_is_of_what_is_read(folders, tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(folders[False]["depth"], folder)
    before = folder_hash(folder, None)
    (folder / "README.md").write_text("a card")
    (folder / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another variant")
    assert folder_hash(folder, None) == before != folder_hash(folder, "fp16")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert folder_hash(folder, None) != before


def test_a_folder_saved_with_two_controlnets_is_a_base(folders, maps, tmp_path):
    made = load_generator(settings(folders, "sd"))
    made.pipeline.save_pretrained(tmp_path / "both")
    assert json.loads((tmp_path / "both" / "model_index.json").read_text())["controlnet"][1] == "MultiControlNetModel"
    again = load_generator(settings(folders, "sd", base_dir=str(tmp_path / "both")))
    one = [values[:1] for values in maps]
    drawn = made.generate(PROMPTS[:1], *one, SEEDS[:1])
    assert torch.allclose(again.generate(PROMPTS[:1], *one, SEEDS[:1]), drawn, atol=1e-6)


def test_another_vae_and_sampler_draw_other_images(folders, maps, tmp_path):
    one = [values[:1] for values in maps]
    drawn = load_generator(settings(folders, "sd")).generate(PROMPTS[:1], *one, SEEDS[:1])
    vae = folders[True]["base"] + "/vae"
    sampler = load_generator(settings(folders, "sd", scheduler="dpm"))
    assert differ(sampler.generate(PROMPTS[:1], *one, SEEDS[:1]), drawn)
    other = load_generator(settings(folders, "sd", vae_dir=vae))
    assert "vae_dir" in other.facts["networks"]
    half = load_generator(settings(folders, "sd", dtype="bfloat16")).generate(PROMPTS[:1], *one, SEEDS[:1])
    assert half.dtype == torch.float32 and float((half - drawn).abs().mean()) < 0.1


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("sdxl", {"base_dir": "stabilityai/stable-diffusion-xl-base-1.0"}, "networks are never downloaded here"),
        ("sd", {"depth_controlnet_dir": "someone/controlnet"}, "depth_controlnet_dir is someone/controlnet"),
        ("sd", {"base_dir": ""}, "base_dir is not set, expected a folder with model_index.json"),
        ("sd", {"keypoint_controlnet_dir": None}, "keypoint_controlnet_dir is not set"),
        ("sd", {"base_dir": "/nowhere/at/all"}, "base_dir is /nowhere/at/all, which is not there"),
        ("sd", {"vae_dir": "/nowhere"}, "vae_dir is /nowhere"),
        ("sd", {"device": "cuda:77"}, "device is cuda:77, which cannot be used here"),
    ],
)
def test_missing_folders_are_refused_in_one_line(folders, kind, changes, message):
    with pytest.raises(InputError, match=message) as raised:
        load_generator(settings(folders, kind, **changes))
    assert "\n" not in str(raised.value)


def test_folders_of_other_networks_are_refused(folders, tmp_path):
    sd, xl = folders[False], folders[True]
    cases = [
        (settings(folders, "sd", base_dir=sd["depth"]), "has no model_index.json"),
        (settings(folders, "sdxl", depth_controlnet_dir=sd["depth"]), "take a ControlNet of the same Stable Diffusion"),
        (settings(folders, "sd", depth_controlnet_dir=sd["base"] + "/unet"), "_class_name is UNet2DConditionModel"),
        (settings(folders, "sd", union_dir=xl["union"]), "union_dir needs a Stable Diffusion XL"),
        (settings(folders, "union", union_dir=xl["depth"]), "expected ControlNetUnionModel"),
        (settings(folders, "sd", variant="fp16"), "cannot be loaded"),
    ]
    broken = tmp_path / "broken"
    shutil.copytree(sd["depth"], broken)
    weights = broken / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    cases.append((settings(folders, "sd", depth_controlnet_dir=str(broken)), f"depth_controlnet_dir: {broken} cannot"))
    lost = tmp_path / "lost"
    shutil.copytree(sd["base"], lost)
    shutil.rmtree(lost / "text_encoder")
    cases.append((settings(folders, "sd", base_dir=str(lost)), f"base_dir: {lost} cannot be loaded"))
    for options, message in cases:
        with pytest.raises(InputError, match=message) as raised:
            load_generator(options)
        assert "\n" not in str(raised.value)
