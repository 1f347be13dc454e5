"""Which numbers the arguments of a method may have, as their names say."""

import math
import re
from collections.abc import Mapping
from typing import Any

from noise2pose.errors import InputError

Range = tuple[float, float]  # least and largest value
_RANGES: dict[str, Range] = {
    r"width|\w+_width|hidden|num_\w+|\w+_blocks|\w+_heads|patience": (1, math.inf),
    r"dropout|\w+_dropout|image_noise|decay|ema_decay": (0, 1),
    r"(\w+_)?(learning_rate|weight|weight_decay|noise|noise_scale|steps|epochs)|weight_\w+|guidance_\w+": (0, math.inf),
}


def check_ranges(settings: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Refuses numbers out of range, so that no training begins with them.

    Args:
        settings: arguments of a method.
        ranges: of arguments whose names do not say it.

    Raises:
        InputError: for the first such number.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        named = [limits for pattern, limits in _RANGES.items() if re.fullmatch(pattern, name)]
        least, largest = ranges.get(name) or (named or [(-math.inf, math.inf)])[0]
        if not (math.isfinite(value) and least <= value <= largest):
            expected = f"at least {least}" if largest == math.inf else f"{least} to {largest}"
            raise InputError(f"model.{name} is {value}, expected {'a number' if least == -math.inf else expected}")
    context_heads = "context_heads" if settings.get("context_heads") else "num_heads"
    for name, heads in (("width", "num_heads"), ("context_width", context_heads)):
        number = settings.get(heads) or 1
        if (settings.get(name) or 0) % number:
            raise InputError(f"model.{name} is {settings[name]}, expected a multiple of model.{heads}, {number}")
