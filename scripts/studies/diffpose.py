"""The ablations of DiffPose: each row trained alike, from one frozen encoder per seed and split, with its controls."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from noise2pose.errors import InputError
from noise2pose.metrics.keys import named
from scripts import ROOT
from scripts.studies import runs

EXPERIMENT = "diffpose_ablation"
REFERENCE = "diffpose"  # the row whose weights the sweeps test, and which frames are compared with
# The encoder, what is trained on it, and as long as both together for what is trained in one piece.
EPOCHS = {"encoder": 40, "twice": 80, "on_encoder": 16, "whole": 56, "no": 16}
VALIDATED_EVERY = {"frames": 8, "clips": 14}  # epochs; validation of clips costs more than their training
_CONTEXT = "--model methods.diffpose.ContextEncoder"
_POINTS = f"{_CONTEXT} --model.loss distance"
_CLIP = "--model.num_frames 27 --model.normalisation limbs --model.width 24 --model.num_blocks 2 --model.num_heads 2"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        what: in words.
        options: of the command line, on top of the experiment.
        trained: `on_encoder`, on the frozen encoder of its seed and split; `whole`, in one piece for as long as encoder
            and DiffPose together; `encoder` and `twice`, for as long as the encoder and twice as long; `no`: tests the
            weights of `REFERENCE`.
        data: `frames` or `clips`.
        reference: the row that it is compared with.
    """

    what: str
    options: str
    trained: Literal["encoder", "twice", "on_encoder", "whole", "no"] = "on_encoder"
    data: Literal["frames", "clips"] = "frames"
    reference: str = REFERENCE


# In this order: a row comes after the rows whose weights it needs.
ROWS = {
    "encoder": Row("context encoder", f"{_POINTS} --model.width 16", "encoder"),
    "encoder_long": Row("control: the encoder, trained twice as long", f"{_POINTS} --model.width 16", "twice"),
    "compute": Row(
        "control: encoder with the operations of DiffPose", f"{_POINTS} --model.width 33 --model.num_heads 1", "whole"
    ),
    "parameters": Row(
        "control: encoder with the parameters of DiffPose", f"{_POINTS} --model.width 25 --model.num_heads 1", "whole"
    ),
    "gaussian": Row("encoder with a Gaussian head", f"{_CONTEXT} --model.width 16 --model.head gaussian", "whole"),
    "diffpose": Row("DiffPose, M = 5", ""),
    "single_step": Row("Baseline A, a single step", "--model.variant single_step"),
    "stacked": Row("Baseline B, five networks stacked", "--model.variant stacked"),
    "standard": Row("Stand-Diff, from white noise", "--model.variant standard"),
    "m_1": Row("DiffPose, M = 1", "--model.num_components 1"),
    "m_9": Row("DiffPose, M = 9", "--model.num_components 9"),
    "m_1_peaks": Row("DiffPose, M = 1, several peaks", "--model.num_components 1 --data.heatmaps true"),
    "m_5_peaks": Row("DiffPose, M = 5, several peaks", "--data.heatmaps true"),
    "m_9_peaks": Row("DiffPose, M = 9, several peaks", "--model.num_components 9 --data.heatmaps true"),
    "release": Row("DiffPose as released", "--model.variant release"),
    "fmpose": Row(
        "FMPose3D",
        "--model configs/methods/fmpose_residual.yaml --model.width 24 --model.num_blocks 2 --model.dropout 0.0 "
        "--model.learning_rate 0.002",
        "whole",
    ),
    **{
        f"calls_{calls}": Row(
            f"DiffPose, all of {calls} calls, spread as it comes",
            f"--model.num_sampling_steps {calls} --model.answer_calls {calls} --model.spread_scale none",
            "no",
        )
        for calls in (1, 2, 5, 10, 15)
    },
    "mixste": Row(
        "clips: MixSTE",
        f"--model configs/methods/context_clip_small.yaml {_CLIP} --model.loss distance",
        "whole",
        "clips",
        "mixste",
    ),
    "d3dp": Row(
        "clips: D3DP",
        f"--model configs/methods/d3dp_clip_small.yaml {_CLIP} --model.num_sampling_steps 2",
        "whole",
        "clips",
        "mixste",
    ),
}
# Rows among which one thing is varied. Before they are measured, the same weights have to answer differently.
SWEEPS = {
    "calls": tuple(row for row in ROWS if row.startswith("calls_")),
    "components": ("diffpose", "m_1", "m_9"),
    "components, several peaks": ("m_5_peaks", "m_1_peaks", "m_9_peaks"),
    "peaks": ("diffpose", "m_5_peaks"),
}
SPLITS = {  # people apart, activities apart, and 240 people who move by formulas
    "people": {
        "frames": "--data configs/data/motion_people_frame.yaml --data.train_stride 20 --data.eval_stride 50",
        "clips": "--data configs/data/motion_people_clip.yaml --data.train_stride 270",
    },
    "activities": {
        "frames": "--data configs/data/motion_activities_frame.yaml --data.train_stride 20 --data.eval_stride 50",
        "clips": "--data configs/data/motion_people_clip.yaml --data.hold_out activities --data.train_stride 270",
    },
    "synthetic": {
        "frames": "--data configs/data/synthetic_frame.yaml --data.cameras sampled --data.clips_per_activity 20 "
        "--data.train_stride 2",
        "clips": "--data configs/data/synthetic_clip.yaml --data.cameras sampled --data.clips_per_activity 20 "
        "--data.train_stride 18",
    },
}
_QUICK = "--data.clips_per_activity 1 --data.frames_per_clip 27 --data.eval_stride 9 --data.batch_size 64"


