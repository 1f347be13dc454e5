"""Human3.6M as its publisher ships it.

S*/MyPoseFeatures/D3_Positions_mono/ACTION.CAMERA.cdf   Pose (1, F, 96): 32 joints in the camera frame, millimetres
S*/MyPoseFeatures/D2_Positions/ACTION.CAMERA.cdf        Pose (1, F, 64): the same in pixels
S*/MySegmentsMat/ground_truth_bb/ACTION.CAMERA.mat      Masks: an image for each frame, 1 inside the person's box
S*/Videos/ACTION.CAMERA.mp4                             50 fps
metadata.xml                                            cameras

Shape letters: F frames, N kept frames.
"""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import cdflib
import h5py
import numpy as np

from datamodules.preparation import Part, Rows
from datamodules.sources.common.files import folder_with
from datamodules.sources.common.joints import bounds_of, camera_columns, with_validity
from datamodules.sources.common.video_frames import check_room, extract_frames, frame_name, read_header
from datamodules.sources.human36m.cameras import CAMERAS, INTRINSICS, project, read_metadata
from datamodules.sources.human36m.sequences import (
    JOINTS_OF_32,
    SKELETON,
    SPLITS,
    intrinsics_facts,
    is_left_out,
    sequence_facts,
    sequence_rows,
    sort_actions,
    sort_subjects,
    unify_action,
)
from noise2pose.cameras import Intrinsics
from noise2pose.errors import InputError

POSITIONS_3D, POSITIONS_2D = "MyPoseFeatures/D3_Positions_mono", "MyPoseFeatures/D2_Positions"
_NAME = re.compile(r"(?P<action>[^.]+)\.(?P<camera>\d{8})\.(cdf|mat|mp4)", re.IGNORECASE)
MASKS = ("ground_truth_bb", "ground_truth_bs")  # boxes, and silhouettes, whose boxes are tighter
_STRIDE_OF_IMAGES = 5
_SIZE_TOLERANCE = 2  # pixels: videos have 1000 or 1002 rows, and joints fit both; other sizes are resized copies
# Boxes of masks are loose, so their rule makes them smaller (0.9) and that of joints larger (1.2). A box of joints
# among boxes of masks is enlarged by this, so that the one rule of the data set gives the square of the other.
_LOOSER = 1.2 / 0.9
_Key = tuple[str, str, str]  # subject, action, camera


def find(source: Path, folder: str) -> dict[_Key, Path]:
    """Files in a folder of the subjects, which lie in `source` or one level deeper."""
    found: dict[_Key, Path] = {}
    for pattern in (f"S*/{folder}/*", f"*/S*/{folder}/*"):
        for path in sorted(source.glob(pattern)):
            match = _NAME.fullmatch(path.name)
            subject = path.parents[len(Path(folder).parts)].name
            if match and subject in SPLITS and not path.name.startswith("_ALL"):
                found.setdefault((subject, unify_action(match["action"]), match["camera"]), path)
    return found


def plan_parts(
    source: Path, output: Path, stride: int | None, images: bool
) -> tuple[list[Part], dict[str, Any], list[tuple[str, str]]]:
    """A part for each sequence, facts, and what is missing.

    Args:
        source: the publisher's folder.
        output: extracted images go to its folder `images`.
        stride: every how many frames one is kept; None for 5 with images and 1 without.
        images: whether to extract images if there are videos.

    Raises:
        InputError: if the disk is too small for the images.
    """
    skipped: list[tuple[str, str]] = []
    positions = {key: path for key, path in find(source, POSITIONS_3D).items() if not is_left_out(*key[:2])}
    others = {"D2_Positions": find(source, POSITIONS_2D)}
    masks_of = next((name for name in MASKS if find(source, f"MySegmentsMat/{name}")), None)
    others["masks"] = find(source, f"MySegmentsMat/{masks_of}") if masks_of else {}
    others["videos"] = find(source, "Videos") if images else {}
    there = {key for found in (positions, *others.values()) for key in found if not is_left_out(*key[:2])}
    complete = {key[0] for key in positions}
    for subject in sort_subjects(list({key[0] for key in there} - complete)):
        number = sum(key[0] == subject for key in there)
        skipped.append((f"{subject}/{POSITIONS_3D}", f"is missing: {number} sequences are left out"))
    keys = [
        (subject, action, camera)
        for subject in sort_subjects(list(complete))
        for action in sort_actions(list({key[1] for key in there if key[0] == subject}))
        for camera in CAMERAS
    ]
    cameras_of = {subject: {key[2] for key in positions if key[0] == subject} for subject in SPLITS}
    for key in keys:
        name = f"{key[0]}: {key[1]}.{key[2]}"
        if key not in positions:
            if key[2] in cameras_of[key[0]]:
                skipped.append((name, "no D3_Positions_mono of this camera: left out"))
            continue
        skipped += [(name, f"no file in {what}") for what, found in others.items() if found and key not in found]
    keys = [key for key in keys if key in positions]
    extracts = bool(others["videos"])
    stride = stride or (_STRIDE_OF_IMAGES if extracts else 1)
    cameras, facts = _cameras(source, skipped)
    root = output / "images" if extracts else None
    parts = []
    for key in keys:
        files = [positions[key], *(found.get(key) for found in others.values())]  # the video is last
        name = sequence_facts(*key)["name"]
        read = tuple(path for path in files[:-1] if path is not None)
        arguments = (*files, *key, cameras[key[2]], stride, bool(masks_of), root)
        parts.append(Part(name, read_sequence, arguments, read))
    if root is not None:
        named = {root / sequence_facts(*key)["name"]: others["videos"].get(key) for key in keys}
        _check_videos({folder: video for folder, video in named.items() if video is not None}, stride, output)
    facts = {
        "skeletons": {"keypoints_3d": SKELETON, "keypoints_2d_gt": SKELETON},
        "stride": stride,
        "box_rule": "mask" if masks_of else "keypoints",
        "boxes": f"of MySegmentsMat/{masks_of}" if masks_of else "of the joints: there are no masks",
        "keypoints_2d_gt": "as in D2_Positions" if others["D2_Positions"] else "projected with the whole distortion",
        "pictures": "frame F of a sequence is SEQUENCE/F.jpg, counted from 0" if extracts else "none",
        **facts,
    }
    return parts, facts, skipped


