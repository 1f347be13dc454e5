"""What the text of an image says: "A {gender} {action} {environment}", after the paper.

The paper asked a language model for its environments. Here they are a file that comes with the method, written for it.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from methods.posepp.settings import Prompts
from noise2pose.errors import InputError

ENVIRONMENTS = Path(__file__).with_name("environments.txt")
_WORDS = {"male": ("man",), "female": ("woman",), "neutral": ("man", "woman")}
_SHORT = (
    "run",
    "squat",
    "sit",
    "jog",
    "hop",
    "swim",
    "put",
    "get",
    "hit",
    "spin",
    "step",
    "skip",
    "clap",
    "stop",
    "shop",
    "bat",
)
_VERBS = {
    *("walk", "jump", "reach", "wave", "punch", "kick", "turn", "crawl", "dance", "stand", "lie", "climb"),
    *("throw", "catch", "stretch", "bend", "kneel", "march", "play", "carry", "lift", "push", "pull", "box", "fight"),
    *("sneak", "stumble", "balance", "exercise", "work", "sweep", "wash", "drink", "eat", "talk", "look", "point"),
    *("pick", "place", "rotate", "swing", "leap", "lean", "pace", "limp", "move", "drive", "ride", "skate", "stroll"),
    *_SHORT,
}


class Writer:
    """Writes the texts of samples.

    Args:
        settings: of the text.

    Raises:
        InputError: if the file of environments cannot be read or has none.
    """

    def __init__(self, settings: Prompts) -> None:
        self.suffix = settings.suffix
        self.environments = read_environments(Path(settings.environments or ENVIRONMENTS))

    def write(self, random: np.random.Generator, gender: str, action: str) -> str:
        """The text of a sample.

        Args:
            random: of the sample.
            gender: "male", "female" or "neutral", which is drawn.
            action: a label of motion capture, such as "walk" or "Sit down (slow)"; may be empty.
        """
        words = _WORDS.get(gender, _WORDS["neutral"])
        person = words[random.integers(len(words))]
        environment = self.environments[random.integers(len(self.environments))]
        return " ".join(f"A {person} {in_progress(action)} {environment}".split()) + self.suffix


@cache
def read_environments(path: Path) -> tuple[str, ...]:
    """The lines of a file of environments that are neither empty nor comments.

    Raises:
        InputError: if there are none.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a text file ({error})") from error
    found = tuple(line for line in lines if line and not line.startswith("#"))
    if not found:
        raise InputError(f"{path}: found no environment, expected one a line")
    return found


def in_progress(action: str) -> str:
    """A label of motion capture as a participle: "walk" is "walking", "sit_down" is "sitting down".

    What follows a comma, bracket, dash or digit is left out. A label that does not begin with a verb that is known here
    says nothing: the text of an image is better short than wrong.
    """
    plain = re.split(r"[(,;:\d]| - |_-_", action)[0].replace("_", " ").lower().split()
    if not plain:
        return ""
    verb, *rest = plain
    if verb.endswith("ing") and len(verb) > 4:
        return " ".join(plain)
    if verb not in _VERBS:
        return ""
    if verb in _SHORT:
        verb += verb[-1]
    elif verb == "lie":
        verb = "ly"
    elif verb.endswith("e"):
        verb = verb[:-1]
    return " ".join([f"{verb}ing", *rest])
