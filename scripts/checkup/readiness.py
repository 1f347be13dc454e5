"""What the experiments in `configs/experiments` need, what of it is missing, and the command that brings each thing.

The files are read without importing or building what they name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from datamodules.sources import Publisher
from noise2pose.errors import InputError

if TYPE_CHECKING:
    from scripts.checkup.inventory import Folder

KINDS = ("data set", "columns", "body", "detector", "extra", "run", "file")
BODY_PAGE = "https://smpl.is.tue.mpg.de"
_IMAGENET = "image"  # extra that brings the weights called imagenet


class DataNeed(NamedTuple):
    """A prepared folder that an experiment reads."""

    folder: str  # as the file says
    module: str  # last part of the module that reads it, such as `human36m`
    keypoints_2d: tuple[str, ...]  # 2-D inputs that it takes, such as `gt`
    images: bool  # whether it takes images


class Experiment(NamedTuple):
    """A file of an experiment, or of a piece of data, on which any trained model may be tested."""

    file: Path
    name: str  # of the run; its folder below `runs/`
    method: str  # class of the method; empty for a piece of data
    data: str  # names of the pieces of data, as the experiment names them
    folders: tuple[DataNeed, ...]  # that must have been prepared
    files: dict[str, str]  # keys with the files, bodies and checkpoints that they name


class Missing(NamedTuple):
    """Something that is not there."""

    kind: str  # one of `KINDS`; `columns` are those of a data set that was prepared without them
    what: str  # file, folder or package, as tables name it
    command: str  # that brings it
    page: str = ""  # where its licence is asked for; empty where none is


@dataclass
class Found:
    """What is there."""

    data: Path  # folder that stands for `data` in configurations
    folders: Mapping[str, "Folder"]  # prepared folders that were found, by path
    data_sets: Mapping[str, Publisher]  # those that `scripts/prepare.py` knows, by name
    extras: Mapping[str, bool]  # whether all packages of each optional extra are installed
    checkpoints: frozenset[str]  # names of shipped checkpoints
    experiments: dict[str, Path] = field(default_factory=dict)  # file of the experiment that trains each run

    def place(self, folder: str) -> Path:
        """A folder of a configuration, in the folder of data that is looked at."""
        path = Path(folder)
        return self.data.joinpath(*path.parts[1:]) if path.parts[:1] == ("data",) else path


def read_experiment(file: Path) -> Experiment:
    """One experiment.

    Raises:
        InputError: if it, or a file that it refers to, cannot be read.
    """
    tree = _load(file)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict) or not isinstance(tree.get("data"), dict):
        raise InputError(f"{file}: not an experiment, which has a `model` and `data`")
    named = _data_of(file)
    pieces = [Path(part).stem for part in _parts(named) if isinstance(part, str) and part.endswith(".yaml")]
    data = Path(named).stem if isinstance(named, str) else "+".join(pieces) or "own"
    method = str(tree["model"].get("class_path", "?")).rpartition(".")[2]
    files = {**_files("model", tree["model"]), **_files("data", tree["data"])}
    return Experiment(file, str(tree.get("name", file.stem)), method, data, _folders(tree["data"]), files)


def read_data(file: Path) -> Experiment:
    """A piece of data.

    Raises:
        InputError: as `read_experiment`.
    """
    tree = _load(file)
    return Experiment(file, file.stem, "", file.stem, _folders(tree), _files("data", tree))


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
    return _load(home / tree) if isinstance(tree, str) and tree.endswith(".yaml") else tree


def _parts(tree: Any) -> Iterator[Any]:
    """A tree, and everything that is in it."""
    yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _parts(value)


def _built(tree: Any) -> list[tuple[str, dict[str, Any]]]:
    """Class path and arguments of everything that is built."""
    described = [part for part in _parts(tree) if isinstance(part, dict) and isinstance(part.get("class_path"), str)]
    return [(part["class_path"], part.get("init_args") or {}) for part in described]


def _folders(tree: Any) -> tuple[DataNeed, ...]:
    needs = []
    for class_path, arguments in _built(tree):
        named = [arguments[key] for key in ("root", "roots") if isinstance(arguments.get(key), str)]
        for folder in ",".join(named).split(",") if named else ():  # `roots` has commas between them
            sources = (arguments.get("keypoints_2d"), arguments.get("test_keypoints_2d"))
            taken = tuple(source for source in sources if isinstance(source, str))
            module = class_path.rpartition(".")[0].rpartition(".")[2]
            needs.append(DataNeed(folder.strip(), module, taken, bool(arguments.get("images", False))))
    return tuple(dict.fromkeys(needs))


def _files(place: str, tree: Any) -> dict[str, str]:
    return {
        f"{place}.{key}": value
        for _, arguments in _built(tree)
        for key, value in arguments.items()
        if isinstance(value, str) and (key.endswith("checkpoint") or key in ("body", "bodies", "pretrained"))
    }


def missing_for(experiment: Experiment, found: Found) -> list[Missing]:
    """Everything that keeps an experiment from running, most important first."""
    missing: list[Missing | None] = [lack for need in experiment.folders for lack in _of_folder(need, found)]
    missing += [_of_file(key, value, found) for key, value in experiment.files.items()]
    return [lack for lack in dict.fromkeys(missing) if lack is not None]


def missing_folder(path: Path, dataset: str, found: Found) -> Missing:
    """A data set that has not been prepared; `dataset` may be unknown."""
    if dataset not in found.data_sets:
        command = f"noise2pose prepare WHAT --source FOLDER --output {path}   (--help lists what there is)"
        return Missing("data set", str(path), command)
    publisher = found.data_sets[dataset]
    given = "FOLDER" if publisher.source == "DIR" else publisher.source
    source = "--download" if publisher.download else f"--source {given}"
    command = f"noise2pose prepare {dataset} {source} --output {path}"
    return Missing("data set", str(path), command, publisher.page)


def missing_extra(extra: str) -> Missing:
    """Packages that are not installed."""
    return Missing("extra", f"extra {extra}", f"pip install -e '.[{extra}]'")


def missing_body(data: Path, gender: str) -> Missing:
    """A body of SMPL that has not been converted."""
    file = data / "bodies" / f"smpl_{gender}.npz"
    command = f"noise2pose prepare body --source MODEL.pkl --output {file}"
    return Missing("body", str(file), f"{command} --regressor h36m_17=J_regressor_h36m.npy", BODY_PAGE)


def _of_folder(need: DataNeed, found: Found) -> list[Missing]:
    path = found.place(need.folder)
    folder = found.folders.get(str(path))
    # A module is named after its data set; for a module that reads several the folder decides.
    names = (need.module, path.name, "" if folder is None else folder.dataset)
    dataset = next((name for name in names if name in found.data_sets), "")
    again = missing_folder(path, dataset, found)
    if folder is None:
        return [again]
    if folder.problem:
        return [Missing("data set", f"{path} whole", again.command, again.page)]
    lacks = []
    if "detected" in need.keypoints_2d and "detected" not in folder.keypoints_2d:
        how = f"noise2pose prepare {dataset} --help   (says which files of a detector it reads)"
        lacks.append(Missing("columns", f"detections in {path}", how))
    for gender in folder.genders:
        body = missing_body(found.data, gender)
        lacks += [] if Path(body.what).is_file() else [body]
    if need.images and not folder.images and need.module in found.data_sets:
        lacks.append(Missing("columns", f"images in {path}", again.command, again.page))
    return lacks


def _of_file(key: str, value: str, found: Found) -> Missing | None:
    """The body, checkpoint or weights that a key such as `model.frontend_checkpoint` names, if it is not there."""
    if key.endswith(".pretrained") and value == "imagenet":
        return None if found.extras.get(_IMAGENET) else missing_extra(_IMAGENET)
    if value == "free" or value in found.checkpoints:
        return None
    path = found.place(value)
    if path.exists():
        return None
    if key.endswith(".bodies"):  # which of them are needed is known once the data set is there
        wanted = missing_body(found.data, "GENDER")
        command = f"{wanted.command}   (male and female for 3DPW, neutral for 3DOH50K)"
        return wanted._replace(what=str(path), command=command)
    if key.endswith(".body"):
        return missing_body(found.data, "neutral")._replace(what=str(path))
    if key.endswith(".pretrained"):
        return Missing("file", str(path), f"the method's README says where to get it; another place: --{key}")
    run = path.parts[1] if len(path.parts) > 2 and path.parts[0] == "runs" else ""
    if run in found.experiments:
        return Missing("run", f"run {run}", f"noise2pose train fit -c {found.experiments[run]}")
    return Missing("file", str(path), f"it is yours: say another one with --{key}")
