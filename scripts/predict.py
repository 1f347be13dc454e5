"""Lift the 2-D keypoints of a file to 3-D with a trained method."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noise2pose import rendering, skeletons
from noise2pose.errors import InputError
from noise2pose.files import write_npz
from noise2pose.keypoint_files import read_keypoints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DESCRIPTION = """Lift the 2-D keypoints of a file to 3-D with a trained method.

  python scripts/predict.py --checkpoint diffpose-cmu person_keypoints.json --output lifted
  python scripts/predict.py --checkpoint runs/diffpose_cmu_frame/checkpoints/best.ckpt clip.npz --output lifted

KEYPOINTS is one of
  .npz    with `keypoints` (poses, joints, 2 or 3), and if you like `skeleton` (a name) and `image_size`
  .json   COCO annotations, the results of a detector (COCO, AlphaPose, Halpe), or a nested list like the npz's array
"""
EPILOG = """what it writes:
  DIR/poses.npz       names; joints_3d (poses, 17, 3) in metres from the pelvis, x right, y down, z into the image;
                      uncertainty (poses, 17) in metres and hypotheses (poses, N, 17, 3) where the method has them;
                      keypoints_2d (poses, 17, 3) in pixels of the file with confidence; skeleton, checkpoint,
                      and image_size (poses, 2) where the file has it
  DIR/NAME.png        of the first poses; discs show one standard deviation of each joint
  DIR/poses.gif       of a clip: an npz file, or any file with a video method

17 joints are ambiguous: COCO and Human3.6M both have 17, in different orders. They are taken for COCO's unless the npz
file or --skeleton says h36m_17. 26 joints are Halpe's.

Each person is moved to a virtual image that shows them whole and near the middle, as the training images do, with the
field of view of Human3.6M's cameras. So the answer does not depend on where in the photograph the person stands, and it
is turned against the photograph's camera by the angle to the person. Somebody who is cut off by the border of the
photograph fills this image nevertheless: expect a worse answer. Joints that the file does not show are put at their
nearest visible neighbours first; a method that knows about confidence is less sure about them.
"""
SKELETON = "h36m_17"
_DPI, _GIF_DPI = 110, 75
_GIF_FRAMES, _GIF_RATE = 200, 20  # frames at most, and of each second


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keypoints", type=Path, metavar="KEYPOINTS", help="an .npz or .json file, see above")
    parser.add_argument("--checkpoint", required=True, help="file of a checkpoint, or the name of a shipped one")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--skeleton",
        choices=["auto", "coco_17", "halpe_26", "h36m_17"],
        default="auto",
        help="joint order of the file (default: auto, what the file says, else by the number of joints; see below)",
    )
    parser.add_argument("--max_pictures", type=int, default=20, help="pictures at most (default: 20)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    arguments = parser.parse_args(args)
    try:
        print(_predict(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _predict(arguments: argparse.Namespace) -> str:
    """Writes the files; returns the summary."""
    source, output = arguments.keypoints, arguments.output
    for place in (output, *output.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"--output {output}: {place} is a file, expected a folder")
    read = read_keypoints(source, None if arguments.skeleton == "auto" else arguments.skeleton)

    from methods.checkpoints import load_method  # after the file is known to be good: these load Lightning
    from methods.lifting import lift

    method = load_method(arguments.checkpoint)
    try:
        method.to(arguments.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {arguments.device} cannot be used ({error})") from error
    try:
        placed = skeletons.place_hidden(read.points, read.skeleton)
        keypoints = skeletons.convert(placed, read.skeleton, SKELETON, has_confidence=True)
        lifted = lift(method, keypoints, read.names)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error

    found = {"joints_3d": lifted.joints_3d, "uncertainty": lifted.uncertainty, "hypotheses": lifted.hypotheses}
    arrays = {key: value.numpy() for key, value in found.items() if value is not None}
    arrays["keypoints_2d"] = keypoints.numpy()
    if read.image_sizes is not None:
        arrays["image_size"] = read.image_sizes.numpy()
    written = [output / "poses.npz"]
    write_npz(
        written[0],
        **arrays,
        names=np.array(read.names),
        skeleton=np.array(SKELETON),
        checkpoint=np.array(arguments.checkpoint),
    )
    pictures = _write_pictures(output, arrays, read.names[: max(arguments.max_pictures, 0)])
    is_clip = source.suffix == ".npz" or method.num_frames > 1
    if is_clip and len(read.names) > 1:
        written.append(_write_gif(output, arrays, read.names))
    spread = (
        f"mean uncertainty {100.0 * arrays['uncertainty'].mean():.1f} cm"
        if "uncertainty" in arrays
        else ("no uncertainty (it takes a method with several hypotheses)")
    )
    files = ", ".join(map(str, written)) + (f" and {pictures} pictures" if pictures else "")
    hidden = int((read.points[..., 2] == 0).sum())
    guessed = f", {hidden} hidden joints guessed from their neighbours" if hidden else ""
    return f"{method.title}: {len(read.names)} poses, read as {read.skeleton}{guessed}, {spread}; wrote {files}"


def _figure(arrays: dict[str, np.ndarray], pose: int, title: str, extent: np.ndarray | None = None) -> "Figure":
    def of_pose(key: str) -> np.ndarray | None:
        return arrays[key][pose] if key in arrays else None

    return rendering.prediction_figure(
        arrays["keypoints_2d"][pose],
        arrays["joints_3d"][pose],
        skeletons.get(SKELETON),
        uncertainty=of_pose("uncertainty"),
        title=title,
        image_size=of_pose("image_size"),
        extent=extent,
    )


def _write_pictures(output: Path, arrays: dict[str, np.ndarray], names: Sequence[str]) -> int:
    """Writes one picture for each name, which must be those of the first poses; returns their number."""
    used: set[str] = set()
    for pose, name in enumerate(names):
        file_name = re.sub(r"[^\w.#-]+", "_", name)[:100].lstrip(".") or "pose"
        if file_name in used:  # names may differ in what a file system cannot hold
            file_name = f"{file_name}_{pose}"
        used.add(file_name)
        _figure(arrays, pose, name).savefig(output / f"{file_name}.png", dpi=_DPI)
    return len(names)


def _write_gif(output: Path, arrays: dict[str, np.ndarray], names: Sequence[str]) -> Path:
    """Writes the clip on one scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    chosen = np.linspace(0, len(names) - 1, min(len(names), _GIF_FRAMES)).round().astype(int)
    extent = arrays["joints_3d"].reshape(-1, 3)
    seen = arrays["keypoints_2d"][arrays["keypoints_2d"][..., 2] > 0][:, :2]
    images = []
    for pose in map(int, chosen):
        figure = _figure(arrays, pose, names[pose], extent)
        figure.set_dpi(_GIF_DPI)
        if len(seen):
            rendering.frame_2d(figure.axes[0], seen)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64))
    path = output / "poses.gif"
    partial = path.with_name("poses.partial.gif")
    images[0].save(partial, save_all=True, append_images=images[1:], duration=1000 // _GIF_RATE, loop=0)
    os.replace(partial, path)
    return path


if __name__ == "__main__":
    sys.exit(main())
