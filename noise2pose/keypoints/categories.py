"""What the categories and images of a COCO file say of its entries."""

import re
from typing import Any, NamedTuple

from noise2pose.errors import InputError
from noise2pose.keypoints.entries import first_of
from noise2pose.keypoints.joint_names import skeleton_of_names, unknown_names

_PEOPLE = ("person", "people", "human", "pedestrian")
_ANIMALS = ("animal", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")  # COCO's
_NUMBERED = re.compile(r"[a-z]*[_ -]?[0-9]+", re.IGNORECASE)


class Category(NamedTuple):
    """The joints of a category.

    Attributes:
        skeleton: that has most of them; None where they have no names.
        joints: for each joint of the skeleton its position in the entries, -1 if it is missing.
        number: of the joints that an entry has; None where the category does not say.
        skipped: why its entries are left out; None if they are people.
        note: what was not understood, in a few words.
    """

    skeleton: str | None = None
    joints: list[int] | None = None
    number: int | None = None
    skipped: str | None = None
    note: str | None = None


def category(about: dict[str, Any]) -> Category:
    """The joints of a category of a COCO file, or why its entries are left out."""
    names, title = about.get("keypoints"), str(about.get("name", "person"))
    if {title.lower(), str(about.get("supercategory")).lower()} & set(_ANIMALS):
        return Category(skipped=f"of category {title} (an animal)")
    if not isinstance(names, list) or not names or all(_NUMBERED.fullmatch(str(name)) for name in names):
        if title.lower() in _PEOPLE:
            return Category()
        return Category(skipped=f"of category {title} (it names no joints; a person's is called person)")
    try:
        skeleton, joints = skeleton_of_names(names)
    except InputError as error:
        return Category(skipped=f"of category {about.get('name', 'without a name')} ({error})")
    unknown = unknown_names(names)
    note = f"unknown names of joints, which are not read: {', '.join(unknown)}" if unknown else None
    return Category(skeleton, joints, len(names), note=note)


def missing_numbers(values: Any, joints: int | None) -> str | None:
    """Why a list of keypoints is left out: it has other joints than its category names; None if it has all.

    Args:
        values: 3 or 2 numbers for each joint, in one list or in a list a joint.
        joints: that the category names; None where it names none.
    """
    if joints is None or not isinstance(values, list):
        return None
    expected = (joints,) if isinstance(values[0], list) else (2 * joints, 3 * joints)
    if len(values) in expected:
        return None
    return f"of {len(values)} numbers, where their category names {joints} joints"


def by_id(path: Any, listed: Any, key: str) -> dict[str, dict[str, Any]]:
    """The images, or categories, of a file by their id.

    Raises:
        InputError: if one has no id, or two have the same.
    """
    if not isinstance(listed, list) or not all(
        isinstance(entry, dict) and first_of(entry, ("id",)) is not None for entry in listed
    ):
        raise InputError(f"{path}: {key} must be a list of objects with an id")
    found: dict[str, dict[str, Any]] = {}
    for entry in listed:
        identity = str(first_of(entry, ("id",)))
        if found.setdefault(identity, entry) != entry:
            raise InputError(f"{path}: {key} has the id {identity} twice: give each its own")
    return found
