"""Predict the 3-D poses or bodies of people in images or keypoint files with a trained method."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from noise2pose.errors import InputError
from noise2pose.skeleton_tables import SKELETONS

DESCRIPTION = """Predict the 3-D poses or bodies of people in images or keypoint files with a trained method.

  noise2pose predict --checkpoint diffpose-people person_keypoints.json --output lifted
  noise2pose predict --checkpoint diffpose-people-27 openpose_folder --fps 30 --output clip
  noise2pose predict --checkpoint diffannot-keypoints photo.jpg --output one
  noise2pose predict --checkpoint diffannot-keypoints photos --keypoints photos.json --output all

A method that predicts joints takes one keypoint file; one that predicts bodies also takes images or folders of them.
Keypoint files are recognised by their content, and the summary says what they were read as:
  .json   COCO annotations or results (also AlphaPose, Halpe, CrowdPose, PoseTrack, JHMDB), OpenPose, MMPose,
          Ultralytics, MPII, AI Challenger, or a nested list (poses, joints, 2 or 3)
  .npz    with `keypoints` (poses, joints, 2 or 3) or (frames, people, joints, 2 or 3), optionally `skeleton` (a name),
          `image_size`, `names` of the images, `people`, `frames` and `fps`; .npy; a custom video of VideoPose3D
  .txt    of YOLO-pose
  a folder of such .json or .txt files, one an image
"""
EPILOG = """what it writes for a method that predicts joints:
  DIR/poses.npz         names, and images, people and frames as the file tells them ("" and -1 where it does not);
                        joints_3d (poses, 17, 3) in metres from the pelvis, x right, y down, z into the image;
                        uncertainty (poses, 17) in metres and hypotheses (poses, N, 17, 3) where the method has them;
                        keypoints_2d (poses, 17, 3) in pixels of the file with confidence; skeleton, checkpoint,
                        observed (poses, 17), whether the joint was seen; image_size (poses, 2) where it is known;
                        level_rotation (poses, 3, 3) and level, how the pictures are turned upright and why
  DIR/NAME.png          of the first poses; discs show one standard deviation of each joint
  DIR/poses.gif         of one person in consecutive frames

what it writes for a method that predicts bodies:
  DIR/annotations.npz   AMASS's keys (poses, trans, betas, gender) in the camera frame of the image, and what belongs
                        to them: names, cameras, keypoints, joints in metres, reprojection errors, what is suspect;
                        level_rotation (people, 3, 3) and level, how the body from the side is levelled and why
  DIR/annotations.json  the same in COCO's layout, and what was skipped and why
  DIR/NAME.png          of the first people: the image, the body over it, the body from the side; with DPMesh also its
                        input heat-maps and its attention, over the crop: left, right and middle joints in the colours
                        of the dots; the number is the largest rise of a joint's attention above its own minimum
You can interrupt it: the same command resumes and ends with the same files. A broken image is skipped and noted. Look
at what is marked suspect before you use it: a body far from its keypoints, few visible joints, legs that were not seen
(a portrait), a body behind the camera.

what it assumes:
Keypoints of images come from --keypoints, whose poses name their image (file_name or image_id in JSON, `names` in npz;
several people in an image are fine), else from the detector that `noise2pose prepare detector` fetches. Folders in
these names tell images of one name apart. 17 joints without names are taken for COCO's, and refused if Human3.6M's
order makes a person of them. Joints of a confidence below 0.1, at (0, 0), (-1, -1) or another mark, without a
position or outside the image are no evidence: they are put at their nearest visible neighbours; a method that uses
confidences is less certain about them.

A method for clips takes each person's poses in the order of the frames, which `frame_id` or the number in the name of
the image says; a missing frame is a gap in time. Several people need identities (track_id, idx). Photographs (IMG_0231
without --fps, or images of several sizes) are no motion, and where nobody can move that fast another one begins. The
motion that these methods were trained on has 50 frames a second: say --fps where your file does not, or fast and slow
are confused.

The focal length of an image is that of --focal, else of its EXIF data, else its diagonal; the summary says which. A
wrong one moves the body nearer or farther and hardly changes its pose.

Views from the side are drawn levelled: by --camera_pitch if it is given, else so that people who stand are vertical. A
pose is taken to stand if torso, thighs and shanks are in line and that line makes the camera look down by 50 degrees at
most, up by 30 or sideways by 20. The vertical is the median over the poses of one video (lifters) or of one image, if a
tenth of them stand and half of those are within 10 degrees of it. Otherwise the camera is assumed to be level. The
title of each picture says which; all other numbers in the files stay in the camera's frame. The pitch that is told this
way is what the predicted poses say, and as wrong as they are. For a lifter the pitch is that of the line from the
camera to the person.

