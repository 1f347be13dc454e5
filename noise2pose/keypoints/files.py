"""Files of 2-D keypoints, as detectors, trackers and annotators write them.

Formats:

- `.npz` with `keypoints` (or `keypoints_2d`, or one unnamed array) of shape (T, J, 2 or 3), (T, P, J, 2 or 3) for P
  tracked people, or (J, 2 or 3) for one pose; optional `skeleton` (a name), `image_size` (2,) or (T, 2), `names` (T,)
  of the images, `people` (T,) identities, `frames` (T,) and `fps`. `.npy` with such an array.
- VideoPose3D's `.npz` of custom videos (`positions_2d`, `metadata`), read without running pickled code.
- `.json` in the layouts of `noise2pose.keypoints.formats`, a plain nested list like the array of an npz file, or an
  object with its keys. `.jsonl` with an object a line.
- `.txt` of YOLO-pose: one line a person, as shares of the width and height of the image.
- a folder of such `.json` or `.txt` files, one an image, as OpenPose and YOLO write them.

Where a JSON entry has a list `confidence`, one number for each joint, that list is used. Otherwise the third number of
a joint is a confidence, or COCO's visibility (0 not labelled, 1 hidden, 2 visible); which one it is shows in the
numbers. Two numbers mean a confidence of 1. What is no evidence is taken out: see `noise2pose.keypoints.cleaning`.
Shape letters: T poses, P people, J joints.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.images.photographs import ENDINGS as IMAGE_ENDINGS
from noise2pose.keypoints import arrays, formats, yolo
from noise2pose.keypoints.array_files import from_named, read_arrays
from noise2pose.keypoints.arrays import Keypoints, counted
from noise2pose.keypoints.cleaning import confidence
from noise2pose.keypoints.entries import Entry, distinct, of_usual_length
from noise2pose.keypoints.images import KEYPOINT_ENDINGS as ENDINGS
from noise2pose.keypoints.images import instead, natural, person_names, without_ending
from noise2pose.keypoints.joint_names import skeleton_of


def as_keypoints(given: Any, skeleton: str | None = None, image_size: Any = None, names: Any = None) -> Keypoints:
    """Keypoints from a file, an array or a record, checked.

    Args:
        given: path of a keypoint file; array (T, J, 2 or 3) or (J, 2 or 3), pixels and confidence; or a record.
        skeleton: of a file or an array, as in `read_keypoints`.
        image_size: (2,) or (T, 2) width and height in pixels; replaces what a file says.
        names: T names of the images; replaces what a file says.

    Raises:
        InputError: as `read_keypoints`, or if a record has another skeleton.
    """
    if not isinstance(given, str | Path | Keypoints):
        return arrays.from_array("array", given, skeleton, image_size, names)
    found = given if isinstance(given, Keypoints) else read_keypoints(Path(given), skeleton)
    title, number = str(found.source or "keypoints"), len(found.points)
    if skeleton not in (None, found.skeleton):
        raise InputError(f"{title}: skeleton is {skeleton}, but the record says {found.skeleton}")
    if image_size is not None:
        found = in_pixels(replace(found, image_sizes=arrays.image_sizes(title, image_size, number)))
        found = arrays.with_evidence(found, title)
    if names is None:
        return found
    if len(names) != number:
        raise InputError(f"{title}: names has shape {np.shape(names)}, expected ({number},)")
    images = [str(name) for name in names]
    frames: list[int | None] = [None] * number  # those of other names
    return replace(found, names=person_names(images), images=images, image_ids=[], frames=frames)


def in_pixels(found: Keypoints) -> Keypoints:
    """The same in pixels, where coordinates are shares of images whose size is known."""
    if not found.relative or found.image_sizes is None:
        return found
    scale = torch.cat((found.image_sizes, torch.ones(len(found.names), 1)), dim=-1)
    return replace(found, points=found.points * scale[:, None], relative=False)


def is_keypoint_file(path: Path) -> bool:
    """Whether a path is a file of keypoints, or a folder that holds such files and no images."""
    if path.is_dir():
        images = any(file.suffix.lower() in IMAGE_ENDINGS for file in path.rglob("*"))
        return not images and bool(_files_of(path) or _folders_of(path))
    return path.suffix.lower() in ENDINGS


def read_keypoints(path: Path, skeleton: str | None = None, form: str | None = None) -> Keypoints:
    """Reads a file, or a folder with a file for each image, of any format of this module.

    Args:
        path: the file or folder.
        skeleton: of its joints; None for what the file says itself, else by the number of joints (17 is taken for
            COCO's, 26 for Halpe's).
        form: key of a format of JSON files in `noise2pose.keypoints.formats`; None to recognise it.

    Raises:
        InputError: if the file is missing, broken, empty or of another kind, or if a pose has the wrong number of
            joints; it names the file and the entry. Also if no pose has three visible joints, the joints are not in the
            order of the skeleton, or the file says another skeleton.
    """
    if path.is_dir():
        files = _files_of(path)
        if not files:
            inside = f"; give one of its folders: {', '.join(_folders_of(path)[:4])}" if _folders_of(path) else ""
            raise InputError(
                f"{path}: no keypoint file in this folder, expected .json of OpenPose or .txt of YOLO{inside}"
            )
        found, broken = _readable(files, form)
        titles = dict.fromkeys(title for title, _ in found)
        if len(titles) > 1:
            raise InputError(f"{path}: holds files of {' and '.join(titles)}, expected one format")
        skipped = sum((people.skipped for _, people in found), Counter[str]())
        entries = [entry for _, people in found for entry in people.entries]
        notes = [note for _, people in found for note in people.notes]
        if broken:
            notes.append(f"{counted(len(broken), 'file')} skipped, the first because {broken[0]}")
        whole = formats.People(entries, skipped, notes=tuple(dict.fromkeys(notes)))
        read = _from_people(path, whole, skeleton, found[0][0])
        return replace(read, source=path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: keypoints are read from {', '.join(ENDINGS)} files{instead(path)}")
    if path.suffix.lower() in (".npz", ".npy"):
        return replace(read_arrays(path, skeleton), source=path)
    content = None if path.suffix.lower() == ".txt" else _json(path)
    if form is None and isinstance(content, list) and content and isinstance(content[0], list):
        found = arrays.from_array(str(path), content, skeleton, stem=path.stem)
        return replace(found, source=path, form="a list of poses")
    if form is None and isinstance(content, dict) and _is_array(content.get("keypoints")):
        found = from_named(path, content, skeleton, list(content))
        return replace(found, source=path, form="an object with arrays")
    title, people = _people_of(path, form)
    return replace(_from_people(path, people, skeleton, title), source=path)


def _is_array(listed: Any) -> bool:
    """Whether the keypoints of an object are those of several poses: a list in a list in a list."""
    for _ in range(2):
        if not isinstance(listed, list) or not listed:
            return False
        listed = listed[0]
    return isinstance(listed, list)


def _files_of(folder: Path) -> list[Path]:
    """The files of a folder that hold the people of an image each, in the order of their numbers."""
    listed = [file for file in folder.iterdir() if file.suffix.lower() in (".json", ".txt") and file.is_file()]
    kept = [file for file in listed if file.name not in ("classes.txt", "labels.txt")]
    return sorted(kept, key=lambda file: natural(file.name))


def _folders_of(folder: Path) -> list[str]:
    """The folders in a folder that hold keypoint files."""
    return sorted(inside.name for inside in folder.iterdir() if inside.is_dir() and _files_of(inside))


def _readable(files: Sequence[Path], form: str | None) -> tuple[list[tuple[str, formats.People]], list[InputError]]:
    """The formats and people of the files that can be read, and why the others cannot.

    Raises:
        InputError: if most of them cannot.
    """
    found, broken = [], []
    for file in files:
        try:
            found.append(_people_of(file, form))
        except InputError as error:
            broken.append(error)
    if len(broken) >= len(found):
        raise broken[0]
    return found, broken


def _people_of(path: Path, stated: str | None) -> tuple[str, formats.People]:
    """The format of a file and the people in it."""
    if path.suffix.lower() == ".txt":
        return yolo.TITLE, yolo.read_yolo(path)
    content = _json(path)
    form = formats.recognise(path, content, stated)
    try:
        return form.title, form.read(path, content)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is not as {form.title} writes it ({type(error).__name__}: {error})") from error


def _json(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        text = raw.decode(json.detect_encoding(raw))
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            return [json.loads(line) for line in text.splitlines() if line.strip()]  # an object a line
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error


def _from_people(path: Path, people: formats.People, skeleton: str | None, form: str) -> Keypoints:
    """One record of entries, sorted by image, then by person where a tracker numbered them."""
    notes = [f"{counted(count, 'entry', 'entries')} skipped {reason}" for reason, count in people.skipped.items()]
    notes += people.notes
    if not people.entries:
        names = [*skeletons.get("coco_17").joints[:2], "left_shoulder"]
        hint = f": names are those of {', '.join(names)} and so on; or take them out of the file and say --skeleton"
        hint = hint if any("not those of a person" in note for note in notes) else ""
        raise InputError(f"{path}: no entry is a person's keypoints ({'; '.join(notes) or 'nobody was found'}){hint}")
    entries = distinct(sorted(people.entries, key=_order))
    if len(entries) < len(people.entries):
        notes.append(f"{counted(len(people.entries) - len(entries), 'entry', 'entries')} skipped as repeated")
    entries, cut = of_usual_length(entries)
    notes += [f"{counted(count, 'entry', 'entries')} skipped {reason}" for reason, count in cut.items()]
    skeletons_of, assumed = _skeletons_of(path, entries, skeleton)
    name = max(dict.fromkeys(skeletons_of), key=lambda name: skeletons.get(name).num_joints)
    if not (form.startswith(("OpenPose", "AlphaPose")) and name.startswith("openpose")):
        notes += assumed
    points = [
        given if own == name else skeletons.convert_partly(given, own, name)
        for given, own in zip(_with_confidences(path, entries), skeletons_of, strict=True)
    ]
    for own, count in Counter(skeletons_of).items():
        if own != name:
            notes.append(f"{counted(count, 'pose')} of {own} among them")
    sizes = torch.tensor([entry.image_size or (torch.nan, torch.nan) for entry in entries])
    if 0 < (lacking := int(sizes.isnan().any(dim=-1).sum())) < len(entries):
        notes.append(f"sizes of images are not used, because those of {counted(lacking, 'pose')} are unknown")
    images = [entry.image for entry in entries]
    relative = form == yolo.TITLE
    found = Keypoints(
        torch.stack(points),
        name,
        person_names(_told_apart(entries)),
        sizes,
        images=images,
        image_ids=[entry.image_id for entry in entries],
        people=[entry.person for entry in entries],
        frames=[entry.frame for entry in entries],
        fps=people.fps,
        relative=relative,
        form=form,
        notes=tuple(notes),
    )
    found = arrays.clean(
        found, str(path), stated=skeleton is not None or all(entry.skeleton is not None for entry in entries)
    )
    return (
        replace(found, image_sizes=None) if found.image_sizes is not None and found.image_sizes.isnan().any() else found
    )


def _with_confidences(path: Path, entries: Sequence[Entry]) -> list[torch.Tensor]:
    """(J, 3) of each entry. All third numbers of a file have one scale, and so have all confidences in lists."""
    found = [torch.from_numpy(entry.ordered()) for entry in entries]
    for stated in (False, True):
        rows = [row for row, entry in enumerate(entries) if (entry.confidence is not None) == stated]
        if not rows:
            continue
        third = torch.cat([found[row][:, 2] for row in rows])[None, :, None].numpy()
        if stated:  # a stated confidence is no visibility
            third = np.where(third == 2.0, 1.0, third)
        labelled = not stated and any(entry.labelled for entry in entries)
        read = torch.from_numpy(confidence(str(path), third, labelled)).flatten()
        for row, values in zip(rows, read.split([len(found[row]) for row in rows]), strict=True):
            found[row] = torch.cat((found[row][:, :2], values[:, None]), dim=-1)
    return found


def _told_apart(entries: Sequence[Entry]) -> list[str]:
    """The image of each entry for its name; with its number where images of several numbers have one name."""
    ids: dict[str, set[str]] = {}
    for entry in entries:
        ids.setdefault(entry.image, set()).add(entry.image_id)
    return [
        entry.image if len(ids[entry.image]) == 1 else f"{without_ending(entry.image)}_id{entry.image_id}"
        for entry in entries
    ]


def _skeletons_of(path: Path, entries: Sequence[Entry], stated: str | None) -> tuple[list[str], list[str]]:
    """The skeleton of each entry, and what was assumed."""
    found, notes = [], dict[str, None]()
    for entry in entries:
        if entry.skeleton is not None:
            if stated not in (None, entry.skeleton):
                raise InputError(f"{path}: skeleton is {stated}, but the file names the joints of {entry.skeleton}")
            found.append(entry.skeleton)
        else:
            name, assumed = skeleton_of(str(path), entry.title.split(": ")[-1], len(entry.points), stated)
            found.append(name)
            notes |= dict.fromkeys(assumed)
    return found, list(notes)


def _order(entry: Entry) -> tuple[Any, ...]:
    frame = -1 if entry.frame is None else entry.frame
    person = (
        (1, 0, "") if entry.person is None else (0, int(entry.person) if entry.person.isdecimal() else 0, entry.person)
    )
    return frame, natural(entry.image_id or entry.image), natural(entry.image), person
