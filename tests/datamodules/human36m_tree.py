"""Writes small folders in the three layouts of Human3.6M, all of the same random motion.

Whoever reads them can compute everything anew: `motion` gives the joints in the world.
"""

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
from cdflib.cdfwrite import CDF
from PIL import Image
from scipy.spatial.transform import Rotation

from datamodules.preparation import prepare
from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.human36m import files as human36m_files
from datamodules.sources.human36m.cameras import CAMERAS, INTRINSICS, extrinsics, project
from datamodules.sources.human36m.sequences import JOINTS_OF_32
from noise2pose.safe_pickle import write_object_npz

SUBJECTS = ("S1", "S6", "S9", "S11")
ACTIONS = ("Directions", "Directions 1", "TakingPhoto 1", "WalkingDog", "Sitting", "SittingDown 2")
FRAMES = 7
SYMMETRY = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
MASK = (3, 5, 40, 60)  # x0, y0, x1, y1 of the first frame's mask; it moves by a pixel in x with each frame
VIDEO = (64, 48)
_ACTION_NUMBERS = {"Directions": 2, "Sitting": 9, "SittingDown": 10, "TakingPhoto": 12, "WalkingDog": 15}
# Each of 32 joints lies where one of the 17 is, as several do in the publisher's files.
_NEAREST = [
    0,
    1,
    2,
    3,
    3,
    3,
    4,
    5,
    6,
    6,
    6,
    0,
    7,
    8,
    9,
    10,
    8,
    11,
    12,
    13,
    13,
    13,
    13,
    13,
    8,
    14,
    15,
    16,
    16,
    16,
    16,
    16,
]


def motion(subject: str, action: str, frames: int = FRAMES) -> np.ndarray:
    """(F, 32, 3) float32 joints in the world, metres, near its origin and so in front of all cameras."""
    seed = int(subject[1:]) * 1000 + ACTIONS.index(action)
    generator = np.random.default_rng(seed)
    joints = generator.normal(0.0, 0.3, (1, 17, 3)) + generator.normal(0.0, 0.02, (frames, 17, 3)) + [0.0, 0.0, 1.0]
    return joints[:, _NEAREST].astype(np.float32)


def seen(subject: str, action: str, camera: str, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Joints (F, 17, 3) in the camera frame, metres, and (F, 17, 2) in pixels."""
    rotation, translation = extrinsics(subject, camera)
    joints = motion(subject, action, frames)[:, JOINTS_OF_32].astype(np.float64) @ rotation.T + translation
    return joints, project(joints.astype(np.float32), INTRINSICS[camera])


def detected(pixels: np.ndarray) -> np.ndarray:
    """What the detector of the tests finds: everything is 3 pixels off."""
    return (pixels + 3.0).astype(np.float32)


def write_videopose3d(
    folder: Path,
    subjects: Sequence[str] = SUBJECTS,
    actions: Sequence[str] = ACTIONS,
    gt: bool = True,
    cpn: bool = True,
) -> None:
    """The npz files of VideoPose3D; two frames more in 2-D than in 3-D, as some of the real ones have."""
    write_object_npz(
        folder / "data_3d_h36m.npz",
        "positions_3d",
        {s: {a: (lambda s=s, a=a: motion(s, a)) for a in actions} for s in subjects},
    )
    for name, wanted in (("gt", gt), ("cpn_ft_h36m_dbb", cpn)):
        if wanted:
            tree = {
                s: {
                    a.replace("TakingPhoto", "Photo"): [
                        (lambda s=s, a=a, c=c, name=name: _longer(s, a, c, name)) for c in CAMERAS
                    ]
                    for a in actions
                }
                for s in subjects
            }
            metadata = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": SYMMETRY}
            write_npz_objects(folder / f"data_2d_h36m_{name}.npz", positions_2d=_called(tree), metadata=metadata)


def write_npz_objects(path: Path, **entries: object) -> None:
    """As NumPy writes several entries of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: np.array(value, dtype=object) for key, value in entries.items()})