Joints are lifted in a virtual image of each person that shows them whole and near the middle, as the training images
do, with the field of view of Human3.6M's cameras; so are bodies where the size of the image is unknown. So the answer
does not depend on where in the image the person stands, and it is turned against the camera of the image by the angle
to the person. A person who is cut off by the border of the image fills the virtual image nevertheless: expect a worse
answer.
"""
FORMATS = ("openpose", "alphapose", "mmpose", "ultralytics", "aic", "mpii", "coco")  # noise2pose.keypoints.formats
DETECTORS = {"person_detector": "people", "pose_model": "the joints of people"}  # flags, and what their models find
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
    for flag, what in DETECTORS.items():
        parser.add_argument(
            f"--{flag}",
            type=Path,
            metavar="FILE",
            help=f"ONNX or LiteRT model that finds {what} (default: that of --detector); docs/photos.md",
        )
    parser.add_argument(
        "--skeleton",
        choices=["auto", *SKELETONS],
        default="auto",
        metavar="NAME",
        help="joint order of the file (default: auto, what the file says, else by the number of joints): "
        f"{', '.join(SKELETONS)}",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        metavar="NAME",
        help=f"format of a JSON file, if it is not recognised: {', '.join(FORMATS)}",
    )
    parser.add_argument("--fps", type=float, metavar="RATE", help="frames of the video in a second")
    parser.add_argument(
        "--image_size",
        type=int,
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="of the images of a keypoint file that does not say it, in pixels",
    )
    parser.add_argument(
        "--selector",
        metavar="NAME",
        help="of DiffAnnot: guided, reproj2d, fixed, consistency or none; of FMPose3D: mean or reprojection",
    )
    parser.add_argument("--focal", type=float, metavar="PIXELS", help="focal length of all images")
    parser.add_argument(
        "--camera_pitch",
        type=float,
        metavar="DEGREES",
        help="how far the camera looks down, negative up, for views from the side (default: what people who stand "
        "tell, else level)",
    )
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


def _check_inputs(arguments: argparse.Namespace) -> None:
    """Refuses other files, and images where the model's card says that it lifts, before anything heavy is loaded."""
    from noise2pose.files import ASSETS
    from noise2pose.images.photographs import ENDINGS, OTHER_ENDINGS
    from noise2pose.keypoints.images import KEYPOINT_ENDINGS, instead
    from noise2pose.reports.model_card import LIFTS, tags

    shipped = ASSETS / "models" / arguments.checkpoint
    for path in arguments.inputs:
        if path.is_file() and path.suffix.lower() not in (*ENDINGS, *OTHER_ENDINGS, *KEYPOINT_ENDINGS):
            raise InputError(
                f"{path}: neither keypoints ({', '.join(KEYPOINT_ENDINGS)}) nor an image ({', '.join(ENDINGS)})"
                f"{instead(path)}"
            )
    images = any(path.suffix.lower() in ENDINGS for path in arguments.inputs)
    if images and LIFTS in tags(shipped if shipped.is_dir() else Path(arguments.checkpoint)):
        raise InputError(
            f"{arguments.checkpoint} lifts 2-D keypoints: give it a keypoint file, not images; for images use a model "
            "that answers with bodies, such as diffannot-keypoints"
        )


def _predict(arguments: argparse.Namespace, command: str) -> str:
    """Writes the files; returns the summary."""
    _check_inputs(arguments)
    from noise2pose.keypoints.files import as_keypoints, is_keypoint_file, read_keypoints  # these load PyTorch

    source = arguments.inputs[0]
    alone = len(arguments.inputs) == 1 and is_keypoint_file(source)
    if alone and arguments.keypoints is not None:
        raise InputError(f"--keypoints: {source} is a keypoint file itself; --keypoints is for images")
    file = source if alone else arguments.keypoints
    if file is not None and (unused := [flag for flag in DETECTORS if getattr(arguments, flag) is not None]):
        raise InputError(f"--{unused[0]}: the keypoints are given, in {file}")
    skeleton = None if arguments.skeleton == "auto" else arguments.skeleton
    keypoints = None if file is None else read_keypoints(file, skeleton, arguments.format)
    if keypoints is not None and arguments.image_size is not None:
        keypoints = as_keypoints(keypoints, image_size=arguments.image_size)

    from methods.inference import Annotator, Lifter, TrainedModel
    from methods.inference.results import as_folder

    output, most = as_folder(arguments.output), arguments.max_pictures
    model = TrainedModel(arguments.checkpoint, arguments.device, arguments.selector)

    if alone and model.method.body is None:
        if arguments.focal is not None:
            raise InputError(f"--focal: {model.method.title} lifts in a virtual image and does not use a focal length")
        poses = Lifter(model).predict(keypoints, fps=arguments.fps, camera_pitch=arguments.camera_pitch)
        written = poses.save(output, most)
        drawn = sum(path.suffix == ".png" for path in written)
        files = ", ".join(str(path) for path in written if path.suffix != ".png")
        return f"{poses.summary()}; wrote {files}{f' and {drawn} pictures' if drawn else ''}"

    if arguments.fps is not None:
        raise InputError(f"--fps: {model.method.title} takes single images and does not use a frame rate")
    annotations = Annotator(
        model,
        batch_size=arguments.batch_size,
        person_detector=arguments.person_detector,
        pose_model=arguments.pose_model,
    ).predict(
        keypoints if alone else arguments.inputs,
        None if alone else keypoints,
        arguments.focal,
        arguments.detector,
        output=output,
        command=command,
        camera_pitch=arguments.camera_pitch,
    )
    for file_name, reason in annotations.skipped[:_NAMED]:
        print(f"skipped {file_name}: {reason}", file=sys.stderr)
    if len(annotations.skipped) > _NAMED:
        print(f"and {len(annotations.skipped) - _NAMED} more, see `skipped` in annotations.json", file=sys.stderr)
    arrays, listed, *drawn = annotations.save(output, most)
    return f"{annotations.summary()}; wrote {arrays}, {listed}{f'; pictures: {len(drawn)}' if drawn else ''}"


if __name__ == "__main__":
    sys.exit(main())
