"""Predict the 3-D poses or bodies of people in pictures or keypoint files with a trained method."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.files import write_npz
from noise2pose.keypoints.files import Keypoints, read_keypoints
from noise2pose.rendering.lifted import SKELETON, write_gif, write_pictures

if TYPE_CHECKING:
    from methods.base import PoseMethod

DESCRIPTION = """Predict the 3-D poses or bodies of people in pictures or keypoint files with a trained method.

  python scripts/predict.py --checkpoint diffpose-cmu person_keypoints.json --output lifted
  python scripts/predict.py --checkpoint diffannot-keypoints photo.jpg --output one
  python scripts/predict.py --checkpoint diffannot-keypoints photos --keypoints photos.json --output all

A method that predicts joints takes one keypoint file; one that predicts bodies also takes pictures or folders of them.
A keypoint file is one of
  .npz    with `keypoints` (poses, joints, 2 or 3), and if you like `skeleton` (a name), `image_size` and `names`
  .json   COCO annotations, the results of a detector (COCO, AlphaPose, Halpe), or a nested list like the npz's array
"""
EPILOG = """what it writes for a method that predicts joints:
  DIR/poses.npz         names; joints_3d (poses, 17, 3) in metres from the pelvis, x right, y down, z into the image;
                        uncertainty (poses, 17) in metres and hypotheses (poses, N, 17, 3) where the method has them;
                        keypoints_2d (poses, 17, 3) in pixels of the file with confidence; skeleton, checkpoint,
                        and image_size (poses, 2) where the file has it
  DIR/NAME.png          of the first poses; discs show one standard deviation of each joint
  DIR/poses.gif         of a clip: an npz file, or any file with a video method

what it writes for a method that predicts bodies:
  DIR/annotations.npz   AMASS's keys (poses, trans, betas, gender) in the camera frame of the picture, and what belongs
                        to them: names, cameras, keypoints, joints in metres, reprojection errors, what is suspect
  DIR/annotations.json  the same in COCO's layout, and what was skipped and why
  DIR/NAME.png          of the first people: the photo, the body over it, the body from the side; with DPMesh also the
                        heat-maps that it was shown and where its attention was, over the crop: left, right and middle
                        joints in the colours of the dots; the number is by how much attention rises where it is most
Interrupt it whenever you like: the same command goes on where it stopped, and ends with the same files. A broken
picture is skipped and noted. Look at what is marked suspect before you use it: a body far from its keypoints, few
visible joints, legs that were not seen (a portrait), a body behind the camera.

what it assumes:
Keypoints of pictures come from --keypoints, whose poses say their picture by name (file_name or image_id in JSON,
`names` in npz; several people in a picture are fine), else from the detector that `scripts/prepare.py detector`
fetches. 17 joints are ambiguous: COCO and Human3.6M both have 17, in different orders. They are taken for COCO's unless
the npz file or --skeleton says h36m_17. 26 joints are Halpe's. Joints that the file does not show are put at their
nearest visible neighbours first; a method that knows about confidence is less sure about them.

The focal length of a picture is that of --focal, else of its EXIF data, else its diagonal; the summary says which. A
wrong one moves the body nearer or farther and leaves its pose nearly as it is.

