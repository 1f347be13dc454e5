"""A skeleton: named joints in the order of some data, and what follows from their names."""

from collections.abc import Mapping
from dataclasses import dataclass

from noise2pose.errors import InputError


@dataclass(frozen=True)
class Skeleton:
    """An ordered set of named joints.

    Attributes:
        name: key in `SKELETONS`.
        joints: joint names, in the order of the data.
        parents: index of each joint's parent, -1 for a joint without one.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def root(self) -> int:
        """First joint without a parent; the pelvis wherever the skeleton has one."""
        return self.parents.index(-1)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) of every bone."""
        return tuple((parent, joint) for joint, parent in enumerate(self.parents) if parent >= 0)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) of every joint that has a mirror image."""
        mirrored = {joint: _mirror(joint) for joint in self.joints if joint.startswith("left_")}
        return tuple((self.index(left), self.index(right)) for left, right in mirrored.items() if right in self.joints)

    @property
    def flip_order(self) -> tuple[int, ...]:
        """Joint order after mirroring the image: `points[..., flip_order, :]` swaps left and right."""
        order = list(range(self.num_joints))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def index(self, joint: str) -> int:
        """Position of a joint by name.

        Raises:
            InputError: if the skeleton has no such joint.
        """
        if joint not in self.joints:
            raise InputError(f"skeleton {self.name} has no joint {joint}; it has {', '.join(self.joints)}")
        return self.joints.index(joint)


def _mirror(joint: str) -> str:
    return joint.replace("left_", "right_", 1)


def tree(name: str, joints: tuple[str, ...], parents: Mapping[str, str]) -> Skeleton:
    """A skeleton whose parents are given by name; a joint on the right side has the mirror image of the left's."""

    def parent_of(joint: str) -> int:
        left = joint.replace("right_", "left_", 1)
        parent = parents.get(joint) or parents.get(left)
        if parent is None:
            return -1
        parent = _mirror(parent) if joint.startswith("right_") else parent
        return joints.index(parent)

    return Skeleton(name, joints, tuple(parent_of(joint) for joint in joints))
