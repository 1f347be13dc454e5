"""COCO's people with annotated joints, and NeuralAnnot's bodies for training."""

from datamodules.base import Split
from datamodules.prepared.people import AnnotatedPeople
from datamodules.prepared.protocols import published
from noise2pose.metrics.protocols import Protocol


class COCO(AnnotatedPeople):
    """COCO keypoints (Lin et al., ECCV 2014), 2017: annotated in 2-D only.

    No joint is valid in 3-D. People with a body of NeuralAnnot have `smpl`, `has_smpl` and `camera_translation`; the
    camera is the one that the body was fitted with, and for the others one with the image's diagonal as its focal
    length. The test is on val2017; validation is on images held out of train2017.

    Args:
        held_out, options: see `AnnotatedPeople`.
    """

    dataset = "coco"
    published_splits = {"train": "train", "val": "val", "test": "val"}

    def people(self, split: str) -> str:
        return f"people of {split}2017 with labelled joints"

    def protocols(self, split: Split) -> list[Protocol]:
        return [published("coco", split=self.words(split), keypoints_2d=self.sources[split])]
