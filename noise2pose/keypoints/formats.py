"""The layouts of JSON files of 2-D keypoints: how each is recognised, and who is in it.

A format is recognised by its keys, never by the name of the file. Entries without a person's keypoints (a crowd, an
animal, an object) are left out and counted.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import counted, frame_rate, regular
from noise2pose.keypoints.categories import Category, by_id, category, missing_numbers
from noise2pose.keypoints.cleaning import MIN_CONFIDENCE
from noise2pose.keypoints.entries import Entry, first_of, image_size, read_entry, whole_number
from noise2pose.keypoints.images import image_path

_AIC_VISIBILITY = np.array([np.nan, 1.0, 0.5, 0.0])  # 1 visible, 2 hidden, 3 not labelled


class People(NamedTuple):
    """The people of one file.

    Attributes:
        entries: one for each pose.
        skipped: how many entries were left out, by the reason.
        fps: frames in a second, where the file says so.
        notes: what was not understood, each in a few words.
    """

    entries: list[Entry]
    skipped: Counter[str]
    fps: float | None = None
    notes: tuple[str, ...] = ()


class Format(NamedTuple):
    """A layout: its name, whether the content of a file has it, and how people are read from it."""

    key: str
    title: str
    recognise: Callable[[Any], bool]
    read: Callable[[Path, Any], People]


def recognise(path: Path, content: Any, stated: str | None = None) -> Format:
    """The format of a file.

    Args:
        path: of the file, for messages.
        content: of the file.
        stated: key of the format; None to tell by the content.

    Raises:
        InputError: if the file holds no format of this module.
    """
    if stated is not None and stated not in [form.key for form in FORMATS]:
        raise InputError(f"format {stated} is unknown; known are {', '.join(form.key for form in FORMATS)}")
    found = next(
        (form for form in FORMATS if (form.recognise(content) if stated is None else form.key == stated)), None
    )
    if found is not None:
        return found
    if isinstance(content, list | dict) and not content:
        raise InputError(f"{path}: holds no poses")
    if isinstance(content, dict):
        about = f"an object with {', '.join(map(str, list(content)[:6]))}"
    elif isinstance(content, list):
        first = content[0]
        about = f"a list of {type(first).__name__}" + (f" with {', '.join(first)}" if isinstance(first, dict) else "")
    else:
        about = type(content).__name__
    known = ", ".join(form.title for form in FORMATS)
    raise InputError(f"{path}: holds {about}, which is no known format of keypoints ({known})")


def _coco(path: Path, content: Any) -> People:
    """COCO's annotations or results, and what follows them: AlphaPose, Halpe, CrowdPose, PoseTrack, JHMDB."""
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, dict[str, Any]] = {}
    fps = None
    if isinstance(content, dict) and "annotations" in content:
        images = by_id(path, content.get("images", []), "images")
        categories = by_id(path, content.get("categories") or [], "categories")
        fps = _frame_rate(path, content)
        content = content["annotations"]
    content = [content] if isinstance(content, dict) else content
    if not isinstance(content, list):
        raise InputError(f"{path}: annotations is {type(content).__name__}, expected a list")
    if not content:
        raise InputError(f"{path}: holds no poses")
    entries, skipped = [], Counter[str]()
    told = Counter[str]()
    joints: dict[str, Category] = {}
    for number, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry {number} is {type(entry).__name__}, expected an object with keypoints")
        category_id = first_of(entry, ("category_id",)) or ""
        if category_id not in joints:
            joints[category_id] = category(categories.get(category_id, {}))
        own = joints[category_id]
        unlisted = f"of category {category_id}, which the file does not list"
        reason = unlisted if categories and category_id and category_id not in categories else own.skipped
        reason = _useless(entry) or reason or missing_numbers(entry["keypoints"], own.number)
        if reason:
            skipped[reason] += 1
            continue
        identity = first_of(entry, ("image_id",))
        image = images.get(identity or "", {})
        told["of images that the file does not list"] += bool(images) and not image
        told[f"with a score below {MIN_CONFIDENCE:g}"] += _score(entry) < MIN_CONFIDENCE
        file_name = image.get("file_name")
        entries.append(
            read_entry(
                str(path),
                number,
                entry,
                image=image_path(str(file_name)) if file_name is not None else path.stem if identity is None else None,
                image_size=image_size(image),
                frame=whole_number(first_of(image, ("frame_id",))),
                joints=own.joints,
                skeleton=own.skeleton,
            )
        )
    notes = [f"{counted(count, 'pose')} {about}" for about, count in told.items() if count]
    notes += [about.note for about in joints.values() if about.note is not None]
    return People(entries, skipped, fps, tuple(notes))


