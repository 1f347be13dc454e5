"""Make labelled people with a controlled diffusion model, stage by stage: Pose++."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noise2pose.errors import InputError

if TYPE_CHECKING:
    from methods.posepp.settings import Settings

STAGES = {
    "sample": "draw body, camera and text of every sample",
    "render": "draw the condition maps: depth and keypoints, with silhouette and labels",
    "generate": "draw the images from condition maps and text, with networks in folders of this machine",
    "detect": "find the people in every generated image",
    "filter": "leave out images that do not show the person of their label, each with its reason",
    "refine": "move the keypoints to where the image shows them",
    "head": "turn heads to the face that the image shows",
    "export": "join what is known of the kept samples: shards, annotations.json (COCO), bodies.npz, a contact sheet",
    "all": "every stage in order",
}
DESCRIPTION = """Make labelled people with a controlled diffusion model, stage by stage: Pose++.

  noise2pose generate all OUTPUT -c configs/generation/small.yaml
  noise2pose generate sample OUTPUT -c configs/generation/small.yaml --set samples=200

Every stage is a pass over shards of samples: OUTPUT/STAGE/shard-000000.tar, with a list of all their samples beside it,
those that were left out included. It can be stopped or killed at any time; started again it goes on after the last
shard that is finished, and what it writes is the same. Another configuration is refused.

stages:
"""
EPILOG = """Several processes share the work without talking to each other: of N, number R takes the shards R, R + N and
so on. R and N are --rank and --world_size, else RANK and WORLD_SIZE (torchrun), else SLURM_ARRAY_TASK_ID and
SLURM_ARRAY_TASK_COUNT. The shards of all are those that one process would have written, byte for byte.

exit status: 0 done, 2 something cannot be read or the command is wrong.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = _parser().parse_args(args)
    try:
        generate(arguments)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130
    return 0


def generate(arguments: argparse.Namespace) -> None:
    """Runs a stage, or all, over the shards of this process.

    Raises:
        InputError: if an option is out of range, or as the stages.
    """
    from tqdm import tqdm  # here, so that `--help` need not wait for what the stages need

    from methods.posepp.dataset import DATASET, open_dataset, read_dataset
    from methods.posepp.settings import read_settings
    from methods.posepp.stages import STAGES, run_stage, unfinished
    from noise2pose.files import check_writable, lock

    output: Path = arguments.output
    check_writable(output)
    begun = (output / DATASET).exists()
    if not arguments.config and not begun:
        raise InputError(f"{output} holds no data set yet: name its settings with -c configs/generation/small.yaml")
    kept = None if arguments.config else read_dataset(output)["settings"]
    settings = read_settings(arguments.config, arguments.set, kept)
    shards = own_shards(arguments, settings.num_shards)
    stages = list(STAGES) if arguments.stage == "all" else [arguments.stage]
    check_files(settings, stages)
    with lock(output, wait=True):  # of processes that start at once, one writes the poses
        if not (output / DATASET).exists():
            collect_poses(settings, output)
        open_dataset(output, settings)
    for name in stages:
        left = unfinished(name, output, shards)
        total, to_do = (sum(len(settings.shard_samples(shard)) for shard in each) for each in (shards, left))
        with tqdm(total=total, initial=total - to_do, desc=f"{name:<9}", unit=" images", file=sys.stderr) as progress:
            run_stage(name, output, settings, left, progress.update)
        if name == "export":
            with lock(output, wait=True):
                finish(output, settings)


def check_files(settings: "Settings", stages: Sequence[str]) -> None:
    """Checks that what the stages read besides the data set is there, before hours of images end for want of it.

    Raises:
        InputError: for the first that is not named or does not exist.
    """
    from methods.posepp.stages import STAGES

    for stage in stages:
        for key, path in STAGES[stage].files(settings).items():
            if not path:
                raise InputError(f"{key} is empty, and the stage {stage} needs it: name it with --set {key}=PATH")
            if not Path(path).exists():
                raise InputError(f"{key}: {path} does not exist, and the stage {stage} needs it")


