"""What passes between the stages: the files of a sample and what its list says, in and out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from noise2pose.shards import image_array, json_bytes, npz_arrays, npz_bytes, png_bytes


@dataclass(frozen=True)
class Record:
    """A sample as the stages before have left it.

    Attributes:
        id: its number in the data set.
        files: contents by stage and kind: `files["render"]["depth.png"]`.
    """

    id: int
    files: Mapping[str, Mapping[str, bytes]]

    def arrays(self, stage: str) -> dict[str, np.ndarray]:
        """The arrays that a stage has written."""
        return npz_arrays(self.files[stage]["npz"])

    def facts(self, stage: str) -> dict[str, Any]:
        """The JSON that a stage has written."""
        import json

        return json.loads(self.files[stage]["json"])

    def image(self, stage: str, kind: str) -> np.ndarray:
        """An image that a stage has written, (H, W) or (H, W, 3) uint8."""
        return image_array(self.files[stage][kind])


@dataclass(frozen=True)
class Result:
    """What a stage makes of a sample.

    Attributes:
        id: its number.
        files: contents by kind; see `files_of`.
        reason: why the sample goes no further, in one word; empty if it does.
        notes: what the list of the shard says besides, plain JSON.
    """

    id: int
    files: Mapping[str, bytes] = field(default_factory=dict)
    reason: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """One pass over the samples.

    Attributes:
        batch: samples that `process` takes at once; batches start anew with every shard.
    """

    batch: int

    def process(self, records: Sequence[Record]) -> list[Result]:
        """One result for each record, in the same order, that depends on nothing but the batch and the settings."""
        ...


def files_of(
    arrays: Mapping[str, np.ndarray] | None = None,
    facts: Mapping[str, Any] | None = None,
    **images: np.ndarray,
) -> dict[str, bytes]:
    """Contents by kind: `npz` of arrays, `json` of facts, and a `NAME.png` of each image."""
    files = {f"{name}.png": png_bytes(image) for name, image in images.items()}
    if arrays is not None:
        files["npz"] = npz_bytes(**arrays)
    if facts is not None:
        files["json"] = json_bytes(facts)
    return files
