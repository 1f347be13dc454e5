"""3DOH50K in small, as published and as JOTR passes its test split on; everything random is seeded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from PIL import Image

from noise2pose.skeleton_tables import SKELETONS
from tests.datamodules import gendered_bodies

SIZE = (160, 90)
PEOPLE = 6
SCALE = 7.0
INTRINSICS = np.array([[150.0, 0, 81.0], [0, 152.0, 44.0], [0, 0, 1]])
UNDETECTED = 2  # HRNet found nobody here
_AS_COCO = {"nose": "skull_base", "left_eye": "skull_base", "right_eye": "skull_base"}
_AS_COCO |= {"left_ear": "skull_base", "right_ear": "skull_base"}


def write(folder: Path, bodies: Path, splits: tuple[str, ...] = ("testset",), community: bool = True) -> dict[str, Any]:
    """Writes annots.json and images of splits, and JOTR's file; returns the people of the last split by number."""
    people: dict[str, Any] = {}
    for seed, split in enumerate(splits):
        (folder / split / "images").mkdir(parents=True)
        people = {f"{number:05d}": person(seed * 100 + number, f"{number:05d}", bodies) for number in range(PEOPLE)}
        for name in people:
            Image.new("RGB", SIZE, (90, 40, 10)).save(folder / split / "images" / f"{name}.jpg", quality=40)
        published = {name: {k: v for k, v in p.items() if k != "community"} for name, p in people.items()}
        (folder / split / "annots.json").write_text(json.dumps(published))
    if community:
        detected = {f"testset/images/{name}.jpg": p["community"] for name, p in people.items()}
        (folder / "3doh_test_annots_scale_1.json").write_text(json.dumps(detected))
    return people


def person(seed: int, name: str, bodies: Path) -> dict[str, Any]:
    """One entry of annots.json, with JOTR's of the same person under `community`."""
    random = np.random.default_rng(seed)
    body, _ = gendered_bodies.load(bodies, "neutral")
    extrinsics = np.eye(4)
    turn = roma.rotvec_to_rotmat(torch.from_numpy(random.normal(0, 0.4, 3))).numpy()
    extrinsics[:3, :3], extrinsics[:3, 3] = turn, SCALE * np.array([0.1, -0.2, 0.3])
    in_camera = roma.rotvec_to_rotmat(torch.from_numpy(random.normal(0, 0.2, (24, 3))))
    in_camera[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])).double() @ in_camera[0]
    betas = torch.from_numpy(random.normal(0, 0.5, 10)).float()
    place = np.array([0.1, 0.0, 3.0])  # SMPL's translation in the camera frame
    root = body.rest_joints(betas)[0].double().numpy()
    joints = body.joints(in_camera[0].float(), in_camera[1:].float(), betas, regressor="smpl_24").double().numpy()
    joints = joints + place
    pixels = joints @ INTRINSICS.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    # The world is seven times as large; its body turns about a root joint seven times as far from the origin.
    world_root = turn.T @ (SCALE * (root + place) - extrinsics[:3, 3])
    pose = roma.rotmat_to_rotvec(in_camera).numpy()
    world = pose.copy()
    world[0] = roma.rotmat_to_rotvec(torch.from_numpy(turn.T) @ in_camera[0]).numpy()
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    smpl, coco = SKELETONS["smpl_24"], SKELETONS["coco_17"]
    found = pixels[[smpl.index(_AS_COCO.get(joint, joint)) for joint in coco.joints]] + random.normal(0, 1, (17, 2))
    found = np.concatenate((found, random.uniform(0.3, 1, (17, 1))), axis=1)
    if int(name) == UNDETECTED:
        found[:] = 0
    return {
        "img_path": f"images\\{name}.jpg",
        "bbox": [low.tolist(), high.tolist()],
        "pose": [world.ravel().tolist()],
        "betas": [betas.tolist()],
        "trans": [(world_root - SCALE * root).tolist()],
        "scale": [SCALE],
        "intri": INTRINSICS.tolist(),
        "extri": extrinsics.tolist(),
        "smpl_joints_2d": pixels.tolist(),
        "smpl_joints_3d": ((SCALE * joints - extrinsics[:3, 3]) @ turn).tolist(),
        "lsp_joints_2d": np.zeros((14, 2)).tolist(),
        "mask_path": f"masks\\{name}.png",
        "community": {
            "pose": pose.ravel().tolist(),
            "shape": betas.tolist(),
            "trans": place.tolist(),
            "scale": [1.0],
            "bbox": [*low.tolist(), *high.tolist()],
            "hrnet_results": found.tolist(),
        },
    }