def read_sequence(
    positions_3d: Path,
    positions_2d: Path | None,
    masks: Path | None,
    video: Path | None,
    subject: str,
    action: str,
    camera: str,
    intrinsics: Intrinsics,
    stride: int,
    masked: bool,
    images: Path | None,
) -> Rows:
    """One action from one camera, and its images; see `preparation.Rows`.

    Args:
        positions_3d, positions_2d, masks, video: files of the sequence.
        subject, action, camera: their unified names.
        intrinsics: of the camera.
        stride: every how many frames one is kept.
        masked: whether the boxes of the data set are those of masks.
        images: folder that gets a folder of extracted images; None for none.
    """
    facts = sequence_facts(subject, action, camera)
    where = f"{subject}/{positions_3d.name}"
    skipped: list[tuple[str, str]] = []
    metres = read_pose(positions_3d, 3) / 1000.0
    frames = np.arange(0, len(metres), stride)
    joints = metres[frames].astype(np.float32)
    pixels = _pixels(positions_2d, len(metres), skipped)
    keypoints = with_validity(project(joints, intrinsics) if pixels is None else pixels[frames])
    counts: dict[str, int] = {}
    arrays = {
        "frame": frames.astype(np.int32),
        "keypoints_3d": with_validity(joints),
        "keypoints_2d_gt": keypoints,
        "bounds": _bounds(masks, frames, keypoints, masked, counts, skipped),
        **camera_columns(intrinsics.focal, intrinsics.principal_point, intrinsics.size, len(frames)),
    }
    names: list[str] = []
    if images is not None:
        arrays["picture"] = np.full(len(frames), -1, np.int32)
        if video is not None:
            done = extract_frames(video, frames.tolist(), images / facts["name"])
            have = np.isin(frames, sorted(done.frames))
            arrays["picture"][have] = np.arange(have.sum())
            names = [f"{facts['name']}/{frame_name(frame)}" for frame in frames[have].tolist()]
            if done.size is not None and done.size != intrinsics.size:
                facts["picture_size"] = list(done.size)
                arrays["image_size"] = np.tile(np.array(done.size, np.float32), (len(frames), 1))
            if done.reason:
                lost = f"{int((~have).sum())} of {len(frames)} frames have no image"
                skipped.append((f"{subject}/{video.name}", f"{done.reason}: {lost}"))
        if len(names) < len(frames):
            counts["frames without an image"] = len(frames) - len(names)
    return sequence_rows(facts, arrays, where, len(metres), names, counts, skipped)


def read_pose(path: Path, coordinates: int) -> np.ndarray:
    """(F, 17, C) float64, the 17 joints of a `.cdf` file of 32.

    Raises:
        InputError: if it is broken or holds something else.
    """
    try:
        values = np.asarray(cdflib.CDF(path).varget("Pose"))
    except Exception as error:  # the reader trips over a broken file in any way
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: cannot be read as a CDF file ({type(error).__name__} {reason})") from None
    if values.size == 0 or values.dtype.kind != "f" or values.shape[-1] != 32 * coordinates:
        raise InputError(f"{path}: Pose is {values.dtype} {values.shape}, expected (1, F, {32 * coordinates}) numbers")
    return values.reshape(-1, 32, coordinates)[:, JOINTS_OF_32].astype(np.float64)