Joints are lifted in a virtual image of each person that shows them whole and near the middle, as the training images
do, with the field of view of Human3.6M's cameras; so are bodies where nothing says how large the picture is. So the
answer does not depend on where in the photograph the person stands, and it is turned against the photograph's camera
by the angle to the person. Somebody who is cut off by the border of the photograph fills this image nevertheless:
expect a worse answer.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = list(sys.argv[1:] if args is None else args)
    parser = _parser()
    arguments = parser.parse_args(given)
    try:
        print(_predict(arguments, _command(given)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="keypoint file, pictures or folders")
    parser.add_argument("--checkpoint", required=True, help="file of a checkpoint, or the name of a shipped one")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--keypoints", type=Path, metavar="FILE", help="2-D keypoints of the pictures")
    parser.add_argument(
        "--detector",
        type=Path,
        default=Path("data/detector"),
        metavar="DIR",
        help="folder of the 2-D detector (default: data/detector); not used with --keypoints",
    )
    parser.add_argument(
        "--skeleton",
        choices=["auto", "coco_17", "halpe_26", "h36m_17"],
        default="auto",
        help="joint order of the file (default: auto, what the file says, else by the number of joints; see below)",
    )
    parser.add_argument("--selector", metavar="NAME", help="of DiffAnnot: guided, reproj2d, fixed, consistency or none")
    parser.add_argument("--focal", type=float, metavar="PIXELS", help="focal length of all pictures")
    parser.add_argument("--batch_size", type=int, default=32, help="people at a time, for bodies (default: 32)")
    parser.add_argument("--max_pictures", type=int, default=20, help="pictures at most (default: 20; 0 for none)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    return parser


def _command(given: Sequence[str]) -> str:
    """The command without the folder it writes to, so that the same work gives the same files anywhere."""
    kept, rest = [], list(given)
    while rest:
        argument = rest.pop(0)
        if argument == "--output":
            rest = rest[1:]
        elif not argument.startswith("--output="):
            kept.append(argument)
    return shlex.join(["python", "scripts/predict.py", *kept])


def _predict(arguments: argparse.Namespace, command: str) -> str:
    """Writes the files; returns the summary."""
    output = arguments.output
    for place in (output, *output.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"--output {output}: {place} is a file, expected a folder")
    for name in ("focal", "batch_size"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name} is {value}, expected more than 0")
    source = arguments.inputs[0]
    from_file = len(arguments.inputs) == 1 and source.suffix in (".npz", ".json")
    if from_file and arguments.keypoints is not None:
        raise InputError(f"--keypoints: {source} is a keypoint file itself; --keypoints is for pictures")
    skeleton = None if arguments.skeleton == "auto" else arguments.skeleton
    keypoint_file = source if from_file else arguments.keypoints
    read = None if keypoint_file is None else read_keypoints(keypoint_file, skeleton)
    if not from_file:
        from noise2pose.images.photographs import find_pictures

        find_pictures(arguments.inputs)  # refused before anything is loaded

    from methods.checkpoints import load_method  # after the inputs are known to be good: these load Lightning

    method = load_method(arguments.checkpoint)
    if arguments.selector is not None:
        method.choose(arguments.selector)
    try:
        method.to(arguments.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {arguments.device} cannot be used ({error})") from error
    if method.body is None:
        if method.input == "image":
            raise InputError(
                f"{method.title} answers with no pose: give the checkpoint of a method that was trained from it"
            )
        if not from_file or read is None:
            raise InputError(f"{method.title} predicts joints from keypoints: give it a keypoint file, not pictures")
        if arguments.focal is not None:
            raise InputError(f"--focal: {method.title} lifts in a virtual image and has no use for a focal length")
        return _lift(method, read, arguments)

    from methods.inference.annotation import annotate_inputs

    return annotate_inputs(
        method,
        arguments.inputs,
        output,
        checkpoint=arguments.checkpoint,
        command=command,
        read=read,
        keypoint_file=keypoint_file,
        detector=arguments.detector,
        focal=arguments.focal,
        batch_size=arguments.batch_size,
        max_pictures=arguments.max_pictures,
    )


def _lift(method: "PoseMethod", read: Keypoints, arguments: argparse.Namespace) -> str:
    """Writes the joints of a keypoint file; returns the summary."""
    from methods.inference.lifting import lift

    source, output = arguments.inputs[0], arguments.output
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
    pictures = write_pictures(output, arrays, read.names[: max(arguments.max_pictures, 0)])
    is_clip = source.suffix == ".npz" or method.num_frames > 1
    if is_clip and len(read.names) > 1:
        written.append(write_gif(output, arrays, read.names))
    spread = (
        f"mean uncertainty {100.0 * arrays['uncertainty'].mean():.1f} cm"
        if "uncertainty" in arrays
        else ("no uncertainty (it takes a method with several hypotheses)")
    )
    files = ", ".join(map(str, written)) + (f" and {pictures} pictures" if pictures else "")
    hidden = int((read.points[..., 2] == 0).sum())
    guessed = f", {hidden} hidden joints guessed from their neighbours" if hidden else ""
    return f"{method.title}: {len(read.names)} poses, read as {read.skeleton}{guessed}, {spread}; wrote {files}"


if __name__ == "__main__":
    sys.exit(main())
