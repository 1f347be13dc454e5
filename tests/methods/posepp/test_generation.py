"""The stage `generate`: what it gives to a generator, what it writes, and that networks are not exchanged midway."""

import hashlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from methods.posepp.images.generation import BROKEN, Clock, GenerateStage, check_networks, forecast, generated_image
from methods.posepp.records import Record, files_of
from noise2pose.errors import InputError
from noise2pose.shards import read_manifest, read_shard
from scripts import generate
from tests.methods.posepp.tiny_pipelines import make_folders


class Recorder:
    """Answers with the depth in red, the keypoints' green and the seed in blue, and keeps what it was asked for."""

    facts = {"pipeline": "Recorder", "steps": 1, "networks": {"base_dir": "0" * 64}}

    def __init__(self):
        self.asked = []

    def generate(self, prompts, depth, keypoints, seeds):
        self.asked.append((list(prompts), len(depth), list(seeds)))
        blue = torch.tensor([(seed % 100) / 255.0 for seed in seeds])[:, None, None].expand(-1, *depth.shape[-2:])
        return torch.stack((depth[:, 0], keypoints[:, 1], blue), dim=1)


def record(number, size=8):
    random = np.random.default_rng(number)
    maps = {
        "depth": random.integers(0, 256, (size, size), dtype=np.uint8),
        "keypoints": random.integers(0, 256, (size, size, 3), dtype=np.uint8),
    }
    facts = {"text": f"A man {number}", "negative": "ugly", "seeds": {"noise": 2**40 + number}}
    return Record(number, {"sample": files_of(facts=facts), "render": files_of(**maps)})


def test_each_sample_gets_the_image_of_its_own_maps_text_and_seed():
    generator = Recorder()
    records = [record(number) for number in (7, 3, 9)]
    results = GenerateStage(generator, 3, "png", 10).process(records)
    assert [result.id for result in results] == [7, 3, 9]
    ((prompts, number, seeds),) = generator.asked
    assert [tuple(prompt) for prompt in prompts] == [(f"A man {n}", "ugly") for n in (7, 3, 9)] and number == 3
    assert seeds == [2**40 + n for n in (7, 3, 9)]
    for given, result in zip(records, results, strict=True):
        image = np.asarray(Image.open(io.BytesIO(result.files["png"])))
        assert np.array_equal(image[..., 0], given.image("render", "depth.png"))
        assert np.array_equal(image[..., 1], given.image("render", "keypoints.png")[..., 1])
        assert (image[..., 2] == seeds[records.index(given)] % 100).all()
        facts = json.loads(result.files["json"])
        assert facts == {**Recorder.facts, "batch": [7, 3, 9], "seed": 2**40 + given.id}
        assert np.array_equal(generated_image(Record(given.id, {"generate": result.files})), image)


def test_an_image_that_is_not_finite_goes_no_further():
    class Overflowing(Recorder):
        def generate(self, prompts, depth, keypoints, seeds):
            images = super().generate(prompts, depth, keypoints, seeds)
            images[1, 0, 0, 0] = torch.nan
            return images

    results = GenerateStage(Overflowing(), 3, "jpg", 10).process([record(number) for number in range(3)])
    assert [result.reason for result in results] == ["", BROKEN, ""]
    assert set(results[0].files) == {"jpg", "json"} and not results[1].files


def test_other_networks_are_refused(tmp_path):
    generator = Recorder()
    check_networks(tmp_path / "generate", generator)
    check_networks(tmp_path / "generate", generator)
    generator.facts = {**Recorder.facts, "networks": {"base_dir": "1" * 64}}
    with pytest.raises(InputError, match=r"drawn by other networks than those there now \(networks\)"):
        check_networks(tmp_path / "generate", generator)


def test_the_time_of_a_data_set_is_said_once_after_a_warm_up(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("methods.posepp.images.generation.time.perf_counter", lambda: now[0])
    clock = Clock(7200)
    for _ in range(6):
        now[0] += 16.0  # two seconds an image
        clock.done(8)
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["0.5 images/s: all 7200 images take 4.0 hours in one process such as this, less in several"]
    assert forecast(10.0, 600).startswith("10 images/s: all 600 images take 1.0 minutes")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return make_folders(tmp_path_factory.mktemp("sd"), xl=False)


def config(folder, networks, **more):
    options = {
        "base_dir": networks["base"], "depth_controlnet_dir": networks["depth"],
        "keypoint_controlnet_dir": networks["keypoints"], "dtype": "float32", "device": "cpu", "steps": 2, "batch": 2,
        **more,
    }  # fmt: skip
    path = folder / "settings.yaml"
    settings = {"samples": 7, "shard_size": 3, "image_size": 16, "poses": {"number": 120}, "generation": options}
    settings["detect"] = {"source": "simulated"}
    path.write_text(json.dumps(settings))
    return ["-c", str(path)]


def sums(folder):
    files = [*(folder / "generate").glob("*.tar"), *(folder / "generate").glob("*.jsonl")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_tiny_stable_diffusion_draws_a_data_set(tmp_path, networks, monkeypatch, capsys):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    given, one, three = config(tmp_path, networks), tmp_path / "one", tmp_path / "three"
    assert generate.main(["all", str(one), *given]) == 0
    drawn = {}
    for shard in range(3):
        path = one / "generate" / f"shard-{shard:06d}.tar"
        drawn |= dict(read_shard(path))
        assert all(not entry["reason"] for entry in read_manifest(path))
    assert set(drawn) == set(range(7)) and Image.open(io.BytesIO(drawn[4]["jpg"])).size == (16, 16)
    # Batches end with the shard, so they do not depend on who draws which.
    assert [json.loads(drawn[n]["json"])["batch"] for n in (0, 2, 3, 6)] == [[0, 1], [2], [3, 4], [6]]
    assert (one / "contact_sheet.png").exists() and (one / "export" / "annotations.json").exists()
    for rank in (2, 1, 0):
        for stage in ("sample", "render", "generate"):
            process = ["--rank", str(rank), "--world_size", "3"]
            assert generate.main([stage, str(three), *given, *process]) == 0
    assert sums(three) == sums(one) and len(sums(one)) == 6
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_dir": "someone/stable-diffusion"}, "networks are never downloaded here"),
        ({"depth_controlnet_dir": "/nowhere"}, "generation.depth_controlnet_dir is /nowhere"),
        ({"checkpoint": "/nowhere/best.ckpt"}, "/nowhere/best.ckpt does not exist"),
    ],
)
def test_missing_networks_leave_no_shard(tmp_path, networks, changes, message, capsys):
    given = config(tmp_path, networks, **changes)
    assert generate.main(["all", str(tmp_path / "out"), *given]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not list((tmp_path / "out").glob("generate/shard*"))
