"""Annotations of bodies in images: what is kept of a method's answer, when it is suspect, and both files' layouts.

annotations.npz (N people; AMASS's keys first; lengths in metres, angles in radians):
  poses (N, 72)          SMPL's axis-angle rotations, root first, in the camera frame (x right, y down, z forward)
  trans (N, 3)           added to the posed body in that frame
  betas (N, 10), gender  of the body: "neutral", "male" or "female"
  names, file_names (N,) the person and the image
  body                   whose parameters these are; betas and poses of one body do not fit another
  joints_3d (N, 17, 3)   h36m_17 in the camera frame
  keypoints_2d (N, 17, 3), box (N, 3)             the input: pixels and confidence; centre x, centre y and side
  camera_focal, camera_principal_point (N, 2)     pixels
  image_size (N, 2)      width and height; 0 where they are unknown
  step (N,)              denoising steps of the answer; 0 where the first answer was kept
  reprojection_before, reprojection_after (N,)    distance of the joints from their keypoints, a mean weighted by the
                         confidences, pixels; NaN without keypoints
  observed (N, 17)       which joints had a keypoint; the others are made up
  people, frames, times (N,)                      identity of a tracked person, position in a video and seconds from
                         its first frame; "", -1 and -1 where there are none. Nobody saw a pose without any observed
                         joint: it was put between two that were seen
  suspect (N,), suspect_reasons (N,)              worth a look before it is used, and why (`suspicion`)
  level_rotation (N, 3, 3), level (N,)            from the camera frame to one with y straight down, for drawings, and
                         where that vertical comes from; all the other arrays are in the camera frame
Where a levelled answer was asked for, also:
  levelled_poses, levelled_trans, levelled_joints_3d       the same in a frame with y straight down and the floor at 0,
                         both estimated: level_rotation @ x + level_translation
  level_translation (N, 3), resting_feet (N, 2)            metres; whether the left and the right foot rest on the floor

annotations.json: COCO's layout with the same values, as pycocotools reads it; `keypoints` in COCO's form, in the joint
order of its category, `confidence` the 17 confidences, `bbox` the square box, `area` its area (there is no
segmentation); numbers that are not finite, and unknown ones, are null.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import cameras, skeletons
from noise2pose.annotation.suspicion import SKELETON, suspicions
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.images.crops import box_of_keypoints
from noise2pose.rendering.levelling import Levels, level_poses
from noise2pose.skeletons import Skeleton

# Every array of a set, with what follows the number of people in its shape.
ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "poses": ((72,), np.float32),
    "trans": ((3,), np.float32),
    "betas": ((10,), np.float32),
    "names": ((), np.str_),
    "file_names": ((), np.str_),
    "joints_3d": ((17, 3), np.float32),
    "keypoints_2d": ((17, 3), np.float32),
    "box": ((3,), np.float32),
    "camera_focal": ((2,), np.float32),
    "camera_principal_point": ((2,), np.float32),
    "image_size": ((2,), np.float32),
    "step": ((), np.int64),
    "reprojection_before": ((), np.float32),
    "reprojection_after": ((), np.float32),
    "observed": ((17,), np.bool_),
    "people": ((), np.str_),
    "frames": ((), np.int64),
    "times": ((), np.float64),
    "suspect": ((), np.bool_),
    "suspect_reasons": ((), np.str_),
}
LEVELLED = ("levelled_poses", "levelled_trans", "levelled_joints_3d", "level_translation", "resting_feet")


@torch.no_grad()
def annotate_batch(
    batch: PoseBatch,
    prediction: Prediction,
    body: BodyModel,
    file_names: Sequence[str] | None = None,
    mirrored: Float[Tensor, " B"] | None = None,
    noisy: Float[Tensor, " B"] | None = None,
) -> dict[str, np.ndarray]:
    """What is kept of the answers for a batch of single frames.

    Args:
        batch: with `camera` and `sample_id`; `keypoints_2d` and `box` if there are any.
        prediction: with `smpl` and `camera_translation`; `refinement` if there was one.
        body: whose parameters they are.
        file_names: of the images; None for those of the batch, else the names of the samples.
        mirrored, noisy: of `suspicion.disagreement_with_mirror` and `disagreement_with_noise`, metres, which may make
            people suspect.

    Returns:
        The arrays of `ARRAYS`.
    """
    smpl, translation = prediction["smpl"], prediction["camera_translation"]
    joints = body.joints(**smpl, translation=translation, regressor=SKELETON)
    count = len(translation)
    keypoints = batch.get("keypoints_2d", joints.new_zeros(count, 17, 3))
    camera = batch["camera"]
    size = camera["image_size"] if "image_size" in camera else torch.zeros_like(camera["focal"])
    after = reprojection_errors(joints, keypoints, camera["focal"], camera["principal_point"])
    refinement = prediction.get("refinement", {})
    rotation = torch.cat((smpl["global_orient"][:, None], smpl["body_pose"]), dim=1)
    values: dict[str, Tensor] = {
        "poses": roma.rotmat_to_rotvec(rotation).flatten(1),
        "trans": translation,
        "betas": smpl["betas"],
        "joints_3d": joints,
        "keypoints_2d": keypoints,
        "box": batch["box"] if "box" in batch else box_of_keypoints(keypoints),
        "camera_focal": camera["focal"],
        "camera_principal_point": camera["principal_point"],
        "image_size": size,
        "step": refinement.get("step", torch.zeros(count, dtype=torch.int64)),
        "reprojection_before": refinement.get("reprojection_before", after),
        "reprojection_after": refinement.get("reprojection_after", after),
        "observed": keypoints[..., 2] > 0,
    }
    arrays = {key: value.detach().cpu().numpy().astype(ARRAYS[key][1]) for key, value in values.items()}
    arrays["names"] = np.array(batch["sample_id"], dtype=np.str_)
    if file_names is None:
        file_names = batch["file_name"] if "file_name" in batch else batch["sample_id"]
    arrays["file_names"] = np.array(file_names, dtype=np.str_)
    arrays |= {"people": np.full(count, "", dtype="<U1"), "frames": np.full(count, -1), "times": np.full(count, -1.0)}
    apart = [[0.0] * count if values is None else values.tolist() for values in (mirrored, noisy)]
    reasons = [
        "; ".join(suspicions({key: array[row] for key, array in arrays.items()}, apart[0][row], apart[1][row]))
        for row in range(count)
    ]
    arrays["suspect_reasons"] = np.array(reasons, dtype=np.str_)
    arrays["suspect"] = np.array([bool(reason) for reason in reasons], dtype=np.bool_)
    return arrays


def reprojection_errors(
    joints: Float[Tensor, "B J 3"],
    keypoints: Float[Tensor, "B J 3"],
    focal: Float[Tensor, "B 2"],
    principal_point: Float[Tensor, "B 2"],
) -> Float[Tensor, " B"]:
    """Pixels, the distance described at the top of this module; NaN where no joint is seen."""
    distance = (cameras.project(joints, focal, principal_point) - keypoints[..., :2]).norm(dim=-1)
    confidence = keypoints[..., 2]
    return torch.where(confidence > 0, confidence * distance, 0.0).sum(dim=-1) / confidence.sum(dim=-1)


def empty() -> dict[str, np.ndarray]:
    """The arrays of a set without people."""
    return {key: np.zeros((0, *shape), dtype=kind) for key, (shape, kind) in ARRAYS.items()}


@torch.no_grad()
def vertices_of(arrays: Mapping[str, np.ndarray], body: BodyModel) -> Tensor:
    """(..., V, 3) metres in the camera frame, of the `poses`, `betas` and `trans` of people or of one person."""
    values = {key: torch.from_numpy(arrays[key]).to(body.template) for key in ("poses", "betas", "trans")}
    rotation = roma.rotvec_to_rotmat(values["poses"].unflatten(-1, (24, 3)))
    return body(rotation[..., 0, :, :], rotation[..., 1:, :, :], values["betas"], values["trans"]).vertices


def levels_of(arrays: Mapping[str, np.ndarray], camera_pitch: float | None = None) -> Levels:
    """How to level the people of a set for drawings; those of one image, or of one video, have one camera.

    Args:
        arrays: those of `ARRAYS`.
        camera_pitch: degrees that all cameras look down; None for what the people tell.
    """
    cameras, skeleton = cameras_of(arrays), skeletons.get(SKELETON)
    return level_poses(arrays["joints_3d"], arrays["observed"], skeleton, cameras, camera_pitch)


def cameras_of(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """A name for the camera of each person: the image, or the folder of a video's frames."""
    return [
        name if frame < 0 else str(PurePosixPath(name).parent)
        for name, frame in zip(arrays["file_names"].tolist(), arrays["frames"].tolist(), strict=True)
    ]


