"""Train DiffPose and its context encoder, compare them, and find people with the shipped models: `make demo`."""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from scripts import ROOT, run

# One thread each: for networks of this size more gain little, and beside other work they wait for each other.
QUIET = {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
SMALL = "--model.width 32 --model.num_blocks 2 --model.dropout 0.1".split()
FROM_ENCODER = "--model.context_width 32 --model.context_blocks 2 --model.context_checkpoint".split()
SKELETON, PERSON, PIXELS = "h36m_17", 1, 512  # of the picture at the top of README
PHOTO = "noise2pose/assets/photos/astronaut"
CLIP_FRAMES, CLIP_RATE, CLIP_STEP = 30, 25, 2  # of the walking person; every second frame of motion at 50 Hz
FEWER_CLIPS = ["--data.clips_per_activity", "4"]  # of the synthetic motion, which is made anew by each command
OPENED_BY = {
    "index.html": "the comparison of the three runs: any web browser",
    "motion.html": "the people in space and time, one page: any web browser",
    "motion.glb": "animated skin or skeleton: Blender, any browser's glTF viewer, Windows 3D Viewer, Unity",
    "motion.bvh": "motion capture: Blender, MotionBuilder, Maya",
    "annotations.npz": "bodies as AMASS has them: numpy.load",
    "annotations.json": "the same in COCO's layout: pycocotools, FiftyOne",
    "poses.npz": "joints, hypotheses and uncertainty: numpy.load",
    "poses.gif": "the clip: any image viewer",
}
DESCRIPTION = """Train DiffPose and its context encoder for minutes, test both, and compare them; then find people.

It uses real motion if data/cmu_mocap has been prepared (see `scripts/prepare.py cmu_mocap --help`) and synthetic motion
otherwise. Three runs with small networks are trained and tested by the same commands as any other run:

  demo_encoder    the context encoder
  demo_diffpose   DiffPose (release variant), which starts from that encoder, frozen
  demo_control    the encoder alone, trained for as long as the two together: what the same time gains without diffusion

Each training ends after --epochs, or after --seconds (the control after as long as the other two took): then it says
that it was cut. The comparison is report/index.html. At the end the shipped models find the body of a person in a
photograph (report/photo) and lift a walking person (report/clip), and each file is printed with what opens it.
"""


def train_and_test(
    name: str, method: str, data: str, epochs: int, seconds: float, options: Sequence[str]
) -> tuple[float, str]:
    """Trains and tests one run from scratch; returns the seconds that training took, and words if it was cut."""
    shutil.rmtree(ROOT / "runs" / name, ignore_errors=True)
    given = ["-c", f"configs/experiments/{method}_synthetic_frame.yaml", "--data", f"configs/data/{data}_frame.yaml"]
    given += ["--name", name, "--trainer.accelerator", "cpu", *options, "--trainer.enable_model_summary", "false"]
    given += FEWER_CLIPS if data == "synthetic" else []
    limit = str(timedelta(seconds=math.ceil(seconds)))
    days_first = f"00:{limit:0>8}"  # as the Trainer reads it: days, hours, minutes, seconds
    run("train", "fit", *given, "--trainer.max_epochs", str(epochs), "--trainer.max_time", days_first, **QUIET)
    record = json.loads((ROOT / "runs" / name / "fit.json").read_text())
    run("train", "test", *given, "--ckpt_path", "best", **QUIET)
    if record["seconds"] < seconds:
        return record["seconds"], ""
    cut = f"{name} was cut after {record['seconds']:.0f} s, with {record['steps']} steps of its {epochs} epochs"
    print(cut, flush=True)
    return record["seconds"], cut


def write_walk(path: Path) -> None:
    """Writes the 2-D joints of a walking person of the synthetic test motion as a keypoint file."""
    import numpy as np

    from datamodules.synthetic_motion import SyntheticMotion
    from noise2pose.files import write_npz

    options = {"keypoints_2d": "synthetic", "num_frames": CLIP_FRAMES * CLIP_STEP}
    clips = SyntheticMotion(clips_per_activity=4, **options).load("test")
    walking = clips["action"].index("walk")
    write_npz(
        path,
        keypoints=clips["keypoints_2d"][walking, ::CLIP_STEP].numpy(),
        skeleton=np.array(SKELETON),
        fps=np.array(float(CLIP_RATE)),
        frames=np.arange(CLIP_FRAMES),
        people=np.array(["walker"] * CLIP_FRAMES),
    )


def find_people(folder: Path) -> None:
    """Shipped models on the shipped photograph and on a synthetic clip, with the files that other tools open."""
    photo, clip = folder / "photo", folder / "clip"
    for made in (photo, clip):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
    drawn = ["--max_pictures", "1"]
    source = [f"{PHOTO}.jpg", "--keypoints", f"{PHOTO}_keypoints.json", "--checkpoint", "diffannot-people"]
    run("predict", *source, "--format", "glb,html", "--output", str(photo), *drawn, **QUIET)
    write_walk(clip / "keypoints.npz")
    source = [str(clip / "keypoints.npz"), "--checkpoint", "diffpose-people-27"]
    run("predict", *source, "--format", "bvh,glb,html", "--output", str(clip), *drawn, **QUIET)
    print("\nWhat was made, and what opens it:")
    for path in [folder / "index.html", *sorted(photo.iterdir()), *sorted(clip.iterdir())]:
        about = "a drawing: any image viewer" if path.suffix == ".png" else OPENED_BY.get(path.name)
        if about:
            print(f"  {path}  {about}")


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
    parser.add_argument("--epochs", type=int, default=20, help="of the encoder, and of the denoiser (default: 20)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training of each run at most (default: 60)")
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

    epochs, most = arguments.epochs, arguments.seconds
    seconds, cut = train_and_test("demo_encoder", "context", data, epochs, most, SMALL)
    diffpose = [*SMALL, *FROM_ENCODER, "runs/demo_encoder/checkpoints/best.ckpt"]
    seconds_diffpose, cut_diffpose = train_and_test("demo_diffpose", "diffpose", data, epochs, most, diffpose)
    # As many epochs as fit into the time of the other two, and no longer than they took.
    together = seconds + seconds_diffpose
    _, cut_control = train_and_test(
        "demo_control", "context", data, math.ceil(epochs * together / seconds), together, SMALL
    )

    minutes = (time.perf_counter() - started) / 60.0
    note = (
        f"Made by `make demo` on {about}, in {minutes:.1f} minutes on a CPU, with small networks (width 32, 2 blocks): "
        "it shows that everything runs, not how good the methods are. The control is the encoder alone, trained for as "
        "long as encoder and DiffPose together: diffusion gains only what DiffPose does better than the control."
    )
    note += "".join(f" {words}." for words in (cut, cut_diffpose, cut_control) if words)
    names = ("demo_encoder", "demo_diffpose", "demo_control")
    options = ["--output", arguments.output, "--title", "noise2pose demo", "--note", note]
    run("compare", *(f"runs/{name}" for name in names), *options, **QUIET)
    find_people(Path(arguments.output))
    minutes = (time.perf_counter() - started) / 60.0
    print(f"\nIt took {minutes:.1f} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
