"""Which options two configurations of a run have otherwise."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from noise2pose.errors import InputError

# Beginnings of options that change nothing of what is trained.
_BESIDE = ("name", "config", "ckpt_path", "weights_only", "pictures.", "trainer.default_root_dir", "trainer.logger")
_BESIDE += (
    "saving.",
    "trainer.enable_",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "trainer.num_sanity_val_steps",
)
# The safe loader, in C where PyYAML has it: a page of thirty runs reads sixty files.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LOADING = ("batch_size", "num_workers")  # ends of options of data that change no sample

Changes = dict[str, tuple[Any, Any]]  # the old and the new value of each option, by its name


def changed_options(before: dict[str, Any], now: dict[str, Any]) -> Changes:
    """Options with other values than before.

    Args:
        before: a configuration as YAML holds it.
        now: another. Model options that are None are those that the method sets itself.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return {
        key.replace(".init_args.", "."): (old.get(key), new.get(key))
        for key in {**old, **new}
        if old.get(key) != new.get(key)
        and not key.startswith(_BESIDE)
        and not key.endswith(".dirpath")
        and not (key.startswith("model.") and new.get(key) is None)
    }


def other_options(part: str, trained: dict[str, Any], tested: dict[str, Any]) -> Changes:
    """Options of the method or of the data that a test has otherwise than the training; the class alone if it differs.

    Args:
        part: `model` or `data`.
        trained: the configuration of the training as YAML holds it.
        tested: that of the test. Options that the training did not have yet are not compared.
    """
    known = {key.replace(".init_args.", ".") for key, _ in _leaves(trained)}
    changed = changed_options({part: trained.get(part)}, {part: tested.get(part)})
    found = {
        key: (old, new)
        for key, (old, new) in changed.items()
        if key in known
        and not key.endswith(_LOADING)
        and not (key.endswith("class_path") and str(old).split(".")[-1] == str(new).split(".")[-1])  # a file that moved
    }
    of_class = f"{part}.class_path"
    return {of_class: found[of_class]} if of_class in found else found


def settings(trained: dict[str, Any], tested: dict[str, Any]) -> dict[str, Any]:
    """What was trained and tested, by option: those of the method, the data and the trainer, without the seed.

    Args:
        trained: the configuration of the training as YAML holds it; may be empty.
        tested: that of the test. Options that it has otherwise are beside the training's, as `test.OPTION`.
    """
    found = {
        key.replace(".init_args.", "."): value
        for key, value in _leaves({part: trained.get(part) for part in ("model", "data", "trainer")})
        if not key.startswith(_BESIDE) and not key.endswith((".dirpath", "num_workers"))
    }
    for part in ("model", "data") if trained and tested else ():
        found |= {f"test.{key}": new for key, (_, new) in other_options(part, trained, tested).items()}
    return found


def in_words(changes: Changes) -> str:
    """Options with their values now and before."""
    return ", ".join(f"{key} {new} (was {old})" for key, (old, new) in changes.items())


def read_configuration(path: Path) -> dict[str, Any]:
    """The configuration of a run; empty if there is none.

    Raises:
        InputError: if it names no method.
    """
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _SAFE_LOADER)
        str(config["model"]["class_path"])
        return config
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path}: names no method at model.class_path ({error!r})") from error


def first_stage_epochs(path: Path) -> int:
    """Epochs in which a run trains a context encoder before the method itself, by its configuration.

    Runs from before `noise2pose.metrics.keys.FIRST_STAGE` recorded the errors of both under one key.
    """
    with suppress(InputError):  # reported where the configuration is needed
        arguments = read_configuration(path).get("model", {}).get("init_args") or {}
        return 0 if arguments.get("context_checkpoint") else int(arguments.get("context_epochs") or 0)
    return 0


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if not pairs:  # also an empty dict or list
        yield name, tree
    for key, value in pairs or ():
        yield from _leaves(value, f"{name}.{key}" if name else str(key))