def mask_bounds(path: Path, frames: list[int], keypoint_bounds: np.ndarray) -> np.ndarray:
    """The box of each frame's mask: x0, y0, x1, y1, where x1 and y1 are the pixels' far sides; NaN without a mask.

    MATLAB writes columns first, so a mask of H x W is read as (W, H). Where a file has been written the other way
    round the boxes are mirrored along the diagonal: far from the joints, so they are turned back.

    Args:
        path: `.mat` file with `Masks`, references to a mask for each frame of the video.
        frames: the wanted ones.
        keypoint_bounds: (N, 4) boxes of the joints in the same frames.

    Returns:
        (N, 4) float32.

    Raises:
        InputError: if it is broken or holds something else.
    """
    boxes = np.full((len(frames), 4), np.nan, np.float32)
    try:
        with h5py.File(path) as file:
            masks: Any = file["Masks"]
            stacked = masks.ndim == 3  # (F, W, H): all in one array
            references = masks if stacked else masks[()].reshape(-1)
            for row, frame in enumerate(frames):
                if frame < len(references):
                    reference: Any = references[frame]
                    mask = np.asarray(reference if stacked else file[reference]).T
                    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
                    if len(columns):
                        boxes[row] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as masks ({error})") from None
    swapped = boxes[:, [1, 0, 3, 2]]
    far, farther = (float(np.nansum(np.abs(given - keypoint_bounds))) for given in (swapped, boxes))
    return swapped if 2.0 * far < farther else boxes


def _pixels(path: Path | None, length: int, skipped: list[tuple[str, str]]) -> np.ndarray | None:
    """(F, 17, 2); None if they must be projected."""
    if path is None:
        return None
    try:
        pixels = read_pose(path, 2)
    except InputError as error:
        skipped.append((str(path), f"{error}: projected instead"))
        return None
    if len(pixels) < length:
        skipped.append((str(path), f"{len(pixels)} frames of {length}: the others have no 2-D joints"))
        pixels = np.concatenate((pixels, np.full((length - len(pixels), 17, 2), np.nan)))
    return pixels[:length]


def _bounds(
    masks: Path | None,
    frames: np.ndarray,
    keypoints: np.ndarray,
    masked: bool,
    counts: dict[str, int],
    skipped: list[tuple[str, str]],
) -> np.ndarray:
    """(N, 4) boxes of masks, and of joints where there is no mask."""
    joints = bounds_of(keypoints[..., :2], keypoints[..., 2] > 0)
    boxes = np.full_like(joints, np.nan)
    if masks is not None:
        try:
            boxes = mask_bounds(masks, frames.tolist(), joints)
        except InputError as error:
            skipped.append((str(masks), str(error)))
    none = np.isnan(boxes[:, 0])
    counts |= {"boxes of masks": int((~none).sum()), "boxes of joints": int(none.sum())}
    if masked:
        centre, half = (joints[:, 2:] + joints[:, :2]) / 2.0, (joints[:, 2:] - joints[:, :2]) / 2.0 * _LOOSER
        joints = np.concatenate((centre - half, centre + half), axis=1)
    return np.where(none[:, None], joints, boxes).astype(np.float32)


def _cameras(source: Path, skipped: list[tuple[str, str]]) -> tuple[dict[str, Intrinsics], dict[str, Any]]:
    """Intrinsics of the four cameras, of the publisher's file if it is there."""
    cameras, where = INTRINSICS, "published table: metadata.xml is not there"
    folder = folder_with(source, ["metadata.xml"])
    if folder is not None:
        try:
            cameras, where = read_metadata(folder / "metadata.xml"), "metadata.xml"
        except InputError as error:
            skipped.append(("metadata.xml", f"{error}: the published table is used"))
            where = "published table: metadata.xml cannot be read"
    return cameras, {"intrinsics": where, "cameras": intrinsics_facts(cameras)}


def _check_videos(videos: dict[Path, Path], stride: int, output: Path) -> None:
    """Says how much room the images of videos need, by the folder of each; InputError if the disk has less."""
    headers = {}
    for folder, video in videos.items():
        with suppress(InputError):  # it is named when it is read
            headers[folder] = read_header(video)
    check_room([(header, folder) for folder, header in headers.items()], stride, output)
    sizes = {folder: INTRINSICS[videos[folder].stem[-8:]].size for folder in headers}
    resized = [videos[folder] for folder, (_, size) in headers.items()
               if max(abs(np.subtract(size, sizes[folder]))) > _SIZE_TOLERANCE]  # fmt: skip
    if resized:
        what = f"{len(resized)} videos are of another size than their cameras, which joints are not scaled to"
        print(f"warning: {what}, first {resized[0]}", file=sys.stderr)
