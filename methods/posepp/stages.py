"""The stages of a data set, each a restartable pass over its shards.

`OUTPUT/STAGE/shard-000123.tar` has what a stage made of the samples of a shard, and its list has every one of them:
with an empty `reason`, or with the reason for which the sample goes no further and the stage that said so. A stage
reads the shards with the same number of the stages that it needs; those that are finished already are skipped, those
that a killed process left half-written are done again. Processes that take different shards need not
know of each other.

`OUTPUT/dataset.json` says what the data set is, and `OUTPUT/STAGE/stage.json` by which settings a stage was run; both
are refused by a run with other settings.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from methods.posepp.dataset import POSES, difference, read_dataset
from methods.posepp.people.body import Body
from methods.posepp.people.prompts import ENVIRONMENTS, read_environments
from methods.posepp.people.sampling import SampleStage
from methods.posepp.records import Record, Result, Stage
from methods.posepp.settings import Settings, fingerprint
from noise2pose.errors import InputError
from noise2pose.files import lock, write_text
from noise2pose.motion.pose_bank import read_poses
from noise2pose.shards import read_manifest, read_shard, shard_path, write_shard

STAGE = "stage.json"


class Definition(NamedTuple):
    """What the runner has to know of a stage before it is made.

    Attributes:
        needs: stages whose shards it reads.
        optional: stages whose shards it reads as well, where the data set has them.
        settings: parts of `Settings` that it depends on besides those of the stages it needs.
        make: its factory, of the settings and the folder of the data set.
        files: what it reads besides the data set, by the keys of the settings that name it; empty where none is named.
    """

    needs: tuple[str, ...]
    settings: tuple[str, ...]
    make: Callable[[Settings, Path], Stage]
    optional: tuple[str, ...] = ()
    files: Callable[[Settings], dict[str, str]] = lambda settings: {}


def _sample(settings: Settings, folder: Path) -> Stage:
    return SampleStage(settings, Body(settings.body.model), read_poses(folder / POSES))


def _render(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.people.conditions import RenderStage

    return RenderStage(settings, Body(settings.body.model))


def _generate(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.images.generation import make_stage

    return make_stage(settings, folder)


def _detect(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.labels.stages import DetectStage, make_finder

    return DetectStage(make_finder(settings.detect, settings.seed))


def _filter(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.labels.stages import FilterStage

    return FilterStage(settings.filter)


def _refine(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.labels.stages import RefineStage, load_2d

    checkpoint = settings.refine.checkpoint
    return RefineStage(load_2d(checkpoint, "refine.checkpoint") if checkpoint else None, settings.refine.image_size)


def _head(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.labels.stages import HeadStage

    return HeadStage(settings.head, Body(settings.body.model))


def _export(settings: Settings, folder: Path) -> Stage:
    from methods.posepp.exports import ExportStage

    return ExportStage(settings, Body(settings.body.model))


# In the order in which `all` runs them.
STAGES: dict[str, Definition] = {
    "sample": Definition((), ("poses", "body", "camera", "prompts"), _sample),
    "render": Definition(("sample",), ("conditions",), _render),
    "generate": Definition(
        ("sample", "render"), ("generation",), _generate, files=lambda settings: settings.generation.files()
    ),
    "detect": Definition(
        ("sample", "render", "generate"), ("detect",), _detect, files=lambda settings: settings.detect.files()
    ),
    "filter": Definition(("sample", "render", "detect"), ("filter",), _filter),
    "refine": Definition(
        ("render", "generate", "filter"), ("refine",), _refine, files=lambda settings: settings.refine.files()
    ),
    "head": Definition(("sample", "detect", "filter"), ("head",), _head),
    "export": Definition(("sample", "render", "generate"), (), _export, optional=("filter", "refine", "head")),
}


def stages_of(folder: Path) -> list[str]:
    """The stages that were begun in a data set, in order."""
    return [name for name in STAGES if (folder / name / STAGE).exists()]


def unfinished(name: str, folder: Path, shards: Sequence[int]) -> list[int]:
    """Those of the shards that a stage has not finished."""
    return [shard for shard in shards if not shard_path(folder / name, shard).exists()]


def run_stage(
    name: str,
    folder: Path,
    settings: Settings,
    shards: Sequence[int],
    progress: Callable[[int], Any] = lambda samples: None,
) -> None:
    """Runs a stage over those of some shards that are not finished.

    Args:
        name: key of `STAGES`.
        folder: of the data set, which `open_dataset` has opened.
        settings: of the data set.
        shards: their numbers.
        progress: called with numbers of samples as they are finished.

    Raises:
        InputError: if a stage that it needs is not finished for a shard, the stage was begun with other settings, or
            the disk is full.
    """
    definition = STAGES[name]
    with lock(folder, wait=True):  # processes that start at once write one file
        _check_settings(name, folder, settings)
    stage: Stage | None = None
    for shard in unfinished(name, folder, shards):
        if stage is None:  # which may load networks
            stage = definition.make(settings, folder)
        with write_shard(shard_path(folder / name, shard)) as writer:
            for records, results in _batches(stage, _inputs(name, folder), folder, shard, settings):
                kept = {result.id: result for result in results}
                for sample, reason in records:
                    if sample in kept:
                        result = kept[sample]
                        said = {"reason": result.reason, **result.notes} | ({"stage": name} if result.reason else {})
                        writer.add(sample, result.files, said)
                    else:
                        writer.add(sample, {}, reason)
                progress(len(records))


def read_records(stages: Sequence[str], folder: Path, shard: int) -> Iterator[tuple[Record, dict[str, dict[str, Any]]]]:
    """The samples of a shard with the files of some stages, and what the lists of these stages say of them.

    Raises:
        InputError: if a stage has not finished the shard, or its files do not belong together.
    """
    paths = {stage: shard_path(folder / stage, shard) for stage in stages}
    for stage, path in paths.items():
        if not path.exists():
            raise InputError(f"{path} does not exist: run `noise2pose generate {stage}` for this shard first")
    readers = {stage: read_shard(path) for stage, path in paths.items()}
    heads = {stage: next(reader, None) for stage, reader in readers.items()}
    lists = {stage: read_manifest(path) for stage, path in paths.items()}
    lengths = {stage: [entry["id"] for entry in entries] for stage, entries in lists.items()}
    if any(ids != lengths[stages[0]] for ids in lengths.values()):
        raise InputError(f"{paths[stages[0]]}: the stages {', '.join(stages)} list different samples of shard {shard}")
    for row, sample in enumerate(lengths[stages[0]] if stages else []):
        files = {}
        for stage in stages:
            head = heads[stage]
            if head is not None and head[0] == sample:
                files[stage] = head[1]
                heads[stage] = next(readers[stage], None)
        yield Record(sample, files), {stage: lists[stage][row] for stage in stages}


def _batches(
    stage: Stage, needs: tuple[str, ...], folder: Path, shard: int, settings: Settings
) -> Iterator[tuple[list[tuple[int, dict[str, Any]]], list[Result]]]:
    """Batches of a shard: all their samples, with the entry of those that were left out before, and the results."""
    listed: list[tuple[int, dict[str, Any]]] = []
    batch: list[Record] = []

    def done() -> tuple[list[tuple[int, dict[str, Any]]], list[Result]]:
        results = stage.process(batch) if batch else []
        if [result.id for result in results] != [record.id for record in batch]:
            raise RuntimeError(f"{type(stage).__name__} answered for other samples than it was asked for")
        return listed, results

    if needs:
        incoming = read_records(needs, folder, shard)
    else:
        incoming = ((Record(sample, {}), {}) for sample in settings.shard_samples(shard))
    for record, entries in incoming:
        left_out = next((entry for entry in entries.values() if entry["reason"]), None)
        if left_out is None:
            batch.append(record)
        listed.append((record.id, {} if left_out is None else {key: left_out[key] for key in ("reason", "stage")}))
        if len(batch) == stage.batch:
            yield done()
            listed, batch = [], []
    if listed:
        yield done()


def _check_settings(name: str, folder: Path, settings: Settings) -> None:
    """Writes which settings a stage is run by, or refuses others."""
    path = folder / name / STAGE
    parts = _parts(name, folder, settings)
    about = {"hash": fingerprint(parts, read_dataset(folder)["hash"]), "settings": parts}
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(about, indent=2, sort_keys=True) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if found.get("hash") != about["hash"]:
        raise InputError(
            f"{path}: this stage was begun with other settings{difference(found.get('settings'), parts)}; go on with "
            f"those, remove {path.parent} and the stages after it, or take another folder"
        )


def _inputs(name: str, folder: Path) -> tuple[str, ...]:
    """The stages that a stage reads."""
    begun = stages_of(folder)
    return (*STAGES[name].needs, *(stage for stage in STAGES[name].optional if stage in begun))


def _parts(name: str, folder: Path, settings: Settings) -> dict[str, Any]:
    """The settings that a stage depends on, by the stage that reads them."""
    definition, plain = STAGES[name], asdict(settings)
    parts: dict[str, Any] = {}
    for needed in _inputs(name, folder):
        parts |= _parts(needed, folder, settings)
    own = {key: plain[key] for key in definition.settings}
    if "prompts" in own:
        own["environments"] = fingerprint(read_environments(Path(settings.prompts.environments or ENVIRONMENTS)))
    return parts | {name: own}