def _score(entry: dict[str, Any]) -> float:
    """What a detector says of the whole person; infinite where it says nothing."""
    score = entry.get("score")
    return float(score) if isinstance(score, int | float) else math.inf


def _frame_rate(path: Path, content: dict[str, Any]) -> float | None:
    """What `info`, or all of the `videos`, say of the frame rate."""
    listed = content.get("videos")
    videos = [video for video in listed if isinstance(video, dict)] if isinstance(listed, list) else []
    info = content.get("info")
    stated = [about["fps"] for about in (info, *videos) if isinstance(about, dict) and about.get("fps") is not None]
    rates = {frame_rate(str(path), fps) for fps in stated}
    if len(rates) > 1:
        raise InputError(f"{path}: holds videos of {' and '.join(f'{rate:g}' for rate in sorted(rates))} frames a "
                         "second: make a file for each rate")  # fmt: skip
    return rates.pop() if rates else None


def _useless(entry: dict[str, Any]) -> str | None:
    """Why an entry is nobody's pose, or None."""
    if entry.get("iscrowd") == 1:
        return "of crowds"
    if not entry.get("keypoints"):
        return "without keypoints"
    return None


def _openpose(path: Path, content: Any) -> People:
    """OpenPose's output for one image; `--write_json` names the file IMAGE_keypoints.json."""
    return _bodies(path, content["people"], path.stem.removesuffix("_keypoints"))


def _alphapose(path: Path, content: Any) -> People:
    """AlphaPose's formats `cmu` and `open`: OpenPose's people by the name of the image."""
    entries, skipped = [], Counter[str]()
    for image, found in content.items():
        people = _bodies(path, found.get("bodies", found.get("people", [])), image)
        entries += people.entries
        skipped += people.skipped
    return People(entries, skipped)


def _bodies(path: Path, listed: Any, image: str) -> People:
    if not isinstance(listed, list) or not all(isinstance(person, dict) for person in listed):
        raise InputError(f"{path}: people of {image} are no list of objects")
    entries, skipped = [], Counter[str]()
    for number, person in enumerate(listed):
        values = person.get("pose_keypoints_2d", person.get("joints", person.get("pose_keypoints")))
        if not values:
            skipped["without keypoints"] += 1
            continue
        entries.append(read_entry(str(path), number, {**person, "keypoints": values}, image=image_path(image)))
    return People(entries, skipped)


def _mmpose(path: Path, content: Any) -> People:
    """MMPose: the inferencer's list of instances of an image, or of frames of a video, or a demo's `instance_info`."""
    named = Category()
    if isinstance(content, dict):
        names = (content.get("meta_info") or {}).get("keypoint_id2name")
        if isinstance(names, dict) and names:
            named = category({"keypoints": [names[key] for key in sorted(names, key=int)], "name": "of this file"})
        content = content["instance_info"]
    if named.skipped:
        raise InputError(f"{path}: keypoints {named.skipped}")
    stills = not (content and "instances" in content[0])
    frames = [{"instances": content}] if stills else content
    entries, skipped = [], Counter[str]()
    for position, found in enumerate(frames):
        frame = None if stills else whole_number(first_of(found, ("frame_id",)))
        frame = position if frame is None and not stills else frame
        for person in found.get("instances") or []:
            if reason := _useless(person) or missing_numbers(person["keypoints"], named.number):
                skipped[reason] += 1
                continue
            image = path.stem if frame is None else f"{path.stem}_{frame:06d}"
            joints = {"joints": named.joints, "skeleton": named.skeleton}
            entries.append(read_entry(str(path), len(entries), person, image=image, frame=frame, **joints))
    return People(entries, skipped, notes=() if named.note is None else (named.note,))