@dataclass(frozen=True)
class Measured:
    """One row on one split with one seed.

    Attributes:
        row: key of `ROWS`.
        split: key of `SPLITS`.
        seed: of the weights, of cameras and detection errors, and of who the synthetic people are.
        quick: sizes that say only that everything runs.
    """

    row: str
    split: str
    seed: int
    quick: bool = False

    @property
    def name(self) -> str:
        """Of its run."""
        return f"ablation_{'quick_' if self.quick else ''}{self.split}_{self.row}_seed{self.seed}"

    def beside(self, row: str) -> "Measured":
        """Another row of the same split and seed."""
        return Measured(row, self.split, self.seed, self.quick)

    def options(self) -> list[str]:
        """Of the command line."""
        row = ROWS[self.row]
        options = row.options.split()
        if row.trained in ("on_encoder", "no"):
            options += ["--model.context_checkpoint", str(self.beside("encoder").weights.relative_to(ROOT))]
        options += ["--trainer.max_epochs", "1" if self.quick else str(EPOCHS[row.trained])]
        options += ["--trainer.check_val_every_n_epoch", "1" if self.quick else str(VALIDATED_EVERY[row.data])]
        options += ["--data.batch_size", "128"] if row.data == "frames" else []
        options += [*SPLITS[self.split][row.data].split(), "--data.noise_seed", str(self.seed)]
        options += ["--data.draw", str(self.seed)] if self.split == "synthetic" else []
        return [*options, *(_QUICK.split() if self.quick else [])]

    @property
    def weights(self) -> Path:
        """The checkpoint that is tested."""
        row = REFERENCE if ROWS[self.row].trained == "no" else self.row
        return runs.folder_of(self.beside(row).name) / "checkpoints" / "best.ckpt"


def measure(measured: Measured, threads: int) -> None:
    """Trains a row, tests it and measures its errors of each person, as far as that is not done yet.

    Raises:
        InputError: if it needs the weights of another row, or its sweep varies nothing.
    """
    name, options = measured.name, measured.options()
    trained = ROWS[measured.row].trained
    if runs.record(name, "test.json") is None:
        for needed in {"on_encoder": ["encoder"], "no": ["encoder", REFERENCE]}.get(trained, []):
            _check_weights(measured.beside(needed), name)
        check_sweeps(measured, threads)
        if trained != "no":
            runs.fit(EXPERIMENT, name, measured.seed, options, threads)
        weights = "" if trained != "no" else measured.beside(REFERENCE).name
        runs.test(EXPERIMENT, name, measured.seed, options, threads, weights)
    if runs.record(name, "best.json") is None and (best := runs.best_epoch(name, named("mpjpe")[0])):
        runs.write_record(name, "best.json", best)
    if runs.record(name, "people.json") is None:
        from scripts.studies import people  # torch, which the page alone does not need

        people.use_threads(threads)
        runs.write_record(name, "people.json", people.errors_by_person(runs.folder_of(name), measured.weights))


def _check_weights(needed: Measured, name: str) -> None:
    """Checks that a row is finished and its weights are here.

    Raises:
        InputError: if not.
    """
    if runs.record(needed.name, "test.json") is None:
        raise InputError(f"{name}: row {needed.row} of this split and seed comes first: add it to --rows")
    if not needed.weights.is_file():
        raise InputError(
            f"{name}: row {needed.row} of this split and seed was measured elsewhere, and its weights are not here: "
            f"delete {runs.folder_of(needed.name).relative_to(ROOT)} to train it again"
        )


def check_sweeps(measured: Measured, threads: int) -> None:
    """Checks, once for each split and seed, that the sweeps of a row vary the answer of the reference's weights.

    Raises:
        InputError: if one does not.
    """
    reference = measured.beside(REFERENCE)
    known = runs.record(reference.name, "changes.json") or {}
    sweeps = [sweep for sweep, rows in SWEEPS.items() if measured.row in rows and sweep not in known]
    if measured.row == REFERENCE or not sweeps:
        return
    if runs.record(reference.name, "test.json") is None:
        raise InputError(f"{measured.name}: row {REFERENCE} of this split and seed comes first: add it to --rows")
    from scripts.studies import people

    people.use_threads(threads)
    config = yaml.safe_load((runs.folder_of(reference.name) / "config.yaml").read_text())
    for sweep in sweeps:
        options = {row: changed(ROWS[row].options) for row in SWEEPS[sweep]}
        known[sweep] = people.changes(reference.weights, config["data"], options)
        runs.write_record(reference.name, "changes.json", known)


def changed(options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the method and of the data module that options of a row set."""
    words = shlex.split(options)
    values = {key: yaml.safe_load(value) for key, value in zip(words[::2], words[1::2], strict=True)}
    of_method, of_data = (
        {key.removeprefix(part): value for key, value in values.items() if key.startswith(part)}
        for part in ("--model.", "--data.")
    )
    return of_method, of_data


def check_data(splits: list[str]) -> None:
    """Checks that the folders of motion are there, before hours of training end for want of them.

    Raises:
        InputError: if one is missing.
    """
    for split in splits:
        file = ROOT / SPLITS[split]["frames"].split()[1]
        roots = yaml.safe_load(file.read_text())["init_args"].get("roots", "")
        for root in filter(None, roots.split(",")):
            if not (ROOT / root).is_dir():
                raise InputError(
                    f"{file.relative_to(ROOT)}: {root} is not prepared (docs/datasets.md says how); without it: "
                    "--splits synthetic"
                )