def to_coco(
    arrays: Mapping[str, np.ndarray], info: Mapping[str, Any], skipped: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The content of annotations.json.

    Args:
        arrays: those of `ARRAYS`.
        info: what the set says about its making; `gender` is the body's, neutral if it is not given, and
            `camera_pitch` that of `levels_of`.
        skipped: file name and reason of each image, or person, without an annotation.
    """
    skeleton = skeletons.get(SKELETON)
    levels = levels_of(arrays, info.get("camera_pitch"))
    image_ids: dict[str, int] = {}
    images, annotations = [], []
    for row, file_name in enumerate(arrays["file_names"].tolist()):
        if file_name not in image_ids:
            image_ids[file_name] = len(image_ids) + 1
            width, height = (int(side) or None for side in arrays["image_size"][row])
            images.append({"id": image_ids[file_name], "file_name": file_name, "width": width, "height": height})
        person = {key: array[row] for key, array in arrays.items()}
        annotation = _to_annotation(row + 1, image_ids[file_name], person, str(info.get("gender", "neutral")))
        annotation |= {"level_rotation": _numbers(levels.rotation[row].ravel(), 6), "level": levels.about[row]}
        annotations.append(annotation)
    return {
        "info": dict(info),
        "images": images,
        "annotations": annotations,
        "categories": [person_category(skeleton)],
        "skipped": [{"file_name": name, "reason": reason} for name, reason in skipped],
    }


def person_category(skeleton: Skeleton) -> dict[str, Any]:
    """COCO's category of people with these joints."""
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.joints),
        "skeleton": [[parent + 1, child + 1] for parent, child in skeleton.edges],  # COCO counts joints from 1
    }


