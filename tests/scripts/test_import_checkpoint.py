import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.checkpoints import load_method
from methods.diffannot.denoiser import ReleasedDenoiser
from methods.diffannot.official import load_denoiser
from methods.diffpose import ContextEncoder, DiffPose
from methods.diffpose.official import load_gcndiff, load_mixste
from methods.hmr.official import load_hmr
from noise2pose.errors import InputError
from scripts.import_checkpoint import import_hmr
from tests.parity import diffannot
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.tiny import TinyPeople

ROOT = Path(__file__).resolve().parents[2]


def import_checkpoint(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "import_checkpoint.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def weights(name, method="diffpose"):
    _, meta = read_fixture(ROOT / "tests" / "parity" / f"{method}_{name}.safetensors")
    return {k: torch.as_tensor(v) for k, v in procedural_state_dict(meta["state_dict"], salt=meta["salt"]).items()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("imported")
    released = {f"module.{key}": value for key, value in weights("gcndiff").items()}
    torch.save([released, {"state": {}}, 80, 12345, weights("gcndiff")], tmp_path / "gcndiff.pth")
    torch.save([{f"module.{key}": value for key, value in weights("gcnpose").items()}], tmp_path / "gcnpose.pth")
    torch.save(
        {"epoch": 1, "model_pos": {f"module.{key}": v for key, v in weights("mixste").items()}}, tmp_path / "mixste.pth"
    )
    for name in ("gcndiff", "gcnpose", "mixste"):
        done = import_checkpoint("diffpose", tmp_path / f"{name}.pth", tmp_path / f"{name}.ckpt")
        assert done.returncode == 0, done.stderr
    return tmp_path


@torch.no_grad()
def test_imported_weights_compute_what_the_official_ones_do(imported):
    encoder = ContextEncoder.load_from_checkpoint(imported / "gcnpose.ckpt")
    method = DiffPose.load_from_checkpoint(
        imported / "gcndiff.ckpt", context_checkpoint=str(imported / "gcnpose.ckpt")
    ).eval()
    state, steps = torch.randn(3, 17, 5), torch.tensor([0.0, 12.0, 24.0])
    assert torch.equal(method.diffusion.denoiser(state, steps), load_gcndiff(weights("gcndiff"))(state, steps))
    assert torch.equal(method.encoder.output.bias, encoder.network.output.bias)


@torch.no_grad()
def test_imported_mixste_is_a_context_encoder_for_clips(imported):
    encoder = ContextEncoder.load_from_checkpoint(imported / "mixste.ckpt").eval()
    assert encoder.num_frames == 9 and encoder.flip_test
    clip = torch.randn(2, 9, 17, 2)
    assert torch.equal(encoder.network(clip), load_mixste(weights("mixste"))(clip))


def test_a_denoiser_without_its_encoder_is_refused(imported):
    with pytest.raises(ValueError, match="give its encoder as model.context_checkpoint"):
        DiffPose.load_from_checkpoint(imported / "gcndiff.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_broken_file_is_named_and_nothing_is_written(tmp_path, content):
    source = tmp_path / "broken.pth"
    if content is not None:
        source.write_bytes(content)
    done = import_checkpoint("diffpose", source, tmp_path / "out.ckpt")
    assert done.returncode == 2 and "broken.pth" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_a_truncated_file_is_refused(imported):
    whole = (imported / "gcndiff.pth").read_bytes()
    (imported / "half.pth").write_bytes(whole[: len(whole) // 2])
    done = import_checkpoint("diffpose", imported / "half.pth", imported / "half.ckpt")
    assert done.returncode == 2 and "half.pth cannot be read" in done.stderr
    assert not (imported / "half.ckpt").exists()


@torch.no_grad()
def test_an_imported_denoiser_of_bodies_is_the_released_one(tmp_path):
    _, released, _ = diffannot.fixture("mlp_226")
    distributed = {f"module.{key}": torch.as_tensor(value).half() for key, value in released.items()}
    torch.save(distributed, tmp_path / "ema_0.9999_000100.pt")
    done = import_checkpoint("diffannot", tmp_path / "ema_0.9999_000100.pt", tmp_path / "out" / "denoiser.ckpt")
    assert done.returncode == 0 and "256510 parameters, width 226" in done.stdout, done.stderr
    checkpoint = torch.load(tmp_path / "out" / "denoiser.ckpt", weights_only=True)
    assert checkpoint["class_path"] == "methods.diffannot.DiffAnnot"
    assert checkpoint["hyper_parameters"] == {
        "denoiser": "released",
        "width": 226,
        "output_relu": True,
        "x_start": "frontend",
    }
    network = ReleasedDenoiser(226, 226)
    state = checkpoint["state_dict"]
    network.load_state_dict({key.removeprefix("denoiser."): value for key, value in state.items()})
    x, t = torch.randn(3, 226), torch.tensor([0, 5, 999])
    assert torch.equal(network(x, t), load_denoiser(distributed)(x, t))


def test_a_denoiser_of_other_states_is_refused(tmp_path):
    torch.save(ReleasedDenoiser(82, 82).state_dict(), tmp_path / "early.pt")
    done = import_checkpoint("diffannot", tmp_path / "early.pt", tmp_path / "out.ckpt")
    assert done.returncode == 2 and "early.pt" in done.stderr and "module.0.weight has shape (82, 82)" in done.stderr
    assert not list(tmp_path.glob("out*"))


@pytest.fixture(scope="module")
def published_hmr(tmp_path_factory):
    """A file as mmhuman3d saves it: with the log of its training, discriminators and a body."""
    path = tmp_path_factory.mktemp("hmr") / "resnet50_hmr.pth"
    spin = weights("resnet50_full", "hmr")
    head = ("fc1.", "fc2.", "dec", "init_")
    state = {f"{'head.' if key.startswith(head) else 'backbone.'}{key}": value for key, value in spin.items()}
    state["body_model_train.v_template"] = torch.zeros(6890, 3)
    meta = {"epoch": 100, "best": np.float64(67.53), "seen": np.int64(3)}
    torch.save({"meta": meta, "state_dict": state}, path)
    return path, spin


@torch.no_grad()
def test_imported_hmr_answers_with_a_body(published_hmr, tmp_path):
    path, spin = published_hmr
    done = import_checkpoint("hmr", path, tmp_path / "hmr.ckpt")
    assert done.returncode == 0, done.stderr
    assert "hidden units 1024" in done.stdout
    assert "left out the body of SMPL" in done.stderr and "without --body" in done.stderr
    method = load_method(tmp_path / "hmr.ckpt")
    assert method.hparams["body"] == "free" and not any("template" in key for key in method.state_dict())
    batch = TinyPeople(num_samples=1, image_size=64).load("train")
    published = load_hmr(spin, "spin")(batch["image"])
    prediction = method(batch)
    assert torch.equal(prediction["smpl"]["global_orient"], published["rotmat"][:, 0])
    assert torch.equal(prediction["smpl"]["betas"], published["betas"])
    assert prediction["vertices"].shape == (1, 6890, 3)


def test_the_body_of_the_weights_is_kept_by_name(published_hmr, capsys):
    body = str(ROOT / "noise2pose" / "assets" / "free_body.npz")
    checkpoint = import_hmr(published_hmr[0], "mmhuman3d", body)
    assert checkpoint["hyper_parameters"]["body"] == body and "without --body" not in capsys.readouterr().err
    with pytest.raises(InputError, match=r"nowhere\.npz"):
        import_hmr(published_hmr[0], "auto", "nowhere.npz")
    with pytest.raises(InputError, match="fc1.weight is missing"):
        import_hmr(published_hmr[0], "spin", body)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("the file ran code",)

    torch.save({"state_dict": {"fc1.weight": torch.zeros(1)}, "meta": Trap()}, tmp_path / "trap.pth")
    done = import_checkpoint("hmr", tmp_path / "trap.pth", tmp_path / "out.ckpt")
    assert done.returncode == 2 and "keep its weights alone" in done.stderr and "ran code" not in done.stdout
