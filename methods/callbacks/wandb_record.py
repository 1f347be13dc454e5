"""What W&B is told about a run: the same keys for every method, so that one dashboard compares them all."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.loggers import WandbLogger

from methods.base import PoseMethod
from methods.callbacks.wandb_logger import RunWandbLogger
from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS
from noise2pose.reports.options import read_configuration

KEYS = (
    "name", "experiment", "method", "dataset", "protocol", "input_2d", "num_hypotheses", "num_steps", "seed",
    "parameters", "commit", "job",
)  # fmt: skip
PROJECT = "noise2pose"  # of configs/loggers/wandb.yaml
_SETTINGS = ("model", "data", "trainer", "seed_everything")  # further options differ between fit and test
_SEED = re.compile(r"[-_.]+(s|seed)[-_.]?\d+$")


class Job(NamedTuple):
    """One command of a run, as W&B groups it.

    Attributes:
        kind: `fit`, `validate`, `test` or `export`.
        group: of the runs that differ in their seed alone.
        tags: what a dashboard filters by.
    """

    kind: str
    group: str
    tags: tuple[str, ...]


def experiment_of(name: str) -> str:
    """The name of a run without the seed at its end: `mine_seed3`, `mine_s3` and `mine` are one experiment."""
    return _SEED.sub("", name) or name


def keys_of(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The keys by which runs of any method are grouped and filtered; of the first evaluation set.

    Args:
        record: as `fit.json` and `test.json` hold it.
        kind: of the command.
    """
    first = record["protocols"][0] if record["protocols"] else {}
    values = (
        record["run"], experiment_of(record["run"]), record["method"], first.get("dataset"), first.get("name"),
        first.get("keypoints_2d"), first.get("num_hypotheses"), record["num_steps"], record["seed"],
        record["parameters"], record["commit"], kind,
    )  # fmt: skip
    return dict(zip(KEYS, values, strict=True))


def begin(
    logger: WandbLogger, method: PoseMethod, record: Mapping[str, Any], config: dict[str, Any], kind: str
) -> None:
    """Makes the run, and writes its configuration and what is best in each metric.

    Args:
        logger: of the run.
        method: whose evaluation sets are known.
        record: as `fit.json` holds it.
        config: every setting, plain values.
        kind: of the command.
    """
    keys = keys_of(record, kind)
    if isinstance(logger, RunWandbLogger):
        shown = ("method", "dataset", "protocol", "input_2d")
        tags = tuple(dict.fromkeys(str(keys[key])[:64] for key in shown if keys[key]))
        logger.begin(Job(kind, keys["experiment"], tags))
    settings = {part: config.get(part) for part in _SETTINGS}
    logger.experiment.config.update({**settings, **record, **keys}, allow_val_change=True)
    for protocol in method.protocols:
        for key in (*POSE_ERRORS, *CALIBRATION):
            name = f"val/{protocol.dataset}/{key.name}"
            logger.experiment.define_metric(name, step_metric="trainer/global_step", summary=key.best)


def log_test(logger: WandbLogger, record: Mapping[str, Any]) -> None:
    """Draws what a test measured besides its metrics: errors of joints and groups, and the calibration.

    Args:
        logger: of the run, which has begun.
        record: as `test.json` holds it.
    """
    import wandb

    charts: dict[str, Any] = {}
    for dataset, joints in record["per_joint"].items():
        if joints:
            table = wandb.Table(columns=["joint", "MPJPE (mm)"], data=[[name, error] for name, error in joints.items()])
            charts[f"test/{dataset}/per_joint"] = wandb.plot.bar(table, "joint", "MPJPE (mm)", title="MPJPE by joint")
    for dataset, found in record["groups"].items():
        of, metrics = found["of"], found["metrics"]
        names = list(dict.fromkeys(name for metric in metrics.values() for name in metric["values"]))
        rows = [[name, *(metric["values"].get(name) for metric in metrics.values())] for name in names]
        charts[f"test/{dataset}/by_{of}"] = wandb.Table(columns=[of, *metrics], data=rows)
    if curve := record["calibration"]:
        first = record["protocols"][0]["dataset"]
        lines = [curve["error"], curve["oracle_error"]]
        charts[f"test/{first}/sparsification"] = wandb.plot.line_series(
            xs=curve["removed"],
            ys=lines,
            keys=["most uncertain removed", "truly worst removed"],
            title="Mean error of the rest (mm)",
            xname="joints removed (%)",
        )
    if charts:
        logger.experiment.log(charts)


def log_model(model: Path, folder: Path, record: Mapping[str, Any]) -> None:
    """Logs a model folder as an artifact, in a run of its own beside that of the training.

    Args:
        model: folder that `noise2pose export` wrote.
        folder: of the run.
        record: its `test.json` or `fit.json`.
    """
    import wandb

    keys, config = keys_of(record, "export"), read_configuration(folder / "config.yaml")
    loggers = (config.get("trainer") or {}).get("logger") or []
    options = [one.get("init_args") or {} for one in loggers if "WandbLogger" in str(one.get("class_path"))]
    project = options[0].get("project") if options else None
    name = folder.resolve().name
    logger = RunWandbLogger(project=project or PROJECT, name=name, id=name, save_dir=str(folder))
    logger.begin(Job("export", keys["experiment"], (str(keys["method"])[:64],)))
    logger.experiment.config.update(keys)
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", model.resolve().name), type="model", metadata=keys)
    artifact.add_dir(str(model))
    logger.experiment.log_artifact(artifact, aliases=["latest", experiment_alias(keys)])
    wandb.finish()


def experiment_alias(keys: Mapping[str, Any]) -> str:
    """The name of a version of an artifact: that of the run, in letters that W&B takes."""
    return re.sub(r"[^\w.-]", "_", str(keys["name"]))