def flat_keypoints(keypoints: Float[np.ndarray, "J 3"]) -> list[float | None]:
    """COCO's keypoints, one number after the other: x, y and visibility; zeros for joints without confidence.

    Its visibility is 0 not labelled, 1 hidden, 2 visible, which are confidences of 0, 0.5 and 1 when they are read.

    Args:
        keypoints: pixels and confidence.
    """
    visibility = np.where(keypoints[:, 2] >= 0.75, 2, 1)
    flat: list[float | None] = []
    for joint, place in enumerate(keypoints):
        flat += [*_numbers(place[:2], 3), int(visibility[joint])] if place[2] > 0 else [0, 0, 0]
    return flat


def to_text(content: Mapping[str, Any]) -> str:
    """JSON with each image and annotation on a line of its own."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list):
            text = "[" + ",".join("\n  " + json.dumps(entry, allow_nan=False) for entry in value) + "\n]"
        else:
            text = json.dumps(value, allow_nan=False)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _to_annotation(identity: int, image_id: int, person: Mapping[str, np.ndarray], gender: str) -> dict[str, Any]:
    confidence = person["keypoints_2d"][:, 2]
    seen = person["observed"]
    tracked: dict[str, Any] = {"track_id": str(person["people"])} if str(person["people"]) else {}
    if person["frames"] >= 0:
        tracked["frame_id"] = int(person["frames"])
    centre_x, centre_y, side = person["box"]
    area = float(side) ** 2
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": 1,
        "name": str(person["names"]),
        **tracked,
        "bbox": _numbers(np.array([centre_x - side / 2.0, centre_y - side / 2.0, side, side]), 3),
        "area": round(area, 3) if math.isfinite(area) else 0.0,
        "iscrowd": 0,
        "keypoints": flat_keypoints(person["keypoints_2d"]),
        "num_keypoints": int(seen.sum()),
        "confidence": _numbers(confidence, 4),
        "observed": person["observed"].tolist(),
        "smpl": {
            "pose": _numbers(person["poses"], 6),
            "betas": _numbers(person["betas"], 6),
            "trans": _numbers(person["trans"], 6),
            "gender": gender,
        },
        "camera": {
            "focal": _numbers(person["camera_focal"], 3),
            "principal_point": _numbers(person["camera_principal_point"], 3),
        },
        "step": int(person["step"]),
        "reprojection_before": _numbers(person["reprojection_before"][None], 3)[0],
        "reprojection_after": _numbers(person["reprojection_after"][None], 3)[0],
        "suspect": bool(person["suspect"]),
        "suspect_reasons": str(person["suspect_reasons"]),
    }


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    """Rounded, since the npz file has all digits; JSON has no NaN."""
    return [round(value, digits) if math.isfinite(value) else None for value in values.astype(np.float64).tolist()]
