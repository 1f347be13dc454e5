"""What `test` does not record of a run: errors of each person, and whether options change the answer at all."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from datamodules.base import PoseDataModule, select
from methods.base import PoseMethod
from methods.checkpoints import make_method, read_checkpoint
from noise2pose.batch import PoseBatch
from noise2pose.class_paths import named_class
from noise2pose.errors import InputError
from noise2pose.metrics import calibration, functional
from noise2pose.metrics.protocols import Protocol

_LEAST_CHANGE = 0.1  # millimetres, root mean square: less is rounding
_COMPARED = 64  # samples
_MILLIMETRES = 1000.0


def use_threads(number: int) -> None:
    """Uses as many threads as the trainings."""
    torch.set_num_threads(number)


@torch.no_grad()
def errors_by_person(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """MPJPE and CRPS of each person, in each test set.

    Args:
        folder: of a tested run, for its data and options.
        checkpoint: that was tested.

    Returns:
        By test set and metric, millimetres by subject; `crps` of methods with several hypotheses only.
    """
    config = yaml.safe_load((folder / "config_test.yaml").read_text())
    method = _with_options(checkpoint, config["model"]["init_args"])
    data = make_data_module(config["data"])
    found: dict[str, Any] = {}
    for protocol, batches in zip(data.protocols("test"), _loaders(data, "test"), strict=True):
        totals: dict[str, dict[str, list[float]]] = {}
        for batch in batches:
            for name, values in _errors(method, data.finish(batch, training=False), protocol).items():
                for subject, value in zip(batch["subject"], values.tolist(), strict=True):
                    if value == value:  # of a clip without a valid frame it is NaN
                        totals.setdefault(name, {}).setdefault(subject, []).append(value)
        found[protocol.dataset] = {
            name: {subject: sum(values) / len(values) for subject, values in sorted(people.items())}
            for name, people in totals.items()
        }
    return found


@torch.no_grad()
def changes(
    checkpoint: Path, data: dict[str, Any], options: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
) -> dict[str, float]:
    """How far apart the hypotheses are that the same weights give with different options.

    A sweep of an option that the answer does not depend on would compare nothing but seeds.

    Args:
        checkpoint: whose weights all have.
        data: `class_path` and `init_args` of its data module.
        options: of each row, arguments of the method and of the data module that it changes.

    Returns:
        By pair of rows, root mean square in millimetres.

    Raises:
        InputError: if two rows answer the same.
    """
    answers: dict[str, Tensor] = {}
    for row, (of_method, of_data) in options.items():
        module = make_data_module({**data, "init_args": {**data["init_args"], **of_data}})
        batch = next(iter(_loaders(module, "val")[0]))
        number = min(_COMPARED, len(batch["sample_id"]))
        batch = module.finish(select(batch, torch.arange(number)), training=False)
        answers[row] = _with_options(checkpoint, of_method)(batch)["hypotheses"]
    apart = {
        f"{one}, {other}": float((answers[one] - answers[other]).square().mean().sqrt()) * _MILLIMETRES
        for one, other in itertools.combinations(answers, 2)
    }
    for pair, change in apart.items():
        if change < _LEAST_CHANGE:
            raise InputError(
                f"rows {pair}: the answers of the same weights differ by {change:.3f} mm, so there is nothing to "
                "compare: change the options of one of them, or leave it out of --rows"
            )
    return apart


def _errors(method: PoseMethod, batch: PoseBatch, protocol: Protocol) -> dict[str, Tensor]:
    """Mean errors of each sample (B,), millimetres; of a clip, over its frames."""
    prediction = method(batch)
    target, valid = batch["keypoints_3d"][..., :3], batch["keypoints_3d"][..., 3]
    root = protocol.root

    def centred(poses: Tensor) -> Tensor:
        return poses - poses[..., root : root + 1, :]

    errors = {"mpjpe": functional.joint_error(centred(prediction["joints_3d"]), centred(target))}
    hypotheses = prediction.get("hypotheses")
    counted = {"mpjpe": valid}
    if hypotheses is not None and len(hypotheses) > 1:
        errors["crps"] = calibration.energy_score(centred(hypotheses), centred(target))
        counted["crps"] = valid * (torch.arange(valid.shape[-1]) != root)  # the root is exact
    return {
        name: _MILLIMETRES * (error * counted[name]).flatten(1).sum(dim=1) / counted[name].flatten(1).sum(dim=1)
        for name, error in errors.items()
    }


def _with_options(checkpoint: Path, options: dict[str, Any]) -> PoseMethod:
    """The method of a checkpoint with other options."""
    content = read_checkpoint(checkpoint)
    method = make_method(content["class_path"], {**content["hyper_parameters"], **options})
    method.load_state_dict(content["state_dict"])
    return method.eval()


def make_data_module(config: dict[str, Any]) -> PoseDataModule:
    """The data module of a configuration, ready to test."""
    data = named_class(config["class_path"], PoseDataModule)(**config["init_args"])
    data.prepare_data()
    data.setup("test")
    return data


def _loaders(data: PoseDataModule, split: str) -> list[Iterator[PoseBatch]]:
    """The batches of each evaluation set."""
    loaders: Any = data.test_dataloader() if split == "test" else data.val_dataloader()
    return loaders if isinstance(loaders, list) else [loaders]
