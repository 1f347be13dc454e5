"""Predict the 3-D poses or bodies of people in images or keypoint files with a trained method."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from noise2pose.errors import InputError

DESCRIPTION = """Predict the 3-D poses or bodies of people in images or keypoint files with a trained method.

  python scripts/predict.py --checkpoint diffpose-cmu person_keypoints.json --output lifted
  python scripts/predict.py --checkpoint diffannot-keypoints photo.jpg --output one
  python scripts/predict.py --checkpoint diffannot-keypoints photos --keypoints photos.json --output all

A method that predicts joints takes one keypoint file; one that predicts bodies also takes images or folders of them.
A keypoint file is one of
  .npz    with `keypoints` (poses, joints, 2 or 3), optionally `skeleton` (a name), `image_size` and `names`
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
  DIR/annotations.npz   AMASS's keys (poses, trans, betas, gender) in the camera frame of the image, and what belongs
                        to them: names, cameras, keypoints, joints in metres, reprojection errors, what is suspect
  DIR/annotations.json  the same in COCO's layout, and what was skipped and why
  DIR/NAME.png          of the first people: the image, the body over it, the body from the side; with DPMesh also its
                        input heat-maps and its attention, over the crop: left, right and middle joints in the colours
                        of the dots; the number is the largest rise of a joint's attention above its own minimum
You can interrupt it: the same command resumes and ends with the same files. A broken image is skipped and noted. Look
at what is marked suspect before you use it: a body far from its keypoints, few visible joints, legs that were not seen
(a portrait), a body behind the camera.

what it assumes:
Keypoints of images come from --keypoints, whose poses name their image (file_name or image_id in JSON, `names` in npz;
several people in an image are fine), else from the detector that `scripts/prepare.py detector` fetches. 17 joints are
ambiguous: COCO and Human3.6M both have 17, in different orders. They are taken for COCO's unless the npz file or
--skeleton says h36m_17. 26 joints are Halpe's. Joints that the file does not show are put at their nearest visible
neighbours first; a method that uses confidences is less certain about them.

The focal length of an image is that of --focal, else of its EXIF data, else its diagonal; the summary says which. A
wrong one moves the body nearer or farther and hardly changes its pose.

Joints are lifted in a virtual image of each person that shows them whole and near the middle, as the training images
do, with the field of view of Human3.6M's cameras; so are bodies where the size of the image is unknown. So the answer
does not depend on where in the image the person stands, and it is turned against the camera of the image by the angle
to the person. A person who is cut off by the border of the image fills the virtual image nevertheless: expect a worse
answer.
"""
_NAMED = 3  # skipped files that are told at the end; annotations.json has all


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = list(sys.argv[1:] if args is None else args)
    arguments = _parser().parse_args(given)
    try:
        print(_predict(arguments, _command(given)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes where this one stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="keypoint file, images or folders")
    parser.add_argument("--checkpoint", required=True, help="model folder, checkpoint, or the name of a shipped model")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--keypoints", type=Path, metavar="FILE", help="2-D keypoints of the images")
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
    parser.add_argument("--focal", type=float, metavar="PIXELS", help="focal length of all images")
    parser.add_argument("--batch_size", type=int, default=32, help="people at a time, for bodies (default: 32)")
    parser.add_argument("--max_pictures", type=int, default=20, help="drawings at most (default: 20; 0 for none)")
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
    from methods.inference import Annotator, Lifter, TrainedModel  # these load PyTorch
    from methods.inference.results import as_folder
    from noise2pose.keypoints.files import ENDINGS, read_keypoints

    output, most = as_folder(arguments.output), arguments.max_pictures
    source = arguments.inputs[0]
    alone = len(arguments.inputs) == 1 and source.suffix in ENDINGS
    if alone and arguments.keypoints is not None:
        raise InputError(f"--keypoints: {source} is a keypoint file itself; --keypoints is for images")
    file = source if alone else arguments.keypoints
    skeleton = None if arguments.skeleton == "auto" else arguments.skeleton
    keypoints = None if file is None else read_keypoints(file, skeleton)
    model = TrainedModel(arguments.checkpoint, arguments.device, arguments.selector)

    if alone and model.method.body is None:
        if arguments.focal is not None:
            raise InputError(f"--focal: {model.method.title} lifts in a virtual image and does not use a focal length")
        poses = Lifter(model).predict(keypoints)
        written = poses.save(output, most)
        drawn = sum(path.suffix == ".png" for path in written)
        files = ", ".join(str(path) for path in written if path.suffix != ".png")
        return f"{poses.summary()}; wrote {files}{f' and {drawn} pictures' if drawn else ''}"

    annotations = Annotator(model, batch_size=arguments.batch_size).predict(
        keypoints if alone else arguments.inputs,
        None if alone else keypoints,
        arguments.focal,
        arguments.detector,
        output=output,
        command=command,
    )
    for file_name, reason in annotations.skipped[:_NAMED]:
        print(f"skipped {file_name}: {reason}", file=sys.stderr)
    if len(annotations.skipped) > _NAMED:
        print(f"and {len(annotations.skipped) - _NAMED} more, see `skipped` in annotations.json", file=sys.stderr)
    arrays, listed, *drawn = annotations.save(output, most)
    return f"{annotations.summary()}; wrote {arrays}, {listed}{f'; pictures: {len(drawn)}' if drawn else ''}"


if __name__ == "__main__":
    sys.exit(main())
