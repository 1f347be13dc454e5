"""Train DiffPose and its context encoder for a few minutes, test both, and compare them: `make demo`."""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts import ROOT, run

QUIET = {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}
SMALL = "--model.width 32 --model.num_blocks 2 --model.dropout 0.1".split()
FROM_ENCODER = "--model.context_width 32 --model.context_blocks 2 --model.context_checkpoint".split()
SKELETON, PERSON, PIXELS = "h36m_17", 1, 512  # of the picture at the top of README
DESCRIPTION = """Train DiffPose and its context encoder for a few minutes, test both, and compare them.

It uses real motion if data/cmu_mocap has been prepared (see `scripts/prepare.py cmu_mocap --help`) and synthetic motion
otherwise. Three runs with small networks are trained and tested by the same commands as any other run:

  demo_encoder    the context encoder
  demo_diffpose   DiffPose (release variant), which starts from that encoder, frozen
  demo_control    the encoder alone, trained for as long as the two together: what the same time gains without diffusion

It ends in report/index.html.
"""


def train_and_test(name: str, method: str, data: str, epochs: int, options: Sequence[str]) -> float:
    """Trains and tests one run from scratch; returns the seconds that training took."""
    shutil.rmtree(ROOT / "runs" / name, ignore_errors=True)
    given = ["-c", f"configs/experiments/{method}_synthetic_frame.yaml", "--data", f"configs/data/{data}_frame.yaml"]
    given += ["--name", name, "--trainer.accelerator", "cpu", *options, "--trainer.enable_model_summary", "false"]
    run("train", "fit", *given, "--trainer.max_epochs", str(epochs), **QUIET)
    run("train", "test", *given, "--ckpt_path", "best", **QUIET)
    return json.loads((ROOT / "runs" / name / "fit.json").read_text())["seconds"]


def draw_overview(path: Path) -> None:
    """Draws what the shipped models make of a rendered person, from the image to the body.

    The person is one of the test split, which no model saw; the keypoints are exact projections.
    """
    import torch

    from datamodules.rendered_people import RenderedPeople
    from methods.checkpoints import load_method
    from methods.inference import Lifter
    from noise2pose import skeletons
    from noise2pose.files import replacing
    from noise2pose.rendering.figures import overview_figure

    options = {"keypoints_2d": "gt", "truncation": 0.0, "occlusion": 0.0, "num_workers": 0}
    people = RenderedPeople(num_people=40, picture_size=PIXELS, **options).load("test")
    poses = Lifter("diffpose-people").predict(people["keypoints_2d"].numpy(), skeleton=SKELETON)
    annotator = load_method("diffannot-people")
    assert annotator.body is not None and poses.uncertainty is not None
    with torch.no_grad():
        answer = annotator(people)
        vertices = annotator.body(**answer["smpl"], translation=answer["camera_translation"]).vertices

    box, camera = people["box"][PERSON], people["camera"]
    corner, scale = box[:2] - box[2] / 2.0, PIXELS / box[2]  # from pixels of the image to those of the crop
    keypoints = people["keypoints_2d"][PERSON].clone()
    keypoints[:, :2] = (keypoints[:, :2] - corner) * scale
    figure = overview_figure(
        people["image"][PERSON].permute(1, 2, 0).numpy(),
        keypoints.numpy(),
        poses.joints_3d[PERSON],
        poses.uncertainty[PERSON],
        vertices[PERSON].numpy(),
        annotator.body.faces.numpy(),
        (camera["focal"][PERSON] * scale).numpy(),
        ((camera["principal_point"][PERSON] - corner) * scale).numpy(),
        skeletons.get(SKELETON),
    )
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=80)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="of the encoder, and of the denoiser (default: 5)")
    parser.add_argument("--output", default="report", help="folder of the report (default: report)")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the picture at the top of README, and stop")
    arguments = parser.parse_args(args)
    if arguments.picture is not None:
        draw_overview(arguments.picture)
        print(f"wrote {arguments.picture}")
        return 0
    started = time.perf_counter()
    data = "cmu" if (ROOT / "data" / "cmu_mocap" / "dataset.json").is_file() else "synthetic"
    about = {"cmu": "CMU motion capture", "synthetic": "synthetic motion (no real person)"}[data]
    print(f"The demo trains small networks on {about} with simulated 2-D detections, on the CPU.")

    seconds = train_and_test("demo_encoder", "context", data, arguments.epochs, SMALL)
    diffpose = [*SMALL, *FROM_ENCODER, "runs/demo_encoder/checkpoints/best.ckpt"]
    seconds_diffpose = train_and_test("demo_diffpose", "diffpose", data, arguments.epochs, diffpose)
    # As many epochs as fit into the time of the other two.
    epochs = math.ceil(arguments.epochs * (seconds + seconds_diffpose) / seconds)
    train_and_test("demo_control", "context", data, epochs, SMALL)

    minutes = (time.perf_counter() - started) / 60.0
    note = (
        f"Made by `make demo` on {about}, in {minutes:.1f} minutes on a CPU, with small networks (width 32, 2 blocks): "
        "it shows that everything runs, not how good the methods are. The control is the encoder alone, trained for as "
        "long as encoder and DiffPose together: diffusion gains only what DiffPose does better than the control."
    )
    names = ("demo_encoder", "demo_diffpose", "demo_control")
    options = ["--output", arguments.output, "--title", "noise2pose demo", "--note", note]
    run("compare", *(f"runs/{name}" for name in names), *options, **QUIET)
    print(f"\nOpen {arguments.output}/index.html (it took {minutes:.1f} minutes).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
