"""Frame rates of the CMU motion capture database, which its AMC files do not say.

Shape letters: F frames.
"""

from collections.abc import Iterable

import numpy as np
from scipy.signal import savgol_filter

from noise2pose import skeletons
from noise2pose.errors import InputError

FRAME_RATE = 120.0
# Subjects and clips that were recorded at another rate. Subjects: the site's index. Clips: 90_08 and 90_11 fall as free
# bodies do at 60; for 62_11 and 80_63 AMASS has 60.
FRAME_RATES = {
    **dict.fromkeys(("60", "61", "75", "87", "88"), 60.0),
    **dict.fromkeys(("62_11", "80_63", "90_08", "90_11"), 60.0),
}
MAX_FALL = 19.0  # metres per second squared, about twice gravity; in a clip at twice its speed a jump falls with 39
# The mass of segments, as a share of the body's (de Leva, J. Biomechanics 1996), by the joints at their ends.
_MASSES = {
    ("pelvis", "thorax"): 0.4346,
    ("thorax", "head_top"): 0.0694,
    **{(f"{side}_hip", f"{side}_knee"): 0.1416 for side in ("left", "right")},
    **{(f"{side}_knee", f"{side}_ankle"): 0.0570 for side in ("left", "right")},
    **{(f"{side}_shoulder", f"{side}_elbow"): 0.0271 for side in ("left", "right")},
    **{(f"{side}_elbow", f"{side}_wrist"): 0.0223 for side in ("left", "right")},
}


def frame_rate(subject: str, clip: str) -> float:
    """Frames per second of a clip, for example "90_08" of subject "90"."""
    return FRAME_RATES.get(clip, FRAME_RATES.get(subject, FRAME_RATE))


def stated_rates(given: str | float | None) -> dict[str, float]:
    """By subject, clip or "" for all others: of 60, "60=60,90_08=60" or "100,60=60".

    Raises:
        InputError: if a rate is no number above 0.
    """
    stated: dict[str, float] = {}
    for entry in [] if given is None else str(given).split(","):
        name, equals, number = entry.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            raise InputError(f"--source_fps {given}: expected numbers, such as 60 or 60=60,90_08=60") from None
        if not 0.0 < rate < float("inf"):
            raise InputError(f"--source_fps is {rate}, expected more than 0")
        stated[plain_number(name) if equals else ""] = rate
    return stated


def frame_rates(stated: dict[str, float], clips: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Of each clip: what is stated for it, for its subject or for all others, else what is known of it.

    Args:
        stated: of `stated_rates`.
        clips: subject and name of each.

    Raises:
        InputError: if a rate is stated for what is not there.
    """
    rates, used = {}, {""}
    for subject, clip in clips:
        keys = [key for key in (plain_number(clip), plain_number(subject), "") if key in stated]
        rates[clip] = stated[keys[0]] if keys else frame_rate(subject, clip)
        used.update(keys)
    if missing := sorted(stated.keys() - used):
        raise InputError(f"--source_fps: {', '.join(missing)} is neither a subject nor a clip of the source")
    return rates


def plain_number(name: str) -> str:
    """A subject or clip without leading zeros: 2_1 for 02_01."""
    return "_".join(part.strip().lstrip("0") for part in name.split("_"))


def fastest_fall(joints: np.ndarray, fps: float) -> float:
    """The largest downward acceleration that the centre of mass of (F, 17, 3) joints keeps up for three frames, m/s^2.

    No more than gravity's 9.8, but for the softness of the skeleton, unless the frame rate is wrong.
    """
    window = 9
    if len(joints) < window + 2:
        return 0.0
    names = skeletons.get("h36m_17").joints
    weights = np.zeros(len(names))
    for ends, mass in _MASSES.items():
        weights[[names.index(end) for end in ends]] += mass / 2.0
    height = joints[..., 2].astype(np.float64) @ (weights / weights.sum())
    fall = -np.asarray(savgol_filter(height, window, 2, deriv=2, delta=1.0 / fps))[window // 2 : -(window // 2)]
    return float(np.lib.stride_tricks.sliding_window_view(fall, 3).min(axis=-1).max())
