"""What an experiment still needs before it can run, and the command that brings each thing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from datamodules.sources import Publisher
from scripts.checkup.experiments import DataNeed, Experiment

KINDS = ("data set", "columns", "body", "detector", "extra", "run", "file")
BODY_PAGE = "https://smpl.is.tue.mpg.de"
_IMAGENET = "image"  # extra that brings the weights called imagenet


class PreparedFolder(Protocol):
    """What must be known of a prepared folder."""

    @property
    def dataset(self) -> str: ...
    @property
    def keypoints_2d(self) -> tuple[str, ...]: ...
    @property
    def images(self) -> int: ...
    @property
    def genders(self) -> tuple[str, ...]: ...
    @property
    def problem(self) -> str: ...


@dataclass(frozen=True)
class Missing:
    """Something that is not there.

    Attributes:
        kind: one of `KINDS`; `columns` are those of a data set that was prepared without them.
        what: file, folder or package, as tables name it.
        command: that brings it.
        page: where its licence is asked for; empty where none is.
    """

    kind: str
    what: str
    command: str
    page: str = ""


@dataclass
class Found:
    """What is there.

    Attributes:
        data: folder that stands for `data` in configurations.
        folders: prepared folders that were found, by path.
        data_sets: data sets that `scripts/prepare.py` knows, by name.
        extras: whether all packages of each optional extra are installed.
        checkpoints: names of shipped checkpoints.
        experiments: file of the experiment that trains each run.
    """

    data: Path
    folders: Mapping[str, PreparedFolder]
    data_sets: Mapping[str, Publisher]
    extras: Mapping[str, bool]
    checkpoints: frozenset[str]
    experiments: dict[str, Path] = field(default_factory=dict)

    def place(self, folder: str) -> Path:
        """A folder of a configuration, in the folder of data that is looked at."""
        path = Path(folder)
        return self.data.joinpath(*path.parts[1:]) if path.parts[:1] == ("data",) else path


def missing_for(experiment: Experiment, found: Found) -> list[Missing]:
    """Everything that keeps an experiment from running, most important first."""
    missing = [lack for need in experiment.folders for lack in _of_folder(need, found)]
    for key, value in experiment.files.items():
        lack = _of_file(key, value, found)
        missing += [] if lack is None else [lack]
    return list(dict.fromkeys(missing))


def missing_folder(path: Path, dataset: str, found: Found) -> Missing:
    """A data set that has not been prepared; `dataset` may be unknown."""
    if dataset not in found.data_sets:
        command = f"python scripts/prepare.py WHAT --source FOLDER --output {path}   (--help lists what there is)"
        return Missing("data set", str(path), command)
    publisher = found.data_sets[dataset]
    source = "--download" if publisher.download else "--source FOLDER"
    command = f"python scripts/prepare.py {dataset} {source} --output {path}"
    return Missing("data set", str(path), command, publisher.page)


def missing_extra(extra: str) -> Missing:
    """Packages that are not installed."""
    return Missing("extra", f"extra {extra}", f"pip install -e '.[{extra}]'")


def missing_body(data: Path, gender: str) -> Missing:
    """A body of SMPL that has not been converted."""
    file = data / "bodies" / f"smpl_{gender}.npz"
    command = f"python scripts/prepare.py body --source MODEL.pkl --output {file}"
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
        how = f"python scripts/prepare.py {dataset} --help   (says which files of a detector it reads)"
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
        there = found.extras.get(_IMAGENET, False)
        return None if there else missing_extra(_IMAGENET)
    if value == "free" or value in found.checkpoints:
        return None
    path = found.place(value)
    if path.exists():
        return None
    if key.endswith(".bodies"):  # which of them are needed is known once the data set is there
        wanted = replace(missing_body(found.data, "GENDER"), what=str(path))
        return replace(wanted, command=wanted.command + "   (male and female for 3DPW, neutral for 3DOH50K)")
    if key.endswith(".body"):
        return replace(missing_body(found.data, "neutral"), what=str(path))
    if key.endswith(".pretrained"):
        return Missing("file", str(path), f"the method's README says where to get it; another place: --{key}")
    run = path.parts[1] if len(path.parts) > 2 and path.parts[0] == "runs" else ""
    if run in found.experiments:
        return Missing("run", f"run {run}", f"python scripts/train.py fit -c {found.experiments[run]}")
    return Missing("file", str(path), f"it is yours: say another one with --{key}")
