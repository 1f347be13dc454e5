"""Predict the 3-D poses or bodies of people in images, videos or keypoint files with a trained method."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from noise2pose.errors import InputError
from noise2pose.motion.options import add_options, chosen
from noise2pose.skeleton_tables import SKELETONS

DESCRIPTION = """Predict the 3-D poses or bodies of people in images, videos or keypoint files with a trained method.

  noise2pose predict clip.mp4 --track --output lifted
  noise2pose predict photos --output bodies
  noise2pose predict webcam --seconds 10 --track --output me
  noise2pose predict person_keypoints.json --checkpoint diffpose-people --output lifted
  noise2pose predict openpose_folder --fps 30 --output clip
  noise2pose predict photos --checkpoint diffannot-people --keypoints photos.json --output all

The 2-D keypoints of images and videos are detected (`noise2pose prepare detector`). Without --checkpoint a shipped
model is taken: one that predicts bodies for images; for keypoint files and videos one that predicts joints, for clips
where each person is one, else for single poses. The summary says which.
A source is an image, a video (.mp4, .mov, .avi, .mkv, .webm, .gif), a folder of them, a pattern in quotes
("photos/*.jpg"), `webcam` or `webcam:1` (Linux; it is recorded until Ctrl-C, then read), or keypoints.
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
                        clips, number of the unbroken motion of a person, -1 in none; command; times in seconds, fps
                        where known; level_rotation (poses, 3, 3) and level, how pictures are turned upright and why
  DIR/NAME.png          of the first poses, or spread over a video; discs are one standard deviation of each joint
  DIR/poses.gif         of one person in consecutive frames

what it writes for a method that predicts bodies:
  DIR/annotations.npz   AMASS's keys (poses, trans, betas, gender) in the camera frame of the image, and what belongs
                        to them: names, cameras, keypoints, joints in metres, reprojection errors, what is suspect;
                        level_rotation (people, 3, 3) and level, how the body from the side is levelled and why
  DIR/annotations.json  the same in COCO's layout, and what was skipped and why
  DIR/NAME.png          of the first people: the image, the body over it, the body from the side; with DPMesh also its
                        input heat-maps and its attention, over the crop: left, right and middle joints in the colours
                        of the dots; the number is the largest rise of a joint's attention above its own minimum
