"""3DPW in small, in the layout of its authors and in that of 3DCrowdNet.

Two people dance before a walking camera; pickles are written as Python 2 wrote them. Everything random is seeded.
"""

import json
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import roma
import torch
from PIL import Image

from noise2pose import cameras
from noise2pose.skeleton_tables import SKELETONS
from tests.datamodules import gendered_bodies


class Video(NamedTuple):
    """A recording."""

    split: str
    genders: str
    frames: int
    size: tuple[int, int]


VIDEOS = {
    "courtyard_arguing_00": Video("train", "mf", 4, (192, 108)),
    "courtyard_backpack_00": Video("train", "m", 5, (192, 108)),  # of OC
    "courtyard_dancing_00": Video("validation", "mf", 64, (192, 108)),  # of Crowd; frames 60 to 63 of PC
    "downtown_bar_00": Video("test", "fm", 7, (192, 108)),
    "downtown_stairs_00": Video("test", "f", 6, (1080, 1920)),  # of OC; filmed upright
}
UNDETECTED = ("downtown_bar_00", 0, 2)  # person and frame without 2-D joints
INVALID = (("downtown_bar_00", 1, 3), ("courtyard_dancing_00", 0, 61))  # frames that do not count
NO_CAMERA = ("downtown_stairs_00", 5)  # a frame that does not count, with a camera of zeros
_AS_OPENPOSE = {"nose": "skull_base", "right_eye": "skull_base", "left_eye": "skull_base"}
_AS_OPENPOSE |= {"right_ear": "skull_base", "left_ear": "skull_base"}
_GENDERS = {"m": "male", "f": "female"}


def write(
    folder: Path,
    bodies: Path,
    images: bool = True,
    without: tuple[str, ...] = (),
    videos: tuple[str, ...] = tuple(VIDEOS),
) -> dict[str, dict[str, Any]]:
    """Writes the official layout.

    Args:
        folder: to write to.
        bodies: of `gendered_bodies.write`.
        images: whether to write imageFiles.
        without: keys to leave out of the pickles.
        videos: which of `VIDEOS`.

    Returns:
        What each pickle holds.
    """
    content = {}
    for number, name in enumerate(videos):
        video = VIDEOS[name]
        content[name] = make(name, number, bodies)
        path = folder / "sequenceFiles" / video.split / f"{name}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pickle(path, {key: value for key, value in content[name].items() if key not in without})
        if images:
            (folder / "imageFiles" / name).mkdir(parents=True)
            for frame in range(video.frames):
                image = Image.new("RGB", video.size, (40, 20 * frame % 256, 90))
                image.save(folder / "imageFiles" / name / f"image_{frame:05d}.jpg", quality=40)
    return content


