"""Classes that a file names: imported only where they may be what is expected, and never called if they are not."""

import sys
from importlib import import_module
from typing import TypeVar

Kind = TypeVar("Kind")


def named_class(class_path: object, base: type[Kind]) -> type[Kind]:
    """The class that a checkpoint or a configuration names.

    Naming a class imports its module, and importing runs it. Modules of Python itself, some of which open a browser or
    a window when they are imported, hold no such class and are refused unread. What else may be imported is what is
    installed, or lies where Python looks for modules.

    Args:
        class_path: package, module and class, joined by dots.
        base: that the class must be, or be derived from.

    Raises:
        ImportError, AttributeError: if there is no such module or class.
        TypeError: if it is no class of that kind; nothing has been called then.
    """
    module, _, name = class_path.rpartition(".") if isinstance(class_path, str) else ("", "", "")
    expected = f"expected a subclass of {base.__module__}.{base.__name__}"
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts) or not name.isidentifier():
        raise TypeError(f"{class_path!r} is not the path of a class, {expected}")
    if parts[0] in sys.stdlib_module_names or parts[0].startswith("_"):
        raise TypeError(f"{class_path} is a part of Python, {expected}")
    found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TypeError(f"{class_path} is something else, {expected}")
    return found