def finish(output: Path, settings: "Settings") -> None:
    """Writes what is made of all shards together, if all are there: the last of several processes does it."""
    from methods.posepp.contact_sheet import count_reasons, write_contact_sheet
    from methods.posepp.dataset import read_dataset
    from methods.posepp.exports import write_annotations
    from methods.posepp.stages import STAGES, stages_of, unfinished

    shards = range(settings.num_shards)
    if left := unfinished("export", output, shards):
        print(f"{len(left)} of {len(shards)} shards are not exported yet; the process that does the last goes on")
        return
    facts = read_dataset(output)
    info = {key: facts[key] for key in ("hash", "body", "seed", "versions", "commit")}
    kept = write_annotations(output / "export", shards, info)
    write_contact_sheet(output, shards)
    reasons = count_reasons(output, shards)
    left_out = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common() if reason != "kept")
    if without := [name for name in STAGES["export"].optional if name not in stages_of(output)]:
        print(f"note: without the stages {', '.join(without)}, which were not run")
    print(f"{output}: {kept} of {settings.samples} samples kept; left out: {left_out or 'none'}")
    print(f"look at {output / 'contact_sheet.html'}")


def collect_poses(settings: "Settings", output: Path) -> None:
    """Writes the poses that the people of a data set are drawn from."""
    import shutil

    from datamodules.motion import pose_bank
    from methods.posepp.dataset import POSES
    from noise2pose.files import replacing
    from noise2pose.motion.pose_bank import read_poses, write_poses

    source, number, paths = settings.poses.source, settings.poses.number, [Path(path) for path in settings.poses.paths]
    if source != "synthetic" and not paths:
        raise InputError(f"poses.paths is empty, expected files or folders for poses.source {source}")
    if source == "file":
        read_poses(paths[0])  # refuses what is none
        with replacing(output / POSES) as partial:
            shutil.copyfile(paths[0], partial)
    elif source == "synthetic":
        write_poses(output / POSES, pose_bank.synthetic(number))
    else:
        write_poses(output / POSES, {"motion": pose_bank.of_motion, "amass": pose_bank.of_amass}[source](paths, number))


def own_shards(arguments: argparse.Namespace, number: int) -> list[int]:
    """The shards of this process: of those that are asked for, every `world_size`-th from the `rank`-th on.

    Raises:
        InputError: if an option is out of range.
    """
    rank, world_size = arguments.rank, arguments.world_size
    if rank is None and world_size is None:
        if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
            rank, world_size = _variable("RANK"), _variable("WORLD_SIZE")
        elif "SLURM_ARRAY_TASK_ID" in os.environ and "SLURM_ARRAY_TASK_COUNT" in os.environ:
            first_task = _variable("SLURM_ARRAY_TASK_MIN") if "SLURM_ARRAY_TASK_MIN" in os.environ else 0
            rank, world_size = _variable("SLURM_ARRAY_TASK_ID") - first_task, _variable("SLURM_ARRAY_TASK_COUNT")
    rank, world_size = rank or 0, world_size or 1
    if not 0 <= rank < world_size:
        raise InputError(f"this is process {rank} of {world_size}, expected a rank from 0 to {world_size - 1}")
    first, last = 0, number
    if arguments.shards is not None:
        start, colon, stop = arguments.shards.partition(":")
        first, last = _whole(start or "0", "--shards"), _whole(stop or str(number), "--shards")
        if not colon or not 0 <= first < last <= number:
            raise InputError(f"--shards is {arguments.shards}, expected A:B with 0 <= A < B <= {number}")
    return list(range(first + rank, last, world_size))


def _variable(name: str) -> int:
    return _whole(os.environ[name], name)


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} is {text}, expected a whole number") from None


def _parser() -> argparse.ArgumentParser:
    stages = "\n".join(f"  {name:<9} {about}" for name, about in STAGES.items())
    parser = argparse.ArgumentParser(
        description=f"{DESCRIPTION}{stages}", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help="what to do, see above")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder of the data set")
    parser.add_argument(
        "-c", "--config", type=Path, action="append", default=[], metavar="FILE.yaml",
        help="settings of the data set; later files count more (default: those it was begun with)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, such as camera.shift=0.2"
    )
    parser.add_argument("--shards", metavar="A:B", help="only shards A to B - 1 (default: all)")
    parser.add_argument("--rank", type=int, help="number of this process (default: from the environment, else 0)")
    parser.add_argument("--world_size", type=int, help="processes that share the work (default: as --rank, else 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
