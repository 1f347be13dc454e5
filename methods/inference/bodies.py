"""One batch of people annotated: from their keypoints and images to the arrays of an annotation set.

Shape letters: B batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.inference.model import SAMPLE
from noise2pose.annotation.layout import annotate_batch
from noise2pose.annotation.people import Person
from noise2pose.annotation.suspicion import disagreement_with_mirror, disagreement_with_noise
from noise2pose.annotation.writer import Part
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph
from noise2pose.images.video import VideoFrame
from noise2pose.timing import stage

_FILLED = "not seen: put between two frames"


@torch.no_grad()
def annotate_people(method: PoseMethod, chosen: Sequence[Person]) -> Part:
    """One batch: annotations of those whose images can be read, and what is left out with the reason.

    Args:
        method: in evaluation mode, with a body.
        chosen: all with images, or all without.
    """
    assert method.body is not None, "only methods with a body annotate"
    found, images, skipped = [], [], []
    read: dict[str, np.ndarray | InputError] = {}  # people of one image follow one another
    for person in chosen:
        # A frame of a video is decoded only for methods that look at it.
        if person.photograph is not None and not (
            method.input == "keypoints" and isinstance(person.photograph, VideoFrame)
        ):
            if person.file_name not in read:
                read = {person.file_name: _read(person.photograph)}
            pixels = read[person.file_name]
            if isinstance(pixels, InputError):
                skipped.append((person.file_name, str(pixels)))
                continue
            images.append(crops.crop(pixels, crops.box_of_keypoints(person.keypoints)))
        found.append(person)
    if not found:
        return None, list(dict.fromkeys(skipped))
    keypoints = torch.stack([person.keypoints for person in found])
    corner = torch.stack([torch.zeros(2) if person.corner is None else person.corner for person in found])
    batch = _batch(found, _moved(keypoints, -corner), images, method.device)
    with stage("annotate"):
        prediction = method(batch)
        others = (method, batch, prediction, method.body)
        mirrored, noisy = disagreement_with_mirror(*others), disagreement_with_noise(*others)
    size_known = torch.tensor([person.corner is None for person in found], device=method.device)
    camera = batch["camera"]
    corner = corner.to(method.device)
    in_image: PoseBatch = {  # the same in the pixels of the keypoints
        "keypoints_2d": keypoints.to(method.device),
        "box": torch.cat((batch["box"][:, :2] + corner, batch["box"][:, 2:]), dim=-1),
        "camera": {
            "focal": camera["focal"],
            "principal_point": camera["principal_point"] + corner,
            "image_size": torch.where(size_known[:, None], camera["image_size"], 0.0),
        },
        "sample_id": [person.name for person in found],
    }
    names = [person.file_name for person in found]
    arrays = annotate_batch(in_image, prediction, method.body, names, mirrored, noisy)
    return _in_video(arrays, found), list(dict.fromkeys(skipped))


def _in_video(arrays: dict[str, np.ndarray], people: Sequence[Person]) -> dict[str, np.ndarray]:
    """The arrays with identities and times; poses that nobody saw have no observed joint and are suspect."""
    identities = [person.identity or "" for person in people]
    frames = [-1 if person.frame is None else person.frame for person in people]
    times = [-1.0 if person.time is None else person.time for person in people]
    for row, person in enumerate(people):
        if person.filled:
            arrays["keypoints_2d"][row, :, 2] = 0.0
            arrays["observed"][row] = False
    reasons = arrays["suspect_reasons"].tolist()
    marked = ["; ".join(filter(None, [_FILLED * person.filled, reasons[row]])) for row, person in enumerate(people)]
    known = {"people": np.array(identities, dtype=np.str_), "frames": np.array(frames), "times": np.array(times)}
    suspect = np.array([bool(reason) for reason in marked], dtype=np.bool_)
    return {**arrays, **known, "suspect": suspect, "suspect_reasons": np.array(marked, dtype=np.str_)}


def _batch(
    people: Sequence[Person], keypoints: Float[Tensor, "B 17 3"], images: Sequence[Tensor], device: torch.device
) -> PoseBatch:
    size = torch.tensor([person.size for person in people], dtype=torch.float32, device=device)
    focal = torch.tensor([person.focal for person in people], dtype=torch.float32, device=device)
    keypoints = keypoints.to(device)
    batch: PoseBatch = {
        "keypoints_2d": keypoints,
        "box": crops.box_of_keypoints(keypoints),
        "camera": {"focal": focal[:, None].expand(-1, 2), "principal_point": size / 2.0, "image_size": size},
        "sample_id": [SAMPLE] * len(people),
    }
    if images:
        batch["image"] = torch.stack(list(images)).to(device)
    return batch


def _read(photograph: Photograph) -> np.ndarray | InputError:
    try:
        return photograph.pixels()
    except InputError as error:
        return error


def _moved(keypoints: Float[Tensor, "B J 3"], by: Float[Tensor, "B 2"]) -> Float[Tensor, "B J 3"]:
    return torch.cat((keypoints[..., :2] + by[:, None], keypoints[..., 2:]), dim=-1)
