"""Keeps passwords and keys out of what a run records: its configuration, its command, and what is uploaded."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from noise2pose.errors import InputError

# Whole names of options, since `num_tokens` or `key_joints` are none.
_NAMES = re.compile(
    r"(?i)(.*_)?(api_?key|access_?key|secret_?key|private_?key|pass(word|wd|phrase)|secret|credentials?|"
    r"(auth|access|api|hub|hf)_?token)|token"
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")  # user:password@ of an address
HIDDEN = "***"


def refuse_credentials(config: dict[str, Any]) -> None:
    """Refuses a configuration that holds a password or a key, before anything is written.

    Raises:
        InputError: if it does; the option is named, the value is not.
    """
    for name, value in _leaves(config):
        last = name.rsplit(".", 1)[-1]
        named = isinstance(value, str) and value and _NAMES.fullmatch(last)
        if named or (isinstance(value, str) and _IN_ADDRESS.search(value)):
            raise InputError(
                f"{name} holds a credential, which the record of the run would keep: leave it out and give it by the "
                "environment (WANDB_API_KEY) or by `wandb login`"
            )


def without_credentials(words: Sequence[str]) -> list[str]:
    """The words of a command line, with stars for the values of such options and for users in addresses."""
    shown: list[str] = []
    hides = False
    for word in words:
        name, equals, _ = word.partition("=")
        named = name.startswith("--") and _NAMES.fullmatch(name.lstrip("-").rsplit(".", 1)[-1])
        if hides:
            shown.append(HIDDEN)
        else:
            shown.append(f"{name}={HIDDEN}" if named and equals else _IN_ADDRESS.sub(f"{HIDDEN}@", word))
        hides = bool(named) and not equals and not hides
    return shown


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if pairs is None:
        yield name, tree
    for key, value in pairs or ():
        yield from _leaves(value, f"{name}.{key}" if name else str(key))
