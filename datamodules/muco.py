"""MuCo-3DHP's people: for training, with joints in 3-D and bodies."""

from datamodules.base import Split
from datamodules.prepared.people import AnnotatedPeople
from noise2pose.metrics.protocols import Protocol


class MuCo(AnnotatedPeople):
    """MuCo-3DHP (Mehta et al., 3DV 2018): images composed of the people of MPI-INF-3DHP's training set.

    There is no test split; the literature tests on MuPoTS-3D or 3DPW. The people of held-out images are in other
    images too, so validation tells whether training works, and not how well it generalises.

    Args:
        held_out, options: see `AnnotatedPeople`.
    """

    dataset = "muco"
    published_splits = {"train": "train", "val": None, "test": None}

    def people(self, split: str) -> str:
        return "composed images, which show the same people"

    def protocols(self, split: Split) -> list[Protocol]:
        return [
            Protocol(
                name="muco",
                dataset="muco",
                split="none: MuCo-3DHP has no test split" if split == "test" else self.words(split),
                skeleton="h36m_17",
                keypoints_2d=self.sources[split],
                ground_truth="mocap joints of MPI-INF-3DHP",
            )
        ]
