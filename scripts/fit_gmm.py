"""Fit a Gaussian mixture to every detected joint of a 2-D keypoint file."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.files import sha256, write_text
from noise2pose.safe_pickle import read_object_npz

if TYPE_CHECKING:
    from methods.diffpose.keypoint_mixtures import View

DESCRIPTION = """Fit a Gaussian mixture to every detected joint of a 2-D keypoint file. This makes the `_gmm.npz` that
DiffPose's release reads but does not tell how to make.

  noise2pose fit-gmm --keypoints data_2d_h36m_cpn_ft_h36m_dbb.npz --output data_2d_h36m_cpn_gmm.npz

The command can be stopped or killed at any time; started again it continues, and the file that it writes is the same.
"""
EPILOG = """the input, in VideoPose3D's layout (subject -> action -> list of cameras -> array, pickled into the npz;
code in the file is not run):
  positions_2d   (frames, joints, 2) pixels, or 3 with the confidence
  confidences    optional, the same nesting: (frames, joints) in [0, 1]
  heatmaps       optional, the same nesting: (frames, joints, rows, columns), not negative, in any scale; together with
  boxes          (frames, 3): centre x, centre y and side of the square that the heat-maps cover, pixels

A joint's samples are drawn from its heat-map. Without heat-maps they are drawn around the detection, with a deviation
of 2 cm on the body where the confidence is 1 and 17 cm where it is 0; several components then only describe that width.

