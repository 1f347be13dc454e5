"""What the experiments in `configs/experiments` need, read from their files without importing or building anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from noise2pose.errors import InputError


class DataNeed(NamedTuple):
    """A prepared folder that an experiment reads.

    Attributes:
        folder: as the file says.
        module: last part of the module that reads it, such as `human36m`.
        keypoints_2d: 2-D inputs that it takes, such as `gt`.
        images: whether it takes images.
    """

    folder: str
    module: str
    keypoints_2d: tuple[str, ...]
    images: bool


class Experiment(NamedTuple):
    """A file of an experiment.

    Attributes:
        file: its path.
        name: of the run; its folder below `runs/`.
        method: class of the method.
        data: names of the pieces of data, as the experiment names them.
        folders: that must have been prepared.
        files: keys with the files, bodies and checkpoints that they name.
    """

    file: Path
    name: str
    method: str
    data: str
    folders: list[DataNeed]
    files: dict[str, str]


def read_experiment(file: Path) -> Experiment:
    """One experiment.

    Raises:
        InputError: if it, or a file that it refers to, cannot be read.
    """
    tree = _load(file)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict) or not isinstance(tree.get("data"), dict):
        raise InputError(f"{file}: not an experiment, which has a `model` and `data`")
    data = _data_of(file)
    data = Path(data).stem if isinstance(data, str) else "+".join(_pieces(data)) or "own"
    files = {f"{place}.{key}": value for place in ("model", "data") for key, value in _files(tree[place])}
    return Experiment(
        file=file,
        name=str(tree.get("name", file.stem)),
        method=str(tree["model"].get("class_path", "?")).rpartition(".")[2],
        data=data,
        folders=list(dict.fromkeys(_folders(tree["data"]))),
        files=files,
    )


def read_data(file: Path) -> Experiment:
    """A piece of data without a method, on which any trained model may be tested.

    Raises:
        InputError: as `read_experiment`.
    """
    tree = _load(file)
    files = {f"data.{key}": value for key, value in _files(tree)}
    return Experiment(file, file.stem, "any", file.stem, list(dict.fromkeys(_folders(tree))), files)


def _load(file: Path) -> Any:
    return _resolve(_read(file), file.parent)


def _data_of(file: Path) -> Any:
    """The data as the experiment names it, or the experiment that it starts from."""
    tree = _read(file)
    return tree["data"] if "data" in tree else _data_of(file.parent / tree["config"])


def _read(file: Path) -> Any:
    import yaml  # `scripts/doctor.py` must start without it, to say that it is missing

    try:
        return yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({' '.join(str(error).split())})") from error


def _resolve(tree: Any, home: Path) -> Any:
    """The tree with the contents of the files that it names, composed as the command line does it."""
    if isinstance(tree, dict):
        tree = {key: _resolve(value, home) for key, value in tree.items()}
        composed = tree.pop("config", None)  # of the file that this one starts from; the other lines change it
        composed = composed if isinstance(composed, dict) else {}
        for key, value in tree.items():
            *parents, last = str(key).split(".")
            place = composed
            for parent in parents:
                if not isinstance(place.get(parent), dict):
                    place[parent] = {}
                place = place[parent]
            place[last] = value
        return composed
    if isinstance(tree, list):
        return [_resolve(value, home) for value in tree]
    if isinstance(tree, str) and tree.endswith(".yaml"):
        return _load(home / tree)
    return tree


def _pieces(tree: Any) -> Iterator[str]:
    """Names of the files that a tree refers to."""
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _pieces(value)
    elif isinstance(tree, str) and tree.endswith(".yaml"):
        yield Path(tree).stem


def _objects(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and arguments of everything that is built."""
    if isinstance(tree, dict):
        if isinstance(tree.get("class_path"), str):
            yield tree["class_path"], tree.get("init_args") or {}
        for value in tree.values():
            yield from _objects(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _objects(value)


def _folders(tree: Any) -> Iterator[DataNeed]:
    for class_path, arguments in _objects(tree):
        if isinstance(arguments.get("root"), str):
            sources = (arguments.get("keypoints_2d"), arguments.get("test_keypoints_2d"))
            yield DataNeed(
                arguments["root"],
                class_path.rpartition(".")[0].rpartition(".")[2],
                tuple(source for source in sources if isinstance(source, str)),
                bool(arguments.get("images", False)),
            )


def _files(tree: Any) -> Iterator[tuple[str, str]]:
    for _, arguments in _objects(tree):
        for key, value in arguments.items():
            if isinstance(value, str) and (key.endswith("checkpoint") or key in ("body", "bodies", "pretrained")):
                yield key, value
