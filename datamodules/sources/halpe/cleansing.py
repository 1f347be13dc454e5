"""Which of Halpe's people are fit for training and evaluation: a filter that says what it left out and why.

DiffAnnot's paper evaluates on a part of Halpe: it names two reasons to leave an image out, too many people in it and
bodies that are very incomplete, and no rule. The numbers here are therefore this project's; what is kept is counted and
is not the paper's selection.
"""

from typing import NamedTuple

import numpy as np

from noise2pose import skeletons

SKELETON = "halpe_26"
# The joints of LSP: limbs, neck and top of the head.
CORE_JOINTS = tuple(skeletons.get(SKELETON).index(joint) for joint in skeletons.get("lsp_14").joints)
_LIMBS = tuple(
    tuple(skeletons.get(SKELETON).index(f"{side}_{joint}") for joint in limb)
    for side in ("left", "right")
    for limb in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
)


class HalpeCleansing(NamedTuple):
    """The rules, in the order in which they are applied. Each has a value that admits everybody.

    Attributes:
        max_people: most annotated people in an image; 0 for any number. Halpe annotates few of those one sees.
        min_side: shortest length of the longer side of a person's box, pixels.
        min_joints: fewest of the 14 core joints that are seen: limbs, neck and top of the head.
        min_limbs: fewest of the 4 limbs whose three joints are all seen.
        min_visibility: a joint of this published score is seen. AlphaPose takes 0.35, Halpe's own viewer 0.6.
    """

    max_people: int = 3
    min_side: float = 64.0
    min_joints: int = 10
    min_limbs: int = 2
    min_visibility: float = 0.35


class Cleansed(NamedTuple):
    """What a filter made of a number of people.

    Attributes:
        keep: (N,) who stays.
        counts: people left out for each reason, under the first that applies, in order; then those kept.
    """

    keep: np.ndarray
    counts: dict[str, int]

    def line(self, name: str) -> str:
        """All counts in one line."""
        left_out = ", ".join(f"{number} with {reason}" for reason, number in list(self.counts.items())[:-1])
        return f"{name}: kept {int(self.keep.sum())} of {len(self.keep)} people; left out {left_out}"


def cleanse(rules: HalpeCleansing, visibility: np.ndarray, bounds: np.ndarray, image: np.ndarray) -> Cleansed:
    """Applies the rules.

    Args:
        rules: what is asked of a person.
        visibility: (N, 26) published scores of the joints of halpe_26; 0 for absent ones.
        bounds: (N, 4) x0, y0, x1, y1, pixels.
        image: (N,) number of each person's image; all people of an image are among the N.
    """
    _, of, people = np.unique(image, return_inverse=True, return_counts=True)
    seen = visibility >= max(rules.min_visibility, np.finfo(np.float32).tiny)  # absent joints never count
    sides = (bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0.0)
    joints = seen[:, CORE_JOINTS].sum(axis=1)
    limbs = sum(seen[:, limb].all(axis=1).astype(int) for limb in _LIMBS)
    asked = {
        f"more than {rules.max_people} people in the image": (people[of] > rules.max_people) & (rules.max_people > 0),
        f"a box under {rules.min_side:g} pixels": sides < rules.min_side,
        f"fewer than {rules.min_joints} of 14 joints seen": joints < rules.min_joints,
        f"fewer than {rules.min_limbs} of 4 limbs seen": limbs < rules.min_limbs,
    }
    keep, counts = np.ones(len(visibility), bool), {}
    for reason, fails in asked.items():
        counts[reason] = int((keep & fails).sum())
        keep &= ~fails
    return Cleansed(keep, {**counts, "kept": int(keep.sum())})