what it writes for videos and images:
  DIR/detections/*.jsonl, DIR/detections.json       the 2-D joints that were detected, as they come
what --format writes beside that, for people in motion one file a person (NAME) or one for all (docs/exports.md):
  DIR/motion[_NAME].npz   AMASS's keys (poses, trans, betas, gender, mocap_framerate), z up: SMPL's add-on for Blender
  DIR/motion[_NAME].bvh   skeleton in the body's rest pose, centimetres, y up: Blender, MotionBuilder, Maya
  DIR/motion[_NAME].trc   markers in metres, y up: OpenSim, Pose2Sim
  DIR/motion[_NAME].csv   a column a coordinate, metres, y up
  DIR/motion.json         COCO's layout with keypoints and 3-D joints or bodies (--format coco)
  DIR/motion.glb          animated skin, or skeleton with hypotheses as ghosts; metres, y up: Blender, browsers, engines
  DIR/motion.html         one web page with everybody: timeline, hypotheses, uncertainty (see also noise2pose view)
  DIR/motion.rrd          recording of rerun;  DIR/motion.mp4   film of the 2-D joints, the people and their side view
They are turned upright as the drawings are. bvh and glb need pip install -e '.[export]', rrd needs '.[rerun]'.

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
the image says; a missing frame is a gap in time. Several people need identities (track_id, idx), or --track, which
finds them by the boxes of the joints (OC-SORT), drops who is seen for less than half a second, and fills gaps without
detection up to --max_gap; poses in gaps have no observed joint. Who is away for longer than a second comes back as
somebody else. The times of a video are its own, whatever its frame rate; with --fps they are not used. Photographs
(IMG_0231 without --fps, or images of several sizes) are no motion, and where nobody can move that fast another one
begins. The motion that these methods were trained on has 50 frames a second: say --fps where your file does not, or
fast and slow are confused.

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
to the person. A person who is cut off by the border of the image fills the virtual image: expect a worse answer.
"""
FORMATS = ("openpose", "alphapose", "mmpose", "ultralytics", "aic", "mpii", "coco")  # noise2pose.keypoints.formats
DETECTORS = {"person_detector": "people", "pose_model": "the joints of people"}  # flags, and what their models find
_NAMED = 3  # skipped files that are told at the end; annotations.json has all


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = list(sys.argv[1:] if args is None else args)
    arguments = _parser().parse_args(given)
    try:
        from noise2pose.timing import measured

        with measured() as stages:
            print(_predict(arguments, _command(given)))
        if arguments.profile:
            print(stages.table())
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
    parser.add_argument("inputs", nargs="+", metavar="SOURCE", help="images, videos, folders, webcam or keypoint file")
    parser.add_argument(
        "--checkpoint", help="model folder, checkpoint, or the name of a shipped model (default: see above)"
    )
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
        "--keypoint_format",
        choices=FORMATS,
        metavar="NAME",
        help=f"format of a JSON file, if it is not recognised: {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--format",
        default="",
        metavar="LIST",
        help="files to write for other tools, beside those above, with commas: npz,coco,bvh,glb,trc,csv,rrd,mp4,"
        "html (default: none; see docs/exports.md)",
    )
    parser.add_argument("--fps", type=float, metavar="RATE", help="frames of the video in a second")
    parser.add_argument("--track", action="store_true", help="find out who is who over the frames of a video")
    parser.add_argument(
        "--max_gap",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="with --track, gaps without detection that are filled; longer ones begin another clip (default: 0.5)",
    )
    add_options(parser)
    parser.add_argument("--seconds", type=float, help="with webcam, length of the recording (default: until Ctrl-C)")
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
    parser.add_argument("--profile", action="store_true", help="print the milliseconds of each stage at the end")
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


def _check(arguments: argparse.Namespace) -> list[str]:
    """Refuses what cannot be written, before anything is read or computed; returns the formats to write."""
    from noise2pose.export.formats import check_formats
    from noise2pose.files import check_writable

    check_writable(arguments.output)
    if arguments.max_gap < 0.0:
        raise InputError(f"--max_gap is {arguments.max_gap:g}, expected seconds from 0 on")
    return check_formats(arguments.format, FORMATS)


def _predict(arguments: argparse.Namespace, command: str) -> str:
    """Writes the files; returns the summary."""
    formats, motion = _check(arguments), chosen(arguments)
    from methods.inference import Annotator, Lifter, TrainedModel
    from methods.inference.inputs import default_model, read_poses
    from methods.inference.saved import check_same, made_with
    from noise2pose.export.formats import left_from_before, lines_of
    from noise2pose.images.sources import find_sources
    from noise2pose.keypoints.files import as_keypoints, read_keypoints  # these load PyTorch
    from noise2pose.timing import stage

    def model(name: str) -> TrainedModel:
        return TrainedModel(name, arguments.device, arguments.selector)

    output, most = arguments.output, arguments.max_pictures
    named = None if arguments.checkpoint is None else model(arguments.checkpoint)
    sources = find_sources(arguments.inputs, output, arguments.seconds)
    if sources.keypoints is not None and arguments.keypoints is not None:
        raise InputError(f"--keypoints: {sources.keypoints} is a keypoint file itself; --keypoints is for images")
    file = sources.keypoints or arguments.keypoints
    if file is not None and (unused := [flag for flag in DETECTORS if getattr(arguments, flag) is not None]):
        raise InputError(f"--{unused[0]}: the keypoints are given, in {file}")
    models = {flag: getattr(arguments, flag) for flag in DETECTORS}
    skeleton = None if arguments.skeleton == "auto" else arguments.skeleton
    keypoints = None if file is None else read_keypoints(file, skeleton, arguments.keypoint_format)
    if keypoints is not None and arguments.image_size is not None:
        keypoints = as_keypoints(keypoints, image_size=arguments.image_size)

    lifts = not (sources.images or arguments.lock_feet) if named is None else named.method.body is None
    if lifts:
        if arguments.focal is not None:
            raise InputError("--focal: a method that predicts joints lifts in a virtual image, without a focal length")
        if sources.images and keypoints is not None:
            alone = f"give it {file} alone, without --keypoints"
            raise InputError(f"{arguments.checkpoint} does not look at images: {alone}")
        given, made_by = sources if keypoints is None else keypoints, made_with(command)
        check_same(output, made_by)
        tracking = {"fps": arguments.fps, "track": arguments.track, "max_gap": arguments.max_gap}
        read = read_poses(given, **tracking, detector=arguments.detector, output=output, **models)
        lifter = Lifter(named or model(default_model(read)))
        poses = lifter.predict(read, camera_pitch=arguments.camera_pitch, **motion)
        with stage("write"):
            written = poses.save(output, most, command=made_by)
            exported = lines_of(poses.export(output, formats, sources.frames_of, sources.images_of))
        drawn = sum(path.suffix == ".png" for path in written)
        files = ", ".join(str(path) for path in written if path.suffix != ".png")
        summary = f"{poses.summary()}; wrote {files}{f' and {drawn} pictures' if drawn else ''}"
        named_first = "" if named else f"{lifter.model.name}, taken because no --checkpoint was given: "
        return "\n".join([named_first + summary, *exported, *left_from_before(written[0])])

    timed = arguments.track or arguments.level or arguments.lock_feet or arguments.smooth != "none"
    if arguments.fps is not None and not timed:
        raise InputError("--fps: single images have no time: it is for --track, --smooth, --level and --lock_feet")
    annotator = Annotator(named or model(default_model(None)), batch_size=arguments.batch_size, **models)
    annotations = annotator.predict(
        sources if keypoints is None or sources.keypoints is None else keypoints,
        None if sources.keypoints is not None else keypoints,
        arguments.focal,
        arguments.detector,
        output=output,
        command=command,
        camera_pitch=arguments.camera_pitch,
        track=arguments.track,
        max_gap=arguments.max_gap,
        fps=arguments.fps,
        **motion,
    )
    for note in sources.notes:
        print(note, file=sys.stderr)
    for file_name, reason in annotations.skipped[:_NAMED]:
        print(f"skipped {file_name}: {reason}", file=sys.stderr)
    if len(annotations.skipped) > _NAMED:
        print(f"and {len(annotations.skipped) - _NAMED} more, see `skipped` in annotations.json", file=sys.stderr)
    with stage("write"):
        arrays, listed, *drawn = annotations.save(output, most)
        exported = lines_of(annotations.export(output, formats, sources.frames_of, sources.images_of))
    summary = f"{annotations.summary()}; wrote {arrays}, {listed}{f'; pictures: {len(drawn)}' if drawn else ''}"
    named_first = "" if named else f"{annotator.model.name}, taken because no --checkpoint was given: "
    return "\n".join([named_first + summary, *exported])


if __name__ == "__main__":
    sys.exit(main())
