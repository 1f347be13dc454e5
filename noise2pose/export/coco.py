"""COCO's JSON of lifted joints: its keypoints, and beside them the joints in space.

Format: https://cocodataset.org/#format-data, as pycocotools reads it. Additional in each annotation: `joints_3d`
(J x 3) metres from the pelvis, x right, y down, z forward; `uncertainty` (J) metres where the method has it;
`confidence` (J); `track_id` and `frame_id` where they are known. Bodies are written by `noise2pose.annotation.layout`
in the same layout.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from noise2pose.annotation.layout import flat_keypoints, person_category, to_text
from noise2pose.files import write_text

if TYPE_CHECKING:
    from noise2pose.skeletons import Skeleton


def write_joints_json(
    path: Path,
    joints: Float[np.ndarray, "T J 3"],
    keypoints_2d: Float[np.ndarray, "T J 3"],
    skeleton: "Skeleton",
    images: Sequence[str],
    people: Sequence[str | None],
    frames: Sequence[int | None],
    image_size: Float[np.ndarray, "T 2"] | None = None,
    uncertainty: Float[np.ndarray, "T J"] | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Writes all poses of a record, whole or not at all.

    Args:
        path: file.
        joints: metres, relative to the pelvis, in the camera frame.
        keypoints_2d: pixels and confidence.
        skeleton: of both.
        images: name of each pose's image.
        people: identity of each; None where there is none.
        frames: position in the video; None where it is unknown.
        image_size: width and height in pixels; None where it is unknown.
        uncertainty: metres, one standard deviation; None where it is unknown.
        info: about the making.

    Raises:
        InputError: if the file cannot be written.
    """
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images), start=1)}
    listed: dict[str, dict[str, Any]] = {}
    annotations = []
    for row, image in enumerate(images):
        width, height = (None, None) if image_size is None else (int(side) for side in image_size[row])
        listed.setdefault(image, {"id": numbers[image], "file_name": image, "width": width, "height": height})
        annotation = _annotation(row + 1, numbers[image], joints[row], keypoints_2d[row])
        known = {"track_id": people[row], "frame_id": frames[row]}
        annotation |= {key: value for key, value in known.items() if value is not None}
        if uncertainty is not None:
            annotation["uncertainty"] = _rounded(uncertainty[row], 5)
        annotations.append(annotation)
    content = {
        "info": dict(info or {}),
        "images": list(listed.values()),
        "annotations": annotations,
        "categories": [person_category(skeleton)],
    }
    write_text(path, to_text(content))


def _annotation(identity: int, image_id: int, joints: np.ndarray, keypoints: np.ndarray) -> dict[str, Any]:
    seen = keypoints[:, 2] > 0
    low, high = keypoints[seen, :2].min(axis=0, initial=np.inf), keypoints[seen, :2].max(axis=0, initial=-np.inf)
    box = np.concatenate((low, high - low)) if seen.any() else np.zeros(4)
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": 1,
        "bbox": _rounded(box, 3),
        "area": round(float(box[2] * box[3]), 3),
        "iscrowd": 0,
        "keypoints": flat_keypoints(keypoints),
        "num_keypoints": int(seen.sum()),
        "confidence": _rounded(keypoints[:, 2], 4),
        "joints_3d": _rounded(joints, 5),
    }


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return values.astype(np.float64).round(digits).tolist()
