"""Packages that only some formats need."""

from importlib import import_module
from typing import Any

from noise2pose.errors import InputError


def load(package: str, extra: str, purpose: str) -> Any:
    """Imports a package of an extra when it is needed.

    Args:
        package: as it is imported.
        extra: of this project, which installs it.
        purpose: what it is needed for, for the message.

    Raises:
        InputError: if it is not installed; the message says what to type.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise InputError(f"{purpose} needs {package}: pip install -e '.[{extra}]' ({error})") from error