def make(name: str, seed: int, bodies: Path) -> dict[str, Any]:
    """The content of a pickle."""
    video, random = VIDEOS[name], np.random.default_rng(seed)
    frames, (width, height) = video.frames, video.size
    intrinsics = np.array([[1.8 * height, 0, width / 2], [0, 1.8 * height, height / 2], [0, 0, 1]])
    position = torch.tensor([0.0, 1.2, 4.5]) + 0.3 * torch.from_numpy(random.normal(size=(frames, 3))).float()
    rotation, translation = cameras.look_at(position, torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    poses, trans, joints, detections, betas = [], [], [], [], []
    for person, gender in enumerate(video.genders):
        body, _ = gendered_bodies.load(bodies, _GENDERS[gender])
        pose = random.normal(0, 0.15, (frames, 72))
        shape = random.normal(0, 0.8, 10)
        place = np.array([0.6 * person - 0.3, -0.1, 0.0]) + random.normal(0, 0.05, (frames, 3))
        turned = roma.rotvec_to_rotmat(torch.from_numpy(pose.reshape(frames, 24, 3)).float())
        world = body.joints(
            turned[:, 0],
            turned[:, 1:],
            torch.from_numpy(shape).float().expand(frames, 10),
            torch.from_numpy(place).float(),
            regressor="smpl_24",
        )
        in_camera = cameras.world_to_camera(world, rotation, translation)
        detected = _detect(in_camera.double().numpy(), intrinsics, random)
        poses.append(pose)
        trans.append(place)
        joints.append(world.double().numpy().reshape(frames, 72))
        detections.append(detected)
        betas.append(np.concatenate((shape, random.normal(size=290))))
    cam_poses = np.tile(np.eye(4), (frames, 1, 1))
    cam_poses[:, :3, :3], cam_poses[:, :3, 3] = rotation.double().numpy(), translation.double().numpy()
    valid = [np.ones(frames, dtype=int) for _ in video.genders]
    for where, person, frame in INVALID:
        if where == name:
            valid[person][frame] = 0
    if NO_CAMERA[0] == name:
        valid[0][NO_CAMERA[1]], cam_poses[NO_CAMERA[1]] = 0, 0.0
    if UNDETECTED[0] == name:
        detections[UNDETECTED[1]][UNDETECTED[2]] = 0.0
    return {
        "sequence": name,
        "poses": poses,
        "trans": trans,
        "betas": betas,
        "genders": list(video.genders),
        "jointPositions": joints,
        "poses2d": detections,
        "cam_poses": cam_poses,
        "campose_valid": valid,
        "cam_intrinsics": intrinsics,
        "img_frame_ids": np.arange(frames) * 2,
        "poses_60Hz": [random.normal(size=(2 * frames, 72)) for _ in video.genders],
        "texture_maps": [np.arange(256, dtype=np.uint8)],
    }


def _detect(joints: np.ndarray, intrinsics: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(F, 3, 18): noisy projections of joints, one in ten not found."""
    smpl, openpose = SKELETONS["smpl_24"], SKELETONS["openpose_18"]
    chosen = joints[:, [smpl.index(_AS_OPENPOSE.get(joint, joint)) for joint in openpose.joints]]
    pixels = chosen @ intrinsics.T
    pixels = pixels[..., :2] / pixels[..., 2:] + random.normal(0, 1.0, chosen[..., :2].shape)
    confidence = random.uniform(0.3, 1.0, chosen.shape[:2])
    found = np.concatenate((pixels, confidence[..., None]), axis=-1)
    found[random.random(chosen.shape[:2]) < 0.1] = 0.0
    return np.ascontiguousarray(found.swapaxes(1, 2))


def write_pickle(path: Path, content: Any) -> None:
    """Writes protocol 2 as Python 2 did: text and bytes are the same, NumPy's functions are where they were."""
    with path.open("wb") as file:
        _Python2(file, protocol=2).dump(content)


class _Python2(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)  # pyright: ignore

    def _save_string(self, text):
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)  # pyright: ignore
        self.memoize(text)  # pyright: ignore

    dispatch[str] = dispatch[bytes] = _save_string  # pyright: ignore

    def save_global(self, obj, name=None):
        if obj is _RECONSTRUCT:
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")  # pyright: ignore
        else:
            super().save_global(obj, name)  # pyright: ignore


_RECONSTRUCT = np.empty(0).__reduce__()[0]


def annotations(content: dict[str, dict[str, Any]], bodies: Path, names: list[str]) -> dict[str, Any]:
    """Frames that count of some recordings as 3DCrowdNet writes them: the body in the camera frame.

    The translation is worked out from the root joint, which turning the body does not move relative to it.
    """
    images, people = [], []
    for name in (name for name in names if name in content):
        data, video = content[name], VIDEOS[name]
        for frame in range(video.frames):
            camera = data["cam_poses"][frame]
            intrinsics = data["cam_intrinsics"]
            image = len(images) + 1000
            images.append(
                {
                    "id": image,
                    "width": video.size[0],
                    "height": video.size[1],
                    "sequence": name,
                    "file_name": f"image_{frame:05d}.jpg",
                    "cam_param": {
                        "focal": [intrinsics[0, 0], intrinsics[1, 1]],
                        "princpt": [intrinsics[0, 2], intrinsics[1, 2]],
                    },
                }
            )
            for person, gender in enumerate(video.genders):
                if not data["campose_valid"][person][frame]:
                    continue
                people.append(_annotation(data, person, frame, camera, gender, bodies, image, len(people) + 5000))
    return {"images": images, "annotations": people}


def _annotation(data, person, frame, camera, gender, bodies, image, number) -> dict[str, Any]:
    body, _ = gendered_bodies.load(bodies, _GENDERS[gender])
    betas = torch.from_numpy(data["betas"][person][:10]).float()
    root = body.rest_joints(betas)[0].double().numpy()
    pose = data["poses"][person][frame].copy()
    turned = camera[:3, :3] @ roma.rotvec_to_rotmat(torch.from_numpy(pose[:3])).numpy()
    pose[:3] = roma.rotmat_to_rotvec(torch.from_numpy(turned)).numpy()
    place = camera[:3, :3] @ (data["trans"][person][frame] + root) + camera[:3, 3]
    return {
        "id": number,
        "image_id": image,
        "bbox": [10.0, 12.0, 60.0, 80.0],
        "smpl_param": {
            "pose": pose.tolist(),
            "shape": data["betas"][person][:10].tolist(),
            "trans": (place - root).tolist(),
            "gender": _GENDERS[gender],
        },
        "openpose_result": data["poses2d"][person][frame].T.ravel().tolist(),
    }


def write_community(folder: Path, content: dict[str, dict[str, Any]], bodies: Path) -> dict[str, dict[str, Any]]:
    """Writes the JSON files beside the pickles; returns them by name."""
    files: dict[str, Any] = {
        f"3DPW_latest_{split}.json": annotations(content, bodies, [n for n in content if VIDEOS[n].split == split])
        for split in ("train", "validation", "test")
    }
    files["3DPW_oc.json"] = annotations(content, bodies, ["courtyard_backpack_00", "downtown_stairs_00"])
    crowd = [person["id"] for person in files["3DPW_latest_validation.json"]["annotations"][:-3]]
    random = np.random.default_rng(7)
    files["3DPW_validation_crowd_hhrnet_result.json"] = {
        str(number): {"coco_joints": random.uniform(20, 100, (17, 3)).tolist()} for number in crowd
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return files