def write_official(
    folder: Path,
    subjects: Sequence[str] = SUBJECTS,
    actions: Sequence[str] = ACTIONS,
    masks: bool = True,
    videos: bool = True,
    metadata: bool = True,
    frames: int = FRAMES,
    video_frames: int | None = None,
) -> None:
    """The publisher's folder, with its `_ALL` files, which are no sequences."""
    for subject in subjects:
        home = folder / subject
        for action in (*actions, "_ALL"):
            for camera in CAMERAS:
                joints, pixels = _all_joints(subject, "Sitting" if action == "_ALL" else action, camera, frames)
                name = f"{action}.{camera}"
                write_cdf(home / "MyPoseFeatures" / "D3_Positions_mono" / f"{name}.cdf", joints * 1000.0)
                write_cdf(home / "MyPoseFeatures" / "D2_Positions" / f"{name}.cdf", pixels)
                if masks and action != "_ALL":
                    write_masks(home / "MySegmentsMat" / "ground_truth_bb" / f"{name}.mat", frames)
                if videos and action != "_ALL":
                    write_video(home / "Videos" / f"{name}.mp4", video_frames or frames)
    if metadata:
        (folder / "metadata.xml").write_text(metadata_xml())


def write_cdf(path: Path, joints: np.ndarray) -> None:
    """`Pose` of (F, 32, C) as (1, F, 32 C)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pose = np.ascontiguousarray(joints.reshape(1, len(joints), -1), dtype=np.float64)
    file = CDF(path, delete=True)
    about = {
        "Variable": "Pose",
        "Data_Type": 45,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(pose.shape[1:]),
    }
    file.write_var(about, var_data=pose)
    file.close()


def write_masks(path: Path, frames: int, transposed: bool = False, size: tuple[int, int] = (1000, 1002)) -> None:
    """`Masks` as MATLAB 7.3 writes a cell array of logical images; see `MASK`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        references = file.create_dataset("Masks", (frames, 1), dtype=h5py.ref_dtype)
        for frame in range(frames):
            image = np.zeros((size[1], size[0]), np.uint8)
            image[MASK[1] : MASK[3], MASK[0] + frame : MASK[2] + frame] = 1
            stored = image if transposed else image.T
            references[frame, 0] = file.create_dataset(f"#refs#/{frame}", data=stored, compression="gzip").ref


