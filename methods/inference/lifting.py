"""Lifts 2-D keypoints of any number of poses, in images of any size, to 3-D poses with a trained method.

Shape letters: T poses, F frames of a window, W windows, J joints, N hypotheses.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.base import PoseMethod
from methods.inference.inputs import FPS, read_poses
from methods.inference.levels import levelled_poses
from methods.inference.model import SAMPLE, TrainedModel
from methods.inference.results import LiftedPoses, as_folder
from methods.inference.smoothing import smooth_lifted
from noise2pose import cameras, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import Keypoints, counted, frame_rate
from noise2pose.keypoints.images import frame_number
from noise2pose.keypoints.tracks import Track, at_places, is_photograph, resample, tracks
from noise2pose.motion.filters import filter_of
from noise2pose.rendering.levelling import check_pitch, level_poses
from noise2pose.timing import stage
from noise2pose.tracking.gaps import MAX_GAP

_BATCH_FRAMES = 512


class Lifter:
    """A trained method that lifts 2-D keypoints to 3-D poses.

    Args:
        model: a shipped name (`diffpose-people`), a model folder, or the file of a checkpoint; loaded at the first
            prediction.
        device: cpu, cuda or mps.

    Raises:
        InputError: if there is no such model.
    """

    def __init__(self, model: str | Path | TrainedModel, device: str = "cpu") -> None:
        self.model = model if isinstance(model, TrainedModel) else TrainedModel(model, device)

    def predict(
        self,
        keypoints: Any,
        skeleton: str | None = None,
        image_size: Any = None,
        names: Any = None,
        fps: float | None = None,
        camera_pitch: float | None = None,
        track: bool = False,
        max_gap: float = MAX_GAP,
        detector: str | Path | None = None,
        output: str | Path | None = None,
        person_detector: str | Path | None = None,
        pose_model: str | Path | None = None,
        smooth: str = "none",
        level: bool = False,
        lock_feet: bool = False,
    ) -> LiftedPoses:
        """Lifts poses; a method for clips takes those of each person in the order of their frames.

        Joints without confidence are put at their nearest visible neighbours first. Everybody gets the same random
        numbers, so an answer depends on the keypoints alone.

        Args:
            keypoints: (T, J, 2 or 3) or (J, 2 or 3) pixels and confidence; or the path of a keypoint file, in any
                format of `noise2pose.keypoints.files`; or the record that `read_keypoints` returns; or paths of images
                or videos (see `noise2pose.images.sources`), whose people are detected.
            skeleton: of the joints, such as `coco_17`, `halpe_26` or `h36m_17`; None for what the file says, else to
                tell by the number of joints (17 is taken for COCO's).
            image_size: (2,) or (T, 2) width and height in pixels, for the pictures; None for what the file says.
            names: T names of the images; None for those of the file.
            fps: frames of the video in a second, for a method for clips; None for what the file says, else 50. With it,
                the times that a video says are not used.
            camera_pitch: degrees that the camera looks down on the people, negative up, for the pictures; None for what
                people who stand tell, else level (see `noise2pose.rendering.levelling`).
            track: whether to find out who is who in the frames of a video, so that each person is a clip.
            max_gap: seconds without detection that are filled then; a longer gap begins another clip.
            detector: folder of the 2-D detector of images and videos; None for `data/detector`.
            person_detector, pose_model: .onnx or .tflite that find people and joints in images and videos; None for
                BlazePose's (see docs/photos.md).
            output: folder that keeps what was detected, so that the same call after an interruption resumes; None to
                keep nothing.
            smooth: how the motion of each person is smoothed: none, butterworth:HZ or one_euro:HZ (docs/video.md).
            level: whether to turn the answer upright as drawings are, instead of leaving it in the camera frame.
            lock_feet: refused, as the options of `Annotator` are the same: joints of a lifter have no place.

        Raises:
            InputError: if the inputs, the pitch or the filter are wrong, or the model does not lift keypoints; also if
                a method for clips is given several people without identities.
        """
        check_pitch(camera_pitch)
        low_pass = filter_of(smooth)
        fps = None if fps is None else frame_rate("keypoints", fps)
        method = self.model.method
        if method.body is not None:
            raise InputError(f"{method.title} predicts bodies: use Annotator({self.model.name!r})")
        if lock_feet:
            where = "have no place: take a model that predicts bodies, such as --checkpoint diffannot-people"
            raise InputError(f"--lock_feet: {method.title} predicts joints relative to the pelvis, which {where}")
        folder = None if output is None else as_folder(output)
        about = (skeleton, image_size, names, fps, track, max_gap, detector, folder, person_detector, pose_model)
        read = read_poses(keypoints, *about)
        points = skeletons.to_input(read.points, read.skeleton, LiftedPoses.skeleton)
        filled = torch.tensor(read.filled or [False] * len(points))
        observed = torch.cat((points[..., :2], torch.where(filled[:, None, None], 0.0, points[..., 2:])), dim=-1)
        found = tracks(read, FPS) if method.num_frames > 1 else [Track([row], [0.0]) for row in range(len(points))]
        with stage("lift"):
            # A method for clips takes poses that were filled in from the frames around them, others from the keypoints.
            lifted = lift_tracks(method, observed if method.num_frames > 1 else points, found)
        points = observed
        motion, smoothed, seen = _motion(read), "", (points[..., 2] > 0).numpy()
        if low_pass is not None:
            lifted, said = smooth_lifted(lifted, motion, seen.max(axis=1), low_pass)
            smoothed = f"; {said}"
        moving = sum(len(track.rows) > 1 for track in motion)
        joints, skeleton_of_joints = lifted.joints_3d.numpy(), skeletons.get(LiftedPoses.skeleton)
        no_gif = f"; no GIF, which shows one track: there are {moving}" if moving > 1 else ""
        poses = LiftedPoses(
            joints_3d=joints,
            uncertainty=None if lifted.uncertainty is None else lifted.uncertainty.numpy(),
            hypotheses=None if lifted.hypotheses is None else lifted.hypotheses.numpy(),
            keypoints_2d=points.numpy(),
            image_size=None if read.image_sizes is None else read.image_sizes.numpy(),
            names=read.names,
            images=read.images,
            people=read.people,
            frames=read.frames,
            method=method.title,
            checkpoint=self.model.name,
            input_skeleton=read.skeleton,
            num_hidden=int((read.points[..., 2] == 0)[~filled].sum()),
            about=_about(read, found, method.num_frames) + no_gif + smoothed,
            is_clip=any(len(track.rows) == len(points) > 1 for track in motion),
            levels=level_poses(joints, seen, skeleton_of_joints, _cameras(read, motion), camera_pitch),
            fps=read.fps,
            times=read.times,
            clips=_clips(len(points), motion),
        )
        return levelled_poses(poses) if level else poses


def _motion(read: Keypoints) -> list[Track]:
    """The tracks, none where nothing says who is who; a GIF is drawn of a single one."""
    try:
        return tracks(read, FPS)
    except InputError:
        return []


def _clips(number: int, motion: Sequence[Track]) -> list[int]:
    """The number of the clip of each pose, -1 for those that are in none."""
    clips = [-1] * number
    for clip, track in enumerate(motion):
        for row in track.rows:
            clips[row] = clip
    return clips


def _cameras(read: Keypoints, motion: Sequence[Track]) -> list[str]:
    """A name for the camera of each pose: that of the video if the pose is in a motion, else that of the image."""
    cameras = list(read.images)
    for track in motion:
        for row in track.rows if len(track.rows) > 1 else ():
            image, frame = read.images[row], read.frames[row]
            cameras[row] = f"video {str(PurePosixPath(image).parent) if frame is not None else frame_number(image)[0]}"
    return cameras


def _about(read: Keypoints, found: Sequence[Track], num_frames: int) -> str:
    """What was read, and for a method for clips which poses were taken for a motion."""
    if num_frames == 1:
        return read.about()
    moving = [track for track in found if len(track.rows) > 1]
    if not moving:
        photographs = read.fps is None and len(found) > 1 and all(map(is_photograph, read.images))
        hint = ", as photographs are; frames of one video need --fps" if photographs else ""
        if not hint and len(found) > 1 and len(set(read.images)) > 1:
            hint = (
                f", because the last number in names like {read.images[0]} does not count frames: name them so that it "
                "does, or give a frame_id"
            )
        return f"{read.about()}; no pose follows another: each is lifted as if nobody moved{hint}"
    rate = f"{FPS:g} frames a second (assumed)" if read.fps is None else f"{read.fps:g} frames a second"
    alone = len(found) - len(moving)
    others = f", {counted(alone, 'pose')} alone" if alone else ""
    return f"{read.about()}; {counted(len(moving), 'clip')} at {rate}{others}"


class Lifted(NamedTuple):
    """Poses relative to their root, in the camera frame of their virtual image (see `cameras.virtual_image`)."""

    joints_3d: Float[Tensor, "T J 3"]  # metres
    uncertainty: Float[Tensor, "T J"] | None  # metres, one standard deviation, where the method gives it
    hypotheses: Float[Tensor, "T N J 3"] | None  # metres, where the method gives them


def lift_tracks(method: PoseMethod, keypoints: Float[Tensor, "T J 3"], found: Sequence[Track]) -> Lifted:
    """Answers each pose of some tracks; a method for clips gets them at its frame rate.

    Args:
        method: in evaluation mode.
        keypoints: pixels and confidence in the joint order of the method, every joint at a place.
        found: tracks that have each pose once.

    Raises:
        InputError: as `lift`.
    """
    clips = [resample(keypoints[track.rows], track.times, FPS) for track in found]
    lengths = [len(clip.points) for clip in clips]
    lifted = lift(method, torch.cat([clip.points for clip in clips]), lengths)
    order = torch.tensor([row for track in found for row in track.rows]).argsort()

    def by_pose(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        parts = zip(values.split(lengths), clips, strict=True)
        return torch.cat([at_places(part, clip.places) for part, clip in parts])[order]

    joints = by_pose(lifted.joints_3d)
    assert joints is not None
    return Lifted(joints, by_pose(lifted.uncertainty), by_pose(lifted.hypotheses))


@torch.no_grad()
def lift(method: PoseMethod, keypoints: Float[Tensor, "T J 3"], lengths: Sequence[int] | None = None) -> Lifted:
    """Answers each pose once.

    A method for clips, whose attribute `num_frames` is above 1, takes the poses of a clip as consecutive frames, cut
    into the windows of `window_frames`. Each window has one virtual image.

    Args:
        method: in evaluation mode.
        keypoints: pixels and confidence in the joint order of the method, every joint at a place.
        lengths: of the clips, one after the other; None for one clip.

    Returns:
        Tensors on the CPU.

    Raises:
        InputError: if all joints of a window lie at one point.
    """
    length = method.num_frames
    windows, start = [], 0
    for number in [len(keypoints)] if lengths is None or length == 1 else lengths:
        clip, answered = window_frames(number, length)
        windows.append((clip + start, answered))
        start += number
    frames, kept = (torch.cat(parts) for parts in zip(*windows, strict=True))
    points = keypoints[frames]  # (W, F, J, 3)
    corner, side = cameras.virtual_image(points[..., :2].flatten(1, 2))
    if not (side > 0).all():
        first = int((side <= 0).nonzero()[0])
        raise InputError(f"pose {int(frames[first, 0])}: all joints lie at one point")
    pixels = points[..., :2] - corner[:, None, None]
    points = torch.cat((pixels, points[..., 2:]), dim=-1)
    size = side[:, None].expand(-1, 2)
    answers = []
    step = max(1, _BATCH_FRAMES // length)
    for start in range(0, len(frames), step):
        rows = slice(start, start + step)
        batch: PoseBatch = {
            "keypoints_2d": (points[rows] if length > 1 else points[rows, 0]).to(method.device),
            "camera": {
                "focal": (cameras.VIRTUAL_FOCAL * size[rows]).to(method.device),
                "principal_point": (size[rows] / 2.0).to(method.device),
                "image_size": size[rows].to(method.device),
            },
            "sample_id": [SAMPLE] * len(points[rows]),
        }
        answers.append(_by_frame(method(batch), kept[rows]))
    joints, uncertainty, hypotheses = zip(*answers, strict=True)
    return Lifted(torch.cat(joints), _joined(uncertainty), _joined(hypotheses))


def _by_frame(prediction: Prediction, kept: Bool[Tensor, "W F"]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What a method answered for the frames of a batch of windows, one after the other."""
    joints = prediction["joints_3d"]
    shape, chosen = kept.shape, kept.flatten()
    joints = joints.reshape(-1, *joints.shape[-2:]).cpu()[chosen]
    uncertainty, hypotheses = prediction.get("uncertainty"), prediction.get("hypotheses")
    if uncertainty is not None:
        uncertainty = uncertainty.reshape(shape.numel(), -1).cpu()[chosen]
    if hypotheses is not None:
        hypotheses = hypotheses.reshape(len(hypotheses), shape.numel(), *joints.shape[-2:]).cpu()[:, chosen]
        hypotheses = hypotheses.transpose(0, 1).contiguous()
    return joints, uncertainty, hypotheses


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def window_frames(length: int, num_frames: int) -> tuple[Int[Tensor, "W F"], Bool[Tensor, "W F"]]:
    """Which frames of one sequence each window holds, and which of them are answered there.

    Windows follow each other and the last one ends with the sequence; its frames that the window before holds too are
    not answered again. A sequence shorter than a window is filled up with its last frame, which is answered once.

    Args:
        length: T.
        num_frames: F.

    Returns:
        Frame numbers (W, F), and whether they are answered (W, F).
    """
    last = max(length - num_frames, 0)
    starts = torch.tensor([*range(0, last, num_frames), last])
    frames = starts[:, None] + torch.arange(num_frames)
    first = torch.arange(len(starts)) * num_frames  # that no window before holds
    return frames.clamp_max(length - 1), (frames >= first[:, None]) & (frames < length)