the output:
  FILE_gmm.npz          the release's layout: `positions_2d`, subject -> action -> cameras -> (frames, joints, M, 5):
                        weight, mean x, mean y in pixels, and deviations x, y in screen coordinates (half the image's
                        width is 1), as the release uses them; `metadata` (layout and symmetry) as in the input
  FILE_gmm.npz.sha256   its checksum, as `sha256sum -c` reads it
  FILE_gmm/             this project's own layout, for memory mapping: mixtures.npy (frames, joints, M, 5), the same
                        with deviations in pixels, and manifest.json, which lists the frames of each view
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keypoints", type=Path, required=True, metavar="FILE.npz", help="2-D keypoints")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE_gmm.npz", help="file to write")
    parser.add_argument("--num_components", type=int, default=5, help="M, components of a mixture (default: 5)")
    parser.add_argument(
        "--num_samples", type=int, default=100, help="samples that a mixture is fitted to (default: 100)"
    )
    parser.add_argument(
        "--confidence", type=float, default=0.75, help="of detections, if the file has none (default: 0.75)"
    )
    parser.add_argument("--image_width", type=float, default=1000.0, help="pixels (default: 1000, Human3.6M's)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    arguments = parser.parse_args(args)
    try:
        fit(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        return 130
    return 0


def fit(arguments: argparse.Namespace) -> None:
    """Fits the remaining mixtures and writes the files.

    Raises:
        InputError: if an option is out of range, or as `read_views`.
    """
    import torch  # here, so that `--help` need not wait for it
    from tqdm import tqdm

    from methods.diffpose.keypoint_mixtures import MixtureStore, Settings

    output: Path = arguments.output
    if output.suffix != ".npz":
        raise InputError(f"--output {output}: expected a name that ends in .npz")
    if output.resolve() == arguments.keypoints.resolve():
        raise InputError(f"--output {output} is the input: choose another name")
    if arguments.image_width <= 0 or (arguments.threads is not None and arguments.threads < 1):
        raise InputError("--image_width and --threads must be positive")
    if arguments.num_components < 1 or arguments.num_samples < arguments.num_components:
        raise InputError("--num_components must be at least 1, and --num_samples at least as large")
    if not 0.0 <= arguments.confidence <= 1.0:
        raise InputError(f"--confidence is {arguments.confidence}, expected 0 to 1")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    views = list(read_views(arguments.keypoints))
    settings = Settings(arguments.num_components, arguments.num_samples, arguments.confidence, arguments.seed)
    store = MixtureStore(output.with_suffix(""), views, sha256(arguments.keypoints), settings)
    with tqdm(total=store.num_frames, initial=store.done, unit="frame", unit_scale=True, file=sys.stderr) as progress:
        for frames in store.fit():
            progress.update(frames)
    metadata = read_object_npz(arguments.keypoints, only=("metadata",)).get("metadata")
    store.export(output, arguments.image_width, metadata)
    checksum = sha256(output)
    write_text(output.with_name(output.name + ".sha256"), f"{checksum}  {output.name}\n")
    print(f"{output}: {store.num_frames} frames of {len(views)} views, sha256 {checksum}")


def read_views(path: Path) -> "Iterator[View]":
    """Yields every camera of every action of every subject of a file after checking it.

    Raises:
        InputError: if the file is not in the layout of this command, or holds NaN; it names subject, action and camera.
    """
    from methods.diffpose.keypoint_mixtures import View

    content = read_object_npz(path)
    if "positions_2d" not in content:
        raise InputError(f"{path}: no positions_2d, only {', '.join(content) or 'nothing'}")
    if ("heatmaps" in content) != ("boxes" in content):
        raise InputError(f"{path}: found only one of heatmaps and boxes, expected both or neither")
    joints = None
    for subject, actions in _items(path, "positions_2d", content["positions_2d"]):
        for action, cameras in _items(path, f"positions_2d {subject}", actions):
            for camera, values in enumerate(_cameras(path, f"{subject}/{action}", cameras)):
                where = f"{path}: {subject}/{action}/{camera}"
                points = np.asarray(values)
                if points.dtype.kind not in "fiu":
                    raise InputError(f"{where}: positions_2d holds {points.dtype}, expected numbers")
                if points.ndim != 3 or points.shape[-1] not in (2, 3) or not len(points):
                    raise InputError(
                        f"{where}: positions_2d has shape {points.shape}, expected (frames, joints, 2 or 3)"
                    )
                joints = joints or points.shape[1]
                if points.shape[1] != joints:
                    raise InputError(f"{where}: {points.shape[1]} joints, but {joints} in the views before it")
                confidence = points[..., 2] if points.shape[-1] == 3 else None
                found = {
                    key: _companion(where, content[key], key, (subject, action, camera), points.shape[:2])
                    for key in ("confidences", "heatmaps", "boxes")
                    if key in content
                }
                confidence = found.get("confidences", confidence)
                for key, numbers in (("positions_2d", points), ("confidences", confidence), *found.items()):
                    if numbers is not None and not np.isfinite(numbers).all():
                        raise InputError(f"{where}: {key} holds NaN or infinity")
                if confidence is not None and not ((confidence >= 0) & (confidence <= 1)).all():
                    raise InputError(
                        f"{where}: confidences range from {confidence.min()} to {confidence.max()}, expected 0 to 1"
                    )
                yield View(
                    subject, action, camera, points[..., :2], confidence, found.get("heatmaps"), found.get("boxes")
                )
    if joints is None:
        raise InputError(f"{path}: positions_2d holds no view")


def _items(path: Path, where: str, tree: Any) -> list[tuple[str, Any]]:
    if not isinstance(tree, dict):
        raise InputError(f"{path}: {where} is {type(tree).__name__}, expected a dictionary")
    return [(str(key), value) for key, value in tree.items()]


def _cameras(path: Path, where: str, cameras: Any) -> list[Any]:
    if isinstance(cameras, np.ndarray) and cameras.ndim == 3 and cameras.dtype != object:
        return [cameras]  # a single camera, without a list around it
    if not isinstance(cameras, list | tuple | np.ndarray):
        raise InputError(f"{path}: {where} is {type(cameras).__name__}, expected a list with an array for each camera")
    return list(cameras)


def _companion(
    where: str, tree: Any, key: str, place: tuple[str, str, int], frames_and_joints: tuple[int, ...]
) -> np.ndarray:
    """The array that another key holds for a view."""
    frames, joints = frames_and_joints
    subject, action, camera = place
    try:
        values = np.asarray(_cameras(Path(where), key, tree[subject][action])[camera])
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{where}: {key} has no entry for this view ({error!r})") from error
    begin = {"confidences": (frames, joints), "heatmaps": (frames, joints), "boxes": (frames, 3)}[key]
    if values.dtype.kind not in "fiu" or values.ndim != (4 if key == "heatmaps" else 2) or values.shape[:2] != begin:
        rest = ", rows, columns" if key == "heatmaps" else ""
        raise InputError(
            f"{where}: {key} has shape {values.shape} of {values.dtype}, expected numbers of shape "
            f"({begin[0]}, {begin[1]}{rest})"
        )
    return values


if __name__ == "__main__":
    sys.exit(main())