def write_video(path: Path, frames: int, first: int = 0) -> None:
    """A grey image that is brighter in each frame; time stamps begin with `first`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.width, stream.height, stream.pix_fmt = *VIDEO, "yuv420p"
        stream.time_base = Fraction(1, 50)
        for number in range(frames):
            image = av.VideoFrame.from_ndarray(np.full((VIDEO[1], VIDEO[0], 3), brightness(number), np.uint8), "rgb24")
            image.pts, image.time_base = first + number, Fraction(1, 50)
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def brightness(frame: int) -> int:
    """Of the pixels of a frame."""
    return 20 + 10 * (frame % 20)


def metadata_xml(shift: float = 0.0) -> str:
    """`metadata.xml` with the published cameras, their principal points moved by `shift`."""
    numbers = [0.5] * (4 * 11 * 6)
    for camera in INTRINSICS.values():
        x, y = camera.principal_point
        numbers += [*camera.focal, x + shift, y + shift, *camera.radial, *reversed(camera.tangential)]
    return f"<metadata><mapping/><w0>[{' '.join(map(repr, numbers))}]</w0></metadata>"


def write_json(
    folder: Path, subjects: Sequence[str] = ("S1", "S9"), actions: Sequence[str] = ACTIONS[1:4], images: bool = True
) -> None:
    """The JSON files of 3DCrowdNet, and images; boxes are 1.2 times those of the joints. SMPL: of even frames."""
    for subject in subjects:
        number = int(subject[1:])
        listed, annotations, joints, smpl = [], [], {}, {}
        cameras = {str(c + 1): _json_camera(subject, name) for c, name in enumerate(CAMERAS)}
        for action in actions:
            act, take = _ACTION_NUMBERS[action.split(" ")[0]], 1
            world = motion(subject, action)[:, JOINTS_OF_32].astype(np.float64) * 1000.0
            joints.setdefault(str(act), {})[str(take)] = {str(f): world[f].tolist() for f in range(FRAMES)}
            smpl.setdefault(str(act), {})[str(take)] = {str(f): smpl_of(subject, f) for f in range(0, FRAMES, 2)}
            for index, camera in enumerate(CAMERAS):
                place = f"s_{number:02d}_act_{act:02d}_subact_{take:02d}_ca_{index + 1:02d}"
                for frame in range(FRAMES):
                    identity = len(listed) + number * 100_000
                    name = f"{place}/{place}_{frame + 1:06d}.jpg"
                    pixels = pinhole(subject, action, camera)[frame]
                    low, size = pixels.min(axis=0), np.ptp(pixels, axis=0)
                    box = [*(low - 0.1 * size), *(1.2 * size)]
                    listed.append(
                        {"id": identity, "file_name": name, "width": 1000, "height": 1002, "subject": number}
                        | {"action_name": action, "action_idx": act, "subaction_idx": take}
                        | {"cam_idx": index + 1, "frame_idx": frame}
                    )
                    annotations.append({"id": identity, "image_id": identity, "bbox": [float(b) for b in box]})
                    if images:
                        (folder / "images" / place).mkdir(parents=True, exist_ok=True)
                        Image.new("RGB", (16, 16)).save(folder / "images" / name, "JPEG")
        contents = {
            "data": {"images": listed, "annotations": annotations},
            "camera": cameras,
            "joint_3d": joints,
            "smpl_param": smpl,
        }
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        for what, content in contents.items():
            (folder / "annotations" / f"Human36M_subject{number}_{what}.json").write_text(json.dumps(content))


def smpl_of(subject: str, frame: int) -> dict[str, list[float]]:
    """Fitted parameters of a frame."""
    generator = np.random.default_rng(int(subject[1:]) * 77 + frame)
    values = {
        "pose": generator.normal(0, 0.4, 72),
        "shape": generator.normal(0, 1, 10),
        "trans": generator.normal(0, 1, 3),
    }
    return {name: value.tolist() for name, value in values.items()}


def pinhole(subject: str, action: str, camera: str) -> np.ndarray:
    """(F, 17, 2) pixels without distortion."""
    joints, _ = seen(subject, action, camera)
    given = INTRINSICS[camera]
    return joints[..., :2] / joints[..., 2:] * given.focal + given.principal_point


def turned(subject: str, camera: str, rotation: Sequence[float]) -> np.ndarray:
    """(3,) axis-angle of SMPL's root in the camera frame."""
    return (Rotation.from_matrix(extrinsics(subject, camera)[0]) * Rotation.from_rotvec(rotation)).as_rotvec()


def _json_camera(subject: str, camera: str) -> dict[str, list]:
    rotation, translation = extrinsics(subject, camera)
    given = INTRINSICS[camera]
    return {
        "R": rotation.tolist(),
        "t": (translation * 1000.0).tolist(),
        "f": list(given.focal),
        "c": list(given.principal_point),
    }


def _all_joints(subject: str, action: str, camera: str, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Of all 32 joints: (F, 32, 3) metres in the camera frame and (F, 32, 2) pixels."""
    joints, pixels = seen(subject, action, camera, frames)
    return joints[:, _NEAREST], pixels[:, _NEAREST]


def _longer(subject: str, action: str, camera: str, source: str) -> np.ndarray:
    pixels = seen(subject, action, camera)[1]
    pixels = np.concatenate((pixels, np.zeros((2, 17, 2), np.float32)))
    return pixels.astype(np.float32) if source == "gt" else detected(pixels)


def _called(tree: dict) -> dict:
    return {s: {a: [view() for view in views] for a, views in actions.items()} for s, actions in tree.items()}


def prepare_folder(source: Path, output: Path, *arguments: str) -> dict:
    """What `scripts/prepare.py human36m` does, in this process; returns the manifest."""
    parser = argparse.ArgumentParser()
    human36m_files.add_options(parser)
    plan = human36m_files.plan(source, output, parser.parse_args(arguments))
    return prepare(plan, output, num_workers=0)


def columns_of(folder: Path, *names: str) -> list[np.ndarray]:
    """Columns of a prepared folder."""
    opened = PreparedFolder(folder, "human36m")
    return [opened.column(name) for name in names]


def rows_of(manifest: dict, name: str) -> slice:
    """The rows of a sequence."""
    found = next(sequence for sequence in manifest["sequences"] if sequence["name"] == name)
    return slice(found["start"], found["stop"])
