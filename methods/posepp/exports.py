"""The finished data set: shards with everything that is known of each kept sample, COCO's JSON, and BEDLAM's npz.

`export/shard-000000.tar` has for each sample that was kept an image as it was generated, `npz` and `json`. The npz has
the arrays of the stages `sample` and `render`, with the refined keypoints and the corrected head where these stages
were run: `keypoints_2d` are the best that there are, `keypoints_2d_initial` the projected ones. The JSON has the texts,
seeds, networks and verdicts.

Shape letters: N samples, K joints of the kinematic tree.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from methods.posepp.people.body import COCO, Body, join_pose
from methods.posepp.people.sampling import inside, project
from methods.posepp.records import Record, Result, files_of
from methods.posepp.settings import Settings
from noise2pose import skeletons
from noise2pose.annotation.layout import flat_keypoints, person_category, to_text
from noise2pose.files import write_npz, write_text
from noise2pose.images.crops import BOX_SCALE
from noise2pose.shards import key_of, npz_arrays, read_shard, shard_path

IMAGES = ("jpg", "png")
_HIDDEN = 0.5  # confidence of a labelled point that cannot be seen, as COCO's reader has it
_BEDLAM_SIDE = 200.0  # pixels of a box of scale 1


class ExportStage:
    """Joins what the stages know of each sample.

    Args:
        settings: of the data set.
        body: of its samples.
    """

    batch = 64

    def __init__(self, settings: Settings, body: Body) -> None:
        self.settings = settings
        self.body = body

    def process(self, records: Sequence[Record]) -> list[Result]:
        return [self.join(record) for record in records]

    def join(self, record: Record) -> Result:
        """All that is known of a sample that was kept."""
        arrays = {**record.arrays("sample"), **record.arrays("render")}
        facts = record.facts("sample")
        generated = record.files["generate"]
        facts |= {
            stage: record.facts(stage) for stage in ("generate", "filter") if "json" in record.files.get(stage, {})
        }
        if "head" in record.files:
            arrays |= self.with_head(arrays, record.arrays("head"))
        arrays["keypoints_2d_initial"] = arrays["keypoints_2d"]
        if "refine" in record.files:
            refined = record.arrays("refine")
            stays = refined["moved"] == 0.0  # where the body has it, also after its head was turned
            arrays |= refined | {
                "keypoints_2d": np.where(stays[:, None], arrays["keypoints_2d"], refined["keypoints_2d"])
            }
        image = {kind: generated[kind] for kind in IMAGES if kind in generated}
        return Result(record.id, {**image, **files_of(arrays, facts)})

    def with_head(self, arrays: dict[str, np.ndarray], head: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays that a corrected head changes: rotations, and the places that follow from them."""
        changed = {f"head_{key}" if key not in arrays else key: value for key, value in head.items()}
        if not bool(head["accepted"]):
            return changed
        vertices, joints = self.body.pose({**arrays, **changed})
        points = self.body.coco(vertices, joints)
        pixels = project(points, arrays["K"])
        keypoints = np.concatenate((pixels, arrays["keypoints_2d"][:, 2:]), axis=1)
        places = {"joints_3d": joints, "keypoints_3d": points, "keypoints_2d": keypoints}
        return changed | {key: value.astype(np.float32) for key, value in places.items()}


def read_export(folder: Path, shards: Sequence[int]) -> Iterator[tuple[int, int, dict[str, bytes]]]:
    """Shard, number and files of every exported sample, in order."""
    for shard in shards:
        for sample, files in read_shard(shard_path(folder, shard)):
            yield shard, sample, files


def image_name(shard: int, sample: int, kind: str) -> str:
    """Where the image of a sample is when each shard is unpacked into a folder of its name."""
    return f"{shard_path(Path(), shard).stem}/{key_of(sample)}.{kind}"


def write_annotations(folder: Path, shards: Sequence[int], info: dict[str, Any]) -> int:
    """Writes `annotations.json` (COCO) and `bodies.npz` (BEDLAM's layout) of all exported shards.

    The keys of the npz are BEDLAM's, as far as they mean something here: `imgname`, `center` (N, 2) and `scale` (box
    side over 200), `pose_cam` (N, 3 K) axis-angle and `trans_cam` (N, 3) in the camera frame, `shape` (N, 10),
    `cam_int` (N, 3, 3), `cam_ext` (N, 4, 4), which are unit matrices, `gtkps` (N, K, 3) pixels of the joints and
    whether they are in the image, `gender`, `sub`; `expression` where the body has one.

    Args:
        folder: of the exported shards.
        shards: their numbers.
        info: about the data set.

    Returns:
        N.
    """
    images, annotations, rows = [], [], []
    for shard, sample, files in read_export(folder, shards):
        arrays = npz_arrays(files["npz"])
        name = image_name(shard, sample, next(kind for kind in IMAGES if kind in files))
        width, height = (int(side) for side in arrays["image_size"])
        images.append({"id": sample + 1, "file_name": name, "width": width, "height": height})
        annotations.append(_annotation(sample, arrays))
        rows.append(_bedlam_row(name, arrays, files["json"]))
    content = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": [person_category(skeletons.get(COCO))],
    }
    write_text(folder / "annotations.json", to_text(content))
    columns = {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else {})}
    write_npz(folder / "bodies.npz", **columns)
    return len(rows)


def _annotation(sample: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    keypoints = arrays["keypoints_2d"].astype(np.float64)
    width = int(arrays["image_size"][0])
    shown = inside(keypoints[:, :2], width)
    keypoints[:, 2] = np.where(keypoints[:, 2] > 0, 1.0, _HIDDEN) * shown
    left, top, right, bottom = (float(side) for side in arrays["bounds"])
    return {
        "id": sample + 1,  # evaluation takes an id of 0 for no match
        "image_id": sample + 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [left, top, right - left, bottom - top],
        "area": float(arrays["area"]),
        "keypoints": flat_keypoints(keypoints),
        "num_keypoints": int(shown.sum()),
    }


def _bedlam_row(name: str, arrays: dict[str, np.ndarray], facts: bytes) -> dict[str, Any]:
    import json

    said = json.loads(facts)
    joints = project(arrays["joints_3d"].astype(np.float64), arrays["K"])
    shown = inside(joints, int(arrays["image_size"][0]))
    row = {
        "imgname": name,
        "center": arrays["box"][:2],
        "scale": arrays["box"][2] / BOX_SCALE / _BEDLAM_SIDE,
        "pose_cam": join_pose(arrays).reshape(-1).astype(np.float32),
        "trans_cam": arrays["transl"],
        "shape": arrays["betas"],
        "cam_int": arrays["K"].astype(np.float32),
        "cam_ext": np.eye(4, dtype=np.float32),
        "gtkps": np.concatenate((joints, shown[:, None]), axis=1).astype(np.float32),
        "gender": said["gender"],
        "sub": said["pose"],
    }
    return row | ({"expression": arrays["expression"]} if "expression" in arrays else {})
