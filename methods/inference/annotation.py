"""Annotates people in pictures, or of keypoint files, with a method that answers with a body.

Shape letters: B batch.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from methods.base import PoseMethod
from methods.checkpoints import find_checkpoint
from noise2pose.annotation import detections
from noise2pose.annotation import pictures as annotation_pictures
from noise2pose.annotation.layout import annotate_batch
from noise2pose.annotation.people import Person, Skipped, match, people_of_keypoints, people_of_pictures
from noise2pose.annotation.writer import AnnotationWriter, fingerprint, read_annotations, read_skipped
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.files import sha256
from noise2pose.images import crops
from noise2pose.images.photographs import Photograph, find_pictures, open_picture, read_picture
from noise2pose.keypoints.files import Keypoints

_NAMED = 3  # skipped files that are told at the end; annotations.json has all


def annotate_inputs(
    method: PoseMethod,
    inputs: Sequence[Path],
    output: Path,
    *,
    checkpoint: str,
    command: str,
    read: Keypoints | None = None,
    keypoint_file: Path | None = None,
    detector: Path | None = None,
    focal: float | None = None,
    batch_size: int = 32,
    max_pictures: int = 20,
) -> str:
    """Annotates pictures or a keypoint file, going on where an interrupted process stopped.

    Args:
        method: in evaluation mode, with a body.
        inputs: pictures and folders of them, or the keypoint file alone.
        output: folder of the set.
        checkpoint: file or name that the method was loaded from.
        command: what the set says about its making.
        read: keypoints of `keypoint_file`; None to detect them.
        keypoint_file: one of the inputs, or the keypoints of the pictures.
        detector: folder of the 2-D detector.
        focal: in pixels, of all pictures; None to ask each picture.
        batch_size: people of a part.
        max_pictures: overlays at most.

    Returns:
        A summary.

    Raises:
        InputError: if the inputs do not fit the method or each other, or `output` holds another set.
    """
    assert method.body is not None, "only methods with a body annotate"
    if method.needs_ground_truth:
        raise InputError(f"{method.title} looks at the ground truth, which nobody has here: take --selector guided")
    only_keypoints = list(inputs) == [keypoint_file]
    if only_keypoints and method.input == "image":
        raise InputError(f"{method.title} looks at pictures: give it pictures, and {keypoint_file} with --keypoints")
    models = [] if read is not None else detections.model_files(detector)
    photographs, skipped = ([], []) if only_keypoints else _open(find_pictures(inputs))
    made_from = {
        "checkpoint": sha256(find_checkpoint(checkpoint)),
        "options": fingerprint(method.title, focal, batch_size, None if read is None else read.skeleton),
        "keypoints": fingerprint([sha256(path) for path in (keypoint_file, *models) if path is not None]),
        "inputs": fingerprint([(photograph.file_name, sha256(photograph.path)) for photograph in photographs], skipped),
    }
    info = {
        "method": method.title,
        "checkpoint": checkpoint,
        "checkpoint_sha256": made_from["checkpoint"],
        "body": method.body_name,
        "gender": method.body.gender if method.body else "neutral",
        "keypoints": "blazepose" if keypoint_file is None else keypoint_file.name,
        "command": command,
    }
    people: list[Person] = []
    if read is None:
        writer = AnnotationWriter(output, info, made_from)
        if not writer.finished:
            points, unreadable = detections.detect_pictures(models, photographs, output / "detections.json")
            people, nobody = people_of_pictures(photographs, points, detections.SKELETON, focal)
            skipped = [*skipped, *unreadable, *nobody]
    elif only_keypoints:
        people, skipped = people_of_keypoints(read, focal)
        writer = AnnotationWriter(output, info, made_from)
    else:
        points, other_size = match(photographs, read, str(keypoint_file))
        people, nobody = people_of_pictures(photographs, points, read.skeleton, focal)
        skipped = [*skipped, *other_size, *nobody]
        writer = AnnotationWriter(output, info, made_from)
    found = writer.finish(annotate(method, people, writer, batch_size), skipped)
    _tell(read_skipped(output))
    annotated = set(read_annotations(output)["file_names"].tolist())
    seen = [photograph for photograph in photographs if photograph.file_name in annotated]
    paths = {photograph.file_name: photograph.path for photograph in photographs}
    pictures = annotation_pictures.write_pictures(output, method.body, paths, max_pictures, method.joint_maps)
    return (
        f"{method.title}: people annotated: {found.people}, {found.suspect} of them suspect, {found.skipped} skipped; "
        f"{_about_focal(seen, focal)}wrote {output / 'annotations.npz'}, {output / 'annotations.json'}"
        f"{f'; pictures: {pictures}' if pictures else ''}"
    )


def annotate(method: PoseMethod, people: Sequence[Person], writer: AnnotationWriter, batch_size: int) -> int:
    """Annotates everybody whom the writer does not have yet.

    A part of the set is a batch, always of the same people, so that a restart gives the same numbers to the last bit.

    Args:
        method: in evaluation mode, with a body.
        people: in a fixed order.
        writer: of the set.
        batch_size: people of one part.

    Returns:
        The number of parts.
    """
    parts = range(0, len(people), batch_size)
    with tqdm(total=len(people), unit=" people", disable=None) as bar:
        for number, start in enumerate(parts):
            chosen = people[start : start + batch_size]
            if not writer.has(number):
                writer.write(number, *_annotate_part(method, chosen))
            bar.update(len(chosen))
    return len(parts)


@torch.no_grad()
def _annotate_part(method: PoseMethod, chosen: Sequence[Person]) -> tuple[dict[str, np.ndarray] | None, Skipped]:
    """Annotations of those whose pictures can be read, and what is left out."""
    assert method.body is not None, "only methods with a body annotate"
    found, images, skipped = [], [], []
    pictures: dict[str, np.ndarray | InputError] = {}  # people of one picture follow one another
    for person in chosen:
        if person.photograph is not None:
            if person.file_name not in pictures:
                pictures = {person.file_name: _read(person.photograph)}
            pixels = pictures[person.file_name]
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
    prediction = method(batch)
    size_known = torch.tensor([person.corner is None for person in found], device=method.device)
    camera = batch["camera"]
    corner = corner.to(method.device)
    in_picture: PoseBatch = {  # the same in the pixels of the keypoints
        "keypoints_2d": keypoints.to(method.device),
        "box": torch.cat((batch["box"][:, :2] + corner, batch["box"][:, 2:]), dim=-1),
        "camera": {
            "focal": camera["focal"],
            "principal_point": camera["principal_point"] + corner,
            "image_size": torch.where(size_known[:, None], camera["image_size"], 0.0),
        },
        "sample_id": batch["sample_id"],
    }
    arrays = annotate_batch(in_picture, prediction, method.body, [person.file_name for person in found])
    return arrays, list(dict.fromkeys(skipped))


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
        "sample_id": [person.name for person in people],
    }
    if images:
        batch["image"] = torch.stack(list(images)).to(device)
    return batch


def _open(found: Sequence[tuple[str, Path]]) -> tuple[list[Photograph], Skipped]:
    """The pictures that can be opened, and why others cannot."""
    photographs, skipped = [], []
    for file_name, path in found:
        try:
            photographs.append(open_picture(file_name, path))
        except InputError as error:
            skipped.append((file_name, str(error)))
    return photographs, skipped


def _about_focal(photographs: Sequence[Photograph], focal: float | None) -> str:
    if not photographs:
        return ""
    stated = sum(photograph.focal is not None for photograph in photographs)
    if focal is not None:
        return f"focal length {focal:g} pixels as told; "
    return f"focal length of {stated} pictures from their EXIF data, of {len(photographs) - stated} their diagonal; "


def _tell(skipped: Skipped) -> None:
    """Says on the standard error what was left out; the first ones, since a folder may be full of them."""
    for file_name, reason in skipped[:_NAMED]:
        print(f"skipped {file_name}: {reason}", file=sys.stderr)
    if len(skipped) > _NAMED:
        print(f"and {len(skipped) - _NAMED} more, see `skipped` in annotations.json", file=sys.stderr)


def _read(photograph: Photograph) -> np.ndarray | InputError:
    try:
        return read_picture(photograph.path)
    except InputError as error:
        return error


def _moved(keypoints: Float[Tensor, "B J 3"], by: Float[Tensor, "B 2"]) -> Float[Tensor, "B J 3"]:
    return torch.cat((keypoints[..., :2] + by[:, None], keypoints[..., 2:]), dim=-1)
