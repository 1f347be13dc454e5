"""Stand-ins for the stages between condition maps and export: a painter for a generator, a filter with a rule."""

import io
import json

import numpy as np
from PIL import Image

from methods.posepp.records import Result, files_of
from methods.posepp.stages import STAGES, Definition

REJECTED = 5  # every fifth sample is rejected as a mirror image
MOVED = 3.0  # pixels by which the refinement moves every point to the right


class Painter:
    """Paints the silhouette in orange on grey."""

    batch = 4

    def process(self, records):
        return [self.paint(record) for record in records]

    def paint(self, record):
        mask = record.image("render", "mask.png") > 0
        image = np.where(mask[..., None], np.uint8([230, 120, 40]), np.uint8([90, 100, 110]))
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=95)
        return Result(record.id, {"jpg": buffer.getvalue(), **files_of(facts={"painter": True})})


class Filter:
    batch = 8

    def process(self, records):
        return [self.judge(record.id) for record in records]

    def judge(self, sample):
        reason = "mirror" if sample % REJECTED == REJECTED - 1 else ""
        return Result(sample, files_of(facts={"ap": 0.1 if reason else 0.9, "kept": not reason}), reason)


class Refiner:
    batch = 8

    def process(self, records):
        return [self.refine(record) for record in records]

    def refine(self, record):
        keypoints = record.arrays("render")["keypoints_2d"]
        keypoints[:, 0] += MOVED
        moved = np.full(17, MOVED, dtype=np.float32)
        return Result(record.id, files_of({"keypoints_2d": keypoints, "moved": moved}))


class Head:
    """Nods: accepts a turn of the head for even samples."""

    batch = 8

    def process(self, records):
        return [self.turn(record) for record in records]

    def turn(self, record):
        sample = record.arrays("sample")
        pose = sample["body_pose"].copy()
        pose[3 * 14] += 0.4  # the head's x axis
        accepted = np.bool_(record.id % 2 == 0)
        return Result(
            record.id, files_of({"body_pose": pose if accepted else sample["body_pose"], "accepted": accepted})
        )


def install(monkeypatch, *extra):
    """Puts the stand-ins in the place of the stages."""
    definitions = {
        "generate": Definition(("sample", "render"), (), lambda settings, folder: Painter()),
        "filter": Definition(("render", "generate"), (), lambda settings, folder: Filter()),
        "refine": Definition(("render", "generate", "filter"), (), lambda settings, folder: Refiner()),
        "head": Definition(("sample", "render", "filter"), (), lambda settings, folder: Head()),
    }
    chosen = {name: definitions[name] for name in ("generate", *extra)}
    ordered = {"sample": STAGES["sample"], "render": STAGES["render"], **chosen, "export": STAGES["export"]}
    for name in reversed([*STAGES]):  # which come back from the last to the first
        monkeypatch.delitem(STAGES, name)
    for name, definition in ordered.items():
        monkeypatch.setitem(STAGES, name, definition)


def facts_of(files):
    return json.loads(files["json"])