def _ultralytics(path: Path, content: Any) -> People:
    """Ultralytics' `to_json` of one image: keypoints as lists x, y and visible."""
    entries, skipped = [], Counter[str]()
    for number, person in enumerate(content):
        points = person["keypoints"]
        if person.get("class", 0) != 0:
            skipped["of other classes than 0, the person"] += 1
            continue
        columns = [points[key] for key in ("x", "y", "visible") if points.get(key)]
        values = regular(f"{path}: entry {number}", columns).T.tolist()
        entries.append(read_entry(str(path), number, {**person, "keypoints": values}, image=path.stem, confidence=None))
    return People(entries, skipped)


def _aic(path: Path, content: Any) -> People:
    """AI Challenger's annotations."""
    entries = []
    for number, image in enumerate(content):
        for values in image["keypoint_annotations"].values():
            entry = read_entry(str(path), number, {"keypoints": values}, image=image_path(str(image["image_id"])))
            states = entry.points[:, 2]
            if not np.isin(states, (1, 2, 3)).all():
                raise InputError(f"{entry.title}: the third number of a joint is not 1, 2 or 3")
            entries.append(_replaced(entry, confidence=_AIC_VISIBILITY[states.astype(int)], skeleton="aic_14"))
    return People(entries, Counter())


def _mpii(path: Path, content: Any) -> People:
    """MPII's annotations in the JSON form that its tools share."""
    entries = []
    for number, person in enumerate(content):
        entry = read_entry(str(path), number, {"keypoints": person["joints"]}, image=image_path(str(person["image"])))
        seen = person.get("joints_vis", person.get("joint_vis"))
        confidence = None if seen is None else regular(entry.title, seen, "joints_vis").clip(0.0, 1.0)
        entries.append(_replaced(entry, confidence=confidence, skeleton="mpii_16"))
    return People(entries, Counter())


def _replaced(entry: Entry, **changes: Any) -> Entry:
    return Entry(**{**entry.__dict__, **changes})


def _listed(content: Any, *keys: str) -> bool:
    """Whether the content is a list whose first object has some keys."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and set(keys) <= set(content[0])


def _is_alphapose(content: Any) -> bool:
    found = list(content.values()) if isinstance(content, dict) else []
    return bool(found) and all(isinstance(image, dict) and bool({"bodies", "people"} & set(image)) for image in found)


def _is_mmpose(content: Any) -> bool:
    if isinstance(content, dict):
        return isinstance(content.get("instance_info"), list)
    return _listed(content, "instances") or (_listed(content, "keypoint_scores") and "image_id" not in content[0])


def _is_coco(content: Any) -> bool:
    if isinstance(content, dict):
        return "annotations" in content or "keypoints" in content
    return isinstance(content, list) and any(isinstance(entry, dict) and "keypoints" in entry for entry in content)


FORMATS = (
    Format("openpose", "OpenPose", lambda c: isinstance(c, dict) and isinstance(c.get("people"), list), _openpose),
    Format("alphapose", "AlphaPose by image", _is_alphapose, _alphapose),
    Format("mmpose", "MMPose", _is_mmpose, _mmpose),
    Format(
        "ultralytics",
        "Ultralytics",
        lambda c: _listed(c, "keypoints") and isinstance(c[0]["keypoints"], dict),
        _ultralytics,
    ),
    Format("aic", "AI Challenger", lambda c: _listed(c, "keypoint_annotations"), _aic),
    Format("mpii", "MPII", lambda c: _listed(c, "joints", "image"), _mpii),
    Format("coco", "COCO", _is_coco, _coco),
)
