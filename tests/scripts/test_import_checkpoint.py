import io
import shlex
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from methods.checkpoints import load_method
from methods.d3dp.diffusion import cosine_alphas_cumprod
from methods.d3dp.official import load_d3dp
from methods.diffannot.denoiser import ReleasedDenoiser
from methods.diffannot.official import load_denoiser
from methods.diffpose import ContextEncoder, DiffPose
from methods.diffpose.official import load_gcndiff, load_mixste
from methods.fmpose.official import load_fmpose3d
from methods.hmr.official import load_hmr
from scripts.import_checkpoint import main
from scripts.train import main as train
from tests.parity import diffannot
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.places import ROOT
from tests.tiny import TinyPeople


def import_checkpoint(*arguments):
    """The command, in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        returncode = main([str(argument) for argument in arguments])
    return SimpleNamespace(returncode=returncode, stdout=stdout.getvalue(), stderr=stderr.getvalue())


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


@torch.no_grad()
def test_imported_d3dp_is_a_whole_method(tmp_path):
    released = {f"module.pose_estimator.{key}": value for key, value in weights("mixste_d3dp").items()}
    released["module.alphas_cumprod"] = cosine_alphas_cumprod(1000).double()
    saved = {"epoch": 1, "random_state": np.random.RandomState(0), "optimizer": None, "model_pos": released}
    torch.save(saved, tmp_path / "h36m_best_epoch.bin")
    done = import_checkpoint("d3dp", tmp_path / "h36m_best_epoch.bin", tmp_path / "d3dp.ckpt")
    assert done.returncode == 0 and "methods.d3dp.D3DP" in done.stdout, done.stderr
    method = load_method(tmp_path / "d3dp.ckpt")
    assert (method.num_frames, method.num_hypotheses, method.num_steps) == (9, 5, 5)
    clip, noisy, steps = torch.randn(2, 9, 17, 2), torch.randn(2, 3, 9, 17, 3), torch.tensor([3, 999])
    expected = load_d3dp(weights("mixste_d3dp"))(clip, noisy, steps)
    assert torch.equal(method.eval().denoiser(clip, noisy, steps), expected)
    released["module.alphas_cumprod"] = torch.linspace(1.0, 0.0, 1000)
    torch.save(saved, tmp_path / "linear.bin")
    done = import_checkpoint("d3dp", tmp_path / "linear.bin", tmp_path / "linear.ckpt")
    assert done.returncode == 2 and "alphas_cumprod is not the cosine schedule" in done.stderr


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
    assert done.returncode == 0 and "width 226" in done.stdout, done.stderr
    network = load_method(tmp_path / "out" / "denoiser.ckpt").denoiser
    x, t = torch.randn(3, 226), torch.tensor([0, 5, 999])
    assert torch.equal(network(x, t), load_denoiser(distributed)(x, t))


@torch.no_grad()
def test_an_imported_annotator_is_whole(tmp_path):
    torch.manual_seed(0)
    torch.save(ReleasedDenoiser(226, 64).state_dict(), tmp_path / "model000100.pt")
    target = tmp_path / "annotator.ckpt"
    done = import_checkpoint("diffannot", tmp_path / "model000100.pt", target, "--frontend", "hmr-people")
    assert done.returncode == 0 and f"predict --checkpoint {target}" in done.stdout, done.stderr
    checkpoint = torch.load(target, weights_only=True)
    kind = checkpoint["hyper_parameters"]
    assert checkpoint["class_path"] == "methods.diffannot.DiffAnnot"
    assert kind["frontend_checkpoint"] is None and '"methods.hmr.HMR"' in kind["frontend"]
    assert (kind["selector"], kind["fixed_step"], kind["clip"], kind["width"]) == ("fixed", 10, "all", 64)
    method = load_method(target)
    assert not method.needs_ground_truth
    frontend = load_method("hmr-people").state_dict()
    assert all(torch.equal(value, frontend[key]) for key, value in method.frontend.state_dict().items())
    people = TinyPeople(num_samples=3).load("train")
    answer = method(people)
    assert answer["vertices"].shape == (3, 6890, 3) and answer["vertices"].isfinite().all()
    assert (answer["refinement"]["step"] == 10).all()
    assert not torch.equal(answer["smpl"]["body_pose"], method.frontend(people)["smpl"]["body_pose"])


def test_an_imported_annotator_is_tested_with_the_printed_command(tmp_path, monkeypatch):
    """What is printed names the options that the weights need."""
    torch.save(ReleasedDenoiser(226, 64).state_dict(), tmp_path / "model000100.pt")
    target = tmp_path / "annotator.ckpt"
    printed = import_checkpoint("diffannot", tmp_path / "model000100.pt", target).stdout.replace("\\\n", " ")
    command = next(line for line in printed.splitlines() if "noise2pose train test" in line)
    monkeypatch.chdir(ROOT)
    given = shlex.split(command)[2:] + [
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
        "--trainer.logger",
        "false",
    ]
    given[given.index("-c") : given.index("-c") + 2] = [
        "--data",
        "tests.tiny.TinyPeople",
        "--trainer.accelerator",
        "cpu",
    ]
    assert train(given) == 0


def test_a_file_of_another_kind_is_refused_in_few_words(tmp_path):
    source, out = tmp_path / "other.pt", tmp_path / "out.ckpt"
    tensors = {f"layer{number:04}.weight": torch.zeros(1) for number in range(2000)}
    for content, message in (
        (tensors, "the weights do not fit the released denoiser: module.0.weight is missing"),
        ({"epoch": 3, "optimizer": {}}, "the file holds no state dict of tensors; it has keys epoch, optimizer"),
        ([1, 2], "the file holds no state dict of tensors; it has a int"),
    ):
        torch.save(content, source)
        done = import_checkpoint("diffannot", source, out)
        assert done.returncode == 2 and not out.exists()
        assert done.stderr.startswith(f"error: {source}: {message}") and len(done.stderr) < 400 + len(str(source))
    torch.save(tensors, source)
    assert (
        "there is no moving average of the weights (ema" in import_checkpoint("diffannot", source, out, "--ema").stderr
    )


@pytest.mark.parametrize("method", ["diffpose", "diffannot", "hmr", "dpmesh", "fmpose"])
def test_a_message_names_the_file_once(tmp_path, method):
    done = import_checkpoint(method, tmp_path / "none.pt", tmp_path / "out.ckpt")
    assert done.returncode == 2 and done.stderr == f"error: {tmp_path / 'none.pt'} does not exist\n"


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
    assert "hidden 1024" in done.stdout
    assert "left out the body of SMPL" in done.stderr and "without --body" in done.stderr
    method = load_method(tmp_path / "hmr.ckpt")
    assert method.hparams["body"] == "free" and not any("template" in key for key in method.state_dict())
    batch = TinyPeople(num_samples=1, image_size=64).load("train")
    published = load_hmr(spin, "spin")(batch["image"])
    prediction = method(batch)
    assert torch.equal(prediction["smpl"]["global_orient"], published["rotmat"][:, 0])
    assert torch.equal(prediction["smpl"]["betas"], published["betas"])
    assert prediction["vertices"].shape == (1, 6890, 3)


def test_the_body_of_the_weights_is_kept_by_name(published_hmr, tmp_path):
    body, target = str(ROOT / "noise2pose" / "assets" / "free_body.npz"), tmp_path / "hmr.ckpt"
    done = import_checkpoint("hmr", published_hmr[0], target, "--layout", "mmhuman3d", "--body", body)
    assert done.returncode == 0 and "without --body" not in done.stderr
    assert torch.load(target, weights_only=True)["hyper_parameters"]["body"] == body
    for options, message in (
        (("--body", "nowhere.npz"), "nowhere.npz"),
        (("--layout", "spin"), "fc1.weight is missing"),
    ):
        done = import_checkpoint("hmr", published_hmr[0], target, *options)
        assert done.returncode == 2 and message in done.stderr


@torch.no_grad()
def test_imported_fmpose_samples_as_published(tmp_path):
    published = weights("humans", "fmpose3d")
    torch.save({"CFM": published}, tmp_path / "fmpose3d_humans.pth")
    done = import_checkpoint("fmpose", tmp_path / "fmpose3d_humans.pth", tmp_path / "fmpose.ckpt")
    assert done.returncode == 0 and "width 512, num_blocks 5, hidden 1024" in done.stdout, done.stderr
    method = load_method(tmp_path / "fmpose.ckpt")
    assert method.title == "FMPose3D" and method.num_steps == 3
    pose_2d, pose, time = torch.randn(2, 17, 2), torch.randn(2, 17, 3), torch.rand(2)
    assert torch.equal(method.network(pose_2d, pose, time), load_fmpose3d(published)(pose_2d, pose, time))


@pytest.mark.parametrize("method", ["diffpose", "diffannot", "hmr", "dpmesh", "fmpose"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path, method, is_zip):
    class Trap:
        def __reduce__(self):
            return print, ("the file ran code",)

    torch.save(
        {"state_dict": {"fc1.weight": torch.zeros(1)}, "meta": Trap()},
        tmp_path / "trap.pth",
        _use_new_zipfile_serialization=is_zip,
    )
    done = import_checkpoint(method, tmp_path / "trap.pth", tmp_path / "out.ckpt")
    assert done.returncode == 2 and "ran code" not in done.stdout
    assert "holds more than weights, and nothing of it was run: save its state dict alone" in done.stderr
    assert "weights_only" not in done.stderr and done.stderr.count("trap.pth") == 1
